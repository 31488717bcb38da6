"""Side → facts: every file read, each by its kind; what says nothing to us is named, with the reason."""

import re
from dataclasses import dataclass, field

from kiwari_ci.output import generated_files
from kiwari_ci.readers import compose_file, env_file, yaml_document
from kiwari_ci.readers.compose_file import ComposeProject
from kiwari_ci.readers.env_file import EnvExample
from kiwari_ci.readers.file_sets import FileSet
from kiwari_ci.readers.step_effects import StepEffect, find_workflow_effects
from kiwari_ci.readers.workflow import ParsedJob, ParsedWorkflow, ReferenceContext, parse_workflow

_COMPOSE_PATH = re.compile(compose_file.COMPOSE_FILE_PATH)


@dataclass(frozen=True)
class WorkflowWithEffects:
    """A workflow with what its jobs do."""

    parsed: ParsedWorkflow
    effects: tuple[tuple[ParsedJob, StepEffect], ...]

    @property
    def path(self) -> str:
        """Where it stands."""
        return self.parsed.path

    @property
    def generated(self) -> bool:
        """Whether it is one of ours."""
        return self.parsed.document.generated


@dataclass
class PipelineSnapshot:
    """All that one side says, by path."""

    name: str
    workflows: dict[str, WorkflowWithEffects] = field(default_factory=dict)
    stacks: dict[str, ComposeProject] = field(default_factory=dict)
    examples: dict[str, EnvExample] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def generated(self) -> bool:
        """Whether a generated pipeline is there."""
        return any(workflow.generated for workflow in self.workflows.values())


def build_snapshot(side: FileSet, repository: str) -> PipelineSnapshot:
    """Read every file of a side; `repository` is what `github.repository` says in it."""
    facts = PipelineSnapshot(side.name, skipped=dict(side.skipped))
    documents = {path: document for path, text in side.files.items() if (document := _parse_file(facts, path, text))}
    around = ReferenceContext(documents, repository)
    for path, document in documents.items():
        if path.startswith(".github/workflows/"):
            read = parse_workflow(document, around)
            facts.workflows[path] = WorkflowWithEffects(read, tuple(find_workflow_effects(read)))
        elif _COMPOSE_PATH.fullmatch(path):
            if stack := compose_file.parse_compose_file(document):
                facts.stacks[path] = stack
            else:
                facts.skipped[path] = "no `services:` is in it"
    return facts


def _parse_file(facts: PipelineSnapshot, path: str, text: str) -> yaml_document.YamlDocument | None:
    if not path.endswith((".yml", ".yaml")):
        if re.search(r"env\.[a-z]+$", path):
            facts.examples[path] = env_file.parse_env_example(path, text, generated_files.is_generated_file(path, text))
        elif generated_files.is_generated_file(path, text):
            facts.others[path] = text
        return None
    try:
        return yaml_document.parse_yaml_document(path, text)
    except yaml_document.UnreadableYaml as reason:
        facts.skipped[path] = str(reason)
        return None
