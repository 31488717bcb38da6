"""Images: which are built, of what, by whose pushes, and by which workflow."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from kiwari_ci import schema

CACHE_TAG = "buildcache"  # the tag of a build's layers in the registry

if TYPE_CHECKING:
    from kiwari_ci.effective.environments import EffectiveEnvironment
    from kiwari_ci.effective.spec import EffectiveSpec


@dataclass(frozen=True)
class EffectiveImage:
    """An image of a service: one for all environments, or, where its build differs by environment, one for each.

    `environment` is empty for an image that serves all of them.
    """

    spec: "EffectiveSpec" = field(compare=False, repr=False)
    service: str
    environment: str = ""

    @property
    def name(self) -> str:
        """The name of the image within the spec."""
        return f"{self.service}-{self.environment}" if self.environment else self.service

    @property
    def workflow(self) -> str:
        """The workflow that tests, builds and deploys it."""
        return f"{self.name}-ci"

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
        for base in dict.fromkeys(self._model.build.base.values()):
            for pattern in self.spec.image(base).path_filters:
                if not pattern.startswith("!"):  # what is left out of the base may be the service's own
                    filters.setdefault(pattern, f"shapes {base}, which it is built from")
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
        """The branches whose pushes build it; for one that only others are built from, the branches of these."""
        environments = self.environments
        if environments:
            branches = [environment.deploy_branch for environment in environments if environment.is_deployed_on_push]
        else:
            branches = self._branches_of_dependents() or [self.spec.project.default_branch]
        return list(dict.fromkeys(branches))

    def _branches_of_dependents(self) -> list[str]:
        branches: list[str] = []
        for name, service in self.spec.services.items():
            if self.service in service.build.base.values():
                for image in self.spec.images_of(name):
                    branches += image.build_branches
        return branches

    @property
    def building_workflows(self) -> list[str]:
        """The workflows that hold its build settings: its own, or those of environments that no push reaches."""
        if self.build_branches:
            return [self.workflow]
        return [environment.workflow for environment in self.environments if environment.has_own_builds]

    @property
    def makers(self) -> list[str]:
        """What builds it: the refs of branches, and the workflows of environments that build by themselves."""
        refs = [f"refs/heads/{branch}" for branch in self.build_branches]
        return refs + [environment.workflow for environment in self.environments if environment.has_own_builds]

    @property
    def variables(self) -> list[str]:
        """The variables of GitHub whose values are in it, also by the images that it is built from."""
        names = [argument.variable for argument in self.build.args.values() if argument.variable]
        for base in self._model.build.base.values():
            names += self.spec.image(base).variables
        return list(dict.fromkeys(names))

    @property
    def _model(self) -> schema.Service:
        return self.spec.services[self.service]
