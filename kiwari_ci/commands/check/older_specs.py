"""Finds specs that files may have been generated from: the copy among the files, and its versions in git."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kiwari_ci import generator
from kiwari_ci.file_output.generated_files import GeneratedFiles
from kiwari_ci.github_facts import action_pins
from kiwari_ci.problems import SpecError
from kiwari_ci.readers.git import GitError, read_blobs, run_git
from kiwari_ci.rendering.render import render_files
from kiwari_ci.safe_files import read_plain_file
from kiwari_ci.spec_loading import yaml_source

MAX_GIT_VERSIONS = 5  # commits whose spec is read
GIT_TIMEOUT = 20  # seconds for one git command


@dataclass(frozen=True)
class CandidateSpec:
    """An older spec, and the files that today's templates and pins make of it."""

    spec: yaml_source.YamlSource
    tree: GeneratedFiles


@dataclass(frozen=True)
class CandidateSpecs:
    """The specs that the files may have been generated from, newest first.

    `is_complete` is set when an older spec would be among them if there was one.
    """

    candidates: list[CandidateSpec]
    is_complete: bool


def find_candidate_specs(root: Path, path: str, spec: Path, text: str, environ: Mapping[str, str]) -> CandidateSpecs:
    """Look for specs at `path` below `root` whose text is not `text`; `spec` is the one in use."""
    copy = root / path
    copy_text = _read_spec_copy(copy)
    git_texts, has_history = _read_git_versions(copy.parent, Path(path).name, environ)
    pins = action_pins.load_pins(spec)
    candidates: list[CandidateSpec] = []
    for older_text in dict.fromkeys([copy_text, *git_texts]):
        if older_text is None or older_text == text:
            continue
        candidate = _load_candidate_spec(path, older_text, pins)
        if candidate:
            candidates.append(candidate)
    has_copy = copy_text is not None and not _is_same_file(copy, spec)
    return CandidateSpecs(candidates, has_history or has_copy)


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
    """Decode the text of a spec as it is loaded. Bytes that are no text give an error when it is parsed."""
    text = content.decode(errors="replace").removeprefix("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _load_candidate_spec(path: str, text: str, pins: action_pins.PinSet) -> CandidateSpec | None:
    """None for a text that is no spec of this version: it explains nothing."""
    try:
        loaded = generator.validate_and_plan(yaml_source.parse_yaml(path, text), pins)
    except SpecError:
        return None
    return CandidateSpec(loaded.source, render_files(loaded.plan))


def _read_git_versions(folder: Path, name: str, environ: Mapping[str, str]) -> tuple[list[str], bool]:
    """The texts that a file had in the last commits that changed it, and whether there is more than one to ask."""
    try:
        checkout_folder = folder.resolve()
        git = partial(run_git, checkout_folder, environment=environ, timeout=GIT_TIMEOUT)
        limit = f"--max-count={MAX_GIT_VERSIONS}"
        commits = git("--literal-pathspecs", "rev-list", "--first-parent", limit, "HEAD", "--", name).split()
        blobs = _list_git_versions(git, commits, name) if commits else []
        contents = read_blobs(checkout_folder, blobs, environment=environ, timeout=GIT_TIMEOUT) if blobs else {}
        texts = [_decode_spec_text(contents[blob]) for blob in blobs if blob in contents]
        is_whole = git("rev-parse", "--is-shallow-repository").strip() == b"false"
        count = git("rev-list", "--first-parent", "--max-count=2", "HEAD", "--").split()
        return texts, bool(texts) and (is_whole or len(count) > 1)
    except (OSError, RuntimeError, GitError):
        return [], False


def _list_git_versions(git: Callable[..., bytes], commits: list[bytes], name: str) -> list[str]:
    """The blobs of a file at commits, without those of a size that no spec has."""
    object_names = b"".join(commit + b":./" + os.fsencode(name) + b"\n" for commit in commits)
    blobs = []
    for line in git("cat-file", "--batch-check", stdin=object_names).splitlines():
        fields = line.split(b" ")
        if len(fields) == 3 and fields[1] == b"blob" and int(fields[2]) <= yaml_source.MAX_SPEC_SIZE:
            blobs.append(fields[0].decode())
    return blobs
