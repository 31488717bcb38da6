"""The red check says why: each class, a thousand random edits, and twenty environments in which nothing is wrong."""

import json
import locale
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import yaml

from kiwari_ci import __version__, generator
from kiwari_ci.commands.check import causes, report, spec_location
from kiwari_ci.file_output import generated_files
from kiwari_ci.rendering.render import DRIFT_WORKFLOW_PATH
from kiwari_ci.spec_loading import yaml_source
from tests.amounts import sample_or_all
from tests.cli_runner import kiwari_ci

ROOT = Path(__file__).parents[1]
SMALL = (ROOT / "tests/cases/ok/minimal/spec.yaml").read_text()
SPEC, CI = "specs/shop.yaml", ".github/workflows/web-ci.yml"
COMPOSE, SCRIPT = "deploy/shop-production/docker-compose.yml", "deploy/bin/deploy"
MOVED = SMALL.replace("8080", "8081")
SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def generated_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a spec and what it generates in generated/, outside git and GitHub."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    write_file(SPEC, SMALL)
    for path, file in generate().items():
        write_file(f"generated/{path}", file.text)
        Path(f"generated/{path}").chmod(0o755 if file.executable else 0o644)
    return tmp_path


@cache
def generate() -> generated_files.GeneratedFiles:
    return generator.generate_files(Path(SPEC))[1]


def write_file(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def replace_in_file(path: str, old: str, new: str) -> None:
    text = Path(path).read_text()
    assert old in text, path
    Path(path).write_text(text.replace(old, new))


def check(*arguments: str) -> dict[str, dict[str, object]]:
    """Each finding by its path; the cure under an empty one."""
    report = json.loads(kiwari_ci("check", *arguments, "--format", "json").out)
    return {difference["path"]: difference for difference in report["differences"]} | {"": {"cure": report["cure"]}}


def whys(*arguments: str) -> dict[str, str]:
    return {path: str(difference["why"]) for path, difference in check(*arguments).items() if path}


def cure(*arguments: str) -> object:
    return check(*arguments)[""]["cure"]


def git(*arguments: str) -> str:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *who, *arguments], check=True, capture_output=True, text=True).stdout


def commit() -> None:
    git("add", "-A")
    git("commit", "-qm", "x")


def checkout_with_a_pipeline() -> None:
    """The spec is the file that the check reads: there is no copy."""
    shutil.rmtree("generated")
    assert kiwari_ci("generate", "--out", ".").code == 0


# Classes


def test_edited_by_hand() -> None:
    replace_in_file(f"generated/{COMPOSE}", "restart: unless-stopped", "restart: always")
    difference = check()[COMPOSE]
    assert (difference["why"], difference["key"]) == ("edited", "environments.production")
    line = Path(f"generated/{COMPOSE}").read_text().splitlines()[int(str(difference["line"])) - 1]
    assert line.strip() == "restart: always"
    assert cure() == "kiwari-ci generate"


def test_spec_changed() -> None:
    write_file(SPEC, MOVED)
    differences = check()
    assert {str(difference["why"]) for path, difference in differences.items() if path} == {"spec"}
    assert {COMPOSE, SPEC} <= differences.keys()
    assert differences[COMPOSE]["key"] == "services.web.port"
    port = next(number for number, line in enumerate(MOVED.splitlines(), 1) if "8081" in line)
    assert differences[COMPOSE]["spec_line"] == differences[SPEC]["spec_line"] == port


def test_spec_changed_and_a_file_edited() -> None:
    write_file(SPEC, MOVED)
    replace_in_file(f"generated/{COMPOSE}", "restart: unless-stopped", "restart: always")
    differences = check()
    assert {path: difference["why"] for path, difference in differences.items() if path in (COMPOSE, SPEC)} == {
        COMPOSE: "edited",
        SPEC: "spec",
    }
    line = Path(f"generated/{COMPOSE}").read_text().splitlines()[int(str(differences[COMPOSE]["line"])) - 1]
    assert line.strip() == "restart: always", "the line that the spec has moved is not the edit"


def test_a_comment_in_the_spec() -> None:
    write_file(SPEC, SMALL + "# more\n")
    assert whys() == {SPEC: "spec"}


def test_the_copy_edited_in_its_place() -> None:
    write_file(f"generated/{SPEC}", MOVED)
    assert whys() == {SPEC: "edited"}


