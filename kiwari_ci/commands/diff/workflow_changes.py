"""Compares who builds and who deploys, when, from what, and with which permissions."""

import re
from collections.abc import Collection, Generator, Iterator
from enum import Enum

from kiwari_ci.commands.diff import deploy_transport, matching
from kiwari_ci.commands.diff.change import (
    EVERY_ADOPTION,
    PipelineChange,
    find_added,
    format_names,
    iter_added_removed,
    pair_replacements,
    redact_secrets,
)
from kiwari_ci.commands.diff.matching import Responsibilities, ResponsibleJob
from kiwari_ci.commands.diff.snapshot import WorkflowWithEffects
from kiwari_ci.github_facts import path_filters
from kiwari_ci.plan_model import Plan
from kiwari_ci.problems import join_with_limit
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.image_reference import parse_image_repository, parse_image_tag
from kiwari_ci.readers.step_effects import HOST_PROGRAM_NOTE, ROLLOUT_NOTE, StepEffect
from kiwari_ci.readers.workflow import ParsedJob, ParsedWorkflow
from kiwari_ci.readers.workflow_triggers import is_trigger_of_event
from kiwari_ci.readers.yaml_document import as_inline_code

_SOURCE_TAG = "src-<key>"
_PERMISSION_RANKS = {"read": 1, "write": 2}


def compare_responsibilities(
    old_roles: Responsibilities, new_roles: Responsibilities, plan: Plan, still_done: set[str]
) -> Iterator[PipelineChange]:
    """Compare who builds each service, and who deploys each environment."""
    kept_triggers = _collect_kept_triggers(old_roles, still_done)
    for service in dict.fromkeys([*new_roles.builds, *old_roles.builds]):
        old_jobs, new_jobs = old_roles.builds.get(service, []), new_roles.builds.get(service, [])
        yield from _compare_builds(service, old_jobs, new_jobs, _find_trial_builds(service, new_roles))
        if old_jobs and new_jobs:
            yield from _compare_test_triggers(service, old_roles, new_roles, kept_triggers)
    for environment in dict.fromkeys([*new_roles.deploys, *old_roles.deploys]):
        yield from _compare_deploys(
            environment, old_roles.deploys.get(environment, []), new_roles.deploys.get(environment, []), plan
        )


def _compare_builds(
    service: str,
    old_roles: list[ResponsibleJob],
    new_roles: list[ResponsibleJob],
    pull_requests: WorkflowWithEffects | None,
) -> Iterator[PipelineChange]:
    if not old_roles or not new_roles:
        workflow, _, effect = (new_roles or old_roles)[0]
        image = as_inline_code(parse_image_repository(effect.what))
        path = _format_workflow_path(workflow)
        if new_roles:
            yield PipelineChange(service, f"{path} now builds the image {image}", False, effect.where, (("", service),))
        else:
            message = f"no longer built: {image}; it was by {path}"
            yield PipelineChange(service, message, True, effect.where, ((service, ""),))
        return
    where = new_roles[0].effect.where
    yield from _compare_pushed_images(service, old_roles, new_roles)
    old_dockerfiles, new_dockerfiles = _list_dockerfiles(old_roles), _list_dockerfiles(new_roles)
    for dockerfile in find_added(old_dockerfiles, new_dockerfiles):
        message = f"its image is built from {as_inline_code(dockerfile)}"
        yield PipelineChange(service, message, False, where, pair_replacements(old_dockerfiles, new_dockerfiles))
    yield from _compare_build_arguments(service, old_roles, new_roles)
    old_builders, new_builders = _select_builders(old_roles), _select_builders(new_roles)
    old_paths = {workflow.path for workflow, _, _ in old_builders}
    new_paths = {workflow.path for workflow, _, _ in new_builders}
    if not old_paths & new_paths:
        message = f"built by {format_names(sorted(new_paths))}; before: {format_names(sorted(old_paths))}"
        yield PipelineChange(
            service,
            message,
            False,
            where,
            summary="other workflows build the images",
            item=f"{as_inline_code(service)} by {format_names(sorted(new_paths))}",
        )
    yield from _compare_triggers(service, "build", old_builders, new_builders, pull_requests)
    yield from _compare_path_filters(service, old_builders, new_builders)
    yield from _compare_permissions(service, "the job that builds it", old_roles, new_roles)


