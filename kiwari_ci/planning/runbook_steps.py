"""Plans the runbook: the numbers and titles of its steps, and the commands that it shares with the doctor.

The template prints these commands, and the doctor suggests them as cures, so both have the same words without
reading each other's text.
"""

import json
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from kiwari_ci.plan_model import (
    Cluster,
    DeployHost,
    GitHubSetting,
    KeyValue,
    PostgresServer,
    ProxyStack,
    RequiredSetting,
    SshPort,
    Stack,
    Takeover,
)
from kiwari_ci.plan_model.runbook import (
    CREATE_ENV_FILES,
    EDIT_ENV_FILES,
    HostCommands,
    Runbook,
    RunbookCommand,
    RunbookStep,
    RunbookStepId,
    ScheduleCommands,
    ServerCommands,
    SettingCommand,
)
from kiwari_ci.planning.cluster_steps import plan_cluster_commands

DeployedRef = tuple[str, str]  # `branch` or `tag`, and its name or pattern

_STEP_TITLES: dict[RunbookStepId, str] = {
    "files": "Files on the server",
    "env_files": "Env files",
    "deploy_key": "Deploy key",
    "host_key": "Host key",
    "github_settings": "GitHub: environments, secrets, variables",
    "cluster": "Cluster",
    "network": "Network",
    "dns": "DNS",
    "proxy_hosts": "Proxy hosts",
    "health_endpoints": "Health endpoints",
    "first_push": "First push",
    "branch_protection": "Protect the branch",
    "first_release": "First release",
    "schedule": "Backups and scheduled jobs",
}


def plan_runbook(
    project: str,
    repository: str,
    hosts: Sequence[DeployHost],
    clusters: Sequence[Cluster],
    stacks: Sequence[Stack],
    repository_settings: Sequence[GitHubSetting | RequiredSetting],
    required_settings: Sequence[RequiredSetting],
    deployed_refs: Mapping[str, Sequence[DeployedRef]],
    version_tags: Sequence[str],
    required_checks: Sequence[str],
    takeovers: Sequence[Takeover],
    has_first_release: bool,
) -> Runbook:
    """Plan the runbook; `repository_settings` are tokens and what builds and steps read, which belong to no host.

    `deployed_refs` are the branches and tags that may deploy to each of GitHub's environments. With `takeovers`,
    some values of the env files are those of today, and files for a folder that serves today are placed later.
    `has_first_release`: a tag deploys an environment that no takeover deploys.
    """
    later_stacks = {takeover.stack for takeover in takeovers if takeover.has_same_folder}
    has_domains = any(container.domain for stack in stacks for container in stack.containers)
    settings = _plan_settings(project, hosts, stacks, repository_settings, required_settings)
    joins_networks = _joins_networks(hosts, takeovers)
    titles = _choose_titles(hosts, joins_networks, has_first_release, bool(takeovers))
    unused_steps = _list_unused_steps(hosts, clusters, joins_networks, has_releases=bool(version_tags))
    return Runbook(
        steps=_number_steps(titles, unused_steps),
        hosts=tuple(_plan_host_commands(host, has_domains, later_stacks, bool(takeovers)) for host in hosts),
        clusters=tuple(plan_cluster_commands(cluster) for cluster in clusters),
        schedules=tuple(_plan_schedule_commands(host) for host in hosts if host.has_schedule),
        create_environments=tuple(_plan_environment(repository, environment) for environment in deployed_refs),
        protect_environments=tuple(
            command
            for environment, refs in deployed_refs.items()
            for command in _plan_deployed_refs(repository, environment, refs)
        ),
        protect_tags=tuple(_plan_tag_ruleset(repository, pattern) for pattern in version_tags),
        settings=settings,
        required_checks=_describe_required_checks(required_checks),
        checks_after_eject="".join(f"`{name}`, and no other check" for name in required_checks[1:]) or "no check",
        required_contexts=_format_required_contexts(required_checks),
        kept_apart=", ".join(dict.fromkeys(f"`{pair.key}`" for host in hosts for pair in host.file_suffixes)),
        environments_with_variables=_list_environments_with_variables(settings),
    )


