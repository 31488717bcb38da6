"""Reads the steps of a job before it builds an image, and converts them to `steps.before_build` of the spec."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kiwari_ci.commands.init.compose_files import may_contain_secret
from kiwari_ci.commands.init.docker_commands import TEST_COMMAND, UNKNOWN_TEXT, installs_packages
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.repository import is_within_folder
from kiwari_ci.readers.shell import find_here_documents, find_open_quote, split_shell_commands
from kiwari_ci.readers.workflow import get_action_name
from kiwari_ci.readers.workflow_calls import EXPRESSION_PATTERN
from kiwari_ci.readers.yaml_document import YamlMapping, as_inline_code, format_scalar
from kiwari_ci.schema.text_formats import EnvKey, InputName, RepositoryFolder, SecretName, ShellScript, TrimmedLine
from kiwari_ci.spec_rules.names import RUNNER_VARIABLE_PATTERN

_IS_SCRIPT = vocabulary.build_validator(ShellScript)
_IS_SINGLE_LINE = vocabulary.build_validator(TrimmedLine)
_IS_ENV_KEY = vocabulary.build_validator(EnvKey)
_IS_INPUT_NAME = vocabulary.build_validator(InputName)
_IS_SECRET_NAME = vocabulary.build_validator(SecretName)
_IS_FOLDER = vocabulary.build_validator(RepositoryFolder)
# A part of a word of the shell: in quotes, what a command prints that changes nothing, or a character.
_PRINTED = r"\$\((?:git (?:rev-parse|describe|log)|date|cat|echo|basename|pwd)\b[^()\n]{0,500}(?:\)|\Z)"
_QUOTED = rf"\"(?:[^\"\n$`]|\$(?!\()|{_PRINTED}){{0,500}}\""
_WORD_PART = rf"(?:{_QUOTED}|'[^'\n]{{0,500}}'|{_PRINTED}|[^\s\"'();&|`])"
_ASSIGNMENT = rf"[A-Za-z_]\w{{0,100}}={_WORD_PART}{{0,500}}"
_BUILD_COMMAND = re.compile(r"\bdocker\s+(?:(?:buildx|image)\s+)?build\b")
_COMMAND_SEPARATOR = re.compile(r"&&|\|\||[;|]|(?<!\\)\n")
_IMAGE_COMMAND = re.compile(r"\bdocker (?:login|build|buildx|push|tag|pull|image|compose)\b|\bdocker-compose\b")
_NEUTRAL_COMMAND = re.compile(  # prints or compares something, or changes only the shell
    r"(?:(?:then|do|else|if|elif|while|until|!)\s+)?(?:"
    r"(?:echo|printf|ls|pwd|date|df|free|whoami|id|set|cat|true|cd|test|\[|\[\["
    r"|git (?:log|status|rev-parse|describe|config))(?:\s[^>]*)?"
    r"|then|do|else|fi|done|esac|for\s[^>]*|env|\S{1,40} (?:--version|-v|version)"
    rf"|(?:(?:export|readonly)\s+)?{_ASSIGNMENT}(?:\s+{_ASSIGNMENT})*)"
)
_LINE_END = re.compile(r"(?<!\\)\n")
_BLOCK_START = re.compile(r"(?:(?:then|do|else|!)\s+)?(?:if|for|while|until|case|select|\{)(?:\s|$)")
_FUNCTION_START = re.compile(r"\s*(?:function\s+)?[\w-]{1,100}\s*\(\)\s*\{\s*")
_BLOCK_END = re.compile(r"(?:fi|done|esac|\})(?:\s|$)")
_PREFIX_OF_PROGRAM = re.compile(r"[A-Za-z_]\w*=.*|then|do|else|if|!|sudo|time|env|exec|nice")
_REMOTE_OPERAND = re.compile(r"\s[\"']?[\w.@${}-]{1,200}:")  # rsync and scp also copy on one machine
_SSH_SETUP_PROGRAM = re.compile(r"ssh-.*|mkdir|chmod|install|eval|echo|printf|cat|tee|touch|rm")
_SSH_SETUP = re.compile(r"\.ssh\b|\bssh-|\bid_(?:rsa|ed25519)\b|SSH_")
_WRITTEN_FILE = re.compile(r"\s>{1,2}\s?[\"']?[\w./-]{1,200}")  # its name, such as key.json, is no secret
_SETS_OUTPUT = re.compile(r"GITHUB_(?:OUTPUT|STEP_SUMMARY)|::set-output")
_BUILDS_TOO = re.compile(r"\b(?:build|generate|compile|package|publish)\b")
_QUOTED_HERE_DOCUMENT = re.compile(r"<<-?\s*[\"'\\]")
_SETTING = re.compile(r"(secrets|vars)\.([A-Za-z_]\w*)")
# What a run says of itself, as the runner's variables have it.
_RUNNER_VARIABLES = {
    "github.sha": "GITHUB_SHA",
    "github.ref_name": "GITHUB_REF_NAME",
    "github.run_id": "GITHUB_RUN_ID",
    "github.run_number": "GITHUB_RUN_NUMBER",
    "github.workspace": "GITHUB_WORKSPACE",
}
_PINNED_SETUP_ACTIONS = {
    "actions/setup-go",
    "actions/setup-java",
    "actions/setup-node",
    "actions/setup-python",
    "astral-sh/setup-uv",
    "pnpm/action-setup",
}
_UNRELATED_ACTION = re.compile(r"docker/|actions/(?:cache|upload-artifact|github-script)|\./|8398a7/")
_CACHE_INPUTS = {"cache", "cache-dependency-path", "check-latest"}  # a build that is deployed reads no cache
_CHECKOUT_INPUTS = {"repository": "another repository", "submodules": "submodules", "lfs": "files of Git LFS"}
_SOME_VARIABLE = "${NAME}"  # in place of an expression, for what reads only the rest of a script
_SECRET_OBSTACLE = (
    "a secret may be in its script: if so, store the secret in GitHub, and give it to the step with `env: {NAME: "
    "{secret: NAME}}`; if not, copy the step"
)


@dataclass(frozen=True)
class BuildPreparation:
    """A step before a build: the fields of the spec's step, or in words why it cannot be one."""

    where: str
    text: str  # what it does, in words
    folder: str  # in which it runs
    produces: bool  # files, as far as anybody can tell, or it fails so that nothing is built
    fields: Mapping[str, Any] = field(default_factory=dict)
    obstacle: str = ""  # why no step of the spec can be it
    lost: tuple[str, ...] = ()  # in words, what of it has no place in the step of the spec


