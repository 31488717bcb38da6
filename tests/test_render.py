"""Templates: what they may say, whose bug a broken one is, and that each of their branches is rendered by a case."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, nodes

from kiwari_ci import generator
from kiwari_ci.plan_model import Plan
from kiwari_ci.rendering import render
from kiwari_ci.rendering.render import TEMPLATES_FOLDER, RenderError
from tests import sound_specs
from tests.cli_runner import kiwari_ci
from tests.test_cases import OK, shown

ROOT = Path(__file__).parents[1]
KIWARI = ROOT / "specs/kiwari.yaml"
SOURCES = sorted(TEMPLATES_FOLDER.rglob("*.j2"))
FILTERS = {"yaml", "sh", "block", "name", "text", "script", "command", "nested", "expression"}
ALLOWED = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Include, nodes.Assign,
    nodes.Filter, nodes.Getattr, nodes.Name, nodes.Const, nodes.Not,
)  # fmt: skip

# Lists that are never empty, or never longer than one: what the plan promises, and the only gaps allowed.
NEVER = {
    "pull_requests.changes": {"many"},
    "plan.compose_stacks": {"none"},
    "plan.hosts": {"none"},
    "plan.needs": {"none", "one"},
    "plan.runbook.hosts": {"none"},
    "plan.runbook.create_environments": {"none"},
    "plan.runbook.settings": {"none", "one"},
    "commands.env_files": {"none", "one"},  # an `if` asks for them first; there are two commands
    "commands.create_networks": {"many"},
    "commands.copy_files": {"none", "one"},  # bin, and a stack
    "commands.reload_proxies": {"many"},
    "commands.rollbacks": {"none"},
    "commands.servers": {"none"},  # of one of several hosts, in the section about databases
    "plan.answering": {"none"},
    "site.routes": {"none"},
    "guide.routes": {"none"},
    "guide.split_sites": {"one"},
    "guide.auth_lists": {"many"},
    "guide.protected_sites": {"none", "one"},  # asked before
    "front.auth_commands": {"none"},
    "front.redirects": {"many"},  # they are all alike
    "guide.redirects": {"many"},
    "guide.redirects_of_proxy": {"many"},
    "guide.routes_of_proxy": {"none"},  # asked before
    "deploy.redirects": {"many"},
    "plan.servers": {"none"},  # asked where some have migrations, or where there are some
    "host.stacks": {"none"},
    "host.proxy_commands": {"many"},  # ssh takes one way to a host
    "way.proxy_commands": {"many"},
    "host.port.settings": {"many"},
    "jump.port.settings": {"many"},
    "host.keys": {"none"},
    "stack.networks": {"none"},
    "stack.containers": {"none"},
    "plan.takeovers": {"none"},  # asked before
    "takeover.containers": {"none"},
    "takeover.host_variables": {"none"},
    "old.workflows": {"none"},  # asked before
    "addresses": {"none", "many"},  # asked before
    "targets": {"none"},  # asked before
    "takeover.called_beside": {"many"},
    "takeover.commands.show_kept_values": {"none", "many"},
    "takeover.commands.show_values": {"none", "one", "many"},
    "takeover.commands.connect": {"none"},
    "takeover.commands.show_networks": {"none", "many"},
    "takeover.commands.copy_folder": {"none"},
    "takeover.commands.place_files": {"none"},
    "takeover.commands.restore_folder": {"none"},
    "takeover.commands.deploy": {"none"},
    "takeover.commands.merge": {"none"},
    "takeover.commands.stop_accessories": {"none"},
    "takeover.commands.restart_from_old_files": {"none", "one"},
    "takeover.commands.stop_first": {"none", "many"},
    "takeover.commands.start_stopped": {"none", "many"},
    "takeover.commands.stop_successors": {"none", "many"},
    "takeover.commands.stop_workers": {"none", "many"},
    "takeover.commands.show_work": {"none", "many"},
    "takeover.commands.show_traffic": {"none", "many"},
    "takeover.commands.stop_servers": {"none"},
    "takeover.commands.show_stopped": {"none"},
    "takeover.commands.start_old": {"none"},
    "takeover.commands.stop_new": {"none"},
    "plan.pushed_before_takeovers": {"none", "one"},  # asked before
    "plan.runbook.protect_environments": {"none", "one"},
    "plan.standing": {"none"},  # asked before
    "way.settings": {"none", "one"},
    "deploy.values": {"none", "one"},
    "plan.tags_after_takeovers": {"none"},  # asked where there are some
    "plan.by_hand": {"none"},
    "plan.pushed": {"none"},
    "pushed.workflows": {"none"},
    "each.commands": {"none"},
    "pull_requests.services": {"none"},
    "service.builds": {"many"},
    "pull_requests.checked_jobs": {"none", "one"},
    "promotion.builds": {"none"},
    "promotion.sources": {"none"},
    "workflow.targets": {"none"},
    "image.gates": {"one"},
    "target.gates": {"one"},
    "changes.outputs": {"none"},
    "workflow.changes": {"many"},  # one job tells it for all services
    "workflow.images": {"none"},
    "axis.values": {"none"},
    "plan.runner_labels": {"none", "one"},
    "deploy.runner_labels": {"none", "one"},
    "commands.first_renamed_copies": {"many"},
    "promotion.after_deploy": {"one"},
    "workflow.push_filters": {"none", "one"},
    "bot.folders": {"none"},
    "test.setups": {"many"},
    "server.keys": {"none", "one"},
    "server.databases": {"none"},
    "group.lines": {"none"},
    "front.ports": {"none"},
    "front.volumes": {"none"},
    "front.command": {"one"},
    "plan.proxy_guides": {"none"},
    "guide.sites": {"none"},
    "guide.stack": {"none", "many"},
    "file.groups": {"none", "many"},
    "host.jumps": {"many"},
    "way.jumps": {"many"},
    "deploy.ways": {"none"},
    "plan.every_host": {"none"},
    "plan.runbook.clusters": {"none"},  # asked before
    "commands.namespaces": {"none"},
    "namespace.rollbacks": {"none"},
    "namespace.database": {"many"},
    "head": {"none"},
    "documents": {"none", "one"},
}
OUTCOMES: dict[type[nodes.Node], tuple[object, ...]] = {nodes.If: (True, False), nodes.For: ("none", "one", "many")}

Place = tuple[str, int]  # template, line


@cache
def plan() -> Plan:
    return generator.load_spec(KIWARI).plan


def render_stacks() -> None:
    """Render the template that a test has broken, and no other one."""
    for _, template, context in render._list_templates(plan()):
        if template == "compose/stack.yml.j2":
            render._render_template(template, plan(), context)


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of templates of which one, the compose file's, is what a test writes there."""
    for source in SOURCES:
        copy = tmp_path / source.relative_to(TEMPLATES_FOLDER)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(source.read_text())
    monkeypatch.setattr(render, "TEMPLATES_FOLDER", tmp_path)
    render._create_jinja_environment.cache_clear()
    yield tmp_path / "compose/stack.yml.j2"
    render._create_jinja_environment.cache_clear()


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("# fine\n<%= stack.name %>\n", 2, "prints 'pos-staging' without a filter"),
        ("# fine\n\n<%= stack.nome | yaml %>\n", 3, "no attribute 'nome'"),
        ("<%= stock.name | yaml %>\n", 1, "'stock' is undefined"),
        ("# fine\n<% if stack.name %>\nfine\n", 3, "end of template"),
        ("# fine\n<% macro a() %><% endmacro %>\n<%= stack.name | upper %>\n", 3, "No filter named 'upper'"),
        ("# fine\n<% include 'compose/none.j2' %>\n", 2, "none.j2"),
        ("# fine\n<%= stack.name | block(-1) | upper %>\n", 2, "No filter"),
        ("# fine\n<%= stack.environment | yaml(2) %>\n", 2, "argument"),
        ("# fine\n<%= plan.domains | name %>\n", 2, "expected string"),
    ],
)
def test_a_broken_template_is_named_with_its_line(broken: Path, text: str, line: int, words: str) -> None:
    broken.write_text(text)
    with pytest.raises(RenderError, match=rf"^templates/compose/stack\.yml\.j2:{line}: ") as raised:
        render_stacks()
    assert words in str(raised.value)


