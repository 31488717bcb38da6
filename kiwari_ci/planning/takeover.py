"""Plans what the runbook says of an environment that serves already: its containers, and what becomes of each."""

import shlex
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Literal

from kiwari_ci import schema
from kiwari_ci.effective_spec import EffectiveEnvironment, EffectiveSpec
from kiwari_ci.effective_spec.containers import EffectiveService
from kiwari_ci.effective_spec.databases import PLACEHOLDER
from kiwari_ci.effective_spec.values import find_published_port
from kiwari_ci.frozen import dataclass
from kiwari_ci.plan_model import (
    AccessoryContainer,
    BuiltBranch,
    ComposeStack,
    EnvironmentWorkflow,
    KeyValue,
    ServiceWorkflow,
    Stack,
    TakenOverContainer,
    Takeover,
    TakeoverCommands,
)
from kiwari_ci.plan_model.runbook import LedAddress, OldPipeline
from kiwari_ci.planning.runbook_steps import (
    format_copy_folder,
    format_create_env_files,
    format_edit_env_files,
    format_renamed_copy,
)
from kiwari_ci.proxies.all_proxies import find_proxy
from kiwari_ci.proxies.base import UNKNOWN_SWITCH_TEMPLATE

# Sockets and settings of the host: the host program does not take them for data of a service either.
_FOLDERS_WITHOUT_DATA = ("/dev/", "/etc/", "/proc/", "/run/", "/sys/", "/var/run/")
_COMPOSE_FILES = "*compose*.y*ml"  # the names that Compose looks for, and those that people give to further files


def plan_takeovers(
    spec: EffectiveSpec,
    stacks: Iterable[Stack],
    built_branches: Collection[BuiltBranch],
    pushed_before: Collection[BuiltBranch],
    workflows: Collection[ServiceWorkflow],
    environment_workflows: Collection[EnvironmentWorkflow],
) -> tuple[Takeover, ...]:
    """Plan the takeovers in the order in which a person does them: those that others promote from come first.

    `pushed_before` are the branches to which the new workflows come before any environment is taken over.
    """
    environments = _list_environments_in_order(spec)
    stacks_by_environment = {stack.environment: stack for stack in stacks if isinstance(stack, ComposeStack)}
    workflows_by_branch = {built.branch: built.workflows for built in built_branches}
    own_workflows = {workflow.name: workflow for workflow in environment_workflows}
    new_names = [workflow.name for workflow in workflows] + [workflow.name for workflow in environment_workflows]
    new_files = [f"{name}.yml" for name in new_names]
    branches_before = {built.branch for built in pushed_before}
    takeovers = []
    for index, environment in enumerate(environments):
        old_pipeline = _plan_old_pipeline(environment, environments[index + 1 :], branches_before, new_files)
        takeovers.append(
            _plan_takeover(
                environment,
                stacks_by_environment[environment.name],
                branch_workflows=workflows_by_branch.get(environment.model.deploy_on.push or "", ()),
                own_workflow=own_workflows.get(environment.workflow) if environment.has_own_workflow else None,
                old_pipeline=old_pipeline,
            )
        )
        branches_before.add(environment.deploy_branch)
    return tuple(takeovers)


def list_branches_before_takeovers(
    spec: EffectiveSpec, built_branches: Iterable[BuiltBranch]
) -> tuple[BuiltBranch, ...]:
    """List the branches that no takeover pushes: they are built, and deployed to other environments, if to any."""
    pushed_by_takeovers = {environment.model.deploy_on.push for environment in _list_environments_in_order(spec)}
    return tuple(built for built in built_branches if built.branch not in pushed_by_takeovers)


def list_workflows_removed_before(
    pushed_before: Iterable[BuiltBranch], takeovers: Iterable[Takeover]
) -> tuple[str, ...]:
    """List the old workflows that the first push of the new ones removes, before the first takeover."""
    branches = {built.branch for built in pushed_before}
    old_pipelines = [takeover.old_pipeline for takeover in takeovers if takeover.old_pipeline.branch in branches]
    return tuple(dict.fromkeys(name for old_pipeline in old_pipelines for name in old_pipeline.removed))


