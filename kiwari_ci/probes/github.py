"""GitHub, through `gh` and its login: what the workflows will find there, and what they came to."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic
from typing import Any

from kiwari_ci.plan import GitHubSetting, Plan
from kiwari_ci.probes.calls import (
    REQUEST_TIMEOUT,
    TOTAL_TIMEOUT,
    BackgroundCall,
    ProcessResult,
    find_last_line,
    run_process,
)
from kiwari_ci.probes.findings import Finding, FindingGroup
from kiwari_ci.probes.runbook_index import HostRunbookIndex, RunbookIndex

TIMED_OUT_RESULT = ProcessResult(-2, "", "no answer in time")
RUNNING_STATUSES = ("queued", "in_progress", "waiting", "pending", "requested")


@dataclass(frozen=True)
class GitHubResponse:
    """An answer of GitHub: its documents, or the HTTP status and why there are none."""

    documents: tuple[dict[str, Any], ...] = ()
    status: int = 0
    why: str = ""

    def items(self, key: str) -> list[dict[str, Any]]:
        """The objects of a list that may go over several pages."""
        found = [item for document in self.documents for item in _as_list(document.get(key))]
        return [item for item in found if isinstance(item, dict)]

    @property
    def first(self) -> dict[str, Any]:
        """The only document, or an empty one."""
        return self.documents[0] if self.documents else {}


@dataclass(frozen=True)
class GitHubState:
    """Every page by its path below the repository; `why` says why nothing could be asked."""

    pages: Mapping[str, GitHubResponse] = field(default_factory=dict)
    why: str = ""

    def page(self, path: str) -> GitHubResponse:
        """One of them."""
        return self.pages.get(path, GitHubResponse(why=self.why or TIMED_OUT_RESULT.err))


def find_expected_settings(plan: Plan) -> dict[str, tuple[GitHubSetting, ...]]:
    """By environment, what its deploys read from GitHub, under the names that GitHub has."""
    return {
        deploy.environment: tuple(
            replace(setting, name=setting.name_at_github) for setting in deploy.settings if setting.kind
        )
        for deploy in plan.list_deploys()
    }


def probe_github(plan: Plan, environments: Iterable[str]) -> GitHubState:
    """Ask for the repository, and then for all the rest side by side."""
    until = monotonic() + TOTAL_TIMEOUT - 2
    base = f"repos/{plan.repository}"
    first = parse_gh_output(_call_github_api(base))
    if first.why and first.status != 404:
        return GitHubState(why=first.why)
    paths = [] if first.why else _list_api_paths(plan, environments)
    asked = {path: BackgroundCall(partial(_call_github_api, f"{base}/{path}")) for path in paths}
    return GitHubState(
        {"": first} | {path: parse_gh_output(each.answer(until, TIMED_OUT_RESULT)) for path, each in asked.items()}
    )


def parse_gh_output(ran: ProcessResult) -> GitHubResponse:
    """What gh has printed: documents one after the other, or its words."""
    if ran.code == -1:
        return GitHubResponse(why="gh is not installed: https://cli.github.com")
    if ran.code == 4 or "gh auth login" in ran.err:
        return GitHubResponse(why="gh is not logged in: gh auth login")
    if ran.code:
        found = re.search(r"\(HTTP (\d+)\)", ran.err)
        return GitHubResponse(
            status=int(found[1]) if found else 0, why=f"gh: {find_last_line(ran.err).removeprefix('gh: ')}"
        )
    try:
        return GitHubResponse(tuple(_parse_json_documents(ran.out)))
    except (ValueError, RecursionError):
        return GitHubResponse(why="gh: its answer is not what GitHub's API says")


def _parse_json_documents(text: str) -> Iterator[dict[str, Any]]:
    decoder, at = json.JSONDecoder(), 0
    while rest := text[at:].lstrip():
        document, length = decoder.raw_decode(rest)
        at = len(text) - len(rest) + length
        yield document if isinstance(document, dict) else {"list": _as_list(document)}


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _call_github_api(path: str) -> ProcessResult:
    return run_process(["gh", "api", "--paginate", path], seconds=REQUEST_TIMEOUT * 2)


def _list_setting_endpoints(environment: str = "") -> dict[str, tuple[str, str]]:
    """Where names of secrets and variables are listed: path → kind and the list's key."""
    place = f"environments/{environment}" if environment else "actions"
    found = {f"{place}/{kind}s?per_page=30": (kind, f"{kind}s") for kind in ("secret", "variable")}
    if not environment:
        found |= {f"actions/organization-{kind}s?per_page=30": (kind, f"{kind}s") for kind in ("secret", "variable")}
    return found


