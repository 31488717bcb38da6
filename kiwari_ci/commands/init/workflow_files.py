"""GitHub workflows that are there already: what starts them, and each of their jobs with each of its matrix."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from kiwari_ci.commands.init.rendered_env import find_folder_in_repository
from kiwari_ci.commands.init.workflow_jobs import (
    DetectedWorkflows,
    JobStart,
    WorkflowJobReader,
    WorkflowTrigger,
    exclude_from_trigger,
    narrow_trigger,
)
from kiwari_ci.readers.called_scripts import ScriptFinder
from kiwari_ci.readers.compose_file import COMPOSE_FILE_PATH
from kiwari_ci.readers.repository import LocalRepository, get_parent_folder
from kiwari_ci.readers.workflow import ReferenceContext
from kiwari_ci.readers.workflow_calls import (
    fill_in_call_values,
    fill_in_called_document,
    fill_in_ref_choices,
    find_environment_condition,
    never_runs,
)
from kiwari_ci.readers.workflow_matrix import expand_matrix, list_matrix_values
from kiwari_ci.readers.yaml_document import (
    UnreadableYaml,
    YamlDocument,
    YamlMapping,
    YamlSequence,
    collect_strings,
    format_scalar,
    parse_yaml_document,
)

_WORKFLOW_PATH = r"\.github/workflows/[^/]+\.ya?ml"
_LONG_INPUTS = "github.event.inputs."  # the same inputs, as older workflows name them
_ACTION_PATH = r"(?:.*/)?action\.ya?ml"


def read_workflows(repository: LocalRepository) -> DetectedWorkflows:
    """Read .github/workflows; those that kiwari-ci wrote are left out."""
    detected = DetectedWorkflows()
    workflows: dict[str, YamlMapping] = {}
    for path in repository.matching(rf"{_WORKFLOW_PATH}|{_ACTION_PATH}"):
        try:
            document = parse_yaml_document(path, repository.read(path).replace(_LONG_INPUTS, "inputs."))
        except UnreadableYaml as error:
            repository.troubles.append(f"{error.describe(path)}: not read")
            continue
        if document.generated:
            continue
        detected.documents[path] = document
        if re.fullmatch(_WORKFLOW_PATH, path):
            workflows[path] = document.data
    detected.files = list(workflows)
    context = ReferenceContext(detected.documents, repository.slug[0] if repository.slug else "")
    reader = _WorkflowReader(repository, detected, workflows)
    for path, workflow in workflows.items():
        if _is_only_called(path, workflows):
            continue
        trigger = _resolve_trigger(path, workflows)
        for chosen, chosen_trigger in _list_choices(workflow, trigger):
            reader.read_jobs(path, chosen, chosen_trigger, JobStart(path), context)
    for place in dict.fromkeys(detected.bakes):
        repository.troubles.append(f"{place}: builds with docker bake: its file, docker-bake.hcl, is not read")
    for place, reason in reader.finder.unread.items():
        repository.troubles.append(f"{place}: {reason}: not read")
    return detected


def list_written_variables(repository: LocalRepository, workflows: DetectedWorkflows) -> dict[str, str]:
    """The variables that deploys write into env files as plain text, if all of them write the same value.

    Compose reads the env file beside its own file, and those that a command names: another one in a folder without a
    Compose file does not count.
    """
    compose_folders = {get_parent_folder(path) for path in repository.matching(COMPOSE_FILE_PATH)} | {"."}
    texts: dict[str, set[str]] = {}
    for deploy in workflows.deploys:
        for variable in deploy.rendered_env:
            folder = find_folder_in_repository(variable, repository.folders) or "."
            if folder not in compose_folders and not variable.is_named:
                continue
            texts.setdefault(variable.key, set()).add(variable.text)
    return {key: min(values) for key, values in texts.items() if len(values) == 1 and "$" not in min(values)}


def describe_inputs(workflows: DetectedWorkflows) -> list[str]:
    """In words, what a person can set who starts a workflow by hand that builds, tests or deploys."""
    paths = [build.workflow for build in workflows.builds]
    paths += [steps.workflow for steps in workflows.tests]
    paths += [deploy.workflow for deploy in workflows.deploys]
    descriptions = []
    for path in dict.fromkeys(paths):
        workflow = workflows.documents[path].data
        inputs = workflow.get_mapping("on").get_mapping("workflow_dispatch").get_mapping("inputs")
        environments = " ".join(
            text for _, job in workflow.get_mapping("jobs").iter_mappings() for text in _list_environments(job)
        )
        for name, _, place in inputs.iter_entries():
            if not re.search(rf"\binputs\.{re.escape(name)}\b", environments):
                descriptions.append(f"{place}: the input {name}, which a person can set who starts the workflow")
    return descriptions


def _list_choices(workflow: YamlMapping, trigger: WorkflowTrigger) -> Iterator[tuple[YamlMapping, WorkflowTrigger]]:
    """A workflow as each of its events starts it: a person chooses the environment, and other events choose nothing.

    Where a person chooses no environment, the workflow as it is.
    """
    dispatch = workflow.get_mapping("on").get_mapping("workflow_dispatch")
    environments = [text for _, job in workflow.get_mapping("jobs").iter_mappings() for text in _list_environments(job)]
    for name, options in dispatch.get_mapping("inputs").iter_mappings():
        key = f"inputs.{name}"
        values = [format_scalar(option) for option, _ in options.list_items("options")]
        if not values or not any(re.search(rf"\b{re.escape(key)}\b", text) for text in environments):
            continue
        if trigger.branches or trigger.tags:
            yield fill_in_call_values(workflow, {key: ""}), replace(trigger, by_hand=False)
        by_hand = WorkflowTrigger(by_hand=True, paths=trigger.paths, where=trigger.where)
        for value in values:
            yield fill_in_call_values(workflow, {key: value}), by_hand
        return
    yield workflow, trigger


def _list_environments(job: YamlMapping) -> list[str]:
    return [text for text, _ in collect_strings(job.get("environment"))]


def _list_ref_choices(job: YamlMapping, trigger: WorkflowTrigger) -> Iterator[tuple[YamlMapping, WorkflowTrigger]]:
    """A job as each kind of ref starts it, if an expression chooses its environment by the branch or tag.

    A job whose environment is no such choice is one job.
    """
    condition = find_environment_condition(job)
    if not condition:
        yield job, trigger
        return
    narrowed = narrow_trigger(trigger, condition)
    tags_start_it = bool(trigger.tags) or "**" in trigger.branches
    if tags_start_it or not narrowed.tags:
        yield fill_in_ref_choices(job, condition, holds=True), narrowed
    yield fill_in_ref_choices(job, condition, holds=False), exclude_from_trigger(trigger, condition)


def _replace_steps(job: YamlMapping, steps: YamlSequence) -> YamlMapping:
    replaced = YamlMapping(job.path, job.line)
    for key, value, place in job.iter_entries():
        replaced.put(key, steps if key == "steps" else value, int(place.rpartition(":")[2]))
    return replaced


def _is_only_called(path: str, workflows: dict[str, YamlMapping]) -> bool:
    """Whether a workflow runs only where another one calls it; it is read there, with what the caller gives it."""
    is_called = any(calls_workflow(other, path) for other_path, other in workflows.items() if other_path != path)
    return is_called and _list_event_names(workflows[path]) == {"workflow_call"}


class _WorkflowReader:
    """Reads the jobs of workflows, and those of the workflows that they call."""

    def __init__(
        self, repository: LocalRepository, detected: DetectedWorkflows, workflows: dict[str, YamlMapping]
    ) -> None:
        self.repository = repository
        self.detected = detected
        self.workflows = workflows
        self.finder = ScriptFinder(repository)

    def read_jobs(
        self, path: str, workflow: YamlMapping, trigger: WorkflowTrigger, start: JobStart, context: ReferenceContext
    ) -> None:
        """Read each job, once for each combination of its matrix."""
        jobs = workflow.get_mapping("jobs")
        for name, job in jobs.iter_mappings():
            if context.depth and never_runs(job):
                continue
            called = self._find_called_workflow(job, context)
            if called:
                self._read_called_jobs(called, jobs, name, trigger, start, context)
                continue
            expanded = insert_action_steps(job, context)
            for chosen, chosen_trigger in _list_ref_choices(expanded, trigger):
                self._read_combinations(path, workflow, name, chosen, chosen_trigger, start)

    def _read_combinations(
        self, path: str, workflow: YamlMapping, name: str, job: YamlMapping, trigger: WorkflowTrigger, start: JobStart
    ) -> None:
        """Read a job once for each combination of its matrix."""
        for combination in expand_matrix(job.get_mapping("strategy").get_mapping("matrix")) or [{}]:
            WorkflowJobReader(
                self.repository, self.detected, path, workflow, name, job, trigger, combination, start, self.finder
            ).read()

    def _find_called_workflow(self, job: YamlMapping, context: ReferenceContext) -> YamlDocument | None:
        uses = job.get_text("uses")
        called = context.called(uses) if uses.startswith("./") else None
        return called if called and called.path in self.workflows else None

    def _read_called_jobs(
        self,
        called: YamlDocument,
        jobs: YamlMapping,
        name: str,
        trigger: WorkflowTrigger,
        start: JobStart,
        context: ReferenceContext,
    ) -> None:
        """Read the jobs of a called workflow as the calling job starts them."""
        job = jobs.get_mapping(name)
        start = replace(
            start,
            where=start.where or jobs.where(name),
            callers=(*start.callers, name, job.get_text("name"), jobs.path.rpartition("/")[2]),
        )
        trigger = narrow_trigger(trigger, job.get_text("if"))
        for values in list_matrix_values(job):
            document = fill_in_called_document(called, fill_in_call_values(job, values))
            self.read_jobs(called.path, document.data, trigger, start, context.deeper())


def insert_action_steps(job: YamlMapping, context: ReferenceContext) -> YamlMapping:
    """A job in which the steps of the repository's own actions stand behind the steps that use them."""
    steps = YamlSequence()
    for step, place in _iter_steps(job, context):
        path, _, line = place.rpartition(":")
        steps.append(step)
        steps.item_paths.append(path)
        steps.item_lines.append(int(line))
    return _replace_steps(job, steps)


