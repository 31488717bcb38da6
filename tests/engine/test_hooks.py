"""A migration before any container is replaced, and the stack's own scripts before and after a deploy."""

import json
import shlex
import time

import pytest

from tests.engine.conftest import succeeds
from tests.engine.images import Images
from tests.engine.server import Server, eventually, outcome
from tests.engine.shop import WEB, Shop

NOTES = (
    """echo "{name} $VERB $SERVICE ${{IMAGE##*-}} ${{EXIT_CODE-}}" >>notes; echo '##[error]said by a hook'\n"""
    "echo '::error::said by a hook' >&2; {ends}\n"
)
MIGRATION = f"{WEB}-next-migrate"


def migrate(*words: str) -> str:
    """The label as the generator writes it: the words for a shell, in YAML, with each `$` doubled for Compose."""
    return f"      deploy.migrate: {json.dumps(shlex.join(words).replace('$', '$$'))}\n"


def hooks(shop: Shop, before: str = "true", after: str = "true") -> None:
    """A stack with both scripts, which note what they are told and then do this."""
    ends = {"before": before, "after": after}
    shop.write(**{f"hooks__{name}": NOTES.format(name=name, ends=words) for name, words in ends.items()})


def notes(shop: Shop) -> list[str]:
    """What the hooks were told."""
    path = shop.folder / "notes"
    return path.read_text().splitlines() if path.exists() else []


def test_a_migration_runs_with_the_new_image_before_the_swap(shop: Shop, server: Server, images: Images) -> None:
    shop.write(labels=migrate("ends", "0", "it's a* $HOME", "1s"))

    first = shop.deploy(images.api("uno"))

    assert first.returncode == 0, first.stdout
    assert r"""| version uno runs once: ["it's a* $HOME" "1s"]""" in first.stdout
    assert "\n##[" not in first.stdout and "| ## [error]spoken by what runs once" in first.stdout
    assert MIGRATION not in server.containers()

    shop.write(labels=migrate("ends", "7"))
    before = server.container_id(WEB)
    second = shop.deploy(images.api("due"))

    assert second.returncode == 1, second.stdout
    assert "| version due runs once: []" in second.stdout
    assert "exit code 7" in outcome(second)["message"]
    assert (server.container_id(WEB), server.serves(WEB), len(shop.record())) == (before, "uno", 1)
    assert MIGRATION not in server.containers()

    shop.write(labels=migrate("otherwise"))
    third = shop.deploy(images.api("exits", "exits"))  # what it says, it says on stderr

    assert third.returncode == 1, third.stdout
    assert "| ::error::spoken by a container" in third.stdout and "\n::" not in third.stdout


def test_what_goes_back_or_comes_late_does_not_migrate(shop: Shop, server: Server, images: Images) -> None:
    digests = [images.api("uno"), images.api("due")]
    shop.bring_into_service(*digests)
    shop.write(labels=migrate("ends", "7"))

    late = shop.deploy(digests[0], 1)
    back = shop.roll_back()

    assert (late.returncode, back.returncode) == (3, 0), late.stdout + back.stdout
    assert "runs once" not in late.stdout + back.stdout
    assert server.serves(WEB) == "uno"


@pytest.mark.parametrize("killed", ["the program", "with its docker commands"])
def test_a_killed_deploys_migration_comes_to_its_end_before_the_next(
    shop: Shop, server: Server, images: Images, killed: str
) -> None:
    """Two at once could harm the data. A docker command that outlives the program holds the stack's lock."""
    shop.write(labels=migrate("ends", "0", "5s"))
    began = server.run("date", "+%s.%N").stdout.strip()
    interrupted = shop.begin(shop.words(images.api("uno")))
    shop.wait_for_container(MIGRATION)
    if killed == "the program":
        server.kill_deploy(stack="shop")
    else:
        shop.kill_with_children()
    interrupted.wait(30)
    assert MIGRATION in server.containers()
    shop.write(labels=migrate("ends", "0", "1ms"))

    result = shop.deploy(images.api("uno"))

    assert result.returncode == 0, result.stdout
    asked = ("--filter", f"container={MIGRATION}", "--format", "{{.Action}}")
    happened = server.docker("events", "--since", began, "--until", "0s", *asked).split()
    assert [word for word in happened if word in ("start", "die")] == ["start", "die", "start", "die"]
    assert "kill" not in happened
    assert MIGRATION not in server.containers()


