"""Collects the services, environments, hosts, databases and domains of a repository, and what a spec cannot have."""

import posixpath
import re

from kiwari_ci.commands.init import databases, environments, spec_draft
from kiwari_ci.commands.init.base_images import add_base_images
from kiwari_ci.commands.init.compose_files import (
    DetectedComposeFile,
    DetectedContainer,
    detect_proxy,
    has_variable_version,
    is_postgres_image,
    iter_mounts,
)
from kiwari_ci.commands.init.databases import DetectedDatabaseServer
from kiwari_ci.commands.init.dockerfiles import ImageDetection
from kiwari_ci.commands.init.domains import assign_domains, find_plain_http, is_loopback
from kiwari_ci.commands.init.environments import DetectedEnvironment
from kiwari_ci.commands.init.findings import RepositoryFindings
from kiwari_ci.commands.init.other_stacks import list_other_containers, set_other_deploys_apart
from kiwari_ci.commands.init.services import DetectedService, detect_services, leave_out_files
from kiwari_ci.commands.init.workflow_files import describe_inputs
from kiwari_ci.commands.init.workflow_jobs import DetectedWorkflows
from kiwari_ci.commands.init.written_env_files import EnvFileReaders, set_other_env_files_apart
from kiwari_ci.effective_spec.values import has_version_or_digest
from kiwari_ci.file_output.generated_files import is_generated_file
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.compose_of_today import find_project_of_examples
from kiwari_ci.readers.env_file import ENV_EXAMPLE_PATH, EnvExample, parse_env_example
from kiwari_ci.readers.image_reference import parse_image_reference
from kiwari_ci.readers.proxy_config import ProxyRoute, read_proxy_routes
from kiwari_ci.readers.repository import LocalRepository, get_parent_folder, join_path
from kiwari_ci.readers.vocabulary import SourcedValue
from kiwari_ci.readers.workflow import is_own_machine


def collect_findings(
    repository: LocalRepository,
    identity: tuple[SourcedValue, SourcedValue],
    compose_files: list[DetectedComposeFile],
    workflows: DetectedWorkflows,
    images: ImageDetection,
) -> tuple[RepositoryFindings, list[str]]:
    """The facts of the first spec, and in words what `init` does not write or nobody could tell."""
    slug, branch = identity
    routes = read_proxy_routes(repository)
    detection = detect_services(repository, images.images, compose_files, workflows, routes)
    services = detection.services
    for service in services:
        add_base_images(repository, service, services)
    set_other_deploys_apart(workflows, services, compose_files)
    detected_environments = environments.detect_environments(workflows, compose_files, str(branch.value))
    unused_files = _find_unused_files(services, detected_environments)
    compose_files = [compose_file for compose_file in compose_files if compose_file.path not in unused_files]
    leave_out_files(services, set(unused_files), routes)
    env_file_readers = EnvFileReaders(repository, detected_environments)
    other_env_files = set_other_env_files_apart(env_file_readers, services, detected_environments)
    containers = [
        container
        for compose_file in compose_files
        if compose_file.kind != vocabulary.DEVELOPMENT
        for container in compose_file.containers
    ]
    for container in containers:
        container.data_folders = _find_data_folders(repository, container, detected_environments)
    hosts = environments.detect_hosts(detected_environments, _list_container_names(containers))
    project_names = _find_project_names(repository, detected_environments, compose_files)
    network = _find_shared_network(services)
    own_files = {file.path for service in services for file, _ in service.containers}
    separate_servers: list[DetectedContainer] = []
    database_server = None
    is_deployed_today = any(environment.workflows for environment in detected_environments)
    if is_deployed_today:
        separate_servers = databases.list_separate_servers(compose_files, own_files)
        has_own = databases.has_own_server(compose_files, own_files)
        database_notes = [databases.describe_separate_server(server, has_own) for server in separate_servers]
    else:
        shared_network = str(network.value) if network else "proxy"
        database_server, database_notes = databases.detect_database_server(
            repository, compose_files, detected_environments, shared_network
        )
    assignment = assign_domains(services, detected_environments, routes)
    plain_http = find_plain_http(services, detected_environments, routes, assignment.domains.values())
    name, _, _ = spec_draft.derive_project_names(services, str(slug.value))
    proxy_containers = _detect_proxy_containers(containers, services)
    other_containers = list_other_containers(services, compose_files) if is_deployed_today else []
    accessories, rejected_images = _detect_accessories(
        [container for container in containers if container not in [*separate_servers, *other_containers]],
        services,
        database_server,
        str(slug.value),
    )
    rejected_dockerfiles = [*detection.rejected, *(f"{path}: {reason}" for path, reason in images.skipped)]
    facts = RepositoryFindings(
        repository=repository,
        name=name,
        slug=slug,
        branch=branch,
        services=services,
        accessories=accessories,
        containers=containers,
        environments=detected_environments,
        hosts=hosts,
        stack_names=environments.detect_stack_names(detected_environments, hosts, project_names),
        domains=assignment.domains,
        further_addresses=assignment.further,
        stripped_addresses=assignment.stripped,
        plain_http=plain_http.where,
        host_proxy=next((route.where for route in routes if is_loopback(route.container)), ""),
        has_routes_to_names=any(route.container and not is_loopback(route.container) for route in routes),
        database_server=database_server,
        proxies=[*proxy_containers, *_detect_proxies_by_configuration(containers, routes)],
        proxy_containers=proxy_containers,
        network=network,
        rejected_dockerfiles=rejected_dockerfiles,
        pull_requests=workflows.pull_requests,
        runner=_find_common_runner(workflows),
        unnamed_pushes=workflows.unnamed_pushes,
        project_names=project_names,
        env_file_readers=env_file_readers,
    )
    rejected_images += [
        f"{container.name} ({container.where}): in a stack of its own, which stays as it is, outside of the spec"
        for container in other_containers
        if container in containers and container not in separate_servers and not detect_proxy(container.image)
    ]
    accessory_images = {container.image for container in accessories.values()}
    other_servers = [note for note in database_notes if not any(image in note for image in accessory_images)]
    return facts, [
        *rejected_dockerfiles,
        *other_servers,
        *assignment.unknown,
        *filter(None, [plain_http.unsupported]),
        *rejected_images,
        *workflows.container_options,
        *_describe_other_runners(workflows),
        *describe_inputs(workflows),
        *other_env_files,
        *(f"{path}: not used, because {reason}" for path, reason in unused_files.items()),
    ]


