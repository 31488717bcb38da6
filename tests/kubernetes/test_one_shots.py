"""Services that end: they run before those that wait for them, and their exit code is their result."""

import copy
from pathlib import Path

import pytest

from kiwari_ci import generator
from kiwari_ci.commands import operate, operate_cluster
from kiwari_ci.engines.kubernetes import manifests
from kiwari_ci.engines.kubernetes.deploy_programs import rollout
from kiwari_ci.remote_checks import cluster, cluster_checks, deploy_records
from kiwari_ci.remote_checks.calls import ProcessResult
from kiwari_ci.remote_checks.findings import Finding, FindingGroup
from kiwari_ci.remote_checks.runbook_index import RunbookIndex
from tests.kubernetes import running
from tests.kubernetes.fake_kubectl import Image, Json, Killed
from tests.kubernetes.person import PersonKubectl
from tests.kubernetes.together import run_together
from tests.kubernetes.world import STACK, World, digest, job, one_shot, web

PARCELS = Path(__file__).parents[2] / "specs/examples/parcels.yaml"
TARIFFS = "parcels-tariffs-staging"
FAILS = Image(job_code=7)
SLOW = Image(job_seconds=6)
DELAYS = [0, 0.35, 1.3, 3, 6, 9, 14, 20]


@pytest.fixture
def world(root: Path) -> World:
    return World(root, one_shot(), web(), job())


def order(world: World, version: int, seed: Image | None = None, *more: str) -> tuple[str, ...]:
    """A deploy of both services."""
    images = [f"web={world.image('web', version)}", f"seed={world.image('seed', version, seed)}"]
    return ("deploy", "--stack", STACK, "--sequence", str(version), *more, *images)


def seeds(world: World) -> list[Json]:
    """The Jobs of the one-shot, oldest first."""
    jobs = world.cluster.of_kind("Job", STACK)
    return rollout.by_number(entry for entry in jobs if rollout.label(entry, rollout.SERVICE_LABEL) == "seed")


def ran(world: World) -> list[str]:
    """The digests with which the one-shot was started, oldest first."""
    return [rollout.digest_of(rollout.image_in(entry["spec"]["template"])) for entry in seeds(world)]


def test_it_runs_before_what_waits_for_it(world: World) -> None:
    outcome = world.run(*order(world, 1))

    assert outcome.code == 0
    assert outcome.results == {"web": "serving", "seed": "serving"}
    assert ran(world) == [digest("seed", 1)]
    commands = ["create Job web-migrate-1", "create Job seed-1", "apply Deployment web kiwari-ci"]
    assert world.kubectl.commands[:3] == commands
    assert outcome.says("| the log of job/seed-1")
    assert outcome.says(f"HAS RUN TO ITS END: seed with {digest('seed', 1)}")
    now = {entry["service"]: entry["now"] for entry in outcome.result["services"]}
    assert now == {"web": digest("web", 1), "seed": digest("seed", 1)}


def test_it_runs_again_with_the_same_image(world: World) -> None:
    world.deploy(1, None, "seed")

    assert world.deploy(1, None, "seed").code == 0
    assert ran(world) == [digest("seed", 1)] * 2


def test_one_that_fails_changes_no_pod(world: World) -> None:
    world.run(*order(world, 1))
    template = world.deployment().document["spec"]["template"]
    outcome = world.run(*order(world, 2, FAILS))

    assert outcome.code == 1
    assert outcome.says("seed-2 failed: exit code 7")
    assert outcome.results == {"web": "not started", "seed": "failed"}
    assert {entry["service"]: entry["now"] for entry in outcome.result["services"]}["seed"] == digest("seed", 1)
    assert world.deployment().document["spec"]["template"] == template
    assert world.serves(1)


def test_one_that_fails_lets_none_run_after_it(root: Path) -> None:
    """In the order of the file, which is that of `depends_on`, whatever the order of the request is."""
    world = World(root, one_shot("schema", "seed web"), one_shot(), web())
    world.image("schema", 1, FAILS)
    images = [f"{name}={digest(name, 1)}" for name in ("web", "seed", "schema")]
    outcome = world.run("deploy", "--stack", STACK, "--sequence", "1", *images)

    assert outcome.code == 1
    assert outcome.results == {"web": "not started", "seed": "not started", "schema": "failed"}
    assert [entry["metadata"]["name"] for entry in world.cluster.of_kind("Job")] == ["schema-1"]


