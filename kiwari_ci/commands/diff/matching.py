"""Facts → roles: who builds which service's image, who deploys which environment.

Names differ between hands. What is generated says them itself (a deploy names service and container, its job the
environment); what another hand wrote is matched to that by image, container, folder, and at last by telling words.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from kiwari_ci.commands.diff.snapshot import PipelineSnapshot, WorkflowWithEffects
from kiwari_ci.plan import Plan
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.compose_file import ComposeProject, ComposeService
from kiwari_ci.readers.image_reference import parse_image_repository
from kiwari_ci.readers.step_effects import StepEffect
from kiwari_ci.readers.workflow import ParsedJob

_DEFAULT_COMPOSE_NAMES = ("docker-compose.yml", "docker-compose.yaml", "compose.yml", "compose.yaml")


class ResponsibleJob(NamedTuple):
    """A job that builds or deploys, its workflow, and the effect by which it does."""

    workflow: WorkflowWithEffects
    job: ParsedJob
    effect: StepEffect


@dataclass
class NameMatches:
    """What is called how: image repository → service, container → service, stack's name → environment."""

    images: dict[str, str] = field(default_factory=dict)
    containers: dict[str, str] = field(default_factory=dict)
    stacks: dict[str, str] = field(default_factory=dict)

    def environment(self, stack: str) -> str:
        """The environment of a stack; a stack of none, as a database's, is called by its own name."""
        return self.stacks.get(stack, stack)

    def service(self, stack: ComposeProject, service: ComposeService) -> str:
        """What a container's service is called."""
        by_name = self.containers.get(service.container or service.key)
        return by_name or self.images.get(parse_image_repository(service.image), "") or service.container or service.key


@dataclass
class Responsibilities:
    """Who builds and who deploys, by service and by environment; `unknown` deploys what no name was found for."""

    builds: dict[str, list[ResponsibleJob]] = field(default_factory=dict)
    deploys: dict[str, list[ResponsibleJob]] = field(default_factory=dict)
    unknown: list[ResponsibleJob] = field(default_factory=list)

    def involved(self) -> set[str]:
        """Paths of the workflows with a role."""
        found = [role for roles in (*self.builds.values(), *self.deploys.values()) for role in roles]
        return {workflow.path for workflow, _, _ in found}


def get_planned_names(plan: Plan) -> NameMatches:
    """The names that the spec gives to images, containers and stacks."""
    names = NameMatches()
    for stack in plan.stacks:
        names.stacks[stack.name] = stack.environment
        for instance in stack.instances:
            names.containers[instance.container] = instance.service
    workflows = [*plan.workflows, *(workflow for promotion in plan.promotions for workflow in promotion.builds)]
    for source in (workflow.source for workflow in workflows):
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
    """Of the processes of the one image that a generated workflow builds, the service itself is deployed first."""
    first = (
        next((effect.what for _, effect in workflow.effects if effect.kind == "names"), "")
        if workflow.generated
        else ""
    )
    images = {parse_image_repository(effect.what) for _, effect in workflow.effects if effect.kind == "push"}
    if first and len(images) == 1:
        names.images.setdefault(images.pop(), first)


def match_names(before: PipelineSnapshot, after: PipelineSnapshot, planned_names: NameMatches) -> NameMatches:
    """Names for the first side: those that it says itself, and for the rest the likeliest of the second's."""
    names = read_generated_names(before)
    for rule in (_match_image_exactly, _match_image_suffix):
        claimed = set(names.images.values()) if rule is _match_image_suffix else set()
        for image in _list_image_repositories(before):
            if image not in names.images and (service := rule(image, planned_names)) and service not in claimed:
                names.images[image] = service
    for stack in before.stacks.values():
        for each in stack.services.values():
            _match_container(each, names, planned_names)
    _match_stacks(before, after, names, planned_names)
    return names


