"""Previews a release: the commits, images, earlier deploys, migrations and env variables of a version tag."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256

from kiwari_ci.commands.affected.analysis import is_release_version
from kiwari_ci.commands.deployed_commits import find_deployed_commit, format_deployed_number
from kiwari_ci.commands.preview.report import ReportLine, ReportSection, create_blocking_line, create_unknown_line
from kiwari_ci.github_facts import path_filters
from kiwari_ci.plan_model import ComposeStack, EnvironmentWorkflow, ImageSource, Plan, PlannedService, Stack
from kiwari_ci.readers.git import GitError
from kiwari_ci.readers.git_history import GitRepository
from kiwari_ci.remote_checks import stack_checks
from kiwari_ci.remote_checks.deploy_records import DeployRecord, RegistryDigest, parse_deploy_records
from kiwari_ci.remote_checks.findings import FindingGroup
from kiwari_ci.remote_checks.runbook_index import RunbookIndex
from kiwari_ci.remote_checks.ssh_host import HostFacts

EMPTY_SOURCE_KEY = f"src-{sha256(b'').hexdigest()}"
MAX_LISTED_COMMITS = 20  # commits in one section
SECRETS_REASON = "it is a cluster: kiwari-ci doctor compares the Secrets"
STATUS_ONLY_REASON = "ssh used the deploy key, which may ask for the status only: name another login with --ssh"


@dataclass(frozen=True)
class PreviewSources:
    """What a preview reads from outside: digests from the registry, facts of hosts, and the runbook."""

    registry: Callable[[list[str]], dict[str, RegistryDigest]]
    facts: dict[str, HostFacts]
    book: RunbookIndex


@dataclass(frozen=True)
class ReleaseTag:
    """A tag that a promotion takes, at a commit (of the tag, or HEAD), and the version before it (or empty)."""

    name: str
    promotion: EnvironmentWorkflow
    commit: str
    before: str
    is_there: bool

    @property
    def ref_before(self) -> str:
        """The version before it by its full name, which no branch can have; or empty."""
        return f"refs/tags/{self.before}" if self.before else ""


def find_promotion(plan: Plan, tag: str) -> EnvironmentWorkflow | None:
    """The promotion that a tag starts."""
    return next((promotion for promotion in plan.promotions if path_filters.is_included(promotion.tags, tag)), None)


def preview_release(
    plan: Plan, promotion: EnvironmentWorkflow, tag: str, git: GitRepository, sources: PreviewSources
) -> list[ReportSection]:
    """Build all sections; what is unknown in one is stated there, and does not stop the others."""
    release: ReleaseTag | None = None
    keys: dict[str, str] = {}
    try:
        release = _resolve_release_tag(promotion, tag, git)
        sections = [
            ReportSection(f"tag {tag}", tuple(_describe_tag(plan, release, git))),
            ReportSection("commits", tuple(_describe_commits(release, git))),
        ]
        for source in promotion.sources:
            if not source.variables:
                keys[source.service] = find_source_key(git, release.commit, source, promotion.maker)
    except GitError as error:
        release, keys = None, {}
        sections = [ReportSection(f"tag {tag}", (create_unknown_line(str(error)),))]
    version = tag.removeprefix(promotion.removed_prefix)
    digests = sources.registry(_list_image_references(promotion, keys, version))
    for source in promotion.sources:
        key = keys.get(source.service, "")
        lines: list[ReportLine] = []
        if release and source.variables:
            lines.append(create_unknown_line(describe_unknown_key(source)))
        else:
            if release:
                lines += _describe_source_key(source, release, git, key)
            lines += _check_release_image(source, key, version, digests, promotion)
        digest = digests[f"{source.repository}:{key}"].digest if key else ""
        lines += _check_environments(plan, promotion, tag, source, digest, sources)
        sections.append(ReportSection(source.service, tuple(lines)))
    return [*sections, *_check_target_host(plan, promotion, release, git, sources)]


def _list_image_references(promotion: EnvironmentWorkflow, keys: dict[str, str], version: str) -> list[str]:
    """The images to look up in the registry: by source key, where it is known, and by the version's tag."""
    references: list[str] = []
    for source in promotion.sources:
        key = keys.get(source.service)
        if key:
            references.append(f"{source.repository}:{key}")
        references.append(f"{source.repository}:{version}")
    return references


