"""Tests: a job each, what it installs, and the containers beside it."""

from dataclasses import dataclass

from kiwari_ci import schema
from kiwari_ci.github.action_pins import action
from kiwari_ci.plan import Axis, Pair, Setup, Step, Test, TestService
from kiwari_ci.planning.steps import Actions, steps


@dataclass(frozen=True)
class _Way:
    """How a tool is installed: the action, and its inputs for a version, for a file of it, and against its cache."""

    action: str
    version: str
    file: str
    no_cache: str = ""
    distribution: str = ""


SETUPS = {
    "go": _Way("actions/setup-go", "go-version", "go-version-file", no_cache="cache"),
    "java": _Way("actions/setup-java", "java-version", "java-version-file", distribution="temurin"),
    "pnpm": _Way("pnpm/action-setup", "version", "package_json_file"),
    "node": _Way("actions/setup-node", "node-version", "node-version-file", no_cache="package-manager-cache"),
    "python": _Way("actions/setup-python", "python-version", "python-version-file"),
    "uv": _Way("astral-sh/setup-uv", "version", "version-file", no_cache="enable-cache"),
}


def tests(model: schema.Service, actions: Actions) -> tuple[Test, ...]:
    """The jobs that gate a build."""
    named = {"test": model.test} if model.test else {f"test-{name}": test for name, test in model.tests.items()}
    before = steps(model.steps.before_test, actions)
    return tuple(_test(job, test, before, actions) for job, test in named.items())


def _test(job: str, test: schema.Test, before: tuple[Step, ...], actions: Actions) -> Test:
    services = tuple(_service(name, service) for name, service in test.services.items())
    of_matrix = [Pair(key, f"${{{{ matrix.{key} }}}}") for key in test.matrix]
    return Test(
        job=job,
        minutes=test.timeout_minutes,
        axes=tuple(Axis(key, tuple(values)) for key, values in test.matrix.items()),
        setups=tuple(_setup(kind, tool, actions) for kind, tool in test.setup or () if tool),
        services=services,
        waited_for=tuple(service.name for service in services if service.is_waited_for),
        env=(*of_matrix, *(Pair(key, value) for key, value in test.env.items())),
        working_directory=test.working_directory or "",
        run=test.run.rstrip("\n") + "\n",
        steps=before,
    )


def _setup(kind: str, tool: schema.Tool, actions: Actions) -> Setup:
    way = SETUPS[kind]
    version = f"${{{{ matrix.{tool.matrix} }}}}" if tool.matrix else tool.version
    option = way.file if tool.version_file else way.version
    return Setup(action(actions[way.action]), option, tool.version_file or str(version), way.no_cache, way.distribution)


def _service(name: str, service: schema.TestService) -> TestService:
    words = ["--name", name]
    words += [word for port in service.ports or () for word in ("--publish", port)]
    words += [word for key, value in service.env.items() for word in ("--env", f"{key}={value}")]
    if service.health:
        words += ["--health-cmd", service.health, "--health-interval", "2s", "--health-retries", "30"]
    return TestService(name, (*words, service.image, *(service.command or ())), service.health is not None)
