"""How the simulated API answers a request: status, headers, body, and what happens to the connection.

The rules are those of Skatteetaten's page of the trekkpålegg API: errors KB-001 to KB-009, both parameters or
neither, fraSekvensnummer exclusive, the organisation from the token.
"""

from __future__ import annotations

import enum
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote

import msgspec

from sandbox.skatteetaten.faults import ErrorShape, Fault, FaultKind, Operation
from sandbox.skatteetaten.state import Call

if TYPE_CHECKING:
    from sandbox.maskinporten.tokens import Token, TokenStore
    from sandbox.skatteetaten.state import Skatteetaten

BASE_PATH = "/api/trekkpaalegg/v1"
SCOPE = "skatteetaten:trekkpaalegg"
_JSON = "application/json;charset=UTF-8"
_SEGMENTS_OF_A_VERSION = 2
_DIGITS_MAX = 18
_PARAMETERS = ("fraSekvensnummer", "maksAntall")
_DEFAULT_KODE = {400: "KB-006", 401: "KB-004", 403: "KB-005", 404: "KB-007", 406: "KB-008", 500: "KB-001"}
_INTEGER_KORRELASJONSID = 748392


class Request(msgspec.Struct, frozen=True):
    """One HTTP request; `raw_path` still percent-encoded, header names in lower case."""

    method: str
    raw_path: str
    query: str
    headers: dict[str, str]


class AnswerDelivery(enum.Enum):
    """What becomes of the answer on its way."""

    WHOLE = "whole"
    RESET = "reset"
    TRUNCATED = "truncated"
    FILLER = "filler"


class Answer(msgspec.Struct):
    """What to send. `supplier` must `leave` when it is sent; `filler_bytes` is the length of a streamed filler.

    `party` is the organisation that the token was issued to.
    """

    status: int
    body: bytes = b""
    headers: dict[str, str] = {}
    delivery: AnswerDelivery = AnswerDelivery.WHOLE
    delay_seconds: float = 0.0
    filler_bytes: int = 0
    supplier: str | None = None
    party: str | None = None


class _Refusal(Exception):  # noqa: N818  # not an error of ours: the API's own answer
    def __init__(
        self,
        status: int,
        kode: str | None,
        melding: str,
        headers: dict[str, str] | None = None,
        shape: ErrorShape | None = None,
    ) -> None:
        self.status, self.kode, self.melding, self.shape, self.headers = status, kode, melding, shape, headers or {}
        super().__init__(melding)


class _Replaced(Exception):  # noqa: N818  # control flow: a fault has written the answer
    pass


def answer(state: Skatteetaten, tokens: TokenStore, request: Request) -> Answer:
    """Answer one request and remember it."""
    operation, identity = _route(request.raw_path)
    result = Answer(200)
    korrelasjonsid = request.headers.get("korrelasjonsid")
    with state.lock:
        try:
            _decide(state, tokens, request, (operation, identity), result)
        except _Refusal as refusal:
            _refuse(state, request, result, refusal)
        except _Replaced:
            pass
        if korrelasjonsid is not None:
            result.headers = {**result.headers, "korrelasjonsid": korrelasjonsid}
        result.delay_seconds += state.behaviour.latency_seconds
        outcome = str(result.status) if result.delivery is AnswerDelivery.WHOLE else result.delivery.value
        klientid = request.headers.get("klientid")
        state.remember(
            Call(operation, result.party, request.raw_path, request.query, outcome, korrelasjonsid, klientid)
        )
    return result


def _decide(
    state: Skatteetaten, tokens: TokenStore, request: Request, target: tuple[Operation, tuple[str, str]], result: Answer
) -> None:
    operation, identity = target
    if operation is Operation.OTHER:
        raise _Refusal(404, "KB-003", "Ukjent URL")
    token = _authenticated(tokens, request)
    result.supplier, result.party = token.supplier, token.party
    if not state.enter(token.supplier):
        raise _Refusal(429, None, "For mange samtidige kall")
    for fault in state.faults.strike(operation, token.party, identity):
        _apply(state, tokens, fault, request, result)
    if result.delivery in (AnswerDelivery.RESET, AnswerDelivery.FILLER):
        return
    result.body = _content(state, operation, identity, token, request)
    result.headers = {"content-type": _JSON} if result.body else {}


def _route(raw_path: str) -> tuple[Operation, tuple[str, str]]:
    if raw_path == BASE_PATH:
        return Operation.LIST, ("", "")
    segments = raw_path.removeprefix(f"{BASE_PATH}/").split("/")
    if raw_path.startswith(f"{BASE_PATH}/") and len(segments) == _SEGMENTS_OF_A_VERSION and all(segments):
        return Operation.VERSION, (unquote(segments[0]), unquote(segments[1]))
    return Operation.OTHER, ("", "")


def _authenticated(tokens: TokenStore, request: Request) -> Token:
    token = tokens.find(_token_text(request))
    if token is None:
        raise _Refusal(401, "KB-004", "Feil i forbindelse med autentisering", {"www-authenticate": "Bearer"})
    if SCOPE not in token.scope.split():
        raise _Refusal(403, "KB-005", "Mangler scope")
    return token