def find_source_key(git: GitRepository, commit: str, source: ImageSource, maker: str) -> str:
    """The tag of an image that a branch or a workflow has built from a commit."""
    return git.key(commit, source.pathspecs, maker if source.has_several_makers else "")


def describe_unknown_key(source: ImageSource) -> str:
    """Say why the tag of an image cannot be computed here."""
    return f"its key holds values of variables that GitHub keeps ({source.variable_names})"


def describe_promotion(promotion: EnvironmentWorkflow) -> str:
    """What a promotion or release does."""
    origin = "built" if promotion.builds else promotion.from_environment
    return f"{origin} → {promotion.deploy.environment}"


def find_previous_version(git: GitRepository, promotion: EnvironmentWorkflow, commit: str, tag: str) -> str:
    """The newest version before a commit, by its numbers; empty when there is none."""
    tags = git.ask("tag", "--list", promotion.pattern, "--merged", commit).split()
    versions = [name for name in tags if name != tag and is_release_version(promotion, name)]
    return max(versions, default="", key=lambda version: _parse_version_numbers(promotion, version))


def _parse_version_numbers(promotion: EnvironmentWorkflow, tag: str) -> list[int]:
    """The numbers of a version, in the order of the pattern's groups."""
    match = re.fullmatch(promotion.regex, tag)
    return [int(number) for number in match.groups()] if match else []


def find_default_branch_ref(plan: Plan, git: GitRepository) -> str:
    """The default branch, as the remote has it where that is known."""
    refs = (f"refs/remotes/origin/{plan.default_branch}", f"refs/heads/{plan.default_branch}")
    return next(filter(git.exists, refs), "HEAD")


def format_branch(ref: str) -> str:
    """Write the full name of a branch for people."""
    return ref.removeprefix("refs/remotes/").removeprefix("refs/heads/")


def _resolve_release_tag(promotion: EnvironmentWorkflow, tag: str, git: GitRepository) -> ReleaseTag:
    is_there = git.exists(f"refs/tags/{tag}")
    commit = git.commit(f"refs/tags/{tag}" if is_there else "HEAD")
    return ReleaseTag(tag, promotion, commit, find_previous_version(git, promotion, commit, tag), is_there)


def _describe_tag(plan: Plan, release: ReleaseTag, git: GitRepository) -> Iterator[ReportLine]:
    promotion = release.promotion
    (commit,) = git.commits(release.commit, most=1)
    where = "is there" if release.is_there else "is not there yet: judged as if it were put on HEAD"
    yield ReportLine(f"{where}, {commit.name} {commit.date} {commit.title}")
    if not is_release_version(promotion, release.name):
        yield create_blocking_line(f"{release.name} is not {promotion.words}")
    if not _is_on_release_branch(plan, release, git):
        yield create_blocking_line(f"it is not on {promotion.branches}: merge it first")
    yield ReportLine(f"runs {promotion.name}: {describe_promotion(promotion)}")
    if git.is_shallow:
        yield create_unknown_line("this clone is shallow, so commits cannot be counted: git fetch --unshallow")


def _is_on_release_branch(plan: Plan, release: ReleaseTag, git: GitRepository) -> bool:
    """Whether the commit is on a branch from which the promotion takes it, as the remote has them where it is known."""
    refs = release.promotion.branch_refs
    if not refs:
        return not git.count(release.commit, f"^{find_default_branch_ref(plan, git)}")
    if not git.ask("for-each-ref", "--count=1", "refs/remotes/origin"):
        refs = tuple(ref.replace("refs/remotes/origin/", "refs/heads/") for ref in refs)
    return bool(git.ask("for-each-ref", "--count=1", "--contains", release.commit, *refs))


