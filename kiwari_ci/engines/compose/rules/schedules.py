"""Cron lines and time zones, read as the database program on the host reads them."""

from collections.abc import Iterator

from kiwari_ci.effective_spec import EffectiveSpec
from kiwari_ci.problems import Problem
from kiwari_ci.schema.schedules import Backup, Job
from kiwari_ci.spec_loading.validation import format_yaml_path, report_at_value
from kiwari_ci.spec_loading.yaml_source import YamlPath, YamlSource


def check_schedules(source: YamlSource, spec: EffectiveSpec) -> Iterator[Problem]:
    """Find schedules that never come, and time zones that do not exist."""
    for loc, scheduled in _iter_scheduled(spec):
        from kiwari_ci.engines.compose.deploy_programs import database  # the whole program, which few specs need

        try:
            database.parse_schedule(scheduled.schedule)
        except ValueError as error:
            message = f"{format_yaml_path((*loc, 'schedule'))}: {error}"
            yield report_at_value(source, (*loc, "schedule"), "schedule", message, "schedule: '15 3 * * *'")
        try:
            database.check_zone(scheduled.timezone or "UTC")
        except ValueError as error:
            message = f"{format_yaml_path((*loc, 'timezone'))}: {error}"
            yield report_at_value(source, (*loc, "timezone"), "schedule", message, "timezone: Asia/Jakarta")


def _iter_scheduled(spec: EffectiveSpec) -> Iterator[tuple[YamlPath, Backup | Job]]:
    """Everything that has a schedule, with its place, as the spec says it."""
    for name, server in spec.written.databases.items():
        if server.backup:
            yield ("databases", name, "backup"), server.backup
    for name, service in spec.services.items():
        for job_name, job in service.jobs.items():
            yield ("services", name, "jobs", job_name), job
