"""What a person probably meant: the hint for a value that is not what was expected; empty when nobody can tell."""

import difflib
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

MAX_SUGGESTIONS = 16  # names in a hint
MAX_TYPO_LENGTH = 100  # characters of what may be a slip
_PLAIN_TEXT = re.compile(r"[\w\s./:@~-]+", re.ASCII)  # an expression, a glob or a command is not guessed at
_COPIED_PREFIX = re.compile(r"^(https?://(github\.com/)?|git@github\.com:|\./|/)")


def suggest_closest(word: str, known: list[str]) -> str:
    """The known word that was probably meant, or some of them."""
    if matches := difflib.get_close_matches(word, known, n=1):
        return f"did you mean `{matches[0]}`?"
    omitted = f" and {len(known) - MAX_SUGGESTIONS} more" if len(known) > MAX_SUGGESTIONS else ""
    return "known here: " + ", ".join(f"`{name}`" for name in known[:MAX_SUGGESTIONS]) + omitted


def suggest_for_type(error_type: str, value: Any, written: str) -> str:
    """For a value of another type; `kind` is pydantic's, `written` the value as it stands in the file."""
    if error_type == "string_type" and isinstance(value, int | float):
        return f'put it in quotes: "{written}"'
    if error_type == "string_type" and isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        return f"one value, without brackets: {value[0]}"
    if error_type == "int_type" and isinstance(value, str) and value.isdecimal():
        return f"leave out the quotes: {value}"
    if (
        error_type == "bool_type"
        and isinstance(value, str)
        and value.lower() in ("true", "false", "yes", "no", "on", "off")
    ):
        return f"without quotes: {str(value.lower() in ('true', 'yes', 'on')).lower()}"
    if error_type == "list_type" and isinstance(value, str) and written:
        return f"put it in brackets: [{written}]"
    return ""


def suggest_for_text(value: str, pattern: str) -> str:
    """For text that does not match: the character that cannot be seen, or the nearest text that does match."""
    odd = next((index for index, character in enumerate(value) if _is_unusual_character(character)), None)
    if odd is not None:
        return _describe_character(value, odd)
    if late := re.search(r"[ \t]+(\n|\Z)", value) if "\n" in value else None:
        return f"line {value.count(chr(10), 0, late.start()) + 1} of it ends with a blank: leave that out"
    if len(value) > MAX_TYPO_LENGTH or not _PLAIN_TEXT.fullmatch(value):
        return ""
    found = next((text for text in _iter_similar_texts(value) if text != value and re.fullmatch(pattern, text)), None)
    return f"did you mean `{found}`?" if found else ""


def _is_unusual_character(character: str) -> bool:
    """Whether it looks like another character, or like none."""
    return character != "\n" and (not character.isascii() or not character.isprintable())


def _describe_character(text: str, index: int) -> str:
    character = text[index]
    name = unicodedata.name(character, "a control character").lower()
    return f"character {index + 1} of it is U+{ord(character):04X}, {name}: write it anew, in plain ASCII"


def _iter_similar_texts(text: str) -> Iterator[str]:
    """The text without what is often copied with it, then in the other forms that names have."""
    bare = text.strip()
    while (shorter := _COPIED_PREFIX.sub("", bare).removesuffix("/").removesuffix(".git")) != bare:
        bare = shorter
    for variant in (text.strip(), bare, bare.partition("/")[0]):
        yield from (variant, variant.lower(), f"~/{variant}", f"/{variant}", f"{variant}*")
        yield variant if "." in variant else f"{variant}.env"
        for separator in "-_":
            joined = re.sub(r"[\s._-]+", separator, variant).strip(separator)
            yield from (joined.lower(), joined.upper())
