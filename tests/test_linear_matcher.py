"""Patterns of strangers: matched as before, and in time that does not explode."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiwari_ci.github_facts import path_filters
from kiwari_ci.readers import build_context, tracked_files

LONG_NAME = "a" * 3000


@pytest.mark.parametrize(
    "pattern",
    [
        "*a" * 30 + "b",
        "**/a" * 30,
        "**a" * 30 + "b",
        "a?" * 30 + "a" * 30 + "b",
        "a+" * 30 + "b",
        "**/*a*a*a*a*a*/**/b",
    ],
)
def test_many_stars_take_no_time(pattern: str) -> None:
    started = time.monotonic()
    assert not path_filters.is_included([pattern], LONG_NAME)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("pattern", ["*a" * 30 + "b", "**/a" * 30 + "b", "?*" * 30 + "b"])
def test_many_stars_of_an_ignore_file_take_no_time(pattern: str, tmp_path: object) -> None:
    checkout = tracked_files.Checkout(None, {LONG_NAME: "100644"}, "")  # type: ignore[arg-type]
    started = time.monotonic()
    context = build_context.BuildContext(checkout, ".", f"{pattern}\n!{pattern}\n")
    assert context.sent == {LONG_NAME}
    assert time.monotonic() - started < 2


names = st.lists(st.sampled_from("ab/"), max_size=9).map("".join)
github_patterns = st.lists(st.sampled_from(["a", "b", "/", "*", "**", "**/", "[a-b]", "a?", "b+"]), max_size=7).map(
    "".join
)
ignore_patterns = st.lists(st.sampled_from(["a", "b", "/", "*", "**", "**/", "[ab]", "?"]), max_size=7).map("".join)


@given(github_patterns, names)
def test_both_ways_of_matching_a_filter_agree(pattern: str, name: str) -> None:
    _compare_both_ways(path_filters, lambda: path_filters.is_included([pattern], name))


@given(ignore_patterns, names)
def test_both_ways_of_matching_an_ignored_file_agree(pattern: str, name: str) -> None:
    _compare_both_ways(build_context, lambda: bool(build_context._compile_pattern(pattern, True).match(name)))


def _compare_both_ways(module: object, ask: object) -> None:
    answers = set()
    before = module.MAX_FAST_WILDCARDS  # type: ignore[attr-defined]
    try:
        for wildcards in (-1, 100):
            module.MAX_FAST_WILDCARDS = wildcards  # type: ignore[attr-defined]
            path_filters._compile_pattern.cache_clear()
            answers.add(ask())  # type: ignore[operator]
    finally:
        module.MAX_FAST_WILDCARDS = before  # type: ignore[attr-defined]
        path_filters._compile_pattern.cache_clear()
    assert len(answers) == 1
