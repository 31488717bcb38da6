"""Compares stacks: what runs on the server, under which name, with which data."""

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from kiwari_ci.commands.diff.change import PipelineChange, Stage, format_names
from kiwari_ci.commands.diff.container_settings import (
    DATABASE_IMAGE,
    ContainerComparison,
    are_identical,
    format_replacement,
    parse_volume_source,
)
from kiwari_ci.commands.diff.matching import NameMatches
from kiwari_ci.readers.compose_file import ComposeProject, ComposeService, find_one_shots, split_command
from kiwari_ci.readers.image_reference import parse_image_repository
from kiwari_ci.readers.yaml_document import as_dict, as_inline_code


@dataclass(frozen=True)
class StackPair:
    """A stack before and after, what its subject is called, and the keys that its env files have after.

    `sent_files` are the names of the env files that each deploy writes from what GitHub keeps, and `sent_keys` their
    variables. `project_today` is the Compose project before; it is empty if the files do not show it. `successors` are
    the containers after by those of today, as `takeover` in the spec has them. So are `folder_today`, the folder on the
    server that has the Compose file before, and `stays_in_folder`, whether the stack stays in it. `stopped_by_hand` are
    the containers after whose predecessors a person stops before the deploy.
    """

    subject: str
    before: ComposeProject
    after: ComposeProject
    keys: frozenset[str] = frozenset()
    sent_files: frozenset[str] = frozenset()
    sent_keys: frozenset[str] = frozenset()
    project_today: str = ""
    successors: dict[str, str] = field(default_factory=dict)
    folder_today: str = ""
    stays_in_folder: bool = False
    stopped_by_hand: frozenset[str] = frozenset()

    @property
    def is_moved(self) -> bool:
        """Whether the new stack has another folder on the server, as far as the spec or the files show it."""
        if self.folder_today:
            return not self.stays_in_folder
        return not self.has_same_project and self.before.path != self.after.path

    @property
    def has_same_project(self) -> bool:
        """Whether the files show that the Compose project stays the same."""
        return self.project_today == self.after.name


def compare_stacks(pair: StackPair, old_names: NameMatches, new_names: NameMatches) -> Iterator[PipelineChange]:
    """Compare two compose files of one environment."""
    matches = _match_services(pair, old_names, new_names)
    yield from _compare_stack_names(pair, _list_remaining_services(pair, matches))
    network_names = _list_network_names(pair.before)
    docker_networks = {network_names.get(key, key): name for key, name in _list_docker_networks(pair).items()}
    has_several_services = len(pair.after.services) > 1 or len(pair.before.services) > 1
    for old_key, new_key in matches.items():
        before = _name_networks(pair.before, pair.before.services[old_key], _map_kept_networks(pair))
        before = _rename_dependencies(before, matches)
        before = _rename_mounts(pair, before, pair.after.services[new_key])
        after = _name_networks(pair.after, pair.after.services[new_key])
        name = new_names.service(pair.after, after)
        part = name if has_several_services or name != pair.subject else ""
        comparison = ContainerComparison(
            before,
            after,
            pair.after.document,
            pair.keys,
            pair.sent_files,
            pair.sent_keys,
            {} if pair.before.generated else docker_networks,
            is_stopped_by_hand=after.container in pair.stopped_by_hand,
        )
        changes = list(comparison.changes())
        if not pair.before.generated:
            changes += _find_lost_name(pair.before, old_key, after)
        for change in [*changes, *_warn_running_accessory(after, changes, pair.before.generated)]:
            yield replace(change, subject=pair.subject, where=change.where or after.where, part=part)
    if not pair.before.generated:
        yield from _find_moved_folders(pair, matches)
    one_shots = _list_one_shots(pair.before)
    for key, service in pair.before.services.items():
        if key in one_shots and _runs_migration(pair.after, service):
            yield _describe_replaced_migration(pair, service)
        elif key not in matches:
            yield _describe_removed_container(pair, service)
    for key, service in pair.after.services.items():
        if key not in matches.values():
            name = service.container or key
            message = f"new container {as_inline_code(name)} ({as_inline_code(service.image)})"
            yield PipelineChange(pair.subject, message, False, service.where, (("", name),))
    yield from _compare_sections(pair)
    yield from _compare_schedules(pair)


