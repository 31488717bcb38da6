"""The commands from outside: words, exit codes, formats; never a traceback for what a user did."""

import io
import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kiwari_ci import __version__, generator
from kiwari_ci.cli import app, progress
from tests.cli_runner import CommandResult, kiwari_ci

ROOT = Path(__file__).parents[1]
KIWARI = ROOT / "specs/kiwari.yaml"
SMALL = ROOT / "tests/cases/ok/minimal/spec.yaml"
COMMANDS = ["generate", "check", "pins", "validate", "show", "schema"]


@pytest.fixture(autouse=True)
def spec_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with one spec, outside GitHub Actions."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    (tmp_path / "specs").mkdir()
    shutil.copy(SMALL, tmp_path / "specs/shop.yaml")
    return tmp_path


def expect_success(result: CommandResult) -> str:
    assert (result.code, result.err) == (0, "")
    return result.out


def expect_refusal(result: CommandResult, code: int = 2) -> str:
    assert (result.code, result.out) == (code, "")
    assert "Traceback" not in result.err
    return result.err


def file_state(root: Path) -> dict[str, tuple[int, int, int]]:
    facts = {str(path): path.lstat() for path in root.rglob("*")}
    return {path: (status.st_mode, status.st_mtime_ns, status.st_ino) for path, status in facts.items()}


# generate


def test_generate_says_what_it_did() -> None:
    lines = expect_success(kiwari_ci("generate")).splitlines()
    assert lines[0] == "specs/shop.yaml -> ."
    assert "  new      .github/workflows/web-ci.yml" in lines
    assert lines[-1] == "  1 unchanged", "the spec"
    count = len(lines) - 1
    Path("deploy/bin/deploy").unlink()
    text = Path("specs/shop.yaml").read_text().replace("production", "live")
    Path("specs/shop.yaml").write_text(text)
    lines = expect_success(kiwari_ci("generate")).splitlines()
    assert "  new      deploy/bin/deploy" in lines
    assert "  changed  deploy/RUNBOOK.md" in lines
    assert "  removed  deploy/shop-production/docker-compose.yml" in lines
    assert expect_success(kiwari_ci("generate")).splitlines()[1:] == [f"  {count} unchanged"]


def test_generate_in_json() -> None:
    report = json.loads(expect_success(kiwari_ci("generate", "--format", "json")))
    assert report.keys() == {"new", "changed", "same", "removed", "left"}
    assert "deploy/bin/deploy" in report["new"]


def test_a_file_that_is_not_ours_stops_it() -> None:
    Path("deploy/bin").mkdir(parents=True)
    Path("deploy/bin/deploy").write_text("mine\n")
    assert expect_refusal(kiwari_ci("generate"), code=73).splitlines() == [
        "nothing was changed:",
        "deploy/bin/deploy: not written by kiwari-ci (no marker): move it away, or overwrite it with --force",
    ]
    assert "  changed  deploy/bin/deploy" in expect_success(kiwari_ci("generate", "--force"))


def test_two_specs_may_share_an_output(spec_folder: Path) -> None:
    text = Path("specs/shop.yaml").read_text()
    other = text.replace("shop", "store").replace("web", "page")
    Path("specs/store.yaml").write_text(other)
    expect_success(kiwari_ci("generate", "specs/shop.yaml"))
    assert "pipeline-drift.yml: of the project shop: move it" in expect_refusal(
        kiwari_ci("generate", "specs/store.yaml"), 73
    )
    expect_success(kiwari_ci("generate", "specs/store.yaml", "--force"))
    Path("specs/shop.yaml").unlink()
    result = kiwari_ci("check", "specs/store.yaml")
    assert result.code == 0 and result.err.endswith("deploy/shop-production/docker-compose.yml\n")
    assert "rm .github/workflows/web-ci.yml " in result.err
    assert Path(".github/workflows/web-ci.yml").exists(), "what is left is never removed"
    subprocess.run(["bash", "-c", result.err.rpartition(": ")[2]], check=True)
    assert "no spec generates" not in expect_success(kiwari_ci("check", "specs/store.yaml"))


