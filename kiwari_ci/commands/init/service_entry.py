"""A service's entry in the spec: each value with its place, and what a person must decide about it."""

import re
from dataclasses import replace
from typing import Any

from kiwari_ci.commands.init import container_entry
from kiwari_ci.commands.init.compose_files import DetectedContainer, find_one_shot_services
from kiwari_ci.commands.init.draft_text import MAX_FLOW_WIDTH, CommentedMapping, CommentedValue, render_flow_style
from kiwari_ci.commands.init.env_variables import detect_variables, find_unlisted_env_files
from kiwari_ci.commands.init.findings import RepositoryFindings, SpecDraft
from kiwari_ci.commands.init.services import DetectedService
from kiwari_ci.commands.init.workflow_jobs import TestSteps
from kiwari_ci.loading.yaml_source import YamlPath
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.image_reference import parse_image_reference
from kiwari_ci.readers.vocabulary import SourcedValue
from kiwari_ci.readers.yaml_document import YamlMapping, format_scalar
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
)

_IS_FILE, _IS_FOLDER, _IS_PATH_PATTERN = (
    vocabulary.build_validator(RepositoryFile),
    vocabulary.build_validator(RepositoryFolder),
    vocabulary.build_validator(PathPattern),
)
_IS_URL_PATH, _IS_SCRIPT, _IS_VERSION = (
    vocabulary.build_validator(UrlPath),
    vocabulary.build_validator(ShellScript),
    vocabulary.build_validator(ToolVersion),
)
_IS_ENV_KEY, _IS_SINGLE_LINE, _IS_PUBLISHED_PORT = (
    vocabulary.build_validator(EnvKey),
    vocabulary.build_validator(TrimmedLine),
    vocabulary.build_validator(PublishedPort),
)


def build_service_entry(
    made: SpecDraft, facts: RepositoryFindings, found: DetectedService, image: str
) -> CommentedMapping:
    """One service."""
    here: YamlPath = ("services", found.name)
    table = CommentedMapping()
    if image:
        table.put("image", image, found.reference.where if found.reference else "")
    elif not found.reference:
        _add_image_decision(made, here, found)
    _add_path_filters(made, here, table, found)
    _add_build_settings(table, found)
    _add_test_entry(made, here, table, found)
    if not found.is_worker:
        _add_port_and_health(made, facts, here, table, found)
    _add_env_variables(facts, table, found)
    _add_container_options(made, facts, table, found)
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
    made = map_accessory_names(facts)
    return made | {container.name: found.name for found in facts.services for _, container in found.containers}


def _add_container_options(
    made: SpecDraft, facts: RepositoryFindings, table: CommentedMapping, found: DetectedService
) -> None:
    """How it runs, by the container that production has."""
    ended = find_one_shot_services(each for _, each in found.containers)
    for _, other in found.other_containers:
        if other.name in ended and (words_ := container_entry.parse_command(other)):
            table.put("migrate", words_, other.where)
    for number, (stack, container) in enumerate(found.containers):
        if stack.kind != vocabulary.DEVELOPMENT:
            more, left = container_entry.build_service_options(
                container, map_container_names(facts) | {found.name: ""}, facts.shared_network
            )
            if not number:
                table.update(_simplify_depends_on(facts, more))
                container_entry.add_volume_decision(made, ("services", found.name), container)
            left += [
                f"env_file {path}, of whose keys there is no example"
                for path in find_unlisted_env_files(facts.repository, found, container)
            ]
            made.leave(f"{found.name} ({container.where})", left)
    made.seen += [f"{found.name}: {each}" for each in found.unsupported]


def _simplify_depends_on(facts: RepositoryFindings, table: CommentedMapping) -> CommentedMapping:
    """Services of the spec have no check of Docker's: they are waited for until they are started."""
    waits = table.get("depends_on")
    if isinstance(waits, CommentedValue):
        kept = {name: how if name in facts.accessories else "started" for name, how in waits.value.items() if name}
        waits.value = list(kept) if set(kept.values()) == {"started"} else kept
        if not kept:
            del table["depends_on"]
    return table


