"""Which environments there are: what deploys today, and how this spec reaches them."""

import re
from dataclasses import dataclass, field

from kiwari_ci.commands.init.compose_files import DetectedComposeFile
from kiwari_ci.commands.init.workflow_jobs import DeployJob, DetectedWorkflows
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.vocabulary import PRODUCTION, STAGING, SourcedValue
from kiwari_ci.rules.names import RUNNER_VARIABLE_PATTERN
from kiwari_ci.schema.text_formats import BranchName, HostFolder, SecretName, Slug, TagPattern

_IS_BRANCH_NAME, _IS_TAG_PATTERN = vocabulary.build_validator(BranchName), vocabulary.build_validator(TagPattern)
_IS_SLUG, _IS_HOST_FOLDER, _IS_SECRET_NAME = (
    vocabulary.build_validator(Slug),
    vocabulary.build_validator(HostFolder),
    vocabulary.build_validator(SecretName),
)
_DEFAULT_NAMES = {PRODUCTION: PRODUCTION, STAGING: STAGING}


@dataclass
class DetectedEnvironment:
    """An environment."""

    name: str
    kind: str
    where: str
    push: str = ""
    tag: str = ""
    promote: str = ""
    notes: list[str] = field(default_factory=list)  # what differs from today
    urls: list[SourcedValue] = field(default_factory=list)
    settings: dict[str, tuple[str, str]] = field(default_factory=dict)
    folders: list[SourcedValue] = field(default_factory=list)
    guess: bool = False
    by_hand: bool = False


@dataclass
class DetectedHost:
    """A host: its settings by role, and its folder of stacks."""

    name: str
    settings: dict[str, tuple[str, str]]
    where: str
    directory: SourcedValue | None = None


def detect_environments(
    flows: DetectedWorkflows, stacks: list[DetectedComposeFile], branch: str
) -> list[DetectedEnvironment]:
    """The environments, those that build first; made up from the compose files where no workflow deploys."""
    found: dict[str, DetectedEnvironment] = {}
    for job in flows.deploys:
        name = name_environment(job)
        if not name:
            continue
        place = found.setdefault(name, DetectedEnvironment(name, _classify_deploy_job(job) or PRODUCTION, job.where))
        _add_deploy_job(place, job, branch)
    if not found:
        return _guess_environments(stacks, branch)
    return _complete_triggers(list(found.values()), branch)


def name_environment(job: DeployJob) -> str:
    """The name in the spec of what a job deploys; empty for what is only for development."""
    kind = _classify_deploy_job(job)
    if kind == vocabulary.DEVELOPMENT and not job.name:
        return ""
    return vocabulary.slugify(job.name) or _DEFAULT_NAMES.get(kind, PRODUCTION)


def _classify_deploy_job(job: DeployJob) -> str:
    return vocabulary.classify_environment(job.name) or vocabulary.classify_environment(job.words)


def _add_deploy_job(place: DetectedEnvironment, job: DeployJob, branch: str) -> None:
    pushes = [name for name in job.trigger.branches if _IS_BRANCH_NAME(name)]
    wild = [name for name in job.trigger.branches if not _IS_BRANCH_NAME(name)]
    if not place.push and (pushes or wild):
        place.push = branch if branch in pushes or not pushes else pushes[0]
        if wild or len(pushes) > 1:
            place.notes.append(f"{job.where} runs on {', '.join(job.trigger.branches)}: here it is one branch")
    if not place.tag and job.trigger.tags:
        place.tag = _simplify_tag_pattern(job.trigger.tags[0])
        if place.tag != job.trigger.tags[0] or "-" in place.tag:
            place.notes.append(f"{job.where} runs on tags {', '.join(job.trigger.tags)}")
    place.notes += job.notes
    place.by_hand |= job.trigger.by_hand
    place.urls += job.urls
    place.folders += job.folders
    for role, setting in job.settings.items():
        place.settings.setdefault(role, setting)


