"""What a person does with what runs: which containers a name means, and what ssh runs on a server for it.

Each function that builds a command returns words for a shell on the host. `ssh_host.build_ssh_command` quotes them, so
that no name of a spec and no word of a command line is read by that shell.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from kiwari_ci.commands.deployed_commits import find_deployed_commit, format_deployed_number
from kiwari_ci.commands.preview.release_preview import find_default_branch_ref
from kiwari_ci.plan_model import DeployHost, Host, Plan
from kiwari_ci.readers.git import GitError
from kiwari_ci.readers.git_history import GitRepository
from kiwari_ci.remote_checks import ssh_host
from kiwari_ci.remote_checks.calls import ProcessResult, find_last_line
from kiwari_ci.remote_checks.deploy_records import DEPLOY_RECORD_PATTERN, DeployRecord

DIGEST_PATTERN = re.compile(r"sha256:[0-9a-f]{64}")
# What `bin/deploy status` prints in place of a state when a container does not serve.
_BAD_STATES = ("DOES NOT RUN", "DOES NOT ANSWER", "UNKNOWN")
_RUNNING_STATE = "Up "  # how `docker ps` begins the state of a container that runs
_REQUEST_REFUSED = 64  # an exit code of the host program
# $1 is the host's folder, $2 the stack, which is empty where the host has only a database, and $3 is not empty where
# backups or jobs run on a schedule. $4 marks what the database program prints. The exit code is that of the host
# program.
_STATUS_SCRIPT = """
code=0
if [ -n "$2" ]; then
  "$1/bin/deploy" status "$2" || code=$?
fi
docker ps -a --format 'container\t{{.Names}}\t{{.Image}}\t{{.Status}}\t{{.Label "com.docker.compose.project"}}'
if [ -n "$3" ]; then
  echo "$4"
  "$1/bin/database" status 2>&1
  echo "$4 $?"
