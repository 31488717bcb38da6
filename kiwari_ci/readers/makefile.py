"""Reads simple Makefiles: targets, what they need, their commands, and variables with plain values.

What it cannot read, such as a function or a condition, is listed with its line: nothing is guessed.
"""

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from kiwari_ci.readers.bounded_text import MAX_VALUE_LENGTH, fill_in_values

MAKEFILE_NAMES = ("GNUmakefile", "makefile", "Makefile")  # in the order in which make looks for them
MAX_MAKEFILE_LINES = 5_000
MAX_INCLUDED_FILES = 10
MAX_TARGETS_OF_RUN = 100  # that one run of make makes
MAX_PREREQUISITES_OF_RUN = 2_000  # of all of them
MAX_COMMANDS_LENGTH = 200_000  # characters of the commands of one run, with their values
MAX_VALUE_ROUNDS = 10  # of variables that are made of others
_COMMENT = re.compile(r"(?<!\\)#.*")
_RULE = re.compile(r"(?P<targets>[^\s:=#][^:=#]*)::?(?!=)\s*(?P<rest>.*)")
_VARIABLE = re.compile(
    r"(?:(?P<exports>export\s+)|override\s+)?(?P<name>[\w.-]+)\s*(?P<sign>::?=|\?=|\+=|!=|=)\s*(?P<value>.*)"
)
_TARGET_VARIABLE = re.compile(r"(?P<name>[\w.-]+)\s*(?P<sign>::?=|\?=|\+=|=)\s*(?P<value>.*)")
_CONDITION_START = re.compile(r"(?:ifeq|ifneq|ifdef|ifndef)\b")
_CONDITION_END = re.compile(r"endif\b")
_INCLUDE = re.compile(r"(?P<optional>-|s)?include\s+(?P<paths>.+)")
_REFERENCE = re.compile(r"\$(?:\$|\((?P<round>[^()$]*)\)|\{(?P<braces>[^{}$]*)\}|(?P<automatic>[@<^*?+]))")
_NAME = re.compile(r"[\w.-]+")
_RECIPE_PREFIX = re.compile(r"[@+\s-]+")

_ESCAPED_DOLLAR = "\0"
_UNKNOWN_VALUE = "$(unknown value)"  # of a variable
_UNKNOWN_IN_SHELL = "VALUE_OF_MAKE"  # the variable that stands for it in a command

ReadFile = Callable[[str], str | None]


@dataclass(frozen=True)
class RecipeLine:
    """A command of a target as the shell gets it, and its place."""

    text: str
    path: str
    line: int


@dataclass
class _Target:
    """A target: what it needs, its commands, and variables of its own."""

    prerequisites: list[str] = field(default_factory=list)
    recipe: list[RecipeLine] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)


@dataclass
class Makefile:
    """What a Makefile says; `unread` are the places of what it says besides, with the reason."""

    path: str
    targets: dict[str, _Target] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    optional_variables: dict[str, str] = field(default_factory=dict)  # that count where nobody else sets them
    unread: dict[str, str] = field(default_factory=dict)
    exported: set[str] = field(default_factory=set)  # the variables that its commands get
    exports_all: bool = False
    is_one_shell: bool = False

    @property
    def first_target(self) -> str:
        """The target that make makes when no other is named; empty for none."""
        return self.variables.get(".DEFAULT_GOAL") or next(
            (name for name in self.targets if not name.startswith(".") and "%" not in name), ""
        )


def parse_makefile(path: str, text: str, read_file: ReadFile) -> Makefile:
    """Read a Makefile, and the files of the repository that it includes."""
    makefile = Makefile(path)
    _Reader(makefile, read_file).read(path, text, 0)
    makefile.is_one_shell = ".ONESHELL" in makefile.targets
    return makefile


