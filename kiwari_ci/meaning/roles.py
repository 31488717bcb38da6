"""Facts → roles: who builds which service's image, who deploys which environment.

Names differ between hands. What is generated says them itself (a deploy names service and container, its job the
environment); what another hand wrote is matched to that by image, container, folder, and at last by telling words.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from .deeds import Deed, repository
from .facts import Facts, Work
from .stacks import Service, Stack
from .workflows import Job

_KINDS = {"production": r"prod|prd|live", "staging": r"stag|stg|preprod", "development": r"dev|local|test|ci\b"}
Role = tuple[Work, Job, Deed]


@dataclass
class Names:
    """What is called how: image repository → service, container → service, stack's name → environment."""

    images: dict[str, str] = field(default_factory=dict)
    containers: dict[str, str] = field(default_factory=dict)
    stacks: dict[str, str] = field(default_factory=dict)

    def environment(self, stack: str) -> str:
        """The environment of a stack; a stack of none, as a database's, is called by its own name."""
        return self.stacks.get(stack, stack)

    def service(self, stack: Stack, service: Service) -> str:
        """What a container's service is called."""
        by_name = self.containers.get(service.container or service.key)
        return by_name or self.images.get(repository(service.image), "") or service.container or service.key


@dataclass
class Roles:
    """Who builds and who deploys, by service and by environment; `unknown` deploys what no name was found for."""

    builds: dict[str, list[Role]] = field(default_factory=dict)
    deploys: dict[str, list[Role]] = field(default_factory=dict)
    unknown: list[Role] = field(default_factory=list)

    def involved(self) -> set[str]:
        """Paths of the workflows with a role."""
        found = [role for roles in (*self.builds.values(), *self.deploys.values()) for role in roles]
        return {work.path for work, _, _ in found}


def named(facts: Facts) -> Names:
    """The names that generated files say."""
    names = Names()
    for work in facts.works.values():
        for job, deed in work.deeds if work.generated else ():
            if deed.kind == "names":
                names.containers[deed.note] = deed.what
            elif deed.kind == "deploy" and job.environment:
                names.stacks[deed.what] = job.environment
    for stack in facts.stacks.values():
        for service in stack.services.values():
            if service.container in names.containers:
                names.images[repository(service.image)] = names.containers[service.container]
    return names


def matched(before: Facts, after: Facts, ours: Names) -> Names:
    """Names for the first side: those that it says itself, and for the rest the likeliest of the second's."""
    names = named(before)
    for image in _images(before):
        if image not in names.images and (service := _service_of(image, ours)):
            names.images[image] = service
    for stack in before.stacks.values():
        for service in stack.services.values():
            _match_container(service, names, ours)
    for stack in _unmatched(before, names):
        if environment := _environment_of(stack, after, names, ours):
            names.stacks[stack.name] = names.stacks[stack.path] = environment
    return names


def _images(facts: Facts) -> list[str]:
    pushed = [
        deed.what for work in facts.works.values() for _, deed in work.deeds if deed.kind in ("push", "build", "take")
    ]
    run = [each.image for stack in facts.stacks.values() for each in stack.services.values() if each.image]
    return list(dict.fromkeys(repository(image) for image in pushed + run))


def _service_of(image: str, ours: Names) -> str:
    """The service whose image has the same name, or whose name that image has, be its registry another."""
    if image in ours.images:
        return ours.images[image]
    base = image.rpartition("/")[2]
    found = {service for other, service in ours.images.items() if base in (other.rpartition("/")[2], service)}
    found = found or {
        service for service in ours.images.values() if re.search(rf"(^|[-_.]){re.escape(service)}$", base)
    }
    if not found and len(set(ours.images.values())) == 1 and "/" in image:
        only, service = next(iter(ours.images.items()))
        found = {service} if only.split("/")[:-1] == image.split("/")[:-1] else set()
    return found.pop() if len(found) == 1 else ""


def _match_container(service: Service, names: Names, ours: Names) -> None:
    key = service.container or service.key
    by_image = names.images.get(repository(service.image)) if service.image else ""
    services = set(ours.images.values())
    found = ours.containers.get(key) or by_image or (service.key if service.key in services else "")
    if found and key not in names.containers:
        names.containers[key] = found


def _unmatched(facts: Facts, names: Names) -> list[Stack]:
    return [stack for stack in facts.stacks.values() if not stack.generated and stack.name not in names.stacks]


def _environment_of(stack: Stack, after: Facts, names: Names, ours: Names) -> str:
    """The environment whose stack has this name or these containers; else the only one of this kind."""
    there = list(after.stacks.values())
    if same := [each for each in there if each.path == stack.path or (stack.folder and each.name == stack.name)]:
        return ours.environment(same[0].name)
    containers = _containers([stack])
    shared = [each for each in there if containers & _containers([each])]
    if len(shared) == 1:
        return ours.environment(shared[0].name)
    if not {names.service(stack, each) for each in stack.services.values()} & set(ours.images.values()):
        return ""
    return by_words(stack.path, ours)


def by_words(text: str, ours: Names, when: Iterable[str] = ()) -> str:
    """The only environment that is of the kind that a text tells; the only one at all, for a text that tells none."""
    told = kind(text)
    environments = list(dict.fromkeys(ours.stacks.values()))
    exact = [each for each in environments if re.search(rf"(^|[^a-z]){re.escape(each)}([^a-z]|$)", text.lower())]
    same = exact or [each for each in environments if told and kind(each) == told]
    if len(same) == 1:
        return same[0]
    return environments[0] if len(environments) == 1 and told != "development" else ""


def kind(text: str) -> str:
    """Which kind of environment a text tells of, if any."""
    return next((kind for kind, words in _KINDS.items() if re.search(rf"(^|[^a-z])({words})", text.lower())), "")


def _containers(given: Iterable[Stack]) -> set[str]:
    return {each.container for stack in given for each in stack.services.values() if each.container}


def of(facts: Facts, names: Names, ours: Names) -> Roles:
    """Who does what on one side; where a generated workflow has a role, those of other hands are left out."""
    roles = Roles()
    for work in facts.works.values():
        for job, deed in work.deeds:
            if deed.kind in ("push", "build") and (service := names.images.get(repository(deed.what))):
                roles.builds.setdefault(service, []).append((work, job, deed))
            elif deed.kind in ("deploy", "container"):
                environment = _deployed(facts, work, job, deed, names, ours)
                (roles.deploys.setdefault(environment, []) if environment else roles.unknown).append((work, job, deed))
    for kept in (roles.builds, roles.deploys):
        for key, found in kept.items():
            kept[key] = [role for role in found if role[0].generated] or found
    return roles


def _deployed(facts: Facts, work: Work, job: Job, deed: Deed, names: Names, ours: Names) -> str:
    stack, *files = deed.what.split("\n")
    if stack in names.stacks:
        return names.stacks[stack]
    if deed.kind == "container" and (service := ours.containers.get(stack)):
        found = {each for each in ours.stacks.values() if kind(each) == kind(job.environment or job.id)}
        return found.pop() if len(found) == 1 else by_words(f"{job.id} {service}", ours)
    for file in files:
        known = [path for path in facts.stacks if path.rpartition("/")[2] == file.rpartition("/")[2]]
        if known and known[0] in names.stacks:
            return names.stacks[known[0]]
    told = " ".join([stack, *files, job.environment, job.id, work.workflow.name, *job.when, deed.note])
    return by_words(told, ours)
