"""An answer of the API that is no success in, the error that says what to do next out. Pure.

No message holds more of the answer than its status and its `kode`, and that only where it looks like one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from producer.errors import RetryableError, SuspendedError
from producer.source.answer import retry_after_seconds

if TYPE_CHECKING:
    from producer.errors import ProducerError
    from producer.source.answer import Answer

OK: Final = 200
NO_CONTENT: Final = 204
UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
GONE: Final = 410
_ABOUT_ONE_VERSION: Final = frozenset({400, 414, 422})
"""What is wrong with the question for one version does not keep the trekkpliktig from being served."""
_CLIENT_ERRORS: Final = range(400, 500)
_PASSING: Final = frozenset({408, 421, 425, 429})
_KODE: Final = re.compile(r"[A-Z0-9-]{1,20}")
_DIGITS_OF_A_PERSON: Final = re.compile(r"\d{9}")
_HINTS: Final = {
    UNAUTHORIZED: "a new token is refused too",
    FORBIDDEN: "it may not be served: has it given the right to its system user or delegation?",
    NOT_FOUND: "the address is unknown there: check TREKKPAALEGG_API_URL",
}


class _ErrorBody(msgspec.Struct):
    kode: str = ""


_decode_error = msgspec.json.Decoder(_ErrorBody).decode


def refusal_of_version(answer: Answer, now_seconds: float) -> ProducerError:
    """As `refusal_of`, save that a fault in the question is told as a failure of this version alone."""
    if answer.status in _ABOUT_ONE_VERSION:
        return RetryableError(f"the API refuses the question for this version with {_told(answer)}")
    return refusal_of(answer, now_seconds)


def refusal_of(answer: Answer, now_seconds: float) -> ProducerError:
    """`SuspendedError` where the API refuses this trekkpliktig, `RetryableError` where it is busy or broken.

    Statuses decide, `kode` is opaque text. A redirect is never followed and counts as broken:
    a gateway in trouble sends one to a page for people.
    """
    told = _told(answer)
    if answer.status in _CLIENT_ERRORS and answer.status not in _PASSING:
        hint = _HINTS.get(answer.status)
        return SuspendedError(f"the API refuses with {told}" + (f": {hint}" if hint else ""))
    return RetryableError(
        f"the API answers {told}", retry_after_seconds=retry_after_seconds(answer.headers, now_seconds)
    )


def _told(answer: Answer) -> str:
    return f"HTTP {answer.status}{_kode(answer.body)}"


def _kode(body: bytes) -> str:
    try:
        kode = _decode_error(body).kode
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    is_plain = _KODE.fullmatch(kode) and not _DIGITS_OF_A_PERSON.search(kode)
    return f" {kode}" if is_plain else ""
