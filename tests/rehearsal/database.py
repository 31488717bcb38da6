"""The PostgreSQL stack on trial on a real engine, ours and the design's: `python -m tests.rehearsal.database`.

The images are stand-ins (`stand_ins.py` says for what). Where the design stops at a slip, that one is mended to see the
next: first the health test's word, then the passwords listed in the compose file; its trials' docstrings say which.
"""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.engine.images import REGISTRY, Images
from tests.engine.person import Person
from tests.engine.server import Result, throw_away
from tests.rehearsal import stand_ins
from tests.rehearsal.stack import (
    CMD_SHELL,
    DATABASES,
    GOOD,
    KEY_OF,
    KEYS,
    LISTED,
    LITERAL,
    MARK,
    Ground,
    Stack,
    section,
)
from tests.rehearsal.verdict import GREEN_RIGHT, GREEN_WRONG, RED_RIGHT, Verdict, judged
from tests.rehearsal.watch import Watch

ODD = f'{MARK}$apr1$x$$ y"z\\q  #`x` ${{HOME}} ü🥭%41@/:\\\\e'
TABLE = "CREATE TABLE receipts (id bigint PRIMARY KEY);\n"
ROLES = ("pos_stg", "pos_prod")


@dataclass(frozen=True)
class Trial:
    """One fault, the words that both designs have come to, and how it is tried."""

    name: str
    ours: str
    literal: str
    trial: Callable[[Stack], Verdict]
    quick: bool = False


def started(stack: Stack, **values: str) -> Verdict:
    """Starts it: green is right when every role gets in with its password, red when no container was made.

    A container that was made starts again by itself, and people type the command again.
    """
    done = stack.up()
    if done.returncode and stack.health() != "no container":
        done = stack.up_on_server()
    if done.returncode:
        return verdict(False, stack.health() == "no container", f"refused: {last(done)}; {stack.health()}")
    locked_out = stack.locked_out(**values)
    words = f"not let in: {', '.join(locked_out)}" if locked_out else "every role gets in"
    return verdict(True, not locked_out, f"{stack.health()}; {words}")


def comes_up(stack: Stack) -> Verdict:
    """The stack as it stands."""
    stack.fresh()
    return started(stack)


def passwords(stack: Stack) -> Verdict:
    """Only the health test's word is mended."""
    stack.fresh(CMD_SHELL)
    return started(stack)


def odd_passwords(stack: Stack) -> Verdict:
    """Everything that trips a shell, Compose or SQL but the single quote; both slips mended."""
    values = {key: f"{number}{ODD}" for number, key in enumerate(KEYS)}
    stack.fresh(CMD_SHELL, LISTED, **values)
    return started(stack, **values)


def quoted_password(stack: Stack) -> Verdict:
    """A single quote; both slips mended."""
    stack.fresh(CMD_SHELL, LISTED, POS_STG_PASSWORD=f"{MARK}it's")
    return started(stack, POS_STG_PASSWORD=f"{MARK}it's")


def missing(stack: Stack) -> Verdict:
    """One line of the env file was forgotten; both slips mended."""
    stack.fresh(CMD_SHELL, LISTED, without="POS_PROD_PASSWORD")
    return started(stack)


def not_filled_in(stack: Stack) -> Verdict:
    """Everybody can read the example in the repository: right is what lets nobody in with it. The design has none."""
    stack.fresh(CMD_SHELL, LISTED, **dict.fromkeys(KEYS, "change-me"))
    if stack.ours:
        shutil.copy(stack.folder / ".env.example", stack.folder / ".env")
    done = stack.up()
    let_in = [role for role in DATABASES if stack.gets_in(role, "change-me")]
    words = f"{', '.join(let_in) or 'nobody'} gets in with change-me"
    return verdict(done.returncode == 0, not let_in, f"{last(done)}; {words}")


def failed_init(stack: Stack) -> Verdict:
    """The superuser has an environment's name, so the script fails; started twice, as people do; both slips mended."""
    stack.fresh(CMD_SHELL, LISTED, POSTGRES_USER="pos_stg")
    first, again = stack.up(), stack.up_on_server()
    green, let_in = again.returncode == 0, stack.gets_in("pos_prod", GOOD["POS_PROD_PASSWORD"])
    words = f"first: {last(first)}; again: {last(again)}; {stack.health()}; production's role gets in: {let_in}"
    return verdict(green, green == let_in, words)


def other_database(stack: Stack) -> Verdict:
    """Staging's role at production's door; both slips mended."""
    stack.serving(CMD_SHELL, LISTED)
    answer = stack.login("pos_stg", "pos_production", GOOD["POS_STG_PASSWORD"])
    return verdict(True, answer.startswith("permission denied"), answer)


