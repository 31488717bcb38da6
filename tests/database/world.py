"""A server with a PostgreSQL container, in memory: what the database program sees, and what a test asks it afterwards.

A dump of the fake is `PGDMP` and a line of JSON, so that one that was cut off or changed cannot be read.
"""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kiwari_ci.engines.compose.deploy_programs import database
from kiwari_ci.engines.compose.deploy_programs.database import Output, Request

SERVER, STACK, SERVICE = "postgres", "pos-staging", "pos-api-staging"
LIVE = "pos_production"
IMAGE = "ghcr.io/owner/pos/api@sha256:" + "a" * 64
NOON = 1_764_417_600.0  # 2025-11-29 12:00:00 UTC, a Saturday
Tables = dict[str, list[int]]


class Killed(BaseException):
    """The program was killed at this call: nothing of it runs any more."""


class EndedRun:
    """A request that ran to its end while it was started."""

    def __init__(self, code: int) -> None:
        self.code = code

    def poll(self) -> int | None:
        """Its exit code."""
        return self.code


class FakeMachine(database.Machine):
    """Docker, the disk and the clock. `faults` holds what goes wrong, by the name of the call."""

    def __init__(self, world: "World") -> None:
        self.world = world

    def docker(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        source: Path | None = None,
        target: Path | None = None,
        seconds: int = 0,
    ) -> Output:
        """Answer as docker would."""
        return self.world.answer(arguments, stdin or b"", source, target)

    def show(self, command: list[str], seconds: int) -> int | None:
        """Run a job's container."""
        self.world.shown.append(command)
        code: int | None = self.world.fault("job", 0)
        return code

    def script(self, command: list[str], folder: Path, settings: dict[str, str]) -> int:
        """Run the command that copies."""
        self.world.scripts.append((command[-1], settings))
        code: int = self.world.fault("copy", 0)
        return code

    def start(self, arguments: list[str]) -> Any:
        """Carry out a request at once, as the other process would."""
        self.world.started.append(" ".join(arguments))
        if self.world.fault("start", 0):
            return EndedRun(137)
        return EndedRun(self.world.run(*arguments))

    def now(self) -> float:
        """The time, which goes on with each question."""
        self.world.clock += 0.01
        return self.world.clock

    def wait(self, seconds: float) -> None:
        """Let the time pass."""
        self.world.clock += seconds

    def free_bytes(self, folder: Path) -> int:
        """The free space of the folder's disk."""
        free: int = self.world.fault("disk", 10**12)
        return free


