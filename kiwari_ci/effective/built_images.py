"""Images: which are built, of what, from whose pushes, and by which workflow; for the rules and for `resolve`."""

from kiwari_ci import schema
from kiwari_ci.effective import derived, triggers
from kiwari_ci.frozen import dataclass


@dataclass(frozen=True)
class BuiltImage:
    """An image that is built: of a service, for one environment where its build differs by that, else for all."""

    service: str
    environment: str = ""

    @property
    def name(self) -> str:
        """What its workflow is named after."""
        return "-".join(filter(None, (self.service, self.environment)))


def list_built_services(given: schema.Spec) -> list[str]:
    """Services with an image of their own."""
    return [name for name, service in given.services.items() if service.image_of is None]


def find_image_owner(given: schema.Spec, service: str) -> str:
    """The service whose image a service runs: its own, or another's."""
    return given.services[service].image_of or service


def has_environment_specific_build(given: schema.Spec, service: str) -> bool:
    """Whether a service's build differs by environment."""
    overrides = [place.overrides.get(service) for place in given.environments.values()]
    return any(each and each.build.args for each in overrides)


def list_service_images(given: schema.Spec, service: str) -> list[BuiltImage]:
    """The images of a service that has its own; each has a workflow."""
    if not has_environment_specific_build(given, service):
        return [BuiltImage(service)]
    return [BuiltImage(service, name) for name in given.environments if service in derived.list_services(given, name)]


def list_built_images(given: schema.Spec) -> list[BuiltImage]:
    """All images, in the order of the services."""
    return [image for service in list_built_services(given) for image in list_service_images(given, service)]


def find_built_image(given: schema.Spec, environment: str, service: str) -> BuiltImage:
    """The image that a service runs in an environment: its own, or another's."""
    source = find_image_owner(given, service)
    return BuiltImage(source, environment if has_environment_specific_build(given, source) else "")


def resolve_build_options(given: schema.Spec, image: BuiltImage) -> schema.Build:
    """How an image is built."""
    if image.environment:
        return derived.resolve_service(given, image.environment, image.service).build
    return given.services[image.service].build


def list_image_environments(given: schema.Spec, image: BuiltImage) -> list[str]:
    """The environments that hold an image's service, and run that image."""
    held = [name for name in given.environments if image.service in derived.list_services(given, name)]
    return [name for name in held if image.environment in ("", name)]


def derive_image_name(given: schema.Spec, image: BuiltImage) -> str:
    """An image's name inside the registry's namespace."""
    name = given.services[image.service].image or f"{given.project.name}-{image.service}"
    return "-".join(filter(None, (name, image.environment)))


def list_source_paths(given: schema.Spec, service: str) -> list[str]:
    """The path filters of a service's source."""
    return given.services[service].paths or [f"{service}/**"]


def find_dockerfile_path(given: schema.Spec, service: str) -> str:
    """The Dockerfile of a service, from the repository's root."""
    return given.services[service].build.dockerfile or f"{service}/Dockerfile"


def collect_path_filters(given: schema.Spec, image: BuiltImage) -> dict[str, str]:
    """The spec's paths as written, then what else shapes the image, each with its reason; exclusions last."""
    service = image.service
    context = given.services[service].build.context
    filters = dict.fromkeys(list_source_paths(given, service), "")
    filters.setdefault(find_dockerfile_path(given, service), "")
    filters.setdefault(".dockerignore" if context == "." else f"{context}/.dockerignore", "shapes the image, too")
    for name in list_building_workflows(given, image):
        filters.setdefault(f".github/workflows/{name}.yml", "holds the build settings")
    for base in dict.fromkeys(given.services[service].build.base.values()):
        for pattern in collect_path_filters(given, BuiltImage(base)):
            if not pattern.startswith("!"):  # what is left out of the base may be the service's own
                filters.setdefault(pattern, f"shapes {base}, which it is built from")
    return dict(sorted(filters.items(), key=lambda item: item[0].startswith("!")))


def list_build_branches(given: schema.Spec, image: BuiltImage) -> list[str]:
    """The branches whose pushes build an image; one that only others are built from, where these are."""
    held = list_image_environments(given, image)
    pushed = [triggers.find_deploy_branch(given, name) for name in held if triggers.is_deployed_on_push(given, name)]
    if not held:
        users = [name for name, model in given.services.items() if image.service in model.build.base.values()]
        images = [each for name in users for each in list_service_images(given, name)]
        pushed = [branch for each in images for branch in list_build_branches(given, each)] or [
            given.project.default_branch
        ]
    return list(dict.fromkeys(pushed))


def list_building_workflows(given: schema.Spec, image: BuiltImage) -> list[str]:
    """The workflows that hold an image's build settings: its own, or those of environments that no push reaches."""
    if list_build_branches(given, image):
        return [derive_image_workflow(image)]
    return [
        triggers.derive_environment_workflow(given, name)
        for name in list_image_environments(given, image)
        if triggers.has_own_builds(given, name)
    ]


def derive_image_workflow(image: BuiltImage) -> str:
    """The workflow that tests, builds and deploys."""
    return f"{image.name}-ci"
