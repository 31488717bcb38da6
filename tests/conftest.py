"""What all tests share: where the tool under test was installed from, which a checkout does not say by itself."""

import gc
import os

os.environ["KIWARI_CI_SOURCE"] = f"kiwari-ci==0.1.0 --hash=sha256:{'0' * 64}"

gc.disable()  # while tests are collected, all that is made stays


def pytest_collection_finish() -> None:
    """Look for garbage among the objects of a test alone: those of the collected tests stay until the end."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()
