"""What a version's tag would do: its commits, images, proofs, migrations and env keys, each as far as can be asked."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256

from kiwari_ci.commands.affected.analysis import is_release_version
from kiwari_ci.commands.preview.report import ReportLine, ReportSection, create_blocking_line, create_unknown_line
from kiwari_ci.github import path_filters
from kiwari_ci.plan import ComposeStack, EnvironmentWorkflow, ImageSource, Plan, ServiceContainer
from kiwari_ci.probes import stack_checks
from kiwari_ci.probes.deploy_records import DeployRecord, RegistryDigest, parse_deploy_records
from kiwari_ci.probes.findings import FindingGroup
from kiwari_ci.probes.runbook_index import RunbookIndex
from kiwari_ci.probes.ssh_host import HostFacts
from kiwari_ci.readers.git import GitError
from kiwari_ci.readers.git_history import GitRepository

EMPTY_SOURCE_KEY = f"src-{sha256(b'').hexdigest()[:12]}"
MAX_LISTED_COMMITS = 20  # commits that are listed
STATUS_ONLY_REASON = "ssh used the deploy key, which may ask for the status only: name another login with --ssh"


@dataclass(frozen=True)
class PreviewSources:
    """How the world is asked: for the digests of tags, and for the facts of hosts."""

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


def find_promotion(plan: Plan, tag: str) -> EnvironmentWorkflow | None:
    """The promotion that a tag starts."""
    return next((each for each in plan.promotions if path_filters.is_included(each.tags, tag)), None)


def preview_release(
    plan: Plan, promotion: EnvironmentWorkflow, tag: str, git: GitRepository, means: PreviewSources
) -> list[ReportSection]:
    """All sections; what one cannot know is said in it, and keeps the others from nothing."""
    try:
        tagged = _resolve_release_tag(promotion, tag, git)
        head = [
            ReportSection(f"tag {tag}", tuple(_describe_tag(plan, tagged, git))),
            ReportSection("commits", tuple(_describe_commits(tagged, git))),
        ]
        keys = {each.service: git.key(tagged.commit, each.pathspecs) for each in promotion.sources}
    except GitError as reason:
        tagged, keys, head = None, {}, [ReportSection(f"tag {tag}", (create_unknown_line(str(reason)),))]
    wanted = [
        f"{each.repository}:{name}" for each in promotion.sources for name in (keys.get(each.service), tag) if name
    ]
    digests = means.registry(wanted)
    for source in promotion.sources:
        lines = list(_check_release_image(source, keys.get(source.service, ""), tag, digests, promotion))
        lines = (list(_describe_source_key(source, tagged, git, keys[source.service])) if tagged else []) + lines
        digest = digests.get(f"{source.repository}:{keys.get(source.service)}", RegistryDigest(why="no key")).digest
        head.append(
            ReportSection(source.service, (*lines, *_check_environments(plan, promotion, source, digest, means)))
        )
    return [*head, *_check_target_host(plan, promotion, tagged, git, means)]


def describe_promotion(promotion: EnvironmentWorkflow) -> str:
    """What a promotion or release does."""
    way = "built" if promotion.builds else promotion.from_environment
    return f"{way} → {promotion.deploy.environment}"


def find_previous_version(git: GitRepository, promotion: EnvironmentWorkflow, commit: str, tag: str) -> str:
    """The newest version before a commit, by its numbers; empty when there is none."""
    said = git.ask("tag", "--list", promotion.pattern, "--merged", commit).split()
    versions = [each for each in said if each != tag and is_release_version(promotion, each)]
    return max(
        versions, default="", key=lambda each: [int(number) for number in _parse_version_numbers(promotion, each)]
    )


def _parse_version_numbers(promotion: EnvironmentWorkflow, tag: str) -> tuple[str, ...]:
    """The numbers of a version, as the pattern's groups have them."""
    found = re.fullmatch(promotion.regex, tag)
    return found.groups() if found else ()


def find_default_branch_ref(plan: Plan, git: GitRepository) -> str:
    """The default branch, as the remote has it where that is known."""
    return next(filter(git.exists, (f"refs/remotes/origin/{plan.default_branch}", plan.default_branch)), "HEAD")


