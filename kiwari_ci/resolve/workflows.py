"""Workflows: test, build, deploy, promote."""

from kiwari_ci import derive, globs, spec
from kiwari_ci.plan import Deploy, Promotion, ServiceWorkflow, Stack, Target, Way
from kiwari_ci.resolve import builds, testing
from kiwari_ci.resolve.hosts import jumps, ssh_config


def workflow(given: spec.Spec, service: str, stacks: dict[str, Stack], actions: testing.Actions) -> ServiceWorkflow:
    """The workflow of one service."""
    model = given.services[service]
    targets = [
        name for name in stacks if service in derive.services_of(given, name) and not derive.is_promoted(given, name)
    ]
    source, tests = builds.source(given, service), testing.tests(model, actions)
    seen = globs.sparse([filter.pattern for filter in source.filters])
    jobs = tuple(test.job for test in tests)
    compose_files = [f"/{file}" for name in targets for file in stacks[name].files]
    return ServiceWorkflow(
        source=source,
        branch=derive.branch_of(given, targets),
        seen="\n".join(seen),
        sparse="\n".join([*seen, *compose_files]),
        is_tried=given.project.pull_requests and not model.build.secrets and not model.build.base,
        tests=tests,
        gate=jobs[0] if len(jobs) == 1 else "",
        gates=jobs if len(jobs) > 1 else (),
        build=builds.build(given, service),
        build_minutes=builds.minutes(given, service),
        targets=tuple(_target(given, service, name, stacks[name]) for name in targets),
    )


def promotion(given: spec.Spec, environment: str, stacks: dict[str, Stack]) -> Promotion:
    """The workflow that promotes into one environment."""
    place = given.environments[environment]
    pattern = str(place.deploy_on.tag)
    return Promotion(
        name=derive.promotion_name(given, environment),
        pattern=pattern,
        prefix=pattern.removesuffix("*"),
        prefix_regex=pattern.removesuffix("*").replace(".", "\\."),
        tag=derive.image_tag(given, environment),
        from_environment=str(place.promote),
        sources=tuple(
            builds.source(given, service)
            for service in derive.services_of(given, environment)
            if derive.source_of(given, service) == service
        ),
        deploy=_deploy(given, environment, stacks[environment], minutes=10 + 10 * len(stacks[environment].instances)),
    )


def _target(given: spec.Spec, service: str, environment: str, stack: Stack) -> Target:
    of_image = [found for found in stack.instances if found.source == service]
    instances = tuple(sorted(of_image, key=lambda found: found.service != service))  # the service itself first
    return Target(
        deploy=_deploy(given, environment, stack, service, minutes=10 + 10 * len(instances)),
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
