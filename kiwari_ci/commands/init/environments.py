"""Which environments there are: what deploys today, and how this spec reaches them."""

import re
from dataclasses import dataclass, field

from kiwari_ci.commands.init.compose_files import Stack
from kiwari_ci.commands.init.workflow_jobs import DeployJob, Workflows
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.vocabulary import PRODUCTION, STAGING, Fact
from kiwari_ci.rules.names import RUNNER_VARIABLE
from kiwari_ci.schema.text_formats import Branch, HostFolder, SecretName, TagPattern, Word

_IS_BRANCH, _IS_TAG = vocabulary.fits(Branch), vocabulary.fits(TagPattern)
_IS_WORD, _IS_FOLDER, _IS_SECRET = vocabulary.fits(Word), vocabulary.fits(HostFolder), vocabulary.fits(SecretName)
_NAMES = {PRODUCTION: PRODUCTION, STAGING: STAGING}


@dataclass
class Place:
    """An environment."""

    name: str
    kind: str
    where: str
    push: str = ""
    tag: str = ""
    promote: str = ""
    notes: list[str] = field(default_factory=list)  # what differs from today
    urls: list[Fact] = field(default_factory=list)
    settings: dict[str, tuple[str, str]] = field(default_factory=dict)
    folders: list[Fact] = field(default_factory=list)
    guess: bool = False
    by_hand: bool = False


@dataclass
class Machine:
    """A host: its settings by role, and its folder of stacks."""

    name: str
    settings: dict[str, tuple[str, str]]
    where: str
    directory: Fact | None = None


def places(flows: Workflows, stacks: list[Stack], branch: str) -> list[Place]:
    """The environments, those that build first; made up from the compose files where no workflow deploys."""
    found: dict[str, Place] = {}
    for job in flows.deploys:
        kind = vocabulary.kind_of(job.name) or vocabulary.kind_of(job.words)
        if kind == vocabulary.AWAY and not job.name:
            continue
        name = vocabulary.word(job.name) or _NAMES.get(kind, PRODUCTION)
        place = found.setdefault(name, Place(name, kind or PRODUCTION, job.where))
        _add(place, job, branch)
    if not found:
        return _from_stacks(stacks, branch)
    return _reachable(list(found.values()), branch)


def _add(place: Place, job: DeployJob, branch: str) -> None:
    pushes = [name for name in job.trigger.branches if _IS_BRANCH(name)]
    wild = [name for name in job.trigger.branches if not _IS_BRANCH(name)]
    if not place.push and (pushes or wild):
        place.push = branch if branch in pushes or not pushes else pushes[0]
        if wild or len(pushes) > 1:
            place.notes.append(f"{job.where} runs on {', '.join(job.trigger.branches)}: here it is one branch")
    if not place.tag and job.trigger.tags:
        place.tag = _pattern(job.trigger.tags[0])
        if place.tag != job.trigger.tags[0] or "-" in place.tag:
            place.notes.append(f"{job.where} runs on tags {', '.join(job.trigger.tags)}")
    place.notes += job.notes
    place.by_hand |= job.trigger.by_hand
    place.urls += job.urls
    place.folders += job.folders
    for role, setting in job.settings.items():
        place.settings.setdefault(role, setting)


def _pattern(tag: str) -> str:
    """A tag filter as prefix and star, and what a candidate has behind it."""
    prefix = re.match(r"(?:[A-Za-z][A-Za-z_-]*(?:[./][A-Za-z_-]+)*)?", tag)
    candidate = re.search(r"-[A-Za-z][A-Za-z0-9]*\.?(?=\*|\[|$)", tag[len(prefix[0]) if prefix else 0 :])
    made = f"{prefix[0] if prefix else ''}*" + (f"{candidate[0]}*" if candidate else "")
    return made if _IS_TAG(made) else "v*"


