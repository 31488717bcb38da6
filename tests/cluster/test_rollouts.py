"""Deploys to a real cluster, good and bad: what serves, what the job says, and whether a client noticed."""

import pytest

from tests.cluster.checkout import Job
from tests.cluster.clients import asking
from tests.cluster.conftest import FirstDeploy, Record
from tests.cluster.figures import count
from tests.cluster.production import Environment
from tests.engine.proxy import Answers

API = "api.example.com"


def deploy_while_asking(production: Environment, digests: dict[str, str]) -> tuple[Job, Answers]:
    """Deploys while a client asks, also for some seconds before and after it."""
    with asking(production.checkout.world, API) as answers:
        job = production.deploy(digests)
        production.settle()
    return job, answers


def test_the_first_deploy(first_deploy: FirstDeploy) -> None:
    assert first_deploy.job.code == 0, first_deploy.job.log
    assert first_deploy.served == {service: {digest} for service, digest in first_deploy.wanted.items()}


def test_a_good_version(production: Environment, record: Record) -> None:
    before = production.settle()
    wanted = {"api": production.push("api", "api-good"), "admin": before["admin"]}
    job, answers = deploy_while_asking(production, wanted)

    assert job.code == 0, job.log
    assert production.settle() == wanted
    assert answers.versions()[-1] == "api-good"
    assert not answers.failed(), answers
    record(2, "a good version, three replicas", job.code, job.seconds, count(answers), "the new image")


def test_a_version_that_answers_late(production: Environment, record: Record) -> None:
    wanted = {**production.settle(), "api": production.push("api", "api-late-answer", "boots-in-8s")}
    job, answers = deploy_while_asking(production, wanted)

    assert job.code == 0, job.log
    assert production.settle() == wanted
    assert not answers.failed(), answers
    record(
        3, "a version that answers 8 seconds after its start", job.code, job.seconds, count(answers), "the new image"
    )


@pytest.mark.parametrize(
    ("order", "trial", "behaviour"),
    [
        (4, "a version that exits at once", "exits"),
        (5, "a version that hangs", "hangs"),
        (6, "a version that answers 500", "answers-500"),
        (7, "a version that dies 20 seconds after its start", "dies-in-20s"),
    ],
)
def test_a_bad_version(production: Environment, record: Record, order: int, trial: str, behaviour: str) -> None:
    before = production.settle()
    bad = production.push("api", f"api-{behaviour}", behaviour)
    job, answers = deploy_while_asking(production, {"api": bad, "admin": before["admin"]})

    assert job.code == 1, job.log
    assert production.settle() == before
    assert not answers.failed(), answers
    assert "going back to" in job.log
    record(order, trial, job.code, job.seconds, count(answers), "the old image")
