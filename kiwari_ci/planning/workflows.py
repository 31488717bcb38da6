"""Workflows: test, build, deploy, promote."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from kiwari_ci import schema
from kiwari_ci.effective_spec import (
    EffectiveEnvironment,
    EffectiveHost,
    EffectiveImage,
    EffectiveService,
    ImageGroup,
    VersionTagPattern,
)
from kiwari_ci.effective_spec.branch_patterns import format_branch_regex, format_branch_words
from kiwari_ci.engines.all_engines import find_engine
from kiwari_ci.engines.base import StepOfDeploy
from kiwari_ci.plan_model import (
    ChangeOutput,
    ChangesJob,
    CustomStep,
    DeployStep,
    DeployTarget,
    EnvironmentDeploy,
    EnvironmentWorkflow,
    ImageJobs,
    ImageSource,
    KeyValue,
    PathFilter,
    PlannedService,
    PublicHealthCheck,
    PublicRedirectCheck,
    ServiceWorkflow,
    Stack,
    TestJob,
)
from kiwari_ci.planning import builds, changes_jobs, test_jobs
from kiwari_ci.planning.stacks import EnvironmentStacks, find_first_url
from kiwari_ci.planning.steps import ActionPins, plan_custom_steps
from kiwari_ci.readers.duration import parse_duration

BUILD_JOB = "build-and-push"
CHECK_COMMIT_JOB = "check-commit"
_UNAUTHORIZED = 401  # the status of HTTP: the whole module `http` takes time to load
_EXAMPLE_VERSION = "0.1.0"
# Added to the run number, so that it is higher than any count of commits before it, and any version or candidate below
# 999.0.0, whose number has three digits for each part. The hosts take numbers of up to 12 digits.
_RUN_BASE = 999_000_000_000
_SEQUENCE_OUTPUT = "sequence_number"  # no service has such a name
# Of a deploy, which needs jobs that a run may skip. One that ran too long is cancelled, which `failure()` is not.
_NOTHING_FAILED = "!failure() && !cancelled() && !contains(needs.*.result, 'cancelled')"


def plan_service_workflow(group: ImageGroup, stacks: EnvironmentStacks, actions: ActionPins) -> ServiceWorkflow:
    """Plan the workflow that pushes start, of one image or of several that wait for one another."""
    if len(group.images) > 1 or _sends_files_of_several_branches(group.root, stacks):
        return _SharedWorkflow(group, stacks, actions).build()
    return _OwnWorkflow(group, stacks, actions).build()


def _sends_files_of_several_branches(image: EffectiveImage, stacks: EnvironmentStacks) -> bool:
    """Whether a push has to be compared, for the files of a stack count only on the branch of its environment."""
    return len(image.build_branches) > 1 and any(
        _list_stack_filters(environment, stacks) for environment in _list_push_environments(image)
    )


class _OwnWorkflow:
    """Plans the workflow of one image: each job needs the one before it."""

    def __init__(self, group: ImageGroup, stacks: EnvironmentStacks, actions: ActionPins) -> None:
        self.image = group.root
        self.spec = group.root.spec
        self.workflow = group.workflow
        self.stacks = stacks
        self.actions = actions

    def build(self) -> ServiceWorkflow:
        """Build the plan."""
        targets = tuple(self._plan_target(environment) for environment in _list_push_environments(self.image))
        image_jobs = self._plan_image_jobs()
        return ServiceWorkflow(
            name=self.workflow,
            root=self.image.service,
            branches=tuple(self.image.build_branches),
            push_filters=(*image_jobs.source.filters, *self._list_all_stack_filters()),
            changes=(),
            images=(image_jobs,),
            targets=targets,
        )

    def _list_all_stack_filters(self) -> Iterator[PathFilter]:
        for environment in _list_push_environments(self.image):
            yield from _list_stack_filters(environment, self.stacks)

    def _plan_image_jobs(self) -> ImageJobs:
        tests = test_jobs.plan_test_jobs(self.spec.services[self.image.service], self.actions, may_deploy=True)
        gate, gates = _split_gates([test.job for test in tests])
        return replace(
            _plan_image_jobs(self.image, self.actions),
            build_job=BUILD_JOB,
            condition=_format_any_branch(self.image.build_branches),
            tags=_list_push_tags(self.image),
            tests=tests,
            gate=gate,
            gates=gates,
            counts_commits=True,
        )

    def _plan_target(self, environment: EffectiveEnvironment) -> DeployTarget:
        services = _list_deployed_services(environment, self.image)
        digests = {self.image.name: f"needs.{BUILD_JOB}.outputs.digest"}
        sequence = f"needs.{BUILD_JOB}.outputs.sequence"
        return DeployTarget(
            deploy=_plan_deploy(environment, self.stacks, self.actions, services, digests, sequence),
            gate=BUILD_JOB,
            gates=(),
            condition=_format_push_condition(self.image, environment),
            tag=environment.image_tag,
            instances=tuple(self.stacks.list_instances(environment, environment.first_host, services)),
            after_deploy=plan_custom_steps(self.spec.services[self.image.service].steps.after_deploy, self.actions),
        )


class _SharedWorkflow:
    """Plans the workflow of several images, or of several branches: a first job tells what a push touches.

    All tests and builds of what a push touches come before the deploy of an environment, which puts all that is new
    into it in one request: the program on the host has the order of `depends_on`.
    """

    def __init__(self, group: ImageGroup, stacks: EnvironmentStacks, actions: ActionPins) -> None:
        self.group = group
        self.spec = group.root.spec
        self.images = builds.order_for_builds(group.images)
        self.branches = list(dict.fromkeys(branch for image in self.images for branch in image.build_branches))
        pushed = {environment for image in group.images for environment in _list_push_environments(image)}
        self.environments = [environment for environment in self.spec.environments.values() if environment in pushed]
        self.stacks = stacks
        self.actions = actions
        self.shared_workflows = _find_shared_workflows(self.images)
        self.tests = {image: tuple(self._plan_tests(image)) for image in self.images}

    def build(self) -> ServiceWorkflow:
        """Build the plan."""
        service_outputs = self._plan_service_outputs()
        stack_outputs = self._plan_stack_outputs()
        stack_filters = [path_filter for output in stack_outputs for path_filter in output.filters]
        return ServiceWorkflow(
            name=self.group.workflow,
            root=self.group.root.service,
            branches=tuple(self.branches),
            push_filters=_merge_filters([output.filters for output in service_outputs], stack_filters),
            changes=(self._plan_changes([*service_outputs, *stack_outputs]),),
            images=tuple(self._plan_image_jobs(image) for image in self.images),
            targets=tuple(self._plan_target(environment) for environment in self.environments),
        )

    def _plan_tests(self, image: EffectiveImage) -> Iterator[TestJob]:
        service = image.service
        for test in test_jobs.plan_test_jobs(self.spec.services[service], self.actions, may_deploy=True):
            callers = self.shared_workflows.get(test.workflow)
            images = [other for other in self.images if other.service in callers] if callers else [image]
            yield replace(
                test,
                job=test_jobs.name_test_job(test, service, self.shared_workflows),
                needs=changes_jobs.JOB,
                condition=self._format_condition(images),
            )

    def _plan_service_outputs(self) -> list[ChangeOutput]:
        filters: dict[str, list[PathFilter]] = {}
        for image in self.group.images:
            filters.setdefault(image.service, []).extend(builds.plan_image_source(image).filters)
        return [
            changes_jobs.plan_change_output(service, service_filters) for service, service_filters in filters.items()
        ]

    def _plan_stack_outputs(self) -> list[ChangeOutput]:
        """Plan the outputs that tell whether the files of a stack changed, if a deploy sends them."""
        outputs = []
        for environment in self.environments:
            filters = _list_stack_filters(environment, self.stacks)
            if filters:
                output = changes_jobs.plan_change_output(_name_stack_output(environment), filters)
                outputs.append(replace(output, environment=environment.name))
        return outputs

    def _plan_changes(self, outputs: list[ChangeOutput]) -> ChangesJob:
        return ChangesJob(
            job=changes_jobs.JOB,
            base="github.event.before",
            depth=0,
            depth_reason="a push can have several commits, and the sequence number counts all",
            forked_from="",
            touches_all="",
            sequence=_SEQUENCE_OUTPUT,
            outputs=tuple(outputs),
        )

    def _plan_image_jobs(self, image: EffectiveImage) -> ImageJobs:
        has_dependents = bool(self._list_dependents(image))
        own_gates = [*(test.job for test in self.tests[image]), *map(builds.name_build_job, image.bases)]
        gate, gates = _split_gates(list(dict.fromkeys([changes_jobs.JOB, *own_gates])))
        return replace(
            _plan_image_jobs(image, self.actions),
            condition=self._format_condition([image], names_all_branches=True),
            reuses=has_dependents,
            reused_when=self._format_untouched(image),
            reports_reuse=bool(has_dependents and _list_push_environments(image)),
            tags=_list_push_tags(image),
            tests=self.tests[image],
            gate=gate,
            gates=gates,
        )

    def _list_dependents(self, image: EffectiveImage) -> list[EffectiveImage]:
        """List the images that are built from an image, directly or not."""
        return [other for other in self.images if image in builds.list_all_bases(other)]

    def _format_condition(self, images: Sequence[EffectiveImage], names_all_branches: bool = False) -> str:
        """Format the condition that one of some images is tested or built, for itself or for what is built from it.

        Then no job that a build needs is skipped, and an image is built only after its tests. What is deployed from
        some branches only is named together with these. If that are all branches of the workflow, a test does not name
        them, so that a person can also start it on another branch; a build does (`names_all_branches`).
        """
        branches_by_outputs = self._group_branches(images)
        is_for_all_branches = list(branches_by_outputs.values()) == [self.branches]
        if is_for_all_branches and not names_all_branches:
            return changes_jobs.format_touched(*branches_by_outputs)
        terms = [
            _join_conditions([changes_jobs.format_touched(outputs), _format_any_branch(branches)])
            for outputs, branches in branches_by_outputs.items()
        ]
        return " || ".join(f"({term})" if len(terms) > 1 else term for term in terms)

    def _group_branches(self, images: Sequence[EffectiveImage]) -> dict[tuple[str, ...], list[str]]:
        """Group the branches by what must be touched on them for one of some images to be built."""
        groups: dict[tuple[str, ...], list[str]] = {}
        for branch in self.branches:
            outputs = dict.fromkeys(output for image in images for output in self._list_causes(image, branch))
            if outputs:
                groups.setdefault(tuple(outputs), []).append(branch)
        return groups

    def _list_causes(self, image: EffectiveImage, branch: str) -> list[str]:
        """List the outputs of the first job that an image is built for on a branch, for itself or for another."""
        built_from = (image, *self._list_dependents(image))
        outputs = [output for source in built_from for output in self._list_outputs(source, branch)]
        return [image.service, *outputs] if outputs else []

    def _list_outputs(self, image: EffectiveImage, branch: str) -> list[str]:
        """List the outputs of the first job that an image is deployed for from a branch: its own, and those of stacks.

        All environments of the branch are deployed then: an image of this source must not be another one in each.
        """
        environments = [
            environment for environment in _list_push_environments(image) if environment.deploy_branch == branch
        ]
        stacks = [
            _name_stack_output(environment)
            for environment in environments
            if _list_stack_filters(environment, self.stacks)
        ]
        return [image.service, *stacks] if environments else []

    def _format_untouched(self, image: EffectiveImage) -> str:
        """Format the condition that a push touches neither an image nor what a deploy sends with it."""
        outputs = dict.fromkeys(output for branch in self.branches for output in self._list_outputs(image, branch))
        names = list(outputs) or [image.service]
        return " && ".join(f"needs.{changes_jobs.JOB}.outputs.{name} == 'false'" for name in names)

    def _plan_target(self, environment: EffectiveEnvironment) -> DeployTarget:
        images = [image for image in self.group.images if environment in image.environments]
        services = [service for image in images for service in _list_deployed_services(environment, image)]
        branch = environment.deploy_branch
        outputs = dict.fromkeys(output for image in images for output in self._list_outputs(image, branch))
        terms = [
            _NOTHING_FAILED,
            changes_jobs.format_touched(list(outputs)),
            _format_branch_condition(environment.deploy_branch),
        ]
        built = dict.fromkeys(built for image in images for built in (*builds.list_all_bases(image), image))
        gates = [changes_jobs.JOB]
        for image in built:
            gates += [*(test.job for test in self.tests[image]), builds.name_build_job(image)]
        digests = {image.name: self._format_digest(image) for image in images}
        sequence = f"needs.{changes_jobs.JOB}.outputs.{_SEQUENCE_OUTPUT}"
        return DeployTarget(
            deploy=_plan_deploy(environment, self.stacks, self.actions, services, digests, sequence),
            gate="",
            gates=tuple(dict.fromkeys(gates)),
            condition=_join_conditions(terms),
            tag=environment.image_tag,
            instances=tuple(self.stacks.list_instances(environment, environment.first_host, services)),
            after_deploy=tuple(self._plan_after_deploy(images, branch)),
        )

    def _format_digest(self, image: EffectiveImage) -> str:
        """Format the digest of an image, or the word for a service that this run has no new image for.

        An output that GitHub drops is empty, and the program that deploys refuses that.
        """
        job = f"needs.{builds.name_build_job(image)}"
        is_unchanged = f"{job}.result == 'skipped'"
        if self._list_dependents(image):
            is_unchanged = f"({is_unchanged} || {job}.outputs.reused == 'true')"
        return f"{is_unchanged} && 'unchanged' || {job}.outputs.digest"

    def _plan_after_deploy(self, images: list[EffectiveImage], branch: str) -> Iterator[CustomStep]:
        """Plan the steps of services, each for runs that touch a service that has it."""
        outputs: dict[CustomStep, list[str]] = {}
        for image in images:
            for step in plan_custom_steps(self.spec.services[image.service].steps.after_deploy, self.actions):
                outputs.setdefault(step, []).extend(self._list_outputs(image, branch))
        for step, names in outputs.items():
            touched = changes_jobs.format_touched(list(dict.fromkeys(names)))
            yield replace(step, condition=_join_conditions([step.condition, touched]))


def _plan_image_jobs(image: EffectiveImage, actions: ActionPins) -> ImageJobs:
    """Plan what the jobs of an image are in each workflow that builds it."""
    spec = image.spec
    source = builds.plan_image_source(image)
    build = builds.plan_image_build(image)
    return ImageJobs(
        source=source,
        build_job=builds.name_build_job(image),
        branches=tuple(dict.fromkeys(environment.deploy_branch for environment in _list_push_environments(image))),
        condition="",
        maker=builds.BRANCH_OF_RUN,
        reuses=False,
        reused_when="",
        reports_reuse=False,
        tags=_format_source_tag(source.repository),
        seen=builds.list_seen_paths(source),
        tests=(),
        gate="",
        gates=(),
        build=build,
        build_minutes=builds.estimate_build_minutes(build),
        has_secrets=builds.has_build_secrets(spec, image.service),
        counts_commits=False,
        before_build=plan_custom_steps(spec.services[image.service].steps.before_build, actions),
    )


def _list_push_environments(image: EffectiveImage) -> list[EffectiveEnvironment]:
    return [environment for environment in image.environments if environment.is_deployed_on_push]


def _list_deployed_services(environment: EffectiveEnvironment, image: EffectiveImage) -> list[str]:
    """List what runs an image in an environment: the service itself, before other processes of its image."""
    services = [image.service] if image.service in environment.services else []
    services += [service.name for service in environment.services_of(image) if service.name != image.service]
    return services


def _list_stack_filters(environment: EffectiveEnvironment, stacks: EnvironmentStacks) -> list[PathFilter]:
    """List what starts a deploy of files alone: without it, a commit that only raises a limit would wait."""
    filters = [
        PathFilter(f"deploy/{stack.source_folder}/**", "a deploy sends these files")
        for stack in stacks.list_stacks(environment)
        if stack.pushed
    ]
    shared_files = dict.fromkeys(environment.model.shared_files.values())
    return [*filters, *(PathFilter(path, "a deploy sends this file") for path in shared_files)]


def _name_stack_output(environment: EffectiveEnvironment) -> str:
    """Name the output that tells whether the files of a stack changed; no service can have this name."""
    return f"stack_{environment.name}"


def _merge_filters(filters: list[tuple[PathFilter, ...]], stack_filters: list[PathFilter]) -> tuple[PathFilter, ...]:
    """Merge the path filters of services: what starts one of them, and is left out only where all leave it out."""
    merged: dict[str, PathFilter] = {}
    for path_filter in itertools.chain(*filters, stack_filters):
        is_exclusion = path_filter.pattern.startswith("!")
        if not is_exclusion or all(path_filter in others for others in filters):
            merged.setdefault(path_filter.pattern, path_filter)
    return tuple(sorted(merged.values(), key=lambda path_filter: path_filter.pattern.startswith("!")))


def _format_branch_condition(branch: str) -> str:
    return f"github.ref == 'refs/heads/{branch}'"


def _format_any_branch(branches: Iterable[str]) -> str:
    """Format the condition of the runs of some branches."""
    return " || ".join(_format_branch_condition(branch) for branch in branches)


def _format_push_condition(image: EffectiveImage, environment: EffectiveEnvironment) -> str:
    """Format the condition of the builds that are for an environment; empty where all are."""
    return _format_branch_condition(environment.deploy_branch) if len(image.build_branches) > 1 else ""


def _join_conditions(terms: list[str]) -> str:
    """Join conditions that must all be true; an empty one is always."""
    present = [term for term in terms if term]
    return " && ".join(f"({term})" if " || " in term and len(present) > 1 else term for term in present)


def _list_push_tags(image: EffectiveImage) -> str:
    """List the tag of each environment, with the condition of the runs that are for it, and the tag of the source."""
    tags = []
    for environment in _list_push_environments(image):
        tag = f"{image.repository}:{environment.image_tag}"
        condition = _format_push_condition(image, environment)
        tags.append(f"${{{{ {condition} && '{tag}' || '' }}}}" if condition else tag)
    return "\n".join([*tags, _format_source_tag(image.repository)])


def _format_source_tag(repository: str) -> str:
    return f"{repository}:${{{{ steps.source.outputs.key }}}}"


def _split_gates(jobs: list[str]) -> tuple[str, tuple[str, ...]]:
    """Tell what a job waits for: the name of one job, or the names of several."""
    if len(jobs) > 1:
        return "", tuple(jobs)
    return "".join(jobs), ()


def _plan_embedded_builds(environment: EffectiveEnvironment, actions: ActionPins) -> tuple[ImageJobs, ...]:
    """Plan the tests and builds of an environment's own workflow, which deploys by itself.

    A tag always builds. A person may go back to an older source, whose image the host must have run already.
    """
    if not environment.has_own_builds:
        return ()
    built = [image for image in environment.spec.images if image.is_built_for(environment)]
    images = builds.order_for_builds(tuple(built))
    shared_workflows = _find_shared_workflows(images)
    planned_tests: set[TestJob] = set()
    embedded = []
    for image in images:
        jobs = _embed_build(environment, image, shared_workflows, actions)
        # A workflow that the tests of several services call is one job, the first image's.
        first_tests = tuple(test for test in jobs.tests if test not in planned_tests)
        planned_tests.update(first_tests)
        embedded.append(replace(jobs, tests=first_tests))
    return tuple(embedded)


def _find_shared_workflows(images: Sequence[EffectiveImage]) -> dict[str, list[str]]:
    """Find the workflows that the tests of several of these images' services call, each with these services."""
    return test_jobs.find_shared_workflows({image.service: image.spec.services[image.service] for image in images})


