"""Tests: a job each, what it installs, and the containers beside it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from kiwari_ci import schema
from kiwari_ci.effective_spec.lock_files import find_package_manager
from kiwari_ci.frozen import dataclass
from kiwari_ci.github_facts.action_pins import build_pinned_action
from kiwari_ci.plan_model import KeyValue, MatrixAxis, SetupStep, TestContainer, TestJob
from kiwari_ci.planning.steps import ActionPins, plan_custom_steps


@dataclass(frozen=True)
class _SetupAction:
    """How a tool is installed: the action, and its inputs for a version and for a file that names the version.

    `no_cache` turns a cache off that is on by itself, `cache` turns it on, and `lock_files` names the lock files.
    """

    action: str
    version: str
    file: str
    distribution: str = ""
    no_cache: str = ""
    cache: str = "cache"
    lock_files: str = "cache-dependency-path"


SETUP_ACTIONS = {
    "go": _SetupAction("actions/setup-go", "go-version", "go-version-file", no_cache="cache"),
    "java": _SetupAction("actions/setup-java", "java-version", "java-version-file", distribution="temurin"),
    "pnpm": _SetupAction("pnpm/action-setup", "version", "package_json_file"),
    "node": _SetupAction("actions/setup-node", "node-version", "node-version-file", no_cache="package-manager-cache"),
    "python": _SetupAction("actions/setup-python", "python-version", "python-version-file"),
    "uv": _SetupAction(
        "astral-sh/setup-uv",
        "version",
        "version-file",
        no_cache="enable-cache",
        cache="enable-cache",
        lock_files="cache-dependency-glob",
    ),
}


def plan_test_jobs(service: schema.Service, pins: ActionPins, *, may_deploy: bool) -> tuple[TestJob, ...]:
    """Plan the jobs that gate a build; a run that may deploy what they let pass uses no cache."""
    tests = {f"test-{name}": test for name, test in service.tests.items()}
    if service.test:
        tests = {"test": service.test}
    return tuple(_plan_test_job(job, test, service.steps, pins, may_deploy) for job, test in tests.items())


def list_called_workflows(service: schema.Service) -> Iterator[str]:
    """List the workflows of the repository that the tests of a service call, each once."""
    tests = [service.test] if service.test else service.tests.values()
    yield from dict.fromkeys(test.workflow for test in tests if test.workflow)


def find_shared_workflows(services: Mapping[str, schema.Service]) -> dict[str, list[str]]:
    """Find the workflows that the tests of several services call, each with these services.

    A run calls such a workflow once, in one job for all of them. Two files whose jobs would have the same name are
    left out.
    """
    callers: dict[str, list[str]] = {}
    for name, service in services.items():
        for workflow in list_called_workflows(service):
            callers.setdefault(workflow, []).append(name)
    job_counts = Counter(map(_name_shared_job, callers))
    return {
        workflow: names
        for workflow, names in callers.items()
        if len(names) > 1 and job_counts[_name_shared_job(workflow)] == 1
    }


def name_test_job(test: TestJob, service: str, shared_workflows: Mapping[str, Sequence[str]]) -> str:
    """Name a test among those of other services: `test-api`, `test-api_unit`, or `call-ci` for a shared `ci.yml`.

    No name of a service or test has a `_`.
    """
    if test.workflow in shared_workflows:
        return _name_shared_job(test.workflow)
    return f"test-{service}{test.job.removeprefix('test').replace('-', '_', 1)}"


def _name_shared_job(workflow: str) -> str:
    """Name the job that calls a workflow for several services; an id of a job has no dots."""
    return f"call-{PurePosixPath(workflow).stem.replace('.', '_')}"


def _plan_test_job(job: str, test: schema.Test, own_steps: schema.Steps, pins: ActionPins, may_deploy: bool) -> TestJob:
    lock_files = [] if may_deploy else test.cache or []
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
        setups=tuple(_plan_setup_step(kind, tool, pins, lock_files) for kind, tool in test.setup or () if tool),
        services=containers,
        waited_for=tuple(container.name for container in containers if container.is_waited_for),
        env=(*matrix_variables, *own_variables),
        working_directory=test.working_directory or "",
        run=test.run.rstrip("\n") + "\n" if test.run else "",
        steps=plan_custom_steps(own_steps.before_test, pins),
        last_steps=plan_custom_steps(own_steps.after_test, pins),
    )


def _plan_setup_step(kind: str, tool: schema.Tool, pins: ActionPins, lock_files: Iterable[str]) -> SetupStep:
    """Plan the step that installs a tool; it caches what the tool downloads if some of the lock files are of it."""
    setup = SETUP_ACTIONS[kind]
    version = f"${{{{ matrix.{tool.matrix} }}}}" if tool.matrix else str(tool.version)
    managers = {lock_file: find_package_manager(lock_file) for lock_file in lock_files}
    own_managers = {lock_file: manager for lock_file, manager in managers.items() if manager and manager.tool == kind}
    cached_names = [manager.name for manager in own_managers.values()]
    return SetupStep(
        action=build_pinned_action(pins[setup.action]),
        option=setup.file if tool.version_file else setup.version,
        value=tool.version_file or version,
        distribution=setup.distribution,
        no_cache="" if own_managers else setup.no_cache,
        cache_option=setup.cache,
        cache_value=cached_names[0] if cached_names else "",  # a rule refuses several for one tool
        lock_files_option=setup.lock_files,
        lock_files="\n".join(own_managers),
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
