"""The notes of a release show what it does to the example trees, in words for each kind of file."""

import shutil
import subprocess
from pathlib import Path

import pytest

from docs import release
from kiwari_ci import __version__

ROOT = Path(__file__).parents[1]
GENERATED = sorted(
    path.relative_to(ROOT / "generated").as_posix() for path in ROOT.glob("generated/**/*") if path.is_file()
)
OTHER = release.KINDS[-1][1]


def git(root: Path, *words: str) -> None:
    subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@example.com", *words], cwd=root, check=True)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with the example tree, a golden, and the tag of a release; nothing has changed since."""
    shutil.copytree(ROOT / "generated", tmp_path / "generated")
    shutil.copytree(ROOT / "tests/cases/ok/minimal/expected", tmp_path / "tests/cases/ok/minimal/expected")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n- A new thing.\n\n## 0.0.1\n\n- Old.\n")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "a release"], ["tag", "v0.0.1"]):
        git(tmp_path, *words)
    return tmp_path


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-qm", "more", "--allow-empty")


def test_nothing_changes(clone: Path) -> None:
    text = release.notes(clone, "v0.0.1")
    assert text.startswith(f"# kiwari-ci {__version__}\n\n- A new thing.\n\n## In the example trees\n")
    assert text.endswith("\n### `generated`: nothing changes\n")


def test_each_changed_file_is_folded_under_its_words(clone: Path) -> None:
    script, runbook = clone / "generated/deploy/bin/deploy", clone / "generated/deploy/RUNBOOK.md"
    script.write_text(script.read_text() + "# more\n")
    runbook.write_text(runbook.read_text().replace("```bash", "````bash"))
    (clone / "generated/deploy/pos-staging/docker-compose.yml").unlink()
    (clone / "tests/cases/ok/minimal/expected/new").write_text("no example\n")
    commit(clone)
    text = release.notes(clone, "v0.0.1")
    assert "### `generated`: 3 files change\n" in text and "no example" not in text
    assert "<code>deploy/bin/deploy</code> +1 -0: the host's program: copy it to each server" in text
    assert "\n+# more\n```\n\n</details>\n" in text
    assert "<code>deploy/pos-staging/docker-compose.yml</code> +0 -" in text
    assert "\n`````diff\n" in text, "a fence that no line of the diff closes"
    assert text.count("<details>") == text.count("</details>") == 3


def test_what_is_not_committed_is_in_no_release(clone: Path) -> None:
    (clone / "generated/deploy/bin/deploy").write_text("by hand\n")
    assert "nothing changes" in release.notes(clone, "v0.0.1")


def test_an_example_that_is_new_is_shown(clone: Path) -> None:
    shutil.copytree(clone / "generated", clone / "examples/shop/generated")
    commit(clone)
    assert f"### `examples/shop/generated`: {len(GENERATED)} files change\n" in release.notes(clone, "v0.0.1")


def test_the_wheels_hash_is_a_line_for_the_spec(clone: Path, tmp_path: Path) -> None:
    (tmp_path / "wheel").write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert f"generator: kiwari-ci=={__version__} --hash=sha256:{empty}\n" in release.notes(
        clone, "", tmp_path / "wheel"
    )


def test_the_first_release_has_nothing_to_compare_with(clone: Path) -> None:
    assert release.notes(clone, "").endswith("The first release: all of it is new.\n")


@pytest.mark.parametrize("since", ["v9.9.9", "--output=owned", "v0.0.1; touch owned"])
def test_a_tag_that_is_none(clone: Path, since: str) -> None:
    with pytest.raises(release.NoNotes, match="is no tag or commit here"):
        release.notes(clone, since)
    assert not (clone / "owned").exists()


def test_the_section_of_the_version_comes_first(clone: Path) -> None:
    (clone / "CHANGELOG.md").write_text(f"## Unreleased\n\n- Not yet.\n\n## {__version__} (today)\n\n- This.\n")
    assert release.changes(clone) == "- This."
    (clone / "CHANGELOG.md").write_text("# Changelog\n")
    with pytest.raises(release.NoNotes, match="has neither"):
        release.changes(clone)


def test_every_generated_file_has_words_of_its_own() -> None:
    without = [path for path in GENERATED if release.kind(path) == OTHER and not path.endswith(".gitattributes")]
    assert without == []
