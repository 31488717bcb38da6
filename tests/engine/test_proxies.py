"""Each proxy that can be generated, unchanged and with its real program, before one service that comes and goes.

All stand before it at once, each told plain HTTP on a port of its own, and a client asks each of them every 50 ms.
Somebody else's proxy leads to a published port: that one is asked, too.
"""

import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from kiwari_ci.plan import Front
from tests.engine import fronts
from tests.engine.fronts import API, DOMAIN, NEW, STACK, asked, talked, url
from tests.engine.images import Images
from tests.engine.proxy import Answers
from tests.engine.server import Result, Server, eventually

KINDS = {"traefik": 8001, "caddy": 8002, "nginx": 8003}
PUBLISHED = f"http://{DOMAIN}:8000/"


@pytest.fixture(scope="module")
def found(server: Server) -> Iterator[dict[str, Front]]:
    """All of them, started before there is anything to serve."""
    if missing := fronts.missing():
        words = f"these tests need {', '.join(missing)} in {fronts.PROGRAMS}: run .ci/install-engine"
        pytest.fail(words) if os.environ.get("CI") == "true" else pytest.skip(words)
    with (server.folder / "etc/hosts").open("a") as hosts:
        hosts.write(f"127.0.0.1 {DOMAIN} {NEW}\n")
    there = {kind: fronts.start(server, kind, port) for kind, port in KINDS.items()}
    _, tree = fronts.built(server, "{kind: traefik, stack: traefik, listen: '127.0.0.1:8001'}", DOMAIN)
    fronts.place(server, tree, STACK)
    yield there
    server.docker("rm", "-fv", *there, *(f"{kind}-tls" for kind in there), API)
    shutil.rmtree(server.docker_folder / STACK)


@pytest.fixture(scope="module")
def urls(found: dict[str, Front]) -> list[str]:
    """Where the service is asked: behind each of them."""
    return [url(front) for front in found.values()]


def deploy(server: Server, digest: str) -> Result:
    """By hand, for the key may not touch this stack."""
    compose = hashlib.sha256((server.docker_folder / STACK / "docker-compose.yml").read_bytes()).hexdigest()
    return server.as_person(f"docker/bin/deploy deploy {STACK} {API} {digest} {server.commit()} {compose} 1")


def status(server: Server, address: str) -> str:
    """What one request is answered with."""
    return server.run("curl", "-s", "-o", "/dev/null", "-m", "10", "-w", "%{http_code}", address, check=False).stdout


def closed(answers: Answers) -> float:
    """For how long requests failed, in seconds."""
    failed = answers.failed()
    return failed[-1].asked - failed[0].asked if failed else 0


def none_failed(answers: dict[str, Answers], slowest: float = 5) -> None:
    """What is promised for all of them."""
    for address, each in answers.items():
        print(address, each)
    for address, each in answers.items():
        assert len(each) > 20, address
        assert not each.failed(), (address, each.failed()[:5])
        assert max(answer.waited for answer in each) < slowest, address


def test_the_stacks_differ_in_labels_for_traefik_alone(server: Server) -> None:
    texts = []
    for kind in ("traefik", "caddy", "nginx", "nginx-proxy-manager", "none"):
        _, tree = fronts.built(server, f"{{kind: {kind}}}", DOMAIN)
        lines = tree[f"deploy/{STACK}/docker-compose.yml"].text.splitlines()
        texts.append([line for line in lines if not line.startswith("      traefik.")])
    assert all(text == texts[0] for text in texts)


def test_the_programs_are_of_the_versions_that_are_generated(server: Server, found: dict[str, Front]) -> None:
    for kind, front in found.items():
        said = server.run("docker", "exec", front.name, *fronts.PROGRAM[kind].version.split())
        version = re.search(r"\d+\.\d+", said.stdout + said.stderr)
        assert version and version[0] in front.image, (front.image, said)
        print(front.image, (said.stdout + said.stderr).split("\n")[0])


def test_the_first_deploy_is_reached_by_all(server: Server, images: Images, urls: list[str]) -> None:
    for address in urls:
        assert status(server, address) in ("404", "502"), f"{address}: nothing is there yet"

    result = deploy(server, images.api("one"))

    assert result.returncode == 0, result.stdout
    for address in [*urls, PUBLISHED]:
        assert server.run("curl", "-sf", "-m", "5", address).stdout == "one", address


@dataclass(frozen=True)
class Seen:
    """What was seen of a deploy that is right: by who asks, and by who has a WebSocket open."""

    result: Result
    answers: dict[str, Answers]
    published: Answers
    talks: dict[str, tuple[int, int, float]]


@pytest.fixture(scope="module")
def second(server: Server, images: Images, urls: list[str]) -> Seen:
    """A second version comes, which boots for three seconds."""
    digest = images.api("two", "boots-slowly")
    with asked(server, *urls, PUBLISHED) as answers, talked(server, *urls) as talks:
        result = deploy(server, digest)
    assert result.returncode == 0, result.stdout
    return Seen(result, answers, answers.pop(PUBLISHED), talks)


