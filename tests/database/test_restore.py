"""A restore loses nothing: the old database serves until the new one is whole, and is kept afterwards."""

import re

import pytest

from kiwari_ci.engines.compose.deploy_programs.database import BAD_REQUEST, FAILED, NOT_READY, OK, Output
from tests.database.world import LIVE, SERVER, Killed, World

OLD = {"public sales": [1, 2, 3], "public users": [7]}
NEW = {"public sales": [4], "public later": [5]}


@pytest.fixture
def changed(world: World) -> World:
    """The database was dumped, and changed afterwards."""
    assert world.run("backup", SERVER) == OK
    world.databases[LIVE] = dict(NEW)
    world.calls.clear()
    world.clock += 3600
    return world


def earlier_databases(world: World) -> list[str]:
    """The databases that restores kept."""
    return [name for name in world.databases if "_before_" in name]


def test_the_newest_dump_comes_back_and_the_old_database_stays(
    changed: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert changed.run("restore", SERVER, LIVE) == OK
    assert changed.databases[LIVE] == OLD
    (name,) = earlier_databases(changed)
    assert changed.databases[name] == NEW
    printed = capsys.readouterr().out
    assert f"/bin/database swap postgres {LIVE} {name}" in printed
    assert f"""dropdb -U "${{POSTGRES_USER:-postgres}}" {name}'""" in printed

    assert changed.run("swap", SERVER, LIVE, name) == OK
    assert changed.databases[LIVE] == NEW
    assert [changed.databases[name] for name in earlier_databases(changed)] == [OLD]


def test_a_dump_is_chosen_by_its_name(changed: World) -> None:
    first = changed.dumps()[0]
    assert changed.run("backup", SERVER) == OK
    assert changed.run("restore", SERVER, LIVE, first) == OK
    assert changed.databases[LIVE] == OLD


def test_a_dump_that_failed_is_never_the_latest(changed: World) -> None:
    changed.faults["pg_dump half"] = True
    assert changed.run("backup", SERVER) == FAILED
    assert changed.run("restore", SERVER, LIVE, "latest") == OK
    assert changed.databases[LIVE] == OLD


def test_a_file_that_was_changed_since_is_refused(changed: World, capsys: pytest.CaptureFixture[str]) -> None:
    path = changed.root / SERVER / "backups" / LIVE / changed.dumps()[0]
    path.write_bytes(path.read_bytes()[:-9])
    assert changed.run("restore", SERVER, LIVE) == FAILED
    assert "is not what the record says" in capsys.readouterr().err
    assert changed.databases[LIVE] == NEW and "create" not in changed.calls


@pytest.mark.parametrize(
    ("fault", "answer", "code", "message"),
    [
        ("fill", Output(1, "", "pg_restore: error: role gone does not exist"), FAILED, "role gone does not exist"),
        ("data disk", 1000, NOT_READY, "needs"),
        ("rename", Output(3, "", 'ERROR:  database "pos_production" is being accessed'), FAILED, "serves as before"),
        ("read_whole", Output(1, "", "pg_restore: error: end of file"), FAILED, "is damaged"),
        ("create", Output(1, "", "ERROR:  no space"), NOT_READY, "does not answer"),
    ],
)
def test_whatever_fails_the_old_database_serves(
    changed: World, fault: str, answer: object, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changed.faults[fault] = answer
    assert changed.run("restore", SERVER, LIVE) == code
    assert message in capsys.readouterr().err
    assert changed.databases.keys() == {"postgres", LIVE, "pos_staging"}
    assert changed.databases[LIVE] == NEW


def test_tables_that_are_missing_after_the_restore(changed: World, capsys: pytest.CaptureFixture[str]) -> None:
    def lose_a_table(name: str) -> None:
        for key, tables in changed.databases.items():
            if "_restoring_" in key:
                tables.pop("public users", None)

    changed.before_call = lose_a_table
    assert changed.run("restore", SERVER, LIVE) == FAILED
    assert "lacks 1 of 2 tables: public.users" in capsys.readouterr().err
    assert changed.databases[LIVE] == NEW


def test_a_killed_restore_loses_nothing_and_the_next_one_cleans_up(changed: World) -> None:
    """At each call of docker; `kill -9` runs no clean-up, so the half-filled database is there."""
    assert changed.run("restore", SERVER, LIVE) == OK
    count = len(changed.calls)
    for number in range(count):
        changed.databases = {"postgres": {}, LIVE: dict(NEW), "pos_staging": {}}
        calls = iter(range(1000))

        def kill(name: str, number: int = number, calls: object = calls) -> None:
            if next(calls) >= number:  # type: ignore[call-overload]
                raise Killed  # also the calls of a clean-up, which a killed program does not make

        changed.before_call = kill
        with pytest.raises(Killed):
            changed.run("restore", SERVER, LIVE)
        changed.before_call = lambda name: None
        assert NEW in changed.databases.values()
        assert changed.databases[LIVE] in (OLD, NEW)
        changed.clock += 60
        assert changed.run("restore", SERVER, LIVE) == OK
        assert changed.databases[LIVE] == OLD
        assert NEW in changed.databases.values()
        assert not [name for name in changed.databases if "_restoring_" in name]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("restore postgres nothing", "there is no database nothing on postgres"),
        ("restore postgres pos_staging", "there is no good dump of pos_staging"),
        ("restore postgres pos_production /not/there", "there is no file /not/there"),
        ("swap postgres pos_production pos_staging", "pos_staging is not a copy that a restore of pos_production kept"),
        ("swap postgres pos_production nothing", "there is no database nothing"),
    ],
)
def test_what_cannot_be_restored(changed: World, words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert changed.run(*words.split()) == BAD_REQUEST
    assert message in capsys.readouterr().err
    assert changed.databases[LIVE] == NEW


def test_a_long_name_is_kept_within_postgresqls_limit(world: World) -> None:
    long = "x" * 63
    world.databases[long] = {"public sales": [1]}
    assert world.run("backup", SERVER, long) == OK
    assert world.run("restore", SERVER, long) == OK
    assert world.run("swap", SERVER, long, earlier_databases(world)[0]) == OK
    assert all(len(name) <= 63 for name in world.databases)
    assert re.fullmatch(r"x+_before_[0-9]{8}t[0-9]{6}", earlier_databases(world)[0])