def _embed_build(
    environment: EffectiveEnvironment,
    image: EffectiveImage,
    shared_workflows: Mapping[str, Sequence[str]],
    actions: ActionPins,
) -> ImageJobs:
    service = image.service
    tests = tuple(
        replace(test, job=test_jobs.name_test_job(test, service, shared_workflows), needs=CHECK_COMMIT_JOB)
        for test in test_jobs.plan_test_jobs(environment.spec.services[service], actions, may_deploy=True)
    )
    is_run = environment in image.environments
    # A version is built anew; a person may deploy it again. Without tags, every run is started by a person.
    is_started_by_tags = environment.tag_pattern is not None
    base_jobs = [builds.name_build_job(base) for base in image.bases]
    test_names = list(dict.fromkeys(test.job for test in tests))
    gate, gates = _split_gates([*(test_names or [CHECK_COMMIT_JOB]), *base_jobs])
    return replace(
        _plan_image_jobs(image, actions),
        build_job=f"build-{service}",
        maker=environment.workflow,
        reuses=bool(environment.model.deploy_on.dispatch) or not is_run,
        reused_when="github.event_name == 'workflow_dispatch'" if is_run and is_started_by_tags else "",
        tests=tests,
        gate=gate,
        gates=gates,
    )


def plan_environment_workflow(
    environment: EffectiveEnvironment, stacks: EnvironmentStacks, actions: ActionPins
) -> EnvironmentWorkflow:
    """Plan the workflow of one environment alone."""
    spec, deploy_on, pattern = environment.spec, environment.model.deploy_on, environment.tag_pattern
    image_environment = spec.environments[environment.model.promote or environment.name]
    images = [image for image in spec.images if environment in image.environments]
    sources = tuple(builds.plan_image_source(image) for image in images)
    embedded_builds = _plan_embedded_builds(environment, actions)
    checks_signatures = _checks_signatures(environment, embedded_builds, sources)
    job = _image_job_name(environment)
    return EnvironmentWorkflow(
        name=environment.workflow,
        tags=tuple(environment.tag_filter),
        pattern=pattern.text if pattern else "",
        regex=pattern.regex if pattern else "",
        words=pattern.words if pattern else "",
        example=pattern.example(_EXAMPLE_VERSION) if pattern else "",
        removed_prefix=environment.removed_tag_prefix,
        by_hand=bool(deploy_on.dispatch),
        by_ref=_describe_ref_choice(environment),
        by_commit=_accepts_commit(environment),
        commands=_list_run_commands(environment) if deploy_on.dispatch else (),
        branch=environment.deploy_branch,
        branches=format_branch_words(environment.release_branches),
        branch_refs=_list_branch_refs(environment),
        branch_regex=format_branch_regex(environment.release_branches) if environment.is_ordered_by_run else "",
        orders_by_version=environment.is_ordered_by_version,
        run_base=_find_run_base(environment),
        history=_explain_fetched_history(environment),
        tag=environment.image_tag,
        moves=not pattern and not deploy_on.push,
        from_environment=image_environment.name,
        job=job,
        title=_format_find_step_title(environment.model),
        missing=_suggest_missing_image(image_environment),
        maker=image_environment.image_maker,
        signed_ref=_match_signed_refs(image_environment, is_built_here=environment.has_own_builds),
        checks_signatures=checks_signatures,
        find_environment=tuple(_plan_find_environment(embedded_builds, sources, checks_signatures)),
        builds=embedded_builds,
        sources=tuple(_name_builders(image_environment, images, sources, is_built_here=environment.has_own_builds)),
        deploy=_plan_environment_deploy(environment, stacks, actions, sources, job),
        after_deploy=_plan_steps_after_deploy(environment, actions),
    )


