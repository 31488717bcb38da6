"""Stacks → changes: what runs on the server, under which name, with which data."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from kiwari_ci.commands.diff.change import Change
from kiwari_ci.commands.diff.container_settings import DATABASES, Compared, same, swapped
from kiwari_ci.commands.diff.matching import Names
from kiwari_ci.problems import enumerated
from kiwari_ci.readers.compose_file import Service, Stack
from kiwari_ci.readers.step_effects import repository
from kiwari_ci.readers.yaml_document import mapped, shown


@dataclass(frozen=True)
class Pair:
    """A stack before and after, what its subject is called, and the keys that its env file has after."""

    subject: str
    before: Stack
    after: Stack
    keys: frozenset[str] = frozenset()


def changes(pair: Pair, was: Names, now: Names) -> Iterator[Change]:
    """All that two compose files of one environment say."""
    yield from _head(pair)
    matched = dict(_matched(pair, was, now))
    several = len(pair.after.services) > 1 or len(pair.before.services) > 1
    for old, new in matched.items():
        before, after = pair.before.services[old], pair.after.services[new]
        name = now.service(pair.after, after)
        part = name if several or name != pair.subject else ""
        changed = list(Compared(before, after, pair.after.document, pair.keys).changes())
        for change in [*changed, *_stays(after, changed)]:
            yield replace(change, subject=pair.subject, where=change.where or after.where, part=part)
    for key, service in pair.before.services.items():
        if key not in matched:
            container = shown(service.container or key)
            words = f"container {container} ({shown(service.image or 'built there')}) is no longer in the stack"
            data = DATABASES.search(repository(service.image))
            fate = (
                "dump its data first, and restore it where the spec has the database"
                if data
                else "what it does is lost"
            )
            yield Change(
                pair.subject,
                f"{words}: {fate}; it is to be removed by hand",
                True,
                service.where,
                ((container, ""),),
            )
    for key, service in pair.after.services.items():
        if key not in matched.values():
            words = f"new container {shown(service.container or key)} ({shown(service.image)})"
            yield Change(pair.subject, words, False, service.where, (("", service.container or key),))
    yield from _rest(pair)


def _stays(accessory: Service, changed: list[Change]) -> Iterator[Change]:
    """A deploy leaves an accessory that runs as it is."""
    if changed and str(mapped(accessory.attributes.get("labels")).get("deploy.accessory")) == "yes":
        again = f"docker compose up -d --no-deps {accessory.container or accessory.key}"
        words = f"it is an accessory, which no deploy changes while it runs: on the server, in its folder, {again}"
        yield Change("", words, True)


def _head(pair: Pair) -> Iterator[Change]:
    before, after = pair.before, pair.after
    if before.path != after.path:
        words = (
            f"its compose file is {shown(after.path)} now; {shown(before.path)} is read by nothing that is generated"
        )
        yield Change(pair.subject, words, True, after.path, ((before.path, after.path),))
    if before.name != after.name and before.name:
        kept = sorted(mapped(before.rest.get("volumes")).keys() & mapped(after.rest.get("volumes")).keys())
        data = f"; its volumes {enumerated(map(shown, kept))} start empty, the old ones keep their data" if kept else ""
        words = f"stack {shown(before.name)} → {shown(after.name)}: another folder on the server, which the deploy key"
        words += " must name; the old one must be stopped by hand"
        yield Change(pair.subject, words + data, True, after.document.where("name"), ((before.name, after.name),))


def _matched(pair: Pair, was: Names, now: Names) -> Iterator[tuple[str, str]]:
    """Services that are the same: by container, else by what they are called, else by image."""

    def same_name(before: Service, after: Service) -> bool:
        return was.service(pair.before, before) == now.service(pair.after, after)

    old, new = dict(pair.before.services), dict(pair.after.services)
    for rule in (_same_container, same_name, _same_image):
        for key, before in list(old.items()):
            if found := next((other for other, after in new.items() if rule(before, after)), None):
                del old[key], new[found]
                yield key, found


def _same_container(before: Service, after: Service) -> bool:
    return (before.container or before.key) == (after.container or after.key)


def _same_image(before: Service, after: Service) -> bool:
    return bool(before.image) and repository(before.image) == repository(after.image)


def _rest(pair: Pair) -> Iterator[Change]:
    """What stands beside the services: networks, volumes, and whatever else there is."""
    old, new = pair.before.rest, pair.after.rest
    for section in dict.fromkeys([*old, *new]):
        if not isinstance(old.get(section, {}), dict | None) or not isinstance(new.get(section, {}), dict | None):
            if not same(old.get(section), new.get(section)):
                yield Change(
                    pair.subject,
                    f"{shown(section)}: {swapped(old.get(section), new.get(section))}",
                    True,
                    pair.after.document.where(section),
                )
            continue
        before, after = mapped(old.get(section)), mapped(new.get(section))
        for name in dict.fromkeys([*before, *after]):
            if same(before.get(name), after.get(name)) and (name in before) == (name in after):
                continue
            yield _beside(pair, section.removesuffix("s"), name, before, after)


def _beside(pair: Pair, what: str, name: str, before: dict[str, Any], after: dict[str, Any]) -> Change:
    where = pair.after.document.where(f"{what}s", name)
    if name not in after:
        return Change(
            pair.subject,
            f"{what} {shown(name)} is no longer declared" + (": its data stays behind" if what == "volume" else ""),
            True,
            where,
            ((name, ""),),
        )
    external = mapped(after[name]).get("external")
    if name not in before:
        words = f"{what} {shown(name)} is declared" + (", and must exist on the server" if external else "")
        return Change(pair.subject, words, bool(external), where, (("", name),))
    return Change(pair.subject, f"{what} {shown(name)}: {swapped(before[name], after[name])}", True, where)
