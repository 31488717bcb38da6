"""Checks that each image gets what its Dockerfile copies: a pipeline's build sees only what the path filter matches."""

import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from kiwari_ci.effective_spec import EffectiveImage, EffectiveSpec
from kiwari_ci.github_facts import path_filters
from kiwari_ci.problems import Problem, RuleName, Severity, escape_control_characters, join_with_limit
from kiwari_ci.readers.build_context import BuildContext
from kiwari_ci.readers.dockerfile import CopySource, Dockerfile
from kiwari_ci.readers.dockerfile import parse_dockerfile as read_dockerfile
from kiwari_ci.readers.tracked_files import SUBMODULE_MODE, Checkout, select_by_prefix
from kiwari_ci.schema import Build, Step
from kiwari_ci.spec_loading.suggestions import suggest_closest
from kiwari_ci.spec_loading.validation import format_yaml_path, report_at_key, report_at_span, report_at_value
from kiwari_ci.spec_loading.yaml_source import SourceSpan, YamlPath, YamlSource
from kiwari_ci.spec_rules.advice import PUBLIC_ARGUMENT

Problems = Iterator[Problem]

MAX_LISTED_NAMES = 3  # names in a message
_DOCKER_FRONTEND = re.compile(r"(?:docker\.io/)?docker/dockerfile(?:-upstream)?(?::.*)?")
_PREDEFINED_ARGUMENT = re.compile(r"(?i:https?_proxy|ftp_proxy|no_proxy|all_proxy)|BUILDKIT_\w+|SOURCE_DATE_EPOCH")
_LITERAL_PREFIX = re.compile(r"[^*?+\[\]\\]*")
# At the root of a repository, and in no image by themselves.
_NON_IMAGE_FILE = re.compile(
    r"\.[^/]+(?:/.*)?|(?:deploy|docs|specs)/.*|[^/]*\.md|(?:LICEN[CS]E|NOTICE|Makefile|CODEOWNERS|COPYRIGHT)[^/]*"
    r"|(?:docker-)?compose[^/]*\.ya?ml"
)
_MANIFEST_FILE = re.compile(
    r"package\.json|[^/]*[-.]lock[^/]*|go\.\w+|[^/]*(?:workspace|project|tsconfig|turbo|nx|Cargo)[^/]*"
)


@dataclass
class LintContext:
    """A spec and its repository, which is named `folder` in messages; what is found out about both is kept."""

    source: YamlSource
    spec: EffectiveSpec
    checkout: Checkout
    folder: str
    contexts: dict[tuple[str, str], BuildContext] = field(default_factory=dict)
    matched: dict[str, list[str]] = field(default_factory=dict)
    covered: dict[str, tuple[frozenset[str], frozenset[str]]] = field(default_factory=dict)

    def find_matching_files(self, pattern: str) -> list[str]:
        """The files that one pattern of a filter matches, whether or not it begins with `!`."""
        body = pattern.removeprefix("!")
        if body not in self.matched:
            self.matched[body] = self._match_files(body)
        return self.matched[body]

    def _match_files(self, body: str) -> list[str]:
        literal_prefix = _LITERAL_PREFIX.match(body)
        candidates = select_by_prefix(self.checkout.names, literal_prefix[0] if literal_prefix else "")
        is_whole_folder = body.endswith("/**") and _LITERAL_PREFIX.fullmatch(body[:-3])
        if is_whole_folder:
            return candidates
        return [name for name in candidates if path_filters.is_included([body], name)]

    def find_covered_files(self, service: str) -> tuple[frozenset[str], frozenset[str]]:
        """The files that a service's filter matches, and those that its `!` lines leave out of these."""
        if service not in self.covered:
            covered_files, excluded_files = set[str](), set[str]()
            for pattern in self.spec.images_of(service)[0].path_filters:
                names = self.find_matching_files(pattern)
                if pattern.startswith("!"):
                    excluded_files |= covered_files & set(names)
                    covered_files -= excluded_files
                else:
                    covered_files |= set(names)
                    excluded_files -= set(names)
            self.covered[service] = frozenset(covered_files), frozenset(excluded_files)
        return self.covered[service]

    @cached_property
    def service_counts(self) -> Counter[str]:
        """How many services cover each file."""
        return Counter(name for service in self.spec.built_services for name in self.find_covered_files(service)[0])

    def read_paths(self, name: str) -> list[str]:
        """The files of the repository that are read for one: itself, or symbolic links and what they lead to."""
        path, links = self.find_context(".", "").follow_links(name)
        return [*links, path]

    def find_context(self, folder: str, ignore_file: str) -> BuildContext:
        """A build context; services share what is known of it."""
        key = folder, ignore_file
        if key not in self.contexts:
            text = self.checkout.text(ignore_file) if ignore_file else None
            self.contexts[key] = BuildContext(self.checkout, folder, text or "")
        return self.contexts[key]

    def format_path(self, name: str) -> str:
        """The path of a file from where the command runs, with control characters escaped."""
        return escape_control_characters(posixpath.normpath(posixpath.join(self.folder, name)))


