"""bin/rotate changes a secret and redeploys the services that read it; if one fails, everything comes back."""

import contextlib
import errno
import os
import signal
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from kiwari_ci.engines.compose.deploy_programs import deploy as deploy_program
from kiwari_ci.engines.compose.deploy_programs import rotate
from tests.amounts import sample_or_all
from tests.host.fake_docker import Image, Killed, Running
from tests.host.world import STACK, WEB, WORKER, Snapshot, World

API = WEB.replace("web", "api").replace("env_file: .env", "env_file: api.env")
JOBS = WORKER.replace("restart: unless-stopped", "restart: unless-stopped\n    env_file: worker.env")
REDIS = """
  redis:
    image: redis:8
    container_name: redis
    restart: unless-stopped
    env_file: redis.env
    labels:
      deploy.accessory: "yes"
    networks:
      - proxy
"""
OLD, NEW = "s3cret", "n3w-secret"
ROLE = "pg shop_live"
DATABASE_WORDS = "DATABASE_URL,DB_PASSWORD,DSN pg shop_live LIVE_PASSWORD"


@pytest.fixture
def shop(root: Path) -> World:
    """Two services with one secret, one of them with more secrets, and one that reads none of them."""
    world = World(root, WEB, API, JOBS)
    (world.folder / "api.env").write_text("# of the API\nSECRET='s3cret'\nAPI_KEY=\"first\"\n")
    (world.folder / "worker.env").write_text("QUEUE='mail'\n")
    for name in (".env", "api.env", "worker.env"):
        (world.folder / name).chmod(0o640)
    install_program(root, "rotate")
    assert world.deploy({name: world.image(name, 1) for name in ("web", "api", "worker")}, 1).code == 0
    return world


@pytest.fixture
def database(shop: World) -> World:
    """The services have a database, whose password is in a URL, in a value of its own, and in a DSN."""
    folder = shop.root / "pg"
    folder.mkdir()
    (folder / ".env").write_text("POSTGRES_PASSWORD='super'\nLIVE_PASSWORD='old/pass'\n")
    (shop.folder / "api.env").write_text(
        "DATABASE_URL='postgres://shop_live:old%2Fpass@pg:5432/shop?sslmode=disable'\n"
    )
    (shop.folder / ".env").write_text("DB_USER='old/pass'\nDB_PASSWORD='old/pass'\n")
    (shop.folder / "worker.env").write_text("DSN='host=pg user=shop_live password=old/pass dbname=shop'\n")
    install_program(shop.root, "database")
    shop.machine.state.passwords[ROLE] = "old/pass"
    assert shop.deploy({name: shop.image(name, 2) for name in ("web", "api", "worker")}, 2).code == 0
    return shop


def install_program(root: Path, name: str) -> None:
    """Another program of kiwari-ci is on the server; the stand-in for Docker runs it."""
    program = root / "bin" / name
    program.parent.mkdir(exist_ok=True)
    program.write_text("")
    program.chmod(0o755)


def ids(world: World) -> dict[str, str]:
    return {name: world.container(name).id for name in ("web", "api", "worker")}


def env_files(world: World) -> dict[str, str]:
    names = ["pg/.env", *(f"{STACK}/{name}" for name in (".env", "api.env", "worker.env"))]
    return {name: (world.root / name).read_text() for name in names if (world.root / name).exists()}


def variables(world: World, name: str) -> dict[str, str]:
    return world.container(name).environment


def test_the_readers_run_with_the_new_value_and_nothing_else_changes(shop: World) -> None:
    before, records = ids(shop), {name: shop.record(name) for name in ("web", "api", "worker")}

    outcome = shop.rotate("SECRET", NEW)

    assert outcome.code == 0, outcome.text
    assert outcome.results == {"web": "serving", "api": "serving"}
    assert variables(shop, "web") == {"SECRET": NEW}
    assert variables(shop, "api") == {"SECRET": NEW, "API_KEY": "first"}
    assert env_files(shop) == {
        "shop/.env": f"SECRET='{NEW}'\n",
        "shop/api.env": f"# of the API\nSECRET='{NEW}'\nAPI_KEY=\"first\"\n",
        "shop/worker.env": "QUEUE='mail'\n",
    }
    after = ids(shop)
    assert after["worker"] == before["worker"] and after["web"] != before["web"] and after["api"] != before["api"]
    assert {name: shop.record(name) for name in records} == records
    assert shop.names() == ["api", "web", "worker"]
    assert outcome.says("rotated: SECRET in shop/.env, SECRET in shop/api.env")
    assert OLD not in outcome.text and NEW not in outcome.text
    assert not shop.stack().rotation_note.exists()


def test_the_mode_stays_and_the_old_file_is_kept_for_this_user_alone(shop: World) -> None:
    shop.rotate("API_KEY", NEW)

    path = shop.folder / "api.env"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    (backup,) = (shop.folder / ".deploys").glob("api.env.before-*")
    assert 'API_KEY="first"' in backup.read_text() and stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert not list((shop.folder / ".deploys").glob("incoming-*"))


