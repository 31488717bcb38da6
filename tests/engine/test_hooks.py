"""A migration before the swap, and the stack's own scripts before and after a deploy."""

import hashlib
import re
import shlex
import time

import pytest

from tests.engine.conftest import succeeds
from tests.engine.images import Images
from tests.engine.server import TOKEN, Server, eventually
from tests.engine.shop import WEB, Shop

NOTES = (
    """echo "{what} $VERB $SERVICE ${{IMAGE##*-}} ${{EXIT_CODE-}}" >>notes; echo '##[error]said by a hook'\n"""
    "echo '::error::said by a hook' >&2; {ends}\n"
)


def migrate(words: str) -> str:
    return f"      deploy.migrate: {words}\n"


def test_a_migration_runs_with_the_new_image_before_the_swap(shop: Shop, server: Server, images: Images) -> None:
    needs = "    depends_on: [shop-elsewhere]\n  shop-elsewhere: {image: never-pushed}\n"
    shop.write(needs, labels=migrate(r"ends 0 it\\x27s\\x20a\\x2a 1s").replace("\\\\", "\\"))

    first = shop.deploy(images.api("uno"))

    assert first.returncode == 0, first.stdout
    assert r"""| version uno runs once: ["it's a*" "1s"]""" in first.stdout
    assert "\n##[" not in first.stdout and "| ## [error]spoken by what runs once" in first.stdout
    assert "No such container" not in first.stdout
    assert f"{WEB}-next-migrate" not in server.containers()

    shop.write(labels=migrate("ends 7"))
    before = server.container_id(WEB)
    second = shop.deploy(images.api("due"))

    assert second.returncode == 1, second.stdout
    assert "| version due runs once: []" in second.stdout
    assert f"the migration of {WEB} failed with exit code 7: no container was changed" in second.stdout
    assert "FAILED. Serving now: sha256:" in second.stdout
    assert "To go back" not in second.stdout
    assert (server.container_id(WEB), server.serves(WEB), len(shop.record())) == (before, "uno", 1)
    assert f"{WEB}-next-migrate" not in server.containers()

    shop.write(labels=migrate("otherwise"))
    third = shop.deploy(images.api("exits", "exits"))  # what it says, it says on stderr

    assert third.returncode == 1, third.stdout
    assert "| ::error::spoken by a container" in third.stdout and "\n::" not in third.stdout


def test_what_goes_back_or_comes_late_does_not_migrate(shop: Shop, server: Server, images: Images) -> None:
    digests = [images.api("uno"), images.api("due")]
    for digest in digests:
        succeeds(shop.deploy(digest))
    shop.write(labels=migrate("ends 7"))

    late = shop.deploy(digests[0], 1)
    back = server.by_hand(f"docker/bin/deploy rollback shop {WEB}")

    assert (late.returncode, back.returncode) == (0, 0), late.stdout + back.stdout
    assert "runs once" not in late.stdout + back.stdout
    assert server.serves(WEB) == "uno"


def test_a_killed_deploys_migration_comes_to_its_end_before_the_next(
    shop: Shop, server: Server, images: Images
) -> None:
    shop.write(labels=migrate("ends 0 6s"))
    name, ran = f"{WEB}-next-migrate", ["--filter", f"container={WEB}-next-migrate", "--format", "{{.Action}}"]
    one, began = images.api("uno"), time.time()
    command = f"docker/bin/deploy {shop.words(one)}"

    server.as_person(f"{command} >/dev/null 2>&1 & true")
    eventually(lambda: name in server.docker("ps", "--format", "{{.Names}}").split(), 30, "the migration runs")
    assert server.docker("inspect", "-f", '{{index .Config.Labels "deploy.health"}}', name) == ":8081/", (
        "as the service"
    )
    server.run("pkill", "-KILL", "-f", "bin/deploy deploy shop|compose .*run --rm")
    assert name in server.containers()
    shop.write(labels=migrate("ends 0 7s"))

    result = shop.deploy(one)

    assert result.returncode == 0, result.stdout
    made = server.docker("events", "--since", f"{began:.3f}", "--until", "0s", *ran).split()
    assert not re.search(r"^[0-9a-f]{12}$", result.stdout, re.M), "of that one nothing is said"
    assert [word for word in made if word in ("start", "die")] == ["start", "die", "start", "die"]
    assert "kill" not in made


def test_what_a_killed_deploy_made_for_a_migration_and_never_started_goes(
    shop: Shop, server: Server, images: Images
) -> None:
    shop.write(labels=migrate("ends 0"))
    server.docker("build", "-q", "-t", "left:1", str(images.context))
    dangling = server.dangling()
    server.docker("create", "--name", f"{WEB}-next-migrate", "left:1")

    result = shop.deploy(images.api("uno"))

    assert result.returncode == 0, result.stdout
    assert "version uno runs once: []" in result.stdout
    assert f"{WEB}-next-migrate\n" not in result.stdout
    assert server.dangling() == dangling, "its volume went with it"


