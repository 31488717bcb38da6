"""Finds what a change or a tag would start and deploy, by GitHub's rules for filters.

Source: "Workflow syntax: on.<push|pull_request>.<branches|tags|paths>" and "Events that trigger workflows: push".
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kiwari_ci.file_output.generated_files import DATABASE_PROGRAM_PATH, HOST_PROGRAM_PATH, ROTATION_PROGRAM_PATH
from kiwari_ci.github_facts import path_filters
from kiwari_ci.plan_model import (
    ChangeOutput,
    ChangesJob,
    DeployTarget,
    EnvironmentDeploy,
    EnvironmentWorkflow,
    ImageJobs,
    Plan,
    PlannedService,
    PullRequestWorkflow,
    ServiceWorkflow,
)
from kiwari_ci.readers.git_history import ChangedFiles

# GitHub's limits: files of a diff that it looks at, commits of a push that it compares, tags of a push.
MAX_DIFF_FILES = 300
MAX_PUSH_COMMITS = 1000
MAX_PUSH_TAGS = 3

_PULL_REQUEST_TRIGGER = "runs on pull requests and in merge queues"


@dataclass(frozen=True)
class AffectedContainer:
    """A container that gets a new image; `url` is its first public address, empty where it has none."""

    environment: str
    host: str
    container: str
    url: str


@dataclass(frozen=True)
class AffectedWorkflow:
    """A workflow that runs: on which event, why, and what it builds and deploys."""

    workflow: str
    on: str
    why: str
    jobs: tuple[str, ...]
    images: tuple[str, ...] = ()
    places: tuple[AffectedContainer, ...] = ()


@dataclass(frozen=True)
class Unaffected:
    """A workflow or an environment that stays as it is, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class AffectedResult:
    """What is affected and what is not; `by_hand` is for a person to do, `notes` are the GitHub limits that apply."""

    about: str
    touched: tuple[AffectedWorkflow, ...]
    spared: tuple[Unaffected, ...]
    by_hand: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def find_affected_by_files(plan: Plan, change: ChangedFiles, pushed: bool, branch: str = "") -> AffectedResult:
    """Find what changed files start: pushed to a branch, by default the one that is built, or in a pull request."""
    branch = branch or plan.build_branch
    event = f"push to {branch}" if pushed else f"merge into {branch}"
    affected = list(_find_drift_runs(plan, event, branch, pushed))
    unaffected: list[Unaffected] = []
    for outcome in (
        *_find_pull_request_outcomes(plan, event, change.files, pushed, branch),
        *_find_service_outcomes(plan, event, change, branch),
        *_list_other_triggers(plan, pushed, branch),
    ):
        if isinstance(outcome, AffectedWorkflow):
            affected.append(outcome)
        else:
            unaffected.append(outcome)
    if pushed and change.skip:
        reason = f"the newest commit says {change.skip}"
        unaffected = [Unaffected(workflow.workflow, reason) for workflow in affected] + unaffected
        affected = []
    unaffected += _find_unaffected_containers(plan, affected)
    return AffectedResult(
        about=_describe_changed_files(change, event if pushed else f"pull request into {branch}"),
        touched=tuple(affected),
        spared=tuple(unaffected),
        by_hand=tuple(_list_manual_steps(plan, change.files)),
        notes=tuple(_describe_github_limits(change, pushed)),
    )


def _find_pull_request_outcomes(
    plan: Plan, event: str, files: Sequence[str], pushed: bool, branch: str
) -> Iterator[AffectedWorkflow | Unaffected]:
    """Find what becomes of the workflow of pull requests, which runs on pushes to some branches, too."""
    for pull_requests in plan.pull_requests:
        if not pushed:
            yield _build_pull_request_run(pull_requests, files, "pull request", "runs on every pull request")
            yield from _find_untouched_services(pull_requests, files)
        elif path_filters.is_included(pull_requests.pushed_branches, branch):
            yield _build_pull_request_run(pull_requests, files, event, f"runs on every push to {branch}")
            yield from _find_untouched_services(pull_requests, files)
        else:
            yield Unaffected(pull_requests.name, _PULL_REQUEST_TRIGGER)


