"""A workflow as the tests read it: plain data, and where each part of it stands."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

Where = tuple[str | int, ...]
Mapping = dict[str, Any]

EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)


@dataclass
class Workflow:
    """A workflow as plain data (YAML 1.2: `on` is a word), and where each key and item of it stands."""

    text: str
    lines: dict[Where, int] = field(default_factory=dict)
    data: Mapping = field(init=False)

    def __post_init__(self) -> None:
        self.data = self._plain(yaml.compose(self.text, yaml.CSafeLoader), ()) or {}

    @property
    def jobs(self) -> Iterator[tuple[Where, Mapping]]:
        """Each job."""
        for name, job in self.data["jobs"].items():
            yield ("jobs", name), job

    @property
    def steps(self) -> Iterator[tuple[Where, Mapping, Mapping]]:
        """Each step, with its job."""
        for where, job in self.jobs:
            for index, step in enumerate(job.get("steps", [])):
                yield (*where, "steps", index), job, step

    @property
    def runs(self) -> Iterator[tuple[Where, Mapping, str]]:
        """Each shell body, with its step."""
        for where, _, step in self.steps:
            if "run" in step:
                yield (*where, "run"), step, step["run"]

    @property
    def events(self) -> Iterator[tuple[Where, Mapping]]:
        """Each trigger with its filters."""
        on = self.data["on"]
        for name in [on] if isinstance(on, str) else on:
            yield ("on", name), (on[name] if isinstance(on, dict) else None) or {}

    @property
    def expressions(self) -> Iterator[tuple[Where, str]]:
        """What stands between `${{` and `}}`, and every bare `if`."""
        for where, value in self.texts:
            bare = [value] if where[-1] == "if" else []
            for expression in EXPRESSION.findall(value) or bare:
                yield where, expression

    @property
    def texts(self) -> Iterator[tuple[Where, str]]:
        """Every text in it."""
        return _leaves(self.data, ())

    def line_number(self, where: Where) -> int:
        """The line of a key or item, from 1; of the nearest thing around it, if there is none."""
        while where not in self.lines and where:
            where = where[:-1]
        return self.lines.get(where, 1)

    def line(self, where: Where) -> str:
        """The text of that line."""
        return self.text.splitlines()[self.line_number(where) - 1]

    def _plain(self, node: yaml.Node | None, where: Where) -> Any:
        if isinstance(node, yaml.MappingNode):
            for key, _ in node.value:
                self.lines[*where, key.value] = key.start_mark.line + 1
            return {key.value: self._plain(value, (*where, key.value)) for key, value in node.value}
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.lines[*where, index] = item.start_mark.line + 1
            return [self._plain(item, (*where, index)) for index, item in enumerate(node.value)]
        return _scalar(node)


def _scalar(node: yaml.Node | None) -> Any:
    plain = isinstance(node, yaml.ScalarNode) and not node.style
    value = node.value if node else ""
    if plain and value in ("true", "false", "", "null", "~"):
        return {"true": True, "false": False}.get(value)
    return int(value) if plain and value.isdecimal() else value


def _leaves(value: Any, where: Where) -> Iterator[tuple[Where, str]]:
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, (*where, key))
    elif isinstance(value, str):
        yield where, value
