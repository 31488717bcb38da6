"""Roles → changes: who builds, who deploys, when, from what, and what that asks of GitHub."""

import re
from collections.abc import Iterator

from .change import Change, enumerated, harmless, swapped, ways
from .deeds import repository, tag
from .facts import Facts, Work
from .reading import shown
from .roles import Role, Roles
from .workflows import Workflow

_WORSE = {"read": 1, "write": 2}


def changes(before: Facts, after: Facts, was: Roles, now: Roles) -> Iterator[Change]:
    """All that the roles of two sides say."""
    for service in dict.fromkeys([*now.builds, *was.builds]):
        yield from _of_build(service, was.builds.get(service, []), now.builds.get(service, []))
    for environment in dict.fromkeys([*now.deploys, *was.deploys]):
        yield from _of_deploy(
            environment, was.deploys.get(environment, []), now.deploys.get(environment, []), before, after
        )


def _of_build(service: str, was: list[Role], now: list[Role]) -> Iterator[Change]:
    if not was or not now:
        work, _, deed = (now or was)[0]
        image = shown(repository(deed.what))
        words = f"now built by {_file(work)}: {image}" if now else f"no longer built: {image}; it was by {_file(work)}"
        pair = ("", service) if now else (service, "")
        yield Change(service, words, not now, deed.where, (pair,))
        return
    where = now[0][2].where
    yield from _images(service, was, now)
    for recipe, is_new in ways(_recipes(was), _recipes(now)):
        if is_new:
            yield Change(
                service, f"its image is built from {shown(recipe)}", False, where, swapped(_recipes(was), _recipes(now))
            )
    makers, made_by = _makers(was), _makers(now)
    old, new = ({work.path for work, _, _ in roles} for roles in (makers, made_by))
    if not old & new:
        words = f"built by {enumerated(map(shown, sorted(new)))}; before: {enumerated(map(shown, sorted(old)))}"
        yield Change(service, words, False, where)
    yield from _when(service, "build", makers, made_by)
    yield from _filters(service, makers, made_by)
    yield from _rights(service, "the job that builds it", was, now)


def _makers(roles: list[Role]) -> list[Role]:
    """Those that build: a promotion only tags."""
    return [role for role in roles if role[2].kind == "build"] or roles


def _images(service: str, was: list[Role], now: list[Role]) -> Iterator[Change]:
    old, new = _pushed(was), _pushed(now)
    names, renamed = {repository(each) for each in old}, {repository(each) for each in new}
    where = now[0][2].where
    if new and old and not names & renamed:
        words = f"image {enumerated(map(shown, sorted(names)))} → {enumerated(map(shown, sorted(renamed)))}"
        yield Change(service, words, True, where, swapped(sorted(names), sorted(renamed)))
    if not old and new:
        yield Change(service, f"its image is pushed: {enumerated(map(shown, sorted(new)))}", False, where)
    for each, is_new in ways(map(tag, old), map(tag, new)) if old and new else ():
        if is_new:
            yield Change(service, f"its image is also tagged {shown(each)}", False, new_place(now, each), (("", each),))
        else:
            words = f"its image is no longer tagged {shown(each)}: whoever pulls that tag stays with an old one"
            yield Change(service, words, True, new_place(was, each), ((each, ""),))


def new_place(roles: list[Role], wanted: str) -> str:
    """Where a tag is pushed."""
    return next((deed.where for _, _, deed in roles if deed.kind == "push" and tag(deed.what) == wanted), "")


def _pushed(roles: list[Role]) -> list[str]:
    return list(dict.fromkeys(deed.what for _, _, deed in roles if deed.kind == "push"))


def _recipes(roles: list[Role]) -> list[str]:
    return list(dict.fromkeys(deed.note for _, _, deed in roles if deed.kind == "build" and deed.note))


def _when(subject: str, verb: str, was: list[Role], now: list[Role]) -> Iterator[Change]:
    for when, is_new in ways(
        (each for _, job, _ in was for each in job.when), (each for _, job, _ in now for each in job.when)
    ):
        work = (now if is_new else was)[0][0]
        where = work.workflow.triggers.get(when, "")
        if is_new:
            yield Change(subject, f"now also {verb}s {when}", "pull request target" in when, where, _texts("", when))
        else:
            yield Change(subject, f"no longer {verb}s {when}", True, where, _texts(when, ""))


