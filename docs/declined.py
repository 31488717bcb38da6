"""docs/reference/declined.md: what is not supported, from the table behind the error message."""

from kiwari_ci.spec_loading.unsupported import UNSUPPORTED_FEATURES

HEAD = """# What is not supported

Check here whether kiwari-ci can do what you need, and what to do instead if it cannot. If a spec asks for one of these,
`kiwari-ci validate` reports it at the line, with the same reason and advice.

Some things have no field in the spec, but are supported: write other Compose keys under `compose`, and your own steps
and scripts under `steps` and `hooks`.

| Not supported | Why | Instead |
| --- | --- | --- |
"""


def page() -> str:
    """The whole table."""
    return HEAD + "".join(
        f"| {feature.what} | {feature.why} | {feature.instead} |\n" for feature in UNSUPPORTED_FEATURES
    )
