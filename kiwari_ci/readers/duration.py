"""Durations as Compose and a spec write them: `90s`, `1m30s`, `2h`."""

import re

_DURATION = re.compile(r"(\d{1,9}[hms])+")
_AMOUNT = re.compile(r"(\d+)([hms])")
_SECONDS_PER_UNIT = {"h": 3600, "m": 60, "s": 1}


def is_duration(text: str) -> bool:
    """Whether a text is a duration of hours, minutes and seconds."""
    return _DURATION.fullmatch(text) is not None


def parse_duration(duration: str) -> int:
    """Convert a duration to seconds."""
    return sum(int(amount) * _SECONDS_PER_UNIT[unit] for amount, unit in _AMOUNT.findall(duration))