def _texts(before: str, after: str) -> tuple[tuple[str, str], ...]:
    """The texts in backticks of two triggers, as the file has them."""
    old, new = re.findall(r"`([^`]+)`", before) or [""], re.findall(r"`([^`]+)`", after) or [""]
    return tuple(zip(old, new, strict=False))


def _filters(service: str, was: list[Role], now: list[Role]) -> Iterator[Change]:
    old, new = _patterns(was), _patterns(now)
    where = now[0][0].workflow.document.where("on", "push", "paths")
    if not old and new:
        yield Change(service, f"only runs when one of these changes: {enumerated(map(shown, new))}", True, where)
    elif old and not new:
        yield Change(
            service,
            f"has no path filter any more: every push runs it (it had {enumerated(map(shown, old))})",
            False,
            where,
        )
    else:
        for pattern, is_new in ways(old, new):
            excludes = pattern.startswith("!")
            matches = f"filter {'now also ' if is_new else 'no longer '}{'leaves out' if excludes else 'matches'} "
            words = f"{matches}{shown(pattern.removeprefix('!'))}"
            yield Change(
                service,
                words,
                is_new == excludes,
                where,
                _pathspecs("" if is_new else pattern, pattern if is_new else ""),
            )
        if old != new and sorted(old) == sorted(new) and any(each.startswith("!") for each in old):
            yield Change(service, f"filter in another order: {enumerated(map(shown, new))}", True, where)


def _pathspecs(before: str, after: str) -> tuple[tuple[str, str], ...]:
    plain = (before or after).removeprefix("!").removesuffix("/**")
    return ((before, after), (f"{plain}/" if before else "", f"{plain}/" if after else ""))


def _patterns(roles: list[Role]) -> list[str]:
    found = [work.workflow.filters.get("push", ()) for work, job, deed in roles if deed.kind in ("build", "push")]
    lists = [
        each for each, (_, job, _) in zip(found, roles, strict=False) if not all(" tag " in when for when in job.when)
    ]
    return list(dict.fromkeys(pattern for each in lists for pattern in each)) if all(lists) else []


def _rights(subject: str, job_words: str, was: list[Role], now: list[Role]) -> Iterator[Change]:
    """Permissions of the jobs that have a role, the widest of them; what is not said is the repository's setting."""
    old, new = _widest(was), _widest(now)
    where = now[0][1].where
    if old is None and new is not None:
        words = enumerated(f"{scope} {level}" for scope, level in sorted(new.items())) or "none"
        yield Change(
            subject, f"{job_words}: permissions are said now, not the repository's default: {words}", False, where
        )
    elif new is None and old is not None:
        yield Change(subject, f"{job_words}: permissions are whatever the repository's default is", True, where)
    if old is None or new is None:
        return
    for scope in sorted({*old, *new}):
        before, after = old.get(scope, "none"), new.get(scope, "none")
        if before != after:
            wider = _WORSE.get(after, 0) > _WORSE.get(before, 0)
            yield Change(subject, f"{job_words}: permission {scope} {before} → {after}", wider, where)


def _widest(roles: list[Role]) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for _, job, _ in roles:
        if job.permissions is None:
            return None
        for scope, level in job.permissions.items():
            if _WORSE.get(level, 0) > _WORSE.get(found.get(scope, ""), 0):
                found[scope] = level
    return found


def _of_deploy(environment: str, was: list[Role], now: list[Role], before: Facts, after: Facts) -> Iterator[Change]:
    if not was or not now:
        work, _, deed = (now or was)[0]
        words = f"now deployed by {_file(work)}" if now else f"no longer deployed; it was by {_file(work)}"
        yield Change(environment, f"{words} ({_how(now or was)})", not now, deed.where)
        return
    where = now[0][2].where
    if _how(was) != _how(now):
        words = f"deployed by {_how(now)}; before: {_how(was)}"
        yield Change(environment, words, True, where)
    yield from _when(environment, "deploy", was, now)
    yield from _logins(environment, was, now, where)
    yield from _sources(environment, was, now)
    yield from _checks(environment, _asked(was, before), _asked(now, after), where)
    yield from _rights(environment, "the job that deploys it", was, now)
    yield from _queues(environment, was, now)


def _how(roles: list[Role]) -> str:
    ways_there = dict.fromkeys(f"{deed.note} in {shown(deed.what.split(chr(10))[0] or '.')}" for _, _, deed in roles)
    if any("the host script" in way for way in ways_there):
        return enumerated(way.replace(" in ", ", stack ") for way in ways_there)
    return harmless(enumerated(ways_there, 4))


