"""Language manifests: how a folder is tested, and what its framework is known to do."""

import json
import re
import tomllib
from dataclasses import dataclass, field
from typing import Any

from kiwari_ci.readers.repository import LocalRepository, get_parent_folder, is_within_folder, join_path
from kiwari_ci.readers.vocabulary import SourcedValue

MANIFEST_FILES = (
    "go.mod",
    "package.json",
    "pyproject.toml",
    "requirements.txt",
    "Cargo.toml",
    "pom.xml",
    "build.gradle",
    "build.gradle.kts",
    "composer.json",
    "manage.py",
    "Pipfile",
)
MAX_DOTS_IN_TOML_LINE = 200  # Python's reader takes minutes for a key of many thousand parts
_SOURCE_FILE = r".*\.(go|js|ts|mjs|cjs|tsx|jsx|py|rs|java|kt|php|cs|rb)"
_TEST_FILE = re.compile(
    r"(^|/)(tests?|__tests__|spec)/|(_test|\.test|\.spec|Test|Tests|_spec)\.\w+$|(^|/)test_[^/]*\.py$"
)
_HEALTH_ROUTE = re.compile(
    r"""["'`](?:(?:GET|HEAD) )?(/(?:[\w.-]+/)*"""
    r"""(?:health|healthz|health-check|healthcheck|_health|livez|readyz|status|ping|up))/?["'`]"""
)
_LISTEN_PORT = re.compile(
    r"""(?:PORT["'\])]*\s*(?:\|\||\?\?|,|:-)\s*["']?"""
    r"""|(?:ListenAndServe|Listen|listen|Run|bind|run)\(\s*["'`]?[\w.]*:?"""
    r"""|[pP]ort\s*[:=]\s*["']?|0\.0\.0\.0:)(\d{4,5})\b"""
)
_PORTS_OF_OTHERS = frozenset(  # of databases, caches, queues and mail servers, which source files name as theirs
    {1025, 1433, 1521, 2379, 3306, 4222, 5432, 5433, 5672, 6379, 6432, 7700, 8025, 8086, 8123, 9042, 9092, 9200, 11211,
     15672, 26379, 27017}
)  # fmt: skip
_SPRING_SETTINGS_FILE = r"src/main/resources/(?:config/)?application\.(?:properties|ya?ml)"
_SPRING_CONTEXT_PATH = re.compile(r"(?m)^[\w. ]*context-?[pP]ath\s*[:=]\s*[\"']?(?:\$\{\w+:)?(/[\w./-]*\w)")
_SPRING_MANAGEMENT_PATH = re.compile(r"(?m)^[\w. ]*base-?[pP]ath\s*[:=]\s*[\"']?(?:\$\{\w+:)?(/(?:[\w./-]*\w)?)")
_HEALTH_ROUTE_FILE = re.compile(
    r"(?:src/routes/((?:[\w-]+/)*health\w*)/\+server|(?:^|/)app/((?:[\w-]+/)*health\w*)/route"
    r"|(?:^|/)pages/(api/health\w*))\.\w+$"
)
_WEBSOCKET_LIBRARY = re.compile(
    r"gorilla/websocket|nhooyr\.io/websocket|coder/websocket|socket\.io|tokio-tungstenite|django-channels|\bchannels\b"
)

_NODE_PORTS = {  # by package, the port on which its server listens
    "next": 3000,
    "@sveltejs/adapter-node": 3000,
    "nuxt": 3000,
    "@remix-run/serve": 3000,
    "@nestjs/core": 3000,
    "astro": 4321,
}
_NODE_PAGE_FRAMEWORKS = {
    "next",
    "@sveltejs/kit",
    "nuxt",
    "vite",
    "react",
    "vue",
    "svelte",
    "astro",
    "@angular/core",
    "@remix-run/react",
}


