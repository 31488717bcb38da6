"""Every command in a checkout of a stranger: no program that it names runs, nothing is written through its links."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kiwari_ci.readers import git
from tests.cli_runner import kiwari_ci
from tests.repository import copy_checkout

SPEC = Path(__file__).parents[1] / "specs/kiwari.yaml"
RENAMED_TAG = "v1.0.0"

# Settings of git that name a program. `{program}` writes a file when it runs.
PROGRAM_SETTINGS = {
    "core.fsmonitor": "{program}",
    "core.hooksPath": "{hooks}",
    "core.sshCommand": "{program}",
    "core.gitProxy": "{program}",
    "core.pager": "{program}",
    "core.editor": "{program}",
    "core.askPass": "{program}",
    "core.alternateRefsCommand": "{program}",
    "credential.helper": "!{program}",
    "diff.external": "{program}",
    "diff.hostile.command": "{program}",
    "diff.hostile.textconv": "{program}",
    "filter.hostile.clean": "{program}",
    "filter.hostile.smudge": "{program}",
    "filter.hostile.process": "{program}",
    "merge.hostile.driver": "{program}",
    "gpg.program": "{program}",
    "gpg.ssh.program": "{program}",
    "gpg.x509.program": "{program}",
    "interactive.diffFilter": "{program}",
    "sequence.editor": "{program}",
    "trailer.hostile.command": "{program}",
    "alias.ls-files": "!{program}",
    "alias.log": "!{program}",
    "pager.log": "{program}",
    "remote.origin.uploadpack": "{program}",
    "remote.origin.url": "ext::{program}",
}
OTHER_SETTINGS = {
    "log.showSignature": "true",
    "protocol.ext.allow": "always",
    "protocol.file.allow": "always",
    "extensions.partialClone": "origin",
    "remote.origin.promisor": "true",
    "core.splitIndex": "true",
}
HOOKS = ("post-index-change", "reference-transaction", "post-checkout", "fsmonitor-watchman", "pre-auto-gc")

COMMANDS: dict[str, Callable[[Path], list[object]]] = {
    "init": lambda folder: ["init", folder, "--repository", "a/b"],
    "init-again": lambda folder: ["init", folder, "--repository", "a/b"],
    "lint": lambda folder: ["lint", "specs/kiwari.yaml", "--checkout", folder],
    "diff": lambda folder: ["diff", "specs/kiwari.yaml", "--against", "HEAD"],
    "check": lambda folder: ["check", "specs/kiwari.yaml"],
    "affected": lambda folder: ["affected", "specs/kiwari.yaml", "--base", "HEAD^"],
    "affected-new-branch": lambda folder: ["affected", "specs/kiwari.yaml", "--base", "0" * 40, "--event", "push"],
    "release": lambda folder: [_release_command(), RENAMED_TAG, "specs/kiwari.yaml"],
    "trace": lambda folder: ["trace", _first_domain(), "specs/kiwari.yaml"],
    "pins": lambda folder: ["pins", "list", "specs/kiwari.yaml"],
    "pins-pull": lambda folder: ["pins", "pull", "specs/kiwari.yaml"],
    "generate": lambda folder: ["generate", "specs/kiwari.yaml"],
    "validate": lambda folder: ["validate", "specs/kiwari.yaml"],
    "graph": lambda folder: ["graph", "specs/kiwari.yaml"],
    "eject": lambda folder: ["eject", "specs/kiwari.yaml"],
}


def _release_command() -> str:
    from kiwari_ci.cli.app import root_command

    return "preview" if "preview" in root_command.commands else "plan"


def _first_domain() -> str:
    from kiwari_ci import generator

    return str(generator.load_spec(SPEC).plan.domains[0])


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """The file that is there after any of the hostile programs has run."""
    return tmp_path / "a-program-ran"


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with a generated pipeline and two commits, of which each test gets a copy."""
    folder = tmp_path_factory.mktemp("committed") / "checkout"
    (folder / "specs").mkdir(parents=True)
    (folder / "specs/kiwari.yaml").write_text(SPEC.read_text())
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY a /\n")
    (folder / ".gitattributes").write_text("* diff=hostile filter=hostile merge=hostile\n")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        assert kiwari_ci("generate", "specs/kiwari.yaml").code == 0
    who = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    (folder / "specs/kiwari.yaml").write_text(SPEC.read_text() + "\n# changed\n")
    for arguments in (
        ["init", "-q", "-b", "main", "--template="],  # without examples of hooks
        ["add", "--all"],
        [*who, "commit", "-q", "-m", "one"],
        [*who, "commit", "-q", "--allow-empty", "-m", "two"],
        ["tag", RENAMED_TAG],
    ):
        subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def hostile(committed: Path, tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a generated pipeline, whose configuration, hooks and attributes name programs."""
    folder = copy_checkout(committed, tmp_path / "checkout")
    monkeypatch.chdir(folder)
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$0 $*" >>"{canary}"\n')
    program.chmod(0o755)
    hooks = tmp_path / "hooks"
    for place in (hooks, folder / ".git/hooks"):
        place.mkdir(exist_ok=True)
        for name in HOOKS:
            (place / name).write_text(program.read_text())
            (place / name).chmod(0o755)
    settings = {name: value.format(program=program, hooks=hooks) for name, value in PROGRAM_SETTINGS.items()}
    with (folder / ".git/config").open("a") as config:
        for name, value in (settings | OTHER_SETTINGS).items():
            section, _, key_path = name.partition(".")
            middle, dot, key = key_path.rpartition(".")
            config.write(f'[{section}{f" {chr(34)}{middle}{chr(34)}" if dot else ""}]\n\t{key} = "{value}"\n')
    canary.unlink(missing_ok=True)
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_no_program_of_a_hostile_checkout_runs(command: str, hostile: Path, canary: Path) -> None:
    monkeypatched = COMMANDS[command](hostile)
    if command.startswith("init") and command != "init-again":
        (hostile / "specs/kiwari.yaml").unlink()
    result = kiwari_ci(*monkeypatched)
    assert result.code in (0, 1, 2, 73), result
    assert "Traceback" not in result.err
    assert not canary.exists(), canary.read_text()


def test_no_program_runs_when_a_checkout_lacks_objects(hostile: Path, canary: Path) -> None:
    """A partial clone fetches what it lacks by a program that its configuration names."""
    listed = subprocess.run(
        ["git", "--git-dir=.git", "rev-parse", "HEAD:specs/kiwari.yaml"],
        cwd=hostile, capture_output=True, text=True, check=True, env={**os.environ, "GIT_CONFIG_COUNT": "0"},
    ).stdout.strip()  # fmt: skip
    canary.unlink(missing_ok=True)
    blob = hostile / ".git/objects" / listed[:2] / listed[2:]
    blob.chmod(0o644)
    blob.unlink()
    with pytest.raises(git.GitError):
        git.run_git(hostile, "cat-file", "blob", listed)
    for command in ("check", "diff", "affected", "lint", "init"):
        kiwari_ci(*COMMANDS[command](hostile))
    assert not canary.exists(), canary.read_text()


def test_a_bare_repository_in_a_folder_is_not_found(hostile: Path, canary: Path, tmp_path: Path) -> None:
    """Git takes a folder with HEAD, objects and refs for a repository, and reads its configuration."""
    bare = hostile / "specs"
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "bare"], check=True)
    for name in ("HEAD", "objects", "refs"):
        (tmp_path / "bare" / name).rename(bare / name)
    (bare / "config").write_text((hostile / ".git/config").read_text())
    kiwari_ci("check", "specs/kiwari.yaml")
    assert git.run_git(bare, "rev-parse", "--show-toplevel").decode().strip() == str(hostile.resolve())
    assert git.run_git(bare, "rev-list", "--count", "HEAD", "--").strip() == b"2"
    assert not canary.exists(), canary.read_text()


def test_git_is_not_taken_from_the_checkout(hostile: Path, canary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (hostile / "git").write_text((hostile.parent / "program").read_text())
    (hostile / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f".:{os.environ['PATH']}")
    git.run_git(hostile, "rev-parse", "HEAD")
    assert not canary.exists()


def test_what_speaks_to_git_is_not_passed_on(hostile: Path, canary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = str(hostile.parent / "program")
    for name in ("GIT_SSH_COMMAND", "GIT_EXTERNAL_DIFF", "GIT_PAGER", "GIT_EDITOR", "GIT_ASKPASS", "GIT_DIR"):
        monkeypatch.setenv(name, program)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.fsmonitor")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", program)
    assert kiwari_ci("affected", "specs/kiwari.yaml", "--base", "HEAD^").code == 0
    assert not canary.exists(), canary.read_text()


def test_an_answer_of_git_is_bounded(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "MAX_GIT_OUTPUT", 10)
    with pytest.raises(git.GitError, match="more than 10 bytes"):
        git.run_git(hostile, "rev-parse", "HEAD")


def test_git_gives_up_on_a_file_that_never_ends(hostile: Path) -> None:
    """A setting may name a pipe that nobody writes to."""
    os.mkfifo(hostile / ".git/attributes.pipe")
    with (hostile / ".git/config").open("a") as config:
        config.write(f"[include]\n\tpath = {hostile}/.git/attributes.pipe\n")
    with pytest.raises(git.GitTimeout):
        git.run_git(hostile, "rev-parse", "HEAD", timeout=0.5)


def test_init_says_that_git_gave_no_answer(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git waits for a pipe that its configuration includes; `init` then walks through the folders itself."""
    os.mkfifo(hostile / "pipe")
    with (hostile / ".git/config").open("a") as config:
        config.write(f"[include]\n\tpath = {hostile}/pipe\n")
    monkeypatch.setattr(git, "GIT_TIMEOUT", 0.3)
    result = kiwari_ci(*COMMANDS["init-again"](hostile))
    assert result.out.count("gave no answer in 0.3 s") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_writes_through_a_link(command: str, hostile: Path, tmp_path: Path) -> None:
    """Everything that a command may write is a link that the repository tracks; the user's files stay as they are."""
    outside = tmp_path / "home"
    outside.mkdir()
    (outside / "profile").write_text("mine\n")
    for folder in (".kiwari-ci-staging", ".kiwari-ci-staging-abcd1234"):
        (hostile / folder).mkdir()
        for number in range(60):
            (hostile / folder / str(number)).symlink_to(outside / "profile")
    for path in [*hostile.glob(".github/workflows/*"), *hostile.glob("deploy/**/*")]:
        if path.is_file():
            path.unlink()
            path.symlink_to(outside / "profile")
    if command == "init":
        (hostile / "specs/kiwari.yaml").unlink()
        for name in ("app", "checkout", "a", "b"):
            (hostile / f"specs/{name}.yaml").symlink_to(outside / f"new-{name}")
    result = kiwari_ci(*COMMANDS[command](hostile))
    assert "Traceback" not in result.err
    assert [path.name for path in outside.iterdir()] == ["profile"]
    assert (outside / "profile").read_text() == "mine\n"


def test_a_page_is_not_written_through_a_link(hostile: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (hostile / "page.html").symlink_to(tmp_path / "home/profile")
    (hostile / "pages").symlink_to(tmp_path / "home")
    for name in ("page.html", "pages/page.html"):
        result = kiwari_ci("graph", "specs/kiwari.yaml", "--html", name)
        assert result.code == 2 and "is a link" in result.err
    assert not list((tmp_path / "home").iterdir())
    assert kiwari_ci("graph", "specs/kiwari.yaml", "--html", "new.html").code == 0
    assert (hostile / "new.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize("command", COMMANDS)
def test_files_without_end_are_not_waited_for(command: str, hostile: Path) -> None:
    """Pipes that nobody writes to, devices, and files of gigabytes, wherever a command might read."""
    for name in ("compose.yml", "package.json", "web/Dockerfile", ".github/workflows/a.yml", "deploy/RUNBOOK.md"):
        path = hostile / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    for name in ("docker-compose.yml", "go.mod", ".github/workflows/b.yml", ".env.example"):
        (hostile / name).symlink_to("/dev/zero")
    for name in ("compose.prod.yml", "pyproject.toml", ".github/workflows/c.yml", "deploy/large.yml"):
        with (hostile / name).open("wb") as file:
            file.truncate(20_000_000_000)
    result = kiwari_ci(*COMMANDS[command](hostile))
    assert result.code in (0, 1, 2, 73), result
    assert "Traceback" not in result.err


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_spec_that_is_a_pipe_or_a_device_is_refused(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "spec.yaml")
    result = kiwari_ci("validate", tmp_path / "spec.yaml")
    assert result.code == 2 and "a pipe or a device, not a file" in result.err + result.out


# A title for the terminal, text that runs backwards, characters that nobody sees, and a command of GitHub's runner.
HOSTILE_TEXT = "x\x1b]0;owned\x07\x9b31m\u202elaem\u2066\u200b\u2028\u3164\n::error title=owned::owned\n.yml"
NEVER_PRINTED = set("\x00\x07\x08\x0b\x0c\r\x1b\x7f\x9b\x85\u202e\u2066\u200b\u2028\u3164\ufeff")


@pytest.fixture(scope="module")
def hostile_names(committed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same checkout with another commit, whose message, branch and files have hostile names."""
    folder = copy_checkout(committed, tmp_path_factory.mktemp("names") / "checkout")
    for name in (f".github/workflows/{HOSTILE_TEXT}", f"web/{HOSTILE_TEXT}/Dockerfile", f"deploy/x/{HOSTILE_TEXT}"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("on: push\njobs: [" if name.startswith(".github") else f"FROM a\nCOPY {HOSTILE_TEXT!r} /\n")
    (folder / f"compose.{HOSTILE_TEXT}").write_text("services: {'a\\u202e\\e[31m': {image: \"b\\e[2J\"}}\n")
    (folder / "compose.yml").write_text(
        'services: {"a\\u202e\\e[31m": {image: "b\\e[2J\\u202e", labels: {"\\e[1m": c}}}\n'
    )
    who = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "core.fsmonitor=false"]
    message = HOSTILE_TEXT
    safe = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"}
    (folder / ".git/config").write_text("[core]\n\trepositoryformatversion = 0\n")
    subprocess.run(["rm", "-rf", folder / ".git/hooks"], check=True)
    (folder / ".gitattributes").unlink()
    for arguments in (
        ["add", "--all"],
        [*who, "commit", "-q", "-m", message],
        ["branch", "ev\u202eil"],
        ["tag", "-f", RENAMED_TAG],
    ):
        subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, env=safe)
    return folder


@pytest.mark.parametrize(
    "style", ["text", "github", *(pytest.param(style, marks=pytest.mark.exhaustive) for style in ("markdown", "json"))]
)
@pytest.mark.parametrize("command", [*COMMANDS, "affected-files", "affected-branch", "diff-branch", "trace-address"])
def test_text_of_others_is_printed_escaped(
    command: str, style: str, hostile_names: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = copy_checkout(hostile_names, tmp_path / "checkout")
    monkeypatch.chdir(hostile)
    summary = tmp_path / "summary"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    arguments = {
        "affected-files": ["affected", "specs/kiwari.yaml", "--files", HOSTILE_TEXT],
        "affected-branch": ["affected", "specs/kiwari.yaml", "--files", "a", "--branch", f"b{HOSTILE_TEXT}"],
        "diff-branch": ["diff", "specs/kiwari.yaml", "--against", "ev\u202eil"],
        "trace-address": ["trace", HOSTILE_TEXT, "specs/kiwari.yaml"],
    }.get(command) or COMMANDS[command](hostile)
    if command == "init":
        (hostile / "specs/kiwari.yaml").unlink()
    result = kiwari_ci(*arguments, "--format", style)
    texts = [result.out, result.err, summary.read_text() if summary.exists() else ""]
    texts += [path.read_text() for path in hostile.glob("specs/*.yaml")] if command == "init" else []
    assert "Traceback" not in result.err
    for text in texts:
        assert not NEVER_PRINTED & set(text), repr(text)
        assert not any(line.lstrip().startswith("::error title=owned") for line in text.splitlines()), repr(text)
