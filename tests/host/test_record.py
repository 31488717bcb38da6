"""The record, going back, and what is kept: a record only grows, and stands what people and power cuts do to it."""

import os
import resource
from pathlib import Path

import pytest

from kiwari_ci.engines.compose.deploy_programs import deploy as deploy_program
from tests.host.fake_docker import Image
from tests.host.world import WEB, World

NAMES = "abcdefgh"


@pytest.fixture
def digests(world: World) -> dict[str, str]:
    """Images of the service `web`, by a letter."""
    return {name: world.image("web", name) for name in NAMES}


def serve(world: World, digests: dict[str, str], names: str) -> None:
    for sequence, name in enumerate(names, 1):
        assert world.deploy({"web": digests[name]}, sequence).code == 0


def lines(digests: dict[str, str], *parts: str) -> str:
    """A record: `a3` is image a of commit 3, `<a3` a rollback to it."""
    text = ""
    for part in parts:
        run = "rollback" if part.startswith("<") else "77"
        name, sequence = part.lstrip("<")[0], part.lstrip("<")[1:]
        text += f"ghcr.io/acme/web@{digests[name]} {sequence} 2026-01-01T00:00:00Z {run}\n"
    return text


def write_record(world: World, text: str) -> None:
    (world.folder / ".deploys").mkdir(exist_ok=True)
    (world.folder / ".deploys" / "web").write_text(text)


def test_the_record_of_deploys_and_a_rollback(world: World, digests: dict[str, str]) -> None:
    serve(world, digests, "ab")
    assert world.rollback("web").code == 0

    fields = [line.split() for line in world.record("web")]
    assert [field[0] for field in fields] == [f"ghcr.io/acme/web@{digests[name]}" for name in "aba"]
    assert [field[1] for field in fields] == ["1", "2", "1"]
    assert [field[3] for field in fields] == ["4001", "4002", "rollback"]
    assert world.serves("web", digests["a"]) and world.pins() == {"web": digests["a"]}


@pytest.mark.parametrize(
    ("parts", "back"),
    [
        (("a1", "b2"), "a"),
        (("a1", "b2", "b3"), "a"),
        (("a1", "b2", "c3", "<b3"), "a"),
        (("a1", "b2", "c3", "<b3", "<a3", "d4"), "a"),
        (("a1", "b2", "<a2", "b3"), "a"),
        (("a1", "b2", "a3"), "b"),
        (("a1", "b2", "c3", "<b3", "d4"), "b"),
        (("a1", "b2", "c3", "<a3", "d4"), "a"),
        (("a1", "b2", "<c2"), "b"),
    ],
)
def test_what_served_before(world: World, digests: dict[str, str], parts: tuple[str, ...], back: str) -> None:
    """As it was lived: what was gone back from is nothing to go back to."""
    write_record(world, lines(digests, *parts))

    image = deploy_program.image_to_go_back_to(world.stack(), deploy_program.Service("web", {}), "")

    assert deploy_program.digest_of(image) == digests[back]


@pytest.mark.parametrize("parts", [(), ("a1",), ("a1", "a2"), ("a1", "b2", "<a2")])
def test_nothing_served_before(world: World, digests: dict[str, str], parts: tuple[str, ...]) -> None:
    write_record(world, lines(digests, *parts))

    outcome = world.rollback("web")

    assert outcome.code == 65
    assert outcome.says("the record of web has no such image: see shop/.deploys/web")


def test_going_back_to_a_named_image(world: World, digests: dict[str, str]) -> None:
    serve(world, digests, "abc")

    assert world.rollback("web", digests["a"]).code == 0
    assert world.serves("web", digests["a"])
    assert world.rollback("web", digests["c"]).code == 0
    assert world.serves("web", digests["c"])
    assert world.rollback("web", digests["h"]).code == 65


def test_going_back_to_what_serves_is_recorded_and_changes_nothing(world: World, digests: dict[str, str]) -> None:
    serve(world, digests, "ab")
    id = world.container("web").id

    outcome = world.rollback("web", digests["b"])

    assert (outcome.code, outcome.results, world.container("web").id) == (0, {"web": "unchanged"}, id)