def _resolve_release_tag(promotion: EnvironmentWorkflow, tag: str, git: GitRepository) -> ReleaseTag:
    is_there = git.exists(f"refs/tags/{tag}")
    commit = git.commit(f"refs/tags/{tag}" if is_there else "HEAD")
    return ReleaseTag(tag, promotion, commit, find_previous_version(git, promotion, commit, tag), is_there)


def _describe_tag(plan: Plan, tagged: ReleaseTag, git: GitRepository) -> Iterator[ReportLine]:
    promotion = tagged.promotion
    (commit,) = git.commits(tagged.commit, most=1)
    where = "is there" if tagged.is_there else "is not there yet: judged as if it were put on HEAD"
    yield ReportLine(f"{where}, {commit.name} {commit.date} {commit.title}")
    if not is_release_version(promotion, tagged.name):
        yield create_blocking_line(f"{tagged.name} is not {promotion.words}")
    branch = find_default_branch_ref(plan, git)
    if git.count(tagged.commit, f"^{branch}"):
        yield create_blocking_line(f"it is not on {branch.removeprefix('refs/remotes/')}: merge it first")
    yield ReportLine(f"runs {promotion.name}: {describe_promotion(promotion)}")
    if git.is_shallow:
        yield create_unknown_line("this clone is shallow, so commits cannot be counted: git fetch --unshallow")


def _describe_commits(tagged: ReleaseTag, git: GitRepository) -> Iterator[ReportLine]:
    if not tagged.before:
        yield ReportLine(f"the first version: {git.count(tagged.commit)} commits")
        return
    span = (tagged.commit, f"^{tagged.before}")
    count = git.count(*span)
    yield ReportLine(f"{count} since {tagged.before}")
    yield from (
        ReportLine(f"{each.name} {each.date} {each.title}") for each in git.commits(*span, most=MAX_LISTED_COMMITS)
    )
    if count > MAX_LISTED_COMMITS:
        yield ReportLine(f"and {count - MAX_LISTED_COMMITS} more: git log {tagged.before}..{tagged.commit[:9]}")


def _describe_source_key(source: ImageSource, tagged: ReleaseTag, git: GitRepository, key: str) -> Iterator[ReportLine]:
    before = tagged.before and git.key(tagged.before, source.pathspecs)
    if key == EMPTY_SOURCE_KEY:
        yield create_blocking_line("its paths match no file of this commit: is this the repository of the spec?")
    elif before == key:
        yield ReportLine(f"source {key}, as in {tagged.before}: the same image")
    elif before:
        found = git.commits(tagged.commit, f"^{tagged.before}", paths=source.pathspecs)
        yield ReportLine(f"source {before} → {key}, by {', '.join(each.name for each in found[:8]) or 'a revert'}")
    else:
        yield ReportLine(f"source {key}")


def _check_release_image(
    source: ImageSource, key: str, tag: str, digests: dict[str, RegistryDigest], promotion: EnvironmentWorkflow
) -> Iterator[ReportLine]:
    if not key:
        return
    found, taken = digests[f"{source.repository}:{key}"], digests[f"{source.repository}:{tag}"]
    if found.why:
        yield create_unknown_line(f"image: the registry: {found.why}")
    elif found.digest:
        yield ReportLine(f"image {found.digest}")
    elif promotion.builds:
        yield ReportLine(f"no image of this source yet: {promotion.name} tests and builds it first")
    else:
        yield create_blocking_line(
            f"{source.builder} built no image from this source, {source.repository}:{key} is not there"
        )
    if taken.digest and found.digest and taken.digest != found.digest:
        yield create_blocking_line(
            f"{source.repository}:{tag} is there already with other bytes, {taken.digest}: tag a new version"
        )