def _compare_build_arguments(
    service: str, old_roles: list[ResponsibleJob], new_roles: list[ResponsibleJob]
) -> Iterator[PipelineChange]:
    """Compare the arguments that builds of hand-written workflows get; those of generated ones are compared as text."""
    if any(role.workflow.generated for role in old_roles):
        return
    old, new = _collect_build_arguments(old_roles), _collect_build_arguments(new_roles)
    where = new_roles[0].effect.where
    for name, old_values in old.items():
        values = _format_argument_values(name, old_values)
        if name not in new:
            message = f"its build no longer gets the argument {as_inline_code(name)}: {values}"
            yield PipelineChange(service, message, True, where)
        elif not old_values & new[name]:
            message = f"build argument {as_inline_code(name)}: {values} → {_format_argument_values(name, new[name])}"
            yield PipelineChange(service, message, True, where)


def _format_argument_values(name: str, values: Collection[str]) -> str:
    """Format the values of a build argument; one that may be a secret is not printed."""
    if any(vocabulary.is_secret(name, value) for value in values if not value.startswith("$")):
        return "a value that may be a secret"
    return format_names(sorted(values))


def _collect_build_arguments(roles: list[ResponsibleJob]) -> dict[str, set[str]]:
    """The values of each build argument; several builds of one image may give it different ones."""
    values: dict[str, set[str]] = {}
    for _, _, effect in roles:
        for argument in effect.arguments:
            name, _, value = argument.partition("=")
            values.setdefault(name.strip(), set()).add(value)
    return values


def _select_builders(roles: list[ResponsibleJob]) -> list[ResponsibleJob]:
    """The jobs that build; a promotion only tags."""
    return [role for role in roles if role.effect.kind == "build"] or roles


def _compare_pushed_images(
    service: str, old_roles: list[ResponsibleJob], new_roles: list[ResponsibleJob]
) -> Iterator[PipelineChange]:
    old_images, new_images = _list_pushed_images(old_roles), _list_pushed_images(new_roles)
    where = new_roles[0].effect.where
    if not new_images:
        return
    if not old_images:
        yield PipelineChange(service, f"its image is pushed: {format_names(sorted(new_images))}", False, where)
        return
    old_repositories = sorted({parse_image_repository(image) for image in old_images})
    new_repositories = sorted({parse_image_repository(image) for image in new_images})
    if not set(old_repositories) & set(new_repositories):
        message = f"image {format_names(old_repositories)} → {format_names(new_repositories)}"
        yield PipelineChange(service, message, True, where, pair_replacements(old_repositories, new_repositories))
    old_tags, new_tags = map(parse_image_tag, old_images), map(parse_image_tag, new_images)
    for tag, is_new in iter_added_removed(old_tags, new_tags):
        if is_new:
            message = f"its image is also tagged {as_inline_code(tag)}"
            yield PipelineChange(
                service,
                message,
                False,
                find_tag_location(new_roles, tag),
                (("", tag),),
                summary=EVERY_ADOPTION if tag == _SOURCE_TAG else "",
                item="images are also tagged with a hash of their sources",
            )
        else:
            message = f"its image is no longer tagged {as_inline_code(tag)}: "
            if "sha>" in tag:
                message += "a new commit has no such tag to pull any more"
            else:
                message += "anybody who pulls that tag gets an old image from now on"
            yield PipelineChange(service, message, True, find_tag_location(old_roles, tag), ((tag, ""),))


def find_tag_location(roles: list[ResponsibleJob], tag: str) -> str:
    """Where a tag is pushed, or an empty string."""
    for _, _, effect in roles:
        if effect.kind == "push" and parse_image_tag(effect.what) == tag:
            return effect.where
    return ""


def _list_pushed_images(roles: list[ResponsibleJob]) -> list[str]:
    return list(dict.fromkeys(effect.what for _, _, effect in roles if effect.kind == "push"))


