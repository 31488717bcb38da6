"""What all tests share: where the tool under test was installed from, which a checkout does not say by itself."""

import os

os.environ["KIWARI_CI_SOURCE"] = f"kiwari-ci==0.1.0 --hash=sha256:{'0' * 64}"
