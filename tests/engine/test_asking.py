"""`preview` and `trace` before a server that really deployed: real commits, images, host's record."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kiwari_ci import generator
from tests.engine.images import Images
from tests.engine.person import person_who_logs_in
from tests.engine.server import TOKEN, UID, USER, Result, Server, files_checksum, generated, throw_away, without_waits
from tests.repository import Repository

SOURCES = {
    image.source.service: image.source
    for workflow in generator.load_spec(generated("specs/kiwari.yaml")).plan.workflows
    for image in workflow.images
}
KEYS = ("DATABASE_URL", "JWT_SECRET", "API_URL", "ORIGIN")
API = "https://api.nasibakarkiwari.com"


@dataclass
class World:
    """A server that serves, and a person with a clone, ssh, docker and its login."""

    server: Server
    images: Images
    repository: Repository
    home: Path
    digests: dict[str, str]

    def built(self, service: str, version: str) -> str:
        """What the service's workflow pushes for the newest commit: an image under the key of its source."""
        key = self.repository.read().key("HEAD", SOURCES[service].pathspecs)
        port = 8081 if service == "api" else 3000
        self.digests[version] = self.images.push(f"kiwari-{service}", version, port=port, tag=key)
        return key

    def deploy(self, stack: str, run: int, **versions: str) -> None:
        """A deploy of the newest commit, by a run of GitHub's: the version of each container."""
        number = int(self.repository.git("rev-list", "--count", "HEAD"))
        files = files_checksum(self.server.docker_folder / stack)
        images = [f"{container.replace('_', '-')}={self.digests[version]}" for container, version in versions.items()]
        done = self.server.key(f"deploy 1 {stack} {number} {files} {run} {' '.join(images)}")
        assert done.returncode == 0, done.stdout

    def put_back(self, state: "State") -> None:
        """Undoes what a test has done to the clone, to the records and to the container of production's API."""
        self.repository.git("reset", "-q", "--hard", state.commit)
        for path, text in state.files.items():
            path.write_text(text)
        if self.server.digest("pos-api") != self.digests["api-one"]:
            self.server.by_hand("cd docker/pos-production && docker compose up -d --no-deps pos-api", check=True)

    def asks(self, *words: str, ssh: str = f"{USER}@127.0.0.1") -> Result:
        """What the person sees."""
        environment = {
            "HOME": str(self.home),
            "PATH": f"{self.home}/bin:/usr/bin:/bin",
            "DOCKER_CONFIG": self.images.login,
        }
        command = [sys.executable, "-m", "kiwari_ci", *words, "--ssh", f"vps={ssh}"]
        program = self.server.near("env", "-C", str(self.repository.folder), *command)
        done = subprocess.run(program, capture_output=True, text=True, timeout=60, env=environment)
        assert done.returncode in (0, 1) and not done.stderr, done
        assert "never-to-be-seen" not in done.stdout and TOKEN not in done.stdout
        return done

    def lines(self, *words: str, **ways: str) -> dict[str, list[tuple[str, str]]]:
        """Title → each line as state and text."""
        report: dict[str, Any] = json.loads(self.asks(*words, "--format", "json", **ways).stdout)
        return {
            section["title"]: [(row["state"], row["text"]) for row in section["lines"]]
            for section in report["sections"]
        }


@dataclass(frozen=True)
class State:
    """What each test begins with: a commit, and the files that deploys have written on the server."""

    commit: str
    files: dict[Path, str]


@pytest.fixture
def world(served: World) -> Iterator[World]:
    """The world as it was when everything had been deployed; what a test does to it is undone."""
    written = [*served.server.docker_folder.glob("*/.deploys/pos-*")]
    written += served.server.docker_folder.glob("*/docker-compose.override.yml")
    written += served.server.docker_folder.glob("*/.env")
    state = State(served.repository.git("rev-parse", "HEAD"), {path: path.read_text() for path in written})
    try:
        yield served
    finally:
        served.put_back(state)


