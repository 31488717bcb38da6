"""Two versions of one generated workflow, leaf by leaf: what no other words explain gets words of its own.

So nothing that differs is ever silent, be it in a place that nobody thought of.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from kiwari_ci.commands.diff.change import PipelineChange, redact_secrets
from kiwari_ci.problems import join_with_limit
from kiwari_ci.readers.yaml_document import YamlDocument, as_dict, as_inline_code

LeafPath = tuple[str, ...]
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
    """What differs beyond the texts that are explained: a line for each step, job or section."""
    old, new = dict(_iter_leaves(before.data)), dict(_iter_leaves(after.data))
    pairs = sorted(set(explained), key=lambda pair: -len(pair[0] + pair[1]))
    found: dict[LeafPath, list[str]] = {}
    for key in dict.fromkeys([*old, *new]):
        given, made = old.get(key), new.get(key)
        if given == made or _is_empty_container(key, given, new) or _is_empty_container(key, made, old):
            continue
        if _is_explained(key, given, made, pairs) or (
            _parse_step_path(key) and not _exists_on_both_sides(_parse_step_path(key), old, new)
        ):
            continue
        place, message = _describe_difference(key, given, made)
        if place and not _exists_on_both_sides(place_key := ("jobs", key[1]), old, new):
            message = "new job" if not any(each[:2] == place_key for each in old) else "this job is gone"
            place = place[:1]
        found.setdefault(place, []).append(message)
    name = after.path.rpartition("/")[2].rpartition(".")[0]
    for place, each in found.items():
        start = f"{' '.join(place)}: " if place else ""
        told = list(dict.fromkeys(each))
        message = start + "; ".join(told[:8]) + (f"; and {len(told) - 8} more" if len(told) > 8 else "")
        yield PipelineChange(
            name, message, bool(_RISKY_CHANGE.search("; ".join(each))), _locate_difference(after, place)
        )


def _is_empty_container(key: LeafPath, text: str | None, other: dict[LeafPath, str]) -> bool:
    """Whether a mapping or list has nothing in it on one side, and things with words of their own on the other."""
    return text in ("{}", "[]") and any(other_key[: len(key)] == key and other_key != key for other_key in other)


def _parse_step_path(key: LeafPath) -> LeafPath:
    return key[:3] if len(key) > 2 and key[2].startswith("step ") else ()


def _exists_on_both_sides(start: LeafPath, old: dict[LeafPath, str], new: dict[LeafPath, str]) -> bool:
    """Whether a job or step is on both sides: one that is not is told as a whole."""
    return all(any(key[: len(start)] == start for key in side) for side in (old, new))


def _iter_leaves(data: Any, key: LeafPath = ()) -> Iterator[tuple[LeafPath, str]]:
    """Every value with its path; a step goes by its id or name, an item of a set by itself."""
    if isinstance(data, dict) and data:
        for name, value in data.items():
            yield from _iter_leaves(value, (*key, str(name)))
    elif isinstance(data, list) and key and key[-1] == "steps":
        names = list(_iter_step_names(data))
        yield (*key, "order"), "\n".join(names)
        for name, step in zip(names, data, strict=True):
            yield from _iter_leaves(step, (*key[:-1], f"step {as_inline_code(name)}"))
    elif (
        isinstance(data, list)
        and key
        and key[-1] in _UNORDERED_KEYS
        and data
        and not any(str(each).startswith("!") for each in data)
    ):
        yield from (((*key, as_inline_code(each)), _format_scalar(each)) for each in data)
    elif isinstance(data, list) and data:
        for index, value in enumerate(data):
            yield from _iter_leaves(value, (*key, str(index + 1)))
    else:
        yield key, _format_scalar(data)


def _format_scalar(value: Any) -> str:
    """A text as it is; what is none in a way that tells `true` from "true"."""
    return (
        value
        if isinstance(value, str) and not re.fullmatch(r"true|false|null|[-+.\\de]+", value)
        else json.dumps(value, default=str)
    )


def _iter_step_names(steps: list[Any]) -> Iterator[str]:
    seen: dict[str, int] = {}
    for step in steps:
        given = as_dict(step)
        name = str(given.get("name") or given.get("id") or given.get("uses") or given.get("run") or "").partition("@")[
            0
        ]
        name = name or "(no name)"
        seen[name] = seen.get(name, 0) + 1
        yield name if seen[name] == 1 else f"{name} ({seen[name]})"


def _is_explained(key: LeafPath, before: str | None, after: str | None, pairs: list[tuple[str, str]]) -> bool:
    """Whether nothing differs once the texts that have words are put in each other's place."""
    if before is None or after is None:
        side, text = (1, after) if before is None else (0, before)
        alone = [pair[side] for pair in pairs if not pair[1 - side]]
        read = _SETTING_EXPRESSION.fullmatch(text or "")
        return (
            text in alone
            or bool(read and read[1] in alone)
            or any(_contains_service_name(key[-1], each) for each in alone)
        )
    gone, came = (
        [_mask_explained_texts(line, pairs, side) for line in text.splitlines()]
        for side, text in enumerate((before, after))
    )
    return [line for line in gone if line] == [line for line in came if line]


