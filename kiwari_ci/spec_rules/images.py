"""Rules of path filters, which name the files of an image."""

from collections.abc import Collection, Iterator

from kiwari_ci.effective_spec import EffectiveImage, EffectiveSpec
from kiwari_ci.effective_spec.lock_files import LOCK_FILE_EXAMPLES, PackageManager, find_package_manager
from kiwari_ci.effective_spec.values import has_version_or_digest
from kiwari_ci.github_facts import path_filters
from kiwari_ci.problems import Problem
from kiwari_ci.schema import Steps, Test
from kiwari_ci.schema.text_formats import SECRET_NAME_PATTERN
from kiwari_ci.spec_loading.validation import format_yaml_path, report_at_key, report_at_value
from kiwari_ci.spec_loading.yaml_source import YamlPath, YamlSource

Problems = Iterator[Problem]


def check_images(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """Find filters that match nothing or are ambiguous, builds that cannot work, and arguments that hold secrets."""
    for service in spec.built_services:
        yield from _check_path_filters(source, spec.images_of(service)[0])
    yield from _check_build_arguments(source, spec)
    yield from _check_scanners(source, spec)
    yield from _check_tests(source, spec)


def _check_path_filters(source: YamlSource, image: EffectiveImage) -> Problems:
    """A filter must match something, and GitHub and Git must read it alike: it also names what an image is made of."""
    loc: YamlPath = ("services", image.service, "paths")
    paths = image.source_paths
    errors = path_filters.find_filter_errors(paths)
    for index, reason in errors or _find_cancelled_inclusions(paths):
        words, _, hint = reason.rpartition(": ")
        message = f"{format_yaml_path((*loc, index))}: {words}"
        yield report_at_value(source, (*loc, index), "filter", message, hint)
    if errors:
        return
    all_filters = list(image.path_filters)
    if not any(path.startswith("!") for path in all_filters):
        return
    for path in all_filters:
        if path not in paths and not path_filters.is_included(all_filters, path):
            message = f"{format_yaml_path(loc)}: `{path}` is excluded, but a change of it changes the image"
            yield report_at_value(source, loc, "filter", message, "narrow the exclusion")


def _find_cancelled_inclusions(paths: list[str]) -> list[tuple[int, str]]:
    """Find exclusions that leave nothing of an inclusion."""
    cancelled = []
    for index, exclusion in enumerate(paths):
        if not (exclusion.startswith("!") and exclusion.endswith("**")):
            continue
        excluded_prefix = exclusion[1:].removesuffix("**")
        for path in paths:
            if not path.startswith("!") and path.startswith(excluded_prefix):
                reason = f"`{exclusion}` excludes all that `{path}` includes: leave out one of the two"
                cancelled.append((index, reason))
    return cancelled


def _check_build_arguments(source: YamlSource, spec: EffectiveSpec) -> Problems:
    for loc, base_arguments in _iter_build_arguments(spec):
        key = str(loc[-1])
        where = format_yaml_path(loc)
        if SECRET_NAME_PATTERN.fullmatch(key):
            message = f"{where}: named like a secret, and who has the image can read its build arguments"
            hint = f"secrets: {{{key.lower()}: {key.upper()}}}, for RUN --mount=type=secret,id={key.lower()}"
            yield report_at_key(source, loc, "secret-value", message, hint)
        if key in base_arguments:
            message = f"{where}: `base` says its value, too"
            yield report_at_key(source, loc, "clash", message, "leave out one of the two")


def _check_scanners(source: YamlSource, spec: EffectiveSpec) -> Problems:
    for name, service in spec.services.items():
        scan = service.build.scan
        if scan:
            yield from check_image_version(source, ("services", name, "build", "scan", "image"), scan.image)


def _suggest_fixed_image(image: str) -> str:
    """The line to write: a version, or a digest for an image that has no versions."""
    name = image.removesuffix(":latest")
    return f"image: {name}:VERSION, or {name}@sha256:DIGEST if it has no versions"


def check_image_version(source: YamlSource, loc: YamlPath, image: str) -> Problems:
    """Check that an image of others has a version, so that it is the same on each host."""
    if not has_version_or_digest(image):
        message = f"{format_yaml_path(loc)}: `{image}` names no version"
        yield report_at_value(source, loc, "moving-image", message, _suggest_fixed_image(image))


def _iter_build_arguments(spec: EffectiveSpec) -> Iterator[tuple[YamlPath, Collection[str]]]:
    """Every build argument, and those that name images which the service is built from."""
    for name, service in spec.services.items():
        for key in service.build.args:
            yield ("services", name, "build", "args", key), service.build.base
    for environment in spec.environments.values():
        for name, override in environment.model.overrides.items():
            if name not in spec.services:
                continue
            for key in override.build.args:
                loc = ("environments", environment.name, "overrides", name, "build", "args", key)
                yield loc, spec.services[name].build.base


def _check_tests(source: YamlSource, spec: EffectiveSpec) -> Problems:
    for name, service in spec.services.items():
        if service.test and service.tests:
            message = f"services.{name} has `test` and `tests`"
            yield report_at_key(source, ("services", name, "test"), "clash", message, "give it a name among `tests`")
    for name, loc, test in spec.iter_tests():
        yield from _check_matrix(source, loc, test)
        if test.workflow:
            yield from _check_called_workflow(source, loc, test, spec.services[name].steps)
        else:
            yield from _check_cache(source, spec, loc, test)


def _check_cache(source: YamlSource, spec: EffectiveSpec, test_loc: YamlPath, test: Test) -> Problems:
    """Only pull requests have a cache, and each lock file is of a package manager that a tool of `setup` caches for."""
    if test.cache and not spec.project.pull_requests:
        loc: YamlPath = (*test_loc, "cache")
        message = f"{format_yaml_path(loc)}: only tests of pull requests use a cache, and none are tested"
        yield report_at_key(source, loc, "unused", message, "pull_requests: true below `project`, or leave out `cache`")
    names_by_tool: dict[str, str] = {}
    for index, lock_file in enumerate(test.cache or ()):
        loc = (*test_loc, "cache", index)
        manager = find_package_manager(lock_file)
        if manager is None:
            message = f"{format_yaml_path(loc)}: `{lock_file}` is no lock file that a tool of `setup` caches for"
            yield report_at_value(source, loc, "cache", message, f"a path that ends in one of {LOCK_FILE_EXAMPLES}")
            continue
        yield from _check_cached_tools(source, loc, test, lock_file, manager)
        other_name = names_by_tool.setdefault(manager.tool, manager.name)
        if other_name != manager.name:
            message = f"{format_yaml_path(loc)}: {manager.tool} caches for one package manager, here for {other_name}"
            yield report_at_value(source, loc, "cache", message, "two tests below `tests`, or leave out one of them")


def _check_cached_tools(
    source: YamlSource, loc: YamlPath, test: Test, lock_file: str, manager: PackageManager
) -> Problems:
    installed_tools = [tool_name for tool_name, tool in test.setup or () if tool]
    missing_tools = [tool for tool in (*manager.needed_tools, manager.tool) if tool not in installed_tools]
    if missing_tools:
        names = " and ".join(missing_tools)
        message = f"{format_yaml_path(loc)}: a cache for `{lock_file}` needs {names}, which `setup` does not install"
        hint = "setup: {" + ", ".join(f"{tool}: '…'" for tool in missing_tools) + "}"
        yield report_at_value(source, loc, "cache", message, hint)


def _check_called_workflow(source: YamlSource, test_loc: YamlPath, test: Test, steps: Steps) -> Problems:
    """A called workflow has jobs of its own: nothing can be added to them."""
    for key in sorted(test.model_fields_set - {"workflow"}):
        message = f"{format_yaml_path((*test_loc, key))}: `workflow` calls {test.workflow}, whose jobs do not read it"
        yield report_at_key(source, (*test_loc, key), "clash", message, f"write it in {test.workflow}")
    for place, own_steps in (("before_test", steps.before_test), ("after_test", steps.after_test)):
        if own_steps:
            loc = (*test_loc, "workflow")
            message = f"{format_yaml_path(loc)}: `steps.{place}` does not run in a workflow that is called"
            yield report_at_key(source, loc, "clash", message, f"write the steps in {test.workflow}")


def _check_matrix(source: YamlSource, test_loc: YamlPath, test: Test) -> Problems:
    """A version of a matrix is one of its keys, and no variable has two values."""
    for tool_name, tool in test.setup or ():
        if tool and tool.matrix and tool.matrix not in test.matrix:
            loc: YamlPath = (*test_loc, "setup", tool_name, "matrix")
            message = f"{format_yaml_path(loc)}: no `{tool.matrix}` in `matrix`"
            yield report_at_value(source, loc, "unknown-name", message, f"matrix: {{{tool.matrix}: ['1.2', '1.3']}}")
    for key in test.env:
        if key in test.matrix:
            loc = (*test_loc, "env", key)
            message = f"{format_yaml_path(loc)}: `matrix` says its value, too"
            yield report_at_key(source, loc, "clash", message, "leave out one of the two")
