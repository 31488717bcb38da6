"""A function for each engine, which imports it. A kind of the schema that is missing here is a type error.

An engine is imported only when a host has it: most specs have no cluster, and the rollout program is a large one.
"""

from collections.abc import Callable, Collection
from functools import cache
from typing import TypedDict, cast, get_args

from kiwari_ci.engines.base import Engine
from kiwari_ci.schema.environments import EngineKind


class _Loaders(TypedDict):
    compose: Callable[[], Engine]
    kubernetes: Callable[[], Engine]


@cache
def _load_compose() -> Engine:
    from kiwari_ci.engines.compose.engine import ComposeEngine

    return ComposeEngine()


@cache
def _load_kubernetes() -> Engine:
    from kiwari_ci.engines.kubernetes.engine import KubernetesEngine

    return KubernetesEngine()


ENGINE_LOADERS: _Loaders = {"compose": _load_compose, "kubernetes": _load_kubernetes}
ALL_KINDS: tuple[EngineKind, ...] = get_args(EngineKind)


def find_engine(kind: str) -> Engine:
    """Find the engine of a host, by the kind that the effective spec or the plan names."""
    return ENGINE_LOADERS[cast(EngineKind, kind)]()


def list_engines(kinds: Collection[str] = ALL_KINDS) -> list[Engine]:
    """List the engines of these kinds, for what is asked of each of them."""
    return [find_engine(kind) for kind in ALL_KINDS if kind in kinds]