def _find_common_runner(workflows: DetectedWorkflows) -> list[str]:
    """The labels of a runner of one's own on which all jobs build, test and deploy; empty if they differ."""
    all_labels = {runner.labels for runner in workflows.runners}
    labels = list(all_labels.pop()) if len(all_labels) == 1 else []
    return labels if is_own_machine(labels) else []


def _describe_other_runners(workflows: DetectedWorkflows) -> list[str]:
    """In words, the runners on which builds and tests run today, where they are neither the usual one nor common."""
    if _find_common_runner(workflows):
        return []
    places: dict[tuple[str, ...], list[str]] = {}
    for runner in workflows.runners:
        is_usual = all(label.startswith("ubuntu-") for label in runner.labels)
        if not is_usual and not runner.deploys and runner.where not in places.setdefault(runner.labels, []):
            places[runner.labels].append(runner.where)
    return [
        f"builds or tests run on {', '.join(labels)} ({', '.join(wheres[:3])}): `project.runner`"
        for labels, wheres in places.items()
    ]


def _find_unused_files(
    services: list[DetectedService], detected_environments: list[DetectedEnvironment]
) -> dict[str, str]:
    """The compose files that are for no environment, and whose services each environment has in a file of its own.

    What is deployed today counts, so without a deploy all files are used. A file beside one of an environment is its
    base.
    """
    kinds = {environment.kind for environment in detected_environments if environment.workflows}
    unused: dict[str, str] = {}
    used: set[str] = set()
    for service in services:
        files = [file for file, _ in [*service.containers, *service.other_containers]]
        own_files = [file for file in files if file.kind in kinds]
        own_folders = {get_parent_folder(file.path) for file in own_files}
        has_own_files = bool(kinds) and kinds <= {file.kind for file in own_files}
        own_paths = ", ".join(dict.fromkeys(file.path for file in own_files))
        for kind in kinds:
            first, *others = list(dict.fromkeys(file.path for file in files if file.kind == kind)) or [""]
            for path in others:
                unused.setdefault(path, f"{first} is for {kind}, too: another application needs a spec of its own")
        for file in files:
            if file.kind:
                continue
            if has_own_files and get_parent_folder(file.path) not in own_folders:
                unused.setdefault(file.path, f"its services are in {own_paths}")
            else:
                used.add(file.path)
    return {path: reason for path, reason in unused.items() if path not in used}


def _find_project_names(
    repository: LocalRepository,
    detected_environments: list[DetectedEnvironment],
    compose_files: list[DetectedComposeFile],
) -> dict[str, SourcedValue]:
    """The Compose project of each environment: by the example of its env file, else by its own Compose file."""
    names = {}
    examples = [_parse_env_example(path, repository) for path in repository.matching(ENV_EXAMPLE_PATH)]
    for environment in detected_environments:
        for compose_file in compose_files:
            if compose_file.kind == environment.kind and compose_file.name:
                names[environment.name] = compose_file.name
        if project := find_project_of_examples(examples, environment.kind):
            names[environment.name] = project
    return names


