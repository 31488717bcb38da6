"""What is refused: with which exit code, which words, and nothing changed."""

import contextlib
import shlex
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.engine.images import Images
from tests.engine.server import TOKEN, Server, seen

API = "pos-api-staging"
pytestmark = pytest.mark.usefixtures("api")
DIGEST = "sha256:" + 64 * "0"
SHA = 64 * "a"


@pytest.mark.parametrize(
    "command",
    [
        "",
        "true",
        "bash -i",
        "deploy",
        f"deploy pos-staging {API} {DIGEST} 9 {SHA}",
        f"deploy pos-staging {API} {DIGEST} 9 {SHA} 1 more",
        f"deploy pos-staging {API} {DIGEST} 9 {SHA} 1; touch /tmp/injected",
        f"deploy pos-staging {API} {DIGEST} 9 {SHA} $(touch /tmp/injected)",
        f"deploy pos-staging {API} {DIGEST} 9 {SHA} `touch /tmp/injected`",
        f"deploy pos-staging {API} {DIGEST} 9 {SHA} 1\ntouch /tmp/injected",
        f"deploy pos-staging {API} {DIGEST} 9 {SHA} 1 | touch /tmp/injected",
        f"deploy pos-staging {API} {DIGEST} a[$(touch${{IFS}}/tmp/injected)] {SHA} 1",
        f"deploy pos-staging {API} {DIGEST} 007 {SHA} 1",
        f"deploy pos-staging {API} {DIGEST} -1 {SHA} 1",
        f"deploy pos-staging {API} {DIGEST.upper()} 9 {SHA} 1",
        f"deploy pos-staging {API} latest 9 {SHA} 1",
        f"deploy pos-staging --help {DIGEST} 9 {SHA} 1",
        f"deploy pos-staging ../../x {DIGEST} 9 {SHA} 1",
        f"deploy ../pos-staging {API} {DIGEST} 9 {SHA} 1",
        f"deploy pos-* {API} {DIGEST} 9 {SHA} 1",
        f"rollback pos-staging {API} sha256:12",
        f"rollback pos-staging {API} {DIGEST} --force",
        f"rollback pos-staging {API} x@{DIGEST}",
        "status ..",
        "status pos-staging pos-production",
        f"sudo rollback pos-staging {API}",
    ],
)
def test_words_that_are_not_the_words(server: Server, command: str) -> None:
    before = seen(server, API)

    result = server.key(command, token=None)

    assert result.returncode == 64, result.stdout
    assert "deploy: words that the head of bin/deploy does not list" in result.stdout
    assert server.run("find", "/tmp", "-maxdepth", "1", "-name", "injected").stdout == ""
    assert seen(server, API) == before


def test_a_person_is_told_on_stderr(server: Server) -> None:
    result = server.by_hand("docker/bin/deploy nonsense")

    words = "deploy: words that the head of bin/deploy does not list\n"
    assert (result.returncode, result.stdout, result.stderr) == (64, "", words)


def test_a_stack_that_is_not_on_the_server(server: Server) -> None:
    result = server.by_hand(f"docker/bin/deploy rollback pos-nowhere {API}")

    assert (result.returncode, result.stdout, result.stderr) == (64, "", "deploy: no stack 'pos-nowhere' here\n")


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (f"deploy pos-nowhere {API} {DIGEST} 9 {SHA} 1", "this key may not touch 'pos-nowhere'"),
        (f"deploy bin {API} {DIGEST} 9 {SHA} 1", "this key may not touch 'bin'"),
        (f"deploy pos-staging pos-cron-staging {DIGEST} 9 {SHA} 1", "no service 'pos-cron-staging' in: "),
        (f"deploy pos-staging pos-api {DIGEST} 9 {SHA} 1", "no service 'pos-api' in: "),
        (f"deploy pos-staging pos.api-staging {DIGEST} 9 {SHA} 1", "in: pos-a"),
        (f"deploy pos-staging pos.api-staging {DIGEST} 9 {SHA} 1", "-staging, pos-a"),
        ("status", "this key may not touch ''"),
    ],
)
def test_a_stack_or_a_service_that_is_not_there(server: Server, command: str, says: str) -> None:
    before = seen(server, API)

    result = server.key(command)

    assert (result.returncode, says in result.stdout) == (64, True), result.stdout
    assert seen(server, API) == before


