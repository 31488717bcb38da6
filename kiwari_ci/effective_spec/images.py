"""Images: which are built, of what, by whose pushes, and by which workflow."""

from functools import cached_property
from typing import TYPE_CHECKING

from kiwari_ci import schema
from kiwari_ci.frozen import dataclass

CACHE_TAG = "buildcache"  # the tag of a build's layers in the registry

if TYPE_CHECKING:
    from kiwari_ci.effective_spec.environments import EffectiveEnvironment
    from kiwari_ci.effective_spec.spec import EffectiveSpec


@dataclass(frozen=True)
class EffectiveImage:
    """An image of a service: one for all environments, or, where its build differs by environment, one for each.

    `environment` is empty for an image that serves all of them.
    """

    spec: "EffectiveSpec"
    service: str
    environment: str = ""

    @property
    def name(self) -> str:
        """The name of the image within the spec."""
        return f"{self.service}-{self.environment}" if self.environment else self.service

    @property
    def workflow(self) -> str:
        """The workflow that tests, builds and deploys it when its branch is pushed."""
        own_workflow = f"{self.name}-ci"  # of a base that differs by environment, which the rules refuse
        return self.spec.image_workflows.get(self, own_workflow)

    @property
    def registry_name(self) -> str:
        """Its name inside the registry's namespace."""
        name = self._model.image or f"{self.spec.project.name}-{self.service}"
        return f"{name}-{self.environment}" if self.environment else name

    @property
    def repository(self) -> str:
        """Where it is kept: registry, namespace and name."""
        registry = self.spec.registry
        namespace = registry.namespace or self.spec.project.repository.split("/")[0].lower()
        # Docker leaves out its own registry's host.
        host = "" if registry.host == "docker.io" else f"{registry.host}/"
        return f"{host}{namespace}/{self.registry_name}"

    @property
    def build(self) -> schema.Build:
        """How it is built."""
        if self.environment:
            return self.spec.environments[self.environment].service(self.service).options.build
        return self._model.build

    @property
    def dockerfile_path(self) -> str:
        """Its Dockerfile, from the repository's root."""
        return self._model.build.dockerfile or f"{self.service}/Dockerfile"

    @property
    def source_paths(self) -> list[str]:
        """The path filters of its source."""
        return self._model.paths or [f"{self.service}/**"]

    @cached_property
    def path_filters(self) -> dict[str, str]:
        """All path filters, each with its reason: those of the spec, then what else shapes the image.

        The reason is empty for a filter of the spec; exclusions come last.
        """
        context = self._model.build.context
        filters = dict.fromkeys(self.source_paths, "")
        filters.setdefault(self.dockerfile_path, "")
        filters.setdefault(".dockerignore" if context == "." else f"{context}/.dockerignore", "shapes the image, too")
        for workflow in self.building_workflows:
            filters.setdefault(f".github/workflows/{workflow}.yml", "holds the build settings")
        for base in self.bases:
            for pattern in base.path_filters:
                if not pattern.startswith("!"):  # what is left out of the base may be the service's own
                    filters.setdefault(pattern, f"shapes {base.name}, which it is built from")
        return dict(sorted(filters.items(), key=lambda item: item[0].startswith("!")))

    @property
    def environments(self) -> list["EffectiveEnvironment"]:
        """The environments that hold its service, and run this image."""
        return [
            environment
            for environment in self.spec.environments.values()
            if self.service in environment.services and self.environment in ("", environment.name)
        ]

    @cached_property
    def build_branches(self) -> list[str]:
        """The branches whose pushes build it, also those whose pushes build an image from it."""
        branches = [environment.deploy_branch for environment in self.environments if environment.is_deployed_on_push]
        for dependent in self._dependents:
            branches += dependent.build_branches
        return list(dict.fromkeys(branches))

    @cached_property
    def building_environments(self) -> list["EffectiveEnvironment"]:
        """The environments whose own workflow builds it: those that run it, or an image that is built from it."""
        images = [self, *self._dependents]
        return [
            environment
            for environment in self.spec.environments.values()
            if environment.has_own_builds and any(image.is_built_for(environment) for image in images)
        ]

    def is_built_for(self, environment: "EffectiveEnvironment") -> bool:
        """Whether the own workflow of an environment builds it."""
        return environment in self.environments or any(image.is_built_for(environment) for image in self._dependents)

    @property
    def _dependents(self) -> list["EffectiveImage"]:
        """The images that are built from it, directly."""
        return self.spec.dependent_images.get(self, [])

    @property
    def bases(self) -> list["EffectiveImage"]:
        """The images of other services that it is built from, directly."""
        return [self.spec.image(base) for base in dict.fromkeys(self._model.build.base.values())]

    @property
    def building_workflows(self) -> list[str]:
        """The workflows that hold its build settings: its own, or those of environments that no push reaches."""
        if self.build_branches:
            return [self.workflow]
        return [environment.workflow for environment in self.building_environments]

    @property
    def makers(self) -> list[str]:
        """What builds it: the refs of branches, and the workflows of environments that build by themselves."""
        refs = [f"refs/heads/{branch}" for branch in self.build_branches]
        return refs + [environment.workflow for environment in self.building_environments]

    @property
    def variables(self) -> list[str]:
        """The variables of GitHub whose values are in it, also by the images that it is built from."""
        names = [argument.variable for argument in self.build.args.values() if argument.variable]
        for base in self.bases:
            names += base.variables
        return list(dict.fromkeys(names))

    @property
    def _model(self) -> schema.Service:
        return self.spec.services[self.service]


