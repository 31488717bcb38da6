"""A checkout whose git directory is hostile: no setting and no file in it changes an answer, and none is waited for."""

import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from kiwari_ci.commands.check import older_specs
from kiwari_ci.readers import git
from tests.cli_runner import CommandResult, kiwari_ci
from tests.repository import Repository, copy_checkout

SPEC = (Path(__file__).parents[1] / "specs/kiwari.yaml").read_text()
SUBMODULE = ("160000", "a" * 40, "b" * 40)

COMMANDS: dict[str, list[object]] = {
    "init": ["init", ".", "--repository", "a/b"],
    "lint": ["lint", "specs/kiwari.yaml"],
    "diff": ["diff", "specs/kiwari.yaml", "--against", "HEAD^"],
    "check": ["check", "specs/kiwari.yaml"],
    "affected": ["affected", "specs/kiwari.yaml", "--base", "HEAD~2", "--event", "push"],
    "affected-new-branch": ["affected", "specs/kiwari.yaml", "--base", "0" * 40, "--event", "push"],
    "affected-pull-request": ["affected", "specs/kiwari.yaml", "--base", "HEAD~2", "--event", "pull_request"],
    "preview": ["preview", "v1.0.0", "specs/kiwari.yaml", "--format", "json"],
    "trace": ["trace", "pos-api", "specs/kiwari.yaml"],
    "pins": ["pins", "list", "specs/kiwari.yaml"],
}

# Settings that change what git prints, and name no program.
ANSWER_SETTINGS = """
[core]
	worktree = {elsewhere}
	bare = true
	sparseCheckout = true
	ignoreCase = true
	fileMode = false
	symlinks = false
	quotePath = true
	abbrev = 40
	excludesFile = {elsewhere}/excluded
	notesRef = refs/notes/other
[extensions]
	worktreeConfig = true
[diff]
	renames = copies
	relative = true
	noprefix = true
	ignoreSubmodules = all
	orderFile = {elsewhere}/excluded
[submodule]
	recurse = true
	active = .
[submodule "api/vendor"]
	ignore = all
	update = !touch {elsewhere}/ran
	url = {elsewhere}
[log]
	follow = true
	showRoot = false
	decorate = full
	date = raw
	mailmap = true
	abbrevCommit = false
	showSignature = true
	diffMerges = first-parent
[mailmap]
	file = {elsewhere}/excluded
[notes]
	displayRef = refs/notes/*
[i18n]
	logOutputEncoding = UTF-16
	commitEncoding = UTF-16
[format]
	pretty = raw
[color]
	ui = always
[column]
	ui = always
[tag]
	sort = -refname
[advice]
	graftFileDeprecated = false
[url "https://github.com/other/other"]
	insteadOf = https://github.com/example/nothing
[include]
	path = {elsewhere}/config
[includeIf "gitdir:**"]
	path = {elsewhere}/config
"""


@pytest.fixture(scope="module", autouse=True)
def no_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """`preview` asks a registry, by docker: no test here is about its answer, nor waits for one."""
    docker = tmp_path_factory.mktemp("programs") / "docker"
    docker.write_text("#!/bin/sh\necho 'no registry' >&2\nexit 1\n")
    docker.chmod(0o755)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("PATH", f"{docker.parent}:{os.environ['PATH']}")
        yield


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three commits, the last of which changes a submodule, a file that Git calls renamed, and a mode."""
    checkout = Repository(tmp_path_factory.mktemp("committed") / "checkout")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(checkout.folder)
        _fill_repository(checkout)
    return checkout.folder


@pytest.fixture
def repository(committed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A copy of these commits."""
    checkout = Repository(copy_checkout(committed, tmp_path / "checkout"))
    monkeypatch.chdir(checkout.folder)
    return checkout


