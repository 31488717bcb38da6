"""What a deploy and a promotion cost, in one run beside the literal design: requests, seconds, layers, memory."""

import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.engine.server import UID
from tests.rehearsal.github import Run
from tests.rehearsal.on_trial import act
from tests.rehearsal.world import World, done, world

API = ("staging", "api")
WAITS = 22  # seconds: twice until every proxy has forgotten a name (10 s, and one more)
BLOB = re.compile(r'"(GET|PATCH|POST|PUT) (\S+/blobs/\S+) HTTP')


@dataclass(frozen=True)
class Figures:
    """One pipeline's."""

    asked: int  # requests while a new version comes
    failed: int
    worst: float  # seconds, of one request
    deploy: float  # seconds, of the step that talks to the server
    serving: float  # seconds from the push to the new version's first answer
    promotion: float  # seconds, of the step that gives images their new tags
    layers: int  # that went to or from the registry for it
    memory: int  # MB that deploys and containers used at one time, at most

    def __str__(self) -> str:
        return (
            f"{self.failed} of {self.asked} requests failed, the slowest took {self.worst:.2f} s; "
            f"the deploy step took {self.deploy:.1f} s, the new version served {self.serving:.1f} s after the push; "
            f"re-tagging {self.promotion:.1f} s, {self.layers} layers moved; {self.memory} MB on the host at most"
        )


def seconds(run: Run, step: str) -> float:
    """How long a step took, as act measured it."""
    ends = [line for line in run.lines if line.get("step") == step and "executionTime" in line]
    return float(ends[-1]["executionTime"]) / 1e9


def moved(world: World, before: int) -> int:
    """How many times a layer went to or from the registry since its log was so long; a config, JSON, is only read."""
    log = (world.server.folder / "registry.log").read_text()[before:]
    blobs = {path.parent.name: path for path in (world.server.folder / "registry").rglob("blobs/sha256/*/*/data")}
    digests = [path.rpartition(":")[2] for method, path in BLOB.findall(log) if "mount=" not in path]
    return len([digest for digest in digests if digest not in blobs or blobs[digest].read_bytes()[:1] != b"{"])


def measured(world: World) -> Figures:
    """A push of a version that boots for three seconds, while people ask; then a tag."""
    world.settle()
    server = world.server
    program = (sys.executable, str(Path(__file__).with_name("memory.py")), server.folder.name, str(UID))
    world.commit("api", behaviour="boots-slowly")
    with world.asked(0.05, [API]) as lines, server.beside(*program) as most:
        began = time.monotonic()
        (run,) = done(world.push())
        lasted = time.monotonic() - began
    answers = [line.split() for line in lines]
    first = min(float(asked) + float(waited) for asked, waited, _, version, _ in answers if version == world.now["api"])
    length = len((server.folder / "registry.log").read_text())
    release = world.release()
    tagged = next(run for run in release if run.workflow == "promote")
    layers = 0
    while "promote-images" not in tagged.jobs():
        time.sleep(0.2)
        layers = moved(world, length)
    done(release)
    assert moved(world, 0), "the registry's log shows no layer of any push"
    return Figures(
        asked=len(answers),
        failed=len([answer for answer in answers if answer[2] != "200"]),
        worst=max(float(answer[1]) for answer in answers),
        deploy=seconds(run, "Pull and restart on vps" if world.ours else "Pull and restart"),
        serving=min(first, lasted),
        promotion=seconds(
            tagged,
            "Find what staging built from this source, and tag it" if world.ours else "Re-tag the staging images",
        ),
        layers=layers,
        memory=int(most[0]),
    )


def run(quick: bool, say: Callable[[str], None]) -> bool:
    """Measures both, one after the other; true when ours keeps to its limits."""
    figures = {}
    for name in ("ours",) if quick else ("ours", "literal"):
        with world(name, act()) as place:
            figures[name] = measured(place)
        say(f"{name:8}{figures[name]}")
    ours = figures["ours"]
    limits = {
        "no request fails": ours.failed == 0 and ours.asked > 300,
        "the slowest takes 3 s at most": ours.worst <= 3,
        "a deploy takes 8 s at most, beyond the boots and the waits for names": ours.deploy - WAITS - 2 * 3 <= 8,
        "a promotion takes 20 s at most": ours.promotion <= 20,
        "no layer moves": ours.layers == 0,
    }
    for limit in (limit for limit, held in limits.items() if not held):
        say(f"NOT HELD: {limit}")
    return all(limits.values())


if __name__ == "__main__":
    sys.exit(not run("--quick" in sys.argv, print))