def _list_environments_in_order(spec: EffectiveSpec) -> list[EffectiveEnvironment]:
    """List the environments that are taken over: those that others promote from come first."""
    environments = [environment for environment in spec.environments.values() if environment.model.takeover]
    return sorted(environments, key=lambda environment: environment.model.promote is not None)


def _plan_old_pipeline(
    environment: EffectiveEnvironment,
    later: Sequence[EffectiveEnvironment],
    branches_before: Collection[str],
    new_files: Collection[str],
) -> OldPipeline:
    """Plan when the old pipeline of an environment is disabled, and with which pull request it is removed.

    `later` are the environments that are taken over after it. `branches_before` are the branches to which the new
    workflows have come already.
    """
    branch = environment.deploy_branch
    on_same_branch = [other for other in later if other.deploy_branch == branch]
    on_old_branches = [other for other in later if other.deploy_branch not in {branch, *branches_before}]
    workflows = _list_old_workflows([environment])
    still_deploying = tuple(_pair_with_deployed(workflows, on_old_branches))
    same_names = tuple(name for name in workflows if name in new_files)
    needed_again = {*same_names, *(pair.key for pair in still_deploying)}
    is_pushed = environment.model.deploy_on.push is not None
    return OldPipeline(
        branch=branch,
        comes_with_new=branch not in branches_before,
        workflows=tuple(workflows),
        removed=tuple(name for name in _list_old_workflows([environment, *on_same_branch]) if name not in new_files),
        enabled_again=tuple(name for name in workflows if name in needed_again),
        still_deploying=still_deploying,
        same_names=same_names,
        deployed_together=tuple(other.name for other in on_same_branch if is_pushed and other.model.deploy_on.push),
        by_hand=_format_deploy_by_hand(environment),
        deployed_later=tuple(other.name for other in on_same_branch if not other.model.deploy_on.push),
        new_workflow="" if is_pushed else f"{environment.workflow}.yml",
    )


def _pair_with_deployed(workflows: Iterable[str], environments: Collection[EffectiveEnvironment]) -> Iterator[KeyValue]:
    """Pair each old workflow that deploys some of these environments with their names."""
    for workflow in workflows:
        names = [other.name for other in environments if workflow in _list_old_workflows([other])]
        if names:
            yield KeyValue(workflow, " and ".join(names))


def _format_deploy_by_hand(environment: EffectiveEnvironment) -> str:
    """Format the `deploy_on` with which only a person deploys an environment, from the same branch."""
    branch = environment.deploy_branch
    is_default_branch = branch == environment.spec.project.default_branch
    return "{dispatch: true}" if is_default_branch else f"{{dispatch: true, branches: [{branch}]}}"


def _list_old_workflows(environments: Iterable[EffectiveEnvironment]) -> list[str]:
    """List the workflows that deploy environments today, each once."""
    takeovers = [environment.model.takeover for environment in environments]
    names = [name for takeover in takeovers if takeover for name in takeover.workflows or ()]
    return list(dict.fromkeys(names))


