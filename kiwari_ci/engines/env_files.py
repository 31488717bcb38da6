"""Env files, which have the same lines whatever the engine: what stands in them, and what a deploy renders."""

from collections.abc import Iterator

from kiwari_ci import schema
from kiwari_ci.effective_spec import EffectiveContainer, EffectiveEnvironment
from kiwari_ci.effective_spec.containers import find_env_setting
from kiwari_ci.effective_spec.databases import PLACEHOLDER
from kiwari_ci.plan_model import EnvFile, EnvFileLine, EnvFileSection, GitHubSetting

_FILL_IN_INSTRUCTION = f"replace each {PLACEHOLDER}; a deploy is refused while one is left"


def list_rendered_settings(environment: EffectiveEnvironment) -> tuple[GitHubSetting, ...]:
    """List what env files are rendered from, by the name that GitHub has for it.

    The name of the variable in a step is another one, for it could be one of the runner's.
    """
    settings = []
    for setting in environment.env_settings:
        settings.append(GitHubSetting(setting.name_at_github, setting.expression, setting.kind))
    return tuple(settings)


def plan_env_files(environment: EffectiveEnvironment) -> tuple[EnvFile, ...]:
    """Plan the env files of a stack: one for each container, or one that several share."""
    sections: dict[str, list[EnvFileSection]] = {}
    for container in environment.containers.values():
        if container.env_file:
            section = EnvFileSection(container.container_name, tuple(_plan_env_lines(container)))
            sections.setdefault(container.env_file, []).append(section)
    return tuple(
        EnvFile(file_name, _FILL_IN_INSTRUCTION, _drop_repeated_keys(file_sections))
        for file_name, file_sections in sections.items()
    )


def _plan_env_lines(container: EffectiveContainer) -> Iterator[EnvFileLine]:
    for key, value in container.options.env.items():
        setting = find_env_setting(key, value)
        yield EnvFileLine(
            key,
            container.resolve_variable(value),
            _describe_secret(container.environment, value),
            setting.name if setting else "",
            is_secret=bool(value.secret),
            has_password=value.database == "url",
        )


def _describe_secret(environment: EffectiveEnvironment, value: schema.EnvValue) -> str:
    database = environment.database
    if value.database == "url" and database:
        password = f"{database.password_key} in {database.server.name}/.env"
        return f"secret: the password is {password}; percent-encode what is not a letter or digit"
    return "secret" if value.secret else ""


def _drop_repeated_keys(sections: list[EnvFileSection]) -> tuple[EnvFileSection, ...]:
    """Keep a key that two containers of one env file share where it comes first."""
    known_keys: set[str] = set()
    kept_sections = []
    for section in sections:
        lines = tuple(line for line in section.lines if line.key not in known_keys)
        known_keys |= {line.key for line in lines}
        if lines:
            kept_sections.append(EnvFileSection(section.title, lines))
    return tuple(kept_sections)
