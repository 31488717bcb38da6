"""What a change or a tag would touch, by GitHub's rules for filters.

Source: "Workflow syntax: on.<push|pull_request>.<branches|tags|paths>" and "Events that trigger workflows: push".
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kiwari_ci.github import path_filters
from kiwari_ci.plan import EnvironmentDeploy, EnvironmentWorkflow, Plan, ServiceContainer, ServiceWorkflow
from kiwari_ci.readers.git_history import ChangedFiles

MAX_DIFF_FILES = 300  # files of a diff
MAX_PUSH_COMMITS = 1000  # commits of a push that are still compared
MAX_PUSH_TAGS = 3  # that one push may bring


@dataclass(frozen=True)
class AffectedContainer:
    """A container that gets a new image, and where it answers; without a domain, an empty one."""

    environment: str
    host: str
    container: str
    domain: str


@dataclass(frozen=True)
class AffectedWorkflow:
    """A workflow that runs: on which event, why, and all that it reaches."""

    workflow: str
    on: str
    why: str
    jobs: tuple[str, ...]
    images: tuple[str, ...] = ()
    places: tuple[AffectedContainer, ...] = ()


@dataclass(frozen=True)
class Unaffected:
    """What stays as it is: a workflow or an environment, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class AffectedResult:
    """What would be touched and what not; `by_hand`: what no workflow does; `notes`: the limits that count here."""

    about: str
    touched: tuple[AffectedWorkflow, ...]
    spared: tuple[Unaffected, ...]
    by_hand: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def find_affected_by_files(plan: Plan, change: ChangedFiles, pushed: bool, branch: str = "") -> AffectedResult:
    """What changed files reach: pushed to a branch (the one that is built), or in a pull request into it."""
    branch = branch or plan.build_branch
    push = f"push to {branch}"
    merged = push if pushed else f"merge into {branch}"
    touched, spared, notes = (
        list(_find_drift_runs(plan, merged, branch, pushed)),
        [],
        list(_describe_github_limits(change, pushed)),
    )
    for workflow in plan.workflows:
        is_run, why = _check_service_trigger(workflow, change, branch)
        touched += [_build_affected_service(workflow, merged, why, branch)] if is_run else []
        spared += [] if is_run else [Unaffected(workflow.source.workflow, why)]
    if branch != plan.default_branch and pushed:
        spared.append(Unaffected("pipeline-drift", f"runs on pull requests and on pushes to {plan.default_branch}"))
    spared += [Unaffected(each.name, _describe_promotion_trigger(each)) for each in plan.promotions]
    if pushed and change.skip:
        spared = [Unaffected(each.workflow, f"the newest commit says {change.skip}") for each in touched] + spared
        touched = []
    spared += _find_unaffected_containers(plan, touched)
    return AffectedResult(_describe_changed_files(change, push if pushed else f"pull request into {branch}"), tuple(touched), tuple(spared),
                  tuple(_list_manual_steps(plan, change.files)), tuple(notes))  # fmt: skip


def find_affected_by_tags(plan: Plan, tags: Sequence[str]) -> AffectedResult:
    """What pushing tags reaches, all in one push: a path filter is not asked."""
    about = f"push of the tag{'s' * (len(tags) > 1)} {', '.join(tags)}"
    spared = [Unaffected(each.source.workflow, _explain_branch_trigger(each)) for each in plan.workflows]
    spared.append(Unaffected("pipeline-drift", "runs on pull requests and on pushes to a branch"))
    if len(tags) > MAX_PUSH_TAGS:
        note = f"{len(tags)} tags in one push: from {MAX_PUSH_TAGS + 1} on GitHub makes no event for any: push them one by one"
        spared += [Unaffected(each.name, "no event is made") for each in plan.promotions]
        return AffectedResult(about, (), tuple(spared), notes=(note,))
    touched = []
    for promotion in plan.promotions:
        matching = [tag for tag in tags if path_filters.is_included(promotion.tags, tag)]
        touched += [_build_affected_promotion(promotion, tag) for tag in matching]
        if not matching:
            spared.append(Unaffected(promotion.name, _explain_unmatched_tags(promotion, tags)))
    return AffectedResult(about, tuple(touched), (*spared, *_find_unaffected_containers(plan, touched)))


def is_release_version(promotion: EnvironmentWorkflow, tag: str) -> bool:
    """Whether a tag is one that the promotion takes; another one that its filter matches fails in its first step."""
    return re.fullmatch(promotion.regex, tag) is not None


def _describe_promotion_trigger(promotion: EnvironmentWorkflow) -> str:
    """When an environment's own workflow runs."""
    if not promotion.pattern:
        return f"runs by hand: gh workflow run {promotion.name}.yml"
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
    named = files[0] if len(files) == 1 else f"{len(files)} files"
    return f"{event}: {named}" + (f", {change.said}" if change.said else "")


def _find_drift_runs(plan: Plan, merged: str, branch: str, pushed: bool) -> Iterator[AffectedWorkflow]:
    if not pushed:
        yield AffectedWorkflow("pipeline-drift", "pull request", "runs on every pull request", ("drift",))
    if branch == plan.default_branch:
        yield AffectedWorkflow("pipeline-drift", merged, f"runs on every push to {branch}", ("drift",))


