"""The program is killed, or the server loses its power, at each point of a deploy: what served serves, and the next
deploy finds its way.

A scenario runs once, and the state of the server is kept at every point at which it differs from the one before.
From each of these the server goes on: as it is, or after a boot.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from kiwari_ci.engines.compose.deploy_programs import deploy as deploy_program
from tests.amounts import sample_or_all
from tests.host.fake_docker import Image, Killed
from tests.host.watching import ended_too_early, unserved
from tests.host.world import DB, WEB, WORKER, Outcome, Snapshot, World, compose_labels

MIGRATING = WEB.replace('deploy.name-cache: "11"', 'deploy.name-cache: "11"\n      deploy.migrate: "./migrate up"')
API = (
    WEB.replace("web", "api")
    .replace("env_file: .env", "depends_on:\n      - db")
    .replace('deploy.name-cache: "11"', 'deploy.name-cache: "11"\n      deploy.migrate: "./migrate up"')
)
CACHE_SECONDS = {"web": 11.0, "api": 11.0}
PUBLISHING = WEB.replace("    networks:", '    ports: ["8080:8080"]\n    networks:')
ALWAYS = WORKER.replace("unless-stopped", "always")
STUCK = Image(hangs=True)
EXITS = Image(exits_after=0.5, exit_code=3)
DIES_LATE = Image(exits_after=6, exit_code=4)
FALLS_SILENT = Image(silent_after=6)
ONLY_BESIDE = Image(works_only_beside=True)
BAD = {
    "exits": EXITS,
    "stuck": STUCK,
    "dies late": DIES_LATE,
    "falls silent": FALLS_SILENT,
    "works only beside": ONLY_BESIDE,
}


@dataclasses.dataclass
class Scenario:
    """A request that is interrupted, on a server on which `before` serves."""

    before: dict[str, Image | None]
    new: dict[str, Image | None]
    services: tuple[str, ...] = (WEB,)
    rest: str = ""
    verb: str = "deploy"
    is_foreign: bool = False  # a person made what serves before
    is_unrecorded: bool = False  # a person let Compose make what serves before, for the same service

    def prepare(self, root: Path) -> World:
        world = World(root, *self.services, rest=self.rest)
        world.machine.images["postgres:17"] = Image(has_health_check=True)
        world.machine.public.add("postgres:17")
        if self.is_foreign or self.is_unrecorded:
            for name in self.before:
                reference = f"ghcr.io/acme/{name}:old"
                world.machine.images[reference] = Image()
                labels = compose_labels(name) if self.is_unrecorded else {}
                world.machine.run_by_hand(name, reference, "proxy", labels=labels)
            world.machine.wait(2)
        elif self.before:
            world.deploy({name: world.image(name, 1) for name in self.before}, 1)
            images = {name: world.image(name, 2) for name in self.before}
            assert world.deploy(images, 2).code == 0
        for name, behaviour in self.before.items():
            if behaviour:  # what serves has become bad
                world.image(name, 2, behaviour)
        return world

    def run(self, world: World) -> None:
        """The request."""
        if self.verb == "rollback":
            world.rollback(next(iter(self.before)))
        else:
            images = {name: world.image(name, 3, behaviour) for name, behaviour in self.new.items()}
            world.deploy(images, 3)

    @property
    def names(self) -> list[str]:
        """The services that are deployed."""
        return sorted({**self.before, **self.new})

    @property
    def watched(self) -> tuple[str, ...]:
        """The services that serve before, and have to go on."""
        good = [name for name, behaviour in self.before.items() if behaviour is None]
        return tuple(name for name in good if name != "worker")


SCENARIOS = {
    "the first deploy": Scenario({}, {"web": None}),
    "a good image": Scenario({"web": None}, {"web": None}),
    "an image that exits": Scenario({"web": None}, {"web": EXITS}),
    "an image that never answers": Scenario({"web": None}, {"web": STUCK}),
    "an image that dies while it is watched": Scenario({"web": None}, {"web": DIES_LATE}),
    "an image that falls silent while it is watched": Scenario({"web": None}, {"web": FALLS_SILENT}),
    "an image that works beside only": Scenario({"web": None}, {"web": ONLY_BESIDE}),
    "in place of one that does not answer": Scenario({"web": STUCK}, {"web": None}),
    "in place of one that does not answer, a bad one": Scenario({"web": STUCK}, {"web": EXITS}),
    "with a published port": Scenario({"web": None}, {"web": None}, (PUBLISHING,)),
    "a worker": Scenario({"worker": None}, {"worker": None}, (WORKER,)),
    "a worker's first": Scenario({}, {"worker": None}, (WORKER,)),
    "a worker that exits": Scenario({"worker": None}, {"worker": EXITS}, (ALWAYS,)),
    "a worker that dies while it is watched": Scenario({"worker": None}, {"worker": DIES_LATE}, (WORKER,)),
    "a migration": Scenario({"web": None}, {"web": None}, (MIGRATING,)),
    "a set of two with an accessory": Scenario(
        {"web": None, "api": None}, {"web": None, "api": None}, (WEB, API, DB), "volumes:\n  data:\n"
    ),
    "a set of two, one bad": Scenario(
        {"web": None, "api": None}, {"web": EXITS, "api": None}, (WEB, API, DB), "volumes:\n  data:\n"
    ),
    "the first of a set": Scenario({}, {"web": None, "api": None}, (WEB, API, DB), "volumes:\n  data:\n"),
    "a rollback": Scenario({"web": None}, {}, verb="rollback"),
    "in place of one that a person made": Scenario({"web": None}, {"web": None}, is_foreign=True),
    "in place of one that a person made, a bad one": Scenario({"web": None}, {"web": DIES_LATE}, is_foreign=True),
    "in place of one of the same project": Scenario({"web": None}, {"web": None}, (PUBLISHING,), is_unrecorded=True),
    "in place of one of the same project, a bad one": Scenario({"web": None}, {"web": ONLY_BESIDE}, is_unrecorded=True),
    "in place of a person's worker": Scenario({"worker": None}, {"worker": None}, (WORKER,), is_foreign=True),
    "in place of a person's worker, a bad one": Scenario(
        {"worker": None}, {"worker": DIES_LATE}, (WORKER,), is_foreign=True
    ),
    "a worker's rollback": Scenario({"worker": None}, {}, (WORKER,), verb="rollback"),
}


def moments_of(scenario: Scenario, world: World) -> list[Snapshot]:
    """The states that the server has while the scenario runs."""
    return moments_of_request(world, lambda: scenario.run(world))


def moments_of_request(world: World, request: Callable[[], object]) -> list[Snapshot]:
    """The states that the server has while a request runs."""
    seen: dict[str, Snapshot] = {}

    def look() -> None:
        snapshot = world.snapshot()
        seen.setdefault(snapshot.fingerprint(), snapshot)

    world.machine.at_each_point = look
    request()
    world.machine.at_each_point = None
    look()
    return list(seen.values())


def check_that_it_serves(scenario: Scenario, world: World, where: str) -> None:
    for name in scenario.watched:
        reached = world.machine.reached_by(name)
        assert any(world.machine.answers(container) for container in reached), f"{where}: nobody serves {name}"


def check_that_it_is_clean(scenario: Scenario, world: World, images: dict[str, str], where: str) -> None:
    """One container for each service, and the pin, the record and the container agree."""
    accessories = ["db"] if DB in scenario.services else []
    earlier_containers = [f"{name}-before" for name in images] if scenario.is_foreign else []
    assert world.names() == sorted([*images, *accessories, *earlier_containers]), where
    for name, digest in images.items():
        assert world.serves(name, digest), f"{where}: {name}"
        assert f"@{digest} " in world.record(name)[-1], where
        assert world.container(name).restart_policy == (
            "always" if ALWAYS in scenario.services else "unless-stopped"
        ), where
        assert not world.container(name).is_one_off, where
    assert world.pins() == images, where
    assert not list(deploy_program.MEMORY_FOLDER.iterdir()), where
    assert not list(world.folder.glob(".deploys/incoming-*")), where
    assert not list(world.folder.glob(".deploys/.set-aside-*")), where


def wait_for_boot(world: World) -> None:
    world.machine.boot()
    world.machine.wait(3)


AFTERWARDS: dict[str, Callable[[World], None]] = {
    "killed": lambda world: None,
    "booted": wait_for_boot,
    "booted just now": lambda world: world.machine.boot(),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_nobody_finds_nobody(root: Path, name: str) -> None:
    """While a request is at work that nothing interrupts, whatever becomes of it."""
    scenario = SCENARIOS[name]
    world = scenario.prepare(root)
    world.machine.forget()
    world.machine.watched = scenario.watched
    world.machine.settle()

    scenario.run(world)

    world.machine.wait(12)
    assert world.machine.trace
    assert not unserved(world.machine.trace, CACHE_SECONDS)
    assert not ended_too_early(world.machine, CACHE_SECONDS)
    assert not world.machine.doubles


@pytest.mark.parametrize(
    "seed", [*range(12), *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(12, 40))]
)
def test_several_deploys_of_which_each_is_killed(root: Path, seed: int) -> None:
    """Good images, bad images and rollbacks, killed at any point, with boots between them: a good one ends it all."""
    random = Random(seed)
    scenario = SCENARIOS[random.choice(["a good image", "a worker", "a set of two with an accessory", "a migration"])]
    world = scenario.prepare(root)
    story = []
    for sequence in range(3, 6):
        world.machine.kill_at(random.randrange(1, 250))
        if random.random() < 0.2:
            name = random.choice(scenario.names)
            story.append(f"rollback of {name}")
            request: Callable[[], Outcome] = functools.partial(world.rollback, name)
        else:
            kinds = {name: random.choice(["good", "good", *BAD]) for name in scenario.names}
            images = {name: world.image(name, f"{sequence} {kind}", BAD.get(kind)) for name, kind in kinds.items()}
            story.append(f"deploy of {kinds}")
            request = functools.partial(world.deploy, images, sequence)
        with contextlib.suppress(Killed):
            request()
        world.machine.revive()
        story[-1] += f", {world.machine.points} points"
        if random.random() < 0.3:
            story.append("boot")
            wait_for_boot(world)
        check_that_it_serves(scenario, world, "; ".join(story))

    images = {name: world.image(name, 9) for name in scenario.names}
    outcome = world.deploy(images, 9)

    world.machine.wait(1)
    assert outcome.code == 0, f"{story}\n{outcome.text}"
    check_that_it_is_clean(scenario, world, images, f"{story}\n{outcome.text}")
    assert not world.machine.doubles, story


@pytest.mark.parametrize("one_of", sample_or_all(9, 1), ids=["some points", "every point"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_kill_at_each_point(root: Path, name: str, one_of: int) -> None:
    scenario = SCENARIOS[name]
    world = scenario.prepare(root)
    moments = moments_of(scenario, world)
    assert len(moments) > one_of
    first = list(SCENARIOS).index(name) % one_of  # so that the scenarios together have every point

    for afterwards in AFTERWARDS:
        for number, moment in list(enumerate(moments))[first::one_of]:
            where = f"{name}, {afterwards}, moment {number} of {len(moments)}"
            world.restore(moment)
            go_on(scenario, world, number, afterwards, where)


def go_on(scenario: Scenario, world: World, number: int, afterwards: str, where: str) -> None:
    """From a moment at which the program was killed: the server serves, and a deploy puts everything right."""
    if afterwards == "booted just now" and number % 6:
        return  # it differs little from the other boot
    world.machine.watched = ()
    AFTERWARDS[afterwards](world)
    if afterwards != "booted just now":
        check_that_it_serves(scenario, world, where)
        world.machine.watched = scenario.watched
    if afterwards == "booted" and number % 2:
        return  # what serves was looked at; the deploy that follows hardly depends on the boot
    # Now it is the job again, and now a newer commit.
    version = 3 if number % 4 > 1 and all(scenario.new.get(name) is None for name in scenario.names) else 4
    images = {name: world.image(name, version) for name in scenario.names}
    outcome = world.deploy(images, version)
    early = ended_too_early(world.machine, CACHE_SECONDS)
    world.machine.watched = ()
    world.machine.wait(1)

    assert outcome.code == 0, f"{where}\n{outcome.text}"
    check_that_it_is_clean(scenario, world, images, where)
    assert not unserved(world.machine.trace, CACHE_SECONDS), where
    assert not early and not world.machine.doubles, where