def _find_service_outcomes(
    plan: Plan, event: str, change: ChangedFiles, branch: str
) -> Iterator[AffectedWorkflow | Unaffected]:
    """Find what becomes of the workflows of services."""
    for workflow in plan.workflows:
        runs, reason = _check_service_trigger(workflow, change, branch)
        if runs:
            yield _build_affected_workflow(workflow, event, reason, change.files, branch)
        else:
            yield Unaffected(workflow.name, reason)


def _list_other_triggers(plan: Plan, pushed: bool, branch: str) -> Iterator[Unaffected]:
    """List the workflows that this event does not start, whatever files changed."""
    if branch != plan.default_branch and pushed:
        yield Unaffected("pipeline-drift", f"runs on pull requests and on pushes to {plan.default_branch}")
    for promotion in plan.promotions:
        yield Unaffected(promotion.name, _describe_promotion_trigger(promotion))


def find_affected_by_tags(plan: Plan, tags: Sequence[str]) -> AffectedResult:
    """Find what pushing tags starts, all in one push; path filters do not apply to tags."""
    about = f"push of the {'tag' if len(tags) == 1 else 'tags'} {', '.join(tags)}"
    unaffected = [Unaffected(workflow.name, _explain_branch_trigger(workflow)) for workflow in plan.workflows]
    unaffected.append(Unaffected("pipeline-drift", "runs on pull requests and on pushes to a branch"))
    unaffected += [Unaffected(workflow.name, _PULL_REQUEST_TRIGGER) for workflow in plan.pull_requests]
    if len(tags) > MAX_PUSH_TAGS:
        note = f"{len(tags)} tags in one push: from {MAX_PUSH_TAGS + 1} on GitHub makes no event for any: "
        note += "push them one by one"
        unaffected += [Unaffected(promotion.name, "no event is made") for promotion in plan.promotions]
        return AffectedResult(about, (), tuple(unaffected), notes=(note,))
    affected = []
    for promotion in plan.promotions:
        matching_tags = [tag for tag in tags if path_filters.is_included(promotion.tags, tag)]
        affected += [_build_affected_promotion(promotion, tag) for tag in matching_tags]
        if not matching_tags:
            unaffected.append(Unaffected(promotion.name, _explain_unmatched_tags(promotion, tags)))
    unaffected += _find_unaffected_containers(plan, affected)
    return AffectedResult(about, tuple(affected), tuple(unaffected))


def is_release_version(promotion: EnvironmentWorkflow, tag: str) -> bool:
    """Whether the promotion accepts a tag; one that only its filter matches fails in the first job."""
    return re.fullmatch(promotion.regex, tag) is not None


def _describe_promotion_trigger(promotion: EnvironmentWorkflow) -> str:
    """When an environment's own workflow runs."""
    if not promotion.pattern:
        ref = " --ref BRANCH" if promotion.run_base else ""
        return f"runs by hand: gh workflow run {promotion.name}.yml{ref}"
    return f"runs on a tag {promotion.pattern}, whatever files changed"


def _explain_unmatched_tags(promotion: EnvironmentWorkflow, tags: Sequence[str]) -> str:
    if not promotion.pattern:
        return _describe_promotion_trigger(promotion)
    return f"{', '.join(promotion.tags)} does not match {', '.join(tags)}"


def _explain_branch_trigger(workflow: ServiceWorkflow) -> str:
    """Why a tag alone does not start a service's workflow."""
    branches = " and ".join(workflow.branches)
    return f"runs on pushes to {branches}: a filter of branches alone takes no tag, whatever files changed"


def _describe_changed_files(change: ChangedFiles, event: str) -> str:
    files = change.files
    summary = files[0] if len(files) == 1 else f"{len(files)} files"
    if change.source:
        summary += f", {change.source}"
    return f"{event}: {summary}"


