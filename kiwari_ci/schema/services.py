"""Services, each an image of the monorepo or another process of one, and accessories, which are others' images."""

from typing import Annotated, Literal

from pydantic import Field

from kiwari_ci.schema.base import SpecModel
from kiwari_ci.schema.compose_mapping import WritesComposeKey
from kiwari_ci.schema.containers import ContainerOptions
from kiwari_ci.schema.images import Build, BuildOverride, SharedBuild
from kiwari_ci.schema.schedules import Job
from kiwari_ci.schema.steps import Steps
from kiwari_ci.schema.tests import Test
from kiwari_ci.schema.text_formats import (
    HostHeader,
    ImageName,
    ImageReference,
    Omittable,
    PathPattern,
    PortNumber,
    Slug,
    StartPeriod,
    TextLine,
    UrlPath,
)

IMAGE_FIELDS = ("image", "paths", "build", "test", "tests", "steps")  # what a service with `image_of` has not
ONE_SHOT_EXCLUDES = ("port", "healthcheck", "health", "websocket", "rollout", "replicas", "migrate", "jobs")
HTTP_HEALTH_FIELDS = ("path", "status", "host")  # of `health`, for requests over HTTP

ReplicaCount = Annotated[int, Field(ge=1, le=20)]


class Health(SpecModel):
    """How a deploy checks that a service is healthy."""

    by: Literal["http", "tcp", "healthcheck"] = Field(
        "http",
        description="`http`: the deploy requests `path`; `tcp`: it connects to `port`, for php-fpm and gRPC; "
        "`healthcheck`: it waits until Docker's `healthcheck`, a command in the container, succeeds, also"
        " for a worker.",
    )
    path: UrlPath = Field(
        "/health", description="The path that the health check requests, on the service's port and at its domain."
    )
    status: Annotated[int, Field(ge=200, le=399)] = Field(
        200, description="The HTTP status code of a healthy service; the check does not follow redirects."
    )
    host: Omittable[HostHeader] = Field(
        None,
        description="The `Host` header of requests from the server to a container, for a service that answers only to"
        " names that it knows (Django's `ALLOWED_HOSTS`); default: the service's domain.",
    )
    start_period: Omittable[StartPeriod] = Field(
        None,
        description="How long a new container may take until it answers: `3m`. The time limit of the job that deploys "
        "follows it, and `stop_grace_period`; default: 60 seconds.",
    )


class _SharedServiceFields(SpecModel):
    """What a service has, an accessory has not, and several services may have in common."""

    health: Health = Field(Health.model_construct(), description="How a deploy checks that it is healthy.")
    rollout: Literal["start-first", "recreate"] = Field(
        "start-first",
        description="`start-first`: the old container stops only after the new one answers, so there must be memory "
        "for both; `recreate`: it stops first, with a gap, because two must not run at once. On a server, a worker "
        "stops first, unless it has `health: {by: healthcheck}` and `rollout: start-first`.",
    )
    replicas: Annotated[ReplicaCount, WritesComposeKey("scale")] = Field(
        1,
        description="How many containers of it run: `NAME`, `NAME-2` and so on, all behind one name. They are "
        "deployed one after the other.",
    )
    websocket: bool = Field(False, description="Whether the proxy forwards WebSockets to it.")


