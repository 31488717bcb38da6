"""The one way down: read → validate → rules → resolve → render."""

from pathlib import Path, PurePath

from kiwari_ci import planning, rules
from kiwari_ci.frozen import dataclass
from kiwari_ci.github import action_pins
from kiwari_ci.loading import validation, yaml_source
from kiwari_ci.output.generated_files import GeneratedFiles
from kiwari_ci.plan import Plan
from kiwari_ci.problems import Problem, SpecError, sort_problems
from kiwari_ci.rendering.render import render_files
from kiwari_ci.rules import advice
from kiwari_ci.schema import Spec


@dataclass(frozen=True)
class LoadedSpec:
    """A sound spec: its text, what it says, what follows from it, and advice."""

    source: yaml_source.YamlSource
    spec: Spec
    plan: Plan
    advice: list[Problem]


def load_spec(path: Path) -> LoadedSpec:
    """Read a spec, and the pins beside it, and decide everything; raises Faults."""
    read = yaml_source.load_yaml(path)
    return validate_and_plan(read, action_pins.load_pins(path, read))


def validate_and_plan(
    read: yaml_source.YamlSource, own: action_pins.PinSet = action_pins.DEFAULT_PIN_SET
) -> LoadedSpec:
    """Decide everything about a spec that was read, with the pins of its repository; raises Faults."""
    given, faults = validation.validate_spec(read)
    faults += rules.check_text(read) + (rules.check_spec(read, given, own.pins) if given else [])
    if given is None or faults:
        raise SpecError(faults)
    name = PurePath(read.path).name
    plan = planning.build_plan(given, name, read.text, own)
    return LoadedSpec(read, given, plan, sort_problems(advice.collect_advice(read, given)))


def generate_files(path: Path) -> tuple[Plan, GeneratedFiles]:
    """Read a spec and print everything that follows from it; raises Faults."""
    plan = load_spec(path).plan
    return plan, render_files(plan)
