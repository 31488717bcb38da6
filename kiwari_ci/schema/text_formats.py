"""The formats of the texts in a spec: a regular expression for each, and words for the error message."""

import re
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_after_validator_function, str_schema

from kiwari_ci.frozen import dataclass

MAX_NAME_LENGTH = 1_000  # characters: a key of YAML can have at most 1,024
MAX_TEXT_LENGTH = 20_000  # characters of a text that is never a key
# No text may contain these: control characters, characters that some program takes for the end of a line, and those
# that hide text or reverse its direction. The last two are tags and variation selectors; they are written as they are
# because not every kind of regular expression has an escape for them.
FORBIDDEN_CHARACTERS = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u206f\u2800\u3164\ufeff\uffa0\ufff9-\ufffb\ufffe\uffff\ud800-\udfff"
    "\U000e0000-\U000e0fff"
)


@dataclass(frozen=True, eq=False)
class StringFormat:
    """The format of a text: `pattern` must match the whole text. `expected` is the end of the error, "expected …".

    `other_field` is where a text belongs that matches `other_pattern` instead of `pattern`.
    """

    pattern: str
    expected: str
    longest: int = MAX_NAME_LENGTH
    other_pattern: str = ""
    other_field: str = ""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate the text after pydantic has checked that it is a string."""
        return no_info_after_validator_function(self.validate, str_schema())

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Add the pattern to the JSON Schema, which editors read."""
        return handler(schema) | {"pattern": f"^(?:{self.pattern})$"}

    def validate(self, text: str) -> str:
        """Return the text if it has this format, and raise an error if not."""
        if len(text) > self.longest:
            limit = f"at most {self.longest:,} characters"
            raise PydanticCustomError("text", "expected {expected}", {"expected": limit, "pattern": self.pattern})
        if re.fullmatch(self.pattern, text):
            return text
        context = {"expected": self.expected, "pattern": self.pattern}
        if self.other_pattern and re.fullmatch(self.other_pattern, text):
            context["other_field"] = self.other_field
        raise PydanticCustomError("text", "expected {expected}", context)


# Names of variables whose values are secrets. A value that is built into a browser's code is none, whatever its name.
SECRET_NAME_PATTERN = re.compile(
    r"(?!(VITE|REACT_APP|(\w+_)?PUBLIC)_)\w*(PASSWORD|PASSWD|SECRET|TOKEN|PRIVATE_KEY|API_KEY)", re.IGNORECASE
)
# Values that are secrets by their form: tokens of well-known services, private keys, and passwords in URLs.
CREDENTIAL_PATTERN = re.compile(
    r"gh[pousr]_\w{20,}|github_pat_\w{20,}|-----BEGIN|AKIA[0-9A-Z]{16}|xox[abprs]-\w|sk_live_\w"
    r"|eyJ\w{10,}\.eyJ|://[^/\s:@]*:[^/\s@]+@(?!localhost|127\.0\.0\.1)"
)

if TYPE_CHECKING:
    T = TypeVar("T")
    Omittable: TypeAlias = T | None
else:

    class Omittable:
        """The type of a key that may be left out: its default is None, but a spec cannot write None.

        Pydantic does not check defaults, so it gets T instead of `T | None`. This also makes each command start faster.
        """

        def __class_getitem__(cls, kind):
            """Return T."""
            return kind


