"""The build context: the files that a build gets, and those that a COPY takes.

Sources: .dockerignore as moby/patternmatcher reads it; COPY's patterns are those of Go's filepath.Match.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from kiwari_ci.github_facts.linear_matcher import MAX_FAST_WILDCARDS, LinearMatcher, MatchStep
from kiwari_ci.readers.dockerfile import CopySource
from kiwari_ci.readers.tracked_files import Checkout, select_by_prefix

_PATTERN_TOKEN = re.compile(
    r"(?P<folders>\*\*/?)|(?P<some>\*)|(?P<one>\?)|(?P<set>\[\^?[^]]+\])|\\(?P<plain>.)|.", re.DOTALL
)
MAX_SLOW_LINES = 20  # of a .dockerignore that have many stars: each of them is matched with every file
_MAX_SYMLINKS = 40  # followed in one path, as Linux does


# Whether a line, or several of one kind, ignores what it matches, or brings it back.
IgnoreRule = tuple[bool, re.Pattern[str] | LinearMatcher]


@dataclass(frozen=True)
class CopiedFiles:
    """What a source takes: files from the repository's root, and those that .dockerignore keeps from it."""

    files: list[str]
    ignored: list[str]


class BuildContext:
    """One folder of a repository as a build context; `ignore` is the text of its .dockerignore."""

    def __init__(self, checkout: Checkout, folder: str, ignore: str) -> None:
        self.checkout = checkout
        self.prefix = "" if folder == "." else folder + "/"
        self.rules, self.unread_lines = _parse_ignore_rules(ignore)

    @cached_property
    def names(self) -> list[str]:
        """All files of the folder, from the folder; sorted."""
        return [name[len(self.prefix) :] for name in self.checkout.under(self.prefix[:-1])]

    @cached_property
    def sent(self) -> frozenset[str]:
        """Those of them that .dockerignore leaves in the build."""
        return frozenset(name for name in self.names if not self.is_ignored(name))

    def find(self, taken: CopySource) -> CopiedFiles:
        """What a source of a Dockerfile takes; raises nothing: a source that leads out of the context finds nothing."""
        path, links = self.follow_links(taken.path)
        pattern = _compile_pattern(path, taken.parents) if taken.is_pattern else None
        plain = re.split(r"[*?[\\]", path)[0] if pattern else path
        names = select_by_prefix(self.names, plain) if path else self.names
        if path:
            names = [name for name in names if self._is_taken(name, path, pattern)]
        if taken.left_out:
            names = [name for name in names if not self._is_left_out(name, path, taken.left_out)]
        files = [name for name in (links + names if names else []) if name in self.sent]
        return CopiedFiles(self._from_root(files), self._from_root(name for name in names if name not in self.sent))

    def is_ignored(self, name: str) -> bool:
        """Whether .dockerignore keeps a file, named from the context, out of the build: its last line that matches."""
        ignored = False
        for sign, pattern in self.rules:
            if ignored != sign and pattern.match(name):
                ignored = sign
        return ignored

    def _is_taken(self, name: str, path: str, pattern: re.Pattern[str] | LinearMatcher | None) -> bool:
        return bool(pattern.match(name)) if pattern else name == path or name.startswith(path + "/")

    def _is_left_out(self, name: str, path: str, left_out: Iterable[str]) -> bool:
        """`--exclude` starts at the source; at the context's root, too, so that no doubt raises an alarm."""
        inside = name.removeprefix(path + "/")
        patterns = [
            _compile_pattern(excluded.strip("/"), True) for excluded in left_out if _is_nonempty_pattern(excluded)
        ]
        return any(pattern.match(path) for pattern in patterns for path in (name, inside))

    def follow_links(self, path: str) -> tuple[str, list[str]]:
        """A path with the symbolic links in it resolved, as BuildKit does, and these; what is behind a `*` stays."""
        links: list[str] = []
        for _ in range(_MAX_SYMLINKS):
            parts = path.split("/")
            for length in range(1, len(parts) + 1):
                link = "/".join(parts[:length])
                if (target := self.checkout.target(self.prefix + link)) is not None:
                    links.append(link)
                    start = "/" if target.startswith("/") else "/" + posixpath.dirname(link)
                    path = posixpath.normpath(posixpath.join(start, target.lstrip("/"), *parts[length:])).lstrip("/")
                    break
            else:
                break
        return path, list(dict.fromkeys(links))

    def _from_root(self, names: Iterable[str]) -> list[str]:
        return [self.prefix + name for name in names]


