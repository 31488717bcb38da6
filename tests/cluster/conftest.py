"""One cluster for all trials; each trial begins with what is healthy, whatever served before it."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster import figures
from tests.cluster.checkout import FILLED, Checkout, Job
from tests.cluster.cluster import PROGRAMS
from tests.cluster.figures import ComposeFigure, Figure
from tests.cluster.production import Environment
from tests.cluster.world import World, throw_away
from tests.engine.conftest import missing
from tests.engine.proxy import Proxy
from tests.engine.server import TOKEN, UID, USER
from tests.engine.shop import allow
from tests.rehearsal import stand_ins

SPECS = Path(__file__).parents[2] / "specs/examples"
FIGURES: list[Figure] = []
COMPOSE_FIGURES: list[ComposeFigure] = []
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


@pytest.fixture
def record_compose() -> Record:
    """Adds what a server with Docker Compose came to, to a row of that table."""

    def add(*words: object) -> None:
        COMPOSE_FIGURES.append(ComposeFigure(*words))  # type: ignore[arg-type]
        print(COMPOSE_FIGURES[-1], flush=True)  # a run of these trials alone has no row of the cluster to stand beside

    return add


@pytest.fixture(scope="session")
def proxy(world: World) -> Proxy:
    """A proxy on the server, on the network that its services share with it."""
    return Proxy(world.server, world.images)


def place_on_server(checkout: Checkout) -> None:
    """The runbook's steps about the server: files, env files and a deploy key."""
    server = checkout.world.server
    (host,) = [host for host in checkout.plan.hosts if host.name == "vps"]
    for key in host.keys:
        allow(server, key.secret, " ".join(key.words))
        checkout.settings[key.secret] = (server.folder / "keys" / key.secret).read_text()
    checkout.settings |= {
        host.address.name: "127.0.0.1",
        host.user.name: USER,
        host.known_hosts.name: (server.folder / "known_hosts").read_text(),
        "GHCR_TOKEN": TOKEN,
    }
    for name in ("bin", *(stack.name for stack in host.stacks)):
        shutil.copytree(checkout.clone / "deploy" / name, server.docker_folder / name, dirs_exist_ok=True)
    for example in server.docker_folder.glob("*/*.example"):
        example.with_suffix("").write_text(example.read_text().replace("change-me", FILLED))
    subprocess.run(["chown", "-R", f"{UID}:{UID}", server.docker_folder], check=True)


def issue_certificates(checkout: Checkout) -> None:
    """What cert-manager does for an Ingress: it writes the certificate into the Secret that the Ingress names."""
    cluster = checkout.world.cluster
    files = (f"--cert={cluster.folder}/tls.crt", f"--key={cluster.folder}/tls.key")
    for stack in checkout.plan.cluster_stacks:
        routes = [route for container in stack.containers for route in container.routes]
        for domain in dict.fromkeys(route.domain for route in routes):
            cluster.kubectl("create", "secret", "tls", f"{domain}-tls", "-n", stack.name, *files)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Prints the table; a whole run in which nothing failed writes it into the page, if no row is missing."""
    if not FIGURES and not COMPOSE_FIGURES:
        return
    print(f"\n\n{figures.write_table(FIGURES, COMPOSE_FIGURES)}")
    is_whole_run = not session.config.option.keyword and session.config.args == ["tests/cluster"]
    if exitstatus != 0 or not is_whole_run:
        return
    missing_rows = figures.list_missing_rows(FIGURES, COMPOSE_FIGURES)
    if missing_rows:
        pytest.exit(f"the table is not written: {', '.join(missing_rows)} was not measured once", returncode=1)
    figures.write_page(FIGURES, COMPOSE_FIGURES)
