"""Workflows: test, build, deploy, promote."""

from kiwari_ci import derive, globs, spec
from kiwari_ci.plan import Deploy, Promotion, ServiceWorkflow, Stack, Target
from kiwari_ci.resolve import builds, testing


def workflow(given: spec.Spec, service: str, stacks: dict[str, Stack], actions: testing.Actions) -> ServiceWorkflow:
    """The workflow of one service."""
    model = given.services[service]
    targets = [
        name for name in stacks if service in derive.services_of(given, name) and not derive.is_promoted(given, name)
    ]
    source, tests = builds.source(given, service), testing.tests(model, actions)
    seen = globs.sparse([filter.pattern for filter in source.filters])
    jobs = tuple(test.job for test in tests)
    compose_files = [f"/deploy/{stacks[name].name}/docker-compose.yml" for name in targets]
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
    settings = derive.settings_of(given, environment)
    domains = [given.environments[environment].domains.get(first, "")]
    domains += [instance.domain for instance in stack.instances]
    domain = next(filter(None, domains), "")
    return Deploy(
        environment=environment,
        url=f"https://{domain}" if domain else "",
        host=derive.host_of(given, environment),
        address=settings["address"].name,
        user=settings["user"].name,
        key=settings["key"].name,
        known_hosts=settings["known_hosts"].name,
        token=settings["token"].name,
        token_is_of_job=given.registry.pull_token.secret is None,
        settings=tuple(settings.values()),
        directory=given.hosts[derive.host_of(given, environment)].directory,
        stack=stack,
        public=tuple(instance for instance in stack.instances if instance.domain),
        minutes=minutes,
    )
