"""Where services run: hosts, databases, environments."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, create_model
from pydantic_core import CoreSchema, core_schema

from kiwari_ci.schema.base import AnyOf, OneOf, OneOrMany, Reference, Secret, SpecModel, require_true
from kiwari_ci.schema.routes import Routes
from kiwari_ci.schema.schedules import Backup
from kiwari_ci.schema.services import Override
from kiwari_ci.schema.steps import Step
from kiwari_ci.schema.text_formats import (
    BranchName,
    BranchPattern,
    ContainerName,
    DomainName,
    EmailAddress,
    EnvFileName,
    EnvKey,
    ExistingName,
    HostFolder,
    ImageReference,
    ImageTag,
    IpAddress,
    KubernetesName,
    LocalAddress,
    Middleware,
    NetworkName,
    Omittable,
    PortNumber,
    PostgresName,
    ProxyCommandWord,
    RepositoryFile,
    RunnerLabel,
    SecretName,
    ShellScript,
    Slug,
    StackFile,
    TagPattern,
    TraefikName,
    VolumeName,
    WorkflowFileName,
)

RunnerLabels = Annotated[list[RunnerLabel], OneOrMany(str)]
EngineKind = Literal["compose", "kubernetes"]
ProxyKind = Literal["nginx-proxy-manager", "traefik", "caddy", "nginx", "custom", "none", "ingress"]
UrlScheme = Literal["https", "http"]


class Proxy(SpecModel):
    """The reverse proxy in front of the services on a host."""

    kind: ProxyKind = Field(
        "nginx-proxy-manager",
        description="`nginx-proxy-manager`: the runbook has the values to enter; `traefik`: labels on the services; "
        "`caddy`, `nginx`: a stack with its configuration; `custom`: your own container on `network`; "
        "`none`: your own proxy, for published `ports`; `ingress`: the controller of a cluster.",
    )
    network: NetworkName = Field(
        "proxy",
        description="The Docker network that the proxy and the services share; with `kind: none` there is none.",
    )
    scheme: UrlScheme = Field(
        "https",
        description="How clients reach the domains: with `https`, or with `http` where nothing has certificates, as on "
        "an intranet. If a load balancer or Cloudflare adds TLS, clients use `https`.",
    )
    stack: Omittable[Slug] = Field(
        None,
        description="The folder on the host and the Compose project of the generated proxy; default: `caddy` or "
        "`nginx`; for Traefik none, because your own one is used.",
    )
    image: Omittable[ImageReference] = Field(
        None,
        description="The image of the generated proxy: Traefik 3.6, nginx 1.25.1, or newer; default: the version with"
        " which kiwari-ci was tested.",
    )
    listen: Omittable[LocalAddress] = Field(
        None,
        description="`127.0.0.1:8080`: the proxy listens there for plain HTTP, behind a proxy that the host has "
        "already (nginx, cloudflared); default: ports 80 and 443, with certificates, or port 80 with `scheme: http`.",
    )
    email: Omittable[EmailAddress] = Field(
        None, description="The address to which Let's Encrypt writes about certificates."
    )
    certificates: Omittable[HostFolder] = Field(
        None,
        description="For `nginx`, the folder on the host that has `live/DOMAIN/fullchain.pem` and `privkey.pem`; "
        "default: `/etc/letsencrypt`.",
    )
    entrypoint: Omittable[TraefikName] = Field(
        None, description="Traefik's entrypoint; default: `websecure`, or `web` with `listen` or `scheme: http`."
    )
    certresolver: Omittable[TraefikName] = Field(
        None,
        description="Traefik's certificate resolver; default: `letsencrypt` in the generated stack; otherwise none, "
        "and Traefik uses the certificates that it has.",
    )
    middlewares: Omittable[list[Middleware]] = Field(
        None, min_length=1, description="Traefik middlewares that run before every service: `[compress@file]`."
    )
    issuer: Omittable[KubernetesName] = Field(
        None,
        description="For `ingress`, the ClusterIssuer of cert-manager that issues the certificates: `letsencrypt`; "
        "default: the controller's own certificate.",
    )

    @property
    def has_tls(self) -> bool:
        """Whether TLS ends at this proxy; otherwise it ends before `listen`, or there is none."""
        return self.scheme == "https" and not self.listen

    @property
    def ingress_class(self) -> str:
        """The value of the key `class`, which cannot be the name of an attribute."""
        return getattr(self, "class", None) or ""


if not TYPE_CHECKING:  # a field whose name is a word of Python
    _CLASS = Field(None, description="For `ingress`, the IngressClass of the controller: `traefik`, as k3s has it.")
    Proxy = create_model(
        "Proxy",
        __base__=Proxy,
        __doc__=Proxy.__doc__,
        __module__=__name__,
        **{"class": (Omittable[KubernetesName], _CLASS)},
    )


ExistingNames = Annotated[list[ExistingName], OneOrMany(str), Field(min_length=1)]


class _OneOrManySlugs:
    """A list of names for which a person may write one, without brackets."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """One name becomes the list of it."""
        _, text = get_args(Slug)

        def spread(value: Any) -> Any:
            return [text.validate(value)] if isinstance(value, str) else value

        return core_schema.no_info_before_validator_function(spread, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Tell editors about both forms."""
        several: dict[str, Any] = handler(core)
        return {"anyOf": [several["items"], several]}


