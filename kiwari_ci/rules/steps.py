"""Steps of the user's own: actions at a commit, secrets where a job may read them, names of variables."""

import re
from collections.abc import Collection, Iterator

from kiwari_ci.loading.validation import at_key, at_value, dotted
from kiwari_ci.loading.yaml_source import Loc, Source
from kiwari_ci.problems import Problem
from kiwari_ci.rules.names import RUNNER_VARIABLE
from kiwari_ci.schema import Spec, Step

Found = Iterator[Problem]


def of_spec(source: Source, given: Spec) -> Found:
    """Faults of steps, whatever pins there are."""
    for loc, step in _steps(given):
        for key, value in step.env.items():
            here: Loc = (*loc, "env", key)
            if value.secret and loc[3] == "before_test":
                message = f"{dotted(here)}: tests have no secrets, for pull requests run them too"
                yield at_key(source, here, "step", message, "`before_build` or `after_deploy`, or a plain value")
            if re.fullmatch(RUNNER_VARIABLE, key):
                message = f"{dotted(here)}: `{key}` is bash's or the runner's"
                yield at_key(source, here, "reserved", message, "choose another name")
        if step.run and step.inputs:
            message = f"{dotted((*loc, 'inputs'))}: is for an action, and this step runs a command"
            yield at_key(source, (*loc, "inputs"), "step", message, "env: values that the command reads")
        if step.uses and step.working_directory:
            loc = (*loc, "working_directory")
            yield at_key(source, loc, "step", f"{dotted(loc)}: is for a command", "leave out `working_directory`")


def of_pins(source: Source, given: Spec, known: Collection[str]) -> Found:
    """An action is used at a commit, which the repository's file of pins has."""
    for loc, step in _steps(given):
        if step.uses and step.uses not in known:
            here: Loc = (*loc, "uses")
            message = f"{dotted(here)}: no commit of {step.uses} is in pins/action.yml beside this spec"
            hint = f"below `runs:` and `steps:` there: - uses: {step.uses}@<40 hex digits> # v1.2.3"
            yield at_value(source, here, "step-pin", message, hint)


def _steps(given: Spec) -> Iterator[tuple[Loc, Step]]:
    for service, model in given.services.items():
        for place, found in model.steps:
            for index, step in enumerate(found):
                yield ("services", service, "steps", place, index), step
