"""Checks that each image gets what its Dockerfile copies: a pipeline's build sees only what the path filter matches."""

import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from kiwari_ci.effective import EffectiveImage, EffectiveSpec
from kiwari_ci.github import path_filters
from kiwari_ci.loading.suggestions import suggest_closest
from kiwari_ci.loading.validation import format_yaml_path, report_at_key, report_at_span, report_at_value
from kiwari_ci.loading.yaml_source import SourceSpan, YamlPath, YamlSource
from kiwari_ci.problems import Problem, escape_control_characters, join_with_limit
from kiwari_ci.readers.build_context import BuildContext
from kiwari_ci.readers.dockerfile import CopySource, Dockerfile
from kiwari_ci.readers.dockerfile import parse_dockerfile as read_dockerfile
from kiwari_ci.readers.tracked_files import SUBMODULE_MODE, Checkout, select_by_prefix
from kiwari_ci.schema import Build

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

    def matching(self, pattern: str) -> list[str]:
        """The files that one pattern of a filter matches, whether or not it begins with `!`."""
        body = pattern.removeprefix("!")
        if body not in self.matched:
            self.matched[body] = self._matching(body)
        return self.matched[body]

    def _matching(self, body: str) -> list[str]:
        literal_prefix = _LITERAL_PREFIX.match(body)
        candidates = select_by_prefix(self.checkout.names, literal_prefix[0] if literal_prefix else "")
        is_whole_folder = body.endswith("/**") and _LITERAL_PREFIX.fullmatch(body[:-3])
        if is_whole_folder:
            return candidates
        return [name for name in candidates if path_filters.is_included([body], name)]

    def coverage(self, service: str) -> tuple[frozenset[str], frozenset[str]]:
        """The files that a service's filter matches, and those that its `!` lines leave out of these."""
        if service not in self.covered:
            covered_files, out = set[str](), set[str]()
            for pattern in self.spec.images_of(service)[0].path_filters:
                names = self.matching(pattern)
                if pattern.startswith("!"):
                    out |= covered_files & set(names)
                    covered_files -= out
                else:
                    covered_files |= set(names)
                    out -= set(names)
            self.covered[service] = frozenset(covered_files), frozenset(out)
        return self.covered[service]

    @cached_property
    def owners(self) -> Counter[str]:
        """How many services cover each file."""
        return Counter(name for service in self.spec.built_services for name in self.coverage(service)[0])

    def context(self, folder: str, ignore_file: str) -> BuildContext:
        """A build context; services share what is known of it."""
        key = folder, ignore_file
        if key not in self.contexts:
            text = self.checkout.text(ignore_file) if ignore_file else None
            self.contexts[key] = BuildContext(self.checkout, folder, text or "")
        return self.contexts[key]

    def path(self, name: str) -> str:
        """The path of a file from where the command runs, with control characters escaped."""
        return escape_control_characters(posixpath.normpath(posixpath.join(self.folder, name)))


def check_service_images(lint_context: LintContext, service: str) -> Problems:
    """Check what a service's images are made of; their Dockerfile must exist."""
    images = lint_context.spec.images_of(service)
    yield from dict.fromkeys(found for image in images for found in _check_image(lint_context, image))


