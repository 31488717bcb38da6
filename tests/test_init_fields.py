"""Each key of a Compose file that a field of the spec writes: `init` reads it into the spec, or reports it."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from kiwari_ci.commands.init import build_init_result
from kiwari_ci.commands.init.draft_text import InitResult
from kiwari_ci.schema import Accessory, Service
from kiwari_ci.schema.compose_mapping import list_written_compose_keys
from kiwari_ci.spec_loading.yaml_source import parse_yaml

# A value of each key, as a Compose file has it.
VALUES: dict[str, Any] = {
    "image": "redis:8",
    "command": ["./serve"],
    "entrypoint": ["tini"],
    "env_file": "web.env",
    "environment": {"LEVEL": "info"},
    "volumes": ["data:/data"],
    "ports": ["127.0.0.1:9090:9090"],
    "labels": {"com.example.team": "shop"},
    "healthcheck": {"test": ["CMD", "./ok"]},
    "depends_on": ["queue"],
    "networks": ["monitoring"],
    "mem_limit": "256m",
    "cpus": 0.5,
    "stop_grace_period": "90s",
    "scale": 2,
}
COMPOSE: dict[str, Any] = {
    "services": {
        "web": {"build": ".", "ports": ["8080"]},
        "cache": {"image": "redis:7"},
        "queue": {"image": "nats:2"},
    },
    "networks": {"monitoring": {"external": True}},
    "volumes": {"data": {}},
}
MODELS: dict[str, type[BaseModel]] = {"web": Service, "cache": Accessory}
KEYS = [
    (container, key, field)
    for container, model in MODELS.items()
    for key, field in list_written_compose_keys(model).items()
    if (container, key) != ("web", "image")  # the pipeline builds the image of a service, and names it itself
]
# `init` does not convert this, and lists it.
ONLY_REPORTED = {("web", "healthcheck")}


def run_init(folder: Path, container: str, added: dict[str, Any]) -> tuple[dict[str, Any], InitResult]:
    """The spec that `init` drafts, and what it reports, when a container of the Compose file has more keys."""
    services = {**COMPOSE["services"], container: {**COMPOSE["services"][container], **added}}
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY . .\nEXPOSE 8080\n")
    (folder / "web.env.example").write_text("SECRET_KEY=\n")
    (folder / "compose.yml").write_text(yaml.safe_dump({**COMPOSE, "services": services}))
    result = build_init_result(folder, "example/shop")
    spec: dict[str, Any] = parse_yaml(result.path, result.text).data
    return spec, result


@pytest.mark.parametrize(("container", "key", "field"), KEYS)
def test_a_key_becomes_its_field_or_is_reported(container: str, key: str, field: str, tmp_path: Path) -> None:
    assert key in VALUES, f"the field `{field}` is new: give its key of Compose, `{key}`, a value in VALUES here"

    without_key, _ = run_init(tmp_path, container, {})
    spec, result = run_init(tmp_path, container, {key: VALUES[key]})

    if (container, key) in ONLY_REPORTED:
        assert any(key in line for line in result.seen)
        return
    assert spec != without_key, (
        f"`init` does not read the key `{key}` of a Compose file: convert it into `{field}` in "
        "commands/init/container_entry.py, or report it there and add it to ONLY_REPORTED here."
    )
