"""What to write in place of a key that people expect, because a Compose file or another tool has it there."""

from pydantic import BaseModel

from kiwari_ci.schema import Build, BuildArg, ContainerOptions, Environment, Health, Network, Setup, Spec, Test
from kiwari_ci.schema.compose_keys import suggest_compose_key
from kiwari_ci.schema.schedules import Backup

_HEALTHCHECK = "by: healthcheck, with `healthcheck: {test: [CMD, …]}` beside `health`"
_WAIT = "start_period: 3m, for how long a deploy waits; `interval` and `retries` are of `healthcheck`"
_CREATED_BY_HAND = "create the network on the host with `docker network create`, and write {external: NAME}"
_JOBS = "jobs: {NAME: {schedule: '0 4 * * *', command: [./api, clean]}}"
_COPY = """copy_to: {command: 'rclone copyto "$BACKUP_FILE" "far:$BACKUP_NAME"'}"""

_OF_SPEC = {
    "volumes": "leave it out: `volumes` of a service is enough; those of an environment name existing volumes",
    "networks": "`networks` of a service; {external: NAME} for a network that exists already",
    "secrets": "`env` of a service: {KEY: {secret: true}}",
    "configs": "`files` of an environment, and `volumes` of a service: ['./app.conf:/etc/app.conf:ro']",
    "version": "leave it out",
}
_OF_HEALTH = {
    **dict.fromkeys(("command", "cmd", "test", "exec"), _HEALTHCHECK),
    **dict.fromkeys(("tcp", "port"), "by: tcp"),
    "grpc": "by: tcp; or by: healthcheck, with `healthcheck: {test: [CMD, grpc_health_probe, …]}`",
    **dict.fromkeys(("interval", "retries", "timeout", "timeout_seconds"), _WAIT),
}
_OF_NETWORK = {
    "aliases": "others reach a container by its name, which `containers` of an environment sets: {web: backend}",
    "ipv4_address": "others reach a container by its name",
    **dict.fromkeys(("driver", "driver_opts", "ipam", "attachable", "enable_ipv6", "labels"), _CREATED_BY_HAND),
}
_OF_CONTAINER = {
    "start_period": "health: {start_period: 3m}",
    **dict.fromkeys(("schedule", "cron", "crontab", "scheduled"), _JOBS),
}
_OF_BACKUP = {
    **dict.fromkeys(("retention", "count", "days"), "keep: 14"),
    **dict.fromkeys(("s3", "bucket", "destination", "to", "rclone", "restic"), _COPY),
    "cron": "schedule: '15 3 * * *'",
}
_OF_TEST = dict.fromkeys(
    ("container", "needs", "artifacts", "uses"),
    "workflow: tests.yml, a workflow of your own with `workflow_call`, which can have everything that GitHub has",
)
_OF_SETUP = dict.fromkeys(
    ("php", "bun", "deno", "dotnet", "ruby", "rust", "elixir", "flutter", "gradle"),
    "steps: {before_test: [{name: Set it up, uses: OWNER/ACTION}]} of the service; or `run`, if the runner has it",
)
_OF_BUILD = dict.fromkeys(
    ("contexts", "build_contexts", "additional_contexts"),
    "base: {NODE: node} for an image of another service, with `ARG NODE` and `FROM $NODE AS node` in the Dockerfile",
)
_OF_ENVIRONMENT = {
    **dict.fromkeys(("prune", "cleanup"), "leave it out: a deploy removes old images, and keeps the last three"),
    **dict.fromkeys(("network", "networks"), "`networks` of a service: [{external: NAME}] for one that exists already"),
    **dict.fromkeys(("timeout_minutes", "timeout"), "leave it out: the limit of the job is what its services may take"),
}
_OF_BUILD_ARGUMENT = {"secret": "secrets: {npm_token: NPM_TOKEN} below `build`, for everybody can read an argument"}

_TABLES: dict[type[BaseModel], dict[str, str]] = {
    Spec: _OF_SPEC,
    Health: _OF_HEALTH,
    Network: _OF_NETWORK,
    Backup: _OF_BACKUP,
    Build: _OF_BUILD,
    BuildArg: _OF_BUILD_ARGUMENT,
    Environment: _OF_ENVIRONMENT,
    Setup: _OF_SETUP,
    Test: _OF_TEST,
}


def find_key_alternative(model: type[BaseModel] | None, key: str) -> str:
    """Find what to write in place of a key that a model does not have; empty when nothing is known."""
    if model is None:
        return ""
    if issubclass(model, ContainerOptions):
        return _OF_CONTAINER.get(key) or suggest_compose_key(key)
    if model is Spec and key.startswith("x-"):
        return "what services have in common goes into `service_defaults`"
    return _TABLES.get(model, {}).get(key, "")
