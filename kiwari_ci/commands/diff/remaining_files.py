"""Files of other hands → changes: which stay and would do the same once more, and what is lost with them."""

import re
from collections.abc import Iterator

from kiwari_ci.commands.diff.change import PipelineChange, redact_secrets
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
    stays: PipelineSnapshot,
    was: Responsibilities,
    still: Responsibilities,
    names: NameMatches,
) -> Iterator[PipelineChange]:
    """What hand-written files would still do (`stays`, with the roles of those alone), and what is lost."""
    first = not before.generated
    for path, work in stays.works.items():
        if work.generated:
            continue
        if path in after.works:
            words = f"{as_inline_code(path)} is replaced by a generated one: generate asks for --force"
            yield PipelineChange("written by hand", words, False, path)
        elif told := _describe_duplicates(path, still):
            words = f"{as_inline_code(path)} stays, and still {join_with_limit(told)} {_summarize_triggers(work)}: {_suggest_removal(path, still)}"
            yield PipelineChange("written by hand", words, True, path)
        elif first:
            yield PipelineChange(
                "written by hand",
                f"{as_inline_code(path)} stays as it is ({_summarize_triggers(work)}){_describe_other_deploys(path, still)}",
                False,
                path,
            )
    done = {deed.what for work in after.works.values() for _, deed in work.deeds}
    for path, work in before.works.items():
        if not work.generated and path in was.involved():
            jobs = _find_build_jobs(path, was) if not _has_deploy(path, was) and path not in after.works else set()
            yield from _find_lost_effects(work, done, jobs, names)
    if first:
        yield from _find_unused_compose_files(before, after, names)


def _describe_other_deploys(path: str, roles: Responsibilities) -> str:
    """What it deploys that no environment of the spec is."""
    there = dict.fromkeys(
        as_inline_code(deed.what.split("\n")[0] or ".") for work, _, deed in roles.unknown if work.path == path
    )
    return f"; it deploys {join_with_limit(there)}, which is no environment of the spec" if there else ""


def _has_deploy(path: str, roles: Responsibilities) -> bool:
    return any(work.path == path for found in roles.deploys.values() for work, _, _ in found)


def _find_build_jobs(path: str, roles: Responsibilities) -> set[str]:
    return {job.id for found in roles.builds.values() for work, job, _ in found if work.path == path}


def _suggest_removal(path: str, roles: Responsibilities) -> str:
    """A file that deploys goes; of one that only builds, the jobs that do."""
    if _has_deploy(path, roles):
        return "delete it in the same commit"
    return f"take its jobs {join_with_limit(map(as_inline_code, sorted(_find_build_jobs(path, roles))))} out in the same commit"


def _describe_duplicates(path: str, was: Responsibilities) -> list[str]:
    """What a workflow builds and deploys that the generated ones do too."""
    deploys = [name for name, roles in was.deploys.items() if any(work.path == path for work, _, _ in roles)]
    builds = [name for name, roles in was.builds.items() if any(work.path == path for work, _, _ in roles)]
    told = [f"deploys {join_with_limit(map(as_inline_code, deploys))}"] if deploys else []
    return told + ([f"pushes the image of {join_with_limit(map(as_inline_code, builds))}"] if builds else [])


def _summarize_triggers(work: WorkflowWithEffects) -> str:
    return join_with_limit(work.workflow.triggers, 4) or "when called"


def _find_lost_effects(
    work: WorkflowWithEffects, done: set[str], jobs: set[str], names: NameMatches
) -> Iterator[PipelineChange]:
    """What is done by nothing any more, by step; of these jobs, or of all when none is named."""
    lost: dict[tuple[str, str], list[str]] = {}
    for job, deed in work.deeds:
        if jobs and job.id not in jobs:
            continue
        if deed.kind in _LOST_EFFECT_MESSAGES and deed.kind != "push" and deed.what not in done:
            lost.setdefault((deed.kind, deed.where), []).append(redact_secrets(deed.note))
        elif deed.kind == "push" and parse_image_repository(deed.what) not in names.images:
            lost.setdefault((deed.kind, deed.where), []).append(as_inline_code(parse_image_repository(deed.what)))
        elif deed.kind == "deploy" and re.search(r"--build|down", deed.note):
            words = (
                "before, everything stopped during a deploy"
                if "down" in deed.note
                else "before, the server built the image"
            )
            yield PipelineChange(work.path, words, False, deed.where)
    for (kind, where), notes in lost.items():
        yield PipelineChange(
            work.path, _LOST_EFFECT_MESSAGES[kind].format(join_with_limit(dict.fromkeys(notes))), True, where
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
            there = join_with_limit(map(as_inline_code, stack.services))
            yield PipelineChange(
                "written by hand",
                f"{as_inline_code(path)} stays as it is, and no deploy reads it ({there})",
                False,
                path,
            )
