"""How a container is asked over HTTP: a real socket answers, in every way that a container may."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterable, Iterator

import pytest

from kiwari_ci.engines.compose.deploy_programs import deploy as deploy_program


@contextlib.contextmanager
def server(blocks: Iterable[bytes], asked: list[bytes]) -> Iterator[int]:
    """Answer one request with these blocks; the port is given."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    asked.append(connection.recv(65536))
                    for block in blocks:
                        connection.sendall(block)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
    thread.join(5)


def slowly(block: bytes) -> Iterator[bytes]:
    while True:
        yield block
        time.sleep(0.02)


def without_end(first: bytes, block: bytes) -> Iterator[bytes]:
    yield first
    while True:
        yield block


def ask(blocks: Iterable[bytes], headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    asked: list[bytes] = []
    with server(blocks, asked) as port:
        status = deploy_program.Machine().http_status("127.0.0.1", port, "/health?x=1", headers or {})
    return status, asked[0]


@pytest.mark.parametrize("status", [200, 302, 404, 503])
def test_the_status_of_the_answer(status: int) -> None:
    answer, request = ask([f"HTTP/1.1 {status} Words\r\n\r\n".encode()], {"Host": "shop.example.com"})

    assert answer == status
    assert request == b"GET /health?x=1 HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n"


def test_an_answer_in_pieces() -> None:
    assert ask([b"HTT", b"P/1.0 20", b"4 No Content\r\n"])[0] == 204


def test_a_body_without_an_end_is_not_read() -> None:
    assert ask(without_end(b"HTTP/1.1 200 OK\r\n\r\n", 65536 * b"x"))[0] == 200


@pytest.mark.parametrize("blocks", [[], [b"SSH-2.0-OpenSSH\r\n"], [b"HTTP/2 200\r\n"]])
def test_what_is_no_http(blocks: list[bytes]) -> None:
    with pytest.raises((ValueError, OSError)):
        ask(blocks)


def test_a_first_line_without_an_end() -> None:
    with pytest.raises(ValueError, match="the answer is not HTTP"):
        ask(without_end(b"x", 1024 * b"x"))


def test_a_first_line_that_comes_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is for the whole answer, not for each piece of it."""
    monkeypatch.setattr(deploy_program, "ANSWER_SECONDS", 0.3)
    began = time.monotonic()

    with pytest.raises((ValueError, OSError)):
        ask(slowly(b"x"))

    assert time.monotonic() - began < 10
