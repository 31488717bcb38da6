"""Plan → files: the Jinja environment, and which template makes which file."""

from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import Environment, FileSystemBytecodeCache, FileSystemLoader, StrictUndefined, TemplateError
from jinja2.bccache import Bucket

from kiwari_ci.engines.all_engines import list_engines
from kiwari_ci.engines.base import Engine
from kiwari_ci.file_output.generated_files import (
    DEPENDABOT_PATH,
    GeneratedFile,
    GeneratedFiles,
    format_example_marker,
    format_marker,
)
from kiwari_ci.plan_model import Plan
from kiwari_ci.planning import pipeline_graph
from kiwari_ci.rendering import quoting

TEMPLATES_FOLDER = Path(__file__).parent / "templates"
DRIFT_WORKFLOW_PATH = ".github/workflows/pipeline-drift.yml"


class RenderError(Exception):  # noqa: N818 - always a bug of ours
    """A template could not be rendered: names the template and its line."""


def render_files(plan: Plan) -> GeneratedFiles:
    """Render a plan: path → file, in the order in which a reader would open them."""
    files: GeneratedFiles = {plan.drift.spec_path: GeneratedFile(plan.spec_text, marked=False)}
    if plan.pins.text:
        files[plan.pins.path] = GeneratedFile(plan.pins.text, marked=False)
    for path, template, context in _list_templates(plan):
        # A part ends with a blank line, which the last part of a file must not have.
        text = _render_template(template, plan, context).rstrip("\n") + "\n"
        files[path] = GeneratedFile(text, executable=text.startswith("#!"))
    for engine in _list_used_engines(plan):
        for path, program in engine.list_programs(plan).items():
            files[path] = GeneratedFile(program.read_text(encoding="utf-8"), executable=True)
    return files


def _list_used_engines(plan: Plan) -> list[Engine]:
    return list_engines({host.engine for host in plan.every_host})


def _list_templates(plan: Plan) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for workflow in plan.workflows:
        yield f".github/workflows/{workflow.name}.yml", "github/service-ci.yml.j2", {"workflow": workflow}
    for promotion in plan.promotions:
        yield f".github/workflows/{promotion.name}.yml", "github/promote.yml.j2", {"promotion": promotion}
    for pull_requests in plan.pull_requests:
        yield pull_requests.path, "github/pull-requests.yml.j2", {"pull_requests": pull_requests}
    yield DRIFT_WORKFLOW_PATH, "github/pipeline-drift.yml.j2", {}
    for dependabot in plan.dependabot:
        yield DEPENDABOT_PATH, "github/dependabot.yml.j2", {"bot": dependabot}
    yield ".github/workflows/.gitattributes", "gitattributes.j2", {}
    yield "deploy/.gitattributes", "gitattributes.j2", {}
    for engine in _list_used_engines(plan):
        for file in engine.list_stack_templates(plan):
            yield file.path, file.template, file.context
    graph = pipeline_graph.render_mermaid(pipeline_graph.build_pipeline_graph(plan))
    yield "deploy/RUNBOOK.md", "docs/runbook.md.j2", {"graph": quoting.QuotedText(graph)}


class _TemplateCache(FileSystemBytecodeCache):
    """Keeps compiled templates as Python keeps compiled modules: in `__pycache__`, by the checksum of their source.

    Compiling them takes a quarter of a run. Where the folder cannot be written, each run compiles them.
    """

    def __init__(self) -> None:
        super().__init__(str(TEMPLATES_FOLDER / "__pycache__"), f"%s.jinja2-{jinja2.__version__}")

    def dump_bytecode(self, bucket: Bucket) -> None:
        with suppress(OSError):
            Path(self.directory).mkdir(exist_ok=True)
            super().dump_bytecode(bucket)


@cache
def _create_jinja_environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES_FOLDER),
        bytecode_cache=_TemplateCache(),
        undefined=StrictUndefined,
        finalize=_require_quoted,
        autoescape=False,  # noqa: S701 - nothing here is HTML; `finalize` refuses what no filter has quoted
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<%=",
        variable_end_string="%>",
        comment_start_string="<%#",
        comment_end_string="%>",
    )
    filters = (
        quoting.yaml,
        quoting.nested,
        quoting.sh,
        quoting.block,
        quoting.name,
        quoting.text,
        quoting.script,
        quoting.command,
        quoting.expression,
    )
    environment.filters = {filter.__name__: filter for filter in filters}
    return environment


def _require_quoted(value: object) -> object:
    if not isinstance(value, quoting.QuotedText):
        raise ValueError(f"a template prints {value!r} without a filter")
    return value


def _render_template(template: str, plan: Plan, context: dict[str, Any]) -> str:
    try:
        compiled_template = _create_jinja_environment().get_template(template)
        return compiled_template.render(
            plan=plan,
            project=plan.project,
            marker=quoting.QuotedText(format_marker(plan.project)),
            example_marker=quoting.QuotedText(format_example_marker(plan.project)),
            **context,
        )
    except (TemplateError, ValueError, TypeError) as error:
        raise RenderError(f"{_find_template_line(error, template)}: {error}") from error


def _find_template_line(error: BaseException, template: str) -> str:
    """Find the innermost template line that the error passed through."""
    syntax_error_line = getattr(error, "lineno", None)
    if syntax_error_line is not None:
        return f"templates/{getattr(error, 'name', template)}:{syntax_error_line}"
    location = template
    traceback = error.__traceback__
    while traceback:
        file = Path(traceback.tb_frame.f_code.co_filename)
        if file.is_relative_to(TEMPLATES_FOLDER):
            location = f"{file.relative_to(TEMPLATES_FOLDER)}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return f"templates/{location}"