@dataclass
class DetectedLanguage:
    """What a service's own folder says."""

    home: str
    manifest: str = ""
    test: list[str] = field(default_factory=list)
    setup: tuple[str, str, str] | None = None  # language, version or version_file, value
    folder: str = "."
    where: str = ""
    port: SourcedValue | None = None
    health: SourcedValue | None = None
    websocket: SourcedValue | None = None


def find_manifest_folder(
    repository: LocalRepository, dockerfile: str, context: str, sources: list[SourcedValue]
) -> str:
    """The folder with the manifest of what an image is made of; without one, the folder that it takes."""
    copied = [str(fact.value).removesuffix("/**") for fact in sources if str(fact.value).endswith("/**")]
    for folder in [context if context != "." else "", get_parent_folder(dockerfile), *copied]:
        if folder and any(repository.has(join_path(folder, name)) for name in MANIFEST_FILES):
            return folder
        below = (
            {get_parent_folder(path) for path in repository.named(*MANIFEST_FILES, under=folder)}
            if folder in copied
            else set()
        )
        if len(below) == 1 and (inner := below.pop()).count("/") == folder.count("/") + 1:
            return inner
    dockerfile_folder = get_parent_folder(dockerfile)
    is_copied = dockerfile_folder != "." and any(
        is_within_folder(str(fact.value), dockerfile_folder) for fact in sources
    )
    return dockerfile_folder if is_copied else copied[0] if context == "." and len(copied) == 1 else context


def detect_language(repository: LocalRepository, home: str) -> DetectedLanguage:
    """Read the manifest in a folder; its first kind that is known decides."""
    language = DetectedLanguage(home, folder=home)
    readers = {
        "composer.json": _read_composer_json,
        "pom.xml": _read_maven_pom,
        "go.mod": _read_go_mod,
        "package.json": _read_package_json,
        "pyproject.toml": _read_python_project,
        "requirements.txt": _read_python_project,
        "Pipfile": _read_python_project,
        "Cargo.toml": _read_cargo_project,
        "build.gradle": _read_gradle_build,
        "build.gradle.kts": _read_gradle_build,
    }
    name = next((name for name in readers if repository.has(join_path(home, name))), "")
    if name:
        language.manifest = join_path(home, name) or ""
        language.where = language.manifest
        readers[name](repository, language)
    elif projects := [path for path in repository.matching(r".*\.(csproj|sln|slnx)") if is_within_folder(path, home)]:
        language.manifest = language.where = projects[0]
        _read_dotnet_projects(repository, language, projects)
    _scan_source_files(repository, language)
    _add_spring_paths(repository, language)
    return language


def has_test_files(repository: LocalRepository, home: str, ends: str) -> bool:
    """Whether a folder has a file that looks like a test."""
    return any(
        is_within_folder(path, home) and re.search(ends, path) and _TEST_FILE.search(path) for path in repository.files
    )


def _find_file_upwards(repository: LocalRepository, home: str, *names: str) -> str:
    """The first of these files in a folder or above it."""
    folders = ["/".join(home.split("/")[:count]) or "." for count in range(len(home.split("/")), -1, -1)]
    paths = (join_path(folder, name) for folder in folders for name in names)
    return next((path for path in paths if path and repository.has(path)), "")


def _detect_tool_version(
    repository: LocalRepository, language: DetectedLanguage, tool: str, name: str, *files: str
) -> None:
    version_file = _find_file_upwards(repository, language.home, *files)
    if version_file:
        language.setup = (tool, "version_file", version_file)
        return
    tools = _find_file_upwards(repository, language.home, ".tool-versions")
    if tools and (version_match := re.search(rf"^{name}\s+(\d[\w.]*)", repository.read(tools), re.MULTILINE)):
        language.setup = (tool, "version", version_match[1])


def _read_go_mod(repository: LocalRepository, language: DetectedLanguage) -> None:
    language.setup = ("go", "version_file", language.manifest)
    if has_test_files(repository, language.home, r"\.go$"):
        language.test = ["go test ./..."]


