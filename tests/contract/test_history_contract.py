"""Versions are looked up in the history in memory as in that on a real Kafka."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

import schemas
from producer.domain.content import content_hash
from producer.domain.trekkpaalegg import Origin, Publication, Trekkpaalegg, Trekkstatus
from producer.encode.avro import compile_encoder, confluent_prefix, single_object_prefix
from producer.encode.event import EventEncoder
from producer.publish.history import published_of
from producer.publish.port import Record
from sandbox.servers.server import free_port
from tests.contract.publisher_worlds import FakeWorld, RealWorld, World
from tests.kit.fakes.history import FakeHistory
from tests.kit.fakes.source import make_trekkpaalegg
from trekkpaalegg.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.servers.kafka import EmbeddedKafka

LANE, OTHER = 1, 2
ONE = "311111111"
FIRST = make_trekkpaalegg(ONE, Random(1), sekvensnummer=1)
KEY = FIRST.trekkid.encode()
ENDED = replace(FIRST, trekkstatus=Trekkstatus.AVSLUTTET)
SECOND = replace(FIRST, trekkversjon=2, sekvensnummer=2, saksnummer=None)
EVENT = schemas.load("trekkpaalegg_versjon")


Find = Callable[[int, Collection[tuple[bytes, int]]], dict[tuple[bytes, int], set[bytes]]]


@pytest.fixture(scope="module")
def real_world(kafka: EmbeddedKafka) -> Iterator[RealWorld]:
    real = RealWorld(kafka.bootstrap_servers, "history-contract")
    _write(real)
    yield real
    real.member.leave()


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.kafka)])
def find(request: pytest.FixtureRequest) -> Find:
    """Looks up in a topic that holds what `_write` writes."""
    if request.param == "fake":
        fake = FakeWorld()
        _write(fake)
        return FakeHistory(fake.kafka).find_published
    real: RealWorld = request.getfixturevalue("real_world")
    return partial(published_of, real.properties, real.topics.versjoner)


def _write(world: World) -> None:
    """In one lane two versions, of which the first is corrected, once as a registry's users write it.

    Another version of it is left open, and another lane holds other content of the order.
    """
    single, confluent = single_object_prefix(EVENT.fingerprint), confluent_prefix(7)
    written = [
        (LANE, single, Publication(FIRST, Origin.POLL)),
        (LANE, confluent, Publication(ENDED, Origin.POLL, correction=1)),
        (LANE, single, Publication(SECOND, Origin.POLL)),
        (LANE, single, Publication(replace(FIRST, trekkid="another"), Origin.POLL)),
        (OTHER, single, Publication(replace(FIRST, saksnummer="other"), Origin.POLL)),
    ]
    for lane in (LANE, OTHER):
        publisher = world.publisher(lane)
        publisher.acquire()
        publisher.publish([_record(world, *each) for each in written if each[0] == lane], 0)
        publisher.close()
    unfinished = Publication(replace(SECOND, trekkversjon=3), Origin.POLL)
    world.leave_open(LANE, [_record(world, LANE, single, unfinished)])


def _record(world: World, lane: int, prefix: bytes, publication: Publication) -> Record:
    encoder = EventEncoder("https://api.example.test", compile_encoder(EVENT, prefix), EVENT.fingerprint)
    event = encoder.encode(publication)
    return Record(world.topics.versjoner, event.key, event.value, event.headers, lane)


def hashes(*published: Trekkpaalegg) -> set[bytes]:
    return {content_hash(each) for each in published}


def test_look_up_has_all_that_was_published_of_a_version_corrections_too(find: Find) -> None:
    wanted = {(KEY, 1), (KEY, 2), (b"another", 1)}
    assert find(LANE, wanted) == {
        (KEY, 1): hashes(FIRST, ENDED),
        (KEY, 2): hashes(SECOND),
        (b"another", 1): hashes(replace(FIRST, trekkid="another")),
    }


def test_look_up_leaves_out_what_is_not_published_or_not_asked_for(find: Find) -> None:
    assert find(LANE, {(KEY, 3), (b"unknown", 1), (KEY, 2)}) == {(KEY, 2): hashes(SECOND)}
    assert find(LANE, []) == {}


def test_look_up_is_that_of_one_home_alone(find: Find) -> None:
    assert find(OTHER, {(KEY, 1), (KEY, 2)}) == {(KEY, 1): hashes(replace(FIRST, saksnummer="other"))}


def test_a_history_that_cannot_be_read_is_a_failure_and_no_empty_one() -> None:
    fake = FakeWorld()
    _write(fake)
    fake.kafka.is_reachable = False
    nowhere = {"bootstrap.servers": f"127.0.0.1:{free_port()}"}
    for find in (FakeHistory(fake.kafka).find_published, partial(published_of, nowhere, "nowhere")):
        with pytest.raises(RetryableError):
            find(LANE, {(KEY, 1)})
