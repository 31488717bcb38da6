"""The shell in other people's workflows: which images it builds, whether it tests."""

import itertools
import posixpath
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from kiwari_ci.readers.image_reference import parse_image_reference

MAX_COMMAND_LENGTH = 5_000  # characters
UNKNOWN_TEXT = "\N{REPLACEMENT CHARACTER}"  # stands for what only a run knows
_COMMAND_SEPARATOR = re.compile(r"&&|\|\||;|\|")
_COMMAND_PREFIX = re.compile(r"\w+=.*|sudo|time")
_CHANGE_DIRECTORY = re.compile(r"\s*cd\s+[\"']?([\w./-]+)[\"']?\s*")
_INSTALL_COMMAND = re.compile(
    r"\b(npm ci|(npm|pnpm|yarn|bun|poetry|composer|bundle|pip\d?|pipx) (install|sync|i)\b|yarn$|uv (sync|pip|venv)"
    r"|corepack|go mod download|cargo install)",
    re.MULTILINE,
)
# Bounded: a line of somebody else's may be as long as it likes.
TEST_COMMAND = re.compile(
    r"\b(go test|gotestsum|(npm|pnpm|yarn|bun)\b[^\n]{0,200}\btest\b|vitest|jest|pytest|tox\b|manage\.py test"
    r"|cargo (nextest|test)"
    r"|(mvn|mvnw)\b[^\n]{0,200}\b(test|verify)\b|gradlew?\b[^\n]{0,200}\b(test|check|build)\b"
    r"|composer\b[^\n]{0,200}\btest\b|phpunit|pest\b"
    r"|artisan test|dotnet test|make [\w-]*test|just [\w-]*test|turbo\b[^\n]{0,200}\btest\b|rspec|rails test|mix test"
    r"|tests?\.sh\b)"  # a script such as api/test.sh or run-tests.sh
)

_FLAGS_OF_RUN = {
    "--detach", "--init", "--interactive", "--no-healthcheck", "--oom-kill-disable", "--privileged", "--publish-all",
    "--quiet", "--read-only", "--rm", "--tty",
}  # fmt: skip
_SHORT_FLAGS_OF_RUN = "ditPq"
_UNTOLD_OPTIONS_OF_RUN = {"-d", "--detach", "-i", "-t", "-it", "-dit", "-itd", "--interactive", "--tty", "--pull", "-q"}


def parse_image_name(reference: str) -> str:
    """An image without its tag; empty when its last word is not known, UNKNOWN for what is not known before that."""
    repository = parse_image_reference(reference.strip().strip("\"'")).repository
    before, slash, word = repository.rpartition("/")
    if not re.fullmatch(r"[\w.-]+", word):
        return ""
    return (before if re.fullmatch(r"[\w./:-]*", before) else UNKNOWN_TEXT).lower() + slash + word.lower()


def iter_docker_commands(script: str) -> Iterator[tuple[str, list[str]]]:
    """The words of each command of a script that names docker, and the folder that `cd` has changed to by then.

    Variables are not filled in, and redirections are words like others; what shlex cannot read is left out.
    """
    folder = "."
    for line in re.sub(r"\\\n", " ", script).split("\n"):
        line = line.strip()
        folder_before = folder
        is_subshell = line.startswith("(")
        if is_subshell:
            line = line.strip("() ")
        for command in _COMMAND_SEPARATOR.split(line):
            if change := _CHANGE_DIRECTORY.fullmatch(command):
                folder = posixpath.normpath(posixpath.join(folder, change[1]))
            if "docker" in command and len(command) < MAX_COMMAND_LENGTH:
                words = _split_shell_words(command)
                if words:
                    yield folder, words
        if is_subshell:
            folder = folder_before


def _split_shell_words(command: str) -> list[str]:
    """The words of a command, without the assignments and prefixes before it; none when its quotes do not match."""
    try:
        words = shlex.split(command)
    except ValueError:
        return []
    return list(itertools.dropwhile(_COMMAND_PREFIX.fullmatch, words))


@dataclass(frozen=True)
class DockerRun:
    """A container that `docker run` starts and that stays: its name or image, and its options.

    Of variables only the names are there.
    """

    name: str
    options: list[str]


def parse_docker_run(words: list[str]) -> DockerRun | None:
    """The words of a `docker run` of a container that stays; None for another command."""
    if words[:1] == ["ssh"] and words[-1] != "ssh":
        return next((run for _, inner in iter_docker_commands(words[-1]) if (run := parse_docker_run(inner))), None)
    if words[:2] != ["docker", "run"] and words[:3] != ["docker", "container", "run"]:
        return None
    remaining = iter(words[words.index("run") + 1 :])
    name = ""
    options = []
    for word in remaining:
        option, equals, value = word.partition("=")
        if not word.startswith("-"):
            name = name or word
            break
        if option == "--rm":
            return None
        if _takes_value(option) and not equals:
            value = next(remaining, "")
        if option == "--name":
            name = value
        elif option not in _UNTOLD_OPTIONS_OF_RUN:
            shown_value = value.partition("=")[0] if option in ("-e", "--env") else value
            options.append(f"{option} {shown_value}".strip())
    return DockerRun(name.replace(UNKNOWN_TEXT, "…"), [option.replace(UNKNOWN_TEXT, "…") for option in options])


def _takes_value(option: str) -> bool:
    """Whether the word behind an option of `docker run` is its value; in `-it` and the like the last letter decides."""
    if option.startswith("--"):
        return option not in _FLAGS_OF_RUN
    return option[-1] not in _SHORT_FLAGS_OF_RUN


def installs_packages(command: str) -> bool:
    """Whether a command only installs what other commands need."""
    return _INSTALL_COMMAND.search(command) is not None and "&&" not in command


def is_needed_for_tests(script: str) -> bool:
    """Whether a step before the tests is one that they need: it installs something, or it is the tests."""
    return TEST_COMMAND.search(script) is not None or _INSTALL_COMMAND.search(script) is not None
