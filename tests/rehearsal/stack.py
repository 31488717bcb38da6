"""One design's database on the server: its files, its env file, what a person types there, and what is then so."""

import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.engine.images import Images
from tests.engine.person import BLOCK, Person
from tests.engine.server import USER, Result, Server, eventually, generated
from tests.rehearsal.watch import Watch

LITERAL = Path(__file__).parent / "literal"
MARK = f"hush{secrets.token_hex(4)}"  # stands in every password: wherever it turns up, one has leaked
KEYS = ("POSTGRES_PASSWORD", "POS_STG_PASSWORD", "POS_PROD_PASSWORD")
GOOD = {"POSTGRES_USER": "postgres"} | {key: f"{MARK}{secrets.token_hex(16)}" for key in KEYS}
DATABASES = {"pos_stg": "pos_staging", "pos_prod": "pos_production", "postgres": "postgres"}  # of each role, its own
KEY_OF = {"pos_stg": "POS_STG_PASSWORD", "pos_prod": "POS_PROD_PASSWORD", "postgres": "POSTGRES_PASSWORD"}
TOLD = (".State", ".Args", ".Config.Cmd", ".Config.Labels", ".Config.Healthcheck", ".HostConfig", ".Mounts")

# The smallest cures of the design's compose file, each for one slip, so that the next can be seen.
CMD_SHELL = ('"CMD-ONLY", "pg_isready", "-U", "${POSTGRES_USER}"', '"CMD-SHELL", "pg_isready -U ${POSTGRES_USER}"')
LISTED = (
    "POSTGRES_PASSWORD: ${POSTGRES_PASSWORD}\n",
    "".join(f"{key}: ${{{key}}}\n      " for key in KEYS).rstrip(" "),
)


@dataclass(frozen=True)
class Ground:
    """Where the trials take place."""

    server: Server
    person: Person
    images: Images
    watch: Watch


class Stack:
    """The generated database stack, or the design's, in its place on the server."""

    def __init__(self, ground: Ground, ours: bool) -> None:
        self.server, self.person, self.ours, self.ground = ground.server, ground.person, ours, ground
        self.folder = ground.server.docker_folder / "postgres"

    def fresh(self, *mends: tuple[str, str], without: str = "", **values: str) -> None:
        """No database yet; the files and an env file with these values are there, the design's with these mends."""
        self.server.docker("rm", "-fv", "postgres", check=False)
        self.server.docker("volume", "rm", "-f", "postgres_pgdata")
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.ours:
            done = self.types(section("1. Files on the server")[0] + section("2. Env files")[0].splitlines()[0])
            assert done.returncode == 0, done.stdout
        else:
            self.copy_literal(mends)
        self.write_env(without, **values)

    def copy_literal(self, mends: tuple[tuple[str, str], ...]) -> None:
        """The design's files, placed by hand."""
        shutil.copytree(LITERAL / "deploy/postgres", self.folder)
        compose = self.folder / "docker-compose.yml"
        for old, new in mends:
            assert old in compose.read_text(), old
            compose.write_text(compose.read_text().replace(old, new))

    def write_env(self, without: str = "", **values: str) -> None:
        """Edits the env file: ours keeps what its example shows, the design shows nothing."""
        wanted = GOOD | values
        if self.ours:
            lines = (self.folder / ".env").read_text().splitlines()
            keys = [line.partition("=")[0] for line in lines]
            lines = [f"{key}='{wanted[key]}'" if key in wanted else line for key, line in zip(keys, lines, strict=True)]
        else:
            lines = [f"{key}={value}" for key, value in wanted.items()]
        lines_of_others = [line for line in lines if not without or not line.startswith(without)]
        (self.folder / ".env").write_text("\n".join([*lines_of_others, ""]))
        subprocess.run(["chown", "-R", "--reference", self.server.home, self.folder], check=True)

    def types(self, commands: str) -> Result:
        """Types into the person's shell, in the clone; all that is said comes together."""
        commands = commands.replace("VPS=USER@ADDRESS", f"VPS={USER}@127.0.0.1")
        return self.person.types(f"exec 2>&1\nset -e\n{commands}")

    def on_server(self, commands: str) -> Result:
        """Types into a shell on the server; all that is said comes together."""
        return self.server.by_hand(f"exec 2>&1\nset -e\n{commands}")

    def up(self) -> Result:
        """Starts the stack: ours as the runbook has it, the design's as compose is used."""
        return self.types(section("6. Network and PostgreSQL")[0]) if self.ours else self.up_on_server()

    def up_on_server(self) -> Result:
        """The same command for both, for a person who is there already."""
        return self.on_server("cd docker/postgres && docker compose up -d --wait")

    def serving(self, *mends: tuple[str, str]) -> None:
        """A database in order, for what comes after."""
        self.fresh(*mends)
        done = self.up()
        assert done.returncode == 0, done.stdout
        self.listens()

    def listens(self) -> None:
        """Waits until the design's server answers others: its health test asks the socket, which answers before."""
        if not self.ours:
            eventually(lambda: self.gets_in("postgres", GOOD["POSTGRES_PASSWORD"]), 60, "the server listens")

    def health(self) -> str:
        """What Docker says of the container."""
        form = "{{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}"
        return self.server.docker("inspect", "-f", form, "postgres", check=False) or "no container"

    def login(self, role: str, database: str, password: str) -> str:
        """Who the database says we are, asked from another container: `role@database`, or the refusal."""
        if "client" not in self.server.containers():
            words = ("run", "-d", "--name", "client", "--network", "proxy", "--entrypoint", "sleep")
            self.server.docker(*words, "postgres:16-alpine", "infinity")
        psql = ("psql", "-XqAtw", "-h", "postgres", "-U", role, "-d", database)
        question = "SELECT current_user || '@' || current_database()"
        ask = ("docker", "exec", "-e", "PGPASSWORD", "client", *psql, "-c", question)
        done = self.server.run(*ask, check=False, env={"PGPASSWORD": password})
        return done.stdout.strip() or done.stderr.strip().rpartition("FATAL:  ")[2].partition("\n")[0]

    def gets_in(self, role: str, password: str) -> bool:
        """Whether the role gets into its own database with that password."""
        return self.login(role, DATABASES[role], password) == f"{role}@{DATABASES[role]}"

    def locked_out(self, **values: str) -> list[str]:
        """The roles that do not get in with the password that the env file was meant to hold."""
        wanted = GOOD | values
        return [role for role, key in KEY_OF.items() if not self.gets_in(role, wanted[key])]

    def sql(self, question: str, database: str) -> str:
        """The superuser's answer, over the socket."""
        words = ("psql", "-XqAt", "-U", "postgres", "-d", database, "-c", question)
        return self.server.docker("exec", "postgres", *words)

    def leaks(self) -> list[str]:
        """Where a password stands that it should not: the container's log, what Docker tells but its environment."""
        description = self.server.docker("inspect", "-f", "".join(f"{{{{json {part}}}}}" for part in TOLD), "postgres")
        places = {"docker logs": self.on_server("docker logs postgres").stdout, "docker inspect": description}
        places |= {f"arguments of {program}": MARK for program in sorted(self.ground.watch.leaks)}
        return [place for place, text in places.items() if MARK in text]


def section(title: str) -> list[str]:
    """The commands of one of the runbook's sections, block by block."""
    text = generated("deploy/RUNBOOK.md").read_text().partition(f"### {title}\n")[2].partition("\n### ")[0]
    assert text, f"the runbook has no section {title}"
    return BLOCK.findall(text)
