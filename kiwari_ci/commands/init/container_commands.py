"""Converts the commands of a container, into which Compose fills variables today, and here a shell in the container.

A command that the spec cannot have is never left out, because the image's own command might start without a password:
a placeholder takes its place, with which no container starts.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from kiwari_ci.commands.init.compose_files import DetectedContainer, may_contain_secret
from kiwari_ci.commands.init.draft_text import Comment, LineToUncomment, render_flow_style
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.image_reference import parse_image_reference
from kiwari_ci.readers.shell import find_open_quote
from kiwari_ci.readers.vocabulary import UnknownVariable
from kiwari_ci.readers.yaml_document import YamlSequence, format_scalar
from kiwari_ci.schema.text_formats import EnvFileKey, TextLine

UNKNOWN_PROGRAM = "ENTRYPOINT"  # no image has this program, so that nothing starts before a person has answered
_IS_ARGUMENT = vocabulary.build_validator(TextLine)
_IS_ENV_KEY = vocabulary.build_validator(EnvFileKey)
_PLAIN_WORD = re.compile(r"[\w.,:=@%/+-]+", re.ASCII)  # a word that a shell reads as it is
_PROGRAM = re.compile(r"[\w./][\w./-]*", re.ASCII)
_SEVERAL_OPTIONS = re.compile(r"(?:^|_)(?:OPT|OPTS|OPTIONS|FLAGS|ARGS|ARGUMENTS|PARAMS)$|^EXTRA", re.IGNORECASE)
_SHELL_REFERENCE = re.compile(r"\$\{?([A-Za-z_]\w*)")
_PLACEHOLDER = re.compile("\ue000(\\d+)\ue001")
_SHELL = ["sh", "-c"]
# Official images, and those that are made of them, whose entrypoint is this script in their PATH.
_ENTRYPOINT_SCRIPT = "docker-entrypoint.sh"
_IMAGES_WITH_SCRIPT = re.compile(
    r"(?:docker\.io/)?(?:library/)?(?:redis|postgres|mysql|mariadb|mongo|rabbitmq|memcached)"
    r"|(?:docker\.io/)?(?:valkey/valkey|postgis/postgis|pgvector/pgvector|timescale/timescaledb)"
)

Word = list[str | UnknownVariable]  # a word of a command, in parts


@dataclass
class ConvertedCommand:
    """The command of a container in the words of the spec, and what a person must know of it."""

    fields: dict[str, list[str]] = field(default_factory=dict)  # `entrypoint` and `command`
    variables: list[str] = field(default_factory=list)  # those that a shell in the container reads
    question: str = ""  # to a person; empty where the container runs as today
    answers: list[Comment] = field(default_factory=list)  # what else to write

    @property
    def words(self) -> list[str]:
        """All words, in the order in which the container runs them."""
        return [word for words in self.fields.values() for word in words]


def convert_command(container: DetectedContainer) -> ConvertedCommand:
    """The command and the entrypoint of a container."""
    compose = container.table
    if not compose.get("command") and compose.get("entrypoint") is None:
        return ConvertedCommand()
    command = _read_words(container, compose.get("command"))
    entrypoint = _read_words(container, compose.get("entrypoint"))
    if command is None or entrypoint is None:
        return _ask_for_command(container, "it may contain a secret, or has several lines")
    words = [*entrypoint, *command]
    variables = _list_variables(words)
    conflict = _find_conflict(container, variables)
    if conflict:
        return _ask_for_command(container, conflict)
    # Without a word, an entrypoint takes away that of the image: the first word of the command is the program.
    is_entrypoint_known = compose.get("entrypoint") is not None
    if not variables:
        return _keep_words(entrypoint, command, is_entrypoint_known)
    script_index = find_script(_join_known_parts(words))
    if all(index == script_index for index, word in enumerate(words) if _list_variables([word])):
        converted = [*words]
        converted[script_index] = [_write_script(words[script_index])]
        count = len(entrypoint)
        result = _keep_words(converted[:count], converted[count:], is_entrypoint_known, escapes_script=script_index)
    else:
        result = _convert_to_shell(container, words, is_entrypoint_known)
    result.variables = variables
    return result


def convert_check(container: DetectedContainer) -> ConvertedCommand:
    """The test of a container's health check, as the field `test`; none where it has none that the spec can have."""
    test = container.table.get_mapping("healthcheck").get("test")
    if not test:
        return ConvertedCommand()
    value = test if isinstance(test, YamlSequence) else ["CMD-SHELL", format_scalar(test)]
    words = _read_words(container, value)
    if words is None:
        return ConvertedCommand()
    variables = _list_variables(words)
    if _find_conflict(container, variables):
        return ConvertedCommand()
    texts = _join_known_parts(words)
    if not variables:
        return ConvertedCommand({"test": [vocabulary.escape_dollar_signs(text) for text in texts]})
    script_index = find_script(texts)
    converted = [_double_dollar_signs(text) for text in texts]
    if all(index == script_index for index, word in enumerate(words) if _list_variables([word])):
        converted[script_index] = _double_dollar_signs(_write_script(words[script_index]))
    else:
        script = " ".join(_quote_for_shell(word) for word in words[1:])
        converted = ["CMD-SHELL", _double_dollar_signs(script)]
    return ConvertedCommand({"test": converted}, variables)


