"""References to variables in the texts of a container: Compose would replace them, and nothing here does."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from kiwari_ci.effective_spec import EffectiveContainer, EffectiveSpec
from kiwari_ci.frozen import dataclass
from kiwari_ci.problems import Problem
from kiwari_ci.schema import Build, BuildOverride, Service
from kiwari_ci.spec_loading.validation import format_yaml_path, report_at_value
from kiwari_ci.spec_loading.yaml_source import YamlPath, YamlSource

Problems = Iterator[Problem]

# What Compose reads: `$$` is a dollar sign, `${NAME}` and `$NAME` are variables. Another `$` is text here.
_REFERENCE = re.compile(r"\$(?:\$|\{(?P<braced>[A-Za-z_]\w*)[^}]*\}?|(?P<bare>[A-Za-z_]\w*))", re.ASCII)
_SHELLS = frozenset({"sh", "bash", "ash", "dash", "ksh", "zsh"})
_SHELL_OPTION = re.compile(r"-[a-z]*c")  # `-c`, `-ec`, `-lc`: the next word is a script
_PLAIN_WORD = re.compile(r"[\w.,:=@%/+-]+", re.ASCII)  # a word that a shell reads as it is


@dataclass(frozen=True)
class _CommandLine:
    """Words that run in a container: their place, what runs them, and the field that they are for."""

    loc: YamlPath
    words: Sequence[str]
    prefix: Sequence[str] = ()


def check_variable_references(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """Find variables that would reach a container as text, or that its shell would not know."""
    for environment in spec.environments.values():
        for container in environment.containers.values():
            for line in _iter_command_lines(container):
                yield from _check_command_line(source, container, line)
            yield from _check_env_values(source, container)
            yield from _check_plain_texts(source, container)
    yield from _check_build_arguments(source, spec)


def _iter_command_lines(container: EffectiveContainer) -> Iterator[_CommandLine]:
    """Everything that is run in a container."""
    options = container.written_options
    entrypoint = options.entrypoint or []
    yield _CommandLine(container.yaml_path("entrypoint"), entrypoint)
    yield _CommandLine(container.yaml_path("command"), options.command or [], entrypoint)
    if options.healthcheck:
        yield _CommandLine(container.yaml_path("healthcheck", "test"), options.healthcheck.test)
    if isinstance(options, Service):
        yield _CommandLine(container.yaml_path("migrate"), options.migrate or [], entrypoint)
        for name, job in options.jobs.items():
            yield _CommandLine(container.yaml_path("jobs", name, "command"), job.command, entrypoint)


def _check_command_line(source: YamlSource, container: EffectiveContainer, line: _CommandLine) -> Problems:
    """Only a shell in the container replaces variables, by those that the container has."""
    known_names = container.variable_names
    script_indexes = _find_shell_scripts([*line.prefix, *line.words])
    for index, word in enumerate(line.words):
        loc = (*line.loc, index)
        is_script = len(line.prefix) + index in script_indexes
        for name, reference in _iter_references(word):
            if not is_script:
                message = f"{format_yaml_path(loc)}: no shell reads `{reference}`, so it would stay as it is"
                yield report_at_value(source, loc, "variable", message, _suggest_shell(line, name, known_names))
            elif name not in known_names:
                message = f"{format_yaml_path(loc)}: `{reference}` is no variable that the spec gives {container.name}"
                hint = f"env: {{{name}: {{secret: true}}}}; or `$${name}`, for what the image or the script sets"
                yield report_at_value(source, loc, "variable", message, hint)


def _find_shell_scripts(words: Sequence[str]) -> set[int]:
    """Find the words that a shell reads: the one after `sh -c`, and after the CMD-SHELL of a health check."""
    indexes = set()
    has_shell = False
    for index, word in enumerate(words[:-1]):
        has_shell = has_shell or word.rpartition("/")[2] in _SHELLS
        if (has_shell and _SHELL_OPTION.fullmatch(word)) or (index == 0 and word == "CMD-SHELL"):
            indexes.add(index + 1)
            break
    return indexes


def _iter_references(text: str) -> Iterator[tuple[str, str]]:
    """Each variable of a text: its name, and how the text writes it."""
    for match in _REFERENCE.finditer(text):
        name = match["braced"] or match["bare"]
        if name:
            yield name, match[0]


def _suggest_shell(line: _CommandLine, name: str, known_names: set[str]) -> str:
    """Suggest the same command by a shell, with the variable from the env file."""
    is_healthcheck = line.loc[-1] == "test"
    words = line.words[1:] if is_healthcheck else line.words
    script = " ".join(_quote_for_shell(word) for word in words)
    if is_healthcheck:
        shell_line = f"[CMD-SHELL, '{script}']"
    elif not line.prefix and words[0].startswith("-"):
        program = "exec, the program of the image, and its options all in one text"
        shell_line = f'the value itself; or entrypoint: [sh, -c], and in command {program}, with "$${name}"'
    elif line.prefix or line.loc[-1] == "entrypoint" or "'" in script:
        shell_line = f'entrypoint: [sh, -c], and in command all in one text, with "$${name}"'
    else:
        shell_line = f"[sh, -c, 'exec {script}']"
    variable = "" if name in known_names else f", with env: {{{name}: {{secret: true}}}}"
    return f"{shell_line}{variable}; `$${name}` alone is the text ${name}"


def _quote_for_shell(word: str) -> str:
    """Write a word as a line of shell has it, within the single quotes of the spec."""
    if _PLAIN_WORD.fullmatch(word):
        return word
    return '"' + _REFERENCE.sub(_escape_reference, word.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _escape_reference(match: re.Match[str]) -> str:
    """Write a variable so that the container's shell replaces it."""
    if match[0] == "$$":
        return "\\$$"
    return f"${match[0]}"


