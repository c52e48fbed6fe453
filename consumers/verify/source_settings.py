"""The environment in, what is needed to ask the source out, or `SettingsError` with every fault at once.

The names are the producer's, so that one file of settings serves both; only `verify --api` asks for them here.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Literal

import jwt
import msgspec
from jwt.algorithms import RSAAlgorithm

from consumers.environment import PREFIX, read_environment, read_secret_files
from consumers.errors import SettingsError
from consumers.settings import KNOWN_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CALLS_AT_ONCE_MAX = 5
"""What Skatteetaten allows each organisation."""

_MAKS_ANTALL_DEFAULT = 2500
_SCOPE_DEFAULT = "skatteetaten:trekkpaalegg"
_ALGORITHM_DEFAULT = "RS256"
_ORGANISASJONSNUMMER = re.compile(r"[0-9]{9}")
_ADDRESS = re.compile(r"https?://[A-Za-z0-9\[][A-Za-z0-9.:\[\]_-]*(?:/[^?#\s]*)?")


class SigningKey(msgspec.Struct, frozen=True):
    """A private key, how to sign with it, and the header that names it."""

    private_key: Any
    algorithm: str
    header: dict[str, Any]

    def __repr__(self) -> str:
        return f"SigningKey(algorithm={self.algorithm!r})"


class SourceSettings(msgspec.Struct, frozen=True):
    """Where the source is and as whom to ask. `trekkpliktige` gives each organisation number its externalRef."""

    api_url: str
    trekkpliktige: dict[str, str | None]
    authentication: Literal["egen", "systembruker", "delegert"]
    client_id: str
    scope: str
    key: SigningKey
    well_known_url: str | None
    issuer: str | None
    token_endpoint: str | None
    maks_antall: int = _MAKS_ANTALL_DEFAULT
    calls_at_once: int = CALLS_AT_ONCE_MAX


def load_source_settings(env_file: Path | None, environ: Mapping[str, str]) -> SourceSettings:
    """Read them. No message holds a value."""
    given, faults = read_environment(env_file, environ, KNOWN_NAMES)
    given |= read_secret_files(given, ["MASKINPORTEN_CLIENT_JWK"], faults)
    own = {name.removeprefix(PREFIX): text for name, text in given.items() if name.startswith(PREFIX)}
    keys = {name.removeprefix("MASKINPORTEN_"): text for name, text in given.items() if name.startswith("MASKIN")}
    api_url = own.get("API_URL", "").rstrip("/")
    if not _ADDRESS.fullmatch(api_url):
        faults.append(f"{PREFIX}API_URL: missing or no address; give the API's base, up to and with /v1")
    authentication = own.get("AUTHENTICATION", "systembruker")
    if authentication not in {"egen", "systembruker", "delegert"}:
        faults.append(f"{PREFIX}AUTHENTICATION: must be egen, systembruker or delegert")
    trekkpliktige = _trekkpliktige(own, faults)
    if authentication == "egen" and len(trekkpliktige) > 1:
        faults.append(f"{PREFIX}AUTHENTICATION: egen reads for one organisation, its own; more are given")
    if "CLIENT_ID" not in keys:
        faults.append("MASKINPORTEN_CLIENT_ID: missing; give the client's id from Maskinporten")
    if "WELL_KNOWN_URL" not in keys and not {"ISSUER", "TOKEN_ENDPOINT"} <= keys.keys():
        faults.append("MASKINPORTEN_WELL_KNOWN_URL: missing; give it, or both issuer and token endpoint")
    maks_antall = _number(own, "MAKS_ANTALL", _MAKS_ANTALL_DEFAULT, faults)
    calls_at_once = _number(own, "MAX_CONCURRENT_CALLS", CALLS_AT_ONCE_MAX, faults)
    key = None if keys.get("CLIENT_JWK") == "" else _key(keys.get("CLIENT_JWK", ""), faults)
    if faults or key is None:
        raise SettingsError(faults)
    return SourceSettings(
        api_url=api_url,
        trekkpliktige=trekkpliktige,
        authentication=authentication,  # type: ignore[arg-type] # looked at above
        client_id=keys["CLIENT_ID"],
        scope=keys.get("SCOPES", _SCOPE_DEFAULT),
        key=key,
        well_known_url=keys.get("WELL_KNOWN_URL"),
        issuer=keys.get("ISSUER"),
        token_endpoint=keys.get("TOKEN_ENDPOINT"),
        maks_antall=maks_antall,
        calls_at_once=min(calls_at_once, CALLS_AT_ONCE_MAX),
    )


def _trekkpliktige(own: Mapping[str, str], faults: list[str]) -> dict[str, str | None]:
    name = f"{PREFIX}TREKKPLIKTIGE"
    lines = own.get("TREKKPLIKTIGE", "").split(",")
    entries = [(each.strip(), "") for each in lines if each.strip()]
    if "TREKKPLIKTIGE_FILE" in own:
        name += "_FILE"
        try:
            with open(own["TREKKPLIKTIGE_FILE"], encoding="utf-8-sig") as file:  # noqa: PTH123 - a setting's text as it is
                parts = [line.partition("#")[0].partition(",") for line in file]
        except (OSError, UnicodeDecodeError) as error:
            faults.append(f"{name}: cannot be read ({type(error).__name__}); give a readable UTF-8 file")
            return {}
        entries = [(number.strip(), reference.strip()) for number, _, reference in parts if number.strip()]
    for place, (number, _) in enumerate(entries, start=1):
        if not _ORGANISASJONSNUMMER.fullmatch(number):
            faults.append(f"{name}: entry {place} is not an organisation number of nine digits")
    if not entries:
        faults.append(f"{name}: no organisation number is given")
    return {number: reference or None for number, reference in entries}


def _number(own: Mapping[str, str], name: str, default: int, faults: list[str]) -> int:
    text = own.get(name, str(default))
    if not text.isdecimal() or int(text) < 1:
        faults.append(f"{PREFIX}{name}: must be a whole number, 1 or more")
        return default
    return int(text)


def _key(text: str, faults: list[str]) -> SigningKey | None:
    try:
        jwk = json.loads(text)
        private_key = RSAAlgorithm.from_jwk(jwk)
        header = {"kid": jwk["kid"]} if jwk.get("kid") else {"x5c": jwk["x5c"]}
        return SigningKey(private_key, jwk.get("alg", _ALGORITHM_DEFAULT), header)
    except (ValueError, KeyError, TypeError, AttributeError, jwt.InvalidKeyError):
        faults.append("MASKINPORTEN_CLIENT_JWK: missing, or no private RSA key as JWK with a kid")
        return None
