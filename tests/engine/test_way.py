"""The workflow's own step, as it is generated: env files and a stack's files sent, to two hosts, one behind a jump."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from kiwari_ci import pipeline
from tests.engine.images import Images
from tests.engine.server import TOKEN, UID, USER, Server, eventually
from tests.engine.shop import allow

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
VALUES = {"SECRET_APR": """$apr1$x"y\\z #1""", "SECRET_OTHER": "it's", "VARIABLE_MODE": "äö = 1"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What is generated, as a checkout has it."""
    (tmp_path / "shop.yaml").write_text(SPEC)
    for path, file in pipeline.build(tmp_path / "shop.yaml")[1].items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(file.text)
    return tmp_path


def step(server: Server, tree: Path, folder: Path, digest: str, **values: str) -> subprocess.CompletedProcess[str]:
    """Runs the step on the machine, with what the two hosts and the jump are called there."""
    jobs = yaml.safe_load((tree / ".github/workflows/web-ci.yml").read_text())["jobs"]
    (run,) = [each["run"] for each in jobs["deploy-live"]["steps"] if each.get("id") == "deploy"]
    files = [tree / "deploy/shop" / name for name in ("docker-compose.yml", "hooks/after")]
    compose = subprocess.run(["sha256sum"], input=b"".join(map(Path.read_bytes, files)), capture_output=True).stdout
    host_key = (server.folder / "keys/host.pub").read_text()
    known = {"NEAR_KNOWN_HOSTS": "127.0.0.1", "FAR_JUMP_KNOWN_HOSTS": "127.0.0.1"}
    known |= {"FAR_KNOWN_HOSTS": "[127.0.0.1]:2222"}
    keys = {"NEAR_SSH_KEY": "sender", "FAR_SSH_KEY": "sender", "FAR_JUMP_SSH_KEY": "jump"}
    env = {
        **{f"{name}_HOST": "127.0.0.1" for name in ("NEAR", "FAR", "FAR_JUMP")},
        **{f"{name}_USER": USER for name in ("NEAR", "FAR", "FAR_JUMP")},
        **{name: f"{address} {host_key}" for name, address in known.items()},
        **{name: (server.folder / "keys" / key).read_text() for name, key in keys.items()},
        "REGISTRY_TOKEN": TOKEN,
        "DIGEST": digest,
        "SEQUENCE": "1",
        "COMPOSE": compose.decode()[:64],
        "GITHUB_RUN_ID": "7",
        "GITHUB_SHA": "0",
        "GITHUB_WORKSPACE": str(tree),
        "RUNNER_TEMP": str(folder),
        "GITHUB_OUTPUT": str(folder / "output"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary"),
        **VALUES,
        **values,
    }
    folder.mkdir()
    command = server.near("bash", "-eo", "pipefail", "-c", run)
    return subprocess.run(command, env={**os.environ, **env}, text=True, capture_output=True, timeout=300)


def test_a_deploy_brings_env_files_and_the_stacks_own_to_two_hosts(
    server: Server, images: Images, tree: Path, tmp_path: Path
) -> None:
    digest = images.api("way")
    allow(server, "sender", "shop shop:push shop:env")
    allow(server, "jump", "no-stack")
    lines = server.home / ".ssh/authorized_keys"
    jump = 'restrict,port-forwarding,permitopen="127.0.0.1:2222",command="false"'
    lines.write_text(lines.read_text().replace('restrict,command="docker/bin/deploy no-stack"', jump))
    (server.docker_folder / "shop").mkdir()
    server.run("chown", f"{UID}:{UID}", str(server.docker_folder / "shop"))
    sshd = ("/usr/sbin/sshd", "-D", "-e", "-f", f"{server.folder}/sshd_config", "-o", "ListenAddress=127.0.0.1:2222")

    with server.beside("bash", "-c", f"{' '.join(sshd)} & cat; kill $!"):
        probe = ("bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/2222")
        eventually(lambda: server.run(*probe, check=False).returncode == 0, 10, "the other port answers")
        good = step(server, tree, tmp_path / "good", digest)
        torn = step(server, tree, tmp_path / "torn", digest, SECRET_OTHER="two\nlines")

    assert good.returncode == 0, good.stdout + good.stderr
    assert (tmp_path / "good/output").read_text().splitlines() == [f"web=/health {digest}"] * 2
    assert (server.docker_folder / "shop/told").read_text() == "0\n0\n"
    env = server.docker("inspect", "-f", "{{range .Config.Env}}{{println .}}{{end}}", "shop-web-live").splitlines()
    assert {'PLAIN=a $ and "quotes"', "APR=" + VALUES["SECRET_APR"], "NAMED=it's", "MODE=äö = 1"} <= {*env}
    assert """| version way runs once: ["it's new"]""" in good.stdout
    left = {path.name for path in (tmp_path / "good").iterdir()}
    assert left == {"known_hosts", "config", "log", "output", "summary"}
    assert (torn.returncode, torn.stdout) == (1, "")
    assert "::error::NAMED: an env file cannot hold several lines" in torn.stderr and "two" not in torn.stderr
    server.docker("rm", "-fv", "shop-web-live")
