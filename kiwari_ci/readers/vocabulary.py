"""What names and texts in other people's files mean: environments, secrets, addresses, variables."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from kiwari_ci.readers.bounded_text import MAX_VALUE_LENGTH, fill_in_values
from kiwari_ci.schema.text_formats import CREDENTIAL_PATTERN

PRODUCTION, STAGING, DEVELOPMENT = "production", "staging", "development"
DEPLOYED_DEVELOPMENT = "deployed development"  # an environment of this kind that a workflow deploys to a server
DEVELOPMENT_NAMES = frozenset({"development", "develop", "dev"})  # of one environment
_ENVIRONMENT_WORDS = {  # the first kind of which a text has a word is the text's kind
    STAGING: {"staging", "stage", "stag", "stg", "uat", "preprod", "nonprod", "preview", "qa"},
    PRODUCTION: {"production", "prod", "prd", "live"},
    DEVELOPMENT: {
        "development", "develop", "dev", "devcontainer", "local", "sandbox", "debug", "override",
        "test", "tests", "testing", "e2e", "ci", "example", "examples", "demo", "bench", "benchmark",
    },
}  # fmt: skip
_SPLIT_STAGING_WORD = re.compile(r"\b(pre|non)[-_.](?=prod)")
# A name with one of these holds a secret, wherever the word stands in it.
_SECRET_NAME = re.compile(
    r"(?<!OVER)(?<!BY)(?<!COM)PASS(WORD|WD|PHRASE)?(?![A-Z])|PWD(?![A-Z])|SECRETS?(?![A-Z])|TOKENS?(?![A-Z])|CRED(ENTIAL)?S?(?![A-Z])|DSN(?![A-Z])"
    r"|PRIVATE_?KEY|API_?KEY|ACCESS_?KEY|WEB_?HOOKS?(?![A-Z])|JWT(?![A-Z])|BEARER|HMAC|MNEMONIC|CONN(ECTION)?_?STR(ING)?"
)
# These say so only as the last word: SESSION may be one, SESSION_DRIVER is none.
_SECRET_LAST_WORDS = frozenset(
    {
        *("KEY", "KEYS", "SALT", "PEPPER", "SEED", "SESSION", "SESSIONS", "SESSIONID", "COOKIE", "COOKIES", "AUTH"),
        *("AUTHORIZATION", "AUTHENTICATION", "CERT", "CERTIFICATE", "SIGNATURE", "SIG", "SAS", "LICENSE", "LICENCE"),
        *("PIN", "OTP", "TOTP", "PW", "PASSCODE", "HTPASSWD", "KUBECONFIG", "NETRC", "KEYSTORE", "BASE"),
    }
)
_COUNT_OF_TOKENS = re.compile(r"(^|_)(MAX|MIN|NUM|LIMIT)_(\w+_)?TOKENS$")  # of a language model
_PATH_VARIABLE = re.compile(r"(?i)\w+_(file|path|dir)")
_ABSOLUTE_PATH = re.compile(r"(/[\w.-]+)+/?")
_HARMLESS_VALUE = re.compile(r"(?i)true|false|yes|no|on|off|none|[0-9]{1,5}|[0-9]{1,5}(ms|s|m|h|d)")
_SECRET_FORM = re.compile(
    r"(?i)(?:^|[;&?\s])(?:password|pwd|accountkey|sharedaccesskey)\s*=\s*[^;&\s]"
    r"|://(?!git@)[^/\s@]+@"  # user information in a URL
    r"|\b(?:bearer|basic|digest|token|apikey)\s+[\w+/=.~-]{4,}"
    r"|[?&;#][\w.-]*(?:key|token|secret|sig|signature|pass|pwd|auth|code|credential|session|jwt)[\w.-]*=[^\s&]"
    r"|(?:^|\s)(?:-u|--user|--proxy-user)[=\s]?[\"']?[^\s:$]+:[^\s$]"
    r"|(?:^|\s)-{1,2}[\w-]*(?:password|passwd|pass|token|secret|api-?key|auth|requirepass)[=\s]+[\"']?[^\s$-]"
    r"|\b\w*(?:password|passwd|secret|token|api[_-]?key|authorization)\w*[\"']?\s*[=:]\s*[\"']?[^\s$\"']"
    r"|\b(?:requirepass|masterauth)\s+\S"
    r"|hooks\.slack\.com/\w|discord(?:app)?\.com/api/webhooks/|\.webhook\.office\.com/|/webhooks?/\w{8,}"
    r"|-----BEGIN|AGE-SECRET-KEY|\$(?:2[abxy]|5|6|y|apr1|argon2\w*)\$"
)
_SECRET_PREFIX = re.compile(
    r"(?:^|[^A-Za-z0-9])(?:sk-|sk_|rk_|whsec_|SG\.|AIza|ya29\.|glpat-|gldt-|npm_|pypi-|dckr_pat_|hf_|xox[a-z]-|xapp-|shp(?:at|ss)_"
    r"|dop_v1_|gh[opusr]_|github_pat_|AKIA|ASIA|hvs\.|lin_api_|eyJ)[\w.-]{6,}|[0-9]{8,10}:[\w-]{30,}"
)
_HEX_VALUE = re.compile(r"[0-9a-fA-F]{24,}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_BASE64_VALUE = re.compile(r"[A-Za-z0-9+/_-]{14,}={1,2}(?![\w=])")
_BROWSER_VARIABLE = re.compile(r"(NEXT_PUBLIC|VITE|REACT_APP|NUXT_PUBLIC|PUBLIC)_|.*PUBLI(C|SHABLE)_KEY")
_LOCAL_ADDRESS = r"(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1?\])"
_PROBE_URL = re.compile(rf"(?:https?://)?{_LOCAL_ADDRESS}(?::(?P<port>\d{{2,5}}))?(?P<path>/[A-Za-z0-9._~/?=&%-]*)?")
_DOMAIN_NAME = re.compile(
    r"(?<![\w@.-])((?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,60}[a-z0-9])(?![\w.-]*[\w])",
    re.IGNORECASE,
)
_VARIABLE_REFERENCE = re.compile(
    r"\$\$|\$\{(?P<name>\w+)(?:(?P<sign>:?[-?+])(?P<word>(?:[^{}]|\{[^{}]*\})*))?\}|\$(?P<bare>[A-Za-z_]\w*)"
)
_NON_DOMAIN_ENDINGS = {
    "log",
    "txt",
    "pid",
    "js",
    "ts",
    "py",
    "go",
    "rs",
    "sh",
    "yml",
    "yaml",
    "json",
    "conf",
    "local",
    "localhost",
    "internal",
    "sock",
    "env",
}


@dataclass(frozen=True)
class UnknownVariable:
    """A variable in a text whose value nothing says, or which is a secret; the operator is that of `${NAME:-…}`."""

    name: str
    operator: str


@dataclass(frozen=True)
class SourcedValue:
    """A value, the place it was read at (`path:12`), and whether it is a guess."""

    value: Any
    where: str
    guess: bool = False


def split_words(text: str) -> list[str]:
    """The words that a name is made of, in lower case."""
    return [word for word in re.split(r"[^a-z0-9]+", text.lower()) if word]


def classify_environment(text: str) -> str:
    """Which kind of environment a name or path speaks of: production, staging, development, or none (empty).

    A number may stand behind the word, as in `prod2`.
    """
    joined = _SPLIT_STAGING_WORD.sub(r"\1", text.lower())
    words = {word if word == "e2e" else word.rstrip("0123456789") for word in split_words(joined)}
    for kind, kind_words in _ENVIRONMENT_WORDS.items():
        if words & kind_words:
            return kind
    return ""


def strip_environment(text: str) -> str:
    """A name without the words of an environment: shop-api-staging is shop-api."""
    return "-".join(word for word in split_words(text) if classify_environment(word) not in (PRODUCTION, STAGING))


def slugify(text: str) -> str:
    """Text as a name of the spec (lower case, digits, hyphens, a letter first); empty when nothing is left."""
    return "-".join(split_words(text)).lstrip("0123456789-")[:40].rstrip("-")


def is_secret(key: str, value: str = "") -> bool:
    """Whether an environment variable is named like a secret, or its value may be one; when in doubt, it is."""
    return is_secret_name(key, value) or may_be_secret(value)


def is_secret_name(key: str, value: str = "") -> bool:
    """Whether a variable's name says that it holds a secret; a value such as `true` or `30s` is none under most."""
    if _BROWSER_VARIABLE.match(key) or is_path_of_file(key, value):
        return False
    separated = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key)
    name = re.sub(r"[^A-Z0-9]+", "_", separated.upper()).strip("_")
    last = re.sub(r"[0-9]+$", "", name).strip("_").rpartition("_")[2]
    is_harmless = _HARMLESS_VALUE.fullmatch(value) is not None
    if is_harmless and _COUNT_OF_TOKENS.search(name):
        return False
    if matches := list(_SECRET_NAME.finditer(name)):
        return matches[-1].end() == len(name) or not is_harmless
    return last in _SECRET_LAST_WORDS and not is_harmless


