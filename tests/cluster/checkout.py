"""A repository with the generated files of a spec: a person follows its runbook, and its jobs deploy."""

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from kiwari_ci import generator
from kiwari_ci.file_output.generated_files import write_files
from kiwari_ci.plan_model import ClusterStack
from tests.cluster.cluster import PROGRAMS, environment, run
from tests.cluster.world import World
from tests.engine.server import TOKEN, Result

FUNCTIONS = re.compile(r"^```bash\n(pull_secret\(\) .*?)^```$", re.MULTILINE | re.DOTALL)
DIGEST_OF_BUILD = re.compile(
    r"needs\.build-(?P<image>\S+)\.result == 'skipped' && 'unchanged' \|\| needs\.build-(?P=image)\.outputs\.digest"
)
FILLED = "costs $5"
GH = """\
#!/bin/sh
# Stands in for GitHub's gh: `gh secret set NAME --env ENVIRONMENT` keeps what comes on standard input.
[ "$1 $2 $4" = "secret set --env" ] || exit 64
mkdir -p "$GITHUB/$5"
exec cat >"$GITHUB/$5/$3"
"""


@dataclass
class Job:
    """How a deploy ended: what it printed, what it wrote for the steps behind it, and its result."""

    code: int
    log: str
    seconds: int
    output: str
    result: dict[str, Any]


