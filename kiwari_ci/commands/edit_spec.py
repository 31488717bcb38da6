"""Change one value of a spec that a person wrote: comments, quotes, blank lines and the order of keys stay.

ruamel.yaml writes the file twice, without the change and with it. The lines in which the two differ are the edit, and
they alone are put into the person's text. So nothing else changes where ruamel.yaml would write a line anew (it turns
`[{external: proxy}]` into `[external: proxy]`, for example). The result is read again before anything is written.
"""

import difflib
import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

from kiwari_ci import generator
from kiwari_ci.file_output import generated_files
from kiwari_ci.frozen import dataclass
from kiwari_ci.problems import Problem, SpecError
from kiwari_ci.rendering import quoting
from kiwari_ci.spec_loading import yaml_source
from kiwari_ci.spec_loading.yaml_source import YamlPath

# Columns of a mapping in a mapping, of a list's item, and of the item's dash: how people indent.
INDENTATIONS = ((2, 4, 2), (2, 2, 0), (4, 6, 4), (4, 4, 2), (4, 2, 0), (4, 4, 0))
_PATH_PART = re.compile(r"([^.\[\]]+)((?:\[\d+\])*)(?:\.|$)")


@dataclass(frozen=True)
class SpecEdit:
    """The text of a spec before and after a change."""

    path: Path
    before: str
    after: str

    @property
    def diff(self) -> str:
        """The change as a unified diff with a line of context."""
        before, after = self.before.splitlines(), self.after.splitlines()
        return "\n".join(difflib.unified_diff(before, after, str(self.path), str(self.path), n=1, lineterm=""))


def set_value(spec: Path, path_text: str, value_text: str) -> SpecEdit:
    """Set the value at a path of a spec, and write the spec; raises SpecError, and writes nothing, when it is refused.

    The mapping around the value must be there; its last key may be new.
    """
    source = generator.load_spec(spec).source
    loc = _parse_path(spec, path_text)
    value = yaml_source.parse_yaml("VALUE", f"value: {value_text}\n").data["value"]
    expected = _replace_in_data(source.data, loc, value, spec)
    raw = spec.read_bytes().decode()
    edited = edit_text(source.text, loc, value)
    if not _has_expected_values(spec, edited, expected):
        lines = "\n".join(
            f"  {line}" for line in _dump_yaml({loc[-1]: _convert_to_ruamel(value)}, INDENTATIONS[0]).splitlines()
        )
        words = f"{path_text} cannot be edited as the file is written"
        raise SpecError([Problem("not-editable", words, str(spec), hint=f"write it by hand, in its place:\n{lines}")])
    generator.validate_and_plan(yaml_source.parse_yaml(source.path, edited))
    text = generated_files.restore_line_endings(edited, raw)
    generated_files.write_user_file(spec.parent, spec.name, text, raw)
    return SpecEdit(spec, source.text, edited)


def _parse_path(spec: Path, text: str) -> YamlPath:
    """`services.api.paths[0]` as the path to a value."""
    parts: list[str | int] = []
    end = 0
    while end < len(text) and (part := _PATH_PART.match(text, end)):
        parts.append(part[1])
        parts += [int(index) for index in re.findall(r"\d+", part[2])]
        end = part.end()
    if not parts or end < len(text) or text.endswith("."):
        raise SpecError([Problem("no-such-path", f"`{text}` is no path", str(spec), hint="such as services.api.port")])
    return tuple(parts)


def _replace_in_data(node: Any, loc: YamlPath, value: Any, spec: Path) -> Any:
    """Plain data with the value at a path; raises SpecError when the path leads through what is not there."""
    first, *rest = loc
    is_list_item = isinstance(node, list) and isinstance(first, int) and first < len(node)
    is_entry = isinstance(node, dict) and isinstance(first, str) and (not rest or first in node)
    if not is_list_item and not is_entry:
        hint = "set the mapping around it first: its value may be a whole mapping, {key: value}"
        raise SpecError([Problem("no-such-path", f"nothing is at `{first}`", str(spec), hint=hint)])
    copy: Any = list(node) if isinstance(node, list) else dict(node)
    copy[first] = _replace_in_data(node[first], tuple(rest), value, spec) if rest else value
    return copy


