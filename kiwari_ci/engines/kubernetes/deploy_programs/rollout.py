#!/usr/bin/python3 -I
"""The kiwari-ci rollout program: it puts images into service on a Kubernetes cluster.

Exit code 0 of `deploy` and `rollback` means that every address to which a Service of the request
leads is a pod that runs the image that was asked for, that it is ready, and that none is missing.

A GitHub workflow runs it in a checkout, and so does a person. These are the requests:

    deploy --stack STACK --sequence N [--put-back] [--show-output] [--env FILE KEY VAR]...
        [--env-value FILE KEY VALUE]... SERVICE=DIGEST...    put these images into service
    rollback STACK SERVICE [DIGEST]    go back to the image that served before, or to this one
    check STACK                        print what would make a deploy fail; change nothing
    cancel STACK                       take back what a deploy began that was killed
    status STACK                       print what serves

With --kubeconfig VAR, the environment variable VAR has the kubeconfig. It is then written to a
private folder, which is removed at the end. Without this option, kubectl uses what it always uses;
--context NAME then names a context that is not the current one.
No secret is ever in the arguments of a process, nor in the log.

STACK is a folder beside bin/ that has a kubernetes.yaml, and a namespace of the cluster.

SEQUENCE is the number of commits of the branch. A deploy with a lower number than the one that is
wanted changes nothing, so that a slow run of an older commit never replaces a newer one. If the
newer one is still being rolled out, the older one waits: it goes on if the newer one fails. A
rollback that a person types lowers the number; one by --put-back does not.

--put-back: if a person starts the run of an older commit by hand, roll back to its images.
--env and --env-value: lines of an env file, which becomes the Secret that the pods read.
--show-output: show output of containers also in the log of a public repository, which everybody
reads. A log may hold a password or the name of a customer.

Exit codes: 0 the images serve, 1 they do not, 3 a newer commit serves (in a job of GitHub 0: then
the step's output `superseded-by` has its number, and the next step checks that the branch has it),
64 the request is refused, 65 the image is refused, 69 the cluster is not ready, 75 another deploy
does not come to an end, 77 the cluster refuses the login. The last line is the result as JSON.

What this program writes to the cluster, beside the objects of kubernetes.yaml:

    kiwari-ci/sequence   on a Deployment: the number of the commit that is wanted
    kiwari-ci/served     on a Deployment: a line for each image that served, the newest last
    kiwari-ci/run        on pods and Jobs: the rollout that made them

A service that runs once is a Job, which runs to its end before the pods of a deploy are replaced.
Its Jobs are its record: the newest ones stay in the cluster, each with its image, the number of its
commit, and how it ended.

This file is the same in every repository: `sha256sum bin/rollout` shows whether it was changed.
"""

import sys

if sys.version_info < (3, 8):
    sys.exit("rollout: Python 3.8 or newer is needed, and this is %d.%d" % sys.version_info[:2])

import base64
import contextlib
import copy
import dataclasses
import hashlib
import io
import json
import os
import re
import secrets
import signal
import subprocess
import tempfile
import time
import traceback
from collections import deque
from datetime import datetime, timezone
from pathlib import Path
from typing import (
    Any,
    Deque,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NoReturn,
    Optional,
    Sequence,
    Set,
    TextIO,
    Tuple,
)

VERSION = "1.0"
PROTOCOL = 1  # of the result line, which is that of the host program

SERVING, NOT_SERVING, SUPERSEDED = 0, 1, 3
BAD_REQUEST, BAD_IMAGE, NOT_READY, LOCKED, TOKEN_REFUSED = 64, 65, 69, 75, 77