class PreparationReader:
    """Reads the steps of one job that come before its builds."""

    def __init__(
        self,
        outer_env: Mapping[str, str],
        substitute: Callable[[str], str],
        get_folder: Callable[[YamlMapping], str],
    ) -> None:
        """The variables of the workflow and the job, and how to replace the expressions that are known."""
        self.outer_env = outer_env
        self.substitute = substitute
        self.get_folder = get_folder

    def list_preparations(
        self, steps: Iterable[tuple[YamlMapping, str]], build: YamlMapping, context: str
    ) -> list[BuildPreparation]:
        """The steps before a build, with their places; none if all of them only install or print something.

        A step that runs in another folder than the build context, and does not name it, is for another image.
        """
        preparations = []
        for step, place in steps:
            is_build = step is build
            preparation = self._read_step(step, place, is_build=is_build)
            if preparation and _may_reach_context(preparation, context):
                preparations.append(preparation)
            if is_build:
                break
        return preparations if any(preparation.produces for preparation in preparations) else []

    def _read_step(self, step: YamlMapping, place: str, *, is_build: bool) -> BuildPreparation | None:
        action = get_action_name(step.get_text("uses"))
        if action:
            preparation = _read_action(step, action, place, self.substitute)
        else:
            preparation = self._read_script(step, place, is_build=is_build)
        if not preparation or preparation.obstacle:
            return preparation
        if step.get_text("if") not in ("", "success()", "always()", "${{ success() }}"):
            return replace(preparation, obstacle=f"it runs only {as_inline_code('if ' + step.get_text('if'))}")
        if step.get("continue-on-error"):
            return replace(preparation, obstacle="the build goes on when it fails")
        return preparation

    def _read_script(self, step: YamlMapping, place: str, *, is_build: bool) -> BuildPreparation | None:
        written = step.get_text("run")
        if is_build:
            written = _cut_before_build(written)
        lines = _split_logical_lines(written)
        script = self.substitute("\n".join(line for line in lines if not _belongs_elsewhere(line))).strip()
        commands = [line for line in _split_logical_lines(script) if not _is_neutral(line)]
        if not commands or _only_works_on_other_machines(script) or only_sets_outputs(commands):
            return None
        folder = self.get_folder(step)
        produces = not all(map(installs_packages, commands))
        if _may_have_secret(script):
            return BuildPreparation(place, "…", folder, produces, obstacle=_SECRET_OBSTACLE)
        preparation = BuildPreparation(place, as_inline_code(commands[0].strip()), folder, produces)
        if _is_cut_inside_block(written):
            return replace(preparation, obstacle="it builds, loads or tests something within a block of its script")
        obstacle = _find_obstacle(script, step.get_text("shell"), folder)
        if obstacle:
            return replace(preparation, obstacle=obstacle)
        return self._convert_script(preparation, step, script)

    def _convert_script(self, preparation: BuildPreparation, step: YamlMapping, script: str) -> BuildPreparation:
        env: dict[str, Any] = {}
        lost: list[str] = []
        own_env = {key: value for key, value, _ in step.iter_pairs("env")}
        for key, value in {**self.outer_env, **own_env}.items():
            converted = _convert_value(self.substitute(value))
            is_named = key in own_env or re.search(rf"\b{re.escape(key)}\b", script) is not None
            is_secret = isinstance(converted, dict) and "secret" in converted
            if isinstance(converted, str) and vocabulary.is_secret(key, converted):
                lost += [f"its variable {key}, whose value may be a secret"] if is_named else []
            elif not _is_free_name(key) or converted is None:
                lost += [f"its variable {key}"] if is_named else []
            elif is_named or not is_secret:
                env[key] = converted
        converted_script = _convert_expressions(script, env)
        if converted_script is None:
            return replace(preparation, obstacle="only a run knows the value of an expression in it")
        if not _IS_SCRIPT(converted_script):
            return replace(preparation, obstacle="the spec cannot have its script")
        fields: dict[str, Any] = {"name": _choose_name(step.get_text("name"), preparation.text)}
        if preparation.folder != ".":
            fields["working_directory"] = preparation.folder
        fields["run"] = f"{converted_script}\n" if "\n" in converted_script else converted_script
        if env:
            fields["env"] = env
        return replace(preparation, fields=fields, lost=tuple(lost))


