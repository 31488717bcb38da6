"""All kinds of proxies. A kind that the schema allows and that is missing here is a type error."""

from typing import TypedDict, cast, get_args

from kiwari_ci.proxies.base import Proxy
from kiwari_ci.proxies.caddy import Caddy
from kiwari_ci.proxies.custom import CustomProxy
from kiwari_ci.proxies.external import ExternalProxy
from kiwari_ci.proxies.ingress import Ingress
from kiwari_ci.proxies.nginx import Nginx
from kiwari_ci.proxies.nginx_proxy_manager import NginxProxyManager
from kiwari_ci.proxies.traefik import Traefik
from kiwari_ci.schema.environments import ProxyKind

_Registry = TypedDict(
    "_Registry",
    {
        "nginx-proxy-manager": Proxy,
        "traefik": Proxy,
        "caddy": Proxy,
        "nginx": Proxy,
        "custom": Proxy,
        "none": Proxy,
        "ingress": Proxy,
    },
)

PROXIES: _Registry = {
    "nginx-proxy-manager": NginxProxyManager(),
    "traefik": Traefik(),
    "caddy": Caddy(),
    "nginx": Nginx(),
    "custom": CustomProxy(),
    "none": ExternalProxy(),
    "ingress": Ingress(),
}
ALL_KINDS: tuple[ProxyKind, ...] = get_args(ProxyKind)


def find_proxy(kind: ProxyKind) -> Proxy:
    """Find what is known of a kind of proxy."""
    return PROXIES[kind]


def find_planned_proxy(kind: str) -> Proxy:
    """Find what is known of the kind of proxy that a plan names."""
    return find_proxy(cast(ProxyKind, kind))


def list_kinds_with_key(key: str) -> list[ProxyKind]:
    """List the kinds that take a key of the spec's `proxy`."""
    return [kind for kind in ALL_KINDS if key in find_proxy(kind).supported_keys]
