"""An environment moves from a server to the cluster, while a client asks its domain all the time."""

import time
from pathlib import Path

import pytest

from tests.cluster.checkout import Checkout
from tests.cluster.cluster import node_address
from tests.cluster.conftest import SPECS, Record, issue_certificates, place_on_server
from tests.cluster.figures import count
from tests.cluster.production import Environment
from tests.cluster.world import World
from tests.engine.proxy import Proxy

DOMAIN = "moved.example.com"
CLUSTER = """\
  cluster:
    engine: kubernetes
    kubeconfig: {secret: CLUSTER_KUBECONFIG}
    proxy: {kind: ingress, class: traefik, issuer: letsencrypt}
"""
# The proxy's configuration when it leads to the cluster: to the Ingress controllers of two nodes.
LEADS_TO_THE_CLUSTER = """
worker_processes 2;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{}}
http {{
  access_log off;
  upstream cluster {{ server {first}:443; server {second}:443; }}
  server {{
    listen 80;
    location / {{
      proxy_set_header Host {domain};
      proxy_set_header X-Forwarded-Proto https;
      proxy_ssl_server_name on;
      proxy_ssl_name {domain};
      proxy_pass https://cluster;
    }}
  }}
}}
"""


@pytest.mark.usefixtures("database")
def test_the_move_from_a_server(world: World, tmp_path: Path, proxy: Proxy, record: Record) -> None:
    on_the_server = checkout_with(world, tmp_path / "before", "vps")
    place_on_server(on_the_server)
    images = {"api": push(world, "kiwari-api", 8081), "admin": push(world, "kiwari-admin", 3000)}
    for service, digest in images.items():
        served = on_the_server.deploy(f"{service}-ci.yml", "staging", {service: digest})
        assert served.code == 0, served.log
    deployed = on_the_server.deploy("promote.yml", "production", images)
    assert deployed.code == 0, deployed.log

    with proxy.before("kiwari-api-production"), proxy.asked() as answers:
        on_both = checkout_with(world, tmp_path / "both", "[vps, cluster]")
        place_on_server(on_both)
        on_both.follow_runbook()
        issue_certificates(on_both)
        on_both.sequence = on_the_server.sequence
        both = on_both.deploy("promote.yml", "production", images)
        assert both.code == 0, both.log
        production = Environment(on_both, "production", "promote.yml")
        assert production.settle() == images
        lead_to_the_cluster(world)
        time.sleep(5)
        world.server.by_hand("cd docker/pos-moved && docker compose stop", check=True)
        time.sleep(10)

    assert answers.versions() == ["moved"]
    assert not answers.failed(), answers
    record(
        18,
        "the move from a server: both serve, then the proxy leads to the cluster, then the server's stack stops",
        both.code,
        both.seconds,
        count(answers),
        "the same image",
    )


def checkout_with(world: World, folder: Path, host: str) -> Checkout:
    """Kiwari's example with production on these hosts, in a stack of its own."""
    text = (SPECS / "kiwari-cluster.yaml").read_text()
    changes = {
        "    host: cluster": f"    host: {host}",
        "stack: pos-production": "stack: pos-moved",
        "api: api.example.com": f"api: {DOMAIN}",
        "admin: admin.example.com": "admin: admin-moved.example.com",
    }
    if "cluster" not in host:  # a spec names no host that nothing is on
        changes[CLUSTER] = ""
        changes["    address: 10.0.0.2 # of the server on the private network, where the cluster reaches it\n"] = ""
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    folder.mkdir()
    spec = folder / "kiwari.yaml"
    spec.write_text(text)
    return Checkout(world, spec, folder / "repository")


def push(world: World, name: str, port: int) -> str:
    """Pushes the version that moves."""
    return world.images.push(name, "moved", port=port)


def lead_to_the_cluster(world: World) -> None:
    """What a person changes in the proxy of the server, before DNS changes."""
    folder = world.server.folder
    addresses = {"first": node_address(1), "second": node_address(2)}
    (folder / "nginx.conf").write_text(LEADS_TO_THE_CLUSTER.format(folder=folder, domain=DOMAIN, **addresses))
    world.server.run("kill", "-HUP", (folder / "nginx.pid").read_text().strip())
