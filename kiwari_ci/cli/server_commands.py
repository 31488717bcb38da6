"""The commands that a person runs where an environment runs, by the person's own ssh login or kubectl."""

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from kiwari_ci import problems
from kiwari_ci.cli import terminal
from kiwari_ci.cli.errors import exit_with_code
from kiwari_ci.cli.options import (
    NonEmptyPath,
    NonEmptyString,
    context_option,
    find_output_root,
    find_repository_root,
    find_spec_file,
    json_format_option,
    parse_cluster_contexts,
    parse_destinations,
    repository_option,
    ssh_option,
)
from kiwari_ci.cli.progress import show_progress
from kiwari_ci.problems import escape_control_characters

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kiwari_ci.commands.engine_clients import Access
    from kiwari_ci.commands.operate import PlannedPlace
    from kiwari_ci.commands.rotate import HostRotation
    from kiwari_ci.plan_model import ComposeStack, Host, Plan, Stack
    from kiwari_ci.remote_checks.calls import ProcessResult

EXIT_SSH_FAILED, EXIT_NOT_INSTALLED, EXIT_SIGNAL_BASE = 255, 127, 128
EXIT_HOST_NOT_READY = 69  # of bin/deploy
EXIT_COMMAND_NOT_FOUND = 127  # of the shell on the host
COLOUR_CODE = re.compile(r"\x1b\[[0-9;]*m")

environment_argument = click.argument("environment", metavar="ENV", type=NonEmptyString())
service_argument = click.argument("service", type=NonEmptyString())
spec_option = click.option(
    "--spec", type=NonEmptyPath(path_type=Path), help="The spec. Default: the only specs/*.yaml of the repository."
)
host_option = click.option(
    "--host",
    type=NonEmptyString(),
    metavar="HOST",
    help="Only this host of the environment. Default: all of its hosts.",
)


@click.command("status")
@environment_argument
@click.argument("service", required=False, type=NonEmptyString())
@spec_option
@host_option
@ssh_option
@context_option
@repository_option
@json_format_option
@exit_with_code
def status_command(
    environment: str,
    service: str | None,
    spec: Path | None,
    host: str | None,
    ssh: tuple[str, ...],
    contexts: tuple[str, ...],
    repository: Path | None,
    style: str,
) -> int:
    """Print what serves in ENV: each container with its state, image, commit, and the run that deployed it.

    The exit code is 1 when a container does not serve; otherwise it is the one of `bin/deploy status` on the host, or
    of ssh.
    """
    from kiwari_ci import generator
    from kiwari_ci.commands import engine_clients, operate
    from kiwari_ci.readers.git_history import GitRepository

    plan = generator.load_spec(find_spec_file(spec)).plan
    containers = _select_containers(plan, environment, service, host)
    access = _plan_access(plan, containers, ssh, contexts)
    with show_progress("Asking the hosts"):
        statuses = engine_clients.query_status(environment, containers, access)
        git = GitRepository(repository or find_repository_root(), os.environ)
        statuses = operate.add_commits(plan, git, statuses)
    if style == "json":
        terminal.print_text(problems.format_json(operate.build_status_json(statuses)))
    else:
        terminal.print_text(operate.format_status(plan, statuses))
    return next((status.exit_code for status in statuses if status.exit_code), 0)


@click.command("logs")
@environment_argument
@service_argument
@click.option("-f", "--follow", is_flag=True, help="Print new lines as they appear, until you press Ctrl-C.")
@click.option(
    "-n",
    "--tail",
    type=click.IntRange(min=0),
    default=100,
    help="Number of lines to print from the end of the log. Default: 100.",
)
@spec_option
@host_option
@ssh_option
@context_option
@exit_with_code
def logs_command(
    environment: str,
    service: str,
    follow: bool,
    tail: int,
    spec: Path | None,
    host: str | None,
    ssh: tuple[str, ...],
    contexts: tuple[str, ...],
) -> int:
    """Print the log of SERVICE in ENV.

    SERVICE is a service, an accessory, a database server, or the name of a container. The exit code is the one of
    `docker logs` on the host, of ssh, or of `kubectl logs`.
    """
    from kiwari_ci import generator
    from kiwari_ci.commands.engine_clients import find_client

    plan = generator.load_spec(find_spec_file(spec)).plan
    containers = _select_containers(plan, environment, service, host)
    access = _plan_access(plan, containers, ssh, contexts)
    if follow:
        containers = [_require_one_container(containers)]
    exit_code = 0
    for container in containers:
        if len(containers) > 1:
            terminal.print_text(f"==> {container} <==")
        command = find_client(container.host).build_logs_command(container, access, tail, follow)
        exit_code = _run_command(container, command) or exit_code
    return exit_code


