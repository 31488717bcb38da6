"""The whole spec with every default and override applied."""

from collections.abc import Iterator
from functools import cached_property

from kiwari_ci import schema
from kiwari_ci.effective_spec.databases import EffectiveDatabaseServer
from kiwari_ci.effective_spec.environments import EffectiveEnvironment
from kiwari_ci.effective_spec.hosts import create_effective_host, detect_runner_platform
from kiwari_ci.effective_spec.images import EffectiveImage, ImageGroup, group_images
from kiwari_ci.schema.environments import EngineKind
from kiwari_ci.spec_loading.yaml_source import YamlPath


class EffectiveSpec:
    """A spec with every default and override applied.

    Everything is worked out when it is asked for: the rules that look for unknown names read a spec that has some.
    """

    def __init__(self, spec: schema.Spec) -> None:
        """Wrap a spec whose types are right; `written` keeps it for rules that check what a person wrote."""
        self.written = spec
        self._known_images: dict[EffectiveImage, EffectiveImage] = {}
        self.project = spec.project
        self.generator = spec.generator
        self.registry = spec.registry
        self.services = spec.services
        self.accessories = spec.accessories
        self.hosts = {name: create_effective_host(name, host) for name, host in spec.hosts.items()}
        self.environments = {
            name: EffectiveEnvironment(self, name, environment) for name, environment in spec.environments.items()
        }

    @cached_property
    def databases(self) -> dict[str, EffectiveDatabaseServer]:
        """The database servers, each on the host that it names, or on the only one."""
        servers = {}
        for name, server in self.written.databases.items():
            host = self.hosts[server.host or next(iter(self.hosts))]
            servers[name] = EffectiveDatabaseServer(name, server, host)
        return servers

    def environments_on(self, engine: EngineKind) -> list[EffectiveEnvironment]:
        """The environments of which at least one host has this engine."""
        return [environment for environment in self.environments.values() if environment.hosts_with(engine)]

    @cached_property
    def routes_by_domain(self) -> dict[str, list[schema.Route]]:
        """The public addresses of all environments, by domain."""
        routes_by_domain: dict[str, list[schema.Route]] = {}
        for environment in self.environments.values():
            for routes in environment.model.domains.values():
                for route in routes:
                    routes_by_domain.setdefault(route.domain, []).append(route)
        return routes_by_domain

    @property
    def runner_platform(self) -> str:
        """The platform of the runner, which images are built for by default."""
        return detect_runner_platform(self.project.runner)

    @property
    def built_services(self) -> list[str]:
        """The services with an image of their own."""
        return [name for name, service in self.services.items() if service.image_of is None]

    @cached_property
    def built_branches(self) -> list[str]:
        """The branches whose pushes start the services' own workflows."""
        return list(dict.fromkeys(branch for image in self.images for branch in image.build_branches))

    @cached_property
    def images(self) -> list[EffectiveImage]:
        """All images that are built, in the order of the services."""
        return [image for service in self.built_services for image in self.images_of(service)]

    @cached_property
    def image_groups(self) -> list[ImageGroup]:
        """All images, those together that one workflow builds and deploys when a branch is pushed."""
        return group_images(self.images)

    @cached_property
    def image_workflows(self) -> dict[EffectiveImage, str]:
        """By image, the workflow that builds and deploys it when a branch is pushed."""
        return {image: group.workflow for group in self.image_groups for image in group.images}

    @cached_property
    def dependent_images(self) -> dict[EffectiveImage, list[EffectiveImage]]:
        """By image, those that are built from it, directly, in the order of the services."""
        dependents: dict[EffectiveImage, list[EffectiveImage]] = {}
        for image in self.images:
            for base in image.bases:
                dependents.setdefault(base, []).append(image)
        return dependents

    def image(self, service: str, environment: str = "") -> EffectiveImage:
        """The image of a service for all environments, or for one."""
        image = EffectiveImage(self, service, environment)
        return self._known_images.setdefault(image, image)  # what was worked out about it is kept

    def images_of(self, service: str) -> list[EffectiveImage]:
        """The images of a service that has its own: one, or one for each environment that holds it."""
        if not self.has_environment_specific_build(service):
            return [self.image(service)]
        return [
            self.image(service, environment.name)
            for environment in self.environments.values()
            if service in environment.services
        ]

    def has_environment_specific_build(self, service: str) -> bool:
        """Whether a service's build differs by environment."""
        for environment in self.environments.values():
            override = environment.model.overrides.get(service)
            if override and override.build.args:
                return True
        return False

    def iter_container_options(self) -> Iterator[tuple[YamlPath, schema.ContainerOptions]]:
        """Everything that the spec says of how containers run, each with its place, overrides by themselves."""
        for name, service in self.services.items():
            yield ("services", name), service
        for name, accessory in self.accessories.items():
            yield ("accessories", name), accessory
        for environment in self.environments.values():
            for name, override in environment.model.overrides.items():
                yield ("environments", environment.name, "overrides", name), override

    def iter_tests(self) -> Iterator[tuple[str, YamlPath, schema.Test]]:
        """Every test: its service, its place in the spec, and the test."""
        for name, service in self.services.items():
            if service.test:
                yield name, ("services", name, "test"), service.test
            for test_name, test in service.tests.items():
                yield name, ("services", name, "tests", test_name), test
