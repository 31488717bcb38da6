"""Compares hand-written files: which of them would build or deploy once more, and what is lost with them."""

import re
from collections.abc import Iterator

from kiwari_ci.commands.diff.change import PipelineChange, format_names, redact_secrets
from kiwari_ci.commands.diff.matching import NameMatches, Responsibilities
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
            words = f"{as_inline_code(path)} is replaced by a generated one: generate asks for --force"
            yield PipelineChange("written by hand", words, False, path)
            continue
        triggers = _summarize_triggers(workflow)
        duplicates = _describe_duplicates(path, remaining_roles)
        if duplicates:
            words = f"{as_inline_code(path)} stays, and still {join_with_limit(duplicates)} {triggers}"
            words += f": {_suggest_removal(path, remaining_roles)}"
            yield PipelineChange("written by hand", words, True, path)
        elif is_first_generation:
            words = f"{as_inline_code(path)} stays as it is ({triggers})"
            words += _describe_other_deploys(path, remaining_roles)
            yield PipelineChange("written by hand", words, False, path)
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
    """What it deploys that no environment of the spec is."""
    there = dict.fromkeys(
        as_inline_code(effect.what.split("\n")[0] or ".")
        for workflow, _, effect in roles.unknown
        if workflow.path == path
    )
    return f"; it deploys {join_with_limit(there)}, which is no environment of the spec" if there else ""


def _has_deploy(path: str, roles: Responsibilities) -> bool:
    return any(workflow.path == path for found in roles.deploys.values() for workflow, _, _ in found)


def _find_build_jobs(path: str, roles: Responsibilities) -> set[str]:
    return {job.id for found in roles.builds.values() for workflow, job, _ in found if workflow.path == path}


def _suggest_removal(path: str, roles: Responsibilities) -> str:
    """A file that deploys goes; of one that only builds, the jobs that do."""
    if _has_deploy(path, roles):
        return "delete it in the same commit"
    return f"take its jobs {format_names(sorted(_find_build_jobs(path, roles)))} out in the same commit"


def _describe_duplicates(path: str, old_roles: Responsibilities) -> list[str]:
    """What a workflow builds and deploys that the generated ones do too."""
    deploys = [
        name for name, roles in old_roles.deploys.items() if any(workflow.path == path for workflow, _, _ in roles)
    ]
    builds = [
        name for name, roles in old_roles.builds.items() if any(workflow.path == path for workflow, _, _ in roles)
    ]
    duplicates = [f"deploys {format_names(deploys)}"] if deploys else []
    return duplicates + ([f"pushes the image of {format_names(builds)}"] if builds else [])


def _summarize_triggers(workflow: WorkflowWithEffects) -> str:
    return join_with_limit(workflow.parsed.triggers, 4) or "when called"


def _find_lost_effects(
    workflow: WorkflowWithEffects, still_done: set[str], jobs: set[str], names: NameMatches
) -> Iterator[PipelineChange]:
    """What is done by nothing any more, by step; of these jobs, or of all when none is named."""
    lost: dict[tuple[str, str], list[str]] = {}
    for job, effect in workflow.effects:
        if jobs and job.id not in jobs:
            continue
        if effect.kind in _LOST_EFFECT_MESSAGES and effect.kind != "push" and effect.what not in still_done:
            lost.setdefault((effect.kind, effect.where), []).append(redact_secrets(effect.note))
        elif effect.kind == "push" and parse_image_repository(effect.what) not in names.images:
            lost.setdefault((effect.kind, effect.where), []).append(as_inline_code(parse_image_repository(effect.what)))
        elif effect.kind == "deploy" and re.search(r"--build|down", effect.note):
            words = (
                "before, everything stopped during a deploy"
                if "down" in effect.note
                else "before, the server built the image"
            )
            yield PipelineChange(workflow.path, words, False, effect.where)
    for (kind, where), notes in lost.items():
        yield PipelineChange(
            workflow.path, _LOST_EFFECT_MESSAGES[kind].format(join_with_limit(dict.fromkeys(notes))), True, where
        )


def _find_unused_compose_files(
    before: PipelineSnapshot, after: PipelineSnapshot, names: NameMatches
) -> Iterator[PipelineChange]:
    for path, stack in before.stacks.items():
        if (
            not stack.generated
            and path not in after.stacks
            and stack.path not in names.stacks
            and stack.name not in names.stacks
        ):
            there = format_names(stack.services)
            yield PipelineChange(
                "written by hand",
                f"{as_inline_code(path)} stays as it is, and no deploy reads it ({there})",
                False,
                path,
            )
