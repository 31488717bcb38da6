"""`status`, `logs`, `exec`, `rollback` and `rotate`: a stand-in for ssh runs here what it would run on the host.

The stand-in gives the command to a shell, as sshd does, so that a word that is not quoted would be seen.
"""

import io
import json
import os
import shlex
import sys
from pathlib import Path

import pytest

from kiwari_ci import generator
from kiwari_ci.commands import operate
from kiwari_ci.remote_checks import calls, ssh_host
from tests.cli_runner import CommandResult, kiwari_ci
from tests.repository import Repository

ROOT = Path(__file__).parents[1]
SPEC = ROOT / "specs/kiwari.yaml"
SEVERAL_HOSTS = ROOT / "tests/cases/ok/several-hosts/spec.yaml"
REPLICAS = ROOT / "tests/cases/ok/replicas/spec.yaml"
DIGEST = f"sha256:{'a' * 64}"
RECORD = f"ghcr.io/iqbalmuhyiddin/kiwari-api@{DIGEST} 1 2026-01-02T10:00:00Z 77"
SSH = """#!/bin/sh
# A stand-in for ssh: it notes its words, and a shell in the host's home runs the command.
printf '%s\\n' "$*" >>{folder}/ssh-calls
while [ "$1" != -- ]; do shift; done
[ "$#" = 3 ] || exit 70
home={folder}/$2
cd "$home" 2>/dev/null || {{ echo "ssh: connect to host gone: Connection refused" >&2; exit 255; }}
PATH="$home/commands:$PATH" exec sh -c "$3"
"""


class Host:
    """A folder that stands for a host: its docker and its bin/deploy print what they are told, and note their words."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.deploy("exit 0")
        self.rotate("exit 0")
        self.docker("exit 0")

    def deploy(self, script: str) -> None:
        """What the host program does."""
        self._write("docker/bin/deploy", script)

    def rotate(self, script: str) -> None:
        """What the rotation program does."""
        self._write("docker/bin/rotate", script)

    def docker(self, script: str) -> None:
        """What docker does."""
        self._write("commands/docker", script)

    def commands(self) -> list[list[str]]:
        """The words of each call of docker and of the host program."""
        note = self.folder / "note"
        words = note.read_text().split("\0")[:-1] if note.exists() else []
        calls = []
        while words:
            end = 1 + int(words[0])
            calls.append(words[1:end])
            words = words[end:]
        return calls

    def _write(self, path: str, script: str) -> None:
        program = self.folder / path
        program.parent.mkdir(parents=True, exist_ok=True)
        note = shlex.quote(str(self.folder / "note"))
        # How many words there are, and the words: bash writes them itself, because Python takes a while to start.
        words = f"printf '%s\\0' $(($# + 1)) {program.name} \"$@\" >>{note}"
        program.write_text(f"#!/bin/bash\n{words}\n{script}\n")
        program.chmod(0o755)


@pytest.fixture
def vps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """The host of Kiwari's spec; other hosts are made by `Host(vps.folder.parent / NAME)`."""
    (tmp_path / "bin").mkdir()
    ssh = tmp_path / "bin/ssh"
    ssh.write_text(SSH.format(folder=shlex.quote(str(tmp_path))))
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return Host(tmp_path / "vps")


def on(command: str, *words: object, spec: Path = SPEC) -> CommandResult:
    """Run a command with a spec."""
    return kiwari_ci(command, "--spec", spec, *words)


def status_script(state: str = "ghcr.io/iqbalmuhyiddin/kiwari-api running since 2026, 0 restarts, exit code 0") -> str:
    """What bin/deploy prints of the one service that was deployed."""
    return f"echo 'bin/deploy 1.0 sha256:0'; echo 'pos-production/.deploys/pos-api: {state}'; echo '  pinned: {RECORD}'"


def docker_rows(*rows: tuple[str, str, str, str]) -> str:
    """What `docker ps` prints."""
    return "\n".join(f"printf '%s\\n' {shlex.quote(chr(9).join(('container', *row)))}" for row in rows)


