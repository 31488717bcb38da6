"""Which changes of the host script may stay green, and why; and which ones the quick part tries."""

EXCEPTIONS: dict[str, str] = {}
QUICK: dict[str, str] = {}