def is_path_of_file(key: str, value: str) -> bool:
    """Whether a variable such as `PASSWORD_FILE` says where a file is: the path is no secret."""
    return _PATH_VARIABLE.fullmatch(key) is not None and _ABSOLUTE_PATH.fullmatch(value) is not None


def may_be_secret(text: str) -> bool:
    """Whether a text has the form of a secret, or holds one: a credential, a login, a random string."""
    forms = (CREDENTIAL_PATTERN, _SECRET_FORM, _SECRET_PREFIX, _HEX_VALUE, _BASE64_VALUE)
    return any(form.search(text) for form in forms) or any(map(_is_random, re.split(r"[^A-Za-z0-9]+", text)))


def _is_random(word: str) -> bool:
    """Whether letters and digits are mixed as no word mixes them; `eu-central-1` and `utf8mb4` are words."""
    if len(word) < 12:
        return False
    kinds = ["0" if character.isdigit() else "A" if character.isupper() else "a" for character in word]
    changes = sum(kind != next_kind for kind, next_kind in zip(kinds, kinds[1:], strict=False))
    return changes >= len(word) / 4 and ("0" in kinds or changes >= len(word) / 2)


def parse_probe_command(text: str) -> tuple[int | None, str]:
    """The port and path that a command asks on its own machine; None and empty when it asks nothing."""
    probe = next((match for match in _PROBE_URL.finditer(text) if match["port"] or match["path"]), None)
    return (int(probe["port"]) if probe and probe["port"] else None, (probe["path"] or "/") if probe else "")


