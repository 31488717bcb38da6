"""Finds the shell scripts and Makefile targets of the repository that commands run, with the values of each call.

Nothing is run. A script that is not in the repository, or that cannot be read, is noted with its place.
"""

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from kiwari_ci.file_output.generated_files import is_env_file
from kiwari_ci.readers.makefile import MAKEFILE_NAMES, Makefile, parse_makefile, run_make
from kiwari_ci.readers.script_values import fill_in_script_values, is_plain_value
from kiwari_ci.readers.shell import MAX_SCRIPT_LENGTH, ShellCommand, locate_shell_commands
from kiwari_ci.readers.yaml_document import as_inline_code
from kiwari_ci.safe_files import read_file_head

MAX_CALL_DEPTH = 10  # scripts, targets of make, texts of `bash -c` and logins of `ssh` within one another
MAX_CALLS = 200  # that are followed for one set of files
MAX_FOLLOWED_LENGTH = 1_000_000  # characters of all of them
_SHELLS = {"bash", "sh", "dash", "ash", "ksh", "zsh"}
_SHELL_OPTIONS_WITH_VALUE = {"-o", "+o", "-O", "+O", "--rcfile", "--init-file"}
_ONLY_CHECKS_SYNTAX = re.compile(r"-[a-z]*n[a-z]*").fullmatch  # as `bash -n`, which runs nothing
_MAKE_PROGRAMS = {"make", "gmake"}
_JOINED_MAKE_OPTION = re.compile(r"(-[Cf])(.+)")  # as `-Cinfra`
_REDIRECTION = re.compile(r"(?:\d*|&)[<>]+")
_RUNS_NO_TARGET = re.compile(
    r"-[BbdekLmRrSsw]*[hnqtv][a-z]*|--(?:just-print|dry-run|recon|question|touch|version|help|print-data-base)"
).fullmatch
_MAKE_OPTIONS_WITH_VALUE = {"-f", "--file", "--makefile", "-C", "--directory", "-I", "--include-dir", "-l", "-o", "-W"}
_WRAPPER_OPTIONS_WITH_VALUE = {"-u", "--user", "-g", "--group", "-n", "-k", "--kill-after", "-s", "--signal", "-c"}
_WRAPPERS = {"sudo", "env", "timeout", "nohup", "nice", "ionice", "time", "exec", "command", "stdbuf"}
_SSH_OPTION_WITH_VALUE = re.compile(r"-[BbcDEeFIiJLlmOopQRSWw]$")
_WORKSPACE = re.compile(r"(?:\$\{?GITHUB_WORKSPACE\}?|<github\.workspace>|\$\(git rev-parse --show-toplevel\))(?:/|$)")
_CURRENT_FOLDER = re.compile(r"(?:\$\{?PWD\}?|\$\(pwd\))(?:/|$)")
_UNKNOWN_IN_PATH = re.compile(r"[$`<>*?\n\N{REPLACEMENT CHARACTER}]")
_PROGRAM_FOLDER = re.compile(r"/(?:usr/)?s?bin/|/snap/|/etc/init\.d/")
_OTHER_INTERPRETER = re.compile(r"#!(?!.*\b(?:ba|da|a|k|z)?sh\b)")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_COMPOSE_SETTING = re.compile(r"COMPOSE_[A-Z_]+")


@dataclass(frozen=True)
class ScriptFile:
    """A file of the repository that may be a script: its text, or why it is not read."""

    text: str
    obstacle: str = ""


def is_script_path(path: str) -> bool:
    """Whether a path is one of a script: in the repository, and none of an env file, which may hold secrets."""
    return not path.startswith("/") and ".." not in path.split("/") and not is_env_file(path)


def read_script_file(root: Path, path: str) -> ScriptFile | None:
    """A plain file under a folder, of which no part of the path is a link; None if there is none."""
    if not is_script_path(path):
        return None
    place = root / path
    try:
        if not place.is_file():
            return None
        if place.resolve() != root.resolve() / path:
            return ScriptFile("", "is behind a symbolic link")
        return parse_script_file(read_file_head(place, MAX_SCRIPT_LENGTH + 1))
    except (OSError, ValueError, RuntimeError) as error:
        return ScriptFile("", f"cannot be read: {getattr(error, 'strerror', None) or error}")


def parse_script_file(content: bytes) -> ScriptFile:
    """The text of a file, if it may be a script."""
    if len(content) > MAX_SCRIPT_LENGTH:
        return ScriptFile("", f"has more than {MAX_SCRIPT_LENGTH:,} bytes")
    if b"\0" in content:
        return ScriptFile("", "is a binary file")
    text = content.decode(errors="replace").removeprefix("\ufeff")
    return ScriptFile(text.replace("\r\n", "\n").replace("\r", "\n"))


