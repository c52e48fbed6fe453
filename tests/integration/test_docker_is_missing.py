"""Without Docker the tests that need it are skipped and the end says so in one line; in CI that is a failure."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SUITE = "tests/docker/test_leftovers.py"
NOWHERE = "unix:///nowhere/docker.sock"


def run_suite(*options: str, **settings: str) -> tuple[int, list[str]]:
    """Exit code and output of a suite that needs Docker, run where `settings` say there is none."""
    inherited = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST_")}
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", SUITE, *options],
        cwd=ROOT,
        env=inherited | settings,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return ended.returncode, ended.stdout.splitlines()


def test_no_engine_is_told_aloud_in_one_line_at_the_end_and_the_tests_pass() -> None:
    code, lines = run_suite("--numprocesses", "2", DOCKER_HOST=NOWHERE)
    assert code == 0, lines
    aloud = [line for line in lines if line.startswith("!! ")]
    assert len(aloud) == 1
    assert aloud == lines[-2:-1]
    found = re.match(rf"!! (\d+) docker tests did not run: no Docker engine answers \({NOWHERE}: ", aloud[0])
    assert found, aloud
    assert re.search(rf"\b{found[1]} skipped\b", lines[-1])
    assert "To run them: start Docker" in aloud[0]


def test_no_engine_is_a_failure_in_ci() -> None:
    code, lines = run_suite(DOCKER_HOST=NOWHERE, CI="true")
    assert code == 1
    assert re.search(r"\b[1-9]\d* errors?\b", lines[-1])
    assert "skipped" not in lines[-1]
    assert f"no Docker engine answers ({NOWHERE}: " in "\n".join(lines)
