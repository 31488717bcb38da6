"""Images: which are built, of what, from whose pushes, and by which workflow; for the rules and for `resolve`."""

from dataclasses import dataclass

from kiwari_ci import schema
from kiwari_ci.effective import derived, triggers


@dataclass(frozen=True)
class Image:
    """An image that is built: of a service, for one environment where its build differs by that, else for all."""

    service: str
    environment: str = ""

    @property
    def name(self) -> str:
        """What its workflow is named after."""
        return "-".join(filter(None, (self.service, self.environment)))


def built_services(given: schema.Spec) -> list[str]:
    """Services with an image of their own."""
    return [name for name, service in given.services.items() if service.image_of is None]


def source_of(given: schema.Spec, service: str) -> str:
    """The service whose image a service runs: its own, or another's."""
    return given.services[service].image_of or service


def differs(given: schema.Spec, service: str) -> bool:
    """Whether a service's build differs by environment."""
    overrides = [place.overrides.get(service) for place in given.environments.values()]
    return any(each and each.build.args for each in overrides)


def images_of(given: schema.Spec, service: str) -> list[Image]:
    """The images of a service that has its own; each has a workflow."""
    if not differs(given, service):
        return [Image(service)]
    return [Image(service, name) for name in given.environments if service in derived.services_of(given, name)]


def images(given: schema.Spec) -> list[Image]:
    """All images, in the order of the services."""
    return [image for service in built_services(given) for image in images_of(given, service)]


def image_of(given: schema.Spec, environment: str, service: str) -> Image:
    """The image that a service runs in an environment: its own, or another's."""
    source = source_of(given, service)
    return Image(source, environment if differs(given, source) else "")


def build_of(given: schema.Spec, image: Image) -> schema.Build:
    """How an image is built."""
    if image.environment:
        return derived.service_of(given, image.environment, image.service).build
    return given.services[image.service].build


def holders_of(given: schema.Spec, image: Image) -> list[str]:
    """The environments that hold an image's service, and run that image."""
    held = [name for name in given.environments if image.service in derived.services_of(given, name)]
    return [name for name in held if image.environment in ("", name)]


def image_name(given: schema.Spec, image: Image) -> str:
    """An image's name inside the registry's namespace."""
    name = given.services[image.service].image or f"{given.project.name}-{image.service}"
    return "-".join(filter(None, (name, image.environment)))


def paths_of(given: schema.Spec, service: str) -> list[str]:
    """The path filters of a service's source."""
    return given.services[service].paths or [f"{service}/**"]


def dockerfile_of(given: schema.Spec, service: str) -> str:
    """The Dockerfile of a service, from the repository's root."""
    return given.services[service].build.dockerfile or f"{service}/Dockerfile"


def filters_of(given: schema.Spec, image: Image) -> dict[str, str]:
    """The spec's paths as written, then what else shapes the image, each with its reason; exclusions last."""
    service = image.service
    context = given.services[service].build.context
    filters = dict.fromkeys(paths_of(given, service), "")
    filters.setdefault(dockerfile_of(given, service), "")
    filters.setdefault(".dockerignore" if context == "." else f"{context}/.dockerignore", "shapes the image, too")
    for name in builders_of(given, image):
        filters.setdefault(f".github/workflows/{name}.yml", "holds the build settings")
    for base in dict.fromkeys(given.services[service].build.base.values()):
        for pattern in filters_of(given, Image(base)):
            if not pattern.startswith("!"):  # what is left out of the base may be the service's own
                filters.setdefault(pattern, f"shapes {base}, which it is built from")
    return dict(sorted(filters.items(), key=lambda item: item[0].startswith("!")))


def branches_of(given: schema.Spec, image: Image) -> list[str]:
    """The branches whose pushes build an image; one that only others are built from, where these are."""
    held = holders_of(given, image)
    pushed = [triggers.branch(given, name) for name in held if triggers.is_pushed(given, name)]
    if not held:
        users = [name for name, model in given.services.items() if image.service in model.build.base.values()]
        images = [each for name in users for each in images_of(given, name)]
        pushed = [branch for each in images for branch in branches_of(given, each)] or [given.project.default_branch]
    return list(dict.fromkeys(pushed))


def builders_of(given: schema.Spec, image: Image) -> list[str]:
    """The workflows that hold an image's build settings: its own, or those of environments that no push reaches."""
    if branches_of(given, image):
        return [workflow_name(image)]
    return [triggers.workflow_name(given, name) for name in holders_of(given, image) if triggers.is_built(given, name)]


def workflow_name(image: Image) -> str:
    """The workflow that tests, builds and deploys."""
    return f"{image.name}-ci"
