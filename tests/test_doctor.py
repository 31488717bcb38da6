"""The doctor without an engine: loopback servers and stand-ins answer, each as well or as badly as it is told."""

import base64
import json
import os
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kiwari_ci import generator
from kiwari_ci.commands import doctor
from kiwari_ci.file_output.generated_files import GeneratedFile
from kiwari_ci.plan_model import (
    Cluster,
    DomainRedirect,
    Plan,
    RunbookCommand,
    SettingCommand,
    TakenOverContainer,
    Takeover,
)
from kiwari_ci.plan_model.runbook import OldPipeline
from kiwari_ci.remote_checks import (
    calls,
    cluster,
    container_registry,
    dns_tls,
    findings,
    github,
    host_checks,
    nginx_proxy_manager,
    ssh_host,
    stack_checks,
)
from kiwari_ci.remote_checks.findings import Finding, FindingGroup
from kiwari_ci.remote_checks.runbook_index import RunbookIndex
from tests import fake_services, sound_specs
from tests.checkers import findings as said_by
from tests.checkers import shellcheck
from tests.cli_runner import kiwari_ci

ROOT = Path(__file__).parents[1]
SPEC = ROOT / "specs/kiwari.yaml"
PLAN, TREE = generator.generate_files(SPEC)
BOOK = RunbookIndex(PLAN.runbook, {}).for_host("vps")
GROUP = FindingGroup("here")
ADDRESS = "192.0.2.10"
KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIExample"
KNOWN = f"{ADDRESS} ssh-ed25519 {KEY}"
NOW = 1_800_000_000.0
API = PLAN.hosts[0].public[0]
API_SITE = PLAN.hosts[0].sites[0]
SECRET = "never-to-be-seen"


def of_state(all_findings: list[Finding], *states: str) -> dict[str, str]:
    """Subject → what was seen."""
    return {finding.subject: finding.saw for finding in all_findings if finding.state in states}


# A world in facts: what the script prints on a server on which the runbook was followed


def well() -> list[tuple[str, ...]]:
    """The facts of such a server."""
    digest = "sha256:" + "0" * 64
    lines: list[tuple[str, ...]] = [
        ("login", "deploy", "deploy docker"), ("python", "3.11"), ("addresses", ADDRESS),
        ("memory", "MemTotal:1963 MemAvailable:1200 SwapTotal:0 SwapFree:0"), ("hostkey", "ssh-ed25519", KEY),
        ("authorized", 'restrict,command="docker/bin/deploy pos-staging pos-production" ssh-rsa AAAAkey VPS_SSH_KEY'),
        ("engine", "27.3.1"), ("compose", "2.29.7"), ("disk", "/var/lib/docker", "14000"), ("network", "proxy"),
        container("npm", "jc21/nginx-proxy-manager:2", ports="80 443"),
        container("postgres", "postgres:16", health="healthy"),
    ]  # fmt: skip
    for path in [*ssh_host.list_placed_files(PLAN.hosts[0])]:
        mode = "755" if path.startswith("bin/") else "644"
        lines.append(("file", path, sha256(TREE[f"deploy/{path}"].text.encode()).hexdigest(), mode))
    for path, file in [(f"{s.name}/{f.name}", f) for s in PLAN.compose_stacks for f in s.env_files] + [
        (f"{server.name}/.env", server.env_file) for server in PLAN.servers
    ]:
        lines += [("env", path, "600"), *(("key", path, key, "") for key in ssh_host.list_env_keys(file))]
    for stack in PLAN.compose_stacks:
        for instance in stack.instances:
            image = f"{instance.repository}@{digest}"
            lines.append(("record", stack.name, instance.container, f"{image} 7 2026-01-01T00:00:00Z 12"))
            lines.append(("pin", stack.name, instance.container, image))
            lines.append(container(instance.container, image, project=stack.name))
            lines.append(("answer", instance.container, "200", "200"))
    for role in PLAN.servers[0].databases:
        lines += [("owner", "postgres", role.name, role.user), ("role", "postgres", role.user, "login")]
        lines += [("reach", "postgres", role.user, role.name), ("reach", "postgres", "postgres", role.name)]
    return lines


def container(name: str, image: str, health: str = "", project: str = "", ports: str = "") -> tuple[str, ...]:
    """A line of a container on the proxy's network."""
    started = "2026-01-01T00:00:00.123456789Z"
    return ("container", name, image, "running", started, "0", "0", "false", health, project, "proxy", ports, "")


def examined(
    lines: list[tuple[str, ...]],
    plan: Plan = PLAN,
    tree: Mapping[str, GeneratedFile] = TREE,
    only: Sequence[str] = (),
    **world: Any,
) -> list[Finding]:
    """Every finding of a world in which these are the facts of the host, and all else is as it should be."""
    response = dns_tls.EndpointResponse(ADDRESS, expires=NOW + 60 * 86400, status=200)
    defaults: dict[str, Any] = {
        "facts": {"vps": ssh_host.HostFacts(tuple(lines))},
        "reached": {"vps": ssh_host.SshTarget(ADDRESS, (ADDRESS,), frozenset({("ssh-ed25519", KEY)}))},
        "clusters": {},
        "seen": {address: dns_tls.DomainState((ADDRESS,), (response,)) for address in plan.domains},
        "github": seen_on_github(),
        "proxy": ({instance.domain: npm_host(instance.domain) for instance in PLAN.hosts[0].public}, ""),
        "images": {instance.repository: container_registry.RegistryResponse(200) for instance in plan.answering},
    }
    means = doctor.ProbeOptions(
        npm="https://npm.example.com", pull_token=SECRET, net=dns_tls.NetworkBackend(now=lambda: NOW)
    )
    results = doctor.ProbeResults(**(defaults | world))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor, "_run_probes", lambda *_: results)
        return doctor.run_checks(plan, dict(tree), only, means)


def seen_on_github(**changes: Any) -> github.GitHubState:
    """Pages as the stand-in for gh has them."""
    base = f"repos/{fake_services.REPOSITORY}"
    pages = fake_services.github(KNOWN) | {f"{base}/{path}": page for path, page in changes.items()}
    ran = {path: read_page(page) for path, page in pages.items()}
    paths = ["", *github._list_api_paths(PLAN, ["staging", "production"])]
    return github.GitHubState({path: ran[f"{base}/{path.partition('?')[0]}".rstrip("/")] for path in paths})


def read_page(page: Any) -> github.GitHubResponse:
    if isinstance(page, list) and page and isinstance(page[0], int):
        return github.parse_gh_output(calls.ProcessResult(1, "", f"gh: {page[1]} (HTTP {page[0]})"))
    return github.parse_gh_output(calls.ProcessResult(0, json.dumps(page), ""))


def npm_host(domain: str, **changes: Any) -> dict[str, Any]:
    """A proxy host as the runbook's table has it."""
    (instance,) = (candidate for candidate in PLAN.hosts[0].public if candidate.domain == domain)
    return {
        "domain_names": [domain], "forward_scheme": "http", "forward_host": instance.container,
        "forward_port": instance.port, "certificate_id": 3, "ssl_forced": True, "http2_support": 1,
        "allow_websocket_upgrade": instance.websocket == "yes", "enabled": 1, "locations": [], "advanced_config": "",
        "access_list_id": 0, "meta": {"nginx_online": True, "nginx_err": None},
    } | changes  # fmt: skip


def test_a_world_as_the_spec_has_it() -> None:
    all_findings = examined(well())
    assert of_state(all_findings, "wrong", "not asked") == {}
    assert len(all_findings) > 40


def test_the_rotation_program_may_be_missing() -> None:
    """A host on which nobody rotates secrets can do without it."""
    findings = examined(without("file", "bin/rotate")(well()))

    assert of_state(findings, "wrong", "not asked") == {}
    assert "only `kiwari-ci rotate` needs it" in of_state(findings, "ok")["bin/rotate"]


def test_what_serves_before_the_first_deploy_is_printed_as_the_field() -> None:
    """The containers of a setup that somebody else made, on a host that has no record of the stack."""
    old = [container(f"shop_{name}_1", "old", project="shop") for name in ("api", "admin")]
    names = {instance.container for instance in PLAN.compose_stacks[1].instances}
    lines = [
        line
        for line in well()
        if line[:2] != ("record", "pos-production") and not (line[0] == "container" and line[1] in names)
    ]
    by_subject = {finding.subject: finding for finding in examined([*lines, *old]) if finding.subject == "takeover"}
    assert by_subject["takeover"].saw == "shop_api_1, shop_admin_1 may serve it today"
    assert by_subject["takeover"].cure == (
        "compare, then write: takeover: {project: shop, ports: npm, containers: {api: shop_api_1, admin: shop_admin_1}}"
    )
    assert by_subject["takeover"].group == "environment production"
    assert "takeover" not in of_state(examined(lines), "wrong")
    twice = [*old, container("shop_api_2", "old", project="other")]
    (finding,) = (finding for finding in examined([*lines, *twice]) if finding.subject == "takeover")
    assert finding.saw == "shop_admin_1 may serve it today"
    replicas = [container("shop_api_10", "old", project="shop"), container("shop_api_2", "old", project="shop"), *old]
    (finding,) = (finding for finding in examined([*lines, *replicas]) if finding.subject == "takeover")
    assert "containers: {api: [shop_api_1, shop_api_2, shop_api_10], admin: shop_admin_1}" in finding.cure
    same_project = [container("api", "old", project="pos-production")]
    assert not [finding for finding in examined([*lines, *same_project]) if "docker rm -f" in finding.cure]


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        (
            {"folder": "/srv/shop", "workflows": ("deploy.yml",)},
            "takeover: {project: shop, folder: /srv/shop, workflows: [deploy.yml], ports: npm, "
            "containers: {api: shop_api_1}}",
        ),
        (
            {
                "project": "other",
                "ports": "caddy",
                "containers": (TakenOverContainer("admin", "a", "b", (), "", "", "stays"),),
            },
            "takeover: {project: other, ports: caddy, containers: {api: shop_api_1, admin: a}}",
        ),
        (
            {
                "project": "other",
                "ports": "caddy",
                "containers": (TakenOverContainer("api", "a", "b", (), "", "", "stays"),),
            },
            "",
        ),
    ],
)
def test_the_field_in_the_spec_gets_only_what_it_lacks(written: dict[str, Any], printed: str) -> None:
    stack = PLAN.stacks[1]
    names = {instance.container for instance in stack.instances}
    lines = [
        line
        for line in well()
        if line[:2] != ("record", stack.name) and not (line[0] == "container" and line[1] in names)
    ]
    plan = replace(PLAN, takeovers=(taken_over(**written),))
    findings = examined([*lines, container("shop_api_1", "old", project="shop")], plan)
    cures = [finding.cure for finding in findings if finding.subject == "takeover"]
    assert cures == ([f"compare, then write: {printed}"] if printed else [])


