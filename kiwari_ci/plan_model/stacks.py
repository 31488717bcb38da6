"""Stacks: the containers of an environment, and their env files."""

from kiwari_ci.frozen import dataclass
from kiwari_ci.plan_model.base import GitHubSetting, KeyValue


@dataclass(frozen=True)
class NetworkAttachment:
    """A network that a container is on: `name` is the compose file's for it, `aliases` are its further names there."""

    name: str
    aliases: tuple[str, ...]
    docker_name: str


@dataclass(frozen=True)
class ComposeAttribute:
    """A key of Compose, and a value of any form: a text, a number, a tuple, `quoting.Items`."""

    key: str
    value: object


@dataclass(frozen=True)
class ComposeLabel:
    """A label of a container. `note` says what the host program reads in it; it is empty for a label of others."""

    key: str
    value: str
    note: str


@dataclass(frozen=True)
class PublicRoute:
    """A public address of a container: a domain, or a path of it, which the proxy may strip.

    `scheme` is `https` or `http`. `health_path` is what is asked there from outside; empty where the container's health
    path is not below the path.
    `auth_list` names the users whom the proxy lets in; empty where it lets everybody in.
    """

    scheme: str
    domain: str
    path: str
    strips_path: bool
    health_path: str
    auth_list: str

    @property
    def address(self) -> str:
        """The domain and the path, as a person writes them."""
        return self.domain + self.path

    @property
    def url(self) -> str:
        """The address with its scheme."""
        return f"{self.scheme}://{self.address}"

    @property
    def health_url(self) -> str:
        """What is asked from outside; empty where nothing is."""
        return f"{self.scheme}://{self.domain}{self.health_path}" if self.health_path else ""

    def covers(self, path: str) -> bool:
        """Whether a path of the domain leads here, unless a longer one is another container's."""
        return path == self.path or path.startswith(f"{self.path}/") or not self.path


@dataclass(frozen=True)
class DomainRedirect:
    """A domain that only redirects to another one; `container` is the first that the target leads to.

    `scheme` is that of both domains, `https` or `http`.
    """

    scheme: str
    domain: str
    target: str
    container: str


@dataclass(frozen=True)
class PlannedContainer:
    """What an engine runs of a stack; without a port (0) nothing is asked of it, and status 0 is any answer."""

    container: str
    image: str
    routes: tuple[PublicRoute, ...]
    port: int
    health_path: str
    health_status: int
    websocket: str

    @property
    def domain(self) -> str:
        """The domain of its first public address; empty when it has none."""
        return self.routes[0].domain if self.routes else ""

    @property
    def address(self) -> str:
        """Its first public address, without the scheme; empty when it has none."""
        return self.routes[0].address if self.routes else ""

    @property
    def url(self) -> str:
        """Its first public address, with the scheme; empty when it has none."""
        return self.routes[0].url if self.routes else ""


@dataclass(frozen=True)
class PlannedService(PlannedContainer):
    """A service as it runs in one environment; without a port it is a worker, without health.

    `source` is the image that it runs, by its name, and `digest` the variable that has its digest in a deploy. `once`
    it runs to its end, in each deploy of its image.
    """

    service: str
    source: str
    repository: str
    tag: str
    health: str
    variable: str
    digest: str
    once: bool


@dataclass(frozen=True)
class PlannedAccessory(PlannedContainer):
    """Somebody else's image as it runs in one environment; `once` it runs to its end, before each deploy."""

    name: str
    once: bool


@dataclass(frozen=True)
class ComposeContainer(PlannedContainer):
    """A container of a stack as Compose runs it.

    `keeps_privileges`: its programs gain none; `drops_raw_sockets`: it cannot forge packets. `networks` are there when
    none of them has an alias, `aliased` when one has; `limits`, `more`: keys of Compose.
    """

    restart: str
    init: bool
    is_bounded: bool
    keeps_privileges: bool
    drops_raw_sockets: bool
    env_file: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    environment: tuple[KeyValue, ...]
    depends_on: tuple[KeyValue, ...]
    ports: tuple[str, ...]
    volumes: tuple[str, ...]
    healthcheck: tuple[ComposeAttribute, ...]
    limits: tuple[ComposeAttribute, ...]
    labels: tuple[ComposeLabel, ...]
    more: tuple[ComposeAttribute, ...]
    networks: tuple[str, ...]
    aliased: tuple[NetworkAttachment, ...]
    docker_networks: tuple[str, ...]


