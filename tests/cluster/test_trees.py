"""Every generated tree with a cluster, as the API server reads it: a dry run with its own rules of admission."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from kiwari_ci import generator
from tests.cluster.world import World

ROOT = Path(__file__).parents[2]


def has_a_cluster(spec: Path) -> bool:
    """Whether something of a spec runs on a cluster."""
    return "engine: kubernetes" in spec.read_text()


SPECS = [
    *filter(has_a_cluster, sorted((ROOT / "tests/cases/ok").glob("*/spec.yaml"))),
    *filter(has_a_cluster, sorted((ROOT / "specs/examples").glob("*.yaml"))),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.relative_to(ROOT).as_posix())
def test_the_api_server_takes_the_tree(world: World, spec: Path) -> None:
    plan, files = generator.generate_files(spec)
    with namespaces(world, [stack.name for stack in plan.cluster_stacks]):
        for cluster in plan.clusters:
            check(world, files[cluster.setup_path].text)
        for stack in plan.cluster_stacks:
            for path in stack.files:
                check(world, files[path].text, "-n", stack.name)


@contextlib.contextmanager
def namespaces(world: World, names: list[str]) -> Iterator[None]:
    """Has namespaces while the block runs: objects of one that is missing cannot be checked."""
    existing = {namespace["metadata"]["name"] for namespace in world.cluster.get("default", "namespaces")}
    missing = [name for name in names if name not in existing]
    for name in missing:
        world.cluster.kubectl("create", "namespace", name)
    try:
        yield
    finally:
        for name in missing:
            world.cluster.kubectl("delete", "namespace", name)


def check(world: World, documents: str, *options: str) -> None:
    """Asks the API server whether it would take these objects; strictly, so that no field is unknown to it."""
    words = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict")
    result = world.cluster.kubectl(*words, *options, "-f", "-", stdin=documents)
    assert "Warning" not in result.stderr, result.stderr
