#!/usr/bin/python3 -I
"""The kiwari-ci database program: it backs up and restores databases, and runs scheduled jobs.

It works on the server, beside bin/deploy. A person types, or a timer calls:

    database backup SERVER [DATABASE]          dump the databases of that PostgreSQL server
    database restore SERVER DATABASE [FILE]    bring back a dump; without FILE, or with "latest",
                                               the newest good one
    database swap SERVER DATABASE KEPT         go back to the database that a restore kept
    database set-password SERVER ROLE          change the password of a role; the first line of
                                               standard input is the old one, the second the new
    database status [STACK]                    print what is backed up, what ran, and what is amiss
    database run STACK JOB                     run a job of the stack now
    database due                               run what is due by now; the timer calls this
    database timer                             print the commands that install the timer

SERVER and STACK are folders beside bin/ that have a docker-compose.yml. Its part x-schedule says
what is backed up, and what runs when:

    x-schedule:
      backups:
        DATABASE: {schedule: "15 3 * * *", timezone: Asia/Jakarta, keep: 14,
                   copy-folder: /srv/nas, copy-command: "..."}
      jobs:
        JOB: {schedule: "0 4 * * 0", service: shop-api, command: [python, clean.py]}

Files that this program writes:

    SERVER/backups/DATABASE/TIME.dump    a dump in PostgreSQL's custom format, readable by this user
    STACK/.schedule/record               a line of JSON for each run: when, how long, what came out

A dump counts only when it is complete: the server has read it from its first to its last byte, and
it has every table that the database had. Until then it has another name, and no older dump is
removed.

A restore never overwrites. It fills a new database, looks at it, and then renames both in one
transaction. The old database stays on the server, under a name with the time, until a person drops
it.

The programs of PostgreSQL run inside the server's container, as its superuser, over its socket. So
no password is needed. `set-password` alone reads passwords, from bin/deploy. It sends the server no
password but its verifier, which is what PostgreSQL stores: no argument, log or query has a password.

Exit codes: 0 all is well, 1 something failed or is missed, 64 the request is refused, 69 the server
is not ready, 75 another backup or restore holds the lock.

This file is the same in every repository: `sha256sum bin/database` shows whether it was changed.
"""

import sys

if sys.version_info < (3, 8):
    sys.exit(
        "database: Python 3.8 or newer is needed, and this server has %d.%d" % sys.version_info[:2]
    )

import base64
import calendar
import contextlib
import dataclasses
import fcntl
import hashlib
import hmac
import io
import json
import os
import pwd
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import IO, Any, Dict, FrozenSet, Iterator, List, Optional, Sequence, Set, TextIO, Tuple

VERSION = "1.0"

OK, FAILED = 0, 1
BAD_REQUEST, NOT_READY, LOCKED = 64, 69, 75

ROOT = Path(__file__).resolve().parent.parent
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ZONES = Path("/usr/share/zoneinfo")

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
DATABASE = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}"
ROLE = r"[A-Za-z_][A-Za-z0-9_]{0,62}"
REQUESTS = [
    re.compile(
        rf"(?P<verb>backup) (?P<stack>{NAME})"
        rf"(?: (?P<database>{DATABASE})(?: (?P<reason>scheduled|before-migration))?)?"
    ),
    re.compile(
        rf"(?P<verb>restore) (?P<stack>{NAME}) (?P<database>{DATABASE})(?: (?P<dump>\S.*))?"
    ),
    re.compile(rf"(?P<verb>swap) (?P<stack>{NAME}) (?P<database>{DATABASE}) (?P<kept>{DATABASE})"),
    re.compile(rf"(?P<verb>set-password) (?P<stack>{NAME}) (?P<role>{ROLE})"),
    re.compile(rf"(?P<verb>run) (?P<stack>{NAME}) (?P<job>{NAME})(?: (?P<reason>scheduled))?"),
    re.compile(rf"(?P<verb>status)(?: (?P<stack>{NAME}))?"),
    re.compile(r"(?P<verb>due|timer)"),
]

COMPOSE_FILE = "docker-compose.yml"
PINS_FILE = "docker-compose.override.yml"
SCHEDULE_KEY = "x-schedule"
ENV_FILE_LINE = re.compile(r"^ +env_file: \"?([^\s\"]+)\"?$", re.MULTILINE)
TIME_FORMAT = "%Y%m%dT%H%M%SZ"
# The reason is in a dump's name, because each reason has dumps of its own to keep: twenty deploys
# of a day must not push out the dumps of the nights.
DUMP_NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z(?:-(?P<reason>before-migration|scheduled))?\.dump")
FIRST_BYTES_OF_A_DUMP = b"PGDMP"
LONGEST_DATABASE_NAME = 63  # PostgreSQL cuts off what is longer

# Time limits, in seconds.
QUERY_SECONDS = 60  # a command that only reads
STATEMENT_SECONDS = 30  # a statement that changes a role; less than QUERY_SECONDS
DUMP_SECONDS = 6 * 3600  # a dump, a restore, a copy, or a job
LOCK_SECONDS = 600  # a request waits for the backup or restore before it
SCHEDULED_LOCK_SECONDS = 6 * 3600  # the same for a scheduled backup, which nobody waits for
TABLE_LOCK = "600s"  # pg_dump waits for a table that a migration changes

LATE_SECONDS = 1800  # a run may end that long after its time, before it counts as missed
SILENT_SECONDS = 600  # the timer calls each minute

DEFAULT_KEEP = 14
RESERVED_BYTES = 500_000_000  # of free space that a backup leaves for the others
RECORD_BYTES, RECORDED_RUNS = 1_000_000, 400  # a longer record is cut to that many runs of a job
MOST_LINES_SHOWN, MOST_LETTERS_SHOWN = 10_000, 2_000  # of the output of other programs

COMPOSE = ("compose", "--env-file", "/dev/null")
# Traefik finds containers by labels, and would send requests to a job's container.
NOT_FOR_TRAEFIK = ("-l", "traefik.enable=false")

Json = Dict[str, Any]


class Failed(Exception):
    """The request has failed: the exit code, and a sentence that says why and what to do."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclasses.dataclass(frozen=True)
class Request:
    """A request that was parsed."""

    verb: str
    stack: str = ""
    database: str = ""
    dump: str = ""
    kept: str = ""
    role: str = ""
    job: str = ""
    reason: str = ""  # scheduled or before-migration; empty if a person asks

    @property
    def lock_seconds(self) -> int:
        """How long it waits for another backup or restore."""
        return SCHEDULED_LOCK_SECONDS if self.reason == "scheduled" else LOCK_SECONDS


@dataclasses.dataclass(frozen=True)
class Output:
    """The exit code of a command, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        """The last line that it printed as an error, to quote it in a message."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        errors = [line for line in lines if re.search(r"\b(error|ERROR|FATAL):", line)]
        return printable((errors or lines)[-1]) if lines else f"exit code {self.code}"


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A cron line: the minutes at which something is due, in a time zone."""

    text: str
    minutes: FrozenSet[int]
    hours: FrozenSet[int]
    days: FrozenSet[int]
    months: FrozenSet[int]
    weekdays: FrozenSet[int]  # 0 is Sunday
    is_any_day: bool  # the field of the days begins with *
    is_any_weekday: bool
    zone: str

    def has_day(self, day: datetime) -> bool:
        """Whether it is due on that day; as in cron, one of the two fields of days is enough."""
        is_day = day.day in self.days
        is_weekday = day.isoweekday() % 7 in self.weekdays
        if day.month not in self.months:
            return False
        if self.is_any_day or self.is_any_weekday:
            return is_day and is_weekday
        return is_day or is_weekday


@dataclasses.dataclass(frozen=True)
class Job:
    """Something that runs on a schedule: a backup of a database, or a command in a service."""

    stack: str
    kind: str  # backup or job
    name: str  # of the database, or of the job
    schedule: Optional[Schedule]
    service: str = ""
    command: Tuple[str, ...] = ()
    keep: int = DEFAULT_KEEP
    copy_folder: str = ""
    copy_command: str = ""

    @property
    def title(self) -> str:
        """Its name in the record and in messages."""
        return f"{self.kind} {self.name}"

    @property
    def words(self) -> List[str]:
        """The request that runs it."""
        if self.kind == "backup":
            return ["backup", self.stack, self.name, "scheduled"]
        return ["run", self.stack, self.name, "scheduled"]


@dataclasses.dataclass(frozen=True)
class Dump:
    """A complete dump: its file, and what the record says of it."""

    path: Path
    size: int
    sha256: str
    tables: int
    database_bytes: int


