"""Plain data → Spec: pydantic's errors, told in our words and at their place."""

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from kiwari_ci.problems import Problem
from kiwari_ci.source import Loc, Source
from kiwari_ci.spec import Spec

KINDS = {
    "string_type": "a string",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


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
    return _at(source, source.keys.get(loc) or source.values.get(loc), rule, message, hint, **more)


def at_value(source: Source, loc: Loc, rule: str, message: str, hint: str = "", **more: Any) -> Problem:
    """A problem that points at a value, or at the nearest thing above it that is written down."""
    return _at(source, source.values.get(_written(source, loc)), rule, message, hint, **more)


def dotted(loc: Loc) -> str:
    """A place in words: services.api.paths[0]."""
    words = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return words.removeprefix(".") or "the spec"


def closest(word: str, known: list[str]) -> str:
    """A hint: the known word that was probably meant, or all of them."""
    found = difflib.get_close_matches(word, known, n=1)
    return f"did you mean `{found[0]}`?" if found else "known here: " + ", ".join(f"`{name}`" for name in known)


def _at(source: Source, place: Any, rule: str, message: str, hint: str, **more: Any) -> Problem:
    if place is None:
        return Problem(rule, message, source.path, 1, 1, hint=hint, **more)
    excerpt = source.excerpt(place.line)
    return Problem(rule, message, source.path, place.line, place.column, place.length, hint, excerpt=excerpt, **more)


def _problem(source: Source, error: dict[str, Any]) -> Problem:
    kind, loc = error["type"], tuple(error["loc"])
    written = _written(source, loc)
    where, met = dotted(written), error["input"]
    if kind == "extra_forbidden":
        hint = closest(str(loc[-1]), _fields(written[:-1]))
        return at_key(source, written, "unknown-key", f"unknown key `{loc[-1]}` in {dotted(written[:-1])}", hint)
    if kind == "missing":
        return at_key(source, written, "missing-key", f"{where} lacks `{loc[-1]}`", _description(written, str(loc[-1])))
    if loc and loc[-1] == "[key]":
        return at_key(source, written, "value", f"{where}: {error['msg']}")
    if kind in KINDS:
        hint = (
            f'put it in quotes: "{source.at(source.values[written])}"'
            if kind == "string_type" and _is_scalar(met)
            else ""
        )
        return at_value(source, written, "type", f"{where}: expected {KINDS[kind]}, met {_words(met)}", hint)
    return at_value(source, written, "value", f"{where}: {_lower(error['msg'])}")


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


def _is_scalar(value: Any) -> bool:
    return isinstance(value, int | float)


def _words(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
