"""A simulated server that stops breaks every connection: whoever still held one would wait for answers in vain."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

from sandbox.servers.http import ServerThread
from sandbox.servers.server import LOOPBACK

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

ROUNDS = 10
KNOCKERS = 3


async def answer_nothing(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_no_connection_outlives_a_stop_not_even_one_that_came_while_it_stopped() -> None:
    opened: list[socket.socket] = []
    is_over = threading.Event()

    def knock() -> None:
        while not is_over.wait(0.001):
            with contextlib.suppress(OSError):
                opened.append(socket.create_connection((LOOPBACK, server.port), timeout=10))

    with ServerThread(answer_nothing) as server:
        knockers = [threading.Thread(target=knock) for _ in range(KNOCKERS)]
        for each in knockers:
            each.start()
        for _ in range(ROUNDS):
            server.stop()
            server.start()
        server.stop()
        is_over.set()
        for each in knockers:
            each.join()
        assert opened
        for connection in opened:
            with connection, contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""
