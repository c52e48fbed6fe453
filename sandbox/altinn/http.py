"""The HTTP interface of the simulated Altinn: tokens, subscriptions, events and problem details."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import msgspec
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sandbox.altinn.event_log import ORGANISATION
from sandbox.altinn.state import PAGE_EVENTS_MAX, SCOPE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from sandbox.altinn.state import Altinn, EventSubscription
    from sandbox.maskinporten.tokens import TokenStore

_SUBSCRIPTIONS = "/events/api/v1/subscriptions"
_EVENTS = "/events/api/v1/events"
_EXCHANGE = "/authentication/api/v1/exchange/maskinporten"
_FILTERS = ("resourceFilter", "subjectFilter", "typeFilter", "sourceFilter")
_PAGE_EVENTS_DEFAULT = 50


class _Problem(Exception):  # noqa: N818  # not an error of ours: Altinn's own answer
    def __init__(self, status: int, detail: str) -> None:
        self.status, self.detail = status, detail
        super().__init__(detail)


def altinn_app(state: Altinn, maskinporten_tokens: TokenStore) -> Starlette:
    """The application over one state, and the tokens that the simulated Maskinporten has given."""
    calls = _Calls(state, maskinporten_tokens)
    return Starlette(
        routes=[
            Route(_EXCHANGE, calls.endpoint("exchange", calls.exchange)),
            Route(_SUBSCRIPTIONS, calls.endpoint("list", calls.subscriptions), methods=["GET"]),
            Route(_SUBSCRIPTIONS, calls.endpoint("subscribe", calls.subscribe), methods=["POST"]),
            Route(f"{_SUBSCRIPTIONS}/{{id:int}}", calls.endpoint("get", calls.get), methods=["GET"]),
            Route(f"{_SUBSCRIPTIONS}/{{id:int}}", calls.endpoint("delete", calls.delete), methods=["DELETE"]),
            Route(_EVENTS, calls.endpoint("events", calls.events), methods=["GET"]),
        ]
    )


class _Calls:
    """The operations. Each gets whom the token acts for, and the request with its body."""

    def __init__(self, state: Altinn, maskinporten_tokens: TokenStore) -> None:
        self._state = state
        self._maskinporten_tokens = maskinporten_tokens

    def endpoint(
        self, operation: str, call: Callable[[str, Request, bytes], Response]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def run(request: Request) -> Response:
            body = await request.body()
            try:
                party = self._party(operation, _bearer(request))
                answer = self._fault(operation, party) or call(party, request, body)
            except _Problem as problem:
                answer = _problem(problem.status, problem.detail)
            with self._state.lock:
                self._state.calls[operation, answer.status_code] += 1
            return answer

        return run

    def exchange(self, party: str, request: Request, _: bytes) -> Response:
        maskinporten_token = self._maskinporten_tokens.find(_bearer(request))
        if maskinporten_token is None:
            raise _Problem(401, "")
        life = self._state.behaviour.token_life_seconds
        return PlainTextResponse(self._state.tokens.mint(party, maskinporten_token.scope, life))

    def subscriptions(self, party: str, _request: Request, _: bytes) -> Response:
        found = self._state.of_party(party)
        return JSONResponse({"count": len(found), "subscriptions": [msgspec.to_builtins(each) for each in found]})

    def subscribe(self, party: str, _request: Request, body: bytes) -> Response:
        wanted = _subscription_request(body)
        if party in self._state.refused:
            raise _Problem(403, "Not authorized to create a subscription for this resource")
        if wanted.get("subjectFilter", "") != f"{ORGANISATION}{party}":
            raise _Problem(403, "Not authorized to create a subscription with this subject")
        subscription = self._state.subscribe(party, wanted)
        location = f"{_SUBSCRIPTIONS}/{subscription.id}"
        return JSONResponse(msgspec.to_builtins(subscription), 201, {"location": location})

    def get(self, party: str, request: Request, _: bytes) -> Response:
        return JSONResponse(msgspec.to_builtins(self._owned(party, request)))

    def delete(self, party: str, request: Request, _: bytes) -> Response:
        self._state.unsubscribe(self._owned(party, request).id)
        return Response(status_code=200)

    def events(self, party: str, request: Request, _: bytes) -> Response:
        query = request.query_params
        after, resource, subject = query.get("after"), query.get("resource"), query.get("subject")
        if not after:
            raise _Problem(400, "The 'after' parameter must be defined.")
        if not resource:
            raise _Problem(400, "The 'resource' parameter must be defined.")
        size = query.get("size", str(_PAGE_EVENTS_DEFAULT))
        if not size.isdigit() or not 1 <= int(size) <= PAGE_EVENTS_MAX:
            raise _Problem(400, f"The 'size' parameter must be a number from 1 to {PAGE_EVENTS_MAX}.")
        page, last = self._page(party, after, resource, subject, query.getlist("type"), int(size))
        headers = {}
        if page or self._state.behaviour.next_when_empty:
            others = [(name, value) for name, value in query.multi_items() if name != "after"]
            headers["next"] = f"{self._state.base_url}{_EVENTS}?{urlencode([('after', last), *others])}"
        return Response(json.dumps(page), 200, headers, "application/cloudevents+json")

    def _page(
        self, party: str, after: str, resource: str, subject: str | None, kinds: list[str], size: int
    ) -> tuple[list[dict[str, Any]], str]:
        """Who may see an event is decided after the page was cut, so a page may come out short or empty."""
        state = self._state
        with state.lock:
            behaviour = state.behaviour
            youngest = state.clock() - behaviour.withhold_seconds * behaviour.time_factor
            size = min(size, behaviour.page_events_max)
            if behaviour.short_page_rate and state.random.random() < behaviour.short_page_rate:
                size = state.random.randint(0, max(size - 1, 0))
            cut: list[dict[str, Any]] = []
            for logged in state.log.after(after, subject):
                if len(cut) >= size or logged.registered_at > youngest:
                    break
                if logged.event.get("resource") == resource and (not kinds or logged.event["type"] in kinds):
                    cut.append(logged.event)
        last = str(cut[-1]["id"]) if cut else after
        return [event for event in cut if event.get("subject") == f"{ORGANISATION}{party}"], last

    def _party(self, operation: str, bearer: str) -> str:
        if operation == "exchange":
            maskinporten_token = self._maskinporten_tokens.find(bearer)
            if maskinporten_token is None:
                raise _Problem(401, "")
            return maskinporten_token.party
        token = self._state.tokens.find(bearer)
        if token is None:
            raise _Problem(401, "")
        if SCOPE not in token.scopes:
            raise _Problem(403, f"The scope {SCOPE} is missing")
        return token.party

    def _fault(self, operation: str, party: str) -> Response | None:
        fault = self._state.fault_of(operation, party)
        if fault is None:
            return None
        seconds = fault.retry_after_seconds
        headers = {} if seconds is None else {"retry-after": str(seconds)}
        return Response(fault.body, fault.status, headers)

    def _owned(self, party: str, request: Request) -> EventSubscription:
        subscription = self._state.subscriptions.get(request.path_params["id"])
        if subscription is None:
            raise _Problem(404, "")
        if subscription.consumer != f"/organisation/{party}":
            raise _Problem(401, "")
        return subscription


def _subscription_request(body: bytes) -> dict[str, Any]:
    try:
        wanted = json.loads(body)
    except ValueError:
        raise _Problem(400, "The body is no JSON") from None
    if not isinstance(wanted, dict) or not isinstance(wanted.get("endPoint"), str):
        raise _Problem(400, "The EndPoint field is required.")
    if urlsplit(wanted["endPoint"]).scheme not in {"http", "https"}:
        raise _Problem(400, "EndPoint must be an absolute address")
    if any(wanted.get(name, "-") == "" for name in _FILTERS):
        raise _Problem(400, "A filter must not be empty; leave it out")
    if not str(wanted.get("resourceFilter", "")).startswith("urn:altinn:resource:"):
        raise _Problem(400, "A resource filter is required: urn:altinn:resource:…")
    return wanted


def _bearer(request: Request) -> str:
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    return text if scheme.lower() == "bearer" else ""


def _problem(status: int, detail: str) -> Response:
    if not detail:
        return Response(status_code=status)
    body = {"type": "about:blank", "title": "Altinn", "status": status, "detail": detail}
    return JSONResponse(body, status, media_type="application/problem+json")
