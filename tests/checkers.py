"""The outside checkers. Each takes many files, reads them in one go and returns what it says by line: [] is silence.

A checker that is not installed raises Missing; `.ci/install` installs those that `make` does not.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).with_suffix("")
NODE_MINIMUM = 20  # what @actions/languageservice asks for

# What a step's `shell` turns on; without one it is bash, too.
OPTIONS = {"bash": "set -eo pipefail", "sh": "set -e", None: "set -e"}

Checker = Callable[[Sequence[Path]], list[str]]


class Missing(Exception):
    """A checker is not installed here."""


def zizmor(workflows: Sequence[Path]) -> list[str]:
    """Security audits, the strictest persona, nothing ignored in a file, never online.

    One audit is left out: it wants `$/` in place of `./` before a workflow of the same repository, which actionlint
    refuses, and servers of GitHub Enterprise may not know yet.
    """
    flags = ["--offline", "--persona", "auditor", "--no-config", "--no-ignores", "--strict-collection"]
    findings = _run_checker([_find_tool("zizmor"), "--quiet", "--format", "github", *flags], workflows)
    return [finding for finding in findings if ",title=self-repository::" not in finding]


def workflow_schema(workflows: Sequence[Path]) -> list[str]:
    """The JSON Schema of GitHub's workflows."""
    return _run_checker([_find_tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows"], workflows)


def action_schema(actions: Sequence[Path]) -> list[str]:
    """The JSON Schema of an action's action.yml."""
    return _run_checker([_find_tool("check-jsonschema"), "--builtin-schema", "vendor.github-actions"], actions)


def dependabot_schema(files: Sequence[Path]) -> list[str]:
    """The JSON Schema of dependabot.yml."""
    return _run_checker([_find_tool("check-jsonschema"), "--builtin-schema", "vendor.dependabot"], files)


def compose_schema(stacks: Sequence[Path]) -> list[str]:
    """The JSON Schema of Compose files."""
    return _run_checker([_find_tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"], stacks)


def actionlint(workflows: Sequence[Path]) -> list[str]:
    """The Go program, without its calls of shellcheck: ours uses no exclusions.

    A workflow that a user has and that a generated one calls is no part of a case, so it cannot be read.
    """
    ignored = "could not read reusable workflow file"
    return _run_checker(
        [_find_tool("actionlint"), "-oneline", "-shellcheck=", "-pyflakes=", "-ignore", ignored], workflows
    )


def workflow_parser(workflows: Sequence[Path]) -> list[str]:
    """GitHub's own parser, the TypeScript sister of the one that runs workflows."""
    return _run_checker([*_node_command(), "parser"], workflows)


def language_service(workflows: Sequence[Path]) -> list[str]:
    """GitHub's own language service: what its editor underlines, warnings too.

    One warning is left out: it does not know the payload of `merge_group`, which GitHub's documentation has.
    """
    findings = _run_checker([*_node_command(), "service"], workflows)
    return [finding for finding in findings if not finding.endswith(": Context access might be invalid: merge_group")]


def kubernetes_schema(manifests: Sequence[Path]) -> list[str]:
    """The schemas of Kubernetes' objects, of the oldest version that the manifests are for and of a new one."""
    validate = [_find_tool("kubernetes-validate"), "--strict", "--quiet", "-k"]
    return [line for version in ("1.30", "1.35") for line in _run_checker([*validate, version], manifests)]


def yamllint(files: Sequence[Path]) -> list[str]:
    """Warnings count; the settings are the repository's."""
    return _run_checker([_find_tool("yamllint"), "-s", "-f", "parsable", "-c", str(ROOT / ".yamllint")], files)


def prettier(files: Sequence[Path]) -> list[str]:
    """Prettier with its defaults, as lint-staged runs it: it names the files that it would change."""
    node, *_ = _node_command()
    program = str(HERE / "node_modules/prettier/bin/prettier.cjs")
    return _run_checker(
        [node, program, "--no-config", "--no-editorconfig", "--ignore-path", "", "--list-different"], files
    )


def shellcheck(files: Sequence[Path]) -> list[str]:
    """Every script, and every `run` body of a workflow, in the dialect of its shell."""
    tool, complaints = _find_tool("shellcheck"), list[str]()
    with _write_scripts(files) as (folder, scripts):
        for shell in sorted({script.shell for script in scripts}):
            names = [Path(script.name) for script in scripts if script.shell == shell]
            complaints += _run_checker([tool, "--norc", "-f", "gcc", "-s", shell], names, cwd=folder)
    return complaints


def shell_syntax(files: Sequence[Path]) -> list[str]:
    """`bash -n`: the shell itself reads every script and every `run` body."""
    with _write_scripts(files) as (folder, scripts):
        return [
            line for script in scripts for line in _run_checker([script.shell, "-n"], [Path(script.name)], cwd=folder)
        ]


def compose_config(stacks: Sequence[Path]) -> list[str]:
    """`docker compose config`, beside empty env files; only what .env.example names has a value."""
    if subprocess.run([_find_tool("docker"), "compose", "version"], capture_output=True).returncode:
        raise Missing("docker compose (.ci/install-engine)")
    return [line for stack in stacks for line in _run_compose_config(stack)]


def findings(checker: Checker, files: Sequence[Path]) -> list[str]:
    """What it says; a test whose checker is missing is skipped, and fails where CI=true."""
    try:
        return checker(files)
    except Missing as missing:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"not installed: {missing}")


WORKFLOWS: list[Checker] = [
    zizmor,
    workflow_schema,
    actionlint,
    workflow_parser,
    language_service,
    yamllint,
    prettier,
    shellcheck,
    shell_syntax,
]
ACTIONS: list[Checker] = [zizmor, action_schema, yamllint, shellcheck, shell_syntax]
DEPENDABOT: list[Checker] = [zizmor, dependabot_schema, yamllint, prettier]
STACKS: list[Checker] = [compose_schema, compose_config, yamllint, prettier]
MANIFESTS: list[Checker] = [kubernetes_schema, yamllint]
SCRIPTS: list[Checker] = [shellcheck, shell_syntax]

# These read a hundred files in half a second, so the ordinary tests ask them about every tree. The others read
# `generated/` there, and every tree in the tests that are marked `exhaustive`.
QUICK: list[Checker] = [zizmor, actionlint]
# What these find, others find in the ordinary tests: the language service has the parser, and tests/kubernetes checks
# objects by their schemas.
FOR_CI_ALONE: list[Checker] = [workflow_parser, kubernetes_schema]


def mark_unless_quick(checker: Checker) -> list[pytest.MarkDecorator]:
    """The marks of a test that asks a checker about many trees."""
    return [] if checker in QUICK else [pytest.mark.exhaustive]


@dataclass(frozen=True)
class Script:
    """Shell text and who reads it.

    `a/b.yml:job.2` names the body of a job's third step; its first line is the options that GitHub gives the shell
    (https://docs.github.com/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idstepsshell).
    """

    name: str
    text: str
    shell: str


def scripts_of(file: Path) -> Iterator[Script]:
    """The file itself, or each `run` body of a workflow or an action whose shell is bash or sh."""
    name = str(file.relative_to(ROOT) if file.is_relative_to(ROOT) else file).lstrip("/")
    text = file.read_text()
    if file.suffix not in (".yml", ".yaml"):
        yield Script(name, text, "bash" if "bash" in text.partition("\n")[0] else "sh")
        return
    workflow = yaml.load(text, yaml.CSafeLoader)
    for job_id, job in (workflow.get("jobs") or {"runs": workflow["runs"]}).items():
        for index, step in enumerate(job.get("steps", [])):
            shell = step.get("shell") or _default_shell(job) or _default_shell(workflow)
            if "run" in step and shell in OPTIONS:
                yield Script(f"{name}:{job_id}.{index}", f"{OPTIONS[shell]}\n{step['run']}", shell or "bash")


def _default_shell(node: Mapping[str, Any]) -> str | None:
    shell: str | None = node.get("defaults", {}).get("run", {}).get("shell")
    return shell


@contextmanager
def _write_scripts(files: Iterable[Path]) -> Iterator[tuple[Path, list[Script]]]:
    """Write each script under its name into a scratch folder: what a tool says of it then begins with that name.

    Many workflows have the same step: a text is there once, under the name of the first that has it.
    """
    with tempfile.TemporaryDirectory() as scratch:
        first_of_its_text = dict[tuple[str, str], Script]()
        for script in (script for file in files for script in scripts_of(file)):
            first_of_its_text.setdefault((script.shell, script.text), script)
        scripts = list(first_of_its_text.values())
        for script in scripts:
            path = Path(scratch, script.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(script.text)
        yield Path(scratch), scripts


def _run_compose_config(stack: Path) -> list[str]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(shutil.copytree(stack.parent, scratch, dirs_exist_ok=True))
        for env_file in _env_files(stack):
            (folder / env_file).touch()
        example = folder / ".env.example"
        names = re.findall(r"^(\w+)=", example.read_text(), re.MULTILINE) if example.exists() else []
        environment = os.environ | dict.fromkeys(names, "stand-in")
        complaints = _run_checker(["docker", "compose", "config", "--quiet"], [], cwd=folder, env=environment)
        return [f"{stack}: {line}" for line in complaints]


def _env_files(stack: Path) -> Iterator[str]:
    for service in yaml.load(stack.read_text(), yaml.CSafeLoader)["services"].values():
        files = service.get("env_file", [])
        for file in [files] if isinstance(files, str) else files:
            yield file if isinstance(file, str) else file["path"]


def _find_tool(name: str) -> str:
    """Find a program, the environment's own first; Missing says how to get it."""
    path_of_tool = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not path_of_tool:
        raise Missing(f"{name} (.ci/install)")
    return path_of_tool


def _node_command() -> list[str]:
    node = _find_tool("node")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").split(".")[0]) < NODE_MINIMUM or not (HERE / "node_modules").exists():
        raise Missing(f"Node {NODE_MINIMUM} with what tests/checkers/package.json names (.ci/install)")
    return [node, "--no-warnings", str(HERE / "github.mjs")]


def _run_checker(
    argv: Sequence[str], files: Sequence[Path], cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> list[str]:
    """Run a checker: its lines when it fails or complains; what it prints of a success is no finding."""
    done = subprocess.run([*argv, *map(str, files)], cwd=cwd, env=env, capture_output=True, text=True)
    if not done.returncode:
        return done.stderr.splitlines()
    return (done.stdout + done.stderr).splitlines() or [f"{argv[0]} ended with {done.returncode} and said nothing"]