def test_what_waits_for_one_that_never_ran_is_refused(world: World) -> None:
    world.deploy(1, FAILS, "seed")
    outcome = world.deploy(1)

    assert outcome.code == 69
    assert outcome.says("web depends on seed, which has never run to its end. Deploy seed first")
    assert world.cluster.of_kind("Deployment") == []


def test_what_waits_for_it_is_deployed_without_it(world: World) -> None:
    world.deploy(1, None, "seed")

    assert world.deploy(2).code == 0
    assert ran(world) == [digest("seed", 1)]


def test_a_rollback_runs_the_image_before(world: World) -> None:
    for version in (1, 2):
        assert world.deploy(version, None, "seed").code == 0
    outcome = world.rollback("seed")

    assert outcome.code == 0
    assert ran(world)[-1] == digest("seed", 1)
    assert outcome.result["services"][0]["now"] == digest("seed", 1)
    assert world.rollback("seed").code == 65
    assert world.rollback("seed", to=digest("seed", 9)).code == 65
    assert world.deploy(2, None, "seed").code == 0  # the number is lowered, as that of a service


def test_an_older_commit_does_not_run_it_again(world: World) -> None:
    world.deploy(2, None, "seed")
    outcome = world.deploy(1, None, "seed")

    assert outcome.code == 3
    assert outcome.result["newest_sequence"] == 2
    assert ran(world) == [digest("seed", 2)]


def test_an_older_commit_runs_it_if_the_newer_one_failed(world: World) -> None:
    world.deploy(2, FAILS, "seed")

    assert world.deploy(1, None, "seed").code == 0


def test_a_person_chooses_an_older_commit(world: World) -> None:
    for version in (1, 2):
        assert world.run(*order(world, version)).code == 0
    world.environment |= {"GITHUB_EVENT_NAME": "workflow_dispatch", "GITHUB_RUN_ATTEMPT": "1"}
    outcome = world.run(*order(world, 1, None, "--put-back"))

    assert outcome.code == 0
    assert world.serves(1)
    assert ran(world)[-1] == digest("seed", 1)
    assert rollout.sequence_of(seeds(world)[-1]) == 2  # a run of commit 1 that comes late changes nothing


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("newer_begins", [True, False])
def test_two_deploys_at_once(world: World, delay: float, newer_begins: bool) -> None:
    """The image of the newer commit runs last, and no two run at the same time."""
    assert world.run(*order(world, 1)).code == 0
    older, newer = order(world, 7, SLOW), order(world, 8, SLOW)
    first, second = (newer, older) if newer_begins else (older, newer)
    outcomes = run_together(world, (0, first), (delay, second))

    assert {outcome.code for outcome in outcomes} <= {0, 3}
    assert outcomes[0 if newer_begins else 1].code == 0
    assert ran(world)[-1] == digest("seed", 8)
    assert world.cluster.concurrent_jobs <= 2  # the migration of one, and the one-shot of the other
    assert world.serves(8)


@pytest.mark.parametrize("delay", DELAYS)
def test_two_deploys_of_it_alone(world: World, delay: float) -> None:
    requests = [
        ("deploy", "--stack", STACK, "--sequence", str(n), f"seed={world.image('seed', n, SLOW)}") for n in (8, 7)
    ]
    newer, older = run_together(world, (0, requests[0]), (delay, requests[1]))

    assert (newer.code, older.code) == (0, 3)
    assert ran(world) == [digest("seed", 8)]
    assert older.result["services"][0]["now"] == digest("seed", 8)
    assert world.cluster.concurrent_jobs == 1


