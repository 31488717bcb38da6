"""What a deploy finds in its way: each finding with its cure, all at once, and nothing changed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kiwari_ci.engines.compose.deploy_programs import deploy as deploy_program
from tests.host.fake_docker import Image
from tests.host.world import DB, NETWORKS, WEB, WORKER, Outcome, World

DATA = "volumes:\n  data:\n"


def refused(world: World, code: int = 69, sequence: int = 9) -> Outcome:
    """A deploy that finds something in its way, and changes nothing."""
    digest = world.image("web", sequence)
    before = [vars(container).copy() for container in world.machine.everything()]
    record, local = world.record("web"), set(world.machine.state.local)

    outcome = world.deploy({"web": digest}, sequence)

    assert outcome.code == code, outcome.text
    assert [vars(container) for container in world.machine.everything()] == before
    assert (world.record("web"), world.machine.state.local) == (record, local)
    assert outcome.result["result"] == "failed"
    return outcome


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("A=1\nSECRET=change-me\n", "shop/.env:2: SECRET still has change-me. Fill it in"),
        ("URL='postgres://pos_stg:change-me@postgres/pos'\n", "shop/.env:1: URL still has change-me"),
        ("A13=x#change-me\n", "shop/.env:1: A13 still has change-me"),
        ("export SECRET=change-me\n", "shop/.env:1: SECRET still has change-me"),
        ("SECRET: change-me\n", "shop/.env:1: SECRET still has change-me"),
        ("\ufeffSECRET=change-me\n", "shop/.env:1: SECRET still has change-me"),
        ("# a comment\r\nSECRET=change-me\r\n", "shop/.env:2: SECRET still has change-me"),
        ("SECRET=hidden$HOME\n", "shop/.env:1: Compose reads another value for SECRET"),
        ("A1=hidden#1$HOME\n", "shop/.env:1: Compose reads another value for A1"),
        ('A2="hidden#1$HOME"\n', "shop/.env:1: Compose reads another value for A2"),
        ('A3="it\'s hidden $HOME"\n', "shop/.env:1: Compose reads another value for A3"),
        ("A4: hidden$HOME\n", "shop/.env:1: Compose reads another value for A4"),
        ("A7=hidden #def\n", "shop/.env:1: Compose reads another value for A7"),
        ("A8='hidden' more\n", "shop/.env:1: "),
        ("A='a'\nB=1\nA='hidden'\n", "shop/.env:3: A is set in line 1, too. Remove one of the two lines"),
        ("A='hidden'  B=hidden\n", "Compose reads more variables from shop/.env than it has lines"),
        ("A9=hidden$$twice\n", "shop/.env:1: Compose reads another value for A9"),
        ('A5="two\nlines hidden $HOME"\n', "shop/.env:2 is not KEY='value' on one line"),
        ("SECRET='hidden\n", "Compose cannot read shop/.env"),
        ('SECRET="${hidden:?hidden}"\n', "Compose cannot read shop/.env"),
        ("SECRET=it\n's hidden\n", "shop/.env:2 is not KEY='value' on one line"),
        ("hiddenMIIEvQ=a$HOME\n", "shop/.env:1: Compose reads another value for the key than the line shows"),
        ("hiddenMIIEvQ=change-me\n", "shop/.env:1: the key still has change-me"),
        ("COMPOSE_FILE=evil.env\n", "shop/.env:1: COMPOSE_FILE is a setting of Compose or Docker itself"),
        ("DOCKER_HOST=tcp://evil\n", "shop/.env:1: DOCKER_HOST is a setting of Compose or Docker itself"),
        (None, "shop/.env is missing. Create it on the server, from .env.example"),
    ],
)
def test_an_env_file_that_is_not_ready(world: World, text: str | None, says: str) -> None:
    file = world.folder / ".env"
    file.unlink() if text is None else file.write_text(text)

    outcome = refused(world)

    assert outcome.says(says), outcome.text
    assert not outcome.says("hidden") and not outcome.says("postgres://")


@pytest.mark.parametrize(
    "text",
    [
        "A=1\n",
        "A='pa$$word # and more'\n",
        'A="spaces and # signs"\n',
        "A=abc#def\n",
        "A: yaml\n",
        "export A=1\n",
        "A=\n",
        "# change-me\nA=1\n",
        "\r\nA='1'\r\n",
        "A='ü'\n",
    ],
)
def test_an_env_file_that_is_ready(world: World, text: str) -> None:
    (world.folder / ".env").write_text(text)

    outcome = world.deploy({"web": world.image("web", 1)}, 1)

    assert outcome.code == 0, outcome.text


def test_an_env_file_of_another_encoding(world: World) -> None:
    (world.folder / ".env").write_bytes(b"SECRET=\xfc change-me\n")

    assert refused(world).says("shop/.env:1: SECRET still has change-me")


def test_an_env_file_that_compose_cannot_read_any_more(root: Path) -> None:
    """A container never starts without its variables; the old one runs on."""
    world = World(root, WORKER.replace("    networks:", "    env_file: .env\n    networks:"))
    first = world.image("worker", 1)
    assert world.deploy({"worker": first}, 1).code == 0
    troubles = world.machine.troubles

    def fail_once_after_the_pull() -> None:
        if "pull" in world.machine.calls[-1] and "compose config" not in troubles:
            troubles["compose config"] = ["failed to read .env"]

    world.machine.at_each_point = fail_once_after_the_pull
    outcome = world.deploy({"worker": world.image("worker", 2)}, 2)

    assert outcome.code == 69, outcome.text
    assert outcome.says("Compose cannot read the env files, and no container starts without them.")
    assert world.serves("worker", first)


def test_a_key_that_the_example_has(world: World) -> None:
    (world.folder / ".env.example").write_text("# what is needed\nSECRET=change-me\nOTHER=change-me\n")

    assert refused(world).says("shop/.env lacks OTHER, which .env.example has. Add it")


def test_all_findings_at_once(world: World) -> None:
    (world.folder / ".env").write_text("A=change-me\nB=change-me\n")
    (world.folder / "compose.yaml").write_text("services: {}\n")
    world.machine.free = 1499
    world.machine.state.networks.clear()

    outcome = refused(world)

    for words in ("A still has change-me", "B still has change-me", "compose.yaml", "network proxy", "1499 MB left"):
        assert outcome.says(words), outcome.text
    assert "compose.yaml" in outcome.result["message"]


@pytest.mark.parametrize(("free", "code"), [(1499, 69), (1500, 0)])
def test_a_server_that_is_too_full(world: World, free: int, code: int) -> None:
    world.machine.free = free

    outcome = world.deploy({"web": world.image("web", 1)}, 1)

    assert outcome.code == code
    assert outcome.says("Free some space (docker system df)") == (code == 69)


@pytest.mark.parametrize(
    ("engine", "compose", "says"),
    [
        ("20.9.1", "2.40.0", "Docker Engine is 20.9.1. 20.10 or newer is needed"),
        ("20.10.24", "2.19.1", "Docker Compose is 2.19.1. 2.20 or newer is needed: install the package"),
        ("28.0.1", "v2.9.0", "Docker Compose is v2.9.0"),
        ("", "2.40.0", "Docker Engine is unknown"),
        ("20.10.0+dfsg1", "2.20.0", None),
        ("29.0.0-rc.1", "v5.0.0", None),
    ],
)
def test_versions(world: World, engine: str, compose: str, says: str | None) -> None:
    world.machine.engine_version, world.machine.compose_version = engine, compose
    if says:
        assert refused(world).says(says)
    else:
        assert world.deploy({"web": world.image("web", 1)}, 1).code == 0


def test_docker_does_not_answer(world: World) -> None:
    world.machine.troubles["ps"] = ["Cannot connect to the Docker daemon at unix:///var/run/docker.sock."] * 9

    outcome = world.deploy({"web": world.image("web", 1)}, 1)

    assert outcome.code == 69
    assert outcome.says("Docker does not answer: Cannot connect to the Docker daemon")


@pytest.mark.parametrize("name", deploy_program.FILES_THAT_COMPOSE_READS)
def test_a_file_that_compose_would_read(world: World, name: str) -> None:
    (world.folder / name).symlink_to("nowhere")

    outcome = refused(world)

    assert outcome.says(f"Move it away: mv {world.folder}/{name} {world.folder}/{name}.before")


@pytest.mark.parametrize(
    "text",
    [
        "services: {}\n",
        deploy_program.PINS_HEAD + '  web: {image: "x"}\n    mem_limit: 512m\n',
        deploy_program.PINS_HEAD + "\nnetworks: {}\n",
    ],
)
def test_an_override_file_with_lines_of_somebody_elses(world: World, text: str) -> None:
    path = world.folder / "docker-compose.override.yml"
    path.write_text(text)

    outcome = refused(world)

    assert outcome.says(f"mv {path} {path}.before")
    assert path.read_text() == text


@pytest.mark.parametrize("name", ["_web", "-web", ".web"])
def test_an_override_file_of_our_own_with_an_unusual_name_of_a_service(root: Path, name: str) -> None:
    """Compose allows it, for a service that no request names."""
    world = World(root, WEB, WORKER.replace("  worker:", f"  {name}:", 1))
    assert world.deploy({"web": world.image("web", 1)}, 1).code == 0

    assert world.deploy({"web": world.image("web", 2)}, 2).code == 0


def test_an_override_file_of_our_own(world: World) -> None:
    world.deploy({"web": world.image("web", 1)}, 1)

    assert world.deploy({"web": world.image("web", 2)}, 2).code == 0


def test_a_network_and_a_volume_that_are_missing(root: Path) -> None:
    web = f"{WEB}      - other\n    volumes:\n      - v:/data\n"
    rest = "  other:\n    external: true\n    name: '0815'\nvolumes:\n  v:\n    external: true\n"
    world = World(root, web, rest=rest)

    outcome = refused(world)

    assert outcome.says("the network 0815 is missing. Create it: docker network create 0815")
    assert outcome.says("the volume v is missing. Create it: docker volume create v")
    assert not outcome.says("create proxy")


def test_a_compose_file_that_compose_cannot_read(world: World) -> None:
    world.edit("deploy.host: ", "deploy.x: ${hidden:?hidden}\n      deploy.host: ")

    outcome = world.deploy({"web": world.image("web", 1)}, 1)

    assert outcome.code == 69
    assert outcome.says(f"See why on the server: cd {world.folder} && docker compose config -q")
    assert not outcome.says("hidden")


def test_files_that_are_not_the_commits(world: World) -> None:
    outcome = world.deploy({"web": world.image("web", 1)}, 1, files_sha256=64 * "e")

    assert outcome.code == 69
    assert outcome.says("git archive HEAD deploy/shop | ssh HOST")
    assert outcome.says("if the folder has another name in the repository, deploy/RUNBOOK.md has the command")
    assert world.names() == []


def test_a_file_beside_the_compose_file_counts(world: World) -> None:
    path = world.folder / "docker-compose.yml"
    path.write_text(f"# Files beside it: hooks/before conf/nginx.conf\n{path.read_text()}")
    (world.folder / "conf").mkdir()
    (world.folder / "conf" / "nginx.conf").write_text("of the commit")
    checksum = world.checksum({})
    (world.folder / "conf" / "nginx.conf").write_text("of a person")

    assert world.deploy({"web": world.image("web", 1)}, 1, files_sha256=checksum).code == 69
    assert world.deploy({"web": world.image("web", 1)}, 1, files_sha256=world.checksum({})).code == 0


@pytest.mark.parametrize("is_running", [True, False])
def test_a_port_that_another_container_holds(root: Path, is_running: bool) -> None:
    world = World(root, WEB.replace("    networks:", '    ports: ["127.0.0.1:8080:8080"]\n    networks:'))
    other = world.machine.run_by_hand("other", "nginx:1", "proxy", ports=[("8080", "tcp"), ("53", "udp")])
    if is_running:
        assert refused(world).says("web publishes port 8080, which other uses. Stop that container")
    else:
        world.machine.end(other, 0)
        assert world.deploy({"web": world.image("web", 1)}, 1).code == 0


@pytest.mark.parametrize(
    ("address", "is_taken"),
    [("", True), ("0.0.0.0:", True), ("127.0.0.1:", True), ("10.0.0.1:", False), ("[::1]:", False)],
)
def test_a_port_of_one_address(root: Path, address: str, is_taken: bool) -> None:
    world = World(root, WEB.replace("    networks:", '    ports: ["127.0.0.1:8080:8080"]\n    networks:'))
    world.machine.run_by_hand("other", "nginx:1", "proxy", ports=[(f"{address}8080", "tcp")])

    outcome = world.deploy({"web": world.image("web", 1)}, 1)

    assert outcome.code == (69 if is_taken else 0), outcome.text


def test_its_own_port_is_in_nobodys_way(root: Path) -> None:
    world = World(root, WEB.replace("    networks:", '    ports: ["8080:8080"]\n    networks:'))
    world.deploy({"web": world.image("web", 1)}, 1)

    assert world.deploy({"web": world.image("web", 2)}, 2).code == 0


def test_a_foreign_container_of_the_name_with_data_that_the_service_does_not_mount(root: Path) -> None:
    world = World(root, WEB, WORKER)
    mount = {"Type": "volume", "Name": "jobs", "Source": "/var/lib/docker/volumes/jobs/_data"}
    world.machine.run_by_hand("worker", "worker:1", "proxy", mounts=[mount])

    outcome = world.deploy({"worker": world.image("worker", 1)}, 1)

    assert outcome.code == 69
    assert outcome.says("worker was not made by this stack, and has volumes that the compose file does not mount: jobs")


def test_a_foreign_container_and_one_that_was_moved_away_before(world: World) -> None:
    world.machine.run_by_hand("web", "web:1", "proxy")
    world.machine.run_by_hand("web-before", "web:1", "proxy")

    assert refused(world).says("docker rm -f web-before")


@pytest.mark.parametrize("status", ["running", "paused", "restarting"])
def test_data_that_another_container_has_open(root: Path, status: str) -> None:
    """One that is paused or about to start again writes to it, too."""
    world = World(root, WEB, DB, rest=DATA)
    mount = {"Type": "volume", "Name": "shop_data", "Source": "/var/lib/docker/volumes/shop_data/_data"}
    world.machine.run_by_hand("old-db", "postgres:16", "proxy", mounts=[mount]).status = status

    outcome = refused(world)

    assert outcome.says("old-db runs on shop_data, which db would use, too")
    assert outcome.says("docker update --restart no old-db && docker stop old-db")


RECREATED = WEB.replace("deploy.host:", "deploy.rollout: recreate\n      deploy.host:")
MOUNTING = "    volumes:\n      - data:/var/lib/app\n    networks:"
ONE_WRITER = {
    "web": RECREATED.replace("    networks:", MOUNTING),
    "worker": WORKER.replace("    networks:", f"    labels:\n      deploy.rollout: recreate\n{MOUNTING}"),
}
SHOP_DATA = {"Type": "volume", "Name": "shop_data", "Source": "/var/lib/docker/volumes/shop_data/_data"}


@pytest.mark.parametrize("name", ONE_WRITER)
def test_data_of_a_service_that_must_not_run_twice(root: Path, name: str) -> None:
    """Two writers are refused, before a deploy and when a rollback starts; a third one is not added by a deploy."""
    world = World(root, ONE_WRITER[name], rest=DATA)
    other = world.machine.run_by_hand("shop_app_1", "app:1", "proxy", mounts=[SHOP_DATA])
    first = world.image(name, 1)

    outcome = world.deploy({name: first}, 1)

    assert outcome.code == 69, outcome.text
    assert outcome.says(f"shop_app_1 runs on shop_data, which {name} would use, too")
    assert world.names() == ["shop_app_1"]

    world.machine.do_stop([other.name])
    assert world.deploy({name: first}, 1).code == 0
    assert world.deploy({name: world.image(name, 2)}, 2).code == 0
    world.machine.do_stop([name])
    world.machine.do_start([other.name])
    going_back = world.rollback(name)
    assert going_back.code == 1, going_back.text
    assert going_back.says(f"shop_app_1 runs on shop_data, which {name} would use, too")
    assert not world.container(name).is_running

    # A person who knows that both may write starts the other one beside it.
    world.machine.do_stop([other.name])
    assert world.deploy({name: world.image(name, 3)}, 3).code == 0
    world.machine.do_start([other.name])
    assert world.deploy({name: world.image(name, 4)}, 4).code == 0


def test_a_worker_may_share_its_files_with_others(root: Path) -> None:
    """For example with a web server that another stack runs: only the spec knows that a worker must run alone."""
    world = World(root, WORKER.replace("    networks:", MOUNTING), rest=DATA)
    world.machine.run_by_hand("files-server", "app:1", "proxy", mounts=[SHOP_DATA])
    assert world.deploy({"worker": world.image("worker", 1)}, 1).code == 0


def test_data_that_a_container_opens_while_the_image_is_pulled(root: Path) -> None:
    world = World(root, ONE_WRITER["worker"], rest=DATA)

    def start_another() -> None:
        if any("pull" in call for call in world.machine.calls) and not world.machine.find("other"):
            world.machine.run_by_hand("other", "app:1", "proxy", mounts=[SHOP_DATA])

    world.machine.at_each_point = start_another
    outcome = world.deploy({"worker": world.image("worker", 1)}, 1)

    assert outcome.code == 1, outcome.text
    assert outcome.says("other runs on shop_data, which worker would use, too")
    assert world.names() == ["other"]


def test_a_temporary_container_of_a_service_that_must_not_run_twice_any_more(root: Path) -> None:
    """An earlier deploy left it, and it serves; the next one stops it before its own container starts."""
    world = World(root, WEB.replace("    networks:", MOUNTING), rest=DATA)
    assert world.deploy({"web": world.image("web", 1)}, 1).code == 0
    world.machine.do_rename(["web", "x"])
    stack = world.stack()
    stack.read_compose_file()
    image = f"ghcr.io/acme/web@{world.image('web', 1)}"
    web = stack.services["web"]
    assert stack.compose("run", "-d", "-T", "--no-deps", "--name", "web-next", "web", pins=stack.pins).code == 0
    deploy_program.give_service_names(stack, web)
    world.machine.do_rm(["-f", "-v", "x"])
    world.machine.wait(5)
    assert world.container("web-next").reference == image
    world.edit("deploy.host:", "deploy.rollout: recreate\n      deploy.host:")
    running: set[int] = set()
    world.machine.at_each_point = lambda: running.add(
        len([container for container in world.machine.everything() if container.is_running])
    )
    digest = world.image("web", 2)

    outcome = world.deploy({"web": digest}, 2)

    assert outcome.code == 0, outcome.text
    assert world.names() == ["web"] and world.serves("web", digest)
    assert running == {0, 1}


def test_data_of_a_container_that_starts_when_the_server_boots(root: Path) -> None:
    """With `restart: always` it does, although a person stopped it: two databases would run then."""
    world = World(root, WEB, DB, rest=DATA)
    old = world.machine.run_by_hand("old-db", "postgres:16", "proxy", mounts=[SHOP_DATA], restart_policy="always")
    world.machine.do_stop(["old-db"])

    outcome = refused(world)

    assert outcome.says("old-db is stopped, but Docker starts it again when the server boots, on shop_data")
    assert outcome.says("docker update --restart no old-db && docker stop old-db")

    old.restart_policy = "unless-stopped"
    world.machine.images["postgres:17"] = Image()
    world.machine.public.add("postgres:17")
    assert world.deploy({"web": world.image("web", 9)}, 9).code == 0


def test_data_that_is_known_by_two_names(root: Path, tmp_path: Path) -> None:
    """A link leads to a folder, and a volume stands for one."""
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    world = World(root, WEB, DB.replace("data:/var", f"{tmp_path}/link:/var"))
    world.machine.devices["elsewhere"] = f"{tmp_path}/data"
    world.machine.state.volumes.add("elsewhere")
    for mount in (
        {"Type": "bind", "Source": f"{tmp_path}/data"},
        {"Type": "volume", "Name": "elsewhere", "Source": "/var/lib/docker/volumes/elsewhere/_data"},
    ):
        old = world.machine.run_by_hand("old-db", "postgres:16", "proxy", mounts=[mount])
        assert refused(world).says(f"old-db runs on {mount.get('Name') or mount['Source']}, which db would use, too")
        world.machine.remove(old)


def test_a_volume_and_its_folder_are_the_same_data(root: Path) -> None:
    world = World(root, WEB, DB, rest=DATA)
    world.machine.state.volumes.add("shop_data")
    mount = {"Type": "bind", "Source": "/var/lib/docker/volumes/shop_data"}
    world.machine.run_by_hand("old-db", "postgres:16", "proxy", mounts=[mount])

    assert refused(world).says("old-db runs on /var/lib/docker/volumes/shop_data, which db would use, too")


def test_dockers_socket_is_no_data(root: Path) -> None:
    volume = "    volumes:\n      - /run/docker.sock:/var/run/docker.sock\n    networks:"
    world = World(root, WORKER.replace("    networks:", volume))
    mount = {"Type": "bind", "Source": "/var/run/docker.sock"}
    world.machine.run_by_hand("other", "other:1", "proxy", mounts=[mount])

    assert world.deploy({"worker": world.image("worker", 1)}, 1).code == 0


def test_data_under_its_name_that_does_not_run(root: Path) -> None:
    world = World(root, WEB, DB, rest=DATA)
    world.machine.end(world.machine.run_by_hand("db", "postgres:16", "proxy"), 0)

    assert refused(world).says("db exists, does not run, and was not made by this stack. If you need its data")


@pytest.mark.parametrize(
    ("old", "new", "label"),
    [
        ('deploy.health: ":8080/health"', 'deploy.health: "8080/health"', "deploy.health"),
        ('deploy.name-cache: "11"', 'deploy.name-cache: "11s"', "deploy.name-cache"),
        ('deploy.name-cache: "11"', 'deploy.start-period: "1m"', "deploy.start-period"),
        ('deploy.name-cache: "11"', "deploy.rollout: replace", "deploy.rollout"),
        ('deploy.name-cache: "11"', "deploy.scheme: ftp", "deploy.scheme"),
    ],
)
def test_a_label_that_cannot_be_read(world: World, old: str, new: str, label: str) -> None:
    world.edit(old, new)

    assert refused(world).says(f"the label {label} of web is not valid. Generate the compose file again")


def test_a_promotion_of_what_never_served_there(root: Path) -> None:
    world = World(root, WEB.replace("deploy.host:", "deploy.from: staging/web\n      deploy.host:"))
    digest = world.image("web", 9)

    assert refused(world, 65).says(f"staging/web has never served {digest}. Deploy it there")

    (root / "staging" / ".deploys").mkdir(parents=True)
    record = root / "staging" / ".deploys" / "web"
    record.write_text(f"# @{digest} never came\n")
    assert refused(world, 65)

    record.write_text(f"ghcr.io/acme/web@{digest} 9 2026-01-01T00:00:00Z 77\n")
    assert world.deploy({"web": digest}, 9).code == 0


def test_check_prints_all_and_changes_nothing(world: World) -> None:
    assert world.check().text == "shop is ready for a deploy\n"

    (world.folder / ".env").write_text("A=change-me\n")
    world.machine.free = 10
    outcome = world.check()

    assert outcome.code == 69
    assert outcome.says("deploy: shop/.env:1: A still has change-me. Fill it in\n")
    assert outcome.says("deploy: Docker has 10 MB left")
    assert world.names() == []
    assert not (world.folder / ".deploys").exists()


def test_check_names_what_the_compose_file_no_longer_has(world: World) -> None:
    world.deploy({"worker": world.image("worker", 1)}, 1)
    world.write(f"name: shop\nservices:{WEB}{NETWORKS}")

    assert world.check().says(
        "note: worker runs in the project shop, but belongs to no service of the compose file. It stays as it is: no"
        " deploy starts, stops or removes it. Never use --remove-orphans here, which removes it\n"
    )


def test_a_service_that_the_stack_no_longer_has(root: Path) -> None:
    """What was deployed serves, and the run is red: its domain may still lead to the other."""
    world = World(root, WEB, WEB.replace("web", "old"))
    world.deploy({"old": world.image("old", 1)}, 1)
    world.write(f"name: shop\nservices:{WEB}{NETWORKS}")
    digest = world.image("web", 2)

    outcome = world.deploy({"web": digest}, 2)

    assert outcome.code == 69
    assert outcome.says("Point their domains elsewhere, then: docker rm -f old")
    assert world.serves("web", digest)
    assert world.container("old").is_running


def test_an_image_is_looked_at_before_it_runs(world: World) -> None:
    for version, image, says in [
        (1, Image(architecture="arm64"), "is built for arm64, and this server is amd64"),
        (2, Image(labels=(("traefik.http.routers.x.rule", "Host(`evil`)"),)), "has the label traefik.http.routers.x"),
        (3, Image(labels=(("com.docker.compose.service", "web"),)), "has the label com.docker.compose.service"),
        (4, Image(labels=(("caddy", "evil.example.com"),)), "has the label caddy"),
        (6, Image(labels=(("Traefik.http.routers.x.rule", "Host(`evil`)"),)), "has the label Traefik.http.routers.x"),
    ]:
        outcome = world.deploy({"web": world.image("web", version, image)}, version)
        assert (outcome.code, outcome.says(says)) == (65, True), outcome.text
        assert world.names() == []

    for version, variable in [(7, "VIRTUAL_HOST=evil.example.com"), (8, "VIRTUAL_PORT=1")]:
        outcome = world.deploy({"web": world.image("web", version, Image(variables=(variable,)))}, version)
        name = variable.partition("=")[0]
        assert (outcome.code, outcome.says(f"sets the variable {name}, which a proxy acts on")) == (65, True)
        assert world.names() == []

    harmless = Image(labels=(("org.opencontainers.image.source", "https://example.com"),))
    assert world.deploy({"web": world.image("web", 5, harmless)}, 5).code == 0


def test_a_variable_of_a_proxy_that_the_compose_file_sets(root: Path) -> None:
    web = WEB.replace("    networks:", "    environment:\n      VIRTUAL_HOST: shop.example.com\n    networks:")
    world = World(root, web)
    image = Image(variables=("VIRTUAL_HOST=localhost",))

    assert world.deploy({"web": world.image("web", 1, image)}, 1).code == 0


@pytest.mark.parametrize(
    ("written", "sign"),
    [
        ("    labels:\n      caddy: shop.example.com\n", "the label caddy, by which caddy-docker-proxy"),
        (
            "    labels:\n      caddy_1.reverse_proxy: x\n",
            "the label caddy_1.reverse_proxy, by which caddy-docker-proxy",
        ),
        (
            "    environment:\n      VIRTUAL_HOST: shop.example.com\n    labels:\n",
            "the variable VIRTUAL_HOST, by which",
        ),
        ("", "the variable VIRTUAL_HOST, by which nginx-proxy"),
        ("    labels:\n      traefik.enable: 'true'\n      caddyfile: x\n", ""),
    ],
)
def test_a_proxy_that_does_not_wait_until_a_container_is_healthy(root: Path, written: str, sign: str) -> None:
    world = World(root, WEB.replace("    labels:\n", written or "    labels:\n"))
    if not written:
        (world.folder / ".env").write_text("VIRTUAL_HOST=shop.example.com\n")
    assert not world.deploy({"web": world.image("web", 1)}, 1).says("note: web has"), "nothing is started beside it"

    outcome = world.deploy({"web": world.image("web", 2)}, 2)

    assert outcome.code == 0
    assert outcome.says(f"note: web has {sign}") is bool(sign)
    assert outcome.says("it may send requests to web-next before that has proved itself") is bool(sign)


def test_a_token_is_for_one_registry(root: Path) -> None:
    """Another registry must not see it."""
    world = World(root, WEB, WORKER.replace("ghcr.io/acme", "registry.example.com"))
    digest = world.image("web", 1)

    outcome = world.deploy({"web": digest, "worker": digest}, 1)

    assert outcome.code == 64
    assert outcome.says("the images are in several registries, ghcr.io and registry.example.com")
    assert not [call for call in world.machine.calls if "pull" in call]


def test_a_migration_with_a_quote_without_its_partner(world: World) -> None:
    world.edit('deploy.name-cache: "11"', 'deploy.migrate: "migrate \'up"')

    outcome = world.deploy({"web": world.image("web", 1)}, 1)

    assert outcome.code == 69
    assert outcome.says("the label deploy.migrate of web is not valid")
    assert world.names() == []


@pytest.mark.parametrize("setting", ["deploy: {replicas: 0}", "scale: 0", "deploy: {replicas: 2}"])
def test_a_service_with_no_replica_or_several(world: World, setting: str) -> None:
    """With 0, Compose would remove the container and start none."""
    world.edit("container_name: web", f"container_name: web\n    {setting}")

    assert refused(world).says(f"web has {setting[-2 if '}' in setting else -1]} replicas in the compose file")


def test_without_compose_it_is_not_the_compose_file_that_is_blamed(world: World) -> None:
    missing = ["docker: 'compose' is not a docker command."] * 9
    world.machine.troubles = {"compose config": missing, "compose version": missing}

    assert world.check().says("Docker Compose is missing. 2.20 or newer is needed")


def test_without_docker_it_is_not_the_compose_file_that_is_blamed(world: World) -> None:
    silent = ["Cannot connect to the Docker daemon at unix:///var/run/docker.sock."] * 9
    world.machine.troubles = {"compose config": silent, "version": silent}

    assert world.check().says("Docker does not answer: Cannot connect to the Docker daemon")


def test_a_compose_file_with_umlauts_on_a_server_with_another_encoding(tmp_path: Path) -> None:
    """Python would read files in the encoding of the login's locale."""
    (tmp_path / "docker-compose.yml").write_text("name: caf\u00e9\n", encoding="utf-8")
    code = (
        "import sys; from pathlib import Path; from kiwari_ci.engines.compose.deploy_programs import deploy;"
        f" sys.exit(deploy.Files(Path({str(tmp_path)!r})).text() != 'name: caf\\u00e9\\n')"
    )
    environment = {**os.environ, "LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": os.getcwd()}

    ended = subprocess.run([sys.executable, "-X", "utf8=0", "-c", code], env=environment, capture_output=True)

    assert ended.returncode == 0, ended.stderr
