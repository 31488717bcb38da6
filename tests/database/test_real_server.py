"""The program against a real PostgreSQL server, whose container is a script in place of docker."""

import io
import json
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kiwari_ci.engines.compose.deploy_programs import database
from tests.postgres_server import ADDRESS, AS_POSTGRES, SUPERUSER, Server, cluster, serving

SHOP, OWNER = "shop", "keeper"
MODEL = {"services": {"postgres": {"container_name": "postgres"}}, "x-schedule": {}}
DOCKER = """#!/bin/sh
# docker exec [-i] postgres PROGRAM..., docker inspect, docker compose ... config
case $1 in
  inspect) echo '[{{"State": {{"Status": "running"}}}}]'; exit ;;
  compose) cat >/dev/null; echo '{model}'; exit ;;
esac
shift
[ "$1" != -i ] || shift
shift
export PATH='{binaries}':/usr/bin:/bin PGHOST='{home}' POSTGRES_USER={user} PGDATA='{home}'
cd /
exec nsenter --net=/proc/{process}/ns/net setpriv --reuid=postgres --regid=postgres --clear-groups "$@"
"""
ROWS = "SELECT md5(string_agg(sale::text, ',' ORDER BY id)), count(*) FROM sale"
BUILD = f"""
CREATE ROLE {OWNER} LOGIN PASSWORD 'quiet'; CREATE ROLE other LOGIN PASSWORD 'quiet';
CREATE DATABASE {SHOP} OWNER {OWNER} CONNECTION LIMIT 7; REVOKE ALL ON DATABASE {SHOP} FROM PUBLIC;
GRANT CONNECT ON DATABASE {SHOP} TO other;
ALTER DATABASE {SHOP} SET search_path TO "$user", public, "Odd Name";
ALTER ROLE {OWNER} IN DATABASE {SHOP} SET work_mem TO '9MB';
"""
FILL = f"""
SET ROLE {OWNER};
CREATE SCHEMA "Odd Name"; CREATE TABLE "Odd Name"."two words" (x int); INSERT INTO "Odd Name"."two words" VALUES (5);
CREATE TABLE sale (id int PRIMARY KEY, note text, at timestamptz DEFAULT '2026-01-01');
INSERT INTO sale SELECT i, md5(i::text) || E'\\t\\n€' FROM generate_series(1, 20000) i;
CREATE TABLE part (id int, day date) PARTITION BY RANGE (day);
CREATE TABLE part_2026 PARTITION OF part FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO part VALUES (1, '2026-05-05');
CREATE VIEW seen AS SELECT * FROM sale;
"""
SETTINGS = """
SELECT pg_get_userbyid(datdba), datconnlimit, datcollate, datctype, pg_encoding_to_char(encoding),
  (SELECT string_agg(x::text, ' ' ORDER BY x::text) FROM unnest(datacl) x),
  (SELECT string_agg(setrole::text || setconfig::text, ' ' ORDER BY setrole) FROM pg_db_role_setting s
   WHERE s.setdatabase = d.oid)
FROM pg_database d WHERE datname = '%s'
"""


@dataclass(frozen=True)
class Host:
    """The folder of the stacks, and the server."""

    root: Path
    server: Server

    def run(self, *arguments: str) -> int:
        """Carry out a request."""
        try:
            return database.perform(database.Machine(), database.parse_request(arguments))
        except database.Failed as failure:
            database.print_error(failure.message)
            return failure.code

    def names(self) -> list[str]:
        """The databases that are not the server's own."""
        return self.server.sql(
            "SELECT datname FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1') ORDER BY 1"
        ).split()

    def dump(self) -> Path:
        """The only dump."""
        (path,) = (self.root / "postgres/backups" / SHOP).iterdir()
        return path


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with cluster() as home, serving(home) as server:
        server.sql(BUILD)
        yield server


