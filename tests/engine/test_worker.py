"""What two of may not run: a service without a port (no health label, it cannot be asked), and one that says so."""

import pytest

from tests.engine.images import Images
from tests.engine.server import Server, outcome
from tests.engine.shop import RECREATE, WEB, Shop, service_text

WORKER = "shop-worker"


@pytest.fixture
def jobs(shop: Shop) -> Shop:
    """A stack with a worker."""
    shop.write(service_text(WORKER, port=None))
    return shop


def life(server: Server, name: str) -> str:
    """Which container it is, whether it runs, and what happens when the server boots."""
    return server.docker("inspect", "-f", "{{.Id}} {{.State.Status}} {{.HostConfig.RestartPolicy.Name}}", name)


def most_running_at_once(server: Server, began: str) -> int:
    """How many containers of the worker ran at the same time, at most, since then."""
    asked = ("--filter", "event=start", "--filter", "event=die", "--format", "{{.Action}} {{.Actor.Attributes.name}}")
    running = most = 0
    for line in server.docker("events", "--since", began, "--until", "0s", *asked).splitlines():
        action, name = line.split()
        if name.startswith(WORKER):
            running += 1 if action == "start" else -1
            most = max(most, running)
    return most


def test_a_bad_first_worker_leaves_nothing_to_go_back_to(jobs: Shop, server: Server, images: Images) -> None:
    result = jobs.deploy_set({WORKER: images.api("w2", "exits")})

    assert result.returncode == 1, result.stdout
    (service,) = outcome(result)["services"]
    assert (service["result"], service["before"], service["now"]) == ("failed", None, None)
    assert "rollback" not in result.stdout
    assert jobs.record(WORKER) == []


def test_a_worker_whose_new_image_exits_gets_its_old_container_back(jobs: Shop, server: Server, images: Images) -> None:
    good, better, bad = images.api("w1", "works"), images.api("w3", "works"), images.api("w2", "exits")
    began = server.run("date", "+%s.%N").stdout.strip()
    jobs.bring_into_service(good, services=[WORKER], has_health=False)
    before = life(server, WORKER)
    assert before.endswith(" running unless-stopped")

    second = jobs.deploy_set({WORKER: bad})

    assert second.returncode == 1, second.stdout
    assert "version w2 starts" in second.stdout
    assert life(server, WORKER) == before
    (service,) = outcome(second)["services"]
    assert (service["result"], service["before"], service["now"]) == ("failed", good, good)
    assert f"{WORKER}-previous" not in server.containers()
    assert (len(jobs.record(WORKER)), bad in jobs.pinned()) == (1, False)

    third = jobs.deploy_set({WORKER: better})
    assert third.returncode == 0, third.stdout
    assert server.docker("inspect", "-f", "{{.State.Status}} {{.RestartCount}}", WORKER) == "running 0"
    assert server.digest(WORKER) == better
    assert f"{WORKER}-previous" not in server.containers()
    assert most_running_at_once(server, began) == 1

    late = jobs.deploy_set({WORKER: good}, 1)
    assert late.returncode == 3, late.stdout
    assert server.digest(WORKER) == better


def test_a_worker_whose_deploy_is_killed_gets_its_old_container_back_by_the_next(
    jobs: Shop, server: Server, images: Images
) -> None:
    """The new image exits, and nobody is there to see it; nothing runs twice meanwhile."""
    good, killed = images.api("w1", "works"), images.api("w2", "exits")
    began = server.run("date", "+%s.%N").stdout.strip()
    jobs.bring_into_service(good, services=[WORKER], has_health=False)
    before = life(server, WORKER)
    interrupted = jobs.begin(jobs.words_of({WORKER: killed}))
    jobs.wait_for_started_as(WORKER, killed)
    jobs.kill_with_children()
    interrupted.wait(30)
    assert f"{WORKER}-previous" in server.containers()

    result = jobs.deploy(images.api("uno"))

    assert result.returncode == 0, result.stdout
    assert life(server, WORKER) == before
    assert f"{WORKER}-previous" not in server.containers()
    assert most_running_at_once(server, began) == 1
    assert server.serves(WEB) == "uno"


def test_two_of_a_service_that_must_be_alone_never_run(shop: Shop, server: Server, images: Images) -> None:
    """It answers HTTP, and could start beside the old one but for its label."""
    shop.write(service_text(WORKER, labels=RECREATE))
    began = server.run("date", "+%s.%N").stdout.strip()

    for digest in (images.api("alone-1"), images.api("alone-2")):
        result = shop.deploy_set({WORKER: digest})
        assert result.returncode == 0, result.stdout
        assert server.digest(WORKER) == digest

    assert most_running_at_once(server, began) == 1
