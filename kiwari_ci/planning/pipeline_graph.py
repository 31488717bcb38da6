"""The pipeline as lanes, one for each environment: what starts it, its jobs, images, containers and domains.

Drawn as Mermaid here, for the runbook too, and as a page by `asking.page`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from kiwari_ci.plan import Plan, Promotion, ServiceWorkflow, Stack


@dataclass(frozen=True)
class Row:
    """A service on its way into one environment; `image` is without the registry, `tag` what the environment gets."""

    service: str
    workflow: str
    jobs: tuple[str, ...]
    image: str
    tag: str
    container: str
    health: str
    domain: str


@dataclass(frozen=True)
class Lane:
    """An environment: `trigger` starts it, `source` is the environment whose images it takes (or empty).

    With `shared`, all rows share one workflow and its jobs.
    """

    environment: str
    trigger: str
    source: str
    shared: bool
    host: str
    stack: str
    database: str
    accessories: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Graph:
    """All lanes, in the spec's order."""

    project: str
    repository: str
    registry: str
    lanes: tuple[Lane, ...]


def graph(plan: Plan) -> Graph:
    """What a plan draws."""
    lanes = tuple(_lane(plan, host.name, stack) for host in plan.hosts for stack in host.stacks)
    order = [stack.environment for stack in plan.stacks]
    return Graph(
        plan.project,
        plan.repository,
        plan.registry,
        tuple(sorted(lanes, key=lambda lane: order.index(lane.environment))),
    )


def _lane(plan: Plan, host: str, stack: Stack) -> Lane:
    promotion = _own(plan, stack)
    branch = next(iter(_branches(plan, stack)), "")
    roles = {role.environment: (server, role) for server in plan.servers for role in server.databases}
    server, role = roles.get(stack.environment, (None, None))
    return Lane(
        environment=stack.environment,
        trigger=" or ".join(
            ([f"push to {branch}"] if branch else []) + ([promotion.started_by()] if promotion else [])
        ),
        source=promotion.from_environment if promotion and not promotion.builds and not branch else "",
        shared=not branch,
        host=host,
        stack=stack.name,
        database=f"{server.name}: {role.name}" if server and role else "",
        accessories=tuple(f"{each.container}: {each.image}" for each in stack.accessories),
        rows=tuple(_rows(plan, stack)),
    )


def _own(plan: Plan, stack: Stack) -> Promotion | None:
    return next((each for each in plan.promotions if each.deploy.environment == stack.environment), None)


def _branches(plan: Plan, stack: Stack) -> list[str]:
    """The branch whose pushes reach an environment, once for each service; none for a tag's or a person's."""
    targets = [target for each in plan.workflows for target in each.targets]
    return [each.deploy.branch for each in targets if each.deploy.environment == stack.environment]


def _rows(plan: Plan, stack: Stack) -> Iterator[Row]:
    workflows = {each.source.image: each for each in plan.workflows}
    promotion = None if _branches(plan, stack) else _own(plan, stack)
    for instance in stack.instances:
        name, jobs = (promotion.name, promotion.jobs()) if promotion else _pushed(workflows[instance.source], stack)
        yield Row(
            service=instance.service,
            workflow=name,
            jobs=jobs,
            image=instance.repository.partition("/")[2],
            tag=instance.tag,
            container=instance.container,
            health=f"{instance.health_path} → {instance.health_status}" if instance.health else "a worker",
            domain=instance.domain,
        )


def _pushed(workflow: ServiceWorkflow, stack: Stack) -> tuple[str, tuple[str, ...]]:
    """A service's own workflow, and its jobs on the way into one environment."""
    jobs = [job for job in workflow.jobs() if not job.startswith("deploy-")]
    return workflow.source.workflow, (*jobs, f"deploy-{stack.environment}")


def as_mermaid(drawn: Graph) -> str:
    """A flowchart, a subgraph for each environment; every text is in quotes, and every node has a number for a name."""
    lines = ["flowchart LR"]
    for number, lane in enumerate(drawn.lanes):
        lines.append(f'  subgraph e{number}["{_text(f"{lane.environment} on {lane.host}")}"]')
        lines.append(f'    t{number}(["{_text(lane.trigger)}"])')
        lines += [f"    {line}" for line in _mermaid_rows(number, lane)]
        lines += [f'    b{number}[("{_text(lane.database)}")]'] if lane.database else []
        lines += [f'    a{number}_{index}(["{_text(each)}"])' for index, each in enumerate(lane.accessories)]
        lines.append("  end")
    numbers = {lane.environment: number for number, lane in enumerate(drawn.lanes)}
    for number, lane in enumerate(drawn.lanes):
        if lane.source:
            lines.append(f"  e{numbers[lane.source]} -. the same images .-> e{number}")
    return "\n".join(lines)


def _mermaid_rows(number: int, lane: Lane) -> Iterator[str]:
    workflows = [row.workflow for row in lane.rows]
    for index, row in enumerate(lane.rows):
        first = workflows.index(row.workflow)  # one that deploys several is drawn once
        name = f"{number}_{first}"
        if index == first:
            yield f't{number} --> w{name}["{_text(row.workflow)}<br>{_text(" → ".join(row.jobs))}"]'
        here = f"{number}_{index}"
        image, container = _text(f"{row.image}:{row.tag}"), _text(row.container)
        yield f'w{name} --> i{here}[["{image}"]] --> c{here}["{container}"]'
        if row.domain:
            yield f'c{here} --> d{here}(["{_text(row.domain)}"])'


def _text(text: str) -> str:
    """A text between the quotes of a node: nothing in it ends them or is markup."""
    return "".join(each if each.isalnum() or each in " .,:/→_-*" else f"#{ord(each)};" for each in text)
