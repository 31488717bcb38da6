"""Reads a workflow: its triggers, permissions, secrets and variables, and its jobs with their steps."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from kiwari_ci.readers import workflow_triggers
from kiwari_ci.readers.bounded_text import fill_in_values
from kiwari_ci.readers.workflow_calls import (
    EXPRESSION_PATTERN,
    fill_in_call_values,
    fill_in_called_document,
    fill_in_ref_choices,
    find_environment_condition,
    is_excluded_by_matrix,
    never_runs,
)
from kiwari_ci.readers.workflow_matrix import MAX_MATRIX_COMBINATIONS, list_matrix_values
from kiwari_ci.readers.yaml_document import YamlDocument, YamlMapping, as_dict, as_inline_code, as_list, iter_strings
from kiwari_ci.spec_loading.yaml_source import YamlPath

_SETTING_REFERENCE = re.compile(r"(?<![\w.-])(secrets|vars)(?:\.([A-Za-z_]\w*)|\[\s*'([^']+)'\s*\])")
# In generated workflows: the tag that only the image of one branch gets.
_BRANCH_TAG_EXPRESSION = re.compile(r"github\.ref == '[^']+' && '([^'<>]+)' \|\| ''")
_GENERATED_OUTPUTS = {"steps.source.outputs.key": "src-<key>"}
_MAX_STEPS = 300  # of a job, with those that it calls and all combinations
_MAX_JOBS = 200
MAX_CALL_DEPTH = 3  # actions and workflows that call one another
MAX_CALLS = 500  # of all workflows; each one copies what it calls

# Labels of runners that GitHub or another company starts anew for each job.
_HOSTED_RUNNER_LABEL = re.compile(
    r"(?:ubuntu|windows|macos|blacksmith|buildjet|buildkite|depot|namespace|nscloud|ubicloud|warp|runs-on|cirun|codebuild)"
    r"(?![a-z]).*"
    r"|linux|x64|arm64|(?:.*[-_])?(?:larger?|\d*-?cores?|\d*vcpu)(?:[-_].*)?",
    re.IGNORECASE,
)

Substitutions = Mapping[str, str]


@dataclass(frozen=True)
class ParsedStep:
    """One step of a job, as one combination of its matrix has it: expressions that are known are filled in."""

    title: str
    uses: str
    run: str
    inputs: dict[str, Any]
    env: dict[str, str]
    id: str
    where: str


@dataclass(frozen=True)
class ParsedJob:
    """A job: its steps, those of actions and workflows of the same repository included.

    `variants` are the job as its refs and its matrix start it, if they choose between several environments.
    """

    id: str
    when: tuple[str, ...]
    steps: tuple[ParsedStep, ...]
    permissions: dict[str, str] | None
    environment: str
    needs: tuple[str, ...]
    own_machine: bool
    timeout: bool
    where: str
    variants: tuple["ParsedJob", ...] = ()


@dataclass(frozen=True)
class ParsedWorkflow:
    """What a workflow's text says; `filters` are its path filters as `!`-lists, by event."""

    path: str
    name: str
    document: YamlDocument
    triggers: dict[str, str]
    filters: dict[str, tuple[str, ...]]
    jobs: tuple[ParsedJob, ...]
    secrets: dict[str, str]
    variables: dict[str, str]
    actions: dict[str, dict[str, str]]
    concurrency: str = ""


@dataclass(frozen=True)
class ReferenceContext:
    """What a workflow's text may refer to: actions and workflows of the same repository, and its name."""

    documents: Mapping[str, YamlDocument]
    repository: str = ""
    depth: int = field(default=0)
    calls: list[str] = field(default_factory=list)  # the documents that were called so far

    def called(self, uses: str) -> YamlDocument | None:
        """The action or workflow that `./…` names, unless calls go too deep."""
        path = uses.removeprefix("./").strip("/").partition("@")[0]
        names = (path, f"{path}/action.yml", f"{path}/action.yaml")
        if self.depth > MAX_CALL_DEPTH or len(self.calls) >= MAX_CALLS:
            return None
        for name in names:
            if name in self.documents:
                self.calls.append(name)
                return self.documents[name]
        return None

    def deeper(self) -> "ReferenceContext":
        """One call further down."""
        return replace(self, depth=self.depth + 1)


def get_action_name(uses: str) -> str:
    """The action of a step's `uses`, without its version."""
    return uses.partition("@")[0]


def list_runner_labels(runs_on: Any) -> list[str]:
    """The labels of a job's runner, which `runs-on` has as a text, a list, or a mapping with `labels`."""
    labels = runs_on.get("labels") if isinstance(runs_on, dict) else runs_on
    return [str(label) for label in as_list(labels) if label]


