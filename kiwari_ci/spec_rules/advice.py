"""Advice: settings that work but could be safer or simpler, each with the line of the spec that changes it."""

import math
import re
from collections.abc import Iterator

from kiwari_ci.effective_spec import EffectiveContainer, EffectiveEnvironment, EffectiveService, EffectiveSpec
from kiwari_ci.effective_spec.values import format_variable_name
from kiwari_ci.problems import Problem, RuleName
from kiwari_ci.schema import Service
from kiwari_ci.spec_loading.validation import report_at_key
from kiwari_ci.spec_loading.yaml_source import YamlPath, YamlSource

# What frameworks build into a browser's code.
PUBLIC_ARGUMENT = re.compile(r"(VITE|VUE_APP|REACT_APP|NG_APP|GATSBY|(\w+_)?PUBLIC)_")

Advice = Iterator[tuple[YamlPath, RuleName, str, str]]  # place, rule, message, hint


def collect_advice(source: YamlSource, spec: EffectiveSpec) -> list[Problem]:
    """Collect advice for a sound spec; it never makes a command fail."""
    advice = [
        *_check_latest_runners(spec),
        *_check_self_hosted_runners(spec),
        *_check_database_networks(spec),
        *_check_backup_copies(spec),
        *_check_shared_env_files(spec),
        *_check_ports_in_shared_env_files(spec),
        *_check_artifact_names(spec),
        *_check_shared_deploy_keys(spec),
        *_check_pushed_files(spec),
        *_check_baked_addresses(spec),
        *_check_healthcheck_tools(spec),
        *_check_host_access(spec),
        *_check_shared_volumes(spec),
        *_check_proxies_that_find_containers(spec),
    ]
    return [report_at_key(source, loc, rule, message, hint, severity="advice") for loc, rule, message, hint in advice]


def _check_latest_runners(spec: EffectiveSpec) -> Advice:
    for loc, labels in _list_runners(spec):
        for label in labels:
            if label.endswith("-latest"):
                message = f"`{label}` moves to another system some day"
                yield loc, "moving-runner", message, "runner: ubuntu-24.04"


def _check_self_hosted_runners(spec: EffectiveSpec) -> Advice:
    for loc, labels in _list_runners(spec):
        if "self-hosted" in labels:
            message = "on a runner of your own, each job finds what earlier jobs left there"
            hint = "runner: ubuntu-24.04; or, in a private repository only, start a new runner of your own for each job"
            yield loc, "kept-runner", message, hint


def _list_runners(spec: EffectiveSpec) -> Iterator[tuple[YamlPath, list[str]]]:
    """Each place of the spec that names a runner, with its labels."""
    yield ("project", "runner"), spec.project.runner
    for name, environment in spec.environments.items():
        yield ("environments", name, "runner"), environment.model.runner or []


def _check_database_networks(spec: EffectiveSpec) -> Advice:
    proxy_networks = {host.proxy.network for host in spec.hosts.values()}
    for name, server in spec.databases.items():
        if server.model.network in proxy_networks:
            message = f"everything on the network `{server.network}` can reach the database, the proxy too"
            hint = f"leave out `network`: the server is then on `{name}`, which only services with a database join"
            yield ("databases", name, "network"), "shared-network", message, hint


def _check_backup_copies(spec: EffectiveSpec) -> Advice:
    for name, server in spec.databases.items():
        backup = server.model.backup
        if backup and not backup.copy_to:
            message = "the dumps are on the disk of the database: when it fails, both are lost"
            hint = 'copy_to: {command: \'rclone copyto "$BACKUP_FILE" "far:$BACKUP_NAME"\'}'
            yield ("databases", name, "backup"), "same-disk", message, hint


def _check_shared_env_files(spec: EffectiveSpec) -> Advice:
    for name, environment in spec.environments.items():
        if environment.model.env_file and len(environment.services) > 1:
            message = f"every service of {name} reads every secret in `{environment.model.env_file}`"
            hint = "leave out `env_file`: each service then has an env file of its own"
            yield ("environments", name, "env_file"), "shared-env-file", message, hint