ROOT = Path(__file__).resolve().parent.parent
MANIFESTS = "kubernetes.yaml"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # of a Kubernetes object
UNCHANGED = "unchanged"  # in place of a digest
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
SEQUENCE = re.compile(r"[1-9][0-9]{0,11}")
RUN = re.compile(r"[0-9]{1,20}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ENV_FILE = re.compile(r"([a-z0-9][a-z0-9.-]*)?\.env")
RECORD_LINE = re.compile(r"([^ ]+@sha256:[0-9a-f]{64}) ([0-9]+) ([^ ]+) ([^ ]+)")
NO_DIGEST = "sha256:" + 64 * "0"  # stands in the files for the digest of the request

# Annotations and labels: of the files, and of the objects in the cluster.
SERVICE_LABEL = "app.kubernetes.io/name"
RUN_LABEL = "kiwari-ci/run"
SEQUENCE_NOTE = "kiwari-ci/sequence"
SERVED_NOTE = "kiwari-ci/served"
HEALTH_NOTE = "kiwari-ci/health"  # ":8081/health 200"; not on a service without HTTP
FROM_NOTE = "kiwari-ci/from"  # STACK/SERVICE, where an image must have served before
ACCESSORY_NOTE = "kiwari-ci/accessory"  # created if it is missing, never replaced
BEFORE_NOTE = "kiwari-ci/before"  # on a Job: the services before which it runs, at each deploy
ONCE_NOTE = "kiwari-ci/once"  # on a Job: it is a service itself, and runs when it is deployed
IMAGE_OF_NOTE = "kiwari-ci/image-of"  # on a Job: the service whose new image it runs

MANAGER = "kiwari-ci"
RECORD_MANAGER = "kiwari-ci-record"
OBSERVED = "deployments.apps,replicasets.apps,pods,endpointslices.discovery.k8s.io,jobs.batch"

# What a container waits for if it cannot get well by waiting.
HOPELESS = (
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
)
SIGNS_OF_A_CONFLICT = ("the object has been modified", "(AlreadyExists)")
SIGNS_OF_A_REFUSED_LOGIN = ("(Unauthorized)", "provide credentials")
SIGNS_OF_NO_ANSWER = (
    "Unable to connect to the server",
    "was refused",
    "(Timeout)",
    "(ServiceUnavailable)",
    "(TooManyRequests)",
    "(InternalError)",
    "request timed out",
    "i/o timeout",
    "Client.Timeout",
    "context deadline exceeded",
    "unexpected EOF",
    "connection reset",
)

# Time limits, in seconds.
REQUEST_SECONDS = 20  # kubectl waits for one answer of the cluster
COMMAND_SECONDS = 120  # one kubectl command
UNANSWERED_SECONDS = 90  # the cluster does not answer; what serves does not need it
LOCK_SECONDS = 600  # a newer deploy is being rolled out
RECOVERY_SECONDS = 60  # what a newer commit put into service answers again
ROUTING_SECONDS = 30  # after a rollout, the Service leads to all new pods
UNDO_SECONDS = 180  # what served before serves again
JOB_SECONDS = 3600  # a migration or another Job
SPARE_SECONDS = 60  # beyond the deadlines that the cluster itself observes

ATTEMPTS = 5  # to roll out, when other deploys interfere
CONFLICTS = 20  # in one attempt, when the object changes while it is written
RECORDS_TO_KEEP = 20  # of a service; of one that runs once, as many Jobs of each outcome
LOGGED_LINES = 40  # of a failed container's log
EVENTS_SHOWN = 5
PODS_SHOWN = 3  # whose log is printed
MOST_LETTERS_SHOWN = 2_000  # of a line of another program
LONGEST_MESSAGE = 2_000  # in an annotation of the run

# What the deploy key needs in the stack's namespace; setup.yaml grants it.
RIGHTS = (
    ("list", "deployments.apps"),
    ("create", "deployments.apps"),
    ("patch", "deployments.apps"),
    ("list", "replicasets.apps"),
    ("get", "pods"),
    ("list", "pods"),
    ("get", "pods/log"),
    ("list", "endpointslices.discovery.k8s.io"),
    ("list", "events"),
    ("create", "services"),
    ("patch", "services"),
    ("create", "ingresses.networking.k8s.io"),
    ("patch", "ingresses.networking.k8s.io"),
    ("create", "poddisruptionbudgets.policy"),
    ("patch", "poddisruptionbudgets.policy"),
    ("get", "jobs.batch"),
    ("list", "jobs.batch"),
    ("create", "jobs.batch"),
    ("delete", "jobs.batch"),
)

Json = Dict[str, Any]


class Failed(Exception):
    """The request has failed: the exit code, and a sentence that says why and what to do."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Conflict(Exception):
    """An object has changed since it was read, so that it was not written."""


class Stopped(BaseException):
    """A signal ends this program: GitHub sends one if a person cancels the run."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclasses.dataclass(frozen=True)
class EnvLine:
    """A line of an env file: a key, and its text or the name of the variable that has it."""

    file: str
    key: str
    text: str
    is_variable: bool


@dataclasses.dataclass
class Request:
    """What the arguments ask for."""

    verb: str = ""
    stack: str = ""
    sequence: int = 0
    images: Dict[str, str] = dataclasses.field(default_factory=dict)  # digests by service
    kubeconfig: str = ""  # the name of a variable
    context: str = ""  # of kubectl; empty for the current one
    env_lines: List[EnvLine] = dataclasses.field(default_factory=list)
    puts_back: bool = False
    shows_output: bool = True  # of containers
    run: str = ""  # of GitHub

    def variables(self) -> List[str]:
        """The environment variables that the arguments name: all of them may be secret."""
        names = [self.kubeconfig] if self.kubeconfig else []
        return names + [line.text for line in self.env_lines if line.is_variable]


@dataclasses.dataclass(frozen=True)
class Output:
    """The exit code of a command, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        """The last line that it printed as an error, to quote it in a message."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return printable(lines[-1])[:LONGEST_MESSAGE] if lines else f"exit code {self.code}"

    def has(self, signs: Iterable[str]) -> bool:
        """Whether it printed one of these texts as an error."""
        return any(sign in self.err for sign in signs)


@dataclasses.dataclass(frozen=True)
class Record:
    """A line of a service's record: an image that was put into service."""

    image: str
    sequence: int
    time: str
    mark: str  # the rollout: the value of the label kiwari-ci/run

    def __str__(self) -> str:
        return f"{self.image} {self.sequence} {self.time} {self.mark}"

    @property
    def digest(self) -> str:
        """The digest of the image."""
        return digest_of(self.image)

    @property
    def is_rollback(self) -> bool:
        """Whether a rollback put it into service."""
        return is_rollback(self.mark)


class Superseded(Exception):
    """The Job of a newer commit has run to its end; its record."""

    def __init__(self, newest: Record) -> None:
        super().__init__(newest)
        self.newest = newest


@dataclasses.dataclass(frozen=True)
class Pod:
    """A pod as the cluster describes it."""

    name: str
    service: str
    mark: str
    image: str
    image_id: str
    is_ready: bool
    is_ending: bool
    status: Json  # of its first container

    @property
    def digest(self) -> str:
        """The digest of what runs in it; empty if it is not what the pod asks for."""
        digest = digest_of(self.image)
        return digest if digest and digest_of(self.image_id) == digest else ""

    @property
    def state_text(self) -> str:
        """Its state, for the log."""
        restarts = self.status.get("restartCount", 0)
        state = json.dumps(self.status.get("state") or {}, sort_keys=True)
        return f"{self.name}: {restarts} restarts, {state}"

    @property
    def problem(self) -> str:
        """Why its container cannot serve any more; empty if it may.

        A container that has ended once ends again. The cluster would try for minutes, and meanwhile
        replace healthy pods by ones that look healthy for a while.
        """
        if self.is_ending:
            return ""
        state = self.status.get("state") or {}
        waiting = state.get("waiting") or {}
        if waiting.get("reason") in HOPELESS and not self.status.get("restartCount"):
            return f"{self.name} does not start: {waiting['reason']} {waiting.get('message', '')}"
        ended = state.get("terminated") or (self.status.get("lastState") or {}).get("terminated")
        if self.status.get("restartCount") or state.get("terminated"):
            return f"{self.name} did not stay up: {ending_text(ended or {})}"
        return ""


@dataclasses.dataclass(frozen=True)
class Deployment:
    """A Deployment as the cluster describes it."""

    name: str
    document: Json

    @property
    def version(self) -> str:
        """Its resourceVersion, which changes with each change of it."""
        return str(self.document["metadata"]["resourceVersion"])

    @property
    def notes(self) -> Json:
        """Its annotations."""
        return self.document["metadata"].get("annotations") or {}

    @property
    def sequence(self) -> int:
        """The number of the commit that is wanted."""
        text = str(self.notes.get(SEQUENCE_NOTE, ""))
        return int(text) if text.isdigit() else 0

    @property
    def mark(self) -> str:
        """The rollout that is wanted."""
        labels = self.document["spec"]["template"]["metadata"].get("labels") or {}
        return str(labels.get(RUN_LABEL, ""))

    @property
    def records(self) -> List[Record]:
        """What served, oldest first."""
        matches = map(RECORD_LINE.fullmatch, str(self.notes.get(SERVED_NOTE, "")).splitlines())
        return [Record(match[1], int(match[2]), match[3], match[4]) for match in matches if match]

    @property
    def newest_record(self) -> Optional[Record]:
        """What was put into service last."""
        records = self.records
        return records[-1] if records else None

    @property
    def is_settled(self) -> bool:
        """Whether what is wanted has served, so that no rollout is under way."""
        newest = self.newest_record
        return newest is not None and newest.mark == self.mark

    @property
    def replicas(self) -> int:
        """How many pods are wanted."""
        return int(self.document["spec"].get("replicas", 1))

    @property
    def deadline(self) -> int:
        """The seconds in which a rollout has to make progress."""
        return int(self.document["spec"].get("progressDeadlineSeconds", 600))

    @property
    def is_rolled_out(self) -> bool:
        """Whether all its pods are those that are wanted, and have been ready for long enough."""
        status = self.document.get("status") or {}
        counts = [
            status.get(key, 0) for key in ("updatedReplicas", "replicas", "availableReplicas")
        ]
        return self.is_observed and counts == [self.replicas] * 3

    @property
    def is_observed(self) -> bool:
        """Whether its status is about what is wanted now, and not about what was before."""
        observed = (self.document.get("status") or {}).get("observedGeneration", 0)
        return bool(observed >= self.document["metadata"].get("generation", 0))

    @property
    def is_out_of_time(self) -> bool:
        """Whether the cluster has given up on the rollout."""
        conditions = (self.document.get("status") or {}).get("conditions") or []
        return self.is_observed and any(
            condition.get("reason") == "ProgressDeadlineExceeded" for condition in conditions
        )


@dataclasses.dataclass
class Service:
    """A service as the files describe it, and how far this request has come with it."""

    name: str
    manifest: Json  # its Deployment; its Job, if it runs once
    others: List[Json] = dataclasses.field(default_factory=list)  # Service, Ingress and so on
    digest: str = ""  # that the request asks for
    sequence: int = 0  # that the Deployment gets
    previous: Optional[Record] = None  # what served when the request began
    mark: str = ""  # of the newest attempt
    is_applied: bool = False
    is_overtaken: bool = False  # by another rollout
    is_undone: bool = False  # what served before comes back
    result: str = ""  # serving, superseded, failed, not started; empty while undecided
    problem: str = ""  # why it failed
    seconds: int = 0  # from the start of the request until the result was known
    end: float = 0  # of the time for the rollout

    @property
    def runs_once(self) -> bool:
        """Whether it is a one-shot: it ends, and its exit code is its result."""
        return bool(self.manifest["kind"] == "Job")

    @property
    def notes(self) -> Json:
        """The annotations of its Deployment or Job in the file."""
        return self.manifest["metadata"].get("annotations") or {}

    @property
    def health(self) -> str:
        """What its pods are asked, for a message; empty for a service without HTTP."""
        return str(self.notes.get(HEALTH_NOTE, ""))

    @property
    def has_addresses(self) -> bool:
        """Whether a Service leads to its pods."""
        return any(other.get("kind") == "Service" for other in self.others)

    @property
    def image(self) -> str:
        """The image of the request."""
        return with_digest(image_in(self.manifest["spec"]["template"]), self.digest)


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Handle one request; the exit code."""
    is_job = environment.get("GITHUB_ACTIONS") == "true"
    try:
        request = read_request(arguments, environment)
        refuse_unset_variables(request, environment)
        with kubectl_for(request, environment) as kubectl:
            stack = Stack(kubectl, request)
            if request.verb == "status":
                return print_status(stack)
            if request.verb == "check":
                return print_findings(stack)
            return perform(stack, environment)
    except Failed as failure:
        print_error(failure.message, is_job)
        return failure.code
    except OSError as error:
        print_error(os_error_text(error), is_job)
        return NOT_READY
    except Stopped as stopped:
        print_error("stopped before anything was changed", is_job)
        return 128 + stopped.number


def perform(stack: "Stack", environment: Mapping[str, str]) -> int:
    """Carry out a request; at the end, print what serves now, as text and as a line of JSON."""
    is_job = environment.get("GITHUB_ACTIONS") == "true"
    message = ""
    try:
        if stack.request.verb == "cancel":
            cancel(stack)
        elif stack.request.verb == "rollback":
            roll_back(stack)
        else:
            deploy(stack, environment)
            if should_put_back(stack, environment):
                put_back(stack)
        wait_for_undone(stack)
        code = exit_code_of(stack.services)
        message = " ".join(service.problem for service in stack.services if service.problem)
    except Failed as failure:
        code, message = failure.code, failure.message
    except OSError as error:
        code, message = NOT_READY, os_error_text(error)
    except Stopped as stopped:
        code, message = 128 + stopped.number, "the run was cancelled"
    except Exception as error:
        code, message = NOT_SERVING, f"a mistake in bin/rollout itself: {error!r}"
        traceback.print_exc()
    with signals_held_back():
        undo_what_is_undecided(stack, message)
        shown = observe_for_report(stack)
        print_outcome(stack, shown, code)
        write_summary(stack, shown, environment)
        return conclude(stack, shown, code, message, environment, is_job)


def deploy(stack: "Stack", environment: Mapping[str, str]) -> None:
    """Put the images of a request into service.

    All checks come before the first change: a refused request leaves the cluster as it was.
    """
    stack.read_manifests()
    for name, digest in stack.request.images.items():
        service = stack.service(name)
        service.digest = digest
        service.sequence = stack.request.sequence
        stack.services.append(service)
    stack.look()
    remember_what_serves(stack)
    check_promotion(stack)
    current = [service for service in stack.services if not is_superseded(stack, service)]
    if not current:
        return
    check_one_shots(stack, current)
    check_objects(stack, current)
    apply_env_files(stack, environment)
    start_accessories(stack)
    run_jobs(stack, current)
    put_into_service(stack, current)
    print_orphans(stack)


def roll_back(stack: "Stack") -> None:
    """Put an image into service that served before."""
    stack.read_manifests()
    ((name, digest),) = stack.request.images.items()
    service = stack.service(name)
    stack.look()
    stack.services.append(service)
    remember_what_serves(stack)
    records = stack.records(name)
    image = image_to_go_back_to(stack, name, digest)
    service.digest = digest_of(image)
    service.sequence = sequence_after_rollback(records, image)
    put_into_service(stack, [service])


def put_into_service(stack: "Stack", services: Sequence[Service]) -> None:
    """Run the one-shots to their end, then roll out the services that keep running."""
    run_one_shots(stack, [service for service in services if service.runs_once])
    roll_out(stack, [service for service in services if not service.runs_once])


def should_put_back(stack: "Stack", environment: Mapping[str, str]) -> bool:
    """Whether a person has just started a run of an older commit.

    A run that is repeated later must not go back: newer commits may have been deployed meanwhile.
    """
    return (
        stack.request.puts_back
        and environment.get("GITHUB_EVENT_NAME") == "workflow_dispatch"
        and environment.get("GITHUB_RUN_ATTEMPT") == "1"
        and exit_code_of(stack.services) == SUPERSEDED
    )


def put_back(stack: "Stack") -> None:
    """Roll back superseded services to the images of the request."""
    stack.request = dataclasses.replace(stack.request, verb="rollback")
    older = []
    for service in stack.services:
        newest = stack.newest_record(service.name)
        if service.result == "superseded" and newest and newest.digest != service.digest:
            progress(f"{service.name}: a person chose an older commit, which is put back")
            image_to_go_back_to(stack, service.name, service.digest)
            # The number stays: a run of an older commit that comes late must not replace this.
            service.sequence = newest.sequence
            service.result = ""
            older.append(service)
    put_into_service(stack, older)


def cancel(stack: "Stack") -> None:
    """Take back what a deploy began that was killed, and so could not do it itself."""
    stack.read_manifests()
    stack.look()
    for name, deployment in sorted(stack.state.deployments.items()):
        if name not in stack.manifests or is_accessory(stack.manifests[name]):
            continue
        if deployment.is_settled or not deployment.sequence:
            continue
        service = stack.service(name)
        service.mark, service.sequence = deployment.mark, deployment.sequence
        service.digest = digest_of(image_in(deployment.document["spec"]["template"]))
        service.previous = deployment.newest_record
        service.is_applied = True
        stack.services.append(service)
        service.result = "failed"
        undo(stack, service)
        wait_for_undone(stack)
        state = stack.look()
        previous = service.previous
        if previous and serving_digests(state, service) == {previous.digest}:
            service.result = "serving"
        else:
            service.problem = f"{name}: nothing served before that could serve again"
    if not stack.services:
        progress("no rollout is under way")


# 1. Parse: everything that is wrong with the arguments is refused before the cluster is asked.


def read_request(arguments: Sequence[str], environment: Mapping[str, str]) -> Request:
    """Parse the arguments. argparse would take a value such as `-Xmx512m` for an option."""
    remaining = deque(arguments)
    request = Request(run=environment.get("GITHUB_RUN_ID") or "0")
    request.shows_output = not is_public_log(environment)
    words: List[str] = []
    while remaining:
        word = remaining.popleft()
        if word in ("--context", "--kubeconfig", "--stack", "--sequence"):
            read_option(request, word, *take_words(1, remaining, word))
        elif word == "--put-back":
            request.puts_back = True
        elif word == "--show-output":
            request.shows_output = True
        elif word in ("--env", "--env-value"):
            file, key, text = take_words(3, remaining, word)
            request.env_lines.append(EnvLine(file, key, text, is_variable=word == "--env"))
        elif word.startswith("-"):
            raise Failed(BAD_REQUEST, f"{word} is not an option of bin/rollout")
        else:
            words.append(word)
    request.verb = words[0] if words else ""
    read_words(request, words[1:])
    refuse_invalid_request(request)
    return request


def is_public_log(environment: Mapping[str, str]) -> bool:
    """Whether this is a job whose log everybody may read; so is one of which nothing is known."""
    if environment.get("GITHUB_ACTIONS") != "true":
        return False
    try:
        event = json.loads(Path(environment.get("GITHUB_EVENT_PATH", "")).read_bytes())
        return event["repository"]["private"] is not True
    except (OSError, ValueError, KeyError, TypeError):
        return True


def take_words(count: int, remaining: Deque[str], option: str) -> List[str]:
    """The words that belong to an option."""
    if len(remaining) < count:
        plural = "s" if count > 1 else ""
        raise Failed(BAD_REQUEST, f"{option} needs {count} word{plural} behind it")
    return [remaining.popleft() for _ in range(count)]


def read_option(request: Request, option: str, word: str) -> None:
    """Read an option with one word."""
    if option == "--sequence":
        if not SEQUENCE.fullmatch(word):
            raise Failed(BAD_REQUEST, f"--sequence {word!r} is not valid")
        request.sequence = int(word)
    elif option == "--kubeconfig":
        if not VARIABLE.fullmatch(word):
            raise Failed(BAD_REQUEST, f"--kubeconfig {word!r} is not the name of a variable")
        request.kubeconfig = word
    elif option == "--context":
        request.context = word
    else:
        request.stack = word


def read_words(request: Request, words: List[str]) -> None:
    """Read the words behind the verb."""
    if request.verb == "deploy":
        for word in words:
            service, _, digest = word.partition("=")
            if service in request.images:
                raise Failed(BAD_REQUEST, f"{service} is on the command line more than once")
            if digest != UNCHANGED:
                request.images[service] = digest
    elif request.verb == "rollback" and len(words) in (2, 3):
        request.stack = words[0]
        request.images[words[1]] = words[2] if len(words) == 3 else ""
    elif request.verb in ("check", "cancel", "status") and len(words) == 1:
        request.stack = words[0]
    else:
        raise Failed(BAD_REQUEST, "unknown request: the top of bin/rollout lists the requests")


def refuse_invalid_request(request: Request) -> None:
    """Refuse words that are missing or malformed. A failed build job passes an empty digest."""
    if not NAME.fullmatch(request.stack):
        raise Failed(BAD_REQUEST, f"{request.stack!r} is not the name of a stack")
    for service, digest in request.images.items():
        if not NAME.fullmatch(service):
            raise Failed(BAD_REQUEST, f"{service!r} is not the name of a service")
        if not DIGEST.fullmatch(digest) and (digest or request.verb == "deploy"):
            raise Failed(
                BAD_REQUEST,
                f"{service}: {digest!r} is not the digest of an image (sha256: and 64 digits)",
            )
    if request.verb == "deploy" and not request.images:
        raise Failed(BAD_REQUEST, "no SERVICE=DIGEST: there is nothing to deploy")
    if request.verb == "deploy" and not request.sequence:
        raise Failed(BAD_REQUEST, "--sequence is missing on the command line")
    if not RUN.fullmatch(request.run):
        raise Failed(BAD_REQUEST, "GITHUB_RUN_ID is not a number")
    for line in request.env_lines:
        if not ENV_FILE.fullmatch(line.file):
            raise Failed(BAD_REQUEST, f"{line.file!r} is not the name of an env file")
        names = (line.key, line.text) if line.is_variable else (line.key,)
        if not all(map(VARIABLE.fullmatch, names)):
            raise Failed(
                BAD_REQUEST, f"{line.file}: {line.key!r} has a name that no variable can have"
            )


def refuse_unset_variables(request: Request, environment: Mapping[str, str]) -> None:
    """Refuse if secrets are missing. GitHub passes one that is not set as an empty string."""
    missing = [name for name in request.variables() if not environment.get(name)]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise Failed(
            BAD_REQUEST, f"{', '.join(missing)} {verb} not set: runbook, the step about GitHub"
        )


# 2. Look: one command reads the state of the stack. All decisions are made from such a state.


@dataclasses.dataclass
class State:
    """What is in the stack's namespace."""

    deployments: Dict[str, Deployment] = dataclasses.field(default_factory=dict)
    replica_sets: List[Json] = dataclasses.field(default_factory=list)
    pods: List[Pod] = dataclasses.field(default_factory=list)
    slices: List[Json] = dataclasses.field(default_factory=list)
    jobs: List[Json] = dataclasses.field(default_factory=list)

    def replica_set(self, service: str, mark: str) -> Optional[Json]:
        """The newest ReplicaSet of a rollout; the services of one request have the same mark."""
        matching = [
            entry
            for entry in self.replica_sets
            if (label(entry, SERVICE_LABEL), label(entry, RUN_LABEL)) == (service, mark)
        ]
        return max(matching, key=revision_of, default=None)

    def pods_of(self, service: str, mark: str) -> List[Pod]:
        """The pods that a rollout of a service made."""
        return [pod for pod in self.pods if (pod.service, pod.mark) == (service, mark)]

    def ready_pods(self, service: str) -> List[Pod]:
        """The pods of a service that are ready, and are not about to end."""
        return [
            pod
            for pod in self.pods
            if pod.service == service and pod.is_ready and not pod.is_ending
        ]

    def jobs_of(self, service: str) -> List[Json]:
        """The Jobs of a service that runs once, oldest first."""
        return by_number(job for job in self.jobs if label(job, SERVICE_LABEL) == service)

    def addressed_pods(self, service: str) -> Set[str]:
        """The names of the pods to which the Service leads."""
        names = set()
        for entry in self.slices:
            if label(entry, "kubernetes.io/service-name") != service:
                continue
            for endpoint in entry.get("endpoints") or []:
                # No value means ready, as the API is described.
                if (endpoint.get("conditions") or {}).get("ready") is not False:
                    names.add(str((endpoint.get("targetRef") or {}).get("name")))
        return names


def parse_state(items: Sequence[Json]) -> State:
    """Sort the objects of a list by their kinds."""
    state = State()
    for item in items:
        kind = item.get("kind")
        if kind == "Deployment":
            name = item["metadata"]["name"]
            state.deployments[name] = Deployment(name, item)
        elif kind == "ReplicaSet":
            state.replica_sets.append(item)
        elif kind == "Pod":
            state.pods.append(parse_pod(item))
        elif kind == "EndpointSlice":
            state.slices.append(item)
        elif kind == "Job":
            state.jobs.append(item)
    return state


def parse_pod(item: Json) -> Pod:
    """What matters of a pod. Its first container is the service."""
    status = item.get("status") or {}
    statuses = status.get("containerStatuses") or [{}]
    conditions = {entry["type"]: entry["status"] for entry in status.get("conditions") or []}
    return Pod(
        name=item["metadata"]["name"],
        service=label(item, SERVICE_LABEL),
        mark=label(item, RUN_LABEL),
        image=str(item["spec"]["containers"][0].get("image", "")),
        image_id=str(statuses[0].get("imageID", "")),
        is_ready=conditions.get("Ready") == "True",
        is_ending=bool(item["metadata"].get("deletionTimestamp")),
        status=statuses[0],
    )


def pods_that_serve(state: State, service: Service) -> Tuple[List[Pod], int]:
    """The pods that serve, and how many there are: also those of which nothing else is known.

    For a service with HTTP, the cluster itself says to which pods it sends requests.
    """
    if not service.has_addresses:
        running = state.ready_pods(service.name)
        return running, len(running)
    names = state.addressed_pods(service.name)
    return [pod for pod in state.pods if pod.name in names], len(names)


def serving_digests(state: State, service: Service) -> Set[str]:
    """The digests of what serves; the empty text stands for something else than a digest.

    Of a one-shot, it is the digest of the image that ran to its end last.
    """
    if service.runs_once:
        return {record.digest for record in records_of_jobs(state.jobs_of(service.name))[-1:]}
    pods, count = pods_that_serve(state, service)
    digests = {pod.digest for pod in pods}
    return digests if len(pods) == count else digests | {""}


def serving_digest(state: State, service: Service) -> str:
    """The digest of what serves; empty if nothing does, or if it is not one image."""
    digests = serving_digests(state, service)
    return next(iter(digests)) if len(digests) == 1 else ""


def problem_of_serving(state: State, service: Service) -> str:
    """Why not every address of the service is a pod with the right image; empty if it is."""
    deployment = state.deployments.get(service.name)
    pods, count = pods_that_serve(state, service)
    wanted = deployment.replicas if deployment else 1
    if count != wanted:
        return f"{count} of {wanted} pods serve"
    other = serving_digests(state, service) - {service.digest}
    if other:
        shown = ", ".join(sorted(other - {""})) or "an image without a digest"
        return f"{service.name} leads to other images: {shown}"
    return next((pod.problem for pod in pods if pod.problem), "")


def remember_what_serves(stack: "Stack") -> None:
    """Note what the records name before anything is changed."""
    for service in stack.services:
        service.previous = stack.newest_record(service.name)
        shown = service.previous.digest if service.previous else "nothing"
        progress(f"{service.name}: served last: {shown}")


# 3. Refuse: a newer commit serves, staging never served the image, or the cluster takes no object.


def is_superseded(stack: "Stack", service: Service) -> bool:
    """Whether a newer commit serves; then the service gets the result `superseded`.

    While a newer one is being rolled out, this waits. If that one fails, this request goes on.
    """
    if service.runs_once:
        return is_one_shot_superseded(stack, service)
    has_seen_newer = False
    now = stack.kubectl.now()
    end, healthy_end = now + LOCK_SECONDS, now + RECOVERY_SECONDS
    while True:
        state = stack.look()
        deployment = state.deployments.get(service.name)
        if not deployment:
            return False
        is_newer = deployment.sequence > service.sequence
        if service.is_overtaken and deployment.sequence == service.sequence:
            # Another run of the same commit. Its outcome counts, so that the two do not fight.
            is_newer = deployment.mark != service.mark and not is_rollback(deployment.mark)
        if not is_newer:
            if service.is_overtaken and not has_seen_newer:
                refuse_if_taken_back(service, deployment)
            return False
        newest = deployment.newest_record
        if newest and deployment.is_settled:
            if serving_digests(state, service) == {newest.digest}:
                mark_superseded(stack, service, newest)
                return True
            if stack.kubectl.now() > healthy_end:
                raise Failed(NOT_SERVING, newer_commit_fails(stack, service, newest))
        if not has_seen_newer:
            progress(
                f"{service.name}: commit number {deployment.sequence} is wanted, which is not older"
                f" than {service.sequence}: waiting for its outcome"
            )
            has_seen_newer = True
        if stack.kubectl.now() > end:
            raise Failed(
                LOCKED,
                f"the deploy of commit number {deployment.sequence} of {service.name} does not come"
                f" to an end. If its run was killed: deploy/bin/rollout cancel {stack.name}",
            )
        stack.kubectl.wait(2)


def is_one_shot_superseded(stack: "Stack", service: Service) -> bool:
    """Whether the image of a newer commit has run to its end; `create_job` looks once more."""
    newest = stack.newest_record(service.name)
    if not newest or newest.sequence <= service.sequence:
        return False
    mark_superseded(stack, service, newest)
    return True


def refuse_if_taken_back(service: Service, deployment: Deployment) -> None:
    """Fail if a person has undone this rollout, by a rollback or by a cancel.

    Only at the first deploys of a service, two of them can write without seeing each other. Then
    the newer one goes on.
    """
    if deployment.records or not deployment.sequence:
        raise Failed(
            NOT_SERVING, f"{service.name}: somebody has taken this rollout back in the meantime"
        )


def mark_superseded(stack: "Stack", service: Service, newest: Record) -> None:
    """Note and print that a newer commit serves."""
    service.result = "superseded"
    service.is_overtaken = False
    service.seconds = stack.seconds()
    progress(
        f"{service.name}: commit number {newest.sequence} serves, which is not older than"
        f" {service.sequence}"
    )
    progress(
        f"if {newest.sequence} is not the number of a commit of yours:"
        f" {rollback_command(stack, service, newest.digest)} keeps this image and forgets the"
        " number"
    )


def newer_commit_fails(stack: "Stack", service: Service, newest: Record) -> str:
    """The sentence for a newer commit that was put into service, and fails now.

    Only a person may decide that an older one replaces it.
    """
    return (
        f"commit number {service.sequence} is older than commit number {newest.sequence}, which was"
        f" deployed last to {service.name} and does not serve now. Deploy the newest commit"
        f" again, or go back: {rollback_command(stack, service)}"
    )


def check_promotion(stack: "Stack") -> None:
    """Refuse an image that has not served in the stack that the annotation `from` names."""
    for service in stack.services:
        source, _, name = str(service.notes.get(FROM_NOTE, "")).partition("/")
        if not source:
            continue
        records = read_records(stack, service, source, name)
        if all(record.digest != service.digest for record in records):
            raise Failed(
                BAD_IMAGE,
                f"{source}/{name} has never served {service.digest}. Deploy it there first, then"
                " run the job again",
            )


def read_records(stack: "Stack", service: Service, namespace: str, name: str) -> List[Record]:
    """What has served under this name in another namespace, oldest first."""
    if service.runs_once:
        jobs = stack.kubectl.get(namespace, "jobs.batch", "-l", f"{SERVICE_LABEL}={name}")
        return records_of_jobs(by_number(jobs))
    document = stack.kubectl.get_one(namespace, "deployments.apps", name)
    return Deployment(name, document).records if document else []


def check_one_shots(stack: "Stack", services: Sequence[Service]) -> None:
    """Refuse services that wait for a one-shot which has never run, and does not run now."""
    for name, job in stack.one_shots.items():
        if name in stack.request.images or stack.newest_record(name):
            continue
        for service in services:
            if service.name in waiting_services(job):
                raise Failed(
                    NOT_READY,
                    f"{service.name} depends on {name}, which has never run to its end. Deploy"
                    f" {name} first, then run the job again",
                )


def check_objects(stack: "Stack", services: Sequence[Service]) -> None:
    """Refuse objects that the cluster would not take. It checks them as if they were written."""
    jobs = [job_with_image(stack, job) for job in stack.jobs]
    for service in services:
        if service.runs_once:
            jobs.append(wanted_job(service))
            continue
        objects = [wanted_deployment(stack, service), *service.others]
        stack.apply(objects, service.name, "--dry-run=server")
    for job in jobs:
        output = stack.kubectl.run_until_answered(
            *stack.create_words("--dry-run=server"),
            stdin=json.dumps(numbered_job(job, 999_999)),
        )
        if output.code != 0:
            raise not_taken(output, f"the cluster does not take {job['metadata']['name']}")


def not_taken(output: Output, what: str) -> Failed:
    """The failure for a command that the cluster refused."""
    if output.has(SIGNS_OF_A_REFUSED_LOGIN):
        return Failed(TOKEN_REFUSED, f"the cluster refuses the login: {output.last_line}")
    return Failed(NOT_READY, f"{what}: {output.last_line}")


# 4. Before the pods: env files become Secrets, missing accessories start, Jobs run to their end.


def apply_env_files(stack: "Stack", environment: Mapping[str, str]) -> None:
    """Write the Secrets that the pods read. They go through a pipe, never through arguments."""
    files: Dict[str, Dict[str, str]] = {}
    for line in stack.request.env_lines:
        text = environment.get(line.text, "") if line.is_variable else line.text
        encoded = base64.b64encode(text.encode("utf-8", "surrogateescape")).decode()
        files.setdefault(line.file, {})[line.key] = encoded
    for file, entries in files.items():
        name = secret_of(file)
        progress(f"writing the Secret {name} from {len(entries)} lines")
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": entries}
        stack.apply([secret], f"the Secret {name}")


def secret_of(file: str) -> str:
    """The name of the Secret for an env file: `env` for .env, `api-env` for api.env."""
    return file.strip(".").replace(".", "-")


def start_accessories(stack: "Stack") -> None:
    """Create the accessories that are missing. One that is there is never replaced by a deploy."""
    for name, manifest in stack.manifests.items():
        if is_accessory(manifest) and name not in stack.state.deployments:
            progress(f"starting {name}")
            stack.apply([manifest, *stack.others_of(name)], name)


def run_jobs(stack: "Stack", services: Sequence[Service]) -> None:
    """Run the migrations and other Jobs of these services, one after the other.

    The old version serves meanwhile and afterwards, so it must work with a migrated database.
    """
    for job in stack.jobs:
        names = waiting_services(job)
        if any(service.name in names for service in services):
            name = create_job(stack, job_with_image(stack, job), new_mark(stack, 0))
            finish_job(stack, name)


def waiting_services(job: Json) -> List[str]:
    """The services before which a Job runs."""
    return str(notes_of(job).get(BEFORE_NOTE, "")).split()


def run_one_shots(stack: "Stack", services: Sequence[Service]) -> None:
    """Run services to their end, also with an image that has run before, in the file's order.

    There, each comes after those that it waits for. If one fails, the request fails.
    """
    requested = {service.name: service for service in services}
    for name in stack.one_shots:
        if name in requested:
            remove_old_jobs(stack, name)
            run_one_shot(stack, requested[name])


def run_one_shot(stack: "Stack", service: Service) -> None:
    """Run a service to its end, unless the image of a newer commit has just done so."""
    service.mark = new_mark(stack, 0)
    service.is_applied = True  # even if the answer gets lost
    try:
        name = create_job(stack, wanted_job(service), service.mark)
    except Superseded as superseded:
        mark_superseded(stack, service, superseded.newest)
        return
    finish_job(stack, name)
    service.result = "serving"
    service.seconds = stack.seconds()


def wanted_job(service: Service) -> Json:
    """The Job of the file, with what this request puts in."""
    job = copy.deepcopy(service.manifest)
    set_digest(job["spec"]["template"], service.digest)
    job["metadata"].setdefault("annotations", {})[SEQUENCE_NOTE] = str(service.sequence)
    return job


def remove_old_jobs(stack: "Stack", name: str) -> None:
    """Make room for a Job of a one-shot; if that fails, the next deploy does it."""
    with contextlib.suppress(Failed, OSError):
        jobs = stack.look().jobs_of(name)
        for outcome in ("Complete", "Failed"):
            ended = [job["metadata"]["name"] for job in jobs if outcome_of(job) == outcome]
            for old in ended[: 1 - RECORDS_TO_KEEP]:
                stack.kubectl.run("delete", "-n", stack.name, "--wait=false", f"jobs.batch/{old}")


def finish_job(stack: "Stack", name: str) -> None:
    """Wait for the end of a Job, print its output, and fail if it failed."""
    problem = wait_for_job(stack, name)
    output = stack.kubectl.run("logs", "-n", stack.name, f"job/{name}", "--tail=200")
    quote_container(stack, f"job/{name}", output.out)
    if problem:
        raise Failed(NOT_SERVING, f"{name} failed: {problem}. No pod of the services was changed")


def create_job(stack: "Stack", job: Json, mark: str) -> str:
    """Create a Job, and return its name.

    Its number keeps two deploys from running it at the same time: only one of them can create the
    next number, and none does so before the Job of the last number has ended.
    """
    base = job["metadata"]["name"]
    selector = f"{SERVICE_LABEL}={base}"
    for _ in range(CONFLICTS):
        jobs = by_number(stack.kubectl.get(stack.name, "jobs.batch", "-l", selector))
        for entry in jobs:
            if notes_of(entry).get(RUN_LABEL) == mark:
                return str(entry["metadata"]["name"])  # it was created, and the answer got lost
        if wait_for_others(stack, jobs):
            continue  # how they ended matters
        if ONCE_NOTE in notes_of(job) and not is_rollback(mark):
            refuse_if_superseded(job, jobs)
        numbered = numbered_job(job, number_of(jobs[-1]) + 1 if jobs else 1)
        numbered["metadata"].setdefault("annotations", {})[RUN_LABEL] = mark
        name = str(numbered["metadata"]["name"])
        progress(f"running {name}")
        output = stack.kubectl.run(*stack.create_words(), stdin=json.dumps(numbered))
        if output.code == 0:
            return name
        if not output.has((*SIGNS_OF_A_CONFLICT, *SIGNS_OF_NO_ANSWER)):
            raise not_taken(output, f"the cluster does not take {name}")
        stack.kubectl.wait(1)
    raise Failed(NOT_READY, f"{base} could not be created, after {CONFLICTS} attempts")


def wait_for_others(stack: "Stack", jobs: Sequence[Json]) -> bool:
    """Wait for the end of Jobs that still run; whether there were any."""
    running = [str(job["metadata"]["name"]) for job in jobs if not outcome_of(job)]
    for name in running:
        progress(f"{name} of another deploy is running: waiting")
        wait_for_job(stack, name)
    return bool(running)


def refuse_if_superseded(job: Json, jobs: Sequence[Json]) -> None:
    """Raise if the newest of these Jobs that ran to its end is of a newer commit than this Job."""
    for newest in records_of_jobs(jobs)[-1:]:
        if newest.sequence > sequence_of(job):
            raise Superseded(newest)


def job_with_image(stack: "Stack", job: Json) -> Json:
    """A Job of the file, with the image of the service whose image it runs."""
    owner = str(notes_of(job).get(IMAGE_OF_NOTE, ""))
    digest = stack.request.images.get(owner) or stack.recorded_digest(owner)
    job = copy.deepcopy(job)
    set_digest(job["spec"]["template"], digest)
    return job


def numbered_job(job: Json, number: int) -> Json:
    """The Job with a number in its name."""
    numbered = copy.deepcopy(job)
    numbered["metadata"]["name"] = f"{job['metadata']['name']}-{number}"
    return numbered


def by_number(jobs: Iterable[Json]) -> List[Json]:
    """Jobs in the order in which they were created."""
    return sorted(jobs, key=number_of)


def sequence_of(job: Json) -> int:
    """The number of the commit for which a Job runs; 0 if it has none."""
    text = str(notes_of(job).get(SEQUENCE_NOTE, ""))
    return int(text) if text.isdigit() else 0


def number_of(job: Json) -> int:
    """The number in the name of a Job; 0 if it has none."""
    text = str(job["metadata"]["name"]).rpartition("-")[2]
    return int(text) if text.isdigit() else 0


def outcome_of(job: Json) -> str:
    """`Complete` or `Failed`; empty while a Job runs."""
    conditions = (job.get("status") or {}).get("conditions") or []
    ended = [entry["type"] for entry in conditions if entry["status"] == "True"]
    return next((kind for kind in ended if kind in ("Complete", "Failed")), "")


def wait_for_job(stack: "Stack", name: str) -> str:
    """Wait for the end of a Job, and return why it failed; empty if it did not.

    One whose pod cannot start would not end by itself, so it is removed.
    """
    end = stack.kubectl.now() + JOB_SECONDS
    while stack.kubectl.now() < end:
        job = stack.kubectl.get_one(stack.name, "jobs.batch", name)
        if not job:
            return "somebody has removed it"
        outcome = outcome_of(job)
        selector = f"batch.kubernetes.io/job-name={name}"
        pods = [parse_pod(item) for item in stack.kubectl.get(stack.name, "pods", "-l", selector)]
        if outcome == "Complete":
            return ""
        if outcome == "Failed":
            states = [(pod.status.get("state") or {}).get("terminated") or {} for pod in pods]
            return ending_text(next(filter(None, states), {}))
        for pod in pods:
            waiting = (pod.status.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") in HOPELESS:
                stack.kubectl.run("delete", "-n", stack.name, "--wait=false", f"jobs.batch/{name}")
                return pod.problem or f"{pod.name} does not start: {waiting['reason']}"
        stack.kubectl.wait(1)
    return f"it did not end within {JOB_SECONDS} seconds"


# 5. Roll out: write the Deployments, follow the pods, ask where the Services lead, and record.


def roll_out(stack: "Stack", services: Sequence[Service]) -> None:
    """Put the services into service. If another deploy interferes, its outcome decides."""
    pending = list(services)
    for attempt in range(ATTEMPTS):
        if attempt:
            pending = [
                service for service in pending if not is_superseded_or_failed(stack, service)
            ]
        for service in pending:
            service.is_overtaken = False
            write_service(stack, service, attempt)
        follow(stack, not_decided(pending))
        pending = [service for service in not_decided(pending) if service.is_overtaken]
        if not pending:
            return
    for service in pending:
        fail(stack, service, f"{service.name}: other deploys interfered, {ATTEMPTS} times")


def is_superseded_or_failed(stack: "Stack", service: Service) -> bool:
    """Whether a rollout that was overtaken has come to its end by that."""
    try:
        return is_superseded(stack, service)
    except Failed as failure:
        fail(stack, service, failure.message)
        return True


def not_decided(services: Sequence[Service]) -> List[Service]:
    """The services without a result."""
    return [service for service in services if not service.result]


def write_service(stack: "Stack", service: Service, attempt: int) -> None:
    """Write the objects of a service, unless another deploy was faster."""
    service.mark = new_mark(stack, attempt)
    try:
        write_deployment(stack, service)
        if not service.is_overtaken:
            stack.apply(service.others, service.name)
            deployment = stack.look().deployments.get(service.name)
            limit = (deployment.replicas + 1) * deployment.deadline if deployment else 0
            service.end = stack.kubectl.now() + limit + SPARE_SECONDS
    except Failed as failure:
        fail(stack, service, failure.message)


def write_deployment(stack: "Stack", service: Service) -> None:
    """Write the Deployment. From then on, the cluster rolls it out."""
    for _ in range(CONFLICTS):
        deployment = stack.look().deployments.get(service.name)
        if deployment and deployment.mark == service.mark:
            return  # it was written, and the answer got lost
        if stack.request.verb == "deploy" and deployment and deployment.sequence > service.sequence:
            service.is_overtaken = True
            return
        progress(f"rolling out {service.name} {service.digest}")
        service.is_applied = True  # even if the answer gets lost
        try:
            stack.write(wanted_deployment(stack, service), deployment)
            return
        except Conflict:
            stack.kubectl.wait(0.2)
    raise Failed(NOT_SERVING, f"{service.name} changes all the time, so that it cannot be written")


def new_mark(stack: "Stack", attempt: int) -> str:
    """What the pods of an attempt are known by."""
    first = "rollback" if stack.request.verb == "rollback" else stack.request.run
    return f"{first}-{stack.token}-{attempt + 1}"


def wanted_deployment(stack: "Stack", service: Service) -> Json:
    """The Deployment of the file, with what this request puts in."""
    document = copy.deepcopy(service.manifest)
    set_digest(document["spec"]["template"], service.digest)
    note_rollout(document, service.sequence, service.mark or new_mark(stack, 0))
    return document


def note_rollout(document: Json, sequence: int, mark: str) -> None:
    """Write into a Deployment which commit is wanted, and which rollout makes its pods."""
    document["metadata"].setdefault("annotations", {})[SEQUENCE_NOTE] = str(sequence)
    template = document["spec"]["template"].setdefault("metadata", {})
    template.setdefault("labels", {})[RUN_LABEL] = mark


def follow(stack: "Stack", services: Sequence[Service]) -> None:
    """Look each second, until each service serves, has failed, or was overtaken."""
    following = [service for service in services if not service.is_overtaken]
    routed: Dict[str, float] = {}  # by service: until when the Service has to lead to the new pods
    while following:
        state = stack.look()
        for service in following:
            deployment = state.deployments.get(service.name)
            if not deployment or (deployment.mark, deployment.sequence) != (
                service.mark,
                service.sequence,
            ):
                progress(f"{service.name}: another deploy has changed it")
                service.is_overtaken = True
                service.is_applied = False
                continue
            problem = problem_of_rollout(stack, service, state, deployment)
            if problem:
                fail(stack, service, problem)
            elif deployment.is_rolled_out:
                now = stack.kubectl.now()
                end = routed.setdefault(service.name, now + ROUTING_SECONDS)
                problem = problem_of_serving(state, service)
                if not problem:
                    record(stack, service)
                elif now > end:
                    fail(stack, service, f"{service.name} was rolled out, but {problem}")
        following = [service for service in not_decided(following) if not service.is_overtaken]
        if following:
            stack.kubectl.wait(1)


def problem_of_rollout(
    stack: "Stack", service: Service, state: State, deployment: Deployment
) -> str:
    """Why a rollout cannot succeed any more; empty if it may."""
    for pod in state.pods_of(service.name, service.mark):
        if pod.problem:
            return pod.problem
    replica_set = state.replica_set(service.name, service.mark) or {}
    for condition in (replica_set.get("status") or {}).get("conditions") or []:
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return f"the cluster does not create its pods: {condition.get('message', '')}"
    is_late = stack.kubectl.now() > service.end and not deployment.is_rolled_out
    if deployment.is_out_of_time or is_late:
        answer = f"answer {service.health}" if service.health else "become ready"
        return (
            f"{service.name} {service.digest} did not {answer} within {deployment.deadline} seconds"
        )
    return ""


def record(stack: "Stack", service: Service) -> None:
    """Add what serves to the record, unless another deploy was faster."""
    for _ in range(CONFLICTS):
        deployment = stack.look().deployments.get(service.name)
        if not deployment or deployment.mark != service.mark:
            service.is_overtaken = True
            return
        if deployment.is_settled:
            break  # it was written, and the answer got lost
        line = Record(service.image, service.sequence, utc(stack.kubectl.time()), service.mark)
        records = [*deployment.records, line][-RECORDS_TO_KEEP:]
        note = {SERVED_NOTE: "\n".join(map(str, records))}
        document = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": service.name, "annotations": note},
        }
        try:
            stack.write(document, deployment, RECORD_MANAGER)
            break
        except Conflict:
            stack.kubectl.wait(0.2)
        except Failed as failure:
            fail(stack, service, failure.message)
            return
    else:
        fail(
            stack, service, f"{service.name} changes all the time, so the deploy cannot be recorded"
        )
        return
    service.result = "serving"
    service.seconds = stack.seconds()
    progress(f"{service.name} serves {service.digest}")


# 6. Undo: what served before serves again.


def fail(stack: "Stack", service: Service, problem: str) -> None:
    """Undo what was done for a service, so that what served before serves; the others go on."""
    service.result = "failed"
    service.problem = printable(problem)
    service.seconds = stack.seconds()
    print_error(service.problem)
    if not service.is_applied:
        return
    with signals_held_back():
        try:
            print_end_of_log(stack, service)
            undo(stack, service)  # its pods come back while the other services go on
        except (Failed, OSError) as failure:
            print_error(f"{service.name} could not be undone: {failure}")
        service.is_applied = False


def undo(stack: "Stack", service: Service) -> None:
    """Bring back the whole template of what served, unless another deploy has replaced ours."""
    for _ in range(CONFLICTS):
        state = stack.look()
        deployment = state.deployments.get(service.name)
        if not deployment or (deployment.mark, deployment.sequence) != (
            service.mark,
            service.sequence,
        ):
            return
        newest = deployment.newest_record
        if newest and newest.mark == service.mark:
            return  # it has served meanwhile
        if newest:
            progress(f"going back to {newest.digest}")
        else:
            progress(f"{service.name} has served nothing before, so there is nothing to go back to")
        try:
            stack.write(former_deployment(state, service, deployment), deployment)
            break
        except Conflict:
            stack.kubectl.wait(0.2)
    service.is_undone = newest is not None


def former_deployment(state: State, service: Service, deployment: Deployment) -> Json:
    """The Deployment with the template of what served; with its own, if nothing did.

    The cluster keeps that template in a ReplicaSet. If it does not, the file's template has to do.
    """
    document = copy.deepcopy(service.manifest)
    newest = deployment.newest_record
    if not newest:
        template = copy.deepcopy(deployment.document["spec"]["template"])
        document["spec"]["template"] = template
        note_rollout(document, 0, deployment.mark)
        return document
    replica_set = state.replica_set(service.name, newest.mark)
    if replica_set:
        template = copy.deepcopy(replica_set["spec"]["template"])
        template["metadata"]["labels"].pop("pod-template-hash", None)
        template["metadata"].pop("creationTimestamp", None)
        document["spec"]["template"] = template
    else:
        set_digest(document["spec"]["template"], newest.digest)
    note_rollout(document, newest.sequence, newest.mark)
    return document


def wait_for_undone(stack: "Stack") -> None:
    """Wait until what served before serves again, for the services that were undone."""
    end = stack.kubectl.now() + UNDO_SECONDS
    for service in stack.services:
        if service.is_undone:
            wait_until_it_serves(stack, service, end)


def wait_until_it_serves(stack: "Stack", service: Service, end: float) -> None:
    """Wait until the newest record of a service serves again; report it if it does not."""
    while stack.kubectl.now() < end:
        state = stack.look()
        deployment = state.deployments.get(service.name)
        newest = deployment.newest_record if deployment else None
        if not deployment or not newest or deployment.mark != newest.mark:
            return  # the next deploy has begun
        if deployment.is_rolled_out and serving_digests(state, service) == {newest.digest}:
            return
        stack.kubectl.wait(1)
    progress(f"{service.name}: not all old pods are ready after {UNDO_SECONDS} seconds")


def undo_what_is_undecided(stack: "Stack", reason: str) -> None:
    """After a signal or an error: take back each rollout that has not proved itself."""
    for service in stack.services:
        if service.result:
            continue
        service.result = "failed" if service.is_applied else "not started"
        service.problem = printable(reason)
        service.seconds = stack.seconds()
        if service.is_applied:
            try:
                # GitHub leaves a few seconds to a cancelled step: the cluster does the rest alone.
                undo(stack, service)
            except (Failed, OSError) as failure:
                print_error(f"{service.name} could not be undone: {failure}")


@contextlib.contextmanager
def signals_held_back() -> Iterator[None]:
    """Hold back signals until the end of a step that must not be interrupted."""
    original = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, original)


