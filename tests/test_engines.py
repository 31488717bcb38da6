"""Every engine that a host may have: what the others rely on holds for each of them."""

from pathlib import Path
from typing import get_args

import pytest

from kiwari_ci import generator
from kiwari_ci.engines.all_engines import ENGINE_LOADERS, find_engine, list_engines
from kiwari_ci.engines.base import Engine
from kiwari_ci.rendering.render import TEMPLATES_FOLDER, render_files
from kiwari_ci.schema import Accessory, Service
from kiwari_ci.schema.compose_keys import COMPOSE_SERVICE_KEYS, EXTRA_COMPOSE_KEYS
from kiwari_ci.schema.compose_mapping import list_written_compose_keys
from kiwari_ci.schema.environments import EngineKind

ROOT = Path(__file__).parents[1]
KINDS: tuple[EngineKind, ...] = get_args(EngineKind)
PLAN = generator.load_spec(ROOT / "specs/kiwari.yaml").plan


def test_the_registry_has_every_engine() -> None:
    assert set(ENGINE_LOADERS) == set(KINDS)
    assert list_engines() == [find_engine(kind) for kind in KINDS]


@pytest.mark.parametrize("engine", list_engines(), ids=lambda engine: type(engine).__name__)
def test_templates_and_programs_are_there(engine: Engine) -> None:
    templates = {engine.deploy_step_template, *(file.template for file in engine.list_stack_templates(PLAN))}
    assert all(Path(TEMPLATES_FOLDER, template).is_file() for template in templates)
    assert all(program.is_file() for program in engine.list_programs(PLAN).values())


@pytest.mark.parametrize("engine", list_engines(), ids=lambda engine: type(engine).__name__)
def test_every_file_is_generated_below_deploy(engine: Engine) -> None:
    paths = [*(file.path for file in engine.list_stack_templates(PLAN)), *engine.list_programs(PLAN)]
    assert len(paths) == len(set(paths))
    assert set(paths) <= set(render_files(PLAN))
    assert all(path.startswith("deploy/") for path in paths)


def test_every_host_and_route_names_an_engine() -> None:
    assert {host.engine for host in PLAN.hosts} <= set(KINDS)
    for workflow in PLAN.promotions:
        for route in workflow.deploy.ways:
            assert route.template in {engine.deploy_step_template for engine in list_engines()}


@pytest.mark.parametrize("model", [Service, Accessory], ids=lambda model: model.__name__)
def test_what_a_field_writes_may_not_be_added_to_compose(model: type[Service | Accessory]) -> None:
    written = list_written_compose_keys(model)
    assert {"mem_limit", "env_file", "image"} <= written.keys()
    assert written.keys() <= COMPOSE_SERVICE_KEYS
    assert not written.keys() & EXTRA_COMPOSE_KEYS
