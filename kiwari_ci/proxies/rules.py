"""What stands in front of the services: which of its keys go together, and what it must be able to reach."""

from collections.abc import Iterator

from kiwari_ci.effective import derived
from kiwari_ci.loading.validation import format_yaml_path, report_at_key, report_at_value
from kiwari_ci.loading.yaml_source import YamlPath, YamlSource
from kiwari_ci.problems import Problem
from kiwari_ci.schema import Proxy, Spec

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


def check_proxies(source: YamlSource, given: Spec) -> Problems:
    """Faults of the hosts' proxies."""
    for name, host in given.hosts.items():
        for key in sorted(host.proxy.model_fields_set & _SUPPORTED_KINDS.keys()):
            if why := _explain_unused_key(key, host.proxy):
                loc: YamlPath = ("hosts", name, "proxy", key)
                yield report_at_key(source, loc, "proxy", f"{format_yaml_path(loc)}: {why}", f"leave out `{key}`")
    yield from _check_domain_ports(source, given)
    yield from _check_proxy_ports(source, given)


def _explain_unused_key(key: str, proxy: Proxy) -> str:
    """Why a key would do nothing; empty when it does something."""
    if proxy.kind not in _SUPPORTED_KINDS[key]:
        return f"is for `kind: {' or '.join(_SUPPORTED_KINDS[key])}`, met `kind: {proxy.kind}`"
    if proxy.listen and key in ("email", "certificates", "certresolver"):
        return "with `listen` it has no certificates"
    if proxy.kind == "traefik" and not proxy.stack and key in ("email", "image"):
        return "is for a Traefik that is generated: `stack: traefik`"
    return ""


def _check_domain_ports(source: YamlSource, given: Spec) -> Problems:
    """Without a proxy of ours a domain leads to a port that the host publishes."""
    for name, place in given.environments.items():
        proxy = given.hosts[derived.find_first_host(given, name)].proxy
        for service in place.domains if proxy.kind == "none" else ():
            model = derived.resolve_container_options(given, name, service)
            if model.port and not derived.find_published_port(model.ports or (), model.port):
                message = f"environments.{name} has a domain for {service}, and its host has no proxy"
                table = "services" if service in given.services else "accessories"
                cure = f"{table}.{service}.ports: ['127.0.0.1:{model.port}:{model.port}'], where another proxy leads"
                hint = f"{cure}; or `kind: caddy` for the host; or leave out the domain"
                yield report_at_key(source, ("environments", name, "domains", service), "proxy", message, hint)


def _check_proxy_ports(source: YamlSource, given: Spec) -> Problems:
    """The proxy's own ports are no service's."""
    for name in given.environments:
        host = derived.find_first_host(given, name)
        proxy = given.hosts[host].proxy
        own = {proxy.listen.partition(":")[2]} if proxy.listen else {"80", "443"}
        for each in (
            derived.list_services_and_accessories(given, name) if derived.derive_proxy_stack_name(given, host) else ()
        ):
            for index, port in enumerate(derived.resolve_container_options(given, name, each).ports or ()):
                if port.split(":")[-2] in own:
                    loc = (*derived.find_spec_path(given, name, each, "ports"), index)
                    message = f"{format_yaml_path(loc)}: {derived.derive_proxy_stack_name(given, host)}, the proxy on {host}, publishes that one"
                    yield report_at_value(source, loc, "clash", message, "give each a port of its own, or a domain")
