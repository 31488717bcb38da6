"""Probes hosts, domains, GitHub and the registry at the same time, then compares each answer with the plan."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Protocol, TypedDict, cast

from kiwari_ci.file_output.generated_files import GeneratedFiles
from kiwari_ci.plan_model import Cluster, ClusterStack, ComposeStack, DeployHost, Host, Plan, PlannedContainer, Stack
from kiwari_ci.proxies.all_proxies import find_planned_proxy
from kiwari_ci.remote_checks import (
    cluster,
    cluster_checks,
    container_registry,
    database_checks,
    dns_tls,
    github,
    host_checks,
    nginx_proxy_manager,
    running_setup,
    ssh_host,
    stack_checks,
    unplanned_containers,
)
from kiwari_ci.remote_checks.calls import TOTAL_TIMEOUT, BackgroundCall, await_answers
from kiwari_ci.remote_checks.findings import Finding, FindingGroup
from kiwari_ci.remote_checks.runbook_index import ClusterRunbookIndex, HostRunbookIndex, RunbookIndex
from kiwari_ci.schema.environments import EngineKind

TIMEOUT_REASON = f"no answer within {TOTAL_TIMEOUT} s"


@dataclass(frozen=True)
class ProbeOptions:
    """How to reach what is probed: SSH destinations and kubectl's contexts by a host's name, known_hosts files, tokens.

    Tests replace `net` and `registry`.
    """

    destinations: Mapping[str, str] = field(default_factory=dict)
    contexts: Mapping[str, str] = field(default_factory=dict)
    known_hosts: Mapping[str, Path] = field(default_factory=dict)
    npm: str = ""
    npm_token: str = field(default="", repr=False)
    pull_token: str = field(default="", repr=False)
    net: dns_tls.NetworkBackend = field(default_factory=dns_tls.NetworkBackend)
    registry: str = ""

    def destination(self, host_name: str) -> str:
        """What ssh calls a host; by default its own name, which may be an alias in ~/.ssh/config."""
        return self.destinations.get(host_name, host_name)


@dataclass(frozen=True)
class ProbeResults:
    """All answers: of servers and clusters by name, of domains, GitHub, the proxy, and the registry by repository."""

    facts: Mapping[str, ssh_host.HostFacts]
    reached: Mapping[str, ssh_host.SshTarget]
    clusters: Mapping[str, cluster.ClusterFacts]
    seen: Mapping[str, dns_tls.DomainState]
    github: github.GitHubState
    proxy: tuple[nginx_proxy_manager.ProxyHosts, str]
    images: Mapping[str, container_registry.RegistryResponse]


PULL_TOKEN_VARIABLE = "KIWARI_CI_PULL_TOKEN"  # the one name: a spec names no variable of the user's environment


def find_token_error(plan: Plan, token_host: str, token: str) -> str:
    """Why the token cannot be shown to the registry that the user named; empty when it can."""
    if token_host != plan.registry:
        return f"--pull-token {token_host}: the spec's registry is {plan.registry}, and the token is for one host alone"
    if not token:
        return f"--pull-token {token_host}: no token in {PULL_TOKEN_VARIABLE}"
    return ""


def find_option_error(plan: Plan, environments: Sequence[str], options: ProbeOptions) -> str:
    """Why the options do not fit the spec; empty when they do."""
    spec_environments = {stack.environment for stack in plan.stacks}
    spec_hosts = {host.name for host in plan.hosts}
    spec_clusters = {cluster.name for cluster in plan.clusters}
    unknown_environments = sorted(set(environments) - spec_environments)
    if unknown_environments:
        return f"no environment {', '.join(unknown_environments)}: the spec has {', '.join(sorted(spec_environments))}"
    unknown_hosts = sorted((set(options.destinations) | set(options.known_hosts)) - spec_hosts)
    if unknown_hosts:
        return f"no host {', '.join(unknown_hosts)}: the spec has {', '.join(sorted(spec_hosts))}"
    unknown_clusters = sorted(set(options.contexts) - spec_clusters)
    if unknown_clusters:
        known = ", ".join(sorted(spec_clusters)) or "none"
        return f"no cluster {', '.join(unknown_clusters)}: the spec has {known}"
    unreadable = [f"{host}={file}" for host, file in options.known_hosts.items() if not _is_readable_file(file)]
    if unreadable:
        return f"--known-hosts {' '.join(unreadable)}: no file that can be read: ssh-keyscan HOST makes such lines"
    return ""


def _is_readable_file(file: Path) -> bool:
    """A pipe is one, too: `<(ssh-keyscan …)`."""
    return os.access(file, os.R_OK) and not file.is_dir()


def run_checks(plan: Plan, files: GeneratedFiles, environments: Sequence[str], options: ProbeOptions) -> list[Finding]:
    """Return every finding: hosts first, then environments (all when none is named), GitHub and the registry."""
    stacks = [stack for stack in plan.stacks if not environments or stack.environment in environments]
    names = {stack.environment for stack in stacks}
    hosts = [host for host in plan.every_host if names & set(host.environments)]
    runbook = RunbookIndex(plan.runbook, options.destinations)
    results = _run_probes(plan, hosts, stacks, options)
    checks = [_create_check(host)(plan, host, files, results, options, runbook) for host in hosts]
    findings: list[Finding] = []
    for check in checks:
        findings += check.check_host()
    for check in checks:
        for stack in check.host.stacks:
            if stack in stacks:
                findings += check.check_environment(stack)
    group = FindingGroup(f"GitHub {plan.repository}")
    findings += github.check_repository(group, plan, results.github, runbook)
    findings += github.check_settings_of_builds(group, plan, results.github, runbook)
    findings += _check_registry_images(plan, stacks, results, options, runbook)
    return findings


def _run_probes(plan: Plan, hosts: list[Host], stacks: list[Stack], options: ProbeOptions) -> ProbeResults:
    """Start all calls before the first answer is waited for."""
    deadline = monotonic() + TOTAL_TIMEOUT
    environments = [stack.environment for stack in stacks]
    fact_calls = {}
    target_calls = {}
    cluster_calls = {}
    for host in hosts:
        if isinstance(host, Cluster):
            cluster_calls[host.name] = BackgroundCall(partial(_probe_cluster, plan, host, options))
        if isinstance(host, DeployHost):
            destination = options.destination(host.name)
            fact_calls[host.name] = BackgroundCall(partial(ssh_host.probe_host, host, destination))
            target_calls[host.name] = BackgroundCall(partial(ssh_host.resolve_ssh_target, destination, options.net))
    domain_calls = _start_domain_probes(stacks, options.net)
    github_call = BackgroundCall(partial(github.probe_github, plan, environments))
    proxy_call = BackgroundCall(partial(nginx_proxy_manager.fetch_proxy_hosts, options.npm, options.npm_token))
    image_calls = {
        repository: BackgroundCall(partial(_probe_image, plan, repository, tag, options))
        for repository, tag in _collect_image_tags(stacks).items()
    }
    return ProbeResults(
        facts=await_answers(fact_calls, deadline, ssh_host.HostFacts(why=TIMEOUT_REASON)),
        reached=await_answers(target_calls, deadline, ssh_host.SshTarget()),
        clusters=await_answers(cluster_calls, deadline, cluster.ClusterFacts(why=TIMEOUT_REASON)),
        seen=await_answers(domain_calls, deadline, dns_tls.DomainState(unknown=TIMEOUT_REASON)),
        github=github_call.answer(deadline, github.GitHubState(why=TIMEOUT_REASON)),
        proxy=proxy_call.answer(deadline, ({}, TIMEOUT_REASON)),
        images=await_answers(image_calls, deadline, container_registry.RegistryResponse(0, TIMEOUT_REASON)),
    )


def _start_domain_probes(
    stacks: list[Stack], net: dns_tls.NetworkBackend
) -> dict[str, BackgroundCall[dns_tls.DomainState]]:
    """Start a call for each public address, and for each domain that redirects."""
    calls = {}
    for stack in stacks:
        for container in stack.containers:
            for route in container.routes:
                path = route.health_path or route.path
                calls[route.address] = BackgroundCall(
                    partial(dns_tls.probe_domain, route.scheme, route.domain, path, net)
                )
    for stack in stacks:
        for redirect in stack.redirects:
            probe = partial(dns_tls.probe_domain, redirect.scheme, redirect.domain, "/", net)
            calls[redirect.domain] = BackgroundCall(probe)
    return calls


def _probe_cluster(plan: Plan, host: Cluster, options: ProbeOptions) -> cluster.ClusterFacts:
    context, why = cluster.choose_context(plan.clusters, options.contexts, host.name)
    if why:
        return cluster.ClusterFacts(why=why)
    return cluster.probe_cluster(host, cluster.Kubectl(context))


def _collect_image_tags(stacks: list[Stack]) -> dict[str, str]:
    """By image repository, the tag of the first environment that runs the image."""
    tags: dict[str, str] = {}
    for stack in stacks:
        for instance in stack.instances:
            tags.setdefault(instance.repository, instance.tag)
    return tags


def _probe_image(plan: Plan, repository: str, tag: str, options: ProbeOptions) -> container_registry.RegistryResponse:
    # Docker Hub's API has another host than its images' names.
    host = "registry-1.docker.io" if plan.registry == "docker.io" else plan.registry
    base_url = options.registry or f"https://{host}"
    name = repository.removeprefix(f"{plan.registry}/")
    user = plan.login.user if plan.login.secret else "x-access-token"
    return container_registry.probe_image_tag(base_url, name, tag, user, options.pull_token)


class _HostCheck(Protocol):
    """The checks of a host, and of the environments on it. Each engine has its own."""

    @property
    def host(self) -> Host:
        """The host that is checked."""

    def check_host(self) -> Iterator[Finding]:
        """Check the host itself."""

    def check_environment(self, stack: Stack) -> Iterator[Finding]:
        """Check a stack on it, its public domains, and what GitHub has for its environment."""


@dataclass(frozen=True)
class _ServerCheck:
    """The checks of a server, and of the environments on it."""

    plan: Plan
    host: DeployHost
    files: GeneratedFiles
    results: ProbeResults
    options: ProbeOptions
    runbook: HostRunbookIndex

    @property
    def facts(self) -> ssh_host.HostFacts:
        return self.results.facts[self.host.name]

    def check_host(self) -> Iterator[Finding]:
        """Check the machine, what is placed on it, who may deploy, and its database servers."""
        host, facts = self.host, self.facts
        group = FindingGroup(f"host {host.name}")
        destination = self.options.destination(host.name)
        if facts.why:
            hint = ""
            if host.name not in self.options.destinations:
                hint = f"; {ssh_host.format_login_hint(host.name)}"
            yield group.not_asked("everything on it", f"{facts.why} (ssh {destination}){hint}")
        else:
            yield group.ok("ssh", f"{destination}, as {facts.word('login')}")
            yield from host_checks.check_host_system(group, host, facts, self.runbook)
            for path in self._list_own_files():
                yield host_checks.check_placed_file(group, path, host, self.files, facts, self.runbook)
            for key in host.keys:
                yield host_checks.check_deploy_key(group, host, key, facts, self.runbook)
            if host.has_schedule:
                yield host_checks.check_schedule(group, facts, self.runbook)
        if host.keys:
            target = self.results.reached[host.name]
            yield host_checks.check_host_key(group, host, self._find_known_hosts_entry(), target, facts, self.runbook)
        if not facts.why:
            for server in host.servers:
                yield stack_checks.check_env_file(group, server.name, server.env_file, facts, self.runbook)
                yield from database_checks.check_database_server(group, server, facts, self.runbook)

    def _list_own_files(self) -> list[str]:
        """The files placed on the host that belong to no environment's stack."""
        stack_names = {stack.name for stack in self.host.stacks}
        return [path for path in ssh_host.list_placed_files(self.host) if path.partition("/")[0] not in stack_names]

    def _find_known_hosts_entry(self) -> host_checks.KnownHostsEntry:
        """The known_hosts line of a file, or else of GitHub's variable; nobody can read a secret."""
        host, name = self.host, self.host.known_hosts.name
        variables = github.find_available_settings(self.results.github, host.stacks[0].environment)
        address = self._find_known_hosts_address(variables)
        hint = f"to compare with a file: --known-hosts {host.name}=FILE"
        if host.name in self.options.known_hosts:
            file = self.options.known_hosts[host.name]
            try:
                return host_checks.KnownHostsEntry(file.read_text(errors="replace"), address=address)
            except OSError as error:
                return host_checks.KnownHostsEntry(why=f"{file}: {error.strerror}")
        if host.known_hosts.kind == "secret":
            return host_checks.KnownHostsEntry(why=f"{name} is a secret, which nobody can read; {hint}")
        if ("variable", name) in variables:
            return host_checks.KnownHostsEntry(variables["variable", name], address=address)
        reason = self.results.github.why or "not set"
        return host_checks.KnownHostsEntry(why=f"the value of {name} is not known ({reason}); {hint}")

    def _find_known_hosts_address(self, variables: Mapping[tuple[str, str], str]) -> str:
        """What the known_hosts line must begin with; empty where the address is a secret, or not set."""
        if self.host.address.kind != "variable":
            return ""
        address = variables.get(("variable", self.host.address.name), "")
        if not address or not self.host.port.option:
            return address
        port = self.host.port.option
        for setting in self.host.port.settings:
            port = variables.get(("variable", setting.name), "")
        return f"[{address}]:{port}" if port else ""

    def check_environment(self, stack: Stack) -> Iterator[Finding]:
        """Check a stack, its public domains, and what GitHub has for its environment."""
        assert isinstance(stack, ComposeStack)
        group = FindingGroup(f"environment {stack.environment}")
        if self.facts.why:
            yield group.not_asked(f"stack {stack.name}", f"{self.host.name} was not asked")
        else:
            compose_file = f"{stack.name}/docker-compose.yml"
            yield host_checks.check_placed_file(group, compose_file, self.host, self.files, self.facts, self.runbook)
            for env_file in stack.env_files:
                yield stack_checks.check_env_file(group, stack.name, env_file, self.facts, self.runbook)
            yield from self._check_containers(group, stack)
            yield from running_setup.check_running_setup(group, self.plan, self.host, stack, self.facts)
        for container in stack.containers:
            # Several paths of one domain have the same DNS and the same certificate.
            yield from dict.fromkeys(self._check_public_routes(group, stack, container))
        addresses = ssh_host.collect_host_addresses(self.host, self.results.reached[self.host.name], self.facts)
        for redirect in stack.redirects:
            state = self.results.seen[redirect.domain]
            now = self.options.net.now()
            yield from dns_tls.check_redirect(group, redirect, state, addresses, self.runbook, now)
        yield from github.check_github_environment(
            group, self.plan, stack.environment, self.results.github, self.runbook
        )

    def _check_containers(self, group: FindingGroup, stack: ComposeStack) -> Iterator[Finding]:
        if not self.facts.word("engine"):
            yield group.not_asked("containers", "docker does not answer")
            return
        destination = self.options.destination(self.host.name)
        now = self.options.net.now()
        yield from stack_checks.check_stack_containers(
            group, self.host, stack, self.facts, destination, self.runbook, now
        )
        takeover = running_setup.find_takeover(self.plan, stack)
        yield from unplanned_containers.check_unplanned_containers(
            group, self.host, stack, self.facts, takeover, self.runbook
        )

    def _check_public_routes(
        self, group: FindingGroup, stack: ComposeStack, container: PlannedContainer
    ) -> Iterator[Finding]:
        addresses = ssh_host.collect_host_addresses(self.host, self.results.reached[self.host.name], self.facts)
        is_deployed = stack_checks.is_deployed(stack, container, self.facts)
        now = self.options.net.now()
        for route in container.routes:
            state = self.results.seen[route.address]
            yield from dns_tls.check_route(group, container, route, state, addresses, is_deployed, self.runbook, now)
        if self.options.npm and find_planned_proxy(self.host.proxy).has_admin_api:
            for site in self.host.sites:
                if site.last_route.container == container.container:
                    yield nginx_proxy_manager.check_proxy_host(group, site, self.results.proxy, self.runbook)