WELL = (
    ("pos-api", "x", "Up 3 hours (healthy)", "pos-production"),
    ("pos-admin", "ghcr.io/old/admin:latest", "Up 3 weeks", "shop"),
    ("postgres", "postgres:16", "Up 3 weeks (healthy)", "postgres"),
)


def test_status_says_what_serves_and_since_when(vps: Host, tmp_path: Path) -> None:
    vps.deploy(status_script())
    vps.docker(docker_rows(*WELL))
    repository = Repository(tmp_path / "repository")
    repository.commit("feat: the first", api__main="1")
    done = on("status", "production", "--repo", repository.folder)
    assert done.code == 0, done.err
    assert done.out.startswith("production on vps: pos-production\n  pos-api: Up 3 hours (healthy)\n")
    assert f"    image   ghcr.io/iqbalmuhyiddin/kiwari-api@{DIGEST}\n" in done.out
    assert "    source  commit number 1: " in done.out and "feat: the first\n" in done.out
    assert "/actions/runs/77\n" in done.out and "since   2026-01-02T10:00:00Z, run https://github.com/iqbal" in done.out
    assert "  pos-admin: ghcr.io/old/admin:latest, Up 3 weeks, of the Compose project shop: never deployed" in done.out
    assert "  postgres: postgres:16, Up 3 weeks (healthy)\n" in done.out
    assert vps.commands()[0] == ["deploy", "status", "pos-production"]


def test_status_of_one_service_as_json(vps: Host, tmp_path: Path) -> None:
    vps.deploy(status_script())
    vps.docker(docker_rows(*WELL))
    done = on("status", "production", "api", "--format", "json", "--repo", tmp_path)
    assert done.code == 0, done.err
    (status,) = json.loads(done.out)
    (container,) = status["containers"]
    assert (status["host"], container["container"], container["is_serving"]) == ("vps", "pos-api", True)
    assert container["deployed"]["digest"] == DIGEST and container["commit"] == ""


@pytest.mark.parametrize(
    ("state", "rows", "shown"),
    [
        ("DOES NOT ANSWER: /health answered 500", WELL, "! pos-api: DOES NOT ANSWER: /health answered 500"),
        ("DOES NOT RUN: it has no container", WELL[1:], "! pos-api: DOES NOT RUN: it has no container"),
        ("x", WELL[:2], "! postgres: there is no such container"),
        ("x", (*WELL[:2], ("postgres", "p", "Exited (1) 3 days ago", "")), "! postgres: p, Exited (1) 3 days ago"),
        ("x", (*WELL[:2], ("postgres", "p", "Up 3 days (unhealthy)", "")), "! postgres: p, Up 3 days (unhealthy)"),
        ("\x1b]0;x\x07", (), "! pos-admin: there is no such container"),
    ],
)
def test_status_fails_when_something_does_not_serve(
    vps: Host, state: str, rows: tuple[tuple[str, str, str, str], ...], shown: str
) -> None:
    vps.deploy(status_script(state))
    vps.docker(docker_rows(*rows))
    done = on("status", "production")
    assert done.code == 1 and f"\n{shown}" in done.out and "\x1b" not in done.out


def test_status_says_why_a_host_does_not_answer(vps: Host) -> None:
    vps.deploy("echo 'deploy: unknown request: the top of bin/deploy lists the requests' >&2; exit 64")
    done = on("status", "production")
    assert done.code == 64 and "? ssh used the deploy key, which may do no more than deploy" in done.out
    vps.deploy("echo 'deploy: there is no stack' >&2; exit 64")
    done = on("status", "production")
    assert done.code == 64 and "? deploy: there is no stack" in done.out
    done = on("status", "production", "--ssh", "vps=gone")
    assert done.code == 255 and "? connect to host gone: Connection refused (ssh gone); " in done.out
    assert "; --ssh vps=USER@ADDRESS, or `Host vps` in ~/.ssh/config, says how to log in\n" in done.out


