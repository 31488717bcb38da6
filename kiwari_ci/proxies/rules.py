"""Rules of proxies: which of their keys go together, and what a proxy must be able to reach."""

from collections.abc import Iterator

from kiwari_ci.effective import EffectiveEnvironment, EffectiveSpec
from kiwari_ci.effective.values import find_published_port
from kiwari_ci.loading.validation import format_yaml_path, report_at_key, report_at_value
from kiwari_ci.loading.yaml_source import YamlPath, YamlSource
from kiwari_ci.problems import Problem
from kiwari_ci.proxies.proxy_stacks import proxy_stack_name
from kiwari_ci.schema import Proxy

Problems = Iterator[Problem]

# Which kinds a key is for.
_SUPPORTED_KINDS = {
    "stack": ("traefik", "caddy", "nginx"),
    "image": ("traefik", "caddy", "nginx"),
    "listen": ("traefik", "caddy", "nginx"),
    "email": ("traefik", "caddy"),
    "certificates": ("nginx",),
    "entrypoint": ("traefik",),
    "certresolver": ("traefik",),
    "middlewares": ("traefik",),
}


def check_proxies(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """Find problems of the hosts' proxies."""
    for name, host in spec.hosts.items():
        for key in sorted(host.proxy.model_fields_set & _SUPPORTED_KINDS.keys()):
            reason = _explain_unused_key(key, host.proxy)
            if reason:
                loc: YamlPath = ("hosts", name, "proxy", key)
                yield report_at_key(source, loc, "proxy", f"{format_yaml_path(loc)}: {reason}", f"leave out `{key}`")
    for environment in spec.environments.values():
        yield from _check_domain_ports(source, environment)
    for environment in spec.environments.values():
        yield from _check_proxy_ports(source, environment)


def _explain_unused_key(key: str, proxy: Proxy) -> str:
    """Explain why a key has no effect; empty when it has one."""
    if proxy.kind not in _SUPPORTED_KINDS[key]:
        return f"is for `kind: {' or '.join(_SUPPORTED_KINDS[key])}`, met `kind: {proxy.kind}`"
    if proxy.listen and key in ("email", "certificates", "certresolver"):
        return "with `listen` it has no certificates"
    if proxy.kind == "traefik" and not proxy.stack and key in ("email", "image"):
        return "is for a Traefik that is generated: `stack: traefik`"
    return ""


def _check_domain_ports(source: YamlSource, environment: EffectiveEnvironment) -> Problems:
    """Without a proxy of ours a domain leads to a port that the host publishes."""
    if environment.first_host.proxy.kind != "none":
        return
    for name in environment.model.domains:
        container = environment.containers[name]
        port = container.options.port
        if port and not find_published_port(container.options.ports or (), port):
            message = f"environments.{environment.name} has a domain for {name}, and its host has no proxy"
            cure = f"{container.table}.{name}.ports: ['127.0.0.1:{port}:{port}'], where another proxy leads"
            hint = f"{cure}; or `kind: caddy` for the host; or leave out the domain"
            yield report_at_key(source, ("environments", environment.name, "domains", name), "proxy", message, hint)


def _check_proxy_ports(source: YamlSource, environment: EffectiveEnvironment) -> Problems:
    """The proxy's own ports are no service's."""
    host = environment.first_host
    stack_name = proxy_stack_name(host.proxy)
    if not stack_name:
        return
    proxy_ports = {host.proxy.listen.partition(":")[2]} if host.proxy.listen else {"80", "443"}
    for container in environment.containers.values():
        for index, port in enumerate(container.options.ports or ()):
            if port.split(":")[-2] in proxy_ports:
                loc = (*container.yaml_path("ports"), index)
                message = f"{format_yaml_path(loc)}: {stack_name}, the proxy on {host.name}, publishes that one"
                yield report_at_value(source, loc, "clash", message, "give each a port of its own, or a domain")
