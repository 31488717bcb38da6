"""What works but could be safer or simpler, each with the one line of the spec that changes it."""

import re
from collections.abc import Iterator

from kiwari_ci.effective import derived
from kiwari_ci.loading.validation import report_at_key
from kiwari_ci.loading.yaml_source import YamlPath, YamlSource
from kiwari_ci.problems import Problem
from kiwari_ci.schema import Spec

Advice = Iterator[tuple[YamlPath, str, str, str]]


def collect_advice(source: YamlSource, given: Spec) -> list[Problem]:
    """Advice for a sound spec; it never fails anything."""
    found = [
        *_check_latest_runners(given),
        *_check_self_hosted_runners(given),
        *_check_database_networks(given),
        *_check_backup_copies(given),
        *_check_shared_env_files(given),
        *_check_shared_deploy_keys(given),
        *_check_pushed_files(given),
        *_check_healthcheck_tools(given),
        *_check_open_ports(given),
    ]
    return [report_at_key(source, loc, rule, words, hint, severity="advice") for loc, rule, words, hint in found]


def _check_latest_runners(given: Spec) -> Advice:
    for label in (each for each in given.project.runner if each.endswith("-latest")):
        words = f"`{label}` moves to another system some day"
        yield ("project", "runner"), "moving-runner", words, "runner: ubuntu-24.04"


def _check_self_hosted_runners(given: Spec) -> Advice:
    if "self-hosted" in given.project.runner:
        words = "what a job leaves on a runner of your own, the next job finds"
        hint = "runner: ubuntu-24.04; or keep it to a private repository, and make it anew for each job"
        yield ("project", "runner"), "kept-runner", words, hint


def _check_database_networks(given: Spec) -> Advice:
    proxied = {host.proxy.network for host in given.hosts.values()}
    for name, server in given.databases.items():
        if server.network in proxied:
            words = f"everything on the network `{server.network}` can reach the database, the proxy too"
            hint = f"leave out `network`: the server gets `{name}`, which only its users join"
            yield ("databases", name, "network"), "shared-network", words, hint


def _check_backup_copies(given: Spec) -> Advice:
    for name, server in given.databases.items():
        if server.backup and not server.backup.copy_to:
            words = "the dumps are on the disk of the database: when it fails, both are lost"
            hint = "copy_to: {command: 'rclone copyto \"$BACKUP_FILE\" \"far:$BACKUP_NAME\"'}"
            yield ("databases", name, "backup"), "same-disk", words, hint


def _check_shared_env_files(given: Spec) -> Advice:
    for name, place in given.environments.items():
        if place.env_file and len(derived.list_services(given, name)) > 1:
            words = f"every service of {name} reads every secret in `{place.env_file}`"
            hint = "leave out `env_file`: each service gets its own"
            yield ("environments", name, "env_file"), "shared-env-file", words, hint


def _check_pushed_files(given: Spec) -> Advice:
    for name, place in given.environments.items():
        if place.sync:
            key, host = derived.resolve_deploy_settings(given, name)["key"].name, derived.find_first_host(given, name)
            words = f"whoever has the key `{key}`, or may push what is deployed, owns {host}: a compose file is sent"
            hint = "leave out `sync`: a person copies the files, with the command that a refused deploy prints"
            yield ("environments", name, "sync"), "pushed-files", words, hint
            yield from _check_unsent_mounts(given, name, place.files or [])


def _check_unsent_mounts(given: Spec, environment: str, files: list[str]) -> Advice:
    """What a container only reads beside the compose file is the repository's, and Docker makes a folder of a gap."""
    for each in derived.list_services_and_accessories(given, environment):
        for index, volume in enumerate(derived.resolve_container_options(given, environment, each).volumes or ()):
            source, _, rest = volume.removeprefix("./").partition(":")
            if volume.startswith("./") and rest.endswith(":ro") and not _is_covered_path(source, files):
                words = f"{environment} sends its files, and not `{source}`, which {each} mounts"
                loc = (*derived.find_spec_path(given, environment, each, "volumes"), index)
                yield loc, "unsent-file", words, f"environments.{environment}.files: [{source}]"


def _is_covered_path(source: str, files: list[str]) -> bool:
    return any(file == source or file.startswith(f"{source}/") for file in files)


def _check_shared_deploy_keys(given: Spec) -> Advice:
    seen: dict[str, str] = {}
    for name in given.environments:
        key = derived.resolve_deploy_settings(given, name)["key"].name
        other = seen.setdefault(key, name)
        if other != name:
            words = f"the key `{key}` of {other} deploys {name}, too"
            yield (
                ("environments", name),
                "shared-key",
                words,
                f"key: {{secret: {derived.format_variable_name(name)}_SSH_KEY}}",
            )


def _check_healthcheck_tools(given: Spec) -> Advice:
    """A service is asked from outside of it: within, its image must have the tool."""
    for name, model in given.services.items():
        words = model.healthcheck.test if model.healthcheck else []
        if tool := next((each for each in ("curl", "wget") if re.search(rf"\b{each}\b", " ".join(words))), ""):
            message = f"the image must have `{tool}`, or Docker calls {name} unhealthy for ever"
            hint = "leave it out where nothing waits for it: a deploy asks `health` from the host"
            yield ("services", name, "healthcheck"), "healthcheck-tool", message, hint


def _check_open_ports(given: Spec) -> Advice:
    """Docker's rules come before those of a firewall such as ufw."""
    for name, model in given.accessories.items():
        for port in model.ports or ():
            if not port.startswith("127.0.0.1:"):
                words = f"`{port}` of {name} is open to the world, past the host's firewall"
                hint = f"'127.0.0.1:{port.removeprefix('0.0.0.0:')}', for the host alone; services need none"
                yield ("accessories", name, "ports"), "open-port", words, hint
