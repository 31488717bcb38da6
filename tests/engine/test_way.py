"""The workflow's own steps, as generated: env files and a stack's files sent, to two hosts, one behind a jump."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kiwari_ci import generator
from kiwari_ci.file_output.generated_files import write_files
from tests.engine.images import Images
from tests.engine.server import TOKEN, UID, USER, Result, Server, eventually, outcome
from tests.engine.shop import allow
from tests.workflow import Workflow

SPEC = """\
project: {name: shop, repository: iqbalmuhyiddin/shop}
hosts:
  near: {proxy: {kind: none}}
  far: {port: 2222, jump: {}, proxy: {kind: none}}
services:
  web:
    image: kiwari-api
    port: 8081
    rollout: recreate
    migrate: [ends, "0", "it's new"]
    env:
      PLAIN: a $ and "quotes"
      APR: {secret: true}
      NAMED: {secret: OTHER}
      MODE: {variable: MODE}
environments:
  live:
    deploy_on: {push: main}
    stack: shop
    host: [near, far]
    env_from: github
    sync: push
    hooks: {after: 'echo "$EXIT_CODE" >>told'}
"""
# What is sent along, besides digest and sequence; each value has something that a shell or an env file trips over.
VALUES = {"SECRET_APR": """$apr1$x"y\\z #1""", "SECRET_OTHER": "it's", "VARIABLE_MODE": "äö = 1"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What is generated, as a checkout has it."""
    root = tmp_path / "checkout"
    root.mkdir()
    spec = tmp_path / "shop.yaml"
    spec.write_text(SPEC)
    plan, files = generator.generate_files(spec)
    write_files(root, files, plan.project)
    return root


@pytest.fixture
def hosts(server: Server) -> Iterator[dict[str, str]]:
    """The server as two hosts, with a stack that was never deployed; what a job's environment has to reach them."""
    server.docker("rm", "-fv", "shop-web-live", check=False)
    server.run("rm", "-rf", str(server.docker_folder / "shop"))
    (server.docker_folder / "shop").mkdir()
    server.run("chown", f"{UID}:{UID}", str(server.docker_folder / "shop"))
    allow(server, "sender", "shop shop:push shop:env")
    allow(server, "jump", "no-stack")
    lines = server.home / ".ssh/authorized_keys"
    jump = 'restrict,port-forwarding,permitopen="127.0.0.1:2222",permitlisten="localhost:1",command="false"'
    lines.write_text(lines.read_text().replace('restrict,command="docker/bin/deploy no-stack"', jump))
    sshd = f"/usr/sbin/sshd -D -e -f {server.folder}/sshd_config -o ListenAddress=127.0.0.1:2222"
    with server.beside("bash", "-c", f"{sshd} & cat; kill $!"):
        probe = ("bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/2222")
        eventually(lambda: server.run(*probe, check=False).returncode == 0, 10, "the other port answers")
        yield environment_of(server)
    server.docker("rm", "-fv", "shop-web-live", check=False)
    server.run("rm", "-rf", str(server.docker_folder / "shop"))


def environment_of(server: Server) -> dict[str, str]:
    """What the two hosts and the jump are called in the environment of the steps."""
    host_key = (server.folder / "keys/host.pub").read_text()
    private = {name: (server.folder / "keys" / name).read_text() for name in ("sender", "jump")}
    environment = {}
    for name, address, key in (
        ("NEAR", "127.0.0.1", "sender"),
        ("FAR", "[127.0.0.1]:2222", "sender"),
        ("FAR_JUMP", "127.0.0.1", "jump"),
    ):
        environment[f"{name}_HOST"] = "127.0.0.1"
        environment[f"{name}_USER"] = USER
        environment[f"{name}_SSH_KEY"] = private[key]
        environment[f"{name}_KNOWN_HOSTS"] = f"{address} {host_key}"
    return environment


def run_deploy_steps(server: Server, tree: Path, temporary: Path, environment: dict[str, str]) -> list[Result]:
    """Runs the steps that deploy, one for each host, in the checkout, until one of them fails."""
    jobs = Workflow((tree / ".github/workflows/web-ci.yml").read_text()).data["jobs"]
    steps = [step for step in jobs["deploy-live"]["steps"] if step.get("id", "").startswith("deploy-")]
    assert [step["id"] for step in steps] == ["deploy-near", "deploy-far"]
    (temporary / "event.json").write_text('{"repository": {"private": true}}')
    github = {
        "GITHUB_RUN_ID": "7",
        "GITHUB_RUN_ATTEMPT": "1",
        "GITHUB_EVENT_NAME": "push",
        "GITHUB_EVENT_PATH": str(temporary / "event.json"),
        "GITHUB_SHA": "0" * 40,
        "GITHUB_WORKSPACE": str(tree),
        "GITHUB_OUTPUT": str(temporary / "output"),
        "GITHUB_STEP_SUMMARY": str(temporary / "summary"),
        "TMPDIR": str(temporary / "private"),
        "REGISTRY_TOKEN": TOKEN,
        "SEQUENCE": "1",
    }
    (temporary / "private").mkdir(exist_ok=True)
    results = []
    for step in steps:
        command = server.near("env", "-C", str(tree), "bash", "-eo", "pipefail", "-c", step["run"])
        results.append(
            subprocess.run(
                command,
                env={**os.environ, **github, **VALUES, **environment},
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=300,
            )
        )
        if results[-1].returncode:
            break
    return results


def test_a_deploy_brings_env_files_and_the_stacks_own_to_two_hosts(
    server: Server, images: Images, tree: Path, tmp_path: Path, hosts: dict[str, str]
) -> None:
    digest = images.api("way")

    results = run_deploy_steps(server, tree, tmp_path, {**hosts, "DIGEST_WEB": digest})

    assert [result.returncode for result in results] == [0, 0], results[-1].stdout
    near, far = (result.stdout for result in results)
    assert (server.docker_folder / "shop/told").read_text() == "0\n0\n", "hooks/after came along, and ran each time"
    env = server.docker("inspect", "-f", "{{range .Config.Env}}{{println .}}{{end}}", "shop-web-live").splitlines()
    assert {'PLAIN=a $ and "quotes"', "APR=" + VALUES["SECRET_APR"], "NAMED=it's", "MODE=äö = 1"} <= {*env}
    assert """| version way runs once: ["it's new"]""" in near
    [service] = outcome(results[1])["services"]
    assert service["result"] == "unchanged", "it is the same server, which has it from the step before"
    assert (service["before"], service["now"]) == (digest, digest)
    assert digest[:19] in (tmp_path / "summary").read_text()
    assert not list((tmp_path / "private").iterdir()), "no key is left on the runner"
    assert TOKEN not in near + far


def test_a_value_that_no_env_file_can_hold_is_refused_before_any_host_is_asked(
    server: Server, images: Images, tree: Path, tmp_path: Path, hosts: dict[str, str]
) -> None:
    broken = {**hosts, "DIGEST_WEB": images.api("way"), "SECRET_OTHER": "two\nlines"}

    [result] = run_deploy_steps(server, tree, tmp_path, broken)

    assert result.returncode == 1
    assert "::error::NAMED: an env file cannot hold several lines" in result.stdout
    assert "two" not in result.stdout
    assert not list((server.docker_folder / "shop").iterdir())
