import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kiwari_ci.github_facts.path_filters import (
    build_git_pathspecs,
    build_sparse_patterns,
    covers_pattern,
    explain_git_mismatch,
    explain_invalid_pattern,
    find_filter_errors,
    is_included,
)
from tests.amounts import sample_or_all

VECTORS = json.loads((Path(__file__).parent / "data" / "glob-vectors.json").read_text("utf-8"))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{','.join(v['patterns'])} {v['name']}")
def test_every_vector(vector: dict[str, object]) -> None:
    patterns, name = vector["patterns"], vector["name"]
    assert isinstance(patterns, list) and isinstance(name, str)
    assert is_included(patterns, name) is vector["included"]


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ("**", "a/*.md", True),
        ("a/**", "a/b/**", True),
        ("a/**", "a/*.md", True),
        ("a/**", "ab/c", False),
        ("a/**", "a", False),
        ("a/**", "!a/b", False),
        ("a/*", "a/b", False),
        ("a**", "ab/c", False),
        ("[ab]/**", "[ab]/c", False),
        ("!a/**", "!a/b", False),
    ],
)
def test_a_pattern_of_a_whole_folder_covers_what_is_in_it(wide: str, narrow: str, expected: bool) -> None:
    assert covers_pattern(wide, narrow) is expected


@pytest.mark.parametrize(
    ("patterns", "name", "expected"),
    [
        ([], "a", False),
        (["!a"], "b", False),
        (["!*.md", "**"], "a.md", True),
        (["**", "!*.md", "*.md"], "a.md", True),
        (["**"], ".github/workflows/x.yml", True),
        (["*"], ".env", True),
        (["docs/**"], "docs", False),
        (["a/**/b"], "a/b", True),
        (["a/**/b"], "a/x/y/b", True),
        (["a/**/b"], "ab", False),
        (["a**/b"], "axy/z/b", True),
        (["**src/**"], "my/src/x", True),
        (["ab?c"], "ac", True),
        (["ab?c"], "abbc", False),
        (["ab+c"], "abbc", True),
        (["ab+c"], "ac", False),
        (["[a-c]?x"], "x", True),
        ([r"c\+\+/**"], "c++/x", True),
        ([r"a\*"], "a*", True),
        ([r"a\*"], "ab", False),
        ([r"\!a"], "!a", True),
        (["a!b"], "a!b", True),
        (["v1.2"], "v1x2", False),
        (["c++/**"], "c++/x", False),
        (["[z-a]"], "m", False),
        (["a\nb"], "a\nb", True),
        (["a"], "a\n", False),
    ],
)
def test_included(patterns: list[str], name: str, expected: bool) -> None:
    assert is_included(patterns, name) is expected


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("", "an empty pattern matches nothing: write `**`"),
        ("!", "an empty pattern matches nothing: write `!**`"),
        ("/api/**", "without a `/`: write `api/**`"),
        ("!/api/x", "write `!api/x`"),
        ("./api/", "a filter never matches `.`: paths start at the repository's root: write `api/**`"),
        (".", "write `**`"),
        ("api/", "a filter matches files, never a folder: write `api/**`"),
        ("api/**/", "write `api/**`"),
        ("/", "write `**`"),
        ("a//b", "no path has an empty part between two `/`: write `a/b`"),
        ("{a,b}/**", "braces are plain characters in GitHub's filters: write `a/**` and `b/**`"),
        ("src/*.{js, ts}", "write `src/*.js` and `src/*.ts`"),
        ("api/../x", "cannot leave the repository"),
        (".git/config", "git tracks nothing in `.git`"),
        ("apis/c++/**", "GitHub refuses the whole workflow: `+` repeats the character before it, and there is none"),
        ("*?", "GitHub refuses the whole workflow"),
        ("?a", "GitHub refuses the whole workflow"),
        ("!+a", "GitHub refuses the whole workflow"),
        ("a[bc", "`[` is no set of letters and digits"),
        ("a[]", "`[]` is no set"),
        ("[!a]", "`[!a]` is no set"),
        ("[9-0]", "`[9-0]` is no set"),
    ],
)
def test_dead(pattern: str, words: str) -> None:
    assert words in (explain_invalid_pattern(pattern) or "")


