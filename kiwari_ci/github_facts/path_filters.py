"""GitHub's path and ref filters, exactly; and, for what is built, the same files in git's words.

Source: "Filter pattern cheat sheet" in GitHub's workflow syntax; what it calls malformed, as actionlint tried it.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache

from kiwari_ci.github_facts.linear_matcher import MAX_FAST_WILDCARDS, LinearMatcher, MatchStep

# `**/` as a whole component also stands for no folder at all: `**/docs/**` includes docs/hello.md.
_TOKEN_PATTERN = re.compile(
    r"(?P<folders>(?<![^/])\*\*/)|(?P<all>\*\*)|(?P<some>\*)|(?P<repeat>[?+])"
    r"|(?P<escaped>\\[\[?*+\\!])|(?P<set>\[[^]]*\])|(?P<plain>.)",
    re.DOTALL,
)
_FALLIBLE_CHARACTER = re.compile(r"[?+[]")  # only a repetition and a set can be malformed
_REPEATABLE_KINDS = ("plain", "escaped", "set")
_WILDCARD_REGEXES = {"folders": "(?:.+/)?", "all": ".*", "some": "[^/]*"}
_WILDCARD_STEPS = {
    "folders": MatchStep("folders"),
    "all": MatchStep("any"),
    "some": MatchStep("any", "[^/]"),
}
_CHARACTER_SET = re.compile(r"\[(?:[a-z]-[a-z]|[A-Z]-[A-Z]|[0-9]-[0-9]|[a-zA-Z0-9])+\]")
_BRACE_CHOICE = re.compile(r"\{([^{}]*,[^{}]*)\}")

_GIT_DIFFERENCES = {
    "?": "`?` repeats the character before it for GitHub and is any character for git: use `*`",
    "+": "`+` repeats the character before it for GitHub and is a plain character for git: use `*`",
    "[": "`[` stands for a set of characters: use `*`, or a line for each name",
    "]": "`]` ends a set of characters: use `*`, or a line for each name",
    "\\": "`\\` makes the next character plain, each reader in its own way: use `*` in its place",
}


def is_included(patterns: Sequence[str], name: str) -> bool:
    """Whether GitHub's filter includes a path or ref: the last pattern that matches wins, `!` excludes.

    A malformed pattern matches nothing (GitHub refuses its whole workflow; `dead` says why).
    """
    result = False
    for pattern in patterns:
        if _matches_pattern(pattern.removeprefix("!"), name):
            result = not pattern.startswith("!")
    return result


def covers_pattern(wide: str, narrow: str) -> bool:
    """Whether a pattern for a whole folder matches all that another one does; for other patterns the answer is no."""
    folder, separator, rest = wide.rpartition("**")
    is_whole_folder = bool(separator) and not rest and (not folder or folder.endswith("/"))
    is_literal = not re.search(r"[*?+\[\]\\!]", folder)
    return is_whole_folder and is_literal and narrow.startswith(folder) and not narrow.startswith("!")


def explain_invalid_pattern(pattern: str) -> str | None:
    """Why a path pattern can never match a file, and what to write instead; None when it can."""
    body = pattern.removeprefix("!")
    parts = body.split("/")
    why = None
    if not body:
        why = "an empty pattern matches nothing"
    elif malformed := _find_syntax_error(body):
        return f"GitHub refuses the whole workflow: {malformed}"
    elif ".." in parts:
        return "a filter cannot leave the repository with `..`: write the path from its root"
    elif ".git" in parts:
        return "git tracks nothing in `.git`"
    elif _BRACE_CHOICE.search(body):
        why = "braces are plain characters in GitHub's filters"
    elif "." in parts:
        why = "a filter never matches `.`: paths start at the repository's root"
    elif parts[0] == "":
        why = "a filter starts at the repository's root without a `/`"
    elif parts[-1] == "":
        why = "a filter matches files, never a folder"
    elif "" in parts:
        why = "no path has an empty part between two `/`"
    return why and f"{why}: write {_suggest_pattern(pattern)}"


def explain_git_mismatch(pattern: str) -> str | None:
    """Why git cannot mean what GitHub's filter means by a pattern, and what to write; None when both agree."""
    body = pattern.removeprefix("!")
    for character, why in _GIT_DIFFERENCES.items():
        if character in body:
            return why
    if any("**" in part and part != "**" for part in body.split("/")):
        return f"`**` stands alone between slashes, or git reads it as `*`: {_suggest_double_star(body)}"
    if "**/**" in body:
        return "`**/**` says no more than `**`: write `**` once"
    if body.startswith(("!", ":")):
        return f"a leading `{body[0]}` is not plain text for git: use `*` in its place"
    if body != body.strip() or not body.isprintable():
        return "a blank at an end or a character that cannot be seen gets lost on the way to git: use `*` in its place"
    return None


def find_filter_errors(patterns: Sequence[str]) -> list[tuple[int, str]]:
    """All that is wrong with the filter of something that is built, as (index in the list, words with the cure)."""
    return list(_iter_filter_errors(patterns))


def build_git_pathspecs(patterns: Sequence[str]) -> list[str]:
    """The same files for `git ls-files --`; raises ValueError for a list that has faults.

    One thing git cannot say plainly: a plain path that is a folder in the tree lists what is in it (GitHub's filter
    and `sparse` have no file of that name, so a build that needs the folder fails). Source: gitglossary, "pathspec".
    """
    _require_valid_filter(patterns)
    # Exclusions first: when all the others share a folder, git (2.55 still) cuts its name off an exclusion behind them.
    excluded = [_format_exclude(pattern[1:]) for pattern in patterns if pattern.startswith("!")]
    return excluded + [_format_include(pattern) for pattern in patterns if not pattern.startswith("!")]


