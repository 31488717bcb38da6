"""A stand-in for the kubectl of a person: it answers from the objects of a cluster, and knows nothing else.

It is a program, too: `write_program` puts it into a folder, with the objects as they are, and it notes its words there.
"""

import copy
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]

PLURALS = {
    "Namespace": "namespaces",
    "Node": "nodes",
    "Deployment": "deployments.apps",
    "ReplicaSet": "replicasets.apps",
    "Pod": "pods",
    "Job": "jobs.batch",
    "Service": "services",
    "Secret": "secrets",
    "Ingress": "ingresses.networking.k8s.io",
    "IngressClass": "ingressclasses.networking.k8s.io",
    "ClusterIssuer": "clusterissuers.cert-manager.io",
    "PodDisruptionBudget": "poddisruptionbudgets.policy",
    "EndpointSlice": "endpointslices.discovery.k8s.io",
}
KINDS = {plural: kind for kind, plural in PLURALS.items()}

PROGRAM = """#!{python} -S
import json, sys
sys.path.insert(0, {folder!r})
import person
with open({note!r}, "a") as note: print(json.dumps(sys.argv[1:]), file=note)
kubectl = person.PersonKubectl(json.load(open({objects!r})))
code, out, err = kubectl.answer(sys.argv[1:], "" if sys.stdin.isatty() else sys.stdin.read())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""


class Refused(Exception):
    """A command ends with an error."""


class PersonKubectl:
    """Answers as kubectl does."""

    def __init__(self, objects: Sequence[Json]) -> None:
        self.objects = list(objects)
        self.version = "v1.35.4"
        self.contexts = ["admin@shop"]  # the first one is the current one
        self.missing_kinds: set[str] = set()
        self.forbidden: set[str] = set()  # plurals
        self.can_read_secrets = "no"
        self.unreachable = ""
        self.seen: list[list[str]] = []

    def answer(self, words: Sequence[str], stdin: str) -> tuple[int, str, str]:
        """The exit code, standard output and standard error of a command."""
        self.seen.append(list(words))
        options = [word for word in words if word.startswith(("--context=", "--request-timeout="))]
        verb, *rest = [word for word in words if word not in options]
        context = next((option.partition("=")[2] for option in options if option.startswith("--context=")), "")
        try:
            if verb == "config":
                return 0, self.answer_config(context), ""
            if self.unreachable:
                raise Refused(self.unreachable)
            if verb == "version":
                return 0, json.dumps({"clientVersion": {"gitVersion": "v1.36.0"}} | self.server_version()), ""
            if verb == "auth":
                return self.answer_auth(rest)
            if verb == "logs":
                return 0, f"[pod/{rest[3].partition('=')[2]}-1] a line\n", ""
            if verb == "exec":
                return 3, stdin, "command terminated with exit code 3\n"
            assert verb == "get", words
            return 0, self.answer_get(rest, stdin), ""
        except Refused as refused:
            return 1, "", f"{refused}\n"

    def server_version(self) -> Json:
        return {"serverVersion": {"gitVersion": self.version}}

    def answer_config(self, context: str) -> str:
        chosen = context or next(iter(self.contexts), "")
        if not chosen:
            raise Refused("error: current-context must exist in order to minify")
        if chosen not in self.contexts:
            raise Refused(f"error: cannot locate context {chosen}")
        server = {"name": chosen, "cluster": {"server": "https://192.0.2.7:6443"}}
        return json.dumps({"current-context": chosen, "clusters": [server]})

    def answer_auth(self, words: Sequence[str]) -> tuple[int, str, str]:
        assert words[:3] == ["can-i", "get", "secrets"] and words[-1].startswith("--as=system:serviceaccount:")
        if not self.can_read_secrets:
            return 1, "", 'Error from server (Forbidden): users "anna" is forbidden: cannot impersonate\n'
        return int(self.can_read_secrets == "no"), f"{self.can_read_secrets}\n", ""

    def answer_get(self, words: list[str], stdin: str) -> str:
        assert "--ignore-not-found" in words
        style = words[words.index("-o") + 1]
        namespace = words[words.index("-n") + 1] if "-n" in words else ""
        rest = [word for word in words if word not in ("-n", namespace, "--ignore-not-found", "-o", style)]
        if rest == ["-f", "-"]:
            wanted = json.loads(stdin)["items"]
            return as_json([document for each in wanted for document in self.find(each)], style)
        plurals, names = rest[0].split(","), rest[1:]
        for plural in plurals:
            self.refuse(plural)
        documents = [
            document
            for document in self.objects
            if PLURALS.get(document["kind"]) in plurals
            and document["metadata"].get("namespace", "") == namespace
            and (not names or document["metadata"]["name"] in names)
        ]
        if style.startswith("go-template="):
            assert ".data" in style and "$value}}" not in style  # names of keys, and never a value
            return "".join(map(secret_row, documents))
        if len(names) == 1:
            return json.dumps(documents[0]) if documents else ""
        return as_json(documents, style)

    def find(self, wanted: Json) -> list[Json]:
        kind = str(wanted["kind"])
        self.refuse(PLURALS.get(kind, kind))
        return [document for document in self.objects if key_of(document) == key_of(wanted)]

    def refuse(self, plural: str) -> None:
        if plural in self.missing_kinds:
            raise Refused(f'error: the server doesn\'t have a resource type "{plural.partition(".")[0]}"')
        if plural in self.forbidden:
            raise Refused(f'Error from server (Forbidden): {plural} is forbidden: User "anna" cannot list resource')

    def change(self, kind: str, name: str, namespace: str = "") -> Json:
        """An object, to change it in place."""
        key = (kind, name, namespace)
        return next(document for document in self.objects if key_of(document) == key)

    def remove(self, kind: str, name: str, namespace: str = "") -> None:
        """Delete an object."""
        self.objects.remove(self.change(kind, name, namespace))


def key_of(document: Json) -> tuple[str, str, str]:
    metadata = document["metadata"]
    return document["kind"], metadata["name"], metadata.get("namespace", "")


def as_json(objects: list[Json], style: str) -> str:
    assert style == "json"
    return json.dumps({"kind": "List", "items": copy.deepcopy(objects)})


def secret_row(secret: Json) -> str:
    return "\t".join([secret["metadata"]["name"], secret.get("type", "Opaque"), *secret.get("data", {})]) + "\n"


def write_program(folder: Path, objects: Sequence[Json]) -> Path:
    """Put the program kubectl into a folder, and return the file in which it notes its words."""
    folder.mkdir(exist_ok=True)
    (folder / "objects.json").write_text(json.dumps(list(objects)))
    here = str(Path(__file__).parent)
    paths = {"objects": str(folder / "objects.json"), "note": str(folder / "note")}
    (folder / "kubectl").write_text(PROGRAM.format(python=sys.executable, folder=here, **paths))
    (folder / "kubectl").chmod(0o755)
    return folder / "note"