def test_a_new_service_is_a_spec_that_changed() -> None:
    write_file(SPEC, SMALL.replace("services: {", "services: {worker: {port: 8090, paths: [worker/**]}, "))
    reasons = whys()
    assert reasons[".github/workflows/worker-ci.yml"] == "spec", "not `missing`: it was never made"
    Path(f"generated/{SCRIPT}").unlink()
    assert whys()[SCRIPT] == "missing"


def test_missing_orphaned_foreign_mode_line_ends() -> None:
    shutil.copy(f"generated/{CI}", "generated/deploy/old.yml")
    Path("generated/deploy/RUNBOOK.md").unlink()
    write_file(f"generated/{CI}", "name: mine\n")
    Path(f"generated/{SCRIPT}").chmod(0o644)
    compose = Path(f"generated/{COMPOSE}")
    compose.write_bytes(compose.read_bytes().replace(b"\n", b"\r\n"))
    assert whys() == {
        CI: "foreign",
        "deploy/RUNBOOK.md": "missing",
        SCRIPT: "mode",
        "deploy/old.yml": "orphaned",
        COMPOSE: "line-ends",
    }
    assert str(cure()).startswith("kiwari-ci generate --force #")
    assert "\r" not in kiwari_ci("check").out and "image:" not in kiwari_ci("check").out.partition(CI)[0]
    assert kiwari_ci("generate", "--force").code == 0 and kiwari_ci("check").code == 0


def test_a_renamed_project() -> None:
    write_file(SPEC, SMALL.replace("name: shop", "name: store"))
    differences = check()
    assert differences[CI]["why"] == "foreign-project" and differences[SPEC]["why"] == "spec"
    assert SCRIPT not in differences, "a program is any project's"
    assert (differences[CI]["key"], differences[CI]["spec_line"]) == ("project.name", 3)
    assert "foreign (another project's marker): deploy/RUNBOOK.md (specs/shop.yaml:3" in kiwari_ci("check").out
    ran = str(cure()).split("#")[0].split()
    assert ran == ["kiwari-ci", "generate", "--force"] and kiwari_ci(*ran[1:]).code == 0
    assert kiwari_ci("check").code == 0 and Path(f"generated/{COMPOSE}").exists(), "nothing of the earlier name goes"


@pytest.mark.parametrize("out", ["generated", "elsewhere"])
def test_two_projects_in_one_folder(out: str, tmp_path: Path) -> None:
    """What cures the one breaks nothing of the other, whichever repository its spec is in."""
    Path("generated").rename(tmp_path / out)
    mine = "specs/store.yaml" if out == "generated" else "another/specs/store.yaml"
    write_file(mine, SMALL.replace("name: shop", "name: store"))
    root = [] if out == "generated" else ["--out", f"{tmp_path}/{out}"]
    assert whys(mine, *root)[CI] == "foreign-project"
    assert "left of" not in kiwari_ci("check", mine, *root).err
    command, _, about = str(cure(mine, *root)).partition(" # ")
    assert command == f"kiwari-ci generate {mine} --out generated-store" and about.endswith("another project: shop")
    ran = command.split()[1:]
    assert kiwari_ci(*ran).code == kiwari_ci("check", *ran[1:]).code == 0
    assert kiwari_ci("check", SPEC, "--out", out).code == 0


# Half a commit, and no copy: git knows


def test_without_a_copy_and_git_it_is_said_that_nobody_knows() -> None:
    checkout_with_a_pipeline()
    write_file(SPEC, MOVED)
    assert set(whys().values()) == {"unknown"}


def test_git_has_the_older_spec() -> None:
    checkout_with_a_pipeline()
    git("init", "-q")
    commit()
    write_file(SPEC, MOVED)
    replace_in_file(SCRIPT, "#!/usr/bin/python3 -I", "#!/usr/bin/env python3")
    for number in range(3):  # on disk only; then committed, without what it makes; then with a commit of something else
        reasons = whys()
        assert reasons.pop(SCRIPT) == "edited" and set(reasons.values()) == {"spec"} and COMPOSE in reasons
        write_file("other", f"{number}")
        commit()