class _ServiceFields(SpecModel):
    """What one service has, which tells it from the others; its fields come first."""

    image: Annotated[Omittable[ImageName], WritesComposeKey("image")] = Field(
        None,
        description="The name of its image, which is a repository of its own in the registry; default: "
        "`<project>-<service>`.",
    )
    image_of: Omittable[Slug] = Field(
        None,
        description="The service whose image it runs, with another process: `{image_of: api, command: [./worker]}`. "
        "It is deployed after that service, with the same image, and uses its env file if it has no `env`"
        " of its own; it takes no `environment`, `volumes` or `networks` of it.",
    )
    paths: Omittable[list[PathPattern]] = Field(
        None,
        min_length=1,
        description="GitHub path filters for its source. The Dockerfile, `.dockerignore` and the workflow are added "
        "automatically; default: `<service>/**`.",
    )
    build: Build = Field(Build.model_construct(), description="How the image is built.")
    test: Omittable[Test] = Field(None, description="The tests that must pass before the image is built.")
    steps: Steps = Field(Steps.model_construct(), description="Steps of your own in the service's workflow.")
    tests: dict[Slug, Test] = Field(
        {}, description="Several tests, by name, each in a job of its own: `{unit: {run: …}, browser: {run: …}}`."
    )
    port: Omittable[PortNumber] = Field(
        None,
        description="The port on which it listens in its container. A service without a port is a worker: it is "
        "healthy while it runs.",
    )
    migrate: Omittable[list[TextLine]] = Field(
        None,
        min_length=1,
        description="The command that a deploy runs with the new image before it replaces a container: `[./api, "
        "migrate]`. If it fails, the deploy fails, and the old version continues to serve. A deploy that is run again "
        "runs it again. It runs before all services with `once`.",
    )
    once: bool = Field(
        False,
        description="Whether it runs to its end. A deploy runs it with the new image before the services that wait "
        "until it is `completed`, and fails if its exit code is not 0. Use it for a migration with an "
        "image of its own, for seed data, or to copy files into a volume. It has no `port`.",
    )
    jobs: dict[Slug, Job] = Field(
        {},
        description="Commands that run on a schedule with its image, by name: `{clean: {schedule: '0 4 * * *', "
        "command: [./api, clean]}}`.",
    )


class Service(ContainerOptions, _SharedServiceFields, _ServiceFields):
    """An image that is built from the monorepo, or another process of one, and the container that runs it."""


class ServiceDefaults(ContainerOptions, _SharedServiceFields):
    """What services have in common.

    If a service has the same key, mappings are merged, and other values replace the default, as in `overrides`.
    A service ignores a default that it cannot have. Without a `port`, it takes no `websocket`, and `health` only with
    `by: healthcheck`; if it is not checked over HTTP, it takes no `path`, `status` and `host` of `health`. With `once`,
    it takes no `health`, `healthcheck`, `rollout`, `replicas` and `websocket`. With `image_of`, it takes no `build`,
    and `env` only if it has an `env` of its own. No service waits for itself because of a `depends_on` here.
    A service cannot remove a default: write what only some services need in these services.
    """

    build: SharedBuild = Field(SharedBuild.model_construct(), description="How the images are built.")


class _AccessoryFields(SpecModel):
    """What an accessory has and a service has not; its fields come first."""

    image: Annotated[ImageReference, WritesComposeKey("image")] = Field(
        description="Its image, with a version or a digest: `redis:7-alpine`."
    )
    once: bool = Field(
        False, description="Whether it runs to its end before each deploy, for example to create a bucket."
    )
    port: Omittable[PortNumber] = Field(None, description="The port to which its domain leads.")
    websocket: bool = Field(False, description="Whether the proxy forwards WebSockets to it.")


class Accessory(ContainerOptions, _AccessoryFields):
    """A container in the stack whose image no workflow here builds. A deploy starts it if it does not run.

    To run an image of your own, such as PostgreSQL with an extension, push it with a version in a workflow of your own.
    """


class Override(ContainerOptions):
    """What one environment changes in a service or accessory. Mappings are merged by key; other values are replaced."""

    build: BuildOverride = Field(
        BuildOverride(),
        description="Build arguments that differ, `{args: {PUBLIC_URL: …}}`. Each environment then has its own image,"
        " `<image>-<environment>`, which a workflow of its own builds, and no image is promoted.",
    )
    health: Health = Field(Health.model_construct(), description="How a deploy checks that it is healthy.")
    rollout: Literal["start-first", "recreate"] = Field(
        "start-first", description="How a deploy replaces its container."
    )
    replicas: ReplicaCount = Field(1, description="How many containers of it run.")
