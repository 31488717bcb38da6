"""Compares the files that are there with those that a plan generates, and sorts the changes for a reader."""

import re
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
from kiwari_ci.commands.diff.change import (
    COPY_FOLDERS,
    EVERY_ADOPTION,
    HANDWRITTEN_FILES,
    PipelineChange,
    escape_runner_commands,
    format_names,
)
from kiwari_ci.commands.diff.containers import StackPair
from kiwari_ci.commands.diff.matching import NameMatches, Responsibilities, ResponsibleJob
from kiwari_ci.commands.diff.snapshot import PipelineSnapshot
from kiwari_ci.plan_model import EnvFile, Plan, Takeover
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.compose_file import ComposeProject, ComposeService
from kiwari_ci.readers.compose_of_today import find_project_of_examples
from kiwari_ci.readers.env_file import EnvExample
from kiwari_ci.readers.file_sets import FileSet
from kiwari_ci.readers.image_reference import parse_image_reference
from kiwari_ci.readers.yaml_document import as_dict, as_inline_code, iter_strings
from kiwari_ci.rendering.render import DRIFT_WORKFLOW_PATH

# Compose knows the name of the project, wherever it comes from.
_PROJECT_VARIABLE = re.compile(r"\$\{COMPOSE_PROJECT_NAME(?::?[-?][^}]*)?\}|\$COMPOSE_PROJECT_NAME\b")


@dataclass(frozen=True)
class DiffResult:
    """What was compared, every change, and the files that were not read, with the reasons.

    It `is_first` if no generated pipeline is there yet. `is_repeated`: all generated files were there already, as the
    spec generates them, so that the comparison shows nothing of what they changed.
    """

    before: str
    changes: tuple[PipelineChange, ...]
    skipped: tuple[tuple[str, str], ...]
    is_first: bool = False
    is_repeated: bool = False


def compare_pipelines(before: FileSet, plan: Plan, after: dict[str, str], checkout: FileSet) -> DiffResult:
    """Compare files with those that a plan generates, which are `after`.

    `checkout` has the files that stay, because nobody deletes them; it is `before` unless that is a git ref.
    """
    old = snapshot.build_snapshot(before, plan.repository)
    remaining = old if checkout is before else snapshot.build_snapshot(checkout, plan.repository)
    new = snapshot.build_snapshot(FileSet("generated", dict(after)), plan.repository, remaining)
    planned_names = matching.get_planned_names(plan)
    changes = list(_compare_snapshots(old, new, remaining, plan, planned_names))
    changes += manual_steps.compare_manual_steps(before, plan, after, new, planned_names)
    skipped = sorted(
        (escape_runner_commands(path), escape_runner_commands(reason))
        for path, reason in {**remaining.skipped, **old.skipped}.items()
    )
    compared_paths = {*new.workflows, *new.stacks, *(after.keys() & before.files.keys())}
    return DiffResult(
        escape_runner_commands(before.name),
        tuple(_merge_and_sort(changes)),
        tuple(skipped),
        is_first=not old.generated,
        is_repeated=old.generated and all(before.files.get(path) == after[path] for path in compared_paths),
    )


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
    still_done = matching.collect_effects(new)
    kept_jobs = {
        path: matching.list_kept_jobs(workflow, old_roles, still_done)
        for path, workflow in old.workflows.items()
        if path in old_roles.involved() and not workflow.generated
    }
    changes = [
        *workflow_changes.compare_responsibilities(old_roles, new_roles, plan, still_done),
        *github_settings.compare_github_settings(old, new, old_roles.involved(), kept_jobs),
    ]
    pairs = _pair_stacks(old, new, names, planned_names, old_roles, plan)
    for pair in pairs:
        changes += containers.compare_stacks(pair, names, planned_names)
        if pair.before.path != pair.after.path and not pair.before.generated:
            changes.append(_describe_new_folder(pair))
    changes += _find_unpaired_stacks(old, new, pairs, names, planned_names, plan)
    changes += _find_uncompared_containers(old, pairs, plan)
    changes += _compare_env_files(old, new, pairs, names, planned_names)
    yield from changes
    explained = [pair for change in changes for pair in change.pairs]
    for path, workflow in new.workflows.items():
        if path in old.workflows and old.workflows[path].generated:
            old_document = old.workflows[path].parsed.document
            yield from other_changes.find_other_changes(old_document, workflow.parsed.document, explained)
    yield from _find_unpaired_workflows(old, new, old_roles.involved() | new_roles.involved())
    remaining_roles = _assign_handwritten_responsibilities(remaining, new, planned_names)
    compared_paths = {pair.before.path for pair in pairs}
    yield from remaining_files.find_remaining_files(
        old, new, remaining, old_roles, remaining_roles, names, compared_paths
    )


