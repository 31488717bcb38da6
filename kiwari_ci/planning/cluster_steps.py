"""The commands of the runbook for clusters. None of them has a secret in its arguments."""

import shlex

from kiwari_ci.plan_model import Cluster, ClusterCommands, ClusterStack, EnvSecret, NamespaceCommands, RunbookCommand
from kiwari_ci.plan_model.runbook import SettingCommand

_APPLY = "kubectl apply --server-side --force-conflicts -f"
_PROGRAM = "deploy/bin/rollout"


def plan_cluster_commands(cluster: Cluster) -> ClusterCommands:
    """Plan the commands for a cluster and its stacks."""
    return ClusterCommands(
        cluster=cluster,
        set_up=RunbookCommand(cluster.name, f"{_APPLY} {cluster.setup_path}"),
        namespaces=tuple(_plan_namespace_commands(cluster, stack) for stack in cluster.stacks),
    )


def _plan_namespace_commands(cluster: Cluster, stack: ClusterStack) -> NamespaceCommands:
    rollbacks = [
        RunbookCommand(f"{stack.name} {service.container}", f"{_PROGRAM} rollback {stack.name} {service.container}")
        for service in stack.instances
    ]
    return NamespaceCommands(
        stack_name=stack.name,
        kubeconfig=SettingCommand(
            kind=cluster.kubeconfig.kind,
            name=cluster.kubeconfig.name,
            host=cluster.name,
            environment=stack.environment,
            line=f"kubeconfig {stack.name} | gh secret set {cluster.kubeconfig.name} --env {stack.environment}",
        ),
        pull_secret=RunbookCommand(stack.name, f"pull_secret {stack.name}"),
        env_secrets=tuple(_plan_env_secret(stack, secret) for secret in stack.secrets),
        database=tuple(
            RunbookCommand(path, f"kubectl apply --server-side -n {stack.name} -f {path}")
            for path in stack.applied_by_hand
        ),
        rights=RunbookCommand(
            stack.name,
            f"kubectl auth can-i --list -n {stack.name} --as system:serviceaccount:{stack.name}:deploy",
        ),
        status=RunbookCommand(stack.name, f"{_PROGRAM} status {stack.name}"),
        check=RunbookCommand(stack.name, f"{_PROGRAM} check {stack.name}"),
        cancel=RunbookCommand(stack.name, f"{_PROGRAM} cancel {stack.name}"),
        rollbacks=tuple(rollbacks),
    )


def _plan_env_secret(stack: ClusterStack, secret: EnvSecret) -> RunbookCommand:
    """The file is that of a server, with its single quotes; a Secret has the values without them."""
    words = shlex.join([stack.name, secret.name])
    path = f"{stack.name}/{secret.env_file.name}"
    return RunbookCommand(path, f'env_secret {words} "$ENV_FILES"/{shlex.quote(path)}')
