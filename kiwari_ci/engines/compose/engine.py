"""Docker Compose on a host that is reached over SSH."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kiwari_ci.effective_spec import EffectiveDatabaseServer, EffectiveEnvironment, EffectiveHost, EffectiveSpec
from kiwari_ci.engines.base import FileTemplate, StepOfDeploy
from kiwari_ci.engines.compose import database_servers, hosts, settings, ssh_route, stacks
from kiwari_ci.engines.compose.rules import check_compose
from kiwari_ci.file_output.generated_files import (
    DATABASE_PROGRAM_PATH,
    HOST_PROGRAM_PATH,
    ROTATION_PROGRAM_PATH,
    SSH_CLIENT_PATH,
)
from kiwari_ci.plan_model import ComposeStack, DeployHost, Host, Plan, PostgresServer, RequiredSetting, SshRoute, Stack
from kiwari_ci.problems import Problem
from kiwari_ci.spec_loading.yaml_source import YamlSource

_PROGRAMS = Path(__file__).with_name("deploy_programs")
_PLACE = "on the server"  # of env files


class ComposeEngine:
    """Docker Compose on a host that is reached over SSH."""

    deploy_step_template = "compose/deploy-step.yml.j2"

    def check(self, source: YamlSource, spec: EffectiveSpec) -> Iterator[Problem]:
        """Find what Docker Compose on a host cannot do."""
        return check_compose(source, spec)

    def plan_stack(self, environment: EffectiveEnvironment) -> ComposeStack:
        """Plan the Compose project of an environment."""
        return stacks.plan_stack(environment)

    def plan_database_server(self, spec: EffectiveSpec, server: EffectiveDatabaseServer) -> PostgresServer:
        """Plan a PostgreSQL server as a Compose project of its own."""
        return database_servers.plan_postgres_server(spec, server)

    def plan_host(
        self,
        spec: EffectiveSpec,
        host: EffectiveHost,
        stacks: Mapping[str, Stack],
        servers: Sequence[PostgresServer],
    ) -> DeployHost:
        """Plan a server that is reached over SSH."""
        compose_stacks = {name: stack for name, stack in stacks.items() if isinstance(stack, ComposeStack)}
        return hosts.plan_deploy_host(spec, host, compose_stacks, servers)

    def plan_deploy_step(self, step: StepOfDeploy) -> SshRoute:
        """Plan the step that deploys over SSH."""
        return ssh_route.plan_ssh_route(step, self.deploy_step_template)

    def describe_rollback(
        self, environment: EffectiveEnvironment, hosts: Sequence[EffectiveHost], container: str
    ) -> str:
        """Describe the command of the host program."""
        names = " and ".join(host.name for host in hosts)
        return f"on {names}: {stacks.program_path(hosts[0])} rollback {environment.stack_name} {container}"

    def required_settings(self, host: Host) -> list[RequiredSetting]:
        """List the settings of an SSH connection."""
        assert isinstance(host, DeployHost)
        return settings.list_connection_settings(host)

    def list_stack_templates(self, plan: Plan) -> Iterator[FileTemplate]:
        """List compose files, what lies beside them, and examples of env files: databases, stacks, proxies."""
        for server in plan.servers:
            yield from _list_server_templates(server)
        for stack in plan.compose_stacks:
            yield from _list_stack_templates(stack)
        for host in plan.hosts:
            for front in host.fronts:
                folder = f"deploy/{front.name}"
                yield FileTemplate(f"{folder}/docker-compose.yml", "compose/proxy.yml.j2", {"front": front})
                for name in front.files:
                    yield FileTemplate(f"{folder}/{name}", f"proxy/{front.kind}.j2", {"front": front})

    def list_programs(self, plan: Plan) -> dict[str, Path]:
        """List the host program, the client that the deploy job runs, and the other programs where they have work."""
        programs = {}
        if plan.hosts:
            programs[HOST_PROGRAM_PATH] = _PROGRAMS / "deploy.py"
        if plan.compose_stacks:
            programs[SSH_CLIENT_PATH] = _PROGRAMS / "deploy_over_ssh.py"
        if plan.servers or any(host.has_schedule for host in plan.hosts):
            programs[DATABASE_PROGRAM_PATH] = _PROGRAMS / "database.py"
        if any(stack.env_files for stack in plan.compose_stacks):
            programs[ROTATION_PROGRAM_PATH] = _PROGRAMS / "rotate.py"
        return programs


def _list_server_templates(server: PostgresServer) -> Iterator[FileTemplate]:
    folder = f"deploy/{server.name}"
    yield FileTemplate(f"{folder}/docker-compose.yml", "compose/database.yml.j2", {"server": server})
    yield FileTemplate(f"{folder}/.env.example", "env.example.j2", {"env_file": server.env_file, "place": _PLACE})
    init_script = f"{folder}/init/init-databases.sh"
    yield FileTemplate(init_script, "compose/init-databases.sh.j2", {"server": server})


def _list_stack_templates(stack: ComposeStack) -> Iterator[FileTemplate]:
    folder = f"deploy/{stack.source_folder}"
    yield FileTemplate(f"{folder}/docker-compose.yml", "compose/stack.yml.j2", {"stack": stack})
    for hook in stack.hooks:
        yield FileTemplate(f"{folder}/hooks/{hook.name}", "compose/hook.sh.j2", {"stack": stack, "hook": hook})
    for env_file in stack.env_files:
        example = f"{folder}/{env_file.name}.example"
        yield FileTemplate(example, "env.example.j2", {"env_file": env_file, "place": _PLACE})
