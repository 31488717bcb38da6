"""Stand-ins for services outside, for the doctor's tests: each says that it is one."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.engine.server import GENERATED

REPOSITORY = "iqbalmuhyiddin/kiwari-monorepo"
GH = """#!{python} -IS
# A stand-in for gh: it answers `gh api --paginate PATH` from a file, and knows nothing else.
import json, sys
words, pages = sys.argv[1:], json.load(open({pages!r}))
assert words[:2] == ["api", "--paginate"] and len(words) == 3, words
page = pages.get("*") or pages.get(words[2].partition("?")[0], [404, "Not Found"])
if isinstance(page, list) and len(page) == 2 and isinstance(page[0], int):
    sys.stderr.write(page[1] if not page[0] else f"gh: {{page[1]}} (HTTP {{page[0]}})")
    sys.exit(4 if not page[0] else 1)
sys.stdout.write(page if isinstance(page, str) else json.dumps(page))
"""
SECRETS = ("VPS_HOST", "VPS_USER", "VPS_SSH_KEY", "GHCR_TOKEN")


def gh(folder: Path, pages: Mapping[str, Any]) -> None:
    """Put a stand-in for gh into a folder; a page is JSON, text as it is, or [HTTP status (0: no login), words]."""
    folder.mkdir(exist_ok=True)
    (folder / "gh.json").write_text(json.dumps(pages))
    (folder / "gh").write_text(GH.format(python=sys.executable, pages=str(folder / "gh.json")))
    (folder / "gh").chmod(0o755)


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
