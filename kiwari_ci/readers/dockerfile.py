"""A Dockerfile as BuildKit builds it: its stages, what they take from the build context, the ports of its image."""

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from kiwari_ci.readers import dockerfile_syntax
from kiwari_ci.readers.dockerfile_syntax import (
    HEREDOC_START,
    INSTRUCTION_NAMES,
    Instruction,
    ShellLexer,
    parse_word_list,
)

MAX_STAGES = 200  # each takes over what the one before it has
_REMOTE_SOURCE = re.compile(r"(?:https?|git|ssh)://|git@[^/]+:|github\.com/")
_PORT_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(\w+))?")
_NO_ARGUMENTS: Mapping[str, str | None] = MappingProxyType({})
_VARIABLE = re.compile(r"(?<!\\)\$[A-Za-z_{]")
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
    sources: tuple[CopySource, ...]
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
        needed: set[int] = set()
        waiting = [] if self.target is None else [self.target]
        while waiting:
            needed.add(index := waiting.pop())
            waiting += self.stages[index].needs - needed
        return tuple(self.stages[index] for index in sorted(needed))

    @property
    def exposed(self) -> tuple[ExposedPorts, ...]:
        """Ports of the image that is built, also those of the stages that its own one builds on."""
        ports: tuple[ExposedPorts, ...] = ()
        index = self.target
        while index is not None:
            ports = self.stages[index].exposed + ports
            index = self.stages[index].parent
        return ports