def test_a_stack_that_this_key_may_not_touch(server: Server) -> None:
    allowed = server.key("status pos-staging", key="staging-only")
    refused = server.key("rollback pos-production pos-api", key="staging-only")

    assert (allowed.returncode, refused.returncode) == (0, 64)
    assert "this key may not touch 'pos-production'" in refused.stdout


def test_the_key_opens_nothing_else(server: Server) -> None:
    terminal = server.run(*server.ssh("-tt", "status pos-staging"), check=False)
    assert "PTY allocation request failed" in terminal.stderr

    remote = ("-o", "ExitOnForwardFailure=yes", "-R", "9999:127.0.0.1:80")
    forward = server.run(*server.ssh(*remote, "status pos-staging"), check=False)
    assert "remote port forwarding failed" in forward.stderr

    tunnel = server.run(*server.ssh("-W", "127.0.0.1:80", "")[:-1], check=False)
    assert "administratively prohibited" in tunnel.stderr

    sftp = server.key("/usr/lib/openssh/sftp-server", token=None)
    assert sftp.returncode == 64


def test_no_token(server: Server) -> None:
    before = seen(server, API)

    result = server.key(server.words(API, DIGEST, 99), token=None)

    assert result.returncode == 64, result.stdout
    assert "no registry token on stdin" in result.stdout
    assert seen(server, API) == before


def test_a_caller_who_cannot_be_heard(server: Server) -> None:
    result = server.by_hand(f"docker/bin/deploy {server.words(API, DIGEST, 99)} <&-")

    assert result.returncode == 64, result.stderr
    assert "no registry token on stdin" in result.stderr


def test_a_caller_who_says_nothing(server: Server) -> None:
    command = server.near(*server.ssh(server.words(API, DIGEST, 99)))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as client:
        assert client.wait(timeout=30) == 64


def test_a_caller_who_says_the_token_and_no_more_is_not_waited_for(server: Server) -> None:
    command = server.near(*server.ssh(server.words(API, DIGEST, 99)))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as client:
        assert client.stdin
        client.stdin.write(f"{TOKEN}\n")
        client.stdin.flush()
        assert client.wait(timeout=40) == 65


def test_a_token_that_a_person_types_is_not_shown(server: Server) -> None:
    """And what is typed after it is for somebody else."""
    typed = f"(sleep 2; printf '%s\\n' {shlex.quote(TOKEN)} more; sleep 2)"
    words = f"docker/bin/deploy {server.words(API, DIGEST, 99)}"

    result = server.by_hand(f"{typed} | script -qec {shlex.quote(words)} /dev/null")

    assert result.returncode == 65, result.stdout
    assert "could not pull" in result.stdout
    assert TOKEN not in result.stdout


def test_a_wrong_token(server: Server) -> None:
    before = seen(server, API)

    result = server.key(server.words(API, DIGEST, 99), token=TOKEN.upper())

    assert result.returncode == 77, result.stdout
    assert "ghcr.io refused the token: set a new one (runbook, step 5), run the job again: " in result.stdout
    assert "401 Unauthorized" in result.stdout
    assert TOKEN.upper() not in result.stdout
    assert "FAILED. Serving now: sha256:" in result.stdout
    assert seen(server, API) == before


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("labels:\n", "labels:\n      deploy.user: somebody-else\n", "ghcr.io refused the token"),
        ("image: ghcr.io/iqbalmuhyiddin/kiwari-api:", "image: example/kiwari-api:", "docker.io refused the token"),
    ],
)
def test_another_login_and_the_registry_without_a_host(server: Server, old: str, new: str, says: str) -> None:
    before, file = seen(server, API), server.stack_file(API, "docker-compose.yml")
    good = file.read_text()
    file.write_text(good.replace(old, new))
    try:
        result = server.key(server.words(API, DIGEST, 99))
    finally:
        file.write_text(good)

    assert result.returncode == 77, result.stdout
    assert says in result.stdout
    assert seen(server, API) == before


