"""Fills the inputs and secrets of a call into the called action or workflow of the same repository."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from kiwari_ci.readers.bounded_text import fill_in_values
from kiwari_ci.readers.workflow_triggers import split_alternatives, split_conjunction
from kiwari_ci.readers.yaml_document import (
    YamlDocument,
    YamlMapping,
    YamlSequence,
    as_dict,
    collect_strings,
    format_scalar,
)

EXPRESSION_PATTERN = re.compile(r"\$\{\{((?:(?!\$\{\{).){0,500}?)\}\}", re.DOTALL)
_REFERENCE = re.compile(
    r"\b(inputs|secrets|matrix)(?:\.([A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*)*)|\[\s*'([^']+)'\s*\])(?![\w.\[(-])"
)
_COMPARISON = re.compile(r"\s*'([^']*)'\s*(==|!=)\s*'([^']*)'\s*")
_CHOICE = re.compile(r"\s*('[^']*'\s*[!=]=\s*'[^']*')\s*&&\s*([^|&]+?)\s*\|\|\s*([^|&]+?)\s*")
_DEFAULT = re.compile(r"\s*'([^']*)'\s*\|\|\s*([^|&]+?)\s*")
_LITERAL = re.compile(r"\s*'([^']*)'\s*")
_REF_CHOICE = re.compile(
    r"\s*(startsWith\(\s*github\.ref(?:_name)?\s*,\s*'[^']*'\s*\)"
    r"|github\.(?:ref|ref_name|ref_type|event_name)\s*==\s*'[^']*')"
    r"\s*&&\s*'([^']*)'\s*\|\|\s*'([^']*)'\s*"
)
_MAX_EXPRESSION_LENGTH = 500  # characters; a longer condition is left as it is

CallValues = Mapping[str, str]
_TextFiller = Callable[[str], str]


def collect_call_values(called: YamlDocument, caller: Mapping[str, Any]) -> dict[str, str]:
    """The inputs and secrets that a step or a job gives to what it calls, with the defaults of the others.

    The keys are references such as `inputs.host`. An input that is neither given nor has a default is empty. With
    `secrets: inherit` the names stay the same.
    """
    data = called.data
    declared = data.get("inputs") or as_dict(as_dict(data.get("on")).get("workflow_call")).get("inputs")
    values: dict[str, str] = {}
    for name, declaration in as_dict(declared).items():
        values[f"inputs.{name}"] = format_scalar(as_dict(declaration).get("default"))
    for name, value in as_dict(caller.get("with")).items():
        values[f"inputs.{name}"] = format_scalar(value)
    for name, value in as_dict(caller.get("secrets")).items():
        values[f"secrets.{name}"] = format_scalar(value)
    return values


def fill_in_called_document(called: YamlDocument, caller: Mapping[str, Any]) -> YamlDocument:
    """An action or workflow as a step or job calls it; places stay those of its file."""
    return replace(called, data=fill_in_call_values(called.data, collect_call_values(called, caller)))


def fill_in_call_values(value: YamlMapping, values: CallValues) -> YamlMapping:
    """A copy of a part of a document in which known references are replaced; places stay as they are."""
    copy: YamlMapping = _copy_with_texts(
        value,
        lambda text: _fill_in_text(text, values),
        lambda condition: _fill_in_condition(condition, values),
        {},
    )
    return copy


def find_environment_condition(job: YamlMapping) -> str:
    """The condition of the branch or tag that chooses the environment of a job, in a matrix too; empty for none."""
    environments = [text for text, _ in collect_strings(job.get("environment"))]
    matrix_texts = [text for text, _ in collect_strings(job.get_mapping("strategy").get("matrix"))]
    named_by_matrix = any("matrix." in text for text in environments)
    texts = environments + (matrix_texts if named_by_matrix else [])
    return next(filter(None, map(_find_ref_condition, texts)), "")


def _find_ref_condition(text: str) -> str:
    """The condition by which an expression of a text chooses one of two values by the branch or tag; empty for none."""
    for expression in EXPRESSION_PATTERN.finditer(text):
        choice = _REF_CHOICE.fullmatch(expression[1])
        if choice:
            return choice[1]
    return ""


def fill_in_ref_choices(value: YamlMapping, condition: str, *, holds: bool) -> YamlMapping:
    """A copy of a part of a document in which the choices by a condition of the branch or tag are made."""

    def choose(match: re.Match[str]) -> str:
        choice = _REF_CHOICE.fullmatch(match[1])
        if not choice or choice[1] != condition:
            return match[0]
        return choice[2] if holds else choice[3]

    def fill_text(text: str) -> str:
        return fill_in_values(EXPRESSION_PATTERN, choose, text)

    copy: YamlMapping = _copy_with_texts(value, fill_text, lambda if_of_step: if_of_step, {})
    return copy


def never_runs(job_or_step: Mapping[str, Any]) -> bool:
    """Whether the `if` of a job or step is false, as it is for some callers."""
    return format_scalar(job_or_step.get("if")) == "false"


def is_excluded_by_matrix(step: Mapping[str, Any], combination: Mapping[str, str]) -> bool:
    """Whether the `if` of a step is false in a combination of the matrix, whose keys are as `matrix.name`."""
    condition = format_scalar(step.get("if"))
    return "matrix." in condition and _fill_in_condition(condition, combination) == "false"


def _copy_with_texts(value: Any, fill_text: _TextFiller, fill_condition: _TextFiller, copies: dict[int, Any]) -> Any:
    """Copy recursively, with each text and each `if` filled in; what an alias repeats is copied once."""
    if isinstance(value, str):
        return fill_text(value)
    if id(value) in copies:
        return copies[id(value)]
    if isinstance(value, YamlMapping):
        mapping = YamlMapping(value.path, value.line)
        copies[id(value)] = mapping
        mapping.key_lines = dict(value.key_lines)
        mapping.key_paths = dict(value.key_paths)
        mapping.override_keys = set(value.override_keys)
        for key, entry in value.items():
            is_condition = key == "if" and isinstance(entry, str)
            mapping[key] = (
                fill_condition(entry) if is_condition else _copy_with_texts(entry, fill_text, fill_condition, copies)
            )
        return mapping
    if isinstance(value, YamlSequence):
        sequence = YamlSequence()
        copies[id(value)] = sequence
        sequence.item_lines = list(value.item_lines)
        sequence.item_paths = list(value.item_paths)
        sequence.extend(_copy_with_texts(item, fill_text, fill_condition, copies) for item in value)
        return sequence
    return value


def _fill_in_text(text: str, values: CallValues) -> str:
    if "${{" not in text:
        return text
    return fill_in_values(EXPRESSION_PATTERN, lambda match: _fill_in_expression(match, values), text)


def _fill_in_expression(match: re.Match[str], values: CallValues) -> str:
    """An expression as the text that it stands for, or as an expression of what the caller knows."""
    reference = _REFERENCE.fullmatch(match[1].strip())
    if reference:
        return values.get(_get_reference_key(reference), match[0])
    expression = _fill_in_operands(match[1], values)
    if expression == match[1]:
        return match[0]
    simplified = _simplify_expression(expression)
    literal = _LITERAL.fullmatch(simplified)
    return literal[1] if literal else f"${{{{ {simplified.strip()} }}}}"


def _fill_in_operands(expression: str, values: CallValues) -> str:
    """An expression in which each known reference is a literal, or the expression that the caller gives."""

    def replace_reference(match: re.Match[str]) -> str:
        value = values.get(_get_reference_key(match))
        if value is None:
            return match[0]
        nested = EXPRESSION_PATTERN.fullmatch(value.strip())
        if nested:
            return nested[1].strip()
        is_literal = "${{" not in value and "'" not in value
        return f"'{value}'" if is_literal else match[0]

    return fill_in_values(_REFERENCE, replace_reference, expression)


def _get_reference_key(match: re.Match[str]) -> str:
    return f"{match[1]}.{match[2] or match[3]}"


def _fill_in_condition(condition: str, values: CallValues) -> str:
    """The `if` of a job or step, which is an expression with or without the braces; `false` when it never holds."""
    if len(condition) > _MAX_EXPRESSION_LENGTH:
        return condition
    braces = EXPRESSION_PATTERN.fullmatch(condition.strip())
    expression = braces[1] if braces else condition
    filled_in = _fill_in_operands(expression, values)
    if _is_false(filled_in):
        return "false"
    terms = [_evaluate_comparison(term) for term in split_conjunction(filled_in)]
    remaining = [term for term in terms if term != "true"]
    return " && ".join(remaining) or "true"


def _is_false(expression: str) -> bool:
    """Whether each alternative of an expression has a term that is false."""
    return all(
        any(_evaluate_comparison(term) == "false" for term in split_conjunction(alternative))
        for alternative in split_alternatives(expression)
    )


def _evaluate_comparison(expression: str) -> str:
    """`true` or `false` for a comparison of two literals; anything else as it is."""
    comparison = _COMPARISON.fullmatch(expression)
    if not comparison:
        return expression
    is_equal = comparison[1].lower() == comparison[3].lower()
    return "true" if is_equal == (comparison[2] == "==") else "false"


def _simplify_expression(expression: str) -> str:
    """An expression of literals as far as it can be told without a run: a choice between two values, or a default."""
    choice = _CHOICE.fullmatch(expression)
    if choice:
        return choice[2] if _evaluate_comparison(choice[1]) == "true" else choice[3]
    default = _DEFAULT.fullmatch(expression)
    if default:
        return f"'{default[1]}'" if default[1] else default[2]
    return expression
