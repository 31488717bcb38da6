"""What somebody may do who has the kubeconfig of a deploy, and what the cluster refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.login import Login
from tests.cluster.production import Environment
from tests.engine.server import eventually

REFUSED = [
    "get secrets",
    "get secret kiwari-api-production-env",
    "delete secret kiwari-api-production-env",
    "get configmaps",
    "create configmap own",
    "create serviceaccount own",
    "create token deploy",
    "create rolebinding own --clusterrole=cluster-admin --serviceaccount=pos-production:deploy",
    "run own --image=example.com/own",
    "delete deployment kiwari-api-production",
    "delete pods --all",
    "delete service kiwari-api-production",
    "delete ingress kiwari-api-production",
    "scale deployment kiwari-api-production --replicas=0",
    "exec deployment/kiwari-api-production -- /app",
    "port-forward deployment/kiwari-api-production 8081",
    "get pods -n kube-system",
    "get deployments -n default",
    "get nodes",
    "get namespaces",
    "label namespace pos-production pod-security.kubernetes.io/enforce=privileged --overwrite",
    "get ingresses -A",
    "create clusterrole own --verb=get --resource=pods",
]


@pytest.fixture
def login(production: Environment, tmp_path: Path) -> Login:
    """The login that the runbook gives to GitHub."""
    return Login(production, tmp_path)


@pytest.mark.parametrize("command", REFUSED)
def test_what_is_refused(login: Login, command: str) -> None:
    result = login.kubectl(*command.split())

    assert result.returncode != 0
    assert "forbidden" in result.stderr.lower(), result.stderr


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        ({"volumes": [{"name": "disk", "hostPath": {"path": "/"}}]}, "hostPath"),
        ({"hostNetwork": True}, "host namespaces"),
        ({"hostPID": True}, "host namespaces"),
        ({"containers": [{"securityContext": {"privileged": True}}]}, "privileged"),
        ({"containers": [{"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}]}, "capabilities"),
    ],
)
def test_a_pod_that_owns_its_node_is_refused(
    login: Login, production: Environment, pod: dict[str, Any], reason: str
) -> None:
    image = "ghcr.io/example/kiwari-api:staging"
    containers = pod.pop("containers", [{}])
    spec = {"restartPolicy": "Never", "containers": [{"name": "own", "image": image, **containers[0]}], **pod}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "own"},
        "spec": {"backoffLimit": 0, "template": {"spec": spec}},
    }
    created = login.kubectl("create", "-f", "-", stdin=json.dumps(job))
    try:
        assert created.returncode == 0, created.stderr  # the cluster only warns; it refuses the pod
        eventually(lambda: reason in events(login), 30, f"the cluster refuses the pod for {reason}")
        assert login.kubectl("get", "pods", "-l", "job-name=own", "-o", "name").stdout == ""
    finally:
        login.kubectl("delete", "job", "own")


def events(login: Login) -> str:
    """What the cluster says about the Job."""
    return login.kubectl(
        "get", "events", "-o", "jsonpath={range .items[*]}{.involvedObject.name} {.message}{'\\n'}{end}"
    ).stdout


def test_a_job_reads_the_secrets_of_its_namespace(login: Login, production: Environment) -> None:
    """RBAC cannot prevent it: who may start a pod may give it each Secret of the namespace, and read its log."""
    version = production.push("api", "api-reader")
    container = {
        "name": "reader",
        "image": f"ghcr.io/example/kiwari-api@{version}",
        "env": [
            {
                "name": "STOLEN",
                "valueFrom": {"secretKeyRef": {"name": "kiwari-api-production-env", "key": "JWT_SECRET"}},
            }
        ],
        "args": ["says", "$(STOLEN)"],
    }
    spec = {"restartPolicy": "Never", "imagePullSecrets": [{"name": "registry"}], "containers": [container]}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "reader"},
        "spec": {"backoffLimit": 0, "template": {"spec": spec}},
    }
    assert login.kubectl("create", "-f", "-", stdin=json.dumps(job)).returncode == 0
    try:
        eventually(lambda: "costs $5" in login.kubectl("logs", "job/reader").stdout, 60, "the log has the secret")
    finally:
        login.kubectl("delete", "job", "reader")


def test_the_runbooks_list_of_rights(production: Environment) -> None:
    (commands,) = production.checkout.plan.runbook.clusters
    (namespace,) = commands.namespaces
    shown = production.checkout.types(namespace.rights.line)

    assert shown.returncode == 0, shown.stderr
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert not [row for row in rows if row[0].startswith("secrets")]


def test_a_check_of_the_login(production: Environment) -> None:
    checked = production.checkout.rollout("check", production.stack.name)

    assert checked.code == 0, checked.log
