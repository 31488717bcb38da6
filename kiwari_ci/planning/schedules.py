"""What runs by the clock: the part `x-schedule` of a compose file, which deploy/bin/database reads."""

from collections.abc import Mapping

from kiwari_ci import schema
from kiwari_ci.effective import derived
from kiwari_ci.plan import ComposeAttribute
from kiwari_ci.plan.base import FrozenMapping
from kiwari_ci.planning.containers import escape_dollar_signs


def plan_backups(server: schema.DatabaseServer, databases: tuple[str, ...]) -> tuple[ComposeAttribute, ...]:
    """The settings of each database's backup, by its name."""
    if server.backup is None:
        return ()
    copy = server.backup.copy_to
    settings = {
        "schedule": server.backup.schedule,
        "timezone": server.backup.timezone,
        "keep": server.backup.keep,
        "copy-folder": copy and copy.folder,
        "copy-command": copy and copy.command,
    }
    return tuple(ComposeAttribute(name, _freeze(settings)) for name in databases)


def plan_jobs(given: schema.Spec, environment: str) -> tuple[ComposeAttribute, ...]:
    """The settings of what runs by the clock in a stack, by the name of the service and of the job."""
    jobs = []
    for service in derived.list_services(given, environment):
        for name, job in derived.resolve_service(given, environment, service).jobs.items():
            settings = {
                "schedule": job.schedule,
                "timezone": job.timezone,
                "service": derived.derive_container_name(given, environment, service),
                "command": job.command,
            }
            jobs.append(ComposeAttribute(f"{service}-{name}", _freeze(settings)))
    return tuple(jobs)


def _freeze(settings: Mapping[str, object]) -> FrozenMapping:
    found = {key: value for key, value in settings.items() if value is not None}
    return FrozenMapping((key, escape_dollar_signs(value)) for key, value in found.items())
