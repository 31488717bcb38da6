"""A server for each test."""

from pathlib import Path

import pytest

from kiwari_ci.engines.compose import host
from tests.host.world import World


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that holds bin/ and the stacks. Nothing waits for a disk, and nothing is written to /dev/shm."""
    folder = tmp_path / "docker"
    folder.mkdir()
    memory = tmp_path / "memory"
    memory.mkdir()
    monkeypatch.setattr(host, "ROOT", folder)
    monkeypatch.setattr(host, "MEMORY", memory)
    monkeypatch.setattr(host, "sync", lambda stream: stream.flush())
    return folder


@pytest.fixture
def world(root: Path) -> World:
    """A stack with a service that answers HTTP, and a worker."""
    return World(root)
