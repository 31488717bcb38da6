"""What a person may write: the models of a spec, each field with its words."""

from typing import Literal

from pydantic import Field

from kiwari_ci.schema.base import OneOf, Reference, Secret, SpecModel
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
    RunnerLabels,
    SshPort,
    Takeover,
)
from kiwari_ci.schema.images import Build, BuildArg, BuildOverride, PullToken, Registry
from kiwari_ci.schema.routes import Route
from kiwari_ci.schema.services import Accessory, Health, Override, Service, ServiceDefaults
from kiwari_ci.schema.steps import Step, Steps, StepValue
from kiwari_ci.schema.tests import Setup, Test, TestService, Tool
from kiwari_ci.schema.text_formats import (
    BranchName,
    GeneratorRequirement,
    Omittable,
    RepositoryName,
    Slug,
    TestedBranch,
)

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
    "ServiceDefaults",
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
    """The repository, and settings for the whole pipeline."""

    name: Slug = Field(
        description="A short name. Derived names begin with it, and it is in the first lines of every generated file."
    )
    repository: RepositoryName = Field(description="OWNER/NAME of the monorepo on GitHub.")
    default_branch: BranchName = Field("main", description="The default branch. Only its commits can be released.")
    dependabot: bool = Field(
        False,
        description="Whether `.github/dependabot.yml` is generated, with one pull request a week that updates the "
        "actions.",
    )
    public_logs: bool = Field(
        False,
        description="Whether the log of a run in a public repository, which everybody can read, shows output of "
        "containers, such as the last lines of one that failed. In a private repository, the log always "
        "shows it.",
    )
    pull_requests: bool = Field(
        False,
        description="Whether each pull request runs the tests and builds the images, without pushing them, of the "
        "services that it changes; with `tested_services: all`, of each one. The check `all-passed` reports on "
        "every pull request and can be required.",
    )
    tested_services: Literal["touched", "all"] = Field(
        "touched",
        description="Which services a pull request tests and builds: `touched`, those that it changes; `all`, each "
        "one, whatever it changes.",
    )
    tested_branches: Omittable[list[TestedBranch]] = Field(
        None,
        min_length=1,
        description="Branches without an environment whose pushes run the same tests as pull requests: "
        "`[develop, 'feature/**']`.",
    )
    runner: RunnerLabels = Field(
        ["ubuntu-24.04"],
        min_length=1,
        description="The label of the GitHub runner on which jobs run, or several labels: `[self-hosted, linux]`; "
        "default: `ubuntu-24.04`.",
    )


class Spec(SpecModel):
    """A whole spec."""

    project: Project = Field(description="What the spec is about.")
    generator: Omittable[GeneratorRequirement] = Field(
        None,
        description="What the drift check installs to run kiwari-ci; default: the commit that the tool was installed "
        "from.",
    )
    registry: Registry = Field(Registry.model_construct(), description="The registry that keeps the images.")
    hosts: dict[Slug, Host] = Field(min_length=1, description="Servers, by name.")
    databases: dict[Slug, DatabaseServer] = Field({}, description="PostgreSQL servers, by name.")
    services: dict[Slug, Service] = Field(
        min_length=1, description="Services, by name. A deploy of several services deploys them in this order."
    )
    service_defaults: ServiceDefaults = Field(
        ServiceDefaults.model_construct(), description="What the services have in common, written once."
    )
    accessories: dict[Slug, Accessory] = Field(
        {}, description="Containers in the stacks whose images no workflow here builds, by name."
    )
    environments: dict[Slug, Environment] = Field(min_length=1, description="Environments, by name.")
