"""The SSH client of the deploy job, with a stand-in for ssh that records what it gets and answers as told."""

import ast
import hashlib
import io
import json
import os
import signal
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kiwari_ci.engines.compose.deploy_programs import deploy_over_ssh
from tests import notices

PROGRAM = Path(deploy_over_ssh.__file__)
ONE, TWO, THREE = (f"sha256:{digit * 64}" for digit in "123")
COMPOSE = "# Generated\n# Files beside it: hooks/after conf/site.conf\nname: shop-live\n"
FILES = {"docker-compose.yml": COMPOSE, "hooks/after": "#!/bin/sh\n", "conf/site.conf": "listen 80;\n"}
SECRETS = {
    "SHOP_HOST": "server.example.com",
    "SHOP_USER": "deployer",
    "SHOP_SSH_KEY": "-----BEGIN KEY-----\nc2VjcmV0\n-----END KEY-----",
    "SHOP_KNOWN_HOSTS": "server.example.com ssh-ed25519 AAAAserver",
    "TOKEN": "token-of-the-registry",
}
JUMP_SECRETS = {
    "JUMP_HOST": "2001:db8::7",
    "JUMP_USER": "passer-by",
    "JUMP_KEY": "-----BEGIN JUMP KEY-----\nanVtcA\n-----END JUMP KEY-----",
    "JUMP_KNOWN_HOSTS": "2001:db8::7 ssh-ed25519 AAAAjump",
}
WORDS = ["--stack", "shop-live", "--sequence", "12", "--token", "TOKEN"]
WORDS += ["--address", "SHOP_HOST", "--user", "SHOP_USER", "--key", "SHOP_SSH_KEY", "--known-hosts", "SHOP_KNOWN_HOSTS"]
JUMP_WORDS = ["--jump-address", "JUMP_HOST", "--jump-user", "JUMP_USER", "--jump-key", "JUMP_KEY"]
JUMP_WORDS += ["--jump-known-hosts", "JUMP_KNOWN_HOSTS"]
UNCLEAR = "the host does not say what serves"

# Each call takes the next answer: {"lines": [...], "exit": N, "waits": seconds}.
SSH = """#!{python} -IS
import json, os, sys, time
folder = {folder!r}
number = len([name for name in os.listdir(folder) if name.startswith("call-")])
answer = json.load(open(folder + "/answers.json"))[number]
files = {{name: [open(name).read(), os.stat(name).st_mode & 0o777] for name in os.listdir(".")}}
call = {{
    "arguments": sys.argv[1:],
    "files": files,
    "folder": [os.getcwd(), os.stat(".").st_mode & 0o777],
    "environment": dict(os.environ),
}}
if not answer.get("deaf"):
    call["input"] = sys.stdin.buffer.read().decode("latin-1")
with open(folder + "/writing", "w") as file:
    json.dump(call, file)
os.rename(folder + "/writing", folder + "/call-" + str(number))
for line in answer["lines"]:
    sys.stdout.buffer.write(line.encode("latin-1") + b"\\n")
sys.stdout.flush()
sys.stderr.write(answer.get("ssh says", ""))
sys.stderr.flush()
time.sleep(answer.get("waits", 0))
sys.exit(answer["exit"])
"""


def row(service: str = "web", result: str = "serving", before: str | None = ONE, now: str | None = TWO) -> Any:
    return {"service": service, "result": result, "before": before, "now": now, "seconds": 24}


def verdict(result: str = "serving", exit_code: int = 0, services: Sequence[Any] = (), **others: Any) -> Any:
    document = {"protocol": 1, "result": result, "exit": exit_code, "stack": "shop-live", "seconds": 25, "message": ""}
    return {**document, "services": list(services) or [row()], **others}


def answer(document: Any, *lines: str, **others: Any) -> dict[str, Any]:
    """What the stand-in for ssh writes and how it exits."""
    return {"lines": [*lines, json.dumps(document)], "exit": document["exit"], **others}


@dataclass
class Job:
    """A step of a deploy job: a checkout, what GitHub gives it, and a server at the other end of ssh."""

    folder: Path
    capture: pytest.CaptureFixture[str]
    environment: dict[str, str] = field(default_factory=dict)
    log: str = ""

    def prepare(self) -> None:
        for name, text in FILES.items():
            path = self.folder / "checkout/deploy/shop-live" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (self.folder / "checkout/deploy/shop-live/hooks/after").chmod(0o755)
        for name in ("bin", "temporary", "calls"):
            (self.folder / name).mkdir()
        (self.folder / "bin/ssh").write_text(SSH.format(python=sys.executable, folder=str(self.folder / "calls")))
        (self.folder / "bin/ssh").chmod(0o755)
        (self.folder / "event.json").write_text(json.dumps({"repository": {"private": True}}))
        self.environment = {
            "PATH": str(self.folder / "bin"),
            "RUNNER_TEMP": str(self.folder / "temporary"),
            "GITHUB_RUN_ID": "4711",
            "GITHUB_SHA": "c" * 40,
            "GITHUB_OUTPUT": str(self.folder / "output"),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary"),
            "GITHUB_EVENT_NAME": "push",
            "GITHUB_EVENT_PATH": str(self.folder / "event.json"),
            "GITHUB_RUN_ATTEMPT": "1",
            **SECRETS,
        }

    def answers(self, *answers: Mapping[str, Any]) -> None:
        (self.folder / "calls/answers.json").write_text(json.dumps(answers))

    def run(self, *words: str, answers: Sequence[Mapping[str, Any]] = ()) -> int:
        self.answers(*answers)
        exit_code = deploy_over_ssh.main([*WORDS, *(words or [f"web={TWO}"])], self.environment)
        self.log = self.capture.readouterr().out
        return exit_code

    @property
    def calls(self) -> list[Any]:
        return [json.loads(path.read_text()) for path in sorted((self.folder / "calls").glob("call-*"))]

    def text(self, name: str) -> str:
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    @property
    def commands(self) -> list[str]:
        """What GitHub's runner obeys."""
        return [line for line in self.log.splitlines() if line.lstrip().startswith("::") or "##[" in line]


