"""Scheduled jobs: cron lines, what is due, what was missed, and what `status` says of it."""

from datetime import UTC, datetime

import pytest

from kiwari_ci.engines.compose.deploy_programs import database
from kiwari_ci.engines.compose.deploy_programs.database import FAILED, LOCKED, NOT_READY, OK, latest, parse_schedule
from tests.database.world import IMAGE, LIVE, NOON, SERVER, SERVICE, STACK, World

DAY = 86400


def moment(text: str) -> float:
    """A moment in UTC."""
    return datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("line", "zone", "until", "due"),
    [
        ("15 3 * * *", "", "2026-03-10 12:00", "2026-03-10 03:15"),
        ("15 3 * * *", "", "2026-03-10 03:15", "2026-03-10 03:15"),
        ("15 3 * * *", "", "2026-03-10 03:14", "2026-03-09 03:15"),
        ("*/20 * * * *", "", "2026-03-10 12:39", "2026-03-10 12:20"),
        ("5/15 * * * *", "", "2026-03-10 12:39", "2026-03-10 12:35"),
        ("0 0 1 1 *", "", "2026-03-10 12:00", "2026-01-01 00:00"),
        ("0 0 29 2 *", "", "2026-03-10 12:00", "2024-02-29 00:00"),
        ("0 4 * * sun", "", "2026-03-10 12:00", "2026-03-08 04:00"),
        ("0 4 * * 7", "", "2026-03-10 12:00", "2026-03-08 04:00"),
        ("0 4 * * MON-FRI", "", "2026-03-08 12:00", "2026-03-06 04:00"),
        ("0 4 13 * fri", "", "2026-03-10 12:00", "2026-03-06 04:00"),  # a Friday, or a 13th: as in cron
        ("0 4 */2 * fri", "", "2026-03-10 12:00", "2026-02-27 04:00"),  # both, because of the *: as in cron
        ("0 9-17/4 * * *", "", "2026-03-10 12:00", "2026-03-10 09:00"),
        ("0 1,22 * dec,jan *", "", "2026-03-10 12:00", "2026-01-31 22:00"),
        ("15 3 * * *", "Asia/Jakarta", "2026-03-10 12:00", "2026-03-09 20:15"),
        ("30 2 * * *", "Europe/Berlin", "2026-03-29 12:00", "2026-03-29 01:30"),  # 02:30 is left out: at 03:30
        ("30 2 * * *", "Europe/Berlin", "2026-10-25 12:00", "2026-10-25 00:30"),  # 02:30 comes twice: the first
        ("30 3 * * *", "Europe/Berlin", "2026-10-25 12:00", "2026-10-25 02:30"),
    ],
)
def test_the_last_time_it_was_due(line: str, zone: str, until: str, due: str) -> None:
    start = moment("2024-01-01 00:00")
    assert latest(parse_schedule(line, zone), start, moment(until)) == moment(due)
    assert latest(parse_schedule(line, zone), moment(due), moment(until)) is None


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("@daily", "write five fields"),
        ("15 3 * *", "it has 4 fields"),
        ("0 15 3 * * *", "it has 6 fields"),
        ("60 3 * * *", "the minute '60' is not within 0 to 59"),
        ("0 24 * * *", "the hour '24' is not within 0 to 23"),
        ("0 0 0 * *", "the day '0' is not within 1 to 31"),
        ("0 0 * 13 *", "the month '13' is not within 1 to 12"),
        ("0 0 * * 8", "the weekday '8' is not within 0 to 7"),
        ("0 5-3 * * *", "is not within 0 to 23, in order"),
        ("*/0 * * * *", "is not within"),
        ("0 0 L * *", "the day 'L' is not understood"),
        ("0 0 ? * *", "the day '?' is not understood"),
        ("0 0 * * mon#2", "is not understood"),
        ("0 0 * * jan", "the weekday 'jan' is not understood"),
        ("0 0 30 2 *", "no month of it has such a day"),
        ("0 0 31 4,6,9,11 *", "no month of it has such a day"),
        ("H 3 * * *", "the minute 'H' is not understood"),
    ],
)
def test_a_line_that_is_not_understood(line: str, why: str) -> None:
    with pytest.raises(ValueError, match=why.replace("*", r"\*").replace("?", r"\?")):
        parse_schedule(line)


