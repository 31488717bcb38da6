"""The work for many services grows with their number: calls of functions are counted, which no busy machine changes."""

import sys

from kiwari_ci import generator
from kiwari_ci.rendering.render import render_files
from kiwari_ci.spec_loading import yaml_source

STEP = 40  # services
TOLERANCE = 1.02  # how much two steps of one size may differ; if each service is compared with all others, it is 1.4


def write_spec(size: int) -> str:
    """A spec of so many services, a tenth of which wait for another, with domains and one env file."""
    lines = ["project: {name: shop, repository: example/shop}", "hosts: {vps: {}}", "services:"]
    for number in range(size):
        lines += [f"  web{number}:", "    port: 8080", "    env: {A: x, B: {secret: true}}"]
        lines += ["    command: [sh, -c, 'echo $A']", f"    build: {{dockerfile: web{number}/Dockerfile}}"]
        if number % 10 == 9:
            lines.append(f"    depends_on: [web{number - 1}]")
    lines.append("environments:")
    for environment, start in (("staging", "{push: main}"), ("production", "{tag: 'v*'}")):
        lines += [f"  {environment}:", "    host: vps", f"    deploy_on: {start}", "    env_file: .env", "    domains:"]
        lines += [f"      web{number}: web{number}.{environment}.example.com" for number in range(size)]
    return "\n".join([*lines, "    promote: staging", ""])


def count_calls(size: int) -> int:
    """Count the calls of functions that planning and rendering such a spec makes."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    source = yaml_source.parse_yaml("specs/shop.yaml", write_spec(size))
    sys.setprofile(count)
    try:
        render_files(generator.validate_and_plan(source).plan)
    finally:
        sys.setprofile(None)
    return calls


def test_each_service_takes_as_much_work_as_the_one_before() -> None:
    count_calls(STEP)  # what is made once, such as models and templates of services that wait for another
    counts = [count_calls(STEP * number) for number in (1, 2, 3)]
    first_step, second_step = counts[1] - counts[0], counts[2] - counts[1]
    assert second_step < first_step * TOLERANCE
