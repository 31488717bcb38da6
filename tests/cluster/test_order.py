"""Deploys that meet, deploys that come late, and ways back: the newest commit serves, or what a person chose."""

import time

import pytest

from tests.cluster.clients import asking
from tests.cluster.conftest import Record
from tests.cluster.figures import count
from tests.cluster.production import Environment

API = "api.example.com"


@pytest.mark.parametrize(("order", "newer_begins"), [(8, False), (9, True)])
def test_two_deploys_at_once(production: Environment, record: Record, order: int, newer_begins: bool) -> None:
    before = production.settle()
    name = "first" if newer_begins else "last"
    older, newer = (
        {"api": production.push("api", f"api-{age}-{name}"), "admin": before["admin"]} for age in ("older", "newer")
    )
    number = production.checkout.sequence + 1
    production.checkout.sequence += 2
    requests = [(newer, number + 1), (older, number)] if newer_begins else [(older, number), (newer, number + 1)]
    with asking(production.checkout.world, API) as answers:
        running = []
        for digests, sequence in requests:
            running.append((sequence, production.start(digests, sequence)))
            time.sleep(4)
        jobs = {sequence: job.wait() for sequence, job in running}
        production.settle()

    assert production.settle() == newer
    assert jobs[number + 1].code == 0, jobs[number + 1].log
    assert jobs[number + 1].result["result"] == "serving"
    assert jobs[number].code == 0, jobs[number].log
    assert jobs[number].result["result"] == "superseded"
    assert f"superseded-by={number + 1}\n" in jobs[number].output
    assert not answers.failed(), answers
    first = "the newer commit" if newer_begins else "the older commit"
    seconds = " and ".join(str(jobs[sequence].seconds) for _, sequence in requests)
    record(
        order,
        f"two deploys at once, {first} begins",
        "0 and 0",
        seconds,
        count(answers),
        "the image of the newer commit",
    )


def test_an_older_commit_comes_late(production: Environment, record: Record) -> None:
    newest = {**production.settle(), "api": production.push("api", "api-newest")}
    deployed = production.deploy(newest)
    older = {**newest, "api": production.push("api", "api-late")}
    late = production.deploy(older, production.checkout.sequence - 1)

    assert deployed.code == 0, deployed.log
    assert (late.code, late.result["result"]) == (0, "superseded"), late.log
    assert f"superseded-by={production.checkout.sequence}\n" in late.output
    assert production.settle() == newest
    record(
        10, "an older commit comes late", "0, `SUPERSEDED`", late.seconds, "not asked", "the image of the newer commit"
    )


def test_two_rollbacks(production: Environment, record: Record) -> None:
    before = production.settle()
    versions = [before, *({**before, "api": production.push("api", f"api-back-{number}")} for number in (1, 2))]
    for digests in versions[1:]:
        assert production.deploy(digests).code == 0
    (api,) = [instance.container for instance in production.stack.instances if instance.service == "api"]
    with asking(production.checkout.world, API) as answers:
        once = production.checkout.rollout("rollback", production.stack.name, api)
        after_one = production.settle()
        twice = production.checkout.rollout("rollback", production.stack.name, api)
        after_two = production.settle()

    assert (once.code, twice.code) == (0, 0), once.log + twice.log
    assert (after_one, after_two) == (versions[1], versions[0])
    assert not answers.failed(), answers
    seconds = f"{once.seconds} and {twice.seconds}"
    record(
        11, "a rollback, and one more", "0 and 0", seconds, count(answers), "the image before, then the one before that"
    )
