"""Writing and comparing: what is ours is kept true, what is not ours stays, and a broken run breaks nothing."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kiwari_ci import tree
from kiwari_ci.tree import File, Refused, Tree, compare, marker, write

MARK = f"# {marker('shop')}\n"
CI, SCRIPT, NOTES = ".github/workflows/web-ci.yml", "deploy/bin/deploy", "deploy/RUNBOOK.md"
SPEC = "specs/shop.yaml"
TREE: Tree = {
    SPEC: File("project: shop\n", marked=False),
    CI: File(f"{MARK}on: push\n"),
    SCRIPT: File(f"#!/bin/sh\n{MARK}exit 0\n", executable=True),
    NOTES: File(f"<!-- {marker('shop')} -->\n# Runbook\n"),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root that holds the tree."""
    write(tmp_path / "out", TREE, "shop")
    return tmp_path / "out"


def put(path: Path, content: str, mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)
    return path


def state(root: Path) -> dict[str, Any]:
    """Everything there is: contents, modes, links, times."""
    found = {}
    for path in sorted(root.rglob("*")):
        facts = path.lstat()
        content = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(root))] = (stat.filemode(facts.st_mode), facts.st_mtime_ns, facts.st_ino, content)
    return found


def kinds(root: Path, wanted: Tree = TREE) -> dict[str, str]:
    return {difference.path: difference.kind for difference in compare(root, wanted, "shop")}


def true(root: Path) -> bool:
    """The tree is there, to the byte and the mode, and nothing else."""
    files = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    return not kinds(root) and files.keys() == TREE.keys()


# What a write does.


def test_new_same_changed_removed(tmp_path: Path) -> None:
    first = write(tmp_path, TREE, "shop")
    assert (first.new, first.changed, first.same, first.removed) == (list(TREE), [], [], [])
    assert true(tmp_path)
    before = state(tmp_path)
    again = write(tmp_path, TREE, "shop")
    assert (again.new, again.changed, again.same, again.removed) == ([], [], list(TREE), [])
    assert state(tmp_path) == before
    later = TREE | {CI: File(f"{MARK}on: pull_request\n")}
    del later[NOTES]
    third = write(tmp_path, later, "shop")
    assert (third.new, third.changed, third.same, third.removed) == ([], [CI], [SPEC, SCRIPT], [NOTES])
    assert not compare(tmp_path, later, "shop")


def test_only_a_script_can_be_run(root: Path) -> None:
    assert os.access(root / SCRIPT, os.X_OK) and not (root / CI).stat().st_mode & 0o111
    (root / SCRIPT).chmod(0o644)
    (root / CI).chmod(0o755)
    assert kinds(root) == {CI: "changed", SCRIPT: "changed"}
    said = {difference.path: difference.diff for difference in compare(root, TREE, "shop")}
    assert said == {
        CI: "old mode 100755\nnew mode 100644\n",
        SCRIPT: "old mode 100644\nnew mode 100755\n",
    }
    assert write(root, TREE, "shop").changed == [CI, SCRIPT]
    assert [stat.S_IMODE((root / path).stat().st_mode) for path in (CI, SCRIPT)] == [0o644, 0o755]


def test_a_mode_that_a_person_chose_stays(root: Path) -> None:
    for path, mode in ((CI, 0o600), (SCRIPT, 0o700)):
        put(root / path, "old\n" + MARK, mode)
    write(root, TREE, "shop")
    assert [stat.S_IMODE((root / path).stat().st_mode) for path in (CI, SCRIPT)] == [0o600, 0o700]


@pytest.mark.parametrize(
    ("umask", "plain", "script"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700), (0o002, 0o664, 0o775)]
)
def test_modes_follow_the_umask(tmp_path: Path, umask: int, plain: int, script: int) -> None:
    before = os.umask(umask)
    try:
        write(tmp_path / "out", TREE, "shop")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / "out" / path).stat().st_mode) for path in (CI, SCRIPT)]
    assert modes == [plain, script]
    assert true(tmp_path / "out")


def test_line_ends_of_windows_are_a_difference(root: Path) -> None:
    (root / CI).write_bytes(TREE[CI].text.replace("\n", "\r\n").encode())
    assert kinds(root) == {CI: "changed"}
    write(root, TREE, "shop")
    assert (root / CI).read_bytes() == TREE[CI].text.encode()


# What is somebody else's.


def test_orphans_go_only_with_our_marker_in_our_folders(root: Path) -> None:
    put(root / "deploy/old/docker-compose.yml", MARK)
    put(root / ".github/workflows/old.yml", f"#!/bin/sh\n{MARK}")
    kept = [
        put(root / "deploy/mine.yml", "services: {}\n"),
        put(root / "deploy/other.yml", f"# {marker('other')}\n"),
        put(root / "deploy/prefix.yml", f"# {marker('shop2')}\n"),
        put(root / "deploy/late.yml", f"a\nb\n{MARK}"),
        put(root / "docs/old.yml", MARK),
        put(root / ".github/old.yml", MARK),
        put(root / "deploy/binary", "\0" * 2000),
    ]
    link = root / "deploy/link.yml"
    link.symlink_to("../docs/old.yml")
    assert kinds(root) == {"deploy/old/docker-compose.yml": "orphaned", ".github/workflows/old.yml": "orphaned"}
    assert write(root, TREE, "shop").removed == [".github/workflows/old.yml", "deploy/old/docker-compose.yml"]
    assert not (root / "deploy/old").exists(), "an empty folder stays"
    assert all(path.exists() for path in kept) and link.is_symlink()


