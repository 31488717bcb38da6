"""What a person asks of the cluster by kiwari-ci itself, with the login of who administers it."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from kiwari_ci import generator
from kiwari_ci.remote_checks import cluster, cluster_checks
from kiwari_ci.remote_checks.calls import ProcessResult
from kiwari_ci.remote_checks.findings import Finding, FindingGroup
from kiwari_ci.remote_checks.runbook_index import RunbookIndex
from tests.cluster.clients import asking
from tests.cluster.cluster import environment, run
from tests.cluster.conftest import SPECS
from tests.cluster.production import Environment
from tests.engine.server import eventually

SPEC = SPECS / "kiwari-cluster.yaml"
API = "api.example.com"


class Person:
    """A person in a clone, whose kubectl has the login of who administers the cluster."""

    def __init__(self, production: Environment) -> None:
        self.checkout = production.checkout
        self.cluster = production.checkout.world.cluster

    def kubectl(self, words: Sequence[str], stdin: str) -> ProcessResult:
        """Runs kubectl for the doctor."""
        done = run(self.cluster.near(*words), False, stdin, environment("admin", self.cluster))
        return ProcessResult(done.returncode, done.stdout, done.stderr)

    def findings(self) -> dict[str, Finding]:
        """What the doctor finds of the cluster and of production, by subject."""
        (planned,) = self.checkout.plan.clusters
        runbook = RunbookIndex(self.checkout.plan.runbook, {}).for_cluster(planned.name)
        facts = cluster.probe_cluster(planned, cluster.Kubectl("", self.kubectl))
        assert not facts.why, facts.why
        group = FindingGroup("cluster")
        findings = list(cluster_checks.check_cluster(group, planned, facts, runbook))
        for stack in planned.stacks:
            findings += cluster_checks.check_stack(group, stack, facts.stacks[stack.name], runbook)
        return {finding.subject: finding for finding in findings}

    def types(self, *words: str, stdin: str = "") -> tuple[int, str]:
        """Runs a command of kiwari-ci in the clone: its exit code, and all that it prints."""
        command = ("env", "-C", str(self.checkout.clone), sys.executable, "-m", "kiwari_ci", *words)
        done = run(self.cluster.near(*command), False, stdin, environment("admin", self.cluster))
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def person(production: Environment) -> Person:
    """A person, while all of production serves."""
    production.settle()
    return Person(production)


def test_the_doctor_finds_all_that_the_runbook_made(person: Person) -> None:
    findings = person.findings()

    # The only thing that this cluster does not have is cert-manager.
    wrong = {subject: finding.saw for subject, finding in findings.items() if finding.state == "wrong"}
    assert wrong == {"ClusterIssuer letsencrypt": "the cluster has no cert-manager"}
    assert [finding for finding in findings.values() if finding.state == "not asked"] == []
    assert findings["Kubernetes"].saw == "v1.35.4" and findings["nodes"].saw == "3 ready"
    assert "objects are in the cluster, as generated" in findings["deploy/pos-production/database.yaml"].saw
    assert "3 pods serve sha256:" in findings["kiwari-api-production"].saw


def test_the_doctor_finds_a_change_and_its_cure_works(person: Person) -> None:
    level = "pod-security.kubernetes.io/enforce"
    person.cluster.kubectl("label", "--overwrite", "namespace", "pos-production", f"{level}=privileged")
    person.cluster.kubectl("delete", "rolebinding", "deploy", "-n", "pos-production")
    person.cluster.kubectl("create", "rolebinding", "more", "-n", "pos-production",
                           "--clusterrole=admin", "--serviceaccount=pos-production:deploy")  # fmt: skip
    try:
        findings = person.findings()
    finally:
        person.cluster.kubectl("delete", "rolebinding", "more", "-n", "pos-production")

    changed = findings["Namespace pos-production"]
    assert changed.saw == f"differs: metadata.labels.{level}"
    assert findings["RoleBinding pos-production/deploy"].saw == "is not there"
    assert findings["service account pos-production/deploy"].saw == "may read Secrets"
    assert person.checkout.types(changed.cure).returncode == 0
    findings = person.findings()
    assert "Namespace pos-production" not in findings and "RoleBinding pos-production/deploy" not in findings
    assert findings["service account pos-production/deploy"].saw == "may not read Secrets"


def test_status_logs_exec_and_rollback(person: Person) -> None:
    code, text = person.types("status", "production", "--spec", str(SPEC))
    assert code == 255, "the person has no ssh login on the server with the database"
    assert "? Could not resolve hostname vps" in text
    assert "production on cluster: pos-production\n  kiwari-api-production: 3 of 3 pods serve\n" in text

    code, text = person.types("logs", "production", "api", "--tail", "5", "--spec", str(SPEC))
    assert code == 0, text
    # A pod of the version before may still be ending, and has a log, too.
    assert len({line.partition("]")[0] for line in text.splitlines() if " starts (" in line}) >= 3, text

    exec_result = person.types("exec", "production", "api", "--spec", str(SPEC), "--", "/app", "says", "a b", "$HOME")
    assert exec_result == (0, "[a b $HOME]\n")

    never = f"sha256:{'0' * 64}"
    options = ("--yes", "--context", "cluster=context", "--spec", str(SPEC))
    code, text = person.types("rollback", "production", "api", never, *options)
    assert code == 65, text
    assert "the record of kiwari-api-production has no such image" in text


def test_paths_of_a_domain_lead_to_their_services(person: Person, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    text = SPEC.read_text()
    assert text.count("admin: admin.example.com}") == 1
    spec.write_text(text.replace("admin: admin.example.com}", f"admin: [admin.example.com, {API}/console]}}"))
    plan, files = generator.generate_files(spec)
    (path,) = [path for stack in plan.cluster_stacks for path in stack.files if path.endswith("kubernetes.yaml")]
    documents = [document for document in yaml.safe_load_all(files[path].text) if document]
    (ingress,) = [each for each in documents if each["metadata"]["name"] == "kiwari-admin-production.shared"]
    person.cluster.kubectl("apply", "-n", "pos-production", "-f", "-", stdin=yaml.safe_dump(ingress))
    try:
        eventually(lambda: answer(person, "/console") != answer(person, "/health"), 20, "the Ingress is read")
        admin = answer(person, "/console")
        assert answer(person, "/console/users") == admin
        assert answer(person, "/consoles") == answer(person, "/health") != admin
    finally:
        person.cluster.kubectl("delete", "ingress", "-n", "pos-production", ingress["metadata"]["name"])


def answer(person: Person, path: str) -> str:
    """The version that answers at a path of the API's domain; both, if it changes meanwhile."""
    with asking(person.checkout.world, API, path, nodes=[1]) as answers:
        time.sleep(0.5)
    return " and ".join(answers.versions())
