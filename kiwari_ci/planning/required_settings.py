"""What a person must set before a deploy works: secrets and variables at GitHub, env files on the servers."""

from dataclasses import dataclass

from kiwari_ci.engines.registry import find_engine
from kiwari_ci.plan import DeployHost, EnvFile, GitHubSetting, Plan, RegistryLogin, RequiredSetting, ServiceWorkflow

BUILD_ENVIRONMENT = "build"  # GitHub's environment that a build with secrets runs in


@dataclass(frozen=True)
class EnvFileKey:
    """A key of an env file; `secret` when its value is one."""

    name: str
    secret: bool


@dataclass(frozen=True)
class HostEnvFile:
    """An env file that a host keeps, by its path there, and the keys that it must hold."""

    host: str
    path: str
    keys: tuple[EnvFileKey, ...]


def collect_required_settings(
    hosts: tuple[DeployHost, ...], tokens: tuple[GitHubSetting, ...], builds: tuple[RequiredSetting, ...], registry: str
) -> tuple[RequiredSetting, ...]:
    """Every secret and variable, host by host as the runbook tells them; then tokens, then what builds take."""
    everywhere = tuple(stack.environment for host in hosts for stack in host.stacks)
    may = "with `read:packages`" if registry == "ghcr.io" else f"that may pull from {registry}"
    last = f"token {may}: the host pulls with it, and never keeps it"
    found = [setting for host in hosts for setting in find_engine(host.engine).required_settings(host)]
    kept: dict[GitHubSetting, list[str]] = {}
    for stack in (stack for host in hosts for stack in host.stacks):
        for setting in stack.kept:
            kept.setdefault(setting, []).append(stack.environment)
    found += [
        RequiredSetting(
            setting.name, setting.kind, f"what the env files of {', '.join(places)} are rendered from", tuple(places)
        )
        for setting, places in kept.items()
    ]
    found += [RequiredSetting(token.name, token.kind, last, everywhere) for token in tokens]
    return _merge_duplicates([*found, *builds])


def collect_build_settings(workflows: tuple[ServiceWorkflow, ...], login: RegistryLogin) -> tuple[RequiredSetting, ...]:
    """What the jobs that build read: the token that pushes, then secrets and variables of images."""
    push = RequiredSetting(login.secret, "secret", f"token that may push to {login.registry}", (BUILD_ENVIRONMENT,))
    return (*([push] if login.secret else []), *_collect_image_settings(workflows))


def list_host_env_files(plan: Plan) -> tuple[HostEnvFile, ...]:
    """Every env file, host by host."""
    found = []
    for host in plan.hosts:
        found += [_describe_env_file(host, server.name, server.env_file) for server in host.servers]
        found += [_describe_env_file(host, stack.name, file) for stack in host.stacks for file in stack.env_files]
    return tuple(found)


def format_required_settings(plan: Plan) -> str:
    """Both as tables for people."""
    rows: list[tuple[str, ...]] = [
        (need.name, need.kind, ", ".join(need.environments), need.holds) for need in plan.needs
    ]
    files: list[tuple[str, ...]] = [
        (file.host, file.path, ", ".join(key.name + (" (secret)" if key.secret else "") for key in file.keys))
        for file in list_host_env_files(plan)
    ]
    parts = [("GitHub keeps", rows), ("The servers keep", files)]
    return "\n\n".join("\n".join([f"{title}:", *_format_table(each)]) for title, each in parts if each)


def _merge_duplicates(needs: list[RequiredSetting]) -> tuple[RequiredSetting, ...]:
    """What several hosts share, or several jobs, once."""
    found: dict[tuple[str, str], list[RequiredSetting]] = {}
    for need in needs:
        found.setdefault((need.name, need.kind), []).append(need)
    return tuple(
        RequiredSetting(
            *name_and_kind,
            ", ".join(dict.fromkeys(need.holds for need in same)),
            tuple(dict.fromkeys(environment for need in same for environment in need.environments)),
        )
        for name_and_kind, same in found.items()
    )


def _collect_image_settings(workflows: tuple[ServiceWorkflow, ...]) -> list[RequiredSetting]:
    found: dict[tuple[str, str], list[str]] = {}
    for workflow in workflows:
        for name in workflow.build.variables:
            found.setdefault((name, "variable"), []).append(workflow.source.image)
        for secret in workflow.build.secrets:
            found.setdefault((secret.value, "secret"), []).append(workflow.source.image)
    return [
        RequiredSetting(
            name, kind, f"for the build of {', '.join(services)}", (BUILD_ENVIRONMENT,) if kind == "secret" else ()
        )
        for (name, kind), services in found.items()
    ]


def _describe_env_file(host: DeployHost, folder: str, file: EnvFile) -> HostEnvFile:
    lines = [line for group in file.groups for line in group.lines]
    keys = tuple(EnvFileKey(line.key, line.note.startswith("secret")) for line in lines)
    return HostEnvFile(host.name, f"{host.folder}/{folder}/{file.name}", keys)


def _format_table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
