"""Names the runbook's steps and commands as cures, with the addresses of the hosts filled in."""

import shlex
from collections.abc import Iterable, Mapping

from kiwari_ci.plan_model import NamespaceCommands, Runbook, RunbookCommand, RunbookStepId, SettingCommand, SshPort
from kiwari_ci.plan_model.runbook import CREATE_ENV_FILES, EDIT_ENV_FILES


class RunbookIndex:
    """Looks up steps and commands in the plan's runbook."""

    def __init__(self, runbook: Runbook, destinations: Mapping[str, str]) -> None:
        """`destinations`: by a host's name, what ssh calls the host; without one, it is the host's own name."""
        self._runbook = runbook
        self._destinations = destinations

    def for_host(self, host_name: str) -> "HostRunbookIndex":
        """The same runbook, with the commands for one host."""
        return HostRunbookIndex(self._runbook, self._destinations, host_name)

    def step(self, step_id: RunbookStepId) -> str:
        """Where a step stands in the runbook; where all is on clusters, one step has what others have of servers."""
        steps = self._runbook.steps
        step = steps[step_id] if step_id in steps else steps["cluster"]
        return f"runbook, step {step.number} ({step.title})"

    def create_environment(self, environment: str) -> str:
        """The command that creates an environment at GitHub."""
        return self._find_command(self._runbook.create_environments, environment)

    def set_setting(self, kind: str, name: str, environment: str = "", host_name: str = "") -> str:
        """The command that sets a secret or variable.

        An environment may have its own value for it, and so may a host; that command is taken first.
        """
        kubeconfigs = (namespace.kubeconfig for commands in self._runbook.clusters for namespace in commands.namespaces)
        settings = (*self._runbook.settings, *kubeconfigs)
        commands = [command for command in settings if (command.kind, command.name) == (kind, name)]

        def is_less_specific(command: SettingCommand) -> tuple[bool, bool]:
            return command.environment != environment, command.host != host_name

        return self._fill_in_destinations(min(commands, key=is_less_specific).line)

    def set_host_setting(self, kind: str, name: str, environment: str = "") -> str:
        """The command that sets a secret or variable, for a host where hosts have their own values."""
        return self.set_setting(kind, name, environment)

    def for_cluster(self, cluster_name: str) -> "ClusterRunbookIndex":
        """The same runbook, with the commands for one cluster."""
        return ClusterRunbookIndex(self._runbook, self._destinations, cluster_name)

    def _find_command(self, commands: Iterable[RunbookCommand], subject: str) -> str:
        line = next(command.line for command in commands if command.subject == subject)
        return self._fill_in_destinations(line)

    def _fill_in_destinations(self, line: str) -> str:
        """Make a command that a person can type as it is."""
        for commands in self._runbook.hosts:
            host = commands.host
            destination = self._destinations.get(host.name, host.name)
            line = line.replace(f'"${host.variable}"', shlex.quote(destination))
            # An alias of ~/.ssh/config has no login and address that a command could cut out of it.
            line = _assign_login_variable(line, host.variable, destination if "@" in destination else "USER@ADDRESS")
            line = _assign_port_variable(line, host.port)
            for jump in host.jumps:
                line = _assign_login_variable(line, jump.variable, "USER@ADDRESS")
                line = _assign_port_variable(line, jump.port)
        return line


def _assign_login_variable(line: str, variable: str, login: str) -> str:
    """Set a shell variable before a command that takes it apart, as in `${VPS#*@}`."""
    if f"${{{variable}#" in line or f"${{{variable}%" in line:
        return f"{variable}={shlex.quote(login)}; {line}"
    return line


def _assign_port_variable(line: str, port: SshPort) -> str:
    """Set the shell variable of a port, which GitHub keeps, before a command that has it."""
    if port.variable and f'"{port.shell}"' in line:
        return f"{port.variable}=PORT; {line}"
    return line


