"""Every field of the schema with every kind of wrong value: each gets its place, what was met and expected, a cure."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from kiwari_ci import generator
from kiwari_ci.problems import Problem, SpecError
from kiwari_ci.schema import Spec
from kiwari_ci.spec_loading import yaml_source
from kiwari_ci.spec_loading.unsupported import UNSUPPORTED_FEATURES, UnsupportedFeature, find_unsupported_feature
from kiwari_ci.spec_loading.yaml_source import YamlPath
from tests.amounts import sample_or_all

ROOT = Spec.model_json_schema()
NAMES = {"hosts": "vps", "databases": "data", "services": "web", "environments": "live", "accessories": "cache"}
FOREIGN = re.compile(
    r"[Ii]nput should|[Vv]alid |Value error|String should|type=|pydantic|\b(str|dict|int|None|True|False)\b|Traceback"
)

TEXTS = [
    "", " ", " a", "a ", "A B", "a\nb", "a\tb", "\x07", "\u2028", "x" * 70, "x" * 5000, "-", "../x", "https://x/",
    "ѕhop", "shоp", "ｓhop", "café", "a\u200bb", "${{ secrets.A }}", "$(id)", "'", '"', "`id`", "a: b", "# a",
    "*", "?", "\\",
]  # fmt: skip
OTHERS: dict[str, list[Any]] = {
    "string": [7, -1, 1.5, True, None, [], ["a"], {}, {"a": "b"}, 10**40],
    "integer": ["8080", "", "x", 1.5, True, None, [], [1], {}, {"a": 1}, -1, 0, 10**40, float("inf"), float("nan")],
    "number": ["0.5", "", "x", True, None, [], [1], {}, {"a": 1}, -1, 0, 10**40, float("inf"), float("nan")],
    "boolean": ["yes", "true", "", 1, 0, None, [], {}, {"a": True}],
    "array": ["a", "", 7, True, None, [], {}, {"a": "b"}, [None], [[]], [{}], [7], ["a\nb"]],
    "object": ["a", "", 7, True, None, ["a"], [], [{}], {"unheard": 1}],
}


@cache
def fields() -> dict[YamlPath, list[dict[str, Any]]]:
    """The place of each field, with the forms that it may have."""
    return dict(_fields(ROOT, ()))


def _fields(schema: dict[str, Any], loc: YamlPath) -> Iterator[tuple[YamlPath, list[dict[str, Any]]]]:
    forms = _forms(schema)
    if loc and all("type" in form for form in forms):  # what has none takes anything
        yield loc, forms
    for form in forms:
        for name, inner in form.get("properties", {}).items():
            yield from _fields(inner, (*loc, name))
        for inner in form.get("patternProperties", {}).values():
            key = NAMES.get(str(loc[-1]), "LEVEL" if loc[-1] in ("env", "environment") else "web")
            yield from _fields(inner, (*loc, key))
        if "items" in form:
            yield from _fields(form["items"], (*loc, 0))


def _forms(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [_resolved(form) for form in _resolved(schema).get("anyOf", [_resolved(schema)])]


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    definition: dict[str, Any] = ROOT["$defs"][schema["$ref"].rpartition("/")[2]]
    return definition


def fits(value: Any, form: dict[str, Any]) -> bool:
    kinds: dict[str, type] = {"string": str, "integer": int, "number": float, "boolean": bool, "array": list}
    kinds["object"] = dict
    if type(value) is not kinds[form["type"]]:
        return False
    if isinstance(value, list):
        return len(value) >= form.get("minItems", 0) and all(
            any(fits(element, one) for one in _forms(form["items"])) for element in value
        )
    pattern: str = form.get("pattern", "")
    if "const" in form or "enum" in form:
        return bool(value in form.get("enum", [form.get("const")]))
    if form["type"] == "string":
        return re.search(re.sub(r"\$$", r"\\Z", pattern), str(value)) is not None
    return bool(form["type"] in ("integer", "number") and form["minimum"] <= value <= form["maximum"])


def wrong(forms: list[dict[str, Any]]) -> Iterator[Any]:
    kinds = {form["type"] for form in forms}
    values = [value for kind in sorted(kinds) for value in OTHERS[kind]] + (TEXTS if "string" in kinds else [])
    for value in values:
        if not any(fits(value, form) for form in forms) and not (value == {} and "object" in kinds):
            yield value


def spec(loc: YamlPath, value: Any) -> str:
    """A small spec with one value put in its place; JSON is YAML, a line for each key and value."""
    document: Any = {
        "project": {"name": "shop", "repository": "example/shop"},
        "hosts": {"vps": {}},
        "services": {"web": {"port": 8080}},
        "environments": {"live": {"deploy_on": {"push": "main"}}},
    }
    if loc[0] == "accessories" and loc[1:]:
        document["accessories"] = {"cache": {"image": "redis:7"}}
    inner = document
    for key, below in zip(loc, loc[1:], strict=False):
        empty: Any = [] if below == 0 else {}
        if key == 0:
            inner.append(empty)
        inner = inner[0] if key == 0 else inner.setdefault(key, empty)
    if loc[-1] == 0:
        inner.append(value)
    else:
        inner[loc[-1]] = value
    text = json.dumps(document, indent=1, ensure_ascii=False)
    text = re.sub(r"[\x7f-\x9f\u2028\u2029]", lambda match: f"\\u{ord(match[0]):04x}", text)
    return text.replace(": Infinity", ": .inf").replace(": NaN", ": .nan")


@cache
def wrong_values() -> dict[YamlPath, list[Any]]:
    """The wrong values of each field: every fourth where a form is met first, every twentieth where it is met again."""
    values_of_form: dict[str, list[Any]] = {}
    values: dict[YamlPath, list[Any]] = {}
    for loc, forms in fields().items():
        form = json.dumps(forms, sort_keys=True)
        if form in values_of_form:
            values[loc] = values_of_form[form][::20]
        else:
            values_of_form[form] = list(wrong(forms))
            values[loc] = values_of_form[form][::4]
    return values


@pytest.mark.parametrize("every_value", sample_or_all(False, True), ids=["some", "all"])
@pytest.mark.parametrize("top", list(Spec.model_fields))
def test_every_wrong_value_is_told_at_its_place_with_a_cure(top: str, every_value: bool) -> None:
    tried = 0
    for loc in (loc for loc in fields() if loc[0] == top):
        for value in wrong(fields()[loc]) if every_value else wrong_values()[loc]:
            read = yaml_source.parse_yaml("shop.yaml", spec(loc, value))
            tried += 1
            try:
                generator.validate_and_plan(read)
                raise AssertionError(f"{loc}: {value!r} is taken")
            except SpecError as faults:
                check_problems(faults.problems, read, loc, value)
    assert tried >= 10


def check_problems(problems: list[Problem], read: yaml_source.YamlSource, loc: YamlPath, value: Any) -> None:
    """One of them points into what is wrong; each says what it met and what it wants, and how to come there."""
    near = [place for table in (read.keys, read.values) for at, place in table.items() if at[: len(loc)] == loc]
    places = {(place.line, place.column) for place in near}
    assert places & {(problem.line, problem.column) for problem in problems}, (loc, value, problems)
    for problem in problems:
        assert problem.hint and len(problem.hint) < 300, (loc, value, problem)
        assert problem.excerpt or len(read.lines[problem.line - 1]) > yaml_source.MAX_EXCERPT_LENGTH
        assert not FOREIGN.search(problem.message + problem.hint), (loc, value, problem)
        if problem.rule in ("type", "value"):
            assert re.match(r"[\w.\[\]-]+: expected .+, met .+", problem.message), (loc, value, problem)


@pytest.mark.parametrize(
    ("loc", "value", "hint"),
    [
        ("project.name", "My Shop", "did you mean `my-shop`?"),
        ("project.name", "shоp", "character 3 of it is U+043E, cyrillic small letter o: write it anew, in plain ASCII"),
        ("project.name", "a\u200bb", "character 2 of it is U+200B, zero width space: write it anew, in plain ASCII"),
        ("project.repository", "https://github.com/example/shop.git", "did you mean `example/shop`?"),
        ("project.repository", "git@github.com:example/shop.git", "did you mean `example/shop`?"),
        ("registry.pull_token.secret", "ghcr-token", "did you mean `GHCR_TOKEN`?"),
        ("hosts.vps.directory", "docker/", "did you mean `~/docker`?"),
        ("services.web.port", "8080", "leave out the quotes: 8080"),
        ("services.web.websocket", "yes", "without quotes: true"),
        ("services.web.rollout", "recreated", "did you mean `recreate`?"),
        ("services.web.paths", "web/**", 'put it in brackets: ["web/**"]'),
        ("services.web.build.context", "./web/", "did you mean `web`?"),
        ("services.web.health.path", "health", "did you mean `/health`?"),
        ("services.web.test.run", "make\ntest ", "line 2 of it ends with a blank: leave that out"),
        ("services.web.test.setup.go", 1.24, 'put it in quotes: "1.24"'),
        ("environments.live.deploy_on", {"tag": "v"}, "did you mean `v*`?"),
        ("environments.live.domains.web", "https://shop.example.com/", "did you mean `shop.example.com`?"),
        ("environments.live.database.name", "my-shop", "did you mean `my_shop`?"),
        ("environments.live.stack", ["vps"], "one value, without brackets: vps"),
    ],
)
def test_what_was_probably_meant(loc: str, value: Any, hint: str, tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(spec(tuple(loc.split(".")), value))
    with pytest.raises(SpecError) as raised:
        generator.load_spec(tmp_path / "shop.yaml")
    assert hint in [problem.hint for problem in raised.value.problems]


@pytest.mark.parametrize("value", ["$(touch x)", "${{ a }}", "", "'", "a`b", "?*"])
def test_nothing_is_guessed_about_a_command(value: str, tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(spec(("project", "name"), value))
    with pytest.raises(SpecError) as raised:
        generator.load_spec(tmp_path / "shop.yaml")
    assert not any("did you mean" in problem.hint for problem in raised.value.problems)


@pytest.mark.parametrize("entry", UNSUPPORTED_FEATURES, ids=lambda entry: entry.what)
def test_what_is_not_made_is_found_by_its_key(entry: UnsupportedFeature) -> None:
    key = re.sub(r"[?|(].*", "", entry.keys.replace("s?", ""))
    assert find_unsupported_feature(key) is entry and find_unsupported_feature(key.upper().replace("_", "-")) is entry
    assert find_unsupported_feature("web") is None
