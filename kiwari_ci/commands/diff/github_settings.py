"""Compares what workflows need of GitHub: secrets, variables, actions and job timeouts."""

import re
from collections.abc import Iterator

from kiwari_ci.commands.diff.change import (
    EVERY_ADOPTION,
    PipelineChange,
    find_added,
    format_names,
    pair_replacements,
)
from kiwari_ci.commands.diff.snapshot import PipelineSnapshot, WorkflowWithEffects
from kiwari_ci.problems import join_with_limit
from kiwari_ci.readers.yaml_document import as_inline_code, iter_strings

_COMMIT_HASH = re.compile(r"[0-9a-f]{40}")


def compare_github_settings(
    before: PipelineSnapshot, after: PipelineSnapshot, involved: set[str], kept_jobs: dict[str, set[str]]
) -> Iterator[PipelineChange]:
    """Compare generated workflows, and hand-written ones that build or deploy the same.

    `kept_jobs` are the jobs of such workflows that nothing replaces.
    """
    old = [workflow for path, workflow in before.workflows.items() if workflow.generated or path in involved]
    new = [workflow for workflow in after.workflows.values() if workflow.generated]
    remaining_workflows = [
        workflow for path, workflow in before.workflows.items() if not workflow.generated and path not in involved
    ]
    kept_texts = [
        text
        for path, jobs in kept_jobs.items()
        for job in jobs
        for _, text in iter_strings(before.workflows[path].parsed.document.data["jobs"][job])
    ]
    yield from _compare_setting_names(old, new, remaining_workflows, kept_texts)
    endless = [job.where for workflow in old for job in workflow.parsed.jobs if not job.timeout]
    if endless and all(job.timeout for workflow in new for job in workflow.parsed.jobs):
        message = f"every job ends in time; before, {len(endless)} could run for six hours"
        item = "jobs have a time limit"
        yield PipelineChange("GitHub", message, False, endless[0], summary=EVERY_ADOPTION, item=item)
    yield from _compare_action_pins(old, new)


def _compare_setting_names(
    old_workflows: list[WorkflowWithEffects],
    new_workflows: list[WorkflowWithEffects],
    kept_workflows: list[WorkflowWithEffects],
    kept_texts: list[str],
) -> Iterator[PipelineChange]:
    """Report secrets and variables that GitHub must have, or does not need any more.

    The workflows that stay need theirs, and so do the jobs that stay, whose texts are given.
    """
    for kind, command in (("secrets", "secret"), ("variables", "variable")):
        old, new = _collect_setting_users(old_workflows, kind), _collect_setting_users(new_workflows, kind)
        for name, paths in new.items():
            new_users = [path for path in paths if path not in old.get(name, {})]
            if not new_users:
                continue
            where = paths[new_users[0]]
            user_names = join_with_limit(_format_workflow_name(path) for path in new_users)
            if name not in old:
                message = f"needs the {command} {as_inline_code(name)}, for {user_names}: gh {command} set {name}"
                yield PipelineChange(
                    "GitHub",
                    message,
                    True,
                    where,
                    (("", name),),
                    stage="before",
                    summary=f"set these {kind} on GitHub with `gh {command} set NAME` (runbook, step 5)",
                    item=as_inline_code(name),
                )
            elif any(workflow.path == new_users[0] for workflow in old_workflows):
                message = f"{user_names} now also reads the {command} {as_inline_code(name)}"
                yield PipelineChange("GitHub", message, True, where, (("", name),))
        still_read = {*new, *_collect_setting_users(kept_workflows, kind)}
        context = "vars" if kind == "variables" else kind
        read_by_jobs = {name for text in kept_texts for name in re.findall(rf"\b{context}\.(\w+)", text)}
        removed = find_added({*still_read, *read_by_jobs}, old)
        if removed:
            if len(removed) == 1:
                subject = f"{command} {as_inline_code(removed[0])} is"
            else:
                subject = f"{kind} {format_names(removed, 20)} are"
            where = next(iter(old[removed[0]].values()))
            message = f"the {subject} no longer read by what builds and deploys"
            yield PipelineChange(
                "GitHub",
                message,
                False,
                where,
                tuple((name, "") for name in removed),
                stage="after",
                summary=f"when you no longer want to go back, delete these {kind} with `gh {command} delete NAME`",
                item=format_names(removed, 20),
            )


def _collect_setting_users(workflows: list[WorkflowWithEffects], kind: str) -> dict[str, dict[str, str]]:
    users: dict[str, dict[str, str]] = {}
    for workflow in workflows:
        names: dict[str, str] = getattr(workflow.parsed, kind)
        for name, where in names.items():
            users.setdefault(name, {})[workflow.path] = where
    return users


def _compare_action_pins(
    old_workflows: list[WorkflowWithEffects], new_workflows: list[WorkflowWithEffects]
) -> Iterator[PipelineChange]:
    old, new = _collect_action_refs(old_workflows), _collect_action_refs(new_workflows)
    moving_refs: list[str] = []
    for action, refs in old.items():
        if action in new:
            moving_refs += [f"{action}@{ref}" for ref in refs if not _COMMIT_HASH.fullmatch(ref)]
    if moving_refs:
        message = f"actions are pinned to commits; before, by a name that moves: {format_names(moving_refs)}"
        yield PipelineChange("GitHub", message, summary=EVERY_ADOPTION, item="actions are pinned to commits")
    for action in new:
        if action in old:
            yield from _compare_action_refs(action, old[action], new[action], moving_refs)
    for action in find_added(old, new):
        is_risky = not all(_COMMIT_HASH.fullmatch(ref) for ref in new[action])
        where = next(iter(new[action].values()))
        yield PipelineChange(
            "GitHub",
            f"uses the action {as_inline_code(action)}",
            is_risky,
            where,
            summary="" if is_risky else "the generated workflows also use these actions",
            item=as_inline_code(action),
        )


def _compare_action_refs(
    action: str, old_refs: dict[str, str], new_refs: dict[str, str], moving_refs: list[str]
) -> Iterator[PipelineChange]:
    """Compare the commits of one action, unless it was pinned to a name that moves, which is reported for all."""
    removed, added = sorted(set(old_refs) - set(new_refs)), sorted(set(new_refs) - set(old_refs))
    if not added or any(f"{action}@{ref}" in moving_refs for ref in removed):
        return
    message = f"action {as_inline_code(action)} {join_with_limit(removed or ['also'])} → {join_with_limit(added)}"
    is_risky = any(not _COMMIT_HASH.fullmatch(ref) for ref in added)
    if is_risky:
        message += ", which is no commit: it can move"
    yield PipelineChange("GitHub", message, is_risky, new_refs[added[0]], pair_replacements(removed, added))


def _collect_action_refs(workflows: list[WorkflowWithEffects]) -> dict[str, dict[str, str]]:
    refs_by_action: dict[str, dict[str, str]] = {}
    for workflow in workflows:
        for name, refs in workflow.parsed.actions.items():
            refs_by_action.setdefault(name, {}).update(refs)
    return refs_by_action


def _format_workflow_name(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0]
