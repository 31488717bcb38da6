"""The objects of a stack: valid for Kubernetes, complete, and accepted by the rollout program."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from kiwari_ci.effective_spec import EffectiveEnvironment, EffectiveSpec
from kiwari_ci.engines.kubernetes import manifests, rules
from kiwari_ci.engines.kubernetes.deploy_programs import rollout
from kiwari_ci.generator import load_spec
from kiwari_ci.rendering.render import _render_template
from kiwari_ci.spec_loading.validation import validate_spec
from kiwari_ci.spec_loading.yaml_source import YamlSource, load_yaml
from tests.kubernetes.fake_kubectl import Image
from tests.kubernetes.world import World

ROOT = Path(__file__).parents[2]
OLDEST, NEWEST = "1.30", "1.35"
CLUSTER = manifests.ClusterSettings("cluster", "traefik", "letsencrypt", {"postgres": "10.0.0.2"})

SHOP = """
project: {name: shop, repository: acme/shop}
registry: {host: ghcr.io, pull_token: {secret: PULL_TOKEN}}
hosts:
  vps: {}
  cluster: {engine: kubernetes, proxy: {kind: ingress, class: traefik, issuer: letsencrypt}}
databases: {postgres: {host: vps, address: 10.0.0.2}}
services:
  api:
    port: 8080
    health: {path: /health, status: 204, start_period: 2m}
    migrate: [./api, migrate, "$(now)"]
    mem_limit: 512m
    cpus: 0.5
    stop_grace_period: 30s
    depends_on: {buckets: completed}
    env: {DATABASE_URL: {database: url}}
    environment: {CACHE: {accessory: cache}, PRICE: "costs $(5)"}
  worker:
    image_of: api
    command: [./api, work]
    rollout: recreate
accessories:
  cache: {image: "redis:7-alpine"}
  buckets: {image: "minio/mc:RELEASE.2025-01-01", once: true, command: [mb, uploads]}
environments:
  staging:
    host: cluster
    deploy_on: {push: main}
    database: {}
    env_from: github
    domains: {api: stg.shop.example.com}
  production:
    host: cluster
    deploy_on: {tag: "v*"}
    promote: staging
    database: {}
    domains: {api: shop.example.com}
    overrides: {api: {replicas: 3}}