def taken_over(workflows: tuple[str, ...] = (), **written: Any) -> Takeover:
    """The field `takeover` of production, with these keys."""
    stack = PLAN.stacks[1]
    nothing: dict[str, Any] = {"host_variables": ("VPS",), "host_folder": "docker", "has_same_folder": False}
    texts = ("project", "folder", "ports")
    nothing |= dict.fromkeys(texts, "")
    nothing |= {"has_https": True, "environment": stack.environment, "stack": stack.name}
    nothing["old_pipeline"] = OldPipeline(
        branch="main",
        comes_with_new=True,
        workflows=workflows,
        removed=workflows,
        enabled_again=(),
        still_deploying=(),
        same_names=(),
        deployed_together=(),
        by_hand="",
        deployed_later=(),
        new_workflow="",
    )
    lists = {field.name: () for field in fields(Takeover) if field.name not in nothing}
    return Takeover(**(lists | nothing | written))


API_TODAY = TakenOverContainer(
    "api", "shop-api-1", "pos-api", ("api.example.com",), "pos-api:8081", "pos-api:8081", "under-its-own-name"
)
STAYS = "runs, and is not part of the spec: it stays"
STOPPED = "stopped, kept for going back: remove it when you no longer want to go back"
NOT_TOUCHED = "runs, and is not part of the spec: no deploy starts, stops or removes it"


@pytest.mark.parametrize(
    ("written", "image", "ports", "status", "saw"),
    [
        ({}, "caddy:2", "80", "running", f"{STAYS}. It has port 80 of the host"),
        ({}, "caddy:2", "80 443 443", "running", f"{STAYS}. It has ports 80, 443 of the host"),
        ({"ports": "shop-api-1"}, "caddy:2", "", "running", f"{STAYS}. It has ports 80 and 443 in `takeover`"),
        ({}, "jc21/nginx-proxy-manager:2", "", "running", f"{STAYS}. It is a proxy of the kind in the spec"),
        ({"containers": (API_TODAY,)}, "old", "80", "running", f"{STAYS}. It has port 80 of the host"),
        ({"containers": (API_TODAY,)}, "old", "", "exited", STOPPED),
        ({}, "old", "", "exited", STOPPED),
        ({}, "old", "", "created", STOPPED),
        ({"ports": "shop-api-1"}, "caddy:2", "", "exited",
         "stopped, and is not part of the spec: no deploy starts or removes it"),
        ({}, "old", "", "running", NOT_TOUCHED),
        ({}, "old", "", "restarting", NOT_TOUCHED.replace("runs", "restarting")),
    ],
)  # fmt: skip
def test_a_container_of_the_project_that_the_spec_does_not_have_is_not_superfluous(
    written: dict[str, Any], image: str, ports: str, status: str, saw: str
) -> None:
    """After a takeover of the same Compose project: its proxy, what was replaced, and what the spec does not know."""
    old = container("shop-api-1", image, project="pos-production", ports=ports)
    lines = of_container("shop-api-1", "status", status)([*well(), old])
    findings = examined(lines, replace(PLAN, takeovers=(taken_over(**written),) if written else ()))
    assert of_state(findings, "wrong", "not asked") == {}
    assert of_state(findings, "ok")["shop-api-1"] == saw
    assert not [finding for finding in findings if "docker rm" in finding.cure]


@pytest.mark.parametrize(("project", "status", "is_wrong"), [
    ("pos-production", "running", True), ("shop", "running", True), ("shop", "exited", False),
])  # fmt: skip
def test_a_container_of_today_that_still_runs_beside_the_new_one_is_wrong(
    project: str, status: str, is_wrong: bool
) -> None:
    """Also if it belongs to another Compose project: the run is green, and the old one may serve."""
    old = container("shop-api-1", "old", project=project)
    lines = of_container("shop-api-1", "status", status)([*well(), old])
    findings = examined(lines, replace(PLAN, takeovers=(taken_over(containers=(API_TODAY,)),)))
    shown = {"shop-api-1": "still runs beside pos-api, and may get its requests or do its work"} if is_wrong else {}
    assert of_state(findings, "wrong") == shown
    cures = [finding.cure for finding in findings if finding.subject == "shop-api-1" and finding.state == "wrong"]
    assert cures == (["runbook, step 10 (First push)"] if is_wrong else [])


def test_a_proxy_that_a_deploy_put_into_service_is_not_superfluous_either() -> None:
    old = container("pos-edge", "x", project="pos-production", ports="80 443")
    record = ("record", "pos-production", "pos-edge", "x@sha256:0 6 2026-01-01T00:00:00Z 11")
    assert of_state(examined([*well(), old, record]), "wrong") == {}


Change = Callable[[list[tuple[str, ...]]], list[tuple[str, ...]]]


def without(*start: str) -> Change:
    return lambda lines: [line for line in lines if line[: len(start)] != start]


def instead(start: tuple[str, ...], *replacement: str) -> Change:
    return lambda lines: [(*start, *replacement) if line[: len(start)] == start else line for line in lines]


def of_container(name: str, field: str, value: str) -> Change:
    at = ssh_host.ContainerState._fields.index(field) + 1
    return lambda lines: [
        (*line[:at], value, *line[at + 1 :]) if line[:2] == ("container", name) else line for line in lines
    ]


@pytest.mark.parametrize(
    ("change", "subject", "saw"),
    [
        (instead(("python",), ""), "python3", "none"),
        (instead(("python",), "3.7"), "python3", "3.7"),
        (instead(("engine",), "19.03.15"), "docker", "19.03.15"),
        (instead(("compose",), "2.19.9"), "docker", "compose 2.19.9"),
        (instead(("compose",), ""), "docker", "compose none"),
        (instead(("disk",), "/var/lib/docker", "1499"), "disk", "1499 MB free"),
        (instead(("memory",), "MemTotal:900 MemAvailable:100 SwapTotal:200 SwapFree:100"), "memory", "100 MB of 900"),
        (without("network"), "network proxy", "none"),
        (without("container", "npm"), "proxy", "no container runs its image or publishes port 80 or 443"),
        (of_container("npm", "networks", "bridge"), "proxy", "npm is on bridge"),
        (of_container("npm", "status", "exited"), "proxy", "npm is exited"),
        (without("file", "bin/deploy"), "bin/deploy", "is not there"),
        (instead(("file", "bin/deploy"), "", ""), "bin/deploy", "is not there"),
        (instead(("file", "bin/deploy"), "f" * 64, "755"), "bin/deploy", "sha256 ffffffffffff"),
        (instead(("file", "bin/rotate"), "f" * 64, "755"), "bin/rotate", "sha256 ffffffffffff"),
        (without("authorized"), "deploy key VPS_SSH_KEY", "no line of that key"),
        (instead(("authorized",), "ssh-ed25519 AAAAkey VPS_SSH_KEY"), "deploy key VPS_SSH_KEY", "a full login"),
        (instead(("env", "pos-staging/.env"), "missing"), "pos-staging/.env", "is not there"),
        (instead(("env", "pos-staging/.env"), "unreadable"), "pos-staging/.env", "may not read"),
        (instead(("env", "pos-staging/.env"), "640"), "pos-staging/.env", "mode 640"),
        (without("key", "pos-staging/.env", "ORIGIN"), "pos-staging/.env", "missing: ORIGIN"),
        (instead(("key", "postgres/.env", "POSTGRES_PASSWORD"), "empty"), "postgres/.env", "empty: POSTGRES_P"),
        (without("container", "pos-api"), "pos-api", "no container"),
        (of_container("pos-api", "image", "ghcr.io/other:latest"), "pos-api", "runs ghcr.io/other:latest"),
        (of_container("pos-api", "networks", "bridge"), "pos-api", "is not on the network proxy"),
        (of_container("pos-api", "oom", "true"), "pos-api", ""),
        (instead(("answer", "pos-api"), "500", "200"), "pos-api", "answers :8081/health with 500"),
        (instead(("pin", "pos-production", "pos-api"), "other"), "pos-api", "the override file pins other"),
        (lambda lines: [*lines, container("pos-old", "x", project="pos-production"),
                        ("record", "pos-production", "pos-old", "x@sha256:0 6 2026-01-01T00:00:00Z 11")],
         "pos-old", "runs, and the spec has no such service any more"),
        (lambda lines: [*lines, ("foreign", "pos-staging/docker-compose.override.yml")],
         "pos-staging/docker-compose.override.yml", "has lines that bin/deploy did not write"),
        (lambda lines: [*lines, ("unwanted", "pos-staging/compose.yaml")],
         "pos-staging/compose.yaml", "Compose would read it"),
        (instead(("key", "pos-staging/.env", "ORIGIN"), "dollar"), "pos-staging/.env", "a $ without single quotes"),
        (instead(("key", "pos-staging/.env", "ORIGIN"), "lines"), "pos-staging/.env", "of several lines: keep it in"),
        (instead(("key", "pos-staging/.env", "ORIGIN"), "comment"), "pos-staging/.env", "text behind the value"),
        (of_container("postgres", "health", "unhealthy"), "postgres", "unhealthy"),
        (without("container", "postgres"), "postgres", "no container"),
        (instead(("role", "postgres", "pos_stg"), ""), "postgres database pos_staging", "may not log in"),
        (without("owner", "postgres", "pos_staging"), "postgres database pos_staging", "does not exist"),
        (lambda lines: [*lines, ("reach", "postgres", "pos_stg", "pos_production")],
         "postgres database pos_production", "pos_stg reaches it, too"),
    ],
)  # fmt: skip
def test_one_fact_is_another(change: Change, subject: str, saw: str) -> None:
    all_findings = examined(change(well()))
    if saw:
        assert {name: saw in actual for name, actual in of_state(all_findings, "wrong").items()} == {subject: True}
        assert all(finding.expected and finding.cure for finding in all_findings if finding.state == "wrong")
    else:
        assert of_state(all_findings, "wrong") == {}