@click.command("exec")
@environment_argument
@service_argument
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@spec_option
@host_option
@ssh_option
@context_option
@exit_with_code
def exec_command(
    environment: str,
    service: str,
    command: tuple[str, ...],
    spec: Path | None,
    host: str | None,
    ssh: tuple[str, ...],
    contexts: tuple[str, ...],
) -> int:
    """Run COMMAND in the container that serves SERVICE in ENV, for example: exec production web -- sh.

    In a terminal, COMMAND gets a terminal, too; otherwise standard input and output are passed on unchanged. The exit
    code is the one of COMMAND, of ssh, or of kubectl.
    """
    from kiwari_ci import generator
    from kiwari_ci.commands.engine_clients import find_client

    plan = generator.load_spec(find_spec_file(spec)).plan
    container = _require_one_container(_select_containers(plan, environment, service, host))
    access = _plan_access(plan, [container], ssh, contexts)
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    words = find_client(container.host).build_exec_command(container, access, command, is_terminal)
    return _run_command(container, words, is_terminal=is_terminal, is_filter=not is_terminal)


@click.command("rollback")
@environment_argument
@service_argument
@click.argument("digest", required=False, type=NonEmptyString())
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@spec_option
@host_option
@ssh_option
@context_option
@exit_with_code
def rollback_command(
    environment: str,
    service: str,
    digest: str | None,
    yes: bool,
    spec: Path | None,
    host: str | None,
    ssh: tuple[str, ...],
    contexts: tuple[str, ...],
) -> int:
    """Go back to the image that SERVICE served in ENV before, or to the one with DIGEST, which must have served there.

    Several hosts and replicas are rolled back one after the other, and the command stops at the first failure.
    Migrations are not undone. The exit code is the one of `bin/deploy rollback` on the host, of ssh, or of
    `deploy/bin/rollout rollback` in this checkout, which goes back on a cluster.
    """
    from kiwari_ci import generator
    from kiwari_ci.commands import operate
    from kiwari_ci.commands.engine_clients import find_client

    if digest and not operate.DIGEST_PATTERN.fullmatch(digest):
        shown_digest = escape_control_characters(digest)
        raise click.UsageError(f"{shown_digest} is no digest (sha256: and 64 digits): kiwari-ci status prints them")
    plan = generator.load_spec(find_spec_file(spec)).plan
    containers = _select_containers(plan, environment, service, host)
    access = _plan_access(plan, containers, ssh, contexts)
    if any(container.kind != "service" for container in containers):
        raise click.UsageError(f"{service} is not a service: only services can be rolled back")
    if not yes:
        _confirm_rollback(plan, environment, containers, access, digest)
    for number, container in enumerate(containers):
        if len(containers) > 1:
            terminal.print_text(f"==> {container} <==")
        command = find_client(container.host).build_rollback_command(container, access, digest or "")
        exit_code = _run_command(container, command)
        if exit_code:
            remaining = ", ".join(map(str, containers[number + 1 :]))
            if remaining:
                terminal.print_text(f"not rolled back: {remaining}", err=True)
            return exit_code
    return 0


