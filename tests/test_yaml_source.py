import json
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kiwari_ci.problems import Problem, SpecError
from kiwari_ci.spec_loading import yaml_source
from kiwari_ci.spec_loading.yaml_source import SourceSpan, YamlSource
from tests.amounts import sample_or_all

quickly = settings(derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True, params=["CSafeLoader", "SafeLoader"])
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything holds with the parser in C and with the one in Python."""
    monkeypatch.setattr(yaml_source, "_YAML_LOADER", getattr(yaml, request.param))


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("source") / "spec.yaml"


def read(path: Path, content: str | bytes) -> YamlSource:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return yaml_source.load_yaml(path)


def faults(path: Path, content: str | bytes) -> list[Problem]:
    with pytest.raises(SpecError) as raised:
        read(path, content)
    return raised.value.problems


def places(problems: list[Problem]) -> list[tuple[str, int, int]]:
    return [(problem.rule, problem.line, problem.column) for problem in problems]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("nULL", "nULL"),
        ("true", True),
        ("FALSE", False),
        ("on", "on"),
        ("yes", "yes"),
        ("No", "No"),
        ("y", "y"),
        ("22:22", "22:22"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("012", 12),
        ("-7", -7),
        ("+7", 7),
        ("0o17", 15),
        ("0x1F", 31),
        ("1.10", 1.1),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("-.inf", -math.inf),
        ("1.2.3", "1.2.3"),
        ("v1", "v1"),
        ("=", "="),
        ('"true"', "true"),
        ("'1.10'", "1.10"),
        ("[a, 1]", ["a", 1]),
        ("{on: off}", {"on": "off"}),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_scalars_follow_the_core_schema(spec: Path, written: str, value: Any) -> None:
    document = read(spec, f"key: {written}").data
    assert document == {"key": value}
    assert type(document["key"]) is type(value)


def test_not_a_number(spec: Path) -> None:
    assert math.isnan(read(spec, "key: .nan").data["key"])


def test_places(spec: Path) -> None:
    source = read(spec, "on:\n  é😀: {b: 'x y'}   # note\n  list:\n    - 1.10\n    -\n  none:\n  text: |\n    more\n")
    assert source.data == {"on": {"é😀": {"b": "x y"}, "list": [1.1, None], "none": None, "text": "more\n"}}
    assert source.keys == {
        ("on",): SourceSpan(1, 1, 2),
        ("on", "é😀"): SourceSpan(2, 3, 2),
        ("on", "é😀", "b"): SourceSpan(2, 8, 1),
        ("on", "list"): SourceSpan(3, 3, 4),
        ("on", "none"): SourceSpan(6, 3, 4),
        ("on", "text"): SourceSpan(7, 3, 4),
    }
    assert source.values == {
        (): SourceSpan(1, 1, 3),
        ("on",): SourceSpan(2, 3, 23),
        ("on", "é😀"): SourceSpan(2, 7, 10),
        ("on", "é😀", "b"): SourceSpan(2, 11, 5),
        ("on", "list"): SourceSpan(4, 5, 6),
        ("on", "list", 0): SourceSpan(4, 7, 4),
        ("on", "list", 1): SourceSpan(5, 5, 1),
        ("on", "none"): SourceSpan(6, 3, 4),
        ("on", "text"): SourceSpan(7, 9, 1),
    }
    assert source.at(source.values["on", "list", 0]) == "1.10"
    assert source.excerpt(4) == "    - 1.10"


def test_line_ends_and_byte_order_mark_change_nothing(spec: Path) -> None:
    plain = read(spec, "a: 1\nb:\n  c: d\n")
    for other in ("\ufeffa: 1\nb:\n  c: d\n", "a: 1\r\nb:\r\n  c: d\r\n", "a: 1\rb:\r  c: d\r"):
        assert read(spec, other) == plain


def test_long_lines_are_not_shown(spec: Path) -> None:
    assert read(spec, f"a: {'x' * 500}").excerpt(1) == ""


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", [("empty", 0, 0)]),
        ("# only\n# words\n", [("empty", 0, 0)]),
        ("---\n", [("empty", 0, 0)]),
        ("- a\n", [("not-a-mapping", 1, 1)]),
        ("\njust text\n", [("not-a-mapping", 2, 1)]),
        ("a: 1\nb: 2\na: 3\na: 4\n", [("duplicate-key", 3, 1), ("duplicate-key", 4, 1)]),
        ("a: {b: 1, b: 2}\nc:\n- d: 1\n  d: 2\n", [("duplicate-key", 1, 11), ("duplicate-key", 4, 3)]),
        ("1: a\ntrue: b\n~: c\n1.5: d\n", [("key-not-text", line, 1) for line in (1, 2, 3, 4)]),
        ("? [a, {b: c}]\n: 1\n? {d: e}\n: 2\n", [("key-not-text", 1, 3), ("key-not-text", 3, 3)]),
        ("a: &x {b: 1}\nc: *x\n", [("anchor", 1, 4), ("alias", 2, 4)]),
        ("a:\n  <<: {b: 1}\n", [("merge-key", 2, 3)]),
        ("a: !!python/object:os.system x\nb: !!str 1\n", [("tag", 1, 4), ("tag", 2, 4)]),
        ("!x a: !!binary aGk=\n", [("tag", 1, 1), ("tag", 1, 7)]),
        ("a: 1\n---\nb: 2\n", [("second-document", 2, 1)]),
        ("%YAML 1.1\n---\na: 1\n", [("directive", 1, 1)]),
        ("a: 1\na: 2\nb: 'open\n", [("duplicate-key", 2, 1), ("yaml-syntax", 3, 4)]),
        ("a:\n\tb: 1\n", [("yaml-syntax", 2, 1)]),
        ("a: b: c\n", [("yaml-syntax", 1, 5)]),
        ("a: [1\n\n", [("yaml-syntax", 1, 4)]),
        ("a: [1\nb: 2\nc: ]\n", [("yaml-syntax", 2, 2)]),
        ("a: x\x07\nb: \u2028\n", [("control-character", 1, 5), ("control-character", 2, 4)]),
        ("a: 1\nb: \0\n", [("not-text", 2, 4)]),
        (b"a: 1\nb: \xc3\xa9\xff\n", [("not-text", 2, 5)]),
        (b"\xff\xfea\0:\0", [("not-text", 1, 1)]),
        (f"a: {'9' * 5000}\n", [("long-number", 1, 4)]),
    ],
)
def test_faults_and_their_places(spec: Path, content: str | bytes, expected: list[tuple[str, int, int]]) -> None:
    assert places(faults(spec, content)) == expected


def test_words(spec: Path) -> None:
    [twice] = faults(spec, "a: 1\n\na: 2\n")
    assert twice.message == "`a` stands here twice, first on line 1"
    assert (twice.length, twice.excerpt, twice.path) == (1, "a: 2", spec.as_posix())
    [tab] = faults(spec, "a:\n\tb: 1\n")
    assert (tab.message, tab.hint) == ("not YAML: a tab where YAML wants blanks", "indent with blanks")
    [binary] = faults(spec, b"\xef\xbb\xbfa: 1\n\x80")
    assert binary.message == "not UTF-8 text: byte 0x80 at offset 8"
    [tag] = faults(spec, "a: !!python/name:os.system x\n")
    assert tag.message == "the tag `!!python/name:os.system` is not read"
    [quote] = faults(spec, "a: 'open\nb: 1\n")
    assert (quote.line, quote.hint) == (1, "a quote is opened here or above, and never closed")


def test_quoted_merge_sign_is_a_key(spec: Path) -> None:
    assert read(spec, '"<<": 1').data == {"<<": 1}


def test_a_message_is_harmless_to_a_terminal(spec: Path) -> None:
    problems = faults(spec, '"\\e[2J": 1\n"\\e[2J": 2\n') + faults(spec, "a: \x1b[2J\n")
    assert "\x1b" not in "".join(str(problem) for problem in problems)
    assert problems[-1].excerpt == "a: \ufffd[2J"


def test_no_file_a_folder_a_strange_name(tmp_path: Path) -> None:
    for path, words in [
        (tmp_path / "none.yaml", "no such file"),
        (tmp_path, "a folder, not a file"),
        (tmp_path / "a\0b", "cannot be read"),
        (tmp_path / ("a" * 300), "cannot be read"),
    ]:
        with pytest.raises(SpecError) as raised:
            yaml_source.load_yaml(path)
        [problem] = raised.value.problems
        assert words in problem.message
        assert (problem.path, problem.line) == (path.as_posix(), 0)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("a: 1")
    path.chmod(0)
    if os.geteuid() == 0:  # root may read it all the same
        monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(SpecError, match="may not be read"):
        yaml_source.load_yaml(path)


def refuse(*_: object) -> None:
    raise PermissionError(13, "Permission denied")


def test_one_byte_too_many(spec: Path) -> None:
    start = "a: 1 #"
    assert read(spec, start.ljust(yaml_source.MAX_SPEC_SIZE, "x")).data == {"a": 1}
    assert places(faults(spec, start.ljust(yaml_source.MAX_SPEC_SIZE + 1, "x"))) == [("too-large", 0, 0)]


def test_as_deep_as_it_may_be(spec: Path) -> None:
    deep = read(spec, "a: " + "[" * (yaml_source.MAX_DEPTH - 1) + "]" * (yaml_source.MAX_DEPTH - 1))
    assert max(map(len, deep.values)) == yaml_source.MAX_DEPTH - 1
    for bomb in ("[" * 50_000, "- " * 50_000, "{a: " * 50_000, "? " + "[" * 50_000, "a: " + "[" * 50_000):
        assert "too-deep" in {problem.rule for problem in faults(spec, bomb)}


def test_faults_without_end_are_cut(spec: Path) -> None:
    assert len(faults(spec, "a: 1\n" * 100_000)) == yaml_source.MAX_PROBLEMS
    assert len(faults(spec, "\x01" * 100_000)) == yaml_source.MAX_PROBLEMS
    assert len(str(SpecError(faults(spec, "{" + "a: 1, " * 100_000 + "}")))) < 20_000


# Whole files of YAML's own signs reach more of a parser than random bytes do.
SIGNS = st.sampled_from(list("ab1~:-?,[]{}#&*!|>'\"%@`\\ \n\t\r.") + ["\n  ", ": ", "- ", "<<: ", "---\n", "é", "😀"])
TEXTS = st.lists(SIGNS, max_size=40).map("".join).map(str.encode)
ENCODED = st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace"))


@pytest.mark.parametrize("examples", sample_or_all(50, 400))
def test_any_bytes_are_a_source_or_faults(spec: Path, examples: int) -> None:
    @settings(quickly, max_examples=examples)
    @given(content=st.binary(max_size=60) | TEXTS | ENCODED)
    @example(content=b'a: "\\ud800"')
    @example(content=b"? ")
    @example(content=b"- ")
    @example(content=b"a:\n  - \n\n\n")
    def tried(content: bytes) -> None:
        spec.write_bytes(content)
        try:
            source = yaml_source.load_yaml(spec)
        except SpecError as raised:
            assert raised.problems
            text = content.decode("utf-8", "replace").removeprefix("\ufeff")
            lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
            for problem in raised.problems:
                assert problem.line == 0 or 1 <= problem.column <= len(lines[problem.line - 1]) + 1
        else:
            for place in [*source.keys.values(), *source.values.values()]:
                assert source.at(place).strip() and len(source.at(place)) == place.length
            assert set(source.keys) < set(source.values)

    tried()


WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"], exclude_characters="\ufeff\u2028\u2029")
)
DATA = st.recursive(
    WORDS | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("examples", sample_or_all(20, 150))
def test_data_and_places_of_what_was_written(spec: Path, examples: int) -> None:
    """JSON is YAML, so what is at a place can be read by another reader."""

    @settings(quickly, max_examples=examples)
    @given(data=st.dictionaries(WORDS, DATA, max_size=4), indent=st.sampled_from([None, 1]))
    def tried(data: Any, indent: int | None) -> None:
        source = read(spec, json.dumps(data, indent=indent, ensure_ascii=False))
        assert source.data == data
        for loc, place in source.keys.items():
            assert json.loads(source.at(place)) == loc[-1]
            assert source.at(source.values[loc])[0] == json.dumps(value_at(data, loc), ensure_ascii=False)[0]

    tried()


def value_at(node: Any, loc: yaml_source.YamlPath) -> Any:
    for part in loc:
        node = node[part]
    return node


def test_a_thousand_services_read_quickly(spec: Path) -> None:
    service = (
        "    image: x\n    paths: [a/**, b]\n    health: {path: /}\n    env: {A: {secret: true}, B: {domain: x}}\n"
    )
    text = "services:\n" + "".join(f"  s{number}:\n{service}" for number in range(1000))
    start = time.process_time()
    source = read(spec, text)
    assert time.process_time() - start < 3  # seconds; the parser in C takes a tenth of one
    assert len(source.data["services"]) == 1000
    assert len(source.values) == 2 + 1000 * 12
