"""docs/reference/declined.md: what is not made, from the table that the error at the line is made of."""

from kiwari_ci.loading.unsupported import UNSUPPORTED_FEATURES

HEAD = """# What is not made

Who writes one of these into a spec reads why not, at the line, and what to do instead; nothing is half done.
What has no field, and is no promise of the pipeline's, goes through `compose`, `steps` and `hooks` as it is.

| Not made | Why | Instead |
| --- | --- | --- |
"""


def page() -> str:
    """The whole table."""
    return HEAD + "".join(f"| {each.what} | {each.why} | {each.instead} |\n" for each in UNSUPPORTED_FEATURES)
