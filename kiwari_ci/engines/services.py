"""What every engine says of a service: its image, its variables in a deploy, and where it answers."""

from typing import Any

from kiwari_ci import schema
from kiwari_ci.effective import EffectiveService
from kiwari_ci.effective.values import format_variable_name


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
    }


def format_health_endpoint(options: schema.Service) -> str:
    """Write where and with which status a service answers; empty for a worker."""
    if not options.port:
        return ""
    status = "" if options.health.status == 200 else f" {options.health.status}"
    return f":{options.port}{options.health.path}{status}"