def _simplify_tag_pattern(tag: str) -> str:
    """A tag filter as prefix and star, and what a candidate has behind it."""
    prefix = re.match(r"(?:[A-Za-z][A-Za-z_-]*(?:[./][A-Za-z_-]+)*)?", tag)
    candidate = re.search(r"-[A-Za-z][A-Za-z0-9]*\.?(?=\*|\[|$)", tag[len(prefix[0]) if prefix else 0 :])
    made = f"{prefix[0] if prefix else ''}*" + (f"{candidate[0]}*" if candidate else "")
    return made if _IS_TAG_PATTERN(made) else "v*"


def _complete_triggers(found: list[DetectedEnvironment], branch: str) -> list[DetectedEnvironment]:
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


def _guess_environments(stacks: list[DetectedComposeFile], branch: str) -> list[DetectedEnvironment]:
    of_kind = {kind: next((stack.path for stack in stacks if stack.kind == kind), "") for kind in (PRODUCTION, STAGING)}
    if of_kind[STAGING]:
        first = DetectedEnvironment(STAGING, STAGING, of_kind[STAGING], branch, guess=True)
        second = DetectedEnvironment(
            PRODUCTION, PRODUCTION, of_kind[PRODUCTION] or of_kind[STAGING], tag="v*", promote=STAGING, guess=True
        )
        return [first, second]
    return [DetectedEnvironment(PRODUCTION, PRODUCTION, of_kind[PRODUCTION], branch, guess=True)]


def detect_hosts(found: list[DetectedEnvironment]) -> dict[str, DetectedHost]:
    """The host of each environment: one for each address that the workflows use, one in all when they name none."""
    made: dict[str, DetectedHost] = {}
    known = next((place for place in found if "address" in place.settings), None)
    for place in found:
        if not (place.settings.get("address") or not known):
            place = DetectedEnvironment(place.name, place.kind, known.where, settings=known.settings)
        address = place.settings.get("address", ("", ""))[1]
        usual = re.sub(r"_?(SSH_)?(HOST|HOSTNAME|IP|ADDRESS|SERVER)$", "", address).lower()
        name = vocabulary.slugify(usual) or "server"
        name = (
            name
            if _IS_SLUG(name) and not re.fullmatch(RUNNER_VARIABLE_PATTERN, name.upper().replace("-", "_"))
            else "server"
        )
        made[place.name] = DetectedHost(name, dict(place.settings), place.where)
    _merge_hosts(made)
    return made


def _merge_hosts(made: dict[str, DetectedHost]) -> None:
    """Hosts by name; two of them share no setting, and none has one name for two things."""
    first: dict[str, DetectedHost] = {}
    used: dict[str, str] = {}
    for environment, machine in made.items():
        machine = made[environment] = first.setdefault(machine.name, machine)
        for role, (_, setting) in list(machine.settings.items()):
            owner = f"{machine.name} {role}"
            fine = (
                _IS_SECRET_NAME(setting)
                and not re.fullmatch(RUNNER_VARIABLE_PATTERN, setting)
                and used.setdefault(setting, owner) == owner
            )
            if role != "token" and not fine:
                del machine.settings[role]


def detect_stack_names(
    found: list[DetectedEnvironment], hosts: dict[str, DetectedHost], known: dict[str, SourcedValue]
) -> dict[str, SourcedValue]:
    """The stack of each environment, and into `hosts` the folder of stacks, when the deploys of a host agree on it."""
    stacks: dict[str, SourcedValue] = {}
    parents: dict[str, set[str]] = {}
    for place in found:
        same = {fact.value for fact in place.folders}
        for fact in place.folders[:1] if len(same) == 1 else ():
            above, _, name = fact.value.rpartition("/")
            parents.setdefault(hosts[place.name].name, set()).add(above)
            if _IS_SLUG(name):
                stacks[place.name] = SourcedValue(name, fact.where)
    for place in found:
        host = hosts[place.name]
        above = parents.get(host.name, set())
        if len(above) == 1 and _IS_HOST_FOLDER(only := next(iter(above))):
            host.directory = SourcedValue(only, place.folders[0].where if place.folders else host.where)
        if place.name in known:
            stacks.setdefault(place.name, known[place.name])
    names = [fact.value for fact in stacks.values()]
    return {name: fact for name, fact in stacks.items() if names.count(fact.value) == 1}
