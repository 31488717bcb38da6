"""Our own rules for a workflow, where no outside checker has them. check(file) -> findings, a line each; [] is silence.

A rule takes a Workflow and yields (where, words); tests/test_policy.py plants faults for each.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from kiwari_ci.github_facts.action_pins import DEFAULT_PINS
from tests.shell import commands, secrets_in_argv, writes_to_file
from tests.workflow import Mapping, Where, Workflow

Finding = tuple[Where, str]
Rule = Callable[[Workflow], Iterator[Finding]]
RULES: list[Rule] = []
EVENTS = {"push", "pull_request", "workflow_dispatch", "merge_group", "schedule"}
FILTERS = [kind + suffix for kind in ("branches", "tags", "paths") for suffix in ("", "-ignore")]
READABLE = {("contents", "read"), ("packages", "read")}
LONGEST_RUN = 20_000  # GitHub refuses the whole file from 21,000 on
PINNED = re.compile(r"\s*(- )?uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
OWN_TOKEN = re.compile(r"\bsecrets\.GITHUB_TOKEN\b|\bgithub\.token\b")
SECRET = re.compile(r"\bsecrets\b(?:\.(\w+))?")
KEY = re.compile(r"SSH|(^|_)KEY$")
SSH = {"ssh", "scp", "sftp", "rsync"}
SSH_OPTIONS = {"StrictHostKeyChecking": "yes", "BatchMode": "yes", "IdentitiesOnly": "yes", "UserKnownHostsFile": r"\S"}
# Set-up actions that cache unless told otherwise, and the input that tells them.
CACHES = {"setup-go": "cache", "setup-node": "package-manager-cache", "setup-uv": "enable-cache"}


def check(file: Path) -> list[str]:
    """Try every rule on one workflow."""
    workflow = Workflow(file.read_text())
    return [
        f"{file}:{workflow.line_number(where)}: {words} [{rule.__name__}]"
        for rule in RULES
        for where, words in rule(workflow)
    ]


def rule(function: Rule) -> Rule:
    """Add a rule to the list."""
    RULES.append(function)
    return function


# What the file may be and when it runs.


@rule
def plain_yaml(workflow: Workflow) -> Iterator[Finding]:
    """No anchors, aliases or merge keys, and nothing folded."""
    for event in yaml.parse(workflow.text, yaml.CSafeLoader):
        if isinstance(event, yaml.NodeEvent) and event.anchor:
            yield (), f"an anchor or alias, {event.anchor}"
        if isinstance(event, yaml.ScalarEvent) and (event.style == ">" or event.value == "<<"):
            yield (), f"a folded text or merge key, {event.value[:40]}"


@rule
def allowed_triggers(workflow: Workflow) -> Iterator[Finding]:
    """No event that runs with secrets on what a stranger wrote."""
    for where, _ in workflow.events:
        if where[-1] not in EVENTS:
            yield where, f"trigger {where[-1]}"


@rule
def tags_apart_from_paths(workflow: Workflow) -> Iterator[Finding]:
    """Paths are not looked at for tags: an event has one or the other, and branches keep the tags out."""
    for where, event in workflow.events:
        kinds = {name.removesuffix("-ignore") for name in event}
        if where[-1] == "push" and "paths" in kinds and ("tags" in kinds or "branches" not in kinds):
            yield where, "a path filter in an event that tags start, too"


@rule
def live_filters(workflow: Workflow) -> Iterator[Finding]:
    """A filter can match something: whole names from the root, no braces, something left after the `!`."""
    for where, event in workflow.events:
        for name in FILTERS:
            patterns = event.get(name, [])
            patterns = [patterns] if isinstance(patterns, str) else patterns
            for index, pattern in enumerate(patterns):
                if re.search(r"^!?(/|\./|\.\./|refs/)|/$|//|[{}\\]|^\s|\s$|^!?$", pattern):
                    yield (*where, name, index), f"`{pattern}` matches nothing"
            if name in event and not _left(patterns):
                yield (*where, name), "nothing is left to match"


def _left(patterns: list[str]) -> list[str]:
    """The patterns that no later `!` takes back whole."""
    filters: list[str] = []
    for pattern in patterns:
        if pattern.startswith("!"):
            filters = [other for other in filters if pattern not in ("!**", f"!{other}")]
        else:
            filters.append(pattern)
    return filters


@rule
def bash_by_default(workflow: Workflow) -> Iterator[Finding]:
    """`shell: bash` said once: without it there is no pipefail."""
    if workflow.data.get("defaults") != {"run": {"shell": "bash"}}:
        yield ("defaults",), "defaults.run.shell is not bash"
    for where in workflow.lines:
        if where[-1] == "shell" and where != ("defaults", "run", "shell"):
            yield where, "another shell"


NEVER = (False, "${{ github.event_name == 'pull_request' }}")


@rule
def one_deploy_after_another(workflow: Workflow) -> Iterator[Finding]:
    """A workflow that deploys has a group and is never cancelled; its deploy jobs have none: the host's lock orders.

    A pull request deploys nothing: an older run of it may be cancelled.
    """
    deploys = [where for where, job in workflow.jobs if "environment" in job]
    concurrency = workflow.data.get("concurrency", {})
    if deploys and ("group" not in concurrency or concurrency.get("cancel-in-progress") not in NEVER):
        yield ("concurrency",), "no group, or a deploy that can be cancelled"
    for where in deploys:
        if (*where, "concurrency") in workflow.lines:
            yield (*where, "concurrency"), "GitHub's queue drops deploys without a word"


# Jobs.


@rule
def jobs_are_bounded(workflow: Workflow) -> Iterator[Finding]:
    """Each job has a name, a time limit and its permissions."""
    for where, job in workflow.jobs:
        # GitHub allows no time limit where a job calls a workflow, whose jobs have their own.
        needed = {"name", "permissions"} if "uses" in job else {"name", "timeout-minutes", "permissions"}
        for key in sorted(needed - job.keys()):
            yield where, f"no {key}"
        if not isinstance(job.get("timeout-minutes", 1), int):
            yield (*where, "timeout-minutes"), "not a number"


@rule
def least_permissions(workflow: Workflow) -> Iterator[Finding]:
    """None on top; each job's scopes are listed, and all but `contents: read` say what they are for."""
    if workflow.data.get("permissions") != {}:
        yield ("permissions",), "not {} on top"
    for where, job in workflow.jobs:
        permissions = job.get("permissions", {})
        if not isinstance(permissions, dict):
            yield (*where, "permissions"), f"`{permissions}` is not a list of scopes"
            continue
        for scope, access in permissions.items():
            place = (*where, "permissions", scope)
            if (scope, access) != ("contents", "read") and not re.search(r" # \S", workflow.line(place)):
                yield place, f"{scope}: {access} does not say what for"


