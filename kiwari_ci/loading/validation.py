"""Plain data → Spec: pydantic's errors, told in our words and at their place."""

import re
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from kiwari_ci.loading import suggestions
from kiwari_ci.loading.unsupported import declined
from kiwari_ci.loading.yaml_source import Loc, Place, Source
from kiwari_ci.problems import Problem, enumerated
from kiwari_ci.schema import Spec

# pydantic's kinds of error, completing "expected …".
EXPECTED = {
    "string_type": "a string",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "float_type": "a number",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "text": "{expected}",
    "literal_error": "{expected}",
    "greater_than_equal": "{ge} or more",
    "less_than_equal": "{le} or less",
    "too_short": "at least one item",
    "one_of": "exactly one of {names}",
    "some_of": "at least one of {names}",
}
LONGEST = 60  # characters of a value in a message


def validate(source: Source) -> tuple[Spec | None, list[Problem]]:
    """The spec when its types are right, and everything that is wrong with them."""
    try:
        return Spec.model_validate(source.data), []
    except ValidationError as error:
        return None, [_problem(source, dict(item)) for item in error.errors(include_url=False)]


def at_key(source: Source, loc: Loc, rule: str, message: str, hint: str = "", **more: Any) -> Problem:
    """A problem that points at a key, or at the nearest thing above it that a person wrote."""
    while loc and loc not in source.keys and loc not in source.values:
        loc = loc[:-1]
    return at_place(source, source.keys.get(loc) or source.values.get(loc), rule, message, hint, **more)


def at_value(source: Source, loc: Loc, rule: str, message: str, hint: str = "", **more: Any) -> Problem:
    """A problem that points at a value, or at the nearest thing above it that is written down."""
    return at_place(source, source.values.get(_written(source, loc)), rule, message, hint, **more)


def at_place(source: Source, place: Place | None, rule: str, message: str, hint: str = "", **more: Any) -> Problem:
    """A problem that points at a place of a text, or, without one, at its start."""
    if place is None:
        return Problem(rule, message, source.path, 1, 1, hint=hint, **more)
    excerpt = source.excerpt(place.line)
    return Problem(rule, message, source.path, place.line, place.column, place.length, hint, excerpt=excerpt, **more)


def dotted(loc: Loc) -> str:
    """A place in words: services.api.paths[0]."""
    words = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return words.removeprefix(".") or "the spec"


def _problem(source: Source, error: dict[str, Any]) -> Problem:
    kind, loc = error["type"], tuple(error["loc"])
    written = _written(source, loc)
    where = dotted(written)
    if kind == "extra_forbidden" and (found := declined(str(loc[-1]))):
        words = f"no `{loc[-1]}` in {dotted(written[:-1])}, {found.what}: {found.why}"
        return at_key(source, written, "declined", words, found.instead)
    if kind == "extra_forbidden":
        hint = suggestions.closest(str(loc[-1]), _fields(written[:-1]))
        return at_key(source, written, "unknown-key", f"unknown key `{loc[-1]}` in {dotted(written[:-1])}", hint)
    if kind == "missing":
        return at_key(source, written, "missing-key", f"{where} lacks `{loc[-1]}`", _description(written, str(loc[-1])))
    is_key = loc[-1:] == ("[key]",)
    place = (source.keys if is_key else source.values)[written]
    expected = EXPECTED[kind].format(**error.get("ctx", {})).replace("'", "`" if kind == "literal_error" else "'")
    words = f"{where}: expected {expected}, met {_met(place, source, error['input'])}"
    point = at_key if is_key else at_value
    rule = "type" if kind.endswith("_type") else "value"
    hint = _cure(error, source.at(place)) or _about(written[:-1] if is_key else loc if kind == "text" else written)
    return point(source, written, rule, words, hint)


def _written(source: Source, loc: Loc) -> Loc:
    """The part of pydantic's place that a person wrote: it adds words for keys, shorthands and missing fields."""
    while loc and loc not in source.values:
        loc = loc[:-1]
    return loc


def _model_at(loc: Loc) -> type[BaseModel] | None:
    annotation: Any = Spec
    for part in loc:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            annotation = annotation.model_fields[str(part)].annotation if part in annotation.model_fields else None
        else:
            annotation = (get_args(annotation) or (None,))[-1]
        annotation = _without_none(annotation)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _without_none(annotation: Any) -> Any:
    chosen = [option for option in get_args(annotation) if option is not type(None)]
    return chosen[0] if len(chosen) == 1 and type(None) in get_args(annotation) else annotation


def _fields(loc: Loc) -> list[str]:
    model = _model_at(loc)
    return list(model.model_fields) if model else []


def _description(loc: Loc, field: str) -> str:
    model = _model_at(loc)
    found = model.model_fields[field].description if model and field in model.model_fields else None
    return f"{field}: {found}" if found else ""


def _met(place: Place, source: Source, value: Any) -> str:
    """A value in words: what was written, when that is short."""
    if value is None:
        return "nothing"
    if isinstance(value, dict) and 1 < len(value) < 6:
        return " and ".join(f"`{key}`" for key in value)
    if isinstance(value, dict | list):
        kind = "mapping" if isinstance(value, dict) else "list"
        return f"a {kind}" if value else f"an empty {kind}"
    written = source.at(place)
    if isinstance(value, str) and "\n" in value:
        return "several lines"
    return f"`{written[:LONGEST]}…`" if len(written) > LONGEST else f"`{written}`"


def _cure(error: dict[str, Any], written: str) -> str:
    """What was probably meant by a value."""
    kind, value = error["type"], error["input"]
    if kind == "literal_error" and isinstance(value, str):
        return suggestions.closest(value, re.findall(r"'([^']*)'", error["ctx"]["expected"]))
    if kind == "text" and isinstance(value, str):
        return suggestions.of_text(value, error["ctx"]["pattern"])
    return suggestions.of_type(kind, value, written)


def _about(loc: Loc) -> str:
    """What a field is, and what it takes, for whom nothing nearer can be said."""
    named = [index for index, part in enumerate(loc) if _description(loc[:index], str(part))]
    words = _description(loc[: named[-1]], str(loc[named[-1]])) if named else ""
    model = _model_at(loc)
    takes = enumerated((f"`{name}`" for name in model.model_fields), 12) if model else ""
    return "; ".join(filter(None, (takes and f"{dotted(loc)} takes {takes}", words)))
