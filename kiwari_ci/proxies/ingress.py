"""The Ingress controller of a cluster, which reads what is generated for each domain from the cluster."""

from kiwari_ci import schema
from kiwari_ci.effective_spec import EffectiveContainer
from kiwari_ci.proxies.base import ExistingProxy, explain_certificate_key, explain_middlewares


class Ingress(ExistingProxy):
    """An Ingress controller: the stack's own file in the cluster says everything."""

    supported_keys = frozenset({"class", "issuer"})
    name_cache_seconds = 0  # a pod that goes serves on until every proxy knows it
    unrouted_statuses = (404,)
    is_explained_by_takeover = False
    guide_template = ""
    switch_template = ""  # no container is taken over on a cluster

    def explain_unused_key(self, options: schema.Proxy, key: str) -> str:
        """With plain HTTP there are no certificates."""
        return explain_certificate_key(options, key)

    def explain_unsupported_route(self, container: EffectiveContainer, route: schema.Route) -> tuple[str, str] | None:
        """How it asks for a password, and how it changes a path, depends on the controller."""
        if route.basic_auth:
            return (
                "each Ingress controller asks for a password in its own way",
                "leave it out, and set it up by hand with annotations or a middleware of your controller",
            )
        if route.strip_path:
            return (
                "an Ingress has no standard way to remove a path",
                "leave it out, and let the service answer below its path; or give it a domain of its own",
            )
        return explain_middlewares(route)