class ScriptFiles(Protocol):
    """The files of a repository, as far as they may be scripts."""

    def read_script(self, path: str) -> ScriptFile | None:
        """A plain file of the repository; None if it has no such file."""


class NoScripts:
    """A set of files without scripts."""

    def read_script(self, _path: str) -> ScriptFile | None:
        """No path is one of a file."""
        return None


@dataclass(frozen=True)
class CallPlace:
    """Where commands run: in a folder of the repository's checkout, or on a server.

    `folder` is empty for a login's home and `None` where it is not known. `input_folder` is that of the checkout, in
    which the shell that calls `ssh` opens a file for its input. `variables` are those of the environment, and
    `chain` has the calls around the commands.
    """

    where: str
    folder: str | None = "."
    is_remote: bool = False
    input_folder: str | None = "."
    variables: Mapping[str, str] = field(default_factory=dict)
    chain: tuple[str, ...] = ()

    @property
    def is_too_deep(self) -> bool:
        """Whether nothing that these commands run is followed, because each call is in too many others."""
        return len(self.chain) >= MAX_CALL_DEPTH


@dataclass(frozen=True)
class CalledScript:
    """A script that a command runs, with the values of the call; its lines are those of the file from `first_line` on.

    `place` is where its commands run.
    """

    path: str
    text: str
    first_line: int
    place: CallPlace

    def where(self, line: int) -> str:
        """The place of a line of the text."""
        return f"{self.path}:{self.first_line + line - 1}"


