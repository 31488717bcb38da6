"""What others wrote → what the spec calls it: services, environments, hosts, databases, domains; and what is left."""

from kiwari_ci.adopt import composing, databases, environments, words
from kiwari_ci.adopt.addresses import Route, routes
from kiwari_ci.adopt.domains import domains
from kiwari_ci.adopt.facts import Facts
from kiwari_ci.adopt.images import Images
from kiwari_ci.adopt.jobs import Workflows
from kiwari_ci.adopt.repository import Repository
from kiwari_ci.adopt.services import services
from kiwari_ci.adopt.stacks import Stack, is_postgres, proxy_of
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
    proxies = _proxies(found, leads)
    aside = [*made.left, *(f"{path}: {why}" for path, why in built.left)]
    facts = Facts(
        repository, name, slug, branch, made.kept, places, hosts, stacks, by_name, server, proxies, network, aside
    )
    left = [*aside, *others, *unknown]
    return facts, left + _third_parties(found, facts) + composing.seen(facts.services)


def remains(flows: Workflows) -> list[str]:
    """Workflows of a person that build or deploy today: beside the new ones they would go on."""
    return sorted({step.workflow for step in flows.builds} | {job.workflow for job in flows.deploys})


def _proxies(found: list[Stack], leads: list[Route]) -> list[Fact]:
    """What stands in front of the containers: by its own image, by their labels, by its file."""
    containers = [each for stack in found if stack.kind != words.AWAY for each in stack.containers]
    made = [Fact(name, each.where) for each in containers if not each.builds and (name := proxy_of(each.image))]
    made += [each.proxy for each in containers if each.proxy]
    return made + [Fact("caddy", route.where) for route in leads if "addyfile" in route.where]


def _third_parties(found: list[Stack], facts: Facts) -> list[str]:
    """Containers of images that are not built here."""
    ours = {id(container) for service in facts.services for _, container in service.containers}
    ours |= {id(container) for service in facts.services for container in service.further}
    known: dict[str, str] = {}
    for stack in found:
        for each in stack.containers:
            if id(each) not in ours and each.image and not each.builds and not is_postgres(each.image):
                known.setdefault(f"{each.name}: {each.image}", each.where)
    return [f"{what} ({where})" for what, where in known.items()]
