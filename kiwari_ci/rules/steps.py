"""Steps of the user's own: actions at a commit, secrets where a job may read them, names of variables."""

import re
from collections.abc import Collection, Iterator

from kiwari_ci.loading.validation import format_yaml_path, report_at_key, report_at_value
from kiwari_ci.loading.yaml_source import YamlPath, YamlSource
from kiwari_ci.problems import Problem
from kiwari_ci.rules.names import RUNNER_VARIABLE_PATTERN
from kiwari_ci.schema import Spec, Step

Problems = Iterator[Problem]


def check_steps(source: YamlSource, given: Spec) -> Problems:
    """Faults of steps, whatever pins there are."""
    for loc, step in _iter_steps(given):
        for key, value in step.env.items():
            here: YamlPath = (*loc, "env", key)
            if value.secret and loc[3] == "before_test":
                message = f"{format_yaml_path(here)}: tests have no secrets, for pull requests run them too"
                yield report_at_key(source, here, "step", message, "`before_build` or `after_deploy`, or a plain value")
            if re.fullmatch(RUNNER_VARIABLE_PATTERN, key):
                message = f"{format_yaml_path(here)}: `{key}` is bash's or the runner's"
                yield report_at_key(source, here, "reserved", message, "choose another name")
        if step.run and step.inputs:
            message = f"{format_yaml_path((*loc, 'inputs'))}: is for an action, and this step runs a command"
            yield report_at_key(source, (*loc, "inputs"), "step", message, "env: values that the command reads")
        if step.uses and step.working_directory:
            loc = (*loc, "working_directory")
            yield report_at_key(
                source, loc, "step", f"{format_yaml_path(loc)}: is for a command", "leave out `working_directory`"
            )


def check_step_pins(source: YamlSource, given: Spec, known: Collection[str]) -> Problems:
    """An action is used at a commit, which the repository's file of pins has."""
    for loc, step in _iter_steps(given):
        if step.uses and step.uses not in known:
            here: YamlPath = (*loc, "uses")
            message = f"{format_yaml_path(here)}: no commit of {step.uses} is in pins/action.yml beside this spec"
            hint = f"below `runs:` and `steps:` there: - uses: {step.uses}@<40 hex digits> # v1.2.3"
            yield report_at_value(source, here, "step-pin", message, hint)


def _iter_steps(given: Spec) -> Iterator[tuple[YamlPath, Step]]:
    for service, model in given.services.items():
        for place, found in model.steps:
            for index, step in enumerate(found):
                yield ("services", service, "steps", place, index), step
