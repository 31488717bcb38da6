"""The page about the spec: each model of kiwari_ci/schema/ as a section with an example and a table of its keys."""

import re
import textwrap
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import JsonValue
from pydantic.fields import FieldInfo

from kiwari_ci.schema import OneOf, Spec, SpecModel, Step
from kiwari_ci.schema.text_formats import Slug, StringFormat
from kiwari_ci.spec_loading import yaml_source
from kiwari_ci.spec_loading.yaml_source import YamlPath, YamlSource

NAME: StringFormat = get_args(Slug)[1]
WILDCARDS = {
    "env": "KEY",
    "environment": "KEY",
    "accessories": "accessory",
    "overrides": "service",
    "domains": "service",
}
Key = tuple[str, ...]  # the way to a field; `<service>` stands for any key of a table
SectionKeys = dict[type[SpecModel], Key]  # which models have a section, and for which key
# A section is below the first key that has its model, except for these.
CHOSEN_SECTIONS: SectionKeys = {Step: ("services", "<service>", "steps", "before_test")}


def page(root: Path) -> str:
    """The whole page; the examples are the specs of this repository."""
    smallest = "".join(
        line
        for line in (root / "tests/cases/ok/minimal/spec.yaml").read_text().splitlines(keepends=True)
        if not line.startswith("#")
    )
    spec_source = yaml_source.load_yaml(root / "specs/kiwari.yaml")
    parts = [INTRODUCTION.format(smallest=smallest, name=NAME.expected)]
    sections = dict(CHOSEN_SECTIONS)
    for name in Spec.model_fields:
        parts += _sections(Spec, [name], (), spec_source, sections)
    return "\n".join(parts)


def _sections(
    parent: type[SpecModel], names: list[str], above: Key, spec_source: YamlSource, sections: SectionKeys
) -> Iterator[str]:
    """A section for fields of one model, and for what is below it."""
    field = parent.model_fields[names[0]]
    keys = [(*above, name, *_wildcard(name, field)) for name in names]
    model = _model(field)
    yield f"{'#' * min(2 + (len(above) + 1) // 2, 4)} {', '.join(map(_dotted, keys))}\n"
    yield f"{cleandoc(model.__doc__ or '') if model else field.description}\n"
    if shown := [text for name in names if (text := _example(spec_source, (*above, name)))]:
        yield "```yaml\n" + "\n".join(shown) + "\n```\n"
    if model is None:
        yield _table(parent, names, sections)
        return
    if like := _find_wider_model(model, sections):
        alike = ", ".join(f"`{name}`" for name in model.model_fields)
        yield f"These keys, each as in {_dotted(sections[like])}: {alike}.\n"
    else:
        yield _forms(model) if issubclass(model, OneOf) else _table(model, list(model.model_fields), sections)
    sections[model] = keys[0]
    for below in _groups(model, keys[0], sections):
        yield from _sections(model, below, keys[0], spec_source, sections)


def _find_wider_model(model: type[SpecModel], sections: SectionKeys) -> type[SpecModel] | None:
    """Find a documented model that has all keys of this one.

    A model that only lists alternative forms does not count.
    """
    if issubclass(model, OneOf):
        return None
    return next(
        (candidate for candidate in sections if model.model_fields.keys() < candidate.model_fields.keys()), None
    )


def _groups(model: type[SpecModel], above: Key, sections: SectionKeys) -> list[list[str]]:
    """Fields that get a section below: those of the same model share one, and one model has no second."""
    groups: dict[type[SpecModel], list[str]] = {}
    for name, field in model.model_fields.items():
        section_model = _model(field)
        if not section_model or _is_single(section_model):
            continue
        if section_model not in sections or sections[section_model][:-1] == above:
            groups.setdefault(section_model, []).append(name)
    return list(groups.values())


def _table(model: type[SpecModel], names: list[str], sections: SectionKeys) -> str:
    rows = ["| Key | What it is | Value | Default |", "| --- | --- | --- | --- |"]
    for name in names:
        field = model.model_fields[name]
        description, derived = _description(field)
        rows.append(f"| `{name}` | {description} | {_cell(_value(field, sections))} | {derived or _default(field)} |")
    return "\n".join(rows) + "\n"


def _forms(model: type[OneOf]) -> str:
    """Of these keys exactly one is written: a form is what a person types."""
    short = f" A bare value is short for `{{{model.shorthand}: …}}`." if model.shorthand else ""
    rows = [f"Exactly one of these.{short}\n", "| Write | What it is | Value |", "| --- | --- | --- |"]
    for name, field in model.model_fields.items():
        rows.append(f"| `{{{name}: …}}` | {_description(field)[0]} | {_cell(_value(field, {}))} |")
    return "\n".join(rows) + "\n"


def _description(field: FieldInfo) -> tuple[str, str]:
    """What it is, and the default that is derived: a description ends in `; default: …` where there is one."""
    description, _, derived = (field.description or "").removesuffix(".").partition("; default: ")
    return _cell(description), _cell(derived)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    default = field.default
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default}`" if isinstance(default, str | int) else "none" if not default else "see below"


def _value(field: FieldInfo, sections: SectionKeys) -> str:
    """A type in words; a model that has a section already is found there."""
    type_words, model = _words(field.annotation, field.metadata), _model(field)
    if model in sections and type_words.endswith(" below"):
        return f"{type_words.removesuffix(' below').removesuffix(',')} of {_dotted(sections[model])}"
    return type_words


def _words(annotation: Any, metadata: list[Any]) -> str:
    """A type in words."""
    if hasattr(annotation, "__metadata__"):
        return _words(annotation.__origin__, list(annotation.__metadata__))
    for constraint in metadata:
        if isinstance(constraint, StringFormat):
            return "a name" if constraint == NAME else constraint.expected
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{str(literal).lower()}`" for literal in get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(_words(option, []) for option in get_args(annotation))
    if get_origin(annotation) is list:
        return f"a list, each {_words(get_args(annotation)[0], [])}"
    if get_origin(annotation) is dict:
        return f"a mapping to {_words(get_args(annotation)[1], [])}"
    if isinstance(annotation, type) and issubclass(annotation, SpecModel):
        return _mapping(annotation)
    if annotation is JsonValue:
        return "anything"
    return "`true` or `false`" if annotation is bool else _number(annotation, metadata)


