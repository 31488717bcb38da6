"""What will be written, every name and default decided: all that a template knows.

Nothing here is optional: what does not apply is an empty string or an empty tuple.
"""

from dataclasses import dataclass

from kiwari_ci.plan.base import Action, Bot, Frozen, Need, Pair, PinFile, Setting
from kiwari_ci.plan.hosts import DeployKey, Front, Published, Role, Site

__all__ = [
    "Action",
    "Bot",
    "DeployKey",
    "Front",
    "Frozen",
    "Need",
    "Pair",
    "PinFile",
    "Published",
    "Role",
    "Setting",
    "Site",
]  # from its parts


@dataclass(frozen=True)
class Filter:
    """A line of a path filter; `why` is there for those that the spec does not name."""

    pattern: str
    why: str


@dataclass(frozen=True)
class Setup:
    """A step that installs a language; `no_cache` is the input that turns its cache off."""

    title: str
    action: Action
    option: str
    value: str
    no_cache: str


@dataclass(frozen=True)
class Test:
    """The tests of a service; the script ends in a newline."""

    setups: tuple[Setup, ...]
    working_directory: str
    run: str


@dataclass(frozen=True)
class Instance:
    """A service as it runs in one environment: one container; without a port (0) it is a worker, and has no health.

    `limits` are keys of Compose and their values.
    """

    service: str
    container: str
    repository: str
    tag: str
    port: int
    health: str
    health_path: str
    health_status: int
    domain: str
    websocket: str
    networks: tuple[str, ...]
    env_file: str
    variable: str
    command: tuple[str, ...]
    volumes: tuple[str, ...]
    ports: tuple[str, ...]
    labels: tuple[Pair, ...]
    limits: tuple[Pair, ...]


@dataclass(frozen=True)
class EnvLine:
    """A line of an env file: the value is what the example shows."""

    key: str
    value: str
    note: str


@dataclass(frozen=True)
class EnvGroup:
    """The lines of one service."""

    title: str
    lines: tuple[EnvLine, ...]


@dataclass(frozen=True)
class EnvFile:
    """An env file that the host keeps, and that `<name>.example` shows."""

    name: str
    task: str
    groups: tuple[EnvGroup, ...]


@dataclass(frozen=True)
class Stack:
    """A Compose project: the instances of one environment."""

    name: str
    environment: str
    instances: tuple[Instance, ...]
    networks: tuple[str, ...]
    env_files: tuple[EnvFile, ...]
    volumes: tuple[str, ...]


@dataclass(frozen=True)
class Deploy:
    """A deploy of one environment over SSH; `settings` are all that the step reads from GitHub."""

    environment: str
    url: str
    host: str
    address: str
    user: str
    key: str
    known_hosts: str
    token: str
    token_is_of_job: bool
    settings: tuple[Setting, ...]
    directory: str
    stack: Stack
    public: tuple[Instance, ...]
    minutes: int


@dataclass(frozen=True)
class Source:
    """A service's source: where its image is kept, and what the image is made of; `own_*` is the spec's part alone."""

    service: str
    repository: str
    filters: tuple[Filter, ...]
    pathspecs: tuple[str, ...]
    own_pathspecs: tuple[str, ...]
    workflow: str
    digest_output: str


@dataclass(frozen=True)
class Target:
    """One environment that a service's workflow deploys to."""

    deploy: Deploy
    instance: Instance
    compose_output: str


@dataclass(frozen=True)
class ServiceWorkflow:
    """Test, build and deploy one service."""

    source: Source
    branch: str
    sparse: str
    tests: tuple[Test, ...]
    context: str
    dockerfile: str
    targets: tuple[Target, ...]


@dataclass(frozen=True)
class Promotion:
    """A tag that puts into one environment what another one serves."""

    name: str
    pattern: str
    prefix: str
    prefix_regex: str
    tag: str
    from_environment: str
    sources: tuple[Source, ...]
    deploy: Deploy


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server with a stack of its own."""

    name: str
    host: str
    host_variable: str
    folder: str
    image: str
    volume: str
    health_test: str
    network: str
    owns_network: bool
    databases: tuple[Role, ...]
    keys: tuple[str, ...]
    env_file: EnvFile
    host_folder: str
    migrations_mount: str
    migrations_directory: str
    migrations_image: str


@dataclass(frozen=True)
class Host:
    """A server and what is placed on it; `folder` is its directory as the login's home sees it."""

    name: str
    variable: str
    folder: str
    address: Setting
    user: Setting
    known_hosts: Setting
    keys: tuple[DeployKey, ...]
    network: str
    stacks: tuple[Stack, ...]
    servers: tuple[Server, ...]
    sources: tuple[str, ...]
    env_files: tuple[str, ...]
    public: tuple[Instance, ...]
    proxy: str
    managed: tuple[Instance, ...]
    labelled: tuple[Site, ...]
    published: tuple[Published, ...]
    fronts: tuple[Front, ...]


@dataclass(frozen=True)
class Drift:
    """The workflow that checks the generated files, and how it gets this tool."""

    requirement: str
    repository: str
    commit: str
    spec_path: str


@dataclass(frozen=True)
class Plan:
    """Everything. `ejected`: the files are a person's from now on, and speak of no spec."""

    project: str
    repository: str
    default_branch: str
    default_branch_in_url: str
    build_branch: str
    runner: str
    registry: str
    actions: dict[str, Action]
    workflows: tuple[ServiceWorkflow, ...]
    promotions: tuple[Promotion, ...]
    drift: Drift
    stacks: tuple[Stack, ...]
    servers: tuple[Server, ...]
    hosts: tuple[Host, ...]
    tokens: tuple[Setting, ...]
    needs: tuple[Need, ...]
    tag_prefixes: tuple[str, ...]
    domains: tuple[str, ...]
    managed: tuple[str, ...]
    answering: tuple[Instance, ...]
    start_title: str
    migrated: bool
    spec_text: str
    pins: PinFile
    dependabot: tuple[Bot, ...]
    ejected: bool = False