def parse_dockerfile(
    text: str, build_arguments: Mapping[str, str | None] = _NO_ARGUMENTS, target: str = ""
) -> Dockerfile:
    """Read a Dockerfile's text; never raises: what is wrong with it is in `faults`.

    A build argument is None when only the build knows its value; `target` is the stage, else the last.
    """
    listing = dockerfile_syntax.parse_instructions(text)
    builder = _BuildSimulator(dockerfile_syntax.build_shell_lexer(listing.directives), build_arguments)
    for instruction in listing.instructions:
        if instruction.name == "FROM" and len(builder.stages) == MAX_STAGES:
            builder.faults.append((instruction.line, f"more than {MAX_STAGES} stages: nothing is read from here on"))
            break
        builder.run_instruction(instruction)
    faults = list(listing.faults) + builder.faults
    if not builder.stages:
        faults.append((1, "no FROM: there is nothing to build"))
    last = len(builder.stages) - 1 if builder.stages else None
    return Dockerfile(
        tuple(map(_freeze_stage, builder.stages)),
        listing.directives.get("syntax", ""),
        tuple(sorted(faults)),
        builder.find_stage(target) if target else last,
        frozenset(
            key
            for instruction in map(builder.unwrap_onbuild, listing.instructions)
            if instruction.name == "ARG"
            for key, _ in builder.lexer.parse_pairs(instruction.rest)
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
    sources: list[CopySource] = field(default_factory=list)
    exposed: list[ExposedPorts] = field(default_factory=list)
    needs: set[int] = field(default_factory=set)
    triggers: list[Instruction] = field(default_factory=list)  # of ONBUILD: they run in stages that build on this one

    def set(self, key: str, value: str | None) -> None:
        self.undefaulted.discard(key)
        self.values.pop(key, None)
        if value is not None:
            self.values[key] = value


def _freeze_stage(stage: _MutableStage) -> Stage:
    parts = tuple(stage.instructions), tuple(stage.sources), tuple(stage.exposed)
    return Stage(stage.name, stage.image, stage.line, stage.parent, *parts, frozenset(stage.needs))


class _BuildSimulator:
    """Goes through the instructions as a build does."""

    def __init__(self, lexer: ShellLexer, build_arguments: Mapping[str, str | None]) -> None:
        self.lexer = lexer
        self.build_arguments = build_arguments
        self.stages: list[_MutableStage] = []
        self.arguments: dict[str, str] = {}  # those before the first FROM
        self.faults: list[tuple[int, str]] = []

    def run_instruction(self, instruction: Instruction) -> None:
        if instruction.name not in INSTRUCTION_NAMES:
            self.faults.append((instruction.line, f"`{instruction.name[:40]}` is no instruction"))
        elif instruction.name == "FROM":
            self.start_stage(instruction)
        elif self.stages:
            self.stages[-1].instructions.append(instruction)
            self.run_in_stage(self.stages[-1], instruction)
        elif instruction.name == "ARG":
            for key, default in self.lexer.parse_pairs(instruction.rest):
                value = self.build_arguments.get(key, default)
                if value is not None:
                    self.arguments[key] = (
                        value if key in self.build_arguments else self.lexer.expand(value, self.arguments)[0]
                    )
        else:
            self.faults.append((instruction.line, f"{instruction.name} before the first FROM"))

    def start_stage(self, instruction: Instruction) -> None:
        words = [self.lexer.expand(word, self.arguments)[0] for word in instruction.rest.split()] or [""]
        name = words[2].lower() if len(words) == 3 and words[1].upper() == "AS" else ""
        parent = self.find_stage(words[0])
        stage = _MutableStage(name, words[0], instruction.line, parent)
        if parent is not None:
            base = self.stages[parent]
            stage.values, stage.environment = dict(base.values), set(base.environment)
            stage.undefaulted, stage.needs = set(base.undefaulted), {parent}
        if not instruction.rest:
            self.faults.append((instruction.line, "FROM names no image"))
        self.stages.append(stage)
        if parent is not None:
            for trigger in self.stages[parent].triggers:
                self.run_in_stage(stage, trigger)

    def run_in_stage(self, stage: _MutableStage, instruction: Instruction) -> None:
        steps: dict[str, Callable[[_MutableStage, Instruction], None]] = {
            "ARG": self.set_arguments, "ENV": self.set_variables, "EXPOSE": self.add_ports,
            "ADD": self.add_copied_files, "COPY": self.add_copied_files, "RUN": self.add_mounted_files,
            "ONBUILD": self.add_trigger,
        }  # fmt: skip
        if instruction.name in steps:
            steps[instruction.name](stage, instruction)

    def unwrap_onbuild(self, instruction: Instruction) -> Instruction:
        """The instruction that an ONBUILD keeps for later; any other one as it is."""
        if instruction.name != "ONBUILD":
            return instruction
        name, rest = (instruction.rest.split(maxsplit=1) + ["", ""])[:2]
        flags, rest = self.lexer.split_flags(rest)
        return replace(instruction, name=name.upper(), flags=flags, rest=rest)

    def add_trigger(self, stage: _MutableStage, instruction: Instruction) -> None:
        """Keep what runs at the FROM of a stage that builds on this one, and there alone."""
        trigger = self.unwrap_onbuild(instruction)
        if trigger.name in ("ONBUILD", "FROM", "MAINTAINER"):
            self.faults.append((instruction.line, f"ONBUILD takes no {trigger.name}"))
        elif trigger.name not in INSTRUCTION_NAMES:
            self.faults.append((instruction.line, f"`{trigger.name[:40]}` is no instruction"))
        else:
            stage.triggers.append(trigger)

    def set_arguments(self, stage: _MutableStage, instruction: Instruction) -> None:
        """What the build is given wins over a default, and ENV over both; one that has neither is empty."""
        values_before = dict(stage.values)
        for key, value in self.lexer.parse_pairs(instruction.rest):
            if key in stage.environment:
                continue
            if key in self.build_arguments:
                stage.set(key, self.build_arguments[key])
                continue
            text = self.arguments.get(key) if value is None else self.expand(value, values_before)
            stage.set(key, text)
            if value is None and text is None and not _BUILTIN_ARGUMENT.fullmatch(key):
                stage.undefaulted.add(key)

    def set_variables(self, stage: _MutableStage, instruction: Instruction) -> None:
        """Set variables; the values of one line see what was set before the line."""
        values_before = dict(stage.values)
        for key, value in self.lexer.parse_pairs(instruction.rest):
            stage.set(key, self.expand(value or "", values_before))
            stage.environment.add(key)

    def expand(self, word: str, values: Mapping[str, str]) -> str | None:
        """A word with its variables filled in; None where one has no value."""
        text, unknown = self.lexer.expand(word, values)
        return None if unknown else text

    def add_ports(self, stage: _MutableStage, instruction: Instruction) -> None:
        for word in instruction.rest.split():
            if match := _PORT_RANGE.fullmatch(self.expand(word, stage.values) or ""):
                protocol = (match[3] or "tcp").lower()
                stage.exposed.append(ExposedPorts(instruction.line, int(match[1]), int(match[2] or match[1]), protocol))

    def add_copied_files(self, stage: _MutableStage, instruction: Instruction) -> None:
        flags = [
            (name, self.lexer.expand(text, stage.values)[0])
            for name, _, text in map(_split_assignment, instruction.flags)
        ]
        words = parse_word_list(instruction.rest)
        if len(words) < 2:
            self.faults.append((instruction.line, f"{instruction.name} lacks a source or a destination"))
        if origins := [text for name, _, text in map(_split_assignment, instruction.flags) if name == "from"]:
            self.add_needed_stage(stage, instruction, origins[0])
            return
        left_out = tuple(text for name, text in flags if name == "exclude")
        parents = any(name == "parents" and text != "false" for name, text in flags)
        for word in words[:-1]:
            source = self.create_source(stage, instruction, word, left_out, parents)
            if not HEREDOC_START.fullmatch(word) and not (instruction.name == "ADD" and self.is_remote(stage, word)):
                stage.sources.append(source)

    def is_remote(self, stage: _MutableStage, word: str) -> bool:
        return _REMOTE_SOURCE.match(self.lexer.expand(word, stage.values)[0]) is not None

    def add_mounted_files(self, stage: _MutableStage, instruction: Instruction) -> None:
        for name, _, text in map(_split_assignment, instruction.flags):
            options = {key.lower(): value for key, _, value in map(_split_assignment, text.strip("\"'").split(","))}
            kind = options.get("type", "bind")
            if name != "mount" or kind not in ("bind", "cache"):
                continue
            if "from" in options:
                self.add_needed_stage(stage, instruction, options["from"])
            elif kind == "bind":
                source = options.get("source") or options.get("src") or "."
                stage.sources.append(self.create_source(stage, instruction, source, (), False))

    def create_source(
        self, stage: _MutableStage, instruction: Instruction, word: str, left_out: tuple[str, ...], parents: bool
    ) -> CopySource:
        text, unknown = self.lexer.expand(word, stage.values)
        path = posixpath.normpath("/" + text).lstrip("/")  # a `..` never leaves the context
        undefaulted = tuple(name for name in unknown if name in stage.undefaulted)
        return CopySource(
            instruction.name, instruction.line, instruction.last, word, path, left_out, parents, unknown, undefaulted
        )

    def add_needed_stage(self, stage: _MutableStage, instruction: Instruction, name: str) -> None:
        """Note the stage that another one copies from; a name that no stage has is an image."""
        if _VARIABLE.search(name):
            message = f"`from={name[:40]}`: no variable can stand there; name a stage `FROM {name[:40]} AS …`"
            self.faults.append((instruction.line, message))
            return
        is_number = re.fullmatch("[0-9]{1,6}", name) and int(name) < len(self.stages)
        index = int(name) if is_number else self.find_stage(self.lexer.expand(name, {})[0])
        if index is None:
            return
        if self.stages[index] is stage:
            self.faults.append((instruction.line, f"{instruction.name} takes files of its own stage `{name[:40]}`"))
        else:
            stage.needs.add(index)

    def find_stage(self, name: str) -> int | None:
        """The stage that a name means; None for an image, or for a context that the call of the build names."""
        indexes = [index for index, stage in enumerate(self.stages) if stage.name == name.lower() != ""]
        return indexes[-1] if indexes else None


def _split_assignment(text: str) -> tuple[str, str, str]:
    return text.strip().partition("=")
