"""Reads a set of files, each by its kind; a file that cannot be read is listed with the reason."""

import re
from dataclasses import dataclass, field, replace
from functools import reduce

from kiwari_ci.file_output import generated_files
from kiwari_ci.readers import compose_file, env_file, yaml_document
from kiwari_ci.readers.called_scripts import (
    CalledScript,
    CallPlace,
    ScriptFile,
    ScriptFinder,
    enter_server,
    list_repository_paths,
)
from kiwari_ci.readers.compose_file import ComposeProject
from kiwari_ci.readers.compose_of_today import DEFAULT_FILE_NAMES, resolve_named_files
from kiwari_ci.readers.env_file import EnvExample
from kiwari_ci.readers.file_sets import FileSet
from kiwari_ci.readers.step_effects import StepEffect, find_workflow_effects
from kiwari_ci.readers.workflow import ParsedJob, ParsedWorkflow, ReferenceContext, parse_workflow
from kiwari_ci.readers.workflow_triggers import CALLED

_ENV_EXAMPLE_PATH = re.compile(env_file.ENV_EXAMPLE_PATH)
_COMPOSE_PATH = re.compile(compose_file.COMPOSE_FILE_PATH)


@dataclass(frozen=True)
class WorkflowWithEffects:
    """A workflow with what its jobs do, and the scripts of the repository that they run."""

    parsed: ParsedWorkflow
    effects: tuple[tuple[ParsedJob, StepEffect], ...]
    scripts: tuple[CalledScript, ...] = ()

    @property
    def path(self) -> str:
        """Its file."""
        return self.parsed.path

    @property
    def generated(self) -> bool:
        """Whether kiwari-ci generated it."""
        return self.parsed.document.generated

    @property
    def is_only_called(self) -> bool:
        """Whether nothing starts it but another workflow of the repository."""
        return tuple(self.parsed.triggers) == (CALLED,)


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
    finder = ScriptFinder(file_set)
    for path, document in documents.items():
        if path.startswith(".github/workflows/"):
            workflow = parse_workflow(document, context)
            number_before = len(finder.followed)
            effects = tuple(find_workflow_effects(workflow, finder))
            snapshot.workflows[path] = WorkflowWithEffects(workflow, effects, tuple(finder.followed[number_before:]))
        elif _COMPOSE_PATH.fullmatch(path):
            if stack := compose_file.parse_compose_file(document):
                snapshot.stacks[path] = stack
            else:
                snapshot.skipped[path] = "no `services:` is in it"
    if file_set.has_scripts:
        snapshot.skipped |= finder.unread
        _add_named_files(snapshot, file_set)
    _merge_named_files(snapshot)
    return snapshot


def _add_named_files(snapshot: PipelineSnapshot, file_set: FileSet) -> None:
    """Add the files that deploys name, and whose own names do not say that they are Compose files."""
    effects = [effect for workflow in snapshot.workflows.values() for _, effect in workflow.effects]
    names = {name for effect in effects if effect.kind == "deploy" for name in effect.what.split("\n")[1:]}
    place = enter_server(CallPlace(""))
    for name in sorted(
        name for name in names if name.endswith((".yml", ".yaml")) and not _COMPOSE_PATH.fullmatch(name)
    ):
        for path in list_repository_paths(name, place):
            file = file_set.read_script(path)
            if file:
                _add_stack(snapshot, path, file)
                break


def _add_stack(snapshot: PipelineSnapshot, path: str, file: ScriptFile) -> None:
    document = None if file.obstacle else _parse_file(snapshot, path, file.text)
    stack = compose_file.parse_compose_file(document) if document else None
    if stack:
        snapshot.stacks.setdefault(path, stack)
    elif file.obstacle:
        snapshot.skipped[path] = file.obstacle


def _merge_named_files(snapshot: PipelineSnapshot) -> None:
    """Merge the Compose files that one deploy names: the last one stands for all, in the project of the first.

    A first file that no deploy reads without the others is then no stack of its own.
    """
    groups = _list_named_groups(snapshot)
    stacks = dict(snapshot.stacks)
    for paths in sorted(groups):
        if len(paths) > 1:
            snapshot.stacks[paths[-1]] = _merge_stacks([stacks[path] for path in paths])
    read_alone = {paths[0] for paths in groups if len(paths) == 1}
    for path in {path for paths in groups for path in paths[:-1]} - read_alone - {paths[-1] for paths in groups}:
        del snapshot.stacks[path]


def _list_named_groups(snapshot: PipelineSnapshot) -> set[tuple[str, ...]]:
    """The Compose files of each deploy by hand, in the order in which they complete one another."""
    effects = [effect for workflow in snapshot.workflows.values() for _, effect in workflow.effects]
    names = {tuple(effect.what.split("\n")[1:]) for effect in effects if effect.kind == "deploy"}
    groups = {resolve_named_files(group, snapshot.stacks) for group in names if group}
    if () in names:  # a deploy that names no file reads the default one of its folder
        groups |= {(path,) for path in snapshot.stacks if path.rpartition("/")[2] in DEFAULT_FILE_NAMES}
    return {group for group in groups if group}


def _merge_stacks(stacks: list[ComposeProject]) -> ComposeProject:
    first, last = stacks[0], stacks[-1]
    document = reduce(compose_file.merge_documents, [stack.document for stack in stacks])
    merged = compose_file.parse_compose_file(document) or first
    base_paths = tuple(stack.path for stack in stacks[:-1])
    return replace(merged, path=last.path, base_paths=base_paths)


def _parse_file(snapshot: PipelineSnapshot, path: str, text: str) -> yaml_document.YamlDocument | None:
    if not path.endswith((".yml", ".yaml")):
        if _ENV_EXAMPLE_PATH.fullmatch(path):
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
