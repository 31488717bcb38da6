"""Stacks → changes: what runs on the server, under which name, with which data."""

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


def compare_stacks(pair: StackPair, was: NameMatches, now: NameMatches) -> Iterator[PipelineChange]:
    """All that two compose files of one environment say."""
    yield from _compare_stack_names(pair)
    matched = dict(_match_services(pair, was, now))
    several = len(pair.after.services) > 1 or len(pair.before.services) > 1
    for old, new in matched.items():
        before, after = pair.before.services[old], pair.after.services[new]
        name = now.service(pair.after, after)
        part = name if several or name != pair.subject else ""
        changed = list(ContainerComparison(before, after, pair.after.document, pair.keys).changes())
        for change in [*changed, *_warn_running_accessory(after, changed)]:
            yield replace(change, subject=pair.subject, where=change.where or after.where, part=part)
    for key, service in pair.before.services.items():
        if key not in matched:
            container = as_inline_code(service.container or key)
            words = (
                f"container {container} ({as_inline_code(service.image or 'built there')}) is no longer in the stack"
            )
            data = DATABASE_IMAGE.search(parse_image_repository(service.image))
            fate = (
                "dump its data first, and restore it where the spec has the database"
                if data
                else "what it does is lost"
            )
            yield PipelineChange(
                pair.subject,
                f"{words}: {fate}; it is to be removed by hand",
                True,
                service.where,
                ((container, ""),),
            )
    for key, service in pair.after.services.items():
        if key not in matched.values():
            words = f"new container {as_inline_code(service.container or key)} ({as_inline_code(service.image)})"
            yield PipelineChange(pair.subject, words, False, service.where, (("", service.container or key),))
    yield from _compare_sections(pair)


def _warn_running_accessory(accessory: ComposeService, changed: list[PipelineChange]) -> Iterator[PipelineChange]:
    """A deploy leaves an accessory that runs as it is."""
    if changed and str(as_dict(accessory.attributes.get("labels")).get("deploy.accessory")) == "yes":
        again = f"docker compose up -d --no-deps {accessory.container or accessory.key}"
        words = f"it is an accessory, which no deploy changes while it runs: on the server, in its folder, {again}"
        yield PipelineChange("", words, True)


def _compare_stack_names(pair: StackPair) -> Iterator[PipelineChange]:
    before, after = pair.before, pair.after
    if before.path != after.path:
        words = f"its compose file is {as_inline_code(after.path)} now; "
        words += f"{as_inline_code(before.path)} is read by nothing that is generated"
        yield PipelineChange(pair.subject, words, True, after.path, ((before.path, after.path),))
    if before.name != after.name and before.name:
        kept = sorted(as_dict(before.rest.get("volumes")).keys() & as_dict(after.rest.get("volumes")).keys())
        data = f"; its volumes {format_names(kept)} start empty, the old ones keep their data" if kept else ""
        words = f"stack {as_inline_code(before.name)} → {as_inline_code(after.name)}: another folder on the server, "
        words += "which the deploy key must name; the old one must be stopped by hand"
        yield PipelineChange(
            pair.subject, words + data, True, after.document.where("name"), ((before.name, after.name),)
        )


def _match_services(pair: StackPair, was: NameMatches, now: NameMatches) -> Iterator[tuple[str, str]]:
    """Services that are the same: by container, else by what they are called, else by image."""

    def same_name(before: ComposeService, after: ComposeService) -> bool:
        return was.service(pair.before, before) == now.service(pair.after, after)

    old, new = dict(pair.before.services), dict(pair.after.services)
    for rule in (_has_same_container, same_name, _has_same_image):
        for key, before in list(old.items()):
            if found := next((other for other, after in new.items() if rule(before, after)), None):
                del old[key], new[found]
                yield key, found


def _has_same_container(before: ComposeService, after: ComposeService) -> bool:
    return (before.container or before.key) == (after.container or after.key)


def _has_same_image(before: ComposeService, after: ComposeService) -> bool:
    return bool(before.image) and parse_image_repository(before.image) == parse_image_repository(after.image)


def _compare_sections(pair: StackPair) -> Iterator[PipelineChange]:
    """What stands beside the services: networks, volumes, and whatever else there is."""
    old, new = pair.before.rest, pair.after.rest
    for section in dict.fromkeys([*old, *new]):
        if not isinstance(old.get(section, {}), dict | None) or not isinstance(new.get(section, {}), dict | None):
            if not are_identical(old.get(section), new.get(section)):
                yield PipelineChange(
                    pair.subject,
                    f"{as_inline_code(section)}: {format_replacement(old.get(section), new.get(section))}",
                    True,
                    pair.after.document.where(section),
                )
            continue
        before, after = as_dict(old.get(section)), as_dict(new.get(section))
        for name in dict.fromkeys([*before, *after]):
            if are_identical(before.get(name), after.get(name)) and (name in before) == (name in after):
                continue
            yield _compare_section_entry(pair, section.removesuffix("s"), name, before, after)


def _compare_section_entry(
    pair: StackPair, what: str, name: str, before: dict[str, Any], after: dict[str, Any]
) -> PipelineChange:
    where = pair.after.document.where(f"{what}s", name)
    if name not in after:
        return PipelineChange(
            pair.subject,
            f"{what} {as_inline_code(name)} is no longer declared"
            + (": its data stays behind" if what == "volume" else ""),
            True,
            where,
            ((name, ""),),
        )
    external = as_dict(after[name]).get("external")
    if name not in before:
        words = f"{what} {as_inline_code(name)} is declared" + (", and must exist on the server" if external else "")
        return PipelineChange(pair.subject, words, bool(external), where, (("", name),))
    return PipelineChange(
        pair.subject, f"{what} {as_inline_code(name)}: {format_replacement(before[name], after[name])}", True, where
    )
