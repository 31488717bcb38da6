"""A PostgreSQL server of the tests' own, set up as the official image sets its own up, in a network of its own."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SUPERUSER = "captain"
ADDRESS = "192.0.2.1"  # on the network's loopback: the server as another container sees it, with a password
# What initdb writes, and the line that the image's entrypoint adds (docker-library/postgres, docker-entrypoint.sh).
HBA = "local all all trust\nhost all all 127.0.0.1/32 trust\nhost all all all scram-sha-256\n"
# Everything that can put a statement into the log does.
TALKATIVE = {
    "log_statement": "all",
    "log_min_error_statement": "debug5",
    "log_min_duration_statement": "0",
    "log_min_duration_sample": "0",
    "log_transaction_sample_rate": "1",
}


@dataclass(frozen=True)
class Server:
    """One running server; `home` holds its data, its socket, its log and the psql that notes down its arguments."""

    home: Path
    binaries: Path
    process: subprocess.Popen[bytes]

    def run(self, *command: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command beside the server, as its user, with nothing but this environment."""
        network = ["nsenter", f"--net=/proc/{self.process.pid}/ns/net"]
        return subprocess.run(
            [*network, *AS_POSTGRES, *command],
            env=self.environment() | environment,
            cwd=self.home,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
        )

    def environment(self) -> dict[str, str]:
        """What a command finds in the container: the server's socket, its superuser and that one's password."""
        path = f"{self.home}/bin:{self.binaries}:/usr/bin:/bin"
        own = {"POSTGRES_USER": SUPERUSER, "POSTGRES_PASSWORD": "the-first-1"}
        return {"PATH": path, "LANG": "C.UTF-8", "PGHOST": str(self.home), **own}

    def sql(self, statement: str, database: str = "postgres") -> str:
        """The superuser's answer, over the socket: one row a line, `|` between columns."""
        words = ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-U", SUPERUSER, "-d", database]
        done = self.run(*words, stdin=statement)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def log(self) -> str:
        """What the server has logged since it was made."""
        return (self.home / "log").read_text(errors="replace")

    def arguments(self) -> str:
        """The arguments of every psql that ran, one a line."""
        return (self.home / "arguments").read_text(errors="replace")


AS_POSTGRES = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=QUIT"]


def binaries() -> Path:
    """The folder of the newest server installed; without one, or without root, the test is skipped, in CI failed."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    lacking = [tool for tool in ("ip", "nsenter", "setpriv", "unshare") if not shutil.which(tool)]
    if installed and not lacking and os.geteuid() == 0:
        return installed[-1].parent
    why = f"NOT TESTED: needs root, Debian's postgresql and iproute2 (lacking: {lacking or installed or 'postgresql'})"
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


@contextmanager
def cluster() -> Iterator[Path]:
    """A fresh data folder in a home of its own, owned by the server's user."""
    programs = binaries()
    home = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
    try:
        shutil.chown(home, "postgres", "postgres")
        initdb = [f"{programs}/initdb", "-D", f"{home}/data", "-U", SUPERUSER, "-E", "UTF8", "--locale=C.UTF-8", "-N"]
        subprocess.run([*AS_POSTGRES, *initdb, "--auth=trust"], check=True, capture_output=True, cwd=home)
        (home / "data/pg_hba.conf").write_text(HBA)
        (home / "bin").mkdir()
        note = f'printf "%s\\n" "$@" >>{home}/arguments'
        (home / "bin/psql").write_text(f'#!/bin/sh\n{note}\nexec {programs}/psql "$@"\n')
        (home / "bin/psql").chmod(0o755)
        yield home
    finally:
        shutil.rmtree(home)


@contextmanager
def serving(home: Path, listen: str = "*") -> Iterator[Server]:
    """The server of this home, listening on its socket and these addresses, until the block ends."""
    programs = binaries()
    settings = TALKATIVE | {"listen_addresses": listen, "unix_socket_directories": str(home), "fsync": "off"}
    options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    network = f'ip link set lo up && ip address add {ADDRESS}/32 dev lo && exec "$@"'
    start = ["unshare", "--net", "sh", "-c", network, "sh", *AS_POSTGRES, f"{programs}/postgres", "-D", f"{home}/data"]
    with (home / "log").open("ab") as log, subprocess.Popen([*start, *options], stdout=log, stderr=log) as process:
        server = Server(home, programs, process)
        try:
            _wait(server)
            yield server
        finally:
            process.send_signal(signal.SIGINT)  # its word for: end every session and stop


def _wait(server: Server) -> None:
    for _ in range(200):
        if server.run("pg_isready", "-q").returncode == 0:
            return
        assert server.process.poll() is None, server.log()
        time.sleep(0.05)
    raise TimeoutError(server.log())
