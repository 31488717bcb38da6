"""Pins and bots: a bot's pull request from red to green, what is refused, and what a bot reads."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kiwari_ci.github_facts import action_pins
from kiwari_ci.github_facts.action_pins import DEFAULT_PINS
from kiwari_ci.spec_loading import yaml_source
from tests import checkers
from tests.cli_runner import CommandResult, kiwari_ci

ROOT = Path(__file__).parents[1]
KIWARI = ROOT / "specs/kiwari.yaml"
FILE = Path("specs/pins/action.yml")
# Seen in public workflows with these versions.
BUILD = "docker/build-push-action@c3c9e263c25d99ce0380d002d59b67737d91b0dc # v7.4.0"
BUILDX = "docker/setup-buildx-action@f87e5991a6d7451dcb8d9637bfbc97413f497069 # v4.4.1"
STRANGE = "actions/checkout@" + "1" * 40 + " # v7.0.2"


@pytest.fixture(autouse=True)
def generated_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with Kiwari's pipeline, generated and committed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    Path("specs").mkdir()
    text = KIWARI.read_text().replace("  default_branch: main\n", "  default_branch: main\n  dependabot: true\n")
    Path("specs/kiwari.yaml").write_text(text)
    run_command("generate", "--out", ".")
    return tmp_path


def run_command(*words: object, code: int = 0) -> str:
    """What a command prints, which ends so."""
    done: CommandResult = kiwari_ci(*words)
    assert done.code == code and "Traceback" not in done.err, done
    return done.out + done.err


def git(*words: str) -> str:
    names = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *names, *words], check=True, capture_output=True, text=True).stdout


def workflows() -> list[Path]:
    return sorted(Path(".github/workflows").glob("*.yml"))


def update_pin(line: str, *files: Path) -> None:
    """As a bot does: the commit and the version behind it, everywhere; the rest of each line stays."""
    action = line.partition("@")[0]
    for file in files or workflows():
        text = file.read_bytes().decode()
        file.write_bytes(re.sub(rf"{action}@\w+ # v[\d.]+", line, text).encode())


def state() -> dict[str, bytes]:
    return {path.as_posix(): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def test_a_pull_request_of_dependabot() -> None:
    """Bump, red, pull, green; the bytes are the bot's; the next one is green by itself."""
    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-qm", "A pipeline")
    git("switch", "-qc", "dependabot/github_actions/actions-1")
    update_pin(BUILD)
    update_pin(BUILDX)
    git("commit", "-qam", "Bump the actions group with 2 updates")
    assert "web" not in run_command("check", code=1)
    out = run_command("pins", "pull")
    assert "taken    docker/build-push-action v7.3.0 -> v7.4.0" in out and out.endswith(" unchanged\n")
    assert git("status", "--porcelain", "--untracked-files=all").splitlines() == [
        " M .github/dependabot.yml",  # it looks into the new file, too
        "?? specs/pins/action.yml",
    ]
    run_command("check")
    assert BUILD in FILE.read_text()
    git("add", "-A")
    git("commit", "-qm", "Pull")
    for number in (5, 6):
        update_pin(f"docker/build-push-action@{number}{'2' * 39} # v7.{number}.0", *workflows(), FILE)
        run_command("check")
    assert run_command("pins", "pull") == ".: no pin has moved: nothing to pull\n"


@pytest.mark.parametrize(
    "comment",
    ["# v7.4.0", "#v7.4.0", "# tag=v7.4.0", "# renovate: tag=v7.4.0", "# renovate: pin v7.4.0", "# pin @v7.4.0"],
)
def test_the_forms_of_renovate(comment: str) -> None:
    update_pin(BUILD.replace("# v7.4.0", comment))
    run_command("pins", "pull")
    run_command("check")
    assert BUILD in FILE.read_text()
    assert all(comment not in file.read_text() for file in workflows()) or comment == "# v7.4.0"


def test_line_ends_of_windows() -> None:
    for file in workflows():
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    update_pin(BUILD)
    run_command("pins", "pull")
    run_command("check")
    assert BUILD in FILE.read_text() and b"\r" not in workflows()[0].read_bytes()


