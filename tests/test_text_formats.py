"""What may stand in a text of a spec: no format lets through what a reader of YAML, a terminal or a shell misreads."""

import functools
from typing import Annotated, Any, get_args, get_origin

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from kiwari_ci import generator
from kiwari_ci.problems import Problem, SpecError
from kiwari_ci.schema import text_formats
from kiwari_ci.spec_loading.yaml_source import parse_yaml

FORMATS = {name: kind for name, kind in vars(text_formats).items() if get_origin(kind) is Annotated}
SAMPLES = [
    *("a", "a1", "A", "Ab", "a/b", "/a", "~/a", "v1", "v*", "1", "30s", "5m", "1g", "a.b", "a.env", "a b", "80:80"),
    *("127.0.0.1:80", "a:/b", "linux/amd64", "a@b.c", "a@file", "SECRET"),
    *("deploy.yml", "15 3 * * *"),
    f"git+https://github.com/a/b@{'0' * 40}",
]
BAD_ENDS = ["\0", "\x07", "\x1b", "\r", "\x85", "\u2028", "\u2029", "\u200b", "\u202e", "\u2066", "\ufeff", "\ud800"]


_create_adapter = functools.cache(TypeAdapter[Any])  # making one takes longer than all its validations


def _is_valid(kind: Any, text: str) -> bool:
    try:
        _create_adapter(kind).validate_python(text, strict=True)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "Omittable"])
def test_no_text_ends_in_what_ends_a_line_or_hides(name: str) -> None:
    kind = FORMATS[name]
    if str not in get_args(kind):
        return
    valid = [sample for sample in SAMPLES if _is_valid(kind, sample)]
    assert valid, "a sample of this format is missing"
    ends = BAD_ENDS if name == "ShellScript" else [*BAD_ENDS, "\n", "\t"]
    for sample in valid:
        for end in ends:
            assert not _is_valid(kind, sample + end), repr(sample + end)
            assert not _is_valid(kind, sample + end + sample), repr(end)


@pytest.mark.parametrize("name", ["EnvKey", "InputName", "LabelKey", "BuildSecretId", "ComposeKey", "SecretName"])
def test_a_name_that_yaml_cannot_hold_as_a_key_is_refused(name: str) -> None:
    letter = "A" if name == "SecretName" else "a"
    assert _is_valid(FORMATS[name], letter * text_formats.MAX_NAME_LENGTH)
    assert not _is_valid(FORMATS[name], letter * 1_100)
    key = letter * text_formats.MAX_NAME_LENGTH
    assert yaml.load(f"'{key}': 1", yaml.CSafeLoader) == {key: 1}


@pytest.mark.parametrize(("field", "hint"), [("env", "write it in `environment`"), ("environment", "")])
def test_only_the_compose_file_takes_a_variable_with_dots_and_hyphens(field: str, hint: str) -> None:
    accessory = f"{{image: 'elasticsearch:9.0.1', {field}: {{discovery.type: single-node}}}}"
    text = (
        "project: {name: shop, repository: example/shop}\nhosts: {vps: {}}\nservices: {web: {port: 8080}}\n"
        f"accessories: {{es: {accessory}}}\nenvironments: {{production: {{deploy_on: {{push: main}}}}}}\n"
    )
    problems: list[Problem] = []
    try:
        generator.validate_and_plan(parse_yaml("shop.yaml", text))
    except SpecError as error:
        problems = list(error.problems)
    assert [problem.hint.startswith(hint) for problem in problems] == ([True] if hint else [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("localhost", True), ("backend", True), ("shop.example.com", True), ("127.0.0.1", True)]
    + [(text, False) for text in ("", "Shop", "a b", "http://a", "a/b", "a:80", "-a", "a-", "a..b", "*")],
)
def test_a_host_header_may_be_a_single_name(text: str, expected: bool) -> None:
    assert _is_valid(text_formats.HostHeader, text) is expected
