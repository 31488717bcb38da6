"""Builds: what an image is made of, and how."""

from kiwari_ci import schema
from kiwari_ci.effective import built_images, derived
from kiwari_ci.effective.built_images import Image
from kiwari_ci.github import path_filters
from kiwari_ci.plan import Base, Build, Filter, Login, Pair, Source
from kiwari_ci.planning.containers import repository


def source(given: schema.Spec, image: Image) -> Source:
    """What an image is made of, and where it is kept."""
    filters = built_images.filters_of(given, image)
    return Source(
        image=image.name,
        service=image.service,
        environment=image.environment,
        repository=repository(given, image),
        filters=tuple(Filter(pattern, why) for pattern, why in filters.items()),
        pathspecs=tuple(path_filters.pathspecs(list(filters))),
        own_pathspecs=tuple(path_filters.pathspecs(built_images.paths_of(given, image.service))),
        workflow=built_images.workflow_name(image),
        builder=built_images.builders_of(given, image)[0],
        digest_output=f"digest-{image.service}",
    )


def build(given: schema.Spec, image: Image) -> Build:
    """How an image is built."""
    model = built_images.build_of(given, image)
    bases = tuple(
        Base(key, source(given, Image(base)), f"base-{base}", f"KEY_{derived.variable(base)}")
        for key, base in model.base.items()
    )
    return Build(
        context=model.context,
        dockerfile=built_images.dockerfile_of(given, image.service),
        target=model.target or "",
        arguments="\n".join([*_arguments(model), *(_digest_of(base) for base in bases)]),
        variables=tuple(value.variable for value in model.args.values() if value.variable),
        secrets=tuple(Pair(key, name) for key, name in model.secrets.items()),
        platforms=",".join(model.platforms or ()),
        emulated=any(platform != derived.platform_of(given) for platform in model.platforms or ()),
        cache=f"{repository(given, image)}:{derived.CACHE_TAG}" if model.cache else "",
        scan=(model.scan.image, *model.scan.command) if model.scan else (),
        scanned=next(iter(model.platforms or ()), ""),
        attested=_attested(given, image) if model.attest else "",
        bases=bases,
    )


def minutes(model: Build) -> int:
    """How long a build may take: more when it waits for another, or is emulated."""
    return 20 + (20 if model.bases else 0) + (10 if model.scan else 0) + (40 if model.emulated else 0)


def _arguments(model: schema.Build) -> list[str]:
    return [f"{key}={_expression(each.variable) if each.variable else each.value}" for key, each in model.args.items()]


def _expression(variable: str) -> str:
    return f"${{{{ vars.{variable} }}}}"


def _digest_of(base: Base) -> str:
    return f"{base.argument}={base.source.repository}@${{{{ steps.bases.outputs.{base.output} }}}}"


def _attested(given: schema.Spec, image: Image) -> str:
    """With the registry's host, also of Docker Hub: https://github.com/actions/attest#container-image."""
    name = repository(given, image)
    return f"docker.io/{name}" if given.registry.host == "docker.io" else name


def login(given: schema.Spec) -> Login:
    """Who pushes images: the job itself to GitHub's registry, a login of its own to another."""
    registry = given.registry
    secret = registry.push_token.secret if registry.push_token else ""
    user = registry.user or "${{ github.actor }}"
    return Login(registry.host, user, f"${{{{ secrets.{secret or 'GITHUB_TOKEN'} }}}}", secret)


def has_secrets(given: schema.Spec, service: str) -> bool:
    """Whether the job that builds reads secrets, which a GitHub environment is for."""
    model = given.services[service]
    own = any(value.secret for step in model.steps.before_build for value in step.env.values())
    return bool(own or model.build.secrets or given.registry.push_token)
