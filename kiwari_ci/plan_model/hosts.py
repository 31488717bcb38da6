"""What stands on a host beside its stacks."""

from kiwari_ci.frozen import dataclass
from kiwari_ci.plan_model.base import GitHubSetting, KeyValue
from kiwari_ci.plan_model.stacks import ComposeAttribute, ComposeStack, EnvFile, PlannedContainer, Stack


def name_value_file(setting_name: str, suffixes: tuple[KeyValue, ...]) -> str:
    """Name a file after a setting, with the end that keeps it apart from the value of another host."""
    ends = {pair.key: pair.value for pair in suffixes}
    return setting_name + ends.get(setting_name, "")


@dataclass(frozen=True)
class DatabaseRole:
    """A database and the role that owns it."""

    environment: str
    name: str
    user: str
    password_variable: str
    connection_limit: int
    stack: str


@dataclass(frozen=True)
class SshPort:
    """The port of an SSH server.

    `option` is what the SSH client of deploys gets: the number, or the variable that holds it; empty for SSH's own.
    `shell` is the port in a command of the runbook: the number, or `$variable`, which a person sets there to what
    `settings` hold. `known_host` is what the line of `known_hosts` begins with, there.
    """

    option: str
    shell: str
    known_host: str
    variable: str
    settings: tuple[GitHubSetting, ...]


@dataclass(frozen=True)
class ProxyCommand:
    """The program through which ssh reaches a host: its words as OpenSSH takes them.

    `settings` are what it reads from GitHub, and `step_settings` what the steps read that install it.
    """

    program: str
    words: str
    settings: tuple[GitHubSetting, ...]
    step_settings: tuple[GitHubSetting, ...]


@dataclass(frozen=True)
class JumpHost:
    """The machine through which a host is reached: its settings at GitHub.

    `variable` holds USER@ADDRESS in the runbook. `key_file` and `known_hosts_file` are the ends of the names of the
    files in which a person keeps their values. With `has_key_of_host`, the host behind it has the same key. What it
    has of its host keys is written to its file with `known_hosts_redirection`.
    """

    variable: str
    address: GitHubSetting
    user: GitHubSetting
    key: GitHubSetting
    known_hosts: GitHubSetting
    port: SshPort
    key_file: str
    known_hosts_file: str
    has_key_of_host: bool
    known_hosts_redirection: str


@dataclass(frozen=True)
class DeployKey:
    """A private key, by its secret's name, and the stacks that it may touch.

    `words` stand in its line on the host: the stacks, and what it may send: with `renders` env files,
    with `pushes` compose files. `is_there`: a host before this one has it, too, so that it is made already. `file` is
    the end of the name of its file on a person's machine.
    """

    secret: str
    file: str
    stacks: tuple[str, ...]
    words: tuple[str, ...]
    pushes: bool
    renders: bool
    first_stack: str
    is_there: bool


@dataclass(frozen=True)
class ProxyRoute:
    """A path of a domain, and where it leads to: a container's port, or the address at which the host publishes it.

    `path` is empty for what no longer path takes; `published_address` is empty for a port that is not published.
    `is_published_to_all`: other machines reach it at that port, too. `has_web_port`: the container itself publishes
    port 80 or 443 of the server, so clients reach it without a proxy. `is_replaced`: deploys replace the container.
    `auth_list` names the users whom the proxy lets in; empty where it lets everybody in.
    """

    domain: str
    path: str
    strips_path: bool
    container: str
    port: int
    websocket: bool
    published_address: str
    is_published_to_all: bool
    has_web_port: bool
    is_replaced: bool
    auth_list: str

    @property
    def address(self) -> str:
        """The domain and the path, as a person writes them."""
        return self.domain + self.path

    @property
    def target_cell(self) -> str:
        """Where it leads to, as a table of the runbook says it."""
        return self._format_target(f"http://{self.container}:{self.port}")

    @property
    def published_cell(self) -> str:
        """Where the host publishes it, as a table of the runbook says it."""
        return self._format_target(self.published_address)

    def _format_target(self, address: str) -> str:
        return f"`{address}`, without `{self.path}` in the path" if self.strips_path else f"`{address}`"

    @property
    def path_regex(self) -> str:
        """The path as a part of a regular expression."""
        return self.path.replace(".", "\\.")

    @property
    def websocket_answer(self) -> str:
        """Whether WebSockets are passed on, as a table of the runbook says it."""
        return "yes" if self.websocket else "no"


