"""Which services there are: one for each image, and what the repository says about each."""

import re
from dataclasses import dataclass, field

from kiwari_ci.commands.init.build_settings import BuildSettings
from kiwari_ci.commands.init.compose_files import DetectedComposeFile, DetectedContainer, find_one_shot_services
from kiwari_ci.commands.init.docker_commands import UNKNOWN_TEXT
from kiwari_ci.commands.init.dockerfiles import DetectedImage
from kiwari_ci.commands.init.workflow_jobs import BuildStep, DetectedWorkflows, TestSteps
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.image_reference import parse_image_reference
from kiwari_ci.readers.manifests import DetectedLanguage, detect_language, find_manifest_folder
from kiwari_ci.readers.proxy_config import ProxyRoute
from kiwari_ci.readers.repository import LocalRepository, is_within_folder
from kiwari_ci.readers.vocabulary import SourcedValue

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


@dataclass
class DetectedService:
    """A service, and all that was found about it."""

    name: str
    image: DetectedImage
    language: DetectedLanguage
    containers: list[tuple[DetectedComposeFile, DetectedContainer]]
    reference: SourcedValue | None  # the image's whole name, as compose or a workflow has it
    test: TestSteps | None = None
    ports: list[SourcedValue] = field(default_factory=list)
    unsupported: list[str] = field(default_factory=list)
    other_containers: list[tuple[DetectedComposeFile, DetectedContainer]] = field(
        default_factory=list
    )  # of its image, beside the one that serves
    settings: SourcedValue = field(default_factory=lambda: SourcedValue(BuildSettings(), ""))  # of its build
    is_worker: bool = False  # it listens on no port
    is_part: bool = False  # of a Dockerfile that another service is built from, too

    @property
    def port(self) -> SourcedValue | None:
        """Where it listens: the first that says so."""
        return self.ports[0] if self.ports else None

    @property
    def health(self) -> SourcedValue | None:
        """What is asked, by those that ask today, or a guess from the source."""
        near, away = (
            [each.health for stack, each in self.containers if (stack.kind == vocabulary.DEVELOPMENT) is far]
            for far in (False, True)
        )
        return next(filter(None, [*near, self.image.health, *away]), None) or self.language.health


@dataclass
class ServiceDetection:
    """The services of the spec, and those images that none is made of: their name and why."""

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
        reason = _explain_unsupported(service)
        if reason:
            for _, container in service.other_containers:
                reason += f"; {container.name} ({container.where}), of its image"
            detection.rejected.append(f"{service.name} ({service.image.dockerfile}): {reason}")
            continue
        service.is_worker = _is_worker_name(service.name) and all(port.guess for port in service.ports)
        service.test = _find_test_steps(service, workflows, len(images))
        detection.services.append(service)
    return detection


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
            ports += [*container.ports, *_find_env_ports(container)]
    return ports


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
    one_shot = find_one_shot_services(container for _, container in [*building, *pulling])
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
    service = DetectedService(
        name,
        image,
        detect_language(repository, home),
        deployed or building,
        image_names[0] if image_names else None,
    )
    _add_build_settings(service, steps, building)
    _set_other_containers_apart(service, compose_files, one_shot)
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
    for step in steps:
        service.unsupported += [f"{note} ({step.where})" for note in step.unsupported]
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


