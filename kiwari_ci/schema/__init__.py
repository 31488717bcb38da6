"""What a person may write: the models of a spec, each field with its words."""

from typing import Annotated

from pydantic import Field

from kiwari_ci.schema.base import OneOf, OneOrMany, Reference, Secret, SpecModel
from kiwari_ci.schema.containers import ContainerOptions, EnvValue, Healthcheck, Network
from kiwari_ci.schema.environments import (
    Database,
    DatabaseServer,
    DeployOn,
    Environment,
    Hooks,
    Host,
    Jump,
    Migrations,
    Password,
    Proxy,
    ProxyCommand,
    SshPort,
    Takeover,
)
from kiwari_ci.schema.images import Build, BuildArg, BuildOverride, PullToken, Registry
from kiwari_ci.schema.routes import Route
from kiwari_ci.schema.services import Accessory, Health, Override, Service
from kiwari_ci.schema.steps import Step, Steps, StepValue
from kiwari_ci.schema.tests import Setup, Test, TestService, Tool
from kiwari_ci.schema.text_formats import BranchName, GeneratorRequirement, Omittable, RepositoryName, RunnerLabel, Slug

RunnerLabels = Annotated[list[RunnerLabel], OneOrMany(str)]

__all__ = [
    "Accessory",
    "Build",
    "BuildArg",
    "BuildOverride",
    "ContainerOptions",
    "Database",
    "DatabaseServer",
    "DeployOn",
    "EnvValue",
    "Environment",
    "Health",
    "Healthcheck",
    "Hooks",
    "Takeover",
    "Host",
    "Jump",
    "Migrations",
    "Network",
    "OneOf",
    "Override",
    "Password",
    "Project",
    "Proxy",
    "ProxyCommand",
    "PullToken",
    "Reference",
    "Registry",
    "Route",
    "Secret",
    "Service",
    "Setup",
    "Spec",
    "SpecModel",
    "SshPort",
    "Step",
    "StepValue",
    "Steps",
    "Test",
    "TestService",
    "Tool",
]


class Project(SpecModel):
    """What the whole spec is about."""

    name: Slug = Field(
        description="Short name; derived names begin with it, and the head of every generated file has it."
    )
    repository: RepositoryName = Field(description="OWNER/NAME of the monorepo on GitHub.")
    default_branch: BranchName = Field("main", description="The branch that a release must be on.")
    dependabot: bool = Field(
        False, description="Whether `.github/dependabot.yml` is generated: it bumps the actions, a pull request a week."
    )
    public_logs: bool = Field(
        False,
        description="Whether the log of a run shows output of containers, such as the end of the log of one that "
        "failed, also where the repository is public and everybody reads it. A private repository shows it always.",
    )
    pull_requests: bool = Field(
        False, description="Whether pull requests are tested, and built but not pushed, for each service they touch."
    )
    runner: RunnerLabels = Field(
        ["ubuntu-24.04"],
        min_length=1,
        description="The label of the GitHub runner that jobs run on, or several: `[self-hosted, linux]`; "
        "default: `ubuntu-24.04`.",
    )


class Spec(SpecModel):
    """A whole spec."""

    project: Project = Field(description="What the spec is about.")
    generator: Omittable[GeneratorRequirement] = Field(
        None,
        description="How the drift check installs this tool; default: the commit that the tool was installed from.",
    )
    registry: Registry = Field(Registry.model_construct(), description="Where images are kept.")
    hosts: dict[Slug, Host] = Field(min_length=1, description="Servers, by name.")
    databases: dict[Slug, DatabaseServer] = Field({}, description="PostgreSQL servers, by name.")
    services: dict[Slug, Service] = Field(
        min_length=1, description="Services, by name; one deploy of several takes them in this order."
    )
    accessories: dict[Slug, Accessory] = Field({}, description="Others' images in the stacks, by name.")
    environments: dict[Slug, Environment] = Field(min_length=1, description="Environments, by name.")