# 7. The record: what to go back to.


def image_to_go_back_to(stack: "Stack", name: str, digest: str) -> str:
    """The image with that digest if it ever served; without a digest, the one that served before.

    An image that a person went back from was bad: it is not one that served before. So after
    deploys of 1 and 2, a rollback to 1 and a deploy of 3, the image before 3 is 1.
    """
    history: List[str] = []
    records = stack.records(name)
    for entry in records:
        if entry.is_rollback and entry.image in history:
            del history[len(history) - history[::-1].index(entry.image) :]
        elif not history or history[-1] != entry.image:
            history.append(entry.image)
    if digest:
        images = [entry.image for entry in records if entry.digest == digest]
        if images:
            return images[-1]
    elif len(history) > 1:
        return history[-2]
    raise Failed(
        BAD_IMAGE,
        f"the record of {name} has no such image: deploy/bin/rollout status {stack.name} prints the"
        " record",
    )


def records_of_jobs(jobs: Iterable[Json]) -> List[Record]:
    """The record of a one-shot, oldest first: its Jobs that ran to their end."""
    return [
        Record(
            image_in(job["spec"]["template"]),
            sequence_of(job),
            str(job["status"].get("completionTime", "unknown")),
            str(notes_of(job).get(RUN_LABEL, "")),
        )
        for job in jobs
        if outcome_of(job) == "Complete" and ONCE_NOTE in notes_of(job)
    ]