def is_own_machine(runs_on: Any) -> bool:
    """Whether a job runs on a machine of one's own, which is still there when the job has ended.

    A label that is none of a hosted runner's, such as `prod-runner`, is one of a machine of one's own. What an
    expression says, only a run knows.
    """
    labels = list_runner_labels(runs_on)
    if "self-hosted" in labels:
        return True
    return bool(labels) and not any("${{" in label or _HOSTED_RUNNER_LABEL.fullmatch(label) for label in labels)


def parse_workflow(document: YamlDocument, around: ReferenceContext) -> ParsedWorkflow:
    """The facts of one workflow; whatever has an odd shape is left out of them."""
    data = document.data
    triggers, filters = workflow_triggers.parse_triggers(document, data.get("on"))
    return ParsedWorkflow(
        path=document.path,
        name=document.path.rpartition("/")[2].rpartition(".")[0],
        document=document,
        triggers=triggers,
        filters=filters,
        jobs=_apply_needs(list(islice(_parse_jobs(document, around, tuple(triggers)), _MAX_JOBS)), data),
        secrets=_find_setting_names(document, "secrets"),
        variables=_find_setting_names(document, "vars"),
        actions=_find_used_actions(document, around),
        concurrency=_describe_concurrency(data),
    )


def _parse_jobs(document: YamlDocument, context: ReferenceContext, triggers: tuple[str, ...]) -> Iterator[ParsedJob]:
    data = document.data
    for name, job in as_dict(data.get("jobs")).items():
        if not isinstance(job, dict) or (context.depth and never_runs(job)):
            continue
        steps = list(islice(_parse_job_steps(document, name, job, context), _MAX_STEPS))
        called_jobs = list(islice(_parse_called_jobs(job, context, triggers), _MAX_JOBS))
        for called_job in called_jobs:
            steps += called_job.steps
        parsed_job = ParsedJob(
            id=name,
            when=workflow_triggers.narrow_triggers(triggers, str(job.get("if", ""))),
            steps=tuple(steps),
            permissions=_parse_permissions(job.get("permissions", data.get("permissions"))),
            environment=_find_environment(job, called_jobs),
            needs=tuple(str(needed_job) for needed_job in as_list(job.get("needs"))),
            own_machine=is_own_machine(job.get("runs-on")),
            timeout="timeout-minutes" in job or "uses" in job,
            where=document.where("jobs", name),
        )
        variants = tuple(islice(_parse_variants(document, job, parsed_job, context), MAX_MATRIX_COMBINATIONS))
        if len({variant.environment for variant in variants}) > 1:
            yield replace(parsed_job, variants=variants)
        else:
            yield parsed_job


def _parse_variants(
    document: YamlDocument, job: dict[str, Any], parsed_job: ParsedJob, context: ReferenceContext
) -> Iterator[ParsedJob]:
    """A job as each kind of ref and each combination of its matrix starts it, with the environment that they choose."""
    if not isinstance(job, YamlMapping) or "${{" not in parsed_job.environment or "uses" in job:
        return
    for chosen_job, triggers in _list_ref_choices(job, parsed_job.when):
        for values in list_matrix_values(chosen_job):
            filled_job = fill_in_call_values(chosen_job, values)
            yield replace(
                parsed_job,
                when=triggers,
                steps=tuple(
                    islice(_parse_combination(document, parsed_job.id, chosen_job, values, context), _MAX_STEPS)
                ),
                environment=_find_environment(filled_job, []),
            )


def _list_ref_choices(job: YamlMapping, triggers: tuple[str, ...]) -> list[tuple[YamlMapping, tuple[str, ...]]]:
    """A job with its triggers; twice if a condition of the branch or tag chooses its environment."""
    condition = find_environment_condition(job)
    if not condition:
        return [(job, triggers)]
    return [
        (fill_in_ref_choices(job, condition, holds=True), workflow_triggers.narrow_triggers(triggers, condition)),
        (fill_in_ref_choices(job, condition, holds=False), workflow_triggers.exclude_triggers(triggers, condition)),
    ]


def _parse_called_jobs(
    job: dict[str, Any], context: ReferenceContext, triggers: tuple[str, ...]
) -> Iterator[ParsedJob]:
    """The jobs of the workflow that a job calls, with what it gives them, once for each combination of its matrix."""
    uses = _as_string(job.get("uses"))
    called_workflow = context.called(uses) if uses.startswith("./") else None
    if not called_workflow or not isinstance(job, YamlMapping):
        return
    for values in list_matrix_values(job):
        called = fill_in_called_document(called_workflow, fill_in_call_values(job, values))
        yield from _parse_jobs(called, context.deeper(), triggers)