class ScriptFinder:
    """Finds the scripts that commands run.

    `followed` are those that it found so far, and `unread` the places of calls that it could not follow, with reasons.
    """

    def __init__(self, files: ScriptFiles) -> None:
        self.unread: dict[str, str] = {}
        self.followed: list[CalledScript] = []
        self._files = files
        self._texts: dict[str, ScriptFile | None] = {}
        self._calls = 0
        self._length = 0

    def iter_scripts(self, script: str, place: CallPlace, called: CalledScript | None = None) -> Iterator[CalledScript]:
        """All scripts that a script runs, and those that they run; `called` is the script, if it is one of these."""
        folder = place.folder
        for command in locate_shell_commands(script, {name: (value,) for name, value in place.variables.items()}):
            words = command.words
            where = called.where(command.line) if called else place.where
            place_of_command = replace(place, folder=folder, where=where)
            if words[0] == "cd":
                folder = change_folder(folder, words)
            elif get_program(words) == "ssh" and not place_of_command.is_too_deep:
                yield from self.iter_scripts(get_remote_command(words), enter_server(place_of_command))
            for inner in self.find_scripts(command, place_of_command):
                yield inner
                yield from self.iter_scripts(inner.text, inner.place, inner)

    def find_scripts(self, command: ShellCommand, place: CallPlace) -> list[CalledScript]:
        """The scripts that one command runs: one, or the commands of a Makefile's target."""
        scripts = self._find_scripts(command, place)
        self.followed += scripts
        return scripts

    def _find_scripts(self, command: ShellCommand, place: CallPlace) -> list[CalledScript]:
        words = _strip_wrappers(command.words)
        if not words:
            return []
        place = replace(place, variables={**place.variables, **command.variables})
        program = get_program(words)
        if program in _MAKE_PROGRAMS:
            return self._find_targets(words[1:], place)
        if words[0].startswith("<"):
            return self._find_script_from_input(words, place)
        if program in _SHELLS:
            return self._find_script_of_shell(words, place)
        if words[0] in ("source", "."):
            return self._find_file(words[1:], place) if _may_be_sourced_script(words[1:]) else []
        is_path = "/" in words[0] and not _PROGRAM_FOLDER.match(words[0]) and not _UNKNOWN_IN_PATH.match(words[0])
        return self._find_file(words, place) if is_path else []

    def _find_script_of_shell(self, words: list[str], place: CallPlace) -> list[CalledScript]:
        """The script that a shell reads: a text behind `-c`, its input behind `-s`, or a file."""
        rest = words[1:]
        while rest and rest[0].startswith(("-", "+")):
            option, *rest = rest
            is_text = re.fullmatch(r"-[a-z]*c", option) is not None
            if is_text:
                return self._build_inline_script(rest, place)
            if option == "--":
                break
            if _ONLY_CHECKS_SYNTAX(option):
                return []
            if re.fullmatch(r"-[a-z]*s", option):
                return self._find_script_from_input([option, *rest], place)
            if option in _SHELL_OPTIONS_WITH_VALUE or re.fullmatch(r"-[a-z]*o", option):
                rest = rest[1:]
        if not rest or rest[0].startswith("<"):
            return self._find_script_from_input(rest, place)
        return self._find_file(rest, place)

    def _build_inline_script(self, words: list[str], place: CallPlace) -> list[CalledScript]:
        path, _, line = place.where.rpartition(":")
        if not words or not line.isdecimal() or place.is_too_deep:
            return []
        inner_place = replace(place, chain=(*place.chain, "-c"))
        return [CalledScript(path, words[0], int(line), inner_place)]

    def _find_script_from_input(self, words: list[str], place: CallPlace) -> list[CalledScript]:
        """The script that is sent to a shell with `< FILE`, which is in the checkout also where the shell is not."""
        for index, word in enumerate(words):
            is_input = word.startswith("<") and not word.startswith(("<<", "<("))
            path = word[1:] or " ".join(words[index + 1 : index + 2])
            if is_input and path:
                arguments = words[words.index("--") + 1 : index] if "--" in words[:index] else []
                return self._find_input_file([path, *arguments], place)
        return []

    def _find_input_file(self, words: Sequence[str], place: CallPlace) -> list[CalledScript]:
        """The script that a path of the checkout names, with its arguments."""
        checkout = replace(place, folder=place.input_folder, is_remote=False) if place.is_remote else place
        for path in list_repository_paths(words[0], checkout):
            file = self._read(path)
            if file:
                return self._build_script(path, file, words, place)
        if place.is_remote:
            self._note(place.where, f"the script {as_inline_code(words[0])}, {_explain_missing(words[0], checkout)}")
        return []

    def _find_file(self, words: Sequence[str], place: CallPlace) -> list[CalledScript]:
        """The script that a path names, with its arguments."""
        written_path = words[0] if words else ""
        if not written_path or written_path == "-":
            return []
        for path in list_repository_paths(written_path, place):
            file = self._read(path)
            if file:
                return self._build_script(path, file, words, place)
        if place.is_remote or not _has_known_folder(written_path, place):
            on_server = " on the server" if place.is_remote else ""
            reason = _explain_missing(written_path, place)
            self._note(place.where, f"the script {as_inline_code(written_path)}{on_server}, {reason}")
        return []

    def _build_script(self, path: str, file: ScriptFile, words: Sequence[str], place: CallPlace) -> list[CalledScript]:
        call = f"{path} {' '.join(words[1:])}"
        if call in place.chain or _OTHER_INTERPRETER.match(file.text):
            return []
        obstacle = file.obstacle or self._find_obstacle(file.text, place)
        if obstacle:
            self._note(place.where, f"the script {as_inline_code(path)} {obstacle}")
            return []
        text = fill_in_script_values(
            file.text, words[0], words[1:], place.variables, lambda sourced: self._read_sourced_file(sourced, place)
        )
        called_place = replace(place, chain=(*place.chain, call))
        return [CalledScript(path, _set_compose_variables(text, place), 1, called_place)]

    def _read(self, path: str) -> ScriptFile | None:
        """A file of the repository, which is read once."""
        if path not in self._texts:
            self._texts[path] = self._files.read_script(path)
        return self._texts[path]

    def _find_obstacle(self, text: str, place: CallPlace) -> str:
        """Why a text is not followed; empty if it is, which counts for the bounds."""
        if place.is_too_deep:
            return f"is called through {MAX_CALL_DEPTH} others or more"
        self._calls += 1
        self._length += len(text)
        if self._calls > MAX_CALLS or self._length > MAX_FOLLOWED_LENGTH:
            return f"comes after the first {MAX_CALLS} calls, or {MAX_FOLLOWED_LENGTH:,} characters, of scripts"
        return ""

    def _read_sourced_file(self, written_path: str, place: CallPlace) -> str | None:
        """The text of a file that a script reads with `source`, which counts where its commands are read."""
        files = map(self._read, list_repository_paths(written_path, place))
        return next((file.text for file in files if file and not file.obstacle), None)

    def _find_targets(self, words: list[str], place: CallPlace) -> list[CalledScript]:
        """The commands of the targets that a run of make makes."""
        run = _parse_make_words(words)
        if not run.runs_targets:
            return []
        folder = place.folder if run.folder == "." else change_folder(place.folder, ["cd", run.folder])
        place = replace(place, folder=folder)
        makefile = self._read_makefile(run.file, place)
        if not makefile:
            if place.is_remote:
                self._note(
                    place.where, f"{as_inline_code(' '.join(['make', *words]))}: no Makefile is in the repository"
                )
            return []
        scripts: list[CalledScript] = []
        for target in run.targets or [""]:
            scripts += self._list_commands_of_target(makefile, target, run.variables, place)
        return scripts

    def _read_makefile(self, name: str, place: CallPlace) -> Makefile | None:
        for candidate in [name] if name else MAKEFILE_NAMES:
            for path in list_repository_paths(candidate, place):
                file = self._read(path)
                if not file:
                    continue
                obstacle = file.obstacle or self._find_obstacle(file.text, place)
                if obstacle:
                    self._note(place.where, f"{as_inline_code(path)} {obstacle}")
                    return None
                return parse_makefile(path, file.text, lambda included: self._read_included_file(included, place))
        return None

    def _read_included_file(self, path: str, place: CallPlace) -> str | None:
        file = self._read(path)
        return file.text if file and not file.obstacle and not self._find_obstacle(file.text, place) else None

    def _list_commands_of_target(
        self, makefile: Makefile, target: str, variables: Mapping[str, str], place: CallPlace
    ) -> list[CalledScript]:
        """The commands of a target, each as a script of its own, as make runs them."""
        call = f"{makefile.path} {target} {sorted(variables.items())}"
        if call in place.chain:
            return []
        run = run_make(makefile, target, variables, place.variables)
        if run is None:
            self._note(place.where, f"{as_inline_code(f'make {target}'.strip())}: no rule of {makefile.path} makes it")
            return []
        for where, reason in [*makefile.unread.items(), *run.unread.items()]:
            self._note(where, reason)
        exported = {name: value for name, value in run.exported.items() if is_plain_value(value)}
        place = replace(place, variables={**place.variables, **exported}, chain=(*place.chain, call))
        return [
            CalledScript(line.path, _set_compose_variables(line.text, place), line.line, place) for line in run.lines
        ]

    def _note(self, where: str, reason: str) -> None:
        reasons = self.unread.get(where, "").split("; ")
        if reason not in reasons:
            self.unread[where] = "; ".join([*filter(None, reasons), reason])


