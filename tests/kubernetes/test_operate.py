"""`status`, `logs`, `exec` and `rollback` on a cluster: a stand-in for kubectl answers, and notes its words."""

import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from kiwari_ci import generator
from tests.cli_runner import kiwari_ci
from tests.kubernetes import person, running
from tests.kubernetes.world import World, digest

CASES = Path(__file__).parents[1] / "cases/ok"
PLAN, FILES = generator.generate_files(CASES / "kubernetes/spec.yaml")
MOVE = CASES / "kubernetes-move/spec.yaml"
STACK, WEB = "shop-production", "shop-web-production"
IMAGE = f"ghcr.io/example/shop-web@{running.first_digest('web')}"


class Shop:
    """A checkout with a spec for a cluster, and kubectl on the PATH."""

    def __init__(self, folder: Path, world: World) -> None:
        self.folder = folder
        self.world = world
        self.note = person.write_program(folder / "bin", running.all_objects(world, PLAN))

    def write_objects(self) -> None:
        """Let kubectl answer with what is in the cluster now."""
        self.note = person.write_program(self.folder / "bin", running.all_objects(self.world, PLAN))

    def words(self) -> list[list[str]]:
        """The words of each call of kubectl, without the limit of its time."""
        calls: list[list[str]] = list(map(json.loads, self.note.read_text().splitlines()))
        return [[word for word in words if not word.startswith("--request-timeout=")] for words in calls]


