"""Workflows: test, build, deploy, promote, and the check."""

import re

from kiwari_ci.frozen import dataclass
from kiwari_ci.plan_model.base import GitHubSetting, KeyValue, PinnedAction
from kiwari_ci.plan_model.hosts import JumpHost, ProxyCommand, SshPort
from kiwari_ci.plan_model.stacks import PlannedService, Stack


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
    scheme: str
    url: str
    status: int
    asks_password: bool
    to_go_back: str


@dataclass(frozen=True)
class PublicRedirectCheck:
    """A domain that must redirect to another one, both with the same scheme."""

    scheme: str
    domain: str
    target: str


@dataclass(frozen=True)
class EnvironmentDeploy:
    """A deploy of one environment, a step for each of its hosts, in order.

    `host` names its hosts for people, `folder` is that of its stack. Files that several stacks have are in
    `folders_of_shared_files`, and `copies_of_shared_files` are their paths, and those of their copies. `branch` is the
    one whose commits are counted; `ref` is what the job checks out, empty for the run's own commit. `instances` are all
    that the environment runs. `superseded` is the condition that a host has something newer. `values` are what each
    step's env has from earlier jobs, as expressions. `goes_back`: an older commit that a person chose is put back.
    `shows_output`: of containers, also in a public log. `released_tags` and `released_regex` match the tags of which a
    newer one may overtake this deploy; empty for a deploy of no tag. `served_version` is the version that serves, by
    its number in `NEWER`, as a word of the shell; empty where commits are counted. `run_base` is what was added to the
    number of a run of `workflow`, where runs order the deploys; otherwise 0. `first_steps` are the user's own, which a
    host is reached by. `runner` is empty when the runner must have several labels.
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
    folders_of_shared_files: tuple[str, ...]
    copies_of_shared_files: tuple[KeyValue, ...]
    instances: tuple[PlannedService, ...]
    checks: tuple[PublicHealthCheck, ...]
    redirects: tuple[PublicRedirectCheck, ...]
    minutes: int
    goes_back: bool
    workflow: str
    run_base: int
    shows_output: bool
    released_tags: str
    released_regex: str
    served_version: str

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
class ImageBuild:
    """How an image is built; `secrets` are ids and names, `cache` is an image.

    `arguments` has a line for each: plain text, or an expression of one of `variables`; `platforms` is as the action
    takes it; `emulated`: one of them is not the runner's. `base_jobs` are the jobs of the same workflow that have the
    images that it is built from. `scan` are the words of a scanner's `docker run`, of the
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
    base_jobs: tuple[str, ...]


@dataclass(frozen=True)
class DeployTarget:
    """One environment that a push deploys to: containers of the images of one workflow, in the order of the services.

    `gate` or `gates`: the jobs that it waits for; `condition`: on which runs, where not on all of them.
    """

    deploy: EnvironmentDeploy
    gate: str
    gates: tuple[str, ...]
    condition: str
    tag: str
    instances: tuple[PlannedService, ...]
    after_deploy: tuple[CustomStep, ...]

    @property
    def job(self) -> str:
        """The job that deploys."""
        return f"deploy-{self.deploy.environment}"


@dataclass(frozen=True)
class ImageJobs:
    """The jobs that test and build one image.

    `gate` or `gates`: what the build waits for; `condition`: which runs build. `branches`: those whose pushes deploy
    it, not those that deploy an image which is built from it. `counts_commits`: the job
    also has the sequence number of the deploy.
    `maker`: what builds the image, a word of the shell, where the key says that. `reuses`: an image of the same source
    is taken as it is, in runs for which `reused_when` is true (in all, if it is empty), and `reports_reuse`: a deploy
    asks for that. `tags`: what an image gets, a line each. `seen` is what the build sees of the repository.
    """

    source: ImageSource
    build_job: str
    branches: tuple[str, ...]
    condition: str
    maker: str
    reuses: bool
    reused_when: str
    reports_reuse: bool
    tags: str
    seen: str
    tests: tuple[TestJob, ...]
    gate: str
    gates: tuple[str, ...]
    build: ImageBuild
    build_minutes: int
    has_secrets: bool
    counts_commits: bool
    before_build: tuple[CustomStep, ...]

    def jobs(self) -> tuple[str, ...]:
        """Its jobs, in their order."""
        return (*(test.job for test in self.tests), self.build_job)