def test_a_digest_that_was_never_pushed(server: Server) -> None:
    before = seen(server, API)

    result = server.deploy(API, DIGEST, 99)

    assert result.returncode == 65, result.stdout
    engine, ours, now = result.stdout.splitlines()
    assert "manifest unknown" in engine
    assert ours == f"deploy: could not pull ghcr.io/iqbalmuhyiddin/kiwari-api@{DIGEST}"
    assert now.startswith("FAILED. Serving now: sha256:")
    assert seen(server, API) == before


def test_another_services_digest(server: Server, images: Images) -> None:
    before = seen(server, API)

    result = server.deploy(API, images.admin("admin"), 99)

    assert result.returncode == 65, result.stdout
    assert seen(server, API) == before


def test_a_compose_file_that_is_not_the_commits(server: Server) -> None:
    before = seen(server, API)

    result = server.key(server.words(API, DIGEST, 99, files=64 * "e"))

    assert result.returncode == 69, result.stdout
    copy = f"git archive HEAD deploy/pos-staging | ssh HOST tar -x --strip-components=1 -C {server.docker_folder}\n"
    assert copy in result.stdout
    assert seen(server, API) == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "grep: .env: No such file or directory"),
        ("A=1\nSECRET=change-me\n", "single quotes; mend it on the host, run the job again: .env:2:SECRET"),
        ("A=change-me\nB=change-me\n", "run the job again: .env:1:A .env:2:B"),
        ("URL='postgres://pos_stg:change-me@postgres/pos'\n", "run the job again: .env:1:URL"),
        ("SECRET=hidden$HOME\n", "run the job again: .env:1:SECRET"),
        ('SECRET="${hidden:?hidden}"\n', "pos-staging: docker compose config says what is wrong"),
        ("SECRET='a hidden\n", "pos-staging: docker compose config says what is wrong"),
        ("SECRET=it\n's hidden\n", "pos-staging: docker compose config says what is wrong"),
    ],
)
def test_an_env_file_that_is_not_ready(server: Server, text: str | None, says: str) -> None:
    before, file = seen(server, API), server.stack_file(API, ".env")
    good = file.read_text()
    try:
        file.unlink() if text is None else file.write_text(text)
        result = server.deploy(API, DIGEST, 99)
    finally:
        file.write_text(good)

    assert result.returncode == 69, result.stdout
    assert [line for line in result.stdout.splitlines() if line.endswith(says)], result.stdout
    assert "postgres://" not in result.stdout and "hidden" not in result.stdout
    assert seen(server, API) == before


def test_an_env_file_of_another_encoding_and_a_caller_of_another_locale(server: Server) -> None:
    """In UTF-8 no pattern matches such a byte: the line would be passed over."""
    file, words = server.stack_file(API, ".env"), server.words(API, DIGEST, 99)
    good = file.read_bytes()
    try:
        file.write_bytes(b"SECRET=\xfc change-me\n")
        result = server.as_person(f"env LANG=C.UTF-8 LC_ALL=C.UTF-8 docker/bin/deploy {words}")
    finally:
        file.write_bytes(good)

    assert result.returncode == 69, result.stdout
    assert "run the job again: .env:1:SECRET\n" in result.stdout


def test_a_network_that_is_not_there(server: Server) -> None:
    """The other stack has no container yet, so that its network can be named otherwise for a moment."""
    before, file = seen(server, API), server.docker_folder / "pos-production" / "docker-compose.yml"
    good = file.read_text()
    try:
        file.write_text(good.replace("external: true", "external: true\n    name: '0815'"))
        result = server.key(server.words("pos-api", DIGEST, 99))
    finally:
        file.write_text(good)

    assert result.returncode == 69, result.stdout
    assert "then run the job again: docker network create 0815\n" in result.stdout
    assert seen(server, API) == before


