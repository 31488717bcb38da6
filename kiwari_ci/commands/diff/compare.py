"""Two sides → every change, in the order in which a reader wants them."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from kiwari_ci.commands.diff import (
    containers,
    env_files,
    github_settings,
    manual_steps,
    matching,
    other_changes,
    remaining_files,
    snapshot,
    workflow_changes,
)
from kiwari_ci.commands.diff.change import Change, printable
from kiwari_ci.commands.diff.containers import Pair
from kiwari_ci.commands.diff.manual_steps import Copy
from kiwari_ci.commands.diff.matching import Names
from kiwari_ci.commands.diff.snapshot import Facts
from kiwari_ci.readers.compose_file import EnvExample, Service, Stack
from kiwari_ci.readers.file_sets import Side
from kiwari_ci.readers.yaml_document import mapped, shown


@dataclass(frozen=True)
class Compared:
    """What was compared, all that is different, and what could not be read."""

    before: str
    changes: tuple[Change, ...]
    skipped: tuple[tuple[str, str], ...]


def compare(before: Side, after: dict[str, str], stays: Side, repository: str, copies: Iterable[Copy]) -> Compared:
    """Everything that is different once `after` is generated; `stays` is the checkout with what nobody deletes."""
    old, new = snapshot.of(before, repository), snapshot.of(Side("generated", dict(after)), repository)
    left = old if stays is before else snapshot.of(stays, repository)
    found = list(_changes(old, new, left))
    found += manual_steps.changes(before, after, new, list(copies))
    skipped = sorted((printable(path), printable(why)) for path, why in {**left.skipped, **old.skipped}.items())
    return Compared(printable(before.name), tuple(_ordered(found)), tuple(skipped))


def _changes(old: Facts, new: Facts, left: Facts) -> Iterator[Change]:
    ours = matching.named(new)
    names = matching.matched(old, new, ours)
    was, now = matching.of(old, names, ours), matching.of(new, ours, ours)
    found = [*workflow_changes.changes(was, now), *github_settings.changes(old, new, was.involved())]
    found += [change for pair in _pairs(old, new, names, ours) for change in containers.changes(pair, names, ours)]
    found += _stacks(old, new, names, ours)
    found += _env_files(old, new, names, ours)
    yield from found
    known = [pair for change in found for pair in change.pairs]
    for path, work in new.works.items():
        if path in old.works and old.works[path].generated:
            yield from other_changes.changes(old.works[path].workflow.document, work.workflow.document, known)
    yield from _workflows(old, new, was.involved() | now.involved())
    by_hand = Facts(left.name, {path: work for path, work in left.works.items() if not work.generated}, left.stacks)
    still = matching.of(by_hand, matching.matched(by_hand, new, ours), ours)
    yield from remaining_files.changes(old, new, left, was, still, names)


def _pairs(old: Facts, new: Facts, names: Names, ours: Names) -> Iterator[Pair]:
    for after in new.stacks.values():
        subject = ours.environment(after.name)
        keys = frozenset(key for each in new.examples.values() if each.folder == after.folder for key in each.values)
        same = [each for each in old.stacks.values() if _is_same(each, after, subject, names)]
        exact = [each for each in same if each.path == after.path]
        for before in (exact or same)[:1]:
            yield Pair(subject, before, after, keys)


def _is_same(before: Stack, after: Stack, subject: str, names: Names) -> bool:
    if before.path == after.path:
        return True
    known = names.stacks.get(before.path) or names.stacks.get(before.name)
    return known == subject if known else _one_database(before, after)


def _one_database(before: Stack, after: Stack) -> bool:
    """A stack of nothing but the same server."""
    own = {each.image.rpartition("/")[2].partition(":")[0] for each in after.services.values()}
    there = {each.image.rpartition("/")[2].partition(":")[0] for each in before.services.values()}
    return len(own) == 1 and own == there and not before.generated


def _stacks(old: Facts, new: Facts, names: Names, ours: Names) -> Iterator[Change]:
    """Stacks that only one side has."""
    paired = {pair.after.path: pair.before.path for pair in _pairs(old, new, names, ours)}
    for path, stack in new.stacks.items():
        if path not in paired:
            there = ", ".join(shown(each.container or each.key) for each in stack.services.values())
            key = ", and the deploy key must name it" if stack.name in ours.stacks else ""
            words = f"new stack {shown(stack.name)} with {there}: its folder must be on the server{key}"
            yield Change(ours.environment(stack.name), words, True, path, (("", stack.name),))
    for path, stack in old.stacks.items():
        if stack.generated and path not in paired.values():
            there = ", ".join(shown(each.container or each.key) for each in stack.services.values())
            words = f"stack {shown(stack.name)} is gone: {there} run on until they are removed by hand"
            yield Change(names.environment(stack.name), words, True, path, ((stack.name, ""),))


def _env_files(old: Facts, new: Facts, names: Names, ours: Names) -> Iterator[Change]:
    pairs = {pair.after.folder: pair for pair in _pairs(old, new, names, ours)}
    seen: set[str] = set()
    for path, after in new.examples.items():
        stack = next((each for each in new.stacks.values() if each.folder == after.folder), None)
        subject = ours.environment(stack.name) if stack else after.folder
        before = old.examples.get(path)
        if not before and after.folder in pairs:
            before = _example_of(old, pairs[after.folder].before)
        seen.add(before.path if before else "")
        yield from env_files.changes(subject, before, after)
    for path, before in old.examples.items():
        if before.generated and path not in seen and any(each.folder == before.folder for each in new.stacks.values()):
            subject = next(ours.environment(each.name) for each in new.stacks.values() if each.folder == before.folder)
            name = path.removesuffix(".example").rpartition("/")[2]
            stays = any(name in mapped(each.attributes.get("env_file")) for each in _services(new, before.folder))
            now = "written by each deploy, from GitHub" if stays else "no longer read"
            yield Change(subject, f"the env file that {shown(path)} shows is {now}", False, path)


def _services(facts: Facts, folder: str) -> Iterator[Service]:
    yield from (each for stack in facts.stacks.values() if stack.folder == folder for each in stack.services.values())


def _example_of(old: Facts, stack: Stack) -> EnvExample | None:
    return next((each for each in old.examples.values() if each.folder == stack.folder and not each.generated), None)


def _workflows(old: Facts, new: Facts, told: set[str]) -> Iterator[Change]:
    """Generated workflows that only one side has; those that build or deploy have words already."""
    for path, work in new.works.items():
        if path not in old.works and path not in told:
            yield Change(
                work.workflow.name, f"new workflow: runs {workflow_changes.triggers(work.workflow)}", False, path
            )
    for path, work in old.works.items():
        if work.generated and path not in new.works:
            words = f"workflow {shown(path)} is gone: nothing runs {workflow_changes.triggers(work.workflow)} by it"
            yield Change(work.workflow.name, words, True, path)


def _ordered(found: list[Change]) -> Iterator[Change]:
    """By subject, those with a risk first; in each the risky ones first; what parts share is told once."""
    merged: dict[tuple[str, str, bool], Change] = {}
    for change in map(_clean, found):
        key = (change.subject, change.words, change.risky)
        there = merged.get(key)
        parts = dict.fromkeys([*(there.part.split(", ") if there else []), change.part])
        merged[key] = replace(there or change, part=", ".join(filter(None, parts)))
    risky = Counter(change.subject for change in merged.values() if change.risky)
    subjects = list(dict.fromkeys(change.subject for change in merged.values()))
    for subject in sorted(subjects, key=lambda name: (name != "written by hand", not risky[name])):
        yield from sorted(
            (each for each in merged.values() if each.subject == subject), key=lambda each: not each.risky
        )


def _clean(change: Change) -> Change:
    """Words that move no cursor, whatever a file says; its pairs have done their work."""
    subject, words, where, part = (
        printable(text) for text in (change.subject, change.words, change.where, change.part)
    )
    return Change(subject, words, change.risky, where, (), part)
