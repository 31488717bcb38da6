"""docs/reference/declined.md: what is not supported, from the table behind the error message."""

from kiwari_ci.loading.unsupported import UNSUPPORTED_FEATURES

HEAD = """# What is not supported

Check here whether kiwari-ci can do what you need, and what to do instead if it cannot. If a spec asks for one of these,
`kiwari-ci validate` reports it at the line, with the same reason and advice.

A Compose key without a field of its own goes through `compose`. Your own steps and scripts go through `steps` and
`hooks`.

| Not supported | Why | Instead |
| --- | --- | --- |
"""


def page() -> str:
    """The whole table."""
    return HEAD + "".join(f"| {each.what} | {each.why} | {each.instead} |\n" for each in UNSUPPORTED_FEATURES)