def _find_uncompared_containers(old: PipelineSnapshot, pairs: list[StackPair], plan: Plan) -> Iterator[PipelineChange]:
    """Report the containers of a takeover of which no Compose file was compared with their environment.

    An environment may be two stacks today, or share its Compose file with another environment; one file is compared.
    """
    for takeover in plan.takeovers:
        compared_paths = [pair.before.path for pair in pairs if pair.subject == takeover.environment]
        compared_names = {name for path in compared_paths for name in _list_container_names(old.stacks[path])}
        missing_names = {container.today for container in takeover.containers} - compared_names
        files = [
            stack
            for stack in old.stacks.values()
            if missing_names & _list_container_names(stack)
            and not stack.generated
            and vocabulary.classify_environment(stack.path) != vocabulary.DEVELOPMENT
        ]
        if files:
            known_names = {name for stack in files for name in missing_names & _list_container_names(stack)}
            paths = " or ".join(as_inline_code(stack.path) for stack in files)
            message = (
                f"today's containers {format_names(sorted(known_names), 20)} were not compared: their Compose file may "
                f"be {paths}. Compare their volumes, networks, ports and labels yourself"
            )
            yield PipelineChange(takeover.environment, message, True, files[0].path, stage="before", is_dangerous=True)


def _list_container_names(stack: ComposeProject) -> set[str]:
    """The names that a Compose file gives its containers."""
    return {service.container for service in stack.services.values() if service.container}


def _assign_handwritten_responsibilities(
    remaining: PipelineSnapshot, new: PipelineSnapshot, planned_names: NameMatches
) -> Responsibilities:
    """Who builds and deploys what among the hand-written workflows that nobody deletes."""
    workflows = {path: workflow for path, workflow in remaining.workflows.items() if not workflow.generated}
    handwritten = PipelineSnapshot(remaining.name, workflows, remaining.stacks)
    names = matching.match_names(handwritten, new, planned_names)
    return matching.assign_responsibilities(handwritten, names, planned_names)


def _pair_stacks(
    old: PipelineSnapshot,
    new: PipelineSnapshot,
    names: NameMatches,
    planned_names: NameMatches,
    old_roles: Responsibilities,
    plan: Plan,
) -> list[StackPair]:
    """Each new stack with the old one that it replaces, if there is one; the one of the same path comes first."""
    pairs = []
    for after in new.stacks.values():
        subject = planned_names.environment(after.folder_name)
        is_environment = after.folder_name in planned_names.stacks
        candidates = [
            stack for stack in old.stacks.values() if _is_same_stack(stack, after, subject, names, is_environment)
        ]
        if not candidates:
            continue
        before = next((stack for stack in candidates if stack.path == after.path), candidates[0])
        examples = [example for example in new.examples.values() if example.folder == after.folder]
        keys = frozenset(key for example in examples for key in example.values) | _list_planned_keys(plan, subject)
        project = find_project_of_examples(old.examples.values(), vocabulary.classify_environment(subject))
        project_variable = project.value if project else ""
        deploys = old_roles.deploys.get(subject, [])
        project_today = _find_project_today(before, after, deploys, _get_takeover(plan, subject), project_variable)
        before = _fill_in_project(before, project_today)
        successors = {} if before.generated else _map_successors(plan, subject)
        sent = [env_file for stack in plan.stacks if stack.environment == subject for env_file in stack.sent]
        sent_files = frozenset(env_file.name for env_file in sent)
        takeover = _get_takeover(plan, subject)
        pair = StackPair(
            subject,
            before,
            after,
            keys,
            sent_files,
            _list_keys(sent),
            project_today,
            successors,
            folder_today=takeover.folder if takeover and not before.generated else "",
            stays_in_folder=takeover is not None and takeover.has_same_folder,
            stopped_by_hand=_list_stopped_by_hand(takeover),
        )
        pairs.append(pair)
    return pairs


def _describe_new_folder(pair: StackPair) -> PipelineChange:
    """A generated stack that takes the place of a hand-written one is new on the server."""
    folder = pair.after.folder.rpartition("/")[2]
    message = f"its folder {as_inline_code(pair.after.folder)} must be on the server"
    return PipelineChange(
        pair.subject,
        message,
        True,
        pair.after.path,
        stage="before",
        summary=COPY_FOLDERS,
        item=as_inline_code(folder),
    )


