"""Public addresses: which domain, and which path of it, leads to a service."""

from typing import Annotated, Any, get_args

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from kiwari_ci.schema.base import OneOrMany, SpecModel
from kiwari_ci.schema.text_formats import DomainAndPath, DomainName, Omittable, RoutePath


class Route(SpecModel):
    """A public address that leads to a service: a domain, or a path of one. `example.com/api` is its short form."""

    domain: DomainName = Field(description="The domain.")
    path: Omittable[RoutePath] = Field(
        None,
        description="The path that leads there, and all below it: `/api` for `/api` and `/api/users`, and not for "
        "`/apis`; the longest path of a domain wins. Default: what no other service of the domain has.",
    )
    strip_path: bool = Field(
        False, description="Whether the service gets `/users` for `/api/users`; else the path as it was asked for."
    )

    @property
    def address(self) -> str:
        """The domain and the path, as a person writes them."""
        return self.domain + (self.path or "")

    @model_validator(mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """A text is a domain, with a path or without."""
        if isinstance(value, dict):
            return value
        _, text_format = get_args(DomainAndPath)
        domain, slash, path = text_format.checked(str(value)).partition("/")
        return {"domain": domain, "path": slash + path} if slash else {"domain": domain}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Tell editors about the short form, too."""
        schema: dict[str, Any] = handler.resolve_ref_schema(handler(core_schema))
        _, text_format = get_args(DomainAndPath)
        description = schema.pop("description")
        short_form = {"type": "string", "pattern": f"^(?:{text_format.pattern})$"}
        return {"description": description, "anyOf": [schema, short_form]}


Routes = Annotated[list[Route], OneOrMany(str, dict, int, float), Field(min_length=1)]
