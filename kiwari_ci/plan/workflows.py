"""Workflows: test, build, deploy, promote, and the check."""

from kiwari_ci.frozen import dataclass
from kiwari_ci.plan.base import GitHubSetting, KeyValue, PinnedAction
from kiwari_ci.plan.hosts import JumpHost, ProxyCommand, SshPort
from kiwari_ci.plan.stacks import PlannedService, Stack


@dataclass(frozen=True)
class PathFilter:
    """A line of a path filter; `why` is there for those that the spec does not name."""

    pattern: str
    why: str


@dataclass(frozen=True)
class SetupStep:
    """A step that installs a language.

    `no_cache` is the input that turns its cache off, empty where it is off by itself. `cache_option` is the input that
    turns it on with `cache_value`, and `lock_files_option` the one that names the `lock_files`, a line each, which are
    empty without a cache.
    """

    action: PinnedAction
    option: str
    value: str
    distribution: str
    no_cache: str
    cache_option: str
    cache_value: str
    lock_files_option: str
    lock_files: str


@dataclass(frozen=True)
class TestContainer:
    """A container beside the tests: its `docker run`, line by line; `is_waited_for`: it says when it is ready."""

    name: str
    words: tuple[str, ...]
    is_waited_for: bool


@dataclass(frozen=True)
class MatrixAxis:
    """A variable of a matrix, and its values."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class CustomStep:
    """A step of the user's own: a script that ends in a newline, or an action with its version."""

    name: str
    condition: str
    uses: str
    version: str
    inputs: tuple[KeyValue, ...]
    env: tuple[KeyValue, ...]
    working_directory: str
    run: str


@dataclass(frozen=True)
class TestJob:
    """The tests of a service, a job; the script ends in a newline.

    `workflow` is the file of a workflow that the job calls in place of all else; empty for none. `needs` is the job
    that it waits for and `condition` what it runs on, each empty for none. `steps` come before the tests, `last_steps`
    after them.
    """

    job: str
    needs: str
    condition: str
    workflow: str
    minutes: int
    axes: tuple[MatrixAxis, ...]
    setups: tuple[SetupStep, ...]
    services: tuple[TestContainer, ...]
    waited_for: tuple[str, ...]
    env: tuple[KeyValue, ...]
    working_directory: str
    run: str
    steps: tuple[CustomStep, ...]
    last_steps: tuple[CustomStep, ...]


@dataclass(frozen=True)
class DeployStep:
    """The step that deploys a stack to one host, which its engine's template prints.

    `settings` are all that it reads from GitHub. `images` and `last_image` are the containers, each with the variable
    that has its digest.
    """

    host: str
    step: str
    template: str
    stack: Stack
    settings: tuple[GitHubSetting, ...]
    images: tuple[KeyValue, ...]
    last_image: KeyValue


@dataclass(frozen=True)
class SshRoute(DeployStep):
    """A deploy over SSH: the names of the variables of its env. `token` is what the host pulls images with."""

    address: str
    user: str
    key: str
    known_hosts: str
    port: SshPort
    jumps: tuple[JumpHost, ...]
    proxy_commands: tuple[ProxyCommand, ...]
    token: str


@dataclass(frozen=True)
class PublicHealthCheck:
    """What must answer from outside after a deploy; `to_go_back` says on which host, and the command there.

    `subject` is the service, with the address where several are asked. Where the proxy asks for a password, it must
    do so, and nothing of the service is seen.
    """

    subject: str
    url: str
    status: int
    asks_password: bool
    to_go_back: str


@dataclass(frozen=True)
class PublicRedirectCheck:
    """A domain that must redirect to another one."""

    domain: str
    target: str


@dataclass(frozen=True)
class EnvironmentDeploy:
    """A deploy of one environment, a step for each of its hosts, in order.

    `host` names its hosts for people, `folder` is that of its stack. `branch` is the one whose commits are counted;
    `ref` is what the job checks out, empty for the run's own commit. `instances` are all that the environment runs.
    `superseded` is the condition that a host has something newer. `values` are what each step's env has from earlier
    jobs, as expressions. `goes_back`: an older commit that a person chose is put back. `shows_output`: of containers,
    also in a public log. `released_tags` and `released_regex` match the tags of which a newer one may overtake this
    deploy; empty for a deploy of no tag. `first_steps` are the user's own, which a host is reached by. `runner` is
    empty when the runner must have several labels.
    """

    environment: str
    runner: str
    runner_labels: tuple[str, ...]
    url: str
    host: str
    branch: str
    ref: str
    first_steps: tuple[CustomStep, ...]
    ways: tuple[DeployStep, ...]
    superseded: str
    token_is_of_job: bool
    values: tuple[KeyValue, ...]
    folder: str
    instances: tuple[PlannedService, ...]
    checks: tuple[PublicHealthCheck, ...]
    redirects: tuple[PublicRedirectCheck, ...]
    minutes: int
    goes_back: bool
    shows_output: bool
    released_tags: str
    released_regex: str

    @property
    def settings(self) -> tuple[GitHubSetting, ...]:
        """All that its steps read from GitHub, each once."""
        return tuple(dict.fromkeys(setting for way in self.ways for setting in way.settings))


