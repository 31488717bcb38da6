"""The Ingress controller of a cluster, which reads what is generated for each domain from the cluster."""

from kiwari_ci import schema
from kiwari_ci.effective import EffectiveContainer, EffectiveHost
from kiwari_ci.plan import ProxyRedirect, ProxySite, ProxyStack
from kiwari_ci.proxies.base import explain_middlewares


class Ingress:
    """An Ingress controller: the stack's own file in the cluster says everything."""

    supported_keys = frozenset({"class", "issuer"})
    name_cache_seconds = 0  # a pod that goes serves on until every proxy knows it
    unrouted_statuses = (404,)
    has_admin_api = False
    reads_labels = False
    is_on_shared_network = False
    guide_template = ""
    has_one_guide_for_all_hosts = False

    def stack_name(self, options: schema.Proxy) -> str:
        """It is a part of the cluster."""
        return ""

    def explain_unused_key(self, options: schema.Proxy, key: str) -> str:
        """Each key has an effect."""
        return ""

    def explain_unreachable_domain(self, container: EffectiveContainer) -> tuple[str, str] | None:
        """It reaches every container with a port."""
        return None

    def explain_unsupported_route(self, container: EffectiveContainer, route: schema.Route) -> tuple[str, str] | None:
        """How it asks for a password depends on the controller."""
        if route.basic_auth:
            return (
                "each Ingress controller asks for a password in its own way",
                "leave it out, and set it up by hand with annotations or a middleware of your controller",
            )
        return explain_middlewares(route)

    def labels(self, container: EffectiveContainer, port: int) -> dict[str, str]:
        """It reads no labels of Docker."""
        return {}

    def plan_stack(
        self, host: EffectiveHost, sites: tuple[ProxySite, ...], redirects: tuple[ProxyRedirect, ...]
    ) -> ProxyStack | None:
        """It is a part of the cluster."""
        return None

    def runs_image(self, image: str) -> bool:
        """No container of a server is an Ingress controller."""
        return False

    def describe_required_version(self, image: str) -> str:
        """Its version is the business of whoever runs the cluster."""
        return ""
