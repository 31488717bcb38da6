"""One fault, one pipeline: what is done, what the colour claims, and whether that is so."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.engine.server import KEY_STACKS
from tests.rehearsal.github import Run
from tests.rehearsal.verdict import Verdict, judged
from tests.rehearsal.world import EVERYWHERE, PORTS, Place, World, container


def nothing() -> str:
    """Nothing is untrue."""
    return ""


@dataclass(frozen=True)
class Claim:
    """What runs say, and what would have to be so; a trial that runs no workflow says itself what it saw (`green`).

    `wanted` are the versions that a green run promises, by default those of the last run's commit. A green run is
    wrong if it never should have been (`never`), or while `untrue` finds something else that is not as it says.
    `by_hand` is what a command printed that the fault has a person type on the server.
    """

    runs: Sequence[Run] = ()
    wanted: Mapping[Place, str] | None = None
    never: str = ""
    untrue: Callable[[], str] = nothing
    green: bool | None = None
    by_hand: str = ""


@dataclass(frozen=True)
class Fault:
    """A way to break a pipeline, and what each of the two answers; `says` is a part of the message that ours prints.

    Where the design has nothing that could break so, it has no answer, and is not tried.
    """

    name: str
    ours: tuple[str, ...]
    literal: tuple[str, ...]
    act: Callable[[World], Claim]
    says: str = ""
    settled: bool = False  # the newest commit has to serve everywhere before
    outage: bool = False  # the fault itself stops what serves
    leaves: bool = False  # something half done stays, until the next deploy
    quick: bool = False

    @property
    def group(self) -> str:
        """What it is about: the module that it stands in."""
        return self.act.__module__.rpartition(".")[2]


FAULTS: list[Fault] = []


def fault(
    name: str, ours: str | tuple[str, ...], literal: str | tuple[str, ...], **more: object
) -> Callable[[Callable[[World], Claim]], Callable[[World], Claim]]:
    """Registers a trial under the words of its row in the table."""

    def register(act: Callable[[World], Claim]) -> Callable[[World], Claim]:
        mine, theirs = ((claim,) if isinstance(claim, str) else claim for claim in (ours, literal))
        FAULTS.append(Fault(name, mine, theirs, act, **more))  # type: ignore[arg-type]
        return act

    return register


def owed(world: World, runs: Sequence[Run]) -> dict[Place, str]:
    """What has to serve if these runs are green, or none was started: what was tagged, what the commits changed."""
    commits = [run.sha for run in runs if run.workflow != "promote"] if runs else [world.git("rev-parse", "HEAD")]
    places = [("production", service) for service in PORTS if any(run.workflow == "promote" for run in runs)]
    places += [("staging", service) for commit in commits for service in world.changed(commit)]
    last = runs[-1].sha if runs else commits[-1]
    return {place: world.versions[last][place[1]] for place in places}


def tried(world: World, fault: Fault) -> Verdict:
    """Breaks the world, and looks at what came of it."""
    if fault.settled or beside(world) or any(answer.startswith("status") for answer in world.state().values()):
        world.settle()
    before, containers = world.state(), others(world)
    began, earlier = time.monotonic(), len(world.github.runs)
    with world.asked() as lines:
        claim = fault.act(world)
        for run in claim.runs:
            run.wait()
        world.quiet()  # a deploy may go on when nobody watches
        after = world.state()
    answers = [line.split() for line in lines]
    assert len(answers) > time.monotonic() - began, "nobody asked"
    failed = [
        answer for answer in answers if answer[2] != "200" and before[world.place(answer[4])] in world.all_versions
    ]
    green = all(run.green for run in claim.runs) if claim.green is None else claim.green
    wanted = owed(world, claim.runs) if claim.wanted is None else dict(claim.wanted)
    assert wanted or claim.green is not None or claim.untrue is not nothing, "nothing would have to be so"
    brought = owed(world, world.github.runs[earlier:]) | wanted  # by runs of which nothing is claimed, too
    if green:
        wrong = claim.never or claim.untrue() or unlike(after, wanted)
    else:
        wrong = unlike({place: after[place] for place in after if after[place] != brought.get(place)}, before)
    seen = wrong or ("it serves" if green else "what served before, or the new one, serves")
    verdict = Verdict(judged(green, not wrong), seen, len(answers), len(failed))
    if world.ours:
        hold_to(world, fault, claim, verdict)
        moved = {place for place, current in others(world).items() if current != containers[place]} - set(brought)
        assert fault.outage or not moved, f"the containers of {moved} were replaced, and nobody had asked for it"
    return verdict


def beside(world: World) -> set[str]:
    """What deploys that were cut have left: the next one of the service clears it."""
    return {name for name in world.server.containers() if name.endswith("-next")}


def others(world: World) -> dict[Place, str]:
    """The container of each service: a deploy of one leaves the others' alone."""
    return {
        place: world.server.docker("inspect", "-f", "{{.Id}}", container(place), check=False) for place in EVERYWHERE
    }


def unlike(serving: Mapping[Place, str], wanted: Mapping[Place, str]) -> str:
    """Where something else serves than should, in words."""
    wrong = [
        f"{' '.join(place)}: {serving[place]}, not {wanted[place]}"
        for place in wanted
        if place in serving and serving[place] != wanted[place]
    ]
    return "; ".join(wrong)


def hold_to(world: World, fault: Fault, claim: Claim, verdict: Verdict) -> None:
    """What must be so after every fault: the words, the pins, the lock, no secret, and no request that failed."""
    log = "\n".join([claim.by_hand, *(run.log for run in claim.runs)])
    tails = "\n".join(run.tail for run in claim.runs)
    assert fault.says in log, f"the log does not say {fault.says!r}:\n{tails}"
    server = world.server
    assert not server.locked(), "the lock is held"
    assert server.tokens() == [], "a token lies in memory"
    assert fault.outage or not verdict.failed, f"{verdict.failed} of {verdict.asked} requests failed"
    leftovers = beside(world)
    assert fault.leaves or not leftovers, f"{leftovers} are left"
    for place in EVERYWHERE:
        name = container(place)
        if record := server.record(name):
            pins = {server.pinned(name), record[-1][0]} - ({None} if fault.leaves else set())
            assert pins == {server.image(name)}, f"{name} is of {server.image(name)}, but {pins}"
    for stack in KEY_STACKS:
        received = list((server.docker_folder / stack / ".deploys").glob("incoming-*"))
        assert fault.leaves or not received, f"files that were received and not installed are left in {stack}"
    for secret in world.secrets():
        for run in world.github.runs:
            assert secret not in run.log, f"a secret in the log of {run.workflow}"