def sequence_after_rollback(records: Sequence[Record], image: str) -> int:
    """The number that is wanted after a rollback by a person: deploys with a lower one do nothing.

    It has to be lowered: after a deploy with a number that is much too high, by a mistake or with
    a stolen key, every later commit would be superseded.
    """
    if records[-1].image == image:
        return 0  # a person confirms the image that serves: any commit may replace it
    numbers = [
        entry.sequence for entry in records if entry.image == image and not entry.is_rollback
    ]
    return min(numbers, default=0)


def is_rollback(mark: str) -> bool:
    """Whether a rollout is a rollback."""
    return mark.startswith("rollback-")


# The output at the end of a request, and of `status` and `check`.


def exit_code_of(services: Sequence[Service]) -> int:
    """The exit code for the results of all services of a request."""
    results = {service.result for service in services}
    if results & {"failed", "not started", ""}:
        return NOT_SERVING
    return SUPERSEDED if "superseded" in results else SERVING


def observe_for_report(stack: "Stack") -> State:
    """The state for the report; empty if the cluster does not answer."""
    try:
        return stack.look(seconds=REQUEST_SECONDS)
    except (Failed, OSError):
        return State()


def print_outcome(stack: "Stack", state: State, code: int) -> None:
    """Print what serves now; after a failure, also the commands that help."""
    for service in stack.services:
        digests = serving_digests(state, service)
        shown = " and ".join(digest or "something else" for digest in sorted(digests)) or "nothing"
        is_good = service.result in ("serving", "superseded")
        if service.runs_once and is_good:
            progress(f"HAS RUN TO ITS END: {service.name} with {shown}")
            continue
        title = "SERVING" if is_good else (service.result or "not started").upper()
        progress(f"{title}: {service.name}; serving now: {shown}")
    if code not in (SERVING, SUPERSEDED):
        print_mixed_versions(stack, state)


