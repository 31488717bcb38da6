"""Kubernetes: a cluster that is reached by kubectl, in the job."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kiwari_ci.effective_spec import EffectiveDatabaseServer, EffectiveEnvironment, EffectiveHost, EffectiveSpec
from kiwari_ci.engines.base import FileTemplate, StepOfDeploy
from kiwari_ci.engines.kubernetes import rules, stacks
from kiwari_ci.file_output.generated_files import ROLLOUT_PROGRAM_PATH
from kiwari_ci.plan_model import Cluster, ClusterStack, ClusterStep, Host, Plan, PostgresServer, RequiredSetting, Stack
from kiwari_ci.plan_model.base import FrozenMapping
from kiwari_ci.problems import Problem
from kiwari_ci.spec_loading.yaml_source import YamlSource

_STACK_HEAD = (
    "deploy/bin/rollout puts the digests in: of this file alone, nothing can be pulled.",
    "Each deploy sends it, from the commit that it deploys.",
)


class KubernetesEngine:
    """A cluster that is reached by kubectl, in the job."""

    deploy_step_template = "kubernetes/deploy-step.yml.j2"

    def check(self, source: YamlSource, spec: EffectiveSpec) -> Iterator[Problem]:
        """Find what a cluster cannot keep."""
        return rules.check_kubernetes(source, spec)

    def plan_stack(self, environment: EffectiveEnvironment) -> ClusterStack:
        """Plan the objects of an environment."""
        return stacks.plan_stack(environment)

    def plan_host(
        self,
        spec: EffectiveSpec,
        host: EffectiveHost,
        stacks_by_environment: Mapping[str, Stack],
        servers: Sequence[PostgresServer],
    ) -> Cluster:
        """Plan a cluster, which has no database server."""
        own_stacks = {name: stack for name, stack in stacks_by_environment.items() if isinstance(stack, ClusterStack)}
        return stacks.plan_cluster(spec, host, own_stacks)

    def plan_deploy_step(self, step: StepOfDeploy) -> ClusterStep:
        """Plan the step that runs the rollout program."""
        return stacks.plan_cluster_step(step, self.deploy_step_template)

    def plan_database_server(self, spec: EffectiveSpec, server: EffectiveDatabaseServer) -> PostgresServer:
        """A rule refuses a database server on a cluster."""
        raise AssertionError(f"{server.name} is on a cluster")

    def describe_rollback(
        self, environment: EffectiveEnvironment, hosts: Sequence[EffectiveHost], container: str
    ) -> str:
        """Describe the command of the rollout program."""
        names = " and ".join(host.name for host in hosts)
        command = f"{stacks.PROGRAM} rollback {environment.stack_name} {container}"
        return f"in a clone, with a login for {names}: {command}"

    def required_settings(self, host: Host) -> list[RequiredSetting]:
        """List the service account of the deploys: one setting, with a value for each environment."""
        assert isinstance(host, Cluster)
        environments = tuple(stack.environment for stack in host.stacks)
        purpose = f"kubeconfig for {host.name}, which may deploy one stack; each environment has its own"
        return [RequiredSetting(host.kubeconfig.name, host.kubeconfig.kind, purpose, environments)]

    def list_stack_templates(self, plan: Plan) -> Iterator[FileTemplate]:
        """List what is applied to clusters, and examples of env files."""
        shared_folders = {stack.source_folder for stack in plan.compose_stacks}  # their examples are there already
        for stack in plan.cluster_stacks:
            folder = f"deploy/{stack.source_folder}"
            yield _list_documents(f"{folder}/kubernetes.yaml", _STACK_HEAD, stack.objects)
            if stack.databases:
                path = f"{folder}/database.yaml"
                head = f"Once, and after a change: kubectl -n {stack.name} apply --server-side -f {path}"
                yield _list_documents(path, (head,), stack.databases)
            for env_file in () if stack.source_folder in shared_folders else stack.env_files:
                context = {"env_file": env_file, "place": "outside of the repository"}
                yield FileTemplate(f"{folder}/{env_file.name}.example", "env.example.j2", context)
        for cluster in plan.clusters:
            head = f"Once, by who administers {cluster.name}: kubectl apply --server-side -f {cluster.setup_path}"
            yield _list_documents(cluster.setup_path, (head,), cluster.setup)

    def list_programs(self, plan: Plan) -> dict[str, Path]:
        """The rollout program, which jobs and persons run."""
        return (
            {ROLLOUT_PROGRAM_PATH: Path(__file__).with_name("deploy_programs") / "rollout.py"} if plan.clusters else {}
        )


def _list_documents(path: str, head: tuple[str, ...], documents: tuple[FrozenMapping, ...]) -> FileTemplate:
    return FileTemplate(path, "kubernetes/manifests.yaml.j2", {"head": head, "documents": documents})
