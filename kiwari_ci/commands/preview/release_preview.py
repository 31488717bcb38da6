"""What a version's tag would do: its commits, images, proofs, migrations and env keys, each as far as can be asked."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256

from kiwari_ci.commands.affected.analysis import is_version
from kiwari_ci.commands.preview.report import Line, Section, not_asked, stops
from kiwari_ci.engines.compose.deploy_records import Deployed, Digest, records
from kiwari_ci.github import path_filters
from kiwari_ci.plan import Instance, Plan, Promotion, Source, Stack
from kiwari_ci.probes import stack_checks
from kiwari_ci.probes.findings import Group, Runbook
from kiwari_ci.probes.ssh_host import Facts
from kiwari_ci.readers.git_history import Git, Unanswered

NO_FILES = f"src-{sha256(b'').hexdigest()[:12]}"
MOST = 20  # commits that are listed
STATUS_ONLY = "ssh used the deploy key, which may ask for the status only: name another login with --ssh"


@dataclass(frozen=True)
class Means:
    """How the world is asked: for the digests of tags, and for the facts of hosts."""

    registry: Callable[[list[str]], dict[str, Digest]]
    facts: dict[str, Facts]
    book: Runbook


@dataclass(frozen=True)
class Tagged:
    """A tag that a promotion takes, at a commit (of the tag, or HEAD), and the version before it (or empty)."""

    name: str
    promotion: Promotion
    commit: str
    before: str
    is_there: bool


def promotion_of(plan: Plan, tag: str) -> Promotion | None:
    """The promotion that a tag starts."""
    return next((each for each in plan.promotions if path_filters.included(each.tags, tag)), None)


def plan_of(plan: Plan, promotion: Promotion, tag: str, git: Git, means: Means) -> list[Section]:
    """All sections; what one cannot know is said in it, and keeps the others from nothing."""
    try:
        tagged = _tagged(promotion, tag, git)
        head = [Section(f"tag {tag}", tuple(_tag(plan, tagged, git))), Section("commits", tuple(_commits(tagged, git)))]
        keys = {each.service: git.key(tagged.commit, each.pathspecs) for each in promotion.sources}
    except Unanswered as reason:
        tagged, keys, head = None, {}, [Section(f"tag {tag}", (not_asked(str(reason)),))]
    wanted = [
        f"{each.repository}:{name}" for each in promotion.sources for name in (keys.get(each.service), tag) if name
    ]
    digests = means.registry(wanted)
    for source in promotion.sources:
        lines = list(_image(source, keys.get(source.service, ""), tag, digests, promotion))
        lines = (list(_source(source, tagged, git, keys[source.service])) if tagged else []) + lines
        digest = digests.get(f"{source.repository}:{keys.get(source.service)}", Digest(why="no key")).digest
        head.append(Section(source.service, (*lines, *_world(plan, promotion, source, digest, means))))
    return [*head, *_hosts(plan, promotion, tagged, git, means)]


def about(promotion: Promotion) -> str:
    """What a promotion or release does."""
    way = "built" if promotion.builds else promotion.from_environment
    return f"{way} → {promotion.deploy.environment}"


def previous(git: Git, promotion: Promotion, commit: str, tag: str) -> str:
    """The newest version before a commit, by its numbers; empty when there is none."""
    said = git.ask("tag", "--list", promotion.pattern, "--merged", commit).split()
    versions = [each for each in said if each != tag and is_version(promotion, each)]
    return max(versions, default="", key=lambda each: [int(number) for number in _numbers(promotion, each)])


def _numbers(promotion: Promotion, tag: str) -> tuple[str, ...]:
    """The numbers of a version, as the pattern's groups have them."""
    found = re.fullmatch(promotion.regex, tag)
    return found.groups() if found else ()


def trunk(plan: Plan, git: Git) -> str:
    """The default branch, as the remote has it where that is known."""
    return next(filter(git.exists, (f"refs/remotes/origin/{plan.default_branch}", plan.default_branch)), "HEAD")


def _tagged(promotion: Promotion, tag: str, git: Git) -> Tagged:
    is_there = git.exists(f"refs/tags/{tag}")
    commit = git.commit(f"refs/tags/{tag}" if is_there else "HEAD")
    return Tagged(tag, promotion, commit, previous(git, promotion, commit, tag), is_there)


def _tag(plan: Plan, tagged: Tagged, git: Git) -> Iterator[Line]:
    promotion = tagged.promotion
    (commit,) = git.commits(tagged.commit, most=1)
    where = "is there" if tagged.is_there else "is not there yet: judged as if it were put on HEAD"
    yield Line(f"{where}, {commit.name} {commit.date} {commit.title}")
    if not is_version(promotion, tagged.name):
        yield stops(f"{tagged.name} is not {promotion.words}")
    branch = trunk(plan, git)
    if git.count(tagged.commit, f"^{branch}"):
        yield stops(f"it is not on {branch.removeprefix('refs/remotes/')}: merge it first")
    yield Line(f"runs {promotion.name}: {about(promotion)}")
    if git.is_shallow:
        yield not_asked("this clone is shallow, so commits cannot be counted: git fetch --unshallow")


def _commits(tagged: Tagged, git: Git) -> Iterator[Line]:
    if not tagged.before:
        yield Line(f"the first version: {git.count(tagged.commit)} commits")
        return
    span = (tagged.commit, f"^{tagged.before}")
    count = git.count(*span)
    yield Line(f"{count} since {tagged.before}")
    yield from (Line(f"{each.name} {each.date} {each.title}") for each in git.commits(*span, most=MOST))
    if count > MOST:
        yield Line(f"and {count - MOST} more: git log {tagged.before}..{tagged.commit[:9]}")


