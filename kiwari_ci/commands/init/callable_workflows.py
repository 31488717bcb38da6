"""Whether a workflow that tests can stay as it is, and be called by the generated ones."""

from enum import Enum
from typing import Any

from kiwari_ci.commands.init.workflow_jobs import DetectedWorkflows
from kiwari_ci.readers.yaml_document import YamlDocument, YamlMapping, collect_strings, format_scalar

_CALL_EVENT = "workflow_call"


class Callability(Enum):
    """Whether a test may name the workflow."""

    READY = "another workflow can call it"
    WITHOUT_TRIGGER = "it lacks the trigger `workflow_call`, and nothing else"
    UNFIT = "it builds, deploys, or needs something that the caller does not have"


def classify_callability(path: str, workflows: DetectedWorkflows) -> Callability:
    """Find out whether the generated workflows can call a workflow, with read access and without secrets or inputs."""
    document = workflows.documents[path]
    other_uses = [*(build.workflow for build in workflows.builds), *(deploy.workflow for deploy in workflows.deploys)]
    if path in other_uses or _needs_more_than_it_gets(document):
        return Callability.UNFIT
    return Callability.READY if _CALL_EVENT in _list_events(document.data) else Callability.WITHOUT_TRIGGER


def _list_events(workflow: YamlMapping) -> set[str]:
    events = workflow.get("on")
    if isinstance(events, YamlMapping):
        return set(events)
    return {format_scalar(event) for event, _ in workflow.list_items("on")}


def _needs_more_than_it_gets(document: YamlDocument) -> bool:
    """Whether it needs inputs, secrets or permissions, or would cancel the run that calls it.

    Two calls of a workflow with a concurrency group get in each other's way: the group is that of the caller.
    """
    workflow = document.data
    jobs = [job for _, job in workflow.get_mapping("jobs").iter_mappings()]
    call = workflow.get_mapping("on").get_mapping(_CALL_EVENT)
    has_inputs = any(value.get("required") for _, value in call.get_mapping("inputs").iter_mappings())
    has_concurrency = any(mapping.get("concurrency") is not None for mapping in (workflow, *jobs))
    has_permissions = any(needs_more_than_reading(mapping.get("permissions")) for mapping in (workflow, *jobs))
    texts = [text.replace("secrets.GITHUB_TOKEN", "") for text, _ in collect_strings(workflow.get("jobs"))]
    has_secrets = any("secrets." in text or text == "inherit" for text in texts)
    return has_inputs or has_concurrency or has_permissions or has_secrets


def needs_more_than_reading(permissions: Any) -> bool:
    """Whether permissions have a scope that the caller does not give, which makes GitHub refuse the call."""
    if permissions is None:
        return False
    if not isinstance(permissions, YamlMapping):
        return format_scalar(permissions) != ""
    return any(
        format_scalar(level) != "none" and (scope, format_scalar(level)) != ("contents", "read")
        for scope, level in permissions.items()
    )
