"""Builds: what an image is made of, and how."""

from kiwari_ci import schema
from kiwari_ci.effective import built_images, derived
from kiwari_ci.effective.built_images import BuiltImage
from kiwari_ci.github import path_filters
from kiwari_ci.plan import BaseImage, ImageBuild, ImageSource, KeyValue, PathFilter, RegistryLogin
from kiwari_ci.planning.containers import derive_image_repository


def plan_image_source(given: schema.Spec, image: BuiltImage) -> ImageSource:
    """What an image is made of, and where it is kept."""
    filters = built_images.collect_path_filters(given, image)
    return ImageSource(
        image=image.name,
        service=image.service,
        environment=image.environment,
        repository=derive_image_repository(given, image),
        filters=tuple(PathFilter(pattern, why) for pattern, why in filters.items()),
        pathspecs=tuple(path_filters.build_git_pathspecs(list(filters))),
        own_pathspecs=tuple(path_filters.build_git_pathspecs(built_images.list_source_paths(given, image.service))),
        workflow=built_images.derive_image_workflow(image),
        builder=built_images.list_building_workflows(given, image)[0],
        digest_output=f"digest-{image.service}",
    )


def plan_image_build(given: schema.Spec, image: BuiltImage) -> ImageBuild:
    """How an image is built."""
    model = built_images.resolve_build_options(given, image)
    bases = tuple(
        BaseImage(
            key, plan_image_source(given, BuiltImage(base)), f"base-{base}", f"KEY_{derived.format_variable_name(base)}"
        )
        for key, base in model.base.items()
    )
    return ImageBuild(
        context=model.context,
        dockerfile=built_images.find_dockerfile_path(given, image.service),
        target=model.target or "",
        arguments="\n".join([*_format_build_arguments(model), *(_format_base_argument(base) for base in bases)]),
        variables=tuple(value.variable for value in model.args.values() if value.variable),
        secrets=tuple(KeyValue(key, name) for key, name in model.secrets.items()),
        platforms=",".join(model.platforms or ()),
        emulated=any(platform != derived.detect_runner_platform(given) for platform in model.platforms or ()),
        cache=f"{derive_image_repository(given, image)}:{derived.CACHE_TAG}" if model.cache else "",
        scan=(model.scan.image, *model.scan.command) if model.scan else (),
        scanned=next(iter(model.platforms or ()), ""),
        attested=_derive_attested_name(given, image) if model.attest else "",
        bases=bases,
    )


def estimate_build_minutes(model: ImageBuild) -> int:
    """How long a build may take: more when it waits for another, or is emulated."""
    return 20 + (20 if model.bases else 0) + (10 if model.scan else 0) + (40 if model.emulated else 0)


def _format_build_arguments(model: schema.Build) -> list[str]:
    return [
        f"{key}={_format_variable_ref(each.variable) if each.variable else each.value}"
        for key, each in model.args.items()
    ]


def _format_variable_ref(variable: str) -> str:
    return f"${{{{ vars.{variable} }}}}"


def _format_base_argument(base: BaseImage) -> str:
    return f"{base.argument}={base.source.repository}@${{{{ steps.bases.outputs.{base.output} }}}}"


def _derive_attested_name(given: schema.Spec, image: BuiltImage) -> str:
    """With the registry's host, also of Docker Hub: https://github.com/actions/attest#container-image."""
    name = derive_image_repository(given, image)
    return f"docker.io/{name}" if given.registry.host == "docker.io" else name


def plan_registry_login(given: schema.Spec) -> RegistryLogin:
    """Who pushes images: the job itself to GitHub's registry, a login of its own to another."""
    registry = given.registry
    secret = registry.push_token.secret if registry.push_token else ""
    user = registry.user or "${{ github.actor }}"
    return RegistryLogin(registry.host, user, f"${{{{ secrets.{secret or 'GITHUB_TOKEN'} }}}}", secret)


def has_build_secrets(given: schema.Spec, service: str) -> bool:
    """Whether the job that builds reads secrets, which a GitHub environment is for."""
    model = given.services[service]
    own = any(value.secret for step in model.steps.before_build for value in step.env.values())
    return bool(own or model.build.secrets or given.registry.push_token)