@dataclass(frozen=True)
class _ServingStack:
    """A stack whose environment serves already, and what becomes of the containers of today.

    `staying` are the containers that are still started from the Compose files of today.
    """

    environment: EffectiveEnvironment
    stack: ComposeStack
    containers: tuple[TakenOverContainer, ...]
    staying: tuple[str, ...]

    @property
    def project(self) -> str:
        """The Compose project of today; empty if the spec names none."""
        return _find_takeover(self.environment).project or ""

    @property
    def folder(self) -> str:
        """The folder of the Compose files of today; empty if the spec names none."""
        return _find_takeover(self.environment).folder or ""

    @property
    def has_same_folder(self) -> bool:
        """Whether the files of the stack go into the folder of today."""
        return _stays_in_folder(self.environment)

    @property
    def host_variables(self) -> tuple[str, ...]:
        """The shell variables with the addresses of the hosts."""
        return tuple(host.variable for host in self.environment.hosts)

    @property
    def replaced(self) -> tuple[TakenOverContainer, ...]:
        """The containers that are kept, stopped, under another name."""
        return tuple(container for container in self.containers if container.is_replaced)

    @property
    def stopped_by_hand(self) -> tuple[TakenOverContainer, ...]:
        """The containers that a person stops just before the deploy, because both would write to the same data."""
        return tuple(container for container in self.containers if container.is_stopped_by_hand)

    @property
    def beside(self) -> tuple[TakenOverContainer, ...]:
        """The containers of services that run on beside the new ones, until a person stops them."""
        return tuple(container for container in self.containers if container.runs_beside)

    @property
    def workers_beside(self) -> tuple[TakenOverContainer, ...]:
        """Those beside the new ones that answer no requests."""
        return tuple(container for container in self.beside if not container.called_at)

    @property
    def servers_beside(self) -> tuple[TakenOverContainer, ...]:
        """Those beside the new ones that answer requests."""
        return tuple(container for container in self.beside if container.called_at)

    @property
    def accessories_beside(self) -> tuple[TakenOverContainer, ...]:
        """The containers of accessories beside which a second one is started."""
        return tuple(container for container in self.containers if container.is_started_again)


def _find_takeover(environment: EffectiveEnvironment) -> schema.Takeover:
    """Find what the spec says of today; for environments that are taken over."""
    takeover = environment.model.takeover
    assert takeover
    return takeover


def _stays_in_folder(environment: EffectiveEnvironment) -> bool:
    """Whether the stack has the folder of the Compose files of today."""
    return _find_takeover(environment).folder == f"{environment.first_host.directory}/{environment.stack_name}"


def _plan_takeover(
    environment: EffectiveEnvironment,
    stack: ComposeStack,
    branch_workflows: Sequence[str],
    own_workflow: EnvironmentWorkflow | None,
    old_pipeline: OldPipeline,
) -> Takeover:
    """Plan the takeover of an environment; a push that deploys it starts `branch_workflows`."""
    serving = _ServingStack(
        environment, stack, tuple(_plan_containers(environment)), tuple(_list_staying_containers(environment, stack))
    )
    proxy_options = environment.first_host.proxy
    proxy = find_proxy(proxy_options.kind)
    finds_by_name = proxy.is_on_shared_network and not proxy.reads_labels and not proxy.stack_name(proxy_options)
    staying_proxy = _find_staying_proxy(environment)
    switch_template = _choose_switch_template(environment)
    led_elsewhere = _list_led_addresses(serving.servers_beside)
    branch = environment.model.deploy_on.push or ""
    tagged_workflow = own_workflow if not branch else None
    return Takeover(
        environment=environment.name,
        stack=stack.name,
        host_variables=serving.host_variables,
        host_folder=environment.first_host.home_folder,
        doctor_command=_format_doctor_command(environment),
        project=serving.project,
        folder=serving.folder,
        has_same_folder=serving.has_same_folder,
        old_pipeline=old_pipeline,
        ports=staying_proxy,
        proxy_service=_find_compose_service(serving.project, staying_proxy),
        has_https=environment.url_scheme == "https",
        containers=serving.containers,
        volumes_today=_format_volumes_today(stack, serving.project),
        network=proxy_options.network if _joins_network(environment, staying_proxy) else "",
        switch_template=switch_template,
        has_proxy_files=switch_template == UNKNOWN_SWITCH_TEMPLATE,
        is_proxy_changed=bool(led_elsewhere) and not proxy.reads_labels,
        branch=branch,
        can_start_by_hand=branch == environment.spec.project.default_branch,
        first_tag=tagged_workflow.example if tagged_workflow else "",
        replaced=serving.replaced,
        stopped_by_hand=serving.stopped_by_hand,
        beside=serving.beside,
        workers_beside=serving.workers_beside,
        servers_beside=serving.servers_beside,
        accessories_beside=serving.accessories_beside,
        called_beside=tuple(container for container in serving.servers_beside if not container.addresses),
        led_elsewhere=led_elsewhere,
        led_by_name=_list_led_addresses(serving.replaced) if finds_by_name else (),
        led_to_stopped=_list_led_addresses(serving.stopped_by_hand) if not proxy.reads_labels else (),
        staying=serving.staying,
        commands=_plan_commands(serving, branch_workflows, tagged_workflow, old_pipeline),
    )