def test_a_new_version_is_served_without_one_failed_request(second: Seen) -> None:
    none_failed(second.answers)
    for each in second.answers.values():
        assert each.versions() == ["one", "two"]


def test_a_websocket_ends_with_its_container_and_is_opened_again_at_once(second: Seen) -> None:
    print(second.talks)
    for answered, again, longest in second.talks.values():
        assert answered > 100
        assert again == 2, "its container's end, and that of the one beside"
        assert longest < 2


def test_a_published_port_is_closed_while_its_container_changes(second: Seen) -> None:
    seconds = closed(second.published)
    print("published", second.published, f"closed for {seconds:.1f} s")
    assert second.published.versions() == ["one", "two"]
    assert 3 < seconds < 10, "it boots for three seconds, and nothing else can have the port"


@pytest.mark.parametrize("behaviour", ["exits", "hangs"])
def test_a_bad_version_never_stops_the_good_one(
    server: Server, images: Images, urls: list[str], behaviour: str
) -> None:
    digest = images.api(behaviour, behaviour)

    with asked(server, *urls, PUBLISHED) as answers:
        result = deploy(server, digest)

    assert result.returncode == 1, result.stdout
    none_failed(answers, slowest=1)
    for each in answers.values():
        assert each.versions() == ["two"]


def test_labels_that_change_close_traefik_for_a_moment_alone(server: Server, images: Images, urls: list[str]) -> None:
    compose = server.docker_folder / STACK / "docker-compose.yml"
    line = "      traefik.http.routers.api_example_com.entrypoints: web\n"
    small = "      traefik.http.middlewares.small.compress: 'true'\n"
    told = "      traefik.http.routers.api_example_com.middlewares: small\n"
    assert line in (text := compose.read_text())
    compose.write_text(text.replace(line, line + small + told))

    with asked(server, *urls) as answers:
        result = deploy(server, images.api("three"))

    assert result.returncode == 0, result.stdout
    traefik = answers.pop(urls[0])
    print("traefik", traefik, f"closed for {closed(traefik):.1f} s")
    assert closed(traefik) < 5
    assert traefik.versions() == ["two", "three"]
    none_failed(answers)


@pytest.mark.parametrize("kind", ["caddy", "nginx"])
def test_a_changed_configuration_is_read_without_a_gap(server: Server, found: dict[str, Front], kind: str) -> None:
    front = found[kind]
    assert status(server, url(front, NEW)) == "404"
    _, tree = fronts.built(server, f"{{kind: {kind}, stack: {kind}, listen: '{front.listen}'}}", DOMAIN, NEW)

    with asked(server, url(front)) as answers, talked(server, url(front)) as talks:
        time.sleep(0.5)
        fronts.place(server, tree, front.name)
        done = server.by_hand(f"cd {front.folder} && {front.reload}")
        time.sleep(2)

    assert done.returncode == 0, done.stderr
    assert status(server, url(front, NEW)) == "502", "its service was never deployed"
    none_failed(answers, slowest=1)
    answered, again, longest = talks[url(front)]
    assert answered > 20 and again == 0 and longest < 1, talks


def test_a_configuration_that_is_wrong_changes_nothing(server: Server, found: dict[str, Front]) -> None:
    for kind, file in {"caddy": "Caddyfile", "nginx": "default.conf"}.items():
        front = found[kind]
        path = server.docker_folder / front.name / "conf" / file
        right = path.read_text()
        path.write_text(right + "nonsense {\n")
        done = server.by_hand(f"cd {front.folder} && {front.reload}")
        path.write_text(right)
        assert done.returncode != 0, done
        assert status(server, url(front)) == "200"


def test_a_proxy_that_is_started_again_leads_to_the_service(server: Server, found: dict[str, Front]) -> None:
    for front in found.values():
        with asked(server, url(front)) as answers:
            time.sleep(0.3)
            server.docker("restart", front.name)
            eventually(lambda: status(server, url(front)) == "200", 15, f"{front.name} leads there")  # noqa: B023
            time.sleep(0.5)
        each = answers[url(front)]
        print(front.name, each, f"closed for {closed(each):.1f} s")
        assert each[-1].status == 200


@pytest.mark.parametrize(("kind", "port"), [("nginx", 8443), ("caddy", 8444), ("traefik", 8445)])
@pytest.mark.usefixtures("found")
def test_with_certificates_https_leads_to_the_service(server: Server, kind: str, port: int) -> None:
    fronts.start_secure(server, kind, port)
    show = ("curl", "-s", "-o", "/dev/null", "-m", "10", "-w", "%{http_code} %{http_version} %{redirect_url}")

    def said(address: str) -> str:
        return server.run(*show, address, check=False).stdout

    eventually(lambda: said(f"https://{DOMAIN}:{port}/") == "200 2 ", 20, f"{kind} leads there over HTTP/2")
    assert said(f"http://{DOMAIN}:{port + 100}/path").split() in (
        [code, "1.1", f"https://{DOMAIN}/path"] for code in ("301", "308")
    )
    strange = server.run(*show, "--connect-to", f"::127.0.0.1:{port}", "https://other.example.org", check=False).stdout
    assert strange.startswith("000"), "no certificate for a domain that it was not told of"
