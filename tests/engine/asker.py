"""Asks addresses every so many seconds until its standard input ends, each time anew, and prints what came.

Run on the machine: asker.py SECONDS URL... A line an answer: when it was asked (s), how long it took (s), the status
(0: none), the first word of the body, the address.
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
    word = body.split()[0] if body else "-"
    line = f"{asked - began:.3f} {time.monotonic() - asked:.3f} {status} {word} {url}\n"
    sys.stdout.write(line)
    sys.stdout.flush()


def main() -> None:
    """Asks until told to stop, then waits for the answers that are still out."""
    seconds, urls, began = float(sys.argv[1]), sys.argv[2:], time.monotonic()
    threads = []
    while not select.select([sys.stdin], [], [], seconds)[0]:
        for url in urls:
            threads.append(threading.Thread(target=ask, args=(url, began)))
            threads[-1].start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