def test_logs_are_printed_line_by_line_and_escaped(vps: Host) -> None:
    vps.docker(r"printf '\033[32mINFO\033[0m one\r\n\033]0;title\007two\n'; echo three >&2; printf four")
    done = on("logs", "production", "api", "--tail", "7")
    assert (done.code, done.err) == (0, "")
    assert done.out == "INFO one\n\ufffd]0;title\ufffdtwo\nthree\nfour\n"
    assert vps.commands() == [["docker", "logs", "--tail", "7", "--", "pos-api"]]
    vps.docker("echo 'Error response from daemon: No such container: pos-api'; exit 1")
    done = on("logs", "production", "pos-api", "-f")
    assert done.code == 1 and "No such container" in done.out
    assert vps.commands()[-1] == ["docker", "logs", "--tail", "100", "--follow", "--", "pos-api"]


def test_logs_of_several_containers_one_after_the_other(vps: Host) -> None:
    vps.docker('echo "log of ${@: -1}"')
    done = on("logs", "production", "api", spec=REPLICAS)
    assert done.code == 0
    assert done.out.startswith(
        "==> shop-api-production on vps <==\nlog of shop-api-production\n==> shop-api-production-2"
    )
    done = on("logs", "production", "api", "--follow", spec=REPLICAS)
    assert done.code == 2 and "name one container: shop-api-production on vps, shop-api-production-2 on vps" in done.err
    Host(vps.folder.parent / "one")
    two = Host(vps.folder.parent / "two")
    assert on("logs", "production", "web", "-f", "--host", "two", spec=SEVERAL_HOSTS).code == 0
    assert len(two.commands()) == 1


def test_exec_gives_each_word_to_the_container(vps: Host, capfd: pytest.CaptureFixture[str]) -> None:
    vps.docker("echo out; echo \"err $'\\e'[1m\" >&2; printf 'a\\0b'; exit 7")
    words = ["sh", "-c", "echo $HOME; rm 'x' \"y\" `z` \\ *", "", "--", "-it"]
    done = on("exec", "production", "api", "--", *words)
    assert done.code == 7
    assert vps.commands() == [["docker", "exec", "-i", "--", "pos-api", *words]]
    assert capfd.readouterr().out == "out\na\0b"  # as it is, because it is no terminal
    assert "\x1b" not in done.err and "err " in done.err


