"""The rehearsal's small GitHub and its judge: what starts, what waits, what is right. The rest needs an engine."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import tests.rehearsal.faults  # noqa: F401 (registers them)
from docs import trial
from tests.engine.server import Server
from tests.rehearsal.github import GitHub, Group, NotModelled, Run, git, heard, starts
from tests.rehearsal.kills import QUICK, choose_quick, kills_of
from tests.rehearsal.messages import NOTICES, OTHER_PROGRAMS, fixed_characters, is_still_printed
from tests.rehearsal.rig import DOCKER, GOOD, PROGRAM, WITHIN, WORKS, short
from tests.rehearsal.trial import FAULTS, Fault, unlike
from tests.rehearsal.verdict import GREEN_RIGHT, GREEN_WRONG, RED_RIGHT, RED_WRONG, judged

MAIN = "refs/heads/main"
VECTORS = json.loads((Path(__file__).parent / "data/glob-vectors.json").read_text())


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['patterns']} {vector['name']}")
def test_filters_are_githubs(vector: Mapping[str, Any]) -> None:
    patterns, name, included = vector["patterns"], vector["name"], vector["included"]
    assert starts({"push": {"paths": patterns}}, MAIN, [name]) == included
    assert starts({"push": {"tags": patterns}}, f"refs/tags/{name}", []) == included
    assert starts({"push": {"branches": patterns}}, f"refs/heads/{name}", []) == included


@pytest.mark.parametrize(
    ("push", "ref", "files", "expected"),
    [
        ({"branches": ["main"], "paths": ["api/**"]}, MAIN, ["admin/x", "api/x"], True),
        ({"branches": ["main"], "paths": ["api/**"]}, MAIN, ["admin/x"], False),
        ({"branches": ["main"], "paths": ["api/**"]}, "refs/heads/other", ["api/x"], False),
        ({"branches": ["main"], "paths": ["api/**"]}, "refs/tags/v1", ["api/x"], False),
        ({"tags": ["v*"]}, "refs/heads/v1", [], False),
        ({"tags": ["v*"], "paths": ["api/**"]}, "refs/tags/v1", [], True),  # not looked at for tags
        ({"paths": ["api/**"]}, MAIN, [*(f"a/{n}" for n in range(299)), "api/x"], True),
        ({"paths": ["api/**"]}, MAIN, [*(f"a/{n}" for n in range(300)), "api/x"], False),
        (None, "refs/tags/v1", [], True),
    ],
)
def test_what_a_push_starts(push: Mapping[str, Any] | None, ref: str, files: list[str], expected: bool) -> None:
    assert starts({"push": push}, ref, files) is expected


def test_another_event_is_no_push() -> None:
    assert not starts({"pull_request": None}, MAIN, ["x"])


def test_a_filter_that_is_not_known_is_no_guess() -> None:
    with pytest.raises(NotModelled):
        starts({"push": {"paths-ignore": ["x"]}}, MAIN, ["y"])


def test_more_than_three_tags_at_once_start_nothing() -> None:
    tags = [f"refs/tags/v{number}" for number in range(4)]
    assert heard([MAIN, *tags[:3]]) == [MAIN, *tags[:3]]
    assert heard([MAIN, *tags]) == [MAIN]


class Still(GitHub):
    """Starts runs, and does not run them."""

    def start(self, run: Run, group: Group | None) -> None:
        run.lines.append({"msg": "started"})


def test_one_of_a_group_runs_one_waits_and_a_newer_one_takes_its_place(tmp_path: Path) -> None:
    server = Server(tmp_path)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/ci").touch()
    (tmp_path / "known_hosts").touch()
    github, clone = Still(server, "act"), tmp_path / "clone"
    git("init", "-q", "-b", "main", str(clone))
    (clone / ".github/workflows").mkdir(parents=True)
    workflow = "on: {push: {branches: [main]}}\nconcurrency: {group: 'one-${{ github.ref }}'}\njobs: {}\n"
    (clone / ".github/workflows/ci.yml").write_text(workflow)
    git("-C", str(clone), "add", ".")
    git("-C", str(clone), "-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-qmx")
    git("-C", str(clone), "push", "-q", str(github.repository), "main")
    sha = github.ask("rev-parse", "main")

    first, second, third = [github.pushed({MAIN: ("", sha)})[0] for _ in range(3)]

    assert [bool(run.lines) for run in (first, second, third)] == [True, False, False]
    assert [run.cancelled for run in (first, second, third)] == [False, True, False]
    assert github.groups == {f"one-{MAIN}": [first, third]}


def test_judgement() -> None:
    cases = [(True, True), (False, True), (True, False), (False, False)]
    assert [judged(*case) for case in cases] == [GREEN_RIGHT, RED_RIGHT, GREEN_WRONG, RED_WRONG]
    api, admin = ("staging", "api"), ("staging", "admin")
    assert unlike({api: "one", admin: "two"}, {api: "one"}) == ""
    assert unlike({api: "one"}, {api: "two"}) == "staging api: one, not two"


def test_ours_is_never_expected_to_be_wrong() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) > 40
    assert {word for fault in FAULTS for word in fault.ours} == {GREEN_RIGHT, RED_RIGHT}
    assert all(fault.ours for fault in FAULTS), "ours is tried in everything"
    assert all(
        fault.says for fault in FAULTS if fault.quick and fault.ours == (RED_RIGHT,) and fault.group != "outside"
    )


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.says], ids=lambda fault: fault.name)
def test_a_program_prints_what_a_fault_looks_for(fault: Fault) -> None:
    assert is_still_printed(fault.says), (
        f"The fault '{fault.name}' looks for {fault.says!r} in the log of its run, which is a part of no message in "
        "docs/failures.yaml. Write words of the present message into `says`. If another program prints the words, add "
        "them to OTHER_PROGRAMS in tests/rehearsal/messages.py"
    )


@pytest.mark.parametrize("words", [*NOTICES, *OTHER_PROGRAMS])
def test_a_fault_looks_for_each_exception(words: str) -> None:
    """A text that no fault needs any more would only let a mistake pass."""
    assert any(words in fault.says for fault in FAULTS)


@pytest.mark.parametrize("words", ["the token is not why", "trying again", "does not answer 200", "is not", ""])
def test_words_that_no_program_prints_are_noticed(words: str) -> None:
    """The first three are of messages that were reworded, and the last two have too little text."""
    assert not is_still_printed(words)


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ("is missing", 10),
        ("shop/.env is missing. Create it", 22),  # the first part varies
        ("is missing. Create it from .env.example", 35),  # the last part varies in its beginning only
        ("is missing. Copy it", 0),
        ("is gone", 0),
    ],
)
def test_the_fixed_text_of_a_message(words: str, number: int) -> None:
    assert fixed_characters(words, "… is missing. Create it from ….example") == number


def test_the_readmes_table_adds_up() -> None:
    """Each way that was tried stands in one row of each column."""
    summary = trial.summary()
    (number,) = re.findall(r"Result of (\d+) faults", summary)
    rows = re.findall(r"^\| (.+) \| (\d+) \| (\d+) \|$", summary, re.MULTILINE)
    *kinds, in_all = rows

    assert in_all == ("**total**", number, number)
    for column in (1, 2):
        assert sum(int(row[column]) for row in kinds) == int(number)


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ((GREEN_RIGHT,), "right: the run is green, and the service runs the commit"),
        ((RED_WRONG,), "**wrong**: the run fails, and the service is down"),
        (
            (RED_RIGHT, GREEN_RIGHT),
            "right, with one of two results that timing decides: the run is green and the service runs the commit, or "
            "the run fails and the service keeps running",
        ),
        ((RED_RIGHT, GREEN_WRONG), "right or **wrong**, depending on timing"),
        (
            (RED_WRONG, GREEN_WRONG),
            "**wrong**, with one of two results that timing decides: the run is green and the service runs something "
            "else, or the run fails and the service is down",
        ),
        ((), "not applicable"),
    ],
)
def test_the_row_in_which_an_answer_is_counted(answers: tuple[str, ...], kind: str) -> None:
    assert trial.kind_of(answers) == kind


CALLS = [
    "--config /dev/shm/x pull -q ghcr.io/example/api@sha256:" + 64 * "1",
    "compose --env-file /dev/null -p pos -f /a/docker-compose.yml -f /a/trial.yml run -d --name api-next api",
    "network connect --alias api proxy api-next",
    "compose --env-file /dev/null -p pos -f /a/docker-compose.yml -f /a/pins.yml up -d api",
]


def test_kills_at_each_call() -> None:
    kills = kills_of(GOOD, CALLS)
    ways = {(kill.number, kill.who, kill.when) for kill in kills}

    assert {(number, who) for number, who, _ in ways} == {(n, who) for n in (1, 2, 3, 4) for who in (PROGRAM, DOCKER)}
    assert (2, DOCKER, WITHIN) in ways
    assert (3, DOCKER, WITHIN) not in ways, "it is too short to be killed within"
    assert {kill.is_same_again for kill in kills} == {True, False}
    assert short(CALLS[0]) == "pull -q 111111"
    assert short(CALLS[1]) == "compose run -d --name api-next api"


def test_the_quick_kills_need_the_calls_that_they_name() -> None:
    worker = ["stop jobs-previous", "start jobs"]
    kills = kills_of(GOOD, CALLS) + kills_of(WORKS, worker)

    assert len(choose_quick(kills)) == len(QUICK)
    with pytest.raises(AssertionError, match="does not come to"):
        choose_quick(kills_of(GOOD, CALLS))
