"""Hosts, and the settings of GitHub by which a deploy reaches them."""

import re
from collections.abc import Iterable

from kiwari_ci import schema
from kiwari_ci.effective_spec.values import format_variable_name
from kiwari_ci.frozen import dataclass
from kiwari_ci.plan_model import GitHubSetting
from kiwari_ci.schema.environments import EngineKind


@dataclass(frozen=True)
class EffectiveHost:
    """A server with its settings."""

    name: str
    model: schema.Host

    @property
    def engine(self) -> EngineKind:
        """What runs its containers."""
        return self.model.engine

    @property
    def variable(self) -> str:
        """The prefix of the names of its settings."""
        return format_variable_name(self.name)

    @property
    def directory(self) -> str:
        """The folder that holds a folder for each stack."""
        return self.model.directory

    @property
    def home_folder(self) -> str:
        """The same folder, relative to the login's home where it is there."""
        return self.model.directory.removeprefix("~/")

    @property
    def proxy(self) -> schema.Proxy:
        """What stands in front of the services."""
        return self.model.proxy

    @property
    def has_ports(self) -> bool:
        """Whether containers can publish ports of it."""
        return True

    def deploy_settings(
        self, own_key: schema.Secret | None = None, pull_token: GitHubSetting | None = None
    ) -> dict[str, GitHubSetting]:
        """What a deploy reads from GitHub to reach the host; `own_key` is an environment's own deploy key."""
        prefix = self.variable
        key = own_key or self.model.key
        settings = {
            "address": _build_reference_setting(self.model.address) or _build_secret_setting(f"{prefix}_HOST"),
            "user": _build_reference_setting(self.model.user) or _build_secret_setting(f"{prefix}_USER"),
            "key": _build_secret_setting(key.secret if key else f"{prefix}_SSH_KEY"),
            "known_hosts": _build_reference_setting(self.model.known_hosts)
            or _build_variable_setting(f"{prefix}_KNOWN_HOSTS"),
        }
        settings |= _find_port_setting("port", self.model.port)
        if self.model.jump:
            settings |= self._list_jump_settings(self.model.jump)
        if self.model.proxy_command:
            settings |= _list_proxy_command_settings(self.model.proxy_command)
        if pull_token:
            settings["token"] = pull_token
        return settings

    def _list_jump_settings(self, jump: schema.Jump) -> dict[str, GitHubSetting]:
        prefix = f"{self.variable}_JUMP"
        return {
            "jump_address": _build_reference_setting(jump.address) or _build_secret_setting(f"{prefix}_HOST"),
            "jump_user": _build_reference_setting(jump.user) or _build_secret_setting(f"{prefix}_USER"),
            "jump_key": _build_secret_setting(jump.key.secret if jump.key else f"{prefix}_SSH_KEY"),
            "jump_known_hosts": _build_reference_setting(jump.known_hosts)
            or _build_variable_setting(f"{prefix}_KNOWN_HOSTS"),
            **_find_port_setting("jump_port", jump.port),
        }


class EffectiveCluster(EffectiveHost):
    """A cluster, with the login of its deploys. It has the token that images are pulled with, so no job reads it."""

    @property
    def has_ports(self) -> bool:
        """A pod may be on any of its nodes."""
        return False

    def deploy_settings(
        self, own_key: schema.Secret | None = None, pull_token: GitHubSetting | None = None
    ) -> dict[str, GitHubSetting]:
        """What a deploy reads from GitHub."""
        written = self.model.kubeconfig
        return {"kubeconfig": _build_secret_setting(written.secret if written else f"{self.variable}_KUBECONFIG")}


_HOST_CLASSES: dict[EngineKind, type[EffectiveHost]] = {"compose": EffectiveHost, "kubernetes": EffectiveCluster}


def create_effective_host(name: str, model: schema.Host) -> EffectiveHost:
    """Wrap a host of a spec, by what runs its containers."""
    return _HOST_CLASSES[model.engine](name, model)


def pull_token_setting(registry: schema.Registry) -> GitHubSetting:
    """The token that a host pulls images with; the job's own has no kind, for nobody sets it."""
    secret = registry.pull_token.secret
    return _build_secret_setting(secret) if secret else GitHubSetting("REGISTRY_TOKEN", "github.token", "")


def detect_runner_platform(runner_labels: Iterable[str]) -> str:
    """Tell the platform of a runner by the names that GitHub gives its own runners."""
    is_arm = any(re.search(r"arm(64)?$", label, re.IGNORECASE) for label in runner_labels)
    return "linux/arm64" if is_arm else "linux/amd64"


def _find_port_setting(purpose: str, port: schema.SshPort) -> dict[str, GitHubSetting]:
    """The setting that holds a port; none for a port that is written."""
    if port.number:
        return {}
    return {
        purpose: _build_variable_setting(port.variable) if port.variable else _build_secret_setting(str(port.secret))
    }


def _list_proxy_command_settings(proxy_command: schema.ProxyCommand) -> dict[str, GitHubSetting]:
    """What the program on the way to a host reads, each under the name that the program gives it."""
    settings = {}
    for key, reference in proxy_command.env.items():
        at_github = _build_reference_setting(reference)
        assert at_github
        settings[f"proxy_command.env.{key}"] = GitHubSetting(key, at_github.expression, at_github.kind)
    return settings


def _build_secret_setting(name: str) -> GitHubSetting:
    return GitHubSetting(name, f"secrets.{name}", "secret")


def _build_variable_setting(name: str) -> GitHubSetting:
    return GitHubSetting(name, f"vars.{name}", "variable")


def _build_reference_setting(reference: schema.Reference | None) -> GitHubSetting | None:
    if reference is None:
        return None
    if reference.variable:
        return _build_variable_setting(reference.variable)
    return _build_secret_setting(str(reference.secret))
