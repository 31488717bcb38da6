"""Services and accessories as they are in one environment."""

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING

from kiwari_ci import schema
from kiwari_ci.effective_spec.databases import PLACEHOLDER
from kiwari_ci.effective_spec.dollar_signs import unescape_container_texts
from kiwari_ci.effective_spec.images import EffectiveImage
from kiwari_ci.effective_spec.overrides import apply_override
from kiwari_ci.frozen import dataclass
from kiwari_ci.plan_model import GitHubSetting
from kiwari_ci.spec_loading.yaml_source import YamlPath

if TYPE_CHECKING:
    from kiwari_ci.effective_spec.environments import EffectiveEnvironment


@dataclass(frozen=True, eq=False)
class EffectiveContainer(ABC):
    """A service or an accessory in one environment."""

    environment: "EffectiveEnvironment"
    name: str

    @property
    @abstractmethod
    def written_options(self) -> schema.Service | schema.Accessory:
        """What the spec says of it, with the environment's overrides applied, in the words of the spec."""

    @property
    @abstractmethod
    def options(self) -> schema.Service | schema.Accessory:
        """The same with each text as the container gets it: `$$` is a dollar sign."""

    @property
    @abstractmethod
    def table(self) -> str:
        """The table of the spec that defines it."""

    @property
    def container_name(self) -> str:
        """Its container, Compose service and host name; that of the first replica."""
        default_name = f"{self.environment.spec.project.name}-{self.name}-{self.environment.name}"
        return self.environment.model.containers.get(self.name) or default_name

    @property
    def replica_names(self) -> list[str]:
        """The names of all its containers."""
        return [self.container_name]

    @property
    def routes(self) -> list[schema.Route]:
        """Its public addresses."""
        return self.environment.model.domains.get(self.name, [])

    @property
    def redirects(self) -> dict[str, str]:
        """The domains that redirect to one of its own, each of which is given to the first container that has it."""
        return {
            domain: target
            for domain, target in self.environment.model.redirects.items()
            if self.environment.find_domain_owner(target) == self.name
        }

    @property
    def domain(self) -> str:
        """The domain of its first public address; empty when it has none."""
        return self.routes[0].domain if self.routes else ""

    @property
    def url(self) -> str:
        """The URL of its first public address; empty when it has none."""
        return f"{self.environment.url_scheme}://{self.routes[0].address}" if self.routes else ""

    @property
    def env_owner(self) -> "EffectiveContainer":
        """The container whose `env` it reads."""
        return self

    @cached_property
    def env_file(self) -> str:
        """Its env file: the stack's, its own, or none when nothing would stand in it."""
        owner = self.env_owner
        has_env = bool(owner.options.env)
        if has_env or self._reads_shared_env_file:
            shared_file = self.environment.model.env_file
            if shared_file:
                return shared_file
        return f"{owner.container_name}.env" if has_env else ""

    @property
    def _reads_shared_env_file(self) -> bool:
        """Whether it reads the stack's env file even without an `env` of its own."""
        return False

    @cached_property
    def variable_names(self) -> set[str]:
        """The names of the variables that it gets from the spec: its own, and those of an env file that it shares."""
        names = {*self.env_owner.options.env, *self.options.environment}
        if self.env_file:
            names |= self.environment.env_file_variables.get(self.env_file, set())
        return names

    @property
    def uses_database(self) -> bool:
        """Whether one of its variables is something of the environment's database."""
        values = (*self.env_owner.options.env.values(), *self.options.environment.values())
        return any(value.database for value in values)

    def yaml_path(self, field: str, *rest: str | int) -> YamlPath:
        """Where the spec says what counts in this environment: in the overrides, or at the definition."""
        override = self.environment.model.overrides.get(self.name)
        if override and field in override.model_fields_set:
            value = getattr(override, field)
            if not rest or _is_written_in(value, rest[0]):
                return ("environments", self.environment.name, "overrides", self.name, field, *rest)
        return (self.table, self.name, field, *rest)

    def resolve_variable(self, value: schema.EnvValue) -> str:
        """Return a variable's value as the example of an env file shows it.

        The result is empty for what the environment does not have.
        """
        if value.secret or value.variable:
            return PLACEHOLDER
        if value.service:
            peer = self.environment.service(value.service)
            return f"http://{peer.container_name}:{peer.options.port}"
        if value.accessory:
            return self.environment.accessory(value.accessory).container_name
        if value.domain:
            return self.domain if value.domain == "name" else self.url
        if value.database:
            database = self.environment.database
            return database.field(value.database) if database else ""
        return value.value or ""


