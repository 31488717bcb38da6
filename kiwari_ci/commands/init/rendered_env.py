"""Env files that a deploy of today writes from what GitHub keeps: their keys, and where each value comes from."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.yaml_document import YamlMapping, format_scalar
from kiwari_ci.schema.text_formats import EnvKey, PlainText, SecretName

_IS_ENV_KEY = vocabulary.build_validator(EnvKey)
_IS_PLAIN_TEXT = vocabulary.build_validator(PlainText)
_IS_SECRET_NAME = vocabulary.build_validator(SecretName)
_ENV_FILE = r"[\"']?[\w./~${}-]{0,200}\.env(?:\.[\w-]{1,40}){0,2}[\"']?(?![\w.-])"
_WRITES_ENV_FILE = re.compile(rf"(?:>>?|\btee(?:\s+-a)?)\s*{_ENV_FILE}")
_REDIRECTION = re.compile(r"(?:>|\|\s*(?:sudo\s+)?tee\b).*$", re.DOTALL)
_HERE_DOCUMENT = re.compile(r"<<-?\s*[\"'\\]?(\w+)")
_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_]\w*)=(.*)")
_PRINT_COMMAND = re.compile(r"\s*(?:echo|printf)\s+(?:-\w+\s+)?(?:[\"']%s(?:\\n)?[\"']\s+)?(.*)", re.DOTALL)
_SETTING = re.compile(r"\$\{\{\s*(secrets|vars)\.(\w+)\s*\}\}")
_SHELL_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_ENV_KEY_INPUT = "envkey_"  # of SpicyPizza/create-envfile
MAX_LINE_LENGTH = 5_000  # characters


@dataclass(frozen=True)
class RenderedVariable:
    """A variable of an env file that a deploy writes: its value as the workflow has it, with expressions."""

    key: str
    text: str
    where: str


@dataclass(frozen=True)
class WholeEnvFile:
    """A secret or variable of GitHub that holds a whole env file, whose keys no file here shows."""

    setting: str
    where: str


def read_rendered_env(step: YamlMapping, outer_env: Mapping[str, str]) -> Iterator[RenderedVariable | WholeEnvFile]:
    """What a step writes into env files, on the runner or on the server."""
    env = {**outer_env, **{key: value for key, value, _ in step.iter_pairs("env") if value}}
    inputs = step.get_mapping("with")
    for name, value, place in inputs.iter_entries():
        if name.lower().startswith(_ENV_KEY_INPUT):
            yield RenderedVariable(name[len(_ENV_KEY_INPUT) :], format_scalar(value), place)
    for mapping, key in ((step, "run"), (inputs, "script")):
        script = mapping.get_text(key)
        for number, text in _list_written_lines(script):
            place = _locate_line(mapping.where(key), script, number)
            yield from _parse_written_line(text, env, place)


def _list_written_lines(script: str) -> Iterator[tuple[int, str]]:
    """The number and the text of each line that a script writes into an env file."""
    lines = script.split("\n")
    group_lines = _find_lines_of_groups(lines)
    end_of_document = ""
    for number, line in enumerate(lines):
        if len(line) > MAX_LINE_LENGTH:
            continue
        if end_of_document:
            if line.strip() == end_of_document:
                end_of_document = ""
            else:
                yield number, line.strip()
            continue
        writes_file = _WRITES_ENV_FILE.search(line) is not None
        document = _HERE_DOCUMENT.search(line)
        if document and (writes_file or number in group_lines):
            end_of_document = document[1]
            continue
        printed = _PRINT_COMMAND.search(line)
        if printed and (writes_file or number in group_lines):
            for text in _unquote(_REDIRECTION.sub("", printed[1])).split("\\n"):
                yield number, text


def _find_lines_of_groups(lines: list[str]) -> set[int]:
    """The lines between `{` and a `}` whose output goes into an env file."""
    numbers: set[int] = set()
    start = None
    for number, line in enumerate(lines):
        text = line.strip()
        if text in ("{", "("):
            start = number
        elif start is not None and text[:1] in ("}", ")"):
            if _WRITES_ENV_FILE.search(text):
                numbers.update(range(start + 1, number))
            start = None
    return numbers


def _unquote(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text


def _locate_line(where: str, script: str, number: int) -> str:
    """The place of a line of a script; a script of several lines is a block that begins below its key."""
    path, _, line = where.rpartition(":")
    if "\n" not in script.strip() or not line.isdecimal():
        return where
    return f"{path}:{int(line) + 1 + number}"


def _parse_written_line(text: str, env: Mapping[str, str], place: str) -> Iterator[RenderedVariable | WholeEnvFile]:
    assignment = _ASSIGNMENT.fullmatch(text)
    if assignment and _IS_ENV_KEY(assignment[1]):
        yield RenderedVariable(assignment[1], _resolve_variables(_unquote(assignment[2]), env), place)
        return
    setting = _SETTING.fullmatch(_resolve_variables(_unquote(text), env).strip())
    if setting:
        yield WholeEnvFile(f"{setting[1]}.{setting[2]}", place)


def _resolve_variables(text: str, env: Mapping[str, str]) -> str:
    """A text in which the variables that a step's `env` sets are replaced."""
    return _SHELL_VARIABLE.sub(lambda match: env.get(match[1], match[0]), text)


def is_known_before_a_run(variable: RenderedVariable) -> bool:
    """Whether a value is plain text or from GitHub's secrets and variables, and not such as a commit or an output."""
    rest = _SETTING.sub("", variable.text)
    return "${{" not in rest and "$(" not in rest and "$GITHUB_" not in rest


def classify_rendered_value(variables: list[RenderedVariable]) -> tuple[Any, str]:
    """The value of a key in the words of the spec, and a comment; `variables` are all that deploys write for it."""
    values = [_classify_value(variable) for variable in variables]
    where = variables[0].where
    if all(value == values[0] for value in values):
        is_composed = values[0] == {"secret": True} and not _SETTING.fullmatch(variables[0].text)
        return values[0], f"{where}, whose whole value becomes one secret" if is_composed else where
    places = ", ".join(f"{_describe_source(variable)} in {variable.where}" for variable in variables)
    return {"secret": True}, f"today {places}: one name, whose value each environment on GitHub has"


def _classify_value(variable: RenderedVariable) -> Any:
    setting = _SETTING.fullmatch(variable.text.strip())
    if setting and _IS_SECRET_NAME(setting[2]):
        if setting[1] == "vars":
            return {"variable": setting[2]}
        return {"secret": True if setting[2] == variable.key else setting[2]}
    is_plain = "$" not in variable.text and _IS_PLAIN_TEXT(variable.text)
    if is_plain and not vocabulary.is_secret(variable.key, variable.text):
        return variable.text
    return {"secret": True}


def _describe_source(variable: RenderedVariable) -> str:
    setting = _SETTING.fullmatch(variable.text.strip())
    return setting[2] if setting else "another value"
