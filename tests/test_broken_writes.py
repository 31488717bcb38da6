"""A write that is interrupted or impossible: all of it is there or nothing, and the next run mends what a kill left."""

import errno
import fcntl
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kiwari_ci.file_output import atomic_write, generated_files
from kiwari_ci.file_output.atomic_write import OutputError, PartialWriteError
from kiwari_ci.file_output.generated_files import GeneratedFile, write_files, write_user_file
from tests.trees import CI, MARK, NOTES, SCRIPT, TREE, kinds, put, state, true

SMALL = Path(__file__).parent / "cases/ok/minimal/spec.yaml"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root that holds the tree."""
    write_files(tmp_path / "out", TREE, "shop")
    return tmp_path / "out"


@contextmanager
def small_disk(place: Path, size: str, options: str = "") -> Iterator[None]:
    """A file system of a few pages; it needs root, and is skipped loudly (in CI failed) where it cannot be mounted."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}{options}", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        words = f"NOT TESTED: a tmpfs cannot be mounted here: {done.stderr.strip()}"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(words)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_leaves_the_tree_as_it_was(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "64k"):
        write_files(disk, TREE, "shop")
        large = {path: replace(file, text=file.text + "#" * 30_000) for path, file in TREE.items()}
        before = state(disk)
        with pytest.raises(OutputError, match="No space left on device"):
            write_files(disk, large, "shop")
        assert state(disk) == before
        assert true(disk)


def test_a_read_only_disk_is_told(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "64k"):
        write_files(disk, TREE, "shop")
        (disk / CI).write_text(f"{MARK}old\n")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(OutputError, match="Read-only file system"):
            write_files(disk, TREE, "shop")
        assert kinds(disk) == {CI: "changed"}


def test_a_true_tree_needs_no_right_to_write(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "64k"):
        write_files(disk, TREE, "shop")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert write_files(disk, TREE, "shop").same == list(TREE)


def test_what_the_system_refuses_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / CI).write_text(f"{MARK}old\n")

    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(target))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OutputError, match=r"web-ci\.yml: Operation not permitted"):
        write_files(root, TREE, "shop")
    assert not list(root.glob(f"{atomic_write.SCRATCH_PREFIX}*"))
    monkeypatch.undo()
    write_files(root, TREE, "shop")
    assert true(root)


KILLED = f"""
import os, signal, sys
from pathlib import Path
from kiwari_ci.file_output.generated_files import GeneratedFile, write_files
TREE = {TREE!r}
steps = int(sys.argv[2])
def counted(function):
    def run(*words, **more):
        global steps
        steps -= 1
        if steps < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*words, **more)
    return run
for name in ("replace", "unlink", "chmod", "hardlink_to"):
    setattr(Path, name, counted(getattr(Path, name)))
write_files(Path(sys.argv[1]), TREE, "shop")
"""


def test_what_a_kill_leaves_the_next_run_mends(root: Path) -> None:
    """Killed before each step: every file is whole, old or new, and a second run ends well."""
    killed = 0
    for steps in range(16):
        old = {path: f"{file.text}# old\n" for path, file in TREE.items()}
        for path, text in old.items():
            put(root / path, text)
        put(root / "deploy/orphan.yml", MARK)
        done = subprocess.run([sys.executable, "-c", KILLED, str(root), str(steps)], cwd=Path(__file__).parents[1])
        killed += done.returncode == -signal.SIGKILL
        for path, text in old.items():
            assert (root / path).read_text() in (text, TREE[path].text)
        write_files(root, TREE, "shop")
        assert true(root)
    assert 0 < killed < 16, "it was killed too late, or always too early"


OLD_SCRATCH = f"{atomic_write.SCRATCH_PREFIX}abcd1234"


def test_what_a_killed_run_has_staged_goes(root: Path) -> None:
    put(root / OLD_SCRATCH / "1", "half a fi", 0o600)
    (root / CI).unlink()
    write_files(root, TREE, "shop")
    assert true(root) and stat.S_IMODE((root / CI).stat().st_mode) == 0o644
    assert not (root / OLD_SCRATCH).exists()


