"""Roles → changes: who builds, who deploys, when, from what, and what that asks of GitHub."""

import re
from collections.abc import Iterator
from enum import Enum

from kiwari_ci.commands.diff import deploy_transport
from kiwari_ci.commands.diff.change import PipelineChange, iter_added_removed, pair_replacements, redact_secrets
from kiwari_ci.commands.diff.matching import Responsibilities, ResponsibleJob
from kiwari_ci.commands.diff.snapshot import WorkflowWithEffects
from kiwari_ci.problems import join_with_limit
from kiwari_ci.readers.image_reference import parse_image_repository, parse_image_tag
from kiwari_ci.readers.step_effects import StepEffect
from kiwari_ci.readers.workflow import ParsedJob, ParsedWorkflow
from kiwari_ci.readers.yaml_document import as_inline_code

_PERMISSION_RANKS = {"read": 1, "write": 2}


def compare_responsibilities(was: Responsibilities, now: Responsibilities) -> Iterator[PipelineChange]:
    """All that the roles of two sides say."""
    for service in dict.fromkeys([*now.builds, *was.builds]):
        yield from _compare_builds(service, was.builds.get(service, []), now.builds.get(service, []))
    for environment in dict.fromkeys([*now.deploys, *was.deploys]):
        yield from _compare_deploys(environment, was.deploys.get(environment, []), now.deploys.get(environment, []))


def _compare_builds(service: str, was: list[ResponsibleJob], now: list[ResponsibleJob]) -> Iterator[PipelineChange]:
    if not was or not now:
        work, _, deed = (now or was)[0]
        image = as_inline_code(parse_image_repository(deed.what))
        words = (
            f"now built by {_format_workflow_path(work)}: {image}"
            if now
            else f"no longer built: {image}; it was by {_format_workflow_path(work)}"
        )
        pair = ("", service) if now else (service, "")
        yield PipelineChange(service, words, not now, deed.where, (pair,))
        return
    where = now[0][2].where
    yield from _compare_pushed_images(service, was, now)
    for recipe, is_new in iter_added_removed(_list_dockerfiles(was), _list_dockerfiles(now)):
        if is_new:
            yield PipelineChange(
                service,
                f"its image is built from {as_inline_code(recipe)}",
                False,
                where,
                pair_replacements(_list_dockerfiles(was), _list_dockerfiles(now)),
            )
    makers, made_by = _select_builders(was), _select_builders(now)
    old, new = ({work.path for work, _, _ in roles} for roles in (makers, made_by))
    if not old & new:
        words = f"built by {join_with_limit(map(as_inline_code, sorted(new)))}; before: {join_with_limit(map(as_inline_code, sorted(old)))}"
        yield PipelineChange(service, words, False, where)
    yield from _compare_triggers(service, "build", makers, made_by)
    yield from _compare_test_triggers(service, makers, made_by)
    yield from _compare_path_filters(service, makers, made_by)
    yield from _compare_permissions(service, "the job that builds it", was, now)


def _select_builders(roles: list[ResponsibleJob]) -> list[ResponsibleJob]:
    """Those that build: a promotion only tags."""
    return [role for role in roles if role[2].kind == "build"] or roles


def _compare_pushed_images(
    service: str, was: list[ResponsibleJob], now: list[ResponsibleJob]
) -> Iterator[PipelineChange]:
    old, new = _list_pushed_images(was), _list_pushed_images(now)
    names, renamed = {parse_image_repository(each) for each in old}, {parse_image_repository(each) for each in new}
    where = now[0][2].where
    if new and old and not names & renamed:
        words = f"image {join_with_limit(map(as_inline_code, sorted(names)))} → {join_with_limit(map(as_inline_code, sorted(renamed)))}"
        yield PipelineChange(service, words, True, where, pair_replacements(sorted(names), sorted(renamed)))
    if not old and new:
        yield PipelineChange(
            service, f"its image is pushed: {join_with_limit(map(as_inline_code, sorted(new)))}", False, where
        )
    for each, is_new in iter_added_removed(map(parse_image_tag, old), map(parse_image_tag, new)) if old and new else ():
        if is_new:
            yield PipelineChange(
                service,
                f"its image is also tagged {as_inline_code(each)}",
                False,
                find_tag_location(now, each),
                (("", each),),
            )
        else:
            words = (
                f"its image is no longer tagged {as_inline_code(each)}: whoever pulls that tag stays with an old one"
            )
            yield PipelineChange(service, words, True, find_tag_location(was, each), ((each, ""),))


