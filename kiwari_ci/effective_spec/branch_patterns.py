"""Patterns of branches: `*` stands for anything but a slash, and `**` for anything."""

import re
from collections.abc import Iterable

_STARS = re.compile(r"(\*\*?)")


def format_branch_regex(patterns: Iterable[str]) -> str:
    """Format a regular expression for Bash and Python that matches the names of the branches of several patterns."""
    return "(" + "|".join(_format_pattern_regex(pattern) for pattern in patterns) + ")"


def format_branch_words(patterns: Iterable[str]) -> str:
    """Format patterns for people."""
    return " or ".join("any branch" if pattern == "**" else pattern for pattern in patterns)


def format_policy_pattern(pattern: str) -> str:
    """Format a pattern as the environments of GitHub take it, where `**` stands for whole folders.

    Source: "Deployment branch policies", REST API, which refers to Ruby's `File.fnmatch` with `FNM_PATHNAME`.
    """
    return re.sub(r"\*\*$", "**/*", pattern)


def _format_pattern_regex(pattern: str) -> str:
    replaced = {"*": "[^/]*", "**": ".*"}
    return "".join(replaced.get(part) or part.replace(".", "[.]") for part in _STARS.split(pattern))