def only_sets_outputs(commands: list[str]) -> bool:
    """Whether commands only compute what other steps read, such as the tag of an image."""
    return bool(commands) and all(map(_SETS_OUTPUT.search, commands))


def _may_reach_context(preparation: BuildPreparation, context: str) -> bool:
    """Whether a step may write files into a build context."""
    folder = preparation.folder
    if is_within_folder(folder, context) or is_within_folder(context, folder):
        return True
    return context in str(preparation.fields.get("run", ""))


def _cut_before_build(script: str) -> str:
    """The commands of a script before its first build of an image."""
    build = _BUILD_COMMAND.search(script)
    if not build:
        return script
    ends = [separator.start() for separator in _COMMAND_SEPARATOR.finditer(script, 0, build.start())]
    return script[: ends[-1]].rstrip() if ends else ""


def _is_neutral(line: str) -> bool:
    """Whether each command of a line only prints something, or changes only the shell that runs it."""
    return all(map(_NEUTRAL_COMMAND.fullmatch, split_shell_commands(line)))


def _split_logical_lines(script: str) -> list[str]:
    """The lines of a script, each with those that a backslash continues it with."""
    return [line.rstrip() for line in _LINE_END.split(script)]


def _is_cut_inside_block(script: str) -> bool:
    """Whether a line that belongs elsewhere is in an `if`, a loop or a quote, which would be no script without it."""
    depth = 0
    scanned = _blank_out(script, find_here_documents(script))
    for line in _split_logical_lines(scanned):
        depth_before = depth
        depth = max(0, depth + _count_opened_blocks(line))
        if _belongs_elsewhere(line) and max(depth_before, depth) > 0:
            return True
    return depth > 0 or find_open_quote(scanned) in ("'", '"')


