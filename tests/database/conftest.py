"""A server for each test."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kiwari_ci.engines.compose.deploy_programs import database
from tests.database.world import World


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that holds bin/ and the stacks; in memory where there is one: no test waits for a disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name) / "docker"
        folder.mkdir()
        monkeypatch.setattr(database, "ROOT", folder)
        monkeypatch.setattr(database, "sync", lambda stream: stream.flush())
        yield folder


@pytest.fixture
def world(root: Path) -> World:
    """A PostgreSQL server with two databases, and a stack with a service."""
    return World(root)
