"""What builds and deploys → changes of what it asks of GitHub: secrets, variables, actions, time."""

import re
from collections.abc import Iterator

from kiwari_ci.commands.diff.change import PipelineChange, find_added, format_names, pair_replacements
from kiwari_ci.commands.diff.snapshot import PipelineSnapshot, WorkflowWithEffects
from kiwari_ci.problems import join_with_limit
from kiwari_ci.readers.yaml_document import as_inline_code

_COMMIT_HASH = re.compile(r"[0-9a-f]{40}")


def compare_github_settings(
    before: PipelineSnapshot, after: PipelineSnapshot, involved: set[str]
) -> Iterator[PipelineChange]:
    """Of the generated workflows, and of those of other hands that build or deploy the same."""
    old = [workflow for path, workflow in before.workflows.items() if workflow.generated or path in involved]
    new = [workflow for workflow in after.workflows.values() if workflow.generated]
    yield from _compare_setting_names(old, new)
    endless = [job.where for workflow in old for job in workflow.parsed.jobs if not job.timeout]
    if endless and all(job.timeout for workflow in new for job in workflow.parsed.jobs):
        yield PipelineChange(
            "GitHub", f"every job ends in time; before, {len(endless)} could run for six hours", False, endless[0]
        )
    yield from _compare_action_pins(old, new)


def _compare_setting_names(was: list[WorkflowWithEffects], now: list[WorkflowWithEffects]) -> Iterator[PipelineChange]:
    """Secrets and variables that GitHub must have, or need no longer be there."""
    for kind, command in (("secrets", "secret"), ("variables", "variable")):
        old, new = _collect_setting_users(was, kind), _collect_setting_users(now, kind)
        for name in new:
            users = [path for path in new[name] if path not in old.get(name, {})]
            by = join_with_limit(_format_workflow_name(path) for path in users)
            if name not in old:
                words = f"needs the {command} {as_inline_code(name)}, for {by}: gh {command} set {name}"
                yield PipelineChange("GitHub", words, True, new[name][users[0]], (("", name),))
            elif users and any(workflow.path == users[0] for workflow in was):
                yield PipelineChange(
                    "GitHub",
                    f"{by} now also reads the {command} {as_inline_code(name)}",
                    True,
                    new[name][users[0]],
                    (("", name),),
                )
        if gone := find_added(new, old):
            what = (
                f"{command} {as_inline_code(gone[0])} is" if len(gone) == 1 else f"{kind} {format_names(gone, 20)} are"
            )
            where = next(iter(old[gone[0]].values()))
            words = f"the {what} no longer read by what builds and deploys"
            yield PipelineChange("GitHub", words, False, where, tuple((name, "") for name in gone))


def _collect_setting_users(workflows: list[WorkflowWithEffects], kind: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for workflow in workflows:
        kept: dict[str, str] = getattr(workflow.parsed, kind)
        for name, where in kept.items():
            found.setdefault(name, {})[workflow.path] = where
    return found


def _compare_action_pins(was: list[WorkflowWithEffects], now: list[WorkflowWithEffects]) -> Iterator[PipelineChange]:
    old, new = _collect_action_refs(was), _collect_action_refs(now)
    loose = [
        f"{name}@{ref}" for name, refs in old.items() for ref in refs if not _COMMIT_HASH.fullmatch(ref) and name in new
    ]
    if loose:
        yield PipelineChange(
            "GitHub",
            f"actions are pinned to commits; before, by a name that moves: {format_names(loose)}",
        )
    for name in (each for each in new if each in old):
        gone, came = sorted(set(old[name]) - set(new[name])), sorted(set(new[name]) - set(old[name]))
        if not came or any(f"{name}@{ref}" in loose for ref in gone):
            continue
        where = new[name][came[0]]
        risky = any(not _COMMIT_HASH.fullmatch(ref) for ref in came)
        words = f"action {as_inline_code(name)} {join_with_limit(gone or ['also'])} → {join_with_limit(came)}"
        yield PipelineChange(
            "GitHub",
            words + (", which is no commit: it can move" if risky else ""),
            risky,
            where,
            pair_replacements(gone, came),
        )
    for name in find_added(old, new):
        yield PipelineChange(
            "GitHub",
            f"uses the action {as_inline_code(name)}",
            not all(_COMMIT_HASH.fullmatch(ref) for ref in new[name]),
            next(iter(new[name].values())),
        )


def _collect_action_refs(workflows: list[WorkflowWithEffects]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for workflow in workflows:
        for name, refs in workflow.parsed.actions.items():
            found.setdefault(name, {}).update(refs)
    return found


def _format_workflow_name(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0]
