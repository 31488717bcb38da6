"""An environment on the cluster, as its tests see it: deploys of versions of its services, and what serves."""

from collections.abc import Mapping
from dataclasses import dataclass

from kiwari_ci.plan_model import ClusterStack
from tests.cluster.checkout import Checkout, Job, Running
from tests.engine.server import eventually


@dataclass
class Environment:
    """A stack on the cluster, and the workflow that deploys to it."""

    checkout: Checkout
    name: str  # of the environment
    workflow: str

    @property
    def stack(self) -> ClusterStack:
        """Its stack."""
        return self.checkout.stacks[self.name]

    def deploy(self, digests: Mapping[str, str], sequence: int = 0) -> Job:
        """Deploys images, by service, and waits."""
        return self.checkout.deploy(self.workflow, self.name, digests, sequence)

    def start(self, digests: Mapping[str, str], sequence: int = 0) -> Running:
        """Starts to deploy images, by service."""
        return self.checkout.start(self.workflow, self.name, digests, sequence)

    def push(self, service: str, version: str, behaviour: str = "answers") -> str:
        """Pushes a version of a service, and returns its digest."""
        (instance,) = [instance for instance in self.stack.instances if instance.service == service]
        images = self.checkout.world.images
        return images.push(instance.repository.rpartition("/")[2], version, behaviour, instance.port)

    def serving(self) -> dict[str, set[str]]:
        """The digests of the pods that get requests, or that run where there are none, by service that does not end."""
        return {
            instance.service: self._serving(instance.container, bool(instance.port))
            for instance in self.stack.instances
            if not instance.once
        }

    def jobs(self, service: str) -> list[tuple[str, bool]]:
        """The digests with which the Jobs of a service that runs once were started, and whether they ended well."""
        (container,) = [instance.container for instance in self.stack.instances if instance.service == service]
        jobs = self.checkout.world.cluster.get(self.stack.name, "jobs", "-l", f"app.kubernetes.io/name={container}")
        jobs.sort(key=lambda job: int(job["metadata"]["name"].rpartition("-")[2]))
        images = [job["spec"]["template"]["spec"]["containers"][0]["image"] for job in jobs]
        return [
            (image.partition("@")[2], bool(job["status"].get("succeeded")))
            for image, job in zip(images, jobs, strict=True)
        ]

    def _serving(self, container: str, has_addresses: bool) -> set[str]:
        cluster, namespace = self.checkout.world.cluster, self.stack.name
        pods = {
            pod["metadata"]["name"]: pod
            for pod in cluster.get(namespace, "pods", "-l", f"app.kubernetes.io/name={container}")
        }
        names = set(pods)
        if has_addresses:
            label = f"kubernetes.io/service-name={container}"
            slices = cluster.get(namespace, "endpointslices", "-l", label)
            endpoints = [endpoint for endpoint_slice in slices for endpoint in endpoint_slice.get("endpoints") or []]
            names = {endpoint["targetRef"]["name"] for endpoint in endpoints if endpoint["conditions"]["ready"]}
        statuses = [pods[name]["status"]["containerStatuses"][0] for name in names if name in pods]
        return {status["imageID"].partition("@")[2] for status in statuses if status["ready"]}

    def is_settled(self) -> bool:
        """Whether every pod that is wanted is ready, and there is no other."""
        for deployment in self.checkout.world.cluster.get(self.stack.name, "deployments"):
            wanted, status = deployment["spec"]["replicas"], deployment["status"]
            if status.get("observedGeneration") != deployment["metadata"]["generation"]:
                return False
            if [status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")] != [wanted] * 3:
                return False
        return True

    def settle(self) -> dict[str, str]:
        """Waits until what serves is one image for each service, and returns the digests."""
        eventually(self.is_settled, 180, f"all pods of {self.stack.name} are ready")
        serving = self.serving()
        assert all(len(digests) == 1 for digests in serving.values()), serving
        return {service: next(iter(digests)) for service, digests in serving.items()}