class World:
    """The server, and what happens on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = NOON
        self.running = {SERVER}
        self.databases: dict[str, Tables] = {
            "postgres": {},
            LIVE: {"public sales": [1, 2, 3], "public users": [7]},
            "pos_staging": {"public sales": [9]},
        }
        self.containers: dict[str, str] = {}  # of jobs: their states
        self.faults: dict[str, Any] = {}
        self.calls: list[str] = []
        self.before_call: Callable[[str], None] = lambda name: None
        self.shown: list[list[str]] = []
        self.scripts: list[tuple[str, dict[str, str]]] = []
        self.started: list[str] = []
        self.schedule: dict[str, dict[str, Any]] = {
            SERVER: {"backups": {LIVE: {"schedule": "15 3 * * *", "keep": 3}}},
            STACK: {"jobs": {"clean": {"schedule": "0 4 * * *", "service": SERVICE, "command": ["clean", "$$1"]}}},
        }
        for name in (SERVER, STACK):
            (root / name).mkdir()
            (root / name / "docker-compose.yml").write_text("name: x\nx-schedule:\n")
        self.machine = FakeMachine(self)

    # What a test does

    def run(self, *arguments: str) -> int:
        """Carry out a request, as `main` does; the exit code."""
        try:
            return database.perform(self.machine, database.parse_request(arguments))
        except database.Failed as failure:
            database.print_error(failure.message)
            return failure.code

    def request(self, *arguments: str) -> Request:
        """A request that was parsed."""
        return database.parse_request(arguments)

    def fault(self, name: str, usual: Any) -> Any:
        """What a call answers: the usual, unless the test wants something else."""
        return self.faults.get(name, usual)

    def deployed(self) -> None:
        """A deploy has recorded and pinned an image."""
        (self.root / STACK / ".deploys").mkdir(exist_ok=True)
        (self.root / STACK / ".deploys" / SERVICE).write_text(f"{IMAGE} 12 2025-11-29T10:00:00Z 77\n")
        pins = f'services:\n  {SERVICE}: {{image: "{IMAGE}"}}\n'
        (self.root / STACK / "docker-compose.override.yml").write_text(pins)

    # What a test asks

    def dumps(self, name: str = LIVE) -> list[str]:
        """The files in the folder of a database's dumps."""
        folder = self.root / SERVER / "backups" / name
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def lines(self, stack: str = SERVER) -> list[dict[str, Any]]:
        """The lines of a record."""
        return database.read_record(self.root / stack / ".schedule/record")

    # What docker answers

    def answer(self, arguments: tuple[str, ...], stdin: bytes, source: Path | None, target: Path | None) -> Output:
        """Answer one call of docker."""
        name = self.name_of(arguments, stdin)
        self.calls.append(name)
        self.before_call(name)
        if name in self.faults and isinstance(self.faults[name], Output):
            fault: Output = self.faults[name]
            return fault
        output: Output = getattr(self, f"_{name}")(arguments, stdin, source, target)
        return output

    def name_of(self, arguments: tuple[str, ...], stdin: bytes) -> str:
        """A short name of a call."""
        line = " ".join(arguments)
        signs = {
            "inspect": "inspect --type", "config": " config ", "terminate": "pg_terminate_backend",
            "list_contents": "pg_restore --list", "read_whole": "--file=/dev/null", "fill": "exec pg_restore",
            "pg_dump": "exec pg_dump", "drop": "exec dropdb", "df": "df -Pk", "analyze": "ANALYZE",
            "remove": "rm -f", "sql": "exec psql",
        }  # fmt: skip
        name = next(name for name, sign in signs.items() if sign in line)
        if name == "sql":
            statements = {
                "SELECT datname": "databases", "pg_database_size": "size", "pg_class": "tables",
                "CREATE DATABASE": "create", "SELECT oid": "oid",
            }  # fmt: skip
            return next(word for sign, word in statements.items() if sign in stdin.decode())
        return "rename" if name == "terminate" else name

    def _inspect(self, arguments: tuple[str, ...], *_: Any) -> Output:
        states = self.containers | dict.fromkeys(self.running, "running")
        if arguments[-1] not in states:
            return Output(1, "[]", "Error: No such container")
        labels = {"com.docker.compose.oneoff": "True" if arguments[-1] in self.containers else "False"}
        state = {"State": {"Status": states[arguments[-1]]}, "Config": {"Labels": labels}}
        return Output(0, json.dumps([state]), "")

    def _config(self, arguments: tuple[str, ...], *_: Any) -> Output:
        stack = arguments[arguments.index("-p") + 1]
        services = {SERVER: {"container_name": SERVER}} if stack == SERVER else {SERVICE: {}}
        return Output(0, json.dumps({"services": services, "x-schedule": self.schedule[stack]}), "")

    def _databases(self, *_: Any) -> Output:
        return Output(0, "\n".join(self.databases) + "\n", "")

    def _size(self, *_: Any) -> Output:
        return Output(0, "8000000\n", "")

    def _oid(self, *_: Any) -> Output:
        return Output(0, "16384\n", "")

    def _tables(self, arguments: tuple[str, ...], *_: Any) -> Output:
        return Output(0, "\n".join(self.databases[self._after("-d", arguments)]), "")

    def _create(self, arguments: tuple[str, ...], *_: Any) -> Output:
        names = dict(word.split("=", 1) for word in arguments if re.match("(new|old)=", word))
        assert names["old"] in self.databases
        self.databases[names["new"]] = {}
        return Output(0, "", "")

    def _pg_dump(self, arguments: tuple[str, ...], stdin: bytes, source: Path | None, target: Path | None) -> Output:
        assert target is not None
        tables = json.dumps(self.databases[self._after("-d", arguments)])
        text = f"PGDMP{tables}{hashlib.sha256(tables.encode()).hexdigest()}".encode()
        with database.new_file(target) as stream:
            stream.write(text if "pg_dump half" not in self.faults else text[:20])
        if "pg_dump code" in self.faults:
            return Output(1, "", "pg_dump: error: query failed: FATAL: terminating connection\n")
        return Output(0, "", "")

    def _read(self, source: Path | None) -> Tables | None:
        assert source is not None
        tables, checksum = source.read_text()[5:-64], source.read_text()[-64:]
        if hashlib.sha256(tables.encode()).hexdigest() != checksum:
            return None
        content: Tables = json.loads(tables)
        return content

    def _list_contents(self, arguments: tuple[str, ...], stdin: bytes, source: Path | None, *_: Any) -> Output:
        assert source is not None
        names = re.findall(r'"(\w+ \w+)": \[', source.read_text())
        return Output(0, "".join(f"2{n}; 1259 16385 TABLE {name} pos\n" for n, name in enumerate(names)), "")

    def _read_whole(self, arguments: tuple[str, ...], stdin: bytes, source: Path | None, *_: Any) -> Output:
        damaged = self._read(source) is None
        return Output(int(damaged), "", "pg_restore: error: could not read from input file: end of file\n" * damaged)

    def _fill(self, arguments: tuple[str, ...], stdin: bytes, source: Path | None, *_: Any) -> Output:
        content = self._read(source)
        assert content is not None
        self.databases[self._after("-d", arguments)] = content
        return Output(0, "", "")

    def _analyze(self, *_: Any) -> Output:
        return Output(0, "", "")

    def _df(self, *_: Any) -> Output:
        free = self.fault("data disk", 10**9)
        return Output(0, f"Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/a 9 9 {free} 1% /data\n", "")

    def _drop(self, arguments: tuple[str, ...], *_: Any) -> Output:
        self.databases.pop(arguments[-1], None)
        return Output(0, "", "")

    def _rename(self, arguments: tuple[str, ...], *_: Any) -> Output:
        old, new, kept_name, _oid = arguments[-4:]
        self.databases[kept_name] = self.databases.pop(old)
        self.databases[old] = self.databases.pop(new)
        return Output(0, "", "")

    def _remove(self, arguments: tuple[str, ...], *_: Any) -> Output:
        self.containers.pop(arguments[-1], None)
        return Output(0, "", "")

    @staticmethod
    def _after(option: str, arguments: tuple[str, ...]) -> str:
        return arguments[arguments.index(option) + 1]