def _split_service(found: DetectedService, flows: DetectedWorkflows, taken: set[str]) -> list[DetectedService]:
    """A service, and those of its Dockerfile that are built otherwise, and so have images of their own."""
    made: dict[str, DetectedService] = {}
    steps = [each for each in flows.builds if each.dockerfile == found.image.dockerfile]
    for stack, other in list(found.other_containers):
        first = next((each for its, each in found.containers if its is stack), other)
        name = vocabulary.slugify(vocabulary.strip_environment(other.name))
        if not name or not _runs_other_image(first, other):
            continue
        found.other_containers.remove((stack, other))
        if name in made:
            made[name].containers.append((stack, other))
            continue
        if name in taken:
            name = _choose_unique_name(name, found.image, taken)
        taken.add(name)
        step = next((each for each in steps if _matches_service_name(each.image, name)), None)
        settings = SourcedValue(step.settings, step.where) if step else SourcedValue(other.settings, other.where)
        image = SourcedValue(step.image, step.where) if step and UNKNOWN_TEXT not in step.image else None
        left = [f"{each} ({settings.where})" for each in settings.value.unsupported]
        made[name] = DetectedService(
            name,
            found.image,
            found.language,
            [(stack, other)],
            image,
            unsupported=left,
            settings=settings,
            is_part=True,
        )
    said = [
        (step.settings, step.where)
        for step in steps
        if not any(_matches_service_name(step.image, name) for name in made)
    ]
    said += [(each.settings, each.where) for _, each in [*found.containers, *found.other_containers] if each.builds]
    if others := [where for settings, where in said if settings.values != found.settings.value.values]:
        found.unsupported.append(f"built otherwise, too: {', '.join(dict.fromkeys(others))}")
    return [found, *made.values()]


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
    image: DetectedImage, built: list[DetectedContainer], home: str, names: list[SourcedValue], count: int
) -> str:
    """What compose calls it, the Dockerfile's suffix, its folder, the image: the first that is a name."""
    file = image.dockerfile.rpartition("/")[2]
    ending = re.sub(r"(?i)^(dockerfile|containerfile)[._-]?|[._-]?(dockerfile|containerfile)$", "", file)
    ending = "" if vocabulary.classify_environment(ending) else ending
    folders = [home if home != "." else "", image.dockerfile.rpartition("/")[0], str(image.context.value)]
    called = {vocabulary.slugify(vocabulary.strip_environment(each.name)) for each in built}
    folder_names = [part for folder in folders for part in reversed(folder.split("/"))]
    wanted = [
        *(called if len(called) == 1 else ()),
        ending,
        *(name for name in folder_names if name not in _GENERIC_FOLDER_NAMES),
        *(vocabulary.strip_environment(each.name) for each in built[:1]),
        *(str(fact.value).rpartition("/")[2] for fact in names if count > 1),
        "app",
    ]
    return next(filter(None, map(vocabulary.slugify, wanted)))


def _choose_unique_name(name: str, image: DetectedImage, taken: set[str]) -> str:
    """A name that is free: with the folder, the Dockerfile's ending, or a number."""
    folder, _, file = image.dockerfile.rpartition("/")
    for more in (f"{folder.rpartition('/')[2]}-{name}", f"{name}-{file.partition('.')[2]}", folder, image.dockerfile):
        if (made := vocabulary.slugify(more)) and made not in taken:
            return made
    return f"{name}-{len(taken) + 1}"


def _find_env_ports(container: DetectedContainer) -> list[SourcedValue]:
    return [
        SourcedValue(int(value), place)
        for key, value, place in container.env
        if key == "PORT" and value and value.isdecimal()
    ]


def _sort_ports(ports: list[SourcedValue]) -> list[SourcedValue]:
    """Those that say it before those that guess; each port once."""
    found: dict[int, SourcedValue] = {}
    for fact in sorted(ports, key=lambda fact: fact.guess):
        if 0 < fact.value < 65536:
            found.setdefault(fact.value, fact)
    return list(found.values())


def _is_worker_name(name: str) -> bool:
    """Whether a container is a worker, by its name."""
    return bool(_WORKER_WORDS & set(vocabulary.split_words(name)))


def _explain_unsupported(found: DetectedService) -> str:
    """Why an image is no service of this spec: it does not speak HTTP."""
    certain = [fact for fact in found.ports if not fact.guess]
    if re.search(r"(^|/)php:[\w.-]*fpm|php-fpm", found.image.base) and {fact.value for fact in certain} <= {9000}:
        return "php-fpm speaks FastCGI, and a service of the spec answers HTTP"
    return ""


def _find_test_steps(found: DetectedService, flows: DetectedWorkflows, count: int) -> TestSteps | None:
    """The job of a workflow that tests this service: by its folder, its path filter or the words of its commands."""
    home = found.language.home
    built = {step.workflow for step in flows.builds if step.dockerfile == found.image.dockerfile}

    def speaks(test: TestSteps) -> int:
        if any(UNKNOWN_TEXT in line or "${{" in line for line in test.lines):
            return 0
        if test.folder != ".":
            return (
                4 if is_within_folder(test.folder, home) or is_within_folder(home, test.folder) and home != "." else 0
            )
        filtered = home != "." and any(is_within_folder(path.removesuffix("/**"), home) for path in test.paths)
        named = home != "." and any(re.search(rf"(?<![\w-]){re.escape(home)}(?![\w-])", line) for line in test.lines)
        return (
            3
            if filtered or named
            else 2
            if count == 1
            else 1
            if test.workflow in built and len(built) == 1 and home == "."
            else 0
        )

    best = max(flows.tests, key=speaks, default=None)
    return best if best and speaks(best) else None
