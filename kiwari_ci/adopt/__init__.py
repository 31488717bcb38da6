"""A first spec from what a repository holds: read each kind of file, decide, write.

files → images, stacks, workflows, routes (what others wrote) → services, environments, databases, domains (what the
spec calls them) → composing (the spec in the making) → draft (its text, of which validation refuses nothing).
"""

import shlex
from pathlib import Path

from kiwari_ci import derive, source
from kiwari_ci.adopt import addition, composing, databases, draft, environments, words
from kiwari_ci.adopt.addresses import routes
from kiwari_ci.adopt.composing import Composed, Facts
from kiwari_ci.adopt.domains import domains
from kiwari_ci.adopt.draft import First, Table
from kiwari_ci.adopt.images import images
from kiwari_ci.adopt.repository import Repository
from kiwari_ci.adopt.services import Services, services
from kiwari_ci.adopt.stacks import Stack, is_postgres, proxy_of, stacks
from kiwari_ci.adopt.words import Fact
from kiwari_ci.adopt.workflows import Workflows, workflows
from kiwari_ci.problems import Faults, Problem
from kiwari_ci.texts import Repository as Slug

HEAD = """\
# A first spec, from what the repository holds. Behind a value: the place it was read at, or what it was guessed from.
# Where init could not tell, the comment has the line to write. Next: kiwari-ci validate
"""
_IS_SLUG = words.fits(Slug)


def first_spec(folder: Path, slug: str | None = None) -> First:
    """Read a repository and write nothing; raises Faults for one that no spec can be made of."""
    repository = Repository(folder)
    _refuse_part(folder, repository)
    existing = [path for path in repository.matching(r"specs/[^/]+\.ya?ml") if _is_spec(repository.root / path)]
    found, flows = stacks(repository), workflows(repository)
    built = images(repository, found, flows)
    if not built.built:
        raise Faults([_nothing(folder, built.left)])
    identity = _identity(folder, repository, slug)
    facts, left = _decided(
        repository, identity, found, flows, services(repository, built.built, found, flows, routes(repository))
    )
    if not facts.services:
        hint = "give one a port: EXPOSE 8080 in its Dockerfile"
        raise Faults([Problem("nothing-to-serve", f"no service: {'; '.join(left[:5])}", folder.as_posix(), hint=hint)])
    left += (
        [f"{path}: {why}" for path, why in built.left] + _third_parties(found, facts) + composing.seen(facts.services)
    )
    read = {
        "Dockerfiles": len(built.built) + len(built.left),
        "compose files": len(found),
        "workflows": len(flows.files),
    }
    if existing:
        return addition.of(existing, facts, left, read)
    return _new(repository, composing.composed(facts), facts, left + _remains(flows, facts), read)


def report(first: First, folder: Path) -> str:
    """What was found, what to decide, and what to do next, for a person."""
    spec = first.path
    if not first.new and not first.services:
        return f"{spec}: every Dockerfile that belongs to the pipeline has its service; nothing was changed"
    counts = ", ".join(f"{what} {count}" for what, count in first.read.items())
    said = [f"{'wrote' if first.new else 'added to'} {spec}: services {len(first.services)}", f"read: {counts}"]
    width = max(map(len, first.services), default=0)
    said += [f"  {name:{width}}  {draft.plain(words_)}" for name, words_ in first.services.items()]
    said += ["decide:"] if first.decisions else []
    said += [
        f"  {number}. {spec}:{line}: {draft.plain(text)}" for number, (line, text) in enumerate(first.decisions, 1)
    ]
    said += ["not read:", *(f"  {draft.plain(each)}" for each in first.troubles)] if first.troubles else []
    if first.seen:
        said += ["seen, and not in this spec:", *(f"  {draft.plain(each)}" for each in first.seen)]
    there = [] if folder.resolve() == Path.cwd() else [f"cd {shlex.quote(folder.as_posix())}"]
    steps = [f"kiwari-ci {verb}" for verb in ("validate", "lint", "diff --against .", "generate --out .")]
    return "\n".join([*said, "next:", *(f"  {step}" for step in there + steps)])


def _new(repository: Repository, made: Composed, facts: Facts, left: list[str], read: dict[str, int]) -> First:
    path = f"specs/{facts.name}.yaml"
    left = list(dict.fromkeys(left))
    foot = ["Seen, and not in this spec:", *(f"- {line}" for line in left)] if left else []

    def whole(table: Table, dropped: list[str]) -> str:
        comments = "".join(f"# {draft.plain(line)}\n" for line in [*foot, *dropped])
        return (HEAD + draft.text(table) + ("\n" if comments else "") + comments).rstrip("\n") + "\n"

    text, dropped = draft.settled(made.table, path, whole)
    first = First(path, text, None, composing.lines(facts), read, seen=left + dropped, troubles=repository.troubles)
    first.decisions = draft.numbered(source.parse(path, text), made.decisions)
    return first


