"""Workflows: test, build, deploy, promote."""

from dataclasses import replace

from kiwari_ci import building, derive, globs, reach, spec
from kiwari_ci.plan import Deploy, Promotion, ServiceWorkflow, Source, Stack, Target, Test, Way
from kiwari_ci.resolve import builds, testing
from kiwari_ci.resolve.hosts import jumps, ssh_config
from kiwari_ci.resolve.steps import Actions, steps


def workflow(given: spec.Spec, image: building.Image, stacks: dict[str, Stack], actions: Actions) -> ServiceWorkflow:
    """The workflow of one image."""
    model, held = given.services[image.service], building.holders_of(given, image)
    branches = building.branches_of(given, image)
    targets = tuple(
        _target(given, image, name, stacks[name], len(branches) > 1) for name in held if reach.is_pushed(given, name)
    )
    source, tests, build = builds.source(given, image), testing.tests(model, actions), builds.build(given, image)
    seen = globs.sparse([filter.pattern for filter in source.filters])
    compose_files = [f"/{file}" for target in targets for file in target.deploy.stack.files]
    gate, gates = _gates([test.job for test in tests])
    on_pull_requests = given.project.pull_requests and image == building.images_of(given, image.service)[0]
    return ServiceWorkflow(
        source=source,
        branches=tuple(branches),
        after="",
        build_job="build-and-push" if branches else "",
        condition=" || ".join(_on(branch) for branch in branches),
        reuses=len(branches) > 1 or any(reach.is_built(given, name) for name in held),
        tags="\n".join([*_moving(source, targets), f"{source.repository}:${{{{ steps.source.outputs.key }}}}"]),
        moving="\n".join(_moving(source, targets)),
        seen="\n".join(seen),
        sparse="\n".join([*seen, *compose_files]),
        on_pull_requests=on_pull_requests,
        is_tried=on_pull_requests and not model.build.secrets and not model.build.base,
        tests=tests,
        gate=gate,
        gates=gates,
        build=build,
        build_minutes=builds.minutes(build),
        has_secrets=builds.has_secrets(given, image.service),
        before_build=steps(model.steps.before_build, actions),
        after_deploy=steps(model.steps.after_deploy, actions),
        targets=targets,
    )


def _on(branch: str) -> str:
    return f"github.ref == 'refs/heads/{branch}'"


def _moving(source: Source, targets: tuple[Target, ...]) -> list[str]:
    """The tags of the environments, each on the runs that are its."""
    images = [(target.condition, f"{source.repository}:{target.tag}") for target in targets]
    return [f"${{{{ {condition} && '{image}' || '' }}}}" if condition else image for condition, image in images]


def _gates(jobs: list[str]) -> tuple[str, tuple[str, ...]]:
    """What a build waits for: one job, or several."""
    return ("", tuple(jobs)) if len(jobs) > 1 else ("".join(jobs), ())


def _inside(workflow: ServiceWorkflow) -> ServiceWorkflow:
    """Tests and build of a service in an environment's own workflow, which deploys by itself."""
    service, first = workflow.source.service, "check-commit"
    tests = tuple(_named(test, service) for test in workflow.tests)
    gate, gates = _gates([test.job for test in tests] or [first])
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
        sparse=workflow.seen,
        is_tried=False,
        tests=tests,
        targets=(),
    )


def _named(test: Test, service: str) -> Test:
    """A test among those of other services: `test-api`, `test-api_unit`; no name of a spec has a `_`."""
    return replace(test, job=f"test-{service}{test.job.removeprefix('test').replace('-', '_', 1)}")


def promotion(
    given: spec.Spec,
    environment: str,
    stacks: dict[str, Stack],
    workflows: tuple[ServiceWorkflow, ...],
    actions: Actions,
) -> Promotion:
    """The workflow of one environment alone."""
    place, pattern = given.environments[environment], reach.pattern(given, environment)
    built, branch = reach.is_built(given, environment), reach.branch(given, environment)
    names = derive.services_of(given, environment)
    held = [each for each in workflows if each.source.service in names and each.source.environment in ("", environment)]
    after = [step for name in names for step in given.services[name].steps.after_deploy]
    others = reach.left_alone(given, pattern) if pattern else []
    moves = not pattern and not place.deploy_on.push
    return Promotion(
        name=reach.workflow_name(given, environment),
        tags=tuple(reach.tag_filter(given, pattern)) if pattern else (),
        pattern=pattern.text if pattern else "",
        regex=pattern.regex if pattern else "",
        words=pattern.words if pattern else "",
        example=pattern.example("0.1.0") if pattern else "",
        left_alone=tuple(word for each in others for word in ("-e", each.suffix.removesuffix("*"))),
        by_hand=bool(place.deploy_on.dispatch),
        by_ref=_by_ref(given, environment) if place.deploy_on.dispatch and (pattern or built) else "",
        by_commit=not pattern and not built,
        commands=_commands(given, environment) if place.deploy_on.dispatch else (),
        branch=branch,
        tag=derive.image_tag(given, environment),
        moves=moves,
        from_environment=str(place.promote or environment),
        job="promote-images" if place.promote else "tag-images" if pattern else "find-images",
        packages="write" if pattern or moves else "read",
        packages_for="add tags to images" if pattern else "move a tag" if moves else "find images",
        title=_title(place),
        missing=_missing(given, place.promote or environment),
        builds=tuple(map(_inside, held)) if built else (),
        sources=tuple(each.source for each in held),
        deploy=_deploy(given, environment, stacks[environment], minutes=10 + 10 * len(stacks[environment].instances)),
        after_deploy=steps(after, actions),
    )  # fmt: skip