@pytest.mark.parametrize("pattern", ["api/**", "*", "**", "!a", ".github/x", "a.b/..c", "{{name}}/x", "v[0-9]+.x?"])
def test_alive(pattern: str) -> None:
    assert explain_invalid_pattern(pattern) is None


@pytest.mark.parametrize("character", "?+[]\\")
def test_unlike_characters_have_a_cure(character: str) -> None:
    assert f"`{character}`" in (explain_git_mismatch(f"a{character}b") or "")


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("**.js", "write `**/*.js`"),
        ("!**.js", "write `**/*.js`"),
        ("***", "write `**/*`"),
        ("src/a**", "write `*` within a name and `/**/` between folders"),
        ("a/**/**", "says no more than `**`"),
        ("!!a", "a leading `!`"),
        (":a", "a leading `:`"),
        ("a ", "a blank at an end"),
        ("a\tb", "cannot be seen"),
        ("a\u00a0", "cannot be seen"),
    ],
)
def test_unportable(pattern: str, words: str) -> None:
    assert words in (explain_git_mismatch(pattern) or "")


def test_faults_of_a_list() -> None:
    assert find_filter_errors(["api/**", "docker/Dockerfile.api", "!api/*.md"]) == []
    assert [index for index, _ in find_filter_errors(["api/", "a?", "b"])] == [0, 1]
    assert find_filter_errors(["a/**", "!a/b", "!a/d", "a/c"]) == [
        (3, "`a/c` after `!a/b` could bring back what that leaves out: write it before")
    ]
    assert find_filter_errors(["!a", "!b"]) == [(0, "a list of only `!` never includes a file: write `**` before it")]


def test_the_common_case_reads_well() -> None:
    patterns = ["api/**", "docker/Dockerfile.api", ".dockerignore"]
    assert build_git_pathspecs(patterns) == ["api/", "docker/Dockerfile.api", ".dockerignore"]
    assert build_sparse_patterns(patterns) == ["/api/**", "/docker/Dockerfile.api", "/.dockerignore", "!*/"]
    assert build_sparse_patterns(["api/**", "lib/**"]) == ["/api/**", "/lib/**"]


def test_pathspecs_with_wildcards_and_exclusions() -> None:
    assert build_git_pathspecs(["*.go", "a*/**", "**", "!api/docs/**", "!**/*.md", "!api/README"]) == [
        ":(exclude)api/docs/",
        ":(exclude,glob)**/*.md",
        r":(exclude,glob)api/\README",
        ":(glob)*.go",
        ":(glob)a*/**",
        ":(glob)**",
    ]


def test_a_faulty_list_is_not_translated() -> None:
    with pytest.raises(ValueError, match="write `api/"):
        build_git_pathspecs(["api/"])
    with pytest.raises(ValueError, match="use `"):
        build_sparse_patterns(["a?"])


# Few names, so that files, folders and patterns meet; hostile ones, so that quoting would show.
NAMES = st.sampled_from(["a", "b", "ab", "a.md", ".a"]) | st.sampled_from(["!a", "#a", "-a", "a b", "{a}", "é", '"'])
PATHS = st.lists(NAMES, min_size=1, max_size=4)


@st.composite
def patterns_like(draw: st.DrawFn, path: list[str]) -> str:
    """A pattern that resembles a path: some parts replaced, cut short, or open at an end."""
    wild = st.sampled_from(["*", "**", "a*", "*.md", "*a*"])
    parts = [draw(wild) if draw(st.integers(0, 3)) == 0 else part for part in path]
    shape = draw(st.sampled_from(["as it is", "folder", "anywhere", "cut"]))
    cut = parts[: draw(st.integers(1, len(parts)))]
    shapes = {"as it is": parts, "folder": [*cut, "**"], "anywhere": ["**", *parts[-1:]], "cut": cut}
    return "/".join(shapes[shape])


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """A tree that can be (no file is another's folder), and a list for it without faults."""
    drawn = draw(st.lists(PATHS, min_size=4, max_size=12))
    paths = {"/".join(path) for path in drawn}
    tree = sorted(path for path in paths if not any(other.startswith(path + "/") for other in paths))
    like_these = st.one_of([patterns_like(path) for path in drawn])
    pattern = like_these.filter(
        lambda p: not (p.startswith("!") or explain_invalid_pattern(p) or explain_git_mismatch(p))
    )
    positive = draw(st.lists(pattern, min_size=1, max_size=3))
    return tree, positive + ["!" + excluded for excluded in draw(st.lists(pattern, max_size=3))]


