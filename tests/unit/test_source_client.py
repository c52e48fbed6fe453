"""What an error response of the API means, and how long `Retry-After` says to wait."""

from __future__ import annotations

import httpx
import pytest

from producer.domain.trekkpaalegg import Gone
from producer.errors import SuspendedError
from producer.source.client import refusal_of, refusal_of_version
from producer.source.http import HttpResponse
from trekkpaalegg.errors import RetryableError

NOW = 1_795_435_200.0  # 2026-11-23T12:00:00Z


def answer(status: int, body: bytes = b"", **headers: str) -> HttpResponse:
    return HttpResponse(status, httpx.Headers({name.replace("_", "-"): value for name, value in headers.items()}), body)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 406, 409, 410, 422])
def test_a_refusal_suspends_the_trekkpliktig(status: int) -> None:
    error = refusal_of(answer(status), NOW)
    assert isinstance(error, SuspendedError)
    assert str(status) in str(error)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 408, 421, 425, 429, 500, 502, 503, 504, 206, 304])
def test_a_temporary_failure_is_tried_again(status: int) -> None:
    assert isinstance(refusal_of(answer(status), NOW), RetryableError)


@pytest.mark.parametrize("status", [400, 402, 403, 404, 405, 406, 409, 410, 412, 414, 418, 422, 423, 451, 499])
def test_a_refusal_of_one_version_concerns_that_version_alone(status: int) -> None:
    assert refusal_of_version(answer(status, b'{"kode":"KB-005"}'), NOW) == Gone(f"HTTP {status}")


@pytest.mark.parametrize("status", [301, 408, 421, 425, 429, 500, 503, 204, 407, 426, 431])
def test_a_version_is_tried_again_if_the_answer_is_about_time_rate_proxy_or_protocol(status: int) -> None:
    assert isinstance(refusal_of_version(answer(status), NOW), RetryableError)


def test_a_refused_token_suspends_the_trekkpliktig_whatever_was_asked_for() -> None:
    assert isinstance(refusal_of_version(answer(401), NOW), SuspendedError)


def test_the_kode_is_quoted_and_nothing_else_of_the_body() -> None:
    body = b'{"kode":"KB-005","melding":"12345678901 mangler samtykke","korrelasjonsid":4}'
    assert "HTTP 403 KB-005" in str(refusal_of(answer(403, body), NOW))
    assert "12345678901" not in str(refusal_of(answer(403, body), NOW))


@pytest.mark.parametrize(
    "body",
    [
        b'{"kode":"12345678901"}',
        b'{"kode":"A-12345678901"}',
        b'{"kode":"kb 005"}',
        b'{"kode":"ABCDEFGHIJKLMNOPQRSTUVWXYZ"}',
        b'{"kode":5}',
        b'["KB-005"]',
        b"KB-005",
        b"\xff",
        b"[" * 100_000,
        b"",
    ],
)
def test_what_has_not_the_form_of_a_kode_is_not_quoted(body: bytes) -> None:
    assert str(refusal_of(answer(500, body), NOW)) == "the API answers HTTP 500"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(" 1.5 ", 1.5), ("86400", 3600.0), ("Mon, 23 Nov 2026 12:00:30 GMT", 30.0), ("soon", None), ("", None)],
)
def test_a_refusal_carries_the_retry_after_of_its_answer_capped_at_an_hour(text: str, seconds: float | None) -> None:
    error = refusal_of(answer(429, retry_after=text), NOW)
    assert isinstance(error, RetryableError)
    assert error.retry_after_seconds == seconds
