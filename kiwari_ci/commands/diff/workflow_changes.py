"""Compares who builds and who deploys, when, from what, and with which permissions."""

import re
from collections.abc import Iterator
from enum import Enum

from kiwari_ci.commands.diff import deploy_transport
from kiwari_ci.commands.diff.change import (
    PipelineChange,
    find_added,
    format_names,
    iter_added_removed,
    pair_replacements,
    redact_secrets,
)
from kiwari_ci.commands.diff.matching import Responsibilities, ResponsibleJob
from kiwari_ci.commands.diff.snapshot import WorkflowWithEffects
from kiwari_ci.plan import Plan
from kiwari_ci.problems import join_with_limit
from kiwari_ci.readers.image_reference import parse_image_repository, parse_image_tag
from kiwari_ci.readers.step_effects import HOST_PROGRAM_NOTE, StepEffect
from kiwari_ci.readers.workflow import ParsedJob, ParsedWorkflow
from kiwari_ci.readers.yaml_document import as_inline_code

_PERMISSION_RANKS = {"read": 1, "write": 2}


def compare_responsibilities(
    old_roles: Responsibilities, new_roles: Responsibilities, plan: Plan
) -> Iterator[PipelineChange]:
    """Compare who builds each service, and who deploys each environment."""
    for service in dict.fromkeys([*new_roles.builds, *old_roles.builds]):
        yield from _compare_builds(service, old_roles.builds.get(service, []), new_roles.builds.get(service, []))
    for environment in dict.fromkeys([*new_roles.deploys, *old_roles.deploys]):
        yield from _compare_deploys(
            environment, old_roles.deploys.get(environment, []), new_roles.deploys.get(environment, []), plan
        )


def _compare_builds(
    service: str, old_roles: list[ResponsibleJob], new_roles: list[ResponsibleJob]
) -> Iterator[PipelineChange]:
    if not old_roles or not new_roles:
        workflow, _, effect = (new_roles or old_roles)[0]
        image = as_inline_code(parse_image_repository(effect.what))
        path = _format_workflow_path(workflow)
        if new_roles:
            yield PipelineChange(service, f"now built by {path}: {image}", False, effect.where, (("", service),))
        else:
            words = f"no longer built: {image}; it was by {path}"
            yield PipelineChange(service, words, True, effect.where, ((service, ""),))
        return
    where = new_roles[0].effect.where
    yield from _compare_pushed_images(service, old_roles, new_roles)
    old_dockerfiles, new_dockerfiles = _list_dockerfiles(old_roles), _list_dockerfiles(new_roles)
    for dockerfile in find_added(old_dockerfiles, new_dockerfiles):
        words = f"its image is built from {as_inline_code(dockerfile)}"
        yield PipelineChange(service, words, False, where, pair_replacements(old_dockerfiles, new_dockerfiles))
    old_builders, new_builders = _select_builders(old_roles), _select_builders(new_roles)
    old_paths = {workflow.path for workflow, _, _ in old_builders}
    new_paths = {workflow.path for workflow, _, _ in new_builders}
    if not old_paths & new_paths:
        words = f"built by {format_names(sorted(new_paths))}; before: {format_names(sorted(old_paths))}"
        yield PipelineChange(service, words, False, where)
    yield from _compare_triggers(service, "build", old_builders, new_builders)
    yield from _compare_test_triggers(service, old_builders, new_builders)
    yield from _compare_path_filters(service, old_builders, new_builders)
    yield from _compare_permissions(service, "the job that builds it", old_roles, new_roles)


def _select_builders(roles: list[ResponsibleJob]) -> list[ResponsibleJob]:
    """The jobs that build; a promotion only tags."""
    return [role for role in roles if role.effect.kind == "build"] or roles


