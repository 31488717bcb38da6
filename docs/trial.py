"""The page about the trial: what the rehearsal holds both pipelines to, as tables, and its summary for the README."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import tests.rehearsal.faults
from tests.rehearsal import database, schedules
from tests.rehearsal.trial import FAULTS
from tests.rehearsal.verdict import WORDS

GROUPS = {module.__name__.rpartition(".")[2]: (module.__doc__ or "").strip() for module in tests.rehearsal.faults.ROOMS}
SUMMARY = re.compile(r"(<!-- trial: written by make docs -->\n).*?(<!-- end of trial -->)", re.DOTALL)

INTRODUCTION = """# On trial

Nobody should meet a pipeline's faults in production first. So this one is broken on purpose before: on a real engine,
with a registry, sshd, PostgreSQL, nginx with TLS in front, and [act](https://github.com/nektos/act) running the
generated workflows unchanged, from a push or a tag to what the domains answer. Beside it stands the design as it was
drawn, [taken literally](../tests/rehearsal/literal/README.md), through the same faults.

- **green, right**: the run is green, and this commit, or a newer one, serves.
- **red, right**: the run is red, and what served before, or the new one, serves on.
- **green, WRONG**: the run is green, and something else serves, or what it did should never have been done.
- **red, WRONG**: the run is red, and what served before does not serve any more.

`make rehearse` runs all of it and fails where an answer is not the one that stands here; a part of it runs in CI.
For ours it also asserts after each fault: no request failed (people ask all the time; where the fault itself stops what
serves, such as the engine's restart, that is left out), pin, record and running image agree, the lock is free, nothing
half done is left, no token is in memory or in a log, and the log says why. Where an answer depends on who comes first,
several stand here; where the design has nothing that could break so, it is not tried. In PostgreSQL's table the
design's first two slips are mended where it would come no further: Docker refuses its health test's word, and its
passwords never reach the container.

The drift check, which installs from the network, is not run. More than 300 changed files start nothing: GitHub's
filters look no further, and nobody is told before the tag; the runbook says so.

"""
SCHEDULES = """
## Every order in which things can happen

A search through the interleavings of up to three pushes, tags, cancels and re-runs, as the generated workflows'
triggers, `needs` and groups, and the rules of the host program, allow them. The search takes these rules as given: the
tests of the program show that it keeps them. Ours breaks none of its promises. The design, taken literally, breaks
each of them; the shortest ways:
"""
HOST = """
## The host program, killed

`kill -9` ends it before, within and after each call of docker that changes something, and then, in trials of their own,
docker in its place (`make rehearse PART=kills`): deploys of a good image, of bad ones, of a worker. Something healthy
serves at every moment; the next deploy is right, and leaves no secret and nothing half done. The tests in
[`tests/host/test_kills.py`](../tests/host/test_kills.py) kill it, or take the server's power away, at every point of
more kinds of deploys, on a stand-in for Docker.

The stand-in is on trial, too: [what a real engine does](../tests/data/contract), with the commands that the program
runs, is written down, and the stand-in has to do the same.

So are the tests. `make mutate` changes the program in small ways, and they have to notice. It was run on what decides
who may ask for and send what, and which image a rollback goes back to: `take_caller`, `parse_request`, `images_of`,
`read_delivery`, `unpack`, `unpack_file`, `is_plain_name`, `is_env_file`, `refuse_names_not_allowed`,
`check_env_lines` and `image_to_go_back_to`; not on the rest of the program. The exhaustive kills were left out. 16 of
the 434 mutants survived that run. Five of them are the subject of tests that were written after it: four change the
cure of a refusal, one refuses capital letters. One of each kind was then made by hand, and a test failed; the run was
not made again. The other 11 stay: four put letters around a message, of which the tests hold the middle; one writes
`UTF-8` for `utf-8`; one cuts at the last `=` where there is only one; two wait for 11 seconds instead of 10 for a
line that does not come; two give an env file a mode that is set once more before anything reads it; one would let a
file be run that in the archive only strangers may run.

## Secrets and figures

A push, a tag, a bad image and a way back under `strace`: no secret in any argument of any program, in any log, in a
file left behind, in an image. The design leaves the registry's login on the server, and the deploy key on the runner.

For a version that boots for three seconds, with a request every 50 ms: none fails, the slowest takes at most 3 s; a
deploy takes at most 5 s beyond the new version's boots and the two waits of 11 s in which proxies forget a name; a
promotion takes at most 20 s, and moves no layer. `make rehearse` measures it, beside the design, and fails beyond.
"""
NEEDS = """
## What goes wrong in other pipelines

Twenty public monorepos with pipelines of this kind were read. What went wrong there, and where it is tried here:

| Failure | Tried here |
| --- | --- |
"""
NOT_TRIED = "not tried: it has no such thing"
# Answers that depend on who comes first, by whether some of them are wrong.
BY_CHANCE = {
    frozenset({False}): "right, green or red by chance",
    frozenset({False, True}): "right or **WRONG**, by chance",
    frozenset({True}): "**WRONG**, green or red by chance",
}
# The faults that the README names.
HEADLINES = (
    "the new image exits at once",
    "the run of an older commit is slow, and comes last",
    "a tag before its image is built",
    "an old run is run again",
    "a tag of a commit that is not on main",
)
# What went wrong in real pipelines: a fault by its name, a test by its file and name, or why there is none.
FAILURES = {
    "the version that answers is never verified": "somebody has pinned an older image in the server's compose file",
    "the public URL is never checked": "the domain answers with a redirect",
    "the host key is not verified": "the server has another host key",
    "no timeout": "tests/test_policy.py::test_rule_finds_what_is_planted",
    "deploys race, or are killed": "two services at once",
    "the disk grows without bound": "tests/engine/test_stacks.py::test_the_last_three_images_of_each_service_stay",
    "the deploy is not gated by tests": "the tests fail",
    "the whole stack is pulled and recreated": "tests/rehearsal/trial.py::hold_to",
    "no health gate that can fail": "the new image never answers",
    "a mutable tag is deployed": "the run of an older commit is slow, and comes last",
    "secrets in a remote argument": "tests/rehearsal/leaks.py::found",
    "`latest` of a third party": "no: the only third-party image is the database's, and the spec wants its version",
    "the compose file on the server is never brought up to date": (
        "the commit changes the compose file, and the server has the old one"
    ),
    "no way back, or one that is broken": (
        "tests/engine/test_going_back.py::test_rollback_goes_on_when_the_terminal_closes"
    ),
    "production is rebuilt instead of promoted": "a tag of what staging serves",
    "a path filter misses what the Dockerfile copies": "a Dockerfile that copies what its filter misses",
    "`trap rollback ERR` and `exit 1`: never rolls back": (
        "tests/engine/test_worker.py::test_a_worker_whose_new_image_exits_gets_its_old_container_back"
    ),
    "`rm -f lock` before `flock`: both get in": (
        "tests/engine/test_interrupted.py::test_a_dropped_connection_stops_nothing_and_another_deploy_waits"
    ),
    "an exported `IMAGE_TAG` beats the env file": (
        "no: nothing that is deployed is a variable; the digest stands in the override file"
    ),
    "`ghcr.io/ghcr.io/…`, a prefix added twice": "tests/test_generated.py::test_what_is_pushed_is_what_compose_runs",
    "health takes 400 as fine": "the new image answers 400 to everything",
    "a rollback restores the image and not the compose file": (
        "no: a person places the compose file, and a rollback leaves it as it is"
    ),
    "a new worker, not named in the deploy line, never runs": "a service is added",
    "a probe wants 200 and gets 301 for ever": "the domain answers with a redirect",
    "a healthcheck with curl in an image that has none": (
        "tests/engine/test_serving.py::test_the_first_deploy_brings_the_image_into_service"
    ),
    "`$apr1$` is eaten by a shell or by Compose": "the env file has a password with an unquoted `$`",
    "capital letters in the owner's name": "tests/test_cases.py::test_ok",
}


def page(root: Path) -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for group, words in GROUPS.items():
        rows = [(fault.name, fault.ours, fault.literal) for fault in FAULTS if fault.group == group]
        parts.append(f"## {words.rstrip('.')}\n\n{table(rows)}\n")
    rows = [(trial.name, (trial.ours,), (trial.literal,)) for trial in database.TRIALS]
    parts.append(f"## PostgreSQL\n\n{table(rows)}")
    parts.append(SCHEDULES)
    for promise, says in schedules.counter_examples(schedules.LITERAL).items():
        numbered = "\n".join(f"{number}. {sentence}" for number, sentence in enumerate(says, 1))
        parts.append(f"\n**{promise}**\n\n{numbered}\n")
    parts.append(HOST + NEEDS)
    parts += [f"| {failure} | {where(root, tried)} |\n" for failure, tried in FAILURES.items()]
    return "".join(parts)


def table(rows: Iterable[tuple[str, tuple[str, ...], tuple[str, ...]]]) -> str:
    """Faults with both answers, the wrong ones in bold."""
    lines = ["| Fault | The design, literally | Generated |", "| --- | --- | --- |"]
    lines += [f"| {name} | {answers(literal)} | {answers(ours)} |" for name, ours, literal in rows]
    return "\n".join(lines) + "\n"


def answers(words: tuple[str, ...]) -> str:
    """The words of an answer that is always the same, or of several."""
    return " or ".join(f"**{word}**" if "WRONG" in word else word for word in words) or NOT_TRIED


def where(root: Path, tried: str) -> str:
    """A fault, a test that is there, or why there is none."""
    if tried.startswith("no: "):
        return f"not at all: {tried.removeprefix('no: ')}"
    if "::" not in tried:
        assert tried in {fault.name for fault in FAULTS}, tried
        return tried
    file, name = tried.split("::")
    assert f"def {name}(" in (root / file).read_text(), tried
    return f"[`{name}`](../{file})"


def kind_of(words: tuple[str, ...]) -> str:
    """The row of the README's table in which an answer is counted: each is in exactly one."""
    if len(words) < 2:
        return answers(words)
    are_wrong = {"WRONG" in word for word in words}
    return BY_CHANCE[frozenset(are_wrong)]


def summary() -> str:
    """How often each answer was given, for the README."""
    both = [(fault.ours, fault.literal) for fault in FAULTS]
    both += [((trial.ours,), (trial.literal,)) for trial in database.TRIALS]
    ours = Counter(kind_of(mine) for mine, _ in both)
    literal = Counter(kind_of(theirs) for _, theirs in both)
    kinds = [*(answers((word,)) for word in WORDS), *BY_CHANCE.values(), NOT_TRIED]
    assert set(ours) | set(literal) <= set(kinds), "an answer is in no row"
    rows = [f"| {kind} | {literal[kind]} | {ours[kind]} |" for kind in kinds if literal[kind] or ours[kind]]
    rows += [f"| in all | {literal.total()} | {ours.total()} |"]
    seen = {fault.name: fault for fault in FAULTS}
    rows += [f"| {name} | {answers(seen[name].literal)} | {answers(seen[name].ours)} |" for name in HEADLINES]
    head = f"| Tried in {len(both)} ways | The design, literally | Generated |\n| --- | --- | --- |\n"
    return head + "\n".join(rows) + "\n"


def in_readme(text: str) -> str:
    """The README with the summary as it should be."""
    assert SUMMARY.search(text), "the README has no place for the trial"
    return SUMMARY.sub(lambda match: f"{match[1]}{summary()}{match[2]}", text)
