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
    """The token with which the host pulls images."""

    shorthand = "token"
    token: Omittable[Literal["job"]] = Field(
        None, description="`job`: the token of the deploy job itself, which expires when the job ends."
    )
    secret: Omittable[SecretName] = Field(
        None,
        description="The name of a secret with a token that may pull images; on ghcr.io, a token with `read:packages`.",
    )


class Registry(SpecModel):
    """The registry that keeps the images."""

    host: RegistryHost = Field("ghcr.io", description="The host of the registry.")
    namespace: Omittable[ImageName] = Field(
        None, description="The owner of the packages, in lower case; default: the repository's owner."
    )
    user: Omittable[RegistryUser] = Field(
        None, description="For a registry other than ghcr.io, the login to which its tokens belong."
    )
    push_token: Omittable[Secret] = Field(
        None, description="For a registry other than ghcr.io, the token with which images are pushed: `{secret: NAME}`."
    )
    pull_token: PullToken = Field(
        PullToken(token="job"), description="The token with which the host pulls images; default: `job`."
    )


class BuildArg(OneOf):
    """The value of a build argument: plain text, or a variable that GitHub keeps. Never put a secret here."""

    shorthand = "value"
    value: Omittable[TrimmedLine] = Field(None, description="Plain text: `NODE_ENV: production`.")
    variable: Omittable[SecretName] = Field(None, description="The name of a variable of the repository.")


class BuildOverride(SpecModel):
    """What is different in the build of one environment's own image."""

    args: dict[EnvKey, BuildArg] = Field(
        {}, description="Build arguments, by name. They are added to those of `build`, or replace them."
    )


class Scan(SpecModel):
    """A scanner that must succeed before an image is deployed. It gets the image, but no token."""

    image: ImageReference = Field(description="The scanner's image, with a version or a digest.")
    command: list[TextLine] = Field(
        min_length=1,
        description="The arguments of the scanner. The image is the file `/image.tar`: `[image, --input, /image.tar, "
        "--exit-code, '1']`.",
    )


class SharedBuild(SpecModel):
    """What the builds of several images may have in common."""

    target: Omittable[StageName] = Field(None, description="The stage to build; default: the last one.")
    args: dict[EnvKey, BuildArg] = Field(
        {}, description="Build arguments (`ARG`), by name. Whoever has the image can read them."
    )
    secrets: dict[BuildSecretId, SecretName] = Field(
        {},
        description="Secrets of the build, by the id of the secret mount in the `RUN` line: `{npm_token: NPM_TOKEN}`."
        " No layer of the image contains them.",
    )
    platforms: Omittable[list[Platform]] = Field(
        None,
        min_length=1,
        description="The platforms of the image: `[linux/arm64]` for a server with such a processor. A platform that "
        "the runner does not have is emulated, which is slow; default: the runner's.",
    )
    cache: bool = Field(
        False,
        description="Whether layers are kept in the registry, as `:buildcache`, for the next build. This saves "
        "minutes if the build installs dependencies, and costs the upload of every layer.",
    )
    scan: Omittable[Scan] = Field(
        None, description="A scanner that checks the image after it was pushed. If it fails, the run deploys nothing."
    )
    attest: bool = Field(
        False,
        description="Whether GitHub signs where the image comes from; `gh attestation verify` checks the signature. "
        "For a public repository, or on GitHub Enterprise Cloud.",
    )


class _OwnBuild(SpecModel):
    """What tells the build of one image from the others; its fields come first."""

    context: RepositoryFolder = Field(".", description="The build context, a folder of the repository.")
    dockerfile: Omittable[RepositoryFile] = Field(
        None, description="The path of the Dockerfile from the repository's root; default: `<service>/Dockerfile`."
    )
    base: dict[EnvKey, Slug] = Field(
        {},
        description="Images of other services from which it is built, by build argument: `{BASE: php-base}` for `ARG "
        "BASE` and `FROM $BASE`. When one of them changes, it is built again, in the same workflow.",
    )


class Build(SharedBuild, _OwnBuild):
    """How an image is built."""