"""


def load(text: str, folder: Path) -> tuple[YamlSource, EffectiveSpec]:
    """Read a spec; the rules of Compose are not asked."""
    path = folder / "shop.yaml"
    path.write_text(text)
    source = load_yaml(path)
    spec, problems = validate_spec(source, source.data)
    assert spec, problems
    return source, EffectiveSpec(spec)


@pytest.fixture
def shop(tmp_path: Path) -> EffectiveSpec:
    return load(SHOP, tmp_path)[1]


def environment_of(spec: EffectiveSpec, name: str) -> EffectiveEnvironment:
    return spec.environments[name]


def find(documents: list[Any], kind: str, name: str) -> Any:
    (document,) = [entry for entry in documents if (entry["kind"], entry["metadata"]["name"]) == (kind, name)]
    return document


def render(documents: list[Any]) -> str:
    """The text of a file, as a template prints it. Of the plan, only the project stands in it."""
    context = {"head": ["kubectl apply"], "documents": manifests.freeze(documents)}
    return _render_template("kubernetes/manifests.yaml.j2", load_spec(ROOT / "specs/kiwari.yaml").plan, context)


def all_files(loaded: EffectiveSpec) -> dict[str, list[Any]]:
    environments = list(loaded.environments.values())
    files = {"setup": manifests.build_setup(environments, CLUSTER)}
    for environment in environments:
        files[f"{environment.name} stack"] = manifests.build_stack(environment, CLUSTER)
        files[f"{environment.name} database"] = manifests.build_databases(environment, CLUSTER)
    return files


@pytest.mark.parametrize("version", [pytest.param(OLDEST, marks=pytest.mark.exhaustive), NEWEST])
@pytest.mark.parametrize("spec", ["shop", "kiwari"])
def test_every_object_is_valid(tmp_path: Path, spec: str, version: str) -> None:
    text = SHOP if spec == "shop" else (ROOT / "specs/kiwari.yaml").read_text().replace("vps:", "cluster:", 1)
    loaded = load(text, tmp_path)[1]
    for name, documents in all_files(loaded).items():
        assert list(yaml.load_all(render(documents), yaml.CSafeLoader))[-len(documents) :] == documents, name
        for document in documents:
            kubernetes_validate.validate(document, version, strict=True)


def test_the_checker_notices_a_key_that_does_not_exist(shop: EffectiveSpec) -> None:
    deployment = find(
        manifests.build_stack(environment_of(shop, "production"), CLUSTER), "Deployment", "shop-api-production"
    )
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, NEWEST, strict=True)


def test_a_service(shop: EffectiveSpec) -> None:
    documents = manifests.build_stack(environment_of(shop, "production"), CLUSTER)
    name = "shop-api-production"
    spec = find(documents, "Deployment", name)["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]

    assert spec["replicas"] == 3
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert spec["progressDeadlineSeconds"] > 120 + spec["minReadySeconds"]
    assert container["image"] == f"ghcr.io/acme/shop-api@{rollout.NO_DIGEST}"
    assert container["readinessProbe"]["httpGet"]["path"] == "/health"
    assert {"name": "Host", "value": "shop.example.com"} in container["readinessProbe"]["httpGet"]["httpHeaders"]
    assert container["resources"]["limits"] == {"memory": "512Mi", "cpu": "500m"}
    assert container["env"][1] == {"name": "PRICE", "value": "costs $$(5)"}  # Kubernetes would look for a variable
    assert pod["terminationGracePeriodSeconds"] == 30 + container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["topologySpreadConstraints"][0]["topologyKey"] == "kubernetes.io/hostname"
    assert find(documents, "PodDisruptionBudget", name)["spec"]["maxUnavailable"] == 1
    assert find(documents, "Ingress", name)["spec"]["rules"][0]["host"] == "shop.example.com"
    assert find(documents, "Service", name)["spec"]["ports"][0]["port"] == 8080


def expand(text: str) -> str:
    """What a kubelet makes of an argument: `$$` is a dollar sign, and `$(NAME)` the value of a variable.

    Source: https://github.com/kubernetes/kubernetes/blob/master/third_party/forked/golang/expansion/expand.go
    """
    return re.sub(r"\$(\$|\([^)]*\))", lambda match: "$" if match[1] == "$" else "the value of a variable", text)


DOLLARS = ["$(X)", "$$(X)", "$$$(X)", "$$", "a$$b", "$$$", "$2y$10$", "$", "$(", "$X", "$($(X))"]


@pytest.mark.parametrize("text", DOLLARS)
def test_a_dollar_sign_is_what_it_is(text: str, tmp_path: Path) -> None:
    doubled = text.replace("$", "$$")  # as in a Compose file
    spec = SHOP.replace("costs $(5)", doubled).replace("$(now)", doubled).replace("./api, work", f"'{doubled}'")
    documents = manifests.build_stack(environment_of(load(spec, tmp_path)[1], "staging"), CLUSTER)
    containers = [
        document["spec"]["template"]["spec"]["containers"][0]
        for document in documents
        if document["kind"] in ("Deployment", "Job")
    ]
    written = [variable["value"] for container in containers for variable in container.get("env", [])]
    written += [word for container in containers for word in container.get("args", [])]
    assert [expand(word) for word in written].count(text) == 4


HOSTILE_TEXTS = ["--- {a: b}", "a: b", "- a", "{a: b}", "[a", "&a", "*a", "!!python/name:os.system", "#c", "a #c", "'"]
HOSTILE_TEXTS += ['"', "\\", "`id`", "a; id", "--flag", "::error::x", "%0A", "@file", "on", "1e3", "0x1F"]
HOSTILE_TEXTS += ["é\u3000😀", "<script>", "|"]


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_a_text_of_the_spec_is_a_value_and_nothing_else(text: str, tmp_path: Path) -> None:
    written = json.dumps(text, ensure_ascii=False)
    spec = SHOP.replace("./api, work", written).replace('"$(now)"', written)
    spec = spec.replace("    rollout: recreate\n", f"    rollout: recreate\n    entrypoint: [{written}]\n")
    if "'" not in text and not text.endswith("\\"):  # an env file cannot hold these
        spec = spec.replace('"costs $(5)"', written)
    documents = manifests.build_stack(environment_of(load(spec, tmp_path)[1], "staging"), CLUSTER)
    assert list(yaml.load_all(render(documents), yaml.CSafeLoader))[-len(documents) :] == documents
    container = find(documents, "Deployment", "shop-worker-staging")["spec"]["template"]["spec"]["containers"][0]
    assert (container["args"], container["command"]) == ([text], [text])


def test_a_worker_has_no_service_and_no_probe(shop: EffectiveSpec) -> None:
    documents = manifests.build_stack(environment_of(shop, "production"), CLUSTER)
    kinds = {entry["kind"] for entry in documents if entry["metadata"]["name"] == "shop-worker-production"}
    deployment = find(documents, "Deployment", "shop-worker-production")

    assert kinds == {"Deployment"}
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert deployment["spec"]["template"]["spec"]["containers"][0]["args"] == ["./api", "work"]
    assert "readinessProbe" not in deployment["spec"]["template"]["spec"]["containers"][0]


def test_no_service_leads_to_the_pods_of_a_job(shop: EffectiveSpec) -> None:
    documents = manifests.build_stack(environment_of(shop, "production"), CLUSTER)
    selectors = [entry["spec"].get("selector", {}) for entry in documents if entry["kind"] == "Service"]
    jobs = [entry for entry in documents if entry["kind"] == "Job"]

    assert [entry["metadata"]["name"] for entry in jobs] == ["shop-buckets-production", "shop-api-production-migrate"]
    for entry in jobs:
        labels = entry["spec"]["template"]["metadata"]["labels"]
        assert not any(selector.items() <= labels.items() for selector in selectors)


def test_without_a_class_there_is_no_ingress(shop: EffectiveSpec) -> None:
    bare = manifests.ClusterSettings("cluster")

    assert "Ingress" not in {entry["kind"] for entry in manifests.build_stack(environment_of(shop, "staging"), bare)}


def test_the_source_of_a_promotion_on_another_host_is_not_asked(tmp_path: Path) -> None:
    loaded = load(
        SHOP.replace("    host: cluster\n    deploy_on: {push", "    host: vps\n    deploy_on: {push"), tmp_path
    )[1]
    documents = manifests.build_stack(environment_of(loaded, "production"), CLUSTER)

    notes = find(documents, "Deployment", "shop-api-production")["metadata"]["annotations"]
    assert rollout.FROM_NOTE not in notes


def test_a_deploy_key_may_little(shop: EffectiveSpec) -> None:
    documents = manifests.build_setup(list(shop.environments.values()), CLUSTER)
    role = find(documents, "ClusterRole", "shop-deploy")
    granted = {
        (verb, f"{kind}.{group}".rstrip("."))
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for kind in rule["resources"]
        for verb in rule["verbs"]
    }

    assert set(rollout.RIGHTS) == granted
    assert not any("secrets" in kind or "exec" in kind or "roles" in kind for _, kind in granted)
    assert [kind for verb, kind in granted if verb == "delete"] == ["jobs.batch"]
    written = find(documents, "Role", "write-env")
    assert written["metadata"]["namespace"] == "shop-staging"
    assert written["rules"][0]["resourceNames"] == ["shop-api-staging-env"]
    assert find(documents, "Role", "served-for-shop-production")["metadata"]["namespace"] == "shop-staging"


def test_the_rollout_program_deploys_them(shop: EffectiveSpec, root: Path) -> None:
    """Staging, then the promotion, with a migration, a one-shot, a worker and an accessory."""
    world = World(root)
    names = [("shop-api", "shop-api"), ("shop-worker", "shop-api")]
    digest = world.image("shop-api", 1)
    world.cluster.images[""] = Image()  # the images of others have no digest here
    world.environment = {"URL": "postgres://"}
    for environment in shop.environments.values():
        stack = environment.stack_name
        world.write(render(manifests.build_stack(environment, CLUSTER)), stack)
        path = root / stack / "kubernetes.yaml"
        (root / stack / "database.yaml").write_text(render(manifests.build_databases(environment, CLUSTER)))
        assert path.exists()
        images = [f"{name}-{environment.name}={digest}" for name, _ in names]
        options = ("--env", f"shop-api-{environment.name}.env", "DATABASE_URL", "URL")
        outcome = world.run("deploy", "--stack", stack, "--sequence", "1", *options, *images)

        assert outcome.code == 0, outcome.text
        assert set(outcome.results.values()) == {"serving"}
    jobs = [entry["metadata"]["name"] for entry in world.cluster.of_kind("Job")]
    assert "shop-buckets-production-1" in jobs
    assert "shop-api-production-migrate-1" in jobs


def test_a_real_kubectl_reads_the_file_as_the_stand_in_does(shop: EffectiveSpec, tmp_path: Path) -> None:
    """Only `--local` is asked of it, which needs no cluster."""
    kubectl = shutil.which("kubectl")
    if not kubectl:
        pytest.skip("this machine has no kubectl")
    documents = manifests.build_stack(environment_of(shop, "production"), CLUSTER)
    path = tmp_path / "kubernetes.yaml"
    path.write_text(render(documents))
    words = ["annotate", "--local", "-f", str(path), "-o", "json", "kiwari-ci/sequence=0", "--overwrite"]
    environment = {"KUBECONFIG": str(tmp_path / "none"), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}

    ended = subprocess.run([kubectl, *words], env=environment, capture_output=True, text=True)

    assert ended.returncode == 0, ended.stderr
    for document in documents:
        document["metadata"].setdefault("annotations", {})["kiwari-ci/sequence"] = "0"
    assert [json.loads(json.dumps(entry)) for entry in rollout.parse_documents(ended.stdout)] == documents


# What a cluster cannot keep


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("pull_token: {secret: PULL_TOKEN}", "pull_token: job", "pull_token: job", "long after the job has ended"),
        ("    cpus: 0.5\n", "    cpus: 0.5\n    volumes: [data:/data]\n", "volumes:", "would stay behind"),
        ("    cpus: 0.5\n", "    cpus: 0.5\n    ports: ['80:8080']\n", "ports:", "publishes nothing of a node"),
        ("    cpus: 0.5\n", "    cpus: 0.5\n    networks: [backend]\n", "networks:", "reach each other"),
        ("    cpus: 0.5\n", "    cpus: 0.5\n    labels: {a: b}\n", "labels:", "reads Docker labels"),
        ("    cpus: 0.5\n", "    cpus: 0.5\n    compose: {init: false}\n", "compose:", "keys of Compose"),
        (
            "    cpus: 0.5\n",
            "    cpus: 0.5\n    healthcheck: {test: [CMD, ./api, health]}\n",
            "healthcheck:",
            "health check of Docker's",
        ),
        ("{buckets: completed}", "{buckets: completed, cache: started}", "depends_on:", "nothing waits for `cache`"),
        ("    env_from: github\n", "    hooks: {before: echo}\n", "hooks:", "no host that could run a script"),
        ("    env_from: github\n", "    sync: push\n", "sync:", "sends its own manifest"),
        ("    env_from: github\n", "    files: [a.conf]\n", "files:", "no folder for files"),
        ("    env_from: github\n", "    env_file: Shop.env\n", "env_file:", "cannot be the name of a Secret"),
        (
            "    env_from: github\n",
            f"    containers: {{api: {'a' * 41}}}\n",
            "containers:",
            "cannot be the name of a Service",
        ),
    ],
)
def test_what_a_cluster_cannot_keep(tmp_path: Path, old: str, new: str, line: str, words: str) -> None:
    assert SHOP.count(old) == 1
    source, loaded = load(SHOP.replace(old, new), tmp_path)
    problems = list(rules.check_environment(source, environment_of(loaded, "staging")))

    assert len(problems) == 1, problems
    assert words in problems[0].message
    assert line in source.text.splitlines()[problems[0].line - 1]
    assert problems[0].hint


def test_what_a_cluster_can_keep(tmp_path: Path) -> None:
    source, loaded = load(SHOP, tmp_path)
    for environment in loaded.environments.values():
        assert list(rules.check_environment(source, environment)) == []
