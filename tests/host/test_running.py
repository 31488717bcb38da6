"""How the program runs: its log, its lock, how it is cancelled, and what it prints."""

import contextlib
import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kiwari_ci.engines.compose.deploy_programs import deploy as deploy_program
from tests.host.fake_docker import Image
from tests.host.world import World, captured
from tests.notices import WAITING

CANCEL = deploy_program.Request("cancel", "shop", run="cancel")
CANCEL_WITH_KEY = deploy_program.Request("cancel", "shop", run="cancel", is_from_key=True)


@contextlib.contextmanager
def another_process(work: str, path: Path, is_from_key: bool = False) -> Iterator[int]:
    """A process that holds the lock of a file until it is told to end."""
    ready, ready_writer = os.pipe()
    process = os.fork()
    if process == 0:
        with deploy_program.locked(path, work, is_from_key=is_from_key):
            os.write(ready_writer, b"x")
            signal.pause()
        os._exit(0)
    try:
        assert os.read(ready, 1) == b"x"
        yield process
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(ready)
        os.close(ready_writer)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploy_program, "LOCK_SECONDS", 0.05)
    monkeypatch.setattr(deploy_program, "CANCEL_SECONDS", 0.05)


# The lock


@pytest.mark.usefixtures("impatient")
def test_one_deploy_of_a_stack_at_a_time(world: World) -> None:
    with another_process("deploy shop web, run 41", world.folder / ".deploy.lock"):
        outcome = world.deploy({"web": world.image("web", 1)}, 1)

    assert outcome.code == 75
    assert outcome.says(f"==> {WAITING}deploy shop web, run 41, since 20")
    assert outcome.says(f"==> if it hangs, this ends it, and it undoes what is half replaced: {cancel_command(world)}")
    assert outcome.says("this request waited 0.05 seconds for: deploy shop web, run 41, since 20")
    assert outcome.says(f"To end that one safely: {cancel_command(world)}")
    assert outcome.result["exit"] == 75
    assert world.names() == []
    # Its holder was killed, and the lock is free.
    assert world.deploy({"web": world.image("web", 1)}, 1).code == 0


def cancel_command(world: World) -> str:
    return f"{world.root}/bin/deploy cancel shop"


@pytest.mark.usefixtures("impatient")
def test_a_rollback_that_waits_says_how_to_end_what_it_waits_for(world: World) -> None:
    """A migration that hangs would hold the lock for an hour."""
    with another_process("deploy shop web, run 41", world.folder / ".deploy.lock"):
        outcome = world.rollback("web")

    assert outcome.code == 75
    assert outcome.says(f"==> {WAITING}deploy shop web, run 41, since 20")
    assert outcome.says(f"==> if it hangs, this ends it, and it undoes what is half replaced: {cancel_command(world)}")


@pytest.mark.usefixtures("impatient")
def test_a_lock_of_the_server_that_is_not_released_names_its_holder(root: Path) -> None:
    """No request of this stack holds it, so there is nothing that `cancel` could end."""
    lock = root / ".host.lock"

    with another_process("names of api", lock) as process:

        def wait() -> int:
            with deploy_program.locked(lock, "names of web"):
                return 0

        outcome = captured(wait)

    assert outcome.code == 75
    assert outcome.says(f"{WAITING}names of api, since 20") and not outcome.says("cancel")
    assert outcome.says(f"kill -9 {process}")


@pytest.mark.usefixtures("impatient")
def test_another_stack_is_not_waited_for(world: World) -> None:
    (world.root / "other").mkdir()

    with another_process("deploy other api", world.root / "other" / ".deploy.lock"):
        assert world.deploy({"web": world.image("web", 1)}, 1).code == 0


