"""Steps of the user's own, as a workflow has them."""

from collections.abc import Iterable

from kiwari_ci import schema
from kiwari_ci.github.action_pins import Pin, action
from kiwari_ci.plan import Pair, Step

Actions = dict[str, Pin]


def steps(given: Iterable[schema.Step], actions: Actions) -> tuple[Step, ...]:
    """Each once, in their order."""
    return tuple(dict.fromkeys(_step(each, actions) for each in given))


def _step(given: schema.Step, actions: Actions) -> Step:
    pinned = action(actions[given.uses]) if given.uses else None
    return Step(
        name=given.name,
        condition="failure()" if given.when == "failure" else "",
        uses=pinned.uses if pinned else "",
        version=pinned.version if pinned else "",
        inputs=tuple(Pair(key, value) for key, value in given.inputs.items()),
        env=tuple(Pair(key, _value(value)) for key, value in given.env.items()),
        working_directory=given.working_directory or "",
        run=(given.run or "").rstrip("\n") + "\n" if given.run else "",
    )


def _value(given: schema.StepValue) -> str:
    if given.secret or given.variable:
        return f"${{{{ {'secrets' if given.secret else 'vars'}.{given.secret or given.variable} }}}}"
    return given.value or ""
