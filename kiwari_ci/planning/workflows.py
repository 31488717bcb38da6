"""Workflows: test, build, deploy, promote."""

from dataclasses import replace

from kiwari_ci import schema
from kiwari_ci.effective import built_images, derived, triggers
from kiwari_ci.github import path_filters
from kiwari_ci.plan import (
    ComposeStack,
    DeployTarget,
    EnvironmentDeploy,
    EnvironmentWorkflow,
    ImageSource,
    KeyValue,
    PublicHealthCheck,
    ServiceContainer,
    ServiceWorkflow,
    SshRoute,
    TestJob,
)
from kiwari_ci.planning import builds, test_jobs
from kiwari_ci.planning.hosts import format_ssh_port, plan_jump_hosts
from kiwari_ci.planning.steps import ActionPins, plan_custom_steps


def plan_service_workflow(
    given: schema.Spec, image: built_images.BuiltImage, stacks: dict[str, ComposeStack], actions: ActionPins
) -> ServiceWorkflow:
    """The workflow of one image."""
    model, held = given.services[image.service], built_images.list_image_environments(given, image)
    branches = built_images.list_build_branches(given, image)
    targets = tuple(
        _plan_deploy_target(given, image, name, stacks[name], len(branches) > 1)
        for name in held
        if triggers.is_deployed_on_push(given, name)
    )
    source, tests, build = (
        builds.plan_image_source(given, image),
        test_jobs.plan_test_jobs(model, actions),
        builds.plan_image_build(given, image),
    )
    seen = path_filters.build_sparse_patterns([filter.pattern for filter in source.filters])
    gate, gates = _split_build_gates([test.job for test in tests])
    on_pull_requests = (
        given.project.pull_requests and image == built_images.list_service_images(given, image.service)[0]
    )
    return ServiceWorkflow(
        source=source,
        branches=tuple(branches),
        after="",
        build_job="build-and-push" if branches else "",
        condition=" || ".join(_format_branch_condition(branch) for branch in branches),
        reuses=len(branches) > 1 or any(triggers.has_own_builds(given, name) for name in held),
        tags="\n".join(
            [*_list_moving_tags(source, targets), f"{source.repository}:${{{{ steps.source.outputs.key }}}}"]
        ),
        moving="\n".join(_list_moving_tags(source, targets)),
        seen="\n".join(seen),
        on_pull_requests=on_pull_requests,
        is_tried=on_pull_requests and not model.build.secrets and not model.build.base,
        tests=tests,
        gate=gate,
        gates=gates,
        build=build,
        build_minutes=builds.estimate_build_minutes(build),
        has_secrets=builds.has_build_secrets(given, image.service),
        before_build=plan_custom_steps(model.steps.before_build, actions),
        after_deploy=plan_custom_steps(model.steps.after_deploy, actions),
        targets=targets,
    )


def _format_branch_condition(branch: str) -> str:
    return f"github.ref == 'refs/heads/{branch}'"


def _list_moving_tags(source: ImageSource, targets: tuple[DeployTarget, ...]) -> list[str]:
    """The tags of the environments, each on the runs that are its."""
    images = [(target.condition, f"{source.repository}:{target.tag}") for target in targets]
    return [f"${{{{ {condition} && '{image}' || '' }}}}" if condition else image for condition, image in images]


def _split_build_gates(jobs: list[str]) -> tuple[str, tuple[str, ...]]:
    """What a build waits for: one job, or several."""
    return ("", tuple(jobs)) if len(jobs) > 1 else ("".join(jobs), ())


def _embed_build(workflow: ServiceWorkflow) -> ServiceWorkflow:
    """Tests and build of a service in an environment's own workflow, which deploys by itself."""
    service, first = workflow.source.service, "check-commit"
    tests = tuple(_rename_test_job(test, service) for test in workflow.tests)
    gate, gates = _split_build_gates([test.job for test in tests] or [first])
    return replace(
        workflow,
        after=first,
        gate=gate,
        gates=gates,
        build_job=f"build-{service}",
        condition="",
        reuses=True,
        tags=workflow.tags.rpartition("\n")[2],
        moving="",
        is_tried=False,
        tests=tests,
        targets=(),
    )


def _rename_test_job(test: TestJob, service: str) -> TestJob:
    """A test among those of other services: `test-api`, `test-api_unit`; no name of a spec has a `_`."""
    return replace(test, job=f"test-{service}{test.job.removeprefix('test').replace('-', '_', 1)}")