def test_other_stacks_wait_for_one_removal_at_most(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Removing images takes long, and a hand-over of another stack needs the lock of the server."""
    for version in range(1, 5):
        assert world.deploy({"worker": world.image("worker", version)}, version).code == 0
    list_images, remove_image = world.machine.do_image_ls, world.machine.do_image_rm
    lock = world.root / ".host.lock"
    held: list[tuple[str, bool]] = []

    def look_and_list(words: list[str]) -> str:
        held.append(("ls", deploy_program.is_locked(lock)))
        return list_images(words)

    def look_and_remove(words: list[str]) -> str:
        held.append(("rm", deploy_program.is_locked(lock)))
        return remove_image(words)

    monkeypatch.setattr(world.machine, "do_image_ls", look_and_list)
    monkeypatch.setattr(world.machine, "do_image_rm", look_and_remove)
    assert world.deploy({"worker": world.image("worker", 5)}, 5).code == 0

    assert held == [("ls", False), ("rm", True)]


def test_a_lock_whose_file_was_removed_is_no_lock(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for it must not get the lock of a file that is gone."""
    path = root / ".deploy.lock"
    real = fcntl.flock
    locked: list[int] = []

    def flock(handle: int, operation: int) -> None:
        real(handle, operation)
        if not locked:
            path.unlink()  # a cleaner, at the worst moment
        locked.append(handle)

    monkeypatch.setattr("fcntl.flock", flock)
    with deploy_program.locked(path, "a test"):
        assert deploy_program.is_locked(path)

    assert len(locked) > 1


def test_the_lock_says_who_holds_it(root: Path) -> None:
    path = root / ".deploy.lock"

    with deploy_program.locked(path, "deploy shop web, run 41"):
        holder = deploy_program.read_json(path)
        assert deploy_program.is_locked(path)

    assert not deploy_program.is_locked(path)
    assert (holder["doing"], holder["pid"]) == ("deploy shop web, run 41", os.getpid())
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "x", "[]", '{"pid": 1}', "\0"])
def test_a_lock_with_anything_in_it(root: Path, text: str) -> None:
    path = root / ".deploy.lock"
    path.write_text(text)

    assert deploy_program.holder_of(path) == "unknown, since unknown"
    with deploy_program.locked(path, "a test"):
        assert deploy_program.read_json(path)["doing"] == "a test"


def test_a_lock_that_root_makes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's lock is for the stacks of all users; who owns the folder can open it then."""
    owners: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda handle, user, group: owners.append((user, group)))

    with deploy_program.locked(root / ".host.lock", "a test"):
        assert owners == [(root.stat().st_uid, -1)]


def test_a_lock_that_is_a_link(root: Path, tmp_path: Path) -> None:
    (root / ".deploy.lock").symlink_to(tmp_path / "outside")

    with pytest.raises(OSError), deploy_program.locked(root / ".deploy.lock", "a test"):
        pass
    assert not (tmp_path / "outside").exists()


# Cancelling


def test_nothing_to_cancel(world: World) -> None:
    assert captured(lambda: deploy_program.cancel(world.stack(), CANCEL)).text == "no deploy of shop is running\n"
    world.deploy({"web": world.image("web", 1)}, 1)
    assert captured(lambda: deploy_program.cancel(world.stack(), CANCEL)).text == "no deploy of shop is running\n"


def test_cancelling_ends_the_holder(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploy_program, "is_this_program", lambda process: True)

    with another_process("deploy shop web, run 41", world.folder / ".deploy.lock") as process:
        outcome = captured(lambda: deploy_program.cancel(world.stack(), CANCEL))
        ended = os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)

    assert outcome.code == 0
    assert outcome.says("cancelling: deploy shop web, run 41") and outcome.says("it has ended")
    assert ended and ended.si_status == signal.SIGTERM


