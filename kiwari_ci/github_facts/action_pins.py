"""The actions that the workflows use, each at a commit: the tool's own, and those that a repository has of its own.

A file of pins has the form of an action's action.yml, for that is what Dependabot and Renovate read; nothing runs it.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kiwari_ci.frozen import dataclass
from kiwari_ci.plan_model import DependabotConfig, FrozenAction, PinnedAction, PinsFile
from kiwari_ci.problems import Problem, SpecError, escape_control_characters
from kiwari_ci.spec_loading import yaml_source
from kiwari_ci.spec_loading.validation import report_at_key, report_at_span, report_at_value
from kiwari_ci.spec_loading.yaml_source import SourceSpan, YamlPath, YamlSource

PINS_RELATIVE_PATH = "pins/action.yml"  # beside a spec
_USES_PATTERN = re.compile(r"([\w.-]+(?:/[\w.-]+)+)(?:@([0-9a-f]{40}))?(@.*)?", re.ASCII)
# As Dependabot and Renovate keep it. Renovate's other forms: lib/modules/manager/github-actions/parse.ts there.
VERSION_COMMENT = re.compile(
    r"[ \t]+#\s*(?:renovate\s*:\s*)?(?:pin\s+|tag\s*=\s*)?@?(v\d{1,9}\.\d{1,9}\.\d{1,9})(?![\w.-])", re.ASCII
)
_FROZEN_REASON = re.compile(r"frozen at (v\d+\.\d+\.\d+) because (\S.*)")
_PIN_FORMAT = "owner/name@<40 hex digits> # v1.2.3"


@dataclass(frozen=True)
class ActionPin:
    """One action: `owner/name`, the 40 hex digits of the commit, the version that its tag names; why it is frozen."""

    action: str
    sha: str
    version: str
    frozen: str = ""

    @property
    def line(self) -> str:
        """As a file has it behind `uses:`."""
        return f"{self.action}@{self.sha} # {self.version}"

    @property
    def order(self) -> tuple[int, ...]:
        """What a newer version has more of."""
        return tuple(int(number) for number in self.version[1:].split("."))


# The actions that may be used, with our pin of each where we have one.
KnownActions = Mapping[str, ActionPin] | Mapping[str, ActionPin | None]


@dataclass(frozen=True)
class PinOccurrence:
    """A pin and where it stands: its path in the document, the place of its value."""

    pin: ActionPin
    loc: YamlPath
    place: SourceSpan


@dataclass(frozen=True)
class PinSet:
    """A repository's pins: the text of their file (empty: there is none), and each action's pin."""

    text: str
    pins: dict[str, ActionPin]


def find_pins(text: YamlSource, known_actions: KnownActions) -> tuple[list[PinOccurrence], list[Problem]]:
    """Every pin of a workflow or a file of pins, and what is wrong with any: each must be one of the known actions."""
    occurrences, faults = list[PinOccurrence](), list[Problem]()
    for loc, place in text.values.items():
        if _is_step_uses(loc):
            parsed = _parse_pin(text, loc, place, known_actions)
            occurrences += [PinOccurrence(parsed, loc, place)] if isinstance(parsed, ActionPin) else []
            faults += [parsed] if isinstance(parsed, Problem) else []
    return occurrences, faults


def derive_pins_path(spec: Path) -> Path:
    """Where the pins of a spec's repository are, if it has some."""
    return spec.parent / PINS_RELATIVE_PATH


def load_pins(spec: Path, spec_source: YamlSource | None = None) -> PinSet:
    """The pins in use with a spec: its repository's, and for other actions the tool's; raises Faults.

    `spec_source`: the spec, where it was read already; the steps of its own use more actions.
    """
    path = derive_pins_path(spec)
    try:
        is_there = path.is_symlink() or path.exists()
    except OSError:
        is_there = True  # reading it says why not
    return (
        parse_pins_file(yaml_source.load_yaml(path), find_used_actions(spec_source or yaml_source.load_yaml(spec)))
        if is_there
        else DEFAULT_PIN_SET
    )


def find_used_actions(spec_source: YamlSource) -> set[str]:
    """The actions that a spec's own steps use, as far as it can be read."""
    return {
        _read_string(spec_source, loc)
        for loc in spec_source.values
        if loc[:1] == ("services",) and loc[-1:] == ("uses",)
    }


def parse_pins_file(text: YamlSource, used_actions: Collection[str] = ()) -> PinSet:
    """The pins that a file of a repository makes; raises Faults."""
    occurrences, faults = find_pins(text, dict.fromkeys(used_actions) | DEFAULT_PINS)
    firsts: dict[str, PinOccurrence] = {}
    for occurrence in occurrences:
        first = firsts.setdefault(occurrence.pin.action, occurrence)
        if first is not occurrence:
            message = f"{occurrence.pin.action} stands here twice, first on line {first.place.line}"
            faults.append(report_at_value(text, occurrence.loc, "pin-twice", message, "keep one of the two"))
    if not occurrences and not faults:
        message, hint = "no pin is in this file", f"below `runs:` and `steps:`, lines such as `- uses: {_PIN_FORMAT}`"
        faults.append(report_at_span(text, None, "pin", message, f"{hint}; or remove the file"))
    if faults:
        raise SpecError(faults)
    return PinSet(text.text, DEFAULT_PINS | {action: occurrence.pin for action, occurrence in firsts.items()})