def test_notes_by_hand_and_torn_lines_are_passed_over(world: World, digests: dict[str, str]) -> None:
    good = lines(digests, "a1", "b2")
    note = f"# ghcr.io/acme/web@{digests['h']} 99 2026-01-01T00:00:00Z 77\n\n"
    write_record(world, note + good + note + lines(digests, "c3")[:-20])

    assert world.stack().newest_record("web").image.endswith(digests["b"])

    outcome = world.deploy({"web": digests["d"]}, 4)
    assert outcome.code == 0
    text = (world.folder / ".deploys" / "web").read_text()
    assert text.startswith(note + good + note)
    assert deploy_program.read_record(world.folder / ".deploys" / "web")[-1].sequence == 4
    assert world.pins() == {"web": digests["d"]}
    assert world.deploy({"web": digests["a"]}, 3).code == 3


@pytest.mark.parametrize("torn_at", range(1, 130, 9))
def test_a_line_that_is_torn_anywhere_costs_no_other(world: World, digests: dict[str, str], torn_at: int) -> None:
    first, second = lines(digests, "a1"), lines(digests, "b2")
    write_record(world, first + second[:torn_at])
    stack = world.stack()

    stack.add_record("web", deploy_program.Record(f"ghcr.io/acme/web@{digests['c']}", 3, "2026-01-01T00:00:00Z", "79"))

    records = stack.record("web")
    assert [record.sequence for record in (records[0], records[-1])] == [1, 3]
    assert str(records[-1]).endswith("79")


def test_a_record_with_bytes_that_are_no_text(world: World, digests: dict[str, str]) -> None:
    (world.folder / ".deploys").mkdir()
    (world.folder / ".deploys" / "web").write_bytes(b"\xff\xfe\0\n" + lines(digests, "a1", "b2").encode())

    assert (
        deploy_program.digest_of(
            deploy_program.image_to_go_back_to(world.stack(), deploy_program.Service("web", {}), "")
        )
        == digests["a"]
    )


def test_a_long_record(world: World, digests: dict[str, str]) -> None:
    write_record(world, lines(digests, "a1", "b2") * 5000 + lines(digests, "c3"))

    assert (
        deploy_program.digest_of(
            deploy_program.image_to_go_back_to(world.stack(), deploy_program.Service("web", {}), "")
        )
        == digests["b"]
    )


def test_going_back_pulls_by_digest_what_is_gone(world: World, digests: dict[str, str]) -> None:
    serve(world, digests, "ab")
    image = f"ghcr.io/acme/web@{digests['a']}"
    world.machine.state.local.discard(image)

    refused = world.rollback("web")
    assert refused.code == 65
    assert refused.says("Log in first: docker login ghcr.io")
    assert world.serves("web", digests["b"])

    world.machine.public.add(image)
    assert world.rollback("web").code == 0
    assert world.serves("web", digests["a"])


