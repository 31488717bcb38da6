"""One cluster for all trials; each trial begins with what is healthy, whatever served before it."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster import figures
from tests.cluster.checkout import FILLED, Checkout, Job
from tests.cluster.cluster import PROGRAMS
from tests.cluster.figures import Figure
from tests.cluster.production import Environment
from tests.cluster.world import World, throw_away
from tests.engine.conftest import missing
from tests.engine.server import UID
from tests.rehearsal import stand_ins

SPECS = Path(__file__).parents[2] / "specs/examples"
FIGURES: list[Figure] = []
Record = Callable[..., None]


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """A cluster of three nodes, and a server beside it."""
    parts = missing() + ([] if (PROGRAMS / "kubelet").exists() else ["tests/cluster/install"])
    if parts:
        pytest.fail(
            f"these tests need {', '.join(parts)}: as root on Debian 12, run .ci/install-engine and make cluster-test"
        )
    with throw_away() as world:
        yield world


@pytest.fixture(scope="session")
def kiwari(world: World, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Kiwari's production, for which the runbook was followed; nothing is deployed yet."""
    checkout = Checkout(world, SPECS / "kiwari-cluster.yaml", tmp_path_factory.mktemp("kiwari"))
    checkout.follow_runbook()
    issue_certificates(checkout)
    return Environment(checkout, "production", "promote.yml")


@dataclass(frozen=True)
class FirstDeploy:
    """A deploy into an empty namespace: how it ended, what it asked for, and what served then, by service."""

    job: Job
    wanted: dict[str, str]
    served: dict[str, set[str]]


@pytest.fixture(scope="session")
def first_deploy(kiwari: Environment) -> FirstDeploy:
    """Kiwari's production is deployed for the first time."""
    wanted = {service: kiwari.push(service, f"{service}-first") for service in ("api", "admin")}
    job = kiwari.deploy(wanted)
    FIGURES.append(Figure(1, "the first deploy", str(job.code), str(job.seconds), "not asked", "the new images"))
    return FirstDeploy(job, wanted, kiwari.serving())


@pytest.fixture
def production(kiwari: Environment, first_deploy: FirstDeploy) -> Environment:
    """Kiwari's production, in which all pods are ready."""
    assert first_deploy.job.code == 0, first_deploy.job.log
    kiwari.settle()
    return kiwari


@pytest.fixture(scope="session")
def parcels(world: World, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The repository of the example with a worker, a migration and a one-shot."""
    return Checkout(world, SPECS / "parcels.yaml", tmp_path_factory.mktemp("parcels"))


@pytest.fixture(scope="session")
def database(parcels: Checkout) -> None:
    """PostgreSQL on the server, by the runbook's steps about it."""
    server = parcels.world.server
    (planned,) = parcels.plan.servers
    stand_ins.postgres(server, planned.image)
    folder = server.docker_folder / planned.name
    shutil.copytree(parcels.clone / f"deploy/{planned.name}", folder)
    (folder / ".env").write_text((folder / ".env.example").read_text().replace("=''", f"='{FILLED}'"))
    server.run("chown", "-R", f"{UID}:{UID}", str(folder))
    server.by_hand(f"cd docker/{planned.name} && docker compose up -d --wait", check=True)


@pytest.fixture
def record() -> Record:
    """Adds a row to the table of figures."""

    def add(*words: object) -> None:
        FIGURES.append(Figure(*words))  # type: ignore[arg-type]

    return add


def issue_certificates(checkout: Checkout) -> None:
    """What cert-manager does for an Ingress: it writes the certificate into the Secret that the Ingress names."""
    cluster = checkout.world.cluster
    files = (f"--cert={cluster.folder}/tls.crt", f"--key={cluster.folder}/tls.key")
    for stack in checkout.plan.cluster_stacks:
        routes = [route for container in stack.containers for route in container.routes]
        for domain in dict.fromkeys(route.domain for route in routes):
            cluster.kubectl("create", "secret", "tls", f"{domain}-tls", "-n", stack.name, *files)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Prints the table; a whole run in which nothing failed writes it into the page."""
    if not FIGURES:
        return
    print(f"\n\n{figures.write_table(FIGURES)}")
    if exitstatus == 0 and not session.config.option.keyword and session.config.args == ["tests/cluster"]:
        figures.write_page(FIGURES)