def test_a_key_cancels_what_a_key_started(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stolen one, nobody can keep a person from going back."""
    monkeypatch.setattr(deploy_program, "is_this_program", lambda process: True)
    lock = world.folder / ".deploy.lock"

    with another_process("rollback shop web", lock) as process:
        refused = captured(lambda: deploy_program.cancel(world.stack(), CANCEL_WITH_KEY))
        assert os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None
    with another_process("deploy shop web, run 41", lock, is_from_key=True):
        outcome = captured(lambda: deploy_program.cancel(world.stack(), CANCEL_WITH_KEY))

    assert refused.code == 64
    assert refused.says("a key cannot cancel what a person started: rollback shop web, since 20")
    assert refused.says(f"On the server: {world.root}/bin/deploy cancel shop")
    assert outcome.code == 0


def test_the_lock_says_whether_a_key_holds_it(world: World) -> None:
    for is_from_key in (True, False):
        request = deploy_program.Request("deploy", "shop", is_from_key=is_from_key)
        with world.stack().locked(request):
            assert deploy_program.read_json(world.folder / ".deploy.lock")["is_from_key"] is is_from_key


@pytest.mark.parametrize(
    ("verb", "run", "purpose"),
    [("deploy", "41", "deploy shop web, run 41"), ("rollback", "rollback", "rollback shop web")],
)
def test_the_lock_names_a_run_only_if_there_is_one(world: World, verb: str, run: str, purpose: str) -> None:
    request = deploy_program.Request(verb, "shop", run=run, images={"web": ""})
    with world.stack().locked(request):
        assert deploy_program.read_json(world.folder / ".deploy.lock")["doing"] == purpose


@pytest.mark.usefixtures("impatient")
def test_cancelling_kills_no_strangers(world: World) -> None:
    """The number in a lock may be another process's by now."""
    with another_process("deploy shop web, run 41", world.folder / ".deploy.lock") as process:
        outcome = captured(lambda: deploy_program.cancel(world.stack(), CANCEL))
        os.kill(process, 0)

    assert outcome.code == 75
    assert outcome.says("the lock is still held")


def test_cancelling_when_a_full_disk_kept_the_lock_empty(world: World) -> None:
    lock = world.folder / ".deploy.lock"
    with another_process("deploy shop web, run 41", lock) as process:
        os.truncate(lock, 0)
        outcome = captured(lambda: deploy_program.cancel(world.stack(), CANCEL))
        os.kill(process, 0)

    assert outcome.code == 75
    assert outcome.says("the lock does not name the process that holds it")
    assert outcome.says(f"kill -9 {process}")
    assert not outcome.says("it has ended")


@pytest.mark.usefixtures("impatient")
def test_a_command_of_a_killed_deploy_that_hangs_is_named(world: World) -> None:
    """It has inherited the lock, and nobody else would know what to end."""
    lock = world.folder / ".deploy.lock"
    with deploy_program.locked(lock, "deploy shop web, run 41"):
        handle = os.open(lock, os.O_RDWR)
        os.set_inheritable(handle, True)
    fcntl.flock(handle, fcntl.LOCK_EX)
    hanging = subprocess.Popen(["sleep", "60"], pass_fds=(handle,))
    os.close(handle)
    lock.write_text('{"doing": "deploy shop web, run 41", "pid": 999999999}')
    try:
        outcome = captured(lambda: deploy_program.cancel(world.stack(), CANCEL))
    finally:
        hanging.kill()
        hanging.wait()

    assert outcome.code == 75
    assert outcome.says("the deploy itself was killed, and a command that it started goes on")
    assert outcome.says(f"{hanging.pid} (sleep 60)")
    assert outcome.says(f"If it hangs, end it: kill -9 {hanging.pid}. The next deploy repairs what is left")


@pytest.mark.parametrize("point", range(1, 120, 6))
def test_a_deploy_that_is_cancelled_takes_back_what_it_had_begun(world: World, point: int) -> None:
    old = world.image("web", 1)
    world.deploy({"web": old}, 1)
    new, points = world.image("web", 2), iter(range(1, 10_000))

    def cancel() -> None:
        if next(points) == point:
            raise deploy_program.Cancelled(1, "the deploy was cancelled")

    world.machine.at_each_point = cancel
    outcome = world.deploy({"web": new}, 2)
    world.machine.at_each_point = None

    serving = deploy_program.digest_of(world.container("web").reference)
    if outcome.code == 0:
        assert serving == new
    else:
        assert outcome.code == 1
        assert outcome.result["message"] == "the deploy was cancelled"
        assert world.pins() == {"web": deploy_program.digest_of(world.record("web")[-1].split()[0])}
    assert any(world.machine.answers(container) for container in world.machine.reached_by("web"))
    assert not list(deploy_program.MEMORY_FOLDER.iterdir())
    good = world.image("web", 3)
    assert world.deploy({"web": good}, 3).code == 0
    assert world.names() == ["web"] and world.serves("web", good)


def test_a_cancel_after_the_old_container_is_gone_keeps_the_new_one_and_names_the_way_back(world: World) -> None:
    """To go back from it would interrupt the service."""
    old, new = world.image("web", 1), world.image("web", 2)
    world.deploy({"web": old}, 1)

    def cancel() -> None:
        if world.serves("web", new):
            world.machine.at_each_point = None
            raise deploy_program.Cancelled(1, "the deploy was cancelled")

    world.machine.at_each_point = cancel
    outcome = world.deploy({"web": new}, 2)

    assert outcome.code == 1
    assert outcome.says(f"FAILED: web; serving now: {new}")
    assert outcome.says(f"to go back: {world.root}/bin/deploy rollback shop web {old}")
    assert len(world.record("web")) == 1
    assert world.rollback("web", old).code == 0
    assert world.serves("web", old)


# The process and its log


@pytest.mark.parametrize("code", [0, 1, 3, 77])
def test_the_work_is_done_by_another_process(world: World, capfd: pytest.CaptureFixture[str], code: int) -> None:
    request = deploy_program.Request("deploy", "shop", images={"web": "sha256:" + 64 * "0"})
    mine = os.getpid()

    def work() -> int:
        os.write(1, f"==> {os.getpid() != mine and os.getsid(0) == os.getpid()}\n".encode())
        return code

    assert deploy_program.run_detached(world.stack(), request, work) == code

    assert capfd.readouterr().out == "==> True\n"
    (log,) = (world.folder / "log").iterdir()
    assert log.read_text() == "==> True\n"
    assert log.stat().st_mode & 0o777 == 0o600
    assert "-deploy-web-" in log.name


def test_a_connection_that_breaks_while_the_request_waits(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """`cancel` would end the deploy that it waits for."""
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    log = os.open(world.folder / "log", os.O_RDWR | os.O_CREAT)
    os.write(log, b"==> waiting for another deploy\n")
    reader, writer = os.pipe()
    os.close(reader)
    stdout = os.dup(1)
    os.dup2(writer, 1)
    try:
        assert deploy_program.print_log_until_end(log, child) == 1
    finally:
        os.dup2(stdout, 1)
        for handle in (log, writer, stdout):
            os.close(handle)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    assert f"while it still waits for another deploy, this ends it: kill {child}\n" in capfd.readouterr().err


def test_a_mistake_of_the_programs_own(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        raise KeyError("a mistake")

    assert deploy_program.run_detached(world.stack(), deploy_program.Request("deploy", "shop"), work) == 1
    printed = capfd.readouterr()
    assert "KeyError: 'a mistake'" in printed.out + printed.err


def test_a_worker_that_is_killed(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    assert deploy_program.run_detached(world.stack(), deploy_program.Request("deploy", "shop"), work) == 1
    assert "killed by signal 9; the next deploy finishes or undoes what it began" in capfd.readouterr().err


def test_old_logs_are_removed(world: World) -> None:
    folder = world.folder / "log"
    folder.mkdir()
    now = time.time()
    logs = {"2026-01-01T00:00:00-deploy-web-1": 31, "2026-01-02T00:00:00-deploy-web-2": 29, "notes-of-a-person": 31}
    for name, days in logs.items():
        (folder / name).write_text("")
        os.utime(folder / name, (now - days * 86400,) * 2)
    link = "2026-01-03T00:00:00-deploy-web-3"
    (folder / link).symlink_to("/nowhere")

    os.close(deploy_program.open_log(world.stack(), deploy_program.Request("rollback", "shop", images={"web": ""})))

    names = {path.name for path in folder.iterdir()}
    (new,) = names - {*logs, link}
    assert "-rollback-web-" in new
    assert names - {new} == {"2026-01-02T00:00:00-deploy-web-2", "notes-of-a-person", link}


# What is printed


WORDS = '\x1b[31mred\n::error::evil\r##[add-mask]evil\nv\x0bt\u2028sep\n{"protocol": 1}\n==> SERVING: web\n'


def test_words_of_a_container_are_obeyed_by_nobody(world: World) -> None:
    world.image("web", 1, Image(exits_after=0.5, printed=WORDS))

    outcome = world.deploy({"web": world.image("web", 1, Image(exits_after=0.5, printed=WORDS))}, 1)

    lines = outcome.text.splitlines()
    assert "\x1b" not in outcome.text and "##[" not in outcome.text
    assert not [line for line in lines if line.lstrip().startswith("::")]
    assert [line for line in lines if line.startswith("{")] == [lines[-1]]
    assert "| ::error::evil" in lines and "| ==> SERVING: web" in lines
    assert outcome.result["result"] == "failed"


@pytest.mark.parametrize(
    ("results", "code"),
    [
        (["serving"], 0),
        (["unchanged", "serving"], 0),
        (["superseded"], 3),
        (["superseded", "serving"], 3),
        (["superseded", "failed"], 1),
        (["serving", "not started"], 1),
        (["serving", ""], 1),
    ],
)
def test_the_verdict_on_all(results: list[str], code: int) -> None:
    assert deploy_program.exit_code_of([deploy_program.Service(name, {}, result=name) for name in results]) == code


def test_the_result_is_one_line_of_ascii_and_the_last(world: World) -> None:
    for outcome in (
        world.deploy({"web": world.image("web", 1)}, 1),
        world.deploy({"web": world.image("web", 2, Image(status=500))}, 2),
        world.deploy({"web": "sha256:" + 64 * "0"}, 3),
        world.deploy({"nobody": "sha256:" + 64 * "0"}, 4),
        world.rollback("web"),
    ):
        line = outcome.text.splitlines()[-1]
        result = json.loads(line)
        assert line.isascii()
        assert result["protocol"] == 1 and result["exit"] == outcome.code and result["stack"] == "shop"
        assert result["result"] == ("serving" if outcome.code == 0 else "failed")
        assert bool(result["message"]) == (outcome.code != 0)
        for service in result["services"]:
            assert set(service) == {"service", "result", "before", "now", "seconds"}
            assert type(service["seconds"]) is int


def test_a_disk_that_is_full(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever cannot be written, there is a verdict, and what served serves."""
    old = world.image("web", 1)
    world.deploy({"web": old}, 1)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(deploy_program, "write_file", refuse)
    outcome = world.deploy({"web": world.image("web", 2)}, 2)
    monkeypatch.undo()

    assert outcome.code == 69
    assert outcome.says("No space left on device")
    assert world.machine.answers(world.container("web"))


# The end of a request


def test_a_disk_that_is_full_at_the_end_does_not_change_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is on that disk."""

    class FullDisk(io.StringIO):
        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", FullDisk())

    assert deploy_program.run_to_the_end(lambda: 0) == 0


@pytest.mark.usefixtures("cancellable")
def test_a_cancel_that_comes_when_all_services_serve_is_too_late(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = world.image("web", 1)
    print_outcome = deploy_program.print_outcome

    def cancel_and_print(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        print_outcome(*arguments)

    monkeypatch.setattr(deploy_program, "print_outcome", cancel_and_print)
    outcome = world.deploy({"web": digest}, 1)

    assert outcome.code == 0
    assert outcome.result["services"][0]["now"] == digest


def test_a_result_is_printed_without_memory_for_docker(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> deploy_program.Container:
        raise OSError(12, "Cannot allocate memory")

    def refuse_and_print(*arguments: Any) -> None:
        monkeypatch.setattr(deploy_program.Stack, "find", refuse)
        print_outcome(*arguments)

    print_outcome = deploy_program.print_outcome
    monkeypatch.setattr(deploy_program, "print_outcome", refuse_and_print)
    outcome = world.deploy({"web": world.image("web", 1)}, 1)

    assert outcome.code == 0
    assert outcome.results == {"web": "serving"}


def test_a_hook_runs_when_the_disk_is_full(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)

    outcome = captured(lambda: deploy_program.Machine().script(["sh", "-c", "echo done"], root, {}))

    assert outcome.code == 0 and outcome.says("| done")