@dataclass(frozen=True)
class _ClusterCheck:
    """The checks of a cluster, and of the environments on it."""

    plan: Plan
    host: Cluster
    results: ProbeResults
    options: ProbeOptions
    runbook: ClusterRunbookIndex

    @property
    def facts(self) -> cluster.ClusterFacts:
        return self.results.clusters[self.host.name]

    def check_host(self) -> Iterator[Finding]:
        """Check the cluster, and what its administrator applies once."""
        group = FindingGroup(f"cluster {self.host.name}")
        if self.facts.why:
            commands = ", ".join(stack.status_command for stack in self.host.stacks)
            hint = f"; with a login, this says what serves: {commands}"
            yield group.not_asked("everything in it", f"{self.facts.why}{hint}")
            return
        yield from cluster_checks.check_cluster(group, self.host, self.facts, self.runbook)

    def check_environment(self, stack: Stack) -> Iterator[Finding]:
        """Check a namespace, its public domains, and what GitHub has for its environment."""
        assert isinstance(stack, ClusterStack)
        group = FindingGroup(f"environment {stack.environment}")
        facts = cluster.StackFacts(running=cluster.ClusterAnswer(why=self.facts.why))
        if self.facts.why:
            yield group.not_asked(f"stack {stack.name}", f"{self.host.name} was not asked")
        else:
            facts = self.facts.stacks[stack.name]
            yield from cluster_checks.check_stack(group, stack, facts, self.runbook)
        for container in stack.containers:
            # Several paths of one domain have the same DNS and the same certificate.
            yield from dict.fromkeys(self._check_public_routes(group, stack, container, facts))
        yield from github.check_github_environment(
            group, self.plan, stack.environment, self.results.github, self.runbook
        )

    def _check_public_routes(
        self, group: FindingGroup, stack: ClusterStack, container: PlannedContainer, facts: cluster.StackFacts
    ) -> Iterator[Finding]:
        is_deployed = cluster_checks.is_deployed(stack, container.container, facts)
        now = self.options.net.now()
        for route in container.routes:
            state = self.results.seen[route.address]
            addresses = dns_tls.HostAddresses()  # nobody knows those of what is in front of a cluster
            yield from dns_tls.check_route(group, container, route, state, addresses, is_deployed, self.runbook, now)