def check_service_images(lint_context: LintContext, service: str) -> Problems:
    """Check what a service's images are made of; their Dockerfile must exist."""
    images = lint_context.spec.images_of(service)
    yield from dict.fromkeys(problem for image in images for problem in _check_image(lint_context, image))


def _check_image(lint_context: LintContext, built: EffectiveImage) -> Problems:
    image = _ImageBuild(lint_context, built)
    if (text := lint_context.checkout.text(image.name)) is None:
        message = (
            f"{image.name} cannot be read: it is no file on disk, has more than a million bytes, or leads elsewhere"
        )
        yield report_at_key(
            lint_context.source, image.loc, "dockerfile", message, f"look at it with: ls -l {image.name}"
        )
        return
    dockerfile = read_dockerfile(text, image.arguments, image.build.target or "")
    if dockerfile.syntax and not _DOCKER_FRONTEND.fullmatch(dockerfile.syntax.split("@")[0]):
        return  # another language
    report = _DockerfileReport(
        image, YamlSource(lint_context.format_path(image.name), text.replace("\r\n", "\n"), None, {}, {})
    )
    for line, message in dockerfile.faults:
        yield report.report_at_line(line, "dockerfile", f"every build fails here: {message}")
    if dockerfile.target is None and dockerfile.stages:
        loc: YamlPath = ("services", image.service, "build", "target")
        message = f"{format_yaml_path(loc)}: {image.name} has no stage `{image.build.target}`"
        yield report_at_value(
            lint_context.source, loc, "dockerfile", message, suggest_closest(str(image.build.target), dockerfile.names)
        )
    if image.context.unread_lines:
        message = f"{image.context.unread_lines} lines of {image.ignore_file} have too many stars: they are not read"
        hint = "write a folder, or the end of a file's name: build, *.log"
        yield report.report_at_line(1, "dockerfile", message, hint, "advice")
    yield from report.check_unused_arguments(dockerfile)
    yield from report.check_public_arguments(dockerfile)
    yield from report.check_sources(dockerfile)
    yield from report.check_ports(dockerfile)


@dataclass
class _ImageBuild:
    """The build of one image, as the spec has it."""

    lint_context: LintContext
    built: EffectiveImage

    @property
    def service(self) -> str:
        return self.built.service

    @cached_property
    def build(self) -> Build:
        return self.built.build

    @property
    def arguments(self) -> dict[str, str | None]:
        """The build arguments; the values of GitHub's variables and of base images are not known here."""
        return {key: arg.value for key, arg in self.build.args.items()} | dict.fromkeys(self.build.base)

    @cached_property
    def steps_before_build(self) -> list[Step]:
        """The steps that run in the job before the build, and may write what the image takes."""
        return list(dict(self.lint_context.spec.services[self.service].steps).get("before_build") or ())

    @cached_property
    def name(self) -> str:
        return self.built.dockerfile_path

    @property
    def loc(self) -> YamlPath:
        return "services", self.service, "build", "dockerfile"

    def locate_argument(self, argument: str) -> YamlPath:
        """Where the spec gives a build argument; the environment's own comes first."""
        override_loc: YamlPath = (
            "environments",
            self.built.environment,
            "overrides",
            self.service,
            "build",
            "args",
            argument,
        )
        field = "args" if argument in self.build.args else "base"
        return (
            override_loc
            if override_loc in self.lint_context.source.keys
            else ("services", self.service, "build", field, argument)
        )

    @property
    def folder(self) -> str:
        return self.build.context

    @cached_property
    def ignore_file(self) -> str:
        """The .dockerignore file: the Dockerfile's own, or else the context's; empty where there is none."""
        names = f"{self.name}.dockerignore", posixpath.normpath(f"{self.folder}/.dockerignore")
        return next((name for name in names if name in self.lint_context.checkout.files), "")

    @cached_property
    def context(self) -> BuildContext:
        return self.lint_context.find_context(self.folder, self.ignore_file)


