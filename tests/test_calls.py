"""Programs that the doctor and others call: bounded in time and in memory."""

import resource
import sys
import time
from collections.abc import Iterator

import pytest

from kiwari_ci.remote_checks import calls


@pytest.fixture
def _little_memory() -> Iterator[None]:
    """So little more than now that an answer without end does not fit."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2_000_000_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.usefixtures("_little_memory")
@pytest.mark.parametrize("stream", ["1", "2"])
def test_an_answer_without_end_is_refused(stream: str) -> None:
    result = calls.run_process(["bash", "-c", f"yes >&{stream}"], seconds=30)
    problem = "bash printed more than 20,000,000 bytes: too much to read"
    assert result == calls.ProcessResult(calls.PRINTED_TOO_MUCH, "", problem)


def test_an_answer_that_fits_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MAX_PROCESS_OUTPUT", 10)
    assert calls.run_process(["printf", "0123456789"]).out == "0123456789"
    assert calls.run_process(["printf", "0123456789+"]).code == calls.PRINTED_TOO_MUCH


def test_a_program_reads_its_input_and_returns_its_code() -> None:
    script = "import sys; print(sys.stdin.read() * 2); print('oh', file=sys.stderr); sys.exit(3)"
    assert calls.run_process([sys.executable, "-c", script], "é") == calls.ProcessResult(3, "éé\n", "oh\n")


def test_a_long_input_that_nobody_reads_is_no_trouble() -> None:
    assert calls.run_process(["true"], "a" * 1_000_000).code == 0


@pytest.mark.parametrize("script", ["sleep 20", "sleep 20 & exit 0"])
def test_a_program_that_does_not_end_is_not_waited_for(script: str) -> None:
    started = time.monotonic()
    result = calls.run_process(["bash", "-c", script], seconds=0.3)
    assert result == calls.ProcessResult(calls.TIMED_OUT, "", "no answer within 0.3 s")
    assert time.monotonic() - started < 5


def test_a_program_that_is_not_there() -> None:
    assert calls.run_process(["/nothing/here"]) == calls.ProcessResult(
        -1, "", "/nothing/here: No such file or directory"
    )