def _create_server_check(
    plan: Plan, host: Host, files: GeneratedFiles, results: ProbeResults, options: ProbeOptions, runbook: RunbookIndex
) -> _HostCheck:
    assert isinstance(host, DeployHost)
    return _ServerCheck(plan, host, files, results, options, runbook.for_host(host.name))


def _create_cluster_check(
    plan: Plan, host: Host, files: GeneratedFiles, results: ProbeResults, options: ProbeOptions, runbook: RunbookIndex
) -> _HostCheck:
    assert isinstance(host, Cluster)
    return _ClusterCheck(plan, host, results, options, runbook.for_cluster(host.name))


_CreateCheck = Callable[[Plan, Host, GeneratedFiles, ProbeResults, ProbeOptions, RunbookIndex], _HostCheck]


class _Checks(TypedDict):
    """An engine that a host may have and that is missing here is a type error."""

    compose: _CreateCheck
    kubernetes: _CreateCheck


_CHECKS: _Checks = {"compose": _create_server_check, "kubernetes": _create_cluster_check}


def _create_check(host: Host) -> _CreateCheck:
    return _CHECKS[cast(EngineKind, host.engine)]


def _check_registry_images(
    plan: Plan, stacks: list[Stack], results: ProbeResults, options: ProbeOptions, runbook: RunbookIndex
) -> Iterator[Finding]:
    secret_name = next((token.name for token in plan.tokens), "")
    secret = container_registry.PullTokenSecret(secret_name, bool(options.pull_token))
    group = FindingGroup(f"registry {plan.registry}")
    deployed = _find_deployed_repositories(plan, results)
    for repository in _collect_image_tags(stacks):
        answer = results.images[repository]
        yield container_registry.check_image_access(group, repository, answer, secret, repository in deployed, runbook)


def _find_deployed_repositories(plan: Plan, results: ProbeResults) -> set[str]:
    """The image repositories that some host has put into service."""
    return {*_list_repositories_on_clusters(plan, results), *_list_repositories_on_servers(plan, results)}


def _list_repositories_on_clusters(plan: Plan, results: ProbeResults) -> Iterator[str]:
    for host in plan.clusters:
        stack_facts = results.clusters.get(host.name, cluster.ClusterFacts()).stacks
        for stack in host.stacks:
            if stack.name not in stack_facts:
                continue
            for instance in stack.instances:
                if cluster_checks.is_deployed(stack, instance.container, stack_facts[stack.name]):
                    yield instance.repository


def _list_repositories_on_servers(plan: Plan, results: ProbeResults) -> Iterator[str]:
    for host in plan.hosts:
        if host.name not in results.facts:
            continue
        for stack in host.stacks:
            for instance in stack.instances:
                if results.facts[host.name].first("record", stack.name, instance.container):
                    yield instance.repository
