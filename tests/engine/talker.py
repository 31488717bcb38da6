"""Keeps a WebSocket open to each address until its standard input ends: says something, hears the answer, and again.

Run on the machine: talker.py URL... A line an address when it ends: how often it was answered, how often it had to
connect anew, the longest time without an answer (s), the address.
"""

import contextlib
import os
import socket
import sys
import threading
import time
from urllib.parse import urlsplit

HELLO = (
    "GET / HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
FRAME = b"\x81\x82" + os.urandom(4) + b"hi"  # text, masked, two bytes


def opened(url: str) -> socket.socket:
    """A connection that is a WebSocket; raises OSError when it does not become one."""
    place = urlsplit(url)
    connection = socket.create_connection((place.hostname, place.port or 80), timeout=5)
    connection.sendall(HELLO.format(place.netloc).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1) or b"\r\n\r\n"
    if b" 101 " not in head.split(b"\r\n")[0] or b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" not in head:
        connection.close()
        raise OSError(head)
    return connection


def talk(url: str, stop: threading.Event) -> None:
    """Talks until told to stop."""
    answered, times, longest, last = 0, 0, 0.0, time.monotonic()
    while not stop.is_set():
        with contextlib.suppress(OSError), opened(url) as connection:
            times += 1
            while not stop.wait(0.05):
                connection.sendall(FRAME)
                if not connection.recv(64).startswith(b"\x81"):
                    break
                now = time.monotonic()
                answered, longest, last = answered + 1, max(longest, now - last), now
        stop.wait(0.05)
    sys.stdout.write(f"{answered} {max(times - 1, 0)} {longest:.2f} {url}\n")


def main() -> None:
    """A thread for each address."""
    stop = threading.Event()
    threads = [threading.Thread(target=talk, args=(url, stop)) for url in sys.argv[1:]]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