def _find_lost_name(before: ComposeProject, name: str, after: ComposeService) -> Iterator[PipelineChange]:
    """Report a name that others in the Compose file give to a container today, and by which they no longer reach it."""
    networks = as_dict(after.attributes.get("networks"))
    aliases = {alias.strip() for value in networks.values() if isinstance(value, str) for alias in value.split(",")}
    if name in {after.key, after.container, *aliases} or "network_mode" in after.attributes:
        return
    users = [key for key, service in before.services.items() if key != name and _names_host(service, name)]
    if users:
        new_names = sorted({after.container or after.key, *aliases})
        callers = format_names(users)
        choice = format_names(new_names) if len(new_names) == 1 else f"one of {format_names(new_names)}"
        message = f"{callers} cannot reach it as {as_inline_code(name)} any more: "
        message += f"in the settings of {callers}, change {as_inline_code(name)} to {choice}"
        yield PipelineChange("", message, True, after.where, stage="before", is_dangerous=True)


def _names_host(service: ComposeService, name: str) -> bool:
    """Whether an environment variable of a service is a name, or it or the command has the name in an address.

    A word alone says nothing in a command: `celery -A app` names a module.
    """
    values = [_show_defaults(value) for value in as_dict(service.attributes.get("environment")).values()]
    texts = [*values, _show_defaults(service.attributes.get("command"))]
    host = re.escape(name)
    address = re.compile(rf"(?:://|@){host}(?![\w.-])|(?<![\w.-]){host}:\d")
    return name in values or any(address.search(text) for text in texts)


def _show_defaults(value: Any) -> str:
    """A value in which each variable with a default is the default."""
    text = "" if value is None else str(value)
    return re.sub(r"\$\{\w+:?-([^{}]*)\}", r"\1", text)


def _describe_removed_container(pair: StackPair, service: ComposeService) -> PipelineChange:
    container = as_inline_code(service.container or service.key)
    image = as_inline_code(service.image or "built there")
    is_database = DATABASE_IMAGE.search(parse_image_repository(service.image)) is not None
    if not pair.before.generated:
        message = f"container {container} ({image}) is not in the stack {as_inline_code(pair.after.name)}: "
        message += "no deploy starts, stops or changes it"
        if is_database:
            message += "; connect it to a network of the new containers, or dump its data and restore it in a database "
            message += "of the spec"
    else:
        consequence = "what it does is lost"
        if is_database:
            consequence = "dump its data first, and restore it where the spec has the database"
        message = f"container {container} ({image}) is no longer in the stack: {consequence}; "
        message += "it is to be removed by hand"
    return PipelineChange(
        pair.subject,
        message,
        True,
        service.where,
        ((container, ""),),
        stage="before" if is_database else "after",
        is_dangerous=is_database,
    )


def _runs_migration(project: ComposeProject, service: ComposeService) -> bool:
    """Whether the deploys of a stack run the command of a service as a migration."""
    command = split_command(service.attributes.get("command"))
    migrations = [
        split_command(other.labels["deploy.migrate"])
        for other in project.services.values()
        if "deploy.migrate" in other.labels
    ]
    return bool(command) and command in migrations


def _describe_replaced_migration(pair: StackPair, service: ComposeService) -> PipelineChange:
    container = as_inline_code(service.container or service.key)
    message = f"container {container} is not in the stack {as_inline_code(pair.after.name)}: "
    message += "each deploy runs its command with the new image"
    return PipelineChange(pair.subject, message, False, service.where, ((container, ""),))


