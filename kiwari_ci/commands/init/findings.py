"""What was found of a repository, in the words of the spec; and the spec in the making."""

from dataclasses import dataclass, field

from kiwari_ci.commands.init.compose_files import Container
from kiwari_ci.commands.init.databases import Server
from kiwari_ci.commands.init.draft_text import LONGEST, Table
from kiwari_ci.commands.init.environments import Machine, Place
from kiwari_ci.commands.init.services import Found
from kiwari_ci.loading.yaml_source import Loc
from kiwari_ci.readers.repository import Repository
from kiwari_ci.readers.vocabulary import Fact


@dataclass
class Facts:
    """All that was found, in the words of the spec."""

    repository: Repository
    name: str
    slug: Fact
    branch: Fact
    services: list[Found]
    accessories: dict[str, Container]
    containers: list[Container]  # all that are not for development
    places: list[Place]
    machines: dict[str, Machine]
    stacks: dict[str, Fact]
    domains: dict[tuple[str, str], Fact]
    server: Server | None
    proxies: list[Fact]
    fronts: list[Fact]  # those of them that are containers of a compose file here
    network: Fact | None
    aside: list[str]  # Dockerfiles that no service is made of, and why

    @property
    def shared(self) -> str:
        """The network that the proxy and the services share today; empty when nobody says."""
        return str(self.network.value) if self.network else ""


@dataclass
class Composed:
    """The spec in the making; what to decide, each with the place in the spec; what is left of containers."""

    table: Table = field(default_factory=Table)
    decisions: list[tuple[Loc, str]] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def leave(self, name: str, what: list[str]) -> None:
        """What of a container has no place in the spec."""
        for each in dict.fromkeys(what):
            last = self.seen[-1] if self.seen else ""
            if last.startswith(f"{name}: ") and len(last) + len(each) < LONGEST:
                self.seen[-1] += f"; {each}"
            else:
                self.seen.append(f"{name}: {each}")

    def decide(self, loc: Loc, text: str) -> None:
        """A question for a person."""
        self.decisions.append((loc, text))
