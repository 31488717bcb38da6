"""A cluster on which the runbook was followed and both environments were deployed, by the rollout program itself."""

from pathlib import Path
from typing import Any

from kiwari_ci.engines.kubernetes import manifests
from kiwari_ci.file_output.generated_files import GeneratedFiles
from kiwari_ci.plan_model import Plan
from tests.kubernetes.fake_kubectl import Image
from tests.kubernetes.world import World, digest

Json = dict[str, Any]


def deployed_world(root: Path, plan: Plan, files: GeneratedFiles) -> World:
    """The stacks of a plan, each of whose services was deployed once, in the order of the spec."""
    world = World(root)
    world.cluster.images[""] = Image()  # of accessories, whose images have no digest
    for number, stack in enumerate(plan.cluster_stacks, 1):
        world.write(files[f"deploy/{stack.name}/kubernetes.yaml"].text, stack.name)
        images = [f"{each.container}={world.image(each.service, 1)}" for each in stack.instances]
        world.environment = {"GITHUB_RUN_ID": str(70 + number)}
        done = world.run("deploy", "--stack", stack.name, "--sequence", str(number), *images)
        assert done.code == 0, done.text
    world.settle()
    return world


def all_objects(world: World, plan: Plan) -> list[Json]:
    """What is in the cluster: what was deployed, and what its administrator and the runbook's reader put there."""
    objects = list(world.cluster.objects.values())
    for cluster in plan.clusters:
        objects += [manifests.thaw(document) for document in cluster.setup]
        ingress_class = {"kind": "IngressClass", "metadata": {"name": cluster.ingress_class}}
        objects.append(ingress_class | {"spec": {"controller": "traefik.io/ingress-controller"}})
        objects.append(ready({"kind": "ClusterIssuer", "metadata": {"name": cluster.issuer}}))
    objects += [ready({"kind": "Node", "metadata": {"name": name}}) for name in ("n1", "n2", "n3")]
    for stack in plan.cluster_stacks:
        objects += written_secrets(stack, objects)
    return objects


def written_secrets(stack: Any, objects: list[Json]) -> list[Json]:
    """The Secrets that a person or a deploy fills in; the cluster itself fills in the token of the service account."""
    place = {"namespace": stack.name}
    filled: list[Json] = [
        {
            "kind": "Secret",
            "type": "kubernetes.io/dockerconfigjson",
            "metadata": {"name": "registry", **place},
            "data": {".dockerconfigjson": "x"},
        }
    ]
    for file in (*stack.env_files, *stack.sent):
        keys = [line.key for group in file.groups for line in group.lines]
        name = file.name.strip(".").replace(".", "-")
        filled.append({"kind": "Secret", "metadata": {"name": name, **place}, "data": dict.fromkeys(keys, "x")})
    for document in objects:
        if (document["kind"], document["metadata"].get("namespace")) == ("Secret", stack.name):
            is_token = document["metadata"]["name"] == "deploy-token"
            document["data"] = {"token": "x", "ca.crt": "x"} if is_token else {}
    names = {document["metadata"]["name"] for document in filled}
    for document in list(objects):
        metadata = document["metadata"]
        if document["kind"] == "Secret" and metadata.get("namespace") == stack.name and metadata["name"] in names:
            objects.remove(document)
    return filled


def ready(document: Json) -> Json:
    """An object that says that it is ready."""
    return document | {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}


def first_digest(service: str) -> str:
    """The digest of what `deployed_world` deploys."""
    return digest(service, 1)
