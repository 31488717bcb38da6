"""Hosts, and the database servers on them."""

from kiwari_ci import schema
from kiwari_ci.effective import derived
from kiwari_ci.plan import (
    ComposeStack,
    DatabaseRole,
    DeployHost,
    DeployKey,
    EnvFile,
    EnvFileLine,
    EnvFileSection,
    GitHubSetting,
    JumpHost,
    LongRunningAccessories,
    PostgresServer,
)
from kiwari_ci.planning import schedules
from kiwari_ci.proxies import proxy_stacks


def plan_deploy_host(
    given: schema.Spec, name: str, stacks: dict[str, ComposeStack], servers: tuple[PostgresServer, ...]
) -> DeployHost:
    """A host: its settings, its keys, and what is placed on it."""
    here = [environment for environment in stacks if name in derived.list_hosts(given, environment)]
    keys: dict[str, list[str]] = {}
    for environment in here:
        keys.setdefault(derived.resolve_deploy_settings(given, environment, name)["key"].name, []).append(environment)
    settings = derived.resolve_deploy_settings(given, here[0], name)
    held = [stacks[environment] for environment in here]
    placed = tuple(server for server in servers if server.host == name)
    public = tuple(each for stack in held for each in stack.containers if each.domain)
    kind = given.hosts[name].proxy.kind
    sites = proxy_stacks.plan_proxy_sites(given, name, public)
    front = proxy_stacks.plan_proxy_stack(given, name, sites)
    names = [server.name for server in placed] + [stack.name for stack in held] + [each.name for each in front]
    folder = given.hosts[name].directory.removeprefix("~/")
    files = [f"{server.name}/.env" for server in placed]
    return DeployHost(
        name=name,
        variable=derived.format_variable_name(name),
        folder=folder,
        address=settings["address"],
        user=settings["user"],
        known_hosts=settings["known_hosts"],
        port=format_ssh_port(given.hosts[name].port),
        ssh_port=str(given.hosts[name].port),
        way=_format_ssh_config(given.hosts[name], derived.format_variable_name(name)),
        jumps=plan_jump_hosts(given, name, settings),
        keys=tuple(
            _plan_deploy_key(given, name, secret, [stacks[place] for place in places])
            for secret, places in keys.items()
        ),
        network=given.hosts[name].proxy.network,
        stacks=tuple(held),
        servers=placed,
        sources=tuple(f"deploy/{each}" for each in ["bin", *names]),
        env_files=tuple(files + [f"{stack.name}/{file.name}" for stack in held for file in stack.env_files]),
        public=public,
        proxy=kind,
        managed=public if kind == "nginx-proxy-manager" else (),
        labelled=sites if kind == "traefik" else (),
        published=proxy_stacks.plan_published_domains(public) if kind == "none" else (),
        fronts=front,
    )


def _plan_deploy_key(given: schema.Spec, host: str, secret: str, stacks: list[ComposeStack]) -> DeployKey:
    words = [
        word
        for stack in stacks
        for word, said in ((stack.name, True), (f"{stack.name}:push", stack.pushed), (f"{stack.name}:env", stack.sent))
        if said
    ]
    names = tuple(stack.name for stack in stacks)
    pushes, renders = any(stack.pushed for stack in stacks), any(stack.sent for stack in stacks)
    before = list(given.hosts)[: list(given.hosts).index(host)]
    ways = [
        (other, name) for name in given.environments for other in derived.list_hosts(given, name) if other in before
    ]
    is_there = any(derived.resolve_deploy_settings(given, name, other)["key"].name == secret for other, name in ways)
    return DeployKey(secret, names, tuple(words), pushes, renders, names[0], is_there)


def plan_jump_hosts(given: schema.Spec, name: str, settings: dict[str, GitHubSetting]) -> tuple[JumpHost, ...]:
    """The machine through which a host is reached, if there is one."""
    jump = given.hosts[name].jump
    if jump is None:
        return ()
    kept = {field: settings[f"jump_{field}"] for field in ("address", "user", "key", "known_hosts")}
    return (
        JumpHost(
            variable=f"{derived.format_variable_name(name)}_JUMP",
            port=format_ssh_port(jump.port),
            ssh_port=str(jump.port),
            **kept,
        ),
    )