def test_a_container_that_crashes_again_and_again() -> None:
    lines = of_container("pos-api", "restarts", "9")(well())
    assert of_state(examined(lines), "wrong") == {}
    lines = of_container("pos-api", "started", "2027-01-15T07:59:00.5Z")(lines)  # a minute before now
    assert of_state(examined(lines), "wrong") == {"pos-api": "9 restarts, the last a moment ago"}


def test_nothing_is_deployed_yet() -> None:
    lines = [line for line in well() if line[0] not in ("record", "pin", "answer") and line[1][:4] != "pos-"]
    silent = dns_tls.EndpointResponse(ADDRESS, expires=NOW + 60 * 86400, status=502)
    domain_states = {domain: dns_tls.DomainState((ADDRESS,), (silent,)) for domain in PLAN.domains}
    all_findings = examined(
        [*lines, *[line for line in well() if line[0] in ("env", "key", "file")]], seen=domain_states
    )
    assert of_state(all_findings, "wrong") == {}
    assert len(of_state(all_findings, "not asked")) == 8
    assert len(of_state(examined(well(), seen=domain_states), "wrong")) == 4, "the same, with something deployed"


def test_a_host_without_docker_or_without_a_way_to_it() -> None:
    all_findings = examined(instead(("engine",), "", "permission denied while trying to connect")(well()))
    assert "usermod" in next(finding.cure for finding in all_findings if finding.subject == "docker")
    unreachable = examined([], facts={"vps": ssh_host.HostFacts(why="ssh: refused")})
    assert of_state(unreachable, "wrong") == {}
    assert of_state(unreachable, "not asked") == {
        "everything on it": "ssh: refused (ssh vps); --ssh vps=USER@ADDRESS, or `Host vps` in ~/.ssh/config,"
        " says how to log in",
        "stack pos-staging": "vps was not asked", "stack pos-production": "vps was not asked",
    }  # fmt: skip


def empty_cluster(planned: Cluster) -> cluster.ClusterFacts:
    """A cluster in which there is nothing."""
    return cluster.ClusterFacts(stacks={stack.name: cluster.StackFacts() for stack in planned.stacks})


def test_all_case_specs_have_their_cures() -> None:
    """Whatever is wrong with any of them, the runbook has the words."""
    for path in sound_specs.CASES:
        plan, tree = sound_specs.generate(path)
        facts = {host.name: ssh_host.HostFacts((("engine", "27"), ("compose", "1"))) for host in plan.hosts}
        targets = {host.name: ssh_host.SshTarget() for host in plan.hosts}
        world: dict[str, Any] = {"facts": facts, "reached": targets, "github": github.GitHubState(why="no gh")}
        world["clusters"] = {each.name: empty_cluster(each) for each in plan.clusters}
        routes = [route for stack in plan.stacks for container in stack.containers for route in container.routes]
        addresses = {*plan.domains, *(route.address for route in routes)}
        world["seen"] = {address: dns_tls.DomainState() for address in addresses}
        world["images"] = {
            instance.repository: container_registry.RegistryResponse(403)
            for s in plan.stacks
            for instance in s.instances
        }
        all_findings = examined([], plan, tree, **world)
        assert of_state(all_findings, "wrong"), path
        for host in plan.hosts:
            cures = [finding.cure for finding in all_findings if finding.group == f"host {host.name}"]
            other_hosts = {f"ssh {other_host.name} " for other_host in plan.hosts if other_host != host}
            assert not [cure for cure in cures if any(command in cure for command in other_hosts)], path


ACCESSORIES = generator.generate_files(ROOT / "tests/cases/ok/accessories/spec.yaml")[0]


@pytest.mark.parametrize(
    ("name", "facts", "state", "saw"),
    [
        ("redis", {}, "ok", "runs redis:7-alpine"),
        ("redis", {"image": "redis:6"}, "wrong", "runs redis:6"),
        ("redis", {"status": "exited", "code": "137", "oom": "true"}, "wrong", "exited, exit code 137, out of memory"),
        ("redis", {"health": "unhealthy"}, "wrong", "unhealthy"),
        ("redis", {"networks": "proxy"}, "wrong", "is not on the network shop-production_default"),
        ("buckets", {"status": "exited"}, "ok", "has run to its end"),
        ("buckets", {"status": "exited", "code": "1"}, "wrong", "exited, exit code 1"),
        ("redis", None, "wrong", "no container"),
    ],
)
def test_an_accessory(name: str, facts: dict[str, str] | None, state: str, saw: str) -> None:
    """It runs as the compose file has it, whatever its record says: it has none."""
    (stack,) = ACCESSORIES.compose_stacks
    accessory = next(candidate for candidate in stack.accessories if candidate.name == name)
    line = container(accessory.container, accessory.image, project=stack.name)
    running = ssh_host.ContainerState(*line[1:])._replace(networks=" ".join(accessory.docker_networks))
    lines: list[tuple[str, ...]] = [("record", stack.name, stack.instances[0].container, "image 1")]
    lines += [] if facts is None else [("container", *running._replace(**facts))]
    host_facts = ssh_host.HostFacts(tuple(lines))
    finding = stack_checks._check_accessory(GROUP, ACCESSORIES.hosts[0], stack, accessory, host_facts, "vps", BOOK)
    assert (finding.state, finding.saw) == (state, saw)
    if state == "wrong":
        assert f"docker compose up -d --no-deps {accessory.container}" in finding.cure


def test_a_folder_that_has_another_name_on_the_server() -> None:
    """Two servers have a stack of one name, and the repository a folder for each."""
    plan, tree = generator.generate_files(ROOT / "tests/cases/ok/same-stack-elsewhere/spec.yaml")
    book = RunbookIndex(plan.runbook, {"far": "me@far"}).for_host("far")
    (host,) = [host for host in plan.hosts if host.name == "far"]
    digest = sha256(tree["deploy/shop-production/docker-compose.yml"].text.encode()).hexdigest()
    for found, state in ((digest, "ok"), ("f" * 64, "wrong")):
        facts = ssh_host.HostFacts((("file", "shop/docker-compose.yml", found, "644"),))
        finding = host_checks.check_placed_file(GROUP, "shop/docker-compose.yml", host, tree, facts, book)
        assert finding.state == state
    copy = "git archive --prefix=shop/ HEAD:deploy/shop-production | ssh me@far 'umask 022; tar -x -C docker'"
    assert finding.cure == copy


def test_an_accessory_that_nobody_needs_yet() -> None:
    (stack,) = ACCESSORIES.compose_stacks
    all_findings = [
        stack_checks._check_accessory(GROUP, ACCESSORIES.hosts[0], stack, accessory, ssh_host.HostFacts(), "vps", BOOK)
        for accessory in stack.accessories
    ]
    assert {finding.state for finding in all_findings} == {"not asked"}


def test_any_answer_of_an_accessory_will_do() -> None:
    store = next(accessory for accessory in ACCESSORIES.compose_stacks[0].accessories if accessory.domain)
    place = dns_tls.HostAddresses(frozenset({ADDRESS}))
    for status, state in ((403, "ok"), (200, "ok"), (502, "wrong")):
        response = dns_tls.EndpointResponse(ADDRESS, expires=NOW + 60 * 86400, status=status)
        all_findings = list(
            dns_tls.check_route(
                GROUP, store, store.routes[0], dns_tls.DomainState((ADDRESS,), (response,)), place, True, BOOK, NOW
            )
        )
        assert [finding.state for finding in all_findings] == ["ok", "ok", state]


def service_finding(case: str, service: str, *lines: tuple[str, ...], facts: dict[str, str] | None) -> Finding:
    """What is found of a service of a case; `facts` is how its container differs, or None where there is none."""
    plan = generator.generate_files(ROOT / "tests/cases/ok" / case / "spec.yaml")[0]
    (stack,) = plan.compose_stacks
    (instance,) = [candidate for candidate in stack.instances if candidate.service == service]
    image = f"{instance.repository}@sha256:" + "0" * 64
    known: list[tuple[str, ...]] = [("python", "3.11"), ("pin", stack.name, instance.container, image)]
    known.append(("record", stack.name, instance.container, f"{image} 7 2026-01-01T00:00:00Z 12"))
    if facts is not None:
        state = ssh_host.ContainerState(*container(instance.container, image, project=stack.name)[1:])
        state = state._replace(networks=" ".join(instance.docker_networks))
        known.append(("container", *state._replace(**facts)))
    given = {line[:1] for line in lines}
    host_facts = ssh_host.HostFacts((*[line for line in known if line[:1] not in given], *lines))
    return stack_checks._check_service_container(
        GROUP, plan.hosts[0], stack, instance, host_facts, "vps", RunbookIndex(plan.runbook, {}).for_host("vps"), NOW
    )


def test_a_service_that_runs_to_its_end_needs_no_container() -> None:
    """Its record says that the run of the last deploy succeeded; without a record, it was never deployed."""
    ended = service_finding("once", "migrate", facts=None)
    assert (ended.state, ended.saw) == ("ok", "has run to its end with sha256:000000000000")
    never = service_finding("once", "migrate", ("record", "elsewhere", "x", ""), facts=None)
    assert (never.state, "nothing was deployed yet" in never.saw) == ("not asked", True)
    # Another service of the same stack has to run.
    assert service_finding("once", "api", facts=None).saw == "no container"


@pytest.mark.parametrize(
    ("service", "answer", "health", "fault", "expected"),
    [
        ("fpm", "open", "", "", ""),
        ("fpm", "", "", "accepts no connection at port 9000", "running, and accepting connections at port 9000"),
        ("grpc", "", "healthy", "", ""),
        ("grpc", "", "starting", "Docker's health check says: starting", "running, and healthy"),
        ("grpc", "", "", "Docker's health check says: there is none", "running, and healthy"),
        ("queue", "", "unhealthy", "unhealthy", "running, and healthy"),
    ],
)
def test_health_without_http(service: str, answer: str, health: str, fault: str, expected: str) -> None:
    name = f"shop-{service}-live"
    finding = service_finding("health-kinds", service, ("answer", name, answer), facts={"health": health})
    if not fault:
        assert finding.state == "ok" and finding.saw.startswith("serves sha256:")
        return
    assert (finding.state, finding.saw, finding.expected) == ("wrong", fault, expected)
    assert f"docker logs {name}" in finding.cure and "rollback" in finding.cure