def _rename_dependencies(service: ComposeService, new_keys: dict[str, str]) -> ComposeService:
    """Rename a service's dependencies as in the new file, and add the default condition of Compose."""
    dependencies = service.attributes.get("depends_on")
    if not isinstance(dependencies, dict):
        return service
    renamed = {new_keys.get(key, key): options or "service_started" for key, options in dependencies.items()}
    return replace(service, attributes={**service.attributes, "depends_on": renamed})


def _warn_running_accessory(
    accessory: ComposeService, changes: list[PipelineChange], is_of_this_stack: bool
) -> Iterator[PipelineChange]:
    """Report that a deploy does not change an accessory while it runs."""
    runs_on = str(accessory.labels.get("deploy.accessory")) == "yes"  # otherwise it ends
    if not changes or not runs_on:
        return
    message = "no deploy changes this accessory while it runs"
    if is_of_this_stack:
        command = f"docker compose up -d --no-deps {accessory.container or accessory.key}"
        message += f"; to apply the changes, type in its folder on the server: {command}"
    yield PipelineChange("", message, True)


def _list_remaining_services(pair: StackPair, matches: dict[str, str]) -> list[str]:
    """List the services that today's file starts: those that the new one does not have, and accessories that run on."""
    one_shots = _list_one_shots(pair.before)
    return [
        key
        for key, service in pair.before.services.items()
        if not (key in one_shots and _runs_migration(pair.after, service))
        and (key not in matches or pair.after.services[matches[key]].is_accessory)
    ]


def _compare_stack_names(pair: StackPair, remaining_services: list[str]) -> Iterator[PipelineChange]:
    before, after = pair.before, pair.after
    if before.path != after.path and remaining_services and not before.generated:
        names = format_names(remaining_services)
        files = format_names([*before.base_paths, before.path])
        message = f"keep {files}, from which other containers are started ({names})"
        replaced_services = [key for key in before.services if key not in remaining_services]
        if replaced_services:
            message += f": when you no longer want to go back, delete {format_names(replaced_services)} from "
            message += "them" if before.base_paths else "it"
        yield PipelineChange(pair.subject, message, True, before.path, ((before.path, after.path),), stage="after")
    elif before.path != after.path:
        message = f"its compose file is {as_inline_code(after.path)} now; "
        message += f"{as_inline_code(before.path)} is read by nothing that is generated"
        yield PipelineChange(
            pair.subject,
            message,
            True,
            after.path,
            ((before.path, after.path),),
            stage="after",
            summary="when you no longer want to go back, delete these Compose files, which generated ones replace",
            item=format_names([*before.base_paths, before.path]),
        )
    if not before.generated:
        yield from _compare_project_today(pair)
    elif before.name and before.name != after.name:
        message = f"stack {as_inline_code(before.name)} → {as_inline_code(after.name)}: another folder on the server, "
        message += "which the deploy key must name; the old one must be stopped by hand"
        shared_volumes = as_dict(before.rest.get("volumes")).keys() & as_dict(after.rest.get("volumes")).keys()
        if shared_volumes:
            message += f"; its volumes {format_names(sorted(shared_volumes))} start empty, the old ones keep their data"
        where = after.document.where("name")
        yield PipelineChange(pair.subject, message, True, where, ((before.name, after.name),))


def _compare_project_today(pair: StackPair) -> Iterator[PipelineChange]:
    """Compare the Compose project of a hand-written file with the new one: it is a part of the volumes' names."""
    before, after, today = pair.before, pair.after, pair.project_today
    where = after.document.where("name")
    new_name = as_inline_code(after.name)
    moved_volumes: list[str] = []
    if today != after.name:
        shared_volumes = as_dict(before.rest.get("volumes")).keys() & as_dict(after.rest.get("volumes")).keys()
        moved_volumes = [key for key in shared_volumes if _has_project_in_name(before, key)]
        moved_volumes = [key for key in moved_volumes if _has_project_in_name(after, key)]
    volume_names = format_names(sorted(moved_volumes))
    if today and today != after.name:
        message = f"the Compose project {as_inline_code(today)} becomes {new_name}: "
        message += "the containers of the old one run on until you stop them"
        yield PipelineChange(pair.subject, message, True, where, ((before.name, after.name),), stage="after")
        if moved_volumes:
            message = f"{volume_names} would start empty, for Compose calls a volume PROJECT_VOLUME: "
            message += f"keep the data with `stack: {today}` in the spec, or copy it"
            yield PipelineChange(pair.subject, message, True, where, stage="before", is_dangerous=True)
    elif not today and moved_volumes:
        message = f"{volume_names} would start empty if today's Compose project is not {new_name}: compare with "
        message += "`docker volume ls`, and write today's project as `stack` in the spec"
        yield PipelineChange(pair.subject, message, True, where, stage="before", is_dangerous=True)