def print_mixed_versions(stack: "Stack", state: State) -> None:
    """After a failure, say if some services run the new version and others do not, and the way out.

    The services of a request belong to one commit, and may not work together in two versions.
    """
    new = [service for service in stack.services if service.result == "serving"]
    behind = [service for service in stack.services if service.result != "serving"]
    changed = [
        service for service in new if service.previous and service.previous.digest != service.digest
    ]
    if not changed or not behind:
        return
    progress("VERSIONS ARE MIXED NOW:")
    for service in new:
        progress(f"  new version: {service.name} {service.digest}")
    for service in behind:
        version = "newer version" if service.result == "superseded" else "old version"
        progress(f"  {version}: {service.name} {serving_digest(state, service) or 'unknown'}")
    if stack.request.run != "0":
        progress(
            f"to go forward, remove the cause, then: gh run rerun {stack.request.run} --failed"
        )
    commands = [
        rollback_command(stack, service, service.previous.digest)
        for service in changed
        if service.previous
    ]
    progress(f"to go back: {' && '.join(commands)}")


def conclude(
    stack: "Stack",
    state: State,
    code: int,
    message: str,
    environment: Mapping[str, str],
    is_job: bool,
) -> int:
    """Print the errors or notices of a job, and the result line; return the exit code.

    In a job it is 0 if a newer commit serves: the next step checks that the branch has it.
    """
    newest = max((stack.known_sequence(service.name) for service in stack.services), default=0)
    if code not in (SERVING, SUPERSEDED):
        print_error(f"{stack.name}: {message or 'it does not serve'}", is_job)
    if code == SUPERSEDED and is_job:
        for service in stack.services:
            if service.result == "superseded":
                serving = serving_digest(state, service) or "nothing"
                text = f"{service.name}: superseded by a newer commit; {serving} serves"
                annotate("notice", text)
        append(environment.get("GITHUB_OUTPUT", ""), f"superseded-by={newest}\n")
    result: Json = {
        "protocol": PROTOCOL,
        "result": {SERVING: "serving", SUPERSEDED: "superseded"}.get(code, "failed"),
        "exit": code,
        "stack": stack.name,
        "seconds": stack.seconds(),
        "message": printable(message),
        "services": [service_result(state, service) for service in stack.services],
    }
    if code == SUPERSEDED:
        result["newest_sequence"] = newest
    print_line(json.dumps(result))
    return 0 if code == SUPERSEDED and is_job else code


