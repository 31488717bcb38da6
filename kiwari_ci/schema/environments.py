"""Where services run: hosts, databases, environments."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, create_model
from pydantic_core import CoreSchema, core_schema

from kiwari_ci.schema.base import AnyOf, OneOf, Reference, Secret, SpecModel, require_true
from kiwari_ci.schema.routes import Routes
from kiwari_ci.schema.schedules import Backup
from kiwari_ci.schema.services import Override
from kiwari_ci.schema.steps import Step
from kiwari_ci.schema.text_formats import (
    BranchName,
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
    Omittable,
    PortNumber,
    PostgresName,
    ProxyCommandWord,
    RepositoryFile,
    SecretName,
    ShellScript,
    Slug,
    TagPattern,
    TraefikName,
    VolumeName,
    WorkflowFileName,
)

EngineKind = Literal["compose", "kubernetes"]
ProxyKind = Literal["nginx-proxy-manager", "traefik", "caddy", "nginx", "none", "ingress"]


class Proxy(SpecModel):
    """What stands in front of the services on a host."""

    kind: ProxyKind = Field(
        "nginx-proxy-manager",
        description="`nginx-proxy-manager`: the runbook says what to click; `traefik`: labels; `caddy` and `nginx`: "
        "a stack with its configuration; `none`: somebody else's, which leads to published `ports`; `ingress`: the "
        "Ingress controller of a cluster.",
    )
    network: Slug = Field("proxy", description="The Docker network that the proxy and the services share.")
    stack: Omittable[Slug] = Field(
        None,
        description="Its folder on the host and Compose project, generated; default: `caddy` or `nginx`; "
        "a Traefik is there already unless this is written.",
    )
    image: Omittable[ImageReference] = Field(
        None,
        description="The image of that stack (Traefik 3.6, nginx 1.25.1, or newer); "
        "default: the program's version that was tried.",
    )
    listen: Omittable[LocalAddress] = Field(
        None,
        description="`127.0.0.1:8080`: plain HTTP there, for what the host has in front already (its own nginx, "
        "cloudflared); default: ports 80 and 443, with certificates.",
    )
    email: Omittable[EmailAddress] = Field(
        None, description="Where Let's Encrypt writes to, for certificates that it gets."
    )
    certificates: Omittable[HostFolder] = Field(
        None,
        description="For `nginx`, the host's folder with `live/DOMAIN/fullchain.pem` and `privkey.pem`; "
        "default: `/etc/letsencrypt`.",
    )
    entrypoint: Omittable[TraefikName] = Field(
        None, description="Traefik's entrypoint; default: `websecure`, or `web` with `listen`."
    )
    certresolver: Omittable[TraefikName] = Field(
        None,
        description="Traefik's certificate resolver; default: `letsencrypt` of the generated stack, "
        "else the certificates that Traefik has.",
    )
    middlewares: Omittable[list[Middleware]] = Field(
        None, min_length=1, description="Traefik's middlewares before every service: `[compress@file]`."
    )
    issuer: Omittable[KubernetesName] = Field(
        None,
        description="For `ingress`, the ClusterIssuer of cert-manager that makes the certificates: `letsencrypt`; "
        "default: the controller's own certificate.",
    )

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


class _OneOrManySlugs:
    """A list of names for which a person may write one, without brackets."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """One name becomes the list of it."""
        _, text = get_args(Slug)

        def spread(value: Any) -> Any:
            return [text.checked(value)] if isinstance(value, str) else value

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
    """The machine through which a host is reached: ssh goes there first, and on from there."""

    address: Omittable[Reference] = Field(None, description="Its address; default: `{secret: <HOST>_JUMP_HOST}`.")
    user: Omittable[Reference] = Field(None, description="The login there; default: `{secret: <HOST>_JUMP_USER}`.")
    port: SshPort = Field(SshPort(number=22), description="The port that its SSH server listens on; default: `22`.")
    key: Omittable[Secret] = Field(
        None, description="The private key for it; default: `{secret: <HOST>_JUMP_SSH_KEY}`."
    )
    known_hosts: Omittable[Reference] = Field(
        None, description="Its host key as a line of `known_hosts`; default: `{variable: <HOST>_JUMP_KNOWN_HOSTS}`."
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
        "cluster that is there already, by `kubectl` in the job.",
    )
    kubeconfig: Omittable[Secret] = Field(
        None,
        description="For `kubernetes`, the login of deploys, which may do little and is another one for each "
        "environment; default: `{secret: <HOST>_KUBECONFIG}`.",
    )
    address: Omittable[Reference] = Field(None, description="Its address; default: `{secret: <HOST>_HOST}`.")
    user: Omittable[Reference] = Field(None, description="The login; default: `{secret: <HOST>_USER}`.")
    port: SshPort = Field(
        SshPort(number=22),
        description="The port that its SSH server listens on, `2222` or `{secret: NAME}`; default: `22`.",
    )
    key: Omittable[Secret] = Field(None, description="The private deploy key; default: `{secret: <HOST>_SSH_KEY}`.")
    known_hosts: Omittable[Reference] = Field(
        None, description="Its host key as a line of `known_hosts`; default: `{variable: <HOST>_KNOWN_HOSTS}`."
    )
    jump: Omittable[Jump] = Field(None, description="The machine through which it is reached; `{}` takes its defaults.")
    proxy_command: Omittable[ProxyCommand] = Field(
        None,
        description="The program through which ssh reaches it, such as cloudflared or Tailscale, in place of `jump`.",
    )
    directory: HostFolder = Field("~/docker", description="The folder that holds a folder for each stack.")
    proxy: Proxy = Field(Proxy.model_construct(), description="What stands in front of the services.")


class Migrations(SpecModel):
    """Database migrations that a person runs before the deploy."""

    directory: RepositoryFile = Field(description="Folder of the migration files in the repository.")
    image: ImageReference = Field(description="The image of golang-migrate that runs them.")


class DatabaseServer(SpecModel):
    """A PostgreSQL server in a stack of its own; app deploys never touch it."""

    host: Omittable[Slug] = Field(None, description="One of `hosts`: where it runs; default: the only one.")
    address: Omittable[IpAddress] = Field(
        None,
        description="Its host's address on a private network, where a cluster reaches it; the port 5432 is then open "
        "on that address. Default: it is reached over a Docker network of its host alone.",
    )
    image: ImageReference = Field("postgres:17-alpine", description="The image, PostgreSQL 15 or newer.")
    network: Omittable[Slug] = Field(
        None, description="The Docker network that reaches it; default: one of its own, with its name."
    )
    backup: Omittable[Backup] = Field(
        None, description="Backups of its databases on a schedule, and before each migration; `{}` takes the defaults."
    )
    migrations: Omittable[Migrations] = Field(None, description="The migrations that the runbook tells how to run.")


class DeployOn(AnyOf):
    """What starts a deploy: one way, or several."""

    push: Omittable[BranchName] = Field(None, description="A push to this branch; images are built there.")
    tag: Omittable[TagPattern] = Field(
        None,
        description="A tag of a commit of the default branch: `v1.2.0` for `v*`, `v1.2.0-rc.1` for `v*-rc.*`, which "
        "`v*` then leaves alone. Without `promote` its own workflow tests and builds what has no image yet.",
    )
    dispatch: Omittable[Annotated[Literal[True], BeforeValidator(require_true)]] = Field(
        None,
        description="`true`: a person, by `gh workflow run`, also to go back: to a tag that is chosen as the ref, or "
        "to a commit of the pushed branch. Alone, it deploys the default branch, built or promoted.",
    )


class Password(SpecModel):
    """Where the database's own stack finds a role's password."""

    env: EnvKey = Field(description="The key of the password in the server's `.env`.")


class Database(SpecModel):
    """The database and the role of one environment."""

    server: Omittable[Slug] = Field(None, description="One of `databases`; default: the only one.")
    name: Omittable[PostgresName] = Field(None, description="The database; default: `<project>_<environment>`.")
    user: Omittable[PostgresName] = Field(None, description="The role that owns it; default: the database's name.")
    password: Omittable[Password] = Field(
        None, description="Where the role's password is; default: `{env: <USER>_PASSWORD}`."
    )
    connection_limit: Annotated[int, Field(ge=1, le=10000)] = Field(
        20, description="Connections that the role may have at once."
    )


class Hooks(SpecModel):
    """Scripts in bash that the host runs around each deploy of a service, in the stack's folder.

    They find `VERB` (deploy or rollback), `SERVICE` and `IMAGE` in their environment, and `after` finds `EXIT_CODE`.
    A deploy of several services has all of them in `SERVICE`, with a space between, and their images in `IMAGE`.
    """

    before: Omittable[ShellScript] = Field(
        None, description="Run before anything is changed; when it fails, so does the deploy."
    )
    after: Omittable[ShellScript] = Field(
        None,
        description="Run when the deploy has ended, also when it has failed or was killed; `EXIT_CODE` 0: it serves.",
    )


class Takeover(SpecModel):
    """What serves an environment today, before its first deploy. The runbook's chapter on the takeover follows it."""

    containers: dict[Slug, ExistingName] = Field(
        {},
        description="The container that serves today, by service or accessory: `{web: shop_web_1, db: postgres}`; "
        "`kiwari-ci doctor` prints those that it finds on the host.",
    )
    project: Omittable[ExistingName] = Field(
        None, description="The Compose project of these containers; default: none, somebody started them by hand."
    )
    folder: Omittable[HostFolder] = Field(None, description="The folder on the host with its Compose file.")
    workflows: Omittable[list[WorkflowFileName]] = Field(
        None, min_length=1, description="The workflows that deploy it today, and that are switched off: `[deploy.yml]`."
    )
    ports: Omittable[ExistingName] = Field(
        None, description="The container that has ports 80 and 443; default: none, or a program of the host itself."
    )


