"""One throw-away server for all tests of this folder: each test takes it as the one before has left it."""

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.engine.images import Images
from tests.engine.proxy import Proxy
from tests.engine.server import Result, Server, throw_away
from tests.engine.shop import shop  # noqa: F401 - a fixture for all

PARTS = ("dockerd", "docker-registry", "sshd", "nginx", "ip", "nsenter", "unshare", "curl", "go", "ssh-keygen")


def missing() -> list[str]:
    """What this machine lacks, by name."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    parts = [part for part in PARTS if not shutil.which(part, path=path)]
    for plugin in ("compose", "buildx"):
        if shutil.which("docker") and subprocess.run(["docker", plugin, "version"], capture_output=True).returncode:
            parts.append(f"docker {plugin}")
    return parts + ([] if os.geteuid() == 0 else ["root"])


@pytest.fixture(scope="session")
def engine() -> None:
    """An engine can run here: all that a test needs which starts a server of its own."""
    if parts := missing():
        words = f"the engine tests need {', '.join(parts)}: as root on Debian 12, run .ci/install-engine"
        pytest.fail(words) if os.environ.get("CI") == "true" else pytest.skip(words)


@pytest.fixture(scope="session")
def server(engine: None) -> Iterator[Server]:
    """A server with an engine of its own, ready for its first deploy."""
    with throw_away() as server:
        yield server


@pytest.fixture(scope="session")
def images(server: Server) -> Images:
    """Builds and pushes versions of the service."""
    return Images(server)


@pytest.fixture(scope="session")
def proxy(server: Server, images: Images) -> Proxy:
    """A proxy on the network that the services share with it."""
    return Proxy(server, images)


@pytest.fixture
def api(server: Server, images: Images) -> None:
    """Something serves: what an earlier test has left, or a first version."""
    if "pos-api-staging" not in server.containers():
        succeeds(server.deploy("pos-api-staging", images.api("one"), server.commit()))


@pytest.fixture
def admin(server: Server, images: Images) -> None:
    """The other service serves too."""
    if "pos-admin-staging" not in server.containers():
        succeeds(server.deploy("pos-admin-staging", images.admin("admin-one"), server.commit()))


@pytest.fixture
def versions(api: None, server: Server, images: Images) -> None:
    """Five versions have served, the newest does, after the one before it: the oldest is gone from the disk."""
    record = server.record("pos-api-staging")
    while len({line[0] for line in record if line[3] != "rollback"}) < 5 or "rollback" in {
        line[3] for line in record[-2:]
    }:
        succeeds(server.deploy("pos-api-staging", images.api(f"version-{len(record)}"), server.commit()))
        record = server.record("pos-api-staging")


@pytest.fixture
def production(api: None, server: Server) -> None:
    """What staging serves was promoted, if nothing was."""
    if "pos-api" not in server.containers():
        succeeds(server.deploy("pos-api", server.digest("pos-api-staging"), server.commit()))


def succeeds(result: Result) -> None:
    """What a test builds on."""
    assert result.returncode == 0, result.stdout
