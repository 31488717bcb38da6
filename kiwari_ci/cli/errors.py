"""How a command ends: its result becomes the exit code, and a mistake of the user becomes a message."""

import sys
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from kiwari_ci import problems
from kiwari_ci.cli import terminal
from kiwari_ci.cli.options import select_output_format
from kiwari_ci.file_output import atomic_write

EXIT_DRIFT = EXIT_FAULTS = 1
EXIT_BAD_SPEC, EXIT_CANNOT_WRITE = 2, 73


def exit_with_code(command: Callable[..., int]) -> Callable[..., None]:
    """Turn the result of a command into an exit code, and a mistake of the user into a message."""

    @wraps(command)
    def run(**options: Any) -> None:
        try:
            sys.exit(command(**options))
        except problems.SpecError as error:
            print_problems(error.problems, options.get("style"), err=True)
            sys.exit(EXIT_BAD_SPEC)
        except atomic_write.OutputError as error:
            terminal.print_text(f"{error.title}\n{error}", err=True)
            sys.exit(EXIT_CANNOT_WRITE)

    return run


def print_problems(problem_list: Iterable[problems.Problem], style: str | None, err: bool = False) -> None:
    """Print problems in the chosen format; text for people goes to standard error where `err` says so."""
    output_format = select_output_format(style)
    if output_format == "json":
        terminal.print_text(problems.format_problems_json(problem_list))
    elif output_format == "github":
        _print_if_any(problems.format_problems_github(problem_list))
    elif text := terminal.format_coloured_problems(problem_list):
        terminal.print_coloured_text(text, err=err)


def _print_if_any(text: str) -> None:
    if text:
        terminal.print_text(text)
