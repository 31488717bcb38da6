"""Env files that a deploy of today writes from what GitHub keeps: their keys, and where each value comes from."""

import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.repository import join_path
from kiwari_ci.readers.yaml_document import YamlMapping, format_scalar
from kiwari_ci.schema.text_formats import EnvKey, PlainText, SecretName

_IS_ENV_KEY = vocabulary.build_validator(EnvKey)
_IS_PLAIN_TEXT = vocabulary.build_validator(PlainText)
_IS_SECRET_NAME = vocabulary.build_validator(SecretName)
_ENV_FILE_NAME = re.compile(r"[\w${}-]{0,100}\.env(?:\.[^/\s]{1,60})?")
_NOT_DEPLOYED_NAME = re.compile(r"\.(?:example|sample|template|dist|tests?)$")  # env files that no deploy reads
_MAY_WRITE_ENV_FILE = re.compile(r"(?:>|\btee\b)[^>|;&]{0,200}\.env\b")
_HERE_DOCUMENT = re.compile(r"(?<!<)<<(?!<)-?[ \t]{0,20}[\"'\\]?(\w+)")
_ASSIGNMENT = re.compile(r"(?:export[ \t]+)?([A-Za-z_]\w*)=(.*)")
_COMPUTED = re.compile(r"\$\{\{.{0,500}?\}\}|\$\([^()]{0,500}\)|`[^`]{0,500}`")  # what a run or the shell puts in
_PLACEHOLDER = re.compile("\ue000(\\d+)\ue001")
_ERROR_REDIRECTION = re.compile(r"(?<=[ \t])2>(?:&1|[ \t]{0,20}/dev/null)")
_ENDS_WITH_ITS_FOLDER = re.compile(r"\bssh\s|^\s*\(")  # commands that change the folder for themselves only
_CONVERSION = re.compile(r"%(.)")
_WORDS_BEFORE_COMMANDS = ("sudo", "then", "else", "do", "!")
_SETTING = re.compile(r"\$\{\{\s*(secrets|vars)\.(\w+)\s*\}\}")
_SHELL_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_ENV_KEY_INPUT = "envkey_"  # of SpicyPizza/create-envfile
MAX_LINE_LENGTH = 5_000  # characters


@dataclass(frozen=True, kw_only=True)
class WrittenEnv:
    """What a deploy writes into an env file."""

    where: str
    path: str  # of the env file, as the step sees it
    folder: str = "."  # of the repository, in which the step runs
    is_named: bool = False  # as an env file that Compose fills in, beside the usual `.env`

    @property
    def file(self) -> str:
        """The name of the env file, without its folder."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class RenderedVariable(WrittenEnv):
    """A variable of an env file that a deploy writes: its value as the workflow has it, with expressions."""

    key: str
    text: str


@dataclass(frozen=True, kw_only=True)
class WholeEnvFile(WrittenEnv):
    """A secret or variable of GitHub that holds a whole env file, whose keys no file here shows."""

    setting: str


@dataclass(frozen=True, kw_only=True)
class UnreadEnvLine(WrittenEnv):
    """A command that writes into an env file what nobody can tell from its text."""


@dataclass
class _ShellCommand:
    """A command of a line: its words, and what it reads and writes."""

    words: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)  # files that its output goes to
    here_document: str = ""  # the word that ends it
    here_string: str | None = None
    ends_group: bool = False  # its output is that of the commands before it, in parentheses or braces


@dataclass(frozen=True)
class _WrittenLine:
    """A line of an env file; without a text where nobody can tell it."""

    number: int
    text: str | None
    path: str


def find_folder_in_repository(written: WrittenEnv, folders: Collection[str]) -> str:
    """The folder of the repository that has a written env file; empty if it is on the server, or nobody can tell."""
    parent = written.path.rpartition("/")[0]
    if parent.startswith(("/", "~")) or "$" in parent:
        return ""
    folder = join_path(written.folder, parent) or ""
    return folder if folder in folders else ""


def read_rendered_env(step: YamlMapping, outer_env: Mapping[str, str]) -> Iterator[WrittenEnv]:
    """What a step writes into env files, on the runner or on the server."""
    env = {**outer_env, **{key: value for key, value, _ in step.iter_pairs("env") if value}}
    inputs = step.get_mapping("with")
    action_file = inputs.get_text("file_name") or ".env"
    for name, value, place in inputs.iter_entries():
        if name.lower().startswith(_ENV_KEY_INPUT):
            key = name[len(_ENV_KEY_INPUT) :]
            yield RenderedVariable(key=key, text=format_scalar(value), where=place, path=action_file)
    for mapping, key in ((step, "run"), (inputs, "script")):
        script = mapping.get_text(key)
        for line in _list_written_lines(script):
            place = _locate_line(mapping.where(key), script, line.number)
            yield from _parse_written_line(line, env, place)


def _list_written_lines(script: str) -> Iterator[_WrittenLine]:
    """Each line that a script writes into an env file."""
    lines = script.split("\n")
    group_files, group_ends = _find_files_of_groups(lines)
    end_of_document = document_file = folder = ""
    for number, line in enumerate(lines):
        if end_of_document:
            if line.strip() == end_of_document:
                end_of_document = ""
            else:
                yield _WrittenLine(number, line.strip(), document_file)
            continue
        if len(line) > MAX_LINE_LENGTH or number in group_ends:
            continue
        computed: list[str] = []
        pipelines = _split_line(line, computed)
        if pipelines is None:
            document = _HERE_DOCUMENT.search(line)
            file = _join_folder(folder, _find_file_in_text(line))
            if document and file:
                end_of_document, document_file = document[1], file
            elif file:
                yield _WrittenLine(number, None, file)
            continue
        folder_before = folder
        for pipeline in pipelines:
            folder = _change_folder(folder, pipeline)
            file = _join_folder(folder, _find_written_file(pipeline) or group_files.get(number, ""))
            if not file:
                continue
            here_documents = [command.here_document for command in pipeline if command.here_document]
            if here_documents:
                end_of_document, document_file = here_documents[0], file
                continue
            for text in _list_printed_texts(pipeline):
                yield _WrittenLine(number, None if text is None else _restore_computed(text, computed), file)
        if _ENDS_WITH_ITS_FOLDER.search(line):
            folder = folder_before


def _change_folder(folder: str, pipeline: list[_ShellCommand]) -> str:
    """The folder in which the commands behind a pipeline run."""
    words = pipeline[0].words
    if words[:1] != ["cd"] or len(words) != 2:
        return folder
    return _join_folder(folder, words[1])


def _join_folder(folder: str, path: str) -> str:
    """A path as a script sees it from the folder in which it began; empty for none."""
    is_absolute = path.startswith(("/", "~", "$"))
    return path if is_absolute or not path or not folder else f"{folder}/{path}"


def _split_line(line: str, computed: list[str]) -> list[list[_ShellCommand]] | None:
    """The pipelines of a line, each with its commands; None for a line that ends within quotes.

    What the shell or a run computes is collected in `computed`, and a placeholder takes its place.
    """

    def replace_computed(match: re.Match[str]) -> str:
        computed.append(match[0])
        return f"\ue000{len(computed) - 1}\ue001"

    text = _ERROR_REDIRECTION.sub("", _COMPUTED.sub(replace_computed, line))
    try:
        return _parse_pipelines(_split_words(text))
    except ValueError:
        return None


def _split_words(text: str) -> list[tuple[str, bool]]:
    """The words of a line, and whether each of them is an operator of the shell."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = []
    for word in lexer:
        words.append((word, bool(word) and set(word) <= set("();<>|&")))
    return words


