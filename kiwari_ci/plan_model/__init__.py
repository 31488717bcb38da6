"""What will be written, every name and default decided: all that a template knows.

Nothing here is optional: what does not apply is an empty string or an empty tuple.
"""

from kiwari_ci.frozen import dataclass
from kiwari_ci.plan_model.base import (
    DependabotConfig,
    EscapeHatch,
    FrozenAction,
    GitHubSetting,
    KeyValue,
    PinnedAction,
    PinsFile,
    RegistryLogin,
    RequiredSetting,
)
from kiwari_ci.plan_model.clusters import Cluster, ClusterStack, ClusterStep, EnvSecret
from kiwari_ci.plan_model.hosts import (
    DatabaseRole,
    DeployHost,
    DeployKey,
    Host,
    JumpHost,
    LongRunningAccessories,
    PostgresServer,
    ProxyCommand,
    ProxyGuide,
    ProxyRedirect,
    ProxyRoute,
    ProxySite,
    ProxyStack,
    SshPort,
)
from kiwari_ci.plan_model.runbook import (
    ClusterCommands,
    HostCommands,
    NamespaceCommands,
    Runbook,
    RunbookCommand,
    RunbookStep,
    RunbookStepId,
    ScheduleCommands,
    ServerCommands,
    SettingCommand,
    TakenOverContainer,
    Takeover,
    TakeoverCommands,
)
from kiwari_ci.plan_model.stacks import (
    AccessoryContainer,
    ComposeAttribute,
    ComposeContainer,
    ComposeLabel,
    ComposeStack,
    DeployHook,
    DomainRedirect,
    EnvFile,
    EnvFileLine,
    EnvFileSection,
    NetworkAttachment,
    PlannedAccessory,
    PlannedContainer,
    PlannedService,
    PublicRoute,
    ServiceContainer,
    Stack,
    StackNetwork,
    StackVolume,
)
from kiwari_ci.plan_model.workflows import (
    BuiltBranch,
    ChangeOutput,
    ChangesJob,
    CheckedJob,
    CustomStep,
    DeployStep,
    DeployTarget,
    DriftWorkflow,
    EnvironmentDeploy,
    EnvironmentWorkflow,
    ImageBuild,
    ImageJobs,
    ImageSource,
    MatrixAxis,
    PathFilter,
    PublicHealthCheck,
    PublicRedirectCheck,
    PullRequestService,
    PullRequestWorkflow,
    ServiceWorkflow,
    SetupStep,
    SshRoute,
    TestContainer,
    TestJob,
    TriedBuild,
)

__all__ = [
    "ScheduleCommands",
    "AccessoryContainer",
    "PinnedAction",
    "TakenOverContainer",
    "Takeover",
    "TakeoverCommands",
    "MatrixAxis",
    "ChangeOutput",
    "ChangesJob",
    "CheckedJob",
    "ImageJobs",
    "DependabotConfig",
    "ImageBuild",
    "PublicHealthCheck",
    "PublicRedirectCheck",
    "PublicRoute",
    "ComposeContainer",
    "ComposeLabel",
    "EnvironmentDeploy",
    "DeployKey",
    "DriftWorkflow",
    "EnvFile",
    "EnvFileSection",
    "EnvFileLine",
    "PathFilter",
    "ProxyStack",
    "DeployHook",
    "DomainRedirect",
    "FrozenAction",
    "EscapeHatch",
    "DeployHost",
    "Cluster",
    "ClusterCommands",
    "NamespaceCommands",
    "ClusterStack",
    "ClusterStep",
    "DeployStep",
    "EnvSecret",
    "Host",
    "PlannedAccessory",
    "PlannedContainer",
    "PlannedService",
    "Stack",
    "ServiceContainer",
    "NetworkAttachment",
    "JumpHost",
    "ComposeAttribute",
    "RegistryLogin",
    "RequiredSetting",
    "StackNetwork",
    "StackVolume",
    "KeyValue",
    "PinsFile",
    "Plan",
    "EnvironmentWorkflow",
    "BuiltBranch",
    "DatabaseRole",
    "PostgresServer",
    "ServiceWorkflow",
    "GitHubSetting",
    "SetupStep",
    "ProxyCommand",
    "ProxyGuide",
    "ProxyRedirect",
    "ProxyRoute",
    "ProxySite",
    "ImageSource",
    "ComposeStack",
    "CustomStep",
    "LongRunningAccessories",
    "DeployTarget",
    "TestJob",
    "TestContainer",
    "TriedBuild",
    "PullRequestService",
    "PullRequestWorkflow",
    "SshPort",
    "SshRoute",
    "HostCommands",
    "Runbook",
    "RunbookCommand",
    "RunbookStep",
    "RunbookStepId",
    "ServerCommands",
    "SettingCommand",
]