def _check_image(lint_context: LintContext, built: EffectiveImage) -> Problems:
    image = _ImageBuild(lint_context, built)
    if (text := lint_context.checkout.text(image.name)) is None:
        words = f"{image.name} cannot be read: it is no file on disk, has more than a million bytes, or leads elsewhere"
        yield report_at_key(lint_context.source, image.loc, "dockerfile", words, f"look at it with: ls -l {image.name}")
        return
    dockerfile = read_dockerfile(text, image.arguments, image.build.target or "")
    if dockerfile.syntax and not _DOCKER_FRONTEND.fullmatch(dockerfile.syntax.split("@")[0]):
        return  # another language
    report = _DockerfileReport(
        image, YamlSource(lint_context.path(image.name), text.replace("\r\n", "\n"), None, {}, {})
    )
    for line, words in dockerfile.faults:
        yield report.at(line, "dockerfile", f"no build gets past this: {words}")
    if dockerfile.target is None and dockerfile.stages:
        loc: YamlPath = ("services", image.service, "build", "target")
        words = f"{format_yaml_path(loc)}: {image.name} has no stage `{image.build.target}`"
        yield report_at_value(
            lint_context.source, loc, "dockerfile", words, suggest_closest(str(image.build.target), dockerfile.names)
        )
    yield from report.unread(dockerfile)
    yield from report.sources(dockerfile)
    yield from report.ports(dockerfile)


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
    def name(self) -> str:
        return self.built.dockerfile_path

    @property
    def loc(self) -> YamlPath:
        return "services", self.service, "build", "dockerfile"

    def loc_of(self, argument: str) -> YamlPath:
        """Where the spec gives a build argument; the environment's own comes first."""
        own: YamlPath = ("environments", self.built.environment, "overrides", self.service, "build", "args", argument)
        field = "args" if argument in self.build.args else "base"
        return own if own in self.lint_context.source.keys else ("services", self.service, "build", field, argument)

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
        return self.lint_context.context(self.folder, self.ignore_file)