def _load_json(repository: LocalRepository, path: str) -> dict[str, Any]:
    try:
        document = json.loads(repository.read(path))
    except (ValueError, RecursionError) as error:
        repository.troubles.append(f"{path}: not JSON: {error}")
        return {}
    return document if isinstance(document, dict) else {}


def _load_toml(repository: LocalRepository, path: str) -> dict[str, Any]:
    text = repository.read(path)
    if any(line.count(".") > MAX_DOTS_IN_TOML_LINE for line in text.split("\n")):
        repository.troubles.append(f"{path}: not read: a line has more than {MAX_DOTS_IN_TOML_LINE} dots")
        return {}
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        repository.troubles.append(f"{path}: not TOML: {error}")
        return {}


def _get_nested_table(table: dict[str, Any], *keys: str) -> dict[str, Any]:
    for key in keys:
        table = table.get(key, {}) if isinstance(table.get(key), dict) else {}
    return table


def _read_package_json(repository: LocalRepository, language: DetectedLanguage) -> None:
    package = _load_json(repository, language.manifest)
    lock = _find_file_upwards(
        repository, language.home, "pnpm-lock.yaml", "yarn.lock", "bun.lock", "bun.lockb", "package-lock.json"
    )
    root = get_parent_folder(lock) if lock else language.home
    root_manifest = join_path(root, "package.json") or ""
    root_package = _load_json(repository, root_manifest) if repository.has(root_manifest) else package
    _detect_tool_version(repository, language, "node", "nodejs", ".nvmrc", ".node-version")
    if not language.setup:
        for path, manifest in ((language.manifest, package), (root_manifest, root_package)):
            if _get_nested_table(manifest, "engines").get("node"):
                language.setup = ("node", "version_file", path)
                break
    script = _get_nested_table(package, "scripts").get("test")
    if isinstance(script, str) and script.strip() and "no test specified" not in script:
        package_manager = str(root_package.get("packageManager", ""))
        language.test = _build_node_test(language, lock.rpartition("/")[2], root, package_manager)
    _guess_from_packages(language, package)


def _guess_from_packages(language: DetectedLanguage, package: dict[str, Any]) -> None:
    """Guess the port and the health path by the frameworks that a package depends on."""
    packages = {**_get_nested_table(package, "dependencies"), **_get_nested_table(package, "devDependencies")}
    servers = [name for name in _NODE_PORTS if name in packages]
    language.port = None
    if servers:
        where = f"{language.manifest}: {servers[0]}"
        language.port = SourcedValue(_NODE_PORTS[servers[0]], where, guess=True)
    page_frameworks = sorted(_NODE_PAGE_FRAMEWORKS & set(packages))
    if page_frameworks:
        language.health = SourcedValue("/", f"{language.manifest}: {page_frameworks[0]}", guess=True)


def _build_node_test(language: DetectedLanguage, lock: str, root: str, manager: str) -> list[str]:
    if lock == "package-lock.json" and root != language.home:
        language.folder = root
        return [
            "npm ci",
            f"npm test --workspace {language.home if root == '.' else language.home.removeprefix(root + '/')}",
        ]
    pinned = ["corepack enable"]
    frozen = "immutable" if re.match(r"yarn@[2-9]", manager) else "frozen-lockfile"
    return {
        "pnpm-lock.yaml": [*pinned, "pnpm install --frozen-lockfile", "pnpm test"],
        "yarn.lock": [*pinned, f"yarn install --{frozen}", "yarn test"],
        "bun.lock": ["npm install --global bun", "bun install --frozen-lockfile", "bun run test"],
        "bun.lockb": ["npm install --global bun", "bun install --frozen-lockfile", "bun run test"],
        "package-lock.json": ["npm ci", "npm test"],
    }.get(lock, ["npm install", "npm test"])  # fmt: skip


