"""All engines. An engine that a host may have and that is missing here is a type error."""

from typing import TypedDict, cast

from kiwari_ci.engines.base import Engine
from kiwari_ci.engines.compose.engine import ComposeEngine
from kiwari_ci.engines.kubernetes.engine import KubernetesEngine
from kiwari_ci.schema.environments import EngineKind


class _Registry(TypedDict):
    compose: Engine
    kubernetes: Engine


ENGINES: _Registry = {"compose": ComposeEngine(), "kubernetes": KubernetesEngine()}


def find_engine(kind: str) -> Engine:
    """Find the engine of a host, by the kind that the effective spec or the plan names."""
    return ENGINES[cast(EngineKind, kind)]


def list_engines() -> list[Engine]:
    """List every engine, for what is asked of all of them."""
    return [ENGINES["compose"], ENGINES["kubernetes"]]
