"""Error bodies of the simulated API, in every shape that the documentation shows."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from sandbox.skatteetaten.faults import ErrorShape

_DEFAULT_KODE = {400: "KB-006", 401: "KB-004", 403: "KB-005", 404: "KB-007", 406: "KB-008", 500: "KB-001"}
_INTEGER_KORRELASJONSID = 748392


def error_body(
    shape: ErrorShape, status: int, kode: str | None, melding: str, korrelasjonsid: str
) -> tuple[bytes, str | None]:
    """The body and its content type (None when there is no body). `shape` may not be MIXED."""
    kode = kode or _DEFAULT_KODE.get(status)
    match shape:
        case ErrorShape.PROBLEM:
            problem = {
                "type": "about:blank",
                "title": HTTPStatus(status).phrase,
                "status": status,
                "detail": melding,
                "instance": "/api/trekkpaalegg/v1",
            }
            return msgspec.json.encode(problem), "application/problem+json"
        case ErrorShape.PLAIN:
            return melding.encode(), "text/plain;charset=UTF-8"
        case ErrorShape.NONE:
            return b"", None
        case _:
            identity = _INTEGER_KORRELASJONSID if shape is ErrorShape.KODE_INTEGER else korrelasjonsid
            fields = {"kode": kode, "melding": melding, "korrelasjonsid": identity}
            known = {name: value for name, value in fields.items() if value is not None}
            return msgspec.json.encode(known), "application/json;charset=UTF-8"