def _get_takeover(plan: Plan, environment: str) -> Takeover | None:
    """What `takeover` of an environment says; None for an environment without one, and for a database."""
    return next((takeover for takeover in plan.takeovers if takeover.environment == environment), None)


def _list_stopped_by_hand(takeover: Takeover | None) -> frozenset[str]:
    """The new containers whose predecessors a person stops before the deploy."""
    return frozenset(container.container for container in takeover.stopped_by_hand) if takeover else frozenset()


def _fill_in_project(stack: ComposeProject, project: str) -> ComposeProject:
    """A stack whose networks and volumes have the name of its project in place of `${COMPOSE_PROJECT_NAME}`."""
    if not project:
        return stack
    rest = dict(stack.rest)
    for section in ("networks", "volumes"):
        for key, options in as_dict(stack.rest.get(section)).items():
            name = as_dict(options).get("name")
            if isinstance(name, str) and "COMPOSE_PROJECT_NAME" in name:
                filled_name = _PROJECT_VARIABLE.sub(lambda _: project, name)
                rest[section] = {**as_dict(rest[section]), key: {**as_dict(options), "name": filled_name}}
    return replace(stack, rest=rest)


def _map_successors(plan: Plan, environment: str) -> dict[str, str]:
    """The containers of an environment by those of today that they follow, as `takeover` in the spec has them."""
    takeover = _get_takeover(plan, environment)
    containers = takeover.containers if takeover else ()
    return {container.today: container.container for container in containers}


def _list_planned_keys(plan: Plan, environment: str) -> frozenset[str]:
    """The keys of the env files of an environment; a deploy may write them, and then they have no example."""
    stacks = [stack for stack in plan.stacks if stack.environment == environment]
    return _list_keys(env_file for stack in stacks for env_file in (*stack.env_files, *stack.sent))


def _list_keys(env_files: Iterable[EnvFile]) -> frozenset[str]:
    sections = [section for env_file in env_files for section in env_file.groups]
    return frozenset(line.key for section in sections for line in section.lines)


def _find_project_today(
    before: ComposeProject,
    after: ComposeProject,
    deploys: list[ResponsibleJob],
    takeover: Takeover | None,
    project_variable: str,
) -> str:
    """The Compose project of a hand-written stack; empty if neither the spec nor the files show one.

    The spec knows best. A deploy with `-p`, COMPOSE_PROJECT_NAME, the file's `name` and the folder of the deploy on the
    server follow, in the order in which Compose takes them. A file that stays where it is belongs to a stack that stays
    where it is.
    """
    if before.generated:
        return before.name
    if takeover and takeover.project:
        return takeover.project
    file_name = before.path.rpartition("/")[2]
    effects = [
        effect for _, _, effect in deploys if effect.kind == "deploy" and matching.is_deploy_of_file(effect, file_name)
    ]
    named_projects = {effect.project for effect in effects if effect.project} or set(filter(None, [project_variable]))
    folders = {effect.what.partition("\n")[0] for effect in effects}
    stays_in_place = not folders and before.path == after.path
    if before.document.data.get("name") or stays_in_place:
        folders = {before.name}
    projects = named_projects or folders
    project = projects.pop() if len(projects) == 1 else ""
    return project if re.fullmatch(r"[a-z0-9][a-z0-9_-]*", project) else ""


def _is_same_stack(
    before: ComposeProject, after: ComposeProject, subject: str, names: NameMatches, is_environment: bool
) -> bool:
    """Whether a stack becomes another one; the Compose file of an environment is chosen by `match_names`.

    The folder's name is the name of a hand-written stack, so several files of a folder share it.
    """
    if before.path in (after.path, names.shared_files.get(subject)):
        return True
    environment = names.stacks.get(before.folder_name if before.generated else before.path)
    return environment == subject if environment or is_environment else _is_same_database(before, after)


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
    plan: Plan,
) -> Iterator[PipelineChange]:
    """Report stacks that only one side has."""
    sent_folders = {stack.source_folder for stack in plan.stacks if stack.pushed}
    old_paths, new_paths = {pair.before.path for pair in pairs}, {pair.after.path for pair in pairs}
    for path, stack in new.stacks.items():
        if path not in new_paths:
            deploy_key = ", and the deploy key must name it" if stack.folder_name in planned_names.stacks else ""
            message = f"new stack {as_inline_code(stack.name)} with {_format_containers(stack)}"
            message += f": its folder must be on the server{deploy_key}"
            is_sent = stack.folder_name in sent_folders
            yield PipelineChange(
                planned_names.environment(stack.folder_name),
                message,
                True,
                path,
                (("", stack.name),),
                stage="change" if is_sent else "before",
                summary="each deploy sends these folders of `deploy/`" if is_sent else COPY_FOLDERS,
                item=as_inline_code(stack.folder_name),
            )
    for path, stack in old.stacks.items():
        if stack.generated and path not in old_paths:
            message = f"stack {as_inline_code(stack.name)} is gone: {_format_containers(stack)} run on"
            message += " until they are removed by hand"
            yield PipelineChange(names.environment(stack.folder_name), message, True, path, ((stack.name, ""),))