class HostRunbookIndex(RunbookIndex):
    """Looks up also the commands for one host."""

    def __init__(self, runbook: Runbook, destinations: Mapping[str, str], host_name: str) -> None:
        super().__init__(runbook, destinations)
        self._host = next(commands for commands in runbook.hosts if commands.host.name == host_name)

    def create_network(self, network: str) -> str:
        """The command that creates the proxy's network."""
        return self._find_command(self._host.create_networks, network)

    def create_env_files(self) -> str:
        """The command that copies the examples of the env files."""
        return self._find_command(self._host.env_files, CREATE_ENV_FILES)

    def edit_env_files(self) -> str:
        """The command that opens the env files in an editor."""
        return self._find_command(self._host.env_files, EDIT_ENV_FILES)

    def start_server(self, server_name: str) -> str:
        """The command that starts a PostgreSQL server."""
        return self._find_command((commands.start for commands in self._host.servers), server_name)

    def init_databases(self, server_name: str) -> str:
        """The command that creates the databases and roles of a server; it is typed on the host."""
        return self._find_command((commands.init_databases for commands in self._host.servers), server_name)

    def start_proxy(self, proxy_name: str) -> str:
        """The command that starts a proxy whose stack is generated."""
        return self._find_command(self._host.start_proxies, proxy_name)

    def reload_proxy(self, proxy_name: str) -> str:
        """The command that has a proxy read its configuration again."""
        return self._find_command(self._host.reload_proxies, proxy_name)

    def copy_files(self, folder: str) -> str:
        """The command that copies a folder of `deploy/` to the host."""
        return self._find_command(self._host.copy_files, folder)

    def rollback(self, stack_name: str, container_name: str) -> str:
        """The command that puts a container's previous image back."""
        return self._find_command(self._host.rollbacks, f"{stack_name} {container_name}")

    def schedule_status(self) -> str:
        """The command that shows the latest backups and jobs."""
        host_name = self._host.host.name
        schedule = next(commands for commands in self._runbook.schedules if commands.host_name == host_name)
        return self._fill_in_destinations(schedule.show_status.line)

    def set_host_setting(self, kind: str, name: str, environment: str = "") -> str:
        """The command that sets a secret or variable, for this host where hosts have their own values."""
        return self.set_setting(kind, name, environment, self._host.host.name)


class ClusterRunbookIndex(RunbookIndex):
    """Looks up also the commands for one cluster."""

    def __init__(self, runbook: Runbook, destinations: Mapping[str, str], cluster_name: str) -> None:
        super().__init__(runbook, destinations)
        self._cluster = next(commands for commands in runbook.clusters if commands.cluster.name == cluster_name)

    def set_up_cluster(self) -> str:
        """The command that applies what an administrator applies."""
        return self._cluster.set_up.line

    def create_pull_secret(self, stack_name: str) -> str:
        """The command that writes what nodes pull images with; its function is in the runbook."""
        return f"{self._namespace(stack_name).pull_secret.line}; {self.step('cluster')}"

    def create_env_secret(self, stack_name: str, env_file: str) -> str:
        """The command that writes the Secret of an env file; its function is in the runbook."""
        line = self._find_command(self._namespace(stack_name).env_secrets, f"{stack_name}/{env_file}")
        return f"{line}; {self.step('cluster')}"

    def apply_database(self, stack_name: str) -> str:
        """The command that applies what leads to a database."""
        return "; ".join(command.line for command in self._namespace(stack_name).database)

    def list_rights(self, stack_name: str) -> str:
        """The command that lists what the service account of the deploys may do."""
        return self._namespace(stack_name).rights.line

    def cancel(self, stack_name: str) -> str:
        """The command that undoes a deploy that was killed."""
        return self._namespace(stack_name).cancel.line

    def rollback(self, stack_name: str, container_name: str) -> str:
        """The command that puts a service's previous image back."""
        return self._find_command(self._namespace(stack_name).rollbacks, f"{stack_name} {container_name}")

    def _namespace(self, stack_name: str) -> NamespaceCommands:
        return next(commands for commands in self._cluster.namespaces if commands.stack_name == stack_name)
