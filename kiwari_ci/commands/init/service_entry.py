"""A service's entry in the spec: each value with its place, and what a person must decide about it."""

import re
from dataclasses import replace
from typing import Any

from kiwari_ci.commands.init import container_entry, proxy_choice
from kiwari_ci.commands.init.callable_workflows import Callability
from kiwari_ci.commands.init.compose_files import DetectedContainer, find_one_shot_services, iter_dependencies
from kiwari_ci.commands.init.container_commands import UNKNOWN_PROGRAM, convert_command, describe_shell_as_command
from kiwari_ci.commands.init.draft_text import (
    MAX_FLOW_WIDTH,
    Comment,
    CommentedMapping,
    CommentedValue,
    LineToUncomment,
    render_flow_style,
)
from kiwari_ci.commands.init.env_variables import (
    EnvVariable,
    detect_differing_variables,
    detect_variables,
    find_deployed_environment,
    find_field,
    find_own_keys,
    find_unlisted_env_files,
    list_unused_examples,
)
from kiwari_ci.commands.init.findings import RepositoryFindings, SpecDraft
from kiwari_ci.commands.init.gates import Gate
from kiwari_ci.commands.init.rendered_env import RenderedVariable, classify_rendered_value, is_known_before_a_run
from kiwari_ci.commands.init.services import FASTCGI_PORT, DetectedService, runs_php_fpm
from kiwari_ci.commands.init.workflow_jobs import TestSteps
from kiwari_ci.effective_spec.lock_files import find_package_manager
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.image_reference import parse_image_reference
from kiwari_ci.readers.vocabulary import SourcedValue
from kiwari_ci.readers.yaml_document import YamlMapping, format_scalar
from kiwari_ci.schema import Accessory, Override
from kiwari_ci.schema.text_formats import (
    EnvKey,
    PathPattern,
    PublishedPort,
    RepositoryFile,
    RepositoryFolder,
    ShellScript,
    ToolVersion,
    TrimmedLine,
    UrlPath,
    WorkflowFileName,
)
from kiwari_ci.spec_loading.yaml_source import YamlPath

_IS_FILE = vocabulary.build_validator(RepositoryFile)
_IS_FOLDER = vocabulary.build_validator(RepositoryFolder)
_IS_PATH_PATTERN = vocabulary.build_validator(PathPattern)
_IS_URL_PATH = vocabulary.build_validator(UrlPath)
_IS_SCRIPT = vocabulary.build_validator(ShellScript)
_IS_WORKFLOW_FILE = vocabulary.build_validator(WorkflowFileName)
_IS_VERSION = vocabulary.build_validator(ToolVersion)
_IS_ENV_KEY = vocabulary.build_validator(EnvKey)
_IS_SINGLE_LINE = vocabulary.build_validator(TrimmedLine)
_IS_PUBLISHED_PORT = vocabulary.build_validator(PublishedPort)
_OVERRIDES_OF_ACCESSORIES = tuple(key for key in Override.model_fields if key in Accessory.model_fields)
_HEALTH_PATH = re.compile(r"health|ping|status|ready|live|up$")


def build_service_entry(
    draft: SpecDraft, facts: RepositoryFindings, service: DetectedService, image: str
) -> CommentedMapping:
    """The entry of a service; `image` is empty for an image that is called as the spec expects."""
    path: YamlPath = ("services", service.name)
    table = CommentedMapping()
    if image:
        table.put("image", image, service.reference.where if service.reference else "")
    elif not service.reference:
        _add_image_decision(draft, path, service)
    _add_path_filters(draft, path, table, service)
    _add_build_settings(table, service)
    _ask_about_base_images(draft, path, service)
    _add_test_entry(draft, facts, path, table, service)
    _add_preparations(draft, path, table, service)
    if not service.is_worker and not service.is_base:
        _add_port(draft, path, table, service)
        _add_health(draft, facts, path, table, service)
        if service.language.websocket:
            table.put("websocket", True, format_source_note(service.language.websocket))
    if service.runs_once:
        table.put("once", True, "it runs to its end")
    _add_env_variables(draft, facts, table, service)
    _leave_unused_examples(draft, facts, service)
    _add_container_options(draft, facts, table, service)
    return table


def _add_image_decision(draft: SpecDraft, service_path: YamlPath, service: DetectedService) -> None:
    """Ask for the image's name where today a variable says a part of it that nothing here gives a value."""
    for _, container in service.containers:
        repository = parse_image_reference(container.image).repository
        if "$" in repository:
            today = f"{repository} ({container.where}), of which no default and no env example says the variables"
            draft.decide(service_path, f"the image of {service.name} is today {today}; `registry` and `image` name it")
            return


def map_accessory_names(facts: RepositoryFindings) -> dict[str, str]:
    """The name in the spec of each container of others: those of several environments may differ by its word."""
    names = {
        container.name: vocabulary.slugify(vocabulary.strip_environment(container.name))
        for container in facts.containers
    }
    return {name: known for name, known in names.items() if known in facts.accessories}


def map_container_names(facts: RepositoryFindings) -> dict[str, str]:
    """The name in the spec of each container that it has."""
    names = map_accessory_names(facts)
    for service in facts.services:
        for _, container in service.containers:
            names[container.name] = service.name
    return names