@dataclass(frozen=True, eq=False)
class EffectiveService(EffectiveContainer):
    """A service in one environment."""

    @cached_property
    def written_options(self) -> schema.Service:
        """What the spec says of it, with the environment's overrides applied, in the words of the spec."""
        usual = self.environment.spec.services[self.name]
        return apply_override(usual, self.environment.model.overrides.get(self.name))

    @cached_property
    def options(self) -> schema.Service:
        """The same with each text as the container gets it: `$$` is a dollar sign."""
        return unescape_container_texts(self.written_options)

    @property
    def is_stopped_first(self) -> bool:
        """Whether the old container stops before the new one starts: nobody calls a worker, which works alone."""
        is_checked_worker = self.options.port is None and self.options.health.by == "healthcheck"
        is_default_rollout = "rollout" not in self.options.model_fields_set
        return self.options.rollout == "recreate" or (is_checked_worker and is_default_rollout)

    @property
    def table(self) -> str:
        """The table of the spec that defines it."""
        return "services"

    @property
    def replica_names(self) -> list[str]:
        """The names of all its containers: NAME, NAME-2, NAME-3."""
        later_names = [f"{self.container_name}-{number}" for number in range(2, self.options.replicas + 1)]
        return [self.container_name, *later_names]

    @property
    def env_owner(self) -> EffectiveContainer:
        """Itself; or, for another process of an image that has no `env`, the service whose image it runs."""
        owner = self.options.image_of
        if owner and not self.options.env:
            return self.environment.service(owner)
        return self

    @property
    def _reads_shared_env_file(self) -> bool:
        return True

    @cached_property
    def image(self) -> EffectiveImage:
        """The image that it runs: its own, or another service's."""
        spec = self.environment.spec
        owner = self.options.image_of or self.name
        return spec.image(owner, self.environment.name if spec.has_environment_specific_build(owner) else "")


@dataclass(frozen=True, eq=False)
class EffectiveAccessory(EffectiveContainer):
    """An accessory in one environment."""

    @cached_property
    def written_options(self) -> schema.Accessory:
        """What the spec says of it, with the environment's overrides applied, in the words of the spec."""
        usual = self.environment.spec.accessories[self.name]
        return apply_override(usual, self.environment.model.overrides.get(self.name))

    @cached_property
    def options(self) -> schema.Accessory:
        """The same with each text as the container gets it: `$$` is a dollar sign."""
        return unescape_container_texts(self.written_options)

    @property
    def table(self) -> str:
        """The table of the spec that defines it."""
        return "accessories"


def _is_written_in(value: object, key: str | int) -> bool:
    """Whether an override says a key itself; mappings and models are merged key by key."""
    if isinstance(value, dict):
        return key in value
    if isinstance(value, schema.SpecModel) and not isinstance(value, schema.OneOf):
        return key in value.model_fields_set
    return True


def find_env_setting(key: str, value: schema.EnvValue) -> GitHubSetting | None:
    """Find where GitHub keeps a variable's value, for an env file that a deploy renders.

    The URL of a database is a secret there, for it contains the password.
    """
    if value.variable:
        return GitHubSetting(f"VARIABLE_{value.variable}", f"vars.{value.variable}", "variable")
    if value.secret or value.database == "url":
        name = value.secret if isinstance(value.secret, str) else key.upper()
        return GitHubSetting(f"SECRET_{name}", f"secrets.{name}", "secret")
    return None
