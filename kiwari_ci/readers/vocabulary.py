"""What names and texts in other people's files mean: environments, secrets, addresses, variables."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from kiwari_ci.rules import CREDENTIAL_PATTERN

PRODUCTION, STAGING, DEVELOPMENT = "production", "staging", "development"
_ENVIRONMENT_WORDS = {  # the first kind of which a text has a word is the text's kind
    STAGING: {"staging", "stage", "stag", "stg", "uat", "preprod", "nonprod", "preview", "qa"},
    PRODUCTION: {"production", "prod", "prd", "live"},
    DEVELOPMENT: {
        "development", "develop", "dev", "devcontainer", "local", "sandbox", "debug", "override",
        "test", "tests", "testing", "e2e", "ci", "example", "examples", "demo", "bench", "benchmark",
    },
}  # fmt: skip
_SPLIT_STAGING_WORD = re.compile(r"\b(pre|non)[-_.](?=prod)")
_SECRET_KEY = re.compile(
    r"(?<!PUBLIC)_?(PASS(WORD|WD|PHRASE)?|PWD|SECRETS?|TOKEN|CREDENTIALS?|DSN|SALT|PRIVATE_?KEY|API_?KEY|ACCESS_?KEY"
    r"|SECRET_?KEY_BASE|_KEY)$",
    re.IGNORECASE,
)
_SECRET_ASSIGNMENT = re.compile(r"(?i)(?:^|[;&?\s])(?:password|pwd|accountkey|sharedaccesskey)\s*=\s*[^;&\s]")
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
    """Whether an environment variable is named, or looks, like a secret."""
    named = _SECRET_KEY.search(key) is not None and not _BROWSER_VARIABLE.match(key)
    return named or CREDENTIAL_PATTERN.search(value) is not None or _SECRET_ASSIGNMENT.search(value) is not None


def parse_probe_command(text: str) -> tuple[int | None, str]:
    """The port and path that a command asks on its own machine; None and empty when it asks nothing."""
    found = next((each for each in _PROBE_URL.finditer(text) if each["port"] or each["path"]), None)
    return (int(found["port"]) if found and found["port"] else None, (found["path"] or "/") if found else "")


def find_domains(text: str) -> list[str]:
    """The public domains in a text, in lower case, each once."""
    found = (each.lower() for each in _DOMAIN_NAME.findall(text))
    return list(dict.fromkeys(each for each in found if each.rpartition(".")[2] not in _NON_DOMAIN_ENDINGS))


def interpolate_variables(text: str, known: dict[str, str]) -> str | None:
    """Text with the variables of Compose or a shell put in; None when one has no value, or is a secret."""
    missing = False

    def value(found: re.Match[str]) -> str:
        nonlocal missing
        if found[0] == "$$":
            return "$"
        name, sign, default = found["name"] or found["bare"], found["sign"] or "", found["word"] or ""
        missing |= is_secret(name)
        if known.get(name):
            return default if sign.endswith("+") else known[name]
        missing |= not sign.endswith("-")
        return default if sign.endswith("-") else ""

    made = _VARIABLE_REFERENCE.sub(value, text)
    return None if missing else made


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
