"""Compares hand-written files: which of them would build or deploy once more, and what is lost with them."""

import re
from collections.abc import Iterator

from kiwari_ci.commands.diff.change import HANDWRITTEN_FILES, PipelineChange, Stage, format_names, redact_secrets
from kiwari_ci.commands.diff.matching import (
    NameMatches,
    Responsibilities,
    ResponsibleJob,
    collect_effects,
    find_replaced_jobs,
)
from kiwari_ci.commands.diff.snapshot import PipelineSnapshot, WorkflowWithEffects
from kiwari_ci.problems import join_with_limit
from kiwari_ci.readers.compose_file import ComposeService
from kiwari_ci.readers.image_reference import parse_image_repository
from kiwari_ci.readers.step_effects import is_migration_command
from kiwari_ci.readers.workflow import ParsedStep, get_action_name
from kiwari_ci.readers.yaml_document import as_inline_code

_IMAGE_CLEANUP_ACTIONS = {
    "bots-house/ghcr-delete-image-action",
    "chipkent/action-cleanup-package",
    "dataaxiom/ghcr-cleanup-action",
    "snok/container-retention-policy",
    "vlaurin/action-ghcr-prune",
}
_IMAGE_DELETION = re.compile(
    r"\bDELETE\b[^\n]{0,300}/packages/container/|/packages/container/[^\n]{0,300}\bDELETE\b"
    r"|\baz acr (?:purge|repository delete)\b|\becr batch-delete-image\b|\bacr purge\b"
)
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
    compared_paths: set[str],
) -> Iterator[PipelineChange]:
    """Report hand-written files that would still build or deploy, and what they did that nothing does any more.

    `remaining` are the files that nobody deletes, and `remaining_roles` those of the hand-written ones among them.
    `compared_paths` are the Compose files that were compared with generated ones.
    """
    is_first_generation = not before.generated
    still_done = collect_effects(after)
    for path, workflow in remaining.workflows.items():
        if workflow.generated:
            continue
        if path in after.workflows:
            message = f"{as_inline_code(path)} is replaced by a generated one: generate asks for --force"
            yield PipelineChange(
                HANDWRITTEN_FILES,
                message,
                False,
                path,
                summary="these hand-written workflows are replaced by generated ones (`kiwari-ci generate --force`)",
                item=as_inline_code(path),
            )
            continue
        yield from _find_image_cleanups(workflow)
        triggers = _summarize_triggers(workflow)
        duplicates = _describe_duplicates(path, remaining_roles)
        other_deploys = _describe_other_deploys(path, remaining_roles)
        if workflow.is_only_called and (duplicates or other_deploys):
            yield _describe_called_workflow(path)
        elif duplicates:
            message = f"{as_inline_code(path)} would {join_with_limit(duplicates)} a second time ({triggers})"
            message += f": {_suggest_removal(workflow, remaining_roles, still_done)}"
            yield PipelineChange(HANDWRITTEN_FILES, message, True, path, stage="before", is_dangerous=True)
        elif is_first_generation:
            message = f"{as_inline_code(path)} stays as it is ({triggers})"
            yield from _warn_unclear_deploys(path, triggers, remaining_roles)
            yield PipelineChange(
                HANDWRITTEN_FILES,
                message + other_deploys,
                False,
                path,
                summary="" if other_deploys else "these hand-written workflows stay as they are",
                item=as_inline_code(path),
            )
    for path, workflow in before.workflows.items():
        if not workflow.generated and path in old_roles.involved():
            is_overwritten = path in after.workflows
            removed_jobs = None if is_overwritten else find_replaced_jobs(workflow, old_roles, still_done)
            for change in _find_lost_effects(workflow, still_done, removed_jobs, names):
                # A service with `migrate`, or a migration with `once`, runs in each deploy.
                if not (change.is_dangerous and _has_migrations(after)):
                    yield change
    if is_first_generation:
        yield from _find_unused_compose_files(before, after, compared_paths)


def _describe_called_workflow(path: str) -> PipelineChange:
    """A workflow that builds or deploys only for the jobs of others: what they do is reported of them."""
    return PipelineChange(
        HANDWRITTEN_FILES,
        f"{as_inline_code(path)} builds or deploys for other workflows: delete it with the last job that calls it",
        False,
        path,
        stage="before",
        summary="delete these workflows, too, with the last jobs that call them",
        item=as_inline_code(path),
    )


def _find_image_cleanups(workflow: WorkflowWithEffects) -> Iterator[PipelineChange]:
    """Report steps that delete images from the registry: a promotion and a rollback need those of earlier commits."""
    places = [step.where for job in workflow.parsed.jobs for step in job.steps if _deletes_images(step)]
    for script in workflow.scripts:
        deletion = _IMAGE_DELETION.search(script.text)
        if deletion:
            places.append(script.where(1 + script.text.count("\n", 0, deletion.start())))
    for place in dict.fromkeys(places):
        message = f"{as_inline_code(workflow.path)} deletes images from the registry, even without a tag or with a "
        message += "`src-` tag: promotion and rollback would not find them; keep the images of all services out of it"
        yield PipelineChange(HANDWRITTEN_FILES, message, True, place, stage="before", is_dangerous=True)


