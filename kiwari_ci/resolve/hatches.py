"""The escape hatches that a spec uses, for `show`: what stands there is the person's own."""

from kiwari_ci import spec
from kiwari_ci.plan import Hatch


def hatches(given: spec.Spec) -> tuple[Hatch, ...]:
    """Each place of the spec that has one, in the spec's order, with what it adds."""
    found = {f"services.{name}.compose": service.compose for name, service in given.services.items()}
    found |= {f"accessories.{name}.compose": accessory.compose for name, accessory in given.accessories.items()}
    for environment, place in given.environments.items():
        for name, override in place.overrides.items():
            found[f"environments.{environment}.overrides.{name}.compose"] = override.compose
    return tuple(Hatch(where, tuple(keys)) for where, keys in found.items() if keys)
