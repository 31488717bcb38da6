"""The options of a container, which services and accessories have in common."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, JsonValue
from pydantic_core import CoreSchema, PydanticCustomError, SchemaValidator, core_schema

from kiwari_ci.schema.base import OneOf, SpecModel
from kiwari_ci.schema.compose_mapping import WritesComposeKey
from kiwari_ci.schema.text_formats import (
    ComposeKey,
    ContainerEnvKey,
    Duration,
    EnvFileKey,
    LabelKey,
    MemorySize,
    NetworkName,
    Omittable,
    PlainText,
    PublishedPort,
    SecretName,
    Slug,
    StackNetworkName,
    TextLine,
    VolumeMount,
)

_SECRET_NAME_PATTERN = "(?!GITHUB_)[A-Z_][A-Z0-9_]*"


def _validate_secret(value: object) -> object:
    """Validate `true` or a name: a union of types would report two errors for one value, and accept 1 for true."""
    if value is True or (isinstance(value, str) and re.fullmatch(_SECRET_NAME_PATTERN, value)):
        return value
    expected = "`true`, or the name of a secret of GitHub in capitals"
    raise PydanticCustomError("text", "expected {expected}", {"expected": expected, "pattern": "true"})


class EnvValue(OneOf):
    """The value of an environment variable: plain text, a secret, or derived from the spec.

    A value that is composed of others, such as a URL with a password, is one secret, because nothing replaces
    `${NAME}`.
    A variable that may be empty is `NAME=''` in the env file on the host. GitHub keeps no empty value, so with
    `env_from: github` write `NAME: ''` in the service, and the setting in `overrides` of the environments that have it.
    """

    shorthand = "value"
    value: Omittable[PlainText] = Field(
        None,
        description="Plain text, the same in every environment: `LOG_LEVEL: info`. A value that contains a `'` must "
        "be filled in on the host, like a secret.",
    )
    secret: Omittable[Annotated[Literal[True] | SecretName, BeforeValidator(_validate_secret)]] = Field(
        None,
        description="`true`: you fill in the value on the host; the example of the env file has `change-me`. With "
        "`env_from: github`, it is the secret on GitHub with the name of the key, or the one that you "
        "name here.",
    )
    variable: Omittable[SecretName] = Field(
        None,
        description="With `env_from: github`, the name of a variable on GitHub; otherwise you fill in the value on "
        "the host.",
    )
    database: Omittable[Literal["url", "host", "port", "name", "user"]] = Field(
        None, description="A property of the environment's database. A `url` contains the password."
    )
    service: Omittable[Slug] = Field(
        None, description="The URL of another service of the same environment, inside the Docker network."
    )
    accessory: Omittable[Slug] = Field(
        None, description="The host name of an accessory of the same environment, which is the name of its container."
    )
    domain: Omittable[Literal["url", "name"]] = Field(
        None, description="The service's own domain (`name`), or its URL (`url`)."
    )


class Healthcheck(SpecModel):
    """A command with which Docker checks a container from inside, so that others can wait until it is `healthy`."""

    test: Annotated[list[TextLine], WritesComposeKey("test", copied=True)] = Field(
        min_length=2,
        description="The command: `[CMD, redis-cli, ping]`, or `[CMD-SHELL, 'pg_isready -U app']` to run it with the "
        "image's shell.",
    )
    interval: Annotated[Omittable[Duration], WritesComposeKey("interval", copied=True)] = Field(
        None, description="The time between two checks; default: Docker's 30 seconds."
    )
    timeout: Annotated[Omittable[Duration], WritesComposeKey("timeout", copied=True)] = Field(
        None, description="How long one check may take; default: Docker's 30 seconds."
    )
    retries: Annotated[Omittable[Annotated[int, Field(ge=1, le=100)]], WritesComposeKey("retries", copied=True)] = (
        Field(
            None,
            description="How many checks in a row must fail before the container is unhealthy; default: Docker's 3.",
        )
    )
    start_period: Annotated[Omittable[Duration], WritesComposeKey("start_period", copied=True)] = Field(
        None, description="How long after the start a failed check does not count; default: 0."
    )


class Network(OneOf):
    """A Docker network that a container joins in addition to those that it is on already."""

    shorthand = "name"
    name: Omittable[StackNetworkName] = Field(
        None, description="A network of the stack, which Compose creates: `backend`."
    )
    internal: Omittable[StackNetworkName] = Field(
        None, description="A network of the stack that has no access to other networks."
    )
    external: Omittable[NetworkName] = Field(None, description="A network that exists already: `monitoring_default`.")


class ListOrMapping:
    """A mapping to words for which a person may write the keys alone, as a list, when all have the first word."""

    def __init__(self, word: str) -> None:
        """Keep the word that the names of a list get."""
        self.word = word

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """A list of names becomes the mapping."""
        names = SchemaValidator(core_schema.list_schema(handler.generate_schema(Slug), strict=True))

        def spread(value: Any) -> Any:
            return dict.fromkeys(names.validate_python(value), self.word) if isinstance(value, list) else value

        return core_schema.no_info_before_validator_function(spread, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Tell editors about both forms."""
        mapping: dict[str, Any] = handler(core)
        (pattern,) = mapping["patternProperties"]
        names = {"type": "array", "items": {"type": "string", "pattern": pattern}}
        return {"anyOf": [mapping | {"additionalProperties": False}, names]}


