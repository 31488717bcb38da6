"""Whether each image gets what its Dockerfile takes: in the pipeline a build sees only what the path filter matches."""

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
    """What a spec is held against: its repository, as the person named it (`folder`), and what is known of both."""

    source: YamlSource
    spec: EffectiveSpec
    checkout: Checkout
    folder: str
    contexts: dict[tuple[str, str], BuildContext] = field(default_factory=dict)
    matched: dict[str, list[str]] = field(default_factory=dict)
    covered: dict[str, tuple[frozenset[str], frozenset[str]]] = field(default_factory=dict)

    def matching(self, pattern: str) -> list[str]:
        """The files that one pattern of a filter matches; its `!` is not looked at."""
        body = pattern.removeprefix("!")
        if body not in self.matched:
            self.matched[body] = self._matching(body)
        return self.matched[body]

    def _matching(self, body: str) -> list[str]:
        near = select_by_prefix(self.checkout.names, (_LITERAL_PREFIX.match(body) or [""])[0])
        return (
            near
            if body.endswith("/**") and near and _is_literal_pattern(body[:-3])
            else _find_matching_files(body, near)
        )

    def coverage(self, service: str) -> tuple[frozenset[str], frozenset[str]]:
        """The files that a service's filter matches, and those that its `!` lines leave out of these."""
        if service not in self.covered:
            kept, out = set[str](), set[str]()
            for pattern in self.spec.images_of(service)[0].path_filters:
                names = self.matching(pattern)
                if pattern.startswith("!"):
                    out |= kept & set(names)
                    kept -= out
                else:
                    kept |= set(names)
                    out -= set(names)
            self.covered[service] = frozenset(kept), frozenset(out)
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
        """A file of the repository as the person would open it, harmless to a terminal."""
        return escape_control_characters(posixpath.normpath(posixpath.join(self.folder, name)))


def check_service_images(ground: LintContext, service: str) -> Problems:
    """All that is wrong with what a service's images are made of; their Dockerfile is there."""
    images = ground.spec.images_of(service)
    yield from dict.fromkeys(found for image in images for found in _check_image(ground, image))


def _check_image(ground: LintContext, built: EffectiveImage) -> Problems:
    image = _ImageBuild(ground, built)
    if (text := ground.checkout.text(image.name)) is None:
        words = f"{image.name} cannot be read: it is no file on disk, has more than a million bytes, or leads elsewhere"
        yield report_at_key(ground.source, image.loc, "dockerfile", words, f"look at it with: ls -l {image.name}")
        return
    read = read_dockerfile(text, image.arguments, image.build.target or "")
    if read.syntax and not _DOCKER_FRONTEND.fullmatch(read.syntax.split("@")[0]):
        return  # another language
    page = _DockerfileReport(image, YamlSource(ground.path(image.name), text.replace("\r\n", "\n"), None, {}, {}))
    for line, words in read.faults:
        yield page.at(line, "dockerfile", f"no build gets past this: {words}")
    if read.target is None and read.stages:
        loc: YamlPath = ("services", image.service, "build", "target")
        words = f"{format_yaml_path(loc)}: {image.name} has no stage `{image.build.target}`"
        yield report_at_value(
            ground.source, loc, "dockerfile", words, suggest_closest(str(image.build.target), read.names)
        )
    yield from page.unread(read)
    yield from page.sources(read)
    yield from page.ports(read)


@dataclass
class _ImageBuild:
    """The build of one image, as the spec has it."""

    ground: LintContext
    built: EffectiveImage

    @property
    def service(self) -> str:
        return self.built.service

    @cached_property
    def build(self) -> Build:
        return self.built.build

    @property
    def arguments(self) -> dict[str, str | None]:
        """What the build is given; a variable of GitHub's and the digest of a base are not known here."""
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
        return own if own in self.ground.source.keys else ("services", self.service, "build", field, argument)

    @property
    def folder(self) -> str:
        return self.build.context

    @cached_property
    def ignore_file(self) -> str:
        """The file that says what a build is not sent: the Dockerfile's own, else the context's; empty for none."""
        names = f"{self.name}.dockerignore", posixpath.normpath(f"{self.folder}/.dockerignore")
        return next((name for name in names if name in self.ground.checkout.files), "")

    @cached_property
    def context(self) -> BuildContext:
        return self.ground.context(self.folder, self.ignore_file)


