"""Files that are sent: which names and kinds are taken, by whom, and how they come into the stack's folder."""

import contextlib
import gzip
import hashlib
import io
import os
import re
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kiwari_ci.engines.compose.deploy_programs import deploy as deploy_program
from tests.host.fake_docker import TOKEN
from tests.host.world import STACK, WEB, World, archive_of, compose_file

BESIDE = "# Files beside it: conf/nginx.conf hooks/before\n"
MOUNTING = WEB.replace("    networks:", "    volumes:\n      - ./conf/nginx.conf:/etc/nginx.conf:ro\n    networks:")


def deploy(world: World, files: dict[str, str], rights: str = "env push", sequence: int = 1) -> deploy_program.Request:
    return deploy_program.Request(
        verb="deploy",
        stack=STACK,
        sequence=sequence,
        files_sha256=world.checksum(files),
        run="77",
        images={"web": world.image("web", 1)},
        may_send_env_files="env" in rights,
        may_send_files="push" in rights,
    )


def names_of(folder: Path) -> list[str]:
    """The files below a folder, but for those that the program keeps for itself."""
    names = (str(path.relative_to(folder)) for path in folder.rglob("*"))
    own = re.compile(r"(shop/)?(docker-compose\.override\.yml|\.deploys|\.deploy\.lock)|\.host\.lock")
    return sorted(name for name in names if not own.fullmatch(name))


@pytest.fixture
def world(root: Path) -> World:
    world = World(root, WEB)
    world.write(BESIDE + compose_file(WEB))
    return world


def test_files_are_installed_before_anything_starts(world: World) -> None:
    files = {
        "docker-compose.yml": BESIDE + compose_file(WEB.replace("shop.example.com", "new.example.com")),
        "conf/nginx.conf": "new",
        "hooks/before": "true",
        ".env": "SECRET='new'\n",
    }

    outcome = world.deploy({"web": world.image("web", 1)}, 1, files=files)

    assert outcome.code == 0, outcome.text
    for name, text in files.items():
        assert (world.folder / name).read_text() == text
        assert outcome.says(f"==> installed {name}")
    assert world.machine.asked[-1][1]["Host"] == "new.example.com"
    assert (world.folder / ".env").stat().st_mode & 0o777 == 0o600
    assert (world.folder / "docker-compose.yml").stat().st_mode & 0o777 == 0o644
    assert (world.folder / "conf").stat().st_mode & 0o777 == 0o755
    assert not list(world.folder.glob(".deploys/incoming-*"))


def test_files_that_are_the_same_are_left_alone(world: World) -> None:
    before = (world.folder / ".env").stat()

    outcome = world.deploy({"web": world.image("web", 1)}, 1, files={".env": "SECRET='s3cret'\n"})

    assert outcome.code == 0
    assert not outcome.says("installed")
    assert (world.folder / ".env").stat().st_ino == before.st_ino


def test_the_first_files_of_a_stack(root: Path) -> None:
    world = World(root)
    (world.folder / "docker-compose.yml").unlink()
    (world.folder / ".env").unlink()
    digest = world.image("web", 1)

    refused = world.deploy({"web": digest}, 1, files_sha256=64 * "0")
    assert refused.code == 69
    assert refused.says("docker-compose.yml is missing. Copy it: git archive HEAD deploy/shop")

    files = {"docker-compose.yml": compose_file(WEB), ".env": "SECRET='s3cret'\n"}
    outcome = world.deploy({"web": digest}, 1, files=files)
    assert outcome.code == 0, outcome.text
    assert world.serves("web", digest)


def test_an_env_file_that_is_not_there_yet(world: World) -> None:
    (world.folder / ".env").unlink()

    assert world.deploy({"web": world.image("web", 1)}, 1, files={".env": "SECRET='new'\n"}).code == 0


def test_what_is_refused_installs_nothing(world: World) -> None:
    before = {path: path.read_bytes() for path in world.folder.iterdir() if path.is_file()}

    for files in ({".env": "SECRET=change-me\n"}, {"docker-compose.yml": "services: [\n"}):
        outcome = world.deploy({"web": world.image("web", 1)}, 1, files=files)
        assert outcome.code == 69, outcome.text

    assert {path: path.read_bytes() for path in before} == before
    assert not list(world.folder.glob(".deploys/incoming-*"))


