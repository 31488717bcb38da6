"""What lies beside a compose file: hooks, files of the repository, and env files that a deploy renders."""

from kiwari_ci import schema
from kiwari_ci.effective import derived
from kiwari_ci.plan import DeployHook, GitHubSetting


def plan_deploy_hooks(given: schema.Spec, environment: str) -> tuple[DeployHook, ...]:
    """The scripts that the host runs around a deploy."""
    written = given.environments[environment].hooks
    scripts = {"before": written.before, "after": written.after} if written else {}
    return tuple(DeployHook(name, script.rstrip("\n") + "\n") for name, script in scripts.items() if script)


def list_stack_files(given: schema.Spec, environment: str) -> tuple[str, ...]:
    """All that a deploy compares beside the compose file, in the order in which it is read."""
    own = given.environments[environment].files or ()
    return (*(f"hooks/{hook.name}" for hook in plan_deploy_hooks(given, environment)), *own)


def list_rendered_settings(given: schema.Spec, environment: str) -> tuple[GitHubSetting, ...]:
    """What env files are rendered from, by the name that GitHub has it by: a step's variable could be the runner's."""
    return tuple(
        GitHubSetting(setting.name_at_github, setting.expression, setting.kind)
        for setting in derived.collect_env_settings(given, environment)
    )
