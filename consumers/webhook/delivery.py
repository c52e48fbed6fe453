"""Sending signed events to the receiver's address, and classifying its answers.

| Answer | Meaning | Consequence |
|---|---|---|
| 2xx | delivered | the next event of the order is sent |
| 400, 413, 422 | the receiver refuses this event, and would again | parked at once |
| 410 | the address is gone for good | the forwarder stops |
| 429, 502, 503, 504, no connection | the receiver is overloaded or unavailable | all events wait until it is back |
| any other, including 3xx and a timeout | failed, perhaps temporarily | retried, and parked after the limit |

401, 403 and 404 belong to the last row: they indicate wrong settings on either side, which somebody will correct.

The signature is HMAC-SHA256 over `webhook-id.webhook-timestamp.body`. With several secrets there is one signature for
each, and the receiver accepts the event if one of them is valid: so a secret can be changed without interruption.
Source: https://www.standardwebhooks.com, "Signature scheme".
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import queue
import secrets
import threading
import time
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import httpx
import msgspec
from standardwebhooks import Webhook

from consumers.webhook.cloudevent import CONTENT_TYPE
from trekkpaalegg.errors import SettingsError
from trekkpaalegg.retry import retry_after_seconds

if TYPE_CHECKING:
    from consumers.webhook.cloudevent import WebhookRequest
    from consumers.webhook.schedule import PendingEvent


def address_fault(url: str, *, allow_plain_http: bool) -> str | None:
    """What is wrong with the address, or None. Bodies contain national ids: they are sent over TLS, or stay local.

    The text does not quote the address, which may contain a secret of the receiver.
    """
    parts = urlsplit(url)
    if parts.scheme == "https" or allow_plain_http or is_loopback(url):
        return None
    return "must begin with https://, since national ids are sent there; --allow-plain-http permits plain HTTP"


def is_loopback(url: str) -> bool:
    """Whether the address is a loopback address, or a name under `localhost`."""
    host = (urlsplit(url).hostname or "").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown(url: str) -> str:
    """Scheme, host and port: the path and the query may contain a secret of the receiver."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


RETRY_AFTER_SECONDS_MAX = 24 * 3600.0
_REFUSED = frozenset({400, 413, 422})
_UNAVAILABLE = frozenset({429, 502, 503, 504})
_GONE = 410
_SUCCESS = range(200, 300)
_REDIRECT = range(300, 400)


class ResultKind(Enum):
    """The class of an attempt's result; see the table above."""

    DELIVERED = "delivered"
    FAILED = "failed"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    GONE = "gone"


class DeliveryResult(msgspec.Struct, frozen=True):
    """The result of one attempt. `reason` quotes neither the event nor the body of the answer."""

    kind: ResultKind
    reason: str = ""
    retry_after_seconds: float | None = None
    """The pause that the receiver asked for, at most one day."""


def result_of(status: int, retry_after: str | None, now_seconds: float) -> DeliveryResult:
    """Classify an answer by its status. `retry_after` is the header of that name; `now_seconds` is since 1970."""
    reason = f"the receiver answered {status}"
    if status in _SUCCESS:
        return DeliveryResult(ResultKind.DELIVERED, reason)
    if status in _REDIRECT:
        reason += "; redirects are not followed: set the address that it redirects to"
    kind = ResultKind.FAILED
    if status in _REFUSED:
        kind = ResultKind.REFUSED
    elif status in _UNAVAILABLE:
        kind = ResultKind.UNAVAILABLE
    elif status == _GONE:
        kind = ResultKind.GONE
    return DeliveryResult(kind, reason, retry_after_seconds(retry_after, now_seconds, RETRY_AFTER_SECONDS_MAX))


SETTING = "TREKKPAALEGG_FORWARD_SECRET"
PREFIX = "whsec_"
_KEY_BYTES = 32
_KEY_BYTES_MIN, _KEY_BYTES_MAX = 24, 64
_ADVICE = "make one with `trekkpaalegg-consumer webhook secret` and give the receiver the same"


