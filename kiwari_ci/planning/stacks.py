"""The stacks of each environment: one for each engine that its hosts have."""

from collections.abc import Iterable

from kiwari_ci.effective_spec import EffectiveEnvironment, EffectiveHost, EffectiveSpec
from kiwari_ci.engines.all_engines import find_engine
from kiwari_ci.plan_model import PlannedService, Stack


class EnvironmentStacks:
    """The stacks by environment and engine. What every engine has is the same in all stacks of an environment."""

    def __init__(self, spec: EffectiveSpec) -> None:
        """Plan the stacks of all environments."""
        self._stacks: dict[str, dict[str, Stack]] = {}
        self._first_urls: dict[str, str] = {}
        self._instances: dict[tuple[str, str], dict[str, list[PlannedService]]] = {}
        for environment in spec.environments.values():
            engines = dict.fromkeys(host.engine for host in environment.hosts)
            self._stacks[environment.name] = {engine: find_engine(engine).plan_stack(environment) for engine in engines}
            for engine, stack in self._stacks[environment.name].items():
                self._instances[environment.name, engine] = _group_instances(stack)
            self._first_urls[environment.name] = find_first_url(self.first_stack(environment).instances)

    def find_stack(self, environment: EffectiveEnvironment, host: EffectiveHost) -> Stack:
        """Find the stack of an environment on one of its hosts."""
        return self._stacks[environment.name][host.engine]

    def first_stack(self, environment: EffectiveEnvironment) -> Stack:
        """The stack on the first host of an environment."""
        return self.find_stack(environment, environment.first_host)

    def first_url(self, environment: EffectiveEnvironment) -> str:
        """The first URL of an environment, on its first host; empty when it has none."""
        return self._first_urls[environment.name]

    def list_instances(
        self, environment: EffectiveEnvironment, host: EffectiveHost, services: Iterable[str]
    ) -> list[PlannedService]:
        """List what runs of some services in the stack of an environment on one of its hosts, service by service."""
        instances = self._instances[environment.name, host.engine]
        return [instance for service in services for instance in instances.get(service, [])]

    def list_stacks(self, environment: EffectiveEnvironment) -> list[Stack]:
        """List the stacks of an environment, in the order of its hosts."""
        return list(self._stacks[environment.name].values())


def find_first_url(instances: Iterable[PlannedService]) -> str:
    """Find the first URL of what runs; empty when nothing has one."""
    return next((instance.url for instance in instances if instance.url), "")


def _group_instances(stack: Stack) -> dict[str, list[PlannedService]]:
    """Group what runs in a stack by service."""
    instances: dict[str, list[PlannedService]] = {}
    for instance in stack.instances:
        instances.setdefault(instance.service, []).append(instance)
    return instances