def _describe_commits(release: ReleaseTag, git: GitRepository) -> Iterator[ReportLine]:
    if not release.before:
        yield ReportLine(f"the first version: {git.count(release.commit)} commits")
        return
    revisions = (release.commit, f"^{release.ref_before}")
    count = git.count(*revisions)
    yield ReportLine(f"{count} since {release.before}")
    yield from (
        ReportLine(f"{commit.name} {commit.date} {commit.title}")
        for commit in git.commits(*revisions, most=MAX_LISTED_COMMITS)
    )
    if count > MAX_LISTED_COMMITS:
        yield ReportLine(f"and {count - MAX_LISTED_COMMITS} more: git log {release.before}..{release.commit[:9]}")


def _describe_source_key(
    source: ImageSource, release: ReleaseTag, git: GitRepository, key: str
) -> Iterator[ReportLine]:
    before = release.before and find_source_key(git, release.ref_before, source, release.promotion.maker)
    if key == EMPTY_SOURCE_KEY:
        yield create_blocking_line("its paths match no file of this commit: is this the repository of the spec?")
    elif before == key:
        yield ReportLine(f"source {key}, as in {release.before}: the same image")
    elif before:
        commits = git.commits(release.commit, f"^{release.ref_before}", paths=source.pathspecs)
        yield ReportLine(
            f"source {before} → {key}, by {', '.join(commit.name for commit in commits[:8]) or 'a revert'}"
        )
    else:
        yield ReportLine(f"source {key}")


def _check_release_image(
    source: ImageSource, key: str, version: str, digests: dict[str, RegistryDigest], promotion: EnvironmentWorkflow
) -> Iterator[ReportLine]:
    if not key:
        return
    built_image, release_image = digests[f"{source.repository}:{key}"], digests[f"{source.repository}:{version}"]
    if built_image.why:
        yield create_unknown_line(f"image: the registry: {built_image.why}")
    elif built_image.digest:
        yield ReportLine(f"image {built_image.digest}")
    elif promotion.builds:
        yield ReportLine(f"no image of this source yet: {promotion.name} tests and builds it first")
    else:
        yield create_blocking_line(
            f"{source.builder} built no image from this source, {source.repository}:{key} is not there"
        )
    if release_image.digest and built_image.digest and release_image.digest != built_image.digest:
        reference = f"{source.repository}:{version}"
        yield create_blocking_line(
            f"{reference} exists already as another image, {release_image.digest}: tag a new version"
        )


def _check_environments(
    plan: Plan,
    promotion: EnvironmentWorkflow,
    tag: str,
    source: ImageSource,
    digest: str,
    sources: PreviewSources,
) -> Iterator[ReportLine]:
    """What the environment before a promotion and the one that is deployed know of an image."""
    if not promotion.builds:
        environment = promotion.from_environment
        records = _find_deploy_records(plan, environment, source, sources)
        if isinstance(records, ReportLine):
            yield records
        elif records is not None:
            yield _check_served_before(environment, records, digest)
    environment = promotion.deploy.environment
    records = _find_deploy_records(plan, environment, source, sources)
    if isinstance(records, ReportLine):
        yield records
    elif records is not None:
        yield _describe_running_image(plan, environment, records, digest)
        yield from _check_version_order(promotion, tag, records)


def _find_deploy_records(
    plan: Plan, environment: str, source: ImageSource, sources: PreviewSources
) -> list[DeployRecord] | ReportLine | None:
    """The deploys of a service, or a line that says why they are unknown; None where the service does not run."""
    stack, host_name = _find_environment_stack(plan, environment)
    instance = _find_service_instance(stack, source.service)
    if instance is None:
        return None
    facts = sources.facts.get(host_name, HostFacts(why="was not asked"))
    if facts.why:
        return create_unknown_line(f"{environment}: {host_name}: {facts.why}")
    return parse_deploy_records(facts, stack, instance.container)


def _check_served_before(environment: str, records: list[DeployRecord], digest: str) -> ReportLine:
    if not records:
        return create_blocking_line(f"{environment} never served this service")
    last = records[-1]
    serves = f"serves {last.digest[:19]} since {last.time}"
    if not digest:
        return ReportLine(f"{environment} {serves}, run {last.run}")
    first = next((record for record in records if record.digest == digest), None)
    if first is None:
        return create_blocking_line(f"{environment} never served {digest[:19]}, as far as its record goes; it {serves}")
    state = "serves it" if last.digest == digest else f"now {serves}"
    return ReportLine(f"{environment} proved it: served since {first.time}, run {first.run}; {state}")


