"""A registry that has trouble: only one that refuses the login is a reason for a new token."""

import contextlib
from collections.abc import Iterator

import pytest

from tests.engine.server import BUSY_REGISTRY, DEAD_REGISTRY, Server, eventually, seen
from tests.engine.stand_ins import constants

API = "pos-api-staging"
DIGEST = "sha256:" + 64 * "0"
pytestmark = pytest.mark.usefixtures("api")

# Run on the machine: what comes to a registry's address gets this status for an answer, or none at all.
STAND_IN = """
import http.server, ssl, sys, threading, time

class Registry(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if sys.argv[2] == "hangs":
            time.sleep(600)
        self.send_response(int(sys.argv[2]))
        self.send_header("Content-Length", "0")
        self.end_headers()
    do_HEAD = do_GET

server = http.server.ThreadingHTTPServer(("127.0.0.2", 443), Registry)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1] + "/tls.crt", sys.argv[1] + "/tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
"""


@contextlib.contextmanager
def registry_that(server: Server, answer: str) -> Iterator[None]:
    """A registry that answers every request with that status, or hangs."""
    with server.beside("python3", "-c", STAND_IN, str(server.folder), answer):
        probe = "exec 3<>/dev/tcp/127.0.0.2/443"
        eventually(lambda: server.run("bash", "-c", probe, check=False).returncode == 0, 10, "it listens")
        yield


def pull_from(server: Server, registry: str) -> None:
    """Lets the compose file say that the service's image is kept in that registry."""
    file = server.stack_file(API, "docker-compose.yml")
    file.write_text(file.read_text().replace("image: ghcr.io/", f"image: {registry}/"))


@pytest.mark.parametrize("status", ["503", "429"])
def test_a_registry_that_cannot_at_the_moment_is_asked_again(server: Server, status: str) -> None:
    before = seen(server, API)
    pull_from(server, BUSY_REGISTRY)

    with constants(server, PULL_PAUSES="(1, 0)"), registry_that(server, status):
        result = server.deploy(API, DIGEST, 99)

    assert result.returncode == 69, result.stdout
    assert "==> the pull failed; the next attempt is in" in result.stdout
    assert "could not be pulled; the registry did not reject the token" in result.stdout
    assert status in result.stdout
    assert seen(server, API) == before


def test_a_registry_that_hangs_is_not_waited_for_for_ever(server: Server) -> None:
    before = seen(server, API)
    pull_from(server, BUSY_REGISTRY)

    with constants(server, PULL_PAUSES="(1, 0)", PULL_SECONDS="3"), registry_that(server, "hangs"):
        result = server.deploy(API, DIGEST, 99)

    assert result.returncode == 69, result.stdout
    assert "did not end within 3 seconds" in result.stdout
    assert seen(server, API) == before


def test_a_registry_that_is_not_there(server: Server) -> None:
    before = seen(server, API)
    pull_from(server, DEAD_REGISTRY)

    with constants(server, PULL_PAUSES="(1, 0)"):
        result = server.deploy(API, DIGEST, 99)

    assert result.returncode == 69, result.stdout
    assert "connection refused" in result.stdout
    assert seen(server, API) == before
