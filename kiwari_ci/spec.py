"""What a person may write: the models of a spec, each field with its words."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from kiwari_ci import __version__
from kiwari_ci.texts import (
    Branch,
    Container,
    DomainName,
    EnvFile,
    EnvKey,
    File,
    Folder,
    Generator,
    HostFolder,
    ImageName,
    ImageReference,
    ImageTag,
    Label,
    Maybe,
    Pattern,
    PgName,
    PlainText,
    Port,
    Repository,
    Script,
    SecretName,
    TagPattern,
    UrlPath,
    Version,
    Word,
)


def _tidy(schema: dict[str, Any]) -> None:
    """A JSON Schema without what pydantic adds and no editor needs; only keys of the right form in its tables."""
    schema.pop("title", None)
    for field in schema["properties"].values():
        field.pop("title", None)
        if field.get("default") is None or isinstance(field["default"], dict):
            field.pop("default", None)
        if "patternProperties" in field:
            field["additionalProperties"] = False


class Model(BaseModel):
    """The base of all: unknown keys are faults, types are taken literally, nothing changes later."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, json_schema_extra=_tidy)


class OneOf(Model):
    """A mapping of which exactly one key is written; a bare value stands for the key `shorthand`."""

    shorthand: ClassVar[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _spread(cls, value: Any) -> Any:
        return {cls.shorthand: value} if cls.shorthand and not isinstance(value, dict | list) else value

    @model_validator(mode="after")
    def _exactly_one(self) -> "OneOf":
        if len(self.model_fields_set) != 1:
            names = " or ".join(f"`{field}`" for field in type(self).model_fields)
            raise PydanticCustomError("one_of", "expected exactly one of {names}", {"names": names})
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> dict[str, Any]:
        """Tell editors about the shorthand, too."""
        schema: dict[str, Any] = handler.resolve_ref_schema(handler(core_schema))
        schema |= {"minProperties": 1, "maxProperties": 1}
        if not cls.shorthand:
            return schema
        description = schema.pop("description")
        return {"description": description, "anyOf": [schema, schema["properties"][cls.shorthand]]}


class Secret(Model):
    """A secret of the repository or of a GitHub environment, by name."""

    secret: SecretName = Field(description="Name of the secret; never its value.")


class Reference(OneOf):
    """A setting that GitHub keeps: a secret or a variable, by name."""

    secret: Maybe[SecretName] = Field(None, description="Name of the secret.")
    variable: Maybe[SecretName] = Field(None, description="Name of the variable.")


class Project(Model):
    """What the whole spec is about."""

    name: Word = Field(
        description="Short name; derived names begin with it, and the head of every generated file has it."
    )
    repository: Repository = Field(description="OWNER/NAME of the monorepo on GitHub.")
    default_branch: Branch = Field("main", description="The branch that a release must be on.")
    runner: Label = Field("ubuntu-24.04", description="The label of the GitHub runner that jobs run on.")


class PullToken(OneOf):
    """What the host pulls images with."""

    shorthand = "token"
    token: Maybe[Literal["job"]] = Field(
        None, description="`job`: the token of the deploy job itself, which ends with the job."
    )
    secret: Maybe[SecretName] = Field(None, description="Name of a secret that holds a token with `read:packages`.")


class Registry(Model):
    """Where images are kept."""

    host: Literal["ghcr.io"] = Field("ghcr.io", description="The registry's host.")
    namespace: Maybe[ImageName] = Field(
        None, description="Owner of the packages, in lower case; default: the repository's owner."
    )
    pull_token: PullToken = Field(
        PullToken(token="job"), description="What the host pulls images with; default: `job`."
    )


class Proxy(Model):
    """What stands in front of the services on a host."""

    kind: Literal["nginx-proxy-manager", "none"] = Field(
        "nginx-proxy-manager", description="The proxy that the runbook sets up; with `none`, no service has a domain."
    )
    network: Word = Field("proxy", description="The Docker network that the proxy and the services share.")


class Host(Model):
    """A server that is reached over SSH."""

    address: Maybe[Reference] = Field(None, description="Its address; default: `{secret: <HOST>_HOST}`.")
    user: Maybe[Reference] = Field(None, description="The login; default: `{secret: <HOST>_USER}`.")
    key: Maybe[Secret] = Field(None, description="The private deploy key; default: `{secret: <HOST>_SSH_KEY}`.")
    known_hosts: Maybe[Reference] = Field(
        None, description="Its host key as a line of `known_hosts`; default: `{variable: <HOST>_KNOWN_HOSTS}`."
    )
    directory: HostFolder = Field("~/docker", description="The folder that holds a folder for each stack.")
    proxy: Proxy = Field(Proxy(), description="What stands in front of the services.")


class Migrations(Model):
    """Database migrations that a person runs before the deploy."""

    directory: File = Field(description="Folder of the migration files in the repository.")
    image: ImageReference = Field(description="The image of golang-migrate that runs them.")


class DatabaseServer(Model):
    """A PostgreSQL server in a stack of its own; app deploys never touch it."""

    host: Maybe[Word] = Field(None, description="One of `hosts`: where it runs; default: the only one.")
    image: ImageReference = Field("postgres:17-alpine", description="The image, PostgreSQL 15 or newer.")
    network: Maybe[Word] = Field(
        None, description="The Docker network that reaches it; default: one of its own, with its name."
    )
    migrations: Maybe[Migrations] = Field(None, description="The migrations that the runbook tells how to run.")


class Tool(OneOf):
    """The version of a language, written down or read from a file."""

    shorthand = "version"
    version: Maybe[Version] = Field(None, description="The version, in quotes: '1.24'.")
    version_file: Maybe[File] = Field(None, description="The file in the repository that names the version.")


class Setup(OneOf):
    """The language that the tests need."""

    go: Maybe[Tool] = Field(None, description="Go, by actions/setup-go.")
    node: Maybe[Tool] = Field(None, description="Node.js, by actions/setup-node.")
    python: Maybe[Tool] = Field(None, description="Python, by actions/setup-python.")


class Test(Model):
    """The tests that gate a build."""

    setup: Maybe[Setup] = Field(None, description="The language to install first.")
    working_directory: Maybe[Folder] = Field(
        None, description="The folder that the command runs in; default: the repository's root."
    )
    run: Script = Field(description="The command, in bash.")


class Build(Model):
    """How an image is built."""

    context: Folder = Field(".", description="The build context, a folder of the repository.")
    dockerfile: Maybe[File] = Field(
        None, description="The Dockerfile, from the repository's root; default: `<service>/Dockerfile`."
    )


class Health(Model):
    """How a service says that it is well."""

    path: UrlPath = Field("/health", description="The path that is asked, on the service's port and at its domain.")
    status: Annotated[int, Field(ge=200, le=399)] = Field(
        200, description="The HTTP status that means well; redirects are not followed."
    )


def _true(value: object) -> object:
    """Literal alone takes 1 for true."""
    if value is True:
        return value
    raise PydanticCustomError("text", "expected {expected}", {"expected": "`true`", "pattern": "true"})


class EnvValue(OneOf):
    """The value of an environment variable: plain text, a secret, or derived from the spec."""

    shorthand = "value"
    value: Maybe[PlainText] = Field(
        None,
        description="Plain text, the same everywhere: `LOG_LEVEL: info`; "
        "what needs a `'` is filled in on the host, as a secret is.",
    )
    secret: Maybe[Annotated[Literal[True], BeforeValidator(_true)]] = Field(
        None, description="`true`: filled in on the host; the example of the env file says `change-me`."
    )
    database: Maybe[Literal["url", "host", "port", "name", "user"]] = Field(
        None, description="Something of the environment's database; a `url` has the password in it."
    )
    service: Maybe[Word] = Field(
        None, description="The URL of another service of the same environment, inside the Docker network."
    )
    domain: Maybe[Literal["url", "name"]] = Field(None, description="The service's own domain, or the URL of it.")


class Service(Model):
    """One image of the monorepo, and the container that runs it."""

    image: Maybe[ImageName] = Field(None, description="Its image's name; default: `<project>-<service>`.")
    paths: Maybe[list[Pattern]] = Field(
        None,
        min_length=1,
        description="GitHub path filters of its source; the Dockerfile, `.dockerignore` and the workflow "
        "come by themselves; default: `<service>/**`.",
    )
    build: Build = Field(Build(), description="How the image is built.")
    test: Maybe[Test] = Field(None, description="What must pass before the image is built.")
    port: Port = Field(description="The port that it listens on in its container.")
    health: Health = Field(Health(), description="How it says that it is well.")
    rollout: Literal["start-first", "recreate"] = Field(
        "start-first",
        description="`start-first`: the new one answers before the old one goes, which takes memory for two; "
        "`recreate`: for what cannot run twice, with a gap.",
    )
    websocket: bool = Field(False, description="Whether the proxy passes WebSockets on.")
    env: dict[EnvKey, EnvValue] = Field({}, description="Its environment variables, by key.")


class DeployOn(OneOf):
    """What starts a deploy."""

    push: Maybe[Branch] = Field(None, description="A push to this branch; images are built there.")
    tag: Maybe[TagPattern] = Field(None, description="A tag such as `v1.2.0` for the pattern `v*`.")


class Password(Model):
    """Where the database's own stack finds a role's password."""

    env: EnvKey = Field(description="The key of the password in the server's `.env`.")


class Database(Model):
    """The database and the role of one environment."""

    server: Maybe[Word] = Field(None, description="One of `databases`; default: the only one.")
    name: Maybe[PgName] = Field(None, description="The database; default: `<project>_<environment>`.")
    user: Maybe[PgName] = Field(None, description="The role that owns it; default: the database's name.")
    password: Maybe[Password] = Field(
        None, description="Where the role's password is; default: `{env: <USER>_PASSWORD}`."
    )
    connection_limit: Annotated[int, Field(ge=1, le=10000)] = Field(
        20, description="Connections that the role may have at once."
    )


class Environment(Model):
    """One place where the services run: a stack on a host."""

    deploy_on: DeployOn = Field(description="What starts a deploy.")
    promote: Maybe[Word] = Field(
        None, description="The environment whose images are taken, re-tagged and never rebuilt."
    )
    tag: Maybe[ImageTag] = Field(None, description="The moving tag of its images; default: the environment's name.")
    env_file: Maybe[EnvFile] = Field(
        None, description="One env file for the whole stack; default: one for each service that has `env`."
    )
    host: Maybe[Word] = Field(None, description="One of `hosts`; default: the only one.")
    key: Maybe[Secret] = Field(None, description="A deploy key of its own; default: the host's.")
    stack: Maybe[Word] = Field(
        None, description="Its folder on the host and Compose project; default: `<project>-<environment>`."
    )
    services: Maybe[list[Word]] = Field(None, min_length=1, description="The services that it holds; default: all.")
    containers: dict[Word, Container] = Field(
        {}, description="Container names, by service; default: `<project>-<service>-<environment>`."
    )
    domains: dict[Word, DomainName] = Field(
        {}, description="Public domains, by service; a service without one is not public."
    )
    database: Maybe[Database] = Field(None, description="Its database.")


class Spec(Model):
    """A whole spec."""

    project: Project = Field(description="What the spec is about.")
    generator: Generator = Field(
        f"kiwari-ci=={__version__}",
        description="How the drift check installs this tool; default: this version, as a release.",
    )
    registry: Registry = Field(Registry(), description="Where images are kept.")
    hosts: dict[Word, Host] = Field(min_length=1, description="Servers, by name.")
    databases: dict[Word, DatabaseServer] = Field({}, description="PostgreSQL servers, by name.")
    services: dict[Word, Service] = Field(min_length=1, description="Services, by name.")
    environments: dict[Word, Environment] = Field(min_length=1, description="Environments, by name.")