def _checks_signatures(
    environment: EffectiveEnvironment, embedded_builds: tuple[ImageJobs, ...], sources: tuple[ImageSource, ...]
) -> bool:
    """Whether the job that finds images checks their signatures; it trusts what the same run has just built."""
    is_found_by_tag = not embedded_builds or bool(environment.model.deploy_on.dispatch)
    return is_found_by_tag and any(source.is_attested for source in sources)


def _list_branch_refs(environment: EffectiveEnvironment) -> tuple[str, ...]:
    """List the patterns of the branches for git, where the number of the version orders the deploys."""
    if not environment.is_ordered_by_version:
        return ()
    return tuple(f"refs/remotes/origin/{branch}" for branch in environment.release_branches)


def _plan_steps_after_deploy(environment: EffectiveEnvironment, actions: ActionPins) -> tuple[CustomStep, ...]:
    services = environment.spec.services
    steps = [step for name in environment.services for step in services[name].steps.after_deploy]
    return plan_custom_steps(steps, actions)


def _name_builders(
    environment: EffectiveEnvironment,
    images: list[EffectiveImage],
    sources: tuple[ImageSource, ...],
    is_built_here: bool,
) -> Iterator[ImageSource]:
    """Name the workflow that built each image for an environment: the image's own, or that of the environment."""
    is_built_by_pushes = environment.is_deployed_on_push and not is_built_here
    for image, source in zip(images, sources, strict=True):
        yield replace(source, builder=image.workflow if is_built_by_pushes else environment.workflow)