def test_a_compose_file_that_is_broken_is_mended_by_what_is_sent(world: World) -> None:
    (world.folder / "docker-compose.yml").write_text("services: [\n")

    outcome = world.deploy({"web": world.image("web", 1)}, 1, files={"docker-compose.yml": compose_file(WEB)})

    assert outcome.code == 0, outcome.text


def test_a_file_that_a_commit_only_makes_executable(world: World) -> None:
    world.add_hooks("before")
    hook = world.folder / "hooks/before"
    hook.chmod(0o644)
    entry = tarfile.TarInfo("hooks/before")
    entry.mode = 0o755
    request = deploy(world, {}, "push")

    outcome = world.perform(request, deploy_program.Delivery(TOKEN, archive_of([entry])))

    assert outcome.code == 0, outcome.text
    assert outcome.says("installed hooks/before") and hook.stat().st_mode & 0o777 == 0o755


def test_an_executable_file_that_is_not_sent_stays_as_it_is(world: World) -> None:
    world.add_hooks("before")
    hook = world.folder / "hooks/before"
    hook.chmod(0o755)

    outcome = world.deploy({"web": world.image("web", 1)}, 1, files={".env": "SECRET='new'\n"})

    assert outcome.code == 0 and not outcome.says("installed hooks/before")
    assert hook.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("rights", "files", "says"),
    [
        ("env", {"conf/nginx.conf": "x"}, "env files only: its line in authorized_keys has no shop:push"),
        ("env", {"docker-compose.yml": "x"}, "this key may send env files only"),
        ("push", {".env": "x"}, "this key may not send env files: its line in authorized_keys has no shop:env"),
        ("env push", {"other.env": "x"}, "other.env was sent, but the compose file does not name it"),
        ("env push", {"hooks/after": "x"}, "hooks/after was sent, but the compose file does not name it"),
        ("env", {"evil/x.env": "x"}, "this key may send env files only"),
        ("env push", {"compose.yaml": "x"}, "compose.yaml was sent, but the compose file does not name it"),
    ],
)
def test_a_name_that_the_key_may_not_send(world: World, rights: str, files: dict[str, str], says: str) -> None:
    before = names_of(world.folder)

    outcome = world.perform(deploy(world, {}, rights), deploy_program.Delivery(TOKEN, archive_of(files)))

    assert outcome.code == 64, outcome.text
    assert outcome.says(says)
    assert names_of(world.folder) == before
    assert not list(world.folder.glob(".deploys/*"))


SELF_DECLARED = ("docker-compose.yml", *deploy_program.FILES_THAT_COMPOSE_READS)


def declaring(name: str) -> str:
    """A compose file that names a file as an env file."""
    return compose_file(WEB.replace("env_file: .env", f"env_file: {name}"))


@pytest.mark.parametrize("name", SELF_DECLARED)
def test_a_compose_file_that_names_itself_an_env_file(world: World, name: str) -> None:
    """A key for env files may send none: neither by the words of what it sends, nor by those of what is there."""
    before = files_in(world.folder)
    sent = {"docker-compose.yml": declaring(name), name: declaring(name)}
    outcome = world.perform(deploy(world, sent, "env"), deploy_program.Delivery(TOKEN, archive_of(sent)))
    assert outcome.code == 64, outcome.text
    assert files_in(world.folder) == before

    world.write(declaring(name))
    before = files_in(world.folder)
    sent = {name: "services: {web: {image: evil}}\n"}  # which is a line KEY: value of an env file, too
    outcome = world.perform(deploy(world, sent, "env"), deploy_program.Delivery(TOKEN, archive_of(sent)))
    assert outcome.code == 64, outcome.text
    assert outcome.says("this key may send env files only: its line in authorized_keys has no shop:push")
    assert files_in(world.folder) == before
    assert not world.machine.everything()