def plan_environment_workflow(
    given: schema.Spec,
    environment: str,
    stacks: dict[str, ComposeStack],
    workflows: tuple[ServiceWorkflow, ...],
    actions: ActionPins,
) -> EnvironmentWorkflow:
    """The workflow of one environment alone."""
    place, pattern = given.environments[environment], triggers.parse_tag_pattern(given, environment)
    built, branch = triggers.has_own_builds(given, environment), triggers.find_deploy_branch(given, environment)
    names = derived.list_services(given, environment)
    held = [each for each in workflows if each.source.service in names and each.source.environment in ("", environment)]
    after = [step for name in names for step in given.services[name].steps.after_deploy]
    others = triggers.list_excluded_patterns(given, pattern) if pattern else []
    moves = not pattern and not place.deploy_on.push
    job = "promote-images" if place.promote else "tag-images" if pattern else "find-images"
    return EnvironmentWorkflow(
        name=triggers.derive_environment_workflow(given, environment),
        tags=tuple(triggers.build_tag_filter(given, pattern)) if pattern else (),
        pattern=pattern.text if pattern else "",
        regex=pattern.regex if pattern else "",
        words=pattern.words if pattern else "",
        example=pattern.example("0.1.0") if pattern else "",
        left_alone=tuple(word for each in others for word in ("-e", each.suffix.removesuffix("*"))),
        by_hand=bool(place.deploy_on.dispatch),
        by_ref=_describe_ref_choice(given, environment) if place.deploy_on.dispatch and (pattern or built) else "",
        by_commit=_accepts_commit(given, environment),
        commands=_list_run_commands(given, environment) if place.deploy_on.dispatch else (),
        branch=branch,
        tag=derived.derive_image_tag(given, environment),
        moves=moves,
        from_environment=str(place.promote or environment),
        job=job,
        packages="write" if pattern or moves else "read",
        packages_for="add tags to images" if pattern else "move a tag" if moves else "find images",
        title=_format_find_step_title(place),
        missing=_suggest_missing_image(given, place.promote or environment),
        builds=tuple(map(_embed_build, held)) if built else (),
        sources=tuple(each.source for each in held),
        deploy=_plan_environment_deploy(given, environment, stacks[environment], held, job),
        after_deploy=plan_custom_steps(after, actions),
    )  # fmt: skip


def _format_find_step_title(place: schema.Environment) -> str:
    """What the step does that finds the images."""
    if place.promote:
        return f"Find what {place.promote} built from this source{', and tag it' if place.deploy_on.tag else ''}"
    return f"Find the images of this source{', and tag them' if place.deploy_on.tag else ''}"


def _describe_ref_choice(given: schema.Spec, environment: str) -> str:
    """What a person chooses where it is no commit."""
    tags = triggers.parse_tag_pattern(given, environment)
    return (
        f"a tag {tags.text}"
        if tags
        else f"{triggers.find_deploy_branch(given, environment)}, or a tag of a commit of it,"
    )


def _list_run_commands(given: schema.Spec, environment: str) -> tuple[str, ...]:
    """How a person starts it: with the newest, and with an older one."""
    tags, branch = triggers.parse_tag_pattern(given, environment), triggers.find_deploy_branch(given, environment)
    run = f"gh workflow run {triggers.derive_environment_workflow(given, environment)}.yml --ref"
    if tags:
        return (f"{run} {tags.example('0.1.0')}",)
    if triggers.has_own_builds(given, environment):
        return (f"{run} {branch}", f"{run} TAG # of an older commit")
    return (f"{run} {branch}", f"{run} {branch} -f commit=COMMIT # all 40 digits")


def _suggest_missing_image(given: schema.Spec, environment: str) -> str:
    """What to do for an image that is not there: what builds it."""
    on = given.environments[environment].deploy_on
    if on.push:
        return f"wait for it, or run it on {on.push}; then run this job again"
    name, tag = triggers.derive_environment_workflow(given, environment), triggers.parse_tag_pattern(given, environment)
    return f"{name} has it built, by {f'a tag {tag.text}' if tag else 'hand'}; then run this job again"


