"""Traces an address back to its source: domain → container → digest → source key → commit → run."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from kiwari_ci.commands.deployed_commits import (
    explain_unknown_commit,
    find_deployed_commit,
    format_deployed_number,
)
from kiwari_ci.commands.preview.release_preview import (
    MAX_LISTED_COMMITS,
    PreviewSources,
    describe_unknown_key,
    find_default_branch_ref,
    find_source_key,
    format_branch,
)
from kiwari_ci.commands.preview.report import ReportLine, ReportSection, create_blocking_line, create_unknown_line
from kiwari_ci.plan_model import Host, ImageSource, Plan, PlannedService, Stack
from kiwari_ci.readers.git import GitError
from kiwari_ci.readers.git_history import GitRepository
from kiwari_ci.remote_checks.deploy_records import DeployRecord, RegistryDigest, parse_deploy_records


def find_container_by_address(plan: Plan, address: str) -> tuple[Host, Stack, PlannedService] | None:
    """Find the container that answers at an address: a URL, a domain with or without a path, a container's name.

    Of a domain whose paths lead to several services, the longest path counts.
    """
    try:
        url = urlsplit(address if "//" in address else f"//{address}")
        name = (url.hostname or "").rstrip(".")
    except ValueError:
        return None
    if not name:
        return None
    path_length = -1
    location = None
    for host in plan.every_host:
        for stack in host.stacks:
            for instance in stack.instances:
                if name == instance.container:
                    return host, stack, instance
                for route in instance.routes:
                    if route.domain == name and route.covers(url.path) and len(route.path) > path_length:
                        path_length = len(route.path)
                        location = host, stack, instance
    return location


def trace_container(
    plan: Plan,
    location: tuple[Host, Stack, PlannedService],
    git: GitRepository,
    sources: PreviewSources,
) -> list[ReportSection]:
    """Report what a container serves, and the commit and run that it came from."""
    host, stack, instance = location
    urls = [route.health_url for route in instance.routes if route.health_url]
    answers = f"{urls[0]} → " if urls else ""
    place_line = ReportLine(f"{answers}{instance.container}, {stack.environment} on {host.name}")
    sections = [ReportSection("place", (place_line,))]
    facts = sources.facts[host.name]
    if facts.why:
        return [*sections, ReportSection("image", (create_unknown_line(f"{host.name}: {facts.why}"),))]
    records = parse_deploy_records(facts, stack, instance.container)
    if not records:
        return [*sections, ReportSection("image", (ReportLine("nothing was deployed yet, by the host's record"),))]
    running_container = facts.containers().get(instance.container)
    image_lines = _describe_served_image(plan, instance, records[-1], running_container)
    sections.append(ReportSection("image", tuple(image_lines)))
    source = _find_image_source(plan, instance)
    try:
        maker = _find_maker(plan, stack)
        source_lines = tuple(_trace_source_commit(plan, stack.environment, source, maker, records, git, sources))
    except GitError as error:
        source_lines = (create_unknown_line(str(error)),)
    sections.append(ReportSection("source", source_lines))
    sections.append(ReportSection("before it", tuple(_list_earlier_deploys(plan, stack.environment, records))))
    return sections


def _find_image_source(plan: Plan, instance: PlannedService) -> ImageSource:
    image_sources = [image.source for workflow in plan.workflows for image in workflow.images]
    for promotion in plan.promotions:
        image_sources += promotion.sources
    return next(source for source in image_sources if source.image == instance.source)


def _describe_served_image(
    plan: Plan, instance: PlannedService, last_record: DeployRecord, running: object
) -> Iterator[ReportLine]:
    yield ReportLine(f"{last_record.image}@{last_record.digest}")
    running_image = getattr(running, "image", "")
    if running is not None and running_image != f"{last_record.image}@{last_record.digest}":
        yield create_blocking_line(f"{instance.container} runs {running_image}, which is not what the record has")
    origin = (
        "by hand, a rollback" if last_record.run == "rollback" else f"run {_format_run_link(plan, last_record.run)}"
    )
    yield ReportLine(f"since {last_record.time}, {origin}")


def _format_run_link(plan: Plan, run: str) -> str:
    return f"https://github.com/{plan.repository}/actions/runs/{run}" if run.isdigit() else run


def _trace_source_commit(
    plan: Plan,
    environment: str,
    source: ImageSource,
    maker: str,
    records: list[DeployRecord],
    git: GitRepository,
    sources: PreviewSources,
) -> Iterator[ReportLine]:
    """Find the commit by the number in the record; a rollback has that of the deploy which it went back to."""
    last = records[-1]
    deploy = _find_original_deploy(records, last.digest)
    if deploy is None:
        yield create_unknown_line("the record has only the rollback to it, which does not say its commit")
        return
    if git.is_shallow:
        yield create_unknown_line("this clone is shallow, so commits cannot be counted: git fetch --unshallow")
        return
    head = find_default_branch_ref(plan, git)
    branch = format_branch(head)
    number = format_deployed_number(plan, environment, deploy.number)
    commit = find_deployed_commit(plan, environment, deploy.number, git, head)
    if not commit:
        yield create_unknown_line(explain_unknown_commit(plan, environment, deploy.number, branch))
        return
    yield from _describe_source_commit(source, maker, commit, number, deploy, git, sources)
    newer_commits = git.commits(head, f"^{commit}", paths=source.pathspecs)
    yield ReportLine(f"commits of its source that {branch} has and that are not in it: {len(newer_commits)}")
    for newer in newer_commits[:MAX_LISTED_COMMITS]:
        yield ReportLine(f"  {newer.name} {newer.date} {newer.title}")


def _find_original_deploy(records: list[DeployRecord], digest: str) -> DeployRecord | None:
    """The last deploy of an image that was no rollback."""
    for record in reversed(records):
        if record.digest == digest and record.run != "rollback":
            return record
    return None


def _describe_source_commit(
    source: ImageSource,
    maker: str,
    commit_id: str,
    number: str,
    deploy: DeployRecord,
    git: GitRepository,
    sources: PreviewSources,
) -> Iterator[ReportLine]:
    (commit,) = git.commits(commit_id, most=1)
    tags = git.ask("tag", "--points-at", commit_id).split()
    tag_names = f" ({', '.join(tags)})" if tags else ""
    yield ReportLine(f"{number}: {commit.name} {commit.date} {commit.title}{tag_names}")
    if source.variables:
        yield create_unknown_line(describe_unknown_key(source))
    else:
        key = find_source_key(git, commit_id, source, maker)
        reference = f"{deploy.image}:{key}"
        yield _describe_registry_image(key, deploy, sources.registry([reference])[reference])
    for change in git.commits(commit_id, paths=source.pathspecs, most=1):
        yield ReportLine(f"its source was last changed by {change.name} {change.date} {change.title}")


def _describe_registry_image(key: str, deploy: DeployRecord, registry_image: RegistryDigest) -> ReportLine:
    """Say whether the image that serves is the one which the registry has for its source."""
    if registry_image.why:
        return create_unknown_line(f"{key}, by the commit; the registry: {registry_image.why}")
    if registry_image.digest == deploy.digest:
        return ReportLine(
            f"{key}, as the registry has it: the image of exactly these files, if nobody else pushed that tag"
        )
    found_digest = registry_image.digest or "nothing"
    return ReportLine(f"{key}, for which the registry has {found_digest}: built again, or cleaned up")


def _find_maker(plan: Plan, stack: Stack) -> str:
    """Find the branch or workflow that built the images of a stack."""
    for promotion in plan.promotions:
        if promotion.deploy.environment == stack.environment:
            return promotion.maker
    for workflow in plan.workflows:
        for target in workflow.targets:
            if target.deploy.environment == stack.environment:
                return f"refs/heads/{target.deploy.branch}"
    return ""


def _list_earlier_deploys(plan: Plan, environment: str, records: list[DeployRecord]) -> Iterator[ReportLine]:
    earlier = records[:-1][::-1][:5]
    if not earlier:
        yield ReportLine("nothing, as far as the record goes")
    for record in earlier:
        number = format_deployed_number(plan, environment, record.number)
        yield ReportLine(f"{record.digest[:19]} {record.time}, {number}, run {record.run}")
