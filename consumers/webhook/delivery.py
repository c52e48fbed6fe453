"""Signed parcels in, what came of sending each out: an HTTP client, and threads of which each sends one at a time."""

from __future__ import annotations

import queue
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

import httpx

from consumers.webhook.address import is_loopback
from consumers.webhook.answer import Meaning, Outcome, outcome_of
from consumers.webhook.cloudevent import CONTENT_TYPE

if TYPE_CHECKING:
    from consumers.webhook.cloudevent import Parcel
    from consumers.webhook.schedule import Waiting
    from consumers.webhook.signing import Signer

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
                now = datetime.now(UTC)
                return outcome_of(response.status_code, response.headers.get("retry-after"), now)
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
