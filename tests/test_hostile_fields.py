"""Hostile text in every field of a spec: it is refused at its place, or it is data in what is generated.

The fields come from the schema, so a new one is tried as soon as `cases/fields` has a value for it.
"""

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from kiwari_ci import generator
from kiwari_ci.file_output.generated_files import GeneratedFiles
from kiwari_ci.problems import SpecError
from kiwari_ci.schema import Spec, text_formats
from kiwari_ci.spec_loading import yaml_source
from tests import checkers
from tests.document_structure import built, commands, syntax
from tests.test_diff_fields import CASES, SPEC

SCHEMA: dict[str, Any] = Spec.model_json_schema()
Place = tuple[str | int, ...]  # the path to a value in a spec

FORMS: dict[str, Any] = yaml.load((CASES / "forms.yaml").read_text(), yaml.CSafeLoader)
NAMED_DEPENDENCY = {"service_defaults": FORMS["service_defaults"] | {"depends_on": {"cache": "started"}}}


ANY_TEXT_PATTERN = rf"[^{text_formats.FORBIDDEN_CHARACTERS}]*"  # of what is copied to a Compose file
LONG_TEXT_PATTERNS = {ANY_TEXT_PATTERN} | {
    f"^(?:{each.pattern})$"
    for kind in vars(text_formats).values()
    for each in getattr(kind, "__metadata__", ())
    if isinstance(each, text_formats.StringFormat) and each.longest > text_formats.MAX_NAME_LENGTH
}


@dataclass(frozen=True)
class TextPlace:
    """A text in a spec: where it is, whether it is a key, and the part of the schema that describes it."""

    place: Place
    is_key: bool
    described_by: str
    pattern: str

    def accepts(self, text: str) -> bool:
        """Whether the pattern of the schema accepts a text; no name may have more than 1,000 characters."""
        is_limited = self.is_key or self.pattern not in LONG_TEXT_PATTERNS
        is_too_long = is_limited and len(text) > text_formats.MAX_NAME_LENGTH
        return not is_too_long and re.fullmatch(self.pattern.removeprefix("^").removesuffix("$"), text) is not None


def list_described_texts(node: Any, path: str = "") -> Iterator[str]:
    """Each part of the schema that describes free text: a value, or a key of a table."""
    if isinstance(node, list):
        for index, each in enumerate(node):
            yield from list_described_texts(each, f"{path}/{index}")
    if not isinstance(node, dict):
        return
    if node.get("type") == "string" and not {"enum", "const"} & node.keys():
        yield path
    for key, value in node.items():
        if key == "patternProperties":
            (entry,) = value.values()
            yield f"{path}/key"
            yield from list_described_texts(entry, f"{path}/value")
        elif key != "default":
            yield from list_described_texts(value, f"{path}/{key}")


def list_texts(value: Any, node: Mapping[str, Any], place: Place = (), path: str = "") -> Iterator[TextPlace]:
    """Each free text of a spec, with the part of the schema that describes it."""
    while "$ref" in node:
        path = node["$ref"].removeprefix("#")
        node = SCHEMA["$defs"][path.rpartition("/")[2]]
    if path == "/$defs/JsonValue":
        yield from _list_texts_of_any_form(value, place, path)
    for index, branch in enumerate(node.get("anyOf", ())):
        if _fits(branch, value):
            yield from list_texts(value, branch, place, f"{path}/anyOf/{index}")
    if isinstance(value, str) and node.get("type") == "string" and not {"enum", "const"} & node.keys():
        yield TextPlace(place, False, path, node["pattern"])
    elif isinstance(value, dict) and node.get("type") == "object":
        for key, entry in value.items():
            if key in node.get("properties", {}):
                yield from list_texts(entry, node["properties"][key], (*place, key), f"{path}/properties/{key}")
                continue
            ((pattern, described),) = node["patternProperties"].items()
            yield TextPlace((*place, key), True, f"{path}/key", pattern)
            yield from list_texts(entry, described, (*place, key), f"{path}/value")
    elif isinstance(value, list) and node.get("type") == "array":
        for index, entry in enumerate(value):
            yield from list_texts(entry, node["items"], (*place, index), f"{path}/items")


