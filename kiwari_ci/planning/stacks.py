"""Stacks: the containers of an environment, and their env files."""

from collections.abc import Iterator

from kiwari_ci import schema
from kiwari_ci.effective import derived
from kiwari_ci.plan import ComposeContainer, ComposeStack, EnvFile, EnvFileLine, EnvFileSection, StackNetwork
from kiwari_ci.planning import containers, schedules, stack_files

_FILL_IN_INSTRUCTION = f"replace each {derived.PLACEHOLDER}: with one left, nothing is deployed"


def plan_stack(given: schema.Spec, environment: str) -> ComposeStack:
    """The Compose project of an environment."""
    instances = tuple(
        instance
        for service in derived.list_services(given, environment)
        for instance in containers.plan_service_containers(given, environment, service)
    )
    accessories = tuple(
        containers.plan_accessory_container(given, environment, name)
        for name in derived.list_accessories(given, environment)
    )
    found = (*instances, *accessories)
    own = _plan_own_networks(given, environment)
    joined = dict.fromkeys(name for each in found for name in (*each.networks, *(one.name for one in each.aliased)))
    made = {containers.DEFAULT_NETWORK, *(network.name for network in own)}
    env_files, rendered = _plan_env_files(given, environment), given.environments[environment].env_from is not None
    hooks, files = stack_files.plan_deploy_hooks(given, environment), stack_files.list_stack_files(given, environment)
    name = derived.derive_stack_name(given, environment)
    return ComposeStack(
        name=name,
        environment=environment,
        instances=instances,
        accessories=accessories,
        networks=tuple(name for name in joined if name not in made),
        own_networks=own,
        env_files=() if rendered else env_files,
        volumes=_list_named_volumes(found),
        hooks=hooks,
        hook_names=" and ".join(f"`hooks/{hook.name}`" for hook in hooks),
        sent=env_files if rendered else (),
        kept=stack_files.list_rendered_settings(given, environment),
        pushed=given.environments[environment].sync is not None,
        beside=files,
        files=tuple(f"deploy/{name}/{file}" for file in ("docker-compose.yml", *files)),
        jobs=schedules.plan_jobs(given, environment),
    )


def _plan_own_networks(given: schema.Spec, environment: str) -> tuple[StackNetwork, ...]:
    """Those that Compose makes for the stack, but for the one that it makes anyway."""
    held = [
        derived.resolve_container_options(given, environment, name)
        for name in derived.list_services_and_accessories(given, environment)
    ]
    written = [each for model in held for each in model.networks or () if not each.external]
    return tuple(
        dict.fromkeys(StackNetwork(str(each.name or each.internal), each.internal is not None) for each in written)
    )


def _list_named_volumes(found: tuple[ComposeContainer, ...]) -> tuple[str, ...]:
    """Those that Compose makes for the stack; a path is the host's."""
    sources = [volume.partition(":")[0] for each in found for volume in each.volumes]
    return tuple(dict.fromkeys(name for name in sources if name[0] not in "./"))


def _plan_env_files(given: schema.Spec, environment: str) -> tuple[EnvFile, ...]:
    groups: dict[str, list[EnvFileSection]] = {}
    for name in derived.list_services_and_accessories(given, environment):
        if file := derived.derive_env_file_name(given, environment, name):
            title = derived.derive_container_name(given, environment, name)
            group = EnvFileSection(title, tuple(_plan_env_lines(given, environment, name)))
            groups.setdefault(file, []).append(group)
    return tuple(EnvFile(name, _FILL_IN_INSTRUCTION, _drop_repeated_keys(found)) for name, found in groups.items())


def _plan_env_lines(given: schema.Spec, environment: str, name: str) -> Iterator[EnvFileLine]:
    for key, value in derived.resolve_container_options(given, environment, name).env.items():
        yield _plan_env_line(given, environment, name, key, value)


def _plan_env_line(given: schema.Spec, environment: str, name: str, key: str, value: schema.EnvValue) -> EnvFileLine:
    note = "secret" if value.secret else ""
    database = given.environments[environment].database
    if value.database == "url" and database:
        password = derived.derive_password_key(given, environment, database)
        place = f"{password} in {derived.find_database_server(given, database)}/.env"
        note = f"secret: the password is {place}; percent-encode what is not a letter or digit"
    setting = derived.find_env_setting(key, value)
    return EnvFileLine(
        key, derived.resolve_env_variable(given, environment, name, value), note, setting.name if setting else ""
    )


def _drop_repeated_keys(groups: list[EnvFileSection]) -> tuple[EnvFileSection, ...]:
    """A key that two services of one env file share stands there once."""
    seen: set[str] = set()
    kept = []
    for group in groups:
        lines = tuple(line for line in group.lines if line.key not in seen)
        seen |= {line.key for line in lines}
        kept += [EnvFileSection(group.title, lines)] if lines else []
    return tuple(kept)
