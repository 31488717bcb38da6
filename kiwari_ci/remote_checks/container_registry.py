"""Checks whether the token that the host pulls with may read each image in the registry.

The protocol: https://distribution.github.io/distribution/spec/auth/token/
"""

import base64
import json
import re
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from kiwari_ci.remote_checks.calls import HttpResponse, fetch_url
from kiwari_ci.remote_checks.findings import Finding, FindingGroup
from kiwari_ci.remote_checks.runbook_index import RunbookIndex

AUTH_CHALLENGE_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
MANIFEST_MEDIA_TYPES = (
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
)


@dataclass(frozen=True)
class RegistryResponse:
    """The response for a tag: its HTTP status, or 0 and the reason `why` there is none."""

    status: int = 0
    why: str = ""


def probe_image_tag(base: str, repository: str, tag: str, user: str, token: str) -> RegistryResponse:
    """Ask for one tag, with a token or anonymously; `repository` has no registry host in front."""
    url = f"{base}/v2/{repository}/manifests/{tag}"
    anonymous = fetch_url(url, {"Accept": MANIFEST_MEDIA_TYPES})
    if anonymous.status != 401:
        return _summarize_response(anonymous)
    login = f"{user}:{token}" if token else ""
    authorization = _request_authorization(base, anonymous, repository, login)
    if isinstance(authorization, RegistryResponse):
        return authorization
    return _summarize_response(fetch_url(url, {"Accept": MANIFEST_MEDIA_TYPES, "Authorization": authorization}))


def _summarize_response(response: HttpResponse) -> RegistryResponse:
    return RegistryResponse(response.status, "" if response.status else response.text)


def _request_authorization(base: str, refusal: HttpResponse, repository: str, login: str) -> str | RegistryResponse:
    """The header that the registry asks for, mostly a token for one pull; or why there is none.

    Our own login is sent to the registry's host only, whatever address the registry names.
    """
    challenge = refusal.headers.get("www-authenticate", "")
    basic = f"Basic {base64.b64encode(login.encode()).decode()}" if login else ""
    if challenge.lower().startswith("basic"):
        return basic or RegistryResponse(refusal.status)
    parameters = dict(AUTH_CHALLENGE_PARAMETER.findall(challenge))
    realm = parameters.get("realm", "")
    if urlsplit(realm)[:2] != urlsplit(base)[:2]:
        return RegistryResponse(0, "the registry's way to log in is not known")
    query = urlencode({"service": parameters.get("service", ""), "scope": f"repository:{repository}:pull"})
    response = fetch_url(f"{realm}?{query}", {"Authorization": basic} if basic else None)
    if response.status != 200:
        return _summarize_response(response)
    try:
        document = json.loads(response.text)
        token = document.get("token") or document.get("access_token")
    except (ValueError, AttributeError, RecursionError):
        return RegistryResponse(0, "the registry's token is no JSON")
    return f"Bearer {token}" if token else RegistryResponse(0, "the registry gives no token")


@dataclass(frozen=True)
class PullTokenSecret:
    """The secret that holds the pull token, and whether its value is known here; no name: the job's own token."""

    name: str
    has_value: bool


def check_image_access(
    group: FindingGroup,
    repository: str,
    answer: RegistryResponse,
    token: PullTokenSecret,
    pushed: bool,
    runbook: RunbookIndex,
) -> Finding:
    """Check one image; `pushed` says that some host is known to have pulled it."""
    if answer.why or answer.status >= 500 or answer.status == 429:
        return group.not_asked(repository, answer.why or f"status {answer.status}")
    if answer.status == 200:
        return group.ok(repository, f"{token.name} may read it" if token.has_value else "public: anybody may read it")
    if answer.status == 404 and token.has_value:
        return group.not_asked(repository, f"nothing was pushed under its tag yet; {runbook.step('first_push')}")
    if not token.has_value:
        hint = "--pull-token asks with a token, too" if token.name else "only a job has the token that may"
        return group.not_asked(repository, f"private, or not pushed yet: {hint}")
    if answer.status == 403 and not pushed:
        return group.not_asked(repository, f"{token.name} may not read it, or nothing was pushed yet: {answer.status}")
    cure = runbook.set_setting("secret", token.name)
    expected = "a token that may read it; on ghcr.io, with `read:packages`"
    return group.wrong(repository, f"{token.name} is refused: {answer.status}", expected, cure)
