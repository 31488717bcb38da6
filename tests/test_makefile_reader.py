"""Simple Makefiles: what make runs for a target, and what is listed as not read."""

import pytest

from kiwari_ci.readers.makefile import MAX_COMMANDS_LENGTH, MakeRun, parse_makefile, run_make

FILES = {"common.mk": "NAME = shop\nhello:\n\techo hello\n"}


def run(text: str, target: str = "", **given: str) -> MakeRun | None:
    return run_make(parse_makefile("Makefile", text, FILES.get), target, given, {"STAGE": "env", "HOME": "/root"})


@pytest.mark.parametrize(
    ("text", "target", "expected"),
    [
        ("up:\n\t@docker compose up -d\n", "", [("docker compose up -d", 2)]),
        ("all: b a\na:\n\ta\nb:\n\t-b\n", "", [("b", 5), ("a", 3)]),
        ("A = $(B).yml\nB := live\nup:\n\tup $(A) ${B} $$X\n", "", [("up live.yml live $X", 4)]),
        ("STAGE ?= live\nup:\n\tup $(STAGE)\n", "", [("up env", 3)]),
        ("STAGE = live\nup:\n\tup $(STAGE)\n", "", [("up live", 3)]),
        ("A = 1\nA += 2\nup: ; up $(A)\n", "", [("up 1 2", 3)]),
        ("A ?= 1\nA += 2\nA := $(A) ${A} 3\nup: ; up $(A)\n", "", [("up 1 2 1 2 3", 4)]),
        (
            "deploy-%: base\n\tup $* $@ $<\nbase:\n\tbase\n",
            "deploy-live",
            [("base", 4), ("up live deploy-live base", 2)],
        ),
        ("prod: STAGE = live\nprod: up\nup:\n\tup $(STAGE)\n", "prod", [("up live", 4)]),
        ("include common.mk\nup:\n\tup $(NAME)\n", "up", [("up shop", 3)]),
        ("a: b\n\ta\nb: a\n\tb\n", "a", [("b", 4), ("a", 2)]),
        (".PHONY: up\n.DEFAULT_GOAL := up\ndown:\n\tdown\nup: ## starts\n\tup\n", "", [("up", 6)]),
        ("up:\n\tone \\\n\t  two\n\tthree\n", "", [("one \\\n\t  two", 2), ("three", 4)]),
        (".ONESHELL:\nup:\n\tcd /srv\n\tup\n", "up", [("cd /srv\nup", 3)]),
        ("up:\n\t$(MAKE) -C infra down\n", "", [("make -C infra down", 2)]),
    ],
)
def test_the_commands_of_a_target(text: str, target: str, expected: list[tuple[str, int]]) -> None:
    result = run(text, target)
    assert result is not None
    assert [(line.text, line.line) for line in result.lines] == expected
    assert result.unread == {}


def test_a_variable_on_the_command_line_counts_before_all_others() -> None:
    result = run("STAGE = live\nup: STAGE = target\nup:\n\tup $(STAGE)\n", STAGE="staging")
    assert result is not None
    assert [line.text for line in result.lines] == ["up staging"]
    assert result.exported == {"STAGE": "staging"}


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("ifeq ($(A),b)\nF = a.yml\nelse\nF = b.yml\nendif\nup:\n\tup $(F)\n", {"Makefile:1"}),
        ("include other.mk\nup:\n\tup\n", {"Makefile:1"}),
        ("-include .env\nup:\n\tup\n", set()),
        ("define X\nup:\n\tdown\nendef\nup:\n\tup\n", {"Makefile:1"}),
        ("$(NAMES):\n\tx\nup:\n\tup\n", {"Makefile:1"}),
        ("$(foreach x,a b,$(eval $(x):))\nup:\n\tup\n", {"Makefile:1"}),
    ],
)
def test_what_is_not_read_is_listed_with_its_line(text: str, places: set[str]) -> None:
    makefile = parse_makefile("Makefile", text, FILES.get)
    assert makefile.unread.keys() == places
    result = run_make(makefile, "up", {}, {})
    assert result is not None
    assert "a.yml" not in result.lines[-1].text
    assert "b.yml" not in result.lines[-1].text


def test_a_value_that_only_a_run_knows_is_listed_where_a_command_has_it() -> None:
    result = run("TAG := $(shell git describe)\nup:\n\techo\n\tup $(TAG)\n")
    assert result is not None
    assert result.unread.keys() == {"Makefile:4"}


def test_commands_that_variables_make_very_long_end() -> None:
    values = "A = " + "x" * 4_900 + "\nB = " + "$(A)" * 1_000 + "\n"
    result = run(values + "up:\n" + "\techo $(B)\n" * 4_900)
    assert result is not None
    assert sum(len(line.text) for line in result.lines) < 2 * MAX_COMMANDS_LENGTH
    assert [reason for reason in result.unread.values() if "the rest of them" in reason]


def test_a_target_without_a_rule_is_none() -> None:
    assert run("up:\n\tup\n", "down") is None
    assert run("") is None


@pytest.mark.parametrize(
    "text",
    [
        "A = $(B)$(B)\nB = $(A)$(A)\nup:\n\tup $(A)\n",
        "A := $(A)$(A)x\n" * 4_000 + "up:\n\tup $(A)\n",
        "include common.mk\n" * 1_000 + "up:\n\tup\n",
        "a" * 300_000,
        "up: " + " ".join(f"t{number}" for number in range(5_000)) + "\n\tup\n%:\n\tother $@\n",
        "up:\n" + "\tx $(" * 20_000,
        "ifdef A\n" * 5_000,
        "\\\n" * 50_000,
        ":=" * 50_000,
        "up" + " " * 90_000 + "x",
        "A = " + "b " * 2_000 + "\nup: " + "$(A) " * 10_000 + "\n",
        "up " * 50_000 + "\n",
    ],
)
def test_a_makefile_of_any_size_ends(text: str) -> None:
    result = run(text, "up")
    commands = result.lines if result else []
    assert sum(len(command.text) for command in commands) < 2 * MAX_COMMANDS_LENGTH
