"""Facts → roles: who builds which service's image, who deploys which environment.

Names differ between hands. What is generated says them itself (a deploy names service and container, its job the
environment); what another hand wrote is matched to that by image, container, folder, and at last by telling words.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from kiwari_ci.commands.diff.snapshot import PipelineSnapshot, WorkflowWithEffects
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.compose_file import ComposeProject, ComposeService
from kiwari_ci.readers.image_reference import parse_image_reference, parse_image_repository
from kiwari_ci.readers.step_effects import StepEffect
from kiwari_ci.readers.workflow import ParsedJob

_DEFAULT_COMPOSE_NAMES = ("docker-compose.yml", "docker-compose.yaml", "compose.yml", "compose.yaml")
ResponsibleJob = tuple[WorkflowWithEffects, ParsedJob, StepEffect]


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
        return {work.path for work, _, _ in found}


def extract_generated_names(facts: PipelineSnapshot) -> NameMatches:
    """The names that generated files say."""
    names = NameMatches()
    for work in facts.works.values():
        for job, deed in work.deeds if work.generated else ():
            if deed.kind == "names":
                names.containers[deed.note] = deed.what
            elif deed.kind == "deploy" and job.environment:
                names.stacks[deed.what] = job.environment
        _name_single_image(names, work)
    for stack in facts.stacks.values():
        for service in stack.services.values():
            if service.container in names.containers:
                names.images.setdefault(parse_image_repository(service.image), names.containers[service.container])
    return names


def _name_single_image(names: NameMatches, work: WorkflowWithEffects) -> None:
    """Of the processes of the one image that a generated workflow builds, the service itself is deployed first."""
    first = next((deed.what for _, deed in work.deeds if deed.kind == "names"), "") if work.generated else ""
    images = {parse_image_repository(deed.what) for _, deed in work.deeds if deed.kind == "push"}
    if first and len(images) == 1:
        names.images.setdefault(images.pop(), first)


def match_names(before: PipelineSnapshot, after: PipelineSnapshot, ours: NameMatches) -> NameMatches:
    """Names for the first side: those that it says itself, and for the rest the likeliest of the second's."""
    names = extract_generated_names(before)
    for rule in (_match_image_exactly, _match_image_suffix):
        claimed = set(names.images.values()) if rule is _match_image_suffix else set()
        for image in _list_image_repositories(before):
            if image not in names.images and (service := rule(image, ours)) and service not in claimed:
                names.images[image] = service
    for stack in before.stacks.values():
        for each in stack.services.values():
            _match_container(each, names, ours)
    _match_stacks(before, after, names, ours)
    return names


def _list_image_repositories(facts: PipelineSnapshot) -> list[str]:
    kinds = ("push", "build", "take")
    pushed = [deed.what for work in facts.works.values() for _, deed in work.deeds if deed.kind in kinds]
    run = [each.image for stack in facts.stacks.values() for each in stack.services.values() if each.image]
    return list(dict.fromkeys(parse_image_repository(image) for image in pushed + run))


def _match_image_exactly(image: str, ours: NameMatches) -> str:
    """The service whose image has this name, be its registry another, or that is called so itself."""
    if image in ours.images:
        return ours.images[image]
    name = parse_image_reference(image).name
    found = {
        service for other, service in ours.images.items() if name in (parse_image_reference(other).name, service)
    }
    return found.pop() if len(found) == 1 else ""


def _match_image_suffix(image: str, ours: NameMatches) -> str:
    """The service whose name an image's ends with."""
    name = parse_image_reference(image).name
    found = {service for service in ours.images.values() if re.search(rf"[-_.]{re.escape(service)}$", name)}
    return found.pop() if len(found) == 1 else ""


def _match_container(service: ComposeService, names: NameMatches, ours: NameMatches) -> None:
    key = service.container or service.key
    by_image = names.images.get(parse_image_repository(service.image)) if service.image else ""
    found = ours.containers.get(key) or by_image or (service.key if service.key in ours.images.values() else "")
    if found and key not in names.containers:
        names.containers[key] = found


def _match_stacks(before: PipelineSnapshot, after: PipelineSnapshot, names: NameMatches, ours: NameMatches) -> None:
    """Each environment's likeliest compose file: one by its name or containers, else the one that a deploy names."""
    likely: dict[str, list[tuple[tuple[bool, bool, int], ComposeProject]]] = {}
    for stack in before.stacks.values():
        if not stack.generated and stack.name not in names.stacks:
            surely = _match_stack_exactly(stack, after, ours)
            environment = surely or _guess_stack_environment(stack, before, names, ours)
            if environment:
                known = [names.service(stack, each) in ours.images.values() for each in stack.services.values()]
                rank = (bool(surely), _is_used_by_deploy(stack, before), sum(known))
                likely.setdefault(environment, []).append((rank, stack))
    for environment, found in likely.items():
        stack = max(found, key=lambda each: each[0])[1]
        names.stacks[stack.path] = environment
        if stack.folder:
            names.stacks[stack.name] = environment


