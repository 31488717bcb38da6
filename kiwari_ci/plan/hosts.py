"""What stands on a host beside its stacks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Role:
    """A database and the role that owns it."""

    environment: str
    name: str
    user: str
    password_variable: str
    connection_limit: int
    stack: str


@dataclass(frozen=True)
class DeployKey:
    """A private key, by its secret's name, and the stacks that it may touch."""

    secret: str
    stacks: tuple[str, ...]
    first_stack: str
