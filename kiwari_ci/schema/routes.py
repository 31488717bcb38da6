"""Public addresses: which domain, and which path of it, leads to a service."""

from typing import Annotated, Any, get_args

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from kiwari_ci.schema.base import OneOrMany, SpecModel
from kiwari_ci.schema.text_formats import DomainAndPath, DomainName, Middleware, Omittable, RoutePath, Slug


class Route(SpecModel):
    """A public address that leads to a service: a domain, or a path below it. `example.com/api` is the short form."""

    domain: DomainName = Field(description="The domain.")
    path: Omittable[RoutePath] = Field(
        None,
        description="The path that leads to the service, with everything below it: `/api` stands for `/api` and "
        "`/api/users`, but not for `/apis`. If several paths match, the longest one wins. Default: every "
        "path that no other service of the domain has.",
    )
    strip_path: bool = Field(
        False, description="Whether `path` is removed before the service gets the request: `/users` for `/api/users`."
    )

    basic_auth: Omittable[Slug] = Field(
        None,
        description="The list of users for whose name and password the proxy asks: `team`. The list is only on the "
        "server, with hashes of the passwords, in `auth/team` of the proxy's folder; the runbook has the "
        "command.",
    )
    middlewares: Omittable[list[Middleware]] = Field(
        None,
        min_length=1,
        description="Traefik middlewares for this address, which run after those of the host's proxy: "
        "`[ratelimit@file]`. One that `labels` of a service here define is `[NAME@docker]`.",
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
        domain, slash, path = text_format.validate(str(value)).partition("/")
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
