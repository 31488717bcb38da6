"""Tests: a job each, what it installs, and the containers beside it."""

from kiwari_ci import schema
from kiwari_ci.frozen import dataclass
from kiwari_ci.github.action_pins import build_pinned_action
from kiwari_ci.plan import CustomStep, KeyValue, MatrixAxis, SetupStep, TestContainer, TestJob
from kiwari_ci.planning.steps import ActionPins, plan_custom_steps


@dataclass(frozen=True)
class _SetupAction:
    """How a tool is installed: the action, and its inputs for a version, for a file of it, and against its cache."""

    action: str
    version: str
    file: str
    no_cache: str = ""
    distribution: str = ""


SETUP_ACTIONS = {
    "go": _SetupAction("actions/setup-go", "go-version", "go-version-file", no_cache="cache"),
    "java": _SetupAction("actions/setup-java", "java-version", "java-version-file", distribution="temurin"),
    "pnpm": _SetupAction("pnpm/action-setup", "version", "package_json_file"),
    "node": _SetupAction("actions/setup-node", "node-version", "node-version-file", no_cache="package-manager-cache"),
    "python": _SetupAction("actions/setup-python", "python-version", "python-version-file"),
    "uv": _SetupAction("astral-sh/setup-uv", "version", "version-file", no_cache="enable-cache"),
}


def plan_test_jobs(model: schema.Service, actions: ActionPins) -> tuple[TestJob, ...]:
    """The jobs that gate a build."""
    named = {"test": model.test} if model.test else {f"test-{name}": test for name, test in model.tests.items()}
    before = plan_custom_steps(model.steps.before_test, actions)
    return tuple(_plan_test_job(job, test, before, actions) for job, test in named.items())


def _plan_test_job(job: str, test: schema.Test, before: tuple[CustomStep, ...], actions: ActionPins) -> TestJob:
    services = tuple(_plan_test_container(name, service) for name, service in test.services.items())
    of_matrix = [KeyValue(key, f"${{{{ matrix.{key} }}}}") for key in test.matrix]
    return TestJob(
        job=job,
        minutes=test.timeout_minutes,
        axes=tuple(MatrixAxis(key, tuple(values)) for key, values in test.matrix.items()),
        setups=tuple(_plan_setup_step(kind, tool, actions) for kind, tool in test.setup or () if tool),
        services=services,
        waited_for=tuple(service.name for service in services if service.is_waited_for),
        env=(*of_matrix, *(KeyValue(key, value) for key, value in test.env.items())),
        working_directory=test.working_directory or "",
        run=test.run.rstrip("\n") + "\n",
        steps=before,
    )


def _plan_setup_step(kind: str, tool: schema.Tool, actions: ActionPins) -> SetupStep:
    way = SETUP_ACTIONS[kind]
    version = f"${{{{ matrix.{tool.matrix} }}}}" if tool.matrix else tool.version
    option = way.file if tool.version_file else way.version
    return SetupStep(
        build_pinned_action(actions[way.action]),
        option,
        tool.version_file or str(version),
        way.no_cache,
        way.distribution,
    )


def _plan_test_container(name: str, service: schema.TestService) -> TestContainer:
    words = ["--name", name]
    words += [word for port in service.ports or () for word in ("--publish", port)]
    words += [word for key, value in service.env.items() for word in ("--env", f"{key}={value}")]
    if service.health:
        words += ["--health-cmd", service.health, "--health-interval", "2s", "--health-retries", "30"]
    return TestContainer(name, (*words, service.image, *(service.command or ())), service.health is not None)
