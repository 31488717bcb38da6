"""What a pipeline's files say about order: events, jobs, queues, and what each job does to registry and host.

Read from the files, by recognisers that raise Unreadable for what they do not know: a proof about a file that nobody
understood would be empty. What is simply absent (a queue, a label, the host script) is read as absent, so that the
search can show why it is needed. The host script itself is not read: what it does is stated here, and tested on an
engine.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tests.workflow import Mapping, Workflow

Body = str
HARMLESS = re.compile(r"(actions/(checkout|setup-[a-z]+)|docker/(login-action|setup-buildx-action))@")
BUILDS = re.compile(r"docker/build-push-action@")
EFFECT = re.compile(r"\bssh\b|\bdocker (compose|pull|push|tag|build|buildx)\b|\bcurl\b|git push")
OUTPUT = re.compile(r"\$\{\{ *(needs|steps)\.([\w-]+)\.outputs\.([\w-]+) *\}\}")
KEY = re.compile(
    r'files=\$\(git ls-files -s -- (.+)\)\n(?:.*\n)*?.*"key=src-\$\(sha256sum <<<"\$files" \| cut -c1-12\)"'
)
FIND = re.compile(
    r'^ *key=src-\$\(git ls-files -s -- "\$\{@:4\}" \| sha256sum .*\n *found=\$\(digest "\$3:(\S+)"\)$', re.M
)
ASKED = re.compile(r"^ *find_image (\S+) \S+ (\S+) (.+)$", re.M)
COUNT = "sequence=$(git rev-list --count HEAD)"
SENT = re.compile(r'vps deploy (\S+) "\$2" "\$3" "\$SEQUENCE"')
CALLED = re.compile(r'^deploy \S+ (\S+) "\$(\w+)"$', re.M)
ANSWER = "[[ $verdict =~ ^(SERVING|SUPERSEDED)$ ]] || {"
RESTART = re.compile(r"cd ~/docker/(\S+) && docker compose pull && docker compose up -d'$", re.M)
RETAG = re.compile(r"for service in (.+); do\n *image=(\S+)\$service\n *docker pull \$image:(\w+)\n")


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

    lock: bool = False  # one deploy at a time, the others wait
    refuses_older: bool = False  # a commit older than the one that serves changes nothing
    only_served: bool = False  # an environment takes only what the one before it served
    outlives: bool = False  # a deploy goes on when its caller goes away


# What the generated host script promises. The search does not read it from the script: tests/engine shows it on a real
# engine, in these tests.
# - lock, outlives: test_a_dropped_connection_stops_nothing_and_another_deploy_waits
# - refuses_older: test_an_older_commit_that_arrives_late_changes_nothing; also when it waited for the lock:
#   test_an_older_commit_that_waited_for_a_newer_one_changes_nothing; the same commit may come again:
#   test_a_killed_deploy_is_cleared_by_the_next_even_of_the_same_commit; a way back leaves the commit's number:
#   test_rollback_by_a_person_whose_terminal_closes_leaves_the_sequence
# - only_served: test_production_refuses_what_staging_never_served
PROMISED = Host(lock=True, refuses_older=True, only_served=True, outlives=True)


@dataclass(frozen=True)
class Design:
    """A pipeline: its flows, its stacks ({stack: {service: tag}}, that of the pushes before the tags'), its host."""

    flows: tuple[Flow, ...]
    stacks: dict[str, dict[str, str]]
    services: tuple[str, ...]
    host: Host


def read(tree: Path) -> Design:
    """Read the workflows and stacks below a folder, and whether there is a host script."""
    files = sorted((tree / ".github/workflows").glob("*.yml"))
    names = dict(_built(Workflow(file.read_text())) for file in files if "build-push-action" in file.read_text())
    stacks = {file.parent.name: _stack(file, names) for file in sorted(tree.glob("deploy/*/docker-compose.yml"))}
    stacks = {name: stack for name, stack in stacks.items() if stack}
    flows = tuple(flow for file in files if (flow := _Reader(Workflow(file.read_text()), names, stacks).flow))
    pushed = _of(flow for flow in flows if flow.branches)
    tagged = _of(flow for flow in flows if flow.tags)
    if not names or len(pushed) != 1 or len(tagged) != 1 or sorted(stacks) != sorted(pushed + tagged):
        raise Unreadable(f"{tree}: one stack for pushes and one for tags are expected: {pushed} {tagged} {[*stacks]}")
    ordered = {name: {service: tag for service, (tag, _) in stacks[name].items()} for name in (*pushed, *tagged)}
    labelled = all(before for _, before in stacks[tagged[0]].values())
    return Design(flows, ordered, tuple(names.values()), _host(tree / "deploy/bin/deploy", labelled))


def _of(flows: Iterator[Flow]) -> list[str]:
    """The stacks that some flows deploy to."""
    ops = [op for flow in flows for job in flow.jobs for op in job.ops]
    return sorted({op.stack for op in ops if op.kind in ("deploy", "restart")})


def _built(workflow: Workflow) -> tuple[str, str]:
    """The repository that a workflow builds, and the service's short name: the workflow's without `-ci`."""
    tags = [step["with"]["tags"] for _, _, step in workflow.steps if BUILDS.match(step.get("uses", ""))]
    repositories = {
        line.rsplit(":", 1)[0] if "${{" not in line else line.split(":$")[0] for line in tags[0].split()[:1]
    }
    return repositories.pop(), workflow.data["name"].removesuffix("-ci")


def _stack(file: Path, names: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Each service of ours in a stack: the tag it runs by, and where its images must have served before."""
    found = {}
    for service in yaml.safe_load(file.read_text())["services"].values():
        repository, _, tag = service["image"].rpartition(":")
        if repository in names:
            found[names[repository]] = (tag, service.get("labels", {}).get("deploy.from", ""))
    return found


def _host(script: Path, labelled: bool) -> Host:
    """The rules of a host with that script, when it is there; the last one works by a label of the compose file."""
    return replace(PROMISED, only_served=labelled) if script.exists() else Host()


@dataclass
class _Reader:
    workflow: Workflow
    names: dict[str, str]
    stacks: dict[str, dict[str, tuple[str, str]]]
    step: Mapping = field(default_factory=dict)

    @cached_property
    def flow(self) -> Flow | None:
        """The workflow, or None for one that changes nothing outside of its runners."""
        jobs = tuple(self._job(name) for name in self._chain())
        if not any(job.ops for job in jobs):
            return None
        data = self.workflow.data
        events = {str(where[-1]): event for where, event in self.workflow.events}
        push = events.pop("push", {})
        hand = events.pop("workflow_dispatch", None) is not None
        if events or set(push) - {"branches", "paths", "tags"} or ("tags" in push) == ("branches" in push):
            raise Unreadable(f"{data['name']} starts in a way that is not known: {data['on']}")
        branches, paths, tags = (tuple(push.get(kind, ())) for kind in ("branches", "paths", "tags"))
        ancestry = any("git merge-base --is-ancestor HEAD origin/main ||" in run for _, _, run in self.workflow.runs)
        return Flow(data["name"], branches, paths, tags, hand, _queue(data), jobs, ancestry)

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
        return Job(name, _queue(job), bool(condition), tuple(op for step in job["steps"] for op in self._ops(step)))

    def _ops(self, step: Mapping) -> list[Op]:
        self.step, uses, run = step, step.get("uses", ""), step.get("run", "")
        if step.get("if", "").startswith("github.event_name == 'pull_request' && "):
            return []  # nothing here is a pull request
        if "if" in step or "continue-on-error" in step:
            raise Unreadable(f"a step with a condition: {step}")
        if HARMLESS.match(uses):
            return []
        readers = (self._publish, self._find, self._retag, self._deploy, self._restart, self._check)
        ops = [op for reader in readers for op in reader(uses, run)]
        if not ops and (uses or EFFECT.search(run)):
            raise Unreadable(f"{self.workflow.data['name']}: a step that is not known: {uses or run}")
        return ops

    def _publish(self, uses: str, run: Body) -> Iterator[Op]:
        if BUILDS.match(uses):
            for line in self.step["with"]["tags"].split("\n"):
                source = OUTPUT.search(line)
                repository, tag = line.removesuffix(source[0] if source else "").rsplit(":", 1)
                paths = self._key(self._said_by(source[2]).get("run", "")) if source else ()
                yield Op("publish", service=self.names[repository], tag="src-key" if source else tag, paths=paths)

    def _find(self, uses: str, run: Body) -> Iterator[Op]:
        if found := FIND.search(run):
            for _, repository, paths in ASKED.findall(run):
                tag = "src-key" if found[1] == "$key" else found[1]
                yield Op(
                    "find",
                    service=self.names[repository],
                    tag=tag,
                    paths=tuple(paths.split()) if tag == "src-key" else (),
                )
            yield from (
                Op("publish", service=self.names[repository], tag="latest") for _, repository, _ in ASKED.findall(run)
            )

    def _retag(self, uses: str, run: Body) -> Iterator[Op]:
        if pulled := RETAG.search(run):
            for name in pulled[1].split():
                service = self.names[pulled[2] + name]
                yield Op("find", service=service, tag=pulled[3])
                yield from (
                    Op("publish", service=service, tag=tag)
                    for tag in re.findall(r"docker push \$image:(\w+)$", run, re.M)
                )

    def _deploy(self, uses: str, run: Body) -> Iterator[Op]:
        if sent := SENT.search(run):
            if ANSWER not in run or not CALLED.search(run):
                raise Unreadable("a deploy that does not wait for the host's answer")
            self._must_come_from("SEQUENCE", COUNT)
            for container, variable in CALLED.findall(run):
                service = self._service(sent[1], container)
                self._must_come_from(variable, "build-push-action", "find_image ")
                yield Op("deploy", stack=sent[1], service=service)

    def _restart(self, uses: str, run: Body) -> Iterator[Op]:
        if restarted := RESTART.search(run):
            yield Op("restart", stack=restarted[1])

    def _check(self, uses: str, run: Body) -> Iterator[Op]:
        for domain in re.findall(r"https://([\w.-]+)", run if "curl -f" in run else ""):
            words = re.split(r"[.-]", domain)
            services = [service for service in self.names.values() if service in words[:2]]
            if len(services) != 1 or not re.search(r"^ *sleep 10\b", run, re.M):
                raise Unreadable(f"a health check of something that is not known: {domain}")
            yield Op("check", service=services[0])

    def _key(self, run: Body) -> tuple[str, ...]:
        if not (made := KEY.search(run)):
            raise Unreadable(f"a tag that is made in a way that is not known: {run}")
        return tuple(made[1].split())

    def _service(self, stack: str, container: str) -> str:
        """The service that a container of a stack is: its name without the stack's words."""
        services = [service for service in self.stacks[stack] if service in container.split("-")]
        if len(services) != 1:
            raise Unreadable(f"{stack} has no service {container}")
        return services[0]

    def _must_come_from(self, variable: str, *words: str) -> None:
        """Raise unless a variable holds the output of an earlier job's step that has one of the words."""
        said = OUTPUT.fullmatch(self.step["env"][variable])
        output = OUTPUT.fullmatch(self.workflow.data["jobs"][said[2]]["outputs"][said[3]]) if said else None
        source = str(self._said_by(output[2])) if output else ""
        if not any(word in source for word in words):
            raise Unreadable(f"{variable} comes from where it is not expected: {self.step['env'][variable]}")

    def _said_by(self, step_id: str) -> Mapping:
        return next(step for _, _, step in self.workflow.steps if step.get("id") == step_id)


def _queue(part: Mapping) -> Queue | None:
    said: Any = part.get("concurrency")
    if isinstance(said, str) or said is None:
        return Queue(said, False) if said else None
    if set(said) - {"group", "cancel-in-progress"} or said.get("cancel-in-progress") not in (None, True, False):
        raise Unreadable(f"a queue of a kind that is not known: {said}")
    return Queue(said["group"], bool(said.get("cancel-in-progress")))
