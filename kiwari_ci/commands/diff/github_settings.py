"""What builds and deploys → changes of what it asks of GitHub: secrets, variables, actions, time."""

import re
from collections.abc import Iterator

from kiwari_ci.commands.diff.change import Change, added, swapped
from kiwari_ci.commands.diff.snapshot import Facts, Work
from kiwari_ci.problems import enumerated
from kiwari_ci.readers.yaml_document import shown

_PINNED = re.compile(r"[0-9a-f]{40}")


def changes(before: Facts, after: Facts, involved: set[str]) -> Iterator[Change]:
    """Of the generated workflows, and of those of other hands that build or deploy the same."""
    old = [work for path, work in before.works.items() if work.generated or path in involved]
    new = [work for work in after.works.values() if work.generated]
    yield from _kept(old, new)
    endless = [job.where for work in old for job in work.workflow.jobs if not job.timeout]
    if endless and all(job.timeout for work in new for job in work.workflow.jobs):
        yield Change(
            "GitHub", f"every job ends in time; before, {len(endless)} could run for six hours", False, endless[0]
        )
    yield from _pins(old, new)


def _kept(was: list[Work], now: list[Work]) -> Iterator[Change]:
    """Secrets and variables that GitHub must have, or need no longer be there."""
    for kind, command in (("secrets", "secret"), ("variables", "variable")):
        old, new = _users(was, kind), _users(now, kind)
        for name in new:
            users = [path for path in new[name] if path not in old.get(name, {})]
            by = enumerated(_short(path) for path in users)
            if name not in old:
                words = f"needs the {command} {shown(name)}, for {by}: gh {command} set {name}"
                yield Change("GitHub", words, True, new[name][users[0]], (("", name),))
            elif users and any(work.path == users[0] for work in was):
                yield Change(
                    "GitHub",
                    f"{by} now also reads the {command} {shown(name)}",
                    True,
                    new[name][users[0]],
                    (("", name),),
                )
        if gone := added(new, old):
            what = (
                f"{command} {shown(gone[0])} is" if len(gone) == 1 else f"{kind} {enumerated(map(shown, gone), 20)} are"
            )
            where = next(iter(old[gone[0]].values()))
            words = f"the {what} no longer read by what builds and deploys"
            yield Change("GitHub", words, False, where, tuple((name, "") for name in gone))


def _users(works: list[Work], kind: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for work in works:
        kept: dict[str, str] = getattr(work.workflow, kind)
        for name, where in kept.items():
            found.setdefault(name, {})[work.path] = where
    return found


def _pins(was: list[Work], now: list[Work]) -> Iterator[Change]:
    old, new = _refs(was), _refs(now)
    loose = [
        f"{name}@{ref}" for name, refs in old.items() for ref in refs if not _PINNED.fullmatch(ref) and name in new
    ]
    if loose:
        yield Change(
            "GitHub", f"actions are pinned to commits; before, by a name that moves: {enumerated(map(shown, loose))}"
        )
    for name in (each for each in new if each in old):
        gone, came = sorted(set(old[name]) - set(new[name])), sorted(set(new[name]) - set(old[name]))
        if not came or any(f"{name}@{ref}" in loose for ref in gone):
            continue
        where = new[name][came[0]]
        risky = any(not _PINNED.fullmatch(ref) for ref in came)
        words = f"action {shown(name)} {enumerated(gone or ['also'])} → {enumerated(came)}"
        yield Change(
            "GitHub", words + (", which is no commit: it can move" if risky else ""), risky, where, swapped(gone, came)
        )
    for name in added(old, new):
        yield Change(
            "GitHub",
            f"uses the action {shown(name)}",
            not all(_PINNED.fullmatch(ref) for ref in new[name]),
            next(iter(new[name].values())),
        )


def _refs(works: list[Work]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for work in works:
        for name, refs in work.workflow.actions.items():
            found.setdefault(name, {}).update(refs)
    return found


def _short(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0]