def _list_dockerfiles(roles: list[ResponsibleJob]) -> list[str]:
    return list(dict.fromkeys(effect.note for _, _, effect in roles if effect.kind == "build" and effect.note))


def _compare_triggers(
    subject: str,
    verb: str,
    old_roles: list[ResponsibleJob],
    new_roles: list[ResponsibleJob],
    pull_requests: WorkflowWithEffects | None = None,
) -> Iterator[PipelineChange]:
    """Compare the events that start the jobs; a generated workflow may do the same for pull requests."""
    for trigger, is_new in iter_added_removed(_list_triggers(old_roles), _list_triggers(new_roles)):
        workflow = (new_roles if is_new else old_roles)[0].workflow
        where = workflow.parsed.triggers.get(trigger, "")
        if is_new:
            is_risky = is_trigger_of_event(trigger, "pull_request_target")
            pairs = _pair_trigger_texts("", trigger)
            yield PipelineChange(
                subject,
                f"now also {verb}s {trigger}",
                is_risky,
                where,
                pairs,
                summary=EVERY_ADOPTION if trigger == "by hand" else "",
                item="a person can start each workflow",
            )
        elif pull_requests and is_trigger_of_event(trigger, "pull_request"):
            pairs = _pair_trigger_texts(trigger, "")
            message = f"{trigger}, {as_inline_code(pull_requests.parsed.name)} {verb}s it, and pushes no image"
            yield PipelineChange(subject, message, False, pull_requests.path, pairs)
        else:
            pairs = _pair_trigger_texts(trigger, "")
            yield PipelineChange(subject, f"no longer {verb}s {trigger}", True, where, pairs)


def _find_trial_builds(service: str, roles: Responsibilities) -> WorkflowWithEffects | None:
    """The generated workflow of pull requests, if it builds the image of a service."""
    workflow = roles.pull_requests.get(service)
    is_built = workflow is not None and any(job.id == f"build-{service}" for job in workflow.parsed.jobs)
    return workflow if is_built else None


def _list_triggers(roles: list[ResponsibleJob]) -> list[str]:
    """The events that start the jobs."""
    return [trigger for _, job, _ in roles for trigger in job.when]


def _collect_kept_triggers(old_roles: Responsibilities, still_done: set[str]) -> set[str]:
    """The events on which jobs of hand-written workflows still run, because nothing replaces these jobs."""
    triggers: set[str] = set()
    for workflow in _list_workflows([role for roles in old_roles.builds.values() for role in roles]):
        replaced_jobs = matching.find_replaced_jobs(workflow, old_roles, still_done)
        if workflow.generated or replaced_jobs is None:
            continue
        for job in workflow.parsed.jobs:
            if job.id not in replaced_jobs:
                triggers |= set(job.when)
    return triggers


def _compare_test_triggers(
    service: str, old_roles: Responsibilities, new_roles: Responsibilities, kept_triggers: set[str]
) -> Iterator[PipelineChange]:
    """Compare the events that start only the tests, and build and deploy nothing."""
    old_builders, new_builders = (_select_builders(roles.builds[service]) for roles in (old_roles, new_roles))
    building_triggers = {*_list_triggers(old_builders), *_list_triggers(new_builders)}
    old_places = _find_test_triggers(service, old_builders, old_roles)
    new_places = _find_test_triggers(service, new_builders, new_roles)
    old_triggers = old_places.keys() - building_triggers - kept_triggers
    new_triggers = new_places.keys() - building_triggers - (old_places.keys() & kept_triggers)
    for trigger, is_new in iter_added_removed(sorted(old_triggers), sorted(new_triggers)):
        if _is_covered(trigger, set(old_places if is_new else new_places)):
            continue
        where = (new_places if is_new else old_places)[trigger]
        adverb = "now also" if is_new else "no longer"
        subject = _describe_tests(service, new_roles if is_new else old_roles)
        yield PipelineChange(service, f"{subject} {adverb} run {trigger}", not is_new, where)


