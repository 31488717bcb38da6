"""Where this tool was installed from, in the words of a spec's `generator`: pip's record says it (PEP 610).

Source: https://packaging.python.org/en/latest/specifications/direct-url/
"""

import json
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

from pydantic import TypeAdapter, ValidationError

from kiwari_ci.schema.text_formats import GeneratorRequirement

# The drift workflow runs a checkout, of which pip has no record: it says the source by this.
SOURCE_VARIABLE = "KIWARI_CI_SOURCE"
VENDOR_FOLDER = ".github/kiwari-ci"
_GITHUB_URL = re.compile(r"(?:https://|ssh://git@)github\.com/([A-Za-z0-9-]+/[A-Za-z0-9._-]+?)(?:\.git)?/?")


def find_installed_source(environment: Mapping[str, str]) -> str:
    """How the same tool can be installed again, by content; empty when nobody knows."""
    if configured_source := environment.get(SOURCE_VARIABLE, ""):
        return configured_source if _is_requirement(configured_source) else ""
    record = _read_install_record()
    repository = _GITHUB_URL.fullmatch(str(record.get("url", "")))
    commit = find_installed_commit()
    if not repository or not commit:
        return ""
    source = f"git+https://github.com/{repository[1]}@{commit}"
    return source if _is_requirement(source) else ""


def find_installed_commit() -> str:
    """The commit that pip installed this from; empty when it was installed from something else."""
    version = _read_install_record().get("vcs_info")
    return str(version.get("commit_id", "")) if isinstance(version, dict) else ""


def explain_unknown_source() -> str:
    """What to write into the spec, in one sentence with the commands."""
    record = _read_install_record()
    archive = record.get("archive_info")
    url = str(record.get("url", ""))
    if isinstance(archive, dict) and url.endswith(".whl"):
        name = url.rpartition("/")[2]
        digest = str(archive.get("hash", "")).replace("=", ":") or "sha256:HASH"
        algorithm, _, value = digest.partition(":")
        return (
            f"copy {name} to {VENDOR_FOLDER}/ in the repository, and write "
            f"generator: ./{VENDOR_FOLDER}/{name} --hash={algorithm}:{value}"
        )
    return (
        "write generator: git+https://github.com/OWNER/kiwari-ci@COMMIT, or copy the wheel into the repository "
        f"and write generator: ./{VENDOR_FOLDER}/WHEEL --hash=sha256:HASH (sha256sum WHEEL)"
    )


def _is_requirement(text: str) -> bool:
    try:
        TypeAdapter(GeneratorRequirement).validate_python(text)
    except ValidationError:
        return False
    return True


def _read_install_record() -> dict[str, Any]:
    try:
        record = json.loads(distribution("kiwari-ci").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
