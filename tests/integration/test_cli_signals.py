"""The program as a process: what a signal does to a command at work."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from producer.cli import PROGRAM
from trekkpaalegg.cli import ExitCode

DEADLINE_SECONDS = 30


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_command_with_4_and_no_traceback(number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(DEADLINE_SECONDS)
        environ = {**os.environ, "KAFKA_BROKERS": f"127.0.0.1:{silent.getsockname()[1]}"}
        command = [sys.executable, "-m", "producer", "topics", "apply"]
        with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
            try:
                accepted, _ = silent.accept()
                with accepted:
                    process.send_signal(number)
                    _, told = process.communicate(timeout=DEADLINE_SECONDS)
            finally:
                process.kill()
    assert process.returncode == ExitCode.STOPPED, told
    assert told.strip() == f"{PROGRAM}: stopped by a signal before it was done"
