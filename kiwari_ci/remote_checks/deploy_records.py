"""What serves and served, by the records of servers and clusters; and the digests that the registry has for tags."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from time import monotonic
from typing import TypedDict, cast

from kiwari_ci.engines.kubernetes.deploy_programs import rollout
from kiwari_ci.plan_model import Cluster, ClusterStack, ComposeStack, DeployHost, Host, Stack
from kiwari_ci.remote_checks import cluster as clusters
from kiwari_ci.remote_checks import ssh_host
from kiwari_ci.remote_checks.calls import TOTAL_TIMEOUT, BackgroundCall, find_last_line, run_process
from kiwari_ci.remote_checks.ssh_host import HostFacts
from kiwari_ci.schema.environments import EngineKind

TIMEOUT_REASON = f"no answer within {TOTAL_TIMEOUT} s"
DEPLOY_RECORD_PATTERN = re.compile(
    r"(?P<image>[^ @]+)@(?P<digest>sha256:[0-9a-f]{64}) (?P<number>[0-9]{1,12}) (?P<time>\S+) (?P<run>\S+)"
)


@dataclass(frozen=True)
class DeployRecord:
    """A line of a host's record: these bytes were put into service; `number` counts the commits up to theirs."""

    image: str
    digest: str
    number: int
    time: str
    run: str


@dataclass(frozen=True)
class RegistryDigest:
    """What the registry has for a tag: a digest, or none; with `why`, nobody could say."""

    digest: str = ""
    why: str = ""


@dataclass(frozen=True)
class WaysToHosts:
    """What ssh calls servers, which context of kubectl is a cluster, by the names of hosts; and all clusters."""

    destinations: Mapping[str, str] = field(default_factory=dict)
    contexts: Mapping[str, str] = field(default_factory=dict)
    clusters: tuple[Cluster, ...] = ()


def query_hosts(hosts: Iterable[Host], ways: WaysToHosts) -> dict[str, HostFacts]:
    """What each host knows, side by side; one that does not answer says why."""
    until = monotonic() + TOTAL_TIMEOUT
    calls = {
        host.name: BackgroundCall(partial(_QUERIES[cast(EngineKind, host.engine)], host, ways)) for host in hosts
    }
    return {name: call.answer(until, HostFacts(why=TIMEOUT_REASON)) for name, call in calls.items()}


def query_registry_digests(tags: Iterable[str]) -> dict[str, RegistryDigest]:
    """The digest of each image:tag, side by side, with the login that docker has."""
    until = monotonic() + TOTAL_TIMEOUT
    calls = {tag: BackgroundCall(partial(_query_digest, tag)) for tag in tags}
    return {tag: call.answer(until, RegistryDigest(why=TIMEOUT_REASON)) for tag, call in calls.items()}


def parse_deploy_records(facts: HostFacts, stack: Stack, container: str) -> list[DeployRecord]:
    """Every deploy of a container that the host still knows, the newest last."""
    lines = facts.all("served", stack.name, container) or facts.all("record", stack.name, container)
    matches = [DEPLOY_RECORD_PATTERN.fullmatch(line[0]) for line in lines if line]
    return [
        DeployRecord(match["image"], match["digest"], int(match["number"]), match["time"], match["run"])
        for match in matches
        if match
    ]


def create_deploy_record(record: rollout.Record) -> DeployRecord:
    """A record of a cluster in the form of a server's: its mark begins with its run, or says that it is a rollback."""
    image, run = record.image.partition("@")[0], record.mark.partition("-")[0]
    return DeployRecord(image, record.digest, record.sequence, record.time, run)


def _query_cluster(host: Host, ways: WaysToHosts) -> HostFacts:
    """The records of a cluster, as a server prints its own."""
    assert isinstance(host, Cluster)
    context, why = clusters.choose_context(ways.clusters, ways.contexts, host.name)
    if why:
        return HostFacts(why=why)
    lines: list[tuple[str, ...]] = []
    for stack in host.stacks:
        answer = clusters.get_running(stack, clusters.Kubectl(context))
        if answer.why:
            return HostFacts(why=answer.why)
        lines += _list_record_lines(stack, rollout.parse_state(answer.objects))
    return HostFacts(tuple(lines))


def _list_record_lines(stack: ClusterStack, state: rollout.State) -> Iterator[tuple[str, ...]]:
    records = {name: deployment.records for name, deployment in state.deployments.items()}
    one_shots = [instance.container for instance in stack.instances if instance.once]
    records |= {name: rollout.records_of_jobs(state.jobs_of(name)) for name in one_shots}
    for name, own_records in records.items():
        for line in map(create_deploy_record, own_records):
            record = f"{line.image}@{line.digest} {line.number} {line.time} {line.run}"
            yield "served", stack.name, name, record


def _query_server(host: Host, ways: WaysToHosts) -> HostFacts:
    assert isinstance(host, DeployHost)
    destination = ways.destinations.get(host.name, host.name)
    facts = ssh_host.probe_host(host, destination)
    if "deploy key" not in facts.why:
        return facts
    lines_of_stacks = [
        _query_stack_status(destination, stack) for stack in host.stacks
    ]  # which is all that this key may ask
    lines = tuple(line for stack_lines in lines_of_stacks for line in stack_lines)
    return HostFacts(lines) if lines else facts


def _query_stack_status(destination: str, stack: ComposeStack) -> list[tuple[str, ...]]:
    ran = run_process(ssh_host.build_ssh_command(destination, ["status", stack.name]))
    pinned_lines = re.findall(rf"^{re.escape(stack.name)}/\.deploys/(\S+): .*\n  pinned: (.+)$", ran.out, re.MULTILINE)
    return [("record", stack.name, container, line) for container, line in pinned_lines]


class _Queries(TypedDict):
    """An engine that a host may have and that is missing here is a type error."""

    compose: Callable[[Host, WaysToHosts], HostFacts]
    kubernetes: Callable[[Host, WaysToHosts], HostFacts]


_QUERIES: _Queries = {"compose": _query_server, "kubernetes": _query_cluster}


def _query_digest(tag: str) -> RegistryDigest:
    ran = run_process(["docker", "buildx", "imagetools", "inspect", "--raw", tag], seconds=TOTAL_TIMEOUT - 2)
    if ran.code == 0:
        return RegistryDigest(f"sha256:{sha256(ran.out.encode()).hexdigest()}")
    why = find_last_line(ran.err)
    return RegistryDigest() if why.endswith(": not found") else RegistryDigest(why=why[:200])
