"""Check a signed JWT grant: which client, party and scope it is for, or which documented error it gets.

Rules: docs.digdir.no, "JWT grant" and "/token endpoint" of Maskinporten; system users: docs.altinn.studio. Codes are
those Digdir documents, by group: 012 and 130 the grant, 100 the client, 110 the audience, 120 to 122 the key,
200 to 251 the scope, 301 to 303 the system user. Errors without a known code carry none.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

if TYPE_CHECKING:
    from sandbox.maskinporten.state import Client, Maskinporten

ALGORITHMS = ["RS256", "RS384", "RS512"]
SYSTEM_USER = "urn:altinn:systemuser"
AUTHORITY = "iso6523-actorid-upis"
_CLAIMS = {"aud", "iss", "scope", "iat", "exp", "jti", "authorization_details", "consumer_org"}
_REQUIRED = ("aud", "iss", "scope", "iat", "exp", "jti")
_HEADERS = {"alg", "typ", "kid", "x5c"}
_SIGNATURE_ONLY: Any = {f"verify_{name}": False for name in ("aud", "exp", "iat", "iss", "jti", "nbf", "sub")}
"""The claims are judged here, by the simulator's own clock."""
_SKEW_SECONDS = 10
_LIFE_MAX_SECONDS = 120
_ORGANISATION_PREFIX = "0192:"


class GrantError(Exception):
    """The grant is refused. `code` is the MP code if one is documented."""

    def __init__(self, error: str, description: str, *, code: str | None = None, status: int = 400) -> None:
        self.error, self.description, self.code, self.status = error, description, code, status
        super().__init__(description)


@dataclass(frozen=True)
class Grant:
    """An accepted grant."""

    client: Client
    party: str
    scope: str


def claimed_party(assertion: str) -> str | None:
    """The party a grant names, unverified: for scripted errors of one employer."""
    try:
        claims = jwt.decode(assertion, options={"verify_signature": False})
        details = claims.get("authorization_details")
        party: object = claims.get("consumer_org")
        if details:
            party = details[0]["systemuser_org"]["ID"].removeprefix(_ORGANISATION_PREFIX)
    except (jwt.PyJWTError, KeyError, IndexError, TypeError, AttributeError):
        return None
    return party if isinstance(party, str) else None


def check_grant(state: Maskinporten, assertion: str) -> Grant:
    """The client, party and scope of a grant that holds in every respect; GrantError otherwise."""
    client, claims = _verified(state, assertion)
    _check_times(state, claims)
    scope = _checked_scope(client, claims)
    party = _checked_party(state, client, claims)
    if not state.is_fresh(claims["jti"], claims["exp"] + _SKEW_SECONDS):
        raise GrantError("invalid_grant", "JWT grant has been used already", code="MP-012")
    return Grant(client, party, scope)


def _verified(state: Maskinporten, assertion: str) -> tuple[Client, dict[str, Any]]:
    try:
        header = jwt.get_unverified_header(assertion)
        unverified = jwt.decode(assertion, options={"verify_signature": False})
    except jwt.PyJWTError as error:
        raise GrantError("invalid_grant", "Invalid assertion: not a JWT") from error
    if header.get("alg") not in ALGORITHMS:
        raise GrantError("invalid_grant", "Invalid assertion: algorithm must be RS256, RS384 or RS512")
    if ("kid" in header) == ("x5c" in header):
        raise GrantError("invalid_grant", "Invalid assertion: exactly one of kid and x5c must be in the header")
    if set(header) - _HEADERS:
        raise GrantError("invalid_grant", "Invalid assertion: unknown header parameter")
    client = state.clients.get(str(unverified.get("iss")))
    if client is None:
        raise GrantError("invalid_client", "Unknown client_id in iss", code="MP-100")
    key = _key(client, header)
    try:
        claims = jwt.decode(assertion, key, algorithms=ALGORITHMS, options=_SIGNATURE_ONLY)
    except jwt.PyJWTError as error:
        raise GrantError("invalid_grant", "Invalid JWT signature", code="MP-122") from error
    _check_shape(state, claims)
    return client, claims