def _find_environment(job: dict[str, Any], called_jobs: list[ParsedJob]) -> str:
    """The environment that a job names, or that the jobs that it calls do."""
    environment = job.get("environment")
    name = str(as_dict(environment).get("name", "") or _as_string(environment))
    called_names = [called_job.environment for called_job in called_jobs if called_job.environment]
    return name or next(iter(called_names), "")


def _parse_job_steps(
    document: YamlDocument, name: str, job: dict[str, Any], context: ReferenceContext
) -> Iterator[ParsedStep]:
    """The steps of a job, once for each combination of its matrix."""
    for values in list_matrix_values(job):
        yield from _parse_combination(document, name, job, values, context)


def _parse_combination(
    document: YamlDocument, name: str, job: dict[str, Any], values: Substitutions, context: ReferenceContext
) -> Iterator[ParsedStep]:
    """The steps of a job in one combination of its matrix."""
    env = {**_substitute_env(document.data.get("env"), context, {}), **as_dict(job.get("env"))}
    known_values = {key: value for key, value in values.items() if "${{" not in value}  # a run chooses the others
    yield from _parse_steps(document, ("jobs", name), job, env, known_values, context)


def _apply_needs(jobs: list[ParsedJob], data: dict[str, Any]) -> tuple[ParsedJob, ...]:
    """Narrow the triggers of jobs: one is skipped where a job that it needs is, unless its `if` says otherwise."""
    jobs_by_id = {job.id: job for job in jobs}
    for _ in jobs:  # a chain of jobs needs as many rounds as it is long
        for job in jobs_by_id.values():
            condition = str(as_dict(as_dict(data.get("jobs")).get(job.id)).get("if", ""))
            if workflow_triggers.STATUS_FUNCTION.search(condition):
                continue
            needed_triggers = [jobs_by_id[name].when for name in job.needs if name in jobs_by_id]
            remaining = tuple(
                trigger for trigger in job.when if all(trigger in triggers for triggers in needed_triggers)
            )
            if remaining and remaining != job.when:
                jobs_by_id[job.id] = _keep_triggers(job, remaining)
    return tuple(jobs_by_id.values())


def _keep_triggers(job: ParsedJob, triggers: tuple[str, ...]) -> ParsedJob:
    """A job that only these triggers start. A variant of which none is left keeps its own."""
    variants = []
    for variant in job.variants:
        remaining = tuple(trigger for trigger in variant.when if trigger in triggers)
        variants.append(replace(variant, when=remaining or variant.when))
    return replace(job, when=triggers, variants=tuple(variants))


def _as_string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _parse_permissions(permissions: Any) -> dict[str, str] | None:
    """Scope → level; None where nothing is said, and the repository's setting decides."""
    if isinstance(permissions, str):
        return {"everything": permissions.removesuffix("-all")}
    if not isinstance(permissions, dict):
        return None
    return {scope: str(level) for scope, level in permissions.items() if level != "none"}


def _parse_steps(
    document: YamlDocument,
    loc: YamlPath,
    job: dict[str, Any],
    env: dict[str, Any],
    values: Substitutions,
    around: ReferenceContext,
) -> Iterator[ParsedStep]:
    substitutions = _build_substitutions(around, values)
    env = {key: substitute_expressions(str(value), substitutions) for key, value in env.items()}
    substitutions |= {f"env.{key}": value for key, value in env.items()}
    defaults = as_dict(as_dict(job.get("defaults")).get("run"))
    for index, step in enumerate(as_list(job.get("steps"))):
        if not isinstance(step, YamlMapping) or (around.depth and never_runs(step)):
            continue
        if is_excluded_by_matrix(step, values):
            continue
        parsed_step = _parse_step(
            step,
            document.where(*loc, "steps", index),
            env,
            substitutions,
            _as_string(defaults.get("working-directory")),
        )
        yield parsed_step
        called_action = around.called(parsed_step.uses) if parsed_step.uses.startswith("./") else None
        if called_action:
            called_action = fill_in_called_document(called_action, step)
            runs = as_dict(called_action.data.get("runs"))
            yield from _parse_steps(called_action, ("runs",), runs, env, substitutions, around.deeper())
        substitutions |= _predict_step_outputs(parsed_step)


