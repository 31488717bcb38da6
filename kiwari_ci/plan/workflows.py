"""Workflows: test, build, deploy, promote, and the check."""

from dataclasses import dataclass

from kiwari_ci.plan.base import Action, Setting
from kiwari_ci.plan.stacks import Instance, Stack


@dataclass(frozen=True)
class Filter:
    """A line of a path filter; `why` is there for those that the spec does not name."""

    pattern: str
    why: str


@dataclass(frozen=True)
class Setup:
    """A step that installs a language; `no_cache` is the input that turns its cache off."""

    title: str
    action: Action
    option: str
    value: str
    no_cache: str


@dataclass(frozen=True)
class Test:
    """The tests of a service; the script ends in a newline."""

    setups: tuple[Setup, ...]
    working_directory: str
    run: str


@dataclass(frozen=True)
class Deploy:
    """A deploy of one environment over SSH; `settings` are all that the step reads from GitHub."""

    environment: str
    url: str
    host: str
    address: str
    user: str
    key: str
    known_hosts: str
    token: str
    token_is_of_job: bool
    settings: tuple[Setting, ...]
    directory: str
    stack: Stack
    public: tuple[Instance, ...]
    minutes: int


@dataclass(frozen=True)
class Source:
    """A service's source: where its image is kept, and what the image is made of; `own_*` is the spec's part alone."""

    service: str
    repository: str
    filters: tuple[Filter, ...]
    pathspecs: tuple[str, ...]
    own_pathspecs: tuple[str, ...]
    workflow: str
    digest_output: str
    digest_variable: str


@dataclass(frozen=True)
class Target:
    """One environment that a service's workflow deploys to: containers of one image, the service's own first."""

    deploy: Deploy
    tag: str
    instances: tuple[Instance, ...]
    public: tuple[Instance, ...]
    compose_output: str


@dataclass(frozen=True)
class ServiceWorkflow:
    """Test, build and deploy one service."""

    source: Source
    branch: str
    sparse: str
    tests: tuple[Test, ...]
    context: str
    dockerfile: str
    targets: tuple[Target, ...]

    def jobs(self) -> tuple[str, ...]:
        """Its jobs, in their order."""
        deploys = [f"deploy-{target.deploy.environment}" for target in self.targets]
        return (*(["test"] if self.tests else []), "build-and-push", *deploys)


@dataclass(frozen=True)
class Promotion:
    """A tag that puts into one environment what another one serves."""

    name: str
    pattern: str
    prefix: str
    prefix_regex: str
    tag: str
    from_environment: str
    sources: tuple[Source, ...]
    deploy: Deploy

    def jobs(self) -> tuple[str, ...]:
        """Its jobs, in their order."""
        check = ["health-check"] if self.deploy.url else []
        return ("promote-images", f"deploy-{self.deploy.environment}", *check)


@dataclass(frozen=True)
class Drift:
    """The workflow that checks the generated files, and how it gets this tool."""

    requirement: str
    repository: str
    commit: str
    spec_path: str
