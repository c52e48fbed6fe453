"""What the README tells a newcomer to type does what it says: its commands and its consumer are run as they stand."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
START_SECONDS_MAX = 300
COMMAND_SECONDS_MAX = 300


def block(language: str) -> str:
    """The one block of this language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return found


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """`make sandbox` and the folder where it was typed: everything runs, and `sandbox.env` is there."""
    here = tmp_path_factory.mktemp("readme")
    (here / "tmp").mkdir()
    with (here / "up.log").open("w") as log:
        up = subprocess.Popen(
            [BIN / "trekkpaalegg-sandbox", "up", "--env-file", "sandbox.env"],
            cwd=here,
            stdout=log,
            stderr=log,
            env={**os.environ, "TMPDIR": str(here / "tmp")},
        )
    try:
        deadline = time.monotonic() + START_SECONDS_MAX
        while not (here / "sandbox.env").exists():
            assert up.poll() is None, (here / "up.log").read_text()
            assert time.monotonic() < deadline, "the sandbox did not start in time"
            time.sleep(0.1)
        yield up, here
    finally:
        up.kill()
        up.wait()


@pytest.fixture(scope="module")
def folder(sandbox: tuple[subprocess.Popen[bytes], Path]) -> Path:
    return sandbox[1]


def run(command: list[str] | str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", **environment},
        shell=isinstance(command, str),
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS_MAX,
        check=False,
    )


def test_the_commands_to_try_by_hand_work_and_show_events(folder: Path) -> None:
    activate, *commands = block("sh").splitlines()
    assert activate == ". .venv/bin/activate"
    printed = ""
    for command in commands:
        ended = run(command, folder)
        assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
        printed += ended.stdout
    assert re.search(r"\d+ versions published", printed)
    assert not re.search(r"(?<!\d)\d{11}(?!\d)", printed)


def test_an_ordinary_consumer_reads_every_event_through_the_registry(folder: Path) -> None:
    """Subscribers need nothing of ours: Confluent's own deserializer, as the README shows it.

    The events are those that the commands have published.
    """
    settings = dict(line.split("=", 1) for line in (folder / "sandbox.env").read_text().splitlines())
    published = run("trekkpaalegg-producer position show --json --env-file sandbox.env", folder).stdout
    ended = run(
        [sys.executable, "-c", block("python")],
        folder,
        KAFKA_BROKERS=settings["KAFKA_BROKERS"],
        KAFKA_SCHEMA_REGISTRY=settings["KAFKA_SCHEMA_REGISTRY"],
    )
    assert ended.returncode == 0, ended.stderr
    events = [tuple(line.split()[:2]) for line in ended.stdout.splitlines()]
    assert len(events) == len(set(events)) > 100
    orders = sum(int(number) for number in re.findall(r'"orders": (\d+)', published))
    assert len({trekkid for trekkid, _ in events}) == orders


def test_ctrl_c_ends_the_sandbox_and_leaves_nothing(sandbox: tuple[subprocess.Popen[bytes], Path]) -> None:
    up, folder = sandbox
    up.send_signal(signal.SIGINT)
    assert up.wait(COMMAND_SECONDS_MAX) == 0
    assert list((folder / "tmp").iterdir()) == []