def _check_ports_in_shared_env_files(spec: EffectiveSpec) -> Advice:
    """Find a `PORT` of one service that another one reads, which listens elsewhere."""
    for name, environment in spec.environments.items():
        env_file = environment.model.env_file
        written_ports = {
            service.name: service.options.env["PORT"].value
            for service in environment.services.values()
            if "PORT" in service.options.env and service.options.env["PORT"].value is not None
        }
        if not env_file or len(set(written_ports.values())) != 1:
            continue
        owner, port = next(iter(written_ports.items()))
        for service in environment.services.values():
            if service.name not in written_ports and _listens_elsewhere(service, str(port)):
                own_port = service.options.port
                message = f"{service.name} listens on {own_port}, but `{env_file}` sets `PORT` to {port}, for {owner}"
                hint = f"services.{service.name}: environment: {{PORT: '{own_port}'}}"
                yield ("environments", name, "env_file"), "shared-env-file", message, hint


def _listens_elsewhere(service: EffectiveService, port: str) -> bool:
    """Whether a service has another port, and no `PORT` in its Compose section, which has priority over env files."""
    if service.options.port is None or "PORT" in (service.options.environment or {}):
        return False
    return str(service.options.port) != port


def _check_artifact_names(spec: EffectiveSpec) -> Advice:
    """Find steps of several test jobs of one run that keep an artifact of the same name."""
    job_counts: dict[tuple[str, str], int] = {}
    places: dict[tuple[str, str], YamlPath] = {}
    tests_all_in_one_run = _tests_services_together(spec)
    for service in spec.built_services:
        model = spec.services[service]
        for index, step in enumerate(model.steps.after_test):
            if step.uses == "actions/upload-artifact" and step.inputs.get("overwrite") != "true":
                run = "" if tests_all_in_one_run else service
                artifact = (run, step.inputs.get("name", "artifact"))
                job_counts[artifact] = job_counts.get(artifact, 0) + _count_test_jobs(model)
                places.setdefault(artifact, ("services", service, "steps", "after_test", index, "uses"))
    for artifact, count in job_counts.items():
        if count > 1:
            message = f"{count} test jobs of a run keep an artifact `{artifact[1]}`: GitHub refuses all but the first"
            hint = "inputs: {overwrite: 'true'}, which keeps the last one; or test: {workflow: …}, which names its own"
            yield places[artifact], "artifact-name", message, hint


def _tests_services_together(spec: EffectiveSpec) -> bool:
    """Whether one run tests several services: that of a pull request, or of a tag whose images it builds."""
    builds_on_tag = any(
        environment.model.deploy_on.tag and not environment.model.promote for environment in spec.environments.values()
    )
    return spec.project.pull_requests or builds_on_tag


def _count_test_jobs(service: Service) -> int:
    """The test jobs that have the steps of a service; a workflow of one's own has none of them."""
    tests = [service.test] if service.test else list(service.tests.values())
    return sum(math.prod(len(values) for values in test.matrix.values()) for test in tests if not test.workflow)


def _check_pushed_files(spec: EffectiveSpec) -> Advice:
    for name, environment in spec.environments.items():
        if environment.sends_files:
            host = environment.hosts_with("compose")[0]
            key = environment.deploy_settings(host)["key"].name
            message = (
                f"a deploy sends the compose file to {host.name}, so whoever has the key `{key}`, or may push what is "
                "deployed, is root there"
            )
            hint = "leave out `sync`: a person copies the files, with the command that a refused deploy prints"
            yield ("environments", name, "sync"), "pushed-files", message, hint
            yield from _check_unsent_mounts(environment)


def _check_unsent_mounts(environment: EffectiveEnvironment) -> Advice:
    """A file that a container mounts read-only must be sent, too: Docker creates an empty folder if it is missing."""
    sent_files = environment.stack_files
    for container in environment.containers.values():
        for index, volume in enumerate(container.options.volumes or ()):
            path, _, mount = volume.removeprefix("./").partition(":")
            if volume.startswith("./") and mount.endswith(":ro") and not _is_covered_path(path, sent_files):
                message = f"the deploys of {environment.name} do not send `{path}`, which `{container.name}` mounts"
                loc = (*container.yaml_path("volumes"), index)
                hint = f"environments.{environment.name}.files: [{path}]; or, if it holds secrets, copy it by hand"
                yield loc, "unsent-file", message, hint


