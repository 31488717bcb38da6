"""Tests: what must pass before an image is built."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from kiwari_ci.schema.base import OneOf, SpecModel, simplify_json_schema
from kiwari_ci.schema.text_formats import (
    EnvKey,
    ImageReference,
    Omittable,
    PublishedPort,
    RepositoryFile,
    RepositoryFolder,
    ShellScript,
    Slug,
    TextLine,
    ToolVersion,
    TrimmedLine,
    WorkflowFileName,
)


class Tool(OneOf):
    """The version of a language or tool: written here, read from a file, or a key of `matrix`."""

    shorthand = "version"
    version: Omittable[ToolVersion] = Field(None, description="The version, in quotes: '1.24'.")
    version_file: Omittable[RepositoryFile] = Field(
        None, description="The file in the repository that names the version."
    )
    matrix: Omittable[EnvKey] = Field(None, description="The key of `matrix` that has the versions.")


def _require_properties(schema: dict[str, Any]) -> None:
    simplify_json_schema(schema)
    schema["minProperties"] = 1


class Setup(SpecModel):
    """The languages and tools that the tests need, installed in this order.

    Others, such as PHP, Bun, Rust or .NET, are installed by an action in `steps.before_test`, or with `run`.
    """

    go: Omittable[Tool] = Field(None, description="Go, by actions/setup-go.")
    java: Omittable[Tool] = Field(None, description="Java (Temurin), by actions/setup-java.")
    pnpm: Omittable[Tool] = Field(
        None, description="pnpm, by pnpm/action-setup; `version_file` is the package.json with `packageManager`."
    )
    node: Omittable[Tool] = Field(None, description="Node.js with npm and corepack, by actions/setup-node.")
    python: Omittable[Tool] = Field(None, description="Python with pip, by actions/setup-python.")
    uv: Omittable[Tool] = Field(None, description="uv, by astral-sh/setup-uv.")

    model_config = ConfigDict(json_schema_extra=_require_properties)

    @model_validator(mode="after")
    def _at_least_one(self) -> "Setup":
        if not self.model_fields_set:
            raise PydanticCustomError("too_short", "expected at least one item")
        return self


class TestService(SpecModel):
    """A container beside the tests, such as a database. The tests reach it at localhost."""

    image: ImageReference = Field(description="The image, with its version.")
    ports: Omittable[list[PublishedPort]] = Field(
        None, min_length=1, description="Ports that the runner publishes: `['5432:5432']`."
    )
    env: dict[EnvKey, TrimmedLine] = Field(
        {}, description="The environment variables of the container. Passwords that only tests use are no secrets."
    )
    health: Omittable[TrimmedLine] = Field(
        None, description="A command in the container that succeeds when it is ready: `pg_isready -U postgres`."
    )
    command: Omittable[list[TextLine]] = Field(
        None, min_length=1, description="What it runs in place of the image's own command."
    )


def _require_one_of_run_and_workflow(schema: dict[str, Any]) -> None:
    simplify_json_schema(schema)
    schema["oneOf"] = [{"required": ["run"]}, {"required": ["workflow"]}]


class Test(SpecModel):
    """The tests that must pass before the image is built: a command, or a workflow of your own."""

    workflow: Omittable[WorkflowFileName] = Field(
        None,
        description="A workflow of your own in `.github/workflows`, with the trigger `workflow_call`: `tests.yml`. It "
        "is called instead of `run`, with read access to the repository and without secrets. A run of a workflow calls "
        "it once, also if it tests several services that name it.",
    )
    setup: Omittable[Setup] = Field(None, description="The languages to install first.")
    services: dict[Slug, TestService] = Field({}, description="Containers that the tests need, by name.")
    matrix: dict[EnvKey, Annotated[list[ToolVersion], Field(min_length=1)]] = Field(
        {},
        description="Runs the tests once for each value: `{PYTHON: ['3.12', '3.13']}`. Each key is also an "
        "environment variable of the command.",
    )
    env: dict[EnvKey, TrimmedLine] = Field(
        {}, description="The environment variables of the command; they must not be secrets."
    )
    cache: Omittable[list[RepositoryFile]] = Field(
        None,
        min_length=1,
        description="The lock files of the dependencies, such as `[web/package-lock.json]`: with "
        "`project.pull_requests`, the test of a pull request keeps the downloads of the tools of `setup` in GitHub's "
        "cache. A run that may deploy reads and writes no cache.",
    )
    working_directory: Omittable[RepositoryFolder] = Field(
        None, description="The folder in which the command runs; default: the repository's root."
    )
    run: Omittable[ShellScript] = Field(None, description="A bash command that runs the tests.")
    timeout_minutes: Annotated[int, Field(ge=1, le=360)] = Field(15, description="How many minutes the tests may take.")

    model_config = ConfigDict(json_schema_extra=_require_one_of_run_and_workflow)

    @model_validator(mode="after")
    def _one_thing(self) -> "Test":
        if (self.run is None) == (self.workflow is None):
            raise PydanticCustomError("one_of", "expected exactly one of {names}", {"names": "`run` or `workflow`"})
        return self
