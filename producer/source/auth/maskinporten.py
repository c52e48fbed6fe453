"""Access tokens from Maskinporten: its metadata, the token request, and what its error responses mean.

Source of the codes: Digdir, "Maskinporten: feilmeldinger"; see source/README.md. No error message quotes more of a
response than its code, since descriptions may repeat what was sent.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from producer.errors import SuspendedError
from producer.observe.port import NullObserver
from producer.source.auth.grant import grant_claims, sign_grant
from producer.source.auth.tokens import TokenCache, held_token
from producer.source.http import exchange, seconds_ahead
from trekkpaalegg.errors import FatalError, RetryableError, SettingsError
from trekkpaalegg.retry import retry_after_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from producer.observe.port import Observer
    from producer.source.auth.grant import Authentication, ClientKey
    from producer.source.auth.tokens import HeldToken
    from producer.source.http import HttpResponse
    from trekkpaalegg.errors import TrekkpaaleggError


_OK: Final = 200
_DOCUMENT_BYTES_MAX: Final = 1024 * 1024


class Issuer(msgspec.Struct, frozen=True):
    """Maskinporten's token endpoint, and the issuer name that grants must be addressed to."""

    issuer: str
    token_endpoint: str


_decode_issuer = msgspec.json.Decoder(Issuer).decode


