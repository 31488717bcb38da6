"""How commands are run: a real process, with its time limit, its output and the processes that it starts."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from kiwari_ci.engines.compose.deploy_programs import deploy as deploy_program

STARTER = "#!/bin/sh\n(echo $$; sleep 60; echo late) &\necho $! >{pid}\nwait\n"


def write_program(folder: Path, text: str) -> Path:
    program = folder / "docker"
    program.write_text(text)
    program.chmod(0o755)
    return program


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().split()[2]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_for_end(process: int) -> bool:
    end = time.monotonic() + 10
    while is_running(process) and time.monotonic() < end:
        time.sleep(0.02)
    return not is_running(process)


def test_the_time_limit_of_a_shown_command_ends_what_it_started(tmp_path: Path) -> None:
    """A dump runs in a process of its own, which holds the pipe after its starter is gone."""
    pid = tmp_path / "pid"
    program = write_program(tmp_path, STARTER.format(pid=pid))
    began = time.monotonic()

    output = deploy_program.Machine().show([str(program)], 1)

    assert output.code == -signal.SIGKILL
    assert time.monotonic() - began < 30
    assert wait_for_end(int(pid.read_text()))


def test_the_time_limit_of_docker_ends_its_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`docker compose` is a process that docker starts; it must not go on while its work is undone."""
    pid = tmp_path / "pid"
    write_program(tmp_path, STARTER.format(pid=pid))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    with pytest.raises(deploy_program.TimedOut, match="docker compose up did not end within 1 seconds"):
        deploy_program.Machine().docker("compose", "up", seconds=1)

    assert wait_for_end(int(pid.read_text()))


def test_docker_goes_on_if_the_program_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = tmp_path / "done"
    write_program(tmp_path, f"#!/bin/sh\necho $$ >{tmp_path}/pid\nsleep 0.5\necho printed\necho >{done}\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    program = os.fork()
    if program == 0:
        deploy_program.Machine().docker("stop", "web")
        os._exit(0)
    while not (tmp_path / "pid").exists():
        time.sleep(0.01)

    os.kill(program, signal.SIGKILL)
    os.waitpid(program, 0)

    end = time.monotonic() + 10
    while not done.exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert done.exists()


def test_what_docker_reads_and_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_program(tmp_path, "#!/bin/sh\ncat\necho wrong >&2\nexit 3\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    assert deploy_program.Machine().docker("ps", stdin="words") == deploy_program.Output(3, "words", "wrong\n")


def test_docker_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(deploy_program.Failed, match="docker is not installed"):
        deploy_program.Machine().docker("ps")


def test_a_command_that_leaves_a_process_behind_is_not_cut_off(tmp_path: Path) -> None:
    """Only what has not ended is ended."""
    program = write_program(tmp_path, f"#!/bin/sh\nsleep 30 >/dev/null 2>&1 &\necho $! >{tmp_path}/pid\n")

    assert deploy_program.Machine().show([str(program)], 20).code == 0

    process = int((tmp_path / "pid").read_text())
    assert is_running(process)
    os.kill(process, signal.SIGKILL)


def test_the_time_limit_of_a_hook_ends_what_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = tmp_path / "pid"
    hook = write_program(tmp_path, STARTER.format(pid=pid))
    monkeypatch.setattr(deploy_program, "SCRIPT_SECONDS", 0.5)

    assert deploy_program.Machine().script(["sh", str(hook)], tmp_path, {}) == 124

    assert wait_for_end(int(pid.read_text()))


@pytest.mark.usefixtures("cancellable")
def test_a_cancel_ends_a_hook_and_what_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    hook = write_program(tmp_path, STARTER.format(pid=pid))
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()

    with pytest.raises(deploy_program.Cancelled):
        deploy_program.Machine().script(["sh", str(hook)], tmp_path, {})

    assert wait_for_end(int(pid.read_text()))


@pytest.mark.usefixtures("cancellable")
def test_a_hook_after_a_cancel_can_be_terminated(tmp_path: Path) -> None:
    """A program that ignores SIGTERM passes that on to all that it executes."""
    deploy_program.ignore_cancel()
    os.kill(os.getpid(), signal.SIGTERM)  # a second cancel: nothing happens

    assert deploy_program.Machine().script(["sh", "-c", "kill -TERM $$; exit 0"], tmp_path, {}) == -signal.SIGTERM