class SshPort(OneOf):
    """A port: its number, or a setting that GitHub keeps."""

    shorthand = "number"
    number: Omittable[PortNumber] = Field(None, description="Its number: `2222`.")
    secret: Omittable[SecretName] = Field(None, description="Name of the secret that holds it.")
    variable: Omittable[SecretName] = Field(None, description="Name of the variable that holds it.")


class Jump(SpecModel):
    """The jump host: ssh connects to it first, and from there to the host.

    Its `user`, `port`, `key` and `known_hosts` may name the same secrets and variables as those of the host.
    """

    address: Omittable[Reference] = Field(
        None, description="The address of the jump host; default: `{secret: <HOST>_JUMP_HOST}`."
    )
    user: Omittable[Reference] = Field(
        None, description="The login on the jump host; default: `{secret: <HOST>_JUMP_USER}`."
    )
    port: SshPort = Field(SshPort(number=22), description="The port of its SSH server; default: `22`.")
    key: Omittable[Secret] = Field(
        None, description="The private key for the jump host; default: `{secret: <HOST>_JUMP_SSH_KEY}`."
    )
    known_hosts: Omittable[Reference] = Field(
        None,
        description="The host key of the jump host, as a line of `known_hosts`; default: `{variable: "
        "<HOST>_JUMP_KNOWN_HOSTS}`.",
    )


class ProxyCommand(SpecModel):
    """The program through which ssh reaches a host, as OpenSSH's `ProxyCommand`; the host's key is checked as ever."""

    command: list[ProxyCommandWord] = Field(
        min_length=1,
        description="Its words: `[cloudflared, access, ssh, --hostname, '%h']`, `[tailscale, nc, '%h', '%p']`. `%h` is "
        "the host's address, `%p` its port, `%r` the login.",
    )
    env: dict[EnvKey, Reference] = Field(
        {},
        description="What the program reads of secrets and variables: "
        "`{TUNNEL_SERVICE_TOKEN_SECRET: {secret: ACCESS_SECRET}}`.",
    )
    steps: list[Step] = Field(
        [],
        description="Steps of the deploy job that install the program and log it in, before the connection; default: "
        "the runner has it.",
    )


class Host(SpecModel):
    """A server that is reached over SSH, or a cluster."""

    engine: EngineKind = Field(
        "compose",
        description="What runs the containers. `compose`: Docker Compose on one server, over SSH; `kubernetes`: a "
        "cluster that exists already, with `kubectl` in the job.",
    )
    kubeconfig: Omittable[Secret] = Field(
        None,
        description="For `kubernetes`, the kubeconfig with which jobs deploy. It has few permissions, and is a "
        "different one for each environment; default: `{secret: <HOST>_KUBECONFIG}`.",
    )
    address: Omittable[Reference] = Field(
        None, description="The address of the server; default: `{secret: <HOST>_HOST}`."
    )
    user: Omittable[Reference] = Field(None, description="The login on the server; default: `{secret: <HOST>_USER}`.")
    port: SshPort = Field(
        SshPort(number=22), description="The port of its SSH server, `2222` or `{secret: NAME}`; default: `22`."
    )
    key: Omittable[Secret] = Field(None, description="The private deploy key; default: `{secret: <HOST>_SSH_KEY}`.")
    known_hosts: Omittable[Reference] = Field(
        None,
        description="The host key of the server, as a line of `known_hosts`; default: `{variable: "
        "<HOST>_KNOWN_HOSTS}`.",
    )
    jump: Omittable[Jump] = Field(
        None, description="The jump host through which SSH reaches the server; `{}` uses the defaults."
    )
    proxy_command: Omittable[ProxyCommand] = Field(
        None,
        description="The program through which SSH reaches the server, such as cloudflared or Tailscale, in place of "
        "`jump`.",
    )
    directory: HostFolder = Field("~/docker", description="The folder that contains a folder for each stack.")
    proxy: Proxy = Field(Proxy.model_construct(), description="The reverse proxy in front of the services.")


class Migrations(SpecModel):
    """Database migrations that a person runs before the deploy."""

    directory: RepositoryFile = Field(description="The folder of the migration files in the repository.")
    image: ImageReference = Field(description="The image of golang-migrate that runs them.")