def edit_text(text: str, loc: YamlPath, value: Any) -> str:
    """Put the lines of the edit into a text, and leave all others as they are."""
    indentation = min(INDENTATIONS, key=lambda columns: _count_changed_lines(text, columns))
    document = _load(text)
    unchanged = _dump_yaml(document, indentation).split("\n")
    place = document
    for part in loc[:-1]:
        place = place[part]
    place[loc[-1]] = _convert_to_ruamel(value, is_flow=place.fa.flow_style() is True)
    changed = _dump_yaml(document, indentation).split("\n")
    lines = text.split("\n")
    line_of = _match_lines(unchanged, lines)
    for kind, start, end, new_start, new_end in reversed(_list_differences(unchanged, changed)):
        new_lines = changed[new_start:new_end]
        if kind == "insert":
            position = _find_insertion(lines, line_of.get(start, len(lines)), new_lines[0])
            lines[position:position] = new_lines
        elif all(number in line_of for number in range(start, end)):
            lines[line_of[start] : line_of[end - 1] + 1] = new_lines
    return "\n".join(lines)


def _find_insertion(lines: Sequence[str], position: int, new_line: str) -> int:
    """Find the line at which to insert: before the blank lines and comments above the next key."""
    indent = len(new_line) - len(new_line.lstrip())
    while position > 0:
        line = lines[position - 1]
        is_of_next = line.lstrip().startswith("#") and len(line) - len(line.lstrip()) < indent
        if line.strip() and not is_of_next:
            break
        position -= 1
    return position


def _list_differences(before: Sequence[str], after: Sequence[str]) -> list[tuple[str, int, int, int, int]]:
    opcodes = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    return [opcode for opcode in opcodes if opcode[0] != "equal"]


def _match_lines(before: Sequence[str], after: Sequence[str]) -> dict[int, int]:
    """Map each line to the line of another text that is equal to it, or that replaces it."""
    line_of: dict[int, int] = {}
    for _, start, end, new_start, new_end in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if end - start == new_end - new_start:
            line_of |= dict(zip(range(start, end), range(new_start, new_end), strict=True))
    return line_of


def _count_changed_lines(text: str, indentation: tuple[int, int, int]) -> int:
    changes = _list_differences(text.split("\n"), _dump_yaml(_load(text), indentation).split("\n"))
    return sum(max(end - start, new_end - new_start) for _, start, end, new_start, new_end in changes)


def _load(text: str) -> Any:
    yaml = YAML()
    yaml.preserve_quotes = True
    return yaml.load(text)


def _dump_yaml(document: Any, indentation: tuple[int, int, int]) -> str:
    yaml = YAML()
    yaml.width = 10**6  # no line is broken
    mapping, sequence, offset = indentation
    yaml.indent(mapping=mapping, sequence=sequence, offset=offset)
    stream = StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()


def _convert_to_ruamel(value: Any, is_flow: bool = False) -> Any:
    """A value as ruamel.yaml writes it: lists on a line, text in quotes where a reader could take it for a number."""
    if isinstance(value, dict):
        mapping = CommentedMap(
            (_convert_to_ruamel(key), _convert_to_ruamel(item, is_flow)) for key, item in value.items()
        )
        if is_flow or not value:
            mapping.fa.set_flow_style()
        return mapping
    if isinstance(value, list):
        sequence = CommentedSeq(_convert_to_ruamel(item, is_flow=True) for item in value)
        sequence.fa.set_flow_style()
        return sequence
    if isinstance(value, str) and "\n" in value and not is_flow:
        return LiteralScalarString(value)
    if isinstance(value, str) and quoting.yaml(value) != value:
        return DoubleQuotedScalarString(value)
    return value


def _has_expected_values(spec: Path, text: str, expected: Any) -> bool:
    """Whether the text of a spec has exactly the expected values."""
    try:
        return bool(yaml_source.parse_yaml(str(spec), text).data == expected)
    except SpecError:
        return False