def _plan_settings(
    project: str,
    hosts: Sequence[DeployHost],
    stacks: Sequence[Stack],
    repository_settings: Sequence[GitHubSetting | RequiredSetting],
    required_settings: Sequence[RequiredSetting],
) -> tuple[SettingCommand, ...]:
    """Plan the commands that set secrets and variables at GitHub, each for the place where jobs read it."""
    general_settings = [
        *(command for host in hosts for command in _plan_host_settings(project, host)),
        *(_plan_setting(setting) for setting in repository_settings),
    ]
    hosts_by_name = {host.name: host for host in hosts}
    commands = [
        *_keep_in_environments(general_settings, required_settings, hosts_by_name),
        *(_plan_setting(setting, stack.environment) for stack in stacks for setting in stack.kept),
    ]
    return tuple(_leave_out_repetitions(commands))


def _describe_required_checks(names: Sequence[str]) -> str:
    """Name the checks that branch protection should require."""
    if len(names) == 1:
        return f"the check `{names[0]}`"
    drift, pull_requests = names
    return f"the checks `{drift}` and `{pull_requests}`, which says whether everything that the change touches passed"


def _format_required_contexts(names: Sequence[str]) -> str:
    """Format what GitHub prints of the required checks."""
    contexts = f"`{json.dumps(names, separators=(',', ':'))}`"
    return f"{contexts}, in any order" if len(names) > 1 else contexts


def _plan_environment(repository: str, environment: str) -> RunbookCommand:
    """Create an environment at GitHub."""
    return RunbookCommand(environment, f"gh api --silent -X PUT {_format_environment_path(repository, environment)}")


def _format_environment_path(repository: str, environment: str) -> str:
    return f"repos/{repository}/environments/{environment}"


def _plan_deployed_refs(repository: str, environment: str, refs: Sequence[DeployedRef]) -> Iterator[RunbookCommand]:
    """Only these branches and tags may deploy to an environment, and so read its secrets."""
    path = _format_environment_path(repository, environment)
    policy = (
        "deployment_branch_policy[protected_branches]=false",
        "deployment_branch_policy[custom_branch_policies]=true",
    )
    fields = " ".join(f"-F {shlex.quote(field)}" for field in policy)
    yield RunbookCommand(environment, f"gh api --silent -X PUT {path} {fields}")
    for kind, pattern in refs:
        line = f"gh api --silent {path}/deployment-branch-policies -f type={kind} -f {shlex.quote(f'name={pattern}')}"
        yield RunbookCommand(environment, line)


def _plan_tag_ruleset(repository: str, pattern: str) -> RunbookCommand:
    """Only administrators (role 5) make, move and remove the tags of versions."""
    ruleset = {
        "name": f"versions {pattern}",
        "target": "tag",
        "enforcement": "active",
        "conditions": {"ref_name": {"include": [f"refs/tags/{pattern}"], "exclude": []}},
        "rules": [{"type": "creation"}, {"type": "update"}, {"type": "deletion"}],
        "bypass_actors": [{"actor_id": 5, "actor_type": "RepositoryRole", "bypass_mode": "always"}],
    }
    line = f"gh api --silent repos/{repository}/rulesets --input - <<<{shlex.quote(json.dumps(ruleset))}"
    return RunbookCommand(pattern, line)


def _keep_in_environments(
    commands: Iterable[SettingCommand],
    required_settings: Sequence[RequiredSetting],
    hosts: Mapping[str, DeployHost],
) -> Iterator[SettingCommand]:
    """Put each secret into the environments whose jobs read it.

    A secret of the repository is there for every workflow of every branch, also for one that somebody just pushed.
    A variable stays with the repository, unless two hosts have another value of it.
    """
    readers = {(setting.kind, setting.name): setting.environments for setting in required_settings}
    for command in commands:
        environments = readers.get((command.kind, command.name), ())
        if command.host:
            host = hosts[command.host]
            own_environments = [stack.environment for stack in host.stacks]
            environments = tuple(name for name in environments if name in own_environments)
        is_kept_apart = bool(command.host) and hosts[command.host].is_kept_apart(command.name)
        if command.kind == "variable" and not is_kept_apart:
            environments = ()
        if not environments:
            yield command
        for environment in environments:
            plain = f"gh {command.kind} set {command.name}"
            line = command.line.replace(plain, f"{plain} --env {environment}")
            yield replace(command, environment=environment, line=line)


