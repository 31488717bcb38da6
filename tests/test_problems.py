"""Problems as text, as GitHub's annotations and as JSON."""

import json
import re

import pytest

from kiwari_ci.problems import Problem, SpecError, format_problems_github, format_problems_json, format_problems_text

PAHTS = Problem(
    rule="unknown-key",
    message="unknown key `pahts` in services.api",
    path="specs/kiwari.yaml",
    line=41,
    column=9,
    length=5,
    hint="did you mean `paths`?",
    excerpt="        pahts: [api/**]",
)


def test_text_shows_the_place() -> None:
    assert format_problems_text([PAHTS]) == (
        "specs/kiwari.yaml:41:9: unknown key `pahts` in services.api [unknown-key]\n"
        "   |\n"
        "41 |         pahts: [api/**]\n"
        "   |         ^~~~~\n"
        "hint: did you mean `paths`?"
    )


def test_text_of_a_whole_file_and_of_advice() -> None:
    assert format_problems_text([Problem("no-file", "no such file", "a.yaml")]) == "a.yaml: no such file [no-file]"
    advice = Problem("moving-runner", "it moves", "a.yaml", 2, 1, severity="advice")
    assert format_problems_text([advice]) == "a.yaml:2:1: advice: it moves [moving-runner]"
    assert format_problems_text([]) == format_problems_github([]) == ""


def test_a_files_name_reaches_no_terminal_as_it_is() -> None:
    assert (
        format_problems_text([Problem("file-name", "odd", "\x1b[31m\udcff\n.yaml")])
        == "\ufffd[31m\ufffd\ufffd.yaml: odd [file-name]"
    )


def unescaped(annotation: str) -> tuple[str, dict[str, str], str]:
    """What GitHub's runner reads (actions/runner, ActionCommand.cs): command, properties, message."""
    match = re.fullmatch(r"::(\w+) (.*?)::(.*)", annotation)
    assert match
    message = match[3].replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")
    properties = dict(part.split("=", 1) for part in match[2].split(","))
    for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        properties = {key: value.replace(code, character) for key, value in properties.items()}
    return match[1], properties, message


@pytest.mark.parametrize("text", ["plain", "a,b:c", "100%", "%0A", "line\nline\r", "::error::x"])
def test_an_annotation_is_one_line_and_read_back(text: str) -> None:
    annotation = format_problems_github([Problem("value", text, text, 3, 7, hint=text)])
    assert "\n" not in annotation and "\r" not in annotation
    command, properties, message = unescaped(annotation)
    assert command == "error"
    assert properties == {"file": text, "line": "3", "col": "7", "title": "value"}
    assert message == f"{text}\nhint: {text}"


def test_advice_is_a_notice_without_a_place() -> None:
    assert (
        format_problems_github([Problem("value", "words", "a.yaml", severity="advice")])
        == "::notice file=a.yaml,title=value::words"
    )


def test_json_has_every_field() -> None:
    assert json.loads(format_problems_json([PAHTS])) == [vars(PAHTS)]
    assert "é" in format_problems_json([Problem("value", "é", "a.yaml")])


def test_faults_are_in_the_order_of_the_file_and_once() -> None:
    later = Problem("value", "later", "a.yaml", 10, 1)
    first = Problem("worker", "first", "a.yaml", 9, 30)
    whole = Problem("unused", "whole", "a.yaml")
    assert SpecError([later, first, whole, later]).problems == [whole, first, later]
    assert str(SpecError([first])) == "a.yaml:9:30: first [worker]"