@dataclass(frozen=True)
class Plan:
    """Everything that templates read.

    `every_host` has all hosts in the spec's order, whatever their engine; `stacks` has their stacks, each once.
    `required_checks`: jobs that report on every pull request, so that branch protection can require them.
    `ejected`: render without the marker of generated files, for the user owns them from now on.
    """

    project: str
    repository: str
    default_branch: str
    pushed: tuple[BuiltBranch, ...]
    runner_labels: tuple[str, ...]
    registry: str
    login: RegistryLogin
    actions: dict[str, PinnedAction]
    workflows: tuple[ServiceWorkflow, ...]
    promotions: tuple[EnvironmentWorkflow, ...]
    pull_requests: tuple[PullRequestWorkflow, ...]
    required_checks: tuple[str, ...]
    drift: DriftWorkflow
    stacks: tuple[Stack, ...]
    servers: tuple[PostgresServer, ...]
    every_host: tuple[Host, ...]
    tokens: tuple[GitHubSetting, ...]
    pulls_with_job_token: bool
    needs: tuple[RequiredSetting, ...]
    tags_after_takeovers: tuple[str, ...]
    proxy_guides: tuple[ProxyGuide, ...]
    answering: tuple[PlannedService, ...]
    takeovers: tuple[Takeover, ...]
    pushed_before_takeovers: tuple[BuiltBranch, ...]
    removed_before_takeovers: tuple[str, ...]
    runbook: Runbook
    standing: tuple[LongRunningAccessories, ...]
    hatches: tuple[EscapeHatch, ...]
    migrating: str
    spec_text: str
    pins: PinsFile
    dependabot: tuple[DependabotConfig, ...]
    ejected: bool = False

    @property
    def default_branch_in_url(self) -> str:
        """The default branch as a part of a URL's path."""
        return self.default_branch.replace("/", "%2F")

    @property
    def build_branch(self) -> str:
        """The first branch that is built; the default branch if no push builds one."""
        return self.pushed[0].branch if self.pushed else self.default_branch

    @property
    def runner(self) -> str:
        """The label of the runner; empty when a runner must have several."""
        return self.runner_labels[0] if len(self.runner_labels) == 1 else ""

    @property
    def by_hand(self) -> tuple[EnvironmentWorkflow, ...]:
        """The workflows of environments that a person can start."""
        return tuple(promotion for promotion in self.promotions if promotion.by_hand)

    @property
    def first_tags(self) -> tuple[str, ...]:
        """An example of a tag of each pattern that deploys an environment."""
        return tuple(dict.fromkeys(promotion.example for promotion in self.promotions if promotion.example))

    @property
    def tagged_branches(self) -> str:
        """The branches whose commits get the tags of versions, for a sentence."""
        return " or ".join(dict.fromkeys(promotion.branches for promotion in self.promotions if promotion.pattern))

    @property
    def released(self) -> bool:
        """Whether the tag of a version builds images."""
        return any(promotion.builds for promotion in self.promotions if promotion.pattern)

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains that lead to hosts, each once."""
        return tuple(dict.fromkeys(domain for host in self.every_host for domain in host.domains))

    @property
    def migrated(self) -> bool:
        """Whether a deploy migrates a database of the spec."""
        return any(server.migrations_image for server in self.servers)

    @property
    def pushing(self) -> str:
        """The environments whose deploys send the files of their stacks, for a sentence."""
        return ", ".join(stack.environment for stack in self.compose_stacks if stack.pushed)

    @property
    def rendered(self) -> str:
        """The environments whose deploys send the values of env files, for a sentence."""
        return ", ".join(stack.environment for stack in self.compose_stacks if stack.sent)

    @property
    def getting_files(self) -> str:
        """The environments whose deploys send files of either kind, for a sentence."""
        return ", ".join(stack.environment for stack in self.compose_stacks if stack.pushed or stack.sent)

    @property
    def words_removed_before_takeovers(self) -> str:
        """The old workflows that the first push of the new ones removes, for a sentence."""
        return ", ".join(f"`.github/workflows/{name}`" for name in self.removed_before_takeovers)

    @property
    def leaves_proxies_alone(self) -> bool:
        """Whether something serves today, and no proxy must be changed before the first deploy."""
        is_changed = bool(self.proxy_guides) or any(takeover.led_by_name for takeover in self.takeovers)
        return bool(self.takeovers) and not is_changed

    @property
    def folders_today(self) -> str:
        """The folders of the Compose files of today, in brackets behind a word; empty if the spec names none."""
        folders = dict.fromkeys(takeover.folder for takeover in self.takeovers if takeover.folder)
        return f" ({', '.join(f'`{folder}`' for folder in folders)})" if folders else ""

    @property
    def hosts(self) -> tuple[DeployHost, ...]:
        """The hosts that are reached over SSH."""
        return tuple(host for host in self.every_host if isinstance(host, DeployHost))

    @property
    def clusters(self) -> tuple[Cluster, ...]:
        """The clusters of Kubernetes."""
        return tuple(host for host in self.every_host if isinstance(host, Cluster))

    @property
    def cluster_stacks(self) -> tuple[ClusterStack, ...]:
        """The stacks that clusters run."""
        return tuple(stack for stack in self.stacks if isinstance(stack, ClusterStack))

    @property
    def compose_stacks(self) -> tuple[ComposeStack, ...]:
        """The stacks that are Compose projects."""
        return tuple(stack for stack in self.stacks if isinstance(stack, ComposeStack))

    def list_deploys(self) -> tuple[EnvironmentDeploy, ...]:
        """The deploys of all workflows; several workflows may deploy to one environment."""
        of_services = [target.deploy for workflow in self.workflows for target in workflow.targets]
        return (*of_services, *(promotion.deploy for promotion in self.promotions))