def test_half_of_it_committed() -> None:
    """Copy and workflow are of the new spec, the compose file is of the one before."""
    git("init", "-q")
    commit()
    write_file(SPEC, MOVED)
    old = Path(f"generated/{COMPOSE}").read_text()
    assert kiwari_ci("generate").code == 0
    write_file(f"generated/{COMPOSE}", old)
    assert whys() == {COMPOSE: "spec"}
    commit()
    assert whys() == {COMPOSE: "spec"}


@pytest.mark.parametrize(("depth", "why"), [(1, "unknown"), (2, "spec")])
def test_a_pull_request_as_the_runner_checks_it_out(depth: int, why: str, tmp_path: Path) -> None:
    """The merge of the pull request and its two parents, which is what the drift workflow fetches."""
    checkout_with_a_pipeline()
    git("init", "-q", "-b", "main")
    commit()
    git("checkout", "-qb", "change")
    for text in (SMALL.replace("8080", "8090"), MOVED):
        write_file(SPEC, text)
        commit()
    git("checkout", "-q", "main")
    git("merge", "-q", "--no-ff", "-m", "merge", "change")
    git("clone", "-q", "--depth", str(depth), f"file://{tmp_path}", "clone")
    os.chdir("clone")
    differences = check()
    assert differences[COMPOSE]["why"] == why
    assert differences[COMPOSE]["key"] == ("services.web.port" if why == "spec" else "environments.production")


@pytest.mark.parametrize("changed", [True, False])
def test_the_drift_workflow_says_what_a_pull_request_changes(changed: bool, tmp_path: Path) -> None:
    """Its second step, on the merge as the runner checks it out: words when something changes, nothing else."""
    checkout_with_a_pipeline()
    git("init", "-q", "-b", "main")
    commit()
    git("checkout", "-qb", "change")
    write_file("README.md" if not changed else SPEC, MOVED)
    assert kiwari_ci("generate", "--out", ".").code == 0
    commit()
    git("checkout", "-q", "main")
    git("merge", "-q", "--no-ff", "-m", "merge", "change")
    git("clone", "-q", "--depth", "2", f"file://{tmp_path}", "clone")
    step = yaml.load(Path(f"clone/{DRIFT_WORKFLOW_PATH}").read_text(), yaml.CSafeLoader)["jobs"]["drift"]["steps"][-1]
    assert step["if"] == "github.event_name == 'pull_request' && !cancelled()"
    Path("venv/bin").mkdir(parents=True)
    Path("venv/bin/kiwari-ci").symlink_to(Path(sys.executable).with_name("kiwari-ci"))
    runner = os.environ | {"RUNNER_TEMP": str(tmp_path), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    subprocess.run(["bash", "-eo", "pipefail", "-c", step["run"]], cwd="clone", env=runner, check=True)
    summary = Path("summary.md").read_text()
    assert ("port" in summary and "⚠️" in summary) if changed else summary == ""


def test_the_drift_workflow_fetches_that_much() -> None:
    steps = yaml.load(Path(f"generated/{DRIFT_WORKFLOW_PATH}").read_text(), yaml.CSafeLoader)["jobs"]["drift"]["steps"]
    assert steps[0]["with"]["fetch-depth"] == 2


def test_a_checkout_that_git_refuses_is_one_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    checkout_with_a_pipeline()
    write_file(".git/HEAD", "nonsense")
    write_file(SPEC, MOVED)
    assert whys()[COMPOSE] == "unknown"
    monkeypatch.setenv("PATH", "")
    assert whys()[COMPOSE] == "unknown"


# Pins


def bump(path: str, action: str = "actions/checkout", sha: str = SHA, version: str = "v99.0.0") -> None:
    text = Path(path).read_text()
    assert action in text, path
    Path(path).write_text(re.sub(rf"{action}@\w+ # \S+", f"{action}@{sha} # {version}", text))


def workflows() -> list[str]:
    return [str(path) for path in Path("generated").glob(".github/workflows/*.yml")]


def test_pins_moved() -> None:
    for path in workflows():
        bump(path)
    assert set(whys().values()) == {"pins"} and len(whys()) == len(workflows())
    assert cure(SPEC, "--out", "generated") == f"kiwari-ci pins pull {SPEC} --out generated"
    difference = check()[CI]
    assert (
        "uses: actions/checkout" in Path(f"generated/{CI}").read_text().splitlines()[int(str(difference["line"])) - 1]
    )
    Path(f"generated/{SCRIPT}").unlink()
    assert cure() == "kiwari-ci pins pull && kiwari-ci generate"


def test_pins_moved_and_the_spec_too() -> None:
    for path in workflows():
        bump(path)
    write_file(SPEC, MOVED.replace("example/shop", "example/store"))
    assert whys()[CI] == "pins" and whys()[COMPOSE] == "spec"


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"sha": SHA[:-1]}, "edited"),
        ({"sha": SHA.upper()}, "edited"),
        ({"version": "99"}, "edited"),
        ({"sha": "main"}, "edited"),
        ({"version": "v0.0.1"}, "pins-old"),
    ],
)
def test_pins_that_are_none_of_a_bot(how: dict[str, str], why: str) -> None:
    for path in workflows():
        bump(path, **how)
    assert set(whys().values()) == {why} and cure() == "kiwari-ci generate"