def _find_test_triggers(service: str, builders: list[ResponsibleJob], roles: Responsibilities) -> dict[str, str]:
    """The events that start a service's tests, each with its place: of its own workflow, and of pull requests."""
    workflows = _list_workflows(builders)
    if service in roles.pull_requests:
        workflows = [*workflows, roles.pull_requests[service]]
    return {trigger: where for workflow in workflows for trigger, where in workflow.parsed.triggers.items()}


def _describe_tests(service: str, roles: Responsibilities) -> str:
    """What runs on an event that deploys nothing; in generated pull requests, some services are only built."""
    workflow = roles.pull_requests.get(service)
    if workflow and not any(job.id.partition("_")[0] == f"test-{service}" for job in workflow.parsed.jobs):
        return "builds that are not pushed"
    return "its tests"


def _is_covered(trigger: str, other_triggers: set[str]) -> bool:
    """Whether one of the other triggers starts a run whenever this one does, as one without a branch does."""
    event, _, branch = trigger.partition(" to ")
    return bool(branch) and not {event, f"{event} to any branch"}.isdisjoint(other_triggers)


def _pair_trigger_texts(before: str, after: str) -> tuple[tuple[str, str], ...]:
    """Pair the texts in backticks of two triggers, which are the texts of the file."""
    return pair_replacements(_find_code_texts(before) or [""], _find_code_texts(after) or [""])


def _find_code_texts(message: str) -> list[str]:
    """The texts in backticks."""
    return re.findall(r"`([^`]+)`", message)


def _compare_path_filters(
    service: str, old_roles: list[ResponsibleJob], new_roles: list[ResponsibleJob]
) -> Iterator[PipelineChange]:
    old_patterns, new_patterns = _collect_path_patterns(old_roles), _collect_path_patterns(new_roles)
    where = new_roles[0].workflow.parsed.document.where("on", "push", "paths")
    was_limited, is_limited = _has_including_pattern(old_patterns), _has_including_pattern(new_patterns)
    if is_limited and not was_limited:
        message = f"only runs when one of these changes: {format_names(new_patterns)}"
        if old_patterns:
            message += f"; before: all but {format_names(pattern[1:] for pattern in old_patterns)}"
        yield PipelineChange(service, message, True, where)
    elif was_limited and not is_limited:
        # When no push starts it any more, another change says so.
        if any("on push" in trigger for trigger in _list_triggers(new_roles)):
            message = f"no longer only runs when one of these changes: {format_names(old_patterns)}"
            yield PipelineChange(service, message, False, where)
    else:
        new_workflow_path = new_roles[0].workflow.path
        yield from _compare_path_patterns(service, old_patterns, new_patterns, where, new_workflow_path)


def _has_including_pattern(patterns: list[str]) -> bool:
    return any(not pattern.startswith("!") for pattern in patterns)


def _compare_path_patterns(
    service: str, old_patterns: list[str], new_patterns: list[str], where: str, new_workflow_path: str
) -> Iterator[PipelineChange]:
    replaced: set[str] = set()
    if not any(pattern.startswith("!") for pattern in (*old_patterns, *new_patterns)):
        replaced = yield from _compare_pattern_widths(service, old_patterns, new_patterns, where)
    for pattern, is_new in iter_added_removed(old_patterns, new_patterns):
        if pattern in replaced:
            continue
        excludes = pattern.startswith("!")
        adverb = "now also" if is_new else "no longer"
        verb = "leaves out" if excludes else "matches"
        message = f"filter {adverb} {verb} {as_inline_code(pattern.removeprefix('!'))}"
        matches_less = is_new == excludes
        is_usual = is_new and (pattern == ".dockerignore" or pattern == new_workflow_path)
        yield PipelineChange(
            service,
            message,
            matches_less,
            where,
            _pair_pathspecs(pattern, is_new),
            summary=EVERY_ADOPTION if is_usual else "",
            item="a workflow also runs when it or `.dockerignore` changes",
        )
    is_reordered = old_patterns != new_patterns and sorted(old_patterns) == sorted(new_patterns)
    if is_reordered and any(pattern.startswith("!") for pattern in old_patterns):
        yield PipelineChange(service, f"filter in another order: {format_names(new_patterns)}", True, where)


