"""The page about the trial: what the rehearsal holds both pipelines to, as tables, and its summary for the README."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import tests.rehearsal.faults
from tests.rehearsal import database, schedules
from tests.rehearsal.trial import FAULTS
from tests.rehearsal.verdict import GREEN_RIGHT, GREEN_WRONG, RED_RIGHT, RED_WRONG

GROUPS = {module.__name__.rpartition(".")[2]: (module.__doc__ or "").strip() for module in tests.rehearsal.faults.ROOMS}
SUMMARY = re.compile(r"(<!-- trial: written by make docs -->\n).*?(<!-- end of trial -->)", re.DOTALL)

INTRODUCTION = """# The trial

This page shows how the generated pipeline behaves when something goes wrong, fault by fault, beside a [hand-written
pipeline](../tests/rehearsal/literal/README.md) of the same design. Look up the fault that you worry about.

The faults were caused on purpose, on a real Docker Engine with a registry, sshd, PostgreSQL and an nginx with TLS.
[act](https://github.com/nektos/act) ran the workflows unchanged, from a push or a tag to the request to the domain.

- **green, right**: the run is green, and this commit or a newer one is serving.
- **red, right**: the run failed, and the old version or the new one is serving.
- **green, WRONG**: the run is green, but something else is serving, or the run did something that it should have
  refused.
- **red, WRONG**: the run failed, and what was serving before is not serving any more.

`make rehearse` repeats all of it and fails when a result differs from this page; CI runs a part of it. A cell has
several results where the result depends on timing. "Not applicable" means that the pipeline has nothing that could
break in this way.

For the generated pipeline, the trial also checks after each fault that

- no request failed, except where the fault itself stops the service, such as a restart of the engine;
- the recorded digest, the deploy record and the running image agree, the lock is free, and nothing half-done is left;
- no token is in memory or in a log, and the log gives the reason.

The trial has two limits. It does not run the drift check, which installs packages from the network. And it does not
show that a push of more than 300 changed files may start no workflow, because GitHub's path filters look at the first
300 files only; you would notice this only when you push the tag. The runbook has the command that starts the workflow
by hand.

In the table about PostgreSQL, two mistakes of the hand-written pipeline are corrected, because it could not start
otherwise: Docker refuses the word in its health check, and the passwords do not reach its container.

"""
SCHEDULES = """
## Every order of events

A search tries the possible orders of up to three pushes, tags, cancelled runs and repeated runs. It knows the triggers,
`needs` and concurrency groups of the generated workflows, and the rules by which the host program decides. It does not
check that the host program follows these rules; the program's own tests do. The generated pipeline breaks none of the
promises below. The hand-written one breaks each of them. For each promise, this is the shortest sequence of events that
breaks it:
"""
HOST = """
## The host program, killed

`kill -9` ends the host program before, during and after each call of Docker that changes something. Other trials end
Docker instead (`make rehearse PART=kills`). The deploys have a good image, a bad image, or a worker. At every moment, a
healthy container serves. The next deploy ends correctly, and leaves no secret and nothing half-done behind. In the last
full run, 253 of 254 kills ended so, and one run ended before it came to its kill.

There is one exception. Docker can change the names of a container only by disconnecting it from the network and
connecting it again. If the program is killed between these two calls, requests that a proxy sends to the address of
this container fail until the proxy looks up the name again.

[`tests/host/test_kills.py`](../tests/host/test_kills.py) repeats the kills for more kinds of deploys, with a fake
Docker, and also simulates a power failure of the server at each point.

The fake Docker is tested, too: [a record](../tests/data/contract) contains what a real engine does for each command
that the program runs, and the fake must do the same.

The tests themselves are tested by mutation: `make mutate` changes the program in small ways, and a test has to fail.
This was run for the functions that decide who can request and send what, and which image a rollback goes back to:
`take_caller`, `parse_request`, `requested_digests`, `read_delivery`, `unpack`, `unpack_file`, `is_plain_name`,
`is_env_file`, `refuse_names_not_allowed`, `check_env_lines` and `image_to_go_back_to`. It was not run for the rest of
the program, and the exhaustive kills were left out. 16 of 434 changes were not noticed. For five of them, tests were
added afterwards: four change the advice in a refusal, and one refuses capital letters. One change of each kind was
then made by hand, and a test failed; the whole run was not repeated. The other 11 remain: four put letters around a
message of which the tests check the middle; one writes `UTF-8` for `utf-8`; one cuts at the last `=` where there is
only one; two wait 11 instead of 10 seconds for a line that does not come; two give an env file a mode that is set
again before anything reads it; and one would allow the execution of a file that in the archive only other users can
execute.

## Secrets and times

A push, a tag, a bad image and a rollback run under `strace`: no secret is in an argument of any program, in a log, in
a file left behind or in an image. The hand-written pipeline leaves the registry's login on the server and the deploy
key on the runner.

With a version that takes three seconds to start and a request every 50 ms, no request fails and the slowest takes at
most 3 s. A deploy takes at most 8 s longer than the start of the new version and two waits of 11 s, in which proxies
forget the old address. In the last run it was 7 s: Docker creates and starts two containers, and the program asks once
a second whether a container answers. A promotion takes at most 20 s and moves no layer. `make rehearse` measures this
for both pipelines and fails above these limits.
"""
NEEDS = """
## What goes wrong in other pipelines

These mistakes were found in twenty public monorepos with a pipeline of this kind. The second column names the fault or
the test of kiwari-ci that covers the mistake.

| Mistake | Covered by |
| --- | --- |
"""
NOT_TRIED = "not applicable"
# Answers that depend on who comes first, by whether some of them are wrong.
BY_CHANCE = {
    frozenset({False}): "right, with one of two results that timing decides: the run is green and the service runs the"
    " commit, or the run fails and the service keeps running",
    frozenset({False, True}): "right or **wrong**, depending on timing",
    frozenset({True}): "**wrong**, with one of two results that timing decides: the run is green and the service runs"
    " something else, or the run fails and the service is down",
}
# The README's words for an answer that is always the same.
IN_SENTENCES = {
    GREEN_RIGHT: "right: the run is green, and the service runs the commit",
    RED_RIGHT: "right: the run fails, and the service keeps running",
    GREEN_WRONG: "**wrong**: the run is green, and the service runs something else",
    RED_WRONG: "**wrong**: the run fails, and the service is down",
}
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
    "secrets in a remote argument": "tests/rehearsal/leaks.py::find_leaks",
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
        "no: no variable names the image; its digest is in the override file"
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
    lines = ["| Fault | Hand-written | Generated |", "| --- | --- | --- |"]
    lines += [f"| {name} | {answers(literal)} | {answers(ours)} |" for name, ours, literal in rows]
    return "\n".join(lines) + "\n"


def answers(words: tuple[str, ...]) -> str:
    """The words of an answer that is always the same, or of several."""
    return " or ".join(f"**{word}**" if "WRONG" in word else word for word in words) or NOT_TRIED


def where(root: Path, tried: str) -> str:
    """A fault, a test that is there, or why there is none."""
    if tried.startswith("no: "):
        return f"not tried: {tried.removeprefix('no: ')}"
    if "::" not in tried:
        assert tried in {fault.name for fault in FAULTS}, tried
        return tried
    file, name = tried.split("::")
    assert f"def {name}(" in (root / file).read_text(), tried
    return f"[`{name}`](../{file})"


def kind_of(words: tuple[str, ...]) -> str:
    """The row of the README's table in which an answer is counted: each is in exactly one."""
    if not words:
        return NOT_TRIED
    if len(words) == 1:
        return IN_SENTENCES[words[0]]
    are_wrong = {"WRONG" in word for word in words}
    return BY_CHANCE[frozenset(are_wrong)]


def summary() -> str:
    """How often each answer was given, for the README."""
    both = [(fault.ours, fault.literal) for fault in FAULTS]
    both += [((trial.ours,), (trial.literal,)) for trial in database.TRIALS]
    ours = Counter(kind_of(mine) for mine, _ in both)
    literal = Counter(kind_of(theirs) for _, theirs in both)
    kinds = [*IN_SENTENCES.values(), *BY_CHANCE.values(), NOT_TRIED]
    counts = [f"| {kind} | {literal[kind]} | {ours[kind]} |" for kind in kinds if literal[kind] or ours[kind]]
    head = f"| Result of {len(both)} faults | Hand-written | Generated |\n| --- | ---: | ---: |\n"
    total = f"| **total** | {literal.total()} | {ours.total()} |\n"
    return head + "\n".join(counts) + "\n" + total


def in_readme(text: str) -> str:
    """The README with the summary as it should be."""
    assert SUMMARY.search(text), "the README has no place for the trial"
    return SUMMARY.sub(lambda match: f"{match[1]}{summary()}{match[2]}", text)