def _check_version_order(promotion: EnvironmentWorkflow, tag: str, records: list[DeployRecord]) -> Iterator[ReportLine]:
    """A host takes no older version, where versions are what orders the deploys."""
    if promotion.orders_by_version and records and records[-1].number > promotion.number_of(tag):
        newer = promotion.tag_of(records[-1].number)
        yield create_blocking_line(f"{newer} serves, which is newer: the deploy of {tag} changes nothing")


def _describe_running_image(plan: Plan, environment: str, records: list[DeployRecord], digest: str) -> ReportLine:
    if not records:
        return ReportLine(f"{environment} runs nothing yet")
    last = records[-1]
    same = ", the same image" if last.digest == digest else ""
    number = format_deployed_number(plan, environment, last.number)
    return ReportLine(f"{environment} runs {last.digest[:19]} since {last.time}, {number}{same}")


def _check_target_host(
    plan: Plan, promotion: EnvironmentWorkflow, release: ReleaseTag | None, git: GitRepository, sources: PreviewSources
) -> Iterator[ReportSection]:
    stack, host_name = _find_environment_stack(plan, promotion.deploy.environment)
    facts = sources.facts.get(host_name, HostFacts(why="was not asked"))
    migration_lines = tuple(_find_new_migrations(plan, release, stack, facts, git)) if release else ()
    if migration_lines:
        yield ReportSection("migrations", migration_lines)
    if not stack.env_files:
        return
    reason = facts.why
    if not reason and not isinstance(stack, ComposeStack):
        reason = SECRETS_REASON
    if not reason and not facts.all("env"):
        reason = STATUS_ONLY_REASON
    if reason:
        yield ReportSection("env files", (create_unknown_line(f"{host_name}: {reason}"),))
        return
    group = FindingGroup(host_name)
    book = sources.book.for_host(host_name)
    lines: list[ReportLine] = []
    for env_file in stack.env_files:
        finding = stack_checks.check_env_file(group, stack.name, env_file, facts, book)
        lines.append(ReportLine(f"{finding.subject}: {finding.saw}", "stops" if finding.state == "wrong" else "fact"))
    yield ReportSection("env files", tuple(lines))


def _find_new_migrations(
    plan: Plan, release: ReleaseTag, stack: Stack, facts: HostFacts, git: GitRepository
) -> Iterator[ReportLine]:
    """The migrations of the version that the oldest commit in production does not have."""
    for server in plan.servers:
        folder = server.migrations_directory
        for database in server.databases:
            if folder and database.environment == stack.environment:
                try:
                    yield from _compare_migrations(plan, folder, release, stack, facts, git)
                except GitError as error:
                    yield create_unknown_line(str(error))


def _compare_migrations(
    plan: Plan, folder: str, release: ReleaseTag, stack: Stack, facts: HostFacts, git: GitRepository
) -> list[ReportLine]:
    deployed_numbers: list[int] = []
    for instance in stack.instances:
        records = parse_deploy_records(facts, stack, instance.container)
        deployed_numbers += [record.number for record in records[-1:]]
    deployed_commit = ""
    if deployed_numbers:
        oldest = min(deployed_numbers)
        deployed_commit = find_deployed_commit(plan, stack.environment, oldest, git, release.commit)
    base = deployed_commit or release.ref_before
    known_files = set(git.files(base, folder)) if base else set()
    new_files = [file for file in git.files(release.commit, folder) if file not in known_files]
    if deployed_commit:
        start = f"what {stack.environment} runs ({deployed_commit[:9]})"
    else:
        start = release.before or "the beginning"
    headline = f"{len(new_files)} new since {start}"
    if new_files:
        headline += ": run them first, by hand (runbook, Migrations)"
    return [ReportLine(headline), *(ReportLine(f"{folder}/{file}") for file in new_files)]


def _find_environment_stack(plan: Plan, environment: str) -> tuple[Stack, str]:
    return next(
        (stack, host.name) for host in plan.every_host for stack in host.stacks if stack.environment == environment
    )


def _find_service_instance(stack: Stack, service: str) -> PlannedService | None:
    return next((instance for instance in stack.instances if instance.service == service), None)
