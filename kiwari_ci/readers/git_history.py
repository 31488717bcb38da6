"""What git knows: which files changed, what a source is called, which commits lie between two."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from kiwari_ci.readers.git import GitError, run_git

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # git's name for a tree without files
# What makes GitHub run nothing for a push or pull request when its newest commit says it.
# Source: https://docs.github.com/actions/managing-workflow-runs/skipping-workflow-runs
SKIP_CI_PATTERN = re.compile(
    r"\[(?:skip ci|ci skip|no ci|skip actions|actions skip)\]|(?<=\n\n)skip-checks: ?true(?=\s*\Z)"
)


@dataclass(frozen=True)
class Commit:
    """A commit, as a person reads it: its short name, first line and date; `number` counts the commits up to it."""

    name: str
    title: str
    date: str
    number: int = 0


@dataclass(frozen=True)
class ChangedFiles:
    """The files that changed, sorted by path; `source` says in words where the list is from.

    `commits` is the number of the commits, or 0 if it is not known. `skip` is the word in the newest commit message,
    such as `[skip ci]`, for which GitHub starts no workflow.
    """

    files: tuple[str, ...]
    source: str = ""
    commits: int = 0
    skip: str = ""


@dataclass(frozen=True)
class GitRepository:
    """A checkout, read and never written; raises Unanswered. What the environment tells git is left out."""

    folder: Path
    environment: Mapping[str, str]

    def ask(self, *arguments: str, index: Path | None = None) -> str:
        """What git prints for these words."""
        printed = run_git(self.folder, *arguments, environment=self.environment, index=index)
        return printed.decode(errors="replace")

    def commit(self, ref: str) -> str:
        """The full name of the commit that a branch, tag or name means."""
        try:
            return self.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}").strip()
        except GitError as error:
            self.ask("rev-parse", "--git-dir")  # what git says of a folder that is no checkout
            raise GitError(f"{ref} is no commit that this checkout has; fetch it: git fetch --tags origin") from error

    def exists(self, ref: str) -> bool:
        """Whether a ref is a commit here."""
        try:
            return bool(self.commit(ref))
        except GitError:
            return False

    @property
    def is_shallow(self) -> bool:
        """Whether commits are missing, so that they cannot be counted."""
        return self.ask("rev-parse", "--is-shallow-repository").strip() == "true"

    def count(self, *revisions: str) -> int:
        """How many commits there are: the SEQUENCE of a deploy for one commit."""
        return int(self.ask("rev-list", "--count", *revisions, "--"))

    def commits(self, *revisions: str, paths: Sequence[str] = (), most: int = 0) -> list[Commit]:
        """Newest first; of these pathspecs only, when there are some."""
        limit = [f"--max-count={most}"] if most else []
        printed = self.ask("log", "--format=%h%x00%cs%x00%s%x01", *limit, *revisions, "--", *paths)
        rows = [row.strip("\n").split("\0") for row in printed.split("\x01") if row.strip("\n")]
        return [Commit(name, title, date) for name, date, title in rows]

    def key(self, commit: str, pathspecs: Sequence[str], maker: str = "") -> str:
        """The tag of the image that is made of a commit's files, as the generated workflows name it.

        `maker` is the branch or workflow that builds it, where there are several.
        """
        top = Path(self.ask("rev-parse", "--show-toplevel").rstrip("\n"))
        with TemporaryDirectory() as scratch:
            index = Path(scratch, "index")
            self.ask("read-tree", f"--index-output={index}", commit, index=index)
            listed = GitRepository(top, self.environment).ask("ls-files", "-s", "--", *pathspecs, index=index)
        made_of = f"{listed}{maker}\0" if maker else listed
        return f"src-{sha256(made_of.encode()).hexdigest()}"

    def files(self, commit: str, folder: str) -> list[str]:
        """The names of the files in a folder at a commit."""
        printed = self.ask("ls-tree", "-z", "--name-only", "--full-tree", commit, "--", f"{folder.rstrip('/')}/")
        return [name.rpartition("/")[2] for name in printed.split("\0") if name]

    def at_number(self, number: int, head: str) -> str:
        """The commit of a branch that so many commits lead to; empty when there is none, or more than one way."""
        commits = self.ask("rev-list", "--first-parent", head, "--").split()
        low, high = 0, len(commits) - 1
        while low <= high:  # counts fall from the newest to the oldest
            middle = (low + high) // 2
            counted = self.count(commits[middle])
            if counted == number:
                return commits[middle]
            low, high = (middle + 1, high) if counted > number else (low, middle - 1)
        return ""


def find_changed_files(git: GitRepository, base: str, head: str, pushed: bool) -> ChangedFiles:
    """What lies between two commits: for a push their difference, for a pull request what was added since the fork."""
    new = git.commit(head)
    skip = SKIP_CI_PATTERN.search(git.ask("log", "-1", "--format=%B", new, "--"))
    skip_word = skip[0] if skip else ""
    if set(base) == {"0"}:
        old, comparison = _find_new_branch_base(git, new)
        return ChangedFiles(
            _list_diff_files(git, f"{old}..{new}", (old, new)),
            comparison,
            git.count(new, *_exclude_base(git, old)),
            skip_word,
        )
    old = git.commit(base)
    span, dots = ((old, new), "..") if pushed else ((_find_merge_base(git, old, new), new), "...")
    kind = "two-dot, as GitHub compares a push" if pushed else "three-dot, as GitHub compares a pull request"
    return ChangedFiles(
        _list_diff_files(git, base, span), f"{base}{dots}{head} ({kind})", git.count(new, f"^{old}"), skip_word
    )


def _exclude_base(git: GitRepository, old: str) -> list[str]:
    return [] if old == EMPTY_TREE else [f"^{old}"]


def _find_merge_base(git: GitRepository, old: str, new: str) -> str:
    try:
        return git.ask("merge-base", old, new).split()[0]
    except GitError as error:
        cure = "git fetch --unshallow" if git.is_shallow else "compare it as a push: --event push"
        raise GitError(f"the two commits have no common one here: {cure}") from error


def _find_new_branch_base(git: GitRepository, new: str) -> tuple[str, str]:
    """GitHub compares a new branch with the parent of the deepest commit that was pushed."""
    pushed = git.ask("rev-list", "--topo-order", new, "--not", "--remotes", "--").split()
    deepest = pushed[-1] if pushed else new
    old = f"{deepest}^" if git.exists(f"{deepest}^") else EMPTY_TREE
    place = "nothing" if old == EMPTY_TREE else f"the parent of {deepest[:7]}"
    return old if old == EMPTY_TREE else git.commit(old), f"a new branch, compared with {place}, two-dot"


def _list_diff_files(git: GitRepository, base: str, span: tuple[str, str]) -> tuple[str, ...]:
    printed = git.ask(
        "diff-tree",
        "-r",
        "-z",
        "--name-only",
        "--no-renames",
        "--no-relative",
        "--no-ext-diff",
        "--no-textconv",
        "--ignore-submodules=none",  # .gitmodules may hide the change of a submodule
        *span,
        "--",
    )
    return tuple(sorted(filter(None, printed.split("\0"))))