def _plan_commands(
    serving: _ServingStack,
    branch_workflows: Sequence[str],
    tagged_workflow: EnvironmentWorkflow | None,
    old_pipeline: OldPipeline,
) -> TakeoverCommands:
    """Plan the commands; `tagged_workflow` deploys the environment if no push does."""
    environment, stack, variables = serving.environment, serving.stack, serving.host_variables
    value_commands = tuple(_list_value_commands(environment, stack))
    workers, servers, accessories = serving.workers_beside, serving.servers_beside, serving.accessories_beside
    stopped_by_hand = serving.stopped_by_hand
    all_beside = (*serving.beside, *accessories)
    in_same_folder = serving.has_same_folder
    branch = environment.model.deploy_on.push or ""
    return TakeoverCommands(
        show_values=() if stack.sent else value_commands,
        show_kept_values=value_commands if stack.sent else (),
        connect=tuple(_list_connect_commands(environment, stack)),
        show_networks=_plan_show_networks(variables, serving.staying),
        copy_folder=_plan_for_each_host(variables, _format_copy(serving.folder)) if in_same_folder else (),
        place_files=tuple(_list_place_commands(environment, stack)) if in_same_folder else (),
        restore_folder=_plan_for_each_host(variables, _format_restore(serving.folder)) if in_same_folder else (),
        merge=_plan_merge_commands(old_pipeline),
        deploy=_plan_deploy_commands(environment, tagged_workflow) if tagged_workflow else (),
        start_runs=tuple(f"gh workflow run {workflow}.yml --ref {branch}" for workflow in branch_workflows),
        restart_from_old_files=(
            *_plan_restart(serving),
            # Compose leaves the restart policy that was taken from them to stop them.
            *_plan_start(variables, [container.today for container in stopped_by_hand]),
            *_plan_stop(variables, [container.container for container in accessories]),
        ),
        stop_first=_plan_stop(variables, [container.today for container in stopped_by_hand]),
        start_stopped=_plan_start(variables, [container.today for container in stopped_by_hand]),
        stop_successors=_plan_stop(variables, [container.container for container in stopped_by_hand]),
        stop_workers=_plan_stop(variables, [container.today for container in workers]),
        stop_servers=_plan_stop(variables, [container.today for container in servers]),
        stop_accessories=_plan_stop(variables, [container.today for container in accessories]),
        start_old=_plan_start(variables, [container.today for container in (*accessories, *serving.beside)]),
        stop_new=_plan_stop(variables, [container.container for container in all_beside]),
        show_traffic=_plan_show_traffic(variables, servers),
        show_work=_plan_show_work(variables, workers),
        show_stopped=_plan_show_stopped(variables, all_beside),
        remove_old=_plan_remove(variables, serving.replaced, (*all_beside, *stopped_by_hand)),
        mark_old_files=_plan_mark_old_files(serving),
    )


def _find_staying_proxy(environment: EffectiveEnvironment) -> str:
    """Find the container that keeps ports 80 and 443; empty if a service of the spec takes its place."""
    today = _find_takeover(environment)
    replaced = {name for service in environment.services for name in today.containers.get(service, [])}
    return today.ports if today.ports and today.ports not in replaced else ""


def _joins_network(environment: EffectiveEnvironment, staying_proxy: str) -> bool:
    """Whether there is a proxy that stays, and that reaches the services over a network which they share."""
    return bool(staying_proxy) and find_proxy(environment.first_host.proxy.kind).is_on_shared_network


