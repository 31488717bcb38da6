"""From an address back to its commits: domain → container → digest → source key → commits → run."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from kiwari_ci.commands.preview.release_preview import MAX_LISTED_COMMITS, PreviewSources, find_default_branch_ref
from kiwari_ci.commands.preview.report import ReportLine, ReportSection, create_blocking_line, create_unknown_line
from kiwari_ci.plan import ComposeStack, DeployHost, ImageSource, Plan, ServiceContainer
from kiwari_ci.probes.deploy_records import DeployRecord, parse_deploy_records
from kiwari_ci.readers.git import GitError
from kiwari_ci.readers.git_history import GitRepository


def find_container_by_address(plan: Plan, address: str) -> tuple[DeployHost, ComposeStack, ServiceContainer] | None:
    """Who answers at an address: an URL, a domain, or a container's name."""
    try:
        name = (urlsplit(address if "//" in address else f"//{address}").hostname or "").rstrip(".")
    except ValueError:
        return None
    every = [(host, stack, each) for host in plan.hosts for stack in host.stacks for each in stack.instances]
    return next((found for found in every if name and name in (found[2].domain, found[2].container)), None)


def trace_container(
    plan: Plan, place: tuple[DeployHost, ComposeStack, ServiceContainer], git: GitRepository, means: PreviewSources
) -> list[ReportSection]:
    """All that is known of what serves there, and of how it came there."""
    host, stack, instance = place
    facts = means.facts[host.name]
    answers = f"https://{instance.domain}{instance.health_path} → " if instance.domain else ""
    sections = [
        ReportSection("place", (ReportLine(f"{answers}{instance.container}, {stack.environment} on {host.name}"),))
    ]
    if facts.why:
        return [*sections, ReportSection("image", (create_unknown_line(f"{host.name}: {facts.why}"),))]
    found = parse_deploy_records(facts, stack, instance.container)
    if not found:
        return [*sections, ReportSection("image", (ReportLine("nothing was deployed yet, by the host's record"),))]
    last = found[-1]
    sections.append(
        ReportSection(
            "image", tuple(_describe_served_image(plan, instance, last, facts.containers().get(instance.container)))
        )
    )
    known = [each.source for each in plan.workflows] + [each for own in plan.promotions for each in own.sources]
    source = next(each for each in known if each.image == instance.source)
    try:
        lines = tuple(_trace_source_commit(plan, source, found, git, means))
    except GitError as reason:
        lines = (create_unknown_line(str(reason)),)
    return [*sections, ReportSection("source", lines), ReportSection("before it", tuple(_list_earlier_deploys(found)))]


def _describe_served_image(
    plan: Plan, instance: ServiceContainer, last: DeployRecord, running: object
) -> Iterator[ReportLine]:
    yield ReportLine(f"{last.image}@{last.digest}")
    shown = getattr(running, "image", "")
    if running is not None and shown != f"{last.image}@{last.digest}":
        yield create_blocking_line(f"{instance.container} runs {shown}, which is not what the record has")
    by = "by hand, a rollback" if last.run == "rollback" else f"run {_format_run_link(plan, last.run)}"
    yield ReportLine(f"since {last.time}, {by}")


def _format_run_link(plan: Plan, run: str) -> str:
    return f"https://github.com/{plan.repository}/actions/runs/{run}" if run.isdigit() else run


def _trace_source_commit(
    plan: Plan, source: ImageSource, found: list[DeployRecord], git: GitRepository, means: PreviewSources
) -> Iterator[ReportLine]:
    """Its commit is told by the record's number: of a rollback, by that of the deploy which it went back to."""
    last = found[-1]
    first = next((each for each in reversed(found) if each.digest == last.digest and each.run != "rollback"), None)
    if first is None:
        yield create_unknown_line("the record has only the rollback to it, which does not say its commit")
        return
    if git.is_shallow:
        yield create_unknown_line("this clone is shallow, so commits cannot be counted: git fetch --unshallow")
        return
    head = find_default_branch_ref(plan, git)
    commit = git.at_number(first.number, head)
    if not commit:
        name = head.removeprefix("refs/remotes/")
        yield create_unknown_line(
            f"no commit of {name} is number {first.number}: git fetch, or its history was rewritten"
        )
        return
    yield from _describe_source_commit(source, commit, first, git, means)
    newer = git.commits(head, f"^{commit}", paths=source.pathspecs)
    yield ReportLine(
        f"commits of its source that {head.removeprefix('refs/remotes/')} has and that are not in it: {len(newer)}"
    )
    yield from (ReportLine(f"  {each.name} {each.date} {each.title}") for each in newer[:MAX_LISTED_COMMITS])


def _describe_source_commit(
    source: ImageSource, commit: str, first: DeployRecord, git: GitRepository, means: PreviewSources
) -> Iterator[ReportLine]:
    key = git.key(commit, source.pathspecs)
    (shown,) = git.commits(commit, most=1)
    tags = git.ask("tag", "--points-at", commit).split()
    named = f" ({', '.join(tags)})" if tags else ""
    yield ReportLine(f"commit number {first.number}: {shown.name} {shown.date} {shown.title}{named}")
    asked = means.registry([f"{first.image}:{key}"])[f"{first.image}:{key}"]
    if asked.why:
        yield create_unknown_line(f"{key}, by the commit; the registry: {asked.why}")
    elif asked.digest == first.digest:
        yield ReportLine(f"{key}, as the registry has it: built from exactly these files")
    else:
        yield ReportLine(f"{key}, for which the registry has {asked.digest or 'nothing'}: built again, or cleaned up")
    last = git.commits(commit, paths=source.pathspecs, most=1)
    yield from (ReportLine(f"its source was last changed by {each.name} {each.date} {each.title}") for each in last)


def _list_earlier_deploys(found: list[DeployRecord]) -> Iterator[ReportLine]:
    earlier = found[:-1][::-1][:5]
    if not earlier:
        yield ReportLine("nothing, as far as the record goes")
    for each in earlier:
        yield ReportLine(f"{each.digest[:19]} {each.time}, commit number {each.number}, run {each.run}")