@pytest.fixture(scope="module")
def usual_answers(committed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, CommandResult]:
    """What each command prints in a copy that nobody has changed."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(copy_checkout(committed, tmp_path_factory.mktemp("usual") / "checkout"))
        return run_commands(COMMANDS)


def _fill_repository(checkout: Repository) -> None:
    (checkout.folder / "specs").mkdir()
    (checkout.folder / "specs/kiwari.yaml").write_text(SPEC)
    assert kiwari_ci("generate", "specs/kiwari.yaml").code == 0
    checkout.commit("Start: é", api__Dockerfile="FROM scratch\nCOPY api /\n", api__main="a\n" * 50, web__main="b\n")
    assert kiwari_ci(*COMMANDS["init"]).code == 0, "its second run then changes nothing"
    checkout.commit(
        "Pin a submodule", **{".gitmodules": '[submodule "api/vendor"]\n\tpath = api/vendor\n\tignore = all\n'}
    )
    checkout.git("tag", "v0.9.0")
    _add_submodule(checkout, SUBMODULE[2])
    checkout.git("mv", "api/main", "api/renamed")
    checkout.git("commit", "-q", "-m", "Café\n\nText")
    checkout.git("tag", "v1.0.0")


def _add_submodule(repository: Repository, commit: str) -> None:
    repository.git("update-index", "--add", "--cacheinfo", f"{SUBMODULE[0]},{commit},api/vendor")


def run_commands(names: Iterable[str]) -> dict[str, CommandResult]:
    return {name: kiwari_ci(*COMMANDS[name]) for name in names}


def write_settings(repository: Repository, elsewhere: Path) -> None:
    """In the configuration, in that of the worktree, and in a file that both include."""
    elsewhere.mkdir()
    (elsewhere / "excluded").write_text("*\n")
    settings = ANSWER_SETTINGS.format(elsewhere=elsewhere)
    folder = repository.folder / ".git"
    (elsewhere / "config").write_text(settings.partition("[include]")[0])
    (folder / "config.worktree").write_text(settings)
    with (folder / "config").open("a") as config:
        config.write(settings)
    (folder / "info/sparse-checkout").write_text("/docs\n")
    (folder / "info/attributes").write_text("* text=auto working-tree-encoding=UTF-16 export-ignore\n")


def write_grafts(repository: Repository, elsewhere: Path) -> None:
    """The newest commit has no parent, for a git that reads them."""
    (repository.folder / ".git/info/grafts").write_text(f"{repository.git('rev-parse', 'HEAD')}\n")


def write_replacements(repository: Repository, elsewhere: Path) -> None:
    """The newest commit and the spec are others, for a git that replaces objects."""
    other = repository.sh("printf 'other\n' | git hash-object -w --stdin")
    repository.git("replace", repository.git("rev-parse", "HEAD:specs/kiwari.yaml"), other)
    repository.git("replace", "HEAD", "HEAD~2")


def write_commit_graph(repository: Repository, elsewhere: Path) -> None:
    """The cache of the history says that no commit has a parent."""
    repository.git("commit-graph", "write", "--reachable")
    path = repository.folder / ".git/objects/info/commit-graph"
    content = bytearray(path.read_bytes())
    tables = range(8, 8 + 12 * content[6], 12)
    chunks = {bytes(content[at : at + 4]): int.from_bytes(content[at + 4 : at + 12], "big") for at in tables}
    count = int.from_bytes(content[chunks[b"OIDF"] + 255 * 4 : chunks[b"OIDF"] + 256 * 4], "big")
    for number in range(count):
        parent = chunks[b"CDAT"] + number * 36 + 20
        content[parent : parent + 4] = (0x70000000).to_bytes(4, "big")
    path.chmod(0o644)
    path.write_bytes(content)


def write_alternates(repository: Repository, elsewhere: Path) -> None:
    """Objects of another repository."""
    other = Repository(elsewhere)
    other.commit("Other", a="b")
    (repository.folder / ".git/objects/info/alternates").write_text(f"{elsewhere}/.git/objects\n")


# Each change of the history, and some commands whose answer it would change, all commands together.
OTHER_HISTORIES: list[tuple[Callable[[Repository, Path], None], list[str]]] = [
    (write_grafts, ["diff", "preview"]),
    (write_replacements, ["affected-new-branch", "affected-pull-request"]),
    (write_commit_graph, ["affected"]),
]


@pytest.mark.parametrize(("change", "names"), OTHER_HISTORIES)
def test_no_other_history_is_told(
    change: Callable[[Repository, Path], None],
    names: list[str],
    repository: Repository,
    usual_answers: dict[str, CommandResult],
    tmp_path: Path,
) -> None:
    change(repository, tmp_path / "elsewhere")
    assert run_commands(names) == {name: usual_answers[name] for name in names}


def test_no_setting_changes_an_answer(
    repository: Repository, usual_answers: dict[str, CommandResult], tmp_path: Path
) -> None:
    affected = usual_answers["affected"].out
    assert "5 files" in affected, "one of them is the submodule, which .gitmodules hides from a diff"
    write_settings(repository, tmp_path / "elsewhere")
    write_alternates(repository, tmp_path / "other")
    assert run_commands(COMMANDS) == usual_answers
    assert not (tmp_path / "elsewhere/ran").exists()


WAITED_FOR = [
    "HEAD", "config", "index", "packed-refs", "shallow", "commondir", "config.worktree", "info/exclude",
    "info/attributes", "info/grafts", "info/sparse-checkout", "objects/info/alternates", "objects/info/commit-graph",
    "refs/heads/main", "refs/tags/v1.0.0", "refs/remotes/origin/HEAD",
]  # fmt: skip


@pytest.mark.parametrize("path", WAITED_FOR)
def test_a_pipe_in_place_of_a_file_is_found(path: str, tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    repository.commit("Start", a="b")
    place = tmp_path / ".git" / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    os.mkfifo(place)
    git.forget_checkouts()
    started = time.monotonic()
    with pytest.raises(git.GitTimeout, match=rf"\.git/{re.escape(path)} is a pipe or a device"):
        git.run_git(tmp_path, "rev-parse", "HEAD")
    assert time.monotonic() - started < 1


def test_each_command_reports_a_pipe_at_once(repository: Repository) -> None:
    (repository.folder / ".git/HEAD").unlink()
    os.mkfifo(repository.folder / ".git/HEAD")
    for name, words in COMMANDS.items():
        started = time.monotonic()
        result = kiwari_ci(*words)
        assert time.monotonic() - started < 10, "git would be waited for a minute"
        assert result.code in (0, 1, 2, 73) and "Traceback" not in result.err, name
        times = (result.out + result.err).count(".git/HEAD is a pipe or a device")
        assert times == (0 if name in ("check", "pins", "trace") else 1), "those ask git nothing that they show here"


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/random", "pipe"])
def test_a_link_to_a_device_is_reported_at_once(target: str, tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    os.mkfifo(repository.folder / "pipe")
    place = repository.folder / ".git/info/exclude"
    place.unlink(missing_ok=True)
    place.symlink_to(repository.folder / target)
    git.forget_checkouts()
    with pytest.raises(git.GitError, match=r"\.git/info/exclude is a pipe or a device"):
        git.run_git(repository.folder, "rev-parse", "HEAD")


def test_the_socket_of_git_itself_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git's file system monitor listens there; opening a socket fails at once."""
    repository = Repository(tmp_path)
    repository.commit("Start", a="b")
    monkeypatch.chdir(repository.folder / ".git")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("fsmonitor--daemon.ipc")
        assert git.run_git(repository.folder, "rev-parse", "HEAD")


