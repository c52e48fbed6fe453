"""`trekkpaalegg-sandbox up` hands out settings that work, and ends without a trace."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psycopg
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from dotenv import dotenv_values

from sandbox.cli.up import EmbeddedEverything

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

END_SECONDS_MAX = 120
Up = tuple["subprocess.Popen[str]", dict[str, str]]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Starts `up --json` with more options; the process, and the settings it printed."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> Up:
        process = subprocess.Popen(
            [sys.executable, "-m", "sandbox", "up", "--json", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        started.append(process)
        assert process.stdout is not None
        text = ""
        for line in process.stdout:
            text += line
            if line == "}\n":
                break
        assert text, process.communicate(timeout=30)[1]
        return process, json.loads(text)

    yield start
    for process in started:
        process.kill()
        process.communicate()


def servers_of(pid: int) -> dict[str, int]:
    """The last word of each child's command, and its pid."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    for thread in Path(f"/proc/{pid}/task").iterdir():
        children += (thread / "children").read_text(encoding="ascii").split()
    commands = {int(child): Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0") for child in children}
    return {" ".join(command): child for child, command in commands.items()}


def test_up_hands_out_working_settings_and_leaves_nothing(up: Callable[..., Up], tmp_path: Path) -> None:
    """When SIGTERM ends it; Ctrl-C does in `test_readme.py`."""
    env_file = tmp_path / "sandbox.env"
    process, settings = up("--env-file", str(env_file), "--trekkpliktige", "2", "--orders", "10")
    assert len(settings["TREKKPAALEGG_TREKKPLIKTIGE"].split(",")) == 3, "two generated and that of the examples"
    assert AdminClient({"bootstrap.servers": settings["KAFKA_BROKERS"]}).list_topics(timeout=30).brokers
    assert httpx.get(f"{settings['KAFKA_SCHEMA_REGISTRY']}/subjects").json() == []
    assert httpx.get(settings["MASKINPORTEN_WELL_KNOWN_URL"]).json()["token_endpoint"]
    assert httpx.get(settings["TREKKPAALEGG_API_URL"]).status_code == 401
    with psycopg.connect(settings["SANDBOX_LEDGER_URL"]) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert dotenv_values(env_file) == settings
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600, "it holds a private key"

    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(END_SECONDS_MAX) == 0
    assert list(tmp_path.iterdir()) == [env_file], "temporary folders are gone"
    with pytest.raises(httpx.ConnectError):
        httpx.get(settings["KAFKA_SCHEMA_REGISTRY"])


def test_up_with_a_port_that_is_taken_says_which_and_fails(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        second = subprocess.run(
            [sys.executable, "-m", "sandbox", "up", "--kafka-port", port],
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
    assert second.returncode == 1
    assert second.stderr.startswith(f"trekkpaalegg-sandbox: port {port} of 127.0.0.1 is in use")
    assert not second.stdout
    assert list(tmp_path.iterdir()) == []


def test_up_says_so_when_a_server_has_died_and_a_chosen_data_folder_serves_another_time_on_other_ports(
    up: Callable[..., Up], tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    process, first = up("--data-folder", str(folder))
    admin = AdminClient({"bootstrap.servers": first["KAFKA_BROKERS"]})
    admin.create_topics([NewTopic("kept", num_partitions=1, replication_factor=1)])["kept"].result(30)
    with SchemaRegistryClient({"url": first["KAFKA_SCHEMA_REGISTRY"]}) as registry:
        registry.register_schema("kept-value", Schema('"string"', "AVRO"))
    with psycopg.connect(first["SANDBOX_LEDGER_URL"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")

    (broker,) = (pid for command, pid in servers_of(process.pid).items() if "kafka.Kafka" in command)
    os.kill(broker, signal.SIGKILL)
    assert process.wait(END_SECONDS_MAX) == 1
    assert process.stderr is not None
    assert "kafka has ended by itself" in process.stderr.read()

    with EmbeddedEverything(data_folder=folder) as second:
        assert second.kafka.bootstrap_servers != first["KAFKA_BROKERS"]
        admin = AdminClient({"bootstrap.servers": second.kafka.bootstrap_servers})
        assert "kept" in admin.list_topics(timeout=30).topics
        assert httpx.get(f"{second.registry.url}/subjects", timeout=60).json() == ["kept-value"]
        with psycopg.connect(second.postgresql.url) as connection:
            assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
