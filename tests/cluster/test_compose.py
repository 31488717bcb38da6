"""The same trials on a server with Docker Compose, by the same pipeline: the other columns of the table."""

import time
from collections.abc import Iterator

import pytest

from tests.cluster.checkout import Checkout, Job, read_result
from tests.cluster.conftest import SPECS, Record, place_on_server
from tests.cluster.figures import count
from tests.cluster.test_move import CLUSTER
from tests.cluster.world import World
from tests.engine.proxy import Answers, Proxy

API = "plain-api-staging"
STACK = "pos-plain"
LASTS = 30  # seconds after a deploy in which the client goes on, so that a version that dies late is seen


class Plain:
    """Kiwari's staging on the server, and a client that asks its API through a proxy."""

    def __init__(self, checkout: Checkout, proxy: Proxy) -> None:
        self.checkout, self.proxy = checkout, proxy
        self.server = checkout.world.server
        self.images = checkout.world.images
        self.bad: set[str] = set()  # digests of versions that no other test may begin with

    def push(self, version: str, behaviour: str = "answers") -> str:
        """Pushes a version of the API, and returns its digest."""
        return self.images.push("kiwari-api", version, behaviour)

    def push_bad(self, behaviour: str) -> str:
        """Pushes a version that does not serve, or not for long."""
        digest = self.push(f"bad-{behaviour}", behaviour)
        self.bad.add(digest)
        return digest

    def deploy(self, digest: str, sequence: int = 0) -> Job:
        """Deploys the API, as its workflow does, and waits."""
        return self.checkout.deploy("api-ci.yml", "staging", {"api": digest}, sequence)

    def deploy_while_asking(self, digest: str, lasts: float = 0) -> tuple[Job, Answers]:
        """Deploys while a client asks, 20 times a second, each time anew."""
        with self.proxy.before(API), self.proxy.asked() as answers:
            job = self.deploy(digest)
            time.sleep(lasts)
        return job, answers


@pytest.fixture(scope="module")
def checkout(world: World, database: None, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Kiwari's example without the cluster, with names of its own."""
    text = (SPECS / "kiwari-cluster.yaml").read_text()
    for old, new in {
        CLUSTER: "",
        "    address: 10.0.0.2 # of the server on the private network, where the cluster reaches it\n": "",
        "project: {name: kiwari,": "project: {name: plain,",
        "    host: cluster": "    host: vps",
        "stack: pos-staging": f"stack: {STACK}",
        "stack: pos-production": "stack: pos-plain-production",
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    folder = tmp_path_factory.mktemp("plain")
    (folder / "kiwari.yaml").write_text(text)
    checkout = Checkout(world, folder / "kiwari.yaml", folder / "repository")
    place_on_server(checkout)
    return checkout


@pytest.fixture(scope="module")
def first(checkout: Checkout, proxy: Proxy) -> tuple[Plain, Job]:
    """The first deploy of the API."""
    plain = Plain(checkout, proxy)
    return plain, plain.deploy(plain.push("plain-first"))


@pytest.fixture
def plain(first: tuple[Plain, Job]) -> Iterator[Plain]:
    """The API serves; a test that leaves a bad version is followed by a good one."""
    plain, job = first
    assert job.code == 0, job.log
    yield plain
    if plain.server.digest(API) in plain.bad:
        again = plain.deploy(plain.push(f"plain-again-{plain.checkout.sequence}"))
        assert again.code == 0, again.log


def test_the_first_deploy(first: tuple[Plain, Job], record_compose: Record) -> None:
    _, job = first
    assert job.code == 0, job.log
    record_compose(1, job.code, job.seconds, "not asked")


@pytest.mark.parametrize(("order", "behaviour"), [(2, "answers"), (3, "boots-in-8s")])
def test_a_good_version(plain: Plain, record_compose: Record, order: int, behaviour: str) -> None:
    digest = plain.push(f"plain-{behaviour}", behaviour)
    job, answers = plain.deploy_while_asking(digest)

    assert job.code == 0, job.log
    assert plain.server.digest(API) == digest
    assert not answers.failed(), answers
    record_compose(order, job.code, job.seconds, count(answers))


@pytest.mark.parametrize(("order", "behaviour"), [(4, "exits"), (5, "hangs"), (6, "answers-500")])
def test_a_bad_version(plain: Plain, record_compose: Record, order: int, behaviour: str) -> None:
    before = plain.server.digest(API)
    job, answers = plain.deploy_while_asking(plain.push_bad(behaviour))

    assert job.code == 1, job.log
    assert plain.server.digest(API) == before
    assert not answers.failed(), answers
    record_compose(order, job.code, job.seconds, count(answers))


def test_a_version_that_dies_late(plain: Plain, record_compose: Record) -> None:
    """Of one container, nobody can know that it dies after the deploy has looked at it."""
    job, answers = plain.deploy_while_asking(plain.push_bad("dies-in-20s"), LASTS)
    print(job.log[-2000:])

    record_compose(7, job.code, job.seconds, count(answers))


@pytest.mark.parametrize(("order", "newer_begins"), [(8, False), (9, True)])
def test_two_deploys_at_once(plain: Plain, record_compose: Record, order: int, newer_begins: bool) -> None:
    older, newer = (plain.push(f"plain-{age}-{order}") for age in ("older", "newer"))
    number = plain.checkout.sequence + 1
    plain.checkout.sequence += 2
    requests = [(older, number), (newer, number + 1)]
    if newer_begins:
        requests.reverse()
    with plain.proxy.before(API), plain.proxy.asked() as answers:
        running = []
        for digest, sequence in requests:
            running.append(plain.checkout.start("api-ci.yml", "staging", {"api": digest}, sequence))
            time.sleep(4)
        jobs = [job.wait() for job in running]

    assert [job.code for job in jobs] == [0, 0], "\n".join(job.log for job in jobs)
    assert plain.server.digest(API) == newer
    assert not answers.failed(), answers
    record_compose(order, "0 and 0", " and ".join(str(job.seconds) for job in jobs), count(answers))


def test_an_older_commit_comes_late(plain: Plain, record_compose: Record) -> None:
    before = plain.server.digest(API)
    late = plain.deploy(plain.push("plain-late"), plain.checkout.sequence - 1)

    assert (late.code, late.result["result"]) == (0, "superseded"), late.log
    assert plain.server.digest(API) == before
    record_compose(10, "0, `SUPERSEDED`", late.seconds, "not asked")


def test_two_rollbacks(plain: Plain, record_compose: Record) -> None:
    served = [plain.server.digest(API)]
    seconds = []
    with plain.proxy.before(API), plain.proxy.asked() as answers:
        for _ in range(2):
            went = plain.server.by_hand(f"docker/bin/deploy rollback {STACK} {API}")
            assert went.returncode == 0, went.stdout + went.stderr
            served.append(plain.server.digest(API))
            seconds.append(str(read_result(went.stdout)["seconds"]))

    assert len(set(served)) == 3, "the image before, then the one before that"
    assert not answers.failed(), answers
    record_compose(11, "0 and 0", " and ".join(seconds), count(answers))


def test_production_takes_only_what_staging_served(plain: Plain, record_compose: Record) -> None:
    strange = {"api": plain.push("plain-strange"), "admin": f"sha256:{'0' * 64}"}
    refused = plain.checkout.deploy("promote.yml", "production", strange)

    assert refused.code != 0, refused.log
    assert "never" in refused.log, refused.log
    record_compose(14, refused.code, refused.seconds, "not asked")