def _token_text(request: Request) -> str:
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    return text if scheme.lower() == "bearer" else ""


def _apply(state: Skatteetaten, tokens: TokenStore, fault: Fault, request: Request, result: Answer) -> None:
    match fault.kind:
        case FaultKind.DELAY:
            result.delay_seconds += fault.seconds or 0.0
        case FaultKind.STATUS:
            raise _Refusal(fault.status, fault.kode, "Simulert feil", _retry_after(state, fault), fault.error_shape)
        case FaultKind.EXPIRED_TOKEN:
            tokens.revoke(_token_text(request))
            raise _Refusal(401, "KB-004", "Token er utløpt", {"www-authenticate": 'Bearer error="invalid_token"'})
        case FaultKind.BODY:
            result.status, result.body = fault.status, fault.body.encode()
            result.headers = {"content-type": fault.content_type}
            raise _Replaced
        case FaultKind.RESET:
            result.delivery = AnswerDelivery.RESET
        case FaultKind.TRUNCATED:
            result.delivery = AnswerDelivery.TRUNCATED
        case FaultKind.FILLER:
            result.delivery, result.filler_bytes = AnswerDelivery.FILLER, fault.size_bytes
            result.headers = {"content-type": _JSON}


def _retry_after(state: Skatteetaten, fault: Fault) -> dict[str, str]:
    if fault.seconds is None:
        return {}
    if fault.as_http_date:
        return {"retry-after": formatdate(state.clock() + fault.seconds, usegmt=True)}
    return {"retry-after": f"{fault.seconds:g}"}


def _refuse(state: Skatteetaten, request: Request, result: Answer, refusal: _Refusal) -> None:
    chosen = refusal.shape or state.behaviour.error_shape
    if chosen is ErrorShape.MIXED:
        chosen = state.random.choice([each for each in ErrorShape if each is not ErrorShape.MIXED])
    korrelasjonsid = request.headers.get("korrelasjonsid") or f"{state.random.getrandbits(64):x}"
    body, content_type = error_body(chosen, refusal.status, refusal.kode, refusal.melding, korrelasjonsid)
    result.status, result.body = refusal.status, body
    result.headers = refusal.headers | ({"content-type": content_type} if content_type else {})


def _content(
    state: Skatteetaten, operation: Operation, identity: tuple[str, str], token: Token, request: Request
) -> bytes:
    if request.method != "GET":
        raise _Refusal(405, None, "Metoden støttes ikke", {"allow": "GET"})
    accepted = request.headers.get("accept", "*/*")
    if not any(each in accepted for each in ("application/json", "application/*", "*/*")):
        raise _Refusal(406, "KB-008", "Feil tilknyttet dataformat. Kun json er støttet.")
    if operation is Operation.LIST:
        return _page(state, token.party, request.query)
    trekkid, trekkversjon = identity
    digits = trekkversjon.isascii() and trekkversjon.isdigit() and len(trekkversjon) <= _DIGITS_MAX
    if not digits or int(trekkversjon) < 1:
        raise _Refusal(400, "KB-006", "trekkversjon må være et positivt heltall")
    version = state.book.visible_to(token.party, trekkid, int(trekkversjon))
    if version is None:
        raise _Refusal(404, "KB-007", "Fant ikke trekkpålegget")
    return version.body


def _page(state: Skatteetaten, party: str, query: str) -> bytes:
    parameters = parse_qs(query, keep_blank_values=True)
    given = [name for name in _PARAMETERS if name in parameters]
    if len(given) == 1:
        raise _Refusal(400, "KB-006", "fraSekvensnummer og maksAntall må oppgis sammen")
    after, limit = -1, None
    if given:
        after = _whole_number(parameters, "fraSekvensnummer", 0)
        limit = _whole_number(parameters, "maksAntall", 1)
        if state.behaviour.maks_antall_cap is not None:
            limit = min(limit, state.behaviour.maks_antall_cap)
    versions = state.book.page(party, after, limit)
    if not versions:
        return b"" if state.behaviour.empty_body else b"[]"
    bodies = [version.body for version in versions]
    if state.behaviour.unsorted:
        state.random.shuffle(bodies)
    return b"[" + b",".join(bodies) + b"]"


def _whole_number(parameters: dict[str, list[str]], name: str, smallest: int) -> int:
    values = parameters[name]
    try:
        number = int(values[0]) if len(values) == 1 else smallest - 1
    except ValueError:
        number = smallest - 1
    if number < smallest:
        raise _Refusal(400, "KB-006", f"{name} må være et heltall, minst {smallest}")
    return number


def error_body(
    shape: ErrorShape, status: int, kode: str | None, melding: str, korrelasjonsid: str
) -> tuple[bytes, str | None]:
    """An error body in this shape and its content type (None when there is no body). `shape` may not be MIXED."""
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