def test_no_request_fails_while_the_secret_changes(shop: World) -> None:
    shop.machine.watched = ("web", "api")
    shop.machine.forget()

    assert shop.rotate("SECRET", NEW).code == 0

    for moment in shop.machine.trace:
        for name in ("web", "api"):
            assert moment.named[name] & moment.answering, f"nobody answers for {name} at {moment.time}"


def test_a_key_that_only_one_file_has(shop: World) -> None:
    before = ids(shop)

    assert shop.rotate("API_KEY", NEW).results == {"api": "serving"}

    assert ids(shop)["web"] == before["web"]


def test_different_values_under_one_key_are_different_secrets(shop: World) -> None:
    (shop.folder / "api.env").write_text("SECRET='another'\n")

    refused = shop.rotate("SECRET", NEW)
    assert refused.code == 64
    assert refused.says("SECRET has different values in .env, api.env. Name the file")
    assert refused.says("whose value is to change: rotate value shop SECRET FILE")
    assert env_files(shop)["shop/.env"] == "SECRET='s3cret'\n"

    assert shop.rotate("SECRET api.env", NEW).results == {"api": "serving"}
    assert variables(shop, "web") == {"SECRET": OLD}
    assert variables(shop, "api") == {"SECRET": NEW}


@pytest.mark.parametrize("failing", ["web", "api"])
def test_if_one_reader_fails_all_go_back(shop: World, failing: str) -> None:
    """The file has its old bytes, no container has the new value, and the request says what happened."""
    files, before = env_files(shop), ids(shop)
    shop.machine.accepts = lambda container: (
        not (container.environment.get("SECRET") == NEW and container.labels["com.docker.compose.service"] == failing)
    )

    outcome = shop.rotate("SECRET", NEW)

    assert outcome.code == 1, outcome.text
    assert set(outcome.results.values()) == {"failed"}
    assert env_files(shop) == files
    assert variables(shop, "web")["SECRET"] == variables(shop, "api")["SECRET"] == OLD
    assert ids(shop)[failing] == before[failing], "the old container never stopped"
    assert shop.serves("web", shop.image("web", 1)) and shop.serves("api", shop.image("api", 1))
    assert shop.names() == ["api", "web", "worker"]
    assert OLD not in outcome.text and NEW not in outcome.text
    assert not shop.stack().rotation_note.exists()
    shop.machine.accepts = lambda container: True
    assert shop.rotate("SECRET", NEW).code == 0


def test_a_worker_that_fails_starts_again_with_the_old_value(shop: World) -> None:
    before = ids(shop)
    shop.machine.images[shop.container("worker").reference] = shop.machine.image_of(shop.container("worker"))
    real = shop.machine.end_of
    shop.machine.end_of = lambda container, image: (  # type: ignore[method-assign]
        1 if container.environment.get("QUEUE") == NEW else real(container, image)
    )

    outcome = shop.rotate("QUEUE", NEW)

    assert outcome.code == 1, outcome.text
    assert variables(shop, "worker") == {"QUEUE": "mail"} and shop.container("worker").is_running
    assert ids(shop)["worker"] == before["worker"]
    assert env_files(shop)["shop/worker.env"] == "QUEUE='mail'\n"


def test_the_password_of_a_role_and_everything_that_has_it(database: World) -> None:
    """DB_USER has the same text, and is no secret: it stays."""
    outcome = database.rotate(DATABASE_WORDS, "newPass1")

    assert outcome.code == 0, outcome.text
    assert database.machine.state.passwords[ROLE] == "newPass1"
    assert env_files(database) == {
        "pg/.env": "POSTGRES_PASSWORD='super'\nLIVE_PASSWORD='newPass1'\n",
        "shop/.env": "DB_USER='old/pass'\nDB_PASSWORD='newPass1'\n",
        "shop/api.env": "DATABASE_URL='postgres://shop_live:newPass1@pg:5432/shop?sslmode=disable'\n",
        "shop/worker.env": "DSN='host=pg user=shop_live password=newPass1 dbname=shop'\n",
    }
    assert outcome.results == {"web": "serving", "api": "serving", "worker": "serving"}
    assert database.machine.given == ["old/pass\nold/pass\n", "old/pass\nnewPass1\n"]
    assert "newPass1" not in outcome.text and "old/pass" not in outcome.text
    assert not any("newPass1" in word for call in database.machine.calls for word in call)
    (backup,) = (database.root / "pg/.deploys").glob(".env.before-*")
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600


def test_a_password_is_encoded_in_a_url(database: World) -> None:
    (database.folder / "worker.env").write_text("QUEUE='mail'\n")

    assert database.rotate(DATABASE_WORDS, "a@b/c:d%e").code == 0

    assert "shop_live:a%40b%2Fc%3Ad%25e@pg" in env_files(database)["shop/api.env"]
    assert "DB_PASSWORD='a@b/c:d%e'" in env_files(database)["shop/.env"]


