"""A disk that is full, at each place where the program writes: no traceback, and what served goes on."""

import errno
import os
import tempfile
from collections.abc import Callable
from typing import Any

import pytest

from kiwari_ci.engines.compose.deploy_programs import deploy as deploy_program
from tests.amounts import sample_or_all
from tests.host.fake_docker import Killed
from tests.host.world import WEB, WORKER, World, compose_file

MOUNTING = WEB.replace("    networks:", '    volumes: ["./conf:/conf:ro"]\n    networks:')
FILES = {
    "docker-compose.yml": "# Files beside it: conf/x.conf\n" + compose_file(MOUNTING, WORKER),
    "conf/x.conf": "new\n",
    ".env": "SECRET='other'\n",
}
NAMES = ("web", "worker")


class Disk:
    """A disk that is full at one write, or from that one on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.writes = 0
        self.is_full: Callable[[int], bool] = lambda number: False
        for module, name in (
            (os, "posix_fallocate"),
            (deploy_program, "write_all"),
            (deploy_program, "write_file"),
            (tempfile, "mkdtemp"),
        ):
            monkeypatch.setattr(module, name, self.limited(getattr(module, name)))

    def limited(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def written(*arguments: Any, **options: Any) -> Any:
            self.writes += 1
            if self.is_full(self.writes):
                place = str(next(iter(arguments), "a new file"))
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), place)
            return write(*arguments, **options)

        return written


def images(world: World, version: int) -> dict[str, str]:
    return {name: world.image(name, version) for name in NAMES}


@pytest.mark.parametrize("one_of", sample_or_all(7, 1), ids=["some writes", "every write"])
@pytest.mark.parametrize("stays_full", [False, True])
def test_at_each_write_of_a_deploy(
    world: World, stays_full: bool, one_of: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    assert world.deploy(images(world, 1), 1).code == 0
    before = world.snapshot()
    disk.writes = 0
    assert world.deploy(images(world, 2), 2, files=FILES).code == 0
    count = disk.writes
    assert count > 20
    for number in range(1, count + 1, one_of):
        world.restore(before)
        disk.writes = 0
        disk.is_full = lambda write, at=number: write >= at if stays_full else write == at  # type: ignore[misc]

        outcome = world.deploy(images(world, 2), 2, files=FILES)

        disk.is_full = lambda write: False
        world.machine.wait(2)
        serving = {
            name: next(version for version in (1, 2) if world.serves(name, world.image(name, version)))
            for name in NAMES
        }
        assert "Traceback" not in outcome.text and "/proc/self" not in outcome.text
        assert outcome.says("No space left on device: ") or outcome.says("the token cannot be written to memory")
        assert outcome.code != 0 or set(serving.values()) == {2}, f"write {number}: {serving}"
        assert world.deploy(images(world, 3), 3, files=FILES).code == 0, f"after write {number}"
        assert world.names() == ["web", "worker"]


@pytest.mark.parametrize("files", [None, FILES])
def test_an_interrupted_deploy_is_undone_although_the_disk_is_full(
    world: World, files: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    assert world.deploy(images(world, 1), 1).code == 0
    old = world.container("worker").id

    def kill() -> None:
        is_replaced = "worker-previous" in world.names() and "worker" not in world.names()
        world.machine.is_dead = world.machine.is_dead or is_replaced

    world.machine.at_each_point = kill
    with pytest.raises(Killed):
        world.deploy({"worker": world.image("worker", 2)}, 2, files=files)
    world.machine.at_each_point = None
    world.machine.revive()
    disk.is_full = lambda write: True

    outcome = world.deploy({"worker": world.image("worker", 3)}, 3)

    assert outcome.code == 69 and outcome.says("No space left on device: ")
    assert world.names() == ["web", "worker"]
    assert world.container("worker").id == old and world.container("worker").is_running
    disk.is_full = lambda write: False
    assert world.deploy(images(world, 3), 3, files=FILES).code == 0


def test_who_holds_a_lock_is_not_needed_to_hold_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollback must be possible although the disk is full."""
    for version in (1, 2):
        assert world.deploy(images(world, version), version).code == 0

    def refuse(*arguments: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", refuse)

    assert world.rollback("web").code == 0
    assert world.serves("web", world.image("web", 1))
