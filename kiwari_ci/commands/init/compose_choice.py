"""Which Compose file each environment has, where a deploy names one; `diff` decides by the same function."""

from kiwari_ci.commands.init.compose_files import DetectedComposeFile, parse_for_environment
from kiwari_ci.commands.init.environments import classify_environment_of, name_environment
from kiwari_ci.commands.init.workflow_jobs import DetectedWorkflows
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.compose_of_today import ComposeFileOfToday, DeployedEnvironment, choose_compose_file
from kiwari_ci.readers.repository import LocalRepository

_ORDER_OF_KINDS = (vocabulary.PRODUCTION, vocabulary.STAGING, vocabulary.DEPLOYED_DEVELOPMENT)


def put_deployed_files_first(
    repository: LocalRepository, compose_files: list[DetectedComposeFile], workflows: DetectedWorkflows
) -> None:
    """Put the Compose file of each environment before the others, and give it the environment's kind.

    Of several files for one kind of environment, the first is used. A file keeps its kind where its name says one. One
    from which several kinds of environments are deployed becomes a file of each of them, with the values of its env
    file. Where a deploy names several files, one completes another.
    """
    users: dict[str, set[str]] = {}
    named_paths: set[str] = set()
    for environment in _list_deployed_environments(workflows):
        files = [ComposeFileOfToday(file.path, file.is_complete) for file in compose_files]
        chosen = choose_compose_file(files, environment)
        if chosen:
            users.setdefault(chosen.path, set()).add(environment.kind)
            if len(environment.named_files) == 1 and environment.names(chosen):
                named_paths.add(chosen.path)
    for file in compose_files:
        if file.path in named_paths and len(users[file.path]) == 1 and not file.kind:
            file.kind = next(iter(users[file.path]))
            for container in file.containers:
                container.kind = file.kind
    compose_files.sort(key=lambda file: file.path not in named_paths)
    _split_shared_files(repository, compose_files, users, workflows)


def _split_shared_files(
    repository: LocalRepository,
    compose_files: list[DetectedComposeFile],
    users: dict[str, set[str]],
    workflows: DetectedWorkflows,
) -> None:
    """Make of each file from which several kinds of environments are deployed one for each of them.

    The name of a file may say one of these kinds: many teams deploy every environment from `compose.prod.yml`.
    """
    for index, file in reversed(list(enumerate(compose_files))):
        kinds = users.get(file.path, set())
        kinds_of_others = {other.kind for other in compose_files if other is not file}
        if len(kinds) < 2 or kinds & kinds_of_others:
            continue
        compose_files[index : index + 1] = [
            parse_for_environment(repository, file, kind, _list_env_files(workflows, kind))
            for kind in sorted(kinds, key=_ORDER_OF_KINDS.index)
        ]


def _list_env_files(workflows: DetectedWorkflows, kind: str) -> list[str]:
    """The env files that the deploys of one kind of environment name."""
    jobs = [job for job in workflows.deploys if name_environment(job) and classify_environment_of(job) == kind]
    return list(dict.fromkeys(str(file.value) for job in jobs for file in job.env_files))


def leave_out_unnamed_files(compose_files: list[DetectedComposeFile], workflows: DetectedWorkflows) -> dict[str, str]:
    """Take out the files for all environments that no deploy of today reads, and say why.

    Such a file may be for a demonstration, with settings that no environment may have. It is left out only if each
    deploy names a complete file, and only if it has a service of these files: another one may be a stack of its own.
    """
    environments = _list_deployed_environments(workflows)
    named_files = [file for file in compose_files if _is_named(file, environments)]
    are_all_named = all(
        not environment.takes_default_file and any(_is_named(file, [environment]) for file in named_files)
        for environment in environments
    )
    if not named_files or not are_all_named or not all(file.is_complete for file in named_files):
        return {}
    known_services = {container.name for file in named_files for container in file.containers}
    named_paths = dict.fromkeys(file.path for file in named_files)
    reason = f"each deploy names another file, {', '.join(named_paths)}"
    unused = {
        file.path: reason
        for file in compose_files
        if not file.kind and file not in named_files and known_services & {one.name for one in file.containers}
    }
    compose_files[:] = [file for file in compose_files if file.path not in unused]
    return unused


def _is_named(file: DetectedComposeFile, environments: list[DeployedEnvironment]) -> bool:
    """Whether a deploy of one of the environments names a file."""
    return any(environment.names(ComposeFileOfToday(file.path, file.is_complete)) for environment in environments)


def _list_deployed_environments(workflows: DetectedWorkflows) -> list[DeployedEnvironment]:
    """The kinds of environments that jobs deploy, each with the file names that its deploys name."""
    named_files: dict[str, set[str]] = {}
    default_kinds: set[str] = set()
    for job in workflows.deploys:
        if name_environment(job):
            kind = classify_environment_of(job)
            names = {str(file.value).rpartition("/")[2] for file in job.compose_files}
            named_files.setdefault(kind, set()).update(names)
            if not names:
                default_kinds.add(kind)
    return [DeployedEnvironment(kind, frozenset(names), kind in default_kinds) for kind, names in named_files.items()]
