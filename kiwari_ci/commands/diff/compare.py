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
from kiwari_ci.commands.diff.change import PipelineChange, escape_runner_commands
from kiwari_ci.commands.diff.containers import StackPair
from kiwari_ci.commands.diff.manual_steps import ManualCopy
from kiwari_ci.commands.diff.matching import NameMatches
from kiwari_ci.commands.diff.snapshot import PipelineSnapshot
from kiwari_ci.readers.compose_file import ComposeProject, ComposeService
from kiwari_ci.readers.env_file import EnvExample
from kiwari_ci.readers.file_sets import FileSet
from kiwari_ci.readers.image_reference import parse_image_reference
from kiwari_ci.readers.yaml_document import as_dict, as_inline_code


@dataclass(frozen=True)
class DiffResult:
    """What was compared, all that is different, and what could not be read."""

    before: str
    changes: tuple[PipelineChange, ...]
    skipped: tuple[tuple[str, str], ...]


def compare_pipelines(
    before: FileSet, after: dict[str, str], stays: FileSet, repository: str, copies: Iterable[ManualCopy]
) -> DiffResult:
    """Everything that is different once `after` is generated; `stays` is the checkout with what nobody deletes."""
    old, new = (
        snapshot.build_snapshot(before, repository),
        snapshot.build_snapshot(FileSet("generated", dict(after)), repository),
    )
    left = old if stays is before else snapshot.build_snapshot(stays, repository)
    found = list(_compare_snapshots(old, new, left))
    found += manual_steps.compare_manual_steps(before, after, new, list(copies))
    skipped = sorted(
        (escape_runner_commands(path), escape_runner_commands(why))
        for path, why in {**left.skipped, **old.skipped}.items()
    )
    return DiffResult(escape_runner_commands(before.name), tuple(_merge_and_sort(found)), tuple(skipped))


def _compare_snapshots(
    old: PipelineSnapshot, new: PipelineSnapshot, left: PipelineSnapshot
) -> Iterator[PipelineChange]:
    ours = matching.extract_generated_names(new)
    names = matching.match_names(old, new, ours)
    was, now = matching.assign_responsibilities(old, names, ours), matching.assign_responsibilities(new, ours, ours)
    found = [
        *workflow_changes.compare_responsibilities(was, now),
        *github_settings.compare_github_settings(old, new, was.involved()),
    ]
    found += [
        change
        for pair in _pair_stacks(old, new, names, ours)
        for change in containers.compare_stacks(pair, names, ours)
    ]
    found += _find_unpaired_stacks(old, new, names, ours)
    found += _compare_env_files(old, new, names, ours)
    yield from found
    known = [pair for change in found for pair in change.pairs]
    for path, work in new.works.items():
        if path in old.works and old.works[path].generated:
            yield from other_changes.find_other_changes(
                old.works[path].workflow.document, work.workflow.document, known
            )
    yield from _find_unpaired_workflows(old, new, was.involved() | now.involved())
    by_hand = PipelineSnapshot(
        left.name, {path: work for path, work in left.works.items() if not work.generated}, left.stacks
    )
    still = matching.assign_responsibilities(by_hand, matching.match_names(by_hand, new, ours), ours)
    yield from remaining_files.find_remaining_files(old, new, left, was, still, names)


def _pair_stacks(
    old: PipelineSnapshot, new: PipelineSnapshot, names: NameMatches, ours: NameMatches
) -> Iterator[StackPair]:
    for after in new.stacks.values():
        subject = ours.environment(after.name)
        keys = frozenset(key for each in new.examples.values() if each.folder == after.folder for key in each.values)
        same = [each for each in old.stacks.values() if _is_same_stack(each, after, subject, names)]
        exact = [each for each in same if each.path == after.path]
        for before in (exact or same)[:1]:
            yield StackPair(subject, before, after, keys)


def _is_same_stack(before: ComposeProject, after: ComposeProject, subject: str, names: NameMatches) -> bool:
    if before.path == after.path:
        return True
    known = names.stacks.get(before.path) or names.stacks.get(before.name)
    return known == subject if known else _is_same_database(before, after)


def _is_same_database(before: ComposeProject, after: ComposeProject) -> bool:
    """A stack of nothing but the same server."""
    own = {parse_image_reference(each.image).name for each in after.services.values()}
    there = {parse_image_reference(each.image).name for each in before.services.values()}
    return len(own) == 1 and own == there and not before.generated


