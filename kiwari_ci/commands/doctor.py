"""Asks everything side by side, then holds each answer against the plan."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic

from kiwari_ci.output.generated_files import Tree
from kiwari_ci.plan import Container, Host, Plan, Stack
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
from kiwari_ci.probes.calls import LIMIT, Asked
from kiwari_ci.probes.findings import Finding, Group, Runbook

LATE = f"no answer within {LIMIT} s"


@dataclass(frozen=True)
class Means:
    """How the world is asked: ways to hosts (by their names), tokens, and the net, which a test replaces."""

    destinations: Mapping[str, str] = field(default_factory=dict)
    known_hosts: Mapping[str, Path] = field(default_factory=dict)
    npm: str = ""
    npm_token: str = field(default="", repr=False)
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    net: dns_tls.Net = field(default_factory=dns_tls.Net)
    registry: str = ""

    def destination(self, name: str) -> str:
        """What ssh is told for a host: its own name is an alias in ~/.ssh/config."""
        return self.destinations.get(name, name)


@dataclass(frozen=True)
class World:
    """All answers."""

    facts: Mapping[str, ssh_host.Facts]
    reached: Mapping[str, ssh_host.Reached]
    seen: Mapping[str, dns_tls.Seen]
    github: github.Seen
    proxy: tuple[nginx_proxy_manager.Hosts, str]
    images: Mapping[str, registry.Answer]


def unknown(plan: Plan, environments: Sequence[str], means: Means) -> str:
    """What was asked for and the spec does not have, in words; empty when there is none."""
    there = {stack.environment for stack in plan.stacks}
    hosts = {host.name for host in plan.hosts}
    if left := sorted(set(environments) - there):
        return f"no environment {', '.join(left)}: the spec has {', '.join(sorted(there))}"
    if left := sorted((set(means.destinations) | set(means.known_hosts)) - hosts):
        return f"no host {', '.join(left)}: the spec has {', '.join(sorted(hosts))}"
    if unread := [f"{host}={file}" for host, file in means.known_hosts.items() if not _can_be_read(file)]:
        return f"--known-hosts {' '.join(unread)}: no file that can be read: ssh-keyscan HOST makes such lines"
    return ""


def _can_be_read(file: Path) -> bool:
    """A pipe can be: `<(ssh-keyscan …)`."""
    return os.access(file, os.R_OK) and not file.is_dir()


def examine(plan: Plan, tree: Tree, environments: Sequence[str], means: Means) -> list[Finding]:
    """Every finding, hosts first, then environments (all when none is named), GitHub and registry."""
    chosen = [stack for stack in plan.stacks if not environments or stack.environment in environments]
    hosts = [each for each in plan.hosts if set(each.stacks) & set(chosen)]
    ways = {each.variable: means.destination(each.name) for each in plan.hosts}
    text = tree["deploy/RUNBOOK.md"].text
    book, books = Runbook(text, ways), {each.name: Runbook(text, ways, each.variable) for each in hosts}
    world = _ask(plan, hosts, chosen, means)
    found = [finding for each in hosts for finding in _host(plan, each, tree, world, means, books[each.name])]
    for each in hosts:
        for stack in each.stacks:
            if stack in chosen:
                found += _environment(plan, each, stack, tree, world, means, books[each.name])
    found += github.judge(Group(f"GitHub {plan.repository}"), plan, world.github, book)
    return found + list(_registry(plan, chosen, world, means, book))


def _ask(plan: Plan, hosts: list[Host], chosen: list[Stack], means: Means) -> World:
    until = monotonic() + LIMIT
    public = [each for stack in chosen for each in stack.containers if each.domain]
    facts = {each.name: Asked(partial(ssh_host.ask, each, means.destination(each.name))) for each in hosts}
    reached = {each.name: Asked(partial(ssh_host.reach, means.destination(each.name), means.net)) for each in hosts}
    seen = {each.domain: Asked(partial(dns_tls.look, each.domain, each.health_path, means.net)) for each in public}
    said = Asked(partial(github.ask, plan, [stack.environment for stack in chosen]))
    proxies = Asked(partial(nginx_proxy_manager.ask, means.npm, means.npm_token))
    images = {key: Asked(partial(_image, plan, *key, means)) for key in _images(chosen)}
    return World(
        {name: each.answer(until, ssh_host.Facts(why=LATE)) for name, each in facts.items()},
        {name: each.answer(until, ssh_host.Reached()) for name, each in reached.items()},
        {domain: each.answer(until, dns_tls.Seen(unknown=LATE)) for domain, each in seen.items()},
        said.answer(until, github.Seen(why=LATE)),
        proxies.answer(until, ({}, LATE)),
        {repository: each.answer(until, registry.Answer(0, LATE)) for (repository, _), each in images.items()},
    )


def _images(chosen: list[Stack]) -> list[tuple[str, str]]:
    """Each image once, with the tag of the first environment that has it."""
    tags = {each.repository: each.tag for stack in reversed(chosen) for each in stack.instances}
    return list(tags.items())


def _image(plan: Plan, repository: str, tag: str, means: Means) -> registry.Answer:
    host = {"docker.io": "registry-1.docker.io"}.get(plan.registry, plan.registry)
    base, name = means.registry or f"https://{host}", repository.removeprefix(f"{plan.registry}/")
    user = plan.login.user if plan.login.secret else "x-access-token"
    return registry.ask(base, name, tag, user, _token(plan, means)[1])


def _token(plan: Plan, means: Means) -> tuple[str, str]:
    """The secret that holds the pull token, and its value in our environment; both empty when it is the job's own."""
    named = [setting.name for setting in plan.tokens]
    return next(((name, means.tokens[name]) for name in named if means.tokens.get(name)), (next(iter(named), ""), ""))


