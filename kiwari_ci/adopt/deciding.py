"""What others wrote → what the spec calls it: services, environments, hosts, databases, domains; and what is left."""

from kiwari_ci.adopt import composing, databases, environments, words
from kiwari_ci.adopt.addresses import Route, routes
from kiwari_ci.adopt.databases import Server
from kiwari_ci.adopt.domains import domains
from kiwari_ci.adopt.facts import Facts
from kiwari_ci.adopt.images import Images
from kiwari_ci.adopt.jobs import Workflows
from kiwari_ci.adopt.repository import Repository
from kiwari_ci.adopt.services import Found, services
from kiwari_ci.adopt.stacks import Container, Stack, is_postgres, proxy_of
from kiwari_ci.adopt.words import Fact


def decided(
    repository: Repository, identity: tuple[Fact, Fact], found: list[Stack], flows: Workflows, built: Images
) -> tuple[Facts, list[str]]:
    """The facts of the first spec, and in words what `init` does not write or nobody could tell."""
    slug, branch = identity
    leads = routes(repository)
    made = services(repository, built.built, found, flows, leads)
    places = environments.places(flows, found, str(branch.value))
    hosts = environments.machines(places)
    files = {place.name: stack.name for place in places for stack in found if stack.kind == place.kind and stack.name}
    stacks = environments.folders(places, hosts, files)
    shared = [fact for service in made.kept for _, container in service.containers for fact in container.networks]
    network = shared[0] if shared else None
    server, others = databases.server(repository, found, places, str(network.value) if network else "proxy")
    by_name, unknown = domains(made.kept, places, leads)
    name, _, _ = composing.names(made.kept, str(slug.value))
    fronts, labels = _proxies(found, leads)
    aside = [*made.left, *(f"{path}: {why}" for path, why in built.left)]
    facts = Facts(
        repository=repository,
        name=name,
        slug=slug,
        branch=branch,
        services=made.kept,
        accessories=_accessories(found, made.kept, server),
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
    return facts, [*aside, *(each for each in others if not any(image in each for image in known)), *unknown]


def remains(flows: Workflows) -> list[str]:
    """Workflows of a person that build or deploy today: beside the new ones they would go on."""
    return sorted({step.workflow for step in flows.builds} | {job.workflow for job in flows.deploys})


def _proxies(found: list[Stack], leads: list[Route]) -> tuple[list[Fact], list[Fact]]:
    """What stands in front of the containers: by its own image; by their labels, or by its file."""
    containers = [each for stack in found if stack.kind != words.AWAY for each in stack.containers]
    made = [Fact(name, each.where) for each in containers if not each.builds and (name := proxy_of(each.image))]
    said = [each.proxy for each in containers if each.proxy]
    return made, said + [Fact("caddy", route.where) for route in leads if "addyfile" in route.where]


def _accessories(found: list[Stack], services: list[Found], server: Server | None) -> dict[str, Container]:
    """Containers of images that are not built here, by the names that the spec gives them; the proxy is the host's."""
    ours = {id(container) for each in services for _, container in [*each.containers, *each.further]}
    taken = {each.name for each in services}
    kept = server.containers if server else set()
    made: dict[str, Container] = {}
    for stack in found:
        for each in stack.containers if stack.kind != words.AWAY else ():
            name = words.word(each.name)
            if id(each) in ours or not each.image or each.builds or proxy_of(each.image):
                continue
            if is_postgres(each.image) and each.name in kept:
                continue
            if name and name not in taken:
                made.setdefault(name, each)
    return made
