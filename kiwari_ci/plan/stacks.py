"""Stacks: the containers of an environment, and their env files."""

from dataclasses import dataclass

from kiwari_ci.plan.base import Pair


@dataclass(frozen=True)
class Instance:
    """A service as it runs in one environment: one container; without a port (0) it is a worker, and has no health.

    `limits` are keys of Compose and their values.
    """

    service: str
    container: str
    repository: str
    tag: str
    port: int
    health: str
    health_path: str
    health_status: int
    domain: str
    websocket: str
    networks: tuple[str, ...]
    env_file: str
    variable: str
    command: tuple[str, ...]
    volumes: tuple[str, ...]
    ports: tuple[str, ...]
    labels: tuple[Pair, ...]
    limits: tuple[Pair, ...]


@dataclass(frozen=True)
class EnvLine:
    """A line of an env file: the value is what the example shows."""

    key: str
    value: str
    note: str


@dataclass(frozen=True)
class EnvGroup:
    """The lines of one service."""

    title: str
    lines: tuple[EnvLine, ...]


@dataclass(frozen=True)
class EnvFile:
    """An env file that the host keeps, and that `<name>.example` shows."""

    name: str
    task: str
    groups: tuple[EnvGroup, ...]


@dataclass(frozen=True)
class Stack:
    """A Compose project: the instances of one environment."""

    name: str
    environment: str
    instances: tuple[Instance, ...]
    networks: tuple[str, ...]
    env_files: tuple[EnvFile, ...]
    volumes: tuple[str, ...]