def main() -> int:
    """Handle one request; the exit code."""
    take_over_environment()
    request = parse_request(sys.argv[1:])
    return perform(Machine(), request)


def perform(machine: "Machine", request: Request) -> int:
    """Carry out a request."""
    if request.verb == "timer":
        print(timer_commands())
        return OK
    if request.verb == "status":
        return print_status(machine, request.stack)
    if request.verb == "due":
        return run_due(machine)
    stack = open_stack(machine, request.stack)
    if request.verb == "run":
        return run_job(stack, request)
    if request.verb == "set-password":
        # Without the lock: a backup or a restore may take hours, and changes no role.
        return set_password(stack, request, read_passwords(sys.stdin.buffer))
    with stack.locked(request):
        if request.verb == "backup":
            return back_up(stack, request)
        if request.verb == "restore":
            return restore(stack, request)
        return swap(stack, request)


def back_up(stack: "Stack", request: Request) -> int:
    """Dump databases, one after the other; when one fails, the next ones are dumped all the same."""
    jobs = backups_of_request(stack, request)
    failures = [job.name for job in jobs if not is_backed_up(stack, job, request)]
    if failures:
        print_error(f"NOT BACKED UP: {', '.join(failures)}. The reason stands above")
        return FAILED
    return OK


def is_backed_up(stack: "Stack", job: Job, request: Request) -> bool:
    """Dump one database, copy the dump, and write down what came out."""
    began = stack.machine.now()
    line: Json = {"reason": request.reason or "by hand", "result": "failed"}
    try:
        dump = write_dump(open_server(stack), job.name, request.reason)
        line.update(
            file=dump.path.name,
            bytes=dump.size,
            sha256=dump.sha256,
            tables=dump.tables,
            database_bytes=dump.database_bytes,
        )
        # The dump is on this server now, whatever happens to its copy.
        line["result"] = "done"
        line["copy"] = copy_dump(stack, job, dump)
        remove_old_dumps(stack.dumps(job.name), request.reason, job.keep)
        progress(f"{job.name} is backed up: {dump.path}, {megabytes(dump.size)}")
        return True
    except Failed as failure:
        line["message"] = failure.message
        line.setdefault("copy", "failed" if line["result"] == "done" else "")
        print_error(failure.message)
        return False
    except OSError as error:
        line["message"] = os_error_text(error)
        print_error(line["message"])
        return False
    finally:
        line.setdefault("message", "")
        stack.add_record(job.title, began, **line)


def restore(stack: "Stack", request: Request) -> int:
    """Fill a new database from a dump, look at it, and let it take the place of the old one."""
    server = open_server(stack)
    began = stack.machine.now()
    database = request.database
    if not server.has_database(database):
        raise Failed(
            BAD_REQUEST,
            f"there is no database {database} on {stack.name}. Create it with its role first,"
            " empty: the runbook has the command",
        )
    path = dump_to_restore(stack, request)
    progress(f"reading {path} from its first to its last byte")
    tables = check_dump(server, path)
    refuse_if_data_disk_is_small(server, path, database)
    remove_unfinished_restores(server, database)
    new = free_name(server, database, "restoring")
    progress(f"filling {new}; {database} serves meanwhile")
    server.create_like(new, database)
    try:
        server.fill(new, path)
        refuse_missing_tables(new, tables, server.tables(new))
        server.analyze(new)
        earlier_name = free_name(server, database, "before")
        exchange(server, database, new, earlier_name)
    except BaseException:
        with contextlib.suppress(Failed):
            server.drop(new)
        raise
    stack.add_record(f"restore {database}", began, result="done", file=str(path), kept=earlier_name)
    progress(f"{database} is now what {path.name} holds: {len(tables)} tables")
    print_way_back(stack, database, earlier_name)
    return OK


def swap(stack: "Stack", request: Request) -> int:
    """Let a database that a restore kept take its old place again."""
    server = open_server(stack)
    began = stack.machine.now()
    for name in (request.database, request.kept):
        if not server.has_database(name):
            raise Failed(BAD_REQUEST, f"there is no database {name} on {stack.name}")
    if not is_timed_name(request.kept, request.database):
        raise Failed(
            BAD_REQUEST, f"{request.kept} is not a copy that a restore of {request.database} kept"
        )
    earlier_name = free_name(server, request.database, "before")
    exchange(server, request.database, request.kept, earlier_name)
    stack.add_record(
        f"restore {request.database}", began, result="done", file="", kept=earlier_name
    )
    progress(f"{request.database} is now what {request.kept} was")
    print_way_back(stack, request.database, earlier_name)
    return OK


def set_password(stack: "Stack", request: Request, passwords: Tuple[str, str]) -> int:
    """Change the password of a role from the old to the new one.

    Nothing happens if the role has the new one already, so that an interrupted caller may repeat
    its request. If it has neither, somebody else has changed it, and nothing is overwritten.
    """
    server = open_server(stack)
    began = stack.machine.now()
    old, new = passwords
    verifier = server.verifier(request.role)
    if is_verified(verifier, request.role, new):
        return OK
    if not is_verified(verifier, request.role, old):
        raise Failed(
            NOT_READY,
            f"{stack.name}/.env does not have the password that the role {request.role} has now."
            " Nothing was changed",
        )
    server.set_verifier(request.role, make_verifier(verifier, request.role, new))
    try:
        stack.add_record(f"password {request.role}", began, result="done")
    except (Failed, OSError) as error:
        # The role has the new password all the same, and the caller must know that.
        progress(f"note: the record of {stack.name} has no line of this: {error}")
    progress(f"the role {request.role} of {stack.name} has another password")
    return OK


# 1. Parse: a request is one line in a fixed grammar.


def take_over_environment() -> None:
    """Replace the environment: variables such as COMPOSE_FILE would lead Compose elsewhere."""
    home = pwd.getpwuid(os.geteuid()).pw_dir
    os.environ.clear()
    os.environ.update(HOME=home, PATH=PATH, LC_ALL="C", DOCKER_CONTEXT="default")
    os.umask(0o077)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end_on_signal)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def end_on_signal(number: int, frame: object) -> None:
    """End on a signal as after a failure, so that nothing half-written stays."""
    raise Failed(FAILED, "it was ended by a signal")


def parse_request(words: Sequence[str]) -> Request:
    """Parse a request, and refuse one that is malformed."""
    line = " ".join(words)
    match = next(filter(None, (grammar.fullmatch(line) for grammar in REQUESTS)), None)
    if not match:
        raise Failed(BAD_REQUEST, "unknown request: the top of bin/database lists the requests")
    return Request(**{key: text for key, text in match.groupdict().items() if text})


def open_stack(machine: "Machine", name: str) -> "Stack":
    """The stack of that name; its folder must exist, and belong to the user who runs this."""
    folder = ROOT / name
    if not (folder / COMPOSE_FILE).is_file():
        raise Failed(BAD_REQUEST, f"there is no stack '{name}' on this server, in {ROOT}")
    owner = folder.stat().st_uid
    if owner != os.geteuid():
        # For example root: it would leave files that the owner cannot replace later.
        login = name_of_user(owner)
        command = shlex.join(sys.argv)
        raise Failed(NOT_READY, f"{folder} belongs to {login}. Type: sudo -u {login} {command}")
    return Stack(machine, folder)


def open_server(stack: "Stack") -> "Server":
    """The PostgreSQL server of a stack; its container must run."""
    service = stack.model["services"].get(stack.name)
    if not service:
        raise Failed(BAD_REQUEST, f"{stack.name} is not the stack of a PostgreSQL server")
    container = str(service.get("container_name") or stack.name)
    output = stack.machine.docker("inspect", "--type", "container", container)
    running = output.code == 0 and json.loads(output.out)[0]["State"]["Status"] == "running"
    if not running:
        raise Failed(
            NOT_READY,
            f"the container {container} does not run. Start it: cd {stack.folder} &&"
            " docker compose up -d",
        )
    return Server(stack, container)


def backups_of_request(stack: "Stack", request: Request) -> List[Job]:
    """What a request backs up: one database, or all that the compose file names."""
    backups = [job for job in stack.jobs() if job.kind == "backup"]
    if not request.database:
        if not backups:
            raise Failed(
                BAD_REQUEST,
                f"{COMPOSE_FILE} of {stack.name} names no database to back up. Name one:"
                f" database backup {stack.name} DATABASE",
            )
        return backups
    matching = [job for job in backups if job.name == request.database]
    return matching or [Job(stack.name, "backup", request.database, None)]


# 2. Lock and record. The kernel holds a lock until this program has ended.


