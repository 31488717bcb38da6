"""Writing and comparing: what is ours is kept true, and what is not ours stays."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from kiwari_ci.file_output.atomic_write import OutputError
from kiwari_ci.file_output.generated_files import (
    GeneratedFile,
    compare_files,
    format_example_marker,
    format_marker,
    write_files,
)
from tests.trees import CI, MARK, NOTES, SCRIPT, SPEC, TREE, kinds, put, state, true


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root that holds the tree."""
    write_files(tmp_path / "out", TREE, "shop")
    return tmp_path / "out"


# What a write does.


def test_new_same_changed_removed(tmp_path: Path) -> None:
    first = write_files(tmp_path, TREE, "shop")
    assert (first.new, first.changed, first.same, first.removed) == (list(TREE), [], [], [])
    assert true(tmp_path)
    before = state(tmp_path)
    again = write_files(tmp_path, TREE, "shop")
    assert (again.new, again.changed, again.same, again.removed) == ([], [], list(TREE), [])
    assert state(tmp_path) == before
    later = TREE | {CI: GeneratedFile(f"{MARK}on: pull_request\n")}
    del later[NOTES]
    third = write_files(tmp_path, later, "shop")
    assert (third.new, third.changed, third.same, third.removed) == ([], [CI], [SPEC, SCRIPT], [NOTES])
    assert not compare_files(tmp_path, later, "shop")


def test_only_a_script_can_be_run(root: Path) -> None:
    assert os.access(root / SCRIPT, os.X_OK) and not (root / CI).stat().st_mode & 0o111
    (root / SCRIPT).chmod(0o644)
    (root / CI).chmod(0o755)
    assert kinds(root) == {CI: "changed", SCRIPT: "changed"}
    diffs = {difference.path: difference.diff for difference in compare_files(root, TREE, "shop")}
    assert diffs == {
        CI: "old mode 100755\nnew mode 100644\n",
        SCRIPT: "old mode 100644\nnew mode 100755\n",
    }
    assert write_files(root, TREE, "shop").changed == [CI, SCRIPT]
    assert [stat.S_IMODE((root / path).stat().st_mode) for path in (CI, SCRIPT)] == [0o644, 0o755]


def test_a_mode_that_a_person_chose_stays(root: Path) -> None:
    for path, mode in ((CI, 0o600), (SCRIPT, 0o700)):
        put(root / path, "old\n" + MARK, mode)
    write_files(root, TREE, "shop")
    assert [stat.S_IMODE((root / path).stat().st_mode) for path in (CI, SCRIPT)] == [0o600, 0o700]


@pytest.mark.parametrize(
    ("umask", "plain", "script"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700), (0o002, 0o664, 0o775)]
)
def test_modes_follow_the_umask(tmp_path: Path, umask: int, plain: int, script: int) -> None:
    before = os.umask(umask)
    try:
        write_files(tmp_path / "out", TREE, "shop")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / "out" / path).stat().st_mode) for path in (CI, SCRIPT)]
    assert modes == [plain, script]
    assert true(tmp_path / "out")


def test_line_ends_of_windows_are_a_difference(root: Path) -> None:
    (root / CI).write_bytes(TREE[CI].text.replace("\n", "\r\n").encode())
    assert kinds(root) == {CI: "changed"}
    write_files(root, TREE, "shop")
    assert (root / CI).read_bytes() == TREE[CI].text.encode()


# What is somebody else's.


def test_orphans_go_only_with_our_marker_in_our_folders(root: Path) -> None:
    put(root / "deploy/old/docker-compose.yml", MARK)
    put(root / ".github/workflows/old.yml", f"#!/bin/sh\n{MARK}")
    remaining = [
        put(root / "deploy/mine.yml", "services: {}\n"),
        put(root / "deploy/other.yml", f"# {format_marker('other')}\n"),
        put(root / "deploy/prefix.yml", f"# {format_marker('shop2')}\n"),
        put(root / "deploy/late.yml", f"a\nb\n{MARK}"),
        put(root / "docs/old.yml", MARK),
        put(root / ".github/old.yml", MARK),
        put(root / "deploy/binary", "\0" * 2000),
        put(root / "deploy/old/.env", MARK),
        put(root / "deploy/old/web.env", f"# {format_example_marker('shop')}\n"),
        put(root / "deploy/copy", f"# {format_example_marker('shop')}\n"),
    ]
    link = root / "deploy/link.yml"
    link.symlink_to("../docs/old.yml")
    assert kinds(root) == {"deploy/old/docker-compose.yml": "orphaned", ".github/workflows/old.yml": "orphaned"}
    assert write_files(root, TREE, "shop").removed == [".github/workflows/old.yml", "deploy/old/docker-compose.yml"]
    assert not (root / "deploy/old/docker-compose.yml").exists()
    assert all(path.exists() for path in remaining) and link.is_symlink()


def test_all_orphans_of_a_folder_go_and_it_with_them(root: Path) -> None:
    """As when an environment leaves the spec: its stack has two files."""
    put(root / "deploy/old/docker-compose.yml", MARK)
    put(root / "deploy/old/.env.example", f"# {format_example_marker('shop')}\n")
    put(root / "deploy/old/init/init.sh", MARK)
    assert len(write_files(root, TREE, "shop").removed) == 3
    assert not (root / "deploy/old").exists() and true(root)


