"""Replicas behind one name, each deployed like any other container: no request of a person fails."""

import hashlib
from pathlib import Path

import pytest

from kiwari_ci import pipeline
from tests.engine.images import Images
from tests.engine.proxy import Proxy
from tests.engine.server import UID, Server

SPEC = """\
project: {name: cafe, repository: iqbalmuhyiddin/kiwari-monorepo}
hosts: {vps: {}}
services: {api: {image: kiwari-api, port: 8081, replicas: 2}}
environments: {live: {deploy_on: {push: main}}}
"""
REPLICAS = ("cafe-api-live", "cafe-api-live-2")


@pytest.fixture
def compose(server: Server, tmp_path: Path) -> str:
    """The stack, generated and copied to the host; the checksum of its compose file."""
    (tmp_path / "cafe.yaml").write_text(SPEC)
    text = pipeline.build(tmp_path / "cafe.yaml")[1]["deploy/cafe-live/docker-compose.yml"].text
    folder = server.docker_folder / "cafe-live"
    folder.mkdir()
    (folder / "docker-compose.yml").write_text(text)
    server.run("chown", "-R", f"{UID}:{UID}", str(folder))
    return hashlib.sha256(text.encode()).hexdigest()


def test_they_are_replaced_one_after_the_other(server: Server, images: Images, proxy: Proxy, compose: str) -> None:
    def deploy(digest: str, sequence: int, *containers: str) -> list[int]:
        words = f"{digest} {sequence} {compose} {sequence}"
        each = [server.as_person(f"docker/bin/deploy deploy cafe-live {name} {words}") for name in containers]
        return [result.returncode for result in each]

    one, two, bad = images.api("one"), images.api("two", "boots-slowly"), images.api("bad", "exits")
    assert deploy(one, 1, *REPLICAS) == [0, 0]
    with proxy.before(REPLICAS[0]), proxy.asked() as answers:
        assert deploy(two, 2, *REPLICAS) == [0, 0]
        assert deploy(bad, 3, *REPLICAS) == [1, 1]
    assert not answers.failed(), answers
    assert answers.versions() == ["one", "two"]
    assert [server.serves(name) for name in REPLICAS] == ["two", "two"]
    known = "{{range .NetworkSettings.Networks}}{{.Aliases}}{{end}}"
    assert REPLICAS[0] in server.docker("inspect", "-f", known, REPLICAS[1])
    for name in REPLICAS:
        server.docker("rm", "-fv", name)