@dataclass(frozen=True)
class ChangeOutput:
    """An output of the job that compares: `true` if a change touches a file that the path filters match.

    It has the name of a service. With `environment`, it is about the files that deploys of this environment send.
    `pathspecs` are the filters as git takes them.
    """

    name: str
    filters: tuple[PathFilter, ...]
    pathspecs: tuple[str, ...]
    environment: str = ""


@dataclass(frozen=True)
class ChangesJob:
    """The job that tells which services a change touches: an output for each, `true` or `false`.

    `base` is the expression of the commit to compare with, and `depth` how much of the history is fetched for that,
    with the reason. A push is compared with the commit at which its branch left the branch `forked_from`. A change of
    `touches_all`, a path, touches all services. `sequence` is the output with the number
    of the commit. They are empty for none.
    """

    job: str
    base: str
    depth: int | str
    depth_reason: str
    forked_from: str
    touches_all: str
    sequence: str
    outputs: tuple[ChangeOutput, ...]


@dataclass(frozen=True)
class ServiceWorkflow:
    """Test, build and deploy the image of one service, or those of several that wait for one another.

    `branches`: those whose pushes it runs on; `push_filters`: the files that start it. `changes` is the job that tells
    which of several images are built; a workflow of one image needs none. `images` are in the order in which they are
    built.
    """

    name: str
    root: str
    branches: tuple[str, ...]
    push_filters: tuple[PathFilter, ...]
    changes: tuple[ChangesJob, ...]
    images: tuple[ImageJobs, ...]
    targets: tuple[DeployTarget, ...]

    def jobs(self) -> tuple[str, ...]:
        """Its jobs, in their order."""
        changes = [changes.job for changes in self.changes]
        tests = dict.fromkeys(test.job for image in self.images for test in image.tests)
        builds = [image.build_job for image in self.images]
        return (*changes, *tests, *builds, *(target.job for target in self.targets))

    @property
    def tests(self) -> tuple[TestJob, ...]:
        """The tests of its images; two images of one service have the same."""
        return tuple({test.job: test for image in self.images for test in image.tests}.values())


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
    """What a pull request runs of a service that it touches.

    `shared_jobs` are the names of tests that other services have as well; `tests` and `builds` are its own.
    """

    change: ChangeOutput
    shared_jobs: tuple[str, ...]
    tests: tuple[TestJob, ...]
    builds: tuple[TriedBuild, ...]

    @property
    def service(self) -> str:
        """The name of the service."""
        return self.change.name

    @property
    def own_jobs(self) -> tuple[str, ...]:
        """The jobs that are for no other service, in their order."""
        return (*(test.job for test in self.tests), *(build.job for build in self.builds))

    @property
    def job_names(self) -> tuple[str, ...]:
        """All its jobs, in their order."""
        return (*self.shared_jobs, *self.own_jobs)


@dataclass(frozen=True)
class CheckedJob:
    """A job that must pass if a change touches what it is for.

    `touched` is the expression that is `true` then; empty for a job that runs for every change.
    """

    job: str
    touched: str