def _check_env_values(source: YamlSource, container: EffectiveContainer) -> Problems:
    """A value is written as it is, into the env file or the compose file."""
    options = container.written_options
    for field, values in (("env", options.env), ("environment", options.environment)):
        for key, value in values.items():
            for _, reference in _iter_references(value.value or ""):
                loc = container.yaml_path(field, key)
                message = f"{format_yaml_path(loc)}: nothing replaces `{reference}` in a value"
                place = "" if field == "env" else "in `env`: "
                hint = f"{place}{key}: {{secret: true}}, the whole value on the host; or the value, `$$` for a `$`"
                yield report_at_value(source, loc, "variable", message, hint)


def _check_plain_texts(source: YamlSource, container: EffectiveContainer) -> Problems:
    """Labels and extra keys of Compose stand in the compose file as they are."""
    options = container.written_options
    hint = "the value itself, `overrides` of an environment where it differs; `$$` for a dollar sign"
    for field, values in (("labels", options.labels), ("compose", options.compose)):
        for key, value in values.items():
            for loc, text in _iter_texts(container.yaml_path(field, key), value):
                for _, reference in _iter_references(text):
                    message = f"{format_yaml_path(loc)}: nothing replaces `{reference}` here"
                    yield report_at_value(source, loc, "variable", message, hint)


def _check_build_arguments(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """Compose would replace a variable in a build argument, too; Docker takes it as it is."""
    builds: list[tuple[YamlPath, Build | BuildOverride]] = [
        (("services", name, "build"), service.build) for name, service in spec.services.items()
    ]
    for environment in spec.environments.values():
        for name, override in environment.model.overrides.items():
            builds.append((("environments", environment.name, "overrides", name, "build"), override.build))
    for build_loc, build in builds:
        for key, argument in build.args.items():
            for name, reference in _iter_references(argument.value or ""):
                loc = (*build_loc, "args", key)
                message = f"{format_yaml_path(loc)}: nothing replaces `{reference}` in a build argument"
                hint = f"{key}: {{variable: {name.upper()}}}, a variable of the repository; or the value itself"
                yield report_at_value(source, loc, "variable", message, hint)


def _iter_texts(loc: YamlPath, value: Any) -> Iterator[tuple[YamlPath, str]]:
    if isinstance(value, str):
        yield loc, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield loc, str(key)
            yield from _iter_texts((*loc, key), inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _iter_texts((*loc, index), inner)