def _find_drift_runs(plan: Plan, event: str, branch: str, pushed: bool) -> Iterator[AffectedWorkflow]:
    if not pushed:
        yield AffectedWorkflow("pipeline-drift", "pull request", "runs on every pull request", ("drift",))
    if branch == plan.default_branch:
        yield AffectedWorkflow("pipeline-drift", event, f"runs on every push to {branch}", ("drift",))


def _build_pull_request_run(
    workflow: PullRequestWorkflow, files: Sequence[str], event: str, reason_to_run: str
) -> AffectedWorkflow:
    """Build what a pull request runs: the jobs of the services that it touches, between those that always run."""
    if not workflow.changes:
        return AffectedWorkflow(workflow.name, event, "runs everything, whatever changes", workflow.jobs())
    [changes] = workflow.changes
    reasons = [reason_to_run]
    jobs = [changes.job]
    for service in workflow.services:
        reason = _find_touching_file(changes, service.change, files)
        if reason:
            reasons.append(f"{service.service}: {reason}")
            jobs += service.job_names
    jobs.append(workflow.check)
    return AffectedWorkflow(workflow.name, event, "; ".join(reasons), tuple(jobs))


def _find_untouched_services(workflow: PullRequestWorkflow, files: Sequence[str]) -> Iterator[Unaffected]:
    for changes in workflow.changes:
        yield from _find_services_without_a_change(workflow, changes, files)


def _find_services_without_a_change(
    workflow: PullRequestWorkflow, changes: ChangesJob, files: Sequence[str]
) -> Iterator[Unaffected]:
    for service in workflow.services:
        if not _find_touching_file(changes, service.change, files):
            patterns = [path_filter.pattern for path_filter in service.change.filters]
            yield Unaffected(f"{workflow.name} for {service.service}", _explain_unmatched_files(patterns, files))


def _find_touching_file(changes: ChangesJob, output: ChangeOutput, files: Sequence[str]) -> str:
    """Why a service's jobs run, with the first file that it is for; empty when they do not run."""
    if changes.touches_all in files:
        return f"{changes.touches_all} changes, which is for every service"
    patterns = [path_filter.pattern for path_filter in output.filters]
    for path in files:
        if path_filters.is_included(patterns, path):
            return f"{path} matches {_find_deciding_pattern(patterns, path)}"
    return ""


def _describe_github_limits(change: ChangedFiles, pushed: bool) -> Iterator[str]:
    if change.commits > MAX_PUSH_COMMITS:
        yield (
            f"{change.commits} commits: when one push brings more than {MAX_PUSH_COMMITS}, GitHub compares nothing, "
            "and every workflow of that branch runs"
        )
    elif len(change.files) > MAX_DIFF_FILES:
        yield f"{len(change.files)} files: GitHub looks at the first {MAX_DIFF_FILES} of them, by path, and at no other"
    if change.skip and not pushed:
        yield f"the newest commit says {change.skip}: the pull request runs nothing; a merge, by its own message"


def _check_service_trigger(workflow: ServiceWorkflow, change: ChangedFiles, branch: str) -> tuple[bool, str]:
    """Whether a service's workflow runs for a push to a branch, and why or why not."""
    patterns = [path_filter.pattern for path_filter in workflow.push_filters]
    if branch not in workflow.branches:
        return False, f"runs on pushes to {' and '.join(workflow.branches)} only"
    if change.commits > MAX_PUSH_COMMITS:
        return True, f"more than {MAX_PUSH_COMMITS} commits: its paths are not asked"
    matching = [(index, path) for index, path in enumerate(change.files) if path_filters.is_included(patterns, path)]
    if not matching:
        return False, _explain_unmatched_files(patterns, change.files)
    index, path = matching[0]
    if index >= MAX_DIFF_FILES:
        reason = f"its first match, {path}, is file {index + 1}, and GitHub looks at {MAX_DIFF_FILES}"
        return False, f"{reason}; by hand: gh workflow run {workflow.name} --ref {branch}"
    more = f", and {len(matching) - 1} more" if len(matching) > 1 else ""
    return True, f"{path} matches {_find_deciding_pattern(patterns, path)}{more}"


