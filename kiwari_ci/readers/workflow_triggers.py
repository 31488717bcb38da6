"""Describes the triggers of a workflow, and which of them a job's `if` leaves."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

from kiwari_ci.readers.yaml_document import YamlDocument, as_dict, as_inline_code, as_list

# A job whose `if` calls one of these runs also when a job that it needs was skipped.
STATUS_FUNCTION = re.compile(r"\b(always|failure|cancelled)\(\)")
_BRACKET_DEPTHS = {"(": 1, ")": -1}
_EVENT_CONDITION = re.compile(r"\s*github\.event_name\s*==\s*'(\w+)'\s*")
_EXCLUDES_PULL_REQUESTS = re.compile(r"github\.event_name\s*!=\s*'pull_request(?:_target)?'")
CALLED = "when another workflow calls it"
_EVENT_DESCRIPTIONS = {"workflow_dispatch": "by hand", "workflow_call": CALLED}
_DESCRIPTION_BEGINNINGS = _EVENT_DESCRIPTIONS | {"schedule": "on the schedule", "workflow_run": "after "}


def parse_triggers(document: YamlDocument, on: Any) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """The triggers of a workflow, each with its place; and its path filters, by event."""
    triggers: dict[str, str] = {}
    filters: dict[str, tuple[str, ...]] = {}
    events = on if isinstance(on, dict) else {str(event): None for event in as_list(on)}
    for event, details in events.items():
        for description in _describe_event(event, details):
            triggers[description] = document.where("on", event)
        options = as_dict(details)
        patterns = [str(path) for path in as_list(options.get("paths"))]
        patterns += [f"!{path}" for path in as_list(options.get("paths-ignore"))]
        if patterns:
            filters[event] = tuple(patterns)
    return triggers, filters


def _describe_event(event: str, details: Any) -> Iterator[str]:
    options = as_dict(details)
    if event == "schedule":
        for schedule in as_list(details):
            yield f"on the schedule {as_inline_code(as_dict(schedule).get('cron'))}"
    elif event == "workflow_run":
        for name in as_list(options.get("workflows")):
            yield f"after {as_inline_code(name)}"
    elif event in ("push", "pull_request", "pull_request_target"):
        yield from _describe_refs(event.replace("_", " "), options)
    elif event in _EVENT_DESCRIPTIONS:
        yield _EVENT_DESCRIPTIONS[event]
    else:
        types = ", ".join(as_inline_code(event_type) for event_type in as_list(options.get("types")))
        yield f"on {as_inline_code(event)} ({types})" if types else f"on {as_inline_code(event)}"


def _describe_refs(event: str, options: dict[str, Any]) -> Iterator[str]:
    """The branches and tags of a push or a pull request."""
    branches = as_list(options.get("branches"))
    tags = as_list(options.get("tags"))
    ignored_branches = as_list(options.get("branches-ignore"))
    for branch in branches:
        yield f"on {event} to {as_inline_code(branch)}"
    for tag in tags:
        yield f"on a tag {as_inline_code(tag)}"
    if ignored_branches:
        yield f"on {event} to any branch but {', '.join(map(as_inline_code, ignored_branches))}"
    elif not branches and not tags:
        yield f"on {event} to any branch" if event == "push" else f"on {event}"


def narrow_triggers(triggers: tuple[str, ...], condition: str) -> tuple[str, ...]:
    """The triggers that a job's `if` leaves, when it names a branch or tags plainly; all of them when it does not."""
    for term in split_conjunction(condition):
        triggers = _narrow_by_term(triggers, term)
    return triggers


def runs_on_pull_requests(condition: str) -> bool:
    """Whether a condition lets a job run on pull requests, if its workflow does."""
    return "on pull request" in narrow_triggers(("on push to any branch", "on pull request"), condition)


def split_conjunction(condition: str) -> list[str]:
    """The terms of a condition that must all be true; one that has alternatives is a single term."""
    if len(split_alternatives(condition)) > 1:
        return [condition]
    return _split_outside_brackets(condition, "&&")