def changed(stack: Stack, role: str) -> Verdict:
    """A new password by the runbook's section; the design, which has none, runs its script again; both slips mended."""
    stack.serving(CMD_SHELL, LISTED)
    old, new = GOOD[KEY_OF[role]], f"{MARK}second"
    stack.write_env(**{KEY_OF[role]: new})
    again = "docker compose exec postgres bash /docker-entrypoint-initdb.d/init-databases.sh"
    commands = f"cd docker/postgres && docker compose up -d --wait\n{again}"
    done = stack.on_server(section("A new database, or a changed password")[0] if stack.ours else commands)
    green, by_old, by_new = done.returncode == 0, stack.gets_in(role, old), stack.gets_in(role, new)
    words = f"{last(done)}; the old password {'works' if by_old else 'fails'}, the new {'works' if by_new else 'fails'}"
    return verdict(green, (by_new and not by_old) if green else (by_old and not by_new), words)


def changed_password(stack: Stack) -> Verdict:
    """Staging's."""
    return changed(stack, "pos_stg")


def changed_superuser(stack: Stack) -> Verdict:
    """The server's own."""
    return changed(stack, "postgres")


def migrate(stack: Stack) -> list[Result]:
    """Migrates both: by the runbook, and, as the design names no command, by the one of migrate's own pages."""
    if stack.ours:
        copied, *blocks = section("Migrations")
        assert stack.types(copied).returncode == 0
        return [stack.on_server(block) for block in blocks]
    shutil.copytree(stack.person.clone / "api/migrations", stack.server.home / "migrations", dirs_exist_ok=True)
    run = f"docker run --rm --network proxy -v ~/migrations:/migrations migrate/migrate:{stand_ins.MIGRATE}"
    password = "$(sed -n s/^{key}=//p docker/postgres/.env)"
    url = f"postgres://{{role}}:{password}@postgres:5432/{{database}}?sslmode=disable"
    commands = f'{run} -path /migrations -database "{url}" up'
    return [stack.on_server(commands.format(role=r, key=KEY_OF[r], database=DATABASES[r])) for r in ROLES]


def migrations(stack: Stack) -> Verdict:
    """Afterwards each database has the table, and it is its role's; both slips mended."""
    stack.serving(CMD_SHELL, LISTED)
    done = migrate(stack)
    owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'receipts'"
    owners = [stack.sql(owner, DATABASES[role]) for role in ROLES]
    words = f"{' and '.join(map(last, done))}; the tables belong to {owners}"
    green = not any(result.returncode for result in done)
    return verdict(green, green == (owners == list(ROLES)), words)


def nothing_told(stack: Stack) -> Verdict:
    """A first start, the script once more by hand, migrations; both slips mended."""
    stack.ground.watch.leaks.clear()
    stack.ground.watch.saw_sample = False
    stack.serving(CMD_SHELL, LISTED)
    for _ in range(
        10
    ):  # the design's own script says at the second time that its roles are there: it runs all the same
        again = stack.on_server("docker exec postgres bash /docker-entrypoint-initdb.d/init-databases.sh")
        assert not (stack.ours and again.returncode), again.stdout
        if stack.ground.watch.saw_sample:
            break
    assert stack.ground.watch.saw_sample, "the watch missed the psql of the init script"
    assert not any(result.returncode for result in migrate(stack))
    where = stack.leaks()
    return verdict(True, not where, f"a password in {', '.join(where) or 'none of them'}")


def deploys(stack: Stack) -> Verdict:
    """The API is deployed to staging twice, by each design's own means; both slips mended."""
    stack.serving(CMD_SHELL, LISTED)
    form = "{{.Id}} {{.State.StartedAt}} {{.RestartCount}}"
    before = stack.server.docker("inspect", "-f", form, "postgres")
    with literally(stack):
        if stack.ours:
            fill_in_env_file(stack)
        done = [deploy(stack, version) for version in ("one", "two")]
    after = stack.server.docker("inspect", "-f", form, "postgres")
    words = f"{last(done[-1])}; the database's container is {'the same' if before == after else 'another'}"
    return verdict(not any(result.returncode for result in done), before == after, words)


def fill_in_env_file(stack: Stack) -> None:
    """Fills in the env file of staging, as a person does after the runbook's step 1."""
    folder = stack.server.docker_folder / "pos-staging"
    (folder / ".env").write_text((folder / ".env.example").read_text().replace("change-me", "filled-in"))
    stack.server.give_to_user(folder)