def _find_unpaired_stacks(
    old: PipelineSnapshot, new: PipelineSnapshot, names: NameMatches, ours: NameMatches
) -> Iterator[PipelineChange]:
    """Stacks that only one side has."""
    paired = {pair.after.path: pair.before.path for pair in _pair_stacks(old, new, names, ours)}
    for path, stack in new.stacks.items():
        if path not in paired:
            there = ", ".join(as_inline_code(each.container or each.key) for each in stack.services.values())
            key = ", and the deploy key must name it" if stack.name in ours.stacks else ""
            words = f"new stack {as_inline_code(stack.name)} with {there}: its folder must be on the server{key}"
            yield PipelineChange(ours.environment(stack.name), words, True, path, (("", stack.name),))
    for path, stack in old.stacks.items():
        if stack.generated and path not in paired.values():
            there = ", ".join(as_inline_code(each.container or each.key) for each in stack.services.values())
            words = f"stack {as_inline_code(stack.name)} is gone: {there} run on until they are removed by hand"
            yield PipelineChange(names.environment(stack.name), words, True, path, ((stack.name, ""),))


def _compare_env_files(
    old: PipelineSnapshot, new: PipelineSnapshot, names: NameMatches, ours: NameMatches
) -> Iterator[PipelineChange]:
    pairs = {pair.after.folder: pair for pair in _pair_stacks(old, new, names, ours)}
    seen: set[str] = set()
    for path, after in new.examples.items():
        stack = next((each for each in new.stacks.values() if each.folder == after.folder), None)
        subject = ours.environment(stack.name) if stack else after.folder
        before = old.examples.get(path)
        if not before and after.folder in pairs:
            before = _find_env_example(old, pairs[after.folder].before)
        seen.add(before.path if before else "")
        yield from env_files.compare_env_examples(subject, before, after)
    for path, before in old.examples.items():
        if before.generated and path not in seen and any(each.folder == before.folder for each in new.stacks.values()):
            subject = next(ours.environment(each.name) for each in new.stacks.values() if each.folder == before.folder)
            name = path.removesuffix(".example").rpartition("/")[2]
            stays = any(
                name in as_dict(each.attributes.get("env_file")) for each in _iter_folder_services(new, before.folder)
            )
            now = "written by each deploy, from GitHub" if stays else "no longer read"
            yield PipelineChange(subject, f"the env file that {as_inline_code(path)} shows is {now}", False, path)


def _iter_folder_services(facts: PipelineSnapshot, folder: str) -> Iterator[ComposeService]:
    yield from (each for stack in facts.stacks.values() if stack.folder == folder for each in stack.services.values())


def _find_env_example(old: PipelineSnapshot, stack: ComposeProject) -> EnvExample | None:
    return next((each for each in old.examples.values() if each.folder == stack.folder and not each.generated), None)


def _find_unpaired_workflows(old: PipelineSnapshot, new: PipelineSnapshot, told: set[str]) -> Iterator[PipelineChange]:
    """Generated workflows that only one side has; those that build or deploy have words already."""
    for path, work in new.works.items():
        if path not in old.works and path not in told:
            yield PipelineChange(
                work.workflow.name,
                f"new workflow: runs {workflow_changes.describe_triggers(work.workflow)}",
                False,
                path,
            )
    for path, work in old.works.items():
        if work.generated and path not in new.works:
            words = f"workflow {as_inline_code(path)} is gone: nothing runs {workflow_changes.describe_triggers(work.workflow)} by it"
            yield PipelineChange(work.workflow.name, words, True, path)


def _merge_and_sort(found: list[PipelineChange]) -> Iterator[PipelineChange]:
    """By subject, those with a risk first; in each the risky ones first; what parts share is told once."""
    merged: dict[tuple[str, str, bool], PipelineChange] = {}
    for change in map(_sanitize_change, found):
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


def _sanitize_change(change: PipelineChange) -> PipelineChange:
    """Words that move no cursor, whatever a file says; its pairs have done their work."""
    subject, words, where, part = (
        escape_runner_commands(text) for text in (change.subject, change.words, change.where, change.part)
    )
    return PipelineChange(subject, words, change.risky, where, (), part)
