"""A PostgreSQL server held against the plan: its container, its databases and roles, and who reaches whose."""

from collections.abc import Iterator

from kiwari_ci.plan import DatabaseRole, PostgresServer
from kiwari_ci.probes.findings import Finding, FindingGroup
from kiwari_ci.probes.runbook_index import HostRunbookIndex
from kiwari_ci.probes.ssh_host import ContainerState, HostFacts


def check_database_server(
    group: FindingGroup, server: PostgresServer, facts: HostFacts, book: HostRunbookIndex
) -> Iterator[Finding]:
    """The server's container first: without it nothing else can be asked."""
    there = facts.containers().get(server.name)
    start = book.start_server(server.name)
    if not there:
        yield group.wrong(server.name, "no container", "running", start)
    elif fault := _find_server_fault(server, there):
        yield group.wrong(server.name, fault, f"running, healthy, on {server.network}", start)
    else:
        yield group.ok(server.name, f"{there.health or 'running'} on {server.network}")
    if not facts.all("owner", server.name):
        why = facts.word("unasked", server.name) or "its container was not asked"
        yield group.not_asked(f"{server.name} databases", why)
        return
    for role in server.databases:
        yield _check_database(group, server, role, facts, book)


def _find_server_fault(server: PostgresServer, there: ContainerState) -> str:
    if there.status != "running":
        return f"{there.status}, exit code {there.code}"
    if there.health not in ("", "healthy"):
        return there.health
    return "" if server.network in there.networks.split() else f"on {there.networks.strip() or 'no network'}"


def _check_database(
    group: FindingGroup, server: PostgresServer, role: DatabaseRole, facts: HostFacts, book: HostRunbookIndex
) -> Finding:
    """A database of an environment: its role owns it, may log in, and no other environment's role gets in."""
    subject = f"{server.name} database {role.name}"
    owner = facts.word("owner", server.name, role.name)
    login = facts.first("role", server.name, role.user)
    reached = {user for user, *names in facts.all("reach", server.name) if names == [role.name]}
    strangers = sorted(reached & {other.user for other in server.databases} - {role.user})
    faults = [] if owner == role.user else [f"belongs to {owner}" if owner else "does not exist"]
    faults += [] if login == ("login",) else [f"{role.user} {'may not log in' if login else 'does not exist'}"]
    faults += [f"{user} reaches it, too" for user in strangers]
    if not faults:
        return group.ok(subject, f"belongs to {role.user}, no other environment's role gets in")
    cure = f"on the server, in {server.folder}: {book.init_databases(server.name)}"
    return group.wrong(subject, "; ".join(faults), f"{role.user}'s, and nobody else's", cure)
