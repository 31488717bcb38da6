"""What becomes of the workflows that are there already: job by job, what the spec replaces and what it does not.

A job is replaced only when everything that it does is done by the generated pipeline. What `init` does not understand
counts as not replaced, so that no test, scan or deploy is removed without a word.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from kiwari_ci.commands.init.environments import name_environment
from kiwari_ci.commands.init.gates import Gate, find_gate
from kiwari_ci.commands.init.services import DetectedService
from kiwari_ci.commands.init.workflow_files import calls_workflow, runs_after_workflow
from kiwari_ci.commands.init.workflow_jobs import BuildStep, DeployJob, DetectedWorkflows, TestSteps
from kiwari_ci.effective_spec import EffectiveSpec
from kiwari_ci.readers import compose_file
from kiwari_ci.readers.called_scripts import ScriptFiles, ScriptFinder
from kiwari_ci.readers.image_reference import parse_image_tag
from kiwari_ci.readers.step_effects import BAKE, StepEffect, find_workflow_effects
from kiwari_ci.readers.workflow import ParsedJob, ParsedWorkflow, ReferenceContext, parse_workflow
from kiwari_ci.readers.yaml_document import YamlDocument, YamlMapping, as_inline_code, as_list, collect_strings

_DEPLOY_EFFECTS = {"deploy", "container"}
_IMAGE_EFFECTS = {"build", "push", "take"}
_REPLACED_WITH_A_DEPLOY = {*_DEPLOY_EFFECTS, "login", "check", "redirect", "names"}
_FILE_NAME = re.compile(r"[\w./-]+")

MAX_COMMANDS_OF_A_STEP = 3  # that are listed one by one


@dataclass
class JobOutcome:
    """What becomes of a job: the places in the spec that replace it, and what no place there does."""

    job: str
    where: str
    replaced_by: list[str] = field(default_factory=list)
    not_replaced: list[str] = field(default_factory=list)
    is_kept: bool = False  # it neither builds, tests nor deploys, or the spec calls its workflow
    kept_because: str = ""  # what it does, where a person may wonder
    needs: list[str] = field(default_factory=list)  # jobs that it waits for and that are replaced
    needs_deploy: bool = False  # whether one of them deploys
    gates: list[str] = field(default_factory=list)  # jobs that wait for it and that are replaced
    pushed_tags: set[str] = field(default_factory=set)  # of the images that it pushes

    @property
    def is_replaced(self) -> bool:
        """Whether nothing is lost without the job."""
        return bool(self.replaced_by) and not self.not_replaced

    @property
    def deploys(self) -> bool:
        """Whether it deploys an environment of the spec."""
        return any(place.startswith("environments.") for place in self.replaced_by)

    @property
    def deploys_in_part(self) -> bool:
        """Whether it deploys what the spec deploys, and does more."""
        return self.deploys and bool(self.not_replaced)

    def list_lost_gates(self) -> list[str]:
        """In words, what waits for the job today and does so no more."""
        is_part_of_build_or_deploy = any(not place.endswith(".test") for place in self.replaced_by)
        if not self.gates or self.is_replaced or is_part_of_build_or_deploy:
            return []
        waiting = f"{', '.join(self.gates)}, which is replaced, waits for it today"
        if self.needs:
            return [
                f"{waiting}. A check of the image before the deploy can be `build.scan` of the service; a check of the "
                "running service can be in `steps.after_deploy`"
            ]
        return [waiting]

    def list_parts(self) -> list[str]:
        """What becomes of the job, in words."""
        parts = []
        if self.replaced_by:
            parts.append(f"replaced by {', '.join(self.replaced_by)}")
        if self.is_kept:
            parts.append(f"kept: it {self.kept_because}" if self.kept_because else "kept")
        elif self.not_replaced:
            parts += [f"not replaced: {self.not_replaced[0]}", *self.not_replaced[1:]]
        parts += self.list_lost_gates()
        if self.needs and not self.is_replaced:
            parts.append(f"its `needs` must no longer name {', '.join(self.needs)}")
        if self.needs_deploy and not self.gates and not self.is_replaced:
            parts.append(
                "without `needs` it does not wait for the deploy: write its steps under `steps.after_deploy`, or start "
                "it `on: workflow_run`"
            )
        return parts


@dataclass
class WorkflowOutcome:
    """What becomes of a workflow: it may be removed when all its jobs are replaced and no other one needs it."""

    path: str
    jobs: list[JobOutcome]
    called_by: list[str]  # other workflows that call it, or that run after it
    is_removable: bool = False
    gate: Gate | None = None  # the jobs that a build waits for, of which not all are replaced
    gated_services: list[str] = field(default_factory=list)

    @property
    def replaced_jobs(self) -> list[str]:
        """The jobs that would go on beside those of the generated pipeline."""
        return [outcome.job for outcome in self.jobs if outcome.is_replaced]

    def describe_gate(self) -> str:
        """What to do with the jobs that builds wait for, in words; empty where there is nothing to do."""
        if not self.gate:
            return ""
        rest = [job for job in self.jobs if job.job not in self.gate.jobs]
        file_name = self.path.rpartition("/")[2]
        end = f"; then remove {file_name}, of which nothing is left" if all(job.is_replaced for job in rest) else ""
        return (
            f"builds wait for {', '.join(self.gate.jobs)} today; to keep that, {self.gate.describe_move()}, and write "
            f"`{self.gate.field_line}`: {self.gate.describe_effect(self.gated_services)}{end}"
        )

    @property
    def is_kept(self) -> bool:
        """Whether none of its jobs builds, tests or deploys."""
        return all(outcome.is_kept for outcome in self.jobs)


def decide_workflow_outcomes(
    workflows: DetectedWorkflows,
    services: Sequence[DetectedService],
    specs: Iterable[EffectiveSpec],
    slug: str,
    files: ScriptFiles,
) -> list[WorkflowOutcome]:
    """What becomes of every workflow of a person; `specs` are all that the repository has, `files` has its scripts."""
    context = ReferenceContext(workflows.documents, slug)
    coverage = _SpecCoverage(list(specs), services)
    finder = ScriptFinder(files)
    outcomes: dict[str, WorkflowOutcome] = {}
    for path in workflows.files:
        parsed = parse_workflow(workflows.documents[path], context)
        jobs = _decide_jobs(parsed, workflows, coverage, finder)
        outcomes[path] = WorkflowOutcome(path, jobs, _find_callers(path, workflows))
    for path, outcome in outcomes.items():
        _decide_calls(workflows.documents[path], outcome, outcomes)
        for job_outcome in outcome.jobs:
            needs = _get_job(workflows.documents[path], job_outcome.job).get("needs")
            job_outcome.needs = [str(name) for name in as_list(needs) if name in outcome.replaced_jobs]
            job_outcome.needs_deploy = any(
                other.deploys and other.job in as_list(needs) for other in outcome.jobs if other.is_replaced
            )
            job_outcome.gates = [
                other.job
                for other in outcome.jobs
                if other.replaced_by
                and "outputs" not in _get_job(workflows.documents[path], job_outcome.job)
                and job_outcome.job in as_list(_get_job(workflows.documents[path], other.job).get("needs"))
            ]
        outcome.gate = _find_lost_gate(path, outcome, workflows)
        outcome.gated_services = [service.name for service in services]
    _note_tags_that_others_use(outcomes, workflows)
    _mark_removable(outcomes)
    return list(outcomes.values())


def _find_lost_gate(path: str, outcome: WorkflowOutcome, workflows: DetectedWorkflows) -> Gate | None:
    """The jobs for which a build or deploy of a workflow waits, unless the tests of the spec are all of them."""
    gate = find_gate(path, workflows)
    if not gate or not outcome.jobs or all(job.is_replaced for job in outcome.jobs if job.job in gate.jobs):
        return None
    return gate if any(job.replaced_by for job in outcome.jobs if job.job not in gate.jobs) else None


def _note_tags_that_others_use(outcomes: dict[str, WorkflowOutcome], workflows: DetectedWorkflows) -> None:
    """Note the tags of images that a workflow which stays names, as a deploy to another place does."""
    texts_by_path = {
        path: "\n".join(text for text, _ in collect_strings(workflows.documents[path].data))
        for path, outcome in outcomes.items()
        if outcome.is_kept
    }
    for job_outcome in (job for outcome in outcomes.values() for job in outcome.jobs if job.replaced_by):
        for tag in sorted(job_outcome.pushed_tags - {"latest"}):
            name = re.compile(rf"(?<![\w.-]){re.escape(tag)}(?![\w.-])")
            users = [path for path, text in texts_by_path.items() if name.search(text)]
            if users:
                job_outcome.not_replaced.append(f"the tag {tag} of its images, which {', '.join(users)} names")


class _SpecCoverage:
    """What the specs of the repository build, test and deploy, as places in them."""

    def __init__(self, specs: list[EffectiveSpec], services: Sequence[DetectedService]) -> None:
        self.specs = specs
        self.services = services

    def find_builds(self, build: BuildStep) -> list[str]:
        """The services whose images are built from a Dockerfile."""
        return [
            f"services.{name}"
            for spec in self.specs
            for name in spec.built_services
            if spec.image(name).dockerfile_path == build.dockerfile
        ]

    def list_steps_before(self, build: BuildStep) -> set[str | None]:
        """The commands and actions that run before the image of a Dockerfile is built."""
        steps = [
            step
            for spec in self.specs
            for name in spec.built_services
            if spec.image(name).dockerfile_path == build.dockerfile
            for step in spec.services[name].steps.before_build
        ]
        return {step.run for step in steps} | {step.uses for step in steps}

    def find_tests(self, steps: TestSteps) -> list[str]:
        """The services that have the tests of a job."""
        places = []
        for service in self.services:
            test = service.test
            if not test or (test.folder, test.lines, test.setups) != (steps.folder, steps.lines, steps.setups):
                continue
            for spec in self.specs:
                for name in spec.built_services:
                    is_same_service = spec.image(name).dockerfile_path == service.image.dockerfile
                    if is_same_service and spec.services[name].test:
                        places.append(f"services.{name}.test")
        return places

    def calls(self, path: str) -> bool:
        """Whether a service's tests are in a workflow, which the generated ones call."""
        names = {f".github/workflows/{name}" for spec in self.specs for name in _list_called_workflows(spec)}
        return path in names

    def find_environments(self, deploy: DeployJob) -> list[str]:
        """The environments that a job deploys."""
        name = name_environment(deploy)
        return [f"environments.{name}" for spec in self.specs if name in spec.environments]

    def find_promotions(self) -> list[str]:
        """The environments that take the images of another one."""
        return [
            f"environments.{name}.promote"
            for spec in self.specs
            for name, environment in spec.written.environments.items()
            if environment.promote
        ]

    def find_migrations(self) -> list[str]:
        """The places that say how migrations run."""
        places = []
        for spec in self.specs:
            places += [f"services.{name}.migrate" for name, service in spec.services.items() if service.migrate]
            places += [
                f"databases.{name}.migrations" for name, server in spec.written.databases.items() if server.migrations
            ]
        return places


