"""One throw-away server for the tests of a file; a fixture brings it to the state that a test begins with."""

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.engine.images import REGISTRY, Images
from tests.engine.proxy import Proxy
from tests.engine.served import leave_served
from tests.engine.server import KEY_STACKS, PROGRAM, Result, Server, eventually, throw_away
from tests.engine.shop import shop  # noqa: F401 - a fixture for all

API, ADMIN = "pos-api-staging", "pos-admin-staging"
PARTS = ("dockerd", "docker-registry", "sshd", "nginx", "ip", "nsenter", "unshare", "curl", "go", "ssh-keygen")

# The files that take longest begin first, so that servers that work side by side end together.
BEGIN_FIRST = (
    "proxies",
    "doctor",
    "interrupted",
    "sets",
    "stacks",
    "accessories",
    "hooks",
    "sent",
    "asking",
    "first_hour",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the tests of these files before all others; each file keeps its order."""
    places = {f"test_{name}.py": place for place, name in enumerate(BEGIN_FIRST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


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
def clean(server: Server) -> None:
    """Nothing runs in the stacks and nothing ever did; their files are as the runbook leaves them."""
    empty(server)


@pytest.fixture
def api(server: Server, images: Images) -> None:
    """One version of the API serves in staging, the first and only one."""
    digest = images.api("one")
    if not serves_alone(server, API, digest):
        empty(server)
        bring_into_service(server, images, API, [digest])


@pytest.fixture
def admin(api: None, server: Server, images: Images) -> None:
    """The other service serves too."""
    bring_into_service(server, images, ADMIN, [images.admin("admin-one")])


@pytest.fixture
def versions(server: Server, images: Images) -> None:
    """Five versions have served, each newer than the one before; the last two of them are on the disk."""
    empty(server)
    bring_into_service(server, images, API, [images.api(f"version-{number}") for number in range(1, 6)])


@pytest.fixture
def production(api: None, server: Server, images: Images) -> None:
    """What staging serves was promoted."""
    bring_into_service(server, images, "pos-api", [images.api("one")])


def empty(server: Server) -> None:
    """Removes what earlier tests have left of the stacks: containers, files and records."""
    eventually(lambda: not server.locked(), 90, "the deploy of an earlier test has ended")
    if containers := server.containers() - {"proxy-manager"}:
        server.docker("rm", "-fv", *containers)
    for stack in KEY_STACKS:
        shutil.rmtree(server.docker_folder / stack)
    place_files(server)


def place_files(server: Server) -> None:
    """Places the program and the compose files; where no proxy is on trial, none is waited for."""
    shutil.copyfile(PROGRAM, server.docker_folder / "bin/deploy")
    for stack in KEY_STACKS:
        server.place_files(stack, name_cache="0", start_period="10")


def serves_alone(server: Server, service: str, digest: str) -> bool:
    """Whether the stacks are as `bring_into_service` leaves them: then they need not be made anew."""
    if server.locked() or server.containers() - {"proxy-manager"} != {service}:
        return False
    names = {path.name for path in server.stack_file(service, "").iterdir()}
    if names - {"log", ".deploys", ".deploy.lock", ".env", "docker-compose.yml", "docker-compose.override.yml"}:
        return False
    place_files(server)
    is_as_made = len(server.record(service)) == 1 and server.digest(service) == digest
    return is_as_made and server.pinned(service) == server.image(service) and server.serves(service) is not None


def bring_into_service(server: Server, images: Images, service: str, digests: list[str]) -> None:
    """Leaves what deploys of these images leave, the newest last."""
    name = "kiwari-admin" if "admin" in service else "kiwari-api"
    served = [(f"{REGISTRY}/{name}@{digest}", server.commit()) for digest in digests]
    leave_served(server, images, server.stack_file(service, ""), {service: served})


def succeeds(result: Result) -> None:
    """What a test builds on."""
    assert result.returncode == 0, result.stdout
