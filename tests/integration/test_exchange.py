"""One HTTP exchange against servers that break off, trickle, hang or talk something else."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from producer.source.http import exchange, open_http_client
from trekkpaalegg.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with open_http_client(5) as client:
        yield client


@contextmanager
def raw_server(*pieces: bytes, pause_seconds: float = 0.0) -> Iterator[str]:
    """A server that sends each caller these bytes, piece by piece, and hangs up; its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                for piece in pieces:
                    try:
                        connection.sendall(piece)
                    except OSError:
                        break
                    if over.wait(pause_seconds):
                        return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_an_empty_body_that_may_have_been_cut_off_is_no_answer(http: httpx.Client) -> None:
    with raw_server(b"HTTP/1.1 200 OK\r\n\r\n") as address, pytest.raises(RetryableError, match="cut off"):
        exchange(http, "GET", address)
    with raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as address:
        assert exchange(http, "GET", address).body == b""
    with raw_server(b"HTTP/1.1 403 Forbidden\r\n\r\n") as address:
        assert exchange(http, "GET", address).status == 403


def test_an_answer_that_trickles_is_given_up_at_the_deadline(http: httpx.Client) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    with raw_server(head, *[b"a"] * 1000, pause_seconds=0.02) as address:
        begun = time.monotonic()
        with pytest.raises(RetryableError, match="trickled"):
            exchange(http, "GET", address, seconds_max=0.2)
        assert time.monotonic() - begun < 2


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b"",
    ],
)
def test_a_broken_answer_is_a_retryable_error_without_its_content(http: httpx.Client, answer: bytes) -> None:
    with raw_server(answer) as address, pytest.raises(RetryableError) as caught:
        exchange(http, "GET", address)
    assert "abc" not in str(caught.value)
    assert "SSH" not in str(caught.value)


def test_a_call_that_hangs_is_broken_off_after_a_stop() -> None:
    stopping = threading.Event()
    with (
        raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", pause_seconds=30) as address,
        open_http_client(1, stopping) as http,
        ThreadPoolExecutor(1) as threads,
    ):
        call = threads.submit(exchange, http, "GET", address)
        with pytest.raises(TimeoutError):
            call.result(timeout=0.3)
        stopping.set()
        begun = time.monotonic()
        assert isinstance(call.exception(timeout=10), RetryableError)
        assert time.monotonic() - begun < 6


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/", "gopher://a/", "http://[/", "nothing"])
def test_an_address_that_leads_nowhere_is_a_retryable_error(http: httpx.Client, address: str) -> None:
    with pytest.raises(RetryableError):
        exchange(http, "GET", address)


def test_a_closed_client_is_a_retryable_error() -> None:
    closed = open_http_client(1)
    closed.close()
    with pytest.raises(RetryableError, match="closed"):
        exchange(closed, "GET", "http://127.0.0.1:1/")