@pytest.fixture(scope="module")
def served(engine: None) -> Iterator[World]:
    """v1.0.0 is in production, the commit after it on staging."""
    with throw_away() as server:
        for stack in ("pos-staging", "pos-production"):
            file = server.docker_folder / stack / ".env"
            file.write_text("".join(f"{key}='never-to-be-seen'\n" for key in KEYS))
            file.chmod(0o600)
            without_waits(server.docker_folder / stack / "docker-compose.yml")
        server.run("chown", "-R", f"{UID}:{UID}", str(server.docker_folder))
        person = person_who_logs_in(server)
        world = World(server, Images(server), Repository(person.clone), person.home, {})
        world.repository.commit("feat: start", api__main="1", admin__page="1", api__migrations__1="a")
        world.repository.git("tag", "v1.0.0")
        for service in SOURCES:
            world.built(service, f"{service}-one")
        world.deploy("pos-staging", 11, pos_api_staging="api-one", pos_admin_staging="admin-one")
        world.deploy("pos-production", 12, pos_api="api-one", pos_admin="admin-one")
        world.repository.commit("docs: nothing that an image is made of", README="x")
        world.repository.commit("feat: two", api__main="2", api__migrations__2="b")
        world.built("api", "api-two")
        world.deploy("pos-staging", 13, pos_api_staging="api-two")
        yield world


def short(world: World, version: str) -> str:
    return world.digests[version][:19]


def test_a_tag_that_nothing_stops(world: World) -> None:
    done = world.asks("preview", "v1.1.0")
    print(done.stdout)
    assert done.returncode == 0 and "!" not in done.stdout and "?" not in done.stdout
    sections = world.lines("preview", "v1.1.0")
    assert [text for _, text in sections["commits"]][0] == "2 since v1.0.0"
    assert f"image {world.digests['api-two']}" in [text for _, text in sections["api"]]
    api, admin = ([text for _, text in sections[service]] for service in ("api", "admin"))
    proof = next(text for text in api if text.startswith("staging proved it: served since "))
    assert proof.endswith(", run 13; serves it")
    assert any(text.startswith(f"production runs {short(world, 'api-one')} since ") for text in api)
    assert any("as in v1.0.0: the same image" in text for text in admin)
    assert any(text.endswith("the same image") and text.startswith("production runs") for text in admin)
    migrations = [text for _, text in sections["migrations"]]
    assert migrations[0].startswith("1 new since what production runs (") and migrations[1:] == ["api/migrations/2"]
    assert [state for state, _ in sections["env files"]] == ["fact"]


def test_what_the_host_lacks_stops_it(world: World) -> None:
    file = world.server.docker_folder / "pos-production/.env"
    file.write_text(file.read_text().replace("JWT_SECRET", "JWT"))
    done = world.asks("preview", "v1.1.0")
    assert done.returncode == 1
    assert "! pos-production/.env: missing: JWT_SECRET" in done.stdout and "1 would stop it (!)" in done.stdout


def test_what_staging_never_proved_stops_it(world: World) -> None:
    """Not built; then built, and not yet served."""
    world.repository.commit("feat: three", api__main="3")
    done = world.asks("preview", "v1.1.0")
    assert done.returncode == 1 and "! api-ci built no image from this source, ghcr.io/" in done.stdout
    world.built("api", "api-three")
    done = world.asks("preview", "v1.1.0")
    assert done.returncode == 1 and f"image {world.digests['api-three']}" in done.stdout
    assert f"! staging never served {short(world, 'api-three')}" in done.stdout
    assert f"it serves {short(world, 'api-two')} since" in done.stdout
    refused = world.server.deploy("pos-api", world.digests["api-three"], 99)
    assert refused.returncode, "the host says the same"


def test_a_tag_that_is_taken_stops_it(world: World) -> None:
    """Somebody else's bytes are under that version; what the promotion would refuse, too."""
    world.images.push("kiwari-api", "another", tag="v1.2.0")
    done = world.asks("preview", "v1.2.0")
    assert done.returncode == 1 and "kiwari-api:v1.2.0 exists already as another image" in done.stdout


