"""Every kind of proxy that a spec may name: what the others rely on holds for each of them."""

from pathlib import Path
from typing import get_args

import pytest
import yaml

from kiwari_ci import generator
from kiwari_ci.plan_model import DeployHost
from kiwari_ci.proxies.all_proxies import ALL_KINDS, PROXIES, find_proxy, list_kinds_with_key
from kiwari_ci.rendering.render import TEMPLATES_FOLDER, render_files
from kiwari_ci.schema import Proxy
from kiwari_ci.schema.environments import ProxyKind
from kiwari_ci.spec_loading.yaml_source import parse_yaml

SPEC = """
project: {{name: shop, repository: example/shop}}
hosts: {{vps: {{proxy: {{kind: {kind}}}}}}}
services: {{api: {{port: 8080, ports: ['127.0.0.1:8080:8080']}}}}
environments:
  live: {{deploy_on: {{push: main}}, domains: {{api: api.example.com}}}}
"""


SERVER_KINDS = [kind for kind in ALL_KINDS if kind != "ingress"]  # which is of a cluster: tests/kubernetes


def load(kind: ProxyKind) -> generator.LoadedSpec:
    return generator.validate_and_plan(parse_yaml("shop.yaml", SPEC.format(kind=kind)))


def plan_host(kind: ProxyKind) -> DeployHost:
    (host,) = load(kind).plan.hosts
    return host


def test_the_registry_has_every_kind_that_a_spec_may_name() -> None:
    assert set(PROXIES) == set(get_args(ProxyKind))


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_supported_keys_are_fields_of_the_spec(kind: ProxyKind) -> None:
    assert find_proxy(kind).supported_keys <= set(Proxy.model_fields) - {"kind", "scheme"}


@pytest.mark.parametrize("key", sorted(set(Proxy.model_fields) - {"kind", "scheme"}))
def test_every_key_is_for_some_kind(key: str) -> None:
    assert list_kinds_with_key(key)


NEIGHBOURS = """
project: {name: shop, repository: example/shop}
hosts: {vps: {proxy: {network: front}}}
databases: {data: {host: vps}}
services:
  web: {port: 8080, depends_on: {cache: started}}
  api: {port: 8081, env: {URL: {database: url}}}
  worker: {image_of: api, command: [work]}
accessories: {cache: {image: "redis:7", port: 6379}}
environments:
  live: {deploy_on: {push: main}, database: {}, domains: {web: www.example.com}}
  inner: {deploy_on: {push: main}, database: {}}
"""


@pytest.mark.parametrize(
    ("stack", "reached"),
    [("shop-live", ["shop-web-live"]), ("shop-inner", ["shop-web-inner", "shop-api-inner"]), ("data", [])],
)
def test_only_what_the_proxy_leads_to_is_on_its_network(stack: str, reached: list[str]) -> None:
    """Whatever is on that network reaches the others there past the proxy."""
    files = render_files(generator.validate_and_plan(parse_yaml("shop.yaml", NEIGHBOURS)).plan)
    containers = yaml.load(files[f"deploy/{stack}/docker-compose.yml"].text, yaml.CSafeLoader)["services"]
    assert [name for name, options in containers.items() if "front" in options.get("networks", [])] == reached


@pytest.mark.parametrize("kind", SERVER_KINDS)
def test_nothing_asks_for_certificates_over_plain_http(kind: ProxyKind) -> None:
    text = SPEC.format(kind=f"{kind}, scheme: http")
    loaded = generator.validate_and_plan(parse_yaml("shop.yaml", text))
    files = render_files(loaded.plan)
    workflow, runbook = files[".github/workflows/api-ci.yml"].text, files["deploy/RUNBOOK.md"].text
    assert "url: http://api.example.com\n" in workflow
    assert "--proto =http --max-time" in workflow and "http://api.example.com/health" in workflow
    assert not any("https://api.example.com" in file.text for file in files.values())
    generated = [files[f"deploy/{front.name}/docker-compose.yml"] for front in loaded.plan.hosts[0].fronts]
    assert all("443" not in file.text and "80:80" in file.text for file in generated)
    assert "fullchain.pem" not in runbook and "first request the certificate" not in runbook
    assert "with a certificate for the domain" not in runbook


@pytest.mark.parametrize("kind", SERVER_KINDS)
def test_the_runbook_says_where_the_domain_leads(kind: ProxyKind) -> None:
    runbook = render_files(load(kind).plan)["deploy/RUNBOOK.md"].text
    section = runbook.partition("Proxy hosts\n")[2].partition("\n### ")[0]
    assert "api.example.com" in section
    assert "shop-api-live" in section or "127.0.0.1:8080" in section


