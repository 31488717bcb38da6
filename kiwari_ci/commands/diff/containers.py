"""Compares stacks: what runs on the server, under which name, with which data."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from kiwari_ci.commands.diff.change import PipelineChange, format_names
from kiwari_ci.commands.diff.container_settings import (
    DATABASE_IMAGE,
    ContainerComparison,
    are_identical,
    format_replacement,
)
from kiwari_ci.commands.diff.matching import NameMatches
from kiwari_ci.readers.compose_file import ComposeProject, ComposeService
from kiwari_ci.readers.image_reference import parse_image_repository
from kiwari_ci.readers.yaml_document import as_dict, as_inline_code


@dataclass(frozen=True)
class StackPair:
    """A stack before and after, what its subject is called, and the keys that its env file has after."""

    subject: str
    before: ComposeProject
    after: ComposeProject
    keys: frozenset[str] = frozenset()


def compare_stacks(pair: StackPair, old_names: NameMatches, new_names: NameMatches) -> Iterator[PipelineChange]:
    """Compare two compose files of one environment."""
    yield from _compare_stack_names(pair)
    matches = _match_services(pair, old_names, new_names)
    has_several_services = len(pair.after.services) > 1 or len(pair.before.services) > 1
    for old_key, new_key in matches.items():
        before, after = pair.before.services[old_key], pair.after.services[new_key]
        name = new_names.service(pair.after, after)
        part = name if has_several_services or name != pair.subject else ""
        changes = list(ContainerComparison(before, after, pair.after.document, pair.keys).changes())
        for change in [*changes, *_warn_running_accessory(after, changes)]:
            yield replace(change, subject=pair.subject, where=change.where or after.where, part=part)
    for key, service in pair.before.services.items():
        if key not in matches:
            yield _describe_removed_container(pair.subject, service)
    for key, service in pair.after.services.items():
        if key not in matches.values():
            name = service.container or key
            message = f"new container {as_inline_code(name)} ({as_inline_code(service.image)})"
            yield PipelineChange(pair.subject, message, False, service.where, (("", name),))
    yield from _compare_sections(pair)
    yield from _compare_schedules(pair)


def _describe_removed_container(subject: str, service: ComposeService) -> PipelineChange:
    container = as_inline_code(service.container or service.key)
    image = as_inline_code(service.image or "built there")
    if DATABASE_IMAGE.search(parse_image_repository(service.image)):
        consequence = "dump its data first, and restore it where the spec has the database"
    else:
        consequence = "what it does is lost"
    message = f"container {container} ({image}) is no longer in the stack: {consequence}; it is to be removed by hand"
    return PipelineChange(subject, message, True, service.where, ((container, ""),))


def _warn_running_accessory(accessory: ComposeService, changes: list[PipelineChange]) -> Iterator[PipelineChange]:
    """Report that a deploy does not change an accessory while it runs."""
    labels = as_dict(accessory.attributes.get("labels"))
    if changes and str(labels.get("deploy.accessory")) == "yes":
        command = f"docker compose up -d --no-deps {accessory.container or accessory.key}"
        message = "it is an accessory, which no deploy changes while it runs: on the server, in its folder, "
        yield PipelineChange("", message + command, True)


def _compare_stack_names(pair: StackPair) -> Iterator[PipelineChange]:
    before, after = pair.before, pair.after
    if before.path != after.path:
        message = f"its compose file is {as_inline_code(after.path)} now; "
        message += f"{as_inline_code(before.path)} is read by nothing that is generated"
        yield PipelineChange(pair.subject, message, True, after.path, ((before.path, after.path),))
    if before.name and before.name != after.name:
        message = f"stack {as_inline_code(before.name)} → {as_inline_code(after.name)}: another folder on the server, "
        message += "which the deploy key must name; the old one must be stopped by hand"
        shared_volumes = as_dict(before.rest.get("volumes")).keys() & as_dict(after.rest.get("volumes")).keys()
        if shared_volumes:
            message += f"; its volumes {format_names(sorted(shared_volumes))} start empty, the old ones keep their data"
        where = after.document.where("name")
        yield PipelineChange(pair.subject, message, True, where, ((before.name, after.name),))


def _match_services(pair: StackPair, old_names: NameMatches, new_names: NameMatches) -> dict[str, str]:
    """Match services that are the same: by container, then by the service's name, then by image."""

    def has_same_name(before: ComposeService, after: ComposeService) -> bool:
        return old_names.service(pair.before, before) == new_names.service(pair.after, after)

    matches: dict[str, str] = {}
    unmatched = dict(pair.after.services)
    for is_match in (_has_same_container, has_same_name, _has_same_image):
        for old_key, before in pair.before.services.items():
            if old_key in matches:
                continue
            new_key = next((key for key, after in unmatched.items() if is_match(before, after)), None)
            if new_key is not None:
                matches[old_key] = new_key
                del unmatched[new_key]
    return matches