def _add_container_options(
    draft: SpecDraft, facts: RepositoryFindings, table: CommentedMapping, service: DetectedService
) -> None:
    """Add how the service runs, by the container that production has."""
    for number, (compose_file, container) in enumerate(service.containers):
        if compose_file.kind == vocabulary.DEVELOPMENT:
            continue
        names = map_container_names(facts) | {service.name: ""}
        options = container_entry.build_service_options(container, names, proxy_choice.find_shared_network(facts))
        unsupported = options.unsupported
        is_published = proxy_choice.choose_proxy_kind(facts) == "none"
        left_ports = container_entry.add_published_ports(container, options.table, is_published)
        if number == 0 and is_published:
            container_entry.ask_about_unknown_ports(draft, ("services", service.name), container)
            unknown_ports = container_entry.list_unknown_ports(container)
            left_ports = [port for port in left_ports if port not in unknown_ports]
        if left_ports:
            unsupported.append(f"ports {', '.join(left_ports)}")
        if number == 0:
            _add_options(draft, facts, ("services", service.name), table, options)
            container_entry.add_volume_decision(draft, facts, ("services", service.name), container)
            container_entry.ask_about_secret_files(draft, ("services", service.name), container)
            container_entry.ask_about_port_variables(
                draft, ("services", service.name), container, table, facts.repository.written_variables
            )
            unsupported += _list_lost_waits(facts, service.name, container)
        is_rendered = any(environment.rendered_env for environment in facts.environments)
        for env_file in [] if is_rendered else find_unlisted_env_files(facts.repository, service, container):
            unsupported.append(f"env_file {env_file}, of whose keys there is no example")
        draft.leave(f"{service.name} ({container.where})", unsupported)
    _add_migrations(draft, table, service)
    draft.seen += [f"{service.name}: {note}" for note in service.unsupported]


def _add_options(
    draft: SpecDraft,
    facts: RepositoryFindings,
    path: YamlPath,
    table: CommentedMapping,
    options: container_entry.ConvertedOptions,
) -> None:
    """Add the options of a container to the entry of a service, and ask what a person must know of them."""
    container_entry.add_shell_variables(table, options)
    table.above += options.table.above
    table.update(_simplify_depends_on(draft, facts, str(path[1]), options.table))
    container_entry.ask_about_options(draft, path, table, options)


def _add_migrations(draft: SpecDraft, table: CommentedMapping, service: DetectedService) -> None:
    """Add what containers of the service's image run to their end; several environments may have the same one."""
    one_shot = _find_one_shot_processes(service)
    known_commands: list[dict[str, list[str]]] = []
    for _, container in service.other_containers:
        command = convert_command(container).fields
        if container.name not in one_shot or command in known_commands:
            continue
        known_commands.append(command)
        if "migrate" in table:
            draft.leave(f"{container.name} ({container.where})", ["it ends, and `migrate` has another command"])
        else:
            _add_migration(draft, ("services", service.name), table, container)


def _add_migration(draft: SpecDraft, path: YamlPath, table: CommentedMapping, container: DetectedContainer) -> None:
    """Add the command of a container that ends, which a deploy runs before it replaces a container.

    It runs with the entrypoint of the service, so it is asked where today's is another one; and where no field can
    have the command.
    """
    options = container_entry.build_service_options(container, {}, "")
    command = convert_command(container)
    words = command.fields.get("command")
    entrypoint = command.fields.get("entrypoint")
    if words and not entrypoint and "entrypoint" not in table:
        table.put("migrate", words, container.where)
        container_entry.add_shell_variables(table, options)
        if command.question:
            draft.decide((*path, "migrate"), describe_shell_as_command(container, command.variables))
    elif command.fields and entrypoint != [UNKNOWN_PROGRAM]:
        question = (
            f"the command of {container.name} ({container.where}), which ends, is not drafted, because it would run "
            f"with the entrypoint of {path[1]}: write it as `migrate: […]`, behind that entrypoint"
        )
        draft.decide(path, question)
    else:
        question = (
            f"today {container.name} ({container.where}) runs a command with the image of {path[1]}, and ends: write "
            "the command as `migrate`, or no deploy runs it"
        )
        draft.decide(path, question)


def _ask_about_renamed_services(
    draft: SpecDraft, facts: RepositoryFindings, name: str, variables: dict[str, EnvVariable]
) -> None:
    """Ask about values that name a service as Compose calls it today, where the spec calls it otherwise."""
    renamed = {today: new_name for today, new_name in map_container_names(facts).items() if today != new_name}
    for key, variable in variables.items():
        value = variable.value if isinstance(variable.value, str) else ""
        for today, new_name in renamed.items():
            if re.search(rf"(?<![\w.-]){re.escape(today)}(?![\w.-])", value):
                question = (
                    f"{key} of {name} names {today} ({variable.note}). In this spec, that service is called {new_name}"
                    f", and others reach it only as {new_name}: write {new_name}, or rename the service to {today}"
                )
                draft.decide(("services", name), question)


