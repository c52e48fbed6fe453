"""The health addresses over real HTTP."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import httpx
import pytest

from producer.observe.health import ProducerHealth
from tests.kit.waiting import TurnedClock
from trekkpaalegg.errors import SettingsError
from trekkpaalegg.http import HealthServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def health(clock: TurnedClock) -> ProducerHealth:
    return ProducerHealth(monotonic=clock)


def serving(health: ProducerHealth, metrics: bytes = b"", *, port: int = 0) -> HealthServer:
    return HealthServer(health, lambda: metrics, host="127.0.0.1", port=port, setting="THE_PORT")


@pytest.fixture
def client(health: ProducerHealth) -> Iterator[httpx.Client]:
    with (
        serving(health, b"trekkpaalegg_lanes 6.0\n") as server,
        httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as connected,
    ):
        yield connected


def test_alive_as_long_as_every_loop_beats(client: httpx.Client, health: ProducerHealth, clock: TurnedClock) -> None:
    beat = health.heartbeat("lane 0", 30)
    clock.seconds += 30
    assert client.get("/livez").status_code == 200
    clock.seconds += 1
    stuck = client.get("/livez")
    assert (stuck.status_code, stuck.json()) == (503, {"alive": False, "stuck_seconds": {"lane 0": 31.0}})
    beat()
    assert client.get("/livez").json() == {"alive": True, "stuck_seconds": {}}


def test_a_loop_that_has_ended_need_not_beat(client: httpx.Client, health: ProducerHealth, clock: TurnedClock) -> None:
    health.heartbeat("lane 0", 30)
    health.unwatch("lane 0")
    clock.seconds += 100
    assert client.get("/livez").status_code == 200


def test_a_dependency_that_is_down_makes_it_unready_but_not_dead(client: httpx.Client, health: ProducerHealth) -> None:
    health.set_ready("kafka")
    assert client.get("/readyz").json() == {"ready": True, "missing": {}}
    health.set_ready("source", "no answer yet")
    unready = client.get("/readyz")
    assert (unready.status_code, unready.json()) == (503, {"ready": False, "missing": {"source": "no answer yet"}})
    assert client.get("/livez").status_code == 200
    health.set_ready("source")
    assert client.get("/readyz").status_code == 200


def test_caught_up_is_told_and_required_only_where_a_program_has_a_backlog(health: ProducerHealth) -> None:
    caught_up = False
    with HealthServer(
        health, lambda: b"", host="127.0.0.1", port=0, setting="THE_PORT", is_caught_up=lambda: caught_up
    ) as server:
        address = f"http://127.0.0.1:{server.port}/readyz"
        assert httpx.get(address).json() == {"ready": True, "caught_up": False, "missing": {}}
        unready = httpx.get(f"{address}?caught-up")
        assert (unready.status_code, unready.json()["missing"].keys()) == (503, {"caught-up"})
        caught_up = True
        assert httpx.get(f"{address}?caught-up").json() == {"ready": True, "caught_up": True, "missing": {}}


def test_metrics_are_served_in_the_text_format(client: httpx.Client) -> None:
    answer = client.get("/metrics")
    assert answer.text == "trekkpaalegg_lanes 6.0\n"
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_other_addresses_are_not_found(client: httpx.Client) -> None:
    assert client.get("/").status_code == 404


def test_a_taken_port_is_a_fault_of_the_settings(health: ProducerHealth) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = serving(health, port=port)
        with pytest.raises(SettingsError, match=f"THE_PORT: 127.0.0.1:{port} cannot be bound"):
            server.start()


def test_closing_frees_the_port_and_ends_the_thread(health: ProducerHealth) -> None:
    with serving(health) as server:
        port = server.port
    socket.create_server(("127.0.0.1", port), reuse_port=False).close()
    assert "health" not in [thread.name for thread in threading.enumerate()]