def list_shell_names(words: Sequence[str]) -> list[str]:
    """The names of the variables that the script of a command, as the spec has it, reads and does not set."""
    script_index = find_script(words)
    if script_index < 0:
        return []
    script = words[script_index].replace("$$", "$")
    names = dict.fromkeys(_iter_references(script))
    return [name for name in names if not re.search(rf"(?:^|[\s;&|]){name}=|\b(?:for|read)\s+{name}\b", script)]


def _iter_references(script: str) -> Iterator[str]:
    """The names of the variables that a shell reads in a script: none between single quotes, as in a program of awk."""
    quote = ""
    end = 0
    for reference in _SHELL_REFERENCE.finditer(script):
        quote = find_open_quote(script[end : reference.start()], quote)
        end = reference.start()
        if quote != "'":
            yield reference[1]


def find_script(words: Sequence[str]) -> int:
    """The index of the word that a shell reads as a script; -1 for none."""
    if words[:1] == ["CMD-SHELL"] and len(words) > 1:
        return 1
    has_shell = False
    for index, word in enumerate(words[:-1]):
        has_shell = has_shell or word.rpartition("/")[2] in ("sh", "bash", "ash", "dash", "ksh", "zsh")
        if has_shell and re.fullmatch(r"-[a-z]*c", word):
            return index + 1
    return -1


def _read_words(container: DetectedContainer, value: Any) -> list[Word] | None:
    """The words of a command, in parts; None if the spec cannot have them.

    What may be a secret stays a variable, even if the Compose file gives it a value.
    """
    for known_variables in (container.variables, None):
        words = _split_command(value, known_variables)
        if words is None:
            return None
        text = " ".join("".join(_describe_part(part) for part in word) for word in words)
        is_valid = all(isinstance(part, UnknownVariable) or _IS_ARGUMENT(part) for word in words for part in word)
        if is_valid and not may_contain_secret(text):
            return words
    return None


def _split_command(value: Any, known_variables: dict[str, str] | None) -> list[Word] | None:
    """The words of a command as Compose splits them; None if a word of it cannot be told.

    Without known variables, each variable stays one, whatever the Compose file says of its value.
    """
    if value is None:
        return []
    is_list = isinstance(value, list)
    texts = [format_scalar(item) for item in value] if is_list else [format_scalar(value)]
    variables: list[UnknownVariable] = []
    words: list[str] = []
    for text in texts:
        marked = ""
        for part in vocabulary.split_at_unknown_variables(text, known_variables):
            if isinstance(part, str):
                marked += part
                continue
            if part.operator.endswith("+"):
                return None  # the value decides whether another text is there
            marked += f"\ue000{len(variables)}\ue001"
            variables.append(part)
        try:
            words += [marked] if is_list else shlex.split(marked)
        except ValueError:
            return None
    return [_restore_variables(_join_continued_lines(word), variables) for word in words]


