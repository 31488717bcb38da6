"""What starts a deploy, and what is promoted."""

from collections.abc import Iterator
from itertools import combinations

from kiwari_ci.effective_spec import EffectiveEnvironment, EffectiveSpec
from kiwari_ci.problems import Problem
from kiwari_ci.spec_loading.validation import format_yaml_path, report_at_key, report_at_value
from kiwari_ci.spec_loading.yaml_source import YamlPath, YamlSource

Problems = Iterator[Problem]


def check_deploys(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """Find problems in what starts the deploys of environments."""
    for environment in spec.environments.values():
        yield from _check_release_branches(source, environment)
        if environment.model.promote:
            yield from _check_promotion(source, environment, spec.environments[environment.model.promote])
        else:
            yield from _check_commit_order(source, environment)
        if environment.model.image_version != "tag" and not environment.model.deploy_on.tag:
            loc: YamlPath = ("environments", environment.name, "image_version")
            message = f"{format_yaml_path(loc)}: no tag starts its deploys"
            yield report_at_key(source, loc, "unused", message, 'deploy_on: {tag: "v*"}; or leave it out')
    yield from _check_tested_branches(source, spec)
    yield from _check_tag_conflicts(source, spec)
    yield from _check_duplicate_builds(source, spec)
    yield from _check_bases(source, spec)


def _check_tested_branches(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """Check that pull requests are tested, and that other workflows do not already test a branch."""
    project = spec.project
    for key in ("tested_services", "tested_branches"):
        if key in project.model_fields_set and not project.pull_requests:
            loc: YamlPath = ("project", key)
            message = f"{format_yaml_path(loc)}: pull requests are not tested"
            yield report_at_key(source, loc, "unused", message, "pull_requests: true")
    for index, branch in enumerate(project.tested_branches or ()):
        if branch in spec.built_branches:
            loc = ("project", "tested_branches", index)
            message = f"{format_yaml_path(loc)}: a push to `{branch}` runs the services' own workflows, which test it"
            yield report_at_value(source, loc, "clash", message, "leave it out")


def _check_commit_order(source: YamlSource, environment: EffectiveEnvironment) -> Problems:
    """Commits are counted along one branch, so that an older one never takes the place of a newer."""
    deploy_on, default_branch = environment.model.deploy_on, environment.spec.project.default_branch
    if deploy_on.push and deploy_on.tag and deploy_on.push != default_branch:
        loc: YamlPath = ("environments", environment.name, "deploy_on")
        branches = f"a push deploys `{deploy_on.push}` and a tag deploys `{default_branch}`"
        orders = f"{branches}: with two branches, no deploy knows which commit is newer"
        hint = f"push: {default_branch}, or an environment for each"
        yield report_at_value(source, loc, "branches", f"{format_yaml_path(loc)}: {orders}", hint)


def _check_release_branches(source: YamlSource, environment: EffectiveEnvironment) -> Problems:
    """Tags on several branches have the order of versions, which pushes do not have."""
    deploy_on = environment.model.deploy_on
    if not deploy_on.branches:
        return
    loc: YamlPath = ("environments", environment.name, "deploy_on", "branches")
    where = format_yaml_path(loc)
    if environment.is_ordered_by_run:
        yield from _check_chosen_branches(source, environment, loc)
    elif deploy_on.push:
        message = f"{where}: tags of several branches have the order of versions, and pushes have none"
        yield report_at_key(source, loc, "branches", message, "leave out `push`: an environment for each")
    for index, branch in enumerate(deploy_on.branches):
        if branch in deploy_on.branches[:index]:
            message = f"{where}: `{branch}` stands in this list twice"
            yield report_at_value(source, (*loc, index), "duplicate", message, "leave out one of the two")


def _check_chosen_branches(source: YamlSource, environment: EffectiveEnvironment, loc: YamlPath) -> Problems:
    """Branches that a person chooses go with neither `push` nor `promote`."""
    deploy_on, where = environment.model.deploy_on, format_yaml_path(loc)
    if deploy_on.push:
        message = f"{where}: a push to `{deploy_on.push}` deploys that branch alone"
        hint = (
            "leave out `branches`; or deploy_on: {dispatch: true, branches: ['**']}, so that a person chooses;"
            " docs/branch-by-hand.md has a workflow with which each push of a branch starts such a deploy, too"
        )
        yield report_at_key(source, loc, "branches", message, hint)
    elif environment.is_promoted:
        message = f"{where}: a run of a chosen branch builds its images, and `promote` takes those that exist"
        yield report_at_key(source, loc, "branches", message, "leave out `promote`, or leave out `branches`")


def _check_promoted_branches(
    source: YamlSource, environment: EffectiveEnvironment, origin: EffectiveEnvironment
) -> Problems:
    """What is promoted was built: by a push to the one branch of the origin, or by a tag on one of its branches."""
    for index, branch in enumerate(environment.model.deploy_on.branches or []):
        if branch not in origin.release_branches:
            loc: YamlPath = ("environments", environment.name, "deploy_on", "branches", index)
            message = f"{format_yaml_path(loc)}: `{origin.name}` builds no commit of `{branch}`, so there is no image"
            branches = ", ".join(f"'{name}'" if "*" in name else name for name in environment.release_branches)
            hint = (
                f"leave out `promote`, so that a tag tests and builds; or"
                f" environments.{origin.name}.deploy_on: {{tag: 'v*-rc.*', branches: [{branches}]}}"
            )
            yield report_at_value(source, loc, "promotion", message, hint)


def _check_promotion(source: YamlSource, environment: EffectiveEnvironment, origin: EffectiveEnvironment) -> Problems:
    name = environment.name
    loc: YamlPath = ("environments", name, "promote")
    where = format_yaml_path(loc)
    if environment.is_deployed_on_push:
        message = f"environments.{name} promotes, and so must be reached by a tag or by hand"
        trigger_loc: YamlPath = ("environments", name, "deploy_on")
        yield report_at_value(source, trigger_loc, "promotion", message, 'deploy_on: {tag: "v*"}')
    if origin is environment or origin.is_promoted:
        message = f"{where}: `{origin.name}` builds nothing"
        yield report_at_value(source, loc, "promotion", message, "promote an environment that is built")
    if origin.is_ordered_by_run:
        message = f"{where}: `{origin.name}` runs any branch that a person chooses, reviewed or not"
        yield report_at_value(source, loc, "promotion", message, "promote an environment that one branch deploys")
    else:
        yield from _check_promoted_branches(source, environment, origin)
    for service in environment.services:
        if environment.spec.has_environment_specific_build(service):
            message = f"{where}: the build of `{service}` differs by environment, and a promoted image does not"
            hint = "leave out `promote`, so that a tag builds; or leave out `build` in `overrides`"
            yield report_at_value(source, loc, "promotion", message, hint)
        if service not in origin.services:
            message = f"{where}: `{origin.name}` does not hold `{service}`"
            hint = f"environments.{name}.services: those that {origin.name} holds"
            yield report_at_value(source, loc, "promotion", message, hint)


def _check_tag_conflicts(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """A tag starts the workflows of all patterns that match it: one pattern may be shared, two may not overlap."""
    for first, second in combinations(_list_tagged_environments(spec), 2):
        if first.tag_pattern == second.tag_pattern or not first.tag_pattern or not second.tag_pattern:
            continue
        patterns = (first.tag_pattern, second.tag_pattern)
        examples = [pattern.example(suffix=other.suffix) for pattern in patterns for other in patterns]
        shared_tags = [tag for tag in examples if first.is_started_by_tag(tag) and second.is_started_by_tag(tag)]
        if shared_tags:
            loc: YamlPath = ("environments", second.name, "deploy_on", "tag")
            message = (
                f"a tag `{shared_tags[0]}` starts environments.{second.name} by `{second.tag_pattern.text}`, "
                f"and environments.{first.name} by `{first.tag_pattern.text}`"
            )
            hint = "give each a prefix that is not the other's beginning; candidates: `v*-rc.*` beside `v*`"
            yield report_at_value(source, loc, "clash", message, hint)


def _check_duplicate_builds(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """Two workflows that one tag starts would build the same source at the same time."""
    built = [environment for environment in _list_tagged_environments(spec) if environment.has_own_builds]
    for first, second in combinations(built, 2):
        if first.tag_pattern and first.tag_pattern == second.tag_pattern:
            loc: YamlPath = ("environments", second.name, "deploy_on", "tag")
            both = f"environments.{first.name} and environments.{second.name}"
            message = f"a tag `{first.tag_pattern.example()}` would build for {both} at once"
            hint = "one that is built, and another that promotes it, on a tag of its own"
            yield report_at_value(source, loc, "clash", message, hint)


def _list_tagged_environments(spec: EffectiveSpec) -> list[EffectiveEnvironment]:
    return [environment for environment in spec.environments.values() if environment.tag_pattern]


def _check_bases(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """An image that others are built from is one image, the same in all environments."""
    for service, model in spec.services.items():
        for argument, base in model.build.base.items():
            loc: YamlPath = ("services", service, "build", "base", argument)
            where = format_yaml_path(loc)
            if spec.has_environment_specific_build(base):
                message = f"{where}: `{base}` is built for each environment, so there is no single image to build from"
                yield report_at_value(source, loc, "base", message, "leave out `build` in its `overrides`")