def _compare_pushed_images(
    service: str, old_roles: list[ResponsibleJob], new_roles: list[ResponsibleJob]
) -> Iterator[PipelineChange]:
    old, new = _list_pushed_images(old_roles), _list_pushed_images(new_roles)
    names, renamed = {parse_image_repository(each) for each in old}, {parse_image_repository(each) for each in new}
    where = new_roles[0].effect.where
    if new and old and not names & renamed:
        words = f"image {format_names(sorted(names))} → {format_names(sorted(renamed))}"
        yield PipelineChange(service, words, True, where, pair_replacements(sorted(names), sorted(renamed)))
    if not old and new:
        yield PipelineChange(service, f"its image is pushed: {format_names(sorted(new))}", False, where)
    for each, is_new in iter_added_removed(map(parse_image_tag, old), map(parse_image_tag, new)) if old and new else ():
        if is_new:
            yield PipelineChange(
                service,
                f"its image is also tagged {as_inline_code(each)}",
                False,
                find_tag_location(new_roles, each),
                (("", each),),
            )
        else:
            words = (
                f"its image is no longer tagged {as_inline_code(each)}: whoever pulls that tag stays with an old one"
            )
            yield PipelineChange(service, words, True, find_tag_location(old_roles, each), ((each, ""),))


def find_tag_location(roles: list[ResponsibleJob], wanted: str) -> str:
    """Where a tag is pushed."""
    return next(
        (effect.where for _, _, effect in roles if effect.kind == "push" and parse_image_tag(effect.what) == wanted), ""
    )


def _list_pushed_images(roles: list[ResponsibleJob]) -> list[str]:
    return list(dict.fromkeys(effect.what for _, _, effect in roles if effect.kind == "push"))


def _list_dockerfiles(roles: list[ResponsibleJob]) -> list[str]:
    return list(dict.fromkeys(effect.note for _, _, effect in roles if effect.kind == "build" and effect.note))


def _compare_triggers(
    subject: str, verb: str, old_roles: list[ResponsibleJob], new_roles: list[ResponsibleJob]
) -> Iterator[PipelineChange]:
    for when, is_new in iter_added_removed(
        (each for _, job, _ in old_roles for each in job.when), (each for _, job, _ in new_roles for each in job.when)
    ):
        workflow = (new_roles if is_new else old_roles)[0].workflow
        where = workflow.parsed.triggers.get(when, "")
        if is_new:
            yield PipelineChange(
                subject, f"now also {verb}s {when}", "pull request target" in when, where, _pair_trigger_texts("", when)
            )
        else:
            yield PipelineChange(subject, f"no longer {verb}s {when}", True, where, _pair_trigger_texts(when, ""))


def _compare_test_triggers(
    service: str, old_roles: list[ResponsibleJob], new_roles: list[ResponsibleJob]
) -> Iterator[PipelineChange]:
    """What starts the tests, and builds and deploys nothing."""
    old, new = (
        {each for workflow in _list_workflows(roles) for each in workflow.parsed.triggers}
        for roles in (old_roles, new_roles)
    )
    built = {each for _, job, _ in (*old_roles, *new_roles) for each in job.when}
    for each, is_new in iter_added_removed(sorted(old - built), sorted(new - built)):
        where = (new_roles if is_new else old_roles)[0].workflow.parsed.triggers.get(each, "")
        yield PipelineChange(
            service, f"its tests {'now also' if is_new else 'no longer'} run {each}", not is_new, where
        )


def _pair_trigger_texts(before: str, after: str) -> tuple[tuple[str, str], ...]:
    """The texts in backticks of two triggers, as the file has them."""
    old, new = re.findall(r"`([^`]+)`", before) or [""], re.findall(r"`([^`]+)`", after) or [""]
    return tuple(zip(old, new, strict=False))


