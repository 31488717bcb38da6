"""What others wrote → what the spec calls it: services, environments, hosts, databases, domains; and what is left."""

import re

from kiwari_ci.commands.init import databases, environments, spec_draft
from kiwari_ci.commands.init.compose_files import Container, Stack, is_postgres, proxy_of
from kiwari_ci.commands.init.databases import Server
from kiwari_ci.commands.init.dockerfiles import Images
from kiwari_ci.commands.init.domains import domains
from kiwari_ci.commands.init.findings import Facts
from kiwari_ci.commands.init.services import Found, services
from kiwari_ci.commands.init.workflow_jobs import Workflows
from kiwari_ci.effective import derived
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.proxy_config import Route, routes
from kiwari_ci.readers.repository import Repository
from kiwari_ci.readers.vocabulary import Fact


def decided(
    repository: Repository, identity: tuple[Fact, Fact], found: list[Stack], flows: Workflows, built: Images
) -> tuple[Facts, list[str]]:
    """The facts of the first spec, and in words what `init` does not write or nobody could tell."""
    slug, branch = identity
    leads = routes(repository)
    running = [each for stack in found if stack.kind != vocabulary.AWAY for each in stack.containers]
    made = services(repository, built.built, found, flows, leads)
    places = environments.places(flows, found, str(branch.value))
    hosts = environments.machines(places)
    files = {place.name: stack.name for place in places for stack in found if stack.kind == place.kind and stack.name}
    stacks = environments.folders(places, hosts, files)
    shared = [fact for service in made.kept for _, container in service.containers for fact in container.networks]
    network = shared[0] if shared else None
    server, others = databases.server(repository, found, places, str(network.value) if network else "proxy")
    by_name, unknown = domains(made.kept, places, leads)
    name, _, _ = spec_draft.names(made.kept, str(slug.value))
    fronts, labels = _proxies(running, leads)
    aside = [*made.left, *(f"{path}: {why}" for path, why in built.left)]
    accessories, left = _accessories(running, made.kept, server, str(slug.value))
    facts = Facts(
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


def remains(flows: Workflows) -> list[str]:
    """Workflows of a person that build or deploy today: beside the new ones they would go on."""
    return sorted({step.workflow for step in flows.builds} | {job.workflow for job in flows.deploys})


def _proxies(containers: list[Container], leads: list[Route]) -> tuple[list[Fact], list[Fact]]:
    """What stands in front of the containers: by its own image; by their labels, or by its file."""
    made = [Fact(name, each.where) for each in containers if not each.builds and (name := proxy_of(each.image))]
    said = [each.proxy for each in containers if each.proxy]
    return made, said + [Fact("caddy", route.where) for route in leads if "addyfile" in route.where]


def _accessories(
    containers: list[Container], services: list[Found], server: Server | None, slug: str
) -> tuple[dict[str, Container], list[str]]:
    """Containers of others' images, by the names that the spec gives them, and those of none, in words."""
    ours = {id(container) for each in services for _, container in [*each.containers, *each.further]}
    kept = server.containers if server else set()
    made: dict[str, Container] = {}
    left: dict[str, str] = {}
    for each in containers:
        name = vocabulary.word(vocabulary.bare_name(each.name))
        if id(each) in ours or not each.image or each.builds or proxy_of(each.image):
            continue
        if is_postgres(each.image) and each.name in kept or any(name == service.name for service in services):
            continue
        why = _no_accessory(each.image, slug.partition("/")[0].lower())
        why = f"which runs only with the profile {each.profiles}" if each.profiles else why
        if name and not why:
            made.setdefault(name, each)
        else:
            left.setdefault(each.name, f"{each.name} ({each.where}): {each.image}, {why}")
    return made, [words_ for name, words_ in left.items() if vocabulary.word(vocabulary.bare_name(name)) not in made]


def _no_accessory(image: str, owner: str) -> str:
    """Why an image stands in no spec; empty for one that does."""
    if re.match(rf"(ghcr\.io/)?{re.escape(owner)}/", image.lower()):
        return "an image of yours that no Dockerfile here was found for"
    if "$" in image:
        return "whose version only a variable has"
    return "" if derived.has_version(image) else "which names no version: `accessories` wants one"
