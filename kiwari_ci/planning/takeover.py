"""Plans what the runbook says of an environment that serves already: its containers, and what becomes of each."""

from collections.abc import Iterable, Iterator
from typing import Literal

from kiwari_ci.effective_spec import EffectiveEnvironment, EffectiveSpec
from kiwari_ci.effective_spec.containers import EffectiveService
from kiwari_ci.effective_spec.databases import PLACEHOLDER
from kiwari_ci.effective_spec.values import find_published_port
from kiwari_ci.plan_model import AccessoryContainer, ComposeStack, Stack, TakenOverContainer, Takeover
from kiwari_ci.plan_model.runbook import ValuesOfToday
from kiwari_ci.proxies.all_proxies import find_proxy
from kiwari_ci.proxies.base import UNKNOWN_SWITCH_TEMPLATE


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
    proxy_options = environment.first_host.proxy
    proxy = find_proxy(proxy_options.kind)
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
        containers=tuple(_plan_containers(environment)),
        values=tuple(_list_values(environment, stack)),
        connect_commands=tuple(_list_connect_commands(environment, stack)),
        connected_commands=tuple(_list_connected_commands(environment, stack)),
        moved_volumes=_list_moved_volumes(stack) if has_other_project else "",
        network=proxy_options.network,
        switch_template=_choose_switch_template(environment),
        finds_by_name=proxy.is_on_shared_network and not proxy.reads_labels,
    )


def _choose_switch_template(environment: EffectiveEnvironment) -> str:
    """Choose the template by the proxy of today.

    A generated proxy cannot start while another program uses its ports, so of the one of today nothing is known.
    """
    options = environment.first_host.proxy
    proxy = find_proxy(options.kind)
    return UNKNOWN_SWITCH_TEMPLATE if proxy.stack_name(options) else proxy.switch_template


def _list_moved_volumes(stack: ComposeStack) -> str:
    """List the volumes that Compose would make anew, by their names in Docker."""
    return ", ".join(f"`{stack.name}_{volume.name}`" for volume in stack.volumes if not volume.existing)


def _list_values(environment: EffectiveEnvironment, stack: ComposeStack) -> Iterator[ValuesOfToday]:
    """List the keys that a person fills in, by the container of today that has their values.

    The example of the env file has a value for every other key, which is often another one than today: the new
    container of a service can have another name, for example.
    """
    today = environment.model.takeover
    assert today
    variable = environment.first_host.variable
    for name, names_today in today.containers.items():
        container_today = names_today[0]  # its replicas have the same values
        container = environment.containers[name]
        examples = {key: container.resolve_variable(value) for key, value in container.options.env.items()}
        keys = [key for key, example in examples.items() if not example or PLACEHOLDER in example]
        if not keys:
            continue
        place = f"`{stack.name}/{container.env_file}`"
        if stack.sent:
            place = f"secrets and variables of the environment `{environment.name}` on GitHub"
        printed = "{{range .Config.Env}}{{println .}}{{end}}"
        script = f"docker inspect -f '{printed}' {container_today} | grep -E '^({'|'.join(keys)})='"
        yield ValuesOfToday(
            container=container_today,
            keys=", ".join(f"`{key}`" for key in keys),
            place=place,
            command=f'ssh "${variable}" "{script}"',
        )


def _list_connected_commands(environment: EffectiveEnvironment, stack: ComposeStack) -> Iterator[str]:
    """Show the networks of what is connected, on each host."""
    today = environment.model.takeover
    assert today
    names = [accessory.container for accessory in _list_staying_accessories(environment, stack)]
    if today.ports:
        names.append(today.ports)
    if not names:
        return
    networks = "{{range \\$name, \\$settings := .NetworkSettings.Networks}} {{\\$name}}{{end}}"
    for host in environment.hosts:
        yield f'ssh "${host.variable}" \'docker inspect -f "{{{{.Name}}}}:{networks}" {" ".join(names)}\''


def _list_staying_accessories(environment: EffectiveEnvironment, stack: ComposeStack) -> list[AccessoryContainer]:
    """List the accessories that run today under the name that the spec gives them."""
    today = environment.model.takeover
    assert today
    return [
        accessory for accessory in stack.accessories if accessory.container in today.containers.get(accessory.name, [])
    ]


def _list_connect_commands(environment: EffectiveEnvironment, stack: ComposeStack) -> Iterator[str]:
    """Connect what stays to the networks of the new containers, on each host; nothing restarts.

    A network of the stack's own is created first, with the labels by which Compose knows it as its own.
    """
    today = environment.model.takeover
    assert today
    scripts = []
    for accessory in _list_staying_accessories(environment, stack):
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


def _plan_containers(environment: EffectiveEnvironment) -> Iterator[TakenOverContainer]:
    """Plan each container of today: beside the new one that has its name, or that takes the same place in the list."""
    today = environment.model.takeover
    assert today
    for name, names_today in today.containers.items():
        new_names = environment.containers[name].replica_names
        for index, name_today in enumerate(names_today):
            new_name = name_today if name_today in new_names else new_names[min(index, len(new_names) - 1)]
            yield _plan_container(environment, name, name_today, new_name)


def _plan_container(environment: EffectiveEnvironment, name: str, today: str, new_name: str) -> TakenOverContainer:
    container = environment.containers[name]
    return TakenOverContainer(
        name=name,
        today=today,
        container=new_name,
        addresses=tuple(route.address for route in container.routes),
        pass_to=_describe_target(environment, name),
        has_port=container.options.port is not None,
        outcome=_decide_outcome(environment, name, has_same_name=today == new_name),
    )


def _describe_target(environment: EffectiveEnvironment, name: str) -> str:
    """Where the proxy passes requests for a container; empty if it answers none."""
    container = environment.containers[name]
    port = container.options.port
    if port is None:
        return ""
    if find_proxy(environment.first_host.proxy.kind).is_on_shared_network:
        return f"{container.container_name}:{port}"
    published_port = find_published_port(container.options.ports or (), port)
    return f"127.0.0.1:{published_port}" if published_port else f"{container.container_name}:{port}"


def _decide_outcome(
    environment: EffectiveEnvironment, name: str, has_same_name: bool
) -> Literal["stays", "another-name", "without-a-gap", "with-a-gap", "under-its-own-name"]:
    """What the host program does with a container that it finds."""
    container = environment.containers[name]
    if not isinstance(container, EffectiveService):
        return "stays" if has_same_name else "another-name"
    if not has_same_name:
        return "under-its-own-name"
    options = container.options
    # A published port can belong to one container only, and a service without a health check cannot prove itself.
    needs_stop = bool(options.ports) or options.port is None or options.rollout == "recreate"
    return "with-a-gap" if needs_stop else "without-a-gap"