def test_an_override_file_of_somebody_elses(server: Server) -> None:
    before, file = seen(server, API), server.stack_file(API, "docker-compose.override.yml")
    ours, theirs = file.read_text(), "services: {}\n"
    try:
        file.write_text(theirs)
        result = server.deploy(API, DIGEST, 99)
        assert file.read_text() == theirs
    finally:
        file.write_text(ours)

    assert result.returncode == 69, result.stdout
    assert "move it away" in result.stdout
    assert seen(server, API) == before


@contextlib.contextmanager
def stand_in(server: Server, program: str, body: str) -> Iterator[None]:
    """In place of a program, one that says or does what that one would on another host; "$REAL" is the program."""
    script, real = server.folder / "stand-in", server.folder / "real"
    shutil.copy(program, real)
    script.write_text(f"#!/bin/sh\nREAL={real}\n{body}\n")
    script.chmod(0o755)
    server.run("mount", "--bind", str(script), program)
    try:
        yield
    finally:
        server.run("umount", program)


def compose(server: Server) -> str:
    """Where the compose plugin is."""
    form = '{{range .ClientInfo.Plugins}}{{if eq .Name "compose"}}{{.Path}}{{end}}{{end}}'
    return server.docker("info", "-f", form)


@pytest.mark.parametrize(("free", "code"), [(1499, 69), (1500, 65)])
def test_a_host_that_is_too_full(server: Server, free: int, code: int) -> None:
    before, asked = seen(server, API), f"-m --output=avail {server.folder}/data"

    with stand_in(server, "/usr/bin/df", f'[ "$*" = "{asked}" ] && echo Avail && echo {free} || echo 9999'):
        result = server.deploy(API, DIGEST, 99)

    assert result.returncode == code, result.stdout
    assert ("docker has under 1500 MB" in result.stdout) == (code == 69)
    assert seen(server, API) == before


def test_a_compose_that_is_too_old(server: Server) -> None:
    before = seen(server, API)
    metadata = """[ "$1" != docker-cli-plugin-metadata ] || exec echo '{"SchemaVersion":"0.1.0","Vendor":"test"}'"""
    version = '[ "$*" = "compose version --short" ] && echo v2.9.0 || echo Docker Compose version v2.9.0'

    with stand_in(server, compose(server), f"{metadata}\n{version}"):
        result = server.deploy(API, DIGEST, 99)

    assert result.returncode == 69, result.stdout
    assert "docker compose 2.20 is needed" in result.stdout
    assert seen(server, API) == before


def test_a_lock_that_never_comes_free(server: Server) -> None:
    """In place of ten minutes: a flock that is asked for them, and says no."""
    before = seen(server, API)

    with stand_in(server, "/usr/bin/flock", '[ "$*" != "-n 9" ] && [ "$*" != "-w 600 9" ]'):
        result = server.deploy(API, DIGEST, 99)

    assert result.returncode == 75, result.stdout
    assert "ten minutes, and no end" in result.stdout
    assert seen(server, API) == before


def place_of_the_token(server: Server) -> str:
    """The folder in memory that a deploy keeps its login in."""
    return f"/dev/shm/deploy{str(server.docker_folder).replace('/', '-')}"


def test_no_place_for_the_token(server: Server) -> None:
    folder = place_of_the_token(server)
    server.run("mkdir", folder)
    try:
        result = server.deploy(API, DIGEST, 99)
    finally:
        server.run("rmdir", folder)

    assert result.returncode == 77, result.stdout


def test_a_place_for_the_token_that_is_there_again_at_once(server: Server) -> None:
    """Whoever was faster could read what is put there."""
    folder = place_of_the_token(server)

    with stand_in(server, "/usr/bin/rm", f'"$REAL" "$@" && case " $* " in *" {folder} "*) mkdir {folder} ;; esac'):
        result = server.deploy(API, DIGEST, 99)
    server.run("rm", "-rf", folder)

    assert result.returncode == 77, result.stdout
