"""Which commit a deploy in a host's record is of: records have its number on its branch, or that of its version."""

from kiwari_ci.plan import EnvironmentWorkflow, Plan
from kiwari_ci.readers.git_history import GitRepository


def find_deployed_commit(plan: Plan, environment: str, number: int, git: GitRepository, head: str) -> str:
    """Find the commit of a deploy by its number, along a branch; empty when there is none."""
    workflow = _find_workflow_of_versions(plan, environment)
    if not workflow:
        return git.at_number(number, head)
    ref = f"refs/tags/{workflow.tag_of(number)}"
    return git.commit(ref) if git.exists(ref) else ""


def format_deployed_number(plan: Plan, environment: str, number: int) -> str:
    """Format the number of a deploy for people."""
    workflow = _find_workflow_of_versions(plan, environment)
    return f"version {workflow.tag_of(number)}" if workflow else f"commit number {number}"


def _find_workflow_of_versions(plan: Plan, environment: str) -> EnvironmentWorkflow | None:
    """Find the workflow of an environment whose deploys have the order of versions."""
    for workflow in plan.promotions:
        if workflow.deploy.environment == environment and workflow.orders_by_version:
            return workflow
    return None
