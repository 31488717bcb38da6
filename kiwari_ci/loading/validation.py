"""Plain data → Spec: pydantic's errors, told in our words and at their place."""

import re
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from kiwari_ci.loading import suggestions
from kiwari_ci.loading.unsupported import find_unsupported_feature
from kiwari_ci.loading.yaml_source import SourceSpan, YamlPath, YamlSource
from kiwari_ci.problems import Problem, RuleName, Severity, join_with_limit
from kiwari_ci.schema import Spec

# pydantic's kinds of error, completing "expected …".
EXPECTED_PHRASES = {
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
MAX_INPUT_LENGTH = 60  # characters of a value in a message


def validate_spec(source: YamlSource) -> tuple[Spec | None, list[Problem]]:
    """The spec when its types are right, and everything that is wrong with them."""
    try:
        return Spec.model_validate(source.data), []
    except ValidationError as error:
        return None, [_convert_error(source, dict(details)) for details in error.errors(include_url=False)]


def report_at_key(
    source: YamlSource, loc: YamlPath, rule: RuleName, message: str, hint: str = "", severity: Severity = "error"
) -> Problem:
    """A problem that points at a key, or at the nearest thing above it that a person wrote."""
    while loc and loc not in source.keys and loc not in source.values:
        loc = loc[:-1]
    return report_at_span(
        source, source.keys.get(loc) or source.values.get(loc), rule, message, hint, severity=severity
    )


def report_at_value(
    source: YamlSource, loc: YamlPath, rule: RuleName, message: str, hint: str = "", severity: Severity = "error"
) -> Problem:
    """A problem that points at a value, or at the nearest thing above it that is written down."""
    return report_at_span(
        source, source.values.get(_find_source_path(source, loc)), rule, message, hint, severity=severity
    )


def report_at_span(
    source: YamlSource,
    span: SourceSpan | None,
    rule: RuleName,
    message: str,
    hint: str = "",
    severity: Severity = "error",
) -> Problem:
    """A problem that points at a place of a text, or, without one, at its start."""
    if span is None:
        return Problem(rule, message, source.path, 1, 1, hint=hint, severity=severity)
    excerpt = source.excerpt(span.line)
    return Problem(
        rule, message, source.path, span.line, span.column, span.length, hint, excerpt=excerpt, severity=severity
    )


def format_yaml_path(loc: YamlPath) -> str:
    """A place in words: services.api.paths[0]."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return text.removeprefix(".") or "the spec"


def _convert_error(source: YamlSource, error: dict[str, Any]) -> Problem:
    kind, loc = error["type"], tuple(error["loc"])
    written = _find_source_path(source, loc)
    where = format_yaml_path(written)
    if kind == "extra_forbidden" and (found := find_unsupported_feature(str(loc[-1]))):
        message = f"no `{loc[-1]}` in {format_yaml_path(written[:-1])}, {found.what}: {found.why}"
        return report_at_key(source, written, "declined", message, found.instead)
    if kind == "extra_forbidden":
        hint = suggestions.suggest_closest(str(loc[-1]), _list_field_names(written[:-1]))
        return report_at_key(
            source, written, "unknown-key", f"unknown key `{loc[-1]}` in {format_yaml_path(written[:-1])}", hint
        )
    if kind == "missing":
        return report_at_key(
            source, written, "missing-key", f"{where} lacks `{loc[-1]}`", _find_description(written, str(loc[-1]))
        )
    is_key = loc[-1:] == ("[key]",)
    place = (source.keys if is_key else source.values)[written]
    expected = (
        EXPECTED_PHRASES[kind].format(**error.get("ctx", {})).replace("'", "`" if kind == "literal_error" else "'")
    )
    message = f"{where}: expected {expected}, met {_describe_input(place, source, error['input'])}"
    point = report_at_key if is_key else report_at_value
    rule: RuleName = "type" if kind.endswith("_type") else "value"
    hint = _suggest_fix(error, source.at(place)) or _describe_field(
        written[:-1] if is_key else loc if kind == "text" else written
    )
    return point(source, written, rule, message, hint)


def _find_source_path(source: YamlSource, loc: YamlPath) -> YamlPath:
    """The part of pydantic's place that a person wrote: it adds words for keys, shorthands and missing fields."""
    while loc and loc not in source.values:
        loc = loc[:-1]
    return loc


def _find_model(loc: YamlPath) -> type[BaseModel] | None:
    annotation: Any = Spec
    for part in loc:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            annotation = annotation.model_fields[str(part)].annotation if part in annotation.model_fields else None
        else:
            annotation = (get_args(annotation) or (None,))[-1]
        annotation = _strip_optional(annotation)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _strip_optional(annotation: Any) -> Any:
    chosen = [option for option in get_args(annotation) if option is not type(None)]
    return chosen[0] if len(chosen) == 1 and type(None) in get_args(annotation) else annotation


def _list_field_names(loc: YamlPath) -> list[str]:
    model = _find_model(loc)
    return list(model.model_fields) if model else []


def _find_description(loc: YamlPath, field: str) -> str:
    model = _find_model(loc)
    description = model.model_fields[field].description if model and field in model.model_fields else None
    return f"{field}: {description}" if description else ""


def _describe_input(span: SourceSpan, source: YamlSource, value: Any) -> str:
    """A value in words: what was written, when that is short."""
    if value is None:
        return "nothing"
    if isinstance(value, dict) and 1 < len(value) < 6:
        return " and ".join(f"`{key}`" for key in value)
    if isinstance(value, dict | list):
        kind = "mapping" if isinstance(value, dict) else "list"
        return f"a {kind}" if value else f"an empty {kind}"
    written = source.at(span)
    if isinstance(value, str) and "\n" in value:
        return "several lines"
    return f"`{written[:MAX_INPUT_LENGTH]}…`" if len(written) > MAX_INPUT_LENGTH else f"`{written}`"


def _suggest_fix(error: dict[str, Any], written: str) -> str:
    """What was probably meant by a value."""
    kind, value = error["type"], error["input"]
    if kind == "literal_error" and isinstance(value, str):
        return suggestions.suggest_closest(value, re.findall(r"'([^']*)'", error["ctx"]["expected"]))
    if kind == "text" and isinstance(value, str):
        return suggestions.suggest_for_text(value, error["ctx"]["pattern"])
    return suggestions.suggest_for_type(kind, value, written)


def _describe_field(loc: YamlPath) -> str:
    """What a field is, and what it takes, for whom nothing nearer can be said."""
    described_indexes = [index for index, part in enumerate(loc) if _find_description(loc[:index], str(part))]
    description = (
        _find_description(loc[: described_indexes[-1]], str(loc[described_indexes[-1]])) if described_indexes else ""
    )
    model = _find_model(loc)
    field_names = join_with_limit((f"`{name}`" for name in model.model_fields), 12) if model else ""
    return "; ".join(filter(None, (field_names and f"{format_yaml_path(loc)} takes {field_names}", description)))
