"""Files of other hands → changes: which stay and would do the same once more, and what is lost with them."""

import re
from collections.abc import Iterator

from .change import Change, enumerated, harmless
from .facts import Facts, Work
from .reading import shown
from .roles import Names, Roles

_LOST = {
    "migrate": "{} are no longer run: do it by hand before the deploy, as the runbook says",
    "copy": "{}: nothing does that any more",
    "remote": "no longer done {}",
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
            words = f"stays, and still {enumerated(told)} {_when(work)}: delete it in the same commit"
            yield Change("written by hand", f"{shown(path)} {words}", True, path)
        elif first:
            yield Change("written by hand", f"{shown(path)} stays as it is ({_when(work)})", False, path)
    done = {deed.what for work in after.works.values() for _, deed in work.deeds}
    for path, work in before.works.items():
        if not work.generated and path in was.involved():
            yield from _lost(work, done)
    if first:
        yield from _compose(before, after, names)


def _still(path: str, was: Roles) -> list[str]:
    """What a workflow builds and deploys that the generated ones do too."""
    deploys = [name for name, roles in was.deploys.items() if any(work.path == path for work, _, _ in roles)]
    builds = [name for name, roles in was.builds.items() if any(work.path == path for work, _, _ in roles)]
    told = [f"deploys {enumerated(map(shown, deploys))}"] if deploys else []
    return told + ([f"pushes the image of {enumerated(map(shown, builds))}"] if builds else [])


def _when(work: Work) -> str:
    return enumerated(work.workflow.triggers, 4) or "when called"


def _lost(work: Work, done: set[str]) -> Iterator[Change]:
    for deed in dict.fromkeys(deed for _, deed in work.deeds):
        if deed.kind in _LOST and deed.what not in done:
            yield Change(work.path, _LOST[deed.kind].format(harmless(deed.note)), True, deed.where)
        elif deed.kind == "deploy" and re.search(r"up --build|down", deed.note):
            words = (
                "before, everything stopped during a deploy"
                if "down" in deed.note
                else "before, the server built the image"
            )
            yield Change(work.path, words, False, deed.where)


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