def test_exec_reads_standard_input(
    vps: Host, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    vps.docker("cat")
    read, write = os.pipe()
    os.write(write, b"select 1;")
    os.close(write)
    saved = os.dup(0)
    os.dup2(read, 0)
    try:
        assert on("exec", "production", "postgres", "--", "psql").code == 0
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(read)
    assert capfd.readouterr().out == "select 1;"


def test_exec_has_a_terminal_when_this_command_has_one() -> None:
    assert operate.build_exec_command("web", ["sh"], is_terminal=True) == ["docker", "exec", "-it", "--", "web", "sh"]
    words = ssh_host.build_ssh_command("vps", ["docker", "exec"], is_terminal=True)
    assert "RequestTTY=force" in words and "-T" not in words and "BatchMode=yes" in words
    assert calls.run_in_terminal([sys.executable, "-c", "raise SystemExit(3)"]).code == 3
    assert calls.run_in_terminal(["/no/such/program"]).is_not_installed


def test_exec_needs_one_container_and_a_command(vps: Host) -> None:
    assert "name one container" in on("exec", "production", "api", "--", "ls", spec=REPLICAS).err
    done = on("exec", "production", "api")
    assert done.code == 2 and "COMMAND" in done.err
    assert vps.commands() == []


def test_rollback_asks_before_and_shows_what_serves(vps: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    vps.deploy(f'[ "$1" = rollback ] && {{ echo "==> back"; echo "deploy: note" >&2; exit 3; }}\n{status_script()}')
    vps.docker(docker_rows(*WELL))
    answers = iter(["n\n", "y\n"])
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: next(answers).strip())
    done = on("rollback", "production", "api")
    assert done.code == 130 and DIGEST in done.out and "rollback" not in str(vps.commands())
    done = on("rollback", "production", "api", DIGEST)
    assert (done.code, done.err) == (3, "deploy: note\n") and "==> back\n" in done.out
    assert vps.commands()[-1] == ["deploy", "rollback", "pos-production", "pos-api", DIGEST]


def test_rollback_goes_from_host_to_host_until_one_fails(vps: Host) -> None:
    one, two = (Host(vps.folder.parent / name) for name in ("one", "two"))
    done = on("rollback", "production", "web", "--yes", spec=SEVERAL_HOSTS)
    assert done.code == 0
    rollback = ["deploy", "rollback", "shop-production", "shop-web-production"]
    assert one.commands() == two.commands() == [rollback]
    one.deploy("exit 69")
    done = on("rollback", "production", "web", "--yes", spec=SEVERAL_HOSTS)
    assert done.code == 69 and "not rolled back: shop-web-production on two\n" in done.err
    assert two.commands() == [rollback]
    assert on("rollback", "production", "web", "--yes", "--host", "two", spec=SEVERAL_HOSTS).code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("status", "live"), "no environment live: the spec has staging, production"),
        (("status", "production", "web"), "production has no service or container web: it has api, admin, postgres"),
        (("status", "production", "--host", "two"), "nothing of production runs on the host two: use --host vps"),
        (("status", "production", "--ssh", "two=x"), "no host two: the spec has vps"),
        (("rollback", "production", "postgres"), "postgres is not a service: only services can be rolled back"),
        (("rollback", "production", "api", "v1"), "v1 is no digest (sha256: and 64 digits)"),
        (("logs", "production", "api", "--tail", "-1"), "--tail"),
    ],
)
def test_words_that_name_nothing(vps: Host, words: tuple[str, ...], message: str) -> None:
    done = on(*words)
    assert done.code == 2 and message in done.err
    assert vps.commands() == []


