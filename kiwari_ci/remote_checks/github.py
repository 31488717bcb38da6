"""Probes GitHub through `gh` and its login: what workflows need there, and how their last runs ended."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any

from kiwari_ci.plan_model import Plan
from kiwari_ci.planning.required_settings import BUILD_ENVIRONMENT
from kiwari_ci.remote_checks.calls import (
    REQUEST_TIMEOUT,
    TIMED_OUT,
    TOTAL_TIMEOUT,
    BackgroundCall,
    ProcessResult,
    find_last_line,
    run_process,
)
from kiwari_ci.remote_checks.findings import Finding, FindingGroup
from kiwari_ci.remote_checks.runbook_index import RunbookIndex

TIMED_OUT_RESULT = ProcessResult(TIMED_OUT, "", "no answer in time")
TAG_RULESETS_PATH = "rulesets?per_page=100"
RUNNING_STATUSES = ("queued", "in_progress", "waiting", "pending", "requested")


@dataclass(frozen=True)
class GitHubResponse:
    """An answer of GitHub: its JSON documents, or the HTTP status and why there are none."""

    documents: tuple[dict[str, Any], ...] = ()
    status: int = 0
    why: str = ""

    def items(self, key: str) -> list[dict[str, Any]]:
        """The objects of a list, which may go over several pages."""
        values = [value for document in self.documents for value in _as_list(document.get(key))]
        return [value for value in values if isinstance(value, dict)]

    @property
    def first(self) -> dict[str, Any]:
        """The first document, or an empty one."""
        return self.documents[0] if self.documents else {}


@dataclass(frozen=True)
class ExpectedSetting:
    """A secret or variable that a job reads, under the name that GitHub has."""

    kind: str
    name: str


@dataclass(frozen=True)
class GitHubState:
    """The responses by their paths below the repository; `why` says why GitHub could not be asked at all."""

    pages: Mapping[str, GitHubResponse] = field(default_factory=dict)
    why: str = ""

    def page(self, path: str) -> GitHubResponse:
        """The response for a path."""
        return self.pages.get(path, GitHubResponse(why=self.why or TIMED_OUT_RESULT.err))


def find_expected_settings(plan: Plan) -> dict[str, tuple[ExpectedSetting, ...]]:
    """By environment, what its jobs read from GitHub; under the empty name, what jobs without an environment read."""
    expected_settings = {
        deploy.environment: [
            ExpectedSetting(setting.kind, setting.name_at_github) for setting in deploy.settings if setting.kind
        ]
        for deploy in plan.list_deploys()
    }
    for need in plan.needs:
        for environment in need.environments or ("",):
            expected_settings.setdefault(environment, []).append(ExpectedSetting(need.kind, need.name))
    return {environment: tuple(dict.fromkeys(settings)) for environment, settings in expected_settings.items()}


def probe_github(plan: Plan, environments: Iterable[str]) -> GitHubState:
    """Ask for the repository, and if it is there, for everything else at the same time."""
    deadline = monotonic() + TOTAL_TIMEOUT - 2
    base = f"repos/{plan.repository}"
    repository = parse_gh_output(_call_github_api(base))
    if repository.why and repository.status != 404:
        return GitHubState(why=repository.why)
    paths = [] if repository.why else _list_api_paths(plan, environments)
    calls = {path: BackgroundCall(partial(_call_github_api, f"{base}/{path}")) for path in paths}
    pages = {"": repository}
    for path, call in calls.items():
        pages[path] = parse_gh_output(call.answer(deadline, TIMED_OUT_RESULT))
    return GitHubState(pages)


def parse_gh_output(result: ProcessResult) -> GitHubResponse:
    """Parse what gh printed: JSON documents one after the other, or an error message."""
    if result.is_not_installed:
        return GitHubResponse(why="gh is not installed: https://cli.github.com")
    if result.code == 4 or "gh auth login" in result.err:
        return GitHubResponse(why="gh is not logged in: gh auth login")
    if result.code:
        status = re.search(r"\(HTTP (\d+)\)", result.err)
        reason = find_last_line(result.err).removeprefix("gh: ")
        return GitHubResponse(status=int(status[1]) if status else 0, why=f"gh: {reason}")
    try:
        return GitHubResponse(tuple(_parse_json_documents(result.out)))
    except (ValueError, RecursionError):
        return GitHubResponse(why="gh: its answer is not what GitHub's API says")


def _parse_json_documents(text: str) -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder()
    rest = text.lstrip()
    while rest:
        document, length = decoder.raw_decode(rest)
        yield document if isinstance(document, dict) else {"list": _as_list(document)}
        rest = rest[length:].lstrip()


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _call_github_api(path: str) -> ProcessResult:
    return run_process(["gh", "api", "--paginate", path], seconds=REQUEST_TIMEOUT * 2)


def _list_setting_endpoints(environment: str = "") -> dict[str, tuple[str, str]]:
    """By path, what it lists: the kind of the settings, and the key of the list."""
    folders = [f"environments/{environment}/"] if environment else ["actions/", "actions/organization-"]
    return {f"{folder}{kind}s?per_page=30": (kind, f"{kind}s") for folder in folders for kind in ("secret", "variable")}


def _list_api_paths(plan: Plan, environments: Iterable[str]) -> list[str]:
    paths = [
        *_list_setting_endpoints(),
        "environments?per_page=100",
        "actions/permissions",
        _build_protection_path(plan),
        _build_ruleset_path(plan),
        TAG_RULESETS_PATH,
    ]
    build_environments = [BUILD_ENVIRONMENT] if BUILD_ENVIRONMENT in find_expected_settings(plan) else []
    for environment in (*environments, *build_environments):
        paths += _list_setting_endpoints(environment)
    paths += [_build_runs_path(workflow) for workflow in _list_workflow_names(plan)]
    return paths


def _build_protection_path(plan: Plan) -> str:
    return f"branches/{plan.default_branch_in_url}/protection/required_status_checks"


def _build_ruleset_path(plan: Plan) -> str:
    return f"rules/branches/{plan.default_branch_in_url}"


def _list_workflow_names(plan: Plan) -> list[str]:
    service_workflows = [workflow.name for workflow in plan.workflows]
    return service_workflows + [promotion.name for promotion in plan.promotions]


def _build_runs_path(workflow: str) -> str:
    return f"actions/workflows/{workflow}.yml/runs?per_page=1"


def find_available_settings(state: GitHubState, environment: str) -> dict[tuple[str, str], str]:
    """By kind and name, the settings that a job of the environment can read, with the values of variables.

    An environment's setting is used before the repository's, and that before the organization's.
    """
    endpoints = [*reversed(_list_setting_endpoints().items()), *_list_setting_endpoints(environment).items()]
    settings: dict[tuple[str, str], str] = {}
    for path, (kind, list_key) in endpoints:
        for setting in state.page(path).items(list_key):
            settings[kind, str(setting.get("name")).upper()] = str(setting.get("value", ""))
    return settings


def check_repository(group: FindingGroup, plan: Plan, state: GitHubState, runbook: RunbookIndex) -> Iterator[Finding]:
    """Check the repository itself, and the last runs of its workflows."""
    repository = state.page("")
    if repository.status == 404:
        expected = "a repository that this login may see"
        yield group.wrong(plan.repository, "not found", expected, "`repository:` in the spec, or gh auth switch")
        return
    if repository.why:
        yield group.not_asked(plan.repository, repository.why)
        return
    yield _check_default_branch(group, plan, repository)
    yield _check_actions_allowed(group, plan, state)
    yield _check_branch_protection(group, plan, state, runbook)
    if plan.runbook.protect_tags:
        yield _check_tag_rulesets(group, state, runbook)
    for workflow in _list_workflow_names(plan):
        yield _check_last_run(group, workflow, state.page(_build_runs_path(workflow)), runbook)


def _check_default_branch(group: FindingGroup, plan: Plan, repository: GitHubResponse) -> Finding:
    branch = str(repository.first.get("default_branch"))
    if branch == plan.default_branch:
        return group.ok("default branch", branch)
    return group.wrong("default branch", branch, plan.default_branch, "`default_branch:` in the spec")


def _check_actions_allowed(group: FindingGroup, plan: Plan, state: GitHubState) -> Finding:
    page = state.page("actions/permissions")
    if page.why:
        return group.not_asked("Actions", page.why)
    if page.first.get("enabled") is not True:
        return group.wrong("Actions", "disabled", "enabled", "Settings, Actions, General")
    actions = sorted({action.uses.partition("@")[0] for action in plan.actions.values()})
    cure = f"Settings, Actions, General: allow {', '.join(actions)}"
    allowed = page.first.get("allowed_actions", "all")
    if allowed == "local_only":
        return group.wrong("Actions", "only the repository's own may run", "also those that the workflows use", cure)
    if allowed == "selected":
        return group.ok("Actions", f"enabled for those that were selected; {cure}")
    return group.ok("Actions", "enabled")


def _check_branch_protection(group: FindingGroup, plan: Plan, state: GitHubState, runbook: RunbookIndex) -> Finding:
    """Check which checks a merge waits for, by branch protection and by rulesets."""
    subject = f"protection of {plan.default_branch}"
    protection = state.page(_build_protection_path(plan))
    required = {str(name) for name in _as_list(protection.first.get("contexts"))}
    required |= _find_ruleset_checks(state.page(_build_ruleset_path(plan)))
    if not required and protection.why and protection.status != 404:
        return group.not_asked(subject, protection.why)
    expected = " and ".join(plan.required_checks)
    if required == set(plan.required_checks):
        return group.ok(subject, f"requires {expected}")
    saw = f"requires {', '.join(sorted(required)) or 'no check'}"
    return group.wrong(subject, saw, f"{expected}, and no other", runbook.step("branch_protection"))


def _check_tag_rulesets(group: FindingGroup, state: GitHubState, runbook: RunbookIndex) -> Finding:
    """Say whether everybody who may push can make the tag of a version."""
    page = state.page(TAG_RULESETS_PATH)
    if page.why:
        return group.not_asked("tags of versions", page.why)
    rulesets = [ruleset for ruleset in page.items("list") if ruleset.get("target") == "tag"]
    active = [str(ruleset.get("name")) for ruleset in rulesets if ruleset.get("enforcement") == "active"]
    if active:
        return group.ok("tags of versions", f"rulesets: {', '.join(active)}")
    return group.ok("tags of versions", f"open to everybody who may push: {runbook.step('github_settings')}")


def _find_ruleset_checks(rules: GitHubResponse) -> set[str]:
    checks = set()
    for rule in rules.items("list"):
        parameters = rule.get("parameters")
        if rule.get("type") != "required_status_checks" or not isinstance(parameters, dict):
            continue
        for check in _as_list(parameters.get("required_status_checks")):
            if isinstance(check, dict):
                checks.add(str(check.get("context")))
    return checks


def _check_last_run(group: FindingGroup, workflow: str, page: GitHubResponse, runbook: RunbookIndex) -> Finding:
    subject, runs = f"last run of {workflow}", page.items("workflow_runs")
    if page.status == 404 or (not page.why and not runs):
        return group.not_asked(subject, f"it never ran; {runbook.step('first_push')}")
    if page.why:
        return group.not_asked(subject, page.why)
    last_run = runs[0]
    result = last_run.get("conclusion") or last_run.get("status")
    if result == "success" or result in RUNNING_STATUSES:
        return group.ok(subject, str(result))
    cure = f"gh run view --log-failed {last_run.get('id', '')} # {last_run.get('html_url', '')}"
    return group.wrong(subject, str(result), "success", cure)


def check_github_environment(
    group: FindingGroup, plan: Plan, environment: str, state: GitHubState, runbook: RunbookIndex
) -> Iterator[Finding]:
    """Check an environment, and every secret and variable that its deploys read."""
    repository, page = state.page(""), state.page("environments?per_page=100")
    if repository.why or page.why:
        yield group.not_asked("GitHub environment, secrets, variables", repository.why or page.why)
        return
    if environment in {str(entry.get("name")) for entry in page.items("environments")}:
        yield _check_environment_policy(group, environment, page, runbook)
    else:
        cure = runbook.create_environment(environment)
        yield group.wrong("GitHub environment", "none of this name", environment, cure)
    for setting in find_expected_settings(plan)[environment]:
        yield _check_setting(group, environment, setting, state, runbook)


def check_settings_of_builds(
    group: FindingGroup, plan: Plan, state: GitHubState, runbook: RunbookIndex
) -> Iterator[Finding]:
    """Check what jobs read that deploy nothing: the secrets of builds, and variables of the repository."""
    expected_settings = find_expected_settings(plan)
    if BUILD_ENVIRONMENT in expected_settings:
        yield from check_github_environment(group, plan, BUILD_ENVIRONMENT, state, runbook)
    if not state.page("").why:
        for setting in expected_settings.get("", ()):
            yield _check_setting(group, "", setting, state, runbook)


def _check_environment_policy(
    group: FindingGroup, environment: str, page: GitHubResponse, runbook: RunbookIndex
) -> Finding:
    """Say whether every branch may deploy there; on some plans of GitHub nothing can be done about it."""
    policies = [
        entry.get("deployment_branch_policy")
        for entry in page.items("environments")
        if entry.get("name") == environment
    ]
    if any(policies):
        return group.ok("GitHub environment", f"{environment}, for some branches and tags only")
    open_to = f"{environment}, open to every branch and tag: {runbook.step('github_settings')}"
    return group.ok("GitHub environment", open_to)


def _check_setting(
    group: FindingGroup, environment: str, setting: ExpectedSetting, state: GitHubState, runbook: RunbookIndex
) -> Finding:
    subject = f"{setting.kind} {setting.name}"
    available = find_available_settings(state, environment)
    if (setting.kind, setting.name) in available:
        if setting.kind == "secret" and not _is_set_in_environment(environment, setting, state):
            cure = runbook.set_host_setting(setting.kind, setting.name, environment)
            return group.ok(subject, f"is set, open to every workflow of every branch: {cure}")
        return group.ok(subject, "is set")
    unread = _find_unread_list(setting.kind, environment, state)
    if unread:
        return group.not_asked(subject, unread)
    other_kind = "variable" if setting.kind == "secret" else "secret"
    saw = f"a {other_kind} of this name" if (other_kind, setting.name) in available else "is not set"
    cure = runbook.set_host_setting(setting.kind, setting.name, environment)
    return group.wrong(subject, saw, f"a {setting.kind}", cure)


def _is_set_in_environment(environment: str, setting: ExpectedSetting, state: GitHubState) -> bool:
    names = {
        str(entry.get("name")).upper()
        for path, (kind, list_key) in _list_setting_endpoints(environment).items()
        if kind == setting.kind
        for entry in state.page(path).items(list_key)
    }
    return setting.name in names


def _find_unread_list(kind: str, environment: str, state: GitHubState) -> str:
    """Why one of the lists that may have a setting could not be read; empty when all were.

    An organization's list is often closed to a login that may read everything else.
    """
    endpoints = {**_list_setting_endpoints(), **_list_setting_endpoints(environment)}
    for path, (list_kind, _) in endpoints.items():
        page = state.page(path)
        if list_kind == kind and "organization" not in path and page.why and page.status != 404:
            return page.why
    return ""