class Environment(SpecModel):
    """One place where the services run: a stack on a host."""

    deploy_on: DeployOn = Field(description="What starts a deploy.")
    promote: Omittable[Slug] = Field(
        None, description="The environment whose images are taken, re-tagged and never rebuilt."
    )
    tag: Omittable[ImageTag] = Field(None, description="The moving tag of its images; default: the environment's name.")
    image_version: Literal["tag", "number"] = Field(
        "tag",
        description="What a tag such as `v1.2.0` calls its images: `tag`: `:v1.2.0`; `number`: `:1.2.0`, without what "
        "stands before the star of `deploy_on.tag`.",
    )
    env_file: Omittable[EnvFileName] = Field(
        None, description="One env file for the whole stack; default: one for each service that has `env`."
    )
    env_from: Omittable[Literal["github"]] = Field(
        None,
        description="`github`: each deploy renders the env files from secrets and variables there, and sends them; "
        "what was edited on the host is overwritten. Default: the host keeps them, and nothing sends them.",
    )
    sync: Omittable[Literal["push"]] = Field(
        None,
        description="`push`: each deploy sends the compose file, the hooks and `files`, and a push that changes only "
        "these files is deployed, too; whoever has its key then owns the host. Default: a person copies them, and a "
        "deploy of a commit with others is refused.",
    )
    files: Omittable[list[RepositoryFile]] = Field(
        None,
        min_length=1,
        description="Files of the repository's `deploy/<stack>/` that the stack needs beside the compose file: "
        "`[Caddyfile, conf/site.conf]`; a deploy compares them as it does the compose file.",
    )
    host: Omittable[Annotated[list[Slug], _OneOrManySlugs()]] = Field(
        None,
        min_length=1,
        description="One of `hosts`, or several: `[one, two]`, each served before the next is touched; "
        "default: the only one.",
    )
    key: Omittable[Secret] = Field(None, description="A deploy key of its own; default: the host's.")
    stack: Omittable[Slug] = Field(
        None, description="Its folder on the host and Compose project; default: `<project>-<environment>`."
    )
    services: Omittable[list[Slug]] = Field(
        None, min_length=1, description="The services that it holds, deployed in the order of `services`; default: all."
    )
    accessories: Omittable[list[Slug]] = Field(None, description="The accessories that it holds; default: all.")
    containers: dict[Slug, ContainerName] = Field(
        {}, description="Container names, by service or accessory; default: `<project>-<service>-<environment>`."
    )
    domains: dict[Slug, Routes] = Field(
        {},
        description="Public domains, by service or accessory: `{web: example.com, api: example.com/api}`, or a list "
        "of them; one without is not public.",
    )
    redirects: dict[DomainName, DomainName] = Field(
        {},
        description="Domains that only redirect to one of `domains`, with the path kept: "
        "`{www.example.com: example.com}`.",
    )
    volumes: dict[VolumeName, ExistingName] = Field(
        {},
        description="Docker volumes that exist already, by the name that `volumes` of a service or an accessory gives "
        "them: `{uploads: old_uploads}`; Compose creates the others as `<stack>_<name>`.",
    )
    database: Omittable[Database] = Field(None, description="Its database.")
    overrides: dict[Slug, Override] = Field(
        {}, description="What is different here, by service or accessory: `{api: {replicas: 2}}`."
    )
    hooks: Omittable[Hooks] = Field(None, description="Scripts that the host runs before and after each deploy.")
    takeover: Omittable[Takeover] = Field(
        None,
        description="What serves today, and is taken over by the first deploy; default: nothing does. Remove it when "
        "the takeover is done.",
    )