@dataclass
class _DockerfileReport:
    """Reports problems at the lines of a Dockerfile."""

    image: _ImageBuild
    source: YamlSource

    def at(self, line: int, rule: str, message: str, hint: str = "", **more: str) -> Problem:
        return self.at_word(line, line, "", rule, message, hint, **more)

    def at_word(self, line: int, last: int, word: str, rule: str, message: str, hint: str = "", **more: str) -> Problem:
        """A problem at a word on these lines, or at the first line when the word is not found."""
        lines = self.source.lines
        for number in range(line, min(last, len(lines)) + 1) if word else ():
            if found := re.search(rf"(?<![^\s\"'=,]){re.escape(word)}(?![^\s\"',])", lines[number - 1]):
                place = SourceSpan(number, found.start() + 1, len(word))
                return report_at_span(self.source, place, rule, message, hint, **more)
        text = lines[line - 1]
        start = len(text) - len(text.lstrip())
        return report_at_span(
            self.source, SourceSpan(line, start + 1, max(len(text.strip()), 1)), rule, message, hint, **more
        )

    def of(self, copy: CopySource, rule: str, message: str, hint: str = "", **more: str) -> Problem:
        return self.at_word(copy.line, copy.last, copy.written, rule, message, hint, **more)

    def unread(self, dockerfile: Dockerfile) -> Problems:
        """A build argument without its ARG changes nothing, and Docker only warns."""
        image = self.image
        for key in image.arguments:
            if key not in dockerfile.arguments and not _PREDEFINED_ARGUMENT.fullmatch(key):
                loc = image.loc_of(key)
                words = f"{format_yaml_path(loc)}: {image.name} has no `ARG {key}`"
                hint = (
                    suggest_closest(key, sorted(dockerfile.arguments))
                    if dockerfile.arguments
                    else f"ARG {key}, or leave it out"
                )
                yield report_at_key(image.lint_context.source, loc, "build-argument", words, hint, severity="advice")

    def sources(self, dockerfile: Dockerfile) -> Problems:
        lint_context, own = self.image.lint_context, self.image.ignore_file
        if own and own not in lint_context.coverage(self.image.service)[0]:
            words = f"no path of services.{self.image.service} matches `{own}`, which shapes the image"
            yield self.uncovered(words, own)
        copies = [copy for stage in dockerfile.built for copy in stage.taken]
        for copy in copies:
            if copy.undefaulted:
                name = copy.undefaulted[0]
                words = f"`{name}` is empty here: it has no default, and `build.args` does not name it"
                hint = f"services.{self.image.service}.build: {{args: {{{name}: …}}}}, or ARG {name}=… here"
                yield self.of(copy, "build-argument", words, hint)
            elif not copy.unknown:
                is_only_source = [each.line for each in copies].count(copy.line) == 1
                yield from self.check_copy(copy, is_only_source)

    def check_copy(self, copy: CopySource, is_only_source: bool) -> Problems:
        found = self.image.context.find(copy)
        covered_files, out = self.image.lint_context.coverage(self.image.service)
        files = self.image.lint_context.checkout.files
        uncovered_files = [name for name in found.files if name not in covered_files and name not in out]
        if modules := [name for name in found.files if files[name] == SUBMODULE_MODE]:
            words = f"{copy.by} takes the submodule `{modules[0]}`, and the pipeline's checkout fetches none"
            yield self.of(copy, "submodule", words, "keep its files in this repository, or ADD its address")
        elif large := [name for name in found.files if self.image.lint_context.checkout.is_large(name)]:
            words = f"{copy.by} takes what Git LFS keeps, and the pipeline's checkout has its pointers: "
            words += format_first_names(large)
            yield self.of(copy, "large-files", words, "keep these files in git itself, or fetch them within the build")
        elif not found.files:
            yield from self.nothing(copy, found.ignored, is_only_source)
        elif not copy.path and self.image.folder == ".":
            yield from self.whole(copy, found.files, uncovered_files)
        elif uncovered_files:
            yield from self.missing(copy, found.files, uncovered_files)
        elif not covered_files.intersection(found.files):
            words = f"{copy.by} takes `{copy.written}`, and the `!` lines of services.{self.image.service}.paths"
            yield self.of(copy, "excluded", f"{words} leave out all of it", "narrow the `!` lines, or drop this line")

    def nothing(self, copy: CopySource, ignored: list[str], is_only_source: bool) -> Problems:
        """Report a copy that takes nothing; a pattern such as `yarn.lock*` may, for the file is optional."""
        severity = "advice" if copy.is_pattern else "error"
        if ignored and (is_only_source or not copy.is_pattern):
            words = f"{copy.by} takes `{escape_control_characters(copy.written)}`, "
            words += f"and {self.image.ignore_file} leaves out all of it"
            hint = f"at the end of {self.image.ignore_file}: !{copy.path}"
            yield self.of(copy, "ignored", words, hint, severity=severity)
        elif not ignored and (is_only_source or not copy.is_pattern) and copy.path:
            context = "the repository" if self.image.folder == "." else f"the context `{self.image.folder}`"
            words = f"{copy.by} takes `{escape_control_characters(copy.written)}`, and {context} has no such file"
            yield self.of(copy, "no-source", words, self.where(copy.path), severity=severity)

    def where(self, path: str) -> str:
        """Suggest a cure for a path that no tracked file has, by what exists."""
        image, checkout = self.image, self.image.lint_context.checkout
        here = posixpath.normpath(posixpath.join(image.folder, path))
        near = posixpath.normpath(posixpath.join(posixpath.dirname(image.name), path))
        if (checkout.root / here).exists() and not checkout.no_git:
            return f"`{here}` is on disk, and git does not track it: commit it, or make it within the build"
        for other in (near, path):
            if other != here and (other in checkout.files or other in checkout.folders):
                inside = other.removeprefix(image.folder + "/")
                reach = other.startswith(image.folder + "/") or image.folder == "."
                cure = f": COPY {inside}" if reach else f"; for one that holds `{other}`, build: {{context: .}}"
                return f"paths start at the context `{image.folder}`{cure}"
        same = [name for name in checkout.under(image.folder) if name.rpartition("/")[2] == path.rpartition("/")[2]]
        return (
            f"there is `{escape_control_characters(same[0])}`" if same else "git tracks no file or folder of that name"
        )

    def missing(self, copy: CopySource, files: list[str], uncovered_files: list[str]) -> Problems:
        """Report files that the image is made of, and that the path filter does not match."""
        count = f"{len(uncovered_files)} of {len(files)} files: " if len(files) > 1 else ""
        it = "them" if len(uncovered_files) > 1 else "it"
        words = (
            f"no path of services.{self.image.service} matches what {copy.by} takes here, and the build lacks {it}: "
        )
        name = posixpath.normpath(posixpath.join(self.image.folder, copy.path))
        yield self.of(
            copy,
            "uncovered",
            words + count + format_first_names(uncovered_files),
            self.cure(_suggest_filter_pattern(name, uncovered_files)),
        )

    def whole(self, copy: CopySource, files: list[str], uncovered_files: list[str]) -> Problems:
        """Report what a copy of the whole repository lacks; files that one other service alone covers do not count."""
        lint_context, service = self.image.lint_context, self.image.service
        rest = [
            name for name in uncovered_files if lint_context.owners[name] != 1 and not _NON_IMAGE_FILE.fullmatch(name)
        ]
        if rest:
            tops = Counter(name.partition("/")[0] + ("/" if "/" in name else "") for name in rest)
            seen = f"{len(files) - len(uncovered_files)} of {len(files)} files"
            words = f"{copy.by} takes the whole repository, and the build sees {seen}"
            omitted = format_first_names(sorted(tops, key=_rank_repository_path), 6)
            words += f": the paths of services.{service} leave out {omitted}"
            hint = f"what the image needs of these goes into services.{service}.paths; the rest is left out rightly"
            yield self.of(copy, "whole-repository", words, hint, severity="advice")

    def uncovered(self, words: str, name: str) -> Problem:
        return report_at_key(self.image.lint_context.source, self.loc, "uncovered", words, self.cure(name))

    @property
    def loc(self) -> YamlPath:
        return "services", self.image.service, "paths"

    def cure(self, pattern: str) -> str:
        """The line to add; characters that GitHub and git read differently become `*`."""
        lint_context = self.image.lint_context
        portable = re.sub(r"[?+\[\]\\]|[^\x21-\x7e]", "*", pattern)
        portable = portable if not path_filters.find_filter_errors([portable]) else portable.rpartition("/")[0] + "/**"
        place = lint_context.source.keys.get(self.loc) or lint_context.source.keys.get(self.loc[:2])
        where = f" ({lint_context.source.path}:{place.line})" if place else ""
        return f"add `{portable}` to {format_yaml_path(self.loc)}{where}"

    def ports(self, dockerfile: Dockerfile) -> Problems:
        """Compare the exposed ports with the spec's; a service that gets its port from its environment may differ."""
        service = self.image.lint_context.spec.services[self.image.service]
        exposed = [ports for ports in dockerfile.exposed if ports.protocol == "tcp"]
        told = any(value.value == str(service.port) for value in (*service.env.values(), *service.environment.values()))
        if service.port is None:
            return
        if exposed and not told and not any(ports.low <= service.port <= ports.high for ports in exposed):
            numbers = ", ".join(
                str(each.low) if each.low == each.high else f"{each.low}-{each.high}" for each in exposed
            )
            words = f"the image exposes {numbers}, and services.{self.image.service}.port is {service.port}"
            hint = f"port: {exposed[-1].low} in the spec, or EXPOSE {service.port} here: where the program listens"
            yield self.at(exposed[-1].line, "port", words, hint)


def format_first_names(names: list[str], count: int = MAX_LISTED_NAMES) -> str:
    """Format the first names for a message, and how many more there are."""
    return join_with_limit((f"`{escape_control_characters(name)}`" for name in names), count)


def _suggest_filter_pattern(name: str, uncovered_files: list[str]) -> str:
    """The pattern that includes these files, as near as possible to what the Dockerfile says."""
    name = re.sub(r"[?\[\]\\]", "*", name)
    near = [name, f"{name}/**", f"{posixpath.dirname(name.partition('*')[0])}/**"]
    fits = (each for each in near if all(path_filters.is_included([each], file) for file in uncovered_files))
    return next(
        fits,
        uncovered_files[0] if len(uncovered_files) == 1 else f"{posixpath.commonpath(uncovered_files)}/**".lstrip("/"),
    )


def _rank_repository_path(name: str) -> tuple[int, str]:
    """Manifests and lock files first, then folders."""
    if _MANIFEST_FILE.fullmatch(name):
        return 0, name
    return (1, name) if name.endswith("/") else (2, name)
