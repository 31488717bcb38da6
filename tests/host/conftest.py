"""A server for each test."""

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kiwari_ci.engines.compose.deploy_programs import deploy as deploy_program
from tests.host.world import World


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that holds bin/ and the stacks. It is in memory where there is one: no test waits for a disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name) / "docker"
        memory = folder / ".memory"
        memory.mkdir(parents=True)
        monkeypatch.setattr(deploy_program, "ROOT", folder)
        monkeypatch.setattr(deploy_program, "MEMORY_FOLDER", memory)
        monkeypatch.setattr(deploy_program, "sync", lambda stream: stream.flush())
        yield folder


@pytest.fixture
def world(root: Path) -> World:
    """A stack with a service that answers HTTP, and a worker."""
    return World(root)


@pytest.fixture
def cancellable() -> Iterator[None]:
    """This process ends like the program when it is told to end."""
    before = signal.signal(signal.SIGTERM, deploy_program.end_on_signal)
    yield
    signal.signal(signal.SIGTERM, before)
