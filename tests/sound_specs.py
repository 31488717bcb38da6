"""The sound specs of the repository, and what each of them generates: made once for all tests that look at it."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from kiwari_ci import generator
from kiwari_ci.file_output.generated_files import GeneratedFile
from kiwari_ci.plan_model import Plan

ROOT = Path(__file__).parents[1]
CASES = sorted(ROOT.glob("tests/cases/ok/*/spec.yaml"))


@cache
def generate(spec: Path) -> tuple[Plan, Mapping[str, GeneratedFile]]:
    """The plan and the files of a spec of the repository; nothing of them can be changed."""
    plan, files = generator.generate_files(spec)
    return plan, MappingProxyType(files)