@dataclass(frozen=True)
class ProxySite:
    """A domain and its routes, the longest path first; `address` is the domain as Caddy has it.

    `scheme` is the one with which clients reach it, `https` or `http`.
    """

    scheme: str
    domain: str
    address: str
    routes: tuple[ProxyRoute, ...]

    @property
    def has_paths(self) -> bool:
        """Whether one of its paths leads elsewhere than the rest."""
        return any(route.path for route in self.routes)

    @property
    def has_root(self) -> bool:
        """Whether what no path takes leads somewhere; else the proxy answers `404` to it."""
        return not self.last_route.path

    @property
    def auth_list(self) -> str:
        """The users whom the whole domain lets in; empty where it lets everybody in."""
        return self.last_route.auth_list

    @property
    def last_route(self) -> ProxyRoute:
        """The route with the shortest path, or without one."""
        return self.routes[-1]


@dataclass(frozen=True)
class ProxyRedirect:
    """A domain that only redirects to another one, with the path kept; `address` is the domain as Caddy has it.

    `scheme` is the one with which clients reach both, `https` or `http`.
    """

    scheme: str
    domain: str
    address: str
    target: str

    @property
    def target_url(self) -> str:
        """Where it redirects to."""
        return f"{self.scheme}://{self.target}"


@dataclass(frozen=True)
class ProxyStack:
    """A proxy with a stack that is generated; with `listen` it speaks plain HTTP there, to the host alone.

    `has_tls`: it has certificates, and answers on port 443. Otherwise it speaks plain HTTP.
    `files` are its own, from the stack's folder; `reload` is the command that reads them again, without a gap.
    `user_line_filter` is the command that turns the output of htpasswd into the line of a user, as the proxy reads it.
    """

    kind: str
    name: str
    host: str
    host_variable: str
    folder: str
    image: str
    network: str
    listen: str
    has_tls: bool
    email: str
    certificates: str
    ports: tuple[str, ...]
    command: tuple[str, ...]
    volumes: tuple[str, ...]
    named_volumes: tuple[str, ...]
    files: tuple[str, ...]
    reload: str
    sites: tuple[ProxySite, ...]
    redirects: tuple[ProxyRedirect, ...]
    auth_lists: tuple[str, ...]
    user_line_filter: str

    @property
    def auth_commands(self) -> tuple[str, ...]:
        """What a person types to add a user to each list."""
        hash_password = "docker run --rm -i httpd:2.4-alpine htpasswd -niB USER"  # noqa: S105 - a command
        return tuple(
            f"read -rsp 'Password: ' password && printf '%s' \"$password\" | ssh \"${self.host_variable}\" "
            f"'mkdir -p {self.folder}/auth && chmod 700 {self.folder} && {hash_password} | {self.user_line_filter} "
            f">>{self.folder}/auth/{auth_list}'"
            for auth_list in self.auth_lists
        )

    @property
    def start_command(self) -> str:
        """What a person types to start it."""
        return f"ssh \"${self.host_variable}\" 'cd {self.folder} && docker compose up -d'"

    def paths(self) -> list[str]:
        """Its generated files, below the host's folder and below deploy/."""
        return [f"{self.name}/{file}" for file in ("docker-compose.yml", *self.files)]


@dataclass(frozen=True)
class LongRunningAccessories:
    """A stack, by its folder on a host, and those of its accessories that do not run to their end."""

    host_variable: str
    folder: str
    accessories: tuple[str, ...]


