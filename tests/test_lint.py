"""A spec held against small repositories, made with git as a person makes them."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kiwari_ci.readers import tracked_files
from kiwari_ci.readers.build_context import BuildContext
from kiwari_ci.readers.dockerfile import CopySource
from tests.cli_runner import kiwari_ci

CASES = sorted((Path(__file__).parent / "cases/lint").glob("*.txt"))
SECTION = re.compile(r"^-- (.+) --\n", re.MULTILINE)
SPEC = """project: {name: shop, repository: example/shop}
hosts: {vps: {}}
services:
  web: {port: 8080, paths: [PATHS], build: {context: CONTEXT, dockerfile: web/Dockerfile}}
environments:
  live: {deploy_on: {push: main}}
"""


def git(folder: Path, *words: str) -> None:
    names = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", *names, *words], cwd=folder, check=True, capture_output=True)


def made(folder: Path, files: dict[str, str]) -> Path:
    """A repository whose files are all tracked."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "init", "-q")
    git(folder, "add", "--all")
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, outside GitHub Actions."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    return tmp_path


def spec(paths: str = "web/**", context: str = ".") -> str:
    return SPEC.replace("PATHS", paths).replace("CONTEXT", context)


def rules(*words: object) -> list[tuple[str, str, int]]:
    """What is found: rule, file and line."""
    said = kiwari_ci("lint", *words, "--format", "json")
    assert said.err == ""
    problems = json.loads(said.out)["problems"]
    assert said.code == any(each["severity"] == "error" for each in problems)
    return [(each["rule"], each["path"], each["line"]) for each in problems]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_case(case: Path, here: Path, snapshot: Any) -> None:
    """Each case is a list of files; what `lint` prints of them stands beside it."""
    title, *parts = SECTION.split(case.read_text())
    assert title.startswith("# ")
    made(here, dict(zip(parts[::2], parts[1::2], strict=True)))
    said = kiwari_ci("lint", "spec.yaml", "--format", "text")
    assert said.err == ""
    snapshot.snapshot_dir = case.parent
    snapshot.assert_match(said.out.partition("GitHub keeps:")[0] or said.out, f"{case.stem}.out")
    assert said.code == (" errors 0, " not in said.out)


