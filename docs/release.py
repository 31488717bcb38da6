"""The notes of a release: its part of the changelog, its wheel's hash, and what it changes in the example trees.

`make release-notes FROM=v0.1.0` prints them: the commit that is checked out against that tag.
"""

import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from kiwari_ci import __version__

ROOT = Path(__file__).parents[1]
HEAD_OF_A_TREE = ".github/workflows/pipeline-drift.yml"

# What a changed file asks of a person: the first pattern that a path within its tree matches.
KINDS = [
    (r"^specs/", "the example's own spec changed, too: not all of this diff is the generator's"),
    (r"/pipeline-drift\.yml$", "how the drift check installs the generator"),
    (r"-ci\.yml$", "a service's workflow: it is part of its image's key, so the first push builds the service once"),
    (r"^\.github/workflows/.*\.yml$", "a workflow: takes effect with the push that brings it"),
    (
        r"^deploy/bin/deploy$",
        "the host's program: copy it to each server, as the runbook's `A changed file under deploy/` says",
    ),
    (
        r"^deploy/bin/rotate$",
        "the rotation program: copy it to each server where it is used, as the runbook's"
        " `A changed file under deploy/` says",
    ),
    (
        r"^deploy/bin/database$",
        "the database program: copy it to each server, as the runbook's `A changed file under deploy/` says",
    ),
    (r"^deploy/bin/deploy-over-ssh$", "the deploy jobs' SSH client: takes effect with the push that brings it"),
    (r"/docker-compose\.yml$", "a compose file: copy it to its server first, or deploys of that stack are refused"),
    (r"\.example$", "an example of an env file: hold the server's own against it; values are never sent"),
    (r"/init/", "the databases' script: copy it to the server, and run it again as the runbook says"),
    (r"RUNBOOK\.md$", "the runbook: read what changed"),
    (r"", "another file: read what changed"),
]


class NoNotes(Exception):
    """Why there are none, for the person who asked."""


def notes(root: Path, since: str, wheel: Path | None = None) -> str:
    """All of it, as Markdown. Without `since`, an empty text, it is the first release: nothing to compare with."""
    if since and _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{since}^{{commit}}") is None:
        raise NoNotes(f"{since!r} is no tag or commit here; git tag --list has the tags")
    parts = [f"# kiwari-ci {__version__}", changes(root)]
    if wheel:
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        parts.append(f"```yaml\ngenerator: kiwari-ci=={__version__} --hash=sha256:{digest}\n```")
    parts += [
        "## In the example trees",
        *(examples(root, since) if since else ["The first release: all of it is new."]),
    ]
    return "\n\n".join(parts) + "\n"


def changes(root: Path) -> str:
    """The changelog's part for this version, or what is not released yet."""
    text = (root / "CHANGELOG.md").read_text()
    for title in (__version__, "Unreleased"):
        if match := re.search(rf"^## {re.escape(title)}\b[^\n]*\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL):
            return match[1].strip()
    raise NoNotes(f"CHANGELOG.md has neither `## {__version__}` nor `## Unreleased`")


def examples(root: Path, since: str) -> Iterator[str]:
    """A part for each example tree that the last release or this one has, then one for each file, folded."""
    for tree in sorted({*trees(root, since), *trees(root, "HEAD")}):
        paths = _lines(root, "diff", "--name-only", "--no-renames", since, "HEAD", "--", tree)
        count = (
            "nothing changes" if not paths else "1 file changes" if len(paths) == 1 else f"{len(paths)} files change"
        )
        yield f"### `{tree}`: {count}"
        yield from (_folded(root, since, tree, path) for path in paths)


def trees(root: Path, commit: str) -> list[str]:
    """The folders that hold a generated tree at a commit; the tests' goldens are no examples."""
    paths = _lines(root, "ls-tree", "-r", "--name-only", commit)
    folders = [path.removesuffix(f"/{HEAD_OF_A_TREE}") for path in paths if path.endswith(f"/{HEAD_OF_A_TREE}")]
    return [path for path in folders if not path.startswith("tests/")]


def kind(path: str) -> str:
    """What a changed file asks of a person."""
    return next(meaning for pattern, meaning in KINDS if re.search(pattern, path))


def _folded(root: Path, since: str, tree: str, path: str) -> str:
    diff = _git(root, "diff", "--no-renames", "--no-color", "--no-ext-diff", since, "HEAD", "--", path) or ""
    body = diff[diff.find("\n@@") + 1 :] if "\n@@" in diff else diff
    lines = body.splitlines()
    counts = f"+{sum(line.startswith('+') for line in lines)} -{sum(line.startswith('-') for line in lines)}"
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", body)), default=0))
    name = path.removeprefix(f"{tree}/")
    head = f"<details><summary><code>{name}</code> {counts}: {_html(kind(name))}</summary>"
    return f"{head}\n\n{fence}diff\n{body.rstrip()}\n{fence}\n\n</details>"


def _html(text: str) -> str:
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", text)


def _lines(root: Path, *arguments: str) -> list[str]:
    return (_git(root, *arguments) or "").splitlines()


def _git(root: Path, *arguments: str) -> str | None:
    result = subprocess.run(["git", "-c", "core.quotePath=false", *arguments], cwd=root, capture_output=True, text=True)
    return result.stdout if result.returncode == 0 else None


def main() -> None:
    """Print the notes; the tag is the first argument."""
    wheel = ROOT / f"dist/kiwari_ci-{__version__}-py3-none-any.whl"
    try:
        print(notes(ROOT, "".join(sys.argv[1:2]), wheel if wheel.exists() else None), end="")
    except NoNotes as why:
        sys.exit(f"release-notes: {why}")


if __name__ == "__main__":
    main()