class WellKnown:
    """Maskinporten's metadata document, fetched once when first needed; settings override it."""

    def __init__(
        self,
        http: httpx.Client,
        well_known_url: str | None,
        *,
        issuer: str | None = None,
        token_endpoint: str | None = None,
    ) -> None:
        self._http = http
        self._url = well_known_url
        self._issuer = issuer
        self._token_endpoint = token_endpoint
        self._lock = threading.Lock()
        self._known = Issuer(issuer, token_endpoint) if issuer and token_endpoint else None
        if self._known is None and not well_known_url:
            overrides = "MASKINPORTEN_ISSUER and MASKINPORTEN_TOKEN_ENDPOINT"
            raise SettingsError([f"MASKINPORTEN_WELL_KNOWN_URL: missing; give it, or both {overrides}"])

    def issuer(self) -> Issuer:
        """The issuer and token endpoint. Raises `RetryableError` as long as the document cannot be fetched."""
        with self._lock:
            if self._known is None:
                self._known = self._fetch()
            return self._known

    def _fetch(self) -> Issuer:
        answer = exchange(self._http, "GET", self._url or "", bytes_max=_DOCUMENT_BYTES_MAX)
        if answer.status != _OK:
            raise RetryableError(f"the address MASKINPORTEN_WELL_KNOWN_URL answers HTTP {answer.status}")
        try:
            document = _decode_issuer(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise RetryableError(
                "the document at MASKINPORTEN_WELL_KNOWN_URL names no issuer and token_endpoint"
            ) from None
        return Issuer(self._issuer or document.issuer, self._token_endpoint or document.token_endpoint)


_SERVER_ERROR: Final = 500
_PASSING: Final = frozenset({408, 425, 429})
_MP_CODE: Final = re.compile(r"MP-\d{3}")
_ERROR_NAME: Final = re.compile(r"[a-z_]{1,60}")
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_CLOCK: Final = "issue time is after now"
_SKEW_SECONDS_MAX: Final = 10
"""Maskinporten takes grants whose time of issue is within 10 s of its own clock."""
_USED_UP: Final = frozenset({"MP-012", "MP-130"})
_THIS_TREKKPLIKTIG: Final = frozenset({"MP-200", "MP-201", "MP-250", "MP-251", "MP-301", "MP-302", "MP-303"})
_FATAL: Final = re.compile(r"MP-(100|110|12\d)")
_FATAL_ERRORS: Final = frozenset({"invalid_client", "unauthorized_client", "unsupported_grant_type"})
_HINTS: Final = {
    "MP-100": "the client is unknown: check MASKINPORTEN_CLIENT_ID and that it is registered there",
    "MP-110": "the audience is wrong: check MASKINPORTEN_ISSUER or MASKINPORTEN_WELL_KNOWN_URL",
    "MP-121": "the client's key has expired: register a new one and change MASKINPORTEN_CLIENT_JWK",
    "MP-200": "the scope is missing or wrong: check MASKINPORTEN_SCOPES",
    "MP-201": "the client may not use the scope",
    "MP-250": "this trekkpliktig has not delegated the scope",
    "MP-251": "this trekkpliktig has not delegated the scope",
    "MP-301": "this trekkpliktig's system user cannot be used",
    "MP-302": "this trekkpliktig has no system user of this system",
    "MP-303": "this trekkpliktig has no system user with this externalRef",
}


class GrantUsedUpError(RetryableError):
    """The grant was used before or is too old: a new one may be sent at once."""


class AccessToken(msgspec.Struct, frozen=True):
    """An opaque token. `life_seconds` counts from before it was requested."""

    text: str
    life_seconds: float

    def __repr__(self) -> str:
        return f"AccessToken(life_seconds={self.life_seconds})"


class _TokenBody(msgspec.Struct):
    access_token: str
    expires_in: float


class _RefusalBody(msgspec.Struct):
    error: str = ""
    error_description: str | None = None


_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_decode_token = msgspec.json.Decoder(_TokenBody).decode
_decode_error = msgspec.json.Decoder(_RefusalBody).decode


def read_token(answer: HttpResponse, now_seconds: float) -> AccessToken:
    """The token. Raises `GrantUsedUpError`, `RetryableError`, `SuspendedError` or `FatalError`."""
    if answer.status != _OK:
        raise _refusal_of(answer, now_seconds)
    try:
        body = _decode_token(answer.body)
    except _UNREADABLE:
        raise RetryableError("Maskinporten's answer holds no token that can be read") from None
    if not _TOKEN.fullmatch(body.access_token) or not body.expires_in > 0:
        raise RetryableError("Maskinporten's answer holds a token that cannot be used")
    return AccessToken(body.access_token, body.expires_in)


def _refusal_of(answer: HttpResponse, now_seconds: float) -> TrekkpaaleggError:
    message = f"Maskinporten answers HTTP {answer.status}"
    if answer.status >= _SERVER_ERROR or answer.status in _PASSING:
        return RetryableError(
            message, retry_after_seconds=retry_after_seconds(answer.headers.get("retry-after"), now_seconds)
        )
    try:
        body = _decode_error(answer.body)
    except _UNREADABLE:
        return RetryableError(f"{message} with a body that cannot be read")
    description = body.error_description or ""
    clock = _clock_of(answer, now_seconds)
    if _CLOCK in description.lower():
        clock = clock or "this machine's clock is ahead; set it right, such as by NTP"
        return RetryableError(f"Maskinporten says that the grant was issued after now: {clock}")
    found = _MP_CODE.search(description) or _MP_CODE.search(body.error)
    code = found[0] if found else ""
    name = code or (body.error if _ERROR_NAME.fullmatch(body.error) else "an unknown error")
    hint = _HINTS.get(code)
    message = f"Maskinporten refuses with {name}" + (f": {hint}" if hint else "")
    if code in _USED_UP:
        return GrantUsedUpError(f"{message}: {clock}" if clock else message)
    if _FATAL.fullmatch(code) or (not code and body.error in _FATAL_ERRORS):
        return FatalError(message)
    return SuspendedError(message)


def _clock_of(answer: HttpResponse, now_seconds: float) -> str | None:
    """What is wrong with this machine's clock, in words, judged by the `Date` header of the response."""
    ahead = seconds_ahead(answer.headers, now_seconds)
    if ahead is None or abs(ahead) <= _SKEW_SECONDS_MAX:
        return None
    side = "ahead of" if ahead > 0 else "behind"
    return f"this machine's clock is {abs(ahead):.0f} s {side} Maskinporten's; set it right, such as by NTP"


_GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ANSWER_BYTES_MAX: Final = 256 * 1024
_log = structlog.get_logger(__name__)


class MaskinportenTokens(TokenCache):
    """Tokens from Maskinporten. `external_ref_of` returns the externalRef of a system user, if one is configured.

    `SuspendedError` means that the trekkpliktig has not granted the right, `FatalError` that the client, its key or its
    settings are wrong.
    """

    def __init__(  # noqa: PLR0913  # a client's registration has so many parts
        self,
        http: httpx.Client,
        well_known: WellKnown,
        key: ClientKey,
        *,
        client_id: str,
        scope: str,
        authentication: Authentication,
        external_ref_of: Callable[[str], str | None] = lambda _: None,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(monotonic)
        self._http = http
        self._well_known = well_known
        self._key = key
        self._client_id = client_id
        self._scope = scope
        self._authentication: Authentication = authentication
        self._external_ref_of = external_ref_of
        self._observer = observer or NullObserver()
        self._clock = clock

    def fetch(self, trekkpliktig: str) -> HeldToken:
        """See `TokenCache.fetch`."""
        outcome = "retry"
        try:
            asked_at = self._monotonic()
            try:
                token = self._request(trekkpliktig)
            except GrantUsedUpError:
                asked_at = self._monotonic()
                token = self._request(trekkpliktig)
            outcome = "ok"
        except SuspendedError:
            outcome = "suspended"
            raise
        except FatalError:
            outcome = "fatal"
            raise
        finally:
            self._observer.token_fetched(outcome)
            (_log.debug if outcome == "ok" else _log.warning)(
                "token_fetched", trekkpliktig=trekkpliktig, outcome=outcome
            )
        return held_token(token.text, token.life_seconds, asked_at)

    def _request(self, trekkpliktig: str) -> AccessToken:
        """One call with a new grant, since Maskinporten accepts each grant only once."""
        issuer = self._well_known.issuer()
        claims = grant_claims(
            authentication=self._authentication,
            issuer=issuer.issuer,
            client_id=self._client_id,
            scope=self._scope,
            trekkpliktig=trekkpliktig,
            external_ref=self._external_ref_of(trekkpliktig),
            now_seconds=self._clock(),
            jti=str(uuid.uuid4()),
        )
        form = {"grant_type": _GRANT_TYPE, "assertion": sign_grant(claims, self._key)}
        answer = exchange(self._http, "POST", issuer.token_endpoint, form=form, bytes_max=_ANSWER_BYTES_MAX)
        return read_token(answer, self._clock())