def _list_called_workflows(spec: EffectiveSpec) -> Iterator[str]:
    for service in spec.services.values():
        for test in (service.test, *service.tests.values()):
            if test and test.workflow:
                yield test.workflow


def _decide_jobs(
    workflow: ParsedWorkflow, workflows: DetectedWorkflows, coverage: _SpecCoverage, finder: ScriptFinder
) -> list[JobOutcome]:
    if coverage.calls(workflow.path):
        return [JobOutcome(job.id, job.where, is_kept=True) for job in workflow.jobs]
    effects_by_job: dict[str, dict[StepEffect, None]] = {job.id: {} for job in workflow.jobs}
    for job, effect in find_workflow_effects(workflow, finder):
        effects_by_job[job.id][effect] = None
    effects = {job_id: list(effects_of_job) for job_id, effects_of_job in effects_by_job.items()}
    outcomes = []
    for job in workflow.jobs:
        builds = [step for step in workflows.builds if (step.workflow, step.job) == (workflow.path, job.id)]
        tests = [steps for steps in workflows.tests if (steps.workflow, steps.job) == (workflow.path, job.id)]
        other_deploy = workflows.other_deploys.get((workflow.path, job.id))
        if other_deploy:
            outcomes.append(JobOutcome(job.id, job.where, is_kept=True, kept_because=other_deploy))
            continue
        deploys = [deploy for deploy in workflows.deploys if (deploy.workflow, deploy.job) == (workflow.path, job.id)]
        outcome = _decide_job(job, builds, tests, deploys, effects[job.id], coverage)
        outcome.pushed_tags = {parse_image_tag(effect.what) for effect in effects[job.id] if effect.kind == "push"}
        outcomes.append(outcome)
    return outcomes