def _compare_path_filters(
    service: str, old_roles: list[ResponsibleJob], new_roles: list[ResponsibleJob]
) -> Iterator[PipelineChange]:
    old, new = _collect_path_patterns(old_roles), _collect_path_patterns(new_roles)
    where = new_roles[0].workflow.parsed.document.where("on", "push", "paths")
    narrow, was_narrow = (any(not each.startswith("!") for each in patterns) for patterns in (new, old))
    if narrow and not was_narrow:
        before = f"; before: all but {join_with_limit(as_inline_code(each[1:]) for each in old)}" if old else ""
        words = f"only runs when one of these changes: {format_names(new)}{before}"
        yield PipelineChange(service, words, True, where)
        return
    if was_narrow and not narrow and not any("on push" in when for _, job, _ in new_roles for when in job.when):
        return  # no push starts it now, which has words
    if was_narrow and not narrow:
        words = f"no longer only runs when one of these changes: {format_names(old)}"
        yield PipelineChange(service, words, False, where)
        return
    for pattern, is_new in iter_added_removed(old, new):
        excludes = pattern.startswith("!")
        verb = f"filter {'now also ' if is_new else 'no longer '}{'leaves out' if excludes else 'matches'}"
        pairs = _pair_pathspecs("" if is_new else pattern, pattern if is_new else "")
        yield PipelineChange(
            service, f"{verb} {as_inline_code(pattern.removeprefix('!'))}", is_new == excludes, where, pairs
        )
    if old != new and sorted(old) == sorted(new) and any(each.startswith("!") for each in old):
        yield PipelineChange(service, f"filter in another order: {format_names(new)}", True, where)


def _pair_pathspecs(before: str, after: str) -> tuple[tuple[str, str], ...]:
    plain = (before or after).removeprefix("!").removesuffix("/**")
    return ((before, after), (f"{plain}/" if before else "", f"{plain}/" if after else ""))


def _collect_path_patterns(roles: list[ResponsibleJob]) -> list[str]:
    found = [
        workflow.parsed.filters.get("push", ()) for workflow, job, effect in roles if effect.kind in ("build", "push")
    ]
    lists = [
        each
        for each, (_, job, _) in zip(found, roles, strict=False)
        if not all(" tag " in when or when == "by hand" for when in job.when)
    ]
    return list(dict.fromkeys(pattern for each in lists for pattern in each)) if all(lists) else []


def _compare_permissions(
    subject: str, job_words: str, old_roles: list[ResponsibleJob], new_roles: list[ResponsibleJob]
) -> Iterator[PipelineChange]:
    """Permissions of the jobs that have a role, the widest of them; what is not said is the repository's setting."""
    old, new = _find_widest_permissions(old_roles), _find_widest_permissions(new_roles)
    where = new_roles[0].job.where
    if old is None or new is None or "everything" in {**old, **new}:
        if old != new:
            words = f"{job_words}: permissions {_format_permissions(old)} → {_format_permissions(new)}"
            yield PipelineChange(subject, words, new is None or "everything" in new, where)
        return
    for scope in sorted({*old, *new}):
        before, after = old.get(scope, "none"), new.get(scope, "none")
        if before != after:
            wider = _PERMISSION_RANKS.get(after, 0) > _PERMISSION_RANKS.get(before, 0)
            yield PipelineChange(subject, f"{job_words}: permission {scope} {before} → {after}", wider, where)


def _format_permissions(permissions: dict[str, str] | None) -> str:
    if permissions is None:
        return "of the repository's default"
    return join_with_limit(f"{scope} {level}" for scope, level in sorted(permissions.items())) or "none"


def _find_widest_permissions(roles: list[ResponsibleJob]) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for _, job, _ in roles:
        if job.permissions is None:
            return None
        for scope, level in job.permissions.items():
            if _PERMISSION_RANKS.get(level, 0) > _PERMISSION_RANKS.get(found.get(scope, ""), 0):
                found[scope] = level
    return found


