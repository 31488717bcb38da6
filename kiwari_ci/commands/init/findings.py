"""What was found of a repository, in the words of the spec; and the spec in the making."""

from dataclasses import dataclass, field

from kiwari_ci.commands.init.compose_files import DetectedContainer
from kiwari_ci.commands.init.databases import DetectedDatabaseServer
from kiwari_ci.commands.init.draft_text import MAX_COMMENT_LENGTH, CommentedMapping
from kiwari_ci.commands.init.environments import DetectedEnvironment, DetectedHost
from kiwari_ci.commands.init.registry_logins import UnnamedPush
from kiwari_ci.commands.init.services import DetectedService
from kiwari_ci.commands.init.written_env_files import EnvFileReaders
from kiwari_ci.readers.repository import LocalRepository
from kiwari_ci.readers.vocabulary import SourcedValue
from kiwari_ci.spec_loading.yaml_source import YamlPath


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
    further_addresses: dict[tuple[str, str], list[SourcedValue]]  # more paths of the same domain
    stripped_addresses: set[str]  # those of the domains whose path the proxy takes away
    plain_http: str  # where a proxy's configuration says that no domain has a certificate; empty if it does not
    host_proxy: str  # where a configuration of a proxy of the server itself leads to its ports; empty if none does
    has_routes_to_names: bool  # whether a configuration of a proxy leads to containers by their names
    database_server: DetectedDatabaseServer | None
    proxies: list[SourcedValue]
    proxy_containers: list[SourcedValue]  # those of them that are containers of a compose file here
    network: SourcedValue | None
    rejected_dockerfiles: list[str]  # Dockerfiles that no service is made of, and why
    pull_requests: str  # where a workflow says that pull requests are tested or built; empty if none are
    runner: list[str]  # the labels of the runner of one's own on which all jobs run; empty if they do not
    unnamed_pushes: list[UnnamedPush]
    project_names: dict[str, SourcedValue]  # the Compose project of each environment, as its Compose file names it
    env_file_readers: EnvFileReaders  # of what deploys write into env files

    @property
    def is_taken_over(self) -> bool:
        """Whether a workflow deploys today, so that something serves already."""
        return any(environment.workflows for environment in self.environments)

    @property
    def environment_kinds(self) -> set[str]:
        """The kinds of the environments, by which compose files belong to them."""
        return {environment.kind for environment in self.environments}

    @property
    def deployed_file_kinds(self) -> set[str]:
        """The kinds of the compose files that run on a server: where a workflow deploys, those that are for all too."""
        return self.environment_kinds | ({""} if self.is_taken_over else set())


@dataclass
class SpecDraft:
    """The spec in the making; what to decide, each with the place in the spec; what is left of containers."""

    table: CommentedMapping = field(default_factory=CommentedMapping)
    decisions: list[tuple[YamlPath, str]] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def leave(self, container: str, unsupported: list[str]) -> None:
        """Note what of a container has no place in the spec, as many things in a line as fit."""
        for description in dict.fromkeys(unsupported):
            last_line = self.seen[-1] if self.seen else ""
            if description in last_line.removeprefix(f"{container}: ").split("; "):
                continue  # one file may be that of several environments
            fits = len(last_line) + len(description) < MAX_COMMENT_LENGTH
            if last_line.startswith(f"{container}: ") and fits:
                self.seen[-1] += f"; {description}"
            else:
                self.seen.append(f"{container}: {description}")

    def decide(self, path: YamlPath, question: str) -> None:
        """Ask a person about a place in the spec."""
        self.decisions.append((path, question))