def test_the_first_compose_file_of_a_stack_does_not_come_from_a_key_for_env_files(world: World) -> None:
    (world.folder / "docker-compose.yml").unlink()
    sent = {"docker-compose.yml": declaring("docker-compose.yml")}

    outcome = world.perform(deploy(world, sent, "env"), deploy_program.Delivery(TOKEN, archive_of(sent)))

    assert outcome.code == 64, outcome.text
    assert not (world.folder / "docker-compose.yml").exists()


@pytest.mark.parametrize("line", ["COMPOSE_FILE=evil.env", "export COMPOSE_FILE='evil.env'", "DOCKER_HOST: tcp://evil"])
def test_an_env_file_that_compose_would_obey(world: World, line: str) -> None:
    """Compose reads .env as its own configuration, too: another compose file could be named there."""
    before = files_in(world.folder)
    sent = {".env": f"SECRET='new'\n{line}\n"}

    outcome = world.perform(deploy(world, sent, "env"), deploy_program.Delivery(TOKEN, archive_of(sent)))

    assert outcome.code == 69, outcome.text
    assert outcome.says("is a setting of Compose or Docker itself")
    assert files_in(world.folder) == before
    assert not world.machine.everything()


def test_a_setting_of_compose_that_hides_behind_a_value(world: World) -> None:
    """Compose reads a line on after the closing quote, and would obey COMPOSE_FILE in .env."""
    before = files_in(world.folder)
    sent = {".env": "SECRET='x' COMPOSE_FILE=web.env\nSECRET=y\n"}

    outcome = world.perform(deploy(world, sent, "env"), deploy_program.Delivery(TOKEN, archive_of(sent)))

    assert outcome.code == 69, outcome.text
    assert outcome.says("Compose reads more variables from shop/.env than it has lines")
    assert files_in(world.folder) == before


def files_in(folder: Path) -> dict[str, bytes]:
    """The stack's files, which a refused request leaves as they are; the program's own are left out."""
    own = (deploy_program.PINS_FILE, ".deploy.lock")
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name not in own}


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


HOSTILE = {
    "absolute": [entry("/etc/evil")],
    "above": [entry("../evil")],
    "above later": [entry("conf/../../evil")],
    "dot": [entry("./.env")],
    "empty": [entry("")],
    "a line end": [entry("hooks\nx.env")],
    "a space": [entry("a b.env")],
    "a link": [entry(".env", tarfile.SYMTYPE, "/etc/passwd")],
    "a hard link": [entry(".env", tarfile.LNKTYPE, "/etc/passwd")],
    "a folder": [entry("hooks", tarfile.DIRTYPE)],
    "a device": [entry(".env", tarfile.CHRTYPE)],
    "a pipe": [entry(".env", tarfile.FIFOTYPE)],
    "twice": [entry(".env"), entry(".env")],
    "a file, then a folder": [entry("conf"), entry("conf/nginx.conf")],
    "the record": [entry(".deploys/web")],
    "the log": [entry("log/x")],
    "the lock": [entry(".deploy.lock")],
    "the pins": [entry("docker-compose.override.yml")],
    "many": [entry(f"conf/{number}") for number in range(deploy_program.MOST_FILES_SENT + 1)],
}