def _title(place: spec.Environment) -> str:
    """What the step does that finds the images."""
    if place.promote:
        return f"Find what {place.promote} built from this source{', and tag it' if place.deploy_on.tag else ''}"
    return f"Find the images of this source{', and tag them' if place.deploy_on.tag else ''}"


def _by_ref(given: spec.Spec, environment: str) -> str:
    """What a person chooses where it is no commit."""
    tags = reach.pattern(given, environment)
    return f"a tag {tags.text}" if tags else f"{reach.branch(given, environment)}, or a tag of a commit of it,"


def _commands(given: spec.Spec, environment: str) -> tuple[str, ...]:
    """How a person starts it: with the newest, and with an older one."""
    tags, branch = reach.pattern(given, environment), reach.branch(given, environment)
    run = f"gh workflow run {reach.workflow_name(given, environment)}.yml --ref"
    if tags:
        return (f"{run} {tags.example('0.1.0')}",)
    if reach.is_built(given, environment):
        return (f"{run} {branch}", f"{run} TAG # of an older commit")
    return (f"{run} {branch}", f"{run} {branch} -f commit=COMMIT # all 40 digits")


def _missing(given: spec.Spec, environment: str) -> str:
    """What to do for an image that is not there: what builds it."""
    on = given.environments[environment].deploy_on
    if on.push:
        return f"wait for it, or run it on {on.push}; then run this job again"
    name, tag = reach.workflow_name(given, environment), reach.pattern(given, environment)
    return f"{name} has it built, by {f'a tag {tag.text}' if tag else 'hand'}; then run this job again"


def _target(given: spec.Spec, image: building.Image, environment: str, stack: Stack, is_one_of_several: bool) -> Target:
    service = image.service
    of_image = [found for found in stack.instances if found.source == image.name]
    instances = tuple(sorted(of_image, key=lambda found: found.service != service))  # the service itself first
    return Target(
        deploy=_deploy(given, environment, stack, service, minutes=10 + 10 * len(instances)),
        branch=reach.branch(given, environment),
        condition=_on(reach.branch(given, environment)) if is_one_of_several else "",
        tag=derive.image_tag(given, environment),
        instances=instances,
        public=tuple(instance for instance in instances if instance.domain),
        compose_output=f"compose-{environment}",
    )


def _deploy(given: spec.Spec, environment: str, stack: Stack, first: str = "", *, minutes: int) -> Deploy:
    hosts = derive.hosts_of(given, environment)
    several = tuple(hosts) if len(hosts) > 1 else ()
    settings = dict.fromkeys(
        setting for name in hosts for setting in derive.settings_of(given, environment, name).values()
    )
    domains = [given.environments[environment].domains.get(first, "")]
    domains += [instance.domain for instance in stack.instances]
    domain = next(filter(None, domains), "")
    return Deploy(
        environment=environment,
        url=f"https://{domain}" if domain else "",
        host=" and ".join(hosts),
        several=several,
        ways=tuple(_way(given, environment, name, several) for name in hosts),
        destination='"$host"' if several else hosts[0],
        identity='"key-$host"' if several else "key",
        clean="rm -rf key* jump-key* files" if several or given.hosts[hosts[0]].jump or _sends(stack) else "rm -f key",
        token=derive.settings_of(given, environment)["token"].name,
        token_is_of_job=given.registry.pull_token.secret is None,
        settings=(*settings, *derive.env_settings(given, environment)),
        directory=given.hosts[hosts[0]].directory,
        stack=stack,
        public=tuple(instance for instance in stack.instances if instance.domain),
        minutes=minutes * len(hosts),
        sends=_sends(stack),
        goes_back=not first and bool(given.environments[environment].deploy_on.dispatch),
    )


def _way(given: spec.Spec, environment: str, host: str, several: tuple[str, ...]) -> Way:
    settings, suffix = derive.settings_of(given, environment, host), f"-{host}" if several else ""
    return Way(
        address=settings["address"].name,
        user=settings["user"].name,
        key=settings["key"].name,
        key_file=f"key{suffix}",
        known_hosts=settings["known_hosts"].name,
        ssh_config=ssh_config(given, host, bool(several)),
        to=">" if not several or host == several[0] else ">>",
        jumps=jumps(given, host, settings, suffix),
    )


def _sends(stack: Stack) -> str:
    """Words of tar; none of these names has a character that means something to a shell."""
    files = [file.removeprefix(f"deploy/{stack.name}/") for file in stack.files] if stack.pushed else []
    rendered = [file.name for file in stack.sent]
    pushed = [f'-C "$GITHUB_WORKSPACE/deploy/{stack.name}"', *files] if files else []
    return " ".join([*pushed, *(['-C "$RUNNER_TEMP/files"', *rendered] if rendered else [])])
