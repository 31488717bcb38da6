"""The base classes of the models of a spec."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_before_validator_function

from kiwari_ci.schema.text_formats import Omittable, SecretName


def simplify_json_schema(schema: dict[str, Any]) -> None:
    """A JSON Schema without what pydantic adds and no editor needs; only keys of the right form in its tables."""
    schema.pop("title", None)
    for field in schema["properties"].values():
        field.pop("title", None)
        if field.get("default") is None or isinstance(field["default"], dict):
            field.pop("default", None)
        if "patternProperties" in field:
            field["additionalProperties"] = False


class SpecModel(BaseModel):
    """The base of all: unknown keys are faults, types are taken literally, nothing changes later."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        json_schema_extra=simplify_json_schema,
        defer_build=True,  # one validator for the whole spec is made, and not one for each model
    )


class OneOf(SpecModel):
    """A mapping of which exactly one key is written; a bare value stands for the key `shorthand`."""

    shorthand: ClassVar[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _spread(cls, value: Any) -> Any:
        return {cls.shorthand: value} if cls.shorthand and not isinstance(value, dict | list) else value

    @model_validator(mode="after")
    def _exactly_one(self) -> "OneOf":
        if len(self.model_fields_set) != 1:
            names = " or ".join(f"`{field}`" for field in type(self).model_fields)
            raise PydanticCustomError("one_of", "expected exactly one of {names}", {"names": names})
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> dict[str, Any]:
        """Tell editors about the shorthand, too."""
        schema: dict[str, Any] = handler.resolve_ref_schema(handler(core_schema))
        schema |= {"minProperties": 1, "maxProperties": 1}
        if not cls.shorthand:
            return schema
        description = schema.pop("description")
        return {"description": description, "anyOf": [schema, schema["properties"][cls.shorthand]]}


class AnyOf(SpecModel):
    """A mapping of which at least one key is written, except for those that only say more about another."""

    supplements: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="after")
    def _at_least_one(self) -> "AnyOf":
        if not self.model_fields_set - self.supplements:
            fields = [field for field in type(self).model_fields if field not in self.supplements]
            names = " or ".join(f"`{field}`" for field in fields)
            raise PydanticCustomError("some_of", "expected at least one of {names}", {"names": names})
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> dict[str, Any]:
        """Tell editors, too."""
        schema: dict[str, Any] = handler.resolve_ref_schema(handler(core_schema))
        return schema | {"minProperties": 1}


def require_true(value: object) -> object:
    """Literal alone takes 1 for true."""
    if value is True:
        return value
    raise PydanticCustomError("text", "expected {expected}", {"expected": "`true`", "pattern": "true"})


class OneOrMany:
    """A list for which a person may also write a single item."""

    def __init__(self, *item_types: type) -> None:
        """Keep the types of a value that is an item and no list."""
        self.item_types = item_types

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read an item as the only one."""

        def wrap_in_list(value: Any) -> Any:
            return [value] if isinstance(value, self.item_types) else value

        return no_info_before_validator_function(wrap_in_list, handler(source))

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Tell editors about the single item, too."""
        schema = handler(core_schema)
        return {"anyOf": [schema["items"], schema]}


class Secret(SpecModel):
    """A secret of the repository or of a GitHub environment, by name."""

    secret: SecretName = Field(
        description="Name of the secret; never its value. Names that the runner or Docker reads, such as "
        "`DOCKER_HOST`, are refused."
    )


class Reference(OneOf):
    """A setting that GitHub keeps: a secret or a variable, by name."""

    secret: Omittable[SecretName] = Field(None, description="Name of the secret.")
    variable: Omittable[SecretName] = Field(None, description="Name of the variable.")
