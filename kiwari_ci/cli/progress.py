"""What a person sees while a command works for long: a line on standard error that goes away when it is done."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

DELAY, INTERVAL = 0.5, 0.2  # seconds before the line appears, and between its changes
_FRAMES = "|/-\\"
_ERASE_LINE = "\r\x1b[K"


@contextmanager
def show_progress(activity: str, quiet: bool = False) -> Iterator[None]:
    """Say what a command is doing and for how long, where standard error is a terminal and nobody asked for quiet."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    is_done = threading.Event()
    painter = threading.Thread(target=_paint_until_done, args=(activity, is_done), daemon=True)
    painter.start()
    try:
        yield
    finally:
        is_done.set()
        painter.join()


def _paint_until_done(activity: str, is_done: threading.Event) -> None:
    started = time.monotonic()
    if is_done.wait(DELAY):
        return
    frame = 0
    while True:
        seconds = time.monotonic() - started
        sys.stderr.write(f"{_ERASE_LINE}{_FRAMES[frame % len(_FRAMES)]} {activity} ({seconds:.0f} s)")
        sys.stderr.flush()
        frame += 1
        if is_done.wait(INTERVAL):
            break
    sys.stderr.write(_ERASE_LINE)
    sys.stderr.flush()