def _plan_deploy_target(
    given: schema.Spec, image: built_images.BuiltImage, environment: str, stack: ComposeStack, is_one_of_several: bool
) -> DeployTarget:
    service = image.service
    of_image = [found for found in stack.instances if found.source == image.name]
    instances = tuple(sorted(of_image, key=lambda found: found.service != service))  # the service itself first
    return DeployTarget(
        deploy=_plan_deploy(given, environment, stack, instances, job="build-and-push", digests={image.name: "digest"}),
        condition=_format_branch_condition(triggers.find_deploy_branch(given, environment))
        if is_one_of_several
        else "",
        tag=derived.derive_image_tag(given, environment),
        instances=instances,
    )


def _plan_environment_deploy(
    given: schema.Spec, environment: str, stack: ComposeStack, held: list[ServiceWorkflow], job: str
) -> EnvironmentDeploy:
    """A deploy of all services of an environment, whose images an earlier job has found."""
    digests = {each.source.image: each.source.digest_output for each in held}
    deploy = _plan_deploy(given, environment, stack, stack.instances, job, digests)
    chosen = "${{ inputs.commit || github.sha }}" if _accepts_commit(given, environment) else ""
    return replace(deploy, ref=chosen, goes_back=bool(given.environments[environment].deploy_on.dispatch))


def _accepts_commit(given: schema.Spec, environment: str) -> bool:
    """Whether a person who starts a deploy may name a commit, for want of tags and builds of its own."""
    return not triggers.parse_tag_pattern(given, environment) and not triggers.has_own_builds(given, environment)


def _plan_deploy(
    given: schema.Spec,
    environment: str,
    stack: ComposeStack,
    deployed: tuple[ServiceContainer, ...],
    job: str,
    digests: dict[str, str],
) -> EnvironmentDeploy:
    """`digests`: by image, the output of the earlier job that has its digest."""
    values = {each.digest: f"needs.{job}.outputs.{digests[each.source]}" for each in deployed}
    *images, last_image = (KeyValue(each.container, each.digest) for each in deployed)
    hosts = derived.list_hosts(given, environment)
    ways = tuple(_plan_ssh_route(given, environment, name, len(hosts) > 1) for name in hosts)
    public = [instance for instance in deployed if instance.domain]
    program = f"{given.hosts[hosts[0]].directory}/bin/deploy"
    domains = [each.domain for each in (*deployed, *stack.instances) if each.domain]
    return EnvironmentDeploy(
        environment=environment,
        url=f"https://{domains[0]}" if domains else "",
        host=" and ".join(hosts),
        branch=triggers.find_deploy_branch(given, environment),
        ref="",
        program=program,
        ways=ways,
        superseded=" || ".join(f"steps.{way.step}.outputs.superseded-by" for way in ways),
        token=derived.resolve_deploy_settings(given, environment)["token"].name,
        token_is_of_job=given.registry.pull_token.secret is None,
        values=tuple(KeyValue(*each) for each in (values | {"SEQUENCE": f"needs.{job}.outputs.sequence"}).items()),
        images=tuple(images),
        last_image=last_image,
        stack=stack,
        checks=tuple(
            _plan_health_check(instance, f"on {' and '.join(hosts)}: {program} rollback {stack.name}")
            for instance in public
        ),
        minutes=(10 + sum(_estimate_container_minutes(given, environment, each.service) for each in deployed))
        * len(hosts),
        goes_back=False,
    )


def _estimate_container_minutes(given: schema.Spec, environment: str, service: str) -> int:
    """How long one container may take: it is waited for twice, beside the old one and in its place."""
    start = derived.resolve_service(given, environment, service).health.start_period
    return 10 + 2 * (derived.parse_duration(start) // 60 if start else 0)


def _plan_health_check(instance: ServiceContainer, rollback: str) -> PublicHealthCheck:
    return PublicHealthCheck(
        service=instance.service,
        url=f"https://{instance.domain}{instance.health_path}",
        status=instance.health_status,
        to_go_back=f"{rollback} {instance.container}",
    )


def _plan_ssh_route(given: schema.Spec, environment: str, host: str, is_one_of_several: bool) -> SshRoute:
    settings = derived.resolve_deploy_settings(given, environment, host)
    return SshRoute(
        host=host,
        step=f"deploy-{host}" if is_one_of_several else "deploy",
        settings=(*dict.fromkeys(settings.values()), *derived.collect_env_settings(given, environment)),
        address=settings["address"].name,
        user=settings["user"].name,
        key=settings["key"].name,
        known_hosts=settings["known_hosts"].name,
        port=format_ssh_port(given.hosts[host].port),
        jumps=plan_jump_hosts(given, host, settings),
    )
