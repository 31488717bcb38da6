"""Each proxy that can be generated, unchanged and with its real program, before one service that comes and goes.

All stand before it at once, each told plain HTTP on a port of its own, and a client asks each of them every 50 ms. The
service has the labels of the kind that is on trial: kinds that keep a name for the same time are tried by one deploy.
Somebody else's proxy leads to a published port: that one is asked, too.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from kiwari_ci.plan_model import ProxyStack
from tests.engine import fronts
from tests.engine.fronts import API, DOMAIN, NEW, STACK, asked, talked, url
from tests.engine.images import REGISTRY, Images
from tests.engine.proxy import Answers, Proxy
from tests.engine.served import leave_served
from tests.engine.server import Result, Server, eventually, files_checksum

PORTS = {"traefik": 8001, "caddy": 8002, "nginx": 8003}
PUBLISHED = f"http://{DOMAIN}:8000/"
MANAGER = "nginx-proxy-manager"
# The seconds for which a kind of proxy keeps a name, as the generator writes them into the compose file.
NAME_CACHE: dict[tuple[str, ...], int] = {("traefik", "caddy"): 2, ("nginx", MANAGER): 11}


@pytest.fixture(scope="module")
def running_proxies(server: Server) -> Iterator[dict[str, ProxyStack]]:
    """All of them, started before there is anything to serve."""
    if missing := fronts.missing():
        words = f"these tests need {', '.join(missing)} in {fronts.PROGRAMS}: run .ci/install-engine"
        pytest.fail(words) if os.environ.get("CI") == "true" else pytest.skip(words)
    with (server.folder / "etc/hosts").open("a") as hosts:
        hosts.write(f"127.0.0.1 {DOMAIN} {NEW}\n")
    proxies = {kind: fronts.start(server, kind, port) for kind, port in PORTS.items()}
    yield proxies
    server.docker("rm", "-fv", *proxies, *(f"{kind}-tls" for kind in proxies), API, check=False)
    shutil.rmtree(server.docker_folder / STACK, ignore_errors=True)


@pytest.fixture
def urls(server: Server, images: Images, running_proxies: dict[str, ProxyStack]) -> list[str]:
    """Where the service is asked, behind each proxy; it serves, with the labels of Traefik."""
    bring_into_service(server, images, tuple(PORTS), running_proxies)
    return [url(front) for front in running_proxies.values()]


def place(server: Server, kind: str) -> None:
    """Places the service's compose file as it is generated for a kind of proxy."""
    proxy = fronts.listening(kind, PORTS[kind])
    _, tree = fronts.built(server, proxy, DOMAIN)
    fronts.place(server, tree, STACK)


def deploy(server: Server, digest: str) -> Result:
    """By hand, for the key may not touch this stack."""
    files = files_checksum(server.docker_folder / STACK)
    return server.as_person(f"docker/bin/deploy deploy 1 {STACK} {server.commit()} {files} 1 {API}={digest}")


def bring_into_service(server: Server, images: Images, kinds: tuple[str, ...], proxies: dict[str, ProxyStack]) -> None:
    """The first version serves, with the labels of the first kind, and these kinds lead to it."""
    place(server, kinds[0])
    served = (f"{REGISTRY}/kiwari-api@{images.api('one')}", server.commit())
    leave_served(server, images, server.docker_folder / STACK, {API: [served]}, has_health=False)
    for address in (PUBLISHED, *(url(proxies[kind]) for kind in kinds if kind in proxies)):
        eventually(lambda: status(server, address) == "200", 20, f"{address} leads there")  # noqa: B023


def status(server: Server, address: str) -> str:
    """What one request is answered with."""
    return server.run("curl", "-s", "-o", "/dev/null", "-m", "10", "-w", "%{http_code}", address, check=False).stdout


def closed(answers: Answers) -> float:
    """For how long requests failed, in seconds."""
    failed = answers.failed()
    return failed[-1].asked - failed[0].asked if failed else 0


def none_failed(answers: dict[str, Answers], slowest: float = 5) -> None:
    """What is promised for all of them."""
    for address, answers_of_address in answers.items():
        print(address, answers_of_address)
    for address, answers_of_address in answers.items():
        assert len(answers_of_address) > 10, address
        assert not answers_of_address.failed(), (address, answers_of_address.failed()[:5])
        assert max(answer.waited for answer in answers_of_address) < slowest, address


def test_the_programs_are_of_the_versions_that_are_generated(
    server: Server, running_proxies: dict[str, ProxyStack]
) -> None:
    for kind, front in running_proxies.items():
        result = server.run("docker", "exec", front.name, *fronts.PROGRAM[kind].version.split())
        version = re.search(r"\d+\.\d+", result.stdout + result.stderr)
        assert version and version[0] in front.image, (front.image, result)
        print(front.image, (result.stdout + result.stderr).split("\n")[0])