def _host(plan: Plan, each: Host, tree: Tree, world: World, means: Means, book: Runbook) -> Iterator[Finding]:
    destination = means.destination(each.name)
    group, facts, reached = Group(f"host {each.name}"), world.facts[each.name], world.reached[each.name]
    if facts.why:
        how = "" if each.name in means.destinations else f"; --ssh {each.name}=USER@ADDRESS says where it is"
        yield group.not_asked("everything on it", f"{facts.why} (ssh {destination}){how}")
    else:
        yield group.ok("ssh", f"{destination}, as {facts.word('login')}")
        yield from host_checks.judge(group, each, facts, book)
        paths = [path for path in ssh_host.files(each) if path.partition("/")[0] not in _names(each.stacks)]
        yield from (host_checks.placed(group, path, each, tree, facts, book) for path in paths)
        yield from (host_checks.deploy_key(group, each, key, facts, book) for key in each.keys)
    known = _known(plan, each, world, means)
    yield host_checks.host_key(group, each, known, reached, facts, book)
    for server in each.servers if not facts.why else ():
        yield stack_checks.env_file(group, server.name, server.env_file, facts, book)
        yield from database_checks.judge(group, server, facts, book)


def _known(plan: Plan, each: Host, world: World, means: Means) -> host_checks.Known:
    """The known_hosts line: of a file, or GitHub's; a secret cannot be read by anybody."""
    name, by_file = each.known_hosts.name, f"--known-hosts {each.name}=FILE compares"
    there = github.settings(world.github, each.stacks[0].environment)
    address = there.get(("variable", each.address.name), "") if each.address.kind == "variable" else ""
    address = f"[{address}]:{each.port}" if address and each.port else address
    if each.name in means.known_hosts:
        try:
            return host_checks.Known(means.known_hosts[each.name].read_text(errors="replace"), address=address)
        except OSError as error:
            return host_checks.Known(why=f"{means.known_hosts[each.name]}: {error.strerror}")
    if each.known_hosts.kind == "secret":
        return host_checks.Known(why=f"{name} is a secret, which nobody can read; {by_file}")
    if ("variable", name) in there:
        return host_checks.Known(there["variable", name], address=address)
    return host_checks.Known(why=f"{name} is not known: {world.github.why or 'not set'}; {by_file}")


def _names(found: tuple[Stack, ...]) -> set[str]:
    return {stack.name for stack in found}


def _environment(
    plan: Plan, each: Host, stack: Stack, tree: Tree, world: World, means: Means, book: Runbook
) -> Iterator[Finding]:
    group, facts = Group(f"environment {stack.environment}"), world.facts[each.name]
    if facts.why:
        yield group.not_asked(f"stack {stack.name}", f"{each.name} was not asked")
    else:
        yield host_checks.placed(group, f"{stack.name}/docker-compose.yml", each, tree, facts, book)
        yield from (stack_checks.env_file(group, stack.name, file, facts, book) for file in stack.env_files)
        yield from _containers(group, each, stack, facts, means, book)
    for container in stack.containers:
        if container.domain:
            yield from _domain(group, each, stack, container, world, means, book)
    yield from github.environment(group, plan, stack.environment, world.github, book)


def _containers(
    group: Group, each: Host, stack: Stack, facts: ssh_host.Facts, means: Means, book: Runbook
) -> Iterator[Finding]:
    if facts.word("engine"):
        destination = means.destination(each.name)
        yield from stack_checks.containers(group, each, stack, facts, destination, book, means.net.now())
    else:
        yield group.not_asked("containers", "docker does not answer")


def _domain(
    group: Group, each: Host, stack: Stack, container: Container, world: World, means: Means, book: Runbook
) -> Iterator[Finding]:
    facts, seen = world.facts[each.name], world.seen[container.domain]
    where, deployed = (
        ssh_host.place(each, world.reached[each.name], facts),
        stack_checks.is_deployed(stack, container, facts),
    )
    yield from dns_tls.judge(group, container, seen, where, deployed, book, means.net.now())
    if means.npm and each.managed:
        yield nginx_proxy_manager.judge(group, container, world.proxy, book)


def _registry(plan: Plan, chosen: list[Stack], world: World, means: Means, book: Runbook) -> Iterator[Finding]:
    name, token = _token(plan, means)
    group = Group(f"registry {plan.registry}")
    served = {
        each.repository
        for on in plan.hosts
        for stack in on.stacks
        for each in stack.instances
        if on.name in world.facts and world.facts[on.name].first("record", stack.name, each.container)
    }
    for repository, _ in _images(chosen):
        answer, pushed = world.images[repository], repository in served
        yield registry.judge(group, repository, answer, registry.Token(name, bool(token)), pushed, book)