def _iter_steps(job: YamlMapping, context: ReferenceContext) -> Iterator[tuple[Any, str]]:
    for step, place in job.list_items("steps"):
        if context.depth and isinstance(step, YamlMapping) and never_runs(step):
            continue
        yield step, place
        uses = step.get_text("uses") if isinstance(step, YamlMapping) else ""
        action = context.called(uses) if uses.startswith("./") else None
        if action:
            yield from _iter_steps(fill_in_called_document(action, step).data.get_mapping("runs"), context.deeper())


def _resolve_trigger(path: str, workflows: dict[str, YamlMapping]) -> WorkflowTrigger:
    """What starts a workflow; one that runs after others is started by what starts them, as far as it lets them."""
    workflow = workflows[path]
    trigger = _parse_trigger(workflow)
    after = workflow.get_mapping("on").get_mapping("workflow_run")
    if "workflow_run" not in _list_event_names(workflow):
        return trigger
    own_branches = [format_scalar(pattern) for pattern, _ in after.list_items("branches")]
    for other_path, other in workflows.items():
        if runs_after_workflow(workflow, other_path, other):
            branches = _parse_trigger(other).branches
            trigger.branches += own_branches if own_branches and branches else branches
    return trigger


def calls_workflow(workflow: YamlMapping, path: str) -> bool:
    """Whether a job of a workflow calls another workflow of the repository."""
    return any(job.get_text("uses") == f"./{path}" for _, job in workflow.get_mapping("jobs").iter_mappings())


