"""What is new, put into a spec that a person wrote: no byte of theirs changes, lines are only added.

A round trip through a YAML library would move comments to the key before them and set long lines anew; a spec has
neither anchors nor tags, so that the place behind the last service can be told exactly.
"""

from typing import Any

import yaml

from kiwari_ci import generator
from kiwari_ci.commands.init import draft_text, service_entry, spec_draft
from kiwari_ci.commands.init.draft_text import CommentedMapping, InitResult
from kiwari_ci.commands.init.errors import build_init_error
from kiwari_ci.commands.init.findings import RepositoryFindings, SpecDraft
from kiwari_ci.loading import yaml_source
from kiwari_ci.output import generated_files
from kiwari_ci.safe_files import read_plain_file
from kiwari_ci.schema import Spec


def add_missing_services(existing: list[str], facts: RepositoryFindings, read: dict[str, int]) -> InitResult:
    """The spec with a service for each Dockerfile that none builds; raises Faults when it is not sound, or not one."""
    root = facts.repository.root
    known = {path: generator.load_spec(root / path).effective for path in existing}
    built = {spec.image(name).dockerfile_path for spec in known.values() for name in spec.services}
    facts.services = [found for found in facts.services if found.image.dockerfile not in built]
    path = existing[0]
    raw = read_plain_file(root / path, yaml_source.MAX_SPEC_SIZE).decode()
    if not facts.services:
        return InitResult(path, raw, raw, {}, read, seen=facts.rejected_dockerfiles)
    if len(existing) > 1:
        names = ", ".join(found.image.dockerfile for found in facts.services)
        words = f"no service builds {names}, and there are several specs: {', '.join(existing)}"
        raise build_init_error("several-specs", words, path, "write its service into the one that it belongs to")
    return _extend_spec_text(path, raw, known[path].written, facts, read)


def _extend_spec_text(path: str, raw: str, spec: Spec, facts: RepositoryFindings, read: dict[str, int]) -> InitResult:
    text = raw.removeprefix("\ufeff").replace("\r\n", "\n")
    made, table = SpecDraft(), CommentedMapping()
    new = table["services"] = CommentedMapping()
    for found in facts.services:
        found.name = _find_free_name(found.name, spec)
        new[found.name] = service_entry.build_service_entry(made, facts, found, "")
    lists = [name for name, place in spec.environments.items() if place.services is not None]
    everywhere = len(lists) < len(spec.environments)

    def whole(draft_table: CommentedMapping, _: list[str]) -> str:
        services = draft_table.get("services", CommentedMapping())
        names = list(services) if isinstance(services, CommentedMapping) else []
        with_services = _append_to_mapping(text, ("services",), services) if names else text
        for environment in lists if not everywhere else ():
            with_services = _append_to_list(with_services, ("environments", environment, "services"), names)
        return with_services

    settled, dropped = draft_text.drop_until_valid(table, path, whole)
    first = InitResult(
        path,
        generated_files.restore_line_endings(settled, raw),
        raw,
        {},
        read,
        seen=facts.rejected_dockerfiles + made.seen + dropped,
        troubles=facts.repository.troubles,
    )
    kept = new if "services" in table else CommentedMapping()
    facts.services = [found for found in facts.services if found.name in kept]
    first.services = spec_draft.summarize_services(facts)
    first.decisions = draft_text.locate_decisions(yaml_source.parse_yaml(path, settled), made.decisions)
    return first


def _find_free_name(name: str, spec: Spec) -> str:
    taken = set(spec.services)
    return next(each for each in (name, *(f"{name}-{number}" for number in range(2, 1000))) if each not in taken)


def _append_to_mapping(text: str, loc: tuple[str, ...], new: Any) -> str:
    """Text with the entries of a table behind the last one of the mapping at a place."""
    node = _find_yaml_node(text, loc)
    if node.flow_style:
        at = node.value[-1][1].end_mark.index
        return (
            text[:at]
            + "".join(f", {key}: {draft_text.render_flow_style(item)}" for key, item in new.items())
            + text[at:]
        )
    indent = node.value[0][0].start_mark.column
    written = draft_text.render_mapping(new).rstrip("\n").split("\n")
    lines = "".join(f"{' ' * indent}{line}\n" if line else "" for line in written)
    return _insert_after_node(text, node.value[-1][1], indent, lines)


def _append_to_list(text: str, loc: tuple[str, ...], names: list[str]) -> str:
    node = _find_yaml_node(text, loc)
    if node.flow_style:
        at = node.value[-1].end_mark.index
        return text[:at] + "".join(f", {name}" for name in names) + text[at:]
    indent = node.start_mark.column
    return _insert_after_node(text, node.value[-1], indent, "".join(f"{' ' * indent}- {name}\n" for name in names))


def _insert_after_node(text: str, node: Any, indent: int, lines: str) -> str:
    """Whole lines behind a node of a block, and behind the comments that are indented as part of it."""
    while not isinstance(node, yaml.ScalarNode) and not node.flow_style:
        node = node.value[-1][1] if isinstance(node, yaml.MappingNode) else node.value[-1]
    at = len(text[: node.end_mark.index].rstrip())
    at = text.find("\n", at) + 1 or len(text)
    while (line := text[at:].partition("\n")[0]).lstrip().startswith("#") and len(line) - len(line.lstrip()) > indent:
        at = text.find("\n", at) + 1 or len(text)
    return text[:at] + ("\n" if at and text[at - 1] != "\n" else "") + lines + text[at:]


def _find_yaml_node(text: str, loc: tuple[str, ...]) -> Any:
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    for part in loc:
        node = next(value for key, value in node.value if key.value == part)
    return node