def service_result(state: State, service: Service) -> Json:
    """The outcome of one service, for the JSON line."""
    return {
        "service": service.name,
        "result": service.result or "not started",
        "before": service.previous.digest if service.previous else None,
        "now": serving_digest(state, service) or None,
        "seconds": service.seconds,
    }


def write_summary(stack: "Stack", state: State, environment: Mapping[str, str]) -> None:
    """Append a table to the run's summary, in a job."""
    path = environment.get("GITHUB_STEP_SUMMARY", "")
    if not path or not stack.services:
        return
    rows = [("Service", "Image", "Commit", "Seconds", "Result"), ("-",) * 5]
    for service in stack.services:
        before = service.previous.digest if service.previous else "none"
        now = serving_digest(state, service) or "none"
        rows.append(
            (
                escape_cell(service.name),
                escape_cell(f"{before} → {now}"),
                escape_cell(environment.get("GITHUB_SHA", "")),
                str(service.seconds),
                escape_cell(service.result or "not started"),
            )
        )
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    append(path, f"{table}\n")


def escape_cell(text: str) -> str:
    """Escape a text for a cell of a Markdown table: it must not end the cell, or be markup."""
    text = re.sub(r"\s+", " ", text).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]|~#!@])", r"\\\1", text)


def append(path: str, text: str) -> None:
    """Append a text to a file of GitHub's runner."""
    if path:
        with open(path, "ab") as file:
            file.write(text.encode("utf-8", "replace"))


