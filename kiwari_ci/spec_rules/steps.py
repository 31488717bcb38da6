"""Steps of the user's own: actions at a commit, secrets where a job may read them, names of variables."""

import re
from collections.abc import Collection, Iterator

from kiwari_ci.effective_spec import EffectiveSpec
from kiwari_ci.problems import Problem
from kiwari_ci.schema import Step
from kiwari_ci.spec_loading.validation import format_yaml_path, report_at_key, report_at_value
from kiwari_ci.spec_loading.yaml_source import YamlPath, YamlSource
from kiwari_ci.spec_rules.names import RUNNER_VARIABLE_PATTERN

Problems = Iterator[Problem]


def check_steps(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """Find problems of steps that do not depend on the pins."""
    for place, step_loc, step in _iter_steps(spec):
        for key, value in step.env.items():
            loc: YamlPath = (*step_loc, "env", key)
            if value.secret and place in ("before_test", "after_test"):
                message = f"{format_yaml_path(loc)}: tests have no secrets, for pull requests run them too"
                hint = "`before_build` or `after_deploy`, or a plain value"
                yield report_at_key(source, loc, "step", message, hint)
            if re.fullmatch(RUNNER_VARIABLE_PATTERN, key):
                message = f"{format_yaml_path(loc)}: `{key}` is bash's or the runner's"
                yield report_at_key(source, loc, "reserved", message, "choose another name")
        if step.run and step.inputs:
            loc = (*step_loc, "inputs")
            message = f"{format_yaml_path(loc)}: is for an action, and this step runs a command"
            yield report_at_key(source, loc, "step", message, "env: values that the command reads")
        if step.uses and step.working_directory:
            loc = (*step_loc, "working_directory")
            message = f"{format_yaml_path(loc)}: works only with `run`"
            yield report_at_key(source, loc, "step", message, "leave out `working_directory`")


def check_step_pins(source: YamlSource, spec: EffectiveSpec, pinned_actions: Collection[str]) -> Problems:
    """Check that the repository's file of pins has a commit of each action."""
    for _, step_loc, step in _iter_steps(spec):
        if step.uses and step.uses not in pinned_actions:
            loc: YamlPath = (*step_loc, "uses")
            message = f"{format_yaml_path(loc)}: no commit of {step.uses} is in pins/action.yml beside this spec"
            line = f"- uses: {step.uses}@<40 hex digits> # v1.2.3"
            hint = f"below `runs:` and `steps:` in pins/action.yml, add the line `{line}`"
            yield report_at_value(source, loc, "step-pin", message, hint)


def _iter_steps(spec: EffectiveSpec) -> Iterator[tuple[str, YamlPath, Step]]:
    """Each step with its place in the workflow, such as `before_test`, and in the spec."""
    for name, service in spec.services.items():
        for place, steps in service.steps:
            for index, step in enumerate(steps):
                yield place, ("services", name, "steps", place, index), step
    for name, host in spec.hosts.items():
        if host.model.proxy_command:
            for index, step in enumerate(host.model.proxy_command.steps):
                yield "before_connection", ("hosts", name, "proxy_command", "steps", index), step
