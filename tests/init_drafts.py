"""Drafts of `kiwari-ci init` for repositories that a test writes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kiwari_ci.commands.init import build_init_result
from kiwari_ci.commands.init.draft_text import InitResult
from kiwari_ci.spec_loading.yaml_source import parse_yaml
from tests.shared_loading import loading_each_spec_once


def draft_files(folder: Path, files: Mapping[str, str]) -> tuple[dict[str, Any], InitResult]:
    """Write the files of a repository into a folder; the spec that is drafted for it, and what is said beside it."""
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    with loading_each_spec_once():
        result = build_init_result(folder, "example/shop")
    spec: dict[str, Any] = parse_yaml(result.path, result.text).data
    return spec, result