def find_tag_location(roles: list[ResponsibleJob], wanted: str) -> str:
    """Where a tag is pushed."""
    return next(
        (deed.where for _, _, deed in roles if deed.kind == "push" and parse_image_tag(deed.what) == wanted), ""
    )


def _list_pushed_images(roles: list[ResponsibleJob]) -> list[str]:
    return list(dict.fromkeys(deed.what for _, _, deed in roles if deed.kind == "push"))


def _list_dockerfiles(roles: list[ResponsibleJob]) -> list[str]:
    return list(dict.fromkeys(deed.note for _, _, deed in roles if deed.kind == "build" and deed.note))


def _compare_triggers(
    subject: str, verb: str, was: list[ResponsibleJob], now: list[ResponsibleJob]
) -> Iterator[PipelineChange]:
    for when, is_new in iter_added_removed(
        (each for _, job, _ in was for each in job.when), (each for _, job, _ in now for each in job.when)
    ):
        work = (now if is_new else was)[0][0]
        where = work.workflow.triggers.get(when, "")
        if is_new:
            yield PipelineChange(
                subject, f"now also {verb}s {when}", "pull request target" in when, where, _pair_trigger_texts("", when)
            )
        else:
            yield PipelineChange(subject, f"no longer {verb}s {when}", True, where, _pair_trigger_texts(when, ""))


def _compare_test_triggers(
    service: str, was: list[ResponsibleJob], now: list[ResponsibleJob]
) -> Iterator[PipelineChange]:
    """What starts the tests, and builds and deploys nothing."""
    old, new = ({each for work in _list_workflows(roles) for each in work.workflow.triggers} for roles in (was, now))
    built = {each for _, job, _ in (*was, *now) for each in job.when}
    for each, is_new in iter_added_removed(sorted(old - built), sorted(new - built)):
        where = (now if is_new else was)[0][0].workflow.triggers.get(each, "")
        yield PipelineChange(
            service, f"its tests {'now also' if is_new else 'no longer'} run {each}", not is_new, where
        )


def _pair_trigger_texts(before: str, after: str) -> tuple[tuple[str, str], ...]:
    """The texts in backticks of two triggers, as the file has them."""
    old, new = re.findall(r"`([^`]+)`", before) or [""], re.findall(r"`([^`]+)`", after) or [""]
    return tuple(zip(old, new, strict=False))


def _compare_path_filters(
    service: str, was: list[ResponsibleJob], now: list[ResponsibleJob]
) -> Iterator[PipelineChange]:
    old, new = _collect_path_patterns(was), _collect_path_patterns(now)
    where = now[0][0].workflow.document.where("on", "push", "paths")
    narrow, was_narrow = (any(not each.startswith("!") for each in patterns) for patterns in (new, old))
    if narrow and not was_narrow:
        before = f"; before: all but {join_with_limit(as_inline_code(each[1:]) for each in old)}" if old else ""
        words = f"only runs when one of these changes: {join_with_limit(map(as_inline_code, new))}{before}"
        yield PipelineChange(service, words, True, where)
        return
    if was_narrow and not narrow and not any("on push" in when for _, job, _ in now for when in job.when):
        return  # no push starts it now, which has words
    if was_narrow and not narrow:
        words = f"no longer only runs when one of these changes: {join_with_limit(map(as_inline_code, old))}"
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
        yield PipelineChange(
            service, f"filter in another order: {join_with_limit(map(as_inline_code, new))}", True, where
        )