class DatabaseServer(SpecModel):
    """A PostgreSQL server in a stack of its own; deploys of services never change it."""

    host: Omittable[Slug] = Field(None, description="The entry of `hosts` on which it runs; default: the only one.")
    address: Omittable[IpAddress] = Field(
        None,
        description="The address of its host on a private network, at which a cluster reaches it; port 5432 is then "
        "open on that address. Default: only containers on its Docker network reach it.",
    )
    image: ImageReference = Field("postgres:17-alpine", description="The image, PostgreSQL 15 or newer.")
    network: Omittable[NetworkName] = Field(
        None, description="The Docker network on which services reach it; default: a network with its own name."
    )
    backup: Omittable[Backup] = Field(
        None, description="Backups of its databases, on a schedule and before each migration; `{}` uses the defaults."
    )
    migrations: Omittable[Migrations] = Field(
        None, description="Migrations that you run by hand; the runbook has the commands."
    )


class DeployOn(AnyOf):
    """What starts a deploy: one or several of these."""

    supplements: ClassVar[frozenset[str]] = frozenset({"branches"})

    push: Omittable[BranchName] = Field(None, description="A push to this branch, which also builds the images.")
    tag: Omittable[TagPattern] = Field(
        None,
        description="A tag on a commit of the default branch, or of `branches`: `v*` matches `v1.2.0`, and `v*-rc.*` "
        "matches `v1.2.0-rc.1`, which `v*` does not match. Without `promote`, a workflow of its own tests the "
        "tagged commit and builds its images.",
    )
    branches: Omittable[Annotated[list[BranchPattern], Field(min_length=1)]] = Field(
        None,
        description="With `tag`, the branches whose commits may be tagged, such as `[main, 'release/*']`: deploys come "
        "in the order of the versions. With `dispatch` alone, the branches that a person may choose, such as "
        "`['**']`: what was started last serves. Default: the default branch.",
    )
    dispatch: Omittable[Annotated[Literal[True], BeforeValidator(require_true)]] = Field(
        None,
        description="`true`: a person can start the deploy with `gh workflow run`, and can choose an older tag, or an "
        "older commit of the branch in `push`, to go back to it. Without `push` and `tag`, such a run deploys the "
        "default branch: it builds the images, or promotes them if `promote` is set.",
    )


class Password(SpecModel):
    """Where the database's own stack finds a role's password."""

    env: EnvKey = Field(description="The key of the password in the server's `.env`.")


class Database(SpecModel):
    """The database and the role of one environment."""

    server: Omittable[Slug] = Field(None, description="The entry of `databases` on which it is; default: the only one.")
    name: Omittable[PostgresName] = Field(
        None, description="The name of the database; default: `<project>_<environment>`."
    )
    user: Omittable[PostgresName] = Field(None, description="The role that owns it; default: the database's name.")
    password: Omittable[Password] = Field(
        None, description="Where the password of the role is; default: `{env: <USER>_PASSWORD}`."
    )
    connection_limit: Annotated[int, Field(ge=1, le=10000)] = Field(
        20, description="How many connections the role may have at the same time."
    )


class Hooks(SpecModel):
    """Scripts in bash that the host runs around each deploy of a service, in the stack's folder.

    They find `VERB` (deploy, rollback or rotate), `SERVICE` and `IMAGE` in their environment, and `after` finds
    `EXIT_CODE`.
    A deploy of several services has all of them in `SERVICE`, with a space between, and their images in `IMAGE`.
    """

    before: Omittable[ShellScript] = Field(
        None, description="Runs before anything is changed. If it fails, the deploy fails."
    )
    after: Omittable[ShellScript] = Field(
        None,
        description="Runs when the deploy has ended, also if it has failed or was killed. `EXIT_CODE` is 0 if the new"
        " images serve.",
    )


class Takeover(SpecModel):
    """What serves an environment today, before its first deploy. The runbook's steps follow it."""

    containers: dict[Slug, ExistingNames] = Field(
        {},
        description="The container that serves today, or the list of them if there are several, by service or "
        "accessory: `{web: [shop-web-1, shop-web-2], db: postgres}`; `kiwari-ci doctor` prints those that it finds on "
        "the host.",
    )
    project: Omittable[ExistingName] = Field(
        None,
        description="The Compose project of these containers; default: none, because somebody started them by hand.",
    )
    folder: Omittable[HostFolder] = Field(None, description="The folder on the host that has today's Compose file.")
    workflows: Omittable[list[WorkflowFileName]] = Field(
        None,
        min_length=1,
        description="The workflows that deploy the environment today, and that the new ones replace: `[deploy.yml]`.",
    )
    ports: Omittable[ExistingName] = Field(
        None, description="The container that uses ports 80 and 443; default: none, or a program of the host itself."
    )


