"""Files that come with a deploy, on standard input behind the token: only what the key's line has the words for."""

import hashlib
from pathlib import Path

import pytest

from tests.engine.conftest import succeeds
from tests.engine.images import Images
from tests.engine.server import Server, outcome
from tests.engine.shop import RECREATE, WEB, Shop, allow, delivery, service_text, tar

ALL, ENV, NONE = "shop shop:push shop:env", "shop shop:env shop-other:push", "shop"
MOUNTS = "    volumes: ['./conf/site:/conf/site:ro']\n"
both_rollouts = pytest.mark.parametrize("rollout", ["", RECREATE], ids=["start-first", "recreate"])


def modes(shop: Shop, *names: str) -> list[str]:
    """Who may do what with these files of the stack."""
    return [oct((shop.folder / name).stat().st_mode & 0o777) for name in names]


def contents(shop: Shop) -> dict[Path, bytes]:
    """Every file of the stack but what the program keeps for itself."""
    own = {".deploys", "log", ".deploy.lock", "docker-compose.override.yml"}
    paths = [path for path in shop.folder.rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in paths if path.relative_to(shop.folder).parts[0] not in own}


def archive_of(shop: Shop, *names: str) -> bytes:
    """These files of the stack, as the job sends them."""
    return tar(**{name.replace("/", "__"): (shop.folder / name).read_text() for name in names})


def test_all_files_of_a_stack_come_with_the_deploy(shop: Shop, server: Server, images: Images) -> None:
    allow(server, "sender", ALL)
    shop.write("    env_file: web.env\n", conf__site="new\n", hooks__after='echo "$EXIT_CODE" >>ran\n')
    names = ["docker-compose.yml", "conf/site", "hooks/after"]
    words, sent = shop.words(images.api("uno")), [(shop.folder / name).read_text() for name in names]
    files = dict(zip(["docker-compose.yml", "conf__site", "hooks__after"], sent, strict=True))
    archive = tar(**files, webENV="A='$5'\n")
    shop.write_whole((shop.folder / "docker-compose.yml").read_text().replace("init: true", "init: false"))
    server.run("rm", "-rf", str(shop.folder / "hooks"))
    shop.put("conf/site", "old\n")
    shop.put(".deploys/incoming-stray/web.env", "of a deploy that was killed\n")

    result = shop.by_key(words, archive)

    assert result.returncode == 0, result.stdout
    assert [(shop.folder / name).read_text() for name in names] == sent
    assert modes(shop, *names, "hooks", "web.env") == ["0o644"] * 3 + ["0o755", "0o600"]
    assert server.docker("inspect", "-f", "{{.HostConfig.Init}} {{index .Config.Env 0}}", WEB) == "true A=$5"
    assert (shop.folder / "ran").read_text() == "0\n"
    assert list((shop.folder / ".deploys").glob("incoming-*")) == []
    assert "A=" not in result.stdout


def test_the_files_of_a_newer_commit_stay(shop: Shop, server: Server, images: Images) -> None:
    """Two services of one repository: the second one's image of the older commit took longer to build."""
    allow(server, "sender", ALL)
    jobs = "shop-jobs"
    shop.write(service_text(jobs, labels=RECREATE), conf__site="older\n")
    older = shop.words_of({jobs: images.api("uno")}, 9)
    archive = archive_of(shop, *shop.files)
    shop.write(service_text(jobs, labels=RECREATE), conf__site="newer\n")
    succeeds(shop.deploy(images.api("due"), 13))

    late = shop.by_key(older, archive)

    assert late.returncode == 0, late.stdout
    assert (shop.folder / "conf/site").read_text() == "newer\n"
    assert (server.serves(jobs), server.serves(WEB)) == ("uno", "due")


@both_rollouts
def test_a_changed_setting_makes_a_new_container_of_the_same_image(
    shop: Shop, server: Server, images: Images, rollout: str
) -> None:
    allow(server, "sender", ALL)
    one = images.api("uno")
    shop.write(rollout=rollout)
    shop.bring_into_service(one)
    before = server.container_id(WEB)
    unlimited = (shop.folder / "docker-compose.yml").read_text()
    shop.write("    mem_limit: 64m\n", rollout=rollout)
    words, archive = shop.words(one), archive_of(shop, *shop.files)
    shop.write_whole(unlimited)

    changed = shop.by_key(words, archive)

    assert changed.returncode == 0, changed.stdout
    assert outcome(changed)["services"][0]["result"] == "serving"
    after = server.container_id(WEB)
    assert after != before
    assert server.docker("inspect", "-f", "{{.HostConfig.Memory}}", WEB) == str(64 * 1024 * 1024)

    again = shop.by_key(shop.words(one), archive)
    assert again.returncode == 0, again.stdout
    assert outcome(again)["services"][0]["result"] == "unchanged"
    assert server.container_id(WEB) == after


