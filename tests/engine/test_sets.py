"""Several services in one call: their order, whose failure is whose, and what the result says of each."""

from typing import Any

import pytest

from tests.engine.conftest import succeeds
from tests.engine.images import Images
from tests.engine.server import Result, Server, outcome
from tests.engine.shop import RECREATE, WEB, Shop, service_text

FRONT, JOBS = "shop-front", "shop-jobs"
# The front depends on the web service and on the worker; its name comes first in the alphabet.
NEEDS_BOTH = f"    depends_on: [{WEB}, {JOBS}]\n"


@pytest.fixture
def trio(shop: Shop, server: Server, images: Images) -> Shop:
    """Three services that serve their first version."""
    write_trio(shop)
    first = images.api("uno")
    shop.bring_into_service(first, services=(FRONT, WEB, JOBS))
    return shop


def write_trio(shop: Shop, labels: str = "") -> None:
    """The compose file: one starts beside its predecessor, two do not."""
    services = service_text(FRONT, more=NEEDS_BOTH, labels=RECREATE) + service_text(JOBS, labels=RECREATE)
    shop.write(services, labels=labels, rollout="")


def results(result: Result) -> dict[str, Any]:
    """What is reported of each service."""
    return {service["service"]: service["result"] for service in outcome(result)["services"]}


def containers(server: Server) -> dict[str, str]:
    """Which container each service has."""
    return {name: server.container_id(name) for name in (FRONT, WEB, JOBS)}


def started_at(server: Server, name: str) -> str:
    """Since when its process runs."""
    return server.docker("inspect", "-f", "{{.State.StartedAt}}", name)


def test_what_others_depend_on_comes_first(trio: Shop, server: Server, images: Images) -> None:
    one, two = images.api("uno"), images.api("due")

    result = trio.deploy_set({FRONT: two, WEB: two, JOBS: two})

    assert result.returncode == 0, result.stdout
    report = outcome(result)
    assert (report["result"], report["exit"], report["message"]) == ("serving", 0, "")
    for service in report["services"]:
        assert (service["result"], service["before"], service["now"]) == ("serving", one, two)
    assert started_at(server, FRONT) > max(started_at(server, WEB), started_at(server, JOBS))
    assert [server.serves(name) for name in (FRONT, WEB, JOBS)] == ["due"] * 3


@pytest.mark.parametrize("failing", [WEB, JOBS], ids=["start-first", "recreate"])
def test_one_that_fails_undoes_itself_and_holds_up_only_what_depends_on_it(
    trio: Shop, server: Server, images: Images, failing: str
) -> None:
    one, two, bad = images.api("uno"), images.api("due"), images.api("exits", "exits")
    other = JOBS if failing == WEB else WEB
    before = containers(server)

    result = trio.deploy_set({FRONT: two, other: two, failing: bad})

    assert result.returncode == 1, result.stdout
    assert outcome(result)["result"] == "failed"
    assert results(result) == {FRONT: "not started", other: "serving", failing: "failed"}
    now = {service["service"]: service["now"] for service in outcome(result)["services"]}
    assert now == {FRONT: one, other: two, failing: one}
    assert server.container_id(FRONT) == before[FRONT]
    assert server.container_id(failing) == before[failing]
    assert [server.serves(name) for name in (FRONT, other, failing)] == ["uno", "due", "uno"]
    assert [len(trio.record(name)) for name in (FRONT, other, failing)] == [1, 2, 1]
    assert trio.pinned().count(f"@{one}") == 2 and trio.pinned().count(f"@{two}") == 1

    again = trio.deploy_set({FRONT: two, other: two, failing: two})
    assert again.returncode == 0, again.stdout
    assert results(again) == {FRONT: "serving", other: "unchanged", failing: "serving"}


def test_a_migration_runs_before_any_container_of_the_set_changes(trio: Shop, server: Server, images: Images) -> None:
    """The one that migrates is not the first in the order."""
    before = containers(server)
    two = images.api("due")
    write_trio(trio, labels='      deploy.migrate: "ends 7"\n')

    failed = trio.deploy_set({JOBS: two, WEB: two, FRONT: two})

    assert failed.returncode == 1, failed.stdout
    assert "exit code 7" in outcome(failed)["message"]
    assert set(results(failed).values()) == {"not started"}, failed.stdout
    assert containers(server) == before
    assert all(server.serves(name) == "uno" for name in before)

    write_trio(trio, labels='      deploy.migrate: "ends 0"\n')
    began = server.run("date", "+%s.%N").stdout.strip()
    passed = trio.deploy_set({JOBS: two, WEB: two, FRONT: two})

    assert passed.returncode == 0, passed.stdout
    created = server.docker(
        *("events", "--since", began, "--until", "0s", "--filter", "type=container", "--filter", "event=create"),
        *("--format", "{{.Actor.Attributes.name}}"),
    ).split()
    assert created[0] == f"{WEB}-next-migrate", created
    assert f"{WEB}-next" in created[1:]


def test_services_of_a_set_that_are_older_or_the_same_are_told_apart(
    trio: Shop, server: Server, images: Images
) -> None:
    """One serves a newer commit's image already, one runs this very image, and one is replaced."""
    one, two = images.api("uno"), images.api("due")
    succeeds(trio.deploy_set({WEB: two}, 9))
    before = containers(server)

    result = trio.deploy_set({WEB: one, FRONT: one, JOBS: two}, 5)

    assert result.returncode == 3, result.stdout
    report = outcome(result)
    assert (report["result"], report["newest_sequence"]) == ("superseded", 9)
    assert results(result) == {WEB: "superseded", FRONT: "unchanged", JOBS: "serving"}
    after = containers(server)
    assert (after[WEB], after[FRONT]) == (before[WEB], before[FRONT])
    assert server.serves(JOBS) == "due"
