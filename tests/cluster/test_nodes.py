"""Nodes that are emptied, and one whose power goes."""

import time

from tests.cluster.checkout import Job
from tests.cluster.clients import asking
from tests.cluster.conftest import Record
from tests.cluster.figures import count
from tests.cluster.production import Environment
from tests.engine.server import eventually

API = "api.example.com"
LOST = 3  # the node that is lost; the client asks the Ingress controllers of the others


def nodes_of(production: Environment, service: str) -> set[str]:
    """The nodes on which pods of a service run."""
    (name,) = [instance.container for instance in production.stack.instances if instance.service == service]
    cluster = production.checkout.world.cluster
    pods = cluster.get(production.stack.name, "pods", "-l", f"app.kubernetes.io/name={name}")
    return {pod["spec"]["nodeName"] for pod in pods}


def test_an_administrator_empties_a_node(production: Environment, record: Record) -> None:
    cluster = production.checkout.world.cluster
    spread(production)
    began = time.monotonic()
    try:
        with asking(production.checkout.world, API) as answers:
            words = (f"node-{LOST}", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s")
            cluster.kubectl("drain", *words)
            seconds = round(time.monotonic() - began)
            production.settle()
    finally:
        cluster.kubectl("uncordon", f"node-{LOST}")

    assert f"node-{LOST}" not in nodes_of(production, "api")
    assert not answers.failed(), answers
    record(
        15,
        "an administrator empties a node (`kubectl drain`)",
        "not a deploy",
        seconds,
        count(answers),
        "the same image",
    )


def test_the_power_of_a_node_goes(production: Environment, record: Record) -> None:
    cluster = production.checkout.world.cluster
    spread(production)
    try:
        with asking(production.checkout.world, API) as answers:
            cluster.power_off(LOST)
            time.sleep(60)
    finally:
        cluster.power_on(LOST)
        eventually(lambda: cluster.is_ready(LOST), 120, "the node is ready again")
    production.settle()

    assert len(answers.failed()) <= len(answers) / 100, answers
    what = "a node loses its power; the first minute afterwards"
    record(16, what, "not a deploy", "60", count(answers), "the same image")


def test_the_api_server_is_away(production: Environment, record: Record) -> None:
    """It is stopped, and goes on later: what serves does not need it."""
    cluster = production.checkout.world.cluster
    with asking(production.checkout.world, API) as answers:
        cluster.run("pkill", "-STOP", "-x", "kube-apiserver")
        try:
            time.sleep(12)
        finally:
            cluster.run("pkill", "-CONT", "-x", "kube-apiserver")
    production.settle()

    assert not answers.failed(), answers
    record(17, "the API server is away for 12 seconds", "not a deploy", 12, count(answers), "the same image")


def spread(production: Environment) -> Job | None:
    """Puts a pod of the API on each node, which a deploy does."""
    before = production.settle()
    if len(nodes_of(production, "api")) == 3:
        return None
    job = production.deploy(before)
    assert job.code == 0, job.log
    production.settle()
    assert len(nodes_of(production, "api")) == 3
    return job
