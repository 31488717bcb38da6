"""The runbook as data: its numbered steps, and those of its commands that other commands suggest as a cure."""

from typing import Literal

from kiwari_ci.frozen import dataclass
from kiwari_ci.plan_model.base import KeyValue
from kiwari_ci.plan_model.clusters import Cluster
from kiwari_ci.plan_model.hosts import DeployHost, PostgresServer

RunbookStepId = Literal[
    "files",
    "env_files",
    "deploy_key",
    "host_key",
    "github_settings",
    "cluster",
    "network",
    "dns",
    "proxy_hosts",
    "health_endpoints",
    "first_push",
    "branch_protection",
    "first_release",
    "schedule",
]

# The subjects of the two commands for env files.
CREATE_ENV_FILES = "create"
EDIT_ENV_FILES = "edit"


@dataclass(frozen=True)
class RunbookStep:
    """A numbered step; programs know it by its `id`, people by its number and title."""

    id: RunbookStepId
    number: int
    title: str

    @property
    def heading(self) -> str:
        """The step's heading in the runbook."""
        return f"{self.number}. {self.title}"


@dataclass(frozen=True)
class RunbookCommand:
    """A command for a person's shell: `subject` names what it is for, and is empty where that is the host itself.

    In `line`, a host's shell variable (`"$VPS"`) stands for the host's login and address.
    """

    subject: str
    line: str


@dataclass(frozen=True)
class SettingCommand:
    """Sets a secret or variable at GitHub: for a host, for an environment only, or for the whole repository."""

    kind: str
    name: str
    host: str
    environment: str
    line: str


@dataclass(frozen=True)
class ServerCommands:
    """The commands for a PostgreSQL server; `init_databases` is typed on its host, in the folder of its stack."""

    server: PostgresServer
    start: RunbookCommand
    init_databases: RunbookCommand


@dataclass(frozen=True)
class ScheduleCommands:
    """The commands for the backups and the jobs that run on a schedule on a host.

    `back_ups` has a command for each database server, `restores` one for each database, and `trial_restores` one for
    the first database of each server. They are empty if the host has jobs only.
    """

    host_name: str
    install_timer: RunbookCommand
    show_status: RunbookCommand
    back_ups: tuple[RunbookCommand, ...]
    trial_restores: tuple[RunbookCommand, ...]
    restores: tuple[RunbookCommand, ...]


@dataclass(frozen=True)
class HostCommands:
    """The commands for one host.

    `env_files` has two commands: one copies the examples, and one edits the copies. It is empty if the host has no
    env file. `start_proxies` is empty if no service has a domain. `renamed_copies` are the commands of `copy_files`
    for a folder that has another name on the host. The subject of a command is the name of a proxy, a folder of
    `deploy/`, or, for a rollback, `STACK CONTAINER`.

    What begins with `first` leaves out the stacks whose files go into a folder that serves today, because a takeover
    places them in a step of its own. `first_sources` are the folders of `deploy/` that keep their names on the host.
    """

    host: DeployHost
    create_networks: tuple[RunbookCommand, ...]
    env_files: tuple[RunbookCommand, ...]
    servers: tuple[ServerCommands, ...]
    start_proxies: tuple[RunbookCommand, ...]
    reload_proxies: tuple[RunbookCommand, ...]
    copy_files: tuple[RunbookCommand, ...]
    renamed_copies: tuple[RunbookCommand, ...]
    first_sources: tuple[str, ...]
    first_renamed_copies: tuple[RunbookCommand, ...]
    first_env_files: tuple[str, ...]
    create_first_env_files: str
    edit_first_env_files: str
    rollbacks: tuple[RunbookCommand, ...]