def _is_covered_path(path: str, files: list[str]) -> bool:
    return any(file == path or file.startswith(f"{path}/") for file in files)


def _check_shared_deploy_keys(spec: EffectiveSpec) -> Advice:
    first_environments: dict[tuple[str, str], str] = {}
    for environment in spec.environments_on("compose"):
        name = environment.name
        host = environment.hosts_with("compose")[0]
        key = environment.deploy_settings(host)["key"].name
        first_environment = first_environments.setdefault((host.name, key), name)
        if first_environment != name:
            message = f"the key `{key}` of {first_environment} deploys {name}, too"
            sharing = (first_environment, name)
            open_environment = next((shared for shared in sharing if _takes_any_branch(spec, shared)), "")
            if open_environment:
                message += f", and every branch that a person deploys to {open_environment} can read it"
            hint = f"key: {{secret: {format_variable_name(name)}_SSH_KEY}}"
            yield ("environments", name), "shared-key", message, hint


def _takes_any_branch(spec: EffectiveSpec, environment: str) -> bool:
    return spec.environments[environment].is_ordered_by_run


def _check_baked_addresses(spec: EffectiveSpec) -> Advice:
    """An image has one value of a build argument, whichever environment runs it."""
    for name in spec.built_services:
        environments = [environment for environment in spec.environments.values() if name in environment.services]
        if len(environments) < 2 or spec.has_environment_specific_build(name):
            continue
        for key, argument in spec.services[name].build.args.items():
            owner = next(
                (environment for environment in environments if _names_domain_of(environment, argument.value or "")),
                None,
            )
            is_address = PUBLIC_ARGUMENT.match(key) and "://" in (argument.value or "")
            if owner is None and not is_address:
                continue
            others = [environment.name for environment in environments if environment is not owner]
            message = f"`{argument.value}` is built into the image that {' and '.join(others)} runs, too"
            if owner is None:
                message = f"`{argument.value}` is built into the image, and the same in {' and '.join(others)}"
            hint = f"environments.{others[-1]}.overrides: {{{name}: {{build: {{args: {{{key}: …}}}}}}}}"
            yield ("services", name, "build", "args", key), "baked-address", message, hint


def _names_domain_of(environment: EffectiveEnvironment, text: str) -> bool:
    """Whether a text has one of an environment's domains in it."""
    domains = {route.domain for routes in environment.model.domains.values() for route in routes}
    return any(re.search(rf"(?<![\w.-]){re.escape(domain)}(?![\w.-])", text) for domain in domains)


def _check_healthcheck_tools(spec: EffectiveSpec) -> Advice:
    """A deploy asks a service from outside its container; Docker asks within, where the image must have the tool."""
    for name, service in spec.services.items():
        command = " ".join(service.healthcheck.test) if service.healthcheck else ""
        tools = [tool for tool in ("curl", "wget") if re.search(rf"\b{tool}\b", command)]
        if tools:
            message = f"the image must have `{tools[0]}`, or Docker calls {name} unhealthy for ever"
            hint = "leave out `healthcheck` if no `depends_on` waits for it: a deploy requests `health` from the host"
            yield ("services", name, "healthcheck"), "healthcheck-tool", message, hint


def _check_host_access(spec: EffectiveSpec) -> Advice:
    """Find what gives a container power over its host; one line of a spec counts once for all environments."""
    reported: set[tuple[YamlPath, str]] = set()
    for environment in spec.environments.values():
        for container in environment.containers.values():
            for loc, rule, message, hint in _check_container_access(container):
                if (loc, message) not in reported:
                    reported.add((loc, message))
                    yield loc, rule, message, hint


def _check_container_access(container: EffectiveContainer) -> Advice:
    yield from _check_open_ports(container)
    yield from _check_host_mounts(container)
    yield from _check_privileged(container)