@dataclass
class MakeRun:
    """What make does for a target: the commands, those of what it needs first, and the variables that they get.

    `unread` are the places of commands that are not known in full, with the reason.
    """

    lines: list[RecipeLine]
    unread: dict[str, str]
    exported: dict[str, str]


def run_make(
    makefile: Makefile, target: str, command_line_variables: Mapping[str, str], environment: Mapping[str, str]
) -> MakeRun | None:
    """What make does for a target (empty: the first one); None if no rule makes it.

    `command_line_variables` count before all others.
    """
    run = _Run(makefile, command_line_variables, environment)
    name = target or makefile.first_target
    if not run.has(name):
        return None
    run.make(name, {})
    return MakeRun(run.lines, run.unread, run.list_exported())


class _Reader:
    """Reads the lines of a Makefile, and of the files that it includes, one after another."""

    def __init__(self, makefile: Makefile, read_file: ReadFile) -> None:
        self.makefile = makefile
        self.read_file = read_file
        self.included = 0
        self.current: list[_Target] = []
        self.end_of_block: re.Pattern[str] | None = None  # of a condition or a `define`, which is not read
        self.depth = 0  # of conditions

    def read(self, path: str, text: str, depth: int) -> None:
        for line, number in _iter_logical_lines(text):
            self._read_line(line, path, number, depth)

    def _read_line(self, line: str, path: str, number: int, depth: int) -> None:
        stripped = line.strip()
        if self._is_in_unread_block(stripped, path, number):
            return
        if line.startswith("\t"):
            for target in self.current:
                target.recipe.append(RecipeLine(line[1:], path, number))
            return
        stripped = _COMMENT.sub("", stripped).strip()
        if not stripped or stripped == "unexport":
            return
        if stripped == "export":
            self.makefile.exports_all = True
            return
        include = _INCLUDE.fullmatch(stripped)
        variable = _VARIABLE.fullmatch(stripped)
        rule = _RULE.fullmatch(stripped)
        if include:
            self._include(include["paths"].split(), path, number, depth, is_optional=bool(include["optional"]))
        elif variable:
            self._set_variable(variable, path, number)
        elif rule:
            self._add_rule(rule, path, number)
        elif stripped.startswith("export "):
            self.makefile.exported |= set(stripped.split()[1:])
        elif not stripped.startswith(("unexport ", "vpath ")):
            self._note(path, number, "a line that kiwari-ci does not understand")

    def _is_in_unread_block(self, line: str, path: str, number: int) -> bool:
        """Whether a line is in a condition or a `define`, or starts one."""
        if self.end_of_block is None:
            starts_definition = line.startswith("define ")
            if not starts_definition and not _CONDITION_START.match(line):
                return False
            self.end_of_block = re.compile(r"endef\b") if starts_definition else _CONDITION_END
            self.depth = 0
            what = "a `define`" if starts_definition else "a condition and what depends on it"
            self._note(path, number, what)
            return True
        variable = _VARIABLE.fullmatch(line)
        if variable and self.end_of_block is _CONDITION_END:
            self.makefile.variables[variable["name"]] = _UNKNOWN_VALUE
        if self.end_of_block is _CONDITION_END and _CONDITION_START.match(line):
            self.depth += 1
        elif self.end_of_block.match(line):
            if not self.depth:
                self.end_of_block = None
            self.depth = max(0, self.depth - 1)
        return True

    def _include(self, paths: list[str], path: str, number: int, depth: int, *, is_optional: bool) -> None:
        for included in paths:
            name = posixpath.normpath(posixpath.join(posixpath.dirname(self.makefile.path), included))
            self.included += 1
            is_readable = "$" not in name and depth < MAX_INCLUDED_FILES and self.included <= MAX_INCLUDED_FILES
            text = self.read_file(name) if is_readable else None
            if text is not None:
                self.read(name, text, depth + 1)
            elif not is_optional or "$" in name:
                reason = "whose path is a variable, which is an env file, is not in the repository or cannot be read"
                self._note(path, number, f"`include {included}`, {reason}")

    def _set_variable(self, match: re.Match[str], path: str, number: int) -> None:
        self.current = []
        name, sign, value = match["name"], match["sign"], match["value"].strip()
        variables = self.makefile.variables
        if match["exports"]:
            self.makefile.exported.add(name)
        if sign == "!=":
            variables[name] = _UNKNOWN_VALUE
        elif sign == "+=":
            variables[name] = f"{self._get_value_so_far(name)} {value}".strip()
        elif sign == "?=":
            self.makefile.optional_variables.setdefault(name, value)
        elif sign == "=":
            variables[name] = value
        else:
            # Make gives such a variable its value on this line, so its own name stands for the value before.
            own_name = re.compile(rf"\$(?:\({re.escape(name)}\)|\{{{re.escape(name)}\}})")
            value_so_far = self._get_value_so_far(name)
            variables[name] = fill_in_values(own_name, lambda _: value_so_far, value)[:MAX_VALUE_LENGTH]

    def _get_value_so_far(self, name: str) -> str:
        return self.makefile.variables.get(name) or self.makefile.optional_variables.get(name, "")

    def _add_rule(self, match: re.Match[str], path: str, number: int) -> None:
        names = match["targets"].split()
        rest, semicolon, command = match["rest"].partition(";")
        self.current = []
        if "$" in match["targets"]:
            self._note(path, number, "a target whose name is a variable")
            return
        for name in names[:MAX_TARGETS_OF_RUN]:
            target = self.makefile.targets.setdefault(name, _Target())
            variable = _TARGET_VARIABLE.fullmatch(rest.strip())
            if variable:
                target.variables[variable["name"]] = variable["value"].strip()
                continue
            target.prerequisites += [word for word in rest.split() if word != "|"]
            self.current.append(target)
            if semicolon:
                target.recipe.append(RecipeLine(command.strip(), path, number))

    def _note(self, path: str, number: int, reason: str) -> None:
        self.makefile.unread.setdefault(f"{path}:{number}", reason)