def print_status(stack: "Stack") -> int:
    """`status`: print the version of this program, and what serves in the stack."""
    checksum = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    print_line(f"bin/rollout {VERSION} sha256:{checksum}")
    stack.read_manifests()
    state = stack.look()
    for name, manifest in stack.manifests.items():
        deployment = state.deployments.get(name)
        if not deployment:
            print_line(f"{stack.name}/{name}: DOES NOT RUN: it has no Deployment")
            continue
        service = Service(name, manifest, stack.others_of(name))
        pods, count = pods_that_serve(state, service)
        print_line(f"{stack.name}/{name}: {count} of {deployment.replicas} pods serve")
        for pod in pods:
            print_line(f"  {pod.name} {pod.digest or pod.image}")
        if deployment.mark and not deployment.is_settled and not is_accessory(manifest):
            print_line(f"  a rollout is under way, of commit number {deployment.sequence}")
        for entry in deployment.records:
            print_line(f"  served: {printable(str(entry))}")
    for name in stack.one_shots:
        print_status_of_one_shot(stack, name)
    return SERVING


def print_status_of_one_shot(stack: "Stack", name: str) -> None:
    """Print how the newest Job of a one-shot ended, and which images ran to their end."""
    jobs = stack.state.jobs_of(name)
    print_line(f"{stack.name}/{name}: {state_of_one_shot(jobs)}")
    for entry in records_of_jobs(jobs):
        print_line(f"  ran: {printable(str(entry))}")


def state_of_one_shot(jobs: Sequence[Json]) -> str:
    """How the newest of the Jobs of a one-shot ended."""
    if not jobs:
        return "HAS NEVER RUN"
    states = {"Complete": "has run to its end", "Failed": "FAILED: its newest Job failed"}
    return states.get(outcome_of(jobs[-1]), "is running")


def print_findings(stack: "Stack") -> int:
    """`check`: print what would make a deploy fail."""
    stack.read_manifests()
    stack.look()
    missing = [
        f"{verb} {kind}"
        for verb, kind in RIGHTS
        if stack.kubectl.run(*can_i_words(stack, verb, kind)).code != 0
    ]
    if missing:
        raise Failed(
            NOT_READY,
            f"the key may not do this in the namespace {stack.name}: {', '.join(missing)}. Apply"
            " setup.yaml again, as a person who administers the cluster",
        )
    deployed = [name for name, manifest in stack.manifests.items() if not is_accessory(manifest)]
    for name in (*deployed, *stack.one_shots):
        service = stack.service(name)
        service.digest, service.sequence = NO_DIGEST, 1
        check_objects(stack, [service])
    progress(f"nothing that a check can see prevents a deploy of {stack.name}")
    return SERVING


def can_i_words(stack: "Stack", verb: str, kind: str) -> List[str]:
    """The command that asks for a right; kubectl would take `pods/log` for a pod named log."""
    resource, _, part = kind.partition("/")
    words = ["auth", "can-i", verb, resource, "-n", stack.name, "--quiet"]
    return [*words, f"--subresource={part}"] if part else words


def print_orphans(stack: "Stack") -> None:
    """Report objects of earlier versions of the file. Only a person may remove them."""
    for name, deployment in sorted(stack.state.deployments.items()):
        if name not in stack.manifests and deployment.mark:
            progress(
                f"note: {name} is not in {MANIFESTS} any more, and still runs. To remove it:"
                f" kubectl -n {stack.name} delete deployment,service,ingress,pdb"
                f" -l {SERVICE_LABEL}={name}"
            )
    recorded = {label(job, SERVICE_LABEL) for job in stack.state.jobs if ONCE_NOTE in notes_of(job)}
    for name in sorted(recorded - stack.one_shots.keys()):
        progress(
            f"note: {name} does not run once any more, and its Jobs are still there. To remove"
            f" them: kubectl -n {stack.name} delete jobs -l {SERVICE_LABEL}={name}"
        )


def print_end_of_log(stack: "Stack", service: Service) -> None:
    """Print what is known of the failed pods: states, warnings, and the ends of their logs."""
    with contextlib.suppress(Failed, OSError):
        state = stack.look()
        pods = state.pods_of(service.name, service.mark)
        for pod in pods:
            quote(pod.state_text)
        replica_set = state.replica_set(service.name, service.mark)
        if replica_set:
            print_warnings(stack, replica_set["metadata"]["name"])
        for pod in pods[:PODS_SHOWN]:
            output = stack.kubectl.run("logs", "-n", stack.name, pod.name, f"--tail={LOGGED_LINES}")
            quote_container(stack, pod.name, output.out + output.err)


def quote_container(stack: "Stack", name: str, text: str) -> None:
    """Print output of a container, if only people who may see it read this log."""
    if stack.request.shows_output or not text.strip():
        quote(text)
        return
    count = len(text.splitlines())
    lines = "1 line" if count == 1 else f"{count} lines"
    quote(
        f"(not shown, for everybody can read this log: {lines} of {name}; kubectl -n {stack.name}"
        f" logs {name} prints them; `public_logs: true` in the spec shows them here)"
    )


def print_warnings(stack: "Stack", name: str) -> None:
    """Print the last warnings of the cluster about a ReplicaSet and its pods."""
    warnings = []
    for event in stack.kubectl.get(stack.name, "events"):
        about = str((event.get("involvedObject") or {}).get("name", ""))
        if event.get("type") == "Warning" and (about == name or about.startswith(f"{name}-")):
            when = str(event.get("lastTimestamp") or event.get("eventTime") or "")
            warnings.append((when, f"{about}: {event.get('message', '')}"))
    for _, text in sorted(warnings)[-EVENTS_SHOWN:]:
        quote(text)


# The stack: its files, and its state in the cluster.


class Stack:
    """A stack: the objects of its file, and the namespace with its name."""

    def __init__(self, kubectl: "Kubectl", request: Request) -> None:
        self.kubectl = kubectl
        self.request = request
        self.name = request.stack
        self.services: List[Service] = []  # of the request
        self.manifests: Dict[str, Json] = {}  # the Deployments of the file, by name
        self.jobs: List[Json] = []  # migrations and accessories that run once
        self.one_shots: Dict[str, Json] = {}  # the Jobs of services that run once, by name
        self.others: List[Json] = []
        self.state = State()
        self.started = kubectl.now()
        self.token = kubectl.token()  # tells this start of the program from all others

    def seconds(self) -> int:
        """The seconds since the request began."""
        return round(self.kubectl.now() - self.started)

    def read_manifests(self) -> None:
        """Read the stack's file; kubectl turns it into JSON, without the cluster."""
        path = ROOT / self.name / MANIFESTS
        if not path.is_file():
            raise Failed(BAD_REQUEST, f"there is no stack '{self.name}' here: {path} is missing")
        output = self.kubectl.run(
            *("annotate", "--local", "-f", str(path), "-o", "json", f"{SEQUENCE_NOTE}=0"),
            "--overwrite",
        )
        if output.code != 0:
            raise Failed(BAD_REQUEST, f"{path} cannot be read: {output.last_line}")
        for document in parse_documents(output.out):
            self.add_document(document)

    def add_document(self, document: Json) -> None:
        """Sort in a document of the file, by its kind."""
        name = document["metadata"]["name"]
        if document["kind"] == "Deployment":
            self.manifests[name] = document
            return
        remove_note(document, SEQUENCE_NOTE)
        if document["kind"] != "Job":
            self.others.append(document)
        elif ONCE_NOTE in notes_of(document):
            self.one_shots[name] = document
        else:
            self.jobs.append(document)

    def service(self, name: str) -> Service:
        """The service of that name in the file."""
        manifest = self.manifests.get(name) or self.one_shots.get(name)
        if not manifest or is_accessory(manifest):
            raise Failed(BAD_REQUEST, f"{self.name}/{MANIFESTS} has no service '{name}'")
        return Service(name, manifest, self.others_of(name))

    def others_of(self, name: str) -> List[Json]:
        """The Service, the Ingress and so on of a Deployment."""
        return [document for document in self.others if label(document, SERVICE_LABEL) == name]

    def look(self, seconds: int = UNANSWERED_SECONDS) -> State:
        """Read the state of the namespace."""
        self.state = parse_state(self.kubectl.get(self.name, OBSERVED, seconds=seconds))
        return self.state

    def records(self, name: str) -> List[Record]:
        """What served, as of the last look; of a one-shot, what ran to its end."""
        if name in self.one_shots:
            return records_of_jobs(self.state.jobs_of(name))
        deployment = self.state.deployments.get(name)
        return deployment.records if deployment else []

    def newest_record(self, name: str) -> Optional[Record]:
        """What was put into service last, as of the last look."""
        records = self.records(name)
        return records[-1] if records else None

    def recorded_digest(self, name: str) -> str:
        """The digest that was put into service last; empty if there is none."""
        newest = self.newest_record(name)
        return newest.digest if newest else ""

    def known_sequence(self, name: str) -> int:
        """The number of the commit that was put into service last."""
        newest = self.newest_record(name)
        return newest.sequence if newest else 0

    def write(self, document: Json, seen: Optional[Deployment], manager: str = MANAGER) -> None:
        """Write a Deployment, if it has not changed since it was seen."""
        document = copy.deepcopy(document)
        if seen:
            document["metadata"]["resourceVersion"] = seen.version
        output = self.kubectl.run(*apply_words(self.name, manager), stdin=json_list([document]))
        if output.code == 0:
            return
        if output.has((*SIGNS_OF_A_CONFLICT, *SIGNS_OF_NO_ANSWER)):
            raise Conflict
        raise not_taken(output, f"the cluster does not take {document['metadata']['name']}")

    def apply(self, objects: Sequence[Json], name: str, *options: str) -> None:
        """Write objects, whatever they were before."""
        if not objects:
            return
        words = apply_words(self.name, MANAGER, *options)
        output = self.kubectl.run_until_answered(*words, stdin=json_list(objects))
        if output.code != 0:
            raise not_taken(output, f"the cluster does not take {name}")

    def create_words(self, *options: str) -> List[str]:
        """The command that creates an object."""
        return ["create", "-n", self.name, *options, "-f", "-"]


