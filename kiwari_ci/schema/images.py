"""Images: where they are kept, how they are built."""

from typing import Literal

from pydantic import Field

from kiwari_ci.schema.base import OneOf, Secret, SpecModel
from kiwari_ci.schema.text_formats import (
    BuildSecretId,
    EnvKey,
    ImageName,
    ImageReference,
    Omittable,
    Platform,
    RegistryHost,
    RegistryUser,
    RepositoryFile,
    RepositoryFolder,
    SecretName,
    Slug,
    StageName,
    TextLine,
    TrimmedLine,
)


class PullToken(OneOf):
    """What the host pulls images with."""

    shorthand = "token"
    token: Omittable[Literal["job"]] = Field(
        None, description="`job`: the token of the deploy job itself, which ends with the job."
    )
    secret: Omittable[SecretName] = Field(
        None, description="Name of a secret that holds a token that may pull; on ghcr.io, one with `read:packages`."
    )


class Registry(SpecModel):
    """Where images are kept."""

    host: RegistryHost = Field("ghcr.io", description="The registry's host.")
    namespace: Omittable[ImageName] = Field(
        None, description="Owner of the packages, in lower case; default: the repository's owner."
    )
    user: Omittable[RegistryUser] = Field(
        None, description="For another registry than ghcr.io, the login that its tokens are of."
    )
    push_token: Omittable[Secret] = Field(
        None, description="For another registry than ghcr.io, the token that images are pushed with: `{secret: NAME}`."
    )
    pull_token: PullToken = Field(
        PullToken(token="job"), description="What the host pulls images with; default: `job`."
    )


class BuildArg(OneOf):
    """A build argument's value: plain text, or a variable that GitHub keeps. It is no place for a secret."""

    shorthand = "value"
    value: Omittable[TrimmedLine] = Field(None, description="Plain text: `NODE_ENV: production`.")
    variable: Omittable[SecretName] = Field(None, description="Name of a variable of the repository.")


class BuildOverride(SpecModel):
    """What one environment's own image is built with otherwise."""

    args: dict[EnvKey, BuildArg] = Field(
        {}, description="Build arguments, by name, beside those of `build` or in their place."
    )


class Scan(SpecModel):
    """A scanner that must be content with an image before it is deployed; it gets the image, and no token."""

    image: ImageReference = Field(description="The scanner's image, with a version or a digest.")
    command: list[TextLine] = Field(
        min_length=1,
        description="Its words; the image is the file `/image.tar`: `[image, --input, /image.tar, --exit-code, '1']`.",
    )


class Build(SpecModel):
    """How an image is built."""

    context: RepositoryFolder = Field(".", description="The build context, a folder of the repository.")
    dockerfile: Omittable[RepositoryFile] = Field(
        None, description="The Dockerfile, from the repository's root; default: `<service>/Dockerfile`."
    )
    target: Omittable[StageName] = Field(None, description="The stage to build; default: the last one.")
    args: dict[EnvKey, BuildArg] = Field(
        {}, description="Build arguments (`ARG`), by name; who has the image can read them."
    )
    secrets: dict[BuildSecretId, SecretName] = Field(
        {},
        description="Secrets of the build, by the id of the secret mount in its `RUN` line: "
        "`{npm_token: NPM_TOKEN}`; they are in no layer.",
    )
    platforms: Omittable[list[Platform]] = Field(
        None,
        min_length=1,
        description="What the image is for, `[linux/arm64]` for such a server; "
        "what the runner is not is emulated, which is slow; default: the runner's.",
    )
    cache: bool = Field(
        False,
        description="Whether layers are kept in the registry, as `:buildcache`, for the next build. "
        "It saves minutes where dependencies are installed, and costs the upload of every layer.",
    )
    scan: Omittable[Scan] = Field(
        None, description="What scans the image when it was pushed; when that fails, the run deploys nothing."
    )
    attest: bool = Field(
        False,
        description="Whether GitHub signs where the image comes from (`gh attestation verify` checks it; a deploy does "
        "not): for a public repository, or on GitHub Enterprise Cloud.",
    )
    base: dict[EnvKey, Slug] = Field(
        {},
        description="Images of other services that it is built from, by build argument: `{BASE: php-base}` for "
        "`ARG BASE` and `FROM $BASE`; a change of theirs builds it anew.",
    )
