"""Asks everything side by side, then holds each answer against the plan."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic

from kiwari_ci.output.generated_files import GeneratedFiles
from kiwari_ci.plan import ComposeContainer, ComposeStack, DeployHost, Plan
from kiwari_ci.probes import (
    database_checks,
    dns_tls,
    github,
    host_checks,
    nginx_proxy_manager,
    registry,
    ssh_host,
    stack_checks,
)
from kiwari_ci.probes.calls import TOTAL_TIMEOUT, BackgroundCall
from kiwari_ci.probes.findings import Finding, FindingGroup, RunbookIndex
from kiwari_ci.proxies.registry import find_planned_proxy

TIMEOUT_REASON = f"no answer within {TOTAL_TIMEOUT} s"


@dataclass(frozen=True)
class ProbeOptions:
    """How the world is asked: ways to hosts (by their names), tokens, and the net, which a test replaces."""

    destinations: Mapping[str, str] = field(default_factory=dict)
    known_hosts: Mapping[str, Path] = field(default_factory=dict)
    npm: str = ""
    npm_token: str = field(default="", repr=False)
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    net: dns_tls.NetworkBackend = field(default_factory=dns_tls.NetworkBackend)
    registry: str = ""

    def destination(self, name: str) -> str:
        """What ssh is told for a host: its own name is an alias in ~/.ssh/config."""
        return self.destinations.get(name, name)


@dataclass(frozen=True)
class ProbeResults:
    """All answers."""

    facts: Mapping[str, ssh_host.HostFacts]
    reached: Mapping[str, ssh_host.SshTarget]
    seen: Mapping[str, dns_tls.DomainState]
    github: github.GitHubState
    proxy: tuple[nginx_proxy_manager.ProxyHosts, str]
    images: Mapping[str, registry.RegistryResponse]


def find_option_error(plan: Plan, environments: Sequence[str], means: ProbeOptions) -> str:
    """What was asked for and the spec does not have, in words; empty when there is none."""
    there = {stack.environment for stack in plan.stacks}
    hosts = {host.name for host in plan.hosts}
    if left := sorted(set(environments) - there):
        return f"no environment {', '.join(left)}: the spec has {', '.join(sorted(there))}"
    if left := sorted((set(means.destinations) | set(means.known_hosts)) - hosts):
        return f"no host {', '.join(left)}: the spec has {', '.join(sorted(hosts))}"
    if unread := [f"{host}={file}" for host, file in means.known_hosts.items() if not _is_readable_file(file)]:
        return f"--known-hosts {' '.join(unread)}: no file that can be read: ssh-keyscan HOST makes such lines"
    return ""


def _is_readable_file(file: Path) -> bool:
    """A pipe can be: `<(ssh-keyscan …)`."""
    return os.access(file, os.R_OK) and not file.is_dir()


def run_checks(plan: Plan, tree: GeneratedFiles, environments: Sequence[str], means: ProbeOptions) -> list[Finding]:
    """Every finding, hosts first, then environments (all when none is named), GitHub and registry."""
    chosen = [stack for stack in plan.stacks if not environments or stack.environment in environments]
    hosts = [each for each in plan.hosts if set(each.stacks) & set(chosen)]
    ways = {each.variable: means.destination(each.name) for each in plan.hosts}
    text = tree["deploy/RUNBOOK.md"].text
    book, books = RunbookIndex(text, ways), {each.name: RunbookIndex(text, ways, each.variable) for each in hosts}
    world = _run_probes(plan, hosts, chosen, means)
    found = [finding for each in hosts for finding in _check_host(plan, each, tree, world, means, books[each.name])]
    for each in hosts:
        for stack in each.stacks:
            if stack in chosen:
                found += _check_environment(plan, each, stack, tree, world, means, books[each.name])
    found += github.check_repository(FindingGroup(f"GitHub {plan.repository}"), plan, world.github, book)
    return found + list(_check_registry_images(plan, chosen, world, means, book))


def _run_probes(plan: Plan, hosts: list[DeployHost], chosen: list[ComposeStack], means: ProbeOptions) -> ProbeResults:
    until = monotonic() + TOTAL_TIMEOUT
    public = [each for stack in chosen for each in stack.containers if each.domain]
    facts = {
        each.name: BackgroundCall(partial(ssh_host.probe_host, each, means.destination(each.name))) for each in hosts
    }
    reached = {
        each.name: BackgroundCall(partial(ssh_host.resolve_ssh_target, means.destination(each.name), means.net))
        for each in hosts
    }
    seen = {
        each.domain: BackgroundCall(partial(dns_tls.probe_domain, each.domain, each.health_path, means.net))
        for each in public
    }
    said = BackgroundCall(partial(github.probe_github, plan, [stack.environment for stack in chosen]))
    proxies = BackgroundCall(partial(nginx_proxy_manager.fetch_proxy_hosts, means.npm, means.npm_token))
    images = {key: BackgroundCall(partial(_probe_image, plan, *key, means)) for key in _collect_image_tags(chosen)}
    return ProbeResults(
        {name: each.answer(until, ssh_host.HostFacts(why=TIMEOUT_REASON)) for name, each in facts.items()},
        {name: each.answer(until, ssh_host.SshTarget()) for name, each in reached.items()},
        {domain: each.answer(until, dns_tls.DomainState(unknown=TIMEOUT_REASON)) for domain, each in seen.items()},
        said.answer(until, github.GitHubState(why=TIMEOUT_REASON)),
        proxies.answer(until, ({}, TIMEOUT_REASON)),
        {
            repository: each.answer(until, registry.RegistryResponse(0, TIMEOUT_REASON))
            for (repository, _), each in images.items()
        },
    )


def _collect_image_tags(chosen: list[ComposeStack]) -> list[tuple[str, str]]:
    """Each image once, with the tag of the first environment that has it."""
    tags = {each.repository: each.tag for stack in reversed(chosen) for each in stack.instances}
    return list(tags.items())


def _probe_image(plan: Plan, repository: str, tag: str, means: ProbeOptions) -> registry.RegistryResponse:
    host = {"docker.io": "registry-1.docker.io"}.get(plan.registry, plan.registry)
    base, name = means.registry or f"https://{host}", repository.removeprefix(f"{plan.registry}/")
    user = plan.login.user if plan.login.secret else "x-access-token"
    return registry.probe_image_tag(base, name, tag, user, _find_pull_token(plan, means)[1])


def _find_pull_token(plan: Plan, means: ProbeOptions) -> tuple[str, str]:
    """The secret that holds the pull token, and its value in our environment; both empty when it is the job's own."""
    named = [setting.name for setting in plan.tokens]
    return next(((name, means.tokens[name]) for name in named if means.tokens.get(name)), (next(iter(named), ""), ""))