def test_if_a_reader_fails_the_role_has_its_old_password(database: World) -> None:
    """A container answers only if its own password is the role's, as one without a pool would."""
    files = env_files(database)

    def accepts(container: Running) -> bool:
        text = str(container.environment).replace("%2F", "/")
        is_new_worker = container.labels["com.docker.compose.service"] == "web" and "newPass1" in text
        has_password = any(key in container.environment for key in ("DATABASE_URL", "DB_PASSWORD"))
        return not is_new_worker and (not has_password or database.machine.state.passwords[ROLE] in text)

    database.machine.accepts = accepts

    outcome = database.rotate(DATABASE_WORDS, "newPass1")

    assert outcome.code == 1, outcome.text
    assert database.machine.state.passwords[ROLE] == "old/pass"
    assert env_files(database) == files
    for name in ("web", "api"):
        assert database.machine.answers(database.container(name)), name
        assert "old" in str(variables(database, name))
    assert database.names() == ["api", "web", "worker"]
    assert "newPass1" not in outcome.text and "old/pass" not in outcome.text


def test_a_role_with_another_password_is_refused_before_anything_changes(database: World) -> None:
    files, before = env_files(database), ids(database)
    database.machine.state.passwords[ROLE] = "somebody-elses"

    outcome = database.rotate(DATABASE_WORDS, "newPass1")

    assert outcome.code == 69 and outcome.says("the password of shop_live on pg was not changed")
    assert (env_files(database), ids(database)) == (files, before)
    assert not database.stack().rotation_note.exists()


def test_if_the_role_cannot_be_changed_the_files_come_back(database: World) -> None:
    """The server fails between the check and the change; what could not be undone, the next request undoes."""
    files, before = env_files(database), ids(database)
    real = database.machine.show

    def show(command: list[str], seconds: int, stdin: str = "") -> deploy_program.Output:
        if database.machine.given:
            database.machine.database_code = 69
        return real(command, seconds, stdin)

    database.machine.show = show  # type: ignore[method-assign]
    outcome = database.rotate(DATABASE_WORDS, "newPass1")

    assert outcome.code == 69
    assert outcome.says("the rotation is not undone, and the next request tries again")
    assert (env_files(database), ids(database)) == (files, before)
    assert database.stack().rotation_note.exists()

    database.machine.show, database.machine.database_code = real, 0  # type: ignore[method-assign]
    assert database.rollback("web").code == 0
    assert not database.stack().rotation_note.exists()


WRONG_URL = "DATABASE_URL='postgres://shop_live:different@pg:5432/shop'\n"


@pytest.mark.parametrize(
    ("words", "secret", "files", "code", "says"),
    [
        ("NO_KEY", "x", {}, 64, "no env file of shop has NO_KEY"),
        ("SECRET other.env", "x", {}, 64, "no env file of shop has SECRET"),
        ("QUEUE", "mail", {}, 64, "QUEUE has this value already. Nothing was changed"),
        ("QUEUE", "new", {"shop/.env": "A='change-me'\n"}, 69, "shop/.env:1: A still has change-me"),
        (DATABASE_WORDS, "new", {"shop/api.env": WRONG_URL}, 69, "DATABASE_URL in shop/api.env has another password"),
        (DATABASE_WORDS, "new", {"pg/.env": "X='y'\n"}, 64, "pg/.env has no LIVE_PASSWORD"),
        (DATABASE_WORDS, "old/pass", {}, 64, "shop_live has this password already"),
        (
            DATABASE_WORDS,
            "a;b",
            {},
            64,
            "DSN in shop/worker.env is not a URL, so its new password may only have letters and digits",
        ),
        (DATABASE_WORDS.replace("pg ", "other "), "new", {}, 69, "other/.env is missing"),
    ],
)
def test_what_is_refused_changes_nothing(
    database: World, words: str, secret: str, files: dict[str, str], code: int, says: str
) -> None:
    if words == "QUEUE":
        (database.folder / "worker.env").write_text("QUEUE='mail'\n")
    for name, text in files.items():
        (database.root / name).write_text(text)
    present, before = env_files(database), ids(database)

    outcome = database.rotate(words, secret)

    assert outcome.code == code and outcome.says(says), outcome.text
    assert (env_files(database), ids(database)) == (present, before)
    assert "different" not in outcome.text.replace("different values", "")


