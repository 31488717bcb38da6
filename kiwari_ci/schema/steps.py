"""Steps of the user's own, at named places of a workflow: the way out for what the spec has no field for."""

from typing import Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from kiwari_ci.schema.base import OneOf, SpecModel
from kiwari_ci.schema.text_formats import (
    ActionName,
    EnvKey,
    InputName,
    Omittable,
    RepositoryFolder,
    SecretName,
    ShellScript,
    StepName,
    TrimmedLine,
)


class StepValue(OneOf):
    """A value of a step's environment."""

    shorthand = "value"
    value: Omittable[TrimmedLine] = Field(None, description="Plain text.")
    secret: Omittable[SecretName] = Field(None, description="Name of a secret.")
    variable: Omittable[SecretName] = Field(None, description="Name of a variable.")


class Step(SpecModel):
    """A step of the user's own."""

    name: StepName = Field(description="What it does, in a few words; the log shows it.")
    run: Omittable[ShellScript] = Field(None, description="A command, in bash; values come by `env`.")
    uses: Omittable[ActionName] = Field(
        None, description="An action, `owner/name`; its commit is in `specs/pins/action.yml`, where bots bump it."
    )
    inputs: dict[InputName, TrimmedLine] = Field({}, description="The action's inputs (its `with`), plain text.")
    env: dict[EnvKey, StepValue] = Field({}, description="Its environment.")
    working_directory: Omittable[RepositoryFolder] = Field(None, description="The folder that `run` runs in.")
    when: Literal["success", "failure"] = Field(
        "success", description="`failure`: only when something before it in the job failed, to tell somebody."
    )

    @model_validator(mode="after")
    def _one_thing(self) -> "Step":
        if (self.run is None) == (self.uses is None):
            raise PydanticCustomError("one_of", "expected exactly one of {names}", {"names": "`run` or `uses`"})
        return self


class Steps(SpecModel):
    """Steps by the place where they stand."""

    before_test: list[Step] = Field([], description="In each test job, before the command; no secrets are there.")
    before_build: list[Step] = Field(
        [], description="Before the image is built, where the paths are checked out; what they write, the build sees."
    )
    after_deploy: list[Step] = Field([], description="After each deploy and its health check.")
