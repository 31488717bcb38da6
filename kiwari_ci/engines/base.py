"""What an engine must be able to do: run the stacks of a host, and answer which image serves.

The contract of a deploy is the same for each engine: *put this stack's services into service at these digests, in this
order; answer which digest serves*. The jobs before it yield images, digests and a sequence, and know no engine.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from kiwari_ci.effective_spec import EffectiveDatabaseServer, EffectiveEnvironment, EffectiveHost, EffectiveSpec
from kiwari_ci.frozen import dataclass
from kiwari_ci.plan_model import DeployStep, Host, KeyValue, Plan, PostgresServer, RequiredSetting, Stack
from kiwari_ci.problems import Problem
from kiwari_ci.spec_loading.yaml_source import YamlSource


@dataclass(frozen=True)
class FileTemplate:
    """A generated file: its path in the repository, its template, and what the template reads besides the plan."""

    path: str
    template: str
    context: dict[str, Any]


@dataclass(frozen=True)
class StepOfDeploy:
    """What a step of a deploy has to do, whatever the engine: `images` are containers and variables with digests."""

    id: str
    environment: EffectiveEnvironment
    host: EffectiveHost
    stack: Stack
    images: tuple[KeyValue, ...]


class Engine(Protocol):
    """A kind of engine that runs containers."""

    @property
    def deploy_step_template(self) -> str:
        """The template of the step by which a workflow deploys to one host."""

    def check(self, source: YamlSource, spec: EffectiveSpec) -> Iterator[Problem]:
        """Find what a spec asks of the engine and the engine cannot do."""

    def plan_stack(self, environment: EffectiveEnvironment) -> Stack:
        """Plan the stack of an environment."""

    def plan_host(
        self,
        spec: EffectiveSpec,
        host: EffectiveHost,
        stacks: Mapping[str, Stack],
        servers: Sequence[PostgresServer],
    ) -> Host:
        """Plan a host: how it is reached, and what is placed on it. `stacks` are those on it, by environment."""

    def plan_deploy_step(self, step: StepOfDeploy) -> DeployStep:
        """Plan the step by which a workflow deploys to one host."""

    def describe_rollback(
        self, environment: EffectiveEnvironment, hosts: Sequence[EffectiveHost], container: str
    ) -> str:
        """Describe where and how a person puts back the image that a container had before."""

    def plan_database_server(self, spec: EffectiveSpec, server: EffectiveDatabaseServer) -> PostgresServer:
        """Plan a database server on one of its hosts."""

    def required_settings(self, host: Host) -> list[RequiredSetting]:
        """List what a person sets at GitHub so that a deploy reaches a host."""

    def list_stack_templates(self, plan: Plan) -> Iterator[FileTemplate]:
        """List the files that are rendered for its hosts, in the order in which a reader would open them."""

    def list_programs(self, plan: Plan) -> dict[str, Path]:
        """List the programs that a repository gets as they are: by their path there, the file of this package."""