@dataclass(frozen=True)
class NamespaceCommands:
    """The commands for a stack on a cluster; `kubeconfig` stores the kubeconfig of its service account on GitHub."""

    stack_name: str
    kubeconfig: SettingCommand
    pull_secret: RunbookCommand
    env_secrets: tuple[RunbookCommand, ...]
    database: tuple[RunbookCommand, ...]
    rights: RunbookCommand
    status: RunbookCommand
    check: RunbookCommand
    cancel: RunbookCommand
    rollbacks: tuple[RunbookCommand, ...]


@dataclass(frozen=True)
class ClusterCommands:
    """The commands for a cluster, which its administrator types with a kubeconfig of their own."""

    cluster: Cluster
    set_up: RunbookCommand
    namespaces: tuple[NamespaceCommands, ...]


@dataclass(frozen=True)
class TakenOverContainer:
    """A container that serves today, and what the first deploy does with it.

    `addresses` are its public ones, which the proxy leads to `pass_to`; other containers call it at `called_at`.
    `outcome`: an accessory `stays`, or has `another-name` and would be started a second time; a service is replaced
    `without-a-gap`, or `with-a-gap` because two cannot run at once, or the old one runs on `under-its-own-name`. If
    both would write to the same data, a deploy is refused while it runs, so a person stops it: `stopped-by-hand`.
    `has_published_ports`: the new one publishes ports of the server, of which only one container can have each.
    """

    name: str
    today: str
    container: str
    addresses: tuple[str, ...]
    pass_to: str
    called_at: str
    outcome: Literal["stays", "another-name", "without-a-gap", "with-a-gap", "under-its-own-name", "stopped-by-hand"]
    has_published_ports: bool = False

    @property
    def stays(self) -> bool:
        """Whether it runs on as it is."""
        return self.outcome == "stays"

    @property
    def is_started_again(self) -> bool:
        """Whether an accessory is started a second time, under the name that the spec gives it."""
        return self.outcome == "another-name"

    @property
    def is_replaced(self) -> bool:
        """Whether the new container gets its name."""
        return self.outcome in ("without-a-gap", "with-a-gap")

    @property
    def runs_beside(self) -> bool:
        """Whether the container of a service runs on beside the new one."""
        return self.outcome == "under-its-own-name"

    @property
    def may_need_port_of_today(self) -> bool:
        """Whether it cannot start beside the old one if that publishes the same port."""
        return self.runs_beside and self.has_published_ports

    @property
    def is_stopped_by_hand(self) -> bool:
        """Whether a person stops it before the deploy, which would be refused otherwise."""
        return self.outcome == "stopped-by-hand"

    @property
    def is_stopped_behind_proxy(self) -> bool:
        """Whether a proxy leads its public addresses to the container that a person stops."""
        return self.is_stopped_by_hand and bool(self.addresses)

    @property
    def is_down_for_seconds(self) -> bool:
        """Whether it is stopped before the new container starts."""
        return self.outcome == "with-a-gap"

    @property
    def is_replaced_for_callers(self) -> bool:
        """Whether the new container gets its name, and only other containers call it."""
        return self.outcome == "without-a-gap" and bool(self.called_at) and not self.addresses


@dataclass(frozen=True)
class LedAddress:
    """A public address, and where the proxy passes its requests: today, and after the first deploy."""

    address: str
    today: str
    pass_to: str