REFUSED: dict[str, tuple[Callable[[], object], str, str]] = {
    "half": (
        lambda: update_pin(BUILD, workflows()[0]),
        "[pin-disagrees]",
        "write it here, too, and pull again: " + BUILD,
    ),
    "a tag": (lambda: update_pin("actions/checkout@v8"), "met `v8` [pin]", "owner/name@<40 hex digits> # v1.2.3"),
    "short": (lambda: update_pin("actions/checkout@3d3c42e # v8.0.0"), "met `3d3c42e` [pin]", "40 hex digits"),
    "long": (lambda: update_pin("actions/checkout@" + "a" * 41 + " # v8.0.0"), "[pin]", "40 hex digits"),
    "no comment": (lambda: update_pin(STRANGE.partition(" #")[0]), "expected its version", "git ls-remote --tags"),
    "a branch": (lambda: update_pin(STRANGE.replace("v7.0.2", "main")), "expected its version", "git ls-remote --tags"),
    "two digits": (lambda: update_pin(STRANGE.replace("v7.0.2", "v7.1")), "expected its version", "# v1.2.3"),
    "no number": (lambda: update_pin(STRANGE + "0" * 5000), "expected its version", "# v1.2.3"),
    "more behind": (lambda: update_pin(STRANGE + "-rc.1"), "expected its version", "# v1.2.3"),
    "moved tag": (
        lambda: update_pin(STRANGE.replace("v7.0.2", "v7.0.1")),
        "[pin-tag]",
        "3d3c42e5aac5…, not 111111111111…",
    ),
    "other words": (
        lambda: update_pin(DEFAULT_PINS["actions/checkout"].line.replace("7.0.1", "8.0.0")),
        "[pin-tag]",
        "is v7.0.1",
    ),
    "back": (lambda: update_pin(STRANGE.replace("v7.0.2", "v6.12.0")), "a pull does not go back", "kiwari-ci generate"),
    "an owner": (lambda: swap("actions/checkout", "acti0ns/checkout"), "[pin-action]", "they use actions/checkout"),
    "a path": (lambda: swap("actions/checkout@", "actions/checkout/x@"), "[pin-action]", "they use"),
    "no yaml": (lambda: workflows()[0].write_text(workflows()[0].read_text() + "\n\t- {"), "not YAML", "hint"),
    "no text": (lambda: workflows()[0].write_bytes(workflows()[0].read_bytes() + b"\xff\xfe\0"), "not UTF-8", "save"),
    "colours": (lambda: swap("docker/login-action@", "d/\\x1b[31m@"), "is no action of these workflows", "they use"),
}


def swap(old: str, new: str) -> None:
    for file in workflows():
        file.write_text(re.sub(rf"uses: {old}(\S*)", lambda match: f'uses: "{new}{match[1]}"', file.read_text()))


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_changes_nothing(name: str) -> None:
    update_pin(BUILDX)
    damage, words, cure = REFUSED[name]
    damage()
    before = state()
    out = run_command("pins", "pull", code=2)
    assert words in out and cure in out and out.isprintable() is False and "\x1b" not in out
    assert re.search(r"^\.github/workflows/[\w-]+\.yml:\d+:\d+: ", out)
    assert state() == before


def test_frozen_stays_and_the_rest_is_taken() -> None:
    reason = "frozen at v7.3.0 because v7.4.0 is slow: it doesn't cache"
    FILE.parent.mkdir()
    line = DEFAULT_PINS["docker/build-push-action"].line
    text = f'# ours\nname: pins\nruns:\n  steps:\n    # slow\n    - name: "{reason}" # so\n      uses: {line}\n'
    FILE.write_text(text)
    assert "frozen because v7.4.0 is slow" in run_command("pins")
    run_command("generate", "--out", ".")
    ignored = yaml.load(Path(".github/dependabot.yml").read_text(), yaml.CSafeLoader)["updates"][0]["ignore"]
    assert ignored == [{"dependency-name": "docker/build-push-action"}]
    update_pin(BUILD)
    update_pin(BUILDX)
    out = run_command("pins", "pull")
    assert "frozen   docker/build-push-action v7.3.0 -> v7.4.0, and stays v7.3.0: frozen because v7.4.0 is slow" in out
    assert "taken    docker/setup-buildx-action v4.3.0 -> v4.4.1" in out
    run_command("check")
    assert FILE.read_text().startswith(text) and f"    - uses: {BUILDX}\n" in FILE.read_text()
    update_pin(BUILD)
    assert ".: " not in run_command("pins", "pull")  # nothing is taken, and what is frozen is put back
    run_command("check")
    update_pin(BUILD, FILE)
    assert "is frozen at v7.3.0, but this line has v7.4.0 [pin-frozen]" in run_command("check", code=2)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_comments_and_line_ends_are_kept(end: str, mark: str) -> None:
    FILE.parent.mkdir()
    head = "# Who asks: team@example.com\nname: ours\n\nruns: # nothing\n    steps:\n"
    tail = "        # the last word\n\n# and the end\n"
    quoted = DEFAULT_PINS["docker/build-push-action"].line.replace(" # ", "'   # tag=")
    FILE.write_bytes(f"{mark}{head}        -   uses: '{quoted}  keep me\n{tail}".replace("\n", end).encode())
    run_command("generate", "--out", ".")
    update_pin(BUILD)
    run_command("pins", "pull")
    run_command("check")
    content = FILE.read_bytes().decode()
    assert content.count("\r\n") == (content.count("\n") if end == "\r\n" else 0)
    text = content.replace("\r\n", "\n")
    assert text.startswith(mark + head + f"        -   uses: {BUILD.replace('# ', '  # tag=')}  keep me\n")
    assert text.endswith(tail) and f"        - uses: {DEFAULT_PINS['actions/checkout'].line}\n" in text