@dataclass
class _DockerfileReport:
    """The lines of a Dockerfile, and what is wrong with them."""

    image: _ImageBuild
    source: YamlSource

    def at(self, line: int, rule: str, message: str, hint: str = "", **more: str) -> Problem:
        return self.at_word(line, line, "", rule, message, hint, **more)

    def at_word(self, line: int, last: int, word: str, rule: str, message: str, hint: str = "", **more: str) -> Problem:
        """A problem of a word somewhere on these lines; of the first line when it cannot be found."""
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

    def of(self, taken: CopySource, rule: str, message: str, hint: str = "", **more: str) -> Problem:
        return self.at_word(taken.line, taken.last, taken.written, rule, message, hint, **more)

    def unread(self, read: Dockerfile) -> Problems:
        """A build argument without its ARG changes nothing, and Docker only warns."""
        image = self.image
        for key in image.arguments:
            if key not in read.arguments and not _PREDEFINED_ARGUMENT.fullmatch(key):
                loc = image.loc_of(key)
                words = f"{format_yaml_path(loc)}: {image.name} has no `ARG {key}`"
                hint = suggest_closest(key, sorted(read.arguments)) if read.arguments else f"ARG {key}, or leave it out"
                yield report_at_key(image.ground.source, loc, "build-argument", words, hint, severity="advice")

    def sources(self, read: Dockerfile) -> Problems:
        ground, own = self.image.ground, self.image.ignore_file
        if own and own not in ground.coverage(self.image.service)[0]:
            words = f"no path of services.{self.image.service} matches `{own}`, which shapes the image"
            yield self.uncovered(words, own)
        everything = [taken for stage in read.built for taken in stage.taken]
        for taken in everything:
            if taken.undefaulted:
                name = taken.undefaulted[0]
                words = f"`{name}` is empty here: it has no default, and `build.args` does not name it"
                hint = f"services.{self.image.service}.build: {{args: {{{name}: …}}}}, or ARG {name}=… here"
                yield self.of(taken, "build-argument", words, hint)
            elif not taken.unknown:
                alone = [each.line for each in everything].count(taken.line) == 1
                yield from self.taken(taken, alone)

    def taken(self, taken: CopySource, alone: bool) -> Problems:
        found = self.image.context.find(taken)
        kept, out = self.image.ground.coverage(self.image.service)
        files = self.image.ground.checkout.files
        left = [name for name in found.files if name not in kept and name not in out]
        if modules := [name for name in found.files if files[name] == SUBMODULE_MODE]:
            words = f"{taken.by} takes the submodule `{modules[0]}`, and the pipeline's checkout fetches none"
            yield self.of(taken, "submodule", words, "keep its files in this repository, or ADD its address")
        elif large := [name for name in found.files if self.image.ground.checkout.is_large(name)]:
            words = f"{taken.by} takes what Git LFS keeps, and the pipeline's checkout has its pointers: {format_first_names(large)}"
            yield self.of(taken, "large-files", words, "keep these files in git itself, or fetch them within the build")
        elif not found.files:
            yield from self.nothing(taken, found.ignored, alone)
        elif not taken.path and self.image.folder == ".":
            yield from self.whole(taken, found.files, left)
        elif left:
            yield from self.missing(taken, found.files, left)
        elif not kept.intersection(found.files):
            words = f"{taken.by} takes `{taken.written}`, and the `!` lines of services.{self.image.service}.paths"
            yield self.of(taken, "excluded", f"{words} leave out all of it", "narrow the `!` lines, or drop this line")

    def nothing(self, taken: CopySource, ignored: list[str], alone: bool) -> Problems:
        """Docker lets a pattern match nothing: `yarn.lock*` is how a file is said to be optional."""
        severity = "advice" if taken.is_pattern else "error"
        if ignored and (alone or not taken.is_pattern):
            words = f"{taken.by} takes `{escape_control_characters(taken.written)}`, and {self.image.ignore_file} leaves out all of it"
            hint = f"at the end of {self.image.ignore_file}: !{taken.path}"
            yield self.of(taken, "ignored", words, hint, severity=severity)
        elif not ignored and (alone or not taken.is_pattern) and taken.path:
            context = "the repository" if self.image.folder == "." else f"the context `{self.image.folder}`"
            words = f"{taken.by} takes `{escape_control_characters(taken.written)}`, and {context} has no such file"
            yield self.of(taken, "no-source", words, self.where(taken.path), severity=severity)

    def where(self, path: str) -> str:
        """What is there instead of a path that no tracked file has."""
        image, checkout = self.image, self.image.ground.checkout
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

    def missing(self, taken: CopySource, files: list[str], left: list[str]) -> Problems:
        """Files that the image is made of, and that are neither watched nor checked out."""
        count = f"{len(left)} of {len(files)} files: " if len(files) > 1 else ""
        it = "them" if len(left) > 1 else "it"
        words = (
            f"no path of services.{self.image.service} matches what {taken.by} takes here, and the build lacks {it}: "
        )
        name = posixpath.normpath(posixpath.join(self.image.folder, taken.path))
        yield self.of(
            taken, "uncovered", words + count + format_first_names(left), self.cure(_suggest_filter_pattern(name, left))
        )

    def whole(self, taken: CopySource, files: list[str], left: list[str]) -> Problems:
        """`COPY . .` of the root means what is needed; what one other service alone has is not asked for."""
        ground, service = self.image.ground, self.image.service
        rest = [name for name in left if ground.owners[name] != 1 and not _NON_IMAGE_FILE.fullmatch(name)]
        if rest:
            tops = Counter(name.partition("/")[0] + ("/" if "/" in name else "") for name in rest)
            seen = f"{len(files) - len(left)} of {len(files)} files"
            words = f"{taken.by} takes the whole repository, and the build sees {seen}"
            words += f": the paths of services.{service} leave out {format_first_names(sorted(tops, key=_rank_repository_path), 6)}"
            hint = f"what the image needs of these goes into services.{service}.paths; the rest is left out rightly"
            yield self.of(taken, "whole-repository", words, hint, severity="advice")

    def uncovered(self, words: str, name: str) -> Problem:
        return report_at_key(self.image.ground.source, self.loc, "uncovered", words, self.cure(name))

    @property
    def loc(self) -> YamlPath:
        return "services", self.image.service, "paths"

    def cure(self, pattern: str) -> str:
        """The line to add; what GitHub and git read differently becomes `*`."""
        ground = self.image.ground
        portable = re.sub(r"[?+\[\]\\]|[^\x21-\x7e]", "*", pattern)
        portable = portable if not path_filters.find_filter_errors([portable]) else portable.rpartition("/")[0] + "/**"
        place = ground.source.keys.get(self.loc) or ground.source.keys.get(self.loc[:2])
        where = f" ({ground.source.path}:{place.line})" if place else ""
        return f"add `{portable}` to {format_yaml_path(self.loc)}{where}"

    def ports(self, read: Dockerfile) -> Problems:
        """A service that gets its port by its environment may well be built to expose another."""
        service = self.image.ground.spec.services[self.image.service]
        exposed = [ports for ports in read.exposed if ports.protocol == "tcp"]
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
    """Some names for a message, and how many more there are."""
    return join_with_limit((f"`{escape_control_characters(name)}`" for name in names), count)


def _suggest_filter_pattern(name: str, left: list[str]) -> str:
    """The line that includes these files, as near as can be to what the Dockerfile says."""
    name = re.sub(r"[?\[\]\\]", "*", name)
    near = [name, f"{name}/**", f"{posixpath.dirname(name.partition('*')[0])}/**"]
    fits = (each for each in near if all(path_filters.is_included([each], file) for file in left))
    return next(fits, left[0] if len(left) == 1 else f"{posixpath.commonpath(left)}/**".lstrip("/"))


def _rank_repository_path(name: str) -> tuple[int, str]:
    """What builds are told by first, then folders."""
    return 0 if _MANIFEST_FILE.fullmatch(name) else 1 if name.endswith("/") else 2, name


def _is_literal_pattern(text: str) -> bool:
    return _LITERAL_PREFIX.fullmatch(text) is not None


def _find_matching_files(body: str, names: list[str]) -> list[str]:
    return [name for name in names if path_filters.is_included([body], name)]
