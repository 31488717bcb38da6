"""How an image is built today, by a workflow's step or a compose file, in the words of the spec."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kiwari_ci.commands.init.docker_commands import UNKNOWN_TEXT
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.docker_build import DockerBuild
from kiwari_ci.readers.yaml_document import YamlMapping
from kiwari_ci.schema.text_formats import (
    SECRET_NAME_PATTERN,
    BuildSecretId,
    EnvKey,
    Platform,
    SecretName,
    StageName,
    TrimmedLine,
)

_IS_ENV_KEY, _IS_SINGLE_LINE, _IS_STAGE_NAME, _IS_PLATFORM = map(
    vocabulary.build_validator, (EnvKey, TrimmedLine, StageName, Platform)
)
_IS_SECRET_ID, _IS_SECRET_NAME = vocabulary.build_validator(BuildSecretId), vocabulary.build_validator(SecretName)
_UNSUPPORTED_INPUTS = {  # of docker/build-push-action, which change what is built or pushed
    "add-hosts", "allow", "annotations", "attests", "network", "no-cache-filters", "sbom",
    "secret-envs", "secret-files", "shm-size", "ssh", "ulimit",
}  # fmt: skip
_IMAGE_CONTEXT = "docker-image://"
_SERVICE_CONTEXT = "service:"  # of a Compose file
_SECRET_EXPRESSION = re.compile(r"\$\{\{\s*(secrets|vars)\.(\w+)\s*\}\}")


@dataclass
class BuildSettings:
    """The keys of `build` other than context and Dockerfile, and notes on settings that a spec cannot have."""

    values: dict[str, Any] = field(default_factory=dict)
    unsupported: list[str] = field(default_factory=list)
    images: dict[str, str] = field(default_factory=dict)  # that are build contexts, by the name of the context
    arguments: dict[str, str] = field(default_factory=dict)  # all build arguments, as they are written

    def argument(self, key: str, value: str) -> None:
        """A build argument: plain, or a variable of GitHub's."""
        self.arguments[key] = value
        setting = _SECRET_EXPRESSION.fullmatch(value)
        is_secret = setting is not None and setting[1] == "secrets"
        if "${{" in key:
            self.unsupported.append(f"build arguments that {key} says")
        elif not _IS_ENV_KEY(key) or SECRET_NAME_PATTERN.fullmatch(key) or is_secret:
            self.unsupported.append(f"build argument {key}, which who has the image can read: `build: {{secrets: …}}`")
        elif setting and _IS_SECRET_NAME(setting[2]):
            self.values.setdefault("args", {})[key] = {"variable": setting[2]}
        elif _is_plain_argument(key, value):
            self.values.setdefault("args", {})[key] = value
        else:
            self.unsupported.append(f"build argument {key}")

    def context(self, name: str, source: str) -> None:
        """A build context beside the usual one: an image may be that of another service."""
        if source.startswith(_IMAGE_CONTEXT):
            self.images[name] = source.removeprefix(_IMAGE_CONTEXT)
        else:
            self.unsupported.append(f"build context {name}")

    def stage(self, target: str, platforms: str) -> None:
        """The stage that is built, and for which platforms."""
        if target:
            self.put("target", target, _IS_STAGE_NAME(target))
        several = [platform.strip() for platform in platforms.split(",") if platform.strip()]
        if several not in ([], ["linux/amd64"]):
            self.put("platforms", several, all(map(_IS_PLATFORM, several)))

    def put(self, key: str, value: Any, fits: bool) -> None:
        """Set a key of `build` if the spec can have this value."""
        if fits:
            self.values[key] = value
        else:
            self.unsupported.append(f"build {key}")


def _is_plain_argument(key: str, value: str) -> bool:
    """Whether a build argument's value is known here, and may be read by everybody."""
    if not value or "$" in value or UNKNOWN_TEXT in value:
        return False
    return _IS_SINGLE_LINE(value) and not vocabulary.is_secret(key, value)


def parse_action_inputs(inputs: YamlMapping, substitute: Callable[[str], str]) -> BuildSettings:
    """The inputs of docker/build-push-action; `substitute` puts in what is known of their expressions."""
    settings = BuildSettings()
    for line in filter(None, map(str.strip, substitute(inputs.get_text("build-args")).splitlines())):
        key, _, value = line.partition("=")
        settings.argument(key, value)
    settings.stage(substitute(inputs.get_text("target")), substitute(inputs.get_text("platforms")))
    for line in filter(None, map(str.strip, inputs.get_text("secrets").splitlines())):
        key, _, value = line.partition("=")
        secret_match = _SECRET_EXPRESSION.fullmatch(value)
        if secret_match and secret_match[1] == "secrets" and _IS_SECRET_ID(key) and _IS_SECRET_NAME(secret_match[2]):
            settings.values.setdefault("secrets", {})[key] = secret_match[2]
        else:
            settings.unsupported.append(f"build secret {key}")
    for line in filter(None, map(str.strip, substitute(inputs.get_text("build-contexts")).splitlines())):
        name, _, source = line.partition("=")
        settings.context(name, source)
    for key in inputs:
        if key in _UNSUPPORTED_INPUTS and substitute(inputs.get_text(key)):
            settings.unsupported.append(f"build {key}")
    if inputs.get_text("cache-to") or inputs.get_text("cache-from"):
        settings.values["cache"] = True
    return settings


def parse_command_options(build: DockerBuild) -> BuildSettings:
    """The options of `docker build`."""
    settings = BuildSettings()
    for argument in build.arguments:
        key, _, value = argument.partition("=")
        settings.argument(key, value)
    settings.stage("".join(build.targets[-1:]), "".join(build.platforms[-1:]))
    settings.unsupported += [f"build secret {secret}" for secret in build.secrets]
    return settings


def parse_compose_build(build: YamlMapping, images: dict[str, str]) -> BuildSettings:
    """The keys of a service's `build`; what only an example of an env file knows is not known.

    `images` are those of the services of the same file, by which `additional_contexts` name them.
    """
    settings = BuildSettings()
    for key, value, _ in build.iter_pairs("args"):
        settings.argument(key, vocabulary.interpolate_variables(value, {}) or "")
        settings.arguments[key] = vocabulary.interpolate_variables(value, {}) or value
    settings.stage(build.get_text("target"), "")
    for name, source, _ in build.iter_pairs("additional_contexts"):
        other = source.removeprefix(_SERVICE_CONTEXT)
        is_service = source.startswith(_SERVICE_CONTEXT)
        settings.context(name, f"{_IMAGE_CONTEXT}{images.get(other, other)}" if is_service else source)
    supported_keys = ("context", "dockerfile", "cache_from", "tags", "args", "target", "additional_contexts")
    settings.unsupported += [f"build {key}" for key in build if key not in supported_keys]
    return settings