def test_the_first_deploy_is_reached_by_all(
    server: Server, images: Images, running_proxies: dict[str, ProxyStack]
) -> None:
    server.docker("rm", "-fv", API, check=False)
    place(server, "traefik")
    urls = [url(front) for front in running_proxies.values()]
    for address in urls:
        assert status(server, address) in ("404", "502"), f"{address}: nothing is there yet"

    result = deploy(server, images.api("one"))

    assert result.returncode == 0, result.stdout
    for address in [*urls, PUBLISHED]:
        assert server.run("curl", "-sf", "-m", "5", address).stdout == "one", address


@dataclass(frozen=True)
class Seen:
    """What was seen of two deploys, a good one and a failing one, by who asks; and of the good one by WebSockets."""

    good: Result
    answers: dict[str, Answers]
    published: Answers
    talks: dict[str, tuple[int, int, float]]
    failing: Result
    meanwhile: dict[str, Answers]


@pytest.fixture(scope="module", params=NAME_CACHE, ids="-and-".join)
def seen(
    request: pytest.FixtureRequest, server: Server, images: Images, proxy: Proxy, running_proxies: dict[str, ProxyStack]
) -> Seen:
    """A second version that boots for three seconds, then one that exits; before them, kinds that keep a name alike."""
    kinds: tuple[str, ...] = request.param
    bring_into_service(server, images, kinds, running_proxies)
    compose_file = (server.docker_folder / STACK / "docker-compose.yml").read_text()
    assert f'deploy.name-cache: "{NAME_CACHE[kinds]}"' in compose_file
    good, failing = images.api("two", "boots-slowly"), images.api("exits", "exits")
    urls = [url(running_proxies[kind]) for kind in kinds if kind in running_proxies]
    with proxy.before(API):
        if MANAGER in kinds:
            urls.append(f"http://{proxy.address}/")
        with asked(server, *urls, PUBLISHED) as answers, talked(server, *urls) as talks:
            result = deploy(server, good)
        with asked(server, *urls, PUBLISHED) as meanwhile:
            refused = deploy(server, failing)
    return Seen(result, answers, answers.pop(PUBLISHED), talks, refused, meanwhile)


def test_a_new_version_is_served_without_one_failed_request(seen: Seen) -> None:
    assert seen.good.returncode == 0, seen.good.stdout
    none_failed(seen.answers)
    for answers in seen.answers.values():
        assert answers.versions() == ["one", "two"]


def test_a_websocket_ends_with_its_container_and_is_opened_again_at_once(seen: Seen) -> None:
    print(seen.talks)
    for answered, again, longest in seen.talks.values():
        assert answered > 100
        assert again <= 2, "its container's end, and that of the one beside"
        assert longest < 5


def test_a_published_port_is_closed_while_its_container_changes(seen: Seen) -> None:
    seconds = closed(seen.published)
    print("published", seen.published, f"closed for {seconds:.1f} s")
    assert seen.published.versions() == ["one", "two"]
    assert 3 < seconds < 20, "it boots for three seconds, and nothing else can have the port"


def test_a_bad_version_never_stops_the_good_one(seen: Seen) -> None:
    assert seen.failing.returncode == 1, seen.failing.stdout
    none_failed(seen.meanwhile)
    for answers in seen.meanwhile.values():
        assert answers.versions() == ["two"]


@pytest.mark.long
@pytest.mark.parametrize("kinds", NAME_CACHE, ids="-and-".join)
@pytest.mark.parametrize("grace_period", ["30s", "10s"], ids=["30s", "docker's-default"])
def test_what_has_begun_is_finished(
    server: Server,
    images: Images,
    proxy: Proxy,
    running_proxies: dict[str, ProxyStack],
    kinds: tuple[str, ...],
    grace_period: str,
) -> None:
    """Requests and uploads of ten seconds, and a kept connection, through a deploy with that stop_grace_period."""
    bring_into_service(server, images, kinds, running_proxies)
    compose_file = server.docker_folder / STACK / "docker-compose.yml"
    if grace_period != "10s":
        text = compose_file.read_text()
        compose_file.write_text(
            text.replace("    init: true\n", f"    init: true\n    stop_grace_period: {grace_period}\n")
        )
        assert deploy(server, images.api("one")).returncode == 0
    urls = [url(running_proxies[kind]) for kind in kinds if kind in running_proxies]
    with proxy.before(API):
        if MANAGER in kinds:
            urls.append(f"http://{proxy.address}/")
        with fronts.lasting(server, *urls) as results, talked(server, *urls) as talks:
            result = deploy(server, images.api("two"))
    assert result.returncode == 0, result.stdout
    for (kind, address), seen in results.items():
        print(grace_period, address, kind, seen.asked, len(seen.failures), *seen.failures)
    print(grace_period, talks)
    for (kind, address), seen in results.items():
        assert seen.asked > 5, (kind, address)
        if grace_period == "30s":
            assert not seen.failures, (kind, address)


