"""Workflows: test, build, deploy, promote."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from http import HTTPStatus

from kiwari_ci import schema
from kiwari_ci.effective import (
    EffectiveEnvironment,
    EffectiveHost,
    EffectiveImage,
    EffectiveService,
    ImageGroup,
    VersionTagPattern,
)
from kiwari_ci.effective.values import parse_duration
from kiwari_ci.engines.all_engines import find_engine
from kiwari_ci.engines.base import StepOfDeploy
from kiwari_ci.plan import (
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
from kiwari_ci.planning.stacks import EnvironmentStacks
from kiwari_ci.planning.steps import ActionPins, plan_custom_steps

BUILD_JOB = "build-and-push"
CHECK_COMMIT_JOB = "check-commit"
_EXAMPLE_VERSION = "0.1.0"
_SEQUENCE_OUTPUT = "sequence_number"  # no service has such a name
# Of a deploy, which needs jobs that a run may skip. One that ran too long is cancelled, which `failure()` is not.
_NOTHING_FAILED = "!failure() && !cancelled() && !contains(needs.*.result, 'cancelled')"


def plan_service_workflow(group: ImageGroup, stacks: EnvironmentStacks, actions: ActionPins) -> ServiceWorkflow:
    """Plan the workflow that pushes start, of one image or of several that wait for one another."""
    if len(group.images) > 1:
        return _SharedWorkflow(group, stacks, actions).build()
    return _OwnWorkflow(group, stacks, actions).build()


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
            push_filters=(*image_jobs.source.filters, *_plan_stack_filters(self.image, self.stacks)),
            changes=(),
            images=(image_jobs,),
            targets=targets,
        )

    def _plan_image_jobs(self) -> ImageJobs:
        tests = test_jobs.plan_test_jobs(self.spec.services[self.image.service], self.actions, may_deploy=True)
        gate, gates = _split_gates([test.job for test in tests])
        return replace(
            _plan_image_jobs(self.image, self.actions),
            build_job=BUILD_JOB,
            condition=_format_branch_conditions(self.image),
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
            instances=tuple(_list_instances(self.stacks.first_stack(environment), services)),
            after_deploy=plan_custom_steps(self.spec.services[self.image.service].steps.after_deploy, self.actions),
        )


class _SharedWorkflow:
    """Plans the workflow of several images: a first job tells which of them a push touches.

    All tests and builds of what a push touches come before the deploy of an environment, which puts all that is new
    into it in one request: the program on the host has the order of `depends_on`.
    """

    def __init__(self, group: ImageGroup, stacks: EnvironmentStacks, actions: ActionPins) -> None:
        self.group = group
        self.spec = group.root.spec
        self.images = builds.order_for_builds(group.images)
        self.stacks = stacks
        self.actions = actions
        self.tests = {image: self._plan_tests(image) for image in self.images}

    def build(self) -> ServiceWorkflow:
        """Build the plan."""
        changes = self._plan_changes()
        environments = dict.fromkeys(
            environment for image in self.group.images for environment in _list_push_environments(image)
        )
        ordered = [environment for environment in self.spec.environments.values() if environment in environments]
        return ServiceWorkflow(
            name=self.group.workflow,
            root=self.group.root.service,
            branches=tuple(dict.fromkeys(branch for image in self.images for branch in image.build_branches)),
            push_filters=_merge_filters([service.filters for service in changes.services]),
            changes=(changes,),
            images=tuple(self._plan_image_jobs(image) for image in self.images),
            targets=tuple(self._plan_target(environment) for environment in ordered),
        )

    def _plan_tests(self, image: EffectiveImage) -> tuple[TestJob, ...]:
        service = image.service
        return tuple(
            replace(
                test,
                job=test_jobs.name_test_job(test.job, service),
                needs=changes_jobs.JOB,
                condition=self._format_built(image),
            )
            for test in test_jobs.plan_test_jobs(self.spec.services[service], self.actions, may_deploy=True)
        )

    def _plan_changes(self) -> ChangesJob:
        filters: dict[str, list[PathFilter]] = {}
        for image in self.group.images:
            source = builds.plan_image_source(image)
            filters.setdefault(image.service, []).extend([*source.filters, *_plan_stack_filters(image, self.stacks)])
        return ChangesJob(
            job=changes_jobs.JOB,
            base="github.event.before",
            depth=0,
            depth_reason="a push can have several commits, and the sequence number counts all",
            touches_all="",
            sequence=_SEQUENCE_OUTPUT,
            services=tuple(changes_jobs.plan_changed_service(service, found) for service, found in filters.items()),
        )

    def _plan_image_jobs(self, image: EffectiveImage) -> ImageJobs:
        has_dependents = bool(self._list_dependents(image))
        own_gates = [*(test.job for test in self.tests[image]), *map(builds.name_build_job, image.bases)]
        gate, gates = _split_gates([changes_jobs.JOB, *own_gates])
        return replace(
            _plan_image_jobs(image, self.actions),
            condition=_join_conditions([self._format_built(image), _format_branch_conditions(image)]),
            reuses=has_dependents,
            reused_when=f"needs.{changes_jobs.JOB}.outputs.{image.service} == 'false'",
            reports_reuse=bool(has_dependents and _list_push_environments(image)),
            tags=_list_push_tags(image),
            tests=self.tests[image],
            gate=gate,
            gates=gates,
        )

    def _list_dependents(self, image: EffectiveImage) -> list[EffectiveImage]:
        """List the images that are built from an image, directly or not."""
        return [other for other in self.images if image in builds.list_all_bases(other)]

    def _format_built(self, image: EffectiveImage) -> str:
        """Format the condition that an image is tested and built, for itself or for what is built from it.

        Then no job that a build needs is skipped, and an image is built only after its tests.
        """
        touching = dict.fromkeys(each.service for each in (image, *self._list_dependents(image)))
        return changes_jobs.format_touched(list(touching))

    def _plan_target(self, environment: EffectiveEnvironment) -> DeployTarget:
        images = [image for image in self.group.images if environment in image.environments]
        services = [service for image in images for service in _list_deployed_services(environment, image)]
        terms = [
            _NOTHING_FAILED,
            changes_jobs.format_touched([image.service for image in images]),
            _format_branch_condition(environment.deploy_branch),
        ]
        built = dict.fromkeys(itertools.chain.from_iterable((*builds.list_all_bases(each), each) for each in images))
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
            instances=tuple(_list_instances(self.stacks.first_stack(environment), services)),
            after_deploy=tuple(self._plan_after_deploy(images)),
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

    def _plan_after_deploy(self, images: list[EffectiveImage]) -> Iterator[CustomStep]:
        """Plan the steps of services, each for runs that touch a service that has it."""
        services: dict[CustomStep, list[str]] = {}
        for image in images:
            for step in plan_custom_steps(self.spec.services[image.service].steps.after_deploy, self.actions):
                services.setdefault(step, []).append(image.service)
        for step, names in services.items():
            yield replace(step, condition=_join_conditions([step.condition, changes_jobs.format_touched(names)]))


def _plan_image_jobs(image: EffectiveImage, actions: ActionPins) -> ImageJobs:
    """Plan what the jobs of an image are in each workflow that builds it."""
    spec = image.spec
    source = builds.plan_image_source(image)
    build = builds.plan_image_build(image)
    return ImageJobs(
        source=source,
        build_job=builds.name_build_job(image),
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
    services += [
        name
        for name, service in environment.services.items()
        if service.image.name == image.name and name != image.service
    ]
    return services


def _plan_stack_filters(image: EffectiveImage, stacks: EnvironmentStacks) -> Iterator[PathFilter]:
    """Plan what starts a deploy of files alone: without it, a commit that only raises a limit would wait."""
    for environment in _list_push_environments(image):
        for stack in stacks.list_stacks(environment):
            if stack.pushed:
                yield PathFilter(f"deploy/{stack.source_folder}/**", "a deploy sends these files")


def _merge_filters(filters: list[tuple[PathFilter, ...]]) -> tuple[PathFilter, ...]:
    """Merge the path filters of services: what starts one of them, and is left out only where all leave it out."""
    merged: dict[str, PathFilter] = {}
    for path_filter in itertools.chain.from_iterable(filters):
        is_common = all(path_filter in others for others in filters)
        if is_common or not path_filter.pattern.startswith("!"):
            merged.setdefault(path_filter.pattern, path_filter)
    return tuple(sorted(merged.values(), key=lambda path_filter: path_filter.pattern.startswith("!")))


def _format_branch_condition(branch: str) -> str:
    return f"github.ref == 'refs/heads/{branch}'"


def _format_branch_conditions(image: EffectiveImage) -> str:
    """Format the condition of the runs that build an image."""
    return " || ".join(_format_branch_condition(branch) for branch in image.build_branches)


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
    images = [image for image in environment.spec.images if image.is_built_for(environment)]
    return tuple(_embed_build(environment, image, actions) for image in builds.order_for_builds(tuple(images)))


def _embed_build(environment: EffectiveEnvironment, image: EffectiveImage, actions: ActionPins) -> ImageJobs:
    service = image.service
    tests = tuple(
        replace(test, job=test_jobs.name_test_job(test.job, service), needs=CHECK_COMMIT_JOB)
        for test in test_jobs.plan_test_jobs(environment.spec.services[service], actions, may_deploy=True)
    )
    is_run = environment in image.environments
    base_jobs = [builds.name_build_job(base) for base in image.bases]
    gate, gates = _split_gates([*([test.job for test in tests] or [CHECK_COMMIT_JOB]), *base_jobs])
    return replace(
        _plan_image_jobs(image, actions),
        build_job=f"build-{service}",
        maker=environment.workflow,
        reuses=bool(environment.model.deploy_on.dispatch) or not is_run,
        reused_when="github.event_name == 'workflow_dispatch'" if is_run else "",
        tests=tests,
        gate=gate,
        gates=gates,
    )


def plan_environment_workflow(
    environment: EffectiveEnvironment, stacks: EnvironmentStacks, actions: ActionPins
) -> EnvironmentWorkflow:
    """Plan the workflow of one environment alone."""
    spec, deploy_on, promoted_from = environment.spec, environment.model.deploy_on, environment.model.promote
    pattern = environment.tag_pattern
    images = [image for image in spec.images if environment in image.environments]
    after_deploy = [step for name in environment.services for step in spec.services[name].steps.after_deploy]
    moves_tags = not pattern and not deploy_on.push
    job = _image_job_name(environment)
    packages, packages_for = "read", "find images"
    if pattern:
        packages, packages_for = "write", "add tags to images"
    elif moves_tags:
        packages, packages_for = "write", "move a tag"
    image_environment = spec.environments[promoted_from] if promoted_from else environment
    sources = tuple(builds.plan_image_source(image) for image in images)
    embedded_builds = _plan_embedded_builds(environment, actions)
    is_found_by_tag = not embedded_builds or bool(deploy_on.dispatch)
    checks_signatures = is_found_by_tag and any(source.is_attested for source in sources)
    return EnvironmentWorkflow(
        name=environment.workflow,
        tags=tuple(environment.tag_filter),
        pattern=pattern.text if pattern else "",
        regex=pattern.regex if pattern else "",
        words=pattern.words if pattern else "",
        example=pattern.example(_EXAMPLE_VERSION) if pattern else "",
        removed_prefix=environment.removed_tag_prefix,
        left_alone=_exclusion_options(environment),
        by_hand=bool(deploy_on.dispatch),
        by_ref=_describe_ref_choice(environment),
        by_commit=_accepts_commit(environment),
        commands=_list_run_commands(environment) if deploy_on.dispatch else (),
        branch=environment.deploy_branch,
        branches=" or ".join(environment.release_branches),
        branch_refs=tuple(
            f"refs/remotes/origin/{branch}"
            for branch in environment.release_branches
            if environment.is_ordered_by_version
        ),
        orders_by_version=environment.is_ordered_by_version,
        tag=environment.image_tag,
        moves=moves_tags,
        from_environment=image_environment.name,
        job=job,
        packages=packages,
        packages_for=packages_for,
        title=_format_find_step_title(environment.model),
        missing=_suggest_missing_image(image_environment),
        maker=image_environment.image_maker,
        signed_ref=_match_signed_refs(image_environment),
        checks_signatures=checks_signatures,
        find_environment=tuple(_plan_find_environment(embedded_builds, sources, checks_signatures)),
        builds=embedded_builds,
        sources=sources,
        deploy=_plan_environment_deploy(environment, stacks, actions, sources, job),
        after_deploy=plan_custom_steps(after_deploy, actions),
    )


def _match_signed_refs(environment: EffectiveEnvironment) -> str:
    """Write the regular expression of the refs whose runs may sign the images of an environment."""
    branch = "refs/heads/" + environment.deploy_branch.replace(".", "[.]")
    return branch if environment.is_deployed_on_push else f"({branch}|refs/tags/.+)"


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


def _exclusion_options(environment: EffectiveEnvironment) -> tuple[str, ...]:
    """List grep's options for the tags that the pattern leaves to another environment."""
    options: list[str] = []
    for excluded in environment.excluded_tag_patterns:
        options += ["-e", excluded.suffix.removesuffix("*")]
    return tuple(options)


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
    if environment.tag_pattern:
        return f"a tag {environment.tag_pattern.text}"
    if environment.has_own_builds:
        return f"{environment.deploy_branch}, or a tag of a commit of it,"
    return ""


