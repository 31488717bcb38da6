"""Schedules: the section `x-schedule` of a compose file, which deploy/bin/database reads."""

from collections.abc import Mapping, Sequence

from kiwari_ci.effective_spec import EffectiveDatabaseServer, EffectiveEnvironment
from kiwari_ci.engines.compose.containers import double_dollar_signs
from kiwari_ci.plan_model import ComposeAttribute
from kiwari_ci.plan_model.base import FrozenMapping


def plan_backups(server: EffectiveDatabaseServer, database_names: Sequence[str]) -> tuple[ComposeAttribute, ...]:
    """Plan the backup of each database of a server; its key is the database's name."""
    backup = server.model.backup
    if backup is None:
        return ()
    settings: dict[str, object] = {
        "schedule": backup.schedule,
        "timezone": backup.timezone,
        "keep": backup.keep,
    }
    if backup.copy_to:
        settings["copy-folder"] = backup.copy_to.folder
        settings["copy-command"] = backup.copy_to.command
    return tuple(ComposeAttribute(name, _freeze_settings(settings)) for name in database_names)


def plan_jobs(environment: EffectiveEnvironment) -> tuple[ComposeAttribute, ...]:
    """Plan the jobs of an environment's services; a job's key is `SERVICE-JOB`."""
    jobs = []
    for service in environment.services.values():
        for name, job in service.options.jobs.items():
            settings = {
                "schedule": job.schedule,
                "timezone": job.timezone,
                "service": service.container_name,
                "command": job.command,
            }
            jobs.append(ComposeAttribute(f"{service.name}-{name}", _freeze_settings(settings)))
    return tuple(jobs)


def _freeze_settings(settings: Mapping[str, object]) -> FrozenMapping:
    """Leave out what is not set."""
    return FrozenMapping((key, double_dollar_signs(value)) for key, value in settings.items() if value is not None)