@pytest.fixture
def host(running: Server, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Host]:
    """A host whose server has a database with data."""
    (root / "postgres").mkdir()
    (root / "postgres/docker-compose.yml").write_text("name: postgres\n")
    script = DOCKER.format(
        model=json.dumps(MODEL), binaries=running.binaries, home=running.home, user=SUPERUSER,
        process=running.process.pid,
    )  # fmt: skip
    (tmp_path / "docker").write_text(script)
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin")
    monkeypatch.setattr(database, "RESERVED_BYTES", 0)
    running.sql(FILL, SHOP)
    yield Host(root, running)
    for name in Host(root, running).names():
        if name != SHOP:
            running.sql(f'DROP DATABASE "{name}" WITH (FORCE)')
    running.sql('DROP SCHEMA public, "Odd Name" CASCADE; CREATE SCHEMA public', SHOP)
    running.sql(f"GRANT ALL ON SCHEMA public TO {OWNER}", SHOP)


@pytest.fixture(autouse=True)
def may_create(running: Server) -> None:
    running.sql(f"GRANT ALL ON SCHEMA public TO {OWNER}; GRANT CREATE ON DATABASE {SHOP} TO {OWNER}", SHOP)


def test_what_was_dumped_comes_back(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """Every row, the owner, the rights and the settings; what was written after the dump is kept beside."""
    rows, settings = host.server.sql(ROWS, SHOP), host.server.sql(SETTINGS % SHOP)
    assert host.run("backup", "postgres", SHOP) == 0
    assert stat.S_IMODE(host.dump().stat().st_mode) == 0o600
    assert stat.S_IMODE(host.dump().parent.stat().st_mode) == 0o700
    host.server.sql("DELETE FROM sale WHERE id > 5; CREATE TABLE later (x int); INSERT INTO later VALUES (42)", SHOP)

    assert host.run("restore", "postgres", SHOP) == 0, capsys.readouterr()

    assert host.server.sql(ROWS, SHOP) == rows
    assert rows.endswith("|20000")
    assert host.server.sql(SETTINGS % SHOP) == settings
    assert host.server.sql('SELECT x FROM "Odd Name"."two words"', SHOP) == "5"
    assert host.server.sql("SELECT id, day FROM part", SHOP) == "1|2026-05-05"
    assert host.server.sql("SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'sale'", SHOP) == OWNER
    (old_database,) = set(host.names()) - {SHOP, SUPERUSER}
    assert host.server.sql("SELECT x FROM later", old_database) == "42"
    assert f"database swap postgres {SHOP} {old_database}" in capsys.readouterr().out

    assert host.run("swap", "postgres", SHOP, old_database) == 0, capsys.readouterr()
    assert host.server.sql("SELECT x FROM later", SHOP) == "42"
    assert host.server.sql("SELECT count(*) FROM sale", SHOP) == "5"


@pytest.mark.exhaustive
def test_sessions_of_a_service_end_and_new_ones_see_the_restored_data(host: Host) -> None:
    """A pool that connects again and again does not stand in the way, and sees the old data or the restored data."""
    assert host.run("backup", "postgres", SHOP) == 0
    host.server.sql("DELETE FROM sale", SHOP)
    pool = (
        "while [ ! -e stop ]; do psql -XqAtw -d shop -U keeper -c"
        " 'SELECT count(*) FROM sale; SELECT pg_sleep(0.2)' >>seen 2>>refused; done"
    )
    network = ["nsenter", f"--net=/proc/{host.server.process.pid}/ns/net"]
    command = [*network, "setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "sh", "-c", pool]
    environment = host.server.environment() | {"PGHOST": ADDRESS, "PGPASSWORD": "quiet"}
    with subprocess.Popen(command, cwd=host.server.home, env=environment) as process:
        try:
            assert host.run("restore", "postgres", SHOP) == 0
        finally:
            time.sleep(1)
            (host.server.home / "stop").touch()
            process.wait(30)
    counts = (host.server.home / "seen").read_text().split()
    assert counts[0] == "0" and counts[-1] == "20000"
    # A connection that begins in the instant of the swap is refused, with a detail that says so; no other is.
    refused = (host.server.home / "refused").read_text()
    assert refused.count("does not exist") == refused.count("It seems to have just been dropped or renamed.")


@pytest.mark.parametrize(
    "damage", ["cut", *(pytest.param(damage, marks=pytest.mark.exhaustive) for damage in ("changed", "empty", "other"))]
)
def test_a_damaged_file_changes_nothing(host: Host, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether it was cut off, changed, or never was a dump; a copy from elsewhere has no line in the record."""
    assert host.run("backup", "postgres", SHOP) == 0
    content = host.dump().read_bytes()
    changed = content[:9000] + b"\0" * 900 + content[9900:]
    texts = {"cut": content[:-5000], "changed": changed, "empty": b"", "other": b"x"}
    copy = host.root / "copy.dump"
    copy.write_bytes(texts[damage])
    rows, names = host.server.sql(ROWS, SHOP), host.names()

    assert host.run("restore", "postgres", SHOP, str(copy)) == 1
    assert host.server.sql(ROWS, SHOP) == rows
    assert host.names() == names
    assert str(copy) in capsys.readouterr().err


@pytest.mark.exhaustive
def test_a_dump_that_the_owner_cannot_have_is_not_swapped_in(host: Host) -> None:
    """A role that is missing on this server: the first error ends the restore, and nothing has changed."""
    host.server.sql("CREATE ROLE gone; ALTER TABLE sale OWNER TO gone", SHOP)
    assert host.run("backup", "postgres", SHOP) == 0
    host.server.sql(f"ALTER TABLE sale OWNER TO {OWNER}; DROP ROLE gone", SHOP)
    rows, names = host.server.sql(ROWS, SHOP), host.names()

    assert host.run("restore", "postgres", SHOP) == 1
    assert (host.server.sql(ROWS, SHOP), host.names()) == (rows, names)


PASSWORDS = """
SET password_encryption = '{kind}';
CREATE ROLE app LOGIN PASSWORD '{old}';
GRANT CONNECT ON DATABASE shop TO app;
"""
DROP = "DROP OWNED BY app; DROP ROLE app"


def logs_in(server: Server, password: str) -> bool:
    """Whether the server lets the role in with a password, over the network."""
    words = ("psql", "-XqAtw", "-h", ADDRESS, "-U", "app", "-d", SHOP, "-c", "SELECT 1")
    return server.run(*words, PGPASSWORD=password).returncode == 0


def open_session(server: Server, password: str) -> "subprocess.Popen[str]":
    """A session of the role that waits for statements."""
    network = ["nsenter", f"--net=/proc/{server.process.pid}/ns/net"]
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    psql = ["psql", "-XqAtw", "-h", ADDRESS, "-U", "app", "-d", SHOP]
    session = subprocess.Popen(
        [*network, *user, *psql],
        env=server.environment() | {"PGPASSWORD": password},
        cwd=server.home,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    count = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"
    for _ in range(50):
        if server.sql(count) == "1" or session.poll() is not None:
            break
        time.sleep(0.1)
    return session


def give(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """What the program reads as standard input."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


@pytest.mark.parametrize("kind", ["scram-sha-256", pytest.param("md5", marks=pytest.mark.exhaustive)])
def test_a_password_is_changed_and_seen_nowhere(
    host: Host, kind: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The new one works, the old one does not, and both stay out of the log, the arguments and the output."""
    old, new = "The-old:1/ok", 'The-new:"$2\\x%'
    host.server.sql(PASSWORDS.format(kind=kind, old=old), SHOP)
    logged_before = len(host.server.log())
    try:
        # pg_hba.conf asks for SCRAM here, which a verifier of MD5 cannot answer.
        assert logs_in(host.server, old) is (kind != "md5")
        session = open_session(host.server, old)
        give(monkeypatch, f"{old}\n{new}\n")
        assert host.run("set-password", "postgres", "app") == 0

        stored = host.server.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'")
        assert stored.startswith("md5" if kind == "md5" else "SCRAM-SHA-256$4096:")
        assert database.is_verified(stored, "app", new) and not database.is_verified(stored, "app", old)
        assert logs_in(host.server, new) is (kind != "md5")
        assert not logs_in(host.server, old)
        still_there = session.communicate("SELECT 'still there'")[0]
        assert ("still there" in still_there) is (kind != "md5"), "a session that is open stays open"

        log = host.server.log()[logged_before:].replace("rolpassword FROM pg_authid WHERE rolname = 'app'", "")
        printed = "".join(capfd.readouterr())
        for text in (log, printed, host.server.arguments()):
            assert old not in text and new not in text and "SCRAM-SHA-256$" not in text and stored not in text
        assert "ALTER ROLE" not in log
        assert "the role app of postgres has another password" in printed
    finally:
        host.server.sql(DROP, SHOP)


@pytest.mark.exhaustive
def test_a_password_that_somebody_else_has_changed_is_not_overwritten(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """To set it a second time changes nothing; and a role that is not there, or half a request, is refused."""
    host.server.sql(PASSWORDS.format(kind="scram-sha-256", old="third"), SHOP)
    try:
        give(monkeypatch, "first\nsecond\n")
        assert host.run("set-password", "postgres", "app") == 69
        assert "has now. Nothing was changed" in capsys.readouterr().err
        assert logs_in(host.server, "third")
        stored = host.server.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'")
        give(monkeypatch, "second\nthird\n")
        assert host.run("set-password", "postgres", "app") == 0
        assert host.server.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'") == stored
        give(monkeypatch, "third\nfourth\n")
        assert host.run("set-password", "postgres", "nobody") == 64
        assert "there is no role nobody on postgres" in capsys.readouterr().err
        for half in ("third\n", "third\nfourth", "\nfourth\n", "third\nfourth\nfifth\n"):
            give(monkeypatch, half)
            assert host.run("set-password", "postgres", "app") == 64
        assert logs_in(host.server, "third")
    finally:
        host.server.sql(DROP, SHOP)


@pytest.mark.exhaustive
def test_a_change_that_came_too_late_does_not_happen(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another session locks the roles: the server gives up before this program says that nothing was changed."""
    assert database.STATEMENT_SECONDS < database.QUERY_SECONDS
    monkeypatch.setattr(database, "STATEMENT_SECONDS", 1)
    host.server.sql(PASSWORDS.format(kind="scram-sha-256", old="old"), SHOP)
    words = ["nsenter", f"--net=/proc/{host.server.process.pid}/ns/net", *AS_POSTGRES]
    other = subprocess.Popen(
        [*words, "psql", "-XqAt", "-U", SUPERUSER, "-d", "postgres"],
        env=host.server.environment(),
        cwd=host.server.home,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert other.stdin and other.stdout
        other.stdin.write("BEGIN; LOCK TABLE pg_authid IN SHARE MODE; SELECT 'locked';\n")
        other.stdin.flush()
        assert other.stdout.readline() == "locked\n"
        give(monkeypatch, "old\nnew\n")
        assert host.run("set-password", "postgres", "app") == 69
        assert "canceling statement due to statement timeout" in capsys.readouterr().err
        other.communicate("COMMIT;\n")
        stored = host.server.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'")
        assert database.is_verified(stored, "app", "old")
    finally:
        other.kill()
        other.wait()
        host.server.sql(DROP, SHOP)


@pytest.mark.exhaustive
def test_a_password_that_was_changed_is_reported_so_without_a_record(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The disk is full when the record is written."""

    def fail(*arguments: object, **line: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(database.Stack, "add_record", fail)
    host.server.sql(PASSWORDS.format(kind="scram-sha-256", old="old"), SHOP)
    try:
        give(monkeypatch, "old\nnew\n")
        assert host.run("set-password", "postgres", "app") == 0
        assert "the record of postgres has no line of this" in capsys.readouterr().out
        assert logs_in(host.server, "new")
    finally:
        host.server.sql(DROP, SHOP)