def _list_lost_waits(facts: RepositoryFindings, name: str, container: DetectedContainer) -> list[str]:
    """In words, what a container waits for today and what the spec cannot say: the end or the health of others."""
    names = map_container_names(facts)
    services = {service.name for service in facts.services}
    known = {other.name for service in facts.services for _, other in service.other_containers}
    if facts.database_server:
        known |= facts.database_server.containers
    lost = []
    for today, condition in iter_dependencies(container):
        new_name = names.get(today, "")
        if new_name == name or today in known:
            continue
        if not new_name and condition != "started":
            lost.append(f"depends_on {today} ({condition}), which is not in the spec")
        elif condition == "healthy" and new_name in services:
            lost.append(f"depends_on {today} (healthy): with this spec, it waits only until {today} is started")
    return lost


def _find_one_shot_processes(service: DetectedService) -> set[str]:
    """The names of the containers of a service's image that end."""
    return find_one_shot_services(container for _, container in [*service.containers, *service.other_containers])


def _simplify_depends_on(
    draft: SpecDraft, facts: RepositoryFindings, entry_name: str, table: CommentedMapping
) -> CommentedMapping:
    """Services of the spec have no check of Docker's: others wait for them until they are started.

    The same is true of an accessory whose check the spec cannot write, which is asked.
    """
    entry = table.get("depends_on")
    if not isinstance(entry, CommentedValue):
        return table
    one_shots = {service.name for service in facts.services if service.runs_once}
    conditions = {}
    for name, condition in entry.value.items():
        if name in one_shots:
            conditions[name] = "completed"
        elif name:
            conditions[name] = _choose_condition(draft, facts, (entry_name, name), condition)
    if not conditions:
        del table["depends_on"]
    elif set(conditions.values()) == {"started"}:
        entry.value = list(conditions)
    else:
        entry.value = conditions
    return table


def _choose_condition(draft: SpecDraft, facts: RepositoryFindings, names: tuple[str, str], condition: str) -> str:
    """Until when an entry waits for another one; `names` are those of both."""
    entry_name, name = names
    accessory = facts.accessories.get(name)
    if not accessory:
        return "started"
    check = accessory.table.get_mapping("healthcheck")
    if condition != "healthy" or not check.get("test") or container_entry.has_healthcheck(accessory):
        return condition
    question = (
        f"{entry_name} waits until {name} is started, today healthy ({check.where('test')}): keep it, or write the "
        f"`healthcheck` of {name} and `{name}: healthy`"
    )
    draft.decide(("services", entry_name, "depends_on"), question)
    return "started"


def list_processes(service: DetectedService) -> list[tuple[str, DetectedContainer]]:
    """The other processes of a service's image that go on running, by the names that the spec gives them."""
    one_shot = _find_one_shot_processes(service)
    return [
        (vocabulary.slugify(vocabulary.strip_environment(container.name)), container)
        for file, container in service.other_containers
        if container.name not in one_shot and file.kind != vocabulary.DEVELOPMENT and not container.profiles
    ]


def build_process_entries(
    draft: SpecDraft, facts: RepositoryFindings, service: DetectedService, taken_names: set[str]
) -> dict[str, CommentedMapping]:
    """The other processes of a service's image, except for those that migrate and end."""
    entries: dict[str, CommentedMapping] = {}
    one_shot = _find_one_shot_processes(service)
    for compose_file, container in service.other_containers:
        name = vocabulary.slugify(vocabulary.strip_environment(container.name))
        if container.name in one_shot or compose_file.kind == vocabulary.DEVELOPMENT or name in entries:
            continue
        if container.profiles:
            reason = f"runs only with the profile {container.profiles}"
        elif not name or name in taken_names:
            reason = "its name is another's"
        else:
            reason = ""
        if reason:
            draft.leave(f"{container.name} ({container.where})", [f"an image of {service.name}, {reason}"])
            continue
        table = entries[name] = CommentedMapping()
        table.put("image_of", service.name, container.where)
        if runs_php_fpm(container):
            table.put("port", FASTCGI_PORT, f"{container.where}: php-fpm, which a web server asks by this name")
            table.put("health", {"by": "tcp"}, "php-fpm speaks FastCGI")
        names, network = map_container_names(facts), proxy_choice.find_shared_network(facts)
        options = container_entry.build_service_options(container, names, network)
        unsupported = options.unsupported
        left_ports = container_entry.add_published_ports(container, options.table, is_kept=False)
        if left_ports:
            unsupported.append(f"ports {', '.join(left_ports)}")
        process = replace(service, name=name, containers=[(compose_file, container)])
        if _shares_env_file(container, service):
            _add_own_variables(draft, facts, table, process)
        else:
            _add_env_variables(draft, facts, table, process)
        _add_options(draft, facts, ("services", name), table, options)
        draft.leave(f"{name} ({container.where})", unsupported)
    return entries


def _add_own_variables(
    draft: SpecDraft, facts: RepositoryFindings, table: CommentedMapping, process: DetectedService
) -> None:
    """Add what a process that reads the env file of its service has beside that file: plain values."""
    (_, container), *_ = process.containers
    keys = {key for key, _, _ in container.env}
    variables = {key: variable for key, variable in detect_service_variables(facts, process).items() if key in keys}
    environment = CommentedMapping()
    unsupported = []
    for key, variable in variables.items():
        if variable.is_secret:
            unsupported.append(f"{key} ({variable.note}): it belongs into the env file of both")
        else:
            environment.put(key, variable.value, variable.note)
    if environment:
        table["environment"] = environment
    draft.leave(f"{process.name}: environment", unsupported)