def test_labels_that_change_close_traefik_for_a_moment_alone(
    server: Server, images: Images, running_proxies: dict[str, ProxyStack], urls: list[str]
) -> None:
    compose = server.docker_folder / STACK / "docker-compose.yml"
    line = "      traefik.http.routers.front-api-live_api_example_com.entrypoints: web\n"
    small = "      traefik.http.middlewares.small.compress: 'true'\n"
    reference = "      traefik.http.routers.front-api-live_api_example_com.middlewares: small\n"
    assert line in (text := compose.read_text())
    compose.write_text(text.replace(line, line + small + reference))

    with asked(server, url(running_proxies["traefik"]), url(running_proxies["caddy"])) as answers:
        result = deploy(server, images.api("three"))

    assert result.returncode == 0, result.stdout
    traefik = answers.pop(url(running_proxies["traefik"]))
    print("traefik", traefik, f"closed for {closed(traefik):.1f} s")
    assert closed(traefik) < 5
    assert traefik.versions() == ["one", "three"]
    none_failed(answers)


@pytest.mark.parametrize("kind", ["caddy", "nginx"])
@pytest.mark.usefixtures("urls")
def test_a_changed_configuration_is_read_without_a_gap(
    server: Server, running_proxies: dict[str, ProxyStack], kind: str
) -> None:
    front = running_proxies[kind]
    assert status(server, url(front, NEW)) == "404"
    _, tree = fronts.built(server, fronts.listening(kind, PORTS[kind]), DOMAIN, NEW)

    with asked(server, url(front)) as answers, talked(server, url(front)) as talks:
        time.sleep(0.5)
        fronts.place(server, tree, front.name)
        done = server.by_hand(f"cd {front.folder} && {front.reload}")
        time.sleep(2)

    assert done.returncode == 0, done.stderr
    assert status(server, url(front, NEW)) == "502", "its service was never deployed"
    none_failed(answers)
    answered, again, longest = talks[url(front)]
    assert answered > 10 and again == 0 and longest < 3, talks


@pytest.mark.usefixtures("urls")
def test_a_configuration_that_is_wrong_changes_nothing(server: Server, running_proxies: dict[str, ProxyStack]) -> None:
    for kind, file in {"caddy": "Caddyfile", "nginx": "default.conf"}.items():
        front = running_proxies[kind]
        path = server.docker_folder / front.name / "conf" / file
        right = path.read_text()
        path.write_text(right + "nonsense {\n")
        done = server.by_hand(f"cd {front.folder} && {front.reload}")
        path.write_text(right)
        assert done.returncode != 0, done
        assert status(server, url(front)) == "200"


@pytest.mark.usefixtures("urls")
def test_a_proxy_that_is_started_again_leads_to_the_service(
    server: Server, running_proxies: dict[str, ProxyStack]
) -> None:
    for front in running_proxies.values():
        with asked(server, url(front)) as answers:
            time.sleep(0.3)
            server.docker("restart", front.name)
            eventually(lambda: status(server, url(front)) == "200", 15, f"{front.name} leads there")  # noqa: B023
            time.sleep(0.5)
        answers_of_front = answers[url(front)]
        print(front.name, answers_of_front, f"closed for {closed(answers_of_front):.1f} s")
        assert answers_of_front[-1].status == 200


@pytest.mark.parametrize(("kind", "port"), [("nginx", 8443), ("caddy", 8444), ("traefik", 8445)])
@pytest.mark.usefixtures("urls")
def test_with_certificates_https_leads_to_the_service(server: Server, kind: str, port: int) -> None:
    fronts.start_secure(server, kind, port)
    show = ("curl", "-s", "-o", "/dev/null", "-m", "10", "-w", "%{http_code} %{http_version} %{redirect_url}")

    def answer_of(address: str) -> str:
        return server.run(*show, address, check=False).stdout

    eventually(lambda: answer_of(f"https://{DOMAIN}:{port}/") == "200 2 ", 20, f"{kind} leads there over HTTP/2")
    assert answer_of(f"http://{DOMAIN}:{port + 100}/path").split() in (
        [code, "1.1", f"https://{DOMAIN}/path"] for code in ("301", "308")
    )
    strange = server.run(*show, "--connect-to", f"::127.0.0.1:{port}", "https://other.example.org", check=False).stdout
    assert strange.startswith("000"), "no certificate for a domain that it was not told of"
