"""What a proxy in front says: which domain leads to which container and port."""

import re
from collections.abc import Iterator
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
_NGINX_LOCATION = re.compile(r"\blocation\s+(?:\^~\s+)?(/[\w./-]*\w/?)\s*\{([^{}]*)\}")
_NGINX_REST_OF_URL = re.compile(r"proxy_pass\s+https?://[^/\s;]+(/[^\s;]*);")
_CADDY_HANDLE = re.compile(r"\b(handle|handle_path)[ \t]+(/[\w./-]*\w)/?\*\s*\{([^{}]*)\}")
_CADDY_PLAIN_ADDRESS = re.compile(r"http://|[^/:]+:80(/|$)")
_CADDY_PATH = re.compile(r"\breverse_proxy[ \t]+(/[\w./-]*\w)/?\*[ \t]+\S+")
MAX_CONFIG_LENGTH = 200_000  # characters
_NGINX_SERVER_NAME = re.compile(r"server_name\s+([^;]*);")


@dataclass(frozen=True)
class ProxyRoute:
    """An address, and the container and port behind it (empty and 0 where the file does not say)."""

    domain: str
    container: str
    port: int
    where: str
    path: str = ""  # below which requests are led there; empty for all of the domain
    strips_path: bool = False  # whether the container gets the rest of the path only
    is_plain_http: bool = False  # whether the file says that the proxy has no certificate for the domain


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
        paths = list(_find_paths(body))
        container, port = _find_target(_remove_paths(body) if paths else body, upstreams)
        line = text.count("\n", 0, block.start(1)) + 1
        plain_domains = _find_plain_domains(names) if block_pattern is _CADDY_SITE_BLOCK else []
        for domain in vocabulary.find_domains(names):
            is_plain = domain in plain_domains
            if container or not paths:
                routes.append(ProxyRoute(domain, container, port, f"{path}:{line}", is_plain_http=is_plain))
            for below, target, strips_path in paths:
                address = _resolve_target(target, upstreams)
                routes.append(ProxyRoute(domain, *address, f"{path}:{line}", below, strips_path, is_plain))
    return routes


def _find_plain_domains(site_addresses: str) -> list[str]:
    """The domains for which Caddy has no certificate, because their scheme is `http` or their port is 80."""
    plain_addresses = [word for word in re.split(r"[,\s]+", site_addresses) if _CADDY_PLAIN_ADDRESS.match(word)]
    return vocabulary.find_domains(" ".join(plain_addresses))


def _remove_paths(body: str) -> str:
    """A block without what is for a path only."""
    for pattern in (_NGINX_LOCATION, _CADDY_HANDLE, _CADDY_PATH):
        body = pattern.sub("", body)
    return body


def _find_paths(body: str) -> Iterator[tuple[str, re.Match[str], bool]]:
    """The paths of a domain that lead elsewhere: each with its target, and whether the path is taken away."""
    for location in _NGINX_LOCATION.finditer(body):
        target = _PROXY_TARGET.search(location[2])
        rest = _NGINX_REST_OF_URL.search(location[2])
        if target and (not rest or rest[1] == "/"):
            yield location[1].rstrip("/"), target, rest is not None
    for handle in _CADDY_HANDLE.finditer(body):
        target = _PROXY_TARGET.search(handle[3])
        if target:
            yield handle[2].rstrip("/"), target, handle[1] == "handle_path"
    for directive in _CADDY_PATH.finditer(body):
        target = _PROXY_TARGET.search(directive[0])
        if target:
            yield directive[1].rstrip("/"), target, False


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
    return _resolve_target(target, upstreams) if target else ("", 0)


def _resolve_target(target: re.Match[str], upstreams: dict[str, str]) -> tuple[str, int]:
    """The container and port of a directive; an upstream has them elsewhere."""
    container, port = target[1], target[2]
    if container in upstreams:
        container, _, port = upstreams[container].partition(":")
    return container, int(port or 0)
