"""Which services there are: one for each image, and what the repository says about each."""

import re
from dataclasses import dataclass, field

from kiwari_ci.commands.init.build_settings import Settings
from kiwari_ci.commands.init.compose_files import Container, Stack, ending
from kiwari_ci.commands.init.docker_commands import UNKNOWN
from kiwari_ci.commands.init.dockerfiles import Image
from kiwari_ci.commands.init.workflow_jobs import TestSteps, Workflows
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.manifests import Language, home_of, language
from kiwari_ci.readers.proxy_config import Route
from kiwari_ci.readers.repository import Repository, within
from kiwari_ci.readers.vocabulary import Fact

_NOT_A_NAME = {
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
_RUNS_ONLY = {"worker", "workers", "cron", "scheduler", "queue", "consumer", "migrate", "migration", "migrations",
              "migrator", "beat", "bot", "seed", "job", "jobs", "backup", "cli"}  # fmt: skip


@dataclass
class Found:
    """A service, and all that was found about it."""

    name: str
    image: Image
    language: Language
    containers: list[tuple[Stack, Container]]
    reference: Fact | None  # the image's whole name, as compose or a workflow has it
    test: TestSteps | None = None
    ports: list[Fact] = field(default_factory=list)
    beyond: list[str] = field(default_factory=list)
    further: list[tuple[Stack, Container]] = field(default_factory=list)  # of its image, beside the one that serves
    settings: Fact = field(default_factory=lambda: Fact(Settings(), ""))  # of its build
    is_worker: bool = False  # it listens on no port
    is_part: bool = False  # of a Dockerfile that another service is built from, too

    @property
    def port(self) -> Fact | None:
        """Where it listens: the first that says so."""
        return self.ports[0] if self.ports else None

    @property
    def health(self) -> Fact | None:
        """What is asked, by those that ask today, or a guess from the source."""
        near, away = (
            [each.health for stack, each in self.containers if (stack.kind == vocabulary.AWAY) is far]
            for far in (False, True)
        )
        return next(filter(None, [*near, self.image.health, *away]), None) or self.language.health


@dataclass
class Services:
    """The services of the spec, and those images that none is made of: their name and why."""

    kept: list[Found]
    left: list[str]


def services(
    repository: Repository, images: list[Image], stacks: list[Stack], flows: Workflows, routes: list[Route]
) -> Services:
    """Put together what compose files, workflows, Dockerfiles and manifests say of each image."""
    made = Services([], [])
    taken: set[str] = set()
    known = [_found(repository, image, stacks, flows, len(images), taken) for image in images]
    for found in [each for one in known for each in _apart(one, flows, taken)]:
        image = found.image
        upstream = {container.name for _, container in found.containers} | {found.name}
        routed = [Fact(route.port, route.where) for route in routes if route.container in upstream and route.port]
        said, away = (
            [
                fact
                for stack, each in found.containers
                if (stack.kind == vocabulary.AWAY) is far
                for fact in [*each.ports, *_port_of_env(each)]
            ]
            for far in (False, True)
        )
        found.ports = _in_order(
            [
                *said,
                *routed,
                *(() if found.is_part and _only_runs(found.name) else image.ports),
                *away,
                *([found.language.port] if found.language.port else []),
            ]
        )
        if why := _speaks_otherwise(found):
            with_it = "".join(f"; {each.name} ({each.where}), of its image" for _, each in found.further)
            made.left.append(f"{found.name} ({image.dockerfile}): {why}{with_it}")
            continue
        found.is_worker = _only_runs(found.name) and all(fact.guess for fact in found.ports)
        found.test = _test(found, flows, len(images))
        made.kept.append(found)
    return made


def _found(
    repository: Repository, image: Image, stacks: list[Stack], flows: Workflows, count: int, taken: set[str]
) -> Found:
    steps = [step for step in flows.builds if step.dockerfile == image.dockerfile]
    built = [
        (stack, each)
        for stack in stacks
        for each in stack.containers
        if each.builds and each.dockerfile == image.dockerfile
    ]
    names = [Fact(step.image, step.where) for step in steps if step.image and UNKNOWN not in step.image]
    names += [
        Fact(reference(each.image), each.where) for _, each in built if "/" in each.image and reference(each.image)
    ]
    known = {
        name.rpartition("/")[2] for name in [*(step.image for step in steps), *(str(fact.value) for fact in names)]
    }
    pulled = [
        (stack, each) for stack in stacks for each in stack.containers
        if not each.builds and each.image and _base(each.image) in known
    ]  # fmt: skip
    home = home_of(repository, image.dockerfile, str(image.context.value), image.sources)
    ended = ending(each for _, each in [*built, *pulled])
    named = [each for stack, each in built if stack.kind != vocabulary.AWAY]
    if not named and len({step.image for step in steps}) > 1:  # a matrix: the one that serves is the service
        named = sorted((each for _, each in pulled), key=lambda each: _serves_late(each, ended))[:1]
    name = _name(image, named, home, names, count)
    while name in taken:
        name = _another(name, image, taken)
    mine = [pair for pair in [*built, *pulled] if pair[0].kind != vocabulary.AWAY] or built
    found = Found(name, image, language(repository, home), mine, names[0] if names else None)
    taken.add(name)
    steps = sorted(steps, key=lambda step: not _is_named(step.image, name))
    if steps and _is_named(steps[0].image, name):
        found.reference = Fact(steps[0].image, steps[0].where)
    found.beyond = [f"{beyond} ({step.where})" for step in steps for beyond in step.beyond]
    said = [Fact(step.settings, step.where) for step in steps]
    said += [Fact(each.settings, each.where) for stack, each in built if stack.kind != vocabulary.AWAY]
    found.settings = said[0] if said else Fact(Settings(), "")
    found.beyond += [f"{left} ({found.settings.where})" for left in found.settings.value.left]
    for stack in stacks:  # several containers of one file run one image: the first that serves is the service
        same = sorted((pair for pair in mine if pair[0] is stack), key=lambda pair: _serves_late(pair[1], ended))
        for _, other in same[1:]:
            found.further.append((stack, other))
            found.containers.remove((stack, other))
    return found


def _serves_late(container: Container, ended: set[str]) -> tuple[bool, bool]:
    """Those that serve come before those that work, and those that end."""
    return _only_runs(container.name) or container.name in ended, not container.ports


def _apart(found: Found, flows: Workflows, taken: set[str]) -> list[Found]:
    """A service, and those of its Dockerfile that are built otherwise, and so have images of their own."""
    made: dict[str, Found] = {}
    steps = [each for each in flows.builds if each.dockerfile == found.image.dockerfile]
    for stack, other in list(found.further):
        first = next((each for its, each in found.containers if its is stack), other)
        name = vocabulary.word(vocabulary.bare_name(other.name))
        if not name or not _is_another(first, other):
            continue
        found.further.remove((stack, other))
        if name in made:
            made[name].containers.append((stack, other))
            continue
        if name in taken:
            name = _another(name, found.image, taken)
        taken.add(name)
        step = next((each for each in steps if _is_named(each.image, name)), None)
        settings = Fact(step.settings, step.where) if step else Fact(other.settings, other.where)
        image = Fact(step.image, step.where) if step and UNKNOWN not in step.image else None
        left = [f"{each} ({settings.where})" for each in settings.value.left]
        made[name] = Found(
            name, found.image, found.language, [(stack, other)], image, beyond=left, settings=settings, is_part=True
        )
    said = [(step.settings, step.where) for step in steps if not any(_is_named(step.image, name) for name in made)]
    said += [(each.settings, each.where) for _, each in [*found.containers, *found.further] if each.builds]
    if others := [where for settings, where in said if settings.known != found.settings.value.known]:
        found.beyond.append(f"built otherwise, too: {', '.join(dict.fromkeys(others))}")
    return [found, *made.values()]


def _is_another(first: Container, other: Container) -> bool:
    """Whether two containers of one Dockerfile run two images."""
    if first.image and other.image:
        return _base(first.image) != _base(other.image)
    return first.builds and other.builds and first.settings.known != other.settings.known


def _is_named(image: str, name: str) -> bool:
    """Whether an image is called like a service, alone or behind another word."""
    return UNKNOWN not in image and re.search(rf"(^|[/_.-]){re.escape(name)}$", image) is not None


def reference(image: str) -> str:
    """An image without its tag, in lower case; empty when a part of it is a variable."""
    name = re.sub(r"(:[^/]*)?(@.*)?$", "", re.sub(r":\$\{?.*$", "", image)).lower()
    return name if re.fullmatch(r"[a-z0-9][\w./:-]*", name) else ""


def _base(image: str) -> str:
    """The last word of an image's name; what a variable or a placeholder stands for comes before it."""
    return re.sub(r"(:[^/]*)?(@.*)?$", "", image).rpartition("/")[2].lower()


def _name(image: Image, built: list[Container], home: str, names: list[Fact], count: int) -> str:
    """What compose calls it, the Dockerfile's suffix, its folder, the image: the first that is a name."""
    file = image.dockerfile.rpartition("/")[2]
    ending = re.sub(r"(?i)^(dockerfile|containerfile)[._-]?|[._-]?(dockerfile|containerfile)$", "", file)
    ending = "" if vocabulary.kind_of(ending) else ending
    folders = [home if home != "." else "", image.dockerfile.rpartition("/")[0], str(image.context.value)]
    called = {vocabulary.word(vocabulary.bare_name(each.name)) for each in built}
    folder_names = [part for folder in folders for part in reversed(folder.split("/"))]
    wanted = [
        *(called if len(called) == 1 else ()),
        ending,
        *(name for name in folder_names if name not in _NOT_A_NAME),
        *(vocabulary.bare_name(each.name) for each in built[:1]),
        *(str(fact.value).rpartition("/")[2] for fact in names if count > 1),
        "app",
    ]
    return next(filter(None, map(vocabulary.word, wanted)))


def _another(name: str, image: Image, taken: set[str]) -> str:
    """A name that is free: with the folder, the Dockerfile's ending, or a number."""
    folder, _, file = image.dockerfile.rpartition("/")
    for more in (f"{folder.rpartition('/')[2]}-{name}", f"{name}-{file.partition('.')[2]}", folder, image.dockerfile):
        if (made := vocabulary.word(more)) and made not in taken:
            return made
    return f"{name}-{len(taken) + 1}"


def _port_of_env(container: Container) -> list[Fact]:
    return [
        Fact(int(value), place) for key, value, place in container.env if key == "PORT" and value and value.isdecimal()
    ]


def _in_order(ports: list[Fact]) -> list[Fact]:
    """Those that say it before those that guess; each port once."""
    found: dict[int, Fact] = {}
    for fact in sorted(ports, key=lambda fact: fact.guess):
        if 0 < fact.value < 65536:
            found.setdefault(fact.value, fact)
    return list(found.values())


def _only_runs(name: str) -> bool:
    """Whether a container is a worker, by its name."""
    return bool(_RUNS_ONLY & set(vocabulary.tokens(name)))


def _speaks_otherwise(found: Found) -> str:
    """Why an image is no service of this spec: it does not speak HTTP."""
    certain = [fact for fact in found.ports if not fact.guess]
    if re.search(r"(^|/)php:[\w.-]*fpm|php-fpm", found.image.base) and {fact.value for fact in certain} <= {9000}:
        return "php-fpm speaks FastCGI, and a service of the spec answers HTTP"
    return ""


def _test(found: Found, flows: Workflows, count: int) -> TestSteps | None:
    """The job of a workflow that tests this service: by its folder, its path filter or the words of its commands."""
    home = found.language.home
    built = {step.workflow for step in flows.builds if step.dockerfile == found.image.dockerfile}

    def speaks(test: TestSteps) -> int:
        if any(UNKNOWN in line or "${{" in line for line in test.lines):
            return 0
        if test.folder != ".":
            return 4 if within(test.folder, home) or within(home, test.folder) and home != "." else 0
        filtered = home != "." and any(within(path.removesuffix("/**"), home) for path in test.paths)
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