def test_it_is_called_our_bug(broken: Path, tmp_path: Path) -> None:
    broken.write_text("<%= stack.name %>\n")
    result = kiwari_ci("generate", KIWARI, "--out", tmp_path / "out")
    assert result.code == 70
    assert result.err.splitlines()[-1].startswith("kiwari-ci: this is a bug of kiwari-ci, not of your spec: templates/")
    assert "templates/compose/stack.yml.j2:1" in result.err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_value_that_a_filter_refuses_is_our_bug_too() -> None:
    with pytest.raises(RenderError, match=r"^templates/github/build-job\.yml\.j2:\d+: .* is not a name"):
        render.render_files(replace(plan(), login=replace(plan().login, registry="two words")))


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_templates_stay_dull(source: Path) -> None:
    """`if`, `for`, `include` and `set` of fields, each on a line of its own, and our filters: the plan decides."""
    text = source.read_text()
    for node in walk(render._create_jinja_environment().parse(text)):
        assert isinstance(node, ALLOWED), f"{source.name}:{node.lineno}: {type(node).__name__}"
        if isinstance(node, nodes.Filter):
            assert node.name in FILTERS
        if isinstance(node, nodes.For):
            assert not (node.test or node.else_ or node.recursive)
    for number, line in enumerate(text.splitlines(), 1):
        if re.search(r"<%(?!=)", line):
            assert re.fullmatch(r"<%[^=].*?%>", line), f"{source.name}:{number}: a control tag with something beside it"