@dataclass(frozen=True)
class OldPipeline:
    """What deploys an environment today, and the pull request with which the new pipeline takes its place.

    A workflow is taken from the commit that is pushed, so a pull request brings the new workflows to a `branch` and
    removes from that branch all old ones that they replace: `removed`, which also has those of other environments.
    `comes_with_new`: this is the takeover whose pull request does so; an earlier one has done it otherwise.
    `workflows` are those that deploy this environment. Until the deploy they are disabled; `enabled_again` are those
    of them that are needed right after it: `still_deploying` pairs a workflow with the environments that it deploys
    from other branches, and `same_names` are files that the new pipeline has, too.
    `deployed_together` are the later environments that the same push deploys, unless the spec has `by_hand` as their
    `deploy_on` for a time. `deployed_later` are those for which the pull request removes the old pipeline, and that a
    tag or a person deploys. `new_workflow` is what such a tag or person starts; it is empty if a push deploys the
    environment.
    """

    branch: str
    comes_with_new: bool
    workflows: tuple[str, ...]
    removed: tuple[str, ...]
    enabled_again: tuple[str, ...]
    still_deploying: tuple[KeyValue, ...]
    same_names: tuple[str, ...]
    deployed_together: tuple[str, ...]
    by_hand: str
    deployed_later: tuple[str, ...]
    new_workflow: str

    @property
    def words_removed(self) -> str:
        """The files that the pull request deletes, for a sentence; empty if the new pipeline has all their names."""
        if not self.workflows and not self.removed:
            return "those that you have disabled"
        return ", ".join(f"`.github/workflows/{name}`" for name in self.removed)

    @property
    def words_still_deploying(self) -> str:
        """The workflows that deploy other environments, too, for a sentence."""
        return ", ".join(f"`{pair.key}` ({pair.value})" for pair in self.still_deploying)

    @property
    def words_same_names(self) -> str:
        """The files that the new pipeline has, too, for a sentence."""
        return ", ".join(f"`{name}`" for name in self.same_names)

    @property
    def words_deployed_together(self) -> str:
        """The environments that the same push deploys, for a sentence."""
        return " and ".join(self.deployed_together)

    @property
    def later_with_this_branch(self) -> str:
        """The environments whose old pipeline ends with this pull request, and that it does not deploy; or nothing."""
        return " and ".join(self.deployed_later) if self.comes_with_new else ""


@dataclass(frozen=True)
class TakeoverCommands:
    """The commands of a takeover, each for every host.

    `show_values` prints the values of today that belong into env files, `show_kept_values` those that GitHub keeps.
    `connect` connects the proxy, and the accessories that stay, to the networks of the new containers, and
    `show_networks` prints them. `copy_folder`, `place_files` and `restore_folder` are empty unless the new files go
    into today's folder: they copy it, bring the new files, and put the copy back. `merge` brings the new workflows to
    their branch, and `deploy` deploys what no push deploys. `restart_from_old_files` starts the containers of today
    from their Compose file. `stop_first` and `start_stopped` are for the containers of today that are stopped before
    the deploy, and `stop_successors` for the new ones that follow them. `stop_workers`, `stop_servers`,
    `stop_accessories` and `start_old` are for the other containers of today, `stop_new` for the new ones beside them.
    `show_traffic` prints how much both have received, `show_work` what the new workers print, and `show_stopped` the
    state of the old ones. `remove_old` removes the old containers, and `mark_old_files` makes today's Compose files
    harmless.
    """

    show_values: tuple[str, ...]
    show_kept_values: tuple[str, ...]
    connect: tuple[str, ...]
    show_networks: tuple[str, ...]
    copy_folder: tuple[str, ...]
    place_files: tuple[str, ...]
    restore_folder: tuple[str, ...]
    merge: tuple[str, ...]
    deploy: tuple[str, ...]
    start_runs: tuple[str, ...]
    restart_from_old_files: tuple[str, ...]
    stop_first: tuple[str, ...]
    start_stopped: tuple[str, ...]
    stop_successors: tuple[str, ...]
    stop_workers: tuple[str, ...]
    stop_servers: tuple[str, ...]
    stop_accessories: tuple[str, ...]
    start_old: tuple[str, ...]
    stop_new: tuple[str, ...]
    show_traffic: tuple[str, ...]
    show_work: tuple[str, ...]
    show_stopped: tuple[str, ...]
    remove_old: tuple[str, ...]
    mark_old_files: tuple[str, ...]


