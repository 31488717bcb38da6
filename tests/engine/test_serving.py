"""What people see while versions come and go."""

import time

import pytest

from tests.engine.images import REGISTRY, Images
from tests.engine.proxy import Proxy
from tests.engine.server import Result, Server, seen

API = "pos-api-staging"


def said(result: Result) -> list[str]:
    """What a deploy says, without compose's progress and without the old images that went."""
    passing = (" Container ", "Untagged: ", "Deleted: ")
    return [line for line in result.stdout.splitlines() if not line.startswith(passing)]


def open_files(server: Server) -> set[str]:
    """What others on the server may read."""
    return set(server.run("find", str(server.docker_folder), "-type", "f", "-perm", "/077").stdout.split())


def test_the_first_deploy_brings_the_image_into_service(server: Server, images: Images) -> None:
    digest, before, containers = images.api("one"), open_files(server), server.containers()

    result = server.deploy(API, digest, server.commit(), run=77)

    assert result.returncode == 0, result.stdout
    word, service, old, new, seconds, path = result.stdout.splitlines()[-1].split(" ")
    assert (word, service, old, new, path) == ("SERVING", API, "nothing", digest, "/health")
    assert 0 < int(seconds) < 60
    assert server.serves(API) == "one"
    assert server.image(API) == server.pinned(API) == f"{REGISTRY}/kiwari-api@{digest}"
    ((image, sequence, _, run),) = server.record(API)
    assert (image, sequence, run) == (server.pinned(API), "1", "77")
    assert said(result) == [f"{REGISTRY}/kiwari-api@{digest}", result.stdout.splitlines()[-1]]
    assert open_files(server) == before
    assert server.containers() == containers | {API}
    assert server.tokens() == []
    assert not server.locked()


@pytest.mark.usefixtures("api")
def test_a_new_version_is_served_without_one_failed_request(server: Server, images: Images, proxy: Proxy) -> None:
    before, old, digest = server.serves(API), server.digest(API), images.api("two", "boots-slowly")
    dangling = server.dangling()

    began = time.time()

    with proxy.before(API), proxy.asked() as answers:
        result = server.deploy(API, digest, server.commit())
    print(answers)

    assert result.returncode == 0, result.stdout
    pulled, _, serving = said(result)
    assert (pulled.partition("@")[2], serving.split()[:4]) == (digest, ["SERVING", API, old, digest])
    assert not answers.failed(), answers.failed()[:5]
    assert len(answers) > 100
    assert max(answer.waited for answer in answers) < 5
    assert answers.versions() == [before, "two"]
    assert answers[-1].version == server.serves(API) == "two"
    assert f"{API}-next" not in server.containers()
    assert server.dangling() == dangling
    asked = ("--filter", f"container={API}-next", "--filter", "event=kill", "--format", "{{.Actor.Attributes.signal}}")
    assert server.docker("events", "--since", f"{began:.0f}", "--until", f"{time.time() + 1:.0f}", *asked) == "15"


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        ("exits", "exit code 3"),
        ("restarts", "exit code 4"),  # it answered, but did not stay up
        ("hangs", "pos-api-staging-next does not answer :8081/health"),
    ],
)
def test_a_bad_version_never_stops_the_good_one(
    server: Server, images: Images, proxy: Proxy, behaviour: str, says: str
) -> None:
    before, image, began = seen(server, API), images.api(behaviour, behaviour), time.monotonic()
    left = f"{API}-next" in server.containers()  # by a test before this one

    with proxy.before(API), proxy.asked() as answers:
        result = server.deploy(API, image, server.commit())
    print(answers)

    assert result.returncode == 1, result.stdout
    assert says in result.stdout
    assert f"version {behaviour} starts" in result.stdout and "loads part 0" not in result.stdout, "its last 40 lines"
    assert behaviour == "hangs" or time.monotonic() - began < 40, "what has ended is not waited for"
    assert said(result).count(f"{API}-next") == left, "only what was there before is told to be gone"
    assert not server.stack_file(API, ".try.yml").exists()
    assert "FAILED. Serving now: sha256:" in result.stdout
    assert "Serving now: " in result.stdout and "To go back" not in result.stdout  # there is nothing to undo
    assert seen(server, API) == before
    assert not answers.failed(), answers.failed()[:5]
    assert max(answer.waited for answer in answers) < 1
    assert answers.versions()[0] == before.serves


@pytest.mark.usefixtures("api")
def test_what_a_container_says_is_not_obeyed_by_githubs_runner(server: Server, images: Images) -> None:
    result = server.deploy(API, images.api("exits", "exits"), server.commit())

    # the runner trims a line's start, splits at carriage returns too, and looks for ##[ anywhere
    spoken = result.stdout.replace("\r", "\n").splitlines()
    assert "| ::error::spoken by a container" in spoken
    assert not [line for line in spoken if line.strip().startswith("::") or "##[" in line]
