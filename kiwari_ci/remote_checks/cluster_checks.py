"""Compares a cluster with the plan: what its administrator applied, Secrets by the names of their keys, what serves."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from kiwari_ci.engines.kubernetes import manifests
from kiwari_ci.engines.kubernetes.deploy_programs import rollout
from kiwari_ci.plan_model import Cluster, ClusterStack, EnvFile, PlannedAccessory, PlannedService
from kiwari_ci.remote_checks.cluster import (
    CERT_MANAGER_ISSUERS,
    ClusterAnswer,
    ClusterFacts,
    Json,
    StackFacts,
    list_objects_by_hand,
    list_setup_objects,
)
from kiwari_ci.remote_checks.findings import Finding, FindingGroup
from kiwari_ci.remote_checks.runbook_index import ClusterRunbookIndex
from kiwari_ci.remote_checks.ssh_host import list_env_keys

MIN_VERSION = (1, 30)  # the first in which a pod can sleep before it ends
_REGISTRY_SECRET_TYPE = "kubernetes.io/dockerconfigjson"
_REGISTRY_KEYS = frozenset({".dockerconfigjson"})
_TOKEN_KEYS = frozenset({"token", "ca.crt"})
_DIFFERENCES_SHOWN = 3
# What stays in a cluster when the spec has it no more, and still does something.
_LEFT_BEHIND_KINDS = ("Deployment", "Ingress", "Service", "PodDisruptionBudget")


# The cluster


def check_cluster(
    group: FindingGroup, cluster: Cluster, facts: ClusterFacts, runbook: ClusterRunbookIndex
) -> Iterator[Finding]:
    """Check the cluster itself, and what its administrator applies once."""
    yield group.ok("kubectl", f"{facts.client_version}, context {facts.context}, {facts.server}")
    yield _check_version(group, facts)
    yield _check_nodes(group, facts.nodes)
    if cluster.ingress_class:
        yield _check_ingress_class(group, cluster, facts.ingress_class)
    if cluster.issuer:
        yield _check_issuer(group, cluster, facts.issuer)
    yield from _check_objects(
        group, cluster.setup_path, list_setup_objects(cluster), facts.setup, runbook.set_up_cluster()
    )


def _check_version(group: FindingGroup, facts: ClusterFacts) -> Finding:
    match = re.match(r"v?(\d+)\.(\d+)", facts.version)
    if match and (int(match[1]), int(match[2])) >= MIN_VERSION:
        return group.ok("Kubernetes", facts.version)
    return group.wrong("Kubernetes", facts.version or "no version", "1.30 or newer", "upgrade the cluster")


def _check_nodes(group: FindingGroup, answer: ClusterAnswer) -> Finding:
    if answer.why:
        return group.not_asked("nodes", answer.why)
    names = [node["metadata"]["name"] for node in answer.objects]
    unready = [node["metadata"]["name"] for node in answer.objects if not _has_condition(node, "Ready")]
    if unready or not names:
        saw = f"not ready: {', '.join(unready)}" if unready else "none"
        return group.wrong("nodes", saw, "all nodes are ready", "kubectl describe node says why")
    return group.ok("nodes", f"{len(names)} ready")


def _check_ingress_class(group: FindingGroup, cluster: Cluster, answer: ClusterAnswer) -> Finding:
    subject = f"IngressClass {cluster.ingress_class}"
    if answer.why:
        return group.not_asked(subject, answer.why)
    if not answer.objects:
        expected = "an Ingress controller with this class"
        cure = "install it, or correct `proxy.class`: kubectl get ingressclasses"
        return group.wrong(subject, "none", expected, cure)
    return group.ok(subject, str(answer.objects[0].get("spec", {}).get("controller", "exists")))


def _check_issuer(group: FindingGroup, cluster: Cluster, answer: ClusterAnswer) -> Finding:
    subject = f"ClusterIssuer {cluster.issuer}"
    if "doesn't have a resource type" in answer.why:
        expected = "cert-manager, with a ClusterIssuer of that name"
        return group.wrong(
            subject, "the cluster has no cert-manager", expected, "https://cert-manager.io/docs/installation"
        )
    if answer.why:
        return group.not_asked(subject, answer.why)
    if not answer.objects:
        return group.wrong(subject, "none", "a ClusterIssuer of that name", f"kubectl get {CERT_MANAGER_ISSUERS}")
    if not _has_condition(answer.objects[0], "Ready"):
        cure = f"kubectl describe {CERT_MANAGER_ISSUERS} {cluster.issuer}"
        return group.wrong(subject, "not ready", "an issuer that is ready", cure)
    return group.ok(subject, "ready")


def _has_condition(document: Json, kind: str) -> bool:
    conditions = (document.get("status") or {}).get("conditions") or []
    return any((condition["type"], condition["status"]) == (kind, "True") for condition in conditions)


def _check_objects(
    group: FindingGroup, path: str, wanted: Sequence[Json], answer: ClusterAnswer, cure: str
) -> Iterator[Finding]:
    """Check that the objects of a file, which a person applies, are in the cluster as the file has them."""
    if answer.why:
        yield group.not_asked(path, answer.why)
        return
    findings = [finding for document in wanted if (finding := _check_object(group, path, document, answer, cure))]
    yield from findings
    if not findings:
        yield group.ok(path, f"all {len(wanted)} objects are in the cluster, as generated")


def _check_object(group: FindingGroup, path: str, wanted: Json, answer: ClusterAnswer, cure: str) -> Finding | None:
    """Check one object; None if it is as the file has it. What the cluster adds to it does not matter."""
    metadata = wanted["metadata"]
    namespace = metadata.get("namespace", "")
    place = f"{namespace}/{metadata['name']}" if namespace else metadata["name"]
    subject = f"{wanted['kind']} {place}"
    cluster_object = answer.find(wanted["kind"], metadata["name"], namespace)
    if not cluster_object:
        return group.wrong(subject, "is not there", f"as in {path}", cure)
    differences = list(find_differences(wanted, cluster_object))
    if differences:
        shown = ", ".join(differences[:_DIFFERENCES_SHOWN])
        return group.wrong(subject, f"differs: {shown}", f"as in {path}", cure)
    return None


def find_differences(wanted: Any, actual: Any, path: str = "") -> Iterator[str]:
    """Find the paths at which an object of the cluster differs from the generated one.

    The cluster may add keys to a mapping, but no entries to a list.
    """
    if isinstance(wanted, dict) and isinstance(actual, dict):
        for key, wanted_part in wanted.items():
            yield from find_differences(wanted_part, actual.get(key), f"{path}.{key}" if path else key)
    elif isinstance(wanted, list) and isinstance(actual, list) and len(wanted) == len(actual):
        for number, (wanted_part, actual_part) in enumerate(zip(wanted, actual, strict=True)):
            yield from find_differences(wanted_part, actual_part, f"{path}[{number}]")
    elif wanted != actual:
        yield path


# A stack


def check_stack(
    group: FindingGroup, stack: ClusterStack, facts: StackFacts, runbook: ClusterRunbookIndex
) -> Iterator[Finding]:
    """Check the namespace of a stack: Secrets, the service account of the deploys, the database, and what serves."""
    yield from _check_secrets(group, stack, facts, runbook)
    yield _check_login(group, stack, facts, runbook)
    objects_by_hand = list_objects_by_hand(stack)
    if objects_by_hand:
        (path,) = stack.applied_by_hand
        cure = runbook.apply_database(stack.name)
        yield from _check_objects(group, path, objects_by_hand, facts.by_hand, cure)
    if facts.running.why:
        yield group.not_asked("pods", facts.running.why)
        return
    state = rollout.parse_state(facts.running.objects)
    for instance in stack.instances:
        if instance.once:
            yield _check_one_shot(group, stack, instance, state, runbook)
            continue
        yield _check_service(group, stack, instance, state, runbook)
        yield from _check_routing(group, stack, instance.container, state, facts.running, runbook)
    for accessory in stack.accessories:
        if not accessory.once:
            yield _check_accessory(group, stack, accessory, state, runbook)
    yield from _check_leftovers(group, stack, facts.running)


def is_deployed(stack: ClusterStack, container: str, facts: StackFacts) -> bool:
    """Whether something has served, by the record; yes if nobody knows."""
    if facts.running.why:
        return True
    state = rollout.parse_state(facts.running.objects)
    deployment = state.deployments.get(container)
    return bool(deployment and (deployment.records or rollout.ACCESSORY_NOTE in deployment.notes))


def _check_secrets(
    group: FindingGroup, stack: ClusterStack, facts: StackFacts, runbook: ClusterRunbookIndex
) -> Iterator[Finding]:
    if facts.secrets_why:
        yield group.not_asked("Secrets", facts.secrets_why)
        return
    for secret in stack.secrets:
        cure = runbook.create_env_secret(stack.name, secret.env_file.name)
        yield _check_secret(group, secret.name, frozenset(list_env_keys(secret.env_file)), facts, cure)
    for file in stack.sent:
        yield _check_written_secret(group, file, facts, runbook)
    yield _check_pull_secret(group, stack, facts, runbook)
    cure = runbook.set_up_cluster()
    yield _check_secret(group, manifests.DEPLOY_TOKEN, _TOKEN_KEYS, facts, cure)


def _check_secret(group: FindingGroup, name: str, wanted: frozenset[str], facts: StackFacts, cure: str) -> Finding:
    subject = f"Secret {name}"
    expected = f"the keys {', '.join(sorted(wanted))}"
    secret = facts.secrets.get(name)
    if not secret:
        return group.wrong(subject, "is not there", expected, cure)
    missing = sorted(wanted - secret.keys)
    if missing:
        return group.wrong(subject, f"missing: {', '.join(missing)}", expected, cure)
    return group.ok(subject, f"has its {len(wanted)} keys")


def _check_written_secret(
    group: FindingGroup, file: EnvFile, facts: StackFacts, runbook: ClusterRunbookIndex
) -> Finding:
    """A deploy writes it, from what GitHub keeps; setup.yaml makes it without a key."""
    name = rollout.secret_of(file.name)
    secret = facts.secrets.get(name)
    if secret and not secret.keys:
        return group.not_asked(f"Secret {name}", f"the first deploy fills it in; {runbook.step('first_push')}")
    wanted = frozenset(list_env_keys(file))
    cure = "run the last deploy again, which writes it" if secret else runbook.set_up_cluster()
    return _check_secret(group, name, wanted, facts, cure)


def _check_pull_secret(
    group: FindingGroup, stack: ClusterStack, facts: StackFacts, runbook: ClusterRunbookIndex
) -> Finding:
    cure = runbook.create_pull_secret(stack.name)
    secret = facts.secrets.get(manifests.REGISTRY_SECRET)
    if secret and secret.type != _REGISTRY_SECRET_TYPE:
        subject = f"Secret {manifests.REGISTRY_SECRET}"
        return group.wrong(subject, f"its type is {secret.type}", _REGISTRY_SECRET_TYPE, cure)
    return _check_secret(group, manifests.REGISTRY_SECRET, _REGISTRY_KEYS, facts, cure)


def _check_login(group: FindingGroup, stack: ClusterStack, facts: StackFacts, runbook: ClusterRunbookIndex) -> Finding:
    """A role of somebody else may give the service account of the deploys more than setup.yaml does."""
    subject = f"service account {stack.name}/{manifests.DEPLOY_ACCOUNT}"
    if not facts.can_read_secrets:
        return group.not_asked(subject, "only a person who administers the cluster may ask what it may do")
    if facts.can_read_secrets == "yes":
        expected = "only what setup.yaml gives it"
        return group.wrong(subject, "may read Secrets", expected, runbook.list_rights(stack.name))
    return group.ok(subject, "may not read Secrets")


def _check_service(
    group: FindingGroup,
    stack: ClusterStack,
    instance: PlannedService,
    state: rollout.State,
    runbook: ClusterRunbookIndex,
) -> Finding:
    """Check what serves: by the record, and by the pods to which the cluster sends requests."""
    name = instance.container
    deployment = state.deployments.get(name)
    if not deployment:
        return group.not_asked(name, f"nothing was deployed yet; {runbook.step('first_push')}")
    if not deployment.is_settled:
        saw = f"commit number {deployment.sequence} is wanted, and does not serve"
        cure = f"wait for its run; if that was killed: {runbook.cancel(stack.name)}"
        return group.wrong(name, saw, "no rollout is under way", cure)
    newest = deployment.records[-1]
    service = create_service(stack, name)
    service.digest = newest.digest
    problem = rollout.problem_of_serving(state, service)
    if problem:
        expected = f"{deployment.replicas} pods that serve {newest.digest[:19]}"
        cure = f"{_describe_pods(stack, name)}; {runbook.rollback(stack.name, name)}"
        return group.wrong(name, problem, expected, cure)
    pods = "1 pod" if deployment.replicas == 1 else f"{deployment.replicas} pods"
    return group.ok(name, f"{pods} serve {newest.digest[:19]}, by the record of {newest.time}")


def _check_one_shot(
    group: FindingGroup,
    stack: ClusterStack,
    instance: PlannedService,
    state: rollout.State,
    runbook: ClusterRunbookIndex,
) -> Finding:
    """Check a service that runs once: its newest Job did not fail."""
    name = instance.container
    jobs = state.jobs_of(name)
    if not jobs:
        return group.not_asked(name, f"nothing was deployed yet; {runbook.step('first_push')}")
    job, outcome = jobs[-1]["metadata"]["name"], rollout.outcome_of(jobs[-1])
    if outcome == "Failed":
        cure = f"kubectl -n {stack.name} logs job/{job}; correct it, and deploy again"
        return group.wrong(name, f"the Job {job} failed", "it has run to its end", cure)
    if not outcome:
        return group.not_asked(name, f"the Job {job} is still running")
    newest = rollout.records_of_jobs(jobs)[-1]
    return group.ok(name, f"has run to its end with {newest.digest[:19]}, by the record of {newest.time}")


def create_service(stack: ClusterStack, name: str) -> rollout.Service:
    """A service as the rollout program reads it from the stack's file."""
    objects = _list_objects_of(stack, name)
    manifest = next(document for document in objects if document["kind"] == "Deployment")
    return rollout.Service(name, manifest, [document for document in objects if document is not manifest])


