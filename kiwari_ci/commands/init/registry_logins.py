"""The registries that a job of a workflow logs in to, and the images whose registry or owner only a variable says."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kiwari_ci.commands.init.docker_commands import UNKNOWN_TEXT, iter_docker_commands
from kiwari_ci.readers.workflow import get_action_name
from kiwari_ci.readers.yaml_document import YamlMapping

DOCKER_HUB = "docker.io"
_SECRET_EXPRESSION = re.compile(r"\$\{\{\s*secrets\.([A-Z_][A-Z0-9_]*)\s*\}\}")
_OPTIONS_WITH_VALUE = ("-u", "--username", "-p", "--password")
_DOCKER_HUB_NAMES = {"", "docker.io", "index.docker.io", "registry-1.docker.io", "https://index.docker.io/v1/"}


@dataclass(frozen=True)
class RegistryLogin:
    """A login: the registry (UNKNOWN_TEXT in it when only a run knows it), the user and the secret, where known."""

    host: str
    user: str
    secret: str
    where: str


@dataclass(frozen=True)
class UnnamedPush:
    """An image whose first part only a variable says: the registry that the job logs in to, if it is only one."""

    host: str
    login: RegistryLogin | None
    where: str


def find_registry_logins(steps: list[YamlMapping], substitute: Callable[[str], str]) -> list[RegistryLogin]:
    """The logins of a job, by docker/login-action or `docker login`."""
    logins = []
    for step in steps:
        if get_action_name(step.get_text("uses")) == "docker/login-action":
            inputs = step.get_mapping("with")
            secret = _SECRET_EXPRESSION.fullmatch(inputs.get_text("password"))
            logins.append(
                RegistryLogin(
                    _normalize_host(substitute(inputs.get_text("registry"))),
                    substitute(inputs.get_text("username")),
                    secret[1] if secret else "",
                    step.where("uses"),
                )
            )
        for _, words in iter_docker_commands(substitute(step.get_text("run"))):
            if words[:2] == ["docker", "login"]:
                logins.append(RegistryLogin(_find_host_argument(words[2:]), "", "", step.where("run")))
    return logins


def build_unnamed_push(image: str, logins: list[RegistryLogin], where: str) -> UnnamedPush | None:
    """What is known of an image's registry when its name begins with what only a run knows."""
    if not image.startswith(UNKNOWN_TEXT):
        return None
    hosts = {login.host for login in logins}
    host = hosts.pop() if len(hosts) == 1 else ""
    return UnnamedPush("" if UNKNOWN_TEXT in host else host, logins[0] if host else None, where)


def _find_host_argument(words: list[str]) -> str:
    """The registry of `docker login`: the word that is no option; Docker Hub without one."""
    return _normalize_host(next(_iter_arguments(words), ""))


def _iter_arguments(words: list[str]) -> Iterator[str]:
    is_value = False
    for word in words:
        if not is_value and not word.startswith("-"):
            yield word
        is_value = word in _OPTIONS_WITH_VALUE


def _normalize_host(host: str) -> str:
    return DOCKER_HUB if host.lower() in _DOCKER_HUB_NAMES else host.lower()