def _decide_job(
    job: ParsedJob,
    builds: list[BuildStep],
    tests: list[TestSteps],
    deploys: list[DeployJob],
    effects: list[StepEffect],
    coverage: _SpecCoverage,
) -> JobOutcome:
    outcome = JobOutcome(job.id, job.where)
    kinds = {effect.kind for effect in effects}
    bakes = any(effect.what == BAKE for effect in effects)
    if not (builds or tests or deploys or bakes or kinds & (_DEPLOY_EFFECTS | _IMAGE_EFFECTS)):
        outcome.is_kept = True
        return outcome
    told_places: set[str] = {step.where for build in builds for step in build.preparations}
    for build in builds:
        reason = f"the build of {build.dockerfile}, of which no service is made"
        _record(outcome, coverage.find_builds(build), reason)
        kept_steps = coverage.list_steps_before(build)
        outcome.not_replaced += [
            f"{step.text} before the build ({step.where})"
            + (f", because {step.obstacle}" if step.obstacle else ", which `steps.before_build` can do")
            for step in build.preparations
            if step.obstacle or step.fields.get("run", step.fields.get("uses")) not in kept_steps
        ]
    for steps in tests:
        places = coverage.find_tests(steps)
        _record(outcome, places, f"the tests ({steps.where})")
        if places:
            outcome.not_replaced += [f"{part.value} ({part.where})" for part in steps.dropped]
            told_places |= {part.where for part in steps.dropped}
    for deploy in deploys:
        _record(outcome, coverage.find_environments(deploy), f"the deploy of {name_environment(deploy) or deploy.job}")
        if deploy.is_other_server:
            outcome.not_replaced.append("the deploy of a second server")
        outcome.not_replaced += [
            f"what writes into {line.path}, which init cannot read ({line.where})" for line in deploy.unread_env_lines
        ]
    test_steps = {place for steps in tests for place in steps.steps}
    titles = {step.where: step.title for step in job.steps}
    other_effects = [effect for effect in effects if effect.where not in test_steps | told_places]
    for effect in _shorten_long_steps(other_effects, titles):
        _decide_effect(outcome, effect, builds, deploys, coverage)
    for trigger in job.when:
        if trigger.startswith("on the schedule"):
            outcome.not_replaced.append(f"the run {trigger}")
    outcome.replaced_by = list(dict.fromkeys(outcome.replaced_by))
    outcome.not_replaced = list(dict.fromkeys(outcome.not_replaced))
    return outcome


