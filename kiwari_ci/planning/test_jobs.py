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


def plan_test_jobs(service: schema.Service, pins: ActionPins) -> tuple[TestJob, ...]:
    """Plan the jobs that gate a build."""
    tests = {f"test-{name}": test for name, test in service.tests.items()}
    if service.test:
        tests = {"test": service.test}
    first_steps = plan_custom_steps(service.steps.before_test, pins)
    return tuple(_plan_test_job(job, test, first_steps, pins) for job, test in tests.items())


def name_test_job(job: str, service: str) -> str:
    """Name a test among those of other services: `test-api`, `test-api_unit`; no name of a spec has a `_`."""
    return f"test-{service}{job.removeprefix('test').replace('-', '_', 1)}"


def _plan_test_job(job: str, test: schema.Test, first_steps: tuple[CustomStep, ...], pins: ActionPins) -> TestJob:
    containers = tuple(_plan_test_container(name, service) for name, service in test.services.items())
    matrix_variables = [KeyValue(key, f"${{{{ matrix.{key} }}}}") for key in test.matrix]
    own_variables = [KeyValue(key, value) for key, value in test.env.items()]
    return TestJob(
        job=job,
        needs="",
        condition="",
        workflow=test.workflow or "",
        minutes=test.timeout_minutes,
        axes=tuple(MatrixAxis(key, tuple(values)) for key, values in test.matrix.items()),
        setups=tuple(_plan_setup_step(kind, tool, pins) for kind, tool in test.setup or () if tool),
        services=containers,
        waited_for=tuple(container.name for container in containers if container.is_waited_for),
        env=(*matrix_variables, *own_variables),
        working_directory=test.working_directory or "",
        run=test.run.rstrip("\n") + "\n" if test.run else "",
        steps=first_steps,
    )


def _plan_setup_step(kind: str, tool: schema.Tool, pins: ActionPins) -> SetupStep:
    setup = SETUP_ACTIONS[kind]
    version = f"${{{{ matrix.{tool.matrix} }}}}" if tool.matrix else str(tool.version)
    return SetupStep(
        build_pinned_action(pins[setup.action]),
        setup.file if tool.version_file else setup.version,
        tool.version_file or version,
        setup.no_cache,
        setup.distribution,
    )


def _plan_test_container(name: str, service: schema.TestService) -> TestContainer:
    """Plan the words of the `docker run` that starts a container."""
    words = ["--name", name]
    for port in service.ports or ():
        words += ["--publish", port]
    for key, value in service.env.items():
        words += ["--env", f"{key}={value}"]
    if service.health:
        words += ["--health-cmd", service.health, "--health-interval", "2s", "--health-retries", "30"]
    words.append(service.image)
    words += service.command or []
    return TestContainer(name, tuple(words), service.health is not None)
