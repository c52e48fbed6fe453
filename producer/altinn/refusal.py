"""An answer of Altinn that is no success in, the error that says what to do next out. Pure.

No message holds more of the answer than its status: the body may repeat what was sent, addresses with secrets too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from producer.errors import RetryableError, SuspendedError
from producer.source.answer import retry_after_seconds

if TYPE_CHECKING:
    from producer.errors import ProducerError
    from producer.source.answer import Answer

UNAUTHORIZED: Final = 401
NOT_FOUND: Final = 404
_CLIENT_ERRORS: Final = range(400, 500)
_PASSING: Final = frozenset({408, 421, 425, 429})
_HINTS: Final = {
    400: "it takes the question for a wrong one: is TREKKPAALEGG_WEBHOOK_URL an address that it can reach, by https?",
    401: "the token is not taken: has this trekkpliktig given the right to its system user or delegation?",
    403: "not allowed: are the scope (TREKKPAALEGG_ALTINN_SCOPES) and this trekkpliktig's right to the resource there?",
    404: "the address is unknown there: check TREKKPAALEGG_ALTINN_URL",
}


def refusal_of(answer: Answer, operation: str, now_seconds: float) -> ProducerError:
    """`SuspendedError` where Altinn refuses this trekkpliktig, `RetryableError` where it is busy or broken."""
    if answer.status in _CLIENT_ERRORS and answer.status not in _PASSING:
        hint = _HINTS.get(answer.status)
        return SuspendedError(
            f"Altinn refuses to {operation} with HTTP {answer.status}" + (f"; {hint}" if hint else "")
        )
    return RetryableError(
        f"Altinn answers HTTP {answer.status} when asked to {operation}",
        retry_after_seconds=retry_after_seconds(answer.headers, now_seconds),
    )