def _format_doctor_command(environment: EffectiveEnvironment) -> str:
    """The command that compares the servers of an environment with the spec, under the logins of this page."""
    logins = " ".join(f'--ssh {host.name}="${host.variable}"' for host in environment.hosts)
    return f"kiwari-ci doctor --env {environment.name} {logins}"


def _find_compose_service(project: str, container: str) -> str:
    """Find the service of a container that Compose has named, as in `shop-caddy-1`; empty for another name."""
    has_compose_name = bool(project) and container.startswith(f"{project}-") and container.endswith("-1")
    return container.removeprefix(f"{project}-").removesuffix("-1") if has_compose_name else ""


def _format_volumes_today(stack: ComposeStack, project: str) -> str:
    """Format the line of the spec that keeps the volumes, which Compose would make anew in another project."""
    names = [volume.name for volume in stack.volumes if not volume.existing]
    if not names or project == stack.name:
        return ""
    pairs = ", ".join(f"{name}: {project or 'PROJECT'}_{name}" for name in names)
    return f"volumes: {{{pairs}}}"


def _list_led_addresses(containers: Iterable[TakenOverContainer]) -> tuple[LedAddress, ...]:
    return tuple(
        LedAddress(address, container.today, container.pass_to)
        for container in containers
        for address in container.addresses
    )


def _plan_for_each_host(variables: Iterable[str], script: str) -> tuple[str, ...]:
    """Plan the command that runs a script on each host; it has no single quotes."""
    return tuple(f"ssh \"${variable}\" '{script}'" for variable in variables)


def _list_place_commands(environment: EffectiveEnvironment, stack: ComposeStack) -> Iterator[str]:
    """Bring the stack's files to each host, and fill in its env files."""
    env_files = [f"{stack.name}/{env_file.name}" for env_file in stack.env_files]
    source = f"deploy/{stack.source_folder}"
    for host in environment.hosts:
        if stack.other_source_folder:
            yield format_renamed_copy(host.variable, host.home_folder, source, stack.name)
        else:
            yield format_copy_folder(host.variable, host.home_folder, source)
    if not env_files:
        return
    for host in environment.hosts:
        yield format_create_env_files(host.variable, host.home_folder, env_files)
    if not stack.sent:
        yield from _list_value_commands(environment, stack)
    for host in environment.hosts:
        yield format_edit_env_files(host.variable, host.home_folder, env_files)


def _plan_merge_commands(old_pipeline: OldPipeline) -> tuple[str, ...]:
    """Bring the new workflows to their branch, after old ones are enabled that run again from then on."""
    if not old_pipeline.comes_with_new:
        return ()
    enable = [f"gh workflow enable {name}" for name in old_pipeline.enabled_again]
    return (*enable, f"git push origin {old_pipeline.branch}")


def _plan_deploy_commands(environment: EffectiveEnvironment, own_workflow: EnvironmentWorkflow) -> tuple[str, ...]:
    """Deploy an environment that no push deploys; a new tag comes after the newest one."""
    pattern = environment.model.deploy_on.tag
    if not pattern:
        return own_workflow.commands[:1]
    tag = own_workflow.example
    return (
        f"git fetch --tags origin && git tag --list {shlex.quote(pattern)} --sort=-version:refname | head -n 1",
        f"git tag {tag} origin/{environment.deploy_branch} && git push origin {tag}",
    )


def _list_names(names: Iterable[str]) -> list[str]:
    """List each name once: a container may be there for several reasons."""
    return list(dict.fromkeys(names))


def _plan_stop(variables: Sequence[str], names: Iterable[str]) -> tuple[str, ...]:
    """Stop containers, and keep them stopped when Docker starts again."""
    scripts = [f"docker update --restart no {name} && docker stop {name}" for name in _list_names(names)]
    return tuple(command for script in scripts for command in _plan_for_each_host(variables, script))


