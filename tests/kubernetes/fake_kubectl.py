"""A stand-in for kubectl and a cluster: objects with versions, the controllers that act on them, nodes, and a clock.

It answers the commands that the rollout program runs as kubectl would, and the controllers take their steps between
them. A Deployment makes ReplicaSets, those make pods, pods do what their image does, and EndpointSlices follow.
"""

import copy
import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from kiwari_ci.engines.kubernetes.deploy_programs import rollout
from kiwari_ci.engines.kubernetes.deploy_programs.rollout import Output

Json = dict[str, Any]
Key = tuple[str, str, str]  # namespace, kind, name

STEP = 0.5  # seconds between two steps of the controllers
REVISION = "deployment.kubernetes.io/revision"
HASH = "pod-template-hash"
NAME_LABEL = "app.kubernetes.io/name"
JOB_NAME = "batch.kubernetes.io/job-name"
GROUPS = {
    "Deployment": "deployments.apps",
    "ReplicaSet": "replicasets.apps",
    "Pod": "pods",
    "Service": "services",
    "Secret": "secrets",
    "Ingress": "ingresses.networking.k8s.io",
    "PodDisruptionBudget": "poddisruptionbudgets.policy",
    "Job": "jobs.batch",
    "EndpointSlice": "endpointslices.discovery.k8s.io",
    "Event": "events",
}
KINDS = {group: kind for kind, group in GROUPS.items()}


class Killed(BaseException):
    """The program was killed: it can tidy up nothing."""


class Refused(Exception):
    """A command ends with an error."""


@dataclasses.dataclass(frozen=True)
class Image:
    """What pods of an image do."""

    answers_after: float | None = 1  # seconds after the start; None: it hangs
    exits_after: float | None = None
    exit_code: int = 1
    pull_error: str = ""
    pulled_as: str = ""  # another digest than the one that was asked for
    job_seconds: float = 2
    job_code: int = 0
    forbidden: str = ""  # the cluster creates no pod of it