def _list_api_paths(plan: Plan, environments: Iterable[str]) -> list[str]:
    paths = [
        *_list_setting_endpoints(),
        "environments?per_page=100",
        "actions/permissions",
        _build_protection_path(plan),
        _build_ruleset_path(plan),
    ]
    paths += [path for environment in environments for path in _list_setting_endpoints(environment)]
    return [*paths, *(_build_runs_path(plan, workflow) for workflow in _list_workflow_names(plan))]


def _build_protection_path(plan: Plan) -> str:
    return f"branches/{plan.default_branch_in_url}/protection/required_status_checks"


def _build_ruleset_path(plan: Plan) -> str:
    return f"rules/branches/{plan.default_branch_in_url}"


def _list_workflow_names(plan: Plan) -> list[str]:
    return [*(workflow.source.workflow for workflow in plan.workflows), *(each.name for each in plan.promotions)]


def _build_runs_path(plan: Plan, workflow: str) -> str:
    return f"actions/workflows/{workflow}.yml/runs?per_page=1"


def find_available_settings(seen: GitHubState, environment: str) -> dict[tuple[str, str], str]:
    """Each (kind, name) that a job of the environment can read, with the value of a variable; the nearest counts."""
    found: dict[tuple[str, str], str] = {}
    for path, (kind, key) in [
        *reversed(_list_setting_endpoints().items()),
        *_list_setting_endpoints(environment).items(),
    ]:
        items = seen.page(path).items(key)
        found |= {(kind, str(item.get("name")).upper()): str(item.get("value", "")) for item in items}
    return found


def check_repository(group: FindingGroup, plan: Plan, seen: GitHubState, book: RunbookIndex) -> Iterator[Finding]:
    """The repository itself."""
    first = seen.page("")
    if first.status == 404:
        expected = "a repository that this login may see"
        yield group.wrong(plan.repository, "not found", expected, "`repository:` in the spec, or gh auth switch")
        return
    if first.why:
        yield group.not_asked(plan.repository, first.why)
        return
    yield _check_default_branch(group, plan, first)
    yield _check_actions_allowed(group, plan, seen)
    yield _check_branch_protection(group, plan, seen, book)
    for workflow in _list_workflow_names(plan):
        yield _check_last_run(group, workflow, seen.page(_build_runs_path(plan, workflow)), book)


def _check_default_branch(group: FindingGroup, plan: Plan, first: GitHubResponse) -> Finding:
    there = str(first.first.get("default_branch"))
    if there == plan.default_branch:
        return group.ok("default branch", there)
    return group.wrong("default branch", there, plan.default_branch, "`default_branch:` in the spec")


def _check_actions_allowed(group: FindingGroup, plan: Plan, seen: GitHubState) -> Finding:
    page = seen.page("actions/permissions")
    cure = "Settings, Actions, General: allow " + ", ".join(
        sorted({action.uses.partition("@")[0] for action in plan.actions.values()})
    )
    if page.why:
        return group.not_asked("Actions", page.why)
    if page.first.get("enabled") is not True:
        return group.wrong("Actions", "disabled", "enabled", "Settings, Actions, General")
    allowed = page.first.get("allowed_actions", "all")
    if allowed == "local_only":
        return group.wrong("Actions", "only the repository's own may run", "also those that the workflows use", cure)
    if allowed == "selected":
        return group.ok("Actions", f"enabled for those that were selected; {cure}")
    return group.ok("Actions", "enabled")


