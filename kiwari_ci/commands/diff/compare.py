"""Compares the files that are there with those that a plan generates, and sorts the changes for a reader."""

from collections import Counter
from collections.abc import Iterator
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
from kiwari_ci.commands.diff.matching import NameMatches, Responsibilities
from kiwari_ci.commands.diff.snapshot import PipelineSnapshot
from kiwari_ci.plan import Plan
from kiwari_ci.readers.compose_file import ComposeProject, ComposeService
from kiwari_ci.readers.env_file import EnvExample
from kiwari_ci.readers.file_sets import FileSet
from kiwari_ci.readers.image_reference import parse_image_reference
from kiwari_ci.readers.yaml_document import as_dict, as_inline_code


@dataclass(frozen=True)
class DiffResult:
    """What was compared, every change, and the files that were not read, with the reasons."""

    before: str
    changes: tuple[PipelineChange, ...]
    skipped: tuple[tuple[str, str], ...]


def compare_pipelines(before: FileSet, plan: Plan, after: dict[str, str], checkout: FileSet) -> DiffResult:
    """Compare files with those that a plan generates, which are `after`.

    `checkout` has the files that stay, because nobody deletes them; it is `before` unless that is a git ref.
    """
    old = snapshot.build_snapshot(before, plan.repository)
    new = snapshot.build_snapshot(FileSet("generated", dict(after)), plan.repository)
    remaining = old if checkout is before else snapshot.build_snapshot(checkout, plan.repository)
    planned_names = matching.get_planned_names(plan)
    changes = list(_compare_snapshots(old, new, remaining, plan, planned_names))
    changes += manual_steps.compare_manual_steps(before, plan, after, new, planned_names)
    skipped = sorted(
        (escape_runner_commands(path), escape_runner_commands(reason))
        for path, reason in {**remaining.skipped, **old.skipped}.items()
    )
    return DiffResult(escape_runner_commands(before.name), tuple(_merge_and_sort(changes)), tuple(skipped))


def _compare_snapshots(
    old: PipelineSnapshot,
    new: PipelineSnapshot,
    remaining: PipelineSnapshot,
    plan: Plan,
    planned_names: NameMatches,
) -> Iterator[PipelineChange]:
    names = matching.match_names(old, new, planned_names)
    old_roles = matching.assign_responsibilities(old, names, planned_names)
    new_roles = matching.assign_responsibilities(new, planned_names, planned_names)
    changes = [
        *workflow_changes.compare_responsibilities(old_roles, new_roles, plan),
        *github_settings.compare_github_settings(old, new, old_roles.involved()),
    ]
    pairs = _pair_stacks(old, new, names, planned_names)
    for pair in pairs:
        changes += containers.compare_stacks(pair, names, planned_names)
    changes += _find_unpaired_stacks(old, new, pairs, names, planned_names)
    changes += _compare_env_files(old, new, pairs, planned_names)
    yield from changes
    explained = [pair for change in changes for pair in change.pairs]
    for path, workflow in new.workflows.items():
        if path in old.workflows and old.workflows[path].generated:
            old_document = old.workflows[path].parsed.document
            yield from other_changes.find_other_changes(old_document, workflow.parsed.document, explained)
    yield from _find_unpaired_workflows(old, new, old_roles.involved() | new_roles.involved())
    remaining_roles = _assign_handwritten_responsibilities(remaining, new, planned_names)
    yield from remaining_files.find_remaining_files(old, new, remaining, old_roles, remaining_roles, names)


def _assign_handwritten_responsibilities(
    remaining: PipelineSnapshot, new: PipelineSnapshot, planned_names: NameMatches
) -> Responsibilities:
    """Who builds and deploys what among the hand-written workflows that nobody deletes."""
    workflows = {path: workflow for path, workflow in remaining.workflows.items() if not workflow.generated}
    handwritten = PipelineSnapshot(remaining.name, workflows, remaining.stacks)
    names = matching.match_names(handwritten, new, planned_names)
    return matching.assign_responsibilities(handwritten, names, planned_names)


def _pair_stacks(
    old: PipelineSnapshot, new: PipelineSnapshot, names: NameMatches, planned_names: NameMatches
) -> list[StackPair]:
    """Each new stack with the old one that it replaces, if there is one; the one of the same path comes first."""
    pairs = []
    for after in new.stacks.values():
        subject = planned_names.environment(after.name)
        candidates = [stack for stack in old.stacks.values() if _is_same_stack(stack, after, subject, names)]
        if not candidates:
            continue
        before = next((stack for stack in candidates if stack.path == after.path), candidates[0])
        examples = [example for example in new.examples.values() if example.folder == after.folder]
        keys = frozenset(key for example in examples for key in example.values)
        pairs.append(StackPair(subject, before, after, keys))
    return pairs


def _is_same_stack(before: ComposeProject, after: ComposeProject, subject: str, names: NameMatches) -> bool:
    if before.path == after.path:
        return True
    environment = names.stacks.get(before.path) or names.stacks.get(before.name)
    return environment == subject if environment else _is_same_database(before, after)


def _is_same_database(before: ComposeProject, after: ComposeProject) -> bool:
    """Whether both stacks have one and the same server image, and nothing else."""
    images = _list_image_names(after)
    return len(images) == 1 and images == _list_image_names(before) and not before.generated


def _list_image_names(stack: ComposeProject) -> set[str]:
    """The names of the images, without registry, namespace and tag."""
    return {parse_image_reference(service.image).name for service in stack.services.values()}


