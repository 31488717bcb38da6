"""A stack with a worker, a migration and one-shots, in two namespaces: what runs before the pods, and a promotion."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.cluster.checkout import FILLED, Checkout
from tests.cluster.clients import asking
from tests.cluster.conftest import Record, issue_certificates
from tests.cluster.figures import count
from tests.cluster.login import Login
from tests.cluster.production import Environment
from tests.engine.server import Result

STAGING = "staging.example.com"


@pytest.fixture(scope="module")
def checkout(parcels: Checkout, database: None) -> Checkout:
    """The repository, whose runbook was followed; PostgreSQL runs on the server."""
    parcels.settings["DATABASE_URL"] = f"postgres://parcels_staging:{quote(FILLED)}@postgres:5432/parcels_staging"
    parcels.follow_runbook()
    issue_certificates(parcels)
    parcels.world.images.push_one_shot("minio/mc:RELEASE.2025-08-13T08-35-41Z")
    return parcels


@pytest.fixture(scope="module")
def deployed(checkout: Checkout) -> Environment:
    """Staging, after its first deploy."""
    staging = Environment(checkout, "staging", "tariffs-ci.yml")
    digest = staging.push("web", "parcels-first")
    job = staging.deploy({"web": digest, "worker": digest, "tariffs": push_tariffs(staging, "tariffs-first")})
    assert job.code == 0, job.log
    assert "migrates the PostgreSQL at postgres:5432" in job.log
    return staging


def push_tariffs(environment: Environment, version: str, behaviour: str = "runs-once") -> str:
    """Pushes a version of what runs to its end, and returns its digest."""
    return environment.push("tariffs", version, behaviour)


@pytest.fixture
def staging(deployed: Environment) -> Iterator[Environment]:
    """Staging, in which all pods are ready."""
    deployed.settle()
    yield deployed


def test_a_migration_runs_before_the_pods(staging: Environment, record: Record) -> None:
    digest = staging.push("web", "parcels-migrated")
    with asking(staging.checkout.world, STAGING) as answers:
        job = staging.deploy({"web": digest, "worker": digest})
        serving = staging.settle()

    assert job.code == 0, job.log
    assert "migrates the PostgreSQL at postgres:5432" in job.log
    assert job.log.index("running parcels-web-staging-migrate") < job.log.index("rolling out parcels-web-staging ")
    assert job.log.index("running parcels-buckets") < job.log.index("rolling out parcels-web-staging ")
    assert serving == {"web": digest, "worker": digest}
    assert not answers.failed(), answers
    record(
        12,
        "a migration, then a good version with a worker, one replica",
        job.code,
        job.seconds,
        count(answers),
        "the new image",
    )


def test_a_migration_that_fails(staging: Environment, record: Record) -> None:
    before = staging.settle()
    digest = staging.push("web", "parcels-unmigrated", "migration-fails")
    with asking(staging.checkout.world, STAGING) as answers:
        job = staging.deploy({"web": digest, "worker": digest})

    assert job.code == 1, job.log
    assert "failed: exit code 3 (Error). No pod of the services was changed" in job.log
    assert staging.settle() == before
    assert not answers.failed(), answers
    record(13, "a migration that fails", job.code, job.seconds, count(answers), "the old image")


def test_a_one_shot_of_its_own_image_runs_before_the_pods(staging: Environment) -> None:
    """One that fails changes no pod, a good one runs before them, and one that is deployed alone runs again."""
    before, ran = staging.settle(), staging.jobs("tariffs")
    web = staging.push("web", "parcels-with-tariffs")
    bad = push_tariffs(staging, "tariffs-bad", "runs-once-and-fails")
    failed = staging.deploy({"web": web, "worker": web, "tariffs": bad})
    after_failure = staging.settle()
    good = push_tariffs(staging, "tariffs-good")
    done = staging.deploy({"web": web, "worker": web, "tariffs": good})
    served = staging.settle()
    alone = staging.deploy({"tariffs": good})

    assert failed.code == 1, failed.log
    assert "failed: exit code 7 (Error). No pod of the services was changed" in failed.log
    assert after_failure == before
    assert done.code == 0, done.log
    assert 'version tariffs-good runs once: ["import"]' in done.log
    assert done.log.index("tariffs-good runs once") < done.log.index("rolling out parcels-web-staging ")
    assert served == {"web": web, "worker": web}
    assert alone.code == 0, alone.log
    assert "rolling out" not in alone.log
    assert staging.settle() == served
    assert staging.jobs("tariffs") == [*ran, (bad, False), (good, True), (good, True)]


def test_production_takes_only_what_staging_served(staging: Environment, record: Record) -> None:
    production = Environment(staging.checkout, "production", "promote.yml")
    served = staging.settle()["web"]
    tariffs, _ = next(job for job in reversed(staging.jobs("tariffs")) if job[1])
    strange = production.push("web", "parcels-strange")
    refused = production.deploy({"web": strange, "worker": strange, "tariffs": tariffs})
    never_run = push_tariffs(production, "tariffs-strange")
    also_refused = production.deploy({"web": served, "worker": served, "tariffs": never_run})
    nothing = production.serving()
    promoted = production.deploy({"web": served, "worker": served, "tariffs": tariffs})

    assert refused.code == 65, refused.log
    assert "has never served" in refused.log
    assert also_refused.code == 65, also_refused.log
    assert f"parcels-staging/parcels-tariffs-staging has never served {never_run}" in also_refused.log
    assert nothing == {"web": set(), "worker": set()}
    assert promoted.code == 0, promoted.log
    assert production.settle() == {"web": served, "worker": served}
    assert production.jobs("tariffs") == [(tariffs, True)]
    record(
        14,
        "a promotion of an image that staging never served",
        refused.code,
        refused.seconds,
        "not asked",
        "what served before",
    )


def test_the_login_of_a_deploy_that_writes_secrets_also_reads_them(staging: Environment, tmp_path: Path) -> None:
    """Whoever may change a Secret gets the whole of it as the answer."""
    login = Login(staging, tmp_path)
    asked = login.kubectl("get", "secret", "parcels-web-staging-env")
    written = write_nothing(login, "parcels-web-staging-env")
    other = write_nothing(login, "registry")

    assert asked.returncode != 0
    assert base64.b64decode(written.stdout).decode() == FILLED
    assert other.returncode != 0


def write_nothing(login: Login, name: str) -> Result:
    """Writes a Secret without a value into the one that is there, which changes nothing."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}
    words = ("apply", "--server-side", "--field-manager=somebody", "-f", "-", "-o", "jsonpath={.data.SECRET_KEY}")
    return login.kubectl(*words, stdin=json.dumps(secret))


def test_a_secret_of_github_reaches_the_pods(staging: Environment) -> None:
    digest = staging.push("web", "parcels-shows", "shows-its-environment")
    job = staging.deploy({"web": digest, "worker": digest})
    with asking(staging.checkout.world, STAGING, "/SECRET_KEY") as answers:
        staging.settle()

    assert job.code == 0, job.log
    assert FILLED not in job.log
    assert answers.versions()[-1] == FILLED.split()[0]  # the client notes the first word of an answer