@dataclass(frozen=True)
class ProxyGuide:
    """What the runbook says of the domains of a host's proxy, or of all hosts with this kind of proxy.

    `auth_lists` are the lists of users that a person makes in a proxy without a generated stack. `scheme` is the one
    with which clients reach the domains. `is_serving`: some of the domains lead to containers that run today, and
    `serving_domains` are these. `is_generated`: the proxy runs in a generated stack.
    `led_later` are the addresses that a takeover leads to the new containers, in a later step.
    """

    template: str
    host: str
    scheme: str
    network: str
    is_serving: bool
    serving_domains: tuple[str, ...]
    led_later: tuple[str, ...]
    sites: tuple[ProxySite, ...]
    redirects: tuple[ProxyRedirect, ...]
    stack: tuple[ProxyStack, ...]
    auth_lists: tuple[str, ...]
    is_generated: bool

    @property
    def later_list(self) -> str:
        """The addresses that are led to the new containers later, for a sentence."""
        return ", ".join(f"`{address}`" for address in self.led_later)

    @property
    def serving_list(self) -> str:
        """The domains that serve today, for a sentence."""
        return ", ".join(f"`{domain}`" for domain in self.serving_domains)

    @property
    def has_https(self) -> bool:
        """Whether the domains need certificates."""
        return self.scheme == "https"

    @property
    def certificate_words(self) -> str:
        """What a proxy of one's own needs for each domain, at the end of a sentence."""
        return ", with a certificate for the domain" if self.has_https else ", on port 80 for plain HTTP"

    @property
    def ssl_cell(self) -> str:
        """What the SSL tab of Nginx Proxy Manager gets, as a table of the runbook says it."""
        return "Force SSL, HTTP/2" if self.has_https else "none"

    @property
    def http_version(self) -> str:
        """The version of HTTP in which a domain of Nginx Proxy Manager answers."""
        return "2" if self.has_https else "1.1"

    @property
    def routes(self) -> tuple[ProxyRoute, ...]:
        """The routes of all domains."""
        return tuple(route for site in self.sites for route in site.routes)

    @property
    def routes_without_proxy(self) -> tuple[ProxyRoute, ...]:
        """The routes that lead to containers which publish a web port of the server themselves."""
        return tuple(route for route in self.routes if route.has_web_port)

    @property
    def routes_of_proxy(self) -> tuple[ProxyRoute, ...]:
        """The routes for which a proxy must be set up."""
        return tuple(route for route in self.routes if not route.has_web_port)

    @property
    def closes_web_ports(self) -> bool:
        """Whether a deploy replaces a container that publishes a web port of the server itself."""
        return any(route.is_replaced for route in self.routes_without_proxy)

    @property
    def closes_ports(self) -> bool:
        """Whether a deploy replaces a container at whose published port a proxy reaches it."""
        return any(route.is_replaced for route in self.routes_of_proxy)

    @property
    def may_be_elsewhere(self) -> bool:
        """Whether a proxy on another machine reaches a published port."""
        return any(route.is_published_to_all for route in self.routes_of_proxy)

    @property
    def redirects_of_proxy(self) -> tuple[ProxyRedirect, ...]:
        """The redirects for which a proxy must be set up; a web server that clients reach itself has its own."""
        return () if self.routes_without_proxy else self.redirects

    @property
    def exception_today(self) -> str:
        """What to add to a sentence about domains that nothing serves yet."""
        if not self.is_serving:
            return ""
        return " Only a domain that serves today answers as before, until the takeover changes where it leads."

    @property
    def protected_sites(self) -> tuple[ProxySite, ...]:
        """The domains that ask for a name and a password."""
        return tuple(site for site in self.sites if site.auth_list)

    @property
    def new_sites(self) -> tuple[ProxySite, ...]:
        """The domains that serve nothing today."""
        return tuple(site for site in self.sites if site.domain not in self.serving_domains)

    @property
    def root_domains(self) -> tuple[str, ...]:
        """The domains that serve nothing today, and on which something answers to every path."""
        return tuple(site.domain for site in self.new_sites if site.has_root)

    @property
    def path_domains(self) -> tuple[str, ...]:
        """The other domains that serve nothing today: the proxy itself answers to the paths that lead nowhere."""
        return tuple(site.domain for site in self.new_sites if not site.has_root)

    @property
    def split_sites(self) -> tuple[ProxySite, ...]:
        """The domains whose paths lead to different services."""
        return tuple(site for site in self.sites if site.has_paths)


