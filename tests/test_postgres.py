"""The generated init script and health test, run against a real PostgreSQL server."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from kiwari_ci.generator import generate_files
from kiwari_ci.plan_model import DatabaseRole
from kiwari_ci.rendering.render import render_files
from tests.postgres_server import ADDRESS, SUPERUSER, Server, cluster, serving

MARK = "hush"  # stands in every password: wherever it turns up, one has leaked
GOOD = {"POS_STG_PASSWORD": f"{MARK}-staging-1", "POS_PROD_PASSWORD": f"{MARK}-production-1"}
NASTY = [
    "'", '"', "''", "$apr1$x$y", "\\", "\\'", "\\\\' ", " a  b ", "pä€🥭", "a:b@c/d?e#f%41", "one\ntwo\n", "x" * 200,
    "'; DROP DATABASE pos_production; --", "\\gexec", "\\gexec\n\\! touch x", ":'x'", ':"role"', ":role", "$(touch x)",
    "`touch x`", "${PATH}", "$$", "$1", "%s%I%L", "SQL\nSQL\n", "-- */ /*", "é\u0301ﬁ\u00a0",
]  # fmt: skip
AS_THE_IMAGE_DOES = """
set -Eeo pipefail
process() {
  local f
  for f; do
    if [ -x "$f" ]; then "$f"; else . "$f"; fi
    echo "went on after $f"
  done
}
before=$(set -o; shopt)
process "$@"
[ "$before" = "$(set -o; shopt)" ] && echo "options as before"
"""
ROLES = f"pg_roles WHERE rolname <> '{SUPERUSER}' AND rolname !~ '^pg_'"
DATABASES = f"pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1', '{SUPERUSER}')"
CLEAN = rf"""
SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM {DATABASES} \gexec
SELECT format('DROP ROLE %I', rolname) FROM {ROLES} \gexec
GRANT CONNECT, TEMPORARY ON DATABASE postgres, template1, {SUPERUSER} TO PUBLIC;
"""


def with_databases(*databases: DatabaseRole) -> str:
    """The script for these databases."""
    server = replace(PLAN.servers[0], databases=databases)
    return render_files(replace(PLAN, servers=(server,)))[f"deploy/{server.name}/init/init-databases.sh"].text


PLAN, TREE = generate_files(Path(__file__).parents[1] / "specs/kiwari.yaml")
SCRIPT = TREE["deploy/postgres/init/init-databases.sh"].text
HEALTH = PLAN.servers[0].health_test.replace("$$", "$")
STAGING = PLAN.servers[0].databases[0]
PREVIEW = DatabaseRole("preview", "select", "user", "PREVIEW_PASSWORD", 5, "pos-preview")  # reserved words


def place(server: Server, text: str, executable: bool = True) -> str:
    """Put the script where the server's user can read it; returns its path."""
    script = server.home / "init-databases.sh"
    script.write_text(text)
    script.chmod(0o755 if executable else 0o644)
    return str(script)


def init(server: Server, **environment: str) -> CompletedProcess[str]:
    """Run the script by hand, with nothing but this environment."""
    return server.run("bash", place(server, SCRIPT), **environment)


def init_successfully(server: Server) -> None:
    """Run the script with good passwords, and see that it says so."""
    done = init(server, **GOOD)
    assert (done.returncode, done.stderr) == (0, "")


def login(server: Server, role: str, database: str, password: str) -> str:
    """Ask the database who we are as another container would, over scram: the answer, or the refusal."""
    question = "SELECT current_user || '@' || current_database()"
    words = ["psql", "-XqAtw", "-h", ADDRESS, "-U", role, "-d", database, "-c", question]
    done = server.run(*words, PGPASSWORD=password)
    return done.stdout.strip() or done.stderr.strip().split("FATAL:  ")[-1]


def roles(server: Server) -> str:
    """Every role but the server's own, with everything that it may do and its connection limit."""
    rights = "rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls, rolconnlimit"
    return server.sql(f"SELECT rolname, {rights} FROM {ROLES} ORDER BY 1")


def databases(server: Server) -> str:
    """Every database but the server's own, with its owner."""
    return server.sql(f"SELECT datname, pg_get_userbyid(datdba) FROM {DATABASES} ORDER BY 1")


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with cluster() as home, serving(home) as server:
        server.sql(f"CREATE DATABASE {SUPERUSER}")  # the entrypoint makes the default POSTGRES_DB
        yield server