def _parse_pipelines(words: list[tuple[str, bool]]) -> list[list[_ShellCommand]]:
    pipelines = [[_ShellCommand()]]
    remaining = iter(words)
    for word, is_operator in remaining:
        command = pipelines[-1][-1]
        if not is_operator:
            _add_word(pipelines, word)
        elif word in (">", ">>", ">|"):
            command.targets.append(next(remaining, ("", False))[0])
        elif word == "<<":
            command.here_document = next(remaining, ("", False))[0].lstrip("-")
        elif word == "<<<":
            command.here_string = next(remaining, ("", False))[0]
        elif word == "<":
            next(remaining, None)
        elif word == "|":
            pipelines[-1].append(_ShellCommand())
        else:
            pipelines.append([_ShellCommand(ends_group=word.endswith(")"))])
    return pipelines


def _add_word(pipelines: list[list[_ShellCommand]], word: str) -> None:
    """Add a word to the last command; commands of the command line that SSH sends are pipelines of their own."""
    command = pipelines[-1][-1]
    if command.words[:1] == ["ssh"] and _MAY_WRITE_ENV_FILE.search(word):
        pipelines[-1:] = _parse_pipelines(_split_words(word))
    elif not command.words and word == "}":
        command.ends_group = True
    elif command.words or word not in _WORDS_BEFORE_COMMANDS:
        command.words.append(word)


def _find_written_file(pipeline: list[_ShellCommand]) -> str:
    """The path of the env file that a pipeline writes; empty if it writes none."""
    for command in pipeline:
        arguments = command.words[1:] if command.words[:1] == ["tee"] else []
        for path in [*command.targets, *arguments]:
            name = path.rpartition("/")[2]
            if _ENV_FILE_NAME.fullmatch(name) and not _NOT_DEPLOYED_NAME.search(name):
                return path
    return ""


def _find_file_in_text(line: str) -> str:
    """The path of the env file that a line writes, which is only a part of a command."""
    written = _MAY_WRITE_ENV_FILE.search(line)
    path = re.search(r"[\w${}/.~-]{0,200}\.env\b[\w.-]{0,60}", written[0] + line[written.end() :]) if written else None
    return path[0] if path and not _NOT_DEPLOYED_NAME.search(path[0]) else ""


