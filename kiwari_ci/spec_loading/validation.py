"""Validates plain data as a Spec; pydantic's errors become problems with a place in the file."""

import re
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from kiwari_ci.problems import Problem, RuleName, Severity, join_with_limit
from kiwari_ci.schema import Spec
from kiwari_ci.spec_loading import suggestions
from kiwari_ci.spec_loading.key_alternatives import find_key_alternative
from kiwari_ci.spec_loading.unsupported import find_unsupported_feature
from kiwari_ci.spec_loading.yaml_source import SourceSpan, YamlPath, YamlSource

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
DEFAULTS_KEY = "service_defaults"
MAX_INPUT_LENGTH = 60  # characters of a value in a message


def validate_spec(source: YamlSource, data: Any) -> tuple[Spec | None, list[Problem]]:
    """The spec when the types of its data are right, and everything that is wrong with them.

    `data` is that of the source with what services inherit. An error in an inherited value is one of
    `service_defaults`, where it is reported once.
    """
    try:
        return Spec.model_validate(data), []
    except ValidationError as error:
        all_details: list[dict[str, Any]] = [dict(details) for details in error.errors(include_url=False)]
    written = [details for details in all_details if _find_source_path(source, details["loc"]) not in source.origins]
    return None, [_convert_error(source, details) for details in written]


def report_at_key(
    source: YamlSource, loc: YamlPath, rule: RuleName, message: str, hint: str = "", severity: Severity = "error"
) -> Problem:
    """A problem that points at a key, or at the nearest thing above it that a person wrote."""
    message = _name_origin(source, loc, message)
    while loc and loc not in source.keys and loc not in source.values:
        loc = loc[:-1]
    return report_at_span(
        source, source.keys.get(loc) or source.values.get(loc), rule, message, hint, severity=severity
    )


def report_at_value(
    source: YamlSource, loc: YamlPath, rule: RuleName, message: str, hint: str = "", severity: Severity = "error"
) -> Problem:
    """A problem that points at a value, or at the nearest thing above it that is written down."""
    message = _name_origin(source, loc, message)
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


def _name_origin(source: YamlSource, loc: YamlPath, message: str) -> str:
    """A message that names `service_defaults` for a value that a service inherits: the same for all that do."""
    if _find_source_path(source, loc) not in source.origins:
        return message
    return message.replace(f"{format_yaml_path(loc[:2])}.", f"{DEFAULTS_KEY}.")


def _convert_error(source: YamlSource, error: dict[str, Any]) -> Problem:
    """Convert one of pydantic's errors."""
    error_type, loc = error["type"], tuple(error["loc"])
    written_loc = _find_source_path(source, loc)
    if error_type == "extra_forbidden":
        return _describe_unknown_key(source, written_loc, str(loc[-1]))
    where = format_yaml_path(written_loc)
    if error_type == "missing":
        hint = _find_description(written_loc, str(loc[-1]))
        return report_at_key(source, written_loc, "missing-key", f"{where} lacks `{loc[-1]}`", hint)
    is_key = loc[-1:] == ("[key]",)
    span = (source.keys if is_key else source.values)[written_loc]
    message = f"{where}: expected {_format_expectation(error)}, met {_describe_input(span, source, error['input'])}"
    rule: RuleName = "type" if error_type.endswith("_type") else "value"
    if is_key:
        described_loc = written_loc[:-1]
    elif error_type == "text":
        described_loc = loc
    else:
        described_loc = written_loc
    hint = _suggest_fix(error, source.at(span)) or _describe_field(described_loc)
    report = report_at_key if is_key else report_at_value
    return report(source, written_loc, rule, message, hint)


def _describe_unknown_key(source: YamlSource, loc: YamlPath, key: str) -> Problem:
    parent = format_yaml_path(loc[:-1])
    model = Spec if len(loc) == 1 else find_model(loc[:-1])
    hint = find_key_alternative(model, key)
    feature = find_unsupported_feature(key)
    if feature and not hint:
        message = f"`{key}` in {parent}: kiwari-ci does not support {feature.what}, because {feature.why}"
        return report_at_key(source, loc, "declined", message, feature.instead)
    if _is_of_one_service(loc):
        hint = f"write `{key}` in each service that needs it: it cannot be common to all"
        return report_at_key(source, loc, "unknown-key", f"no `{key}` in {parent}", hint)
    hint = hint or suggestions.suggest_closest(key, _list_field_names(loc[:-1]))
    return report_at_key(source, loc, "unknown-key", f"unknown key `{key}` in {parent}", hint)


