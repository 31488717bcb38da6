"""What a proxy in front says: which domain leads to which container and port."""

import re
from dataclasses import dataclass

from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.repository import LocalRepository

_CADDY_SITE_BLOCK = re.compile(r"(?:^|\n)([^\s{}#(][^{}\n#]*?)[ \t]*\{((?:[^{}]|\{[^{}]*\})*)\}")
_NGINX_SERVER_BLOCK = re.compile(r"\bserver\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
_PROXY_TARGET = re.compile(
    r"(?:reverse_proxy|proxy_pass)[ \t]+(?:[/*@]\S*[ \t]+)?(?:https?://)?([A-Za-z0-9][\w.-]*)(?::(\d{2,5}))?"
)
_CATCH_ALL_TARGET = re.compile(r"location\s+/\s*\{([^{}]*)\}|\n\s*reverse_proxy[ \t]+([A-Za-z0-9*][^\n]*)")
_NGINX_UPSTREAM = re.compile(r"upstream\s+([\w-]+)\s*\{[^}]{0,500}?server\s+([\w.-]+(?::\d+)?)")
_CADDYFILE_PATH = r"(?:.*/)?(?:Caddyfile[\w.-]*|[\w.-]+\.caddy)"
_NGINX_FILE_PATH = (
    r"(?:.*/)?(?:[\w.-]*nginx[\w.-]*|(?:.*/)?(?:nginx|conf\.d|sites-\w+)/.*)\.(?:conf|template|conf\.template)"
)
MAX_CONFIG_LENGTH = 200_000  # characters
_NGINX_SERVER_NAME = re.compile(r"server_name\s+([^;]*);")


@dataclass(frozen=True)
class ProxyRoute:
    """A domain, and the container and port behind it (empty and 0 where the file does not say)."""

    domain: str
    container: str
    port: int
    where: str


def read_proxy_routes(repository: LocalRepository) -> list[ProxyRoute]:
    """The routes of every Caddyfile and nginx configuration."""
    routes = []
    for path in repository.matching(_CADDYFILE_PATH):
        routes += _parse_proxy_routes(repository, path, _CADDY_SITE_BLOCK)
    for path in repository.matching(_NGINX_FILE_PATH):
        routes += _parse_proxy_routes(repository, path, _NGINX_SERVER_BLOCK)
    return routes


def _parse_proxy_routes(repository: LocalRepository, path: str, block_pattern: re.Pattern[str]) -> list[ProxyRoute]:
    text = _blank_comments(repository.read(path))
    upstreams = dict(_NGINX_UPSTREAM.findall(text))
    routes = []
    for block in block_pattern.finditer(text[:MAX_CONFIG_LENGTH]):
        body = block[block.lastindex or 1]
        names = block[1] if block_pattern is _CADDY_SITE_BLOCK else " ".join(_NGINX_SERVER_NAME.findall(block[1]))
        container, port = _find_target(body, upstreams)
        line = text.count("\n", 0, block.start(1)) + 1
        for domain in vocabulary.find_domains(names):
            routes.append(ProxyRoute(domain, container, port, f"{path}:{line}"))
    return routes


def _blank_comments(text: str) -> str:
    """The text without its comments, in as many lines."""
    lines = []
    for line in text.split("\n"):
        lines.append("" if line.lstrip().startswith("#") else line.split(" #")[0])
    return "\n".join(lines)


def _find_target(body: str, upstreams: dict[str, str]) -> tuple[str, int]:
    """The container and port of a block: of what serves all paths, else of the first that serves one."""
    catch_all = _CATCH_ALL_TARGET.search(body)
    target = _PROXY_TARGET.search(catch_all[0]) if catch_all else None
    target = target or _PROXY_TARGET.search(body)
    if not target:
        return "", 0
    container, port = target[1], target[2]
    if container in upstreams:
        container, _, port = upstreams[container].partition(":")
    return container, int(port or 0)
