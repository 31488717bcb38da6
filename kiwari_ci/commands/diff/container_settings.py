"""Compares one container before and after: its name, image, data, ports, networks and health."""

import fnmatch
import glob
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kiwari_ci.commands.diff.change import (
    EVERY_ADOPTION,
    PipelineChange,
    Stage,
    format_names,
    iter_added_removed,
)
from kiwari_ci.readers import compose_file, vocabulary
from kiwari_ci.readers.compose_file import ComposeService
from kiwari_ci.readers.image_reference import parse_image_reference, parse_image_repository, parse_image_tag
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
_PROXY_LABEL = re.compile(r"traefik\.|caddy")
_SHOWN_DIGEST_LENGTH = len("sha256:") + 12
_SEPARATE_ATTRIBUTES = {"container_name", "image", "build"}
_LIST_MESSAGES = {
    "ports": ("port", "published on the server", "no longer published on the server"),
    "env_file": ("env file", "read: it must be on the server before the next deploy", "no longer read"),
    "networks": ("network", "joined", "left: the container and what is on that network no longer reach each other"),
    "depends_on": ("", "waited for at the start", "no longer waited for at the start"),
}
_LABEL_MESSAGES = {  # by label of ours: messages for a label that is set, by its value, and for one that is gone
    "deploy.migrate": (
        {"": "each deploy first runs %s with the new image, and fails when that does"},
        {"": "no deploy runs %s any more"},
    ),
    "deploy.user": ({"": "the host logs into the registry as %s"}, {"": "the host logs into no registry as %s now"}),
    "deploy.host": (
        {"": "the server asks for its health as %s"},
        {"": "the server no longer asks for its health as %s"},
    ),
    "deploy.scheme": (
        {"": "the server asks for its health as a proxy with %s does (`X-Forwarded-Proto`)"},
        {"": "the server asks for its health as a proxy with `https` does (`X-Forwarded-Proto`)"},
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
    "deploy.once": (
        {"": "runs to its end in each deploy of its image, which fails unless the exit code is 0"},
        {"": "is expected to keep running now, and no longer to end"},
    ),
    "deploy.accessory": (
        {"once": "runs to its end before each deploy", "": "an accessory: started when it is not there, and then left"},
        {"": "no accessory any more"},
    ),
}
_CONTAINER_NAME = re.compile(r"[a-zA-Z0-9_.-]+")
_TRAEFIK_NAME = re.compile(r"^(traefik\.\w+\.(?:routers|services|middlewares)\.)[^.]+")
_REQUIRED_KEYS = "set these keys, without which Compose starts nothing"
_SAFE_LABELS = {"deploy.name-cache"}
_USUAL_LABELS = {"deploy.name-cache", "deploy.host"}
# What every generated container has, if the spec does not say otherwise.
_USUAL_ATTRIBUTES: dict[str, Any] = {
    "init": True,
    "cap_drop": {"NET_RAW": None},
    "security_opt": {"no-new-privileges:true": None},
    "logging": {"driver": "local"},
}
DATABASE_IMAGE = re.compile(
    r"(^|/)(postgres|postgis|mysql|mariadb|mongo|timescaledb|redis|elasticsearch|clickhouse)[^/]*$"
)


@dataclass(frozen=True)
class ContainerComparison:
    """A container before and after; `keys` are the variables of its env files after.

    `sent_files` are the names of the env files that each deploy writes, and `sent_keys` their variables.
    `docker_networks` are the networks before, each with what Docker calls it. `is_stopped_by_hand`: a deploy is refused
    while the container before runs.
    """

    before: ComposeService
    after: ComposeService
    document: YamlDocument
    keys: frozenset[str] = frozenset()
    sent_files: frozenset[str] = frozenset()
    sent_keys: frozenset[str] = frozenset()
    docker_networks: Mapping[str, str] = field(default_factory=dict)
    is_stopped_by_hand: bool = False

    def changes(self) -> Iterator[PipelineChange]:
        """All differences; the caller sets their subject."""
        yield from self._compare_names()
        yield from self._compare_images()
        yield from self._compare_labels()
        old, new = self.before.attributes, self.after.attributes
        for name in dict.fromkeys([*old, *new]):
            if name in _SEPARATE_ATTRIBUTES or name == "labels":
                continue
            if not are_identical(old.get(name), new.get(name)):
                yield from self._compare_attribute(name, old.get(name), new.get(name))

    def where(self, name: str, *path: str) -> str:
        """The file and line of an attribute."""
        return self.document.where("services", self.after.key, name, *path)

    def _compare_names(self) -> Iterator[PipelineChange]:
        old, new = self.before.container, self.after.container
        if old and new and not _may_be_name(old, new):
            message = f"container {as_inline_code(old)} renamed {as_inline_code(new)}: {self._describe_old_container()}"
            yield self._describe_renamed_container(message, old, new)
        elif new and not old and not re.fullmatch(rf"[a-z0-9][a-z0-9_-]*-{re.escape(self.before.key)}-1", new):
            message = f"the new container is called {as_inline_code(new)}, and no longer has a name that Compose made"
            message += f": {self._describe_old_container()}"
            yield self._describe_renamed_container(message, "", new)
        elif old and not new:
            message = f"its container {as_inline_code(old)} has no name of its own any more: "
            message += "the old container must be removed by hand"
            yield PipelineChange("", message, True, self.where("image"), ((old, ""),), stage="after")
        elif self.before.key != self.after.key and old == new:
            message = f"the service {as_inline_code(self.before.key)} is called {as_inline_code(self.after.key)}: "
            message += "others reach it by that name"
            yield PipelineChange("", message, True, self.after.where, ((self.before.key, self.after.key),))

    def _describe_renamed_container(self, message: str, old: str, new: str) -> PipelineChange:
        """A deploy starts an accessory under its new name at once, and a service's old container serves until then."""
        stage: Stage = "before" if self.after.is_accessory or self.is_stopped_by_hand else "after"
        return PipelineChange(
            "", message, True, self.where("container_name"), ((old, new),), stage=stage, is_dangerous=True
        )

    def _describe_old_container(self) -> str:
        """What becomes of the container with the old name."""
        if self.after.is_accessory:
            return "a deploy starts a second one beside it: stop the old one first, for two must not use the same data"
        if self.is_stopped_by_hand:
            return (
                "stop the old one just before the deploy, which is refused otherwise: both would write to the same data"
            )
        if compose_file.find_service_domains(self.after):
            return "both serve until you stop the old container by hand"
        if self.after.labels.get("deploy.health"):
            return (
                "the old container serves until the proxy sends requests to the new name; "
                "then stop the old container by hand"
            )
        return "both do its work until you stop the old container by hand"

    def _compare_images(self) -> Iterator[PipelineChange]:
        yield from self._compare_builds(self.before.attributes.get("build"), self.after.attributes.get("build"))
        old, new = self.before.image, self.after.image
        if not old or old == new:
            return
        is_same_repository = parse_image_repository(old) == parse_image_repository(new)
        is_database = DATABASE_IMAGE.search(parse_image_repository(old)) is not None
        needs_restore = is_database and _parse_major_version(old) != _parse_major_version(new)
        if is_same_repository:
            has_same_tag = parse_image_tag(old) == parse_image_tag(new)
            pair = (old, new) if has_same_tag else (parse_image_tag(old), parse_image_tag(new))
            message = f"image {_format_version(old)} → {_format_version(new)}"
        else:
            pair = (old, new)
            message = f"image {as_inline_code(old)} → {as_inline_code(new)}"
        if needs_restore:
            message += ": data must be dumped and restored"
        yield PipelineChange(
            "",
            message,
            needs_restore or not is_same_repository,
            self.where("image"),
            (pair,),
            stage="before" if needs_restore else "change",
            is_dangerous=needs_restore,
        )

    def _compare_builds(self, old_build: Any, new_build: Any) -> Iterator[PipelineChange]:
        if old_build and not new_build:
            recipe = old_build if isinstance(old_build, str) else resolve_dockerfile_path(".", "")
            message = f"pulled as {as_inline_code(self.after.image)}; "
            message += f"before, built on the server from {as_inline_code(recipe)}"
            if self.before.image:
                message += f" or pulled as {as_inline_code(self.before.image)}"
            yield PipelineChange("", message, False, self.where("image"))
        elif not are_identical(old_build, new_build):
            yield PipelineChange("", "built in another way on the server", True, self.where("build"))

    def _compare_labels(self) -> Iterator[PipelineChange]:
        old, new = self.before.labels, self.after.labels
        yield from self._compare_health(str(old.get("deploy.health") or ""), str(new.get("deploy.health") or ""))
        yield from self._compare_origin(str(old.get("deploy.from") or ""), str(new.get("deploy.from") or ""))
        yield from self._compare_domains()
        yield from self._compare_deploy_labels(old, new)
        yield from self._compare_other_labels(old, new)

    def _compare_origin(self, old: str, new: str) -> Iterator[PipelineChange]:
        """Compare the environment whose images are the only ones that the host accepts."""
        if old == new:
            return
        if new:
            message = f"only what {as_inline_code(new)} has served is let in"
        else:
            message = "what no other environment has served is let in, too"
        yield PipelineChange(
            "",
            message,
            not new,
            self.where("labels", "deploy.from"),
            ((old, new),),
            summary=EVERY_ADOPTION if new else "",
            item="an environment that promotes gets only images that the other environment has served",
        )

    def _compare_other_labels(self, old: dict[str, Any], new: dict[str, Any]) -> Iterator[PipelineChange]:
        renamed_labels = _find_renamed_labels(old, new)
        domains_before, domains_after = map(compose_file.find_service_domains, (self.before, self.after))
        loses_routes = bool(domains_before) and not domains_after
        removed_proxy_labels = []
        for key in dict.fromkeys([*old, *new]):
            if key in ("deploy.health", "deploy.from", *_LABEL_MESSAGES, *renamed_labels):
                continue
            is_on_both_sides = (key in old) == (key in new)
            if is_on_both_sides and are_identical(old.get(key), new.get(key)):
                continue
            if not is_on_both_sides and self._is_label_of_domain(f"{old.get(key)} {new.get(key)}"):
                continue
            if loses_routes and _PROXY_LABEL.match(key):
                removed_proxy_labels.append(key)
                continue
            if key not in old:
                state = "new"
            elif key not in new:
                state = "gone"
            else:
                state = "changed"
            message = f"label {as_inline_code(key)} is {state}: {format_replacement(old.get(key), new.get(key))}"
            yield PipelineChange("", message, key not in new, self.where("labels", key))
        if removed_proxy_labels:
            message = f"these labels for the proxy are gone: {format_names(removed_proxy_labels)}"
            yield PipelineChange("", message, True, self.where("labels"))

    def _is_label_of_domain(self, values: str) -> bool:
        """Whether a label that comes or goes is reported with the domain that it has."""
        domains = {*compose_file.find_service_domains(self.before), *compose_file.find_service_domains(self.after)}
        return any(domain in compose_file.strip_variable_options(values) for domain in domains)

    def _compare_deploy_labels(self, old: dict[str, Any], new: dict[str, Any]) -> Iterator[PipelineChange]:
        """Compare the labels that the host program reads."""
        for key, (set_messages, removed_messages) in _LABEL_MESSAGES.items():
            old_value, new_value = str(old.get(key) or ""), str(new.get(key) or "")
            if old_value == new_value:
                continue
            messages = set_messages if new_value else removed_messages
            shown_value = new_value or old_value
            template = messages.get(shown_value) or messages[""]
            message = template.replace("%s", as_inline_code(shown_value.replace("$$", "$")))
            if old_value and new_value and "%s" in template:
                message += f"; before: {as_inline_code(old_value)}"
            is_risky = key not in _SAFE_LABELS
            yield PipelineChange(
                "",
                message,
                is_risky,
                self.where("labels", key),
                ((old_value, new_value),),
                summary=EVERY_ADOPTION if key in _USUAL_LABELS else "",
                item="a deploy gives the proxy time to find the new container",
            )

    def _compare_health(self, old: str, new: str) -> Iterator[PipelineChange]:
        """Compare the health checks, `:PORT/PATH STATUS`, that must pass before a container gets its name."""
        where = self.where("labels", "deploy.health")
        if old == new:
            return
        if not old:
            message = f"must answer at {_format_health_label(new)} before it serves"
            yield PipelineChange(
                "",
                message,
                True,
                where,
                ((old, new),),
                stage="before",
                summary="check that each of these addresses answers, because a new container serves only then",
                item=_describe_health_check(self.after.container or self.after.key, new),
            )
            return
        if not new:
            message = f"is no longer asked at {_format_health_label(old)} before it serves"
            yield PipelineChange("", message, True, where, ((old, new),))
            return
        if not old.startswith(":") or not new.startswith(":"):
            message = f"health: {_format_health_label(old)} → {_format_health_label(new)}: it must answer so before it "
            message += "serves"
            yield PipelineChange("", message, True, where, ((old, new),))
            return
        parts = zip(("port", "path", "status"), _parse_health_label(old), _parse_health_label(new), strict=True)
        for part, before, after in parts:
            if before != after:
                message = f"health {part} {before} → {after}: it must answer so before it serves"
                yield PipelineChange("", message, True, where, ((before, after),))

    def _compare_domains(self) -> Iterator[PipelineChange]:
        old = sorted(compose_file.find_service_domains(self.before))
        new = sorted(compose_file.find_service_domains(self.after))
        variables = [domain for domain in old if domain.startswith("$") and domain not in new]
        if variables and new:
            message = f"the domain was {format_names(variables)}, and is {format_names(new)}: compare them"
            yield PipelineChange("", message, True, self.where("labels"), stage="before")
            old = [domain for domain in old if domain not in variables]
            new = [domain for domain in new if domain in old]  # the others may be what the variables were
        for domain, is_new in iter_added_removed(old, new):
            if is_new:
                message = f"domain {as_inline_code(domain)} leads to it"
            else:
                message = f"domain {as_inline_code(domain)} no longer leads to it by a label: set it up in the proxy"
            yield PipelineChange(
                "",
                message,
                not is_new,
                self.where("labels"),
                (_pair_one_side(domain, is_new),),
                stage="change" if is_new else "before",
                is_dangerous=not is_new,
            )

    def _compare_attribute(self, name: str, old: Any, new: Any) -> Iterator[PipelineChange]:
        if name == "volumes":
            yield from self._compare_mounts(as_dict(old), as_dict(new))
        elif name == "environment":
            yield from self._compare_environment(as_dict(old), as_dict(new))
        elif name in _LIST_MESSAGES and isinstance(old, dict | None) and isinstance(new, dict | None):
            yield from self._compare_list(name, old or {}, new or {})
        else:
            never_restarts = name == "restart" and new in (None, "no")
            is_risky = name in _PRIVILEGE_ATTRIBUTES or never_restarts
            is_usual = old is None and name in _USUAL_ATTRIBUTES and are_identical(new, _USUAL_ATTRIBUTES[name])
            for path, before, after in _iter_differing_leaves(name, old, new):
                message = f"{as_inline_code(path)}: {format_replacement(before, after)}"
                yield PipelineChange(
                    "",
                    message,
                    is_risky,
                    self.where(name),
                    summary=EVERY_ADOPTION if is_usual else "",
                    item="containers run with `init`, `no-new-privileges` and the logging driver `local`, and without "
                    "`NET_RAW`",
                )

    def _compare_list(self, name: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[PipelineChange]:
        noun, added_message, removed_message = _LIST_MESSAGES[name]
        where = self.where(name)
        successors = _find_values_of_variables(old, new) if name in ("ports", "networks") else {}
        for entry, successor in successors.items():
            message = (
                f"{noun} {as_inline_code(entry)} has variables, and is {as_inline_code(successor)} now: compare them"
            )
            yield PipelineChange("", message, False, where, ((entry, successor),))
        for entry, is_new in iter_added_removed(old, new):
            if entry in successors or entry in successors.values():
                continue
            message = f"{noun} {as_inline_code(entry)} is {added_message if is_new else removed_message}".strip()
            if is_new and name == "env_file" and entry in self.sent_files:
                message = f"{noun} {as_inline_code(entry)} is read; each deploy writes this file"
                yield PipelineChange("", message, False, where, (_pair_one_side(entry, is_new),))
                continue
            if not is_new and name == "networks" and entry in self.docker_networks:
                message += f"; to keep it, write `networks: [{{external: {self.docker_networks[entry]}}}]`"
            is_risky = _is_risky_list_change(name, is_new)
            is_cut_off = not is_new and name in ("ports", "networks")
            needs_file = is_new and name == "env_file"
            yield PipelineChange(
                "",
                message,
                is_risky,
                where,
                (_pair_one_side(entry, is_new),),
                stage="before" if is_cut_off or needs_file else "change",
                is_dangerous=is_cut_off,
            )
        for entry in old.keys() & new.keys():
            if not are_identical(old[entry], new[entry]):
                if name == "networks" and old[entry] is None and not isinstance(new[entry], dict):
                    message = f"is also reached as {_format_yaml_value(new[entry])} on network {as_inline_code(entry)}"
                else:
                    message = f"{noun or 'depends_on'} {as_inline_code(entry)}: "
                    message += format_replacement(old[entry], new[entry])
                yield PipelineChange("", message, True, where)
        if name == "env_file" and old.keys() == new.keys() and list(old) != list(new):
            yield PipelineChange("", f"env files are read in another order: {format_names(new)}", True, where)

    def _compare_mounts(self, old: dict[str, Any], new: dict[str, Any]) -> Iterator[PipelineChange]:
        where = self.where("volumes")
        for path in dict.fromkeys([*old, *new]):
            before, after = old.get(path), new.get(path)
            shown_path = as_inline_code(path)
            if path not in new:
                source = parse_volume_source(before) if before else path
                message = f"volume {as_inline_code(source)} is no longer mounted at {shown_path}: "
                message += "its data is not seen"
                yield PipelineChange("", message, True, where, ((str(before), ""),), stage="before", is_dangerous=True)
            elif path not in old:
                message = f"volume {as_inline_code(after or path)} is mounted at {shown_path}"
                opens_docker = "docker.sock" in f"{after}{path}"
                yield PipelineChange("", message, opens_docker, where, (("", str(after)),))
            elif before != after:
                has_other_source = parse_volume_source(before) != parse_volume_source(after)
                message = f"mounted at {shown_path}: {format_replacement(before, after)}"
                is_only_read = _is_read_only(before) and _is_read_only(after)
                loses_data = has_other_source and not is_only_read
                if loses_data:
                    message += "; its data stays behind in the old one"
                elif has_other_source:
                    message += "; compare both"
                is_risky = has_other_source or "docker.sock" in str(after)
                yield PipelineChange(
                    "",
                    message,
                    is_risky,
                    where,
                    ((str(before), str(after)),),
                    stage="before" if loses_data else "change",
                    is_dangerous=loses_data,
                )

    def _compare_environment(self, old: dict[str, Any], new: dict[str, Any]) -> Iterator[PipelineChange]:
        """Compare environment variables by name; no value is shown, for it may be a secret."""
        removed_keys = [key for key in old if key not in new]
        moved_keys = [key for key in removed_keys if key in self.keys and key not in self.sent_keys]
        if moved_keys:
            yield self._describe_moved_variables(moved_keys)
        for key in dict.fromkeys([*old, *new]):
            if key in moved_keys:
                continue
            if key in removed_keys:
                yield self._describe_removed_variable(key)
            elif key not in old:
                yield self._describe_new_variable(key, new[key])
            elif not are_identical(old[key], new[key]):
                yield self._describe_changed_variable(key, old[key], new[key])

    def _describe_removed_variable(self, key: str) -> PipelineChange:
        return self._describe_sent_variable(key) if key in self.sent_keys else self._describe_lost_variable(key)

    def _describe_sent_variable(self, key: str) -> PipelineChange:
        return PipelineChange(
            "",
            f"the compose file no longer sets {as_inline_code(key)}: each deploy writes it into the env file",
            False,
            self.where("environment"),
            ((key, ""),),
            summary="each deploy writes these variables into the env files; the compose file no longer sets them",
            item=as_inline_code(key),
        )

    def _describe_moved_variables(self, keys: list[str]) -> PipelineChange:
        names = ", ".join(map(as_inline_code, keys))
        cure = "put them into the env file on the server; no deploy starts until they are there"
        if len(keys) == 1:
            cure = "put it into the env file on the server; no deploy starts until it is there"
        message = f"the compose file no longer sets {names}: {cure}"
        pairs = tuple((key, "") for key in keys)
        return PipelineChange("", message, True, self.where("environment"), pairs, stage="before")

    def _describe_lost_variable(self, key: str) -> PipelineChange:
        message = f"the compose file no longer sets {as_inline_code(key)}: it is lost"
        where = self.where("environment")
        return PipelineChange("", message, True, where, ((key, ""),), stage="before", is_dangerous=True)

    def _describe_new_variable(self, key: str, value: Any) -> PipelineChange:
        message = f"the compose file sets {as_inline_code(key)}"
        where = self.where("environment", key)
        if not _is_required_variable(value):
            return PipelineChange("", message, False, where, (("", key),), item=self._describe_required_key(key))
        message += ": the stack's .env must have it, or nothing starts"
        return self._describe_required_variable(key, message, (("", key),))

    def _describe_changed_variable(self, key: str, old: Any, new: Any) -> PipelineChange:
        if _is_required_variable(new) and not _is_required_variable(old):
            message = f"{as_inline_code(key)} must not be empty in the stack's .env, or nothing starts"
            return self._describe_required_variable(key, message, ())
        message = f"the compose file sets {as_inline_code(key)} to something else"
        where = self.where("environment", key)
        return PipelineChange("", message, True, where, item=self._describe_required_key(key))

    def _describe_required_variable(self, key: str, message: str, pairs: tuple[tuple[str, str], ...]) -> PipelineChange:
        """A variable that a person has to set before the next deploy."""
        where = self.where("environment", key)
        item = self._describe_required_key(key)
        return PipelineChange("", message, True, where, pairs, stage="before", summary=_REQUIRED_KEYS, item=item)

    def _describe_required_key(self, key: str) -> str:
        folder = self.document.path.rpartition("/")[0].rpartition("/")[2]
        return f"{as_inline_code(key)} in {as_inline_code(f'{folder}/.env')}"


def _may_be_name(written: str, name: str) -> bool:
    """Whether a name may be one of which Compose fills in parts: `shop-${STAGE}` may be `shop-staging`."""
    if not _CONTAINER_NAME.fullmatch(name):
        return written == name
    pattern = "*".join(glob.escape(text) for text in _list_texts_between_variables(written))
    return fnmatch.fnmatchcase(name, pattern)


def _is_read_only(mount: Any) -> bool:
    """Whether a container may not write to what is mounted: `./nginx.conf:ro`."""
    return "ro" in str(mount).rpartition(":")[2].split(",")


def _find_values_of_variables(old: Iterable[str], new: Iterable[str]) -> dict[str, str]:
    """Map each removed entry with variables to the added entry that it may be, if there is only one such entry."""
    removed = [entry for entry in old if entry not in new]
    added = [entry for entry in new if entry not in old and entry != "default"]
    successors: dict[str, str] = {}
    for entry in removed:
        texts = _list_texts_between_variables(entry)
        pattern = "*".join(map(glob.escape, texts))
        matches = [name for name in added if fnmatch.fnmatchcase(name, pattern)]
        if len(texts) > 1 and len(matches) == 1 and matches[0] not in successors.values():
            successors[entry] = matches[0]
    return successors


def _list_texts_between_variables(written: str) -> list[str]:
    """The texts before, between and behind the variables of a value."""
    texts = [""]
    for part in vocabulary.split_at_unknown_variables(written, None):
        if isinstance(part, str):
            texts[-1] += part
        else:
            texts.append("")
    return texts


def _find_renamed_labels(old: dict[str, Any], new: dict[str, Any]) -> set[str]:
    """Find the labels with which Traefik does the same as before, under another name of a router or a service.

    Only a name that the other side does not have is another name: a setting that moves to another router is a change.
    """
    removed, added = _list_labels_of_names(old, new), _list_labels_of_names(new, old)
    same = removed.keys() & added.keys()
    return {removed[setting] for setting in same} | {added[setting] for setting in same}


def _list_labels_of_names(labels: dict[str, Any], others: dict[str, Any]) -> dict[tuple[str, str], str]:
    """List the labels of routers and services that the other side does not have, by their setting and its value."""
    other_names = {match[0] for match in map(_TRAEFIK_NAME.match, others) if match}
    matches = {key: _TRAEFIK_NAME.match(key) for key in labels}
    return {
        (match[1] + key.removeprefix(match[0]), str(labels[key])): key
        for key, match in matches.items()
        if match and match[0] not in other_names
    }


def _is_required_variable(value: Any) -> bool:
    """Whether Compose refuses to start without the variable: `${NAME:?message}`."""
    return "?" in str(value)


def _is_risky_list_change(name: str, is_new: bool) -> bool:
    if name == "env_file":
        return is_new
    if name == "networks":
        return not is_new
    return name == "ports"


def _pair_one_side(text: str, is_new: bool) -> tuple[str, str]:
    """A text that only one side has, as a pair of texts before and after."""
    return ("", text) if is_new else (text, "")


def _format_health_label(label: str) -> str:
    """What is asked of a container: an address of HTTP, a port of TCP, or Docker's health check."""
    if label.startswith("tcp:"):
        return f"TCP port `{label.removeprefix('tcp:')}`"
    return "its `healthcheck`" if label == "healthcheck" else as_inline_code(label)


def _describe_health_check(container: str, label: str) -> str:
    """The container with what is asked of it, as a person would try it."""
    if label.startswith("tcp:"):
        port = label.removeprefix("tcp:")
        return f"{as_inline_code(f'{container}:{port}')} (TCP)"
    if label == "healthcheck":
        return f"{as_inline_code(container)} (its `healthcheck`)"
    return as_inline_code(f"{container}{label}")


def _parse_health_label(text: str) -> tuple[str, str, str]:
    address, _, status = text.partition(" ")
    port, slash, path = address.partition("/")
    return port.lstrip(":"), slash + path, status or "200"


def _format_version(image: str) -> str:
    """The tag of an image, and the beginning of its digest, if it has one."""
    reference = parse_image_reference(image)
    if not reference.digest:
        return parse_image_tag(image)
    return f"{reference.tag}@{reference.digest[:_SHOWN_DIGEST_LENGTH]}…"


def _parse_major_version(image: str) -> str:
    return re.split(r"[.\-]", parse_image_tag(image))[0]


def parse_volume_source(volume: Any) -> str:
    """The volume or folder that is mounted, without its mode and its options."""
    return str(volume).partition(":")[0].partition(" ")[0]


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


def _format_yaml_value(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict) and value and not any(value.values()):
        return format_names(value)
    return as_inline_code(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
