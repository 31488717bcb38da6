"""A first spec from what a repository holds: read each kind of file, decide, write.

The readers of each kind of file say what others wrote. `collect` puts that together as services, environments,
databases and domains. `spec_draft` makes a spec of it, and `draft_text` its text, without what validation refuses.
"""

import shlex
from dataclasses import replace
from pathlib import Path

from kiwari_ci import generator
from kiwari_ci.commands.init import draft_text, extend_spec, spec_draft
from kiwari_ci.commands.init.collect import collect_findings
from kiwari_ci.commands.init.compose_choice import leave_out_unnamed_files, put_deployed_files_first
from kiwari_ci.commands.init.compose_files import leave_out_base_files, read_compose_files
from kiwari_ci.commands.init.dockerfiles import ImageDetection, detect_images
from kiwari_ci.commands.init.draft_text import CommentedMapping, InitResult
from kiwari_ci.commands.init.environments import list_deployed_development_names, list_deployed_kinds
from kiwari_ci.commands.init.errors import build_init_error
from kiwari_ci.commands.init.findings import RepositoryFindings
from kiwari_ci.commands.init.services import DetectedService
from kiwari_ci.commands.init.shared_repositories import name_images_of_shared_repositories
from kiwari_ci.commands.init.workflow_files import list_written_variables, read_workflows
from kiwari_ci.commands.init.workflow_jobs import DetectedWorkflows
from kiwari_ci.commands.init.workflow_outcomes import WorkflowOutcome, decide_workflow_outcomes
from kiwari_ci.effective_spec import EffectiveSpec
from kiwari_ci.problems import SpecError
from kiwari_ci.readers import installed_tool, vocabulary
from kiwari_ci.readers.repository import LocalRepository
from kiwari_ci.readers.vocabulary import SourcedValue
from kiwari_ci.schema.text_formats import RepositoryName as Slug
from kiwari_ci.spec_loading import yaml_source

SPEC_HEADER = """\
# A first spec, from what the repository holds. Behind a value: the place it was read at, or what it was guessed from.
# Where init could not tell, the comment has the line to write. Next: kiwari-ci validate
"""
SEEN_TITLE = "# Seen, and not in this spec:\n"
NEXT_COMMANDS = ("validate", "lint", "diff")
_IS_REPOSITORY_SLUG = vocabulary.build_validator(Slug)


def build_init_result(folder: Path, slug: str | None = None) -> InitResult:
    """Read a repository and write nothing; raises SpecError for one that no spec can be made of."""
    repository = LocalRepository(folder)
    identity = _detect_slug_and_branch(folder, repository, slug)
    existing_specs = [path for path in repository.matching(r"specs/[^/]+\.ya?ml") if _is_kiwari_spec(repository, path)]
    if existing_specs and not identity:
        slug_of_spec = generator.load_spec(repository.root / existing_specs[0]).spec.project.repository
        identity = _detect_slug_and_branch(folder, repository, slug_of_spec)
    workflows = read_workflows(repository)
    repository.written_variables = list_written_variables(repository, workflows)
    named_groups = {group for deploy in workflows.deploys for group in deploy.compose_file_groups}
    compose_files = read_compose_files(repository, list_deployed_development_names(workflows), sorted(named_groups))
    put_deployed_files_first(repository, compose_files, workflows)
    name_images_of_shared_repositories(repository, workflows, compose_files)
    unused_files = leave_out_base_files(
        compose_files, workflows.join_texts(), list_deployed_kinds(workflows), named_groups
    )
    unused_files |= leave_out_unnamed_files(compose_files, workflows)
    images = detect_images(repository, compose_files, workflows, has_spec=bool(existing_specs))
    if not images.images:
        raise _build_no_image_error(folder, images)
    if not identity:
        raise _build_no_repository_error(folder)
    facts, left_out = collect_findings(repository, identity, compose_files, workflows, images)
    file_counts = {
        "Dockerfiles": len(images.images) + len(images.skipped),
        "compose files": len({file.path for file in compose_files}),
        "workflows": len(workflows.files),
    }
    services = list(facts.services)
    if existing_specs:
        result = extend_spec.add_missing_services(existing_specs, facts, file_counts)
        specs = [
            generator.load_spec(repository.root / path).effective for path in existing_specs if path != result.path
        ]
        return _add_workflow_outcomes(result, specs, workflows, facts, services)
    if not facts.services:
        message = f"no service: {'; '.join(left_out[:5])}"
        hint = "a Dockerfile for a program that runs on the server"
        raise build_init_error("no-service", message, folder.as_posix(), hint)
    left_out += [f"{path}: not used, because {reason}" for path, reason in unused_files.items()]
    result = _draft_new_spec(facts, list(dict.fromkeys(left_out)), file_counts)
    result = _add_workflow_outcomes(result, [], workflows, facts, services)
    return _add_not_replaced_comments(result)


