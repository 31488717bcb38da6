"""Roles → changes: who builds, who deploys, when, from what, and what that asks of GitHub."""

import re
from collections.abc import Iterator
from enum import Enum

from kiwari_ci.commands.diff import deploy_transport
from kiwari_ci.commands.diff.change import Change, swapped, ways, without_secrets
from kiwari_ci.commands.diff.matching import Role, Roles
from kiwari_ci.commands.diff.snapshot import Work
from kiwari_ci.problems import enumerated
from kiwari_ci.readers.step_effects import Deed, repository, tag
from kiwari_ci.readers.workflow import Job, Workflow
from kiwari_ci.readers.yaml_document import shown

_WORSE = {"read": 1, "write": 2}


def changes(was: Roles, now: Roles) -> Iterator[Change]:
    """All that the roles of two sides say."""
    for service in dict.fromkeys([*now.builds, *was.builds]):
        yield from _of_build(service, was.builds.get(service, []), now.builds.get(service, []))
    for environment in dict.fromkeys([*now.deploys, *was.deploys]):
        yield from _of_deploy(environment, was.deploys.get(environment, []), now.deploys.get(environment, []))


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
    yield from _started(service, makers, made_by)
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


def _started(service: str, was: list[Role], now: list[Role]) -> Iterator[Change]:
    """What starts the tests, and builds and deploys nothing."""
    old, new = ({each for work in _works(roles) for each in work.workflow.triggers} for roles in (was, now))
    built = {each for _, job, _ in (*was, *now) for each in job.when}
    for each, is_new in ways(sorted(old - built), sorted(new - built)):
        where = (now if is_new else was)[0][0].workflow.triggers.get(each, "")
        yield Change(service, f"its tests {'now also' if is_new else 'no longer'} run {each}", not is_new, where)


def _texts(before: str, after: str) -> tuple[tuple[str, str], ...]:
    """The texts in backticks of two triggers, as the file has them."""
    old, new = re.findall(r"`([^`]+)`", before) or [""], re.findall(r"`([^`]+)`", after) or [""]
    return tuple(zip(old, new, strict=False))


def _filters(service: str, was: list[Role], now: list[Role]) -> Iterator[Change]:
    old, new = _patterns(was), _patterns(now)
    where = now[0][0].workflow.document.where("on", "push", "paths")
    narrow, was_narrow = (any(not each.startswith("!") for each in patterns) for patterns in (new, old))
    if narrow and not was_narrow:
        before = f"; before: all but {enumerated(shown(each[1:]) for each in old)}" if old else ""
        words = f"only runs when one of these changes: {enumerated(map(shown, new))}{before}"
        yield Change(service, words, True, where)
        return
    if was_narrow and not narrow and not any("on push" in when for _, job, _ in now for when in job.when):
        return  # no push starts it now, which has words
    if was_narrow and not narrow:
        words = f"no longer only runs when one of these changes: {enumerated(map(shown, old))}"
        yield Change(service, words, False, where)
        return
    for pattern, is_new in ways(old, new):
        excludes = pattern.startswith("!")
        verb = f"filter {'now also ' if is_new else 'no longer '}{'leaves out' if excludes else 'matches'}"
        pairs = _pathspecs("" if is_new else pattern, pattern if is_new else "")
        yield Change(service, f"{verb} {shown(pattern.removeprefix('!'))}", is_new == excludes, where, pairs)
    if old != new and sorted(old) == sorted(new) and any(each.startswith("!") for each in old):
        yield Change(service, f"filter in another order: {enumerated(map(shown, new))}", True, where)


def _pathspecs(before: str, after: str) -> tuple[tuple[str, str], ...]:
    plain = (before or after).removeprefix("!").removesuffix("/**")
    return ((before, after), (f"{plain}/" if before else "", f"{plain}/" if after else ""))


def _patterns(roles: list[Role]) -> list[str]:
    found = [work.workflow.filters.get("push", ()) for work, job, deed in roles if deed.kind in ("build", "push")]
    lists = [
        each
        for each, (_, job, _) in zip(found, roles, strict=False)
        if not all(" tag " in when or when == "by hand" for when in job.when)
    ]
    return list(dict.fromkeys(pattern for each in lists for pattern in each)) if all(lists) else []


def _rights(subject: str, job_words: str, was: list[Role], now: list[Role]) -> Iterator[Change]:
    """Permissions of the jobs that have a role, the widest of them; what is not said is the repository's setting."""
    old, new = _widest(was), _widest(now)
    where = now[0][1].where
    if old is None or new is None or "everything" in {**old, **new}:
        if old != new:
            words = f"{job_words}: permissions {_told(old)} → {_told(new)}"
            yield Change(subject, words, new is None or "everything" in new, where)
        return
    for scope in sorted({*old, *new}):
        before, after = old.get(scope, "none"), new.get(scope, "none")
        if before != after:
            wider = _WORSE.get(after, 0) > _WORSE.get(before, 0)
            yield Change(subject, f"{job_words}: permission {scope} {before} → {after}", wider, where)


def _told(permissions: dict[str, str] | None) -> str:
    if permissions is None:
        return "of the repository's default"
    return enumerated(f"{scope} {level}" for scope, level in sorted(permissions.items())) or "none"


def _widest(roles: list[Role]) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for _, job, _ in roles:
        if job.permissions is None:
            return None
        for scope, level in job.permissions.items():
            if _WORSE.get(level, 0) > _WORSE.get(found.get(scope, ""), 0):
                found[scope] = level
    return found