@contextlib.contextmanager
def lock(path: Path, seconds: float, machine: "Machine", refusal: str) -> Iterator[None]:
    """Hold the lock of a file, or fail with a sentence when another holds it for so long."""
    make_private_folder(path.parent)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    end = machine.now() + seconds
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if machine.now() >= end:
                    raise Failed(LOCKED, refusal) from None
                machine.wait(1)
        yield
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file."""
    if not path.exists():
        return False
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(handle)


def read_record(path: Path) -> List[Json]:
    """The lines of a record; a power cut can leave a line that is incomplete."""
    lines = []
    with contextlib.suppress(FileNotFoundError):
        for text in path.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                line = json.loads(text)
                if isinstance(line, dict) and "job" in line and "time" in line:
                    lines.append(line)
    return lines


def append_line(path: Path, line: Json) -> None:
    """Append a line of JSON, and write it through to the disk."""
    with path.open("a+b") as stream:
        is_torn = stream.tell() > 0 and last_byte(stream) != b"\n"
        text = ("\n" if is_torn else "") + json.dumps(line, sort_keys=True) + "\n"
        stream.write(text.encode())
        sync(stream)


def last_byte(stream: IO[bytes]) -> bytes:
    """The last byte of a file."""
    stream.seek(-1, os.SEEK_END)
    return stream.read(1)


def shorten_record(path: Path) -> None:
    """Cut a long record to the newest runs of each job."""
    if not path.exists() or path.stat().st_size <= RECORD_BYTES:
        return
    counts: Dict[str, int] = {}
    lines = []
    for line in reversed(read_record(path)):
        counts[line["job"]] = counts.get(line["job"], 0) + 1
        if counts[line["job"]] <= RECORDED_RUNS:
            lines.append(line)
    text = "".join(json.dumps(line, sort_keys=True) + "\n" for line in reversed(lines))
    write_file(path, text.encode())


# 3. Dump: into a file under another name, which gets its own only when it is complete.


def write_dump(server: "Server", database: str, reason: str) -> Dump:
    """Dump a database into a new file, and let the server read the whole of it again."""
    folder = server.stack.dumps(database)
    make_private_folder(folder)
    remove_unfinished_dumps(folder)
    if not server.has_database(database):
        raise Failed(NOT_READY, f"there is no database {database} on {server.stack.name}")
    database_bytes = server.size(database)
    refuse_if_disk_is_small(server, database, database_bytes)
    path = free_dump_path(server.stack.machine, folder, reason)
    unfinished = folder / f".{path.name}.part"
    progress(f"dumping {database}, which has {megabytes(database_bytes)} on the server")
    try:
        tables_before = server.tables(database)
        server.dump(database, unfinished)
        # A table that was created or dropped meanwhile may be in the dump or not.
        expected = tables_before & server.tables(database)
        tables = check_dump(server, unfinished)
        refuse_missing_tables(path.name, expected, tables)
        checksum = checksum_of(unfinished)
        os.replace(unfinished, path)
        sync_folder(folder)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise
    return Dump(path, path.stat().st_size, checksum, len(tables), database_bytes)


def free_dump_path(machine: "Machine", folder: Path, reason: str) -> Path:
    """The path of a new dump; its name has the time, to the second."""
    while True:
        stamp = f"{utc(machine.now()):{TIME_FORMAT}}"
        path = folder / f"{stamp}{'-' if reason else ''}{reason}.dump"
        if not path.exists():
            return path
        machine.wait(1)


def check_dump(server: "Server", path: Path) -> Set[str]:
    """Refuse a dump that is damaged; the tables that are in it.

    The list of contents is at the beginning, so it says nothing of the rest. Therefore the server
    also reads all data, and writes it nowhere.
    """
    with path.open("rb") as stream:
        first = stream.read(len(FIRST_BYTES_OF_A_DUMP))
    if first != FIRST_BYTES_OF_A_DUMP:
        raise Failed(FAILED, f"{path} is not a dump of pg_dump, or it is empty")
    contents = server.list_contents(path)
    server.read_whole(path)
    return contents


def refuse_missing_tables(place: str, expected: Set[str], tables: Set[str]) -> None:
    """Every expected table must be there."""
    missing = sorted(expected - tables)
    if missing:
        names = ", ".join(table.replace(" ", ".", 1) for table in missing[:10])
        raise Failed(FAILED, f"{place} lacks {len(missing)} of {len(expected)} tables: {names}")


def refuse_if_disk_is_small(server: "Server", database: str, database_bytes: int) -> None:
    """There must be room for a dump as large as the newest one, and some more.

    Before the first dump its size is unknown; it is hardly ever larger than the database.
    """
    stack = server.stack
    sizes = [line["bytes"] for line in stack.good_dumps(database)]
    needed_bytes = (sizes[-1] * 5 // 4 if sizes else database_bytes) + RESERVED_BYTES
    free = stack.machine.free_bytes(stack.dumps(database))
    if free < needed_bytes:
        raise Failed(
            NOT_READY,
            f"the disk of {stack.dumps(database)} has {megabytes(free)} free, and a dump of"
            f" {database} needs {megabytes(needed_bytes)}. No dump was removed to make room",
        )


def remove_unfinished_dumps(folder: Path) -> None:
    """Remove what a backup left that was killed; the lock says that none is running."""
    for path in folder.glob(".*.part"):
        path.unlink()


def remove_old_dumps(folder: Path, reason: str, keep: int) -> None:
    """Remove the oldest dumps of the same reason; files with other names are not touched."""
    dumps = [path for path in sorted(folder.iterdir()) if is_dump_of(path, reason)]
    for path in dumps[: max(0, len(dumps) - keep)]:
        path.unlink()


def is_dump_of(path: Path, reason: str) -> bool:
    """Whether a file is a dump that was made for that reason, by its name."""
    match = DUMP_NAME.fullmatch(path.name)
    return match is not None and (match["reason"] or "") == reason and not path.is_symlink()


# 4. Copy: to a folder, or by a command of the user's.


def copy_dump(stack: "Stack", job: Job, dump: Dump) -> str:
    """Copy a dump away; what to write into the record."""
    if job.copy_folder:
        copy_to_folder(stack, job, dump)
    if job.copy_command:
        copy_by_command(stack, job, dump)
    return "done" if job.copy_folder or job.copy_command else "none"


def copy_to_folder(stack: "Stack", job: Job, dump: Dump) -> None:
    """Copy a dump to a folder of the same form, read it again, and remove old ones there."""
    folder = Path(job.copy_folder).expanduser()
    if not folder.is_dir():
        # Perhaps its disk is not mounted. To create it would fill the wrong disk, unseen.
        raise Failed(FAILED, f"NOT COPIED: the folder {folder} does not exist. Is it mounted?")
    target = folder / stack.name / job.name / dump.path.name
    unfinished = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished_dumps(target.parent)
        with dump.path.open("rb") as source, unfinished.open("wb") as stream:
            shutil.copyfileobj(source, stream, 1024 * 1024)
            sync(stream)
        if checksum_of(unfinished) != dump.sha256:
            raise Failed(FAILED, f"NOT COPIED: {unfinished} reads back as something else")
        os.replace(unfinished, target)
        sync_folder(target.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise Failed(FAILED, f"NOT COPIED: {os_error_text(error)}") from error
    match = DUMP_NAME.fullmatch(target.name)
    remove_old_dumps(target.parent, (match and match["reason"]) or "", job.keep)
    progress(f"copied to {target}")


def copy_by_command(stack: "Stack", job: Job, dump: Dump) -> None:
    """Run the user's command; it finds the dump in its environment."""
    settings = {
        "BACKUP_FILE": str(dump.path),
        "BACKUP_NAME": f"{stack.name}/{job.name}/{dump.path.name}",
        "BACKUP_SERVER": stack.name,
        "BACKUP_DATABASE": job.name,
        "BACKUP_SHA256": dump.sha256,
    }
    progress(f"copying by the command: {job.copy_command}")
    code = stack.machine.script(["bash", "-c", job.copy_command], stack.folder, settings)
    if code != 0:
        raise Failed(FAILED, f"NOT COPIED: the command ended with exit code {code}")


# 5. Restore: beside the database, then both are renamed at once.


def dump_to_restore(stack: "Stack", request: Request) -> Path:
    """The dump that a request names; one that the record knows must have the recorded bytes."""
    if request.dump in ("", "latest"):
        names = [line["file"] for line in stack.good_dumps(request.database)]
        if not names:
            raise Failed(BAD_REQUEST, f"there is no good dump of {request.database}")
        path = stack.dumps(request.database) / str(names[-1])
    else:
        path = Path(request.dump)
        if path.name == request.dump:
            path = stack.dumps(request.database) / request.dump
    if not path.is_file():
        raise Failed(BAD_REQUEST, f"there is no file {path}")
    for line in stack.good_dumps(request.database):
        if line["file"] == path.name and line["sha256"] != checksum_of(path):
            raise Failed(
                FAILED,
                f"{path} is not what the record says: it was changed or damaged. Nothing was"
                " changed. Name another file",
            )
    return path


