"""Compares env examples: which variables the env files on the server must have; values are never compared."""

from collections.abc import Iterator

from kiwari_ci.commands.diff.change import PipelineChange, format_names
from kiwari_ci.problems import join_with_limit
from kiwari_ci.readers.env_file import EnvExample
from kiwari_ci.readers.yaml_document import as_inline_code


def compare_env_examples(
    subject: str,
    before: EnvExample | None,
    after: EnvExample,
    known_keys: frozenset[str],
    moved_keys: frozenset[str] = frozenset(),
) -> Iterator[PipelineChange]:
    """Report what the env file on the server must have now, and what it does not need any more.

    `known_keys` are set elsewhere: in other env files of the environment, by the Compose file, or by a workflow.
    `moved_keys` were set by the Compose file, whose comparison reports that they move to the env file.
    """
    if before is None:
        yield from _list_required_keys(subject, after)
        return
    old, new = before.values, after.values
    removed_keys = [key for key in old if key not in new]
    if removed_keys and before.generated:
        message = f"no longer needs {format_names(removed_keys, 20)} in the env file"
        yield PipelineChange(subject, message, False, after.path, tuple((key, "") for key in removed_keys))
    elif unknown_keys := [key for key in removed_keys if key not in known_keys]:
        names = format_names(unknown_keys, 20)
        message = f"in no env file of the spec, and lost for a container that reads it: {names}; "
        message += "keep today's env file for what is still started from today's Compose file"
        yield PipelineChange(subject, message, True, before.path, stage="before", is_dangerous=True)
    reported_keys = moved_keys - old.keys()
    for key in [key for key in new if key not in reported_keys]:
        yield from _compare_env_key(subject, key, before, after)


def _list_required_keys(subject: str, after: EnvExample) -> Iterator[PipelineChange]:
    keys = [as_inline_code(key) + (" (secret)" if key in after.secret else "") for key in after.values]
    if keys:
        name = after.path.removesuffix(".example").rpartition("/")[2]
        message = f"{as_inline_code(name)} on the server must have {join_with_limit(keys, 20)}"
        yield PipelineChange(subject, message, True, after.path, stage="before")


def _compare_env_key(subject: str, key: str, before: EnvExample, after: EnvExample) -> Iterator[PipelineChange]:
    where = f"{after.path}:{after.lines[key]}"
    old, new, secret = before.values.get(key), after.values[key], key in after.secret
    if old is None:
        message = f"now also needs {'the secret ' if secret else ''}{as_inline_code(key)} in the env file on the server"
        yield PipelineChange(subject, message, True, where, (("", key),), stage="before")
    elif not before.generated:
        return  # what another hand's example shows says nothing of the server's own
    elif old != new:
        both = "" if secret or key in before.secret else f": {as_inline_code(old)} → {as_inline_code(new)}"
        message = f"the example of {as_inline_code(key)} in the env file{both}: change it on the server, too"
        yield PipelineChange(subject, message, True, where)
    elif (key in before.secret) != secret:
        message = f"{as_inline_code(key)} in the env file is called {'a secret' if secret else 'no secret'}"
        yield PipelineChange(subject, message, False, where)