def _join_continued_lines(text: str) -> str:
    """A script whose lines each continue on the next one, written as one line: it means the same to the shell."""
    if "\n" not in text:
        return text
    lines = [line.strip() for line in text.strip().split("\n")]
    is_continued = all(line.endswith(("&&", "||", "|")) for line in lines[:-1])
    return " ".join(lines) if is_continued else text


def _restore_variables(word: str, variables: list[UnknownVariable]) -> Word:
    parts: Word = []
    end = 0
    for match in _PLACEHOLDER.finditer(word):
        parts += [word[end : match.start()], variables[int(match[1])]] if int(match[1]) < len(variables) else []
        end = match.end()
    parts.append(word[end:])
    return [part for part in parts if part]


def _describe_part(part: str | UnknownVariable) -> str:
    return part if isinstance(part, str) else f"${{{part.name}}}"


def _list_variables(words: list[Word]) -> list[str]:
    return list(dict.fromkeys(part.name for word in words for part in word if isinstance(part, UnknownVariable)))


def _find_conflict(container: DetectedContainer, variables: list[str]) -> str:
    """Why the container cannot get a variable of Compose under its own name; empty if it can."""
    for name in variables:
        if not _IS_ENV_KEY(name):
            return f"no env file can have {name}"
        for key, value, _ in container.table.iter_pairs("environment"):
            written_names = vocabulary.list_variables(value)
            if key == name and value and written_names != [name]:
                return f"the container's own {name} has another value"
    return ""


def _join_known_parts(words: list[Word]) -> list[str]:
    return ["".join(_describe_part(part) for part in word) for word in words]


def _keep_words(
    entrypoint: list[Word], command: list[Word], is_entrypoint_known: bool, escapes_script: int = -1
) -> ConvertedCommand:
    """The words as they are; the one that has the script for a shell has no variables of Compose any more."""
    texts = []
    for index, text in enumerate(_join_known_parts([*entrypoint, *command])):
        texts.append(_double_dollar_signs(text) if index == escapes_script else vocabulary.escape_dollar_signs(text))
    count = len(entrypoint)
    if is_entrypoint_known and not count:
        count = 1
    fields = {"entrypoint": texts[:count], "command": texts[count:]}
    return ConvertedCommand({key: words for key, words in fields.items() if words})


def _convert_to_shell(container: DetectedContainer, words: list[Word], is_entrypoint_known: bool) -> ConvertedCommand:
    """A command whose words a shell in the container puts together."""
    script = " ".join(_quote_for_shell(word) for word in words)
    variables = _list_variables(words)
    program = words[0][0] if words[0] else ""
    if is_entrypoint_known:
        result = _build_shell_entrypoint(script)
        result.question = _describe_shell(container, variables, "has a shell")
    elif _IMAGES_WITH_SCRIPT.fullmatch(parse_image_reference(container.image).repository):
        return _build_shell_entrypoint(f"{_ENTRYPOINT_SCRIPT} {script}")
    elif isinstance(program, str) and _PROGRAM.fullmatch(program):
        result = ConvertedCommand({"command": [*_SHELL, _double_dollar_signs(f"exec {script}")]})
        result.question = f"{describe_shell_as_command(container, variables)}; else uncomment the lines above it"
        result.answers.append(f"if the image has a program as entrypoint, write it here for {UNKNOWN_PROGRAM}:")
        other = _build_shell_entrypoint(f"{UNKNOWN_PROGRAM} {script}")
        result.answers += [LineToUncomment(f"{key}: {render_flow_style(text)}") for key, text in other.fields.items()]
    else:
        result = _build_shell_entrypoint(f"{UNKNOWN_PROGRAM} {script}")
        inspection = f"docker image inspect --format '{{{{.Config.Entrypoint}}}}' {shlex.quote(container.image)}"
        result.question = (
            f"{_describe_shell(container, variables, 'has a shell')}; write the image's own entrypoint for "
            f"{UNKNOWN_PROGRAM}: `{inspection}`"
        )
    known_words = ["".join("…" if isinstance(part, UnknownVariable) else part for part in word) for word in words]
    has_secret = any(map(vocabulary.is_secret_name, variables)) or may_contain_secret(" ".join(known_words))
    if not has_secret and not is_entrypoint_known:
        result.answers.append("if the values are no secrets and never change, write them:")
        result.answers.append(LineToUncomment(f"command: {render_flow_style(known_words)}"))
    return result


