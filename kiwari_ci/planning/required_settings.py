"""What a person must set before a deploy works: secrets and variables at GitHub, env files on the servers."""

from collections.abc import Iterable, Iterator

from kiwari_ci import schema
from kiwari_ci.effective_spec import EffectiveSpec
from kiwari_ci.effective_spec.hosts import pull_token_setting
from kiwari_ci.engines.all_engines import find_engine
from kiwari_ci.frozen import dataclass
from kiwari_ci.plan_model import (
    DeployHost,
    EnvFile,
    GitHubSetting,
    Host,
    Plan,
    RegistryLogin,
    RequiredSetting,
)

BUILD_ENVIRONMENT = "build"  # GitHub's environment that a build with secrets runs in


@dataclass(frozen=True)
class EnvFileKey:
    """A key of an env file; `secret` when its value is one."""

    name: str
    secret: bool


@dataclass(frozen=True)
class HostEnvFile:
    """An env file that a host keeps, by its path there, or a cluster's Secret, and the keys that it must hold."""

    host: str
    path: str
    keys: tuple[EnvFileKey, ...]


@dataclass(frozen=True)
class CollectedSettings:
    """The secrets and variables of a spec: tokens with which hosts pull, what builds and a person's steps read, all.

    `required` has also those of hosts, each once, as the runbook lists them.
    """

    tokens: tuple[GitHubSetting, ...]
    of_builds: tuple[RequiredSetting, ...]
    of_steps: tuple[RequiredSetting, ...]
    required: tuple[RequiredSetting, ...]

    @property
    def of_no_host(self) -> tuple[GitHubSetting | RequiredSetting, ...]:
        """Those that belong to no host."""
        return (*self.tokens, *self.of_builds, *self.of_steps)


def collect_settings(spec: EffectiveSpec, hosts: tuple[Host, ...], login: RegistryLogin) -> CollectedSettings:
    """Collect every secret and variable: of hosts as the runbook has them, of tokens, builds, and a person's steps."""
    tokens = _collect_pull_tokens(spec, hosts)
    of_builds = _collect_build_settings(spec, login)
    of_steps = tuple(_collect_step_settings(spec))
    of_hosts = [
        *(setting for host in hosts for setting in find_engine(host.engine).required_settings(host)),
        *_collect_rendered_settings(hosts),
        *_describe_pull_tokens(tokens, hosts, spec.registry.host),
    ]
    return CollectedSettings(tokens, of_builds, of_steps, _merge_duplicates([*of_hosts, *of_builds, *of_steps]))


def _list_pulling_hosts(hosts: tuple[Host, ...]) -> list[DeployHost]:
    """List the hosts that pull images with a token of GitHub's; a cluster keeps its own."""
    return [host for host in hosts if isinstance(host, DeployHost) and host.stacks]


def _collect_pull_tokens(spec: EffectiveSpec, hosts: tuple[Host, ...]) -> tuple[GitHubSetting, ...]:
    """Collect what hosts pull images with, except for the job's own token, which nobody sets."""
    token = pull_token_setting(spec.registry)
    return (token,) if token.kind and _list_pulling_hosts(hosts) else ()


def _describe_pull_tokens(
    tokens: tuple[GitHubSetting, ...], hosts: tuple[Host, ...], registry: str
) -> list[RequiredSetting]:
    environments = tuple(stack.environment for host in _list_pulling_hosts(hosts) for stack in host.stacks)
    permission = "with `read:packages`" if registry == "ghcr.io" else f"that may pull from {registry}"
    purpose = f"token {permission}: the host pulls images with it, and does not store it"
    return [RequiredSetting(token.name, token.kind, purpose, environments) for token in tokens]


def _collect_rendered_settings(hosts: tuple[Host, ...]) -> list[RequiredSetting]:
    """Collect what env files are rendered from, each with the environments that read it."""
    environments: dict[GitHubSetting, list[str]] = {}
    for host in hosts:
        for stack in host.stacks:
            for setting in stack.kept:
                names = environments.setdefault(setting, [])
                if stack.environment not in names:
                    names.append(stack.environment)
    return [
        RequiredSetting(setting.name, setting.kind, f"value in the env files of {', '.join(names)}", tuple(names))
        for setting, names in environments.items()
    ]


def _collect_build_settings(spec: EffectiveSpec, login: RegistryLogin) -> tuple[RequiredSetting, ...]:
    """Collect what the jobs that build read: the token that pushes, then secrets and variables of images."""
    settings = _collect_image_settings(spec)
    if login.secret:
        purpose = f"token that may push to {login.registry}"
        settings.insert(0, RequiredSetting(login.secret, "secret", purpose, (BUILD_ENVIRONMENT,)))
    return tuple(settings)


