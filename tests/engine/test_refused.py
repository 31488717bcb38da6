"""What is refused through the restricted key or by a real engine: with which exit code, and nothing changed."""

import shlex

import pytest

from tests.engine.conftest import bring_into_service
from tests.engine.images import Images
from tests.engine.server import TOKEN, Server, eventually, outcome, seen
from tests.engine.stand_ins import constants

API = "pos-api-staging"
pytestmark = pytest.mark.usefixtures("api")
DIGEST = "sha256:" + 64 * "0"
SHA = 64 * "a"
IMAGE = f"{API}={DIGEST}"


def test_requests_that_the_key_may_not_make(server: Server) -> None:
    """The words come from ssh as they were typed: no shell reads them on the way, and no other program is run."""
    before = seen(server, API)
    for words in (
        "",
        "true",
        "bash -i",
        f"deploy 1 pos-staging 9 {SHA} 1 {IMAGE}; touch /tmp/injected",
        f"deploy 1 pos-staging 9 {SHA} 1 $(touch /tmp/injected)",
        f"deploy 1 pos-staging 9 {SHA} 1 {IMAGE}\ntouch /tmp/injected",
        f"deploy 1 ../pos-staging 9 {SHA} 1 {IMAGE}",
        f"deploy 1 pos-* 9 {SHA} 1 {IMAGE}",
        f"sudo rollback pos-staging {API}",
    ):
        result = server.key(words, token=None)

        assert result.returncode == 64, (words, result.stdout)
        assert "unknown request: the top of bin/deploy lists the requests" in result.stdout
    assert server.run("find", "/tmp", "-maxdepth", "1", "-name", "injected").stdout == ""
    assert seen(server, API) == before


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (f"deploy 1 pos-nowhere 9 {SHA} 1 {IMAGE}", "this key has no right to the stack 'pos-nowhere'"),
        (f"deploy 1 pos-staging 9 {SHA} 1 pos-api={DIGEST}", "there is no service 'pos-api' in: "),
        ("check bin", "this key has no right to the stack 'bin'"),
        ("cancel bin", "this key has no right to the stack 'bin'"),
        ("status", "name the stack: status STACK"),
    ],
)
def test_a_stack_or_a_service_that_the_key_does_not_have(server: Server, words: str, reason: str) -> None:
    before = seen(server, API)

    result = server.key(words)

    assert (result.returncode, reason in result.stdout) == (64, True), result.stdout
    assert seen(server, API) == before


def test_a_stack_of_another_key(server: Server) -> None:
    allowed = server.key("status pos-staging", key="staging-only")
    refused = server.key("rollback pos-production pos-api", key="staging-only")

    assert (allowed.returncode, refused.returncode) == (0, 64)
    assert "this key has no right to the stack 'pos-production'" in refused.stdout


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


def test_a_deploy_without_a_token(server: Server) -> None:
    before = seen(server, API)

    result = server.key(server.words(API, DIGEST, 99), token=None)

    assert result.returncode == 64, result.stdout
    assert "there is no registry token on standard input" in result.stdout
    assert seen(server, API) == before


def test_a_token_that_a_person_types_is_not_shown(server: Server) -> None:
    """And what is typed after it is for somebody else."""
    typed = f"(sleep 2; printf '%s\\n' {shlex.quote(TOKEN)} more; sleep 2)"
    words = f"docker/bin/deploy {server.words(API, DIGEST, 99)}"

    result = server.by_hand(f"{typed} | script -qec {shlex.quote(words)} /dev/null")

    assert result.returncode == 65, result.stdout
    assert "could not pull" in result.stdout
    assert TOKEN not in result.stdout


@pytest.mark.parametrize("user", ["x-access-token", "somebody-else"])
def test_a_login_that_the_registry_refuses(server: Server, user: str) -> None:
    """A wrong token, and the right one with another user's name, which the compose file may give."""
    server.place_files("pos-staging", name_cache="0", user=user)
    before, token = seen(server, API), TOKEN.upper() if user == "x-access-token" else TOKEN

    result = server.key(server.words(API, DIGEST, 99), token=token)

    assert result.returncode == 77, result.stdout
    assert "ghcr.io refused the token: set a new one (deploy/RUNBOOK.md, step 5) and run the job again" in result.stdout
    assert token not in result.stdout
    (service,) = outcome(result)["services"]
    assert service["now"] == before.record[-1][0].partition("@")[2]
    assert seen(server, API) == before


def test_a_digest_that_the_repository_does_not_have(server: Server, images: Images) -> None:
    """One that nobody pushed, and one of another service's image."""
    before = seen(server, API)
    for digest in (DIGEST, images.admin("admin")):
        result = server.deploy(API, digest, 99)

        assert result.returncode == 65, result.stdout
        assert f"deploy: could not pull ghcr.io/iqbalmuhyiddin/kiwari-api@{digest}: " in result.stdout
    assert seen(server, API) == before


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("SECRET=hidden$HOME", ".env:2: Compose reads another value for SECRET than the line shows"),
        ('SECRET="${hidden:?hidden}"', "Compose cannot read "),
        ("SECRET='a hidden", "Compose cannot read "),
        ("COMPOSE_FILE=evil.yml", ".env:2: COMPOSE_FILE is a setting of Compose or Docker itself"),
    ],
)
def test_an_env_file_that_compose_reads_otherwise(server: Server, line: str, reason: str) -> None:
    before, file = seen(server, API), server.stack_file(API, ".env")
    file.write_text(f"A=1\n{line}\n")

    result = server.deploy(API, DIGEST, 99)

    assert result.returncode == 69, result.stdout
    assert reason in result.stdout
    assert "hidden" not in result.stdout, "what Compose quotes of the file may be a password"
    assert seen(server, API) == before


