"""Each field of a container does something on a cluster, or a rule refuses it: none is ignored in silence."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from kiwari_ci.effective_spec import EffectiveSpec
from kiwari_ci.engines.kubernetes import manifests, rules
from kiwari_ci.schema import Accessory, Service
from kiwari_ci.schema.services import IMAGE_FIELDS
from kiwari_ci.spec_loading.validation import validate_spec
from kiwari_ci.spec_loading.yaml_source import load_yaml

CLUSTER = manifests.ClusterSettings("cluster", "traefik")

SPEC: dict[str, Any] = {
    "project": {"name": "shop", "repository": "example/shop"},
    "registry": {"pull_token": {"secret": "PULL_TOKEN"}},
    "hosts": {"cluster": {"engine": "kubernetes", "proxy": {"kind": "ingress", "class": "traefik"}}},
    "services": {"api": {"port": 9000}, "web": {"port": 8080}, "seed": {"once": True}, "worker": {}},
    "accessories": {"cache": {"image": "redis:7"}},
    "environments": {
        "staging": {
            "host": "cluster",
            "deploy_on": {"push": "main"},
            "domains": {"web": "example.com", "cache": "cache.example.com"},
        }
    },
}

# A value of each field that differs from its default.
VALUES: dict[str, Any] = {
    "command": ["./serve"],
    "entrypoint": ["tini"],
    "env": {"LEVEL": "info"},
    "environment": {"LEVEL": "info"},
    "volumes": ["data:/data"],
    "ports": ["127.0.0.1:9090:9090"],
    "labels": {"com.example.team": "shop"},
    "healthcheck": {"test": ["CMD", "./ok"]},
    "depends_on": {"seed": "completed"},
    "networks": ["backend"],
    "mem_limit": "256m",
    "cpus": 0.5,
    "stop_grace_period": "90s",
    "compose": {"read_only": True},
    "health": {"path": "/up"},
    "rollout": "recreate",
    "replicas": 2,
    "image_of": "api",
    "port": 8081,
    "migrate": ["./migrate"],
    "once": True,
    "jobs": {"clean": {"schedule": "0 4 * * *", "command": ["./clean"]}},
    "image": "redis:8",
}
# Fields that the objects of a stack cannot show.
EXEMPT = {
    **dict.fromkeys(IMAGE_FIELDS, "of the image, which a workflow builds in the same way for every engine"),
    "websocket": "an Ingress controller forwards WebSockets without a setting",
}
# What else a spec must have so that the field is allowed.
WITHOUT_PORT = ("image_of", "once")
CONTAINERS: dict[str, tuple[str, type[BaseModel]]] = {"services": ("web", Service), "accessories": ("cache", Accessory)}
FIELDS = [
    (section, field)
    for section, (_, model) in CONTAINERS.items()
    for field in model.model_fields
    if field not in EXEMPT or (section, field) == ("accessories", "image")
]


def read_cluster(spec: dict[str, Any], folder: Path) -> tuple[list[manifests.Document], list[str]]:
    """The objects of the stack, and the messages of the rules for a cluster."""
    path = folder / "shop.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    source = load_yaml(path)
    model, problems = validate_spec(source, source.data)
    assert model, problems
    effective = EffectiveSpec(model)
    messages = [problem.message for problem in rules.check_kubernetes(source, effective)]
    return manifests.build_stack(effective.environments["staging"], CLUSTER), messages


@pytest.mark.parametrize(("section", "field"), FIELDS)
def test_a_field_is_written_for_a_cluster_or_refused(section: str, field: str, tmp_path: Path) -> None:
    name, _ = CONTAINERS[section]
    assert field in VALUES, (
        f"the field `{field}` is new: give it a value in VALUES here. If no object of a cluster can show it, add it "
        "to EXEMPT with the reason."
    )
    before = copy.deepcopy(SPEC)
    if field in WITHOUT_PORT and section == "services":
        del before["services"][name]["port"]
        del before["environments"]["staging"]["domains"][name]
    after = copy.deepcopy(before)
    after[section][name][field] = VALUES[field]

    documents, messages = read_cluster(before, tmp_path)
    assert not messages
    changed_documents, messages = read_cluster(after, tmp_path)

    is_refused = any(f"{section}.{name}.{field}" in message for message in messages)
    assert is_refused or changed_documents != documents, (
        f"`{section}.{name}.{field}` does nothing on a cluster, and no rule says so: write it in "
        "engines/kubernetes/manifests.py, or refuse it in _CONTAINER_FIELDS of engines/kubernetes/rules.py."
    )
