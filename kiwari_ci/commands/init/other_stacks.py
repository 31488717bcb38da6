"""Which workflows and compose files of a repository are of other stacks than the one that the spec describes.

A repository often has the stack of its proxy or of its monitoring beside that of its services, and workflows that only
copy scripts to the server. All of them stay as they are.
"""

from collections.abc import Callable

from kiwari_ci.commands.init.compose_files import DetectedComposeFile, DetectedContainer
from kiwari_ci.commands.init.services import DetectedService
from kiwari_ci.commands.init.workflow_jobs import DeployJob, DetectedWorkflows
from kiwari_ci.readers.repository import get_parent_folder, is_within_folder


def set_other_deploys_apart(
    workflows: DetectedWorkflows, services: list[DetectedService], compose_files: list[DetectedComposeFile]
) -> None:
    """Move the jobs that deploy nothing of this spec from `deploys` to `other_deploys`, each with the reason.

    Where no job would be left, all stay: then the files do not tell what is deployed.
    """
    own_files = _list_own_files(services, compose_files)
    other_files = [file.path for file in compose_files if file.path not in own_files]
    own_paths = own_files | {service.image.dockerfile for service in services}
    building_workflows = {build.workflow for build in workflows.builds}

    def explain(job: DeployJob) -> str:
        reason = _explain_other_files(job, own_files, other_files)
        is_built_there = bool({job.workflow, job.started_by} & building_workflows)
        return reason or ("" if is_built_there else _explain_other_paths(job, own_paths))

    _move_jobs(workflows, explain)
    copied_only = {job.started_by for job in workflows.deploys} - {
        job.started_by for job in workflows.deploys if not job.only_copies
    }
    _move_jobs(
        workflows, lambda job: "copies files to the server, and starts nothing" if job.started_by in copied_only else ""
    )


def list_other_containers(
    services: list[DetectedService], compose_files: list[DetectedComposeFile]
) -> list[DetectedContainer]:
    """The containers of the compose files in folders in which no file has a service of the spec."""
    own_folders = {get_parent_folder(path) for path in _list_own_files(services, compose_files)}
    if not any(service.containers for service in services):
        return []
    return [
        container
        for file in compose_files
        if get_parent_folder(file.path) not in own_folders
        for container in file.containers
    ]


def _list_own_files(services: list[DetectedService], compose_files: list[DetectedComposeFile]) -> set[str]:
    """The compose files with a container of a service, or with one whose image may be one's own."""
    paths = {file.path for service in services for file, _ in [*service.containers, *service.other_containers]}
    for file in compose_files:
        if any(container.builds or "$" in container.image.partition(":")[0] for container in file.containers):
            paths.add(file.path)
    return paths


def _move_jobs(workflows: DetectedWorkflows, explain: Callable[[DeployJob], str]) -> None:
    reasons = [(job, explain(job)) for job in workflows.deploys]
    own_jobs = [job for job, reason in reasons if not reason]
    if own_jobs:
        workflows.deploys = own_jobs
        workflows.other_deploys |= {(job.workflow, job.job): reason for job, reason in reasons if reason}


def _explain_other_files(job: DeployJob, own_files: set[str], other_files: list[str]) -> str:
    """Why a job deploys another stack, by the compose files that its commands name, or by the folder they are in."""
    names = [str(file.value) for file in job.compose_files]
    paths_by_file = {path: path for path in [*own_files, *other_files]}
    if not names:
        names = [str(folder.value) for folder in job.folders]
        paths_by_file = {path: get_parent_folder(path) for path in paths_by_file}
    deployed = {file for name in names for file in _find_files_with_longest_ending(name, paths_by_file)}
    if deployed and not deployed & own_files:
        return f"deploys {min(deployed)}, which has no service of this spec"
    return ""


def _find_files_with_longest_ending(name: str, paths_by_file: dict[str, str]) -> list[str]:
    """The files whose path, or whose folder's path, has most in common with the end of a path on the server."""
    counts = {file: _count_common_parts(name, path) for file, path in paths_by_file.items()}
    longest = max(counts.values(), default=0)
    return [file for file, count in counts.items() if longest and count == longest]


def _count_common_parts(one: str, other: str) -> int:
    """How many parts two paths have in common at their ends, if the shorter one is there as a whole; else 0."""
    one_parts, other_parts = (
        [part for part in path.split("/") if part not in ("", ".", "..", "~")] for path in (one, other)
    )
    count = min(len(one_parts), len(other_parts))
    return count if count and one_parts[-count:] == other_parts[-count:] else 0


def _explain_other_paths(job: DeployJob, own_paths: set[str]) -> str:
    """Why a job deploys another stack, by the path filters of its workflow, whose folders have nothing of a service."""
    folders = [_get_folder_of_pattern(pattern) for pattern in job.trigger.paths if not pattern.startswith("!")]
    if not folders or not all(folders):
        return ""
    if any(is_within_folder(path, folder) for path in own_paths for folder in folders):
        return ""
    return f"runs when {', '.join(job.trigger.paths)} changes, where no service of this spec is"


def _get_folder_of_pattern(pattern: str) -> str:
    """The folder in which all files are that a path filter matches; empty for the whole repository, or for a file."""
    before, star, _ = pattern.partition("*")
    return before.rpartition("/")[0] if star else ""
