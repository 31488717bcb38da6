"""Images: where they are kept, what gates them, how they are built."""

from typing import Literal

from pydantic import Field

from kiwari_ci.spec.base import Model, OneOf
from kiwari_ci.texts import File, Folder, ImageName, Maybe, Script, SecretName, Version


class PullToken(OneOf):
    """What the host pulls images with."""

    shorthand = "token"
    token: Maybe[Literal["job"]] = Field(
        None, description="`job`: the token of the deploy job itself, which ends with the job."
    )
    secret: Maybe[SecretName] = Field(None, description="Name of a secret that holds a token with `read:packages`.")


class Registry(Model):
    """Where images are kept."""

    host: Literal["ghcr.io"] = Field("ghcr.io", description="The registry's host.")
    namespace: Maybe[ImageName] = Field(
        None, description="Owner of the packages, in lower case; default: the repository's owner."
    )
    pull_token: PullToken = Field(
        PullToken(token="job"), description="What the host pulls images with; default: `job`."
    )


class Tool(OneOf):
    """The version of a language, written down or read from a file."""

    shorthand = "version"
    version: Maybe[Version] = Field(None, description="The version, in quotes: '1.24'.")
    version_file: Maybe[File] = Field(None, description="The file in the repository that names the version.")


class Setup(OneOf):
    """The language that the tests need."""

    go: Maybe[Tool] = Field(None, description="Go, by actions/setup-go.")
    node: Maybe[Tool] = Field(None, description="Node.js, by actions/setup-node.")
    python: Maybe[Tool] = Field(None, description="Python, by actions/setup-python.")


class Test(Model):
    """The tests that gate a build."""

    setup: Maybe[Setup] = Field(None, description="The language to install first.")
    working_directory: Maybe[Folder] = Field(
        None, description="The folder that the command runs in; default: the repository's root."
    )
    run: Script = Field(description="The command, in bash.")


class Build(Model):
    """How an image is built."""

    context: Folder = Field(".", description="The build context, a folder of the repository.")
    dockerfile: Maybe[File] = Field(
        None, description="The Dockerfile, from the repository's root; default: `<service>/Dockerfile`."
    )
