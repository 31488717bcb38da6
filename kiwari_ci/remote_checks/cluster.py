"""Asks a cluster by the user's own kubectl, which only reads; of a Secret, it prints the names of its keys."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any

from kiwari_ci.engines.kubernetes import manifests
from kiwari_ci.engines.kubernetes.deploy_programs import rollout
from kiwari_ci.plan_model import Cluster, ClusterStack
from kiwari_ci.plan_model.base import FrozenMapping
from kiwari_ci.remote_checks.calls import (
    REQUEST_TIMEOUT,
    TOTAL_TIMEOUT,
    BackgroundCall,
    ProcessResult,
    find_last_line,
    run_process,
)

Json = dict[str, Any]

CERT_MANAGER_ISSUERS = "clusterissuers.cert-manager.io"
# What a stack has besides what a rollout looks at.
_ROUTING_KINDS = "services,ingresses.networking.k8s.io,poddisruptionbudgets.policy"
# A line for each Secret: its name, its type, and the names of its keys.
_KEY_NAMES = (
    'go-template={{range .items}}{{.metadata.name}}{{"\\t"}}{{.type}}'
    '{{range $key, $value := .data}}{{"\\t"}}{{$key}}{{end}}{{"\\n"}}{{end}}'
)


@dataclass(frozen=True)
class ClusterAnswer:
    """The objects that kubectl printed; with `why`, they are not known."""

    objects: tuple[Json, ...] = ()
    why: str = ""

    def find(self, kind: str, name: str, namespace: str = "") -> Json | None:
        """The object with this kind, name and namespace; without a namespace, that of a whole cluster."""
        for document in self.objects:
            metadata = document["metadata"]
            if (document["kind"], metadata["name"], metadata.get("namespace", "")) == (kind, name, namespace):
                return document
        return None


@dataclass(frozen=True)
class SecretKeys:
    """The type of a Secret, and the names of its keys."""

    type: str
    keys: frozenset[str]


@dataclass(frozen=True)
class StackFacts:
    """What is in the namespace of a stack. `can_read_secrets`: whether the service account of the deploys may."""

    running: ClusterAnswer = ClusterAnswer()
    by_hand: ClusterAnswer = ClusterAnswer()
    secrets: Mapping[str, SecretKeys] = field(default_factory=dict)
    secrets_why: str = ""
    can_read_secrets: str = ""  # yes or no; empty if nobody could ask


@dataclass(frozen=True)
class ClusterFacts:
    """What a cluster says of itself; with `why`, it was not asked."""

    why: str = ""
    context: str = ""
    server: str = ""
    version: str = ""
    client_version: str = ""
    nodes: ClusterAnswer = ClusterAnswer()
    setup: ClusterAnswer = ClusterAnswer()
    ingress_class: ClusterAnswer = ClusterAnswer()
    issuer: ClusterAnswer = ClusterAnswer()
    stacks: Mapping[str, StackFacts] = field(default_factory=dict)  # by the name of the stack


class Kubectl:
    """The user's own kubectl, with one context of the user's own kubeconfig; tests replace `run`."""

    def __init__(self, context: str, run: Callable[[Sequence[str], str], ProcessResult] | None = None) -> None:
        """`context`: empty for the current one."""
        self._options = list_kubectl_options(context)
        self._run = run or run_process

    def ask(self, *arguments: str, stdin: str = "") -> ProcessResult:
        """Run kubectl."""
        words = ["kubectl", *self._options, f"--request-timeout={REQUEST_TIMEOUT}s", *arguments]
        return self._run(words, stdin)

    def get(self, *arguments: str, stdin: str = "") -> ClusterAnswer:
        """Read objects; those that are not there are left out."""
        result = self.ask("get", *arguments, "--ignore-not-found", "-o", "json", stdin=stdin)
        if result.code:
            return ClusterAnswer(why=explain_error(result))
        if not result.out.strip():
            return ClusterAnswer()
        document = json.loads(result.out)
        items = document["items"] if document["kind"] == "List" else [document]
        return ClusterAnswer(tuple(items))


def choose_context(clusters: Sequence[Cluster], contexts: Mapping[str, str], name: str) -> tuple[str, str]:
    """The context for a cluster, empty for the current one; or why nobody can know which one it is."""
    if name in contexts:
        return contexts[name], ""
    if len(clusters) > 1:
        return "", f"the spec has several clusters: --context {name}=CONTEXT says which context of kubectl it is"
    return "", ""


def list_kubectl_options(context: str) -> list[str]:
    """The words with which kubectl uses a context; none for the current one."""
    return [f"--context={context}"] if context else []


def explain_error(result: ProcessResult) -> str:
    """Why kubectl printed nothing, in its last words."""
    if result.is_not_installed:
        return "kubectl is not installed"
    return f"kubectl: {find_last_line(result.err or result.out).removeprefix('error: ')}"


def probe_cluster(cluster: Cluster, kubectl: Kubectl) -> ClusterFacts:
    """Collect all facts of a cluster."""
    config = kubectl.ask("config", "view", "--minify", "-o", "json")
    if config.code:
        return ClusterFacts(why=explain_error(config))
    settings = json.loads(config.out)
    context = settings.get("current-context") or ""
    server = _find_server(settings)
    result = kubectl.ask("version", "-o", "json")
    if result.code:
        return ClusterFacts(why=f"{explain_error(result)} (context {context}, {server})")
    versions = json.loads(result.out)
    # Side by side, for each command may take a second on a cluster that is far away.
    deadline = monotonic() + TOTAL_TIMEOUT - 4
    nodes = BackgroundCall(partial(kubectl.get, "nodes"))
    setup = BackgroundCall(partial(_get_objects, kubectl, list_setup_objects(cluster)))
    ingress_class = BackgroundCall(partial(_get_ingress_class, cluster, kubectl))
    issuer = BackgroundCall(partial(_get_issuer, cluster, kubectl))
    stacks = {stack.name: BackgroundCall(partial(probe_stack, stack, kubectl)) for stack in cluster.stacks}
    late = ClusterAnswer(why="kubectl: no answer in time")
    return ClusterFacts(
        context=context,
        server=server,
        version=versions.get("serverVersion", {}).get("gitVersion", ""),
        client_version=versions.get("clientVersion", {}).get("gitVersion", ""),
        nodes=nodes.answer(deadline, late),
        setup=setup.answer(deadline, late),
        ingress_class=ingress_class.answer(deadline, late),
        issuer=issuer.answer(deadline, late),
        stacks={
            name: call.answer(deadline, StackFacts(running=late, by_hand=late, secrets_why=late.why))
            for name, call in stacks.items()
        },
    )


def probe_stack(stack: ClusterStack, kubectl: Kubectl) -> StackFacts:
    """Collect the facts of a stack."""
    namespace = stack.name
    secrets, why = _ask_secret_keys(kubectl, namespace, list_secret_names(stack))
    return StackFacts(
        running=get_running(stack, kubectl),
        by_hand=_get_objects(kubectl, list_objects_by_hand(stack)),
        secrets=secrets,
        secrets_why=why,
        can_read_secrets=_ask_right_to_secrets(kubectl, namespace),
    )


def get_running(stack: ClusterStack, kubectl: Kubectl) -> ClusterAnswer:
    """What runs in the namespace of a stack, and what leads to it."""
    return kubectl.get("-n", stack.name, f"{rollout.OBSERVED},{_ROUTING_KINDS}")


def list_secret_names(stack: ClusterStack) -> list[str]:
    """The Secrets of a stack: of env files, of the registry, and of the service account of the deploys."""
    names = [rollout.secret_of(file.name) for file in (*stack.env_files, *stack.sent)]
    return [*names, manifests.REGISTRY_SECRET, manifests.DEPLOY_TOKEN]


def list_objects_by_hand(stack: ClusterStack) -> list[Json]:
    """The objects of a stack that a person applies; their file names no namespace."""
    objects = _list_readable_objects(stack.databases)
    for document in objects:
        document["metadata"]["namespace"] = stack.name
    return objects


def list_setup_objects(cluster: Cluster) -> list[Json]:
    """The objects of setup.yaml that may be read in full: all but the Secrets."""
    return _list_readable_objects(cluster.setup)


def _list_readable_objects(documents: Sequence[FrozenMapping]) -> list[Json]:
    objects = [manifests.thaw(document) for document in documents]
    return [document for document in objects if document["kind"] != "Secret"]


def _get_objects(kubectl: Kubectl, objects: Sequence[Json]) -> ClusterAnswer:
    """Read those of these objects that are in the cluster."""
    if not objects:
        return ClusterAnswer()
    return kubectl.get("-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def _get_ingress_class(cluster: Cluster, kubectl: Kubectl) -> ClusterAnswer:
    if not cluster.ingress_class:
        return ClusterAnswer()
    return kubectl.get("ingressclasses.networking.k8s.io", cluster.ingress_class)


def _get_issuer(cluster: Cluster, kubectl: Kubectl) -> ClusterAnswer:
    if not cluster.issuer:
        return ClusterAnswer()
    return kubectl.get(CERT_MANAGER_ISSUERS, cluster.issuer)


def _ask_secret_keys(kubectl: Kubectl, namespace: str, names: Sequence[str]) -> tuple[dict[str, SecretKeys], str]:
    """The types and the names of the keys of Secrets, by name; or why they are not known."""
    words = ("get", "-n", namespace, "secrets", *names, "--ignore-not-found", "-o", _KEY_NAMES)
    result = kubectl.ask(*words)
    if result.code:
        return {}, explain_error(result)
    rows = [line.split("\t") for line in result.out.splitlines()]
    return {name: SecretKeys(kind, frozenset(keys)) for name, kind, *keys in rows}, ""


def _ask_right_to_secrets(kubectl: Kubectl, namespace: str) -> str:
    """Ask whether the service account of the deploys may read a Secret, which only an administrator may ask."""
    account = f"--as=system:serviceaccount:{namespace}:{manifests.DEPLOY_ACCOUNT}"
    result = kubectl.ask("auth", "can-i", "get", "secrets", "-n", namespace, account)
    answer = result.out.strip()
    return answer if re.fullmatch("yes|no", answer) else ""


def _find_server(settings: Json) -> str:
    clusters = settings.get("clusters") or [{}]
    return str((clusters[0].get("cluster") or {}).get("server", ""))
