"""Stand-ins for services outside, for the doctor's tests: each says that it is one."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.engine.server import GENERATED

REPOSITORY = "iqbalmuhyiddin/kiwari-monorepo"
GH = """#!/bin/sh
# A stand-in for gh: it answers `gh api --paginate PATH`, and knows nothing else.
[ "$#" = 3 ] && [ "$1 $2" = "api --paginate" ] || exit 70
case "${{3%%\\?*}}" in
{pages}
esac
"""
SECRETS = ("VPS_HOST", "VPS_USER", "VPS_SSH_KEY", "GHCR_TOKEN")


def gh(folder: Path, pages: Mapping[str, Any]) -> None:
    """Put a stand-in for gh into a folder; a page is JSON, text as it is, or [HTTP status (0: no login), words]."""
    folder.mkdir(exist_ok=True)
    patterns = {path if path == "*" else shlex.quote(path): page for path, page in pages.items() if page}
    branches = [f"{pattern}) {_answer(page)};;" for pattern, page in patterns.items()]
    branches.append(f"*) {_answer([404, 'Not Found'])};;")
    (folder / "gh").write_text(GH.format(pages="\n".join(branches)))
    (folder / "gh").chmod(0o755)


def _answer(page: Any) -> str:
    """The commands of a shell that answer as gh does: a shell starts in a tenth of the time that Python needs."""
    match page:
        case [0, str(words)]:
            return f"printf %s {shlex.quote(words)} >&2; exit 4"
        case [int(status), str(words)]:
            return f"printf %s {shlex.quote(f'gh: {words} (HTTP {status})')} >&2; exit 1"
    return f"printf %s {shlex.quote(page if isinstance(page, str) else json.dumps(page))}"


def github(known_hosts: str) -> dict[str, Any]:
    """What GitHub says of Kiwari's repository when the runbook was followed to its end."""
    base = f"repos/{REPOSITORY}"
    runs = {"workflow_runs": [{"id": 7, "conclusion": "success", "html_url": "https://example.com/7"}]}
    nothing: dict[str, Any] = {"total_count": 0, "secrets": [], "variables": []}
    pages: dict[str, Any] = {
        base: {"default_branch": "main"},
        f"{base}/actions/secrets": {"secrets": [{"name": name} for name in SECRETS]},
        f"{base}/actions/variables": {"variables": [{"name": "VPS_KNOWN_HOSTS", "value": known_hosts}]},
        f"{base}/actions/organization-secrets": nothing,
        f"{base}/actions/organization-variables": nothing,
        f"{base}/environments": {"environments": [{"name": "staging"}, {"name": "production"}]},
        f"{base}/actions/permissions": {"enabled": True, "allowed_actions": "all"},
        f"{base}/branches/main/protection/required_status_checks": {"contexts": ["drift"]},
        f"{base}/rules/branches/main": [],
        f"{base}/rulesets": [{"name": "versions v*", "target": "tag", "enforcement": "active"}],
    }
    pages |= {f"{base}/environments/{name}/{kind}": nothing for name in ("staging", "production") for kind in nothing}
    names = [path.stem for path in sorted((GENERATED / ".github/workflows").glob("*.yml"))]
    return pages | {f"{base}/actions/workflows/{name}.yml/runs": runs for name in names}