def _leave_out_repetitions(commands: Iterable[SettingCommand]) -> Iterator[SettingCommand]:
    """Leave out the command for what a command before it has set in the same place, unless hosts have their own."""
    known: set[tuple[str, str, str]] = set()
    for command in commands:
        place = (command.kind, command.name, command.environment)
        if command.host or place not in known:
            yield command
        known.add(place)


def _list_environments_with_variables(settings: Iterable[SettingCommand]) -> tuple[str, ...]:
    """List the environments that hold variables, which `gh variable list` does not show without their name."""
    environments = [setting.environment for setting in settings if setting.kind == "variable"]
    return tuple(dict.fromkeys(environment for environment in environments if environment))


def _joins_networks(hosts: Iterable[DeployHost], takeovers: Iterable[Takeover]) -> bool:
    """Whether something has to join the network of a proxy, which a person creates before."""
    return any(host.network for host in hosts) or any(takeover.commands.connect for takeover in takeovers)


def _choose_titles(
    hosts: Sequence[DeployHost], joins_networks: bool, has_first_release: bool, has_takeovers: bool
) -> dict[RunbookStepId, str]:
    """Choose the title of each step by what there is to do in it."""
    titles = dict(_STEP_TITLES)
    if any(host.servers for host in hosts):
        titles["network"] = "Network and PostgreSQL" if joins_networks else "PostgreSQL"
    if has_takeovers:
        titles["first_push"] = "Take over what serves today"
    if not has_first_release:
        titles["first_release"] = "Later releases"
    return titles


def _list_unused_steps(
    hosts: Sequence[DeployHost], clusters: Sequence[Cluster], joins_networks: bool, has_releases: bool
) -> list[RunbookStepId]:
    """List the steps in which there is nothing to do."""
    unused: list[RunbookStepId] = []
    if not clusters:
        unused.append("cluster")
    if not hosts:
        unused += ["files", "env_files", "deploy_key", "host_key", "network", "proxy_hosts"]
    elif not joins_networks and not any(host.servers for host in hosts):
        unused.append("network")
    if not has_releases:
        unused.append("first_release")
    if not any(host.has_schedule for host in hosts):
        unused.append("schedule")
    return unused


def _number_steps(
    titles: Mapping[RunbookStepId, str], unused: Collection[RunbookStepId]
) -> dict[RunbookStepId, RunbookStep]:
    used = [step_id for step_id in titles if step_id not in unused]
    return {step_id: RunbookStep(step_id, number, titles[step_id]) for number, step_id in enumerate(used, 1)}


def _plan_host_commands(
    host: DeployHost, has_domains: bool, later_stacks: Collection[str], has_takeovers: bool
) -> HostCommands:
    first_env_files = tuple(file for file in host.env_files if file.partition("/")[0] not in later_stacks)
    later_sources = [f"deploy/{stack.source_folder}" for stack in host.stacks if stack.name in later_stacks]
    return HostCommands(
        host=host,
        create_networks=tuple(_plan_create_networks(host)),
        env_files=_plan_env_files(host, has_takeovers) if host.env_files else (),
        servers=tuple(_plan_server_commands(host, server) for server in host.servers),
        start_proxies=tuple(RunbookCommand(proxy.name, proxy.start_command) for proxy in host.fronts if has_domains),
        reload_proxies=tuple(_plan_reload_proxy(host, proxy) for proxy in host.fronts if proxy.reload),
        copy_files=(
            *(_plan_copy_files(host, source) for source in host.sources),
            *_plan_renamed_copies(host, host.renamed_sources),
        ),
        renamed_copies=tuple(_plan_renamed_copies(host, host.renamed_sources)),
        first_sources=tuple(source for source in host.sources if source not in later_sources),
        first_renamed_copies=tuple(
            _plan_renamed_copies(host, [pair for pair in host.renamed_sources if pair.value not in later_stacks])
        ),
        first_env_files=first_env_files,
        create_first_env_files=format_create_env_files(host.variable, host.folder, first_env_files),
        edit_first_env_files=format_edit_env_files(host.variable, host.folder, first_env_files),
        rollbacks=tuple(
            _plan_rollback(host, stack, instance.container) for stack in host.stacks for instance in stack.instances
        ),
    )