@dataclasses.dataclass
class Cluster:
    """All that is in a cluster. It goes on when the program is killed."""

    clock: float = 0
    version: int = 100
    made: int = 0
    objects: dict[Key, Json] = dataclasses.field(default_factory=dict)
    applied: dict[Key, dict[str, Json]] = dataclasses.field(default_factory=dict)  # by field manager
    started: dict[Key, float] = dataclasses.field(default_factory=dict)  # pods: when their container started
    ready_since: dict[Key, float] = dataclasses.field(default_factory=dict)
    ends_at: dict[Key, float] = dataclasses.field(default_factory=dict)  # pods that are being deleted
    progressed: dict[Key, tuple[float, Any]] = dataclasses.field(default_factory=dict)
    images: dict[str, Image] = dataclasses.field(default_factory=dict)  # by digest
    unserved: list[str] = dataclasses.field(default_factory=list)  # moments at which a Service led nowhere
    concurrent_jobs: int = 0

    # Objects

    def of_kind(self, kind: str, namespace: str = "") -> list[Json]:
        return [
            document
            for (place, entry, _), document in self.objects.items()
            if entry == kind and namespace in ("", place)
        ]

    def touch(self, document: Json) -> None:
        """Give an object a new version."""
        self.version += 1
        document["metadata"]["resourceVersion"] = str(self.version)

    def add(self, namespace: str, document: Json) -> Json:
        key = (namespace, document["kind"], document["metadata"]["name"])
        document["metadata"]["namespace"] = namespace
        self.objects[key] = document
        self.touch(document)
        return document

    def key(self, document: Json) -> Key:
        return document["metadata"]["namespace"], document["kind"], document["metadata"]["name"]

    def remove(self, document: Json) -> None:
        self.objects.pop(self.key(document), None)

    def set_status(self, document: Json, status: Json) -> None:
        if document.get("status") != status:
            document["status"] = status
            self.touch(document)

    def warn(self, document: Json, message: str) -> None:
        self.made += 1
        about = {"kind": document["kind"], "name": document["metadata"]["name"]}
        event = {"kind": "Event", "metadata": {"name": f"event-{self.made}"}, "type": "Warning"}
        event |= {"involvedObject": about, "message": message, "lastTimestamp": rollout.utc(self.clock)}
        if all((old["involvedObject"], old["message"]) != (about, message) for old in self.of_kind("Event")):
            self.add(document["metadata"]["namespace"], event)

    def image_of(self, pod: Json) -> Image:
        name = pod["spec"]["containers"][0]["image"]
        return self.images.get(rollout.digest_of(name)) or Image(pull_error=f"{name}: not found")

    # Time

    def advance(self, seconds: float) -> None:
        """Let time pass; the controllers take their steps at multiples of STEP."""
        end = self.clock + seconds
        while (moment := STEP * (self.clock // STEP + 1)) <= end:
            self.clock = moment
            self.act()
        self.clock = end

    def act(self) -> None:
        """The controllers take a step."""
        for deployment in self.of_kind("Deployment"):
            self.act_on_deployment(deployment)
        for job in self.of_kind("Job"):
            self.act_on_job(job)
        running = [job for job in self.of_kind("Job") if not job["status"].get("conditions")]
        self.concurrent_jobs = max(self.concurrent_jobs, len(running))
        for pod in self.of_kind("Pod"):
            self.act_on_pod(pod)
        for deployment in self.of_kind("Deployment"):
            self.report_deployment(deployment)
        for service in self.of_kind("Service"):
            self.route(service)

    # Deployments and ReplicaSets

    def sets_of(self, deployment: Json) -> list[Json]:
        namespace, name = deployment["metadata"]["namespace"], deployment["metadata"]["name"]
        sets = [entry for entry in self.of_kind("ReplicaSet", namespace) if entry["owner"] == name]
        return sorted(sets, key=rollout.revision_of)

    def pods_of_set(self, replica_set: Json) -> list[Json]:
        namespace, name = replica_set["metadata"]["namespace"], replica_set["metadata"]["name"]
        return [pod for pod in self.of_kind("Pod", namespace) if pod.get("owner") == name]

    def act_on_deployment(self, deployment: Json) -> None:
        sets = self.sets_of(deployment)
        newest = next((entry for entry in sets if is_made_from(entry, deployment["spec"]["template"])), None)
        number = max(map(rollout.revision_of, sets), default=0)
        if newest is None:
            newest = self.add_set(deployment, number + 1)
        elif rollout.revision_of(newest) < number:
            newest["metadata"]["annotations"][REVISION] = str(number + 1)
            self.touch(newest)
        replicas = deployment["spec"].get("replicas", 1)
        older = [entry for entry in sets if entry is not newest]
        for replica_set in older:
            for pod in self.pods_of_set(replica_set):
                self.delete_if_not_needed(deployment, pod, replicas)
        remaining = [pod for entry in older for pod in self.pods_of_set(entry)]
        present = [pod for pod in remaining if "deletionTimestamp" not in pod["metadata"]]
        own = self.pods_of_set(newest)
        if deployment["spec"].get("strategy", {}).get("type") == "Recreate":
            missing = 0 if remaining else replicas - len(own)
        else:
            missing = min(replicas - len(own), replicas + 1 - len(own) - len(present))
        for _ in range(missing):
            self.add_pod(newest)

    def add_set(self, deployment: Json, number: int) -> Json:
        self.made += 1
        template = copy.deepcopy(deployment["spec"]["template"])
        code = f"{self.made:06x}"
        template["metadata"]["labels"][HASH] = code
        template["metadata"]["creationTimestamp"] = None
        metadata = {
            "name": f"{deployment['metadata']['name']}-{code}",
            "labels": dict(template["metadata"]["labels"]),
            "annotations": {**deployment["metadata"].get("annotations", {}), REVISION: str(number)},
        }
        document = {"kind": "ReplicaSet", "metadata": metadata, "spec": {"template": template}, "status": {}}
        document["owner"] = deployment["metadata"]["name"]
        return self.add(deployment["metadata"]["namespace"], document)

    def delete_if_not_needed(self, deployment: Json, pod: Json, replicas: int) -> None:
        """End a pod of an older template, if enough others are available, or if it is not ready itself."""
        if "deletionTimestamp" in pod["metadata"]:
            return
        available = [
            other
            for entry in self.sets_of(deployment)
            for other in self.pods_of_set(entry)
            if self.is_available(other, deployment)
        ]
        is_recreate = deployment["spec"].get("strategy", {}).get("type") == "Recreate"
        if is_recreate or pod not in available or len(available) > replicas:
            self.delete_pod(pod)

    def delete_pod(self, pod: Json) -> None:
        pod["metadata"]["deletionTimestamp"] = rollout.utc(self.clock)
        self.touch(pod)
        self.ends_at[self.key(pod)] = self.clock + 10

    def is_available(self, pod: Json, deployment: Json) -> bool:
        since = self.ready_since.get(self.key(pod))
        if since is None or "deletionTimestamp" in pod["metadata"]:
            return False
        return self.clock - since >= float(deployment["spec"].get("minReadySeconds", 0))

    def add_pod(self, owner: Json) -> None:
        image = self.image_of(owner["spec"]["template"])
        if image.forbidden and owner["kind"] == "ReplicaSet":
            condition = {"type": "ReplicaFailure", "status": "True", "message": image.forbidden}
            self.set_status(owner, {"conditions": [condition]})
            return
        self.made += 1
        template = copy.deepcopy(owner["spec"]["template"])
        metadata = {"name": f"{owner['metadata']['name']}-{self.made:05x}", "labels": template["metadata"]["labels"]}
        pod = {"kind": "Pod", "metadata": metadata, "spec": template["spec"], "status": {"phase": "Pending"}}
        pod["owner"] = owner["metadata"]["name"]
        self.started[self.key(self.add(owner["metadata"]["namespace"], pod))] = self.clock

    def report_deployment(self, deployment: Json) -> None:
        key = self.key(deployment)
        sets = self.sets_of(deployment)
        newest = sets[-1]
        alive = [pod for entry in sets for pod in self.pods_of_set(entry) if "deletionTimestamp" not in pod["metadata"]]
        updated = [pod for pod in alive if pod["owner"] == newest["metadata"]["name"]]
        available = [pod for pod in alive if self.is_available(pod, deployment)]
        ready = [pod for pod in alive if self.key(pod) in self.ready_since]
        counts = {
            "replicas": len(alive),
            "updatedReplicas": len(updated),
            "readyReplicas": len(ready),
            "availableReplicas": len(available),
        }
        marks = (newest["metadata"]["name"], counts)
        if self.progressed.get(key, (0, None))[1] != marks:
            self.progressed[key] = (self.clock, marks)
        wanted = deployment["spec"].get("replicas", 1)
        is_done = counts["updatedReplicas"] == counts["availableReplicas"] == counts["replicas"] == wanted
        limit = float(deployment["spec"].get("progressDeadlineSeconds", 600))
        is_late = not is_done and self.clock - self.progressed[key][0] > limit
        condition = {"type": "Progressing", "status": "False" if is_late else "True"}
        condition["reason"] = "ProgressDeadlineExceeded" if is_late else "ReplicaSetUpdated"
        status: Json = {key: count for key, count in counts.items() if count}
        status |= {"observedGeneration": deployment["metadata"]["generation"], "conditions": [condition]}
        self.set_status(deployment, status)

    # Pods

    def act_on_pod(self, pod: Json) -> None:
        key = self.key(pod)
        if "deletionTimestamp" in pod["metadata"]:
            self.ready_since.pop(key, None)
            if self.clock >= self.ends_at[key]:
                self.remove(pod)
            return
        image = self.image_of(pod)
        age = self.clock - self.started[key]
        if image.pull_error:
            reason = "ErrImagePull" if age < 3 else "ImagePullBackOff"
            self.warn(pod, f"Failed to pull image: {image.pull_error}")
            self.set_pod(pod, {"state": {"waiting": {"reason": reason, "message": image.pull_error}}})
            return
        status: Json = {"restartCount": 0, "imageID": image_id(pod, image)}
        if JOB_NAME in pod["metadata"]["labels"]:
            self.run_job_pod(pod, image, age, status)
            return
        if image.exits_after is not None and age >= 0.5 + image.exits_after:
            self.warn(pod, "Back-off restarting failed container")
            ended = {"terminated": {"exitCode": image.exit_code, "reason": "Error"}}
            waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}}
            status |= {"restartCount": 1, "state": waiting, "lastState": ended}
            self.ready_since.pop(key, None)
            self.set_pod(pod, status)
            return
        status["state"] = {"running": {}}
        is_ready = image.answers_after is not None and age >= 0.5 + image.answers_after
        if is_ready:
            self.ready_since.setdefault(key, self.clock)
        elif age > 4:
            self.warn(pod, "Readiness probe failed: Client.Timeout exceeded while awaiting headers")
        self.set_pod(pod, status, is_ready)

    def run_job_pod(self, pod: Json, image: Image, age: float, status: Json) -> None:
        if age < 0.5 + image.job_seconds:
            status["state"] = {"running": {}}
        else:
            status["state"] = {"terminated": {"exitCode": image.job_code, "reason": "Completed"}}
        self.set_pod(pod, status)

    def set_pod(self, pod: Json, container: Json, is_ready: bool = False) -> None:
        condition = {"type": "Ready", "status": "True" if is_ready else "False"}
        self.set_status(pod, {"phase": "Running", "conditions": [condition], "containerStatuses": [container]})

    # Jobs and Services

    def act_on_job(self, job: Json) -> None:
        name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
        pods = [pod for pod in self.of_kind("Pod", namespace) if pod.get("owner") == name]
        if not pods:
            if not job["status"].get("conditions"):
                job["spec"]["template"]["metadata"]["labels"][JOB_NAME] = name
                self.add_pod(job)
            return
        container = pods[0]["status"].get("containerStatuses", [{}])[0]
        ended = (container.get("state") or {}).get("terminated")
        if ended:
            kind = "Failed" if ended["exitCode"] else "Complete"
            status: Json = {"conditions": [{"type": kind, "status": "True"}]}
            if kind == "Complete":
                status["completionTime"] = job["status"].get("completionTime", rollout.utc(1_764_000_000 + self.clock))
            self.set_status(job, status)

    def route(self, service: Json) -> None:
        namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
        selector = service["spec"].get("selector")
        if not selector:
            return
        endpoints = []
        for pod in self.of_kind("Pod", namespace):
            if selector.items() <= pod["metadata"]["labels"].items():
                is_ready = self.key(pod) in self.ready_since
                reference = {"kind": "Pod", "name": pod["metadata"]["name"]}
                endpoints.append({"conditions": {"ready": is_ready}, "targetRef": reference})
        metadata = {"name": f"{name}-slice", "labels": {"kubernetes.io/service-name": name}}
        key = (namespace, "EndpointSlice", f"{name}-slice")
        if key not in self.objects:
            self.add(namespace, {"kind": "EndpointSlice", "metadata": metadata, "endpoints": []})
        present = self.objects[key]
        had = any(entry["conditions"]["ready"] for entry in present["endpoints"])
        if present["endpoints"] != endpoints:
            present["endpoints"] = endpoints
            self.touch(present)
        if had and not any(entry["conditions"]["ready"] for entry in endpoints):
            self.unserved.append(name)


