"""One service is deployed: what serves goes only when what replaces it serves."""

from pathlib import Path
from typing import Any

import pytest

from kiwari_ci.engines.compose.deploy_programs import deploy as deploy_program
from tests.host.fake_docker import TOKEN, Image, Running
from tests.host.watching import ended_too_early, unserved
from tests.host.world import WEB, WORKER, World, compose_labels
from tests.notices import PULL_AGAIN

CACHE_SECONDS = {"web": 11.0}
BAD_IMAGES = {
    "exits": (Image(exits_after=0.5, exit_code=3), "web-next did not stay up: "),
    "exits at once": (Image(exits_after=0, exit_code=127), "web-next did not stay up: "),
    "hangs": (
        Image(hangs=True),
        "web-next did not become healthy within 60 seconds: /health on port 8080 should answer 200: timed out",
    ),
    "never listens": (Image(answers_after=900), "web-next did not become healthy within 60 seconds: "),
    "answers 500": (Image(status=500), "the answer was 500"),
    "listens elsewhere": (Image(port=3000), "Connection refused"),
    "dies while it is watched": (Image(exits_after=6, exit_code=4), "web-next did not stay up: "),
    "falls silent while it is watched": (Image(silent_after=6), "web-next did not stay healthy: "),
}


def start(world: World, *versions: int) -> str:
    """Deploy good images, and return the last one's digest."""
    digest = ""
    for version in versions:
        digest = world.image("web", version)
        assert world.deploy({"web": digest}, version).code == 0
    world.machine.forget()
    world.machine.watched = ("web",)
    world.machine.settle()
    return digest


def test_the_first_deploy(world: World) -> None:
    digest = world.image("web", 1)

    outcome = world.deploy({"web": digest}, 1)

    assert outcome.code == 0
    assert world.names() == ["web"]
    assert world.serves("web", digest)
    assert world.container("web").restart_policy == "unless-stopped"
    assert world.pins() == {"web": digest}
    assert [line.split()[0:2] for line in world.record("web")] == [[f"ghcr.io/acme/web@{digest}", "1"]]
    assert outcome.result["services"] == [
        {"service": "web", "result": "serving", "before": None, "now": digest, "seconds": 12}
    ]


def test_the_next_deploy(world: World) -> None:
    old = start(world, 1)
    began = world.machine.now()
    digest = world.image("web", 2)

    outcome = world.deploy({"web": digest}, 2)

    assert outcome.code == 0
    assert world.names() == ["web"]
    assert world.serves("web", digest)
    assert world.pins() == {"web": digest}
    assert len(world.record("web")) == 2
    assert not unserved(world.machine.trace, CACHE_SECONDS)
    assert not ended_too_early(world.machine, CACHE_SECONDS)
    assert world.machine.now() - began < 27
    result = outcome.result
    (service,) = result.pop("services")
    assert 24 <= result.pop("seconds") <= 26 and 24 <= service.pop("seconds") <= 26
    assert result == {"protocol": 1, "result": "serving", "exit": 0, "stack": "shop", "message": ""}
    assert service == {"service": "web", "result": "serving", "before": old, "now": digest}


def test_the_same_digest_again_changes_nothing_and_is_recorded(world: World) -> None:
    digest = start(world, 1)
    container, began = world.container("web").id, world.machine.now()

    outcome = world.deploy({"web": digest}, 2)

    assert (outcome.code, outcome.results) == (0, {"web": "unchanged"})
    assert world.container("web").id == container
    assert world.machine.now() - began < 2
    assert [line.split()[1] for line in world.record("web")] == ["1", "2"]


def test_the_same_commit_again_adds_no_line(world: World) -> None:
    digest = start(world, 1)

    world.deploy({"web": digest}, 1)

    assert len(world.record("web")) == 1


