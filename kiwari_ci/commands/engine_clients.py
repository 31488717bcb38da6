"""How a person's own login reaches what each engine runs: by ssh on a server, by kubectl in a cluster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypedDict, cast

from kiwari_ci.commands import operate, operate_cluster
from kiwari_ci.commands.operate import PlannedPlace, StackStatus
from kiwari_ci.file_output.generated_files import ROLLOUT_PROGRAM_PATH
from kiwari_ci.plan_model import ClusterStack, DeployHost, Host, Plan
from kiwari_ci.remote_checks import cluster, ssh_host
from kiwari_ci.remote_checks.calls import TOTAL_TIMEOUT, ProcessResult, run_process
from kiwari_ci.schema.environments import EngineKind

_SSH_FAILED = 255


@dataclass(frozen=True)
class Access:
    """How a person reaches hosts: what ssh calls a server and which context of kubectl is a cluster, by a host's name.

    `root` is the folder of the generated files, from which programs run on this machine.
    """

    plan: Plan
    root: Path
    destinations: Mapping[str, str] = field(default_factory=dict)
    contexts: Mapping[str, str] = field(default_factory=dict)

    def destination(self, host: Host) -> str:
        """What ssh calls a server; by default its own name, which may be an alias in ~/.ssh/config."""
        return self.destinations.get(host.name, host.name)

    def context(self, host: Host) -> str:
        """The context of kubectl for a cluster; empty for the current one."""
        return cluster.choose_context(self.plan.clusters, self.contexts, host.name)[0]


class EngineClient(Protocol):
    """What a person may do with the containers of one engine. Each command is for this machine."""

    def find_problem(self, host: Host, access: Access) -> str:
        """Why a host cannot be asked; empty when it can."""

    def build_logs_command(self, place: PlannedPlace, access: Access, tail: int, follow: bool) -> list[str]:
        """Print the log of a container."""

    def build_exec_command(
        self, place: PlannedPlace, access: Access, command: Sequence[str], is_terminal: bool
    ) -> list[str]:
        """Run a command in a container."""

    def build_rollback_command(self, place: PlannedPlace, access: Access, digest: str) -> list[str]:
        """Go back to an image, or to the one before when no digest is named."""

    def query_status(
        self, environment: str, host: Host, stack: str, places: Sequence[PlannedPlace], access: Access
    ) -> StackStatus:
        """Ask what serves in a stack."""

    def explain_failure(self, host: Host, result: ProcessResult) -> str:
        """What a person should know of a command that failed; empty when its own words are enough."""


class SshClient:
    """Docker on a server, by the person's own ssh login."""

    def find_problem(self, host: Host, access: Access) -> str:
        """Any name may be one that ssh knows."""
        return ""

    def build_logs_command(self, place: PlannedPlace, access: Access, tail: int, follow: bool) -> list[str]:
        """Print the log of a container by `docker logs`."""
        return self._on_host(place, access, operate.build_logs_command(place.container, tail, follow))

    def build_exec_command(
        self, place: PlannedPlace, access: Access, command: Sequence[str], is_terminal: bool
    ) -> list[str]:
        """Run a command in a container by `docker exec`."""
        words = operate.build_exec_command(place.container, command, is_terminal)
        return self._on_host(place, access, words, is_terminal)

    def build_rollback_command(self, place: PlannedPlace, access: Access, digest: str) -> list[str]:
        """Go back by the host program."""
        return self._on_host(place, access, operate.build_rollback_command(place, digest))

    def query_status(
        self, environment: str, host: Host, stack: str, places: Sequence[PlannedPlace], access: Access
    ) -> StackStatus:
        """Ask the host program, Docker, and the database program where it has work."""
        assert isinstance(host, DeployHost)
        command = operate.build_status_command(host.folder, stack, host.has_schedule)
        destination = access.destination(host)
        result = run_process(ssh_host.build_ssh_command(destination, command), seconds=TOTAL_TIMEOUT)
        status = operate.parse_status(environment, host, stack, places, result)
        if result.code != _SSH_FAILED:
            return status
        hint = ssh_host.format_login_hint(host.name)
        return replace(status, problem=f"{status.problem} (ssh {destination}); {hint}")

    def explain_failure(self, host: Host, result: ProcessResult) -> str:
        """The program ssh itself ends with 255, and a deploy key may do less than a login."""
        if operate.is_refused_to_deploy_key(result):
            return f"{host.name}: {ssh_host.DEPLOY_KEY_REASON}"
        if result.code == _SSH_FAILED:
            hint = ssh_host.format_login_hint(host.name)
            return f"ssh {host.name} ended with 255; if it did not get through: {hint}"
        return ""

    def _on_host(
        self, place: PlannedPlace, access: Access, command: Sequence[str], is_terminal: bool = False
    ) -> list[str]:
        return ssh_host.build_ssh_command(access.destination(place.host), command, is_terminal)


