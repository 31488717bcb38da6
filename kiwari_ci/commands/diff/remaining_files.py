"""Compares hand-written files: which of them would build or deploy once more, and what is lost with them."""

from collections.abc import Iterator

from kiwari_ci.commands.diff.change import PipelineChange, format_names, redact_secrets
from kiwari_ci.commands.diff.matching import NameMatches, Responsibilities, ResponsibleJob
from kiwari_ci.commands.diff.snapshot import PipelineSnapshot, WorkflowWithEffects
from kiwari_ci.problems import join_with_limit
from kiwari_ci.readers.image_reference import parse_image_repository
from kiwari_ci.readers.yaml_document import as_inline_code

_LOST_EFFECT_MESSAGES = {
    "migrate": "migrations are no longer run: {}; run them by hand before the deploy (runbook)",
    "push": "no service of the spec builds {}",
    "remote": "no longer done on the server: {}",
    "other": "no longer done: {}",
}


def find_remaining_files(
    before: PipelineSnapshot,
    after: PipelineSnapshot,
    remaining: PipelineSnapshot,
    old_roles: Responsibilities,
    remaining_roles: Responsibilities,
    names: NameMatches,
) -> Iterator[PipelineChange]:
    """Report hand-written files that would still build or deploy, and what they did that nothing does any more.

    `remaining` are the files that nobody deletes, and `remaining_roles` those of the hand-written ones among them.
    """
    is_first_generation = not before.generated
    for path, workflow in remaining.workflows.items():
        if workflow.generated:
            continue
        if path in after.workflows:
            message = f"{as_inline_code(path)} is replaced by a generated one: generate asks for --force"
            yield PipelineChange("written by hand", message, False, path)
            continue
        triggers = _summarize_triggers(workflow)
        duplicates = _describe_duplicates(path, remaining_roles)
        if duplicates:
            message = f"{as_inline_code(path)} stays, and still {join_with_limit(duplicates)} {triggers}"
            message += f": {_suggest_removal(path, remaining_roles)}"
            yield PipelineChange("written by hand", message, True, path)
        elif is_first_generation:
            message = f"{as_inline_code(path)} stays as it is ({triggers})"
            message += _describe_other_deploys(path, remaining_roles)
            yield PipelineChange("written by hand", message, False, path)
    still_done = {effect.what for workflow in after.workflows.values() for _, effect in workflow.effects}
    for path, workflow in before.workflows.items():
        if not workflow.generated and path in old_roles.involved():
            # A workflow that only builds keeps its other jobs; one that deploys is deleted as a whole.
            is_deleted = _has_deploy(path, old_roles) or path in after.workflows
            removed_jobs = set() if is_deleted else _find_build_jobs(path, old_roles)
            yield from _find_lost_effects(workflow, still_done, removed_jobs, names)
    if is_first_generation:
        yield from _find_unused_compose_files(before, after, names)


def _describe_other_deploys(path: str, roles: Responsibilities) -> str:
    """The places that a workflow deploys to, and that are no environment of the spec."""
    effects = [effect for workflow, _, effect in roles.unknown if workflow.path == path]
    targets = dict.fromkeys(as_inline_code(effect.what.split("\n")[0] or ".") for effect in effects)
    if not targets:
        return ""
    return f"; it deploys {join_with_limit(targets)}, which is no environment of the spec"


def _has_deploy(path: str, roles: Responsibilities) -> bool:
    return any(_has_job_in(path, jobs) for jobs in roles.deploys.values())


def _has_job_in(path: str, jobs: list[ResponsibleJob]) -> bool:
    return any(workflow.path == path for workflow, _, _ in jobs)


def _find_build_jobs(path: str, roles: Responsibilities) -> set[str]:
    return {job.id for jobs in roles.builds.values() for workflow, job, _ in jobs if workflow.path == path}


def _suggest_removal(path: str, roles: Responsibilities) -> str:
    """A file that deploys goes; of one that only builds, the jobs that do."""
    if _has_deploy(path, roles):
        return "delete it in the same commit"
    return f"take its jobs {format_names(sorted(_find_build_jobs(path, roles)))} out in the same commit"


def _describe_duplicates(path: str, roles: Responsibilities) -> list[str]:
    """What a workflow builds and deploys that the generated ones do too."""
    duplicates: list[str] = []
    deploys = [environment for environment, jobs in roles.deploys.items() if _has_job_in(path, jobs)]
    if deploys:
        duplicates.append(f"deploys {format_names(deploys)}")
    builds = [service for service, jobs in roles.builds.items() if _has_job_in(path, jobs)]
    if builds:
        duplicates.append(f"pushes the image of {format_names(builds)}")
    return duplicates


def _summarize_triggers(workflow: WorkflowWithEffects) -> str:
    return join_with_limit(workflow.parsed.triggers, 4) or "when called"


def _find_lost_effects(
    workflow: WorkflowWithEffects, still_done: set[str], jobs: set[str], names: NameMatches
) -> Iterator[PipelineChange]:
    """Report by step what nothing does any more; of these jobs, or of all jobs when none is named."""
    lost: dict[tuple[str, str], list[str]] = {}
    for job, effect in workflow.effects:
        if jobs and job.id not in jobs:
            continue
        notes = lost.setdefault((effect.kind, effect.where), [])
        if effect.kind == "push":
            repository = parse_image_repository(effect.what)
            if repository not in names.images:
                notes.append(as_inline_code(repository))
        elif effect.kind in _LOST_EFFECT_MESSAGES:
            if effect.what not in still_done:
                notes.append(redact_secrets(effect.note))
        elif effect.kind == "deploy" and "down" in effect.note:
            yield PipelineChange(workflow.path, "before, everything stopped during a deploy", False, effect.where)
        elif effect.kind == "deploy" and "--build" in effect.note:
            yield PipelineChange(workflow.path, "before, the server built the image", False, effect.where)
    for (kind, where), notes in lost.items():
        if notes:
            message = _LOST_EFFECT_MESSAGES[kind].format(join_with_limit(dict.fromkeys(notes)))
            yield PipelineChange(workflow.path, message, True, where)


def _find_unused_compose_files(
    before: PipelineSnapshot, after: PipelineSnapshot, names: NameMatches
) -> Iterator[PipelineChange]:
    for path, stack in before.stacks.items():
        is_replaced = stack.generated or path in after.stacks
        is_matched = stack.path in names.stacks or stack.name in names.stacks
        if not is_replaced and not is_matched:
            message = f"{as_inline_code(path)} stays as it is, and no deploy reads it ({format_names(stack.services)})"
            yield PipelineChange("written by hand", message, False, path)