def test_the_image_of_a_rollback_is_kept_from_the_clean_up_of_another_stack(
    world: World, digests: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be older than those that each stack keeps, and no container uses it yet."""
    serve(world, digests, "abcdef")
    image = f"ghcr.io/acme/web@{digests['a']}"
    assert image not in deploy_program.needed_images()
    world.machine.public.add(image)
    pull = world.machine.pull
    needed: list[bool] = []

    def look_and_pull(reference: str, config: Path | None) -> str:
        needed.append(reference in deploy_program.needed_images())
        return pull(reference, config)

    monkeypatch.setattr(world.machine, "pull", look_and_pull)
    assert world.rollback("web", digests["a"]).code == 0

    assert needed == [True]


@pytest.mark.parametrize("text", ["A=change-me\n", "A=1\n"])
def test_the_way_back_waits_for_no_finding(world: World, digests: dict[str, str], text: str) -> None:
    serve(world, digests, "ab")
    (world.folder / ".env").write_text(text)
    (world.folder / "compose.yaml").write_text("")
    world.machine.free = 3

    outcome = world.rollback("web")

    assert outcome.code == 0
    assert outcome.says("note: ") and outcome.says("compose.yaml is in the way")
    assert world.serves("web", digests["a"])


def test_the_way_back_keeps_an_override_file_of_somebody_elses(world: World, digests: dict[str, str]) -> None:
    serve(world, digests, "ab")
    path = world.folder / "docker-compose.override.yml"
    theirs = path.read_text() + "    mem_limit: 512m\n"
    path.write_text(theirs)

    assert world.rollback("web").code == 0

    assert Path(f"{path}.before").read_text() == theirs
    assert world.pins() == {"web": digests["a"]}


def test_the_way_back_without_an_env_file(world: World, digests: dict[str, str]) -> None:
    serve(world, digests, "ab")
    (world.folder / ".env").unlink()

    outcome = world.rollback("web")

    assert outcome.code == 69
    assert outcome.says("shop/.env is missing")
    assert world.serves("web", digests["b"])


def test_going_back_to_what_has_become_bad(world: World, digests: dict[str, str]) -> None:
    serve(world, digests, "ab")
    world.image("web", "a", Image(exits_after=0.5))

    outcome = world.rollback("web")

    assert (outcome.code, outcome.results) == (1, {"web": "failed"})
    assert world.serves("web", digests["b"]) and world.pins() == {"web": digests["b"]}
    assert len(world.record("web")) == 2


# Superseded


def test_an_older_commit_changes_nothing(world: World, digests: dict[str, str]) -> None:
    serve(world, digests, "abc")
    before = vars(world.container("web").copy())

    outcome = world.deploy({"web": digests["d"]}, 2)

    assert outcome.code == 3
    assert outcome.result["result"] == "superseded" and outcome.result["newest_sequence"] == 3
    assert outcome.result["services"][0]["now"] == digests["c"]
    assert outcome.says("web: commit number 3 serves, which is newer than 2")
    assert vars(world.container("web")) == before
    assert len(world.record("web")) == 3


def test_the_same_commit_may_bring_another_image(world: World, digests: dict[str, str]) -> None:
    serve(world, digests, "a")

    assert world.deploy({"web": digests["b"]}, 1).code == 0
    assert world.serves("web", digests["b"])


@pytest.mark.parametrize(("is_from_key", "oldest_that_is_deployed"), [(True, 3), (False, 2)])
def test_after_going_back_a_newer_commit_is_deployed_and_an_older_is_not(
    world: World, digests: dict[str, str], is_from_key: bool, oldest_that_is_deployed: int
) -> None:
    """A person lowers the number to that of the commit which serves again; a key cannot lower it."""
    serve(world, digests, "abc")
    world.rollback("web", is_from_key=is_from_key)

    assert world.deploy({"web": digests["d"]}, oldest_that_is_deployed - 1).code == 3
    assert world.deploy({"web": digests["d"]}, oldest_that_is_deployed).code == 0


def test_a_number_that_is_much_too_high_is_lifted_by_going_back(world: World, digests: dict[str, str]) -> None:
    serve(world, digests, "ab")
    world.deploy({"web": digests["h"]}, 999_999_999)

    refused = world.deploy({"web": digests["c"]}, 3)
    world.rollback("web", is_from_key=True)
    still_refused = world.deploy({"web": digests["c"]}, 3)
    world.rollback("web", digests["h"])
    world.rollback("web", digests["b"])

    assert (refused.code, still_refused.code) == (3, 3)
    assert refused.says("if number 999999999 is wrong, type on the server: ")
    assert refused.says(f"{world.root}/bin/deploy rollback shop web goes back to the image before it")
    assert world.deploy({"web": digests["c"]}, 3).code == 0
    assert world.serves("web", digests["c"])


@pytest.mark.parametrize("served", ["a", "ab"])
def test_a_person_confirms_the_image_that_serves_and_lifts_its_number(
    world: World, digests: dict[str, str], served: str
) -> None:
    """Also where nothing served before, or where the history was rewritten and has fewer commits."""
    serve(world, digests, served)
    world.deploy({"web": digests[served[-1]]}, 999_999_999)
    id = world.container("web").id

    refused = world.deploy({"web": digests["c"]}, 2)
    command = f"{world.root}/bin/deploy rollback shop web {digests[served[-1]]}"
    confirmed = world.rollback("web", digests[served[-1]])

    assert refused.code == 3 and refused.says(f"{command} keeps this image and resets the number")
    assert (confirmed.results, world.container("web").id) == ({"web": "unchanged"}, id)
    assert world.deploy({"web": digests["c"]}, 2).code == 0
    assert world.deploy({"web": digests["d"]}, 1).code == 3


def test_an_older_commit_where_the_newer_one_does_not_answer(world: World, digests: dict[str, str]) -> None:
    serve(world, digests, "ab")
    world.machine.do_stop(["web"])

    outcome = world.deploy({"web": digests["c"]}, 1)

    assert outcome.code == 1
    assert outcome.says("commit number 1 is older than number 2")


def test_files_of_an_older_commit_are_not_installed(world: World, digests: dict[str, str]) -> None:
    serve(world, digests, "abc")

    assert world.deploy({"web": digests["d"]}, 2, files={".env": "SECRET='old'\n"}).code == 3
    assert (world.folder / ".env").read_text() == "SECRET='s3cret'\n"


# Images


def local(world: World, digests: dict[str, str]) -> str:
    """The letters of the images of `web` that are on the server."""
    return "".join(name for name in NAMES if f"ghcr.io/acme/web@{digests[name]}" in world.machine.state.local)


def test_three_images_are_kept(world: World, digests: dict[str, str]) -> None:
    serve(world, digests, "abcde")
    assert local(world, digests) == "cde"

    world.rollback("web")
    world.rollback("web")
    assert world.serves("web", digests["c"])
    assert local(world, digests) == "cde"


def test_an_image_that_another_stack_can_go_back_to_is_kept(world: World, digests: dict[str, str]) -> None:
    other = world.root / "other" / ".deploys"
    other.mkdir(parents=True)
    (other / "web").write_text(lines(digests, "a1"))

    serve(world, digests, "abcdef")

    assert local(world, digests) == "adef"


@pytest.mark.parametrize("place", ["other", "other/.deploys"])
def test_no_image_is_removed_while_a_record_cannot_be_read(
    world: World, digests: dict[str, str], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A stack of root may go back to an image that this user does not see in its record."""
    closed = world.root / place
    (world.root / "other" / ".deploys").mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != closed)

    serve(world, digests, "abcde")
    outcome = world.deploy({"web": digests["f"]}, 6)

    assert local(world, digests) == "abcdef"
    assert outcome.says(f"note: old images stay, because this user cannot read which images a stack needs in {closed}")