def test_pins_moved_in_one_file_only() -> None:
    bump(f"generated/{CI}")
    assert whys() == {CI: "pins-apart"} and cure() == "kiwari-ci generate"


# Versions


def test_another_version_of_the_tool() -> None:
    replace_in_file(f"generated/{DRIFT_WORKFLOW_PATH}", f"kiwari-ci=={__version__}", "kiwari-ci==0.0.9")
    replace_in_file(f"generated/{COMPOSE}", "restart: unless-stopped", "restart: always")
    assert whys() == {DRIFT_WORKFLOW_PATH: "version", COMPOSE: "version"} and cure() == "kiwari-ci generate"


def test_another_version_than_the_specs() -> None:
    """To generate with this one would make the drift job red, which installs the other."""
    write_file(SPEC, SMALL + "generator: kiwari-ci==0.0.9 --hash=sha256:" + "0" * 64 + "\n")
    assert kiwari_ci("generate").code == 0
    replace_in_file(f"generated/{COMPOSE}", "restart: unless-stopped", "restart: always")
    assert whys() == {COMPOSE: "version"}
    install = "pip install --require-hashes --no-deps --requirement /dev/stdin"
    assert cure() == f"{install} <<<'kiwari-ci==0.0.9 --hash=sha256:{'0' * 64}' && kiwari-ci generate"


def test_a_spec_that_goes_to_another_version() -> None:
    write_file(SPEC, SMALL + f"generator: kiwari-ci==99.0.0 --hash=sha256:{'9' * 64}\n")
    assert whys() == {DRIFT_WORKFLOW_PATH: "spec", SPEC: "spec"}
    install = "pip install --require-hashes --no-deps --requirement /dev/stdin"
    assert cure() == f"{install} <<<'kiwari-ci==99.0.0 --hash=sha256:{'9' * 64}' && kiwari-ci generate"


def test_another_commit_of_the_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(SPEC, SMALL + f"generator: git+https://github.com/example/kiwari-ci@{SHA}\n")
    assert kiwari_ci("generate").code == 0
    replace_in_file(f"generated/{COMPOSE}", "restart: unless-stopped", "restart: always")
    assert whys() == {COMPOSE: "edited"}
    assert cure() == "kiwari-ci generate", "nobody knows which commit this is"
    monkeypatch.setattr(causes, "find_installed_commit", lambda: SHA[::-1])
    assert whys() == {COMPOSE: "version"}
    assert cure() == f"pip install git+https://github.com/example/kiwari-ci@{SHA} && kiwari-ci generate"
    monkeypatch.setattr(causes, "find_installed_commit", str)
    replace_in_file(f"generated/{DRIFT_WORKFLOW_PATH}", SHA, SHA[::-1])
    assert whys() == {COMPOSE: "version", DRIFT_WORKFLOW_PATH: "version"}


# Where it comes from


def test_the_line_of_the_spec() -> None:
    spec = yaml_source.load_yaml(ROOT / "specs/kiwari.yaml")
    plan = generator.load_spec(ROOT / "specs/kiwari.yaml").plan

    def of(path: str, line: str = "") -> str:
        return spec_location.format_spec_key(
            spec_location.locate_generated_line(spec, spec_location.find_spec_key(path, plan), line)[0]
        )

    assert of(".github/workflows/api-ci.yml", "      - 'api/**'") == "services.api.paths.0"
    assert of(".github/workflows/promote.yml") == "environments.production"
    assert of("deploy/pos-staging/docker-compose.yml", "container_name: pos-api-staging") == (
        "environments.staging.containers.api"
    )
    assert of("deploy/postgres/docker-compose.yml", "    image: postgres:16-alpine") == "databases.postgres.image"
    assert (of(DRIFT_WORKFLOW_PATH), of(SCRIPT), of("deploy/RUNBOOK.md")) == ("generator", "project", "project")