def build_process_entries(
    made: SpecDraft, facts: RepositoryFindings, found: DetectedService, taken: set[str]
) -> dict[str, CommentedMapping]:
    """The other processes of a service's image, but for those that migrate and end."""
    entries: dict[str, CommentedMapping] = {}
    ended = find_one_shot_services(each for _, each in found.containers)
    for stack, container in found.other_containers:
        name = vocabulary.slugify(vocabulary.strip_environment(container.name)) or ""
        if container.name in ended or stack.kind == vocabulary.DEVELOPMENT or name in entries:
            continue
        if not name or name in taken or container.profiles:
            why = f"runs only with the profile {container.profiles}" if container.profiles else "its name is another's"
            made.leave(f"{container.name} ({container.where})", [f"an image of {found.name}, {why}"])
            continue
        table = entries[name] = CommentedMapping()
        table.put("image_of", found.name, container.where)
        more, left = container_entry.build_service_options(container, map_container_names(facts), facts.shared_network)
        if not _shares_env_file(container, found):
            _add_env_variables(facts, table, replace(found, name=name, containers=[(stack, container)]))
        table.update(_simplify_depends_on(facts, more))
        made.leave(f"{name} ({container.where})", left)
    return entries


def _shares_env_file(container: DetectedContainer, found: DetectedService) -> bool:
    """Whether it reads the file of the service whose image it runs: the keys stand there already."""
    its = [[fact.value for fact in each.env_files] for _, each in found.containers]
    return bool(container.env_files) and [fact.value for fact in container.env_files] in its


def _add_port_and_health(
    made: SpecDraft, facts: RepositoryFindings, here: YamlPath, table: CommentedMapping, found: DetectedService
) -> None:
    """Where it listens, and how it says that it is well."""
    port, health = found.port, _detect_health_path(facts, found)
    if port:
        others = [f"{fact.value} in {fact.where}" for fact in found.ports[1:] if not fact.guess]
        table.put("port", port.value, format_source_note(port) + (f"; {' and '.join(others[:3])}" if others else ""))
    else:
        table.put("port", 8080, "could not tell: nothing says where it listens; write: port: N")
    if not port or port.guess:
        made.decide((*here, "port"), f"where {found.name} listens" + (f": {port.value} is a guess" if port else ""))
    if health and _IS_URL_PATH(health.value):
        table.put("health", {"path": health.value}, format_source_note(health))
    else:
        table.put("health", {"path": "/health"}, "could not tell: nothing asks it; write: health: {path: /…}")
    if not health or health.guess:
        made.decide(
            (*here, "health"),
            f"which path of {found.name} answers 200 when it is well"
            + (f": {health.value} is a guess" if health else ""),
        )
    if found.language.websocket:
        table.put("websocket", True, format_source_note(found.language.websocket))


def _add_path_filters(made: SpecDraft, here: YamlPath, table: CommentedMapping, found: DetectedService) -> None:
    patterns = [fact for fact in found.image.sources if _IS_PATH_PATTERN(fact.value)] or [
        SourcedValue("**", found.image.dockerfile, guess=True)
    ]
    unknown = patterns[0].guess and patterns[0].value == "**"
    note = (
        f"could not tell what {found.image.dockerfile} copies"
        if unknown
        else _format_sources([fact.where for fact in patterns])
    )
    table.put("paths", [fact.value for fact in patterns], note)
    if unknown:
        made.decide((*here, "paths"), f"every change builds {found.name}: {note}; name its folders where you can")
    elif patterns[0].value == "**":
        made.decide(
            (*here, "paths"),
            f"every change builds {found.name}: {patterns[0].where} copies the whole repository",
        )


def _add_build_settings(table: CommentedMapping, found: DetectedService) -> None:
    image = found.image
    build = {"context": image.context.value} if image.context.value != "." else {}
    if image.dockerfile != f"{found.name}/Dockerfile":
        build["dockerfile"] = image.dockerfile
    build |= found.settings.value.values
    note = image.by or f"{image.dockerfile}; the context is a guess from what it copies"
    if len(render_flow_style(build)) > MAX_FLOW_WIDTH:
        table["build"] = made = CommentedMapping(note=note)
        made.update({key: CommentedValue(value) for key, value in build.items()})
    elif build:
        table.put("build", build, note)