def _find_run_base(environment: EffectiveEnvironment) -> int:
    """Find what is added to the number of a run to order the deploys; 0 where commits or versions have an order."""
    return _RUN_BASE if environment.is_ordered_by_run else 0


def _explain_fetched_history(environment: EffectiveEnvironment) -> str:
    """Explain why the job that finds images needs all commits; empty where it needs none."""
    if environment.is_ordered_by_run:
        return ""
    if environment.is_ordered_by_version:
        return "the version is compared with all branches and tags"
    return "the sequence number counts all commits"


def _match_signed_refs(environment: EffectiveEnvironment, is_built_here: bool) -> str:
    """Write the regular expression of the refs whose runs may sign the images of an environment."""
    if environment.is_ordered_by_run:
        return f"refs/heads/{format_branch_regex(environment.release_branches)}"
    branch = "refs/heads/" + environment.deploy_branch.replace(".", "[.]")
    is_built_by_pushes = environment.is_deployed_on_push and not is_built_here
    return branch if is_built_by_pushes else f"({branch}|refs/tags/.+)"


def _plan_find_environment(
    embedded_builds: tuple[ImageJobs, ...], sources: tuple[ImageSource, ...], checks_signatures: bool
) -> Iterator[KeyValue]:
    """Plan what the step that finds images reads: what this run built, or the values that are in the keys."""
    if checks_signatures:
        yield KeyValue("GH_TOKEN", "${{ github.token }}")
    for jobs in embedded_builds:
        if jobs.source in sources:
            yield KeyValue(jobs.source.digest_variable, f"${{{{ needs.{jobs.build_job}.outputs.digest }}}}")
    if not embedded_builds:
        for variable in dict.fromkeys(variable for source in sources for variable in source.variables):
            yield KeyValue(f"VARIABLE_{variable}", f"${{{{ vars.{variable} }}}}")