@pytest.mark.parametrize("zone", ["Nowhere/Town", "../etc/passwd", "", "UTC\n"])
def test_a_time_zone_that_is_none(zone: str) -> None:
    with pytest.raises(ValueError, match="time zone"):
        database.check_zone(zone)


def test_the_time_zone_of_the_process_stays() -> None:
    latest(parse_schedule("0 3 * * *", "Asia/Jakarta"), NOON - DAY, NOON)
    assert datetime.fromtimestamp(0).astimezone().utcoffset() == datetime.fromtimestamp(0, UTC).astimezone().utcoffset()


# What is due


@pytest.fixture
def timed(world: World) -> World:
    """The timer has called once, so that what comes now is counted."""
    world.deployed()
    assert world.run("due") == OK
    assert world.started == []
    return world


def test_what_is_due_runs_once(timed: World) -> None:
    timed.clock = NOON + DAY
    assert timed.run("due") == OK
    assert sorted(timed.started) == ["backup postgres pos_production scheduled", "run pos-staging clean scheduled"]
    assert len(timed.dumps()) == 1 and timed.dumps()[0].endswith("-scheduled.dump")
    assert timed.run("due") == OK
    assert len(timed.started) == 2


def test_days_that_were_missed_count_once(timed: World) -> None:
    timed.clock = NOON + 9 * DAY
    timed.run("due")
    assert len(timed.started) == 2


def test_a_failed_backup_waits_for_its_next_time(timed: World) -> None:
    timed.clock = NOON + DAY
    timed.faults["pg_dump code"] = True
    assert timed.run("due") == FAILED
    timed.clock += 60
    assert timed.run("due") == OK
    assert len(timed.started) == 2


def test_a_run_that_could_not_even_begin_has_failed(timed: World, capsys: pytest.CaptureFixture[str]) -> None:
    """It was killed before it wrote anything: it is not tried again each minute, and `status` says it."""
    timed.clock = NOON + DAY
    timed.faults["start"] = True
    assert timed.run("due") == FAILED
    timed.clock += 60
    assert timed.run("due") == OK
    assert len(timed.started) == 2
    assert timed.run("status") == FAILED
    assert "it ended with exit code 137" in capsys.readouterr().out


def interrupted(timed: World) -> None:
    """A power cut came while both were running."""
    timed.clock = NOON + DAY
    for stack, title in ((SERVER, f"backup {LIVE}"), (STACK, "job clean")):
        due = database.stamp(NOON + DAY)
        database.Stack(timed.machine, timed.root / stack).add_record(title, timed.clock, result="started", due=due)


def test_after_a_power_cut_a_backup_is_made_again_and_a_job_is_not(timed: World) -> None:
    interrupted(timed)
    assert timed.run("status") == FAILED
    assert timed.run("due") == OK
    assert timed.started == ["backup postgres pos_production scheduled"]
    assert timed.run("due") == OK
    assert len(timed.started) == 1


def test_a_backup_that_takes_the_server_down_is_not_made_again_and_again(timed: World) -> None:
    interrupted(timed)
    interrupted(timed)
    assert timed.run("due") == OK
    assert timed.started == []


def test_a_second_call_of_the_timer_leaves_it_to_the_first(timed: World) -> None:
    timed.clock = NOON + DAY
    codes = []

    def call_again(name: str) -> None:
        if name == "pg_dump":
            codes.append(timed.run("due"))

    timed.before_call = call_again
    assert timed.run("due") == OK
    assert codes == [OK] and len(timed.started) == 2


def test_a_stack_that_compose_cannot_read_keeps_no_other_from_its_time(timed: World) -> None:
    timed.clock = NOON + DAY
    timed.schedule[STACK]["jobs"]["clean"]["schedule"] = "sometimes"
    timed.run("due")
    assert timed.started == ["backup postgres pos_production scheduled"]
    assert timed.run("status") == FAILED


# Jobs


def test_a_job_runs_in_the_image_that_serves(timed: World) -> None:
    assert timed.run("run", STACK, "clean") == OK
    (command,) = timed.shown
    line = " ".join(command)
    assert "docker-compose.override.yml run --rm -T -l traefik.enable=false --no-deps " in line
    assert f" --name {SERVICE}-job-clean " in line
    assert line.endswith(f" {SERVICE} clean $1")
    assert timed.lines(STACK)[-1]["image"] == IMAGE


