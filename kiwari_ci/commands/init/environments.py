"""Which environments there are: what deploys today, and how this spec reaches them."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from kiwari_ci.commands.init.compose_files import DetectedComposeFile
from kiwari_ci.commands.init.rendered_env import RenderedVariable, UnreadEnvLine, WholeEnvFile
from kiwari_ci.commands.init.workflow_jobs import DeployJob, DetectedWorkflows
from kiwari_ci.github_facts.path_filters import is_included
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.vocabulary import PRODUCTION, STAGING, SourcedValue
from kiwari_ci.schema.text_formats import BranchName, HostFolder, SecretName, Slug, TagPattern
from kiwari_ci.spec_rules.names import RUNNER_VARIABLE_PATTERN

_IS_BRANCH_NAME = vocabulary.build_validator(BranchName)
_IS_TAG_PATTERN = vocabulary.build_validator(TagPattern)
_IS_SLUG = vocabulary.build_validator(Slug)
_IS_HOST_FOLDER = vocabulary.build_validator(HostFolder)
_IS_SECRET_NAME = vocabulary.build_validator(SecretName)
_PIPELINE_WORDS = {"ci", "test", "tests", "testing", "e2e", "example", "examples", "bench", "benchmark"}
_DEPLOY_WORDS = {"deploy", "cd", "release", "to"}
_DEFAULT_NAMES = {PRODUCTION: PRODUCTION, STAGING: STAGING}


@dataclass
class DetectedEnvironment:
    """An environment that something deploys today."""

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
    projects: list[SourcedValue] = field(default_factory=list)  # Compose projects that its deploys name
    env_files: list[SourcedValue] = field(default_factory=list)  # that its deploys name, beside the usual `.env`
    workflows: list[SourcedValue] = field(default_factory=list)  # file names of the workflows that deploy it
    rendered_env: list[RenderedVariable] = field(default_factory=list)  # what its deploys write into env files
    whole_env_files: list[WholeEnvFile] = field(default_factory=list)
    unread_env_lines: list[UnreadEnvLine] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)  # of its server, in plain text
    runner: SourcedValue | None = None  # the labels of a runner of one's own on which its deploys run
    guess: bool = False
    by_hand: bool = False
    trigger_where: str = ""  # the job that has the trigger, which may be another one than the first that deploys
    has_own_settings: bool = False  # its deploys have an environment on GitHub, which may have secrets of its own


@dataclass
class DetectedHost:
    """A host: its settings by role, and its folder of stacks."""

    name: str
    settings: dict[str, tuple[str, str]]
    where: str
    directory: SourcedValue | None = None


def detect_environments(
    workflows: DetectedWorkflows, compose_files: list[DetectedComposeFile], default_branch: str
) -> list[DetectedEnvironment]:
    """The environments, those that build first; guessed from the compose files where no workflow deploys."""
    environments: dict[str, DetectedEnvironment] = {}
    first_jobs: dict[str, DeployJob] = {}
    for job in workflows.deploys:
        name = name_environment(job)
        if not name:
            continue
        started_by = SourcedValue(job.started_by.rpartition("/")[2], job.where)
        if name not in environments:
            environments[name] = DetectedEnvironment(name, classify_environment_of(job), job.where)
        environment = environments[name]
        first_job = first_jobs.setdefault(name, job)
        if first_job.started_by != job.started_by and _differs_from(first_job, job):
            environment.notes.append(f"{job.where} deploys it, too, today, beside {environment.where}")
        _add_deploy_job(environment, job, default_branch)
        environment.workflows.append(started_by)
    if not environments:
        return _guess_environments(compose_files, default_branch)
    for environment in environments.values():
        folders = list(dict.fromkeys(str(folder.value) for folder in environment.folders))
        if len(folders) > 1:
            environment.notes.append(f"it has {len(folders)} folders today, {', '.join(folders)}: here it is one stack")
    _tell_staging_by_trigger(environments, first_jobs)
    return _complete_triggers(list(environments.values()), default_branch)


def _tell_staging_by_trigger(environments: dict[str, DetectedEnvironment], jobs: dict[str, DeployJob]) -> None:
    """Of environments whose names show no kind, one that a push deploys is staging if only a tag deploys another."""
    unnamed = [each for name, each in environments.items() if not classify_deploy_job(jobs[name])]
    if any(each.tag and not each.push for each in unnamed):
        for environment in unnamed:
            if environment.push:
                environment.kind = STAGING


def _differs_from(first_job: DeployJob, job: DeployJob) -> bool:
    """Whether a job of another workflow deploys an environment at other times, or to another server."""
    triggers = [(one.trigger.branches, one.trigger.tags, one.trigger.by_hand) for one in (first_job, job)]
    addresses = {one.settings["address"] for one in (first_job, job) if "address" in one.settings}
    return triggers[0] != triggers[1] or len(addresses) > 1


def name_environment(job: DeployJob) -> str:
    """The name in the spec of what a job deploys; empty for what is only for development."""
    kind = classify_deploy_job(job)
    if kind == vocabulary.DEVELOPMENT and not job.name:
        return ""
    return vocabulary.slugify(job.name) or _DEFAULT_NAMES.get(kind, PRODUCTION)


def list_deployed_development_names(workflows: DetectedWorkflows) -> set[str]:
    """The words by which files name the environments for development that a workflow deploys."""
    words: set[str] = set()
    for job in workflows.deploys:
        name = name_environment(job)
        if name and classify_deploy_job(job) == vocabulary.DEVELOPMENT:
            words |= set(vocabulary.split_words(name))
    if words & vocabulary.DEVELOPMENT_NAMES:
        words |= vocabulary.DEVELOPMENT_NAMES
    return words


def list_deployed_kinds(workflows: DetectedWorkflows) -> set[str]:
    """The kinds of the environments that a workflow deploys."""
    return {classify_environment_of(job) for job in workflows.deploys if name_environment(job)}


def classify_environment_of(job: DeployJob) -> str:
    """The kind of the environment that a job deploys; production if nothing shows it."""
    kind = classify_deploy_job(job) or PRODUCTION
    return vocabulary.DEPLOYED_DEVELOPMENT if kind == vocabulary.DEVELOPMENT else kind


def classify_deploy_job(job: DeployJob) -> str:
    """The kind of environment that a job deploys, by the environment's name, else by those of the job and its file.

    `ci.yml` and `Test and deploy` name what a pipeline does, and not where it deploys; `deploy-test` names a server.
    """
    names = " ".join(word for name in job.names for word in _list_environment_words(name))
    return vocabulary.classify_environment(job.name) or vocabulary.classify_environment(names)


def _list_environment_words(name: str) -> list[str]:
    """The words of a job's or file's name that may name an environment."""
    words = vocabulary.split_words(name)
    return [
        word
        for before, word in zip(["", *words], words, strict=False)
        if word not in _PIPELINE_WORDS or (word == "test" and before in _DEPLOY_WORDS)
    ]


def _add_deploy_job(environment: DetectedEnvironment, job: DeployJob, default_branch: str) -> None:
    """Add what a job says of the environment that it deploys."""
    branches = [name for name in job.trigger.branches if _IS_BRANCH_NAME(name)]
    has_patterns = len(branches) < len(job.trigger.branches)
    push = _choose_branch(environment, job.trigger.branches, branches, default_branch)
    if push and not environment.push:
        environment.push = push
        environment.trigger_where = job.where
    if job.trigger.branches and (has_patterns or len(branches) > 1 or not push):
        today = f"{job.where} runs on {', '.join(job.trigger.branches)}"
        environment.notes.append(f"{today}: here {'it is one branch' if push else 'no push deploys it'}")
    if not environment.tag and job.trigger.tags:
        environment.trigger_where = environment.trigger_where or job.where
        environment.tag = _simplify_tag_pattern(job.trigger.tags[0])
        if environment.tag != job.trigger.tags[0] or "-" in environment.tag:
            environment.notes.append(f"{job.where} runs on tags {', '.join(job.trigger.tags)}")
    if job.trigger.pull_requests:
        environment.notes.append(
            f"{job.where} deploys pull requests, too, today, and here nothing does: to try one out, a person can "
            "deploy its branch to an environment with `deploy_on: {dispatch: true, branches: ['**']}`"
        )
    environment.notes += job.notes
    environment.by_hand |= job.trigger.by_hand
    environment.has_own_settings |= bool(job.name)
    environment.urls += job.urls
    environment.folders += job.folders
    environment.projects += job.projects
    environment.env_files += job.env_files
    environment.rendered_env += job.rendered_env
    environment.whole_env_files += job.whole_env_files
    environment.unread_env_lines += job.unread_env_lines
    _add_login_settings(environment, job)
    _add_runner(environment, job)


def _choose_branch(
    environment: DetectedEnvironment, patterns: list[str], branches: list[str], default_branch: str
) -> str:
    """The branch whose pushes deploy an environment; empty where no push does, or none that may be named.

    Production is deployed by the default branch only where it is today. Other environments get it in place of a
    pattern, because their images are those that production takes.
    """
    if not patterns:
        return ""
    if is_included(patterns, default_branch):
        return default_branch
    if branches:
        return branches[0]
    return "" if environment.kind == PRODUCTION else default_branch


def _add_runner(environment: DetectedEnvironment, job: DeployJob) -> None:
    """Add the runner of a job; jobs that deploy on two runners without SSH have two servers."""
    if not job.runner:
        return
    if not environment.runner:
        environment.runner = job.runner
    elif environment.runner.value != job.runner.value:
        _note_other_server(environment, job, f"[{', '.join(job.runner.value)}]")


def _note_other_server(environment: DetectedEnvironment, job: DeployJob, reached_by: str) -> None:
    job.is_other_server = True
    environment.notes.append(
        f"{job.where} deploys another server, by {reached_by}: write `host: [one, two]`, or a second environment"
    )


def _add_login_settings(environment: DetectedEnvironment, job: DeployJob) -> None:
    """Add how a job reaches its server; where another job reaches another one, that is only noted."""
    address = environment.settings.get("address")
    other_address = job.settings.get("address")
    if address and other_address and address != other_address:
        names = ", ".join(name for _, name in job.settings.values())
        _note_other_server(environment, job, names)
        return
    if environment.addresses and job.addresses and not set(job.addresses) & set(environment.addresses):
        _note_other_server(environment, job, job.addresses[0])
        return
    environment.addresses += job.addresses
    for role, setting in job.settings.items():
        environment.settings.setdefault(role, setting)


def _simplify_tag_pattern(tag: str) -> str:
    """A tag filter as a prefix and a star, with the suffix of release candidates where the filter has one."""
    prefix_match = re.match(r"(?:[A-Za-z][A-Za-z_-]*(?:[./][A-Za-z_-]+)*)?", tag)
    prefix = prefix_match[0] if prefix_match else ""
    candidate = re.search(r"-[A-Za-z][A-Za-z0-9]*\.?(?=\*|\[|$)", tag[len(prefix) :])
    pattern = f"{prefix}*"
    if candidate:
        pattern += f"{candidate[0]}*"
    return pattern if _IS_TAG_PATTERN(pattern) else "v*"


def _complete_triggers(environments: list[DetectedEnvironment], default_branch: str) -> list[DetectedEnvironment]:
    """Triggers as today; what a tag or a person starts takes the images that another environment has of the branch."""
    for environment in environments:
        if not (environment.push or environment.tag or environment.by_hand):
            environment.by_hand = True
            environment.guess = True
            environment.notes.append("could not tell what starts it today: here a person does")
        elif environment.kind != PRODUCTION and not (environment.push or environment.tag):
            keeps_choice = "deploy_on: {dispatch: true, branches: ['**']}"
            environment.notes.append(f"a person may choose any branch today, which `{keeps_choice}` keeps")
        if environment.tag and environment.push and environment.push != default_branch:
            environment.notes.append(
                f"tags ({environment.tag}) deploy it, too, today; they have another order than {environment.push}"
            )
            environment.tag = ""
    first = _find_first_environment(environments, default_branch)
    if first:
        for environment in environments:
            if not environment.push:
                environment.promote = first.name
    return sorted(environments, key=_rank_environment)


def _find_first_environment(environments: list[DetectedEnvironment], default_branch: str) -> DetectedEnvironment | None:
    """The environment that every commit of the default branch reaches before production."""
    for environment in environments:
        if environment.push == default_branch and environment.kind != PRODUCTION:
            return environment
    return None


def _rank_environment(environment: DetectedEnvironment) -> tuple[bool, bool, bool]:
    """Environments that a push deploys come first, production comes last."""
    return not environment.push, bool(environment.promote), environment.kind == PRODUCTION


def _guess_environments(compose_files: list[DetectedComposeFile], default_branch: str) -> list[DetectedEnvironment]:
    """Staging and production where a compose file is for staging; else production alone."""
    paths = {PRODUCTION: "", STAGING: ""}
    for compose_file in reversed(compose_files):
        if compose_file.kind in paths:
            paths[compose_file.kind] = compose_file.path
    if not paths[STAGING]:
        return [DetectedEnvironment(PRODUCTION, PRODUCTION, paths[PRODUCTION], default_branch, guess=True)]
    production_path = paths[PRODUCTION] or paths[STAGING]
    return [
        DetectedEnvironment(STAGING, STAGING, paths[STAGING], default_branch, guess=True),
        DetectedEnvironment(PRODUCTION, PRODUCTION, production_path, tag="v*", promote=STAGING, guess=True),
    ]


def detect_hosts(
    environments: list[DetectedEnvironment], container_names: Mapping[str, Collection[str]] = MappingProxyType({})
) -> dict[str, DetectedHost]:
    """The host of each environment: one for each address that the workflows use, or one for all.

    `container_names` are the names that Compose files give to containers, by kind of environment.
    """
    with_address = [environment for environment in environments if "address" in environment.settings]
    hosts: dict[str, DetectedHost] = {}
    for environment in environments:
        source = environment
        name = _name_host_of_runner(environment, environments) or _name_host_of_address(environment, environments)
        if with_address and not name and not environment.settings.get("address"):
            source = with_address[0]
        address = source.settings.get("address", ("", ""))[1]
        name = name or _derive_host_name(address)
        hosts[environment.name] = DetectedHost(name, dict(source.settings), source.where)
    _merge_hosts(hosts)
    _split_hosts(environments, hosts, container_names)
    return hosts


def _split_hosts(
    environments: list[DetectedEnvironment],
    hosts: dict[str, DetectedHost],
    container_names: Mapping[str, Collection[str]],
) -> None:
    """Give environments with containers of the same names a host each: one server has each name only once.

    Their addresses have one name, and GitHub keeps another value of it in each environment.
    """
    owners = _map_to_owner_of_names(environments, hosts, container_names)
    for environment in environments:
        if environment.name in owners:
            environment.notes.append(
                f"{owners[environment.name]} and {environment.name} have containers of the same names, so each has a "
                "server here, with the settings of its environment on GitHub"
            )
    taken_names = {host.name for host in hosts.values()}
    for name in {*owners, *owners.values()} - taken_names:
        if _IS_SLUG(name):
            hosts[name] = replace(hosts[name], name=name, settings=dict(hosts[name].settings))


def _map_to_owner_of_names(
    environments: list[DetectedEnvironment],
    hosts: dict[str, DetectedHost],
    container_names: Mapping[str, Collection[str]],
) -> dict[str, str]:
    """Map environments with containers that an earlier one on the same host has, too, to that one."""
    owners_of_containers: dict[tuple[str, str], str] = {}
    owners: dict[str, str] = {}
    for environment in environments:
        host = hosts[environment.name]
        if not environment.has_own_settings or "address" not in host.settings:
            continue
        for container_name in container_names.get(environment.kind, ()):
            owner = owners_of_containers.setdefault((host.name, container_name), environment.name)
            if owner != environment.name:
                owners.setdefault(environment.name, owner)
    return owners


def _name_host_of_runner(environment: DetectedEnvironment, environments: list[DetectedEnvironment]) -> str:
    """The name of a host that only the runner on it tells apart from those of other environments; empty for others."""
    others = [other.runner.value for other in environments if other is not environment and other.runner]
    if environment.settings.get("address") or not environment.runner:
        return ""
    if not others or environment.runner.value in others:
        return ""
    own_labels = [label for label in environment.runner.value if all(label not in other for other in others)]
    name = vocabulary.slugify(own_labels[-1]) if own_labels else ""
    return name if _IS_SLUG(name) else ""


def _name_host_of_address(environment: DetectedEnvironment, environments: list[DetectedEnvironment]) -> str:
    """The name of a host whose address is plain text and another one than in other environments; empty for others."""
    others = [set(other.addresses) for other in environments if other is not environment and other.addresses]
    is_told_apart = any(not other & set(environment.addresses) for other in others)
    if environment.settings.get("address") or not environment.addresses or not is_told_apart:
        return ""
    return environment.name if _IS_SLUG(environment.name) else ""


def _derive_host_name(address_setting: str) -> str:
    """A host's name from the secret that holds its address: `shop` of SHOP_HOST."""
    usual = re.sub(r"_?(SSH_)?(HOST|HOSTNAME|IP|ADDRESS|SERVER)$", "", address_setting).lower()
    name = vocabulary.slugify(usual)
    is_reserved = re.fullmatch(RUNNER_VARIABLE_PATTERN, name.upper().replace("-", "_")) is not None
    return name if _IS_SLUG(name) and not is_reserved else "server"


