"""Dollar signs in the texts of a container: `$$` stands for one, as in a Compose file."""

from typing import Any, TypeVar

from kiwari_ci import schema
from kiwari_ci.schema.compose_mapping import list_compose_fields

OptionsT = TypeVar("OptionsT", bound=schema.ContainerOptions)

# Fields that reach a container without being a key of Compose.
_OTHER_TEXT_FIELDS = frozenset({"compose", "migrate", "jobs"})


def unescape_container_texts(options: OptionsT) -> OptionsT:
    """Return the options with each text as the container gets it."""
    text_fields = {name for name, _ in list_compose_fields(type(options))} | _OTHER_TEXT_FIELDS
    changes = {name: _unescape(getattr(options, name)) for name in options.model_fields_set & text_fields}
    return options.model_copy(update=changes)


def _unescape(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("$$", "$")
    if isinstance(value, dict):
        return {_unescape(key): _unescape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_unescape(inner) for inner in value]
    if isinstance(value, schema.SpecModel):
        changes = {name: _unescape(getattr(value, name)) for name in value.model_fields_set}
        return value.model_copy(update=changes)
    return value