def _add_test_entry(made: SpecDraft, here: YamlPath, table: CommentedMapping, found: DetectedService) -> None:
    test, known = found.test, found.language
    lines, folder, where, setup = known.test, known.folder, known.where, known.setup
    if test:
        lines, folder, where, setup = test.lines, test.folder, test.where, test.setup or known.setup
    script = "\n".join(line.rstrip() for line in lines).strip()
    script += "\n" if "\n" in script else ""
    if not script or not _IS_SCRIPT(script) or "${{" in script:
        inside = f"working_directory: {known.home}, " if known.home != "." else ""
        table.above.append(f"could not tell how to test it; write: test: {{{inside}run: …}}")
        made.decide(here, f"{found.name} is built without a test")
        return
    table["test"] = made_test = CommentedMapping(note="" if test else f"a guess from {where}")
    if setup and (_IS_FILE(setup[2]) if setup[1] == "version_file" else _IS_VERSION(setup[2])):
        made_test.put("setup", {setup[0]: {setup[1]: setup[2]} if setup[1] == "version_file" else setup[2]})
    if test:
        _add_test_environment(made, (*here, "test"), made_test, test)
    if folder != "." and _IS_FOLDER(folder):
        made_test.put("working_directory", folder)
    made_test.put("run", script, where if test else "")


def _add_test_environment(made: SpecDraft, here: YamlPath, table: CommentedMapping, test: TestSteps) -> None:
    """Containers beside the tests, and their environment; what an expression says there, nobody knows here."""
    if beside := {
        name: _build_test_service(each) for key, each in test.needs.items() if (name := vocabulary.slugify(key))
    }:
        table["services"] = services = CommentedMapping()
        services.update(beside)
    known = {key: fact for key, fact in test.env.items() if _IS_ENV_KEY(key) and _is_literal_line(fact.value)}
    if known:
        table["env"] = env = CommentedMapping()
        env.update({key: CommentedValue(fact.value, fact.where) for key, fact in known.items()})
    if left := [f"{key} ({fact.where})" for key, fact in test.env.items() if key not in known]:
        made.decide(here, f"tests have no secrets here: a value for {', '.join(left)}")


def _is_literal_line(value: Any) -> bool:
    return bool(_IS_SINGLE_LINE(value)) and "${{" not in value


def _build_test_service(given: YamlMapping) -> CommentedMapping:
    """A container beside the tests."""
    table = CommentedMapping()
    table.put("image", given.get_text("image"), given.where("image"))
    if ports := [
        port
        for item, _ in given.list_items("ports")
        if _IS_PUBLISHED_PORT(port := _format_port_mapping(format_scalar(item)))
    ]:
        table.put("ports", ports)
    if env := {key: value for key, value, _ in given.iter_pairs("env") if _IS_ENV_KEY(key) and _IS_SINGLE_LINE(value)}:
        table.put("env", env)
    if check := re.search(r"--health-cmd[= ](?:\"([^\"]*)\"|'([^']*)'|(\S+))", given.get_text("options")):
        table.put("health", next(filter(None, check.groups()), ""))
    return table


def _format_port_mapping(port: str) -> str:
    return f"{port}:{port}" if port.isdecimal() else port


def _detect_health_path(facts: RepositoryFindings, found: DetectedService) -> SourcedValue | None:
    """What asks it today: its own check, a workflow's curl, and then a guess."""
    health = found.health
    if health and not health.guess:
        return health
    own = {fact.value for (_, service), fact in facts.domains.items() if service == found.name}
    for place in facts.environments:
        for fact in place.urls:
            host, slash, path = re.sub(r"^https?://", "", str(fact.value)).partition("/")
            if host in own and slash and re.search(r"health|ping|status|ready|live|up$", path):
                return SourcedValue(f"/{path}", fact.where)
    return health


def _add_env_variables(facts: RepositoryFindings, table: CommentedMapping, found: DetectedService) -> None:
    env = CommentedMapping()
    for key, variable in detect_variables(facts.repository, found, facts.services, facts.database_server).items():
        domain = isinstance(variable.value, dict) and "domain" in variable.value
        public = all((place.name, found.name) in facts.domains for place in facts.environments)
        if not domain or public:
            env.put(key, variable.value, variable.note)
        else:
            env.put(
                key, {"secret": True}, f"{variable.note}, its own address: not every environment has a domain for it"
            )
    if env:
        table["env"] = env


def _format_sources(places: list[str]) -> str:
    """Several places, each file named once: Dockerfile:3, 7."""
    found: dict[str, list[str]] = {}
    for place in places:
        file, _, line = place.rpartition(":") if place.rpartition(":")[2].isdecimal() else (place, "", "")
        found.setdefault(file, []).append(line)
    return ", ".join(
        ":".join(filter(None, (file, ", ".join(dict.fromkeys(filter(None, lines_)))))) for file, lines_ in found.items()
    )


def format_source_note(fact: SourcedValue) -> str:
    """The place of a fact, as a comment has it."""
    return f"a guess from {fact.where}" if fact.guess else fact.where