@click.command("rotate")
@environment_argument
@click.argument("name", type=NonEmptyString())
@click.option("--generate", is_flag=True, help="Generate the new value: 40 letters and digits, which nobody sees.")
@click.option(
    "--service", type=NonEmptyString(), help="The service whose env file has NAME, where several have different values."
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@spec_option
@host_option
@ssh_option
@exit_with_code
def rotate_command(
    environment: str,
    name: str,
    generate: bool,
    service: str | None,
    yes: bool,
    spec: Path | None,
    host: str | None,
    ssh: tuple[str, ...],
) -> int:
    """Change the secret NAME in ENV, and redeploy the containers that read it, with the images that they run.

    NAME is a key with `secret: true`, or a database: then the password of its role changes in PostgreSQL, and in the
    env files. The new value is typed without echo, or the only line of standard input. If a container does not become
    healthy, the old value comes back everywhere. Exit code: that of `bin/rotate` on the host, or of ssh.
    """
    from kiwari_ci import generator

    plan = generator.load_spec(find_spec_file(spec)).plan
    rotations = _plan_rotations(plan, environment, name, service, host)
    destinations = parse_destinations(plan, ssh)
    is_asked = sys.stdin.isatty()
    if not generate and not is_asked and not yes:
        raise click.UsageError("the new value is on standard input, so nobody can confirm: add --yes")
    if not yes:
        for rotation in rotations:
            exit_code = _rotate_on_host(rotation, destinations, is_preview=True)
            if exit_code:
                return exit_code
        question = f"Change {name}, and redeploy these containers of {environment}?"
        click.confirm(escape_control_characters(question), abort=True)
    value = _read_new_value(name, generate, is_asked, is_password=_is_password(plan, environment, name))
    for number, rotation in enumerate(rotations):
        exit_code = _rotate_on_host(rotation, destinations, value)
        if exit_code:
            if len(rotations) > 1:
                host_names = [rotation.host.name for rotation in rotations]
                _explain_partial_rotation(name, host_names, number, exit_code)
            return exit_code
    return 0


def _explain_partial_rotation(name: str, host_names: "Sequence[str]", failed: int, exit_code: int) -> None:
    """After the failure of one of several hosts, say which hosts have the new value, and the way out."""
    changed, unchanged = ", ".join(host_names[:failed]), ", ".join(host_names[failed + 1 :])
    lines = []
    if changed:
        lines.append(f"{name} differs between the hosts now. Changed: {changed}")
    # The request may go on without the connection, and a hook may fail after the change.
    is_unknown = exit_code in (EXIT_SSH_FAILED, EXIT_HOST_NOT_READY)
    title = "Perhaps not changed" if is_unknown else "Not changed"
    lines.append(f"{title}: {host_names[failed]}")
    if unchanged:
        lines.append(f"Not changed: {unchanged}")
    if changed:
        lines.append("Give the others the same value, each with --host HOST, or rotate all hosts again")
    terminal.print_text("\n".join(lines), err=True)


def _read_new_value(name: str, generate: bool, is_asked: bool, is_password: bool) -> str:
    """Generate the new value, ask for it twice without echo, or read it from standard input."""
    from kiwari_ci.commands import rotate
    from kiwari_ci.engines.compose.deploy_programs import rotate as rotation_program

    if generate:
        return rotate.generate_secret()
    if is_asked:
        prompt = f"New value of {escape_control_characters(name)}"
        value = str(click.prompt(prompt, hide_input=True, confirmation_prompt=True, err=True))
    else:
        value = sys.stdin.buffer.read().decode(errors="replace")
        value = value.removesuffix("\n").removesuffix("\r")
    problem = rotation_program.problem_of_value(value, is_password)
    if problem:
        raise click.UsageError(f"the new value cannot be stored: it {problem}. Nothing was changed")
    return value


def _rotate_on_host(
    rotation: "HostRotation", destinations: "Mapping[str, str]", value: str = "", is_preview: bool = False
) -> int:
    """Run a request of a rotation on its host, with the new value as its standard input."""
    from kiwari_ci.commands import operate
    from kiwari_ci.remote_checks import calls, ssh_host

    host_name = rotation.host.name
    terminal.print_text(f"==> {host_name} <==")
    destination = destinations.get(host_name, host_name)
    ssh_command = ssh_host.build_ssh_command(destination, rotation.build_command(is_preview))
    stdin_text = f"{value}\n" if value else ""
    result = calls.stream_process(ssh_command, _print_line, stdin_text=stdin_text)
    if operate.is_refused_to_deploy_key(result):
        hint = (
            f"bin/rotate on {host_name} may also be older than this command. deploy/RUNBOOK.md, 'A changed file under"
            " deploy/', says how to replace it"
        )
        terminal.print_text(hint, err=True)
    if result.code == EXIT_COMMAND_NOT_FOUND:
        hint = (
            f"bin/rotate may be missing on {host_name}. deploy/RUNBOOK.md, 'A changed file under deploy/', says how to"
            " copy it"
        )
        terminal.print_text(hint, err=True)
    return _explain_exit_code(rotation.host, result)


def _is_password(plan: "Plan", environment: str, name: str) -> bool:
    """Whether a name means the password of a database, not a key of an env file."""
    from kiwari_ci.commands import rotate

    return rotate.find_database(plan, environment, name) is not None


def _plan_rotations(
    plan: "Plan", environment: str, name: str, service: str | None, host: str | None
) -> "list[HostRotation]":
    """What each host is asked; raises UsageError where the secret is not on a host, or not that of one."""
    from kiwari_ci.commands import rotate

    _require_environment(plan, environment)
    stack = next(stack for stack in plan.stacks if stack.environment == environment)
    _refuse_secret_elsewhere(plan, environment, stack, name)
    stacks = rotate.list_stacks(plan, environment)
    _require_own_host(environment, host, [stack_host.name for stack_host, _ in stacks])
    password = rotate.find_database(plan, environment, name)
    if password:
        ((database_host, database_stack),) = stacks  # a rule: both are on one host
        return [rotate.plan_password_rotation(database_host, database_stack, password)]
    rotations = []
    for stack_host, compose_stack in stacks:
        if host in (None, stack_host.name):
            env_file = _find_env_file(compose_stack, service, name) if service else ""
            rotations.append(rotate.plan_key_rotation(stack_host, compose_stack, name, env_file))
    return rotations


def _find_env_file(stack: "ComposeStack", service: str, key: str) -> str:
    """The env file of a service; raises UsageError if the key is not in it."""
    from kiwari_ci.commands import rotate

    env_file = rotate.find_env_file(stack, service, key)
    if not env_file:
        raise click.UsageError(f"the env file of {escape_control_characters(service)} has no secret {key}")
    return env_file


def _refuse_secret_elsewhere(plan: "Plan", environment: str, stack: "Stack", name: str) -> None:
    """Raise UsageError for what no host stores, with the commands that change it where it is stored."""
    from kiwari_ci.commands import rotate

    line = rotate.find_env_line(stack.env_files, name)
    is_password = _is_password(plan, environment, name)
    _refuse_rendered_secret(environment, stack, name, is_password)
    is_secret = is_password or bool(line and line.is_secret)
    if is_secret and not rotate.list_stacks(plan, environment):
        raise click.UsageError(
            f"{environment} is on a cluster, to which rotate does not log in: change {name} in your copy of its env"
            " file, write the Secret with env_secret (deploy/RUNBOOK.md, step 2), then deploy again"
        )
    if is_secret:
        return
    if line and line.has_password:
        databases = ", ".join(password.role.name for password in rotate.list_databases(plan, environment))
        raise click.UsageError(
            f"{name} has the password of a database in it: "
            f"kiwari-ci rotate {environment} {databases} changes that password, here and in PostgreSQL"
        )
    if line:
        raise click.UsageError(f"{name} is no secret: the spec has its value, or each host has its own")
    _refuse_name_of_no_variable(plan, environment, stack, name)


def _refuse_rendered_secret(environment: str, stack: "Stack", name: str, is_password: bool) -> None:
    """Raise UsageError for a secret of env files that deploys write from secrets on GitHub."""
    from kiwari_ci.commands import rotate

    rendered = rotate.find_env_line(stack.sent, name)
    if rendered and rendered.variable.startswith("SECRET_"):
        secret = rendered.variable.removeprefix("SECRET_")
        raise click.UsageError(
            f"GitHub keeps {name} of {environment}: gh secret set {secret} --env {environment}, then deploy again"
        )
    if is_password and stack.sent:
        raise click.UsageError(
            f"the password is stored in two places: in PostgreSQL on the host, and in secrets on GitHub, from which"
            f" the env files of {environment} are written. rotate cannot change both. Follow deploy/RUNBOOK.md, 'A new"
            " database, or a changed password', then run gh secret set for each secret that has the password, and"
            " deploy again"
        )


def _refuse_name_of_no_variable(plan: "Plan", environment: str, stack: "Stack", name: str) -> NoReturn:
    """Raise UsageError for a name that no env file has: a secret of GitHub, a superuser, or a name that is unknown."""
    from kiwari_ci.commands import rotate

    for setting in plan.needs:
        if setting.name == name and setting.kind == "secret":
            commands = " && ".join(f"gh secret set {name} --env {target}" for target in setting.environments)
            raise click.UsageError(f"GitHub keeps {name}, which is the {setting.holds}: {commands}")
    for password in rotate.list_databases(plan, environment):
        if name in password.server.keys:
            raise click.UsageError(
                f"{name} is the password of the superuser of {password.server.name}, and rotate changes only passwords"
                " that services use. Follow deploy/RUNBOOK.md, 'A new database, or a changed password'"
            )
    shown_name = escape_control_characters(name)
    names = ", ".join(rotate.list_names(plan, environment, stack)) or "none"
    raise click.UsageError(f"{environment} has no secret {shown_name}: it has {names}")


def _confirm_rollback(
    plan: "Plan",
    environment: str,
    containers: "Sequence[PlannedPlace]",
    access: "Access",
    digest: str | None,
) -> None:
    """Show what serves, and ask whether to go back."""
    from kiwari_ci.commands import engine_clients, operate

    with show_progress("Asking the hosts"):
        statuses = engine_clients.query_status(environment, containers, access)
    terminal.print_text(operate.format_status(plan, statuses))
    names = ", ".join(map(str, containers))
    target = digest or "the image that served before"
    question = f"Put {target} back into service: {names}? Migrations are not undone."
    click.confirm(escape_control_characters(question), abort=True)


def _require_environment(plan: "Plan", environment: str) -> None:
    """Raise UsageError if the spec has no such environment."""
    environments = list(dict.fromkeys(stack.environment for stack in plan.stacks))
    if environment not in environments:
        environment_names = ", ".join(environments)
        raise click.UsageError(
            f"no environment {escape_control_characters(environment)}: the spec has {environment_names}"
        )


def _require_own_host(environment: str, host: str | None, own_hosts: list[str]) -> None:
    """Raise UsageError if `--host` names a host on which nothing of the environment runs."""
    if host and host not in own_hosts:
        shown_host = escape_control_characters(host)
        options = " or ".join(f"--host {name}" for name in own_hosts)
        raise click.UsageError(f"nothing of {environment} runs on the host {shown_host}: use {options}")


def _select_containers(plan: "Plan", environment: str, service: str | None, host: str | None) -> "list[PlannedPlace]":
    """The containers that the arguments name, in the order of the plan; raises UsageError when there are none."""
    from kiwari_ci.commands import operate

    _require_environment(plan, environment)
    containers = operate.list_containers(plan, environment)
    hosts = list(dict.fromkeys(container.host.name for container in containers))
    _require_own_host(environment, host, hosts)
    if host:
        containers = [container for container in containers if container.host.name == host]
    if service is None:
        return containers
    selected = operate.select_containers(containers, service)
    if not selected:
        container_names = ", ".join(dict.fromkeys(container.name for container in containers))
        shown_service = escape_control_characters(service)
        raise click.UsageError(f"{environment} has no service or container {shown_service}: it has {container_names}")
    return selected


def _require_one_container(containers: "Sequence[PlannedPlace]") -> "PlannedPlace":
    """The only container; raises UsageError when there are several."""
    if len(containers) > 1:
        names = ", ".join(map(str, containers))
        raise click.UsageError(f"name one container: {names}; --host names one of several hosts")
    return containers[0]


def _plan_access(
    plan: "Plan", containers: "Sequence[PlannedPlace]", ssh: tuple[str, ...], contexts: tuple[str, ...]
) -> "Access":
    """How the hosts of these containers are reached; raises UsageError if nobody knows it for one of them."""
    from kiwari_ci.commands.engine_clients import Access, find_client

    cluster_contexts = parse_cluster_contexts(plan, contexts)
    access = Access(plan, find_output_root(None), parse_destinations(plan, ssh), cluster_contexts)
    for host in dict.fromkeys(container.host for container in containers):
        problem = find_client(host).find_problem(host, access)
        if problem:
            raise click.UsageError(problem)
    return access


def _run_command(
    container: "PlannedPlace", command: "Sequence[str]", is_terminal: bool = False, is_filter: bool = False
) -> int:
    """Run a command that reaches a container, print what it prints, and return its exit code.

    A filter reads standard input, and writes to standard output as it is, unless that is a terminal.
    """
    from kiwari_ci.remote_checks import calls

    if is_terminal:
        result = calls.run_in_terminal(command)
    else:
        keeps_stdout = is_filter and not sys.stdout.isatty()
        result = calls.stream_process(command, _print_line, keeps_stdin=is_filter, keeps_stdout=keeps_stdout)
    return _explain_exit_code(container.host, result)


def _print_line(line: str, is_error: bool) -> None:
    """Print a line of a host; its colours are left out, so that they do not show as replaced characters."""
    terminal.print_text(COLOUR_CODE.sub("", line), err=is_error)


def _explain_exit_code(host: "Host", result: "ProcessResult") -> int:
    """The exit code of a command that reached a host; where the way to it is the reason for it, say so."""
    from kiwari_ci.commands.engine_clients import find_client

    if result.is_not_installed:
        terminal.print_text(result.err, err=True)
    explanation = find_client(host).explain_failure(host, result)
    if explanation:
        terminal.print_text(explanation, err=True)
    if result.is_not_installed:
        return EXIT_NOT_INSTALLED
    return result.code if result.code >= 0 else EXIT_SIGNAL_BASE - result.code
