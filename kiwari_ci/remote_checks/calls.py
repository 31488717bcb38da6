"""Calls programs and web servers with timeouts, in the background where several are called."""

import contextlib
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import IO, Any, Generic, TypeVar
from urllib.parse import urlsplit

REQUEST_TIMEOUT = 5  # seconds for one answer
TOTAL_TIMEOUT = 20  # seconds for everything
MAX_RESPONSE_BYTES = 5_000_000  # bytes of an answer
MAX_PROCESS_OUTPUT = 20_000_000  # bytes that a program prints to one stream
MAX_LINE_BYTES = 100_000  # bytes of a line that a program prints

# In place of the exit code of a program. A signal that ends one also gives a negative code, without a text.
NOT_INSTALLED = -1
TIMED_OUT = -2
PRINTED_TOO_MUCH = -3

T = TypeVar("T")


class BackgroundCall(Generic[T]):
    """Runs a callable in a daemon thread, with a timeout; one that hangs does not keep the process from ending."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._answers: list[T] = []
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._call, daemon=True)
        self._thread.start()

    def _call(self) -> None:
        try:
            self._answers.append(self._function())
        except BaseException as error:  # noqa: B036 - `answer` raises it in the thread that waits
            self._errors.append(error)

    def answer(self, deadline: float, default: T) -> T:
        """Wait for the result until a time of time.monotonic(), then return the default; raises what was raised."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._errors:
            raise self._errors[0]
        return self._answers[0] if self._answers else default


def await_answers(calls: Mapping[str, BackgroundCall[T]], deadline: float, default: T) -> dict[str, T]:
    """Wait for the results of several calls; one that does not come in time is the default."""
    return {name: call.answer(deadline, default) for name, call in calls.items()}


@dataclass(frozen=True)
class ProcessResult:
    """The result of a program. `code` is its exit code, or says why there is none."""

    code: int
    out: str
    err: str

    @property
    def is_not_installed(self) -> bool:
        """Whether there is no such program: then `err` says so."""
        return self.code == NOT_INSTALLED and bool(self.err)


def run_process(words: Sequence[str], stdin: str = "", seconds: float = REQUEST_TIMEOUT * 2) -> ProcessResult:
    """Run a program, with a timeout, and keep only so much of what it prints that the memory is not filled."""
    with tempfile.TemporaryFile() as question:
        question.write(stdin.encode())
        question.seek(0)
        try:
            process = subprocess.Popen(words, stdin=question, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except OSError as error:
            return ProcessResult(NOT_INSTALLED, "", f"{words[0]}: {error.strerror}")
    deadline = time.monotonic() + seconds
    out = BackgroundCall(lambda: _read_bounded(process, process.stdout))
    err = BackgroundCall(lambda: _read_bounded(process, process.stderr))
    code = None
    try:
        stdout, stderr = out.answer(deadline, None), err.answer(deadline, None)
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(max(0.0, deadline - time.monotonic()))
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if code is None or stdout is None or stderr is None:  # without a text, a program that it started holds the pipe
        return ProcessResult(TIMED_OUT, "", f"no answer within {seconds:g} s")
    if max(len(stdout), len(stderr)) > MAX_PROCESS_OUTPUT:
        problem = f"{words[0]} printed more than {MAX_PROCESS_OUTPUT:,} bytes: too much to read"
        return ProcessResult(PRINTED_TOO_MUCH, "", problem)
    return ProcessResult(code, stdout.decode(errors="replace"), stderr.decode(errors="replace"))


def _read_bounded(process: "subprocess.Popen[bytes]", stream: IO[bytes] | None) -> bytes | None:
    """All that a program prints to a stream; when it is too much, the program is ended.

    The stream is closed, so that what the program has started ends, too, when it writes on.
    """
    assert stream  # noqa: S101 - it is a pipe
    with stream:
        content = stream.read(MAX_PROCESS_OUTPUT + 1)
        if len(content) > MAX_PROCESS_OUTPUT:
            process.kill()
    return content


def stream_process(
    words: Sequence[str],
    print_line: Callable[[str, bool], None],
    keeps_stdin: bool = False,
    keeps_stdout: bool = False,
    stdin_text: str = "",
) -> ProcessResult:
    """Run a program that may take long, and give each of its lines away when it comes.

    `print_line` gets a line without its end, and whether it is of standard error. The result's texts have the last
    line of each stream only, because a log may have no end. The program reads `stdin_text` from standard input, which
    must be short enough for a pipe, and its standard output is read here, unless they are kept as those of this
    process.
    """
    stdin = None if keeps_stdin else subprocess.PIPE
    stdout = None if keeps_stdout else subprocess.PIPE
    try:
        process = subprocess.Popen(words, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE)
    except OSError as error:
        return ProcessResult(NOT_INSTALLED, "", f"{words[0]}: {error.strerror}")
    if process.stdin:
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(stdin_text.encode())
    last_lines = ["", ""]

    def read(stream: IO[bytes] | None, is_error: bool) -> None:
        for line in _iter_lines(stream):
            last_lines[is_error] = line.decode(errors="replace").rstrip("\r\n")
            print_line(last_lines[is_error], is_error)

    errors = threading.Thread(target=read, args=(process.stderr, True), daemon=True)
    errors.start()
    try:
        read(process.stdout, False)
        process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
        errors.join()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()
    return ProcessResult(process.returncode, *last_lines)


def _iter_lines(stream: IO[bytes] | None) -> Iterator[bytes]:
    """The lines of a stream; one that does not end comes in parts, so that it does not fill the memory."""
    while stream and (line := stream.readline(MAX_LINE_BYTES)):
        yield line


def run_in_terminal(words: Sequence[str]) -> ProcessResult:
    """Run a program in the terminal of this process, and wait for its end."""
    try:
        return ProcessResult(subprocess.run(words).returncode, "", "")
    except OSError as error:
        return ProcessResult(NOT_INSTALLED, "", f"{words[0]}: {error.strerror}")


@dataclass(frozen=True)
class HttpResponse:
    """A response over HTTP; status 0 means that there was none, and `text` says why."""

    status: int
    text: str
    headers: Mapping[str, str]


class _NoRedirectHandler(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, because the headers may hold a token for the first address only."""

    def redirect_request(self, *_: Any) -> None:
        return None


def fetch_url(url: str, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """GET a page; the headers are sent to this address and to no other."""
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
    """Whether a URL leads to this machine."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def describe_error(error: BaseException) -> str:
    """Describe an error for people."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        return describe_error(reason)
    if isinstance(error, TimeoutError):
        return f"no answer within {REQUEST_TIMEOUT} s"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def find_last_line(text: str) -> str:
    """The last line that a program printed, which mostly says why it failed."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no words"


def _lowercase_headers(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _read_error_body(error: urllib.error.HTTPError) -> str:
    try:
        return error.read(MAX_RESPONSE_BYTES).decode(errors="replace")
    except (OSError, HTTPException):
        return ""