Dependencies = Annotated[dict[Slug, Literal["started", "healthy", "completed"]], ListOrMapping("started")]


class ContainerOptions(SpecModel):
    """How a container runs."""

    command: Annotated[Omittable[list[TextLine]], WritesComposeKey("command")] = Field(
        None,
        min_length=1,
        description="What it runs in place of the image's own command: `[celery, -A, shop, worker]`. To use a "
        "variable, run a shell: `[sh, -c, 'exec redis-server --requirepass \"$$REDIS_PASSWORD\"']`.",
    )
    entrypoint: Annotated[Omittable[list[TextLine]], WritesComposeKey("entrypoint")] = Field(
        None, min_length=1, description="The entrypoint, in place of the image's own: `[sh, -c]`."
    )
    env: Annotated[dict[EnvFileKey, EnvValue], WritesComposeKey("env_file")] = Field(
        {}, description="Its environment variables, by key, in an env file that the host keeps. They may be secrets."
    )
    environment: Annotated[dict[ContainerEnvKey, EnvValue], WritesComposeKey("environment")] = Field(
        {},
        description="Environment variables that are in the Compose file, where a pull request shows them: plain text "
        "or derived values, no secret. Names may have `.`, `-`.",
    )
    volumes: Annotated[Omittable[list[VolumeMount]], WritesComposeKey("volumes")] = Field(
        None,
        min_length=1,
        description="Named volumes, which are kept when the container is removed, and folders or files of the host: "
        "`data:/data`, `./nginx.conf:/etc/nginx.conf:ro`. A file beside the Compose file must be in "
        "`files`, or you copy it to the host by hand.",
    )
    ports: Annotated[Omittable[list[PublishedPort]], WritesComposeKey("ports")] = Field(
        None,
        min_length=1,
        description="Ports that the host publishes: `'127.0.0.1:9090:9090'`. Only one container can have a port, so "
        "it is closed while a deploy replaces the container. A service behind a proxy on the shared "
        "network needs no published port.",
    )
    labels: Annotated[dict[LabelKey, TextLine], WritesComposeKey("labels")] = Field({}, description="Docker labels.")
    healthcheck: Annotated[Omittable[Healthcheck], WritesComposeKey("healthcheck")] = Field(
        None, description="A command with which Docker checks the container; default: the one of the image."
    )
    depends_on: Annotated[Dependencies, WritesComposeKey("depends_on")] = Field(
        {},
        description="The containers that `docker compose up` starts before it, and whether it waits until they are "
        "`started`, `healthy` or `completed`: `{redis: healthy}`, or `[redis]` for `started`. A deploy "
        "starts all accessories first, then the services that changed in this order.",
    )
    networks: Annotated[Omittable[list[Network]], WritesComposeKey("networks")] = Field(
        None,
        min_length=1,
        description="More Docker networks to join: `[backend, {external: monitoring}]`. It joins the proxy's network "
        "if it has a domain, or if it has a port and there are no `domains`; otherwise only the stack's.",
    )
    mem_limit: Annotated[Omittable[MemorySize], WritesComposeKey("mem_limit", copied=True)] = Field(
        None, description="The most memory that it may use. If it uses more, it is killed."
    )
    cpus: Annotated[Omittable[Annotated[float, Field(ge=0.01, le=1024)]], WritesComposeKey("cpus", copied=True)] = (
        Field(None, description="The most processors that it may use: `0.5`.")
    )
    stop_grace_period: Annotated[Omittable[Duration], WritesComposeKey("stop_grace_period", copied=True)] = Field(
        None, description="How long it may take to stop before it is killed; default: Docker's 10 seconds."
    )
    compose: dict[ComposeKey, JsonValue] = Field(
        {},
        description="Keys of Compose that have no field here, copied as they are: `{shm_size: 256m, user: "
        "'1000:1000', read_only: true, tmpfs: [/tmp]}`. Without `security_opt`, a container gets "
        "`no-new-privileges`. Without `cap_drop`, it loses `NET_RAW`; `{cap_drop: []}` keeps Docker's "
        "default capabilities.",
    )