def _compare_deploys(
    environment: str, old_roles: list[ResponsibleJob], new_roles: list[ResponsibleJob], plan: Plan
) -> Iterator[PipelineChange]:
    if not old_roles or not new_roles:
        workflow, _, effect = (new_roles or old_roles)[0]
        verb = "now deployed by" if new_roles else "no longer deployed; it was by"
        summary = _summarize_deploys(new_roles or old_roles)
        words = f"{verb} {_format_workflow_path(workflow)} ({summary})"
        yield PipelineChange(environment, words, not new_roles, effect.where)
        return
    where = new_roles[0].effect.where
    for container in sorted({effect.what for _, _, effect in old_roles if effect.kind == "container"}):
        words = f"container {as_inline_code(container)} was started by `docker run`: "
        words += "it must be removed by hand, for its name is taken"
        yield PipelineChange(environment, words, True, where)
    if _summarize_deploys(old_roles) != _summarize_deploys(new_roles):
        words = f"deployed by {_summarize_deploys(new_roles)}; before: {_summarize_deploys(old_roles)}"
        yield PipelineChange(environment, words, True, where)
    yield from _compare_triggers(environment, "deploy", old_roles, new_roles)
    yield from _compare_host_key_checks(environment, old_roles, new_roles, where)
    yield from deploy_transport.compare_deploy_transport(
        environment,
        deploy_transport.read_generated_transport(old_roles),
        deploy_transport.get_planned_transport(plan, environment),
        where,
    )
    yield from _compare_promoted_tags(environment, old_roles, new_roles)
    yield from _compare_health_checks(environment, _find_health_urls(old_roles), _find_health_urls(new_roles), where)
    yield from _compare_permissions(environment, "the job that deploys it", old_roles, new_roles)
    yield from _compare_concurrency(environment, old_roles, new_roles)


def _describe_deploy(effect: StepEffect) -> str:
    """How one deploy is done, and where."""
    place = as_inline_code(effect.what.partition("\n")[0] or ".")
    return effect.note if effect.kind == "container" else f"{effect.note} in {place}"


def _summarize_deploys(roles: list[ResponsibleJob]) -> str:
    ways_there = dict.fromkeys(_describe_deploy(effect) for _, _, effect in roles)
    if any(HOST_PROGRAM_NOTE in way for way in ways_there):
        return join_with_limit(way.replace(" in ", ", stack ") for way in ways_there)
    return redact_secrets(join_with_limit(ways_there, 4))


def _compare_host_key_checks(
    environment: str, old_roles: list[ResponsibleJob], new_roles: list[ResponsibleJob], where: str
) -> Iterator[PipelineChange]:
    old, new = (
        {effect.what for _, effect in _iter_related_effects(roles, _JobScope.SAME) if effect.kind == "login"}
        for roles in (old_roles, new_roles)
    )
    for each in sorted(old - new - {""}):
        yield PipelineChange(environment, f"the host's key is compared with a known one; before, {each}", False, where)
    for each in sorted(new - old - {""}):
        yield PipelineChange(environment, f"the host's key is no longer compared: {each}", True, where)


class _JobScope(Enum):
    """Which jobs beside those that deploy: none, those that they wait for, those that wait for them."""

    SAME, BEFORE, AFTER = range(3)


def _iter_related_effects(roles: list[ResponsibleJob], way: _JobScope) -> Iterator[tuple[ParsedJob, StepEffect]]:
    """The deeds of the jobs that deploy, and of those before or after them."""
    for workflow in _list_workflows(roles):
        jobs = {job.id: job for job in workflow.parsed.jobs}
        found = {job.id for other, job, _ in roles if other.path == workflow.path}
        for _ in jobs:
            if way is _JobScope.BEFORE:
                found |= {need for name in found for need in jobs[name].needs if need in jobs}
            elif way is _JobScope.AFTER:
                found |= {name for name, job in jobs.items() if found & set(job.needs)}
        yield from ((job, effect) for job, effect in workflow.effects if job.id in found)


def _compare_concurrency(
    environment: str, old_roles: list[ResponsibleJob], new_roles: list[ResponsibleJob]
) -> Iterator[PipelineChange]:
    """How runs that come at once are held apart."""
    old, new = (
        {workflow.parsed.concurrency for workflow in _list_workflows(roles)} - {""} for roles in (old_roles, new_roles)
    )
    gone, came = sorted(old - new), sorted(new - old)
    if (gone and came) or not old or not new:
        words = f"runs that come at once: {join_with_limit(came, 2) or 'not held apart'}"
        words += (
            f"; before: {join_with_limit(gone, 2)}" if gone else "; before, they were not held apart" if not old else ""
        )
        where = new_roles[0].workflow.parsed.document.where("concurrency")
        pairs = pair_replacements(
            *([text for each in side for text in re.findall(r"`([^`]+)`", each)] for side in (gone, came))
        )
        yield PipelineChange(environment, words, not new or any("cancelled" in each for each in came), where, pairs)


