"""The forwarder with its real store, client and senders, against a payroll system that fails in every way."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

import pytest

from consumers.webhook.cloudevent import EventMessage, order_of
from consumers.webhook.delivery import ReceiverClient, SenderPool, Signer, new_secret
from consumers.webhook.forward import Forwarder, Limits
from consumers.webhook.opening import open_store, state_address
from consumers.webhook.schedule import RetryPolicy
from tests.kit.event_stream import ROUGH, event_encoder, make_stream
from tests.kit.receivers import PayrollReceiver
from tests.kit.waiting import until
from trekkpaalegg.decode import Decoder
from trekkpaalegg.errors import FatalError
from trekkpaalegg.incoming import Coordinates

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from producer.domain.trekkpaalegg import Publication

TOPIC = "test-versjoner"
WAIT_SECONDS_MAX = 60
QUICK = RetryPolicy(attempts_max=3, first_pause_seconds=0.02, longest_pause_seconds=0.05)


class MemoryTopic:
    """A topic of one partition, read from the offset that the store says."""

    def __init__(self, messages: Sequence[EventMessage], start: int, batch: int = 50) -> None:
        self._messages = messages
        self.position = start
        self._batch = batch

    @property
    def has_reached_end(self) -> bool:
        return self.position >= len(self._messages)

    def poll(self, seconds_max: float) -> list[EventMessage]:
        if self.has_reached_end:
            time.sleep(seconds_max)
        found = self._messages[self.position : self.position + self._batch]
        self.position += len(found)
        return list(found)


def messages_of(stream: Sequence[Publication], *undecodable: int) -> list[EventMessage]:
    """As they are in the topic; those at the given offsets are damaged."""
    encode = event_encoder().encode
    found = []
    for offset, each in enumerate(stream):
        encoded = encode(each)
        place = Coordinates(TOPIC, 0, offset)
        value = b"\xc3\x01damaged" if offset in undecodable else encoded.value
        headers = {name: text.decode() for name, text in encoded.headers.items()}
        found.append(EventMessage(place, order_of(encoded.key, place), value, headers))
    return found


class Scene:
    """A stream, a store and a payroll system; each `forward` is one life of the program."""

    def __init__(self, state: str, receiver: PayrollReceiver) -> None:
        self.state = state
        self.store = open_store(state_address(state), make=True)
        self.receiver = receiver
        self.notes: list[str] = []
        self.stopping = threading.Event()
        self.messages: list[EventMessage] = []

    def write(self, stream: Sequence[Publication], *undecodable: int) -> None:
        self.messages = messages_of(stream, *undecodable)

    def forward(self, *, answer_seconds: float = 5.0, **limits: object) -> None:
        """Until all is delivered or parked."""
        self.store.claim_ownership()
        given = Limits(**{"retry": QUICK, **limits})
        forwarder = Forwarder(self.store, Decoder(), given, self.notes.append, self.stopping)
        client = ReceiverClient(self.receiver.url, Signer(self.receiver.secret), answer_seconds=answer_seconds)
        source = MemoryTopic(self.messages, self.store.next_offsets(TOPIC).get(0, 0))
        with SenderPool(client, given.concurrency_max) as senders:
            forwarder.run(source, senders, until_end=True)

    def prove(self, *without: str) -> None:
        """All delivered in the order of the topic, save orders `without`; an older one never after a newer."""
        wanted: dict[str, list[str]] = {}
        for each in self.messages:
            wanted.setdefault(each.order, []).append(each.headers["ce_id"])
        for order in set(wanted) - set(without):
            assert self.receiver.accepted_of(order) == wanted[order]
            places = [wanted[order].index(call.webhook_id) for call in self.receiver.accepted if call.trekkid == order]
            assert places == sorted(places)
        assert self.receiver.overtaking == []


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with PayrollReceiver(new_secret()) as receiver:
        made = Scene(f"sqlite:///{tmp_path}/webhook.db", receiver)
        yield made
        made.store.close()


def order_with(stream: Sequence[Publication], versions_min: int) -> str:
    """An order that has at least so many events."""
    orders = [each.trekkpaalegg.trekkid for each in stream]
    return next(order for order in orders if orders.count(order) >= versions_min)


@pytest.mark.parametrize("seed", range(3))
def test_an_unsteady_receiver_gets_everything_in_order(scene: Scene, seed: int) -> None:
    scene.write(make_stream(seed, 30, roughness=ROUGH))
    chance = random.Random(f"unsteady {seed}")
    for _ in range(25):
        scene.receiver.make_trouble(chance.choice((500, 503, 429, 302, 404)), times=1)
    scene.forward(retry=RetryPolicy(100, 0.01, 0.02))
    scene.prove()
    assert [call for call in scene.receiver.calls if call.status != 204]
    assert scene.store.pending() == []


def test_an_order_that_fails_is_parked_after_the_limit_and_the_others_continue(scene: Scene) -> None:
    stream = make_stream(4, 20)
    order = order_with(stream, 3)
    scene.write(stream)
    scene.receiver.make_trouble(500, trekkid=order)
    scene.forward()
    scene.prove(order)
    refused = [call.webhook_id for call in scene.receiver.calls if call.trekkid == order]
    assert refused == [f"{order}/1"] * QUICK.attempts_max
    (parked,) = scene.store.parked()
    assert (parked.order, parked.event_id) == (order, f"{order}/1")
    assert parked.queued == sum(message.order == order for message in scene.messages) - 1
    assert parked.reason == "the receiver answered 500, at the last of 3 attempts"

    scene.receiver.mend()
    scene.forward()
    assert scene.receiver.accepted_of(order) == [], "parked stays parked over a restart"
    assert scene.store.release([parked.coordinates]) == 1
    scene.forward()
    scene.prove()
    assert scene.store.parked() == []


def test_a_released_event_is_sent_by_a_forwarder_that_runs(scene: Scene) -> None:
    stream = make_stream(5, 10)
    order = order_with(stream, 2)
    scene.write(stream)
    scene.receiver.make_trouble(422, trekkid=order)
    scene.forward()
    calls = [call.status for call in scene.receiver.calls if call.trekkid == order]
    assert calls == [422], "what is refused for good is parked at once"
    scene.receiver.mend()
    forwarder = Forwarder(scene.store, Decoder(), Limits(retry=QUICK), scene.notes.append, scene.stopping)
    source = MemoryTopic(scene.messages, len(scene.messages))
    with SenderPool(ReceiverClient(scene.receiver.url, Signer(scene.receiver.secret)), 4) as senders:
        running = threading.Thread(target=forwarder.run, args=(source, senders))
        running.start()
        # As another process does it.
        other = open_store(state_address(scene.state), make=False)
        assert other.release([each.coordinates for each in other.parked()]) == 1
        other.close()
        wanted = [message for message in scene.messages if message.order == order]
        try:
            until(lambda: len(scene.receiver.accepted_of(order)) == len(wanted), WAIT_SECONDS_MAX)
        finally:
            scene.stopping.set()
            running.join(WAIT_SECONDS_MAX)
    scene.prove()


def test_a_dropped_event_is_never_sent_and_those_behind_it_are(scene: Scene) -> None:
    stream = make_stream(6, 10)
    order = order_with(stream, 3)
    scene.write(stream)
    scene.receiver.make_trouble(400, trekkid=order)
    scene.forward()
    scene.receiver.mend()
    assert scene.store.drop([each.coordinates for each in scene.store.parked()]) == 1
    scene.forward()
    wanted = [message.headers["ce_id"] for message in scene.messages if message.order == order]
    assert scene.receiver.accepted_of(order) == wanted[1:]


def test_an_undecodable_message_is_parked_and_the_stream_continues(scene: Scene) -> None:
    stream = make_stream(7, 10)
    scene.write(stream, 3)
    damaged = scene.messages[3]
    scene.forward()
    scene.prove(damaged.order)
    (parked,) = scene.store.parked()
    assert parked.coordinates == damaged.coordinates
    assert "cannot be decoded" in parked.reason


def test_an_outage_parks_nothing_however_long_and_is_waited_out(scene: Scene) -> None:
    scene.write(make_stream(8, 15))
    scene.receiver.stop()

    def results() -> None:
        time.sleep(1.5)
        scene.receiver.start()

    later = threading.Thread(target=results)
    later.start()
    scene.forward()
    later.join()
    scene.prove()
    assert scene.store.parked() == []
    assert [note for note in scene.notes if "no connection" in note]
    assert scene.notes[-1] == "the receiver accepts events again"


def test_a_pause_that_the_receiver_asks_for_is_kept_by_all(scene: Scene) -> None:
    scene.write(make_stream(9, 10))
    scene.receiver.make_trouble(429, times=1, headers={"retry-after": "1"})
    begun = time.monotonic()
    scene.forward(concurrency_max=1)
    assert time.monotonic() - begun >= 1.0
    assert [call.status for call in scene.receiver.calls].count(429) == 1
    scene.prove()


def test_an_address_that_is_gone_stops_it_and_nothing_is_lost(scene: Scene) -> None:
    scene.write(make_stream(10, 10))
    scene.receiver.make_trouble(410)
    with pytest.raises(FatalError, match=r"answered 410: .* set its new address"):
        scene.forward(concurrency_max=1)
    assert [call.status for call in scene.receiver.calls] == [410]
    scene.receiver.mend()
    scene.forward()
    scene.prove()


def test_too_many_parked_events_stop_it_with_a_remedy(scene: Scene) -> None:
    scene.write(make_stream(11, 30))
    scene.receiver.make_trouble(422)
    with pytest.raises(FatalError, match=r"3 events are parked, more than --parked-max 2.*webhook release"):
        scene.forward(parked_max=2, concurrency_max=1)
    assert len(scene.receiver.calls) == 3


def test_a_redirect_is_not_followed(scene: Scene) -> None:
    scene.write(make_stream(12, 1, versions_max=1))
    scene.receiver.make_trouble(307, times=1, headers={"location": scene.receiver.url.replace("/trekk", "/elsewhere")})
    scene.forward()
    assert [call.status for call in scene.receiver.calls] == [307, 204]
    assert any("redirects are not followed" in note for note in scene.notes)


def test_a_receiver_that_does_not_answer_in_time_is_asked_again(scene: Scene) -> None:
    scene.write(make_stream(13, 1, versions_max=1))
    scene.receiver.delay_seconds = 30.0

    def hurry() -> None:
        until(lambda: scene.notes, WAIT_SECONDS_MAX)
        scene.receiver.delay_seconds = 0.0

    hurrying = threading.Thread(target=hurry)
    hurrying.start()
    scene.forward(answer_seconds=0.2, retry=RetryPolicy(100, 0.1, 0.1))
    hurrying.join()
    assert "no answer from the receiver (ReadTimeout)" in scene.notes[0]
    assert len(scene.receiver.accepted) == 1


def test_a_dead_receiver_makes_reading_pause(scene: Scene) -> None:
    """Whatever the topic holds, no more than the backlog and one read are kept."""
    scene.write(make_stream(14, 150))
    scene.receiver.make_trouble(503)
    stopping = threading.Timer(1.0, scene.stopping.set)
    stopping.start()
    scene.forward(backlog_max=100)
    assert 100 <= len(scene.store.pending()) < 150 < len(scene.messages)
    scene.receiver.mend()
    scene.stopping.clear()
    scene.forward(backlog_max=100)
    scene.prove()


def test_no_national_id_is_in_what_is_told_or_in_a_header(scene: Scene) -> None:
    stream = make_stream(15, 20)
    scene.write(stream, 2)
    scene.receiver.make_trouble(500, times=3)
    scene.receiver.make_trouble(422, times=2)
    scene.forward()
    persons = {each.trekkpaalegg.skyldner.reveal() for each in stream}
    told = f"{scene.notes}{scene.store.parked()}{[call.headers for call in scene.receiver.calls]}"
    assert not [person for person in persons if person in told]
    assert all(call.data["skyldner"] in persons for call in scene.receiver.accepted)
