"""A client that asks a domain through the Ingress controllers of the cluster, all the time."""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

from tests.cluster.cluster import node_address
from tests.cluster.world import World
from tests.engine.proxy import Answers, parse
from tests.engine.server import HERE as ENGINE
from tests.engine.server import run_beside

SECONDS = 0.1  # between two requests to one address
ENTRANCES = (1, 2)  # nodes whose Ingress controller is asked


@contextlib.contextmanager
def asking(world: World, domain: str, path: str = "/health", nodes: Sequence[int] = ENTRANCES) -> Iterator[Answers]:
    """Asks while the block runs, each time anew; the answers are complete when it ends."""
    words = [f"https://{domain}{path}@{node_address(number)}" for number in nodes]
    answers = Answers()
    with asking_words(world, words) as lines:
        yield answers
    answers.extend(map(parse, lines))


@contextlib.contextmanager
def asking_words(world: World, words: Sequence[str]) -> Iterator[list[str]]:
    """Runs the client in the cluster's network."""
    command = world.cluster.near(sys.executable, str(ENGINE / "asker.py"), str(SECONDS), *words)
    settings = {**os.environ, "SSL_CERT_FILE": str(world.cluster.folder / "tls.crt")}
    with run_beside(command, settings) as lines:
        yield lines