@dataclass(frozen=True)
class PullRequestWorkflow:
    """The workflow of pull requests and merge queues, for all services.

    `changes` has the job that tells which services a change touches: one of `path`, the workflow itself, touches all.
    It is empty where each change runs everything. `check` is the job that always reports, a name that branch
    protection can require, and `checked_jobs` what it looks at. `pushed_branches` are the filter of other branches
    whose pushes it tests. `shared_tests` are those that several services have.
    """

    name: str
    path: str
    changes: tuple[ChangesJob, ...]
    check: str
    pushed_branches: tuple[str, ...]
    shared_tests: tuple[TestJob, ...]
    services: tuple[PullRequestService, ...]
    checked_jobs: tuple[CheckedJob, ...]

    def jobs(self) -> tuple[str, ...]:
        """Its jobs, in their order."""
        first_jobs = [changes.job for changes in self.changes]
        return (*first_jobs, *(checked.job for checked in self.checked_jobs), self.check)

    @property
    def changes_job(self) -> str:
        """The name of the job that tells which services a change touches; empty where each change runs everything."""
        return "".join(changes.job for changes in self.changes)


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
    `removed_prefix`. A tagged commit is on one of `branches`, in words. `orders_by_version`: the number of the version
    orders the deploys, for several branches; then `branch_refs` are the patterns of these for git. `run_base`: the
    number of the run orders the deploys of any branch that `branch_regex` matches, and this is added to it; otherwise
    0. `history` is why the job that finds images needs all commits; empty where it needs none.
    """

    name: str
    tags: tuple[str, ...]
    pattern: str
    regex: str
    words: str
    example: str
    removed_prefix: str
    by_hand: bool
    by_ref: str
    by_commit: bool
    commands: tuple[str, ...]
    branch: str
    branches: str
    branch_refs: tuple[str, ...]
    branch_regex: str
    orders_by_version: bool
    run_base: int
    history: str
    tag: str
    moves: bool
    from_environment: str
    job: str
    title: str
    missing: str
    maker: str
    signed_ref: str
    checks_signatures: bool
    find_environment: tuple[KeyValue, ...]
    builds: tuple[ImageJobs, ...]
    sources: tuple[ImageSource, ...]
    deploy: EnvironmentDeploy
    after_deploy: tuple[CustomStep, ...]

    def number_of(self, tag: str) -> int:
        """The number of a version, as the workflow computes it: three digits for each of its numbers."""
        match = re.fullmatch(self.regex, tag)
        number = 0
        for group in match.groups() if match else ():
            number = number * 1000 + int(group)
        return number

    def tag_of(self, number: int) -> str:
        """The tag of a version with this number."""
        prefix, _, suffix = self.pattern.partition("*")
        numbers = [number // 1000**place % 1000 for place in reversed(range(4 if suffix else 3))]
        version = ".".join(map(str, numbers[:3]))
        return prefix + version + suffix.replace("*", str(numbers[-1]))

    @property
    def packages(self) -> str:
        """The permission for the registry of the job that finds images."""
        return "write" if self.pattern or self.moves else "read"

    @property
    def packages_for(self) -> str:
        """What the job that finds images does at the registry."""
        if self.pattern:
            return "add tags to images"
        return "move a tag" if self.moves else "find images"

    @property
    def looks_up_tags(self) -> bool:
        """Whether it asks the registry which image has a tag; without tags, it knows the images that it has built."""
        return not self.builds or bool(self.tags)

    @property
    def version_word(self) -> str:
        """What the images of a tag are called, as a variable of the script."""
        return "$version" if self.removed_prefix else "$GITHUB_REF_NAME"

    def jobs(self) -> tuple[str, ...]:
        """Its jobs, in their order."""
        builds = [job for build in self.builds for job in build.jobs()]
        builds = ["check-commit", *builds] if builds else []
        check = ["health-check"] if self.checks_in_own_job else []
        return (*builds, self.job, f"deploy-{self.deploy.environment}", *check)

    @property
    def checks_in_own_job(self) -> bool:
        """Whether the health checks are a job. Steps after the deploy come after them, in the job of the deploy."""
        return bool(self.deploy.checks) and not self.after_deploy

    @property
    def has_variables(self) -> bool:
        """Whether the key of one of its images holds values of variables."""
        return any(source.variables for source in self.sources)

    def started_by(self) -> str:
        """What starts it, in words."""
        by_hand = f"by hand, from {self.branches}" if self.run_base else "by hand"
        ways = [f"tag {self.pattern}" if self.pattern else "", by_hand if self.by_hand else ""]
        return " or ".join(filter(None, ways))


@dataclass(frozen=True)
class DriftWorkflow:
    """The workflow that checks the generated files, and how it gets this tool; `source` is what it tells that tool."""

    requirement: str
    repository: str
    commit: str
    spec_path: str
    source: str = ""