@rule
def nothing_is_forgiven(workflow: Workflow) -> Iterator[Finding]:
    """No continue-on-error; always() only for a job that reports on the others, and can do nothing else."""
    for where in workflow.lines:
        if where[-1] == "continue-on-error":
            yield where, "a failure that turns green"
    for where, expression in workflow.expressions:
        reports = where in [(*job, "if") for job, _ in _reporting_jobs(workflow)]
        if re.search(r"\balways\(\)", expression) and not reports:
            yield where, "always() also runs what was cancelled: !cancelled()"


def _reporting_jobs(workflow: Workflow) -> Iterator[tuple[Where, Mapping]]:
    """The jobs that run whatever happened, without permissions or an action: GitHub takes a skipped check for green."""
    for where, job in workflow.jobs:
        uses = "uses" in job or any("uses" in step for step in job.get("steps", []))
        if job.get("if") == "always()" and job.get("permissions") == {} and not uses and "environment" not in job:
            yield where, job


@rule
def reports_on_every_job(workflow: Workflow) -> Iterator[Finding]:
    """A job that reports on the others waits for each of them, and reads its result."""
    for where, job in _reporting_jobs(workflow):
        needs = job.get("needs", [])
        for _, name in [other for other, _ in workflow.jobs if other != where]:
            if name not in needs or f"needs.{name}.result" not in str(job["steps"]):
                yield (*where, "needs"), f"does not see how {name} ended"


@rule
def bare_if(workflow: Workflow) -> Iterator[Finding]:
    """An `if` is one line without braces."""
    for where, value in workflow.texts:
        if where[-1] == "if" and ("${{" in value or "\n" in value):
            yield where, "an `if` with braces or of several lines"


# Actions.


@rule
def pinned_actions(workflow: Workflow) -> Iterator[Finding]:
    """Each action is a full commit, the one of our table, its version behind it in the form that bots keep.

    A job may also call a workflow of the same commit.
    """
    for where, node in [*workflow.jobs, *((where, step) for where, _, step in workflow.steps)]:
        if where[-2] == "jobs" and str(node.get("uses")).startswith("./.github/workflows/"):
            continue
        if "uses" in node and not PINNED.match(workflow.line((*where, "uses"))):
            yield (*where, "uses"), "not `owner/name@<40 hex> # vX.Y.Z`"
        pin = DEFAULT_PINS.get(str(node.get("uses")).partition("@")[0])
        if pin and f"{pin.action}@{pin.sha} # {pin.version}" not in workflow.line((*where, "uses")):
            yield (*where, "uses"), f"not the commit of kiwari_ci/github_facts/action.yml, {pin.version}"


@rule
def checkout_keeps_no_token(workflow: Workflow) -> Iterator[Finding]:
    """The job's token does not stay in .git/config."""
    for where, _, step in workflow.steps:
        if _action(step) == "checkout" and step.get("with", {}).get("persist-credentials") is not False:
            yield where, "persist-credentials is not false"


