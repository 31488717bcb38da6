"""What was found of a repository, in the words of the spec; and the spec in the making."""

from dataclasses import dataclass, field

from kiwari_ci.commands.init.compose_files import DetectedContainer
from kiwari_ci.commands.init.databases import DetectedDatabaseServer
from kiwari_ci.commands.init.draft_text import MAX_COMMENT_LENGTH, CommentedMapping
from kiwari_ci.commands.init.environments import DetectedEnvironment, DetectedHost
from kiwari_ci.commands.init.services import DetectedService
from kiwari_ci.loading.yaml_source import YamlPath
from kiwari_ci.readers.repository import LocalRepository
from kiwari_ci.readers.vocabulary import SourcedValue


@dataclass
class RepositoryFindings:
    """All that was found, in the words of the spec."""

    repository: LocalRepository
    name: str
    slug: SourcedValue
    branch: SourcedValue
    services: list[DetectedService]
    accessories: dict[str, DetectedContainer]
    containers: list[DetectedContainer]  # all that are not for development
    environments: list[DetectedEnvironment]
    hosts: dict[str, DetectedHost]
    stack_names: dict[str, SourcedValue]
    domains: dict[tuple[str, str], SourcedValue]
    database_server: DetectedDatabaseServer | None
    proxies: list[SourcedValue]
    proxy_containers: list[SourcedValue]  # those of them that are containers of a compose file here
    network: SourcedValue | None
    rejected_dockerfiles: list[str]  # Dockerfiles that no service is made of, and why

    @property
    def shared_network(self) -> str:
        """The network that the proxy and the services share today; empty when nobody says."""
        return str(self.network.value) if self.network else ""


@dataclass
class SpecDraft:
    """The spec in the making; what to decide, each with the place in the spec; what is left of containers."""

    table: CommentedMapping = field(default_factory=CommentedMapping)
    decisions: list[tuple[YamlPath, str]] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def leave(self, name: str, what: list[str]) -> None:
        """What of a container has no place in the spec."""
        for each in dict.fromkeys(what):
            last = self.seen[-1] if self.seen else ""
            if last.startswith(f"{name}: ") and len(last) + len(each) < MAX_COMMENT_LENGTH:
                self.seen[-1] += f"; {each}"
            else:
                self.seen.append(f"{name}: {each}")

    def decide(self, loc: YamlPath, text: str) -> None:
        """A question for a person."""
        self.decisions.append((loc, text))
