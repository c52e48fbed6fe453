"""The simulated Maskinporten's verification of grants, without a network."""

from __future__ import annotations

import base64
import datetime as dt
import json
from random import Random

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from sandbox.maskinporten.grant import GrantError, check_grant
from sandbox.maskinporten.http import GRANT_TYPE, answer_token_call
from sandbox.maskinporten.state import Maskinporten, ScriptedError
from sandbox.maskinporten.tokens import TokenStore

EMPLOYER, SUPPLIER, SCOPE = "310000001", "310000003", "skatteetaten:trekkpaalegg"
ISSUER = "http://maskinporten.test/"
NOW = 1_790_000_000


@pytest.fixture(scope="module")
def private_key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class World:
    """One client of one supplier, one employer that accepted it, and a clock to move."""

    def __init__(self, private_key) -> None:
        self.now = float(NOW)
        self.key = private_key
        self.tokens = TokenStore(Random(1), lambda: self.now)
        self.state = Maskinporten(seed=1, clock=lambda: self.now, tokens=self.tokens, issuer=ISSUER)
        public = {**jwt.algorithms.RSAAlgorithm.to_jwk(private_key.public_key(), as_dict=True), "kid": "k1"}
        self.client_id = self.state.register_client(SUPPLIER, public)
        self.state.register_system_user(EMPLOYER)
        self.grants = 0

    def sign(self, *, headers=None, key=None, algorithm="RS256", without=(), **changes):
        self.grants += 1
        claims = {
            "aud": ISSUER,
            "iss": self.client_id,
            "scope": SCOPE,
            "iat": int(self.now),
            "exp": int(self.now) + 120,
            "jti": f"jti-{self.grants}",
            "authorization_details": [details(EMPLOYER)],
        }
        claims = {name: value for name, value in {**claims, **changes}.items() if name not in without}
        headers = {"kid": "k1"} if headers is None else headers
        return jwt.encode(claims, key or self.key, algorithm=algorithm, headers=headers)

    def refusal(self, assertion):
        with pytest.raises(GrantError) as caught:
            check_grant(self.state, assertion)
        return caught.value.code or caught.value.description

    def call(self, assertion, grant_type=GRANT_TYPE):
        response = answer_token_call(self.state, grant_type, assertion)
        return response.status_code, json.loads(response.body)


@pytest.fixture
def world(private_key):
    return World(private_key)


def details(party, **more):
    organisation = {"authority": "iso6523-actorid-upis", "ID": f"0192:{party}"}
    return {"type": "urn:altinn:systemuser", "systemuser_org": organisation, **more}


def test_a_good_grant_becomes_a_token_for_the_employer_with_the_supplier_behind_it(world):
    status, answered = world.call(world.sign())
    assert (status, answered["token_type"], answered["expires_in"], answered["scope"]) == (200, "Bearer", 120, SCOPE)
    token = world.tokens.find(answered["access_token"])
    assert (token.party, token.supplier) == (EMPLOYER, SUPPLIER)
    world.now += 120
    assert world.tokens.find(answered["access_token"]) is None


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512"])
def test_the_three_rsa_algorithms_are_accepted(world, algorithm):
    assert check_grant(world.state, world.sign(algorithm=algorithm)).party == EMPLOYER


def test_other_algorithms_are_refused(world):
    assert "algorithm" in world.refusal(world.sign(algorithm="PS256"))
    assert "algorithm" in world.refusal(world.sign(key="x" * 32, algorithm="HS256"))
    assert "not a JWT" in world.refusal("nonsense")


def test_the_signature_is_really_checked(world):
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert world.refusal(world.sign(key=other)) == "MP-122"


def test_exactly_one_of_kid_and_x5c_is_required(world):
    assert "exactly one" in world.refusal(world.sign(headers={}))
    assert "exactly one" in world.refusal(world.sign(headers={"kid": "k1", "x5c": ["x"]}))


def test_a_certificate_of_the_registered_key_will_do(world):
    def certificate(key):
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sandbox")])
        start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + dt.timedelta(365))
        return base64.b64encode(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)).decode()

    good = world.sign(headers={"x5c": [certificate(world.key)]})
    assert check_grant(world.state, good).party == EMPLOYER
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert world.refusal(world.sign(headers={"x5c": [certificate(other)]}, key=other)) == "MP-120"
    assert world.refusal(world.sign(headers={"x5c": ["!"]})) == "MP-120"


def test_key_client_audience_and_scope_must_be_known(world):
    assert world.refusal(world.sign(headers={"kid": "other"})) == "MP-120"
    assert world.refusal(world.sign(iss="other")) == "MP-100"
    assert world.refusal(world.sign(aud=ISSUER.rstrip("/"))) == "MP-110"
    assert world.refusal(world.sign(scope="skatteetaten:other")) == "MP-201"
    assert world.refusal(world.sign(scope="")) == "MP-200"
    world.state.clients[world.client_id].expired_kid.add("k1")
    assert world.refusal(world.sign()) == "MP-121"


