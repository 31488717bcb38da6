"""Find the commit of a deploy in a host's record, which has its number on the branch, its version or its run."""

from kiwari_ci.plan_model import EnvironmentWorkflow, Plan
from kiwari_ci.readers.git_history import GitRepository


def find_deployed_commit(plan: Plan, environment: str, number: int, git: GitRepository, head: str) -> str:
    """Find the commit of a deploy by its number, along a branch; empty when there is none."""
    workflow = _find_ordering_workflow(plan, environment)
    if not workflow or number < workflow.run_base:
        return git.at_number(number, head)
    if workflow.run_base:
        return ""  # the record has the run, and GitHub its commit
    ref = f"refs/tags/{workflow.tag_of(number)}"
    return git.commit(ref) if git.exists(ref) else ""


def format_deployed_number(plan: Plan, environment: str, number: int) -> str:
    """Format the number of a deploy for people."""
    workflow = _find_ordering_workflow(plan, environment)
    if not workflow or number < workflow.run_base:
        return f"commit number {number}"
    if workflow.run_base:
        return f"run {number - workflow.run_base} of {workflow.name}"
    return f"version {workflow.tag_of(number)}"


def explain_unknown_commit(plan: Plan, environment: str, number: int, branch: str) -> str:
    """Explain why the commit of a deploy is not found, and what to do."""
    what = format_deployed_number(plan, environment, number)
    workflow = _find_ordering_workflow(plan, environment)
    if workflow and 0 < workflow.run_base <= number:
        return f"{what} deployed the branch that a person chose: the page of the run has its commit"
    return f"{what} is neither on {branch} nor in its tags: run git fetch --tags, or it was removed"


def _find_ordering_workflow(plan: Plan, environment: str) -> EnvironmentWorkflow | None:
    """Find the workflow of an environment whose deploys have the order of versions or runs, not that of commits."""
    for workflow in plan.promotions:
        is_ordered_otherwise = workflow.orders_by_version or workflow.run_base
        if workflow.deploy.environment == environment and is_ordered_otherwise:
            return workflow
    return None