def _shares_env_file(container: DetectedContainer, service: DetectedService) -> bool:
    """Whether it reads the env file of the service whose image it runs, which then has its keys."""
    paths = _list_env_file_paths(container)
    return bool(paths) and any(_list_env_file_paths(other) == paths for _, other in service.containers)


def _list_env_file_paths(container: DetectedContainer) -> list[str]:
    return [str(env_file.value) for env_file in container.env_files]


def _add_port(draft: SpecDraft, path: YamlPath, table: CommentedMapping, service: DetectedService) -> None:
    """Add the port that the service listens on; ask when nothing says it for certain."""
    port = service.port
    if not port:
        table.put("port", 8080, "could not tell: nothing says where it listens; write: port: N")
        draft.decide((*path, "port"), f"where {service.name} listens")
        return
    other_ports = [f"{other.value} in {other.where}" for other in service.ports[1:] if not other.guess]
    note = format_source_note(port)
    if other_ports:
        note += f"; {' and '.join(other_ports[:3])}"
    table.put("port", port.value, note)
    if port.guess:
        draft.decide((*path, "port"), f"where {service.name} listens: {port.value} is a guess")


def _add_health(
    draft: SpecDraft, facts: RepositoryFindings, path: YamlPath, table: CommentedMapping, service: DetectedService
) -> None:
    """Add the path that answers when the service is well; ask when nothing says it for certain."""
    if service.speaks_fastcgi:
        table.put("health", {"by": "tcp"}, "php-fpm speaks FastCGI")
        return
    health = _detect_health_path(facts, service)
    if health and not _IS_URL_PATH(health.value):
        health = None  # a spec cannot have it, so a person decides as if nothing had said it
    if health:
        check = {"path": health.value}
        note = format_source_note(health)
        start_period, reason = _find_start_period(service, health)
        if start_period:
            check["start_period"] = start_period
            note += f": {reason}"
        table.put("health", check, note)
    else:
        table.put("health", {"path": "/health"}, "could not tell: nothing asks it; write: health: {path: /…}")
    question = f"which path of {service.name} answers 200 when the service is healthy"
    if not health:
        draft.decide((*path, "health"), f"{question}: no file shows one, and /health is a guess")
    elif health.guess:
        draft.decide((*path, "health"), f"{question}: {health.value} is a guess")
    elif _may_be_redirected(service, health):
        draft.decide(
            (*path, "health"),
            f"whether {health.value} of {service.name} answers 200: today's check accepts a redirect, too, and a "
            f"deploy does not; for a redirect, write its status, as in `health: {{path: {health.value}, status: 302}}`",
        )


def _may_be_redirected(service: DetectedService, health: SourcedValue) -> bool:
    """Whether the check of today could have been led elsewhere from a path that is no health path by its name."""
    if _HEALTH_PATH.search(str(health.value)):
        return False
    return any(container.accepts_redirects for _, container in service.containers if container.health is health)


def _find_start_period(service: DetectedService, health: SourcedValue) -> tuple[str, str]:
    """How long the check of today that asks the path lets a container start, and why; empty if not told."""
    for _, container in service.containers:
        if container.health is health:
            return container_entry.describe_healthcheck_wait(container)
    return "", ""


def _add_path_filters(draft: SpecDraft, path: YamlPath, table: CommentedMapping, service: DetectedService) -> None:
    """Add the paths whose changes build the service; ask when every change does."""
    dockerfile = service.image.dockerfile
    patterns = _list_path_patterns(service)
    if not patterns:
        patterns = [SourcedValue("**", dockerfile, guess=True)]
    first = patterns[0]
    question = ""
    note = _format_sources([pattern.where for pattern in patterns])
    if first.value == "**" and first in _list_preparation_folders(service):
        question = (
            f"every change builds {service.name}: a step before the build ({first.where}) may read any file; name its "
            "folders where you can"
        )
    elif first.value == "**" and first.guess:
        note = f"could not tell what {dockerfile} copies"
        question = f"every change builds {service.name}: {note}; name its folders where you can"
    elif first.value == "**":
        question = f"every change builds {service.name}: {first.where} copies the whole repository"
    table.put("paths", [pattern.value for pattern in patterns], note)
    if question:
        draft.decide((*path, "paths"), question)


def _list_path_patterns(service: DetectedService) -> list[SourcedValue]:
    """The files that the Dockerfile copies, and the folders in which steps before the build make some of them."""
    patterns = [source for source in service.image.sources if _IS_PATH_PATTERN(source.value)]
    known = {pattern.value for pattern in patterns}
    if "**" in known:
        return patterns
    folders = [folder for folder in _list_preparation_folders(service) if folder.value not in known]
    everything = [folder for folder in folders if folder.value == "**"]
    return everything[:1] or [*patterns, *folders]


def _list_preparation_folders(service: DetectedService) -> list[SourcedValue]:
    """The folders whose files the steps before the build may read."""
    folders: dict[str, SourcedValue] = {}
    for preparation in service.preparations:
        if preparation.produces and not preparation.obstacle:
            pattern = "**" if preparation.folder == "." else f"{preparation.folder}/**"
            folders.setdefault(pattern, SourcedValue(pattern, preparation.where))
    return list(folders.values())


