"""GitHub workflows that are there already: what starts them, and each of their jobs with each of its matrix."""

import re

from kiwari_ci.commands.init.workflow_jobs import DetectedWorkflows, WorkflowJobReader, WorkflowTrigger
from kiwari_ci.readers.repository import LocalRepository
from kiwari_ci.readers.workflow_matrix import expand_matrix
from kiwari_ci.readers.yaml_document import (
    UnreadableYaml,
    YamlMapping,
    format_scalar,
    parse_yaml_document,
)

_WORKFLOW_PATH = r"\.github/workflows/[^/]+\.ya?ml"
_ACTION_PATH = r"(?:.*/)?action\.ya?ml"


def read_workflows(repository: LocalRepository) -> DetectedWorkflows:
    """Read .github/workflows; those that kiwari-ci wrote are left out."""
    detected = DetectedWorkflows()
    workflows: dict[str, YamlMapping] = {}
    for path in repository.matching(rf"{_WORKFLOW_PATH}|{_ACTION_PATH}"):
        try:
            document = parse_yaml_document(path, repository.read(path))
        except UnreadableYaml as error:
            repository.troubles.append(f"{error.describe(path)}: not read")
            continue
        if document.generated:
            continue
        detected.documents[path] = document
        if re.fullmatch(_WORKFLOW_PATH, path):
            workflows[path] = document.data
    detected.files = list(workflows)
    for path, workflow in workflows.items():
        trigger = _resolve_trigger(path, workflows)
        for key, job in workflow.get_mapping("jobs").iter_mappings():
            matrix = job.get_mapping("strategy").get_mapping("matrix")
            for combination in expand_matrix(matrix) or [{}]:
                WorkflowJobReader(repository, detected, path, workflow, key, trigger, combination).read()
    return detected


def _resolve_trigger(path: str, workflows: dict[str, YamlMapping]) -> WorkflowTrigger:
    """What starts a workflow; one that others start runs when they do."""
    workflow = workflows[path]
    trigger = _parse_trigger(workflow)
    events = _list_event_names(workflow)
    if "workflow_run" in events:
        for other_path, other in workflows.items():
            if runs_after_workflow(workflow, other_path, other):
                trigger.branches += _parse_trigger(other).branches
    if "workflow_call" in events:
        for other in workflows.values():
            if calls_workflow(other, path):
                caller = _parse_trigger(other)
                trigger.branches += caller.branches
                trigger.tags += caller.tags
                trigger.by_hand |= caller.by_hand
                trigger.pull_requests |= caller.pull_requests
    return trigger


def list_started_workflows(path: str, detected: DetectedWorkflows) -> list[str]:
    """The workflows that events start, and that so run a workflow: itself, or those that call it."""
    events = _list_event_names(detected.documents[path].data)
    started = [path] if events - {"workflow_call"} else []
    callers = [other for other in detected.files if calls_workflow(detected.documents[other].data, path)]
    return [*started, *callers]


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