def _plan_start(variables: Sequence[str], names: Iterable[str]) -> tuple[str, ...]:
    """Start containers that were stopped."""
    scripts = [f"docker update --restart unless-stopped {name} && docker start {name}" for name in names]
    return tuple(command for script in scripts for command in _plan_for_each_host(variables, script))


def _plan_remove(
    variables: Sequence[str], replaced: Iterable[TakenOverContainer], beside: Iterable[TakenOverContainer]
) -> tuple[str, ...]:
    """Remove the old containers, which are stopped: without `-f`, Docker refuses to remove one that runs."""
    names = [f"{container.today}-before" for container in replaced]
    names += [container.today for container in beside]
    return _plan_for_each_host(variables, f"docker rm {' '.join(names)}") if names else ()


def _plan_mark_old_files(serving: _ServingStack) -> tuple[str, ...]:
    """Make the Compose files of today harmless: nobody starts the old containers from them by accident.

    Files from which something is still started keep their names, and say in their first line how to use them.
    """
    if not serving.folder:
        return ()
    old_folder = f"{serving.folder}-before" if serving.has_same_folder else serving.folder
    warning = "# kiwari-ci deploys services of this project: never run docker compose down, nor up without a service"
    mark = f'for file in {_COMPOSE_FILES}; do sed -i "1i {warning}" "$file"; done'
    rename = f'for file in {_COMPOSE_FILES}; do mv "$file" "$file.before"; done'
    change = mark if serving.staying else rename
    return _plan_for_each_host(serving.host_variables, f"cd {old_folder} && {change}")


def _plan_show_traffic(variables: Sequence[str], servers: Iterable[TakenOverContainer]) -> tuple[str, ...]:
    """Print how many bytes the old and the new containers have received and sent."""
    led = [container for container in servers if container.addresses]
    names = " ".join(_list_names(name for container in led for name in (container.today, container.container)))
    return _plan_for_each_host(variables, f'docker stats --no-stream --format "{{{{.Name}}}} {{{{.NetIO}}}}" {names}')


def _plan_show_work(variables: Sequence[str], workers: Iterable[TakenOverContainer]) -> tuple[str, ...]:
    """Print the last lines of the new workers."""
    scripts = [f"docker logs --tail 20 {name}" for name in _list_names(worker.container for worker in workers)]
    return tuple(command for script in scripts for command in _plan_for_each_host(variables, script))


def _plan_show_stopped(variables: Sequence[str], beside: Iterable[TakenOverContainer]) -> tuple[str, ...]:
    """Print the state of the old containers."""
    names = " ".join(container.today for container in beside)
    return _plan_for_each_host(variables, f'docker inspect -f "{{{{.Name}}}} {{{{.State.Status}}}}" {names}')


