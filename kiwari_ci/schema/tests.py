"""Tests: what must pass before an image is built."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from kiwari_ci.schema.base import Model, OneOf, tidy
from kiwari_ci.schema.text_formats import (
    Argument,
    EnvKey,
    File,
    Folder,
    ImageReference,
    Line,
    Maybe,
    PublishedPort,
    Script,
    Version,
    Word,
)


class Tool(OneOf):
    """The version of a language, written down, read from a file, or one of a matrix."""

    shorthand = "version"
    version: Maybe[Version] = Field(None, description="The version, in quotes: '1.24'.")
    version_file: Maybe[File] = Field(None, description="The file in the repository that names the version.")
    matrix: Maybe[EnvKey] = Field(None, description="The key of `matrix` whose values are versions.")


def _not_empty(schema: dict[str, Any]) -> None:
    tidy(schema)
    schema["minProperties"] = 1


class Setup(Model):
    """The languages and tools that the tests need, in this order; others the runner has, or `run` installs."""

    go: Maybe[Tool] = Field(None, description="Go, by actions/setup-go.")
    java: Maybe[Tool] = Field(None, description="Java (Temurin), by actions/setup-java.")
    pnpm: Maybe[Tool] = Field(
        None, description="pnpm, by pnpm/action-setup; `version_file` is the package.json with `packageManager`."
    )
    node: Maybe[Tool] = Field(None, description="Node.js with npm and corepack, by actions/setup-node.")
    python: Maybe[Tool] = Field(None, description="Python with pip, by actions/setup-python.")
    uv: Maybe[Tool] = Field(None, description="uv, by astral-sh/setup-uv.")

    model_config = ConfigDict(json_schema_extra=_not_empty)

    @model_validator(mode="after")
    def _at_least_one(self) -> "Setup":
        if not self.model_fields_set:
            raise PydanticCustomError("too_short", "expected at least one item")
        return self


class TestService(Model):
    """A container beside the tests, such as a database; it is reached at localhost."""

    image: ImageReference = Field(description="The image, with its version.")
    ports: Maybe[list[PublishedPort]] = Field(
        None, min_length=1, description="Ports that the runner publishes: `['5432:5432']`."
    )
    env: dict[EnvKey, Line] = Field({}, description="Its environment; passwords of tests are no secrets.")
    health: Maybe[Line] = Field(
        None, description="The command that says in the container that it is ready: `pg_isready -U postgres`."
    )
    command: Maybe[list[Argument]] = Field(
        None, min_length=1, description="What it runs in place of the image's own command."
    )


class Test(Model):
    """The tests that gate a build."""

    setup: Maybe[Setup] = Field(None, description="The languages to install first.")
    services: dict[Word, TestService] = Field({}, description="Containers that the tests need, by name.")
    matrix: dict[EnvKey, Annotated[list[Version], Field(min_length=1)]] = Field(
        {},
        description="Run the tests once for each value: `{PYTHON: ['3.12', '3.13']}`; "
        "each key is a variable of the command, too.",
    )
    env: dict[EnvKey, Line] = Field({}, description="Environment of the command; nothing secret.")
    working_directory: Maybe[Folder] = Field(
        None, description="The folder that the command runs in; default: the repository's root."
    )
    run: Script = Field(description="The command, in bash.")
    timeout_minutes: Annotated[int, Field(ge=1, le=360)] = Field(15, description="How long they may take.")