def new_secret() -> str:
    """A new secret of 32 random bytes, in the form that the settings expect."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


class Signer:
    """Signs with every secret in `text`, which contains one or more, separated by spaces.

    Raises `SettingsError` if there is none, or if one is malformed; the message does not quote it.
    """

    def __init__(self, text: str) -> None:
        given = text.split()
        if not given:
            raise SettingsError([f"{SETTING}: missing; {_ADVICE}"])
        faults = [
            f"{SETTING}: secret number {number} is not {PREFIX} and {_KEY_BYTES_MIN} to {_KEY_BYTES_MAX} bytes "
            f"in base64; {_ADVICE}"
            for number, secret in enumerate(given, start=1)
            if not _is_secret(secret)
        ]
        if faults:
            raise SettingsError(faults)
        self._webhooks = [Webhook(secret) for secret in given]

    def headers(self, request: WebhookRequest, moment: datetime) -> dict[str, str]:
        """The three signature headers of an attempt made at `moment` (UTC)."""
        body = request.body.decode()
        signatures = [webhook.sign(request.webhook_id, moment, body) for webhook in self._webhooks]
        return {
            "webhook-id": request.webhook_id,
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": " ".join(signatures),
        }


def _is_secret(text: str) -> bool:
    if not text.startswith(PREFIX):
        return False
    try:
        digits = text.removeprefix(PREFIX).rstrip("=")
        key = base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False
    return _KEY_BYTES_MIN <= len(key) <= _KEY_BYTES_MAX


ANSWER_SECONDS = 30.0
_CONNECT_SECONDS = 10.0
_ANSWER_BYTES_MAX = 64 * 1024
_ANSWER_BODY_SECONDS = 5.0


class ReceiverClient:
    """Sends requests to one address. Safe for several threads.

    Redirects are not followed, and the body of an answer is discarded: it may quote what was sent.
    """

    def __init__(self, url: str, signer: Signer, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._url = url
        self._signer = signer
        self._client = httpx.Client(
            timeout=httpx.Timeout(answer_seconds, connect=min(answer_seconds, _CONNECT_SECONDS)),
            follow_redirects=False,
            # Plain HTTP is permitted to this machine only; a proxy from the environment would carry it elsewhere.
            trust_env=url.startswith("https:") or not is_loopback(url),
            headers={"content-type": CONTENT_TYPE, "user-agent": "trekkpaalegg-consumer", "accept": "*/*"},
        )

    def send(self, request: WebhookRequest) -> DeliveryResult:
        """Send the request once. Does not raise network errors: a missing answer is a result too."""
        headers = self._signer.headers(request, datetime.now(UTC))
        try:
            with self._client.stream("POST", self._url, content=request.body, headers=headers) as response:
                _read_to_end(response)
                return result_of(response.status_code, response.headers.get("retry-after"), time.time())
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            return DeliveryResult(
                ResultKind.UNAVAILABLE, f"no connection to the receiver ({str(error) or type(error).__name__})"
            )
        except (httpx.HTTPError, RuntimeError) as error:  # a client that was closed meanwhile raises RuntimeError
            return DeliveryResult(ResultKind.FAILED, f"no answer from the receiver ({type(error).__name__})")

    def close(self) -> None:
        """Close the connections; requests in flight fail."""
        self._client.close()


def _read_to_end(response: httpx.Response) -> None:
    """Read the body so that the connection can be reused, unless the body is long or slow."""
    deadline, read = time.monotonic() + _ANSWER_BODY_SECONDS, 0
    try:
        for chunk in response.iter_raw():
            read += len(chunk)
            if read > _ANSWER_BYTES_MAX or time.monotonic() > deadline:
                return
    except httpx.HTTPError:
        return  # the status has been received, and decides alone


class SenderPool:
    """Threads that send requests. They are daemons: when the program ends, it does not wait for a slow receiver."""

    def __init__(self, receiver: ReceiverClient, count: int) -> None:
        self._receiver = receiver
        self._outgoing: queue.SimpleQueue[tuple[PendingEvent, WebhookRequest] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[PendingEvent, DeliveryResult]] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._run, name=f"sender-{n}", daemon=True) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def send(self, pending: PendingEvent, request: WebhookRequest) -> None:
        """Hand the request to one of the threads."""
        self._outgoing.put((pending, request))

    def results(self, seconds_max: float) -> list[tuple[PendingEvent, DeliveryResult]]:
        """The results that have arrived; waits up to `seconds_max` for the first."""
        arrived: list[tuple[PendingEvent, DeliveryResult]] = []
        try:
            arrived.append(self._results.get(timeout=seconds_max) if seconds_max > 0 else self._results.get_nowait())
            while True:
                arrived.append(self._results.get_nowait())
        except queue.Empty:
            return arrived

    def close(self) -> None:
        """Stop sending, and abort requests in flight."""
        for _ in self._threads:
            self._outgoing.put(None)
        self._receiver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _run(self) -> None:
        while (given := self._outgoing.get()) is not None:
            pending, request = given
            try:
                result = self._receiver.send(request)
            except Exception as error:  # noqa: BLE001 - a thread that dies would block its order forever
                result = DeliveryResult(ResultKind.FAILED, f"it could not be sent ({type(error).__name__})")
            self._results.put((pending, result))