def test_the_script_connects_where_a_deploy_only_connects() -> None:
    script = (ROOT / "kiwari_ci/remote_checks/host.sh").read_text()
    function = script[script.index("answer() {") : script.index("\nengine() {")]

    def ask(port: int) -> str:
        command = f"python={shlex.quote(sys.executable)}\n{function}\nanswer tcp:{port} 200 '' none 127.0.0.1"
        return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout.strip()

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert ask(port) == "open"
    assert ask(port) == ""


# What others answer


def test_github() -> None:
    nothing: dict[str, Any] = {"secrets": [], "variables": []}
    secrets = [f"secret {name}" for name in fake_services.SECRETS]
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"environments": {"environments": [{"name": "staging"}]}}, ["GitHub environment"]),
        ({"actions/secrets": nothing}, secrets),
        ({"actions/secrets": nothing,
          "actions/organization-secrets": {"secrets": [{"name": name} for name in fake_services.SECRETS]}}, []),
        ({"actions/variables": {"variables": [{"name": "VPS_KNOWN_HOSTS", "value": "hello"}]}}, ["host key"]),
        ({"actions/variables": {"variables": [{"name": "VPS_HOST", "value": "x"}]}, "actions/secrets": nothing},
         [*secrets, "variable VPS_KNOWN_HOSTS"]),
        ({"branches/main/protection/required_status_checks": [404, "Branch not protected"]}, ["protection of main"]),
        ({"branches/main/protection/required_status_checks": {"contexts": ["drift", "test"]}}, ["protection of main"]),
        ({"branches/main/protection/required_status_checks": [403, "Upgrade to GitHub Pro"]}, []),
        ({"branches/main/protection/required_status_checks": [404, "no"], "rules/branches/main": [
            {"type": "required_status_checks", "parameters": {"required_status_checks": [{"context": "drift"}]}}]}, []),
        ({"actions/permissions": {"enabled": False}}, ["Actions"]),
        ({"actions/permissions": {"enabled": True, "allowed_actions": "local_only"}}, ["Actions"]),
        ({"actions/permissions": [403, "Must have admin rights"]}, []),
        ({"": {"default_branch": "master"}}, ["default branch"]),
        ({"actions/workflows/api-ci.yml/runs": {"workflow_runs": [{"conclusion": "failure"}]}}, ["last run of api-ci"]),
        ({"actions/workflows/api-ci.yml/runs": {"workflow_runs": [{"conclusion": None, "status": "queued"}]}}, []),
        ({"actions/workflows/api-ci.yml/runs": [404, "Not Found"]}, []),
    ]  # fmt: skip
    for changes, expected in cases:
        changes = {path.rstrip("/"): page for path, page in changes.items()}
        if "" in changes:
            state = seen_on_github()
            state = replace(state, pages={**state.pages, "": read_page(changes[""])})
        else:
            state = seen_on_github(**changes)
        assert sorted(set(of_state(examined(well(), github=state), "wrong"))) == sorted(expected), changes


def test_what_builds_and_own_steps_read_is_expected_too(tmp_path: Path) -> None:
    """The secrets of builds are in the environment `build`, and those of steps after a deploy in the deploy's own."""
    spec = tmp_path / "kiwari.yaml"
    text = SPEC.read_text()
    steps = (
        "    steps:\n"
        "      before_build: [{name: Fetch, run: ./fetch, env: {FEED: {secret: FEED_TOKEN}, AREA: {variable: AREA}}}]\n"
        "      after_deploy: [{name: Tell, run: ./tell, env: {HOOK: {secret: CHAT_HOOK}}}]\n"
    )
    spec.write_text(text.replace("    port: 8081\n", "    port: 8081\n" + steps, 1))
    plan, tree = generator.generate_files(spec)
    base = f"repos/{fake_services.REPOSITORY}"
    pages = fake_services.github(KNOWN)
    pages[f"{base}/environments"]["environments"].append({"name": "build"})
    pages[f"{base}/environments/build/secrets"] = {"secrets": [{"name": "FEED_TOKEN"}]}
    pages[f"{base}/environments/build/variables"] = {"variables": []}

    def look() -> dict[str, str]:
        paths = ["", *github._list_api_paths(plan, ["staging", "production"])]
        state = github.GitHubState(
            {path: read_page(pages[f"{base}/{path.partition('?')[0]}".rstrip("/")]) for path in paths}
        )
        return of_state(examined(well(), plan, tree, github=state), "wrong")

    assert look() == {"secret CHAT_HOOK": "is not set", "variable AREA": "is not set"}
    pages[f"{base}/environments/build/secrets"] = {"secrets": []}
    assert "secret FEED_TOKEN" in look()
    pages[f"{base}/environments"]["environments"].pop()
    assert look()["GitHub environment"] == "none of this name"


def test_what_is_open_is_said() -> None:
    """It is not wrong: a free private repository cannot have it otherwise."""
    every = {"name": "staging", "deployment_branch_policy": None}, {"name": "production"}
    all_findings = examined(well(), github=seen_on_github(environments={"environments": every}, rulesets=[]))
    texts = [f"{finding.subject}: {finding.saw}" for finding in all_findings if finding.state == "ok"]
    secret = "secret VPS_HOST: is set, open to every workflow of every branch: "
    assert any(text.startswith(secret) and "gh secret set VPS_HOST --env staging" in text for text in texts)
    assert "GitHub environment: staging, open to every branch and tag: " in "\n".join(texts)
    assert "tags of versions: open to everybody who may push: " in "\n".join(texts)


def test_what_is_closed_is_not_called_open() -> None:
    policy = {"protected_branches": False, "custom_branch_policies": True}
    closed = [{"name": name, "deployment_branch_policy": policy} for name in ("staging", "production")]
    environment_secrets = {"secrets": [{"name": name} for name in fake_services.SECRETS], "variables": []}
    pages: dict[str, Any] = {f"environments/{name}/secrets": environment_secrets for name in ("staging", "production")}
    all_findings = examined(well(), github=seen_on_github(environments={"environments": closed}, **pages))
    assert not [finding for finding in all_findings if "open to" in finding.saw]


def test_gh_in_every_mood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "gh is not installed" in github.probe_github(PLAN, ["staging"]).why
    fake_services.gh(tmp_path, fake_services.github(KNOWN))
    state = github.probe_github(PLAN, ["staging", "production"])
    assert of_state(examined(well(), github=state), "wrong", "not asked") == {}
    moods: list[tuple[Any, str]] = [
        ([0, "To get started with GitHub CLI, please run:  gh auth login"], "gh is not logged in"),
        ([403, "API rate limit exceeded for user ID 1."], "API rate limit exceeded"),
        ([401, "Bad credentials"], "Bad credentials"),
        ("<html>garbage", "is not what GitHub's API says"),
        ('{"a":' * 9999, "is not what GitHub's API says"),
    ]
    for page, says in moods:
        fake_services.gh(tmp_path, {"*": page})
        state = github.probe_github(PLAN, ["staging"])
        assert says in state.why
        all_findings = examined(well(), github=state)
        assert of_state(all_findings, "wrong") == {}
        assert set(of_state(all_findings, "not asked")) == {
            "GitHub environment, secrets, variables", fake_services.REPOSITORY, "host key",
        }  # fmt: skip
    for odd in ("", "[]", "null", '{"environments": 7, "secrets": [7], "contexts": {}}', '{"a": 1}{"b": 2}'):
        fake_services.gh(tmp_path, {"*": odd})
        assert examined(well(), github=github.probe_github(PLAN, []))
    fake_services.gh(tmp_path, {"*": [404, "Not Found"]})
    assert of_state(examined(well(), github=github.probe_github(PLAN, [])), "wrong") == {
        fake_services.REPOSITORY: "not found"
    }


class Answering(BaseHTTPRequestHandler):
    """A stand-in for a service; `says` has its answers: path and authorization → status, body, headers."""

    says: Callable[[str, str], tuple[int, str, dict[str, str]]]

    def do_GET(self) -> None:  # noqa: N802 - http.server's word
        status, body, headers = type(self).says(self.path, self.headers.get("Authorization", ""))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        pass


class Quiet(ThreadingHTTPServer):
    """A client that hangs up is part of the test."""

    def handle_error(self, *_: Any) -> None:
        pass


@contextmanager
def service(says: Callable[[str, str], tuple[int, str, dict[str, str]]], tls: Path | None = None) -> Iterator[int]:
    """Runs a stand-in on a port of the loopback, with TLS when there is a certificate."""
    server = Quiet(("127.0.0.1", 0), type("Stand-in", (Answering,), {"says": staticmethod(says)}))
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=partial(server.serve_forever, 0.01))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("case", "lines", "saw"),
    [
        ("caddy", [container("caddy", "caddy:2.11.9-alpine")], ""),
        ("caddy", [container("other", "caddy:2.11.9-alpine", ports="443")], "no container `caddy`"),
        ("nginx", [container("api", "nginx:1.28-alpine"), container("nginx", "nginx:1.28-alpine")], ""),
        ("traefik", [container("edge", "traefik:v3.6")], "the container edge is on proxy"),
        ("traefik-stack", [container("traefik", "traefik:v3.7.13")], ""),
        ("traefik-stack", [container("traefik", "traefik:v3.5.0")], "traefik is traefik:v3.5.0"),
        ("published", [], "none"),
    ],
)
def test_each_kind_of_proxy_is_known(case: str, lines: list[tuple[str, ...]], saw: str) -> None:
    plan, tree = generator.generate_files(ROOT / f"tests/cases/ok/proxy-{case}/spec.yaml")
    book, host = RunbookIndex(plan.runbook, {}).for_host("vps"), plan.hosts[0]
    facts = ssh_host.HostFacts((("engine", "27.3.1"), ("compose", "2.29.7"), *lines))
    proxy_findings = [
        finding for finding in host_checks.check_host_system(GROUP, host, facts, book) if finding.subject == "proxy"
    ]
    assert [finding.saw.partition(",")[0] for finding in proxy_findings if finding.state == "wrong"] == (
        [saw] if saw not in ("", "none") else []
    )
    assert bool(proxy_findings) == (saw != "none")
    assert [path for path in ssh_host.list_placed_files(host) if f"deploy/{path}" not in tree] == []


