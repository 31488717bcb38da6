"""A small GitHub: what a push starts, by path filters and concurrency, and `act` to run it.

act (github.com/nektos/act) runs the jobs of one workflow, with `needs`, `if` and outputs, on this machine; it looks
neither at path filters nor at concurrency. The actions' stand-ins are in `actions/`.
"""

import functools
import json
import os
import re
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kiwari_ci.github_facts.path_filters import is_included
from tests.engine.server import TOKEN, USER, Server, eventually
from tests.workflow import Workflow

HERE = Path(__file__).parent
REPOSITORY = "iqbalmuhyiddin/kiwari-monorepo"
LOOKED_AT = 300  # files of a push that path filters look at: GitHub's "Workflow syntax", on.push.paths
TAGS_AT_ONCE = 3  # more of them start nothing: "Events that trigger workflows", push
NOT_RUN = {"pipeline-drift"}  # it installs kiwari-ci from the network, and deploys nothing
USES = re.compile(r"uses: (([\w.-]+)/([\w.-]+)@[0-9a-f]{40})")


class NotModelled(Exception):
    """A workflow says something that this stand-in for GitHub does not know."""


def starts(on: Mapping[str, Any], ref: str, files: Sequence[str]) -> bool:
    """Whether a push of a ref, which changed these files, starts a workflow with these triggers."""
    if "push" not in on:
        return False
    push = on["push"] or {}
    if unknown := set(push) - {"branches", "tags", "paths"}:
        raise NotModelled(f"on.push.{unknown.pop()}")
    kind, other = ("tags", "branches") if ref.startswith("refs/tags/") else ("branches", "tags")
    if kind in push and not is_included(push[kind], ref.split("/", 2)[2]):
        return False
    if kind not in push and other in push:
        return False
    if kind == "tags" or "paths" not in push:
        return True
    return any(is_included(push["paths"], file) for file in files[:LOOKED_AT])


def heard(refs: Sequence[str]) -> list[str]:
    """The refs of a push for which there is an event at all."""
    tags = [ref for ref in refs if ref.startswith("refs/tags/")]
    return [ref for ref in refs if ref not in tags or len(tags) <= TAGS_AT_ONCE]


