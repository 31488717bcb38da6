"""What a deploy does with good images and with bad ones, and what serves afterwards."""

import base64
import copy
import json
from pathlib import Path

import pytest

from kiwari_ci.engines.kubernetes.deploy_programs import rollout
from tests.kubernetes.fake_kubectl import Image, Killed
from tests.kubernetes.world import ACCESSORY, STACK, World, digest, job, web, worker

EXITS = Image(exits_after=0.5, exit_code=3)
HANGS = Image(answers_after=None)
DIES_LATE = Image(exits_after=8)
NO_PULL = Image(pull_error="failed to authorize: 401 Unauthorized")
OTHER_BYTES = Image(pulled_as="sha256:" + 64 * "e")
FORBIDDEN = Image(forbidden='pods "web" is forbidden: violates PodSecurity "baseline:latest": hostPath volumes')
BAD = {"exits": EXITS, "hangs": HANGS, "dies late": DIES_LATE, "no pull": NO_PULL, "forbidden": FORBIDDEN}


def test_the_first_deploy(world: World) -> None:
    outcome = world.deploy(1)

    assert outcome.code == 0
    assert world.serves(1)
    (row,) = outcome.result["services"]
    assert (row["before"], row["now"], row["result"]) == (None, digest("web", 1), "serving")
    assert world.records() == [f"{digest('web', 1)} 1"]


@pytest.mark.parametrize("replicas", [1, 3])
def test_a_good_image_replaces_the_old_one_without_a_gap(root: Path, replicas: int) -> None:
    world = World(root, web(replicas=replicas))
    world.deploy(1)
    outcome = world.deploy(2)

    assert outcome.code == 0
    assert world.serves(2)
    assert outcome.result["services"][0]["before"] == digest("web", 1)
    assert world.cluster.unserved == []


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_never_stops_a_good_one(root: Path, name: str, replicas: int) -> None:
    world = World(root, web(replicas=replicas))
    world.deploy(1)
    outcome = world.deploy(2, BAD[name])

    assert outcome.code == 1
    assert outcome.result["result"] == "failed"
    assert outcome.result["services"][0]["now"] == digest("web", 1)
    assert world.serves(1)
    assert world.records() == [f"{digest('web', 1)} 1"]
    assert world.deployment().sequence == 1
    assert world.deployment().is_settled
    assert world.cluster.unserved == []


@pytest.mark.parametrize("name", BAD)
def test_a_good_image_after_a_bad_one(world: World, name: str) -> None:
    world.deploy(1)
    world.deploy(2, BAD[name])

    assert world.deploy(3).code == 0
    assert world.serves(3)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_at_the_first_deploy(world: World, name: str) -> None:
    outcome = world.deploy(5, BAD[name])

    assert outcome.code == 1
    assert outcome.says("has served nothing before")
    assert outcome.result["services"][0]["now"] is None
    # An older commit may be deployed: the newer one has never served.
    assert world.deploy(4).code == 0
    assert world.serves(4)


@pytest.mark.parametrize("behaviour", [EXITS, DIES_LATE, NO_PULL, FORBIDDEN])
def test_what_cannot_get_well_is_noticed_at_once(world: World, behaviour: Image) -> None:
    world.deploy(1)

    assert world.deploy(2, behaviour).result["seconds"] < 15


def test_the_log_says_why(world: World) -> None:
    world.deploy(1)

    exits = world.deploy(2, EXITS)
    assert exits.says("did not stay up: exit code 3")
    assert exits.says("| ::error::a container says this")
    hangs = world.deploy(3, HANGS)
    assert hangs.says("did not answer :8080/health 200 within 75 seconds")
    assert hangs.says("Readiness probe failed")
    assert world.deploy(4, NO_PULL).says("ImagePullBackOff failed to authorize: 401 Unauthorized")
    assert world.deploy(5, FORBIDDEN).says("violates PodSecurity")


@pytest.mark.parametrize(
    ("event", "options", "is_shown"),
    [
        ('{"repository": {"private": true}}', [], True),
        ('{"repository": {"private": false}}', [], False),
        ('{"repository": {"private": false}}', ["--show-output"], True),
        ("{}", [], False),
    ],
)
def test_the_log_of_a_public_repository_has_no_output_of_containers(
    world: World, tmp_path: Path, event: str, options: list[str], is_shown: bool
) -> None:
    path = tmp_path / "event.json"
    path.write_text(event)
    world.environment |= {"GITHUB_ACTIONS": "true", "GITHUB_EVENT_PATH": str(path)}
    image = f"web={world.image('web', 1, EXITS)}"
    outcome = world.run("deploy", "--stack", "shop", "--sequence", "1", *options, image)

    assert outcome.code == 1
    assert outcome.says("did not stay up: exit code 3")
    assert outcome.says("a container says this") is is_shown
    assert outcome.says("(not shown, for everybody can read this log: ") is not is_shown


def test_other_bytes_than_those_of_the_digest(world: World) -> None:
    world.deploy(1)
    outcome = world.deploy(2, OTHER_BYTES)

    assert outcome.code == 1
    assert outcome.says("leads to other images")
    assert world.serves(1)