def apply_words(namespace: str, manager: str, *options: str) -> List[str]:
    """The command of server-side apply: fields that an object has no more are removed."""
    words = ["apply", "-n", namespace, "--server-side", "--force-conflicts"]
    return [*words, f"--field-manager={manager}", *options, "-f", "-"]


def json_list(objects: Sequence[Json]) -> str:
    """Objects as one document, for kubectl."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})


# kubectl: the only way to the cluster.


@contextlib.contextmanager
def kubectl_for(request: Request, environment: Mapping[str, str]) -> Iterator["Kubectl"]:
    """Yield kubectl with the login of this request, in a private folder that is removed later."""
    named = request.variables()
    settings = {name: text for name, text in environment.items() if name not in named}
    parent = environment.get("RUNNER_TEMP") or None
    temporary = tempfile.TemporaryDirectory(prefix="rollout-", dir=parent)
    try:
        if request.kubeconfig:
            path = Path(temporary.name, "kubeconfig")
            write_private(path, environment[request.kubeconfig])
            settings["KUBECONFIG"] = str(path)
            settings["KUBECACHEDIR"] = str(Path(temporary.name, "cache"))
        yield Kubectl(settings, request.context)
    finally:
        with signals_held_back():
            temporary.cleanup()


def write_private(path: Path, text: str) -> None:
    """Create a file that only this user can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(text.encode("utf-8", "surrogateescape"))


class Kubectl:
    """The program kubectl, and the clock."""

    def __init__(self, settings: Dict[str, str], context: str = "") -> None:
        self.settings = settings
        self.options = [f"--request-timeout={REQUEST_SECONDS}s"]
        if context:
            self.options.append(f"--context={context}")

    def run(self, *arguments: str, stdin: str = "") -> Output:
        """Run kubectl."""
        command = ["kubectl", *self.options, *arguments]
        try:
            ended = subprocess.run(
                command,
                input=stdin.encode(),
                capture_output=True,
                env=self.settings,
                timeout=COMMAND_SECONDS,
                start_new_session=True,  # a signal to this program must not end half of a change
            )
        except subprocess.TimeoutExpired:
            return Output(1, "", f"kubectl: request timed out after {COMMAND_SECONDS} seconds")
        except FileNotFoundError as error:
            raise Failed(NOT_READY, "kubectl is not installed") from error
        return Output(
            ended.returncode,
            ended.stdout.decode(errors="replace"),
            ended.stderr.decode(errors="replace"),
        )

    def get(
        self, namespace: str, kinds: str, *options: str, seconds: int = UNANSWERED_SECONDS
    ) -> List[Json]:
        """Read objects; while the cluster does not answer, try again."""
        output = self.read("get", "-n", namespace, kinds, "-o", "json", *options, seconds=seconds)
        document = json.loads(output.out)
        items: List[Json] = document["items"]
        return items

    def get_one(self, namespace: str, kind: str, name: str) -> Optional[Json]:
        """Read one object; None if there is none."""
        words = ("get", "-n", namespace, f"{kind}/{name}", "--ignore-not-found", "-o", "json")
        output = self.read(*words, seconds=UNANSWERED_SECONDS)
        document: Optional[Json] = json.loads(output.out) if output.out.strip() else None
        return document

    def read(self, *arguments: str, seconds: int) -> Output:
        """Run a command that only reads."""
        output = self.run_until_answered(*arguments, seconds=seconds)
        if output.code != 0:
            raise not_taken(output, "the key may not read what a deploy needs")
        return output

    def run_until_answered(
        self, *arguments: str, stdin: str = "", seconds: int = UNANSWERED_SECONDS
    ) -> Output:
        """Run a command that may be repeated, until the cluster answers."""
        end = self.now() + seconds
        while True:
            output = self.run(*arguments, stdin=stdin)
            if output.code == 0 or not output.has(SIGNS_OF_NO_ANSWER):
                return output
            if self.now() > end:
                raise Failed(NOT_READY, f"the cluster does not answer: {output.last_line}")
            self.wait(2)

    def now(self) -> float:
        """Seconds of a clock that is never set."""
        return time.monotonic()

    def time(self) -> float:
        """The time of day, for records."""
        return time.time()

    def token(self) -> str:
        """A text that no other start of this program has."""
        return secrets.token_hex(4)

    def wait(self, seconds: float) -> None:
        """Do nothing for a while."""
        time.sleep(seconds)


# Objects: plain documents of JSON.


def parse_documents(text: str) -> Iterator[Json]:
    """The JSON documents in a text, one after the other."""
    decoder = json.JSONDecoder()
    position = 0
    while text[position:].strip():
        position += len(text[position:]) - len(text[position:].lstrip())
        document, position = decoder.raw_decode(text, position)
        yield document


def label(document: Json, key: str) -> str:
    """A label of an object; empty if it has none."""
    return str((document["metadata"].get("labels") or {}).get(key, ""))


def notes_of(document: Json) -> Json:
    """The annotations of an object."""
    return document["metadata"].get("annotations") or {}


def remove_note(document: Json, key: str) -> None:
    """Remove an annotation of an object."""
    notes = notes_of(document)
    notes.pop(key, None)
    if not notes:
        document["metadata"].pop("annotations", None)


def is_accessory(manifest: Json) -> bool:
    """Whether a Deployment is an accessory, which deploys do not replace."""
    return ACCESSORY_NOTE in notes_of(manifest)


def revision_of(replica_set: Json) -> int:
    """The number of a ReplicaSet in the history of its Deployment."""
    text = str(notes_of(replica_set).get("deployment.kubernetes.io/revision", ""))
    return int(text) if text.isdigit() else 0


def image_in(template: Json) -> str:
    """The image of the first container of a pod's template."""
    return str(template["spec"]["containers"][0].get("image", ""))


def set_digest(template: Json, digest: str) -> None:
    """Put a digest where the file has a digest of zeros."""
    for container in template["spec"]["containers"]:
        if digest_of(str(container.get("image", ""))) == NO_DIGEST and digest:
            container["image"] = with_digest(container["image"], digest)


def with_digest(image: str, digest: str) -> str:
    """The image with another digest."""
    return f"{image.partition('@')[0]}@{digest}"


def digest_of(image: str) -> str:
    """The digest in the name of an image; empty if it has none."""
    return image.partition("@")[2]


def ending_text(ended: Json) -> str:
    """How a container ended."""
    reason = f" ({ended['reason']})" if ended.get("reason") else ""
    return f"exit code {ended.get('exitCode', 'unknown')}{reason}"


# Text


def rollback_command(stack: "Stack", service: Service, digest: str = "") -> str:
    """The command for a person that goes back, to this image or the one before."""
    return f"deploy/bin/rollout rollback {stack.name} {service.name} {digest}".rstrip()


def progress(text: str) -> None:
    """Print a line of progress."""
    print_line(f"==> {printable(text)}")


def print_error(text: str, is_job: bool = False) -> None:
    """Print an error; in a job, the run's page shows it."""
    if is_job:
        annotate("error", text[:LONGEST_MESSAGE])
    else:
        print_line(f"rollout: {printable(text)}", sys.stderr)


def annotate(kind: str, sentence: str) -> None:
    """Show a sentence on the page of the run, as an `error` or a `notice`."""
    lines = [printable(line).replace("%", "%25") for line in sentence.split("\n")]
    print_line(f"::{kind}::{'%0A'.join(lines)}")


def quote(text: str) -> None:
    """Print the output of another program, so that no line is a command to GitHub's runner."""
    for line in text.replace("\r", "\n").splitlines():
        print_line(f"| {printable(line[:MOST_LETTERS_SHOWN])}")


def print_line(text: str, stream: Optional[TextIO] = None) -> None:
    """Print a line; a full disk, where the log is, must not end a deploy half-way."""
    with contextlib.suppress(OSError):
        print(text, file=stream or sys.stdout, flush=True)


def printable(text: str) -> str:
    """Replace control characters, which a terminal would obey, and `##[` of GitHub's runner."""
    letters = [letter if letter.isprintable() or letter == "\t" else "?" for letter in text]
    return "".join(letters).replace("##[", "## [")


def utc(seconds: float) -> str:
    """A time, for the record."""
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


def os_error_text(error: OSError) -> str:
    """What went wrong with which file."""
    return f"{error.filename or 'rollout'}: {error.strerror or error}"


# Signals


def stop(received: int, _frame: object) -> NoReturn:
    """Raise an exception, so that everything is undone; ignore further signals."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise Stopped(received)


def use_utf8() -> None:
    """Print UTF-8, whatever the locale is."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


if __name__ == "__main__":
    use_utf8()
    for signal_number in SIGNALS:
        signal.signal(signal_number, stop)
    sys.exit(main(sys.argv[1:], os.environ))
