"""Steps of the user's own, as a workflow has them."""

from collections.abc import Iterable

from kiwari_ci import schema
from kiwari_ci.github.action_pins import ActionPin, build_pinned_action
from kiwari_ci.plan import CustomStep, KeyValue

ActionPins = dict[str, ActionPin]


def plan_custom_steps(given: Iterable[schema.Step], actions: ActionPins) -> tuple[CustomStep, ...]:
    """Each once, in their order."""
    return tuple(dict.fromkeys(_plan_custom_step(each, actions) for each in given))


def _plan_custom_step(given: schema.Step, actions: ActionPins) -> CustomStep:
    pinned = build_pinned_action(actions[given.uses]) if given.uses else None
    return CustomStep(
        name=given.name,
        condition="failure()" if given.when == "failure" else "",
        uses=pinned.uses if pinned else "",
        version=pinned.version if pinned else "",
        inputs=tuple(KeyValue(key, value) for key, value in given.inputs.items()),
        env=tuple(KeyValue(key, _format_step_variable(value)) for key, value in given.env.items()),
        working_directory=given.working_directory or "",
        run=(given.run or "").rstrip("\n") + "\n" if given.run else "",
    )


def _format_step_variable(given: schema.StepValue) -> str:
    if given.secret or given.variable:
        return f"${{{{ {'secrets' if given.secret else 'vars'}.{given.secret or given.variable} }}}}"
    return given.value or ""
