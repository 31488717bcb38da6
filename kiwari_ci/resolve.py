"""Spec → Plan: every name, default and expression is decided here, once."""

from kiwari_ci import derive, globs, needs, spec
from kiwari_ci.pins import PINS
from kiwari_ci.plan import (
    Action,
    Deploy,
    DeployKey,
    Drift,
    EnvFile,
    EnvGroup,
    EnvLine,
    Filter,
    Host,
    Instance,
    Plan,
    Promotion,
    Role,
    Server,
    ServiceWorkflow,
    Setup,
    Source,
    Stack,
    Target,
    Test,
)

_TASK = f"replace each {derive.CHANGE_ME}: with one left, nothing is deployed"
SETUPS = {
    "go": ("Set up Go", "actions/setup-go", "go-version", "cache"),
    "node": ("Set up Node.js", "actions/setup-node", "node-version", "package-manager-cache"),
    "python": ("Set up Python", "actions/setup-python", "python-version", ""),
}


def resolve(given: spec.Spec, spec_name: str, spec_text: str) -> Plan:
    """Decide everything about a spec that the rules found sound; `spec_name` is its file's name."""
    spec_path = f"specs/{spec_name}"
    stacks = {name: _stack(given, name) for name in given.environments}
    servers = tuple(_server(given, name) for name in given.databases)
    instances = [instance for stack in stacks.values() for instance in stack.instances]
    settings = dict.fromkeys(derive.settings_of(given, name)["token"] for name in given.environments)
    tokens = tuple(token for token in settings if token.kind)
    hosts = tuple(_host(given, name, stacks, servers) for name in given.hosts)
    workflows = tuple(_workflow(given, name, stacks) for name in given.services)
    promotions = tuple(
        _promotion(given, name, stacks) for name in given.environments if derive.is_promoted(given, name)
    )
    return Plan(
        project=given.project.name,
        repository=given.project.repository,
        default_branch=given.project.default_branch,
        default_branch_in_url=given.project.default_branch.replace("/", "%2F"),
        build_branch=workflows[0].branch,
        runner=given.project.runner,
        registry=given.registry.host,
        actions={pin.action.split("/")[1].replace("-", "_"): _action(pin.action) for pin in PINS.values()},
        workflows=workflows,
        promotions=promotions,
        drift=_drift(given, spec_path),
        stacks=tuple(stacks.values()),
        servers=servers,
        hosts=hosts,
        tokens=tokens,
        needs=needs.at_github(hosts, tokens),
        tag_prefixes=tuple(dict.fromkeys(promotion.prefix for promotion in promotions)),
        domains=tuple(instance.domain for instance in instances if instance.domain),
        served=tuple({instance.service: instance for instance in reversed(instances)}[name] for name in given.services),
        migrated=any(server.migrations_image for server in servers),
        start_title="Network and PostgreSQL" if servers else "Network",
        spec_text=spec_text,
    )


def _action(action: str) -> Action:
    return Action(f"{action}@{PINS[action].sha}", PINS[action].version)


def _repository(given: spec.Spec, service: str) -> str:
    namespace = given.registry.namespace or given.project.repository.split("/")[0].lower()
    return f"{given.registry.host}/{namespace}/{derive.image_name(given, service)}"


def _stack(given: spec.Spec, environment: str) -> Stack:
    instances = tuple(_instance(given, environment, service) for service in derive.services_of(given, environment))
    groups: dict[str, list[EnvGroup]] = {}
    for instance in instances:
        group = EnvGroup(instance.container, _env_lines(given, environment, instance.service))
        if instance.env_file:
            groups.setdefault(instance.env_file, []).append(group)
    return Stack(
        name=derive.stack_name(given, environment),
        environment=environment,
        instances=instances,
        networks=tuple(dict.fromkeys(network for instance in instances for network in instance.networks)),
        env_files=tuple(EnvFile(name, _TASK, _without_repeats(found)) for name, found in groups.items()),
    )


def _instance(given: spec.Spec, environment: str, service: str) -> Instance:
    model, place = given.services[service], given.environments[environment]
    status = "" if model.health.status == 200 else f" {model.health.status}"
    return Instance(
        service=service,
        container=derive.container_name(given, environment, service),
        repository=_repository(given, service),
        tag=derive.image_tag(given, environment),
        port=model.port,
        health=f":{model.port}{model.health.path}{status}",
        health_path=model.health.path,
        health_status=model.health.status,
        promoted_from=_promoted_from(given, environment, service),
        recreated=model.rollout == "recreate",
        domain=place.domains.get(service, ""),
        websocket="yes" if model.websocket else "no",
        networks=_networks(given, environment, service),
        env_file=derive.env_file(given, environment, service),
        variable=derive.variable(service),
    )


