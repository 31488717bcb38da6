"""What lies beside a compose file: the hooks of a deploy."""

from kiwari_ci.effective_spec import EffectiveEnvironment
from kiwari_ci.plan_model import DeployHook


def plan_deploy_hooks(environment: EffectiveEnvironment) -> tuple[DeployHook, ...]:
    """Plan the scripts that the host runs around a deploy."""
    hooks = environment.model.hooks
    if hooks is None:
        return ()
    scripts = {"before": hooks.before, "after": hooks.after}
    return tuple(DeployHook(name, script.rstrip("\n") + "\n") for name, script in scripts.items() if script)
