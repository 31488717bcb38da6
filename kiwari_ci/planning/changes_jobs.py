"""The job that tells which services a change touches, and the conditions of the jobs that depend on it."""

from collections.abc import Sequence

from kiwari_ci.github_facts import path_filters
from kiwari_ci.plan_model import ChangeOutput, PathFilter

JOB = "changes"


def plan_change_output(name: str, filters: Sequence[PathFilter]) -> ChangeOutput:
    """Plan the output that is `true` if a change touches a file that the filters match."""
    patterns = dict.fromkeys(path_filter.pattern for path_filter in filters)
    unique_filters = [
        next(path_filter for path_filter in filters if path_filter.pattern == pattern) for pattern in patterns
    ]
    unique_filters.sort(key=lambda path_filter: path_filter.pattern.startswith("!"))  # exclusions come last
    pathspecs = path_filters.build_git_pathspecs([path_filter.pattern for path_filter in unique_filters])
    return ChangeOutput(name, tuple(unique_filters), tuple(pathspecs))


def format_touched(services: Sequence[str]) -> str:
    """Format the condition that a change touches one of some services."""
    return " || ".join(f"needs.{JOB}.outputs.{service} == 'true'" for service in services)
