"""Maskinporten's responses: tokens, and errors by what to do next."""

from __future__ import annotations

import json

import httpx
import pytest

from producer.errors import SuspendedError
from producer.source.auth.maskinporten import GrantUsedUpError, read_token
from producer.source.http import HttpResponse
from trekkpaalegg.errors import FatalError, RetryableError, TrekkpaaleggError

NOW = 1_795_435_200.0


def answer(status: int, body: bytes, retry_after: str = "") -> HttpResponse:
    return HttpResponse(status, httpx.Headers({"retry-after": retry_after}), body)


def refusal(status: int, error: str, description: str | None) -> TrekkpaaleggError:
    body = json.dumps({"error": error, "error_description": description}).encode()
    with pytest.raises(TrekkpaaleggError) as caught:
        read_token(answer(status, body), NOW)
    return caught.value


def test_a_token_and_its_life_are_read_and_hidden() -> None:
    token = read_token(answer(200, b'{"access_token":"abc.d-_=","token_type":"Bearer","expires_in":120}'), NOW)
    assert (token.text, token.life_seconds) == ("abc.d-_=", 120)
    assert "abc" not in repr(token)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"access_token":"a"}',
        b'{"access_token":"","expires_in":120}',
        b'{"access_token":"a\\r\\nX: y","expires_in":120}',
        '{"access_token":"æ","expires_in":120}'.encode(),
        b'{"access_token":"a","expires_in":0}',
        b'{"access_token":"a","expires_in":true}',
        b'{"access_token":"a","expires_in":"120"}',
        b"\xff",
    ],
)
def test_an_answer_without_a_usable_token_is_tried_again(body: bytes) -> None:
    with pytest.raises(RetryableError):
        read_token(answer(200, body), NOW)


@pytest.mark.parametrize(
    ("code", "error_class"),
    [
        ("MP-012", GrantUsedUpError),
        ("MP-130", GrantUsedUpError),
        ("MP-100", FatalError),
        ("MP-110", FatalError),
        ("MP-120", FatalError),
        ("MP-121", FatalError),
        ("MP-129", FatalError),
        ("MP-200", SuspendedError),
        ("MP-201", SuspendedError),
        ("MP-250", SuspendedError),
        ("MP-251", SuspendedError),
        ("MP-301", SuspendedError),
        ("MP-302", SuspendedError),
        ("MP-303", SuspendedError),
        ("MP-999", SuspendedError),
    ],
)
def test_codes_are_sorted_by_what_to_do_next(code: str, error_class: type[TrekkpaaleggError]) -> None:
    error = refusal(400, "invalid_grant", f"{code}: 12345678901 er ukjent")
    assert type(error) is error_class
    assert code in str(error)
    assert "12345678901" not in str(error)


def test_without_a_code_the_error_name_decides() -> None:
    assert isinstance(refusal(401, "invalid_client", None), FatalError)
    assert isinstance(refusal(400, "invalid_scope", "x"), SuspendedError)
    assert "an unknown error" in str(refusal(400, "Noe ANNET 12345678901", None))


def test_a_clock_that_is_ahead_is_named_as_such() -> None:
    error = refusal(400, "invalid_grant", "Issue time is after now")
    assert isinstance(error, RetryableError)
    assert "clock" in str(error)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_transient_failure_is_retried_after_the_requested_pause(status: int) -> None:
    with pytest.raises(RetryableError) as caught:
        read_token(answer(status, b"<html>", retry_after="7"), NOW)
    assert caught.value.retry_after_seconds == 7


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"error":3}', b"\xff", b"[" * 100_000])
def test_a_refusal_that_cannot_be_read_is_tried_again(body: bytes) -> None:
    with pytest.raises(RetryableError):
        read_token(answer(400, body), NOW)


@pytest.mark.parametrize(
    ("description", "date", "words"),
    [
        ("Issue time is after now", "Mon, 23 Nov 2026 12:00:00 GMT", "clock is ahead; set it right"),
        ("Issue time is after now", "", "clock is ahead; set it right"),
        ("Issue time is after now", "Mon, 23 Nov 2026 11:59:30 GMT", "clock is 30 s ahead of Maskinporten's"),
        ("MP-130: JWT grant has expired", "Mon, 23 Nov 2026 12:05:00 GMT", "clock is 300 s behind Maskinporten's"),
    ],
)
def test_a_wrong_clock_is_reported_with_its_deviation(description: str, date: str, words: str) -> None:
    """The `Date` header shows it. Only the clock has to be set, so it is retried."""
    body = json.dumps({"error": "invalid_grant", "error_description": description}).encode()
    with pytest.raises(RetryableError, match=words):
        read_token(HttpResponse(400, httpx.Headers({"date": date}), body), NOW)


def test_a_clock_that_is_right_is_not_blamed() -> None:
    body = json.dumps({"error": "invalid_grant", "error_description": "MP-012: used"}).encode()
    with pytest.raises(GrantUsedUpError) as caught:
        read_token(HttpResponse(400, httpx.Headers({"date": "Mon, 23 Nov 2026 12:00:07 GMT"}), body), NOW)
    assert "clock" not in str(caught.value)
