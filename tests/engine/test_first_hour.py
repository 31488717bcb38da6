"""The first hour of somebody else's project: a small spec, an empty server, the runbook, the first green run.

A person follows the generated runbook, with a stand-in for `gh` that keeps what it is given; GitHub is the rehearsal's,
which has the same from then on, and runs the generated workflow by act. DNS and Nginx Proxy Manager, steps 7 and 8,
have the rehearsal's stand-ins.
"""

import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli_runner import kiwari_ci
from tests.engine.conftest import missing
from tests.engine.images import Images
from tests.engine.person import Person, empty_server, step
from tests.engine.server import TOKEN, USER, without_waits
from tests.rehearsal.front import Front
from tests.rehearsal.github import GitHub, git
from tests.rehearsal.on_trial import act

SPEC = """
project: {name: shop, repository: example/shop}
hosts: {vps: {}}
services: {web: {port: 8080}}
environments: {live: {deploy_on: {push: main}, domains: {web: shop.example.com}}}
"""
SERVICE, STACK, KEY = "shop-web-live", "shop-live", ".ssh/shop-VPS_SSH_KEY"
DOCKERFILE = 'FROM scratch\nCOPY web/app /app\nENV VERSION={version} PORT=8080\nEXPOSE 8080\nENTRYPOINT ["/app"]\n'
GH = """#!/bin/sh
# A stand-in for gh: it keeps what `gh secret set` and `gh variable set` are given, and lists it.
mkdir -p ~/github/secret ~/github/variable
case "$1 $2" in
  'secret set' | 'variable set') exec cat >~/github/"$1/$3" ;;
  'secret list' | 'variable list') exec ls ~/github/"$1" ;;
  'api --silent' | 'workflow run') echo "$*" >>~/github/said ;;
  *) echo "not known: gh $*" >&2 && exit 1 ;;
esac
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one service, a small spec, and what it generates."""
    if lacks := [*missing(), *([] if os.path.exists(act()) else ["act"])]:
        words = f"the first hour needs {', '.join(lacks)}: as root on Debian 12, run .ci/install-engine"
        pytest.fail(words) if os.environ.get("CI") == "true" else pytest.skip(words)
    folder = tmp_path_factory.mktemp("shop")
    (folder / "specs").mkdir()
    (folder / "specs/shop.yaml").write_text(SPEC)
    (folder / "web").mkdir()
    (folder / "web/Dockerfile").write_text(DOCKERFILE.format(version="first"))
    result = kiwari_ci("generate", folder / "specs/shop.yaml", "--out", folder)
    assert result.code == 0, result.err
    return folder


@pytest.fixture(scope="module")
def person(tree: Path) -> Iterator[Person]:
    """Somebody at the beginning, with an empty server and an empty repository at GitHub."""
    with empty_server(tree, disk="2g") as person:
        person.server.docker("network", "rm", "proxy")
        (person.home / "bin/gh").write_text(GH)
        (person.home / "bin/gh").chmod(0o755)
        yield person


def follows(person: Person, number: int) -> str:
    """Types a step of the runbook, and what shows that it worked; returns what that printed."""
    commands, worked = step(number, person.clone)
    for command in (commands.replace("VPS=USER@ADDRESS", f"VPS={USER}@127.0.0.1"), worked):
        done = person.types(f"set -e\n{command}")
        assert done.returncode == 0, f"step {number}: {command}\n{done.stdout}{done.stderr}"
    return done.stdout


def github(person: Person) -> GitHub:
    """GitHub as the person has set it up: its secrets and variables, and the job's own token."""
    github = GitHub(person.server, act(), "example/shop")
    settings_folder = person.home / "github"
    github.secrets = {path.name: path.read_text() for path in (settings_folder / "secret").iterdir()} | {
        "GITHUB_TOKEN": TOKEN
    }
    github.variables = {path.name: path.read_text() for path in (settings_folder / "variable").iterdir()}
    git("-C", str(person.clone), "remote", "add", "origin", str(github.repository))
    return github


def commit(person: Person, words: str) -> str:
    """The person commits everything."""
    who = ("-c", "user.name=x", "-c", "user.email=x@example.com")
    git("-C", str(person.clone), "add", "--all")
    git("-C", str(person.clone), *who, "commit", "-qm", words)
    return git("-C", str(person.clone), "rev-parse", "HEAD")


def test_the_first_hour(person: Person) -> None:
    server, began = person.server, time.monotonic()
    assert "Docker Compose version" in follows(person, 1)
    assert follows(person, 3).startswith("bin/deploy ")
    assert follows(person, 4) == "known\n"
    assert set(follows(person, 5).split()) == {"VPS_HOST", "VPS_USER", "VPS_SSH_KEY", "VPS_KNOWN_HOSTS"}
    assert '"Name": "proxy"' in follows(person, 6)
    ready = time.monotonic()

    known = f"--known-hosts vps=$HOME/{KEY.replace('SSH_KEY', 'KNOWN_HOSTS')}"
    asked = person.types(f"{sys.executable} -m kiwari_ci doctor --ssh vps=$VPS {known}").stdout
    assert "deploy key VPS_SSH_KEY: restricted to shop-live" in asked
    assert re.findall(r"^  wrong +(.*?):", asked, re.MULTILINE) == ["proxy"], "the one that is still to do, step 8"

    # From here on no deploy waits for a proxy; for how long it would, other tests try.
    for folder in (person.clone / "deploy", server.docker_folder):
        without_waits(folder / STACK / "docker-compose.yml")
    images = Images(server)
    front = Front(server, images, tree=person.clone)
    assert person.types(step(8, person.clone)[1]).stdout.startswith("502 "), "nothing serves yet"
    shutil.copy(images.context / "app", person.clone / "web")
    runner, sha = github(person), commit(person, "the service")
    pushed = time.monotonic()
    # The push starts the workflow, so the person has nothing to start by hand.
    push, start_by_hand = step(10, person.clone)[0].splitlines()
    assert start_by_hand == "gh workflow run web-ci.yml --ref main"
    assert person.types(push).returncode == 0
    [run] = runner.pushed({"refs/heads/main": ("", sha)})
    assert run.wait(100).green, run.tail
    assert server.serves(SERVICE) == "first"
    green = time.monotonic()

    (person.clone / "web/Dockerfile").write_text(DOCKERFILE.format(version="second"))
    newer = commit(person, "the next")
    assert person.types("git push -q origin main").returncode == 0
    [run] = runner.pushed({"refs/heads/main": (sha, newer)})
    assert run.wait(100).green, run.tail
    assert server.serves(SERVICE) == "second"
    seconds = (ready - began, green - pushed, time.monotonic() - green)
    server.run("kill", (server.folder / "front.pid").read_text().strip())
    front.nginx.wait(10)
    print("seconds: the runbook {:.1f}, push to green {:.1f}, the next one {:.1f}".format(*seconds))
