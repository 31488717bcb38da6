"""What a trial comes to: what the colour said, and whether that was so."""

from dataclasses import dataclass

WORDS = GREEN_RIGHT, RED_RIGHT, GREEN_WRONG, RED_WRONG = "green, right", "red, right", "green, WRONG", "red, WRONG"


@dataclass(frozen=True)
class Verdict:
    """One pipeline's answer to one fault: the colour with its truth, what was seen, and the requests that failed."""

    word: str
    seen: str
    asked: int = 0
    failed: int = 0


def judged(green: bool, right: bool) -> str:
    """The word for a colour and its truth."""
    return {
        (True, True): GREEN_RIGHT,
        (False, True): RED_RIGHT,
        (True, False): GREEN_WRONG,
        (False, False): RED_WRONG,
    }[green, right]