@pytest.mark.exhaustive
def test_what_is_made_passes_the_checkers() -> None:
    update_pin(BUILD)
    run_command("pins", "pull")
    for checker in checkers.ACTIONS:
        assert not checkers.findings(checker, [FILE.absolute()])
    for checker in checkers.DEPENDABOT:
        assert not checkers.findings(checker, [Path(".github/dependabot.yml").absolute()])


def test_a_form_that_cannot_be_edited_says_what_to_write() -> None:
    FILE.parent.mkdir()
    FILE.write_text(f"runs: {{steps: [{{uses: {DEFAULT_PINS['docker/build-push-action'].line}\n}}]}}\n")
    run_command("generate", "--out", ".")
    update_pin(BUILDX)
    before = state()
    out = run_command("pins", "pull", code=73)
    assert "cannot be edited as it is written" in out and f"  - uses: {BUILDX}\n" in out
    assert state() == before


def test_when_nothing_can_be_generated_the_pins_are_as_they_were() -> None:
    update_pin(BUILD)
    Path("deploy/bin/deploy").write_text("mine\n")
    before = state()
    assert "not written by kiwari-ci" in run_command("pins", "pull", code=73)
    assert state() == before
    FILE.parent.mkdir()
    FILE.write_text(f"runs:\n  steps:\n  - uses: {DEFAULT_PINS['actions/checkout'].line}\n")
    before = state()
    assert "not written by kiwari-ci" in run_command("pins", "pull", code=73)
    assert state() == before


def test_two_places_of_the_spec() -> None:
    """Where the output is another folder, the pins are copied there, and an old copy is told."""
    run_command("generate", "--out", "out")
    update_pin(BUILD, *Path("out/.github/workflows").glob("*.yml"))
    run_command("pins", "pull", "--out", "out")
    assert FILE.read_text() == Path("out", FILE).read_text()
    run_command("check", "--out", "out")
    FILE.unlink()
    assert "rm out/specs/pins/action.yml" in run_command("generate", "--out", "out")


def test_nothing_generated_is_said() -> None:
    assert "no generated workflow of kiwari is here" in run_command("pins", "pull", "--out", "elsewhere", code=73)
    for file in workflows():
        file.unlink()
    Path(".github/workflows/api-ci.yml").symlink_to("/dev/zero")
    assert "no generated workflow" in run_command("pins", "pull", "--out", ".", code=73)


def test_a_dependabot_file_of_ones_own_is_never_overwritten() -> None:
    own = Path(".github/dependabot.yml")
    own.write_text("version: 2\nupdates: []\n")
    assert "not written by kiwari-ci (no marker)" in run_command("generate", "--out", ".", code=73)
    assert own.read_text() == "version: 2\nupdates: []\n"


def test_dependabot_goes_when_it_is_no_longer_asked_for() -> None:
    spec = Path("specs/kiwari.yaml")
    spec.write_text(spec.read_text().replace("  dependabot: true\n", ""))
    assert ".github/dependabot.yml" in run_command("check", code=1)
    assert "removed  .github/dependabot.yml" in run_command("generate", "--out", ".")
    assert not Path(".github/dependabot.yml").exists()