def _promoted_from(given: spec.Spec, environment: str, service: str) -> str:
    """Stack and container whose state file must know a digest before this environment takes it; they share the host."""
    source = given.environments[environment].promote
    if source is None or derive.host_of(given, source) != derive.host_of(given, environment):
        return ""
    return f"{derive.stack_name(given, source)}/{derive.container_name(given, source, service)}"


def _networks(given: spec.Spec, environment: str, service: str) -> tuple[str, ...]:
    place = given.environments[environment]
    found = [given.hosts[derive.host_of(given, environment)].proxy.network]
    if place.database and any(value.database for value in given.services[service].env.values()):
        found.append(derive.server_network(given, derive.server_of(given, place.database)))
    return tuple(dict.fromkeys(found))


def _env_lines(given: spec.Spec, environment: str, service: str) -> tuple[EnvLine, ...]:
    return tuple(
        _env_line(given, environment, service, key, value) for key, value in given.services[service].env.items()
    )


def _env_line(given: spec.Spec, environment: str, service: str, key: str, value: spec.EnvValue) -> EnvLine:
    note = "secret" if value.secret else ""
    database = given.environments[environment].database
    if value.database == "url" and database:
        password = derive.password_variable(given, environment, database)
        place = f"{password} in {derive.server_of(given, database)}/.env"
        note = f"secret: the password is {place}; percent-encode what is not a letter or digit"
    return EnvLine(key, derive.env_value(given, environment, service, value), note)


def _without_repeats(groups: list[EnvGroup]) -> tuple[EnvGroup, ...]:
    """A key that two services of one env file share stands there once."""
    seen: set[str] = set()
    kept = []
    for group in groups:
        lines = tuple(line for line in group.lines if line.key not in seen)
        seen |= {line.key for line in lines}
        kept += [EnvGroup(group.title, lines)] if lines else []
    return tuple(kept)


def _deploy(given: spec.Spec, environment: str, stack: Stack, first: str = "", minutes: int = 20) -> Deploy:
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


def _source(given: spec.Spec, service: str) -> Source:
    filters = derive.filters_of(given, service)
    return Source(
        service=service,
        repository=_repository(given, service),
        filters=tuple(Filter(pattern, why) for pattern, why in filters.items()),
        pathspecs=tuple(globs.pathspecs(list(filters))),
        own_pathspecs=tuple(globs.pathspecs(derive.paths_of(given, service))),
        workflow=derive.workflow_name(service),
        digest_output=f"digest-{service}",
    )


def _workflow(given: spec.Spec, service: str, stacks: dict[str, Stack]) -> ServiceWorkflow:
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
        tests=(_test(model.test),) if model.test else (),
        context=model.build.context,
        dockerfile=derive.dockerfile_of(given, service),
        targets=tuple(_target(given, service, name, stacks[name]) for name in targets),
    )


def _target(given: spec.Spec, service: str, environment: str, stack: Stack) -> Target:
    instance = next(found for found in stack.instances if found.service == service)
    return Target(_deploy(given, environment, stack, service), instance, f"compose-{environment}")


def _test(test: spec.Test) -> Test:
    setups = tuple(_setup(kind, tool) for kind, tool in test.setup or () if tool) if test.setup else ()
    return Test(setups, test.working_directory or "", test.run.rstrip("\n") + "\n")


def _setup(kind: str, tool: spec.Tool) -> Setup:
    title, action, option, no_cache = SETUPS[kind]
    suffix = "-file" if tool.version_file else ""
    return Setup(title, _action(action), option + suffix, tool.version_file or str(tool.version), no_cache)


def _promotion(given: spec.Spec, environment: str, stacks: dict[str, Stack]) -> Promotion:
    place = given.environments[environment]
    pattern = str(place.deploy_on.tag)
    return Promotion(
        name=derive.promotion_name(given, environment),
        pattern=pattern,
        prefix=pattern.removesuffix("*"),
        prefix_regex=pattern.removesuffix("*").replace(".", "\\."),
        tag=derive.image_tag(given, environment),
        from_environment=str(place.promote),
        sources=tuple(_source(given, service) for service in derive.services_of(given, environment)),
        deploy=_deploy(given, environment, stacks[environment], minutes=10 + 10 * len(stacks[environment].instances)),
    )