def test_where_what_serves_comes_from(world: World) -> None:
    commit = world.repository.git("rev-parse", "--short", "v1.0.0")
    key = world.repository.read().key("v1.0.0", SOURCES["api"].pathspecs)
    done = world.asks("trace", f"{API}/health?x=1")
    print(done.stdout)
    sections = {title: [text for _, text in rows] for title, rows in world.lines("trace", API).items()}
    assert done.returncode == 0 and "!" not in done.stdout and "?" not in done.stdout.partition("\n")[2]
    assert sections["place"] == [f"{API}/health → pos-api, production on vps"]
    assert sections["image"][0] == f"ghcr.io/iqbalmuhyiddin/kiwari-api@{world.digests['api-one']}"
    assert sections["image"][1].endswith("run https://github.com/iqbalmuhyiddin/kiwari-monorepo/actions/runs/12")
    number = world.repository.git("rev-list", "--count", "v1.0.0")
    assert (
        sections["source"][0].startswith(f"commit number {number}: {commit} ") and "(v1.0.0)" in sections["source"][0]
    )
    proof = "the image of exactly these files, if nobody else pushed that tag"
    assert sections["source"][1] == f"{key}, as the registry has it: {proof}"
    assert "that are not in it: 1" in "\n".join(sections["source"]) and "feat: two" in sections["source"][-1]
    assert sections["before it"] == ["nothing, as far as the record goes"]


def test_after_a_release_and_its_rollback(world: World) -> None:
    world.deploy("pos-production", 14, pos_api="api-two")
    output = world.asks("trace", "pos-api").stdout
    assert "actions/runs/14" in output and "not in it: 0" in output and f"{short(world, 'api-one')} " in output
    assert world.server.as_person("docker/bin/deploy rollback pos-production pos-api").returncode == 0
    output = world.asks("trace", API).stdout
    assert (
        "by hand, a rollback" in output and "(v1.0.0)" in output and "actions/runs" not in output.partition("source")[0]
    )
    assert "run 14" in output, "what was before it"


def test_somebody_runs_another_image(world: World) -> None:
    """What `trace` says of the record is not said of what runs."""
    other = f"ghcr.io/iqbalmuhyiddin/kiwari-api@{world.digests['api-two']}"
    server, running = world.server, world.server.image("pos-api")
    server.docker("rename", "pos-api", "aside")
    server.docker("create", "--name", "pos-api", other)
    try:
        done = world.asks("trace", API)
    finally:
        server.docker("rm", "pos-api")
        server.docker("rename", "aside", "pos-api")
    assert server.image("pos-api") == running
    assert f"! pos-api runs {other}, which is not what the record has" in done.stdout


def test_with_the_deploy_key_alone(world: World) -> None:
    """It may ask for the status only: what is pinned is known, the names of env keys are not."""
    with world.server.stack_file("pos-api", ".deploys/pos-api").open("a") as record:
        image = f"ghcr.io/iqbalmuhyiddin/kiwari-api@{world.digests['api-one']}"
        record.write(f"{image} 5 2026-01-01T00:00:00Z rollback\n")
    config = world.home / ".ssh/config"
    text = config.read_text()
    config.write_text(text.replace("keys/person", "keys/ci"))
    try:
        tracing, rolled = world.asks("trace", API.replace("api.", "stg-api.", 1)), world.asks("trace", API)
        planning = world.lines("preview", "v1.1.1")
    finally:
        config.write_text(text)
    assert world.digests["api-two"] in tracing.stdout and "feat: two" in tracing.stdout, tracing.stdout
    assert world.digests["api-one"] in rolled.stdout and "which does not say its commit" in rolled.stdout
    assert any("staging proved it" in words for _, words in planning["api"]), planning
    assert [state for state, _ in planning["env files"]] == ["not asked"], planning


def test_nobody_can_be_asked(world: World) -> None:
    """Each part says so, and the others answer."""
    done = world.asks("preview", "v1.1.1", ssh=f"{USER}@127.0.0.3")
    assert done.returncode == 0 and "2 since v1.0.0" in done.stdout and world.digests["api-two"] in done.stdout
    assert "? staging: vps: " in done.stdout and "? vps: " in done.stdout
    world.images.login, login = f"{world.home}/nobody", world.images.login
    try:
        done = world.asks("preview", "v1.1.1")
    finally:
        world.images.login = login
    assert "? image: the registry: " in done.stdout and "staging serves " in done.stdout, done.stdout
    assert os.path.isdir(login)