def test_ssh_that_fails_or_is_not_there(vps: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    done = on("logs", "production", "api", "--ssh", "vps=gone")
    assert done.code == 255
    assert "--ssh vps=USER@ADDRESS, or `Host vps` in ~/.ssh/config, says how to log in" in done.err
    for words in (("exec", "production", "api", "--ssh", "vps=gone", "--", "ls"),
                  ("rollback", "production", "api", "--yes", "--ssh", "vps=gone")):  # fmt: skip
        assert "--ssh vps=USER@ADDRESS, or `Host vps` in" in on(*words).err
    vps.deploy("echo 'deploy: unknown request: see the top' >&2; exit 64")
    assert "vps: ssh used the deploy key" in on("rollback", "production", "api", "--yes").err
    monkeypatch.setenv("PATH", "/nowhere")
    done = on("logs", "production", "api")
    assert done.code == 127 and "ssh: No such file or directory" in done.err


def test_a_name_of_the_spec_is_no_command_on_the_host(vps: Host) -> None:
    """Words reach the host as they are, whatever stands in them."""
    vps.docker("exit 0")
    odd = "a; touch $HOME/b\n'c' \"d\" `e` $(f) *"
    command = ssh_host.build_ssh_command("vps", operate.build_logs_command(odd, 1, False))
    assert calls.run_process(command).code == 0
    assert vps.commands() == [["docker", "logs", "--tail", "1", "--", odd]]


def test_status_has_the_backups_and_jobs_of_the_host() -> None:
    plan = generator.load_spec(SPEC).plan
    lines = ["kiwari-ci: backups and jobs", "pos: backed up 2 h ago", "FAILURE: a job", "kiwari-ci: backups and jobs 1"]
    result = calls.ProcessResult(0, "\n".join(lines), "")
    status = operate.parse_status("production", plan.hosts[0], "pos-production", [], result)
    assert status.schedule_code == status.exit_code == 1
    assert "! backups and jobs of vps:\n    pos: backed up 2 h ago\n    FAILURE: a job" in operate.format_status(
        plan, [status]
    )
    assert operate.build_status_command("docker", "shop", has_schedule=True)[-2] == "yes"


def test_what_a_job_prints_is_not_taken_for_the_end() -> None:
    """A job may print anything, also a line like the one that ends the list."""
    plan = generator.load_spec(SPEC).plan
    mark = "kiwari-ci: backups and jobs"
    lines = [mark, "job clean: ok", f"{mark} many", f"{mark} 0", f"{mark} {'9' * 5_000}", "backup: failed", f"{mark} 1"]
    result = calls.ProcessResult(0, "\n".join(lines) + "\n", "")
    status = operate.parse_status("production", plan.hosts[0], "pos-production", [], result)
    assert status.schedule == tuple(lines[1:-1])
    assert status.schedule_code == 1


def test_a_log_without_an_end_of_line_comes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MAX_LINE_BYTES", 10)
    parts: list[str] = []
    calls.stream_process(["printf", "%s", "x" * 25], lambda line, is_error: parts.append(line))
    assert parts == ["x" * 10, "x" * 10, "x" * 5]


def test_a_deploy_without_a_known_run_is_named() -> None:
    plan = generator.load_spec(SPEC).plan
    places = operate.select_containers(operate.list_containers(plan, "production"), "api")
    lines = [
        f"pos-production/.deploys/pos-api: x\n  pinned: {RECORD.replace(' 77', run)}" for run in (" rollback", " x")
    ]
    for line, shown in zip(lines, ("by hand, a rollback", "run x"), strict=True):
        result = calls.ProcessResult(0, line, "")
        status = operate.parse_status("production", plan.hosts[0], "pos-production", places, result)
        assert f"since   2026-01-02T10:00:00Z, {shown}" in operate.format_status(plan, [status])


@pytest.mark.parametrize(("state", "is_shown"), [("Up 3 weeks", True), ("Exited (0) 2 minutes ago", False)])
def test_status_names_a_container_of_today_that_still_runs_beside_the_new_one(state: str, is_shown: bool) -> None:
    plan = generator.load_spec(ROOT / "tests/cases/ok/takeover-behind-caddy/spec.yaml").plan
    places = operate.select_containers(operate.list_containers(plan, "production"), "web")
    lines = [
        "\t".join(("container", name, "x", shown, "old"))
        for name, shown in (("old-web-1", state), ("shop-web-production", "Up 2 minutes (healthy)"))
    ]
    result = calls.ProcessResult(0, "\n".join(lines), "")
    status = operate.parse_status("production", plan.hosts[0], "shop-production", places, result)
    warning = "!   old-web-1 still runs beside it, and may get its requests or do its work until you switch over"
    assert (warning in operate.format_status(plan, [status])) is is_shown
    assert status.containers[0].old_container == ("old-web-1" if is_shown else "")
    assert status.exit_code == 0


SECRET = 'n3w $HOME "secret"'
KEYS = "DATABASE_URL,JWT_SECRET"
RENDERED = ROOT / "tests/cases/ok/env-from-github/spec.yaml"
CLUSTER = ROOT / "tests/cases/ok/kubernetes/spec.yaml"
TWO_SERVERS = ROOT / "tests/cases/ok/two-servers/spec.yaml"
SECRETS = """\
project: {name: shop, repository: example/shop}
hosts: {one: {}, two: {}}
services:
  api: {port: 8080, env: {TOKEN: {secret: true}, LOG_LEVEL: info}}
  web: {port: 3000, env: {TOKEN: {secret: true}, SESSION_SECRET: {secret: true}}}
environments: {production: {deploy_on: {push: main}, host: [one, two]}}
"""


def type_value(monkeypatch: pytest.MonkeyPatch, *typed: str) -> None:
    """A person at a terminal confirms, and types these without echo."""
    values = iter(typed)
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "y")
    monkeypatch.setattr("click.termui.hidden_prompt_func", lambda _: next(values))


class Terminal(io.StringIO):
    """Standard input that is a terminal."""

    def isatty(self) -> bool:
        return True


