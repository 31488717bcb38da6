"""What serves an environment today, as far as the repository shows it: the field `takeover` of the first spec.

What only the server knows is left out, and a comment names the command that prints it.
"""

import re
from collections.abc import Iterator

from kiwari_ci.commands.init import service_entry
from kiwari_ci.commands.init.compose_files import DetectedContainer
from kiwari_ci.commands.init.draft_text import CommentedMapping
from kiwari_ci.commands.init.environments import DetectedEnvironment
from kiwari_ci.commands.init.findings import RepositoryFindings, SpecDraft
from kiwari_ci.commands.init.written_env_files import STACK_ENV_FILE
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.vocabulary import SourcedValue
from kiwari_ci.schema.text_formats import ExistingName, HostFolder, WorkflowFileName

_IS_EXISTING_NAME = vocabulary.build_validator(ExistingName)
_IS_HOST_FOLDER = vocabulary.build_validator(HostFolder)
_IS_WORKFLOW_FILE = vocabulary.build_validator(WorkflowFileName)
_WEB_PORTS = {80, 443}


def build_takeover_entry(facts: RepositoryFindings, environment: DetectedEnvironment) -> CommentedMapping:
    """The field of an environment that a hand-written workflow deploys."""
    table = CommentedMapping()
    folder = _find_only_value(environment.folders)
    project = find_project(facts, environment)
    if project and _IS_EXISTING_NAME(project.value):
        table.put("project", project.value, project.where)
    if folder and _IS_HOST_FOLDER(folder.value):
        table.put("folder", folder.value, folder.where)
    workflows = {str(workflow.value): workflow.where for workflow in environment.workflows}
    names = [name for name in workflows if _IS_WORKFLOW_FILE(name)]
    if names:
        table.put("workflows", names, workflows[names[0]])
    ports = _find_web_server(facts, environment)
    if ports:
        table.put("ports", ports.value, ports.where)
    containers = CommentedMapping()
    for name, container_name in _list_names_of_today(facts, environment).items():
        if isinstance(container_name.value, list) or _IS_EXISTING_NAME(container_name.value):
            containers.put(name, container_name.value, container_name.where)
    if containers:
        table["containers"] = containers
    known = {*table, "folder"} if environment.folders else set(table)
    unknown = [key for key in ("project", "folder", "ports", "containers") if key not in known]
    if unknown:
        table.above.append(
            f"no file shows {', '.join(unknown)} of today; `kiwari-ci doctor --env {environment.name}` prints them"
        )
    return table


def ask_about_folders(draft: SpecDraft, facts: RepositoryFindings) -> None:
    """Ask about the folders into which the new files would go, because today's are there."""
    folders = {
        environment.name: str(environment.folders[0].value)
        for environment in facts.environments
        if environment.workflows and _is_in_folder_of_today(facts, environment)
    }
    if folders:
        question = (
            f"the new files go into the folders of today's stacks, {', '.join(folders.values())}: the runbook first "
            "copies these folders. To use other folders, choose another `directory`"
        )
        draft.decide(("environments", next(iter(folders)), "takeover"), question)


def ask_about_env_files(draft: SpecDraft, facts: RepositoryFindings) -> None:
    """Ask for the values of the env files that Compose reads today under another name than usual."""
    for environment in facts.environments:
        files = {str(file.value): file.where for file in environment.env_files}
        usual_names = [path for path in files if path.rpartition("/")[2] == STACK_ENV_FILE]
        others = [f"{path} ({where})" for path, where in files.items() if path not in usual_names]
        if others:
            question = (
                f"the values of {environment.name} are in {', '.join(others)} today: fill them into the env files of "
                "its new folder"
            )
            draft.decide(("environments", environment.name, "takeover"), question)


def list_container_names(facts: RepositoryFindings, environment: DetectedEnvironment) -> dict[str, SourcedValue]:
    """The names of today that the containers of an environment keep, by service or accessory.

    A service without a name of its own gets a new one. An accessory keeps the name that Compose gave it, because under
    another one a second container would be started.
    """
    names_of_today = _list_names_of_today(facts, environment)
    return {
        name: value
        for name, value in names_of_today.items()
        if isinstance(value.value, str) and (not value.guess or name in facts.accessories)
    }