def build_sparse_patterns(patterns: Sequence[str]) -> list[str]:
    """The same files for actions/checkout's `sparse-checkout` without cone mode; raises ValueError as `pathspecs`.

    For a file, the last line that matches it decides; only when none does, the folders above it are asked, nearest
    first. A line that names files may match a folder too: `!*/` then keeps all in it out. Source: gitignore,
    git-sparse-checkout.
    """
    _require_valid_filter(patterns)
    lines = ["!/" + pattern[1:] if pattern.startswith("!") else "/" + pattern for pattern in patterns]
    guarded = any(not line.startswith("!") and not line.endswith("/**") for line in lines)
    return [*lines, "!*/"] if guarded else lines


def _matches_pattern(body: str, name: str) -> bool:
    pattern = _compile_pattern(body)
    return pattern is not None and bool(pattern.match(name))


def _find_syntax_error(body: str) -> str | None:
    """Why a pattern without its `!` is malformed; None when it is not."""
    if not _FALLIBLE_CHARACTER.search(body):
        return None
    is_repeatable = False
    for token in _TOKEN_PATTERN.finditer(body):
        kind, text = token.lastgroup, token.group()
        if kind == "repeat" and not is_repeatable:
            return f"`{text}` repeats the character before it, and there is none: use `*` in its place"
        if text == "[" or (kind == "set" and not _is_character_set(text)):
            return f"`{text}` is no set of letters and digits like `[a-z0-9]`"
        is_repeatable = kind in _REPEATABLE_KINDS
    return None


@cache
def _compile_pattern(body: str) -> re.Pattern[str] | LinearMatcher | None:
    """The pattern without its `!` for whole names; None when it is malformed."""
    if _find_syntax_error(body):
        return None
    regex, wildcards = "", 0
    steps: list[MatchStep] = []
    for token in _TOKEN_PATTERN.finditer(body):
        kind, text = token.lastgroup, token.group()
        regex += _translate_token(kind, text)
        if kind == "repeat":
            steps[-1] = MatchStep("maybe" if text == "?" else "repeat", steps[-1].characters)
        else:
            steps.append(_WILDCARD_STEPS.get(kind or "") or MatchStep("one", _translate_token(kind, text)))
        wildcards += kind not in _REPEATABLE_KINDS
    return LinearMatcher(steps) if wildcards > MAX_FAST_WILDCARDS else re.compile(f"(?:{regex})\\Z", re.DOTALL)


def _translate_token(kind: str | None, text: str) -> str:
    if kind in ("set", "repeat"):
        return text
    return _WILDCARD_REGEXES.get(kind or "") or re.escape(text[-1])


def _is_character_set(text: str) -> bool:
    return _CHARACTER_SET.fullmatch(text) is not None and all(low <= high for low, high in re.findall("(.)-(.)", text))


def _suggest_pattern(pattern: str) -> str:
    sign, body = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
    return " and ".join(f"`{sign}{_normalize_pattern(expanded)}`" for expanded in _expand_braces(body))


def _expand_braces(body: str) -> list[str]:
    first = _BRACE_CHOICE.search(body)
    if not first:
        return [body]
    return [body[: first.start()] + choice.strip() + body[first.end() :] for choice in first[1].split(",")]


def _normalize_pattern(body: str) -> str:
    parts = [part for part in body.split("/") if part not in ("", ".")]
    folder = not parts or body.endswith(("/", "/."))
    return "/".join(parts + ["**"] if folder and parts[-1:] != ["**"] else parts)


def _suggest_double_star(body: str) -> str:
    if body.startswith("**") and "**" not in body[2:]:
        return f"write `**/*{body[2:].lstrip('*')}`"
    return "write `*` within a name and `/**/` between folders"


def _iter_filter_errors(patterns: Sequence[str]) -> Iterator[tuple[int, str]]:
    excluding = ""
    for index, pattern in enumerate(patterns):
        if why := explain_invalid_pattern(pattern) or explain_git_mismatch(pattern):
            yield index, why
        if pattern.startswith("!"):
            excluding = excluding or pattern
        elif excluding:
            yield index, f"`{pattern}` after `{excluding}` could bring back what that leaves out: write it before"
    if patterns and all(pattern.startswith("!") for pattern in patterns):
        yield 0, "a list of only `!` never includes a file: write `**` before it"


def _require_valid_filter(patterns: Sequence[str]) -> None:
    if filter_errors := find_filter_errors(patterns):
        raise ValueError("; ".join(words for _, words in filter_errors))


def _format_include(body: str) -> str:
    plain = body.removesuffix("/**")
    if "*" in plain:
        return f":(glob){body}"
    return body if plain == body else f"{plain}/"


def _format_exclude(body: str) -> str:
    plain = body.removesuffix("/**")
    if "*" in plain:
        return f":(exclude,glob){body}"
    if plain != body:
        return f":(exclude){plain}/"
    # GitHub leaves out only a file of this name, git a folder too: a pattern, be it of plain text, is never a folder.
    folder, slash, name = body.rpartition("/")
    return f":(exclude,glob){folder}{slash}\\{name}"