def _iter_public_arguments(dockerfile: Dockerfile) -> Iterator[tuple[int, str, str]]:
    """Each ARG of a built stage whose value a framework puts into a browser's code: its line, key and default."""
    for stage in dockerfile.built:
        for instruction in stage.instructions:
            for word in instruction.rest.split() if instruction.name == "ARG" else ():
                key, _, default = word.partition("=")
                if PUBLIC_ARGUMENT.match(key):
                    yield instruction.line, key, default.strip("\"'")


def _names_path(step: Step, path: str) -> bool:
    """Whether a step's script has a path of the repository, as it is seen from the step's folder."""
    path_from_step = posixpath.relpath(path, step.working_directory or ".")
    word = re.compile(rf"(?<![\w./-])(?:\./)?{re.escape(path_from_step)}(?![\w/-])")
    return word.search(step.run or "") is not None


@dataclass
class _DockerfileReport:
    """Reports problems at the lines of a Dockerfile."""

    image: _ImageBuild
    source: YamlSource

    def report_at_line(
        self, line: int, rule: RuleName, message: str, hint: str = "", severity: Severity = "error"
    ) -> Problem:
        return self.report_at_word(line, line, "", rule, message, hint, severity=severity)

    def report_at_word(
        self,
        first_line: int,
        last_line: int,
        word: str,
        rule: RuleName,
        message: str,
        hint: str = "",
        severity: Severity = "error",
    ) -> Problem:
        """A problem at a word on these lines, or at the first line when the word is not found."""
        span = self._find_word(first_line, last_line, word) if word else None
        return report_at_span(self.source, span or self._line_span(first_line), rule, message, hint, severity=severity)

    def _find_word(self, first_line: int, last_line: int, word: str) -> SourceSpan | None:
        pattern = re.compile(rf"(?<![^\s\"'=,]){re.escape(word)}(?![^\s\"',])")
        lines = self.source.lines
        for line_number in range(first_line, min(last_line, len(lines)) + 1):
            match = pattern.search(lines[line_number - 1])
            if match:
                return SourceSpan(line_number, match.start() + 1, len(word))
        return None

    def _line_span(self, line_number: int) -> SourceSpan:
        text = self.source.lines[line_number - 1]
        indentation = len(text) - len(text.lstrip())
        return SourceSpan(line_number, indentation + 1, max(len(text.strip()), 1))

    def report_at_copy(
        self, copy: CopySource, rule: RuleName, message: str, hint: str = "", severity: Severity = "error"
    ) -> Problem:
        return self.report_at_word(copy.line, copy.last, copy.written, rule, message, hint, severity=severity)

    def check_unused_arguments(self, dockerfile: Dockerfile) -> Problems:
        """Report build arguments without an ARG: they change nothing, and Docker only warns."""
        image = self.image
        for key in image.arguments:
            if key in dockerfile.arguments or _PREDEFINED_ARGUMENT.fullmatch(key):
                continue
            loc = image.locate_argument(key)
            message = f"{format_yaml_path(loc)}: {image.name} has no `ARG {key}`"
            hint = f"ARG {key}, or leave it out"
            base = (image.build.base or {}).get(key)
            if base:
                message += f", so it is not built from the image of {base}"
                hint = f"write `ARG {key}` first, and `FROM ${key} AS {base}`, from which `COPY --from={base}` copies"
            elif dockerfile.arguments:
                hint = suggest_closest(key, sorted(dockerfile.arguments))
            severity: Severity = "error" if base else "advice"
            yield report_at_key(image.lint_context.source, loc, "build-argument", message, hint, severity=severity)

    def check_public_arguments(self, dockerfile: Dockerfile) -> Problems:
        """Report what a Dockerfile itself builds into the code of a browser: nothing, or one address for all."""
        image = self.image
        runners = image.lint_context.spec.environments.values()
        environments = [environment.name for environment in runners if image.service in environment.services]
        for line, key, default in _iter_public_arguments(dockerfile):
            if key in image.arguments:
                continue
            where = f"services.{image.service}.build: {{args: {{{key}: …}}}}"
            if not default:
                message = f"`{key}` is empty in the image: it has no default, and `build.args` does not name it"
                yield self.report_at_word(line, line, key, "build-argument", message, where, severity="advice")
            elif "://" in default and len(environments) > 1:
                message = f"`{default}` is built into the image, and the same in {' and '.join(environments)}"
                value = f"{{{image.service}: {{build: {{args: {{{key}: …}}}}}}}}"
                hint = f"environments.{environments[-1]}.overrides: {value}"
                yield self.report_at_line(line, "baked-address", message, hint, severity="advice")

    def check_sources(self, dockerfile: Dockerfile) -> Problems:
        lint_context, ignore_file = self.image.lint_context, self.image.ignore_file
        covered_files = lint_context.find_covered_files(self.image.service)[0]
        for file in filter(None, [self.image.name, ignore_file]):
            for path in lint_context.read_paths(file):
                if path in covered_files:
                    continue
                reason = "which shapes the image" if path == file else f"to which `{file}` leads"
                yield self.report_uncovered_file(
                    f"no path of services.{self.image.service} matches `{path}`, {reason}", path
                )
        copies = [copy for stage in dockerfile.built for copy in stage.sources]
        for copy in copies:
            if copy.undefaulted:
                name = copy.undefaulted[0]
                message = f"`{name}` is empty here: it has no default, and `build.args` does not name it"
                hint = f"services.{self.image.service}.build: {{args: {{{name}: …}}}}, or ARG {name}=… here"
                yield self.report_at_copy(copy, "build-argument", message, hint)
            elif not copy.unknown:
                is_only_source = [other_copy.line for other_copy in copies].count(copy.line) == 1
                yield from self.check_copy(copy, is_only_source)

    def check_copy(self, copy: CopySource, is_only_source: bool) -> Problems:
        checkout = self.image.lint_context.checkout
        copied = self.image.context.find(copy)
        covered_files, excluded_files = self.image.lint_context.find_covered_files(self.image.service)
        uncovered_files = [name for name in copied.files if name not in covered_files and name not in excluded_files]
        submodules = [name for name in copied.files if checkout.files[name] == SUBMODULE_MODE]
        if submodules:
            message = f"{copy.by} takes the submodule `{submodules[0]}`, and the pipeline's checkout fetches none"
            yield self.report_at_copy(
                copy, "submodule", message, "keep its files in this repository, or ADD its address"
            )
            return
        large_files = [name for name in copied.files if checkout.is_large(name)]
        if large_files:
            message = f"{copy.by} takes what Git LFS keeps, and the pipeline's checkout has its pointers: "
            message += format_first_names(large_files)
            hint = "keep these files in git itself, or fetch them within the build"
            yield self.report_at_copy(copy, "large-files", message, hint)
        elif not copied.files:
            yield from self.report_empty_copy(copy, copied.ignored, is_only_source)
        elif not copy.path and self.image.folder == ".":
            yield from self.check_copy_of_everything(copy, copied.files, uncovered_files)
        elif uncovered_files:
            yield from self.report_missing_files(copy, copied.files, uncovered_files)
        elif not covered_files.intersection(copied.files):
            message = f"{copy.by} takes `{copy.written}`, "
            message += f"and the `!` lines of services.{self.image.service}.paths leave out all of it"
            yield self.report_at_copy(copy, "excluded", message, "narrow the `!` lines, or drop this line")

    def report_empty_copy(self, copy: CopySource, ignored: list[str], is_only_source: bool) -> Problems:
        """Report a copy that takes nothing; a pattern such as `yarn.lock*` may, for the file is optional."""
        if copy.is_pattern and not is_only_source:
            return
        severity: Severity = "advice" if copy.is_pattern else "error"
        subject = f"{copy.by} takes `{escape_control_characters(copy.written)}`"
        if self.takes_git_history(copy):
            message = f"{subject}, and the build has no Git history: its job removes `.git` first"
            hint = (
                f"take the commit from a file that a step of services.{self.image.service}.steps.before_build writes: "
                "printf '%s' \"$GITHUB_SHA\" >FILE"
            )
            yield self.report_at_copy(copy, "no-source", message, hint, severity=severity)
        elif ignored or self.leaves_out_written_file(copy):
            message = f"{subject}, and {self.image.ignore_file} leaves out all of it"
            hint = f"at the end of {self.image.ignore_file}: !{copy.path}"
            yield self.report_at_copy(copy, "ignored", message, hint, severity=severity)
        elif copy.path and self.image.steps_before_build:
            yield from self.check_written_file(copy)
        elif copy.path:
            context = "the repository" if self.image.folder == "." else f"the context `{self.image.folder}`"
            message = f"{subject}, and {context} has no such file"
            yield self.report_at_copy(
                copy, "no-source", message, self.suggest_existing_path(copy.path), severity=severity
            )

    def takes_git_history(self, copy: CopySource) -> bool:
        """Whether a path is in the folder `.git`, and no step before the build makes another one."""
        path = posixpath.normpath(copy.path.lstrip("/"))
        names_it = any(_names_path(step, ".git") for step in self.image.steps_before_build)
        return path.partition("/")[0] == ".git" and not names_it

    def leaves_out_written_file(self, copy: CopySource) -> bool:
        """Whether .dockerignore leaves out a path that a step before the build may write."""
        if not copy.path or not self.image.steps_before_build:
            return False
        context = self.image.lint_context.find_context(self.image.folder, self.image.ignore_file)
        return context.is_ignored(posixpath.normpath(copy.path))

    def check_written_file(self, copy: CopySource) -> Problems:
        """Report a copy of what no step before the build names, such as a jar: one of them may still write it."""
        path = posixpath.normpath(posixpath.join(self.image.folder, copy.path))
        if not any(_names_path(step, path) for step in self.image.steps_before_build):
            message = f"{copy.by} takes `{escape_control_characters(copy.written)}`, which the repository lacks: "
            message += f"a step of services.{self.image.service}.steps.before_build must write it"
            hint = self.suggest_existing_path(copy.path)
            yield self.report_at_copy(copy, "no-source", message, hint, severity="advice")

    def suggest_existing_path(self, path: str) -> str:
        """Suggest a cure for a path that no tracked file has, by what exists."""
        image, checkout = self.image, self.image.lint_context.checkout
        path_in_context = posixpath.normpath(posixpath.join(image.folder, path))
        path_beside_dockerfile = posixpath.normpath(posixpath.join(posixpath.dirname(image.name), path))
        if (checkout.root / path_in_context).exists() and not checkout.no_git:
            return f"`{path_in_context}` is on disk, and git does not track it: commit it, or make it within the build"
        for candidate in (path_beside_dockerfile, path):
            exists = candidate in checkout.files or candidate in checkout.folders
            if exists and candidate != path_in_context:
                return f"paths start at the context `{image.folder}`{self._suggest_context(candidate)}"
        file_name = path.rpartition("/")[2]
        for name in checkout.under(image.folder):
            if name.rpartition("/")[2] == file_name:
                return f"there is `{escape_control_characters(name)}`"
        return "git tracks no file or folder of that name"

    def _suggest_context(self, path: str) -> str:
        """How a Dockerfile can copy a path of the repository."""
        folder = self.image.folder
        if folder == "." or path.startswith(f"{folder}/"):
            return f": COPY {path.removeprefix(f'{folder}/')}"
        return f"; for one that holds `{path}`, build: {{context: .}}"

    def report_missing_files(self, copy: CopySource, files: list[str], uncovered_files: list[str]) -> Problems:
        """Report files that the image is made of, and that the path filter does not match."""
        pronoun = "them" if len(uncovered_files) > 1 else "it"
        message = f"no path of services.{self.image.service} matches what {copy.by} takes here, "
        message += f"and the build lacks {pronoun}: "
        if len(files) > 1:
            message += f"{len(uncovered_files)} of {len(files)} files: "
        message += format_first_names(uncovered_files)
        path = posixpath.normpath(posixpath.join(self.image.folder, copy.path))
        yield self.report_at_copy(
            copy, "uncovered", message, self.suggest_filter_line(_suggest_filter_pattern(path, uncovered_files))
        )

    def check_copy_of_everything(self, copy: CopySource, files: list[str], uncovered_files: list[str]) -> Problems:
        """Report what a copy of the whole repository lacks; files that one other service alone covers do not count."""
        lint_context, service = self.image.lint_context, self.image.service
        relevant_files = [
            name
            for name in uncovered_files
            if lint_context.service_counts[name] != 1 and not _NON_IMAGE_FILE.fullmatch(name)
        ]
        if relevant_files:
            top_entries = Counter(name.partition("/")[0] + ("/" if "/" in name else "") for name in relevant_files)
            seen_count = f"{len(files) - len(uncovered_files)} of {len(files)} files"
            message = f"{copy.by} takes the whole repository, and the build sees {seen_count}"
            omitted = format_first_names(sorted(top_entries, key=_rank_repository_path), 6)
            message += f": the paths of services.{service} leave out {omitted}"
            hint = f"add those that the image needs to services.{service}.paths, and leave out the others"
            yield self.report_at_copy(copy, "whole-repository", message, hint, severity="advice")

    def report_uncovered_file(self, message: str, name: str) -> Problem:
        return report_at_key(
            self.image.lint_context.source, self.loc, "uncovered", message, self.suggest_filter_line(name)
        )

    @property
    def loc(self) -> YamlPath:
        return "services", self.image.service, "paths"

    def suggest_filter_line(self, pattern: str) -> str:
        """Suggest the line to add to `paths`; characters that GitHub and git read differently become `*`."""
        lint_context = self.image.lint_context
        portable = re.sub(r"[?+\[\]\\]|[^\x21-\x7e]", "*", pattern)
        portable = portable if not path_filters.find_filter_errors([portable]) else portable.rpartition("/")[0] + "/**"
        span = lint_context.source.keys.get(self.loc) or lint_context.source.keys.get(self.loc[:2])
        where = f" ({lint_context.source.path}:{span.line})" if span else ""
        return f"add `{portable}` to {format_yaml_path(self.loc)}{where}"

    def _find_continued_line_that_exposes(self, port: int) -> int:
        """The line that looks as if it exposed a port, and continues an instruction; 0 if there is none.

        Docker leaves out the comments and empty lines within an instruction.
        """
        pattern = re.compile(rf"\s*EXPOSE\s(.*\s)?{port}(/tcp)?(\s|$)", re.IGNORECASE)
        is_continued = False
        for number, line in enumerate(self.source.lines, 1):
            if is_continued and pattern.match(line):
                return number
            if line.strip() and not line.lstrip().startswith("#"):
                is_continued = line.rstrip().endswith("\\")
        return 0

    def check_ports(self, dockerfile: Dockerfile) -> Problems:
        """Compare the exposed ports with the spec's; a service that gets its port from its environment may differ."""
        service = self.image.lint_context.spec.services[self.image.service]
        exposed = [ports for ports in dockerfile.exposed if ports.protocol == "tcp"]
        if service.port is None or not exposed:
            return
        if any(ports.low <= service.port <= ports.high for ports in exposed):
            return
        variables = (*service.env.values(), *service.environment.values())
        if any(variable.value == str(service.port) for variable in variables):
            return
        ranges = [str(ports.low) if ports.low == ports.high else f"{ports.low}-{ports.high}" for ports in exposed]
        message = f"the image exposes {', '.join(ranges)}, "
        message += f"and services.{self.image.service}.port is {service.port}"
        hint = f"port: {exposed[-1].low} in the spec, or EXPOSE {service.port} here: where the program listens"
        swallowed_line = self._find_continued_line_that_exposes(service.port)
        if swallowed_line:
            hint = f"line {swallowed_line} belongs to the instruction before it, whose last line ends with `\\`: end it"
        yield self.report_at_line(exposed[-1].line, "port", message, hint)


def format_first_names(names: list[str], count: int = MAX_LISTED_NAMES) -> str:
    """Format the first names for a message, and how many more there are."""
    return join_with_limit((f"`{escape_control_characters(name)}`" for name in names), count)


def _suggest_filter_pattern(path: str, uncovered_files: list[str]) -> str:
    """The pattern that includes these files, as near as possible to what the Dockerfile says."""
    path = re.sub(r"[?\[\]\\]", "*", path)
    parent = posixpath.dirname(path.partition("*")[0])
    for pattern in (path, f"{path}/**", f"{parent}/**"):
        if all(path_filters.is_included([pattern], file) for file in uncovered_files):
            return pattern
    if len(uncovered_files) == 1:
        return uncovered_files[0]
    return f"{posixpath.commonpath(uncovered_files)}/**".lstrip("/")


def _rank_repository_path(name: str) -> tuple[int, str]:
    """Manifests and lock files first, then folders."""
    if _MANIFEST_FILE.fullmatch(name):
        return 0, name
    return (1, name) if name.endswith("/") else (2, name)