def _has_same_container(before: ComposeService, after: ComposeService) -> bool:
    return (before.container or before.key) == (after.container or after.key)


def _has_same_image(before: ComposeService, after: ComposeService) -> bool:
    return bool(before.image) and parse_image_repository(before.image) == parse_image_repository(after.image)


def _compare_schedules(pair: StackPair) -> Iterator[PipelineChange]:
    """What runs by the clock: backups and jobs."""
    old, new = pair.before.schedule, pair.after.schedule
    where = pair.after.document.where("x-schedule")
    for title in dict.fromkeys([*old, *new]):
        kind, _, name = title.partition(" ")
        what = f"backup of {as_inline_code(name)}" if kind == "backup" else f"job {as_inline_code(name)}"
        if title not in old:
            words = f"{what} runs by the clock: {format_replacement(None, new[title].get('schedule'))}"
            yield PipelineChange(pair.subject, words, False, where, (("", title),))
        elif title not in new:
            yield PipelineChange(pair.subject, f"{what} no longer runs", True, where, ((title, ""),))
        else:
            for key in dict.fromkeys([*old[title], *new[title]]):
                before, after = old[title].get(key), new[title].get(key)
                if not are_identical(before, after):
                    # Fewer dumps, and a copy that is made no more, cannot be brought back.
                    is_risky = key == "keep" or key.startswith("copy-")
                    words = f"{what}: {as_inline_code(key)}: {format_replacement(before, after)}"
                    yield PipelineChange(pair.subject, words, is_risky, where)


def _compare_sections(pair: StackPair) -> Iterator[PipelineChange]:
    """Compare what the files have beside services: networks, volumes and all other sections."""
    old, new = pair.before.rest, pair.after.rest
    for section in dict.fromkeys([*old, *new]):
        before, after = old.get(section), new.get(section)
        if isinstance(before, dict | None) and isinstance(after, dict | None):
            yield from _compare_section_entries(pair, section.removesuffix("s"), as_dict(before), as_dict(after))
        elif not are_identical(before, after):
            message = f"{as_inline_code(section)}: {format_replacement(before, after)}"
            yield PipelineChange(pair.subject, message, True, pair.after.document.where(section))


def _compare_section_entries(
    pair: StackPair, noun: str, before: dict[str, Any], after: dict[str, Any]
) -> Iterator[PipelineChange]:
    for name in dict.fromkeys([*before, *after]):
        is_on_both_sides = name in before and name in after
        if not is_on_both_sides or not are_identical(before[name], after[name]):
            yield _compare_section_entry(pair, noun, name, before, after)


def _compare_section_entry(
    pair: StackPair, noun: str, name: str, before: dict[str, Any], after: dict[str, Any]
) -> PipelineChange:
    where = pair.after.document.where(f"{noun}s", name)
    entry = f"{noun} {as_inline_code(name)}"
    if name not in after:
        message = f"{entry} is no longer declared"
        if noun == "volume":
            message += ": its data stays behind"
        return PipelineChange(pair.subject, message, True, where, ((name, ""),))
    if name not in before:
        message = f"{entry} is declared"
        is_external = bool(as_dict(after[name]).get("external"))
        if is_external:
            message += ", and must exist on the server"
        return PipelineChange(pair.subject, message, is_external, where, (("", name),))
    message = f"{entry}: {format_replacement(before[name], after[name])}"
    if noun == "volume":
        message = _describe_other_volume(entry, name, as_dict(after[name]))
    return PipelineChange(pair.subject, message, True, where)


def _describe_other_volume(entry: str, name: str, after: dict[str, Any]) -> str:
    """Describe that a name means another volume of Docker's than before."""
    if after.get("external"):
        volume = as_inline_code(str(after.get("name") or name))
        return f"{entry} is now {volume}, which must exist on the server; the data of the former one stays behind"
    return f"{entry} is now created by Compose, empty; the data of the former one stays behind"