def build_pinned_action(pin: ActionPin) -> PinnedAction:
    """As a template has it."""
    return PinnedAction(f"{pin.action}@{pin.sha}", pin.version)


def build_pins_file(pin_set: PinSet) -> PinsFile:
    """The repository's own pins, for the drift check to read among the generated files."""
    return PinsFile(f"specs/{PINS_RELATIVE_PATH}", pin_set.text)


def build_dependabot_config(pin_set: PinSet) -> DependabotConfig:
    """Dependabot looks into the file of pins where there is one, for it stops at a folder that is not there."""
    folders = ("/", f"/specs/{PINS_RELATIVE_PATH}".rpartition("/")[0]) if pin_set.text else ("/",)
    return DependabotConfig(
        folders, tuple(FrozenAction(pin.action, pin.version) for pin in pin_set.pins.values() if pin.frozen)
    )


def serialize_pins(pin_set: PinSet) -> list[dict[str, str]]:
    """For programs."""
    return [asdict(pin) for pin in pin_set.pins.values()]


def find_trailing_text(text: YamlSource, place: SourceSpan) -> str:
    """What follows a value on its line."""
    return text.lines[place.line - 1][place.column - 1 + place.length :]


def _is_step_uses(loc: YamlPath) -> bool:
    """Whether a value is the `uses` of a step, or of a job; not that of a mapping below."""
    return loc[-1:] == ("uses",) and (
        (loc[0] == "jobs" and (len(loc) == 3 or (len(loc) == 5 and loc[2] == "steps")))
        or (loc[:2] == ("runs", "steps") and len(loc) == 4)
    )


def _parse_pin(text: YamlSource, loc: YamlPath, place: SourceSpan, known_actions: KnownActions) -> ActionPin | Problem:
    value, version = _read_string(text, loc), VERSION_COMMENT.match(find_trailing_text(text, place))
    match = _USES_PATTERN.fullmatch(value)
    if not match or match[1] not in known_actions:
        message = f"`{value[:100]}` is no action of these workflows"
        return report_at_value(text, loc, "pin-action", message, f"they use {', '.join(known_actions)}")
    known_pin = known_actions[match[1]]
    if not match[2] or match[3]:
        met = value.partition("@")[2] or "nothing"
        message = f"{match[1]}: expected a commit of 40 hex digits behind `@`, met `{met[:60]}`"
        return report_at_value(
            text, loc, "pin", message, f"{_PIN_FORMAT}; kiwari-ci has {known_pin.line}" if known_pin else _PIN_FORMAT
        )
    if not version:
        message = f"{match[1]}: expected its version behind the commit, as in `# v1.2.3`"
        return report_at_value(text, loc, "pin", message, suggest_tag_lookup(match[1], match[2]))
    pin = ActionPin(match[1], match[2], version[1])
    if known_pin and (conflict := explain_pin_conflict(pin, known_pin)):
        return report_at_value(text, loc, "pin-tag", conflict, suggest_tag_lookup(pin.action, pin.version))
    return _add_frozen_reason(text, loc, pin)


def explain_pin_conflict(pin: ActionPin, known_pin: ActionPin) -> str:
    """Why two pins of an action cannot both be true: one tag at two commits, or one commit with two versions."""
    if pin.version == known_pin.version and pin.sha != known_pin.sha:
        return f"{pin.action}: {pin.version} is the commit {known_pin.sha[:12]}…, not {pin.sha[:12]}…"
    if pin.sha == known_pin.sha and pin.version != known_pin.version:
        return f"{pin.action}: the commit {pin.sha[:12]}… is {known_pin.version}, not {pin.version}"
    return ""


def _add_frozen_reason(text: YamlSource, loc: YamlPath, pin: ActionPin) -> ActionPin | Problem:
    """The name of a step in a file of pins says why it is frozen."""
    name = _read_string(text, (*loc[:-1], "name")) if loc[0] == "runs" else ""
    if not name.startswith("frozen"):
        return pin
    match = _FROZEN_REASON.fullmatch(name)
    expected_name = f"name: frozen at {pin.version} because REASON"
    if not match:
        return report_at_key(
            text, (*loc[:-1], "name"), "pin-frozen", f"{pin.action} is frozen, and why is not said", expected_name
        )
    if match[1] != pin.version:
        message = f"{pin.action} is frozen at {match[1]}, but this line has {pin.version}"
        return report_at_value(
            text, loc, "pin-frozen", message, f"put {match[1]} back; or remove the `name`, which freezes it"
        )
    return ActionPin(pin.action, pin.sha, pin.version, match[2])


def _read_string(text: YamlSource, loc: YamlPath) -> str:
    node: Any = text.data
    for key in loc:
        node = node.get(key) if isinstance(node, dict) else node[int(key)]
    return escape_control_characters(node) if isinstance(node, str) else ""


def suggest_tag_lookup(action: str, searched_text: str) -> str:
    """The cure that only the network has."""
    return f"look it up: git ls-remote --tags https://github.com/{action} | grep {searched_text}"


def _load_default_pins() -> Iterator[ActionPin]:
    """The tool's own, whose form a test holds."""
    text = (Path(__file__).parent / "action.yml").read_text()
    for match in re.finditer(r"uses: ([\w/-]+)@([0-9a-f]{40}) # (v[\d.]+)$", text, re.MULTILINE):
        yield ActionPin(match[1], match[2], match[3])


DEFAULT_PINS = {pin.action: pin for pin in _load_default_pins()}
DEFAULT_PIN_SET = PinSet("", DEFAULT_PINS)
