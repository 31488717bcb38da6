"""When a workflow runs, and which of it a job's `if` leaves: triggers, in words."""

import re
from collections.abc import Iterator
from typing import Any

from kiwari_ci.readers.yaml_document import YamlDocument, as_dict, as_inline_code, as_list

STATUS_FUNCTION = re.compile(
    r"\b(always|failure|cancelled)\(\)"
)  # of a job's `if`: it runs also when another was skipped
_EVENT_DESCRIPTIONS = {"workflow_dispatch": "by hand", "workflow_call": "when another workflow calls it"}


def parse_triggers(document: YamlDocument, on: Any) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """What starts a workflow, in words, and where; its path filters, by event."""
    found: dict[str, str] = {}
    filters: dict[str, tuple[str, ...]] = {}
    events = on if isinstance(on, dict) else {str(event): None for event in as_list(on)}
    for event, details in events.items():
        for words in _describe_event(event, details):
            found[words] = document.where("on", event)
        given = as_dict(details)
        patterns = [str(each) for each in as_list(given.get("paths"))]
        patterns += [f"!{each}" for each in as_list(given.get("paths-ignore"))]
        if patterns:
            filters[event] = tuple(patterns)
    return found, filters


def _describe_event(event: str, details: Any) -> Iterator[str]:
    given = as_dict(details)
    if event == "schedule":
        yield from (f"on the schedule {as_inline_code(as_dict(each).get('cron'))}" for each in as_list(details))
    elif event == "workflow_run":
        yield from (f"after {as_inline_code(name)}" for name in as_list(given.get("workflows")))
    elif event in ("push", "pull_request", "pull_request_target"):
        yield from _describe_refs(event.replace("_", " "), given)
    elif event in _EVENT_DESCRIPTIONS:
        yield _EVENT_DESCRIPTIONS[event]
    else:
        kinds = ", ".join(as_inline_code(each) for each in as_list(given.get("types")))
        yield f"on {as_inline_code(event)}" + (f" ({kinds})" if kinds else "")


def _describe_refs(event: str, given: dict[str, Any]) -> Iterator[str]:
    branches, tags = as_list(given.get("branches")), as_list(given.get("tags"))
    left_out = as_list(given.get("branches-ignore"))
    yield from (f"on {event} to {as_inline_code(branch)}" for branch in branches)
    yield from (f"on a tag {as_inline_code(tag)}" for tag in tags)
    if left_out:
        yield f"on {event} to any branch but {', '.join(map(as_inline_code, left_out))}"
    elif not branches and not tags:
        yield f"on {event}" + (" to any branch" if event == "push" else "")


def narrow_triggers(when: tuple[str, ...], condition: str) -> tuple[str, ...]:
    """The triggers that a job's `if` leaves, when it names a branch or tags plainly; all of them when it does not."""
    if "refs/tags" in condition and "!" not in condition:
        return tuple(each for each in when if " tag " in each) or when
    branch = re.search(r"==\s*'refs/heads/([^']+)'|ref_name\s*==\s*'([^']+)'", condition)
    if branch and "||" not in condition:
        name = as_inline_code(branch[1] or branch[2])
        pushes = [each for each in when if "pull request to" not in each]
        left = [each for each in pushes if each.endswith(f" {name}") or each == "by hand"]
        return tuple(left) or (f"on push to {name}",)
    if "pull_request" in condition and "!=" in condition:
        return tuple(each for each in when if "pull request" not in each) or when
    return when