def _explain_missing(written_path: str, place: CallPlace) -> str:
    """Why a repository has no script for a path."""
    if _UNKNOWN_IN_PATH.search(written_path):
        return "whose path only a run knows"
    is_known = _has_known_folder(written_path, place)
    return "which is not in the repository" if is_known else "whose folder only a run knows"


def _has_known_folder(written_path: str, place: CallPlace) -> bool:
    """Whether it is known from which folder a path starts."""
    return place.folder is not None or written_path.startswith(("/", "~"))


def _may_be_sourced_script(words: Sequence[str]) -> bool:
    """Whether a file that `source` reads may have commands: no env file, and none that sets up a shell."""
    path = words[0] if words else ""
    return path.endswith(".sh") and not any(
        part.startswith(".") for part in path.split("/")[:-1] if part not in (".", "..")
    )


def get_program(words: Sequence[str]) -> str:
    """The program that a command runs, without its folder."""
    return words[0].rpartition("/")[2]


def get_remote_command(words: Sequence[str]) -> str:
    """What an `ssh` runs on the host: the words behind its name, or a here-document."""
    return " ".join(words[_find_ssh_host(words) + 1 :])


def get_ssh_host(words: Sequence[str]) -> str:
    """The host that an `ssh` logs in to; empty for none."""
    index = _find_ssh_host(words)
    return words[index] if index < len(words) else ""


def _find_ssh_host(words: Sequence[str]) -> int:
    index = 1
    while index < len(words) and words[index].startswith("-"):
        index += 2 if _SSH_OPTION_WITH_VALUE.fullmatch(words[index]) else 1
    return index


def enter_server(place: CallPlace) -> CallPlace:
    """The place of commands that an ssh command runs: the home of its login, with none of the variables here."""
    input_folder = place.input_folder if place.is_remote else place.folder
    chain = (*place.chain, "ssh")
    return replace(place, folder="", is_remote=True, input_folder=input_folder, variables={}, chain=chain)


def change_folder(folder: str | None, words: Sequence[str]) -> str | None:
    """The folder after a `cd`; None if only a run knows it."""
    folder, target = _resolve_start(folder, get_cd_target(words))
    if target == "-" or _UNKNOWN_IN_PATH.search(target):
        return None
    if target.startswith(("/", "~")):
        return posixpath.normpath(target)
    return None if folder is None else posixpath.normpath(posixpath.join(folder, target))