def _reachable(found: list[Place], branch: str) -> list[Place]:
    """As today; what a tag or a person starts takes the images that another environment has from the same branch."""
    for place in found:
        if not (place.push or place.tag or place.by_hand):
            place.by_hand = place.guess = True
            place.notes.append("could not tell what starts it today: here a person does")
        if place.push and place.tag and place.push != branch:
            place.notes.append(f"tags ({place.tag}) deploy it, too, today; they have another order than {place.push}")
            place.tag = ""
    early = next((place for place in found if place.push == branch and place.kind != PRODUCTION), None)
    for place in found:
        if early and not place.push:
            place.promote = early.name
    return sorted(found, key=lambda place: (not place.push, bool(place.promote), place.kind == PRODUCTION))


def _from_stacks(stacks: list[Stack], branch: str) -> list[Place]:
    of_kind = {kind: next((stack.path for stack in stacks if stack.kind == kind), "") for kind in (PRODUCTION, STAGING)}
    if of_kind[STAGING]:
        first = Place(STAGING, STAGING, of_kind[STAGING], branch, guess=True)
        second = Place(
            PRODUCTION, PRODUCTION, of_kind[PRODUCTION] or of_kind[STAGING], tag="v*", promote=STAGING, guess=True
        )
        return [first, second]
    return [Place(PRODUCTION, PRODUCTION, of_kind[PRODUCTION], branch, guess=True)]


def machines(found: list[Place]) -> dict[str, Machine]:
    """The host of each environment: one for each address that the workflows use, one in all when they name none."""
    made: dict[str, Machine] = {}
    known = next((place for place in found if "address" in place.settings), None)
    for place in found:
        if not (place.settings.get("address") or not known):
            place = Place(place.name, place.kind, known.where, settings=known.settings)
        address = place.settings.get("address", ("", ""))[1]
        usual = re.sub(r"_?(SSH_)?(HOST|HOSTNAME|IP|ADDRESS|SERVER)$", "", address).lower()
        name = vocabulary.word(usual) or "server"
        name = (
            name if _IS_WORD(name) and not re.fullmatch(RUNNER_VARIABLE, name.upper().replace("-", "_")) else "server"
        )
        made[place.name] = Machine(name, dict(place.settings), place.where)
    _apart(made)
    return made


def _apart(made: dict[str, Machine]) -> None:
    """Hosts by name; two of them share no setting, and none has one name for two things."""
    first: dict[str, Machine] = {}
    used: dict[str, str] = {}
    for environment, machine in made.items():
        machine = made[environment] = first.setdefault(machine.name, machine)
        for role, (_, setting) in list(machine.settings.items()):
            owner = f"{machine.name} {role}"
            fine = (
                _IS_SECRET(setting)
                and not re.fullmatch(RUNNER_VARIABLE, setting)
                and used.setdefault(setting, owner) == owner
            )
            if role != "token" and not fine:
                del machine.settings[role]


def folders(found: list[Place], hosts: dict[str, Machine], known: dict[str, Fact]) -> dict[str, Fact]:
    """The stack of each environment, and into `hosts` the folder of stacks, when the deploys of a host agree on it."""
    stacks: dict[str, Fact] = {}
    parents: dict[str, set[str]] = {}
    for place in found:
        same = {fact.value for fact in place.folders}
        for fact in place.folders[:1] if len(same) == 1 else ():
            above, _, name = fact.value.rpartition("/")
            parents.setdefault(hosts[place.name].name, set()).add(above)
            if _IS_WORD(name):
                stacks[place.name] = Fact(name, fact.where)
    for place in found:
        host = hosts[place.name]
        above = parents.get(host.name, set())
        if len(above) == 1 and _IS_FOLDER(only := next(iter(above))):
            host.directory = Fact(only, place.folders[0].where if place.folders else host.where)
        if place.name in known:
            stacks.setdefault(place.name, known[place.name])
    names = [fact.value for fact in stacks.values()]
    return {name: fact for name, fact in stacks.items() if names.count(fact.value) == 1}