def _check_environments(
    plan: Plan, promotion: EnvironmentWorkflow, source: ImageSource, digest: str, means: PreviewSources
) -> Iterator[ReportLine]:
    """What the environments before and after know of this image."""
    before = [] if promotion.builds else [(promotion.from_environment, "proved")]
    for environment, word in (*before, (promotion.deploy.environment, "runs")):
        stack, name = _find_environment_stack(plan, environment)
        instance = _find_service_instance(stack, source.service)
        facts = means.facts.get(name, HostFacts(why="was not asked"))
        if instance is None:
            continue
        if facts.why:
            yield create_unknown_line(f"{environment}: {name}: {facts.why}")
            continue
        found = parse_deploy_records(facts, stack, instance.container)
        yield (
            _check_served_before(environment, found, digest, means)
            if word == "proved"
            else _describe_running_image(environment, found, digest)
        )


def _check_served_before(environment: str, found: list[DeployRecord], digest: str, means: PreviewSources) -> ReportLine:
    same = [each for each in found if each.digest == digest]
    if not found:
        return create_blocking_line(f"{environment} never served this service")
    last = found[-1]
    serves = f"serves {last.digest[:19]} since {last.time}"
    if not digest:
        return ReportLine(f"{environment} {serves}, run {last.run}")
    if not same:
        return create_blocking_line(f"{environment} never served {digest[:19]}, as far as its record goes; it {serves}")
    now = "serves it" if last.digest == digest else f"now {serves}"
    return ReportLine(f"{environment} proved it: served since {same[0].time}, run {same[0].run}; {now}")


def _describe_running_image(environment: str, found: list[DeployRecord], digest: str) -> ReportLine:
    if not found:
        return ReportLine(f"{environment} runs nothing yet")
    last = found[-1]
    same = ", the same image" if last.digest == digest else ""
    return ReportLine(f"{environment} runs {last.digest[:19]} since {last.time}, commit number {last.number}{same}")


def _check_target_host(
    plan: Plan, promotion: EnvironmentWorkflow, tagged: ReleaseTag | None, git: GitRepository, means: PreviewSources
) -> Iterator[ReportSection]:
    stack, name = _find_environment_stack(plan, promotion.deploy.environment)
    facts = means.facts.get(name, HostFacts(why="was not asked"))
    if tagged and (lines := list(_find_new_migrations(plan, tagged, stack, facts, git))):
        yield ReportSection("migrations", tuple(lines))
    if not stack.env_files:
        return
    if why := facts.why or ("" if facts.all("env") else STATUS_ONLY_REASON):
        yield ReportSection("env files", (create_unknown_line(f"{name}: {why}"),))
        return
    group = FindingGroup(name)
    book = means.book.for_host(name)
    found = [stack_checks.check_env_file(group, stack.name, file, facts, book) for file in stack.env_files]
    lines = [ReportLine(f"{each.subject}: {each.saw}", "stops" if each.state == "wrong" else "fact") for each in found]
    yield ReportSection("env files", tuple(lines))


def _find_new_migrations(
    plan: Plan, tagged: ReleaseTag, stack: ComposeStack, facts: HostFacts, git: GitRepository
) -> Iterator[ReportLine]:
    """Those of the tag that the oldest commit which production runs has not."""
    servers = [each for each in plan.servers for role in each.databases if role.environment == stack.environment]
    for server in servers:
        if not server.migrations_directory:
            continue
        deployed = [parse_deploy_records(facts, stack, each.container)[-1:] for each in stack.instances]
        numbers = [each.number for last in deployed for each in last]
        try:
            since = git.at_number(min(numbers), tagged.commit) if numbers else ""
            known = since or tagged.before
            there = set(git.files(known, server.migrations_directory)) if known else set()
            new = [each for each in git.files(tagged.commit, server.migrations_directory) if each not in there]
        except GitError as reason:
            yield create_unknown_line(str(reason))
            continue
        what = f"what {stack.environment} runs ({since[:9]})" if since else tagged.before or "the beginning"
        yield ReportLine(
            f"{len(new)} new since {what}" + (": run them first, by hand (runbook, Migrations)" if new else "")
        )
        yield from (ReportLine(f"{server.migrations_directory}/{each}") for each in new)


def _find_environment_stack(plan: Plan, environment: str) -> tuple[ComposeStack, str]:
    return next((stack, host.name) for host in plan.hosts for stack in host.stacks if stack.environment == environment)


def _find_service_instance(stack: ComposeStack, service: str) -> ServiceContainer | None:
    return next((each for each in stack.instances if each.service == service), None)
