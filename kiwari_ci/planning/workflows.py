"""Workflows: test, build, deploy, promote."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from http import HTTPStatus

from kiwari_ci import schema
from kiwari_ci.effective import EffectiveEnvironment, EffectiveHost, EffectiveImage, EffectiveService
from kiwari_ci.effective.values import parse_duration
from kiwari_ci.engines.all_engines import find_engine
from kiwari_ci.engines.base import StepOfDeploy
from kiwari_ci.plan import (
    DeployStep,
    DeployTarget,
    EnvironmentDeploy,
    EnvironmentWorkflow,
    ImageSource,
    KeyValue,
    PathFilter,
    PlannedService,
    PublicHealthCheck,
    PublicRedirectCheck,
    ServiceWorkflow,
    Stack,
)
from kiwari_ci.planning import builds, test_jobs
from kiwari_ci.planning.stacks import EnvironmentStacks
from kiwari_ci.planning.steps import ActionPins, plan_custom_steps

BUILD_JOB = "build-and-push"
CHECK_COMMIT_JOB = "check-commit"
_EXAMPLE_VERSION = "0.1.0"


def plan_service_workflow(image: EffectiveImage, stacks: EnvironmentStacks, actions: ActionPins) -> ServiceWorkflow:
    """Plan the workflow of one image."""
    spec = image.spec
    model = spec.services[image.service]
    branches = image.build_branches
    targets = tuple(
        _plan_deploy_target(image, environment, stacks, actions, len(branches) > 1)
        for environment in image.environments
        if environment.is_deployed_on_push
    )
    source = builds.plan_image_source(image)
    tests = test_jobs.plan_test_jobs(model, actions, may_deploy=True)
    build = builds.plan_image_build(image, builds.BRANCH_OF_RUN)
    moving_tags = _list_moving_tags(source, targets)
    gate, gates = _split_build_gates([test.job for test in tests])
    return ServiceWorkflow(
        source=source,
        branches=tuple(branches),
        stack_filters=_plan_stack_filters(
            stack for target in targets for stack in stacks.list_stacks(spec.environments[target.deploy.environment])
        ),
        is_embedded=False,
        build_job=BUILD_JOB,
        condition=" || ".join(_format_branch_condition(branch) for branch in branches),
        maker=builds.BRANCH_OF_RUN,
        reuses=False,
        tags="\n".join([*moving_tags, f"{source.repository}:${{{{ steps.source.outputs.key }}}}"]),
        seen=builds.list_seen_paths(source),
        tests=tests,
        gate=gate,
        gates=gates,
        build=build,
        build_minutes=builds.estimate_build_minutes(build),
        has_secrets=builds.has_build_secrets(spec, image.service),
        before_build=plan_custom_steps(model.steps.before_build, actions),
        after_deploy=plan_custom_steps(model.steps.after_deploy, actions),
        targets=targets,
    )


def _plan_stack_filters(stacks: Iterable[Stack]) -> tuple[PathFilter, ...]:
    """Plan what starts a deploy of files alone: without it, a commit that only raises a limit would wait."""
    sent_stacks = (stack for stack in stacks if stack.pushed)
    return tuple(PathFilter(f"deploy/{stack.source_folder}/**", "a deploy sends these files") for stack in sent_stacks)


def _format_branch_condition(branch: str) -> str:
    return f"github.ref == 'refs/heads/{branch}'"


def _list_moving_tags(source: ImageSource, targets: tuple[DeployTarget, ...]) -> list[str]:
    """List the tags of the environments, each with the condition of the runs that are for it."""
    tags = []
    for target in targets:
        image = f"{source.repository}:{target.tag}"
        tags.append(f"${{{{ {target.condition} && '{image}' || '' }}}}" if target.condition else image)
    return tags


def _split_build_gates(jobs: list[str]) -> tuple[str, tuple[str, ...]]:
    """Tell what a build waits for: the name of one job, or the names of several."""
    if len(jobs) > 1:
        return "", tuple(jobs)
    return "".join(jobs), ()


def _embed_build(environment: EffectiveEnvironment, workflow: ServiceWorkflow) -> ServiceWorkflow:
    """Move tests and build of a service into an environment's own workflow, which deploys by itself.

    A tag always builds. A person may go back to an older source, whose image the host must have run already.
    """
    service = workflow.source.service
    image = environment.spec.image(service, workflow.source.environment)
    tests = tuple(
        replace(test, job=test_jobs.name_test_job(test.job, service), needs=CHECK_COMMIT_JOB)
        for test in workflow.tests
    )
    gate, gates = _split_build_gates([test.job for test in tests] or [CHECK_COMMIT_JOB])
    return replace(
        workflow,
        is_embedded=True,
        gate=gate,
        gates=gates,
        build_job=f"build-{service}",
        condition="",
        stack_filters=(),
        maker=environment.workflow,
        reuses=bool(environment.model.deploy_on.dispatch),
        tags=workflow.tags.rpartition("\n")[2],
        build=builds.plan_image_build(image, environment.workflow),
        tests=tests,
        targets=(),
    )


def plan_environment_workflow(
    environment: EffectiveEnvironment,
    stacks: EnvironmentStacks,
    workflows: tuple[ServiceWorkflow, ...],
    actions: ActionPins,
) -> EnvironmentWorkflow:
    """Plan the workflow of one environment alone."""
    spec, deploy_on, promoted_from = environment.spec, environment.model.deploy_on, environment.model.promote
    pattern = environment.tag_pattern
    own_workflows = [workflow for workflow in workflows if _builds_for(workflow, environment)]
    after_deploy = [step for name in environment.services for step in spec.services[name].steps.after_deploy]
    moves_tags = not pattern and not deploy_on.push
    job = _image_job_name(environment)
    packages, packages_for = "read", "find images"
    if pattern:
        packages, packages_for = "write", "add tags to images"
    elif moves_tags:
        packages, packages_for = "write", "move a tag"
    image_environment = spec.environments[promoted_from] if promoted_from else environment
    sources = tuple(workflow.source for workflow in own_workflows)
    embedded_builds: tuple[ServiceWorkflow, ...] = ()
    if environment.has_own_builds:
        embedded_builds = tuple(_embed_build(environment, workflow) for workflow in own_workflows)
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
        deploy=_plan_environment_deploy(environment, stacks, actions, own_workflows, job),
        after_deploy=plan_custom_steps(after_deploy, actions),
    )


def _match_signed_refs(environment: EffectiveEnvironment) -> str:
    """Write the regular expression of the refs whose runs may sign the images of an environment."""
    branch = "refs/heads/" + environment.deploy_branch.replace(".", "[.]")
    return branch if environment.is_deployed_on_push else f"({branch}|refs/tags/.+)"


def _plan_find_environment(
    embedded_builds: tuple[ServiceWorkflow, ...], sources: tuple[ImageSource, ...], checks_signatures: bool
) -> Iterator[KeyValue]:
    """Plan what the step that finds images reads: what this run built, or the values that are in the keys."""
    if checks_signatures:
        yield KeyValue("GH_TOKEN", "${{ github.token }}")
    for workflow in embedded_builds:
        yield KeyValue(workflow.source.digest_variable, f"${{{{ needs.{workflow.build_job}.outputs.digest }}}}")
    if not embedded_builds:
        for variable in dict.fromkeys(variable for source in sources for variable in source.variables):
            yield KeyValue(f"VARIABLE_{variable}", f"${{{{ vars.{variable} }}}}")


def _builds_for(workflow: ServiceWorkflow, environment: EffectiveEnvironment) -> bool:
    """Whether a workflow builds an image that the environment runs."""
    source = workflow.source
    return source.service in environment.services and source.environment in ("", environment.name)


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


def _plan_deploy_target(
    image: EffectiveImage,
    environment: EffectiveEnvironment,
    stacks: EnvironmentStacks,
    actions: ActionPins,
    is_one_of_several: bool,
) -> DeployTarget:
    # The service itself is deployed before other processes of its image.
    services = [image.service] if image.service in environment.services else []
    services += [
        name
        for name, service in environment.services.items()
        if service.image.name == image.name and name != image.service
    ]
    condition = _format_branch_condition(environment.deploy_branch) if is_one_of_several else ""
    deploy = _plan_deploy(environment, stacks, actions, services, BUILD_JOB, {image.name: "digest"})
    return DeployTarget(
        deploy=deploy,
        condition=condition,
        tag=environment.image_tag,
        instances=tuple(_list_instances(stacks.first_stack(environment), services)),
    )


def _list_instances(stack: Stack, services: Iterable[str]) -> list[PlannedService]:
    """List what runs of some services in a stack, service by service."""
    return [instance for name in services for instance in stack.instances if instance.service == name]


def _plan_environment_deploy(
    environment: EffectiveEnvironment,
    stacks: EnvironmentStacks,
    actions: ActionPins,
    workflows: list[ServiceWorkflow],
    job: str,
) -> EnvironmentDeploy:
    """Plan a deploy of all services of an environment, whose images an earlier job has found."""
    digests = {workflow.source.image: workflow.source.digest_output for workflow in workflows}
    deploy = _plan_deploy(environment, stacks, actions, list(environment.services), job, digests)
    ref = "${{ inputs.commit || github.sha }}" if _accepts_commit(environment) else ""
    pattern = environment.tag_pattern
    return replace(
        deploy,
        ref=ref,
        goes_back=bool(environment.model.deploy_on.dispatch),
        released_tags=pattern.text if pattern else "",
        released_regex=pattern.regex if pattern else "",
    )


def _accepts_commit(environment: EffectiveEnvironment) -> bool:
    """Whether a person who starts a deploy may name a commit, for the environment has neither tags nor builds."""
    return not environment.tag_pattern and not environment.has_own_builds


def _plan_deploy(
    environment: EffectiveEnvironment,
    stacks: EnvironmentStacks,
    actions: ActionPins,
    services: list[str],
    job: str,
    digests: dict[str, str],
) -> EnvironmentDeploy:
    """Plan a deploy; `digests` has, by image, the output of the earlier job that holds its digest."""
    first_stack = stacks.first_stack(environment)
    deployed = _list_instances(first_stack, services)
    values = {instance.digest: f"needs.{job}.outputs.{digests[instance.source]}" for instance in deployed}
    values["SEQUENCE"] = f"needs.{job}.outputs.sequence"
    steps = tuple(_plan_deploy_step(environment, host, stacks, services) for host in environment.hosts)
    addresses = [instance.address for instance in (*deployed, *first_stack.instances) if instance.address]
    proxy_commands = [host.model.proxy_command for host in environment.hosts if host.model.proxy_command]
    minutes = 10 + sum(_estimate_container_minutes(environment.services[instance.service]) for instance in deployed)
    runner_labels = environment.runner_labels
    return EnvironmentDeploy(
        environment=environment.name,
        runner=runner_labels[0] if len(runner_labels) == 1 else "",
        runner_labels=tuple(runner_labels),
        url=f"https://{addresses[0]}" if addresses else "",
        host=" and ".join(environment.host_names),
        branch=environment.deploy_branch,
        ref="",
        first_steps=plan_custom_steps([step for each in proxy_commands for step in each.steps], actions),
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
            url=f"https://{route.domain}{route.health_path}",
            status=int(HTTPStatus.UNAUTHORIZED) if route.auth_list else instance.health_status,
            asks_password=bool(route.auth_list),
            to_go_back=_describe_rollback(environment, instance.container),
        )


def _plan_redirect_checks(stack: Stack, deployed: list[PlannedService]) -> tuple[PublicRedirectCheck, ...]:
    """Plan the check of each domain that redirects to a domain of what is deployed."""
    names = {instance.container for instance in deployed}
    return tuple(
        PublicRedirectCheck(redirect.domain, redirect.target)
        for redirect in stack.redirects
        if redirect.container in names
    )
