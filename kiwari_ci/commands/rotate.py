"""Where a secret of an environment is stored, and what the rotation program is asked in order to change it."""

import secrets
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kiwari_ci.plan_model import (
    ComposeStack,
    DatabaseRole,
    DeployHost,
    EnvFile,
    EnvFileLine,
    Plan,
    PostgresServer,
    Stack,
)

GENERATED_LENGTH = 40
_GENERATED_ALPHABET = string.ascii_letters + string.digits  # no file, URL or shell reads any of them as syntax


@dataclass(frozen=True)
class HostRotation:
    """A rotation on one host: the words of its request."""

    host: DeployHost
    words: tuple[str, ...]

    def build_command(self, is_preview: bool = False) -> list[str]:
        """The command for the host; a preview prints what would change, and changes nothing."""
        return [f"{self.host.folder}/bin/rotate", *(["preview"] if is_preview else []), *self.words]


@dataclass(frozen=True)
class DatabasePassword:
    """The password of the role that owns a database, and the server that knows the role."""

    server: PostgresServer
    role: DatabaseRole


def generate_secret() -> str:
    """Generate a value that needs no quoting anywhere."""
    return "".join(secrets.choice(_GENERATED_ALPHABET) for _ in range(GENERATED_LENGTH))


def list_stacks(plan: Plan, environment: str) -> list[tuple[DeployHost, ComposeStack]]:
    """The hosts on which an environment runs, each with its stack."""
    return [(host, stack) for host in plan.hosts for stack in host.stacks if stack.environment == environment]


def list_env_lines(env_files: Sequence[EnvFile]) -> Iterator[EnvFileLine]:
    """The lines of env files."""
    for env_file in env_files:
        for group in env_file.groups:
            yield from group.lines


def find_env_line(env_files: Sequence[EnvFile], key: str) -> EnvFileLine | None:
    """The line of a key; the secret one where several env files have the key."""
    lines = [line for line in list_env_lines(env_files) if line.key == key]
    return next((line for line in lines if line.is_secret), lines[0] if lines else None)


def list_databases(plan: Plan, environment: str) -> list[DatabasePassword]:
    """The passwords of the databases of an environment."""
    return [
        DatabasePassword(server, role)
        for server in plan.servers
        for role in server.databases
        if role.environment == environment
    ]


def find_database(plan: Plan, environment: str, name: str) -> DatabasePassword | None:
    """The password that a person means by the name of a database, or by the key in the server's env file."""
    return next(
        (
            password
            for password in list_databases(plan, environment)
            if name in (password.role.name, password.role.password_variable)
        ),
        None,
    )


def list_names(plan: Plan, environment: str, stack: Stack) -> list[str]:
    """All names that `rotate` takes for an environment."""
    keys = [line.key for line in list_env_lines(stack.env_files) if line.is_secret]
    databases = [password.role.name for password in list_databases(plan, environment)]
    return list(dict.fromkeys([*keys, *databases]))


def plan_key_rotation(host: DeployHost, stack: ComposeStack, key: str, env_file: str) -> HostRotation:
    """Change the value of a key: in all env files that have it, or in one of them."""
    return HostRotation(host, ("value", stack.name, key, *([env_file] if env_file else [])))


def plan_password_rotation(host: DeployHost, stack: ComposeStack, password: DatabasePassword) -> HostRotation:
    """Change the password of a role, and the values that may have it in them.

    These are secrets and URLs only: the host must not change a plain value that happens to be the same text.
    """
    keys = [line.key for line in list_env_lines(stack.env_files) if line.is_secret or line.has_password]
    role = password.role
    possible_keys = ",".join(dict.fromkeys(keys)) or role.password_variable
    words = ("password", stack.name, possible_keys, password.server.name, role.user, role.password_variable)
    return HostRotation(host, words)


def find_env_file(stack: ComposeStack, service: str, key: str) -> str:
    """The env file of a service, if the key is in it; else an empty text."""
    names = {instance.env_file for instance in stack.instances if service in (instance.service, instance.container)}
    env_files = [env_file for env_file in stack.env_files if env_file.name in names]
    line = find_env_line(env_files, key)
    return env_files[0].name if line and line.is_secret else ""