def _source(source: Source, tagged: Tagged, git: Git, key: str) -> Iterator[Line]:
    before = tagged.before and git.key(tagged.before, source.pathspecs)
    if key == NO_FILES:
        yield stops("its paths match no file of this commit: is this the repository of the spec?")
    elif before == key:
        yield Line(f"source {key}, as in {tagged.before}: the same image")
    elif before:
        found = git.commits(tagged.commit, f"^{tagged.before}", paths=source.pathspecs)
        yield Line(f"source {before} → {key}, by {', '.join(each.name for each in found[:8]) or 'a revert'}")
    else:
        yield Line(f"source {key}")


def _image(source: Source, key: str, tag: str, digests: dict[str, Digest], promotion: Promotion) -> Iterator[Line]:
    if not key:
        return
    found, taken = digests[f"{source.repository}:{key}"], digests[f"{source.repository}:{tag}"]
    if found.why:
        yield not_asked(f"image: the registry: {found.why}")
    elif found.digest:
        yield Line(f"image {found.digest}")
    elif promotion.builds:
        yield Line(f"no image of this source yet: {promotion.name} tests and builds it first")
    else:
        yield stops(f"{source.builder} built no image from this source, {source.repository}:{key} is not there")
    if taken.digest and found.digest and taken.digest != found.digest:
        yield stops(f"{source.repository}:{tag} is there already with other bytes, {taken.digest}: tag a new version")


def _world(plan: Plan, promotion: Promotion, source: Source, digest: str, means: Means) -> Iterator[Line]:
    """What the environments before and after know of this image."""
    before = [] if promotion.builds else [(promotion.from_environment, "proved")]
    for environment, word in (*before, (promotion.deploy.environment, "runs")):
        stack, name = _place(plan, environment)
        instance = _instance(stack, source.service)
        facts = means.facts.get(name, Facts(why="was not asked"))
        if instance is None:
            continue
        if facts.why:
            yield not_asked(f"{environment}: {name}: {facts.why}")
            continue
        found = records(facts, stack, instance.container)
        yield _proof(environment, found, digest, means) if word == "proved" else _running(environment, found, digest)


def _proof(environment: str, found: list[Deployed], digest: str, means: Means) -> Line:
    same = [each for each in found if each.digest == digest]
    if not found:
        return stops(f"{environment} never served this service")
    last = found[-1]
    serves = f"serves {last.digest[:19]} since {last.time}"
    if not digest:
        return Line(f"{environment} {serves}, run {last.run}")
    if not same:
        return stops(f"{environment} never served {digest[:19]}, as far as its record goes; it {serves}")
    now = "serves it" if last.digest == digest else f"now {serves}"
    return Line(f"{environment} proved it: served since {same[0].time}, run {same[0].run}; {now}")


def _running(environment: str, found: list[Deployed], digest: str) -> Line:
    if not found:
        return Line(f"{environment} runs nothing yet")
    last = found[-1]
    same = ", the same image" if last.digest == digest else ""
    return Line(f"{environment} runs {last.digest[:19]} since {last.time}, commit number {last.number}{same}")


def _hosts(plan: Plan, promotion: Promotion, tagged: Tagged | None, git: Git, means: Means) -> Iterator[Section]:
    stack, name = _place(plan, promotion.deploy.environment)
    facts = means.facts.get(name, Facts(why="was not asked"))
    if tagged and (lines := list(_migrations(plan, tagged, stack, facts, git))):
        yield Section("migrations", tuple(lines))
    if not stack.env_files:
        return
    if why := facts.why or ("" if facts.all("env") else STATUS_ONLY):
        yield Section("env files", (not_asked(f"{name}: {why}"),))
        return
    group = Group(name)
    found = [stack_checks.env_file(group, stack.name, file, facts, means.book) for file in stack.env_files]
    lines = [Line(f"{each.subject}: {each.saw}", "stops" if each.state == "wrong" else "fact") for each in found]
    yield Section("env files", tuple(lines))


def _migrations(plan: Plan, tagged: Tagged, stack: Stack, facts: Facts, git: Git) -> Iterator[Line]:
    """Those of the tag that the oldest commit which production runs has not."""
    servers = [each for each in plan.servers for role in each.databases if role.environment == stack.environment]
    for server in servers:
        if not server.migrations_directory:
            continue
        deployed = [records(facts, stack, each.container)[-1:] for each in stack.instances]
        numbers = [each.number for last in deployed for each in last]
        try:
            since = git.at_number(min(numbers), tagged.commit) if numbers else ""
            known = since or tagged.before
            there = set(git.files(known, server.migrations_directory)) if known else set()
            new = [each for each in git.files(tagged.commit, server.migrations_directory) if each not in there]
        except Unanswered as reason:
            yield not_asked(str(reason))
            continue
        what = f"what {stack.environment} runs ({since[:9]})" if since else tagged.before or "the beginning"
        yield Line(f"{len(new)} new since {what}" + (": run them first, by hand (runbook, Migrations)" if new else ""))
        yield from (Line(f"{server.migrations_directory}/{each}") for each in new)


def _place(plan: Plan, environment: str) -> tuple[Stack, str]:
    return next((stack, host.name) for host in plan.hosts for stack in host.stacks if stack.environment == environment)


def _instance(stack: Stack, service: str) -> Instance | None:
    return next((each for each in stack.instances if each.service == service), None)