@pytest.fixture
def used(running: Server) -> Iterator[Server]:
    """The server as the last test left it; after this one no log and no psql's arguments hold a password."""
    yield running
    assert MARK not in running.log()
    assert MARK not in running.arguments()


@pytest.fixture
def server(used: Server) -> Server:
    """The server without a role or database of the script's."""
    used.sql(CLEAN)
    return used


def test_the_watch_on_the_log_and_the_arguments_can_fail(server: Server) -> None:
    refused = server.run(
        "psql", "-X", "-c", "CREATE ROLE loud PASSWORD 'loud-1'", "-c", "CREATE ROLE loud PASSWORD 'loud-2'",
        "-U", SUPERUSER, "-d", "postgres",
    )  # fmt: skip
    assert refused.returncode == 1
    assert "statement: CREATE ROLE loud PASSWORD 'loud-1'" in server.log()
    assert "STATEMENT:  CREATE ROLE loud PASSWORD 'loud-2'" in server.log()
    assert "PASSWORD 'loud-1'" in server.arguments()
    init_successfully(server)
    assert "role=pos_stg" in server.arguments()


@pytest.mark.parametrize("executable", [True, False], ids=["executed", "sourced"])
def test_first_start(server: Server, executable: bool) -> None:
    script = place(server, SCRIPT, executable)
    done = server.run("bash", "-c", AS_THE_IMAGE_DOES, "bash", script, **GOOD)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "init-databases: pos_staging belongs to pos_stg",
        "init-databases: pos_production belongs to pos_prod",
        f"went on after {script}",
        "options as before",
    ]
    assert roles(server).split() == ["pos_prod|t|f|f|f|f|f|20", "pos_stg|t|f|f|f|f|f|20"]
    assert databases(server).split() == ["pos_production|pos_prod", "pos_staging|pos_stg"]
    assert login(server, "pos_stg", "pos_staging", GOOD["POS_STG_PASSWORD"]) == "pos_stg@pos_staging"
    assert login(server, "pos_prod", "pos_production", GOOD["POS_PROD_PASSWORD"]) == "pos_prod@pos_production"


@pytest.mark.parametrize("executable", [True, False], ids=["executed", "sourced"])
@pytest.mark.parametrize("variable", GOOD)
@pytest.mark.parametrize("empty", [True, False], ids=["empty", "missing"])
def test_no_password_no_database(server: Server, executable: bool, variable: str, empty: bool) -> None:
    environment = GOOD | {variable: ""}
    if not empty:
        del environment[variable]
    script = place(server, SCRIPT, executable)
    done = server.run("bash", "-c", AS_THE_IMAGE_DOES, "bash", script, **environment)
    assert done.returncode != 0
    assert f"{variable}: is empty or not set, nothing was made" in done.stderr
    assert done.stdout == ""
    assert (roles(server), databases(server)) == ("", "")


@pytest.mark.parametrize(
    "password",
    [
        pytest.param(password, id=f"password{number}", marks=[pytest.mark.exhaustive] if number % 3 else [])
        for number, password in enumerate(NASTY)
    ],
)
def test_nasty_passwords(used: Server, password: str) -> None:
    staging, production = MARK + password, password + MARK
    done = init(used, POS_STG_PASSWORD=staging, POS_PROD_PASSWORD=production)
    assert (done.returncode, done.stderr) == (0, "")
    assert login(used, "pos_stg", "pos_staging", staging) == "pos_stg@pos_staging"
    assert login(used, "pos_prod", "pos_production", production) == "pos_prod@pos_production"
    assert not (used.home / "x").exists()


def test_a_second_run_changes_nothing_but_what_was_changed(server: Server) -> None:
    init_successfully(server)
    before = roles(server), databases(server)
    server.sql("ALTER ROLE pos_stg SUPERUSER CREATEDB CREATEROLE REPLICATION BYPASSRLS NOLOGIN CONNECTION LIMIT -1")
    server.sql("ALTER DATABASE pos_production OWNER TO pos_stg")
    server.sql("CREATE TABLE kept AS SELECT 7 AS seven", "pos_staging")
    done = init(server, **GOOD | {"POS_STG_PASSWORD": f"{MARK}-staging-2"})
    assert (done.returncode, done.stderr) == (0, "")
    assert (roles(server), databases(server)) == before
    assert server.sql("SELECT seven FROM kept", "pos_staging") == "7"
    assert login(server, "pos_stg", "pos_staging", f"{MARK}-staging-2") == "pos_stg@pos_staging"
    assert "password authentication failed" in login(server, "pos_stg", "pos_staging", f"{MARK}-staging-1")