def _compare_pattern_widths(
    service: str, old_patterns: list[str], new_patterns: list[str], where: str
) -> Generator[PipelineChange, None, set[str]]:
    """Report the patterns that became wider or narrower, and return all that need no other words.

    A pattern of the same side that the wider one covers, too, says nothing more.
    """
    reported: set[str] = set()
    added, removed = find_added(old_patterns, new_patterns), find_added(new_patterns, old_patterns)
    for wide in added:
        narrow = _find_covered_patterns(wide, removed)
        if narrow:
            message = f"filter matches all of {as_inline_code(wide)}, no longer only {format_names(narrow)}"
            added_patterns = [wide, *_find_covered_patterns(wide, added)]
            yield PipelineChange(service, message, False, where, _pair_patterns(narrow, added_patterns))
            reported |= {*narrow, *added_patterns}
    for wide in removed:
        narrow = _find_covered_patterns(wide, added)
        if narrow:
            message = f"filter only matches {format_names(narrow)}, no longer all of {as_inline_code(wide)}"
            removed_patterns = [wide, *_find_covered_patterns(wide, removed)]
            yield PipelineChange(service, message, True, where, _pair_patterns(removed_patterns, narrow))
            reported |= {*narrow, *removed_patterns}
    return reported


def _pair_patterns(removed: list[str], added: list[str]) -> tuple[tuple[str, str], ...]:
    pairs = [pair for pattern in removed for pair in _pair_pathspecs(pattern, False)]
    pairs += [pair for pattern in added for pair in _pair_pathspecs(pattern, True)]
    return tuple(pairs)


def _find_covered_patterns(wide: str, patterns: list[str]) -> list[str]:
    return [pattern for pattern in patterns if path_filters.covers_pattern(wide, pattern)]


def _pair_pathspecs(pattern: str, is_new: bool) -> tuple[tuple[str, str], ...]:
    """A pattern that only one side has, as the filter has it, and as a path for git."""
    path = pattern.removeprefix("!").removesuffix("/**") + "/"
    if is_new:
        return (("", pattern), ("", path))
    return ((pattern, ""), (path, ""))


def _collect_path_patterns(roles: list[ResponsibleJob]) -> list[str]:
    """The patterns of all push filters; none when a job that a push starts has no filter."""
    patterns: list[str] = []
    for workflow, job, effect in roles:
        if effect.kind not in ("build", "push"):
            continue
        if all(" tag " in trigger or trigger == "by hand" for trigger in job.when):
            continue
        job_patterns = workflow.parsed.filters.get("push", ())
        if not job_patterns:
            return []
        patterns += job_patterns
    return list(dict.fromkeys(patterns))


def _compare_permissions(
    subject: str, job_name: str, old_roles: list[ResponsibleJob], new_roles: list[ResponsibleJob]
) -> Iterator[PipelineChange]:
    """Compare the widest permissions of jobs with a role; unstated ones come from the repository's settings."""
    item = "each job has only the permissions that it needs"
    old, new = _find_widest_permissions(old_roles), _find_widest_permissions(new_roles)
    where = new_roles[0].job.where
    if old is None or new is None or "everything" in {**old, **new}:
        if old != new:
            message = f"{job_name}: permissions {_format_permissions(old)} → {_format_permissions(new)}"
            is_wider = new is None or "everything" in new
            summary = "" if is_wider else EVERY_ADOPTION
            yield PipelineChange(subject, message, is_wider, where, summary=summary, item=item)
        return
    for scope in sorted({*old, *new}):
        before, after = old.get(scope, "none"), new.get(scope, "none")
        if before != after:
            is_wider = _PERMISSION_RANKS.get(after, 0) > _PERMISSION_RANKS.get(before, 0)
            message = f"{job_name}: permission {scope} {before} → {after}"
            summary = "" if is_wider else EVERY_ADOPTION
            yield PipelineChange(subject, message, is_wider, where, summary=summary, item=item)


def _format_permissions(permissions: dict[str, str] | None) -> str:
    if permissions is None:
        return "of the repository's default"
    return join_with_limit(f"{scope} {level}" for scope, level in sorted(permissions.items())) or "none"


