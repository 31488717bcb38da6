"""Hosts, and the database servers on them."""

from kiwari_ci.effective import EffectiveHost, EffectiveSpec
from kiwari_ci.plan import (
    ComposeStack,
    DeployHost,
    DeployKey,
    GitHubSetting,
    JumpHost,
    LongRunningAccessories,
    PostgresServer,
    ProxyGuide,
)
from kiwari_ci.proxies.base import plan_redirects, plan_sites
from kiwari_ci.proxies.registry import find_planned_proxy, find_proxy

DEFAULT_SSH_PORT = 22
_STACK_GUIDE_TEMPLATE = "proxy/stack.md.j2"


def plan_deploy_host(
    spec: EffectiveSpec, host: EffectiveHost, stacks: dict[str, ComposeStack], servers: tuple[PostgresServer, ...]
) -> DeployHost:
    """Plan a host: its settings, its keys, and what is placed on it."""
    environments = [environment for environment in spec.environments.values() if host.name in environment.host_names]
    environments_by_key: dict[str, list[str]] = {}
    for environment in environments:
        secret = environment.deploy_settings(host)["key"].name
        environments_by_key.setdefault(secret, []).append(environment.name)
    settings = environments[0].deploy_settings(host)
    host_stacks = tuple(stacks[environment.name] for environment in environments)
    host_servers = tuple(server for server in servers if server.host == host.name)
    public = tuple(container for stack in host_stacks for container in stack.containers if container.domain)
    sites = plan_sites(host, public)
    redirects = plan_redirects(host, [redirect for stack in host_stacks for redirect in stack.redirects])
    proxy_stack = find_proxy(host.proxy.kind).plan_stack(host, sites, redirects)
    folders = ["bin"]
    folders += [server.name for server in host_servers]
    folders += [stack.name for stack in host_stacks]
    folders += [proxy_stack.name] if proxy_stack else []
    env_files = [f"{server.name}/.env" for server in host_servers]
    env_files += [f"{stack.name}/{env_file.name}" for stack in host_stacks for env_file in stack.env_files]
    return DeployHost(
        name=host.name,
        engine=host.engine,
        variable=host.variable,
        folder=host.home_folder,
        address=settings["address"],
        user=settings["user"],
        known_hosts=settings["known_hosts"],
        port=format_ssh_port(host.model.port),
        ssh_port=str(host.model.port),
        way=_format_ssh_config(host),
        jumps=plan_jump_hosts(host, settings),
        keys=tuple(
            _plan_deploy_key(spec, host, secret, [stacks[name] for name in names])
            for secret, names in environments_by_key.items()
        ),
        network=host.proxy.network,
        stacks=host_stacks,
        servers=host_servers,
        sources=tuple(f"deploy/{folder}" for folder in folders),
        env_files=tuple(env_files),
        public=public,
        proxy=host.proxy.kind,
        sites=sites,
        redirects=redirects,
        fronts=(proxy_stack,) if proxy_stack else (),
    )


def plan_proxy_guides(hosts: tuple[DeployHost, ...]) -> tuple[ProxyGuide, ...]:
    """Plan what the runbook says of the domains of proxies.

    What concerns all hosts with one kind of proxy comes first, then each host by itself.
    """
    shared_hosts: dict[str, list[DeployHost]] = {}
    own_guides = []
    for host in hosts:
        proxy = find_planned_proxy(host.proxy)
        if proxy.has_one_guide_for_all_hosts:
            shared_hosts.setdefault(proxy.guide_template, []).append(host)
        else:
            own_guides += [_plan_proxy_guide(_STACK_GUIDE_TEMPLATE, [host])] if host.fronts else []
            own_guides += [_plan_proxy_guide(proxy.guide_template, [host])] if proxy.guide_template else []
    shared_guides = [_plan_proxy_guide(template, same_hosts) for template, same_hosts in shared_hosts.items()]
    guides = [*shared_guides, *own_guides]
    return tuple(guide for guide in guides if guide.sites or guide.stack)


def _plan_proxy_guide(template: str, hosts: list[DeployHost]) -> ProxyGuide:
    sites = tuple(site for host in hosts for site in host.sites)
    return ProxyGuide(
        template=template,
        host=hosts[0].name,
        network=hosts[0].network,
        sites=sites,
        redirects=tuple(redirect for host in hosts for redirect in host.redirects),
        stack=hosts[0].fronts if template == _STACK_GUIDE_TEMPLATE else (),
        domains=tuple(site.domain for site in sites),
    )


def _plan_deploy_key(spec: EffectiveSpec, host: EffectiveHost, secret: str, stacks: list[ComposeStack]) -> DeployKey:
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
        stacks=stack_names,
        words=tuple(allowed_words),
        pushes=any(stack.pushed for stack in stacks),
        renders=any(stack.sent for stack in stacks),
        first_stack=stack_names[0],
        is_there=_is_key_of_earlier_host(spec, host, secret),
    )


def _is_key_of_earlier_host(spec: EffectiveSpec, host: EffectiveHost, secret: str) -> bool:
    """Whether a host before this one has the key, too, so that the runbook has already made it."""
    host_names = list(spec.hosts)
    earlier_names = host_names[: host_names.index(host.name)]
    for environment in spec.environments.values():
        for environment_host in environment.hosts:
            if (
                environment_host.name in earlier_names
                and environment.deploy_settings(environment_host)["key"].name == secret
            ):
                return True
    return False


def plan_jump_hosts(host: EffectiveHost, settings: dict[str, GitHubSetting]) -> tuple[JumpHost, ...]:
    """Plan the machine through which a host is reached, if there is one."""
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
            port=format_ssh_port(jump.port),
            ssh_port=str(jump.port),
        ),
    )


def format_ssh_port(port: int) -> str:
    """Write a port for ssh; empty for SSH's own, which needs no option."""
    return "" if port == DEFAULT_SSH_PORT else str(port)


def _format_ssh_config(host: EffectiveHost) -> str:
    """Write lines of a person's own ~/.ssh/config, in double quotes."""
    lines = []
    if host.model.port != DEFAULT_SSH_PORT:
        lines.append(f"Port {host.model.port}")
    if host.model.jump:
        lines.append(f"ProxyJump ${host.variable}_JUMP:{host.model.jump.port}")
    return " ".join(f'"{line}"' for line in lines)


def list_long_running(host: DeployHost) -> tuple[LongRunningAccessories, ...]:
    """List the stacks of a host whose accessories keep running, for the commands that renew them."""
    long_running = []
    for stack in host.stacks:
        names = tuple(accessory.container for accessory in stack.accessories if not accessory.once)
        if names:
            long_running.append(LongRunningAccessories(host.variable, f"{host.folder}/{stack.name}", names))
    return tuple(long_running)
