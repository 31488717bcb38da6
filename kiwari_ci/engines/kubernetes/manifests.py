"""What a cluster runs of a stack, as objects of Kubernetes: pure functions of the effective spec.

A document is plain data: dictionaries, lists, texts and numbers. `freeze` turns it into what a template can print.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

from kiwari_ci import schema
from kiwari_ci.effective_spec import EffectiveAccessory, EffectiveContainer, EffectiveEnvironment, EffectiveService
from kiwari_ci.effective_spec.databases import POSTGRES_PORT
from kiwari_ci.engines.kubernetes.deploy_programs import rollout
from kiwari_ci.plan_model.base import FrozenMapping
from kiwari_ci.readers.duration import parse_duration

Document = dict[str, Any]
OneShot = EffectiveAccessory | EffectiveService

NAME_LABEL = rollout.SERVICE_LABEL
PART_LABEL = "app.kubernetes.io/part-of"
REGISTRY_SECRET = "registry"  # what nodes pull images with
DEPLOY_ACCOUNT = "deploy"
DEPLOY_TOKEN = f"{DEPLOY_ACCOUNT}-token"  # the Secret with its token

STEADY_SECONDS = 11  # a new pod still answers after that, before the next old one goes
START_SECONDS = 60  # a new pod may take that long to answer
SPARE_SECONDS = 4
GRACE_SECONDS = 10  # Docker's own, for a container that is stopped
DRAIN_SECONDS = 10  # a pod that goes serves on until every proxy knows it
LOST_NODE_SECONDS = 20  # the pods of a node that is gone move after that; Kubernetes' own default is 300
JOB_SECONDS = 3600
KEPT_JOB_SECONDS = 86_400
_READ_DOLLAR = re.compile(r"\$(?=[$(])")  # a dollar sign that Kubernetes reads together with what comes next
_MEMORY_UNITS = {"k": "Ki", "m": "Mi", "g": "Gi"}


@dataclass(frozen=True)
class ClusterSettings:
    """What a spec says of a cluster."""

    name: str
    ingress_class: str = ""  # empty: no Ingress is generated
    issuer: str = ""  # of cert-manager, for certificates
    database_addresses: dict[str, str] = field(default_factory=dict)  # by server: where the cluster reaches it


def build_stack(environment: EffectiveEnvironment, cluster: ClusterSettings) -> list[Document]:
    """Build the objects of an environment: Jobs first, then each Deployment with what belongs to it."""
    documents: list[Document] = []
    accessories, services = environment.accessories.values(), environment.services.values()
    for one_shot in _sort_one_shots([*accessories, *services]):
        documents.append(_build_one_shot(one_shot, cluster))
    for accessory in accessories:
        if not accessory.options.once:
            documents += _build_accessory(accessory, cluster)
    for service in services:
        if not service.options.once:
            documents += _build_service(service, cluster)
    return documents


def _sort_one_shots(containers: Iterable[OneShot]) -> list[OneShot]:
    """Sort what runs to its end, each after those that it waits for: Jobs run in the order of the file."""
    one_shots = {container.name: container for container in containers if container.options.once}
    sorter = TopologicalSorter[str]()
    for name, one_shot in one_shots.items():
        sorter.add(name, *(dependency for dependency in one_shot.options.depends_on if dependency in one_shots))
    return [one_shots[name] for name in sorter.static_order()]  # a rule refuses a circle


def build_databases(environment: EffectiveEnvironment, cluster: ClusterSettings) -> list[Document]:
    """Build the name under which the stack finds its database, which stays on another host."""
    database = environment.database
    if database is None:
        return []
    name = database.server.name
    labels = {PART_LABEL: environment.spec.project.name}
    slice_labels = {"kubernetes.io/service-name": name, **labels}
    ports = [{"name": "postgres", "port": int(POSTGRES_PORT)}]
    address = cluster.database_addresses[name]
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "labels": labels},
            "spec": {"ports": ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": f"{name}-{database.server.host.name}", "labels": slice_labels},
            "addressType": "IPv6" if ":" in address else "IPv4",
            "ports": ports,
            "endpoints": [{"addresses": [address]}],
        },
    ]


def build_setup(environments: Sequence[EffectiveEnvironment], cluster: ClusterSettings) -> list[Document]:
    """Build what an administrator applies once: for each stack, a namespace and an account that may little there."""
    role = f"{environments[0].spec.project.name}-deploy"
    documents = [_build_namespace(environment) for environment in environments]
    documents.append(_build_deploy_role(role))
    for environment in environments:
        documents += _build_account(environment, role)
        documents += _build_writable_secrets(environment)
        documents += _build_view_of_source(environment, cluster)
    return documents


def freeze(part: Any) -> Any:
    """Turn a document into what a template prints: tuples, and mappings that cannot change."""
    if isinstance(part, dict):
        return FrozenMapping((key, freeze(entry)) for key, entry in part.items())
    if isinstance(part, list):
        return tuple(freeze(entry) for entry in part)
    return part


def thaw(part: Any) -> Any:
    """Turn what `freeze` made back into plain data."""
    if isinstance(part, FrozenMapping):
        return {key: thaw(entry) for key, entry in part}
    if isinstance(part, tuple):
        return [thaw(entry) for entry in part]
    return part


# Services and accessories


def _build_service(service: EffectiveService, cluster: ClusterSettings) -> list[Document]:
    name, options = service.container_name, service.options
    documents = [_build_migration(service)] if options.migrate else []
    documents.append(_build_service_deployment(service, cluster))
    if options.port:
        documents.append(_build_cluster_service(service, options.port))
    if options.port and cluster.ingress_class:
        documents += _build_ingresses(service, cluster)
    if options.replicas > 1:
        selector = {"matchLabels": {NAME_LABEL: name}}
        # An administrator who empties a node takes one pod at a time.
        documents.append(
            _build_object("policy/v1", "PodDisruptionBudget", service, {"maxUnavailable": 1, "selector": selector})
        )
    return documents


def _build_service_deployment(service: EffectiveService, cluster: ClusterSettings) -> Document:
    options = service.options
    start_period = options.health.start_period
    start_seconds = parse_duration(start_period) if start_period else START_SECONDS
    is_recreated = options.rollout == "recreate"
    deployment = _build_deployment(
        service,
        image=f"{service.image.repository}@{rollout.NO_DIGEST}",
        replicas=options.replicas,
        strategy={"type": "Recreate"}
        if is_recreated
        else {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
    )
    deployment["spec"] |= {
        "minReadySeconds": STEADY_SECONDS,
        "progressDeadlineSeconds": start_seconds + STEADY_SECONDS + SPARE_SECONDS,
        "revisionHistoryLimit": 10,
    }
    pod = deployment["spec"]["template"]["spec"]
    grace = parse_duration(options.stop_grace_period) if options.stop_grace_period else GRACE_SECONDS
    pod["terminationGracePeriodSeconds"] = grace + (DRAIN_SECONDS if options.port else 0)
    notes = {}
    if options.port:
        container = pod["containers"][0]
        container["ports"] = [{"name": "http", "containerPort": options.port}]
        container["readinessProbe"] = _build_readiness_probe(service)
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": DRAIN_SECONDS}}}
        notes[rollout.HEALTH_NOTE] = _format_health_note(options)
    source = _find_promotion_source(service, cluster)
    if source:
        notes[rollout.FROM_NOTE] = source
    if notes:
        deployment["metadata"]["annotations"] = notes
    return deployment


def _format_health_note(options: schema.Service) -> str:
    """Write what is asked of a pod, for messages of the rollout program."""
    if options.health.by == "tcp":
        return f"tcp:{options.port}"
    return f":{options.port}{options.health.path} {options.health.status}"


def _build_readiness_probe(service: EffectiveService) -> Document:
    """Ask as the proxy would: some frameworks answer to known names only, or redirect plain HTTP."""
    health = service.options.health
    timing = {"periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 3}
    if health.by == "tcp":
        return {"tcpSocket": {"port": "http"}, **timing}
    request: Document = {"path": health.path, "port": "http"}
    host = health.host or service.domain
    if host:
        request["httpHeaders"] = [
            {"name": "Host", "value": host},
            {"name": "X-Forwarded-Proto", "value": service.environment.url_scheme},
        ]
    return {"httpGet": request, **timing}


def _build_migration(service: EffectiveService) -> Document:
    name = service.container_name
    notes = {rollout.BEFORE_NOTE: name, rollout.IMAGE_OF_NOTE: name}
    # The command of Compose's `run`: it replaces the image's command, and the entrypoint stays.
    arguments = service.options.migrate or []
    return _build_job(service, f"{name}-migrate", f"{service.image.repository}@{rollout.NO_DIGEST}", arguments, notes)


def _build_one_shot(container: OneShot, cluster: ClusterSettings) -> Document:
    """A Job that runs before the services which wait for it."""
    if isinstance(container, EffectiveService):
        return _build_one_shot_service(container, cluster)
    services = _find_waiting_services(container) or container.environment.services.values()
    notes = {rollout.BEFORE_NOTE: " ".join(service.container_name for service in services)}
    options = container.options
    return _build_job(container, container.container_name, options.image, options.command or [], notes)


def _build_one_shot_service(service: EffectiveService, cluster: ClusterSettings) -> Document:
    """The Jobs of a service are its record, so the cluster does not remove them; the rollout program does."""
    name = service.container_name
    notes = {rollout.ONCE_NOTE: "yes"}
    waiting = _find_waiting_services(service)
    if waiting:
        notes[rollout.BEFORE_NOTE] = " ".join(service.container_name for service in waiting)
    source = _find_promotion_source(service, cluster)
    if source:
        notes[rollout.FROM_NOTE] = source
    image = f"{service.image.repository}@{rollout.NO_DIGEST}"
    job = _build_job(service, name, image, service.options.command or [], notes)
    del job["spec"]["ttlSecondsAfterFinished"]
    return job


def _find_waiting_services(container: OneShot) -> list[EffectiveService]:
    """Find the services that wait for a one-shot."""
    services = container.environment.services.values()
    return [service for service in services if container.name in service.options.depends_on]


def _build_accessory(accessory: EffectiveAccessory, cluster: ClusterSettings) -> list[Document]:
    options = accessory.options
    deployment = _build_deployment(accessory, image=options.image, replicas=1, strategy={"type": "Recreate"})
    deployment["metadata"]["annotations"] = {rollout.ACCESSORY_NOTE: "yes"}
    documents = [deployment, _build_cluster_service(accessory, options.port)]
    if options.port and cluster.ingress_class:
        documents += _build_ingresses(accessory, cluster)
    return documents


# Parts


def _build_object(version: str, kind: str, container: EffectiveContainer, spec: Document) -> Document:
    """An object with the name and the labels of a container."""
    name = container.container_name
    metadata = {"name": name, "labels": _build_labels(container, name)}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def _build_labels(container: EffectiveContainer, name: str) -> dict[str, str]:
    return {NAME_LABEL: name, PART_LABEL: container.environment.spec.project.name}


def _build_deployment(container: EffectiveContainer, image: str, replicas: int, strategy: Document) -> Document:
    name = container.container_name
    selector = {"matchLabels": {NAME_LABEL: name}}
    pod = {
        **_build_pod(container, name, image),
        "tolerations": [
            {
                "key": f"node.kubernetes.io/{state}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": LOST_NODE_SECONDS,
            }
            for state in ("unreachable", "not-ready")
        ],
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": selector,
                "matchLabelKeys": ["pod-template-hash"],
            }
        ],
    }
    if replicas == 1:
        del pod["topologySpreadConstraints"]
    _set_command(pod, container.options.command)
    spec = {
        "replicas": replicas,
        "strategy": strategy,
        "selector": selector,
        "template": {"metadata": {"labels": _build_labels(container, name)}, "spec": pod},
    }
    return _build_object("apps/v1", "Deployment", container, spec)


def _build_job(
    container: EffectiveContainer, name: str, image: str, arguments: Iterable[str], notes: dict[str, str]
) -> Document:
    """A Job, whose pods have another name label than the service: no Service may lead to them."""
    labels = _build_labels(container, name)
    pod = {"restartPolicy": "Never", **_build_pod(container, name, image)}
    _set_command(pod, list(arguments))
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels, "annotations": notes},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": JOB_SECONDS,
            "ttlSecondsAfterFinished": KEPT_JOB_SECONDS,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _build_pod(container: EffectiveContainer, name: str, image: str) -> Document:
    """What every pod has. It gets no token of the cluster, and no variables about other Services."""
    options = container.options
    runs: Document = {"name": name, "image": image}
    if options.entrypoint:
        runs["command"] = [_escape(word) for word in options.entrypoint]
    if container.env_file:
        runs["envFrom"] = [{"secretRef": {"name": rollout.secret_of(container.env_file)}}]
    if options.environment:
        runs["env"] = [
            {"name": key, "value": _escape(container.resolve_variable(value))}
            for key, value in options.environment.items()
        ]
    limits = _build_limits(options.mem_limit, options.cpus)
    if limits:
        runs["resources"] = {"limits": limits}
    runs["securityContext"] = {"allowPrivilegeEscalation": False}
    pod: Document = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "imagePullSecrets": [{"name": REGISTRY_SECRET}],
        "containers": [runs],
    }
    if options.stop_grace_period:
        pod["terminationGracePeriodSeconds"] = parse_duration(options.stop_grace_period)
    return pod


def _set_command(pod: Document, words: list[str] | None) -> None:
    """Set the arguments: what Compose calls `command` is what Kubernetes calls `args`."""
    if words:
        pod["containers"][0]["args"] = [_escape(word) for word in words]


def _escape(text: str) -> str:
    """Keep Kubernetes from replacing `$(NAME)` by a variable, and `$$` by one dollar sign."""
    return _READ_DOLLAR.sub("$$", text)


def _build_limits(memory: str | None, processors: float | None) -> dict[str, str]:
    limits = {}
    if memory:
        limits["memory"] = memory[:-1] + _MEMORY_UNITS[memory[-1]]
    if processors:
        limits["cpu"] = f"{round(processors * 1000)}m"
    return limits


def _build_cluster_service(container: EffectiveContainer, port: int | None) -> Document:
    """The name of a container in the cluster; without a known port, one that leads to its pod on every port."""
    selector = {NAME_LABEL: container.container_name}
    if not port:
        return _build_object("v1", "Service", container, {"clusterIP": "None", "selector": selector})
    # By name where the pod has one: when an old pod comes back with another port, this leads to it, too.
    target: str | int = "http" if isinstance(container, EffectiveService) else port
    ports = [{"name": "http", "port": port, "targetPort": target}]
    return _build_object("v1", "Service", container, {"selector": selector, "ports": ports})


def _build_ingresses(container: EffectiveContainer, cluster: ClusterSettings) -> list[Document]:
    """What leads the domains of a container to it.

    Where several containers share a domain, by its paths, the first one asks for the certificate, and the others use
    it: cert-manager writes a certificate for one Ingress alone. So these domains have an Ingress of their own, with a
    name that no container can have.
    """
    name, environment = container.container_name, container.environment
    domains = list(dict.fromkeys(route.domain for route in container.routes))
    own = [domain for domain in domains if environment.find_domain_owner(domain) == container.name]
    shared = [domain for domain in domains if domain not in own]
    ingresses = []
    if own:
        ingress = _build_ingress(container, cluster, name, own)
        if cluster.issuer:
            ingress["metadata"]["annotations"] = {"cert-manager.io/cluster-issuer": cluster.issuer}
        ingresses.append(ingress)
    if shared:
        ingresses.append(_build_ingress(container, cluster, f"{name}.shared", shared))
    return ingresses


def _build_ingress(
    container: EffectiveContainer, cluster: ClusterSettings, name: str, domains: Sequence[str]
) -> Document:
    """An Ingress with some of a container's domains; each domain has a certificate of its own, unless it has none."""
    tls: list[Document] = [{"hosts": [domain]} for domain in domains]
    if cluster.issuer:
        tls = [{"hosts": [domain], "secretName": f"{domain}-tls"} for domain in domains]
    spec = {
        "ingressClassName": cluster.ingress_class,
        **({"tls": tls} if container.environment.url_scheme == "https" else {}),
        "rules": [{"host": domain, "http": {"paths": _list_ingress_paths(container, domain)}} for domain in domains],
    }
    ingress = _build_object("networking.k8s.io/v1", "Ingress", container, spec)
    ingress["metadata"]["name"] = name
    return ingress