@pytest.mark.parametrize(("case", "file"), [("caddy", "caddy/conf/Caddyfile"), ("nginx", "nginx/conf/default.conf")])
def test_a_proxy_that_was_told_something_else_is_told_and_reads_it(case: str, file: str) -> None:
    plan, tree = generator.generate_files(ROOT / f"tests/cases/ok/proxy-{case}/spec.yaml")
    book = RunbookIndex(plan.runbook, {}).for_host("vps")
    facts = ssh_host.HostFacts((("file", file, "old", "644"),))
    finding = host_checks.check_placed_file(GROUP, file, plan.hosts[0], tree, facts, book)
    assert finding.state == "wrong"
    copied, reload = finding.cure.split("; then ")
    assert copied.startswith("git archive HEAD") and f"deploy/{case}" in copied
    assert reload.startswith(f"ssh vps 'cd ~/docker/{case} && docker compose exec {case} ") and "reload" in reload


def test_traefik_has_no_route_to_what_was_never_deployed() -> None:
    plan = generator.load_spec(ROOT / "tests/cases/ok/proxy-traefik/spec.yaml").plan
    book, on = RunbookIndex(plan.runbook, {}), plan.hosts[0]
    domain_state = dns_tls.DomainState(
        (ADDRESS,), (dns_tls.EndpointResponse(ADDRESS, expires=NOW + 60 * 86400, status=404),)
    )
    place = ssh_host.collect_host_addresses(on, ssh_host.SshTarget(addresses=(ADDRESS,)), ssh_host.HostFacts())
    for deployed, state in ((False, "not asked"), (True, "wrong")):
        *_, health = dns_tls.check_route(
            GROUP, on.public[0], on.public[0].routes[0], domain_state, place, deployed, book, NOW
        )
        assert health.state == state, health


def test_a_password_is_expected_to_be_asked_for() -> None:
    plan = generator.load_spec(ROOT / "tests/cases/ok/basic-auth-nginx-proxy-manager/spec.yaml").plan
    (host,) = plan.hosts
    container, site = host.public[0], host.sites[0]
    place = dns_tls.HostAddresses(frozenset({ADDRESS}))
    for status, state in ((401, "ok"), (200, "wrong")):
        response = dns_tls.EndpointResponse(ADDRESS, expires=NOW + 60 * 86400, status=status)
        domain_state = dns_tls.DomainState((ADDRESS,), (response,))
        *_, last = dns_tls.check_route(GROUP, container, container.routes[0], domain_state, place, True, BOOK, NOW)
        assert last.state == state
    for access_list, state in ((4, "ok"), (0, "wrong")):
        proxy_host = npm_host(
            API.domain, forward_host=container.container, forward_port=container.port, access_list_id=access_list
        )
        finding = nginx_proxy_manager.check_proxy_host(GROUP, site, ({site.domain: proxy_host}, ""), BOOK)
        assert finding.state == state


@pytest.mark.parametrize(
    ("status", "location", "state", "saw"),
    [
        (308, "https://shop.example.com/", "ok", "308 to https://shop.example.com/"),
        (301, "https://shop.example.com/", "ok", "301 to https://shop.example.com/"),
        (308, "https://other.example.com/", "wrong", "308, to https://other.example.com/"),
        (200, "", "wrong", "200, to nowhere"),
    ],
)
def test_a_domain_that_only_redirects(status: int, location: str, state: str, saw: str) -> None:
    redirect = DomainRedirect("https", "www.shop.example.com", "shop.example.com", "shop-web-production")
    response = dns_tls.EndpointResponse(
        ADDRESS, expires=NOW + 60 * 86400, status=status, headers={"location": location} if location else {}
    )
    domain_state = dns_tls.DomainState((ADDRESS,), (response,))
    place = dns_tls.HostAddresses(frozenset({ADDRESS}))
    *others, last = dns_tls.check_redirect(GROUP, redirect, domain_state, place, BOOK, NOW)
    assert [finding.state for finding in others] == ["ok", "ok"]
    assert (last.state, last.saw) == (state, saw)


def test_nginx_proxy_manager() -> None:
    hosts = [npm_host(domain) for domain in PLAN.domains]
    expected_authorization = "Bearer right"

    def says(path: str, authorization: str) -> tuple[int, str, dict[str, str]]:
        if authorization != expected_authorization:
            return 401, '{"error": "a stand-in for Nginx Proxy Manager"}', {}
        return 200, json.dumps(hosts) if path.startswith("/api/nginx/proxy-hosts") else "[]", {}

    with service(says) as port:
        url = f"http://127.0.0.1:{port}/"
        assert (
            of_state(examined(well(), proxy=nginx_proxy_manager.fetch_proxy_hosts(url, "right")), "wrong", "not asked")
            == {}
        )
        assert "refuses the token" in nginx_proxy_manager.fetch_proxy_hosts(url, "wrong")[1]
    assert "Connection refused" in nginx_proxy_manager.fetch_proxy_hosts(url, "right")[1]
    assert "no token in NPM_TOKEN" in nginx_proxy_manager.fetch_proxy_hosts(url, "")[1]
    assert "unencrypted" in nginx_proxy_manager.fetch_proxy_hosts("http://192.0.2.1:81", "right")[1]
    for status, text in ((200, "<html>"), (200, "[7]"), (200, '{"a": 1}'), (200, "[" * 100000), (500, ""), (302, "")):
        assert nginx_proxy_manager.parse_proxy_hosts(calls.HttpResponse(status, text, {}))[1].startswith(
            "Nginx Proxy Manager"
        )


@pytest.mark.parametrize(
    ("changes", "saw"),
    [
        ({"forward_host": "other"}, "forwards to http other 8081"),
        ({"forward_port": 80, "enabled": 0}, "forwards to http pos-api-staging 80; disabled"),
        ({"certificate_id": 0, "ssl_forced": 0}, "no certificate; SSL is not forced"),
        ({"http2_support": False}, "no HTTP/2"),
        ({"allow_websocket_upgrade": False}, "no WebSockets"),
        ({"locations": [{"path": "/ws"}]}, "has custom locations, which keep a dead address"),
        ({"advanced_config": "proxy_read_timeout 1;"}, "has an Advanced snippet"),
        ({"access_list_id": 4}, "an access list stands before the health check"),
        ({"meta": {"nginx_online": False, "nginx_err": "bad"}}, "nginx refused it: bad"),
    ],
)
def test_a_proxy_host_is_another(changes: dict[str, Any], saw: str) -> None:
    finding = nginx_proxy_manager.check_proxy_host(
        GROUP, API_SITE, ({API.domain: npm_host(API.domain, **changes)}, ""), BOOK
    )
    assert (finding.state, finding.saw) == ("wrong", saw)
    assert nginx_proxy_manager.check_proxy_host(GROUP, API_SITE, ({}, ""), BOOK).saw == "none for this domain"


def test_a_proxy_host_without_certificate() -> None:
    site = replace(API_SITE, scheme="http")

    def check(**changes: Any) -> tuple[str, str]:
        hosts = {API.domain: npm_host(API.domain, **changes)}
        finding = nginx_proxy_manager.check_proxy_host(GROUP, site, (hosts, ""), BOOK)
        return finding.state, finding.saw

    assert check(certificate_id=0, ssl_forced=False, http2_support=0)[0] == "ok"
    assert check() == ("wrong", "SSL is forced, so that plain HTTP is redirected")


def test_paths_of_a_proxy_host() -> None:
    """The Advanced tab leads paths to other services, as the runbook says."""
    folder = ROOT / "tests/cases/ok/routes-nginx-proxy-manager"
    site = generator.load_spec(folder / "spec.yaml").plan.hosts[0].sites[0]
    runbook = (folder / "expected/deploy/RUNBOOK.md").read_text()
    snippet = runbook.partition(f"Some paths of `{site.domain}`")[2].partition("```nginx\n")[2].partition("```")[0]
    host = npm_host(API.domain, forward_host="shop-web-production", forward_port=3000)

    def check(advanced: str) -> tuple[str, str]:
        hosts = {site.domain: host | {"advanced_config": advanced}}
        finding = nginx_proxy_manager.check_proxy_host(GROUP, site, (hosts, ""), BOOK)
        return finding.state, finding.saw

    assert check(snippet)[0] == "ok"
    assert check(snippet.replace("$server shop-api-production", "$server other")) == (
        "wrong",
        "its Advanced snippet does not lead /api to shop-api-production",
    )
    assert check("")[1].count("does not lead") == 2


def test_the_registry() -> None:
    def says(path: str, authorization: str) -> tuple[int, str, dict[str, str]]:
        """A stand-in for ghcr.io: `open` is public, `closed` needs a token, `new` has no tag yet."""
        if path.startswith("/token"):
            login = base64.b64decode(authorization.removeprefix("Basic ")).decode() if authorization else ""
            may = login == f"x-access-token:{SECRET}" or ("open" in path and not login)
            return (200, '{"token": "for-a-moment"}', {}) if may else (403, '{"errors": []}', {})
        if authorization != "Bearer for-a-moment":
            realm = "http://192.0.2.1/token" if "evil" in path else f"http://127.0.0.1:{port}/token"
            return 401, "", {"WWW-Authenticate": f'Bearer realm="{realm}",service="x",scope="repository:a:pull"'}
        return (404 if "new" in path else 200), "", {}

    with service(says) as port:
        probe = partial(container_registry.probe_image_tag, f"http://127.0.0.1:{port}")
        cases = [
            ("closed", SECRET, "ok", "GHCR_TOKEN may read it"),
            ("closed", "wrong", "wrong", "GHCR_TOKEN is refused: 403"),
            ("new", SECRET, "not asked", "nothing was pushed under its tag yet; runbook, step 10 (First push)"),
            ("open", "", "ok", "public: anybody may read it"),
            ("closed", "", "not asked", "private, or not pushed yet: --pull-token asks with a token, too"),
            ("evil", SECRET, "not asked", "the registry's way to log in is not known"),
        ]
        for image, token, state, saw in cases:
            response = probe(f"acme/{image}", "staging", "x-access-token", token)
            finding = container_registry.check_image_access(
                GROUP, image, response, container_registry.PullTokenSecret("GHCR_TOKEN", bool(token)), True, BOOK
            )
            assert (finding.state, finding.saw) == (state, saw)
    early = container_registry.check_image_access(
        GROUP,
        "x",
        container_registry.RegistryResponse(403),
        container_registry.PullTokenSecret("GHCR_TOKEN", True),
        False,
        BOOK,
    )
    assert early.state == "not asked" and early.saw == "GHCR_TOKEN may not read it, or nothing was pushed yet: 403"
    assert "Connection refused" in probe("acme/open", "staging", "x-access-token", "").why


