"""Services: one image of the monorepo each, and how its container runs."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from kiwari_ci.spec.base import Model, OneOf
from kiwari_ci.spec.images import Build, Test
from kiwari_ci.texts import (
    Argument,
    Duration,
    EnvKey,
    ImageName,
    LabelKey,
    Maybe,
    Memory,
    Pattern,
    PlainText,
    Port,
    PublishedPort,
    UrlPath,
    Volume,
    Word,
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
    port: Maybe[Port] = Field(
        None,
        description="The port that it listens on in its container; without one it is a worker: well while it runs.",
    )
    health: Health = Field(Health(), description="How it says that it is well.")
    rollout: Literal["start-first", "recreate"] = Field(
        "start-first",
        description="`start-first`: the new one answers before the old one goes, which takes memory for two; "
        "`recreate`: for what cannot run twice, with a gap.",
    )
    command: Maybe[list[Argument]] = Field(
        None,
        min_length=1,
        description="What it runs in place of the image's own command: `[celery, -A, shop, worker]`.",
    )
    volumes: Maybe[list[Volume]] = Field(
        None,
        min_length=1,
        description="What stays when the container goes, or is the host's: `data:/data`, "
        "`./nginx.conf:/etc/nginx.conf:ro`; a file beside the compose file is put there by hand.",
    )
    ports: Maybe[list[PublishedPort]] = Field(
        None,
        min_length=1,
        description="Ports that the host publishes: `'127.0.0.1:9090:9090'`; closed while a deploy changes containers, "
        "for two cannot have one. A proxy on the shared network needs none.",
    )
    labels: dict[LabelKey, Argument] = Field({}, description="Docker labels, the same in each environment.")
    mem_limit: Maybe[Memory] = Field(None, description="The most memory that it may use; more, and it is killed.")
    stop_grace_period: Maybe[Duration] = Field(
        None, description="How long it may take to stop before it is killed; default: Docker's 10 seconds."
    )
    websocket: bool = Field(False, description="Whether the proxy passes WebSockets on.")
    env: dict[EnvKey, EnvValue] = Field({}, description="Its environment variables, by key.")