def test_a_grant_is_accepted_once(world):
    assertion = world.sign()
    check_grant(world.state, assertion)
    assert world.refusal(assertion) == "MP-012"


def test_times_must_hold_with_ten_seconds_of_skew(world):
    assert check_grant(world.state, world.sign(iat=NOW + 10))
    assert "Issue time" in world.refusal(world.sign(iat=NOW + 11))
    assert "120" in world.refusal(world.sign(exp=NOW + 121))
    assert world.refusal(world.sign(iat=NOW - 130, exp=NOW - 11)) == "MP-130"
    assert check_grant(world.state, world.sign(iat=NOW - 100, exp=NOW - 9))


@pytest.mark.parametrize("claim", ["resource", "sub", "nbf", "something"])
def test_unknown_claims_are_refused(world, claim):
    assert claim in world.refusal(world.sign(**{claim: 1 if claim == "nbf" else "x"}))


@pytest.mark.parametrize("claim", ["jti", "exp", "iat", "scope", "aud"])
def test_missing_claims_are_refused(world, claim):
    assert claim in world.refusal(world.sign(without=[claim]))


def test_the_system_user_must_be_known_with_its_external_reference(world):
    world.state.register_system_user("310000009", "ref-1")
    assert world.refusal(world.sign(authorization_details=[details("999999999")])) == "MP-302"
    assert world.refusal(world.sign(authorization_details=[details("310000009")])) == "MP-303"
    good = world.sign(authorization_details=[details("310000009", externalRef="ref-1")])
    assert check_grant(world.state, good).party == "310000009"
    world.state.withdraw_system_user("310000009")
    assert world.refusal(world.sign(authorization_details=[details("310000009", externalRef="ref-1")])) == "MP-302"


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        [details(EMPLOYER), details(EMPLOYER)],
        "text",
        [{**details(EMPLOYER), "type": "other"}],
        [{**details(EMPLOYER), "extra": 1}],
        [{**details(EMPLOYER), "systemuser_org": {"authority": "iso6523-actorid-upis", "ID": EMPLOYER}}],
        [{**details(EMPLOYER), "systemuser_org": {"ID": f"0192:{EMPLOYER}"}}],
    ],
)
def test_malformed_authorization_details_are_refused(world, wrong):
    assert world.refusal(world.sign(authorization_details=wrong)) == "MP-301"


def test_classic_delegation_must_be_given_and_is_never_for_oneself(world):
    def grant(consumer_org):
        return world.sign(without=["authorization_details"], consumer_org=consumer_org)

    assert world.refusal(grant(EMPLOYER)) == "MP-250"
    world.state.register_delegation(EMPLOYER, SUPPLIER)
    assert check_grant(world.state, grant(EMPLOYER)).party == EMPLOYER
    assert "own organisation" in world.refusal(grant(SUPPLIER))


def test_without_a_customer_the_token_is_for_the_clients_own_organisation(world):
    assert check_grant(world.state, world.sign(without=["authorization_details"])).party == SUPPLIER


def test_errors_are_answered_as_documented_and_counted(world):
    assert world.call(world.sign(aud="x")) == (
        400,
        {"error": "invalid_grant", "error_description": f"MP-110: Invalid audience, must be {ISSUER}"},
    )
    assert world.call(world.sign(), grant_type="password")[1]["error"] == "unsupported_grant_type"
    world.call(world.sign())
    assert world.state.counts == {"MP-110": 1, "unsupported_grant_type": 1, "issued": 1}


def test_a_scripted_answer_strikes_its_party_as_often_as_said(world):
    world.state.script(ScriptedError(503, "server_error", times=2, party=EMPLOYER, retry_after_seconds=3))
    world.state.script(ScriptedError(400, "invalid_grant", "MP-301: not known", party="310000009"))
    assert [world.call(world.sign())[0] for _ in range(3)] == [503, 503, 200]
    world.state.clear_script()
    assert world.state.scripted_error("310000009") is None


def test_tokens_of_one_party_can_be_ended_early(world):
    text = world.call(world.sign())[1]["access_token"]
    assert world.tokens.revoke_all("310000009") == 0
    assert world.tokens.find(text) is not None
    assert world.tokens.revoke_all(EMPLOYER) == 1
    assert world.tokens.find(text) is None


def test_expired_tokens_and_old_grant_ids_do_not_pile_up(world):
    for _ in range(100):
        world.call(world.sign())
        world.now += 60
    assert len(world.tokens) < 20
    assert world.state.remembered_jti < 20
