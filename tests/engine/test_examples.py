"""Three example specs on trial: each is generated in full, and deployed by its generated workflows' own steps.

Real are the engine, compose, ssh, the registry, PostgreSQL, nginx before the service that is asked, and every
generated file with the host program. Stand-ins are the images: of the applications one that answers every path with
its version, and scripts for what else they call; of Redis and MySQL one that stays. GitHub is what a step's env is
told. Steps before the deploy, and the health check behind it, are not run here. Each of the three has a server of its
own, and they go through their deploys at the same time.
"""

import concurrent.futures
import contextlib
import re
from collections.abc import Callable, Iterator

import pytest

from tests.engine.examples import SETTINGS, Example, StandIns, Trial, answering, know
from tests.engine.images import Images
from tests.engine.proxy import Proxy
from tests.engine.server import throw_away

# Four minutes on three servers; other tests on the engine and the cases of the generator have each part of it.
pytestmark = pytest.mark.long
NAMES = ("bookings", "clinic", "ledger")
Trials = Callable[[str], Trial]


@pytest.fixture(scope="module")
def trials(engine: None) -> Iterator[Trials]:
    """All of them, side by side."""
    with contextlib.ExitStack() as stack:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            started = {name: pool.submit(run, name, stack) for name in NAMES}
        yield lambda name: ended(started[name])


def run(name: str, stack: contextlib.ExitStack) -> Trial:
    """One trial, on a server of its own, which stays."""
    server = stack.enter_context(throw_away())
    images = Images(server)
    trial = Trial(Example(server, name))
    plan, host = trial.example.plan, trial.example.host
    if plan.registry != "ghcr.io":
        know(images, plan.registry, plan.login.user)
    if host.port.option:
        stack.enter_context(answering(server, int(host.port.option)))
    stand_ins = StandIns(images, trial.web.repository.rpartition("/")[0])
    for accessory in trial.example.staging.accessories:
        stand_ins.build(accessory.image, accessory.image, "works", 9)
    return trial.run(stand_ins, Proxy(server, images))


def ended(future: concurrent.futures.Future[Trial]) -> Trial:
    """What was seen; where a trial could not go on, why."""
    error = future.exception()
    assert error is None, str(error)
    return future.result()


@pytest.fixture(params=NAMES)
def trial(request: pytest.FixtureRequest, trials: Trials) -> Trial:
    """One of them."""
    return trials(request.param)


def test_what_a_person_forgot_is_refused(trial: Trial) -> None:
    seen = trial.seen["forgotten"]
    words = "SECRET_DB_PASSWORD is not set: runbook" if trial.example.staging.sent else "still has change-me"
    assert seen.returncode and words in seen.output, seen.output
    assert seen.runs == {}


@pytest.mark.parametrize(("name", "version"), [("first", "one"), ("second", "two")])
def test_a_push_brings_its_digest_to_every_process(trial: Trial, name: str, version: str) -> None:
    seen = trial.seen[name]
    assert seen.returncode == 0, seen.output
    assert seen.runs == trial.expected(trial.example.staging, version)
    assert seen.answers.endswith(f"-{version}")
    assert "runs with other settings" not in seen.output, "nobody changed an accessory"


def test_a_new_version_comes_without_a_failed_request(trial: Trial) -> None:
    print(trial.asked)
    assert len(trial.asked) > 100
    assert not trial.asked.failed()
    assert [version[-3:] for version in trial.asked.versions()] == ["one", "two"]
    assert max(answer.waited for answer in trial.asked) < 5


def test_an_image_that_exits_is_red_and_the_old_one_serves(trial: Trial) -> None:
    seen = trial.seen["bad"]
    assert seen.returncode == 1, seen.output
    assert f"FAILED: {trial.web.container}; serving now: {trial.digests['two'][trial.web.source]}" in seen.output
    assert seen.runs == trial.expected(trial.example.staging, "two")
    assert seen.answers.endswith("-two")


def test_production_refuses_what_staging_never_served(trial: Trial) -> None:
    seen = trial.seen["strange"]
    assert seen.returncode, seen.output
    assert re.search(rf"{trial.example.staging.name}/\S+ has never served sha256:\w+\. Deploy it there", seen.output)
    assert seen.runs == {}


def test_production_gets_what_staging_serves(trial: Trial) -> None:
    seen, production = trial.seen["promoted"], trial.example.production
    assert seen.returncode == 0, seen.output
    assert seen.runs == trial.expected(production, "two")
    assert set(seen.runs.values()) == set(trial.seen["second"].runs.values())
    assert seen.answers.endswith("-two")


def test_a_person_goes_back(trial: Trial) -> None:
    seen, staging = trial.seen["back"], trial.example.staging
    assert seen.returncode == 0, seen.output
    (*others, last) = staging.instances
    assert seen.runs.pop(last.container) == trial.digests["one"][last.source]
    assert seen.runs == {instance.container: trial.digests["two"][instance.source] for instance in others}


@pytest.mark.parametrize(
    ("name", "migration"),
    [("bookings", "python manage.py migrate --noinput"), ("clinic", "php artisan migrate --force")],
)
def test_the_new_version_migrates_before_it_comes(trials: Trials, name: str, migration: str) -> None:
    trial = trials(name)
    for deploy, stack in (("second", trial.example.staging), ("promoted", trial.example.production)):
        output, container = trial.seen[deploy].output, stack.instances[0].container
        migrated = re.search(rf"\| version \S+-two: {migration}$", output, re.MULTILINE)
        started = re.search(rf"^==> (starting {container}-next|replacing {container}$)", output, re.MULTILINE)
        assert migrated and started and migrated.start() < started.start(), output


def test_a_backup_is_there_before_production_changes(trials: Trials) -> None:
    example = trials("bookings").example
    dump = (example.server.home / "backups/before-deploy.dump").read_bytes()
    assert dump.startswith(b"PGDMP")


def test_what_github_keeps_is_in_the_containers_env(trials: Trials) -> None:
    example = trials("clinic").example
    for stack in (example.staging, example.production):
        form = "{{range .Config.Env}}{{println .}}{{end}}"
        env = example.server.docker("inspect", "-f", form, stack.instances[0].container).splitlines()
        for name in ("APP_KEY", "DB_PASSWORD", "MAIL_HOST", "MAIL_PASSWORD"):
            (value,) = [value for key, value in SETTINGS.items() if key.endswith(f".{name}")]
            assert f"{name}={value}" in env


def test_maintenance_is_told_to_the_old_version_and_ended_by_the_new(trials: Trials) -> None:
    seen = trials("clinic").seen["by hand"]
    assert seen.returncode == 0, seen.output
    commands = re.findall(r"\| version clinic-app-(\w+): php artisan (down --retry=15|migrate --force|up)", seen.output)
    assert commands == [("two", "down --retry=15"), ("one", "migrate --force"), ("one", "up")]


def test_another_registrys_login_pulls(trials: Trials) -> None:
    trial = trials("ledger")
    for container in trial.seen["promoted"].runs:
        assert trial.example.server.image(container).startswith("registry.example.com/finance/ledger/ledger-")
