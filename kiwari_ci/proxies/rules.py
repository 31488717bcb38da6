"""Rules of proxies: which of their keys have an effect, and what a proxy must be able to reach."""

import re
from collections.abc import Iterator

from kiwari_ci.effective_spec import (
    EffectiveContainer,
    EffectiveEnvironment,
    EffectiveHost,
    EffectiveService,
    EffectiveSpec,
    find_outside_health_path,
)
from kiwari_ci.problems import Problem
from kiwari_ci.proxies.all_proxies import find_proxy, list_kinds_with_key
from kiwari_ci.proxies.base import list_web_ports, list_written_keys
from kiwari_ci.schema import Proxy, Route
from kiwari_ci.spec_loading.suggestions import suggest_closest
from kiwari_ci.spec_loading.validation import format_yaml_path, report_at_key, report_at_value
from kiwari_ci.spec_loading.yaml_source import YamlPath, YamlSource

_TRAEFIK_LABEL = re.compile(
    r"traefik\.(http|tcp|udp)\.(?P<kind>routers|services|middlewares)\.(?P<name>[^.]+)\.", re.IGNORECASE
)

Problems = Iterator[Problem]


def check_proxies(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """Find problems of the hosts' proxies."""
    yield from _check_unused_keys(source, spec)
    for environment, host in _iter_different_hosts(spec):
        yield from _check_domains(source, environment, host)
    yield from _check_schemes(source, spec)
    yield from _check_domain_hosts(source, spec)
    yield from _check_redirects(source, spec)
    yield from _check_traefik_names(source, spec)
    for container, loc, route in _iter_routes(spec):
        yield from _check_path(source, container, loc, route)
    for environment in spec.environments.values():
        for container in environment.containers.values():
            yield from _check_health_path(source, container)
    for environment, host in _iter_different_hosts(spec):
        yield from _check_ports(source, environment, host)


def _iter_different_hosts(spec: EffectiveSpec) -> Iterator[tuple[EffectiveEnvironment, EffectiveHost]]:
    """Each environment with each of its hosts that is not like another one."""
    for environment in spec.environments.values():
        for host in _list_different_hosts(environment):
            yield environment, host


def _list_different_hosts(environment: EffectiveEnvironment) -> list[EffectiveHost]:
    """List the first host with each engine, for those with the same engine are alike."""
    return [environment.hosts_with(engine)[0] for engine in dict.fromkeys(host.engine for host in environment.hosts)]


def _check_unused_keys(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """Each key of a proxy has an effect."""
    for name, host in spec.hosts.items():
        for key in list_written_keys(host.proxy):
            reason = _explain_unused_key(host.proxy, key)
            if reason:
                loc: YamlPath = ("hosts", name, "proxy", key)
                yield report_at_key(source, loc, "proxy", f"{format_yaml_path(loc)}: {reason}", f"leave out `{key}`")


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


def _iter_routes(spec: EffectiveSpec) -> Iterator[tuple[EffectiveContainer, YamlPath, Route]]:
    """Every public address, with its container and its place."""
    for environment in spec.environments.values():
        for name, container in environment.containers.items():
            for index, route in enumerate(container.routes):
                yield container, ("environments", environment.name, "domains", name, index), route


def _check_schemes(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """A domain has one scheme, also where it leads to several hosts; without a domain, no client uses one."""
    for environment in spec.environments.values():
        if not any(container.routes for container in environment.containers.values()):
            continue
        for host in environment.hosts:
            if host.proxy.scheme != environment.url_scheme:
                first = environment.first_host
                loc: YamlPath = ("environments", environment.name, "host")
                message = (
                    f"{format_yaml_path(loc)}: clients reach {first.name} with `{first.proxy.scheme}`, "
                    f"and {host.name} with `{host.proxy.scheme}`"
                )
                yield report_at_key(source, loc, "host", message, "give both the same `scheme` in `proxy`")


def _check_domain_hosts(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """A domain is one address in DNS, so all that it leads to is on the same hosts."""
    owners: dict[str, EffectiveContainer] = {}
    for container, loc, route in _iter_routes(spec):
        owner = owners.setdefault(route.domain, container)
        environment, owner_environment = container.environment, owner.environment
        if environment.host_names != owner_environment.host_names:
            message = (
                f"`{route.domain}` leads to {container.name} on {' and '.join(environment.host_names)}, "
                f"and to {owner.name} on {' and '.join(owner_environment.host_names)}"
            )
            yield report_at_value(source, loc, "clash", message, "give each host domains of its own")


def _check_redirects(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """A domain that redirects leads nowhere else, and its target is a domain of the environment."""
    owners = {
        route.domain: f"environments.{container.environment.name}.{container.name}"
        for container, _, route in _iter_routes(spec)
    }
    for environment in spec.environments.values():
        owner = f"environments.{environment.name}.redirects"
        for domain, target in environment.model.redirects.items():
            loc: YamlPath = ("environments", environment.name, "redirects", domain)
            other = owners.setdefault(domain, owner)
            if other != owner:
                message = f"{format_yaml_path(loc[:-1])} and {other} share the domain `{domain}`"
                yield report_at_key(source, loc, "clash", message, "a domain either leads to services, or redirects")
            if not environment.find_domain_owner(target):
                domains = {route.domain for container in environment.containers.values() for route in container.routes}
                message = f"{format_yaml_path(loc[:-1])}: no service of {environment.name} has the domain `{target}`"
                hint = suggest_closest(target, sorted(domains))
                yield report_at_value(source, loc, "unknown-name", message, hint)


def _check_traefik_names(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """All stacks of a host share one list of the names that labels give to parts of Traefik's settings.

    Traefik drops a router or a middleware that two containers define differently, and spreads the requests for a
    service over both. Only a middleware may be defined twice, and only in the same way.
    """
    owners: dict[tuple[str, str, str], tuple[str, dict[str, str]]] = {}
    for environment in spec.environments.values():
        if not find_proxy(environment.first_host.proxy.kind).reads_labels:
            continue
        for name, container in environment.containers.items():
            owner = f"{name} in {environment.name}"
            for (kind, part), labels in _group_traefik_labels(container).items():
                for host_name in environment.host_names:
                    other, other_labels = owners.setdefault((host_name, kind, part), (owner, labels))
                    is_shared = kind == "middlewares" and labels == other_labels
                    if other != owner and not is_shared:
                        first_label = next(iter(labels))
                        loc = container.yaml_path("labels", first_label)
                        where = format_yaml_path(loc[:-1])
                        message = f"{where}: {owner} and {other} define `{part}` of Traefik's {kind} on {host_name}"
                        renamed_label = first_label.replace(f".{part}.", f".{part}-{environment.name}.", 1)
                        hint = (
                            f"`{renamed_label}` in the `overrides` of each "
                            "environment; a field of `domains` needs no label"
                        )
                        yield report_at_key(source, loc, "clash", message, hint)


def _group_traefik_labels(container: EffectiveContainer) -> dict[tuple[str, str], dict[str, str]]:
    """Group the labels that a person wrote by the part of Traefik's settings that they define: its kind and name."""
    groups: dict[tuple[str, str], dict[str, str]] = {}
    for label, text in container.options.labels.items():
        match = _TRAEFIK_LABEL.match(label)
        if match:
            groups.setdefault((match["kind"], match["name"]), {})[label] = text
    return groups


def _check_path(source: YamlSource, container: EffectiveContainer, loc: YamlPath, route: Route) -> Problems:
    """An address is written once, every proxy can lead to it, and `strip_path` has something to strip."""
    where = format_yaml_path(loc[:-1])
    for kind in dict.fromkeys(host.proxy.kind for host in _list_different_hosts(container.environment)):
        problem = find_proxy(kind).explain_unsupported_route(container, route)
        if problem:
            reason, hint = problem
            yield report_at_value(source, loc, "proxy", f"{where}: {reason}", hint)
    for other in container.routes[: int(loc[-1])]:
        if other.address == route.address:
            message = f"{where}: `{route.address}` stands in this list twice"
            yield report_at_value(source, loc, "duplicate", message, "leave out one of the two")
    if route.strip_path and not route.path:
        message = f"{where}: `{route.domain}` has no `path` that could be stripped"
        hint = f"{{domain: {route.domain}, path: /api, strip_path: true}}, or leave out `strip_path`"
        yield report_at_value(source, loc, "proxy", message, hint)


def _check_health_path(source: YamlSource, container: EffectiveContainer) -> Problems:
    """The health of a service that speaks HTTP can be asked at one of its addresses."""
    if not isinstance(container, EffectiveService) or not container.options.port:
        return
    if container.options.health.by != "http":
        return
    if not container.routes or any(find_outside_health_path(container, route) for route in container.routes):
        return
    route = container.routes[0]
    health_path = container.options.health.path
    message = (
        f"environments.{container.environment.name}: `{route.domain}{health_path}` does not lead to {container.name}, "
        f"whose health is asked there after a deploy"
    )
    if route.path and not route.strip_path:
        hint = (
            f"health: {{path: {route.path}{health_path}}}, for the service gets the path as it was asked for; "
            f"or {{domain: {route.domain}, path: {route.path}, strip_path: true}}"
        )
    else:
        hint = "`health: {path: …}` that no other service's path covers"
    loc = ("environments", container.environment.name, "domains", container.name)
    yield report_at_key(source, loc, "proxy", message, hint)


def _check_ports(source: YamlSource, environment: EffectiveEnvironment, host: EffectiveHost) -> Problems:
    """No container publishes the ports of a generated proxy."""
    stack_name = find_proxy(host.proxy.kind).stack_name(host.proxy)
    if not stack_name:
        return
    proxy_ports = {port.split(":")[-2] for port in list_web_ports(host.proxy)}
    for container in environment.containers.values():
        for index, port in enumerate(container.options.ports or ()):
            if port.split(":")[-2] in proxy_ports:
                loc = (*container.yaml_path("ports"), index)
                message = f"{format_yaml_path(loc)}: {stack_name}, the proxy on {host.name}, publishes that one"
                yield report_at_value(source, loc, "clash", message, "give each a port of its own, or a domain")