def _add_build_settings(table: CommentedMapping, service: DetectedService) -> None:
    """Add how the image is built, as far as it is not what the spec expects."""
    image = service.image
    build: dict[str, Any] = {}
    if image.context.value != ".":
        build["context"] = image.context.value
    if image.dockerfile != f"{service.name}/Dockerfile":
        build["dockerfile"] = image.dockerfile
    build |= service.settings.value.values
    note = image.by or f"{image.dockerfile}; the context is a guess from what it copies"
    if service.settings.value.values and service.settings.where not in ("", note):
        note = f"{note}; {', '.join(service.settings.value.values)} of {service.settings.where}"
    if len(render_flow_style(build)) > MAX_FLOW_WIDTH:
        entry = table["build"] = CommentedMapping(note=note)
        for key, value in build.items():
            entry.put(key, value)
    elif build:
        table.put("build", build, note)


def _ask_about_base_images(draft: SpecDraft, path: YamlPath, service: DetectedService) -> None:
    """Ask for the lines of the Dockerfile that take the image of another service."""
    for question in service.base_questions:
        draft.decide((*path, "build"), question)


def _add_test_entry(
    draft: SpecDraft, facts: RepositoryFindings, path: YamlPath, table: CommentedMapping, service: DetectedService
) -> None:
    """Add the test of a workflow's job, else the one that the language is known for; ask when there is none."""
    test = service.test
    language = service.language
    lines, folder, where = language.test, language.folder, language.where
    setups = [language.setup] if language.setup else []
    called_workflow = _get_workflow_name(test)
    if test and called_workflow and service.callability == Callability.READY:
        table.put("test", {"workflow": called_workflow}, test.where)
        return
    if test:
        lines, folder, where, setups = test.lines, test.folder, test.where, test.setups or setups
    script = "\n".join(line.rstrip() for line in lines).strip()
    if "\n" in script:
        script += "\n"
    if not script or not _IS_SCRIPT(script) or "${{" in script:
        folder_hint = f"working_directory: {language.home}, " if language.home != "." else ""
        if service.gate:
            table.above += _list_gate_answer(service.gate)
            draft.decide(path, _ask_about_gate(service.gate, f"{service.name} is built without a test"))
            return
        table.above.append(f"could not tell how to test it; write: test: {{{folder_hint}run: …}}")
        draft.decide(path, f"{service.name} is built without a test")
        return
    entry = table["test"] = CommentedMapping(note="" if test else f"a guess from {where}")
    if service.gate:
        entry.above = _list_gate_answer(service.gate)
        draft.decide((*path, "test"), _ask_about_gate(service.gate, f"{service.name} is tested by these commands"))
    if called_workflow and service.callability == Callability.WITHOUT_TRIGGER:
        entry.above = [
            f"to keep the tests in {called_workflow}, add `workflow_call:` below its `on:`, and write:",
            f"test: {{workflow: {called_workflow}}}",
        ]
    _add_setups(entry, setups)
    if test:
        _add_test_environment(draft, (*path, "test"), entry, test)
    if test and setups and facts.pull_requests:
        _add_cache(facts, entry, [language for language, _, _ in setups], test)
    if folder != "." and _IS_FOLDER(folder):
        entry.put("working_directory", folder)
    entry.put("run", script, where if test else "")


def _list_gate_answer(gate: Gate) -> list[Comment]:
    """The line that calls the jobs that a build waits for today, and what to do before."""
    return [f"to keep {', '.join(gate.jobs)} before the build: {gate.describe_move()}, and write:",
            LineToUncomment(gate.field_line)]  # fmt: skip


def _ask_about_gate(gate: Gate, drafted: str) -> str:
    """Ask what the build waits for, where it is more than the drafted test."""
    return (
        f"{drafted}, and its build waits for {', '.join(gate.jobs)} of {gate.path} today: to keep that, move them, and "
        f"write `{gate.field_line}` in place of the drafted test; the comment has the steps"
    )


def _add_preparations(draft: SpecDraft, path: YamlPath, table: CommentedMapping, service: DetectedService) -> None:
    """Add the steps of today before the build; ask about those that no step of the spec can be."""
    entries = []
    not_drafted = []
    for preparation in service.preparations:
        if preparation.obstacle:
            not_drafted.append(f"{preparation.text} ({preparation.where}), because {preparation.obstacle}")
            continue
        not_drafted += [f"{part} ({preparation.where})" for part in preparation.lost]
        entry = CommentedMapping()
        for key, value in preparation.fields.items():
            entry.put(key, value, preparation.where if key == "name" else "")
        entries.append(entry)
    if entries:
        steps = table["steps"] = CommentedMapping()
        steps.put("before_build", entries)
    if not_drafted:
        steps_today = "; ".join(not_drafted)
        question = f"today, these steps run before the build of {service.name}, and are not in `steps.before_build`: "
        question += steps_today
        draft.decide((*path, "steps") if entries else path, question)


def _get_workflow_name(test: TestSteps | None) -> str:
    """The file name of the workflow that has the test; empty for none that a spec can name."""
    name = test.workflow.rpartition("/")[2] if test else ""
    return name if _IS_WORKFLOW_FILE(name) else ""