def find_domains(text: str) -> list[str]:
    """The public domains in a text, in lower case, each once."""
    domains = (domain.lower() for domain in _DOMAIN_NAME.findall(text))
    return list(dict.fromkeys(domain for domain in domains if domain.rpartition(".")[2] not in _NON_DOMAIN_ENDINGS))


def interpolate_variables(text: str, values: dict[str, str]) -> str | None:
    """Replace the variables of Compose or a shell; None when one of them has no value, or is a secret."""
    references = list(_VARIABLE_REFERENCE.finditer(text))
    if any(_resolve_reference(reference, values) is None for reference in references):
        return None
    return interpolate_known_variables(text, values)


def interpolate_known_variables(text: str, values: dict[str, str]) -> str:
    """Replace the variables that have a value and are no secret; the others become a plain `${NAME}`."""

    def replace_reference(reference: re.Match[str]) -> str:
        value = _resolve_reference(reference, values)
        return f"${{{_get_variable_name(reference)}}}" if value is None else value

    return fill_in_values(_VARIABLE_REFERENCE, replace_reference, text)


def split_at_unknown_variables(text: str, values: dict[str, str] | None) -> list[str | UnknownVariable]:
    """A text in parts: what is known of it, as Compose would write it, and the variables whose values are unknown.

    An empty default says nothing of a value. Without `values`, every variable is unknown.
    """
    parts: list[str | UnknownVariable] = []
    end = 0
    for reference in _VARIABLE_REFERENCE.finditer(text):
        is_variable = reference[0] != "$$"
        value = None if is_variable and values is None else _resolve_reference(reference, values or {})
        parts.append(text[end : reference.start()])
        parts.append(value or UnknownVariable(_get_variable_name(reference), reference["sign"] or ""))
        end = reference.end()
    parts.append(text[end:])
    return [part for part in parts if part]


def list_variables(text: str) -> list[str]:
    """The names of the variables in a text, as Compose or a shell would replace them."""
    return [_get_variable_name(reference) for reference in _VARIABLE_REFERENCE.finditer(text) if reference[0] != "$$"]


def escape_dollar_signs(text: str) -> str:
    """Write a text as a spec or a Compose file has it, where `$$` is a dollar sign and `$NAME` a variable."""
    return text.replace("$", "$$") if _VARIABLE_REFERENCE.search(text) else text


def _get_variable_name(reference: re.Match[str]) -> str:
    return reference["name"] or reference["bare"] or ""


def _resolve_reference(reference: re.Match[str], values: dict[str, str]) -> str | None:
    """The value of a reference to a variable; None when nothing says it, when it is a secret, or very long."""
    if reference[0] == "$$":
        return "$"
    name = _get_variable_name(reference)
    operator = reference["sign"] or ""
    operand = reference["word"] or ""
    value = values.get(name)
    if is_secret(name, value or operand) or len(value or operand) > MAX_VALUE_LENGTH:
        return None
    if value:
        return operand if operator.endswith("+") else value
    return operand if operator.endswith("-") else None


def build_validator(kind: Any) -> Callable[[Any], bool]:
    """Whether a value may stand in the spec as that type."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def holds(value: Any) -> bool:
        try:
            adapter.validate_python(value, strict=True)
        except ValidationError:
            return False
        return True

    return holds