def _add_workflow_outcomes(
    result: InitResult,
    other_specs: list[EffectiveSpec],
    workflows: DetectedWorkflows,
    facts: RepositoryFindings,
    services: list[DetectedService],
) -> InitResult:
    """Decide what becomes of the workflows that are there, by the text of the spec that is now whole."""
    spec = generator.validate_and_plan(
        yaml_source.parse_yaml(result.path, extend_spec.normalize_text(result.text))
    ).effective
    outcomes = decide_workflow_outcomes(
        workflows, services, [spec, *other_specs], str(facts.slug.value), facts.repository
    )
    return replace(result, workflows=outcomes)


def _add_not_replaced_comments(result: InitResult) -> InitResult:
    """Write behind a new spec what the jobs of today do that nothing in it replaces."""
    notes = []
    for workflow in result.workflows:
        for outcome in workflow.jobs:
            head = f"{outcome.where}: {outcome.job}: "
            if not outcome.is_kept:
                notes += draft_text.join_in_lines(f"{head}not replaced: ", outcome.not_replaced)
            notes += draft_text.join_in_lines(head, outcome.list_lost_gates())
        gate = workflow.describe_gate()
        if gate:
            notes.append(f"{workflow.path}: {gate}")
    if not notes:
        return result
    text = result.text if result.seen else f"{result.text}\n{SEEN_TITLE}"
    text += "".join(map(draft_text.format_comment_item, notes))
    return replace(result, text=text)


def _build_no_image_error(folder: Path, images: ImageDetection) -> SpecError:
    skipped = "".join(f"; {path}: {reason}" for path, reason in images.skipped[:3])
    message = f"nothing to go by: no Dockerfile that is built for production{skipped}"
    hint = "write a Dockerfile for each thing that runs (docker build . must work), and run init again"
    return build_init_error("no-dockerfile", message, folder.as_posix(), hint)


def _build_no_repository_error(folder: Path) -> SpecError:
    message = "could not tell which repository on GitHub it is: no git remote leads there"
    command = shlex.join(["kiwari-ci", "init", *_get_folder_arguments(folder), "--repository"])
    hint = f"{command} OWNER/NAME, or: git remote add origin git@github.com:OWNER/NAME.git"
    return build_init_error("no-repository", message, folder.as_posix(), hint)


def format_init_result(result: InitResult, folder: Path) -> str:
    """What was found, what to decide, and what to do next, for a person."""
    if not result.new and not result.services:
        lines = [f"{result.path}: every Dockerfile of the pipeline has its service; nothing was changed"]
    else:
        lines = [f"{'wrote' if result.new else 'added to'} {result.path}: services {len(result.services)}"]
    lines.append("read: " + ", ".join(f"{kind} {count}" for kind, count in result.read.items()))
    width = max(map(len, result.services), default=0)
    for name, summary in result.services.items():
        lines.append(f"  {name:{width}}  {draft_text.to_single_line(summary)}")
    if result.decisions:
        lines.append("decide:")
        for number, (line, question) in enumerate(result.decisions, 1):
            lines += draft_text.indent_further_lines(f"  {number}. ", f"{result.path}:{line}: {question}")
    for title, notes in (("look at:", result.troubles), ("seen, and not in this spec:", result.seen)):
        if notes:
            lines.append(title)
            for note in notes:
                lines += draft_text.indent_further_lines("  ", note)
    if result.new or result.services:
        if result.workflows:
            lines.append("workflows of today:")
            for description in _describe_workflows(result.workflows):
                lines += draft_text.indent_further_lines("  ", description)
        lines.append("next:")
        lines += [f"  {command}" for command in _list_next_commands(result, folder)]
    return "\n".join(lines)


def _list_next_commands(result: InitResult, folder: Path) -> list[str]:
    """What to type next; the commands find the spec by themselves when it is the only one."""
    is_only_spec = sum(path.exists() for path in (folder / "specs").glob("*.y*ml")) == 1
    spec_argument = "" if is_only_spec else f" {shlex.quote(result.path)}"
    commands = [f"cd {shlex.quote(name)}" for name in _get_folder_arguments(folder)]
    commands += [f"kiwari-ci {command}{spec_argument}" for command in NEXT_COMMANDS]
    removable = [workflow.path for workflow in result.workflows if workflow.is_removable]
    if removable:
        files = shlex.join(map(draft_text.to_single_line, removable))
        commands.append(f"rm {files} # in the pull request that brings the new ones: every job is replaced")
    for workflow in result.workflows:
        if workflow.replaced_jobs and not workflow.is_removable:
            jobs = draft_text.to_single_line(", ".join(workflow.replaced_jobs))
            path = draft_text.to_single_line(workflow.path)
            commands.append(f"# in the same pull request, remove from {path} what is replaced: {jobs}")
        for outcome in workflow.jobs:
            if outcome.deploys_in_part:
                place = draft_text.to_single_line(f"{workflow.path}: {outcome.job}")
                commands.append(f"# {place} would deploy beside the new ones: keep only what is not replaced")
    commands.append(f"kiwari-ci generate{spec_argument}")
    return commands


