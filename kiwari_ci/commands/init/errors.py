"""Errors that stop `init`; docs/init.md explains each of them."""

from typing import Literal

from kiwari_ci.problems import Problem, SpecError

InitRule = Literal["no-folder", "not-the-root", "no-repository", "no-dockerfile", "no-service", "several-specs"]


def build_init_error(rule: InitRule, message: str, path: str, hint: str) -> SpecError:
    """An error with the command or the edit that mends it."""
    return SpecError([Problem(rule, message, path, hint=hint)])
