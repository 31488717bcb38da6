"""Pull requests and merge queues: the services that a change touches are tested, and one job reports for all."""

from collections.abc import Iterator
from dataclasses import replace

from kiwari_ci.effective import EffectiveImage, EffectiveSpec
from kiwari_ci.plan import (
    ChangesJob,
    ImageSource,
    PathFilter,
    PullRequestService,
    PullRequestWorkflow,
    TestJob,
    TriedBuild,
)
from kiwari_ci.planning import builds, changes_jobs, test_jobs
from kiwari_ci.planning.steps import ActionPins

WORKFLOW_NAME = "pull-requests"
WORKFLOW_PATH = f".github/workflows/{WORKFLOW_NAME}.yml"
CHECK_NAME = "all-passed"


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
    changes = ChangesJob(
        job=changes_jobs.JOB,
        base="github.event.merge_group.base_sha || 'HEAD^1'",
        depth="${{ github.event_name == 'merge_group' && '0' || '2' }}",
        depth_reason="a merge group can have several commits",
        touches_all=WORKFLOW_PATH,
        sequence="",
        services=tuple(service.changed for service in checked_services),
    )
    return (PullRequestWorkflow(WORKFLOW_NAME, WORKFLOW_PATH, changes, CHECK_NAME, checked_services),)


def _plan_service(image: EffectiveImage, actions: ActionPins) -> PullRequestService:
    service = image.service
    model = image.spec.services[service]
    condition = changes_jobs.format_touched([service])
    source = builds.plan_image_source(image)
    tests = tuple(
        replace(test, job=test_jobs.name_test_job(test.job, service), needs=changes_jobs.JOB, condition=condition)
        for test in test_jobs.plan_test_jobs(model, actions)
    )
    # A pull request has no secrets, and no image of another service's new source.
    can_be_built = not model.build.secrets and not model.build.base
    tried_builds = (_plan_tried_build(image, source, condition),) if can_be_built else ()
    changed = changes_jobs.plan_changed_service(service, [*source.filters, *_list_called_workflows(tests)])
    return PullRequestService(changed, tests, tried_builds)


def _plan_tried_build(image: EffectiveImage, source: ImageSource, condition: str) -> TriedBuild:
    build = builds.plan_image_build(image)
    return TriedBuild(
        job=f"build-{image.service}",
        needs=changes_jobs.JOB,
        condition=condition,
        build=build,
        minutes=builds.estimate_build_minutes(build),
        seen=builds.list_seen_paths(source),
    )


def _list_called_workflows(tests: tuple[TestJob, ...]) -> Iterator[PathFilter]:
    for name in dict.fromkeys(test.workflow for test in tests if test.workflow):
        yield PathFilter(f".github/workflows/{name}", "has its tests")