def _read_python_project(repository: LocalRepository, language: DetectedLanguage) -> None:
    _detect_tool_version(repository, language, "python", "python", ".python-version")
    project: dict[str, Any] = {}
    if repository.has(path := join_path(language.home, "pyproject.toml")):
        project = _load_toml(repository, str(path))
    if not language.setup and _get_nested_table(project, "project").get("requires-python"):
        language.setup = ("python", "version_file", str(path))
    if not has_test_files(repository, language.home, r"\.py$"):
        return
    django = repository.has(join_path(language.home, "manage.py")) and "pytest" not in repository.read(
        language.manifest
    )
    command = "python manage.py test" if django else "pytest"
    lock = _find_file_upwards(repository, language.home, "uv.lock", "poetry.lock", "Pipfile.lock").rpartition("/")[2]
    tool = {
        "uv.lock": ("uv", "uv sync --locked", "uv run"),
        "poetry.lock": ("poetry", "poetry install", "poetry run"),
        "Pipfile.lock": ("pipenv", "pipenv sync --dev", "pipenv run"),
    }.get(lock)
    if tool:
        language.test = [f"pip install {tool[0]}", tool[1], f"{tool[2]} {command}"]
        return
    requirement_files = [
        path.rpartition("/")[2]
        for path in repository.matching(r"(.*/)?requirements[\w.-]*\.txt")
        if get_parent_folder(path) == language.home
    ]
    install = (
        ["pip install " + " ".join(f"-r {name}" for name in requirement_files)]
        if requirement_files
        else ["pip install ."]
    )
    listed = any("pytest" in repository.read(join_path(language.home, name) or "") for name in requirement_files)
    language.test = [*install, *(["pip install pytest"] if command == "pytest" and not listed else []), command]


def _read_cargo_project(repository: LocalRepository, language: DetectedLanguage) -> None:
    lock = _find_file_upwards(repository, language.home, "Cargo.lock")
    sources = [path for path in repository.files if path.endswith(".rs") and is_within_folder(path, language.home)]
    if any("#[test]" in repository.read(path) or "::test]" in repository.read(path) for path in sources[:200]):
        language.test = ["cargo test --locked" if lock else "cargo test"]


def _read_maven_pom(repository: LocalRepository, language: DetectedLanguage) -> None:
    text = repository.read(language.manifest)
    wrapper = repository.has(join_path(language.home, "mvnw"))
    java = _select_java_version(
        re.search(r"<(?:java\.version|maven\.compiler\.(?:release|target|source)|release)>(?:1\.)?(\d+)<", text)
    )
    if has_test_files(repository, language.home, r"\.(java|kt)$"):
        language.test = [*java, "./mvnw --batch-mode verify" if wrapper else "mvn --batch-mode verify"]
    _detect_spring_boot(language, text)


def _read_gradle_build(repository: LocalRepository, language: DetectedLanguage) -> None:
    text = repository.read(language.manifest)
    wrapper = _find_file_upwards(repository, language.home, "gradlew")
    java = _select_java_version(
        re.search(r"(?:JavaLanguageVersion\.of\(|jvmToolchain\(|JavaVersion\.VERSION_)(?:1_)?(\d+)", text)
    )
    if has_test_files(repository, language.home, r"\.(java|kt)$"):
        up = "../" * (language.home.count("/") + 1 if get_parent_folder(wrapper) == "." and language.home != "." else 0)
        language.test = [*java, f"{up or './'}gradlew test" if wrapper else "gradle test"]
    _detect_spring_boot(language, text)


def _select_java_version(version: re.Match[str] | None) -> list[str]:
    """The runner's images have several versions of Java, each behind a variable."""
    is_installed = version and version[1] in ("8", "11", "17", "21", "25")
    return [f'export JAVA_HOME="$JAVA_HOME_{version[1]}_X64"'] if version and is_installed else []


