"""Finds out who builds which service's image, and who deploys which environment.

The two sides may use different names. Generated files state them (a deploy names service and container, its job the
environment); hand-written files are matched by image, container and folder, and last by words in names.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from kiwari_ci.commands.diff.snapshot import PipelineSnapshot, WorkflowWithEffects
from kiwari_ci.plan_model import Plan
from kiwari_ci.planning.pull_requests import WORKFLOW_PATH as PULL_REQUESTS_PATH
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.compose_file import ComposeProject, ComposeService
from kiwari_ci.readers.compose_of_today import (
    DEFAULT_FILE_NAMES,
    ComposeFileOfToday,
    DeployedEnvironment,
    choose_compose_file,
)
from kiwari_ci.readers.image_reference import parse_image_repository
from kiwari_ci.readers.step_effects import StepEffect
from kiwari_ci.readers.workflow import ParsedJob


class ResponsibleJob(NamedTuple):
    """A job that builds or deploys, its workflow, and the effect by which it does."""

    workflow: WorkflowWithEffects
    job: ParsedJob
    effect: StepEffect


@dataclass
class NameMatches:
    """Names of the spec: image repository → service, container → service, folder of a stack → environment.

    A generated stack is known by its folder below `deploy/`, because stacks of two hosts may have one name.
    `taken_over` are the containers of today that `takeover` in the spec names, by environment, and `workflows` the file
    names of the workflows that deploy the environment today. `shared_files` are the Compose files, by environment, from
    which several environments are started. `shared_builds` are the places of steps that build an image in a repository
    that several services share, each with the service of its Dockerfile.
    """

    images: dict[str, str] = field(default_factory=dict)
    shared_builds: dict[str, str] = field(default_factory=dict)
    containers: dict[str, str] = field(default_factory=dict)
    stacks: dict[str, str] = field(default_factory=dict)
    taken_over: dict[str, set[str]] = field(default_factory=dict)
    workflows: dict[str, set[str]] = field(default_factory=dict)
    shared_files: dict[str, str] = field(default_factory=dict)

    def environment(self, stack: str) -> str:
        """The environment of a stack; a stack of none, as a database's, is called by the name of its folder."""
        return self.stacks.get(stack, stack)

    def find_built_service(self, effect: StepEffect) -> str:
        """The service whose image a step builds or pushes; empty for none."""
        return self.shared_builds.get(effect.where) or self.images.get(parse_image_repository(effect.what), "")

    def service(self, stack: ComposeProject, service: ComposeService) -> str:
        """The name of a container's service."""
        by_name = self.containers.get(service.container or service.key)
        return by_name or self.images.get(parse_image_repository(service.image), "") or service.container or service.key


@dataclass
class Responsibilities:
    """Who builds and who deploys, by service and by environment; `others` deploy to no environment of the spec.

    `unclear`: by environment, the jobs that may deploy it, because nothing shows what they deploy. `pull_requests`: by
    service, the generated workflow that tests it before the merge, and pushes no image.
    """

    builds: dict[str, list[ResponsibleJob]] = field(default_factory=dict)
    pull_requests: dict[str, WorkflowWithEffects] = field(default_factory=dict)
    deploys: dict[str, list[ResponsibleJob]] = field(default_factory=dict)
    unclear: dict[str, list[ResponsibleJob]] = field(default_factory=dict)
    others: list[ResponsibleJob] = field(default_factory=list)

    def involved(self) -> set[str]:
        """Paths of the workflows with a role."""
        jobs = [role for roles in (*self.builds.values(), *self.deploys.values()) for role in roles]
        return {workflow.path for workflow, _, _ in jobs}