def split_alternatives(condition: str) -> list[str]:
    """The terms of a condition of which one must be true."""
    return _split_outside_brackets(condition, "||")


def _split_outside_brackets(condition: str, operator: str) -> list[str]:
    """The terms between an operator, outside of quotes and of brackets that do not enclose all of it."""
    tokens = _remove_outer_brackets(re.findall(r"'[^']*'|&&|\|\||[()]|[^'&|()]+|[&|]", condition.strip()))
    terms = [""]
    depth = 0
    for token in tokens:
        if token == operator and depth == 0:
            terms.append("")
            continue
        depth += _BRACKET_DEPTHS.get(token, 0)
        terms[-1] += token
    return [term.strip() for term in terms]


def _remove_outer_brackets(tokens: list[str]) -> list[str]:
    """The tokens inside of the brackets that enclose all of them, if there are such."""
    depths = list(itertools.accumulate(_BRACKET_DEPTHS.get(token, 0) for token in tokens))
    is_enclosed = tokens[:1] == ["("] and depths[-1] == 0 and 0 not in depths[:-1]
    return tokens[1:-1] if is_enclosed else tokens


def exclude_triggers(triggers: tuple[str, ...], condition: str) -> tuple[str, ...]:
    """The triggers that a condition of the branch or tag does not leave; all of them when it names none plainly."""
    narrowed = narrow_triggers(triggers, condition)
    return tuple(trigger for trigger in triggers if trigger not in narrowed) or triggers


def _narrow_by_term(triggers: tuple[str, ...], condition: str) -> tuple[str, ...]:
    """The triggers of all alternatives of a term; all triggers when one of the alternatives says nothing of them."""
    alternatives = [_select_triggers(triggers, alternative) for alternative in split_alternatives(condition)]
    if any(selected is None for selected in alternatives):
        return triggers
    selected_triggers = [trigger for selected in alternatives for trigger in selected or ()]
    remaining = [trigger for trigger in triggers if trigger in selected_triggers]
    return tuple(remaining or dict.fromkeys(selected_triggers)) or triggers


def _select_triggers(triggers: tuple[str, ...], condition: str) -> tuple[str, ...] | None:
    """The triggers for which a condition without alternatives may hold; None when it does not say."""
    event = _EVENT_CONDITION.fullmatch(condition)
    if event:
        return tuple(trigger for trigger in triggers if is_trigger_of_event(trigger, event[1]))
    if "refs/tags" in condition and "!" not in condition:
        return tuple(trigger for trigger in triggers if " tag " in trigger)
    branch = re.search(r"==\s*'refs/heads/([^']+)'|ref_name\s*==\s*'([^']+)'", condition)
    if branch:
        return _narrow_to_branch(triggers, as_inline_code(branch[1] or branch[2]))
    if _EXCLUDES_PULL_REQUESTS.search(condition):
        return tuple(trigger for trigger in triggers if "pull request" not in trigger)
    return None


def is_trigger_of_event(trigger: str, event: str) -> bool:
    """Whether a trigger, as it is described, is one of an event; a tag is a push, too."""
    if event == "push":
        return trigger.startswith(("on push", "on a tag"))
    if event in ("pull_request", "pull_request_target"):
        description = f"on {event.replace('_', ' ')}"
        return trigger == description or trigger.startswith(f"{description} to ")
    return trigger.startswith(_DESCRIPTION_BEGINNINGS.get(event, f"on {as_inline_code(event)}"))


def _narrow_to_branch(triggers: tuple[str, ...], branch: str) -> tuple[str, ...]:
    """The triggers of a branch, and starts by hand; without any, the push that the condition asks for."""
    remaining = []
    for trigger in triggers:
        is_for_branch = trigger.endswith(f" {branch}") and "pull request to" not in trigger
        if is_for_branch or trigger == "by hand":
            remaining.append(trigger)
    return tuple(remaining) or (f"on push to {branch}",)