def _is_spec(path: Path) -> bool:
    """Whether a file in specs/ is one of ours: other tools keep theirs in a folder of that name, too."""
    try:
        data = source.read(path).data
    except Faults:
        return True  # whoever wrote it will be told where
    return isinstance(data, dict) and {"services", "environments"} <= set(data)


def _refuse_part(folder: Path, repository: Repository) -> None:
    if not repository.root.is_dir():
        raise Faults([Problem("no-folder", "no such folder", folder.as_posix(), hint="name the root of a checkout")])
    if repository.top and repository.top != repository.root:
        words_ = "a folder inside of a checkout: paths in a spec start at the checkout's root"
        hint = f"kiwari-ci init {repository.top.as_posix()}"
        raise Faults([Problem("not-the-root", words_, folder.as_posix(), hint=hint)])


def _nothing(folder: Path, left: list[tuple[str, str]]) -> Problem:
    passed = "".join(f"; {path} is {why}" for path, why in left[:3])
    hint = "write a Dockerfile for each thing that runs (docker build . must work), and run init again"
    return Problem("no-dockerfile", f"nothing to go by: no Dockerfile{passed}", folder.as_posix(), hint=hint)


def _identity(folder: Path, repository: Repository, slug: str | None) -> tuple[Fact, Fact]:
    """OWNER/NAME and the default branch."""
    if slug is not None and not _IS_SLUG(slug):
        words_ = f"`{draft.plain(slug)}` is not OWNER/NAME as GitHub writes it"
        raise Faults([Problem("no-repository", words_, folder.as_posix(), hint="--repository example/shop")])
    known = (slug, "") if slug else repository.slug
    if not known:
        words_ = "could not tell the repository on GitHub: no git remote leads there"
        hint = "kiwari-ci init --repository OWNER/NAME, or: git remote add origin git@github.com:OWNER/NAME.git"
        raise Faults([Problem("no-repository", words_, folder.as_posix(), hint=hint)])
    repository.slug = known
    branch, said = repository.branch or ("main", "could not tell: no checkout says it")
    return Fact(*known), Fact(branch, said, guess=not repository.branch)


def _decided(
    repository: Repository, identity: tuple[Fact, Fact], found: list[Stack], flows: Workflows, made: Services
) -> tuple[Facts, list[str]]:
    slug, branch = identity
    places = environments.places(flows, found, str(branch.value))
    hosts = environments.machines(places)
    files = {place.name: stack.name for place in places for stack in found if stack.kind == place.kind and stack.name}
    stacks_ = environments.folders(places, hosts, files)
    proxies = [
        Fact(name, each.where)
        for stack in found
        for each in stack.containers
        if not each.builds and (name := proxy_of(each.image))
    ]
    shared = [fact for service in made.kept for _, container in service.containers for fact in container.networks]
    network = shared[0] if shared else None
    server, left = databases.server(repository, found, places, str(network.value) if network else "proxy")
    by_name, unknown = domains(made.kept, places, routes(repository))
    name, _, _ = composing.names(made.kept, str(slug.value))
    facts = Facts(
        repository, name, slug, branch, made.kept, places, hosts, stacks_, by_name, server, proxies, network
    )  # fmt: skip
    return facts, made.left + left + unknown


def _third_parties(found: list[Stack], facts: Facts) -> list[str]:
    """Containers of images that are not built here."""
    ours = {id(container) for service in facts.services for _, container in service.containers}
    known: dict[str, str] = {}
    for stack in found:
        for each in stack.containers:
            if id(each) not in ours and each.image and not each.builds and not is_postgres(each.image):
                known.setdefault(f"{each.name}: {each.image}", each.where)
    return [f"{what} ({where})" for what, where in known.items()]


def _remains(flows: Workflows, facts: Facts) -> list[str]:
    """Workflows that build or deploy today; `generate` writes over none of them unasked."""
    own = {step.workflow for step in flows.builds} | {job.workflow for job in flows.deploys}
    ours = {f".github/workflows/{derive.workflow_name(found.name)}.yml" for found in facts.services}
    ours.add(".github/workflows/promote.yml")
    again = {True: "generate --force writes its own in its place", False: "remove it with the first generated pipeline"}
    return [f"{path}: builds or deploys today; {again[path in ours]}" for path in sorted(own)]