def test_a_files_name_reaches_no_terminal_as_it_is() -> None:
    expect_success(kiwari_ci("generate"))
    text = Path("deploy/RUNBOOK.md").read_bytes()
    for name in (b"deploy/\x1b[31mred", b"deploy/\xff\n", b"deploy/other"):
        Path(os.fsdecode(name)).write_bytes(text.replace(b"(shop)", b"(store)") if b"other" in name else text)
    result = kiwari_ci("check", "--format", "text")
    assert "no longer in the spec: deploy/\ufffd[31mred\n" in result.out and "\x1b" not in result.out
    result = kiwari_ci("generate")
    assert (
        result.code == 0 and result.out.count("  removed  deploy/\ufffd") == 2 and "\x1b" not in result.out + result.err
    )


def test_a_folder_that_cannot_be_made() -> None:
    Path("file").write_text("")
    assert "file/out: Not a directory" in expect_refusal(kiwari_ci("generate", "--out", "file/out"), code=73)


def test_one_rule_says_where_the_output_is(spec_folder: Path) -> None:
    """Here, unless a pipeline is in `generated/`; leaving changes nothing about that."""
    Path("generated").mkdir()
    Path("generated/api.ts").write_text("mine\n")
    for _ in range(2):  # before the first generation and after it
        for command in ("generate", "check", "diff"):
            assert "generated/" not in kiwari_ci(command).out
    expect_success(kiwari_ci("eject"))
    assert "\n.: " in kiwari_ci("check").out
    for name in (".github", "deploy"):
        shutil.rmtree(name)
    expect_success(kiwari_ci("generate", "--out", "generated"))
    assert expect_success(kiwari_ci("generate")).startswith("specs/shop.yaml -> generated\n")
    assert expect_success(kiwari_ci("check")).startswith("generated: ")
    assert expect_success(kiwari_ci("diff")).startswith("Comparing generated with what ")
    assert expect_success(kiwari_ci("eject")).startswith("generated is yours")
    assert kiwari_ci("generate").code == 73 and not Path("deploy").exists()


def test_a_folder_that_is_not_the_specs_is_named_in_full(spec_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere := spec_folder / "elsewhere").mkdir()
    monkeypatch.chdir(elsewhere)
    shutil.move(spec_folder / "specs", spec_folder / "shop/specs")
    output = expect_success(kiwari_ci("generate", "../shop/specs/shop.yaml"))
    assert output.startswith(f"../shop/specs/shop.yaml -> .: {elsewhere}\n")
    assert expect_success(kiwari_ci("generate", "../shop/specs/shop.yaml", "--out", "../shop")).startswith(
        "../shop/specs/shop.yaml -> ../shop\n"
    )