@pytest.fixture
def job(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Job:
    job = Job(tmp_path, capsys)
    job.prepare()
    monkeypatch.chdir(tmp_path / "checkout")
    return job


def files_sha256() -> str:
    lines = [f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n" for name, text in FILES.items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def unpacked(standard_input: str) -> tuple[str, dict[str, tuple[bytes, int]]]:
    """The token, and the files by name, of what ssh was sent; length and checksum are asserted."""
    token, head, content = standard_input.encode("latin-1").split(b"\n", 2)
    assert head.split() == [str(len(content)).encode(), hashlib.sha256(content).hexdigest().encode()]
    files = {}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None and member.isfile()
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
            files[member.name] = (file.read(), member.mode)
    return token.decode(), files


# ---- What the host is asked, and how


def test_the_request(job: Job) -> None:
    services = [row("web"), row("api", now=THREE)]
    assert job.run(f"web={TWO}", f"api={THREE}", answers=[answer(verdict(services=services))]) == 0
    (call,) = job.calls
    request = call["arguments"][call["arguments"].index("server") + 1 :]
    asked = ["deploy", "1", "shop-live", "12", files_sha256(), "4711", f"web={TWO}", f"api={THREE}"]
    assert request == asked
    # The header says that no files follow: a connection that breaks before it is told apart.
    nothing = hashlib.sha256(b"").hexdigest()
    assert call["input"] == f"token-of-the-registry\n0 {nothing}\n"


def test_a_stack_without_files_beside_it(job: Job) -> None:
    # The comment counts in the head only.
    text = "# Generated\nname: shop-live\n# Files beside it: nowhere\n"
    Path("deploy/shop-live/docker-compose.yml").write_text(text)
    assert job.run(answers=[answer(verdict())]) == 0
    line = f"{hashlib.sha256(text.encode()).hexdigest()}  docker-compose.yml\n"
    assert hashlib.sha256(line.encode()).hexdigest() in job.calls[0]["arguments"]


def test_the_folder_of_a_stack_may_have_another_name(job: Job) -> None:
    """Where two servers have a stack of one name, the repository has a folder for each."""
    Path("deploy/shop-live").rename("deploy/shop-far")
    assert job.run("--folder", "shop-far", f"web={TWO}", answers=[answer(verdict())]) == 0
    arguments = job.calls[0]["arguments"]
    assert "shop-live" in arguments and files_sha256() in arguments and "shop-far" not in arguments
    assert job.run("--folder", "../shop", f"web={TWO}") == 1
    assert job.commands[-1] == "::error::--folder '../shop' is not valid"


def test_the_configuration_of_ssh(job: Job) -> None:
    assert job.run("--port", "2222", f"web={TWO}", answers=[answer(verdict())]) == 0
    (call,) = job.calls
    assert call["arguments"][:2] == ["-F", "config"]
    config, mode = call["files"]["config"]
    assert mode == 0o600
    expected = {
        "Host server",
        "HostName server.example.com",
        "User deployer",
        "Port 2222",
        "IdentityFile server-key",
        "IdentitiesOnly yes",
        "BatchMode yes",
        "StrictHostKeyChecking yes",
        "UserKnownHostsFile server-known-hosts",
        "ServerAliveInterval 15",
    }
    assert expected <= set(config.splitlines())
    assert "Proxy" not in config
    assert call["files"]["server-key"] == [SECRETS["SHOP_SSH_KEY"] + "\n", 0o600]
    assert call["files"]["server-known-hosts"][0] == SECRETS["SHOP_KNOWN_HOSTS"] + "\n"
    assert call["folder"][1] == 0o700


def test_a_host_behind_another(job: Job) -> None:
    job.environment |= JUMP_SECRETS
    assert job.run(*JUMP_WORDS, "--jump-port", "2200", f"web={TWO}", answers=[answer(verdict())]) == 0
    (call,) = job.calls
    lines = call["files"]["config"][0].splitlines()
    blocks: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith("Host "):
            block = blocks.setdefault(line, [])
        else:
            block.append(line)
    assert set(blocks) == {"Host server", "Host jump"}
    assert {"HostName server.example.com", "Port 22", "ProxyJump jump"} <= set(blocks["Host server"])
    jump = {"HostName 2001:db8::7", "User passer-by", "Port 2200", "IdentityFile jump-key", "IdentitiesOnly yes"}
    jump |= {"BatchMode yes", "StrictHostKeyChecking yes", "UserKnownHostsFile jump-known-hosts"}
    assert jump <= set(blocks["Host jump"])
    assert not [line for line in blocks["Host jump"] if line.startswith("Proxy")]
    assert call["files"]["jump-key"] == [JUMP_SECRETS["JUMP_KEY"] + "\n", 0o600]
    assert call["files"]["jump-known-hosts"][0] == JUMP_SECRETS["JUMP_KNOWN_HOSTS"] + "\n"


def test_both_hops_may_have_one_login_and_one_key(job: Job) -> None:
    both_hosts = f"{SECRETS['SHOP_KNOWN_HOSTS']}\n{JUMP_SECRETS['JUMP_KNOWN_HOSTS']}"
    job.environment |= {"JUMP_HOST": "2001:db8::7", "SHOP_KNOWN_HOSTS": both_hosts}
    words = ["--jump-address", "JUMP_HOST", "--jump-user", "SHOP_USER", "--jump-key", "SHOP_SSH_KEY"]
    words += ["--jump-known-hosts", "SHOP_KNOWN_HOSTS"]
    assert job.run(*words, f"web={TWO}", answers=[answer(verdict())]) == 0
    [call] = job.calls
    assert call["files"]["jump-key"] == call["files"]["server-key"]
    assert call["files"]["jump-known-hosts"] == call["files"]["server-known-hosts"] == [f"{both_hosts}\n", 0o600]
    assert call["files"]["config"][0].count("User deployer") == 2


def test_a_program_connects_to_the_server_and_only_it_gets_its_secrets(job: Job) -> None:
    job.environment |= {"ACCESS_SECRET": "of the program", "PORT": "2222"}
    words = ["--proxy-command", "cloudflared access ssh --hostname %h", "--proxy-variable", "ACCESS_SECRET"]
    assert job.run(*words, "--port", "PORT", f"web={TWO}", answers=[answer(verdict())]) == 0
    [call] = job.calls
    config = call["files"]["config"][0]
    assert "Host server\nProxyCommand cloudflared access ssh --hostname %h\n" in config
    lines = set(config.split("\n"))
    assert {"Port 2222", "StrictHostKeyChecking yes", "UserKnownHostsFile server-known-hosts"} <= lines
    assert "of the program" not in config + " ".join(call["arguments"])
    assert call["environment"]["ACCESS_SECRET"] == "of the program"
    assert not {"SHOP_SSH_KEY", "TOKEN", "PORT"} & set(call["environment"])


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({}, "PORT and ACCESS_SECRET are not set"),
        ({"ACCESS_SECRET": "a", "PORT": "22\nUser root"}, "PORT is not a port"),
        ({"ACCESS_SECRET": "a", "PORT": "70000"}, "PORT is not a port"),
    ],
)
def test_settings_of_the_way_to_a_server_that_are_refused(job: Job, variables: dict[str, str], problem: str) -> None:
    job.environment |= variables
    words = ["--proxy-command", "nc %h %p", "--proxy-variable", "ACCESS_SECRET", "--port", "PORT"]
    assert job.run(*words, f"web={TWO}") == 1
    assert any(problem in command for command in job.commands)
    assert not job.calls