def test_orphans_behind_a_linked_folder_stay(root: Path, tmp_path: Path) -> None:
    outside = put(tmp_path / "outside/old.yml", MARK)
    (root / "deploy/more").symlink_to(outside.parent)
    assert kinds(root) == {}
    assert write(root, TREE, "shop").removed == []
    assert outside.exists()


@pytest.mark.parametrize("content", ["mine\n", f"# {marker('other')}\n", ""])
def test_a_file_that_is_not_ours_is_overwritten_only_by_force(tmp_path: Path, content: str) -> None:
    put(tmp_path / CI, content)
    put(tmp_path / NOTES, "mine, too\n")
    before = state(tmp_path)
    owner = "another project's" if "other" in content else "not ours (no marker)"
    with pytest.raises(Refused) as raised:
        write(tmp_path, TREE, "shop")
    assert str(raised.value).splitlines() == [
        f"{CI}: {owner}: move it away, or overwrite it with --force",
        f"{NOTES}: not ours (no marker): move it away, or overwrite it with --force",
    ]
    assert state(tmp_path) == before
    assert write(tmp_path, TREE, "shop", force=True).changed == [CI, NOTES]
    assert true(tmp_path)


def test_the_same_bytes_are_ours(tmp_path: Path) -> None:
    put(tmp_path / SPEC, "project: shop\n")
    put(tmp_path / CI, TREE[CI].text)
    assert write(tmp_path, TREE, "shop").same == [SPEC, CI]


def test_the_spec_has_no_marker_and_is_written_all_the_same(root: Path) -> None:
    (root / SPEC).write_text("project: old\n")
    assert write(root, TREE, "shop").changed == [SPEC]


# What is in the way.


def test_a_linked_folder_that_leads_out_is_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "out"
    root.mkdir()
    (root / "deploy").symlink_to(outside)
    before = state(tmp_path)
    with pytest.raises(Refused, match=r"deploy/bin/deploy: deploy is a link that leads out of"):
        write(root, TREE, "shop")
    assert state(tmp_path) == before


def test_a_linked_folder_that_stays_inside_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "deploy").symlink_to("real")
    write(tmp_path, TREE, "shop")
    assert (tmp_path / "real/bin/deploy").is_file() and not kinds(tmp_path)


def test_a_linked_root_is_the_users_choice(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    write(tmp_path / "out", TREE, "shop")
    assert true(tmp_path / "real")


@pytest.mark.parametrize("inside", [True, False])
def test_a_linked_file_is_replaced_and_not_followed(root: Path, tmp_path: Path, inside: bool) -> None:
    target = put((root if inside else tmp_path) / "target", TREE[CI].text)
    (root / CI).unlink()
    (root / CI).symlink_to(target)
    assert kinds(root) == {CI: "changed"}
    write(root, TREE, "shop")
    assert not (root / CI).is_symlink() and target.read_text() == TREE[CI].text
    target.unlink()
    assert true(root)


def test_a_link_to_nowhere_is_replaced(root: Path) -> None:
    (root / CI).unlink()
    (root / CI).symlink_to("nowhere")
    assert kinds(root) == {CI: "missing"}
    assert write(root, TREE, "shop").new == [CI]
    assert true(root) and not (root / ".github/workflows/nowhere").exists()


@pytest.mark.parametrize("content", [None, "nowhere"])
def test_a_file_or_a_dead_link_where_a_folder_must_be(tmp_path: Path, content: str | None) -> None:
    if content:
        (tmp_path / "deploy").symlink_to(content)
    else:
        put(tmp_path / "deploy", "a file\n")
    before = state(tmp_path)
    with pytest.raises(Refused, match=r"(?m)^deploy/RUNBOOK\.md: deploy is "):
        write(tmp_path, TREE, "shop")
    assert state(tmp_path) == before


@pytest.mark.parametrize("force", [True, False])
def test_a_folder_where_a_file_must_be(root: Path, force: bool) -> None:
    (root / CI).unlink()
    (root / CI).mkdir()
    before = state(root)
    with pytest.raises(Refused, match=r"web-ci\.yml: a folder is in the way"):
        write(root, TREE, "shop", force)
    assert state(root) == before
    assert kinds(root) == {CI: "missing"}


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    put(tmp_path / "out", "")
    with pytest.raises(Refused):
        write(tmp_path / "out", TREE, "shop")


# What can break in the middle.


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
        write(disk, TREE, "shop")
        large = {path: replace(file, text=file.text + "#" * 30_000) for path, file in TREE.items()}
        before = state(disk)
        with pytest.raises(Refused, match="No space left on device"):
            write(disk, large, "shop")
        assert state(disk) == before
        assert true(disk)


def test_a_read_only_disk_is_told(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "64k"):
        write(disk, TREE, "shop")
        (disk / CI).write_text(f"{MARK}old\n")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(Refused, match="Read-only file system"):
            write(disk, TREE, "shop")
        assert kinds(disk) == {CI: "changed"}


def test_a_true_tree_needs_no_right_to_write(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "64k"):
        write(disk, TREE, "shop")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert write(disk, TREE, "shop").same == list(TREE)


def test_what_the_system_refuses_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / CI).write_text(f"{MARK}old\n")

    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(target))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(Refused, match=r"web-ci\.yml: Operation not permitted"):
        write(root, TREE, "shop")
    assert not (root / tree.STAGING).exists()
    monkeypatch.undo()
    write(root, TREE, "shop")
    assert true(root)


