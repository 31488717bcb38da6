"""Plans what the runbook says of an environment that serves already: its containers, and what becomes of each."""

from collections.abc import Iterable, Iterator
from typing import Literal

from kiwari_ci.effective import EffectiveEnvironment, EffectiveSpec
from kiwari_ci.effective.containers import EffectiveService
from kiwari_ci.plan import ComposeStack, Stack, TakenOverContainer, Takeover
from kiwari_ci.proxies.all_proxies import find_proxy


def plan_takeovers(spec: EffectiveSpec, all_stacks: Iterable[Stack]) -> tuple[Takeover, ...]:
    """Plan the takeovers in the order in which a person does them: those that others promote from come first."""
    stacks = {stack.environment: stack for stack in all_stacks if isinstance(stack, ComposeStack)}
    environments = [spec.environments[name] for name in stacks if spec.environments[name].model.takeover]
    environments.sort(key=lambda environment: environment.model.promote is not None)
    return tuple(_plan_takeover(environment, stacks[environment.name]) for environment in environments)


def _plan_takeover(environment: EffectiveEnvironment, stack: ComposeStack) -> Takeover:
    today = environment.model.takeover
    assert today
    has_other_project = today.project != stack.name
    return Takeover(
        environment=environment.name,
        stack=stack.name,
        host_variables=tuple(host.variable for host in environment.hosts),
        host_folder=environment.first_host.home_folder,
        project=today.project or "",
        folder=today.folder or "",
        has_same_folder=today.folder == f"{environment.first_host.directory}/{stack.name}",
        workflows=tuple(today.workflows or ()),
        ports=today.ports or "",
        has_https=environment.url_scheme == "https",
        containers=tuple(
            _plan_container(environment, name, container_today) for name, container_today in today.containers.items()
        ),
        connect_commands=tuple(_list_connect_commands(environment, stack)),
        moved_volumes=_list_moved_volumes(stack) if has_other_project else "",
        proxy_reads_labels=find_proxy(environment.first_host.proxy.kind).reads_labels,
    )


def _list_moved_volumes(stack: ComposeStack) -> str:
    """List the volumes that Compose would make anew, by their names in Docker."""
    return ", ".join(f"`{stack.name}_{volume.name}`" for volume in stack.volumes if not volume.existing)


def _list_connect_commands(environment: EffectiveEnvironment, stack: ComposeStack) -> Iterator[str]:
    """Connect what stays to the networks of the new containers, on each host; nothing restarts.

    A network of the stack's own is created first, with the labels by which Compose knows it as its own.
    """
    today = environment.model.takeover
    assert today
    scripts = []
    for accessory in stack.accessories:
        if accessory.container != today.containers.get(accessory.name):
            continue
        attachments = accessory.aliased
        names = [attachment.name for attachment in attachments] or list(accessory.networks)
        aliases = [attachment.alias for attachment in attachments] or [""] * len(names)
        for name, alias, docker_name in zip(names, aliases, accessory.docker_networks, strict=True):
            if name not in stack.networks:
                scripts.append(_format_create_network(stack, name, docker_name))
            scripts.append(_format_connect(docker_name, accessory.container, alias))
    if today.ports:
        scripts.append(_format_connect(environment.first_host.proxy.network, today.ports))
    for host in environment.hosts:
        for script in scripts:
            yield f"ssh \"${host.variable}\" '{script}'"


def _format_create_network(stack: ComposeStack, name: str, docker_name: str) -> str:
    labels = f"--label com.docker.compose.project={stack.name} --label com.docker.compose.network={name}"
    create = f"docker network create {labels} {docker_name}"
    return f"docker network inspect {docker_name} >/dev/null 2>&1 || {create}"


def _format_connect(network: str, container: str, alias: str = "") -> str:
    """Connect a container to a network, unless it is connected already, which Docker would refuse."""
    # The server's shell reads this in double quotes, where a dollar sign needs a backslash.
    networks = "{{range \\$name, \\$settings := .NetworkSettings.Networks}}{{println \\$name}}{{end}}"
    alias_option = f"--alias {alias} " if alias else ""
    connect = f"docker network connect {alias_option}{network} {container}"
    return f'docker inspect -f "{networks}" {container} | grep -qx {network} || {connect}'


def _plan_container(environment: EffectiveEnvironment, name: str, today: str) -> TakenOverContainer:
    container = environment.containers[name]
    return TakenOverContainer(
        name=name,
        today=today,
        container=container.container_name,
        domain=container.domain,
        outcome=_decide_outcome(environment, name, today),
    )


def _decide_outcome(
    environment: EffectiveEnvironment, name: str, today: str
) -> Literal["stays", "another-name", "without-a-gap", "with-a-gap", "under-its-own-name"]:
    """What the host program does with a container that it finds."""
    container = environment.containers[name]
    has_same_name = today == container.container_name
    if not isinstance(container, EffectiveService):
        return "stays" if has_same_name else "another-name"
    if not has_same_name:
        return "under-its-own-name"
    options = container.options
    # A published port can belong to one container only, and a service without a health check cannot prove itself.
    needs_stop = bool(options.ports) or options.port is None or options.rollout == "recreate"
    return "with-a-gap" if needs_stop else "without-a-gap"
