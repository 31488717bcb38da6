"""The pipeline as lanes, one for each environment: what starts it, its jobs, images, containers and domains.

Drawn as Mermaid here, for the runbook too, and as a page by `asking.page`.
"""

from collections.abc import Iterator

from kiwari_ci.frozen import dataclass
from kiwari_ci.plan import ComposeStack, EnvironmentWorkflow, Plan, ServiceWorkflow


@dataclass(frozen=True)
class ServiceRow:
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
class EnvironmentLane:
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
    rows: tuple[ServiceRow, ...]


@dataclass(frozen=True)
class PipelineGraph:
    """All lanes, in the spec's order."""

    project: str
    repository: str
    registry: str
    lanes: tuple[EnvironmentLane, ...]


def build_pipeline_graph(plan: Plan) -> PipelineGraph:
    """What a plan draws."""
    lanes = tuple(_build_lane(plan, host.name, stack) for host in plan.hosts for stack in host.stacks)
    order = [stack.environment for stack in plan.stacks]
    return PipelineGraph(
        plan.project,
        plan.repository,
        plan.registry,
        tuple(sorted(lanes, key=lambda lane: order.index(lane.environment))),
    )


def _build_lane(plan: Plan, host: str, stack: ComposeStack) -> EnvironmentLane:
    promotion = _find_environment_workflow(plan, stack)
    branch = next(iter(_list_push_branches(plan, stack)), "")
    roles = {role.environment: (server, role) for server in plan.servers for role in server.databases}
    server, role = roles.get(stack.environment, (None, None))
    return EnvironmentLane(
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
        rows=tuple(_build_rows(plan, stack)),
    )


def _find_environment_workflow(plan: Plan, stack: ComposeStack) -> EnvironmentWorkflow | None:
    return next((each for each in plan.promotions if each.deploy.environment == stack.environment), None)


def _list_push_branches(plan: Plan, stack: ComposeStack) -> list[str]:
    """The branch whose pushes reach an environment, once for each service; none for a tag's or a person's."""
    targets = [target for each in plan.workflows for target in each.targets]
    return [each.deploy.branch for each in targets if each.deploy.environment == stack.environment]


def _build_rows(plan: Plan, stack: ComposeStack) -> Iterator[ServiceRow]:
    workflows = {each.source.image: each for each in plan.workflows}
    promotion = None if _list_push_branches(plan, stack) else _find_environment_workflow(plan, stack)
    for instance in stack.instances:
        name, jobs = (
            (promotion.name, promotion.jobs()) if promotion else _list_service_jobs(workflows[instance.source], stack)
        )
        yield ServiceRow(
            service=instance.service,
            workflow=name,
            jobs=jobs,
            image=instance.repository.partition("/")[2],
            tag=instance.tag,
            container=instance.container,
            health=f"{instance.health_path} → {instance.health_status}" if instance.health else "a worker",
            domain=instance.domain,
        )


def _list_service_jobs(workflow: ServiceWorkflow, stack: ComposeStack) -> tuple[str, tuple[str, ...]]:
    """A service's own workflow, and its jobs on the way into one environment."""
    jobs = [job for job in workflow.jobs() if not job.startswith("deploy-")]
    return workflow.source.workflow, (*jobs, f"deploy-{stack.environment}")


def render_mermaid(drawn: PipelineGraph) -> str:
    """A flowchart, a subgraph for each environment; every text is in quotes, and every node has a number for a name."""
    lines = ["flowchart LR"]
    for number, lane in enumerate(drawn.lanes):
        lines.append(f'  subgraph e{number}["{_escape_mermaid(f"{lane.environment} on {lane.host}")}"]')
        lines.append(f'    t{number}(["{_escape_mermaid(lane.trigger)}"])')
        lines += [f"    {line}" for line in _render_mermaid_rows(number, lane)]
        lines += [f'    b{number}[("{_escape_mermaid(lane.database)}")]'] if lane.database else []
        lines += [f'    a{number}_{index}(["{_escape_mermaid(each)}"])' for index, each in enumerate(lane.accessories)]
        lines.append("  end")
    numbers = {lane.environment: number for number, lane in enumerate(drawn.lanes)}
    for number, lane in enumerate(drawn.lanes):
        if lane.source:
            lines.append(f"  e{numbers[lane.source]} -. the same images .-> e{number}")
    return "\n".join(lines)


def _render_mermaid_rows(number: int, lane: EnvironmentLane) -> Iterator[str]:
    workflows = [row.workflow for row in lane.rows]
    for index, row in enumerate(lane.rows):
        first = workflows.index(row.workflow)  # one that deploys several is drawn once
        name = f"{number}_{first}"
        if index == first:
            yield f't{number} --> w{name}["{_escape_mermaid(row.workflow)}<br>{_escape_mermaid(" → ".join(row.jobs))}"]'
        here = f"{number}_{index}"
        image, container = _escape_mermaid(f"{row.image}:{row.tag}"), _escape_mermaid(row.container)
        yield f'w{name} --> i{here}[["{image}"]] --> c{here}["{container}"]'
        if row.domain:
            yield f'c{here} --> d{here}(["{_escape_mermaid(row.domain)}"])'


def _escape_mermaid(text: str) -> str:
    """A text between the quotes of a node: nothing in it ends them or is markup."""
    return "".join(each if each.isalnum() or each in " .,:/→_-*" else f"#{ord(each)};" for each in text)
