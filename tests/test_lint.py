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


def write_repository(folder: Path, files: dict[str, str]) -> Path:
    """A repository whose files are all tracked."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "init", "-q")
    git(folder, "add", "--all")
    return folder


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, outside GitHub Actions."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    return tmp_path


def spec(paths: str = "web/**", context: str = ".") -> str:
    return SPEC.replace("PATHS", paths).replace("CONTEXT", context)


def rules(*words: object) -> list[tuple[str, str, int]]:
    """What is found: rule, file and line."""
    result = kiwari_ci("lint", *words, "--format", "json")
    assert result.err == ""
    problems = json.loads(result.out)["problems"]
    assert result.code == any(problem["severity"] == "error" for problem in problems)
    return [(problem["rule"], problem["path"], problem["line"]) for problem in problems]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_case(case: Path, checkout: Path, snapshot: Any) -> None:
    """Each case is a list of files; what `lint` prints of them stands beside it."""
    title, *parts = SECTION.split(case.read_text())
    assert title.startswith("# ")
    write_repository(checkout, dict(zip(parts[::2], parts[1::2], strict=True)))
    result = kiwari_ci("lint", "spec.yaml", "--format", "text")
    assert result.err == ""
    snapshot.snapshot_dir = case.parent
    snapshot.assert_match(result.out.partition("GitHub keeps:")[0] or result.out, f"{case.stem}.out")
    assert result.code == (" errors 0, " not in result.out)


def test_the_formats(monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
    write_repository(checkout, {"spec.yaml": spec("web/**, gone/**"), "web/Dockerfile": "FROM a\nEXPOSE 1\n"})
    result = kiwari_ci("lint", "spec.yaml", "--format", "json")
    report = json.loads(result.out)
    assert report.keys() == {"problems", "needs", "env_files"}
    assert report["needs"][0] == {
        "name": "VPS_HOST", "kind": "secret", "holds": "address of vps", "environments": ["live"]
    }  # fmt: skip
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    lines = kiwari_ci("lint", "spec.yaml").out.splitlines()
    assert lines[0].startswith("::error file=spec.yaml,line=4,col=37,title=no-match::")
    assert lines[1].startswith("::error file=web/Dockerfile,line=2,col=1,title=port::")


def test_what_the_servers_keep(checkout: Path) -> None:
    write_repository(checkout, {"a": ""})
    kiwari = Path(__file__).parents[1] / "specs/kiwari.yaml"
    files = json.loads(kiwari_ci("lint", kiwari, "--checkout", ".", "--format", "json").out)["env_files"]
    assert [file["path"] for file in files] == [
        f"docker/{name}/.env" for name in ("postgres", "pos-staging", "pos-production")
    ]
    assert files[1]["keys"][1:3] == [{"name": "JWT_SECRET", "secret": True}, {"name": "API_URL", "secret": False}]


def test_the_repository_is_the_checkout_that_we_are_in(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_repository(checkout, {"spec.yaml": spec(), "web/Dockerfile": "FROM a\nEXPOSE 1\n", "web/src/a": ""})
    monkeypatch.setenv("GIT_DIR", str(checkout / "elsewhere"))
    assert rules("spec.yaml", "--repo", checkout) == [("port", (checkout / "web/Dockerfile").as_posix(), 2)]
    monkeypatch.chdir("web/src")
    assert rules("../../spec.yaml") == [("port", "../../web/Dockerfile", 2)]


def test_a_port_whose_line_belongs_to_the_instruction_before_it(checkout: Path) -> None:
    """Docker leaves out comments and empty lines within an instruction, so this EXPOSE is a part of the RUN."""
    dockerfile = "FROM a\nRUN make && \\\n# make install\n\nEXPOSE 8080\nEXPOSE 443\n"
    write_repository(checkout, {"spec.yaml": spec(), "web/Dockerfile": dockerfile, "web/a": ""})
    out = kiwari_ci("lint", "spec.yaml").out
    assert "the image exposes 443, and services.web.port is 8080" in out
    assert "hint: line 5 belongs to the instruction before it" in out


def test_a_folder_that_is_no_checkout(checkout: Path) -> None:
    for name in ("web/Dockerfile", "web/a", "web/node_modules/b/Dockerfile"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("FROM a\nCOPY web/a gone /\n")
    Path("spec.yaml").write_text(spec())
    result = kiwari_ci("lint", "spec.yaml")
    assert result.out.splitlines()[-1].startswith(
        "spec.yaml, compared with 3 files (all of them: no git checkout) in .: services 1"
    )
    assert rules("spec.yaml") == [("no-source", "web/Dockerfile", 2)]


def test_git_that_is_missing_or_fails(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_repository(checkout, {"spec.yaml": spec(), "web/Dockerfile": "FROM a\n"})
    (checkout / ".git/index").write_bytes(b"broken")
    assert "files (all of them: git ls-files refused: " in kiwari_ci("lint", "spec.yaml").out
    monkeypatch.setenv("PATH", str(checkout))
    assert "files (all of them: git is not installed)" in kiwari_ci("lint", "spec.yaml").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--checkout", "gone"], "Directory 'gone' does not exist."),
        (["--repo", "spec.yaml"], "Directory 'spec.yaml' is a file."),
        (["--checkout", "empty"], "spec.yaml: 0 files that git tracks in empty [no-files]"),
        (["none.yaml"], "none.yaml: no such file [no-file]"),
    ],
)
def test_what_is_no_repository(words: list[str], message: str, checkout: Path) -> None:
    (checkout / "specs").mkdir()
    (checkout / "specs/spec.yaml").write_text(spec())
    (checkout / "spec.yaml").write_text(spec())
    (checkout / "empty").mkdir()
    git(checkout / "empty", "init", "-q")
    result = kiwari_ci("lint", *([] if words[0] not in ("--repo", "--checkout") else ["spec.yaml"]), *words)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


def test_what_git_does_not_track(checkout: Path) -> None:
    """It is on this disk, and no runner has it."""
    files = {"spec.yaml": spec(), ".gitignore": "dist\nDockerfile\n"}
    write_repository(checkout, {**files, "web/Dockerfile": "FROM a\nCOPY web/dist /\n", "web/dist/a": "", "web/b": ""})
    output = kiwari_ci("lint", "spec.yaml").out
    assert "services.web is built from `web/Dockerfile`, which git does not track [not-there]" in output
    assert "hint: git add web/Dockerfile" in output
    git(checkout, "add", "--force", "web/Dockerfile")
    assert "hint: `web/dist` is on disk, and git does not track it" in kiwari_ci("lint", "spec.yaml").out


def test_links_submodules_and_large_files(checkout: Path) -> None:
    (checkout / "other").mkdir()
    write_repository(checkout / "other", {"a": ""})
    git(checkout / "other", "commit", "-qm", "a")
    (checkout / "web").mkdir()
    (checkout / "web/shared").symlink_to("../lib/shared")
    (checkout / "web/loop").symlink_to("loop")
    (checkout / "web/here").symlink_to(".")
    (checkout / "web/back").symlink_to("../web/here")
    (checkout / "web/out").symlink_to("../../..")
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
    (checkout / "web/Dockerfile").write_text(text)
    git(checkout, "init", "-q")
    git(checkout, "submodule", "add", "--quiet", "./other", "web/module")
    write_repository(checkout, {"spec.yaml": spec(), **files})
    problems = [(rule, line) for rule, path, line in rules("spec.yaml") if path == "web/Dockerfile"]
    assert problems == [("uncovered", 3), ("submodule", 4), ("large-files", 5), ("no-source", 6), ("no-source", 7)]
    assert "add `lib/shared/x.js` to services.web.paths" in kiwari_ci("lint", "spec.yaml").out


def test_a_dockerfile_and_an_ignore_file_that_lead_elsewhere(checkout: Path) -> None:
    """A change of what a link leads to changes the image, and the sparse checkout must have it."""
    (checkout / "web").mkdir()
    (checkout / "web/Dockerfile").symlink_to("../docker/node.Dockerfile")
    (checkout / "web/Dockerfile.dockerignore").symlink_to("../common/ignored")
    write_repository(
        checkout, {"spec.yaml": spec(), "docker/node.Dockerfile": "FROM a\nCOPY web /x\n", "common/ignored": "tmp\n"}
    )
    output = kiwari_ci("lint", "spec.yaml").out
    assert "matches `docker/node.Dockerfile`, to which `web/Dockerfile` leads" in output
    assert "matches `common/ignored`, to which `web/Dockerfile.dockerignore` leads" in output
    assert "no service is built from" not in output
    (checkout / "spec.yaml").write_text(spec("web/**, docker/**, common/**"))
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
def test_what_git_lfs_keeps_is_what_git_says(attributes: dict[str, str], is_large: bool, checkout: Path) -> None:
    dockerfile = "FROM a\nCOPY web/icons /x\n"
    write_repository(checkout, {"spec.yaml": spec(), "web/Dockerfile": dockerfile, "web/icons/a.png": "", **attributes})
    assert rules("spec.yaml") == ([("large-files", "web/Dockerfile", 2)] if is_large else [])


@pytest.mark.parametrize("files", [{"shared/x": ""}, {}])
def test_what_a_stage_copies_for_those_that_build_on_it(files: dict[str, str], checkout: Path) -> None:
    text = "FROM a AS base\nONBUILD COPY shared /x\nFROM base\nCOPY web /y\n"
    write_repository(checkout, {"spec.yaml": spec(), "web/Dockerfile": text, **files})
    assert rules("spec.yaml") == [("uncovered" if files else "no-source", "web/Dockerfile", 2)]


@pytest.mark.parametrize(
    ("step", "severity"),
    [
        ("", "error"),
        ("{name: Write it, run: './gradlew bootJar'}", "advice"),
        ("{name: Write it, run: 'printf x >other/web/a.env'}", "advice"),
        ("{name: Write it, run: 'printf x >web/a.env'}", ""),
        ("{name: Write it, run: 'printf x >a.env', working_directory: web}", ""),
    ],
)
def test_a_step_before_the_build_may_write_what_the_image_takes(step: str, severity: str, checkout: Path) -> None:
    steps = f"steps: {{before_build: [{step}]}}, build:" if step else "build:"
    text = spec().replace("build:", steps)
    assert text.count("before_build") == bool(step)
    write_repository(checkout, {"spec.yaml": text, "web/Dockerfile": "FROM a\nCOPY web/a.env /\n"})
    result = kiwari_ci("lint", "spec.yaml", "--format", "json")
    problems = json.loads(result.out)["problems"]
    assert [(problem["rule"], problem["severity"]) for problem in problems] == (
        [("no-source", severity)] if severity else []
    )


def test_a_file_that_a_step_writes_is_not_in_the_build_if_dockerignore_leaves_it_out(checkout: Path) -> None:
    text = spec().replace("build:", "steps: {before_build: [{name: Write it, run: 'printf x >web/a.env'}]}, build:")
    files = {"spec.yaml": text, "web/Dockerfile": "FROM a\nCOPY web/a.env /\n", ".dockerignore": "web/*.env\n"}
    write_repository(checkout, files)
    assert rules("spec.yaml") == [("ignored", "web/Dockerfile", 2)]


def test_a_wrong_path_keeps_its_hint_beside_steps_before_the_build(checkout: Path) -> None:
    text = spec().replace("build:", "steps: {before_build: [{name: Write it, run: './gradlew bootJar'}]}, build:")
    files = {"spec.yaml": text, "web/Dockerfile": "FROM a\nCOPY wbe/main.py /\n", "web/main.py": ""}
    write_repository(checkout, files)
    assert "there is `web/main.py`" in kiwari_ci("lint", "spec.yaml").out


@pytest.mark.parametrize(("host", "count"), [("proxy: {kind: none}", 1), ("engine: kubernetes", 0)])
def test_the_address_of_a_service_of_a_cluster_does_not_change(host: str, count: int, checkout: Path) -> None:
    text = (
        "project: {name: shop, repository: example/shop}\n"
        "registry: {host: ghcr.io, pull_token: {secret: PULL_TOKEN}}\n"
        f"hosts: {{one: {{{host}}}}}\n"
        "services: {front: {port: 80, paths: [front/**]}, api: {port: 8080, paths: [api/**]}}\n"
        "environments: {live: {deploy_on: {push: main}}}\n"
    )
    configuration = "location /api/ { \n  proxy_pass http://api:8080/;\n}\n"
    docker = {"front/Dockerfile": "FROM nginx:1.27\nCOPY front/a.conf /etc/\n", "api/Dockerfile": "FROM scratch\n"}
    write_repository(checkout, {"spec.yaml": text, "front/a.conf": configuration, **docker})
    result = kiwari_ci("lint", "spec.yaml")
    assert result.out.count("fixed-upstream") == count
    assert "set $api" not in result.out


@pytest.mark.parametrize(("server", "count"), [("server api:8080 resolve;", 0), ("server api:8080;", 1)])
def test_an_upstream_with_the_name_of_a_service(server: str, count: int, checkout: Path) -> None:
    text = (
        "project: {name: shop, repository: example/shop}\n"
        "hosts: {one: {proxy: {kind: none}}}\n"
        "services: {front: {port: 80, paths: [front/**]}, api: {port: 8080, paths: [api/**]}}\n"
        "environments: {live: {deploy_on: {push: main}}}\n"
    )
    upstream = f"upstream api {{\n  zone api 64k;\n  {server}\n}}\n"
    configuration = f"{upstream}location /api/ {{ \n  proxy_pass http://api/;\n}}\n"
    docker = {"front/Dockerfile": "FROM nginx:1.27\nCOPY front/a.conf /etc/\n", "api/Dockerfile": "FROM scratch\n"}
    write_repository(checkout, {"spec.yaml": text, "front/a.conf": configuration, **docker})
    assert kiwari_ci("lint", "spec.yaml").out.count("fixed-upstream") == count


def test_a_pattern_of_files_in_a_submodule(checkout: Path) -> None:
    write_repository(checkout / "other", {"a": ""})
    git(checkout / "other", "commit", "-qm", "a")
    git(checkout, "init", "-q")
    git(checkout, "submodule", "add", "--quiet", "./other", "libs/shared")
    write_repository(checkout, {"spec.yaml": spec("web/**, libs/shared/**"), "web/Dockerfile": "FROM a\nCOPY web /x\n"})
    assert "GitHub sees a submodule as one file: libs/shared\n" in kiwari_ci("lint", "spec.yaml").out


@pytest.mark.parametrize("kind", ["folder", "pipe", "out", "huge", "binary", "gone", "empty"])
def test_a_dockerfile_that_is_none(kind: str, checkout: Path) -> None:
    write_repository(checkout, {"spec.yaml": spec(), "web/Dockerfile": "FROM a\n"})
    file = checkout / "web/Dockerfile"
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "out":
        file.symlink_to("/etc/passwd")
    elif kind != "gone":
        file.write_bytes({"huge": b"#" * 1_000_001, "binary": bytes(range(256)) * 9, "empty": b""}[kind])
    problems = rules("spec.yaml")
    assert {rule for rule, _, _ in problems} == {"dockerfile"}
    assert "root:" not in kiwari_ci("lint", "spec.yaml").out


def test_names_do_no_harm(checkout: Path) -> None:
    """What a name has that a terminal, a log or a line would obey is shown as a sign."""
    odd = ["web/\x1b[31m/Dockerfile", "a\n::error::b/x", "é ü/x", "[a]*?/x", "-n/x", "web/\u202e/x"]
    names = "\n".join(f'COPY ["{name.rpartition("/")[0]}", "/"]' for name in odd[1:]).replace("a\n:", "a\\n:")
    files = {**dict.fromkeys(odd, "FROM a\n"), "spec.yaml": spec(), "web/Dockerfile": f"FROM a\n{names}\n"}
    write_repository(checkout, files)
    os.close(os.open(b"\xff\xfe.Dockerfile", os.O_CREAT))
    git(checkout, "add", "--all")
    for style in ("text", "github"):
        result = kiwari_ci("lint", "spec.yaml", "--format", style)
        assert (result.code, result.err) == (1, "")
        assert all(line.isprintable() for line in result.out.splitlines()), style
        assert not [line for line in result.out.splitlines() if line.startswith("::error::b")]
        assert result.out.encode()
    assert rules("spec.yaml")


def test_the_repositorys_own_settings_start_nothing(checkout: Path) -> None:
    write_repository(checkout, {"spec.yaml": spec(), "web/Dockerfile": "FROM a\n"})
    (checkout / "hook").write_text(f"#!/bin/sh\ntouch {checkout}/started\n")
    (checkout / "hook").chmod(0o755)
    git(checkout, "config", "core.fsmonitor", str(checkout / "hook"))
    subprocess.run(["git", "status"], cwd=checkout, capture_output=True)
    assert (checkout / "started").exists(), "the bait works"
    (checkout / "started").unlink()
    before = (checkout / ".git/index").stat().st_mtime_ns
    assert rules("spec.yaml") == []
    assert not (checkout / "started").exists()
    assert (checkout / ".git/index").stat().st_mtime_ns == before


# What a build is sent, and what a COPY finds in it.


@pytest.mark.parametrize(
    ("ignore", "expected"),
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
def test_dockerignore(ignore: str, expected: str) -> None:
    names = ["a.md", "a/b.md", "a/b/c.md", "a/d", "x/node_modules/y"]
    context = BuildContext(tracked_files.Checkout(Path(), dict.fromkeys(names, "100644"), ""), ".", ignore)
    assert context.find(CopySource("COPY", 1, 1, ".", "")).files == expected.split()


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


def test_a_folder_that_is_gone(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "spec.yaml").write_text(spec())
    (checkout / "gone").mkdir()
    monkeypatch.chdir("gone")
    (checkout / "gone").rmdir()
    assert " [no-files]" in kiwari_ci("lint", checkout / "spec.yaml").err


def test_a_file_of_the_stack_that_is_in_the_root_is_to_be_copied(checkout: Path) -> None:
    """`files` names it from the folder of the stack, where the repository does not have it."""
    with_files = spec().replace("deploy_on: {push: main}", "deploy_on: {push: main}, files: [nginx.conf]")
    write_repository(checkout, {"spec.yaml": with_files, "web/Dockerfile": "FROM a\n", "nginx.conf": ""})
    path = "deploy/shop-live/nginx.conf"
    copy = f"mkdir -p deploy/shop-live && cp nginx.conf {path} && git add {path}"
    assert copy in kiwari_ci("lint", "spec.yaml").out