def test_the_formats(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    made(here, {"spec.yaml": spec("web/**, gone/**"), "web/Dockerfile": "FROM a\nEXPOSE 1\n"})
    said = kiwari_ci("lint", "spec.yaml", "--format", "json")
    found = json.loads(said.out)
    assert found.keys() == {"problems", "needs", "env_files"}
    assert found["needs"][0] == {
        "name": "VPS_HOST", "kind": "secret", "holds": "address of vps", "environments": ["live"]
    }  # fmt: skip
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    lines = kiwari_ci("lint", "spec.yaml").out.splitlines()
    assert lines[0].startswith("::error file=spec.yaml,line=4,col=37,title=no-match::")
    assert lines[1].startswith("::error file=web/Dockerfile,line=2,col=1,title=port::")


def test_what_the_servers_keep(here: Path) -> None:
    made(here, {"a": ""})
    kiwari = Path(__file__).parents[1] / "specs/kiwari.yaml"
    files = json.loads(kiwari_ci("lint", kiwari, "--checkout", ".", "--format", "json").out)["env_files"]
    assert [file["path"] for file in files] == [
        f"docker/{name}/.env" for name in ("postgres", "pos-staging", "pos-production")
    ]
    assert files[1]["keys"][1:3] == [{"name": "JWT_SECRET", "secret": True}, {"name": "API_URL", "secret": False}]


def test_the_repository_is_the_checkout_that_we_are_in(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(here, {"spec.yaml": spec(), "web/Dockerfile": "FROM a\nEXPOSE 1\n", "web/src/a": ""})
    monkeypatch.setenv("GIT_DIR", str(here / "elsewhere"))
    assert rules("spec.yaml", "--repo", here) == [("port", (here / "web/Dockerfile").as_posix(), 2)]
    monkeypatch.chdir("web/src")
    assert rules("../../spec.yaml") == [("port", "../../web/Dockerfile", 2)]


def test_a_folder_that_is_no_checkout(here: Path) -> None:
    for name in ("web/Dockerfile", "web/a", "web/node_modules/b/Dockerfile"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text("FROM a\nCOPY web/a gone /\n")
    Path("spec.yaml").write_text(spec())
    said = kiwari_ci("lint", "spec.yaml")
    assert said.out.splitlines()[-1].startswith(
        "spec.yaml and .: 3 files there (all of them: no git checkout): services 1"
    )
    assert rules("spec.yaml") == [("no-source", "web/Dockerfile", 2)]


def test_git_that_is_missing_or_fails(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(here, {"spec.yaml": spec(), "web/Dockerfile": "FROM a\n"})
    (here / ".git/index").write_bytes(b"broken")
    assert "files there (all of them: git ls-files refused: " in kiwari_ci("lint", "spec.yaml").out
    monkeypatch.setenv("PATH", str(here))
    assert "files there (all of them: git is not installed)" in kiwari_ci("lint", "spec.yaml").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--checkout", "gone"], "Directory 'gone' does not exist."),
        (["--repo", "spec.yaml"], "Directory 'spec.yaml' is a file."),
        (["--checkout", "empty"], "spec.yaml: empty: 0 files that git tracks [no-files]"),
        (["none.yaml"], "none.yaml: no such file [no-file]"),
    ],
)
def test_what_is_no_repository(words: list[str], said: str, here: Path) -> None:
    (here / "specs").mkdir()
    (here / "specs/spec.yaml").write_text(spec())
    (here / "spec.yaml").write_text(spec())
    (here / "empty").mkdir()
    git(here / "empty", "init", "-q")
    found = kiwari_ci("lint", *([] if words[0] not in ("--repo", "--checkout") else ["spec.yaml"]), *words)
    assert (found.code, found.out) == (2, "")
    assert said in found.err


def test_what_git_does_not_track(here: Path) -> None:
    """It is on this disk, and no runner has it."""
    files = {"spec.yaml": spec(), ".gitignore": "dist\nDockerfile\n"}
    made(here, {**files, "web/Dockerfile": "FROM a\nCOPY web/dist /\n", "web/dist/a": "", "web/b": ""})
    said = kiwari_ci("lint", "spec.yaml").out
    assert "services.web is built from `web/Dockerfile`, which git does not track [not-there]" in said
    assert "hint: git add web/Dockerfile" in said
    git(here, "add", "--force", "web/Dockerfile")
    assert "hint: `web/dist` is on disk, and git does not track it" in kiwari_ci("lint", "spec.yaml").out


def test_links_submodules_and_large_files(here: Path) -> None:
    (here / "other").mkdir()
    made(here / "other", {"a": ""})
    git(here / "other", "commit", "-qm", "a")
    (here / "web").mkdir()
    (here / "web/shared").symlink_to("../lib/shared")
    (here / "web/loop").symlink_to("loop")
    (here / "web/here").symlink_to(".")
    (here / "web/back").symlink_to("../web/here")
    (here / "web/out").symlink_to("../../..")
    names = [
        "web/back/here/back/here/Dockerfile",
        "web/shared/x.js",
        "web/module",
        "web/logo.png",
        "web/loop/a",
        "web/out/etc",
    ]
    text = "FROM a\n" + "".join(f"COPY {name} /\n" for name in names)
    files = {
        "web/Dockerfile": text,
        "lib/shared/x.js": "",
        "web/logo.png": "",
        ".gitattributes": "*.png filter=lfs -text\n",
    }
    (here / "web/Dockerfile").write_text(text)
    git(here, "init", "-q")
    git(here, "submodule", "add", "--quiet", "./other", "web/module")
    made(here, {"spec.yaml": spec(), **files})
    found = [(rule, line) for rule, path, line in rules("spec.yaml") if path == "web/Dockerfile"]
    assert found == [("uncovered", 3), ("submodule", 4), ("large-files", 5), ("no-source", 6), ("no-source", 7)]
    assert "add `lib/shared/x.js` to services.web.paths" in kiwari_ci("lint", "spec.yaml").out


def test_a_dockerfile_and_an_ignore_file_that_lead_elsewhere(here: Path) -> None:
    """A change of what a link leads to changes the image, and the sparse checkout must have it."""
    (here / "web").mkdir()
    (here / "web/Dockerfile").symlink_to("../docker/node.Dockerfile")
    (here / "web/Dockerfile.dockerignore").symlink_to("../common/ignored")
    made(here, {"spec.yaml": spec(), "docker/node.Dockerfile": "FROM a\nCOPY web /x\n", "common/ignored": "tmp\n"})
    said = kiwari_ci("lint", "spec.yaml").out
    assert "matches `docker/node.Dockerfile`, to which `web/Dockerfile` leads" in said
    assert "matches `common/ignored`, to which `web/Dockerfile.dockerignore` leads" in said
    assert "no service is built from" not in said
    (here / "spec.yaml").write_text(spec("web/**, docker/**, common/**"))
    assert rules("spec.yaml") == []


@pytest.mark.parametrize(
    ("attributes", "is_large"),
    [
        ({"web/.gitattributes": "*.png filter=lfs diff=lfs merge=lfs -text\n"}, True),
        ({".gitattributes": "[attr]large filter=lfs\n*.png large\n"}, True),
        ({".gitattributes": "*.png filter=lfs\nweb/icons/*.png -filter\n"}, False),
        ({".gitattributes": "*.png filter=lfs\n", "web/.gitattributes": "icons/** !filter\n"}, False),
        ({".gitattributes": "*.png filter=crypt\n"}, False),
    ],
)
def test_what_git_lfs_keeps_is_what_git_says(attributes: dict[str, str], is_large: bool, here: Path) -> None:
    dockerfile = "FROM a\nCOPY web/icons /x\n"
    made(here, {"spec.yaml": spec(), "web/Dockerfile": dockerfile, "web/icons/a.png": "", **attributes})
    assert rules("spec.yaml") == ([("large-files", "web/Dockerfile", 2)] if is_large else [])


@pytest.mark.parametrize("files", [{"shared/x": ""}, {}])
def test_what_a_stage_copies_for_those_that_build_on_it(files: dict[str, str], here: Path) -> None:
    text = "FROM a AS base\nONBUILD COPY shared /x\nFROM base\nCOPY web /y\n"
    made(here, {"spec.yaml": spec(), "web/Dockerfile": text, **files})
    assert rules("spec.yaml") == [("uncovered" if files else "no-source", "web/Dockerfile", 2)]


def test_a_pattern_of_files_in_a_submodule(here: Path) -> None:
    made(here / "other", {"a": ""})
    git(here / "other", "commit", "-qm", "a")
    git(here, "init", "-q")
    git(here, "submodule", "add", "--quiet", "./other", "libs/shared")
    made(here, {"spec.yaml": spec("web/**, libs/shared/**"), "web/Dockerfile": "FROM a\nCOPY web /x\n"})
    assert "GitHub sees a submodule as one file: libs/shared\n" in kiwari_ci("lint", "spec.yaml").out


@pytest.mark.parametrize("kind", ["folder", "pipe", "out", "huge", "binary", "gone", "empty"])
def test_a_dockerfile_that_is_none(kind: str, here: Path) -> None:
    made(here, {"spec.yaml": spec(), "web/Dockerfile": "FROM a\n"})
    file = here / "web/Dockerfile"
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "out":
        file.symlink_to("/etc/passwd")
    elif kind != "gone":
        file.write_bytes({"huge": b"#" * 1_000_001, "binary": bytes(range(256)) * 9, "empty": b""}[kind])
    found = rules("spec.yaml")
    assert {rule for rule, _, _ in found} == {"dockerfile"}
    assert "root:" not in kiwari_ci("lint", "spec.yaml").out


def test_names_do_no_harm(here: Path) -> None:
    """What a name has that a terminal, a log or a line would obey is shown as a sign."""
    odd = ["web/\x1b[31m/Dockerfile", "a\n::error::b/x", "é ü/x", "[a]*?/x", "-n/x", "web/\u202e/x"]
    names = "\n".join(f'COPY ["{name.rpartition("/")[0]}", "/"]' for name in odd[1:]).replace("a\n:", "a\\n:")
    files = {**dict.fromkeys(odd, "FROM a\n"), "spec.yaml": spec(), "web/Dockerfile": f"FROM a\n{names}\n"}
    made(here, files)
    os.close(os.open(b"\xff\xfe.Dockerfile", os.O_CREAT))
    git(here, "add", "--all")
    for style in ("text", "github"):
        said = kiwari_ci("lint", "spec.yaml", "--format", style)
        assert (said.code, said.err) == (1, "")
        assert all(line.isprintable() for line in said.out.splitlines()), style
        assert not [line for line in said.out.splitlines() if line.startswith("::error::b")]
        assert said.out.encode()
    assert rules("spec.yaml")


def test_the_repositorys_own_settings_start_nothing(here: Path) -> None:
    made(here, {"spec.yaml": spec(), "web/Dockerfile": "FROM a\n"})
    (here / "hook").write_text(f"#!/bin/sh\ntouch {here}/started\n")
    (here / "hook").chmod(0o755)
    git(here, "config", "core.fsmonitor", str(here / "hook"))
    subprocess.run(["git", "status"], cwd=here, capture_output=True)
    assert (here / "started").exists(), "the bait works"
    (here / "started").unlink()
    before = (here / ".git/index").stat().st_mtime_ns
    assert rules("spec.yaml") == []
    assert not (here / "started").exists()
    assert (here / ".git/index").stat().st_mtime_ns == before


# What a build is sent, and what a COPY finds in it.


@pytest.mark.parametrize(
    ("ignore", "left"),
    [
        ("", "a.md a/b.md a/b/c.md a/d x/node_modules/y"),
        ("*.md", "a/b.md a/b/c.md a/d x/node_modules/y"),
        ("**/*.md", "a/d x/node_modules/y"),
        ("a", "a.md x/node_modules/y"),
        ("/a/\n", "a.md x/node_modules/y"),
        ("a/*\n!a/b", "a.md a/b/c.md x/node_modules/y"),
        ("*\n!a/**/c.md", "a/b/c.md"),
        ("**/node_modules\n# a\n  \n#*", "a.md a/b.md a/b/c.md a/d"),
        ("a/?\n[x-z]", "a.md a/b.md"),
        ("[^x]*", "x/node_modules/y"),
        ("\ufeff*.md\r\na\r\n", "x/node_modules/y"),
        ("!a\n./a/../a/d", "a.md a/b.md a/b/c.md x/node_modules/y"),
        ("[\n[z-a]\n(\n.", "a.md a/b.md a/b/c.md a/d x/node_modules/y"),
    ],
)
def test_dockerignore(ignore: str, left: str) -> None:
    names = ["a.md", "a/b.md", "a/b/c.md", "a/d", "x/node_modules/y"]
    context = BuildContext(tracked_files.Checkout(Path(), dict.fromkeys(names, "100644"), ""), ".", ignore)
    assert context.find(CopySource("COPY", 1, 1, ".", "")).files == left.split()


@pytest.mark.parametrize(
    ("path", "files"),
    [
        ("a", "a/b.js a/c/d.js"),
        ("a/c", "a/c/d.js"),
        ("a/c/", ""),
        ("*.json", "p.json"),
        ("*/b.js", "a/b.js"),
        ("?", "a/b.js a/c/d.js"),
        ("a*", "a/b.js a/c/d.js ab"),
        ("[!a]*", "a/b.js a/c/d.js ab"),
        ("[^a]*", "p.json"),
        ("**/b.js", "a/b.js"),
        ("**/d.js", ""),
        ("A", ""),
    ],
)
def test_patterns_of_copy(path: str, files: str) -> None:
    names = ["a/b.js", "a/c/d.js", "ab", "p.json"]
    context = BuildContext(tracked_files.Checkout(Path(), dict.fromkeys(names, "100644"), ""), ".", "")
    assert context.find(CopySource("COPY", 1, 1, path, path)).files == files.split()


def test_parents_and_exclude() -> None:
    names = ["a/b.js", "a/c/d.js", "a/c/e.md"]
    context = BuildContext(tracked_files.Checkout(Path(), dict.fromkeys(names, "100644"), ""), ".", "")
    assert context.find(CopySource("COPY", 1, 1, "", "**/*.js", parents=True)).files == names[:2]
    assert context.find(CopySource("COPY", 1, 1, "", "a", ("**/*.md", "b.js"))).files == ["a/c/d.js"]


def test_a_folder_that_is_gone(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "spec.yaml").write_text(spec())
    (here / "gone").mkdir()
    monkeypatch.chdir("gone")
    (here / "gone").rmdir()
    assert " [no-files]" in kiwari_ci("lint", here / "spec.yaml").err
