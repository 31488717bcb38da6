"""The generated workflows, from a push and a tag to what the domains answer: each job's steps, unchanged."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine import front
from tests.engine.images import REGISTRY, Images
from tests.engine.runner import Ran, Runner
from tests.engine.server import GENERATED, KEY_STACKS, Server

DOCKERFILE = """FROM scratch
COPY {service}/app /app
ENV VERSION={version} BEHAVIOUR=answers PORT={port}
ENTRYPOINT ["/app"]
"""
SERVICES = {"api": 8081, "admin": 3000}


class Monorepo:
    """Kiwari's repository: two services, and the generated files."""

    def __init__(self, folder: Path, images: Images) -> None:
        self.folder = folder
        shutil.copytree(GENERATED, folder)
        self.git("init", "-q", "-b", "main")
        for service in SERVICES:
            (folder / service).mkdir()
            shutil.copy(images.context / "app", folder / service)
        (folder / "docker").mkdir()
        self.git("config", "user.name", "nobody")
        self.git("config", "user.email", "nobody@example.com")

    def git(self, *words: str) -> str:
        return subprocess.check_output(["git", "-C", self.folder, *words], text=True).strip()

    def commit(self, **versions: str) -> str:
        """A commit that gives services new versions, or only changes the README."""
        for service, version in versions.items():
            text = DOCKERFILE.format(service=service, version=version, port=SERVICES[service])
            (self.folder / f"docker/Dockerfile.{service}").write_text(text)
        with (self.folder / "README.md").open("a") as readme:
            readme.write("a line more\n")
        self.git("add", "--all")
        self.git("commit", "-q", "-m", "a change")
        return self.git("rev-parse", "HEAD")


@pytest.fixture(scope="module")
def monorepo(server: Server, images: Images) -> Monorepo:
    return Monorepo(server.folder / "monorepo", images)


@pytest.fixture(scope="module")
def runner(server: Server, images: Images, monorepo: Monorepo) -> Iterator[Runner]:
    """Everything that the tests before have deployed goes, with its records."""
    for container in server.containers():
        server.docker("rm", "-f", container)
    for stack in KEY_STACKS:
        shutil.rmtree(server.docker_folder / stack / ".deploys", ignore_errors=True)
    nginx = front.start(server, images)
    yield Runner(server, monorepo.folder)
    server.run("kill", (server.folder / "front.pid").read_text().strip())
    nginx.wait(timeout=10)


def ci(runner: Runner, service: str, ref: str = "main") -> tuple[Ran, Ran]:
    built = runner.job(f"{service}-ci", "build-and-push", ref)
    assert built.green, built.log
    return built, runner.job(f"{service}-ci", "deploy-staging", ref, {"build-and-push": built})


def release(runner: Runner, tag: str) -> list[Ran]:
    """The jobs of a promotion, up to the first red one."""
    needs: dict[str, Ran] = {}
    for job in ("promote-images", "deploy-production", "health-check"):
        needs[job] = runner.job("promote", job, tag, needs)
        if not needs[job].green:
            break
    return list(needs.values())


def answer(server: Server, url: str) -> str:
    return server.run("curl", "-sS", url, check=False).stdout


def digest(server: Server, images: Images, reference: str) -> str:
    body = f"docker --config {images.login} buildx imagetools inspect --raw {reference} | sha256sum | cut -c1-64"
    return "sha256:" + server.run("bash", "-c", body).stdout.strip()


def test_a_push_serves_on_staging(server: Server, runner: Runner, monorepo: Monorepo) -> None:
    commit = monorepo.commit(api="api-1", admin="admin-1")
    for service in SERVICES:
        built, deployed = ci(runner, service)
        assert deployed.green, deployed.log
        assert answer(server, f"https://stg-{service}.nasibakarkiwari.com/") == f"{service}-1"
        row = f"| pos-{service}-staging | nothing → {built.outputs['digest']} | {commit} |"
        assert row in deployed.summary


def test_a_tag_serves_the_same_bytes_in_production(
    server: Server, runner: Runner, monorepo: Monorepo, images: Images
) -> None:
    monorepo.git("tag", "v1.0.0")
    jobs = release(runner, "v1.0.0")
    assert jobs[-1].green and len(jobs) == 3, jobs[-1].log
    for service in SERVICES:
        assert answer(server, f"https://{service}.nasibakarkiwari.com/") == f"{service}-1"
        repository, pinned = f"{REGISTRY}/kiwari-{service}", server.pinned(f"pos-{service}")
        assert pinned == server.pinned(f"pos-{service}-staging")
        for tag in ("v1.0.0", "latest"):
            assert pinned == f"{repository}@{digest(server, images, f'{repository}:{tag}')}"


@pytest.mark.parametrize("tag", ["vfoo", "v1.0", "v1.0.0-rc.1", "v01.0.0"])
def test_a_tag_that_is_no_version_is_refused(runner: Runner, monorepo: Monorepo, tag: str) -> None:
    monorepo.git("tag", tag, "v1.0.0")
    (job,) = release(runner, tag)
    assert not job.green and f"{tag} is not vMAJOR.MINOR.PATCH" in job.log


def test_a_tag_of_a_branch_is_refused(runner: Runner, monorepo: Monorepo) -> None:
    monorepo.git("checkout", "-q", "-b", "side")
    monorepo.commit()
    monorepo.git("tag", "v1.1.0")
    monorepo.git("checkout", "-q", "main")
    (job,) = release(runner, "v1.1.0")
    assert not job.green and "v1.1.0 is not on main" in job.log