def _find_widest_permissions(roles: list[ResponsibleJob]) -> dict[str, str] | None:
    widest: dict[str, str] = {}
    for _, job, _ in roles:
        if job.permissions is None:
            return None
        for scope, level in job.permissions.items():
            if _PERMISSION_RANKS.get(level, 0) > _PERMISSION_RANKS.get(widest.get(scope, ""), 0):
                widest[scope] = level
    return widest


def _compare_deploys(
    environment: str, old_roles: list[ResponsibleJob], new_roles: list[ResponsibleJob], plan: Plan
) -> Iterator[PipelineChange]:
    if not old_roles or not new_roles:
        workflow, _, effect = (new_roles or old_roles)[0]
        verb = "now deployed by" if new_roles else "no longer deployed; it was by"
        summary = _summarize_deploys(new_roles or old_roles)
        message = f"{verb} {_format_workflow_path(workflow)} ({summary})"
        yield PipelineChange(environment, message, not new_roles, effect.where)
        return
    where = new_roles[0].effect.where
    planned_containers = {
        container.container
        for stack in plan.stacks
        if stack.environment == environment
        for container in stack.containers
    }
    for container in sorted({effect.what for _, _, effect in old_roles if effect.kind == "container"}):
        message = f"container {as_inline_code(container)} was started by `docker run`: "
        if container in planned_containers:
            message += (
                f"the first deploy replaces it, and keeps it, stopped, as {as_inline_code(f'{container}-before')}"
            )
            yield PipelineChange(environment, message, True, where)
        else:
            message += "it runs on beside the new ones until you stop it"
            yield PipelineChange(environment, message, True, where, stage="after")
    if _summarize_deploys(old_roles) != _summarize_deploys(new_roles):
        message = f"deployed by {_summarize_deploys(new_roles)}; before: {_summarize_deploys(old_roles)}"
        yield PipelineChange(
            environment,
            message,
            True,
            where,
            summary=EVERY_ADOPTION,
            item="deploys run the program `deploy/bin/deploy` on the server",
        )
    yield from _compare_triggers(environment, "deploy", old_roles, new_roles)
    yield from _compare_host_key_checks(environment, old_roles, new_roles, where)
    yield from deploy_transport.compare_deploy_transport(
        environment,
        deploy_transport.read_generated_transport(old_roles),
        deploy_transport.get_planned_transport(plan, environment),
        where,
    )
    yield from _compare_promoted_tags(environment, old_roles, new_roles)
    schemes = _find_health_schemes(new_roles)
    old_urls, new_urls = _find_health_urls(old_roles), _find_health_urls(new_roles)
    yield from _compare_health_checks(environment, old_urls, new_urls, schemes, where)
    yield from _compare_health_schemes(environment, old_roles, new_roles, where)
    yield from _compare_redirect_checks(environment, _find_redirects(old_roles), _find_redirects(new_roles), where)
    yield from _compare_permissions(environment, "the job that deploys it", old_roles, new_roles)
    yield from _compare_concurrency(environment, old_roles, new_roles)


def _describe_deploy(effect: StepEffect) -> str:
    """How one deploy is done, and where."""
    target = as_inline_code(effect.what.partition("\n")[0] or ".")
    return effect.note if effect.kind == "container" else f"{effect.note} in {target}"


def _summarize_deploys(roles: list[ResponsibleJob]) -> str:
    descriptions = list(dict.fromkeys(_describe_deploy(effect) for _, _, effect in roles))
    notes = (HOST_PROGRAM_NOTE, ROLLOUT_NOTE)
    if any(note in description for note in notes for description in descriptions):
        return join_with_limit(description.replace(" in ", ", stack ") for description in descriptions)
    return redact_secrets(join_with_limit(descriptions, 4))