def _list_ingress_paths(container: EffectiveContainer, domain: str) -> list[Document]:
    """The paths of a domain that lead to a container.

    `/api` and all below it are two entries, because Traefik takes the prefix `/api` for `/apis`, too, unless it is
    told otherwise.
    """
    backend = {"service": {"name": container.container_name, "port": {"name": "http"}}}
    paths: list[Document] = []
    for route in container.routes:
        if route.domain != domain:
            continue
        if route.path:
            paths.append({"path": route.path, "pathType": "Exact", "backend": backend})
        paths.append({"path": f"{route.path or ''}/", "pathType": "Prefix", "backend": backend})
    return paths


def _find_promotion_source(service: EffectiveService, cluster: ClusterSettings) -> str:
    """Name the stack and service that must have served an image; empty if that is not on this cluster."""
    environment = service.environment
    if environment.model.promote is None:
        return ""
    source = environment.spec.environments[environment.model.promote]
    if cluster.name not in source.host_names:
        return ""
    return f"{source.stack_name}/{source.service(service.name).container_name}"


# What an administrator applies once


def _build_namespace(environment: EffectiveEnvironment) -> Document:
    """A namespace in which no pod may reach the files of a node, or be root there."""
    labels = {PART_LABEL: environment.spec.project.name, "pod-security.kubernetes.io/enforce": "baseline"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": environment.stack_name, "labels": labels}}


def _build_deploy_role(name: str) -> Document:
    """What a deploy key may do in its namespace.

    It may not ask for a Secret or start a shell in a pod. But no rule keeps a pod that it starts from using a Secret of
    the namespace, so who has the key can learn them all.
    """
    rules = [
        ("apps", ["deployments"], ["list", "create", "patch"]),
        ("apps", ["replicasets"], ["list"]),
        ("", ["services"], ["create", "patch"]),
        ("networking.k8s.io", ["ingresses"], ["create", "patch"]),
        ("policy", ["poddisruptionbudgets"], ["create", "patch"]),
        ("batch", ["jobs"], ["get", "list", "create", "delete"]),
        ("", ["pods"], ["get", "list"]),
        ("", ["pods/log"], ["get"]),
        ("", ["events"], ["list"]),
        ("discovery.k8s.io", ["endpointslices"], ["list"]),
    ]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [{"apiGroups": [group], "resources": resources, "verbs": verbs} for group, resources, verbs in rules],
    }