KILLED = f"""
import os, signal, sys
from pathlib import Path
from kiwari_ci import tree
from kiwari_ci.tree import File
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
Path.replace, Path.unlink, Path.chmod = map(counted, (Path.replace, Path.unlink, Path.chmod))
tree.write(Path(sys.argv[1]), TREE, "shop")
"""


def test_what_a_kill_leaves_the_next_run_mends(root: Path) -> None:
    """Killed before each step: every file is whole, old or new, and a second run ends well."""
    killed = 0
    for steps in range(12):
        old = {path: f"{file.text}# old\n" for path, file in TREE.items()}
        for path, text in old.items():
            put(root / path, text)
        put(root / "deploy/orphan.yml", MARK)
        done = subprocess.run([sys.executable, "-c", KILLED, str(root), str(steps)], cwd=Path(__file__).parents[1])
        killed += done.returncode == -signal.SIGKILL
        for path, text in old.items():
            assert (root / path).read_text() in (text, TREE[path].text)
        write(root, TREE, "shop")
        assert true(root)
    assert 0 < killed < 12, "it was killed too late, or always too early"


def test_what_was_staged_before_is_not_used(root: Path) -> None:
    put(root / tree.STAGING / "1", "half a fi", 0o600)
    (root / CI).unlink()
    write(root, TREE, "shop")
    assert true(root) and stat.S_IMODE((root / CI).stat().st_mode) == 0o644


def test_a_linked_staging_folder_is_not_followed(root: Path, tmp_path: Path) -> None:
    outside = put(tmp_path / "outside/1", "mine\n")
    (root / tree.STAGING).symlink_to(outside.parent)
    (root / CI).unlink()
    write(root, TREE, "shop")
    assert true(root) and outside.read_text() == "mine\n"


def test_two_at_once_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sees a finished tree, so one of them writes and the other has nothing to do."""
    inside: list[int] = []
    most = [0]
    plain: Callable[..., Any] = tree._write

    def watched(*words: Any) -> Any:
        inside.append(1)
        most[0] = max(most[0], len(inside))
        try:
            return plain(*words)
        finally:
            inside.pop()

    monkeypatch.setattr(tree, "_write", watched)
    results: list[tree.Written] = []
    threads = [threading.Thread(target=lambda: results.append(write(tmp_path, TREE, "shop"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert most == [1]
    assert sorted(len(result.new) for result in results) == [0] * 7 + [len(TREE)]
    assert true(tmp_path)


# What a comparison says.


def test_every_difference_is_named_and_nothing_is_written(root: Path) -> None:
    (root / SPEC).write_text("project: old\n")
    (root / CI).unlink()
    (root / SCRIPT).chmod(0o600)
    put(root / "deploy/old.yml", MARK)
    before = state(root)
    assert kinds(root) == {CI: "missing", SCRIPT: "changed", "deploy/old.yml": "orphaned", SPEC: "changed"}
    assert state(root) == before


def test_the_diff_makes_it_so(root: Path, tmp_path: Path) -> None:
    """What `check` prints is a patch: git applies it, and then nothing differs."""
    (root / SPEC).write_text("project: old\nno newline at the end")
    (root / NOTES).write_bytes(b"# Runb\xc3\xb6\xc3\xb6k\r\n")
    (root / CI).unlink()
    put(root / "deploy/old.yml", MARK)
    patch = "".join(difference.diff for difference in compare(root, TREE, "shop"))
    assert "\\ No newline at end of file\n" in patch
    subprocess.run(["git", "apply", "--whitespace=nowarn", "-"], input=patch.encode(), cwd=root, check=True)
    assert true(root)


def test_bytes_that_are_no_text_can_be_compared(root: Path) -> None:
    (root / CI).write_bytes(b"\xff\0\n")
    [difference] = compare(root, TREE, "shop")
    assert "-\\xff\0\n" in difference.diff


def test_a_root_that_is_not_there_lacks_everything(tmp_path: Path) -> None:
    assert set(kinds(tmp_path / "none").values()) == {"missing"}
    assert not (tmp_path / "none").exists()