def test_a_key_from_a_form_in_a_browser(job: Job) -> None:
    job.environment["SHOP_SSH_KEY"] = "-----BEGIN-----\r\nkey\r\n-----END-----\r\n\r\n"
    assert job.run(answers=[answer(verdict())]) == 0
    # Line ends are read back as they are.
    assert job.calls[0]["files"]["server-key"][0] == "-----BEGIN-----\nkey\n-----END-----\n"


# ---- What is sent


def test_files_of_the_stack_are_sent(job: Job) -> None:
    assert job.run("--send-files", f"web={TWO}", answers=[answer(verdict())]) == 0
    token, files = unpacked(job.calls[0]["input"])
    assert token == "token-of-the-registry"
    expected = {name: (text.encode(), 0o755 if name == "hooks/after" else 0o644) for name, text in FILES.items()}
    assert files == expected
    assert list(files) == list(FILES)


def test_the_same_files_are_the_same_bytes(job: Job) -> None:
    answers = [answer(verdict()), answer(verdict())]
    job.run("--send-files", f"web={TWO}", answers=answers)
    for path in Path("deploy/shop-live").rglob("*"):
        os.utime(path, (1, 1))
    job.run("--send-files", f"web={TWO}", answers=answers)
    first, second = job.calls
    assert first["input"] == second["input"]