def hooks(shop: Shop, before: str = "true", after: str = "true") -> None:
    """A stack with both."""
    files = {"before": before, "after": after}
    shop.write(**{f"hooks__{name}": NOTES.format(what=name, ends=ends) for name, ends in files.items()})


def notes(shop: Shop) -> list[str]:
    """What the hooks were told."""
    path = shop.folder / "notes"
    return path.read_text().splitlines() if path.exists() else []


def test_hooks_run_before_and_after_a_deploy_and_when_it_fails(shop: Shop, server: Server, images: Images) -> None:
    hooks(shop)
    good, bad = images.api("uno"), images.api("exits", "exits")

    first, late, second = shop.deploy(good, 5), shop.deploy(good, 4), shop.deploy(bad, 6)
    back = server.by_hand(f"docker/bin/deploy rollback shop {WEB} {good}")

    codes = [result.returncode for result in (first, second, late, back)]
    assert codes == [0, 1, 0, 0], first.stdout + second.stdout + late.stdout + back.stdout
    image = f"api@{good}"
    assert notes(shop) == [
        f"before deploy {WEB} {image} ",
        f"after deploy {WEB} {image} 0",
        f"before deploy {WEB} api@{bad} ",
        f"after deploy {WEB} api@{bad} 1",
        f"before rollback {WEB} {image} ",
        f"after rollback {WEB} {image} 0",
    ], "the one that came late changes nothing"
    assert "| ## [error]said by a hook" in first.stdout and "| ::error::said by a hook" in first.stdout
    assert "\n##[" not in first.stdout and "\n::" not in first.stdout
    assert first.stdout.splitlines()[-1].startswith("SERVING")
    assert not (shop.folder / ".hook").exists()


def test_a_hook_does_not_hear_what_its_caller_says(shop: Shop, server: Server, images: Images) -> None:
    shop.write(hooks__before="cat >heard\n")
    words = shop.words(images.api("uno"))

    succeeds(server.by_hand(f"printf '%s\\n' {shlex.quote(TOKEN)} more | docker/bin/deploy {words} 2>&1"))

    assert (shop.folder / "heard").read_text() == ""


def test_a_hook_that_fails(shop: Shop, server: Server, images: Images) -> None:
    one = images.api("uno")
    hooks(shop, before="exit 4")
    first = shop.deploy(one)
    assert first.returncode == 69, first.stdout
    assert "shop/hooks/before failed" in first.stdout
    assert [note.split()[0] for note in notes(shop)] == ["before", "after"]
    assert notes(shop)[1].endswith(" 69")
    assert WEB not in server.containers()

    hooks(shop, after="[ $(wc -l <notes) != 4 ]")
    second = shop.deploy(one)
    assert second.returncode == 69, second.stdout
    assert f"{WEB} serves, but shop/hooks/after failed" in second.stdout
    assert "shop/hooks/after failed: mend it; the next deploy runs it again" in second.stdout
    assert [note.split()[0] for note in notes(shop)] == ["before", "after"] * 2
    assert (server.serves(WEB), len(shop.record())) == ("uno", 1)

    third = shop.deploy(one)
    assert third.returncode == 0, third.stdout
    assert [note.split()[0] for note in notes(shop)[4:]] == ["after", "before", "after"]


@pytest.mark.usefixtures("api")
def test_what_a_killed_deploy_has_not_lifted_the_next_one_does_of_any_stack(
    shop: Shop, server: Server, images: Images
) -> None:
    hooks(shop)
    shop.put(".hook", f"deploy {WEB} killed\n")

    result = server.deploy("pos-api-staging", server.digest("pos-api-staging"), int(server.commits))

    assert result.returncode == 0, result.stdout
    assert notes(shop) == [f"after deploy {WEB} killed 137"]
    assert not (shop.folder / ".hook").exists()


def test_a_file_beside_the_compose_file_that_is_not_the_commits(shop: Shop, server: Server, images: Images) -> None:
    hooks(shop)
    good = shop.words(images.api("uno"))
    (shop.folder / "hooks/after").write_text("exit 0\n")
    alone = hashlib.sha256((shop.folder / "docker-compose.yml").read_bytes()).hexdigest()

    for words in (good, good.replace(good.split()[5], alone)):
        result = server.as_person(f"docker/bin/deploy {words}")
        assert result.returncode == 69, result.stdout
        assert "or a file beside it, is not the commit's; copy it, run the job again: git archive" in result.stdout
    assert notes(shop) == []
