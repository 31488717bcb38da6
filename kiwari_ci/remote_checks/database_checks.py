"""Compares a PostgreSQL server with the plan: its container, its databases and roles, and who may connect to which."""

from collections.abc import Iterator

from kiwari_ci.plan_model import DatabaseRole, PostgresServer
from kiwari_ci.remote_checks.findings import Finding, FindingGroup
from kiwari_ci.remote_checks.runbook_index import HostRunbookIndex
from kiwari_ci.remote_checks.ssh_host import ContainerState, HostFacts


def check_database_server(
    group: FindingGroup, server: PostgresServer, facts: HostFacts, runbook: HostRunbookIndex
) -> Iterator[Finding]:
    """Check a server's container, then its databases, which only the container can be asked for."""
    container = facts.containers().get(server.name)
    start = runbook.start_server(server.name)
    if not container:
        yield group.wrong(server.name, "no container", "running", start)
    elif fault := _find_server_fault(server, container):
        yield group.wrong(server.name, fault, f"running, healthy, on {server.network}", start)
    else:
        yield group.ok(server.name, f"{container.health or 'running'} on {server.network}")
    if not facts.all("owner", server.name):
        reason = facts.word("unasked", server.name) or "its container was not asked"
        yield group.not_asked(f"{server.name} databases", reason)
        return
    for role in server.databases:
        yield _check_database(group, server, role, facts, runbook)


def _find_server_fault(server: PostgresServer, container: ContainerState) -> str:
    if container.status != "running":
        return f"{container.status}, exit code {container.code}"
    if container.health not in ("", "healthy"):
        return container.health
    if server.network not in container.networks.split():
        return f"on {container.networks.strip() or 'no network'}"
    return ""


def _check_database(
    group: FindingGroup, server: PostgresServer, role: DatabaseRole, facts: HostFacts, runbook: HostRunbookIndex
) -> Finding:
    """Check that a role owns its database and may log in, and that no other environment's role may connect to it."""
    subject = f"{server.name} database {role.name}"
    faults = list(_find_database_faults(server, role, facts))
    if not faults:
        return group.ok(subject, f"belongs to {role.user}, no other environment's role gets in")
    cure = f"on the server, in {server.folder}: {runbook.init_databases(server.name)}"
    return group.wrong(subject, "; ".join(faults), f"{role.user}'s, and nobody else's", cure)


def _find_database_faults(server: PostgresServer, role: DatabaseRole, facts: HostFacts) -> Iterator[str]:
    owner = facts.word("owner", server.name, role.name)
    if not owner:
        yield "does not exist"
    elif owner != role.user:
        yield f"belongs to {owner}"
    login = facts.first("role", server.name, role.user)
    if not login:
        yield f"{role.user} does not exist"
    elif login != ("login",):
        yield f"{role.user} may not log in"
    users = {user for user, *databases in facts.all("reach", server.name) if databases == [role.name]}
    other_roles = {other.user for other in server.databases} - {role.user}
    for user in sorted(users & other_roles):
        yield f"{user} reaches it, too"