def _image_job_name(environment: EffectiveEnvironment) -> str:
    """Name the job that finds the images."""
    if environment.is_promoted:
        return "promote-images"
    return "tag-images" if environment.tag_pattern else "find-images"


def _format_find_step_title(environment: schema.Environment) -> str:
    """Name the step that finds the images."""
    is_tagged = environment.deploy_on.tag is not None
    if environment.promote:
        tagging = ", and tag it" if is_tagged else ""
        return f"Find what {environment.promote} built from this source{tagging}"
    tagging = ", and tag them" if is_tagged else ""
    return f"Find the images of this source{tagging}"


def _describe_ref_choice(environment: EffectiveEnvironment) -> str:
    """Describe what a person chooses who starts a deploy; empty where that is a commit, or nobody does."""
    if not environment.model.deploy_on.dispatch:
        return ""
    if environment.is_ordered_by_run:
        return "with a branch as the ref; its newest commit is tested, built and deployed"
    if environment.tag_pattern:
        return f"with a tag {environment.tag_pattern.text} as the ref; an older commit is put back"
    if environment.has_own_builds:
        return f"with {environment.deploy_branch}, or a tag of a commit of it, as the ref; an older commit is put back"
    return ""


def _list_run_commands(environment: EffectiveEnvironment) -> tuple[str, ...]:
    """List the commands by which a person starts it: with the newest commit, and with an older one."""
    branch = environment.deploy_branch
    run = f"gh workflow run {environment.workflow}.yml --ref"
    if environment.is_ordered_by_run:
        return (f"{run} BRANCH # {format_branch_words(environment.release_branches)}",)
    if environment.tag_pattern:
        return (f"{run} {environment.tag_pattern.example(_EXAMPLE_VERSION)}",)
    if environment.has_own_builds:
        return (f"{run} {branch}", f"{run} TAG # of an older commit")
    return (f"{run} {branch}", f"{run} {branch} -f commit=COMMIT # all 40 digits")


