"""A proxy before a Kafka broker that loses, delays or replaces what passes through it.

To be the broker's advertised listener, so that all traffic of all clients passes it::

    with KafkaProxy() as proxy, EmbeddedKafka(properties=proxy.broker_properties) as kafka:
        proxy.target_port = kafka.port
        proxy.lose_answers(END_TXN, times=1, cut=True)
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self

import msgspec

from sandbox.servers.server import LOOPBACK, free_port
from tests.kit.servers.kafka_answers import CORRELATION, METADATA, REQUEST, SIZE, without_brokers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CONNECT_SECONDS_MAX = 5.0


class Loss(msgspec.Struct):
    """What is lost of the next `times` requests with `api_key`: the request itself, or only its answer.

    `cut` closes the connection then, as a network does that fails; else nothing more is heard of it.
    """

    api_key: int
    times: int
    of_request: bool
    cut: bool
    lost: int = 0


class Held:
    """The next request of a kind, kept on its way until it is delivered late.

    Its sender hears nothing of it, or is told by `answer` what no broker has said.
    """

    def __init__(self, api_key: int, target_port: int, *, cut: bool, answer: Callable[[bytes], bytes] | None) -> None:
        self.api_key = api_key
        self.cut = cut
        self.answer = answer
        self._target_port = target_port
        self._frame = b""
        self.is_kept = threading.Event()

    def keep(self, frame: bytes) -> None:
        """This is the request."""
        self._frame = frame
        self.is_kept.set()

    def deliver(self) -> bytes:
        """Give it to the broker, over a connection of its own, and return the answer without its size."""
        with socket.create_connection((LOOPBACK, self._target_port), _CONNECT_SECONDS_MAX) as broker:
            broker.sendall(self._frame)
            return next(_frames(broker))[SIZE.size :]


class KafkaProxy:
    """Listens on a free port of 127.0.0.1 and forwards to `target_port`."""

    def __init__(self) -> None:
        self.port = free_port()
        self.target_port = 0
        self._losses: list[Loss] = []
        self._to_hold: list[Held] = []
        self._is_down = False
        self._hidden: list[int] | None = None
        self._pairs: set[_Pair] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None

    @property
    def broker_properties(self) -> dict[str, str]:
        """What makes a broker send its clients, and itself, through this proxy."""
        return {"advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{self.port}"}

    @property
    def bootstrap_servers(self) -> str:
        """Address for clients."""
        return f"{LOOPBACK}:{self.port}"

    def lose_requests(self, api_key: int, *, times: int = 1, cut: bool = True) -> Loss:
        """The broker does not see the next `times` requests of this kind."""
        return self._add(Loss(api_key, times, of_request=True, cut=cut))

    def lose_answers(self, api_key: int, *, times: int = 1, cut: bool = True) -> Loss:
        """The broker sees and answers the next `times` requests of this kind; the client hears nothing of it."""
        return self._add(Loss(api_key, times, of_request=False, cut=cut))

    def hold_request(self, api_key: int, *, cut: bool, answer: Callable[[bytes], bytes] | None = None) -> Held:
        """Keep the next request of this kind on its way. `cut` closes the connection that it came by.

        `answer` makes of the request what its sender is told, both with their size in front.
        """
        held = Held(api_key, self.target_port, cut=cut, answer=answer)
        with self._lock:
            self._to_hold.append(held)
        return held

    def held_of(self, api_key: int) -> Held | None:
        """Where this request is to be kept, if it is."""
        with self._lock:
            for held in self._to_hold:
                if held.api_key == api_key:
                    self._to_hold.remove(held)
                    return held
        return None

    @contextlib.contextmanager
    def hide_brokers(self) -> Iterator[list[int]]:
        """Meanwhile the cluster has no broker, by its answers; what is given has one item for each of them."""
        told: list[int] = []
        self._hidden = told
        try:
            yield told
        finally:
            self._hidden = None

    def shown(self, answer: bytes, version: int) -> bytes:
        """An answer about the cluster, as the client is to see it."""
        hidden = self._hidden
        if hidden is None:
            return answer
        hidden.append(version)
        return without_brokers(answer, version)

    def go_down(self) -> None:
        """Cut every connection and refuse new ones."""
        with self._lock:
            self._is_down = True
            pairs = list(self._pairs)
        for pair in pairs:
            pair.close()

    def come_up(self) -> None:
        """Undo `go_down`."""
        with self._lock:
            self._is_down = False

    def loss_of(self, api_key: int, *, of_request: bool) -> Loss | None:
        """The loss that strikes this request now, which then counts as having struck."""
        with self._lock:
            for loss in self._losses:
                if (loss.api_key, loss.of_request) == (api_key, of_request) and loss.lost < loss.times:
                    loss.lost += 1
                    return loss
        return None

    def forget(self, pair: _Pair) -> None:
        """A connection has ended."""
        with self._lock:
            self._pairs.discard(pair)

    def __enter__(self) -> Self:
        self._listener = socket.create_server((LOOPBACK, self.port))
        threading.Thread(target=self._accept, args=[self._listener], name="proxy", daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._listener is not None:
            _close(self._listener)
        self.go_down()

    def _add(self, loss: Loss) -> Loss:
        with self._lock:
            self._losses.append(loss)
        return loss

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection((LOOPBACK, self.target_port), _CONNECT_SECONDS_MAX)
            except OSError:
                client.close()
                continue
            broker.settimeout(None)
            pair = _Pair(self, client, broker)
            with self._lock:
                self._pairs.add(pair)
                is_down = self._is_down
            if is_down:
                pair.close()
            pair.start()


class _Pair:
    """A client's connection and the one to the broker that belongs to it."""

    def __init__(self, proxy: KafkaProxy, client: socket.socket, broker: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._broker = broker
        self._unanswered: dict[int, Loss] = {}
        self._about_cluster: dict[int, int] = {}
        """Versions of requests about the cluster that are not answered yet."""

    def start(self) -> None:
        for pump in (self._pump_requests, self._pump_answers):
            threading.Thread(target=self._run, args=[pump], name="proxy-pump", daemon=True).start()

    def close(self) -> None:
        _close(self._client)
        _close(self._broker)
        self._proxy.forget(self)

    def _run(self, pump: Callable[[], None]) -> None:
        with contextlib.suppress(OSError):
            pump()
        self.close()

    def _pump_requests(self) -> None:
        for frame in _frames(self._client):
            api_key, version, correlation = REQUEST.unpack_from(frame, SIZE.size)
            if api_key == METADATA:
                self._about_cluster[correlation] = version
            held = self._proxy.held_of(api_key)
            if held is not None:
                if held.answer is not None:
                    self._client.sendall(held.answer(frame))
                held.keep(frame)
                if held.cut:
                    return
                continue
            lost = self._proxy.loss_of(api_key, of_request=True)
            if lost is not None:
                if lost.cut:
                    return
                continue
            unanswered = self._proxy.loss_of(api_key, of_request=False)
            if unanswered is not None:
                self._unanswered[correlation] = unanswered
            self._broker.sendall(frame)

    def _pump_answers(self) -> None:
        for frame in _frames(self._broker):
            (correlation,) = CORRELATION.unpack_from(frame, SIZE.size)
            lost = self._unanswered.pop(correlation, None)
            version = self._about_cluster.pop(correlation, None)
            if lost is None:
                self._client.sendall(frame if version is None else self._proxy.shown(frame, version))
            elif lost.cut:
                return


def _frames(connection: socket.socket) -> Iterator[bytes]:
    """Whole requests or answers, size in front included, until the connection ends."""
    with connection.makefile("rb") as stream:
        while True:
            size = stream.read(SIZE.size)
            if len(size) < SIZE.size:
                return
            body = stream.read(SIZE.unpack(size)[0])
            yield size + body


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
