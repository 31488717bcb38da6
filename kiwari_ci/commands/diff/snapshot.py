"""Reads a set of files, each by its kind; a file that cannot be read is listed with the reason."""

import re
from dataclasses import dataclass, field

from kiwari_ci.file_output import generated_files
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
        """Its file."""
        return self.parsed.path

    @property
    def generated(self) -> bool:
        """Whether kiwari-ci generated it."""
        return self.parsed.document.generated


@dataclass
class PipelineSnapshot:
    """Everything that one set of files states, by path."""

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


def build_snapshot(file_set: FileSet, repository: str, beside: PipelineSnapshot | None = None) -> PipelineSnapshot:
    """Read every file of a set; `repository` is the value of `github.repository` in its workflows.

    `beside` has the workflows that may be called, too: those of a person, for generated ones.
    """
    snapshot = PipelineSnapshot(file_set.name, skipped=dict(file_set.skipped))
    documents = {
        path: document for path, text in file_set.files.items() if (document := _parse_file(snapshot, path, text))
    }
    others = {path: workflow.parsed.document for path, workflow in beside.workflows.items()} if beside else {}
    context = ReferenceContext({**others, **documents}, repository)
    for path, document in documents.items():
        if path.startswith(".github/workflows/"):
            workflow = parse_workflow(document, context)
            snapshot.workflows[path] = WorkflowWithEffects(workflow, tuple(find_workflow_effects(workflow)))
        elif _COMPOSE_PATH.fullmatch(path):
            if stack := compose_file.parse_compose_file(document):
                snapshot.stacks[path] = stack
            else:
                snapshot.skipped[path] = "no `services:` is in it"
    return snapshot


def _parse_file(snapshot: PipelineSnapshot, path: str, text: str) -> yaml_document.YamlDocument | None:
    if not path.endswith((".yml", ".yaml")):
        if re.search(r"env\.[a-z]+$", path):
            snapshot.examples[path] = env_file.parse_env_example(
                path, text, generated_files.is_generated_file(path, text)
            )
        elif generated_files.is_generated_file(path, text):
            snapshot.others[path] = text
        return None
    try:
        return yaml_document.parse_yaml_document(path, text)
    except yaml_document.UnreadableYaml as reason:
        snapshot.skipped[path] = str(reason)
        return None