def _collect_step_settings(spec: EffectiveSpec) -> Iterator[RequiredSetting]:
    """Collect what the steps read that a person added to jobs: those that build an image, and those that deploy it."""
    for service in spec.built_services:
        steps = spec.services[service].steps.before_build
        purpose = f"for the steps before the build of {service}"
        yield from _require_step_values(steps, purpose, secret_readers=(BUILD_ENVIRONMENT,), variable_readers=())
    for service, model in spec.services.items():
        environments = spec.environments.values()
        readers = tuple(environment.name for environment in environments if service in environment.services)
        purpose = f"for the steps after a deploy of {service}"
        yield from _require_step_values(model.steps.after_deploy, purpose, readers, readers)
    for service, model in spec.services.items():
        purpose = f"for the steps around the tests of {service}"
        steps = [*model.steps.before_test, *model.steps.after_test]
        yield from _require_step_values(steps, purpose, secret_readers=(), variable_readers=())


def _require_step_values(
    steps: Iterable[schema.Step], purpose: str, secret_readers: tuple[str, ...], variable_readers: tuple[str, ...]
) -> Iterator[RequiredSetting]:
    for step in steps:
        for value in step.env.values():
            if value.secret:
                yield RequiredSetting(value.secret, "secret", purpose, secret_readers)
            elif value.variable:
                yield RequiredSetting(value.variable, "variable", purpose, variable_readers)


def list_host_env_files(plan: Plan) -> tuple[HostEnvFile, ...]:
    """List every env file, host by host."""
    env_files = []
    for host in plan.hosts:
        env_files += [_describe_env_file(host, server.name, server.env_file) for server in host.servers]
        for stack in host.stacks:
            env_files += [_describe_env_file(host, stack.name, env_file) for env_file in stack.env_files]
    for cluster in plan.clusters:
        for cluster_stack in cluster.stacks:
            for secret in cluster_stack.secrets:
                place = f"Secret {secret.name} in {cluster_stack.name}"
                env_files.append(HostEnvFile(cluster.name, place, _list_keys(secret.env_file)))
    return tuple(env_files)


def format_required_settings(plan: Plan) -> str:
    """Format settings and env files as tables for people."""
    setting_rows: list[tuple[str, ...]] = [
        (setting.name, setting.kind, ", ".join(setting.environments), setting.holds) for setting in plan.needs
    ]
    file_rows: list[tuple[str, ...]] = [
        (env_file.host, env_file.path, ", ".join(map(_format_key, env_file.keys)))
        for env_file in list_host_env_files(plan)
    ]
    tables = (("GitHub keeps", setting_rows), ("The servers keep", file_rows))
    return "\n\n".join("\n".join([f"{title}:", *_format_table(rows)]) for title, rows in tables if rows)


def _format_key(key: EnvFileKey) -> str:
    return f"{key.name} (secret)" if key.secret else key.name


def _merge_duplicates(settings: list[RequiredSetting]) -> tuple[RequiredSetting, ...]:
    """Merge what several hosts share, or several jobs."""
    groups: dict[tuple[str, str], list[RequiredSetting]] = {}
    for setting in settings:
        groups.setdefault((setting.name, setting.kind), []).append(setting)
    merged = []
    for (name, kind), group in groups.items():
        purposes = dict.fromkeys(setting.holds for setting in group)
        environments = dict.fromkeys(environment for setting in group for environment in setting.environments)
        merged.append(RequiredSetting(name, kind, ", ".join(purposes), tuple(environments)))
    return tuple(merged)


def _collect_image_settings(spec: EffectiveSpec) -> list[RequiredSetting]:
    images: dict[tuple[str, str], list[str]] = {}
    for image in spec.images:
        for argument in image.build.args.values():
            if argument.variable:
                images.setdefault((argument.variable, "variable"), []).append(image.name)
        for secret in image.build.secrets.values():
            images.setdefault((secret, "secret"), []).append(image.name)
    settings = []
    for (name, kind), image_names in images.items():
        environments = (BUILD_ENVIRONMENT,) if kind == "secret" else ()
        settings.append(RequiredSetting(name, kind, f"for the build of {', '.join(image_names)}", environments))
    return settings


def _describe_env_file(host: DeployHost, folder: str, env_file: EnvFile) -> HostEnvFile:
    return HostEnvFile(host.name, f"{host.folder}/{folder}/{env_file.name}", _list_keys(env_file))


def _list_keys(env_file: EnvFile) -> tuple[EnvFileKey, ...]:
    lines = [line for section in env_file.groups for line in section.lines]
    return tuple(EnvFileKey(line.key, line.note.startswith("secret")) for line in lines)


def _format_table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