class KubectlClient:
    """A cluster, by the person's own kubectl."""

    def find_problem(self, host: Host, access: Access) -> str:
        """Of several clusters, nobody knows which one is kubectl's current context."""
        return cluster.choose_context(access.plan.clusters, access.contexts, host.name)[1]

    def build_logs_command(self, place: PlannedPlace, access: Access, tail: int, follow: bool) -> list[str]:
        """Print the logs of all pods of a container by `kubectl logs`."""
        return operate_cluster.build_logs_command(place, access.context(place.host), tail, follow)

    def build_exec_command(
        self, place: PlannedPlace, access: Access, command: Sequence[str], is_terminal: bool
    ) -> list[str]:
        """Run a command in a pod by `kubectl exec`."""
        return operate_cluster.build_exec_command(place, access.context(place.host), command, is_terminal)

    def build_rollback_command(self, place: PlannedPlace, access: Access, digest: str) -> list[str]:
        """Build the call of the rollout program of this checkout, which reads the manifest of the stack."""
        program = str((access.root / ROLLOUT_PROGRAM_PATH).absolute())
        return operate_cluster.build_rollback_command(place, access.context(place.host), program, digest)

    def query_status(
        self, environment: str, host: Host, stack: str, places: Sequence[PlannedPlace], access: Access
    ) -> StackStatus:
        """Ask the cluster what runs."""
        planned = next(entry for entry in host.stacks if entry.name == stack)
        assert isinstance(planned, ClusterStack)
        kubectl = cluster.Kubectl(access.context(host))
        return operate_cluster.query_status(environment, host.name, planned, places, kubectl)

    def explain_failure(self, host: Host, result: ProcessResult) -> str:
        """A rollback runs a program of the checkout."""
        if result.is_not_installed and ROLLOUT_PROGRAM_PATH in result.err:
            return "a rollback on a cluster runs deploy/bin/rollout: run it in a clone of the repository"
        return ""


class _Registry(TypedDict):
    """An engine that a host may have and that is missing here is a type error."""

    compose: EngineClient
    kubernetes: EngineClient


_CLIENTS: _Registry = {"compose": SshClient(), "kubernetes": KubectlClient()}


def find_client(host: Host) -> EngineClient:
    """Find what reaches a host, by its engine."""
    return _CLIENTS[cast(EngineKind, host.engine)]


def query_status(environment: str, places: Sequence[PlannedPlace], access: Access) -> list[StackStatus]:
    """Ask each host for the state of its containers, one host after the other.

    A host that has only the database of the environment is asked for that, without a stack.
    """
    statuses = []
    stacks = {place.host.name: place.stack for place in places if place.stack}
    for host in dict.fromkeys(place.host for place in places):
        stack = stacks.get(host.name, "")
        on_this_host = [place for place in places if place.host == host and place.stack in ("", stack)]
        statuses.append(find_client(host).query_status(environment, host, stack, on_this_host, access))
    return statuses