def _check_host(
    plan: Plan, each: DeployHost, tree: GeneratedFiles, world: ProbeResults, means: ProbeOptions, book: RunbookIndex
) -> Iterator[Finding]:
    destination = means.destination(each.name)
    group, facts, reached = FindingGroup(f"host {each.name}"), world.facts[each.name], world.reached[each.name]
    if facts.why:
        how = "" if each.name in means.destinations else f"; --ssh {each.name}=USER@ADDRESS says where it is"
        yield group.not_asked("everything on it", f"{facts.why} (ssh {destination}){how}")
    else:
        yield group.ok("ssh", f"{destination}, as {facts.word('login')}")
        yield from host_checks.check_host_system(group, each, facts, book)
        paths = [
            path
            for path in ssh_host.list_placed_files(each)
            if path.partition("/")[0] not in _collect_stack_names(each.stacks)
        ]
        yield from (host_checks.check_placed_file(group, path, each, tree, facts, book) for path in paths)
        yield from (host_checks.check_deploy_key(group, each, key, facts, book) for key in each.keys)
    known = _find_known_hosts_entry(plan, each, world, means)
    yield host_checks.check_host_key(group, each, known, reached, facts, book)
    for server in each.servers if not facts.why else ():
        yield stack_checks.check_env_file(group, server.name, server.env_file, facts, book)
        yield from database_checks.check_database_server(group, server, facts, book)