def _list_texts_of_any_form(value: Any, place: Place, path: str) -> Iterator[TextPlace]:
    """What stands below `compose:`, which has no form of its own."""
    if isinstance(value, str):
        yield TextPlace(place, False, f"{path}/value", ANY_TEXT_PATTERN)
    for key, entry in value.items() if isinstance(value, dict) else ():
        yield TextPlace((*place, key), True, f"{path}/key", ANY_TEXT_PATTERN)
        yield from _list_texts_of_any_form(entry, (*place, key), path)
    for index, entry in enumerate(value) if isinstance(value, list) else ():
        yield from _list_texts_of_any_form(entry, (*place, index), f"{path}/items")


def _fits(node: Mapping[str, Any], value: Any) -> bool:
    """Whether a value is of the kind that a branch of the schema describes."""
    while "$ref" in node:
        node = SCHEMA["$defs"][node["$ref"].rpartition("/")[2]]
    if "anyOf" in node:
        return any(_fits(branch, value) for branch in node["anyOf"])
    if "enum" in node or "const" in node:
        return value in node.get("enum", [node.get("const")])
    if isinstance(value, dict):
        return bool(node.get("type") == "object" and value.keys() <= node.get("properties", value).keys())
    kind = "string" if isinstance(value, str) else "array" if isinstance(value, list) else ""
    return bool(node.get("type") == kind)


def write_spec(folder: Path, data: dict[str, Any]) -> Path:
    """Each value on a line of its own. JSON is YAML; what YAML may not hold as it is stands there as an escape."""
    text = json.dumps(data, ensure_ascii=False, indent=1)
    path = folder / "spec.yaml"
    path.write_text(re.sub(r"[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", lambda each: f"\\u{ord(each[0]):04x}", text))
    pins = folder / "pins/action.yml"
    pins.parent.mkdir(exist_ok=True)
    pins.write_text((CASES / "pins/action.yml").read_text())
    return path


def generate(folder: Path, data: dict[str, Any]) -> GeneratedFiles | SpecError:
    """What a spec generates, or why it is refused."""
    try:
        return generator.generate_files(write_spec(folder, data))[1]
    except SpecError as refusal:
        return refusal


SPECS = {"fields": SPEC, "forms": FORMS, "a named dependency": FORMS | NAMED_DEPENDENCY}
HIDDEN = set("".join(["\0\x07\x1b\r\x85\x9b\u2028\u202e\u2066\u061c\u200b\u00ad\u3164\U000e0041\ufffe\ufeff"]))
# Whole commands of the spec's author: what is in them is code on purpose.
SCRIPT_PATTERN = SCHEMA["$defs"]["Hooks"]["properties"]["before"]["pattern"]


@cache
def list_texts_of(name: str) -> list[TextPlace]:
    """The texts of a spec that no spec before it has, one for each part of the schema."""
    found: dict[str, TextPlace] = {}
    for spec, data in SPECS.items():
        texts = {text.described_by: text for text in reversed(list(list_texts(data, SCHEMA)))}
        new = {described_by: text for described_by, text in texts.items() if described_by not in found}
        if spec == name:
            return list(new.values())
        found |= new
    raise KeyError(name)


def replace_texts(data: dict[str, Any], texts: Sequence[TextPlace], hostile: str) -> dict[str, Any]:
    """A spec with another text at some places; the deepest first, so that the places of the others stay true."""
    changed = copy.deepcopy(data)
    for text in sorted(texts, key=lambda text: (-len(text.place), not text.is_key)):
        *above, last = text.place
        inside: Any = changed
        for part in above:
            inside = inside[part]
        if not text.is_key:
            inside[last] = hostile
            continue
        entries = {hostile if key == last else key: value for key, value in inside.items()}
        inside.clear()
        inside.update(entries)
    return changed


