"""Rules of proxies: which of their keys have an effect, and what a proxy must be able to reach."""

from collections.abc import Iterator

from kiwari_ci.effective import EffectiveEnvironment, EffectiveHost, EffectiveSpec
from kiwari_ci.loading.validation import format_yaml_path, report_at_key, report_at_value
from kiwari_ci.loading.yaml_source import YamlPath, YamlSource
from kiwari_ci.problems import Problem
from kiwari_ci.proxies.base import list_written_keys
from kiwari_ci.proxies.registry import find_proxy, list_kinds_with_key
from kiwari_ci.schema import Proxy

Problems = Iterator[Problem]


def check_proxies(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """Find problems of the hosts' proxies."""
    for name, host in spec.hosts.items():
        for key in list_written_keys(host.proxy):
            reason = _explain_unused_key(host.proxy, key)
            if reason:
                loc: YamlPath = ("hosts", name, "proxy", key)
                yield report_at_key(source, loc, "proxy", f"{format_yaml_path(loc)}: {reason}", f"leave out `{key}`")
    for environment in spec.environments.values():
        for host in _list_different_hosts(environment):
            yield from _check_domains(source, environment, host)
    for environment in spec.environments.values():
        for host in _list_different_hosts(environment):
            yield from _check_ports(source, environment, host)


def _list_different_hosts(environment: EffectiveEnvironment) -> list[EffectiveHost]:
    """List the first host with each engine, for those with the same engine are alike."""
    return [environment.hosts_with(engine)[0] for engine in dict.fromkeys(host.engine for host in environment.hosts)]


def _explain_unused_key(options: Proxy, key: str) -> str:
    """Explain why a key has no effect; empty when it has one."""
    kinds = list_kinds_with_key(key)
    if options.kind not in kinds:
        return f"is for `kind: {' or '.join(kinds)}`, met `kind: {options.kind}`"
    return find_proxy(options.kind).explain_unused_key(options, key)


def _check_domains(source: YamlSource, environment: EffectiveEnvironment, host: EffectiveHost) -> Problems:
    """The proxy can lead each domain to its container."""
    proxy = find_proxy(host.proxy.kind)
    for name in environment.model.domains:
        problem = proxy.explain_unreachable_domain(environment.containers[name])
        if problem and host.has_ports:
            message, hint = problem
            yield report_at_key(source, ("environments", environment.name, "domains", name), "proxy", message, hint)


def _check_ports(source: YamlSource, environment: EffectiveEnvironment, host: EffectiveHost) -> Problems:
    """No container publishes the ports of a generated proxy."""
    stack_name = find_proxy(host.proxy.kind).stack_name(host.proxy)
    if not stack_name:
        return
    proxy_ports = {host.proxy.listen.partition(":")[2]} if host.proxy.listen else {"80", "443"}
    for container in environment.containers.values():
        for index, port in enumerate(container.options.ports or ()):
            if port.split(":")[-2] in proxy_ports:
                loc = (*container.yaml_path("ports"), index)
                message = f"{format_yaml_path(loc)}: {stack_name}, the proxy on {host.name}, publishes that one"
                yield report_at_value(source, loc, "clash", message, "give each a port of its own, or a domain")
