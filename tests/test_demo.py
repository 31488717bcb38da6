"""The demo runs, shows what it says, stops where that is not so, leaves nothing; the first hour is short."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[1] / "docs/demo"
SHOWN = (
    "$ kiwari-ci init\nwrote specs/shop.yaml: services 1\n",
    "    domains: {web: shop.example.com}\n",
    "$ kiwari-ci validate\nspecs/shop.yaml is sound: services 1, environments 1",
    "services 1, errors 0",
    "  ! `.github/workflows/deploy.yml` would deploy `production`",
    "  new      deploy/bin/deploy\n",
    ".: 9 files agree with specs/shop.yaml\n",
    "-# quick fix\n",
    "cure: kiwari-ci generate\n$ kiwari-ci generate\n",
    "  changed  deploy/bin/deploy\n",
    "hint: did you mean `paths`?\n",
    "### 10. Take over what serves today\n",
    ". is yours: nothing in it needs kiwari-ci\n",
    "15 steps, each did what it shows.",
)


def environment(folder: Path, **more: str) -> dict[str, str]:
    """What the demo is run with: its scratch folder is in that folder."""
    (folder / "a place").mkdir()
    programs = f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {"PATH": programs, "TMPDIR": str(folder / "a place"), "GIT_DIR": "elsewhere", "DEMO_PAUSE": "0", **more}


def demo(folder: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    """Runs it to its end, from a folder that is not the repository's; nothing is left."""
    done = subprocess.run(
        [DEMO], cwd=folder, env=environment(folder, **more), capture_output=True, text=True, timeout=120
    )
    assert list((folder / "a place").iterdir()) == []
    return done


@pytest.mark.exhaustive
def test_shows_what_it_says(tmp_path: Path) -> None:
    done = demo(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    place = 0
    for words in SHOWN:
        place = done.stdout.find(words, place)
        assert place >= 0, f"not there, or not in this place: {words}\n{done.stdout}"
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("body", "words"),
    [("echo fine", 'exit code 0 and "wrote specs/shop.yaml"'), ("echo wrote specs/shop.yaml; exit 1", "it was 1:")],
)
def test_stops_at_a_step_that_does_something_else(tmp_path: Path, body: str, words: str) -> None:
    (tmp_path / "kiwari-ci").write_text(f"#!/bin/sh\n{body}\n")
    (tmp_path / "kiwari-ci").chmod(0o755)
    done = demo(tmp_path)
    assert done.returncode == 1 and words in done.stderr, done.stderr
    assert "steps, each did" not in done.stdout


def test_says_what_it_needs(tmp_path: Path) -> None:
    done = demo(tmp_path, DEMO_PAUSE="soon")
    assert done.returncode == 2 and "DEMO_PAUSE=0" in done.stderr
    (tmp_path / "a place").rmdir()
    lacks = demo(tmp_path, PATH="/usr/bin:/bin")
    assert lacks.returncode == 2 and "needs kiwari-ci on PATH" in lacks.stderr


def test_leaves_nothing_when_it_is_interrupted(tmp_path: Path) -> None:
    place = environment(tmp_path, DEMO_PAUSE="60")
    heard = [
        "env",
        "--default-signal=INT",
        str(DEMO),
    ]  # who runs the tests in the background ignores it, and so would this
    with subprocess.Popen(heard, env=place, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        end = time.monotonic() + 30
        while not list((tmp_path / "a place").glob("*/shop/.git")):
            assert time.monotonic() < end
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
    assert process.returncode == 130
    assert list((tmp_path / "a place").iterdir()) == []


def test_the_first_hour_is_short() -> None:
    """Twelve steps by hand, numbered in their order, with every step of the longest runbook in them."""
    page = (DEMO.parent / "first-hour.md").read_text()
    steps = [int(number) for number in re.findall(r"^(\d+)\. ", page, re.MULTILINE)]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) <= 12
    named = [re.findall(r"\d+", words) for words in re.findall(r"Runbook, steps? ([\d a-z]+)\*\*", page)]
    followed = {number for first, *last in named for number in range(int(first), int((last or [first])[0]) + 1)}
    runbook = (DEMO.parents[1] / "generated/deploy/RUNBOOK.md").read_text()
    assert followed == {int(number) for number in re.findall(r"^### (\d+)\.", runbook, re.MULTILINE)}
