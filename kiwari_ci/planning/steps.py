"""Steps of the user's own, as a workflow has them."""

from collections.abc import Iterable

from kiwari_ci import schema
from kiwari_ci.github_facts.action_pins import ActionPin, build_pinned_action
from kiwari_ci.plan_model import CustomStep, KeyValue

ActionPins = dict[str, ActionPin]

_STEP_CONDITIONS = {"success": "", "failure": "failure()", "always": "!cancelled()"}


def plan_custom_steps(steps: Iterable[schema.Step], pins: ActionPins) -> tuple[CustomStep, ...]:
    """Plan each step once, in the spec's order."""
    return tuple(dict.fromkeys(_plan_custom_step(step, pins) for step in steps))


def _plan_custom_step(step: schema.Step, pins: ActionPins) -> CustomStep:
    action = build_pinned_action(pins[step.uses]) if step.uses else None
    return CustomStep(
        name=step.name,
        condition=_STEP_CONDITIONS[step.when],
        uses=action.uses if action else "",
        version=action.version if action else "",
        inputs=tuple(KeyValue(key, value) for key, value in step.inputs.items()),
        env=tuple(KeyValue(key, _format_step_variable(value)) for key, value in step.env.items()),
        working_directory=step.working_directory or "",
        run=step.run.rstrip("\n") + "\n" if step.run else "",
    )


def _format_step_variable(value: schema.StepValue) -> str:
    if value.secret:
        return f"${{{{ secrets.{value.secret} }}}}"
    if value.variable:
        return f"${{{{ vars.{value.variable} }}}}"
    return value.value or ""