def test_the_superusers_password_is_what_the_env_file_says(used: Server) -> None:
    """The image sets it on the first start only."""
    first, second = f"{MARK} it's 1", f"{MARK} $apr1$2"
    for password, other in ((first, second), (second, first)):
        assert init(used, **GOOD, POSTGRES_PASSWORD=password).returncode == 0
        assert login(used, SUPERUSER, "postgres", password) == f"{SUPERUSER}@postgres"
        assert "password authentication failed" in login(used, SUPERUSER, "postgres", other)


def test_a_role_reaches_its_own_database_only(server: Server) -> None:
    init_successfully(server)
    for database in ("pos_production", "postgres", "template1", SUPERUSER):
        answer = login(server, "pos_stg", database, GOOD["POS_STG_PASSWORD"])
        assert answer.startswith(f'permission denied for database "{database}"'), answer
    for database in ("pos_staging", "postgres", "template1", SUPERUSER):
        answer = login(server, "pos_prod", database, GOOD["POS_PROD_PASSWORD"])
        assert answer.startswith(f'permission denied for database "{database}"'), answer


def test_a_database_that_was_there_changes_hands(server: Server) -> None:
    server.sql("CREATE DATABASE pos_staging")
    init_successfully(server)
    assert databases(server).split() == ["pos_production|pos_prod", "pos_staging|pos_stg"]
    server.sql("SET ROLE pos_stg; CREATE TABLE mine ()", "pos_staging")
    assert login(server, "pos_prod", "pos_staging", GOOD["POS_PROD_PASSWORD"]).startswith("permission denied")


def test_a_new_environment_later(server: Server) -> None:
    init_successfully(server)
    script = place(server, with_databases(STAGING, PREVIEW))
    done = server.run("bash", script, **GOOD, PREVIEW_PASSWORD=f"{MARK}-preview")
    assert (done.returncode, done.stderr) == (0, "")
    assert login(server, "user", "select", f"{MARK}-preview") == "user@select"
    assert "user|t|f|f|f|f|f|5" in roles(server).split()
    assert databases(server).split() == ["pos_production|pos_prod", "pos_staging|pos_stg", "select|user"]


def test_a_failure_half_way_stops_and_a_second_run_mends_it(server: Server) -> None:
    short = GOOD | {"POS_PROD_PASSWORD": f"{MARK}1"}
    done = init(server, **short, PGOPTIONS="-c session_preload_libraries=passwordcheck")
    assert done.returncode == 3
    assert "ERROR:  password is too short" in done.stderr
    assert MARK not in done.stderr
    assert "ERROR:  password is too short" in server.log()
    assert databases(server).split() == ["pos_staging|pos_stg"]
    init_successfully(server)
    assert databases(server).split() == ["pos_production|pos_prod", "pos_staging|pos_stg"]


def test_the_superuser_is_no_environments_role(server: Server) -> None:
    done = init(server, **GOOD, POSTGRES_USER="pos_stg")
    assert done.returncode == 1
    assert done.stderr == "init-databases: POSTGRES_USER may not be pos_stg, the role of pos_staging\n"
    assert (roles(server), databases(server)) == ("", "")


def test_health(server: Server) -> None:
    def health() -> CompletedProcess[str]:
        return server.run("sh", "-c", HEALTH)

    assert 'database "pos_staging" does not exist' in health().stderr
    assert health().returncode == 1
    init_successfully(server)
    assert (health().returncode, health().stderr) == (0, "")
    server.sql("DROP DATABASE pos_production")
    assert 'database "pos_production" does not exist' in health().stderr
    assert health().returncode == 1


def test_health_waits_for_the_end_of_the_first_start() -> None:
    with cluster() as home:
        with serving(home, listen="") as server:
            init_successfully(server)
            assert server.run("sh", "-c", HEALTH).returncode != 0
        with serving(home) as server:
            assert server.run("sh", "-c", HEALTH).returncode == 0
