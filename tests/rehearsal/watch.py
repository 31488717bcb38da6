"""Which programs were started with a password among their arguments, where everybody on the machine can read it."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path


class Watch:
    """Reads the arguments of every process, 250 times a second; `leaks` are the programs that held the mark."""

    def __init__(self, mark: str, sample: str) -> None:
        self.mark, self.sample = mark, sample
        self.leaks: set[str] = set()
        self.saw_sample = False  # of a process that lives for milliseconds: a watch that misses it proves nothing
        self.stopped = threading.Event()

    @contextlib.contextmanager
    def watching(self) -> Iterator["Watch"]:
        """Watches while the block runs."""
        thread = threading.Thread(target=self.read)
        thread.start()
        try:
            yield self
        finally:
            self.stopped.set()
            thread.join()

    def read(self) -> None:
        """Looks until stopped; a young process is read again: a container's program first is runc."""
        born: dict[str, float] = {}
        while not self.stopped.wait(0.004):
            now = time.monotonic()
            born = {name: born.get(name, now) for name in os.listdir("/proc") if name.isdigit()}
            for name, since in born.items():
                if now - since < 3:
                    self.note(name)

    def note(self, process: str) -> None:
        """Looks at one process."""
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")
            self.saw_sample |= self.sample in words
            if self.mark in words:
                self.leaks.add(words.partition("\0")[0].rpartition("/")[2])
