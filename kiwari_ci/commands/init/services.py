"""Which services there are: one for each image, and what the repository says about each."""

import re
from dataclasses import dataclass, field

from kiwari_ci.commands.init.build_settings import BuildSettings
from kiwari_ci.commands.init.compose_files import DetectedComposeFile, DetectedContainer, find_one_shot_services
from kiwari_ci.commands.init.docker_commands import UNKNOWN_TEXT
from kiwari_ci.commands.init.dockerfiles import DetectedImage
from kiwari_ci.commands.init.workflow_jobs import DetectedWorkflows, TestSteps
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
    beyond: list[str] = field(default_factory=list)
    further: list[tuple[DetectedComposeFile, DetectedContainer]] = field(
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

    kept: list[DetectedService]
    left: list[str]


def detect_services(
    repository: LocalRepository,
    images: list[DetectedImage],
    stacks: list[DetectedComposeFile],
    flows: DetectedWorkflows,
    routes: list[ProxyRoute],
) -> ServiceDetection:
    """Put together what compose files, workflows, Dockerfiles and manifests say of each image."""
    made = ServiceDetection([], [])
    taken: set[str] = set()
    known = [_detect_service(repository, image, stacks, flows, len(images), taken) for image in images]
    for found in [each for one in known for each in _split_service(one, flows, taken)]:
        image = found.image
        upstream = {container.name for _, container in found.containers} | {found.name}
        routed = [
            SourcedValue(route.port, route.where) for route in routes if route.container in upstream and route.port
        ]
        said, away = (
            [
                fact
                for stack, each in found.containers
                if (stack.kind == vocabulary.DEVELOPMENT) is far
                for fact in [*each.ports, *_find_env_ports(each)]
            ]
            for far in (False, True)
        )
        found.ports = _sort_ports(
            [
                *said,
                *routed,
                *(() if found.is_part and _is_worker_name(found.name) else image.ports),
                *away,
                *([found.language.port] if found.language.port else []),
            ]
        )
        if why := _explain_unsupported(found):
            with_it = "".join(f"; {each.name} ({each.where}), of its image" for _, each in found.further)
            made.left.append(f"{found.name} ({image.dockerfile}): {why}{with_it}")
            continue
        found.is_worker = _is_worker_name(found.name) and all(fact.guess for fact in found.ports)
        found.test = _find_test_steps(found, flows, len(images))
        made.kept.append(found)
    return made


def _detect_service(
    repository: LocalRepository,
    image: DetectedImage,
    stacks: list[DetectedComposeFile],
    flows: DetectedWorkflows,
    count: int,
    taken: set[str],
) -> DetectedService:
    steps = [step for step in flows.builds if step.dockerfile == image.dockerfile]
    built = [
        (stack, each)
        for stack in stacks
        for each in stack.containers
        if each.builds and each.dockerfile == image.dockerfile
    ]
    names = [SourcedValue(step.image, step.where) for step in steps if step.image and UNKNOWN_TEXT not in step.image]
    names += [
        SourcedValue(parse_known_repository(each.image), each.where)
        for _, each in built
        if "/" in each.image and parse_known_repository(each.image)
    ]
    known = {
        name.rpartition("/")[2] for name in [*(step.image for step in steps), *(str(fact.value) for fact in names)]
    }
    pulled = [
        (stack, each) for stack in stacks for each in stack.containers
        if not each.builds and each.image and _get_image_base_name(each.image) in known
    ]  # fmt: skip
    home = find_manifest_folder(repository, image.dockerfile, str(image.context.value), image.sources)
    ended = find_one_shot_services(each for _, each in [*built, *pulled])
    named = [each for stack, each in built if stack.kind != vocabulary.DEVELOPMENT]
    if not named and len({step.image for step in steps}) > 1:  # a matrix: the one that serves is the service
        named = sorted((each for _, each in pulled), key=lambda each: _rank_container(each, ended))[:1]
    name = _choose_service_name(image, named, home, names, count)
    while name in taken:
        name = _choose_unique_name(name, image, taken)
    mine = [pair for pair in [*built, *pulled] if pair[0].kind != vocabulary.DEVELOPMENT] or built
    found = DetectedService(name, image, detect_language(repository, home), mine, names[0] if names else None)
    taken.add(name)
    steps = sorted(steps, key=lambda step: not _matches_service_name(step.image, name))
    if steps and _matches_service_name(steps[0].image, name):
        found.reference = SourcedValue(steps[0].image, steps[0].where)
    found.beyond = [f"{beyond} ({step.where})" for step in steps for beyond in step.beyond]
    said = [SourcedValue(step.settings, step.where) for step in steps]
    said += [SourcedValue(each.settings, each.where) for stack, each in built if stack.kind != vocabulary.DEVELOPMENT]
    found.settings = said[0] if said else SourcedValue(BuildSettings(), "")
    found.beyond += [f"{left} ({found.settings.where})" for left in found.settings.value.left]
    for stack in stacks:  # several containers of one file run one image: the first that serves is the service
        same = sorted((pair for pair in mine if pair[0] is stack), key=lambda pair: _rank_container(pair[1], ended))
        for _, other in same[1:]:
            found.further.append((stack, other))
            found.containers.remove((stack, other))
    return found


def _rank_container(container: DetectedContainer, ended: set[str]) -> tuple[bool, bool]:
    """Those that serve come before those that work, and those that end."""
    return _is_worker_name(container.name) or container.name in ended, not container.ports


def _split_service(found: DetectedService, flows: DetectedWorkflows, taken: set[str]) -> list[DetectedService]:
    """A service, and those of its Dockerfile that are built otherwise, and so have images of their own."""
    made: dict[str, DetectedService] = {}
    steps = [each for each in flows.builds if each.dockerfile == found.image.dockerfile]
    for stack, other in list(found.further):
        first = next((each for its, each in found.containers if its is stack), other)
        name = vocabulary.slugify(vocabulary.strip_environment(other.name))
        if not name or not _runs_other_image(first, other):
            continue
        found.further.remove((stack, other))
        if name in made:
            made[name].containers.append((stack, other))
            continue
        if name in taken:
            name = _choose_unique_name(name, found.image, taken)
        taken.add(name)
        step = next((each for each in steps if _matches_service_name(each.image, name)), None)
        settings = SourcedValue(step.settings, step.where) if step else SourcedValue(other.settings, other.where)
        image = SourcedValue(step.image, step.where) if step and UNKNOWN_TEXT not in step.image else None
        left = [f"{each} ({settings.where})" for each in settings.value.left]
        made[name] = DetectedService(
            name, found.image, found.language, [(stack, other)], image, beyond=left, settings=settings, is_part=True
        )
    said = [
        (step.settings, step.where)
        for step in steps
        if not any(_matches_service_name(step.image, name) for name in made)
    ]
    said += [(each.settings, each.where) for _, each in [*found.containers, *found.further] if each.builds]
    if others := [where for settings, where in said if settings.known != found.settings.value.known]:
        found.beyond.append(f"built otherwise, too: {', '.join(dict.fromkeys(others))}")
    return [found, *made.values()]


def _runs_other_image(first: DetectedContainer, other: DetectedContainer) -> bool:
    """Whether two containers of one Dockerfile run two images."""
    if first.image and other.image:
        return _get_image_base_name(first.image) != _get_image_base_name(other.image)
    return first.builds and other.builds and first.settings.known != other.settings.known


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
