"""What a person sets at GitHub so that a deploy reaches a host over SSH."""

from kiwari_ci.plan_model import DeployHost, GitHubSetting, JumpHost, ProxyCommand, RequiredSetting


def list_connection_settings(host: DeployHost) -> list[RequiredSetting]:
    """List the settings by which a deploy reaches a host, in the order of the runbook."""
    if not host.stacks:
        return []  # no job goes there
    environments = tuple(stack.environment for stack in host.stacks)
    settings = [
        _require(host.address, f"address of {host.name}", environments),
        _require(host.user, f"login on {host.name}", environments),
        *(_require(setting, f"port of the SSH server of {host.name}", environments) for setting in host.port.settings),
    ]
    for key in host.keys:
        key_environments = tuple(stack.environment for stack in host.stacks if stack.name in key.stacks)
        purpose = f"private key that deploys {' '.join(key.stacks)}"
        settings.append(RequiredSetting(key.secret, "secret", purpose, key_environments))
    settings.append(_require(host.known_hosts, f"host key of {host.name}, a known_hosts line", environments))
    for jump in host.jumps:
        settings += _list_jump_settings(host, jump, environments)
    for proxy_command in host.proxy_commands:
        settings += _list_proxy_command_settings(host, proxy_command, environments)
    return settings


def _list_jump_settings(host: DeployHost, jump: JumpHost, environments: tuple[str, ...]) -> list[RequiredSetting]:
    return [
        _require(jump.address, f"address of the machine that leads to {host.name}", environments),
        _require(jump.user, "login on that machine", environments),
        *(_require(setting, "port of its SSH server", environments) for setting in jump.port.settings),
        _require(jump.key, "private key that leads on from there, and does no more", environments),
        _require(jump.known_hosts, "host key of that machine, a known_hosts line", environments),
    ]


def _list_proxy_command_settings(
    host: DeployHost, proxy_command: ProxyCommand, environments: tuple[str, ...]
) -> list[RequiredSetting]:
    program = f"{proxy_command.program} reads on the way to {host.name}"
    steps = f"the steps before the connection to {host.name} read"
    return [
        *(_require(setting, f"`{setting.name}`, which {program}", environments) for setting in proxy_command.settings),
        *(_require(setting, f"what {steps}", environments) for setting in proxy_command.step_settings),
    ]


def _require(setting: GitHubSetting, purpose: str, environments: tuple[str, ...]) -> RequiredSetting:
    return RequiredSetting(setting.name_at_github, setting.kind, purpose, environments)