def _is_of_one_service(loc: YamlPath) -> bool:
    """Whether a key that `service_defaults` does not have is one of a service."""
    if loc[0] != DEFAULTS_KEY:
        return False
    model = find_model(("services", "", *loc[1:-1]))
    return model is not None and loc[-1] in model.model_fields


def _format_expectation(error: dict[str, Any]) -> str:
    expectation = EXPECTED_PHRASES[error["type"]].format(**error.get("ctx", {}))
    if error["type"] == "literal_error":
        return expectation.replace("'", "`")
    return expectation


def _find_source_path(source: YamlSource, loc: YamlPath) -> YamlPath:
    """The part of pydantic's place that a person wrote.

    It adds words for keys, shorthands and missing fields, and the index of the only item that stands for a list.
    """
    written: YamlPath = ()
    for part in loc:
        if (*written, part) in source.values:
            written = (*written, part)
    return written


def find_model(loc: YamlPath) -> type[BaseModel] | None:
    """The model of the value at a place, or of the items of a list there; none for a value of another kind."""
    annotation: Any = Spec
    for part in loc:
        if not isinstance(part, int):
            annotation = _strip_list(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            annotation = annotation.model_fields[str(part)].annotation if part in annotation.model_fields else None
        else:
            annotation = (get_args(annotation) or (None,))[-1]
        annotation = _strip_metadata(annotation)
    annotation = _strip_list(annotation)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _strip_list(annotation: Any) -> Any:
    """The items of a list, for which one item may stand."""
    return get_args(annotation)[0] if get_origin(annotation) is list else annotation


def _strip_metadata(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _list_field_names(loc: YamlPath) -> list[str]:
    model = find_model(loc)
    return list(model.model_fields) if model else []


def _find_description(loc: YamlPath, field: str) -> str:
    model = find_model(loc)
    description = model.model_fields[field].description if model and field in model.model_fields else None
    return f"{field}: {description}" if description else ""


def _describe_input(span: SourceSpan, source: YamlSource, value: Any) -> str:
    """Describe a value: what was written, when that is short."""
    if value is None:
        return "nothing"
    if isinstance(value, dict) and 1 < len(value) < 6:
        return " and ".join(f"`{key}`" for key in value)
    if isinstance(value, dict | list):
        kind = "mapping" if isinstance(value, dict) else "list"
        return f"a {kind}" if value else f"an empty {kind}"
    if isinstance(value, str) and "\n" in value:
        return "several lines"
    source_text = source.at(span)
    if len(source_text) > MAX_INPUT_LENGTH:
        return f"`{source_text[:MAX_INPUT_LENGTH]}…`"
    return f"`{source_text}`"


def _suggest_fix(error: dict[str, Any], written: str) -> str:
    """What was probably meant by a value."""
    kind, value = error["type"], error["input"]
    if kind == "literal_error" and isinstance(value, str):
        return suggestions.suggest_closest(value, re.findall(r"'([^']*)'", error["ctx"]["expected"]))
    if kind == "text" and isinstance(value, str):
        if "other_field" in error["ctx"]:
            return f"write it in {error['ctx']['other_field']}"
        return suggestions.suggest_for_text(value, error["ctx"]["pattern"])
    if kind == "list_type" and isinstance(value, str) and error["loc"][-2:] == ("healthcheck", "test"):
        return f"test: [CMD-SHELL, {written}]"
    return suggestions.suggest_for_type(kind, value, written)


def _describe_field(loc: YamlPath) -> str:
    """The keys of a field and its description; the hint when no nearer one is known."""
    parts: list[str] = []
    model = find_model(loc)
    if model:
        field_names = join_with_limit((f"`{name}`" for name in model.model_fields), 12)
        parts.append(f"{format_yaml_path(loc)} takes {field_names}")
    for index in reversed(range(len(loc))):
        description = _find_description(loc[:index], str(loc[index]))
        if description:
            parts.append(description)
            break
    return "; ".join(parts)
