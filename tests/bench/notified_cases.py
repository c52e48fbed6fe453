"""The cases of notifications: how long after a change at the source its event can be read committed.

The rate is kept whatever the producer does: a call that hangs does not delay others. The clock starts just before the
call, when the source has the change, and ends when a `read_committed` consumer has the event.
"""

from __future__ import annotations

import json
import random
import socket
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from notified_bare import bare_waits
from producer_cases import bench_settings, make_topics
from producer_stage import Arrivals, lanes_of, metric, start_producer, until

from producer.admin.kafka import KafkaAdmin
from producer.notifications.event import ORGANISATION, RESOURCE
from producer.publish.topics import PARTITIONS_DEFAULT, Topics
from sandbox.servers.server import free_port
from tests.kit.processes import OutsideProcess
from trekkpaalegg.kafka.properties import kafka_properties

if TYPE_CHECKING:
    from collections.abc import Sequence


CHANGES_A_SECOND = 50
EMPLOYERS = 200
BACKFILLED_EMPLOYERS = 40
BACKFILLED_TOLD_EVERY = 10
"""While orders are back-filled, every so many-th change is one of an employer whose own orders are."""

_TELLERS = 16
_SECRET = "a-secret-of-forty-characters-0123456789ab"
_PERCENT = 100


def notified(changes: int, orders: int, brokers: str) -> dict[str, float]:
    """Changes of employers that are known, while the `orders` of others come for the first time; then the bare loop."""
    with ExitStack() as opened:
        outside = opened.enter_context(
            OutsideProcess("--trekkpliktige", str(EMPLOYERS), "--orders", "0", "--no-examples")
        )
        settings, environment = bench_settings(outside, brokers)
        make_topics(KafkaAdmin(kafka_properties(settings)), settings.topic_prefix)
        arrivals = Arrivals(brokers, Topics.of(settings.topic_prefix).versjoner)
        opened.callback(arrivals.close)
        listed = Path(opened.enter_context(tempfile.TemporaryDirectory())) / "trekkpliktige"
        listed.write_text("\n".join(outside.trekkpliktige))
        port = free_port()
        producer = start_producer(opened, _told(environment, listed, port))
        until(lambda: lanes_of(producer) == PARTITIONS_DEFAULT, "all lanes are taken")
        until(lambda: metric(producer, 'trekkpaalegg_readings_total{outcome="ok"}') >= EMPLOYERS, "all were read")
        backfilled: Sequence[str] = ()
        if orders:
            backfilled = outside.control(
                "generate", trekkpliktige=BACKFILLED_EMPLOYERS, orders=orders, seed=1, versions_max=1
            )
            listed.write_text("\n".join([*outside.trekkpliktige, *backfilled]))
            until(lambda: arrivals.at, "the first event of the back-fill has come")
        told = _Teller(outside, port)
        opened.callback(told.close)
        sent, took = told.run(changes, outside.trekkpliktige, backfilled)
        still_busy = len(arrivals.at) - len(sent) < orders
        until(lambda: sent.keys() <= arrivals.at.keys(), "every change has come")
        waits = {name: (arrivals.at[name] - at) * 1000 for name, (at, _) in sent.items()}
        measures = {
            **_spread("", [wait for name, wait in waits.items() if sent[name][1] not in backfilled]),
            **_spread("own_backfill_", [wait for name, wait in waits.items() if sent[name][1] in backfilled]),
            "changes_a_second": changes / took,
            "answered_p99_milliseconds": _at_percent([each * 1000 for each in told.answered], 99),
        }
        if orders:
            measures["backfill_outlasted_it"] = float(still_busy)
        if not orders:
            producer.stop()
            bare = bare_waits(changes, CHANGES_A_SECOND, outside, brokers)
            for name, each in bare.items():
                measures |= _spread(f"{name}_", each)
            measures["p99_of_bare"] = measures["p99_milliseconds"] / measures["bare_p99_milliseconds"]
    return measures


def _told(environment: dict[str, str], listed: Path, port: int) -> dict[str, str]:
    told = {name: value for name, value in environment.items() if name != "TREKKPAALEGG_TREKKPLIKTIGE"}
    return {
        **told,
        "TREKKPAALEGG_TREKKPLIKTIGE_FILE": str(listed),
        "TREKKPAALEGG_SOURCE": "notification",
        "TREKKPAALEGG_WEBHOOK_PORT": str(port),
        "TREKKPAALEGG_WEBHOOK_URL": f"http://127.0.0.1:{port}",
        "TREKKPAALEGG_WEBHOOK_SECRET": _SECRET,
    }


class _Teller:
    """Makes changes at the source and tells the receiver of each, as Altinn does."""

    def __init__(self, outside: OutsideProcess, port: int) -> None:
        self._control = urlsplit(outside.control_url)
        self._port = port
        self._own = threading.local()
        self._connections: list[HTTPConnection] = []
        self.answered: list[float] = []

    def run(
        self, changes: int, employers: Sequence[str], backfilled: Sequence[str]
    ) -> tuple[dict[str, tuple[float, str]], float]:
        """When each order was told of, with its employer, by trekkid; and how long all of it took."""
        chosen, begun = random.Random(0), time.monotonic()
        with ThreadPoolExecutor(_TELLERS) as pool:
            telling = []
            for number in range(changes):
                some = backfilled if backfilled and number % BACKFILLED_TOLD_EVERY == 0 else employers
                time.sleep(max(begun + number / CHANGES_A_SECOND - time.monotonic(), 0.0))
                telling.append(pool.submit(self._change, number, chosen.choice(some)))
            sent = dict(each.result() for each in telling)
        return sent, time.monotonic() - begun

    def close(self) -> None:
        for each in self._connections:
            each.close()

    def _change(self, number: int, employer: str) -> tuple[str, tuple[float, str]]:
        made = json.loads(self._post("control", f"{self._control.path}/create", {"trekkpliktig": employer}))
        event = {
            "specversion": "1.0",
            "id": f"00000000-0000-4000-8000-{number:012}",
            "type": "dialogporten.dialog.updated.v1",
            "resource": RESOURCE,
            "subject": f"{ORGANISATION}{employer}",
            "source": "https://127.0.0.1/",
        }
        at = time.monotonic()
        self._post("receiver", f"/notifications/{_SECRET}", event)
        self.answered.append(time.monotonic() - at)
        return made["trekkid"], (at, employer)

    def _post(self, where: str, path: str, body: dict[str, Any]) -> bytes:
        """On a connection that this thread keeps; a server closes one that was idle for some seconds."""
        connection: HTTPConnection | None = getattr(self._own, where, None)
        for is_last_try in (connection is None, True):
            if connection is None:
                connection = self._connect(where)
            try:
                connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
                answer = connection.getresponse()
            except (BrokenPipeError, ConnectionResetError):
                if is_last_try:
                    raise
                connection = None
            else:
                break
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"the {where} answered {answer.status}: {content[:200]!r}")
        return content

    def _connect(self, where: str) -> HTTPConnection:
        port = self._port if where == "receiver" else self._control.port
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        setattr(self._own, where, connection)
        self._connections.append(connection)
        return connection


def _spread(prefix: str, waits: list[float]) -> dict[str, float]:
    if not waits:
        return {}
    return {
        f"{prefix}p50_milliseconds": statistics.median(waits),
        f"{prefix}p99_milliseconds": _at_percent(waits, 99),
        f"{prefix}max_milliseconds": max(waits),
    }


def _at_percent(waits: list[float], percent: int) -> float:
    return sorted(waits)[min(len(waits) * percent // _PERCENT, len(waits) - 1)]