# Names


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """Makes certificates of a throw-away authority: its own is `ca.pem`, in the same folder."""
    folder = tmp_path_factory.mktemp("ca")
    if not shutil.which("openssl"):
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("NOT TESTED: needs openssl")
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]

    def make(name: str, days: int) -> Path:
        file = folder / f"{name}-{days}.pem"
        signed = ["-CA", str(folder / "ca.pem"), "-CAkey", str(folder / "ca.pem")] if name != "ca" else []
        usual = ["-subj", f"/CN={name}", "-days", str(days), "-keyout", str(file), "-out", str(folder / "crt")]
        more = ["-addext", f"subjectAltName=DNS:{name}"] if signed else []
        subprocess.run([*new, *usual, *signed, *more], check=True, capture_output=True)
        with file.open("a") as end:
            end.write((folder / "crt").read_text())
        return file

    make("ca", 90).rename(folder / "ca.pem")
    return make


def net(port: int, authority: Callable[[str, int], Path], *addresses: str) -> dns_tls.NetworkBackend:
    """The net in which the domain leads to these addresses, and the throw-away authority is trusted."""
    ca = authority("any", 1).parent / "ca.pem"
    return dns_tls.NetworkBackend(lambda _: list(addresses), partial(ssl.create_default_context, cafile=str(ca)), port)


def judged(
    net: dns_tls.NetworkBackend, deployed: bool = True, address: str = "127.0.0.1"
) -> dict[str, tuple[str, str]]:
    """What is said of the API's domain."""
    domain_state = dns_tls.probe_domain("https", API.domain, API.health_path, net)
    place = dns_tls.HostAddresses(frozenset({address}))
    all_findings = dns_tls.check_route(GROUP, API, API.routes[0], domain_state, place, deployed, BOOK, net.now())
    return {finding.subject.removeprefix(API.domain).strip(): (finding.state, finding.saw) for finding in all_findings}


def test_a_domain_over_tls(authority: Callable[[str, int], Path]) -> None:
    cases: list[tuple[tuple[int, str, dict[str, str]], str, str]] = [
        ((200, "", {}), "ok", "200"),
        ((404, "", {}), "wrong", "status 404 over HTTPS"),
        ((502, "", {}), "wrong", "502: the proxy answers, the service does not"),
        ((301, "", {"Location": "https://www.example.com/\x1b[2J"}), "wrong", "301, a redirect to https://www.exam"),
        ((403, "", {"Server": "cloudflare"}), "wrong", "403 from cloudflare: its challenge"),
        ((403, "", {}), "wrong", "status 403 over HTTPS"),
    ]
    answers = [answer for answer, _, _ in cases]
    with service(lambda *_: answers.pop(0), authority(API.domain, 60)) as port:
        for (_, _, headers), state, saw in cases:
            judgement = judged(net(port, authority, "127.0.0.1"))
            assert judgement["/health"][0] == state and judgement["/health"][1].startswith(saw), judgement
            assert judgement["TLS"][0] == "ok" and re.fullmatch(r"valid for (59|60) days", judgement["TLS"][1])
            assert judgement["DNS"] == (("ok", "127.0.0.1, of cloudflare: what it asks cannot be seen from here")
                                   if "Server" in headers else ("ok", "127.0.0.1"))  # fmt: skip


def test_a_domain_without_tls() -> None:
    route = replace(API.routes[0], scheme="http")
    place = dns_tls.HostAddresses(frozenset({"127.0.0.1"}))

    def judge(port: int) -> dict[str, tuple[str, str]]:
        where = dns_tls.NetworkBackend(lambda _: ["127.0.0.1"], plain_port=port)
        state = dns_tls.probe_domain("http", API.domain, API.health_path, where)
        findings = dns_tls.check_route(GROUP, API, route, state, place, True, BOOK, NOW)
        return {finding.subject: (finding.state, finding.saw) for finding in findings}

    redirect = {"Location": f"https://{API.domain}/health"}
    answers: list[tuple[int, str, dict[str, str]]] = [(200, "", {}), (301, "", redirect)]
    with service(lambda *_: answers.pop(0)) as port:
        assert judge(port) == {
            f"{API.domain} DNS": ("ok", "127.0.0.1"),
            f"{API.domain} plain HTTP": (
                "ok",
                "the port is open; the spec has `scheme: http`, so no certificate is checked",
            ),
            f"http://{API.domain}/health": ("ok", "200"),
        }
        redirected = judge(port)[f"http://{API.domain}/health"]
    assert redirected[0] == "wrong" and redirected[1].startswith("301, a redirect to https://"), redirected
    closed = judge(port)
    assert closed[f"{API.domain} plain HTTP"] == ("wrong", f"Connection refused (127.0.0.1:{port})")
    assert closed[f"http://{API.domain}/health"][0] == "not asked"


def test_certificates(authority: Callable[[str, int], Path]) -> None:
    fine = (200, "", dict[str, str]())
    for name, days, trusted, saw in [
        (API.domain, 5, True, "expires in 4 days"),
        ("other.example.com", 60, True, "Hostname mismatch"),
        (API.domain, 60, False, "unable to get local issuer"),
    ]:
        with service(lambda *_: fine, authority(name, days)) as port:
            where = net(port, authority, "127.0.0.1")
            judgement = judged(where if trusted else replace(where, context=ssl.create_default_context))
            assert judgement["TLS"][0] == "wrong" and saw in judgement["TLS"][1], judgement
            assert judgement["/health"][0] == ("ok" if days == 5 else "not asked")
    with service(lambda *_: fine) as port:  # no TLS at all
        assert judged(net(port, authority, "127.0.0.1"))["TLS"][1].startswith("no TLS: ")
    closed = judged(net(port, authority, "127.0.0.1"))
    assert closed["TLS"] == ("wrong", f"Connection refused (127.0.0.1:{port})")


def test_where_a_domain_leads(authority: Callable[[str, int], Path]) -> None:
    def fails(error: int) -> dns_tls.NetworkBackend:
        def resolve(name: str) -> list[str]:
            if name != dns_tls.REFERENCE_DOMAIN or error == socket.EAI_SERVICE:
                raise socket.gaierror(socket.EAI_NONAME if error == socket.EAI_SERVICE else error, "words")
            return ["192.0.2.1"]

        return dns_tls.NetworkBackend(resolve)

    everything = "DNS, TLS, /health"
    assert judged(fails(socket.EAI_NONAME))["DNS"] == ("wrong", "no such name")
    assert judged(fails(socket.EAI_AGAIN)) == {everything: ("not asked", "words")}
    assert "no names are known here" in judged(fails(socket.EAI_SERVICE))[everything][1], "a machine without a network"
    with service(lambda *_: (200, "", {}), authority(API.domain, 60)) as port:
        where = net(port, authority, "127.0.0.1")
        assert judged(where, address="127.0.0.2")["DNS"] == ("wrong", "A 127.0.0.1")
        assert judged(where, address="8.8.8.8")["DNS"][0] == "not asked", (
            "a private address says nothing of a public one"
        )
        judgement = judged(net(port, authority, "127.0.0.1", "::1"))
        assert judgement["DNS"] == ("not asked", "127.0.0.1, ::1: whether that is the host's is not known from here")
        assert judgement["/health over IPv4"][0] == "ok" and judgement["TLS over IPv6"][0] in ("wrong", "not asked")
    place = dns_tls.HostAddresses(frozenset({ADDRESS}), complete=True)
    two = dns_tls.DomainState((ADDRESS, "2001:db8::1"))
    assert dns_tls._check_dns(GROUP, API.domain, two, place, BOOK).saw == "AAAA 2001:db8::1", (
        "the host has no such address"
    )


def test_a_name_that_takes_for_ever() -> None:
    began = time.monotonic()
    call = calls.BackgroundCall(threading.Event().wait)
    assert call.answer(began + 0.05, True) and time.monotonic() - began < 1
    with pytest.raises(ZeroDivisionError):
        calls.BackgroundCall(lambda: 1 / 0).answer(began + 5, 0.0)


# The host's script, and what is made of its words


def script(home: Path, *arguments: str) -> ssh_host.HostFacts:
    """Runs it here, as `bash -s` would there, in a home of its own."""
    text = f"echo hello from .bashrc\nset -- {shlex.join(arguments)}\n{ssh_host.PROBE_SCRIPT.read_text()}"
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "DOCKER_HOST": "unix:///nowhere"}
    process = subprocess.run(["bash", "-s"], input=text, capture_output=True, text=True, env=environment, timeout=30)
    assert SECRET not in process.stdout + process.stderr
    return ssh_host.parse_host_facts(calls.ProcessResult(process.returncode, process.stdout, process.stderr))


def test_the_script_is_clean() -> None:
    assert said_by(shellcheck, [ssh_host.PROBE_SCRIPT]) == []


