"""What every engine says of a service: its image, its variables in a deploy, and where it answers."""

from typing import Any

from kiwari_ci import schema
from kiwari_ci.effective_spec import EffectiveContainer, EffectiveService, find_outside_health_path
from kiwari_ci.effective_spec.values import format_variable_name
from kiwari_ci.plan_model import PublicRoute


def describe_service(service: EffectiveService) -> dict[str, Any]:
    """List the fields that `PlannedService` has beside those of a container."""
    return {
        "service": service.name,
        "source": service.image.name,
        "repository": service.image.repository,
        "tag": service.environment.image_tag,
        "health": format_health_endpoint(service.options),
        "variable": format_variable_name(service.name),
        "digest": f"DIGEST_{format_variable_name(service.name)}",
        "once": service.options.once,
    }


def format_health_endpoint(options: schema.Service) -> str:
    """Write where and with which status a service answers, or how else it is asked; empty for a worker."""
    if options.health.by == "healthcheck":
        return "healthcheck"
    if not options.port:
        return ""
    if options.health.by == "tcp":
        return f"tcp:{options.port}"
    status = "" if options.health.status == 200 else f" {options.health.status}"
    return f":{options.port}{options.health.path}{status}"


def plan_route(container: EffectiveContainer, route: schema.Route) -> PublicRoute:
    """Plan a public address of a container."""
    return PublicRoute(
        scheme=container.environment.url_scheme,
        domain=route.domain,
        path=route.path or "",
        strips_path=bool(route.path) and route.strip_path,
        health_path=find_outside_health_path(container, route),
        auth_list=route.basic_auth or "",
    )
