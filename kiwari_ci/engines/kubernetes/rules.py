"""What a spec asks of a cluster and a cluster cannot keep, each at its line, with what to write instead."""

import re
from collections.abc import Iterator

from kiwari_ci.effective_spec import (
    EffectiveAccessory,
    EffectiveContainer,
    EffectiveEnvironment,
    EffectiveHost,
    EffectiveService,
    EffectiveSpec,
)
from kiwari_ci.engines.kubernetes.deploy_programs import rollout
from kiwari_ci.problems import Problem, RuleName
from kiwari_ci.spec_loading.validation import format_yaml_path, report_at_key, report_at_value
from kiwari_ci.spec_loading.yaml_source import YamlPath, YamlSource

Problems = Iterator[Problem]

RULE: RuleName = "not-on-a-cluster"
LONGEST_NAME = 40  # a Job's has a word and a number behind it
NAME_PATTERN = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")

_CONTAINER_FIELDS = {
    "volumes": (
        "a pod may move to another node at any time, and a volume would stay behind",
        "run it in an environment on a host with `engine: compose`, or keep its data in an object store",
    ),
    "ports": (
        "a cluster publishes nothing of a node",
        "give it one of the environment's `domains`; another service finds it by `{service: NAME}`",
    ),
    "networks": (
        "all pods of a cluster reach each other",
        "leave it out; who may reach whom is the cluster's NetworkPolicy",
    ),
    "labels": ("nothing in a cluster reads Docker labels", "leave them out; the Ingress has what the proxy needs"),
    "healthcheck": (
        "a cluster does not read a health check of Docker's",
        "write `health: {path: …}`: the cluster asks it over HTTP",
    ),
    "jobs": (
        "no program on a cluster runs jobs on a schedule",
        "leave it out; write a CronJob of your own, or keep the service in an environment on Compose",
    ),
    "compose": ("a cluster does not read keys of Compose", "leave it out, or keep this environment on Compose"),
}
_HOST_FIELDS = ("address", "user", "port", "key", "known_hosts", "jump", "proxy_command", "directory")
_ENVIRONMENT_FIELDS = {
    "redirects": ("no Ingress that redirects is generated", "leave it out, and write an Ingress for it by hand"),
    "hooks": ("a cluster has no host that could run a script", "a `once` service or accessory, which runs first"),
    "files": ("a cluster has no folder for files beside the stack", "put them into the image"),
    "shared_files": ("a cluster has no folder for files beside the stack", "put them into the image"),
    "sync": ("a deploy to a cluster always sends its own manifest", "leave it out"),
    "key": (
        "a deploy to a cluster has no SSH key",
        "leave it out: each of GitHub's environments has its own kubeconfig under the same name",
    ),
    "takeover": ("no deploy to a cluster takes over a container of Docker's", "`host: [SERVER, CLUSTER]` for the move"),
}