def test_only_names_of_keys_leave_the_host(tmp_path: Path) -> None:
    folder = tmp_path / "docker"
    folder.mkdir()
    (folder / ".env").write_bytes(
        b"\xef\xbb\xbfFIRST='x'\r\n# COMMENT=change-me\n\nexport EXPORTED = 1\nEMPTY=\nQUOTED=''\nLOOSE=a$b\n"
        b"FINE='a$b' # $c\nLEFT='postgres://u:change-me@h/d'\nNOTED=x # change-me\nlower='x'\nBARE\n"
        + f"PEM='-----BEGIN KEY\n{SECRET}=\nABCDEFGH=\n{SECRET}\n-----END'\nDOUBLE=\"{SECRET}\n{SECRET}=x\"\n".encode()
        + f"{SECRET}\n{SECRET}=\n{SECRET}=1\nJBSWY3DPEHPK3PXP====\nLAST={SECRET}".encode()
    )
    facts = script(
        tmp_path, "docker", "env:.env:lower,FIRST,BARE,EMPTY", "env:none.env:A", "file:.env", "file:none", "stack:none"
    )
    assert facts.first("env", ".env") == (f"{(folder / '.env').stat().st_mode & 0o777:o}",)
    assert {name: flags for name, flags in facts.all("key", ".env")} == {
        "FIRST": "", "EXPORTED": "", "EMPTY": "empty", "QUOTED": "empty", "LOOSE": "dollar", "FINE": "comment",
        "LEFT": "change-me", "NOTED": "comment change-me", "lower": "", "BARE": "empty", "PEM": "lines",
        "DOUBLE": "lines", "LAST": "",
    }  # fmt: skip
    assert facts.word("others", ".env") == "4"
    assert facts.first("env", "none.env") == ("missing",) and facts.first("file", "none") == ("", "")
    assert facts.word("file", ".env") == sha256((folder / ".env").read_bytes()).hexdigest()
    assert facts.first("engine")[0] == "" and "nowhere" in facts.first("engine")[1]


@pytest.mark.parametrize(
    ("line", "flags"),
    [
        ("KEY=abc#1$HOME", "dollar"),
        ('KEY="abc#1$HOME"', "dollar"),
        ('KEY="it\'s $HOME"', "dollar"),
        ("KEY=it's $HOME", "dollar"),
        ("KEY: pa$HOME", "dollar"),
        ('KEY="two\nlines $HOME"', "lines dollar"),
        ('KEY="a\\$b"', "dollar backslash"),
        ("KEY=a # $HOME", "comment"),
        ("KEY='a' # $HOME", "comment"),
        ("KEY='#1 $HOME'", ""),
        ("KEY='a\"b\\n'", ""),
        ("KEY=abc#1", ""),
        ("KEY: plain", ""),
    ],
)
def test_what_compose_reads_otherwise_in_an_env_file_is_flagged(tmp_path: Path, line: str, flags: str) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/.env").write_text(f"{line}\nNEXT='x'\n" if "\n" not in line else f"{line}\n")
    facts = script(tmp_path, "docker", "env:.env:KEY,NEXT")
    expected = "lines" if flags.startswith("lines") else flags  # what follows the first line is not looked at
    assert facts.word("key", ".env", "KEY") == expected


def test_a_home_with_nothing_in_it(tmp_path: Path) -> None:
    facts = script(tmp_path, *ssh_host._build_script_arguments(PLAN.hosts[0]))
    assert facts.first("nofolder") == ("docker",)
    assert {"bin/deploy", "pos-staging/.env"} <= set(of_state(examined(list(facts.lines)), "wrong"))


def test_records_pins_and_keys(tmp_path: Path) -> None:
    stack = tmp_path / "docker/web"
    (stack / ".deploys").mkdir(parents=True)
    image = f"ghcr.io/acme/web@sha256:{'a' * 64}"
    (stack / ".deploys/web").write_text(f"{image} 1 2026-01-01T00:00:00Z 5\n{image} 2 2026-01-02T00:00:00Z 6\ncut o")
    pins = f'  web: {{image: "{image}"}}\n  other: {{}}\n'
    (stack / "docker-compose.override.yml").write_text(f"services:\n{pins}")
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/authorized_keys").write_text("ssh-ed25519 AAAA one\n\nssh-ed25519 BBBB\ttwo")
    facts = script(tmp_path, "docker", "stack:web")
    assert facts.word("record", "web", "web").split()[:2] == [image, "2"]
    assert facts.all("pin") == [("web", "web", image)] and facts.word("foreign") == "web/docker-compose.override.yml"
    assert facts.all("authorized") == [("ssh-ed25519 AAAA one",), ("",), ("ssh-ed25519 BBBB two",)]


@pytest.mark.parametrize(
    ("more", "is_foreign"),
    [("", False), ("    ports: ['80:80']\n", True), ("  web: {image: other, ports: ['80:80']}\n", True)],
)
def test_an_override_file_that_bin_deploy_would_overwrite(tmp_path: Path, more: str, is_foreign: bool) -> None:
    stack = tmp_path / "docker/web"
    stack.mkdir(parents=True)
    head = "# Written by bin/deploy: what serves. Compose reads it by itself.\nservices:\n"
    pins = f'  web: {{image: "ghcr.io/acme/web@sha256:{"a" * 64}"}}\n  web-redis: {{}}\n'
    (stack / "docker-compose.override.yml").write_text(head + pins + more)
    (stack / "docker-compose.yml").write_text("")
    foreign_files = script(tmp_path, "docker", "stack:web").all("foreign")
    assert foreign_files == ([("web/docker-compose.override.yml",)] if is_foreign else [])


@pytest.mark.parametrize(
    "name",
    ["compose.yaml", "compose.yml", "compose.override.yml", "docker-compose.yaml", "docker-compose.override.yaml"],
)
def test_another_compose_file_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "docker/web").mkdir(parents=True)
    (tmp_path / "docker/web" / name).write_text("services: {}\n")
    assert script(tmp_path, "docker", "stack:web").all("unwanted") == [(f"web/{name}",)]


@pytest.mark.parametrize(
    ("ran", "why"),
    [
        (
            calls.ProcessResult(255, "", "Warning: x\nssh: connect to host 192.0.2.1: Connection refused\n"),
            "Connection refused",
        ),
        (
            calls.ProcessResult(64, "", "deploy: this is none of the requests that bin/deploy lists"),
            "log in with one of your own",
        ),
        (calls.ProcessResult(255, "motd\nbegin\nlogin\tx\ty", "Connection closed"), "its answer broke off"),
        (calls.ProcessResult(calls.TIMED_OUT, "", "no answer within 18 s"), "no answer within 18 s"),
        (calls.ProcessResult(0, "", ""), "no words"),
        (calls.ProcessResult(127, "", "bash: not found"), "bash: not found"),
    ],
)  # fmt: skip
def test_ssh_does_not_get_through(ran: calls.ProcessResult, why: str) -> None:
    assert why in ssh_host.parse_host_facts(ran).why


def test_lines_that_no_script_of_ours_prints() -> None:
    odd = ["begin", "", "\t\t", "container\tx", "engine", "reach\tpostgres\tx", "disk", "file\tbin/deploy\tx\t", "end"]
    facts = ssh_host.parse_host_facts(calls.ProcessResult(0, "\n".join(odd), ""))
    assert examined([*facts.lines, ("engine", "27"), ("container", "a\x1b[2J")])


KEYS = ['restrict,command="docker/bin/deploy pos-staging pos-production" ssh-ed25519 AAAAa any comment']


@pytest.mark.parametrize(
    ("lines", "saw"),
    [
        (KEYS, ""),
        (['command="docker/bin/deploy pos-staging pos-production",restrict ssh-ed25519 AAAAa VPS_SSH_KEY'], ""),
        (['restrict,command="docker/bin/deploy pos-staging" ssh-rsa AAAAa x'], "it may not touch pos-production"),
        ([KEYS[0].replace("restrict", "no-pty")], "without `restrict` it also forwards ports"),
        ([KEYS[0].replace("pos-staging", "pos-staging other")], "it may touch other, too"),
        ([KEYS[0], "ssh-ed25519 AAAAa"], "another line gives the same key a full login"),
        (['restrict,command="/bin/sh" ssh-ed25519 AAAAa VPS_SSH_KEY'], "a full login: /bin/sh"),
        (["# ssh-ed25519 AAAA", "garbage", ""], "no line of that key"),
    ],
)
def test_the_deploy_keys_line(lines: list[str], saw: str) -> None:
    facts = ssh_host.HostFacts(tuple(("authorized", line) for line in lines))
    finding = host_checks.check_deploy_key(GROUP, PLAN.hosts[0], PLAN.hosts[0].keys[0], facts, BOOK)
    assert (finding.state, finding.saw if saw else "") == ("wrong" if saw else "ok", saw)


@pytest.mark.parametrize(
    ("known", "state", "saw"),
    [
        (host_checks.KnownHostsEntry(KNOWN), "ok", ""),
        (host_checks.KnownHostsEntry(f"# x\n\n{KNOWN} comment\n", address=ADDRESS), "ok", ""),
        (host_checks.KnownHostsEntry(f"[{ADDRESS}]:2222 ssh-ed25519 {KEY}", address=f"[{ADDRESS}]:2222"), "ok", ""),
        (host_checks.KnownHostsEntry(KNOWN, address="192.0.2.11"), "wrong", "is for 192.0.2.10"),
        (host_checks.KnownHostsEntry(f"ssh-ed25519 {KEY}"), "wrong", "is no known_hosts line"),
        (host_checks.KnownHostsEntry(""), "wrong", "is no known_hosts line"),
        (host_checks.KnownHostsEntry(f"{ADDRESS} ssh-ed25519 AAAAother"), "wrong", "presents others"),
        (host_checks.KnownHostsEntry(why="nobody knows"), "not asked", "nobody knows"),
    ],
)
def test_the_host_key(known: host_checks.KnownHostsEntry, state: str, saw: str) -> None:
    reached = ssh_host.SshTarget(ADDRESS, (ADDRESS,), frozenset({("ssh-ed25519", KEY)}))
    for by in (reached, ssh_host.SshTarget(ADDRESS)):
        facts = ssh_host.HostFacts((("hostkey", "ssh-ed25519", KEY),))
        finding = host_checks.check_host_key(GROUP, PLAN.hosts[0], known, by, facts, BOOK)
        assert finding.state == state and saw in finding.saw
    assert (
        host_checks.check_host_key(
            GROUP, PLAN.hosts[0], host_checks.KnownHostsEntry(KNOWN), ssh_host.SshTarget(), ssh_host.HostFacts(), BOOK
        ).state
        == "not asked"
    )


# The command