# What each of these does where it is not taken as data.
HOSTILE = {
    "newline": "a\nb: c",
    "newline at the end": "a\n",
    "carriage return": "a\rb: c",
    "NUL": "a\0b",
    "escape": "a\x1b]0;b\x07",
    "C1 control": "a\x9b31m",
    "next line": "a\x85b: c",
    "line separator": "a\u2028b: c",
    "byte order mark": "\ufeffa",
    "right to left": "a\u202eb",
    "isolate": "a\u2066b",
    "Arabic letter mark": "a\u061cb",
    "zero width": "a\u200bb",
    "soft hyphen": "a\u00adb",
    "filler": "a\u3164b",
    "tag character": "a\U000e0041b",
    "not a character": "a\ufffeb",
    "long": "a" * 1_100,
    "all of a shell": "a; touch x $(touch x) `touch x` | touch x && touch x > x $HOME \"; '\\''; touch x",
    "all of YAML": "a: b #c, [d] {e: f} - g ? h & i * j ! k | l > m % n @ o << p",
    "expression": "${{ secrets.A }}",
    "expression inside": "a ${{ github.token }} b",
    "substitution": "$(touch x)",
    "backticks": "`touch x`",
    "command": "a; rm -rf x",
    "pipe": "a | touch x",
    "and": "a && touch x",
    "redirection": "a > x",
    "variable": "$HOME",
    "parameter": "${HOME:-x}",
    "single quote": "'",
    "quoted command": "'; touch x; '",
    "double quote": '"; touch x; "',
    "backslash": "a\\",
    "comment": "a #b",
    "key": "a: b",
    "item": "- a",
    "question": "? a",
    "tag": "!!python/name:os.system",
    "anchor": "&a b",
    "alias": "*a",
    "mapping": "{a: b}",
    "list": "[a]",
    "document": "---",
    "end of document": "...",
    "directive": "%YAML 1.1",
    "block": "|",
    "merge key": "<<",
    "workflow command": "::add-mask::a",
    "workflow command after a line break": "a%0A::error::b",
    "old workflow command": "##[add-mask]a",
    "option": "-oProxyCommand=x",
    "long option": "--privileged",
    "parent": "../../a",
    "SQL": "a'; DROP TABLE b; --",
    "template": "<%= a %>",
    "table row": "a | b",
    "code block": "``` \n",
    "HTML": "<script>a</script>",
    "HTML comment": "a --> b",
    "here document": "EOF",
    "null": "null",
    "truth": "on",
    "capital truth": "NO",
    "number": "1e3",
    "sexagesimal": "22:22",
    "empty": "",
}


# The others are variants of these. Each renders two whole specs, which takes a second.
QUICK_KINDS = {"NUL", "all of a shell", "all of YAML"}
CI_KINDS = {
    *("Arabic letter mark", "tag character", "long", "expression"),
    *("alias", "workflow command", "option", "HTML comment"),
}


@pytest.mark.parametrize("name", SPECS)
def test_the_spec_is_valid(name: str, tmp_path: Path) -> None:
    assert not isinstance(generate(tmp_path, SPECS[name]), SpecError)


def test_every_text_of_the_schema_is_tried() -> None:
    described = set(list_described_texts({key: SCHEMA[key] for key in ("properties", "$defs")}))
    tried = {text.described_by for name in SPECS for text in list_texts_of(name)}
    assert described <= tried, "add a value to cases/fields/spec.yaml or forms.yaml"


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param(text, id=kind, marks=[] if kind in QUICK_KINDS | CI_KINDS else [pytest.mark.exhaustive])
        for kind, text in HOSTILE.items()
    ],
)
@pytest.mark.parametrize("name", SPECS)
def test_a_value_is_refused_at_its_place(name: str, hostile: str, tmp_path: Path) -> None:
    """All values of a spec that do not have the form of their field, at once: each is reported where it is."""
    texts = [text for text in list_texts_of(name) if not text.is_key and not text.accepts(hostile)]
    if not texts:
        return
    refusal = generate(tmp_path, replace_texts(SPECS[name], texts, hostile))
    source = yaml_source.load_yaml(tmp_path / "spec.yaml")
    reported = {(each.line, each.column) for each in (refusal.problems if isinstance(refusal, SpecError) else ())}
    missing = [
        text.place
        for text in texts
        if (source.values[text.place].line, source.values[text.place].column) not in reported
    ]
    assert not missing, refusal