def _compare_host_key_checks(
    environment: str, old_roles: list[ResponsibleJob], new_roles: list[ResponsibleJob], where: str
) -> Iterator[PipelineChange]:
    """Compare how the jobs that deploy log in without comparing the host's key."""
    old_logins, new_logins = _find_unchecked_logins(old_roles), _find_unchecked_logins(new_roles)
    for login in sorted(old_logins - new_logins):
        message = f"the host's key is compared with a known one; before, {login}"
        item = "deploys compare the server's host key"
        yield PipelineChange(environment, message, False, where, summary=EVERY_ADOPTION, item=item)
    for login in sorted(new_logins - old_logins):
        yield PipelineChange(environment, f"the host's key is no longer compared: {login}", True, where)


def _find_unchecked_logins(roles: list[ResponsibleJob]) -> set[str]:
    effects = [effect for _, effect in _iter_related_effects(roles, _JobScope.SAME)]
    return {effect.what for effect in effects if effect.kind == "login" and effect.what}


class _JobScope(Enum):
    """Which jobs beside those that deploy: none, those that they wait for, those that wait for them."""

    SAME, BEFORE, AFTER = range(3)


def _iter_related_effects(roles: list[ResponsibleJob], scope: _JobScope) -> Iterator[tuple[ParsedJob, StepEffect]]:
    """The effects of the jobs that deploy, and of all jobs before or after them."""
    for workflow in _list_workflows(roles):
        deploy_jobs = {job.id for other, job, _ in roles if other.path == workflow.path}
        job_ids = _add_related_jobs(deploy_jobs, workflow, scope)
        yield from ((job, effect) for job, effect in workflow.effects if job.id in job_ids)


def _add_related_jobs(job_ids: set[str], workflow: WorkflowWithEffects, scope: _JobScope) -> set[str]:
    jobs = {job.id: job for job in workflow.parsed.jobs}
    related = set(job_ids)
    for _ in jobs:  # no chain of `needs` is longer than the number of jobs
        if scope is _JobScope.BEFORE:
            related |= {needed for job_id in related for needed in jobs[job_id].needs if needed in jobs}
        elif scope is _JobScope.AFTER:
            related |= {job_id for job_id, job in jobs.items() if related & set(job.needs)}
    return related


def _compare_concurrency(
    environment: str, old_roles: list[ResponsibleJob], new_roles: list[ResponsibleJob]
) -> Iterator[PipelineChange]:
    """Compare the concurrency groups, which keep simultaneous runs apart."""
    old, new = _list_concurrency(old_roles), _list_concurrency(new_roles)
    removed, added = sorted(old - new), sorted(new - old)
    if old and new and not (removed and added):
        return
    message = f"runs that come at once: {join_with_limit(added, 2) or 'not held apart'}"
    if removed:
        message += f"; before: {join_with_limit(removed, 2)}"
    elif not old:
        message += "; before, they were not held apart"
    where = new_roles[0].workflow.parsed.document.where("concurrency")
    removed_texts = [text for group in removed for text in _find_code_texts(group)]
    added_texts = [text for group in added for text in _find_code_texts(group)]
    is_risky = not new or any("cancelled" in group for group in added)
    yield PipelineChange(
        environment,
        message,
        is_risky,
        where,
        pair_replacements(removed_texts, added_texts),
        summary="" if is_risky else EVERY_ADOPTION,
        item="runs that start at the same time wait for each other",
    )


def _list_concurrency(roles: list[ResponsibleJob]) -> set[str]:
    return {workflow.parsed.concurrency for workflow in _list_workflows(roles)} - {""}


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
    if tag == _SOURCE_TAG:
        return "the image that was built from the tagged source"
    return f"whatever {as_inline_code(tag)} is"


