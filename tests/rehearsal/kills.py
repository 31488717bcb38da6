"""Kills the host script (kill -9) at every command that it executes, and looks at what is then so: at each moment
something healthy serves; once the next run had the lock, nothing secret and nothing half-done is left; and that run,
of a newer version or of the same one again, is right.

The script is the generated one, byte for byte: `kill.bash` reaches it as bash's own $BASH_ENV. Most trials take less
time: where the script waits 11 s, because proxies keep a name for 10 s, it waits 2 s, and nginx keeps a name for 1 s.
The kills around those waits are done again at full length.
"""

import argparse
import contextlib
import dataclasses
import queue
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tests.engine.server import throw_away
from tests.rehearsal.rig import CLEARING, DEPLOY, RUNS, Kill, Rig, Run, plain

# Commands that change something: after a kill at one, a newer version follows well, and so does the same again.
FILES = ("mkdir -m", "mv .pin.yml", "rm -rf", "moved=yes", 'echo "$new $sequence', "docker --config", "xargs -r docker")
# Where it matters how long proxies keep a name.
WAITS = (
    "docker compose -f $file -f",
    "docker compose up",
    "docker network d",
    "docker network c",
    "docker stop",
    "sleep",
)
# Which take long enough to be cut short.
LONG = ("docker --config", *WAITS[:4])
QUICK = ("docker network c", *FILES[:2], *FILES[4:6], *WAITS[:3], *WAITS[4:])

A = TypeVar("A")
T = TypeVar("T")


def kills(run: Run, commands: Iterable[tuple[str, str]]) -> list[Kill]:
    """The kills of a run that executes these commands."""
    times: Counter[str] = Counter()
    found: list[Kill] = []
    for line, command in commands:
        times[command] += 1
        if found and run.ends and plain(command).startswith(run.ends):
            break
        if found or plain(command).startswith(run.begins):
            both = plain(command).startswith(FILES + WAITS)
            again = (False, True) if both else (len(found) % 2 == 0,)
            found += [Kill(run, line, command, times[command], each) for each in again]
    assert found, f"{run.name}: the script does not come to {run.begins}"
    return found


def quick(all_kills: list[Kill]) -> list[Kill]:
    """One kill at each of a few commands that matter, now with a newer version after it, now with the same again.

    The first at full length: what is half-way when the one beside leaves the network shows only then.
    """
    chosen = []
    for number, start in enumerate(QUICK):
        at = [kill for kill in all_kills if plain(kill.command).startswith(start) and kill.again == (number % 2 == 1)]
        assert at, f"the script does not come to {start}"
        chosen.append(at[-1])
    return [dataclasses.replace(chosen[0], waits=11), *chosen[1:]]


def at_full_length(all_kills: list[Kill]) -> list[Kill]:
    """Those where it matters how long proxies keep a name, with the script's own waits and nginx's own memory."""
    chosen = [kill for kill in all_kills if kill.run in (DEPLOY, CLEARING) and not kill.again]
    return [dataclasses.replace(kill, waits=11) for kill in chosen if plain(kill.command).startswith(WAITS)]


def with_all(all_kills: list[Kill]) -> list[Kill]:
    """Those of commands that take their time, now cut short themselves: as when the power goes."""
    chosen = [kill for kill in all_kills if kill.run in (DEPLOY, CLEARING) and plain(kill.command).startswith(LONG)]
    return [dataclasses.replace(kill, after="0.1" if kill.again else "0.4") for kill in chosen]


class Rigs:
    """Machines that work side by side."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.free: queue.Queue[Rig] = queue.Queue()

    def __enter__(self) -> "Rigs":
        with contextlib.ExitStack() as stack, ThreadPoolExecutor(self.number) as pool:
            for rig in [pool.submit(lambda: Rig(stack.enter_context(throw_away()))) for _ in range(self.number)]:
                self.free.put(rig.result())
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def on_one(self, do: Callable[[Rig], T]) -> T:
        """Does that on a machine that is free."""
        rig = self.free.get()
        try:
            return do(rig)
        finally:
            self.free.put(rig)

    def each(self, do: Callable[[Rig, A], T], things: Iterable[A]) -> Iterator[tuple[A, T]]:
        """Does that with each thing, and yields both in their order."""
        with ThreadPoolExecutor(self.number) as pool:
            things = list(things)
            yield from zip(things, pool.map(lambda thing: self.on_one(lambda rig: do(rig, thing)), things), strict=True)


def run(quick_part: bool, say: Callable[[str], None], names: Iterable[str] = ()) -> bool:
    """Does all trials, or a quick part of them, says a line for each, and whether all were right."""
    runs = [DEPLOY] if quick_part else [run for run in RUNS if not names or run.name in names]
    verdicts: Counter[str] = Counter()
    with Rigs(2 if quick_part else 3) as rigs:
        try:
            found = [kill for run, commands in rigs.each(Rig.commands, runs) for kill in kills(run, commands)]
            chosen = quick(found) if quick_part else found + with_all(found) + at_full_length(found)
        except AssertionError as error:
            say(f"without any kill: {error}")
            return False
        for number, (kill, problems) in enumerate(rigs.each(Rig.trial, chosen), start=1):
            verdict = "WRONG" if problems else "right" if problems is not None else "did not come to it"
            say("\n    ".join([f"{number}/{len(chosen)} {kill}: {verdict}", *(problems or ())]))
            verdicts[verdict] += 1
    commands = len({(kill.run, kill.command, kill.count) for kill in chosen})
    ends = ", ".join(f"{times} {verdict}" for verdict, times in verdicts.items())
    say(f"kill -9 at {commands} commands of {len(runs)} runs, {len(chosen)} trials: {ends}")
    return not verdicts["WRONG"] and verdicts["right"] > 0.98 * len(chosen)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about ten kills of a deploy")
    parser.add_argument("--run", action="append", choices=[run.name for run in RUNS], help="only this, or these")
    words = parser.parse_args()
    return 0 if run(words.quick, lambda line: print(line, flush=True), words.run or ()) else 1


if __name__ == "__main__":
    sys.exit(main())
