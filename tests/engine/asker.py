"""Asks an address every 50 ms until its standard input ends, each time anew, and prints what came: run on the machine.

A line an answer: when it was asked (s), how long it took (s), the status (0: none), the first word of the body.
"""

import select
import sys
import threading
import time
import urllib.error
import urllib.request


def ask(url: str, began: float) -> None:
    """One request, as a browser behind the proxy sees it: ten seconds of patience."""
    asked = time.monotonic()
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            status, body = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        status, body = error.code, ""
        error.close()
    except OSError as error:
        status, body = 0, type(error).__name__
    line = f"{asked - began:.3f} {time.monotonic() - asked:.3f} {status} {body.split()[0] if body else '-'}\n"
    sys.stdout.write(line)
    sys.stdout.flush()


def main() -> None:
    """Asks until told to stop, then waits for the answers that are still out."""
    url, began = sys.argv[1], time.monotonic()
    threads = []
    while not select.select([sys.stdin], [], [], 0.05)[0]:
        threads.append(threading.Thread(target=ask, args=(url, began)))
        threads[-1].start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