@dataclass(frozen=True)
class ImageSource:
    """A service's source: where its image is kept, and what the image is made of; `own_*` is the spec's part alone.

    `environment`: the only one that runs the image, where the build differs by environment. `workflow` is the image's
    own, `builder` one that builds it. `variables` are those of GitHub whose values are in the image, and in its key.
    `has_several_makers`: several branches or workflows build it, so that its key says which of them did.
    """

    image: str
    service: str
    environment: str
    repository: str
    filters: tuple[PathFilter, ...]
    pathspecs: tuple[str, ...]
    own_pathspecs: tuple[str, ...]
    workflow: str
    builder: str
    digest_output: str
    digest_variable: str
    variables: tuple[str, ...]
    has_several_makers: bool
    is_attested: bool

    @property
    def has_more_than_files(self) -> bool:
        """Whether its key also holds values of variables, or what built the image."""
        return bool(self.variables or self.has_several_makers)

    @property
    def variable_names(self) -> str:
        """The names of its variables, for people."""
        return ", ".join(self.variables)


@dataclass(frozen=True)
class BaseImage:
    """An image of ours that another is built from: the argument that names it, the output and variable of its key.

    `maker` is the branch or workflow that builds it, as a word of the shell.
    """

    argument: str
    source: ImageSource
    output: str
    variable: str
    maker: str


@dataclass(frozen=True)
class ImageBuild:
    """How an image is built; `secrets` are ids and names, `cache` is an image.

    `arguments` has a line for each: plain text, or an expression of one of `variables`; `platforms` is as the action
    takes it; `emulated`: one of them is not the runner's. `scan` are the words of a scanner's `docker run`, of the
    image for `scanned`; `attested` is the image's name as GitHub signs it.
    """

    context: str
    dockerfile: str
    target: str
    arguments: str
    variables: tuple[str, ...]
    secrets: tuple[KeyValue, ...]
    platforms: str
    emulated: bool
    cache: str
    scan: tuple[str, ...]
    scanned: str
    attested: str
    bases: tuple[BaseImage, ...]


@dataclass(frozen=True)
class DeployTarget:
    """One environment that a service's workflow deploys to: containers of one image, the service's own first.

    `condition`: on which runs, where not all of those that build are its.
    """

    deploy: EnvironmentDeploy
    condition: str
    tag: str
    instances: tuple[PlannedService, ...]


@dataclass(frozen=True)
class ServiceWorkflow:
    """Test, build and deploy one image.

    `branches`: those whose pushes it runs on; `stack_filters`: what starts it on a push though it is no part of the
    image: the files of the stacks that its deploys send. `gate` or `gates`: what the build waits for;
    `condition`: which runs build; `is_embedded`: it is a part of an environment's workflow.
    `maker`: what builds the image, a word of the shell, where the key says that. `reuses`: when a person starts it, an
    image of the same source is taken as it is; `tags`: what an image gets, a line each. `seen` is what the build sees
    of the repository.
    """

    source: ImageSource
    branches: tuple[str, ...]
    stack_filters: tuple[PathFilter, ...]
    is_embedded: bool
    build_job: str
    condition: str
    maker: str
    reuses: bool
    tags: str
    seen: str
    tests: tuple[TestJob, ...]
    gate: str
    gates: tuple[str, ...]
    build: ImageBuild
    build_minutes: int
    has_secrets: bool
    before_build: tuple[CustomStep, ...]
    after_deploy: tuple[CustomStep, ...]
    targets: tuple[DeployTarget, ...]

    @property
    def push_filters(self) -> tuple[PathFilter, ...]:
        """The path filters of its pushes, in their order."""
        return (*self.source.filters, *self.stack_filters)

    @property
    def has_outputs(self) -> bool:
        """Whether another job reads what the build job found out."""
        return bool(self.targets) or self.is_embedded

    def jobs(self) -> tuple[str, ...]:
        """Its jobs, in their order."""
        deploys = [f"deploy-{target.deploy.environment}" for target in self.targets]
        return (*(test.job for test in self.tests), self.build_job, *deploys)


