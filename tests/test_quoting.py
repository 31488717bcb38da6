"""The filters: what one of them prints is read back as the value that went in, or it refuses."""

import io
import re
import subprocess

import pytest
import yaml as pyyaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from kiwari_ci.rendering.quoting import QuotedText, block, expression, name, sh, text, yaml
from tests.amounts import sample_or_all

quickly = settings(max_examples=400, derandomize=True, deadline=None, database=None)

# Pieces that mean something to YAML, to a shell, to GitHub or to Compose reach more than random characters do.
PIECES = st.sampled_from(
    [*"'\"\\$`#:-?!&*%@|>{}[],~= \t\n\x07\x85\u00a0\u2028\ufeffaé😀", " #", ": ", "- ", "? ", "<<", "${{", "}}", "$("]
    + ["  ", "---", "...", "yes", "no", "on", "null", "true", "1", "0x1F", "1e3", "22:22", "1_000", ".inf"]
)  # fmt: skip
STRINGS = st.lists(PIECES, max_size=6).map("".join) | st.text(st.characters(codec="utf-8"), max_size=12)


def both(document: str) -> list[object]:
    """What a reader of YAML 1.1 and one of 1.2 make of a document."""
    modern = YAML(typ="safe", pure=True)
    modern.version = (1, 2)
    return [pyyaml.load(document, pyyaml.CSafeLoader), modern.load(io.StringIO(document))]


@pytest.mark.parametrize("examples", sample_or_all(50, 400))
def test_yaml_is_read_back(examples: int) -> None:
    @settings(quickly, max_examples=examples)
    @given(value=STRINGS)
    @example(value="")
    @example(value="0o17")
    @example(value="=")
    @example(value="1:2:3")
    @example(value="a:")
    @example(value="-")
    @example(value=".")
    @example(value="api/**")
    @example(value="*.lock")
    @example(value="Dec")
    @example(value="\ud7ff\ue000\ufffd\U0010ffff")
    def tried(value: str) -> None:
        written = yaml(value)
        assert "\n" not in written
        assert both(f"key: {written}\n{written}: key\n") == [{"key": value, value: "key"}] * 2
        assert (
            both(f"- {written}\n- [{written}, {written}]\n- {{a: {written}, b: {written}}} # note\n")
            == [[value, [value, value], {"a": value, "b": value}]] * 2
        )

    tried()


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("main", "main"),
        ("api/**", "api/**"),
        ("packages/*/src", "packages/*/src"),
        ("a b", "a b"),
        ("on", '"on"'),
        ("y", '"y"'),
        ("N", '"N"'),
        ("1.10", '"1.10"'),
        ("22:22", '"22:22"'),
        ("v*", '"v*"'),
        ("*.lock", '"*.lock"'),
        ("!a", '"!a"'),
        (".", "."),
        ("a: b", '"a: b"'),
        ("a #b", '"a #b"'),
        ('"', "'\"'"),
        (" a", '" a"'),
        ("a\n", '"a\\u000a"'),
        (8080, "8080"),
    ],
)
def test_yaml_quotes_only_what_needs_it(value: str | int, written: str) -> None:
    assert yaml(value) == written


@pytest.mark.parametrize("examples", sample_or_all(50, 400))
def test_a_block_is_read_back_or_refused(examples: int) -> None:
    @settings(quickly, max_examples=examples)
    @given(value=STRINGS, indent=st.integers(1, 12), end=st.sampled_from(["", "\n"]))
    @example(value="a\n  b\n\n c", indent=2, end="\n")
    @example(value="# a", indent=2, end="")
    @example(value="a\n \n", indent=3, end="")
    @example(value="- a\n---\n...", indent=1, end="\n")
    def tried(value: str, indent: int, end: str) -> None:
        value += end
        try:
            written = block(value, indent)
        except ValueError:
            assert not value.strip() or value[0] in " \t\n" or value.endswith("\n\n") or re.search(r"[^ -~\n\t]", value)
            return
        outer = " " * (indent - 1)
        assert both(f"{outer}key: {written}\n{outer}next: 1\n") == [{"key": value, "next": 1}] * 2

    tried()


@pytest.mark.parametrize("value", ["", "\n", " a", "\ta", "\na", "a\n\n", "a\x07", "a\x85b", "a\u2028b", "a\rb"])
def test_a_block_refuses(value: str) -> None:
    with pytest.raises(ValueError, match="no YAML block can hold"):
        block(value, 2)


@settings(quickly, max_examples=60)
@given(words=st.lists(STRINGS.filter(lambda word: "\0" not in word), min_size=1, max_size=5))
def test_a_shell_reads_the_words_back(words: list[str]) -> None:
    script = f"printf '%s\\0' {sh(words)} {sh(words[0])}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"})
    assert done.stdout.decode().split("\0")[:-1] == [*words, words[0]]


@pytest.mark.parametrize("value", ["it's", "a\nb", "${{ x }}", "\x07", "\u2028", "\ufeff"])
def test_text_refuses(value: str) -> None:
    with pytest.raises(ValueError, match="is not a line of plain text"):
        text(value)


@quickly
@given(value=STRINGS)
def test_text_stands_between_single_quotes(value: str) -> None:
    try:
        written = text(value)
    except ValueError:
        return
    assert written == value
    assert not {"'", "\n"} & set(written) and "${{" not in written


@pytest.mark.parametrize("value", ["", "a b", "-a", "a'", "$a", "a\n", "é", "a;b", "a(b", "*", "#a", "{a}"])
def test_name_refuses(value: str) -> None:
    with pytest.raises(ValueError, match="is not a name"):
        name(value)


@pytest.mark.parametrize("value", ["main", "release/1.x", "~/docker", ".env", "secrets.A_B", "ghcr.io/a/b:c@sha256:0"])
def test_name_leaves_a_name_alone(value: str) -> None:
    assert name(value) == value


def test_what_a_filter_makes_may_be_printed() -> None:
    quoted = [yaml("a"), sh("a b"), block("a", 2), text("a"), name("a")]
    assert [type(printable) for printable in quoted] == [QuotedText] * 5


@pytest.mark.parametrize("value", ["", "a }} ${{ b", "a\nb", 'a == "b"', "a # b", "a; b"])
def test_what_is_no_expression_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="is not an expression"):
        expression(value)