def _add_setups(table: CommentedMapping, setups: list[tuple[str, str, str]]) -> None:
    """Add each language and its version: a version itself, or the file that has it."""
    tools: dict[str, Any] = {}
    for language, kind, value in setups:
        if kind == "version_file" and _IS_FILE(value):
            tools.setdefault(language, {kind: value})
        elif kind != "version_file" and _IS_VERSION(value):
            tools.setdefault(language, value)
    if tools:
        table.put("setup", tools)


def _add_cache(facts: RepositoryFindings, table: CommentedMapping, languages: list[str], test: TestSteps) -> None:
    """Add the lock files whose dependencies today's job caches, if the drafted setup can cache for them."""
    lock_files = [path for path in test.lock_files if _IS_FILE(path) and path in facts.repository.files]
    own_files = [path for path in lock_files if any(_is_cached_by(language, path) for language in languages)]
    if own_files:
        table.put("cache", own_files, test.where)


def _is_cached_by(language: str, lock_file: str) -> bool:
    """Whether the action that installs a language caches for a lock file, without a tool beside it."""
    manager = find_package_manager(lock_file)
    return manager is not None and manager.tool == language and not manager.needed_tools


def _add_test_environment(draft: SpecDraft, path: YamlPath, table: CommentedMapping, test: TestSteps) -> None:
    """Add the containers beside the tests, and the environment; ask for values that are expressions."""
    services = CommentedMapping()
    for key, container in test.needs.items():
        name = vocabulary.slugify(key)
        if name:
            services[name] = _build_test_service(container)
    if services:
        table["services"] = services
    env = CommentedMapping()
    unknown = []
    for key, value in test.env.items():
        if _IS_ENV_KEY(key) and _is_literal_line(value.value):
            env.put(key, value.value, value.where)
        else:
            unknown.append(f"{key} ({value.where})")
    if env:
        table["env"] = env
    if unknown:
        draft.decide(path, f"tests have no secrets here: a value for {', '.join(unknown)}")


def _is_literal_line(value: Any) -> bool:
    return _IS_SINGLE_LINE(value) and "${{" not in value


def _build_test_service(container: YamlMapping) -> CommentedMapping:
    """A container beside the tests."""
    table = CommentedMapping()
    table.put("image", container.get_text("image"), container.where("image"))
    ports = [_format_port_mapping(format_scalar(port)) for port, _ in container.list_items("ports")]
    valid_ports = [port for port in ports if _IS_PUBLISHED_PORT(port)]
    if valid_ports:
        table.put("ports", valid_ports)
    env = {}
    for key, value, _ in container.iter_pairs("env"):
        if _IS_ENV_KEY(key) and _IS_SINGLE_LINE(value):
            env[key] = value
    if env:
        table.put("env", env)
    health_command = re.search(r"--health-cmd[= ](?:\"([^\"]*)\"|'([^']*)'|(\S+))", container.get_text("options"))
    if health_command:
        table.put("health", health_command[1] or health_command[2] or health_command[3] or "")
    return table


def _format_port_mapping(port: str) -> str:
    return f"{port}:{port}" if port.isdecimal() else port


def _detect_health_path(facts: RepositoryFindings, service: DetectedService) -> SourcedValue | None:
    """The path that is asked today: by the service's own check, by a workflow's curl; else a guess."""
    if service.health and not service.health.guess:
        return service.health
    domains = {domain.value for (_, name), domain in facts.domains.items() if name == service.name}
    for environment in facts.environments:
        for url in environment.urls:
            address = re.sub(r"^https?://", "", str(url.value))
            path = address.partition("/")[2]
            is_asked = _find_served_address(facts, address) in domains
            if path and _HEALTH_PATH.search(path) and (is_asked or _is_local_address(service, address)):
                return SourcedValue(f"/{path}", url.where)
    served_domains = [str(domain) for domain in domains if domain not in facts.stripped_addresses]
    return _guess_health_below_path(sorted(served_domains), service.health)


def _is_local_address(service: DetectedService, address: str) -> bool:
    """Whether an address is that of a service on its server itself: by its port, or by the one that is published."""
    local = re.match(r"(?:localhost|127\.0\.0\.1):(\d+)/", address)
    if not local:
        return False
    ports = {int(port.value) for port in service.ports[:1]}
    for _, container in service.containers:
        ports |= set(container.published)
    return int(local[1]) in ports


def _find_served_address(facts: RepositoryFindings, address: str) -> str:
    """The longest of all addresses that a request for an address goes to; empty for none."""
    known = {str(domain.value) for domain in facts.domains.values()}
    serving = [other for other in known if address == other or address.startswith(f"{other}/")]
    return max(serving, key=len, default="")


def _guess_health_below_path(addresses: list[str], health: SourcedValue | None) -> SourcedValue | None:
    """A guess that the service's address leads to: one below its path, where it has one."""
    _, slash, path = addresses[0].partition("/") if addresses else ("", "", "")
    if not slash:
        return health
    name = str(health.value) if health else "/health"
    if health and name.startswith(f"/{path}/"):
        return health  # the program has the path of its address already
    where = f"{health.where}, below {addresses[0]}" if health else f"the path of {addresses[0]}"
    return SourcedValue(f"/{path}{name}", where, guess=True)