def _find_unpaired_stacks(
    old: PipelineSnapshot,
    new: PipelineSnapshot,
    pairs: list[StackPair],
    names: NameMatches,
    planned_names: NameMatches,
) -> Iterator[PipelineChange]:
    """Report stacks that only one side has."""
    old_paths, new_paths = {pair.before.path for pair in pairs}, {pair.after.path for pair in pairs}
    for path, stack in new.stacks.items():
        if path not in new_paths:
            deploy_key = ", and the deploy key must name it" if stack.name in planned_names.stacks else ""
            words = f"new stack {as_inline_code(stack.name)} with {_format_containers(stack)}"
            words += f": its folder must be on the server{deploy_key}"
            yield PipelineChange(planned_names.environment(stack.name), words, True, path, (("", stack.name),))
    for path, stack in old.stacks.items():
        if stack.generated and path not in old_paths:
            words = f"stack {as_inline_code(stack.name)} is gone: {_format_containers(stack)} run on"
            words += " until they are removed by hand"
            yield PipelineChange(names.environment(stack.name), words, True, path, ((stack.name, ""),))


def _format_containers(stack: ComposeProject) -> str:
    return ", ".join(as_inline_code(service.container or service.key) for service in stack.services.values())


def _compare_env_files(
    old: PipelineSnapshot, new: PipelineSnapshot, pairs: list[StackPair], planned_names: NameMatches
) -> Iterator[PipelineChange]:
    old_stacks = {pair.after.folder: pair.before for pair in pairs}
    compared_paths: set[str] = set()
    for path, after in new.examples.items():
        stack = _find_folder_stack(new, after.folder)
        subject = planned_names.environment(stack.name) if stack else after.folder
        before = old.examples.get(path)
        if not before and after.folder in old_stacks:
            before = _find_handwritten_example(old, old_stacks[after.folder])
        compared_paths.add(before.path if before else "")
        yield from env_files.compare_env_examples(subject, before, after)
    for path, before in old.examples.items():
        stack = _find_folder_stack(new, before.folder)
        if before.generated and path not in compared_paths and stack:
            env_file = path.removesuffix(".example").rpartition("/")[2]
            is_read = any(_reads_env_file(service, env_file) for service in _list_folder_services(new, before.folder))
            state = "written by each deploy, from GitHub" if is_read else "no longer read"
            words = f"the env file that {as_inline_code(path)} shows is {state}"
            yield PipelineChange(planned_names.environment(stack.name), words, False, path)


def _find_folder_stack(snapshot: PipelineSnapshot, folder: str) -> ComposeProject | None:
    return next((stack for stack in snapshot.stacks.values() if stack.folder == folder), None)


def _list_folder_services(snapshot: PipelineSnapshot, folder: str) -> list[ComposeService]:
    stacks = [stack for stack in snapshot.stacks.values() if stack.folder == folder]
    return [service for stack in stacks for service in stack.services.values()]


def _reads_env_file(service: ComposeService, env_file: str) -> bool:
    return env_file in as_dict(service.attributes.get("env_file"))


def _find_handwritten_example(old: PipelineSnapshot, stack: ComposeProject) -> EnvExample | None:
    for example in old.examples.values():
        if example.folder == stack.folder and not example.generated:
            return example
    return None


def _find_unpaired_workflows(
    old: PipelineSnapshot, new: PipelineSnapshot, described_paths: set[str]
) -> Iterator[PipelineChange]:
    """Report generated workflows that only one side has; those that build or deploy are described already."""
    for path, workflow in new.workflows.items():
        if path not in old.workflows and path not in described_paths:
            words = f"new workflow: runs {workflow_changes.describe_triggers(workflow.parsed)}"
            yield PipelineChange(workflow.parsed.name, words, False, path)
    for path, workflow in old.workflows.items():
        if workflow.generated and path not in new.workflows:
            triggers = workflow_changes.describe_triggers(workflow.parsed)
            words = f"workflow {as_inline_code(path)} is gone: nothing runs {triggers} by it"
            yield PipelineChange(workflow.parsed.name, words, True, path)


def _merge_and_sort(changes: list[PipelineChange]) -> Iterator[PipelineChange]:
    """Sort by subject, then by risk: what is written by hand first, then the subjects with a risky change.

    Several parts of a subject with the same change become one change.
    """
    merged: dict[tuple[str, str, bool], PipelineChange] = {}
    for change in map(_sanitize_change, changes):
        key = (change.subject, change.words, change.risky)
        if key in merged:
            parts = dict.fromkeys([*merged[key].part.split(", "), change.part])
            change = replace(merged[key], part=", ".join(filter(None, parts)))
        merged[key] = change
    risky_counts = Counter(change.subject for change in merged.values() if change.risky)
    subjects = dict.fromkeys(change.subject for change in merged.values())
    for subject in sorted(subjects, key=lambda name: (name != "written by hand", not risky_counts[name])):
        subject_changes = [change for change in merged.values() if change.subject == subject]
        yield from sorted(subject_changes, key=lambda change: not change.risky)


def _sanitize_change(change: PipelineChange) -> PipelineChange:
    """Escape what a file may have put into the texts; the pairs are not needed any more."""
    return PipelineChange(
        subject=escape_runner_commands(change.subject),
        words=escape_runner_commands(change.words),
        risky=change.risky,
        where=escape_runner_commands(change.where),
        part=escape_runner_commands(change.part),
    )
