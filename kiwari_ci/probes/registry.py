"""The registry: whether the token that the host pulls with may read each image.

The way of asking: https://distribution.github.io/distribution/spec/auth/token/
"""

import base64
import json
import re
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from kiwari_ci.probes.calls import HttpResponse, fetch_url
from kiwari_ci.probes.findings import Finding, FindingGroup, RunbookIndex

AUTH_CHALLENGE_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
MANIFEST_MEDIA_TYPES = (
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
)


@dataclass(frozen=True)
class RegistryResponse:
    """What asking for a tag came to: an HTTP status (0: none, and `why`)."""

    status: int = 0
    why: str = ""


def probe_image_tag(base: str, repository: str, tag: str, user: str, token: str) -> RegistryResponse:
    """Ask for one tag, with a token or as anybody; `repository` without the registry's host."""
    url = f"{base}/v2/{repository}/manifests/{tag}"
    first = fetch_url(url, {"Accept": MANIFEST_MEDIA_TYPES})
    if first.status != 401:
        return RegistryResponse(first.status, "" if first.status else first.text)
    authorization, refused = _request_authorization(base, first, repository, f"{user}:{token}" if token else "")
    if not authorization:
        return refused
    page = fetch_url(url, {"Accept": MANIFEST_MEDIA_TYPES, "Authorization": authorization})
    return RegistryResponse(page.status, "" if page.status else page.text)


def _request_authorization(base: str, first: HttpResponse, repository: str, login: str) -> tuple[str, RegistryResponse]:
    """What the registry wants to see, mostly a token for one pull; ours is shown to its own host only."""
    basic = f"Basic {base64.b64encode(login.encode()).decode()}" if login else ""
    if first.headers.get("www-authenticate", "").lower().startswith("basic"):
        return basic, RegistryResponse(first.status)
    said = dict(AUTH_CHALLENGE_PARAMETER.findall(first.headers.get("www-authenticate", "")))
    realm = said.get("realm", "")
    if urlsplit(realm)[:2] != urlsplit(base)[:2]:
        return "", RegistryResponse(0, "the registry's way to log in is not known")
    query = urlencode({"service": said.get("service", ""), "scope": f"repository:{repository}:pull"})
    page = fetch_url(f"{realm}?{query}", {"Authorization": basic} if basic else None)
    if page.status != 200:
        return "", RegistryResponse(page.status, "" if page.status else page.text)
    try:
        given = json.loads(page.text)
        bearer = given.get("token") or given.get("access_token")
        return (
            (f"Bearer {bearer}", RegistryResponse())
            if bearer
            else ("", RegistryResponse(0, "the registry gives no token"))
        )
    except (ValueError, AttributeError, RecursionError):
        return "", RegistryResponse(0, "the registry's token is no JSON")


@dataclass(frozen=True)
class PullTokenSecret:
    """The secret that holds the pull token (no name: the job's own), and whether we have its value."""

    name: str
    given: bool


def check_image_access(
    group: FindingGroup,
    repository: str,
    answer: RegistryResponse,
    token: PullTokenSecret,
    pushed: bool,
    book: RunbookIndex,
) -> Finding:
    """One image; `pushed`: some host is known to have pulled it."""
    if answer.why or answer.status >= 500 or answer.status == 429:
        return group.not_asked(repository, answer.why or f"status {answer.status}")
    by = f"{token.name} may read it" if token.given else "public: anybody may read it"
    if answer.status == 200:
        return group.ok(repository, by)
    if answer.status == 404 and token.given:
        return group.not_asked(repository, f"nothing was pushed under its tag yet; {book.step('First push')}")
    if not token.given:
        how = "--pull-token asks with a token, too" if token.name else "only a job has the token that may"
        return group.not_asked(repository, f"private, or not pushed yet: {how}")
    if answer.status == 403 and not pushed:
        return group.not_asked(repository, f"{token.name} may not read it, or nothing was pushed yet: {answer.status}")
    cure = book.command(f"gh secret set {token.name}")
    wanted = "a token that may read it; on ghcr.io, with `read:packages`"
    return group.wrong(repository, f"{token.name} is refused: {answer.status}", wanted, cure)