def pipe_value(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A program writes this to standard input."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def reading(vps: Host, preview_code: int = 0, code: int = 0) -> Path:
    """A rotation program that keeps what it reads in a file, which is returned."""
    received = vps.folder / "received"
    vps.rotate(
        f"if [ $1 = preview ]; then echo 'redeploys: pos-api'; exit {preview_code}; fi\n"
        f"cat >>{shlex.quote(str(received))}; echo '==> rotated'; exit {code}"
    )
    return received


def test_rotate_shows_the_readers_asks_and_gives_the_value_on_standard_input(
    vps: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    received = reading(vps)
    type_value(monkeypatch, SECRET, SECRET)

    done = on("rotate", "production", "JWT_SECRET")

    assert (done.code, received.read_text()) == (0, f"{SECRET}\n"), done.err
    assert vps.commands() == [
        ["rotate", "preview", "value", "pos-production", "JWT_SECRET"],
        ["rotate", "value", "pos-production", "JWT_SECRET"],
    ]
    assert "redeploys: pos-api\n" in done.out and "==> rotated\n" in done.out
    assert "secret" not in done.out + done.err + (tmp_path / "ssh-calls").read_text()


def test_rotate_is_not_confirmed_or_refused_by_the_host(vps: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    received = reading(vps)
    type_value(monkeypatch, SECRET, SECRET)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    assert on("rotate", "production", "JWT_SECRET").code == 130
    reading(vps, preview_code=69)
    assert on("rotate", "production", "JWT_SECRET").code == 69
    assert all(words[1] == "preview" for words in vps.commands()) and not received.exists()
    reading(vps, code=1)
    assert on("rotate", "production", "JWT_SECRET", "--yes").code == 1


def test_rotate_generates_a_value_that_nobody_sees(vps: Host) -> None:
    received = reading(vps)
    done = on("rotate", "production", "JWT_SECRET", "--generate", "--yes")
    value = received.read_text().strip()
    assert done.code == 0 and len(value) == 40 and value.isalnum() and value.isascii()
    assert value not in done.out + done.err
    on("rotate", "production", "JWT_SECRET", "--generate", "--yes")
    assert len(set(received.read_text().split())) == 2


def test_rotate_reads_the_value_from_a_pipe(vps: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    received = reading(vps)
    pipe_value(monkeypatch, f"{SECRET}\n")
    assert on("rotate", "production", "JWT_SECRET", "--yes").code == 0
    assert received.read_text() == f"{SECRET}\n"
    done = on("rotate", "production", "JWT_SECRET")
    assert done.code == 2 and "so nobody can confirm: add --yes" in done.err
    for text, problem in (("a\nb\n", "contains a line break"), ("", "is empty"), ("it's", "contains a single quote")):
        pipe_value(monkeypatch, text)
        done = on("rotate", "production", "JWT_SECRET", "--yes")
        assert done.code == 2 and f"the new value cannot be stored: it {problem}" in done.err
    assert received.read_text() == f"{SECRET}\n"


@pytest.mark.parametrize("name", ["pos_production", "POS_PROD_PASSWORD"])
def test_rotate_names_the_role_and_what_may_have_its_password(
    vps: Host, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = reading(vps)
    words = ["password", "pos-production", KEYS, "postgres", "pos_prod", "POS_PROD_PASSWORD"]
    assert on("rotate", "production", name, "--generate", "--yes").code == 0
    assert vps.commands() == [["rotate", *words]]
    pipe_value(monkeypatch, "with blanks")
    done = on("rotate", "production", name, "--yes")
    assert done.code == 2 and "which clients encode differently" in done.err
    assert len(received.read_text().split()) == 1


def test_rotate_says_that_its_program_may_be_older_or_missing(vps: Host) -> None:
    vps.rotate("echo 'deploy: unknown request: the top of bin/rotate lists the requests' >&2; exit 64")
    done = on("rotate", "production", "JWT_SECRET", "--generate", "--yes")
    assert done.code == 64 and "bin/rotate on vps may also be older than this command" in done.err
    (vps.folder / "docker/bin/rotate").unlink()
    done = on("rotate", "production", "JWT_SECRET", "--generate", "--yes")
    assert done.code == 127 and "bin/rotate may be missing on vps" in done.err


def test_rotate_goes_from_host_to_host_until_one_fails(
    vps: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(SECRETS)
    one, two = (Host(vps.folder.parent / name) for name in ("one", "two"))
    files = [reading(host) for host in (one, two)]
    assert on("rotate", "production", "TOKEN", "--generate", "--yes", spec=spec).code == 0
    assert files[0].read_text() == files[1].read_text()
    assert (
        on("rotate", "production", "TOKEN", "--service", "web", "--host", "two", "--generate", "-y", spec=spec).code
        == 0
    )
    assert two.commands()[-1] == ["rotate", "value", "shop-production", "TOKEN", "shop-web-production.env"]
    assert len(one.commands()) == 1
    reading(two, code=1)
    done = on("rotate", "production", "TOKEN", "--generate", "--yes", spec=spec)
    assert done.code == 1
    assert "TOKEN differs between the hosts now. Changed: one\nNot changed: two\n" in done.err
    assert "each with --host HOST" in done.err
    for code in (69, 255):
        reading(two, code=code)
        done = on("rotate", "production", "TOKEN", "--generate", "--yes", spec=spec)
        assert done.code == code and "Changed: one\nPerhaps not changed: two\n" in done.err
    reading(one, code=64)
    done = on("rotate", "production", "TOKEN", "--generate", "--yes", spec=spec)
    assert "Not changed: one\nNot changed: two\n" in done.err
    assert "differs" not in done.err and "--host" not in done.err
    reading(one, code=69)
    done = on("rotate", "production", "TOKEN", "--generate", "--yes", spec=spec)
    assert done.code == 69 and len(two.commands()) == 5
    done = on("rotate", "production", "TOKEN", "--service", "cron", "-y", "--generate", spec=spec)
    assert "the env file of cron has no secret TOKEN" in done.err
    done = on("rotate", "production", "LOG_LEVEL", "-y", "--generate", spec=spec)
    assert "LOG_LEVEL is no secret" in done.err


@pytest.mark.parametrize(
    ("spec", "environment", "name", "message"),
    [
        (SPEC, "live", "JWT_SECRET", "no environment live: the spec has staging, production"),
        (SPEC, "production", "NO_KEY", "production has no secret NO_KEY: it has JWT_SECRET, pos_production"),
        (SPEC, "production", "DATABASE_URL", "kiwari-ci rotate production pos_production changes that password"),
        (SPEC, "production", "POSTGRES_PASSWORD", "POSTGRES_PASSWORD is the password of the superuser of postgres"),
        (SPEC, "production", "VPS_SSH_KEY", "gh secret set VPS_SSH_KEY --env staging && gh secret set VPS_SSH_KEY"),
        (
            RENDERED,
            "production",
            "stripe_key",
            "GitHub keeps stripe_key of production: gh secret set STRIPE --env prod",
        ),
        (
            RENDERED,
            "production",
            "shop_production",
            "then run gh secret set for each secret that has the password, and deploy again",
        ),
        (CLUSTER, "production", "SECRET_KEY", "production is on a cluster, to which rotate does not log in"),
    ],
)
def test_a_secret_that_is_stored_elsewhere(vps: Host, spec: Path, environment: str, name: str, message: str) -> None:
    done = on("rotate", environment, name, "--generate", "--yes", spec=spec)
    assert done.code == 2 and message in done.err
    assert vps.commands() == []


def test_a_database_is_found_on_the_server_of_its_environment(vps: Host) -> None:
    Host(vps.folder.parent / "far")
    assert on("rotate", "live", "shop_live", "--generate", "--yes", spec=TWO_SERVERS).code == 0
    assert Host(vps.folder.parent / "far").commands()[0][1:] == [
        *("password", "shop-live", "DATABASE_URL", "live-db", "shop_live", "SHOP_LIVE_PASSWORD")
    ]