def test_images_of_nobody_elses_repository_are_touched(world: World, digests: dict[str, str]) -> None:
    strangers = {f"ghcr.io/acme/api@{digests['a']}", f"ghcr.io/acme/web/tools@{digests['a']}", "postgres:17"}
    world.machine.state.local |= strangers

    serve(world, digests, "abcdef")

    assert strangers <= world.machine.state.local


def test_a_container_that_a_person_made_is_restored_from_nothing_that_is_removed(
    root: Path,
) -> None:
    """An image that a container uses stays, whatever the record says."""
    world = World(root, WEB)
    digests = {name: world.image("web", name) for name in NAMES}
    world.machine.run_by_hand("trial", f"ghcr.io/acme/web@{digests['a']}", "proxy")

    serve(world, digests, "abcdef")

    assert local(world, digests) == "adef"


# Status


def test_status(world: World, digests: dict[str, str]) -> None:
    assert world.status().text.startswith(f"bin/deploy {deploy_program.VERSION} sha256:")

    serve(world, digests, "a")
    outcome = world.status("shop")
    assert outcome.code == 0
    assert outcome.says(f"shop/.deploys/web: ghcr.io/acme/web@{digests['a']} running since ")
    assert outcome.says("  pinned: ghcr.io/acme/web@")

    world.image("web", "a", Image(status=500))
    problem = "DOES NOT ANSWER: /health on port 8080 should answer 200: the answer was 500"
    assert world.status().says(f"shop/.deploys/web: {problem}")
    world.machine.do_rm(["-f", "-v", "web"])
    assert world.status().says("shop/.deploys/web: DOES NOT RUN: it has no container")
    world.machine.troubles["inspect"] = ["Cannot connect to the Docker daemon"] * 9
    assert world.status().says("shop/.deploys/web: UNKNOWN: Docker does not answer")


def test_status_says_when_a_container_is_missing_of_a_stack_without_a_compose_file(
    world: World, digests: dict[str, str]
) -> None:
    serve(world, digests, "a")
    (world.folder / "docker-compose.yml").unlink()

    outcome = world.status()

    assert outcome.code == 0, outcome.text
    assert outcome.says("  pinned: ghcr.io/acme/web@")


def test_status_of_a_service_whose_container_has_another_name(root: Path) -> None:
    world = World(root, WEB.replace("container_name: web", "container_name: shop-web"))
    assert world.deploy({"web": world.image("web", 1)}, 1).code == 0

    assert world.status("shop").says("shop/.deploys/web: ghcr.io/acme/web@")


def test_a_record_on_a_full_disk(world: World) -> None:
    """A part of a line that could be written is taken back, also when the file is closed."""
    stack = world.stack()
    stack.state.mkdir()
    path = stack.state / "web"
    image = f"ghcr.io/acme/web@{world.image('web', 1)}"
    stack.add_record("web", deploy_program.Record(image, 1, "2026-01-01T00:00:00Z", "77"))
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
        with pytest.raises(OSError):
            stack.add_record("web", deploy_program.Record(image, 2, "2026-01-02T00:00:00Z", "78"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert path.read_bytes() == before