def _format_containers(stack: ComposeProject) -> str:
    return ", ".join(as_inline_code(service.container or service.key) for service in stack.services.values())


def _compare_env_files(
    old: PipelineSnapshot,
    new: PipelineSnapshot,
    pairs: list[StackPair],
    names: NameMatches,
    planned_names: NameMatches,
) -> Iterator[PipelineChange]:
    pairs_by_folder = {pair.after.folder: pair for pair in pairs}
    compared_paths: set[str] = set()
    for path, after in new.examples.items():
        stack = _find_folder_stack(new, after.folder)
        subject = planned_names.environment(stack.folder_name) if stack else after.folder
        before = old.examples.get(path)
        pair = pairs_by_folder.get(after.folder)
        if not before and pair:
            before = _find_handwritten_example(old, pair.before)
        compared_paths.add(before.path if before else "")
        known_keys = _list_known_keys(new, after.folder)
        moved_keys = containers.list_moved_variables(pair, names, planned_names) if pair else frozenset()
        yield from env_files.compare_env_examples(subject, before, after, known_keys, moved_keys)
    for path, before in old.examples.items():
        stack = _find_folder_stack(new, before.folder)
        if before.generated and path not in compared_paths and stack:
            env_file = path.removesuffix(".example").rpartition("/")[2]
            is_read = any(_reads_env_file(service, env_file) for service in _list_folder_services(new, before.folder))
            state = "written by each deploy, from GitHub" if is_read else "no longer read"
            message = f"the env file that {as_inline_code(path)} shows is {state}"
            yield PipelineChange(planned_names.environment(stack.folder_name), message, False, path)


def _list_known_keys(new: PipelineSnapshot, folder: str) -> frozenset[str]:
    """The keys that a stack's env files, its Compose file or a generated workflow sets."""
    keys = {key for example in new.examples.values() if example.folder == folder for key in example.values}
    for service in _list_folder_services(new, folder):
        keys |= as_dict(service.attributes.get("environment")).keys()
    for workflow in new.workflows.values():
        for _, text in iter_strings(workflow.parsed.document.data):
            keys |= set(re.findall(r"\b[A-Z][A-Z0-9_]*\b", text))
    return frozenset(keys)


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
            message = f"new workflow: runs {workflow_changes.describe_triggers(workflow.parsed)}"
            is_drift_check = path == DRIFT_WORKFLOW_PATH
            yield PipelineChange(
                workflow.parsed.name,
                message,
                False,
                path,
                summary=EVERY_ADOPTION if is_drift_check else "",
                item="each pull request checks that the generated files match the spec",
            )
    for path, workflow in old.workflows.items():
        if workflow.generated and path not in new.workflows:
            triggers = workflow_changes.describe_triggers(workflow.parsed)
            message = f"workflow {as_inline_code(path)} is gone: nothing runs {triggers} by it"
            yield PipelineChange(workflow.parsed.name, message, True, path)


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
    for subject in sorted(subjects, key=lambda name: (name != HANDWRITTEN_FILES, not risky_counts[name])):
        subject_changes = [change for change in merged.values() if change.subject == subject]
        yield from sorted(subject_changes, key=lambda change: not change.risky)


def _sanitize_change(change: PipelineChange) -> PipelineChange:
    """Escape what a file may have put into the texts; the pairs are not needed any more."""
    return replace(
        change,
        subject=escape_runner_commands(change.subject),
        words=escape_runner_commands(change.words),
        where=escape_runner_commands(change.where),
        part=escape_runner_commands(change.part),
        item=escape_runner_commands(change.item),
        pairs=(),
    )