fi
exit $code
"""
_SCHEDULE_MARK = "kiwari-ci: backups and jobs"
_SCHEDULE_END = re.compile(rf"{_SCHEDULE_MARK} [0-9]{{1,3}}")


@dataclass(frozen=True)
class PlannedPlace:
    """A container that a spec plans; `kind` is service, accessory or database, `name` what the spec calls it.

    `old_container` runs beside it during a takeover, until a person stops it; empty if there is none.
    """

    host: Host
    stack: str
    kind: str
    name: str
    container: str
    old_container: str = ""

    def __str__(self) -> str:
        return f"{self.container} on {self.host.name}"


@dataclass(frozen=True)
class ContainerStatus:
    """What a host says of one container: its state in words, and the deploy that brought it, if there was one.

    `old_container` still runs beside it, and may get its requests or do its work; empty if none does.
    """

    container: str
    kind: str
    name: str
    state: str
    is_serving: bool
    deployed: DeployRecord | None = None
    commit: str = ""
    old_container: str = ""


@dataclass(frozen=True)
class StackStatus:
    """What a host says of a stack; with `problem`, it says nothing, and this is why."""

    environment: str
    host: str
    stack: str
    code: int
    containers: tuple[ContainerStatus, ...] = ()
    problem: str = ""
    schedule: tuple[str, ...] = ()
    schedule_code: int = 0

    @property
    def exit_code(self) -> int:
        """The exit code of the host program, or of ssh; 1 when that is 0 and a container does not serve."""
        if self.code > 0:
            return self.code
        is_well = all(container.is_serving for container in self.containers) and not self.schedule_code
        return int(bool(self.problem) or not is_well)


def list_containers(plan: Plan, environment: str) -> list[PlannedPlace]:
    """All containers of an environment, host by host; the servers of its databases come last on each host."""
    containers = []
    old_names = {
        (takeover.stack, container.container): container.today
        for takeover in plan.takeovers
        for container in takeover.beside
    }
    for host in plan.every_host:
        for stack in host.stacks:
            if stack.environment != environment:
                continue
            for instance in stack.instances:
                old_name = old_names.get((stack.name, instance.container), "")
                containers.append(
                    PlannedPlace(host, stack.name, "service", instance.service, instance.container, old_name)
                )
            for accessory in stack.accessories:
                containers.append(PlannedPlace(host, stack.name, "accessory", accessory.name, accessory.container))
        for server in host.servers if isinstance(host, DeployHost) else ():
            if any(database.environment == environment for database in server.databases):
                containers.append(PlannedPlace(host, "", "database", server.name, server.name))
    return containers


def select_containers(containers: Iterable[PlannedPlace], name: str) -> list[PlannedPlace]:
    """The containers that a person means by the name of a service, or by that of a container."""
    all_containers = list(containers)
    by_name = [container for container in all_containers if container.name == name]
    return by_name or [container for container in all_containers if container.container == name]


def build_status_command(folder: str, stack: str, has_schedule: bool = False) -> list[str]:
    """Print what the host program says of a stack, the state of all containers, and that of backups and jobs."""
    words = ["sh", folder, stack, "yes" if has_schedule else "", _SCHEDULE_MARK]
    return ["sh", "-c", _STATUS_SCRIPT, *words]


def build_logs_command(container: str, tail: int, follow: bool) -> list[str]:
    """Print the log of a container; both of its streams go to standard output, in their order."""
    words = ["docker", "logs", "--tail", str(tail), *(["--follow"] if follow else []), "--", container]
    return ["sh", "-c", 'exec "$@" 2>&1', "sh", *words]


def build_exec_command(container: str, command: Sequence[str], is_terminal: bool) -> list[str]:
    """Run a command in a container, with a terminal or with standard input as it is."""
    return ["docker", "exec", "-it" if is_terminal else "-i", "--", container, *command]


def build_rollback_command(place: PlannedPlace, digest: str) -> list[str]:
    """Go back to an image, or to the one before when no digest is named."""
    assert isinstance(place.host, DeployHost)
    words = [f"{place.host.folder}/bin/deploy", "rollback", place.stack, place.container]
    return [*words, digest] if digest else words


def parse_status(
    environment: str, host: DeployHost, stack: str, places: Sequence[PlannedPlace], result: ProcessResult
) -> StackStatus:
    """Parse what the status command printed; a login shell may have printed something before it."""
    if is_refused_to_deploy_key(result):
        return StackStatus(environment, host.name, stack, result.code, problem=ssh_host.DEPLOY_KEY_REASON)
    if result.code:
        problem = find_last_line(result.err or result.out).removeprefix("ssh: ")
        return StackStatus(environment, host.name, stack, result.code, problem=problem)
    lines = result.out.splitlines()
    docker_rows = {
        row[1]: row for row in (line.split("\t") for line in lines) if row[0] == "container" and len(row) == 5
    }
    states = dict(_parse_deploy_states(stack, lines))
    containers = tuple(
        replace(
            _describe_container(place, states.get(place.container), docker_rows.get(place.container)),
            old_container=_find_old_container(place, docker_rows),
        )
        for place in places
    )
    schedule, schedule_code = _parse_schedule(lines)
    return StackStatus(environment, host.name, stack, 0, containers, "", schedule, schedule_code)


def _parse_schedule(lines: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """What the database program printed of backups and jobs, and its exit code; empty where there are none."""
    ends = [number for number, line in enumerate(lines) if _SCHEDULE_END.fullmatch(line)]
    if _SCHEDULE_MARK not in lines or not ends:
        return (), 0
    end = ends[-1]  # what a job prints may look like it
    return tuple(lines[lines.index(_SCHEDULE_MARK) + 1 : end]), int(lines[end].rpartition(" ")[2])


def is_refused_to_deploy_key(result: ProcessResult) -> bool:
    """Whether the host program got the command because ssh logged in with a deploy key."""
    return result.code == _REQUEST_REFUSED and "unknown request" in result.err


def _parse_deploy_states(stack: str, lines: Sequence[str]) -> Iterator[tuple[str, tuple[str, DeployRecord]]]:
    """The state and the newest record by container, from the lines of `bin/deploy status`."""
    head = re.compile(rf"{re.escape(stack)}/\.deploys/(\S+): (.*)")
    for line, next_line in zip(lines, lines[1:], strict=False):
        state = head.fullmatch(line)
        record = DEPLOY_RECORD_PATTERN.fullmatch(next_line.removeprefix("  pinned: "))
        if state and record:
            number = int(record["number"])
            deployed = DeployRecord(record["image"], record["digest"], number, record["time"], record["run"])
            yield state[1], (state[2], deployed)


def _find_old_container(place: PlannedPlace, docker_rows: Mapping[str, Sequence[str]]) -> str:
    """Name the container of today that a takeover has not stopped yet; empty if there is none."""
    row = docker_rows.get(place.old_container)
    return place.old_container if row and row[3].startswith(_RUNNING_STATE) else ""


def _describe_container(
    place: PlannedPlace, deployed: tuple[str, DeployRecord] | None, docker_row: list[str] | None
) -> ContainerStatus:
    if deployed:
        state, record = deployed
        is_serving = not state.startswith(_BAD_STATES)
        shown_state = state
        if is_serving:
            shown_state = docker_row[3] if docker_row else state
        return ContainerStatus(place.container, place.kind, place.name, shown_state, is_serving, record)
    if docker_row is None:
        return ContainerStatus(place.container, place.kind, place.name, "there is no such container", False)
    _, _, image, state, project = docker_row
    is_running = state.startswith(_RUNNING_STATE) and "(unhealthy)" not in state
    shown_state = f"{image}, {state}"
    if place.kind == "service":
        # It has no record, so a takeover or a first deploy is still to come.
        origin = f"the Compose project {project}" if project else "no Compose project"
        shown_state = f"{shown_state}, of {origin}: never deployed by bin/deploy"
    return ContainerStatus(place.container, place.kind, place.name, shown_state, is_running)


def add_commits(plan: Plan, git: GitRepository, statuses: Iterable[StackStatus]) -> list[StackStatus]:
    """The same statuses, with the commits of those deploys that this clone knows."""
    return [
        replace(
            status,
            containers=tuple(_add_commit(plan, status.environment, git, container) for container in status.containers),
        )
        for status in statuses
    ]


def _add_commit(plan: Plan, environment: str, git: GitRepository, container: ContainerStatus) -> ContainerStatus:
    """A rollback by hand has the number of the deploy that it went back to, so that its commit is found, too."""
    if container.deployed is None:
        return container
    try:
        head = find_default_branch_ref(plan, git)
        commit = find_deployed_commit(plan, environment, container.deployed.number, git, head)
        shown = git.commits(commit, most=1) if commit and not git.is_shallow else []
    except GitError:
        return container
    title = f"{shown[0].name} {shown[0].title}" if shown else ""
    return ContainerStatus(**{**vars(container), "commit": title})


def format_status(plan: Plan, statuses: Iterable[StackStatus]) -> str:
    """The status for people; `!` marks what does not serve, and `?` a host that did not answer."""
    lines: list[str] = []
    for status in statuses:
        if lines:
            lines.append("")
        lines.append(f"{status.environment} on {status.host}: {status.stack or 'its database'}")
        if status.problem:
            lines.append(f"? {status.problem}")
        for container in status.containers:
            mark = " " if container.is_serving else "!"
            lines.append(f"{mark} {container.container}: {container.state}")
            if container.deployed:
                lines += [
                    f"    {detail}"
                    for detail in _list_deploy_details(plan, status.environment, container, container.deployed)
                ]
            if container.old_container:
                words = "still runs beside it, and may get its requests or do its work until you switch over"
                lines.append(f"!   {container.old_container} {words}: deploy/RUNBOOK.md")
        if status.schedule:
            lines.append(f"{'!' if status.schedule_code else ' '} backups and jobs of {status.host}:")
            lines += [f"    {line}" for line in status.schedule]
    return "\n".join(lines)


def _list_deploy_details(
    plan: Plan, environment: str, container: ContainerStatus, deployed: DeployRecord
) -> Iterator[str]:
    number = format_deployed_number(plan, environment, deployed.number)
    yield f"image   {deployed.image}@{deployed.digest}"
    yield f"source  {number}{f': {container.commit}' if container.commit else ''}"
    if deployed.run == "rollback":
        origin = "by hand, a rollback"
    elif deployed.run.isdigit():
        origin = f"run https://github.com/{plan.repository}/actions/runs/{deployed.run}"
    else:
        origin = f"run {deployed.run}"
    yield f"since   {deployed.time}, {origin}"


def build_status_json(statuses: Iterable[StackStatus]) -> list[dict[str, Any]]:
    """The status for programs."""
    return [asdict(status) for status in statuses]