@pytest.mark.parametrize(
    "kind", ["newline", *(pytest.param(kind, marks=pytest.mark.exhaustive) for kind in ("long", "right to left"))]
)
@pytest.mark.parametrize("name", SPECS)
def test_a_key_is_refused_at_its_place(name: str, kind: str, tmp_path: Path) -> None:
    for text in list_texts_of(name):
        if not text.is_key or text.accepts(HOSTILE[kind]):
            continue
        refusal = generate(tmp_path, replace_texts(SPECS[name], [text], HOSTILE[kind]))
        assert isinstance(refusal, SpecError), text.place
        lines = (tmp_path / "spec.yaml").read_text().splitlines()
        reported = {each.line for each in refusal.problems if each.column}
        assert reported & {number for number, line in enumerate(lines, 1) if is_written_in(line, HOSTILE[kind])}


def is_written_in(line: str, key: str) -> bool:
    """Whether a line of the spec begins with a key."""
    return line.lstrip().startswith(f"{json.dumps(key, ensure_ascii=False)}:")


def replace_by_usual_words(data: dict[str, Any], texts: Sequence[TextPlace]) -> dict[str, Any]:
    """A spec with other words at some places, which mean nothing to anybody."""
    for text in sorted(texts, key=lambda text: (-len(text.place), not text.is_key)):
        words = ["postgres:17"] if text.described_by.endswith("/image") else []
        words += ["another", "ANOTHER", "/another", "another.env", "33:33"]
        word = next(word for word in words if text.accepts(word))
        data = replace_texts(data, [text], word)
    return data


def generate_with(
    folder: Path, name: str, texts: Sequence[TextPlace], hostile: str
) -> Iterator[tuple[Sequence[TextPlace], GeneratedFiles]]:
    """What a spec generates with hostile text in as many places at once as the rules allow; each other is refused."""
    files = generate(folder, replace_texts(SPECS[name], texts, hostile))
    if not isinstance(files, SpecError):
        yield texts, files
        return
    assert all(each.line and each.column for each in files.problems), files
    half = len(texts) // 2
    for part in (texts[:half], texts[half:]) if half else ():
        yield from generate_with(folder, name, part, hostile)


def mark_kind(kind: str) -> Any:
    """Each kind of hostile text, marked unless the ordinary tests try it."""
    if kind in QUICK_KINDS:
        return kind
    return pytest.param(kind, marks=pytest.mark.exhaustive if kind in CI_KINDS else pytest.mark.long)


@pytest.mark.parametrize("kind", [mark_kind(kind) for kind in HOSTILE])
@pytest.mark.parametrize("name", SPECS)
def test_what_is_accepted_is_data(name: str, kind: str, tmp_path: Path) -> None:
    """What is generated has the parts that it has with usual words in the same places."""
    hostile = HOSTILE[kind]
    texts = [each for each in list_texts_of(name) if each.accepts(hostile) and each.pattern != SCRIPT_PATTERN]
    for accepted, files in generate_with(tmp_path, name, texts, hostile) if texts else ():
        usual = generate(tmp_path, replace_by_usual_words(SPECS[name], accepted))
        assert not isinstance(usual, SpecError), usual
        has_the_same_parts(files, usual)


@pytest.mark.parametrize(
    "hostile",
    [
        *("a <<EOF", "a\n---\nb: c"),
        *(
            pytest.param(command, marks=pytest.mark.exhaustive)
            for command in ("a; touch x", "'", "---", "- a: b", "::error::a", "# a")
        ),
    ],
)
@pytest.mark.parametrize("name", ["fields", "forms"])
def test_a_command_is_kept_whole(name: str, hostile: str, tmp_path: Path) -> None:
    """The author's own commands may be anything, and end where their field ends."""
    texts = [each for each in list_texts_of(name) if each.pattern == SCRIPT_PATTERN]
    files = generate(tmp_path, replace_texts(SPECS[name], texts, hostile))
    usual = generate(tmp_path, replace_by_usual_words(SPECS[name], texts))
    assert not isinstance(files, SpecError) and not isinstance(usual, SpecError), files
    assert list_scripts(files, hostile) == list_scripts(usual, "another")
    assert list_scripts(files, hostile) or not texts


