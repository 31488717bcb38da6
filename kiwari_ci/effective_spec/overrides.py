"""Merges what an environment overrides into what a service or an accessory says by itself."""

from typing import Any, TypeVar

from kiwari_ci import schema

ModelT = TypeVar("ModelT", bound=schema.SpecModel)


def apply_override(model: ModelT, override: schema.SpecModel | None) -> ModelT:
    """Return the model with the fields that the override sets; an override wins."""
    if override is None:
        return model
    changes = {name: _merge(getattr(model, name), getattr(override, name)) for name in override.model_fields_set}
    return model.model_copy(update=changes)


def _merge(usual: Any, overriding: Any) -> Any:
    """Merge mappings and models key by key, so that an override says only what is different."""
    if isinstance(usual, dict):
        return usual | overriding
    # One of several forms, such as `{secret: NAME}` or `{variable: NAME}`, is replaced as a whole.
    if isinstance(usual, schema.SpecModel) and not isinstance(usual, schema.OneOf):
        return apply_override(usual, overriding)
    return overriding