def test_what_staging_never_ran_is_refused(root: Path) -> None:
    world = World(root, one_shot(notes="\n    kiwari-ci/from: staging/seed"), web())
    world.write(one_shot() + web(), "staging")
    request = ("--stack", "staging", "--sequence", "1", f"seed={world.image('seed', 1, FAILS)}")
    assert world.run("deploy", *request).code == 1
    outcome = world.deploy(1, None, "seed")

    assert outcome.code == 65
    assert outcome.says(f"staging/seed has never served {digest('seed', 1)}")
    assert ran(world) == []
    assert world.run("deploy", *request).code == 0
    assert world.deploy(1, None, "seed").code == 0


def test_its_jobs_do_not_grow_without_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "RECORDS_TO_KEEP", 3)
    for version in range(1, 6):
        assert world.deploy(version, None, "seed").code == 0
        assert world.deploy(100 + version, FAILS, "seed").code == 1
    assert world.deploy(99, None, "seed").code == 0

    outcomes = [rollout.outcome_of(entry) for entry in seeds(world)]
    assert (outcomes.count("Complete"), outcomes.count("Failed")) == (3, 2)
    assert ran(world)[-1] == digest("seed", 99)


def test_what_is_left_when_it_leaves_the_file_is_reported(world: World) -> None:
    world.deploy(1, None, "seed")
    world.write(web())
    outcome = world.deploy(1)

    assert outcome.code == 0
    assert outcome.says("note: seed does not run once any more, and its Jobs are still there. To remove them: kubectl")


def test_what_served_under_its_name_is_reported(root: Path) -> None:
    """It was a service that goes on, and is one that ends now."""
    world = World(root, web("seed"))
    world.deploy(1, None, "seed")
    world.write(one_shot())
    outcome = world.deploy(2, None, "seed")

    assert outcome.code == 0
    assert outcome.says("note: seed is not in kubernetes.yaml any more, and still runs")


def test_status_says_how_it_ended(world: World) -> None:
    assert world.run("status", STACK).says("shop/seed: HAS NEVER RUN")
    world.deploy(1, None, "seed")
    assert world.run("status", STACK).says(
        f"shop/seed: has run to its end\n  ran: ghcr.io/acme/seed@{digest('seed', 1)}"
    )
    world.deploy(2, FAILS, "seed")
    assert world.run("status", STACK).says("shop/seed: FAILED: its newest Job failed")


def test_check_asks_whether_the_cluster_takes_it(world: World) -> None:
    assert world.run("check", STACK).code == 0
    world.kubectl.forbidden = {("create", "jobs.batch")}
    assert world.run("check", STACK).code == 69


def test_an_answer_that_gets_lost(world: World) -> None:
    """Whether the command was done is looked up, at each of the calls."""
    world.deploy(1, None, "seed")
    start = copy.deepcopy(world.cluster)
    count = world.kubectl.calls
    world.deploy(2, None, "seed")
    per_deploy = world.kubectl.calls - count
    for number in range(2, per_deploy + 1):
        world.cluster = copy.deepcopy(start)
        world.again().loses_answer_of = number
        assert world.deploy(2, None, "seed").code == 0, f"call {number}"
        assert ran(world) == [digest("seed", 1), digest("seed", 2)], f"call {number}"


def test_a_deploy_that_was_killed_at_any_call_is_done_by_the_next(world: World) -> None:
    world.deploy(1, None, "seed")
    start = copy.deepcopy(world.cluster)
    count = world.kubectl.calls
    world.deploy(2, SLOW, "seed")
    for number in range(1, world.kubectl.calls - count + 1):
        world.cluster = copy.deepcopy(start)
        world.again().dies_after = number
        with pytest.raises(Killed):
            world.deploy(2, SLOW, "seed")
        world.again()

        assert world.deploy(2, SLOW, "seed").code == 0, f"call {number}"
        assert ran(world)[-1] == digest("seed", 2), f"call {number}"
        assert world.cluster.concurrent_jobs == 1, f"call {number}"


# What is generated