class FakeKubectl(rollout.Kubectl):
    """Answers what the program asks kubectl, and counts the calls."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__({})
        self.cluster = cluster
        self.calls = 0
        self.commands: list[str] = []  # that changed something
        self.arguments: list[str] = []
        self.dies_before: int | None = None  # the number of a call
        self.dies_after: int | None = None
        self.dies_after_command = ""  # as in `commands`
        self.loses_answer_of: int | None = None  # the command is done, and its answer gets lost
        self.away_until: float = -1  # the API server does not answer
        self.forbidden: set[tuple[str, str]] = set()  # verb and kind
        self.is_logged_out = False
        self.at: dict[float, Callable[[], None]] = {}  # what happens at a moment
        self.on_write: Callable[[Json], None] | None = None  # before an object is written

    # The edge

    def now(self) -> float:
        return self.cluster.clock

    def time(self) -> float:
        return 1_764_000_000 + self.cluster.clock

    def token(self) -> str:
        self.cluster.made += 1
        return f"{self.cluster.made:06x}"

    def wait(self, seconds: float) -> None:
        for moment in sorted(moment for moment in self.at if moment <= self.cluster.clock + seconds):
            self.at.pop(moment)()
        self.cluster.advance(seconds)

    def run(self, *arguments: str, stdin: str = "") -> Output:
        self.calls += 1
        self.arguments += arguments
        if self.dies_before == self.calls:
            raise Killed
        self.wait(0.1)
        output = self.answer(list(arguments), stdin)
        if self.dies_after == self.calls:
            raise Killed
        if self.dies_after_command and self.commands and self.commands[-1] == self.dies_after_command:
            raise Killed
        if self.loses_answer_of == self.calls:
            return Output(
                1, "", "Unable to connect to the server: net/http: request canceled (Client.Timeout exceeded)"
            )
        return output

    def answer(self, words: list[str], stdin: str) -> Output:
        verb = words.pop(0)
        try:
            if verb == "annotate":
                return Output(0, local_documents(words), "")
            if self.cluster.clock < self.away_until:
                raise Refused(
                    "The connection to the server 10.0.0.1:6443 was refused - did you specify the right host?"
                )
            if self.is_logged_out:
                raise Refused("error: You must be logged in to the server (Unauthorized)")
            handlers = {
                "get": self.answer_get,
                "apply": self.answer_apply,
                "create": self.answer_create,
                "delete": self.answer_delete,
                "logs": self.answer_logs,
                "auth": self.answer_auth,
            }
            return Output(0, handlers[verb](words, stdin), "")
        except Refused as refused:
            return Output(1, "", f"{refused}\n")

    # Commands

    def answer_get(self, words: list[str], _stdin: str) -> str:
        assert words[0] == "-n" and words[-2:] == ["-o", "json"] or "-o" in words
        namespace, what = words[1], words[2]
        if "/" in what:
            kind, name = what.split("/")
            assert "--ignore-not-found" in words
            self.refuse_if_forbidden("get", kind, namespace)
            document = self.cluster.objects.get((namespace, KINDS[kind], name))
            return json.dumps(document) if document else ""
        selector = dict([words[words.index("-l") + 1].split("=")]) if "-l" in words else {}
        items = []
        for kind in what.split(","):
            self.refuse_if_forbidden("list", kind, namespace)
            for document in self.cluster.of_kind(KINDS[kind], namespace):
                if selector.items() <= (document["metadata"].get("labels") or {}).items():
                    items.append(document)
        return json.dumps({"kind": "List", "items": items})

    def answer_apply(self, words: list[str], stdin: str) -> str:
        assert {"--server-side", "--force-conflicts"} <= set(words) and words[-2:] == ["-f", "-"]
        namespace = words[words.index("-n") + 1]
        manager = next(word.partition("=")[2] for word in words if word.startswith("--field-manager="))
        is_dry = "--dry-run=server" in words
        printed = []
        for document in json.loads(stdin)["items"]:
            kind, name = document["kind"], document["metadata"]["name"]
            self.refuse_if_forbidden("patch", GROUPS[kind], namespace)
            if not is_dry:
                if self.on_write:
                    self.on_write(document)
                self.apply_one(namespace, document, manager)
                self.commands.append(f"apply {kind} {name} {manager}")
            printed.append(f"{GROUPS[kind]}/{name} serverside-applied")
        return "\n".join(printed)

    def apply_one(self, namespace: str, document: Json, manager: str) -> None:
        key = (namespace, document["kind"], document["metadata"]["name"])
        present = self.cluster.objects.get(key)
        version = document["metadata"].pop("resourceVersion", None)
        if version and (not present or version != present["metadata"]["resourceVersion"]):
            raise Refused(
                f'Error from server (Conflict): Operation cannot be fulfilled on {GROUPS[key[1]]} "{key[2]}": the'
                " object has been modified; please apply your changes to the latest version and try again"
            )
        owned = self.cluster.applied.setdefault(key, {})
        owned[manager] = document
        merged = copy.deepcopy(owned.get(rollout.MANAGER) or document)
        for other in owned.values():
            notes = other["metadata"].get("annotations") or {}
            merged["metadata"].setdefault("annotations", {}).update(notes)
        if present is None:
            merged["metadata"]["generation"] = 1
            self.cluster.add(namespace, merged)
            return
        before = copy.deepcopy(present)
        present["metadata"]["annotations"] = merged["metadata"]["annotations"]
        for part in ("spec", "data"):
            if part in merged:
                present[part] = merged[part]
        if present.get("spec") != before.get("spec"):
            present["metadata"]["generation"] += 1
        if present != before:
            self.cluster.touch(present)

    def answer_create(self, words: list[str], stdin: str) -> str:
        assert words[0] == "-n" and words[-2:] == ["-f", "-"]
        namespace, document = words[1], json.loads(stdin)
        kind, name = document["kind"], document["metadata"]["name"]
        self.refuse_if_forbidden("create", GROUPS[kind], namespace)
        if "--dry-run=server" in words:
            return ""
        if (namespace, kind, name) in self.cluster.objects:
            raise Refused(f'Error from server (AlreadyExists): {GROUPS[kind]} "{name}" already exists')
        document["status"] = {}
        self.cluster.add(namespace, document)
        self.commands.append(f"create {kind} {name}")
        return f"{GROUPS[kind]}/{name} created"

    def answer_delete(self, words: list[str], _stdin: str) -> str:
        assert words[0] == "-n"
        namespace, (kind, name) = words[1], words[-1].split("/")
        self.refuse_if_forbidden("delete", kind, namespace)
        for pod in self.cluster.of_kind("Pod", namespace):
            if pod.get("owner") == name:
                self.cluster.remove(pod)
        del self.cluster.objects[(namespace, KINDS[kind], name)]
        self.commands.append(f"delete {KINDS[kind]} {name}")
        return ""

    def answer_logs(self, words: list[str], _stdin: str) -> str:
        assert words[0] == "-n"
        self.refuse_if_forbidden("get", "pods/log", words[1])
        return f"the log of {words[2]}\n::error::a container says this\n"

    def answer_auth(self, words: list[str], _stdin: str) -> str:
        assert words[0] == "can-i" and "--quiet" in words
        part = next((word.partition("=")[2] for word in words if word.startswith("--subresource=")), "")
        assert "/" not in words[2]
        if (words[1], f"{words[2]}/{part}".rstrip("/")) in self.forbidden:
            raise Refused("")
        return ""

    def refuse_if_forbidden(self, verb: str, kind: str, namespace: str) -> None:
        if (verb, kind) in self.forbidden:
            resource, _, group = kind.partition(".")
            raise Refused(
                f'Error from server (Forbidden): {kind} is forbidden: User "system:serviceaccount:{namespace}:deploy"'
                f' cannot {verb} resource "{resource}" in API group "{group}" in the namespace "{namespace}"'
            )


def is_made_from(replica_set: Json, template: Json) -> bool:
    """Whether a ReplicaSet has this template, which then lacks only what the controller added."""
    own = replica_set["spec"]["template"]
    labels = {key: text for key, text in own["metadata"]["labels"].items() if key != HASH}
    metadata = {key: part for key, part in own["metadata"].items() if key != "creationTimestamp"}
    return bool({**own, "metadata": {**metadata, "labels": labels}} == template)


def image_id(pod: Json, image: Image) -> str:
    """As containerd reports it: by digest."""
    name = str(pod["spec"]["containers"][0]["image"])
    return rollout.with_digest(name, image.pulled_as) if image.pulled_as else name


def local_documents(words: Sequence[str]) -> str:
    """What `kubectl annotate --local -f FILE -o json` prints: the documents of a file, one after the other."""
    assert words[0] == "--local" and "json" in words and "--overwrite" in words
    path = Path(words[words.index("-f") + 1])
    key, _, text = next(word for word in words if word.startswith("kiwari-ci/")).partition("=")
    printed = []
    for document in yaml_documents(path):
        document["metadata"].setdefault("annotations", {})[key] = text
        printed.append(json.dumps(document, indent=4) + "\n")
    return "".join(printed)


def yaml_documents(path: Path) -> Iterator[Json]:
    yield from copy.deepcopy(parse_yaml(path.read_text()))


@functools.cache
def parse_yaml(text: str) -> list[Json]:
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]
