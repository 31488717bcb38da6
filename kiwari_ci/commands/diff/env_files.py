"""Env examples → changes: what the env files on the server must have; their values are nobody's here."""

from collections.abc import Iterator

from kiwari_ci.commands.diff.change import Change
from kiwari_ci.problems import enumerated
from kiwari_ci.readers.compose_file import EnvExample
from kiwari_ci.readers.yaml_document import shown


def changes(subject: str, before: EnvExample | None, after: EnvExample) -> Iterator[Change]:
    """What the env file on the server must have now, and need not have any more."""
    if before is None:
        yield from _needed(subject, after)
        return
    old, new = before.values, after.values
    gone = [key for key in old if key not in new]
    if gone and before.generated:
        words = f"no longer needs {enumerated(map(shown, gone), 20)} in the env file"
        yield Change(subject, words, False, after.path, tuple((key, "") for key in gone))
    elif gone:
        words = f"in no env file of the spec, and lost if still read: {enumerated(map(shown, gone), 20)}"
        yield Change(subject, words, True, before.path)
    for key in new:
        yield from _key(subject, key, before, after)


def _needed(subject: str, after: EnvExample) -> Iterator[Change]:
    keys = [shown(key) + (" (secret)" if key in after.secret else "") for key in after.values]
    if keys:
        name = after.path.removesuffix(".example").rpartition("/")[2]
        yield Change(subject, f"{shown(name)} on the server must have {enumerated(keys, 20)}", True, after.path)


def _key(subject: str, key: str, before: EnvExample, after: EnvExample) -> Iterator[Change]:
    where = f"{after.path}:{after.lines[key]}"
    old, new, secret = before.values.get(key), after.values[key], key in after.secret
    if old is None:
        words = f"now also needs {'the secret ' if secret else ''}{shown(key)} in the env file on the server"
        yield Change(subject, words, True, where, (("", key),))
    elif not before.generated:
        return  # what another hand's example shows says nothing of the server's own
    elif old != new:
        both = "" if secret or key in before.secret else f": {shown(old)} → {shown(new)}"
        words = f"the example of {shown(key)} in the env file{both}: the server's own is edited by hand"
        yield Change(subject, words, True, where)
    elif (key in before.secret) != secret:
        words = f"{shown(key)} in the env file is called {'a secret' if secret else 'no secret'}"
        yield Change(subject, words, False, where)