def refuse_if_data_disk_is_small(server: "Server", path: Path, database: str) -> None:
    """The server's disk must have room for the database a second time."""
    sizes = [
        line["database_bytes"]
        for line in server.stack.good_dumps(database)
        if line["file"] == path.name
    ]
    needed_bytes = (sizes[-1] if sizes else path.stat().st_size * 5) + RESERVED_BYTES
    free = server.free_bytes()
    if free < needed_bytes:
        raise Failed(
            NOT_READY,
            f"the disk of {server.stack.name} has {megabytes(free)} free, and {database} needs"
            f" {megabytes(needed_bytes)} beside the old one. Nothing was changed",
        )


def remove_unfinished_restores(server: "Server", database: str) -> None:
    """Drop what a restore left that was killed; the lock says that none is running."""
    for name in server.databases():
        if re.fullmatch(rf"{re.escape(base_of_name(database))}_restoring_{STAMP}", name):
            server.drop(name)


def exchange(server: "Server", database: str, new: str, earlier_name: str) -> None:
    """Rename both databases in one transaction; sessions of the old one end."""
    progress(f"renaming: {database} to {earlier_name}, and {new} to {database}")
    output = server.rename_both(database, new, earlier_name)
    if output.code != 0:
        raise Failed(
            FAILED,
            f"{database} could not be renamed, so it serves as before: {output.last_line}",
        )


STAMP = "[0-9]{8}t[0-9]{6}"


def free_name(server: "Server", database: str, purpose: str) -> str:
    """A name that no database has: beside the database's own, with the time, to the second."""
    while True:
        moment = utc(server.machine.now())
        name = f"{base_of_name(database)}_{purpose}_{moment:%Y%m%dt%H%M%S}"
        if not server.has_database(name):
            return name
        server.machine.wait(1)


def base_of_name(database: str) -> str:
    """The beginning of such a name: PostgreSQL would cut off the end of a longer one, the time."""
    return database[: LONGEST_DATABASE_NAME - len("_restoring_20261231t235959")]


def is_timed_name(name: str, database: str) -> bool:
    """Whether a restore of that database has kept another one under this name."""
    return re.fullmatch(rf"{re.escape(base_of_name(database))}_before_{STAMP}", name) is not None


def print_way_back(stack: "Stack", database: str, earlier_name: str) -> None:
    """Say how to go back, and how to drop what was kept."""
    container = Server.container_of(stack)
    dropdb = f'dropdb -U "${{POSTGRES_USER:-postgres}}" {earlier_name}'
    drop = f"docker exec {container} sh -c '{dropdb}'"
    progress(f"the services' sessions were ended; the old database is kept as {earlier_name}")
    progress(f"to go back: {ROOT}/bin/database swap {stack.name} {database} {earlier_name}")
    progress(f"when nobody needs it any more: {drop}")


# 6. Passwords: the server gets a verifier, from which nobody can compute the password.

SCRAM_VERIFIER = re.compile(
    r"SCRAM-SHA-256\$(?P<iterations>[0-9]{1,9}):(?P<salt>[A-Za-z0-9+/=]+)"
    r"\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+"
)
SCRAM_ITERATIONS, SCRAM_SALT_BYTES = 4096, 16  # what PostgreSQL itself uses


def read_passwords(stream: IO[bytes]) -> Tuple[str, str]:
    """The old and the new password: two lines of standard input."""
    lines = stream.read(65536).decode(errors="replace").split("\n")
    if len(lines) != 3 or not all(lines[:2]) or lines[2]:
        raise Failed(
            BAD_REQUEST, "standard input is not two lines: the old password, and the new one"
        )
    return lines[0], lines[1]


def is_verified(verifier: str, role: str, password: str) -> bool:
    """Whether a role with that verifier has that password."""
    match = SCRAM_VERIFIER.fullmatch(verifier)
    if match:
        salt = base64.b64decode(match["salt"])
        expected = scram_verifier(password, salt, int(match["iterations"]))
    else:
        expected = md5_verifier(role, password)
    return hmac.compare_digest(verifier.encode(), expected.encode())


def make_verifier(earlier: str, role: str, password: str) -> str:
    """The verifier of a new password, of the same kind as the earlier one.

    A role with a verifier of MD5 may have clients that know no other kind.
    """
    if earlier.startswith("md5"):
        return md5_verifier(role, password)
    match = SCRAM_VERIFIER.fullmatch(earlier)
    iterations = int(match["iterations"]) if match else SCRAM_ITERATIONS
    return scram_verifier(password, secrets.token_bytes(SCRAM_SALT_BYTES), iterations)


def scram_verifier(password: str, salt: bytes, iterations: int) -> str:
    """What PostgreSQL stores of a password for SCRAM-SHA-256 (RFC 5803)."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key = hmac.new(salted, b"Client Key", hashlib.sha256).digest()
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.new(salted, b"Server Key", hashlib.sha256).digest()
    parts = [base64.b64encode(part).decode() for part in (salt, stored_key, server_key)]
    return f"SCRAM-SHA-256${iterations}:{parts[0]}${parts[1]}:{parts[2]}"


def md5_verifier(role: str, password: str) -> str:
    """What PostgreSQL stores of a password for its old method."""
    return "md5" + hashlib.md5((password + role).encode()).hexdigest()


# 7. Jobs: a command in a new container of a service, with the image that serves.


def run_job(stack: "Stack", request: Request) -> int:
    """Run a job of a stack, never twice at once, and write down what came out."""
    job = next((job for job in stack.jobs() if job.kind == "job" and job.name == request.job), None)
    if not job:
        raise Failed(BAD_REQUEST, f"{COMPOSE_FILE} of {stack.name} has no job '{request.job}'")
    began = stack.machine.now()
    line: Json = {"reason": request.reason or "by hand", "result": "failed", "message": ""}
    try:
        with lock(
            stack.lock_of(job), 0, stack.machine, f"{job.name} is running already: see status"
        ):
            progress(f"running {job.name} in {job.service}: {shlex.join(job.command)}")
            line.update(run_in_service(stack, job))
    except Failed as failure:
        line.update(result="skipped" if failure.code == LOCKED else "failed")
        line.update(message=failure.message)
        raise
    finally:
        stack.add_record(job.title, began, **line)
    if line["result"] != "done":
        print_error(f"the job {job.name} failed: {line['message']}")
        return FAILED
    progress(f"{job.name} is done")
    return OK


def run_in_service(stack: "Stack", job: Job) -> Json:
    """Run the command in a new container of the service; what to write into the record."""
    name = f"{job.service}-job-{job.name}"
    refuse_second_container(stack, name)
    image = serving_image(stack, job.service)
    files = ["-f", str(stack.folder / COMPOSE_FILE), "-f", str(stack.folder / PINS_FILE)]
    project = ["--project-directory", str(stack.folder), "-p", stack.name]
    options = ["--rm", "-T", *NOT_FOR_TRAEFIK, "--no-deps", "--name", name]
    code = stack.machine.show(
        ["docker", *COMPOSE, *project, *files, "run", *options, job.service, *job.command],
        DUMP_SECONDS,
    )
    if code is None:
        stack.machine.docker("rm", "-f", name)
        return {"image": image, "message": f"it did not end within {DUMP_SECONDS // 3600} hours"}
    if code != 0:
        return {"image": image, "message": f"exit code {code}"}
    return {"image": image, "result": "done"}


def refuse_second_container(stack: "Stack", name: str) -> None:
    """A container of an earlier run may still run although its caller was killed."""
    output = stack.machine.docker("inspect", "--type", "container", name)
    if output.code != 0:
        return
    container = json.loads(output.out)[0]
    if (container["Config"].get("Labels") or {}).get("com.docker.compose.oneoff") != "True":
        raise Failed(
            NOT_READY,
            f"{name} is the name of another container: rename that container or the job",
        )
    if container["State"]["Status"] in ("running", "paused", "restarting"):
        raise Failed(LOCKED, f"the container {name} of an earlier run still runs")
    stack.machine.docker("rm", "-f", name)


def serving_image(stack: "Stack", service: str) -> str:
    """The image that a deploy has recorded and pinned; without it Compose would pull a tag."""
    path = stack.folder / ".deploys" / service
    lines = path.read_text().split("\n") if path.is_file() else []
    images = [line.split(" ")[0] for line in lines if "@sha256:" in line]
    pins = stack.folder / PINS_FILE
    if not images or not pins.is_file() or f'"{images[-1]}"' not in pins.read_text():
        raise Failed(NOT_READY, f"no image of {service} is pinned: deploy it first")
    return images[-1]


# 8. Due: the timer calls each minute. What was missed while the server was off runs once.


def run_due(machine: "Machine") -> int:
    """Start what is due, and wait for it; meanwhile other jobs may become due."""
    worst = OK
    runs: List[Tuple[Job, Run]] = []
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock(timer_file(), 0, machine, "the timer's last call goes on"))
        except Failed:
            return OK  # that call starts what is due
        while True:
            timer_file().write_text(f"{machine.now():.0f}\n")
            busy = [job for job, _ in runs]
            for job in due_jobs(machine, busy):
                progress(f"{job.stack}: {job.title} is due")
                runs.append((job, machine.start(job.words)))
            ended = [(job, run) for job, run in runs if run.poll() is not None]
            for job, run in ended:
                worst = worst if run.poll() == OK else FAILED
                runs.remove((job, run))
                record_if_unrecorded(machine, job, run)
            if not runs:
                return worst
            machine.wait(1 if ended else 10)


def record_if_unrecorded(machine: "Machine", job: Job, run: "Run") -> None:
    """A run that ended before it could write a line has failed."""
    stack = Stack(machine, ROOT / job.stack)
    if was_interrupted(stack, job):
        message = f"it ended with exit code {run.poll()}; its output says why"
        stack.add_record(job.title, machine.now(), result="failed", message=message)


def due_jobs(machine: "Machine", busy: Sequence[Job]) -> List[Job]:
    """What is due now; each is marked in the record, so that nothing starts it a second time."""
    due = []
    for stack in stacks_with_schedule(machine):
        try:
            jobs = stack.jobs()
        except Failed as failure:
            print_error(failure.message)
            continue
        for job in jobs:
            if job not in busy and is_due(stack, job):
                due.append(job)
    return due


def is_due(stack: "Stack", job: Job) -> bool:
    """Whether a job has to start now, because its time came after its last run."""
    assert job.schedule
    now = stack.machine.now()
    lines = [line for line in stack.record() if line["job"] == job.title and line.get("due")]
    if not lines:
        # What was due before there was a timer is nobody's failure.
        stack.add_record(job.title, now, result="seen", due=stamp(now))
        return False
    last_due = max(seconds_of_stamp(line["due"]) for line in lines)
    time_due = latest(job.schedule, last_due, now)
    if time_due is None and is_to_be_repeated(stack, job):
        time_due = now
    if time_due is None or is_locked(stack.lock_of(job)):
        return False
    stack.add_record(job.title, now, result="started", due=stamp(time_due))
    return True


def is_to_be_repeated(stack: "Stack", job: Job) -> bool:
    """Whether a power cut has ended a backup, once.

    A second dump harms nobody; a second run of a job might.
    """
    results = [line["result"] for line in stack.record() if line["job"] == job.title]
    is_second = results[-2:] == ["started", "started"]
    return job.kind == "backup" and was_interrupted(stack, job) and not is_second


def was_interrupted(stack: "Stack", job: Job) -> bool:
    """Whether its last run has begun and never ended."""
    lines = [line for line in stack.record() if line["job"] == job.title]
    return bool(lines) and lines[-1]["result"] == "started" and not is_locked(stack.lock_of(job))


def timer_file() -> Path:
    """The file that the timer's call locks, and writes the time into."""
    return ROOT / ".schedule-timer"