SAYS = {
    "twice": "are not a valid tar archive",
    "a file, then a folder": "are not a valid tar archive",
    "many": "too many or too large files were sent",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_archive_that_is_no_archive_of_plain_files(world: World, name: str) -> None:
    before = names_of(world.root)

    outcome = world.perform(deploy(world, {}), deploy_program.Delivery(TOKEN, archive_of(HOSTILE[name])))

    assert outcome.code == 64, outcome.text
    assert outcome.says(
        SAYS.get(name) or f"plain names may be sent, not '{deploy_program.printable(HOSTILE[name][-1].name)}'"
    )
    assert names_of(world.root) == before
    assert not list(world.folder.glob(".deploys/*"))


@pytest.mark.parametrize(("files", "letters", "is_taken"), [(2, 5, True), (3, 1, False), (2, 6, False), (1, 11, False)])
def test_how_much_an_archive_may_hold(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: int, letters: int, is_taken: bool
) -> None:
    monkeypatch.setattr(deploy_program, "MOST_FILES_SENT", 2)
    monkeypatch.setattr(deploy_program, "MOST_BYTES_SENT", 10)
    archive = archive_of({f"file{number}": letters * "x" for number in range(files)})

    if is_taken:
        deploy_program.unpack(archive, tmp_path)
        assert len(list(tmp_path.iterdir())) == files
    else:
        with pytest.raises(deploy_program.Failed, match="too many or too large files were sent") as refused:
            deploy_program.unpack(archive, tmp_path)
        assert refused.value.code == 64


def test_an_archive_that_is_compressed(tmp_path: Path) -> None:
    """A small one could hold more than the disk does."""
    with pytest.raises(deploy_program.Failed, match="are not a valid tar archive"):
        deploy_program.unpack(io.BytesIO(gzip.compress(archive_of({"file": "x"}).read())), tmp_path)


def test_a_file_in_a_folder_of_a_folder(tmp_path: Path) -> None:
    deploy_program.unpack(archive_of({"conf/Sites/Shop.conf": "x"}), tmp_path)

    assert (tmp_path / "conf/Sites/Shop.conf").read_text() == "x"


def test_an_env_file_whose_name_does_not_say_so(world: World) -> None:
    """The compose file that is installed says which files are env files."""
    world.write(declaring("settings"))
    sent = {"settings": "SECRET='new'\n"}

    outcome = world.perform(deploy(world, sent, "env"), deploy_program.Delivery(TOKEN, archive_of(sent)))

    assert outcome.code == 0, outcome.text
    assert (world.folder / "settings").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"no archive", 1024 * b"x"])
def test_what_is_no_archive(world: World, content: bytes) -> None:
    outcome = world.perform(deploy(world, {}), deploy_program.Delivery(TOKEN, io.BytesIO(content)))

    assert outcome.code in (0, 64), outcome.text
    assert outcome.code == 64 or not content
    assert not list(world.folder.glob(".deploys/incoming-*"))


@pytest.mark.parametrize("name", [".env", "conf/nginx.conf", "conf"])
def test_nothing_is_written_through_a_link(world: World, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "nginx.conf").write_text("SECRET='of another'\n")
    place = world.folder / name
    place.unlink(missing_ok=True)
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(outside if name == "conf" else outside / "nginx.conf")
    files = {".env": "SECRET='new'\n"} if name == ".env" else {"conf/nginx.conf": "new"}

    outcome = world.deploy({"web": world.image("web", 1)}, 1, files=files)

    assert outcome.code == 69
    assert outcome.says(f"{place} is a symbolic link, which is never followed. Remove it, then run the job again")
    assert (outside / "nginx.conf").read_text() == "SECRET='of another'\n"
    assert place.is_symlink()


def test_a_file_that_a_container_mounts_is_written_in_place_and_read_anew(root: Path) -> None:
    """A mount shows the file that was there when the container started, so it must be the same file."""
    world = World(root, MOUNTING)
    world.write(BESIDE + compose_file(MOUNTING))
    (world.folder / "conf").mkdir()
    (world.folder / "conf" / "nginx.conf").write_text("a long old text")
    digest = world.image("web", 1)
    assert world.deploy({"web": digest}, 1).code == 0
    number, id = (world.folder / "conf" / "nginx.conf").stat().st_ino, world.container("web").id
    assert world.deploy({"web": digest}, 2).results == {"web": "unchanged"}

    outcome = world.deploy({"web": digest}, 3, files={"conf/nginx.conf": "new"})

    assert outcome.results == {"web": "serving"}
    assert (world.folder / "conf" / "nginx.conf").read_text() == "new"
    assert (world.folder / "conf" / "nginx.conf").stat().st_ino == number
    assert world.container("web").id != id


def deliver_program(world: World) -> None:
    """A deploy that brings the hook `before`, which may run."""
    info = entry("hooks/before")
    info.mode, info.size = 0o100755, 4
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.addfile(info, io.BytesIO(b"true"))
    stream.seek(0)
    outcome = world.perform(deploy(world, {"hooks/before": "true"}), deploy_program.Delivery(TOKEN, stream))
    assert outcome.code == 0, outcome.text