def _find_known_hosts_entry(
    plan: Plan, each: DeployHost, world: ProbeResults, means: ProbeOptions
) -> host_checks.KnownHostsEntry:
    """The known_hosts line: of a file, or GitHub's; a secret cannot be read by anybody."""
    name, by_file = each.known_hosts.name, f"--known-hosts {each.name}=FILE compares"
    there = github.find_available_settings(world.github, each.stacks[0].environment)
    address = there.get(("variable", each.address.name), "") if each.address.kind == "variable" else ""
    address = f"[{address}]:{each.port}" if address and each.port else address
    if each.name in means.known_hosts:
        try:
            return host_checks.KnownHostsEntry(
                means.known_hosts[each.name].read_text(errors="replace"), address=address
            )
        except OSError as error:
            return host_checks.KnownHostsEntry(why=f"{means.known_hosts[each.name]}: {error.strerror}")
    if each.known_hosts.kind == "secret":
        return host_checks.KnownHostsEntry(why=f"{name} is a secret, which nobody can read; {by_file}")
    if ("variable", name) in there:
        return host_checks.KnownHostsEntry(there["variable", name], address=address)
    return host_checks.KnownHostsEntry(why=f"{name} is not known: {world.github.why or 'not set'}; {by_file}")


def _collect_stack_names(found: tuple[ComposeStack, ...]) -> set[str]:
    return {stack.name for stack in found}


def _check_environment(
    plan: Plan,
    each: DeployHost,
    stack: ComposeStack,
    tree: GeneratedFiles,
    world: ProbeResults,
    means: ProbeOptions,
    book: RunbookIndex,
) -> Iterator[Finding]:
    group, facts = FindingGroup(f"environment {stack.environment}"), world.facts[each.name]
    if facts.why:
        yield group.not_asked(f"stack {stack.name}", f"{each.name} was not asked")
    else:
        yield host_checks.check_placed_file(group, f"{stack.name}/docker-compose.yml", each, tree, facts, book)
        yield from (stack_checks.check_env_file(group, stack.name, file, facts, book) for file in stack.env_files)
        yield from _check_containers(group, each, stack, facts, means, book)
    for container in stack.containers:
        if container.domain:
            yield from _check_public_domain(group, each, stack, container, world, means, book)
    yield from github.check_github_environment(group, plan, stack.environment, world.github, book)


def _check_containers(
    group: FindingGroup,
    each: DeployHost,
    stack: ComposeStack,
    facts: ssh_host.HostFacts,
    means: ProbeOptions,
    book: RunbookIndex,
) -> Iterator[Finding]:
    if facts.word("engine"):
        destination = means.destination(each.name)
        yield from stack_checks.check_stack_containers(group, each, stack, facts, destination, book, means.net.now())
    else:
        yield group.not_asked("containers", "docker does not answer")


def _check_public_domain(
    group: FindingGroup,
    each: DeployHost,
    stack: ComposeStack,
    container: ComposeContainer,
    world: ProbeResults,
    means: ProbeOptions,
    book: RunbookIndex,
) -> Iterator[Finding]:
    facts, seen = world.facts[each.name], world.seen[container.domain]
    where, deployed = (
        ssh_host.collect_host_addresses(each, world.reached[each.name], facts),
        stack_checks.is_deployed(stack, container, facts),
    )
    yield from dns_tls.check_domain(group, container, seen, where, deployed, book, means.net.now())
    if means.npm and find_planned_proxy(each.proxy).has_admin_api:
        yield nginx_proxy_manager.check_proxy_host(group, container, world.proxy, book)


def _check_registry_images(
    plan: Plan, chosen: list[ComposeStack], world: ProbeResults, means: ProbeOptions, book: RunbookIndex
) -> Iterator[Finding]:
    name, token = _find_pull_token(plan, means)
    group = FindingGroup(f"registry {plan.registry}")
    served = {
        each.repository
        for on in plan.hosts
        for stack in on.stacks
        for each in stack.instances
        if on.name in world.facts and world.facts[on.name].first("record", stack.name, each.container)
    }
    for repository, _ in _collect_image_tags(chosen):
        answer, pushed = world.images[repository], repository in served
        yield registry.check_image_access(
            group, repository, answer, registry.PullTokenSecret(name, bool(token)), pushed, book
        )
