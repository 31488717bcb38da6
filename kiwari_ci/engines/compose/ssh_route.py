"""How a deploy reaches a host over SSH."""

from kiwari_ci.engines.base import StepOfDeploy
from kiwari_ci.engines.compose.hosts import plan_jump_hosts, plan_proxy_commands, plan_ssh_port
from kiwari_ci.plan_model import SshRoute


def plan_ssh_route(step: StepOfDeploy, template: str) -> SshRoute:
    """Plan the step that deploys to one host."""
    environment, host = step.environment, step.host
    settings = environment.deploy_settings(host)
    *images, last_image = step.images
    return SshRoute(
        host=host.name,
        step=step.id,
        template=template,
        stack=step.stack,
        settings=(*dict.fromkeys(settings.values()), *environment.env_settings),
        images=tuple(images),
        last_image=last_image,
        address=settings["address"].name,
        user=settings["user"].name,
        key=settings["key"].name,
        known_hosts=settings["known_hosts"].name,
        port=plan_ssh_port(host.variable, host.model.port, settings.get("port")),
        jumps=plan_jump_hosts(host, settings, file_suffixes=(), deploy_keys=[settings["key"].name]),
        proxy_commands=plan_proxy_commands(host, settings),
        token=settings["token"].name,
    )