def describe_shell_as_command(container: DetectedContainer, variables: list[str]) -> str:
    """The question whether the image can run a command that is a script for a shell."""
    condition = "has a shell, and its entrypoint runs the command that it gets"
    return _describe_shell(container, variables, condition)


def _build_shell_entrypoint(script: str) -> ConvertedCommand:
    return ConvertedCommand({"entrypoint": [*_SHELL], "command": [_double_dollar_signs(f"exec {script}")]})


def _describe_shell(container: DetectedContainer, variables: list[str], condition: str) -> str:
    names = ", ".join(f"${name}" for name in variables)
    return (
        f"today, Compose fills {names} into the command of {container.name} ({locate_command(container)}). In this "
        f"spec, a shell in the container does so: keep the drafted command if the image {condition}"
    )


def _ask_for_command(container: DetectedContainer, reason: str) -> ConvertedCommand:
    """A command that no container can run, in place of one that the spec cannot have or that nobody could read."""
    where = locate_command(container)
    question = (
        f"the command of {container.name} ({where}) is not copied, because {reason}. Uncomment the lines that fit, in "
        f"place of {UNKNOWN_PROGRAM}, with which no container starts"
    )
    answers: list[Comment] = [
        "a secret in it comes from the env file, by a shell in the container:",
        LineToUncomment("env: {PASSWORD: {secret: true}}"),
        LineToUncomment("entrypoint: [sh, -c]"),
        LineToUncomment(f"command: ['exec {UNKNOWN_PROGRAM} … \"$$PASSWORD\"']"),
        "nothing in it is a secret:",
        LineToUncomment("command: […]"),
    ]
    return ConvertedCommand({"entrypoint": [UNKNOWN_PROGRAM]}, [], question, answers)


def locate_command(container: DetectedContainer) -> str:
    """The place of a container's command, or of its entrypoint where it has no command."""
    return container.table.where("command" if container.table.get("command") else "entrypoint")


def _quote_for_shell(word: Word) -> str:
    """A word as a line of shell has it; options that one variable has together stay several words."""
    is_plain = all(isinstance(part, str) and _PLAIN_WORD.fullmatch(part) for part in word)
    if word and is_plain:
        return "".join(map(str, word))
    if len(word) == 1 and isinstance(word[0], UnknownVariable) and _SEVERAL_OPTIONS.search(word[0].name):
        return _write_reference(word[0], "")
    text = ""
    for part, next_part in zip(word, [*word[1:], ""], strict=True):
        text += _write_reference(part, next_part) if isinstance(part, UnknownVariable) else _escape_for_shell(part)
    return f'"{text}"'


def _escape_for_shell(text: str) -> str:
    return re.sub(r'([\\"`$])', r"\\\1", text)


def _write_reference(variable: UnknownVariable, next_part: str | UnknownVariable) -> str:
    """A variable as the shell reads it, in braces where a letter follows."""
    needs_braces = isinstance(next_part, str) and re.match(r"\w", next_part) is not None
    return f"${{{variable.name}}}" if needs_braces else f"${variable.name}"


def _write_script(word: Word) -> str:
    """A script in which the container's shell reads the variables of Compose, also where it quotes them."""
    script = ""
    quote = ""
    for part, next_part in zip(word, [*word[1:], ""], strict=True):
        if isinstance(part, str):
            script += part
            quote = find_open_quote(part, quote)
            continue
        reference = _write_reference(part, next_part)
        if quote == "'":
            script += f"'\"{reference}\"'"  # a shell reads no variable between single quotes
        elif not quote and vocabulary.is_secret_name(part.name):
            script += f'"{reference}"'
        else:
            script += reference
    return script


def _double_dollar_signs(text: str) -> str:
    """A text as the spec has it, where `$$` is a dollar sign."""
    return text.replace("$", "$$")