def _compare_health_checks(
    environment: str, old: dict[str, str], new: dict[str, str], schemes: dict[str, str], where: str
) -> Iterator[PipelineChange]:
    """Compare what is asked after a deploy: paths by their domains; `schemes` of the new domains."""
    removed, added = [domain for domain in old if domain not in new], [domain for domain in new if domain not in old]
    if len(removed) == len(added) == 1:
        message = f"health is asked of {as_inline_code(added[0])}, not {as_inline_code(removed[0])}: "
        message += "DNS and the proxy must lead there"
        yield PipelineChange(environment, message, True, where, ((removed[0], added[0]),))
        removed, added = [], []
    for domain in removed:
        message = f"health of {as_inline_code(domain + old[domain])} is no longer checked"
        yield PipelineChange(environment, message, not new, where, ((domain, ""),))
    for domain in added:
        path = f" at {as_inline_code(new[domain])}" if new[domain] else ""
        message = f"health of {as_inline_code(domain)} is checked{path}"
        yield PipelineChange(
            environment,
            message,
            False,
            where,
            (("", domain),),
            summary="after each deploy, the run requests these addresses",
            item=as_inline_code(f"{schemes.get(domain, 'https')}://{domain}{new[domain]}"),
        )
    for domain, old_path in old.items():
        new_path = new.get(domain)
        if old_path and new_path and old_path != new_path:
            message = f"health of {as_inline_code(domain)} is asked at {as_inline_code(new_path)}, "
            message += f"not {as_inline_code(old_path)}"
            yield PipelineChange(environment, message, True, where, ((domain + old_path, domain + new_path),))


def _compare_health_schemes(
    environment: str, old_roles: list[ResponsibleJob], new_roles: list[ResponsibleJob], where: str
) -> Iterator[PipelineChange]:
    """Compare the schemes with which the same domains are requested after a deploy."""
    old, new = _find_health_schemes(old_roles), _find_health_schemes(new_roles)
    for domain, scheme in new.items():
        old_scheme = old.get(domain, scheme)
        if old_scheme != scheme:
            message = f"health of {as_inline_code(domain)} is asked with {as_inline_code(scheme)}, "
            message += f"not {as_inline_code(old_scheme)}: the proxy must answer so"
            change = (f"{old_scheme}://{domain}", f"{scheme}://{domain}")
            yield PipelineChange(environment, message, True, where, (change,))


def _compare_redirect_checks(environment: str, old: list[str], new: list[str], where: str) -> Iterator[PipelineChange]:
    """Compare the domains that are asked after a deploy whether they redirect."""
    for domain in old:
        if domain not in new:
            message = f"whether {as_inline_code(domain)} redirects is no longer checked"
            yield PipelineChange(environment, message, False, where, ((domain, ""),))
    for domain in new:
        if domain not in old:
            message = f"whether {as_inline_code(domain)} redirects is checked after each deploy"
            yield PipelineChange(environment, message, False, where, (("", domain),))


def _find_redirects(roles: list[ResponsibleJob]) -> list[str]:
    """The domains that are asked after these jobs deploy whether they redirect."""
    effects = [effect for _, effect in _iter_related_effects(roles, _JobScope.AFTER)]
    urls = [effect.what for effect in effects if effect.kind == "redirect"]
    return list(dict.fromkeys(re.sub(r"https?://", "", url).partition("/")[0] for url in urls))


def _find_health_urls(roles: list[ResponsibleJob]) -> dict[str, str]:
    """The path that is requested after these jobs deploy, by domain; another path of it is by itself, without one."""
    paths_by_domain: dict[str, str] = {}
    for _, effect in _iter_related_effects(roles, _JobScope.AFTER):
        url = re.match(r"(?:https?://)?([^/\s]+)([^\s?]*)", effect.what)
        if effect.kind == "check" and url:
            path = url[2] or "/"
            if paths_by_domain.setdefault(url[1], path) != path:
                paths_by_domain[url[1] + path] = ""
    return paths_by_domain


def _find_health_schemes(roles: list[ResponsibleJob]) -> dict[str, str]:
    """The scheme with which each domain is requested after these jobs deploy."""
    schemes: dict[str, str] = {}
    for _, effect in _iter_related_effects(roles, _JobScope.AFTER):
        url = re.match(r"(https?)://([^/\s]+)", effect.what)
        if effect.kind == "check" and url:
            schemes.setdefault(url[2], url[1])
    return schemes


def _format_workflow_path(workflow: WorkflowWithEffects) -> str:
    return as_inline_code(workflow.path)


def describe_triggers(workflow: ParsedWorkflow) -> str:
    """When a workflow runs, in words."""
    return join_with_limit(workflow.triggers, 4) or "never"