def test_a_worktree_of_its_own_is_looked_at(tmp_path: Path) -> None:
    """There, .git is a file that names the git directory."""
    repository = Repository(tmp_path / "checkout")
    repository.commit("Start", a="b")
    repository.git("worktree", "add", "-q", str(tmp_path / "other"))
    assert git.run_git(tmp_path / "other", "rev-parse", "HEAD")
    (repository.folder / ".git/info/exclude").unlink(missing_ok=True)
    os.mkfifo(repository.folder / ".git/info/exclude")
    git.forget_checkouts()
    with pytest.raises(git.GitError, match="is a pipe or a device"):
        git.run_git(tmp_path / "other", "rev-parse", "HEAD")


def test_git_is_waited_for_once(repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be seen from outside, such as a pipe that the configuration includes, costs one time limit."""
    os.mkfifo(tmp_path / "pipe")
    with (repository.folder / ".git/config").open("a") as config:
        config.write(f"[include]\n\tpath = {tmp_path}/pipe\n")
    monkeypatch.setattr(git, "GIT_TIMEOUT", 0.3)
    monkeypatch.setattr(older_specs, "GIT_TIMEOUT", 0.3)
    for name, words in COMMANDS.items():
        started = time.monotonic()
        result = kiwari_ci(*words)
        assert time.monotonic() - started < 4, name
        assert (result.out + result.err).count("gave no answer in 0.3 s") <= 1, (name, result)
