"""What stands in front of the services: which of its keys go together, and what it must be able to reach."""

from collections.abc import Iterator

from kiwari_ci.effective import derived
from kiwari_ci.loading.validation import at_key, at_value, dotted
from kiwari_ci.loading.yaml_source import Loc, Source
from kiwari_ci.problems import Problem
from kiwari_ci.schema import Proxy, Spec

Found = Iterator[Problem]

# Which kinds a key is for.
_KINDS = {
    "stack": ("traefik", "caddy", "nginx"),
    "image": ("traefik", "caddy", "nginx"),
    "listen": ("traefik", "caddy", "nginx"),
    "email": ("traefik", "caddy"),
    "certificates": ("nginx",),
    "entrypoint": ("traefik",),
    "certresolver": ("traefik",),
    "middlewares": ("traefik",),
}


def of_spec(source: Source, given: Spec) -> Found:
    """Faults of the hosts' proxies."""
    for name, host in given.hosts.items():
        for key in sorted(host.proxy.model_fields_set & _KINDS.keys()):
            if why := _idle(key, host.proxy):
                loc: Loc = ("hosts", name, "proxy", key)
                yield at_key(source, loc, "proxy", f"{dotted(loc)}: {why}", f"leave out `{key}`")
    yield from _unreachable(source, given)
    yield from _taken(source, given)


def _idle(key: str, proxy: Proxy) -> str:
    """Why a key would do nothing; empty when it does something."""
    if proxy.kind not in _KINDS[key]:
        return f"is for `kind: {' or '.join(_KINDS[key])}`, met `kind: {proxy.kind}`"
    if proxy.listen and key in ("email", "certificates", "certresolver"):
        return "with `listen` it has no certificates"
    if proxy.kind == "traefik" and not proxy.stack and key in ("email", "image"):
        return "is for a Traefik that is generated: `stack: traefik`"
    return ""


def _unreachable(source: Source, given: Spec) -> Found:
    """Without a proxy of ours a domain leads to a port that the host publishes."""
    for name, place in given.environments.items():
        proxy = given.hosts[derived.host_of(given, name)].proxy
        for service in place.domains if proxy.kind == "none" else ():
            model = derived.running_of(given, name, service)
            if model.port and not derived.host_port(model.ports or (), model.port):
                message = f"environments.{name} has a domain for {service}, and its host has no proxy"
                table = "services" if service in given.services else "accessories"
                cure = f"{table}.{service}.ports: ['127.0.0.1:{model.port}:{model.port}'], where another proxy leads"
                hint = f"{cure}; or `kind: caddy` for the host; or leave out the domain"
                yield at_key(source, ("environments", name, "domains", service), "proxy", message, hint)


def _taken(source: Source, given: Spec) -> Found:
    """The proxy's own ports are no service's."""
    for name in given.environments:
        host = derived.host_of(given, name)
        proxy = given.hosts[host].proxy
        own = {proxy.listen.partition(":")[2]} if proxy.listen else {"80", "443"}
        for each in derived.held_by(given, name) if derived.front_of(given, host) else ():
            for index, port in enumerate(derived.running_of(given, name, each).ports or ()):
                if port.split(":")[-2] in own:
                    loc = (*derived.loc_of(given, name, each, "ports"), index)
                    message = f"{dotted(loc)}: {derived.front_of(given, host)}, the proxy on {host}, publishes that one"
                    yield at_value(source, loc, "clash", message, "give each a port of its own, or a domain")