def _add_env_variables(
    draft: SpecDraft, facts: RepositoryFindings, table: CommentedMapping, service: DetectedService
) -> None:
    """Add the variables; a service's own address is asked for where an environment has no domain for it."""
    is_public = all((environment.name, service.name) in facts.domains for environment in facts.environments)
    own_keys: set[str] = set().union(*find_own_keys(service, facts.environment_kinds).values())
    variables = {}
    for key, variable in detect_service_variables(facts, service).items():
        if key in own_keys:
            continue  # `overrides` of some environments have it
        is_own_address = isinstance(variable.value, dict) and "domain" in variable.value
        if is_own_address and not is_public:
            note = f"{variable.note}, its own address: not every environment has a domain for it"
            variable = EnvVariable({"secret": True}, note)
        variables[key] = variable
    _ask_about_renamed_services(draft, facts, service.name, variables)
    _put_variables(draft, table, service, variables)


def _put_variables(
    draft: SpecDraft, table: CommentedMapping, service: DetectedService, variables: dict[str, EnvVariable]
) -> None:
    """Write variables into the fields that take them; note those that none takes."""
    fields = {"env": CommentedMapping(), "environment": CommentedMapping()}
    unsupported = []
    for key, variable in variables.items():
        field = find_field(key, variable)
        if field:
            fields[field].put(key, variable.value, variable.note)
        else:
            unsupported.append(f"{key} ({variable.note}): an env file takes no name with `.` or `-`")
    for field, mapping in fields.items():
        if mapping:
            table[field] = mapping
    draft.leave(f"{service.name}: environment", unsupported)


def detect_service_variables(facts: RepositoryFindings, service: DetectedService) -> dict[str, EnvVariable]:
    """The variables of a service; one whose value is the service's address in each environment is that address."""
    variables = detect_variables(
        facts.repository, service, facts.services, facts.database_server, facts.deployed_file_kinds
    )
    scheme = "http" if facts.plain_http else "https"
    urls = {
        f"{scheme}://{facts.domains[environment.name, service.name].value}"
        for environment in facts.environments
        if (environment.name, service.name) in facts.domains
    }
    for variable in variables.values():
        if isinstance(variable.value, str) and variable.value in urls:
            variable.value = {"domain": "url"}
    return _add_rendered_variables(facts, service, variables)


def _add_rendered_variables(
    facts: RepositoryFindings, service: DetectedService, variables: dict[str, EnvVariable]
) -> dict[str, EnvVariable]:
    """The variables with those that the deploys of today write into its env files, or into that of its stack."""
    written_by_compose = {key for _, container in service.containers for key, value, _ in container.env if value}
    for key, rendered in group_rendered_variables(facts).items():
        known = variables.get(key)
        is_derived = known is not None and known.value != {"secret": True} and isinstance(known.value, dict)
        reaching = [variable for variable in rendered if _reaches_service(facts, service, variable, known)]
        if reaching and not is_derived and key not in written_by_compose:
            variables[key] = EnvVariable(*classify_rendered_value(reaching, may_differ=_have_own_kinds(facts)))
    return variables


def _have_own_kinds(facts: RepositoryFindings) -> bool:
    """Whether no two environments are of one kind, so that `overrides` of each can say what differs."""
    return len(facts.environment_kinds) == len(facts.environments)


def _detect_differing_rendered_variables(
    facts: RepositoryFindings, service: DetectedService, kind: str, variables: dict[str, EnvVariable]
) -> dict[str, EnvVariable]:
    """The plain values that deploys of one kind of environment write, and that the service has otherwise."""
    differing: dict[str, EnvVariable] = {}
    for key, rendered in group_rendered_variables(facts, kind).items():
        usual = variables.get(key)
        reaching = [variable for variable in rendered if _reaches_service(facts, service, variable, usual)]
        if not reaching or not usual or not isinstance(usual.value, str):
            continue
        own = EnvVariable(*classify_rendered_value(reaching))
        is_written = usual.note in {variable.where for variable in group_rendered_variables(facts)[key]}
        if is_written and isinstance(own.value, str) and own.value != usual.value:
            differing[key] = own
    return differing


def group_rendered_variables(facts: RepositoryFindings, kind: str = "") -> dict[str, list[RenderedVariable]]:
    """What the deploys of all environments, or of those of one kind, write into env files, by key."""
    by_key: dict[str, list[RenderedVariable]] = {}
    for environment in facts.environments:
        for variable in environment.rendered_env if kind in ("", environment.kind) else ():
            if is_known_before_a_run(variable):
                by_key.setdefault(variable.key, []).append(variable)
    return by_key


def _reaches_service(
    facts: RepositoryFindings, service: DetectedService, variable: RenderedVariable, known: EnvVariable | None
) -> bool:
    """Whether a variable of an env file reaches a service.

    Compose gives the service a file of that name, or fills in from the file what the service names, or nothing shows
    who reads the file.
    """
    is_read = facts.env_file_readers.is_read_by(service, variable)
    if not service.containers:
        return is_read and (known is not None or len(facts.services) == 1)
    return is_read or (facts.env_file_readers.is_file_of_stack(service, variable) and known is not None)


def _leave_unused_examples(draft: SpecDraft, facts: RepositoryFindings, service: DetectedService) -> None:
    """Note the variables of a developer's env example that no container has, where a compose file says them all."""
    where = find_deployed_environment(service, facts.deployed_file_kinds)
    if not where:
        return
    keys = detect_service_variables(facts, service)
    unused = list_unused_examples(facts.repository, service, len(facts.services), keys)
    draft.leave(f"{service.name}: not in its environment ({where})", unused)