@dataclass(frozen=True)
class Takeover:
    """What serves an environment today.

    `has_same_folder`: the new stack's files go into today's folder. `volumes_today` is the line of the spec with
    today's names of the stack's volumes, if they have other names. `has_https`: clients use HTTPS. `network` is the one
    that a proxy which stays joins, to share it with the services, and `proxy_service` the proxy's name in the Compose
    file that started it, where Compose has named its container. `switch_template` says how a person makes this kind of
    proxy pass requests to another container, `has_proxy_files` whether that is done in files, and `is_proxy_changed`
    whether a person changes the proxy at all. A push to `branch` deploys the environment, or the tag of a version, such
    as `first_tag`.
    `can_start_by_hand`: GitHub starts the workflows of that branch by hand, because they are on the default branch.

    `replaced` are the containers that are kept, stopped, under another name. `beside` are those of services that run
    on beside the new ones, until a person stops them: the work of `workers_beside` is done twice while both run,
    something must send requests to the new ones of `servers_beside`, and no proxy sends any to `called_beside`. A
    person stops those of `stopped_by_hand` before the deploy.
    `accessories_beside` are those of accessories beside which a second container is started.
    `led_elsewhere` are the public addresses that a person makes the proxy pass to another container, and `led_by_name`
    those that it must pass to a container by a name that stays. `led_to_stopped` are those that lead to a container
    which is stopped before the deploy, until a person makes the proxy pass them to the new one. `staying` are the
    containers that are still started from the Compose files of today.
    """

    environment: str
    stack: str
    host_variables: tuple[str, ...]
    host_folder: str
    doctor_command: str
    project: str
    folder: str
    has_same_folder: bool
    old_pipeline: OldPipeline
    ports: str
    proxy_service: str
    has_https: bool
    containers: tuple[TakenOverContainer, ...]
    volumes_today: str
    network: str
    switch_template: str
    has_proxy_files: bool
    is_proxy_changed: bool
    branch: str
    can_start_by_hand: bool
    first_tag: str
    replaced: tuple[TakenOverContainer, ...]
    stopped_by_hand: tuple[TakenOverContainer, ...]
    beside: tuple[TakenOverContainer, ...]
    workers_beside: tuple[TakenOverContainer, ...]
    servers_beside: tuple[TakenOverContainer, ...]
    accessories_beside: tuple[TakenOverContainer, ...]
    called_beside: tuple[TakenOverContainer, ...]
    led_elsewhere: tuple[LedAddress, ...]
    led_by_name: tuple[LedAddress, ...]
    led_to_stopped: tuple[LedAddress, ...]
    staying: tuple[str, ...]
    commands: TakeoverCommands

    @property
    def first_host_variable(self) -> str:
        """The shell variable with the address of the first host."""
        return self.host_variables[0]

    @property
    def is_started_from_old_files(self) -> bool:
        """Whether going back starts the old containers from their Compose file.

        Compose removes a container of the same project and service when it replaces it.
        """
        return bool(self.replaced) and bool(self.folder) and self.project == self.stack

    @property
    def has_containers_beside(self) -> bool:
        """Whether containers of today run on beside new ones, until a person stops them."""
        return bool(self.beside or self.accessories_beside)

    @property
    def old_pipeline_number(self) -> int:
        """The part that stops the old pipeline: before files of the new stack are in the folder that it uses."""
        return 1 if self.has_same_folder else 2

    @property
    def check_number(self) -> int:
        """The step that asks what a deploy would refuse, once the new files are on the server."""
        return 3 if self.has_same_folder else 1

    @property
    def deploy_number(self) -> int:
        """The step that deploys."""
        return 4 if self.has_same_folder else 3

    @property
    def switch_number(self) -> int:
        """The step that switches over, if there is something to switch."""
        return self.deploy_number + 1

    @property
    def clean_up_number(self) -> int:
        """The last step."""
        return self.switch_number + 1 if self.has_containers_beside else self.switch_number

    @property
    def proxy_container(self) -> str:
        """The container of the proxy; where the spec does not name it, what a person replaces by its name."""
        return self.ports or "PROXY"

    @property
    def targets_elsewhere(self) -> tuple[str, ...]:
        """Where the proxy passes requests from now on, each once."""
        return tuple(dict.fromkeys(each.pass_to for each in self.led_elsewhere))

    @property
    def targets_in_place_of_stopped(self) -> tuple[str, ...]:
        """Where the proxy passes requests that a stopped container got, each once."""
        return tuple(dict.fromkeys(led.pass_to for led in self.led_to_stopped))

    @property
    def targets_by_name(self) -> tuple[str, ...]:
        """Where the proxy passes requests by a name that stays, each once."""
        return tuple(dict.fromkeys(each.pass_to for each in self.led_by_name))

    @property
    def names_stopped_by_hand(self) -> str:
        """The names of the containers that are stopped before the deploy."""
        return ", ".join(f"`{container.today}`" for container in self.stopped_by_hand)

    @property
    def names_beside(self) -> str:
        """The names of the containers that run on beside the new ones."""
        return ", ".join(f"`{container.today}`" for container in self.beside)

    @property
    def names_without_container(self) -> str:
        """The names in the spec of services that have them only when the takeover is finished; for a sentence.

        In the Compose project of today, the old containers have such names.
        """
        names = [container.name for container in self.servers_beside if container.name != container.container]
        return ", ".join(f"`{name}`" for name in dict.fromkeys(names)) if self.project == self.stack else ""

    @property
    def words_accessories_beside(self) -> str:
        """The accessories beside which a second container is started, for a sentence."""
        return ", ".join(f"`{each.container}` in place of `{each.today}`" for each in self.accessories_beside)

    @property
    def names_staying(self) -> str:
        """The names of the containers that are still started from the Compose files of today."""
        return ", ".join(f"`{name}`" for name in self.staying)


