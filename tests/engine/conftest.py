"""One throw-away server for all tests of this folder: each test takes it as the one before has left it."""

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.engine.images import Images
from tests.engine.proxy import Proxy
from tests.engine.server import Server, throw_away

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
def server() -> Iterator[Server]:
    """A server with an engine of its own, ready for its first deploy."""
    if parts := missing():
        words = f"the engine tests need {', '.join(parts)}: as root on Debian 12, run .ci/install-engine"
        pytest.fail(words) if os.environ.get("CI") == "true" else pytest.skip(words)
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


@pytest.fixture(scope="session")
def api(server: Server, images: Images) -> None:
    """Something serves: what an earlier test has left, or a first version."""
    if "pos-api-staging" not in server.containers():
        result = server.deploy("pos-api-staging", images.api("one"), server.commit())
        assert result.returncode == 0, result.stdout
