"""The shell in other people's workflows: which images it builds, whether it tests."""

import itertools
import posixpath
import re
import shlex
from collections.abc import Iterator

from kiwari_ci.readers.image_reference import parse_image_reference

UNKNOWN_TEXT = "\N{REPLACEMENT CHARACTER}"  # stands for what only a run knows
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
    r"|artisan test|dotnet test|make [\w-]*test|just [\w-]*test|turbo\b[^\n]{0,200}\btest\b|rspec|rails test|mix test)"
)


def parse_image_name(reference: str) -> str:
    """An image without its tag; empty when its last word is not known, UNKNOWN for what is not known before that."""
    repository = parse_image_reference(reference.strip().strip("\"'")).repository
    before, slash, word = repository.rpartition("/")
    if not re.fullmatch(r"[\w.-]+", word):
        return ""
    return (before if re.fullmatch(r"[\w./:-]*", before) else UNKNOWN_TEXT).lower() + slash + word.lower()


def iter_docker_commands(script: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of a script that shlex can read, without redirections' meaning, and where each has gone by `cd`."""
    folder = "."
    for line in re.sub(r"\\\n", " ", script).split("\n"):
        before, line = folder, line.strip()
        inside = line.startswith("(")  # a subshell for this line
        for part in re.split(r"&&|\|\||;|\|", line.strip("() ") if inside else line):
            if moved := re.fullmatch(r"\s*cd\s+[\"']?([\w./-]+)[\"']?\s*", part):
                folder = posixpath.normpath(posixpath.join(folder, moved[1]))
            if "docker" in part and len(part) < 5000:
                try:
                    yield (
                        folder,
                        list(itertools.dropwhile(re.compile(r"\w+=.*|sudo|time").fullmatch, shlex.split(part))),
                    )
                except ValueError:
                    continue
        folder = before if inside else folder


def parse_docker_build(given: list[str]) -> dict[str, list[str]]:
    """What a `docker build` says: context, file, tag, arg, target, platform and secret, as often as each is there."""
    long = {"-t": "tag", "--tag": "tag", "-f": "file", "--file": "file", "--build-arg": "arg"}
    long |= {f"--{name}": name for name in ("target", "platform", "secret")}
    found: dict[str, list[str]] = {name: [] for name in ("context", *long.values())}
    rest = iter(given)
    for part in rest:
        name, _, value = part.partition("=")
        if part.startswith("-"):
            takes = name in long or name in (
                "--cache-from",
                "--cache-to",
                "--label",
                "--output",
                "-o",
                "--progress",
            )
            value = value or (next(rest, "") if takes else "")
            if name in long:
                found[long[name]].append(value)
        else:
            found["context"].append(part)
    return found


def is_needed_for_tests(script: str) -> bool:
    """Whether a step before the tests is one that they need: it installs something, or it is the tests."""
    return TEST_COMMAND.search(script) is not None or _INSTALL_COMMAND.search(script) is not None
