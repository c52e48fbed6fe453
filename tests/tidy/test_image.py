"""What the images hold is what the project says: the same locked versions, the same version of its own."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

from tests.kit.containers import images

PINNED = re.compile(r"^([a-z0-9.-]+)==(\S+) \\$", re.MULTILINE)


def test_the_images_dependencies_are_those_that_tests_run_with(tree: Any) -> None:
    """`requirements-runtime.lock` leaves out what the sandbox and development need; the rest is the same."""
    everything = tree.text("requirements.lock")
    images = tree.text("requirements-runtime.lock")
    pinned = dict(PINNED.findall(images))
    assert pinned.items() <= dict(PINNED.findall(everything)).items()
    assert set(re.findall(r"sha256:\w+", images)) <= set(re.findall(r"sha256:\w+", everything))
    wanted = tomllib.loads(tree.text("pyproject.toml"))["project"]["dependencies"]
    assert {re.split(r"[\[<>=]", each)[0] for each in wanted} <= pinned.keys()


def test_the_images_have_the_projects_version(tree: Any) -> None:
    version = tomllib.loads(tree.text("pyproject.toml"))["project"]["version"]
    assert f"\nARG VERSION={version}\n" in tree.text("Dockerfile")


@pytest.mark.parametrize("image", [images.KAFKA, images.REGISTRY, images.POSTGRESQL, images.PROMETHEUS, images.PYTHON])
def test_compose_starts_the_images_that_tests_run_with(tree: Any, image: images.Image) -> None:
    assert f"${{{image.setting}:-{image.public}}}" in tree.text("docker-compose.yml")
