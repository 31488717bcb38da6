"""Path filters: they name what an image is made of."""

from collections.abc import Collection, Iterator

from kiwari_ci.effective import built_images, derived
from kiwari_ci.github import path_filters
from kiwari_ci.loading.validation import at_key, at_value, dotted
from kiwari_ci.loading.yaml_source import Loc, Source
from kiwari_ci.problems import Problem
from kiwari_ci.schema import Spec, Test
from kiwari_ci.schema.text_formats import SECRET_KEY

Found = Iterator[Problem]


def of_spec(source: Source, given: Spec) -> Found:
    """Filters that match nothing, or that GitHub and git read otherwise; builds that cannot work or tell a secret."""
    yield from _filters(source, given)
    yield from _builds(source, given)
    yield from _tests(source, given)


def _filters(source: Source, given: Spec) -> Found:
    """A filter must match something, and GitHub and git must read it alike: it also names what an image is made of."""
    for service in built_images.built_services(given):
        loc: Loc = ("services", service, "paths")
        paths = built_images.paths_of(given, service)
        faults = path_filters.faults(paths)
        for index, reason in faults or _swallowed(paths):
            words, _, cure = reason.rpartition(": ")
            yield at_value(source, (*loc, index), "filter", f"{dotted((*loc, index))}: {words}", cure)
        filters = list(built_images.filters_of(given, built_images.images_of(given, service)[0]))
        for path in filters if not faults else ():
            if path not in paths and not path_filters.included(filters, path):
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


def _builds(source: Source, given: Spec) -> Found:
    for loc, bases in _args(given):
        key = str(loc[-1])
        if SECRET_KEY.fullmatch(key):
            message = f"{dotted(loc)}: named like a secret, and who has the image can read its build arguments"
            hint = f"secrets: {{{key.lower()}: {key.upper()}}}, for RUN --mount=type=secret,id={key.lower()}"
            yield at_key(source, loc, "secret-value", message, hint)
        if key in bases:
            message = f"{dotted(loc)}: `base` says its value, too"
            yield at_key(source, loc, "clash", message, "leave out one of the two")
    for service, model in given.services.items():
        if model.build.scan:
            yield from moving_image(source, ("services", service, "build", "scan", "image"), model.build.scan.image)


def moving_image(source: Source, loc: Loc, image: str) -> Found:
    """An image of others has a version: it is the same on one host and on the next."""
    if not derived.has_version(image):
        message = f"{dotted(loc)}: `{image}` names no version"
        yield at_value(source, loc, "moving-image", message, f"image: {image.removesuffix(':latest')}:VERSION")


def _args(given: Spec) -> Iterator[tuple[Loc, Collection[str]]]:
    """Every build argument, and those that name images which the service is built from."""
    for service, model in given.services.items():
        for key in model.build.args:
            yield ("services", service, "build", "args", key), model.build.base
    for environment, place in given.environments.items():
        for service, override in place.overrides.items():
            for key in override.build.args if service in given.services else ():
                loc = ("environments", environment, "overrides", service, "build", "args", key)
                yield loc, given.services[service].build.base


def _tests(source: Source, given: Spec) -> Found:
    for service, model in given.services.items():
        if model.test and model.tests:
            message = f"services.{service} has `test` and `tests`"
            yield at_key(source, ("services", service, "test"), "clash", message, "give it a name among `tests`")
        for loc, test in derived.all_tests(service, model):
            yield from _matrix(source, loc, test)


def _matrix(source: Source, here: Loc, test: Test) -> Found:
    """A version of a matrix is one of its keys, and no key is said twice."""
    for kind, tool in test.setup or ():
        if tool and tool.matrix and tool.matrix not in test.matrix:
            loc: Loc = (*here, "setup", kind, "matrix")
            message = f"{dotted(loc)}: no `{tool.matrix}` in `matrix`"
            yield at_value(source, loc, "unknown-name", message, f"matrix: {{{tool.matrix}: ['1.2', '1.3']}}")
    for key in test.env:
        if key in test.matrix:
            message = f"{dotted((*here, 'env', key))}: `matrix` says its value, too"
            yield at_key(source, (*here, "env", key), "clash", message, "leave out one of the two")