def test_a_program_keeps_its_right_to_run(world: World) -> None:
    deliver_program(world)

    assert (world.folder / "hooks" / "before").stat().st_mode & 0o777 == 0o755


def test_a_name_beside_the_compose_file_that_the_host_does_not_know(world: World) -> None:
    """The compose file that is sent says which files belong to it, not the one of before."""
    files = {"docker-compose.yml": "# Files beside it: conf/new.conf\n" + compose_file(WEB), "conf/new.conf": "new"}

    assert world.deploy({"web": world.image("web", 1)}, 1, files=files).code == 0
    assert (world.folder / "conf" / "new.conf").read_text() == "new"


# Standard input. A delivery's file is closed when the process ends, which a test does not do.


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator["Stdin"]:
    with contextlib.ExitStack() as opened:
        temporary_file = tempfile.TemporaryFile
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda: opened.enter_context(temporary_file()))
        yield Stdin()


class Stdin:
    """What a caller sends; this process's own standard input is put aside meanwhile."""

    def read(
        self, content: bytes, rights: str = "env push", is_open: bool = False, is_key: bool = True
    ) -> deploy_program.Delivery:
        ours, theirs = os.pipe()
        saved = os.dup(0)
        try:
            os.dup2(ours, 0)
            os.write(theirs, content)
            if not is_open:
                os.close(theirs)
            request = deploy_program.Request(
                "deploy",
                STACK,
                is_from_key=is_key,
                may_send_env_files="env" in rights,
                may_send_files="push" in rights,
            )
            return deploy_program.read_delivery(request)
        finally:
            os.dup2(saved, 0)
            os.close(saved)
            os.close(ours)
            if is_open:
                os.close(theirs)


def header(content: bytes) -> bytes:
    return f"{len(content)} {hashlib.sha256(content).hexdigest()}\n".encode()


def test_the_token_alone(stdin: Stdin) -> None:
    """A header with the length 0 says that no files follow."""
    for line in (b"the-token\n", b"the-token\r\n"):
        delivery = stdin.read(line + header(b""), rights="")
        assert (delivery.token, delivery.archive) == ("the-token", None)


@pytest.mark.parametrize("content", [b"the-token", b"the-token\n", b"the-token\n\n", b"the-token\n0 e3b0"])
def test_a_connection_that_breaks_behind_the_token(stdin: Stdin, content: bytes) -> None:
    """What a key sends without a whole header must not pass for a deploy without files."""
    with pytest.raises(deploy_program.Failed, match="is not `BYTES SHA256`: run the job again") as refused:
        stdin.read(content)
    assert refused.value.code == 64


def test_a_person_sends_the_token_alone(stdin: Stdin) -> None:
    for content in (b"the-token\n", b"the-token"):
        delivery = stdin.read(content, is_key=False)
        assert (delivery.token, delivery.archive) == ("the-token", None)


@pytest.mark.parametrize("content", [b"", b"\n", b" \n", b"\n10 abc\n"])
def test_no_token(stdin: Stdin, content: bytes) -> None:
    with pytest.raises(deploy_program.Failed, match="there is no registry token on standard input") as refused:
        stdin.read(content)
    assert refused.value.code == 64


@pytest.mark.parametrize("rights", ["env", "push", "env push"])
def test_files_behind_the_token(stdin: Stdin, rights: str) -> None:
    content = bytes(range(256)) * 200

    delivery = stdin.read(b"the-token\n" + header(content) + content + b"and more", rights=rights)

    assert delivery.token == "the-token"
    assert delivery.archive and delivery.archive.read() == content


def test_as_many_bytes_as_may_be_sent(stdin: Stdin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploy_program, "MOST_BYTES_SENT", 10)

    assert stdin.read(b"the-token\n" + header(b"0123456789") + b"0123456789").archive
    with pytest.raises(deploy_program.Failed, match="11 bytes of files are too many: the limit is 10"):
        stdin.read(b"the-token\n" + header(b"0123456789a") + b"0123456789a")