def test_all_that_is_in_the_way_is_said_at_once(server: Server) -> None:
    """Another compose file, a network that is missing, a person's lines in the pins, another commit's files."""
    before, folder = seen(server, API), server.stack_file(API, "")
    evil = f"services: {{{API}: {{image: evil, container_name: {API}, volumes: ['/:/host']}}}}\n"
    (folder / "compose.yaml").write_text(evil)
    compose_file = folder / "docker-compose.yml"
    compose_file.write_text(compose_file.read_text().replace("external: true", "external: true\n    name: '0815'"))
    pins = folder / "docker-compose.override.yml"
    pins.write_text(pins.read_text() + "    mem_limit: 1g\n")
    written = pins.read_text()

    result = server.key(server.words(API, DIGEST, 99, files=SHA))

    assert result.returncode == 69, result.stdout
    for words in (
        f"Move it away: mv {folder}/compose.yaml {folder}/compose.yaml.before",
        "the network 0815 is missing. Create it: docker network create 0815",
        f"{pins} has lines that bin/deploy did not write",
        "differs from the commit's. Copy it and run the job again: git archive HEAD deploy/pos-staging | ssh HOST",
    ):
        assert words in result.stdout
    assert pins.read_text() == written
    after = seen(server, API)
    assert (after.serves, after.container, after.containers) == (before.serves, before.container, before.containers)


def test_other_compose_files_have_no_say_in_what_runs(server: Server, images: Images) -> None:
    """The way back does not wait until they are gone, and what it starts is not theirs."""
    folder = server.stack_file(API, "")
    bring_into_service(server, images, API, [images.api("one"), images.api("two")])
    evil = f"services: {{{API}: {{image: evil, container_name: {API}, volumes: ['/:/host'], user: '0:0'}}}}\n"
    (folder / "compose.yaml").write_text(evil)
    (folder / "evil.yml").write_text(evil)
    (folder / ".env").write_text("COMPOSE_FILE=evil.yml\nCOMPOSE_PROJECT_NAME=elsewhere\n")
    pins = folder / "docker-compose.override.yml"
    pins.write_text(pins.read_text() + "    volumes: ['/:/host']\n")
    written = pins.read_text()

    result = server.key(f"rollback pos-staging {API}", token=None)

    assert result.returncode == 0, result.stdout
    assert "note: " in result.stdout and "compose.yaml is in the way" in result.stdout
    assert server.serves(API) == "one"
    assert (folder / "docker-compose.override.yml.before").read_text() == written
    form = '{{index .Config.Labels "com.docker.compose.project"}} {{.HostConfig.Binds}} {{.Config.User}}'
    assert server.docker("inspect", "-f", form, API).split() == ["pos-staging", "[]"]


def test_check_through_the_key_changes_nothing(server: Server) -> None:
    before = seen(server, API)
    ready = server.key("check pos-staging", token=None)
    (server.stack_file(API, "compose.yaml")).write_text("services: {}\n")
    server.stack_file(API, ".env").write_text("SECRET=change-me\n")

    result = server.key("check pos-staging", token=None)

    assert (ready.returncode, ready.stdout) == (0, "pos-staging is ready for a deploy\n")
    assert result.returncode == 69, result.stdout
    assert "compose.yaml is in the way" in result.stdout
    assert "pos-staging/.env:1: SECRET still has change-me. Fill it in" in result.stdout
    assert seen(server, API) == before


LISTEN = "import socket, sys; held = socket.create_server(('127.0.0.1', int(sys.argv[1]))); sys.stdin.read()"


def test_a_port_that_a_program_of_the_server_holds(server: Server) -> None:
    """Not one on which Docker listens for a container that publishes it, which is named itself."""
    compose_file = server.stack_file(API, "docker-compose.yml")
    name = f"container_name: {API}"
    ports = "ports: ['9090:8080', '9091:8080']"
    compose_file.write_text(compose_file.read_text().replace(name, f"{name}\n    {ports}"))
    image = server.docker("inspect", "-f", "{{.Config.Image}}", API)
    server.docker("run", "-d", "--name", "other", "-p", "9091:8080", image)
    try:
        with server.beside("python3", "-c", LISTEN, "9090"):
            held = f"{API} publishes port 9090/tcp, on which a program listens that is not in a container"
            eventually(lambda: held in server.key("check pos-staging", token=None).stdout, 20, held)
            result = server.key("check pos-staging", token=None)
    finally:
        server.docker("rm", "-f", "other")

    assert result.returncode == 69
    assert f"{API} publishes port 9091, which other uses" in result.stdout
    assert "9091/tcp" not in result.stdout
    assert server.key("check pos-staging", token=None).returncode == 0


def test_a_lock_that_does_not_come_free(server: Server) -> None:
    before, lock = seen(server, API), server.stack_file(API, ".deploy.lock")
    server.by_hand(f"touch {lock}", check=True)

    with constants(server, LOCK_SECONDS="1"), server.beside("flock", str(lock), "cat"):
        result = server.deploy(API, DIGEST, 99)

    assert result.returncode == 75, result.stdout
    assert "To end that one safely: " in result.stdout and "bin/deploy cancel " in result.stdout
    assert seen(server, API) == before


def test_no_place_in_memory_for_the_token(server: Server) -> None:
    before = seen(server, API)
    server.run("mount", "-o", "remount,ro", "/dev/shm")
    try:
        result = server.deploy(API, DIGEST, 99)
    finally:
        server.run("mount", "-o", "remount,rw", "/dev/shm")

    assert result.returncode == 69, result.stdout
    assert "the token cannot be written to memory, in /dev/shm" in result.stdout
    assert seen(server, API) == before