def _format_ssh_command(host: DeployHost, script: str) -> str:
    """A script that runs on the host; it has no single quotes."""
    return f"ssh \"${host.variable}\" '{script}'"


def _plan_create_networks(host: DeployHost) -> Iterator[RunbookCommand]:
    """Plan the command that creates the network of the proxy, if something joins it."""
    if not host.network:
        return
    inspect = f"docker network inspect {host.network} >/dev/null 2>&1"
    yield RunbookCommand(host.network, _format_ssh_command(host, f"{inspect} || docker network create {host.network}"))


def _plan_env_files(host: DeployHost, has_takeovers: bool) -> tuple[RunbookCommand, ...]:
    create = format_create_env_files(host.variable, host.folder, host.env_files)
    edit = format_edit_env_files(host.variable, host.folder, host.env_files)
    if not has_takeovers:  # else some values are those of today, and the step says which
        # No `;`, quote or parenthesis: zsh, as it is set up by default, does not ignore what is typed after `#`.
        edit += " # fill in each change-me and each empty value. This makes a password: openssl rand -hex 32"
    return RunbookCommand(CREATE_ENV_FILES, create), RunbookCommand(EDIT_ENV_FILES, edit)


def format_create_env_files(variable: str, folder: str, env_files: Iterable[str]) -> str:
    """The command that copies the examples of those env files that are missing on a host."""
    copy_example = "[ -e $f ] || install -m 600 $f.example $f"
    return f"ssh \"${variable}\" 'cd {folder} && for f in {shlex.join(env_files)}; do {copy_example}; done'"


def format_edit_env_files(variable: str, folder: str, env_files: Iterable[str]) -> str:
    """The command that opens env files on a host in an editor."""
    return f"ssh -t \"${variable}\" 'cd {folder} && editor {shlex.join(env_files)}'"


def _plan_server_commands(host: DeployHost, server: PostgresServer) -> ServerCommands:
    start = _format_ssh_command(host, f"cd {host.folder}/{server.name} && docker compose up -d --wait")
    init_script = "/docker-entrypoint-initdb.d/init-databases.sh"
    init_databases = f"docker compose exec {server.name} bash {init_script}"
    return ServerCommands(server, RunbookCommand(server.name, start), RunbookCommand(server.name, init_databases))


def _plan_reload_proxy(host: DeployHost, proxy: ProxyStack) -> RunbookCommand:
    return RunbookCommand(proxy.name, _format_ssh_command(host, f"cd {proxy.folder} && {proxy.reload}"))


def _plan_copy_files(host: DeployHost, source: str) -> RunbookCommand:
    return RunbookCommand(source.removeprefix("deploy/"), format_copy_folder(host.variable, host.folder, source))


def format_copy_folder(variable: str, folder: str, source: str) -> str:
    """The command that copies a folder of `deploy/` to a host, under its name."""
    extract = f"ssh \"${variable}\" 'umask 022; tar -x --strip-components=1 -C {folder}'"
    return f"git archive HEAD {source} | {extract}"


def format_renamed_copy(variable: str, folder: str, source: str, name: str) -> str:
    """The command that copies a folder of `deploy/` to a host, under another name."""
    extract = f"ssh \"${variable}\" 'umask 022; tar -x -C {folder}'"
    return f"git archive --prefix={name}/ HEAD:{source} | {extract}"


def _plan_renamed_copies(host: DeployHost, renamed_sources: Iterable[KeyValue]) -> Iterator[RunbookCommand]:
    """Plan the copies of folders that are called otherwise on the host."""
    for pair in renamed_sources:
        line = format_renamed_copy(host.variable, host.folder, pair.key, pair.value)
        yield RunbookCommand(pair.key.removeprefix("deploy/"), line)


def _plan_rollback(host: DeployHost, stack: Stack, container: str) -> RunbookCommand:
    command = f'ssh "${host.variable}" {host.folder}/bin/deploy rollback {stack.name} {container}'
    return RunbookCommand(f"{stack.name} {container}", f"{command} # add sha256:… to go back further")