def format_ssh_port(number: int) -> str:
    """A port as ssh must be told it; empty for SSH's own."""
    return "" if number == 22 else str(number)


def _format_ssh_config(host: schema.Host, variable: str) -> str:
    """Lines of a person's own ~/.ssh/config, in double quotes."""
    lines = [f"Port {host.port}"] if format_ssh_port(host.port) else []
    lines += [f"ProxyJump ${variable}_JUMP:{host.jump.port}"] if host.jump else []
    return " ".join(f'"{line}"' for line in lines)


def plan_postgres_server(given: schema.Spec, name: str) -> PostgresServer:
    """A PostgreSQL server, the databases on it, and its env file."""
    server = given.databases[name]
    directory = given.hosts[derived.find_server_host(given, name)].directory
    roles = tuple(
        _plan_database_role(given, environment, place.database)
        for environment, place in given.environments.items()
        if place.database and derived.find_database_server(given, place.database) == name
    )
    keys = ["POSTGRES_USER", "POSTGRES_PASSWORD", *(role.password_variable for role in roles)]
    lines = (EnvFileLine(keys[0], "postgres", "", ""), *(EnvFileLine(key, "", "secret", "") for key in keys[1:]))
    return PostgresServer(
        name=name,
        host=derived.find_server_host(given, name),
        host_variable=derived.format_variable_name(derived.find_server_host(given, name)),
        folder=f"{directory}/{name}",
        image=server.image,
        volume=f"pgdata:{_find_pgdata_folder(server.image)}",
        health_test=_format_health_test([role.name for role in roles]),
        network=derived.find_server_network(given, name),
        owns_network=derived.owns_network(given, name),
        databases=roles,
        backups=schedules.plan_backups(server, tuple(role.name for role in roles)),
        keys=tuple(keys),
        env_file=EnvFile(
            ".env", "fill in what is empty: with one left, Compose starts nothing", (EnvFileSection(name, lines),)
        ),
        host_folder=directory.removeprefix("~/"),
        migrations_mount=f"{directory}/.migrations",
        migrations_directory=server.migrations.directory if server.migrations else "",
        migrations_image=server.migrations.image if server.migrations else "",
    )


def list_long_running(host: DeployHost) -> tuple[LongRunningAccessories, ...]:
    """The stacks of a host whose accessories stay, for the commands that renew them."""
    found = {stack.name: tuple(each.container for each in stack.accessories if not each.once) for stack in host.stacks}
    return tuple(
        LongRunningAccessories(host.variable, f"{host.folder}/{name}", names) for name, names in found.items() if names
    )


def _plan_database_role(given: schema.Spec, environment: str, database: schema.Database) -> DatabaseRole:
    return DatabaseRole(
        environment=environment,
        name=derived.derive_database_name(given, environment, database),
        user=derived.derive_database_user(given, environment, database),
        password_variable=derived.derive_password_key(given, environment, database),
        connection_limit=database.connection_limit,
        stack=derived.derive_stack_name(given, environment),
    )


def _find_pgdata_folder(image: str) -> str:
    """Where the image keeps its data: since 18 a level higher (https://hub.docker.com/_/postgres, PGDATA)."""
    return "/var/lib/postgresql" if derived.parse_postgres_major(image) >= 18 else "/var/lib/postgresql/data"


def _format_health_test(databases: list[str]) -> str:
    """Over TCP, for the server of the first start listens on its socket only; `$$` is Compose's `$`."""
    asked = f" && for d in {' '.join(databases)}; do psql -h 127.0.0.1 -U $$POSTGRES_USER -d $$d -c '' || exit 1; done"
    return "pg_isready -h 127.0.0.1 -U $$POSTGRES_USER" + (asked if databases else "")