def test_every_branch_is_rendered_by_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each `if` both ways, each `for` over none, one and many; in files that the outside checkers read."""
    seen: dict[Place, set[object]] = defaultdict(set)
    parts: dict[Place, nodes.Node] = {}
    compared = {spec: {*shown(spec), "deploy/RUNBOOK.md"} for spec in OK}  # Markdown has no checker here
    plans = [(spec, sound_specs.generate(spec)[0]) for spec in [KIWARI, *OK]]
    watched = watching(seen, parts)
    monkeypatch.setattr(render, "_create_jinja_environment", lambda: watched)
    for spec, decided in [*plans, (KIWARI, replace(plans[0][1], ejected=True))]:
        for path, template, context in render._list_templates(decided):
            if spec == KIWARI or path in compared[spec]:
                render._render_template(template, decided, context)
    missed = [
        f"templates/{place[0]}:{place[1]}: {words(asked(part))} is never {outcome}"
        for place, part in sorted(parts.items(), key=str)
        for outcome in OUTCOMES[type(part)]
        if outcome not in seen[place] | NEVER.get(words(asked(part)), set())
    ]
    assert not missed, "\n".join(missed)
    assert {template for template, _ in parts} >= {"github/promote.yml.j2", "docs/runbook.md.j2"}


def test_what_is_never_is_never() -> None:
    """A gap that is allowed above and no longer there would hide the next one."""
    used = {words(asked(node)) for source in SOURCES for node in walk(parse(source)) if isinstance(node, nodes.For)}
    assert NEVER.keys() <= used


def watching(seen: dict[Place, set[object]], parts: dict[Place, nodes.Node]) -> Environment:
    """An environment whose templates note down the outcome of each `if` and the length of each `for`."""
    environment = render._create_jinja_environment.__wrapped__()
    environment.bytecode_cache = None
    generate = environment._generate

    def watched(source: nodes.Template, name: str, *rest: Any, **more: Any) -> str:
        for loop in guarded(source):
            seen[name, loop.lineno].add("none")
        for node in list(walk(source)):
            if isinstance(node, nodes.If | nodes.For):
                place = (name, node.lineno)
                parts[place] = node
                noted = nodes.Filter(asked(node), "noted", [nodes.Const(place)], [], None, None, lineno=node.lineno)
                setattr(node, "test" if isinstance(node, nodes.If) else "iter", noted)
        return generate(source, name, *rest, **more)

    def noted(value: Any, place: Place) -> Any:
        is_loop = isinstance(parts[place], nodes.For)
        seen[place].add(["none", "one", "many"][min(len(value), 2)] if is_loop else bool(value))
        return value

    environment.filters["noted"] = noted
    environment._generate = watched  # type: ignore[method-assign, assignment]
    return environment


def parse(source: Path) -> nodes.Template:
    return render._create_jinja_environment().parse(source.read_text())


def walk(node: nodes.Node) -> Iterator[nodes.Node]:
    yield node
    for child in node.iter_child_nodes():
        yield from walk(child)


def guarded(node: nodes.Node, known: frozenset[str] = frozenset()) -> Iterator[nodes.For]:
    """Loops over what an `if` around them has found to be not empty."""
    if isinstance(node, nodes.For) and words(asked(node)) in known:
        yield node
    for child in node.iter_child_nodes():
        inside = isinstance(node, nodes.If) and child in node.body
        other = isinstance(node, nodes.If) and child in node.else_
        true = {words(asked(node))} if inside else {words(asked(node)).removeprefix("not ")} if other else set()
        yield from guarded(child, known | true)


def asked(node: nodes.Node) -> Any:
    """What an `if` asks and a `for` goes through, as it was before it was watched."""
    condition: Any = node.test if isinstance(node, nodes.If) else node.iter  # type: ignore[attr-defined]
    return condition.node if isinstance(condition, nodes.Filter) else condition


def words(node: nodes.Node) -> str:
    """An expression as it is written."""
    if isinstance(node, nodes.Getattr):
        return f"{words(node.node)}.{node.attr}"
    return f"not {words(node.node)}" if isinstance(node, nodes.Not) else str(getattr(node, "name", node))