def test_the_same_digest_with_other_settings_is_another_container(world: World) -> None:
    digest = start(world, 1)
    container = world.container("web").id
    (world.folder / ".env").write_text("SECRET='another'\n")

    outcome = world.deploy({"web": digest}, 2)

    assert (outcome.code, outcome.results) == (0, {"web": "serving"})
    assert world.container("web").id != container
    assert not unserved(world.machine.trace, CACHE_SECONDS)


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_image(world: World, name: str) -> None:
    """The old one serves on, in the same container, and the log says why."""
    old = start(world, 1, 2)
    container = world.container("web").id
    image, says = BAD_IMAGES[name]

    outcome = world.deploy({"web": world.image("web", 3, image)}, 3)

    assert (outcome.code, outcome.results) == (1, {"web": "failed"})
    assert outcome.says(says), outcome.text
    assert outcome.says("| started")
    assert world.names() == ["web"]
    assert (world.container("web").id, world.serves("web", old)) == (container, True)
    assert world.pins() == {"web": old}
    assert len(world.record("web")) == 2
    assert outcome.says(f"==> FAILED: web; serving now: {old}")
    assert outcome.result["services"][0]["now"] == old
    world.machine.wait(12)
    assert not unserved(world.machine.trace, CACHE_SECONDS)
    assert not ended_too_early(world.machine, CACHE_SECONDS)


def test_an_image_that_works_beside_and_not_in_place(world: World) -> None:
    """The one beside serves on, also after a boot; the next deploy replaces it."""
    start(world, 1)
    digest = world.image("web", 2, Image(works_only_beside=True))

    outcome = world.deploy({"web": digest}, 2)

    assert (outcome.code, outcome.results) == (1, {"web": "failed"})
    assert outcome.says("web-next serves in place of web, until a deploy replaces it")
    assert outcome.says("rollback shop web ")
    assert not unserved(world.machine.trace, CACHE_SECONDS)
    assert outcome.result["services"][0]["now"] == digest

    world.machine.boot()
    world.machine.wait(2)
    assert any(world.machine.answers(container) for container in world.machine.reached_by("web"))

    good = world.image("web", 3)
    assert world.deploy({"web": good}, 3).code == 0
    assert world.names() == ["web"] and world.serves("web", good)


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_first_image(world: World, name: str) -> None:
    digest = world.image("web", 1, BAD_IMAGES[name][0])

    outcome = world.deploy({"web": digest}, 1)

    assert outcome.code == 1
    assert world.record("web") == []
    assert world.pins() == {}
    assert outcome.result["services"][0]["now"] is None
    assert outcome.says("==> FAILED: web; serving now: nothing")

    good = world.image("web", 2)
    assert world.deploy({"web": good}, 2).code == 0
    assert world.names() == ["web"] and world.serves("web", good)


def test_a_bad_image_that_docker_is_about_to_start_again(world: World) -> None:
    """Its networks cannot be changed then, and with the service's names it would get requests at its next start."""
    old = start(world, 1)
    world.machine.seconds_before_restart = 30

    outcome = world.deploy({"web": world.image("web", 2, Image(exits_after=6, exit_code=4))}, 2)

    assert outcome.code == 1 and outcome.says("web-next did not stay up: restarting")
    assert world.names() == ["web"] and world.serves("web", old)
    assert not outcome.says("the clean-up failed")


def test_a_bad_image_keeps_its_address_while_proxies_know_it(world: World) -> None:
    """It is started again until then: a request to an address where nothing runs waits for many seconds."""
    start(world, 1)
    world.machine.seconds_before_restart = 1

    lives = 6  # seconds

    outcome = world.deploy({"web": world.image("web", 2, Image(exits_after=lives, exit_code=4))}, 2)

    assert outcome.code == 1 and outcome.says("web-next did not stay up")
    assert world.names() == ["web"]
    trace = world.machine.trace
    named_until = max(moment.time for moment in trace if len(moment.named["web"]) > 1)
    last_start = max(moment.time for moment in trace if len(moment.answering) > 1)
    assert last_start + lives >= named_until + CACHE_SECONDS["web"]


def test_the_old_one_is_red_for_a_moment(world: World) -> None:
    """A bad image is tried beside it all the same, not in its place."""
    old = start(world, 1)
    container = world.container("web").id
    world.image("web", 1, Image(status=503))

    outcome = world.deploy({"web": world.image("web", 2, Image(exits_after=0.5))}, 2)

    assert outcome.code == 1
    assert world.container("web").id == container
    assert deploy_program.digest_of(world.container("web").reference) == old


