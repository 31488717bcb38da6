"""What will be written, every name and default decided: all that a template knows.

Nothing here is optional: what does not apply is an empty string or an empty tuple.
"""

from dataclasses import dataclass

from kiwari_ci.plan.base import Action, Bot, Frozen, Hatch, Login, Need, Pair, PinFile, Setting
from kiwari_ci.plan.hosts import DeployKey, Front, Host, Jump, Published, Role, Server, Site, Standing
from kiwari_ci.plan.stacks import (
    Accessory,
    Container,
    EnvFile,
    EnvGroup,
    EnvLine,
    Hook,
    Instance,
    Joined,
    Key,
    Network,
    Stack,
)
from kiwari_ci.plan.workflows import (
    Axis,
    Base,
    Build,
    Check,
    Deploy,
    Drift,
    Filter,
    Promotion,
    Pushed,
    ServiceWorkflow,
    Setup,
    Source,
    Step,
    Target,
    Test,
    TestService,
    Way,
)

__all__ = [
    "Accessory",
    "Action",
    "Axis",
    "Base",
    "Bot",
    "Build",
    "Check",
    "Container",
    "Deploy",
    "DeployKey",
    "Drift",
    "EnvFile",
    "EnvGroup",
    "EnvLine",
    "Filter",
    "Front",
    "Hook",
    "Frozen",
    "Hatch",
    "Host",
    "Instance",
    "Joined",
    "Jump",
    "Key",
    "Login",
    "Need",
    "Network",
    "Pair",
    "PinFile",
    "Plan",
    "Promotion",
    "Published",
    "Pushed",
    "Role",
    "Server",
    "ServiceWorkflow",
    "Setting",
    "Setup",
    "Site",
    "Source",
    "Stack",
    "Step",
    "Standing",
    "Target",
    "Test",
    "TestService",
    "Way",
]


@dataclass(frozen=True)
class Plan:
    """Everything; `runner` is empty when jobs run where several labels are.

    `ejected`: the files are a person's from now on, and speak of no spec.
    """

    project: str
    repository: str
    default_branch: str
    default_branch_in_url: str
    build_branch: str
    pushed: tuple[Pushed, ...]
    runner: str
    runner_labels: tuple[str, ...]
    pull_requests: bool
    registry: str
    login: Login
    actions: dict[str, Action]
    workflows: tuple[ServiceWorkflow, ...]
    promotions: tuple[Promotion, ...]
    drift: Drift
    stacks: tuple[Stack, ...]
    servers: tuple[Server, ...]
    hosts: tuple[Host, ...]
    tokens: tuple[Setting, ...]
    build_needs: tuple[Need, ...]
    needs: tuple[Need, ...]
    first_tags: tuple[str, ...]
    by_hand: tuple[Promotion, ...]
    released: bool
    domains: tuple[str, ...]
    managed: tuple[str, ...]
    answering: tuple[Instance, ...]
    start_title: str
    migrated: bool
    standing: tuple[Standing, ...]
    hatches: tuple[Hatch, ...]
    migrating: str
    rendered: str
    pushing: str
    spec_text: str
    pins: PinFile
    dependabot: tuple[Bot, ...]
    ejected: bool = False
