"""The deploy jobs of generated workflows, run as a runner runs them: their own steps, with a job's environment."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import yaml

from kiwari_ci.plan_model import ComposeStack
from tests.engine.server import Result, Server


class DeployJobs:
    """The deploy jobs of a checkout; `settings` has what GitHub keeps, by the expression that reads it."""

    def __init__(self, server: Server, checkout: Path, folder: Path, settings: dict[str, str]) -> None:
        self.server, self.checkout, self.folder, self.settings = server, checkout, folder, settings
        self.sequence = 0

    def deploy(self, stack: ComposeStack, pattern: str, digests: Mapping[str, str]) -> Result:
        """Runs the step that deploys this stack in every workflow of this name, until one is red.

        digests: of each service that was built.
        """
        self.sequence += 1
        output = ""
        for path in sorted((self.checkout / ".github/workflows").glob(pattern)):
            job = yaml.safe_load(path.read_text())["jobs"][f"deploy-{stack.environment}"]
            (step,) = [step for step in job["steps"] if step.get("id") == "deploy"]
            own = digests.get(path.name.removesuffix("-ci.yml"), "")  # a promotion has none
            env = {name: self._value(text, {**digests, "": own}) for name, text in step["env"].items()}
            result = self._run(step["run"], env)
            output += result.stdout
            if result.returncode:
                break
        return Result(result.args, result.returncode, output)

    def _value(self, text: str, digests: Mapping[str, str]) -> str:
        """What GitHub puts in an expression's place."""
        expression = text.removeprefix("${{ ").removesuffix(" }}")
        name, _, service = expression.rpartition(".outputs.")[2].partition("-")
        shared = re.search(r"needs\.build-([\w-]+)\.outputs\.digest$", expression)
        if shared and shared[1] != "and-push":
            return digests.get(shared[1], "unchanged")
        if name == "digest":
            return digests[service]
        if name in ("sequence", "sequence_number"):
            return str(self.sequence)
        return self.settings.get(expression, "")

    def _run(self, script: str, env: Mapping[str, str]) -> Result:
        """Runs a step as a runner does, in the checkout."""
        folder = self.folder / f"runner-{len(list(self.folder.glob('runner-*')))}"
        folder.mkdir(parents=True)
        runner = {
            "GITHUB_RUN_ID": "7",
            "GITHUB_RUN_ATTEMPT": "1",
            "GITHUB_EVENT_NAME": "push",
            "GITHUB_SHA": "0" * 40,
            "GITHUB_WORKSPACE": str(self.checkout),
            "GITHUB_OUTPUT": str(folder / "output"),
            "GITHUB_STEP_SUMMARY": str(folder / "summary"),
            "GITHUB_EVENT_PATH": str(folder / "event.json"),
            "RUNNER_TEMP": str(folder),
        }
        # A run of a private repository shows what the containers print.
        (folder / "event.json").write_text('{"repository": {"private": true}}')
        return subprocess.run(
            self.server.near("env", "-C", str(self.checkout), "bash", "-eo", "pipefail", "-c", script),
            env={**os.environ, **runner, **env},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=400,
        )
