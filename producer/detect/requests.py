"""Decide what an operator request leads to, given the position of its trekkpliktig. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from producer.domain.requests import FORGET, READINGS, RESUME, SET, SUSPEND, RequestResult
from producer.domain.state import TrekkpliktigPosition

if TYPE_CHECKING:
    from producer.domain.requests import OperatorRequest

REQUESTS_WAITING_MAX = 32
"""How many may wait for one trekkpliktig. They share a reading, so people never come near this limit."""


class RequestDecision(msgspec.Struct, frozen=True):
    """What a request leads to. `interrupts` aborts a reading in progress.

    `forgets` sets every known order back to `NOT_HANDED_OVER`: it stays known, so that it is followed if the list lacks
    it, and the next reading hands over all that the list shows.
    """

    position: TrekkpliktigPosition
    results: tuple[RequestResult, ...] = ()
    interrupts: bool = False
    forgets: bool = False


def decide_request(
    request: OperatorRequest, position: TrekkpliktigPosition, orders: int, now: int, *, is_served: bool
) -> RequestDecision:
    """Decide on one request for a trekkpliktig with this number of known orders.

    The same request may come twice: the second time changes nothing, but has a result too.
    """
    if request.kind in READINGS:
        return _decide_reading(request, position, is_served=is_served)
    done = (RequestResult(request, "done"),)
    if request.kind == SUSPEND:
        why = "it was suspended by an operator meanwhile"
        given_up = tuple([RequestResult(each, "failed", why) for each in position.requests])
        since = now if position.suspended_at is None else position.suspended_at
        return RequestDecision(replace(position, suspended_at=since, requests=()), given_up + done, interrupts=True)
    if request.kind == RESUME:
        return RequestDecision(replace(position, suspended_at=None), done)
    if request.kind == SET:
        return RequestDecision(replace(position, position=request.position or 0), done, interrupts=True)
    if request.kind == FORGET and position.forgotten_by == request.id:
        return RequestDecision(position, done)
    forgotten = TrekkpliktigPosition(
        suspended_at=position.suspended_at, forgotten_by=request.id, requests=position.requests
    )
    done = (RequestResult(replace(request, orders_read=orders), "done"),)
    return RequestDecision(forgotten, done, interrupts=True, forgets=True)


def _decide_reading(request: OperatorRequest, position: TrekkpliktigPosition, *, is_served: bool) -> RequestDecision:
    if any(each.id == request.id for each in position.requests):
        return RequestDecision(position)
    if not is_served:
        refusal = "it is not among the trekkpliktige that the service reads for"
    elif position.suspended_at is not None:
        refusal = "it is suspended by an operator: resume it first"
    elif len(position.requests) >= REQUESTS_WAITING_MAX:
        refusal = f"{REQUESTS_WAITING_MAX} requests are waiting for it already"
    else:
        refusal = ""
    if refusal:
        return RequestDecision(position, (RequestResult(request, "refused", refusal),))
    return RequestDecision(replace(position, requests=(*position.requests, request)))


def without(position: TrekkpliktigPosition, ids: frozenset[str]) -> tuple[TrekkpliktigPosition, list[OperatorRequest]]:
    """The position without the requests in `ids`, and those requests."""
    gone = [request for request in position.requests if request.id in ids]
    left = tuple([request for request in position.requests if request.id not in ids])
    return replace(position, requests=left), gone