@pytest.mark.parametrize("name", [".kiwari-ci-staging", OLD_SCRATCH])
def test_a_linked_staging_folder_is_not_followed(root: Path, tmp_path: Path, name: str) -> None:
    outside = put(tmp_path / "outside/1", "mine\n")
    (root / name).symlink_to(outside.parent)
    (root / CI).unlink()
    write_files(root, TREE, "shop")
    assert true(root) and outside.read_text() == "mine\n" and (root / name).is_symlink()


def test_links_in_the_names_of_staged_files_are_not_followed(root: Path, tmp_path: Path) -> None:
    """A repository that tracks a link at such a name had any file of the user overwritten."""
    outside = put(tmp_path / "profile", "mine\n")
    for folder in (".kiwari-ci-staging", OLD_SCRATCH):
        (root / folder).mkdir()
        for number in range(len(TREE)):
            (root / folder / str(number)).symlink_to(outside)
    for path in TREE:
        (root / path).unlink(missing_ok=True)
    write_files(root, TREE, "shop")
    write_user_file(root, "specs/new.yaml", "a: b\n", None)
    assert not kinds(root) and outside.read_text() == "mine\n"


def test_a_folder_of_a_person_is_not_taken_for_a_scratch_folder(root: Path) -> None:
    mine = put(root / OLD_SCRATCH / "notes.env", "mine\n")
    write_files(root, TREE, "shop")
    assert mine.read_text() == "mine\n"


def test_an_old_scratch_folder_that_cannot_go_is_a_refusal(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root / OLD_SCRATCH / "1", "half a fi")
    (root / CI).unlink()

    def refuse(path: Path, **_: object) -> None:
        if Path(path).name == OLD_SCRATCH:
            raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(OutputError, match="Permission denied"):
        write_files(root, TREE, "shop")
    assert not (root / CI).exists()


def test_two_at_once_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sees a finished tree, so one of them writes and the other has nothing to do."""
    inside: list[int] = []
    most = [0]
    plain: Callable[..., Any] = generated_files._write_changed_files

    def watched(*words: Any) -> Any:
        inside.append(1)
        most[0] = max(most[0], len(inside))
        try:
            return plain(*words)
        finally:
            inside.pop()

    monkeypatch.setattr(generated_files, "_write_changed_files", watched)
    results: list[generated_files.WriteResult] = []
    threads = [threading.Thread(target=lambda: results.append(write_files(tmp_path, TREE, "shop"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert most == [1]
    assert sorted(len(result.new) for result in results) == [0] * 7 + [len(TREE)]
    assert true(tmp_path)


# All or nothing.

LATER = {path: GeneratedFile(f"{file.text}# new\n", file.executable, file.marked) for path, file in TREE.items()}
del LATER[NOTES]
LATER["deploy/more/compose.yml"] = GeneratedFile(MARK)
MOVES = ("replace", "unlink", "hardlink_to")  # what a swap is made of


class Stop(OSError):
    """What a disk may say at any moment."""

    def __init__(self) -> None:
        super().__init__(errno.EIO, os.strerror(errno.EIO), "disk")


def after(monkeypatch: pytest.MonkeyPatch, steps: int, act: Callable[[], None], once: bool = True) -> list[int]:
    """Let so many moves be made, and then something happens before the next one."""
    count = [0]

    def counted(move: Callable[..., Any]) -> Callable[..., Any]:
        def run(*words: Any) -> Any:
            count[0] += 1
            if count[0] == steps + 1 or (count[0] > steps and not once):
                act()
            return move(*words)

        return run

    for name in MOVES:
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))
    return count


def stop() -> None:
    raise Stop


def test_a_refusal_at_any_move_leaves_all_as_it_was(root: Path) -> None:
    before, refused, steps = contents(root), 0, 0
    while True:
        with pytest.MonkeyPatch.context() as patch:
            count = after(patch, steps, stop)
            try:
                write_files(root, LATER, "shop")
            except OutputError as reason:
                refused += 1
                assert str(reason) == "disk: Input/output error: mend that, and run it again"
                assert contents(root) == before, steps
            else:
                if count[0] <= steps:
                    break
                write_files(root, TREE, "shop")  # a hard link that could not be made is a copy
        steps += 1
    assert refused >= 5 and contents(root).keys() == LATER.keys()


def test_what_cannot_be_taken_back_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    after(monkeypatch, 3, stop, once=False)
    with pytest.raises(PartialWriteError, match="Input/output error"):
        write_files(root, LATER, "shop")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_any_move_waits_for_the_last(root: Path, number: signal.Signals) -> None:
    """With Ctrl-C's handler in place of each: the tree is whole, and then the run ends."""
    before = signal.signal(number, signal.default_int_handler)
    try:
        for steps in range(8):
            with pytest.MonkeyPatch.context() as patch:
                after(patch, steps, lambda: signal.pthread_kill(threading.get_ident(), number))
                with pytest.raises(KeyboardInterrupt):
                    write_files(root, LATER, "shop")
                assert contents(root).keys() == LATER.keys() and not kinds(root, LATER)
                patch.undo()
                write_files(root, TREE, "shop")
    finally:
        signal.signal(number, before)