def _find_moved_folders(pair: StackPair, matches: dict[str, str]) -> Iterator[PipelineChange]:
    """Report folders beside the Compose file that containers write to: the new stack has a folder of its own."""
    if not pair.is_moved:
        return
    for old_key, new_key in matches.items():
        before, after = pair.before.services[old_key], pair.after.services[new_key]
        old_mounts, new_mounts = as_dict(before.attributes.get("volumes")), as_dict(after.attributes.get("volumes"))
        for path, mount in old_mounts.items():
            is_beside_file = mount.startswith(("./", "../")) and not mount.endswith(":ro")
            if is_beside_file and new_mounts.get(path) == mount:
                source = as_inline_code(mount.partition(":")[0])
                message = f"{source} is beside the Compose file, and the new stack is in another folder: move what is "
                message += "in it, or write the full path in the spec"
                yield PipelineChange(pair.subject, message, True, after.where, stage="before", is_dangerous=True)


def _map_same_volumes(pair: StackPair) -> dict[str, str]:
    """Map the keys of volumes before to those after, where both keys mean one volume of Docker's."""
    new_keys: dict[str, str] = {}
    for key in as_dict(pair.after.rest.get("volumes")):
        if name := _get_volume_name(pair.after, key, pair.after.name):
            new_keys[name] = key
    same_volumes: dict[str, str] = {}
    for key in as_dict(pair.before.rest.get("volumes")):
        name = _get_volume_name(pair.before, key, pair.project_today)
        if name in new_keys:
            same_volumes[key] = new_keys[name]
    return same_volumes


def _rename_mounts(pair: StackPair, service: ComposeService, after: ComposeService) -> ComposeService:
    """Call the volumes and folders that a service mounts as the new file does."""
    mounts = service.attributes.get("volumes")
    if not isinstance(mounts, dict):
        return service
    new_keys = _map_same_volumes(pair)
    new_mounts = as_dict(after.attributes.get("volumes"))
    renamed: dict[str, str] = {}
    for path, mount in mounts.items():
        source = parse_volume_source(str(mount))
        new_source = parse_volume_source(str(new_mounts.get(path, "")))
        is_same = _is_same_folder(pair.folder_today, source, new_source)
        renamed[path] = _rename_mount(str(mount), {source: new_source} if is_same else new_keys)
    return replace(service, attributes={**service.attributes, "volumes": renamed})


def _is_same_folder(folder: str, source: str, new_source: str) -> bool:
    """Whether a source beside today's Compose file, in a folder of the server, is what the new file names in full.

    `~` may be any home directory, which mostly is one or two folders below the root.
    """
    if not folder or not source.startswith(("./", "../")) or not new_source.startswith("/"):
        return False
    full_source = posixpath.normpath(posixpath.join(folder, source))
    if full_source.startswith("~/"):
        return re.fullmatch(r"(?:/[^/]+){1,2}" + re.escape(full_source[1:]), new_source) is not None
    return full_source == posixpath.normpath(new_source)


def _rename_mount(mount: str, new_keys: dict[str, str]) -> str:
    """What is mounted, with its mode or its options, under the key that the volume has in the new file."""
    key = parse_volume_source(mount)
    return new_keys.get(key, key) + mount[len(key) :]


