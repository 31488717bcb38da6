"""What runs by the clock: cron lines and time zones, read as the program on the host reads them."""

from collections.abc import Iterator

from kiwari_ci.engines.compose import database
from kiwari_ci.loading.validation import format_yaml_path, report_at_value
from kiwari_ci.loading.yaml_source import YamlPath, YamlSource
from kiwari_ci.problems import Problem
from kiwari_ci.schema import Spec
from kiwari_ci.schema.schedules import Backup, Job


def check_schedules(source: YamlSource, given: Spec) -> Iterator[Problem]:
    """Every schedule comes at some time, in a time zone that there is."""
    for loc, scheduled in _iter_scheduled(given):
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


def _iter_scheduled(given: Spec) -> Iterator[tuple[YamlPath, Backup | Job]]:
    for name, server in given.databases.items():
        if server.backup:
            yield ("databases", name, "backup"), server.backup
    for name, service in given.services.items():
        for job, model in service.jobs.items():
            yield ("services", name, "jobs", job), model