def _parse_ignore_rules(text: str) -> tuple[list[IgnoreRule], int]:
    """The rules of a .dockerignore, and how many lines are left out because there are too many of their kind."""
    rules: list[IgnoreRule] = []
    joined: list[tuple[bool, list[str]]] = []
    slow_lines = 0
    for sign, steps in _iter_ignore_lines(text):
        if _count_wildcards(steps) <= MAX_FAST_WILDCARDS:
            if not joined or joined[-1][0] != sign:
                joined.append((sign, []))
            joined[-1][1].append(_build_regex(steps))
            continue
        slow_lines += 1
        if slow_lines <= MAX_SLOW_LINES:
            rules += _join_rules(joined)
            joined = []
            rules.append((sign, LinearMatcher(steps)))
    rules += _join_rules(joined)
    return rules, max(0, slow_lines - MAX_SLOW_LINES)


def _iter_ignore_lines(text: str) -> Iterator[tuple[bool, list[MatchStep]]]:
    """The lines of a .dockerignore: whether each ignores or, with `!`, brings back, and its pattern."""
    for line in text.removeprefix("\ufeff").splitlines():
        body = "" if line.startswith("#") else line.strip()
        sign = not body.startswith("!")
        body = body.removeprefix("!").strip()
        if body:
            yield sign, _translate_pattern(posixpath.normpath("/" + body).lstrip("/"), True)


def _join_rules(joined: list[tuple[bool, list[str]]]) -> Iterator[tuple[bool, re.Pattern[str]]]:
    for sign, sources in joined:
        yield sign, re.compile("|".join(f"(?:{source})" for source in sources), re.DOTALL)


def _compile_pattern(pattern: str, deep: bool) -> re.Pattern[str] | LinearMatcher:
    steps = _translate_pattern(pattern, deep)
    is_fast = _count_wildcards(steps) <= MAX_FAST_WILDCARDS
    return re.compile(_build_regex(steps), re.DOTALL) if is_fast else LinearMatcher(steps)


def _count_wildcards(steps: list[MatchStep]) -> int:
    return sum(step.kind in ("any", "paths") for step in steps)


def _build_regex(steps: list[MatchStep]) -> str:
    """The steps for `re`, which is the faster one for a pattern with few wildcards."""
    sources = {"paths": "(?:.*/)?", "below": r"(?:/.*)?\Z"}
    many = {"any": "*"}
    return "".join(sources.get(step.kind) or step.characters + many.get(step.kind, "") for step in steps)


def _translate_pattern(pattern: str, deep: bool) -> list[MatchStep]:
    """A pattern that also matches all below; `deep`: `**` stands for any folders."""
    steps: list[MatchStep] = []
    for token in _PATTERN_TOKEN.finditer(pattern):
        kind, text = token.lastgroup, token[0]
        if kind == "folders" and deep:
            steps.append(MatchStep("paths") if text == "**/" else MatchStep("any"))
        elif kind == "folders":
            steps.append(MatchStep("any", "[^/]"))
            steps += [MatchStep("one", "/")] if text.endswith("/") else []
        elif kind == "some":
            steps.append(MatchStep("any", "[^/]"))
        elif kind == "one":
            steps.append(MatchStep("one", "[^/]"))
        elif kind == "set":
            steps += _translate_character_set(text[1:-1])
        else:
            steps.append(MatchStep("one", re.escape(token["plain"] or text)))
    return [*steps, MatchStep("below")]


def _translate_character_set(body: str) -> list[MatchStep]:
    """One character of a set; the text itself for what is no set."""
    sign, body = ("^", body[1:]) if body.startswith("^") else ("", body)
    escaped = re.sub(r"[\\\[\]^&~|]", r"\\\g<0>", body)
    try:
        re.compile(f"[{sign}{escaped}]")
    except re.error:
        return [MatchStep("one", re.escape(character)) for character in f"[{sign}{body}]"]
    return [MatchStep("one", f"[{sign}{escaped}]")]


def _is_nonempty_pattern(pattern: str) -> bool:
    return bool(pattern.strip("/"))
