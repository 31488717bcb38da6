"""The pipeline as lanes, one for each environment: what starts it, its jobs, images, containers and domains.

It is rendered as Mermaid here, also for the runbook, and as a page by the command `graph`.
"""

from collections.abc import Iterator

from kiwari_ci.frozen import dataclass
from kiwari_ci.plan_model import EnvironmentWorkflow, Plan, PlannedService, ServiceWorkflow, Stack


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
    url: str


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
    """Build the lanes of a plan."""
    order = [stack.environment for stack in plan.stacks]
    lanes = [_build_lane(plan, host.name, stack) for host in plan.every_host for stack in host.stacks]
    lanes.sort(key=lambda lane: order.index(lane.environment))
    return PipelineGraph(plan.project, plan.repository, plan.registry, tuple(lanes))


def _build_lane(plan: Plan, host: str, stack: Stack) -> EnvironmentLane:
    own_workflow = _find_environment_workflow(plan, stack)
    branch = _find_push_branch(plan, stack)
    triggers = []
    if branch:
        triggers.append(f"push to {branch}")
    if own_workflow:
        triggers.append(own_workflow.started_by())
    takes_images = own_workflow is not None and not own_workflow.builds and not branch
    return EnvironmentLane(
        environment=stack.environment,
        trigger=" or ".join(triggers),
        source=own_workflow.from_environment if own_workflow and takes_images else "",
        shared=not branch,
        host=host,
        stack=stack.name,
        database=_find_database(plan, stack),
        accessories=tuple(f"{accessory.container}: {accessory.image}" for accessory in stack.accessories),
        rows=tuple(_build_rows(plan, stack)),
    )


def _find_environment_workflow(plan: Plan, stack: Stack) -> EnvironmentWorkflow | None:
    for workflow in plan.promotions:
        if workflow.deploy.environment == stack.environment:
            return workflow
    return None


def _find_push_branch(plan: Plan, stack: Stack) -> str:
    """Find the branch whose pushes deploy an environment; empty where only tags or persons do."""
    for workflow in plan.workflows:
        for target in workflow.targets:
            if target.deploy.environment == stack.environment:
                return target.deploy.branch
    return ""


def _find_database(plan: Plan, stack: Stack) -> str:
    """Name the server and the database of an environment; empty when it has none."""
    name = ""
    for server in plan.servers:
        for role in server.databases:
            if role.environment == stack.environment:
                name = f"{server.name}: {role.name}"
    return name


def _build_rows(plan: Plan, stack: Stack) -> Iterator[ServiceRow]:
    workflows = {image.source.image: workflow for workflow in plan.workflows for image in workflow.images}
    own_workflow = None if _find_push_branch(plan, stack) else _find_environment_workflow(plan, stack)
    for instance in stack.instances:
        if own_workflow:
            workflow_name, jobs = own_workflow.name, own_workflow.jobs()
        else:
            workflow_name, jobs = _list_service_jobs(workflows[instance.source], stack)
        yield ServiceRow(
            service=instance.service,
            workflow=workflow_name,
            jobs=jobs,
            image=instance.repository.partition("/")[2],
            tag=instance.tag,
            container=instance.container,
            health=_describe_health(instance),
            domain=instance.address,
            url=instance.url,
        )


def _describe_health(instance: PlannedService) -> str:
    """Describe what must be true of a service before it serves."""
    if not instance.health:
        return "a worker"
    return f"{instance.health_path} → {instance.health_status}" if instance.health_status else instance.health


def _list_service_jobs(workflow: ServiceWorkflow, stack: Stack) -> tuple[str, tuple[str, ...]]:
    """List the workflow of a service, and its jobs on the way into one environment."""
    deploys = [target.job for target in workflow.targets]
    jobs = [job for job in workflow.jobs() if job not in deploys]
    return workflow.name, (*jobs, f"deploy-{stack.environment}")


def render_mermaid(graph: PipelineGraph) -> str:
    """Render a flowchart with a subgraph for each environment.

    Every text is in quotes, and every node has a number in its name.
    """
    lines = ["flowchart LR"]
    for number, lane in enumerate(graph.lanes):
        lines += _render_lane(number, lane)
    numbers = {lane.environment: number for number, lane in enumerate(graph.lanes)}
    for number, lane in enumerate(graph.lanes):
        if lane.source:
            lines.append(f"  e{numbers[lane.source]} -. the same images .-> e{number}")
    return "\n".join(lines)


def _render_lane(number: int, lane: EnvironmentLane) -> Iterator[str]:
    title = _escape_mermaid(f"{lane.environment} on {lane.host}")
    yield f'  subgraph e{number}["{title}"]'
    yield f'    t{number}(["{_escape_mermaid(lane.trigger)}"])'
    for line in _render_rows(number, lane):
        yield f"    {line}"
    if lane.database:
        yield f'    b{number}[("{_escape_mermaid(lane.database)}")]'
    for index, accessory in enumerate(lane.accessories):
        yield f'    a{number}_{index}(["{_escape_mermaid(accessory)}"])'
    yield "  end"


def _render_rows(number: int, lane: EnvironmentLane) -> Iterator[str]:
    workflows = [row.workflow for row in lane.rows]
    for index, row in enumerate(lane.rows):
        first_index = workflows.index(row.workflow)  # a workflow that deploys several services is drawn once
        workflow_node = f"w{number}_{first_index}"
        if index == first_index:
            jobs = _escape_mermaid(" → ".join(row.jobs))
            yield f't{number} --> {workflow_node}["{_escape_mermaid(row.workflow)}<br>{jobs}"]'
        row_id = f"{number}_{index}"
        image, container = _escape_mermaid(f"{row.image}:{row.tag}"), _escape_mermaid(row.container)
        yield f'{workflow_node} --> i{row_id}[["{image}"]] --> c{row_id}["{container}"]'
        if row.domain:
            yield f'c{row_id} --> d{row_id}(["{_escape_mermaid(row.domain)}"])'


def _escape_mermaid(text: str) -> str:
    """Escape a text between the quotes of a node, so that nothing in it ends them or is markup."""
    safe_characters = " .,:/→_-*"
    return "".join(
        character if character.isalnum() or character in safe_characters else f"#{ord(character)};"
        for character in text
    )