def _server(given: spec.Spec, name: str) -> Server:
    server = given.databases[name]
    directory = given.hosts[derive.server_host(given, name)].directory
    roles = tuple(
        _role(given, environment, place.database)
        for environment, place in given.environments.items()
        if place.database and derive.server_of(given, place.database) == name
    )
    keys = ["POSTGRES_USER", "POSTGRES_PASSWORD", *(role.password_variable for role in roles)]
    lines = (EnvLine(keys[0], "postgres", ""), *(EnvLine(key, "", "secret") for key in keys[1:]))
    return Server(
        name=name,
        host=derive.server_host(given, name),
        host_variable=derive.variable(derive.server_host(given, name)),
        folder=f"{directory}/{name}",
        image=server.image,
        volume=f"pgdata:{_data_folder(server.image)}",
        health_test=_health_test([role.name for role in roles]),
        network=derive.server_network(given, name),
        owns_network=derive.owns_network(given, name),
        databases=roles,
        keys=tuple(keys),
        env_file=EnvFile(
            ".env", "fill in what is empty: with one left, Compose starts nothing", (EnvGroup(name, lines),)
        ),
        host_folder=directory.removeprefix("~/"),
        migrations_mount=f"{directory}/.migrations",
        migrations_directory=server.migrations.directory if server.migrations else "",
        migrations_image=server.migrations.image if server.migrations else "",
    )


def _role(given: spec.Spec, environment: str, database: spec.Database) -> Role:
    return Role(
        environment=environment,
        name=derive.database_name(given, environment, database),
        user=derive.database_user(given, environment, database),
        password_variable=derive.password_variable(given, environment, database),
        connection_limit=database.connection_limit,
        stack=derive.stack_name(given, environment),
    )


def _data_folder(image: str) -> str:
    """Where the image keeps its data: since 18 a level higher (https://hub.docker.com/_/postgres, PGDATA)."""
    return "/var/lib/postgresql" if derive.postgres_major(image) >= 18 else "/var/lib/postgresql/data"


def _health_test(databases: list[str]) -> str:
    """Over TCP, for the server of the first start listens on its socket only; `$$` is Compose's `$`."""
    asked = f" && for d in {' '.join(databases)}; do psql -h 127.0.0.1 -U $$POSTGRES_USER -d $$d -c '' || exit 1; done"
    return "pg_isready -h 127.0.0.1 -U $$POSTGRES_USER" + (asked if databases else "")


def _host(given: spec.Spec, name: str, stacks: dict[str, Stack], servers: tuple[Server, ...]) -> Host:
    here = [environment for environment in stacks if derive.host_of(given, environment) == name]
    keys: dict[str, list[str]] = {}
    for environment in here:
        keys.setdefault(derive.settings_of(given, environment)["key"].name, []).append(stacks[environment].name)
    settings = derive.settings_of(given, here[0])
    held = [stacks[environment] for environment in here]
    placed = tuple(server for server in servers if server.host == name)
    names = [server.name for server in placed] + [stack.name for stack in held]
    folder = given.hosts[name].directory.removeprefix("~/")
    files = [f"{server.name}/.env" for server in placed]
    return Host(
        name=name,
        variable=derive.variable(name),
        folder=folder,
        address=settings["address"],
        user=settings["user"],
        known_hosts=settings["known_hosts"],
        keys=tuple(DeployKey(secret, tuple(names), names[0]) for secret, names in keys.items()),
        network=given.hosts[name].proxy.network,
        stacks=tuple(held),
        servers=placed,
        sources=tuple(f"deploy/{each}" for each in ["bin", *names]),
        env_files=tuple(files + [f"{stack.name}/{file.name}" for stack in held for file in stack.env_files]),
        public=tuple(instance for stack in held for instance in stack.instances if instance.domain),
    )


def _drift(given: spec.Spec, spec_path: str) -> Drift:
    if given.generator.startswith("kiwari-ci=="):
        return Drift(given.generator, "", "", spec_path)
    repository, commit = given.generator.removeprefix("git+https://github.com/").split("@")
    return Drift("", repository.removesuffix(".git"), commit, spec_path)