def get_planned_names(plan: Plan) -> NameMatches:
    """The names that the spec gives to images, containers and stacks."""
    names = NameMatches()
    for stack in plan.stacks:
        names.stacks[stack.source_folder] = stack.environment
        for instance in stack.instances:
            names.containers[instance.container] = instance.service
    for takeover in plan.takeovers:
        names.taken_over[takeover.environment] = {container.today for container in takeover.containers}
        if takeover.old_pipeline.workflows:
            names.workflows[takeover.environment] = set(takeover.old_pipeline.workflows)
        for container in takeover.containers:
            names.containers.setdefault(container.today, container.name)
    built = [*(workflow.images for workflow in plan.workflows), *(promotion.builds for promotion in plan.promotions)]
    for source in (image.source for images in built for image in images):
        names.images.setdefault(parse_image_repository(source.repository), source.service)
    return names


def read_generated_names(snapshot: PipelineSnapshot) -> NameMatches:
    """The names that generated files have; of the files that are replaced there is no plan."""
    names = NameMatches()
    for workflow in snapshot.workflows.values():
        for job, effect in workflow.effects if workflow.generated else ():
            if effect.kind == "names":
                names.containers[effect.note] = effect.what
            elif effect.kind == "deploy" and job.environment:
                names.stacks[effect.what] = job.environment
        _name_single_image(names, workflow)
    for stack in snapshot.stacks.values():
        for service in stack.services.values():
            if service.container in names.containers:
                names.images.setdefault(parse_image_repository(service.image), names.containers[service.container])
    return names


def _name_single_image(names: NameMatches, workflow: WorkflowWithEffects) -> None:
    """Name the one image that a generated workflow builds; of its processes, the service itself is deployed first."""
    if not workflow.generated:
        return
    service_names = [effect.what for _, effect in workflow.effects if effect.kind == "names"]
    images = {parse_image_repository(effect.what) for _, effect in workflow.effects if effect.kind == "push"}
    if service_names and service_names[0] and len(images) == 1:
        names.images.setdefault(images.pop(), service_names[0])


def match_names(before: PipelineSnapshot, after: PipelineSnapshot, planned_names: NameMatches) -> NameMatches:
    """Name what the first side has: by its own names, and for the rest by the likeliest names of the second side."""
    names = read_generated_names(before)
    image_repositories = _list_image_repositories(before)
    for image in image_repositories:
        service_name = _match_image_exactly(image, planned_names)
        if service_name and image not in names.images:
            names.images[image] = service_name
    # What an image is built from, and a suffix, are weaker signs: they give no service a second image.
    claimed_services = set(names.images.values())
    services_by_dockerfile = _list_services_by_dockerfile(after, planned_names)
    names.shared_builds = _match_shared_builds(before, services_by_dockerfile)
    for image, service_name in _match_images_by_dockerfile(before, services_by_dockerfile).items():
        if image not in names.images and service_name not in claimed_services:
            names.images[image] = service_name
    claimed_services = set(names.images.values())
    for image in image_repositories:
        service_name = _match_image_suffix(image, planned_names)
        if service_name and image not in names.images and service_name not in claimed_services:
            names.images[image] = service_name
    for stack in before.stacks.values():
        for service in stack.services.values():
            _match_container(service, names, planned_names)
    _match_stacks(before, after, names, planned_names)
    return names


def _list_image_repositories(snapshot: PipelineSnapshot) -> list[str]:
    """The repositories of all images that workflows push, build or pull, and that containers run."""
    images: list[str] = []
    for workflow in snapshot.workflows.values():
        for _, effect in workflow.effects:
            if effect.kind in ("push", "build", "take"):
                images.append(effect.what)
    for stack in snapshot.stacks.values():
        for service in stack.services.values():
            if service.image:
                images.append(service.image)
    return list(dict.fromkeys(parse_image_repository(image) for image in images))


def _match_image_exactly(image: str, planned_names: NameMatches) -> str:
    """The service whose image has this name in any registry, or that has this name itself."""
    if image in planned_names.images:
        return planned_names.images[image]
    base_name = image.rpartition("/")[2]
    services: set[str] = set()
    for planned_image, service in planned_names.images.items():
        if base_name in (planned_image.rpartition("/")[2], service):
            services.add(service)
    return services.pop() if len(services) == 1 else ""