@dataclass(frozen=True)
class Runbook:
    """The steps by their ids, in their order; the commands for each host, cluster and schedule, and for GitHub.

    `protect_environments` limits what may deploy there to branches and tags, `protect_tags` who makes a version.
    `required_checks` says which checks a merge waits for, `checks_after_eject` which are left without the drift check,
    and `required_contexts` how GitHub lists the first. `kept_apart` names the settings of hosts that only GitHub's
    environments keep apart, and `environments_with_variables` are those that hold variables of that kind.
    A step that concerns nothing of the spec is not among them: `cluster` without a cluster, those of servers where all
    is on clusters, `network` where no network and no database server is created, `first_release` when no environment is
    deployed by tag, `schedule` when nothing runs on a schedule.
    """

    steps: dict[RunbookStepId, RunbookStep]
    hosts: tuple[HostCommands, ...]
    clusters: tuple[ClusterCommands, ...]
    schedules: tuple[ScheduleCommands, ...]
    create_environments: tuple[RunbookCommand, ...]
    protect_environments: tuple[RunbookCommand, ...]
    protect_tags: tuple[RunbookCommand, ...]
    settings: tuple[SettingCommand, ...]
    required_checks: str
    checks_after_eject: str
    required_contexts: str
    kept_apart: str
    environments_with_variables: tuple[str, ...]

    @property
    def has_first_env_files(self) -> bool:
        """Whether a person fills in env files before the step that takes over what serves today."""
        return any(commands.first_env_files for commands in self.hosts)

    @property
    def has_network_step(self) -> bool:
        """Whether a person creates networks or database servers."""
        return "network" in self.steps

    @property
    def hosts_with_networks(self) -> tuple[HostCommands, ...]:
        """The hosts on which a person creates a network or a database server."""
        return tuple(commands for commands in self.hosts if commands.create_networks or commands.servers)

    @property
    def list_settings(self) -> str:
        """The command that lists the names of all variables and secrets, in bash."""
        lists = [f"gh variable list --env {name}" for name in self.environments_with_variables]
        lists += [f"gh secret list --env {command.subject}" for command in self.create_environments]
        return " && ".join(["gh variable list", *lists])
