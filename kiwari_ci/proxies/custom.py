"""A proxy container of one's own, of which nothing is known but that it finds containers by their names."""

from kiwari_ci import schema
from kiwari_ci.effective_spec import EffectiveContainer
from kiwari_ci.proxies.base import UNKNOWN_SWITCH_TEMPLATE, ExistingProxy, explain_middlewares


class CustomProxy(ExistingProxy):
    """A proxy in a container that a person has set up."""

    supported_keys = frozenset({"network"})
    name_cache_seconds = 11  # as nginx with `resolver … valid=10s`, which keeps a name the longest
    unrouted_statuses: tuple[int, ...] = ()
    is_on_shared_network = True
    is_explained_by_takeover = True
    guide_template = "proxy/custom.md.j2"
    switch_template = UNKNOWN_SWITCH_TEMPLATE

    def explain_unsupported_route(self, container: EffectiveContainer, route: schema.Route) -> tuple[str, str] | None:
        """Nobody knows how it asks for a password."""
        if route.basic_auth:
            return (
                "`basic_auth` needs a proxy that is known, and the kind is `custom`",
                "have your own proxy ask for the password, and leave out `basic_auth`",
            )
        return explain_middlewares(route)