@contextlib.contextmanager
def literally(stack: Stack) -> Iterator[None]:
    """While the design's own stack is in its place, and nothing of the other one's runs."""
    stack.server.docker("rm", "-f", "pos-api-staging", "pos-admin-staging", check=False)
    if stack.ours:
        yield
        return
    stack.ground.images.admin("one")
    folder = stack.server.docker_folder / "pos-staging"
    (folder / "docker-compose.override.yml").unlink(missing_ok=True)  # what ours has pinned
    shutil.copy(LITERAL / "deploy/pos-staging/docker-compose.yml", folder)
    with stack.server.logged_in():
        yield


def deploy(stack: Stack, version: str) -> Result:
    """One version of the API, built and deployed; the registry names it, for the engine may use the last one's name."""
    images, server = stack.ground.images, stack.server
    digest = images.push("kiwari-api", version, tag=version)
    if stack.ours:
        return server.deploy("pos-api-staging", digest, server.commit())
    name = ("--tag", f"{REGISTRY}/kiwari-api:staging", f"{REGISTRY}/kiwari-api:{version}")
    server.docker("--config", images.login, "buildx", "imagetools", "create", *name)
    return stack.on_server("cd docker/pos-staging && docker compose pull && docker compose up -d")


def last(result: Result) -> str:
    """The last line that was said, without the passwords' mark."""
    lines = [line.strip() for line in result.stdout.splitlines() if line.strip()]
    return (lines or ["nothing said"])[-1].replace(MARK, "…")[:200]


def verdict(green: bool, right: bool, seen: str) -> Verdict:
    """What a trial has come to."""
    return Verdict(judged(green, right), seen)


TRIALS: tuple[Trial, ...] = (
    Trial("the database stack comes up", GREEN_RIGHT, RED_RIGHT, comes_up, quick=True),
    Trial("the environments' passwords arrive", GREEN_RIGHT, GREEN_WRONG, passwords),
    Trial('a password with $ " \\ # ` spaces, unicode', GREEN_RIGHT, GREEN_WRONG, odd_passwords, quick=True),
    Trial("a password with '", RED_RIGHT, GREEN_WRONG, quoted_password),
    Trial("a line of the env file is missing", RED_RIGHT, GREEN_WRONG, missing),
    Trial("the env file still says change-me", RED_RIGHT, GREEN_WRONG, not_filled_in),
    Trial("the init script fails", RED_RIGHT, GREEN_WRONG, failed_init),
    Trial("staging's role asks for production's database", GREEN_RIGHT, GREEN_WRONG, other_database),
    Trial("an environment's password is changed", GREEN_RIGHT, RED_RIGHT, changed_password),
    Trial("the superuser's password is changed", GREEN_RIGHT, RED_RIGHT, changed_superuser),
    Trial("migrations of both environments", GREEN_RIGHT, GREEN_RIGHT, migrations),
    Trial("a password in a log, in docker inspect, in arguments", GREEN_RIGHT, GREEN_WRONG, nothing_told),
    Trial("the API is deployed beside it", GREEN_RIGHT, GREEN_RIGHT, deploys),
)


@contextlib.contextmanager
def ground(quick: bool) -> Iterator[Ground]:
    """A server with the stand-ins on its engine, and a person with a clone who may log in to it.

    The quick part migrates nothing, and so does not wait until that tool is compiled.
    """
    with throw_away() as server, Watch(MARK, sample="ON_ERROR_STOP=1").watching() as watch:
        server.docker("network", "rm", "proxy")  # the runbook makes it
        key = server.folder / "keys/person"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        with (server.home / ".ssh/authorized_keys").open("a") as keys:
            keys.write(Path(f"{key}.pub").read_text())
        person = Person(server)
        folder = person.clone / "api/migrations"
        folder.mkdir(parents=True)
        (folder / "1_receipts.up.sql").write_text(TABLE)
        who = ("-c", "user.name=x", "-c", "user.email=x@example.com")
        for words in (("add", "."), (*who, "commit", "-qmx")):
            subprocess.run(["git", "-C", person.clone, *words], check=True)
        stand_ins.postgres(server)
        if not quick:
            stand_ins.migrate(server)
        yield Ground(server, person, Images(server), watch)


def run(quick: bool = False, say: Callable[[str], None] = print) -> bool:
    """Tries both in everything: whether ours is right, and each what is written down here."""
    well = True
    with ground(quick) as place:
        for trial in TRIALS:
            if quick and not trial.quick:
                continue
            ours, literal = (trial.trial(Stack(place, which)) for which in (True, False))
            as_written = (ours.word, literal.word) == (trial.ours, trial.literal) and "WRONG" not in ours.word
            well = well and as_written
            say(f"{'ok' if as_written else 'NOT SO':6} {trial.name}")
            say(f"         ours: {ours.word}: {ours.seen}")
            say(f"         literal: {literal.word}: {literal.seen}")
    return well


if __name__ == "__main__":
    sys.exit(not run("--quick" in sys.argv))
