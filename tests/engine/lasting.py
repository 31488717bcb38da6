"""Asks addresses for what lasts until its standard input ends: one connection kept, slow answers, slow uploads.

Run on the machine: lasting.py URL... A line for each kind and address at the end: the kind, how many requests there
were, how many failed, the address, and the failures. A slow answer and an upload take ten seconds each, and a new one
of each begins every second. The kept connection asks every 100 ms; a request on it fails when it was sent and no
answer came, as a browser would see it for a POST, which is not sent a second time.
"""

import http.client
import sys
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

LASTS = 10  # seconds
PARTS = 20  # of an upload
KINDS = ("kept", "slow", "upload")


class Tally:
    """How often something was asked, and what failed."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.asked = 0
        self.failures: list[str] = []

    def note(self, failure: str) -> None:
        """One request more; without a failure it is empty."""
        with self.lock:
            self.asked += 1
            if failure:
                self.failures.append(failure)


def ask(connection: http.client.HTTPConnection, path: str, body: Iterator[bytes] | None = None) -> str:
    """One request; why it failed, or nothing."""
    began = time.monotonic()
    try:
        if body is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, body=body, headers={"Content-Length": str(PARTS)})
        answer = connection.getresponse()
        answer.read()
        failure = "" if answer.status == 200 else str(answer.status)
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        failure = type(error).__name__
    return failure and f"{failure}@{time.monotonic() - began:.1f}s"


def keep_asking(url: str, tally: Tally, stop: threading.Event) -> None:
    """Many requests over one connection."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=30)
    while not stop.wait(0.1):
        tally.note(ask(connection, "/"))


def ask_once(url: str, kind: str, tally: Tally) -> None:
    """One request that lasts, over a connection of its own."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=60)
    tally.note(ask(connection, f"/{kind}", dribble() if kind == "upload" else None))
    connection.close()


def dribble() -> Iterator[bytes]:
    """The body of an upload, a byte at a time."""
    for _ in range(PARTS):
        time.sleep(LASTS / PARTS)
        yield b"x"


def stop_at_the_end_of_input(stop: threading.Event) -> None:
    """Stops the rest when whoever started this closes its standard input."""
    sys.stdin.read()
    stop.set()


def main() -> None:
    """All kinds for all addresses; what has begun is waited for."""
    urls = sys.argv[1:]
    tallies = {(kind, url): Tally() for kind in KINDS for url in urls}
    stop = threading.Event()
    threads = [threading.Thread(target=keep_asking, args=(url, tallies["kept", url], stop)) for url in urls]
    for thread in threads:
        thread.start()
    threading.Thread(target=stop_at_the_end_of_input, args=(stop,)).start()
    while not stop.wait(1):
        for url in urls:
            for kind in ("slow", "upload"):
                threads.append(threading.Thread(target=ask_once, args=(url, kind, tallies[kind, url])))
                threads[-1].start()
    for thread in threads:
        thread.join()
    for (kind, url), tally in tallies.items():
        print(kind, tally.asked, len(tally.failures), url, *tally.failures)


if __name__ == "__main__":
    main()