@dataclass(frozen=True)
class PostgresServer:
    """A PostgreSQL server with a stack of its own; `backups` has the settings of each database's, by its name.

    `published` is the address and port where others than containers of its host reach it; empty where none does.
    """

    name: str
    host: str
    host_variable: str
    folder: str
    image: str
    volume: str
    health_test: str
    network: str
    published: str
    owns_network: bool
    databases: tuple[DatabaseRole, ...]
    backups: tuple[ComposeAttribute, ...]
    keys: tuple[str, ...]
    env_file: EnvFile
    host_folder: str
    migrations_mount: str
    migrations_directory: str
    migrations_image: str


@dataclass(frozen=True)
class Host:
    """Where an engine runs stacks: an entry of `hosts` in the spec. `public` are its containers with a domain."""

    name: str
    engine: str
    variable: str
    stacks: tuple[Stack, ...]
    public: tuple[PlannedContainer, ...]

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains that lead to it."""
        return tuple(dict.fromkeys(route.domain for container in self.public for route in container.routes))

    @property
    def environments(self) -> tuple[str, ...]:
        """The environments that run there."""
        return tuple(stack.environment for stack in self.stacks)


@dataclass(frozen=True)
class DeployHost(Host):
    """A server that is reached over SSH, and what is placed on it.

    `folder` is its directory as the login's home sees it; `way` is what else than login and address a person's own ssh
    must be told of it, as words of a shell. `sources` are copied to it under their names, `renamed_sources` under
    another one. `network` is the one that its proxy shares with the services; empty when nothing joins it. `scheme` is
    the one with which clients reach its domains. `file_suffixes` are by the name of a setting whose values on several
    hosts are kept apart by GitHub's environments: what the file of this host's value ends with.
    """

    stacks: tuple[ComposeStack, ...]
    folder: str
    address: GitHubSetting
    user: GitHubSetting
    known_hosts: GitHubSetting
    port: SshPort
    way: str
    jumps: tuple[JumpHost, ...]
    proxy_commands: tuple[ProxyCommand, ...]
    keys: tuple[DeployKey, ...]
    network: str
    servers: tuple[PostgresServer, ...]
    sources: tuple[str, ...]
    renamed_sources: tuple[KeyValue, ...]
    env_files: tuple[str, ...]
    proxy: str
    scheme: str
    sites: tuple[ProxySite, ...]
    redirects: tuple[ProxyRedirect, ...]
    fronts: tuple[ProxyStack, ...]
    file_suffixes: tuple[KeyValue, ...]

    def find_source_folder(self, folder: str) -> str:
        """Find the folder below `deploy/` of a folder on the host."""
        stacks = [stack for stack in self.stacks if stack.name == folder]
        return stacks[0].source_folder if stacks else folder

    def value_file(self, setting_name: str) -> str:
        """Name the file in which a person keeps the value of a setting, after the project's name."""
        return name_value_file(setting_name, self.file_suffixes)

    @property
    def known_hosts_file(self) -> str:
        """The end of the name of the file in which a person keeps its host key."""
        return self.value_file(self.known_hosts.name)

    def is_kept_apart(self, setting_name: str) -> bool:
        """Whether another host has a setting of this name with a value of its own."""
        return any(pair.key == setting_name for pair in self.file_suffixes)

    @property
    def environments(self) -> tuple[str, ...]:
        """The environments that run there, or have their database there."""
        on_servers = [database.environment for server in self.servers for database in server.databases]
        return tuple(dict.fromkeys([*(stack.environment for stack in self.stacks), *on_servers]))

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains that lead to it."""
        return (*(site.domain for site in self.sites), *(redirect.domain for redirect in self.redirects))

    @property
    def has_schedule(self) -> bool:
        """Whether something runs there on a schedule."""
        return any(server.backups for server in self.servers) or any(stack.jobs for stack in self.stacks)