def _key(client: Client, header: dict[str, Any]) -> RSAPublicKey:
    if "kid" in header:
        kid = header["kid"]
        if kid in client.expired_kid:
            raise GrantError("invalid_client", "The key has expired", code="MP-121")
        if kid not in client.keys:
            raise GrantError("invalid_client", "Unknown key in kid", code="MP-120")
        return client.keys[kid]
    try:
        certificate = x509.load_der_x509_certificate(base64.b64decode(header["x5c"][0], validate=True))
        key = certificate.public_key()
    except (ValueError, TypeError, IndexError, binascii.Error) as error:
        raise GrantError("invalid_client", "Invalid certificate in x5c", code="MP-120") from error
    if not isinstance(key, RSAPublicKey) or key not in client.keys.values():
        raise GrantError("invalid_client", "Unknown certificate in x5c", code="MP-120")
    return key


def _check_shape(state: Maskinporten, claims: dict[str, Any]) -> None:
    unknown = sorted(set(claims) - _CLAIMS)
    if unknown:
        raise GrantError("invalid_grant", f"Unknown claims in JWT grant: {', '.join(unknown)}")
    missing = [name for name in _REQUIRED if name not in claims]
    if missing:
        raise GrantError("invalid_grant", f"Missing claims in JWT grant: {', '.join(missing)}")
    if claims["aud"] != state.issuer:
        raise GrantError("invalid_grant", f"Invalid audience, must be {state.issuer}", code="MP-110")
    if not all(isinstance(claims[name], int) for name in ("iat", "exp")):
        raise GrantError("invalid_grant", "iat and exp must be whole seconds")
    if not isinstance(claims["jti"], str) or not claims["jti"]:
        raise GrantError("invalid_grant", "jti must be a text")


def _check_times(state: Maskinporten, claims: dict[str, Any]) -> None:
    now = state.clock()
    if claims["iat"] > now + _SKEW_SECONDS:
        raise GrantError("invalid_grant", "Issue time is after now")
    if claims["exp"] - claims["iat"] > _LIFE_MAX_SECONDS:
        raise GrantError("invalid_grant", "Expiration time is more than 120 seconds after issue time")
    if claims["exp"] < now - _SKEW_SECONDS or claims["exp"] <= claims["iat"]:
        raise GrantError("invalid_grant", "JWT grant has expired", code="MP-130")


def _checked_scope(client: Client, claims: dict[str, Any]) -> str:
    scope = claims["scope"]
    if not isinstance(scope, str) or not scope.split():
        raise GrantError("invalid_scope", "No scope", code="MP-200")
    if not set(scope.split()) <= client.scopes:
        raise GrantError("invalid_scope", "The client may not use this scope", code="MP-201")
    return scope


def _checked_party(state: Maskinporten, client: Client, claims: dict[str, Any]) -> str:
    details, consumer_org = claims.get("authorization_details"), claims.get("consumer_org")
    if details is not None and consumer_org is not None:
        raise GrantError("invalid_grant", "authorization_details and consumer_org exclude each other")
    if details is not None:
        return _system_user_party(state, details)
    if consumer_org is None:
        return client.organisasjonsnummer
    if consumer_org == client.organisasjonsnummer:
        raise GrantError("invalid_grant", "consumer_org may not be the client's own organisation")
    if (consumer_org, client.organisasjonsnummer) not in state.delegations:
        raise GrantError("invalid_scope", "The consumer has not delegated access to this scope", code="MP-250")
    return str(consumer_org)


def _system_user_party(state: Maskinporten, details: Any) -> str:  # noqa: ANN401  # JSON from outside
    error = "invalid_altinn_customer_configuration"
    if not isinstance(details, list) or len(details) != 1 or not isinstance(details[0], dict):
        raise GrantError("invalid_request", "authorization_details must hold one object", code="MP-301")
    detail = details[0]
    organisation = detail.get("systemuser_org")
    if detail.get("type") != SYSTEM_USER or set(detail) - {"type", "systemuser_org", "externalRef"}:
        raise GrantError("invalid_request", "Unknown type or field in authorization_details", code="MP-301")
    if not isinstance(organisation, dict) or organisation.get("authority") != AUTHORITY:
        raise GrantError("invalid_request", "systemuser_org has an unknown authority", code="MP-301")
    identity = str(organisation.get("ID"))
    party = identity.removeprefix(_ORGANISATION_PREFIX)
    if not identity.startswith(_ORGANISATION_PREFIX):
        raise GrantError("invalid_request", "systemuser_org.ID must be 0192:<organisation number>", code="MP-301")
    if (party, detail.get("externalRef", party)) in state.system_users:
        return party
    if any(known == party for known, _ in state.system_users):
        raise GrantError(error, "No system user is found with this externalRef", code="MP-303")
    raise GrantError(error, "No system user is found for this organisation", code="MP-302")
