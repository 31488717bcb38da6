"""A generated tree with a cluster: what comes before and after a deploy is as on a server."""

import re
from pathlib import Path
from typing import Any

from kiwari_ci import generator

ROOT = Path(__file__).parents[2]
CLUSTER = """\
  cluster:
    engine: kubernetes
    kubeconfig: {secret: CLUSTER_KUBECONFIG}
    proxy: {kind: ingress, class: traefik, issuer: letsencrypt}
"""
WAY_BACK = re.compile("; to go back, .*")


def test_only_the_step_that_deploys_differs_from_that_of_a_server(tmp_path: Path) -> None:
    on_a_cluster = ROOT / "specs/examples/kiwari-cluster.yaml"
    text = on_a_cluster.read_text()
    assert CLUSTER in text
    on_a_server = tmp_path / "kiwari-cluster.yaml"
    on_a_server.write_text(text.replace(CLUSTER, "").replace("host: cluster", "host: vps").replace("replicas: 3, ", ""))

    jobs, jobs_on_a_server = list_jobs(on_a_cluster), list_jobs(on_a_server)

    assert jobs.keys() == jobs_on_a_server.keys()
    differing = {name for name, job in jobs.items() if job != jobs_on_a_server[name]}
    health_check = ("promote.yml", "health-check")
    assert differing == {("promote.yml", "deploy-production"), health_check}
    # The sentence for a person who has to go back names the command of the engine; nothing else differs.
    assert WAY_BACK.sub("", jobs[health_check]) == WAY_BACK.sub("", jobs_on_a_server[health_check])


def list_jobs(spec: Path) -> dict[tuple[str, str], str]:
    """The text of each job, by workflow and name."""
    _, files = generator.generate_files(spec)
    jobs = {}
    for path, file in files.items():
        if path.startswith(".github/workflows/"):
            for name, job in cut(file.text.partition("\njobs:\n")[2], "  ").items():
                jobs[path.rpartition("/")[2], name] = job
    return jobs


def cut(text: str, indent: str) -> dict[str, str]:
    """The parts of a mapping, by their keys, as they are written."""
    parts: dict[str, Any] = {}
    name = ""
    for line in text.splitlines(keepends=True):
        is_key = line.startswith(indent) and line[len(indent)] not in " #-" and line.rstrip().endswith(":")
        if is_key:
            name = line.strip().removesuffix(":")
        parts[name] = parts.get(name, "") + line
    return parts