def test_a_tag_whose_image_was_not_built_is_refused_and_tags_nothing(
    server: Server, runner: Runner, monorepo: Monorepo, images: Images
) -> None:
    monorepo.commit(admin="admin-2")
    monorepo.git("tag", "v1.1.1")
    (job,) = release(runner, "v1.1.1")
    assert not job.green and "admin-ci built no image from this source" in job.log
    inspect = ("docker", "--config", images.login, "buildx", "imagetools", "inspect")
    for service in SERVICES:
        looked = server.run(*inspect, f"{REGISTRY}/kiwari-{service}:v1.1.1", check=False)
        assert looked.returncode and "not found" in looked.stderr


def test_an_outage_is_not_an_absent_image(server: Server, runner: Runner) -> None:
    outage = ("iptables", "-A", "OUTPUT", "-p", "tcp", "--dport", "443", "-j", "REJECT")
    runner.before_a_body = lambda: server.run(*outage)
    try:
        (job,) = release(runner, "v1.1.1")
    finally:
        runner.before_a_body = lambda: None
        server.run("iptables", "-F", "OUTPUT")
    assert not job.green and "no answer about ghcr.io/iqbalmuhyiddin/kiwari-api:src-" in job.log
    assert "connection refused" in job.log and "built no image" not in job.log


def test_an_image_that_staging_never_served_stays_out_of_production(server: Server, runner: Runner) -> None:
    assert runner.job("admin-ci", "build-and-push", "main").green
    jobs = release(runner, "v1.1.1")
    assert [job.green for job in jobs] == [True, False]
    assert "pos-staging/pos-admin-staging never served" in jobs[1].log
    assert answer(server, "https://admin.nasibakarkiwari.com/") == "admin-1"


def test_a_version_of_an_older_commit_does_not_get_latest(
    server: Server, runner: Runner, monorepo: Monorepo, images: Images
) -> None:
    monorepo.git("tag", "v1.0.5", "v1.0.0")
    later, newest = digest(server, images, f"{REGISTRY}/kiwari-admin:v1.1.1"), f"{REGISTRY}/kiwari-admin:latest"
    assert digest(server, images, newest) == later
    assert runner.job("promote", "promote-images", "v1.0.5").green
    assert digest(server, images, f"{REGISTRY}/kiwari-admin:v1.0.5") != later
    assert digest(server, images, newest) == later


def test_a_version_that_exists_with_other_bytes_is_refused(runner: Runner, monorepo: Monorepo) -> None:
    monorepo.git("tag", "--force", "v1.0.0", "main")
    (job,) = release(runner, "v1.0.0")
    assert not job.green and "kiwari-admin:v1.0.0 is there already with other bytes" in job.log


def test_a_failed_check_from_outside_says_what_serves(server: Server, runner: Runner) -> None:
    now = "sha256:" + 64 * "a"
    deployed = {"deploy-production": Ran(outputs={"api": f"/health {now}", "admin": f"/ {now}"})}
    runner.before_a_body = lambda: server.run("iptables", "-A", "OUTPUT", "-p", "tcp", "--dport", "443", "-j", "REJECT")
    try:
        job = runner.job("promote", "health-check", "main", deployed)
    finally:
        runner.before_a_body = lambda: None
        server.run("iptables", "-F", "OUTPUT")
    assert not job.green
    assert f"https://api.nasibakarkiwari.com/health does not answer 200, and {now} serves; to go back" in job.log
    assert "bin/deploy rollback pos-production pos-api" in job.log


def test_a_check_that_was_told_nothing_is_red(runner: Runner) -> None:
    job = runner.job("promote", "health-check", "main", {"deploy-production": Ran(outputs={"api": "", "admin": ""})})
    assert not job.green and "SERVED_API: parameter null or not set" in job.log


@pytest.mark.parametrize("path", ["deploy/pos-staging/docker-compose.yml", "README.md", ".git/HEAD", "admin/app"])
def test_a_dockerfile_that_copies_what_the_paths_miss_is_not_built(
    runner: Runner, monorepo: Monorepo, path: str
) -> None:
    (monorepo.folder / "docker/Dockerfile.api").write_text(f"FROM scratch\nCOPY {path} /\n")
    monorepo.commit()
    built = runner.job("api-ci", "build-and-push", "main")
    assert not built.green and re.search(r"failed to solve: .*(no such file or directory|not found)", built.log), (
        built.log
    )


def test_paths_that_match_no_file_are_refused(runner: Runner, monorepo: Monorepo) -> None:
    monorepo.git("rm", "-q", "-r", "admin")
    monorepo.git("commit", "-q", "-m", "the admin is gone")
    built = runner.job("admin-ci", "build-and-push", "main")
    assert not built.green and "the paths match no file" in built.log


@pytest.mark.parametrize("name", ["VPS_HOST", "VPS_USER", "VPS_SSH_KEY", "GHCR_TOKEN", "VPS_KNOWN_HOSTS"])
def test_a_secret_that_is_not_set_is_named(runner: Runner, name: str) -> None:
    kept = dict(runner.secrets), dict(runner.variables)
    runner.secrets.pop(name, None)
    runner.variables.pop(name, None)
    built = Ran(outputs={"digest": f"sha256:{'0' * 64}", "sequence": "1", "compose-staging": "0" * 64})
    try:
        deployed = runner.job("api-ci", "deploy-staging", "main", {"build-and-push": built})
    finally:
        runner.secrets, runner.variables = kept
    assert not deployed.green and f"{name}: parameter null or not set" in deployed.log
