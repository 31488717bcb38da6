"""What a proxy in front says: which domain leads to which container and port."""

import re
from dataclasses import dataclass

from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.repository import Repository

_CADDY = re.compile(r"(?:^|\n)([^\s{}#(][^{}\n#]*?)[ \t]*\{((?:[^{}]|\{[^{}]*\})*)\}")
_SERVER = re.compile(r"\bserver\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
_TO = re.compile(
    r"(?:reverse_proxy|proxy_pass)[ \t]+(?:[/*@]\S*[ \t]+)?(?:https?://)?([A-Za-z0-9][\w.-]*)(?::(\d{2,5}))?"
)
_ALL = re.compile(r"location\s+/\s*\{([^{}]*)\}|\n\s*reverse_proxy[ \t]+([A-Za-z0-9*][^\n]*)")
_OURS = re.compile(r"server_name\s+([^;]*);")


@dataclass(frozen=True)
class Route:
    """A domain, and the container and port behind it (empty and 0 where the file does not say)."""

    domain: str
    container: str
    port: int
    where: str


def routes(repository: Repository) -> list[Route]:
    """The routes of every Caddyfile and nginx configuration."""
    found = []
    for path in repository.matching(r"(?:.*/)?(?:Caddyfile[\w.-]*|[\w.-]+\.caddy)"):
        found += _of(repository, path, _CADDY)
    for path in repository.matching(
        r"(?:.*/)?(?:[\w.-]*nginx[\w.-]*|(?:.*/)?(?:nginx|conf\.d|sites-\w+)/.*)\.(?:conf|template|conf\.template)"
    ):
        found += _of(repository, path, _SERVER)
    return found


def _of(repository: Repository, path: str, blocks: re.Pattern[str]) -> list[Route]:
    found, text = (
        [],
        "\n".join(
            line.split(" #")[0] if not line.lstrip().startswith("#") else ""
            for line in repository.read(path).split("\n")
        ),
    )
    upstreams = dict(re.findall(r"upstream\s+([\w-]+)\s*\{[^}]{0,500}?server\s+([\w.-]+(?::\d+)?)", text))
    for block in blocks.finditer(text[:200_000]):
        heads = block[1] if blocks is _CADDY else " ".join(_OURS.findall(block[1]))
        body = block[block.lastindex or 1]
        whole = _ALL.search(body)  # what is not for a path of its own
        target = (whole and _TO.search(whole[0])) or _TO.search(body)
        name, port = (target[1], target[2]) if target else ("", "")
        if name in upstreams:
            name, _, port = upstreams[name].partition(":")
        place = f"{path}:{text.count(chr(10), 0, block.start(1)) + 1}"
        found += [Route(domain, name, int(port or 0), place) for domain in vocabulary.domains(heads)]
    return found
