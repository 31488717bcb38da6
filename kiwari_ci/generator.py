"""The one way down: read → validate → rules → resolve → render."""

from dataclasses import dataclass
from pathlib import Path, PurePath

from kiwari_ci import planning, rules
from kiwari_ci.github import action_pins
from kiwari_ci.loading import validation, yaml_source
from kiwari_ci.output.generated_files import Tree
from kiwari_ci.plan import Plan
from kiwari_ci.problems import Faults, Problem, in_order
from kiwari_ci.rendering.render import render
from kiwari_ci.rules import advice
from kiwari_ci.schema import Spec


@dataclass(frozen=True)
class Decided:
    """A sound spec: its text, what it says, what follows from it, and advice."""

    source: yaml_source.Source
    spec: Spec
    plan: Plan
    advice: list[Problem]


def decide(path: Path) -> Decided:
    """Read a spec, and the pins beside it, and decide everything; raises Faults."""
    read = yaml_source.read(path)
    return judge(read, action_pins.own(path, read))


def judge(read: yaml_source.Source, own: action_pins.Own = action_pins.NONE) -> Decided:
    """Decide everything about a spec that was read, with the pins of its repository; raises Faults."""
    given, faults = validation.validate(read)
    faults += rules.of_text(read) + (rules.of_spec(read, given, own.pins) if given else [])
    if given is None or faults:
        raise Faults(faults)
    name = PurePath(read.path).name
    plan = planning.resolve(given, name, read.text, own)
    return Decided(read, given, plan, in_order(advice.of_spec(read, given)))


def build(path: Path) -> tuple[Plan, Tree]:
    """Read a spec and print everything that follows from it; raises Faults."""
    plan = decide(path).plan
    return plan, render(plan)
