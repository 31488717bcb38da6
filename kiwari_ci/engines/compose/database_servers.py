"""PostgreSQL servers, each with a stack of its own."""

from kiwari_ci.effective_spec import EffectiveDatabase, EffectiveDatabaseServer, EffectiveSpec
from kiwari_ci.effective_spec.databases import POSTGRES_PORT
from kiwari_ci.effective_spec.values import parse_postgres_major
from kiwari_ci.engines.compose import schedules
from kiwari_ci.plan_model import DatabaseRole, EnvFile, EnvFileLine, EnvFileSection, PostgresServer


def plan_postgres_server(spec: EffectiveSpec, server: EffectiveDatabaseServer) -> PostgresServer:
    """Plan a PostgreSQL server, the databases on it, and its env file."""
    roles = tuple(
        _plan_database_role(environment.name, environment.stack_name, environment.database)
        for environment in spec.environments.values()
        if environment.database and environment.database.server.name == server.name
    )
    secret_keys = ["POSTGRES_PASSWORD", *(role.password_variable for role in roles)]
    lines = [EnvFileLine("POSTGRES_USER", "postgres", "", "")]
    lines += [EnvFileLine(key, "", "secret", "", is_secret=True) for key in secret_keys]
    env_file = EnvFile(
        ".env",
        "fill in each empty value; while one is empty, Compose starts nothing",
        (EnvFileSection(server.name, tuple(lines)),),
    )
    migrations = server.model.migrations
    return PostgresServer(
        name=server.name,
        host=server.host.name,
        host_variable=server.host.variable,
        folder=f"{server.host.directory}/{server.name}",
        image=server.model.image,
        volume=f"pgdata:{_find_pgdata_folder(server.model.image)}",
        health_test=_format_health_test([role.name for role in roles]),
        network=server.network,
        published=_format_published_port(server.model.address) if server.model.address else "",
        owns_network=server.owns_network,
        databases=roles,
        backups=schedules.plan_backups(server, [role.name for role in roles]),
        keys=("POSTGRES_USER", *secret_keys),
        env_file=env_file,
        host_folder=server.host.home_folder,
        migrations_mount=f"{server.host.directory}/.migrations",
        migrations_directory=migrations.directory if migrations else "",
        migrations_image=migrations.image if migrations else "",
    )


def _plan_database_role(environment_name: str, stack_name: str, database: EffectiveDatabase) -> DatabaseRole:
    return DatabaseRole(
        environment=environment_name,
        name=database.name,
        user=database.user,
        password_variable=database.password_key,
        connection_limit=database.model.connection_limit,
        stack=stack_name,
    )


def _format_published_port(address: str) -> str:
    """Publish the server on one address of its host, and on no other."""
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{POSTGRES_PORT}:{POSTGRES_PORT}"


def _find_pgdata_folder(image: str) -> str:
    """Find the folder where the image keeps its data: since version 18 it is one level higher.

    See PGDATA in https://hub.docker.com/_/postgres.
    """
    return "/var/lib/postgresql" if parse_postgres_major(image) >= 18 else "/var/lib/postgresql/data"


def _format_health_test(databases: list[str]) -> str:
    """Write the command that asks the server and each database for their health; `$$` is Compose's `$`.

    It connects over TCP, for the temporary server of the first start listens on its socket only.
    """
    test = "pg_isready -h 127.0.0.1 -U $$POSTGRES_USER"
    if databases:
        query = "psql -h 127.0.0.1 -U $$POSTGRES_USER -d $$d -c ''"
        test += f" && for d in {' '.join(databases)}; do {query} || exit 1; done"
    return test