def _shorten_long_steps(effects: list[StepEffect], titles: dict[str, str]) -> list[StepEffect]:
    """The effects of a job; many commands of one step or script are one effect, with its title or path."""

    def get_place(effect: StepEffect) -> str:
        """The step that an effect is of, or the script."""
        return effect.where if effect.where in titles else effect.where.rpartition(":")[0]

    counts = Counter(get_place(effect) for effect in effects if effect.kind == "other")
    shortened: dict[StepEffect, None] = {}
    for effect in effects:
        place = get_place(effect)
        title = titles.get(place, place)
        if effect.kind == "other" and counts[place] > MAX_COMMANDS_OF_A_STEP and title:
            effect = StepEffect("other", place, place, as_inline_code(title))
        shortened[effect] = None
    return list(shortened)


def _record(outcome: JobOutcome, places: list[str], reason: str) -> None:
    """Record the places that replace a part of a job, or the part that none replaces."""
    if places:
        outcome.replaced_by += places
    else:
        outcome.not_replaced.append(reason)


def _decide_effect(
    outcome: JobOutcome,
    effect: StepEffect,
    builds: list[BuildStep],
    deploys: list[DeployJob],
    coverage: _SpecCoverage,
) -> None:
    """Decide about one thing that a step does."""
    if effect.kind in _IMAGE_EFFECTS:
        if not builds:
            _record(outcome, coverage.find_promotions(), f"the image {effect.what} ({effect.where})")
    elif effect.kind in _REPLACED_WITH_A_DEPLOY:
        if not deploys and effect.kind != "login":
            outcome.not_replaced.append(f"{effect.note or effect.what} ({effect.where})")
    elif effect.kind == "migrate":
        _record(outcome, coverage.find_migrations(), f"{effect.note} ({effect.where})")
    elif not (deploys and (_copies_compose_file(effect) or _copies_rendered_env(effect, deploys))):
        outcome.not_replaced.append(f"{effect.note or effect.what} ({effect.where})")


