"""Loads, validates, plans and renders a spec."""

import os
from pathlib import Path, PurePath

from kiwari_ci import planning, spec_rules
from kiwari_ci.effective_spec import EffectiveSpec
from kiwari_ci.file_output.generated_files import GeneratedFiles
from kiwari_ci.frozen import dataclass
from kiwari_ci.github_facts import action_pins
from kiwari_ci.plan_model import Plan
from kiwari_ci.problems import Problem, SpecError, sort_problems
from kiwari_ci.readers import installed_tool
from kiwari_ci.rendering.render import render_files
from kiwari_ci.schema import Spec
from kiwari_ci.spec_loading import service_defaults, validation, yaml_source
from kiwari_ci.spec_rules import advice


@dataclass(frozen=True)
class LoadedSpec:
    """A sound spec: its text as a person wrote it, what it says, what follows from it, and advice."""

    source: yaml_source.YamlSource
    spec: Spec
    effective: EffectiveSpec
    plan: Plan
    advice: list[Problem]


def load_spec(path: Path) -> LoadedSpec:
    """Read a spec and the pins beside it, and plan everything; raises SpecError."""
    source = yaml_source.load_yaml(path)
    return validate_and_plan(source, action_pins.load_pins(path, source))


def validate_and_plan(
    source: yaml_source.YamlSource, pins: action_pins.PinSet = action_pins.DEFAULT_PIN_SET
) -> LoadedSpec:
    """Plan everything about a spec that was read, with the pins of its repository; raises SpecError."""
    source, data = service_defaults.merge_service_defaults(source)
    spec, problems = validation.validate_spec(source, data)
    problems += spec_rules.check_text(source)
    if spec is None:
        raise SpecError(problems)
    effective = EffectiveSpec(spec)
    problems += spec_rules.check_spec(source, effective, pins.pins)
    if problems:
        raise SpecError(problems)
    installed_source = "" if effective.generator else installed_tool.find_installed_source(os.environ)
    plan = planning.build_plan(effective, PurePath(source.path).name, source.text, pins, installed_source)
    return LoadedSpec(source, spec, effective, plan, sort_problems(advice.collect_advice(source, effective)))


def can_install_tool(plan: Plan) -> bool:
    """Whether the drift check knows from where to install this tool: by the spec, or by this installation."""
    return bool(plan.drift.requirement or plan.drift.commit)


def generate_files(path: Path) -> tuple[Plan, GeneratedFiles]:
    """Read a spec and render everything that follows from it; raises SpecError."""
    plan = load_spec(path).plan
    if not can_install_tool(plan):
        words = "generator: the drift check must install this tool, and nobody knows from where it was installed here"
        raise SpecError([Problem("generator", words, path.as_posix(), hint=installed_tool.explain_unknown_source())])
    return plan, render_files(plan)