@rule
def plain_ssh(workflow: Workflow) -> Iterator[Finding]:
    """No third party between the runner and the host."""
    for where, _, step in workflow.steps:
        if re.search(r"ssh|scp|rsync", step.get("uses", "")):
            yield (*where, "uses"), "an action that does what plain ssh does"


@rule
def publishes_from_clean(workflow: Workflow) -> Iterator[Finding]:
    """A job that publishes or deploys takes nothing from a cache that another run filled."""
    for where, job, step in workflow.steps:
        publishes = "environment" in job or "write" in str(job.get("permissions"))
        if publishes and _caches(step):
            yield where, "a dependency cache"


def _caches(step: Mapping) -> bool:
    action, inputs = _action(step), step.get("with", {})
    by_default = action in CACHES and inputs.get(CACHES[action]) is not False
    return by_default or action == "cache" or bool(inputs.get("cache"))


def _action(step: Mapping) -> str:
    """`checkout` of actions/checkout@...; "" of a step without."""
    return str(step.get("uses", "")).partition("@")[0].partition("/")[2]


# Shell bodies and secrets.


@rule
def no_expression_in_run(workflow: Workflow) -> Iterator[Finding]:
    """Values reach a shell through `env`, never as its source text; and GitHub reads only so much."""
    for where, _, body in workflow.runs:
        if "${{" in body:
            yield where, "an expression in a shell body"
        if len(body) > LONGEST_RUN:
            yield where, f"{len(body)} characters"


@rule
def secrets_in_one_place(workflow: Workflow) -> Iterator[Finding]:
    """A secret is named in the `env` of a step, in a job with an environment; the job's own token in any step."""
    for where, expression in workflow.expressions:
        if OWN_TOKEN.search(expression) and "steps" not in where:
            yield where, "the job's token outside a step"
        for secret in SECRET.finditer(OWN_TOKEN.sub("", expression)):
            if not (secret[1] and _guarded(workflow, where)):
                yield where, f"`{secret[0]}` outside the env of a step in a job with an environment"
    for where, job in workflow.jobs:
        if "secrets" in job:
            yield (*where, "secrets"), "secrets handed on"


def _guarded(workflow: Workflow, where: Where) -> bool:
    """Is it the `env` of a step, or what docker/login-action is told, in a job with an environment?"""
    is_told = where[4:] == ("with", "password") and "login-action@" in workflow.line((*where[:4], "uses"))
    is_env = where[2:3] == ("steps",) and where[4:5] == ("env",)
    return (is_env or is_told) and "environment" in workflow.data["jobs"][where[1]]


@rule
def no_secret_in_argv(workflow: Workflow) -> Iterator[Finding]:
    """Every user of a machine can read every argv."""
    for where, step, body in workflow.runs:
        for line, command in secrets_in_argv(body, secret_names(step)):
            yield where, f"line {line} of the body hands a secret to `{command}`"


@rule
def key_files_are_private(workflow: Workflow) -> Iterator[Finding]:
    """A secret in a file: 0600, and taken away again."""
    for where, step, body in workflow.runs:
        if writes_to_file(body, secret_names(step)):
            if not re.search(r"\bumask 0?77\b|\bchmod 0?600\b", body):
                yield where, "a secret in a file that others may read"
            if "rm" not in commands(body) and not re.search(r"\btrap\b.*\brm\b", body):
                yield where, "a secret in a file that stays"


@rule
def known_hosts_only(workflow: Workflow) -> Iterator[Finding]:
    """ssh asks nobody, offers the one key, and talks only to the host key that was pinned."""
    for where, _, body in workflow.runs:
        if "ssh-keyscan" in commands(body):
            yield where, "ssh-keyscan trusts whoever answers"
        if SSH & commands(body):
            for option, value in SSH_OPTIONS.items():
                values = re.findall(rf"{option}[= ]+(\S+)", body)
                if not values or not all(re.match(value, words) for words in values):
                    yield where, f"ssh without {option} {value}"


@rule
def keys_without_scopes(workflow: Workflow) -> Iterator[Finding]:
    """A job that holds a key may do nothing to the repository; it may read it, and packages."""
    for where, job, step in workflow.steps:
        secrets = SECRET.findall(str(step.get("env", {})))
        holds_key = any(KEY.search(secret) for secret in secrets) or SSH & commands(step.get("run", ""))
        permissions = job.get("permissions")
        if holds_key and not (isinstance(permissions, dict) and {*permissions.items()} <= READABLE):
            yield (*where[:2], "permissions"), "a job that holds a key has permissions"


def secret_names(step: Mapping) -> set[str]:
    """The environment variables of a step that hold a secret, the job's token too."""
    env = step.get("env", {})
    return {name for name, value in env.items() if SECRET.search(str(value)) or OWN_TOKEN.search(str(value))}