# GitHub


def many(count: int) -> None:
    text = Path(f"generated/{CI}").read_text()
    for number in range(count):
        write_file(f"generated/deploy/o,l:d%-{number:02}.yml", text)


def test_annotations_within_githubs_limits() -> None:
    write_file(SPEC, MOVED)
    many(25)
    lines = kiwari_ci("check", "--format", "github").out.splitlines()
    errors = [line for line in lines if line.startswith("::error")]
    notices = [line for line in lines if line.startswith("::notice")]
    assert len(errors) == report.MAX_ANNOTATIONS and 0 < len(notices) <= report.MAX_ANNOTATIONS
    assert "and 20 more" in errors[-1] or re.search(r"and \d\d more", errors[-1])
    assert any("title=drift::services.web.port: this line of the spec" in line for line in notices)
    assert any("file=generated/deploy/o%2Cl%3Ad%25-00.yml" in line for line in errors)


def test_nothing_in_a_file_is_a_command_to_the_runner() -> None:
    """A line of a diff begins with a blank where nothing changed, and the runner reads commands behind blanks."""
    path = Path(f"generated/{COMPOSE}")
    lines = path.read_text().split("\n")
    path.write_text("\n".join([*lines[:4], "::error::\x1b[31mby a pull request", "::add-mask::x", *lines[4:]]))
    printed = kiwari_ci("check", "--format", "github").out
    begin, _, remainder = printed.partition("\n")
    token = begin.removeprefix("::stop-commands::")
    inside, _, last_lines = remainder.partition(f"\n::{token}::\n")
    assert len(token) == 64 and "::error::" in inside and "add-mask" not in last_lines and "\x1b" not in printed


def test_paths_from_the_root_of_the_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    replace_in_file(f"generated/{COMPOSE}", "restart", "reboot")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path.parent))
    printed = kiwari_ci("check", "--format", "github", "--out", tmp_path / "generated").out
    assert f"::error file={tmp_path.name}/generated/{COMPOSE}," in printed
    assert f"::notice file={tmp_path.name}/{SPEC}," in printed


def test_the_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    write_file("summary.md", "before\n")
    replace_in_file(f"generated/{COMPOSE}", "restart: unless-stopped", "restart: `````` | </details>")
    assert kiwari_ci("check").code == 1
    summary = Path("summary.md").read_text()
    assert summary.startswith("before\n### `generated`: 1 file does not agree with `specs/shop.yaml`\n")
    assert f"| edited by hand | `{SPEC}:" in summary and "```sh\nkiwari-ci generate\n```" in summary
    assert summary.endswith("`" * 7 + "\n\n</details>\n") and summary.count("`" * 7) == 2
    assert kiwari_ci("check", "--format", "json").code == 1 and Path("summary.md").read_text() == summary
    Path("summary.md").unlink()
    Path("summary.md").mkdir()
    assert "no summary: summary.md: Is a directory" in kiwari_ci("check").err


@pytest.mark.parametrize("room", [report.MAX_SUMMARY_BYTES, 40_000, 1_000, 100, 0, -5])
def test_a_summary_fits_into_what_is_left(room: int) -> None:
    write_file(SPEC, MOVED)
    replace_in_file(f"generated/{COMPOSE}", "\n", " é\n")
    many(150)
    plan, files = generator.generate_files(Path(SPEC))
    out = Path("generated")
    explanation = causes.explain_differences(
        out, Path(SPEC), plan, files, generated_files.compare_files(out, files, "shop"), [], os.environ
    )
    text = report.format_job_summary(out, Path(SPEC), explanation, room)
    assert len(text.encode()) <= max(0, room)
    fences = re.findall(r"^`{3,}", text, re.MULTILINE)
    assert len(fences) % 2 == 0
    assert ("The patch is cut at GitHub's limit" in text) == (room == 40_000)
    assert ("There is no room for more" in text) == (room == 1_000)


# The two programs, which no marker names