def _has_project_in_name(stack: ComposeProject, volume: str) -> bool:
    """Whether Compose gives a declared volume its name, of which the project's name is a part."""
    settings = as_dict(as_dict(stack.rest.get("volumes")).get(volume))
    return not settings.get("name") and not settings.get("external")


def _get_volume_name(stack: ComposeProject, volume: str, project: str) -> str | None:
    """What Docker calls a declared volume; None if a variable says it, or if nothing shows the project."""
    if _has_project_in_name(stack, volume):
        return f"{project}_{volume}" if project else None
    settings = as_dict(as_dict(stack.rest.get("volumes"))[volume])
    name = str(settings.get("name") or volume)
    return None if "$" in name else name


def list_moved_variables(pair: StackPair, old_names: NameMatches, new_names: NameMatches) -> frozenset[str]:
    """List the variables that the Compose file set for a service before, and that an env file of the stack sets after.

    `compare_stacks` reports them with the service.
    """
    moved_variables: set[str] = set()
    for old_key, new_key in _match_services(pair, old_names, new_names).items():
        before = as_dict(pair.before.services[old_key].attributes.get("environment"))
        after = as_dict(pair.after.services[new_key].attributes.get("environment"))
        moved_variables |= (before.keys() - after.keys()) & pair.keys
    return frozenset(moved_variables)


def _map_kept_networks(pair: StackPair) -> dict[str, str]:
    """Map the networks that Compose made for today's file to the names by which the new file goes on to use them."""
    new_names = set(_list_network_names(pair.after).values())
    return {key: name for key, name in _list_docker_networks(pair).items() if name in new_names}


def _list_docker_networks(pair: StackPair) -> dict[str, str]:
    """Map the key of each network of today's file to what Docker calls it, as far as the files and the spec show it."""
    networks = {"default": None, **as_dict(pair.before.rest.get("networks"))}
    docker_names: dict[str, str] = {}
    for key, options in networks.items():
        settings = as_dict(options)
        name = str(settings.get("name") or "")
        if not name and settings.get("external"):
            name = key
        elif not name and pair.project_today:
            name = f"{pair.project_today}_{key}"
        if name and "$" not in name:
            docker_names[key] = name
    return docker_names


def _name_networks(
    project: ComposeProject, service: ComposeService, kept_networks: Mapping[str, str] = MappingProxyType({})
) -> ComposeService:
    """Call the networks of a service as Docker does, because two files may give one network different keys."""
    if "network_mode" in service.attributes:
        return service
    networks = service.attributes.get("networks") or {"default": None}
    if not isinstance(networks, dict):
        return service
    names = {**_list_network_names(project), **kept_networks}
    named_networks = {names.get(key, key): options for key, options in networks.items()}
    return replace(service, attributes={**service.attributes, "networks": named_networks})


def _rename_network_section(
    project: ComposeProject, kept_networks: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Any]:
    """List everything in a file except its services; its networks are listed by `name:` where they have one."""
    networks = project.rest.get("networks")
    if not isinstance(networks, dict):
        return project.rest
    names = {**_list_network_names(project), **kept_networks}
    renamed: dict[str, Any] = {}
    for key, options in networks.items():
        has_name = isinstance(options, dict) and "name" in options
        renamed[names[key]] = {name: options[name] for name in options if name != "name"} if has_name else options
    return {**project.rest, "networks": renamed}


def _list_network_names(project: ComposeProject) -> dict[str, str]:
    """Map the key of each network in the file to its `name:`, or to the key itself."""
    networks = as_dict(project.rest.get("networks"))
    return {key: str(as_dict(options).get("name") or key) for key, options in networks.items()}


