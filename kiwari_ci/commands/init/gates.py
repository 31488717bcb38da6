"""Finds the jobs for which the builds and deploys of a workflow wait today, and how they can go on doing so."""

import re
from dataclasses import dataclass

from kiwari_ci.commands.init.callable_workflows import needs_more_than_reading
from kiwari_ci.commands.init.workflow_jobs import DetectedWorkflows
from kiwari_ci.readers.yaml_document import YamlDocument, YamlMapping, as_list, collect_strings

_SECRET = re.compile(r"\bsecrets\.(\w+)")
_FILE_NAMES = ("tests.yml", "checks.yml", "gate.yml")


@dataclass(frozen=True)
class Gate:
    """The jobs of one workflow that must be green before it builds or deploys, and a workflow to move them to."""

    path: str
    jobs: list[str]
    new_file: str
    also_copied: list[str]  # keys of the workflow that the jobs need: `env`, `defaults`
    obstacles: list[str]  # in words, what a called workflow cannot have

    @property
    def field_line(self) -> str:
        """The line of the spec that calls the new workflow."""
        return f"test: {{workflow: {self.new_file}}}"

    def describe_move(self) -> str:
        """What to do with the jobs, so that they can be called."""
        keys = ["`on: workflow_call`", *(f"the `{key}` of today" for key in self.also_copied)]
        file_name = self.path.rpartition("/")[2]
        text = f"move these jobs from {file_name} to .github/workflows/{self.new_file}, with {' and '.join(keys)}"
        for obstacle in self.obstacles:
            text += f", and without {obstacle}"
        return text

    def describe_effect(self, services: list[str]) -> str:
        """What the move and the field of the spec have as an effect, also on pull requests."""
        return (
            f"the builds of {', '.join(services)} then wait for all of them, and `pull_requests: true` of `project` "
            "runs them for each pull request that changes such a service, or for each one with `tested_services: all`; "
            f"require the check `all-passed` there, because {', '.join(self.jobs)} are no checks of their own any more"
        )


def find_gate(path: str, workflows: DetectedWorkflows) -> Gate | None:
    """The jobs that a workflow waits for before it builds or deploys, and that do neither; None if there are none."""
    document = workflows.documents[path]
    jobs = document.data.get_mapping("jobs")
    acting = _find_acting_jobs(path, jobs, workflows)
    needed = _collect_needs(jobs, acting)
    later = {name for name in jobs if _collect_needs(jobs, {name}) & acting}
    gate = [name for name in jobs if name in needed - acting - later and "outputs" not in jobs.get_mapping(name)]
    if not gate:
        return None
    # A job whose outputs they read goes with them.
    moved = _collect_needs(jobs, set(gate)) | set(gate)
    names = [name for name in jobs if name in moved - acting - later]
    existing = {file.rpartition("/")[2] for file in workflows.files}
    new_file = next((name for name in _FILE_NAMES if name not in existing), "called-tests.yml")
    also_copied = [key for key in ("env", "defaults") if key in document.data]
    return Gate(path, names, new_file, also_copied, _list_obstacles(document, names))


def _find_acting_jobs(path: str, jobs: YamlMapping, workflows: DetectedWorkflows) -> set[str]:
    """The jobs that build or deploy, also by a workflow that they call."""
    pairs = {(build.workflow, build.job) for build in workflows.builds}
    pairs |= {(deploy.workflow, deploy.job) for deploy in workflows.deploys}
    called_paths = {f"./{workflow}" for workflow, _ in pairs}
    acting = {job for workflow, job in pairs if workflow == path}
    return acting | {name for name, job in jobs.iter_mappings() if job.get_text("uses") in called_paths}


def _collect_needs(jobs: YamlMapping, names: set[str]) -> set[str]:
    """All jobs that some jobs wait for, directly or not."""
    needed: set[str] = set()
    waiting = list(names)
    while waiting:
        for name in map(str, as_list(jobs.get_mapping(waiting.pop()).get("needs"))):
            if name in jobs and name not in needed:
                needed.add(name)
                waiting.append(name)
    return needed


def _list_obstacles(document: YamlDocument, names: list[str]) -> list[str]:
    """In words, what of the jobs a called workflow cannot have."""
    obstacles = []
    jobs = document.data.get_mapping("jobs")
    for name in names:
        job = jobs.get_mapping(name)
        texts = [text for text, _ in collect_strings(job)]
        secrets = [secret for text in texts for secret in _SECRET.findall(text) if secret != "GITHUB_TOKEN"]
        if secrets:
            obstacles.append(f"the secrets {', '.join(dict.fromkeys(secrets))} ({name}), which it does not get")
        if job.get("concurrency") is not None:
            obstacles.append(f"the `concurrency` of {name}, in which two calls get in each other's way")
        if needs_more_than_reading(job.get("permissions")):
            obstacles.append(f"the `permissions` of {name}, because it may only read the repository")
    return obstacles