@pytest.mark.parametrize("command", ["generate", "check"])
def test_interrupted(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(generator, "generate_files", interrupt)
    assert expect_refusal(kiwari_ci(command), code=130).strip() == "interrupted"


def test_a_command_starts_without_the_rooms_of_others() -> None:
    asked = "import sys, kiwari_ci.cli.app; print(*(name for name in sys.modules if name.startswith('kiwari_ci.')))"
    modules = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout.split()
    assert not {
        f"kiwari_ci.{room}"
        for room in ("commands.eject", "commands.init", "commands.doctor", "commands.diff", "commands.lint")
    } & set(modules)


# check


def test_check_names_all_that_is_wrong_and_the_cure_cures(spec_folder: Path) -> None:
    expect_success(kiwari_ci("generate"))
    root = Path(".")
    (root / "deploy/bin/deploy").chmod(0o644)
    (root / "deploy/RUNBOOK.md").unlink()
    workflow = root / ".github/workflows/web-ci.yml"
    workflow.write_text(workflow.read_text().replace("name: web-ci", "name: by-hand"))
    shutil.copy(workflow, root / "deploy/old.yml")
    before = file_state(spec_folder)
    result = kiwari_ci("check")
    assert (result.code, result.err) == (1, "")
    assert file_state(spec_folder) == before, "check wrote something"
    lines = result.out.splitlines()
    assert lines[-6:] == [
        ".: 4 files do not agree with specs/shop.yaml",
        "  edited by hand, or spec changed and not regenerated: .github/workflows/web-ci.yml:2"
        " (specs/shop.yaml:5, services.web)",
        "  missing: deploy/RUNBOOK.md (specs/shop.yaml:3, project)",
        "  executable bit only: deploy/bin/deploy",
        "  no longer in the spec: deploy/old.yml",
        "cure: kiwari-ci generate",
    ]
    assert {"-name: by-hand", "+name: web-ci", "+++ b/deploy/RUNBOOK.md", "old mode 100644"} <= set(lines)
    expect_success(kiwari_ci(*shlex.split(lines[-1].removeprefix("cure: "))[1:]))
    assert re.fullmatch(r"\.: \d+ files agree with specs/shop\.yaml\n", expect_success(kiwari_ci("check")))


def test_the_cure_has_the_words_of_the_call(spec_folder: Path) -> None:
    shutil.copy(SMALL, "a spec.yaml")
    words = ["a spec.yaml", "--out", "an out"]
    lines = kiwari_ci("check", *words).out.splitlines()
    assert lines[-1] == "cure: kiwari-ci generate 'a spec.yaml' --out 'an out'"
    expect_success(kiwari_ci(*shlex.split(lines[-1].removeprefix("cure: "))[1:]))
    expect_success(kiwari_ci("check", *words))


@pytest.mark.parametrize("style", ["text", "github"])
def test_before_the_first_generation_check_says_it_in_a_line(style: str) -> None:
    result = kiwari_ci("check", "--format", style)
    words = ".: nothing was generated yet", "cure: kiwari-ci generate"
    text = "\n".join(words) if style == "text" else f"::error title=drift::{'%0A'.join(words)}"
    assert (result.code, result.out, result.err) == (1, f"{text}\n", "")
    expect_success(kiwari_ci("generate"))
    Path("deploy/RUNBOOK.md").unlink()
    assert "missing: deploy/RUNBOOK.md" in kiwari_ci("check", "--format", style).out
    for name in ("deploy", ".github"):
        shutil.rmtree(name)
    Path("deploy").mkdir()
    Path("deploy/RUNBOOK.md").write_text("mine\n")
    assert "not written by kiwari-ci (no marker): deploy/RUNBOOK.md" in kiwari_ci("check", "--format", style).out


def test_check_in_json() -> None:
    result = kiwari_ci("check", "--format", "json")
    assert result.code == 1
    report = json.loads(result.out)
    assert (report["out"], report["spec"], report["cure"]) == (".", "specs/shop.yaml", "kiwari-ci generate")
    assert {difference["why"] for difference in report["differences"]} == {"missing"}
    assert report["differences"][0].keys() == {"path", "why", "line", "key", "spec_line", "diff"}
    expect_success(kiwari_ci("generate"))
    report = json.loads(expect_success(kiwari_ci("check", "--format", "json")))
    assert (report["cure"], report["differences"]) == ("", [])


def test_check_in_github_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner turns the last lines into annotations; the diff stands above them."""
    expect_success(kiwari_ci("generate"))
    Path("deploy/bin/deploy").unlink()
    plain = kiwari_ci("check", "--format", "github").out
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert kiwari_ci("check").out == plain
    assert plain.splitlines()[-2:] == [
        "::error file=deploy/bin/deploy,title=drift::missing; run: kiwari-ci generate",
        "::notice file=specs/shop.yaml,line=3,title=drift::project: "
        "this line of the spec leads to the difference in deploy/bin/deploy",
    ]
    assert "+++ b/deploy/bin/deploy" in plain.splitlines()
    monkeypatch.setenv("GITHUB_ACTIONS", "false")
    assert "::error" not in kiwari_ci("check").out


# validate, show, schema


def test_validate_in_github_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    Path("specs/shop.yaml").write_text("project: {name: shop, repository: example/shop}\nhosts: {vps: {}}\nmore: 1\n")
    result = kiwari_ci("validate")
    assert (result.code, result.err) == (2, "")
    assert "::error file=specs/shop.yaml,line=3,col=1,title=unknown-key::unknown key `more`" in result.out


def test_validate_in_json() -> None:
    assert json.loads(expect_success(kiwari_ci("validate", KIWARI, "--format", "json")))[0]["severity"] == "advice"
    Path("specs/shop.yaml").write_text("")
    result = kiwari_ci("validate", "--format", "json")
    assert result.code == 2
    assert [problem["rule"] for problem in json.loads(result.out)] == ["empty"]


def test_show_prints_the_plan() -> None:
    plan = yaml.load(expect_success(kiwari_ci("show")), yaml.CSafeLoader)
    assert plan["stacks"][0]["instances"][0]["container"] == "shop-web-production"
    assert plan == json.loads(expect_success(kiwari_ci("show", "--format", "json")))


def test_schema_prints_the_schema_of_the_repository(spec_folder: Path) -> None:
    """tests/test_docs.py asks it about every spec."""
    assert expect_success(kiwari_ci("schema")) == (ROOT / "specs/kiwari-ci.schema.json").read_text()


# What a user can do wrong.


@pytest.fixture
def no_spec() -> Iterator[None]:
    shutil.rmtree("specs")
    yield


@pytest.mark.parametrize("command", COMMANDS[:-1])
def test_a_spec_must_be_named_where_there_is_none(command: str, no_spec: None) -> None:
    assert "name the spec: specs/*.yaml has none" in expect_refusal(kiwari_ci(command))


@pytest.mark.parametrize("command", COMMANDS[:-1])
def test_a_spec_must_be_named_where_there_are_several(command: str) -> None:
    shutil.copy(SMALL, "specs/other.yaml")
    words = f"specs/*.yaml has specs/other.yaml, specs/shop.yaml: kiwari-ci {command} specs/other.yaml"
    assert f"name the spec: {words}" in expect_refusal(kiwari_ci(command))
    assert "the name is empty" in expect_refusal(kiwari_ci(command, ""))


@pytest.mark.parametrize("command", COMMANDS[:-1])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "spec.yaml: no such file [no-file]\nhint: name the spec, or go to the folder that it is in\n"),
        ("folder", "spec.yaml: a folder, not a file [no-file]\nhint: name the spec that is in it\n"),
        (b"", "spec.yaml: nothing is in this file [empty]\nhint: a spec starts with `project:`\n"),
        (
            b"\x7fELF\0\xff",
            "spec.yaml:1:6: not UTF-8 text: byte 0xff at offset 5 [not-text]\nhint: save it as text in UTF-8\n",
        ),
        ("a: 1\n".encode("utf-16"), "spec.yaml:1:1: UTF-16, not UTF-8 [not-text]\nhint: save it as UTF-8\n"),
        (
            b"#" * 2_000_000,
            "spec.yaml: more than 1,000,000 bytes [too-large]\n"
            "hint: this is probably not the spec: name the right file\n",
        ),
    ],
    ids=["missing", "folder", "empty", "binary", "utf-16", "huge"],
)
def test_no_spec_at_all(command: str, content: bytes | str | None, words: str) -> None:
    if isinstance(content, bytes):
        Path("spec.yaml").write_bytes(content)
    elif content:
        Path("spec.yaml").mkdir()
    assert expect_refusal(kiwari_ci(command, "spec.yaml")) == words


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("generat", "No such command 'generat'"),
        ("generate --outt x", "No such option"),
        ("check --force", "No such option"),
        ("validate --out x", "No such option"),
        ("validate --format xml", "'xml' is not one of 'text', 'github', 'json'"),
        ("generate a.yaml b.yaml", "Got unexpected extra argument"),
        ("genrate", "Did you mean 'generate'?"),
        ("generate --frce", "Did you mean '--force'?"),
        ("generate --out specs/shop.yaml", "is a file"),
        ("generate --out=", "the name is empty"),
        ("generate --out= ./a.yaml", "the name is empty"),
        ("affected --files a --head b", "use --head only with --base"),
        ("affected --tag v1.0.0 --event push", "only without --tag"),
        ("affected --tag v1.0.0 --branch main", "only without --tag"),
        ("schema x", "Got unexpected extra argument"),
    ],
)
def test_bad_usage(line: str, words: str) -> None:
    output = expect_refusal(kiwari_ci(*line.split()))
    assert words in output and "Usage: " in output


@pytest.mark.parametrize("empty", ["", " ", "\n"])
@pytest.mark.parametrize(
    "line",
    ["affected --tag", "affected --files", "affected --base", "affected --base HEAD --head", "preview",
     "affected --files a --branch", "preview v1.0.0 --ssh", "trace",
     "trace web --ssh", "doctor --env", "doctor --ssh", "doctor --npm"],
)  # fmt: skip
def test_an_empty_word_is_no_answer(line: str, empty: str) -> None:
    output = expect_refusal(kiwari_ci(*line.split(), empty))
    assert "the value is empty: the variable from which it comes is not set" in output and "Usage: " in output


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], *([command, "--help"] for command in COMMANDS)], ids=str)
def test_help(words: list[str]) -> None:
    result = kiwari_ci(*words)
    assert "Usage: " in result.out + result.err
    assert result.code == (0 if words else 2)


def test_version() -> None:
    assert expect_success(kiwari_ci("--version")) == f"kiwari-ci, version {__version__}\n"


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{shlex.quote(sys.executable)} -m kiwari_ci show {shlex.quote(str(KIWARI))} | head -c 1"
    done = subprocess.run(["bash", "-c", f"{command}; echo ${{PIPESTATUS[0]}}"], capture_output=True, text=True)
    assert (done.stdout[-2:], done.stderr) == ("0\n", "")


@pytest.mark.parametrize(
    "style", ["json", *(pytest.param(style, marks=pytest.mark.exhaustive) for style in ("text", "github"))]
)
def test_a_name_that_is_no_text_can_be_said(style: str) -> None:
    """Whatever the terminal takes: a file in our folders may have any name."""
    expect_success(kiwari_ci("generate"))
    with open(b"deploy/\xff\x1b[2J.md", "wb") as file:
        file.write(Path("deploy/RUNBOOK.md").read_bytes())
    command = [sys.executable, "-m", "kiwari_ci", "check", "--format", style]
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, capture_output=True, text=True, env=strict)
    assert (done.returncode, done.stderr) == (1, "") and "\x1b" not in done.stdout
    assert style != "json" or json.loads(done.stdout)["differences"][0]["why"] == "orphaned"


def test_as_a_module_and_as_a_program() -> None:
    program = Path(sys.executable).with_name("kiwari-ci")
    for command in ([sys.executable, "-m", "kiwari_ci"], [str(program)]):
        done = subprocess.run([*command, "validate"], capture_output=True, text=True, env=os.environ | {"LANG": "C"})
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "specs/shop.yaml is sound: services 1, environments 1, advice 0\n"


# help, hints, colours, progress


def test_help_groups_the_commands_and_cuts_no_line() -> None:
    text = expect_success(kiwari_ci("--help"))
    headings = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["Options:", "Start:", "Every day:", "Operate:", "On the servers, with your own ssh login:"]
    assert "..." not in text.partition("Options:")[2]
    assert max(map(len, text.splitlines())) <= 80
    for name, _ in app.list_all_commands():
        assert name == "help" or f"\n  {name} " in text


def test_help_of_a_command_is_what_its_option_prints() -> None:
    assert expect_success(kiwari_ci("help")) == expect_success(kiwari_ci("--help"))
    assert expect_success(kiwari_ci("help", "check")) == expect_success(kiwari_ci("check", "--help"))
    assert "Did you mean 'generate'?" in expect_refusal(kiwari_ci("help", "generat"))


@pytest.mark.parametrize(
    ("command", "alternative"), [("deploy", "preview TAG"), ("apply", "generate"), ("plan", "diff")]
)
def test_a_command_of_other_tools_is_answered_with_ours(command: str, alternative: str) -> None:
    for words in ([command], [command, "web"], ["help", command]):
        message = expect_refusal(kiwari_ci(*words))
        assert f"There is no command '{command}'" in message and f"kiwari-ci {alternative}" in message


def test_version_and_help_load_no_library_but_click() -> None:
    for option in ("--version", "--help"):
        program = (
            "import sys\nfrom kiwari_ci import __main__\ntry: __main__.main()\nexcept SystemExit: print(*sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", program, option], capture_output=True, text=True, check=True)
        loaded = set(done.stdout.splitlines()[-1].split())
        assert "click" in loaded
        assert not loaded & {"pydantic", "jinja2", "yaml", "ruamel.yaml", "kiwari_ci.generator"}


def run_on_terminal(*words: str, **environment: str) -> str:
    """What a command writes to a terminal of its own, both streams together."""
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "kiwari_ci", *words]
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "GITHUB_ACTIONS")}
    process = subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, env=plain | {"TERM": "xterm"} | environment
    )
    os.close(terminal)
    output = b""
    while True:
        try:
            piece = os.read(controller, 65536)
        except OSError:  # Linux reports the end of a terminal so
            break
        if not piece:
            break
        output += piece
    os.close(controller)
    process.wait()
    return output.decode().replace("\r\n", "\n")


def test_colours_are_for_terminals_and_who_wants_them() -> None:
    green_new = "\x1b[32mnew"
    assert green_new in run_on_terminal("generate")
    Path("deploy/RUNBOOK.md").unlink()
    assert "\x1b[32m+# Runbook" in run_on_terminal("check")
    assert "\x1b" not in run_on_terminal("check", NO_COLOR="1")
    assert "\x1b" not in run_on_terminal("--help", TERM="dumb")
    assert "\x1b[1mOptions:" in run_on_terminal("--help")
    assert "\x1b" not in kiwari_ci("check").out + kiwari_ci("--help").out


def test_progress_is_shown_on_a_terminal_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(progress, "DELAY", 0.01)
    monkeypatch.setattr(progress, "INTERVAL", 0.01)
    for terminal, quiet, is_shown in (
        (Terminal(), False, True),
        (Terminal(), True, False),
        (io.StringIO(), False, False),
    ):
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress.show_progress("Reading the repository", quiet):
            until = time.monotonic() + 10
            while is_shown and "Reading" not in terminal.getvalue() and time.monotonic() < until:
                time.sleep(0.01)
        written = terminal.getvalue()
        assert ("Reading the repository (0 s)" in written) == is_shown
        assert written.endswith("\r\x1b[K") == is_shown


def test_quiet_prints_only_what_is_wrong() -> None:
    for words in (["validate"], ["generate"], ["check"], ["pins", "pull"]):
        assert expect_success(kiwari_ci(*words, "-q")) == ""
    Path("deploy/RUNBOOK.md").unlink()
    assert "missing: deploy/RUNBOOK.md" in kiwari_ci("check", "--quiet").out


# A subfolder of the repository.


@pytest.fixture
def subfolder(spec_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder two levels below the root of a checkout that has a spec, a Dockerfile and a commit."""
    (spec_folder / "web/src").mkdir(parents=True)
    (spec_folder / "web/Dockerfile").write_text("FROM scratch\nEXPOSE 8080\n")
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
        subprocess.run(["git", *identity, *words], check=True, cwd=spec_folder)
    monkeypatch.chdir(spec_folder / "web/src")
    return spec_folder


def test_generate_and_check_work_on_the_root_of_the_repository(subfolder: Path) -> None:
    lines = expect_success(kiwari_ci("generate")).splitlines()
    assert lines[0] == "../../specs/shop.yaml -> ../.."
    assert (subfolder / "deploy/RUNBOOK.md").is_file() and not Path("deploy").exists()
    assert expect_success(kiwari_ci("check")).endswith(" files agree with ../../specs/shop.yaml\n")
    (subfolder / "deploy/RUNBOOK.md").unlink()
    lines = kiwari_ci("check").out.splitlines()
    assert lines[-1] == "cure: kiwari-ci generate"
    expect_success(kiwari_ci("generate", "../../specs/shop.yaml"))
    assert (subfolder / "deploy/RUNBOOK.md").is_file() and not Path("deploy").exists()


def test_a_pipeline_in_generated_is_found_from_a_subfolder(subfolder: Path) -> None:
    expect_success(kiwari_ci("generate", "--out", "../../generated"))
    assert expect_success(kiwari_ci("check")).startswith("../../generated: ")
    assert expect_success(kiwari_ci("eject")).startswith("../../generated is yours")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("validate", "../../specs/shop.yaml is sound"),
        ("show", "project: shop"),
        ("diff", "../../specs/shop.yaml"),
        ("graph", "flowchart LR"),
        ("pins", "there is no ../../specs/pins/action.yml"),
        ("pins pull", "../..: no pin has moved"),
        ("affected --base HEAD", "web-ci: no file changed"),
        ("affected --files web/Dockerfile", "shop-web-production on vps"),
        ("lint", "../../specs/shop.yaml, compared with 2 files that git tracks in ../..: "),
        ("init", "specs/shop.yaml: every Dockerfile of the pipeline has its service"),
        ("eject", "../.. is yours"),
    ],
)
def test_a_command_finds_the_repository_from_a_subfolder(subfolder: Path, line: str, words: str) -> None:
    expect_success(kiwari_ci("generate"))
    result = kiwari_ci(*line.split())
    assert result.code in (0, 1) and words in result.out, result
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("line", ["trace web", "preview v1.0.0", "doctor"])
def test_a_command_that_asks_the_world_finds_the_spec_from_a_subfolder(subfolder: Path, line: str) -> None:
    (subfolder / "specs/shop.yaml").write_text("project: {name: shop}\n")
    assert "../../specs/shop.yaml:1:" in expect_refusal(kiwari_ci(*line.split()))


def test_a_message_names_the_specs_as_they_are_seen_from_a_subfolder(subfolder: Path) -> None:
    shutil.copy(SMALL, subfolder / "specs/other.yaml")
    assert "kiwari-ci validate ../../specs/other.yaml" in expect_refusal(kiwari_ci("validate"))
    shutil.rmtree(subfolder / "specs")
    assert "name the spec: ../../specs/*.yaml has none" in expect_refusal(kiwari_ci("validate"))
