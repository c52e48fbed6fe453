"""The HTTP interface of the simulated Maskinporten: its metadata, tokens and documented errors."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.maskinporten.grant import ALGORITHMS, GrantError, check_grant, claimed_party

if TYPE_CHECKING:
    from starlette.requests import Request

    from sandbox.maskinporten.state import Maskinporten, ScriptedError

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_FORM = "application/x-www-form-urlencoded"


def maskinporten_app(state: Maskinporten) -> Starlette:
    """The application over one state."""

    async def metadata(_: Request) -> Response:
        return JSONResponse(
            {
                "issuer": state.issuer,
                "token_endpoint": f"{state.issuer}token",
                "jwks_uri": f"{state.issuer}jwk",
                "token_endpoint_auth_methods_supported": ["private_key_jwt"],
                "grant_types_supported": [GRANT_TYPE],
                "token_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
                "authorization_details_types_supported": ["urn:altinn:systemuser"],
            }
        )

    async def keys(_: Request) -> Response:
        return JSONResponse({"keys": []})

    async def token(request: Request) -> Response:
        if state.latency_seconds:
            await asyncio.sleep(state.latency_seconds)
        form = parse_qs((await request.body()).decode("latin-1"))
        if request.headers.get("content-type", "").split(";")[0].strip() != _FORM:
            return _error("invalid_request", "Content-Type must be application/x-www-form-urlencoded")
        return answer_token_call(state, form.get("grant_type", [""])[0], form.get("assertion", [""])[0])

    return Starlette(
        routes=[
            Route("/.well-known/oauth-authorization-server", metadata),
            Route("/jwk", keys),
            Route("/token", token, methods=["POST"]),
        ]
    )


def answer_token_call(state: Maskinporten, grant_type: str, assertion: str) -> Response:
    """A token for a grant that holds, the documented error for one that does not, a scripted one where there is one."""
    scripted = state.scripted_error(claimed_party(assertion))
    if scripted is not None:
        state.count(f"scripted {scripted.status}")
        return _scripted(scripted)
    if grant_type != GRANT_TYPE:
        state.count("unsupported_grant_type")
        return _error("unsupported_grant_type", "grant_type must be the JWT bearer grant")
    try:
        grant = check_grant(state, assertion)
    except GrantError as error:
        state.count(error.code or error.error)
        description = f"{error.code}: {error.description}" if error.code else error.description
        return _error(error.error, description, error.status)
    text, life = state.issue(grant.client, grant.party, grant.scope)
    state.count("issued")
    return JSONResponse({"access_token": text, "token_type": "Bearer", "expires_in": life, "scope": grant.scope})


def _error(error: str, description: str, status: int = 400) -> Response:
    return JSONResponse({"error": error, "error_description": description}, status)


def _scripted(scripted: ScriptedError) -> Response:
    headers = {}
    if scripted.retry_after_seconds is not None:
        headers["retry-after"] = str(scripted.retry_after_seconds)
    if scripted.body is not None:
        return Response(scripted.body, scripted.status, headers)
    content = {"error": scripted.error, "error_description": scripted.description}
    return JSONResponse(content, scripted.status, headers)