def _list_workflows(roles: list[ResponsibleJob]) -> list[WorkflowWithEffects]:
    return list({workflow.path: workflow for workflow, _, _ in roles}.values())


def _compare_promoted_tags(
    environment: str, old_roles: list[ResponsibleJob], new_roles: list[ResponsibleJob]
) -> Iterator[PipelineChange]:
    """Compare the tags of the images that are promoted."""
    old_tags, new_tags = _list_promoted_tags(old_roles), _list_promoted_tags(new_roles)
    where = new_roles[0].effect.where
    if not new_tags or old_tags == new_tags:
        return
    promoted = join_with_limit(map(_describe_promoted_tag, new_tags))
    if old_tags:
        before = join_with_limit(map(_describe_promoted_tag, old_tags))
        yield PipelineChange(environment, f"promotes {promoted}; before: {before}", False, where)
    elif not any(effect.kind == "build" for _, effect in _iter_related_effects(new_roles, _JobScope.BEFORE)):
        yield PipelineChange(environment, f"nothing is built for it: it gets {promoted}", True, where)


def _list_promoted_tags(roles: list[ResponsibleJob]) -> list[str]:
    effects = [effect for _, effect in _iter_related_effects(roles, _JobScope.BEFORE)]
    return list(dict.fromkeys(parse_image_tag(effect.what) for effect in effects if effect.kind == "take"))


def _describe_promoted_tag(tag: str) -> str:
    if tag == "src-<key>":
        return "the image that was built from the tagged source"
    return f"whatever {as_inline_code(tag)} is"


def _compare_health_checks(
    environment: str, old: dict[str, str], new: dict[str, str], where: str
) -> Iterator[PipelineChange]:
    """Compare what is asked after a deploy: paths by their domains."""
    removed, added = [domain for domain in old if domain not in new], [domain for domain in new if domain not in old]
    if len(removed) == len(added) == 1:
        words = f"health is asked of {as_inline_code(added[0])}, not {as_inline_code(removed[0])}: "
        words += "DNS and the proxy must lead there"
        yield PipelineChange(environment, words, True, where, ((removed[0], added[0]),))
        removed, added = [], []
    for domain in removed:
        words = f"health of {as_inline_code(domain + old[domain])} is no longer checked"
        yield PipelineChange(environment, words, not new, where, ((domain, ""),))
    for domain in added:
        path = f" at {as_inline_code(new[domain])}" if new[domain] else ""
        words = f"health of {as_inline_code(domain)} is checked{path}"
        yield PipelineChange(environment, words, False, where, (("", domain),))
    for domain, old_path in old.items():
        new_path = new.get(domain)
        if old_path and new_path and old_path != new_path:
            words = f"health of {as_inline_code(domain)} is asked at {as_inline_code(new_path)}, "
            words += f"not {as_inline_code(old_path)}"
            yield PipelineChange(environment, words, True, where, ((domain + old_path, domain + new_path),))


def _find_health_urls(roles: list[ResponsibleJob]) -> dict[str, str]:
    """Domain → path that is asked after these roles deploy."""
    found: dict[str, str] = {}
    for _, effect in _iter_related_effects(roles, _JobScope.AFTER):
        if effect.kind == "check" and (url := re.match(r"(?:https?://)?([^/\s]+)([^\s?]*)", effect.what)):
            found[url[1]] = url[2] or "/"
    return found


def _format_workflow_path(workflow: WorkflowWithEffects) -> str:
    return as_inline_code(workflow.path)


def describe_triggers(workflow: ParsedWorkflow) -> str:
    """When a workflow runs, in words."""
    return join_with_limit(workflow.triggers, 4) or "never"