def test_a_job_of_a_service_that_was_never_deployed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run("run", STACK, "clean") == NOT_READY
    assert "deploy it first" in capsys.readouterr().err
    assert world.shown == []


def test_a_pin_that_was_changed_by_hand_is_not_what_serves(timed: World) -> None:
    pins = timed.root / STACK / "docker-compose.override.yml"
    pins.write_text(pins.read_text().replace("a" * 64, "b" * 64))
    assert timed.run("run", STACK, "clean") == NOT_READY


def test_a_job_that_fails_is_recorded_and_shown(timed: World, capsys: pytest.CaptureFixture[str]) -> None:
    timed.faults["job"] = 3
    assert timed.run("run", STACK, "clean") == FAILED
    assert timed.run("status", STACK) == FAILED
    assert "FAILURE: pos-staging: job clean: the last run failed" in capsys.readouterr().out


def test_a_job_that_never_ends_is_ended(timed: World) -> None:
    timed.faults["job"] = None
    assert timed.run("run", STACK, "clean") == FAILED
    assert "did not end within 6 hours" in timed.lines(STACK)[-1]["message"]
    assert "remove" in timed.calls


@pytest.mark.parametrize(("state", "code"), [("running", LOCKED), ("exited", OK)])
def test_a_container_of_an_earlier_run(timed: World, state: str, code: int) -> None:
    """Its caller was killed: while it runs there is no second one; when it has ended it is removed."""
    timed.containers[f"{SERVICE}-job-clean"] = state
    assert timed.run("run", STACK, "clean") == code
    assert len(timed.shown) == (code == OK)


def test_a_container_of_something_else_is_not_removed(timed: World) -> None:
    timed.running.add(f"{SERVICE}-job-clean")
    assert timed.run("run", STACK, "clean") == NOT_READY
    assert "remove" not in timed.calls and timed.shown == []


def test_an_unknown_job(timed: World) -> None:
    assert timed.run("run", STACK, "dirty") == database.BAD_REQUEST


# Status


def test_all_is_well(timed: World, capsys: pytest.CaptureFixture[str]) -> None:
    timed.clock = NOON + DAY
    timed.run("due")
    timed.clock += 60
    timed.run("due")
    capsys.readouterr()
    assert timed.run("status") == OK
    printed = capsys.readouterr().out
    assert "postgres: backup pos_production: 20251130T120000Z-scheduled.dump, 1 minutes old" in printed
    assert "2 tables, on this disk only; 1 dumps" in printed
    assert "pos-staging: job clean: done, 1 minutes ago" in printed
    assert "FAILURE" not in printed


def test_a_timer_that_was_never_installed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run("status") == FAILED
    printed = capsys.readouterr().out
    assert "FAILURE: no timer has started backups and jobs yet. Install it: " in printed
    assert "backup pos_production: the timer has not run since this backup was added" in printed


def test_a_timer_that_stopped_is_seen_at_once_and_what_it_missed_later(
    timed: World, capsys: pytest.CaptureFixture[str]
) -> None:
    timed.clock += 3600
    assert timed.run("status") == FAILED
    printed = capsys.readouterr().out
    assert "the timer has not run for 60 minutes" in printed and "missed" not in printed
    timed.clock += DAY
    assert timed.run("status") == FAILED
    assert "missed: it was due at 2025-11-30T03:15:00Z, and no run has succeeded yet" in capsys.readouterr().out


def test_a_backup_that_is_late_is_not_missed_yet(timed: World) -> None:
    timed.clock = moment("2025-11-30 03:20")
    database.timer_file().write_text(str(timed.clock))
    assert timed.run("status", SERVER) == OK


def test_a_dump_that_is_gone_is_seen(timed: World, capsys: pytest.CaptureFixture[str]) -> None:
    timed.clock = NOON + DAY
    timed.run("due")
    (timed.root / SERVER / "backups" / LIVE / timed.dumps()[0]).unlink()
    assert timed.run("status") == FAILED
    assert "is not there as it was written" in capsys.readouterr().out


def test_the_timer_is_installed_by_what_is_printed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run("timer") == OK
    printed = capsys.readouterr().out
    assert f"ExecStart={world.root}/bin/database due\n" in printed
    assert "systemctl enable --now kiwari-ci-schedule.timer" in printed
