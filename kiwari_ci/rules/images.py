"""Path filters: they name what an image is made of."""

from collections.abc import Collection, Iterator

from kiwari_ci.effective import built_images, derived
from kiwari_ci.github import path_filters
from kiwari_ci.loading.validation import format_yaml_path, report_at_key, report_at_value
from kiwari_ci.loading.yaml_source import YamlPath, YamlSource
from kiwari_ci.problems import Problem
from kiwari_ci.schema import Spec, Test
from kiwari_ci.schema.text_formats import SECRET_NAME_PATTERN

Problems = Iterator[Problem]


def check_images(source: YamlSource, given: Spec) -> Problems:
    """Filters that match nothing, or that GitHub and git read otherwise; builds that cannot work or tell a secret."""
    yield from _check_path_filters(source, given)
    yield from _check_builds(source, given)
    yield from _check_tests(source, given)


def _check_path_filters(source: YamlSource, given: Spec) -> Problems:
    """A filter must match something, and GitHub and git must read it alike: it also names what an image is made of."""
    for service in built_images.list_built_services(given):
        loc: YamlPath = ("services", service, "paths")
        paths = built_images.list_source_paths(given, service)
        faults = path_filters.find_filter_errors(paths)
        for index, reason in faults or _find_cancelled_inclusions(paths):
            words, _, cure = reason.rpartition(": ")
            yield report_at_value(source, (*loc, index), "filter", f"{format_yaml_path((*loc, index))}: {words}", cure)
        filters = list(built_images.collect_path_filters(given, built_images.list_service_images(given, service)[0]))
        for path in filters if not faults else ():
            if path not in paths and not path_filters.is_included(filters, path):
                message = f"{format_yaml_path(loc)}: `{path}` is excluded, and shapes the image"
                yield report_at_value(source, loc, "filter", message, "narrow the exclusion")


def _find_cancelled_inclusions(paths: list[str]) -> list[tuple[int, str]]:
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


def _check_builds(source: YamlSource, given: Spec) -> Problems:
    for loc, bases in _iter_build_args(given):
        key = str(loc[-1])
        if SECRET_NAME_PATTERN.fullmatch(key):
            message = (
                f"{format_yaml_path(loc)}: named like a secret, and who has the image can read its build arguments"
            )
            hint = f"secrets: {{{key.lower()}: {key.upper()}}}, for RUN --mount=type=secret,id={key.lower()}"
            yield report_at_key(source, loc, "secret-value", message, hint)
        if key in bases:
            message = f"{format_yaml_path(loc)}: `base` says its value, too"
            yield report_at_key(source, loc, "clash", message, "leave out one of the two")
    for service, model in given.services.items():
        if model.build.scan:
            yield from check_image_version(
                source, ("services", service, "build", "scan", "image"), model.build.scan.image
            )


def check_image_version(source: YamlSource, loc: YamlPath, image: str) -> Problems:
    """An image of others has a version: it is the same on one host and on the next."""
    if not derived.has_version_or_digest(image):
        message = f"{format_yaml_path(loc)}: `{image}` names no version"
        yield report_at_value(source, loc, "moving-image", message, f"image: {image.removesuffix(':latest')}:VERSION")


def _iter_build_args(given: Spec) -> Iterator[tuple[YamlPath, Collection[str]]]:
    """Every build argument, and those that name images which the service is built from."""
    for service, model in given.services.items():
        for key in model.build.args:
            yield ("services", service, "build", "args", key), model.build.base
    for environment, place in given.environments.items():
        for service, override in place.overrides.items():
            for key in override.build.args if service in given.services else ():
                loc = ("environments", environment, "overrides", service, "build", "args", key)
                yield loc, given.services[service].build.base


def _check_tests(source: YamlSource, given: Spec) -> Problems:
    for service, model in given.services.items():
        if model.test and model.tests:
            message = f"services.{service} has `test` and `tests`"
            yield report_at_key(source, ("services", service, "test"), "clash", message, "give it a name among `tests`")
        for loc, test in derived.iter_tests(service, model):
            yield from _check_matrix(source, loc, test)


def _check_matrix(source: YamlSource, here: YamlPath, test: Test) -> Problems:
    """A version of a matrix is one of its keys, and no key is said twice."""
    for kind, tool in test.setup or ():
        if tool and tool.matrix and tool.matrix not in test.matrix:
            loc: YamlPath = (*here, "setup", kind, "matrix")
            message = f"{format_yaml_path(loc)}: no `{tool.matrix}` in `matrix`"
            yield report_at_value(source, loc, "unknown-name", message, f"matrix: {{{tool.matrix}: ['1.2', '1.3']}}")
    for key in test.env:
        if key in test.matrix:
            message = f"{format_yaml_path((*here, 'env', key))}: `matrix` says its value, too"
            yield report_at_key(source, (*here, "env", key), "clash", message, "leave out one of the two")
