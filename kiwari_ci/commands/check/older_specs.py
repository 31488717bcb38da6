"""The specs that a tree may have been made of: the one that lies in it, and those that git has at its place."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kiwari_ci import generator
from kiwari_ci.github import action_pins
from kiwari_ci.loading import yaml_source
from kiwari_ci.output.generated_files import Tree
from kiwari_ci.problems import Faults
from kiwari_ci.readers.tracked_files import GIT, quiet
from kiwari_ci.rendering.render import render

MOST = 5  # versions that git is asked for
SECONDS = 20  # for git


@dataclass(frozen=True)
class Made:
    """An older spec, and what it makes by the templates and pins of today."""

    spec: yaml_source.Source
    tree: Tree


@dataclass(frozen=True)
class Before:
    """What the tree was perhaps made of, newest first. `is_told`: an older spec would be here, if there was one."""

    made: list[Made]
    is_told: bool


def of(root: Path, path: str, spec: Path, text: str, environ: Mapping[str, str]) -> Before:
    """Look for specs at `path` below `root` that are not this text; `spec` is the one in use."""
    there, is_copy = _copy(root / path), not _is_same(root / path, spec)
    older, is_told = _of_git((root / path).parent, Path(path).name, environ)
    texts = dict.fromkeys(each for each in [there, *older] if each is not None and each != text)
    made = [found for each in texts if (found := _made(path, each, action_pins.own(spec)))]
    return Before(made, is_told or (is_copy and there is not None))


def _is_same(copy: Path, spec: Path) -> bool:
    try:
        return copy.samefile(spec)
    except OSError:
        return False


def _copy(path: Path) -> str | None:
    if not path.is_file() or path.stat().st_size > yaml_source.LARGEST:
        return None
    return _text(path.read_bytes())


def _text(content: bytes) -> str:
    """As a spec is read; what is no text is no spec, which is found when it is parsed."""
    text = content.decode(errors="replace").removeprefix("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _made(path: str, text: str, own: action_pins.Own) -> Made | None:
    """None for what is no spec, or none of this version's: nothing can be told from it."""
    try:
        decided = generator.judge(yaml_source.parse(path, text), own)
    except Faults:
        return None
    return Made(decided.source, render(decided.plan))


def _of_git(folder: Path, name: str, environ: Mapping[str, str]) -> tuple[list[str], bool]:
    """The texts that a file had in the last commits that changed it, and whether there is more than one to ask."""
    try:
        here = folder.resolve()
        if not any((each / ".git").exists() for each in (here, *here.parents)):
            return [], False
        commits = _git(here, environ, "rev-list", "--first-parent", f"--max-count={MOST}", "HEAD", "--", name).split()
        asked = b"".join(commit + b":./" + os.fsencode(name) + b"\n" for commit in commits)
        texts = _blobs(_git(here, environ, "cat-file", "--batch", given=asked)) if commits else []
        is_whole = _git(here, environ, "rev-parse", "--is-shallow-repository").strip() == b"false"
        count = _git(here, environ, "rev-list", "--first-parent", "--max-count=2", "HEAD").split()
        return texts, bool(texts) and (is_whole or len(count) > 1)
    except (OSError, RuntimeError, subprocess.SubprocessError):
        return [], False


def _blobs(output: bytes) -> list[str]:
    """`HASH blob SIZE`, a line's end, the content, a line's end; `NAME missing` for what is not there."""
    texts, at = [], 0
    while (end := output.find(b"\n", at)) >= 0:
        facts = output[at:end].rsplit(b" ", 2)
        at = end + 1
        if facts[-1].isdigit():
            content, at = output[at : at + int(facts[-1])], at + int(facts[-1]) + 1
            if len(content) <= yaml_source.LARGEST and facts[-2] == b"blob":
                texts.append(_text(content))
    return texts


def _git(folder: Path, environ: Mapping[str, str], *words: str, given: bytes = b"") -> bytes:
    """What git prints; raises CalledProcessError when it refuses. It asks no server for what a partial clone lacks."""
    return subprocess.run(
        ["git", *GIT, "-c", "protocol.allow=never", "--literal-pathspecs", "-C", str(folder), *words],
        env=quiet(environ),
        input=given,
        capture_output=True,
        timeout=SECONDS,
        check=True,
    ).stdout
