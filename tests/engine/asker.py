"""Asks addresses every so many seconds until its standard input ends, each time anew, and prints what came.

Run on the machine: asker.py SECONDS URL... A URL may end in @ADDRESS: then the request goes to that address, whatever
the name of the URL means. A line an answer: when it was asked (s), how long it took (s), the status (0: none), the
first word of the body, the URL as it was given.
"""

import http.client
import select
import socket
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request

PATIENCE = 10  # seconds, as a browser behind the proxy has it
TRUST = ssl.create_default_context()


def open_at(url: str, address: str) -> http.client.HTTPResponse:
    """Sends one request for an https URL to an address."""
    place = urllib.request.Request(url)
    connection = http.client.HTTPSConnection(place.host, timeout=PATIENCE)
    plain = socket.create_connection((address, 443), timeout=PATIENCE)
    connection.sock = TRUST.wrap_socket(plain, server_hostname=place.host)
    connection.request("GET", place.selector, headers={"Connection": "close"})
    return connection.getresponse()


def ask(word: str, began: float) -> None:
    """One request."""
    url, _, address = word.partition("@")
    asked = time.monotonic()
    try:
        with open_at(url, address) if address else urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            status, body = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        status, body = error.code, ""
        error.close()
    except (OSError, http.client.HTTPException) as error:
        status, body = 0, type(error).__name__
    first = body.split()[0] if body else "-"
    line = f"{asked - began:.3f} {time.monotonic() - asked:.3f} {status} {first} {word}\n"
    sys.stdout.write(line)
    sys.stdout.flush()


def main() -> None:
    """Asks until told to stop, then waits for the answers that are still out."""
    seconds, words, began = float(sys.argv[1]), sys.argv[2:], time.monotonic()
    threads = []
    while not select.select([sys.stdin], [], [], seconds)[0]:
        for word in words:
            threads.append(threading.Thread(target=ask, args=(word, began)))
            threads[-1].start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
