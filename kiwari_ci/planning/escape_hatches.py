"""The escape hatches that a spec uses, for `show`: what stands there is the person's own."""

from collections.abc import Mapping

from kiwari_ci import schema
from kiwari_ci.plan import EscapeHatch


def list_escape_hatches(given: schema.Spec) -> tuple[EscapeHatch, ...]:
    """Each place of the spec that has one, in the spec's order, with what it adds."""
    found: dict[str, Mapping[str, object]] = {}
    for name, service in given.services.items():
        found[f"services.{name}.compose"] = service.compose
        for place, steps in service.steps:
            found[f"services.{name}.steps.{place}"] = {step.name: step for step in steps}
    for name, accessory in given.accessories.items():
        found[f"accessories.{name}.compose"] = accessory.compose
    for environment, held in given.environments.items():
        for name, override in held.overrides.items():
            found[f"environments.{environment}.overrides.{name}.compose"] = override.compose
    return tuple(EscapeHatch(where, tuple(keys)) for where, keys in found.items() if keys)