def test_the_pages_example() -> None:
    """What docs/doctor.md shows is what is printed."""
    lines = instead(("file", "bin/deploy"), "4f2a9c1be07d" + "0" * 52, "755")(well())
    lines = without("key", "pos-staging/.env", "JWT_SECRET")(lines)
    soon = dns_tls.EndpointResponse(ADDRESS, expires=NOW + 12 * 86400, status=200)
    fine = replace(soon, expires=NOW + 75 * 86400)
    domain_states = {
        domain: dns_tls.DomainState((ADDRESS,), (soon if domain == API.domain else fine,)) for domain in PLAN.domains
    }
    nobody = github.GitHubState(why="gh is not logged in: gh auth login")
    text = findings.format_findings_text(examined(lines, only=["staging"], seen=domain_states, github=nobody))
    page = (ROOT / "docs/doctor.md").read_text()
    documented, printed = (re.sub(r"sha256 \w{12}", "sha256 of the file", output) for output in (page, text))
    assert f"```text\n{printed}\n```" in documented, text


def test_a_command_can_be_typed_as_it_is() -> None:
    for destination, login in (("me@192.0.2.10", "me@192.0.2.10"), ("an alias", "USER@ADDRESS")):
        book = RunbookIndex(PLAN.runbook, {"vps": destination}).for_host("vps")
        expected = f'VPS={login}; printf %s "${{VPS#*@}}" | gh secret set VPS_HOST --env staging'
        assert book.set_setting("secret", "VPS_HOST", "staging") == expected
        assert shlex.quote(destination) in book.copy_files("bin")


def test_a_setting_has_the_command_of_its_environment_and_host() -> None:
    """Each value is set where the job that reads it looks; a name that begins like another is not taken for it."""

    def setting(name: str, host: str = "", environment: str = "") -> SettingCommand:
        return SettingCommand("secret", name, host, environment, f"{name} {host} {environment}")

    settings = (setting("KEY_2"), setting("KEY", "one"), setting("KEY", "two"), setting("KEY", "", "staging"))
    book = RunbookIndex(replace(PLAN.runbook, settings=settings), {})
    assert book.set_setting("secret", "KEY", "production", "two") == "KEY two "
    assert book.set_setting("secret", "KEY", "staging", "two") == "KEY  staging"
    assert book.set_setting("secret", "KEY_2", "staging", "two") == "KEY_2  "


def test_every_setting_of_a_deploy_has_a_command() -> None:
    for path in [SPEC, *sound_specs.CASES]:
        plan, _ = sound_specs.generate(path)
        book = RunbookIndex(plan.runbook, {})
        for environment, settings in github.find_expected_settings(plan).items():
            for setting in settings:
                assert f" set {setting.name}" in book.set_setting(setting.kind, setting.name, environment)


def test_the_runbook_prints_every_command_of_the_plan() -> None:
    """What the doctor suggests stands in the runbook in the same words."""
    for path in [SPEC, *sound_specs.CASES]:
        plan, tree = sound_specs.generate(path)
        lines = tree["deploy/RUNBOOK.md"].text.splitlines()
        runbook = plan.runbook
        commands: list[RunbookCommand | SettingCommand] = [*runbook.create_environments, *runbook.settings]
        for host in runbook.hosts:
            commands += [*host.create_networks, *host.start_proxies, *host.reload_proxies]
            if host.first_env_files == host.host.env_files:  # else two steps of the runbook have them
                commands += host.env_files
            commands += [*host.copy_files, *host.rollbacks]
            for server in host.servers:
                commands += [server.start, server.init_databases]
        assert [command.line for command in commands if command.line not in lines] == []
        assert [f"### {step.heading}" for step in runbook.steps.values() if f"### {step.heading}" not in lines] == []


def test_how_it_is_printed() -> None:
    all_findings = [
        GROUP.ok("a", "fine"),
        GROUP.wrong("b\x1b[0m", "x\x1b[2J" + "y" * 999, "z", "do"),
        GROUP.not_asked("c", "away"),
    ]
    text = findings.format_findings_text(all_findings)
    assert text.splitlines()[:2] == ["here", "  ok         a: fine"]
    assert "\x1b" not in text and max(map(len, text.splitlines())) < 330
    assert text.splitlines()[3:] == [
        "             expected: z", "             cure: do", "  not asked  c: away", "",
        "1 ok, 1 wrong, 1 not asked",
    ]  # fmt: skip
    assert json.loads(findings.format_findings_json(all_findings))["count"] == {"ok": 1, "wrong": 1, "not asked": 1}


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which no service outside is found: programs are stand-ins, names are not resolved."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("NPM_TOKEN", SECRET)
    monkeypatch.setenv("GHCR_TOKEN", SECRET)

    def nowhere(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    return tmp_path


def test_nothing_can_be_asked(alone: Path) -> None:
    result = kiwari_ci("doctor", SPEC, "--npm", "https://npm.example.com", "--format", "json")
    report = json.loads(result.out)
    assert result.code == 0 and report["count"]["wrong"] == report["count"]["ok"] == 0 < report["count"]["not asked"]
    assert SECRET not in result.out + result.err
    text = kiwari_ci("doctor", SPEC, "--env", "staging")
    assert text.code == 0 and "environment production" not in text.out and text.out.startswith("host vps\n")


def test_no_variable_that_a_spec_names_is_sent_anywhere(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spec may call any variable of the user's environment its pull token, and any host its registry."""
    sent_tokens: list[tuple[str, str]] = []

    def probe(base: str, repository: str, tag: str, user: str, token: str) -> container_registry.RegistryResponse:
        sent_tokens.append((base, token))
        return container_registry.RegistryResponse(404)

    monkeypatch.setattr(container_registry, "probe_image_tag", probe)
    monkeypatch.setenv("KIWARI_CI_PULL_TOKEN", "for ghcr.io alone")
    spec = alone / "spec.yaml"
    text = SPEC.read_text()
    assert "pull_token: {secret: GHCR_TOKEN}" in text and "GHCR_TOKEN" in os.environ
    old = re.search(r"^registry:\n(?:[ #].*\n)+", text, re.MULTILINE)
    assert old
    new = "registry:\n  host: evil.example.com\n  user: a\n"
    new += "  pull_token: {secret: GHCR_TOKEN}\n  push_token: {secret: B}\n"
    spec.write_text(text.replace(old[0], new))
    result = kiwari_ci("doctor", spec)
    assert sent_tokens and {token for _, token in sent_tokens} == {""}, result
    assert {base for base, _ in sent_tokens} == {"https://evil.example.com"}
    refused = kiwari_ci("doctor", spec, "--pull-token", "ghcr.io")
    assert refused.code == 2 and "the spec's registry is evil.example.com" in refused.err
    sent_tokens.clear()
    allowed = kiwari_ci("doctor", SPEC, "--pull-token", "ghcr.io")
    assert set(sent_tokens) == {("https://ghcr.io", "for ghcr.io alone")}
    assert "ghcr.io gets the token in KIWARI_CI_PULL_TOKEN" in allowed.err
    monkeypatch.delenv("KIWARI_CI_PULL_TOKEN")
    assert "no token in KIWARI_CI_PULL_TOKEN" in kiwari_ci("doctor", SPEC, "--pull-token", "ghcr.io").err


def test_a_person_with_ssh(alone: Path) -> None:
    """ssh is a stand-in that prints facts of a server, and notes what it was told."""
    ssh_output = "\n".join(["hello", "begin", *("\t".join(line) for line in well()), "end", ""])
    (alone / "facts").write_text(ssh_output)
    note = f"with open({str(alone / 'told')!r}, 'a') as note: note.write(repr(sys.argv) + chr(10) + sys.stdin.read())"
    body = f"if '-G' in sys.argv: print('hostname {ADDRESS}')\nelse: print(open({str(alone / 'facts')!r}).read())"
    (alone / "ssh").write_text(f"#!{sys.executable}\n# A stand-in for ssh.\nimport sys\n{note}\n{body}\n")
    (alone / "ssh").chmod(0o755)
    known_hosts = alone / "known"
    known_hosts.write_text(KNOWN)
    result = kiwari_ci("doctor", SPEC, "--ssh", "vps=deploy@192.0.2.10", "--known-hosts", f"vps={known_hosts}")
    assert result.code == 0, result.out + result.err
    assert (
        "  ok         host key: is that of VPS_KNOWN_HOSTS" in result.out
        and "  ok         pos-api: serves" in result.out
    )
    ssh_calls = (alone / "told").read_text()
    assert (
        "'BatchMode=yes'" in ssh_calls
        and "'--', 'deploy@192.0.2.10', 'bash', '-s']" in ssh_calls
        and SECRET not in ssh_calls
    )
    (alone / "facts").write_text(ssh_output.replace("14000", "14"))
    result = kiwari_ci("doctor", SPEC, "--ssh", "vps=deploy@192.0.2.10")
    assert result.code == 1 and "  wrong      disk: 14 MB free in /var/lib/docker\n" in result.out


def test_words_that_it_does_not_know(alone: Path) -> None:
    for options, says in [
        (["--env", "live"], "no environment live: the spec has production, staging"),
        (["--ssh", "server=x"], "no host server: the spec has vps"),
        (["--known-hosts", "vps=gone"], "--known-hosts vps=gone: no file that can be read: ssh-keyscan HOST makes"),
        (["--known-hosts", "vps=/"], "--known-hosts vps=/: no file that can be read"),
        (["--ssh", "x"], "expected HOST=…, met x"),
        (["--known-hosts", "vps="], "expected HOST=…, met vps="),
    ]:
        result = kiwari_ci("doctor", SPEC, *options)
        assert result.code == 2 and says in result.err


def test_in_github_actions_what_is_wrong_is_annotated() -> None:
    all_findings = [
        GROUP.ok("disk", "9 GB"),
        GROUP.wrong("health: /", "502\x1b", "200", "say 100%"),
        GROUP.not_asked("dns", "-"),
    ]
    text = findings.format_findings_github(all_findings)
    assert text.startswith(findings.format_findings_text(all_findings))
    assert text.splitlines()[-1] == "::error title=here%3A health%3A /::502\ufffd%0Aexpected: 200%0Acure: say 100%25"
    assert "::" not in findings.format_findings_github(all_findings[:1])