def _match_services(pair: StackPair, old_names: NameMatches, new_names: NameMatches) -> dict[str, str]:
    """Match services that are the same: by `takeover` in the spec, by container, by the service's name, then by image.

    A service that runs all the time is not the same as one that ends, such as a migration with the same image. Of the
    replicas of a service, only the first is compared.
    """
    old_one_shots = _list_one_shots(pair.before)
    new_one_shots = _list_one_shots(pair.after)

    def is_taken_over(before: ComposeService, after: ComposeService) -> bool:
        successors = [pair.successors.get(name) for name in _list_names_today(before, pair.project_today)]
        return bool(after.container) and after.container in successors

    def is_same_kind(before: ComposeService, after: ComposeService) -> bool:
        return (before.key in old_one_shots) == (after.key in new_one_shots)

    def has_same_name(before: ComposeService, after: ComposeService) -> bool:
        name = new_names.service(pair.after, after)
        has_name = old_names.service(pair.before, before) == name
        # Another service than the one of that name is only called so because of its image.
        return has_name and (before.key == name or is_same_kind(before, after))

    def has_same_image(before: ComposeService, after: ComposeService) -> bool:
        return _has_same_image(before, after) and is_same_kind(before, after)

    matches: dict[str, str] = {}
    unmatched = dict(pair.after.services)
    for is_match in (is_taken_over, _has_same_container, has_same_name, has_same_image):
        for old_key, before in pair.before.services.items():
            if old_key in matches:
                continue
            new_key = next((key for key, after in unmatched.items() if is_match(before, after)), None)
            if new_key is not None:
                matches[old_key] = new_key
                del unmatched[new_key]
    return matches


def _list_one_shots(project: ComposeProject) -> set[str]:
    return find_one_shots((key, service.table) for key, service in project.services.items())


def _list_names_today(service: ComposeService, project: str) -> list[str]:
    """The names that the container of a service may have today: its own, or one of those that Compose gives."""
    if service.container:
        return [service.container]
    return [f"{project}-{service.key}-1", f"{project}_{service.key}_1"]


def _has_same_container(before: ComposeService, after: ComposeService) -> bool:
    return (before.container or before.key) == (after.container or after.key)


def _has_same_image(before: ComposeService, after: ComposeService) -> bool:
    return bool(before.image) and parse_image_repository(before.image) == parse_image_repository(after.image)


def _compare_schedules(pair: StackPair) -> Iterator[PipelineChange]:
    """Scheduled backups and jobs."""
    old, new = pair.before.schedule, pair.after.schedule
    where = pair.after.document.where("x-schedule")
    for title in dict.fromkeys([*old, *new]):
        kind, _, name = title.partition(" ")
        what = f"backup of {as_inline_code(name)}" if kind == "backup" else f"job {as_inline_code(name)}"
        if title not in old:
            words = f"{what} is scheduled: {as_inline_code(new[title].get('schedule'))}"
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
    """Compare the sections other than `services`, such as networks and volumes."""
    old = _rename_network_section(pair.before, _map_kept_networks(pair))
    new = _rename_network_section(pair.after)
    for section in dict.fromkeys([*old, *new]):
        before, after = old.get(section), new.get(section)
        are_mappings = isinstance(before, dict | None) and isinstance(after, dict | None)
        if are_mappings and section == "volumes":
            yield from _compare_volumes(pair)
        elif are_mappings:
            yield from _compare_section_entries(pair, section.removesuffix("s"), as_dict(before), as_dict(after))
        elif not are_identical(before, after):
            message = f"{as_inline_code(section)}: {format_replacement(before, after)}"
            yield PipelineChange(pair.subject, message, True, pair.after.document.where(section))


def _compare_section_entries(
    pair: StackPair, noun: str, before: dict[str, Any], after: dict[str, Any]
) -> Iterator[PipelineChange]:
    for name in dict.fromkeys([*before, *after]):
        is_on_both_sides = name in before and name in after
        # `uploads: {}` and `uploads:` say the same.
        if not is_on_both_sides or not are_identical(before[name] or None, after[name] or None):
            yield _compare_section_entry(pair, noun, name, before, after)


