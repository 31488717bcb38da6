"""`kiwari-ci init`, and images that are built from the images of other services."""

from pathlib import Path
from typing import Any

import pytest

from kiwari_ci.commands.init import build_init_result
from kiwari_ci.commands.init.draft_text import InitResult
from kiwari_ci.spec_loading.yaml_source import parse_yaml
from tests.init_drafts import draft_files

BUILD = (
    "      - uses: docker/build-push-action@v6\n"
    "        with: {{context: {0}, push: true, tags: 'ghcr.io/example/shop-{0}:1'{1}}}\n"
)
IMAGE = "ghcr.io/example/shop-base"


def draft(folder: Path, dockerfile: str, inputs: str = "") -> tuple[dict[str, Any], InitResult]:
    """The draft where a service may be built from the image that another Dockerfile makes."""
    steps = BUILD.format("base", "") + BUILD.format("web", inputs)
    job = f"  build:\n    runs-on: ubuntu-latest\n    steps:\n{steps}"
    files = {
        "base/Dockerfile": "FROM node:22\n",
        "web/Dockerfile": f"{dockerfile}COPY . .\nEXPOSE 3000\n",
        "web/a.js": "",
        ".github/workflows/ci.yml": f"on: push\nenv: {{REGISTRY: ghcr.io}}\njobs:\n{job}",
    }
    return draft_files(folder, files)


def list_questions(result: InitResult) -> str:
    return "\n".join(question for _, question in result.decisions)


@pytest.mark.parametrize(
    ("dockerfile", "inputs"),
    [
        (f"ARG BASE={IMAGE}:latest\nFROM $BASE\n", ""),
        (f"ARG BASE={IMAGE}:latest\nFROM ${{BASE}} AS run\n", ""),
        ("ARG BASE\nFROM $BASE\n", f", build-args: 'BASE={IMAGE}:latest'"),
        ("ARG BASE\nFROM --platform=linux/amd64 $BASE\n", f", build-args: 'BASE={IMAGE}:${{{{ github.sha }}}}'"),
        ("ARG BASE\nFROM $BASE\n", ", build-args: 'BASE=${{ env.REGISTRY }}/example/shop-base:1'"),
        ("ARG BASE\nFROM $BASE\n", ", build-args: 'BASE=${{ vars.REGISTRY }}/shop-base:1'"),
    ],
)
def test_an_argument_that_is_the_image_of_a_service_becomes_its_base(
    tmp_path: Path, dockerfile: str, inputs: str
) -> None:
    spec, result = draft(tmp_path, dockerfile, inputs)
    build = spec["services"]["web"]["build"]
    assert build["base"] == {"BASE": "base"} and "args" not in build
    assert "port" not in spec["services"]["base"]
    assert "ARG" not in list_questions(result)
    assert not [line for line in result.seen if "build argument" in line]


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        (f"{IMAGE}:latest", ""),
        (f"{IMAGE}:$TAG", "ARG TAG=latest\n"),
        ("${REGISTRY}/shop-base:${TAG}", "ARG REGISTRY=ghcr.io/example\nARG TAG\n"),
        ("${REGISTRY}/shop-base", "ARG REGISTRY\n"),
    ],
)
def test_a_name_of_the_image_of_a_service_is_asked_with_the_lines(
    tmp_path: Path, written: str, arguments: str
) -> None:
    spec, result = draft(tmp_path, f"{arguments}FROM {written}\n")
    assert spec["services"]["web"]["build"]["base"] == {"BASE_IMAGE": "base"}
    line = arguments.count("\n") + 1
    assert f"web/Dockerfile:{line} has `FROM {written}`, the image of base" in list_questions(result)
    assert "`ARG BASE_IMAGE` before the first `FROM`, and here `FROM $BASE_IMAGE`" in list_questions(result)


def test_files_of_the_image_of_a_service_are_asked(tmp_path: Path) -> None:
    spec, result = draft(tmp_path, f"FROM node:22\nCOPY --from={IMAGE}:latest /x /x\n")
    assert spec["services"]["web"]["build"]["base"] == {"BASE_IMAGE": "base"}
    assert "`FROM $BASE_IMAGE AS base`, and here `COPY --from=base`" in list_questions(result)


@pytest.mark.parametrize("value", ["service:base", f"docker-image://{IMAGE}"])
def test_a_context_of_a_compose_file_becomes_the_base(tmp_path: Path, value: str) -> None:
    compose = (
        f"services:\n  base: {{build: base, image: {IMAGE}, profiles: [build]}}\n"
        f"  web: {{build: {{context: web, additional_contexts: {{shared: '{value}'}}}}}}\n"
    )
    for path, text in {"base/Dockerfile": "FROM node:22\n", "web/Dockerfile": "FROM shared\n"}.items():
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text(text)
    (tmp_path / "compose.yml").write_text(compose)
    result = build_init_result(tmp_path, "example/shop")
    services = parse_yaml(result.path, result.text).data["services"]
    assert services["web"]["build"]["base"] == {"SHARED": "base"}
    assert "port" not in services["base"]
    assert "`FROM $SHARED AS shared`" in list_questions(result)


@pytest.mark.parametrize("dockerfile", ["ARG IMAGE\nFROM $IMAGE\n", "ARG TAG\nFROM node:${TAG}\n"])
def test_a_base_of_which_nothing_says_the_value_is_told(tmp_path: Path, dockerfile: str) -> None:
    _, result = draft(tmp_path, dockerfile)
    written = dockerfile.split()[-1]
    assert any(f"`FROM {written}` (web/Dockerfile:2)" in line for line in result.seen)


@pytest.mark.parametrize("dockerfile", ["ARG TAG=22\nFROM node:$TAG\n", "FROM node:22 AS a\nFROM a\n", "FROM node\n"])
def test_the_image_of_others_is_no_base(tmp_path: Path, dockerfile: str) -> None:
    spec, result = draft(tmp_path, dockerfile)
    assert "base" not in spec["services"]["web"].get("build", {})
    assert not [line for line in result.seen if "FROM" in line]
