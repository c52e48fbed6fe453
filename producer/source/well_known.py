"""The address of Maskinporten's description of itself in; its name and where it takes grants, out."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import msgspec

from producer.errors import RetryableError, SettingsError
from producer.source.exchange import exchange

if TYPE_CHECKING:
    import httpx

_OK: Final = 200
_DOCUMENT_BYTES_MAX: Final = 1024 * 1024


class Issuer(msgspec.Struct, frozen=True):
    """Where grants are sent, and the name that they must be addressed to."""

    issuer: str
    token_endpoint: str


_decode_issuer = msgspec.json.Decoder(Issuer).decode


class WellKnown:
    """Maskinporten's own description of itself, fetched when first asked for and kept; settings override it."""

    def __init__(
        self,
        http: httpx.Client,
        well_known_url: str | None,
        *,
        issuer: str | None = None,
        token_endpoint: str | None = None,
    ) -> None:
        self._http = http
        self._url = well_known_url
        self._issuer = issuer
        self._token_endpoint = token_endpoint
        self._lock = threading.Lock()
        self._known = Issuer(issuer, token_endpoint) if issuer and token_endpoint else None
        if self._known is None and not well_known_url:
            overrides = "MASKINPORTEN_ISSUER and MASKINPORTEN_TOKEN_ENDPOINT"
            raise SettingsError([f"MASKINPORTEN_WELL_KNOWN_URL: missing; give it, or both {overrides}"])

    def issuer(self) -> Issuer:
        """Raises `RetryableError` as long as the document cannot be had."""
        with self._lock:
            if self._known is None:
                self._known = self._fetch()
            return self._known

    def _fetch(self) -> Issuer:
        answer = exchange(self._http, "GET", self._url or "", bytes_max=_DOCUMENT_BYTES_MAX)
        if answer.status != _OK:
            raise RetryableError(f"the address MASKINPORTEN_WELL_KNOWN_URL answers HTTP {answer.status}")
        try:
            document = _decode_issuer(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise RetryableError(
                "the document at MASKINPORTEN_WELL_KNOWN_URL names no issuer and token_endpoint"
            ) from None
        return Issuer(self._issuer or document.issuer, self._token_endpoint or document.token_endpoint)