def _list_printed_texts(pipeline: list[_ShellCommand]) -> list[str | None]:
    """The lines that a pipeline writes; None for what its text does not say."""
    first, *others = pipeline
    if any(command.words[:1] != ["tee"] for command in others) or first.ends_group:
        return [None]
    if first.here_string is not None and first.words[:1] in (["cat"], ["tee"]):
        return [*first.here_string.split("\n")]
    name, *arguments = first.words or [":"]
    if name == "echo":
        return [*_print_with_echo(arguments)]
    if name == "printf":
        return [*_print_with_format(arguments)]
    return [] if name in (":", "true", "{", "set") else [None]


def _print_with_echo(arguments: list[str]) -> list[str]:
    options = ""
    while arguments and re.fullmatch(r"-[neE]+", arguments[0]):
        options += arguments[0]
        arguments = arguments[1:]
    text = " ".join(arguments)
    return text.replace("\\n", "\n").split("\n") if "e" in options else text.split("\n")


def _print_with_format(arguments: list[str]) -> list[str | None]:
    """The lines that `printf` prints: its format, again and again until no argument is left."""
    if arguments[:1] == ["--"]:
        arguments = arguments[1:]
    if not arguments:
        return [None]
    format_text = arguments[0].replace("\\n", "\n")
    conversions = [letter for letter in _CONVERSION.findall(format_text) if letter != "%"]
    values = arguments[1:]
    if any(letter != "s" for letter in conversions) or (values and not conversions):
        return [None]
    text = _fill_in_format(format_text, values[: len(conversions)])
    while values := values[len(conversions) :]:
        text += _fill_in_format(format_text, values[: len(conversions)])
    return [*text.split("\n")]


def _fill_in_format(format_text: str, values: list[str]) -> str:
    """A format of `printf` with its values; one that is missing is empty."""
    remaining = iter(values)
    return _CONVERSION.sub(lambda match: "%" if match[1] == "%" else next(remaining, ""), format_text)


def _restore_computed(text: str, computed: list[str]) -> str:
    return _PLACEHOLDER.sub(lambda match: computed[int(match[1])], text)


def _find_files_of_groups(lines: list[str]) -> tuple[dict[int, str], set[int]]:
    """The lines between `{` and a `}` whose output goes into an env file, with the file's name; the lines that end it.

    Parentheses are such a group, too.
    """
    files: dict[int, str] = {}
    ends: set[int] = set()
    start = None
    for number, line in enumerate(lines):
        text = line.strip()
        if text in ("{", "("):
            start = number
        elif start is not None and text[:1] in ("}", ")") and len(text) <= MAX_LINE_LENGTH:
            pipelines = _split_line(f"true {text[1:]}", []) or []
            for file in filter(None, map(_find_written_file, pipelines)):
                files.update(dict.fromkeys(range(start + 1, number), file))
                ends.add(number)
            start = None
    return files, ends


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


def _parse_written_line(line: _WrittenLine, env: Mapping[str, str], place: str) -> Iterator[WrittenEnv]:
    if line.text is None:
        yield UnreadEnvLine(where=place, path=line.path)
        return
    text = line.text.strip()
    assignment = _ASSIGNMENT.fullmatch(text)
    if assignment and _IS_ENV_KEY(assignment[1]):
        value = _resolve_variables(_unquote(assignment[2]), env)
        yield RenderedVariable(key=assignment[1], text=value, where=place, path=line.path)
        return
    setting = _SETTING.fullmatch(_resolve_variables(_unquote(text), env).strip())
    if setting:
        yield WholeEnvFile(setting=f"{setting[1]}.{setting[2]}", where=place, path=line.path)
    elif text and not text.startswith("#"):
        yield UnreadEnvLine(where=place, path=line.path)


def _resolve_variables(text: str, env: Mapping[str, str]) -> str:
    """A text in which the variables that a step's `env` sets are replaced."""
    return _SHELL_VARIABLE.sub(lambda match: env.get(match[1], match[0]), text)


def is_known_before_a_run(variable: RenderedVariable) -> bool:
    """Whether a value is plain text or from GitHub's secrets and variables, and not such as a commit or an output."""
    rest = _SETTING.sub("", variable.text)
    return "$" not in rest and "`" not in rest


def is_on_github(variable: RenderedVariable, value: Any) -> bool:
    """Whether GitHub, or the spec as plain text, has what a variable is today, by its value in the spec."""
    is_setting = _SETTING.fullmatch(variable.text.strip()) is not None
    today = _classify_value(variable)
    return today == value and (is_setting or isinstance(today, str))


def classify_rendered_value(variables: list[RenderedVariable], *, may_differ: bool = False) -> tuple[Any, str]:
    """The value of a key in the words of the spec, and a comment; `variables` are all that deploys write for it.

    If they may differ, the first of several plain values is that of the service, and `overrides` have the others.
    """
    values = [_classify_value(variable) for variable in variables]
    where = variables[0].where
    if all(value == values[0] for value in values):
        is_composed = values[0] == {"secret": True} and not _SETTING.fullmatch(variables[0].text)
        return values[0], f"{where}, whose whole value becomes one secret" if is_composed else where
    if may_differ and all(isinstance(value, str) for value in values):
        return values[0], where
    places = ", ".join(f"{_describe_source(variable)} in {variable.where}" for variable in variables)
    return {"secret": True}, f"today {places}: here one secret, which GitHub may not have under this name"


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