def test_env_files_are_rendered_and_sent(job: Job) -> None:
    job.environment |= {"PASSWORD": 'a "b" $c \\d e', "QUOTED": "it's"}
    words = ["--env", ".env", "PASSWORD", "PASSWORD", "--env-value", ".env", "JAVA_OPTS", "-Xmx512m"]
    words += ["--env", "api.env", "MOTTO", "QUOTED", "--env-value", ".env", "EMPTY", "", f"web={TWO}"]
    assert job.run(*words, answers=[answer(verdict())]) == 0
    _, files = unpacked(job.calls[0]["input"])
    assert set(files) == {".env", "api.env"}
    text, mode = files[".env"]
    head, *lines = text.decode().splitlines()
    assert head.startswith("# ")
    assert lines == ["PASSWORD='a \"b\" $c \\d e'", "JAVA_OPTS='-Xmx512m'", "EMPTY=''"]
    assert mode == 0o600
    assert files["api.env"][0].decode().splitlines()[1:] == ['MOTTO="it\'s"']
    assert files["api.env"][1] == 0o600
    # The checksum in the request is that of the commit's files, whatever else is sent.
    assert files_sha256() in job.calls[0]["arguments"]


@pytest.mark.parametrize(
    "value", ["two\nlines", "tab\there", "end\\", 'it\'s "it"', "it's $it", "it's \\ it", "del\x7f", "nel\x85"]
)
def test_values_that_an_env_file_cannot_hold(job: Job, value: str) -> None:
    job.environment |= {"FINE": "fine", "ODD": value}
    words = ["--env", ".env", "GOOD", "FINE", "--env", ".env", "BAD", "ODD", "--env-value", "a.env", "WORSE", value]
    assert job.run(*words, f"web={TWO}") == 1
    (command,) = job.commands
    assert command.startswith("::error::BAD, WORSE: an env file cannot hold")
    assert "base64" in command
    assert value not in job.log and "GOOD" not in job.log
    assert job.calls == []


def test_a_host_that_answers_before_it_has_read(job: Job) -> None:
    Path("deploy/shop-live/conf/site.conf").write_bytes(os.urandom(1024 * 1024))  # more than a pipe holds
    refusal = verdict("failed", 64, [row(result="not started", now=ONE)], message="this key may send no files")
    assert job.run("--send-files", f"web={TWO}", answers=[answer(refusal, deaf=True)]) == 64


def test_more_than_the_host_takes(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploy_over_ssh, "MOST_FILES", 2)
    assert job.run("--send-files", f"web={TWO}") == 1
    assert "more than the host takes" in job.log
    assert job.calls == []


# ---- What is refused before anything is asked


def test_missing_variables_are_all_named(job: Job) -> None:
    del job.environment["TOKEN"]
    job.environment["SHOP_SSH_KEY"] = ""
    assert job.run("--env", ".env", "KEY", "NOWHERE", f"web={TWO}") == 1
    assert job.commands == ["::error::SHOP_SSH_KEY, TOKEN and NOWHERE are not set: runbook, step 5"]
    assert job.calls == []


def test_a_missing_variable_is_named(job: Job) -> None:
    del job.environment["SHOP_SSH_KEY"]
    assert job.run() == 1
    assert job.commands == ["::error::SHOP_SSH_KEY is not set: runbook, step 5"]


@pytest.mark.parametrize("name", ["GITHUB_RUN_ID", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_SHA"])
def test_outside_of_github(job: Job, name: str) -> None:
    del job.environment[name]
    assert job.run() == 1
    assert job.commands == [f"::error::{name} not set: this program runs in a job of GitHub Actions"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SHOP_HOST", "server.example.com\nProxyCommand touch /tmp/x"),
        ("SHOP_HOST", "server example"),
        ("SHOP_HOST", "-oProxyCommand=x"),
        ("SHOP_HOST", "server.example.com\n"),
        ("SHOP_HOST", "%h"),
        ("SHOP_USER", "deployer two"),
        ("SHOP_USER", "user\nPermitLocalCommand yes"),
        ("SHOP_USER", "-x"),
        ("TOKEN", "token\nsecond"),
        ("TOKEN", "token\n"),
        ("JUMP_HOST", "jump\nUser root"),
        ("JUMP_USER", "x y"),
        ("SHOP_KNOWN_HOSTS", "server.example.com"),
        ("SHOP_KNOWN_HOSTS", "server.example.com ssh-ed25519 AAAA\nProxyCommand touch /tmp/x;y"),
        ("JUMP_KNOWN_HOSTS", "2001:db8::7 ssh-ed25519 AAAA\nHost *"),
        ("GITHUB_RUN_ID", "1; reboot"),
    ],
)
def test_values_that_would_say_something_else(job: Job, variable: str, value: str) -> None:
    job.environment |= {**JUMP_SECRETS, variable: value}
    assert job.run(*JUMP_WORDS, f"web={TWO}") == 1
    (command,) = job.commands
    assert command.startswith(f"::error::{variable} is not ")
    assert value not in job.log
    assert job.calls == []


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--stack", "../x", f"web={TWO}"], "--stack '../x' is not valid"),
        (["--stack", "-x", f"web={TWO}"], "--stack '-x' is not valid"),
        (["--sequence", "0", f"web={TWO}"], "--sequence '0' is not valid"),
        (["--sequence", "1000000000000", f"web={TWO}"], "--sequence '1000000000000' is not valid"),
        (["--port", "22 x", f"web={TWO}"], "--port '22 x' is not valid"),
        (["--port", "65536", f"web={TWO}"], "--port '65536' is not valid: a port is a number from 1 to 65535"),
        (["--proxy-command", "nc %h; id", f"web={TWO}"], "--proxy-command 'nc %25h; id' is not valid"),
        (["--proxy-command", "nc %h\nProxyJump b", f"web={TWO}"], "is not valid"),
        (["--proxy-command", "-h", f"web={TWO}"], "--proxy-command '-h' is not valid"),
        (["--proxy-command", "nc %h %p", *JUMP_WORDS, f"web={TWO}"], "cannot be used together"),
        (["--proxy-variable", "A=b", f"web={TWO}"], "--proxy-variable 'A=b' is not valid"),
        (["--token", "A B", f"web={TWO}"], "--token 'A B' is not valid"),
        (["--force", f"web={TWO}"], "--force is not an option"),
        ([f"web={TWO}", "--port"], "--port needs 1 word behind it"),
        ([f"web={TWO}", "--env", ".env", "A"], "--env needs 3 words behind it"),
        (["--put-back"], "there is nothing to deploy"),
        (["web=unchanged", "api=unchanged"], "there is nothing to deploy"),
        (["web="], "web: '' is not the digest of an image"),
        (["web=latest"], "web: 'latest' is not the digest of an image"),
        ([f"web={TWO};reboot"], "is not the digest of an image"),
        ([f"we$b={TWO}"], "'we$b' is not the name of a service"),
        ([f"web={TWO}", f"web={ONE}"], "web is on the command line more than once"),
        (["--jump-address", "JUMP_HOST", f"web={TWO}"], "--jump-user is missing"),
        (["--env-value", "../.env", "A", "b", f"web={TWO}"], "'../.env' is not the name of an env file"),
        (["--env-value", ".env", "A=1\nB", "b", f"web={TWO}"], "has a name that no variable can have"),
    ],
)
def test_command_lines_that_are_refused(job: Job, words: list[str], problem: str) -> None:
    assert job.run(*words) == 1
    assert job.commands and all(command.startswith("::error::") for command in job.commands)
    assert any(problem in command for command in job.commands)
    assert job.calls == []


