"""Path filters: they name what an image is made of."""

from collections.abc import Iterator

from kiwari_ci import derive, globs
from kiwari_ci.problems import Problem
from kiwari_ci.source import Loc, Source
from kiwari_ci.spec import Spec
from kiwari_ci.validation import at_value, dotted

Found = Iterator[Problem]


def of_spec(source: Source, given: Spec) -> Found:
    """A filter must match something, and GitHub and git must read it alike."""
    yield from _filters(source, given)


def _filters(source: Source, given: Spec) -> Found:
    """A filter must match something, and GitHub and git must read it alike: it also names what an image is made of."""
    for service in derive.built_services(given):
        loc: Loc = ("services", service, "paths")
        paths = derive.paths_of(given, service)
        faults = globs.faults(paths)
        for index, reason in faults or _swallowed(paths):
            words, _, cure = reason.rpartition(": ")
            yield at_value(source, (*loc, index), "filter", f"{dotted((*loc, index))}: {words}", cure)
        filters = list(derive.filters_of(given, service))
        for path in filters if not faults else ():
            if path not in paths and not globs.included(filters, path):
                message = f"{dotted(loc)}: `{path}` is excluded, and shapes the image"
                yield at_value(source, loc, "filter", message, "narrow the exclusion")


def _swallowed(paths: list[str]) -> list[tuple[int, str]]:
    """Exclusions that leave nothing of an inclusion."""
    return [
        (index, f"`{exclusion}` excludes all that `{path}` includes: leave out one of the two")
        for index, exclusion in enumerate(paths)
        for path in paths
        if exclusion.startswith("!")
        and exclusion.endswith("**")
        and not path.startswith("!")
        and path.startswith(exclusion[1:].removesuffix("**"))
    ]