def test_orphans_behind_a_linked_folder_stay(root: Path, tmp_path: Path) -> None:
    outside = put(tmp_path / "outside/old.yml", MARK)
    (root / "deploy/more").symlink_to(outside.parent)
    assert kinds(root) == {}
    assert write_files(root, TREE, "shop").removed == []
    assert outside.exists()


@pytest.mark.parametrize("content", ["mine\n", f"# {format_marker('other')}\n", ""])
def test_a_file_that_is_not_ours_is_overwritten_only_by_force(tmp_path: Path, content: str) -> None:
    put(tmp_path / CI, content)
    put(tmp_path / NOTES, "mine, too\n")
    before = state(tmp_path)
    owner = "of the project other" if "other" in content else "not written by kiwari-ci (no marker)"
    with pytest.raises(OutputError) as raised:
        write_files(tmp_path, TREE, "shop")
    assert str(raised.value).splitlines() == [
        f"{CI}: {owner}: move it away, or overwrite it with --force",
        f"{NOTES}: not written by kiwari-ci (no marker): move it away, or overwrite it with --force",
    ]
    assert state(tmp_path) == before
    assert write_files(tmp_path, TREE, "shop", force=True).changed == [CI, NOTES]
    assert true(tmp_path)


def test_the_same_bytes_are_ours(tmp_path: Path) -> None:
    put(tmp_path / SPEC, "project: shop\n")
    put(tmp_path / CI, TREE[CI].text)
    assert write_files(tmp_path, TREE, "shop").same == [SPEC, CI]


def test_the_spec_has_no_marker_and_is_written_all_the_same(root: Path) -> None:
    (root / SPEC).write_text("project: old\n")
    assert write_files(root, TREE, "shop").changed == [SPEC]


# What is in the way.


def test_a_linked_folder_that_leads_out_is_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "out"
    root.mkdir()
    (root / "deploy").symlink_to(outside)
    before = state(tmp_path)
    with pytest.raises(OutputError, match=r"deploy is a link, and nothing is written through a link"):
        write_files(root, TREE, "shop")
    assert state(tmp_path) == before


def test_a_linked_folder_that_stays_inside_is_not_followed_either(tmp_path: Path) -> None:
    """A strange repository may lead `deploy` to `.git/hooks`."""
    (tmp_path / "real").mkdir()
    (tmp_path / "deploy").symlink_to("real")
    before = state(tmp_path)
    with pytest.raises(OutputError, match="deploy is a link, and nothing is written through a link"):
        write_files(tmp_path, TREE, "shop")
    assert state(tmp_path) == before


def test_a_linked_root_is_the_users_choice(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    write_files(tmp_path / "out", TREE, "shop")
    assert true(tmp_path / "real")


@pytest.mark.parametrize("inside", [True, False])
def test_a_linked_file_is_replaced_and_not_followed(root: Path, tmp_path: Path, inside: bool) -> None:
    target = put((root if inside else tmp_path) / "target", TREE[CI].text)
    (root / CI).unlink()
    (root / CI).symlink_to(target)
    assert kinds(root) == {CI: "changed"}
    write_files(root, TREE, "shop")
    assert not (root / CI).is_symlink() and target.read_text() == TREE[CI].text
    target.unlink()
    assert true(root)


def test_a_link_to_nowhere_is_replaced(root: Path) -> None:
    (root / CI).unlink()
    (root / CI).symlink_to("nowhere")
    assert kinds(root) == {CI: "missing"}
    assert write_files(root, TREE, "shop").new == [CI]
    assert true(root) and not (root / ".github/workflows/nowhere").exists()


@pytest.mark.parametrize("content", [None, "nowhere"])
def test_a_file_or_a_dead_link_where_a_folder_must_be(tmp_path: Path, content: str | None) -> None:
    if content:
        (tmp_path / "deploy").symlink_to(content)
    else:
        put(tmp_path / "deploy", "a file\n")
    before = state(tmp_path)
    with pytest.raises(OutputError, match=r"(?m)^deploy/RUNBOOK\.md: deploy is "):
        write_files(tmp_path, TREE, "shop")
    assert state(tmp_path) == before


@pytest.mark.parametrize("force", [True, False])
def test_a_folder_where_a_file_must_be(root: Path, force: bool) -> None:
    (root / CI).unlink()
    (root / CI).mkdir()
    before = state(root)
    with pytest.raises(OutputError, match=r"web-ci\.yml: a folder is in the way"):
        write_files(root, TREE, "shop", force)
    with pytest.raises(OutputError, match="a folder is in the way"):
        kinds(root)  # `generate` is no cure for it
    assert state(root) == before


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    put(tmp_path / "out", "")
    with pytest.raises(OutputError):
        write_files(tmp_path / "out", TREE, "shop")


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
    patch = "".join(difference.diff for difference in compare_files(root, TREE, "shop"))
    assert "\\ No newline at end of file\n" in patch
    subprocess.run(["git", "apply", "--whitespace=nowarn", "-"], input=patch.encode(), cwd=root, check=True)
    assert true(root)


def test_bytes_that_are_no_text_can_be_compared(root: Path) -> None:
    (root / CI).write_bytes(b"\xff\0\n")
    [difference] = compare_files(root, TREE, "shop")
    assert "-\\xff\0\n" in difference.diff


def test_a_root_that_is_not_there_lacks_everything(tmp_path: Path) -> None:
    assert set(kinds(tmp_path / "none").values()) == {"missing"}
    assert not (tmp_path / "none").exists()
