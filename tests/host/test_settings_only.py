"""A deploy of the same image with other settings, which is killed: old and new containers have the same digest.

So what is judged afterwards is the container, not its image.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from kiwari_ci.engines.compose.deploy_programs import deploy as deploy_program
from tests.amounts import sample_or_all
from tests.host.fake_docker import Image
from tests.host.test_kills import AFTERWARDS, CACHE_SECONDS, moments_of_request
from tests.host.watching import unserved
from tests.host.world import WEB, WORKER, Outcome, World, compose_file

EXITS = Image(exits_after=0.5, exit_code=3)
DIES_LATE = Image(exits_after=6, exit_code=4)
NEVER_ANSWERS = Image(hangs=True)
MOUNTED = "    volumes:\n      - ./app.conf:/etc/app.conf:ro\n    networks:"
RECREATED = WEB.replace('deploy.name-cache: "11"', 'deploy.name-cache: "11"\n      deploy.rollout: "recreate"')
PUBLISHING = WEB.replace("    networks:", '    ports: ["8080:8080"]\n    networks:')


@dataclasses.dataclass
class Change:
    """A service whose settings a deploy changes, and what its container does with the new ones."""

    service: str
    new: Image | None = None
    are_files_sent: bool = True  # or else a person has copied them before
    is_section_changed: bool = True  # or else only the file that the service mounts

    @property
    def name(self) -> str:
        return "worker" if "worker:" in self.service else "web"

    def files(self, mode: str) -> dict[str, str]:
        """The compose file and the mounted file; with the mode `new`, something in them has changed."""
        section = mode if self.is_section_changed else "old"
        service = self.service.replace("    networks:", f"    environment:\n      MODE: {section}\n{MOUNTED}")
        return {
            "docker-compose.yml": "# Files beside it: app.conf\n" + compose_file(service),
            "app.conf": mode,
        }

    def prepare(self, root: Path) -> World:
        """The old settings serve, with the second image of two."""
        world = World(root, self.service)
        for version in (1, 2):
            outcome = world.deploy({self.name: world.image(self.name, version)}, version, files=self.files("old"))
            assert outcome.code == 0, outcome.text
        if self.new:
            world.machine.modes["new"] = self.new
        return world

    def run(self, world: World) -> Outcome:
        """Deploy the same image with the new settings."""
        files = self.files("new")
        if not self.are_files_sent:
            for name, text in files.items():
                (world.folder / name).write_text(text)
        return world.deploy({self.name: world.image(self.name, 2)}, 3, files=files if self.are_files_sent else None)

    def serving(self, world: World) -> str:
        """The mode of the one container that serves under the name of the service."""
        reached = [each for each in world.machine.reached_by(self.name) if world.machine.answers(each)]
        modes = {each.environment["MODE"] for each in reached}
        return modes.pop() if len(modes) == 1 else f"{sorted(modes)}"


CHANGES = {
    "start-first": Change(WEB),
    "start-first, copied by hand": Change(WEB, are_files_sent=False),
    "start-first, a mounted file": Change(WEB, is_section_changed=False),
    "start-first, a bad one": Change(WEB, NEVER_ANSWERS),
    "start-first with a port": Change(PUBLISHING),
    "start-first with a port, a bad one": Change(PUBLISHING, DIES_LATE),
    "recreate": Change(RECREATED),
    "recreate, a bad one": Change(RECREATED, NEVER_ANSWERS),
    "worker": Change(WORKER),
    "worker, copied by hand": Change(WORKER, are_files_sent=False),
    "worker, a mounted file": Change(WORKER, is_section_changed=False),
    "worker, a bad one": Change(WORKER, EXITS),
    "worker, one that dies late": Change(WORKER, DIES_LATE),
}


# What the ordinary tests try: each way of replacing a container, with good settings and with bad ones.
SOME_CHANGES = {
    "start-first",
    "start-first, a mounted file",
    "start-first with a port, a bad one",
    "recreate",
    "recreate, a bad one",
    "worker, copied by hand",
    "worker, one that dies late",
}


@pytest.fixture(
    params=[pytest.param(name, marks=[] if name in SOME_CHANGES else [pytest.mark.exhaustive]) for name in CHANGES]
)
def change(request: pytest.FixtureRequest) -> Change:
    return CHANGES[request.param]


@pytest.fixture(params=sample_or_all(7, 1), ids=["some points", "every point"])
def one_of(request: pytest.FixtureRequest) -> int:
    """Of how many points of a deploy one is tried."""
    return int(request.param)


def killed_at_each_moment(change: Change, one_of: int, root: Path) -> Iterator[tuple[World, str]]:
    """The server, after a kill at points of the deploy, and after a boot at each third of these."""
    world = change.prepare(root)
    moments = list(enumerate(moments_of_request(world, lambda: change.run(world))))
    assert len(moments) > 5
    first = list(CHANGES.values()).index(change) % one_of  # so that the changes together have every point
    for number, moment in moments[first::one_of]:
        for afterwards in ("killed", "booted"):
            if afterwards == "killed" or number % 3 == 0:
                world.restore(moment)
                AFTERWARDS[afterwards](world)
                yield world, f"{afterwards} at moment {number} of {len(moments)}"


def recover(world: World, change: Change) -> Outcome:
    """A deploy that its preflight refuses recovers the stack, and changes nothing else."""
    free, world.machine.free = world.machine.free, 3
    outcome = world.deploy({change.name: world.image(change.name, 2)}, 3)
    world.machine.free = free
    world.machine.wait(3)
    return outcome


def check_that_all_agrees(world: World, change: Change, where: str) -> None:
    """One container serves; its settings, the files, the record and the status agree."""
    assert len([each for each in world.machine.everything() if each.is_running]) == 1, where
    mode = change.serving(world)
    expected = ("old",) if change.new else ("old", "new")
    if change.is_section_changed:
        assert mode in expected, where
    text = (world.folder / "docker-compose.yml").read_text()
    if change.are_files_sent:
        assert f"MODE: {mode}" in text, f"{where}: {mode} serves"
        assert ((world.folder / "app.conf").read_text() == mode) or not change.is_section_changed, where
    if change.is_section_changed:
        has_old_settings = f"MODE: {mode}" not in text
        assert world.status().says("runs with other settings than") == has_old_settings, where
        assert world.status().says("web-next is left of a deploy") == bool(world.machine.find("web-next")), where
    is_recorded = world.record(change.name)[-1].split()[1] == "3"
    if is_recorded and change.is_section_changed:
        assert mode == "new", where
    if not is_recorded and change.name == "worker":
        assert mode == "old", f"{where}: it is not recorded"


def test_the_recovery_after_a_kill_at_each_point(root: Path, change: Change, one_of: int) -> None:
    for world, where in killed_at_each_moment(change, one_of, root):
        recover(world, change)
        check_that_all_agrees(world, change, where)


def test_the_same_request_after_a_kill_at_each_point(root: Path, change: Change, one_of: int) -> None:
    """It ends with the new settings, or, if they are bad, with the old ones."""
    for world, where in killed_at_each_moment(change, one_of, root):
        world.machine.forget()
        world.machine.watched = (change.name,) if change.name == "web" and "recreate" not in change.service else ()

        outcome = change.run(world)

        world.machine.watched = ()
        assert outcome.code == (1 if change.new else 0), f"{where}\n{outcome.text}"
        assert not unserved(world.machine.trace, CACHE_SECONDS), where
        assert not world.machine.doubles, where
        world.machine.wait(3)
        check_that_all_agrees(world, change, f"{where}\n{outcome.text}")
        if change.new and "recreate" not in change.service:  # that one has only just been started again
            assert outcome.says(
                f"FAILED: {change.name}; serving now: {world.image(change.name, 2)} with its old settings"
            )
        if not change.new:
            assert world.record(change.name)[-1].split()[1] == "3", where
            assert change.serving(world) == ("new" if change.is_section_changed else "old"), where
            assert (world.folder / "app.conf").read_text() == "new", where


def test_a_rollback_after_a_kill_at_each_point(root: Path, change: Change, one_of: int) -> None:
    """Where the old container came back, that was the way back; where the new one stays, the image before it serves."""
    for world, where in killed_at_each_moment(change, one_of, root):
        was_recorded = world.record(change.name)[-1].split()[1] == "3"

        outcome = world.rollback(change.name)

        world.machine.wait(3)
        if change.new and not change.are_files_sent:
            continue
        assert outcome.code == 0, f"{where}\n{outcome.text}"
        assert world.names() == [change.name], where
        is_back = outcome.says("ended before it was recorded")
        assert not (is_back and was_recorded), where
        assert world.serves(change.name, world.image(change.name, 2 if is_back else 1)), f"{where}\n{outcome.text}"
        if is_back and change.is_section_changed and change.are_files_sent:
            assert change.serving(world) == "old", f"{where}\n{outcome.text}"


def test_the_status_says_nothing_about_settings_while_a_deploy_is_at_work(root: Path) -> None:
    """It changes them, and its temporary container is no remainder."""
    change = CHANGES["worker, copied by hand"]
    world = change.prepare(root)
    (world.folder / "docker-compose.yml").write_text(change.files("new")["docker-compose.yml"])
    note = "note: worker runs with other settings than docker-compose.yml and the env files say now"
    assert world.status().says(f"{note}: the next deploy of worker replaces it")

    with deploy_program.locked(world.folder / ".deploy.lock", "deploy shop worker, run 1"):
        assert not world.status().says("note: ")


def test_a_set_of_which_one_keeps_its_old_settings_is_mixed(root: Path) -> None:
    """Its image is the one that was asked for, and yet it does not run the version of the request."""
    world = World(root, WEB, WORKER)
    worker = world.image("worker", 1)
    assert world.deploy({"web": world.image("web", 1), "worker": worker}, 1).code == 0
    world.edit("container_name: worker", "container_name: worker\n    environment:\n      MODE: new")
    world.machine.modes["new"] = EXITS

    outcome = world.deploy({"web": world.image("web", 2), "worker": worker}, 2)

    assert outcome.results == {"web": "serving", "worker": "failed"}
    assert outcome.says("VERSIONS ARE MIXED NOW")
    assert outcome.says(f"  old version: worker {worker}")