@pytest.mark.parametrize("kind", SERVER_KINDS)
def test_a_generated_stack_has_its_files(kind: ProxyKind) -> None:
    proxy = find_proxy(kind)
    loaded = load(kind)
    files = render_files(loaded.plan)
    stacks = plan_host(kind).fronts
    assert [stack.name for stack in stacks] == list(filter(None, [proxy.stack_name(Proxy(kind=kind))]))
    for stack in stacks:
        assert {f"deploy/{path}" for path in stack.paths()} <= files.keys()
        assert proxy.runs_image(stack.image)
        assert proxy.describe_required_version(stack.image) == ""


@pytest.mark.parametrize("kind", SERVER_KINDS)
def test_a_proxy_either_has_a_generated_configuration_or_a_guide(kind: ProxyKind) -> None:
    template = find_proxy(kind).guide_template
    assert bool(template) == (plan_host(kind).fronts == ())
    assert not template or Path(TEMPLATES_FOLDER, template).is_file()


@pytest.mark.parametrize("kind", SERVER_KINDS)
def test_a_container_waits_as_long_as_the_proxy_keeps_a_name(kind: ProxyKind) -> None:
    ((container,),) = [stack.instances for stack in load(kind).plan.compose_stacks]
    labels = {label.key: label.value for label in container.labels}
    assert labels["deploy.name-cache"] == str(find_proxy(kind).name_cache_seconds)


@pytest.mark.parametrize("name", ["shop_api", "Shop.API", "shop-api"])
@pytest.mark.parametrize("kind", SERVER_KINDS)
def test_a_container_keeps_a_name_that_docker_allows(kind: ProxyKind, name: str) -> None:
    text = SPEC.format(kind=kind).replace("domains:", f"containers: {{api: {name}}}, domains:")
    files = render_files(generator.validate_and_plan(parse_yaml("shop.yaml", text)).plan)
    services = yaml.load(files["deploy/shop-live/docker-compose.yml"].text, yaml.CSafeLoader)["services"]
    assert services[name]["container_name"] == name
    for key, value in services[name].get("labels", {}).items():
        if key.endswith("loadbalancer.server.url"):
            assert value == f"http://{name}:8080"
            assert len(key.split(".")) == 7


@pytest.mark.parametrize(
    ("ports", "is_open"), [("['8190:80']", True), ("['0.0.0.0:8190:80']", True), ("['127.0.0.1:8190:80']", False)]
)
@pytest.mark.parametrize("is_accessory", [True, False])
def test_what_is_said_of_a_published_port(ports: str, is_open: bool, is_accessory: bool, tmp_path: Path) -> None:
    """No deploy replaces an accessory, so its port is never closed; a proxy on another machine needs an open port."""
    front = f"front: {{port: 80, ports: {ports}"
    kinds = f"services: {{web: {{port: 3000}}}}\naccessories: {{{front}, image: 'nginx:1.29'}}}}"
    if not is_accessory:
        kinds = f"services: {{web: {{port: 3000}}, {front}}}}}"
    spec = tmp_path / "shop.yaml"
    spec.write_text(
        "project: {name: shop, repository: example/shop}\nhosts: {vps: {proxy: {kind: none}}}\n"
        f"{kinds}\nenvironments: {{live: {{deploy_on: {{push: main}}, domains: {{front: shop.example.com}}}}}}\n"
    )
    runbook = generator.generate_files(spec)[1]["deploy/RUNBOOK.md"].text
    assert "| `shop.example.com` | `http://127.0.0.1:8190` |" in runbook
    assert ("If the proxy is on another machine" in runbook) is is_open
    assert ("The port is closed from the end of the old container" in runbook) is not is_accessory


@pytest.mark.parametrize("network", ["shop_default", "nginx-proxy-manager_default", "Front.End"])
def test_the_network_may_be_one_that_compose_has_made(network: str) -> None:
    """Compose puts `_` between the name of the project and the one of the network."""
    text = SPEC.format(kind=f"traefik, network: {network}")
    files = render_files(generator.validate_and_plan(parse_yaml("shop.yaml", text)).plan)
    compose = yaml.safe_load(files["deploy/shop-live/docker-compose.yml"].text)
    assert compose["networks"][network] == {"external": True}
    assert f"docker network create {network}" in files["deploy/RUNBOOK.md"].text
