"""Reports the containers of a stack's Compose project that the spec does not have, and what becomes of each.

Only a container that a deploy put into service, and whose service the spec has no more, is superfluous. Others may be
the proxy of the host, somebody's database, or the way back after a takeover: the doctor lets all of them stay.
"""

from collections.abc import Iterator

from kiwari_ci.plan_model import ComposeStack, DeployHost, Takeover
from kiwari_ci.proxies.all_proxies import find_planned_proxy
from kiwari_ci.remote_checks.findings import Finding, FindingGroup
from kiwari_ci.remote_checks.runbook_index import RunbookIndex
from kiwari_ci.remote_checks.running_setup import was_ever_deployed
from kiwari_ci.remote_checks.ssh_host import ContainerState, HostFacts

_STOPPED_STATUSES = ("created", "exited", "dead")
_NOT_OF_SPEC = "and is not part of the spec"


def check_unplanned_containers(
    group: FindingGroup,
    host: DeployHost,
    stack: ComposeStack,
    facts: HostFacts,
    takeover: Takeover | None,
    runbook: RunbookIndex,
) -> Iterator[Finding]:
    """Report each container of the stack's project that is not in the spec, once the stack was deployed.

    Before that, what runs in a project of the same name serves, and is still to be taken over. Containers of today that
    the spec names in `takeover` may belong to any project.
    """
    if not was_ever_deployed(stack, facts):
        return
    planned_names = {container.container for container in stack.containers}
    planned_names |= {f"{name}-next" for name in planned_names}
    for name, container in facts.containers().items():
        is_of_stack = container.project == stack.name or bool(_find_successor(takeover, name))
        if is_of_stack and name not in planned_names:
            yield _judge_container(group, host, stack, facts, takeover, runbook, container)


def _judge_container(
    group: FindingGroup,
    host: DeployHost,
    stack: ComposeStack,
    facts: HostFacts,
    takeover: Takeover | None,
    runbook: RunbookIndex,
    container: ContainerState,
) -> Finding:
    name = container.name
    is_proxy_of_takeover = takeover is not None and name == takeover.ports
    if container.status in _STOPPED_STATUSES:
        if is_proxy_of_takeover and not host.fronts:
            return group.ok(name, f"stopped, {_NOT_OF_SPEC}: no deploy starts or removes it")
        return group.ok(name, "stopped, kept for going back: remove it when you no longer want to go back")
    is_certain_proxy = is_proxy_of_takeover or bool(container.web_ports)
    if facts.word("record", stack.name, name) and not is_certain_proxy:
        cure = f"lead its domain elsewhere, then on the server: docker rm -f {name}"
        return group.wrong(name, "runs, and the spec has no such service any more", "no such container", cure)
    proxy_reason = _explain_proxy(host, container, is_proxy_of_takeover)
    if proxy_reason:
        return group.ok(name, f"runs, {_NOT_OF_SPEC}: it stays. {proxy_reason}")
    successor = _find_successor(takeover, name)
    if successor:
        saw = f"still runs beside {successor}, and may get its requests or do its work"
        return group.wrong(name, saw, "stopped, after you have switched over", runbook.step("first_push"))
    state = "runs" if container.status == "running" else container.status
    return group.ok(name, f"{state}, {_NOT_OF_SPEC}: no deploy starts, stops or removes it")


def _explain_proxy(host: DeployHost, container: ContainerState, is_proxy_of_takeover: bool) -> str:
    """Why a container is taken for a reverse proxy; empty if it is not."""
    if container.web_ports:
        word = "port" if len(container.web_ports) == 1 else "ports"
        return f"It has {word} {', '.join(container.web_ports)} of the host"
    if is_proxy_of_takeover:
        return "It has ports 80 and 443 in `takeover`"
    if find_planned_proxy(host.proxy).runs_image(container.image):
        return "It is a proxy of the kind in the spec"
    return ""


def _find_successor(takeover: Takeover | None, name: str) -> str:
    """The container of the spec that replaces one of today; empty if the spec does not name it."""
    containers = takeover.containers if takeover else ()
    return next((container.container for container in containers if container.today == name), "")