def _iter_logical_lines(text: str) -> Iterator[tuple[str, int]]:
    """The lines of a Makefile, each with those that a backslash continues it with, and its number."""
    pending = ""
    first = 0
    for number, line in enumerate(text.split("\n")[:MAX_MAKEFILE_LINES], 1):
        first = first or number
        if line.endswith("\\"):
            pending += f"{line}\n" if (pending or line).startswith("\t") else f"{line[:-1]} "
            continue
        yield pending + line, first
        pending, first = "", 0
    if pending:
        yield pending, first


class _Run:
    """One run of make: the commands of a target and of what it needs."""

    def __init__(
        self, makefile: Makefile, command_line_variables: Mapping[str, str], environment: Mapping[str, str]
    ) -> None:
        self.makefile = makefile
        self.values = (command_line_variables, makefile.variables, environment, makefile.optional_variables)
        self.lines: list[RecipeLine] = []
        self.unread: dict[str, str] = {}
        self.length = 0  # of the commands
        self.prerequisites = 0  # so far
        self.finished_targets: set[str] = set()

    def make(self, name: str, inherited: Mapping[str, str]) -> None:
        """Add the commands of a target, once."""
        self.prerequisites += 1
        is_at_bound = len(self.finished_targets) >= MAX_TARGETS_OF_RUN or self.prerequisites > MAX_PREREQUISITES_OF_RUN
        if name in self.finished_targets or is_at_bound:
            return
        rule = self._find_target(name)
        if not rule:
            return
        self.finished_targets.add(name)
        target, stem = rule
        variables = {**inherited, **target.variables}
        first, *_ = [*target.prerequisites, ""]
        automatic = {"@": name, "*": stem, "<": first, "^": " ".join(target.prerequisites)}
        for prerequisite in target.prerequisites[:MAX_PREREQUISITES_OF_RUN]:
            if self.prerequisites > MAX_PREREQUISITES_OF_RUN:
                break
            words = self._expand(prerequisite.replace("%", stem) if stem else prerequisite, variables, automatic)
            for word in words.split():
                self.make(word, variables)
        self._add_recipe(target.recipe, variables, automatic)

    def has(self, name: str) -> bool:
        """Whether a rule makes a target."""
        return self._find_target(name) is not None

    def list_exported(self) -> dict[str, str]:
        """The variables that commands get from make; those on the command line are among them."""
        command_line_variables = self.values[0]
        makefile = self.makefile
        names = {*makefile.variables, *makefile.optional_variables} if makefile.exports_all else makefile.exported
        return {name: self._expand(f"$({name})", {}, {}) for name in sorted({*names, *command_line_variables})}

    def _find_target(self, name: str) -> tuple[_Target, str] | None:
        """A target, and what stands for the `%` of its name."""
        if name in self.makefile.targets:
            return self.makefile.targets[name], ""
        for pattern, target in self.makefile.targets.items():
            before, percent, after = pattern.partition("%")
            is_match = name.startswith(before) and name.endswith(after) and len(name) > len(before) + len(after)
            if percent and is_match:
                return target, name[len(before) : len(name) - len(after)]
        return None

    def _add_recipe(self, recipe: list[RecipeLine], variables: Mapping[str, str], automatic: Mapping[str, str]) -> None:
        number_before = len(self.lines)
        for line in recipe:
            if self.length > MAX_COMMANDS_LENGTH:
                reason = f"commands of more than {MAX_COMMANDS_LENGTH:,} characters: the rest of them"
                self.unread.setdefault(f"{line.path}:{line.line}", reason)
                break
            prefix = _RECIPE_PREFIX.match(line.text)
            text = line.text[prefix.end() :] if prefix else line.text
            expanded = self._expand(text, variables, automatic)
            self.length += len(expanded)
            self.lines.append(RecipeLine(expanded, line.path, line.line))
            if _UNKNOWN_IN_SHELL in expanded:
                self.unread[f"{line.path}:{line.line}"] = "a value that only a run of make knows"
        if self.makefile.is_one_shell:
            self._join_lines(len(self.lines) - number_before)

    def _join_lines(self, count: int) -> None:
        """Make one script of the last lines, of which each is on its own line of the file."""
        joined = self.lines[len(self.lines) - count :]
        if not joined:
            return
        del self.lines[len(self.lines) - count :]
        text = ""
        number = joined[0].line
        for line in joined:
            text += "\n" * max(0, line.line - number) + line.text
            number = line.line + line.text.count("\n")
        self.lines.append(RecipeLine(text, joined[0].path, joined[0].line))

    def _expand(self, text: str, variables: Mapping[str, str], automatic: Mapping[str, str]) -> str:
        """A text with the values of variables; the shell finds one that is not known as `${NAME}`."""
        for _ in range(MAX_VALUE_ROUNDS):
            expanded = fill_in_values(_REFERENCE, lambda match: self._get_value(match, variables, automatic), text)
            if expanded == text:
                break
            text = expanded
        return text.replace(_ESCAPED_DOLLAR, "$")

    def _get_value(self, match: re.Match[str], variables: Mapping[str, str], automatic: Mapping[str, str]) -> str:
        if match[0] == "$$":
            return _ESCAPED_DOLLAR
        if match["automatic"]:
            return automatic.get(match["automatic"], "")
        name = (match["round"] or match["braces"] or "").strip()
        if name == "MAKE":
            return "make"
        if name in automatic:
            return automatic[name]
        command_line_variables, *others = self.values
        for values in (command_line_variables, variables, *others):
            if name in values:
                return values[name]
        is_name = _NAME.fullmatch(name) is not None
        return f"{_ESCAPED_DOLLAR}{{{name if is_name else _UNKNOWN_IN_SHELL}}}"
