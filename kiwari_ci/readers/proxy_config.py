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
    found = []
    for path in repository.matching(r"(?:.*/)?(?:Caddyfile[\w.-]*|[\w.-]+\.caddy)"):
        found += _parse_proxy_routes(repository, path, _CADDY_SITE_BLOCK)
    for path in repository.matching(
        r"(?:.*/)?(?:[\w.-]*nginx[\w.-]*|(?:.*/)?(?:nginx|conf\.d|sites-\w+)/.*)\.(?:conf|template|conf\.template)"
    ):
        found += _parse_proxy_routes(repository, path, _NGINX_SERVER_BLOCK)
    return found


def _parse_proxy_routes(repository: LocalRepository, path: str, blocks: re.Pattern[str]) -> list[ProxyRoute]:
    found, text = (
        [],
        "\n".join(
            line.split(" #")[0] if not line.lstrip().startswith("#") else ""
            for line in repository.read(path).split("\n")
        ),
    )
    upstreams = dict(re.findall(r"upstream\s+([\w-]+)\s*\{[^}]{0,500}?server\s+([\w.-]+(?::\d+)?)", text))
    for block in blocks.finditer(text[:200_000]):
        heads = block[1] if blocks is _CADDY_SITE_BLOCK else " ".join(_NGINX_SERVER_NAME.findall(block[1]))
        body = block[block.lastindex or 1]
        whole = _CATCH_ALL_TARGET.search(body)  # what is not for a path of its own
        target = (whole and _PROXY_TARGET.search(whole[0])) or _PROXY_TARGET.search(body)
        name, port = (target[1], target[2]) if target else ("", "")
        if name in upstreams:
            name, _, port = upstreams[name].partition(":")
        place = f"{path}:{text.count(chr(10), 0, block.start(1)) + 1}"
        found += [ProxyRoute(domain, name, int(port or 0), place) for domain in vocabulary.find_domains(heads)]
    return found
