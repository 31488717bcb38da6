"""What runs on a host on a schedule: backups of databases, and commands of services."""

from typing import Annotated

from pydantic import Field

from kiwari_ci.schema.base import AnyOf, SpecModel
from kiwari_ci.schema.text_formats import CronLine, HostFolder, Omittable, TextLine, TimeZone


class BackupCopy(AnyOf):
    """Where a copy of each dump goes; a copy that fails is a failure of the backup."""

    folder: Omittable[HostFolder] = Field(
        None, description="A folder on the host, usually of another machine's disk; it must exist: `/srv/nas`."
    )
    command: Omittable[TextLine] = Field(
        None,
        description="A command of bash that copies the dump `$BACKUP_FILE` under the name `$BACKUP_NAME`: "
        '`rclone copyto "$BACKUP_FILE" "far:$BACKUP_NAME"`.',
    )


class Backup(SpecModel):
    """Dumps of each database of a server, made on the host; also before each deploy that migrates."""

    schedule: CronLine = Field("15 3 * * *", description="When, as a cron line.")
    timezone: Omittable[TimeZone] = Field(None, description="The time zone of `schedule`; default: UTC.")
    keep: Annotated[int, Field(ge=1, le=365)] = Field(
        14, description="How many dumps are kept of each database; as many of those before deploys."
    )
    copy_to: Omittable[BackupCopy] = Field(None, description="Where a copy of each dump goes.")


class Job(SpecModel):
    """A command that runs on a schedule, in a new container of the service, with the image that serves."""

    schedule: CronLine = Field(description="When, as a cron line.")
    timezone: Omittable[TimeZone] = Field(None, description="The time zone of `schedule`; default: UTC.")
    command: list[TextLine] = Field(min_length=1, description="What runs: `[python, manage.py, clearsessions]`.")
