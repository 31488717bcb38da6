"""What people see while versions come and go."""

import time

import pytest

from tests.engine.images import REGISTRY, Images
from tests.engine.proxy import Proxy
from tests.engine.server import Result, Server, outcome, seen

API = "pos-api-staging"


def progress(result: Result) -> list[str]:
    """What the program says it does, without its last words and without what containers print."""
    return [line[4:] for line in result.stdout.splitlines() if line.startswith("==> ")]


def files_for_others(server: Server) -> set[str]:
    """The files in the stacks that other logins of the server may read, by their names."""
    result = server.run("find", str(server.docker_folder), "-type", "f", "-perm", "/077", "-printf", "%f\n")
    return set(result.stdout.split())


@pytest.mark.usefixtures("clean")
def test_the_first_deploy_brings_the_image_into_service(server: Server, images: Images) -> None:
    digest, readable_before, containers = images.api("one"), files_for_others(server), server.containers()
    sequence = server.commit()

    result = server.deploy(API, digest, sequence, run=77)

    assert result.returncode == 0, result.stdout
    report = outcome(result)
    assert (report["protocol"], report["result"], report["exit"], report["stack"]) == (1, "serving", 0, "pos-staging")
    (row,) = report["services"]
    assert (row["service"], row["result"], row["before"], row["now"]) == (API, "serving", None, digest)
    assert 0 <= report["seconds"] < 60
    assert server.serves(API) == "one"
    assert server.image(API) == server.pinned(API) == f"{REGISTRY}/kiwari-api@{digest}"
    ((image, recorded_sequence, _, run),) = server.record(API)
    assert (image, recorded_sequence, run) == (server.pinned(API), str(sequence), "77")
    assert files_for_others(server) - readable_before <= {"docker-compose.override.yml", "trial.yml"}, "only the pins"
    assert server.containers() == containers | {API}
    assert server.tokens() == []
    assert not server.locked()


@pytest.mark.usefixtures("api")
def test_the_same_digest_again_changes_no_container(server: Server) -> None:
    before = seen(server, API)

    result = server.deploy(API, server.digest(API), int(before.record[-1][1]))

    assert result.returncode == 0, result.stdout
    assert [service["result"] for service in outcome(result)["services"]] == ["unchanged"]
    assert seen(server, API) == before


@pytest.mark.usefixtures("api")
def test_a_new_version_is_served_without_one_failed_request(server: Server, images: Images, proxy: Proxy) -> None:
    server.place_files("pos-staging")  # its proxy keeps names, and the deploy waits for that
    old, digest = server.digest(API), images.api("two", "boots-slowly")
    dangling = server.dangling()

    began = time.time()

    with proxy.before(API), proxy.asked() as answers:
        result = server.deploy(API, digest, server.commit())
    print(answers)

    assert result.returncode == 0, result.stdout
    (service,) = outcome(result)["services"]
    assert (service["before"], service["now"]) == (old, digest)
    assert not answers.failed(), answers.failed()[:5]
    assert len(answers) > 100
    assert max(answer.waited for answer in answers) < 5
    assert answers.versions() == ["one", "two"]
    assert answers[-1].version == server.serves(API) == "two"
    assert f"{API}-next" not in server.containers()
    assert server.dangling() == dangling
    asked = ("--filter", f"container={API}-next", "--filter", "event=kill", "--format", "{{.Actor.Attributes.signal}}")
    signals = server.docker("events", "--since", f"{began:.0f}", "--until", f"{time.time() + 1:.0f}", *asked)
    assert signals == "15", "it may finish what it serves"


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("exits", "exit code 3"),
        ("restarts", f"{API}-next did not stay up"),  # it answered, took the name, and ended
        ("hangs", f"{API}-next did not become healthy within 4 seconds"),
    ],
)
def test_a_bad_version_never_stops_the_good_one(
    server: Server, images: Images, proxy: Proxy, behaviour: str, reason: str
) -> None:
    server.place_files("pos-staging", start_period="4")
    before, image = seen(server, API), images.api(behaviour, behaviour)

    with proxy.before(API), proxy.asked() as answers:
        result = server.deploy(API, image, server.commit())
    print(answers)

    assert result.returncode == 1, result.stdout
    assert reason in result.stdout
    assert f"| version {behaviour} starts" in result.stdout, "the container's log is shown"
    assert "loads part 0" not in result.stdout, "and only the last 40 lines of it"
    (service,) = outcome(result)["services"]
    serving = before.record[-1][0].partition("@")[2]
    assert (service["result"], service["before"], service["now"]) == ("failed", serving, serving)
    assert "to go back: " not in result.stdout, "there is nothing to undo"
    assert seen(server, API) == before
    assert not answers.failed(), answers.failed()[:5]
    # one that ended with the name is asked again while Docker starts it: a connection takes up to 3 s then
    assert max(answer.waited for answer in answers) < (5 if behaviour == "restarts" else 2)
    assert answers.versions()[0] == before.serves


@pytest.mark.usefixtures("api")
def test_what_a_container_says_is_not_obeyed_by_githubs_runner(server: Server, images: Images) -> None:
    result = server.deploy(API, images.api("exits", "exits"), server.commit())

    # the runner trims a line's start, splits at carriage returns too, and looks for ##[ anywhere
    spoken = result.stdout.replace("\r", "\n").splitlines()
    assert "| ::error::spoken by a container" in spoken
    assert not [line for line in spoken if line.strip().startswith("::") or "##[" in line]