def _suggest_missing_image(environment: EffectiveEnvironment) -> str:
    """Say what to do for an image that is not there: what builds it."""
    branch = environment.model.deploy_on.push
    if branch:
        return f"wait for that workflow, or run it on {branch}; then run this job again"
    cause = f"a tag {environment.tag_pattern.text}" if environment.tag_pattern else "hand"
    return f"{environment.workflow} has it built, by {cause}; then run this job again"


def _plan_environment_deploy(
    environment: EffectiveEnvironment,
    stacks: EnvironmentStacks,
    actions: ActionPins,
    sources: tuple[ImageSource, ...],
    job: str,
) -> EnvironmentDeploy:
    """Plan a deploy of all services of an environment, whose images an earlier job has found."""
    digests = {source.image: f"needs.{job}.outputs.{source.digest_output}" for source in sources}
    sequence = f"needs.{job}.outputs.sequence"
    deploy = _plan_deploy(environment, stacks, actions, list(environment.services), digests, sequence)
    ref = "${{ inputs.commit || github.sha }}" if _accepts_commit(environment) else ""
    pattern = environment.tag_pattern
    return replace(
        deploy,
        ref=ref,
        goes_back=bool(environment.model.deploy_on.dispatch) and not environment.is_ordered_by_run,
        workflow=environment.workflow,
        run_base=_find_run_base(environment),
        released_tags=pattern.text if pattern else "",
        released_regex=pattern.regex if pattern else "",
        served_version=_format_served_version(pattern) if pattern and environment.is_ordered_by_version else "",
    )