def test_jobs_come_in_the_order_of_what_they_wait_for(tmp_path: Path) -> None:
    """The order of the file is that in which they run; a service and an accessory may both be waited for."""
    text = PARCELS.read_text().replace(
        "    command: [import]\n", "    command: [import]\n    depends_on: {schema: completed}\n"
    )
    text = text.replace(
        "accessories:\n", "  schema: {image_of: web, once: true, depends_on: {buckets: completed}}\n\naccessories:\n"
    )
    (tmp_path / "parcels.yaml").write_text(text)
    plan, _ = generator.generate_files(tmp_path / "parcels.yaml")
    documents = [manifests.thaw(document) for document in plan.cluster_stacks[0].objects]
    jobs = [document for document in documents if document["kind"] == "Job"]
    waiting = {document["metadata"]["name"]: rollout.waiting_services(document) for document in jobs}

    assert list(waiting) == [f"parcels-{name}" for name in ("buckets-staging", "schema-staging", "tariffs-staging",
                                                            "web-staging-migrate")]  # fmt: skip
    assert waiting["parcels-buckets-staging"] == ["parcels-web-staging", "parcels-schema-staging"]
    assert waiting["parcels-schema-staging"] == [TARIFFS]
    assert waiting[TARIFFS] == ["parcels-web-staging"]
    assert not any(document["metadata"]["name"] == TARIFFS and document["kind"] != "Job" for document in documents)
    assert "ttlSecondsAfterFinished" not in jobs[1]["spec"], "its Jobs are its record"


# What a person asks


def asked(root: Path, behaviour: Image | None = None) -> tuple[cluster.StackFacts, operate.ContainerStatus, list[str]]:
    """What the cluster says of staging's one-shot after two deploys: the facts, `status`, and what `trace` reads."""
    plan, files = generator.generate_files(PARCELS)
    world = running.deployed_world(root, plan, files)
    if behaviour:
        image = world.image("tariffs", 2, behaviour)
        assert world.run("deploy", "--stack", "parcels-staging", "--sequence", "9", f"{TARIFFS}={image}").code == 1
    person = PersonKubectl(running.all_objects(world, plan))

    def run(words: list[str], stdin: str) -> ProcessResult:
        return ProcessResult(*person.answer(words[1:], stdin))

    kubectl = cluster.Kubectl("", run)  # type: ignore[arg-type]
    stack = next(stack for stack in plan.cluster_stacks if stack.environment == "staging")
    place = next(place for place in operate.list_containers(plan, "staging") if place.container == TARIFFS)
    facts = cluster.probe_stack(stack, kubectl)
    (status,) = operate_cluster.query_status("staging", "cluster", stack, [place], kubectl).containers
    lines = deploy_records._list_record_lines(stack, rollout.parse_state(facts.running.objects))
    return facts, status, [record for _, _, name, record in lines if name == TARIFFS]


def examined(facts: cluster.StackFacts) -> Finding:
    """What the doctor says of it."""
    plan, _ = generator.generate_files(PARCELS)
    stack = next(stack for stack in plan.cluster_stacks if stack.environment == "staging")
    runbook = RunbookIndex(plan.runbook, {}).for_cluster("cluster")
    findings = cluster_checks.check_stack(FindingGroup("x"), stack, facts, runbook)
    return next(finding for finding in findings if finding.subject == TARIFFS)


def test_status_trace_and_the_doctor_know_it(root: Path) -> None:
    facts, status, records = asked(root)

    wanted = running.first_digest("tariffs")
    assert (status.state, status.is_serving) == ("has run to its end", True)
    assert status.deployed and status.deployed.digest == wanted
    assert [wanted in record for record in records] == [True]
    finding = examined(facts)
    assert finding.state == "ok" and finding.saw.startswith(
        f"has run to its end with {wanted[:19]}, by the record of 2"
    )


def test_status_and_the_doctor_know_that_it_failed(root: Path) -> None:
    facts, status, records = asked(root, FAILS)

    assert (status.state, status.is_serving) == ("FAILED: its newest Job failed", False)
    assert len(records) == 1
    finding = examined(facts)
    assert (finding.state, finding.saw) == ("wrong", f"the Job {TARIFFS}-2 failed")
    assert f"kubectl -n parcels-staging logs job/{TARIFFS}-2" in finding.cure


def test_the_doctor_before_its_first_deploy(root: Path) -> None:
    assert examined(cluster.StackFacts()).state == "not asked"