class Environment(SpecModel):
    """A place where the services run, such as staging: a stack on a host.

    The environment on GitHub has the same name; GitHub does not distinguish `Production` from `production`.
    """

    deploy_on: DeployOn = Field(description="What starts a deploy.")
    promote: Omittable[Slug] = Field(
        None, description="The environment from which it takes the images. They are tagged again and never rebuilt."
    )
    tag: Omittable[ImageTag] = Field(
        None, description="The tag that moves to each new image of the environment; default: the environment's name."
    )
    image_version: Literal["tag", "number"] = Field(
        "tag",
        description="How the images of a version such as `v1.2.0` are tagged. `tag`: `:v1.2.0`; `number`: `:1.2.0`, "
        "without the prefix before the star in `deploy_on.tag`.",
    )
    runner: Omittable[RunnerLabels] = Field(
        None,
        min_length=1,
        description="The runner of its deploy jobs, such as one in the network of its host: `[self-hosted, staging]`; "
        "default: `project.runner`, on which tests and builds run in any case.",
    )
    env_file: Omittable[EnvFileName] = Field(
        None,
        description="One env file for the whole stack. Without `env_from`, a file may have more keys than the spec, "
        "and the containers get all of them; default: one for each service that has `env`.",
    )
    env_from: Omittable[Literal["github"]] = Field(
        None,
        description="`github`: each deploy writes the env files from secrets and variables on GitHub, sends them to "
        "the host, and overwrites edits that were made there. A changed value reaches a service with its next deploy. "
        "Default: you keep the env files on the host, and nothing sends them.",
    )
    sync: Omittable[Literal["push"]] = Field(
        None,
        description="`push`: each deploy sends the Compose file, the hooks and `files`, and a push that changes only "
        "these files is deployed, too. Whoever has the deploy key is then root on the host. Default: you "
        "copy these files by hand, and a deploy of a commit with other files is refused.",
    )
    files: Omittable[list[StackFile]] = Field(
        None,
        min_length=1,
        description="Files in `deploy/<stack>/` that the stack needs beside the Compose file: `[Caddyfile, "
        "conf/site.conf]`; each stack has copies of its own, unless they are `shared_files`. A deploy compares them "
        "with the commit, as it does with the Compose file.",
    )
    shared_files: dict[StackFile, RepositoryFile] = Field(
        {},
        description="With `sync: push`, files that several stacks have, by their names in the stack: `{nginx.conf: "
        "config/nginx.conf}`. The job that deploys copies them from the repository, and sends them as `files`.",
    )
    host: Omittable[Annotated[list[Slug], _OneOrManySlugs()]] = Field(
        None,
        min_length=1,
        description="One or several entries of `hosts`: `[one, two]`. A deploy finishes on one host before it begins "
        "on the next; default: the only one.",
    )
    key: Omittable[Secret] = Field(None, description="A deploy key for this environment only; default: the host's.")
    stack: Omittable[Slug] = Field(
        None, description="The Compose project, and the folder on the host; default: `<project>-<environment>`."
    )
    services: Omittable[list[Slug]] = Field(
        None,
        min_length=1,
        description="The services that run in it, deployed in the order in which they are in `services`; default: all.",
    )
    accessories: Omittable[list[Slug]] = Field(None, description="The accessories that run in it; default: all.")
    containers: dict[Slug, ContainerName] = Field(
        {},
        description="Container names, by service or accessory. Other containers use the name as a host name, and some "
        "programs refuse requests to one with `_`; default: `<project>-<service>-<environment>`.",
    )
    domains: dict[Slug, Routes] = Field(
        {},
        description="Public domains, by service or accessory: `{web: example.com, api: example.com/api}`, or a list "
        "of them. A service without a domain is not public.",
    )
    redirects: dict[DomainName, DomainName] = Field(
        {},
        description="Domains that only redirect to one of `domains`, and keep the path: `{www.example.com: "
        "example.com}`.",
    )
    volumes: dict[VolumeName, ExistingName] = Field(
        {},
        description="Docker volumes that exist already, by the name that they have in `volumes` of a service or an "
        "accessory: `{uploads: old_uploads}`. Compose creates all other volumes, as `<stack>_<name>`.",
    )
    database: Omittable[Database] = Field(None, description="The database of this environment.")
    overrides: dict[Slug, Override] = Field(
        {}, description="Settings that differ in this environment, by service or accessory: `{api: {replicas: 2}}`."
    )
    hooks: Omittable[Hooks] = Field(None, description="Scripts that the host runs before and after each deploy.")
    takeover: Omittable[Takeover] = Field(
        None,
        description="What serves today, until the first deploy takes it over. Remove the field when the takeover is "
        "finished; default: nothing serves yet.",
    )
