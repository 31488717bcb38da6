"""Merges `service_defaults` into the services, with the place of each value, before anything is validated.

So every rule, default and override reads a service as if all of its keys were written there. Only the position of a
problem, and the path in its message, tell where a person has to look.
"""

from dataclasses import replace
from typing import Any

from kiwari_ci.schema import OneOf, ServiceDefaults
from kiwari_ci.schema.services import HTTP_HEALTH_FIELDS, IMAGE_FIELDS, ONE_SHOT_EXCLUDES
from kiwari_ci.spec_loading.validation import DEFAULTS_KEY, find_model
from kiwari_ci.spec_loading.yaml_source import YamlPath, YamlSource


def merge_service_defaults(source: YamlSource) -> tuple[YamlSource, Any]:
    """The spec with the places of all inherited values, and its data with these values in each service."""
    document = source.data
    shared = document.get(DEFAULTS_KEY)
    services = document.get("services")
    if not isinstance(shared, dict) or not isinstance(services, dict):
        return source, document
    merger = _Merger(source)
    merged_services = {name: merger.merge_service(name, own, shared) for name, own in services.items()}
    return merger.source, {**document, "services": merged_services}


class _Merger:
    """Merges mappings, and keeps the place of each value that comes from `service_defaults`."""

    def __init__(self, source: YamlSource) -> None:
        self.source = replace(source, keys=dict(source.keys), values=dict(source.values), origins={})

    def merge_service(self, name: str, own: Any, shared: dict[str, Any]) -> Any:
        """A service with what it inherits; one that is no mapping stays as it is, and is an error."""
        if not isinstance(own, dict):
            return own
        inheritable = _select_inheritable(name, own, shared)
        return self._merge(own, ("services", name), inheritable, (DEFAULTS_KEY,))

    def _merge(self, own: dict[str, Any], loc: YamlPath, shared: dict[str, Any], origin: YamlPath) -> dict[str, Any]:
        merged = {**shared, **own}
        for key, shared_value in shared.items():
            key_loc, key_origin = (*loc, key), (*origin, key)
            if key not in own:
                self.source.keys[key_loc] = self.source.keys[key_origin]
                self._copy_places(shared_value, key_loc, key_origin)
            elif _are_mergeable(own[key], shared_value, key_loc):
                merged[key] = self._merge(own[key], key_loc, shared_value, key_origin)
        return merged

    def _copy_places(self, value: Any, loc: YamlPath, origin: YamlPath) -> None:
        """Point a value and all that is in it at its line in `service_defaults`."""
        self.source.origins[loc] = origin
        self.source.values[loc] = self.source.values[origin]
        if isinstance(value, dict):
            for key, item in value.items():
                self.source.keys[(*loc, key)] = self.source.keys[(*origin, key)]
                self._copy_places(item, (*loc, key), (*origin, key))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self._copy_places(item, (*loc, index), (*origin, index))


def _are_mergeable(own: Any, shared: Any, loc: YamlPath) -> bool:
    """Whether two values are merged key by key, which is as in the overrides of an environment."""
    if not isinstance(own, dict) or not isinstance(shared, dict):
        return False
    # Half of one logging driver and half of another would be neither: a key of Compose is replaced as a whole.
    if loc[2] == "compose" and len(loc) > 3:
        return False
    # One of several forms, such as `{secret: NAME}` or `{variable: NAME}`, is replaced as a whole.
    model = find_model(loc)
    return model is None or not issubclass(model, OneOf)


def _select_inheritable(name: str, own: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """What a service takes: not what its kind excludes, which would be an error that it cannot leave out.

    Keys that `service_defaults` does not have are errors there.
    """
    selected = {key: value for key, value in shared.items() if key in ServiceDefaults.model_fields}
    for key in _list_excluded_keys(own):
        selected.pop(key, None)
    _select_health(own, selected)
    _select_dependencies(name, selected)
    return selected


def _list_excluded_keys(own: dict[str, Any]) -> list[str]:
    excluded: list[str] = []
    if own.get("once") is True:
        excluded += ONE_SHOT_EXCLUDES
    if "image_of" in own:
        excluded += IMAGE_FIELDS
        if "env" not in own:  # it reads the env file of the service whose image it runs
            excluded.append("env")
    if "port" not in own:
        excluded.append("websocket")
    return excluded


def _select_health(own: dict[str, Any], selected: dict[str, Any]) -> None:
    """A worker is only checked by Docker, and only a check over HTTP has a path, a status and a host."""
    health = selected.get("health")
    if not isinstance(health, dict):
        return
    shared_kind = health.get("by", "http")
    own_health = own.get("health")
    kind = own_health.get("by", shared_kind) if isinstance(own_health, dict) else shared_kind
    if "port" not in own and kind != "healthcheck":
        del selected["health"]
    elif shared_kind == "http" and kind != "http":
        selected["health"] = {key: value for key, value in health.items() if key not in HTTP_HEALTH_FIELDS}


def _select_dependencies(name: str, selected: dict[str, Any]) -> None:
    """What all others wait for does not wait for itself."""
    dependencies = selected.get("depends_on")
    if isinstance(dependencies, dict):
        selected["depends_on"] = {peer: condition for peer, condition in dependencies.items() if peer != name}
    elif isinstance(dependencies, list):
        selected["depends_on"] = [peer for peer in dependencies if peer != name]
