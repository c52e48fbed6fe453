"""TLS and basic authentication before a real registry, as platforms have it."""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING

import httpx
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from sandbox.servers.http import ServerThread

if TYPE_CHECKING:
    from starlette.requests import Request

    from sandbox.servers.certificates import Identity

_METHODS = ["GET", "POST", "PUT", "DELETE"]
_UNAUTHORIZED = 401
_KEPT = ("content-type", "accept")


class RegistryDoor(ServerThread):
    """Passes on to the registry at `url` what comes over TLS from `user` with `password`; all else gets 401."""

    def __init__(self, url: str, identity: Identity, user: str, password: str) -> None:
        base, _, path = url.partition("/apis")
        self._base = base
        self._path = f"/apis{path}"
        self._allowed = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        app = Starlette(routes=[Route("/{path:path}", self._pass_on, methods=_METHODS)])
        super().__init__(app, identity=identity)

    @property
    def url(self) -> str:
        """Base address as Confluent clients want it."""
        return f"https://127.0.0.1:{self.port}{self._path}"

    async def _pass_on(self, request: Request) -> Response:
        if not secrets.compare_digest(request.headers.get("authorization", ""), self._allowed):
            return Response('{"error_code":401,"message":"Unauthorized"}', _UNAUTHORIZED, media_type="application/json")
        headers = {name: request.headers[name] for name in _KEPT if name in request.headers}
        asked = f"{self._base}{request.scope['raw_path'].decode()}"
        async with httpx.AsyncClient(timeout=60) as client:
            answer = await client.request(
                request.method,
                asked,
                params=dict(request.query_params),
                content=await request.body(),
                headers=headers,
            )
        return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))