@both_rollouts
def test_a_changed_file_is_seen_by_the_container_that_mounts_it(
    shop: Shop, server: Server, images: Images, rollout: str
) -> None:
    """Also by one that reads it only when it starts. The file stays the same one: a mount would not follow another."""
    allow(server, "sender", ALL)
    shows = images.api("shows", "shows-its-file")
    shop.write(MOUNTS, rollout=rollout, conf__site="old")
    succeeds(shop.by_key(shop.words(shows), archive_of(shop, *shop.files)))
    assert server.serves(WEB) == "old"
    inode = (shop.folder / "conf/site").stat().st_ino
    shop.put("conf/site", "new")
    words, archive = shop.words(shows), archive_of(shop, *shop.files)
    shop.put("conf/site", "old")

    result = shop.by_key(words, archive)

    assert result.returncode == 0, result.stdout
    assert server.serves(WEB) == "new"
    assert (shop.folder / "conf/site").stat().st_ino == inode


def broken(archive: bytes, damage: str) -> bytes:
    """A delivery that something happened to on its way."""
    checksum = hashlib.sha256(archive).hexdigest()
    if damage == "cut off":
        return delivery(archive)[:-700]
    if damage == "other bytes":
        return f"{len(archive)} {checksum}\n".encode() + archive.replace(b"new", b"odd")
    if damage == "other checksum":
        return f"{len(archive)} {'0' * 64}\n".encode() + archive
    return archive


@pytest.mark.parametrize("damage", ["cut off", "other bytes", "other checksum", "no length"])
def test_what_does_not_arrive_whole_changes_nothing(shop: Shop, server: Server, images: Images, damage: str) -> None:
    allow(server, "sender", ALL)
    shop.write(conf__site="new\n")
    words, archive = shop.words(images.api("uno")), archive_of(shop, *shop.files)
    shop.put("conf/site", "old\n")
    before = contents(shop)

    result = server.key(words, key="sender", sent=broken(archive, damage))

    assert result.returncode == 64, result.stdout
    assert contents(shop) == before
    assert WEB not in server.containers()


@pytest.mark.parametrize(
    ("allowed", "names", "says"),
    [
        (ALL, ["conf/other"], "the compose file does not name it"),
        (ALL, ["other.env"], "the compose file does not name it"),
        (ALL, ["docker-compose.override.yml"], "only plain files with plain names"),
        (ENV, ["web.env", "hooks/before"], "its line in authorized_keys has no shop:push"),
        ("shop shop:push", ["web.env"], "its line in authorized_keys has no shop:env"),
        (NONE, ["web.env"], "this key may send no files"),
    ],
)
def test_what_a_key_may_not_send(
    shop: Shop, server: Server, images: Images, allowed: str, names: list[str], says: str
) -> None:
    allow(server, "sender", allowed)
    shop.write("    env_file: web.env\n", hooks__before="true\n")
    shop.put("web.env", "A=1\n")
    before = contents(shop)
    archive = tar(**{name.replace("/", "__"): "touched=1\n" for name in names})

    result = shop.by_key(shop.words(images.api("uno")), archive)

    assert result.returncode == 64, result.stdout
    (refusal,) = [line for line in result.stdout.splitlines() if line.startswith("deploy: ")]
    assert says in refusal
    assert contents(shop) == before
    assert list((shop.folder / ".deploys").glob("incoming-*")) == []
    assert WEB not in server.containers()


def test_env_files_alone_come_in_place_of_the_servers(shop: Shop, server: Server, images: Images) -> None:
    allow(server, "sender", ENV)
    shop.write("    env_file: web.env\n")
    shop.put("web.env", "A='by hand'\n")

    result = shop.by_key(shop.words(images.api("uno")), tar(webENV="A='it$is'\n"))

    assert result.returncode == 0, result.stdout
    assert (shop.folder / "web.env").read_text() == "A='it$is'\n"
    assert modes(shop, "web.env") == ["0o600"]
    assert server.docker("inspect", "-f", "{{index .Config.Env 0}}", WEB) == "A=it$is"
