"""A stack with a worker, a migration and a one-shot, in two namespaces: what runs before the pods, and a promotion."""

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
    staging = Environment(checkout, "staging", "web-ci.yml")
    digest = staging.push("web", "parcels-first")
    job = staging.deploy({"web": digest, "worker": digest})
    assert job.code == 0, job.log
    assert "migrates the PostgreSQL at postgres:5432" in job.log
    return staging


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


def test_production_takes_only_what_staging_served(staging: Environment, record: Record) -> None:
    production = Environment(staging.checkout, "production", "promote.yml")
    served = staging.settle()["web"]
    strange = production.push("web", "parcels-strange")
    refused = production.deploy({"web": strange, "worker": strange})
    nothing = production.serving()
    promoted = production.deploy({"web": served, "worker": served})

    assert refused.code == 65, refused.log
    assert "has never served" in refused.log
    assert nothing == {"web": set(), "worker": set()}
    assert promoted.code == 0, promoted.log
    assert production.settle() == {"web": served, "worker": served}
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
