"""HTTP client of Skatteetaten's trekkpålegg API: URLs, headers, tokens, and what its error responses mean.

No error message quotes more of a response than its status and its `kode`, and the latter only if it has that form.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import msgspec
import structlog

from producer.domain.trekkpaalegg import Gone
from producer.errors import SuspendedError
from producer.observe.port import NullObserver
from producer.source.auth.tokens import UNAUTHORIZED, with_token
from producer.source.http import RESPONSE_BYTES_MAX, exchange
from trekkpaalegg.errors import RetryableError
from trekkpaalegg.retry import retry_after_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from producer.observe.port import Observer
    from producer.source.auth.tokens import AccessTokens
    from producer.source.http import HttpResponse
    from trekkpaalegg.errors import TrekkpaaleggError


OK: Final = 200
NO_CONTENT: Final = 204
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
_ALIKE_FOR_ALL_VERSIONS: Final = frozenset({407, 426, 431})
"""The proxy's authentication, the protocol, the size of the headers (RFC 9110, 15.5.8 and 15.5.22; RFC 6585, 5)."""
_KODE: Final = re.compile(r"[A-Z0-9-]{1,20}")
_DIGITS_OF_A_PERSON: Final = re.compile(r"\d{9}")
_HINTS: Final = {
    UNAUTHORIZED: "a new token is refused too",
    FORBIDDEN: "it may not be served: has it given the right to its system user or delegation?",
    NOT_FOUND: "the address is unknown there: check TREKKPAALEGG_API_URL",
}


class _ErrorBody(msgspec.Struct):
    kode: str = ""


_decode_error = msgspec.json.Decoder(_ErrorBody).decode


def refusal_of_version(answer: HttpResponse, now_seconds: float) -> Gone | TrekkpaaleggError:
    """`Gone` if the API refuses this one version, as the resource or the request is at fault.

    It is an error as in `refusal_of` if a token is refused, or if the API is busy or broken. What would be refused for
    any version alike is a `RetryableError`: only the answer to a request for the list shows that the trekkpliktig
    cannot be served.
    """
    if not answer.is_refusal or answer.status == UNAUTHORIZED:
        return refusal_of(answer, now_seconds)
    if answer.status in _ALIKE_FOR_ALL_VERSIONS:
        return RetryableError(f"the API answers {_described(answer)}")
    return Gone(f"HTTP {answer.status}")


def refusal_of(answer: HttpResponse, now_seconds: float) -> TrekkpaaleggError:
    """`SuspendedError` if the API refuses this trekkpliktig, `RetryableError` if it is busy or broken.

    The status decides; `kode` is opaque text. A redirect is never followed and counts as broken: a failing gateway
    redirects to a page for people.
    """
    described = _described(answer)
    if answer.is_refusal:
        hint = _HINTS.get(answer.status)
        return SuspendedError(f"the API refuses with {described}" + (f": {hint}" if hint else ""))
    return RetryableError(
        f"the API answers {described}",
        retry_after_seconds=retry_after_seconds(answer.headers.get("retry-after"), now_seconds),
    )


def _described(answer: HttpResponse) -> str:
    return f"HTTP {answer.status}{_kode(answer.body)}"


def _kode(body: bytes) -> str:
    try:
        kode = _decode_error(body).kode
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    is_plain = _KODE.fullmatch(kode) and not _DIGITS_OF_A_PERSON.search(kode)
    return f" {kode}" if is_plain else ""


_LIST: Final = "list"
_VERSION: Final = "version"
_DISTRIBUTION: Final = "trekkpaalegg-stream"
_MILLISECONDS: Final = 1000
_log = structlog.get_logger(__name__)


class SkatteetatenClient:
    """Both operations of the API. Safe for several threads, which share `max_concurrent_calls`.

    `base_url` ends with `/v1`. Every call has a new Korrelasjonsid, which is logged because support asks for it.
    """

    def __init__(
        self,
        http: httpx.Client,
        base_url: str,
        tokens: AccessTokens,
        *,
        max_concurrent_calls: int = 5,
        response_bytes_max: int = RESPONSE_BYTES_MAX,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._http = http
        self._base_url = base_url.rstrip("/")
        self._tokens = tokens
        self._slots = threading.BoundedSemaphore(max_concurrent_calls)
        self._response_bytes_max = response_bytes_max
        self._observer = observer or NullObserver()
        self._clock = clock
        self._klientid = f"{_DISTRIBUTION}/{version(_DISTRIBUTION)}"

    def fetch_list(self, trekkpliktig: str, cursor: int, maks_antall: int) -> HttpResponse:
        """Operation 1, newer than `cursor`: the response, always a success. 404 is a wrong URL, not an empty list.

        Raises `RetryableError`, `SuspendedError` or `FatalError`.
        """
        address = f"{self._base_url}?fraSekvensnummer={cursor}&maksAntall={maks_antall}"
        answer = with_token(self._tokens, trekkpliktig, partial(self._send, _LIST, trekkpliktig, address))
        if answer.status not in (OK, NO_CONTENT):
            raise refusal_of(answer, self._clock())
        return answer

    def fetch_version(self, trekkpliktig: str, trekkid: str, trekkversjon: int) -> HttpResponse | Gone:
        """Operation 2: the response, always a success; `Gone` if the API refuses this version.

        Raises `RetryableError`, `SuspendedError` or `FatalError`.
        """
        address = f"{self._base_url}/{_path_segment(trekkid)}/{trekkversjon}"
        answer = with_token(self._tokens, trekkpliktig, partial(self._send, _VERSION, trekkpliktig, address))
        if answer.status == OK:
            return answer
        refusal = refusal_of_version(answer, self._clock())
        if isinstance(refusal, Gone):
            return refusal
        raise refusal

    def is_prepared(self, trekkpliktig: str) -> bool:
        """Whether a call for it can be made without fetching a token first."""
        return self._tokens.has_for(trekkpliktig)

    def prepare(self, trekkpliktig: str) -> None:
        """Fetch the token that a call for it needs. Raises as the calls do."""
        self._tokens.token_for(trekkpliktig)

    def _send(self, operation: str, trekkpliktig: str, address: str, token: str) -> HttpResponse:
        korrelasjonsid = str(uuid.uuid4())
        headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/json",
            "Klientid": self._klientid,
            "Korrelasjonsid": korrelasjonsid,
        }
        status = "failed"
        with self._slots:
            begun = time.monotonic()
            try:
                answer = exchange(self._http, "GET", address, headers=headers, bytes_max=self._response_bytes_max)
                status = str(answer.status)
            finally:
                seconds = time.monotonic() - begun
                self._observer.call_finished(operation, status, seconds)
                log = _log.debug if status == str(OK) else _log.warning
                log(
                    "call_finished",
                    operation=operation,
                    trekkpliktig=trekkpliktig,
                    korrelasjonsid=korrelasjonsid,
                    status=status,
                    milliseconds=round(seconds * _MILLISECONDS),
                )
        return answer


def _path_segment(trekkid: str) -> str:
    """The trekkid as one segment of a URL. `.` and `..` are escaped, as they would lead to another path."""
    return quote(trekkid, safe="") if trekkid.strip(".") else trekkid.replace(".", "%2E")
