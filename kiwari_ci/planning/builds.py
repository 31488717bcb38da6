"""Builds: what an image is made of, and how it is built."""

from collections.abc import Iterator

from kiwari_ci import schema
from kiwari_ci.effective_spec import EffectiveImage, EffectiveSpec
from kiwari_ci.effective_spec.images import CACHE_TAG
from kiwari_ci.effective_spec.values import format_variable_name
from kiwari_ci.github_facts import path_filters
from kiwari_ci.plan_model import ImageBuild, ImageSource, KeyValue, PathFilter, RegistryLogin

BRANCH_OF_RUN = '"$GITHUB_REF"'  # a word of the shell


def plan_image_source(image: EffectiveImage) -> ImageSource:
    """Plan what an image is made of, and where it is kept."""
    filters = image.path_filters
    return ImageSource(
        image=image.name,
        service=image.service,
        environment=image.environment,
        repository=image.repository,
        filters=tuple(PathFilter(pattern, reason) for pattern, reason in filters.items()),
        pathspecs=tuple(path_filters.build_git_pathspecs(list(filters))),
        own_pathspecs=tuple(path_filters.build_git_pathspecs(image.source_paths)),
        workflow=image.workflow,
        builder=image.building_workflows[0],
        digest_output=f"digest-{image.service}",
        digest_variable=f"DIGEST_{format_variable_name(image.service)}",
        variables=tuple(image.variables),
        has_several_makers=len(image.makers) > 1,
        is_attested=image.build.attest,
    )


def name_build_job(image: EffectiveImage) -> str:
    """Name the build of an image: `build-web`, or `build-web_staging`; no name of a spec has a `_`."""
    return f"build-{image.service}_{image.environment}" if image.environment else f"build-{image.service}"


def list_all_bases(image: EffectiveImage) -> list[EffectiveImage]:
    """List the images that an image is built from, also those that these are built from, which come first."""
    bases: list[EffectiveImage] = []
    for base in image.bases:
        bases += [*list_all_bases(base), base]
    return list(dict.fromkeys(bases))


def order_for_builds(images: tuple[EffectiveImage, ...]) -> tuple[EffectiveImage, ...]:
    """Order images so that each comes after those that it is built from."""
    ordered: list[EffectiveImage] = []
    for image in images:
        ordered += [*list_all_bases(image), image]
    wanted = set(images)
    return tuple(image for image in dict.fromkeys(ordered) if image in wanted)


def plan_image_build(image: EffectiveImage) -> ImageBuild:
    """Plan how an image is built."""
    build = image.build
    platforms = build.platforms or []
    arguments = [*_format_build_arguments(build), *_format_base_arguments(image)]
    return ImageBuild(
        context=build.context,
        dockerfile=image.dockerfile_path,
        target=build.target or "",
        arguments="\n".join(arguments),
        variables=tuple(argument.variable for argument in build.args.values() if argument.variable),
        secrets=tuple(KeyValue(mount_id, secret) for mount_id, secret in build.secrets.items()),
        platforms=",".join(platforms),
        emulated=any(platform != image.spec.runner_platform for platform in platforms),
        cache=f"{image.repository}:{CACHE_TAG}" if build.cache else "",
        scan=(build.scan.image, *build.scan.command) if build.scan else (),
        scanned=platforms[0] if platforms else "",
        attested=_find_attested_name(image) if build.attest else "",
        base_jobs=tuple(name_build_job(base) for base in image.bases),
    )


def list_seen_paths(source: ImageSource) -> str:
    """List what a build sees of the repository, a line each, as `sparse-checkout` takes it."""
    return "\n".join(path_filters.build_sparse_patterns([path_filter.pattern for path_filter in source.filters]))


def estimate_build_minutes(build: ImageBuild) -> int:
    """Estimate how long a build may take: longer when it is scanned, or is emulated."""
    minutes = 20
    if build.scan:
        minutes += 10
    if build.emulated:
        minutes += 40
    return minutes


def _format_build_arguments(build: schema.Build) -> list[str]:
    lines = []
    for key, argument in build.args.items():
        value = f"${{{{ vars.{argument.variable} }}}}" if argument.variable else argument.value
        lines.append(f"{key}={value}")
    return lines


def _format_base_arguments(image: EffectiveImage) -> Iterator[str]:
    """Format the arguments that name images of other services, as jobs of the same workflow built or found them."""
    for argument, service in image.build.base.items():
        base = image.spec.image(service)
        yield f"{argument}={base.repository}@${{{{ needs.{name_build_job(base)}.outputs.digest }}}}"


def _find_attested_name(image: EffectiveImage) -> str:
    """Name an image with its registry's host, also that of Docker Hub.

    See https://github.com/actions/attest#container-image.
    """
    is_on_docker_hub = image.spec.registry.host == "docker.io"
    return f"docker.io/{image.repository}" if is_on_docker_hub else image.repository


def plan_registry_login(registry: schema.Registry) -> RegistryLogin:
    """Plan who pushes images: the job itself to GitHub's registry, a login of its own to another."""
    secret = registry.push_token.secret if registry.push_token else ""
    user = registry.user or "${{ github.actor }}"
    return RegistryLogin(registry.host, user, f"${{{{ secrets.{secret or 'GITHUB_TOKEN'} }}}}", secret)


def has_build_secrets(spec: EffectiveSpec, service: str) -> bool:
    """Whether the job that builds a service reads secrets, which needs a GitHub environment."""
    return reads_secrets(spec.services[service]) or spec.registry.push_token is not None


def reads_secrets(service: schema.Service) -> bool:
    """Whether the build of a service, or a step before it, reads secrets."""
    step_values = [value for step in service.steps.before_build for value in step.env.values()]
    return bool(service.build.secrets) or any(value.secret for value in step_values)
