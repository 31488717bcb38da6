"""The doctor asks a cluster by the person's own kubectl, and compares each answer with the plan."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiwari_ci import generator
from kiwari_ci.commands import doctor
from kiwari_ci.remote_checks import cluster, cluster_checks, container_registry, dns_tls, github
from kiwari_ci.remote_checks.calls import ProcessResult
from kiwari_ci.remote_checks.findings import Finding, FindingGroup, format_findings_text
from kiwari_ci.remote_checks.runbook_index import RunbookIndex
from tests.kubernetes import running
from tests.kubernetes.person import PersonKubectl
from tests.kubernetes.world import World

CASES = Path(__file__).parents[1] / "cases/ok"
PLAN, FILES = generator.generate_files(CASES / "kubernetes/spec.yaml")
WITH_DATABASE = generator.generate_files(CASES.parents[2] / "specs/examples/kiwari-cluster.yaml")
PRODUCTION = "shop-production"
WEB = "shop-web-production"
NOW = 1_800_000_000.0
OBJECTS: list[dict[str, Any]] = []  # of the first test that deploys them; each test gets a copy

Break = Callable[[PersonKubectl], object]


@pytest.fixture
def person(root: Path) -> PersonKubectl:
    """A cluster on which all is as the spec has it."""
    if not OBJECTS:
        OBJECTS.extend(running.all_objects(running.deployed_world(root, PLAN, FILES), PLAN))
    return PersonKubectl(copy.deepcopy(OBJECTS))


def ask(person: PersonKubectl, context: str = "") -> cluster.ClusterFacts:
    def run(words: list[str], stdin: str) -> ProcessResult:
        assert words[0] == "kubectl"
        return ProcessResult(*person.answer(words[1:], stdin))

    return cluster.probe_cluster(PLAN.clusters[0], cluster.Kubectl(context, run))  # type: ignore[arg-type]


def examine(facts: cluster.ClusterFacts) -> list[Finding]:
    """All findings, where everything else than the cluster is as it should be."""
    response = dns_tls.EndpointResponse("192.0.2.1", expires=NOW + 60 * 86400, status=200)
    results = doctor.ProbeResults(
        facts={},
        reached={},
        clusters={"cluster": facts},
        seen={domain: dns_tls.DomainState(("192.0.2.1",), (response,)) for domain in PLAN.domains},
        github=github.GitHubState(why="gh is not installed"),
        proxy=({}, ""),
        images={instance.repository: container_registry.RegistryResponse(200) for instance in PLAN.answering},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor, "_run_probes", lambda *_: results)
        options = doctor.ProbeOptions(net=dns_tls.NetworkBackend(now=lambda: NOW))
        return doctor.run_checks(PLAN, FILES, [], options)


def wrong(person: PersonKubectl) -> dict[str, Finding]:
    """What is wrong, by its subject."""
    return {finding.subject: finding for finding in examine(ask(person)) if finding.state == "wrong"}


def test_nothing_is_wrong_where_the_runbook_was_followed(person: PersonKubectl) -> None:
    findings = examine(ask(person))

    assert [finding for finding in findings if finding.state == "wrong"] == []
    seen = {(finding.group, finding.subject): finding.saw for finding in findings if finding.state == "ok"}
    assert seen["cluster cluster", "kubectl"] == "v1.36.0, context admin@shop, https://192.0.2.7:6443"
    assert seen["cluster cluster", "Kubernetes"] == "v1.35.4"
    assert seen["cluster cluster", "nodes"] == "3 ready"
    assert seen["cluster cluster", "IngressClass traefik"] == "traefik.io/ingress-controller"
    assert seen["cluster cluster", "ClusterIssuer letsencrypt"] == "ready"
    assert seen["cluster cluster", "deploy/cluster/setup.yaml"].startswith("all ")
    digest = running.first_digest("web")[:19]
    assert f"3 pods serve {digest}, by the record of" in seen["environment production", WEB]
    assert seen["environment production", "Secret shop-web-production-env"] == "has its 1 keys"
    assert seen["environment production", f"service account {PRODUCTION}/deploy"] == "may not read Secrets"
    assert seen["environment production", "example.com/health"] == "200"


def test_no_command_changes_anything_or_prints_the_value_of_a_secret(person: PersonKubectl) -> None:
    ask(person)

    verbs = {next(word for word in words if not word.startswith("-")) for words in person.seen}
    assert verbs == {"config", "version", "get", "auth"}
    for words in person.seen:
        if "secrets" in words and "get" in words and "auth" not in words:
            assert words[-1].startswith("go-template=")


def label_removed(person: PersonKubectl) -> None:
    del person.change("Namespace", PRODUCTION)["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]


def role_widened(person: PersonKubectl) -> None:
    person.change("ClusterRole", "shop-deploy")["rules"][0]["verbs"].append("delete")


def pull_secret_of_another_type(person: PersonKubectl) -> None:
    person.change("Secret", "registry", PRODUCTION)["type"] = "Opaque"


def key_removed(person: PersonKubectl) -> None:
    person.change("Secret", "shop-web-production-env", PRODUCTION)["data"].clear()


def issuer_not_ready(person: PersonKubectl) -> None:
    person.change("ClusterIssuer", "letsencrypt")["status"]["conditions"][0]["status"] = "False"


def node_lost(person: PersonKubectl) -> None:
    person.change("Node", "n2")["status"]["conditions"][0]["status"] = "Unknown"


def pod_lost(person: PersonKubectl) -> None:
    endpoints = person.change("EndpointSlice", f"{WEB}-slice", PRODUCTION)["endpoints"]
    endpoints[0]["conditions"]["ready"] = False


def other_image(person: PersonKubectl) -> None:
    pod = next(each for each in person.objects if each["kind"] == "Pod" and each["metadata"]["namespace"] == PRODUCTION)
    pod["status"]["containerStatuses"][0]["imageID"] = "ghcr.io/example/shop-web@sha256:" + 64 * "9"


def deploy_killed(person: PersonKubectl) -> None:
    deployment = person.change("Deployment", WEB, PRODUCTION)
    deployment["metadata"]["annotations"]["kiwari-ci/sequence"] = "9"
    deployment["spec"]["template"]["metadata"]["labels"]["kiwari-ci/run"] = "99-a-1"


def old_ingress(person: PersonKubectl) -> None:
    metadata = {"name": "old", "namespace": PRODUCTION, "labels": {"app.kubernetes.io/part-of": "shop"}}
    person.objects.append({"kind": "Ingress", "metadata": metadata})


def old_version(person: PersonKubectl) -> None:
    person.version = "v1.29.4+k3s1"


def no_cert_manager(person: PersonKubectl) -> None:
    person.missing_kinds.add("clusterissuers.cert-manager.io")


def login_widened(person: PersonKubectl) -> None:
    person.can_read_secrets = "yes"


SET_UP = "kubectl apply --server-side --force-conflicts -f deploy/cluster/setup.yaml"


@pytest.mark.parametrize(
    ("break_it", "subject", "saw", "cure"),
    [
        (lambda p: p.remove("Namespace", PRODUCTION), f"Namespace {PRODUCTION}", "is not there", SET_UP),
        (
            label_removed,
            f"Namespace {PRODUCTION}",
            "differs: metadata.labels.pod-security.kubernetes.io/enforce",
            SET_UP,
        ),
        (
            lambda p: p.remove("ServiceAccount", "deploy", PRODUCTION),
            f"ServiceAccount {PRODUCTION}/deploy",
            "is not there",
            SET_UP,
        ),
        (role_widened, "ClusterRole shop-deploy", "differs: rules[0].verbs", SET_UP),
        (
            lambda p: p.remove("RoleBinding", "deploy", PRODUCTION),
            f"RoleBinding {PRODUCTION}/deploy",
            "is not there",
            SET_UP,
        ),
        (lambda p: p.remove("Secret", "registry", PRODUCTION), "Secret registry", "is not there", "pull_secret"),
        (pull_secret_of_another_type, "Secret registry", "its type is Opaque", "pull_secret"),
        (key_removed, "Secret shop-web-production-env", "missing: SECRET_KEY", "env_secret shop-production"),
        (lambda p: p.remove("IngressClass", "traefik"), "IngressClass traefik", "none", "kubectl get ingressclasses"),
        (lambda p: p.remove("ClusterIssuer", "letsencrypt"), "ClusterIssuer letsencrypt", "none", "kubectl get"),
        (issuer_not_ready, "ClusterIssuer letsencrypt", "not ready", "kubectl describe"),
        (no_cert_manager, "ClusterIssuer letsencrypt", "the cluster has no cert-manager", "cert-manager.io"),
        (node_lost, "nodes", "not ready: n2", "kubectl describe node"),
        (old_version, "Kubernetes", "v1.29.4+k3s1", "upgrade"),
        (login_widened, f"service account {PRODUCTION}/deploy", "may read Secrets", "kubectl auth can-i --list"),
        (pod_lost, WEB, "2 of 3 pods serve", f"deploy/bin/rollout rollback {PRODUCTION} {WEB}"),
        (other_image, WEB, f"{WEB} leads to other images: an image without a digest", "describe pods"),
        (deploy_killed, WEB, "commit number 9 is wanted, and does not serve", f"rollout cancel {PRODUCTION}"),
        (
            lambda p: p.remove("PodDisruptionBudget", WEB, PRODUCTION),
            f"PodDisruptionBudget {WEB}",
            "is not there",
            "run the last deploy again",
        ),
        (lambda p: p.remove("Ingress", WEB, PRODUCTION), f"Ingress {WEB}", "is not there", "run the last deploy again"),
        (old_ingress, "Ingress old", "is there", f"kubectl -n {PRODUCTION} delete ingress old"),
    ],
)
def test_what_is_wrong_has_its_cure(person: PersonKubectl, break_it: Break, subject: str, saw: str, cure: str) -> None:
    break_it(person)

    wrong_findings = wrong(person)
    assert subject in wrong_findings, format_findings_text(wrong_findings.values())
    assert wrong_findings[subject].saw == saw and cure in wrong_findings[subject].cure


def test_before_the_first_deploy(root: Path) -> None:
    set_up = [document for document in running.all_objects(World(root), PLAN) if document["kind"] != "Pod"]
    for document in set_up:
        if document["metadata"]["name"] == "shop-web-staging-env":
            document["data"] = {}

    findings = examine(ask(PersonKubectl(set_up)))

    assert [finding for finding in findings if finding.state == "wrong"] == []
    unasked = {finding.subject: finding.saw for finding in findings if finding.state == "not asked"}
    assert "nothing was deployed yet" in unasked[WEB]
    assert "the first deploy fills it in" in unasked["Secret shop-web-staging-env"]


def test_a_person_who_may_not_see_everything(person: PersonKubectl) -> None:
    person.forbidden = {"secrets", "nodes", "Namespace", "namespaces"}
    person.can_read_secrets = ""

    findings = examine(ask(person))

    assert [finding for finding in findings if finding.state == "wrong"] == []
    unasked = {finding.subject: finding.saw for finding in findings if finding.state == "not asked"}
    assert "(Forbidden)" in unasked["nodes"] and "(Forbidden)" in unasked["Secrets"]
    assert "(Forbidden)" in unasked["deploy/cluster/setup.yaml"]
    assert "who administers the cluster" in unasked[f"service account {PRODUCTION}/deploy"]


@pytest.mark.parametrize(
    ("contexts", "context", "unreachable", "why"),
    [
        ([], "", "", "kubectl: current-context must exist in order to minify"),
        (["admin@shop"], "other", "", "kubectl: cannot locate context other"),
        (["admin@shop"], "", "Unable to connect to the server: i/o timeout", "i/o timeout (context admin@shop"),
    ],
)
def test_a_cluster_that_cannot_be_asked(
    person: PersonKubectl, contexts: list[str], context: str, unreachable: str, why: str
) -> None:
    person.contexts, person.unreachable = contexts, unreachable

    findings = {(finding.group, finding.subject): finding for finding in examine(ask(person, context))}

    assert why in findings["cluster cluster", "everything in it"].saw
    assert "deploy/bin/rollout status shop-production" in findings["cluster cluster", "everything in it"].saw
    assert findings["environment production", f"stack {PRODUCTION}"].saw == "cluster was not asked"
    assert findings["environment production", "example.com/health"].state == "ok"  # from outside
    assert all(finding.state != "wrong" for finding in findings.values())


def test_kubectl_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    facts = cluster.probe_cluster(PLAN.clusters[0], cluster.Kubectl(""))

    assert facts.why == "kubectl is not installed"


def test_of_several_clusters_each_needs_its_context() -> None:
    (only,) = PLAN.clusters

    assert cluster.choose_context([only], {}, only.name) == ("", "")
    assert cluster.choose_context([only, only], {only.name: "a"}, only.name) == ("a", "")
    assert "--context cluster=CONTEXT" in cluster.choose_context([only, only], {}, only.name)[1]


def test_the_way_to_the_database_is_compared(root: Path) -> None:
    plan, files = WITH_DATABASE
    (stack,) = plan.cluster_stacks
    objects = running.all_objects(running.deployed_world(root, plan, files), plan)
    objects += cluster.list_objects_by_hand(stack)
    person = PersonKubectl(objects)
    person.change("EndpointSlice", "postgres-vps", stack.name)["endpoints"] = [{"addresses": ["10.0.0.9"]}]

    def run(words: list[str], stdin: str) -> ProcessResult:
        return ProcessResult(*person.answer(words[1:], stdin))

    facts = cluster.probe_stack(stack, cluster.Kubectl("", run))  # type: ignore[arg-type]
    runbook = RunbookIndex(plan.runbook, {}).for_cluster("cluster")
    checked = cluster_checks.check_stack(FindingGroup("production"), stack, facts, runbook)
    (finding,) = (finding for finding in checked if finding.state == "wrong")

    assert finding.subject == "EndpointSlice pos-production/postgres-vps"
    assert finding.saw == "differs: endpoints[0].addresses[0]"
    assert finding.cure.startswith("kubectl apply --server-side -n pos-production -f deploy/pos-production/database")
