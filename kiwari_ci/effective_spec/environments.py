"""Environments: what they hold, where they run, and what starts their deploys."""

from functools import cached_property
from typing import TYPE_CHECKING

from kiwari_ci import schema
from kiwari_ci.effective_spec.containers import (
    EffectiveAccessory,
    EffectiveContainer,
    EffectiveService,
    find_env_setting,
)
from kiwari_ci.effective_spec.databases import EffectiveDatabase
from kiwari_ci.effective_spec.hosts import EffectiveHost, pull_token_setting
from kiwari_ci.effective_spec.images import EffectiveImage
from kiwari_ci.effective_spec.tag_patterns import VersionTagPattern
from kiwari_ci.frozen import dataclass
from kiwari_ci.github_facts import path_filters
from kiwari_ci.plan_model import GitHubSetting
from kiwari_ci.schema.environments import EngineKind, UrlScheme

if TYPE_CHECKING:
    from kiwari_ci.effective_spec.spec import EffectiveSpec


@dataclass(frozen=True, eq=False)
class EffectiveEnvironment:
    """An environment: a stack on one host, or on several."""

    spec: "EffectiveSpec"
    name: str
    model: schema.Environment

    # What it holds.

    @cached_property
    def services(self) -> dict[str, EffectiveService]:
        """Its services, in the spec's order."""
        chosen = self.model.services
        return {name: self.service(name) for name in self.spec.services if chosen is None or name in chosen}

    @cached_property
    def _all_services(self) -> dict[str, EffectiveService]:
        """Every service of the spec as it is here, made once: what it computes from the spec, it computes once."""
        return {name: EffectiveService(self, name) for name in self.spec.services}

    @cached_property
    def accessories(self) -> dict[str, EffectiveAccessory]:
        """Its accessories, in the spec's order."""
        chosen = self.model.accessories
        return {name: self.accessory(name) for name in self.spec.accessories if chosen is None or name in chosen}

    @cached_property
    def containers(self) -> dict[str, EffectiveContainer]:
        """Its services, then its accessories."""
        return {**self.services, **self.accessories}

    def find_domain_owner(self, domain: str) -> str:
        """Name the first container that a domain leads to; empty when it leads to none."""
        return self._domain_owners.get(domain, "")

    @cached_property
    def _domain_owners(self) -> dict[str, str]:
        owners: dict[str, str] = {}
        for name, container in self.containers.items():
            for route in container.routes:
                owners.setdefault(route.domain, name)
        return owners

    def service(self, name: str) -> EffectiveService:
        """A service as it is here, whether or not the environment holds it."""
        return self._all_services[name]

    def accessory(self, name: str) -> EffectiveAccessory:
        """An accessory as it is here, whether or not the environment holds it."""
        return EffectiveAccessory(self, name)

    def services_of(self, image: EffectiveImage) -> list[EffectiveService]:
        """Its services that run an image, in the spec's order."""
        return self._services_by_image.get(image, [])

    @cached_property
    def _services_by_image(self) -> dict[EffectiveImage, list[EffectiveService]]:
        services: dict[EffectiveImage, list[EffectiveService]] = {}
        for service in self.services.values():
            services.setdefault(service.image, []).append(service)
        return services

    def list_awaited_images(self, image: EffectiveImage) -> list[EffectiveImage]:
        """List the images of the services that those of an image wait for, by `depends_on`."""
        return [
            self.services[name].image
            for service in self.services_of(image)
            for name in service.options.depends_on
            if name in self.services
        ]

    # Where it runs.

    @property
    def host_names(self) -> list[str]:
        """Its hosts in the order of its deploys: those that it names, or the only one."""
        return self.model.host or list(self.spec.hosts)[:1]

    @property
    def hosts(self) -> list[EffectiveHost]:
        """Its hosts in the order of its deploys."""
        return [self.spec.hosts[name] for name in self.host_names]

    @property
    def first_host(self) -> EffectiveHost:
        """The first of its hosts; those with the same engine are like it."""
        return self.hosts[0]

    @property
    def runner_labels(self) -> list[str]:
        """The labels of the runner of its deploy jobs."""
        return self.model.runner or self.spec.project.runner

    @property
    def url_scheme(self) -> UrlScheme:
        """The scheme of its public addresses, which is the same on each of its hosts."""
        return self.first_host.proxy.scheme

    def hosts_with(self, engine: EngineKind) -> list[EffectiveHost]:
        """Those of its hosts that have an engine."""
        return [host for host in self.hosts if host.engine == engine]

    @property
    def stack_name(self) -> str:
        """The folder on the host and Compose project."""
        return self.model.stack or f"{self.spec.project.name}-{self.name}"

    @property
    def source_folder(self) -> str:
        """The folder of its files below `deploy/`: the stack's name, unless another host has a stack of that name."""
        stack_names = [environment.stack_name for environment in self.spec.environments.values()]
        return self.stack_name if stack_names.count(self.stack_name) == 1 else f"{self.stack_name}-{self.name}"

    @property
    def image_tag(self) -> str:
        """The moving tag of its images."""
        return self.model.tag or self.name

    @cached_property
    def database(self) -> EffectiveDatabase | None:
        """Its database, if it has one."""
        if self.model.database is None:
            return None
        server_name = self.model.database.server or next(iter(self.spec.databases))
        default_name = f"{self.spec.project.name}_{self.name}".replace("-", "_")
        return EffectiveDatabase(self.model.database, self.spec.databases[server_name], default_name)

    @property
    def sends_files(self) -> bool:
        """Whether a deploy sends the compose file, and what lies beside it."""
        return self.model.sync is not None

    @property
    def stack_files(self) -> list[str]:
        """The files that its stack needs beside the compose file and the hooks."""
        return [*(self.model.files or ()), *self.model.shared_files]

    @property
    def renders_env_files(self) -> bool:
        """Whether a deploy renders the env files from what GitHub keeps."""
        return self.model.env_from is not None

    def deploy_settings(self, host: EffectiveHost) -> dict[str, GitHubSetting]:
        """What a deploy to one of its hosts reads from GitHub, in the order of a step's `env`."""
        return host.deploy_settings(self.model.key, pull_token_setting(self.spec.registry))

    @cached_property
    def env_settings(self) -> dict[GitHubSetting, str]:
        """What its env files are rendered from, each with the first key that it is for."""
        settings: dict[GitHubSetting, str] = {}
        if not self.renders_env_files:
            return settings
        for container in self.containers.values():
            for key, value in container.options.env.items():
                setting = find_env_setting(key, value)
                if setting:
                    settings.setdefault(setting, key)
        return settings

    @cached_property
    def env_file_variables(self) -> dict[str, set[str]]:
        """By env file, the names of the variables of all containers that read it."""
        names: dict[str, set[str]] = {}
        for container in self.containers.values():
            names.setdefault(container.env_file, set()).update(container.env_owner.options.env)
        return names

    # What starts its deploys.

    @property
    def is_promoted(self) -> bool:
        """Whether it re-tags what another environment built."""
        return self.model.promote is not None

    @property
    def is_deployed_on_push(self) -> bool:
        """Whether the services' workflows build for it, and deploy."""
        return self.model.deploy_on.push is not None

    @property
    def has_own_workflow(self) -> bool:
        """Whether a workflow of its own deploys it, on a tag or by hand."""
        return bool(self.model.deploy_on.tag or self.model.deploy_on.dispatch)

    @property
    def has_own_builds(self) -> bool:
        """Whether that workflow builds images.

        An environment that is deployed on pushes, and by hand too, finds what the pushes built.
        """
        if self.is_promoted:
            return False
        return bool(self.model.deploy_on.tag or not self.model.deploy_on.push)

    @property
    def deploy_branch(self) -> str:
        """The one branch that its commits are on, in whose order it moves."""
        return self.model.deploy_on.push or self.spec.project.default_branch

    @property
    def release_branches(self) -> list[str]:
        """The branches, or patterns of branches, whose commits a tag or a person may deploy."""
        return self.model.deploy_on.branches or [self.deploy_branch]

    @property
    def is_ordered_by_version(self) -> bool:
        """Whether its deploys have the order of version numbers: the commits of several branches have none."""
        return self.model.deploy_on.branches is not None and self.model.deploy_on.tag is not None

    @property
    def is_ordered_by_run(self) -> bool:
        """Whether a person chooses one of several branches: the run that was started last then serves."""
        return self.model.deploy_on.branches is not None and self.model.deploy_on.tag is None

    @property
    def image_maker(self) -> str:
        """What builds the images that it runs first: its branch, or its own workflow."""
        return f"refs/heads/{self.deploy_branch}" if self.is_deployed_on_push else self.workflow

    @property
    def workflow(self) -> str:
        """Its own workflow: the only one of its kind needs no more than `promote` or `release`."""
        if self.workflow_kind == "deploy":
            return f"deploy-{self.name}"
        same_kind = [
            environment
            for environment in self.spec.environments.values()
            if environment.has_own_workflow and environment.workflow_kind == self.workflow_kind
        ]
        return self.workflow_kind if len(same_kind) == 1 else f"{self.workflow_kind}-{self.name}"

    @property
    def workflow_kind(self) -> str:
        """What its own workflow does: `promote`, `release` or `deploy`."""
        if self.is_promoted:
            return "promote"
        return "release" if self.model.deploy_on.tag else "deploy"

    @cached_property
    def tag_pattern(self) -> VersionTagPattern | None:
        """The tags that reach it, if some do."""
        tag = self.model.deploy_on.tag
        return None if tag is None else VersionTagPattern.parse(tag)

    @property
    def removed_tag_prefix(self) -> str:
        """What is removed from a tag to name its images; empty when they have the tag's own name."""
        if self.tag_pattern is None or self.model.image_version == "tag":
            return ""
        return self.tag_pattern.prefix

    @property
    def excluded_tag_patterns(self) -> list[VersionTagPattern]:
        """The release candidates of the same prefix, which final versions leave to another environment."""
        own = self.tag_pattern
        if own is None or own.suffix:
            return []
        patterns = [environment.tag_pattern for environment in self.spec.environments.values()]
        candidates = [pattern for pattern in patterns if pattern and pattern.prefix == own.prefix and pattern.suffix]
        return list(dict.fromkeys(candidates))

    @property
    def tag_filter(self) -> list[str]:
        """GitHub's filter of tags: the pattern, without those that are excluded."""
        if self.tag_pattern is None:
            return []
        return [self.tag_pattern.text, *(f"!{pattern.text}" for pattern in self.excluded_tag_patterns)]

    def is_started_by_tag(self, tag: str) -> bool:
        """Whether a tag starts its workflow."""
        return path_filters.is_included(self.tag_filter, tag)
