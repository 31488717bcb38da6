"""Which line of a spec a generated file, or a line of it, comes from."""

import re
from collections.abc import Iterator
from typing import Any

from kiwari_ci.loading.yaml_source import YamlPath, YamlSource
from kiwari_ci.plan import Plan
from kiwari_ci.rendering.render import DRIFT_WORKFLOW_PATH

MIN_MATCH_LENGTH = 3  # characters of a value that says where a line comes from


def find_spec_key(path: str, plan: Plan) -> YamlPath:
    """The part of a spec that a file is made of: a service, an environment, a database server, else the project."""
    workflows = {workflow.source.workflow: ("services", workflow.source.service) for workflow in plan.workflows}
    workflows |= {promotion.name: ("environments", promotion.deploy.environment) for promotion in plan.promotions}
    folders = {server.name: ("databases", server.name) for server in plan.servers}
    folders |= {stack.name: ("environments", stack.environment) for stack in plan.stacks}
    folders |= {front.name: ("hosts", front.host) for host in plan.hosts for front in host.fronts}
    keys: dict[str, YamlPath] = {f".github/workflows/{name}.yml": key for name, key in workflows.items()}
    if path == DRIFT_WORKFLOW_PATH:
        return ("generator",)
    parts = path.split("/")
    return keys.get(path) or (folders.get(parts[1]) if parts[0] == "deploy" else None) or ("project",)


def locate_generated_line(spec: YamlSource, key: YamlPath, line: str) -> tuple[YamlPath, int]:
    """The deepest key below `key` whose value a generated line has in it, and its line; else `key` and its own."""
    parents = {loc[:-1] for loc in spec.values if loc}
    found = [
        (len(value), loc)
        for loc, place in spec.values.items()
        if loc[: len(key)] == key
        and loc not in parents
        and len(value := spec.at(place).strip("'\"")) >= MIN_MATCH_LENGTH
        if not any(isinstance(part, str) and value == part for part in key) and _contains_whole_word(line, value)
    ]
    return locate_nearest_key(spec, max(found, key=lambda each: each[0])[1] if found else key)


def locate_nearest_key(spec: YamlSource, loc: YamlPath) -> tuple[YamlPath, int]:
    """A key, or the nearest above it that the spec has, and its line."""
    while loc and loc not in spec.keys and not (loc in spec.values and isinstance(loc[-1], int)):
        loc = loc[:-1]
    if not loc:
        return (("project",), spec.keys[("project",)].line) if ("project",) in spec.keys else ((), 1)
    return loc, (spec.keys.get(loc) or spec.values[loc]).line


def find_changed_keys(old: Any, new: Any, loc: YamlPath = ()) -> Iterator[YamlPath]:
    """Where two specs say something else, as the new one has it."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*new, *(key for key in old if key not in new)]:
            yield from find_changed_keys(old.get(key), new.get(key), (*loc, key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from find_changed_keys(before, after, (*loc, index))
    elif old != new or type(old) is not type(new):
        yield loc


def format_spec_key(loc: YamlPath) -> str:
    """A key as a person writes it."""
    return ".".join(str(part) for part in loc)


def _contains_whole_word(line: str, word: str) -> bool:
    return word in line and re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w-])", line) is not None