def _parse_step(
    step: dict[str, Any], where: str, env: Substitutions, substitutions: Substitutions, folder: str
) -> ParsedStep:
    step_env = {
        key: substitute_expressions(str(value), substitutions) for key, value in as_dict(step.get("env")).items()
    }
    substitutions = {**substitutions, **{f"env.{key}": value for key, value in step_env.items()}}
    run = substitute_expressions(_as_string(step.get("run")), substitutions)
    folder = substitute_expressions(_as_string(step.get("working-directory")) or folder, substitutions)
    uses = _as_string(step.get("uses"))
    title = _as_string(step.get("name")) or get_action_name(uses) or run.strip().partition("\n")[0]
    inputs = {
        key: substitute_expressions(str(value), substitutions) for key, value in as_dict(step.get("with")).items()
    }
    return ParsedStep(
        title,
        uses,
        f"cd {folder}\n{run}" if folder and run else run,
        inputs,
        {**env, **step_env},
        str(step.get("id", "")),
        where,
    )


def _build_substitutions(around: ReferenceContext, values: Substitutions) -> dict[str, str]:
    owner = around.repository.partition("/")[0]
    project = {"github.repository": around.repository, "github.repository_owner": owner}
    project["github.event.repository.name"] = around.repository.rpartition("/")[2]
    return {**({key: value for key, value in project.items() if value}), **values}


def _predict_step_outputs(step: ParsedStep) -> dict[str, str]:
    """What docker/metadata-action will print: its images with the tags that its lines name."""
    if not step.uses.startswith("docker/metadata-action@") or not step.id:
        return {}
    images = re.split(r"[\n,]+", step.inputs.get("images", ""))
    tags = [_predict_metadata_tag(line) for line in step.inputs.get("tags", "type=ref").split("\n") if line.strip()]
    refs = [f"{image.strip()}:{tag}" for image in images if image.strip() for tag in tags]
    return {f"steps.{step.id}.outputs.tags": "\n".join(refs)}


def _predict_metadata_tag(line: str) -> str:
    parts = dict(part.partition("=")[::2] for part in line.strip().split(",") if "=" in part)
    if "type" not in parts:
        return line.strip()
    kind = parts["type"]
    prefix = parts.get("prefix", "sha-" if kind == "sha" else "").strip("{}")
    inner = parts.get("value", "") if kind == "raw" else f"<{parts.get('event', kind) if kind == 'ref' else kind}>"
    return f"{prefix}{inner}"


def substitute_expressions(text: str, substitutions: Substitutions) -> str:
    """A text with each expression replaced by its value, or by its name where that is not known."""
    if "${{" not in text:
        return text

    def substitute(match: re.Match[str]) -> str:
        return substitutions.get(match[1].strip(), _format_unknown_expression(match[1]))

    return fill_in_values(EXPRESSION_PATTERN, substitute, text)


def _format_unknown_expression(expression: str) -> str:
    """An unknown value as a word that no shell and no list cuts: `<secrets.KEY>`."""
    name = expression.strip()
    if image := _BRANCH_TAG_EXPRESSION.fullmatch(name):
        return image[1]
    return _GENERATED_OUTPUTS.get(name, f"<{name}>") if re.fullmatch(r"[\w.*-]+", name) else "<expression>"


def _substitute_env(env: Any, around: ReferenceContext, values: Substitutions) -> dict[str, str]:
    substitutions = _build_substitutions(around, values)
    return {key: substitute_expressions(str(value), substitutions) for key, value in as_dict(env).items()}


def _find_setting_names(document: YamlDocument, kind: str) -> dict[str, str]:
    """Names of secrets or variables that are read, and where; the job's own token is kept nowhere."""
    places: dict[str, str] = {}
    for loc, text in iter_strings(document.data):
        if kind in text:
            parts = EXPRESSION_PATTERN.findall(text) + ([text] if loc[-1] == "if" else [])
            for name in (
                dot or index
                for expression in parts
                for reference_kind, dot, index in _SETTING_REFERENCE.findall(expression)
                if reference_kind == kind
            ):
                places.setdefault(name, document.where(*loc))
    places.pop("GITHUB_TOKEN", None)
    return places


def _find_used_actions(document: YamlDocument, around: ReferenceContext) -> dict[str, dict[str, str]]:
    """Action → the refs at which it is used → where."""
    places: dict[str, dict[str, str]] = {}
    for loc, text in iter_strings(document.data):
        if loc[-1] == "uses" and not text.startswith(("./", "docker://")):
            name, _, ref = text.partition("@")
            places.setdefault(name, {}).setdefault(ref, document.where(*loc))
    return places


def _describe_concurrency(data: dict[str, Any]) -> str:
    concurrency = data.get("concurrency")
    if not concurrency:
        return ""
    group = concurrency.get("group", "") if isinstance(concurrency, dict) else concurrency
    description = f"group {as_inline_code(group)}"
    if as_dict(concurrency).get("cancel-in-progress") is True:
        description += ", a running one is cancelled"
    return description
