"""Hosts that are reached over SSH, and the database servers on them."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from kiwari_ci import schema
from kiwari_ci.effective_spec import EffectiveHost, EffectiveSpec
from kiwari_ci.plan_model import (
    ComposeStack,
    DeployHost,
    DeployKey,
    GitHubSetting,
    JumpHost,
    KeyValue,
    PostgresServer,
    ProxyCommand,
    ProxyStack,
    SshPort,
)
from kiwari_ci.plan_model.hosts import name_value_file
from kiwari_ci.proxies.all_proxies import find_proxy
from kiwari_ci.proxies.base import plan_redirects, plan_sites

DEFAULT_SSH_PORT = 22


def plan_deploy_host(
    spec: EffectiveSpec, host: EffectiveHost, stacks: Mapping[str, ComposeStack], servers: Sequence[PostgresServer]
) -> DeployHost:
    """Plan a host: its settings, its keys, and what is placed on it; `stacks` are its own, by environment."""
    settings = _find_settings(spec, host, stacks)
    port = plan_ssh_port(host.variable, host.model.port, settings.get("port"))
    file_suffixes = tuple(_plan_file_suffixes(spec, host, settings))
    keys = tuple(_plan_deploy_keys(spec, host, stacks, file_suffixes))
    jumps = plan_jump_hosts(host, settings, file_suffixes, deploy_keys=[key.secret for key in keys])
    host_stacks = tuple(stacks.values())
    host_servers = tuple(server for server in servers if server.host == host.name)
    public = tuple(container for stack in host_stacks for container in stack.containers if container.domain)
    sites = plan_sites(host, public)
    redirects = plan_redirects(host, [redirect for stack in host_stacks for redirect in stack.redirects])
    proxy_stack = find_proxy(host.proxy.kind).plan_stack(host, sites, redirects)
    return DeployHost(
        name=host.name,
        engine=host.engine,
        variable=host.variable,
        folder=host.home_folder,
        address=settings["address"],
        user=settings["user"],
        known_hosts=settings["known_hosts"],
        port=port,
        way=_format_ssh_config(host, port, jumps),
        jumps=jumps,
        proxy_commands=plan_proxy_commands(host, settings),
        keys=keys,
        network=_find_network_of_proxy(host, host_stacks, host_servers, proxy_stack),
        stacks=host_stacks,
        servers=host_servers,
        sources=tuple(_list_sources(host_stacks, host_servers, proxy_stack)),
        renamed_sources=tuple(
            KeyValue(f"deploy/{stack.source_folder}", stack.name) for stack in host_stacks if stack.other_source_folder
        ),
        env_files=tuple(_list_env_files(host_stacks, host_servers)),
        public=public,
        proxy=host.proxy.kind,
        scheme=host.proxy.scheme,
        sites=sites,
        redirects=redirects,
        fronts=(proxy_stack,) if proxy_stack else (),
        file_suffixes=file_suffixes,
    )


def _find_settings(
    spec: EffectiveSpec, host: EffectiveHost, stacks: Mapping[str, ComposeStack]
) -> dict[str, GitHubSetting]:
    """Find the settings of a host; one with nothing but a database server is reached by persons alone."""
    environments = [spec.environments[name] for name in stacks]
    return environments[0].deploy_settings(host) if environments else host.deploy_settings()


def _list_sources(
    stacks: Iterable[ComposeStack], servers: Iterable[PostgresServer], proxy_stack: ProxyStack | None
) -> Iterator[str]:
    """List the folders that are copied to a host under their names."""
    yield "deploy/bin"
    for server in servers:
        yield f"deploy/{server.name}"
    for stack in stacks:
        if not stack.other_source_folder:
            yield f"deploy/{stack.source_folder}"
    if proxy_stack:
        yield f"deploy/{proxy_stack.name}"


def _list_env_files(stacks: Iterable[ComposeStack], servers: Iterable[PostgresServer]) -> Iterator[str]:
    """List the env files of a host."""
    for server in servers:
        yield f"{server.name}/.env"
    for stack in stacks:
        for env_file in stack.env_files:
            yield f"{stack.name}/{env_file.name}"


def _plan_deploy_keys(
    spec: EffectiveSpec,
    host: EffectiveHost,
    stacks: Mapping[str, ComposeStack],
    file_suffixes: tuple[KeyValue, ...],
) -> Iterator[DeployKey]:
    """Plan the keys with which jobs reach a host; several environments can have the same one."""
    stacks_by_secret: dict[str, list[ComposeStack]] = {}
    for environment, stack in stacks.items():
        secret = spec.environments[environment].deploy_settings(host)["key"].name
        stacks_by_secret.setdefault(secret, []).append(stack)
    for secret, key_stacks in stacks_by_secret.items():
        yield _plan_deploy_key(spec, host, secret, key_stacks, file_suffixes)


def _find_network_of_proxy(
    host: EffectiveHost,
    stacks: Iterable[ComposeStack],
    servers: Iterable[PostgresServer],
    proxy_stack: ProxyStack | None,
) -> str:
    """Find the network of the proxy, which the runbook creates; empty when nothing on the host joins it."""
    joined_networks = {network for stack in stacks for network in stack.networks}
    joined_networks |= {server.network for server in servers if not server.owns_network}
    if proxy_stack:
        joined_networks.add(proxy_stack.network)
    return host.proxy.network if host.proxy.network in joined_networks else ""


def _plan_deploy_key(
    spec: EffectiveSpec,
    host: EffectiveHost,
    secret: str,
    stacks: list[ComposeStack],
    file_suffixes: tuple[KeyValue, ...],
) -> DeployKey:
    allowed_words = []
    for stack in stacks:
        allowed_words.append(stack.name)
        if stack.pushed:
            allowed_words.append(f"{stack.name}:push")
        if stack.sent:
            allowed_words.append(f"{stack.name}:env")
    stack_names = tuple(stack.name for stack in stacks)
    return DeployKey(
        secret=secret,
        file=name_value_file(secret, file_suffixes),
        stacks=stack_names,
        words=tuple(allowed_words),
        pushes=any(stack.pushed for stack in stacks),
        renders=any(stack.sent for stack in stacks),
        first_stack=stack_names[0],
        is_there=_is_key_of_earlier_host(spec, host, secret),
    )


def _is_key_of_earlier_host(spec: EffectiveSpec, host: EffectiveHost, secret: str) -> bool:
    """Whether a host before this one has the key, too, so that the runbook has already made it."""
    return _list_hosts_with_same_value(spec, host, secret)[0] != host.name


def _plan_file_suffixes(
    spec: EffectiveSpec, host: EffectiveHost, settings: Mapping[str, GitHubSetting]
) -> Iterator[KeyValue]:
    """Plan the end of the name of each file whose setting has another value on another host."""
    for name in dict.fromkeys(setting.name_at_github for setting in settings.values() if setting.kind):
        readers = _find_readers(spec, name)
        if host.name not in readers:
            continue  # no job goes to a host with nothing but a database server
        hosts_with_same_value = _list_hosts_with_same_value(spec, host, name)
        if set(hosts_with_same_value) != readers.keys():
            yield KeyValue(name, f"-{hosts_with_same_value[0]}")


def _list_hosts_with_same_value(spec: EffectiveSpec, host: EffectiveHost, setting_name: str) -> list[str]:
    """List the hosts whose value of a setting is this host's, in the spec's order.

    An environment has one value of a setting, so hosts of one environment have the same one.
    """
    readers = _find_readers(spec, setting_name)
    same_hosts = {host.name}
    environments = set(readers[host.name])
    while True:
        joining = {name for name, own in readers.items() if own & environments} - same_hosts
        if not joining:
            return [name for name in spec.hosts if name in same_hosts]
        same_hosts |= joining
        environments |= {environment for name in joining for environment in readers[name]}


def _find_readers(spec: EffectiveSpec, setting_name: str) -> dict[str, set[str]]:
    """Find the hosts to which a deploy reads a setting, each with its environments that do."""
    readers: dict[str, set[str]] = {}
    for environment in spec.environments.values():
        for host in environment.hosts:
            settings = environment.deploy_settings(host).values()
            if any(setting.kind and setting.name_at_github == setting_name for setting in settings):
                readers.setdefault(host.name, set()).add(environment.name)
    return readers


def plan_jump_hosts(
    host: EffectiveHost,
    settings: dict[str, GitHubSetting],
    file_suffixes: tuple[KeyValue, ...],
    deploy_keys: Collection[str],
) -> tuple[JumpHost, ...]:
    """Plan the machine through which a host is reached, if there is one; `deploy_keys` are those of the host itself."""
    jump = host.model.jump
    if jump is None:
        return ()
    return (
        JumpHost(
            variable=f"{host.variable}_JUMP",
            address=settings["jump_address"],
            user=settings["jump_user"],
            key=settings["jump_key"],
            known_hosts=settings["jump_known_hosts"],
            port=plan_ssh_port(f"{host.variable}_JUMP", jump.port, settings.get("jump_port")),
            key_file=name_value_file(settings["jump_key"].name, file_suffixes),
            known_hosts_file=name_value_file(settings["jump_known_hosts"].name, file_suffixes),
            has_key_of_host=settings["jump_key"].name in deploy_keys,
            known_hosts_redirection=">>" if settings["jump_known_hosts"] == settings["known_hosts"] else ">",
        ),
    )


def plan_proxy_commands(host: EffectiveHost, settings: dict[str, GitHubSetting]) -> tuple[ProxyCommand, ...]:
    """Plan the program through which a host is reached, if there is one."""
    proxy_command = host.model.proxy_command
    if proxy_command is None:
        return ()
    step_values = [value for step in proxy_command.steps for value in step.env.values()]
    return (
        ProxyCommand(
            program=proxy_command.command[0],
            words=" ".join(proxy_command.command),
            settings=tuple(setting for purpose, setting in settings.items() if purpose.startswith("proxy_command.")),
            step_settings=tuple(dict.fromkeys(_plan_step_settings(step_values))),
        ),
    )


def _plan_step_settings(values: Iterable[schema.StepValue]) -> Iterator[GitHubSetting]:
    for value in values:
        if value.secret:
            yield GitHubSetting(value.secret, f"secrets.{value.secret}", "secret")
        elif value.variable:
            yield GitHubSetting(value.variable, f"vars.{value.variable}", "variable")


def plan_ssh_port(prefix: str, port: schema.SshPort, setting: GitHubSetting | None) -> SshPort:
    """Plan the port of an SSH server; SSH's own needs no option."""
    address = f"${{{prefix}#*@}}"
    if setting:
        variable = f"{prefix}_PORT"
        shell = f"${variable}"
        known_host = f"{address},[{address}]:{shell}"  # both forms, for ssh has no brackets where the port is its own
        return SshPort(setting.name, shell, known_host, variable, settings=(setting,))
    if port.number == DEFAULT_SSH_PORT:
        return SshPort("", str(port.number), known_host=address, variable="", settings=())
    return SshPort(str(port.number), str(port.number), f"[{address}]:{port.number}", variable="", settings=())


def _format_ssh_config(host: EffectiveHost, port: SshPort, jumps: tuple[JumpHost, ...]) -> str:
    """Write lines of a person's own ~/.ssh/config, in double quotes."""
    lines = []
    if port.option:
        lines.append(f"Port {port.shell}")
    lines += [f"ProxyJump ${jump.variable}:{jump.port.shell}" for jump in jumps]
    if host.model.proxy_command:
        lines.append(f"ProxyCommand {' '.join(host.model.proxy_command.command)}")
    return " ".join(f'"{line}"' for line in lines)
