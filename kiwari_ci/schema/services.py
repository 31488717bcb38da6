"""Services, each an image of the monorepo or another process of one, and accessories, which are others' images."""

from typing import Annotated, Literal

from pydantic import Field

from kiwari_ci.schema.base import SpecModel
from kiwari_ci.schema.compose_mapping import WritesComposeKey
from kiwari_ci.schema.containers import ContainerOptions
from kiwari_ci.schema.images import Build, BuildOverride
from kiwari_ci.schema.schedules import Job
from kiwari_ci.schema.steps import Steps
from kiwari_ci.schema.tests import Test
from kiwari_ci.schema.text_formats import (
    DomainName,
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

ReplicaCount = Annotated[int, Field(ge=1, le=20)]


class Health(SpecModel):
    """How a service says that it is well."""

    by: Literal["http", "tcp", "healthcheck"] = Field(
        "http",
        description="`http`: `path` is asked; `tcp`: `port` takes connections, for php-fpm and gRPC; `healthcheck`: "
        "Docker's `healthcheck` succeeds, a command in the container, also for a worker.",
    )
    path: UrlPath = Field("/health", description="The path that is asked, on the service's port and at its domain.")
    status: Annotated[int, Field(ge=200, le=399)] = Field(
        200, description="The HTTP status that means well; redirects are not followed."
    )
    host: Omittable[DomainName] = Field(
        None,
        description="The `Host` header with which the server asks a container, for what answers to known names only "
        "(Django's `ALLOWED_HOSTS`); default: the service's domain.",
    )
    start_period: Omittable[StartPeriod] = Field(
        None, description="How long a new container may take until it answers: `3m`; default: 60 seconds."
    )


class _ServiceFields(SpecModel):
    """What a service has and an accessory has not; its fields come first."""

    image: Annotated[Omittable[ImageName], WritesComposeKey("image")] = Field(
        None, description="Its image's name; default: `<project>-<service>`."
    )
    image_of: Omittable[Slug] = Field(
        None,
        description="The service whose image it runs, as another process: `{image_of: api, command: [./worker]}`; "
        "deployed after it, with the same bytes, and with its env file where it has no `env` of its own.",
    )
    paths: Omittable[list[PathPattern]] = Field(
        None,
        min_length=1,
        description="GitHub path filters of its source; the Dockerfile, `.dockerignore` and the workflow "
        "come by themselves; default: `<service>/**`.",
    )
    build: Build = Field(Build.model_construct(), description="How the image is built.")
    test: Omittable[Test] = Field(None, description="What must pass before the image is built.")
    steps: Steps = Field(Steps.model_construct(), description="Steps of your own in its workflow.")
    tests: dict[Slug, Test] = Field(
        {}, description="Several such, by name, each a job of its own: `{unit: {run: …}, browser: {run: …}}`."
    )
    port: Omittable[PortNumber] = Field(
        None,
        description="The port that it listens on in its container; without one it is a worker: well while it runs.",
    )
    health: Health = Field(Health.model_construct(), description="How it says that it is well.")
    rollout: Literal["start-first", "recreate"] = Field(
        "start-first",
        description="`start-first`: the new one answers before the old one goes, which takes memory for two; "
        "`recreate`: for what cannot run twice, with a gap.",
    )
    migrate: Omittable[list[TextLine]] = Field(
        None,
        min_length=1,
        description="What a deploy runs with the new image before it replaces a container: `[./api, migrate]`; when it "
        "fails, so does the deploy, and the old version serves on. A deploy that is run again runs it again.",
    )
    once: bool = Field(
        False,
        description="Whether it ends: a deploy runs it to its end with the new image, before those that wait until it "
        "is `completed`, and fails unless its exit code is 0. For a migration with an image of its own, a seed, files "
        "that are copied into a volume; it has no `port`.",
    )
    jobs: dict[Slug, Job] = Field(
        {},
        description="What runs on a schedule with its image, by name: "
        "`{clean: {schedule: '0 4 * * *', command: [./api, clean]}}`.",
    )
    replicas: Annotated[ReplicaCount, WritesComposeKey("scale")] = Field(
        1, description="How many of it run: `NAME`, `NAME-2`, … behind one name; deployed one after the other."
    )
    websocket: bool = Field(False, description="Whether the proxy passes WebSockets on.")


class Service(ContainerOptions, _ServiceFields):
    """One image of the monorepo, or another process of one, and the container that runs it."""


class _AccessoryFields(SpecModel):
    """What an accessory has and a service has not; its fields come first."""

    image: Annotated[ImageReference, WritesComposeKey("image")] = Field(
        description="Its image, with a version or a digest: `redis:7-alpine`."
    )
    once: bool = Field(
        False, description="Whether it runs to its end before each deploy, such as one that makes a bucket."
    )
    port: Omittable[PortNumber] = Field(None, description="The port that its domain leads to.")
    websocket: bool = Field(False, description="Whether the proxy passes WebSockets on.")


class Accessory(ContainerOptions, _AccessoryFields):
    """Somebody else's image in the stack, which no workflow builds: a deploy starts it when it is not there."""


class Override(ContainerOptions):
    """What one environment changes of a service or an accessory: mappings by their keys, the rest as a whole."""

    build: BuildOverride = Field(
        BuildOverride(),
        description="Build arguments that differ, `{args: {PUBLIC_URL: …}}`: each environment then has an image of its "
        "own, `<image>-<environment>`, built by a workflow of its own, and none is promoted.",
    )
    health: Health = Field(Health.model_construct(), description="How it says that it is well.")
    rollout: Literal["start-first", "recreate"] = Field("start-first", description="How it is replaced.")
    replicas: ReplicaCount = Field(1, description="How many of it run.")