def test_a_link_is_not_followed_and_another_user_is_named(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shop.folder / "worker.env"
    path.rename(shop.folder / "kept")
    path.symlink_to("kept")
    assert shop.rotate("QUEUE", NEW).says("shop/worker.env is missing, or is a symbolic link")
    path.unlink()
    (shop.folder / "kept").rename(path)
    if os.geteuid() == 0:
        os.chown(path, 65534, -1)
        assert shop.rotate("QUEUE", NEW).says("shop/worker.env belongs to")


def test_an_accessory_is_never_replaced(root: Path) -> None:
    world = World(root, WEB, REDIS)
    (world.folder / "redis.env").write_text("PASSWORD='old'\n")
    world.machine.images["redis:8"] = Image(has_health_check=True)
    world.machine.public.add("redis:8")
    assert world.deploy({"web": world.image("web", 1)}, 1).code == 0

    outcome = world.rotate("PASSWORD", NEW)

    assert outcome.code == 69
    assert outcome.says("redis reads PASSWORD in shop/redis.env, and a deploy never replaces an accessory.")
    assert outcome.says("docker compose up -d redis")
    assert (world.folder / "redis.env").read_text() == "PASSWORD='old'\n"


def test_a_service_that_was_never_deployed_reads_it_later(root: Path) -> None:
    world = World(root, WEB)
    outcome = world.rotate("SECRET", NEW)
    assert outcome.code == 0 and outcome.says("web was never deployed: its first deploy has the new value")
    assert (world.folder / ".env").read_text() == f"SECRET='{NEW}'\n"


def test_a_preview_is_printed_and_nothing_changes(database: World) -> None:
    files, before = env_files(database), ids(database)

    outcome = database.preview(DATABASE_WORDS)

    assert outcome.code == 0
    assert outcome.text.splitlines() == [
        "changes: LIVE_PASSWORD in pg/.env",
        "changes: DB_PASSWORD in shop/.env",
        "changes: DATABASE_URL in shop/api.env",
        "changes: DSN in shop/worker.env",
        "changes: the password of the role shop_live of pg",
        "redeploys: api, start-first, with the image that it runs",
        "redeploys: web, start-first, with the image that it runs",
        "redeploys: worker, with a short gap, with the image that it runs",
    ]
    assert (env_files(database), ids(database)) == (files, before)
    assert database.machine.given == []


def test_other_changes_that_a_service_gets_are_named(shop: World) -> None:
    (shop.folder / "api.env").write_text("SECRET='s3cret'\nAPI_KEY='edited by hand'\n")

    outcome = shop.preview("SECRET")

    assert outcome.says("note: api also gets the other settings that were changed since its last deploy")
    assert not outcome.says("note: web")


def test_a_cancelled_rotation_goes_back(shop: World, cancellable: None) -> None:
    files, before = env_files(shop), ids(shop)

    def cancel() -> None:
        if shop.machine.find("web-next"):
            shop.machine.at_each_point = None
            os.kill(os.getpid(), signal.SIGTERM)

    shop.machine.at_each_point = cancel
    outcome = shop.rotate("SECRET", NEW)

    assert outcome.code == 1 and outcome.says("cancelled")
    assert (env_files(shop), ids(shop)) == (files, before)
    assert shop.names() == ["api", "web", "worker"]
    assert not shop.stack().rotation_note.exists()


def test_hooks_run_around_a_rotation(shop: World) -> None:
    shop.add_hooks("before", "after")
    shop.machine.scripts.clear()

    assert shop.rotate("QUEUE", NEW).code == 0

    assert [settings["VERB"] for _, settings in shop.machine.scripts] == ["rotate", "rotate"]
    assert not any(NEW in str(settings) for _, settings in shop.machine.scripts)
    shop.machine.script_codes["hooks/before"] = 1
    outcome = shop.rotate("QUEUE", "third")
    assert outcome.code == 69 and outcome.says("shop/hooks/before failed")
    assert env_files(shop)["shop/worker.env"] == f"QUEUE='{NEW}'\n"
    shop.machine.script_codes = {"hooks/after": 1}
    outcome = shop.rotate("QUEUE", "fourth")
    assert outcome.code == 69 and outcome.says("shop/hooks/after failed")
    assert env_files(shop)["shop/worker.env"] == "QUEUE='fourth'\n", "the service serves with it"


@pytest.mark.parametrize(
    ("secret", "is_password", "problem"),
    [
        ("", False, "is empty"),
        (" x", False, "begins or ends with a space"),
        ("a\x1bb", False, "contains a line break or another character"),
        ("it's", False, "contains a single quote"),
        ("a\\", False, "contains a single quote or ends with a backslash"),
        ("change-me", False, "contains change-me"),
        ("pässword", True, "contains a space or a character that is not ASCII"),
        ('pässword with blanks $HOME "#', False, ""),
        ('$%&/()=?`"#', True, ""),
    ],
)
def test_a_value_that_an_env_file_cannot_hold(secret: str, is_password: bool, problem: str) -> None:
    shown = rotate.problem_of_value(secret, is_password)
    assert shown.startswith(problem) and bool(shown) is bool(problem)


def test_any_value_reaches_the_container_as_it_is(shop: World) -> None:
    secret = '$HOME ${X:-y} "quoted" # no comment `x` \\n %41 é'
    assert shop.rotate("QUEUE", secret).code == 0
    assert variables(shop, "worker")["QUEUE"] == secret


def test_a_deploy_key_may_not_rotate(monkeypatch: pytest.MonkeyPatch) -> None:
    for words in ("value shop SECRET", "preview value shop SECRET", f"password shop {DATABASE_WORDS}"):
        caller = deploy_program.Caller(
            f"docker/bin/rotate {words}", is_key=True, allowed=("shop", "shop:env", "shop:push")
        )
        with pytest.raises(deploy_program.Failed, match="unknown request"):
            deploy_program.parse_request(caller)
        person_with_key = deploy_program.Caller(words, is_key=True, allowed=("shop",))
        with monkeypatch.context() as patch:
            patch.setattr(deploy_program, "take_caller", Mock(return_value=person_with_key))
            with pytest.raises(deploy_program.Failed, match="a deploy key may not rotate: log in as a person"):
                rotate.main()


@contextlib.contextmanager
def standard_input(written: bytes) -> Iterator[None]:
    """Somebody wrote this to standard input, and closed it."""
    read, write = os.pipe()
    os.write(write, written)
    os.close(write)
    original_input = os.dup(0)
    os.dup2(read, 0)
    try:
        yield
    finally:
        os.dup2(original_input, 0)
        os.close(original_input)
        os.close(read)


def test_the_value_is_the_first_line_of_standard_input() -> None:
    with standard_input(b"new value\nmore"):
        assert rotate.read_value(rotate.Target(keys=("SECRET",))) == "new value"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"it's\n", "contains a single quote"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b" outer\n", "begins or ends with a space"),
        (b"outer \n", "begins or ends with a space"),
        (b"value\r\n", "begins or ends with a space"),
        (b"half of a val", "does not end with a line break"),
        (20_000 * b"x", "is longer than 16000 characters"),
    ],
)
def test_a_line_that_is_no_value(content: bytes, problem: str) -> None:
    """A value is never changed to fit, and one that a broken connection has cut off is never stored."""
    with standard_input(content), pytest.raises(deploy_program.Failed) as refused:
        rotate.read_value(rotate.Target(keys=("SECRET",)))
    assert refused.value.code == 64
    assert refused.value.message.startswith(f"the new value cannot be stored: it {problem}")
    assert refused.value.message.endswith("Nothing was changed")


