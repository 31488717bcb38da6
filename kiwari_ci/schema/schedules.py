"""What runs on a host on a schedule: backups of databases, and commands of services."""

from typing import Annotated

from pydantic import Field

from kiwari_ci.schema.base import AnyOf, SpecModel
from kiwari_ci.schema.text_formats import CronLine, HostFolder, Omittable, TextLine, TimeZone


class BackupCopy(AnyOf):
    """Where a copy of each dump goes. If the copy fails, the backup fails."""

    folder: Omittable[HostFolder] = Field(
        None, description="A folder on the host that must exist, usually on the disk of another machine: `/srv/nas`."
    )
    command: Omittable[TextLine] = Field(
        None,
        description="A bash command that copies the dump `$BACKUP_FILE` under the name `$BACKUP_NAME`: `rclone copyto"
        ' "$BACKUP_FILE" "far:$BACKUP_NAME"`.',
    )


class Backup(SpecModel):
    """Dumps of each database of a server, which the host makes on a schedule and before each deploy that migrates."""

    schedule: CronLine = Field("15 3 * * *", description="The times of the backups, as a cron line.")
    timezone: Omittable[TimeZone] = Field(None, description="The time zone of `schedule`; default: UTC.")
    keep: Annotated[int, Field(ge=1, le=365)] = Field(
        14, description="How many dumps of each database are kept. The dumps before deploys are counted separately."
    )
    copy_to: Omittable[BackupCopy] = Field(None, description="Where a copy of each dump goes.")


class Job(SpecModel):
    """A command that runs on a schedule, in a new container of the service, with the image that serves."""

    schedule: CronLine = Field(description="The times at which it runs, as a cron line.")
    timezone: Omittable[TimeZone] = Field(None, description="The time zone of `schedule`; default: UTC.")
    command: list[TextLine] = Field(min_length=1, description="The command: `[python, manage.py, clearsessions]`.")
