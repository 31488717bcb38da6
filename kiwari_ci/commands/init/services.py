"""Which services there are: one for each image, and what the repository says about each."""

import re
from dataclasses import dataclass, field
from typing import Any

from kiwari_ci.commands.init.build_preparations import BuildPreparation
from kiwari_ci.commands.init.build_settings import BuildSettings
from kiwari_ci.commands.init.callable_workflows import Callability, classify_callability
from kiwari_ci.commands.init.compose_files import DetectedComposeFile, DetectedContainer, find_one_shot_services
from kiwari_ci.commands.init.docker_commands import UNKNOWN_TEXT
from kiwari_ci.commands.init.dockerfiles import DetectedImage, find_port_option
from kiwari_ci.commands.init.gates import Gate, find_gate
from kiwari_ci.commands.init.workflow_jobs import BuildStep, DetectedWorkflows, TestSteps
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.image_reference import parse_image_reference
from kiwari_ci.readers.manifests import DetectedLanguage, detect_language, find_manifest_folder
from kiwari_ci.readers.proxy_config import ProxyRoute
from kiwari_ci.readers.repository import LocalRepository, is_within_folder
from kiwari_ci.readers.vocabulary import SourcedValue
from kiwari_ci.readers.yaml_document import format_scalar

_GENERIC_FOLDER_NAMES = {
    "docker",
    "build",
    "deploy",
    "deployment",
    "deployments",
    "container",
    "containers",
    "infra",
    "dockerfiles",
    "ops",
    "src",
}
_WORKER_WORDS = {"worker", "workers", "cron", "scheduler", "queue", "consumer", "migrate", "migration", "migrations",
              "migrator", "beat", "bot", "seed", "job", "jobs", "backup", "cli"}  # fmt: skip

FASTCGI_PORT = 9000
_PHP_FPM_BASE = re.compile(r"(^|/)php:[\w.-]*fpm|php-fpm")
_DATABASE_BASE = re.compile(
    r"(^|/)(postgres|postgis|timescaledb|mysql|mariadb|percona|mongo|redis|valkey|elasticsearch|clickhouse)"
    r"[\w-]*(:|@|$)"
)


@dataclass
class DetectedService:
    """A service, and all that was found about it."""

    name: str
    image: DetectedImage
    language: DetectedLanguage
    containers: list[tuple[DetectedComposeFile, DetectedContainer]]
    reference: SourcedValue | None  # the image's whole name, as compose or a workflow has it
    test: TestSteps | None = None
    callability: Callability = Callability.UNFIT  # of the workflow that has the test
    gate: Gate | None = None  # the jobs that its build waits for today
    ports: list[SourcedValue] = field(default_factory=list)
    unsupported: list[str] = field(default_factory=list)
    other_containers: list[tuple[DetectedComposeFile, DetectedContainer]] = field(
        default_factory=list
    )  # of its image, beside the one that serves
    settings: SourcedValue = field(default_factory=lambda: SourcedValue(BuildSettings(), ""))  # of its build
    preparations: list[BuildPreparation] = field(default_factory=list)  # steps of today before the build
    is_worker: bool = False  # it listens on no port
    speaks_fastcgi: bool = False  # a web server in another container asks it
    base_questions: list[str] = field(default_factory=list)  # what its Dockerfile must say to be built from others
    is_base: bool = False  # other images are built from it, and no container runs it
    runs_once: bool = False  # others wait until it has ended
    is_part: bool = False  # of a Dockerfile that another service is built from, too

    @property
    def port(self) -> SourcedValue | None:
        """Where it listens: the first that says so."""
        return self.ports[0] if self.ports else None

    @property
    def health(self) -> SourcedValue | None:
        """The path that its containers' health checks ask today, or a guess from the source."""
        deployed = []
        for_development = []
        for compose_file, container in self.containers:
            if compose_file.kind == vocabulary.DEVELOPMENT:
                for_development.append(container.health)
            else:
                deployed.append(container.health)
        for health in (*deployed, self.image.health, *for_development):
            if health:
                return health
        return self.language.health


@dataclass
class ServiceDetection:
    """The services of the spec, and the images without a service, each with the reason."""

    services: list[DetectedService]
    rejected: list[str]