def _detect_spring_boot(language: DetectedLanguage, text: str) -> None:
    if "spring-boot" in text:
        language.port = SourcedValue(8080, f"{language.manifest}: spring-boot", guess=True)
    if "spring-boot-starter-actuator" in text:
        language.health = SourcedValue(
            "/actuator/health", f"{language.manifest}: spring-boot-starter-actuator", guess=True
        )


def _read_composer_json(repository: LocalRepository, language: DetectedLanguage) -> None:
    package_file = _load_json(repository, language.manifest)
    if "test" in _get_nested_table(package_file, "scripts"):
        language.test = ["composer install --no-interaction", "composer test"]
    elif "phpunit/phpunit" in _get_nested_table(package_file, "require-dev"):
        language.test = ["composer install --no-interaction", "vendor/bin/phpunit"]
    if "laravel/framework" in _get_nested_table(package_file, "require"):
        language.health = SourcedValue("/up", f"{language.manifest}: laravel/framework", guess=True)


def _read_dotnet_projects(repository: LocalRepository, language: DetectedLanguage, projects: list[str]) -> None:
    if any("test" in path.lower() or "Microsoft.NET.Test.Sdk" in repository.read(path) for path in projects):
        language.test = ["dotnet test"]
    language.port = (
        SourcedValue(8080, f"{language.manifest}: ASP.NET", guess=True)
        if any("Sdk.Web" in repository.read(path) for path in projects)
        else None
    )


def _scan_source_files(repository: LocalRepository, language: DetectedLanguage) -> None:
    """What the source seems to say: a route for health, a port, WebSockets."""
    sources = [
        path
        for path in repository.matching(_SOURCE_FILE)
        if is_within_folder(path, language.home) and not _TEST_FILE.search(path)
    ]
    page = language.health is not None and language.health.value == "/"  # its strings are what a browser asks of others
    for path in sources[:400]:
        if route := _HEALTH_ROUTE_FILE.search(path):
            language.health = SourcedValue("/" + (route[1] or route[2] or route[3]), path, guess=True)
            page = True
        text = repository.read(path)
        if not page and (match := _HEALTH_ROUTE.search(text)) and _is_better_route(match[1], language.health):
            language.health = SourcedValue(match[1], _format_location(path, text, match), guess=True)
        if not language.port and (match := _find_listen_port(text)):
            language.port = SourcedValue(int(match[1]), _format_location(path, text, match), guess=True)
    if language.manifest and (match := _WEBSOCKET_LIBRARY.search(repository.read(language.manifest))):
        language.websocket = SourcedValue(True, f"{language.manifest}: {match[0]}", guess=True)


def _find_listen_port(text: str) -> re.Match[str] | None:
    """The first port in a source file that the program may listen on."""
    for match in _LISTEN_PORT.finditer(text):
        port = int(match[1])
        if 1024 <= port < 65536 and port not in _PORTS_OF_OTHERS:
            return match
    return None


def _add_spring_paths(repository: LocalRepository, language: DetectedLanguage) -> None:
    """Put the path under which Spring Boot serves before the guessed health path."""
    prefix = "" if language.home == "." else re.escape(f"{language.home}/")
    for path in repository.matching(f"{prefix}{_SPRING_SETTINGS_FILE}"):
        text = repository.read(path)
        context_path = _SPRING_CONTEXT_PATH.search(text)
        management_path = _SPRING_MANAGEMENT_PATH.search(text)
        health = language.health
        if not health or not (context_path or management_path):
            continue
        name = str(health.value)
        if management_path and name.startswith("/actuator/"):
            name = management_path[1].rstrip("/") + name.removeprefix("/actuator")
        if context_path:
            name = context_path[1] + name
        language.health = SourcedValue(name, f"{health.where}, and the paths in {path}", guess=True)
        return


def _is_better_route(path: str, current: SourcedValue | None) -> bool:
    return current is None or ("health" in path and "health" not in str(current.value))


def _format_location(path: str, text: str, match: re.Match[str]) -> str:
    return f"{path}:{text.count(chr(10), 0, match.start(1)) + 1}"
