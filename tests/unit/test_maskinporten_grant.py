"""Grants for Maskinporten: claims in three modes, signed with a key that is checked when it is loaded."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from producer.source.auth.grant import Authentication, grant_claims, load_client_key, sign_grant
from trekkpaalegg.errors import SettingsError

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


def test_each_mode_makes_its_own_claims_and_no_other() -> None:
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


def test_the_key_does_not_show_itself(jwk: dict[str, Any]) -> None:
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