def _list_image_repositories(snapshot: PipelineSnapshot) -> list[str]:
    kinds = ("push", "build", "take")
    pushed = [
        effect.what
        for workflow in snapshot.workflows.values()
        for _, effect in workflow.effects
        if effect.kind in kinds
    ]
    run = [each.image for stack in snapshot.stacks.values() for each in stack.services.values() if each.image]
    return list(dict.fromkeys(parse_image_repository(image) for image in pushed + run))


def _match_image_exactly(image: str, planned_names: NameMatches) -> str:
    """The service whose image has this name, be its registry another, or that is called so itself."""
    if image in planned_names.images:
        return planned_names.images[image]
    base = image.rpartition("/")[2]
    found = {service for other, service in planned_names.images.items() if base in (other.rpartition("/")[2], service)}
    return found.pop() if len(found) == 1 else ""


def _match_image_suffix(image: str, planned_names: NameMatches) -> str:
    """The service whose name an image's ends with."""
    base = image.rpartition("/")[2]
    found = {service for service in planned_names.images.values() if re.search(rf"[-_.]{re.escape(service)}$", base)}
    return found.pop() if len(found) == 1 else ""


def _match_container(service: ComposeService, names: NameMatches, planned_names: NameMatches) -> None:
    key = service.container or service.key
    by_image = names.images.get(parse_image_repository(service.image)) if service.image else ""
    found = (
        planned_names.containers.get(key)
        or by_image
        or (service.key if service.key in planned_names.images.values() else "")
    )
    if found and key not in names.containers:
        names.containers[key] = found


def _match_stacks(
    before: PipelineSnapshot, after: PipelineSnapshot, names: NameMatches, planned_names: NameMatches
) -> None:
    """Each environment's likeliest compose file: one by its name or containers, else the one that a deploy names."""
    likely: dict[str, list[tuple[tuple[bool, bool, int], ComposeProject]]] = {}
    for stack in before.stacks.values():
        if not stack.generated and stack.name not in names.stacks:
            surely = _match_stack_exactly(stack, after, planned_names)
            environment = surely or _guess_stack_environment(stack, before, names, planned_names)
            if environment:
                known = [
                    names.service(stack, each) in planned_names.images.values() for each in stack.services.values()
                ]
                rank = (bool(surely), _is_used_by_deploy(stack, before), sum(known))
                likely.setdefault(environment, []).append((rank, stack))
    for environment, found in likely.items():
        stack = max(found, key=lambda each: each[0])[1]
        names.stacks[stack.path] = environment
        if stack.folder:
            names.stacks[stack.name] = environment


def _match_stack_exactly(stack: ComposeProject, after: PipelineSnapshot, planned_names: NameMatches) -> str:
    """The environment whose stack has this path, name or these containers."""
    there = list(after.stacks.values())
    if same := [each for each in there if each.path == stack.path or (stack.folder and each.name == stack.name)]:
        return planned_names.environment(same[0].name)
    containers = _collect_container_names([stack])
    shared = [each for each in there if containers & _collect_container_names([each])]
    return planned_names.environment(shared[0].name) if len(shared) == 1 else ""


def _guess_stack_environment(
    stack: ComposeProject, before: PipelineSnapshot, names: NameMatches, planned_names: NameMatches
) -> str:
    """What its file's name tells, when services of ours are in it and it tells anything, or a deploy reads it."""
    services = {names.service(stack, each) for each in stack.services.values()}
    if not services & set(planned_names.images.values()):
        return ""
    return (
        guess_environment(stack.path, planned_names)
        if vocabulary.classify_environment(stack.path) or _is_used_by_deploy(stack, before)
        else ""
    )


def _is_used_by_deploy(stack: ComposeProject, snapshot: PipelineSnapshot) -> bool:
    name = stack.path.rpartition("/")[2]
    for workflow in snapshot.workflows.values():
        for _, effect in workflow.effects:
            if effect.kind == "deploy":
                files = [each.rpartition("/")[2] for each in effect.what.split("\n")[1:]]
                if name in (files or _DEFAULT_COMPOSE_NAMES):
                    return True
    return False


