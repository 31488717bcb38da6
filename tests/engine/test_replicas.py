"""Replicas behind one name, which a deploy replaces one after the other: no request of a person fails."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kiwari_ci import generator
from tests.engine.images import Images
from tests.engine.proxy import Proxy
from tests.engine.server import UID, Result, Server, files_checksum

SPEC = """\
project: {name: cafe, repository: iqbalmuhyiddin/kiwari-monorepo}
hosts: {vps: {}}
services: {api: {image: kiwari-api, port: 8081, replicas: 2}}
environments: {live: {deploy_on: {push: main}}}
"""
STACK, REPLICAS = "cafe-live", ("cafe-api-live", "cafe-api-live-2")


@pytest.fixture
def stack(server: Server, tmp_path: Path) -> Iterator[Path]:
    """The stack's folder on the host, as it is generated; it was never deployed."""
    remove(server)
    (tmp_path / "cafe.yaml").write_text(SPEC)
    _, files = generator.generate_files(tmp_path / "cafe.yaml")
    folder = server.docker_folder / STACK
    folder.mkdir()
    text = files[f"deploy/{STACK}/docker-compose.yml"].text
    # The proxy of this test keeps a name for a second; what those of real servers keep is tried in test_proxies.py.
    (folder / "docker-compose.yml").write_text(text.replace('name-cache: "11"', 'name-cache: "2"'))
    server.run("chown", "-R", f"{UID}:{UID}", str(folder))
    yield folder
    remove(server)


def remove(server: Server) -> None:
    """Removes what a test has left of the stack."""
    server.docker("rm", "-fv", *REPLICAS, *(f"{name}-next" for name in REPLICAS), check=False)
    server.run("rm", "-rf", str(server.docker_folder / STACK))


def deploy(server: Server, stack: Path, digest: str, sequence: int) -> Result:
    """Deploys all replicas in one request, as the workflow does."""
    images = " ".join(f"{name}={digest}" for name in REPLICAS)
    return server.as_person(
        f"docker/bin/deploy deploy 1 {STACK} {sequence} {files_checksum(stack)} {sequence} {images}"
    )


def test_they_are_replaced_without_a_failed_request(server: Server, images: Images, proxy: Proxy, stack: Path) -> None:
    one, two, bad = images.api("one"), images.api("two", "boots-slowly"), images.api("bad", "exits")
    first = deploy(server, stack, one, 1)
    assert first.returncode == 0, first.stdout

    with proxy.before(REPLICAS[0], keeps=1), proxy.asked() as answers:
        good = deploy(server, stack, two, 2)
        failing = deploy(server, stack, bad, 3)

    assert (good.returncode, failing.returncode) == (0, 1), good.stdout + failing.stdout
    assert not answers.failed(), answers
    assert answers.versions() == ["one", "two"]
    assert [server.serves(name) for name in REPLICAS] == ["two", "two"]
    form = "{{range .NetworkSettings.Networks}}{{.Aliases}}{{end}}"
    assert REPLICAS[0] in server.docker("inspect", "-f", form, REPLICAS[1]), "the proxy finds both by one name"