def test_what_restarts_while_it_starts_is_bad(root: Path) -> None:
    world = World(root, WORKER)
    assert world.deploy({"worker": world.image("worker", 1)}, 1).code == 0

    outcome = world.deploy({"worker": world.image("worker", 2, Image(exits_after=3))}, 2)

    assert outcome.code == 1
    assert outcome.says("did not stay up: ") and outcome.says("restarts")


@pytest.mark.parametrize("seconds_of_life", [0.5, 2, 3, 7])
def test_a_first_worker_that_docker_restarts_does_not_serve(root: Path, seconds_of_life: float) -> None:
    """Docker has just started it again when the result is printed: it runs, but it is not what serves."""
    world = World(root, WORKER)

    outcome = world.deploy({"worker": world.image("worker", 1, Image(exits_after=seconds_of_life))}, 1)

    assert outcome.code == 1
    (service,) = outcome.result["services"]
    assert (service["result"], service["before"], service["now"]) == ("failed", None, None)


@pytest.mark.parametrize("seconds_of_life", [0.5, 7])
def test_a_failed_first_worker_is_stopped(root: Path, seconds_of_life: float) -> None:
    """Docker would start it again and again, and each time it would take a message from its queue."""
    world = World(root, WORKER)

    outcome = world.deploy({"worker": world.image("worker", 1, Image(exits_after=seconds_of_life))}, 1)

    assert outcome.code == 1
    assert outcome.says("worker is stopped, because nothing served before it. To see why it failed: docker logs worker")
    world.machine.boot()
    world.machine.wait(30)
    assert not world.container("worker").is_running and world.container("worker").restart_policy == "no"
    good = world.image("worker", 2)
    assert world.deploy({"worker": good}, 2).code == 0
    assert world.serves("worker", good) and world.container("worker").restart_policy == "unless-stopped"