@pytest.mark.parametrize("program", ["deploy/bin/deploy", "deploy/bin/deploy-over-ssh"])
def test_a_program_is_known_by_its_second_line(program: str) -> None:
    replace_in_file(f"generated/{program}", "#!/usr/bin/python3 -I", "#!/usr/bin/env python3")
    assert whys() == {program: "edited"} and cure() == "kiwari-ci generate"
    write_file(f"generated/{program}", "#!/bin/sh\nmine\n")
    assert whys() == {program: "foreign"} and str(cure()).startswith("kiwari-ci generate --force")
    assert kiwari_ci("generate").code == 73
    assert Path(f"generated/{program}").read_text() == "#!/bin/sh\nmine\n"


def test_a_program_of_another_version_of_the_tool() -> None:
    replace_in_file(f"generated/{DRIFT_WORKFLOW_PATH}", f"kiwari-ci=={__version__}", "kiwari-ci==0.0.9")
    replace_in_file(f"generated/{SCRIPT}", "#!/usr/bin/python3 -I", "#!/usr/bin/env python3")
    assert whys() == {DRIFT_WORKFLOW_PATH: "version", SCRIPT: "version"}


def test_the_program_of_one_place_is_nothing_in_the_other() -> None:
    shutil.copy("generated/deploy/bin/deploy", "generated/deploy/bin/deploy-over-ssh")
    assert whys() == {"deploy/bin/deploy-over-ssh": "foreign"}


# A thousand random edits


def appended(path: Path, chance: random.Random) -> set[str]:
    path.write_bytes(path.read_bytes() + chance.choice([b"\n", b"# more\n", b"x", b"\0", b"\xff\n"]))
    return {"edited"}


def flipped(path: Path, chance: random.Random) -> set[str]:
    text = bytearray(path.read_bytes())
    text[chance.randrange(len(text))] ^= 1 << chance.randrange(8)
    path.write_bytes(text)
    # a head without its marker; a line's end; a digit of a pin; the version that the drift workflow installs
    return {"edited", "foreign", "foreign-project", "line-ends", "pins", "pins-old", "pins-apart", "version"}


def with_crlf(path: Path, chance: random.Random) -> set[str]:
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n", chance.choice([1, -1])))
    return {"line-ends"}


def line_twice(path: Path, chance: random.Random) -> set[str]:
    lines = path.read_bytes().splitlines(keepends=True)
    at = chance.randrange(len(lines))
    path.write_bytes(b"".join([*lines[:at], lines[at], *lines[at:]]))
    return {"edited", "foreign"}  # the head of a program twice: its second line is no longer what it must be


def line_out(path: Path, chance: random.Random) -> set[str]:
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[chance.randrange(len(lines))]
    path.write_bytes(b"".join(lines))
    return {"edited", "foreign"}


def emptied(path: Path, _: random.Random) -> set[str]:
    path.write_bytes(b"")
    return {"foreign"}


def deleted(path: Path, _: random.Random) -> set[str]:
    path.unlink()
    return {"missing"}


def renamed(path: Path, _: random.Random) -> set[str]:
    path.rename(path.with_name(f"{path.name}.old"))
    return {"missing"}


def other_mode(path: Path, _: random.Random) -> set[str]:
    path.chmod(path.stat().st_mode ^ 0o100)
    return {"mode"}


EDITS: list[Callable[[Path, random.Random], set[str]]] = [
    appended, flipped, with_crlf, line_twice, line_out, emptied, deleted, renamed, other_mode,
]  # fmt: skip
OF_A_COPY = {"edited", "spec"}


