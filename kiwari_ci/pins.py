"""Actions that the workflows use, each at a commit whose tag was checked."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pin:
    """One action: `owner/name`, the 40 hex digits of the commit, and the version that its tag names."""

    action: str
    sha: str
    version: str


PINS = {
    pin.action: pin
    for pin in (
        Pin("actions/checkout", "3d3c42e5aac5ba805825da76410c181273ba90b1", "v7.0.1"),
        Pin("actions/setup-go", "b7ad1dad31e06c5925ef5d2fc7ad053ef454303e", "v7.0.0"),
        Pin("actions/setup-node", "820762786026740c76f36085b0efc47a31fe5020", "v7.0.0"),
        Pin("actions/setup-python", "5fda3b95a4ea91299a34e894583c3862153e4b97", "v7.0.0"),
        Pin("docker/login-action", "dbcb813823bdd20940b903addbd779551569679f", "v4.6.0"),
        Pin("docker/setup-buildx-action", "37fe631027851001ddb9b187196cc803df7f5f0e", "v4.3.0"),
        Pin("docker/build-push-action", "53b7df96c91f9c12dcc8a07bcb9ccacbed38856a", "v7.3.0"),
    )
}
