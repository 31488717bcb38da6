"""Services: one image of the monorepo each, and how its container runs."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from kiwari_ci.spec.base import Model, OneOf
from kiwari_ci.spec.images import Build, Test
from kiwari_ci.texts import EnvKey, ImageName, Maybe, Pattern, PlainText, Port, UrlPath, Word


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