def runs_after_workflow(workflow: YamlMapping, other_path: str, other: YamlMapping) -> bool:
    """Whether a workflow runs when another one has ended."""
    other_name = other.get_text("name") or other_path
    names = workflow.get_mapping("on").get_mapping("workflow_run").list_items("workflows")
    return any(format_scalar(name) == other_name for name, _ in names)


def _list_event_names(workflow: YamlMapping) -> set[str]:
    """The events of a workflow, which are a mapping, a list or one name."""
    events = workflow.get("on")
    if isinstance(events, YamlMapping):
        return set(events)
    return {format_scalar(event) for event, _ in workflow.list_items("on")}


def _parse_trigger(workflow: YamlMapping) -> WorkflowTrigger:
    event_names = _list_event_names(workflow)
    push = workflow.get_mapping("on").get_mapping("push")
    trigger = WorkflowTrigger(
        branches=[format_scalar(pattern) for pattern, _ in push.list_items("branches")],
        tags=[format_scalar(pattern) for pattern, _ in push.list_items("tags")],
        paths=[format_scalar(pattern) for pattern, _ in push.list_items("paths")],
        by_hand="workflow_dispatch" in event_names,
        pull_requests="pull_request" in event_names,
        where=workflow.where("on"),
    )
    if "push" in event_names and not trigger.branches and not trigger.tags:
        trigger.branches = ["**"]
    if "release" in event_names:
        trigger.tags.append("v*")
    return trigger
