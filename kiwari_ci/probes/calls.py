"""Asking the world: side by side, with a limit on every wait, and without a trace of a secret."""

import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

REQUEST_TIMEOUT = 5  # seconds for one answer
TOTAL_TIMEOUT = 20  # seconds for everything
MAX_RESPONSE_BYTES = 5_000_000  # bytes of an answer

T = TypeVar("T")


class BackgroundCall(Generic[T]):
    """A question, asked by a thread of its own; nobody waits for one that does not come back, at exit neither."""

    def __init__(self, question: Callable[[], T]) -> None:
        self._question = question
        self._answers: list[T] = []
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        try:
            self._answers.append(self._question())
        except BaseException as error:  # noqa: B036 - told to whoever wants the answer
            self._errors.append(error)

    def answer(self, until: float, late: T) -> T:
        """The answer, or `late` when there is none at that time (of time.monotonic); raises what the question did."""
        self._thread.join(max(0.0, until - time.monotonic()))
        if self._errors:
            raise self._errors[0]
        return self._answers[0] if self._answers else late


@dataclass(frozen=True)
class ProcessResult:
    """What a program said; `code` is -1 when it is not installed, -2 when it did not end in time."""

    code: int
    out: str
    err: str


def run_process(words: Sequence[str], stdin: str = "", seconds: float = REQUEST_TIMEOUT * 2) -> ProcessResult:
    """Run a program; whatever it is, it comes back in time."""
    try:
        done = subprocess.run(words, input=stdin.encode(), capture_output=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return ProcessResult(-2, "", f"no answer within {seconds:g} s")
    except OSError as error:
        return ProcessResult(-1, "", f"{words[0]}: {error.strerror}")
    return ProcessResult(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


@dataclass(frozen=True)
class HttpResponse:
    """An answer over HTTP; status 0: there was none, and `text` says why."""

    status: int
    text: str
    headers: Mapping[str, str]


class _NoRedirectHandler(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer: what is sent along is for this address only."""

    def redirect_request(self, *_: Any) -> None:
        return None


def fetch_url(url: str, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """GET a page; a token in the headers goes to this address and no further."""
    handlers: list[urllib.request.BaseHandler] = [_NoRedirectHandler()]
    if is_loopback_url(url):
        handlers.append(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, headers={"User-Agent": "kiwari-ci", **(headers or {})})
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=REQUEST_TIMEOUT) as answer:
            return HttpResponse(
                answer.status,
                answer.read(MAX_RESPONSE_BYTES).decode(errors="replace"),
                _lowercase_headers(answer.headers),
            )
    except urllib.error.HTTPError as error:
        with error:
            return HttpResponse(error.code, _read_error_body(error), _lowercase_headers(error.headers))
    except (OSError, HTTPException, ValueError) as error:
        return HttpResponse(0, describe_error(error), {})


def is_loopback_url(url: str) -> bool:
    """Whether an address leads to this machine."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def describe_error(error: BaseException) -> str:
    """An error as a person would say it."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        return describe_error(reason)
    if isinstance(error, TimeoutError):
        return f"no answer within {REQUEST_TIMEOUT} s"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def find_last_line(text: str) -> str:
    """What a program says last is why it failed."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no words"


def _lowercase_headers(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _read_error_body(error: urllib.error.HTTPError) -> str:
    try:
        return error.read(MAX_RESPONSE_BYTES).decode(errors="replace")
    except (OSError, HTTPException):
        return ""
