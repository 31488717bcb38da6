"""A first spec from what a repository holds: read each kind of file, decide, write.

files → images, stacks, workflows, routes (what others wrote) → deciding: services, environments, databases, domains
(what the spec calls them) → composing (a spec in the making) → draft (its text, of which validation refuses nothing).
"""

import shlex
from dataclasses import replace
from pathlib import Path

from kiwari_ci import generator
from kiwari_ci.commands.init import draft_text, extend_spec, spec_draft
from kiwari_ci.commands.init.collect import collect_findings, find_replaced_workflows
from kiwari_ci.commands.init.compose_files import read_compose_files
from kiwari_ci.commands.init.dockerfiles import ImageDetection, detect_images
from kiwari_ci.commands.init.draft_text import CommentedMapping, InitResult
from kiwari_ci.commands.init.errors import build_init_error
from kiwari_ci.commands.init.findings import RepositoryFindings
from kiwari_ci.commands.init.workflow_files import read_workflows
from kiwari_ci.loading import yaml_source
from kiwari_ci.problems import SpecError
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.repository import LocalRepository
from kiwari_ci.readers.vocabulary import SourcedValue
from kiwari_ci.schema.text_formats import RepositoryName as Slug

SPEC_HEADER = """\
# A first spec, from what the repository holds. Behind a value: the place it was read at, or what it was guessed from.
# Where init could not tell, the comment has the line to write. Next: kiwari-ci validate
"""
NEXT_COMMANDS = ("validate", "lint", "diff")
_IS_REPOSITORY_SLUG = vocabulary.build_validator(Slug)


def build_init_result(folder: Path, slug: str | None = None) -> InitResult:
    """Read a repository and write nothing; raises Faults for one that no spec can be made of."""
    repository = LocalRepository(folder)
    identity = _detect_slug_and_branch(folder, repository, slug)
    existing = [path for path in repository.matching(r"specs/[^/]+\.ya?ml") if _is_kiwari_spec(repository, path)]
    if existing and not identity:
        own = generator.load_spec(repository.root / existing[0]).spec.project.repository
        identity = _detect_slug_and_branch(folder, repository, own)
    found, flows = read_compose_files(repository), read_workflows(repository)
    built = detect_images(repository, found, flows, has_spec=bool(existing))
    if not built.built:
        raise _build_no_image_error(folder, built)
    if not identity:
        command = shlex.join(["kiwari-ci", "init", *_get_folder_arguments(folder), "--repository"])
        hint = f"{command} OWNER/NAME, or: git remote add origin git@github.com:OWNER/NAME.git"
        said = "could not tell which repository on GitHub it is: no git remote leads there"
        raise build_init_error("no-repository", said, folder.as_posix(), hint)
    facts, left = collect_findings(repository, identity, found, flows, built)
    read = {
        "Dockerfiles": len(built.built) + len(built.left),
        "compose files": len(found),
        "workflows": len(flows.files),
    }
    if existing:
        return replace(extend_spec.add_missing_services(existing, facts, read), replaces=find_replaced_workflows(flows))
    if not facts.services:
        hint = "a web server in the image, or in one beside it: EXPOSE 8080"
        raise build_init_error("no-service", f"no service: {'; '.join(left[:5])}", folder.as_posix(), hint)
    left += [
        f"{path}: builds or deploys today; remove it with the first generated pipeline"
        for path in find_replaced_workflows(flows)
    ]
    return replace(_draft_new_spec(facts, list(dict.fromkeys(left)), read), replaces=find_replaced_workflows(flows))


def _build_no_image_error(folder: Path, built: ImageDetection) -> SpecError:
    passed = "".join(f"; {path}: {why}" for path, why in built.left[:3])
    hint = "write a Dockerfile for each thing that runs (docker build . must work), and run init again"
    return build_init_error(
        "no-dockerfile",
        f"nothing to go by: no Dockerfile that is built for production{passed}",
        folder.as_posix(),
        hint,
    )