def test_what_is_missing_on_the_command_line(job: Job) -> None:
    assert deploy_over_ssh.main([f"web={TWO}"], job.environment) == 1
    log = job.capture.readouterr().out
    for option in ("--stack", "--sequence", "--address", "--user", "--key", "--known-hosts", "--token"):
        assert f"::error::{option} is missing on the command line\n" in log


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "absent", "conf", "link"])
def test_files_that_are_not_of_the_stack(job: Job, name: str) -> None:
    Path("deploy/secret").write_text("x")
    Path("deploy/shop-live/link").symlink_to("hooks/after")
    Path("deploy/shop-live/docker-compose.yml").write_text(f"# Files beside it: {name}\nname: shop-live\n")
    assert job.run("--send-files", f"web={TWO}") == 1
    assert "is not a plain file of the checkout" in job.log
    assert job.calls == []


def test_a_checkout_without_the_stack(job: Job) -> None:
    assert job.run("--stack", "shop-test", f"web={TWO}") == 1
    assert job.commands == ["::error::deploy/shop-test/docker-compose.yml is not a plain file of the checkout"]


def test_a_runner_without_ssh(job: Job) -> None:
    (job.folder / "bin/ssh").unlink()
    assert job.run() == 1
    assert job.commands == ["::error::ssh: No such file or directory"]


# ---- What the host says


def test_it_serves(job: Job) -> None:
    services = [row("web", before=None), row("api", "unchanged", THREE, THREE)]
    words = [f"web={TWO}", f"api={THREE}"]
    assert job.run(*words, answers=[answer(verdict(services=services), "==> pulling", "| started")]) == 0
    assert job.log.splitlines()[:2] == ["==> pulling", "| started"]
    assert job.commands == []
    assert job.text("output") == ""
    assert job.text("summary").splitlines() == [
        "| Service | Image | Commit | Seconds | Result |",
        "| - | - | - | - | - |",
        f"| web | none → {TWO} | {'c' * 40} | 24 | serving |",
        f"| api | {THREE} → {THREE} | {'c' * 40} | 24 | unchanged |",
        "",
    ]


@pytest.mark.parametrize("exit_code", [1, 64, 65, 69, 75, 77])
def test_it_does_not_serve(job: Job, exit_code: int) -> None:
    failed = verdict("failed", exit_code, [row(result="failed", now=ONE)], message="100% broken\n::error::twice")
    assert job.run(answers=[answer(failed)]) == exit_code
    assert job.commands == ["::error::shop-live: 100%25 broken%0A::error::twice"]
    assert f"| web | {ONE} → {ONE} | {'c' * 40} | 24 | failed |" in job.text("summary")
    assert job.text("output") == ""


def test_it_fails_without_a_message(job: Job) -> None:
    assert job.run(answers=[answer(verdict("failed", 1, [row(result="failed", now=None)]))]) == 1
    assert job.commands == ["::error::shop-live: the deploy failed, and the host gives no reason"]


SUPERSEDED = verdict("superseded", 3, [row(result="superseded", before=THREE, now=THREE)], newest_sequence=14)


def test_a_service_without_a_new_image_is_not_in_the_request(job: Job) -> None:
    assert job.run(f"web={TWO}", "api=unchanged", answers=[answer(verdict())]) == 0
    [call] = job.calls
    request = call["arguments"][call["arguments"].index("server") + 1 :]
    assert request[6:] == [f"web={TWO}"]


