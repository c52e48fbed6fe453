"""Delivery: an event is signed, sent to the receiver, and its answer judged.

| Answer | Means | Then |
|---|---|---|
| 2xx | delivered | the next event of the order |
| 400, 413, 422 | this event is refused, and would be again | parked at once |
| 410 | the address is gone for good | the forwarder stops |
| 429, 502, 503, 504, no connection | the receiver has no room or is away | all wait until it is back |
| any other, also 3xx and no answer in time | failed, perhaps in passing | tried again, parked after the limit |

401, 403 and 404 are among the last: they tell of wrong settings on either side, which someone will mend.

The signature is HMAC-SHA256 over `webhook-id.webhook-timestamp.body`; with several secrets there are several
signatures, of which a receiver needs one that fits: that is how a secret is changed without a gap.
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
    from consumers.webhook.cloudevent import Parcel
    from consumers.webhook.schedule import Waiting


def address_fault(url: str, *, allow_plain_http: bool) -> str | None:
    """What is wrong with it, or None: bodies hold national ids, so they go over TLS, or do not leave the machine.

    Says nothing of the address: it may hold a secret of the receiver's.
    """
    parts = urlsplit(url)
    if parts.scheme == "https" or allow_plain_http or is_loopback(url):
        return None
    return "must begin with https://, since national ids are sent there; --allow-plain-http lets plain HTTP through"


def is_loopback(url: str) -> bool:
    """Whether it is this machine's own: by number, or by the name `localhost`."""
    host = (urlsplit(url).hostname or "").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown(url: str) -> str:
    """Scheme, host and port: paths and queries may hold a secret of the receiver's."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


RETRY_AFTER_SECONDS_MAX = 24 * 3600.0
_REFUSED = frozenset({400, 413, 422})
_UNAVAILABLE = frozenset({429, 502, 503, 504})
_GONE = 410
_SUCCESS = range(200, 300)
_REDIRECT = range(300, 400)


class Meaning(Enum):
    """What came of an attempt."""

    DELIVERED = "delivered"
    FAILED = "failed"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    GONE = "gone"


class Outcome(msgspec.Struct, frozen=True):
    """What came of an attempt, in words that hold nothing of the event or of the answer's body."""

    meaning: Meaning
    words: str = ""
    retry_after_seconds: float | None = None
    """What the receiver asked for, at most a day."""


def outcome_of(status: int, retry_after: str | None, now_seconds: float) -> Outcome:
    """What an answer with this status and header `Retry-After` means. `now_seconds` is the time since 1970."""
    words = f"the receiver answered {status}"
    if status in _SUCCESS:
        return Outcome(Meaning.DELIVERED, words)
    if status in _REDIRECT:
        words += "; redirects are not followed: set the address that it redirects to"
    meaning = Meaning.FAILED
    if status in _REFUSED:
        meaning = Meaning.REFUSED
    elif status in _UNAVAILABLE:
        meaning = Meaning.UNAVAILABLE
    elif status == _GONE:
        meaning = Meaning.GONE
    return Outcome(meaning, words, retry_after_seconds(retry_after, now_seconds, RETRY_AFTER_SECONDS_MAX))


SETTING = "TREKKPAALEGG_FORWARD_SECRET"
PREFIX = "whsec_"
_KEY_BYTES = 32
_KEY_BYTES_MIN, _KEY_BYTES_MAX = 24, 64
_ADVICE = "make one with `trekkpaalegg-consumer webhook secret` and give the receiver the same"


def new_secret() -> str:
    """A fresh secret of 32 random bytes, as it is written into settings."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


class Signer:
    """Signs with every secret of `text`, which holds one or several separated by spaces.

    Raises `SettingsError` for text that holds none, or one of another form; its message holds no secret.
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

    def headers(self, parcel: Parcel, moment: datetime) -> dict[str, str]:
        """The three headers, for an attempt made at `moment` (UTC)."""
        body = parcel.body.decode()
        signatures = [webhook.sign(parcel.webhook_id, moment, body) for webhook in self._webhooks]
        return {
            "webhook-id": parcel.webhook_id,
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


class Receiver:
    """One address. Used by several threads.

    Redirects are not followed, and of the answer's body nothing is kept: it may quote what was sent.
    """

    def __init__(self, url: str, signer: Signer, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._url = url
        self._signer = signer
        self._client = httpx.Client(
            timeout=httpx.Timeout(answer_seconds, connect=min(answer_seconds, _CONNECT_SECONDS)),
            follow_redirects=False,
            # A proxy of the environment's would read what plain HTTP says, which is meant for this machine alone.
            trust_env=url.startswith("https:") or not is_loopback(url),
            headers={"content-type": CONTENT_TYPE, "user-agent": "trekkpaalegg-consumer", "accept": "*/*"},
        )

    def send(self, parcel: Parcel) -> Outcome:
        """Send it once. Raises nothing of the network's: an answer that does not come is an outcome too."""
        headers = self._signer.headers(parcel, datetime.now(UTC))
        try:
            with self._client.stream("POST", self._url, content=parcel.body, headers=headers) as response:
                _read_to_end(response)
                return outcome_of(response.status_code, response.headers.get("retry-after"), time.time())
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            return Outcome(Meaning.UNAVAILABLE, f"no connection to the receiver ({str(error) or type(error).__name__})")
        except (httpx.HTTPError, RuntimeError) as error:  # a client that was closed meanwhile raises RuntimeError
            return Outcome(Meaning.FAILED, f"no answer from the receiver ({type(error).__name__})")

    def close(self) -> None:
        """Close the connections; what is on its way fails."""
        self._client.close()


def _read_to_end(response: httpx.Response) -> None:
    """So that the connection can be used again, unless the body is long or slow."""
    deadline, read = time.monotonic() + _ANSWER_BODY_SECONDS, 0
    try:
        for chunk in response.iter_raw():
            read += len(chunk)
            if read > _ANSWER_BYTES_MAX or time.monotonic() > deadline:
                return
    except httpx.HTTPError:
        return  # the status has come, and says it all


class Couriers:
    """So many threads that send. They are daemons: an end of the program does not wait for a slow receiver."""

    def __init__(self, receiver: Receiver, count: int) -> None:
        self._receiver = receiver
        self._outward: queue.SimpleQueue[tuple[Waiting, Parcel] | None] = queue.SimpleQueue()
        self._back: queue.SimpleQueue[tuple[Waiting, Outcome]] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._run, name=f"courier-{n}", daemon=True) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def send(self, waiting: Waiting, parcel: Parcel) -> None:
        """Give it to one of them."""
        self._outward.put((waiting, parcel))

    def come_back(self, seconds_max: float) -> list[tuple[Waiting, Outcome]]:
        """All that have come back, waiting at most so long for the first."""
        came: list[tuple[Waiting, Outcome]] = []
        try:
            came.append(self._back.get(timeout=seconds_max) if seconds_max > 0 else self._back.get_nowait())
            while True:
                came.append(self._back.get_nowait())
        except queue.Empty:
            return came

    def close(self) -> None:
        """Send no more, and break off what is on its way."""
        for _ in self._threads:
            self._outward.put(None)
        self._receiver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _run(self) -> None:
        while (given := self._outward.get()) is not None:
            waiting, parcel = given
            try:
                outcome = self._receiver.send(parcel)
            except Exception as error:  # noqa: BLE001 - a thread that dies would leave its order waiting for ever
                outcome = Outcome(Meaning.FAILED, f"it could not be sent ({type(error).__name__})")
            self._back.put((waiting, outcome))
