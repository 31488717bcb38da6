"""Side → facts: every file read, each by its kind; what says nothing to us is named, with the reason."""

import re
from dataclasses import dataclass, field

from kiwari_ci.output import generated_files
from kiwari_ci.readers import compose_file, workflow, yaml_document
from kiwari_ci.readers.compose_file import EnvExample, Stack
from kiwari_ci.readers.file_sets import Side
from kiwari_ci.readers.step_effects import Deed, of_workflow
from kiwari_ci.readers.workflow import Around, Job, Workflow

_COMPOSE = re.compile(r"(.+/)?(docker-)?compose[\w.-]*\.ya?ml")


@dataclass(frozen=True)
class Work:
    """A workflow with what its jobs do."""

    workflow: Workflow
    deeds: tuple[tuple[Job, Deed], ...]

    @property
    def path(self) -> str:
        """Where it stands."""
        return self.workflow.path

    @property
    def generated(self) -> bool:
        """Whether it is one of ours."""
        return self.workflow.document.generated


@dataclass
class Facts:
    """All that one side says, by path."""

    name: str
    works: dict[str, Work] = field(default_factory=dict)
    stacks: dict[str, Stack] = field(default_factory=dict)
    examples: dict[str, EnvExample] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def generated(self) -> bool:
        """Whether a generated pipeline is there."""
        return any(work.generated for work in self.works.values())


def of(side: Side, repository: str) -> Facts:
    """Read every file of a side; `repository` is what `github.repository` says in it."""
    facts = Facts(side.name, skipped=dict(side.skipped))
    documents = {path: document for path, text in side.files.items() if (document := _document(facts, path, text))}
    around = Around(documents, repository)
    for path, document in documents.items():
        if path.startswith(".github/workflows/"):
            read = workflow.read(document, around)
            facts.works[path] = Work(read, tuple(of_workflow(read)))
        elif _COMPOSE.fullmatch(path):
            if stack := compose_file.read(document):
                facts.stacks[path] = stack
            else:
                facts.skipped[path] = "no `services:` is in it"
    return facts


def _document(facts: Facts, path: str, text: str) -> yaml_document.Document | None:
    if not path.endswith((".yml", ".yaml")):
        if re.search(r"env\.[a-z]+$", path):
            facts.examples[path] = compose_file.env_example(path, text, generated_files.is_marked(path, text))
        elif generated_files.is_marked(path, text):
            facts.others[path] = text
        return None
    try:
        return yaml_document.read(path, text)
    except yaml_document.Unreadable as reason:
        facts.skipped[path] = str(reason)
        return None
