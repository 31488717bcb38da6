"""A small stand-in for GitHub's runner: the steps of a generated job, in order, their `run` bodies unchanged.

Stand-ins: checkout (a real clone, sparse where the step says so), login and build-push (the real docker). Not looked
at: triggers, `needs`, `if` and concurrency; the caller decides what runs.
"""

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.engine.server import TOKEN, USER, Result, Server, generated
from tests.workflow import Workflow

Context = dict[str, str]
DONE = Result([], 0, "")


@dataclass
class Ran:
    """What a job came to: its log, its outputs, its summary, and whether every step was green."""

    green: bool = True
    log: str = ""
    outputs: Context = field(default_factory=dict)
    summary: str = ""


class Runner:
    """Runs jobs of the generated workflows for commits of one repository."""

    def __init__(self, server: Server, repository: Path) -> None:
        self.server = server
        self.repository = repository
        self.secrets = {
            "VPS_HOST": "127.0.0.1",
            "VPS_USER": USER,
            "VPS_SSH_KEY": (server.folder / "keys/ci").read_text(),
            "GHCR_TOKEN": TOKEN,
            "GITHUB_TOKEN": TOKEN,
        }
        self.variables = {"VPS_KNOWN_HOSTS": (server.folder / "known_hosts").read_text()}
        self.runs = 0
        self.before_a_body: Callable[[], object] = lambda: None  # a test's way to break the world between two steps

    def job(self, workflow: str, job: str, ref: str, needs: Mapping[str, Ran] | None = None) -> Ran:
        """Runs one job for a branch or tag; `needs` are the jobs before it."""
        self.runs += 1
        folder = self.server.folder / f"run-{self.runs}"
        (folder / "work").mkdir(parents=True)
        (folder / "temp").mkdir()
        data = Workflow(generated(f".github/workflows/{workflow}.yml").read_text()).data["jobs"][job]
        ran, context = Ran(), self.context(ref, needs or {})
        for number, step in enumerate(data["steps"]):
            result = self.step(folder, number, step, context, ref)
            ran.log += result.stdout
            if result.returncode:
                ran.green = False
                break
        ran.outputs = {name: evaluated(text, context) for name, text in data.get("outputs", {}).items() if ran.green}
        summary = folder / "summary"
        ran.summary = summary.read_text() if summary.exists() else ""
        assert not (folder / "temp/key").exists(), "the private key outlived its step"
        shutil.rmtree(folder)
        return ran

    def context(self, ref: str, needs: Mapping[str, Ran]) -> Context:
        """Every expression that a step may hold, with its value."""
        found = {f"secrets.{name}": value for name, value in self.secrets.items()}
        found |= {f"vars.{name}": value for name, value in self.variables.items()}
        for job, ran in needs.items():
            found |= {f"needs.{job}.outputs.{name}": value for name, value in ran.outputs.items()}
        return found | {"github.sha": self.git("rev-parse", f"{ref}^{{commit}}"), "github.actor": "x-access-token"}

    def step(self, folder: Path, number: int, step: Mapping[str, Any], context: Context, ref: str) -> Result:
        """One step: a stand-in for an action, or a body as the runner runs it."""
        given = {name: evaluated(str(text), context) for name, text in step.get("with", {}).items()}
        match step.get("uses", "run").split("@")[0]:
            case "actions/checkout":
                return self.checkout(folder, given, ref)
            case "docker/login-action":
                return self.login(folder, given)
            case "docker/build-push-action":
                return self.build(folder, given, f"steps.{step['id']}.outputs.digest", context)
            case "docker/setup-buildx-action":
                return DONE
        self.before_a_body()
        output = folder / f"output-{number}"
        environment = {name: evaluated(text, context) for name, text in step.get("env", {}).items()}
        environment |= {"GITHUB_OUTPUT": str(output), "GITHUB_REF_NAME": ref, "GITHUB_SHA": context["github.sha"]}
        result = self.shell(folder, step["run"], environment)
        for line in output.read_text().splitlines() if output.exists() else ():
            name, _, value = line.partition("=")
            context[f"steps.{step.get('id')}.outputs.{name}"] = value
        return result

    def shell(self, folder: Path, body: str, environment: Mapping[str, str]) -> Result:
        """A body, in the bash that GitHub starts where a workflow says `shell: bash`."""
        (folder / "body.sh").write_text(body)
        words = 'cd "$1/work" && exec bash --noprofile --norc -eo pipefail "$1/body.sh" 2>&1'
        more = {
            "RUNNER_TEMP": str(folder / "temp"),
            "DOCKER_CONFIG": str(folder / "docker"),
            "GITHUB_STEP_SUMMARY": str(folder / "summary"),
            "GITHUB_RUN_ID": str(1000 + self.runs),
        }
        return self.server.run("bash", "-c", words, "bash", str(folder), check=False, env=more | dict(environment))

    def checkout(self, folder: Path, given: Context, ref: str) -> Result:
        """A clone with everything that the step asks for in its work tree, and with no more."""
        cone = given.get("sparse-checkout-cone-mode", "true") == "true"
        lines = given.get("sparse-checkout", "")
        sparse = f"git sparse-checkout set {'--cone' if cone else '--no-cone'} --stdin <<<$LINES\n" if lines else ""
        body = f'git clone -q --no-checkout "$REPOSITORY" .\n{sparse}git checkout -q "$REF"\n'.replace(
            "$LINES", '"$LINES"'
        )
        return self.shell(folder, body, {"REPOSITORY": str(self.repository), "LINES": lines, "REF": ref})

    def login(self, folder: Path, given: Context) -> Result:
        """What docker/login-action does."""
        body = 'docker login "$REGISTRY" -u "$USERNAME" --password-stdin <<<"$PASSWORD"'
        return self.shell(folder, body, {name.upper(): value for name, value in given.items()})

    def build(self, folder: Path, given: Context, output: str, context: Context) -> Result:
        """The image of what is in the work tree, pushed under each tag."""
        tags = given["tags"].splitlines()
        flags = [f"--tag={tag}" for tag in tags] + [f"--label={label}" for label in given["labels"].splitlines()]
        build = shlex.join(["docker", "build", "-q", "-f", given["file"], *flags, given["context"]])
        result = self.shell(folder, "\n".join([build, *(f"docker push -q {tag}" for tag in tags)]), {})
        if result.returncode == 0:
            digest = self.server.docker("inspect", "-f", "{{index .RepoDigests 0}}", tags[0]).partition("@")[2]
            self.server.docker("rmi", *tags)
            context[output] = digest
        return result

    def git(self, *words: str) -> str:
        """Asks the repository."""
        return subprocess.check_output(["git", "-C", self.repository, *words], text=True).strip()


def evaluated(text: str, context: Context) -> str:
    """A text with its expressions evaluated; an unset secret or variable is empty, anything else must be known."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        return context.get(name, "") if name.startswith(("secrets.", "vars.")) else context[name]

    return re.sub(r"\$\{\{ ([\w.-]+) \}\}", value, text)
