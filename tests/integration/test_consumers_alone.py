"""`consumers`, `trekkpaalegg` and `schemas`, copied out of the project, run without the rest of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOOK = """
import sys
import consumers.cli.main
print(consumers.cli.main.__file__)
print(sorted({name.split('.')[0] for name in sys.modules} & {"producer", "sandbox"}))
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for folder in ("consumers", "schemas", "trekkpaalegg"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_every_command_is_there_and_nothing_of_the_producer_is_loaded(copy: Path) -> None:
    looked = subprocess.run([sys.executable, "-c", LOOK], cwd=copy, capture_output=True, text=True, check=True)
    assert looked.stdout.splitlines() == [str(copy / "consumers" / "cli" / "main.py"), "[]"]
    for command in ("run", "retry", "replay", "payout", "tail", "verify", "webhook"):
        helped = subprocess.run(
            [sys.executable, "-m", "consumers", command, "--help"],
            cwd=copy,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (helped.returncode, helped.stderr) == (0, ""), command
        assert "Example: trekkpaalegg-consumer" in helped.stdout