def test_a_cancel_while_a_rotation_looks_at_what_serves(
    shop: World, monkeypatch: pytest.MonkeyPatch, cancellable: None
) -> None:
    """No error of Docker's is meant by it: the rotation ends, and does not go on without a way to cancel it."""
    serving_image = deploy_program.serving_image
    http_status = shop.machine.http_status

    def look_and_cancel(stack: deploy_program.Stack, service: deploy_program.Service) -> str:
        def cancel(address: str, port: int, path: str, headers: dict[str, str]) -> int:
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            return http_status(address, port, path, headers)

        with monkeypatch.context() as patch:
            patch.setattr(shop.machine, "http_status", cancel)
            return serving_image(stack, service)

    with monkeypatch.context() as patch:
        patch.setattr(deploy_program, "serving_image", look_and_cancel)
        outcome = shop.rotate("SECRET", NEW)

    assert outcome.code == 1 and outcome.result["message"] == "the deploy was cancelled"
    assert variables(shop, "web") == {"SECRET": OLD}


@pytest.fixture
def half_rotated(database: World) -> World:
    """A rotation was killed when the role had its new password, and PostgreSQL does not run now."""

    def kill() -> None:
        database.machine.is_dead = database.machine.is_dead or database.machine.state.passwords[ROLE] == "newPass1"

    database.machine.at_each_point = kill
    with pytest.raises(Killed):
        database.rotate(DATABASE_WORDS, "newPass1")
    database.machine.at_each_point = None
    database.machine.revive()
    database.machine.database_code = 69
    return database


def test_a_half_rotated_password_without_its_server_refuses_a_deploy_and_says_the_way_out(half_rotated: World) -> None:
    outcome = half_rotated.deploy({"web": half_rotated.image("web", 3)}, 3)

    assert outcome.code == 69
    assert outcome.says("the password of shop_live on pg is half rotated, and was not changed back")
    assert outcome.says(f"Start PostgreSQL: cd {half_rotated.root}/pg && docker compose up -d. Then run this again")
    assert outcome.says(f"rm {half_rotated.folder}/.deploys/.rotation.json")


def test_a_half_rotated_password_without_its_server_lets_a_rollback_through(half_rotated: World) -> None:
    """It is the way out of trouble; what is left of the rotation is undone when the server runs again."""
    outcome = half_rotated.rollback("web", half_rotated.image("web", 1))

    assert outcome.code == 0, outcome.text
    assert outcome.says("the password of shop_live on pg is half rotated, and was not changed back")
    assert outcome.says("note: a rotation of shop was interrupted, and could not be undone: bin/rotate says why")
    assert half_rotated.serves("web", half_rotated.image("web", 1))
    assert half_rotated.stack().rotation_note.exists()

    half_rotated.machine.database_code = 0
    assert half_rotated.deploy({"web": half_rotated.image("web", 3)}, 3).code == 0
    assert half_rotated.machine.state.passwords[ROLE] == "old/pass"
    assert not half_rotated.stack().rotation_note.exists()
    for name in ("web", "api", "worker"):
        assert "newPass1" not in str(variables(half_rotated, name))


