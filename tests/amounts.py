"""How much of a test the ordinary tests run, and how much CI runs."""

from typing import Any

import pytest


def sample_or_all(sample: Any, everything: Any) -> list[Any]:
    """Two values of a parameter: the ordinary tests have the first one, CI has the second one, which covers the first.

    `make test ALL=1` runs what CI runs.
    """
    return [pytest.param(sample, marks=pytest.mark.sample), pytest.param(everything, marks=pytest.mark.exhaustive)]