def test_superseded(job: Job) -> None:
    assert job.run(answers=[answer(SUPERSEDED)]) == 0
    assert job.commands == [f"::notice::web: {notices.SUPERSEDED}; {THREE} serves"]
    assert job.text("output") == "superseded-by=14\n"
    assert f"| web | {THREE} → {THREE} | {'c' * 40} | 24 | superseded |" in job.text("summary")


def test_a_connection_that_breaks(job: Job) -> None:
    broken = {"lines": ["==> pulling"], "exit": 255, "ssh says": "Connection reset by peer\n"}
    assert job.run(answers=[broken]) == 1
    (command,) = job.commands
    assert command.startswith("::error::ssh could not connect, or the connection broke")
    assert UNCLEAR in command
    assert "Connection reset by peer" in job.log
    assert job.text("summary") == "" and job.text("output") == ""


def test_words_of_ssh_behind_the_result(job: Job) -> None:
    assert job.run(answers=[answer(verdict()) | {"ssh says": "Connection to server closed.\n"}]) == 0


def judge(document: Any, exit_code: int = 0) -> deploy_over_ssh.Result:
    """What a result line is taken for, behind a request for one service."""
    line = document if isinstance(document, str) else json.dumps(document)
    return deploy_over_ssh.read_result(deploy_over_ssh.Answer(exit_code, line), "shop-live", {"web": TWO})


def test_results_that_are_whole() -> None:
    """Each odd result below differs from one of these in one thing."""
    assert judge(verdict(), 0).result == "serving"
    assert judge(SUPERSEDED, 3).result == "superseded"
    assert judge(verdict("failed", 69, [], stack="", extra=1), 69).result == "failed"


def test_an_odd_result_is_no_verdict(job: Job) -> None:
    assert job.run(answers=[answer(verdict(services=[row(now=ONE)]))]) == 1
    (command,) = job.commands
    assert command.startswith(f"::error::{UNCLEAR}")
    assert job.text("summary") == "" and job.text("output") == ""


def changed(**changes: Any) -> Any:
    return verdict() | changes


def without(key: str) -> Any:
    return {name: value for name, value in verdict().items() if name != key}


@pytest.mark.parametrize(
    "document",
    [
        *(without(key) for key in ("protocol", "result", "exit", "stack", "message", "services")),
        changed(protocol=2),
        changed(protocol=True),
        changed(result="fine"),
        changed(result=["serving"]),
        changed(exit=False),
        changed(exit="0"),
        changed(stack="shop-test"),
        changed(message=None),
        changed(services={}),
        changed(services=[]),
        changed(services=["web"]),
        changed(services=[row(now=ONE)]),
        changed(services=[row(now=None)]),
        changed(services=[row(now="sha256:2")]),
        changed(services=[row(before=2)]),  # type: ignore[arg-type]
        changed(services=[row(result="failed")]),
        changed(services=[row(result="superseded")]),
        changed(services=[row(result="great")]),
        changed(services=[row(), row()]),
        changed(services=[row(), row("api")]),
        changed(services=[row("api")]),
        changed(services=[row() | {"seconds": "24"}]),
        changed(services=[row() | {"seconds": -1}]),
        changed(services=[row() | {"service": "| x"}]),
        changed(result="failed"),
        changed(result="superseded", newest_sequence=14),
    ],
)
def test_a_result_that_is_odd(document: Any) -> None:
    with pytest.raises(deploy_over_ssh.Refused, match=UNCLEAR):
        judge(document)


@pytest.mark.parametrize(
    "document",
    [
        {**SUPERSEDED, "newest_sequence": "14\nx=y"},
        {**SUPERSEDED, "newest_sequence": True},
        {**SUPERSEDED, "newest_sequence": 0},
        {name: value for name, value in SUPERSEDED.items() if name != "newest_sequence"},
        {**SUPERSEDED, "services": [row()]},
        {**SUPERSEDED, "services": []},
        {**SUPERSEDED, "result": "failed"},
        {**SUPERSEDED, "result": "serving"},
    ],
)
def test_a_superseded_result_that_is_odd(document: Any) -> None:
    with pytest.raises(deploy_over_ssh.Refused, match=UNCLEAR):
        judge(document, 3)


@pytest.mark.parametrize("exit_code", [0, 1, 3, 64])
def test_no_result(job: Job, exit_code: int) -> None:
    assert job.run(answers=[{"lines": ["==> done"], "exit": exit_code}]) == 1
    assert [UNCLEAR in command for command in job.commands] == [True]


@pytest.mark.parametrize("line", ["", "{", "{}", '{"a":' * 10000, "{\ufffd}", '{"protocol": ' + "1" * 5000 + "}"])
def test_a_line_that_is_no_result(line: str) -> None:
    with pytest.raises(deploy_over_ssh.Refused, match=UNCLEAR):
        judge(line)


@pytest.mark.parametrize("exit_code", [1, 3, 64, 130])
def test_a_result_that_the_exit_code_contradicts(exit_code: int) -> None:
    with pytest.raises(deploy_over_ssh.Refused, match=UNCLEAR):
        judge(verdict(), exit_code)