def test_an_interrupted_rotation_without_its_program_refuses_a_deploy_and_lets_a_rollback_through(
    half_rotated: World,
) -> None:
    (half_rotated.root / "bin/rotate").unlink()

    outcome = half_rotated.deploy({"web": half_rotated.image("web", 3)}, 3)

    assert outcome.code == 69
    assert outcome.says("bin/rotate is missing, and rotations that were interrupted need it. Copy it: git archive HEAD")
    assert half_rotated.rollback("web", half_rotated.image("web", 1)).code == 0
    assert half_rotated.stack().rotation_note.exists()


def test_a_deploy_beside_a_rotation_that_does_not_end(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends as one that waits for another deploy."""
    shop.stack().rotation_note.write_text("{}")
    monkeypatch.setattr(shop.machine, "undo_rotation", lambda stack: 75)

    outcome = shop.deploy({"web": shop.image("web", 2)}, 2)

    assert outcome.code == 75 and outcome.says("a rotation of shop is still running")


@pytest.mark.parametrize("one_of", sample_or_all(13, 3), ids=["few points", "some points"])
@pytest.mark.parametrize("fails", [False, True])
def test_killed_at_any_moment_the_next_request_finds_one_value_everywhere(
    database: World, fails: bool, one_of: int
) -> None:
    """After a kill, and after a power cut: either the old value is in all places, or the new one is."""
    files = env_files(database)

    def accepts(container: Running) -> bool:
        is_new = "newPass1" in str(container.environment)
        return not (fails and is_new and container.labels["com.docker.compose.service"] == "api")

    database.machine.accepts = accepts
    moments: dict[str, Snapshot] = {}

    def look() -> None:
        snapshot = database.snapshot()
        moments.setdefault(snapshot.fingerprint(), snapshot)

    database.machine.at_each_point = look
    assert database.rotate(DATABASE_WORDS, "newPass1").code == int(fails)
    database.machine.at_each_point = None
    assert len(moments) > 40
    undone = 0
    for number, moment in enumerate(list(moments.values())[::one_of]):
        database.restore(moment)
        if number % 2:
            database.machine.boot()
            database.machine.wait(3)

        deployed = database.deploy({"web": database.image("web", 2)}, 2)

        assert deployed.code == 0, deployed.text
        undone += deployed.says("undoing a rotation")
        value = database.machine.state.passwords[ROLE]
        assert env_files(database) == files or (value == "newPass1" and not fails)
        assert f"LIVE_PASSWORD='{value}'" in env_files(database)["pg/.env"]
        for name in ("web", "api", "worker"):
            shown = str(variables(database, name)).replace("%2F", "/")
            assert value in shown, f"{name} has another password at moment {number}"
            assert database.container(name).is_running
        assert database.names() == ["api", "web", "worker"]
    assert undone > 30 // one_of


def give_only(database: World, line: str) -> None:
    """The worker alone has the password, in this line."""
    for name in (".env", "api.env"):
        (database.folder / name).write_text("X='1'\n")
    (database.folder / "worker.env").write_text(f"{line}\n")
    assert database.deploy({name: database.image(name, 2) for name in ("web", "api", "worker")}, 2).code == 0


@pytest.mark.parametrize(
    "line",
    [
        "DSN=\"host=pg user=shop_live password='old/pass' dbname=shop\"",
        'DSN=\'{"user":"shop_live","password":"old/pass"}\'',
        "DSN='Host=pg;Username=shop_live;Password=\"old/pass\"'",
        "DSN='shop_live:old/pass@tcp(pg:3306)/shop'",
        "DSN='postgres://shop_live@pg/shop?pass=old%2fpass'",
        "DSN='postgres://shop_live:old%2Fpass@pg/a postgres://shop_live:old%2Fpass@pg/b'",
    ],
)
def test_a_password_in_an_unknown_form_is_refused(database: World, line: str) -> None:
    give_only(database, line)
    files = env_files(database)

    outcome = database.rotate(DATABASE_WORDS, "newPass1")

    assert outcome.code == 69, outcome.text
    assert outcome.says("DSN in shop/worker.env has the password of shop_live in a form that rotate does not know")
    assert env_files(database) == files and database.machine.state.passwords[ROLE] == "old/pass"
    assert "old/pass" not in outcome.text


@pytest.mark.parametrize(
    ("old", "before", "after"),
    [
        ("o@d", "postgres://shop_live:o@d@pg:5432/a?x=b@c", "postgres://shop_live:newPass1@pg:5432/a?x=b@c"),
        ("shop", "postgres://shop_live:shop@pg/shop_live", "postgres://shop_live:newPass1@pg/shop_live"),
        ("ab", "postgres://pg/a?user=shop_live&password=ab", "postgres://pg/a?user=shop_live&password=newPass1"),
        ("ab", "Server=pg,5432;User Id=shop_live;Pwd=ab", "Server=pg,5432;User Id=shop_live;Pwd=newPass1"),
        ("newPass", "postgres://shop_live:newPass@pg/a", "postgres://shop_live:newPass1@pg/a"),
    ],
)
def test_a_password_in_an_unusual_place_changes(database: World, old: str, before: str, after: str) -> None:
    database.machine.state.passwords[ROLE] = old
    (database.root / "pg/.env").write_text(f"LIVE_PASSWORD='{old}'\n")
    give_only(database, f"DSN='{before}'")

    outcome = database.rotate(DATABASE_WORDS, "newPass1")

    assert outcome.code == 0, outcome.text
    assert env_files(database)["shop/worker.env"] == f"DSN='{after}'\n"


def test_a_password_that_no_service_has_is_refused(database: World) -> None:
    give_only(database, "DSN=''")

    outcome = database.rotate(DATABASE_WORDS, "newPass1")

    assert outcome.code == 69 and outcome.says("the password of shop_live in pg/.env is in no env file of shop")
    assert database.machine.state.passwords[ROLE] == "old/pass"


def test_the_credentials_of_another_user_stay(database: World) -> None:
    """They may be the same text, and are another secret."""
    url, text = "postgres://report:old%2Fpass@pg/shop", "host=pg user=report password=old/pass"
    (database.folder / "worker.env").write_text(f"DSN='{url}'\n")
    (database.folder / ".env").write_text(f"DB_PASSWORD='{text}'\n")

    assert database.rotate(DATABASE_WORDS, "newPass1").code == 0

    assert env_files(database)["shop/worker.env"] == f"DSN='{url}'\n"
    assert env_files(database)["shop/.env"] == f"DB_PASSWORD='{text}'\n"


@pytest.mark.parametrize(
    "value", ["postgres://shop_live:old%2Fpass@elsewhere:5432/shop", "host=elsewhere user=shop_live password=old/pass"]
)
def test_the_same_password_on_another_host_is_refused(database: World, value: str) -> None:
    (database.folder / "worker.env").write_text(f"DSN='{value}'\n")
    files = env_files(database)

    outcome = database.rotate(DATABASE_WORDS, "newPass1")

    assert outcome.code == 69
    assert outcome.says("DSN in shop/worker.env has the password of shop_live, and names another host than pg")
    assert env_files(database) == files


def test_a_key_with_the_password_of_a_role_is_refused(database: World) -> None:
    files = env_files(database)

    for outcome in (database.rotate("DB_PASSWORD", "newPass1"), database.preview("DB_PASSWORD")):
        assert outcome.code == 64
        assert outcome.says("DB_PASSWORD is a password of a database: LIVE_PASSWORD in pg/.env has the same value")
        assert outcome.says("kiwari-ci rotate ENV DATABASE")

    assert env_files(database) == files and database.machine.state.passwords[ROLE] == "old/pass"


def test_a_line_that_is_not_utf_8_is_refused(database: World) -> None:
    path = database.folder / "worker.env"
    path.write_bytes(b"DSN='host=pg user=shop_live password=old/pass application_name=caf\xe9'\n")
    content = path.read_bytes()

    outcome = database.rotate(DATABASE_WORDS, "newPass1")

    assert outcome.code == 69 and outcome.says("shop/worker.env:1: DSN has bytes that are not UTF-8")
    assert path.read_bytes() == content


def test_a_full_disk_does_not_keep_the_role_from_its_old_password(
    database: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, write_file = env_files(database), deploy_program.write_file
    is_full = False

    def write(path: Path, content: bytes, mode: int, group: int = -1) -> None:
        if is_full:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_file(path, content, mode, group)

    def look() -> None:
        nonlocal is_full
        is_full = is_full or database.machine.state.passwords[ROLE] == "newPass1"

    monkeypatch.setattr(deploy_program, "write_file", write)
    database.machine.at_each_point = look
    outcome = database.rotate(DATABASE_WORDS, "newPass1")
    database.machine.at_each_point = None

    assert outcome.code != 0 and outcome.says("the rotation is not undone, and the next request tries again")
    assert database.machine.state.passwords[ROLE] == "old/pass"
    assert database.stack().rotation_note.exists()
    is_full = False
    assert database.deploy({"web": database.image("web", 2)}, 2).code == 0
    assert env_files(database) == files
    assert not database.stack().rotation_note.exists()


def test_a_service_that_does_not_come_back_keeps_the_note(shop: World) -> None:
    """The API refuses the new value, and then web does not start with the old one."""
    shop.edit("container_name: api", "container_name: api\n    depends_on:\n      - web")
    assert shop.deploy({name: shop.image(name, 2) for name in ("web", "api", "worker")}, 2).code == 0
    has_served = False

    def accepts(container: Running) -> bool:
        nonlocal has_served
        service, value = container.labels["com.docker.compose.service"], container.environment.get("SECRET")
        if service == "api":
            return value != NEW
        has_served = has_served or (service == "web" and value == NEW)
        return not (service == "web" and value == OLD and has_served and container.name != "web")

    shop.machine.accepts = accepts
    outcome = shop.rotate("SECRET", NEW)

    assert outcome.code == 1
    assert outcome.says("web does not serve with the old value either")
    assert outcome.says("web may still have the new value, because the rotation is not undone.")
    assert not outcome.says("went back to the old value")
    assert shop.stack().rotation_note.exists()
    sentence = "A rotation of shop failed or was interrupted, and is not undone yet"
    assert shop.check().says(sentence) and shop.status().says(sentence) and shop.status("shop").says(sentence)
    assert shop.rotate("SECRET", "third").says("an earlier rotation of shop is not undone yet")

    shop.machine.accepts = lambda container: True
    assert shop.rollback("api").code == 0
    assert variables(shop, "web")["SECRET"] == OLD
    assert not shop.stack().rotation_note.exists()
    assert not shop.check().says(sentence) and not shop.status().says(sentence)


def test_the_log_of_a_service_shows_no_value(database: World) -> None:
    """An app prints its settings as it fails; with them, the password in a URL is percent-encoded."""
    printed = "FATAL: new*pass / new%2Apass / old/pass / old%2Fpass / fine\n"
    digest = database.image("web", 3, Image(printed=printed))
    database.machine.accepts = lambda container: "new*pass" not in str(container.environment)
    (database.folder / "worker.env").write_text("DSN=''\n")
    assert database.deploy({"web": digest}, 3).code == 0

    outcome = database.rotate(DATABASE_WORDS, "new*pass")

    assert outcome.code == 1 and outcome.says("| FATAL: *** / *** / *** / *** / fine")
    assert not any(text in outcome.text for text in ("new*pass", "new%2Apass", "old/pass", "old%2Fpass"))
    deploy_program.quote("old/pass")
    assert deploy_program.HIDDEN_VALUES == []


def test_the_last_hook_runs_when_the_rotation_is_undone(shop: World) -> None:
    shop.add_hooks("before", "after")
    script = shop.machine.script
    seen = []

    def run(command: list[str], folder: Path, settings: dict[str, str]) -> int:
        deploy_program.quote(f"from {OLD} to {NEW}")
        text = (shop.folder / ".env").read_text()
        seen.append((command[-1], settings.get("EXIT_CODE"), text, variables(shop, "web")))
        return script(command, folder, settings)

    shop.machine.script = run  # type: ignore[method-assign]
    shop.machine.accepts = lambda container: container.environment.get("SECRET") != NEW
    outcome = shop.rotate("SECRET", NEW)

    old = ("SECRET='s3cret'\n", {"SECRET": OLD})
    assert seen == [("hooks/before", None, *old), ("hooks/after", "1", *old)]
    assert outcome.says("| from *** to ***") and OLD not in outcome.text


def test_a_kill_while_a_file_is_written_leaves_no_password_and_keeps_the_group(
    database: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group is right before the file has its name, and what was half written is removed from all folders."""
    if os.geteuid() != 0:
        pytest.skip("only root may give a file to any group")
    files, replace = env_files(database), os.replace
    path = database.folder / "api.env"
    os.chown(path, -1, 12345)

    class KilledInReplace(BaseException):
        pass

    def killed(source: str, target: Path) -> None:
        if target == path:
            assert os.stat(source).st_gid == 12345
        replace(source, target)
        if target == path:
            raise KilledInReplace

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KilledInReplace):
        database.rotate(DATABASE_WORDS, "newPass1")
    monkeypatch.setattr(os, "replace", replace)
    interrupted_files = [database.root / "pg/.new-a", database.root / "pg/.deploys/.new-b", database.folder / ".new-c"]
    for half in interrupted_files:
        half.write_text("LIVE_PASSWORD='newPass1'\n")

    assert database.deploy({"web": database.image("web", 2)}, 2).code == 0

    assert not any(half.exists() for half in interrupted_files)
    assert env_files(database) == files and path.stat().st_gid == 12345


def test_the_removal_of_the_note_is_on_the_disk(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a power cut brought it back, the next request would undo a rotation that was done."""
    note, synced = shop.stack().rotation_note, []
    sync_folder = deploy_program.sync_folder

    def sync(folder: Path) -> None:
        synced.append((folder, note.exists()))
        sync_folder(folder)

    monkeypatch.setattr(deploy_program, "sync_folder", sync)
    assert shop.rotate("SECRET", NEW).code == 0

    states = [exists for folder, exists in synced if folder == note.parent]
    assert True in states and states[-1] is False