def _format_served_version(pattern: VersionTagPattern) -> str:
    """Format the tag of a version whose number is in `NEWER`, as a word of the shell."""
    places = reversed(range(pattern.number_count))
    numbers = [f"$((NEWER / {1000**place} % 1000))" for place in places]
    return pattern.prefix + ".".join(numbers[:3]) + pattern.suffix.replace("*", numbers[-1])


def _accepts_commit(environment: EffectiveEnvironment) -> bool:
    """Whether a person who starts a deploy may name a commit, for the environment has neither tags nor builds."""
    return not environment.tag_pattern and not environment.has_own_builds


def _plan_deploy(
    environment: EffectiveEnvironment,
    stacks: EnvironmentStacks,
    actions: ActionPins,
    services: list[str],
    digests: dict[str, str],
    sequence: str,
) -> EnvironmentDeploy:
    """Plan a deploy; `digests` has by image, and `sequence` is, the expression of what an earlier job found out."""
    first_stack = stacks.first_stack(environment)
    deployed = stacks.list_instances(environment, environment.first_host, services)
    values = {instance.digest: digests[instance.source] for instance in deployed}
    values["SEQUENCE"] = sequence
    steps = tuple(_plan_deploy_step(environment, host, stacks, services) for host in environment.hosts)
    url = find_first_url(deployed) or stacks.first_url(environment)
    proxy_commands = [host.model.proxy_command for host in environment.hosts if host.model.proxy_command]
    minutes = 10 + sum(_estimate_container_minutes(environment.services[instance.service]) for instance in deployed)
    runner_labels = environment.runner_labels
    return EnvironmentDeploy(
        environment=environment.name,
        runner=runner_labels[0] if len(runner_labels) == 1 else "",
        runner_labels=tuple(runner_labels),
        url=url,
        host=" and ".join(environment.host_names),
        branch=environment.deploy_branch,
        ref="",
        first_steps=plan_custom_steps([step for command in proxy_commands for step in command.steps], actions),
        ways=steps,
        superseded=" || ".join(f"steps.{step.step}.outputs.superseded-by" for step in steps),
        token_is_of_job=environment.spec.registry.pull_token.secret is None,
        values=tuple(KeyValue(name, expression) for name, expression in values.items()),
        folder=environment.source_folder,
        folders_of_shared_files=_list_folders_of_shared_files(environment),
        copies_of_shared_files=tuple(
            KeyValue(path, f"deploy/{environment.source_folder}/{file}")
            for file, path in environment.model.shared_files.items()
        ),
        instances=first_stack.instances,
        checks=tuple(check for instance in deployed for check in _plan_health_checks(environment, instance)),
        redirects=_plan_redirect_checks(first_stack, deployed),
        minutes=minutes * len(steps),
        goes_back=False,
        workflow="",
        run_base=0,
        shows_output=environment.spec.project.public_logs,
        released_tags="",
        released_regex="",
        served_version="",
    )


