"""Which keys of a Compose service the fields of a spec write: declared once, at each field."""

from collections.abc import Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kiwari_ci.frozen import dataclass


@dataclass(frozen=True)
class WritesComposeKey:
    """Metadata of a field: the key of a Compose service that it writes.

    `copied`: the field has the value that Compose takes. Without it, the planning translates the value.
    """

    key: str
    copied: bool = False


def find_compose_key(field: FieldInfo) -> WritesComposeKey | None:
    """Find the key that a field writes, if it writes one."""
    return next((annotation for annotation in field.metadata if isinstance(annotation, WritesComposeKey)), None)


def list_compose_fields(model: type[BaseModel]) -> Iterator[tuple[str, WritesComposeKey]]:
    """List the fields of a model that write a key of Compose, in their order."""
    for name, field in model.model_fields.items():
        compose_key = find_compose_key(field)
        if compose_key:
            yield name, compose_key


def list_written_compose_keys(model: type[BaseModel]) -> dict[str, str]:
    """Map each key of Compose that a model's fields write to the field that writes it."""
    return {compose_key.key: name for name, compose_key in list_compose_fields(model)}


def list_copied_compose_keys(model: type[BaseModel]) -> list[tuple[str, str]]:
    """List the fields whose values Compose takes as they are, each with its key."""
    return [(name, compose_key.key) for name, compose_key in list_compose_fields(model) if compose_key.copied]