def detect_services(
    repository: LocalRepository,
    images: list[DetectedImage],
    compose_files: list[DetectedComposeFile],
    workflows: DetectedWorkflows,
    routes: list[ProxyRoute],
) -> ServiceDetection:
    """Put together what compose files, workflows, Dockerfiles and manifests say of each image."""
    detection = ServiceDetection([], [])
    taken_names: set[str] = set()
    of_images = [
        _detect_service(repository, image, compose_files, workflows, len(images), taken_names) for image in images
    ]
    services = [part for service in of_images for part in _split_service(service, workflows, taken_names)]
    for service in services:
        service.ports = _collect_ports(service, routes)
        service.speaks_fastcgi = _speaks_fastcgi(service)
        if service.speaks_fastcgi:
            service.ports = [SourcedValue(FASTCGI_PORT, f"{service.image.dockerfile}: php-fpm")]
        reason = _explain_unsupported(service)
        if reason:
            for _, container in service.other_containers:
                reason += f"; {container.name} ({container.where}), of its image"
            detection.rejected.append(f"{service.name} ({service.image.dockerfile}): {reason}")
            continue
        is_worker_by_name = _is_worker_name(service.name) and all(port.guess for port in service.ports)
        service.is_worker = service.runs_once or is_worker_by_name
        service.test = _find_test_steps(service, workflows, len(images))
        if service.test:
            service.callability = classify_callability(service.test.workflow, workflows)
        service.gate = _find_gate(service, workflows)
        detection.services.append(service)
    return detection


def leave_out_files(services: list[DetectedService], paths: set[str], routes: list[ProxyRoute]) -> None:
    """Take from services what compose files say of them that no deploy uses."""
    for service in services:
        for pairs in (service.containers, service.other_containers):
            pairs[:] = [(file, container) for file, container in pairs if file.path not in paths]
        if not service.speaks_fastcgi:
            service.ports = _collect_ports(service, routes)


def _collect_ports(service: DetectedService, routes: list[ProxyRoute]) -> list[SourcedValue]:
    """The ports that anything says of a service, the most certain first; what only development says comes late."""
    container_names = {container.name for _, container in service.containers} | {service.name}
    ports = _list_container_ports(service, in_development=False)
    for route in routes:
        if route.container in container_names and route.port:
            ports.append(SourcedValue(route.port, route.where))
    if not (service.is_part and _is_worker_name(service.name)):
        ports += service.image.ports
    ports += _list_container_ports(service, in_development=True)
    if service.language.port:
        ports.append(service.language.port)
    return _sort_ports(ports)


def _list_container_ports(service: DetectedService, in_development: bool) -> list[SourcedValue]:
    ports: list[SourcedValue] = []
    for compose_file, container in service.containers:
        if (compose_file.kind == vocabulary.DEVELOPMENT) is in_development:
            ports += [*container.ports, *_find_env_ports(container), *_find_command_ports(container)]
    return ports


def _find_command_ports(container: DetectedContainer) -> list[SourcedValue]:
    """The port that an option of a container's command names, such as `--bind 0.0.0.0:8000`."""
    words = [format_scalar(word) for word, _ in container.table.list_items("command")]
    port = find_port_option(" ".join(words))
    return [SourcedValue(port, container.table.where("command"))] if port else []


def _detect_service(
    repository: LocalRepository,
    image: DetectedImage,
    compose_files: list[DetectedComposeFile],
    workflows: DetectedWorkflows,
    image_count: int,
    taken_names: set[str],
) -> DetectedService:
    """The service of an image, with all containers that run it."""
    steps = [step for step in workflows.builds if step.dockerfile == image.dockerfile]
    all_containers = [(file, container) for file in compose_files for container in file.containers]
    building = [
        (file, container)
        for file, container in all_containers
        if container.builds and container.dockerfile == image.dockerfile
    ]
    image_names = _list_image_names(steps, building)
    base_names = {parse_image_reference(str(image_name.value)).name for image_name in image_names}
    base_names |= {step.image.rpartition("/")[2] for step in steps}
    pulling = [
        (file, container)
        for file, container in all_containers
        if not container.builds and container.image and _get_image_base_name(container.image) in base_names
    ]
    one_shot = find_one_shot_services(container for _, container in all_containers)
    named_after = [container for file, container in building if file.kind != vocabulary.DEVELOPMENT]
    if not named_after and len({step.image for step in steps}) > 1:
        # A matrix builds several images of this Dockerfile: the container that serves gives the service its name.
        pulled = [container for _, container in pulling]
        named_after = sorted(pulled, key=lambda container: _rank_container(container, one_shot))[:1]
    home = find_manifest_folder(repository, image.dockerfile, str(image.context.value), image.sources)
    name = _choose_service_name(image, named_after, home, image_names, image_count)
    while name in taken_names:
        name = _choose_unique_name(name, image, taken_names)
    taken_names.add(name)
    if not pulling:
        pulling = [pair for pair in all_containers if _pulls_image_of(pair[1], name, repository)]
        image_names += _list_pulled_names(pulling)
    deployed = [(file, container) for file, container in [*building, *pulling] if file.kind != vocabulary.DEVELOPMENT]
    # What a service has in every environment comes from the other files, and this one says what differs.
    deployed.sort(key=lambda pair: pair[0].kind == vocabulary.DEPLOYED_DEVELOPMENT)
    service = DetectedService(
        name,
        image,
        detect_language(repository, home),
        deployed or building,
        image_names[0] if image_names else None,
    )
    deploying = {job.workflow for job in workflows.deploys} | {job.started_by for job in workflows.deploys}
    _add_build_settings(service, sorted(steps, key=lambda step: step.workflow not in deploying), building)
    _set_other_containers_apart(service, compose_files, one_shot)
    service.runs_once = any(container.name in one_shot for _, container in service.containers)
    return service