def test_a_whole_template_comes_back(world: World) -> None:
    """Also what else was wrong with the new one: its port, its probe."""
    world.deploy(1)
    world.write(web().replace("/health, port: http", "/wrong, port: http"))
    world.deploy(2, HANGS)

    template = world.deployment().document["spec"]["template"]
    assert template["spec"]["containers"][0]["readinessProbe"]["httpGet"]["path"] == "/health"
    assert len(world.cluster.of_kind("ReplicaSet")) == 2


def test_without_the_old_replica_set_the_file_has_to_do(world: World) -> None:
    world.deploy(1)
    mark = world.deployment().mark
    removed = [
        entry for entry in world.cluster.of_kind("ReplicaSet") if rollout.label(entry, rollout.RUN_LABEL) == mark
    ]

    def remove_set(document: dict[str, object]) -> None:
        world.kubectl.on_write = None
        for entry in removed:
            world.cluster.remove(entry)

    world.kubectl.on_write = remove_set
    assert world.deploy(2, EXITS).code == 1
    world.settle()
    assert world.serves(1)


def test_a_worker_has_no_addresses(root: Path) -> None:
    world = World(root, worker())

    assert world.deploy(1, None, "worker").result["services"][0]["now"] == digest("worker", 1)
    outcome = world.deploy(2, DIES_LATE, "worker")
    assert outcome.code == 1
    assert outcome.result["services"][0]["now"] == digest("worker", 1)


def test_one_that_must_be_alone(root: Path) -> None:
    world = World(root, web(strategy="Recreate"))
    world.deploy(1)

    assert world.deploy(2).code == 0
    assert world.deploy(3, EXITS).code == 1
    world.settle()
    assert world.serves(2)


@pytest.mark.parametrize(("good", "bad"), [("web", "api"), ("api", "web")])
def test_two_services_of_which_one_fails(root: Path, good: str, bad: str) -> None:
    world = World(root, web(), web("api"))
    world.deploy(1, None, "web", "api")
    images = [f"{good}={world.image(good, 2)}", f"{bad}={world.image(bad, 2, EXITS)}"]
    outcome = world.run("deploy", "--stack", STACK, "--sequence", "2", *images)

    assert outcome.code == 1
    assert outcome.results == {good: "serving", bad: "failed"}
    assert world.serves(2, good) and world.serves(1, bad)
    assert len(world.cluster.of_kind("ReplicaSet")) == 4  # the old template came back as it was
    assert outcome.says("VERSIONS ARE MIXED NOW")
    assert outcome.says(f"to go back: deploy/bin/rollout rollback shop {good} {digest(good, 1)}")


def test_a_deploy_of_one_service_leaves_the_other_alone(root: Path) -> None:
    world = World(root, web(), web("api"))
    world.deploy(1, None, "web", "api")
    before = world.deployment("api").document["spec"]
    world.deploy(2)

    assert world.deployment("api").document["spec"] == before
    assert world.serves(1, "api")


# Before the pods


def test_a_migration_runs_with_the_new_image_before_any_pod(root: Path) -> None:
    world = World(root, web(), job())
    world.deploy(1)
    world.deploy(2)

    assert world.kubectl.commands[:2] == ["create Job web-migrate-1", "apply Deployment web kiwari-ci"]
    (second,) = [entry for entry in world.cluster.of_kind("Job") if entry["metadata"]["name"] == "web-migrate-2"]
    assert second["spec"]["template"]["spec"]["containers"][0]["image"].endswith(digest("web", 2))


def test_a_failed_migration_changes_no_pod(root: Path) -> None:
    world = World(root, web(), job())
    world.deploy(1)
    template = world.deployment().document["spec"]["template"]
    outcome = world.deploy(2, Image(job_code=3))

    assert outcome.code == 1
    assert outcome.results == {"web": "not started"}
    assert outcome.says("web-migrate-2 failed: exit code 3")
    assert outcome.says("No pod of the services was changed")
    assert world.deployment().document["spec"]["template"] == template
    assert world.serves(1)


def test_a_migration_that_cannot_be_pulled_does_not_stay_in_the_way(root: Path) -> None:
    world = World(root, web(), job())
    world.deploy(1)

    outcome = world.deploy(2, NO_PULL)
    assert outcome.code == 1
    assert outcome.result["seconds"] < 15
    assert world.deploy(3).code == 0


def test_a_migration_of_a_deploy_that_was_killed_ends_first(root: Path) -> None:
    world = World(root, web(), job())
    world.deploy(1)
    world.kubectl.dies_after_command = "create Job web-migrate-2"
    with pytest.raises(Killed):
        world.deploy(2, Image(job_seconds=30))
    world.again()
    outcome = world.deploy(3)

    assert outcome.code == 0
    assert outcome.says("web-migrate-2 of another deploy is running: waiting")
    assert world.cluster.concurrent_jobs == 1


