"""A cluster for each test."""

from pathlib import Path

import pytest

from kiwari_ci.engines.kubernetes.deploy_programs import rollout
from tests.kubernetes.world import World


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder deploy/ of a checkout."""
    monkeypatch.setattr(rollout, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def world(root: Path) -> World:
    """A stack with one service that answers HTTP."""
    return World(root)