def _describe_github_limits(change: ChangedFiles, pushed: bool) -> Iterator[str]:
    if change.commits > MAX_PUSH_COMMITS:
        yield (
            f"{change.commits} commits: when one push brings more than {MAX_PUSH_COMMITS}, GitHub compares nothing, and every "
            "workflow of that branch runs"
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
        cure = f"gh workflow run {workflow.source.workflow} --ref {branch}"
        return (
            False,
            f"its first match, {path}, is file {index + 1}, and GitHub looks at {MAX_DIFF_FILES}; by hand: {cure}",
        )
    more = f", and {len(matching) - 1} more" if len(matching) > 1 else ""
    return True, f"{path} matches {_find_deciding_pattern(patterns, path)}{more}"


def _find_deciding_pattern(patterns: Sequence[str], path: str) -> str:
    """The pattern that decides: the last that matches."""
    return next((each for each in reversed(patterns) if path_filters.is_included([each.removeprefix("!")], path)), "")


def _explain_unmatched_files(patterns: Sequence[str], files: Sequence[str]) -> str:
    if not files:
        return "no file changed"
    excluding = [(path, found) for path in files if (found := _find_deciding_pattern(patterns, path))]
    if excluding:
        path, found = excluding[0]
        return f"{path} is left out by {found}"
    which = f"{files[0]} matches" if len(files) == 1 else f"of {len(files)} files none matches"
    return f"{which} {'none of its paths: ' if len(files) == 1 else ''}{', '.join(patterns)}"


def _build_affected_service(workflow: ServiceWorkflow, on: str, why: str, branch: str) -> AffectedWorkflow:
    targets = [target for target in workflow.targets if target.deploy.branch == branch]
    tags = [target.tag for target in targets]
    images = tuple(f"{workflow.source.repository}:{tag}" for tag in [*tags, "src-…"])
    places = tuple(_build_affected_container(target.deploy, each) for target in targets for each in target.instances)
    spared = {f"deploy-{each.deploy.environment}" for each in workflow.targets if each not in targets}
    jobs = tuple(job for job in workflow.jobs() if job not in spared)
    return AffectedWorkflow(workflow.source.workflow, on, why, jobs, images, places)


def _build_affected_promotion(promotion: EnvironmentWorkflow, tag: str) -> AffectedWorkflow:
    on = f"tag {tag}"
    if not is_release_version(promotion, tag):
        why = f"{promotion.pattern} matches, and its first job fails: no {promotion.words}"
        return AffectedWorkflow(promotion.name, on, why, promotion.jobs()[:1])
    images = tuple(f"{source.repository}:{each}" for source in promotion.sources for each in (tag, promotion.tag))
    places = tuple(_build_affected_container(promotion.deploy, each) for each in promotion.deploy.stack.instances)
    return AffectedWorkflow(promotion.name, on, f"{promotion.pattern} matches", promotion.jobs(), images, places)


def _build_affected_container(deploy: EnvironmentDeploy, instance: ServiceContainer) -> AffectedContainer:
    return AffectedContainer(deploy.environment, deploy.host, instance.container, instance.domain)


def _find_unaffected_containers(plan: Plan, touched: Sequence[AffectedWorkflow]) -> Iterator[Unaffected]:
    """The environments in which a container stays as it is."""
    reached = {place.container for each in touched for place in each.places}
    own = {each.deploy.environment: each for each in plan.promotions}
    for stack in plan.stacks:
        names = [each.container for each in stack.instances if each.container not in reached]
        until = _describe_next_deploy(own[stack.environment]) if stack.environment in own else ""
        stay = "stays as it is" if len(names) == 1 else "stay as they are"
        if names:
            yield Unaffected(stack.environment, f"{', '.join(names)} {stay}{until}")


def _describe_next_deploy(promotion: EnvironmentWorkflow) -> str:
    return f" until a tag {promotion.pattern}" if promotion.pattern else f" until somebody runs {promotion.name}"


def _list_manual_steps(plan: Plan, files: Sequence[str]) -> Iterator[str]:
    """What changes only when a person does it: compose files and the host program are copied, migrations run."""
    for server in plan.servers:
        folder = f"{server.migrations_directory.rstrip('/')}/"
        if server.migrations_directory and (found := [path for path in files if path.startswith(folder)]):
            yield f"{found[0]}: no workflow runs a migration: by hand, before the deploy that needs it (runbook)"
    copied: dict[str, str] = {}
    for host in plan.hosts:
        for path in (path for stack in host.stacks if not stack.pushed for path in stack.files):
            copied[path] = f"{copied[path]}, {host.name}" if path in copied else host.name
    copied |= {f"deploy/{each.name}/docker-compose.yml": each.host for each in plan.servers}
    copied["deploy/bin/deploy"] = ", ".join(host.name for host in plan.hosts)
    for host in plan.hosts:
        for path in [f"deploy/{path}" for front in host.fronts for path in front.paths()]:
            if path in files:
                yield f"{path}: copy it to {host.name} and have the proxy read it again (runbook)"
    for path, name in copied.items():
        if path in files:
            yield f"{path}: copy it to {name} before the next deploy, which may refuse another (runbook)"
