"""A spec held against small repositories, made with git as a person makes them."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kiwari_ci import checkout
from kiwari_ci.context import Context
from kiwari_ci.dockerfile import Taken
from tests.command import Said, kiwari_ci

CASES = sorted((Path(__file__).parent / "cases/lint").glob("*.txt"))
SECTION = re.compile(r"^-- (.+) --\n", re.MULTILINE)
SPEC = """project: {name: shop, repository: example/shop}
hosts: {vps: {}}
services:
  web: {port: 8080, paths: [PATHS], build: {context: CONTEXT, dockerfile: web/Dockerfile}}
environments:
  live: {deploy_on: {push: main}}
"""


def git(folder: Path, *words: str) -> None:
    names = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", *names, *words], cwd=folder, check=True, capture_output=True)


def made(folder: Path, files: dict[str, str]) -> Path:
    """A repository whose files are all tracked."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "init", "-q")
    git(folder, "add", "--all")
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, outside GitHub Actions."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    return tmp_path


def spec(paths: str = "web/**", context: str = ".") -> str:
    return SPEC.replace("PATHS", paths).replace("CONTEXT", context)


def rules(*words: object) -> list[tuple[str, str, int]]:
    """What is found: rule, file and line."""
    said = kiwari_ci("lint", *words, "--format", "json")
    assert said.err == ""
    problems = json.loads(said.out)["problems"]
    assert said.code == any(each["severity"] == "error" for each in problems)
    return [(each["rule"], each["path"], each["line"]) for each in problems]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_case(case: Path, here: Path, snapshot: Any) -> None:
    """Each case is a list of files; what `lint` prints of them stands beside it."""
    title, *parts = SECTION.split(case.read_text())
    assert title.startswith("# ")
    made(here, dict(zip(parts[::2], parts[1::2], strict=True)))
    said = kiwari_ci("lint", "spec.yaml", "--format", "text")
    assert said.err == ""
    snapshot.snapshot_dir = case.parent
    snapshot.assert_match(said.out.partition("GitHub keeps:")[0] or said.out, f"{case.stem}.out")
    assert said.code == (" errors 0, " not in said.out)