def _list_names_of_today(facts: RepositoryFindings, environment: DetectedEnvironment) -> dict[str, SourcedValue]:
    """The names of the containers of an environment: those of the Compose files, else those that Compose gives.

    The value is a list for a service with replicas.
    """
    project = find_project(facts, environment) if environment.workflows else None
    names: dict[str, SourcedValue] = {}
    for name, container in _iter_containers(facts, environment):
        if container.container_name:
            names.setdefault(name, container.container_name)
        elif project:
            prefix = f"{project.value}-{container.name}"
            where = f"{container.where}, as Compose names it"
            numbered_names = [f"{prefix}-{number}" for number in range(1, container.replica_count + 1)]
            value = numbered_names[0] if len(numbered_names) == 1 else numbered_names
            names.setdefault(name, SourcedValue(value, where, guess=True))
    return names


def _iter_containers(
    facts: RepositoryFindings, environment: DetectedEnvironment
) -> Iterator[tuple[str, DetectedContainer]]:
    """The containers of services and accessories that are of an environment."""
    running = [service for service in facts.services if not service.is_base]
    pairs = [(service.name, container) for service in running for _, container in service.containers]
    for service in facts.services:
        pairs += [(name, container) for name, container in service_entry.list_processes(service) if name]
    accessory_names = service_entry.map_accessory_names(facts)
    accessories = set(facts.accessories)
    for container in facts.containers:
        name = accessory_names.get(container.name, "")
        if name in accessories:
            pairs.append((name, container))
    for name, container in pairs:
        if _is_container_of(facts, environment, container):
            yield name, container


def _is_container_of(facts: RepositoryFindings, environment: DetectedEnvironment, container: DetectedContainer) -> bool:
    """Whether an environment has a container: it is for this environment, or for all.

    A file for all is the base of the environment's own file, unless that one is complete without it. Several
    environments on one server cannot have the same container, so there nobody knows whose it is.
    """
    if container.kind:
        return container.kind == environment.kind
    if len(facts.environments) == 1:
        return True
    own_files = [file for service in facts.services for file, _ in service.containers if file.kind == environment.kind]
    needs_base = any(not file.is_complete for file in own_files)
    host = facts.hosts[environment.name].name
    neighbours = [other for other in facts.environments if facts.hosts[other.name].name == host]
    return needs_base and len(neighbours) == 1


def _find_only_value(values: list[SourcedValue]) -> SourcedValue | None:
    """The value on which all places agree."""
    return values[0] if len({value.value for value in values}) == 1 else None


def find_project(facts: RepositoryFindings, environment: DetectedEnvironment) -> SourcedValue | None:
    """The Compose project of today: the one that the deploy names, else the Compose file.

    Without a name Compose takes the folder on the server, if no variable there says otherwise. A Compose file that is
    not here may have a name, so the folder counts only beside one that is.
    """
    if environment.projects:
        return _find_only_value(environment.projects)
    if environment.name in facts.project_names:
        return facts.project_names[environment.name]
    folder = _find_only_value(environment.folders)
    is_compose_file_known = any(True for _ in _iter_containers(facts, environment))
    name = str(folder.value).rpartition("/")[2] if folder else ""
    if folder and is_compose_file_known and re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        return SourcedValue(name, f"{folder.where}, the folder's name")
    return None


def _find_web_server(facts: RepositoryFindings, environment: DetectedEnvironment) -> SourcedValue | None:
    """The only container that a Compose file gives ports 80 or 443 of the server."""
    project = find_project(facts, environment)
    names = []
    for container in facts.containers:
        if _is_container_of(facts, environment, container) and _WEB_PORTS & set(container.published):
            by_compose = SourcedValue(f"{project.value}-{container.name}-1", container.where) if project else None
            names.append(container.container_name or by_compose)
    name = names[0] if len(names) == 1 else None
    return name if name and _IS_EXISTING_NAME(name.value) else None


def _is_in_folder_of_today(facts: RepositoryFindings, environment: DetectedEnvironment) -> bool:
    directory = facts.hosts[environment.name].directory
    stack = facts.stack_names.get(environment.name)
    folder = _find_only_value(environment.folders)
    if not directory or not stack or not folder:
        return False
    return str(folder.value) == f"{directory.value}/{stack.value}"
