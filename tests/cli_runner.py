"""The command line as a user has it, run in this process."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest.mock import patch

import pytest

from kiwari_ci.cli import app
from kiwari_ci.readers import git
from tests.shared_loading import loading_each_spec_once


@dataclass(frozen=True)
class CommandResult:
    """The exit code of a run, and what it printed."""

    code: int
    out: str
    err: str


def kiwari_ci(*words: object) -> CommandResult:
    """Run `kiwari-ci` with these words; no exception but its exit gets out."""
    git.forget_checkouts()
    out, err = io.StringIO(), io.StringIO()
    argv = patch.object(sys, "argv", ["kiwari-ci", *map(str, words)])
    with (
        loading_each_spec_once(),
        argv,
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        app.main()
    return CommandResult(int(ended.value.code or 0), out.getvalue(), err.getvalue())