def _copies_compose_file(effect: StepEffect) -> bool:
    """Whether a step only copies a compose file to a server: the generated pipeline has stack files of its own."""
    if "copied to the server" not in effect.note:
        return False
    return any(re.fullmatch(compose_file.COMPOSE_FILE_PATH, name) for name in _FILE_NAME.findall(effect.note))


def _copies_rendered_env(effect: StepEffect, deploys: list[DeployJob]) -> bool:
    """Whether a step copies an env file that the job writes, whose variables the spec or its comments have."""
    if not any(deploy.rendered_env or deploy.whole_env_files for deploy in deploys):
        return False
    return "copied to the server" in effect.note and re.search(r"\.env\b", effect.note) is not None


def _get_job(document: YamlDocument, name: str) -> YamlMapping:
    return document.data.get_mapping("jobs").get_mapping(name)


def _decide_calls(document: YamlDocument, outcome: WorkflowOutcome, outcomes: dict[str, WorkflowOutcome]) -> None:
    """A job that calls a workflow of the same repository is replaced when all jobs of that workflow are."""
    for job_outcome in outcome.jobs:
        uses = _get_job(document, job_outcome.job).get_text("uses")
        called = outcomes.get(uses.removeprefix("./"))
        if not called or called is outcome:
            continue
        job_outcome.is_kept = called.is_kept
        places = [place for job in called.jobs for place in job.replaced_by]
        job_outcome.replaced_by = list(dict.fromkeys(places))
        missing = [job.job for job in called.jobs if not job.is_replaced]
        job_outcome.not_replaced = [f"the jobs {', '.join(missing)} of {called.path}"] if missing else []


def _find_callers(path: str, workflows: DetectedWorkflows) -> list[str]:
    """The other workflows that call a workflow, or that run after it."""
    workflow = workflows.documents[path].data
    callers = []
    for other_path in workflows.files:
        other = workflows.documents[other_path].data
        needs_workflow = calls_workflow(other, path) or runs_after_workflow(other, path, workflow)
        if other_path != path and needs_workflow:
            callers.append(other_path)
    return callers


def _mark_removable(outcomes: dict[str, WorkflowOutcome]) -> None:
    """Mark the workflows all of whose jobs are replaced, unless one that stays calls them."""
    removable = {
        path for path, outcome in outcomes.items() if outcome.jobs and all(job.is_replaced for job in outcome.jobs)
    }
    while True:
        still_called = {path for path in removable if not removable.issuperset(outcomes[path].called_by)}
        if not still_called:
            break
        removable -= still_called
    for path in removable:
        outcomes[path].is_removable = True