@pytest.mark.parametrize("edits", sample_or_all(40, 1000))
def test_random_edits_are_all_caught(edits: int) -> None:
    """Each by itself, in any file: it is seen there and nowhere else, its class is one that it can have, it goes."""
    chance, out, spec = random.Random(6), Path("generated"), Path(SPEC)  # noqa: S311
    plan, files = generator.generate_files(spec)
    paths, met = sorted(files), dict.fromkeys(causes.DRIFT_CAUSE_LABELS, 0)
    for _ in range(edits):
        change, path = chance.choice(EDITS), chance.choice(paths)
        if (change, path) == (with_crlf, SPEC):
            continue  # a person's file may have such lines
        file, content = out / path, (out / path).read_bytes()
        mode = file.stat().st_mode
        allowed = change(file, chance)
        explanation = causes.explain_differences(
            out, spec, plan, files, generated_files.compare_files(out, files, plan.project), [], os.environ
        )
        reasons = {finding.path: finding.why for finding in explanation.findings}
        assert reasons.pop(path) in (OF_A_COPY if path == SPEC and not allowed & {"missing", "mode"} else allowed), (
            change.__name__,
            path,
        )
        has_marker = path != SPEC and path not in generated_files.PROGRAM_MARKERS
        assert reasons == ({f"{path}.old": "orphaned"} if change is renamed and has_marker else {})
        for finding in explanation.findings:
            assert finding.line >= 0 and 1 <= finding.spec_line <= SMALL.count("\n")
            met[finding.why] += 1
        (out / f"{path}.old").unlink(missing_ok=True)
        file.write_bytes(content)
        file.chmod(mode)
    assert not generated_files.compare_files(out, files, plan.project)
    assert met["edited"] > edits * 0.3 and not met["unknown"]


# Twenty environments


@contextmanager
def masked(mask: int) -> Iterator[None]:
    earlier_mask = os.umask(mask)
    try:
        yield
    finally:
        os.umask(earlier_mask)


def agrees(folder: str | Path, *arguments: str) -> None:
    earlier_folder = Path.cwd()
    os.chdir(folder)
    try:
        result = kiwari_ci("check", *arguments)
    finally:
        os.chdir(earlier_folder)
    assert (result.code, result.err) == (0, ""), result.out


def test_no_false_alarm_in_any_checkout(tmp_path: Path) -> None:
    """As git makes it: line ends, modes, names, depths, places."""
    checkout_with_a_pipeline()
    git("init", "-q")
    commit()
    bare = f"file://{tmp_path}"
    for number, (mask, options) in enumerate(
        [
            (0o022, ["-c", "core.autocrlf=true"]),
            (0o022, ["-c", "core.autocrlf=true", "-c", "core.eol=crlf"]),
            (0o022, ["-c", "core.autocrlf=input"]),
            (0o022, ["-c", "core.eol=crlf", "-c", "core.safecrlf=true"]),
            (0o077, []),
            (0o000, []),
            (0o027, ["-c", "core.fileMode=false"]),
            (0o022, ["--depth", "1"]),
        ]
    ):
        with masked(mask):
            git("clone", "-q", *options, bare, f"clones/{number}")
        agrees(f"clones/{number}")
    git("worktree", "add", "-q", "--detach", "clones/a tree of git's")
    agrees("clones/a tree of git's")
    assert b"\r\n" in Path("clones/1", SPEC).read_bytes(), "this checkout shows nothing"
    Path("with a blank, ünï\ncode").symlink_to("clones/0")
    agrees("with a blank, ünï\ncode")
    shutil.copytree("clones/4", "no git", ignore=shutil.ignore_patterns(".git"))
    agrees("no git")
    agrees("no git/deploy", "../specs/shop.yaml", "--out", "..")
    Path("no git", SPEC).write_bytes(b"\xef\xbb\xbf" + Path("no git", SPEC).read_bytes())  # as Windows' editors save it
    agrees("no git")
    agrees("/", str(tmp_path / "no git" / SPEC), "--out", str(tmp_path / "no git"))


def test_no_false_alarm_whatever_the_process_is_given(tmp_path: Path) -> None:
    bare = {name: os.environ[name] for name in ("PATH", "KIWARI_CI_SOURCE")}
    on_github = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(tmp_path / "none.md"), "CI": "true"}
    environments = [
        {"PYTHONHASHSEED": "0", "LC_ALL": "C", "TZ": "Pacific/Kiritimati"} | on_github,
        {"PYTHONHASHSEED": "1", "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "NO_COLOR": "1"},
        {"LANG": "tr_TR.UTF-8", "HOME": "/nonexistent", "COLUMNS": "20", "GIT_DIR": "/nonexistent"},
    ]
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "kiwari_ci", "check"],
            env=bare | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for variables in environments
    ]
    for process in runs:
        out, err = process.communicate()
        assert (process.returncode, err) == (0, b""), out
    assert not (tmp_path / "none.md").exists()
    for name in ("C", "C.UTF-8"):
        earlier_locale = locale.setlocale(locale.LC_ALL)
        locale.setlocale(locale.LC_ALL, name)
        agrees(".")
        locale.setlocale(locale.LC_ALL, earlier_locale)