def _check_shared_volumes(spec: EffectiveSpec) -> Advice:
    """Two containers of a service write to its volume while a start-first deploy replaces one by the other."""
    advised: set[str] = set()
    for environment in spec.environments.values():
        for name, service in environment.services.items():
            volume = _find_written_volume(service.options)
            if volume and environment.hosts_with("compose") and name not in advised and _runs_twice(service):
                advised.add(name)
                message = f"a deploy runs the old and the new {name} at the same time, and both write to `{volume}`"
                hint = (
                    "rollout: recreate, which stops the old one first; or rollout: start-first, if both may write, "
                    "as with uploads"
                )
                yield service.yaml_path("volumes"), "shared-volume", message, hint


def _find_written_volume(options: Service) -> str:
    """Name the first volume of Docker that a container may write to; empty when there is none."""
    for volume in options.volumes or ():
        source, *mount = volume.split(":")
        if not source.startswith((".", "/", "~")) and "ro" not in mount[-1].split(","):
            return source
    return ""


def _check_proxies_that_find_containers(spec: EffectiveSpec) -> Advice:
    """Such a proxy finds a new container when it starts; only from Traefik does the host program hide it."""
    places: set[YamlPath] = set()
    for environment in spec.environments_on("compose"):
        for service in environment.services.values():
            for loc, proxy in _find_signs_for_proxies(service):
                if loc not in places and not service.options.once:
                    message = f"by this, {proxy} finds the new container of {service.name} before it is healthy"
                    hint = "leave it out, and `kind: caddy` for the host: the proxy then leads to the service's name"
                    yield loc, "found-by-proxy", message, hint
                places.add(loc)


def _find_signs_for_proxies(service: EffectiveService) -> Iterator[tuple[YamlPath, str]]:
    """Find the labels and variables by which a proxy finds a container by itself, each with the name of the proxy."""
    for label in service.options.labels:
        if label == "caddy" or re.fullmatch(r"caddy_\d+", label):
            yield service.yaml_path("labels", label), "caddy-docker-proxy"
    for field, variables in (("environment", service.options.environment), ("env", service.options.env)):
        if "VIRTUAL_HOST" in variables:
            yield service.yaml_path(field, "VIRTUAL_HOST"), "nginx-proxy"


def _runs_twice(service: EffectiveService) -> bool:
    """Whether a deploy starts a second container, and nobody has written that this is meant."""
    options = service.options
    is_unchecked_worker = options.port is None and options.health.by != "healthcheck"  # it is stopped first
    if "rollout" in options.model_fields_set or is_unchecked_worker:
        return False
    return not options.once and not options.ports and not service.is_stopped_first


def _check_open_ports(container: EffectiveContainer) -> Advice:
    """Docker's rules come before those of a firewall such as ufw."""
    for port in container.options.ports or ():
        if not port.startswith("127.0.0.1:"):
            message = f"`{port}` of {container.name} is open to the world, past the host's firewall"
            address = f"'127.0.0.1:{port.removeprefix('0.0.0.0:')}'"
            hint = f"{address}, which only the host can reach; a service behind the proxy needs no `ports`"
            yield container.yaml_path("ports"), "open-port", message, hint


def _check_host_mounts(container: EffectiveContainer) -> Advice:
    """Whoever breaks into a container has what it mounts, and Docker's socket is the whole machine."""
    for index, volume in enumerate(container.options.volumes or ()):
        host_path = volume.partition(":")[0]
        loc = (*container.yaml_path("volumes"), index)
        if host_path.endswith("/docker.sock"):
            message = (
                f"{container.name} has Docker's socket: whoever breaks into it is root on the host, also with `:ro`"
            )
            yield loc, "docker-socket", message, "leave it out, or use a socket proxy that allows only read requests"
        elif host_path.startswith(("/", "~")):
            message = (
                f"{container.name} mounts `{host_path}` of the host: "
                f"whoever breaks into {container.name} has access to `{host_path}`, too"
            )
            yield loc, "host-path", message, "a named volume, `data:/data`, or a file beside the compose file, `./FILE`"


def _check_privileged(container: EffectiveContainer) -> Advice:
    if container.options.compose.get("privileged") is True:
        message = f"{container.name} is privileged: whoever breaks into it is root on the host"
        hint = (
            "allow only what it needs: a capability, as in `compose: {cap_add: [NET_ADMIN]}`, or a device in `devices`"
        )
        yield container.yaml_path("compose", "privileged"), "privileged", message, hint