def _pair_pathspecs(before: str, after: str) -> tuple[tuple[str, str], ...]:
    plain = (before or after).removeprefix("!").removesuffix("/**")
    return ((before, after), (f"{plain}/" if before else "", f"{plain}/" if after else ""))


def _collect_path_patterns(roles: list[ResponsibleJob]) -> list[str]:
    found = [work.workflow.filters.get("push", ()) for work, job, deed in roles if deed.kind in ("build", "push")]
    lists = [
        each
        for each, (_, job, _) in zip(found, roles, strict=False)
        if not all(" tag " in when or when == "by hand" for when in job.when)
    ]
    return list(dict.fromkeys(pattern for each in lists for pattern in each)) if all(lists) else []


def _compare_permissions(
    subject: str, job_words: str, was: list[ResponsibleJob], now: list[ResponsibleJob]
) -> Iterator[PipelineChange]:
    """Permissions of the jobs that have a role, the widest of them; what is not said is the repository's setting."""
    old, new = _find_widest_permissions(was), _find_widest_permissions(now)
    where = now[0][1].where
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
    environment: str, was: list[ResponsibleJob], now: list[ResponsibleJob]
) -> Iterator[PipelineChange]:
    if not was or not now:
        work, _, deed = (now or was)[0]
        words = (
            f"now deployed by {_format_workflow_path(work)}"
            if now
            else f"no longer deployed; it was by {_format_workflow_path(work)}"
        )
        yield PipelineChange(environment, f"{words} ({_summarize_deploys(now or was)})", not now, deed.where)
        return
    where = now[0][2].where
    for each in sorted({deed.what for _, _, deed in was if deed.kind == "container"}):
        words = f"container {as_inline_code(each)} was started by `docker run`: it must be removed by hand, for its name is taken"
        yield PipelineChange(environment, words, True, where)
    if _summarize_deploys(was) != _summarize_deploys(now):
        words = f"deployed by {_summarize_deploys(now)}; before: {_summarize_deploys(was)}"
        yield PipelineChange(environment, words, True, where)
    yield from _compare_triggers(environment, "deploy", was, now)
    yield from _compare_host_key_checks(environment, was, now, where)
    yield from deploy_transport.compare_deploy_transport(environment, was, now, where)
    yield from _compare_promoted_tags(environment, was, now)
    yield from _compare_health_checks(environment, _find_health_urls(was), _find_health_urls(now), where)
    yield from _compare_permissions(environment, "the job that deploys it", was, now)
    yield from _compare_concurrency(environment, was, now)


def _describe_deploy(deed: StepEffect) -> str:
    """How one deploy is done, and where."""
    place = as_inline_code(deed.what.partition("\n")[0] or ".")
    return deed.note if deed.kind == "container" else f"{deed.note} in {place}"


def _summarize_deploys(roles: list[ResponsibleJob]) -> str:
    ways_there = dict.fromkeys(_describe_deploy(deed) for _, _, deed in roles)
    if any("the host program" in way for way in ways_there):
        return join_with_limit(way.replace(" in ", ", stack ") for way in ways_there)
    return redact_secrets(join_with_limit(ways_there, 4))


