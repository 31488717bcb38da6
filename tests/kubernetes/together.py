"""Several programs at once on one cluster, in turns that a test can repeat.

Each runs in a thread, but only one of them at a time: whoever waits hands over to the one that wakes up first, and the
clock of the cluster goes on until then.
"""

import threading
from collections.abc import Sequence

import pytest

from kiwari_ci.engines.kubernetes.deploy_programs import rollout
from tests.kubernetes.fake_kubectl import Cluster, FakeKubectl
from tests.kubernetes.world import Outcome, World


class Turns:
    """Whose turn it is."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.condition = threading.Condition()
        self.wake_times: dict[str, float] = {}
        self.ended: set[str] = set()
        self.current = ""

    def hand_over(self) -> None:
        waiting = {name: time for name, time in self.wake_times.items() if name not in self.ended}
        self.current = min(waiting, key=lambda name: (waiting[name], name), default="")
        self.condition.notify_all()

    def sleep(self, name: str, seconds: float) -> None:
        with self.condition:
            self.wake_times[name] = self.cluster.clock + seconds
            self.hand_over()
            self.condition.wait_for(lambda: self.current == name)
            self.cluster.advance(max(0, self.wake_times[name] - self.cluster.clock))

    def end(self, name: str) -> None:
        with self.condition:
            self.ended.add(name)
            self.hand_over()


class KubectlInTurns(FakeKubectl):
    """The stand-in of one of several programs."""

    def __init__(self, turns: Turns, name: str) -> None:
        super().__init__(turns.cluster)
        self.turns = turns
        self.name = name

    def wait(self, seconds: float) -> None:
        self.turns.sleep(self.name, seconds)


def run_together(world: World, *requests: tuple[float, Sequence[str]]) -> list[Outcome]:
    """Run requests, each with the seconds after which it starts; their outcomes."""
    turns = Turns(world.cluster)
    codes: dict[str, int] = {}
    lines: dict[str, list[str]] = {f"{number}": [] for number in range(len(requests))}
    for number, (delay, _) in enumerate(requests):
        turns.wake_times[f"{number}"] = world.cluster.clock + delay

    def work(name: str, delay: float, arguments: Sequence[str]) -> None:
        kubectl = KubectlInTurns(turns, name)
        try:
            kubectl.wait(delay)
            request = rollout.read_request(arguments, {"GITHUB_RUN_ID": f"70{name}"})
            codes[name] = rollout.perform(rollout.Stack(kubectl, request), {})
        finally:
            turns.end(name)

    def print_line(text: str, _stream: object = None) -> None:
        lines[threading.current_thread().name].append(text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout, "print_line", print_line)
        threads = [
            threading.Thread(target=work, name=f"{number}", args=(f"{number}", delay, arguments))
            for number, (delay, arguments) in enumerate(requests)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    return [Outcome(codes.get(name, -1), "\n".join(lines[name])) for name in lines]
