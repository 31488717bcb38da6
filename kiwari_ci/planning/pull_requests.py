"""Pull requests and merge queues: the services that a change touches are tested, and one job reports for all."""

from collections.abc import Iterator
from dataclasses import replace

from kiwari_ci.effective import EffectiveImage, EffectiveSpec
from kiwari_ci.github import path_filters
from kiwari_ci.plan import ImageSource, PathFilter, PullRequestService, PullRequestWorkflow, TestJob, TriedBuild
from kiwari_ci.planning import builds, test_jobs
from kiwari_ci.planning.steps import ActionPins, plan_custom_steps

WORKFLOW_NAME = "pull-requests"
WORKFLOW_PATH = f".github/workflows/{WORKFLOW_NAME}.yml"
CHANGES_JOB = "changes"
CHECK_NAME = "all-passed"
_MERGE_QUEUE_BRANCH = "gh-readonly-queue/main/pr-1"  # one that GitHub makes, for which `merge_group` starts a run
_MERGE_QUEUE_FILTER = "gh-readonly-queue/**"


def plan_pull_request_workflows(spec: EffectiveSpec, actions: ActionPins) -> tuple[PullRequestWorkflow, ...]:
    """Plan the workflow of pull requests, if there is anything to test or to build in them."""
    if not spec.project.pull_requests:
        return ()
    # An image that differs by environment has the same source everywhere: the first one is tried for all.
    first_images = [spec.images_of(service)[0] for service in dict.fromkeys(image.service for image in spec.images)]
    services = [_plan_service(image, actions) for image in first_images]
    checked_services = tuple(service for service in services if service.job_names)
    if not checked_services:
        return ()
    return (
        PullRequestWorkflow(
            name=WORKFLOW_NAME,
            path=WORKFLOW_PATH,
            changes_job=_name_changes_job(spec),
            check=CHECK_NAME,
            pushed_branches=tuple(_list_pushed_branches(spec)),
            services=checked_services,
        ),
    )


def _name_changes_job(spec: EffectiveSpec) -> str:
    """Name the job that finds the touched services; empty where all are tested in any case."""
    return CHANGES_JOB if spec.project.tested_services == "touched" else ""


def _list_pushed_branches(spec: EffectiveSpec) -> Iterator[str]:
    """List the filter of branches whose pushes are tested; those that others test are left out of its patterns."""
    patterns = spec.project.tested_branches or []
    yield from patterns
    for branch in (*spec.built_branches, _MERGE_QUEUE_BRANCH):
        if path_filters.is_included(patterns, branch):
            yield f"!{_MERGE_QUEUE_FILTER if branch == _MERGE_QUEUE_BRANCH else branch}"


def _plan_service(image: EffectiveImage, actions: ActionPins) -> PullRequestService:
    service = image.service
    model = image.spec.services[service]
    changes_job = _name_changes_job(image.spec)
    condition = f"needs.{changes_job}.outputs.{service} == 'true'" if changes_job else ""
    source = builds.plan_image_source(image)
    tests = tuple(
        replace(test, job=test_jobs.name_test_job(test.job, service), needs=changes_job, condition=condition)
        for test in test_jobs.plan_test_jobs(model, actions, may_deploy=False)
    )
    # A pull request has no secrets, and no image of another service's new source.
    can_be_built = not builds.reads_secrets(model) and not model.build.base
    tried_builds = (_plan_tried_build(image, source, changes_job, condition, actions),) if can_be_built else ()
    filters = _list_filters(source, tests)
    pathspecs = path_filters.build_git_pathspecs([path_filter.pattern for path_filter in filters])
    return PullRequestService(service, filters, tuple(pathspecs), tests, tried_builds)


def _plan_tried_build(
    image: EffectiveImage, source: ImageSource, needs: str, condition: str, actions: ActionPins
) -> TriedBuild:
    build = builds.plan_image_build(image, builds.BRANCH_OF_RUN)
    return TriedBuild(
        job=f"build-{image.service}",
        needs=needs,
        condition=condition,
        build=build,
        minutes=builds.estimate_build_minutes(build),
        seen=builds.list_seen_paths(source),
        before_build=plan_custom_steps(image.spec.services[image.service].steps.before_build, actions),
    )


def _list_filters(source: ImageSource, tests: tuple[TestJob, ...]) -> tuple[PathFilter, ...]:
    """List the path filters of an image and of its tests; exclusions come last."""
    filters = [*source.filters, *_list_called_workflows(tests)]
    return tuple(sorted(filters, key=lambda path_filter: path_filter.pattern.startswith("!")))


def _list_called_workflows(tests: tuple[TestJob, ...]) -> Iterator[PathFilter]:
    for name in dict.fromkeys(test.workflow for test in tests if test.workflow):
        yield PathFilter(f".github/workflows/{name}", "has its tests")