def test_a_migration_that_was_made_and_never_started_goes(shop: Shop, server: Server, images: Images) -> None:
    shop.write(labels=migrate("ends", "0"))
    server.docker("build", "-q", "-t", "left:1", str(images.context))
    dangling = server.dangling()
    made_by = {"project": "shop", "service": WEB, "oneoff": "True"}
    labels = [word for key, value in made_by.items() for word in ("--label", f"com.docker.compose.{key}={value}")]
    server.docker("create", "--name", MIGRATION, *labels, "left:1")

    result = shop.deploy(images.api("uno"))

    assert result.returncode == 0, result.stdout
    assert "version uno runs once: []" in result.stdout
    assert server.dangling() == dangling, "its volume went with it"


def test_hooks_run_before_and_after_a_deploy_and_when_it_fails(shop: Shop, images: Images) -> None:
    hooks(shop)
    good, bad = images.api("uno"), images.api("exits", "exits")

    first, late, second = shop.deploy(good, 5), shop.deploy(good, 4), shop.deploy(bad, 6)
    back = shop.roll_back(digest=good)

    codes = [result.returncode for result in (first, second, late, back)]
    assert codes == [0, 1, 3, 0], first.stdout + second.stdout + late.stdout + back.stdout
    assert notes(shop) == [
        f"before deploy {WEB} api@{good} ",
        f"after deploy {WEB} api@{good} 0",
        f"before deploy {WEB} api@{bad} ",
        f"after deploy {WEB} api@{bad} 1",
        f"before rollback {WEB} api@{good} ",
        f"after rollback {WEB} api@{good} 0",
    ], "the one that came late changes nothing"
    assert "| ## [error]said by a hook" in first.stdout and "| ::error::said by a hook" in first.stdout
    assert "\n##[" not in first.stdout and "\n::" not in first.stdout


def test_a_hook_that_fails(shop: Shop, server: Server, images: Images) -> None:
    one = images.api("uno")
    hooks(shop, before="exit 4")
    first = shop.deploy(one)
    assert first.returncode == 69, first.stdout
    assert "shop/hooks/before failed" in outcome(first)["message"]
    assert [note.split()[0] for note in notes(shop)] == ["before", "after"]
    assert notes(shop)[1].endswith(" 69")
    assert WEB not in server.containers()

    hooks(shop, after="[ $(wc -l <notes) != 4 ]")
    second = shop.deploy(one)
    assert second.returncode == 69, second.stdout
    assert "the new version serves, but shop/hooks/after failed" in outcome(second)["message"]
    assert [note.split()[0] for note in notes(shop)] == ["before", "after"] * 2
    assert (server.serves(WEB), len(shop.record())) == ("uno", 1)

    third = shop.deploy(one)
    assert third.returncode == 0, third.stdout
    assert [note.split()[0] for note in notes(shop)[4:]] == ["after", "before", "after"], "the one that was owed first"


def test_the_way_back_does_not_wait_for_a_hook_that_fails(shop: Shop, server: Server, images: Images) -> None:
    shop.bring_into_service(images.api("uno"), images.api("due"))
    hooks(shop, before="exit 4")

    back = shop.roll_back()

    assert back.returncode == 0, back.stdout
    assert server.serves(WEB) == "uno"


def test_an_interrupted_stacks_hook_is_run_by_that_stacks_next_deploy(
    shop: Shop, server: Server, images: Images
) -> None:
    """Not by another stack's, whose login may not be the same one day."""
    other = Shop(server, images, "shop-other")
    other.write()
    hooks(shop, before="exec sleep 60")
    one = images.api("uno")
    interrupted = shop.begin(shop.words(one))
    eventually(lambda: bool(notes(shop)), 60, "hooks/before runs")
    server.kill_deploy(stack="shop")
    interrupted.wait(30)

    succeeds(other.deploy(one))
    assert [note.split()[0] for note in notes(shop)] == ["before"]

    hooks(shop)
    succeeds(shop.deploy(one))
    assert notes(shop)[1:] == [
        f"after deploy {WEB} api@{one} 137",
        f"before deploy {WEB} api@{one} ",
        f"after deploy {WEB} api@{one} 0",
    ]


def test_what_a_hook_leaves_running_holds_up_no_deploy(shop: Shop, server: Server, images: Images) -> None:
    hooks(shop, after="sleep 60 & echo $! >left")
    one = images.api("uno")

    began = time.monotonic()
    for _ in range(2):
        succeeds(shop.deploy(one))
        assert server.run("ps", "-p", (shop.folder / "left").read_text().strip(), check=False).returncode == 0
    assert time.monotonic() - began < 60