def _pulls_image_of(container: DetectedContainer, service_name: str, repository: LocalRepository) -> bool:
    """Whether a container that builds nothing runs a service's image, by the names, though no workflow here builds it.

    An image of one's own is one in the owner's namespace, or one whose registry or namespace only a variable says.
    """
    if container.builds or not container.image:
        return False
    image = parse_image_reference(container.image)
    written_image = parse_image_reference(container.table.get_text("image"))
    owner = repository.slug[0].partition("/")[0].lower() if repository.slug else ""
    is_own = "$" in written_image.repository or (bool(owner) and owner in image.repository.lower().split("/")[:-1])
    container_name = vocabulary.slugify(vocabulary.strip_environment(container.name))
    return is_own and (container_name == service_name or _matches_service_name(image.repository.lower(), service_name))


def _list_pulled_names(
    pulling: list[tuple[DetectedComposeFile, DetectedContainer]],
) -> list[SourcedValue]:
    """The whole names of pulled images, without those of which a variable says a part."""
    names = []
    for _, container in pulling:
        repository_name = parse_known_repository(container.image)
        if repository_name:
            names.append(SourcedValue(repository_name, container.where))
    return names


def _list_image_names(
    steps: list[BuildStep], building: list[tuple[DetectedComposeFile, DetectedContainer]]
) -> list[SourcedValue]:
    """The whole names of an image, as workflows and compose files that build it have them."""
    names = [SourcedValue(step.image, step.where) for step in steps if step.image and UNKNOWN_TEXT not in step.image]
    for _, container in building:
        repository_name = parse_known_repository(container.image)
        if "/" in container.image and repository_name:
            names.append(SourcedValue(repository_name, container.where))
    return names


def _add_build_settings(
    service: DetectedService,
    steps: list[BuildStep],
    building: list[tuple[DetectedComposeFile, DetectedContainer]],
) -> None:
    """How its image is built: as the workflow does that pushes it under the service's name, else as any."""
    steps = sorted(steps, key=lambda step: not _matches_service_name(step.image, service.name))
    if steps and _matches_service_name(steps[0].image, service.name):
        service.reference = SourcedValue(steps[0].image, steps[0].where)
    service.preparations = steps[0].preparations if steps else []
    settings = [SourcedValue(step.settings, step.where) for step in steps]
    for compose_file, container in building:
        if compose_file.kind != vocabulary.DEVELOPMENT:
            settings.append(SourcedValue(container.settings, container.where))
    service.settings = settings[0] if settings else SourcedValue(BuildSettings(), "")
    for note in service.settings.value.unsupported:
        service.unsupported.append(f"{note} ({service.settings.where})")


def _set_other_containers_apart(
    service: DetectedService, compose_files: list[DetectedComposeFile], one_shot: set[str]
) -> None:
    """Of several containers of one file that run the image, the first that serves is the service."""
    for compose_file in compose_files:
        of_file = [container for file, container in service.containers if file is compose_file]
        of_file.sort(key=lambda container: _rank_container(container, one_shot))
        for container in of_file[1:]:
            service.other_containers.append((compose_file, container))
            service.containers.remove((compose_file, container))


def _rank_container(container: DetectedContainer, ended: set[str]) -> tuple[bool, bool]:
    """Those that serve come before those that work, and those that end."""
    return _is_worker_name(container.name) or container.name in ended, not container.ports