def _match_image_suffix(image: str, planned_names: NameMatches) -> str:
    """The service whose name an image's ends with."""
    base = image.rpartition("/")[2]
    services = {service for service in planned_names.images.values() if re.search(rf"[-_.]{re.escape(service)}$", base)}
    return services.pop() if len(services) == 1 else ""


def _list_services_by_dockerfile(after: PipelineSnapshot, planned_names: NameMatches) -> dict[str, str]:
    """The Dockerfiles of the second side from which one service alone is built, each with this service."""
    services: dict[str, set[str]] = {}
    for image, dockerfile, _ in _list_built_images(after):
        if image in planned_names.images:
            services.setdefault(dockerfile, set()).add(planned_names.images[image])
    return {dockerfile: next(iter(names)) for dockerfile, names in services.items() if len(names) == 1}


def _match_images_by_dockerfile(before: PipelineSnapshot, services_by_dockerfile: dict[str, str]) -> dict[str, str]:
    """The images of the first side that are built from the Dockerfile of one service of the second side alone."""
    return {
        image: services_by_dockerfile[dockerfile]
        for image, dockerfile, _ in _list_built_images(before)
        if dockerfile in services_by_dockerfile
    }


def _match_shared_builds(before: PipelineSnapshot, services_by_dockerfile: dict[str, str]) -> dict[str, str]:
    """The places of the steps that build into a repository of several services, where only tags tell images apart."""
    services: dict[str, set[str]] = {}
    builds = [build for build in _list_built_images(before) if build[1] in services_by_dockerfile]
    for image, dockerfile, _ in builds:
        services.setdefault(image, set()).add(services_by_dockerfile[dockerfile])
    return {place: services_by_dockerfile[file] for image, file, place in builds if len(services[image]) > 1}


def _list_built_images(snapshot: PipelineSnapshot) -> list[tuple[str, str, str]]:
    """The repository of each image that workflows build, with its Dockerfile and the place of the step."""
    effects = [effect for workflow in snapshot.workflows.values() for _, effect in workflow.effects]
    return [
        (parse_image_repository(effect.what), effect.note, effect.where)
        for effect in effects
        if effect.kind == "build" and effect.note
    ]


def _match_container(service: ComposeService, names: NameMatches, planned_names: NameMatches) -> None:
    container_name = service.container or service.key
    service_name = planned_names.containers.get(container_name)
    if not service_name and service.image:
        service_name = names.images.get(parse_image_repository(service.image))
        if service_name and service.key in planned_names.containers.values():
            service_name = service.key  # one of several services that run the image
    if not service_name and service.key in {*planned_names.images.values(), *planned_names.containers.values()}:
        service_name = service.key
    if service_name and container_name not in names.containers:
        names.containers[container_name] = service_name


def _match_stacks(
    before: PipelineSnapshot, after: PipelineSnapshot, names: NameMatches, planned_names: NameMatches
) -> None:
    """For each environment the likeliest compose file: by name or containers, else the one that a deploy names."""
    candidates: dict[str, list[ComposeFileOfToday]] = {}
    for stack in before.stacks.values():
        if stack.generated or stack.name in names.stacks:
            continue
        environment = _match_stack_exactly(stack, after, planned_names)
        if not environment and not _is_named_by_several_environments(stack, before, planned_names):
            environment = _guess_stack_environment(stack, before, names, planned_names)
        if environment:
            candidates.setdefault(environment, []).append(_describe_file(stack, names, planned_names))
    for environment, files in candidates.items():
        file = choose_compose_file(files, _describe_environment(environment, before, after, planned_names))
        if file:
            stack = before.stacks[file.path]
            names.stacks[stack.path] = environment
            if stack.folder:
                names.stacks[stack.name] = environment
    _match_shared_files(before, after, names, planned_names)


def _match_shared_files(
    before: PipelineSnapshot, after: PipelineSnapshot, names: NameMatches, planned_names: NameMatches
) -> None:
    """For each environment without a Compose file of its own, the file that deploys of several environments read."""
    files = [
        _describe_file(stack, names, planned_names)
        for stack in before.stacks.values()
        if not stack.generated and stack.path not in names.stacks and _has_own_services(stack, names, planned_names)
    ]
    for environment in dict.fromkeys(planned_names.stacks.values()):
        described = _describe_environment(environment, before, after, planned_names)
        file = choose_compose_file([file for file in files if _is_read_by_deploy(file, described)], described)
        if file and environment not in names.stacks.values():
            names.shared_files[environment] = file.path


