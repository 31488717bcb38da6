"""One container → changes: its name, image, data, ports, networks, health."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kiwari_ci.commands.diff.change import Change, ways
from kiwari_ci.problems import enumerated
from kiwari_ci.readers import compose_file
from kiwari_ci.readers.compose_file import Service
from kiwari_ci.readers.step_effects import dockerfile, repository, tag
from kiwari_ci.readers.yaml_document import Document, mapped, shown

_OPENS = {
    "privileged",
    "cap_add",
    "devices",
    "network_mode",
    "pid",
    "ipc",
    "user",
    "security_opt",
    "cgroup",
    "userns_mode",
}
_QUIET = {"container_name", "image", "build"}
_LIST_WORDS = {
    "ports": ("port", "published on the server", "no longer published on the server"),
    "env_file": ("env file", "read: it must be on the server before the next deploy", "no longer read"),
    "networks": ("network", "joined", "left: what it reaches there, and who reaches it, is cut off"),
    "depends_on": ("", "waited for at the start", "no longer waited for at the start"),
}
_DEPLOYS = {  # of a label of ours: what it says now, by value, and what it means that it is gone
    "deploy.migrate": (
        {"": "each deploy first runs %s with the new image, and fails when that does"},
        {"": "no deploy runs %s any more"},
    ),
    "deploy.user": ({"": "the host logs into the registry as %s"}, {"": "the host logs into no registry as %s now"}),
    "deploy.host": (
        {"": "the server asks for its health as %s"},
        {"": "the server no longer asks for its health as %s"},
    ),
    "deploy.start-period": (
        {"": "a new container may take %s seconds until it answers"},
        {"": "a new container may take a minute until it answers"},
    ),
    "deploy.name-cache": (
        {"": "a deploy waits %s seconds, for which the proxy keeps a name, before it stops the old container"},
        {"": "no deploy waits for the proxy to look a name up again"},
    ),
    "deploy.rollout": (
        {"": "replaced with a gap: the old one stops before the new one starts"},
        {"": "replaced without a gap: the new one answers before the old one goes, which takes memory for two"},
    ),
    "deploy.accessory": (
        {"once": "runs to its end before each deploy", "": "an accessory: started when it is not there, and then left"},
        {"": "no accessory any more"},
    ),
}
_HARMLESS = {"deploy.name-cache"}
DATABASES = re.compile(r"(^|/)(postgres|postgis|mysql|mariadb|mongo|timescaledb|redis|elasticsearch|clickhouse)[^/]*$")


@dataclass(frozen=True)
class Compared:
    """One container, before and after; `keys` are those that its env file has after."""

    before: Service
    after: Service
    document: Document
    keys: frozenset[str] = frozenset()

    def changes(self) -> Iterator[Change]:
        """All that differs; the subject is the caller's."""
        yield from self._name()
        yield from self._image()
        yield from self._labels()
        old, new = self.before.attributes, self.after.attributes
        for name in dict.fromkeys([*old, *new]):
            if name not in _QUIET | {"labels"} and not same(old.get(name), new.get(name)):
                yield from self._attribute(name, old.get(name), new.get(name))

    def at(self, name: str, *more: str) -> str:
        """Where an attribute stands."""
        return self.document.where("services", self.after.key, name, *more)

    def _name(self) -> Iterator[Change]:
        old, new = self.before.container, self.after.container
        if old and new and old != new:
            words = f"container {shown(old)} renamed {shown(new)}: the old one must be removed by hand, and the proxy's"
            words += " host changed"
            yield Change("", words, True, self.at("container_name"), ((old, new),))
        elif new and not old:
            words = (
                f"its container is called {shown(new)} now, and no longer by Compose's own name: the old one must be"
            )
            words += " removed by hand"
            yield Change("", words, True, self.at("container_name"), (("", new),))
        elif old and not new:
            yield Change(
                "",
                f"its container {shown(old)} has no name of its own any more: the old one must be removed by hand",
                True,
                self.at("image"),
                ((old, ""),),
            )
        elif self.before.key != self.after.key and old == new:
            words = (
                f"the service {shown(self.before.key)} is called {shown(self.after.key)}: others reach it by that name"
            )
            yield Change("", words, True, self.after.where, ((self.before.key, self.after.key),))

    def _image(self) -> Iterator[Change]:
        old, new = self.before.image, self.after.image
        built = self.before.attributes.get("build")
        if built and not self.after.attributes.get("build"):
            recipe = built if isinstance(built, str) else dockerfile(".", "")
            yield Change(
                "", f"pulled as {shown(new)}; before, built on the server from {shown(recipe)}", False, self.at("image")
            )
        elif not same(built, self.after.attributes.get("build")):
            yield Change("", "built in another way on the server", True, self.at("build"))
        if not old or old == new:
            return
        if repository(old) == repository(new):
            words, pair = f"image {tag(old)} → {tag(new)}", (tag(old), tag(new))
        else:
            words, pair = f"image {shown(old)} → {shown(new)}", (old, new)
        data = DATABASES.search(repository(old)) and _major(old) != _major(new)
        risky = bool(data) or repository(old) != repository(new)
        yield Change(
            "", words + (": data must be dumped and restored" if data else ""), risky, self.at("image"), (pair,)
        )

    def _labels(self) -> Iterator[Change]:
        old, new = mapped(self.before.attributes.get("labels")), mapped(self.after.attributes.get("labels"))
        yield from self._health(str(old.get("deploy.health") or ""), str(new.get("deploy.health") or ""))
        was, now = str(old.get("deploy.from") or ""), str(new.get("deploy.from") or "")
        if was != now:
            words = (
                f"only what {shown(now)} has served is let in"
                if now
                else "what no other environment has served is let in, too"
            )
            yield Change("", words, not now, self.at("labels", "deploy.from"), ((was, now),))
        yield from self._domains()
        yield from self._deploys(old, new)
        for key in dict.fromkeys([*old, *new]):
            if (
                key in ("deploy.health", "deploy.from", *_DEPLOYS)
                or same(old.get(key), new.get(key))
                and (key in old) == (key in new)
            ):
                continue
            told = {name for service in (self.before, self.after) for name in compose_file.domains(service)}
            if not any(name in f"{old.get(key)} {new.get(key)}" for name in told) or (key in old) == (key in new):
                state = "new" if key not in old else "gone" if key not in new else "changed"
                yield Change(
                    "",
                    f"label {shown(key)} is {state}: {swapped(old.get(key), new.get(key))}",
                    key not in new,
                    self.at("labels", key),
                )

    def _deploys(self, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
        """What the labels that the host program reads mean."""
        for key, (words, gone) in _DEPLOYS.items():
            was, now = (str(labels.get(key) or "") for labels in (old, new))
            if was != now:
                told = (words if now else gone).get(now or was) or (words if now else gone)[""]
                before = f"; before: {shown(was)}" if was and now and "%s" in told else ""
                made = told.replace("%s", shown((now or was).replace("$$", "$"))) + before
                yield Change("", made, key not in _HARMLESS, self.at("labels", key), ((was, now),))

    def _health(self, old: str, new: str) -> Iterator[Change]:
        """`:PORT/PATH STATUS`, which the host asks before a container gets its name."""
        where = self.at("labels", "deploy.health")
        if old == new:
            return
        if not old or not new:
            words = (
                f"must answer at {shown(new)} before it serves"
                if new
                else f"is no longer asked at {shown(old)} before it serves"
            )
            yield Change("", words, True, where, ((old, new),))
            return
        for what, before, after in zip(("port", "path", "status"), _health_parts(old), _health_parts(new), strict=True):
            if before != after:
                yield Change(
                    "",
                    f"health {what} {before} → {after}: it must answer so before it serves",
                    True,
                    where,
                    ((before, after),),
                )

    def _domains(self) -> Iterator[Change]:
        for name, is_new in ways(sorted(compose_file.domains(self.before)), sorted(compose_file.domains(self.after))):
            words = (
                f"domain {shown(name)} leads to it"
                if is_new
                else f"domain {shown(name)} no longer leads to it by a label: the proxy must"
            )
            yield Change("", words, not is_new, self.at("labels"), (("", name) if is_new else (name, ""),))

    def _attribute(self, name: str, old: Any, new: Any) -> Iterator[Change]:
        if name == "volumes":
            yield from self._mounts(mapped(old), mapped(new))
        elif name == "environment":
            yield from self._environment(mapped(old), mapped(new))
        elif name in _LIST_WORDS and isinstance(old, dict | None) and isinstance(new, dict | None):
            yield from self._list(name, old or {}, new or {})
        else:
            wider = name in _OPENS or (name == "restart" and new in (None, "no"))
            for place, before, after in _leaves(name, old, new):
                yield Change("", f"{shown(place)}: {swapped(before, after)}", wider, self.at(name))

    def _list(self, name: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
        what, came, went = _LIST_WORDS[name]
        for each, is_new in ways(old, new):
            risky = (name in ("networks", "env_file") and is_new == (name == "env_file")) or name == "ports"
            yield Change(
                "",
                f"{what} {shown(each)} is {came if is_new else went}".strip(),
                risky,
                self.at(name),
                (("", each) if is_new else (each, ""),),
            )
        for each in old.keys() & new.keys():
            if not same(old[each], new[each]):
                yield Change(
                    "", f"{what or 'depends_on'} {shown(each)}: {swapped(old[each], new[each])}", True, self.at(name)
                )
        if list(old) != list(new) and old.keys() == new.keys() and name == "env_file":
            yield Change("", f"env files are read in another order: {enumerated(map(shown, new))}", True, self.at(name))

    def _mounts(self, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
        for path in dict.fromkeys([*old, *new]):
            before, after = old.get(path), new.get(path)
            where = self.at("volumes")
            if path not in new:
                words = f"volume {shown(before or path)} is no longer mounted at {shown(path)}: its data is not seen"
                yield Change("", words, True, where, ((str(before), ""),))
            elif path not in old:
                opens = "docker.sock" in f"{after}{path}"
                yield Change(
                    "", f"volume {shown(after or path)} is mounted at {shown(path)}", opens, where, (("", str(after)),)
                )
            elif before != after:
                base = _volume(before) != _volume(after)
                words = f"mounted at {shown(path)}: {swapped(before, after)}" + (
                    "; its data stays behind in the old one" if base else ""
                )
                yield Change("", words, base or "docker.sock" in str(after), where, ((str(before), str(after)),))

    def _environment(self, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
        """Keys only: a value may be a secret."""
        for key in dict.fromkeys([*old, *new]):
            if key not in new:
                lost = "put it into the env file on the server" if key in self.keys else "it is lost"
                yield Change(
                    "",
                    f"the compose file no longer sets {shown(key)}: {lost}",
                    True,
                    self.at("environment"),
                    ((key, ""),),
                )
            elif key not in old:
                must = "?" in str(new[key])
                words = f"the compose file sets {shown(key)}" + (
                    ": the stack's .env must have it, or nothing starts" if must else ""
                )
                yield Change("", words, must, self.at("environment", key), (("", key),))
            elif not same(old[key], new[key]):
                must = "?" in str(new[key]) and "?" not in str(old[key])
                words = (
                    f"the compose file sets {shown(key)} to something else"
                    if not must
                    else f"{shown(key)} must not be empty in the stack's .env, or nothing starts"
                )
                yield Change("", words, True, self.at("environment", key))


def _health_parts(text: str) -> tuple[str, str, str]:
    address, _, status = text.partition(" ")
    port, slash, path = address.partition("/")
    return port.lstrip(":"), slash + path, status or "200"


def _major(image: str) -> str:
    return re.split(r"[.\-]", tag(image))[0]


def _volume(given: Any) -> str:
    return str(given).partition(":")[0].partition(" ")[0]


def same(before: Any, after: Any) -> bool:
    """Equal, and of the same kind: `true` is not 1."""
    return json.dumps(before, sort_keys=True, default=str) == json.dumps(after, sort_keys=True, default=str)


def swapped(before: Any, after: Any) -> str:
    """Two values with an arrow between them."""
    return f"{_value(before)} → {_value(after)}"


def _leaves(name: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    """The innermost keys at which two values differ."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        yield name, before, after
        return
    for key in dict.fromkeys([*before, *after]):
        if not same(before.get(key), after.get(key)) or (key in before) != (key in after):
            yield from _leaves(f"{name}.{key}", before.get(key), after.get(key))


def _value(given: Any) -> str:
    if given is None:
        return "nothing"
    if isinstance(given, dict) and given and not any(given.values()):
        return enumerated(map(shown, given))
    return shown(given if isinstance(given, str) else json.dumps(given, ensure_ascii=False, default=str))