def _list_run_commands(environment: EffectiveEnvironment) -> tuple[str, ...]:
    """List the commands by which a person starts it: with the newest commit, and with an older one."""
    branch = environment.deploy_branch
    run = f"gh workflow run {environment.workflow}.yml --ref"
    if environment.tag_pattern:
        return (f"{run} {environment.tag_pattern.example(_EXAMPLE_VERSION)}",)
    if environment.has_own_builds:
        return (f"{run} {branch}", f"{run} TAG # of an older commit")
    return (f"{run} {branch}", f"{run} {branch} -f commit=COMMIT # all 40 digits")


def _suggest_missing_image(environment: EffectiveEnvironment) -> str:
    """Say what to do for an image that is not there: what builds it."""
    branch = environment.model.deploy_on.push
    if branch:
        return f"wait for it, or run it on {branch}; then run this job again"
    cause = f"a tag {environment.tag_pattern.text}" if environment.tag_pattern else "hand"
    return f"{environment.workflow} has it built, by {cause}; then run this job again"


def _list_instances(stack: Stack, services: Iterable[str]) -> list[PlannedService]:
    """List what runs of some services in a stack, service by service."""
    return [instance for name in services for instance in stack.instances if instance.service == name]


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
        goes_back=bool(environment.model.deploy_on.dispatch),
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
    deployed = _list_instances(first_stack, services)
    values = {instance.digest: digests[instance.source] for instance in deployed}
    values["SEQUENCE"] = sequence
    steps = tuple(_plan_deploy_step(environment, host, stacks, services) for host in environment.hosts)
    urls = [instance.url for instance in (*deployed, *first_stack.instances) if instance.url]
    proxy_commands = [host.model.proxy_command for host in environment.hosts if host.model.proxy_command]
    minutes = 10 + sum(_estimate_container_minutes(environment.services[instance.service]) for instance in deployed)
    runner_labels = environment.runner_labels
    return EnvironmentDeploy(
        environment=environment.name,
        runner=runner_labels[0] if len(runner_labels) == 1 else "",
        runner_labels=tuple(runner_labels),
        url=urls[0] if urls else "",
        host=" and ".join(environment.host_names),
        branch=environment.deploy_branch,
        ref="",
        first_steps=plan_custom_steps([step for command in proxy_commands for step in command.steps], actions),
        ways=steps,
        superseded=" || ".join(f"steps.{step.step}.outputs.superseded-by" for step in steps),
        token_is_of_job=environment.spec.registry.pull_token.secret is None,
        values=tuple(KeyValue(name, expression) for name, expression in values.items()),
        folder=environment.source_folder,
        instances=first_stack.instances,
        checks=tuple(check for instance in deployed for check in _plan_health_checks(environment, instance)),
        redirects=_plan_redirect_checks(first_stack, deployed),
        minutes=minutes * len(steps),
        goes_back=False,
        shows_output=environment.spec.project.public_logs,
        released_tags="",
        released_regex="",
        served_version="",
    )


def _plan_deploy_step(
    environment: EffectiveEnvironment, host: EffectiveHost, stacks: EnvironmentStacks, services: list[str]
) -> DeployStep:
    """Plan the step for one of the hosts; the engine of each host has its own names of containers."""
    stack = stacks.find_stack(environment, host)
    instances = _list_instances(stack, services)
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
    """Estimate how long one container may take: it is waited for twice, beside the old one and in its place."""
    start_period = service.options.health.start_period
    return 10 + 2 * (parse_duration(start_period) // 60 if start_period else 0)


def _plan_health_checks(environment: EffectiveEnvironment, instance: PlannedService) -> Iterator[PublicHealthCheck]:
    """Plan what is asked at each public address that leads to the health path."""
    routes = [route for route in instance.routes if route.health_path]
    for route in routes:
        where = f" at {route.address}" if len(routes) > 1 else ""
        yield PublicHealthCheck(
            subject=instance.service + where,
            scheme=route.scheme,
            url=route.health_url,
            status=int(HTTPStatus.UNAUTHORIZED) if route.auth_list else instance.health_status,
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