def _plan_schedule_commands(host: DeployHost) -> ScheduleCommands:
    program = f"{host.folder}/bin/database"
    servers = [server for server in host.servers if server.backups]
    restores_of_servers = [_plan_restores(host, program, server) for server in servers]
    return ScheduleCommands(
        host_name=host.name,
        install_timer=RunbookCommand("", f"ssh -t \"${host.variable}\" '{program} timer | sudo sh'"),
        show_status=RunbookCommand("", f'ssh "${host.variable}" {program} status'),
        back_ups=tuple(
            RunbookCommand(server.name, f'ssh "${host.variable}" {program} backup {server.name}') for server in servers
        ),
        trial_restores=tuple(restores[0] for restores in restores_of_servers),
        restores=tuple(command for restores in restores_of_servers for command in restores),
    )


def _plan_restores(host: DeployHost, program: str, server: PostgresServer) -> list[RunbookCommand]:
    ssh = f'ssh "${host.variable}" {program}'
    return [
        RunbookCommand(f"{server.name} {backup.key}", f"{ssh} restore {server.name} {backup.key}")
        for backup in server.backups
    ]


def _plan_host_settings(project: str, host: DeployHost) -> Iterator[SettingCommand]:
    """Plan the commands that set what a deploy to a host reads; what its jump host shares with it is set once."""
    seen: set[tuple[str, str]] = set()
    for command in _plan_each_host_setting(project, host):
        if (command.kind, command.name) not in seen:
            yield command
        seen.add((command.kind, command.name))


def _plan_each_host_setting(project: str, host: DeployHost) -> Iterator[SettingCommand]:
    if not host.stacks:
        return  # no job goes there
    yield from _plan_login_settings(host, host.variable, host.address, host.user)
    yield from _plan_port_settings(host, host.port)
    for key in host.keys:
        yield _plan_file_setting(project, host, "secret", key.secret)
    yield _plan_file_setting(project, host, host.known_hosts.kind, host.known_hosts.name)
    for jump in host.jumps:
        yield from _plan_login_settings(host, jump.variable, jump.address, jump.user)
        yield from _plan_port_settings(host, jump.port)
        yield _plan_file_setting(project, host, "secret", jump.key.name)
        yield _plan_file_setting(project, host, jump.known_hosts.kind, jump.known_hosts.name)
    for proxy_command in host.proxy_commands:
        for setting in (*proxy_command.settings, *proxy_command.step_settings):
            yield _plan_prompted_host_setting(host, setting)


def _plan_login_settings(
    host: DeployHost, variable: str, address: GitHubSetting, user: GitHubSetting
) -> Iterator[SettingCommand]:
    """The shell variable holds USER@ADDRESS."""
    for setting, value in ((address, f"${{{variable}#*@}}"), (user, f"${{{variable}%@*}}")):
        line = f'printf %s "{value}" | gh {setting.kind} set {setting.name}'
        yield SettingCommand(setting.kind, setting.name, host.name, "", line)


def _plan_port_settings(host: DeployHost, port: SshPort) -> Iterator[SettingCommand]:
    for setting in port.settings:
        line = f'printf %s "{port.shell}" | gh {setting.kind} set {setting.name}'
        yield SettingCommand(setting.kind, setting.name, host.name, "", line)


def _plan_prompted_host_setting(host: DeployHost, setting: GitHubSetting) -> SettingCommand:
    """A setting of a host whose value `gh` asks for."""
    line = f"gh {setting.kind} set {setting.name_at_github}"
    return SettingCommand(setting.kind, setting.name_at_github, host.name, "", line)


def _plan_file_setting(project: str, host: DeployHost, kind: str, name: str) -> SettingCommand:
    """A setting whose value an earlier step has written to a file."""
    file = f"~/.ssh/{project}-{host.value_file(name)}"
    return SettingCommand(kind, name, host.name, "", f"gh {kind} set {name} <{file}")


def _plan_setting(setting: GitHubSetting | RequiredSetting, environment: str = "") -> SettingCommand:
    """A setting whose value `gh` asks for."""
    line = f"gh {setting.kind} set {setting.name}"
    if environment:
        line = f"{line} --env {environment}"
    return SettingCommand(setting.kind, setting.name, "", environment, line)