@dataclass(eq=False)
class Run:
    """One run of a workflow: what it says and how it ends."""

    workflow: str
    ref: str
    sha: str
    folder: Path
    number: int
    event: str = "push"
    attempt: int = 1
    lines: list[dict[str, Any]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    green: bool = False
    cancelled: bool = False

    @property
    def log(self) -> str:
        """Everything that it printed."""
        return "\n".join(str(line.get("msg", "")).rstrip("\n") for line in self.lines)

    @property
    def tail(self) -> str:
        """The last of it, for a message."""
        return "\n".join(self.log.splitlines()[-40:])

    def jobs(self) -> dict[str, str]:
        """How each job ended that began."""
        return {line["jobID"]: line["jobResult"] for line in self.lines if "jobResult" in line}

    def wait(self, seconds: float = 900) -> "Run":
        """Until it ended."""
        assert self.ended.wait(seconds), f"{self.workflow} runs on after {seconds} s:\n{self.tail}"
        return self

    def hold(self, place: str) -> None:
        """It will wait at that place: before-build, after-build."""
        (self.folder / f"hold-{place}").touch()

    def arrives(self, place: str) -> None:
        """Until it is at a place where it was told to wait."""
        marker = self.folder / f"at-{place}"
        eventually(lambda: marker.exists() or self.ended.is_set(), 300, f"{self.workflow} is {place}")
        assert marker.exists(), f"{self.workflow} ended before it was {place}:\n{self.tail}"

    def release(self, place: str) -> None:
        """It goes on."""
        (self.folder / f"hold-{place}").unlink()


Group = list[Run]  # the one that runs, and the one that waits for it


class GitHub:
    """The repository, its settings, and its runs."""

    def __init__(self, server: Server, act: str, name: str = REPOSITORY) -> None:
        self.server = server
        self.act = act
        self.name = name
        self.repository = server.folder / "monorepo.git"
        self.runs: list[Run] = []
        self.groups: dict[str, Group] = {}
        self.lock = threading.RLock()
        self.secrets = {
            "VPS_HOST": "127.0.0.1",
            "VPS_USER": USER,
            "VPS_SSH_KEY": (server.folder / "keys/ci").read_text(),
            "GHCR_TOKEN": TOKEN,
            "GITHUB_TOKEN": TOKEN,
        }
        self.variables = {"VPS_KNOWN_HOSTS": (server.folder / "known_hosts").read_text()}
        git("init", "-q", "--bare", "-b", "main", str(self.repository))
        git("-C", str(self.repository), "config", "uploadpack.allowAnySHA1InWant", "true")

    def pushed(self, updates: Mapping[str, tuple[str, str]], holds: Sequence[str] = ()) -> list[Run]:
        """What starts when refs have moved: {ref: (old commit or "", new commit)}; each run waits at the `holds`."""
        runs = []
        for ref in heard(list(updates)):
            old, new = updates[ref]
            tag = ref.startswith("refs/tags/")
            files = [] if tag else self.ask("diff", "--name-only", old or EMPTY_TREE, new).splitlines()
            for name, workflow in self.workflows(new).items():
                if starts(workflow.data["on"], ref, files):
                    runs.append(self.begin(name, ref, new, holds))
        return runs

    def dispatch(self, workflow: str, ref: str = "refs/heads/main") -> Run:
        """What `gh workflow run` starts."""
        sha = self.ask("rev-parse", ref)
        if "workflow_dispatch" not in self.workflows(sha)[workflow].data["on"]:
            raise NotModelled(f"{workflow} is not started by hand")
        return self.begin(workflow, ref, sha, event="workflow_dispatch")

    def again(self, run: Run) -> Run:
        """A re-run of all jobs: the same commit, the same number."""
        return self.begin(run.workflow, run.ref, run.sha, number=run.number, event=run.event, attempt=run.attempt + 1)

    def workflows(self, sha: str) -> dict[str, Workflow]:
        """The workflows of a commit, by name."""
        names = self.ask("ls-tree", "--name-only", f"{sha}:.github/workflows").split()
        wanted = [name for name in names if name.endswith(".yml") and name.removesuffix(".yml") not in NOT_RUN]
        folder = f"{sha}:.github/workflows"
        return {name.removesuffix(".yml"): Workflow(self.ask("show", f"{folder}/{name}")) for name in wanted}

    def begin(
        self,
        workflow: str,
        ref: str,
        sha: str,
        holds: Sequence[str] = (),
        number: int = 0,
        event: str = "push",
        attempt: int = 1,
    ) -> Run:
        """Queues a run as its concurrency says: one of a group runs, one waits, and a newer one takes its place."""
        folder = self.server.folder / f"runs/{len(self.runs)}"
        folder.mkdir(parents=True)
        run = Run(workflow, ref, sha, folder, number or 1000 + len(self.runs), event, attempt)
        self.runs.append(run)
        for place in holds:
            run.hold(place)
        event_payload = {"ref": ref, "after": sha, "deleted": False, "repository": {"private": True}}
        (folder / "event.json").write_text(json.dumps(event_payload))
        document = self.workflows(sha)[workflow].data
        if any("concurrency" in job for job in document["jobs"].values()):
            raise NotModelled("concurrency of a job")
        concurrency = document.get("concurrency")
        if not concurrency:
            self.start(run, None)
            return run
        name = evaluated(concurrency["group"], {"github.sha": sha, "github.ref": ref})
        if concurrency.get("cancel-in-progress"):
            raise NotModelled("cancel-in-progress")
        with self.lock:
            group = self.groups.setdefault(name, [])
            if len(group) > 1:
                dropped = group.pop()
                dropped.cancelled = True
                dropped.ended.set()
            group.append(run)
            if len(group) == 1:
                self.start(run, group)
        return run

    def start(self, run: Run, group: Group | None) -> None:
        """Runs it beside everything else."""
        threading.Thread(target=self.live, args=(run, group), daemon=True).start()

    def live(self, run: Run, group: Group | None) -> None:
        """One run, from its first job to its last; then the one that waits for it."""
        try:
            command = self.command(run)
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
                for line in process.stdout or ():
                    run.lines.append(parsed(line))
            run.green = process.returncode == 0 and "failure" not in run.jobs().values()
        finally:
            run.ended.set()
            with self.lock:
                if group is not None:
                    group.remove(run)
                    if group:
                        self.start(group[0], group)

    def command(self, run: Run) -> list[str]:
        """The command line of act for a run; nothing of our own environment reaches its steps."""
        work, home = run.folder / "work", run.folder / "home"
        home.mkdir()
        git("clone", "-q", "--no-checkout", f"file://{self.repository}", str(work))
        git("-C", str(work), "-c", "advice.detachedHead=false", "checkout", "-q", run.sha)
        git("-C", str(work), "remote", "set-url", "origin", f"https://github.com/{self.name}")
        (run.folder / "secrets.yml").write_text(json.dumps(self.secrets))
        (run.folder / "vars.yml").write_text(json.dumps(self.variables))
        environment = {
            "PATH": f"{os.environ['PATH']}:/usr/sbin",
            "HOME": str(home),
            "DOCKER_HOST": "unix:///run/runner.sock",
            "GOCACHE": go_cache(),  # its keys are what it compiles: worlds can share it
            "GOPROXY": "off",
            "REHEARSAL_REPOSITORY": str(self.repository),
            "REHEARSAL_RUN": str(run.folder),
            "SSH_ASKPASS": "/bin/false",  # act gives steps a terminal, at which ssh would ask; GitHub does not
            "SSH_ASKPASS_REQUIRE": "force",
        }
        words = ["-C", str(work), "-W", f".github/workflows/{run.workflow}.yml", "-e", str(run.folder / "event.json")]
        words += ["--json", "--insecure-secrets", "--no-skip-checkout", "--no-cache-server", "--concurrent-jobs", "4"]
        words += ["--actor", "x-access-token", "--env", f"GITHUB_RUN_ID={run.number}"]
        words += ["--env", f"GITHUB_RUN_ATTEMPT={run.attempt}"]
        words += ["--secret-file", str(run.folder / "secrets.yml"), "--var-file", str(run.folder / "vars.yml")]
        words += ["--action-cache-path", str(run.folder / "cache")]
        text = (work / f".github/workflows/{run.workflow}.yml").read_text()
        for label in set(re.findall(r"runs-on: (\S+)", text)):
            words += ["-P", f"{label}=-self-hosted"]
        for name, _, action in set(USES.findall(text)):
            words += ["--local-repository", f"{name}={HERE / 'actions' / action}"]
        settings = [f"{name}={value}" for name, value in environment.items()]
        own_home = (self.server.folder / "etc/passwd").read_text().replace("/root", str(home))
        (run.folder / "passwd").write_text(own_home)  # ssh asks it, not $HOME; and each run has a machine of its own
        body = 'mount --bind "$0" /etc/passwd && exec env -i "$@"'
        ours = ("unshare", "--mount", "bash", "-c", body, str(run.folder / "passwd"), *settings)
        return self.server.inside(*ours, self.act, run.event, *words)

    def lose_runner(self, run: Run) -> None:
        """The machine on which it runs is gone: everything that it started there is killed at once."""
        body = 'cd /proc && for p in [0-9]*; do grep -qsz "^REHEARSAL_RUN=$1$" $p/environ && kill -KILL $p; done; true'
        self.server.run("bash", "-c", body, "bash", str(run.folder))

    def ask(self, *words: str) -> str:
        """Asks the repository."""
        return git("-C", str(self.repository), *words)


@functools.cache
def go_cache() -> str:
    """Where Go keeps what it has compiled on this machine."""
    return subprocess.run(["go", "env", "GOCACHE"], check=True, text=True, stdout=subprocess.PIPE).stdout.strip()


EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


def git(*words: str) -> str:
    """What git says; its failure is ours."""
    return subprocess.run(["git", *words], check=True, text=True, stdout=subprocess.PIPE).stdout.strip()


def evaluated(text: str, context: Mapping[str, str]) -> str:
    """A text with its expressions evaluated."""
    return re.sub(r"\$\{\{ ([\w.]+) \}\}", lambda match: context[match[1]], text)


def parsed(line: str) -> dict[str, Any]:
    """One line of act's log."""
    try:
        entry = json.loads(line)
    except ValueError:
        return {"msg": line}
    return entry if isinstance(entry, dict) else {"msg": line}
