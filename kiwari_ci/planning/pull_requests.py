"""Pull requests, merge queues and pushes to tested branches: services are tested, and one job reports for all."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from kiwari_ci import schema
from kiwari_ci.effective_spec import EffectiveImage, EffectiveSpec
from kiwari_ci.github_facts import path_filters
from kiwari_ci.plan_model import (
    ChangesJob,
    CheckedJob,
    ImageSource,
    PathFilter,
    PullRequestService,
    PullRequestWorkflow,
    TestJob,
    TriedBuild,
)
from kiwari_ci.planning import builds, changes_jobs, test_jobs
from kiwari_ci.planning.steps import ActionPins, plan_custom_steps

WORKFLOW_NAME = "pull-requests"
WORKFLOW_PATH = f".github/workflows/{WORKFLOW_NAME}.yml"
CHECK_NAME = "all-passed"
_MERGE_QUEUE_BRANCH = "gh-readonly-queue/main/pr-1"  # one that GitHub makes, for which `merge_group` starts a run
_MERGE_QUEUE_FILTER = "gh-readonly-queue/**"


def plan_pull_request_workflows(spec: EffectiveSpec, actions: ActionPins) -> tuple[PullRequestWorkflow, ...]:
    """Plan the workflow of pull requests, if there is anything to test or to build in them."""
    if not spec.project.pull_requests:
        return ()
    # An image that differs by environment has the same source everywhere: the first one is tried for all.
    first_images = [spec.images_of(service)[0] for service in dict.fromkeys(image.service for image in spec.images)]
    shared_workflows = test_jobs.find_shared_workflows(spec.services)
    services = [_plan_service(image, shared_workflows, actions) for image in first_images]
    checked_services = tuple(service for service in services if service.job_names)
    if not checked_services:
        return ()
    shared_tests = tuple(_plan_shared_tests(first_images, shared_workflows, actions))
    pushed_branches = tuple(_list_pushed_branches(spec))
    forked_from = spec.project.default_branch if pushed_branches else ""
    changes = [_plan_changes(checked_services, forked_from)] if _tests_what_is_touched(spec) else []
    return (
        PullRequestWorkflow(
            name=WORKFLOW_NAME,
            path=WORKFLOW_PATH,
            changes=tuple(changes),
            check=CHECK_NAME,
            pushed_branches=pushed_branches,
            shared_tests=shared_tests,
            services=checked_services,
            checked_jobs=tuple(_list_checked_jobs(shared_tests, checked_services, has_changes=bool(changes))),
        ),
    )


def _plan_changes(services: tuple[PullRequestService, ...], forked_from: str) -> ChangesJob:
    base = "github.event.merge_group.base_sha || 'HEAD^1'"
    depth = "${{ github.event_name == 'merge_group' && '0' || '2' }}"
    depth_reason = "a merge group can have several commits"
    if forked_from:
        base = "github.event.merge_group.base_sha || (github.event_name == 'push' && github.event.before) || 'HEAD^1'"
        depth = "${{ github.event_name == 'pull_request' && '2' || '0' }}"
        depth_reason = "a merge group or a push can have several commits"
    return ChangesJob(
        job=changes_jobs.JOB,
        base=base,
        depth=depth,
        depth_reason=depth_reason,
        forked_from=forked_from,
        touches_all=WORKFLOW_PATH,
        sequence="",
        outputs=tuple(service.change for service in services),
    )


def _tests_what_is_touched(spec: EffectiveSpec) -> bool:
    """Whether a change runs the jobs of the services that it touches, and not all jobs."""
    return spec.project.tested_services == "touched"


def _list_pushed_branches(spec: EffectiveSpec) -> Iterator[str]:
    """List the filter of branches whose pushes are tested; those that others test are left out of its patterns."""
    patterns = spec.project.tested_branches or []
    yield from patterns
    for branch in (*spec.built_branches, _MERGE_QUEUE_BRANCH):
        if path_filters.is_included(patterns, branch):
            yield f"!{_MERGE_QUEUE_FILTER if branch == _MERGE_QUEUE_BRANCH else branch}"


def _plan_service(
    image: EffectiveImage, shared_workflows: Mapping[str, Sequence[str]], actions: ActionPins
) -> PullRequestService:
    service = image.service
    model = image.spec.services[service]
    needs, condition = "", ""
    if _tests_what_is_touched(image.spec):
        needs, condition = changes_jobs.JOB, changes_jobs.format_touched([service])
    source = builds.plan_image_source(image)
    tests = _plan_tests(image, shared_workflows, actions)
    # A pull request has no secrets, and no image of another service's new source.
    can_be_built = not builds.reads_secrets(model) and not model.build.base
    tried_builds = (_plan_tried_build(image, source, needs, condition, actions),) if can_be_built else ()
    change = changes_jobs.plan_change_output(service, [*source.filters, *_list_called_workflows(model)])
    return PullRequestService(
        change=change,
        shared_jobs=tuple(test.job for test in tests if test.workflow in shared_workflows),
        tests=tuple(test for test in tests if test.workflow not in shared_workflows),
        builds=tried_builds,
    )


def _plan_tests(
    image: EffectiveImage, shared_workflows: Mapping[str, Sequence[str]], actions: ActionPins
) -> tuple[TestJob, ...]:
    """Plan the tests of a service; one that calls a shared workflow is planned alike for each of its services."""
    service = image.service
    tests = []
    for test in test_jobs.plan_test_jobs(image.spec.services[service], actions, may_deploy=False):
        needs, condition = "", ""
        if _tests_what_is_touched(image.spec):
            callers = shared_workflows.get(test.workflow, [service])
            needs, condition = changes_jobs.JOB, changes_jobs.format_touched(callers)
        job = test_jobs.name_test_job(test, service, shared_workflows)
        tests.append(replace(test, job=job, needs=needs, condition=condition))
    return tuple(tests)


def _plan_shared_tests(
    images: Sequence[EffectiveImage], shared_workflows: Mapping[str, Sequence[str]], actions: ActionPins
) -> Iterator[TestJob]:
    """Plan the tests that several services have, each once."""
    tests = [test for image in images for test in _plan_tests(image, shared_workflows, actions)]
    yield from dict.fromkeys(test for test in tests if test.workflow in shared_workflows)


def _list_checked_jobs(
    shared_tests: Sequence[TestJob], services: Sequence[PullRequestService], *, has_changes: bool
) -> Iterator[CheckedJob]:
    for test in shared_tests:
        yield CheckedJob(test.job, test.condition)
    for service in services:
        touched = f"needs.{changes_jobs.JOB}.outputs.{service.service}" if has_changes else ""
        for job in service.own_jobs:
            yield CheckedJob(job, touched)


def _plan_tried_build(
    image: EffectiveImage, source: ImageSource, needs: str, condition: str, actions: ActionPins
) -> TriedBuild:
    build = builds.plan_image_build(image)
    return TriedBuild(
        job=f"build-{image.service}",
        needs=needs,
        condition=condition,
        build=build,
        minutes=builds.estimate_build_minutes(build),
        seen=builds.list_seen_paths(source),
        before_build=plan_custom_steps(image.spec.services[image.service].steps.before_build, actions),
    )


def _list_called_workflows(service: schema.Service) -> Iterator[PathFilter]:
    for name in test_jobs.list_called_workflows(service):
        yield PathFilter(f".github/workflows/{name}", "has its tests")
