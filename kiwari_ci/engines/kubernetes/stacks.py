"""A stack on a cluster: its objects, and what the rest of the plan knows of it."""

from collections.abc import Mapping

from kiwari_ci.effective_spec import (
    EffectiveAccessory,
    EffectiveContainer,
    EffectiveEnvironment,
    EffectiveHost,
    EffectiveService,
    EffectiveSpec,
)
from kiwari_ci.engines import env_files
from kiwari_ci.engines.base import StepOfDeploy
from kiwari_ci.engines.kubernetes import manifests
from kiwari_ci.engines.kubernetes.deploy_programs import rollout
from kiwari_ci.engines.services import describe_service, plan_route
from kiwari_ci.plan_model import (
    Cluster,
    ClusterStack,
    ClusterStep,
    EnvSecret,
    PlannedAccessory,
    PlannedContainer,
    PlannedService,
)
from kiwari_ci.plan_model.base import FrozenMapping

PROGRAM = "deploy/bin/rollout"


def plan_stack(environment: EffectiveEnvironment) -> ClusterStack:
    """Plan what a cluster runs of an environment."""
    settings = read_cluster_settings(environment.spec, environment.hosts_with("kubernetes")[0])
    files = env_files.plan_env_files(environment)
    is_rendered = environment.renders_env_files
    databases = manifests.build_databases(environment, settings)
    names = [rollout.MANIFESTS, *(["database.yaml"] if databases else [])]
    return ClusterStack(
        name=environment.stack_name,
        source_folder=environment.source_folder,
        environment=environment.name,
        instances=tuple(_plan_service(service) for service in environment.services.values()),
        accessories=tuple(_plan_accessory(accessory) for accessory in environment.accessories.values()),
        env_files=() if is_rendered else files,
        sent=files if is_rendered else (),
        kept=env_files.list_rendered_settings(environment),
        pushed=True,
        redirects=(),  # a rule refuses them
        status_command=f"{PROGRAM} status {environment.stack_name}",
        files=tuple(f"deploy/{environment.source_folder}/{name}" for name in names),
        objects=_freeze(manifests.build_stack(environment, settings)),
        databases=_freeze(databases),
        secrets=() if is_rendered else tuple(EnvSecret(rollout.secret_of(file.name), file) for file in files),
    )


def plan_cluster(spec: EffectiveSpec, host: EffectiveHost, stacks: Mapping[str, ClusterStack]) -> Cluster:
    """Plan a cluster with the stacks that are on it, by environment."""
    settings = read_cluster_settings(spec, host)
    environments = [spec.environments[name] for name in stacks]
    return Cluster(
        name=host.name,
        engine=host.engine,
        variable=host.variable,
        stacks=tuple(stacks.values()),
        public=tuple(container for stack in stacks.values() for container in stack.containers if container.domain),
        kubeconfig=host.deploy_settings()["kubeconfig"],
        ingress_class=settings.ingress_class,
        issuer=settings.issuer,
        registry=spec.registry.host,
        registry_user=spec.registry.user or spec.project.repository.partition("/")[0],
        registry_token=spec.registry.pull_token.secret or "",
        setup=_freeze(manifests.build_setup(environments, settings)),
    )


def plan_cluster_step(step: StepOfDeploy, template: str) -> ClusterStep:
    """Plan the step that runs the rollout program."""
    kubeconfig = step.host.deploy_settings()["kubeconfig"]
    *images, last_image = step.images
    return ClusterStep(
        host=step.host.name,
        step=step.id,
        template=template,
        stack=step.stack,
        settings=(kubeconfig, *step.environment.env_settings),
        images=tuple(images),
        last_image=last_image,
        kubeconfig=kubeconfig.name,
    )


def read_cluster_settings(spec: EffectiveSpec, host: EffectiveHost) -> manifests.ClusterSettings:
    """Read what the spec says of a cluster, and where it reaches databases."""
    addresses = {name: server.model.address for name, server in spec.databases.items() if server.model.address}
    has_ingress = host.proxy.kind == "ingress"
    return manifests.ClusterSettings(
        name=host.name,
        ingress_class=host.proxy.ingress_class if has_ingress else "",
        issuer=(host.proxy.issuer or "") if has_ingress else "",
        database_addresses=addresses,
    )


def _freeze(documents: list[manifests.Document]) -> tuple[FrozenMapping, ...]:
    return tuple(manifests.freeze(document) for document in documents)


def _plan_service(service: EffectiveService) -> PlannedService:
    image = f"{service.image.repository}:{service.environment.image_tag}"
    container = _plan_container(service, image, service.options.health.path, service.options.health.status)
    return PlannedService(**vars(container), **describe_service(service))


def _plan_accessory(accessory: EffectiveAccessory) -> PlannedAccessory:
    container = _plan_container(accessory, accessory.options.image, "/", 0)
    return PlannedAccessory(**vars(container), name=accessory.name, once=accessory.options.once)


def _plan_container(container: EffectiveContainer, image: str, path: str, status: int) -> PlannedContainer:
    return PlannedContainer(
        container=container.container_name,
        image=image,
        routes=tuple(plan_route(container, route) for route in container.routes),
        port=container.options.port or 0,
        health_path=path,
        health_status=status,
        websocket="yes" if container.options.websocket else "no",
    )