def _deletes_images(step: ParsedStep) -> bool:
    action = get_action_name(step.uses).lower()
    if action == "actions/delete-package-versions":
        return step.inputs.get("package-type", "container") in ("container", "docker")
    return action in _IMAGE_CLEANUP_ACTIONS or _IMAGE_DELETION.search(step.run) is not None


def _has_migrations(after: PipelineSnapshot) -> bool:
    services = [service for stack in after.stacks.values() for service in stack.services.values()]
    return any("deploy.migrate" in service.labels or _is_migration(service) for service in services)


def _is_migration(service: ComposeService) -> bool:
    """Whether a container that runs to its end in each deploy migrates a database, by its name or its command."""
    commands = [service.attributes.get(key) for key in ("entrypoint", "command")]
    words = [service.key, *(str(command) for command in commands)]
    return "deploy.once" in service.labels and any(map(is_migration_command, words))


def _describe_other_deploys(path: str, roles: Responsibilities) -> str:
    """The places that a workflow deploys to, and that are no environment of the spec."""
    effects = [effect for workflow, _, effect in roles.others if workflow.path == path]
    targets = dict.fromkeys(as_inline_code(effect.what.split("\n")[0] or ".") for effect in effects)
    if not targets:
        return ""
    return f"; it deploys {join_with_limit(targets)}, which is no environment of the spec"


def _warn_unclear_deploys(path: str, triggers: str, roles: Responsibilities) -> Iterator[PipelineChange]:
    """Report that a workflow deploys something that may be an environment of the spec."""
    environments = [name for name, jobs in roles.unclear.items() if _has_job_in(path, jobs)]
    effects = [role.effect for jobs in roles.unclear.values() for role in jobs if role.workflow.path == path]
    if environments:
        targets = dict.fromkeys(as_inline_code(effect.what.split("\n")[0] or ".") for effect in effects)
        message = f"{as_inline_code(path)} deploys {join_with_limit(targets)} ({triggers}), and no file shows whether "
        message += f"that is {join_with_limit(map(as_inline_code, environments))}: if it is, write the workflow into "
        message += "`takeover.workflows`, and delete it in the pull request that brings the new ones"
        yield PipelineChange(HANDWRITTEN_FILES, message, True, path, stage="before", is_dangerous=True)


def _has_job_in(path: str, jobs: list[ResponsibleJob]) -> bool:
    return any(workflow.path == path for workflow, _, _ in jobs)


def _suggest_removal(workflow: WorkflowWithEffects, roles: Responsibilities, still_done: set[str]) -> str:
    """A file of which nothing else is left goes; of another one, the jobs that build and deploy."""
    replaced_jobs = find_replaced_jobs(workflow, roles, still_done)
    if replaced_jobs is None:
        return "delete it in the pull request that brings the new ones"
    return f"take its jobs {format_names(sorted(replaced_jobs))} out in the pull request that brings the new ones"


def _describe_duplicates(path: str, roles: Responsibilities) -> list[str]:
    """What a workflow builds and deploys that the generated ones do too."""
    duplicates: list[str] = []
    deploys = [environment for environment, jobs in roles.deploys.items() if _has_job_in(path, jobs)]
    if deploys:
        duplicates.append(f"deploy {format_names(deploys)}")
    builds = [
        service
        for service, jobs in roles.builds.items()
        if _has_job_in(path, [role for role in jobs if role.effect.kind == "push"])
    ]
    if builds:
        duplicates.append(f"push the image of {format_names(builds)}")
    return duplicates


def _summarize_triggers(workflow: WorkflowWithEffects) -> str:
    triggers = join_with_limit(workflow.parsed.triggers, 4) or "when called"
    return f"it runs {triggers}"


def _find_lost_effects(
    workflow: WorkflowWithEffects, still_done: set[str], jobs: set[str] | None, names: NameMatches
) -> Iterator[PipelineChange]:
    """Report by step what nothing does any more; of these jobs, or of all jobs when none is named."""
    lost: dict[tuple[str, str], list[str]] = {}
    for job, effect in workflow.effects:
        if jobs is not None and job.id not in jobs:
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
            is_migration = kind == "migrate"
            stage: Stage = "before" if is_migration else "change"
            yield PipelineChange(workflow.path, message, True, where, stage=stage, is_dangerous=is_migration)


def _find_unused_compose_files(
    before: PipelineSnapshot, after: PipelineSnapshot, compared_paths: set[str]
) -> Iterator[PipelineChange]:
    """Report the hand-written Compose files that no generated stack replaces."""
    for path, stack in before.stacks.items():
        is_replaced = stack.generated or path in after.stacks
        if not is_replaced and path not in compared_paths:
            message = f"{as_inline_code(path)} stays as it is, and no deploy reads it ({format_names(stack.services)})"
            yield PipelineChange(
                HANDWRITTEN_FILES,
                message,
                False,
                path,
                summary="these Compose files stay as they are, and no deploy reads them",
                item=as_inline_code(path),
            )