def stacks_with_schedule(machine: "Machine") -> List["Stack"]:
    """The stacks whose compose file has something that runs on a schedule."""
    stacks = []
    for path in sorted(ROOT.glob(f"*/{COMPOSE_FILE}")):
        # Compose is asked only where there is something: this runs each minute.
        if f"\n{SCHEDULE_KEY}:" in path.read_text(errors="replace"):
            stacks.append(Stack(machine, path.parent))
    return stacks


def timer_commands() -> str:
    """The commands that install the timer, for root."""
    user = name_of_user(os.geteuid())
    return f"""\
# Type: {ROOT}/bin/database timer | sudo sh
set -e
cat >/etc/systemd/system/kiwari-ci-schedule.service <<'END'
[Unit]
Description=Backups and scheduled jobs, of {ROOT}
After=docker.service

[Service]
Type=oneshot
User={user}
ExecStart={ROOT}/bin/database due
END
cat >/etc/systemd/system/kiwari-ci-schedule.timer <<'END'
[Unit]
Description=Each minute: what is due in {ROOT}

[Timer]
OnCalendar=minutely
AccuracySec=1s
Persistent=true

[Install]
WantedBy=timers.target
END
systemctl daemon-reload
systemctl enable --now kiwari-ci-schedule.timer"""


# 9. Cron lines. The generator checks the spec with the same functions.

FIELDS = (
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day", 1, 31),
    ("month", 1, 12),
    ("weekday", 0, 7),
)
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


def parse_schedule(text: str, zone: str = "") -> Schedule:
    """Parse a cron line of five fields; ValueError says what is wrong with it."""
    if text.startswith("@"):
        raise ValueError(f"'{text}' is not known; write five fields, such as 0 3 * * *")
    field_texts = text.split()
    if len(field_texts) != len(FIELDS):
        raise ValueError(
            f"it has {len(field_texts)} fields, not five: minute, hour, day, month, weekday"
        )
    sets = [parse_field(field_text, *field) for field_text, field in zip(field_texts, FIELDS)]
    schedule = Schedule(
        text=text,
        minutes=sets[0],
        hours=sets[1],
        days=sets[2],
        months=sets[3],
        weekdays=frozenset(number % 7 for number in sets[4]),
        is_any_day=field_texts[2].startswith("*"),
        is_any_weekday=field_texts[4].startswith("*"),
        zone=zone,
    )
    refuse_if_never(schedule)
    return schedule


def parse_field(field: str, title: str, lowest: int, highest: int) -> FrozenSet[int]:
    """The numbers of a field: lists of numbers and ranges, each with a step."""
    numbers: Set[int] = set()
    for part in field.lower().split(","):
        match = re.fullmatch(r"(\*|(\w+)(?:-(\w+))?)(?:/([0-9]{1,3}))?", part, re.ASCII)
        if not match:
            raise ValueError(f"the {title} '{field}' is not understood")
        step = int(match[4] or 1)
        if match[1] == "*":
            first, last = lowest, highest
        else:
            first = number_of(match[2], title, field)
            last = number_of(match[3], title, field) if match[3] else first
            if match[4] and not match[3]:
                last = highest  # 5/15 is 5-59/15
        if not lowest <= first <= last <= highest or step < 1:
            raise ValueError(f"the {title} '{field}' is not within {lowest} to {highest}, in order")
        numbers.update(range(first, last + 1, step))
    return frozenset(numbers)


def number_of(word: str, title: str, field: str) -> int:
    """A number, or the name of a month or of a weekday."""
    if re.fullmatch(r"[0-9]{1,2}", word):
        return int(word)
    if title == "month" and word in MONTHS:
        return MONTHS.index(word) + 1
    if title == "weekday" and word in WEEKDAYS:
        return WEEKDAYS.index(word)
    raise ValueError(f"the {title} '{field}' is not understood")


def refuse_if_never(schedule: Schedule) -> None:
    """Refuse the 30th of February, and the like."""
    if not (schedule.is_any_day or schedule.is_any_weekday):
        return  # a weekday comes each week
    longest = {
        month: 29 if month == 2 else calendar.monthrange(2026, month)[1] for month in range(1, 13)
    }
    if all(min(schedule.days) > longest[month] for month in schedule.months):
        raise ValueError("no month of it has such a day, so it would never run")


