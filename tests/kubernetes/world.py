"""A checkout and a cluster, on which a test runs the requests of the rollout program."""

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kiwari_ci.engines.kubernetes.deploy_programs import rollout
from tests.kubernetes.fake_kubectl import Cluster, FakeKubectl, Image
from tests.outcome import Outcome as Outcome

STACK = "shop"
ZEROS = "sha256:" + 64 * "0"

WEB = """
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: NAME
  labels: {app.kubernetes.io/name: NAME}
  annotations:
    kiwari-ci/sequence: "0"
    kiwari-ci/health: ":8080/health 200"NOTES
spec:
  replicas: REPLICAS
  minReadySeconds: 11
  progressDeadlineSeconds: 75
  strategy: {type: STRATEGY}
  selector: {matchLabels: {app.kubernetes.io/name: NAME}}
  template:
    metadata:
      labels: {app.kubernetes.io/name: NAME, kiwari-ci/run: "0"}
    spec:
      containers:
        - name: NAME
          image: ghcr.io/acme/NAME@ZEROS
          ports: [{name: http, containerPort: 8080}]
          readinessProbe: {httpGet: {path: /health, port: http}}
"""
SERVICE = """
---
apiVersion: v1
kind: Service
metadata:
  name: NAME
  labels: {app.kubernetes.io/name: NAME}
spec:
  selector: {app.kubernetes.io/name: NAME}
  ports: [{name: http, port: 8080, targetPort: http}]
"""
JOB = """
---
apiVersion: batch/v1
kind: Job
metadata:
  name: NAME-migrate
  labels: {app.kubernetes.io/name: NAME-migrate}
  annotations:
    kiwari-ci/before: NAME
    kiwari-ci/image-of: NAME
spec:
  backoffLimit: 0
  template:
    metadata:
      labels: {app.kubernetes.io/name: NAME-migrate}
    spec:
      restartPolicy: Never
      containers:
        - name: migrate
          image: ghcr.io/acme/NAME@ZEROS
          args: [migrate]
"""
ONE_SHOT = """
---
apiVersion: batch/v1
kind: Job
metadata:
  name: NAME
  labels: {app.kubernetes.io/name: NAME}
  annotations:
    kiwari-ci/once: "yes"
    kiwari-ci/before: BEFORENOTES
spec:
  backoffLimit: 0
  template:
    metadata:
      labels: {app.kubernetes.io/name: NAME}
    spec:
      restartPolicy: Never
      containers:
        - name: NAME
          image: ghcr.io/acme/NAME@ZEROS
          args: [fill]
"""
ACCESSORY = """
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: cache
  labels: {app.kubernetes.io/name: cache}
  annotations: {kiwari-ci/accessory: "yes"}
spec:
  replicas: 1
  selector: {matchLabels: {app.kubernetes.io/name: cache}}
  template:
    metadata:
      labels: {app.kubernetes.io/name: cache}
    spec:
      containers:
        - name: cache
          image: redis@sha256:CACHE
"""


def web(name: str = "web", replicas: int = 1, strategy: str = "RollingUpdate", notes: str = "") -> str:
    return worker(name, replicas, strategy, notes) + SERVICE.replace("NAME", name)


def worker(name: str = "worker", replicas: int = 1, strategy: str = "RollingUpdate", notes: str = "") -> str:
    text = WEB.replace("NAME", name).replace("REPLICAS", str(replicas)).replace("STRATEGY", strategy)
    return text.replace("ZEROS", ZEROS).replace("NOTES", notes)


def job(name: str = "web") -> str:
    return JOB.replace("NAME", name).replace("ZEROS", ZEROS)


def one_shot(name: str = "seed", before: str = "web", notes: str = "") -> str:
    text = ONE_SHOT.replace("NAME", name).replace("BEFORE", before)
    return text.replace("ZEROS", ZEROS).replace("NOTES", notes)


def digest(name: str, version: object) -> str:
    return "sha256:" + hashlib.sha256(f"{name} {version}".encode()).hexdigest()


class World:
    """A checkout with the stack `shop`, and a cluster."""

    def __init__(self, root: Path, *documents: str) -> None:
        self.root = root
        self.cluster = Cluster()
        self.kubectl = FakeKubectl(self.cluster)
        self.environment: dict[str, str] = {}
        self.write("".join(documents or (web(),)))

    def write(self, text: str, stack: str = STACK) -> None:
        (self.root / stack).mkdir(exist_ok=True)
        (self.root / stack / "kubernetes.yaml").write_text(text)

    def image(self, name: str, version: object, behaviour: Image | None = None) -> str:
        """Put an image into the registry, and return its digest."""
        self.cluster.images[digest(name, version)] = behaviour or Image()
        return digest(name, version)

    def again(self) -> FakeKubectl:
        """Another start of the program, on the same cluster."""
        self.kubectl = FakeKubectl(self.cluster)
        return self.kubectl

    def settle(self) -> None:
        self.cluster.advance(60)

    # Requests

    def deploy(self, version: int, behaviour: Image | None = None, *names: str, sequence: int = 0) -> Outcome:
        """Deploy a version of these services, or of `web`."""
        images = [f"{name}={self.image(name, version, behaviour)}" for name in names or ("web",)]
        return self.run("deploy", "--stack", STACK, "--sequence", str(sequence or version), *images)

    def rollback(self, name: str = "web", to: str = "") -> Outcome:
        return self.run("rollback", STACK, name, *([to] if to else []))

    def run(self, *arguments: str) -> Outcome:
        stream = io.StringIO()
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            code = main(arguments, self.environment, self.kubectl)
        return Outcome(code, stream.getvalue())

    # The cluster

    def deployment(self, name: str = "web", stack: str = STACK) -> rollout.Deployment:
        return rollout.Deployment(name, self.cluster.objects[(stack, "Deployment", name)])

    def records(self, name: str = "web") -> list[str]:
        return [f"{record.digest} {record.sequence}" for record in self.deployment(name).records]

    def serving(self, name: str = "web") -> set[str]:
        """The digests of the pods to which the Service leads."""
        routed = self.cluster.objects[(STACK, "EndpointSlice", f"{name}-slice")]["endpoints"]
        names = {entry["targetRef"]["name"] for entry in routed if entry["conditions"]["ready"]}
        pods = [self.cluster.objects[(STACK, "Pod", name)] for name in names]
        return {rollout.digest_of(pod["status"]["containerStatuses"][0]["imageID"]) for pod in pods}

    def serves(self, version: object, name: str = "web") -> bool:
        return self.serving(name) == {digest(name, version)}


def main(arguments: tuple[str, ...], environment: dict[str, str], kubectl: FakeKubectl) -> int:
    """The program, with the stand-in in place of kubectl."""

    @contextlib.contextmanager
    def stand_in(_request: object, _environment: object) -> Iterator[FakeKubectl]:
        yield kubectl

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout, "kubectl_for", stand_in)
        return rollout.main(arguments, environment)


def during(kubectl: FakeKubectl, moment: float, request: Callable[[], object]) -> None:
    """Do something at a moment, while the program waits."""
    kubectl.at[kubectl.cluster.clock + moment] = lambda: (request(), None)[1]
