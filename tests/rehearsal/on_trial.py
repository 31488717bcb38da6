"""Both pipelines through all faults: worlds side by side, one fault after the other in each."""

import argparse
import queue
import re
import shutil
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tests.rehearsal.faults  # noqa: F401 (registers them)
from tests.rehearsal.trial import FAULTS, Fault, tried
from tests.rehearsal.verdict import WORDS, Verdict
from tests.rehearsal.world import NAME_CACHE, SHORT_NAME_CACHE, World, world

BESIDE = str(Path(sys.executable).parent)  # where .ci/install-engine puts act
PIPELINES = ("ours", "literal")
Say = Callable[[str], None]


@dataclass
class Session:
    """What was tried so far."""

    say: Say
    verdicts: dict[tuple[str, str], Verdict] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, pipeline: str, fault: Fault, verdict: Verdict, seconds: float) -> None:
        """Writes one answer down, and says when it is another than expected."""
        expected = fault.ours if pipeline == "ours" else fault.literal
        unexpected = "" if verdict.word in expected else f" (expected: {' or '.join(expected)})"
        with self.lock:
            self.verdicts[pipeline, fault.name] = verdict
            self.say(
                f"{pipeline:8}{fault.name:64} {verdict.word:13}{unexpected} {seconds:4.0f} s, "
                f"{verdict.failed} of {verdict.asked} requests failed: {verdict.seen}"
            )
            if unexpected:
                self.wrong.append(f"{pipeline}: {fault.name}: {verdict.word}{unexpected}: {verdict.seen}")

    def broken(self, pipeline: str, name: str, why: str) -> None:
        """Writes down a trial whose end state was not as it must be."""
        with self.lock:
            self.say(f"{pipeline:8}{name:64} FAILED\n{why}")
            self.wrong.append(f"{pipeline}: {name}: {why.splitlines()[-1]}")


def act() -> str:
    """The program that runs workflows."""
    return shutil.which("act") or str(shutil.which("act", path=BESIDE))


def missing() -> list[str]:
    """What this machine lacks for it, beside what the engine's tests ask for."""
    programs = {name: shutil.which(name) or shutil.which(name, path=BESIDE) for name in ("act", "strace")}
    return [name for name, path in programs.items() if not path]


def work(pipeline: str, todo: "queue.SimpleQueue[Fault]", session: Session, name_cache: int) -> None:
    """Worlds of one pipeline until nothing is left to try; after a trial that broke off, a new one."""
    while not todo.empty():
        try:
            with world(pipeline, act(), name_cache=name_cache) as place:
                place.settle()
                while try_next(place, todo, session):
                    pass
        except Exception:
            session.broken(pipeline, "the world itself", traceback.format_exc())
            return


def try_next(place: World, todo: "queue.SimpleQueue[Fault]", session: Session) -> bool:
    """The next fault, if there is one; false when this world is not to be used again."""
    try:
        fault = todo.get_nowait()
    except queue.Empty:
        return False
    began = time.monotonic()
    try:
        verdict = tried(place, fault)
    except Exception:
        session.broken(place.name, fault.name, traceback.format_exc())
        return False
    session.note(place.name, fault, verdict, time.monotonic() - began)
    return True


def table(session: Session) -> None:
    """How often each answer was given, beside the one that was drawn."""
    for pipeline in PIPELINES:
        counts = Counter(verdict.word for (name, _), verdict in session.verdicts.items() if name == pipeline)
        if counts:
            session.say(f"{pipeline:8}{', '.join(f'{counts[word]} {word}' for word in WORDS)}")


def run(quick: bool, say: Say, only: str = "", pipelines: Sequence[str] = PIPELINES, worlds: int = 2) -> bool:
    """All faults, or the quick ones; true when each answer is the expected one."""
    session = Session(say)
    assert [fault for fault in FAULTS if re.search(only, fault.name)], f"no fault is called {only}"
    workers = []
    for pipeline in pipelines:
        # tests/engine/test_proxies.py tries whether the seconds of the generated files are enough.
        name_cache = SHORT_NAME_CACHE if quick and pipeline == "ours" else NAME_CACHE
        todo: queue.SimpleQueue[Fault] = queue.SimpleQueue()
        for fault in sorted(FAULTS, key=lambda fault: not fault.settled):  # a new world is settled: that costs minutes
            is_wanted = (fault.quick or not quick) and re.search(only, fault.name)
            if is_wanted and (fault.ours if pipeline == "ours" else fault.literal):
                todo.put(fault)
        for _ in range(min(1 if quick else worlds, todo.qsize())):
            workers.append(threading.Thread(target=work, args=(pipeline, todo, session, name_cache)))
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    table(session)
    for line in session.wrong:
        say(f"NOT AS EXPECTED: {line}")
    return not session.wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", help="a regular expression for the faults' names")
    parser.add_argument("--pipeline", choices=PIPELINES, action="append")
    parser.add_argument("--worlds", type=int, default=2)
    arguments = parser.parse_args()
    sys.exit(not run(arguments.quick, print, arguments.only, arguments.pipeline or PIPELINES, arguments.worlds))