@dataclass(frozen=True)
class ServiceContainer(ComposeContainer, PlannedService):
    """A service as Compose runs it, or one of its replicas."""


@dataclass(frozen=True)
class AccessoryContainer(ComposeContainer, PlannedAccessory):
    """An accessory as Compose runs it."""


@dataclass(frozen=True)
class EnvFileLine:
    """A line of an env file: the value is what the example shows, or what a deploy's step has in `variable`.

    `has_password`: it is the URL of a database, with the password of its role.
    """

    key: str
    value: str
    note: str
    variable: str
    is_secret: bool = False
    has_password: bool = False


@dataclass(frozen=True)
class EnvFileSection:
    """The lines of one service."""

    title: str
    lines: tuple[EnvFileLine, ...]


@dataclass(frozen=True)
class EnvFile:
    """An env file that the host keeps, and that `<name>.example` shows."""

    name: str
    task: str
    groups: tuple[EnvFileSection, ...]


@dataclass(frozen=True)
class StackNetwork:
    """A network that a stack makes."""

    name: str
    is_internal: bool


@dataclass(frozen=True)
class StackVolume:
    """A named volume: Compose makes it, unless it is there already under the name `existing`."""

    name: str
    existing: str


@dataclass(frozen=True)
class DeployHook:
    """A script that the host runs before or after a deploy: `name` says which; it ends in a newline."""

    name: str
    script: str


@dataclass(frozen=True)
class Stack:
    """What one engine runs of an environment. `files` are those of its engine, from the repository's root.

    `name` is its folder on a host, and `source_folder` the one below `deploy/` in the repository, mostly the same.
    `status_command` is what a person types to see what serves, on the host or with a login for the cluster.
    With `pushed` a deploy sends them, as it does `sent`, the env files that it renders from what GitHub has `kept`.
    """

    name: str
    source_folder: str
    environment: str
    instances: tuple[PlannedService, ...]
    accessories: tuple[PlannedAccessory, ...]
    env_files: tuple[EnvFile, ...]
    sent: tuple[EnvFile, ...]
    kept: tuple[GitHubSetting, ...]
    pushed: bool
    files: tuple[str, ...]
    status_command: str
    redirects: tuple[DomainRedirect, ...]

    @property
    def containers(self) -> tuple[PlannedContainer, ...]:
        """All that runs in it, services first."""
        return (*self.instances, *self.accessories)

    @property
    def other_source_folder(self) -> str:
        """The folder below `deploy/` if it is called otherwise than the stack; else empty."""
        return self.source_folder if self.source_folder != self.name else ""


@dataclass(frozen=True)
class ComposeStack(Stack):
    """A Compose project: `networks` are others', `own_networks` its own.

    `beside` are the files that a deploy compares besides the compose file. `jobs` has the settings of what runs on a
    schedule.
    """

    instances: tuple[ServiceContainer, ...]
    accessories: tuple[AccessoryContainer, ...]
    networks: tuple[str, ...]
    own_networks: tuple[StackNetwork, ...]
    volumes: tuple[StackVolume, ...]
    hooks: tuple[DeployHook, ...]
    hook_names: str
    beside: tuple[str, ...]
    jobs: tuple[ComposeAttribute, ...]

    @property
    def lists_networks(self) -> bool:
        """Whether the compose file has networks to list: its default one it need not."""
        return bool(self.networks or self.own_networks)

    @property
    def containers(self) -> tuple[ComposeContainer, ...]:
        """All that runs in it, as the compose file has it: services first."""
        return (*self.instances, *self.accessories)
