"""Suggests what a person probably meant by an unexpected value; a hint is empty when that is unknown."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

from kiwari_ci.problems import join_with_limit

MAX_SUGGESTIONS = 16  # names in a hint
MAX_TYPO_LENGTH = 100  # characters of text that may have a typo
_PLAIN_TEXT = re.compile(r"[\w\s./:@~-]+", re.ASCII)  # an expression, a glob or a command is not guessed at
_BARE_ITEM = re.compile(r"[A-Za-z./_-][\w./:@=+-]*", re.ASCII)
_VARIABLE = re.compile(r"\$(\{[^}]*\}|[A-Za-z_]\w*)")
_VALUES_OF_VARIABLES = ("x", "1", "1g", "/x")
_COPIED_PREFIX = re.compile(r"^(https?://(github\.com/)?|git@github\.com:|\./|/)")


def suggest_closest(word: str, known_words: list[str]) -> str:
    """Suggest the known word that was probably meant, or list some of them."""
    if not known_words:
        return "there is none: leave it out"
    import difflib  # takes time to load, and only a problem needs it

    matches = difflib.get_close_matches(word, known_words, n=1)
    if matches:
        return f"did you mean `{matches[0]}`?"
    return "known here: " + join_with_limit([f"`{name}`" for name in known_words], MAX_SUGGESTIONS)


def suggest_for_type(error_type: str, value: Any, source_text: str) -> str:
    """Suggest a cure for a value of another type; `error_type` is pydantic's, `source_text` the value in the file."""
    if error_type == "string_type" and isinstance(value, int | float):
        return f'put it in quotes: "{source_text}"'
    if error_type == "string_type" and isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        return f"one value, without brackets: {value[0]}"
    if error_type == "int_type" and isinstance(value, str) and value.isdecimal():
        return f"leave out the quotes: {value}"
    if error_type == "bool_type" and isinstance(value, str):
        return _suggest_boolean(value.lower())
    if error_type == "list_type" and isinstance(value, str) and source_text:
        return f"put it in brackets: [{_list_words(value, source_text)}]"
    return ""


def _list_words(text: str, source_text: str) -> str:
    """The words of a command as the items of a list; a text without blanks as it is written."""
    try:
        words = shlex.split(text)
    except ValueError:  # a quote without its counterpart
        return source_text
    if len(words) < 2 or "\n" in text:
        return source_text
    return ", ".join(word if _BARE_ITEM.fullmatch(word) else "'" + word.replace("'", "''") + "'" for word in words)


def _suggest_boolean(text: str) -> str:
    if text in ("true", "yes", "on"):
        return "without quotes: true"
    if text in ("false", "no", "off"):
        return "without quotes: false"
    return ""


def suggest_for_text(text: str, pattern: str) -> str:
    """Suggest a cure for text that does not match: name an unusual character, or the nearest text that matches."""
    for index, character in enumerate(text):
        if _is_unusual_character(character):
            return _describe_character(text, index)
    trailing_blanks = re.search(r"[ \t]+(\n|\Z)", text) if "\n" in text else None
    if trailing_blanks:
        line_number = text.count("\n", 0, trailing_blanks.start()) + 1
        return f"line {line_number} of it ends with a blank: leave that out"
    variable = _VARIABLE.search(text)
    if variable and any(re.fullmatch(pattern, _VARIABLE.sub(value, text)) for value in _VALUES_OF_VARIABLES):
        return f"nothing replaces `{variable[0]}` here: write the value itself, or where it differs, `overrides`"
    if len(text) > MAX_TYPO_LENGTH or not _PLAIN_TEXT.fullmatch(text):
        return ""
    for similar_text in _iter_similar_texts(text):
        if similar_text != text and re.fullmatch(pattern, similar_text):
            return f"did you mean `{similar_text}`?"
    return ""


def _is_unusual_character(character: str) -> bool:
    """Whether it looks like another character, or like none."""
    return character != "\n" and (not character.isascii() or not character.isprintable())


def _describe_character(text: str, index: int) -> str:
    import unicodedata

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