def _list_folders_of_shared_files(environment: EffectiveEnvironment) -> tuple[str, ...]:
    """List the folders of the files that several stacks have; a checkout has the files of the root in any case."""
    folders = dict.fromkeys(path.rpartition("/")[0] for path in environment.model.shared_files.values())
    return tuple(filter(None, folders))


def _plan_deploy_step(
    environment: EffectiveEnvironment, host: EffectiveHost, stacks: EnvironmentStacks, services: list[str]
) -> DeployStep:
    """Plan the step for one of the hosts; the engine of each host has its own names of containers."""
    stack = stacks.find_stack(environment, host)
    instances = stacks.list_instances(environment, host, services)
    return find_engine(host.engine).plan_deploy_step(
        StepOfDeploy(
            id=f"deploy-{host.name}" if len(environment.hosts) > 1 else "deploy",
            environment=environment,
            host=host,
            stack=stack,
            images=tuple(KeyValue(instance.container, instance.digest) for instance in instances),
        )
    )


def _describe_rollback(environment: EffectiveEnvironment, container: str) -> str:
    """Describe where and how a person goes back, for each engine."""
    hosts_by_engine: dict[str, list[EffectiveHost]] = {}
    for host in environment.hosts:
        hosts_by_engine.setdefault(host.engine, []).append(host)
    return "; ".join(
        find_engine(engine).describe_rollback(environment, hosts, container)
        for engine, hosts in hosts_by_engine.items()
    )


def _estimate_container_minutes(service: EffectiveService) -> int:
    """Estimate how long one container may take: a new one starts and a container stops twice.

    First the new one starts beside the old one, then in its place; the old one stops, and so does the first new one.
    """
    durations = (service.options.health.start_period, service.options.stop_grace_period)
    return 10 + sum(2 * (parse_duration(duration) // 60) for duration in durations if duration)


def _plan_health_checks(environment: EffectiveEnvironment, instance: PlannedService) -> Iterator[PublicHealthCheck]:
    """Plan what is asked at each public address that leads to the health path."""
    routes = [route for route in instance.routes if route.health_path]
    for route in routes:
        where = f" at {route.address}" if len(routes) > 1 else ""
        yield PublicHealthCheck(
            subject=instance.service + where,
            scheme=route.scheme,
            url=route.health_url,
            status=_UNAUTHORIZED if route.auth_list else instance.health_status,
            asks_password=bool(route.auth_list),
            to_go_back=_describe_rollback(environment, instance.container),
        )


def _plan_redirect_checks(stack: Stack, deployed: list[PlannedService]) -> tuple[PublicRedirectCheck, ...]:
    """Plan the check of each domain that redirects to a domain of what is deployed."""
    names = {instance.container for instance in deployed}
    return tuple(
        PublicRedirectCheck(redirect.scheme, redirect.domain, redirect.target)
        for redirect in stack.redirects
        if redirect.container in names
    )