def _is_named_by_several_environments(
    stack: ComposeProject, before: PipelineSnapshot, planned_names: NameMatches
) -> bool:
    """Whether the deploys of several environments name a Compose file, which may be called after one of them."""
    file_name = stack.path.rpartition("/")[2]
    environments = {
        _find_stated_environment(job, planned_names)
        for workflow in before.workflows.values()
        for job, effect in workflow.effects
        if effect.kind == "deploy" and file_name in _list_named_files(effect)
    }
    return len(environments - {""}) > 1


def _find_stated_environment(job: ParsedJob, planned_names: NameMatches) -> str:
    """The environment that a job names: its own, in capitals or not, or else the only one of the kind that it names."""
    environments = list(dict.fromkeys(planned_names.stacks.values()))
    for environment in environments:
        if environment.lower() == job.environment.lower():
            return environment
    kind = vocabulary.classify_environment(job.environment) or vocabulary.classify_environment(job.id)
    of_kind = [environment for environment in environments if vocabulary.classify_environment(environment) == kind]
    return of_kind[0] if kind and len(of_kind) == 1 else ""


def _has_own_services(stack: ComposeProject, names: NameMatches, planned_names: NameMatches) -> bool:
    services = {names.service(stack, service) for service in stack.services.values()}
    return bool(services & set(planned_names.images.values()))


def _is_read_by_deploy(file: ComposeFileOfToday, environment: DeployedEnvironment) -> bool:
    """Whether the deploys of an environment name a file, or take one for all environments because they name none."""
    takes_file = environment.takes_default_file and file.name in DEFAULT_FILE_NAMES and not file.kind
    return environment.names(file) or takes_file


def _describe_file(stack: ComposeProject, names: NameMatches, planned_names: NameMatches) -> ComposeFileOfToday:
    service_names = [names.service(stack, service) for service in stack.services.values()]
    return ComposeFileOfToday(
        stack.path,
        is_complete=all({"image", "build"} & service.table.keys() for service in stack.services.values()),
        containers=frozenset(_collect_container_names([stack])),
        known_services=sum(name in planned_names.images.values() for name in service_names),
    )


def _describe_environment(
    environment: str, before: PipelineSnapshot, after: PipelineSnapshot, planned_names: NameMatches
) -> DeployedEnvironment:
    """What is known of an environment: which files its deploys name, and the containers that it has and had."""
    kind = vocabulary.classify_environment(environment)
    files_of_deploys = [
        _list_named_files(effect)
        for workflow in before.workflows.values()
        for job, effect in workflow.effects
        if effect.kind == "deploy" and _may_deploy_to(job, environment, kind)
    ]
    stacks = [stack for stack in after.stacks.values() if planned_names.environment(stack.folder_name) == environment]
    return DeployedEnvironment(
        kind,
        named_files=frozenset(file for files in files_of_deploys for file in files),
        takes_default_file=any(not files for files in files_of_deploys),
        containers=frozenset(_collect_container_names(stacks) | planned_names.taken_over.get(environment, set())),
    )


def _may_deploy_to(job: ParsedJob, environment: str, kind: str) -> bool:
    """Whether a job that deploys does so to an environment, or does not say to which kind."""
    job_kind = vocabulary.classify_environment(job.environment) or vocabulary.classify_environment(job.id)
    return job.environment == environment or job_kind in ("", kind)


