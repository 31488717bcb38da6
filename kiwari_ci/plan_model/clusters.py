"""Clusters of Kubernetes, and what they run."""

from kiwari_ci.frozen import dataclass
from kiwari_ci.plan_model.base import FrozenMapping, GitHubSetting
from kiwari_ci.plan_model.hosts import Host
from kiwari_ci.plan_model.stacks import EnvFile, Stack
from kiwari_ci.plan_model.workflows import DeployStep


@dataclass(frozen=True)
class EnvSecret:
    """A Secret of a namespace, and the env file whose lines it holds."""

    name: str
    env_file: EnvFile


@dataclass(frozen=True)
class ClusterStack(Stack):
    """The objects of an environment in a namespace of its own.

    `objects` are applied by each deploy, `databases` by a person: they lead to servers outside of the cluster.
    `secrets` are those that a person fills in.
    """

    objects: tuple[FrozenMapping, ...]
    databases: tuple[FrozenMapping, ...]
    secrets: tuple[EnvSecret, ...]

    @property
    def applied_by_hand(self) -> tuple[str, ...]:
        """Its files that no deploy sends."""
        return self.files[1:]


@dataclass(frozen=True)
class Cluster(Host):
    """A cluster that is there already; `setup` are the objects that its administrator applies once.

    `ingress_class` is empty where no Ingress is generated. `registry` and `registry_user` are what its nodes pull
    images with, beside the token `registry_token`.
    """

    stacks: tuple[ClusterStack, ...]
    kubeconfig: GitHubSetting
    ingress_class: str
    issuer: str
    registry: str
    registry_user: str
    registry_token: str
    setup: tuple[FrozenMapping, ...]

    @property
    def setup_path(self) -> str:
        """The file with the objects of its administrator."""
        return f"deploy/{self.name}/setup.yaml"


@dataclass(frozen=True)
class ClusterStep(DeployStep):
    """A deploy by the rollout program: the variable with its login."""

    kubeconfig: str
