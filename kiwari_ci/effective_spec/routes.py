"""Which public address leads where, and what can be asked there from outside."""

from typing import TYPE_CHECKING

from kiwari_ci import schema

if TYPE_CHECKING:
    from kiwari_ci.effective_spec.containers import EffectiveContainer


def find_outside_health_path(container: "EffectiveContainer", route: schema.Route) -> str:
    """Find the path by which the health of a container is asked at one of its addresses.

    It is empty where no such path exists: the service speaks no HTTP, or the health path is not below the address, or
    leads to another service. An accessory has no health path, so the address itself is asked.
    """
    prefix = route.path or ""
    if not isinstance(container.options, schema.Service):
        return prefix or "/"
    if container.options.health.by != "http":
        return ""
    health_path = container.options.health.path
    outside_path = prefix + health_path if route.strip_path else health_path
    target = _find_route(container, route.domain, outside_path.partition("?")[0])
    return outside_path if target and target.address == route.address else ""


def _find_route(container: "EffectiveContainer", domain: str, path: str) -> schema.Route | None:
    """Find the address of the spec to which a request leads: that with the longest path."""
    routes = container.environment.spec.routes_by_domain[domain]
    candidates = [route for route in routes if _covers(route, path)]
    return max(candidates, key=lambda route: len(route.path or ""), default=None)


def _covers(route: schema.Route, path: str) -> bool:
    prefix = route.path or ""
    return path == prefix or path.startswith(f"{prefix}/")