def test_the_last_result_counts(job: Job) -> None:
    failed = answer(verdict("failed", 1, [row(result="failed", now=ONE)]), json.dumps(verdict()))
    assert job.run(answers=[failed]) == 1


# ---- Going back to an older commit


def by_hand(job: Job) -> None:
    job.environment |= {"GITHUB_EVENT_NAME": "workflow_dispatch", "GITHUB_RUN_ATTEMPT": "1"}


def test_put_back(job: Job) -> None:
    by_hand(job)
    services = [row("web", "superseded", THREE, THREE), row("api", "superseded", ONE, ONE), row("job", now=TWO)]
    superseded = verdict("superseded", 3, services, newest_sequence=14)
    back = verdict(services=[row("web", "serving", THREE, TWO)])
    words = ["--put-back", f"web={TWO}", f"api={ONE}", f"job={TWO}"]
    assert job.run(*words, answers=[answer(superseded), answer(back)]) == 0
    _, rollback = job.calls
    request = rollback["arguments"][rollback["arguments"].index("server") + 1 :]
    assert request == ["rollback", "shop-live", "web", TWO]
    assert rollback["input"] == ""
    assert job.commands == ["::notice::web: a person chose an older commit, which is put back"]
    assert job.text("output") == ""
    summary = job.text("summary")
    assert f"| web | {THREE} → {TWO} | {'c' * 40} | 24 | put back |" in summary
    assert f"| api | {ONE} → {ONE} | {'c' * 40} | 24 | superseded |" in summary


def test_put_back_ends_with_the_first_that_fails(job: Job) -> None:
    by_hand(job)
    services = [row("web", "superseded", THREE, THREE), row("api", "superseded", THREE, THREE)]
    superseded = verdict("superseded", 3, services, newest_sequence=14)
    failed = verdict("failed", 65, [row("web", "failed", THREE, THREE)], message="the image is gone")
    words = ["--put-back", f"web={TWO}", f"api={TWO}"]
    assert job.run(*words, answers=[answer(superseded), answer(failed)]) == 65
    assert len(job.calls) == 2
    assert job.commands[-1] == "::error::shop-live: the image is gone"
    assert job.text("output") == ""
    assert f"| web | {THREE} → {THREE} | {'c' * 40} | 24 | failed |" in job.text("summary")


def test_put_back_that_nobody_knows_the_end_of(job: Job) -> None:
    by_hand(job)
    answers = [answer(SUPERSEDED), {"lines": [], "exit": 0}]
    assert job.run("--put-back", f"web={TWO}", answers=answers) == 1
    assert UNCLEAR in job.commands[-1]


@pytest.mark.parametrize(
    ("flags", "event", "attempt", "digest"),
    [
        ([], "workflow_dispatch", "1", TWO),
        (["--put-back"], "push", "1", TWO),
        (["--put-back"], "workflow_dispatch", "2", TWO),
        (["--put-back"], "workflow_dispatch", "1", THREE),  # the same image serves
    ],
)
def test_nothing_is_put_back(job: Job, flags: list[str], event: str, attempt: str, digest: str) -> None:
    job.environment |= {"GITHUB_EVENT_NAME": event, "GITHUB_RUN_ATTEMPT": attempt}
    assert job.run(*flags, f"web={digest}", answers=[answer(SUPERSEDED)]) == 0
    assert len(job.calls) == 1
    assert job.text("output") == "superseded-by=14\n"


# ---- The log, and secrets


