"""What lies beside a compose file: hooks, files of the repository, and env files that a deploy renders."""

from kiwari_ci import schema
from kiwari_ci.effective import derived
from kiwari_ci.plan import Hook, Setting


def hooks(given: schema.Spec, environment: str) -> tuple[Hook, ...]:
    """The scripts that the host runs around a deploy."""
    written = given.environments[environment].hooks
    scripts = {"before": written.before, "after": written.after} if written else {}
    return tuple(Hook(name, script.rstrip("\n") + "\n") for name, script in scripts.items() if script)


def files(given: schema.Spec, environment: str) -> tuple[str, ...]:
    """All that a deploy compares beside the compose file, in the order in which it is read."""
    own = given.environments[environment].files or ()
    return (*(f"hooks/{hook.name}" for hook in hooks(given, environment)), *own)


def kept(given: schema.Spec, environment: str) -> tuple[Setting, ...]:
    """What env files are rendered from, by the name that GitHub has it by: a step's variable could be the runner's."""
    return tuple(
        Setting(setting.expression.partition(".")[2], setting.expression, setting.kind)
        for setting in derived.env_settings(given, environment)
    )
