"""Small worlds: which runs a design can have, when so much is pushed, tagged, run by hand, cancelled and run again."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kiwari_ci.github_facts.path_filters import is_included
from tests.rehearsal.schedules.drawn import Design, Flow, Job, Op, Queue, Unreadable

# What a push can touch: a file that shapes one image, or all.
EVERY = "every image"
FILES = {"api": "api/main.go", "admin": "admin/src/app.ts", EVERY: ".dockerignore"}
LONG_BRANCH = 9  # commits up to a tag beside main: more than main has


@dataclass(frozen=True)
class Bounds:
    """A small world: what each push touches, the tags' commits (negative: beside main), and what else may happen."""

    touches: tuple[tuple[str, ...], ...]
    tags: tuple[int, ...] = ()
    other_branch: tuple[int, ...] = ()  # commits of which each flow may be run by hand, on another branch
    bad: tuple[str, int] | None = None  # the service and commit whose image does not become healthy
    cancels: int = 0
    reruns: int = 0


@dataclass(frozen=True)
class Plan:
    """A run that can come to be: its words, its commit, its sequence, its ops (job of each), its queues."""

    words: str
    event: str  # how it comes to be
    kind: str  # push, tag or hand
    commit: int
    sequence: int
    refused: bool  # by the check that a tag is on main
    services: tuple[int, ...]
    ops: tuple[Op, ...]
    slots: tuple[int, ...]  # the registry's tag of each op
    job_of: tuple[int, ...]
    queue: Queue | None
    queues: tuple[Queue | None, ...]  # by op


class World:
    """A design within bounds: the runs that can come to be, and the registry's tags that anything reads."""

    def __init__(self, design: Design, bounds: Bounds) -> None:
        self.design, self.bounds = design, bounds
        self.names, self.stacks = design.services, list(design.stacks)
        self.slots: dict[tuple[object, ...], int] = {}
        self._sources = [self._changes(name) for name in self.names]
        drafts = list(self._drafts())
        self._read_tags(drafts)
        self.plans = [self._plan(*draft) for draft in drafts]

    def source(self, service: int, commit: int) -> int:
        """The newest commit, up to one, that changes what a service is made of."""
        return self._sources[service][commit]

    def _changes(self, name: str) -> list[int]:
        newest = [0]
        for commit, touches in enumerate(self.bounds.touches, 1):
            newest.append(commit if {name, EVERY} & {*touches} else newest[-1])
        return newest

    def _drafts(self) -> Iterator[tuple[Flow, str, int, int]]:
        for commit, touches in enumerate(self.bounds.touches, 1):
            files = [FILES[touch] for touch in touches]
            for flow in self.design.flows:
                if flow.branches and is_included(flow.branches, "main") and _filtered(flow, files):
                    yield flow, "push", commit, 0
        for number, target in enumerate(self.bounds.tags, 1):
            yield from (
                (flow, "tag", target, number) for flow in self.design.flows if is_included(flow.tags, f"v{number}.0.0")
            )
        for number, commit in enumerate(self.bounds.other_branch, 1):
            yield from ((flow, "hand", commit, number) for flow in self.design.flows if flow.by_hand)

    def _read_tags(self, drafts: list[tuple[Flow, str, int, int]]) -> None:
        """The registry's tags that anything reads: of all others nobody can tell what they are."""
        for flow, _, target, _ in drafts:
            for op in (op for job in flow.jobs for op in job.ops):
                if op.kind == "find":
                    self.slots.setdefault(self._slot(op, abs(target)), len(self.slots))
                for service, tag in self.design.stacks[op.stack].items() if op.kind == "restart" else ():
                    self.slots.setdefault(self._slot(Op("find", service=service, tag=tag), 0), len(self.slots))

    def _slot(self, op: Op, commit: int) -> tuple[object, ...]:
        if op.tag != "src-key":
            return op.service, op.tag, "mutable"
        touching = [
            k for k in range(1, commit + 1) if any(_within(op.paths, FILES[t]) for t in self.bounds.touches[k - 1])
        ]
        return op.service, op.paths, max(touching, default=0)

    def _plan(self, flow: Flow, kind: str, target: int, number: int) -> Plan:
        commit, jobs = abs(target), self._jobs(flow, kind)
        steps = [(job, op) for job in range(len(jobs)) for op in self._seen(jobs[job], commit)] or [(0, Op("work"))]
        words, event, reference = _words(flow, kind, target, number)
        return Plan(
            words,
            event,
            kind,
            commit,
            sequence=commit if target >= 0 else LONG_BRANCH,
            refused=target < 0 and flow.main_only_tags,
            services=tuple(self._services(flow)) if kind != "hand" else (),
            ops=tuple(op for _, op in steps),
            slots=tuple(self.slots.get(self._slot(op, commit), -1) for _, op in steps),
            job_of=tuple(job for job, _ in steps),
            queue=_evaluated(flow.queue, flow, commit, reference),
            queues=tuple(_evaluated(jobs[job].queue, flow, commit, reference) if jobs else None for job, _ in steps),
        )

    def _jobs(self, flow: Flow, kind: str) -> tuple[Job, ...]:
        """The jobs that run: on another branch those before the first that wants main."""
        refused = [index for index, job in enumerate(flow.jobs) if job.main_only and kind == "hand"]
        return flow.jobs[: min(refused, default=len(flow.jobs))]

    def _seen(self, job: Job, commit: int) -> list[Op]:
        """What anybody can see of a job; of one with a queue at least that it takes a place there."""
        seen = [op for op in job.ops if op.kind != "publish" or self._slot(op, commit) in self.slots]
        return seen or ([Op("work")] if job.queue else [])

    def _services(self, flow: Flow) -> list[int]:
        """A flow's own services: what it builds, or finds."""
        named = {op.service for job in flow.jobs for op in job.ops if op.kind in ("publish", "find")}
        return sorted(self.names.index(name) for name in named)


def _filtered(flow: Flow, files: list[str]) -> bool:
    return not flow.paths or any(is_included(flow.paths, file) for file in files)


def _within(paths: tuple[str, ...], file: str) -> bool:
    return any(file.startswith(path) if path.endswith("/") else file == path for path in paths)


def _words(flow: Flow, kind: str, target: int, number: int) -> tuple[str, str, str]:
    """What a run is called, what starts it, and its `github.ref`."""
    if kind == "push":
        return f"{flow.name} of commit {target}", "", "refs/heads/main"
    if kind == "hand":
        words = f"{flow.name} on another branch (run {number}) of commit {target}"
        return words, f"{words} is started by hand", "refs/heads/other"
    beside = ", a commit beside main with the same files" if target < 0 else ""
    return f"{flow.name} of v{number}", f"v{number} is pushed, on commit {abs(target)}{beside}", f"refs/tags/v{number}"


def _evaluated(queue: Queue | None, flow: Flow, commit: int, reference: str) -> Queue | None:
    if not queue:
        return None
    values = {"sha": f"c{commit}", "ref": reference, "ref_name": reference.split("/")[-1], "workflow": flow.name}
    group = re.sub(r"\$\{\{ *github\.(\w+) *\}\}", lambda match: values.get(match[1], match[0]), queue.group)
    if "${{" in group:
        raise Unreadable(f"{flow.name}: a group that is not known: {queue.group}")
    return Queue(group, queue.cancels)