def _logins(environment: str, was: list[Role], now: list[Role], where: str) -> Iterator[Change]:
    old, new = (
        {deed.what for work in _works(roles) for _, deed in work.deeds if deed.kind == "login"} for roles in (was, now)
    )
    for each in sorted(old - new - {""}):
        yield Change(environment, f"the host's key is compared with a known one; before, {each}", False, where)
    for each in sorted(new - old - {""}):
        yield Change(environment, f"the host's key is no longer compared: {each}", True, where)


def _queues(environment: str, was: list[Role], now: list[Role]) -> Iterator[Change]:
    """How runs that come at once are held apart."""
    old, new = ({work.workflow.concurrency for work in _works(roles)} - {""} for roles in (was, now))
    gone, came = sorted(old - new), sorted(new - old)
    if (gone and came) or not old or not new:
        words = f"runs that come at once: {enumerated(came, 2) or 'not held apart'}"
        words += f"; before: {enumerated(gone, 2)}" if gone else "; before, they were not held apart" if not old else ""
        where = now[0][0].workflow.document.where("concurrency")
        pairs = swapped(*([text for each in side for text in re.findall(r"`([^`]+)`", each)] for side in (gone, came)))
        yield Change(environment, words, not new or any("cancelled" in each for each in came), where, pairs)


def _works(roles: list[Role]) -> list[Work]:
    return list({work.path: work for work, _, _ in roles}.values())


def _sources(environment: str, was: list[Role], now: list[Role]) -> Iterator[Change]:
    """Of which tag a promotion takes an image."""
    old, new = (
        list(dict.fromkeys(tag(deed.what) for work in _works(roles) for _, deed in work.deeds if deed.kind == "take"))
        for roles in (was, now)
    )
    where = now[0][2].where
    if old and new and old != new:
        words = f"promotes {enumerated(map(_source, new))}; before: {enumerated(map(_source, old))}"
        yield Change(environment, words, False, where)
    elif new and not old:
        words = f"nothing is built for it: it gets {enumerated(map(_source, new))}"
        yield Change(environment, words, True, where)


def _source(name: str) -> str:
    return "the image that was built from the tagged source" if name == "src-<key>" else f"whatever {shown(name)} is"


def _checks(environment: str, old: dict[str, str], new: dict[str, str], where: str) -> Iterator[Change]:
    for domain in dict.fromkeys([*old, *new]):
        before, path = old.get(domain), new.get(domain)
        if before and path and before != path:
            words = f"health of {shown(domain)} is asked at {shown(path)}, not {shown(before)}"
            yield Change(environment, words, True, where, ((before, path),))
        elif before is None:
            yield Change(
                environment,
                f"health of {shown(domain)} is checked{' at ' + shown(path) if path else ''}",
                False,
                where,
                (("", domain),),
            )
        elif path is None:
            yield Change(
                environment, f"health of {shown(domain + before)} is no longer checked", not new, where, ((domain, ""),)
            )


def _asked(roles: list[Role], facts: Facts) -> dict[str, str]:
    """Domain → path that the workflows of these roles ask; our own leave the path to the stack's label."""
    found: dict[str, str] = {}
    jobs = {(work.path, job.environment) for work, job, _ in roles}
    for work in _works(roles):
        for job, deed in work.deeds:
            if len(jobs) > 1 and job.environment and (work.path, job.environment) not in jobs:
                continue
            if deed.kind == "check" and (url := re.match(r"(?:https?://)?([^/\s]+)([^\s?]*)", deed.what)):
                found[url[1]] = url[2] or "/"
            elif deed.kind == "answers":
                found[deed.note.partition("://")[2]] = _label(deed.what, facts) if work.generated else ""
    return found


def _label(container: str, facts: Facts) -> str:
    for stack in facts.stacks.values():
        for service in stack.services.values():
            if service.container == container and isinstance(labels := service.attributes.get("labels"), dict):
                return "/" + str(labels.get("deploy.health", "")).partition("/")[2].partition(" ")[0]
    return ""


def _file(work: Work) -> str:
    return shown(work.path)


def triggers(workflow: Workflow) -> str:
    """When a workflow runs, in words."""
    return enumerated(workflow.triggers, 4) or "never"