def format_init_result(first: InitResult, folder: Path) -> str:
    """What was found, what to decide, and what to do next, for a person."""
    spec = first.path
    said = [f"{'wrote' if first.new else 'added to'} {spec}: services {len(first.services)}"]
    if not first.new and not first.services:
        said = [f"{spec}: every Dockerfile of the pipeline has its service; nothing was changed"]
    said.append("read: " + ", ".join(f"{what} {count}" for what, count in first.read.items()))
    width = max(map(len, first.services), default=0)
    said += [f"  {name:{width}}  {draft_text.to_single_line(words_)}" for name, words_ in first.services.items()]
    if first.decisions:
        said.append("decide:")
        said += [
            f"  {number}. {spec}:{line}: {draft_text.to_single_line(text)}"
            for number, (line, text) in enumerate(first.decisions, 1)
        ]
    for title, lines in (("look at:", first.troubles), ("seen, and not in this spec:", first.seen)):
        said += [title, *(f"  {draft_text.to_single_line(each)}" for each in lines)] if lines else []
    if first.new or first.services:
        there = [f"cd {shlex.quote(name)}" for name in _get_folder_arguments(folder)]
        one = (
            sum(path.exists() for path in (folder / "specs").glob("*.y*ml")) == 1
        )  # what the commands find by themselves
        name = "" if one else f" {shlex.quote(spec)}"
        steps = [f"kiwari-ci {verb}{name}" for verb in NEXT_COMMANDS]
        if first.replaces:
            old = shlex.join(map(draft_text.to_single_line, first.replaces))
            steps.append(f"rm {old} # builds or deploys today, and would go on beside the new ones")
        steps.append(f"kiwari-ci generate{name}")
        said += ["next:", *(f"  {step}" for step in there + steps)]
    return "\n".join(said)


def _get_folder_arguments(folder: Path) -> list[str]:
    """The folder as a command here must name it: not at all, when it is this one."""
    return [] if folder.resolve() == Path.cwd() else [folder.as_posix()]


def _draft_new_spec(facts: RepositoryFindings, left: list[str], read: dict[str, int]) -> InitResult:
    made, path = spec_draft.build_spec_draft(facts), f"specs/{facts.name}.yaml"
    left += made.seen

    def whole(table: CommentedMapping, dropped: list[str]) -> str:
        foot = ["", "# Seen, and not in this spec:"] if left or dropped else []
        foot += [f"# - {draft_text.to_single_line(line)}" for line in [*left, *dropped]]
        return (
            SPEC_HEADER + draft_text.render_mapping(table).rstrip("\n") + "\n" + "".join(f"{line}\n" for line in foot)
        )

    text, dropped = draft_text.drop_until_valid(made.table, path, whole)
    first = InitResult(
        path,
        text,
        None,
        spec_draft.summarize_services(facts),
        read,
        seen=left + dropped,
        troubles=facts.repository.troubles,
    )
    first.decisions = draft_text.locate_decisions(yaml_source.parse_yaml(path, text), made.decisions)
    return first


def _is_kiwari_spec(repository: LocalRepository, path: str) -> bool:
    """Whether a file in specs/ is one of ours: other tools keep theirs in a folder of that name, too."""
    if not (repository.root / path).exists():
        repository.troubles.append(f"{path}: a link to nowhere")
        return False
    try:
        data = yaml_source.load_yaml(repository.root / path).data
    except SpecError:
        return True  # whoever wrote it will be told where
    return isinstance(data, dict) and {"services", "environments"} <= set(data)


def _detect_slug_and_branch(
    folder: Path, repository: LocalRepository, slug: str | None
) -> tuple[SourcedValue, SourcedValue] | None:
    """OWNER/NAME and the default branch; None when nothing says the first."""
    if not repository.root.is_dir():
        raise build_init_error("no-folder", "no such folder", folder.as_posix(), "name the root of a checkout")
    if repository.top and repository.top != repository.root:
        said = "a folder inside of a checkout: the paths in a spec start at the checkout's root"
        raise build_init_error(
            "not-the-root", said, folder.as_posix(), f"kiwari-ci init {shlex.quote(repository.top.as_posix())}"
        )
    if slug is not None and not _IS_REPOSITORY_SLUG(slug):
        said = f"`{draft_text.to_single_line(slug)}` is not OWNER/NAME as GitHub writes it"
        raise build_init_error("no-repository", said, folder.as_posix(), "--repository example/shop")
    known = (slug, "") if slug else repository.slug
    if not known:
        return None
    repository.slug = known
    branch, said = repository.branch or ("main", "could not tell: no checkout says it")
    return SourcedValue(*known), SourcedValue(branch, said, guess=not repository.branch)
