"""A Dockerfile is read as BuildKit reads it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiwari_ci.readers.dockerfile import Dockerfile, parse_dockerfile


def taken(text: str) -> list[str]:
    """The paths that the stages of a Dockerfile take from the context."""
    return [source.path for stage in parse_dockerfile(text).stages for source in stage.sources]


def copied(rest: str) -> list[str]:
    """The same for the lines after a FROM."""
    return taken(f"FROM a\n{rest}\n")


def ports(text: str) -> list[tuple[int, int, str]]:
    return [(port.low, port.high, port.protocol) for port in parse_dockerfile(text).exposed]


@pytest.mark.parametrize(
    ("line", "paths"),
    [
        ("COPY a b /x/", ["a", "b"]),
        ("copy a /x", ["a"]),
        ("COPY . .", [""]),
        ("COPY ./ /x", [""]),
        ("COPY /a/./b/ ../c /x/", ["a/b", "c"]),
        ('COPY ["a b", "c d", "/x/"]', ["a b", "c d"]),
        ("COPY ['a', 'b']", ["[a,"]),
        ('COPY "a" /x', ["a"]),
        ("COPY --chown=u:g --chmod=755 --link a /x", ["a"]),
        ("COPY --from=b a /x", []),
        ("COPY --from=nginx:1 /a /x", []),
        ("COPY --parents ./a/**/c.json /x/", ["a/**/c.json"]),
        ("COPY <<EOF /x\nCOPY no /x\nEOF\nCOPY b /x", ["b"]),
        ("COPY <<A <<-'B' c /x/\nno\nA\n\tno\n\tB\nCOPY b /x", ["c", "b"]),
        ("RUN cat <<EOF\nCOPY no /x\nEOF\nCOPY b /x", ["b"]),
        ("RUN echo $((1<<2)) '<<EOF' \"<<EOF\" a<<EOF\nCOPY b /x", ["b"]),
        ("ADD a.tar https://example.com/b git@example.com:c git://d/e https://example.com/f.git#v1 /x/", ["a.tar"]),
        ("ADD --checksum=sha256:0 https://example.com/b.tar /x", []),
        ("RUN --mount=type=bind,source=a,target=/x make", ["a"]),
        ("RUN --mount=src=./a,target=/x --mount=target=. --mount=type=cache,target=/y make", ["a", ""]),
        ("RUN --mount=type=bind,from=b,source=a,target=/x make", []),
        ("RUN --mount=type=secret,id=a --mount=type=tmpfs,target=/y --mount=type=ssh make", []),
        ("COPY a \\\n  b \\ \n\n  # c\n  d /x/\nCOPY e /x", ["a", "b", "d", "e"]),
        ("COPY a\\ /x\nCOPY b /x", ["a", "b"]),
        ("  \tCOPY\ta\t/x", ["a"]),
        ("ONBUILD COPY a /x", []),
        ("LABEL a=<<EOF\nCOPY b /x", ["b"]),
    ],
)  # fmt: skip
def test_what_a_line_takes(line: str, paths: list[str]) -> None:
    assert copied(line) == paths


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("ARG A=a\nFROM x\nCOPY $A/b /x", ["/b"]),  # one of before FROM must be asked for
        ("ARG A=a\nFROM x\nARG A\nCOPY $A/b /x", ["a/b"]),
        ("ARG A=a\nFROM x\nARG A=c\nCOPY ${A}/b /x", ["c/b"]),
        ("FROM x\nARG A=a\nENV A=b\nARG A=c\nCOPY $A /x", ["b"]),
        ("FROM x\nENV A=a B='b c'\nENV C=\"$A\"\nCOPY $A $C ${B} /x/", ["a", "a", "b c"]),
        ("FROM x\nENV A a b\nCOPY $A /x", ["a b"]),
        ("FROM x AS y\nARG A=a\nFROM y\nCOPY $A /x", ["a"]),
        ("FROM x\nCOPY ${A:-a} ${A-b} c${A:+d} '$A' \\$A /x/", ["a", "b", "c", "$A", "$A"]),
        ("FROM x\nARG A=a\nARG E=\nCOPY ${A:-b} ${A:+c} ${E:-d} e${E-f} ${E:-${A}} ${A?no} /x/", list("acdeaa")),
    ],
)  # fmt: skip
def test_variables(text: str, paths: list[str]) -> None:
    assert [path.lstrip("/") for path in taken(text)] == [path.lstrip("/") for path in paths]


def test_variables_that_only_the_build_knows() -> None:
    text = "FROM x\nARG APP\nARG TARGETARCH\nENV D=a/$APP\nCOPY a$APP b$TARGETARCH c$OTHER $D ${D#a} e /x/\n"
    assert [(source.unknown, source.undefaulted) for source in parse_dockerfile(text).stages[0].sources] == [
        (("APP",), ("APP",)),
        (("TARGETARCH",), ()),
        (("OTHER",), ()),
        (("D",), ()),
        (("D",), ()),
        ((), ()),
    ]


def test_lines() -> None:
    text = "# a comment\n\nFROM x\n# another\nRUN <<EOF\na\nEOF\nCOPY a \\\n  b /x/\n"
    assert [
        (instruction.name, instruction.line, instruction.last)
        for instruction in parse_dockerfile(text).stages[0].instructions
    ] == [
        ("RUN", 5, 7),
        ("COPY", 8, 9),
    ]


def test_the_escape_character() -> None:
    text = "# syntax=docker/dockerfile:1\n# escape=`\nFROM x\nCOPY a `\n b\\ /x/\n"
    assert parse_dockerfile(text).syntax == "docker/dockerfile:1"
    assert taken(text) == ["a", "b\\"]
    assert taken("FROM x\n# escape=`\nCOPY a `\n") == ["a"]


def test_a_file_from_windows() -> None:
    assert taken("\ufeffFROM x\r\nCOPY a \\\r\n  b /x/\r\nRUN <<EOF\r\nCOPY no /x\r\nEOF\r\nCOPY c /x\r\n") == [
        "a",
        "b",
        "c",
    ]


def built(text: str) -> list[str]:
    return [stage.name for stage in parse_dockerfile(text).built]


def test_only_what_the_last_stage_needs_is_built() -> None:
    stages = "FROM x AS base\nFROM base AS Deps\nFROM x AS dev\nFROM base AS build\nCOPY --from=deps a b\n"
    assert built(stages + "FROM y AS last\nCOPY --from=3 a b\n") == ["base", "deps", "build", "last"]
    assert built(stages + "FROM y AS last\nRUN --mount=from=dev,target=/d true\n") == ["dev", "last"]
    assert built(stages + "FROM y AS last\nRUN --mount=type=cache,from=dev,target=/d true\n") == ["dev", "last"]
    assert built(stages + "FROM y AS last\nCOPY --from=nginx a b\nCOPY --from=9 a b\n") == ["last"]
    assert built("FROM --platform=$BUILDPLATFORM x as a\nFROM A\nCOPY --from=1 a b\n") == ["a", ""]


def test_images() -> None:
    stages = parse_dockerfile(
        "ARG V=22 B=node\nARG I=$B:${V}\nFROM ${I}-x AS a\nFROM a\nFROM --platform=linux/amd64 scratch\n"
    ).stages
    assert [(stage.name, stage.image, stage.parent) for stage in stages] == [
        ("a", "node:22-x", None),
        ("", "a", 0),
        ("", "scratch", None),
    ]


def test_ports() -> None:
    stages = "FROM x AS a\nEXPOSE 80/UDP\nFROM x AS b\nEXPOSE 1\nFROM a\n"
    text = stages + "ARG PORT=3000\nEXPOSE $PORT 8000-8010/tcp $NO x 9:9\n"
    assert ports(text) == [(80, 80, "udp"), (3000, 3000, "tcp"), (8000, 8010, "tcp")]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", [(1, "no FROM: there is nothing to build")]),
        ("FROM x\nRUM a\n", [(2, "`RUM` is no instruction")]),
        ("FROM x\nCOPY a\n", [(2, "COPY lacks a source or a destination")]),
        ("FROM\n", [(1, "FROM names no image")]),
        ("COPY a b\nFROM x\n", [(1, "COPY before the first FROM")]),
        ("FROM x\nRUN <<EOF\na\n", [(2, "the text of `<<EOF` never ends: no line after it is `EOF`")]),
    ],
)
def test_what_no_build_gets_past(text: str, faults: list[tuple[int, str]]) -> None:
    assert list(parse_dockerfile(text).faults) == faults


PIECES = st.sampled_from(
    ["FROM a AS b", "FROM b", "COPY", "ADD", "RUN", "ARG", "ENV", "EXPOSE", "ONBUILD", "#", "# escape=`", "--from="]
    + ["--from=0", "--mount=type=bind,", "source=", "--exclude=*", "<<EOF", "<<-'E'", "<<", "EOF", "$", "${", "${A:-"]
    + ["$A", "}", "[", "]", '"', "'", "\\", "`", "\n", "\\\n", "\r\n", "\t", " ", "=", ",", "a", "é", "\0", ".."]
    + ["/", "*", "80", "²", "\u2028", "\x1b"]
)


@given(st.lists(PIECES, max_size=40).map(lambda pieces: "".join(pieces)) | st.text())
@settings(max_examples=300, deadline=None)
def test_nothing_makes_it_fall(text: str) -> None:
    dockerfile: Dockerfile = parse_dockerfile(text)
    lines = text.count("\n") + 1
    assert dockerfile.stages or dockerfile.faults
    for stage in dockerfile.stages:
        assert all(1 <= instruction.line <= instruction.last <= lines for instruction in stage.instructions)
        assert all(not source.path.startswith(("/", "../")) and source.path != ".." for source in stage.sources)
        assert stage.needs <= set(range(len(dockerfile.stages)))
    assert not dockerfile.stages or dockerfile.built[-1] == dockerfile.stages[-1]


words = st.text("abc.*-_/é", min_size=1).filter(lambda word: not word.startswith("-") and "//" not in word)


@given(st.lists(words, min_size=1, max_size=4), st.sampled_from([" ", " \\\n ", "\t", " \\\n# no\n\n"]))
@settings(max_examples=200, deadline=None)
def test_what_is_written_is_what_is_read(names: list[str], gap: str) -> None:
    """However a COPY is broken into lines, also in its JSON form."""
    plain = copied(f"COPY{gap}{gap.join([*names, '/x/'])}")
    assert plain == copied('COPY ["' + '", "'.join([*names, "/x/"]) + '"]')
    assert len(plain) == len(names)


@pytest.mark.parametrize("piece", ["\\\n", '"', "'a", "${A:-", "<<", "<<a ", "COPY --a", '"\\', "[", "# a=b\n"])
def test_no_text_takes_long(piece: str) -> None:
    """A pattern that goes back on what it has read would never end here."""
    parse_dockerfile("FROM a\nRUN " + piece * 20_000)
    parse_dockerfile("FROM a\nCOPY " + piece * 20_000 + " /x")


def test_what_a_build_is_given() -> None:
    text = "ARG V=1\nARG W=$V\nFROM x:$W AS a\nARG V\nARG N=n\nARG D=d\nENV D=e\nCOPY $V-$N-$D /x\n"
    text += "FROM y AS b\nCOPY c /x\n"
    read_so = parse_dockerfile(text, {"V": "2", "N": None, "D": "f"}, "A")
    assert [stage.name for stage in read_so.built] == ["a"]
    assert read_so.stages[0].image == "x:2"
    (taken,) = read_so.built[0].sources
    assert (taken.unknown, taken.undefaulted) == (("N",), ())
    assert parse_dockerfile("FROM x\nARG V=1\nCOPY $V /x\n", {"V": "2"}).built[0].sources[0].path == "2"
    assert parse_dockerfile(text, {}, "c").target is None and parse_dockerfile(text, {}, "c").built == ()
    assert read_so.arguments == {"V", "W", "N", "D"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("ARG SRC=b\nFROM a AS b\nFROM c\nARG SRC\nCOPY --from=$SRC /s /s\n", (5, "`from=$SRC`: no variable")),
        ("FROM a AS b\nFROM c\nRUN --mount=from=${SRC:-b},target=/x true\n", (3, "`from=${SRC:-b}`: no variable")),
        ("FROM a AS b\nCOPY --from=b /x /y\n", (2, "COPY takes files of its own stage `b`")),
        ("FROM a AS b\nFROM c\nRUN --mount=from=1,target=/x true\n", (3, "RUN takes files of its own stage `1`")),
        ("FROM a\nONBUILD ONBUILD RUN b\n", (2, "ONBUILD takes no ONBUILD")),
        ("FROM a\nONBUILD FROM b\n", (2, "ONBUILD takes no FROM")),
        ("FROM a\nONBUILD COPPY b c\n", (2, "`COPPY` is no instruction")),
        ("FROM a AS b\nONBUILD COPY --from=$C /x /y\nFROM b\n", (2, "`from=$C`: no variable")),
    ],
)
def test_a_source_that_no_build_can_copy_from(text: str, fault: tuple[int, str]) -> None:
    [(line, message)] = parse_dockerfile(text).faults
    assert line == fault[0]
    assert message.startswith(fault[1])


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("FROM a AS b\nONBUILD COPY x /x\nFROM b AS c\nFROM c\nCOPY y /y\n", ["x", "y"]),  # not again in c's child
        ("FROM a AS b\nONBUILD ADD --chown=u x /x\n", []),
        ("FROM a AS b\nONBUILD ARG D=x\nONBUILD COPY $D /x\nFROM b\n", ["x"]),
        ("FROM a AS b\nonbuild run --mount=target=/x,source=z true\nFROM b\n", ["z"]),
    ],
)
def test_what_onbuild_takes_in_the_stage_that_builds_on_it(text: str, paths: list[str]) -> None:
    assert taken(text) == paths


@pytest.mark.parametrize(
    ("lines", "port"),
    [("ENV P=3000\nENV P=4000 Q=$P", 3000), ("ARG P=3000\nARG P=4000 Q=$P", 3000), ("ENV P=1\nENV Q=$P R=2", 1)],
)
def test_the_values_of_one_line_see_those_before_it(lines: str, port: int) -> None:
    assert ports(f"FROM a\n{lines}\nEXPOSE $Q\n") == [(port, port, "tcp")]