def _match_stack_exactly(stack: ComposeProject, after: PipelineSnapshot, planned_names: NameMatches) -> str:
    """The environment whose stack has this path, this name or these containers."""
    new_stacks = list(after.stacks.values())
    if stack.path in after.stacks:
        return planned_names.environment(after.stacks[stack.path].folder_name)
    same_name = [new_stack for new_stack in new_stacks if stack.folder and new_stack.name == stack.name]
    if len(same_name) == 1:
        return planned_names.environment(same_name[0].folder_name)
    containers = _collect_container_names([stack])
    shared = {
        planned_names.environment(new_stack.folder_name)
        for new_stack in new_stacks
        if containers & _collect_container_names([new_stack])
    }
    shared |= {name for name, taken_over in planned_names.taken_over.items() if containers & taken_over}
    return shared.pop() if len(shared) == 1 else ""


def _guess_stack_environment(
    stack: ComposeProject, before: PipelineSnapshot, names: NameMatches, planned_names: NameMatches
) -> str:
    """The environment that the name of a compose file suggests.

    It must have services of ours; and its name must suggest some environment, or a deploy must read the file.
    """
    if not _has_own_services(stack, names, planned_names):
        return ""
    if not vocabulary.classify_environment(stack.path) and not _is_used_by_deploy(stack, before):
        return ""
    return guess_environment(stack.path, planned_names)


def collect_effects(snapshot: PipelineSnapshot) -> set[str]:
    """What all workflows do, as `StepEffect.what` has it, the images that they build, the lines of their scripts."""
    effects = [effect for workflow in snapshot.workflows.values() for _, effect in workflow.effects]
    images = {parse_image_repository(effect.what) for effect in effects if effect.kind in ("build", "push")}
    jobs = [job for workflow in snapshot.workflows.values() for job in workflow.parsed.jobs]
    return images | {effect.what for effect in effects} | {line for job in jobs for line in _list_script_lines(job)}