def build_environment_overrides(draft: SpecDraft, facts: RepositoryFindings, kind: str) -> CommentedMapping:
    """What one kind of environment has otherwise than the services: variables, ports, and options of its containers."""
    overrides = CommentedMapping()
    for service in facts.services:
        variables = detect_service_variables(facts, service)
        differing = detect_differing_variables(service, kind, facts.environment_kinds, variables, facts.services)
        differing |= _detect_differing_rendered_variables(facts, service, kind, variables)
        entry = CommentedMapping()
        _put_variables(draft, entry, service, differing)
        _add_differing_ports(facts, entry, service, kind)
        _add_differing_options(draft, facts, entry, service, kind)
        if entry:
            overrides[service.name] = entry
    for name in facts.accessories:
        entry = _build_override_of_accessory(draft, facts, name, kind)
        if entry:
            overrides[name] = entry
    return overrides


def _build_override_of_accessory(draft: SpecDraft, facts: RepositoryFindings, name: str, kind: str) -> CommentedMapping:
    """What one kind of environment has otherwise than the entry of an accessory, which another kind has."""
    usual_container = facts.accessories[name]
    names = map_accessory_names(facts)
    own_containers = [
        container for container in facts.containers if container.kind == kind and names.get(container.name) == name
    ]
    override = CommentedMapping()
    if not own_containers or own_containers[0] is usual_container:
        return override
    network = proxy_choice.find_shared_network(facts)
    usual, own = (
        container_entry.build_accessory_entry(container, names, network, runs_once=False).table
        for container in (usual_container, own_containers[0])
    )
    for key in _OVERRIDES_OF_ACCESSORIES:
        if key in own and _list_values(own[key]) != _list_values(usual.get(key)):
            override[key] = own[key]
        elif key in usual and key not in own:
            note = f"{key}, which differs from {usual_container.where}"
            draft.leave(f"{name} ({own_containers[0].where})", [note])
    return override


def _list_values(entry: CommentedValue | CommentedMapping | None) -> Any:
    """The values of an entry, without their places."""
    if isinstance(entry, CommentedMapping):
        return {key: _list_values(inner) for key, inner in entry.items()}
    return entry.value if entry else None


def _add_differing_options(
    draft: SpecDraft, facts: RepositoryFindings, entry: CommentedMapping, service: DetectedService, kind: str
) -> None:
    """Add the options of a service's container that one kind of environment has otherwise; note what it has not."""
    own_container = next((container for file, container in service.containers if file.kind == kind), None)
    if not own_container or own_container is service.containers[0][1]:
        return
    usual = _build_options_of_environment(facts, service, service.containers[0][1])
    own = _build_options_of_environment(facts, service, own_container)
    for key in dict.fromkeys([*own, *usual]):
        if _get_value(own, key) == _get_value(usual, key):
            continue
        if key in own and not isinstance(_get_value(usual, key), dict):
            entry[key] = own[key]
        elif key == "replicas":
            entry.put(key, 1, own_container.where)
        else:
            note = f"{key}, which differs from {service.containers[0][1].where}"
            draft.leave(f"{service.name} ({own_container.where})", [note])


def _build_options_of_environment(
    facts: RepositoryFindings, service: DetectedService, container: DetectedContainer
) -> CommentedMapping:
    names = map_container_names(facts) | {service.name: ""}
    options = container_entry.build_service_options(container, names, proxy_choice.find_shared_network(facts))
    options.table.pop("depends_on", None)  # it is about the containers of one file
    return options.table


def _get_value(table: CommentedMapping, key: str) -> Any:
    """A value of an entry, without its place."""
    entry = table.get(key)
    return entry.value if isinstance(entry, CommentedValue) else None


def _add_differing_ports(
    facts: RepositoryFindings, entry: CommentedMapping, service: DetectedService, kind: str
) -> None:
    """Add the ports of the server that one kind of environment has, where they differ from those of the service."""
    if proxy_choice.choose_proxy_kind(facts) != "none" or not service.containers:
        return
    first = CommentedMapping()
    container_entry.add_published_ports(service.containers[0][1], first, is_kept=True)
    for compose_file, container in service.containers[1:]:
        own = CommentedMapping()
        container_entry.add_published_ports(container, own, is_kept=True)
        if compose_file.kind == kind and _get_value(own, "ports") not in (None, _get_value(first, "ports")):
            entry["ports"] = own["ports"]


def _format_sources(places: list[str]) -> str:
    """Several places, each file named once: Dockerfile:3, 7."""
    lines_by_file: dict[str, list[str]] = {}
    for place in places:
        file, _, line = place.rpartition(":")
        if not line.isdecimal():
            file, line = place, ""
        lines = lines_by_file.setdefault(file, [])
        if line and line not in lines:
            lines.append(line)
    return ", ".join(f"{file}:{', '.join(lines)}" if lines else file for file, lines in lines_by_file.items())


def format_source_note(source: SourcedValue) -> str:
    """The place of a value, as a comment has it."""
    return f"a guess from {source.where}" if source.guess else source.where