def _plan_show_networks(variables: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Print the networks of what stays."""
    if not names:
        return ()
    networks = "{{range \\$name, \\$settings := .NetworkSettings.Networks}} {{\\$name}}{{end}}"
    return _plan_for_each_host(variables, f'docker inspect -f "{{{{.Name}}}}:{networks}" {" ".join(names)}')


def _format_copy(folder: str) -> str:
    """Copy the files of today, once: a second copy would be one of the new files."""
    return f"[ -e {folder}-before ] || cp -a {folder} {folder}-before"


def _format_restore(folder: str) -> str:
    """Put the files of today back in place of the new ones, which Compose would start beside them or prefer to them."""
    new_files = f"{folder}/docker-compose.yml {folder}/docker-compose.override.yml"
    return f"rm -f {new_files} && cp -a {folder}-before/. {folder}"


def _plan_restart(serving: _ServingStack) -> tuple[str, ...]:
    """Start the containers of today from their Compose file, after the new ones and the kept ones are gone."""
    new_containers = (*serving.replaced, *serving.beside, *serving.stopped_by_hand)
    new_names = [container.container for container in new_containers]
    kept_names = [f"{container.today}-before" for container in serving.replaced]
    names = _list_names([*new_names, *kept_names])
    # Some of these containers may not exist.
    remove = f"docker rm -f {' '.join(names)} || true"
    start = f"cd {serving.folder} && docker compose up -d --pull never"
    scripts = (_format_restore(serving.folder), remove, start) if serving.has_same_folder else (remove, start)
    return tuple(command for script in scripts for command in _plan_for_each_host(serving.host_variables, script))


def _choose_switch_template(environment: EffectiveEnvironment) -> str:
    """Choose the template by the proxy of today.

    A generated proxy cannot start while another program uses its ports, so of the one of today nothing is known.
    """
    options = environment.first_host.proxy
    proxy = find_proxy(options.kind)
    return UNKNOWN_SWITCH_TEMPLATE if proxy.stack_name(options) else proxy.switch_template


def _list_value_commands(environment: EffectiveEnvironment, stack: ComposeStack) -> Iterator[str]:
    """Print the values of today for the keys that a person fills in; behind each command, where they belong.

    The example of the env file has a value for every other key, which is often another one than today: the new
    container of a service can have another name, for example. The URL of a database of the spec is not one of today:
    it leads to the new server, and only its password is filled in.
    """
    today = _find_takeover(environment)
    variable = environment.first_host.variable
    for name, names_today in today.containers.items():
        container_today = names_today[0]  # its replicas have the same values
        container = environment.containers[name]
        examples = {
            key: container.resolve_variable(value) for key, value in container.options.env.items() if not value.database
        }
        keys = [key for key, example in examples.items() if not example or PLACEHOLDER in example]
        if not keys:
            continue
        printed = "{{range .Config.Env}}{{println .}}{{end}}"
        script = f"docker inspect -f '{printed}' {container_today} | grep -E '^({'|'.join(keys)})='"
        place = f"the environment {environment.name}" if stack.sent else f"{stack.name}/{container.env_file}"
        yield f'ssh "${variable}" "{script}" # for {place}'


def _list_staying_accessories(environment: EffectiveEnvironment, stack: ComposeStack) -> list[AccessoryContainer]:
    """List the accessories that run today under the name that the spec gives them."""
    names_today = _find_takeover(environment).containers
    return [accessory for accessory in stack.accessories if accessory.container in names_today.get(accessory.name, [])]


def _list_staying_containers(environment: EffectiveEnvironment, stack: ComposeStack) -> list[str]:
    """List the containers that are still started from the Compose files of today: accessories, and the proxy."""
    accessories = [accessory.container for accessory in _list_staying_accessories(environment, stack)]
    staying_proxy = _find_staying_proxy(environment)
    return _list_names([*accessories, staying_proxy] if staying_proxy else accessories)


def _list_connect_commands(environment: EffectiveEnvironment, stack: ComposeStack) -> Iterator[str]:
    """Connect what stays to the networks of the new containers, on each host; nothing restarts.

    A network of the stack's own is created first, with the labels by which Compose knows it as its own.
    """
    scripts = []
    for accessory in _list_staying_accessories(environment, stack):
        attachments = accessory.aliased
        names = [attachment.name for attachment in attachments] or list(accessory.networks)
        aliases = [attachment.aliases for attachment in attachments] or [()] * len(names)
        for name, other_names, docker_name in zip(names, aliases, accessory.docker_networks, strict=True):
            if name not in stack.networks:
                scripts.append(_format_create_network(stack, name, docker_name))
            scripts.append(_format_connect(docker_name, accessory.container, other_names))
    staying_proxy = _find_staying_proxy(environment)
    if _joins_network(environment, staying_proxy):
        scripts.append(_format_connect(environment.first_host.proxy.network, staying_proxy))
    for host in environment.hosts:
        for script in dict.fromkeys(scripts):
            yield f"ssh \"${host.variable}\" '{script}'"


def _format_create_network(stack: ComposeStack, name: str, docker_name: str) -> str:
    labels = f"--label com.docker.compose.project={stack.name} --label com.docker.compose.network={name}"
    create = f"docker network create {labels} {docker_name}"
    return f"docker network inspect {docker_name} >/dev/null 2>&1 || {create}"


def _format_connect(network: str, container: str, aliases: tuple[str, ...] = ()) -> str:
    """Connect a container to a network, unless it is connected already, which Docker would refuse."""
    # The server's shell reads this in double quotes, where a dollar sign needs a backslash.
    networks = "{{range \\$name, \\$settings := .NetworkSettings.Networks}}{{println \\$name}}{{end}}"
    alias_options = "".join(f"--alias {alias} " for alias in aliases)
    connect = f"docker network connect {alias_options}{network} {container}"
    return f'docker inspect -f "{networks}" {container} | grep -qx {network} || {connect}'


def _plan_containers(environment: EffectiveEnvironment) -> Iterator[TakenOverContainer]:
    """Plan each container of today: beside the new one that has its name, or that takes the same place in the list."""
    today = _find_takeover(environment)
    for name, names_today in today.containers.items():
        new_names = environment.containers[name].replica_names
        for index, name_today in enumerate(names_today):
            new_name = name_today if name_today in new_names else new_names[min(index, len(new_names) - 1)]
            yield _plan_container(environment, name, name_today, new_name)


def _plan_container(environment: EffectiveEnvironment, name: str, today: str, new_name: str) -> TakenOverContainer:
    container = environment.containers[name]
    port = container.options.port
    return TakenOverContainer(
        name=name,
        today=today,
        container=new_name,
        addresses=tuple(route.address for route in container.routes),
        pass_to=_describe_target(environment, name),
        called_at=f"{new_name}:{port}" if port is not None else "",
        outcome=_decide_outcome(environment, name, has_same_name=today == new_name),
        has_published_ports=bool(container.options.ports),
    )


def _describe_target(environment: EffectiveEnvironment, name: str) -> str:
    """Where the proxy passes requests for a container; empty if it answers none."""
    container = environment.containers[name]
    port = container.options.port
    if port is None:
        return ""
    if find_proxy(environment.first_host.proxy.kind).is_on_shared_network:
        return f"{container.container_name}:{port}"
    published_port = find_published_port(container.options.ports or (), port)
    return f"127.0.0.1:{published_port}" if published_port else f"{container.container_name}:{port}"


def _decide_outcome(
    environment: EffectiveEnvironment, name: str, has_same_name: bool
) -> Literal["stays", "another-name", "without-a-gap", "with-a-gap", "under-its-own-name", "stopped-by-hand"]:
    """What the host program does with a container that it finds."""
    container = environment.containers[name]
    if not isinstance(container, EffectiveService):
        return "stays" if has_same_name else "another-name"
    if not has_same_name:
        return "stopped-by-hand" if _writes_to_data_of_today(environment, container) else "under-its-own-name"
    options = container.options
    # A published port can belong to one container only, and a service without a health check cannot prove itself.
    needs_stop = bool(options.ports) or options.port is None or options.rollout == "recreate"
    return "with-a-gap" if needs_stop else "without-a-gap"


def _writes_to_data_of_today(environment: EffectiveEnvironment, service: EffectiveService) -> bool:
    """Whether two containers of a service must not run at once, and the new one writes where the old one may."""
    if not service.is_stopped_first:
        return False
    for mount in service.options.volumes or ():
        source = mount.partition(":")[0]
        is_without_data = mount.endswith(":ro") or source.startswith(_FOLDERS_WITHOUT_DATA)
        if not is_without_data and _is_of_today(environment, source):
            return True
    return False


def _is_of_today(environment: EffectiveEnvironment, source: str) -> bool:
    """Whether a volume or folder that a new container mounts is the one that a container of today may mount."""
    if source.startswith("/"):
        return True
    if source.startswith("./"):
        return _stays_in_folder(environment)
    has_same_project = _find_takeover(environment).project == environment.stack_name
    return source in environment.model.volumes or has_same_project