def git(repository: Path, *words: str, stdin: str = "") -> str:
    # Nothing of the machine's own settings, and no other repository around the test.
    fresh = {"PATH": os.environ["PATH"], "HOME": str(repository), "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(["git", *words], cwd=repository, env=fresh, input=stdin.encode(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


class Checkouts:
    """Trees of empty files, committed and checked out by real git, each in a repository of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self.empty = folder / "empty"
        self.empty.mkdir()
        git(self.empty, "init", "-q", "--template=")
        self.blob = git(self.empty, "hash-object", "-w", "--stdin").strip()

    def make(self, tree: Iterable[str], patterns: Sequence[str]) -> tuple[set[str], set[str]]:
        """What `git ls-files` lists, and what is on disk after a sparse checkout."""
        self.count += 1
        repository = shutil.copytree(self.empty, self.folder / str(self.count))
        index = "".join(f"100644 {self.blob}\t{path}\0" for path in tree)
        git(repository, "update-index", "-z", "--index-info", stdin=index)
        listed = git(repository, "ls-files", "-z", "--", *build_git_pathspecs(patterns))
        top = git(repository, "write-tree").strip()
        git(repository, "read-tree", "--empty")
        git(
            repository,
            "sparse-checkout",
            "set",
            "--no-cone",
            "--stdin",
            stdin="\n".join(build_sparse_patterns(patterns)),
        )
        git(repository, "read-tree", "-m", "-u", top)
        present = (path for path in repository.rglob("*") if path.is_file())
        names = {path.relative_to(repository).as_posix() for path in present}
        return set(listed.split("\0")) - {""}, {name for name in names if not name.startswith(".git/")}


@pytest.fixture(scope="module")
def checkouts(tmp_path_factory: pytest.TempPathFactory) -> Checkouts:
    return Checkouts(tmp_path_factory.mktemp("checkouts"))


@pytest.mark.parametrize("examples", sample_or_all(20, 200))
def test_filter_pathspecs_and_sparse_checkout_agree(checkouts: Checkouts, examples: int) -> None:
    quiet = list(HealthCheck)

    @settings(max_examples=examples, derandomize=True, deadline=None, database=None, suppress_health_check=quiet)
    @given(case=cases())
    def tried(case: tuple[list[str], list[str]]) -> None:
        tree, patterns = case
        listed, present = checkouts.make(tree, patterns)
        assert present == {path for path in tree if is_included(patterns, path)}
        # A plain path that is a folder: see pathspecs().
        plain = [pattern for pattern in patterns if not pattern.startswith("!") and "*" not in pattern]
        widened = [f"{path}/**" for path in plain] + patterns
        assert listed == {path for path in tree if is_included(widened, path)}

    tried()


def test_names_that_are_files_and_folders(checkouts: Checkouts) -> None:
    tree = ["a.md/x", "b.md", "docs/a.md/x", "docs/b.md", "docs/keep/x", "keep/x"]
    patterns = ["*.md", "docs/**", "keep", "!docs/keep", "!docs/*.md"]
    wanted = {"b.md", "docs/a.md/x", "docs/keep/x"}
    assert {path for path in tree if is_included(patterns, path)} == wanted
    listed, present = checkouts.make(tree, patterns)
    assert present == wanted
    assert listed == wanted | {"keep/x"}


def test_an_exclusion_outside_the_one_folder_that_is_included(checkouts: Checkouts) -> None:
    tree = ["api/docs/y.md", "api/x.go", "api/x.md"]
    listed, present = checkouts.make(tree, ["api/**", "!**/*.md"])
    assert listed == present == {"api/x.go"}