Slug = Annotated[
    str,
    StringFormat(
        r"(?=.{1,63}$)[a-z][a-z0-9]*(-[a-z0-9]+)*",
        "lower-case letters, digits and single hyphens, a letter first, at most 63",
    ),
]
RunnerLabel = Annotated[str, StringFormat(r"[A-Za-z0-9][A-Za-z0-9._-]*", "a runner's label such as ubuntu-24.04")]
RepositoryName = Annotated[
    str, StringFormat(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9_][A-Za-z0-9._-]*", "OWNER/NAME as GitHub writes it")
]
BranchName = Annotated[
    str, StringFormat(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*", "the name of one branch")
]
BranchPattern = Annotated[
    str,
    StringFormat(
        r"\*\*|[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*(/?\*|/\*\*)?",
        "the name of a branch, or its beginning and a star such as release/*; ** is every branch",
    ),
]
TestedBranch = Annotated[
    str,
    StringFormat(
        r"(?=.*[A-Za-z0-9*])[A-Za-z0-9_*][A-Za-z0-9._*-]*(/[A-Za-z0-9_*][A-Za-z0-9._*-]*)*",
        "a branch or a pattern such as develop or feature/**",
    ),
]
TagPattern = Annotated[
    str,
    StringFormat(
        r"([A-Za-z]|[A-Za-z][A-Za-z0-9._-]*[A-Za-z._-])?\*(-[A-Za-z][A-Za-z0-9]*\.?\*)?",
        "a pattern such as v*, in which the star stands for MAJOR.MINOR.PATCH, or v*-rc.*, in which the second star "
        "stands for a number. There is no digit before the star: v2* would release v21.0.0, and not v2.1.0",
    ),
]
ImageName = Annotated[
    str,
    StringFormat(
        r"[a-z0-9]+([._-][a-z0-9]+)*(/[a-z0-9]+([._-][a-z0-9]+)*)*",
        "an image's name without a tag: lower-case letters, digits, and . _ - / between them",
    ),
]
ImageTag = Annotated[
    str,
    StringFormat(
        r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", "an image's tag: letters, digits, and . _ - after the first, at most 128"
    ),
]
ImageReference = Annotated[
    str,
    StringFormat(
        r"[a-z0-9][a-z0-9._/-]*(:[0-9]+/[a-z0-9._/-]+)?(:[A-Za-z0-9_][A-Za-z0-9._-]*)?(@sha256:[0-9a-f]{64})?",
        "an image such as postgres:16-alpine",
    ),
]
ActionName = Annotated[
    str,
    StringFormat(
        r"[A-Za-z0-9][A-Za-z0-9-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+", "an action as owner/name, without its commit"
    ),
]
StepName = Annotated[
    str, StringFormat(r"[A-Z][A-Za-z0-9 ,.()/+_-]*[A-Za-z0-9.)]", "a step's name: a capital, then plain words")
]
InputName = Annotated[str, StringFormat(r"[A-Za-z_][A-Za-z0-9_-]*", "the name of an action's input")]
RegistryHost = Annotated[
    str,
    StringFormat(
        r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9-]+(:[1-9][0-9]{1,4})?",
        "a registry's host such as ghcr.io, docker.io or registry.example.com:5000",
    ),
]
RegistryUser = Annotated[
    str, StringFormat(r"[A-Za-z0-9_][A-Za-z0-9_.+@-]*", "a login of the registry: letters, digits and _ . + @ -")
]
SecretName = Annotated[
    str, StringFormat(r"(?!GITHUB_)[A-Z_][A-Z0-9_]*", "a name in capitals, digits and _, not beginning with GITHUB_")
]
Platform = Annotated[
    str,
    StringFormat(
        r"linux/(amd64|arm64|arm/v[67]|386|ppc64le|s390x|riscv64)", "a platform such as linux/amd64 or linux/arm64"
    ),
]
StageName = Annotated[str, StringFormat(r"[a-z0-9][a-z0-9_.-]*", "the name of a stage, as `FROM … AS name` gives it")]
BuildSecretId = Annotated[
    str, StringFormat(r"[A-Za-z_][A-Za-z0-9_-]*", "the id of a secret, as `--mount=type=secret,id=…` names it")
]
_ENV_KEY_PATTERN = r"[A-Za-z_][A-Za-z0-9_]*"
_CONTAINER_ENV_KEY_PATTERN = r"[A-Za-z_][A-Za-z0-9_.-]*"
EnvKey = Annotated[str, StringFormat(_ENV_KEY_PATTERN, "the name of an environment variable")]
EnvFileKey = Annotated[
    str,
    StringFormat(
        _ENV_KEY_PATTERN,
        "the name of an environment variable in an env file: letters, digits and _",
        other_pattern=_CONTAINER_ENV_KEY_PATTERN,
        other_field="`environment`, which takes `.` and `-`, too, and no secret",
    ),
]
ContainerEnvKey = Annotated[
    str,
    StringFormat(
        _CONTAINER_ENV_KEY_PATTERN, "the name of an environment variable: letters, digits and _ . -, no digit first"
    ),
]
PathPattern = Annotated[
    str,
    StringFormat(
        r"!?[A-Za-z0-9_.,@/*?+\[\]{}\\-]+", "a path filter without spaces, quotes or other special characters"
    ),
]
_PATH_PATTERN = r"(?!-)(?!(.*/)?(\.|\.\.|\.git)(/|$))[A-Za-z0-9_.@-]+(/[A-Za-z0-9_.@-]+)*"
RepositoryFile = Annotated[
    str, StringFormat(_PATH_PATTERN, "a file's path from the repository's root, without spaces, ./ or ../")
]
StackFile = Annotated[str, StringFormat(_PATH_PATTERN, "a file's path in deploy/<stack>/, without spaces, ./ or ../")]
RepositoryFolder = Annotated[
    str, StringFormat(rf"\.|{_PATH_PATTERN}", "a folder's path from the repository's root, without spaces, ./ or ../")
]
EnvFileName = Annotated[str, StringFormat(r"([A-Za-z0-9_][A-Za-z0-9_.-]*)?\.env", "a file name that ends in .env")]
HostFolder = Annotated[str, StringFormat(r"~?(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+", "a folder on the host: ~/… or /…")]
_DOMAIN_PATTERN = r"(?=[^/]{1,253}(/|$))([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?"
_ROUTE_PATH_PATTERN = r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+"
DomainName = Annotated[str, StringFormat(_DOMAIN_PATTERN, "a domain in lower case, without https:// or a path")]
HostHeader = Annotated[
    str,
    StringFormat(
        r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*",
        "a host name in lower case, such as localhost or shop.example.com, without https://, a port or a path",
    ),
]
RoutePath = Annotated[
    str,
    StringFormat(_ROUTE_PATH_PATTERN, "a path such as /api: it begins with /, does not end with one, and has no star"),
]
DomainAndPath = Annotated[
    str,
    StringFormat(
        rf"{_DOMAIN_PATTERN}({_ROUTE_PATH_PATTERN})?",
        "a domain in lower case without https://, and with a path or without: example.com, example.com/api",
    ),
]
UrlPath = Annotated[str, StringFormat(r"/[A-Za-z0-9._~/?=&%-]*", "a path that begins with / and has no blanks")]
ContainerName = Annotated[
    str,
    StringFormat(
        r"[A-Za-z0-9][A-Za-z0-9_.-]{0,61}[A-Za-z0-9]",
        "a container's name as Docker has it: 2 to 63 letters, digits and _ . -, with a letter or a digit at its ends",
    ),
]
ExistingName = Annotated[
    str,
    StringFormat(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", "a name that Docker has today: letters, digits and _ . -"),
]
WorkflowFileName = Annotated[
    str, StringFormat(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.ya?ml", "the name of a file in .github/workflows: deploy.yml")
]
PostgresName = Annotated[
    str, StringFormat(r"[a-z_][a-z0-9_]{0,62}", "a PostgreSQL name: lower-case letters, digits and _, at most 63")
]
_LINE_CHARACTER = rf"[^\t\n{FORBIDDEN_CHARACTERS}]"
TextLine = Annotated[str, StringFormat(f"{_LINE_CHARACTER}+", "one line of text", MAX_TEXT_LENGTH)]
TrimmedLine = Annotated[
    str,
    StringFormat(rf"(?! ){_LINE_CHARACTER}*(?<! )", "one line of text without blanks at its ends", MAX_TEXT_LENGTH),
]
Duration = Annotated[str, StringFormat(r"[1-9][0-9]{0,4}[sm]", "a duration such as 30s or 5m")]
StartPeriod = Annotated[
    str,
    StringFormat(
        r"([1-9][0-9]{0,2}|[12][0-9]{3}|3[0-5][0-9]{2}|3600)s|([1-9]|[1-5][0-9]|60)m",
        "a duration from 1s to 60m such as 90s or 3m",
    ),
]
MemorySize = Annotated[str, StringFormat(r"[1-9][0-9]{0,8}[kmg]", "an amount of memory such as 256m or 1g")]
LabelKey = Annotated[
    str,
    StringFormat(
        r"(?!deploy\.|com\.docker\.)[A-Za-z0-9]([A-Za-z0-9./_-]*[A-Za-z0-9])?",
        "a label's key: letters, digits and . / _ - between them, not beginning with deploy. or com.docker.",
    ),
]
ComposeKey = Annotated[str, StringFormat(r"[a-z][a-z0-9_]*", "a key of a Compose service such as extra_hosts")]
NetworkName = Annotated[
    str,
    StringFormat(
        r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", "a Docker network's name: letters, digits and _ . - after the first"
    ),
]
StackNetworkName = Annotated[
    str,
    StringFormat(
        r"[a-z][a-z0-9_-]{0,62}", "the name of a network: lower-case letters, digits, _ and -, a letter first"
    ),
]
_VOLUME_NAME_PATTERN = r"[a-z][a-z0-9_-]*"
VolumeName = Annotated[
    str, StringFormat(_VOLUME_NAME_PATTERN, "the name of a volume: lower-case letters, digits, _ and -, a letter first")
]
_MOUNT_PATTERN = r"(/[A-Za-z0-9_.-]+)+"
VolumeMount = Annotated[
    str,
    StringFormat(
        rf"(?!.*/\.\.?(/|:|$))({_VOLUME_NAME_PATTERN}|\.?{_MOUNT_PATTERN}):{_MOUNT_PATTERN}(:ro)?",
        "a volume as Compose writes it, but without ~ and ..: data:/var/lib/data, "
        "./nginx.conf:/etc/nginx/nginx.conf:ro, /srv/files:/files",
    ),
]
_PORT_PATTERN = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
PublishedPort = Annotated[
    str,
    StringFormat(
        rf"((127\.0\.0\.1|0\.0\.0\.0):)?{_PORT_PATTERN}:{_PORT_PATTERN}(/udp)?",
        "a published port as Compose writes it, in quotes: '127.0.0.1:8080:80'",
    ),
]
KubernetesName = Annotated[
    str,
    StringFormat(
        r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*",
        "the name of an object of Kubernetes: lower-case letters, digits, hyphens and dots",
    ),
]
IpAddress = Annotated[
    str, StringFormat(r"([0-9]{1,3}\.){3}[0-9]{1,3}|[0-9a-f:]*:[0-9a-f:.]*", "an IP address such as 10.0.0.2")
]
ProxyCommandWord = Annotated[
    str,
    StringFormat(
        r"([A-Za-z0-9_./:@=,+-]|%[hpr])+",
        "a word of letters, digits, and . _ - / : @ = , + in which %h is the address, %p the port, and %r the login",
    ),
]
LocalAddress = Annotated[
    str, StringFormat(rf"127\.0\.0\.1:{_PORT_PATTERN}", "an address of the host alone: 127.0.0.1:8080")
]
EmailAddress = Annotated[
    str,
    StringFormat(
        r"[A-Za-z0-9_][A-Za-z0-9._+-]*@[a-z0-9-]+(\.[a-z0-9-]+)+", "an e-mail address such as ops@example.com"
    ),
]
TraefikName = Annotated[
    str,
    StringFormat(
        r"[A-Za-z][A-Za-z0-9_-]*", "a name of Traefik's own settings: letters, digits, _ and -, a letter first"
    ),
]
Middleware = Annotated[
    str, StringFormat(r"[A-Za-z][A-Za-z0-9_-]*@[a-z]+", "a middleware with the provider that defines it: compress@file")
]
ToolVersion = Annotated[str, StringFormat(r"[A-Za-z0-9][A-Za-z0-9.*_-]*", "a version such as '1.24'")]
GeneratorRequirement = Annotated[
    str,
    StringFormat(
        r"(kiwari-ci==[0-9]+\.[0-9]+\.[0-9]+|\./([A-Za-z0-9_.-]+/)*kiwari_ci-[A-Za-z0-9_.+-]+\.whl)"
        r" --hash=sha256:[0-9a-f]{64}"
        r"|git\+https://github\.com/[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9_][A-Za-z0-9._-]*@[0-9a-f]{40}",
        "kiwari-ci==X.Y.Z or ./path/of/its.whl, either with --hash=sha256:… of the wheel, "
        "or git+https://github.com/OWNER/NAME@ and the 40 digits of a commit",
    ),
]
# A value stands between single quotes in an env file. For Compose, a backslash before the last quote would escape it.
PlainText = Annotated[
    str,
    StringFormat(
        rf"[^\t\n'{FORBIDDEN_CHARACTERS}]*(?<!\\)",
        "one line without a single quote, and without a backslash at its end",
        MAX_TEXT_LENGTH,
    ),
]
ShellScript = Annotated[
    str,
    StringFormat(
        r"(?=\S)(?![\s\S]*[ \t](\n|$))"
        rf"[^{FORBIDDEN_CHARACTERS}]{{1,20000}}",
        "a shell script of at most 20,000 characters that begins with a command, without blanks at a line's end",
        MAX_TEXT_LENGTH,
    ),
]
CronLine = Annotated[
    str,
    StringFormat(
        r"[A-Za-z0-9*,/-]+( [A-Za-z0-9*,/-]+){4}",
        "a cron line of five fields in quotes, minute hour day month weekday: '15 3 * * *'",
    ),
]
TimeZone = Annotated[
    str, StringFormat(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*", "a time zone such as Asia/Jakarta")
]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