def _of_deploy(environment: str, was: list[Role], now: list[Role]) -> Iterator[Change]:
    if not was or not now:
        work, _, deed = (now or was)[0]
        words = f"now deployed by {_file(work)}" if now else f"no longer deployed; it was by {_file(work)}"
        yield Change(environment, f"{words} ({_how(now or was)})", not now, deed.where)
        return
    where = now[0][2].where
    for each in sorted({deed.what for _, _, deed in was if deed.kind == "container"}):
        words = (
            f"container {shown(each)} was started by `docker run`: it must be removed by hand, for its name is taken"
        )
        yield Change(environment, words, True, where)
    if _how(was) != _how(now):
        words = f"deployed by {_how(now)}; before: {_how(was)}"
        yield Change(environment, words, True, where)
    yield from _when(environment, "deploy", was, now)
    yield from _logins(environment, was, now, where)
    yield from deploy_transport.changes(environment, was, now, where)
    yield from _sources(environment, was, now)
    yield from _checks(environment, _asked(was), _asked(now), where)
    yield from _rights(environment, "the job that deploys it", was, now)
    yield from _queues(environment, was, now)


def _one_way(deed: Deed) -> str:
    """How one deploy is done, and where."""
    place = shown(deed.what.partition("\n")[0] or ".")
    return deed.note if deed.kind == "container" else f"{deed.note} in {place}"


def _how(roles: list[Role]) -> str:
    ways_there = dict.fromkeys(_one_way(deed) for _, _, deed in roles)
    if any("the host program" in way for way in ways_there):
        return enumerated(way.replace(" in ", ", stack ") for way in ways_there)
    return without_secrets(enumerated(ways_there, 4))


def _logins(environment: str, was: list[Role], now: list[Role], where: str) -> Iterator[Change]:
    old, new = ({deed.what for _, deed in _beside(roles, _Way.SAME) if deed.kind == "login"} for roles in (was, now))
    for each in sorted(old - new - {""}):
        yield Change(environment, f"the host's key is compared with a known one; before, {each}", False, where)
    for each in sorted(new - old - {""}):
        yield Change(environment, f"the host's key is no longer compared: {each}", True, where)


class _Way(Enum):
    """Which jobs beside those that deploy: none, those that they wait for, those that wait for them."""

    SAME, BEFORE, AFTER = range(3)


def _beside(roles: list[Role], way: _Way) -> Iterator[tuple[Job, Deed]]:
    """The deeds of the jobs that deploy, and of those before or after them."""
    for work in _works(roles):
        jobs = {job.id: job for job in work.workflow.jobs}
        found = {job.id for other, job, _ in roles if other.path == work.path}
        for _ in jobs:
            if way is _Way.BEFORE:
                found |= {need for name in found for need in jobs[name].needs if need in jobs}
            elif way is _Way.AFTER:
                found |= {name for name, job in jobs.items() if found & set(job.needs)}
        yield from ((job, deed) for job, deed in work.deeds if job.id in found)


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
        list(dict.fromkeys(tag(deed.what) for _, deed in _beside(roles, _Way.BEFORE) if deed.kind == "take"))
        for roles in (was, now)
    )
    where = now[0][2].where
    if old and new and old != new:
        words = f"promotes {enumerated(map(_source, new))}; before: {enumerated(map(_source, old))}"
        yield Change(environment, words, False, where)
    elif new and not old and not any(deed.kind == "build" for _, deed in _beside(now, _Way.BEFORE)):
        words = f"nothing is built for it: it gets {enumerated(map(_source, new))}"
        yield Change(environment, words, True, where)


def _source(name: str) -> str:
    return "the image that was built from the tagged source" if name == "src-<key>" else f"whatever {shown(name)} is"


def _checks(environment: str, old: dict[str, str], new: dict[str, str], where: str) -> Iterator[Change]:
    gone, came = [name for name in old if name not in new], [name for name in new if name not in old]
    if len(gone) == len(came) == 1:
        words = f"health is asked of {shown(came[0])}, not {shown(gone[0])}: DNS and the proxy must lead there"
        yield Change(environment, words, True, where, ((gone[0], came[0]),))
        gone, came = [], []
    for domain in gone:
        words = f"health of {shown(domain + old[domain])} is no longer checked"
        yield Change(environment, words, not new, where, ((domain, ""),))
    for domain in came:
        at = f" at {shown(new[domain])}" if new[domain] else ""
        yield Change(environment, f"health of {shown(domain)} is checked{at}", False, where, (("", domain),))
    for domain in (name for name in old if old[name] and new.get(name) and old[name] != new[name]):
        words = f"health of {shown(domain)} is asked at {shown(new[domain])}, not {shown(old[domain])}"
        yield Change(environment, words, True, where, ((domain + old[domain], domain + new[domain]),))


def _asked(roles: list[Role]) -> dict[str, str]:
    """Domain → path that is asked after these roles deploy."""
    found: dict[str, str] = {}
    for _, deed in _beside(roles, _Way.AFTER):
        if deed.kind == "check" and (url := re.match(r"(?:https?://)?([^/\s]+)([^\s?]*)", deed.what)):
            found[url[1]] = url[2] or "/"
    return found


def _file(work: Work) -> str:
    return shown(work.path)


def triggers(workflow: Workflow) -> str:
    """When a workflow runs, in words."""
    return enumerated(workflow.triggers, 4) or "never"
