"""What is new, put into a spec that a person wrote: no byte of theirs changes, lines are only added.

A round trip through a YAML library would move comments to the key before them and set long lines anew; a spec has
neither anchors nor tags, so that the place behind the last service can be told exactly.
"""

from typing import Any

import yaml

from kiwari_ci import generator
from kiwari_ci.commands.init import draft_text, service_entry, spec_draft
from kiwari_ci.commands.init.draft_text import First, Table
from kiwari_ci.commands.init.findings import Composed, Facts
from kiwari_ci.effective import built_images
from kiwari_ci.loading import yaml_source
from kiwari_ci.problems import Faults, Problem
from kiwari_ci.schema import Spec


def of(existing: list[str], facts: Facts, read: dict[str, int]) -> First:
    """The spec with a service for each Dockerfile that none builds; raises Faults when it is not sound, or not one."""
    root = facts.repository.root
    known = {path: generator.decide(root / path).spec for path in existing}
    built = {built_images.dockerfile_of(spec, name) for spec in known.values() for name in spec.services}
    facts.services = [found for found in facts.services if found.image.dockerfile not in built]
    path = existing[0]
    raw = (root / path).read_bytes().decode()
    if not facts.services:
        return First(path, raw, raw, {}, read, seen=facts.aside)
    if len(existing) > 1:
        names = ", ".join(found.image.dockerfile for found in facts.services)
        words = f"no service builds {names}, and there are several specs: {', '.join(existing)}"
        raise Faults([Problem("several-specs", words, path, hint="write its service into the one that it belongs to")])
    return _added(path, raw, known[path], facts, read)


def _added(path: str, raw: str, spec: Spec, facts: Facts, read: dict[str, int]) -> First:
    text = raw.removeprefix("\ufeff").replace("\r\n", "\n")
    made, table = Composed(), Table()
    new = table["services"] = Table()
    for found in facts.services:
        found.name = _free(found.name, spec)
        new[found.name] = service_entry.service(made, facts, found, "")
    lists = [name for name, place in spec.environments.items() if place.services is not None]
    everywhere = len(lists) < len(spec.environments)

    def whole(draft_table: Table, _: list[str]) -> str:
        services = draft_table.get("services", Table())
        names = list(services) if isinstance(services, Table) else []
        with_services = _into_mapping(text, ("services",), services) if names else text
        for environment in lists if not everywhere else ():
            with_services = _into_list(with_services, ("environments", environment, "services"), names)
        return with_services

    settled, dropped = draft_text.settled(table, path, whole)
    first = First(
        path,
        _as_it_was(settled, raw),
        raw,
        {},
        read,
        seen=facts.aside + made.seen + dropped,
        troubles=facts.repository.troubles,
    )
    kept = new if "services" in table else Table()
    facts.services = [found for found in facts.services if found.name in kept]
    first.services = spec_draft.lines(facts)
    first.decisions = draft_text.numbered(yaml_source.parse(path, settled), made.decisions)
    return first


def _free(name: str, spec: Spec) -> str:
    taken = set(spec.services)
    return next(each for each in (name, *(f"{name}-{number}" for number in range(2, 1000))) if each not in taken)


def _as_it_was(text: str, raw: str) -> str:
    """The new text with the old one's line ends and byte order mark."""
    mark = "\ufeff" if raw.startswith("\ufeff") else ""
    return mark + (text.replace("\n", "\r\n") if "\r\n" in raw else text)


def _into_mapping(text: str, loc: tuple[str, ...], new: Any) -> str:
    """Text with the entries of a table behind the last one of the mapping at a place."""
    node = _node(text, loc)
    if node.flow_style:
        at = node.value[-1][1].end_mark.index
        return text[:at] + "".join(f", {key}: {draft_text.flow(item)}" for key, item in new.items()) + text[at:]
    indent = node.value[0][0].start_mark.column
    written = draft_text.text(new).rstrip("\n").split("\n")
    lines = "".join(f"{' ' * indent}{line}\n" if line else "" for line in written)
    return _behind(text, node.value[-1][1], indent, lines)


def _into_list(text: str, loc: tuple[str, ...], names: list[str]) -> str:
    node = _node(text, loc)
    if node.flow_style:
        at = node.value[-1].end_mark.index
        return text[:at] + "".join(f", {name}" for name in names) + text[at:]
    indent = node.start_mark.column
    return _behind(text, node.value[-1], indent, "".join(f"{' ' * indent}- {name}\n" for name in names))


def _behind(text: str, node: Any, indent: int, lines: str) -> str:
    """Whole lines behind a node of a block, and behind the comments that are indented as part of it."""
    while not isinstance(node, yaml.ScalarNode) and not node.flow_style:
        node = node.value[-1][1] if isinstance(node, yaml.MappingNode) else node.value[-1]
    at = len(text[: node.end_mark.index].rstrip())
    at = text.find("\n", at) + 1 or len(text)
    while (line := text[at:].partition("\n")[0]).lstrip().startswith("#") and len(line) - len(line.lstrip()) > indent:
        at = text.find("\n", at) + 1 or len(text)
    return text[:at] + ("\n" if at and text[at - 1] != "\n" else "") + lines + text[at:]


def _node(text: str, loc: tuple[str, ...]) -> Any:
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    for part in loc:
        node = next(value for key, value in node.value if key.value == part)
    return node