def _find_deciding_pattern(patterns: Sequence[str], path: str) -> str:
    """The last pattern that matches a path, which decides; empty when none matches."""
    for pattern in reversed(patterns):
        if path_filters.is_included([pattern.removeprefix("!")], path):
            return pattern
    return ""


def _explain_unmatched_files(patterns: Sequence[str], files: Sequence[str]) -> str:
    if not files:
        return "no file changed"
    for path in files:
        excluding_pattern = _find_deciding_pattern(patterns, path)
        if excluding_pattern:
            return f"{path} is left out by {excluding_pattern}"
    if len(files) == 1:
        return f"{files[0]} matches none of its paths: {', '.join(patterns)}"
    return f"of {len(files)} files none matches {', '.join(patterns)}"


def _build_affected_workflow(
    workflow: ServiceWorkflow, event: str, reason: str, files: Sequence[str], branch: str
) -> AffectedWorkflow:
    """Build what a push runs: all jobs of a workflow of one image, or those for the services that it touches."""
    targets = [target for target in workflow.targets if target.deploy.branch == branch]
    touched_images = _list_touched_images(workflow, targets, files)
    built_images = [image for image in touched_images if branch in image.branches]
    build_jobs = _list_build_jobs(workflow, built_images)
    tests = dict.fromkeys(
        test.job for image in workflow.images if image.build_job in build_jobs for test in image.tests
    )
    deployed = {target.job: _list_deployed(target, built_images) for target in targets}
    return AffectedWorkflow(
        workflow=workflow.name,
        on=event,
        why=reason,
        jobs=(
            *(changes.job for changes in workflow.changes),
            *tests,
            *build_jobs,
            *(job for job, instances in deployed.items() if instances),
        ),
        images=tuple(
            f"{image.source.repository}:{tag}"
            for image in built_images
            for tag in (*_list_tags(image, targets), "src-…")
        ),
        places=tuple(
            _build_affected_container(target.deploy, instance)
            for target in targets
            for instance in deployed[target.job]
        ),
    )


def _list_touched_images(
    workflow: ServiceWorkflow, targets: Sequence[DeployTarget], files: Sequence[str]
) -> list[ImageJobs]:
    """List the images whose source changes, or whose environment gets changed files; all if no job compares them."""
    if not workflow.changes:
        return list(workflow.images)
    touched = [output for job in workflow.changes for output in job.outputs if _find_touching_file(job, output, files)]
    services = {output.name for output in touched}
    environments = {output.environment for output in touched}
    sent = [target for target in targets if target.deploy.environment in environments]
    return [
        image
        for image in workflow.images
        if image.source.service in services or any(_list_deployed(target, [image]) for target in sent)
    ]


def _list_build_jobs(workflow: ServiceWorkflow, images: Sequence[ImageJobs]) -> list[str]:
    """List the jobs that build images, or find those that they are built from."""
    jobs: set[str] = set()
    for image in reversed(workflow.images):  # an image comes after those that it is built from
        if image in images or image.build_job in jobs:
            jobs |= {image.build_job, *image.build.base_jobs}
    return [image.build_job for image in workflow.images if image.build_job in jobs]


def _list_deployed(target: DeployTarget, images: Sequence[ImageJobs]) -> list[PlannedService]:
    """List what runs one of some images in an environment."""
    names = {image.source.image for image in images}
    return [instance for instance in target.instances if instance.source in names]


def _list_tags(image: ImageJobs, targets: Sequence[DeployTarget]) -> list[str]:
    """List the tags of the environments that run an image."""
    return [target.tag for target in targets if _list_deployed(target, [image])]


