"""Maskinporten: grants signed with a key that is checked when it is loaded, and what its responses mean."""

from __future__ import annotations

import json
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from producer.errors import SuspendedError
from producer.source.auth.grant import Authentication, grant_claims, load_client_key, sign_grant
from producer.source.auth.maskinporten import GrantUsedUpError, read_token
from producer.source.http import HttpResponse
from trekkpaalegg.errors import FatalError, RetryableError, SettingsError, TrekkpaaleggError

# Grants for Maskinporten: claims in three modes, signed with a key that is checked when it is loaded
TREKKPLIKTIG = "314159265"


@pytest.fixture(scope="module")
def jwk() -> dict[str, Any]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return {**RSAAlgorithm.to_jwk(key, as_dict=True), "kid": "key-1"}


def claims_of(authentication: Authentication, external_ref: str | None = None) -> dict[str, Any]:
    return grant_claims(
        authentication=authentication,
        issuer="https://maskinporten.no/",
        client_id="client",
        scope="skatteetaten:trekkpaalegg",
        trekkpliktig=TREKKPLIKTIG,
        external_ref=external_ref,
        now_seconds=1000.9,
        jti="a",
    )


OWN = {
    "aud": "https://maskinporten.no/",
    "iss": "client",
    "scope": "skatteetaten:trekkpaalegg",
    "iat": 1000,
    "exp": 1060,
    "jti": "a",
}
SYSTEM_USER = {
    "type": "urn:altinn:systemuser",
    "systemuser_org": {"authority": "iso6523-actorid-upis", "ID": f"0192:{TREKKPLIKTIG}"},
}


def test_each_mode_sends_its_own_claims_and_no_others() -> None:
    assert claims_of("egen", "ref") == OWN
    assert claims_of("delegert", "ref") == {**OWN, "consumer_org": TREKKPLIKTIG}
    assert claims_of("systembruker") == {**OWN, "authorization_details": [SYSTEM_USER]}
    with_reference = {**SYSTEM_USER, "externalRef": "ref"}
    assert claims_of("systembruker", "ref") == {**OWN, "authorization_details": [with_reference]}


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512"])
def test_a_grant_is_signed_by_the_key_and_names_it_in_the_header(jwk: dict[str, Any], algorithm: str) -> None:
    key = load_client_key(json.dumps({**jwk, "alg": algorithm}))
    grant = sign_grant(OWN, key)
    public = RSAAlgorithm.from_jwk({name: jwk[name] for name in ("kty", "n", "e")})
    options = {"verify_exp": False, "verify_iat": False}
    assert jwt.decode(grant, public, algorithms=[algorithm], audience=OWN["aud"], options=options) == OWN
    header = jwt.get_unverified_header(grant)
    assert header["kid"] == "key-1"
    assert "x5c" not in header


def test_a_key_without_kid_is_named_by_its_certificate(jwk: dict[str, Any]) -> None:
    with_certificate = {name: value for name, value in jwk.items() if name != "kid"} | {"x5c": ["MIIB"]}
    assert load_client_key(json.dumps(with_certificate)).header == {"x5c": ["MIIB"]}


def test_the_key_is_not_shown_in_a_repr(jwk: dict[str, Any]) -> None:
    assert repr(load_client_key(json.dumps(jwk))) == "ClientKey(algorithm='RS256')"


def without(jwk: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in jwk.items() if name not in names}


def test_every_fault_of_a_key_is_reported_without_any_part_of_it(jwk: dict[str, Any]) -> None:
    too_small = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505  # it is to be refused
    small = RSAAlgorithm.to_jwk(too_small, as_dict=True)
    curve = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True)
    cases = {
        "no JSON": "{",
        "no object": "[1]",
        "no RSA key": json.dumps({**curve, "kid": "a"}),
        "public key": json.dumps(without(jwk, "d", "p", "q", "dp", "dq", "qi")),
        "1024 bits": json.dumps({**small, "kid": "a"}),
        "no kid": json.dumps(without(jwk, "kid")),
        "another algorithm": json.dumps({**jwk, "alg": "ES256"}),
        "make no RSA key": json.dumps({**jwk, "d": "!", "n": "AQAB"}),
        "copied whole": json.dumps(without(jwk, "q")),
    }
    for told, text in cases.items():
        with pytest.raises(SettingsError) as caught:
            load_client_key(text)
        message = str(caught.value)
        assert told in message
        assert "MASKINPORTEN_CLIENT_JWK" in message
        assert jwk["d"][:20] not in message
        assert jwk["n"][:20] not in message


def test_two_faults_are_reported_at_once(jwk: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as caught:
        load_client_key(json.dumps(without(jwk, "d", "kid")))
    assert len(caught.value.faults) == 2


# Maskinporten's responses: tokens, and errors sorted by what to do next
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
