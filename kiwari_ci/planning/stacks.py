"""Stacks: the containers of an environment, and their env files."""

from collections.abc import Iterator

from kiwari_ci import schema
from kiwari_ci.effective import derived
from kiwari_ci.plan import Container, EnvFile, EnvGroup, EnvLine, Network, Stack
from kiwari_ci.planning import containers, stack_files

_TASK = f"replace each {derived.CHANGE_ME}: with one left, nothing is deployed"


def stack(given: schema.Spec, environment: str) -> Stack:
    """The Compose project of an environment."""
    instances = tuple(
        instance
        for service in derived.services_of(given, environment)
        for instance in containers.instances(given, environment, service)
    )
    accessories = tuple(
        containers.accessory(given, environment, name) for name in derived.accessories_of(given, environment)
    )
    found = (*instances, *accessories)
    own = _own_networks(given, environment)
    joined = dict.fromkeys(name for each in found for name in (*each.networks, *(one.name for one in each.aliased)))
    made = {containers.DEFAULT, *(network.name for network in own)}
    env_files, rendered = _env_files(given, environment), given.environments[environment].env_from is not None
    hooks, files = stack_files.hooks(given, environment), stack_files.files(given, environment)
    name = derived.stack_name(given, environment)
    return Stack(
        name=name,
        environment=environment,
        instances=instances,
        accessories=accessories,
        networks=tuple(name for name in joined if name not in made),
        own_networks=own,
        env_files=() if rendered else env_files,
        volumes=_named_volumes(found),
        hooks=hooks,
        hook_names=" and ".join(f"`hooks/{hook.name}`" for hook in hooks),
        sent=env_files if rendered else (),
        kept=stack_files.kept(given, environment),
        pushed=given.environments[environment].sync is not None,
        beside=files,
        files=tuple(f"deploy/{name}/{file}" for file in ("docker-compose.yml", *files)),
    )


def _own_networks(given: schema.Spec, environment: str) -> tuple[Network, ...]:
    """Those that Compose makes for the stack, but for the one that it makes anyway."""
    held = [derived.running_of(given, environment, name) for name in derived.held_by(given, environment)]
    written = [each for model in held for each in model.networks or () if not each.external]
    return tuple(dict.fromkeys(Network(str(each.name or each.internal), each.internal is not None) for each in written))


def _named_volumes(found: tuple[Container, ...]) -> tuple[str, ...]:
    """Those that Compose makes for the stack; a path is the host's."""
    sources = [volume.partition(":")[0] for each in found for volume in each.volumes]
    return tuple(dict.fromkeys(name for name in sources if name[0] not in "./"))


def _env_files(given: schema.Spec, environment: str) -> tuple[EnvFile, ...]:
    groups: dict[str, list[EnvGroup]] = {}
    for name in derived.held_by(given, environment):
        if file := derived.env_file(given, environment, name):
            title = derived.container_name(given, environment, name)
            group = EnvGroup(title, tuple(_env_lines(given, environment, name)))
            groups.setdefault(file, []).append(group)
    return tuple(EnvFile(name, _TASK, _without_repeats(found)) for name, found in groups.items())


def _env_lines(given: schema.Spec, environment: str, name: str) -> Iterator[EnvLine]:
    for key, value in derived.running_of(given, environment, name).env.items():
        yield _env_line(given, environment, name, key, value)


def _env_line(given: schema.Spec, environment: str, name: str, key: str, value: schema.EnvValue) -> EnvLine:
    note = "secret" if value.secret else ""
    database = given.environments[environment].database
    if value.database == "url" and database:
        password = derived.password_variable(given, environment, database)
        place = f"{password} in {derived.server_of(given, database)}/.env"
        note = f"secret: the password is {place}; percent-encode what is not a letter or digit"
    setting = derived.env_setting(key, value)
    return EnvLine(key, derived.env_value(given, environment, name, value), note, setting.name if setting else "")


def _without_repeats(groups: list[EnvGroup]) -> tuple[EnvGroup, ...]:
    """A key that two services of one env file share stands there once."""
    seen: set[str] = set()
    kept = []
    for group in groups:
        lines = tuple(line for line in group.lines if line.key not in seen)
        seen |= {line.key for line in lines}
        kept += [EnvGroup(group.title, lines)] if lines else []
    return tuple(kept)
