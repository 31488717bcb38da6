"""A service with several containers today: the runbook has each of them."""

from kiwari_ci import generator
from kiwari_ci.plan_model import Takeover
from kiwari_ci.spec_loading.yaml_source import parse_yaml

SPEC = """\
project: {{name: shop, repository: example/shop}}
hosts: {{vps: {{}}}}
services: {{web: {{port: 8080, replicas: {replicas}}}}}
environments:
  production:
    deploy_on: {{push: main}}
    domains: {{web: shop.example.com}}
    containers: {{web: shop-web}}
    takeover: {{containers: {{web: {today}}}}}
"""


def plan_takeover(replicas: int, today: str) -> Takeover:
    loaded = generator.validate_and_plan(parse_yaml("shop.yaml", SPEC.format(replicas=replicas, today=today)))
    (takeover,) = loaded.plan.takeovers
    return takeover


def test_each_container_of_today_is_beside_a_new_one() -> None:
    takeover = plan_takeover(3, "[old-1, old-2, old-3]")
    assert [(each.today, each.container, each.outcome) for each in takeover.containers] == [
        ("old-1", "shop-web", "under-its-own-name"),
        ("old-2", "shop-web-2", "under-its-own-name"),
        ("old-3", "shop-web-3", "under-its-own-name"),
    ]


def test_a_container_with_the_name_of_a_new_one_is_replaced() -> None:
    takeover = plan_takeover(2, "[shop-web-1, shop-web-2]")
    assert [(each.today, each.container, each.outcome) for each in takeover.containers] == [
        ("shop-web-1", "shop-web", "under-its-own-name"),
        ("shop-web-2", "shop-web-2", "without-a-gap"),
    ]


def test_more_containers_of_today_than_new_ones() -> None:
    takeover = plan_takeover(1, "[old-1, old-2]")
    assert [(each.today, each.container) for each in takeover.containers] == [
        ("old-1", "shop-web"),
        ("old-2", "shop-web"),
    ]


def test_one_name_is_a_list_of_one() -> None:
    assert plan_takeover(1, "old").containers == plan_takeover(1, "[old]").containers
