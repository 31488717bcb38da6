"""What starts a deploy, and what is promoted."""

from collections.abc import Iterator
from itertools import combinations

from kiwari_ci.effective import built_images, derived, triggers
from kiwari_ci.loading.validation import at_value, dotted
from kiwari_ci.loading.yaml_source import Loc, Source
from kiwari_ci.problems import Problem
from kiwari_ci.schema import Spec

Found = Iterator[Problem]


def of_spec(source: Source, given: Spec) -> Found:
    """Faults in how environments are reached."""
    for name, place in given.environments.items():
        if place.promote:
            yield from _promotion(source, given, name, place.promote)
        else:
            yield from _orders(source, given, name)
    yield from _tags(source, given)
    yield from _built_twice(source, given)
    yield from _bases(source, given)


def _orders(source: Source, given: Spec, name: str) -> Found:
    """Commits are counted along one branch, so that an older one never takes the place of a newer."""
    on, default = given.environments[name].deploy_on, given.project.default_branch
    if on.push and on.tag and on.push != default:
        loc: Loc = ("environments", name, "deploy_on")
        words = f"{dotted(loc)}: pushes to `{on.push}` and tags of `{default}` have two orders: neither is the newer"
        yield at_value(source, loc, "branches", words, f"push: {default}, or an environment for each")


def _promotion(source: Source, given: Spec, name: str, origin: str) -> Found:
    here: Loc = ("environments", name, "promote")
    if given.environments[name].deploy_on.push:
        words = f"environments.{name} promotes, and so must be reached by a tag or by hand"
        yield at_value(source, (*here[:2], "deploy_on"), "promotion", words, 'deploy_on: {tag: "v*"}')
    if origin == name or triggers.is_promoted(given, origin):
        yield at_value(
            source,
            here,
            "promotion",
            f"{dotted(here)}: `{origin}` builds nothing",
            "promote an environment that is built",
        )
    for service in derived.services_of(given, name):
        if built_images.differs(given, service):
            message = f"{dotted(here)}: the build of `{service}` differs by environment, and a promoted image does not"
            hint = "leave out `promote`, so that a tag builds; or leave out `build` in `overrides`"
            yield at_value(source, here, "promotion", message, hint)
        if service not in derived.services_of(given, origin):
            message = f"{dotted(here)}: `{origin}` does not hold `{service}`"
            hint = f"environments.{name}.services: those that {origin} holds"
            yield at_value(source, here, "promotion", message, hint)


def _tags(source: Source, given: Spec) -> Found:
    """A tag starts the workflows whose pattern it matches: either the same for several, or for one alone."""
    for (name, mine), (other, its) in combinations(triggers.patterns(given).items(), 2):
        examples = [each.example(suffix=end.suffix) for each in (mine, its) for end in (mine, its)]
        both = [tag for tag in examples if triggers.takes(given, mine, tag) and triggers.takes(given, its, tag)]
        if mine != its and both:
            loc: Loc = ("environments", other, "deploy_on", "tag")
            words = f"a tag `{both[0]}` starts environments.{other} by `{its.text}`, and environments.{name} by"
            cure = "give each a prefix that is not the other's beginning; candidates: `v*-rc.*` beside `v*`"
            yield at_value(source, loc, "clash", f"{words} `{mine.text}`", cure)


def _built_twice(source: Source, given: Spec) -> Found:
    """Two workflows that one tag starts would build the same source at the same time."""
    tags = triggers.patterns(given)
    built = [name for name in tags if triggers.is_built(given, name)]
    for other, name in combinations(built, 2):
        if tags[other] == tags[name]:
            words = (
                f"a tag `{tags[name].example()}` would build for environments.{other} and environments.{name} at once"
            )
            cure = "one that is built, and another that promotes it, on a tag of its own"
            yield at_value(source, ("environments", name, "deploy_on", "tag"), "clash", words, cure)


def _bases(source: Source, given: Spec) -> Found:
    """What a base is not built for keeps whoever is built from it waiting, until the job gives up."""
    for service, model in given.services.items():
        for key, base in model.build.base.items():
            loc: Loc = ("services", service, "build", "base", key)
            if built_images.differs(given, base):
                words = f"{dotted(loc)}: the build of `{base}` differs by environment: there is no one image of it"
                yield at_value(source, loc, "base", words, "leave out `build` in its `overrides`")
                continue
            missing = [f"`{each}`" for each in _branches(given, service) if each not in _branches(given, base)]
            missing += [
                f"environments.{name}" for name in _releases(given, service) if not _is_there(given, base, name)
            ]
            if missing:
                words = f"{dotted(loc)}: {service} is built for {' and '.join(missing)}, and `{base}` is not"
                yield at_value(source, loc, "branches", words, "hold both in the same environments")


def _branches(given: Spec, service: str) -> list[str]:
    """The branches whose pushes build some image of a service."""
    images = built_images.images_of(given, service)
    return list(dict.fromkeys(branch for each in images for branch in built_images.branches_of(given, each)))


def _releases(given: Spec, service: str) -> list[str]:
    """The environments whose own workflow builds a service."""
    return [
        name
        for name in given.environments
        if service in derived.services_of(given, name) and triggers.is_built(given, name)
    ]


def _is_there(given: Spec, base: str, environment: str) -> bool:
    """Whether a release finds a base: it builds that itself, or the default branch has."""
    return environment in _releases(given, base) or given.project.default_branch in _branches(given, base)
