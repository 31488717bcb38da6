"""Compares two versions of one generated workflow value by value, and reports what no other change explains."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from kiwari_ci.commands.diff.change import PipelineChange, redact_secrets
from kiwari_ci.problems import join_with_limit
from kiwari_ci.readers.yaml_document import YamlDocument, as_dict, as_inline_code

LeafPath = tuple[str, ...]
MAX_MESSAGES = 8  # of one step, job or section
_UNORDERED_KEYS = {
    "branches",
    "tags",
    "paths",
    "needs",
    "types",
    "branches-ignore",
    "tags-ignore",
    "paths-ignore",
    "runs-on",
}
_RISKY_CHANGE = re.compile(
    r"\bgone\b|`if`|`needs|permissions|`on\.|`environment|continue-on-error|persist-credentials|another order"
)
_SETTING_EXPRESSION = re.compile(r"\$\{\{\s*(?:secrets|vars)\.(\w+)\s*\}\}")
_PUNCTUATION = re.compile(r"[\s/!*|'\"\\,:+-]+")


def find_other_changes(
    before: YamlDocument, after: YamlDocument, explained: Iterable[tuple[str, str]]
) -> Iterator[PipelineChange]:
    """Report what the explained texts leave over: one change for each step, job or section."""
    old, new = dict(_iter_leaves(before.data)), dict(_iter_leaves(after.data))
    pairs = sorted(set(explained), key=lambda pair: -len(pair[0] + pair[1]))
    messages: dict[LeafPath, list[str]] = {}
    for key in dict.fromkeys([*old, *new]):
        if _is_reported_difference(key, old, new, pairs):
            location, message = _describe_difference(key, old.get(key), new.get(key))
            job_key = ("jobs", key[1]) if location else ()
            if location and not _exists_on_both_sides(job_key, old, new):
                is_new_job = not any(_starts_with(other_key, job_key) for other_key in old)
                location, message = location[:1], "new job" if is_new_job else "this job is gone"
            messages.setdefault(location, []).append(message)
    workflow_name = after.path.rpartition("/")[2].rpartition(".")[0]
    for location, location_messages in messages.items():
        text = _join_messages(location, location_messages)
        is_risky = _RISKY_CHANGE.search("; ".join(location_messages)) is not None
        yield PipelineChange(workflow_name, text, is_risky, _locate_difference(after, location))


def _is_reported_difference(
    key: LeafPath, old: dict[LeafPath, str], new: dict[LeafPath, str], pairs: list[tuple[str, str]]
) -> bool:
    """Whether a value differs, and nothing else that is reported explains it."""
    before, after = old.get(key), new.get(key)
    if before == after or _is_explained(key, before, after, pairs):
        return False
    if _is_empty_container(key, before, new) or _is_empty_container(key, after, old):
        return False
    step = _parse_step_path(key)
    return not step or _exists_on_both_sides(step, old, new)


def _join_messages(location: LeafPath, messages: list[str]) -> str:
    distinct_messages = list(dict.fromkeys(messages))
    text = "; ".join(distinct_messages[:MAX_MESSAGES])
    if len(distinct_messages) > MAX_MESSAGES:
        text += f"; and {len(distinct_messages) - MAX_MESSAGES} more"
    return f"{' '.join(location)}: {text}" if location else text


def _starts_with(key: LeafPath, start: LeafPath) -> bool:
    return key[: len(start)] == start


def _is_empty_container(key: LeafPath, text: str | None, other_side: dict[LeafPath, str]) -> bool:
    """Whether a mapping or list is empty on one side, and has entries, which are reported, on the other."""
    return text in ("{}", "[]") and any(_starts_with(other, key) and other != key for other in other_side)


def _parse_step_path(key: LeafPath) -> LeafPath:
    return key[:3] if len(key) > 2 and key[2].startswith("step ") else ()


def _exists_on_both_sides(start: LeafPath, old: dict[LeafPath, str], new: dict[LeafPath, str]) -> bool:
    """Whether a job or step is on both sides; one that is not is reported as a whole."""
    return all(any(_starts_with(key, start) for key in side) for side in (old, new))


def _iter_leaves(node: Any, key: LeafPath = ()) -> Iterator[tuple[LeafPath, str]]:
    """Every value with its path; the key of a step is its name, and that of an item in an unordered list is itself."""
    if isinstance(node, dict) and node:
        for name, child in node.items():
            yield from _iter_leaves(child, (*key, str(name)))
    elif isinstance(node, list) and key and key[-1] == "steps":
        names = list(_iter_step_names(node))
        yield (*key, "order"), "\n".join(names)
        for name, step in zip(names, node, strict=True):
            yield from _iter_leaves(step, (*key[:-1], f"step {as_inline_code(name)}"))
    elif isinstance(node, list) and node and _is_unordered_list(key, node):
        for item in node:
            yield (*key, as_inline_code(item)), _format_scalar(item)
    elif isinstance(node, list) and node:
        for number, child in enumerate(node, 1):
            yield from _iter_leaves(child, (*key, str(number)))
    else:
        yield key, _format_scalar(node)


def _is_unordered_list(key: LeafPath, items: list[Any]) -> bool:
    """Whether the order of items has no meaning; in a filter with `!` lines it has."""
    return bool(key) and key[-1] in _UNORDERED_KEYS and not any(str(item).startswith("!") for item in items)


def _format_scalar(scalar: Any) -> str:
    """Format a value so that `true` and "true" differ; other texts stay as they are."""
    if isinstance(scalar, str) and not re.fullmatch(r"true|false|null|[-+.\\de]+", scalar):
        return scalar
    return json.dumps(scalar, default=str)


def _iter_step_names(steps: list[Any]) -> Iterator[str]:
    """A name for each step: its name, id, action or script; repeated names are numbered."""
    counts: Counter[str] = Counter()
    for step in map(as_dict, steps):
        text = step.get("name") or step.get("id") or step.get("uses") or step.get("run") or ""
        name = str(text).partition("@")[0] or "(no name)"
        counts[name] += 1
        yield name if counts[name] == 1 else f"{name} ({counts[name]})"


def _is_explained(key: LeafPath, before: str | None, after: str | None, pairs: list[tuple[str, str]]) -> bool:
    """Whether two values are equal once the explained texts replace each other."""
    if before is None:
        return _is_explained_alone(key, after or "", [new for old, new in pairs if not old])
    if after is None:
        return _is_explained_alone(key, before, [old for old, new in pairs if not new])
    old_lines = [_mask_explained_texts(line, pairs, 0) for line in before.splitlines()]
    new_lines = [_mask_explained_texts(line, pairs, 1) for line in after.splitlines()]
    return [line for line in old_lines if line] == [line for line in new_lines if line]


def _is_explained_alone(key: LeafPath, text: str, explained_texts: list[str]) -> bool:
    """Whether a value that only one side has belongs to a text that only this side has, and that is reported."""
    if text in explained_texts:
        return True
    setting = _SETTING_EXPRESSION.fullmatch(text)
    if setting and setting[1] in explained_texts:
        return True
    return any(_contains_service_name(key[-1], name) for name in explained_texts)


def _contains_service_name(key: str, name: str) -> bool:
    """Whether a key is made of the name of a service that came or went: `digest-web`, `DIGEST_WEB`."""
    return len(name) > 1 and re.sub(r"\W", "_", key).lower().endswith("_" + re.sub(r"\W", "_", name).lower())


def _mask_explained_texts(line: str, pairs: list[tuple[str, str]], side: int) -> str:
    """Mask explained texts: a pair becomes the same mark on both sides, and a text of one side is removed.

    A line that deploys, looks up or calls what only one side has is removed with it.
    """
    for number, pair in enumerate(pairs):
        text, other_text = pair[side], pair[1 - side]
        if not text:
            continue
        word = rf"{re.escape(text)}(?![\w-])"
        if other_text:
            line = re.sub(rf"(?<![\w-]){word}", f"\0{number}\0", line)
            continue
        if "/" not in text and re.search(rf"(deploy|find_image|url=\S+) .*(?<![\w.-]){word}", line):
            return ""
        line = re.sub(rf"(?<![\w.-]){word}", "", line)
    if not _PUNCTUATION.sub("", line):
        return ""
    return "".join(line.split())


def _describe_difference(key: LeafPath, before: str | None, after: str | None) -> tuple[LeafPath, str]:
    """The job and step of a difference, as a reader calls them, and what differs there."""
    location, rest = _split_location(key)
    name = ".".join(rest)
    if name == "steps.order":
        return location, _describe_step_order(before or "", after or "")
    if name == "run" or "\n" in (before or "") + (after or ""):
        subject = "script" if name == "run" else as_inline_code(name)
        return location, f"{subject} changed{_describe_line_changes(before, after)}"
    if before is None:
        return location, f"new: {as_inline_code(name)} {_format_short_text(after)}"
    if after is None:
        return location, f"gone: {as_inline_code(name)} {_format_short_text(before)}"
    return location, f"{as_inline_code(name)} {_format_short_text(before)} → {_format_short_text(after)}"


def _split_location(key: LeafPath) -> tuple[LeafPath, LeafPath]:
    """Split a path into the job and step that it is in, and the rest."""
    if key[:1] != ("jobs",) or len(key) < 2:
        return (), key
    job = f"job {as_inline_code(key[1])}"
    if len(key) > 3 and key[2].startswith("step "):
        return (job, key[2]), key[3:]
    return (job,), key[2:]


def _format_short_text(text: str | None) -> str:
    return as_inline_code(redact_secrets(text or ""))


def _describe_line_changes(before: str | None, after: str | None) -> str:
    """Show the one line that differs, or count the lines."""
    old_lines, new_lines = (before or "").splitlines(), (after or "").splitlines()
    removed = [line for line in old_lines if line not in new_lines]
    added = [line for line in new_lines if line not in old_lines]
    if len(removed) == len(added) == 1:
        return _describe_changed_line(removed[0], added[0])
    count = max(len(removed), len(added))
    if not count:
        return ", its lines in another order"
    return f" in {count} {'line' if count == 1 else 'lines'}"


def _describe_changed_line(old_line: str, new_line: str) -> str:
    """Show a changed line from shortly before its first difference."""
    characters = enumerate(zip(old_line, new_line, strict=False))
    first_difference = next((index for index, (old, new) in characters if old != new), 0)
    start = max(0, first_difference - 25)
    dots = "…" if start else ""
    return f": {_format_short_text(dots + old_line[start:])} → {_format_short_text(dots + new_line[start:])}"


def _describe_step_order(before: str, after: str) -> str:
    old_names, new_names = before.split("\n"), after.split("\n")
    if sorted(old_names) == sorted(new_names):
        return "steps are in another order"
    messages = [f"new step {as_inline_code(name)}" for name in new_names if name not in old_names]
    messages += [f"step {as_inline_code(name)} is gone" for name in old_names if name not in new_names]
    return join_with_limit(messages)


def _locate_difference(document: YamlDocument, location: LeafPath) -> str:
    job = location[0].removeprefix("job ").strip("`") if location else ""
    steps = as_dict(as_dict(document.data.get("jobs")).get(job)).get("steps")
    if len(location) > 1 and isinstance(steps, list):
        step_names = [f"step {as_inline_code(name)}" for name in _iter_step_names(steps)]
        if location[1] in step_names:
            return document.where("jobs", job, "steps", step_names.index(location[1]))
    return document.where("jobs", job) if job else document.path
