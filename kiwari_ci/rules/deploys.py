"""What starts a deploy, and what is promoted."""

from collections.abc import Iterator

from kiwari_ci import derive
from kiwari_ci.problems import Problem
from kiwari_ci.source import Loc, Source
from kiwari_ci.spec import Spec
from kiwari_ci.validation import at_value, dotted

Found = Iterator[Problem]


def of_spec(source: Source, given: Spec) -> Found:
    """Faults in how environments are reached."""
    yield from _deploys(source, given)
    yield from _tags(source, given)


def _deploys(source: Source, given: Spec) -> Found:
    branches: dict[str, str] = {}
    for name, place in given.environments.items():
        here: Loc = ("environments", name)
        if place.promote:
            yield from _promotion(source, given, name, place.promote)
        elif place.deploy_on.tag:
            words = f"{dotted(here)} is reached by a tag and must say what it promotes"
            yield at_value(
                source, (*here, "deploy_on"), "promotion", words, "promote: the environment that builds the images"
            )
        else:
            branches.setdefault(str(place.deploy_on.push), name)
    if len(branches) > 1:
        words = " and ".join(f"`{branch}` ({name})" for branch, name in branches.items())
        loc: Loc = ("environments", list(branches.values())[1], "deploy_on")
        yield at_value(
            source, loc, "branches", f"images are built on one branch, met {words}", "promote one from the other"
        )


def _promotion(source: Source, given: Spec, name: str, origin: str) -> Found:
    here: Loc = ("environments", name, "promote")
    if given.environments[name].deploy_on.push:
        words = f"environments.{name} promotes, and so must be reached by a tag"
        yield at_value(source, (*here[:2], "deploy_on"), "promotion", words, 'deploy_on: {tag: "v*"}')
    if origin == name or derive.is_promoted(given, origin):
        yield at_value(
            source,
            here,
            "promotion",
            f"{dotted(here)}: `{origin}` builds nothing",
            "promote an environment that a push reaches",
        )
    for service in derive.services_of(given, name):
        if service not in derive.services_of(given, origin):
            message = f"{dotted(here)}: `{origin}` does not hold `{service}`"
            hint = f"environments.{name}.services: those that {origin} holds"
            yield at_value(source, here, "promotion", message, hint)


def _tags(source: Source, given: Spec) -> Found:
    """A tag starts the promotions whose pattern it matches: either the same for several, or for one alone."""
    prefixes = {
        name: str(place.deploy_on.tag).removesuffix("*")
        for name, place in given.environments.items()
        if place.deploy_on.tag
    }
    for name, prefix in prefixes.items():
        for other, longer in prefixes.items():
            if longer != prefix and longer.startswith(prefix):
                loc: Loc = ("environments", other, "deploy_on", "tag")
                message = (
                    f"tags like `{longer}1.2.0` start environments.{other} and, by `{prefix}*`, environments.{name}"
                )
                yield at_value(source, loc, "clash", message, "give each a prefix that is not the other's beginning")