class Checkout:
    """A clone of a repository whose pipeline kiwari-ci wrote."""

    def __init__(self, world: World, spec: Path, folder: Path) -> None:
        self.world = world
        self.folder = folder
        self.clone = folder / "clone"
        self.clone.mkdir(parents=True)
        self.plan, tree = generator.generate_files(spec)
        write_files(self.clone, tree, self.plan.project)
        self.github = folder / "github"
        self.settings: dict[str, str] = {}  # what else GitHub holds, beside the kubeconfigs
        self.env_files = folder / "env-files"
        self.runs = 0
        self.sequence = 100
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        (bin_folder / "gh").write_text(GH)
        (bin_folder / "gh").chmod(0o755)

    @property
    def stacks(self) -> dict[str, ClusterStack]:
        """The stacks on the cluster, by environment."""
        return {stack.environment: stack for stack in self.plan.cluster_stacks}

    # The runbook, as who administers the cluster follows it

    def types(self, command: str, typed: str = "") -> Result:
        """A command of the runbook, in the clone, after the functions that the runbook defines."""
        (functions,) = FUNCTIONS.findall((self.clone / "deploy/RUNBOOK.md").read_text())
        words = self.world.cluster.near("bash", "-euo", "pipefail", "-c", f"{functions}\n{command}")
        settings = environment("admin", self.world.cluster)
        settings |= {"PATH": f"{self.folder}/bin:{settings['PATH']}", "GITHUB": str(self.github)}
        return subprocess.run(
            words, cwd=self.clone, input=typed, env=settings, text=True, capture_output=True, timeout=120
        )

    def follow_runbook(self) -> None:
        """The whole step about the cluster."""
        for commands in self.plan.runbook.clusters:
            self._succeeds(commands.set_up.line)
            registry = f"REGISTRY={commands.cluster.registry} REGISTRY_USER={commands.cluster.registry_user}"
            for namespace in commands.namespaces:
                self._succeeds(namespace.kubeconfig.line)
                self._succeeds(f"{registry}\n{namespace.pull_secret.line}", f"{TOKEN}\n")
                for secret in namespace.env_secrets:
                    self._fill_env_file(secret.subject)
                    self._succeeds(f"ENV_FILES={self.env_files}\n{secret.line}")
                for database in namespace.database:
                    self._succeeds(database.line)

    def _succeeds(self, command: str, typed: str = "") -> None:
        result = self.types(command, typed)
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
        assert TOKEN not in result.stdout + result.stderr

    def _fill_env_file(self, path: str) -> None:
        """What a person makes of an example."""
        text = (self.clone / f"deploy/{path}.example").read_text()
        text = text.replace(":change-me@", f":{quote(FILLED)}@")  # in the URL of a database
        file = self.env_files / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("change-me", FILLED).replace("=''", f"='{FILLED}'"))

    def kubeconfig(self, environment_name: str) -> str:
        """The service account of the deploys, as GitHub keeps it."""
        (file,) = (self.github / environment_name).glob("*KUBECONFIG")
        return file.read_text()

    # The deploy job

    def steps(self, workflow: str, environment_name: str) -> list[dict[str, Any]]:
        """The steps of a workflow's deploy job that put images into service: one for each host."""
        text = (self.clone / ".github/workflows" / workflow).read_text()
        job = yaml.safe_load(text)["jobs"][f"deploy-{environment_name}"]
        return [step for step in job["steps"] if step.get("run", "").startswith("deploy/bin/")]

    def deploy(self, workflow: str, environment_name: str, digests: Mapping[str, str], sequence: int = 0) -> Job:
        """Runs these steps, as GitHub's runner does, until one fails; digests: of each service."""
        sequence = sequence or self.next_sequence()
        for step in self.steps(workflow, environment_name):
            job = self._start(step, environment_name, digests, sequence).wait()
            if job.code:
                break
        return job

    def start(self, workflow: str, environment_name: str, digests: Mapping[str, str], sequence: int = 0) -> "Running":
        """Starts the only one of these steps. Without a sequence, it is that of the newest commit."""
        (step,) = self.steps(workflow, environment_name)
        return self._start(step, environment_name, digests, sequence or self.next_sequence())

    def next_sequence(self) -> int:
        """The number of the next commit."""
        self.sequence += 1
        return self.sequence

    def _value(self, text: str, environment_name: str, digests: Mapping[str, str], sequence: int) -> str:
        """What GitHub puts in an expression's place."""
        expression = text.removeprefix("${{ ").removesuffix(" }}")
        context, _, name = expression.partition(".")
        if context in ("secrets", "vars"):
            file = self.github / environment_name / name
            return file.read_text() if file.exists() else self.settings.get(name, FILLED)
        build = DIGEST_OF_BUILD.fullmatch(expression)
        if build:  # in a workflow of several services: what the push did not touch was not built
            return digests.get(build["image"], "unchanged")
        output = expression.rpartition(".")[2]
        if output in ("sequence", "sequence_number"):
            return str(sequence)
        if output == "digest":  # of the one service of a workflow
            return next(iter(digests.values()))
        return digests[output.removeprefix("digest-")]

    def _start(
        self, step: Mapping[str, Any], environment_name: str, digests: Mapping[str, str], sequence: int
    ) -> "Running":
        values = {name: self._value(text, environment_name, digests, sequence) for name, text in step["env"].items()}
        self.runs += 1
        folder = self.folder / f"run-{self.runs}"
        (folder / "temporary").mkdir(parents=True)
        (folder / "event.json").write_text('{"repository": {"private": true}}')
        (folder / "script.sh").write_text(step["run"])
        runner = {
            "PATH": f"{PROGRAMS}:/usr/bin:/bin",
            "HOME": str(folder),
            "GITHUB_ACTIONS": "true",
            "GITHUB_RUN_ID": str(1000 + self.runs),
            "GITHUB_RUN_ATTEMPT": "1",
            "GITHUB_EVENT_NAME": "push",
            "GITHUB_SHA": "0" * 40,
            "GITHUB_OUTPUT": str(folder / "output"),
            "GITHUB_STEP_SUMMARY": str(folder / "summary"),
            "GITHUB_EVENT_PATH": str(folder / "event.json"),
            "RUNNER_TEMP": str(folder / "temporary"),
        }
        # From the server, both the cluster and the server itself are reached.
        words = ("bash", "--noprofile", "--norc", "-eo", "pipefail", str(folder / "script.sh"))
        process = subprocess.Popen(
            self.world.server.near("env", "-C", str(self.clone), *words),
            env={**runner, **values}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        secrets = [values[name] for name in values if "KUBECONFIG" in name or "SECRET" in name]
        return Running(process, folder, secrets)

    # A person in a clone

    def rollout(self, *words: str) -> Job:
        """What a person types who has the login of who administers the cluster."""
        settings = environment("admin", self.world.cluster)
        result = run(self.world.cluster.near(f"{self.clone}/deploy/bin/rollout", *words), False, "", settings)
        outcome = read_result(result.stdout)
        return Job(result.returncode, result.stdout + result.stderr, outcome.get("seconds", 0), "", outcome)


@dataclass
class Running:
    """A deploy step that runs."""

    process: "subprocess.Popen[str]"
    folder: Path
    secrets: list[str]

    def wait(self) -> Job:
        """Waits for its end; no secret may be in its log, and no file of it may be left."""
        log, _ = self.process.communicate(timeout=600)
        assert not list((self.folder / "temporary").iterdir()), "the step leaves nothing in RUNNER_TEMP"
        assert not any(secret in log for secret in self.secrets)
        output = self.folder / "output"
        written = output.read_text() if output.exists() else ""
        result = read_result(log)
        return Job(self.process.returncode, log, result.get("seconds", 0), written, result)


def read_result(log: str) -> dict[str, Any]:
    """The result of a request, which is its last line of JSON."""
    lines = [line for line in log.splitlines() if line.startswith("{")]
    result: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return result