def _build_account(environment: EffectiveEnvironment, role: str) -> list[Document]:
    """The account of a stack's deploy key, its rights, and a token that lasts until somebody deletes it."""
    namespace = environment.stack_name
    notes = {"kubernetes.io/service-account.name": DEPLOY_ACCOUNT}
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": DEPLOY_ACCOUNT, "namespace": namespace},
        },
        _build_binding(namespace, DEPLOY_ACCOUNT, "ClusterRole", role, namespace),
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/service-account-token",
            "metadata": {"name": DEPLOY_TOKEN, "namespace": namespace, "annotations": notes},
        },
    ]


def _build_writable_secrets(environment: EffectiveEnvironment) -> list[Document]:
    """The Secrets that deploys write, and the right to write these and no others."""
    if not environment.renders_env_files:
        return []
    namespace = environment.stack_name
    files = [container.env_file for container in environment.containers.values() if container.env_file]
    names = list(dict.fromkeys(map(rollout.secret_of, files)))
    secrets: list[Document] = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}} for name in names
    ]
    rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": names, "verbs": ["patch"]}
    return [
        *secrets,
        _build_role(namespace, "write-env", rule),
        _build_binding(namespace, "write-env", "Role", "write-env", namespace),
    ]


def _build_view_of_source(environment: EffectiveEnvironment, cluster: ClusterSettings) -> list[Document]:
    """The right to see what served in the stack whose images are promoted."""
    services = [service for service in environment.services.values() if _find_promotion_source(service, cluster)]
    if not services:
        return []
    namespace = _find_promotion_source(services[0], cluster).partition("/")[0]
    name = f"served-for-{environment.stack_name}"
    rules = []
    deployed = [_find_promotion_source(service, cluster) for service in services if not service.options.once]
    if deployed:
        names = [source.partition("/")[2] for source in deployed]
        rules.append({"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": names, "verbs": ["get"]})
    if len(deployed) < len(services):
        # Each Job has a name of its own, so no names can be listed here.
        rules.append({"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["list"]})
    return [
        _build_role(namespace, name, *rules),
        _build_binding(namespace, name, "Role", name, environment.stack_name),
    ]


def _build_role(namespace: str, name: str, *rules: Document) -> Document:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": name, "namespace": namespace},
        "rules": list(rules),
    }


def _build_binding(namespace: str, name: str, kind: str, role: str, account_namespace: str) -> Document:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": DEPLOY_ACCOUNT, "namespace": account_namespace}],
    }