def _compare_host_key_checks(
    environment: str, was: list[ResponsibleJob], now: list[ResponsibleJob], where: str
) -> Iterator[PipelineChange]:
    old, new = (
        {deed.what for _, deed in _iter_related_effects(roles, _JobScope.SAME) if deed.kind == "login"}
        for roles in (was, now)
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
    for work in _list_workflows(roles):
        jobs = {job.id: job for job in work.workflow.jobs}
        found = {job.id for other, job, _ in roles if other.path == work.path}
        for _ in jobs:
            if way is _JobScope.BEFORE:
                found |= {need for name in found for need in jobs[name].needs if need in jobs}
            elif way is _JobScope.AFTER:
                found |= {name for name, job in jobs.items() if found & set(job.needs)}
        yield from ((job, deed) for job, deed in work.deeds if job.id in found)


def _compare_concurrency(
    environment: str, was: list[ResponsibleJob], now: list[ResponsibleJob]
) -> Iterator[PipelineChange]:
    """How runs that come at once are held apart."""
    old, new = ({work.workflow.concurrency for work in _list_workflows(roles)} - {""} for roles in (was, now))
    gone, came = sorted(old - new), sorted(new - old)
    if (gone and came) or not old or not new:
        words = f"runs that come at once: {join_with_limit(came, 2) or 'not held apart'}"
        words += (
            f"; before: {join_with_limit(gone, 2)}" if gone else "; before, they were not held apart" if not old else ""
        )
        where = now[0][0].workflow.document.where("concurrency")
        pairs = pair_replacements(
            *([text for each in side for text in re.findall(r"`([^`]+)`", each)] for side in (gone, came))
        )
        yield PipelineChange(environment, words, not new or any("cancelled" in each for each in came), where, pairs)


def _list_workflows(roles: list[ResponsibleJob]) -> list[WorkflowWithEffects]:
    return list({work.path: work for work, _, _ in roles}.values())


def _compare_promoted_tags(
    environment: str, was: list[ResponsibleJob], now: list[ResponsibleJob]
) -> Iterator[PipelineChange]:
    """Of which tag a promotion takes an image."""
    old, new = (
        list(
            dict.fromkeys(
                parse_image_tag(deed.what)
                for _, deed in _iter_related_effects(roles, _JobScope.BEFORE)
                if deed.kind == "take"
            )
        )
        for roles in (was, now)
    )
    where = now[0][2].where
    if old and new and old != new:
        words = f"promotes {join_with_limit(map(_describe_promoted_tag, new))}; before: {join_with_limit(map(_describe_promoted_tag, old))}"
        yield PipelineChange(environment, words, False, where)
    elif new and not old and not any(deed.kind == "build" for _, deed in _iter_related_effects(now, _JobScope.BEFORE)):
        words = f"nothing is built for it: it gets {join_with_limit(map(_describe_promoted_tag, new))}"
        yield PipelineChange(environment, words, True, where)


def _describe_promoted_tag(name: str) -> str:
    return (
        "the image that was built from the tagged source"
        if name == "src-<key>"
        else f"whatever {as_inline_code(name)} is"
    )


def _compare_health_checks(
    environment: str, old: dict[str, str], new: dict[str, str], where: str
) -> Iterator[PipelineChange]:
    gone, came = [name for name in old if name not in new], [name for name in new if name not in old]
    if len(gone) == len(came) == 1:
        words = f"health is asked of {as_inline_code(came[0])}, not {as_inline_code(gone[0])}: DNS and the proxy must lead there"
        yield PipelineChange(environment, words, True, where, ((gone[0], came[0]),))
        gone, came = [], []
    for domain in gone:
        words = f"health of {as_inline_code(domain + old[domain])} is no longer checked"
        yield PipelineChange(environment, words, not new, where, ((domain, ""),))
    for domain in came:
        at = f" at {as_inline_code(new[domain])}" if new[domain] else ""
        yield PipelineChange(
            environment, f"health of {as_inline_code(domain)} is checked{at}", False, where, (("", domain),)
        )
    for domain in (name for name in old if old[name] and new.get(name) and old[name] != new[name]):
        words = f"health of {as_inline_code(domain)} is asked at {as_inline_code(new[domain])}, not {as_inline_code(old[domain])}"
        yield PipelineChange(environment, words, True, where, ((domain + old[domain], domain + new[domain]),))


def _find_health_urls(roles: list[ResponsibleJob]) -> dict[str, str]:
    """Domain → path that is asked after these roles deploy."""
    found: dict[str, str] = {}
    for _, deed in _iter_related_effects(roles, _JobScope.AFTER):
        if deed.kind == "check" and (url := re.match(r"(?:https?://)?([^/\s]+)([^\s?]*)", deed.what)):
            found[url[1]] = url[2] or "/"
    return found


def _format_workflow_path(work: WorkflowWithEffects) -> str:
    return as_inline_code(work.path)


def describe_triggers(workflow: ParsedWorkflow) -> str:
    """When a workflow runs, in words."""
    return join_with_limit(workflow.triggers, 4) or "never"