def _build_affected_promotion(promotion: EnvironmentWorkflow, tag: str) -> AffectedWorkflow:
    event = f"tag {tag}"
    if not is_release_version(promotion, tag):
        reason = f"{promotion.pattern} matches, but its first job fails: the tag is not of the form {promotion.words}"
        return AffectedWorkflow(promotion.name, event, reason, promotion.jobs()[:1])
    image_tags = (tag, promotion.tag)
    instances = promotion.deploy.instances
    return AffectedWorkflow(
        workflow=promotion.name,
        on=event,
        why=f"{promotion.pattern} matches",
        jobs=promotion.jobs(),
        images=tuple(f"{source.repository}:{image_tag}" for source in promotion.sources for image_tag in image_tags),
        places=tuple(_build_affected_container(promotion.deploy, instance) for instance in instances),
    )


def _build_affected_container(deploy: EnvironmentDeploy, instance: PlannedService) -> AffectedContainer:
    return AffectedContainer(deploy.environment, deploy.host, instance.container, instance.url)


def _find_unaffected_containers(plan: Plan, affected: Sequence[AffectedWorkflow]) -> Iterator[Unaffected]:
    """Find the environments in which a container stays as it is."""
    deployed = {container.container for workflow in affected for container in workflow.places}
    promotions = {promotion.deploy.environment: promotion for promotion in plan.promotions}
    for stack in plan.stacks:
        names = [instance.container for instance in stack.instances if instance.container not in deployed]
        if not names:
            continue
        words = f"{', '.join(names)} {'stays as it is' if len(names) == 1 else 'stay as they are'}"
        if stack.environment in promotions:
            words += _describe_next_deploy(promotions[stack.environment])
        yield Unaffected(stack.environment, words)


def _describe_next_deploy(promotion: EnvironmentWorkflow) -> str:
    return f" until a tag {promotion.pattern}" if promotion.pattern else f" until somebody runs {promotion.name}"


def _list_manual_steps(plan: Plan, files: Sequence[str]) -> Iterator[str]:
    """List what changes only when a person does it: migrations run, compose files and the host program are copied."""
    yield from _list_migrations(plan, files)
    for path, step in _iter_files_placed_by_hand(plan):
        if path in files:
            yield f"{path}: {step}"


def _list_migrations(plan: Plan, files: Sequence[str]) -> Iterator[str]:
    for server in plan.servers:
        folder = f"{server.migrations_directory.rstrip('/')}/"
        migrations = [path for path in files if path.startswith(folder)]
        if server.migrations_directory and migrations:
            yield f"{migrations[0]}: no workflow runs a migration: by hand, before the deploy that needs it (runbook)"


def _iter_files_placed_by_hand(plan: Plan) -> Iterator[tuple[str, str]]:
    """Each file that no deploy places, and what a person does when it changes."""
    for host in plan.hosts:
        for proxy_stack in host.fronts:
            for path in proxy_stack.paths():
                yield f"deploy/{path}", f"copy it to {host.name} and have the proxy read it again (runbook)"
    for cluster in plan.clusters:
        for path in (cluster.setup_path, *(path for stack in cluster.stacks for path in stack.applied_by_hand)):
            yield path, f"apply it to {cluster.name}, before the deploy that needs it (runbook)"
    for path, host_names in _find_copied_files(plan).items():
        yield path, f"copy it to {', '.join(host_names)} before the next deploy, which may refuse another (runbook)"


def _find_copied_files(plan: Plan) -> dict[str, list[str]]:
    """By path, the hosts that a person copies a file to."""
    host_names: dict[str, list[str]] = {}
    for host in plan.hosts:
        for stack in host.stacks:
            for path in () if stack.pushed else stack.files:
                host_names.setdefault(path, []).append(host.name)
    for server in plan.servers:
        host_names[f"deploy/{server.name}/docker-compose.yml"] = [server.host]
    for program in (HOST_PROGRAM_PATH, DATABASE_PROGRAM_PATH, ROTATION_PROGRAM_PATH):
        host_names[program] = [host.name for host in plan.hosts]
    return host_names
