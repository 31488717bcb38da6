"""What a pipeline's files say about order: events, jobs, queues, and what each job does to registry and host.

Order is read from the parsed YAML: triggers, filters, `needs`, `if`, `concurrency`, and where a value comes from
(`outputs`, `env`). What a step does is told by its action, its id or its name, which the generator gives it; that its
script does so is for other tests (tests/engine, tests/test_generated.py), and what the host does about order is what
its program promises (docs/decisions). A step, job or trigger that is not known raises Unreadable: a proof about a file
that nobody understood would be empty.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tests.workflow import Mapping, Workflow

HARMLESS = re.compile(r"(actions/(checkout|setup-[a-z]+)|docker/(login-action|setup-buildx-action))@")
BUILDS = re.compile(r"docker/build-push-action@")
OUTPUT = re.compile(r"\$\{\{ *(needs|steps)\.([\w-]+)\.outputs\.([\w-]+) *\}\}")
DIGEST = re.compile(r"DIGEST_(\w+)")
# Steps that neither the registry nor the host sees, by their names; the last two only turn a run red.
UNSEEN = re.compile(
    r"Run the tests|Name the source|See that a newer (commit|version with this commit) serves on .+"
    r"|Fetch the history of .+",
    re.IGNORECASE,
)
SUPERSEDED = re.compile(r"steps\.[\w-]+\.outputs\.superseded-by( \|\| steps\.[\w-]+\.outputs\.superseded-by)*")


class Unreadable(ValueError):
    """A file says something that no recogniser knows, or lacks what the search needs."""


@dataclass(frozen=True)
class Op:
    """One thing a job does: `publish`, `find`, `deploy`, `restart`, `check`, or `work` that nobody else sees."""

    kind: str
    stack: str = ""
    service: str = ""  # empty: every service of the stack
    tag: str = ""  # `staging`, `latest`..., or `src-key`: the one that names the source
    paths: tuple[str, ...] = ()  # what the key is made of


@dataclass(frozen=True)
class Queue:
    """A `concurrency` group, as written."""

    group: str
    cancels: bool


@dataclass(frozen=True)
class Job:
    """A job: its queue, whether it runs on the main branch only, and what it does."""

    name: str
    queue: Queue | None
    main_only: bool
    ops: tuple[Op, ...]


@dataclass(frozen=True)
class Flow:
    """A workflow: what starts it, its queue, its jobs in the order of `needs`."""

    name: str
    branches: tuple[str, ...]
    paths: tuple[str, ...]
    tags: tuple[str, ...]
    by_hand: bool
    queue: Queue | None
    jobs: tuple[Job, ...]
    main_only_tags: bool  # a tag that is not on the main branch ends red


@dataclass(frozen=True)
class Host:
    """What the host does about order: with none of it, compose does what it is told."""

    lock: bool = False
    superseded: str = ""  # `lt`: an older one changes nothing; `le`: nor does the same one
    only_served: bool = False  # an environment takes only what the one before it served
    outlives: bool = False  # a deploy goes on when its caller goes away


# What deploy/bin/deploy promises, for stacks whose compose file says where each image must have served before.
PROMISED = Host(lock=True, superseded="lt", only_served=True, outlives=True)


@dataclass(frozen=True)
class Design:
    """A pipeline: its flows, its stacks ({stack: {service: tag}}, that of the pushes before the tags'), its host."""

    flows: tuple[Flow, ...]
    stacks: dict[str, dict[str, str]]
    services: tuple[str, ...]
    host: Host


def read(tree: Path) -> Design:
    """Read the workflows and stacks below a folder."""
    workflows = [Workflow(file.read_text()) for file in sorted((tree / ".github/workflows").glob("*.yml"))]
    names = dict(_built(workflow) for workflow in workflows if any(_builds(step) for _, _, step in workflow.steps))
    stacks = {file.parent.name: _stack(file, names) for file in sorted(tree.glob("deploy/*/docker-compose.yml"))}
    stacks = {name: stack for name, stack in stacks.items() if stack}
    flows = _with_keys([flow for workflow in workflows if (flow := _Reader(workflow, names, stacks).flow)])
    pushed = _of(flow for flow in flows if flow.branches)
    tagged = _of(flow for flow in flows if flow.tags)
    if not names or len(pushed) != 1 or len(tagged) != 1 or sorted(stacks) != sorted(pushed + tagged):
        raise Unreadable(f"{tree}: one stack for pushes and one for tags are expected: {pushed} {tagged} {[*stacks]}")
    ordered = {name: {service: tag for service, (tag, _) in stacks[name].items()} for name in (*pushed, *tagged)}
    labelled = all(before for _, before in stacks[tagged[0]].values())
    has_program = (tree / "deploy/bin/deploy").exists()
    host = replace(PROMISED, only_served=labelled) if has_program else Host()
    return Design(flows, ordered, tuple(names.values()), host)


def _with_keys(flows: list[Flow]) -> tuple[Flow, ...]:
    """What is found by its source was published by it: the same paths (test_generated.py compares the two scripts)."""
    ops = [op for flow in flows for job in flow.jobs for op in job.ops]
    paths = {op.service: op.paths for op in ops if op.kind == "publish" and op.tag == "src-key"}

    def complete(op: Op) -> Op:
        return replace(op, paths=paths[op.service]) if op.kind == "find" and op.tag == "src-key" else op

    return tuple(
        replace(flow, jobs=tuple(replace(job, ops=tuple(map(complete, job.ops))) for job in flow.jobs))
        for flow in flows
    )


def _of(flows: Iterator[Flow]) -> list[str]:
    """The stacks that some flows deploy to."""
    ops = [op for flow in flows for job in flow.jobs for op in job.ops]
    return sorted({op.stack for op in ops if op.kind in ("deploy", "restart")})


def _builds(step: Mapping) -> bool:
    return BUILDS.match(step.get("uses", "")) is not None


def _built(workflow: Workflow) -> tuple[str, str]:
    """The repository that a workflow builds, and the service's short name: the workflow's without `-ci`."""
    tags = [step["with"]["tags"] for _, _, step in workflow.steps if _builds(step)]
    return tags[0].split()[0].rsplit(":", 1)[0], workflow.data["name"].removesuffix("-ci")


def _stack(file: Path, names: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Each service of ours in a stack: the tag it runs by, and where its images must have served before."""
    images = {}
    for service in yaml.safe_load(file.read_text())["services"].values():
        repository, _, tag = service["image"].rpartition(":")
        if repository in names:
            images[names[repository]] = (tag, service.get("labels", {}).get("deploy.from", ""))
    return images


@dataclass
class _Reader:
    workflow: Workflow
    names: dict[str, str]
    stacks: dict[str, dict[str, tuple[str, str]]]

    @cached_property
    def flow(self) -> Flow | None:
        """The workflow, or None for one that changes nothing outside of its runners."""
        if not any(self._is_known(step) for _, _, step in self.workflow.steps):
            return None
        jobs = tuple(self._job(name) for name in self._chain())
        document = self.workflow.data
        events = {str(where[-1]): event for where, event in self.workflow.events}
        push = events.pop("push", {})
        hand = events.pop("workflow_dispatch", None) is not None
        if events or set(push) - {"branches", "paths", "tags"} or ("tags" in push) == ("branches" in push):
            raise Unreadable(f"{document['name']} starts in a way that is not known: {document['on']}")
        branches, paths, tags = (tuple(push.get(kind, ())) for kind in ("branches", "paths", "tags"))
        finds = any(step.get("id") == "find" for _, _, step in self.workflow.steps)
        return Flow(document["name"], branches, paths, tags, hand, _queue(document), jobs, main_only_tags=finds)

    def _is_known(self, step: Mapping) -> bool:
        """Whether a step builds, tags or deploys: a workflow without one is none of the pipeline's."""
        return _builds(step) or step.get("id") == "find" or step.get("name", "").startswith(("Pull and", "Re-tag"))

    def _chain(self) -> list[str]:
        """The jobs in the order of `needs`, which must be one chain."""
        needs = {name: job.get("needs", []) for name, job in self.workflow.data["jobs"].items()}
        after = {name: [need] if isinstance(need, str) else need for name, need in needs.items()}
        chain: list[str] = []
        while len(chain) < len(after):
            ready = [name for name, need in after.items() if name not in chain and need == chain[-1:]]
            if len(ready) != 1:
                raise Unreadable(f"{self.workflow.data['name']}: its jobs are no chain: {after}")
            chain += ready
        return chain

    def _job(self, name: str) -> Job:
        job = self.workflow.data["jobs"][name]
        condition = job.get("if")
        if condition not in (None, "github.ref == 'refs/heads/main'"):
            raise Unreadable(f"{name}: a condition that is not known: {condition}")
        ops = tuple(op for step in job["steps"] for op in self._ops(name, job, step))
        return Job(name, _queue(job), bool(condition), ops)

    def _ops(self, name: str, job: Mapping, step: Mapping) -> list[Op]:
        condition, title = step.get("if", ""), step.get("name", "")
        if "continue-on-error" in step or (condition and not SUPERSEDED.fullmatch(condition)):
            raise Unreadable(f"{name}: a step that may fail, or with a condition that is not known: {step}")
        if HARMLESS.match(step.get("uses", "")) or UNSEEN.fullmatch(title) or (name == "test" and "run" in step):
            return []
        if _builds(step):
            return list(self._publish(job, step))
        if step.get("id") == "find":
            return list(self._find(job))
        if step.get("id") == "deploy":
            return list(self._deploy(name, job, step))
        if title.startswith("Health check"):
            return [Op("check", service=service) for service in self._checked(name, title)]
        if title == "Pull and restart":
            return [Op("restart", stack=self._stack_of(name))]
        if title == "Re-tag the staging images":
            lookups = [Op("find", service=service, tag="staging") for service in self.names.values()]
            return lookups + [Op("publish", service=service, tag="latest") for service in self.names.values()]
        raise Unreadable(f"{self.workflow.data['name']}: a step that is not known: {step}")

    def _publish(self, job: Mapping, step: Mapping) -> Iterator[Op]:
        for line in step["with"]["tags"].split("\n"):
            repository, tag = line.split(":", 1)
            source = OUTPUT.fullmatch(tag)
            if source and source[3] != "key":
                raise Unreadable(f"a tag that is made in a way that is not known: {line}")
            paths = self._paths(job) if source else ()
            yield Op("publish", service=self.names[repository], tag="src-key" if source else tag, paths=paths)

    def _paths(self, job: Mapping) -> tuple[str, ...]:
        """What the build sees, and its image's key names: folders end in a slash."""
        sparse = next(step["with"]["sparse-checkout"] for step in job["steps"] if HARMLESS.match(step.get("uses", "")))
        lines = [line.removeprefix("/").removesuffix("**") for line in sparse.split("\n")]
        return tuple(line for line in lines if not line.startswith("!"))

    def _find(self, job: Mapping) -> Iterator[Op]:
        """The images of this source, one for each `digest-` output; then the moving tag is theirs."""
        services = [output.removeprefix("digest-") for output in job["outputs"] if output.startswith("digest-")]
        if {*services} != {*self.names.values()}:
            raise Unreadable(f"{self.workflow.data['name']} finds images of {services}")
        yield from (Op("find", service=service, tag="src-key") for service in services)
        yield from (Op("publish", service=service, tag="latest") for service in services)

    def _deploy(self, name: str, job: Mapping, step: Mapping) -> Iterator[Op]:
        """One for each digest that the step has from an earlier job, in their order."""
        stack = self._stack_of(name)
        checkout = next(step["with"]["sparse-checkout"] for step in job["steps"] if "sparse-checkout" in str(step))
        if checkout.split("\n") != ["deploy/bin", f"deploy/{stack}"]:
            raise Unreadable(f"{name}: its files are of something else: {checkout}")
        self._must_come_from(step, "SEQUENCE", "source", "find")
        for variable in step["env"]:
            if digest := DIGEST.fullmatch(variable):
                self._must_come_from(step, variable, "build", "find")
                yield Op("deploy", stack=stack, service=digest[1].lower().replace("_", "-"))

    def _stack_of(self, job: str) -> str:
        """The stack of the environment that a deploy job is named after."""
        matching = [stack for stack in self.stacks if stack.endswith(job.removeprefix("deploy"))]
        if len(matching) != 1:
            raise Unreadable(f"{job} deploys to no stack, or to several: {matching}")
        return matching[0]

    def _checked(self, job: str, title: str) -> list[str]:
        """Whose health a step asks: that of the service in its name, or of all that the workflow deploys."""
        service = title.removeprefix("Health check").removeprefix(" of ")
        own = self.workflow.data["name"].removesuffix("-ci")
        if service and service not in self.names.values():
            raise Unreadable(f"{job}: a health check of something that is not known: {title}")
        return [service] if service else [own] if own in self.names.values() else list(self.names.values())

    def _must_come_from(self, step: Mapping, variable: str, *ids: str) -> None:
        """Raise unless a variable holds the output of an earlier job's step that has one of the ids."""
        reference = OUTPUT.fullmatch(step["env"][variable])
        output = (
            OUTPUT.fullmatch(self.workflow.data["jobs"][reference[2]]["outputs"][reference[3]]) if reference else None
        )
        if output is None or output[2] not in ids:
            raise Unreadable(f"{variable} comes from where it is not expected: {step['env'][variable]}")


def _queue(part: Mapping) -> Queue | None:
    concurrency: Any = part.get("concurrency")
    if isinstance(concurrency, str) or concurrency is None:
        return Queue(concurrency, False) if concurrency else None
    if set(concurrency) - {"group", "cancel-in-progress"} or concurrency.get("cancel-in-progress") not in (
        None,
        True,
        False,
    ):
        raise Unreadable(f"a queue of a kind that is not known: {concurrency}")
    return Queue(concurrency["group"], bool(concurrency.get("cancel-in-progress")))
