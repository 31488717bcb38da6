"""Workflows that the tests of several services call."""

from kiwari_ci import schema
from kiwari_ci.planning.test_jobs import find_shared_workflows


def service(*workflows: str) -> schema.Service:
    return schema.Service(
        port=80, tests={f"t{number}": schema.Test(workflow=name) for number, name in enumerate(workflows)}
    )


def test_a_workflow_of_several_services_is_shared() -> None:
    services = {"api": service("ci.yml", "api.yml"), "web": service("ci.yml", "ci.yml"), "docs": service()}

    assert find_shared_workflows(services) == {"ci.yml": ["api", "web"]}


def test_two_files_never_share_the_name_of_a_job() -> None:
    services = {"api": service("ci.yml", "ci.yaml", "e2e.yml"), "web": service("ci.yml", "ci.yaml", "e2e.yml")}

    assert find_shared_workflows(services) == {"e2e.yml": ["api", "web"]}
