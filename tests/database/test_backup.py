"""Dumps: complete or not there at all, whatever fails; none is removed for one that is no good."""

import json
import shutil
import stat
from pathlib import Path

import pytest

from kiwari_ci.engines.compose.deploy_programs import database
from kiwari_ci.engines.compose.deploy_programs.database import FAILED, LOCKED, NOT_READY, OK, Output
from tests.database.world import LIVE, SERVER, Killed, World

DAY = 86400


def good(world: World) -> list[str]:
    """A dump that was made before; its name."""
    assert world.run("backup", SERVER) == OK
    world.clock += DAY
    return world.dumps()


def test_a_dump_is_private_recorded_and_named_by_its_time(world: World) -> None:
    assert world.run("backup", SERVER) == OK

    assert world.dumps() == ["20251129T120000Z.dump"]
    path = world.root / SERVER / "backups" / LIVE / world.dumps()[0]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    (line,) = world.lines()
    assert line["result"] == "done" and line["copy"] == "none" and line["reason"] == "by hand"
    assert line["bytes"] == path.stat().st_size
    assert line["sha256"] == database.checksum_of(path)
    assert line["tables"] == 2


@pytest.mark.parametrize(
    ("fault", "answer", "message"),
    [
        ("pg_dump code", True, "pg_dump of pos_production failed"),
        ("pg_dump half", True, "is damaged"),
        ("list_contents", Output(1, "", "pg_restore: error: no archive"), "is damaged: pg_restore: error: no archive"),
        ("list_contents", Output(0, "217; 1259 16385 TABLE public sales pos\n", ""), "lacks 1 of 2 tables: public.us"),
        ("disk", 500_000_001, "and a dump of pos_production needs"),
        ("size", Output(1, "", "psql: error: the server is starting"), "does not answer"),
    ],
)
def test_a_dump_that_fails_leaves_the_older_ones(
    world: World, fault: str, answer: object, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    older_dumps = good(world)
    world.faults[fault] = answer

    assert world.run("backup", SERVER) == FAILED

    assert world.dumps() == older_dumps
    assert message in capsys.readouterr().err
    assert world.lines()[-1]["result"] == "failed" and message in world.lines()[-1]["message"]


def test_the_disk_fills_up_while_the_dump_is_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    older_dumps = good(world)

    def full(stream: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(database, "new_file", full)
    assert world.run("backup", SERVER) == FAILED
    monkeypatch.undo()
    assert (world.root / SERVER / "backups" / LIVE / older_dumps[0]).is_file()


def test_a_container_that_does_not_run(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.running.clear()
    assert world.run("backup", SERVER) == FAILED
    assert "the container postgres does not run. Start it: cd " in capsys.readouterr().err
    assert world.lines()[-1]["result"] == "failed"


def test_a_killed_backup_leaves_nothing_that_counts(world: World) -> None:
    """Killed before and after each call of docker: the older dump stays, and the next backup is good."""
    older_dumps = good(world)
    world.run("backup", SERVER)
    count = len(world.calls) // 2
    for number in range(count):
        calls = iter(range(count + 1))

        def kill(name: str, number: int = number, calls: object = calls) -> None:
            if next(calls) == number:  # type: ignore[call-overload]
                raise Killed

        world.before_call = kill
        with pytest.raises(Killed):
            world.run("backup", SERVER)
        world.before_call = lambda name: None
        assert set(older_dumps) <= set(world.dumps())
        assert world.run("status", SERVER) in (OK, FAILED)
    world.clock += DAY
    assert world.run("backup", SERVER) == OK
    assert all(name.endswith(".dump") for name in world.dumps())


def test_a_file_of_a_killed_program_is_removed(world: World) -> None:
    """A power cut runs no clean-up: the half of a dump lies there under its other name."""
    good(world)
    (world.root / SERVER / "backups" / LIVE / ".20251130T000000Z.dump.part").write_bytes(b"PGDMP half")
    assert world.run("backup", SERVER) == OK
    assert [name for name in world.dumps() if "part" in name] == []


def test_so_many_are_kept_and_files_of_others_stay(world: World) -> None:
    folder = world.root / SERVER / "backups" / LIVE
    for _ in range(5):
        good(world)
    (folder / "mine.dump").write_text("of a person")
    assert world.run("backup", SERVER) == OK
    assert world.dumps() == [
        "20251202T120000Z.dump", "20251203T120000Z.dump", "20251204T120000Z.dump", "mine.dump",
    ]  # fmt: skip


def test_dumps_before_migrations_push_out_no_others(world: World) -> None:
    older_dumps = good(world)
    for _ in range(5):
        assert world.run("backup", SERVER, LIVE, "before-migration") == OK
    assert older_dumps[0] in world.dumps()
    assert len([name for name in world.dumps() if name.endswith("-before-migration.dump")]) == 3


def test_a_database_that_fails_keeps_no_other_from_its_dump(world: World) -> None:
    world.schedule[SERVER]["backups"] = {"not_there": {"schedule": "0 3 * * *"}, LIVE: {"schedule": "0 3 * * *"}}
    assert world.run("backup", SERVER) == FAILED
    assert len(world.dumps()) == 1 and world.dumps("not_there") == []


def test_a_database_without_a_schedule_is_named_by_a_person(world: World) -> None:
    assert world.run("backup", SERVER, "pos_staging") == OK
    assert len(world.dumps("pos_staging")) == 1


def test_two_at_once(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The second waits, and gives up with a code of its own; the first is not disturbed."""
    codes = []

    def second(name: str) -> None:
        if name == "pg_dump":
            world.before_call = lambda name: None
            codes.append(world.run("backup", SERVER))
            codes.append(world.run("restore", SERVER, LIVE))

    world.before_call = second
    assert world.run("backup", SERVER) == OK
    assert codes == [LOCKED, LOCKED]
    assert "another backup or restore of postgres holds the lock" in capsys.readouterr().err
    assert len(world.dumps()) == 1


# Copies


def copying(world: World, **settings: object) -> None:
    world.schedule[SERVER]["backups"][LIVE].update({key.replace("_", "-"): text for key, text in settings.items()})


def test_a_copy_in_a_folder_has_the_same_bytes_and_the_same_number(world: World, tmp_path: Path) -> None:
    copying(world, copy_folder=str(tmp_path))
    for _ in range(5):
        good(world)
    copies = tmp_path / SERVER / LIVE
    assert sorted(path.name for path in copies.iterdir()) == world.dumps()
    for name in world.dumps():
        assert (copies / name).read_bytes() == (world.root / SERVER / "backups" / LIVE / name).read_bytes()
    assert world.lines()[-1]["copy"] == "done"


def test_a_folder_that_is_not_mounted_is_loud(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is not created; the dump itself is good, and stays."""
    copying(world, copy_folder=str(tmp_path / "nas"))
    assert world.run("backup", SERVER) == FAILED
    assert "NOT COPIED: the folder" in capsys.readouterr().err
    assert not (tmp_path / "nas").exists()
    assert len(world.dumps()) == 1
    assert (world.lines()[-1]["result"], world.lines()[-1]["copy"]) == ("done", "failed")
    assert world.run("status", SERVER) == FAILED
    assert "FAILURE: postgres: backup pos_production: the last dump was not copied" in capsys.readouterr().out


def test_a_copy_that_reads_back_as_something_else(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copying(world, copy_folder=str(tmp_path))
    monkeypatch.setattr(shutil, "copyfileobj", lambda source, stream, length: stream.write(b"PGDMP"))
    assert world.run("backup", SERVER) == FAILED
    assert world.lines()[-1]["copy"] == "failed"
    assert not list((tmp_path / SERVER / LIVE).glob("*.dump"))


def test_a_command_finds_the_dump_in_its_environment(world: World) -> None:
    copying(world, copy_command='rclone copyto "$$BACKUP_FILE" "far:$$BACKUP_NAME"')
    assert world.run("backup", SERVER) == OK
    ((command, settings),) = world.scripts
    assert command == 'rclone copyto "$BACKUP_FILE" "far:$BACKUP_NAME"'
    assert settings["BACKUP_FILE"].endswith(f"/backups/{LIVE}/{world.dumps()[0]}")
    assert settings["BACKUP_NAME"] == f"{SERVER}/{LIVE}/{world.dumps()[0]}"
    assert settings["BACKUP_SHA256"] == world.lines()[-1]["sha256"]


def test_a_command_that_fails_is_loud_and_removes_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        good(world)
    older_dumps = world.dumps()
    copying(world, copy_command="false")
    world.faults["copy"] = 9
    assert world.run("backup", SERVER) == FAILED
    assert "NOT COPIED: the command ended with exit code 9" in capsys.readouterr().err
    assert set(older_dumps) < set(world.dumps())


# The record


def test_a_torn_line_is_left_out_and_the_next_one_is_whole(world: World) -> None:
    good(world)
    path = world.root / SERVER / ".schedule/record"
    with path.open("a") as stream:
        stream.write('{"time": "2025-11-30T1')
    assert world.run("backup", SERVER) == OK
    assert [line["result"] for line in world.lines()] == ["done", "done"]


def test_a_long_record_is_cut_to_the_newest_runs(world: World) -> None:
    good(world)
    path = world.root / SERVER / ".schedule/record"
    line = {"time": "2025-11-29T00:00:00Z", "job": "job clean", "result": "done", "message": "x" * 900}
    with path.open("a") as stream:
        stream.writelines(json.dumps(line | {"seconds": number}) + "\n" for number in range(1300))
    assert world.run("backup", SERVER) == OK
    lines = world.lines()
    assert [line["seconds"] for line in lines if line["job"] == "job clean"] == list(range(900, 1300))
    assert [line["result"] for line in lines if line["job"] == f"backup {LIVE}"] == ["done", "done"]


@pytest.mark.parametrize("words", ["backup", "backup ../x", "restore postgres", "due now", "backup postgres a b", "x"])
def test_other_requests_are_refused(world: World, words: str) -> None:
    assert world.run(*words.split()) == database.BAD_REQUEST


def test_a_stack_that_is_not_there(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run("backup", "nothing") == database.BAD_REQUEST
    assert "there is no stack 'nothing' on this server" in capsys.readouterr().err
    world.faults["config"] = Output(1, "", "yaml: line 3: mapping values are not allowed")
    assert world.run("backup", SERVER) == NOT_READY