def get_cd_target(words: Sequence[str]) -> str:
    """The folder that a `cd` names: `-` for the one before, and empty for the home."""
    return next((word for word in words[1:] if not word.startswith("-")), "-" if "-" in words else "")


def _resolve_start(folder: str | None, path: str) -> tuple[str | None, str]:
    """The folder from which a path starts, and the path from there, without a variable that is one of the two."""
    workspace = _WORKSPACE.match(path)
    current_folder = _CURRENT_FOLDER.match(path)
    if workspace:
        return ".", path[workspace.end() :] or "."
    if current_folder:
        return folder, path[current_folder.end() :] or "."
    return folder, path


def list_repository_paths(written_path: str, place: CallPlace) -> list[str]:
    """The paths in the repository that a path may be, the likeliest first; none if only a run knows it.

    On a server, the repository is in some folder: the end of a path there is the path in the repository. In a checkout,
    the last path is the one from the root, because a script may have left a folder again or name its own one in full.
    """
    folder, path = _resolve_start(place.folder, written_path)
    if _UNKNOWN_IN_PATH.search(path) or not _has_known_folder(path, replace(place, folder=folder)):
        return []
    joined = posixpath.normpath(posixpath.join(folder or "", path))
    parts = [part for part in joined.split("/") if part and not part.startswith("~")]
    if ".." in parts:
        return []
    is_absolute = path.startswith(("/", "~"))
    written_length = 1 if is_absolute else len(posixpath.normpath(path).split("/"))
    is_on_server = place.is_remote or joined.startswith(("/", "~"))
    if is_on_server:
        last_start = max(0, len(parts) - written_length)
        return ["/".join(parts[start:]) for start in range(last_start + 1)]
    path_from_root = posixpath.normpath(path)
    return list(dict.fromkeys([joined, *([] if path_from_root.startswith("..") else [path_from_root])]))


def _strip_wrappers(words: Sequence[str]) -> list[str]:
    """A command without the programs that only run it, such as `sudo` and `timeout`, and their options."""
    rest = list(words)
    has_wrapper = rest[0].startswith("-")  # the shell reader has cut off a `sudo` before it
    while rest:
        is_option = rest[0].startswith("-")
        is_of_wrapper = is_option or _ASSIGNMENT.fullmatch(rest[0]) or re.fullmatch(r"\d+[smhd]?", rest[0])
        if get_program(rest) in _WRAPPERS:
            has_wrapper = True
            rest = rest[1:]
        elif has_wrapper and is_of_wrapper:
            rest = rest[2:] if rest[0] in _WRAPPER_OPTIONS_WITH_VALUE else rest[1:]
        else:
            break
    return rest


def _set_compose_variables(text: str, place: CallPlace) -> str:
    """A script that sets the variables for Compose which its environment has, on its first line."""
    settings = [
        f"export {name}={value}; "
        for name, value in place.variables.items()
        if _COMPOSE_SETTING.fullmatch(name) and is_plain_value(value) and value
    ]
    return "".join(settings) + text


@dataclass
class _MakeWords:
    """The words of a `make`: its folder, its file, its targets and the variables that it gets.

    `runs_targets` is false if it only prints what it would do, as `make -n`.
    """

    folder: str = "."
    file: str = ""
    targets: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    runs_targets: bool = True


def _parse_make_words(words: Sequence[str]) -> _MakeWords:
    run = _MakeWords()
    remaining = iter(words)
    for word in remaining:
        option, value = _split_make_option(word)
        assignment = _ASSIGNMENT.fullmatch(word)
        redirection = _REDIRECTION.match(word)
        if word.startswith("-"):
            if _RUNS_NO_TARGET(word):
                run.runs_targets = False
            if option in _MAKE_OPTIONS_WITH_VALUE and not value:
                value = next(remaining, "")
            if option in ("-C", "--directory"):
                run.folder = posixpath.join(run.folder, value)
            elif option in ("-f", "--file", "--makefile"):
                run.file = value
        elif assignment:
            run.variables[assignment[1]] = assignment[2]
        elif redirection and redirection.end() == len(word):
            next(remaining, "")  # the file
        elif not redirection:
            run.targets.append(word)
    return run


def _split_make_option(word: str) -> tuple[str, str]:
    """An option of make and its value, if both are one word (`-Cinfra`, `--file=a.mk`)."""
    joined = _JOINED_MAKE_OPTION.fullmatch(word)
    if joined:
        return joined[1], joined[2]
    option, _, value = word.partition("=")
    return option, value
