"""The runbook's commands for a cluster, run by bash with a stand-in for kubectl."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from kiwari_ci import generator

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "tests/cases/ok/kubernetes/spec.yaml"
PASSWORD = "costs $5 and 'more"
# It writes its arguments to a file, and prints what a command of the runbook reads: a part of a Secret, or its input.
KUBECTL = """#!/bin/bash
printf '%s\\n' "$*" >>"$ARGUMENTS"
case "$*" in
  *config\\ view*) printf https://192.0.2.1:6443 ;;
  *data.token*) printf "${TOKEN-dG9rZW4tb2YtZGVwbG95}" ;;
  *ca*crt*) printf Y2VydGlmaWNhdGU= ;;
  *) cat "$([[ $* == *dev/stdin* ]] && echo /dev/stdin || echo -)" ;;
esac
"""


@pytest.fixture
def functions() -> str:
    """The block of the runbook that defines functions."""
    runbook = generator.generate_files(SPEC)[1]["deploy/RUNBOOK.md"].text
    (block,) = re.findall(r"^```bash\n(pull_secret\(\) .*?)^```$", runbook, re.M | re.S)
    return str(block)


def run(folder: Path, functions: str, command: str, typed: str = "") -> tuple[str, str]:
    """What a command prints, and the arguments with which it ran kubectl."""
    kubectl = folder / "kubectl"
    kubectl.write_text(KUBECTL)
    kubectl.chmod(0o755)
    arguments = folder / "arguments"
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "ARGUMENTS": str(arguments)}
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{functions}\n{command}"],
        input=typed, env=environment, cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, arguments.read_text()


def test_an_env_file_with_and_without_quotes(functions: str, tmp_path: Path) -> None:
    (tmp_path / "web.env").write_text(f"# a note\nKEY='{PASSWORD}'\nPLAIN=as it is\nEMPTY=''\n")
    output, arguments = run(tmp_path, functions, "env_secret shop-web web-env web.env")

    assert output == f"# a note\nKEY={PASSWORD}\nPLAIN=as it is\nEMPTY=\n"
    assert PASSWORD not in arguments
    assert "create secret generic web-env -n shop-web" in arguments


def test_the_token_for_images_is_in_no_argument(functions: str, tmp_path: Path) -> None:
    command = "REGISTRY=ghcr.io REGISTRY_USER=example; pull_secret shop-web"
    output, arguments = run(tmp_path, functions, command, typed="t0ken\n")
    login = json.loads(output.splitlines()[-1])

    assert login == {"auths": {"ghcr.io": {"auth": "ZXhhbXBsZTp0MGtlbg=="}}}  # base64 of example:t0ken
    assert "t0ken" not in arguments and "ZXhhbXBsZTp0MGtlbg==" not in arguments


def test_the_login_of_deploys(functions: str, tmp_path: Path) -> None:
    output, arguments = run(tmp_path, functions, "kubeconfig shop-web")
    config = json.loads(output)

    assert config["clusters"][0]["cluster"]["server"] == "https://192.0.2.1:6443"
    assert config["users"][0]["user"]["token"] == "token-of-deploy"
    assert config["contexts"][0]["context"]["namespace"] == "shop-web"
    assert "token-of-deploy" not in arguments


def test_a_login_that_the_cluster_has_not_made_yet(functions: str, tmp_path: Path) -> None:
    command = "TOKEN= ; export TOKEN; { kubeconfig shop-web || echo failed; } 2>&1"
    output, _ = run(tmp_path, functions, command)

    assert output == "the cluster has not written deploy-token of shop-web yet: run this line again\nfailed\n"