@dataclass(frozen=True)
class ImageGroup:
    """Images that one workflow builds and deploys when a branch is pushed, in the spec's order.

    They are built from one another, or their services wait for one another. `root` is the first that waits for none.
    """

    images: tuple[EffectiveImage, ...]
    root: EffectiveImage

    @property
    def workflow(self) -> str:
        """The name of its workflow."""
        return f"{self.root.name}-ci"


def group_images(images: list[EffectiveImage]) -> list[ImageGroup]:
    """Group images so that none waits for an image of another group."""
    awaited = {image: _list_awaited_images(image) for image in images}
    linked = _link_images(awaited)
    positions = {image: position for position, image in enumerate(images)}
    groups: list[ImageGroup] = []
    grouped: set[EffectiveImage] = set()
    for image in images:
        if image in grouped:
            continue
        connected = _collect_connected_images(image, linked)
        grouped |= connected
        members = tuple(sorted(connected, key=positions.__getitem__))
        groups.append(ImageGroup(members, _find_root(members, awaited)))
    return groups


def _list_awaited_images(image: EffectiveImage) -> list[EffectiveImage]:
    """List what an image waits for on a push: the images that it is built from, and those of `depends_on`."""
    if not image.build_branches:
        return []
    awaited = image.bases
    for environment in image.environments:
        if environment.is_deployed_on_push:
            awaited += environment.list_awaited_images(image)
    return awaited


def _link_images(awaited: dict[EffectiveImage, list[EffectiveImage]]) -> dict[EffectiveImage, list[EffectiveImage]]:
    """List for each image those that it waits for, and those that wait for it."""
    linked: dict[EffectiveImage, list[EffectiveImage]] = {image: [] for image in awaited}
    for image, awaited_images in awaited.items():
        for other in awaited_images:
            if other in linked:  # a base that differs by environment is not, and the rules refuse it
                linked[image].append(other)
                linked[other].append(image)
    return linked


def _collect_connected_images(
    image: EffectiveImage, linked: dict[EffectiveImage, list[EffectiveImage]]
) -> set[EffectiveImage]:
    """Collect an image and all that are linked to it, directly or through others."""
    connected: set[EffectiveImage] = set()
    pending = [image]
    while pending:
        member = pending.pop()
        if member not in connected:
            connected.add(member)
            pending += linked[member]
    return connected


def _find_root(
    members: tuple[EffectiveImage, ...], awaited: dict[EffectiveImage, list[EffectiveImage]]
) -> EffectiveImage:
    """Find the first image that waits for no other; two may wait for each other by several services of an image."""
    for image in members:
        if set(awaited[image]) <= {image}:
            return image
    return members[0]
