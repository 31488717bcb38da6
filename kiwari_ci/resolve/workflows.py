"""Workflows: test, build, deploy, promote."""

from kiwari_ci import derive, globs, spec
from kiwari_ci.pins import Pin, action
from kiwari_ci.plan import Deploy, Filter, Promotion, ServiceWorkflow, Setup, Source, Stack, Target, Test
from kiwari_ci.resolve.containers import repository

Actions = dict[str, Pin]
SETUPS = {
    "go": ("Set up Go", "actions/setup-go", "go-version", "cache"),
    "node": ("Set up Node.js", "actions/setup-node", "node-version", "package-manager-cache"),
    "python": ("Set up Python", "actions/setup-python", "python-version", ""),
}


def workflow(given: spec.Spec, service: str, stacks: dict[str, Stack], actions: Actions) -> ServiceWorkflow:
    """The workflow of one service."""
    model = given.services[service]
    targets = [
        name for name in stacks if service in derive.services_of(given, name) and not derive.is_promoted(given, name)
    ]
    source = _source(given, service)
    compose_files = [f"/deploy/{stacks[name].name}/docker-compose.yml" for name in targets]
    return ServiceWorkflow(
        source=source,
        branch=str(given.environments[targets[0]].deploy_on.push),
        sparse="\n".join(globs.sparse([filter.pattern for filter in source.filters]) + compose_files),
        tests=(_test(model.test, actions),) if model.test else (),
        context=model.build.context,
        dockerfile=derive.dockerfile_of(given, service),
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
            _source(given, service)
            for service in derive.services_of(given, environment)
            if derive.source_of(given, service) == service
        ),
        deploy=_deploy(given, environment, stacks[environment], minutes=10 + 10 * len(stacks[environment].instances)),
    )


def _source(given: spec.Spec, service: str) -> Source:
    filters = derive.filters_of(given, service)
    return Source(
        service=service,
        repository=repository(given, service),
        filters=tuple(Filter(pattern, why) for pattern, why in filters.items()),
        pathspecs=tuple(globs.pathspecs(list(filters))),
        own_pathspecs=tuple(globs.pathspecs(derive.paths_of(given, service))),
        workflow=derive.workflow_name(service),
        digest_output=f"digest-{service}",
        digest_variable=f"DIGEST_{derive.variable(service)}",
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


def _test(test: spec.Test, actions: Actions) -> Test:
    setups = tuple(_setup(kind, tool, actions) for kind, tool in test.setup or () if tool) if test.setup else ()
    return Test(setups, test.working_directory or "", test.run.rstrip("\n") + "\n")


def _setup(kind: str, tool: spec.Tool, actions: Actions) -> Setup:
    title, name, option, no_cache = SETUPS[kind]
    suffix = "-file" if tool.version_file else ""
    return Setup(title, action(actions[name]), option + suffix, tool.version_file or str(tool.version), no_cache)
