"""Whether a program still prints the words that a fault looks for in the log of a run.

`docs/failures.yaml` has every message that reports a failure of a deploy, and tests/test_failures.py compares it with
the programs. So words that are a part of such a message are still printed.
"""

import re
from collections.abc import Iterator

from docs.failures import GAP, entries, examples
from tests.notices import PULL_AGAIN, SUPERSEDED, WAITING

SECTIONS = ("host", "workflows", "others")  # what a run of a deploy to a host prints
NOTICES = (PULL_AGAIN, SUPERSEDED, WAITING)
OTHER_PROGRAMS = {
    "--- FAIL: TestAPI": "go test",
    "/shared/words": "docker build, which does not find a file of a COPY",
    "exec /app failed": "docker-init, for a program of another processor",
}
FEWEST_CHARACTERS = 10  # of the fixed text of a message: fewer, such as ` is not `, are a part of many messages


def is_still_printed(words: str) -> bool:
    """Whether the words have a notice in them, are another program's, or are a part of a documented message."""
    if len(words) < FEWEST_CHARACTERS:
        return False
    if words in OTHER_PROGRAMS or any(notice in words for notice in NOTICES):
        return True
    if any(fixed_characters(words, message) >= FEWEST_CHARACTERS for message in messages()):
        return True
    return any(without_numbers(words) in without_numbers(example) for example in printed_examples())


def messages() -> Iterator[str]:
    """The documented messages, with … for each part that varies."""
    for section in SECTIONS:
        for entry in entries()[section].values():
            yield entry["message"]


def printed_examples() -> Iterator[str]:
    """The documented messages, as they are printed once."""
    for section in SECTIONS:
        for name, entry in entries()[section].items():
            yield examples().get(name) or entry.get("shown", "")


def without_numbers(text: str) -> str:
    """A text in which all numbers are the same, because they differ from one time to the next."""
    return re.sub(r"\d+", "0", text)


def fixed_characters(words: str, message: str) -> int:
    """How many characters of the words are fixed text of the message; 0 if it is never printed with the words in it.

    The words are followed through the message from each of its places at once. `counts` has the places that they have
    reached, each with the number of fixed characters on the way there.
    """
    counts = with_ends_of_gaps(dict.fromkeys(range(len(message) + 1), 0), message)
    for character in words:
        reached: dict[int, int] = {}
        for place, count in counts.items():
            expected = message[place : place + 1]
            if expected == GAP:
                reached[place] = max(count, reached.get(place, 0))
            elif expected == character:
                reached[place + 1] = max(count + 1, reached.get(place + 1, 0))
        counts = with_ends_of_gaps(reached, message)
    return max(counts.values(), default=0)


def with_ends_of_gaps(counts: dict[int, int], message: str) -> dict[int, int]:
    """The places, and for each that is a … also the one behind it: a part that varies can end anywhere."""
    reached = dict(counts)
    for place in sorted(counts):
        if message[place : place + 1] == GAP:
            reached[place + 1] = max(reached[place], reached.get(place + 1, 0))
    return reached
