"""The only ways in which a value gets into a generated file."""

import re
import shlex
from collections.abc import Iterator, Sequence

from kiwari_ci.plan_model.base import FrozenMapping

# Plain for readers of YAML 1.1 and 1.2 alike, also inside [a, b]; a `*` only as a path's last word (`api/**`).
_OPERATOR_PATTERN = r"(?<= )(?:(?:&&|\|\|)(?= )|!(?=[a-z]))"  # of an expression
_PLAIN_SCALAR = re.compile(
    rf"[A-Za-z0-9_./~$(](?:[A-Za-z0-9_./~@+=()'$-]|:(?=[^ ])| (?=[^ #])|{_OPERATOR_PATTERN}|(?<=/)\*\*?(?=/|$))*"
)
_NUMBER_LIKE = re.compile(r"[-+.0-9][-+.,_:0-9a-fA-FxXoOeE]*|[-+]?\.(inf|nan)", re.IGNORECASE)
_RESERVED_SCALARS = {"", "~", "y", "n", "yes", "no", "on", "off", "true", "false", "null"}
_IDENTIFIER = re.compile(r"[A-Za-z0-9_./~@][A-Za-z0-9_./~@:+-]*")
_EXPRESSION = re.compile(r"[A-Za-z0-9_.()'=&|^ -]+")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")


class QuotedText(str):
    """Text from one of the filters below. A template can print no other values."""


def yaml(value: object) -> QuotedText:
    """A YAML value on one line: text plain where every reader agrees that it is this string, in quotes otherwise.

    The quotes are those that Prettier would choose: single ones around text that has double ones and needs no escape.
    """
    if value is None or isinstance(value, bool):
        return QuotedText({None: "null", True: "true", False: "false"}[value])
    text = str(value).removesuffix(".0") if isinstance(value, float) else str(value)
    if isinstance(value, int | float) or _is_plain_scalar(text):
        return QuotedText(text)
    if '"' in text and not _needs_escape(text):
        return QuotedText("'" + text.replace("'", "''") + "'")
    return QuotedText('"' + "".join(_escape_character(character) for character in text) + '"')


def nested(value: object, indent: int) -> QuotedText:
    """What stands behind a key and its colon: a scalar on the same line; a list or a mapping below, `indent` deep."""
    if not isinstance(value, tuple):
        return QuotedText(f" {yaml(value)}")
    if not value:
        return QuotedText(f" {_format_empty_collection(value)}")
    lines = (" " * indent + line for line in _format_block_lines(value))
    return QuotedText("\n" + "\n".join(lines))


def _format_block_lines(value: object) -> Iterator[str]:
    """The lines of a value in YAML's block style."""
    if not isinstance(value, tuple):
        yield yaml(value)
    elif not value:
        yield _format_empty_collection(value)
    elif isinstance(value, FrozenMapping):
        for key, entry in value:
            yield from _format_entry_lines(yaml(key), entry)
    else:
        for entry in value:
            first, *others = _format_block_lines(entry)
            yield f"- {first}"
            yield from (f"  {line}" for line in others)


def _format_entry_lines(key: str, entry: object) -> Iterator[str]:
    lines = list(_format_block_lines(entry))
    if isinstance(entry, tuple) and entry:
        yield f"{key}:"
        yield from (f"  {line}" for line in lines)
    else:
        yield f"{key}: {lines[0]}"


def _format_empty_collection(value: tuple[object, ...]) -> str:
    return "{}" if isinstance(value, FrozenMapping) else "[]"


def sh(value: str | Sequence[str]) -> QuotedText:
    """One shell word, or a sequence as several."""
    return QuotedText(shlex.quote(value) if isinstance(value, str) else shlex.join(value))


def block(value: str, indent: int) -> QuotedText:
    """A YAML block scalar (`|`, or `|-` when the text does not end in a newline), its lines indented.

    Raises ValueError for text that no block can hold: it is empty, starts with a blank or has control characters.
    """
    text = value.removesuffix("\n")
    if not text.strip() or text[0] in " \t\n" or text[-1] == "\n" or _CONTROL_CHARACTER.search(text):
        raise ValueError(f"no YAML block can hold {value!r}")
    lines = (" " * indent + line if line else "" for line in text.split("\n"))
    return QuotedText(("|" if value.endswith("\n") else "|-") + "\n" + "\n".join(lines))


def script(value: str) -> QuotedText:
    """Whole lines of a file, as they are; raises ValueError for control characters, and without a last newline."""
    if _CONTROL_CHARACTER.search(value) or not value.endswith("\n"):
        raise ValueError(f"{value!r} is no script")
    return QuotedText(value)


def text(value: str) -> QuotedText:
    """A line of prose, or what stands between single quotes; raises ValueError for what could end either."""
    if _CONTROL_CHARACTER.search(value) or "\n" in value or "'" in value or "${{" in value:
        raise ValueError(f"{value!r} is not a line of plain text")
    return QuotedText(value)


def command(value: str) -> QuotedText:
    """A line of shell that the plan has quoted; raises ValueError for what could end the line or a code block."""
    if _CONTROL_CHARACTER.search(value) or "\n" in value or "`" in value:
        raise ValueError(f"{value!r} is not one line of shell")
    return QuotedText(value)


def name(value: str) -> QuotedText:
    """An identifier, path or address, as it is; raises ValueError when it has any other character."""
    if not _IDENTIFIER.fullmatch(value):
        raise ValueError(f"{value!r} is not a name")
    return QuotedText(value)


def expression(value: str) -> QuotedText:
    """What stands between `${{` and `}}`: names, comparisons and texts; raises ValueError for any other character."""
    if not _EXPRESSION.fullmatch(value):
        raise ValueError(f"{value!r} is not an expression")
    return QuotedText(value)


def _is_plain_scalar(text: str) -> bool:
    if text.lower() in _RESERVED_SCALARS or text.endswith((":", " ")) or (text != "." and _NUMBER_LIKE.fullmatch(text)):
        return False
    return _PLAIN_SCALAR.fullmatch(text) is not None


def _needs_escape(text: str) -> bool:
    """Whether a character of a text can stand only in double quotes."""
    return any(character == "\\" or _escape_character(character) != character for character in text.replace('"', ""))


def _escape_character(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if _CONTROL_CHARACTER.match(character) or character in "\t\n":
        return f"\\u{ord(character):04x}"
    return character