def _count_opened_blocks(line: str) -> int:
    """How many blocks of the shell are open at the end of a line that were not before it."""
    function = _FUNCTION_START.match(line)
    commands = split_shell_commands(line[function.end() :] if function else line)
    started = sum(_BLOCK_START.match(command) is not None for command in commands)
    ended = sum(_BLOCK_END.match(command) is not None for command in commands)
    started_subshell = line.lstrip().startswith("(") and ")" not in line
    ended_subshell = line.lstrip().startswith(")")
    return started + (function is not None) + started_subshell - ended - ended_subshell


def _list_remote_commands(script: str) -> list[str]:
    """The commands of a script that run on another machine, or copy files from or to one."""
    return [command for command in split_shell_commands(_hide_expressions(script)) if _is_remote(command)]


def _is_remote(command: str) -> bool:
    program = _get_program(command)
    if program in ("ssh", "sshpass"):
        return True
    return program in ("rsync", "scp") and _REMOTE_OPERAND.search(command) is not None


def _get_program(command: str) -> str:
    """The program that a command runs, behind assignments and words such as `sudo`; empty for none."""
    words = [word for word in command.split() if not _PREFIX_OF_PROGRAM.fullmatch(word)]
    return words[0] if words else ""


def _prepares_ssh(command: str) -> bool:
    """Whether a command only writes or loads what SSH needs."""
    program = _get_program(command)
    return _SSH_SETUP_PROGRAM.fullmatch(program) is not None and _SSH_SETUP.search(command) is not None


def _only_works_on_other_machines(script: str) -> bool:
    """Whether a script has commands for another machine, and else only what SSH needs for them."""
    remote = _list_remote_commands(script)
    others = [command for command in split_shell_commands(_hide_expressions(script)) if command not in remote]
    return bool(remote) and all(_NEUTRAL_COMMAND.fullmatch(other) or _prepares_ssh(other) for other in others)


def _hide_expressions(script: str) -> str:
    """A script with a variable in place of each expression, whose spaces and quotes would split its command."""
    return EXPRESSION_PATTERN.sub(_SOME_VARIABLE, script).replace(UNKNOWN_TEXT, _SOME_VARIABLE)


def _belongs_elsewhere(line: str) -> bool:
    """Whether a line of a step builds or pushes an image, or tests and does nothing else."""
    only_tests = TEST_COMMAND.search(line) is not None and _BUILDS_TOO.search(line) is None
    return only_tests or _IMAGE_COMMAND.search(line) is not None


def _find_obstacle(script: str, shell: str, folder: str) -> str:
    """Why no step of the spec can run a script; empty if one can."""
    if _list_remote_commands(script):
        return "it also works on another machine"
    if _SETS_OUTPUT.search(script):
        return "other steps read what it sets"
    if shell and not shell.startswith(("bash", "sh")):
        return f"its shell is {shell}"
    if folder != "." and not _IS_FOLDER(folder):
        return "only a run knows its folder"
    if "${{" in script and _QUOTED_HERE_DOCUMENT.search(script):
        return "no shell reads a variable in its here-document"
    return ""


def _may_have_secret(script: str) -> bool:
    """Whether a script could have a secret in it, beside the expressions and variables that it names."""
    return may_contain_secret(_WRITTEN_FILE.sub(" ", _hide_expressions(script)))


def _convert_expressions(script: str, env: dict[str, Any]) -> str | None:
    """A script with variables in place of expressions, which are added to its environment; None if one is unknown."""
    converted = ""
    end = 0
    quote = ""
    here_documents = find_here_documents(script)
    scanned = _blank_out(script, here_documents)
    for match in EXPRESSION_PATTERN.finditer(script):
        name = _name_variable(match[1].strip(), env)
        if not name:
            return None
        quote = find_open_quote(scanned[end : match.start()], quote)
        is_in_here_document = any(start <= match.start() < stop for start, stop in here_documents)
        converted += script[end : match.start()] + _write_reference(name, quote, is_quoted=not is_in_here_document)
        end = match.end()
    converted += script[end:]
    return converted if UNKNOWN_TEXT not in converted else None