def _contains_service_name(key: str, name: str) -> bool:
    """Whether a key is made of the name of a service that came or went: `digest-web`, `DIGEST_WEB`."""
    return len(name) > 1 and re.sub(r"\W", "_", key).lower().endswith("_" + re.sub(r"\W", "_", name).lower())


def _mask_explained_texts(line: str, pairs: list[tuple[str, str]], side: int) -> str:
    """A line in which each explained text is the same mark on both sides, and one that only one side has is gone.

    A line that calls what came or went by its whole name is gone with it.
    """
    for number, pair in enumerate(pairs):
        text, other = pair[side], pair[1 - side]
        if text and not other:
            if "/" not in text and re.search(
                rf"(deploy|find_image|url=\S+) .*(?<![\w.-]){re.escape(text)}(?![\w-])", line
            ):
                return ""
            line = re.sub(rf"(?<![\w.-]){re.escape(text)}(?![\w-])", "", line)
        elif text:
            line = re.sub(rf"(?<![\w-]){re.escape(text)}(?![\w-])", f"\0{number}\0", line)
    return "" if not _PUNCTUATION.sub("", line) else "".join(line.split())


def _describe_difference(key: LeafPath, before: str | None, after: str | None) -> tuple[LeafPath, str]:
    """Where it is, as a reader calls it, and what is different there."""
    place: LeafPath = ()
    if key[:1] == ("jobs",) and len(key) > 1:
        place = (f"job {as_inline_code(key[1])}",)
        if len(key) > 3 and key[2].startswith("step "):
            place = (*place, key[2])
    rest = key[2 + (len(place) == 2) :] if place else key
    what = ".".join(rest)
    if what == "steps.order":
        return place, _describe_step_order(before or "", after or "")
    if what == "run" or "\n" in (before or "") + (after or ""):
        return (
            place,
            f"{'script' if what == 'run' else as_inline_code(what)} changed{_describe_line_changes(before, after)}",
        )
    if before is None:
        return place, f"new: {as_inline_code(what)} {_format_short_text(after)}"
    if after is None:
        return place, f"gone: {as_inline_code(what)} {_format_short_text(before)}"
    return place, f"{as_inline_code(what)} {_format_short_text(before)} → {_format_short_text(after)}"


def _format_short_text(text: str | None) -> str:
    return as_inline_code(redact_secrets(text or ""))


def _describe_line_changes(before: str | None, after: str | None) -> str:
    """The first lines that differ, of not many."""
    old, new = (before or "").splitlines(), (after or "").splitlines()
    gone, came = [line for line in old if line not in new], [line for line in new if line not in old]
    if len(gone) == len(came) == 1:
        start = next((at for at, pair in enumerate(zip(gone[0], came[0], strict=False)) if pair[0] != pair[1]), 0)
        cut = max(0, start - 25)
        dots = "…" if cut else ""
        return f": {_format_short_text(dots + gone[0][cut:])} → {_format_short_text(dots + came[0][cut:])}"
    count = max(len(gone), len(came))
    return f" in {count} {'line' if count == 1 else 'lines'}" if count else ", its lines in another order"


def _describe_step_order(before: str, after: str) -> str:
    old, new = before.split("\n"), after.split("\n")
    if sorted(old) == sorted(new):
        return "steps are in another order"
    message = [f"new step {as_inline_code(each)}" for each in new if each not in old]
    message += [f"step {as_inline_code(each)} is gone" for each in old if each not in new]
    return join_with_limit(message)


def _locate_difference(document: YamlDocument, place: LeafPath) -> str:
    job = place[0].removeprefix("job ").strip("`") if place else ""
    steps = as_dict(as_dict(document.data.get("jobs")).get(job)).get("steps")
    if len(place) > 1 and isinstance(steps, list):
        names = [f"step {as_inline_code(name)}" for name in _iter_step_names(steps)]
        if place[1] in names:
            return document.where("jobs", job, "steps", names.index(place[1]))
    return document.where("jobs", job) if job else document.path