def guess_environment(text: str, planned_names: NameMatches) -> str:
    """The only environment that is of the kind that a text tells; the only one at all, for a text that tells none."""
    kind = vocabulary.classify_environment(text)
    environments = list(dict.fromkeys(planned_names.stacks.values()))
    exact = [each for each in environments if re.search(rf"(^|[^a-z]){re.escape(each)}([^a-z]|$)", text.lower())]
    same = exact or [each for each in environments if kind and vocabulary.classify_environment(each) == kind]
    if len(same) == 1:
        return same[0]
    fits = (
        len(environments) == 1
        and kind != vocabulary.DEVELOPMENT
        and (not kind or vocabulary.classify_environment(environments[0]) in ("", kind))
    )
    return environments[0] if fits else ""


def _collect_container_names(given: Iterable[ComposeProject]) -> set[str]:
    return {each.container for stack in given for each in stack.services.values() if each.container}


def assign_responsibilities(
    snapshot: PipelineSnapshot, names: NameMatches, planned_names: NameMatches
) -> Responsibilities:
    """Find out who builds and who deploys; where a generated workflow does, those of other hands are left out."""
    roles = Responsibilities()
    for workflow in snapshot.workflows.values():
        pushed_services = _find_pushed_services(workflow, names)
        for job, effect in workflow.effects:
            role = ResponsibleJob(workflow, job, effect)
            if effect.kind in ("push", "build"):
                service = names.images.get(parse_image_repository(effect.what))
                if service in pushed_services and service:
                    roles.builds.setdefault(service, []).append(role)
            elif effect.kind in ("deploy", "container"):
                environment = _find_deploy_environment(snapshot, role, names, planned_names, bool(pushed_services))
                if environment:
                    roles.deploys.setdefault(environment, []).append(role)
                else:
                    roles.unknown.append(role)
    for roles_by_name in (roles.builds, roles.deploys):
        for name, found_roles in roles_by_name.items():
            roles_by_name[name] = [role for role in found_roles if role.workflow.generated] or found_roles
    return roles


def _find_pushed_services(workflow: WorkflowWithEffects, names: NameMatches) -> set[str]:
    """The services whose images a workflow pushes."""
    images = [parse_image_repository(effect.what) for _, effect in workflow.effects if effect.kind == "push"]
    return {names.images[image] for image in images if image in names.images}


def _find_deploy_environment(
    snapshot: PipelineSnapshot,
    role: ResponsibleJob,
    names: NameMatches,
    planned_names: NameMatches,
    pushes_known_images: bool,
) -> str:
    """The environment that a job deploys to, or an empty string."""
    stack, *files = role.effect.what.split("\n")
    if stack in names.stacks:
        return names.stacks[stack]
    is_known_container = stack in names.containers or stack in planned_names.containers
    if role.effect.kind == "container" and not is_known_container and not pushes_known_images:
        return ""
    file_names = {file.rpartition("/")[2] for file in files}
    compose_files = [path for path in snapshot.stacks if path.rpartition("/")[2] in file_names]
    if compose_files:
        return next((names.stacks[path] for path in compose_files if path in names.stacks), "")
    if not pushes_known_images and not _contains_known_name(stack, planned_names):
        return ""
    text = " ".join([stack, *files, role.job.environment, role.job.id, role.workflow.parsed.name])
    return guess_environment(text, planned_names)


def _contains_known_name(stack: str, planned_names: NameMatches) -> bool:
    """Whether a folder or container is called after a stack, an environment or a service of ours."""
    known = {
        *planned_names.stacks,
        *planned_names.stacks.values(),
        *planned_names.images.values(),
        *planned_names.containers,
    }
    return any(re.search(rf"(^|[-_.]){re.escape(each)}([-_.]|$)", stack) for each in known)