def check_zone(zone: str) -> None:
    """Refuse a time zone that this machine does not know: it would count as UTC, silently."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*", zone):
        raise ValueError(f"'{zone}' is no time zone, such as Asia/Jakarta")
    if ZONES.is_dir() and not (ZONES / zone).is_file():
        raise ValueError(f"the time zone {zone} is not known")


def latest(schedule: Schedule, after: float, until: float) -> Optional[float]:
    """The last time that a schedule was due after one moment, and not after another.

    It walks back over the clock on the wall. An hour that the clock leaves out in spring is found
    an hour later; an hour that it shows twice in autumn counts once.
    """
    with time_zone(schedule.zone):
        start = datetime(*time.localtime(after)[:5]) - timedelta(hours=2)
        wall = datetime(*time.localtime(until)[:5])
        while wall >= start:
            if not schedule.has_day(wall) or wall.hour not in schedule.hours:
                # The last minute of the hour before, or of the day before.
                is_day = schedule.has_day(wall)
                wall = wall.replace(minute=0, hour=wall.hour if is_day else 0)
                wall -= timedelta(minutes=1)
                continue
            if wall.minute in schedule.minutes:
                moment = moment_of(wall)
                if after < moment <= until:
                    return moment
                if moment <= after:
                    return None
            wall -= timedelta(minutes=1)
    return None


def moment_of(wall: datetime) -> float:
    """The moment at which a clock on the wall shows that; the first of two."""
    fields = (wall.year, wall.month, wall.day, wall.hour, wall.minute, 0, 0, 0)
    moments = []
    for is_summer in (0, 1):
        moment = time.mktime((*fields, is_summer))
        if time.localtime(moment)[:5] == fields[:5]:
            moments.append(moment)
    return min(moments) if moments else time.mktime((*fields, -1))


@contextlib.contextmanager
def time_zone(zone: str) -> Iterator[None]:
    """Let the functions of `time` count in a time zone; UTC if none is given."""
    earlier_zone = os.environ.get("TZ")
    os.environ["TZ"] = zone or "UTC"
    time.tzset()
    try:
        yield
    finally:
        if earlier_zone is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = earlier_zone
        time.tzset()


# 10. Status: for a person, and for whatever looks at the exit code.


def print_status(machine: "Machine", only: str) -> int:
    """Print each backup and job, and what is amiss; 1 if something is."""
    checksum = checksum_of(Path(__file__).resolve())
    print(f"bin/database {VERSION} sha256:{checksum}")
    problems: List[str] = []
    stacks = [open_stack(machine, only)] if only else stacks_with_schedule(machine)
    for stack in stacks:
        try:
            jobs = stack.jobs()
        except Failed as failure:
            problems.append(f"{stack.name}: {failure.message}")
            continue
        for job in jobs:
            print(f"{stack.name}: {job.title}: {state_of(stack, job)}")
            problems += [f"{stack.name}: {job.title}: {text}" for text in problems_of(stack, job)]
    problems += list(problems_of_timer(machine, stacks))
    for text in problems:
        print(f"FAILURE: {printable(text)}")
    return FAILED if problems else OK


def state_of(stack: "Stack", job: Job) -> str:
    """The last run of a job, in words."""
    if job.kind == "backup":
        dumps = stack.good_dumps(job.name)
        if not dumps:
            return "no dump yet"
        newest = dumps[-1]
        age = age_text(stack.machine.now() - seconds_of_stamp(newest["time"]))
        copied = {"done": "copied", "failed": "NOT COPIED"}.get(newest["copy"], "on this disk only")
        return (
            f"{newest['file']}, {age} old, {megabytes(newest['bytes'])}, {newest['tables']} tables,"
            f" {copied}; {len(dumps)} dumps"
        )
    lines = ended_runs(stack, job)
    if not lines:
        return "no run yet"
    age = age_text(stack.machine.now() - seconds_of_stamp(lines[-1]["time"]))
    return f"{lines[-1]['result']}, {age} ago, {lines[-1]['seconds']} seconds"


def problems_of(stack: "Stack", job: Job) -> Iterator[str]:
    """What is amiss with a backup or a job."""
    now = stack.machine.now()
    lines = ended_runs(stack, job)
    if lines and lines[-1]["result"] == "failed":
        yield f"the last run failed, at {lines[-1]['time']}: {lines[-1].get('message', '')}"
    elif lines and lines[-1].get("copy") == "failed":
        yield f"the last dump was not copied: {lines[-1].get('message', '')}"
    if was_interrupted(stack, job):
        yield "the last run began and never ended"
    due_lines = [line for line in stack.record() if line["job"] == job.title and line.get("due")]
    if not due_lines or not job.schedule:
        yield f"the timer has not run since this {job.kind} was added"
        return
    first = min(seconds_of_stamp(line["due"]) for line in due_lines)
    due = latest(job.schedule, first, now - LATE_SECONDS)
    good = [seconds_of_stamp(line["time"]) for line in lines if line["result"] == "done"]
    if due is not None and not any(moment >= due - 60 for moment in good):
        newest = (
            f"the last good run was at {stamp(max(good))}" if good else "no run has succeeded yet"
        )
        yield f"missed: it was due at {stamp(due)}, and {newest}"
    if job.kind == "backup":
        for line in stack.recorded_dumps(job.name)[-1:]:
            path = stack.dumps(job.name) / line["file"]
            if not path.is_file() or path.stat().st_size != line["bytes"]:
                yield f"{path} is not there as it was written"


def ended_runs(stack: "Stack", job: Job) -> List[Json]:
    """The runs of a job that came to an end, the newest last."""
    ends = ("done", "failed")
    return [line for line in stack.record() if line["job"] == job.title and line["result"] in ends]


def problems_of_timer(machine: "Machine", stacks: Sequence["Stack"]) -> Iterator[str]:
    """The timer must have called a short time ago."""
    if not stacks:
        return
    try:
        silent = machine.now() - float(timer_file().read_text())
    except (OSError, ValueError):
        yield (
            "no timer has started backups and jobs yet. Install it:"
            f" {ROOT}/bin/database timer | sudo sh"
        )
        return
    if silent > SILENT_SECONDS:
        unit = "kiwari-ci-schedule.timer"
        yield f"the timer has not run for {age_text(silent)}: systemctl status {unit}"


class Stack:
    """A Compose project of this server: a folder, its schedule and its record."""

    def __init__(self, machine: "Machine", folder: Path) -> None:
        self.machine = machine
        self.folder = folder
        self.name = folder.name
        self.state = folder / ".schedule"
        self._model: Json = {}

    @contextlib.contextmanager
    def locked(self, request: Request) -> Iterator[None]:
        """Hold the lock of the server, and for a scheduled backup also that of the job."""
        refusal = (
            f"another backup or restore of {self.name} holds the lock for"
            f" {request.lock_seconds} seconds"
        )
        with contextlib.ExitStack() as locks:
            if request.reason == "scheduled":
                path = self.lock_of(Job(self.name, request.verb, request.database, None))
                running = f"the backup of {request.database} is running already"
                locks.enter_context(lock(path, 0, self.machine, running))
            locks.enter_context(
                lock(self.state / "lock", request.lock_seconds, self.machine, refusal)
            )
            yield

    def lock_of(self, job: Job) -> Path:
        """The file that a run of a job locks."""
        return self.state / f"{job.kind}-{job.name}.lock"

    # Its compose file

    @property
    def model(self) -> Json:
        """Its compose file, as Compose reads it.

        Variables stay as they are and env files unread: no secret is needed here.
        """
        if not self._model:
            text = ENV_FILE_LINE.sub("", (self.folder / COMPOSE_FILE).read_text())
            options = ["--project-directory", str(self.folder), "-p", self.name, "-f", "-"]
            output = self.machine.docker(
                *COMPOSE,
                *options,
                "config",
                "--format",
                "json",
                "--no-interpolate",
                stdin=text.encode(),
            )
            if output.code != 0:
                raise Failed(
                    NOT_READY,
                    f"Compose cannot read {self.folder / COMPOSE_FILE}: {output.last_line}",
                )
            self._model = json.loads(output.out)
        return self._model

    def jobs(self) -> List[Job]:
        """What runs on a schedule, as the compose file says."""
        schedule = self.model.get(SCHEDULE_KEY) or {}
        try:
            backups = [
                Job(
                    self.name,
                    "backup",
                    name,
                    schedule_of(settings),
                    keep=int(settings.get("keep", DEFAULT_KEEP)),
                    copy_folder=unescape(settings.get("copy-folder", "")),
                    copy_command=unescape(settings.get("copy-command", "")),
                )
                for name, settings in (schedule.get("backups") or {}).items()
            ]
            jobs = [
                Job(
                    self.name,
                    "job",
                    name,
                    schedule_of(settings),
                    service=settings["service"],
                    command=tuple(unescape(word) for word in settings["command"]),
                )
                for name, settings in (schedule.get("jobs") or {}).items()
            ]
        except (ValueError, KeyError) as error:
            raise Failed(
                NOT_READY, f"{SCHEDULE_KEY} of {self.folder / COMPOSE_FILE} is wrong: {error}"
            ) from error
        return backups + jobs

    # Its dumps and its record

    def dumps(self, database: str) -> Path:
        """The folder of a database's dumps."""
        return self.folder / "backups" / database

    def record(self) -> List[Json]:
        """The runs of all jobs, the newest last."""
        return read_record(self.state / "record")

    def recorded_dumps(self, database: str) -> List[Json]:
        """The record's lines of complete dumps, the newest last."""
        return [
            line
            for line in self.record()
            if line["job"] == f"backup {database}" and line["result"] == "done" and "sha256" in line
        ]

    def good_dumps(self, database: str) -> List[Json]:
        """Those lines whose file is there."""
        folder = self.dumps(database)
        return [line for line in self.recorded_dumps(database) if (folder / line["file"]).is_file()]

    def add_record(self, title: str, began: float, **line: Any) -> None:
        """Append the line of a run."""
        seconds = round(self.machine.now() - began)
        path = self.state / "record"
        with lock(self.state / "record.lock", QUERY_SECONDS, self.machine, "the record is locked"):
            append_line(path, {"time": stamp(began), "job": title, "seconds": seconds, **line})
            shorten_record(path)