def _split_service(
    service: DetectedService, workflows: DetectedWorkflows, taken_names: set[str]
) -> list[DetectedService]:
    """A service, and those of its Dockerfile that are built otherwise, and so have images of their own."""
    parts: dict[str, DetectedService] = {}
    steps = [step for step in workflows.builds if step.dockerfile == service.image.dockerfile]
    for compose_file, container in list(service.other_containers):
        serving = [served for file, served in service.containers if file is compose_file]
        name = vocabulary.slugify(vocabulary.strip_environment(container.name))
        if not name or not serving or not _runs_other_image(serving[0], container):
            continue
        service.other_containers.remove((compose_file, container))
        if name in parts:
            parts[name].containers.append((compose_file, container))
            continue
        if name in taken_names:
            name = _choose_unique_name(name, service.image, taken_names)
        taken_names.add(name)
        parts[name] = _build_part(service, name, compose_file, container, steps)
    other_builds = _find_other_builds(service, steps, list(parts))
    if other_builds:
        service.unsupported.append(f"built otherwise, too: {', '.join(other_builds)}")
    return [service, *parts.values()]


def _build_part(
    service: DetectedService,
    name: str,
    compose_file: DetectedComposeFile,
    container: DetectedContainer,
    steps: list[BuildStep],
) -> DetectedService:
    """A service of a Dockerfile that another service is built from, too."""
    settings = SourcedValue(container.settings, container.where)
    reference = None
    preparations: list[BuildPreparation] = []
    for step in steps:
        if _matches_service_name(step.image, name):
            settings = SourcedValue(step.settings, step.where)
            preparations = step.preparations
            reference = SourcedValue(step.image, step.where)
            break
    return DetectedService(
        name,
        service.image,
        service.language,
        [(compose_file, container)],
        reference,
        unsupported=[f"{note} ({settings.where})" for note in settings.value.unsupported],
        settings=settings,
        preparations=preparations,
        is_part=True,
    )


def _find_other_builds(service: DetectedService, steps: list[BuildStep], part_names: list[str]) -> list[str]:
    """The places that build a service's image with other settings than the spec gets."""
    builds = []
    for step in steps:
        if not any(_matches_service_name(step.image, name) for name in part_names):
            builds.append((step.settings, step.where))
    for _, container in [*service.containers, *service.other_containers]:
        if container.builds:
            builds.append((container.settings, container.where))
    own = service.settings.value.values
    places = [f"{where}{_describe_arguments(settings, own)}" for settings, where in builds if settings.values != own]
    return list(dict.fromkeys(places))


def _describe_arguments(settings: BuildSettings, own: dict[str, Any]) -> str:
    """The build arguments that differ from those of the spec, of which one image for all environments has one value."""
    own_arguments = own.get("args", {})
    arguments = settings.values.get("args", {})
    differing = [f"{key}={value}" for key, value in arguments.items() if own_arguments.get(key) != value]
    if not differing:
        return ""
    return f" with {', '.join(differing)}, where here one image serves all environments"


def _runs_other_image(first: DetectedContainer, other: DetectedContainer) -> bool:
    """Whether two containers of one Dockerfile run two images."""
    if first.image and other.image:
        return _get_image_base_name(first.image) != _get_image_base_name(other.image)
    return first.builds and other.builds and first.settings.values != other.settings.values


def _matches_service_name(image: str, name: str) -> bool:
    """Whether an image is called like a service, alone or behind another word."""
    return UNKNOWN_TEXT not in image and re.search(rf"(^|[/_.-]){re.escape(name)}$", image) is not None


def parse_known_repository(image: str) -> str:
    """An image without its tag, in lower case; empty when a part of it is a variable."""
    repository = parse_image_reference(image).repository.lower()
    return repository if re.fullmatch(r"[a-z0-9][\w./:-]*", repository) else ""


def _get_image_base_name(image: str) -> str:
    """The last word of an image's name; what a variable or a placeholder stands for comes before it."""
    return parse_image_reference(image).name.lower()


def _choose_service_name(
    image: DetectedImage,
    containers: list[DetectedContainer],
    home: str,
    image_names: list[SourcedValue],
    image_count: int,
) -> str:
    """What compose calls it, the Dockerfile's suffix, its folder, the image: the first that is a name."""
    candidates: list[str] = []
    container_names = {vocabulary.slugify(vocabulary.strip_environment(container.name)) for container in containers}
    if len(container_names) == 1:
        candidates += container_names
    file_name = image.dockerfile.rpartition("/")[2]
    suffix = re.sub(r"(?i)^(dockerfile|containerfile)[._-]?|[._-]?(dockerfile|containerfile)$", "", file_name)
    if not vocabulary.classify_environment(suffix):
        candidates.append(suffix)
    for folder in (home if home != "." else "", image.dockerfile.rpartition("/")[0], str(image.context.value)):
        candidates += [part for part in reversed(folder.split("/")) if part not in _GENERIC_FOLDER_NAMES]
    candidates += [vocabulary.strip_environment(container.name) for container in containers[:1]]
    if image_count > 1:
        candidates += [str(image_name.value).rpartition("/")[2] for image_name in image_names]
    for candidate in candidates:
        name = vocabulary.slugify(candidate)
        if name:
            return name
    return "app"