def test_a_job_runs_only_before_its_services(root: Path) -> None:
    world = World(root, web(), web("api"), job())
    world.deploy(1, None, "api")

    assert world.cluster.of_kind("Job") == []


def test_a_missing_accessory_is_started_and_then_left_alone(root: Path) -> None:
    world = World(root, web(), ACCESSORY.replace("CACHE", 64 * "c"))
    world.deploy(1)
    world.write(web() + ACCESSORY.replace("CACHE", 64 * "d"))
    world.deploy(2)

    image = world.deployment("cache").document["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image.endswith(64 * "c")
    assert world.run("deploy", "--stack", STACK, "--sequence", "3", f"cache={digest('cache', 1)}").code == 64


def test_env_files_become_secrets_and_are_never_printed(world: World) -> None:
    world.environment = {"JWT": "costs $5 'and' more\n"}
    image = world.image("web", 1)
    options = ["--env", ".env", "JWT_SECRET", "JWT", "--env-value", "api.env", "PLAIN", "-Xmx512m"]
    outcome = world.run("deploy", "--stack", STACK, "--sequence", "1", *options, f"web={image}")

    assert outcome.code == 0
    secret = world.cluster.objects[(STACK, "Secret", "env")]
    assert base64.b64decode(secret["data"]["JWT_SECRET"]).decode() == "costs $5 'and' more\n"
    assert (STACK, "Secret", "api-env") in world.cluster.objects
    assert not outcome.says("costs")
    assert not any("costs" in word or "Y29zdHM" in word for word in world.kubectl.arguments)


def test_a_deployment_that_left_the_file_is_reported(root: Path) -> None:
    world = World(root, web(), web("old"))
    world.deploy(1, None, "web", "old")
    world.write(web())
    outcome = world.deploy(2)

    assert outcome.code == 0
    assert outcome.says("note: old is not in kubernetes.yaml any more")


# The cluster is not well


def test_a_cluster_that_is_away_for_a_moment(world: World) -> None:
    world.deploy(1)
    clock = world.cluster.clock

    def leave() -> None:
        world.kubectl.away_until = clock + 18

    world.kubectl.at[clock + 6] = leave
    assert world.deploy(2).code == 0
    assert world.serves(2)


def test_a_cluster_that_does_not_answer(world: World) -> None:
    world.kubectl.away_until = 1e9
    outcome = world.deploy(1)

    assert outcome.code == 69
    assert outcome.says("the cluster does not answer")


def test_an_answer_that_gets_lost(root: Path) -> None:
    """Whether the command was done is looked up, at each of the calls."""
    world = World(root, web(), job())
    world.deploy(1)
    start = copy.deepcopy(world.cluster)
    count = world.kubectl.calls
    world.deploy(2)
    per_deploy = world.kubectl.calls - count
    for number in (*range(2, 18), *range(per_deploy - 5, per_deploy + 1)):  # the looks between them are alike
        world.cluster = copy.deepcopy(start)
        world.again().loses_answer_of = number
        assert world.deploy(2).code == 0, f"call {number}"
        assert world.serves(2)
        assert len(world.cluster.of_kind("Job")) == 2, f"the migration ran twice: call {number}"
        assert len(world.records()) == 2, f"call {number}"


def test_somebody_who_writes_all_the_time(world: World) -> None:
    world.deploy(1)

    def scale(document: dict[str, object]) -> None:
        if document["kind"] == "Deployment":
            world.cluster.touch(world.deployment().document)

    world.kubectl.on_write = scale
    outcome = world.deploy(2)
    assert outcome.code == 1
    assert outcome.says("changes all the time")
    assert world.serves(1)


def test_a_write_just_before_ours(world: World) -> None:
    world.deploy(1)

    def scale_once(document: dict[str, object]) -> None:
        world.kubectl.on_write = None
        world.cluster.touch(world.deployment().document)

    world.kubectl.on_write = scale_once
    assert world.deploy(2).code == 0
    assert world.serves(2)


def test_a_refused_login(world: World) -> None:
    world.kubectl.is_logged_out = True
    outcome = world.deploy(1)

    assert outcome.code == 77
    assert outcome.says("the cluster refuses the login")


@pytest.mark.parametrize(
    "right",
    [
        ("list", "deployments.apps"),
        ("list", "pods"),
        ("patch", "deployments.apps"),
        ("patch", "services"),
        ("create", "jobs.batch"),
    ],
)
def test_a_key_that_may_not(root: Path, right: tuple[str, str]) -> None:
    world = World(root, web(), job())
    world.deploy(1)
    before = json.dumps(world.deployment().document["spec"])
    world.kubectl.forbidden = {right}
    outcome = world.deploy(2)

    assert outcome.code == 69
    assert outcome.says(f"cannot {right[0]} resource")
    assert json.dumps(world.deployment().document["spec"]) == before
    assert world.serves(1)


def test_a_key_that_may_not_read_logs_still_goes_back(world: World) -> None:
    world.deploy(1)
    world.kubectl.forbidden = {("get", "pods/log"), ("list", "events")}

    assert world.deploy(2, EXITS).code == 1
    assert world.serves(1)