class Server:
    """A PostgreSQL server: a container, whose own programs do the work as its superuser."""

    def __init__(self, stack: Stack, container: str) -> None:
        self.stack = stack
        self.machine = stack.machine
        self.container = container

    @staticmethod
    def container_of(stack: Stack) -> str:
        """The name of the container."""
        return str(stack.model["services"][stack.name].get("container_name") or stack.name)

    def sql(self, statement: str, database: str = "postgres", **names: str) -> List[str]:
        """The rows of a statement's answer; `:'name'` and `:"name"` in it stand for these names."""
        variables = [word for key, text in names.items() for word in ("-v", f"{key}={text}")]
        output = self.run("psql", "-d", database, *variables, stdin=statement.encode())
        if output.code != 0:
            raise Failed(NOT_READY, f"{self.stack.name} does not answer: {output.last_line}")
        return output.out.splitlines()

    def run(
        self,
        program: str,
        *arguments: str,
        stdin: Optional[bytes] = None,
        source: Optional[Path] = None,
        target: Optional[Path] = None,
        seconds: int = QUERY_SECONDS,
    ) -> Output:
        """Run a program of PostgreSQL in the container, over its socket."""
        options = {"psql": "-X -q -A -t -v ON_ERROR_STOP=1", "dropdb": "--maintenance-db=postgres"}
        script = f'exec {program} {options.get(program, "")} -U "${{POSTGRES_USER:-postgres}}" "$@"'
        return self.machine.docker(
            *("exec", "-i", self.container, "sh", "-c", script, "sh", *arguments),
            stdin=stdin,
            source=source,
            target=target,
            seconds=seconds,
        )

    def databases(self) -> List[str]:
        """The names of all databases."""
        return self.sql("SELECT datname FROM pg_database;")

    def has_database(self, name: str) -> bool:
        """Whether there is a database of that name."""
        return name in self.databases()

    def size(self, database: str) -> int:
        """The bytes of a database on the server's disk."""
        return int(self.sql("SELECT pg_database_size(:'name');", name=database)[0])

    def tables(self, database: str) -> Set[str]:
        """The tables of a database, as SCHEMA NAME, without those that an extension brings."""
        rows = self.sql(
            "SELECT n.nspname || ' ' || c.relname FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_'"
            " AND n.nspname <> 'information_schema' AND NOT EXISTS"
            " (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass"
            " AND d.objid = c.oid AND d.deptype = 'e');",
            database,
        )
        return set(rows)

    def dump(self, database: str, path: Path) -> None:
        """Write a dump into a new file, and through to the disk."""
        arguments = ("-Fc", f"--lock-wait-timeout={TABLE_LOCK}", "-d", database)
        output = self.run("pg_dump", *arguments, target=path, seconds=DUMP_SECONDS)
        if output.code != 0:
            raise Failed(FAILED, f"pg_dump of {database} failed: {output.last_line}")

    def list_contents(self, path: Path) -> Set[str]:
        """The tables in a dump, as SCHEMA NAME."""
        output = self.machine.docker(
            *("exec", "-i", self.container, "pg_restore", "--list"),
            source=path,
            seconds=DUMP_SECONDS,
        )
        if output.code != 0:
            raise Failed(FAILED, f"{path} is damaged: {output.last_line}")
        lines = re.findall(
            r"^[0-9]+; [0-9]+ [0-9]+ TABLE (?!DATA |ATTACH )(.+) \S+$", output.out, re.M
        )
        return set(lines)

    def read_whole(self, path: Path) -> None:
        """Let pg_restore read a dump to its end, and write what it finds nowhere."""
        output = self.machine.docker(
            *("exec", "-i", self.container, "pg_restore", "--file=/dev/null"),
            source=path,
            seconds=DUMP_SECONDS,
        )
        if output.code != 0:
            raise Failed(FAILED, f"{path} is damaged: {output.last_line}")

    def free_bytes(self) -> int:
        """The free space on the disk of the server's data."""
        script = 'df -Pk "${PGDATA:-/var/lib/postgresql}"'
        output = self.machine.docker("exec", self.container, "sh", "-c", script)
        match = re.search(r" ([0-9]+) +[0-9]+% ", output.out)
        if output.code != 0 or not match:
            raise Failed(NOT_READY, f"df in {self.container} failed: {output.last_line}")
        return int(match[1]) * 1024

    def create_like(self, new: str, old: str) -> None:
        """Create an empty database with the owner, the rights and the settings of another one."""
        self.sql(CREATE_LIKE, new=new, old=old)

    def fill(self, database: str, path: Path) -> None:
        """Restore a dump into an empty database; the first error ends it."""
        arguments = ("--exit-on-error", "-d", database)
        output = self.run("pg_restore", *arguments, source=path, seconds=DUMP_SECONDS)
        if output.code != 0:
            raise Failed(FAILED, f"pg_restore failed, so nothing was changed: {output.last_line}")

    def analyze(self, database: str) -> None:
        """Collect the statistics that PostgreSQL plans queries with; a dump may lack them."""
        output = self.run("psql", "-d", database, "-c", "ANALYZE", seconds=DUMP_SECONDS)
        if output.code != 0:
            progress(f"note: ANALYZE failed: {output.last_line}")

    def drop(self, database: str) -> None:
        """Drop a database that a restore of this program has created."""
        self.run("dropdb", "--if-exists", "--force", database, seconds=DUMP_SECONDS)

    def verifier(self, role: str) -> str:
        """What the server stores of a role's password; empty if it has none."""
        rows = self.sql(
            "SELECT coalesce(rolpassword, '') FROM pg_authid WHERE rolname = :'role';", role=role
        )
        if not rows:
            raise Failed(BAD_REQUEST, f"there is no role {role} on {self.stack.name}")
        return rows[0]

    def set_verifier(self, role: str, verifier: str) -> None:
        """Store a verifier, and keep the statement out of the server's log, also if it fails.

        The server gives up before this program does. Otherwise a statement that waits for a lock
        could change the password after the caller was told that it was not changed.
        """
        limit = f"SET statement_timeout = '{STATEMENT_SECONDS}s';"
        self.sql(f"{limit}{UNLOGGED}ALTER ROLE :\"role\" PASSWORD '{verifier}';", role=role)

    def rename_both(self, database: str, new: str, earlier_name: str) -> Output:
        """Rename two databases in one transaction.

        PostgreSQL renames a database only when nobody is connected. The first rename locks it
        against new sessions, and waits five seconds for the old ones, which a second session ends
        meanwhile, until the database has its new name. If one does not end, the transaction fails,
        and nothing has changed.
        """
        identifier = self.sql(
            "SELECT oid FROM pg_database WHERE datname = :'name';", name=database
        )[0]
        arguments = (database, new, earlier_name, identifier)
        return self.machine.docker(
            "exec", self.container, "sh", "-c", RENAME_BOTH, "sh", *arguments
        )