def _compare_section_entry(
    pair: StackPair, noun: str, name: str, before: dict[str, Any], after: dict[str, Any]
) -> PipelineChange:
    where = pair.after.document.where(f"{noun}s", name)
    entry = f"{noun} {as_inline_code(name)}"
    if name not in after:
        return PipelineChange(pair.subject, f"{entry} is no longer declared", True, where, ((name, ""),))
    if name not in before:
        message = f"{entry} is declared"
        is_external = bool(as_dict(after[name]).get("external"))
        if is_external:
            message += ", and must exist on the server"
        stage: Stage = "before" if is_external else "change"
        return PipelineChange(pair.subject, message, is_external, where, (("", name),), stage=stage)
    message = f"{entry}: {format_replacement(before[name], after[name])}"
    return PipelineChange(pair.subject, message, True, where)


def _compare_volumes(pair: StackPair) -> Iterator[PipelineChange]:
    """Compare the declared volumes, each with the one after that is the same volume of Docker's, or has its key."""
    old, new = as_dict(pair.before.rest.get("volumes")), as_dict(pair.after.rest.get("volumes"))
    same_volumes = _map_same_volumes(pair)
    for key, settings in old.items():
        if key in same_volumes:
            yield from _compare_volume_settings(pair, same_volumes[key], settings, new[same_volumes[key]])
        elif key in new:
            yield from _compare_replaced_volume(pair, key)
        else:
            message = f"volume {as_inline_code(key)} is no longer declared: its data stays behind"
            yield PipelineChange(pair.subject, message, True, pair.after.document.where("volumes"), ((key, ""),))
    for key, settings in new.items():
        if key not in old and key not in same_volumes.values():
            yield _describe_new_volume(pair, key, as_dict(settings))


def _compare_volume_settings(pair: StackPair, key: str, before: Any, after: Any) -> Iterator[PipelineChange]:
    """Compare how one and the same volume is declared."""
    if are_identical(_strip_volume_settings(before), _strip_volume_settings(after)):
        return
    message = f"volume {as_inline_code(key)}: {format_replacement(before, after)}; it stays the same volume, with its "
    message += "data"
    yield PipelineChange(pair.subject, message, True, pair.after.document.where("volumes", key))


def _strip_volume_settings(settings: Any) -> Any:
    """What is declared of a volume, without its name and without the driver that Docker takes by default."""
    if not isinstance(settings, dict | None):
        return settings
    stripped = {key: value for key, value in as_dict(settings).items() if key != "name"}
    if stripped.get("driver") == "local":
        del stripped["driver"]
    return stripped


def _compare_replaced_volume(pair: StackPair, key: str) -> Iterator[PipelineChange]:
    """Report a key that means another volume after; for Compose's own names, the projects' comparison does."""
    before, after = (as_dict(stack.rest.get("volumes"))[key] for stack in (pair.before, pair.after))
    entry, where = f"volume {as_inline_code(key)}", pair.after.document.where("volumes", key)
    if _has_project_in_name(pair.before, key) and _has_project_in_name(pair.after, key):
        if not are_identical(_strip_volume_settings(before), _strip_volume_settings(after)):
            yield PipelineChange(pair.subject, f"{entry}: {format_replacement(before, after)}", True, where)
        return
    if _has_project_in_name(pair.after, key):
        message = f"{entry} is now created by Compose, empty"
    else:
        message = f"{entry} is now {as_inline_code(str(as_dict(after).get('name') or key))}"
        if as_dict(after).get("external"):
            message += ", which must exist on the server"
    if _get_volume_name(pair.before, key, pair.project_today):
        message += "; the data of the former one stays behind"
    else:
        message += "; compare with `docker volume ls` whether it is today's volume"
    yield PipelineChange(pair.subject, message, True, where, stage="before", is_dangerous=True)


def _describe_new_volume(pair: StackPair, key: str, settings: dict[str, Any]) -> PipelineChange:
    is_external = bool(settings.get("external"))
    message = f"volume {as_inline_code(key)} is declared"
    stage: Stage = "change"
    if is_external:
        message += f", and {as_inline_code(str(settings.get('name') or key))} must exist on the server"
        stage = "before"
    where = pair.after.document.where("volumes", key)
    return PipelineChange(pair.subject, message, is_external, where, (("", key),), stage=stage)