def _check_branch_protection(group: FindingGroup, plan: Plan, seen: GitHubState, book: RunbookIndex) -> Finding:
    """The checks that a merge waits for, by branch protection and by rulesets."""
    subject, page, rules = (
        f"protection of {plan.default_branch}",
        seen.page(_build_protection_path(plan)),
        seen.page(_build_ruleset_path(plan)),
    )
    required = {str(name) for name in _as_list(page.first.get("contexts"))}
    for rule in rules.items("list"):
        parameters = rule.get("parameters") if rule.get("type") == "required_status_checks" else None
        checks = _as_list(parameters.get("required_status_checks")) if isinstance(parameters, dict) else []
        required |= {str(check.get("context")) for check in checks if isinstance(check, dict)}
    if not required and page.why and page.status != 404:
        return group.not_asked(subject, page.why)
    if required == {"drift"}:
        return group.ok(subject, "requires drift")
    saw = f"requires {', '.join(sorted(required)) or 'no check'}"
    return group.wrong(subject, saw, "drift, and no other", book.step("branch_protection"))


def _check_last_run(group: FindingGroup, workflow: str, page: GitHubResponse, book: RunbookIndex) -> Finding:
    subject, runs = f"last run of {workflow}", page.items("workflow_runs")
    if page.status == 404 or (not page.why and not runs):
        return group.not_asked(subject, f"it never ran; {book.step('first_push')}")
    if page.why:
        return group.not_asked(subject, page.why)
    result, url = runs[0].get("conclusion") or runs[0].get("status"), runs[0].get("html_url", "")
    if result == "success" or result in RUNNING_STATUSES:
        return group.ok(subject, str(result))
    return group.wrong(subject, str(result), "success", f"gh run view --log-failed {runs[0].get('id', '')} # {url}")


def check_github_environment(
    group: FindingGroup, plan: Plan, name: str, seen: GitHubState, book: HostRunbookIndex
) -> Iterator[Finding]:
    """An environment, and every secret and variable that its deploys read."""
    first, page = seen.page(""), seen.page("environments?per_page=100")
    if first.why or page.why:
        yield group.not_asked("GitHub environment, secrets, variables", first.why or page.why)
        return
    if name in {str(each.get("name")) for each in page.items("environments")}:
        yield group.ok("GitHub environment", name)
    else:
        make = book.create_environment(name)
        yield group.wrong("GitHub environment", "none of this name", name, make)
    there = find_available_settings(seen, name)
    for setting in find_expected_settings(plan)[name]:
        yield _check_setting(group, name, setting, there, seen, book)


def _check_setting(
    group: FindingGroup,
    name: str,
    setting: GitHubSetting,
    there: dict[tuple[str, str], str],
    seen: GitHubState,
    book: HostRunbookIndex,
) -> Finding:
    subject, other = f"{setting.kind} {setting.name}", "variable" if setting.kind == "secret" else "secret"
    if (setting.kind, setting.name) in there:
        return group.ok(subject, "is set")
    lists = [
        path
        for path, (kind, _) in {**_list_setting_endpoints(), **_list_setting_endpoints(name)}.items()
        if kind == setting.kind
    ]
    pages = [seen.page(path) for path in lists if "organization" not in path]
    if blind := [page.why for page in pages if page.why and page.status != 404]:
        return group.not_asked(subject, blind[0])
    saw = f"a {other} of this name" if (other, setting.name) in there else "is not set"
    return group.wrong(subject, saw, f"a {setting.kind}", book.set_host_setting(setting.kind, setting.name, name))