def _merge_hosts(hosts: dict[str, DetectedHost]) -> None:
    """Make one host of those with one name, and drop the settings that two hosts or two roles would share."""
    hosts_by_name: dict[str, DetectedHost] = {}
    owners: dict[str, str] = {}
    for environment_name, detected_host in hosts.items():
        host = hosts_by_name.setdefault(detected_host.name, detected_host)
        hosts[environment_name] = host
        for role, (_, setting) in list(host.settings.items()):
            if role == "token":
                continue
            is_allowed = _IS_SECRET_NAME(setting) and not re.fullmatch(RUNNER_VARIABLE_PATTERN, setting)
            owner = f"{host.name} {role}"
            if not is_allowed or owners.setdefault(setting, owner) != owner:
                del host.settings[role]


def detect_stack_names(
    environments: list[DetectedEnvironment],
    hosts: dict[str, DetectedHost],
    project_names: dict[str, SourcedValue],
) -> dict[str, SourcedValue]:
    """The stack of each environment, by the folder that its deploy uses or its Compose project's name.

    Sets the folder of stacks of a host when all its deploys agree on it. Two environments with one name get none.
    """
    stack_names: dict[str, SourcedValue] = {}
    parent_folders: dict[str, set[str]] = {}
    for environment in environments:
        folders = {folder.value for folder in environment.folders}
        if len(folders) != 1:
            continue
        folder = environment.folders[0]
        parent, _, name = folder.value.rpartition("/")
        parent_folders.setdefault(hosts[environment.name].name, set()).add(parent)
        if _IS_SLUG(name):
            stack_names[environment.name] = SourcedValue(name, folder.where)
    for environment in environments:
        host = hosts[environment.name]
        parents = list(parent_folders.get(host.name, ()))
        if len(parents) == 1 and _IS_HOST_FOLDER(parents[0]):
            where = environment.folders[0].where if environment.folders else host.where
            host.directory = SourcedValue(parents[0], where)
        # Compose takes the project that the command names, then that of the file, then the folder's name: with another
        # name the volumes would be others.
        named_projects = [*environment.projects, *filter(None, [project_names.get(environment.name)])]
        if named_projects and _IS_SLUG(named_projects[0].value):
            stack_names[environment.name] = named_projects[0]
    places = [(hosts[name].name, stack_name.value) for name, stack_name in stack_names.items()]
    own_names = {
        name: stack_name
        for name, stack_name in stack_names.items()
        if places.count((hosts[name].name, stack_name.value)) == 1
    }
    _note_shared_folders([each for each in environments if each.name not in own_names], hosts)
    return own_names


def _note_shared_folders(environments: list[DetectedEnvironment], hosts: dict[str, DetectedHost]) -> None:
    """Note where two environments are in one folder of one host today: only one of them can take it over.

    Those that have a project of their own get new folders.
    """
    owners: dict[tuple[str, str], str] = {}
    for environment in environments:
        for folder in environment.folders[:1]:
            place = (hosts[environment.name].name, str(folder.value))
            owner = owners.setdefault(place, environment.name)
            if owner != environment.name:
                environment.notes.append(
                    f"{owner} and {environment.name} are both in {folder.value} today ({folder.where}): only one of "
                    "them can take it over"
                )