def list_scripts(files: GeneratedFiles, script: str) -> list[Any]:
    """Where a script is a whole step or a hook, and the nodes of each workflow around it."""
    found: list[Any] = []
    for path, file in files.items():
        if path.startswith(".github/workflows/") and path.endswith(".yml"):
            document = yaml.load(file.text, yaml.CSafeLoader)
            whole = [
                (job, number)
                for job, described in document["jobs"].items()
                for number, step in enumerate(described.get("steps", ()))
                if step.get("run") == script
            ]
            found.append((path, whole, list_nodes(document)))
        if "/hooks/" in path and file.text.endswith(f"\n{script}\n"):
            found.append((path, file.text.removesuffix(f"{script}\n")))
    return found


@pytest.mark.long
@pytest.mark.parametrize("kind", ["all of a shell", "all of YAML", "option"])
@pytest.mark.parametrize("name", ["fields", "forms"])
def test_other_readers_accept_the_workflows(name: str, kind: str, tmp_path: Path) -> None:
    texts = [each for each in list_texts_of(name) if each.accepts(HOSTILE[kind]) and each.pattern != SCRIPT_PATTERN]
    for number, (_, files) in enumerate(generate_with(tmp_path, name, texts, HOSTILE[kind])):
        workflows = []
        for path, file in files.items():
            if path.startswith(".github/workflows/") and path.endswith(".yml"):
                workflows.append(tmp_path / str(number) / path)
                workflows[-1].parent.mkdir(parents=True, exist_ok=True)
                workflows[-1].write_text(file.text)
        for checker in (checkers.actionlint, checkers.zizmor, checkers.workflow_schema, checkers.shell_syntax):
            findings = checkers.findings(checker, workflows)
            # A runner may have any label, and actionlint knows those of GitHub only.
            unexpected = [
                each for each in findings if not re.search(r",title=self-hosted-runner::|\[runner-label\]", each)
            ]
            assert unexpected == []


def has_the_same_parts(files: GeneratedFiles, usual: GeneratedFiles) -> None:
    assert len(files) == len(usual)
    for (path, file), (usual_path, usual_file) in zip(files.items(), usual.items(), strict=True):
        if file.marked and file.text != usual_file.text:
            assert not HIDDEN & set(file.text), path
            assert list_parts(path, file.text) == list_parts(usual_path, usual_file.text), path


@cache
def list_parts(path: str, text: str) -> Any:
    """Documents, keys and items of YAML, commands of each script, and of another file what `built` lists."""
    if not path.endswith((".yml", ".yaml")):
        if "bash" in text.partition("\n")[0] or path.endswith(".sh"):
            syntax(text)
        lines = [len(re.findall(r"[{};]", line)) for line in text.splitlines()] if "/conf/" in path else []
        return built(path, text), lines
    documents = list(yaml.load_all(text, yaml.CSafeLoader))
    modern = list(yaml.load_all(text, CoreSchemaLoader))
    assert str(documents).replace("True: ", "'on': ") == str(modern), "readers of YAML 1.1 and of 1.2 differ"
    bodies = [
        step["run"]
        for document in modern
        for job in document.get("jobs", {}).values()
        for step in job.get("steps", ())
        if "run" in step
    ]
    for body in bodies:
        assert "${{" not in body
        syntax(body)
    return [list_nodes(document) for document in modern], [commands(body) for body in bodies]


def list_nodes(node: Any) -> Any:
    """The kinds of the nodes of YAML, whatever their names are."""
    if isinstance(node, dict):
        return sorted((list_nodes(entry) for entry in node.values()), key=str)
    return [list_nodes(item) for item in node] if isinstance(node, list) else type(node).__name__


class CoreSchemaLoader(yaml.CSafeLoader):
    """Reads YAML 1.2, whose core schema takes fewer words for something other than text."""

    yaml_implicit_resolvers: dict[str, Any] = {}


for tag, pattern, starts in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    CoreSchemaLoader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"({pattern})$"), starts)
