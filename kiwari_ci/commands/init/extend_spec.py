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
from kiwari_ci.file_output import generated_files
from kiwari_ci.safe_files import read_plain_file
from kiwari_ci.schema import Spec
from kiwari_ci.spec_loading import yaml_source


def add_missing_services(
    existing_paths: list[str], facts: RepositoryFindings, file_counts: dict[str, int]
) -> InitResult:
    """The spec with a service for each Dockerfile that none builds; raises SpecError for a spec that is not sound."""
    root = facts.repository.root
    specs = {path: generator.load_spec(root / path) for path in existing_paths}
    built_dockerfiles = {
        loaded.effective.image(name).dockerfile_path for loaded in specs.values() for name in loaded.effective.services
    }
    facts.services = [service for service in facts.services if service.image.dockerfile not in built_dockerfiles]
    path = existing_paths[0]
    old_text = read_plain_file(root / path, yaml_source.MAX_SPEC_SIZE).decode()
    if not facts.services:
        return InitResult(
            path,
            old_text,
            old_text,
            {},
            file_counts,
            seen=facts.rejected_dockerfiles,
            troubles=facts.repository.troubles,
        )
    if len(existing_paths) > 1:
        dockerfiles = ", ".join(service.image.dockerfile for service in facts.services)
        message = f"no service builds {dockerfiles}, and there are several specs: {', '.join(existing_paths)}"
        raise build_init_error("several-specs", message, path, "write its service into the one that it belongs to")
    return _extend_spec_text(path, old_text, specs[path].spec, facts, file_counts)


def normalize_text(text: str) -> str:
    """A spec's text without the byte order mark and with the line ends of Unix, as YAML is read."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


def _extend_spec_text(
    path: str, old_text: str, spec: Spec, facts: RepositoryFindings, file_counts: dict[str, int]
) -> InitResult:
    """Add the services to the text, and to the lists of services where no environment has all of them."""
    text = normalize_text(old_text)
    draft = SpecDraft()
    table = CommentedMapping()
    entries = table["services"] = CommentedMapping()
    for service in facts.services:
        service.name = _find_free_name(service.name, spec)
        entries[service.name] = service_entry.build_service_entry(draft, facts, service, "")
    lists = [name for name, environment in spec.environments.items() if environment.services is not None]
    has_environment_with_all = len(lists) < len(spec.environments)

    def render_spec(draft_table: CommentedMapping, _: list[str]) -> str:
        services = draft_table.get("services")
        if not isinstance(services, CommentedMapping) or not services:
            return text
        extended = _append_to_mapping(text, ("services",), services)
        if has_environment_with_all:
            return extended
        for environment_name in lists:
            extended = _append_to_list(extended, ("environments", environment_name, "services"), list(services))
        return extended

    new_text, dropped = draft_text.drop_until_valid(table, path, render_spec)
    written_names = list(entries) if "services" in table else []
    facts.services = [service for service in facts.services if service.name in written_names]
    return InitResult(
        path,
        generated_files.restore_line_endings(new_text, old_text),
        old_text,
        spec_draft.summarize_services(facts, table),
        file_counts,
        decisions=draft_text.locate_decisions(yaml_source.parse_yaml(path, new_text), draft.decisions),
        seen=facts.rejected_dockerfiles + draft.seen + dropped,
        troubles=facts.repository.troubles,
    )


def _find_free_name(name: str, spec: Spec) -> str:
    """A name, with a number when a service of the spec has the name."""
    free_name = name
    number = 2
    while free_name in spec.services:
        free_name = f"{name}-{number}"
        number += 1
    return free_name


def _append_to_mapping(text: str, path: tuple[str, ...], entries: CommentedMapping) -> str:
    """Text with entries behind the last one of the mapping at a path."""
    node = _find_yaml_node(text, path)
    if node.flow_style:
        end = node.value[-1][1].end_mark.index
        added = "".join(f", {key}: {draft_text.render_flow_style(entry)}" for key, entry in entries.items())
        return text[:end] + added + text[end:]
    indent = node.value[0][0].start_mark.column
    lines = ""
    for line in draft_text.render_mapping(entries).rstrip("\n").split("\n"):
        lines += f"{' ' * indent}{line}\n" if line else ""
    return _insert_after_node(text, node.value[-1][1], indent, lines)


def _append_to_list(text: str, path: tuple[str, ...], names: list[str]) -> str:
    """Text with names behind the last item of the list at a path."""
    node = _find_yaml_node(text, path)
    if node.flow_style:
        end = node.value[-1].end_mark.index
        return text[:end] + "".join(f", {name}" for name in names) + text[end:]
    indent = node.start_mark.column
    return _insert_after_node(text, node.value[-1], indent, "".join(f"{' ' * indent}- {name}\n" for name in names))


def _insert_after_node(text: str, node: Any, indent: int, lines: str) -> str:
    """Whole lines behind a node of a block, and behind the comments that are indented as part of it."""
    while not isinstance(node, yaml.ScalarNode) and not node.flow_style:
        node = node.value[-1][1] if isinstance(node, yaml.MappingNode) else node.value[-1]
    position = _find_next_line(text, len(text[: node.end_mark.index].rstrip()))
    while _is_comment_deeper_than(text[position:].partition("\n")[0], indent):
        position = _find_next_line(text, position)
    line_end = "" if text[:position].endswith("\n") or not position else "\n"
    return text[:position] + line_end + lines + text[position:]


def _find_next_line(text: str, position: int) -> int:
    """Where the line behind a position begins; the end of the text when it is the last line."""
    return text.find("\n", position) + 1 or len(text)


def _is_comment_deeper_than(line: str, indent: int) -> bool:
    content = line.lstrip()
    return content.startswith("#") and len(line) - len(content) > indent


def _find_yaml_node(text: str, path: tuple[str, ...]) -> Any:
    """The node of YAML at a path, which knows where it begins and ends."""
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    for part in path:
        node = next(value for key, value in node.value if key.value == part)
    return node
