"""Stacks: the containers of an environment, their networks and volumes, and what lies beside the compose file."""

from collections.abc import Sequence

from kiwari_ci.effective_spec import EffectiveEnvironment, EffectiveHost
from kiwari_ci.engines import env_files as env_file_plans
from kiwari_ci.engines.compose import containers, schedules, stack_files
from kiwari_ci.plan_model import ComposeContainer, ComposeStack, DomainRedirect, StackNetwork, StackVolume


def plan_stack(environment: EffectiveEnvironment) -> ComposeStack:
    """Plan the Compose project of an environment."""
    has_own_network = containers.has_own_network(environment)
    instances = tuple(
        instance
        for service in environment.services.values()
        for instance in containers.plan_service_containers(service, has_own_network)
    )
    accessories = tuple(
        containers.plan_accessory_container(accessory, has_own_network)
        for accessory in environment.accessories.values()
    )
    all_containers = (*instances, *accessories)
    own_networks = _plan_own_networks(environment)
    env_files = env_file_plans.plan_env_files(environment)
    hooks = stack_files.plan_deploy_hooks(environment)
    files_beside = (*(f"hooks/{hook.name}" for hook in hooks), *environment.stack_files)
    return ComposeStack(
        name=environment.stack_name,
        source_folder=environment.source_folder,
        environment=environment.name,
        instances=instances,
        accessories=accessories,
        networks=_list_external_networks(all_containers, own_networks),
        own_networks=own_networks,
        env_files=() if environment.renders_env_files else env_files,
        volumes=_plan_volumes(environment, all_containers),
        hooks=hooks,
        hook_names=" and ".join(f"`hooks/{hook.name}`" for hook in hooks),
        sent=env_files if environment.renders_env_files else (),
        kept=env_file_plans.list_rendered_settings(environment),
        pushed=environment.sends_files,
        beside=files_beside,
        status_command=f"{program_path(environment.hosts_with('compose')[0])} status {environment.stack_name}",
        files=tuple(f"deploy/{environment.source_folder}/{file}" for file in ("docker-compose.yml", *files_beside)),
        jobs=schedules.plan_jobs(environment),
        redirects=_plan_redirects(environment),
    )


def _plan_redirects(environment: EffectiveEnvironment) -> tuple[DomainRedirect, ...]:
    """Plan the domains that only redirect."""
    return tuple(
        DomainRedirect(environment.url_scheme, domain, target, container.container_name)
        for container in environment.containers.values()
        for domain, target in container.redirects.items()
    )


def program_path(host: EffectiveHost) -> str:
    """The host program, as a person on the host calls it."""
    return f"{host.directory}/bin/deploy"


def _plan_own_networks(environment: EffectiveEnvironment) -> tuple[StackNetwork, ...]:
    """Plan the networks that Compose creates for the stack, except the default one, which it creates anyway."""
    networks = [
        network for container in environment.containers.values() for network in container.options.networks or ()
    ]
    return tuple(
        dict.fromkeys(
            StackNetwork(str(network.name or network.internal), network.internal is not None)
            for network in networks
            if not network.external
        )
    )


def _list_external_networks(
    all_containers: Sequence[ComposeContainer], own_networks: Sequence[StackNetwork]
) -> tuple[str, ...]:
    """List the networks that containers join and that somebody else creates."""
    own_names = {containers.DEFAULT_NETWORK, *(network.name for network in own_networks)}
    joined_names: list[str] = []
    for container in all_containers:
        joined_names += [*container.networks, *(attachment.name for attachment in container.aliased)]
    return tuple(name for name in dict.fromkeys(joined_names) if name not in own_names)


def _plan_volumes(
    environment: EffectiveEnvironment, all_containers: Sequence[ComposeContainer]
) -> tuple[StackVolume, ...]:
    """Plan the named volumes; a path is a folder of the host."""
    sources = [volume.partition(":")[0] for container in all_containers for volume in container.volumes]
    names = dict.fromkeys(source for source in sources if source[0] not in "./")
    return tuple(StackVolume(name, environment.model.volumes.get(name, "")) for name in names)
