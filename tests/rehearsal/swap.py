"""A plugin for pytest: one machine, on which tests of tests/engine run again and again, each time with another script.

Asked on the first descriptor of KIWARI_TRIAL, answers on the second, a line of JSON a time: which script (`right` is
the one that sets up what a test builds on), which tests, or files of them, in which order, and how long each may take.
"""

import json
import os
import re
import shutil
import signal
import subprocess
from collections import defaultdict
from collections.abc import Iterator

import pytest

from tests.engine import proxy
from tests.engine.server import UID, Server

# So that a trial takes seconds, the waits are shorter: the script's for the proxies' name caches, mostly none while a
# test is set up; where the proxy's own matters, it keeps a name for 2 s in place of 10. What hangs: 6 s, not 60.
LONG_WAIT, PATIENCE = "sleep 11", (r"SECONDS \+ (60|120)", "SECONDS + 6")
WATCHED = (
    "test_a_new_version_is_served_without_one_failed_request",
    "test_an_older_commit_that_arrives_late_changes_nothing",
)
NAME_KEPT = dict.fromkeys(WATCHED, "valid=2s")
WAITS = {
    **dict.fromkeys(WATCHED, 3),
    "test_a_bad_version_never_stops_the_good_one": 3,
    "test_what_was_started_again_while_it_was_watched_is_not_believed": 6,
}


class Trials:
    """The plugin: what is tried at the moment, and what became of it."""

    def __init__(self) -> None:
        asked, answered = os.environ["KIWARI_TRIAL"].split()
        self.asked, self.answered = os.fdopen(int(asked)), os.fdopen(int(answered), "w")
        self.right = self.tried = ""
        self.limits: dict[str, int] = {}
        self.results: list[dict[str, object]] = []
        self.server: Server | None = None

    @pytest.fixture(autouse=True)
    def right_script(self, request: pytest.FixtureRequest, server: Server, proxy: proxy.Proxy) -> None:
        """What a test builds on is set up by the right script; what the server held before the first is kept."""
        if not self.server:
            server.run("cp", "-a", str(server.home), str(server.folder / "empty"))
        self.server = server
        self.place(self.right, WAITS.get(request.node.originalname, 0))

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Runs what is asked for, as often as something is."""
        items = defaultdict(list)  # by their own name, and by their file's
        for item in session.items:
            items[item.nodeid].append(item)
            items[item.nodeid.partition("::")[0]].append(item)
        for line in self.asked:
            asked = json.loads(line)
            self.right, self.tried, self.limits = asked["right"], asked["tried"], asked["tests"]
            self.results = []
            if self.server:
                empty(self.server)
            for item in [item for name in self.limits for item in items[name]]:
                # with something left of the session, its machine stays
                session.config.hook.pytest_runtest_protocol(item=item, nextitem=session)
                if asked["stop"] and not self.results[-1]["green"]:
                    break
            self.answered.write(json.dumps(self.results) + "\n")
            self.answered.flush()
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Function) -> Iterator[None]:
        """Puts the script to trial for as long as the test itself runs, which may not be long."""
        name, nginx = item.originalname, proxy.NGINX
        self.place(self.tried, WAITS.get(name, 1), impatient="hangs" in item.name)
        proxy.NGINX = nginx.replace("valid={keeps}s", NAME_KEPT.get(name, "valid={keeps}s"))
        signal.signal(signal.SIGALRM, too_long)
        signal.alarm(self.limits.get(item.nodeid, 0))
        try:
            yield
        finally:
            signal.alarm(0)
            proxy.NGINX = nginx

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Takes down how a test ended; one that could not be set up is red too."""
        if report.when == "call" or not report.passed:
            result = {"test": report.nodeid, "green": report.passed, "seconds": report.duration, "lines": self.lines()}
            self.results.append(result)

    def place(self, script: str, wait: int, impatient: bool = False) -> None:
        """Puts a script into service; one that still runs goes on reading its own bytes."""
        assert self.server
        text = script.replace(LONG_WAIT, f"sleep {wait}")
        new = self.server.docker_folder / "bin/.new"
        new.write_text(re.sub(*PATIENCE, text) if impatient else text)
        new.chmod(0o755)
        os.chown(new, UID, UID)
        new.rename(self.server.docker_folder / "bin/deploy")

    def lines(self) -> list[int]:
        """The lines that have been run since this was last asked, when the script leaves a trace of them."""
        if not self.server or not (trace := self.server.home / ".trace").exists():
            return []
        text = trace.read_text(errors="replace")
        trace.unlink()
        return sorted({int(line) for line in re.findall(r"^@+(\d+) ", text, re.MULTILINE)})


def empty(server: Server) -> None:
    """The server as before its first deploy, whatever was tried on it; the engine and the proxy stay."""
    server.run("pkill", "-KILL", "-u", str(UID), check=False)
    containers = server.containers() - {"proxy-manager"}
    if containers:
        server.docker("rm", "-fv", *containers)
    server.docker("image", "prune", "-af")
    server.docker("network", "prune", "-f")
    server.run("find", "/dev/shm", "-mindepth", "1", "-delete")
    shutil.rmtree(server.home)
    server.run("cp", "-a", str(server.folder / "empty"), str(server.home))
    server.commits = 0


def too_long(_signal: int, _frame: object) -> None:
    """A script that does not end is red."""
    raise subprocess.TimeoutExpired("the test", 0)


def pytest_configure(config: pytest.Config) -> None:
    """Registers the plugin."""
    config.pluginmanager.register(Trials())