@dataclass(frozen=True)
class TriedBuild:
    """A job that builds an image and pushes it nowhere; `seen` is what the build sees of the repository.

    `needs` and `condition` are empty where it runs for every change. `before_build` are the user's own steps.
    """

    job: str
    needs: str
    condition: str
    build: ImageBuild
    minutes: int
    seen: str
    before_build: tuple[CustomStep, ...]


@dataclass(frozen=True)
class PullRequestService:
    """What a pull request runs of a service that it touches; `filters` and `pathspecs` say which files are its own."""

    service: str
    filters: tuple[PathFilter, ...]
    pathspecs: tuple[str, ...]
    tests: tuple[TestJob, ...]
    builds: tuple[TriedBuild, ...]

    @property
    def job_names(self) -> tuple[str, ...]:
        """Its jobs, in their order."""
        return (*(test.job for test in self.tests), *(build.job for build in self.builds))


@dataclass(frozen=True)
class PullRequestWorkflow:
    """The workflow of pull requests and merge queues, for all services.

    `changes_job` says which services a change touches; it is empty where each change runs everything. `check` is the
    job that always reports, a name that branch protection can require. A change of `path`, the workflow itself,
    touches every service. `pushed_branches` are the filter of other branches whose pushes it tests.
    """

    name: str
    path: str
    changes_job: str
    check: str
    pushed_branches: tuple[str, ...]
    services: tuple[PullRequestService, ...]

    def jobs(self) -> tuple[str, ...]:
        """Its jobs, in their order."""
        first_jobs = [self.changes_job] if self.changes_job else []
        return (*first_jobs, *(job for service in self.services for job in service.job_names), self.check)


@dataclass(frozen=True)
class BuiltBranch:
    """A branch whose pushes are built, and the workflows that run there."""

    branch: str
    workflows: tuple[str, ...]


@dataclass(frozen=True)
class EnvironmentWorkflow:
    """An environment's own workflow: a tag, or a person, puts images into it that are there, or builds them.

    Without a tag (`pattern`, `tags` and what else is of one are empty) commits of `branch` are deployed. `by_ref` or
    `by_commit`: what a person chooses, as `commands` show. `job` finds the images, after `builds`; `missing` is the
    cure for one that is not there; `moves`: the environment's tag is moved here, whatever the commit. `maker` is the
    branch or workflow that built the images, a word of the shell; `signed_ref` matches the refs on which it did.
    `find_environment` is what the step that finds images reads. Images are called like the tag, without
    `removed_prefix`.
    """

    name: str
    tags: tuple[str, ...]
    pattern: str
    regex: str
    words: str
    example: str
    removed_prefix: str
    left_alone: tuple[str, ...]
    by_hand: bool
    by_ref: str
    by_commit: bool
    commands: tuple[str, ...]
    branch: str
    tag: str
    moves: bool
    from_environment: str
    job: str
    packages: str
    packages_for: str
    title: str
    missing: str
    maker: str
    signed_ref: str
    checks_signatures: bool
    find_environment: tuple[KeyValue, ...]
    builds: tuple[ServiceWorkflow, ...]
    sources: tuple[ImageSource, ...]
    deploy: EnvironmentDeploy
    after_deploy: tuple[CustomStep, ...]

    @property
    def version_word(self) -> str:
        """What the images of a tag are called, as a variable of the script."""
        return "$version" if self.removed_prefix else "$GITHUB_REF_NAME"

    def jobs(self) -> tuple[str, ...]:
        """Its jobs, in their order."""
        builds = [job for each in self.builds for job in each.jobs()]
        builds = ["check-commit", *builds] if builds else []
        check = ["health-check"] if self.deploy.url else []
        return (*builds, self.job, f"deploy-{self.deploy.environment}", *check)

    @property
    def has_variables(self) -> bool:
        """Whether the key of one of its images holds values of variables."""
        return any(source.variables for source in self.sources)

    def started_by(self) -> str:
        """What starts it, in words."""
        ways = [f"tag {self.pattern}" if self.pattern else "", "by hand" if self.by_hand else ""]
        return " or ".join(filter(None, ways))


@dataclass(frozen=True)
class DriftWorkflow:
    """The workflow that checks the generated files, and how it gets this tool; `source` is what it tells that tool."""

    requirement: str
    repository: str
    commit: str
    spec_path: str
    source: str = ""
