"""The HTTP interface of the simulated Skatteetaten, which also breaks connections on demand.

Plain ASGI rather than routes: a page of a back-fill should cost one join, and a broken connection needs the transport,
which `sandbox.servers.http` puts in the scope's state.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING

from sandbox.skatteetaten.answer import Answer, AnswerDelivery, Request, answer

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from sandbox.maskinporten.tokens import TokenStore
    from sandbox.skatteetaten.state import Skatteetaten

_CHUNK_BYTES = 1 << 18
_LINGER_OFF = struct.pack("ii", 1, 0)


class SkatteetatenApp:
    """The ASGI application over one state and one token store."""

    def __init__(self, state: Skatteetaten, tokens: TokenStore) -> None:
        self._state = state
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a call counts as under way until its answer is handed to the connection."""
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        raw_path: bytes = scope["raw_path"]
        request = Request(scope["method"], raw_path.decode("latin-1"), scope["query_string"].decode("latin-1"), headers)
        result = answer(self._state, self._tokens, request)
        try:
            if result.delay_seconds and await _is_gone_after(result.delay_seconds, receive):
                return
            await _deliver(result, scope, receive, send)
        finally:
            if result.supplier is not None:
                self._state.leave(result.supplier)


async def _is_gone_after(delay_seconds: float, receive: Receive) -> bool:
    """Wait; True as soon as the caller has gone, so that a call given up no longer counts as under way."""

    async def disconnected() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(disconnected(), delay_seconds)
        return True
    return False


async def _deliver(result: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    transport: asyncio.Transport = scope["state"]["transport"]
    match result.delivery:
        case AnswerDelivery.WHOLE:
            await _start(result, len(result.body), send)
            await send({"type": "http.response.body", "body": result.body})
        case AnswerDelivery.RESET:
            # Without lingering the kernel sends RST instead of an orderly end.
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
            transport.abort()
            await receive()
        case AnswerDelivery.TRUNCATED:
            await _start(result, len(result.body), send)
            await send({"type": "http.response.body", "body": result.body[: len(result.body) // 2], "more_body": True})
            transport.close()
            await receive()
        case AnswerDelivery.FILLER:
            await _start(result, None, send)
            await _fill(result.filler_bytes, transport, send)


async def _start(result: Answer, length: int | None, send: Send) -> None:
    headers = [(name.encode(), value.encode("latin-1")) for name, value in result.headers.items()]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    await send({"type": "http.response.start", "status": result.status, "headers": headers})


async def _fill(size_bytes: int, transport: asyncio.Transport, send: Send) -> None:
    chunk, left = b"x" * _CHUNK_BYTES, max(size_bytes - 4, 0)
    await send({"type": "http.response.body", "body": b'["', "more_body": True})
    while left > 0 and not transport.is_closing():
        await send({"type": "http.response.body", "body": chunk[:left], "more_body": True})
        left -= _CHUNK_BYTES
    await send({"type": "http.response.body", "body": b'"]'})
