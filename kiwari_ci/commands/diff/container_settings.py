"""One container → changes: its name, image, data, ports, networks, health."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kiwari_ci.commands.diff.change import PipelineChange, format_names, iter_added_removed
from kiwari_ci.readers import compose_file
from kiwari_ci.readers.compose_file import ComposeService
from kiwari_ci.readers.image_reference import parse_image_repository, parse_image_tag
from kiwari_ci.readers.step_effects import resolve_dockerfile_path
from kiwari_ci.readers.yaml_document import YamlDocument, as_dict, as_inline_code

_PRIVILEGE_ATTRIBUTES = {
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
_SEPARATE_ATTRIBUTES = {"container_name", "image", "build"}
_LIST_MESSAGES = {
    "ports": ("port", "published on the server", "no longer published on the server"),
    "env_file": ("env file", "read: it must be on the server before the next deploy", "no longer read"),
    "networks": ("network", "joined", "left: what it reaches there, and who reaches it, is cut off"),
    "depends_on": ("", "waited for at the start", "no longer waited for at the start"),
}
_LABEL_MESSAGES = {  # of a label of ours: what it says now, by value, and what it means that it is gone
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
_SAFE_LABELS = {"deploy.name-cache"}
DATABASE_IMAGE = re.compile(
    r"(^|/)(postgres|postgis|mysql|mariadb|mongo|timescaledb|redis|elasticsearch|clickhouse)[^/]*$"
)


@dataclass(frozen=True)
class ContainerComparison:
    """One container, before and after; `keys` are those that its env file has after."""

    before: ComposeService
    after: ComposeService
    document: YamlDocument
    keys: frozenset[str] = frozenset()

    def changes(self) -> Iterator[PipelineChange]:
        """All that differs; the subject is the caller's."""
        yield from self._name()
        yield from self._image()
        yield from self._labels()
        old, new = self.before.attributes, self.after.attributes
        for name in dict.fromkeys([*old, *new]):
            if name not in _SEPARATE_ATTRIBUTES | {"labels"} and not are_identical(old.get(name), new.get(name)):
                yield from self._attribute(name, old.get(name), new.get(name))

    def at(self, name: str, *more: str) -> str:
        """Where an attribute stands."""
        return self.document.where("services", self.after.key, name, *more)

    def _name(self) -> Iterator[PipelineChange]:
        old, new = self.before.container, self.after.container
        if old and new and old != new:
            words = f"container {as_inline_code(old)} renamed {as_inline_code(new)}: "
            words += "the old one must be removed by hand, and the proxy's host changed"
            yield PipelineChange("", words, True, self.at("container_name"), ((old, new),))
        elif new and not old:
            words = f"its container is called {as_inline_code(new)} now, and no longer by Compose's own name: "
            words += "the old one must be removed by hand"
            yield PipelineChange("", words, True, self.at("container_name"), (("", new),))
        elif old and not new:
            words = f"its container {as_inline_code(old)} has no name of its own any more: "
            words += "the old one must be removed by hand"
            yield PipelineChange("", words, True, self.at("image"), ((old, ""),))
        elif self.before.key != self.after.key and old == new:
            words = f"the service {as_inline_code(self.before.key)} is called {as_inline_code(self.after.key)}: "
            words += "others reach it by that name"
            yield PipelineChange("", words, True, self.after.where, ((self.before.key, self.after.key),))

    def _image(self) -> Iterator[PipelineChange]:
        old, new = self.before.image, self.after.image
        built = self.before.attributes.get("build")
        if built and not self.after.attributes.get("build"):
            recipe = built if isinstance(built, str) else resolve_dockerfile_path(".", "")
            yield PipelineChange(
                "",
                f"pulled as {as_inline_code(new)}; before, built on the server from {as_inline_code(recipe)}",
                False,
                self.at("image"),
            )
        elif not are_identical(built, self.after.attributes.get("build")):
            yield PipelineChange("", "built in another way on the server", True, self.at("build"))
        if not old or old == new:
            return
        if parse_image_repository(old) == parse_image_repository(new):
            words, pair = (
                f"image {parse_image_tag(old)} → {parse_image_tag(new)}",
                (parse_image_tag(old), parse_image_tag(new)),
            )
        else:
            words, pair = f"image {as_inline_code(old)} → {as_inline_code(new)}", (old, new)
        data = DATABASE_IMAGE.search(parse_image_repository(old)) and _parse_major_version(old) != _parse_major_version(
            new
        )
        risky = bool(data) or parse_image_repository(old) != parse_image_repository(new)
        yield PipelineChange(
            "", words + (": data must be dumped and restored" if data else ""), risky, self.at("image"), (pair,)
        )

    def _labels(self) -> Iterator[PipelineChange]:
        old, new = as_dict(self.before.attributes.get("labels")), as_dict(self.after.attributes.get("labels"))
        yield from self._health(str(old.get("deploy.health") or ""), str(new.get("deploy.health") or ""))
        was, now = str(old.get("deploy.from") or ""), str(new.get("deploy.from") or "")
        if was != now:
            words = (
                f"only what {as_inline_code(now)} has served is let in"
                if now
                else "what no other environment has served is let in, too"
            )
            yield PipelineChange("", words, not now, self.at("labels", "deploy.from"), ((was, now),))
        yield from self._domains()
        yield from self._deploys(old, new)
        for key in dict.fromkeys([*old, *new]):
            if (
                key in ("deploy.health", "deploy.from", *_LABEL_MESSAGES)
                or are_identical(old.get(key), new.get(key))
                and (key in old) == (key in new)
            ):
                continue
            told = {
                name for service in (self.before, self.after) for name in compose_file.find_service_domains(service)
            }
            if not any(name in f"{old.get(key)} {new.get(key)}" for name in told) or (key in old) == (key in new):
                state = "new" if key not in old else "gone" if key not in new else "changed"
                yield PipelineChange(
                    "",
                    f"label {as_inline_code(key)} is {state}: {format_replacement(old.get(key), new.get(key))}",
                    key not in new,
                    self.at("labels", key),
                )

    def _deploys(self, old: dict[str, Any], new: dict[str, Any]) -> Iterator[PipelineChange]:
        """What the labels that the host program reads mean."""
        for key, (words, gone) in _LABEL_MESSAGES.items():
            was, now = (str(labels.get(key) or "") for labels in (old, new))
            if was != now:
                told = (words if now else gone).get(now or was) or (words if now else gone)[""]
                before = f"; before: {as_inline_code(was)}" if was and now and "%s" in told else ""
                made = told.replace("%s", as_inline_code((now or was).replace("$$", "$"))) + before
                yield PipelineChange("", made, key not in _SAFE_LABELS, self.at("labels", key), ((was, now),))

    def _health(self, old: str, new: str) -> Iterator[PipelineChange]:
        """`:PORT/PATH STATUS`, which the host asks before a container gets its name."""
        where = self.at("labels", "deploy.health")
        if old == new:
            return
        if not old or not new:
            words = (
                f"must answer at {as_inline_code(new)} before it serves"
                if new
                else f"is no longer asked at {as_inline_code(old)} before it serves"
            )
            yield PipelineChange("", words, True, where, ((old, new),))
            return
        for what, before, after in zip(
            ("port", "path", "status"), _parse_health_label(old), _parse_health_label(new), strict=True
        ):
            if before != after:
                yield PipelineChange(
                    "",
                    f"health {what} {before} → {after}: it must answer so before it serves",
                    True,
                    where,
                    ((before, after),),
                )

    def _domains(self) -> Iterator[PipelineChange]:
        for name, is_new in iter_added_removed(
            sorted(compose_file.find_service_domains(self.before)),
            sorted(compose_file.find_service_domains(self.after)),
        ):
            words = (
                f"domain {as_inline_code(name)} leads to it"
                if is_new
                else f"domain {as_inline_code(name)} no longer leads to it by a label: the proxy must"
            )
            yield PipelineChange("", words, not is_new, self.at("labels"), (("", name) if is_new else (name, ""),))

    def _attribute(self, name: str, old: Any, new: Any) -> Iterator[PipelineChange]:
        if name == "volumes":
            yield from self._mounts(as_dict(old), as_dict(new))
        elif name == "environment":
            yield from self._environment(as_dict(old), as_dict(new))
        elif name in _LIST_MESSAGES and isinstance(old, dict | None) and isinstance(new, dict | None):
            yield from self._list(name, old or {}, new or {})
        else:
            wider = name in _PRIVILEGE_ATTRIBUTES or (name == "restart" and new in (None, "no"))
            for place, before, after in _iter_differing_leaves(name, old, new):
                yield PipelineChange(
                    "", f"{as_inline_code(place)}: {format_replacement(before, after)}", wider, self.at(name)
                )

    def _list(self, name: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[PipelineChange]:
        what, came, went = _LIST_MESSAGES[name]
        for each, is_new in iter_added_removed(old, new):
            risky = (name in ("networks", "env_file") and is_new == (name == "env_file")) or name == "ports"
            yield PipelineChange(
                "",
                f"{what} {as_inline_code(each)} is {came if is_new else went}".strip(),
                risky,
                self.at(name),
                (("", each) if is_new else (each, ""),),
            )
        for each in old.keys() & new.keys():
            if not are_identical(old[each], new[each]):
                yield PipelineChange(
                    "",
                    f"{what or 'depends_on'} {as_inline_code(each)}: {format_replacement(old[each], new[each])}",
                    True,
                    self.at(name),
                )
        if list(old) != list(new) and old.keys() == new.keys() and name == "env_file":
            yield PipelineChange(
                "",
                f"env files are read in another order: {format_names(new)}",
                True,
                self.at(name),
            )

    def _mounts(self, old: dict[str, Any], new: dict[str, Any]) -> Iterator[PipelineChange]:
        for path in dict.fromkeys([*old, *new]):
            before, after = old.get(path), new.get(path)
            where = self.at("volumes")
            if path not in new:
                words = f"volume {as_inline_code(before or path)} is no longer mounted at {as_inline_code(path)}: "
                words += "its data is not seen"
                yield PipelineChange("", words, True, where, ((str(before), ""),))
            elif path not in old:
                opens = "docker.sock" in f"{after}{path}"
                yield PipelineChange(
                    "",
                    f"volume {as_inline_code(after or path)} is mounted at {as_inline_code(path)}",
                    opens,
                    where,
                    (("", str(after)),),
                )
            elif before != after:
                base = _parse_volume_source(before) != _parse_volume_source(after)
                words = f"mounted at {as_inline_code(path)}: {format_replacement(before, after)}" + (
                    "; its data stays behind in the old one" if base else ""
                )
                yield PipelineChange(
                    "", words, base or "docker.sock" in str(after), where, ((str(before), str(after)),)
                )

    def _environment(self, old: dict[str, Any], new: dict[str, Any]) -> Iterator[PipelineChange]:
        """Keys only: a value may be a secret."""
        for key in dict.fromkeys([*old, *new]):
            if key not in new:
                lost = "put it into the env file on the server" if key in self.keys else "it is lost"
                yield PipelineChange(
                    "",
                    f"the compose file no longer sets {as_inline_code(key)}: {lost}",
                    True,
                    self.at("environment"),
                    ((key, ""),),
                )
            elif key not in old:
                must = "?" in str(new[key])
                words = f"the compose file sets {as_inline_code(key)}" + (
                    ": the stack's .env must have it, or nothing starts" if must else ""
                )
                yield PipelineChange("", words, must, self.at("environment", key), (("", key),))
            elif not are_identical(old[key], new[key]):
                must = "?" in str(new[key]) and "?" not in str(old[key])
                words = (
                    f"the compose file sets {as_inline_code(key)} to something else"
                    if not must
                    else f"{as_inline_code(key)} must not be empty in the stack's .env, or nothing starts"
                )
                yield PipelineChange("", words, True, self.at("environment", key))


def _parse_health_label(text: str) -> tuple[str, str, str]:
    address, _, status = text.partition(" ")
    port, slash, path = address.partition("/")
    return port.lstrip(":"), slash + path, status or "200"


def _parse_major_version(image: str) -> str:
    return re.split(r"[.\-]", parse_image_tag(image))[0]


def _parse_volume_source(given: Any) -> str:
    return str(given).partition(":")[0].partition(" ")[0]


def are_identical(before: Any, after: Any) -> bool:
    """Equal, and of the same kind: `true` is not 1."""
    return json.dumps(before, sort_keys=True, default=str) == json.dumps(after, sort_keys=True, default=str)


def format_replacement(before: Any, after: Any) -> str:
    """Two values with an arrow between them."""
    return f"{_format_yaml_value(before)} → {_format_yaml_value(after)}"


def _iter_differing_leaves(name: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    """The innermost keys at which two values differ."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        yield name, before, after
        return
    for key in dict.fromkeys([*before, *after]):
        if not are_identical(before.get(key), after.get(key)) or (key in before) != (key in after):
            yield from _iter_differing_leaves(f"{name}.{key}", before.get(key), after.get(key))


def _format_yaml_value(given: Any) -> str:
    if given is None:
        return "nothing"
    if isinstance(given, dict) and given and not any(given.values()):
        return format_names(given)
    return as_inline_code(given if isinstance(given, str) else json.dumps(given, ensure_ascii=False, default=str))
