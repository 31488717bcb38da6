"""A Dockerfile as BuildKit builds it: its stages, what they take from the build context, the ports of its image."""

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from kiwari_ci.readers import dockerfile_syntax
from kiwari_ci.readers.dockerfile_syntax import (
    HEREDOC_START,
    INSTRUCTION_NAMES,
    Instruction,
    ShellLexer,
    parse_word_list,
)

_REMOTE_SOURCE = re.compile(r"(?:https?|git|ssh)://|git@[^/]+:|github\.com/")
_PORT_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(\w+))?")
_NO_ARGUMENTS: Mapping[str, str | None] = MappingProxyType({})
_BUILTIN_ARGUMENT = re.compile(r"(?:TARGET|BUILD)(?:PLATFORM|OS|ARCH|VARIANT)|TARGETSTAGE")


@dataclass(frozen=True)
class CopySource:
    """A source of a COPY, an ADD or a `RUN --mount=type=bind`: a path from the context's root, `""` for all of it.

    `written` is the word itself, `left_out` what `--exclude` names; with `parents`, `**` stands for any folders. Only
    the build knows the values of `unknown` variables; those of `undefaulted` are an ARG that nothing gives one.
    """

    by: str
    line: int
    last: int
    written: str
    path: str
    left_out: tuple[str, ...] = ()
    parents: bool = False
    unknown: tuple[str, ...] = ()
    undefaulted: tuple[str, ...] = ()

    @property
    def is_pattern(self) -> bool:
        """Whether it may match several files, or none: a mount's source never does."""
        return self.by != "RUN" and any(character in self.path for character in "*?[")


@dataclass(frozen=True)
class ExposedPorts:
    """A port of EXPOSE, or a range of them; both ends belong to it."""

    line: int
    low: int
    high: int
    protocol: str


@dataclass(frozen=True)
class Stage:
    """One stage: `parent` is the index of the stage that it builds on, None for an image; `needs` are such indexes."""

    name: str
    image: str
    line: int
    parent: int | None
    instructions: tuple[Instruction, ...]
    taken: tuple[CopySource, ...]
    exposed: tuple[ExposedPorts, ...]
    needs: frozenset[int]


@dataclass(frozen=True)
class Dockerfile:
    """All of it; `syntax` is the frontend that its first lines name, `faults` what no build gets past, by line.

    `target` is the index of the stage that is built, None where there is none of that name; `arguments`: every ARG.
    """

    stages: tuple[Stage, ...]
    syntax: str
    faults: tuple[tuple[int, str], ...]
    target: int | None
    arguments: frozenset[str]

    @property
    def names(self) -> list[str]:
        """The names of the stages that have one."""
        return [stage.name for stage in self.stages if stage.name]

    @property
    def built(self) -> tuple[Stage, ...]:
        """The stages that a build runs: the target, and what it needs."""
        wanted: set[int] = set()
        waiting = [] if self.target is None else [self.target]
        while waiting:
            wanted.add(index := waiting.pop())
            waiting += self.stages[index].needs - wanted
        return tuple(self.stages[index] for index in sorted(wanted))

    @property
    def exposed(self) -> tuple[ExposedPorts, ...]:
        """Ports of the image that is built, also those of the stages that its own one builds on."""
        found: tuple[ExposedPorts, ...] = ()
        index = self.target
        while index is not None:
            found = self.stages[index].exposed + found
            index = self.stages[index].parent
        return found


def parse_dockerfile(text: str, given: Mapping[str, str | None] = _NO_ARGUMENTS, target: str = "") -> Dockerfile:
    """Read a Dockerfile's text; never raises: what is wrong with it is in `faults`.

    `given` are the build arguments, None for a value that only the build knows; `target` is the stage, else the last.
    """
    listing = dockerfile_syntax.parse_instructions(text)
    builder = _BuildSimulator(dockerfile_syntax.build_shell_lexer(listing.directives), given)
    for instruction in listing.instructions:
        builder.take(instruction)
    faults = list(listing.faults) + builder.faults
    if not builder.stages:
        faults.append((1, "no FROM: there is nothing to build"))
    last = len(builder.stages) - 1 if builder.stages else None
    return Dockerfile(
        tuple(map(_freeze_stage, builder.stages)),
        listing.directives.get("syntax", ""),
        tuple(sorted(faults)),
        builder.named(target) if target else last,
        frozenset(
            key for each in listing.instructions if each.name == "ARG" for key, _ in builder.words.pairs(each.rest)
        ),
    )


@dataclass
class _MutableStage:
    name: str
    image: str
    line: int
    parent: int | None
    values: dict[str, str] = field(default_factory=dict)
    environment: set[str] = field(default_factory=set)
    undefaulted: set[str] = field(default_factory=set)
    instructions: list[Instruction] = field(default_factory=list)
    taken: list[CopySource] = field(default_factory=list)
    exposed: list[ExposedPorts] = field(default_factory=list)
    needs: set[int] = field(default_factory=set)

    def set(self, key: str, value: str | None) -> None:
        self.undefaulted.discard(key)
        self.values.pop(key, None)
        if value is not None:
            self.values[key] = value


def _freeze_stage(stage: _MutableStage) -> Stage:
    parts = tuple(stage.instructions), tuple(stage.taken), tuple(stage.exposed)
    return Stage(stage.name, stage.image, stage.line, stage.parent, *parts, frozenset(stage.needs))