def test_a_person_who_types_the_token_sends_nothing_else(stdin: Stdin, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a terminal there is no second line to wait for."""
    monkeypatch.setattr(os, "isatty", lambda number: number == 0)
    monkeypatch.setattr(deploy_program, "without_echo", contextlib.nullcontext)

    assert stdin.read(b"the-token\nnot read\n", is_key=False) == deploy_program.Delivery("the-token")


@pytest.mark.parametrize("arrived", [0, 1, 511, 512, 513, 9_999])
def test_files_that_did_not_arrive_whole(stdin: Stdin, arrived: int) -> None:
    content = 10_000 * b"x"

    with pytest.raises(
        deploy_program.Failed, match=f"{10_000 - arrived} bytes are missing. Run the job again"
    ) as refused:
        stdin.read(b"the-token\n" + header(content) + content[:arrived])
    assert refused.value.code == 64


def test_files_that_stop_arriving(stdin: Stdin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploy_program, "QUERY_SECONDS", 0.05)

    with pytest.raises(deploy_program.Failed, match="the files did not arrive whole: 5 bytes are missing"):
        stdin.read(b"the-token\n" + header(b"0123456789") + b"01234", is_open=True)


def test_other_bytes_than_were_sent(stdin: Stdin) -> None:
    with pytest.raises(deploy_program.Failed, match="do not have the checksum") as refused:
        stdin.read(b"the-token\n" + header(b"0123456789") + b"0123456780")
    assert refused.value.code == 64


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("x", "the line after the token is not `BYTES SHA256`"),
        (f"10 {64 * 'A'}", "the line after the token is not"),
        (f"-1 {64 * 'a'}", "the line after the token is not"),
        (f"10  {64 * 'a'}", "the line after the token is not"),
        (f"{deploy_program.MOST_BYTES_SENT + 1} {64 * 'a'}", "bytes of files are too many"),
        (f"{10**11} {64 * 'a'}", "bytes of files are too many"),
    ],
)
def test_a_line_behind_the_token_that_is_none(stdin: Stdin, line: str, says: str) -> None:
    with pytest.raises(deploy_program.Failed, match=says) as refused:
        stdin.read(f"the-token\n{line}\n".encode())
    assert refused.value.code == 64


def test_a_key_that_may_send_nothing(stdin: Stdin) -> None:
    """It is told before anything is read."""
    with pytest.raises(deploy_program.Failed, match="its line has neither shop:env nor shop:push") as refused:
        stdin.read(b"the-token\n" + header(b"0123456789"), rights="", is_open=True)
    assert refused.value.code == 64


def test_a_rollback_reads_nothing() -> None:
    assert (
        deploy_program.read_delivery(deploy_program.Request("rollback", STACK, is_from_key=True))
        == deploy_program.Delivery()
    )


def test_a_record_of_a_removed_service_does_not_stop_newer_files(world: World) -> None:
    """Nobody could lower its number: a rollback needs a service of the compose file."""
    state = world.folder / ".deploys"
    state.mkdir()
    line = f"ghcr.io/acme/gone@{world.image('gone', 1)} 999 2026-01-01T00:00:00Z 77\n"
    (state / "gone").write_text(line)
    (state / ".env.before-20260101T000000.000000Z").write_text(line)

    outcome = world.deploy({"web": world.image("web", 1)}, 1, files={".env": "SECRET='new'\n"})

    assert outcome.code == 0, outcome.text
    assert (world.folder / ".env").read_text() == "SECRET='new'\n"


@pytest.mark.parametrize("is_named_already", [False, True])
def test_secrets_of_an_env_file_that_a_compose_file_brings(world: World, is_named_already: bool) -> None:
    """Nobody else on the server may read them, and the right to send other files is not enough."""
    text = BESIDE + declaring("secrets/app.env")
    sent = {"docker-compose.yml": text, "secrets/app.env": "SECRET='new'\n"}
    if is_named_already:
        world.write(text)
        (world.folder / "secrets").mkdir()
        (world.folder / "secrets" / "app.env").write_text("SECRET='old'\n")
        (world.folder / "secrets" / "app.env").chmod(0o644)

    refused = world.perform(deploy(world, sent, "push"), deploy_program.Delivery(TOKEN, archive_of(sent)))
    assert refused.code == 64
    assert refused.says("this key may not send env files: its line in authorized_keys has no shop:env")

    outcome = world.perform(deploy(world, sent, "env push"), deploy_program.Delivery(TOKEN, archive_of(sent)))
    assert outcome.code == 0, outcome.text
    assert (world.folder / "secrets" / "app.env").stat().st_mode & 0o777 == 0o600


def test_the_only_copy_of_a_secret_outlives_bad_sends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploy_program, "ENV_BACKUPS_TO_KEEP", 3)

    for number in range(1, 9):
        assert world.deploy({"web": world.image("web", 1)}, 1, files={".env": f"SECRET='bad {number}'\n"}).code == 0

    backups = sorted((world.folder / ".deploys").glob(".env.before-*"))
    expected = ["s3cret", "bad 5", "bad 6", "bad 7"]
    assert [backup.read_text() for backup in backups] == [f"SECRET='{words}'\n" for words in expected]
    assert {backup.stat().st_mode & 0o777 for backup in backups} == {0o600}


@pytest.mark.parametrize("name", ["conf", "conf/nginx.conf"])
def test_a_link_that_a_container_puts_there_at_the_last_moment(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Between the look at it and the writing."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "nginx.conf").write_text("of another")
    (world.folder / "conf").mkdir()
    (world.folder / "conf" / "nginx.conf").write_text("old")
    place = world.folder / name

    def put_link(path: Path) -> bool:
        if path == world.folder / "conf" / "nginx.conf" and not os.path.islink(place):
            place.rename(world.root / "away")
            place.symlink_to(outside if name == "conf" else outside / "nginx.conf")
        return False

    monkeypatch.setattr(Path, "is_symlink", put_link)
    outcome = world.deploy({"web": world.image("web", 1)}, 1, files={"conf/nginx.conf": "new"})

    assert outcome.code == 69, outcome.text
    assert os.path.islink(place)
    assert (outside / "nginx.conf").read_text() == "of another"


def test_a_link_in_place_of_a_new_folder_keeps_the_mode_of_what_it_leads_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "shop"
    outside.mkdir(mode=0o700)
    folder.mkdir()
    mkdir = os.mkdir

    def put_link(path: str, *arguments: Any, **options: Any) -> None:
        mkdir(path, *arguments, **options)
        (folder / path).rename(tmp_path / "away")
        (folder / path).symlink_to(outside)

    monkeypatch.setattr(os, "mkdir", put_link)
    with (
        pytest.raises(OSError, match="Not a directory|Too many levels"),
        deploy_program.folder_of(folder, "conf/app.conf"),
    ):
        pass

    assert outside.stat().st_mode & 0o777 == 0o700


def test_a_new_folder_can_be_read_by_the_users_of_containers(tmp_path: Path) -> None:
    with deploy_program.folder_of(tmp_path, "conf/app.conf"):
        assert (tmp_path / "conf").stat().st_mode & 0o777 == 0o755


def test_an_entry_of_a_negative_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would raise the limit for those after it."""
    monkeypatch.setattr(deploy_program, "MOST_BYTES_SENT", 10)
    info = tarfile.TarInfo("a")
    info.size = -512
    archive = io.BytesIO(info.tobuf(tarfile.GNU_FORMAT) + archive_of({"b": 20 * "x"}).read())

    with pytest.raises(deploy_program.Failed):
        deploy_program.unpack(archive, tmp_path)

    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_gets_the_new_mode(world: World) -> None:
    (world.folder / "hooks").mkdir()
    (world.folder / "hooks" / "before").write_text("false")
    (world.folder / "hooks" / "before").chmod(0o644)

    deliver_program(world)

    assert (world.folder / "hooks" / "before").stat().st_mode & 0o777 == 0o755


def test_a_quote_without_its_partner_in_the_line_of_the_files(world: World) -> None:
    world.write("# Files beside it: 'conf\n" + compose_file(WEB))

    outcome = world.deploy({"web": world.image("web", 1)}, 1, files_sha256=64 * "a")

    assert outcome.code == 69
    assert outcome.says("the line 'Files beside it' of docker-compose.yml has a quote without its partner")