def test_leaving_takes_the_pins_along() -> None:
    update_pin(BUILD)
    run_command("pins", "pull")
    git("init", "-q")
    assert f"git rm {FILE}" in run_command("eject")
    assert "/specs/pins" not in Path(".github/dependabot.yml").read_text()


def test_json_is_for_programs() -> None:
    update_pin(BUILD)
    done = json.loads(run_command("pins", "pull", "--format", "json"))
    assert [update["now"]["version"] for update in done["bumps"]] == ["v7.4.0"]
    assert not done["written"]["removed"]
    listed = {pin["action"]: pin for pin in json.loads(run_command("pins", "list", "--format", "json"))}
    assert listed["docker/build-push-action"]["version"] == "v7.4.0"


def test_a_pin_of_ones_own_that_is_older_is_told() -> None:
    FILE.parent.mkdir()
    FILE.write_text(f"runs:\n  steps:\n  - uses: {STRANGE.replace('7.0.2', '6.9.9')}\n")
    assert "kiwari-ci has v7.0.1" in run_command("pins")


@pytest.mark.parametrize("text", ["", "# nothing\n", "runs:\n", "a: 1\n", "runs: {steps: []}\n", "[]\n", "runs: 1\n"])
def test_a_file_of_pins_without_any_says_so(text: str) -> None:
    FILE.parent.mkdir()
    FILE.write_text(text)
    out = run_command("check", code=2)
    assert out.startswith("specs/pins/action.yml") and "hint: " in out


def test_a_step_is_where_a_step_is() -> None:
    """`uses` in a script, an `env` or an input is none."""
    text = "jobs:\n  steps:\n    uses: a/b@c\n    env: {uses: 1}\n  b:\n    steps:\n    - run: |\n        uses: x\n"
    text += "      env:\n        uses: y\n"
    _, faults = action_pins.find_pins(yaml_source.parse_yaml("x.yml", text), DEFAULT_PINS)
    assert [fault.line for fault in faults] == [3]


def test_a_file_of_pins_that_cannot_be_read_is_no_missing_one() -> None:
    FILE.parent.mkdir()
    FILE.symlink_to("nowhere")
    assert "specs/pins/action.yml: no such file [no-file]" in run_command("check", code=2)
    FILE.unlink()
    FILE.mkdir()
    assert "a folder, not a file" in run_command("pins", "pull", code=2)


def test_the_words_of_the_command() -> None:
    for words in (["list"], ["specs/kiwari.yaml"], ["list", "specs/kiwari.yaml"]):
        assert run_command("pins", *words) == run_command("pins")
    assert "expected list or pull, met pul" in run_command("pins", "pul", code=2)
    Path("specs/other.yaml").write_text("")
    assert "kiwari-ci pins pull specs/kiwari.yaml" in run_command("pins", "pull", code=2)


# The tool's own.


def test_the_tools_pins_are_read_as_a_repositorys_are() -> None:
    read = yaml_source.load_yaml(ROOT / "kiwari_ci/github_facts/action.yml")
    seen, faults = action_pins.find_pins(read, DEFAULT_PINS)
    assert (
        not faults
        and {occurrence.pin.action: occurrence.pin for occurrence in seen} == DEFAULT_PINS
        and len(DEFAULT_PINS) == 12
    )
    # What the specs generate: tests/test_cases.py compares it.
    workflows = [path.read_text() for path in ROOT.glob("tests/cases/ok/*/expected/.github/workflows/*.yml")]
    assert {name for name in DEFAULT_PINS if any(name in text for text in workflows)} == DEFAULT_PINS.keys()


def test_both_bots_read_the_form() -> None:
    """Dependabot: every `uses` below `runs`; Renovate: files called action.yml, a line each."""
    update_pin(BUILD)
    run_command("pins", "pull")
    for file in (FILE, ROOT / "kiwari_ci/github_facts/action.yml"):
        text = file.read_text()
        assert re.search(r"(^|/)action\.ya?ml$", file.as_posix())
        steps: list[Any] = yaml.load(text, yaml.CSafeLoader)["runs"]["steps"]
        lines = re.findall(r"^\s+(?:-\s+)?uses\s*:\s*(\S+) # v\d+\.\d+\.\d+$", text, re.MULTILINE)
        assert [step["uses"] for step in steps] == lines and lines
