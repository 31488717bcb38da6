"""What others wrote → what the spec calls it: services, environments, hosts, databases, domains; and what is left."""

import re

from kiwari_ci.commands.init import databases, environments, spec_draft
from kiwari_ci.commands.init.compose_files import (
    DetectedComposeFile,
    DetectedContainer,
    detect_proxy,
    is_postgres_image,
)
from kiwari_ci.commands.init.databases import DetectedDatabaseServer
from kiwari_ci.commands.init.dockerfiles import ImageDetection
from kiwari_ci.commands.init.domains import assign_domains
from kiwari_ci.commands.init.findings import RepositoryFindings
from kiwari_ci.commands.init.services import DetectedService, detect_services
from kiwari_ci.commands.init.workflow_jobs import DetectedWorkflows
from kiwari_ci.effective.values import has_version_or_digest
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.proxy_config import ProxyRoute, read_proxy_routes
from kiwari_ci.readers.repository import LocalRepository
from kiwari_ci.readers.vocabulary import SourcedValue


def collect_findings(
    repository: LocalRepository,
    identity: tuple[SourcedValue, SourcedValue],
    found: list[DetectedComposeFile],
    flows: DetectedWorkflows,
    built: ImageDetection,
) -> tuple[RepositoryFindings, list[str]]:
    """The facts of the first spec, and in words what `init` does not write or nobody could tell."""
    slug, branch = identity
    leads = read_proxy_routes(repository)
    running = [each for stack in found if stack.kind != vocabulary.DEVELOPMENT for each in stack.containers]
    made = detect_services(repository, built.built, found, flows, leads)
    places = environments.detect_environments(flows, found, str(branch.value))
    hosts = environments.detect_hosts(places)
    files = {place.name: stack.name for place in places for stack in found if stack.kind == place.kind and stack.name}
    stacks = environments.detect_stack_names(places, hosts, files)
    shared = [fact for service in made.kept for _, container in service.containers for fact in container.networks]
    network = shared[0] if shared else None
    server, others = databases.detect_database_server(
        repository, found, places, str(network.value) if network else "proxy"
    )
    by_name, unknown = assign_domains(made.kept, places, leads)
    name, _, _ = spec_draft.derive_project_names(made.kept, str(slug.value))
    fronts, labels = _detect_proxies(running, leads)
    aside = [*made.left, *(f"{path}: {why}" for path, why in built.left)]
    accessories, left = _detect_accessories(running, made.kept, server, str(slug.value))
    facts = RepositoryFindings(
        repository=repository,
        name=name,
        slug=slug,
        branch=branch,
        services=made.kept,
        accessories=accessories,
        containers=running,
        places=places,
        machines=hosts,
        stacks=stacks,
        domains=by_name,
        server=server,
        proxies=[*fronts, *labels],
        fronts=fronts,
        network=network,
        aside=aside,
    )
    known = {each.image for each in facts.accessories.values()}
    return facts, [*aside, *(each for each in others if not any(image in each for image in known)), *unknown, *left]


def find_replaced_workflows(flows: DetectedWorkflows) -> list[str]:
    """Workflows of a person that build or deploy today: beside the new ones they would go on."""
    return sorted({step.workflow for step in flows.builds} | {job.workflow for job in flows.deploys})


def _detect_proxies(
    containers: list[DetectedContainer], leads: list[ProxyRoute]
) -> tuple[list[SourcedValue], list[SourcedValue]]:
    """What stands in front of the containers: by its own image; by their labels, or by its file."""
    made = [
        SourcedValue(name, each.where) for each in containers if not each.builds and (name := detect_proxy(each.image))
    ]
    said = [each.proxy for each in containers if each.proxy]
    return made, said + [SourcedValue("caddy", route.where) for route in leads if "addyfile" in route.where]


def _detect_accessories(
    containers: list[DetectedContainer],
    services: list[DetectedService],
    server: DetectedDatabaseServer | None,
    slug: str,
) -> tuple[dict[str, DetectedContainer], list[str]]:
    """Containers of others' images, by the names that the spec gives them, and those of none, in words."""
    ours = {id(container) for each in services for _, container in [*each.containers, *each.further]}
    kept = server.containers if server else set()
    made: dict[str, DetectedContainer] = {}
    left: dict[str, str] = {}
    for each in containers:
        name = vocabulary.slugify(vocabulary.strip_environment(each.name))
        if id(each) in ours or not each.image or each.builds or detect_proxy(each.image):
            continue
        if is_postgres_image(each.image) and each.name in kept or any(name == service.name for service in services):
            continue
        why = _explain_rejected_image(each.image, slug.partition("/")[0].lower())
        why = f"which runs only with the profile {each.profiles}" if each.profiles else why
        if name and not why:
            made.setdefault(name, each)
        else:
            left.setdefault(each.name, f"{each.name} ({each.where}): {each.image}, {why}")
    return made, [
        words_ for name, words_ in left.items() if vocabulary.slugify(vocabulary.strip_environment(name)) not in made
    ]


def _explain_rejected_image(image: str, owner: str) -> str:
    """Why an image stands in no spec; empty for one that does."""
    if re.match(rf"(ghcr\.io/)?{re.escape(owner)}/", image.lower()):
        return "an image of yours that no Dockerfile here was found for"
    if "$" in image:
        return "whose version only a variable has"
    return "" if has_version_or_digest(image) else "which names no version: `accessories` wants one"
