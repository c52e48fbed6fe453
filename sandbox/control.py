"""JSON commands in, changes of the simulated world out: the control address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

    from sandbox.outside import OutsideWorld


def control_app(world: OutsideWorld) -> Starlette:
    """The application over one world."""

    async def counts(_: Request) -> Response:
        return JSONResponse(world.skatteetaten.summary())

    return Starlette(routes=[Route("/control/counts", counts)])