def _list_script_lines(job: ParsedJob) -> list[str]:
    lines = [line.strip() for step in job.steps for line in step.run.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def find_replaced_jobs(workflow: WorkflowWithEffects, roles: Responsibilities, still_done: set[str]) -> set[str] | None:
    """The jobs that build or deploy, and those that wait for one; None if nothing is lost with the whole workflow.

    `still_done` is what the workflows that replace it do.
    """
    all_roles = [role for jobs in (*roles.builds.values(), *roles.deploys.values()) for role in jobs]
    replaced_jobs = {role.job.id for role in all_roles if role.workflow.path == workflow.path}
    jobs = workflow.parsed.jobs
    for _ in jobs:  # no chain of `needs` is longer than the number of jobs
        replaced_jobs |= {job.id for job in jobs if replaced_jobs & set(job.needs)}
    for job, effect in workflow.effects:
        is_done = effect.what in still_done or effect.kind == "login"
        is_built = effect.kind == "build" and parse_image_repository(effect.what) in still_done
        if job.id not in replaced_jobs and not is_done and not is_built:
            return replaced_jobs
    for job in jobs:
        if job.id not in replaced_jobs and not still_done.issuperset(_list_script_lines(job)):
            return replaced_jobs
    return None


def list_kept_jobs(workflow: WorkflowWithEffects, roles: Responsibilities, still_done: set[str]) -> set[str]:
    """The jobs of a workflow that go on when those that build or deploy are taken out of it; none if nothing does."""
    replaced_jobs = find_replaced_jobs(workflow, roles, still_done)
    if replaced_jobs is None:
        return set()
    return {job.id for job in workflow.parsed.jobs} - replaced_jobs


def is_deploy_of_file(effect: StepEffect, file_name: str) -> bool:
    """Whether a deploy reads a Compose file of this name: it names it, or names none and takes the default."""
    return file_name in (_list_named_files(effect) or DEFAULT_FILE_NAMES)


def _list_named_files(effect: StepEffect) -> list[str]:
    """The names of the Compose files that a deploy names."""
    return [path.rpartition("/")[2] for path in effect.what.split("\n")[1:]]


def _is_used_by_deploy(stack: ComposeProject, snapshot: PipelineSnapshot) -> bool:
    """Whether a deploy reads a Compose file: one that names it, or one that names none and takes the default."""
    name = stack.path.rpartition("/")[2]
    effects = [effect for workflow in snapshot.workflows.values() for _, effect in workflow.effects]
    return any(effect.kind == "deploy" and is_deploy_of_file(effect, name) for effect in effects)


def guess_environment(text: str, planned_names: NameMatches) -> str:
    """The only environment of the kind that a text names; for a text that names none, the only one at all."""
    kind = vocabulary.classify_environment(text)
    environments = list(dict.fromkeys(planned_names.stacks.values()))
    matches = [name for name in environments if re.search(rf"(^|[^a-z]){re.escape(name)}([^a-z]|$)", text.lower())]
    if not matches and kind:
        matches = [name for name in environments if vocabulary.classify_environment(name) == kind]
    if len(matches) == 1:
        return matches[0]
    if len(environments) != 1 or kind == vocabulary.DEVELOPMENT:
        return ""
    only_environment = environments[0]
    if kind and vocabulary.classify_environment(only_environment) not in ("", kind):
        return ""
    return only_environment


def _collect_container_names(stacks: Iterable[ComposeProject]) -> set[str]:
    return {service.container for stack in stacks for service in stack.services.values() if service.container}


def assign_responsibilities(
    snapshot: PipelineSnapshot, names: NameMatches, planned_names: NameMatches
) -> Responsibilities:
    """Find out who builds and who deploys; where a generated workflow does, those of other hands are left out."""
    roles = Responsibilities()
    for workflow in snapshot.workflows.values():
        pushed_services = _find_pushed_services(workflow, names)
        roles.pull_requests |= dict.fromkeys(_find_services_of_pull_requests(workflow, names), workflow)
        for job, effect in workflow.effects:
            role = ResponsibleJob(workflow, job, effect)
            if effect.kind in ("push", "build"):
                service = names.find_built_service(effect)
                if service in pushed_services and service:
                    roles.builds.setdefault(service, []).append(role)
            elif effect.kind in ("deploy", "container"):
                _assign_deploy(roles, role, snapshot, names, planned_names, pushes_known_images=bool(pushed_services))
        _assign_named_workflow(roles, workflow, planned_names)
    for roles_by_name in (roles.builds, roles.deploys):
        for name, found_roles in roles_by_name.items():
            roles_by_name[name] = [role for role in found_roles if role.workflow.generated] or found_roles
    return roles


def _assign_deploy(
    roles: Responsibilities,
    role: ResponsibleJob,
    snapshot: PipelineSnapshot,
    names: NameMatches,
    planned_names: NameMatches,
    *,
    pushes_known_images: bool,
) -> None:
    """Add a job that deploys to its environment, to those that it may deploy, or to the others."""
    environment = _find_deploy_environment(snapshot, role, names, planned_names, pushes_known_images)
    unclear_environments = _list_unclear_environments(role, snapshot, planned_names)
    if environment:
        roles.deploys.setdefault(environment, []).append(role)
    elif unclear_environments:
        for name in unclear_environments:
            roles.unclear.setdefault(name, []).append(role)
    else:
        roles.others.append(role)


def _list_unclear_environments(
    role: ResponsibleJob, snapshot: PipelineSnapshot, planned_names: NameMatches
) -> list[str]:
    """The environments that a job may deploy, because the spec does not say by which workflows they are deployed.

    A Compose file of the repository that is no environment's shows that something else is deployed, and so does a name
    of another kind of environment.
    """
    file_names = {file.rpartition("/")[2] for file in role.effect.what.split("\n")[1:]}
    is_file_known = any(path.rpartition("/")[2] in file_names for path in snapshot.stacks)
    if role.workflow.generated or is_file_known:
        return []
    kind = vocabulary.classify_environment(f"{role.effect.what} {role.job.environment} {role.job.id}")
    environments = [name for name in planned_names.stacks.values() if name not in planned_names.workflows]
    return [
        name for name in dict.fromkeys(environments) if not kind or vocabulary.classify_environment(name) in ("", kind)
    ]


def _assign_named_workflow(roles: Responsibilities, workflow: WorkflowWithEffects, planned_names: NameMatches) -> None:
    """Add a workflow that the spec names as one of today's, if nothing in it shows how it deploys."""
    for environment in _list_named_environments(workflow, planned_names):
        is_known = any(role.workflow.path == workflow.path for role in roles.deploys.get(environment, []))
        jobs = _list_jobs_of_server(workflow) or list(workflow.parsed.jobs)
        jobs = [job for job in jobs if job.environment == environment] or jobs
        for job in jobs if not is_known else ():
            effect = StepEffect("deploy", "", job.where, "a workflow of today")
            roles.deploys.setdefault(environment, []).append(ResponsibleJob(workflow, job, effect))


def _list_jobs_of_server(workflow: WorkflowWithEffects) -> list[ParsedJob]:
    """The jobs that log in to a server, or run on one; once for each environment."""
    jobs = [job for job, effect in workflow.effects if effect.kind in ("login", "remote")]
    return list({(job.id, job.environment): job for job in jobs}.values())


def _list_named_environments(workflow: WorkflowWithEffects, planned_names: NameMatches) -> list[str]:
    """The environments that a hand-written workflow deploys, as `takeover` in the spec says."""
    file_name = workflow.path.rpartition("/")[2]
    if workflow.generated:
        return []
    return [environment for environment, files in planned_names.workflows.items() if file_name in files]


def _find_pushed_services(workflow: WorkflowWithEffects, names: NameMatches) -> set[str]:
    """The services whose images a workflow pushes."""
    pushes = [effect for _, effect in workflow.effects if effect.kind == "push"]
    return {service for service in map(names.find_built_service, pushes) if service}


def _find_services_of_pull_requests(workflow: WorkflowWithEffects, names: NameMatches) -> Iterator[str]:
    """Find the services that have jobs in the generated workflow of pull requests."""
    if not workflow.generated or workflow.path != PULL_REQUESTS_PATH:
        return
    for service in dict.fromkeys(names.images.values()):
        if any(is_pull_request_job(job.id, service) for job in workflow.parsed.jobs):
            yield service


def is_pull_request_job(job: str, service: str) -> bool:
    """Whether a job of the generated workflow of pull requests is a service's: `test-api`, `test-api_unit`."""
    return job.partition("_")[0] in (f"test-{service}", f"build-{service}")


def _find_deploy_environment(
    snapshot: PipelineSnapshot,
    role: ResponsibleJob,
    names: NameMatches,
    planned_names: NameMatches,
    pushes_known_images: bool,
) -> str:
    """The environment that a job deploys to, or an empty string."""
    stack, *files = role.effect.what.split("\n")
    if role.workflow.generated and role.job.environment in planned_names.stacks.values():
        return role.job.environment
    if stack in names.stacks:
        return names.stacks[stack]
    text = " ".join([stack, *files, role.job.environment, role.job.id, role.workflow.parsed.name])
    named_environments = _list_named_environments(role.workflow, planned_names)
    if named_environments:
        guessed_environment = guess_environment(text, planned_names)
        return guessed_environment if guessed_environment in named_environments else named_environments[0]
    is_known_container = stack in names.containers or stack in planned_names.containers
    if role.effect.kind == "container" and not is_known_container and not pushes_known_images:
        return ""
    file_names = {file.rpartition("/")[2] for file in files}
    compose_files = [path for path in snapshot.stacks if path.rpartition("/")[2] in file_names]
    if compose_files and not set(compose_files) & set(names.shared_files.values()):
        return next((names.stacks[path] for path in compose_files if path in names.stacks), "")
    if role.job.environment in planned_names.stacks.values():
        return role.job.environment
    if not pushes_known_images and not _contains_known_name(stack, planned_names):
        return ""
    return guess_environment(text, planned_names)


def _contains_known_name(stack: str, planned_names: NameMatches) -> bool:
    """Whether a folder or container is called after a stack, an environment or a service of ours."""
    known_names = {
        *planned_names.stacks,
        *planned_names.stacks.values(),
        *planned_names.images.values(),
        *planned_names.containers,
    }
    return any(re.search(rf"(^|[-_.]){re.escape(known_name)}([-_.]|$)", stack) for known_name in known_names)
