"""Maskinporten's answer to a grant in; the token and its life, or the error that says what to do next, out. Pure.

Source of the codes: Digdir, "Maskinporten: feilmeldinger"; see README.md in this folder. No message holds more of
the answer than its code: descriptions may quote what was sent.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from producer.errors import FatalError, RetryableError, SuspendedError
from producer.source.answer import retry_after_seconds, seconds_ahead

if TYPE_CHECKING:
    from producer.errors import ProducerError
    from producer.source.answer import Answer

_OK: Final = 200
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
    """The grant was seen before or is too old: a new one may be sent at once."""


class AccessToken(msgspec.Struct, frozen=True):
    """An opaque token. `life_seconds` counts from before it was asked for."""

    text: str
    life_seconds: float

    def __repr__(self) -> str:
        return f"AccessToken(life_seconds={self.life_seconds})"


class _TokenBody(msgspec.Struct):
    access_token: str
    expires_in: float


class _ErrorBody(msgspec.Struct):
    error: str = ""
    error_description: str | None = None


_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_decode_token = msgspec.json.Decoder(_TokenBody).decode
_decode_error = msgspec.json.Decoder(_ErrorBody).decode


def read_token(answer: Answer, now_seconds: float) -> AccessToken:
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


def _refusal_of(answer: Answer, now_seconds: float) -> ProducerError:
    told = f"Maskinporten answers HTTP {answer.status}"
    if answer.status >= _SERVER_ERROR or answer.status in _PASSING:
        return RetryableError(told, retry_after_seconds=retry_after_seconds(answer.headers, now_seconds))
    try:
        body = _decode_error(answer.body)
    except _UNREADABLE:
        return RetryableError(f"{told} with a body that cannot be read")
    description = body.error_description or ""
    clock = _clock_of(answer, now_seconds)
    if _CLOCK in description.lower():
        clock = clock or "this machine's clock is ahead; set it right, such as by NTP"
        return RetryableError(f"Maskinporten says that the grant was issued after now: {clock}")
    found = _MP_CODE.search(description) or _MP_CODE.search(body.error)
    code = found[0] if found else ""
    name = code or (body.error if _ERROR_NAME.fullmatch(body.error) else "an unknown error")
    hint = _HINTS.get(code)
    told = f"Maskinporten refuses with {name}" + (f": {hint}" if hint else "")
    if code in _USED_UP:
        return GrantUsedUpError(f"{told}: {clock}" if clock else told)
    if _FATAL.fullmatch(code) or (not code and body.error in _FATAL_ERRORS):
        return FatalError(told)
    return SuspendedError(told)


def _clock_of(answer: Answer, now_seconds: float) -> str | None:
    """What is wrong with this machine's clock, in words, where the answer's `Date` shows that something is."""
    ahead = seconds_ahead(answer.headers, now_seconds)
    if ahead is None or abs(ahead) <= _SKEW_SECONDS_MAX:
        return None
    side = "ahead of" if ahead > 0 else "behind"
    return f"this machine's clock is {abs(ahead):.0f} s {side} Maskinporten's; set it right, such as by NTP"
