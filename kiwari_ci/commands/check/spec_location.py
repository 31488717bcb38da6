"""Which line of a spec a generated file, or a line of it, comes from."""

import re
from collections.abc import Iterator
from typing import Any

from kiwari_ci.plan_model import Plan
from kiwari_ci.rendering.render import DRIFT_WORKFLOW_PATH
from kiwari_ci.spec_loading.yaml_source import YamlPath, YamlSource

MIN_MATCH_LENGTH = 3  # characters of a value that says where a line comes from


def find_spec_key(path: str, plan: Plan) -> YamlPath:
    """The part of a spec that a file comes from: a service, an environment, a database server, else the project."""
    if path == DRIFT_WORKFLOW_PATH:
        return ("generator",)
    if path in {workflow.path for workflow in plan.pull_requests}:
        return "project", "pull_requests"
    for promotion in plan.promotions:
        if path == f".github/workflows/{promotion.name}.yml":
            return "environments", promotion.deploy.environment
    for workflow in plan.workflows:
        if path == f".github/workflows/{workflow.name}.yml":
            return ("services", workflow.root) if len(workflow.images) == 1 else ("services",)
    parts = path.split("/")
    folder_key = _find_folder_key(parts[1], plan) if parts[0] == "deploy" else None
    return folder_key or ("project",)


def _find_folder_key(folder: str, plan: Plan) -> YamlPath | None:
    """The part of a spec that a folder of deploy/ comes from."""
    for cluster in plan.clusters:
        if cluster.name == folder:
            return "hosts", cluster.name
    for host in plan.hosts:
        for proxy_stack in host.fronts:
            if proxy_stack.name == folder:
                return "hosts", proxy_stack.host
    for stack in plan.stacks:
        if stack.source_folder == folder:
            return "environments", stack.environment
    for server in plan.servers:
        if server.name == folder:
            return "databases", server.name
    return None


def locate_generated_line(spec: YamlSource, key: YamlPath, line: str) -> tuple[YamlPath, int]:
    """The key below `key` whose value, the longest of all, is part of a generated line; else `key` itself.

    For a value that a service inherits, it is the key in `service_defaults`.
    """
    parents = {loc[:-1] for loc in spec.values if loc}
    longest = 0
    best_loc = key
    for loc, span in spec.values.items():
        if loc[: len(key)] != key or loc in parents:
            continue
        text = spec.at(span).strip("'\"")
        if len(text) < MIN_MATCH_LENGTH or text in key:
            continue
        if len(text) > longest and _contains_whole_word(line, text):
            longest, best_loc = len(text), loc
    return locate_nearest_key(spec, spec.origins.get(best_loc, best_loc))


def locate_nearest_key(spec: YamlSource, loc: YamlPath) -> tuple[YamlPath, int]:
    """A key, or the nearest one above it that the spec has, and its line."""
    while loc and loc not in spec.keys and not (loc in spec.values and isinstance(loc[-1], int)):
        loc = loc[:-1]
    if loc:
        return loc, (spec.keys.get(loc) or spec.values[loc]).line
    if ("project",) in spec.keys:
        return ("project",), spec.keys[("project",)].line
    return (), 1


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
