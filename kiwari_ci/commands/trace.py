"""From an address back to its commits: domain → container → digest → source key → commits → run."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from kiwari_ci.commands.preview.release_preview import MOST, Means, trunk
from kiwari_ci.commands.preview.report import Line, Section, not_asked, stops
from kiwari_ci.engines.compose.deploy_records import Deployed, records
from kiwari_ci.plan import Host, Instance, Plan, Source, Stack
from kiwari_ci.readers.git_history import Git, Unanswered


def find(plan: Plan, address: str) -> tuple[Host, Stack, Instance] | None:
    """Who answers at an address: an URL, a domain, or a container's name."""
    try:
        name = (urlsplit(address if "//" in address else f"//{address}").hostname or "").rstrip(".")
    except ValueError:
        return None
    every = [(host, stack, each) for host in plan.hosts for stack in host.stacks for each in stack.instances]
    return next((found for found in every if name and name in (found[2].domain, found[2].container)), None)


def trace(plan: Plan, place: tuple[Host, Stack, Instance], git: Git, means: Means) -> list[Section]:
    """All that is known of what serves there, and of how it came there."""
    host, stack, instance = place
    facts = means.facts[host.name]
    answers = f"https://{instance.domain}{instance.health_path} → " if instance.domain else ""
    sections = [Section("place", (Line(f"{answers}{instance.container}, {stack.environment} on {host.name}"),))]
    if facts.why:
        return [*sections, Section("image", (not_asked(f"{host.name}: {facts.why}"),))]
    found = records(facts, stack, instance.container)
    if not found:
        return [*sections, Section("image", (Line("nothing was deployed yet, by the host's record"),))]
    last = found[-1]
    sections.append(Section("image", tuple(_image(plan, instance, last, facts.containers().get(instance.container)))))
    known = [each.source for each in plan.workflows] + [each for own in plan.promotions for each in own.sources]
    source = next(each for each in known if each.image == instance.source)
    try:
        lines = tuple(_source(plan, source, found, git, means))
    except Unanswered as reason:
        lines = (not_asked(str(reason)),)
    return [*sections, Section("source", lines), Section("before it", tuple(_before(found)))]


def _image(plan: Plan, instance: Instance, last: Deployed, running: object) -> Iterator[Line]:
    yield Line(f"{last.image}@{last.digest}")
    shown = getattr(running, "image", "")
    if running is not None and shown != f"{last.image}@{last.digest}":
        yield stops(f"{instance.container} runs {shown}, which is not what the record has")
    by = "by hand, a rollback" if last.run == "rollback" else f"run {_link(plan, last.run)}"
    yield Line(f"since {last.time}, {by}")


def _link(plan: Plan, run: str) -> str:
    return f"https://github.com/{plan.repository}/actions/runs/{run}" if run.isdigit() else run


def _source(plan: Plan, source: Source, found: list[Deployed], git: Git, means: Means) -> Iterator[Line]:
    """Its commit is told by the record's number: of a rollback, by that of the deploy which it went back to."""
    last = found[-1]
    first = next((each for each in reversed(found) if each.digest == last.digest and each.run != "rollback"), None)
    if first is None:
        yield not_asked("the record has only the rollback to it, which does not say its commit")
        return
    if git.is_shallow:
        yield not_asked("this clone is shallow, so commits cannot be counted: git fetch --unshallow")
        return
    head = trunk(plan, git)
    commit = git.at_number(first.number, head)
    if not commit:
        name = head.removeprefix("refs/remotes/")
        yield not_asked(f"no commit of {name} is number {first.number}: git fetch, or its history was rewritten")
        return
    yield from _commit(source, commit, first, git, means)
    newer = git.commits(head, f"^{commit}", paths=source.pathspecs)
    yield Line(
        f"commits of its source that {head.removeprefix('refs/remotes/')} has and that are not in it: {len(newer)}"
    )
    yield from (Line(f"  {each.name} {each.date} {each.title}") for each in newer[:MOST])


def _commit(source: Source, commit: str, first: Deployed, git: Git, means: Means) -> Iterator[Line]:
    key = git.key(commit, source.pathspecs)
    (shown,) = git.commits(commit, most=1)
    tags = git.ask("tag", "--points-at", commit).split()
    named = f" ({', '.join(tags)})" if tags else ""
    yield Line(f"commit number {first.number}: {shown.name} {shown.date} {shown.title}{named}")
    asked = means.registry([f"{first.image}:{key}"])[f"{first.image}:{key}"]
    if asked.why:
        yield not_asked(f"{key}, by the commit; the registry: {asked.why}")
    elif asked.digest == first.digest:
        yield Line(f"{key}, as the registry has it: built from exactly these files")
    else:
        yield Line(f"{key}, for which the registry has {asked.digest or 'nothing'}: built again, or cleaned up")
    last = git.commits(commit, paths=source.pathspecs, most=1)
    yield from (Line(f"its source was last changed by {each.name} {each.date} {each.title}") for each in last)


def _before(found: list[Deployed]) -> Iterator[Line]:
    earlier = found[:-1][::-1][:5]
    if not earlier:
        yield Line("nothing, as far as the record goes")
    for each in earlier:
        yield Line(f"{each.digest[:19]} {each.time}, commit number {each.number}, run {each.run}")
