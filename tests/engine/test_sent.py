"""Files that come with a deploy, on standard input behind the token: only what the key's line has the words for."""

import io
import shutil
import tarfile

import pytest

from tests.engine.conftest import succeeds
from tests.engine.images import Images
from tests.engine.server import Server
from tests.engine.shop import WEB, Shop, allow, tar

ODD = r"conf__a\tb"  # a name that a shell may read as another
ALL, ENV, NONE = "shop shop:push shop:env", "shop shop:env other:push", "shop"


def modes(shop: Shop, *names: str) -> list[str]:
    return [oct((shop.folder / name).stat().st_mode & 0o777) for name in names]


def test_all_files_of_a_stack_come_with_the_deploy(shop: Shop, server: Server, images: Images) -> None:
    allow(server, "sender", ALL)
    shop.sequence = 8
    shop.write(
        "    env_file: web.env\n", conf__site="new\n", **{ODD: "odd\n"}, hooks__after='echo "$EXIT_CODE" >>ran\n'
    )
    names = ["docker-compose.yml", "conf/site", ODD.replace("__", "/"), "hooks/after"]
    words, new = shop.words(images.api("uno")), [(shop.folder / name).read_text() for name in names]
    server.run("rm", "-rf", *(str(shop.folder / name) for name in ("docker-compose.yml", "conf", "hooks")))
    shop.put("conf/site", "old\n")
    shop.put(".sent/stray", "of a deploy that was killed\n")
    sent = tar(
        **dict(zip(["docker-compose.yml", "conf__site", ODD, "hooks__after"], new, strict=True)), webENV="A='$5'\n"
    )

    result = shop.by_key(words, sent)

    assert result.returncode == 0, result.stdout
    assert [(shop.folder / name).read_text() for name in names] == new
    assert modes(shop, *names, "hooks", "web.env") == ["0o644"] * 4 + ["0o755", "0o600"]
    assert server.docker("inspect", "-f", "{{index .Config.Env 0}}", WEB) == "A=$5"
    assert (shop.folder / "ran").read_text() == "0\n"
    assert not (shop.folder / ".sent").exists() and not (shop.folder / "stray").exists()
    assert "A=" not in result.stdout

    record, other = (shop.folder / f".deploys/{name}" for name in (WEB, "shop-other"))
    shutil.copy(record, shop.folder / ".deploys/shop-zero")  # of this commit, number 9: neither the last nor the newest
    shop.write("    env_file: web.env\n", conf__site="newer\n")
    shop.sequence = 13
    succeeds(shop.deploy(images.api("due")))
    record.rename(other)
    late = shop.by_key(words, tar(conf__site="late\n"))
    assert late.returncode == 0, late.stdout
    assert (shop.folder / "conf/site").read_text() == "newer\n", "the files of a newer commit stay"

    server.run("rm", "-rf", str(shop.folder / ".deploys"))
    shop.write("    env_file: web.env\n", conf__site="kept\n")
    without = shop.by_key(shop.words(images.api("tre")))
    assert without.returncode == 0, without.stdout
    assert (shop.folder / "conf/site").read_text() == "kept\n"


def odd(kind: bytes, name: str = "web.env", link: str = "/etc/passwd") -> bytes:
    """A tar with something in it that is no plain file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("a.env")
        archive.addfile(entry)
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, link
        archive.addfile(entry)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("words", "sent", "code", "says"),
    [
        (ENV, tar(**{"docker-compose.yml": "name: x\n"}), 64, "no file but env files: no shop:push in its line"),
        (ENV, tar(**{".deploys/x.env": "A=1\n"}), 64, "no file but env files: no shop:push in its line"),
        (ENV, tar(hooks__before="id\n", webENV="A=1\n"), 64, "no file but env files: no shop:push in its line"),
        (NONE, tar(webENV="A=1\n"), 64, "this key may send no env file: no shop:env in its line"),
        ("shop shop:push", tar(webENV="A=1\n"), 64, "this key may send no env file: no shop:env in its line"),
        (ALL, odd(tarfile.SYMTYPE), 64, "only plain files may be sent"),
        (ALL, odd(tarfile.LNKTYPE, link="a.env"), 64, "only plain files may be sent"),
        (ALL, odd(tarfile.FIFOTYPE), 64, "only plain files may be sent"),
        (ALL, b"no tar at all", 65, "the files did not arrive whole"),
        (ALL, tar(webENV="A=1\n" * 9999)[:9000], 65, "the files did not arrive whole"),
        (ALL, odd(tarfile.REGTYPE, name="../outside.env"), 65, "the files did not arrive whole"),
    ],
)
def test_what_a_key_may_not_send(
    shop: Shop, server: Server, images: Images, words: str, sent: bytes, code: int, says: str
) -> None:
    allow(server, "sender", words)
    before = {path: path.read_bytes() for path in shop.folder.iterdir() if path.is_file()}

    result = shop.by_key(shop.words("sha256:" + 64 * "0"), sent)

    assert result.returncode == code, result.stdout
    refused = [line for line in result.stdout.splitlines() if line.startswith("deploy: ")]
    assert len(refused) == 1 and says in refused[0], result.stdout
    assert {path: path.read_bytes() for path in shop.folder.iterdir() if path.is_file()} == before
    assert not (shop.folder / ".sent").exists()
    assert not (server.docker_folder / "outside.env").exists()


def test_a_key_that_may_push_sends_all_but_env_files(shop: Shop, server: Server, images: Images) -> None:
    allow(server, "sender", "shop shop:push")
    shop.write(**{"conf.env__site": "new\n"})
    words = shop.words(images.api("uno"))
    shop.put("conf.env/site", "old\n")

    result = shop.by_key(words, tar(**{"conf.env__site": "new\n"}))

    assert result.returncode == 0, result.stdout
    assert (shop.folder / "conf.env/site").read_text() == "new\n"


def test_env_files_alone_come_in_place_of_the_hosts(shop: Shop, server: Server, images: Images) -> None:
    allow(server, "sender", ENV)
    shop.write("    env_file: web.env\n")
    shop.put("web.env", "A='by hand'\n")

    result = shop.by_key(shop.words(images.api("uno")), tar(webENV="A='it\\'s'\n"))

    assert result.returncode == 0, result.stdout
    assert (shop.folder / "web.env").read_text() == "A='it\\'s'\n"
    assert modes(shop, "web.env") == ["0o600"]
    assert server.docker("inspect", "-f", "{{index .Config.Env 0}}", WEB) == "A=it's"