def _match_stack_exactly(stack: ComposeProject, after: PipelineSnapshot, ours: NameMatches) -> str:
    """The environment whose stack has this path, name or these containers."""
    there = list(after.stacks.values())
    if same := [each for each in there if each.path == stack.path or (stack.folder and each.name == stack.name)]:
        return ours.environment(same[0].name)
    containers = _collect_container_names([stack])
    shared = [each for each in there if containers & _collect_container_names([each])]
    return ours.environment(shared[0].name) if len(shared) == 1 else ""


def _guess_stack_environment(
    stack: ComposeProject, before: PipelineSnapshot, names: NameMatches, ours: NameMatches
) -> str:
    """What its file's name tells, when services of ours are in it and it tells anything, or a deploy reads it."""
    services = {names.service(stack, each) for each in stack.services.values()}
    if not services & set(ours.images.values()):
        return ""
    return (
        guess_environment(stack.path, ours)
        if vocabulary.classify_environment(stack.path) or _is_used_by_deploy(stack, before)
        else ""
    )


def _is_used_by_deploy(stack: ComposeProject, facts: PipelineSnapshot) -> bool:
    name = stack.path.rpartition("/")[2]
    for work in facts.works.values():
        for _, deed in work.deeds:
            if deed.kind == "deploy":
                files = [each.rpartition("/")[2] for each in deed.what.split("\n")[1:]]
                if name in (files or _DEFAULT_COMPOSE_NAMES):
                    return True
    return False


def guess_environment(text: str, ours: NameMatches) -> str:
    """The only environment that is of the kind that a text tells; the only one at all, for a text that tells none."""
    told = vocabulary.classify_environment(text)
    environments = list(dict.fromkeys(ours.stacks.values()))
    exact = [each for each in environments if re.search(rf"(^|[^a-z]){re.escape(each)}([^a-z]|$)", text.lower())]
    same = exact or [each for each in environments if told and vocabulary.classify_environment(each) == told]
    if len(same) == 1:
        return same[0]
    fits = (
        len(environments) == 1
        and told != vocabulary.DEVELOPMENT
        and (not told or vocabulary.classify_environment(environments[0]) in ("", told))
    )
    return environments[0] if fits else ""


def _collect_container_names(given: Iterable[ComposeProject]) -> set[str]:
    return {each.container for stack in given for each in stack.services.values() if each.container}


def assign_responsibilities(facts: PipelineSnapshot, names: NameMatches, ours: NameMatches) -> Responsibilities:
    """Who does what on one side; where a generated workflow has a role, those of other hands are left out."""
    roles = Responsibilities()
    for work in facts.works.values():
        pushed = {
            names.images.get(parse_image_repository(deed.what)) for _, deed in work.deeds if deed.kind == "push"
        } - {None}
        for job, deed in work.deeds:
            service = names.images.get(parse_image_repository(deed.what)) if deed.kind in ("push", "build") else None
            if service in pushed and service:
                roles.builds.setdefault(service, []).append((work, job, deed))
            elif deed.kind in ("deploy", "container"):
                environment = _find_deploy_environment(facts, work, job, deed, names, ours, bool(pushed))
                (roles.deploys.setdefault(environment, []) if environment else roles.unknown).append((work, job, deed))
    for kept in (roles.builds, roles.deploys):
        for key, found in kept.items():
            kept[key] = [role for role in found if role[0].generated] or found
    return roles


def _find_deploy_environment(
    facts: PipelineSnapshot,
    work: WorkflowWithEffects,
    job: ParsedJob,
    deed: StepEffect,
    names: NameMatches,
    ours: NameMatches,
    ours_too: bool,
) -> str:
    """The environment that a deploy is of; `ours_too`: its workflow pushes images that we know."""
    stack, *files = deed.what.split("\n")
    if stack in names.stacks:
        return names.stacks[stack]
    if deed.kind == "container" and stack not in names.containers and stack not in ours.containers and not ours_too:
        return ""
    known = [path for path in facts.stacks for file in files if path.rpartition("/")[2] == file.rpartition("/")[2]]
    if known:
        return next((names.stacks[path] for path in known if path in names.stacks), "")
    told = " ".join([stack, *files, job.environment, job.id, work.workflow.name])
    return guess_environment(told, ours) if ours_too or _contains_known_name(stack, ours) else ""


def _contains_known_name(stack: str, ours: NameMatches) -> bool:
    """Whether a folder or container is called after a stack, an environment or a service of ours."""
    known = {*ours.stacks, *ours.stacks.values(), *ours.images.values(), *ours.containers}
    return any(re.search(rf"(^|[-_.]){re.escape(each)}([-_.]|$)", stack) for each in known)
