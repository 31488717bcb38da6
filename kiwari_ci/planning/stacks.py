"""The stacks of each environment: one for each engine that its hosts have."""

from kiwari_ci.effective import EffectiveEnvironment, EffectiveHost, EffectiveSpec
from kiwari_ci.engines.all_engines import find_engine
from kiwari_ci.plan import Stack


class EnvironmentStacks:
    """The stacks by environment and engine. What every engine has is the same in all stacks of an environment."""

    def __init__(self, spec: EffectiveSpec) -> None:
        """Plan the stacks of all environments."""
        self._stacks: dict[str, dict[str, Stack]] = {}
        for environment in spec.environments.values():
            engines = dict.fromkeys(host.engine for host in environment.hosts)
            self._stacks[environment.name] = {engine: find_engine(engine).plan_stack(environment) for engine in engines}

    def find_stack(self, environment: EffectiveEnvironment, host: EffectiveHost) -> Stack:
        """Find the stack of an environment on one of its hosts."""
        return self._stacks[environment.name][host.engine]

    def first_stack(self, environment: EffectiveEnvironment) -> Stack:
        """The stack on the first host of an environment."""
        return self.find_stack(environment, environment.first_host)

    def list_stacks(self, environment: EffectiveEnvironment) -> list[Stack]:
        """List the stacks of an environment, in the order of its hosts."""
        return list(self._stacks[environment.name].values())