def check_kubernetes(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """Find what a spec asks of its clusters and they cannot keep."""
    for host in spec.hosts.values():
        if host.engine == "kubernetes":
            yield from _check_cluster(source, host)
    for name, server in spec.databases.items():
        if server.host.engine == "kubernetes":
            reason = f"{server.host.name} is a cluster, whose pods lose their disk when they move"
            yield _refuse(source, ("databases", name, "host"), reason, "a host with `engine: compose`; then `address`")
    for environment in spec.environments_on("kubernetes"):
        yield from check_environment(source, environment)


def _check_cluster(source: YamlSource, host: EffectiveHost) -> Problems:
    """A cluster is reached by its kubeconfig alone, and its proxy is an Ingress controller."""
    loc: YamlPath = ("hosts", host.name)
    for field in _HOST_FIELDS:
        if field in host.model.model_fields_set:
            hint = f"leave it out: `kubeconfig: {{secret: {host.variable}_KUBECONFIG}}` has all of it"
            yield _refuse(source, (*loc, field), "a cluster is not reached over SSH", hint)
    if host.proxy.kind not in ("ingress", "none"):
        hint = "proxy: {kind: ingress, class: traefik}; or `kind: none` for an Ingress of your own"
        yield _refuse(source, (*loc, "proxy"), "the proxy of a cluster is an Ingress controller", hint)
    elif host.proxy.kind == "ingress" and not host.proxy.ingress_class:
        hint = "class: traefik, or another that `kubectl get ingressclasses` lists"
        yield _refuse(source, (*loc, "proxy"), "an Ingress needs the `class` of its controller", hint)


def check_environment(source: YamlSource, environment: EffectiveEnvironment) -> Problems:
    """Find what an environment on a cluster cannot have."""
    yield from _check_pull_token(source, environment)
    yield from _check_stack_folder(source, environment)
    yield from _check_hosts(source, environment)
    yield from _check_database(source, environment)
    for field, (reason, hint) in _ENVIRONMENT_FIELDS.items():
        if getattr(environment.model, field):
            yield _refuse(source, ("environments", environment.name, field), reason, hint)
    yield from _check_env_files(source, environment)
    for container in environment.containers.values():
        yield from _check_container(source, container)
        yield from _check_service(source, container)
        yield from _check_name(source, container)
        yield from _check_dependencies(source, container)


def _check_stack_folder(source: YamlSource, environment: EffectiveEnvironment) -> Problems:
    """A deploy finds the files of a stack in the folder of `deploy/` that has the stack's name."""
    if environment.source_folder != environment.stack_name:
        reason = f"another environment has the stack `{environment.stack_name}`, too"
        yield _refuse(source, ("environments", environment.name, "stack"), reason, "a `stack` that no other one has")


def _check_hosts(source: YamlSource, environment: EffectiveEnvironment) -> Problems:
    """A stack is on one cluster, and its folder is not that of a cluster."""
    loc: YamlPath = ("environments", environment.name)
    clusters = [host.name for host in environment.hosts_with("kubernetes")]
    if len(clusters) > 1:
        reason = f"{' and '.join(clusters)} are two clusters, and one manifest cannot be for both"
        yield _refuse(source, (*loc, "host"), reason, "name one cluster; or an environment for each")
    hosts = environment.spec.hosts.values()
    if environment.stack_name in [host.name for host in hosts if host.engine == "kubernetes"]:
        reason = f"`{environment.stack_name}` is the folder of the cluster's own files"
        yield _refuse(source, (*loc, "stack"), reason, "give the stack or the cluster another name")


def _check_database(source: YamlSource, environment: EffectiveEnvironment) -> Problems:
    """A cluster reaches a database server by an address."""
    database = environment.database
    if database and database.server.host.engine == "compose" and not database.server.model.address:
        reason = f"a cluster reaches `{database.server.name}` by an address"
        hint = f"databases: {{{database.server.name}: {{address: 10.0.0.2}}}}, that of its host on a private network"
        yield _refuse(source, ("environments", environment.name, "database"), reason, hint)


def _check_pull_token(source: YamlSource, environment: EffectiveEnvironment) -> Problems:
    if environment.spec.registry.pull_token.secret is None:
        reason = "a pod may move to another node long after the job has ended, and its token with it"
        hint = "`pull_token: {secret: NAME}`, a token that may read packages; the cluster keeps it, too"
        yield _refuse(source, ("registry", "pull_token"), reason, hint)


def _check_container(source: YamlSource, container: EffectiveContainer) -> Problems:
    for field, (reason, hint) in _CONTAINER_FIELDS.items():
        if getattr(container.options, field, None):
            yield _refuse(source, container.yaml_path(field), reason, hint)


def _check_service(source: YamlSource, container: EffectiveContainer) -> Problems:
    """A service is asked from outside its container."""
    if not isinstance(container, EffectiveService):
        return
    options = container.options
    if options.health.by == "healthcheck" and not options.healthcheck:
        reason, hint = _CONTAINER_FIELDS["healthcheck"]
        yield _refuse(source, container.yaml_path("health", "by"), reason, hint)


def _check_name(source: YamlSource, container: EffectiveContainer) -> Problems:
    name = container.container_name
    if len(name) > LONGEST_NAME or not NAME_PATTERN.fullmatch(name):
        loc = ("environments", container.environment.name, "containers", container.name)
        reason = f"`{name}` cannot be the name of a Service of Kubernetes"
        hint = f"at most {LONGEST_NAME} lower-case letters, digits and hyphens, a letter first"
        yield _refuse(source, loc, reason, hint)


def _check_env_files(source: YamlSource, environment: EffectiveEnvironment) -> Problems:
    """An env file becomes a Secret. The name of one without `env_file` is made of a container's, which is sound."""
    file = environment.model.env_file
    if file and not (rollout.ENV_FILE.fullmatch(file) and rollout.secret_of(file)):
        loc = ("environments", environment.name, "env_file")
        reason = f"`{file}` cannot be the name of a Secret"
        yield _refuse(source, loc, reason, "lower-case letters, digits and hyphens: `.env`, `api.env`")


def _check_dependencies(source: YamlSource, container: EffectiveContainer) -> Problems:
    """One-shots run before the services. Everything else starts when it likes, and has to bear it."""
    for name in container.options.depends_on:
        peer = container.environment.containers.get(name)
        loc = container.yaml_path("depends_on", name)
        if not peer or not peer.options.once:
            reason = f"a cluster starts pods in any order, so nothing waits for `{name}`"
            yield _refuse(source, loc, reason, _format_hint_to_retry(container))
        elif isinstance(container, EffectiveAccessory) and not container.options.once:
            reason = f"an accessory that keeps running is there before `{name}` runs"
            yield _refuse(source, loc, reason, "leave it out; let the program wait for what it needs")


def _format_hint_to_retry(container: EffectiveContainer) -> str:
    if container.options.once:
        return "leave it out; let the program try to connect again until it can"
    return "leave it out; let the program try to connect again, and answer its health check once it has"


def _refuse(source: YamlSource, loc: YamlPath, reason: str, hint: str) -> Problem:
    message = f"{format_yaml_path(loc)}: {reason}"
    report = report_at_key if loc in source.keys else report_at_value
    return report(source, loc, RULE, message, hint)