def _blank_out(script: str, spans: list[tuple[int, int]]) -> str:
    """A script of the same length with line ends in place of some parts: a quote in them is none of the shell's."""
    for start, stop in spans:
        script = script[:start] + "\n" * (stop - start) + script[stop:]
    return script


def _write_reference(name: str, quote: str, *, is_quoted: bool) -> str:
    """A variable as one word of the shell, by the quote that is open before it."""
    reference = f"${{{name}}}"
    if quote == "'":
        return f"'\"{reference}\"'"
    if quote or not is_quoted:
        return reference
    return f'"{reference}"'


def _name_variable(expression: str, env: dict[str, Any]) -> str:
    """The variable that has the value of an expression; empty if none can have it."""
    if expression in _RUNNER_VARIABLES:
        return _RUNNER_VARIABLES[expression]
    if expression.startswith("env.") and expression.removeprefix("env.") in env:
        return expression.removeprefix("env.")
    value = _convert_value(f"${{{{ {expression} }}}}")
    setting = _SETTING.fullmatch(expression)
    if value is None or not setting or env.get(setting[2], value) != value or not _is_free_name(setting[2]):
        return ""
    env[setting[2]] = value
    return setting[2]


def _convert_value(text: str) -> Any:
    """The value of a variable in the words of the spec; None if the spec cannot have it."""
    expression = EXPRESSION_PATTERN.fullmatch(text)
    setting = _SETTING.fullmatch(expression[1].strip()) if expression else None
    if setting and _IS_SECRET_NAME(setting[2]):
        return {"secret" if setting[1] == "secrets" else "variable": setting[2]}
    return text if _IS_SINGLE_LINE(text) and text and "${{" not in text else None


def _is_free_name(key: str) -> bool:
    return _IS_ENV_KEY(key) and re.fullmatch(RUNNER_VARIABLE_PATTERN, key) is None


def _read_action(
    step: YamlMapping, action: str, place: str, substitute: Callable[[str], str]
) -> BuildPreparation | None:
    """An action before a build; one that installs a language goes with the commands that need it."""
    text = as_inline_code(action)
    inputs = {key: substitute(format_scalar(value)) for key, value in step.get_mapping("with").items()}
    preparation = BuildPreparation(place, text, ".", produces=False)
    if action == "actions/checkout":
        more = [words for key, words in _CHECKOUT_INPUTS.items() if inputs.get(key, "false") not in ("", "false")]
        if not more:
            return None
        reason = "a step of the spec has to do it with `git`"
        return replace(preparation, text=f"the checkout of {' and '.join(more)}", produces=True, obstacle=reason)
    if action == "actions/download-artifact":
        name = inputs.get("name") or "of another job"
        reason = "no job that makes it runs before the build: write the steps of that job under `steps.before_build`"
        return replace(preparation, text=f"the artifact {name}", produces=True, obstacle=reason)
    if action in _PINNED_SETUP_ACTIONS:
        kept_inputs = {key: value for key, value in inputs.items() if key not in _CACHE_INPUTS}
        if not all(map(_is_plain_input, kept_inputs, kept_inputs.values())):
            return replace(preparation, obstacle="the spec cannot have its inputs")
        fields = {"name": _choose_name(step.get_text("name"), action), "uses": action}
        return replace(preparation, fields=fields | ({"inputs": kept_inputs} if kept_inputs else {}))
    if _UNRELATED_ACTION.match(action):
        return None
    return replace(preparation, obstacle="it needs a commit in specs/pins/action.yml: write `uses` when it is there")


def _is_plain_input(key: str, value: str) -> bool:
    is_valid = _IS_INPUT_NAME(key) and _IS_SINGLE_LINE(value) and "${{" not in value
    return is_valid and not vocabulary.is_secret(key, value)


def _choose_name(title: str, text: str) -> str:
    """A step's name as the spec has it: plain words, a capital first."""
    words = re.sub(r"\$\{\{.*?\}\}", "", title) or f"Run {text.strip('`…')}"
    plain = " ".join(re.sub(r"[^A-Za-z0-9 ,.()/+_-]", " ", words).split())
    plain = plain.lstrip(" ,.()/+_-0123456789").rstrip(" ,(/+_-")[:60].rstrip(" ,(/+_-")
    return plain[:1].upper() + plain[1:] if len(plain) > 1 else "Prepare the build"