def _parse_env_example(path: str, repository: LocalRepository) -> EnvExample:
    text = repository.read(path)
    return parse_env_example(path, text, is_generated_file(path, text))


def _find_data_folders(
    repository: LocalRepository, container: DetectedContainer, deployed: list[DetectedEnvironment]
) -> dict[str, str]:
    """The folders beside today's Compose file that a container may write to, each with its full path on the server.

    What the repository has is no data. Nothing is known where several folders are deployed from the file.
    """
    users = [environment for environment in deployed if container.kind in ("", environment.kind)]
    folders = {str(folder.value) for environment in users for folder in environment.folders}
    folder = folders.pop() if len(folders) == 1 else ""
    if not folder.startswith("/") or "$" in folder:
        return {}
    compose_folder = get_parent_folder(container.where.rpartition(":")[0])
    data_folders: dict[str, str] = {}
    for source, mount in iter_mounts(container):
        is_beside = source.startswith(("./", "../")) and not mount.endswith(":ro")
        path = join_path(compose_folder, source)
        if is_beside and not repository.has(path) and path not in repository.folders:
            data_folders[source] = posixpath.normpath(posixpath.join(folder, source))
    return data_folders


def _list_container_names(containers: list[DetectedContainer]) -> dict[str, set[str]]:
    """The names that Compose files give to containers, by the kind of environment that each file is for."""
    names: dict[str, set[str]] = {}
    for container in containers:
        name = str(container.container_name.value) if container.container_name else ""
        if name and "$" not in name:
            names.setdefault(container.kind, set()).add(name)
    return names


def _find_shared_network(services: list[DetectedService]) -> SourcedValue | None:
    """Find the first external network that a container of a service joins."""
    for service in services:
        for _, container in service.containers:
            if container.networks:
                return container.networks[0]
    return None


def _detect_proxy_containers(
    containers: list[DetectedContainer], services: list[DetectedService]
) -> list[SourcedValue]:
    """The proxies that are containers here, known by their images.

    A web server that the repository builds is a service, which a deploy replaces.
    """
    places_of_services = {container.where for service in services for _, container in service.containers}
    proxies = []
    for container in containers:
        is_service = container.builds or container.where in places_of_services
        proxy = "" if is_service else detect_proxy(container.image)
        if proxy:
            proxies.append(SourcedValue(proxy, container.where))
    return proxies


def _detect_proxies_by_configuration(
    containers: list[DetectedContainer], routes: list[ProxyRoute]
) -> list[SourcedValue]:
    """Detect the proxies that read labels of the containers, or that have a Caddyfile."""
    by_label = [container.proxy for container in containers if container.proxy]
    by_file = [SourcedValue("caddy", route.where) for route in routes if "addyfile" in route.where]
    return [*by_label, *by_file]


def _detect_accessories(
    containers: list[DetectedContainer],
    services: list[DetectedService],
    database_server: DetectedDatabaseServer | None,
    slug: str,
) -> tuple[dict[str, DetectedContainer], list[str]]:
    """Detect accessories, by their names in the spec, and explain the containers that no spec can have."""
    service_containers = {
        id(container) for service in services for _, container in [*service.containers, *service.other_containers]
    }
    service_names = {service.name for service in services}
    database_containers = database_server.containers if database_server else set()
    accessories: dict[str, DetectedContainer] = {}
    rejected: dict[str, str] = {}
    for container in containers:
        if id(container) in service_containers or not container.image or container.builds:
            continue
        is_database = is_postgres_image(container.image) and container.name in database_containers
        name = _derive_accessory_name(container.name)
        if is_database or detect_proxy(container.image):
            continue
        reason = _explain_rejected_image(container.image, slug.partition("/")[0].lower())
        if name in service_names:
            reason = f"not the image that is built for the service {name}"
        if container.profiles:
            reason = f"which runs only with the profile {container.profiles}"
        if name and not reason:
            accessories.setdefault(name, container)
        else:
            rejected.setdefault(container.name, f"{container.name} ({container.where}): {container.image}, {reason}")
    return accessories, [
        message for name, message in rejected.items() if _derive_accessory_name(name) not in accessories
    ]


def _derive_accessory_name(container_name: str) -> str:
    return vocabulary.slugify(vocabulary.strip_environment(container_name))


def _explain_rejected_image(image: str, owner: str) -> str:
    """Explain why the spec cannot have an image; empty if it can."""
    if re.match(rf"(ghcr\.io/)?{re.escape(owner)}/", image.lower()):
        return "an image of yours that no Dockerfile here was found for"
    if "$" in parse_image_reference(image).repository:
        return "which only a variable names: give it a value in an .env.example beside the file, and run init again"
    if has_variable_version(image):
        return ""
    return "" if has_version_or_digest(image) else "which names no version: `accessories` wants one, or a digest"
