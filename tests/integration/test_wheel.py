"""The wheel: one top-level package that clashes with nothing, and extras without which the rest still works.

No package is fetched: an installation is a folder with the wheel's files and links to the distributions that its
metadata asks for, run by a Python without `site-packages`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from functools import cache
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
NAME = "trekkpaalegg-stream"
GENERIC_NAMES = ("producer", "consumers", "schemas", "sandbox")
IMPORT_ALL = """
import pkgutil, sys, trekkpaalegg
names = [found.name for found in pkgutil.walk_packages(trekkpaalegg.__path__, "trekkpaalegg.")]
for name in names:
    if "__main__" not in name and ".migrations" not in name:
        __import__(name)
print(len(names), sorted({"producer", "consumers", "sandbox", "schemas"} & sys.modules.keys()))
"""

HELP_OF_COMMANDS = """
import sys
from trekkpaalegg.consumers.cli.main import run_command
sys.exit(max(run_command([command, "--help"]) for command in sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def install(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """An installation of the wheel with these extras, as a folder; one for each set of extras."""

    @cache
    def installed(*extras: str) -> Path:
        folder = tmp_path_factory.mktemp("site")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        (metadata,) = folder.glob("*.dist-info")
        for found in requirements_of(Distribution.at(metadata), set(extras), {}).values():
            for name in {path.parts[0] for path in found.files or () if path.parts[0] != ".."}:
                link = folder / name
                if not link.exists():
                    link.symlink_to(Path(str(found.locate_file(name))))
        return folder

    return installed


def requirements_of(
    of: Distribution, extras: set[str], known: dict[tuple[str, str], Distribution]
) -> dict[tuple[str, str], Distribution]:
    """Every distribution that an installer would bring, all the way down."""
    for text in of.requires or ():
        requirement = Requirement(text)
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            continue
        if requirement.name == NAME:
            requirements_of(of, set(requirement.extras), known)
            continue
        for extra in {"", *requirement.extras}:
            if (requirement.name, extra) not in known:
                known[requirement.name, extra] = found = distribution(requirement.name)
                requirements_of(found, {extra}, known)
    return known


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), "HOME": str(folder)}
    return subprocess.run(
        [sys.executable, "-S", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_wheel_has_one_top_level_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"trekkpaalegg"}
    assert "trekkpaalegg/py.typed" in names
    assert "trekkpaalegg/schemas/trekkpaalegg_versjon.avsc" in names
    assert not [name for name in names if "/tests/" in name or name.endswith(".pyc")]


def test_every_module_imports_from_below_the_library(install: Callable[..., Path]) -> None:
    looked = run(install("sandbox"), "-c", IMPORT_ALL)
    assert looked.returncode == 0, looked.stderr
    count, of_the_repository = looked.stdout.split(maxsplit=1)
    assert int(count) > 100
    assert of_the_repository.strip() == "[]"


@pytest.mark.parametrize("program", ["producer", "consumers", "sandbox"])
def test_the_programs_run_beside_packages_with_generic_names(program: str, install: Callable[..., Path]) -> None:
    folder = install("sandbox")
    for name in GENERIC_NAMES:
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "__init__.py").write_text(f"OWNER = 'the vendor, {name}'\n")
    helped = run(folder, "-m", f"trekkpaalegg.{program}", "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "Example: trekkpaalegg-" in helped.stdout or program == "sandbox"
    asked = run(folder, "-c", f"import {program}, schemas, trekkpaalegg.decode; print({program}.OWNER, schemas.OWNER)")
    assert asked.stdout.strip() == f"the vendor, {program} the vendor, schemas"


def test_the_consumers_need_nothing_that_is_only_for_the_producer(install: Callable[..., Path]) -> None:
    folder = install()
    assert not (folder / "jwt").exists()
    helped = run(folder, "-c", HELP_OF_COMMANDS, "run", "replay", "tail", "verify", "retry")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert run(folder, "-c", "import trekkpaalegg.decode, trekkpaalegg.event").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("consumers", "payout", "--date", "2026-12-15"), "payout"),
        (("consumers", "webhook"), "webhook"),
        (("consumers", "verify", "--api"), "verify-api"),
        (("producer", "once"), "producer"),
        (("producer", "topics", "apply"), "producer"),
        (("sandbox", "demo"), "sandbox"),
    ],
)
def test_a_command_whose_extra_is_missing_says_which(
    arguments: tuple[str, ...], extra: str, install: Callable[..., Path]
) -> None:
    ended = run(install(), "-m", f"trekkpaalegg.{arguments[0]}", *arguments[1:])
    assert ended.returncode == 1
    assert f"pip install '{NAME}[{extra}]'" in ended.stderr
    assert "Traceback" not in ended.stderr