def _choose_unique_name(name: str, image: DetectedImage, taken_names: set[str]) -> str:
    """A name that is free: with the folder, the Dockerfile's ending, or a number."""
    folder, _, file_name = image.dockerfile.rpartition("/")
    candidates = [
        f"{folder.rpartition('/')[2]}-{name}",
        f"{name}-{file_name.partition('.')[2]}",
        folder,
        image.dockerfile,
    ]
    for candidate in candidates:
        slug = vocabulary.slugify(candidate)
        if slug and slug not in taken_names:
            return slug
    return f"{name}-{len(taken_names) + 1}"


def _find_env_ports(container: DetectedContainer) -> list[SourcedValue]:
    return [
        SourcedValue(int(value), place)
        for key, value, place in [*container.env, *container.example_env]
        if key == "PORT" and value and value.isdecimal()
    ]


def _sort_ports(ports: list[SourcedValue]) -> list[SourcedValue]:
    """Certain ports before guesses; each port once."""
    ports_by_number: dict[int, SourcedValue] = {}
    for port in sorted(ports, key=lambda port: port.guess):
        if 0 < port.value < 65536:
            ports_by_number.setdefault(port.value, port)
    return list(ports_by_number.values())


def _is_worker_name(name: str) -> bool:
    """Whether a container is a worker, by its name."""
    return bool(_WORKER_WORDS & set(vocabulary.split_words(name)))


def _explain_unsupported(service: DetectedService) -> str:
    """Why an image is no service of this spec; empty for one that can be."""
    if _DATABASE_BASE.search(service.image.base):
        return "a database, of which two would open the same data during a deploy: an accessory whose image is pulled"
    return ""


def runs_php_fpm(container: DetectedContainer) -> bool:
    """Whether the command of a container starts php-fpm, which a web server in another container asks."""
    words = " ".join(format_scalar(word) for word, _ in container.table.list_items("command")).split()
    return bool(words) and re.fullmatch(r"php-fpm[\d.]*", words[0].rpartition("/")[2]) is not None


def _speaks_fastcgi(service: DetectedService) -> bool:
    """Whether an image is php-fpm, and no web server is in it."""
    certain_ports = {port.value for port in service.ports if not port.guess}
    return _PHP_FPM_BASE.search(service.image.base) is not None and certain_ports <= {FASTCGI_PORT}


def _find_test_steps(service: DetectedService, workflows: DetectedWorkflows, image_count: int) -> TestSteps | None:
    """The job of a workflow that tests this service: the one that fits best."""
    building = {step.workflow for step in workflows.builds if step.dockerfile == service.image.dockerfile}
    best = None
    best_score = 0
    for test in workflows.tests:
        score = _score_test(test, service.language.home, building, image_count)
        if score > best_score:
            best = test
            best_score = score
    return best


def _find_gate(service: DetectedService, workflows: DetectedWorkflows) -> Gate | None:
    """The jobs that the build of a service waits for, where its drafted test is not all of them."""
    paths = [step.workflow for step in workflows.builds if step.dockerfile == service.image.dockerfile]
    gate = next(filter(None, (find_gate(path, workflows) for path in dict.fromkeys(paths))), None)
    test = service.test
    if gate and test and gate.jobs == [test.job] and gate.path == test.workflow and not test.dropped:
        return None
    return gate


def _score_test(test: TestSteps, home: str, building_workflows: set[str], image_count: int) -> int:
    """How well a job fits a service: by its folder, its path filter or the words of its commands; 0 for not at all."""
    if any(UNKNOWN_TEXT in line or "${{" in line for line in test.lines):
        return 0
    has_home = home != "."
    if test.folder != ".":
        is_inside = is_within_folder(test.folder, home)
        is_around = has_home and is_within_folder(home, test.folder)
        return 4 if is_inside or is_around else 0
    if has_home:
        home_word = re.compile(rf"(?<![\w-]){re.escape(home)}(?![\w-])")
        is_filtered = any(is_within_folder(path.removesuffix("/**"), home) for path in test.paths)
        if is_filtered or any(home_word.search(line) for line in test.lines):
            return 3
    if image_count == 1:
        return 2
    builds_only_there = building_workflows == {test.workflow}
    return 1 if builds_only_there and not has_home else 0
