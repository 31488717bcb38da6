"""GitHub workflows that are there already: what starts them, and each of their jobs with each of its matrix."""

import itertools
from typing import Any

from kiwari_ci.commands.init.workflow_jobs import DetectedWorkflows, WorkflowTrigger, add_workflow_job
from kiwari_ci.readers.repository import LocalRepository
from kiwari_ci.readers.yaml_document import (
    UnreadableYaml,
    YamlMapping,
    YamlSequence,
    format_scalar,
    parse_yaml_document,
)


def read_workflows(repository: LocalRepository) -> DetectedWorkflows:
    """Read .github/workflows; those that kiwari-ci wrote are left out."""
    made = DetectedWorkflows()
    documents: dict[str, YamlMapping] = {}
    for path in repository.matching(r"\.github/workflows/[^/]+\.ya?ml"):
        try:
            document = parse_yaml_document(path, repository.read(path))
        except UnreadableYaml as error:
            repository.troubles.append(f"{error.describe(path)}: not read")
            continue
        if not document.generated:
            documents[path] = document.data
    by_name = {workflow.get_text("name") or path: workflow for path, workflow in documents.items()}
    for path, workflow in documents.items():
        made.files.append(path)
        trigger = _resolve_trigger(workflow, by_name, documents, path)
        for key, job in workflow.get_mapping("jobs").iter_mappings():
            for matrix in _expand_matrix(job):
                add_workflow_job(repository, made, path, workflow, key, trigger, matrix)
    return made


def _resolve_trigger(
    document: YamlMapping, by_name: dict[str, YamlMapping], documents: dict[str, YamlMapping], path: str
) -> WorkflowTrigger:
    made = _parse_trigger(document)
    events = document.get_mapping("on")
    if "workflow_run" in events:
        for name, _ in events.get_mapping("workflow_run").list_items("workflows"):
            if other := by_name.get(format_scalar(name)):
                made.branches += _parse_trigger(other).branches
    if "workflow_call" in events:
        for other in documents.values():
            if any(job.get_text("uses") == f"./{path}" for _, job in other.get_mapping("jobs").iter_mappings()):
                caller = _parse_trigger(other)
                made.branches, made.tags = made.branches + caller.branches, made.tags + caller.tags
                made.by_hand |= caller.by_hand
    return made


def _parse_trigger(document: YamlMapping) -> WorkflowTrigger:
    made = WorkflowTrigger(where=document.where("on"))
    events, named = document.get_mapping("on"), {format_scalar(item) for item, _ in document.list_items("on")}
    push = events.get_mapping("push")
    made.branches = [format_scalar(item) for item, _ in push.list_items("branches")]
    made.tags = [format_scalar(item) for item, _ in push.list_items("tags")]
    made.paths = [format_scalar(item) for item, _ in push.list_items("paths")]
    if ("push" in events or "push" in named) and not made.branches and not made.tags:
        made.branches = ["**"]
    if "release" in events or "release" in named:
        made.tags.append("v*")
    made.by_hand = "workflow_dispatch" in events or "workflow_dispatch" in named
    return made


def _expand_matrix(job: YamlMapping) -> list[dict[str, Any]]:
    """The combinations of a job's matrix, as far as they are written down; one without words when there is none."""
    matrix = job.get_mapping("strategy").get_mapping("matrix")
    axes = {
        key: list(value)[:20]
        for key, value in matrix.items()
        if isinstance(value, YamlSequence) and key not in ("include", "exclude")
    }
    made = [dict(zip(axes, values, strict=True)) for values in itertools.islice(itertools.product(*axes.values()), 40)]
    included = [dict(item) for item, _ in matrix.list_items("include") if isinstance(item, YamlMapping)]
    for more in included[:40]:
        same = [
            each
            for each in made
            if axes and all(each.get(key, value) == value for key, value in more.items() if key in axes)
        ]
        for each in same:
            each.update(more)
        made += [] if same and set(more) & set(axes) else [more]
    return [each for each in made if each or len(made) == 1] or [{}]
