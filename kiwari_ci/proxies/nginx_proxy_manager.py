"""Nginx Proxy Manager, which a person has set up and where a person clicks; the runbook says what."""

from kiwari_ci import schema
from kiwari_ci.effective_spec import EffectiveContainer
from kiwari_ci.proxies.base import ExistingProxy, explain_middlewares


class NginxProxyManager(ExistingProxy):
    """Nginx Proxy Manager."""

    supported_keys = frozenset({"network"})
    name_cache_seconds = 11  # its nginx keeps an address for 10 seconds
    unrouted_statuses: tuple[int, ...] = ()
    has_admin_api = True
    is_on_shared_network = True
    guide_template = "proxy/nginx-proxy-manager.md.j2"
    switch_template = "proxy/switch-nginx-proxy-manager.md.j2"
    has_one_guide_for_all_hosts = True

    def explain_unsupported_route(self, container: EffectiveContainer, route: schema.Route) -> tuple[str, str] | None:
        """An access list is for a whole domain."""
        if route.basic_auth and _has_paths(container, route.domain):
            return (
                f"an access list of Nginx Proxy Manager is for a whole domain, and paths of `{route.domain}` "
                "lead to different services",
                "give the service a domain of its own, or leave out `basic_auth`",
            )
        return explain_middlewares(route)

    def runs_image(self, image: str) -> bool:
        """Whether a container with this image is the proxy."""
        return "nginx-proxy-manager" in image


def _has_paths(container: EffectiveContainer, domain: str) -> bool:
    """Whether paths of a domain are led elsewhere."""
    peers = container.environment.containers.values()
    return any(route.domain == domain and route.path for peer in peers for route in peer.routes)