# Of this session: the server's log gets no statement of it, also none that fails.
UNLOGGED = """
SET log_statement = 'none'; SET log_min_error_statement = 'panic';
SET log_transaction_sample_rate = 0;
SET log_min_duration_statement = -1; SET log_min_duration_sample = -1;
"""
# `datlocale` has had three names in the versions of PostgreSQL.
CREATE_LIKE = """
SELECT format('CREATE DATABASE %I TEMPLATE template0 OWNER %I ENCODING %L LC_COLLATE %L LC_CTYPE %L'
    || CASE d.datlocprovider WHEN 'i' THEN format(' LOCALE_PROVIDER icu ICU_LOCALE %L',
        coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale'))
      WHEN 'b' THEN format(' LOCALE_PROVIDER builtin BUILTIN_LOCALE %L', to_jsonb(d)->>'datlocale')
      ELSE '' END
    || ' CONNECTION LIMIT %s',
    :'new', pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding), d.datcollate, d.datctype,
    d.datconnlimit)
  FROM pg_database d WHERE d.datname = :'old' \\gexec
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', :'new')
  FROM pg_database WHERE datname = :'old' AND datacl IS NOT NULL \\gexec
SELECT format('GRANT %s ON DATABASE %I TO %s%s', a.privilege_type, :'new',
    CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
    CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
  FROM pg_database d, aclexplode(d.datacl) a WHERE d.datname = :'old' \\gexec
SELECT format('ALTER %sDATABASE %I SET %I TO %s',
    CASE s.setrole WHEN 0 THEN '' ELSE format('ROLE %I IN ', pg_get_userbyid(s.setrole)) END,
    :'new', split_part(c, '=', 1),
    CASE WHEN split_part(c, '=', 1) IN ('search_path', 'temp_tablespaces',
        'local_preload_libraries', 'session_preload_libraries')
      THEN substr(c, strpos(c, '=') + 1) ELSE quote_literal(substr(c, strpos(c, '=') + 1)) END)
  FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c
  WHERE d.datname = :'old' \\gexec
"""
RENAME_BOTH = """
user=${POSTGRES_USER:-postgres}
psql -X -q -U "$user" -d postgres -v oid="$4" -v old="$1" >/dev/null 2>&1 <<'SQL' &
SELECT format('DO $do$ BEGIN FOR i IN 1..45 LOOP
  EXIT WHEN NOT EXISTS (SELECT FROM pg_database WHERE oid = %1$s AND datname = %2$L);
  PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE datid = %1$s;
  PERFORM pg_stat_clear_snapshot(), pg_sleep(0.1);
END LOOP; END $do$', :'oid', :'old') \\gexec
SQL
psql -X -q -U "$user" -d postgres -v ON_ERROR_STOP=1 -v old="$1" -v new="$2" -v kept="$3" <<'SQL'
BEGIN;
ALTER DATABASE :"old" RENAME TO :"kept";
ALTER DATABASE :"new" RENAME TO :"old";
COMMIT;
SQL
code=$?
wait
exit $code
"""


# Everything outside of this program. Tests replace this class.


class Run:
    """A request of this program that another process carries out."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process

    def poll(self) -> Optional[int]:
        """The exit code; None while it runs."""
        return self.process.poll()


class Machine:
    """The server: Docker, scripts, disk and clock."""

    def docker(
        self,
        *arguments: str,
        stdin: Optional[bytes] = None,
        source: Optional[Path] = None,
        target: Optional[Path] = None,
        seconds: int = QUERY_SECONDS,
    ) -> Output:
        """Run docker; `source` and `target` are the files of its standard input and output."""
        with contextlib.ExitStack() as files:
            options: Json = {"stdin": subprocess.DEVNULL}
            if source:
                options = {"stdin": files.enter_context(source.open("rb"))}
            elif stdin is not None:
                options = {"input": stdin}
            out = files.enter_context(new_file(target) if target else unnamed_file())
            err = files.enter_context(unnamed_file())
            try:
                code = subprocess.run(
                    ["docker", *arguments], stdout=out, stderr=err, timeout=seconds, **options
                ).returncode
            except subprocess.TimeoutExpired as error:
                raise Failed(
                    NOT_READY, f"docker {arguments[0]} did not end within {seconds} seconds"
                ) from error
            except FileNotFoundError as error:
                raise Failed(NOT_READY, "docker is not installed") from error
            if target:
                sync(out)
                return Output(code, "", text_of(err))
            return Output(code, text_of(out), text_of(err))

    def show(self, command: List[str], seconds: int) -> Optional[int]:
        """Run a command, and print its output; its exit code, or None if it took too long."""
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert process.stdout
        end = time.monotonic() + seconds
        try:
            for count, line in enumerate(process.stdout):
                if count < MOST_LINES_SHOWN:
                    quote(line.decode(errors="replace"))
                if time.monotonic() > end:
                    return None
            return process.wait(max(1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None
        finally:
            process.kill()
            process.stdout.close()

    def script(self, command: List[str], folder: Path, settings: Dict[str, str]) -> int:
        """Run a script of the user's, print its output, and return its exit code."""
        with tempfile.TemporaryFile() as printed:
            try:
                code = subprocess.run(
                    command,
                    cwd=folder,
                    env={**os.environ, **settings},
                    stdin=subprocess.DEVNULL,
                    stdout=printed,
                    stderr=subprocess.STDOUT,
                    timeout=DUMP_SECONDS,
                ).returncode
            except subprocess.TimeoutExpired:
                code = 124
            except FileNotFoundError:
                code = 127
            quote(text_of(printed)[: MOST_LINES_SHOWN * 100])
        return code

    def start(self, words: List[str]) -> "Run":
        """Start another process of this program for a request."""
        program = str(Path(__file__).resolve())
        return Run(subprocess.Popen([sys.executable, "-I", program, *words]))

    def now(self) -> float:
        """The time, in seconds since 1970."""
        return time.time()

    def wait(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)

    def free_bytes(self, folder: Path) -> int:
        """The free space on the disk of a folder, for this user."""
        return shutil.disk_usage(folder).free


# Small helpers.


def schedule_of(settings: Json) -> Schedule:
    """The schedule in the settings of a backup or a job."""
    zone = str(settings.get("timezone", ""))
    if zone:
        check_zone(zone)
    return parse_schedule(str(settings["schedule"]), zone)


def progress(text: str) -> None:
    """Print a line of progress."""
    print_line(f"==> {printable(text)}")


def print_error(text: str) -> None:
    """Print an error."""
    print_line(f"database: {printable(text)}", sys.stderr)


def quote(text: str) -> None:
    """Print the output of another program, so that no line is a command to GitHub's runner."""
    for line in text.replace("\r", "\n").splitlines():
        print_line(f"| {printable(line[:MOST_LETTERS_SHOWN])}")


def print_line(text: str, stream: Optional[TextIO] = None) -> None:
    """Print a line; a full disk, where the log is, must not end a backup half-way."""
    with contextlib.suppress(OSError):
        print(text, file=stream or sys.stdout, flush=True)


def printable(text: str) -> str:
    """Replace control characters, which a terminal would obey, and `##[` of GitHub's runner."""
    letters = [letter if letter.isprintable() or letter == "\t" else "?" for letter in text]
    return "".join(letters).replace("##[", "## [")


def unescape(text: Any) -> str:
    """A text of Compose's output, in which each `$` is doubled."""
    return str(text).replace("$$", "$")


def megabytes(count: int) -> str:
    """A number of bytes, for a person."""
    return f"{count / 1_000_000:,.1f} MB"


def age_text(seconds: float) -> str:
    """A duration, for a person."""
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.0f} hours" if seconds < 172_800 else f"{seconds / 86400:.0f} days"


def utc(moment: float) -> datetime:
    """A moment, in UTC."""
    return datetime.fromtimestamp(moment, timezone.utc)


def stamp(moment: float) -> str:
    """A moment, for the record."""
    return f"{utc(moment):%Y-%m-%dT%H:%M:%SZ}"


def seconds_of_stamp(text: str) -> float:
    """The moment that a record's stamp names."""
    return float(calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")))


def name_of_user(number: int) -> str:
    """The name of a user."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def os_error_text(error: OSError) -> str:
    """An error of the operating system, as text."""
    place = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or type(error).__name__}{place}"


def make_private_folder(folder: Path) -> None:
    """Create a folder that only this user can look into; a dump has everything."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def unnamed_file() -> IO[bytes]:
    """Create a file in memory."""
    return os.fdopen(os.memfd_create("output"), "w+b")


def new_file(path: Path) -> IO[bytes]:
    """Create a file that only this user can read."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b")


def checksum_of(path: Path) -> str:
    """The SHA-256 of a file, which may be larger than the memory."""
    checksum = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1024 * 1024), b""):
            checksum.update(block)
    return checksum.hexdigest()


def write_file(path: Path, content: bytes) -> None:
    """Write a file, completely or not at all."""
    handle, temporary = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            sync(stream)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def sync(stream: IO[bytes]) -> None:
    """Write a file through to the disk, so that it survives a power cut."""
    stream.flush()
    os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Write the names in a folder through to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def text_of(stream: IO[bytes]) -> str:
    """The whole content of a file, as text."""
    stream.seek(0)
    return stream.read().decode(errors="replace")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failure:
        print_error(failure.message)
        sys.exit(failure.code)
    except OSError as error:
        print_error(os_error_text(error))
        sys.exit(NOT_READY)
