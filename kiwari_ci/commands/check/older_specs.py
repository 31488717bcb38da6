"""The specs that a tree may have been made of: the one that lies in it, and those that git has at its place."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kiwari_ci import generator
from kiwari_ci.github import action_pins
from kiwari_ci.loading import yaml_source
from kiwari_ci.output.generated_files import GeneratedFiles
from kiwari_ci.problems import SpecError
from kiwari_ci.readers.git import GitError, run_git
from kiwari_ci.rendering.render import render_files
from kiwari_ci.safe_files import read_plain_file

MAX_GIT_VERSIONS = 5  # versions that git is asked for
GIT_TIMEOUT = 20  # for git


@dataclass(frozen=True)
class CandidateSpec:
    """An older spec, and what it makes by the templates and pins of today."""

    spec: yaml_source.YamlSource
    tree: GeneratedFiles


@dataclass(frozen=True)
class CandidateSpecs:
    """What the tree was perhaps made of, newest first. `is_told`: an older spec would be here, if there was one."""

    made: list[CandidateSpec]
    is_told: bool


def find_candidate_specs(root: Path, path: str, spec: Path, text: str, environ: Mapping[str, str]) -> CandidateSpecs:
    """Look for specs at `path` below `root` that are not this text; `spec` is the one in use."""
    there, is_copy = _read_spec_copy(root / path), not _is_same_file(root / path, spec)
    older, is_told = _read_git_versions((root / path).parent, Path(path).name, environ)
    texts = dict.fromkeys(each for each in [there, *older] if each is not None and each != text)
    made = [found for each in texts if (found := _load_candidate_spec(path, each, action_pins.load_pins(spec)))]
    return CandidateSpecs(made, is_told or (is_copy and there is not None))


def _is_same_file(copy: Path, spec: Path) -> bool:
    try:
        return copy.samefile(spec)
    except OSError:
        return False


def _read_spec_copy(path: Path) -> str | None:
    if not path.is_file() or path.stat().st_size > yaml_source.MAX_SPEC_SIZE:
        return None
    return _decode_spec_text(read_plain_file(path, yaml_source.MAX_SPEC_SIZE))


def _decode_spec_text(content: bytes) -> str:
    """As a spec is read; what is no text is no spec, which is found when it is parsed."""
    text = content.decode(errors="replace").removeprefix("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _load_candidate_spec(path: str, text: str, own: action_pins.PinSet) -> CandidateSpec | None:
    """None for what is no spec, or none of this version's: nothing can be told from it."""
    try:
        decided = generator.validate_and_plan(yaml_source.parse_yaml(path, text), own)
    except SpecError:
        return None
    return CandidateSpec(decided.source, render_files(decided.plan))


def _read_git_versions(folder: Path, name: str, environ: Mapping[str, str]) -> tuple[list[str], bool]:
    """The texts that a file had in the last commits that changed it, and whether there is more than one to ask."""
    try:
        here = folder.resolve()
        ask = partial(run_git, here, environment=environ, timeout=GIT_TIMEOUT)
        limit = f"--max-count={MAX_GIT_VERSIONS}"
        commits = ask("--literal-pathspecs", "rev-list", "--first-parent", limit, "HEAD", "--", name).split()
        texts = _read_git_texts(ask, commits, name) if commits else []
        is_whole = ask("rev-parse", "--is-shallow-repository").strip() == b"false"
        count = ask("rev-list", "--first-parent", "--max-count=2", "HEAD", "--").split()
        return texts, bool(texts) and (is_whole or len(count) > 1)
    except (OSError, RuntimeError, GitError):
        return [], False


def _read_git_texts(ask: Callable[..., bytes], commits: list[bytes], name: str) -> list[str]:
    """The texts of a file at commits. Sizes come first: one that no spec has is never read."""
    asked = b"".join(commit + b":./" + os.fsencode(name) + b"\n" for commit in commits)
    blobs = []
    for line in ask("cat-file", "--batch-check", stdin=asked).splitlines():
        facts = line.split(b" ")
        if len(facts) == 3 and facts[1] == b"blob" and int(facts[2]) <= yaml_source.MAX_SPEC_SIZE:
            blobs.append(facts[0])
    if not blobs:
        return []
    return _parse_git_blobs(ask("cat-file", "--batch", stdin=b"".join(blob + b"\n" for blob in blobs)))


def _parse_git_blobs(output: bytes) -> list[str]:
    """`HASH blob SIZE`, a line's end, the content, a line's end; `NAME missing` for what is not there."""
    texts, at = [], 0
    while (end := output.find(b"\n", at)) >= 0:
        facts = output[at:end].rsplit(b" ", 2)
        at = end + 1
        if facts[-1].isdigit():
            content, at = output[at : at + int(facts[-1])], at + int(facts[-1]) + 1
            if len(content) <= yaml_source.MAX_SPEC_SIZE and facts[-2] == b"blob":
                texts.append(_decode_spec_text(content))
    return texts