@pytest.mark.parametrize(
    "line",
    [
        "::error::x",
        "  ::set-env name=A::b",
        "\t::add-mask::x",
        "ok\r::error::x",
        "\u200b::error::x".encode().decode("latin-1"),
        ":\u00ad:error::x".encode().decode("latin-1"),
        "\x00::error::x",
        "text ##[error]x",
        "###[error]x",
        "#\u200b#[error]x".encode().decode("latin-1"),
        "\xff::error::x",
    ],
)
def test_lines_that_github_would_obey(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    deploy_over_ssh.show_lines(io.BytesIO(line.encode("latin-1") + b"\n"))
    first = capsys.readouterr().out
    seen = "".join(character for character in first if " " <= character <= "~" or character in "\r\n")
    assert "error" in seen or "add-mask" in seen or "set-env" in seen
    assert not [
        printed_line
        for printed_line in seen.splitlines()
        if printed_line.lstrip().startswith("::") or "##[" in printed_line
    ]


def test_what_the_host_says_is_no_command(job: Job) -> None:
    assert job.run(answers=[answer(verdict(), "::error::x", "##[error]x")]) == 0
    assert job.commands == []


@pytest.mark.parametrize(
    ("event", "flags", "is_shown"),
    [
        ({"repository": {"private": True}}, [], True),
        ({"repository": {"private": False}}, [], False),
        ({"repository": {"private": False}}, ["--show-output"], True),
        ({"repository": {"private": "yes"}}, [], False),
        ({}, [], False),
        (None, [], False),
    ],
)
def test_output_of_containers_in_a_public_log(job: Job, event: Any, flags: list[str], is_shown: bool) -> None:
    (job.folder / "event.json").unlink()
    if event is not None:
        (job.folder / "event.json").write_text(json.dumps(event))
    lines = ["==> web does not answer", "| password=hunter2", "| and more", "==> web is stopped", "| later"]
    assert job.run(*flags, f"web={TWO}", answers=[answer(verdict(), *lines)]) == 0
    assert ("hunter2" in job.log and "later" in job.log) == is_shown
    assert ("hunter2" in job.log or "later" in job.log) == is_shown
    assert ("because everybody can read this log: 2." in job.log) != is_shown
    assert "==> web does not answer\n" in job.log and "==> web is stopped\n" in job.log


def test_other_lines_are_as_they_are(job: Job) -> None:
    lines = ["==> a::b", "", "  indented", "\x1b[32mgreen\x1b[0m", "# [x]", "tab\t::"]
    assert job.run(answers=[answer(verdict(), *lines)]) == 0
    assert job.log.split("\n")[: len(lines)] == lines


def test_a_long_line_is_cut(job: Job) -> None:
    line = "x" * (5 * deploy_over_ssh.LONGEST_LINE)
    assert job.run(answers=[answer(verdict(), line, "==> next")]) == 0
    first, second, *_ = job.log.splitlines()
    assert len(first) < deploy_over_ssh.LONGEST_LINE + 20 and first.endswith("x ... (cut)")
    assert second == "==> next"


def test_a_result_that_is_too_long(job: Job) -> None:
    assert job.run(answers=[answer(verdict(message="x" * deploy_over_ssh.LONGEST_LINE))]) == 1
    assert UNCLEAR in job.commands[0]


def test_cells_of_the_summary() -> None:
    assert deploy_over_ssh.escape_cell("a|b\nc <i>&`x` *y* [z](u)") == r"a\|b c &lt;i>&amp;\`x\` \*y\* \[z\](u)"


def test_a_commit_cannot_add_to_the_summary(job: Job) -> None:
    job.environment["GITHUB_SHA"] = "c | d\n# Heading"
    assert job.run(answers=[answer(verdict())]) == 0
    assert len(job.text("summary").splitlines()) == 4


SENTENCES = [
    [answer(verdict())],
    [answer(SUPERSEDED), answer(verdict(services=[row("web", before=THREE)]))],
    [answer(verdict("failed", 77, [row(result="failed", now=ONE)], message="the registry refused the token"))],
    [{"lines": [], "exit": 255}],
]


@pytest.mark.parametrize("answers", SENTENCES, ids=["serving", "put back", "failed", "broken"])
def test_secrets_are_nowhere(job: Job, answers: list[Any]) -> None:
    by_hand(job)
    job.environment |= {**JUMP_SECRETS, "PASSWORD": "correct-horse"}
    words = [*JUMP_WORDS, "--env", ".env", "PASSWORD", "PASSWORD", "--put-back", "--send-files", f"web={TWO}"]
    job.run(*words, answers=answers)
    secrets = {**SECRETS, **JUMP_SECRETS, "PASSWORD": "correct-horse"}
    assert len(job.calls) == len(answers)
    seen = [job.log, job.text("summary"), job.text("output")]
    seen += [" ".join(call["arguments"]) for call in job.calls]
    seen += [json.dumps(call["environment"]) for call in job.calls]
    for name, value in secrets.items():
        for line in value.splitlines():
            assert not [text for text in seen if line in text], name
    assert list((job.folder / "temporary").iterdir()) == []
    # Nothing that the checkout did not have is in it.
    assert sorted(str(path.relative_to("deploy/shop-live")) for path in Path("deploy").rglob("*.*")) == [
        "conf/site.conf",
        "docker-compose.yml",
    ]


def test_a_mask_of_the_machine_changes_nothing(job: Job) -> None:
    before = os.umask(0)
    try:
        assert job.run(answers=[answer(verdict())]) == 0
    finally:
        os.umask(before)
    assert {mode for _, mode in job.calls[0]["files"].values()} == {0o600}


# ---- The program as a process


def start(job: Job, answers: Sequence[Any]) -> "subprocess.Popen[bytes]":
    job.answers(*answers)
    words = [sys.executable, "-I", str(PROGRAM), *WORDS, f"web={TWO}"]
    return subprocess.Popen(words, env=job.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_as_a_process(job: Job) -> None:
    process = start(job, [answer(verdict("failed", 75, [row(result="not started", now=ONE)], message="locked"))])
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 75
    assert output.decode().endswith("::error::shop-live: locked\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_nothing(job: Job, number: signal.Signals) -> None:
    process = start(job, [answer(verdict(), waits=60)])
    until = time.monotonic() + 20
    while not job.calls:
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.01)
    folder = Path(job.calls[0]["folder"][0])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    process.send_signal(number)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert "`deploy cancel STACK` on the host ends it" in output.decode()
    assert list((job.folder / "temporary").iterdir()) == []


def test_how_the_program_begins() -> None:
    """Its second line is how a checkout's file is known as this program."""
    first, second, *_ = PROGRAM.read_text().splitlines()
    assert first == "#!/usr/bin/python3 -I"
    assert second.startswith('"""The kiwari-ci SSH client: ')
    assert ast.get_docstring(ast.parse(PROGRAM.read_text()))
