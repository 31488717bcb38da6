"""Every interleaving of pushes, tags, cancels and re-runs, in small worlds: which promises hold, and how others break.

`drawn` reads the files, `world` makes runs of them, `queues` are GitHub's, `moves` is what can happen next,
`promises` what is owed, `search` looks at every state. Five promises:

- Green is right: when a run turns green, its services serve its commit's source or a newer commit's.
- The newest serves at the end: when nothing moves any more, what the newest green run brought serves, or a newer one.
- Nothing is silently lost: each change of a service has a run that ended green, red, or was cancelled by a person;
  one that GitHub's queue dropped, or that never was, only when something newer serves.
- Production serves what the tag says: only bytes of the tagged commit's source, and only what staging served.
- One deploy at a time: no two change the host together.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path
from time import monotonic

from tests.rehearsal.schedules.drawn import Design, read
from tests.rehearsal.schedules.promises import PROMISES
from tests.rehearsal.schedules.queues import CANCELLED, DROPPED, GREEN, RED
from tests.rehearsal.schedules.search import Search
from tests.rehearsal.schedules.world import EVERY, Bounds

ROOT = Path(__file__).parents[3]
OURS, LITERAL = ROOT / "generated", ROOT / "tests/rehearsal/literal"
API, ADMIN, BOTH, ALL = ("api",), ("admin",), ("api", "admin"), (EVERY,)
TWO, THREE = (list(product((API, ADMIN, BOTH), repeat=pushes)) for pushes in (2, 3))

# Where the shortest way to break each promise is looked for.
SHORT = (
    Bounds((ALL,)),
    Bounds((API,), tags=(1,)),
    Bounds((API, API)),
    Bounds((API, ADMIN)),
    Bounds((API, API), tags=(1,)),
)
QUICK = {
    "three pushes of either service or both, a tag on any": [Bounds(c, tags=(k,)) for c in THREE for k in (1, 2, 3)],
    "two pushes, a tag on any, a cancel": [Bounds(c, tags=(k,), cancels=1) for c in TWO for k in (1, 2)],
    "two pushes, a tag on any, a cancel, a re-run": [
        Bounds((API, service), tags=(k,), cancels=1, reruns=1) for service in (API, ADMIN) for k in (1, 2)
    ],
    "a change of every image; a tag beside main": [
        Bounds((API, ALL), tags=(2,), cancels=1),
        Bounds((API, API), tags=(-1, 2), reruns=1),
    ],
    "the same commit by hand on another branch, twice; three tags": [
        Bounds((API,), other_branch=(1, 1)),
        Bounds((API, API), tags=(1, 2, 1)),
    ],
    "two pushes, one image bad, a tag, a cancel, a re-run": [
        Bounds((API, API), tags=(k,), bad=("api", bad), cancels=1, reruns=1) for k in (1, 2) for bad in (1, 2)
    ],
}
FULL = QUICK | {
    "three pushes, a tag on any, a cancel": [Bounds(c, tags=(k,), cancels=1) for c in THREE for k in (1, 2, 3)],
    "three pushes, a cancel, a re-run": [Bounds(c, cancels=1, reruns=1) for c in THREE],
    "three pushes, a tag, a cancel, a re-run": [
        Bounds((API, BOTH, ADMIN), tags=(2,), cancels=1, reruns=1),
        Bounds((API, ADMIN, API), tags=(3,), cancels=1, reruns=1),
        Bounds((BOTH, API, ADMIN), tags=(1,), cancels=1, reruns=1),
    ],
    "three pushes of one service, one image bad, a tag, a cancel, a re-run": [
        Bounds((API,) * 3, tags=(k,), bad=("api", bad), cancels=1, reruns=1) for k in (1, 2, 3) for bad in (1, 2, 3)
    ],
    "three pushes of one service, a tag, two cancels, two re-runs": [
        Bounds((API,) * 3, tags=(2,), cancels=2, reruns=2)
    ],
    "two pushes, two tags, a cancel, a re-run": [Bounds((API, API), tags=(1, 2), cancels=1, reruns=1)],
}
BROKEN_BY_LITERAL = {*PROMISES}
# What the searches of ours must come across, or they prove nothing: (kind of run, its end).
SEEN = {(kind, end) for kind in ("push", "tag") for end in (GREEN, RED, CANCELLED)}


def run(quick: bool, say: Callable[[str], None]) -> bool:
    """Search ours and the literal design, and say what was found: true when both are as recorded here."""
    ours = read(OURS)
    ends, fine = set[tuple[str, int]](), True
    for name, worlds in (QUICK if quick else FULL).items():
        for search in _search(ours, name, worlds, say):
            fine &= not _tell(search.broken, say)
            ends |= search.ends
    if SEEN - ends or ("push", DROPPED) in ends:
        say(f"the search came across too little, or too much: {sorted(ends)}")
        fine = False
    say("the design taken literally")
    return _tell(counter_examples(LITERAL), say) == BROKEN_BY_LITERAL and fine


def counter_examples(tree: Path, worlds: Iterable[Bounds] = SHORT) -> dict[str, list[str]]:
    """The shortest way to break each promise of a pipeline, {promise: sentences}; a promise that holds is not there."""
    design, examples = read(tree), dict[str, list[str]]()
    for bounds in worlds:
        lengths = {promise: len(says) - 1 for promise, says in examples.items()}
        for promise, says in Search(design, bounds, shorter_than=lengths).broken.items():
            if len(says) < len(examples.get(promise, [*says, ""])):
                examples[promise] = says
    return {promise: examples[promise] for promise in PROMISES if promise in examples}


def _search(design: Design, name: str, worlds: list[Bounds], say: Callable[[str], None]) -> Iterator[Search]:
    """Search some worlds, and say how much that was."""
    start, states = monotonic(), 0
    for bounds in worlds:
        yield (search := Search(design, bounds))
        states += search.states
    say(f"ours: {name}: {len(worlds)} worlds, {states:,} states, {monotonic() - start:.0f} s")


def _tell(examples: dict[str, list[str]], say: Callable[[str], None]) -> set[str]:
    for promise, says in examples.items():
        say(f"  broken: {promise}")
        for number, sentence in enumerate(says, 1):
            say(f"  {number:4}. {sentence}")
    return {*examples}
