"""The escape hatches that a spec uses, for `show`: what stands there is the person's own."""

from collections.abc import Mapping

from kiwari_ci.effective_spec import EffectiveSpec
from kiwari_ci.plan_model import EscapeHatch


def list_escape_hatches(spec: EffectiveSpec) -> tuple[EscapeHatch, ...]:
    """List each place of the spec that has one, in the spec's order, with what it adds."""
    additions: dict[str, Mapping[str, object]] = {}
    for name, host in spec.hosts.items():
        if host.model.proxy_command:
            steps_before_connection = host.model.proxy_command.steps
            additions[f"hosts.{name}.proxy_command.steps"] = {step.name: step for step in steps_before_connection}
    for name, service in spec.services.items():
        additions[f"services.{name}.compose"] = service.compose
        for place, steps in service.steps:
            additions[f"services.{name}.steps.{place}"] = {step.name: step for step in steps}
    for name, accessory in spec.accessories.items():
        additions[f"accessories.{name}.compose"] = accessory.compose
    for environment in spec.environments.values():
        for name, override in environment.model.overrides.items():
            additions[f"environments.{environment.name}.overrides.{name}.compose"] = override.compose
    return tuple(EscapeHatch(where, tuple(keys)) for where, keys in additions.items() if keys)