def _describe_workflows(workflows: list[WorkflowOutcome]) -> list[str]:
    """What becomes of each workflow, and of each job of those that build, test or deploy."""
    lines = []
    for workflow in workflows:
        if workflow.is_kept:
            reasons = "; ".join(outcome.kept_because for outcome in workflow.jobs if outcome.kept_because)
            lines.append(f"{workflow.path}: kept: it {reasons}" if reasons else f"{workflow.path}: kept")
            continue
        callers = f": needed by {', '.join(workflow.called_by)}" if workflow.called_by else ""
        lines.append(f"{workflow.path}{callers}")
        for outcome in workflow.jobs:
            lines += draft_text.join_in_lines(f"- {outcome.job}: ", outcome.list_parts())
        gate = workflow.describe_gate()
        if gate:
            lines.append(f"- {gate}")
    return lines


def _get_folder_arguments(folder: Path) -> list[str]:
    """The folder as a command here must name it: not at all, when it is this one."""
    return [] if folder.resolve() == Path.cwd() else [folder.as_posix()]


def _draft_new_spec(facts: RepositoryFindings, left_out: list[str], file_counts: dict[str, int]) -> InitResult:
    path = f"specs/{facts.name}.yaml"
    draft = spec_draft.build_spec_draft(facts)
    notes = [*left_out, *draft.seen]

    def render_spec(table: CommentedMapping, dropped: list[str]) -> str:
        text = SPEC_HEADER + draft_text.render_mapping(table).rstrip("\n") + "\n"
        if notes or dropped:
            text += f"\n{SEEN_TITLE}"
        for note in [*notes, *dropped]:
            text += draft_text.format_comment_item(note)
        return text

    text, dropped = draft_text.drop_until_valid(draft.table, path, render_spec)
    source = yaml_source.parse_yaml(path, text)
    if not generator.can_install_tool(generator.validate_and_plan(source).plan):
        question = "the drift check must install this tool, and nobody knows from where it was installed here: "
        draft.decide(("project",), question + installed_tool.explain_unknown_source())
    result = InitResult(
        path,
        text,
        None,
        spec_draft.summarize_services(facts, draft.table),
        file_counts,
        seen=[*notes, *dropped],
        troubles=facts.repository.troubles,
    )
    result.decisions = draft_text.locate_decisions(source, draft.decisions)
    return result


def _is_kiwari_spec(repository: LocalRepository, path: str) -> bool:
    """Whether a file in specs/ is one of ours: other tools keep theirs in a folder of that name, too."""
    if not (repository.root / path).exists():
        repository.troubles.append(f"{path}: a link to nowhere")
        return False
    try:
        document = yaml_source.load_yaml(repository.root / path).data
    except SpecError:
        return True  # whoever wrote it will be told where
    return isinstance(document, dict) and {"services", "environments"} <= set(document)


def _detect_slug_and_branch(
    folder: Path, repository: LocalRepository, slug: str | None
) -> tuple[SourcedValue, SourcedValue] | None:
    """OWNER/NAME and the default branch; None when nothing says the first."""
    if not repository.root.is_dir():
        raise build_init_error("no-folder", "no such folder", folder.as_posix(), "name the root of a checkout")
    if repository.top and repository.top != repository.root:
        message = "a folder inside of a checkout: the paths in a spec start at the checkout's root"
        hint = f"kiwari-ci init {shlex.quote(repository.top.as_posix())}"
        raise build_init_error("not-the-root", message, folder.as_posix(), hint)
    if slug is not None and not _IS_REPOSITORY_SLUG(slug):
        message = f"`{draft_text.to_single_line(slug)}` is not OWNER/NAME as GitHub writes it"
        raise build_init_error("no-repository", message, folder.as_posix(), "--repository example/shop")
    if slug:
        repository.slug = (slug, "")
    if not repository.slug:
        return None
    branch, where = repository.branch or ("main", "a guess: this clone has no `origin/HEAD`")
    return SourcedValue(*repository.slug), SourcedValue(branch, where, guess=not repository.branch)
