"""The workflow's own step that has an image scanned: the scanner gets its bytes as a file, and has the last word.

A stand-in: the scanner is the tests' own small service, which ends as its words say.
"""

import tarfile
from pathlib import Path

import pytest
import yaml

from kiwari_ci import generator
from tests.engine.images import REGISTRY, Images
from tests.engine.server import Server

SPEC = """\
project: {name: shop, repository: iqbalmuhyiddin/shop}
hosts: {vps: {}}
services: {web: {image: kiwari-api, port: 8081, build: {scan: {image: SCANNER, command: [ends, "CODE", "/image.tar"]}}}}
environments: {live: {deploy_on: {push: main}}}
"""


@pytest.mark.parametrize("code", [0, 3])
def test_the_scanner_decides(server: Server, images: Images, tmp_path: Path, code: int) -> None:
    images.push("scanner", "scan", tag="1")
    digest = images.api("scanned")
    spec = tmp_path / "shop.yaml"
    spec.write_text(SPEC.replace("SCANNER", f"{REGISTRY}/scanner:1").replace("CODE", str(code)))
    workflow = yaml.safe_load(generator.generate_files(spec)[1][".github/workflows/web-ci.yml"].text)
    steps = workflow["jobs"]["build-and-push"]["steps"]
    names = [step.get("name") for step in steps]
    assert names[-2:] == ["Build and push", "Scan the image"]
    env = {
        "IMAGE": f"{REGISTRY}/kiwari-api@{digest}",
        "RUNNER_TEMP": str(tmp_path),
        "DOCKER_CONFIG": images.login,  # the job has logged in
    }

    result = server.run("bash", "-eo", "pipefail", "-c", steps[-1]["run"], check=False, env=env)

    assert result.returncode == code, result.stdout
    assert 'version scan runs once: ["/image.tar"]' in result.stdout
    with tarfile.open(tmp_path / "image.tar") as saved:
        assert "manifest.json" in saved.getnames()
