"""When a workflow runs, and which of it a job's `if` leaves: triggers, in words."""

import re
from collections.abc import Iterator
from typing import Any

from kiwari_ci.readers.yaml_document import Document, listed, mapped, shown

ALSO_THEN = re.compile(r"\b(always|failure|cancelled)\(\)")  # of a job's `if`: it runs also when another was skipped
_EVENTS = {"workflow_dispatch": "by hand", "workflow_call": "when another workflow calls it"}


def triggers(document: Document, on: Any) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """What starts a workflow, in words, and where; its path filters, by event."""
    found: dict[str, str] = {}
    filters: dict[str, tuple[str, ...]] = {}
    events = on if isinstance(on, dict) else {str(event): None for event in listed(on)}
    for event, details in events.items():
        for words in _event(event, details):
            found[words] = document.where("on", event)
        given = mapped(details)
        patterns = [str(each) for each in listed(given.get("paths"))]
        patterns += [f"!{each}" for each in listed(given.get("paths-ignore"))]
        if patterns:
            filters[event] = tuple(patterns)
    return found, filters


def _event(event: str, details: Any) -> Iterator[str]:
    given = mapped(details)
    if event == "schedule":
        yield from (f"on the schedule {shown(mapped(each).get('cron'))}" for each in listed(details))
    elif event == "workflow_run":
        yield from (f"after {shown(name)}" for name in listed(given.get("workflows")))
    elif event in ("push", "pull_request", "pull_request_target"):
        yield from _refs(event.replace("_", " "), given)
    elif event in _EVENTS:
        yield _EVENTS[event]
    else:
        kinds = ", ".join(shown(each) for each in listed(given.get("types")))
        yield f"on {shown(event)}" + (f" ({kinds})" if kinds else "")


def _refs(event: str, given: dict[str, Any]) -> Iterator[str]:
    branches, tags = listed(given.get("branches")), listed(given.get("tags"))
    left_out = listed(given.get("branches-ignore"))
    yield from (f"on {event} to {shown(branch)}" for branch in branches)
    yield from (f"on a tag {shown(tag)}" for tag in tags)
    if left_out:
        yield f"on {event} to any branch but {', '.join(map(shown, left_out))}"
    elif not branches and not tags:
        yield f"on {event}" + (" to any branch" if event == "push" else "")


def narrowed(when: tuple[str, ...], condition: str) -> tuple[str, ...]:
    """The triggers that a job's `if` leaves, when it names a branch or tags plainly; all of them when it does not."""
    if "refs/tags" in condition and "!" not in condition:
        return tuple(each for each in when if " tag " in each) or when
    branch = re.search(r"==\s*'refs/heads/([^']+)'|ref_name\s*==\s*'([^']+)'", condition)
    if branch and "||" not in condition:
        name = shown(branch[1] or branch[2])
        pushes = [each for each in when if "pull request to" not in each]
        left = [each for each in pushes if each.endswith(f" {name}") or each == "by hand"]
        return tuple(left) or (f"on push to {name}",)
    if "pull_request" in condition and "!=" in condition:
        return tuple(each for each in when if "pull request" not in each) or when
    return when