@pytest.fixture
def shop(root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A cluster to which both environments were deployed."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "specs").mkdir()
    shutil.copy(CASES / "kubernetes/spec.yaml", folder / "specs/shop.yaml")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
    return Shop(folder, running.deployed_world(root, PLAN, FILES))


def test_status_says_what_serves_and_since_when(shop: Shop) -> None:
    done = kiwari_ci("status", "production")

    assert done.code == 0, done.err
    assert done.out.startswith(f"production on cluster: {STACK}\n  {WEB}: 3 of 3 pods serve\n    image   {IMAGE}\n")
    assert "    source  commit number 2" in done.out
    assert "run https://github.com/example/shop/actions/runs/72\n" in done.out


def test_status_marks_what_does_not_serve(shop: Shop) -> None:
    slices: dict[str, Any] = shop.world.cluster.objects[(STACK, "EndpointSlice", f"{WEB}-slice")]
    slices["endpoints"][0]["conditions"]["ready"] = False
    shop.write_objects()

    done = kiwari_ci("status", "production")

    assert done.code == 1
    assert f"! {WEB}: 2 of 3 pods serve\n" in done.out


def test_status_of_a_rollback_and_of_a_rollout_under_way(shop: Shop) -> None:
    image = digest("web", 1)
    assert shop.world.run("rollback", STACK, WEB, image).code == 0
    deployment = shop.world.cluster.objects[(STACK, "Deployment", WEB)]
    deployment["metadata"]["annotations"]["kiwari-ci/sequence"] = "9"
    deployment["spec"]["template"]["metadata"]["labels"]["kiwari-ci/run"] = "99-a-1"
    shop.write_objects()

    done = kiwari_ci("status", "production")

    assert done.code == 0
    assert f"  {WEB}: 3 of 3 pods serve, a rollout of commit number 9 is under way\n" in done.out
    assert ", by hand, a rollback\n" in done.out


def test_status_before_the_first_deploy(shop: Shop) -> None:
    shop.world.cluster.objects.clear()
    shop.write_objects()

    done = kiwari_ci("status", "production")

    assert done.code == 1
    assert f"! {WEB}: there is no such Deployment\n" in done.out


def test_status_of_a_cluster_that_does_not_answer(shop: Shop) -> None:
    shop.folder.joinpath("bin/kubectl").write_text("#!/bin/sh\necho 'Unable to connect to the server' >&2\nexit 1\n")
    done = kiwari_ci("status", "production")
    assert done.code == 1
    assert "? kubectl: Unable to connect to the server\n" in done.out


def test_a_database_on_a_server_is_asked_there(shop: Shop) -> None:
    text = MOVE.read_text().replace("host: [vps, cluster]", "host: cluster")
    (shop.folder / "specs/shop.yaml").write_text(text)
    ssh = shop.folder / "bin/ssh"
    row = "container\tpostgres\tpostgres:16\tUp 3 weeks (healthy)\tpostgres"
    ssh.write_text(f"#!/bin/sh\necho '{row}'\n")
    ssh.chmod(0o755)

    done = kiwari_ci("status", "production", "postgres")

    assert (done.code, done.out) == (
        0,
        "production on vps: its database\n  postgres: postgres:16, Up 3 weeks (healthy)\n",
    )


def test_trace_reads_the_record_of_the_cluster(shop: Shop) -> None:
    traced = kiwari_ci("trace", "example.com")

    assert traced.code == 0, traced.err
    assert f"{WEB}, production on cluster" in traced.out
    assert IMAGE in traced.out and "actions/runs/72" in traced.out


def test_preview_reads_what_staging_served_from_the_cluster(shop: Shop) -> None:
    previewed = kiwari_ci("preview", "v1.0.0")

    served = running.first_digest("web")[:19]
    assert f"staging serves {served} since " in previewed.out
    assert f"production runs {served} since " in previewed.out
    assert "? cluster: it is a cluster: kiwari-ci doctor compares the Secrets" in previewed.out


def test_trace_and_preview_of_a_cluster_that_does_not_answer(shop: Shop) -> None:
    shop.folder.joinpath("bin/kubectl").write_text("#!/bin/sh\necho 'Unable to connect to the server' >&2\nexit 1\n")

    assert "? cluster: kubectl: Unable to connect to the server" in kiwari_ci("trace", "example.com").out
    assert "staging: cluster: kubectl: Unable to connect to the server" in kiwari_ci("preview", "v1.0.0").out
    assert kiwari_ci("trace", "example.com", "--context", "gone=x").code == 2


def test_logs_are_those_of_all_pods(shop: Shop) -> None:
    done = kiwari_ci("logs", "production", "web", "--tail", "5", "--follow", "--context", "cluster=admin")

    assert (done.code, done.out) == (0, f"[pod/{WEB}-1] a line\n")
    selector = f"app.kubernetes.io/name={WEB}"
    words = ["--context=admin", "logs", "-n", STACK, "-l", selector, "--prefix", "--tail=5", "--max-log-requests=50"]
    assert shop.words() == [[*words, "--follow"]]


def test_exec_passes_on_words_standard_input_and_the_exit_code(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    words = ["sh", "-c", "echo $HOME; exit 3", "--", "-x"]
    done = kiwari_ci("exec", "production", "web", "--", *words)

    assert done.code == 3
    assert shop.words() == [["exec", "-i", "-n", STACK, f"deployment/{WEB}", "--", *words]]


def test_rollback_runs_the_program_of_the_checkout(shop: Shop) -> None:
    program = shop.folder / "deploy/bin/rollout"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{shop.folder}/words\nexit 65\n')
    program.chmod(0o755)

    done = kiwari_ci("rollback", "production", "web", "--yes", "--context", "cluster=admin")

    assert done.code == 65
    assert (shop.folder / "words").read_text().split() == ["--context", "admin", "rollback", STACK, WEB]


def test_rollback_shows_what_serves_and_asks(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    done = kiwari_ci("rollback", "production", "web")

    assert done.code == 130
    assert IMAGE in done.out and f"Put the image that served before back into service: {WEB} on cluster?" in done.out


def test_rollback_outside_of_a_checkout_says_what_is_missing(shop: Shop) -> None:
    done = kiwari_ci("rollback", "production", "web", "--yes")

    assert done.code == 127
    assert "deploy/bin/rollout: No such file or directory" in done.err
    assert "run it in a clone of the repository" in done.err


def test_an_unknown_cluster(shop: Shop) -> None:
    done = kiwari_ci("status", "production", "--context", "vps=admin")

    assert done.code == 2
    assert "no cluster vps: the spec has cluster" in done.err


def test_of_several_clusters_each_needs_its_context(shop: Shop) -> None:
    spec = shop.folder / "specs/shop.yaml"
    text = spec.read_text().replace("hosts:\n", "hosts:\n  other: {engine: kubernetes, proxy: {kind: none}}\n")
    spec.write_text(text.replace("staging: {host: cluster,", "staging: {host: other,"))

    done = kiwari_ci("logs", "production", "web")
    assert done.code == 2
    assert "the spec has several clusters: --context cluster=CONTEXT says which context" in done.err
    assert kiwari_ci("logs", "production", "web", "--context", "cluster=admin").code == 0


def test_a_server_and_a_cluster_are_both_asked(shop: Shop) -> None:
    spec = shop.folder / "specs/shop.yaml"
    shutil.copy(MOVE, spec)
    ssh = shop.folder / "bin/ssh"
    ssh.write_text("#!/bin/sh\necho 'ssh: connect to host vps: refused' >&2\nexit 255\n")
    ssh.chmod(0o755)

    done = kiwari_ci("status", "production")

    assert done.code == 255
    assert "production on vps: " in done.out and "? connect to host vps: refused (ssh vps); --ssh vps=" in done.out
    assert "production on cluster: " in done.out
