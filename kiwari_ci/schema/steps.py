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
    secret: Omittable[SecretName] = Field(None, description="The name of a secret.")
    variable: Omittable[SecretName] = Field(None, description="The name of a variable.")


class Step(SpecModel):
    """A step of your own in a generated workflow."""

    name: StepName = Field(description="What the step does, in a few words; the log shows it.")
    run: Omittable[ShellScript] = Field(None, description="A bash command. Give it values with `env`.")
    uses: Omittable[ActionName] = Field(
        None, description="An action, as `owner/name`. Its commit is in `specs/pins/action.yml`, where bots update it."
    )
    inputs: dict[InputName, TrimmedLine] = Field({}, description="The inputs of the action (`with`), as plain text.")
    env: dict[EnvKey, StepValue] = Field({}, description="The environment variables of the step.")
    working_directory: Omittable[RepositoryFolder] = Field(None, description="The folder in which `run` runs.")
    when: Literal["success", "failure", "always"] = Field(
        "success",
        description="`failure`: the step runs only if an earlier step of the job failed, for example to notify "
        "somebody; `always`: also then, but not if the run was cancelled, for example to keep a report.",
    )

    @model_validator(mode="after")
    def _one_thing(self) -> "Step":
        if (self.run is None) == (self.uses is None):
            raise PydanticCustomError("one_of", "expected exactly one of {names}", {"names": "`run` or `uses`"})
        return self


class Steps(SpecModel):
    """Steps of your own, by their place in the workflow."""

    before_test: list[Step] = Field([], description="Steps in each test job, before the tests. They get no secrets.")
    after_test: list[Step] = Field(
        [],
        description="Steps in each test job (of `tests` and `matrix`), after the tests, for example to keep coverage; "
        "`when: always` runs them also if the tests failed. They get no secrets.",
    )
    before_build: list[Step] = Field(
        [],
        description="Steps before the image is built, after the checkout. The build sees the files that they write, "
        "and no `.git`: to record the commit, write `$GITHUB_SHA` into a file.",
    )
    after_deploy: list[Step] = Field(
        [],
        description="Steps after each deploy and its health check. If the tests or the build fail, GitHub skips the "
        "job that deploys, and these steps with it, also with `when: failure`.",
    )