def test_ctrl_c_while_all_is_prepared_changes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(root)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_files(root, LATER, "shop")
    assert contents(root) == before


@pytest.mark.parametrize("reason", ["the disk", "a file in the way"])
def test_a_folder_that_was_made_for_nothing_goes(tmp_path: Path, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated_files, "stage_file", lambda *_: stop())
    with pytest.raises(OutputError):
        write_files(tmp_path / "a/b", TREE, "shop")
    assert list(tmp_path.iterdir()) == []


def test_an_immutable_file_stops_all_of_it(root: Path) -> None:
    """As root every mode may be written to, and this may not."""
    before = contents(root)
    for path in (SCRIPT, NOTES):
        done = subprocess.run(["chattr", "+i", str(root / path)], capture_output=True, text=True)
        if done.returncode:
            words = f"NOT TESTED: no file can be made immutable here: {done.stderr.strip()}"
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(words)
        try:
            with pytest.raises(OutputError, match="Operation not permitted: correct its owner or its attributes"):
                write_files(root, LATER, "shop")
        finally:
            subprocess.run(["chattr", "-i", str(root / path)], check=True)
        assert contents(root) == before


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# The whole program.


@pytest.mark.parametrize(("number", "code", "words"), [("INT", 130, "interrupted"), ("TERM", 143, "")])
def test_interrupted_by_a_signal(number: str, code: int, words: str, tmp_path: Path) -> None:
    """A run that waits for another's lock ends at Ctrl-C, and has written nothing."""
    (out := tmp_path / "out").mkdir()
    lock = os.open(out, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    listens = ["env", f"--default-signal={number}"]  # a shell's background jobs are deaf, and so is what they start
    command = [*listens, sys.executable, "-m", "kiwari_ci", "generate", str(SMALL), "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not waits(process.pid):
            assert process.poll() is None, "it did not wait"
            time.sleep(0.02)
        process.send_signal(getattr(signal, f"SIG{number}"))
        try:
            _, output = process.communicate(timeout=20)
        finally:
            process.kill()
    os.close(lock)
    assert (process.returncode, output.strip()) == (code, words)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("module", ["click", "pydantic", "kiwari_ci.file_output.generated_files"])
def test_interrupted_during_the_imports(module: str, tmp_path: Path) -> None:
    """A finder in front of all others gets Ctrl-C when the module is asked for."""
    code = f"""
import sys
class Finder:
    def find_spec(self, name, *_):
        if name == {module!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
sys.argv = ["kiwari-ci", "generate", {str(SMALL)!r}, "--out", {str(tmp_path / "out")!r}]
from kiwari_ci.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "interrupted")


def waits(pid: int) -> bool:
    locks = Path("/proc/locks").read_text()
    return bool(re.search(rf"-> FLOCK .* {pid} ", locks))
