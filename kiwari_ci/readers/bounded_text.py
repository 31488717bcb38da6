"""Fills values into other people's texts, within bounds: a few variables that repeat each other grow without end."""

import re
from collections.abc import Callable, Iterator

MAX_FILLED_LENGTH = 100_000  # characters of a text with its values
MAX_VALUE_LENGTH = 5_000  # characters of one value


def fill_in_values(pattern: re.Pattern[str], get_value: Callable[[re.Match[str]], str], text: str) -> str:
    """A text with each match replaced by a value, as `pattern.sub` makes it; what is longer is cut off."""
    filled: list[str] = []
    length = 0
    for part in _iter_parts(pattern, get_value, text):
        filled.append(part)
        length += len(part)
        if length > MAX_FILLED_LENGTH:
            break
    return "".join(filled)[:MAX_FILLED_LENGTH]


def _iter_parts(pattern: re.Pattern[str], get_value: Callable[[re.Match[str]], str], text: str) -> Iterator[str]:
    """The text between the matches, and the value of each of them, in their order."""
    end = 0
    for match in pattern.finditer(text):
        yield text[end : match.start()]
        yield get_value(match)[:MAX_VALUE_LENGTH]
        end = match.end()
    yield text[end:]
