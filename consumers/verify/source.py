"""A client of the API for `verify --api`, written independently of the producer's, which is being checked.

The settings are the producer's, so that one file serves both. An invalid answer is an error, never an empty list.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote

import httpx
import jwt
import msgspec
from jwt.algorithms import RSAAlgorithm

from consumers.settings.model import KNOWN_NAMES
from trekkpaalegg.errors import FatalError, RetryableError, SettingsError
from trekkpaalegg.retry import Retry, retry_after_seconds
from trekkpaalegg.settings import (
    API_NEEDED,
    TREKKPLIKTIGE_NEEDED,
    SourceSettings,
    maskinporten_missing,
    missing,
    read_employers,
    read_settings,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


CALLS_AT_ONCE_MAX = 5
"""What Skatteetaten allows each organisation."""

_ALGORITHM_DEFAULT = "RS256"


class SigningKey(msgspec.Struct, frozen=True):
    """A private key, its algorithm, and the header that identifies it."""

    private_key: Any
    algorithm: str
    header: dict[str, Any]

    def __repr__(self) -> str:
        return f"SigningKey(algorithm={self.algorithm!r})"


class SourceAccess(msgspec.Struct, frozen=True):
    """Where the source is, and as whom to call it. `trekkpliktige`: each organisation number and its externalRef."""

    settings: SourceSettings
    trekkpliktige: dict[str, str | None]
    key: SigningKey


def load_source_access(env_file: Path | None, environ: Mapping[str, str]) -> SourceAccess:
    """Read the settings of the source. Raises `SettingsError` with every fault; no message holds a value."""
    settings, given, faults = read_settings(SourceSettings, env_file, environ, KNOWN_NAMES)
    employers = read_employers(settings, faults)
    faults += missing([API_NEEDED] if "trekkpliktige_file" in given else [API_NEEDED, TREKKPLIKTIGE_NEEDED], given)
    faults += maskinporten_missing(given)
    jwk = settings.maskinporten_client_jwk.get_secret_value()
    key = _key(jwk, faults) if jwk else None
    if faults or key is None:
        raise SettingsError(faults)
    references = {each.organisasjonsnummer: each.external_ref for each in employers.trekkpliktige}
    return SourceAccess(settings, references, key)


def _key(text: str, faults: list[str]) -> SigningKey | None:
    try:
        jwk = json.loads(text)
        private_key = RSAAlgorithm.from_jwk(jwk)
        header = {"kid": jwk["kid"]} if jwk.get("kid") else {"x5c": jwk["x5c"]}
        return SigningKey(private_key, jwk.get("alg", _ALGORITHM_DEFAULT), header)
    except (ValueError, KeyError, TypeError, AttributeError, jwt.InvalidKeyError):
        faults.append("MASKINPORTEN_CLIENT_JWK: is no private RSA key as a JWK with a kid")
        return None


PAUSE_SECONDS_MAX = 30.0
_RETRY = Retry(attempts_max=6, first_pause_seconds_max=2.0, pause_seconds_max=PAUSE_SECONDS_MAX)
_TIMEOUT = httpx.Timeout(connect=10.0, read=60.0, write=30.0, pool=120.0)
_GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_GRANT_SECONDS = 60
_MARGIN_SHARE = 2 / 3
_KLIENTID = "trekkpaalegg-stream-verify"
_OK, _NO_CONTENT, _UNAUTHORIZED, _NOT_FOUND, _GONE, _TOO_MANY, _SERVER_ERROR = 200, 204, 401, 404, 410, 429, 500

_Read = TypeVar("_Read")

Element = dict[str, Any]
"""One version in wire names; numbers with a fraction are `Decimal`."""


class SourceClient:
    """A client of the API. Safe for several threads; at most five calls are in progress. Use it as a context.

    Both operations raise `RetryableError` when the source does not answer well after several attempts, and
    `FatalError` when it refuses.
    """

    def __init__(self, access: SourceAccess) -> None:
        self._access = access
        self._settings = access.settings
        self._http = httpx.Client(timeout=_TIMEOUT, follow_redirects=False)
        self._slots = threading.BoundedSemaphore(min(access.settings.max_concurrent_calls, CALLS_AT_ONCE_MAX))
        self._lock = threading.Lock()
        self._issuer: tuple[str, str] | None = None
        self._tokens: dict[str, tuple[str, float]] = {}

    def orders(self, trekkpliktig: str) -> list[Element]:
        """The newest version of every order, read page by page until a page contains nothing newer."""
        found: list[Element] = []
        cursor = 0
        maks_antall = self._settings.maks_antall
        while True:
            address = f"{self._settings.api_url}?fraSekvensnummer={cursor}&maksAntall={maks_antall}"
            page = self._get(trekkpliktig, address, _elements)
            numbers = [each["sekvensnummer"] for each in page if isinstance(each.get("sekvensnummer"), int)]
            highest = max(numbers, default=cursor)
            if highest <= cursor:
                if len(page) >= maks_antall or any(number < cursor for number in numbers):
                    raise FatalError("its list does not end: fraSekvensnummer seems to be ignored")
                return found
            found += page
            cursor = highest

    def version(self, trekkpliktig: str, trekkid: str, trekkversjon: int) -> Element | None:
        """One version by number; None if the source answers that it does not exist."""
        segment = quote(trekkid, safe="") if trekkid.strip(".") else trekkid.replace(".", "%2E")
        address = f"{self._settings.api_url}/{segment}/{trekkversjon}"
        return self._get(trekkpliktig, address, _element, may_be_gone=True)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _get(
        self, trekkpliktig: str, address: str, read: Callable[[httpx.Response], _Read], *, may_be_gone: bool = False
    ) -> _Read:
        """What `read` makes of the response; request and `read` are retried together."""
        return _RETRY(lambda: read(self._get_once(trekkpliktig, address, may_be_gone=may_be_gone)))

    def _get_once(self, trekkpliktig: str, address: str, *, may_be_gone: bool) -> httpx.Response:
        headers = {
            "Accept": "application/json",
            "Klientid": _KLIENTID,
            "Korrelasjonsid": str(uuid.uuid4()),
            "Authorization": f"Bearer {self._token(trekkpliktig)}",
        }
        with self._slots:
            response = self._send("GET", address, headers=headers)
        status = response.status_code
        if status == _UNAUTHORIZED:
            with self._lock:
                self._tokens.pop(trekkpliktig, None)
            raise RetryableError("it refuses the token (401)", retry_after_seconds=0.0)
        if status in {_OK, _NO_CONTENT} or (may_be_gone and status in {_NOT_FOUND, _GONE}):
            return response
        raise _refusal("it answers", response)

    def _token(self, trekkpliktig: str) -> str:
        with self._lock:
            held = self._tokens.get(trekkpliktig)
        if held is not None and held[1] > time.monotonic():
            return held[0]
        issuer, endpoint = self._issuer_and_endpoint()
        key = self._access.key
        assertion = jwt.encode(
            self._claims(issuer, trekkpliktig), key.private_key, algorithm=key.algorithm, headers=key.header
        )
        asked = time.monotonic()
        response = self._send("POST", endpoint, data={"grant_type": _GRANT_TYPE, "assertion": assertion})
        if response.status_code != _OK:
            raise _refusal("Maskinporten answers", response)
        answer = _json(response)
        try:
            token, until = str(answer["access_token"]), asked + float(answer["expires_in"]) * _MARGIN_SHARE
        except (KeyError, TypeError, ValueError) as error:
            raise FatalError("Maskinporten's answer contains no token") from error
        with self._lock:
            self._tokens[trekkpliktig] = (token, until)
        return token

    def _claims(self, issuer: str, trekkpliktig: str) -> dict[str, Any]:
        """The claims of a grant. Source: Digdir, "Maskinporten: JWT grant" and "API for system users"."""
        settings, now = self._settings, int(time.time())
        claims: dict[str, Any] = {
            "aud": issuer,
            "iss": settings.maskinporten_client_id,
            "scope": settings.maskinporten_scopes,
            "iat": now,
            "exp": now + _GRANT_SECONDS,
            "jti": str(uuid.uuid4()),
        }
        if settings.authentication == "delegert":
            claims["consumer_org"] = trekkpliktig
        elif settings.authentication == "systembruker":
            customer = {"authority": "iso6523-actorid-upis", "ID": f"0192:{trekkpliktig}"}
            details: dict[str, Any] = {"type": "urn:altinn:systemuser", "systemuser_org": customer}
            if reference := self._access.trekkpliktige.get(trekkpliktig):
                details["externalRef"] = reference
            claims["authorization_details"] = [details]
        return claims

    def _issuer_and_endpoint(self) -> tuple[str, str]:
        settings = self._settings
        if self._issuer is None:
            issuer, endpoint = settings.maskinporten_issuer, settings.maskinporten_token_endpoint
            if issuer is None or endpoint is None:
                response = self._send("GET", settings.maskinporten_well_known_url or "")
                if response.status_code != _OK:
                    raise _refusal("Maskinporten's well-known address answers", response)
                described = _json(response)
                if not isinstance(described, dict) or not {"issuer", "token_endpoint"} <= described.keys():
                    raise FatalError("Maskinporten's well-known document lacks issuer or token endpoint")
                issuer, endpoint = issuer or described["issuer"], endpoint or described["token_endpoint"]
            self._issuer = (str(issuer), str(endpoint))
        return self._issuer

    def _send(self, method: str, address: str, **given: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        try:
            response = self._http.request(method, address, **given)
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise RetryableError(f"no complete answer ({type(error).__name__})") from error
        announced = {"content-length", "transfer-encoding"} & set(response.headers)
        if response.status_code == _OK and not response.content and not announced:
            raise RetryableError("an empty answer without an announced length: it may have been cut off")
        return response


def _refusal(who: str, response: httpx.Response) -> FatalError | RetryableError:
    status = response.status_code
    if status >= _SERVER_ERROR or status == _TOO_MANY:
        requested = retry_after_seconds(response.headers.get("retry-after"), time.time(), PAUSE_SECONDS_MAX)
        return RetryableError(f"{who} {status}", retry_after_seconds=requested)
    return FatalError(f"{who} {status}")


def _json(response: httpx.Response) -> Any:  # noqa: ANN401 - JSON may be anything
    try:
        return json.loads(response.content, parse_float=Decimal)
    except (ValueError, RecursionError):
        # Not chained: the error may show a part of the body.
        raise RetryableError("the answer is not JSON, or was cut off") from None


def _element(response: httpx.Response) -> Element | None:
    if response.status_code in {_NOT_FOUND, _GONE}:
        return None
    element = _json(response)
    if not isinstance(element, dict) or "trekkid" not in element:
        raise RetryableError("the answer is not a trekkpålegg")
    return element


def _elements(response: httpx.Response) -> list[Element]:
    if response.status_code == _NO_CONTENT or not response.content:
        return []
    page = _json(response)
    if not isinstance(page, list) or not all(isinstance(each, dict) for each in page):
        raise RetryableError("the answer is not a list of trekkpålegg")
    if page and not any("trekkid" in each or "sekvensnummer" in each for each in page):
        raise RetryableError("the answer contains objects of another API")
    return page