def _list_objects_of(stack: ClusterStack, name: str) -> list[Json]:
    objects = [manifests.thaw(document) for document in stack.objects]
    return [document for document in objects if rollout.label(document, rollout.SERVICE_LABEL) == name]


def _check_routing(
    group: FindingGroup,
    stack: ClusterStack,
    name: str,
    state: rollout.State,
    running: ClusterAnswer,
    runbook: ClusterRunbookIndex,
) -> Iterator[Finding]:
    """Check what leads to the pods of a service, which each deploy sends, and which nobody may have removed."""
    if name not in state.deployments:
        return
    for document in create_service(stack, name).others:
        kind, object_name = document["kind"], document["metadata"]["name"]
        if not running.find(kind, object_name, stack.name):
            cure = f"run the last deploy again, or {runbook.rollback(stack.name, name)}: each sends it"
            yield group.wrong(f"{kind} {object_name}", "is not there", f"as in {stack.files[0]}", cure)


def _check_accessory(
    group: FindingGroup,
    stack: ClusterStack,
    accessory: PlannedAccessory,
    state: rollout.State,
    runbook: ClusterRunbookIndex,
) -> Finding:
    """Check somebody else's image: a deploy starts it if it is missing, and never replaces it."""
    name = accessory.container
    deployment = state.deployments.get(name)
    if not deployment:
        return group.not_asked(name, f"the first deploy starts it; {runbook.step('first_push')}")
    image = rollout.image_in(deployment.document["spec"]["template"])
    if image != accessory.image:
        cure = f"kubectl -n {stack.name} delete deployment {name}, then run the last deploy again, which starts it"
        return group.wrong(name, f"runs {image}", accessory.image, cure)
    if not state.ready_pods(name):
        return group.wrong(name, "no pod is ready", "one pod that is ready", _describe_pods(stack, name))
    return group.ok(name, f"runs {image}")


def _describe_pods(stack: ClusterStack, name: str) -> str:
    """The command that says what the cluster knows of the pods of a container."""
    return f"kubectl -n {stack.name} describe pods -l {rollout.SERVICE_LABEL}={name}"


def _check_leftovers(group: FindingGroup, stack: ClusterStack, running: ClusterAnswer) -> Iterator[Finding]:
    """Find what an earlier version of the file has put there: a deploy removes nothing."""
    planned = [*(manifests.thaw(document) for document in stack.objects), *list_objects_by_hand(stack)]
    known = {(document["kind"], document["metadata"]["name"]) for document in planned}
    projects = {rollout.label(document, manifests.PART_LABEL) for document in planned}
    for document in running.objects:
        kind, name = document["kind"], document["metadata"]["name"]
        is_of_project = rollout.label(document, manifests.PART_LABEL) in projects
        if is_of_project and kind in _LEFT_BEHIND_KINDS and (kind, name) not in known:
            cure = f"kubectl -n {stack.name} delete {kind.lower()} {name}"
            yield group.wrong(f"{kind} {name}", "is there", f"none of that name: it is not in {stack.files[0]}", cure)
