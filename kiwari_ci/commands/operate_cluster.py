"""What a person does in a cluster by the person's own kubectl: the commands, and what its answers say of a stack."""

from collections.abc import Sequence

from kiwari_ci.commands.operate import ContainerStatus, PlannedPlace, StackStatus
from kiwari_ci.engines.kubernetes.deploy_programs import rollout
from kiwari_ci.plan_model import ClusterStack
from kiwari_ci.remote_checks import cluster_checks
from kiwari_ci.remote_checks.cluster import Kubectl, get_running, list_kubectl_options
from kiwari_ci.remote_checks.deploy_records import create_deploy_record

PODS_FOLLOWED = 50  # kubectl refuses to read the logs of more than five pods, unless it is told


def build_logs_command(place: PlannedPlace, context: str, tail: int, follow: bool) -> list[str]:
    """Print the logs of all pods of a container; each line begins with its pod."""
    selector = f"{rollout.SERVICE_LABEL}={place.container}"
    words = ["logs", "-n", place.stack, "-l", selector, "--prefix", f"--tail={tail}"]
    words.append(f"--max-log-requests={PODS_FOLLOWED}")
    return ["kubectl", *list_kubectl_options(context), *words, *(["--follow"] if follow else [])]


def build_exec_command(place: PlannedPlace, context: str, command: Sequence[str], is_terminal: bool) -> list[str]:
    """Run a command in a pod that is ready, with a terminal or with standard input as it is."""
    options = ["-it" if is_terminal else "-i", "-n", place.stack, f"deployment/{place.container}"]
    return ["kubectl", *list_kubectl_options(context), "exec", *options, "--", *command]


def build_rollback_command(place: PlannedPlace, context: str, program: str, digest: str) -> list[str]:
    """Go back to an image, or to the one before when no digest is named."""
    words = [program, *(["--context", context] if context else []), "rollback", place.stack, place.container]
    return [*words, digest] if digest else words


def query_status(
    environment: str, host_name: str, stack: ClusterStack, places: Sequence[PlannedPlace], kubectl: Kubectl
) -> StackStatus:
    """Ask the cluster what runs, and to which pods it sends requests."""
    answer = get_running(stack, kubectl)
    if answer.why:
        return StackStatus(environment, host_name, stack.name, 1, problem=answer.why)
    state = rollout.parse_state(answer.objects)
    containers = tuple(_describe_place(stack, place, state) for place in places)
    return StackStatus(environment, host_name, stack.name, 0, containers)


def _describe_place(stack: ClusterStack, place: PlannedPlace, state: rollout.State) -> ContainerStatus:
    deployment = state.deployments.get(place.container)
    if place.container in [accessory.container for accessory in stack.accessories if accessory.once]:
        return ContainerStatus(place.container, place.kind, place.name, "a Job, which runs before each deploy", True)
    if place.container in [instance.container for instance in stack.instances if instance.once]:
        return _describe_one_shot(place, state)
    if deployment is None:
        return ContainerStatus(place.container, place.kind, place.name, "there is no such Deployment", False)
    if place.kind == "accessory":
        return _describe_accessory(place, deployment, state)
    return _describe_service(stack, place, deployment, state)


def _describe_one_shot(place: PlannedPlace, state: rollout.State) -> ContainerStatus:
    """A service that runs once is well if its newest Job did not fail; its Jobs are its record."""
    jobs = state.jobs_of(place.container)
    shown_state = rollout.state_of_one_shot(jobs)
    records = rollout.records_of_jobs(jobs)
    record = create_deploy_record(records[-1]) if records else None
    is_well = record is not None and rollout.outcome_of(jobs[-1]) != "Failed"
    return ContainerStatus(place.container, place.kind, place.name, shown_state, is_well, record)


def _describe_accessory(place: PlannedPlace, deployment: rollout.Deployment, state: rollout.State) -> ContainerStatus:
    pods = state.ready_pods(place.container)
    image = rollout.image_in(deployment.document["spec"]["template"])
    shown_state = f"{image}, {len(pods)} of {deployment.replicas} pods are ready"
    return ContainerStatus(place.container, place.kind, place.name, shown_state, len(pods) == deployment.replicas)


def _describe_service(
    stack: ClusterStack, place: PlannedPlace, deployment: rollout.Deployment, state: rollout.State
) -> ContainerStatus:
    """A service serves if every address of its Service is a pod with the image of the newest record."""
    newest = deployment.newest_record
    service = cluster_checks.create_service(stack, place.container)
    _, count = rollout.pods_that_serve(state, service)
    shown_state = f"{count} of {deployment.replicas} pods serve"
    if not deployment.is_settled:
        shown_state += f", a rollout of commit number {deployment.sequence} is under way"
    if newest is None:
        return ContainerStatus(place.container, place.kind, place.name, f"{shown_state}: nothing served yet", False)
    service.digest = newest.digest
    problem = rollout.problem_of_serving(state, service) if deployment.is_settled else ""
    if problem:
        shown_state = problem
    record = create_deploy_record(newest)
    is_serving = bool(count) and not problem
    return ContainerStatus(place.container, place.kind, place.name, shown_state, is_serving, record)
