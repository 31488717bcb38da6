"""Files of other hands → changes: which stay and would do the same once more, and what is lost with them."""

import re
from collections.abc import Iterator

from kiwari_ci.commands.diff.change import Change, without_secrets
from kiwari_ci.commands.diff.matching import Names, Roles
from kiwari_ci.commands.diff.snapshot import Facts, Work
from kiwari_ci.problems import enumerated
from kiwari_ci.readers.step_effects import repository
from kiwari_ci.readers.yaml_document import shown

_LOST = {
    "migrate": "migrations are no longer run: {}; run them by hand before the deploy (runbook)",
    "push": "no service of the spec builds {}",
    "remote": "no longer done on the server: {}",
    "other": "no longer done: {}",
}


def changes(before: Facts, after: Facts, stays: Facts, was: Roles, still: Roles, names: Names) -> Iterator[Change]:
    """What hand-written files would still do (`stays`, with the roles of those alone), and what is lost."""
    first = not before.generated
    for path, work in stays.works.items():
        if work.generated:
            continue
        if path in after.works:
            words = f"{shown(path)} is replaced by a generated one: generate asks for --force"
            yield Change("written by hand", words, False, path)
        elif told := _still(path, still):
            words = f"{shown(path)} stays, and still {enumerated(told)} {_when(work)}: {_cure(path, still)}"
            yield Change("written by hand", words, True, path)
        elif first:
            yield Change(
                "written by hand", f"{shown(path)} stays as it is ({_when(work)}){_others(path, still)}", False, path
            )
    done = {deed.what for work in after.works.values() for _, deed in work.deeds}
    for path, work in before.works.items():
        if not work.generated and path in was.involved():
            jobs = _jobs(path, was) if not _deploys(path, was) and path not in after.works else set()
            yield from _lost(work, done, jobs, names)
    if first:
        yield from _compose(before, after, names)


def _others(path: str, roles: Roles) -> str:
    """What it deploys that no environment of the spec is."""
    there = dict.fromkeys(
        shown(deed.what.split("\n")[0] or ".") for work, _, deed in roles.unknown if work.path == path
    )
    return f"; it deploys {enumerated(there)}, which is no environment of the spec" if there else ""


def _deploys(path: str, roles: Roles) -> bool:
    return any(work.path == path for found in roles.deploys.values() for work, _, _ in found)


def _jobs(path: str, roles: Roles) -> set[str]:
    return {job.id for found in roles.builds.values() for work, job, _ in found if work.path == path}


def _cure(path: str, roles: Roles) -> str:
    """A file that deploys goes; of one that only builds, the jobs that do."""
    if _deploys(path, roles):
        return "delete it in the same commit"
    return f"take its jobs {enumerated(map(shown, sorted(_jobs(path, roles))))} out in the same commit"


def _still(path: str, was: Roles) -> list[str]:
    """What a workflow builds and deploys that the generated ones do too."""
    deploys = [name for name, roles in was.deploys.items() if any(work.path == path for work, _, _ in roles)]
    builds = [name for name, roles in was.builds.items() if any(work.path == path for work, _, _ in roles)]
    told = [f"deploys {enumerated(map(shown, deploys))}"] if deploys else []
    return told + ([f"pushes the image of {enumerated(map(shown, builds))}"] if builds else [])


def _when(work: Work) -> str:
    return enumerated(work.workflow.triggers, 4) or "when called"


def _lost(work: Work, done: set[str], jobs: set[str], names: Names) -> Iterator[Change]:
    """What is done by nothing any more, by step; of these jobs, or of all when none is named."""
    lost: dict[tuple[str, str], list[str]] = {}
    for job, deed in work.deeds:
        if jobs and job.id not in jobs:
            continue
        if deed.kind in _LOST and deed.kind != "push" and deed.what not in done:
            lost.setdefault((deed.kind, deed.where), []).append(without_secrets(deed.note))
        elif deed.kind == "push" and repository(deed.what) not in names.images:
            lost.setdefault((deed.kind, deed.where), []).append(shown(repository(deed.what)))
        elif deed.kind == "deploy" and re.search(r"--build|down", deed.note):
            words = (
                "before, everything stopped during a deploy"
                if "down" in deed.note
                else "before, the server built the image"
            )
            yield Change(work.path, words, False, deed.where)
    for (kind, where), notes in lost.items():
        yield Change(work.path, _LOST[kind].format(enumerated(dict.fromkeys(notes))), True, where)


def _compose(before: Facts, after: Facts, names: Names) -> Iterator[Change]:
    for path, stack in before.stacks.items():
        if (
            not stack.generated
            and path not in after.stacks
            and stack.path not in names.stacks
            and stack.name not in names.stacks
        ):
            there = enumerated(map(shown, stack.services))
            yield Change(
                "written by hand", f"{shown(path)} stays as it is, and no deploy reads it ({there})", False, path
            )
