"""The page of failures holds every message that there is, and no other; each is found by what a log shows."""

import ast
import re

import pytest

from docs import failures
from docs.failures import GAP, SECTIONS, Section, entries, examples, fits, page

WRITTEN = [(section.key, name) for section in SECTIONS for name in entries()[section.key]]
OURS = [section for section in SECTIONS if section.key not in ("spec", "others")]


@pytest.mark.parametrize("section", OURS, ids=lambda section: section.key)
def test_every_message_has_an_entry_and_every_entry_a_message(section: Section) -> None:
    written = [entry["message"] for entry in entries()[section.key].values()]
    assert sorted(written) == sorted(section.texts()), "docs/failures.yaml"


def test_every_rule_has_an_entry_and_every_entry_a_rule() -> None:
    assert entries()["spec"].keys() == failures.rules()


def test_each_section_has_entries_and_each_name_is_one() -> None:
    assert list(entries()) == [section.key for section in SECTIONS]
    names = [name for _, name in WRITTEN]
    assert len(names) == len(set(names)) and all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in names)


@pytest.mark.parametrize(("key", "name"), WRITTEN, ids=lambda word: word)
def test_an_entry_shows_its_message_and_ends_in_a_cure(key: str, name: str) -> None:
    entry = entries()[key][name]
    shown = examples().get(name) or entry.get("shown") or entry["message"]
    assert entry.keys() <= {"message", "cause", "cure", "shown"} and not (name in examples() and "shown" in entry)
    assert key == "spec" or fits(entry["message"], shown)
    assert entry["cause"].rstrip().endswith((".", "`"))
    says_it = re.search(r"hint: |cure: |: [a-z][^:]*$|--", shown)
    assert "cure" in entry or says_it, "neither the message nor the entry has a cure"


def test_a_line_of_a_log_is_found() -> None:
    """The longest part of a message that is always the same stands on the page, below its own heading."""
    blocks = {block.partition("\n")[0]: block for block in re.split(r"^### ", page(), flags=re.M)[1:]}
    for key, name in WRITTEN:
        message = entries()[key][name].get("message", f"[{name}]")
        assert max(message.split(GAP), key=len) in blocks[name], name


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("fail \"no stack '$stack' here\"", "no stack '…' here"),
        ('fail "a \\$ in ${said-}, of $(cat x)"', "a $ in …, of …"),
        ("<%= deploy.host | name %>: ${x//$'\\n'/, }", "…: …"),
    ],
)
def test_a_text_without_its_values(script: str, expected: str) -> None:
    inner = re.search(r'"(.*)"', script)
    assert failures.plain(inner[1] if inner else script) == expected


def test_a_new_message_is_missed() -> None:
    """The test above can fail: a refusal that nobody has written about is seen, whatever the form."""
    code = "raise click.UsageError(f'a {b} c')\nconflicts.append('new')\nclick.echo('said', err=True)\nclick.echo('no')"
    assert set(failures._reported(ast.parse(code))) == {"a … c", "new", "said"}


def test_the_refusals_of_the_host_program_are_found_with_their_codes() -> None:
    program = """
SERVING, NOT_SERVING, BAD_REQUEST, NOT_READY = 0, 1, 64, 69
sys.exit("deploy: Python %d.%d is old" % sys.version_info[:2])
raise Failed(BAD_REQUEST, f"no stack '{name}' here")
raise Cancelled(NOT_SERVING, "cancelled")
yield Finding("docker is old", "Install a newer one")
def check():
    shown = f"the env file {name}"
    twice = "a"
    twice = "b"
    yield Finding(f"{shown} is missing", f"Copy {twice}", BAD_REQUEST)
print_error("it goes on")
print_error(message)
fail(stack, service, "it was not finished")
print("quiet")
"""
    assert set(failures.refusals(program)) == {
        ("1", "deploy: Python … is old"),
        ("64", "no stack '…' here"),
        ("1", "cancelled"),
        ("69", "docker is old. Install a newer one"),
        ("64", "the env file … is missing. Copy …"),
        ("", "it goes on"),
        ("", "it was not finished"),
    }


def test_the_refusals_of_the_client_are_found() -> None:
    program = """
UNCLEAR = "nobody knows what serves"
raise Refused(f"{word} is not an option")
def problems_of_words():
    yield f"{word} needs a word"
def lines():
    yield "a line"
def read_result():
    where = f"see {host}"
    raise Refused(f"{UNCLEAR}: {where}")
def conclude():
    message = result.message or "it does not serve"
    annotate("error", f"{stack}: {message}")
    annotate("notice", "superseded")
"""
    assert set(failures.refusals(program)) == {
        ("", "… is not an option"),
        ("", "… needs a word"),
        ("", "nobody knows what serves: see …"),
        ("", "…: it does not serve"),
    }
