"""A proxy outside of Docker, which passes requests to ports that the host publishes."""

from kiwari_ci import schema
from kiwari_ci.effective_spec import EffectiveContainer
from kiwari_ci.effective_spec.values import find_published_port
from kiwari_ci.proxies.base import ExistingProxy, explain_middlewares


class ExternalProxy(ExistingProxy):
    """A proxy of which nothing is known."""

    name_cache_seconds = 0  # a published port has no name
    unrouted_statuses: tuple[int, ...] = ()
    guide_template = "proxy/external.md.j2"
    switch_template = "proxy/switch-on-host.md.j2"

    def explain_unreachable_domain(self, container: EffectiveContainer) -> tuple[str, str] | None:
        """A domain leads to a port that the host publishes, so there must be one."""
        port = container.options.port
        if not port or find_published_port(container.options.ports or (), port):
            return None
        reason = (
            f"environments.{container.environment.name} has a domain for {container.name}, and its host has no proxy"
        )
        publishing = f"{container.table}.{container.name}.ports: ['127.0.0.1:{port}:{port}'], where another proxy leads"
        return reason, f"{publishing}; or `kind: caddy` for the host; or leave out the domain"

    def explain_unsupported_route(self, container: EffectiveContainer, route: schema.Route) -> tuple[str, str] | None:
        """Nobody knows how it asks for a password."""
        if route.basic_auth:
            return (
                "`basic_auth` needs a proxy that is known, and the kind is `none`",
                "have your own proxy ask for the password, and leave out `basic_auth`",
            )
        return explain_middlewares(route)