def test_a_first_image_that_is_well_again_goes_on_serving(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was restarted once while it was watched. It answers, and nothing else could."""
    digest = world.image("web", 1, Image(answers_after=0))
    end_of = world.machine.end_of

    def end_once(container: Running, image: Image) -> float | None:
        return 6 if container.restarts == 0 else end_of(container, image)

    monkeypatch.setattr(world.machine, "end_of", end_once)

    outcome = world.deploy({"web": digest}, 1)

    assert outcome.code == 1 and outcome.says("web did not stay up")
    assert world.serves("web", digest) and world.container("web").restart_policy == "unless-stopped"


def test_a_volume_without_a_name_in_the_temporary_container(world: World) -> None:
    """It serves requests for a while, and what it writes there is removed with it."""
    start(world, 1)

    outcome = world.deploy({"web": world.image("web", 2, Image(volumes=("/uploads",)))}, 2)

    assert outcome.code == 0
    assert outcome.says("note: what web-next writes to /uploads is lost when it is removed")
    assert not world.deploy({"web": world.image("web", 3)}, 3).says("is lost when it is removed")


def test_how_it_is_asked(world: World) -> None:
    start(world, 1)

    assert world.machine.asked
    for path, headers in world.machine.asked:
        assert path == "/health"
        assert headers == {"User-Agent": "kiwari-ci", "Host": "shop.example.com", "X-Forwarded-Proto": "https"}


def test_how_it_is_asked_without_tls(root: Path) -> None:
    world = World(root, WEB.replace("deploy.host:", "deploy.scheme: http\n      deploy.host:"))
    start(world, 1)

    _, headers = world.machine.asked[0]
    assert headers == {"User-Agent": "kiwari-ci", "Host": "shop.example.com", "X-Forwarded-Proto": "http"}


def test_another_port_path_and_status(root: Path) -> None:
    world = World(root, WEB.replace('":8080/health"', '":3000/login 302"').replace("deploy.host", "deploy.not"))

    good = world.deploy({"web": world.image("web", 1, Image(port=3000, status=302))}, 1)
    bad = world.deploy({"web": world.image("web", 2, Image(port=3000, status=200))}, 2)

    assert (good.code, bad.code) == (0, 1)
    assert bad.says("/login on port 3000 should answer 302: the answer was 200")
    path, headers = world.machine.asked[0]
    assert path == "/login"
    # Without a domain of its own, a container is asked for by its address.
    assert headers == {"User-Agent": "kiwari-ci", "Host": "172.18.0.2:3000"}


@pytest.mark.parametrize(("label", "code"), [('deploy.start-period: "180"', 0), ("deploy.not: x", 1)])
def test_a_service_that_takes_its_time(root: Path, label: str, code: int) -> None:
    world = World(root, WEB.replace("    networks:", f"      {label}\n    networks:"))
    start(world, 1)

    outcome = world.deploy({"web": world.image("web", 2, Image(answers_after=120))}, 2)

    assert outcome.code == code
    assert not unserved(world.machine.trace, CACHE_SECONDS)


@pytest.mark.parametrize(("seconds", "most"), [("0", 7), ("2", 9), ("11", 27)])
def test_the_wait_is_the_proxys(root: Path, seconds: str, most: float) -> None:
    world = World(root, WEB.replace('deploy.name-cache: "11"', f'deploy.name-cache: "{seconds}"'))
    start(world, 1)
    began = world.machine.now()

    assert world.deploy({"web": world.image("web", 2)}, 2).code == 0

    assert float(seconds) * 2 < world.machine.now() - began < most
    assert not unserved(world.machine.trace, {"web": float(seconds)})
    assert not ended_too_early(world.machine, {"web": float(seconds)})


def test_a_port_is_published_once(root: Path) -> None:
    world = World(root, WEB.replace("    networks:", '    ports: ["8080:8080"]\n    networks:'))
    start(world, 1)

    assert world.deploy({"web": world.image("web", 2)}, 2).code == 0
    assert world.container("web").ports == [("8080", "tcp")]


def test_names_of_the_compose_file_are_kept(root: Path) -> None:
    world = World(
        root,
        WEB.replace("      - proxy", "      proxy:\n        aliases: [www, shop]\n      inner: {}"),
        rest="  inner: {}\n",
    )
    world.machine.watched = ("www",)
    start(world, 1)
    world.machine.watched = ("www", "shop")
    world.machine.settle()

    assert world.deploy({"web": world.image("web", 2)}, 2).code == 0

    assert not unserved(world.machine.trace, {"web": 11, "www": 11, "shop": 11})
    assert set(world.container("web").addresses) == {"proxy", "shop_inner"}


def test_a_container_that_a_person_made(world: World) -> None:
    """It serves until its successor does, and is kept."""
    foreign = world.machine.run_by_hand("web", "ghcr.io/acme/web:old", "proxy")
    world.machine.images["ghcr.io/acme/web:old"] = Image()
    world.machine.wait(2)
    world.machine.watched = ("web",)
    digest = world.image("web", 1)

    outcome = world.deploy({"web": digest}, 1)

    assert outcome.code == 0, outcome.text
    assert world.serves("web", digest)
    assert not unserved(world.machine.trace, CACHE_SECONDS)
    assert foreign.name == "web-before" and not foreign.is_running
    assert world.names() == ["web", "web-before"]
    assert outcome.says("To remove it: docker rm web-before")


def test_a_container_that_a_person_made_and_a_bad_image(world: World) -> None:
    foreign = world.machine.run_by_hand("web", "ghcr.io/acme/web:old", "proxy")
    world.machine.images["ghcr.io/acme/web:old"] = Image()
    world.machine.wait(2)
    world.machine.watched = ("web",)

    for behaviour in (Image(exits_after=0.5), Image(works_only_beside=True), Image(exits_after=6)):
        outcome = world.deploy({"web": world.image("web", repr(behaviour), behaviour)}, 1)

        assert outcome.code == 1
        assert foreign.is_running and foreign.restart_policy == "unless-stopped"
        world.machine.wait(12)
        assert world.names() == ["web"], behaviour
        assert not unserved(world.machine.trace, CACHE_SECONDS)
        assert not ended_too_early(world.machine, CACHE_SECONDS)


def made_by_compose(world: World, **settings: Any) -> Running:
    """A container of the same project and service, which somebody started with `docker compose up`."""
    world.machine.images["ghcr.io/acme/web:old"] = Image()
    labels = compose_labels("web")
    container = world.machine.run_by_hand("web", "ghcr.io/acme/web:old", "proxy", labels=labels, **settings)
    container.aliases["proxy"].append("web")
    world.machine.wait(2)
    return container


@pytest.mark.parametrize("behaviour", [Image(exits_after=0.5), Image(works_only_beside=True), Image(exits_after=6)])
@pytest.mark.parametrize("ports", [[], [("8080", "tcp")]])
def test_the_first_deploy_onto_a_compose_project_and_a_bad_image(
    root: Path, behaviour: Image, ports: list[tuple[str, str]]
) -> None:
    """No record names its image, so the container itself comes back."""
    publishing = WEB.replace("    networks:", '    ports: ["8080:8080"]\n    networks:')
    world = World(root, publishing if ports else WEB)
    old = made_by_compose(world, ports=ports)

    outcome = world.deploy({"web": world.image("web", 1, behaviour)}, 1)

    assert outcome.code == 1
    world.machine.wait(12)
    assert world.names() == ["web"]
    assert world.container("web").id == old.id and old.is_running and old.restart_policy == "unless-stopped"
    assert not list(world.folder.glob(".deploys/.set-aside-*"))


def test_the_first_deploy_onto_a_compose_project(world: World) -> None:
    """Compose would take a container that stays for one of its own, so the old one goes."""
    old = made_by_compose(world)
    world.machine.watched = ("web",)
    digest = world.image("web", 1)

    outcome = world.deploy({"web": digest}, 1)

    assert outcome.code == 0, outcome.text
    assert world.serves("web", digest) and world.names() == ["web"]
    assert world.container("web").id != old.id
    assert not unserved(world.machine.trace, CACHE_SECONDS)
    assert not ended_too_early(world.machine, CACHE_SECONDS)
    assert world.deploy({"web": world.image("web", 2)}, 2).code == 0
    assert world.names() == ["web"]


# The registry


def test_the_token_is_in_memory_while_images_are_pulled(world: World) -> None:
    seen: list[str] = []

    def look() -> None:
        seen.extend(path.read_text() for path in deploy_program.MEMORY_FOLDER.rglob("config.json"))

    world.machine.at_each_point = look
    outcome = world.deploy({"web": world.image("web", 1)}, 1)

    assert outcome.code == 0
    assert "ghcr.io" in seen[0]
    assert list(deploy_program.MEMORY_FOLDER.iterdir()) == []
    assert not outcome.says(TOKEN)
    assert all(TOKEN not in " ".join(call) for call in world.machine.calls)


def test_a_wrong_token(world: World) -> None:
    old = start(world, 1)

    outcome = world.deploy({"web": world.image("web", 2)}, 2, token="wrong")

    assert outcome.code == 77
    assert outcome.says("ghcr.io refused the token: set a new one (deploy/RUNBOOK.md, step 5)")
    assert outcome.result["exit"] == 77 and outcome.result["result"] == "failed"
    assert world.serves("web", old)
    assert list(deploy_program.MEMORY_FOLDER.iterdir()) == []


def test_a_digest_that_was_never_pushed(world: World) -> None:
    old = start(world, 1)
    digest = "sha256:" + 64 * "0"

    outcome = world.deploy({"web": digest}, 2)

    assert outcome.code == 65
    assert outcome.says(f"deploy: could not pull ghcr.io/acme/web@{digest}: ")
    assert world.serves("web", old)


TROUBLES = [
    "Error response from daemon: toomanyrequests: too many requests",
    "Error response from daemon: received unexpected HTTP status: 503 Service Unavailable",
    "dial tcp: lookup ghcr.io: no such host",
]


@pytest.mark.parametrize("words", TROUBLES)
def test_a_registry_in_trouble_is_asked_again(world: World, words: str) -> None:
    world.machine.troubles["pull"] = [words, words]

    outcome = world.deploy({"web": world.image("web", 1)}, 1)

    assert outcome.code == 0, outcome.text
    assert outcome.says(f"{PULL_AGAIN}5 seconds: ")


@pytest.mark.parametrize("words", TROUBLES)
def test_a_registry_that_stays_in_trouble_is_not_the_tokens_fault(world: World, words: str) -> None:
    world.machine.troubles["pull"] = [words] * 9

    outcome = world.deploy({"web": world.image("web", 1)}, 1)

    assert outcome.code == 69
    assert outcome.says("could not be pulled; the registry did not reject the token: ")


def test_a_pull_that_hangs_ends_before_the_job_does(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job of one service ends after 20 minutes, of which ten may have passed while this one waited for the lock."""
    docker = world.machine.docker

    def hang(*words: str, seconds: int = 60, **options: Any) -> deploy_program.Output:
        if "pull" in words:
            world.machine.wait(seconds)
            raise deploy_program.TimedOut(69, f"docker pull did not end within {seconds} seconds")
        return docker(*words, seconds=seconds, **options)

    monkeypatch.setattr(world.machine, "docker", hang)
    before = world.machine.now()
    outcome = world.deploy({"web": world.image("web", 1)}, 1)

    assert outcome.code == 69
    assert outcome.says("could not be pulled; the registry did not reject the token: docker pull did not end within")
    assert world.machine.now() - before < 9 * 60
    both = world.deploy({"web": world.image("web", 1), "worker": world.image("worker", 1)}, 1)
    assert both.code == 69 and world.machine.now() - before < 27 * 60


def test_a_slow_pull_may_use_the_time_of_the_other_images(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = world.machine.docker

    def pull_slowly(*words: str, seconds: int = 60, **options: Any) -> deploy_program.Output:
        if "pull" in words and "web" in words[-1]:
            assert seconds > 900
            world.machine.wait(900)
        return docker(*words, seconds=seconds, **options)

    monkeypatch.setattr(world.machine, "docker", pull_slowly)
    outcome = world.deploy({"web": world.image("web", 1), "worker": world.image("worker", 1)}, 1)

    assert outcome.code == 0, outcome.text


def test_a_disk_that_runs_full_while_pulling(world: World) -> None:
    world.machine.troubles["pull"] = ["write /var/lib/docker/tmp/x: no space left on device"]

    outcome = world.deploy({"web": world.image("web", 1)}, 1)

    assert outcome.code == 69
    assert outcome.says("free some space (docker system df)")


def test_no_place_for_the_token(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploy_program, "MEMORY_FOLDER", world.root / "nowhere")

    outcome = world.deploy({"web": world.image("web", 1)}, 1)

    assert outcome.code == 69
    assert outcome.says("the token cannot be written to memory")


@pytest.mark.parametrize(
    ("label", "image", "key", "user"),
    [
        ("", "ghcr.io/acme/web", "ghcr.io", "x-access-token"),
        ("deploy.user: acme-bot", "ghcr.io/acme/web", "ghcr.io", "acme-bot"),
        ("", "acme/web", "https://index.docker.io/v1/", "x-access-token"),
        ("", "localhost:5000/web", "localhost:5000", "x-access-token"),
    ],
)
def test_the_login(root: Path, label: str, image: str, key: str, user: str) -> None:
    world = World(
        root, WEB.replace("ghcr.io/acme/web", image).replace("    networks:", f"      {label}\n    networks:")
    )
    stack = world.stack()
    stack.read_compose_file()
    service = stack.service("web")
    service.image = f"{service.repository}@sha256:{64 * '0'}"

    with stack.login(service, "t") as folder:
        text = (folder / "config.json").read_text()
        mode = (folder / "config.json").stat().st_mode & 0o777

    import base64
    import json

    assert service.repository == image
    assert json.loads(text) == {"auths": {key: {"auth": base64.b64encode(f"{user}:t".encode()).decode()}}}
    assert mode == 0o600 and not folder.exists()
