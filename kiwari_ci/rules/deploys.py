"""What starts a deploy, and what is promoted."""

from collections.abc import Iterator
from itertools import combinations

from kiwari_ci.effective import built_images, derived, triggers
from kiwari_ci.loading.validation import format_yaml_path, report_at_value
from kiwari_ci.loading.yaml_source import YamlPath, YamlSource
from kiwari_ci.problems import Problem
from kiwari_ci.schema import Spec

Problems = Iterator[Problem]


def check_deploys(source: YamlSource, given: Spec) -> Problems:
    """Faults in how environments are reached."""
    for name, place in given.environments.items():
        if place.promote:
            yield from _check_promotion(source, given, name, place.promote)
        else:
            yield from _check_commit_order(source, given, name)
    yield from _check_tag_conflicts(source, given)
    yield from _check_duplicate_builds(source, given)
    yield from _check_base_builds(source, given)


def _check_commit_order(source: YamlSource, given: Spec, name: str) -> Problems:
    """Commits are counted along one branch, so that an older one never takes the place of a newer."""
    on, default = given.environments[name].deploy_on, given.project.default_branch
    if on.push and on.tag and on.push != default:
        loc: YamlPath = ("environments", name, "deploy_on")
        words = f"{format_yaml_path(loc)}: pushes to `{on.push}` and tags of `{default}` have two orders: neither is the newer"
        yield report_at_value(source, loc, "branches", words, f"push: {default}, or an environment for each")


def _check_promotion(source: YamlSource, given: Spec, name: str, origin: str) -> Problems:
    here: YamlPath = ("environments", name, "promote")
    if given.environments[name].deploy_on.push:
        words = f"environments.{name} promotes, and so must be reached by a tag or by hand"
        yield report_at_value(source, (*here[:2], "deploy_on"), "promotion", words, 'deploy_on: {tag: "v*"}')
    if origin == name or triggers.is_promoted(given, origin):
        yield report_at_value(
            source,
            here,
            "promotion",
            f"{format_yaml_path(here)}: `{origin}` builds nothing",
            "promote an environment that is built",
        )
    for service in derived.list_services(given, name):
        if built_images.has_environment_specific_build(given, service):
            message = f"{format_yaml_path(here)}: the build of `{service}` differs by environment, and a promoted image does not"
            hint = "leave out `promote`, so that a tag builds; or leave out `build` in `overrides`"
            yield report_at_value(source, here, "promotion", message, hint)
        if service not in derived.list_services(given, origin):
            message = f"{format_yaml_path(here)}: `{origin}` does not hold `{service}`"
            hint = f"environments.{name}.services: those that {origin} holds"
            yield report_at_value(source, here, "promotion", message, hint)


def _check_tag_conflicts(source: YamlSource, given: Spec) -> Problems:
    """A tag starts the workflows whose pattern it matches: either the same for several, or for one alone."""
    for (name, mine), (other, its) in combinations(triggers.collect_tag_patterns(given).items(), 2):
        examples = [each.example(suffix=end.suffix) for each in (mine, its) for end in (mine, its)]
        both = [
            tag for tag in examples if triggers.matches_tag(given, mine, tag) and triggers.matches_tag(given, its, tag)
        ]
        if mine != its and both:
            loc: YamlPath = ("environments", other, "deploy_on", "tag")
            words = f"a tag `{both[0]}` starts environments.{other} by `{its.text}`, and environments.{name} by"
            cure = "give each a prefix that is not the other's beginning; candidates: `v*-rc.*` beside `v*`"
            yield report_at_value(source, loc, "clash", f"{words} `{mine.text}`", cure)


def _check_duplicate_builds(source: YamlSource, given: Spec) -> Problems:
    """Two workflows that one tag starts would build the same source at the same time."""
    tags = triggers.collect_tag_patterns(given)
    built = [name for name in tags if triggers.has_own_builds(given, name)]
    for other, name in combinations(built, 2):
        if tags[other] == tags[name]:
            words = (
                f"a tag `{tags[name].example()}` would build for environments.{other} and environments.{name} at once"
            )
            cure = "one that is built, and another that promotes it, on a tag of its own"
            yield report_at_value(source, ("environments", name, "deploy_on", "tag"), "clash", words, cure)


def _check_base_builds(source: YamlSource, given: Spec) -> Problems:
    """What a base is not built for keeps whoever is built from it waiting, until the job gives up."""
    for service, model in given.services.items():
        for key, base in model.build.base.items():
            loc: YamlPath = ("services", service, "build", "base", key)
            if built_images.has_environment_specific_build(given, base):
                words = f"{format_yaml_path(loc)}: the build of `{base}` differs by environment: there is no one image of it"
                yield report_at_value(source, loc, "base", words, "leave out `build` in its `overrides`")
                continue
            missing = [
                f"`{each}`"
                for each in _list_service_branches(given, service)
                if each not in _list_service_branches(given, base)
            ]
            missing += [
                f"environments.{name}"
                for name in _list_release_environments(given, service)
                if not _has_base_image(given, base, name)
            ]
            if missing:
                words = f"{format_yaml_path(loc)}: {service} is built for {' and '.join(missing)}, and `{base}` is not"
                yield report_at_value(source, loc, "branches", words, "hold both in the same environments")


def _list_service_branches(given: Spec, service: str) -> list[str]:
    """The branches whose pushes build some image of a service."""
    images = built_images.list_service_images(given, service)
    return list(dict.fromkeys(branch for each in images for branch in built_images.list_build_branches(given, each)))


def _list_release_environments(given: Spec, service: str) -> list[str]:
    """The environments whose own workflow builds a service."""
    return [
        name
        for name in given.environments
        if service in derived.list_services(given, name) and triggers.has_own_builds(given, name)
    ]


def _has_base_image(given: Spec, base: str, environment: str) -> bool:
    """Whether a release finds a base: it builds that itself, or the default branch has."""
    return environment in _list_release_environments(
        given, base
    ) or given.project.default_branch in _list_service_branches(given, base)