class _BuildSimulator:
    """Goes through the instructions as a build does."""

    def __init__(self, words: ShellLexer, given: Mapping[str, str | None]) -> None:
        self.words = words
        self.given = given
        self.stages: list[_MutableStage] = []
        self.arguments: dict[str, str] = {}  # those before the first FROM
        self.faults: list[tuple[int, str]] = []

    def take(self, found: Instruction) -> None:
        if found.name not in INSTRUCTION_NAMES:
            self.faults.append((found.line, f"`{found.name[:40]}` is no instruction"))
        elif found.name == "FROM":
            self.start(found)
        elif self.stages:
            self.stages[-1].instructions.append(found)
            self.within(self.stages[-1], found)
        elif found.name == "ARG":
            for key, default in self.words.pairs(found.rest):
                value = self.given.get(key, default)
                if value is not None:
                    self.arguments[key] = value if key in self.given else self.words.expand(value, self.arguments)[0]
        else:
            self.faults.append((found.line, f"{found.name} before the first FROM"))

    def start(self, found: Instruction) -> None:
        words = [self.words.expand(word, self.arguments)[0] for word in found.rest.split()] or [""]
        name = words[2].lower() if len(words) == 3 and words[1].upper() == "AS" else ""
        parent = self.named(words[0])
        stage = _MutableStage(name, words[0], found.line, parent)
        if parent is not None:
            base = self.stages[parent]
            stage.values, stage.environment = dict(base.values), set(base.environment)
            stage.undefaulted, stage.needs = set(base.undefaulted), {parent}
        if not found.rest:
            self.faults.append((found.line, "FROM names no image"))
        self.stages.append(stage)

    def within(self, stage: _MutableStage, found: Instruction) -> None:
        steps: dict[str, Callable[[_MutableStage, Instruction], None]] = {
            "ARG": self.argument, "ENV": self.variable, "EXPOSE": self.port,
            "ADD": self.copied, "COPY": self.copied, "RUN": self.mounted,
        }  # fmt: skip
        if found.name in steps:
            steps[found.name](stage, found)

    def argument(self, stage: _MutableStage, found: Instruction) -> None:
        """What the build is given wins over a default, and ENV over both; one that has neither is empty."""
        for key, value in self.words.pairs(found.rest):
            if key in stage.environment:
                continue
            if key in self.given:
                stage.set(key, self.given[key])
                continue
            text = self.arguments.get(key) if value is None else self.value(stage, value)
            stage.set(key, text)
            if value is None and text is None and not _BUILTIN_ARGUMENT.fullmatch(key):
                stage.undefaulted.add(key)

    def variable(self, stage: _MutableStage, found: Instruction) -> None:
        for key, value in self.words.pairs(found.rest):
            stage.set(key, self.value(stage, value or ""))
            stage.environment.add(key)

    def value(self, stage: _MutableStage, word: str) -> str | None:
        text, unknown = self.words.expand(word, stage.values)
        return None if unknown else text

    def port(self, stage: _MutableStage, found: Instruction) -> None:
        for word in found.rest.split():
            if match := _PORT_RANGE.fullmatch(self.value(stage, word) or ""):
                protocol = (match[3] or "tcp").lower()
                stage.exposed.append(ExposedPorts(found.line, int(match[1]), int(match[2] or match[1]), protocol))

    def copied(self, stage: _MutableStage, found: Instruction) -> None:
        flags = [
            (name, self.words.expand(text, stage.values)[0]) for name, _, text in map(_split_assignment, found.flags)
        ]
        words = parse_word_list(found.rest)
        if len(words) < 2:
            self.faults.append((found.line, f"{found.name} lacks a source or a destination"))
        if origins := [text for name, text in flags if name == "from"]:
            self.need(stage, origins[0])
            return
        left_out = tuple(text for name, text in flags if name == "exclude")
        parents = any(name == "parents" and text != "false" for name, text in flags)
        for word in words[:-1]:
            taken = self.taken(stage, found, word, left_out, parents)
            if not HEREDOC_START.fullmatch(word) and not (found.name == "ADD" and self.is_remote(stage, word)):
                stage.taken.append(taken)

    def is_remote(self, stage: _MutableStage, word: str) -> bool:
        return _REMOTE_SOURCE.match(self.words.expand(word, stage.values)[0]) is not None

    def mounted(self, stage: _MutableStage, found: Instruction) -> None:
        for name, _, text in map(_split_assignment, found.flags):
            options = {key.lower(): value for key, _, value in map(_split_assignment, text.strip("\"'").split(","))}
            kind = options.get("type", "bind")
            if name != "mount" or kind not in ("bind", "cache"):
                continue
            if "from" in options:
                self.need(stage, options["from"])
            elif kind == "bind":
                source = options.get("source") or options.get("src") or "."
                stage.taken.append(self.taken(stage, found, source, (), False))

    def taken(
        self, stage: _MutableStage, found: Instruction, word: str, left_out: tuple[str, ...], parents: bool
    ) -> CopySource:
        text, unknown = self.words.expand(word, stage.values)
        path = posixpath.normpath("/" + text).lstrip("/")  # a `..` never leaves the context
        undefaulted = tuple(name for name in unknown if name in stage.undefaulted)
        return CopySource(found.name, found.line, found.last, word, path, left_out, parents, unknown, undefaulted)

    def need(self, stage: _MutableStage, name: str) -> None:
        is_number = re.fullmatch("[0-9]{1,6}", name) and int(name) < len(self.stages) - 1
        index = int(name) if is_number else self.named(name)
        if index is not None and self.stages[index] is not stage:
            stage.needs.add(index)

    def named(self, name: str) -> int | None:
        """The stage that a name means; None for an image, or for a context that the call of the build names."""
        found = [index for index, stage in enumerate(self.stages) if stage.name == name.lower() != ""]
        return found[-1] if found else None


def _split_assignment(text: str) -> tuple[str, str, str]:
    return text.strip().partition("=")
