"""Compares how deploys reach their hosts, and what they send along."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kiwari_ci.commands.diff.change import PipelineChange, format_names, pair_replacements
from kiwari_ci.commands.diff.matching import ResponsibleJob
from kiwari_ci.plan_model import Plan, SshRoute, Stack
from kiwari_ci.problems import join_with_limit
from kiwari_ci.readers.shell import parse_shell_commands
from kiwari_ci.readers.step_effects import HOST_PROGRAM_NOTE, ROLLOUT_NAME, ROLLOUT_NOTE, SSH_CLIENT_NAME

_DEFAULT_PORT = "22"


@dataclass(frozen=True)
class DeployTransport:
    """How the deploys of one environment reach its hosts: `hosts` in the order in which they are deployed to."""

    hosts: tuple[str, ...]
    ports: tuple[str, ...]
    has_jump_host: bool
    proxy_commands: tuple[str, ...]
    sends_files: bool
    writes_env_files: bool


def get_planned_transport(plan: Plan, environment: str) -> DeployTransport | None:
    """The transport of an environment as the plan has it; None for an environment that is not deployed."""
    deploys = [deploy for deploy in plan.list_deploys() if deploy.environment == environment]
    if not deploys:
        return None
    steps = [step for deploy in deploys for step in deploy.ways]
    routes = [step for step in steps if isinstance(step, SshRoute)]
    ports = [route.port.option for route in routes]
    ports += [jump.port.option for route in routes for jump in route.jumps]
    return DeployTransport(
        hosts=tuple(dict.fromkeys(step.host for step in steps)),
        ports=_list_ports(ports),
        has_jump_host=any(route.jumps for route in routes),
        proxy_commands=tuple(proxy_command.words for route in routes for proxy_command in route.proxy_commands),
        sends_files=any(route.stack.pushed for route in routes),
        writes_env_files=any(_writes_env_file(step.stack) for step in steps),
    )


def _writes_env_file(stack: Stack) -> bool:
    return any(section.lines for env_file in stack.sent for section in env_file.groups)


def read_generated_transport(roles: list[ResponsibleJob]) -> DeployTransport | None:
    """The transport of an environment as generated workflows have it; None where another hand wrote the deploys.

    The files that the new ones replace may be of any commit, so there is no plan of them: they have to be read. Only
    the title of a deploy step has the host's name in the spec.
    """
    hosts: dict[str, list[str]] = {}
    for _, job, effect in roles:
        if effect.note not in (HOST_PROGRAM_NOTE, ROLLOUT_NOTE):
            continue
        for step in job.steps:
            title = re.fullmatch("(?:Pull and restart|Roll out) on (.+)", step.title)
            if title:
                hosts[title[1]] = _find_client_arguments(step.run)
    if not hosts:
        return None
    arguments = [word for client_arguments in hosts.values() for word in client_arguments]
    ports = _find_option_values(arguments, ("--port", "--jump-port"))
    return DeployTransport(
        hosts=tuple(hosts),
        ports=_list_ports(ports),
        has_jump_host="--jump-address" in arguments,
        proxy_commands=tuple(_find_option_values(arguments, ("--proxy-command",))),
        sends_files="--send-files" in arguments,
        writes_env_files="--env" in arguments or "--env-value" in arguments,
    )


def _find_client_arguments(script: str) -> list[str]:
    """The words behind the name of the program that deploys."""
    for command in parse_shell_commands(script):
        if command[0].rpartition("/")[2] in (SSH_CLIENT_NAME, ROLLOUT_NAME):
            return command[1:]
    return []


def _find_option_values(arguments: list[str], names: tuple[str, ...]) -> list[str]:
    """The words behind options with these names."""
    options = zip(arguments, arguments[1:], strict=False)
    return [value for option, value in options if option in names]


def _list_ports(ports: Iterable[str]) -> tuple[str, ...]:
    """The ports that differ from SSH's own, or that one where there is no other; empty texts are no ports."""
    return tuple(sorted({port for port in ports if port})) or (_DEFAULT_PORT,)


def compare_deploy_transport(
    environment: str, before: DeployTransport | None, after: DeployTransport | None, where: str
) -> Iterator[PipelineChange]:
    """Compare how the deploys of an environment reach its hosts; report nothing if one side has no generated deploy."""
    if before is None or after is None:
        return
    if before.hosts != after.hosts:
        yield PipelineChange(environment, _describe_hosts(before.hosts, after.hosts), True, where)
    if before.has_jump_host != after.has_jump_host:
        through, directly = "reached through a jump host", "reached directly, no longer through a jump host"
        yield PipelineChange(environment, through if after.has_jump_host else directly, True, where)
    if before.proxy_commands != after.proxy_commands:
        yield PipelineChange(environment, _describe_proxy_commands(before, after), True, where)
    if before.sends_files != after.sends_files:
        yield PipelineChange(environment, _describe_sent_files(after), True, where)
    if before.writes_env_files != after.writes_env_files:
        yield PipelineChange(environment, _describe_written_env_files(after), True, where)
    if before.ports != after.ports:
        message = f"SSH goes to port {join_with_limit(after.ports)}; before: {join_with_limit(before.ports)}"
        yield PipelineChange(environment, message, True, where, pair_replacements(before.ports, after.ports))


def _describe_hosts(before: tuple[str, ...], after: tuple[str, ...]) -> str:
    message = f"deployed to {format_names(after)}, in this order; before: {format_names(before)}"
    removed = [host for host in before if host not in after]
    if removed:
        message += f": what runs on {format_names(removed)} is to be removed by hand"
    return message


def _describe_proxy_commands(before: DeployTransport, after: DeployTransport) -> str:
    if not after.proxy_commands:
        return f"no longer reached through {format_names(before.proxy_commands)}"
    message = f"reached through {format_names(after.proxy_commands)}"
    if before.proxy_commands:
        return f"{message}; before: {format_names(before.proxy_commands)}"
    return f"{message}, which must be installed where the job runs"


def _describe_sent_files(after: DeployTransport) -> str:
    if not after.sends_files:
        return "no deploy sends its files any more: they are copied by hand"
    return "each deploy sends its files, and who has its key owns the host: the key's line there must say `STACK:push`"


def _describe_written_env_files(after: DeployTransport) -> str:
    if not after.writes_env_files:
        return "no deploy writes its env files any more: a person edits them on the host"
    return (
        "each deploy writes its env files, over what was edited on the host: the key's line there must say `STACK:env`"
    )