def _mapping(model: type[SpecModel]) -> str:
    if not _is_single(model):
        return "one of the forms below" if issubclass(model, OneOf) else "a mapping, below"
    [(name, field)] = model.model_fields.items()
    return f"`{{{name}: …}}`, {_value(field, {})}"


def _number(annotation: Any, metadata: list[Any]) -> str:
    bounds = [bound for constraint in metadata for bound in getattr(constraint, "metadata", [constraint])]
    low = next(bound.ge for bound in bounds if isinstance(bound, Ge))
    high = next(bound.le for bound in bounds if isinstance(bound, Le))
    return f"a {'whole ' if annotation is int else ''}number from {low} to {high}"


def _model(field: FieldInfo) -> type[SpecModel] | None:
    """The model of a field, or of the values of its table, or of the lists in it."""
    annotation = field.annotation
    while get_origin(annotation) in (dict, list, Annotated):
        annotation = get_args(annotation)[0 if get_origin(annotation) is Annotated else -1]
    return annotation if isinstance(annotation, type) and issubclass(annotation, SpecModel) else None


def _is_single(model: type[SpecModel]) -> bool:
    return len(model.model_fields) == 1


def _wildcard(name: str, field: FieldInfo) -> Key:
    is_table = get_origin(field.annotation) is dict and _model(field)
    return (f"<{WILDCARDS.get(name) or name.removesuffix('s')}>",) if is_table else ()


def _dotted(key: Key) -> str:
    return f"`{'.'.join(key)}`"


def _cell(text: str) -> str:
    """Text as a table's cell holds it: outside of code spans nothing is markup."""
    return re.sub(r"(`[^`]*`)|([|<*])", lambda match: match[1] or "\\" + match[2], text)


def _example(spec_source: YamlSource, key: Key) -> str:
    """How the spec writes it, in the first place that has it; empty when none has."""
    for loc in spec_source.keys:
        if len(loc) == len(key) and all(
            expected_part[0] == "<" or expected_part == actual_part
            for expected_part, actual_part in zip(key, loc, strict=True)
        ):
            return _written(spec_source, loc)
    return ""


def _written(spec_source: YamlSource, loc: YamlPath) -> str:
    key = spec_source.keys[loc]
    first = spec_source.lines[key.line - 1]
    if first[: key.column - 1].strip():  # inside of {…}
        return f"{loc[-1]}: {spec_source.at(spec_source.values[loc])}"
    lines = [first]
    for line in spec_source.lines[key.line :]:
        if line.strip() and len(line) - len(line.lstrip()) < key.column:
            break
        lines.append(line)
    return textwrap.dedent("\n".join(lines)).rstrip()


INTRODUCTION = """# The spec

Look up here what you can write into a spec: every key, what it does, its type and its default. A spec is one YAML file,
`specs/NAME.yaml`, that describes services, environments, hosts and databases; `kiwari-ci generate` generates the
pipeline from it. This is the smallest one that works. Everything else has a default:

```yaml
{smallest}```

- `kiwari-ci validate` reports all errors at once, and gives advice. [Failures](../failures.md) has an example of each.
- `kiwari-ci show` prints what follows from a spec, with every name and default.
- Editors complete and check a spec while you type if its first line names the schema,
  `# yaml-language-server: $schema=kiwari-ci.schema.json`. Write this file beside the spec with
  `kiwari-ci schema >specs/kiwari-ci.schema.json`.
- Unknown keys and keys without a value are errors. So are YAML anchors, aliases, merge keys and tags: write
  what several services have in common into `service_defaults`.
- A spec is read as YAML 1.2: `on` and `22:22` are text, and `1.10` is a number, so put versions in quotes.
- A spec contains the names of secrets, never their values.
- In the fields of a container (`command`, `env`, `environment`, `labels`, `healthcheck`, `compose` and so on), write
  `$$` for a dollar sign, as in a Compose file. `${{NAME}}` and `$NAME` are errors, because nothing replaces them. The
  exception is a command that a shell in the container runs (`[sh, -c, …]` or `[CMD-SHELL, …]`):
  there, `$NAME` is a variable that the spec gives the container, and `$$NAME` is any variable, also one that the image
  or the script sets.
- Write Compose keys that have no field in the spec below `compose:` of a service or an accessory, such as `shm_size`,
  `ulimits`, `extra_hosts`, `user`, `cap_drop`, `read_only`, `tmpfs`, and
  `logging: {{driver: json-file, options: {{max-size: 20m}}}}`. `init`, `restart` and `logging` replace the values that
  are generated otherwise. A key that has a field of its own, or that deploys rely on, is refused.
- In the tables, *a name* means {name}.

The examples are from [specs/kiwari.yaml](../../specs/kiwari.yaml).
"""
