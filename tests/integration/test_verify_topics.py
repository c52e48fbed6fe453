"""`verify` on a real Kafka: faults planted in the event topics on purpose are found, exactly, and nothing else is."""

from __future__ import annotations

import threading
import time
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from consumers.errors import FatalError
from consumers.settings import Settings, kafka_properties
from consumers.verify.event_topics import EventTopics as EventTopicsReading
from consumers.verify.findings import Difference
from consumers.verify.history import complete
from consumers.verify.parts import read_in_parts
from consumers.verify.positions import KnownMissing
from consumers.verify.proof import ProofOptions, prove
from consumers.verify.values import PlainValues
from producer.domain.state import OrderState
from producer.domain.trekkpaalegg import Origin, Publication
from producer.encode.state import encode_order_state
from sandbox.event_stream import ROUGH, EventTopics, make_stream
from sandbox.unseen import Unseen
from sandbox.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from consumers.verify.findings import Check, Proof
    from sandbox.kafka import EmbeddedKafka
    from sandbox.registry import EmbeddedRegistry

pytestmark = pytest.mark.kafka

AT_WORK_SECONDS_MAX = 40.0
STREAM = make_stream(3, 12)
ORDER = next(each.trekkpaalegg.trekkid for each in STREAM if each.trekkpaalegg.trekkversjon == 3)
ITS = [each for each in STREAM if each.trekkpaalegg.trekkid == ORDER]
OTHERS = [each for each in STREAM if each.trekkpaalegg.trekkid != ORDER]


class Stage:
    """The topics of one prefix, and the proof of them."""

    def __init__(self, kafka: EmbeddedKafka, prefix: str, registry_url: str | None = None) -> None:
        self.topics = EventTopics(kafka.bootstrap_servers, prefix, partitions=2, registry_url=registry_url)
        self.settings = Settings(
            kafka_brokers=kafka.bootstrap_servers, topic_prefix=prefix, kafka_schema_registry=registry_url
        )
        self.versjoner, self.gjeldende = f"{prefix}-versjoner", f"{prefix}-gjeldende"
        self.positions = f"{prefix}-positions"
        self._properties = {"bootstrap.servers": kafka.bootstrap_servers}

    def write(self, *publications: Publication, gjeldende: bool = True, commits: bool = True) -> None:
        self.topics.write(publications, gjeldende=gjeldende, commits=commits)

    def write_to(self, topic: str, publication: Publication, **headers: bytes | None) -> None:
        """One event to one topic, with headers changed or, given None, left out."""
        encoded = self.topics.encoders[topic].encode(publication)
        changed = {name: each for name, each in {**encoded.headers, **headers}.items() if each is not None}
        self.topics.write_raw(encoded.value, key=encoded.key, headers=changed, topic=topic)

    def write_positions(self, orders: Mapping[str, OrderState]) -> None:
        admin = AdminClient(self._properties)
        admin.create_topics([NewTopic(self.positions, num_partitions=2, replication_factor=1)])[self.positions].result(
            30
        )
        producer = Producer(self._properties)
        for trekkid, state in orders.items():
            producer.produce(self.positions, encode_order_state(state), f"314150260/{trekkid}".encode(), partition=1)
        assert producer.flush(30) == 0

    def prove(self, *, with_headers: bool = True) -> Proof:
        return prove(self.settings, ProofOptions(with_headers=with_headers), Unseen())


@pytest.fixture
def make_stage(kafka: EmbeddedKafka, topic_prefix: str) -> Iterator[Callable[..., Stage]]:
    made = []

    def make(registry_url: str | None = None) -> Stage:
        made.append(Stage(kafka, topic_prefix, registry_url))
        return made[-1]

    yield make
    for stage in made:
        stage.topics.close()


@pytest.fixture
def stage(make_stage: Callable[..., Stage]) -> Stage:
    return make_stage()


def failing(proof: Proof) -> dict[str, list[Difference]]:
    return {check.name: check.differences for check in proof.checks if not check.ok}


def check_of(proof: Proof, name: str) -> Check:
    return next(check for check in proof.checks if check.name == name)


def with_amount(publication: Publication, kroner: int) -> Publication:
    periods = tuple(
        msgspec.structs.replace(each, trekkbeloep=Decimal(kroner), trekkprosent=None)
        for each in publication.trekkpaalegg.trekkstoerrelse_for_periode
    )
    changed = msgspec.structs.replace(publication.trekkpaalegg, trekkstoerrelse_for_periode=periods)
    return msgspec.structs.replace(publication, trekkpaalegg=changed)


def states_of(publications: list[Publication]) -> dict[str, OrderState]:
    """What a producer that published these would remember: the newest version, and the holes below it."""
    there: dict[str, set[int]] = {}
    for each in publications:
        there.setdefault(each.trekkpaalegg.trekkid, set()).add(each.trekkpaalegg.trekkversjon)
    return {
        trekkid: OrderState(
            max(versions), bytes(8), 1, tuple((n, n) for n in range(1, max(versions)) if n not in versions)
        )
        for trekkid, versions in there.items()
    }


@pytest.mark.parametrize("with_headers", [True, False])
def test_a_clean_stream_passes_every_check(stage: Stage, *, with_headers: bool) -> None:
    stage.write(*STREAM)
    stage.write_positions(states_of(STREAM))
    proof = stage.prove(with_headers=with_headers)
    assert failing(proof) == {}
    assert check_of(proof, "once").examined == len(STREAM)
    assert check_of(proof, "gjeldende").examined == 12
    assert check_of(proof, "positions").examined == 12
    assert ("headers" in [check.name for check in proof.checks]) == with_headers


@pytest.mark.parametrize("with_headers", [True, False])
def test_late_versions_corrections_and_known_holes_pass(stage: Stage, *, with_headers: bool) -> None:
    rough = make_stream(5, 150, roughness=ROUGH)
    states = states_of(rough)
    holes = sum(len(state.missing) for state in states.values())
    assert holes > 3
    assert sum(each.late for each in rough) > 3
    stage.write(*rough)
    stage.write_positions(states)
    proof = stage.prove(with_headers=with_headers)
    assert failing(proof) == {}
    assert check_of(proof, "corrections").examined == sum(each.correction is not None for each in rough) > 3
    assert check_of(proof, "complete").notes == [f"{holes} missing at the source, known"]


def test_events_written_through_a_registry_pass(make_stage: Callable[..., Stage], registry: EmbeddedRegistry) -> None:
    stage = make_stage(registry.url)
    stage.write(*STREAM)
    assert failing(stage.prove()) == {}


@pytest.mark.parametrize("with_headers", [True, False])
def test_a_doubled_event_is_found(stage: Stage, *, with_headers: bool) -> None:
    stage.write(*STREAM)
    stage.write(ITS[1], gjeldende=False)
    (difference,) = failing(stage.prove(with_headers=with_headers))["once"]
    assert (difference.trekkid, difference.trekkversjon) == (ORDER, 2)
    assert (difference.place or "").startswith(f"{stage.versjoner}/")


@pytest.mark.parametrize("with_headers", [True, False])
def test_a_dropped_event_is_found(stage: Stage, *, with_headers: bool) -> None:
    stage.write(*OTHERS, ITS[0], *ITS[2:])
    assert failing(stage.prove(with_headers=with_headers)) == {
        "complete": [Difference("missing from versjoner, and not known to be missing", ORDER, 2)]
    }


def test_a_dropped_last_event_is_found(stage: Stage) -> None:
    """Nothing in versjoner comes after it: gjeldende and positions give it away."""
    stage.write(*OTHERS, *ITS[:-1])
    stage.write_to(stage.gjeldende, ITS[-1])
    stage.write_positions(states_of(STREAM))
    newest, there = len(ITS), len(ITS) - 1
    assert failing(stage.prove()) == {
        "gjeldende": [Difference(f"gjeldende ends at version {newest}, versjoner at {there}", ORDER, newest)],
        "positions": [Difference(f"published as positions say, and versjoner end at {there}", ORDER, newest)],
    }


def test_an_order_dropped_from_both_topics_is_found_by_the_positions(stage: Stage) -> None:
    stage.write(*OTHERS)
    stage.write_positions(states_of(STREAM))
    found = failing(stage.prove())
    assert found == {"positions": [Difference("published as positions say, and not in versjoner", ORDER, len(ITS))]}


@pytest.mark.parametrize("with_headers", [True, False])
def test_a_swapped_pair_is_found(stage: Stage, *, with_headers: bool) -> None:
    second = msgspec.structs.replace(ITS[1], current=False)
    stage.write(*OTHERS, ITS[0], ITS[2], second, *ITS[3:])
    (difference,) = failing(stage.prove(with_headers=with_headers))["order"]
    assert (difference.trekkid, difference.trekkversjon) == (ORDER, 2)
    assert difference.what == "comes after version 3 and is not marked late"


def test_a_changed_amount_in_gjeldende_is_found(stage: Stage) -> None:
    stage.write(*OTHERS, *ITS[:-1])
    stage.write(ITS[-1], gjeldende=False)
    stage.write_to(stage.gjeldende, with_amount(ITS[-1], 17))
    assert failing(stage.prove()) == {
        "gjeldende": [Difference("gjeldende holds other bytes than versjoner", ORDER, len(ITS), fields=("value",))]
    }


@pytest.mark.parametrize("with_headers", [True, False])
def test_an_older_version_after_a_newer_in_gjeldende_is_found(stage: Stage, *, with_headers: bool) -> None:
    stage.write(*STREAM)
    stage.write_to(stage.gjeldende, ITS[0])
    step, end = failing(stage.prove(with_headers=with_headers))["gjeldende"]
    assert step.what == f"comes after version {len(ITS)} in gjeldende"
    assert (end.what, end.trekkid) == (f"gjeldende ends at version 1, versjoner at {len(ITS)}", ORDER)


@pytest.mark.parametrize("with_headers", [True, False])
def test_keys_too_many_and_too_few_in_gjeldende_are_found(stage: Stage, *, with_headers: bool) -> None:
    stage.write(*OTHERS)
    lacking = msgspec.structs.replace(ITS[0], current=False)
    stage.write(lacking)
    surplus = msgspec.structs.replace(ITS[0].trekkpaalegg, trekkid="77")
    stage.write_to(stage.gjeldende, msgspec.structs.replace(ITS[0], trekkpaalegg=surplus))
    assert failing(stage.prove(with_headers=with_headers)) == {
        "gjeldende": [
            Difference("missing from gjeldende", ORDER, 1),
            Difference("in gjeldende and not in versjoner", "77", 1),
        ]
    }


def test_an_aborted_transaction_is_not_seen(stage: Stage) -> None:
    stage.write(*STREAM)
    stage.write(*ITS, commits=False)
    assert failing(stage.prove()) == {}


def test_a_version_marked_late_that_nothing_newer_follows_is_found(stage: Stage) -> None:
    stage.write(*OTHERS, *ITS[:-1], msgspec.structs.replace(ITS[-1], late=True, current=False))
    assert failing(stage.prove()) == {
        "complete": [Difference("marked late, and no newer version stands after it", ORDER, len(ITS))]
    }


def test_corrections_that_are_doubled_skipped_or_too_early_are_found(stage: Stage) -> None:
    def corrected(publication: Publication, number: int) -> Publication:
        return msgspec.structs.replace(
            with_amount(publication, 100 + number), origin=Origin.RELEASE, correction=number, current=False
        )

    stage.write(corrected(ITS[1], 1), *OTHERS, *ITS)
    stage.write(corrected(ITS[0], 1), corrected(ITS[0], 1), corrected(ITS[0], 3))
    found = [(each.trekkversjon, each.correction, each.what) for each in failing(stage.prove())["corrections"]]
    assert sorted(found) == [
        (1, 1, "this correction stands here once more"),
        (1, 3, "comes where correction 2 should"),
        (2, 1, "comes before the version that it corrects"),
    ]


def test_headers_that_disagree_with_the_value_are_found(stage: Stage) -> None:
    stage.write(*OTHERS)
    stage.write_to(stage.versjoner, ITS[0], ce_sekvensnummer=b"1", ce_trekkpliktig=None)
    stage.write_to(stage.gjeldende, ITS[0], ce_id=b"other/1")
    first, second = failing(stage.prove())["headers"]
    assert (first.fields, first.trekkid) == (("ce_sekvensnummer", "ce_trekkpliktig"), ORDER)
    assert second.fields == ("ce_id",)


def test_a_national_id_in_a_key_is_found_and_shown_nowhere(stage: Stage) -> None:
    skyldner = ITS[0].trekkpaalegg.skyldner.reveal()
    stage.write(*OTHERS, *ITS)
    personal = msgspec.structs.replace(ITS[1].trekkpaalegg, trekkid=skyldner)
    stage.write_to(stage.versjoner, msgspec.structs.replace(ITS[1], trekkpaalegg=personal))
    proof = stage.prove()
    assert [(each.trekkid, each.what) for each in failing(proof)["headers"]] == [("***", "holds a national id")]
    assert {each.trekkid for each in failing(proof)["complete"]} == {"***"}
    assert skyldner not in repr(proof)


@pytest.mark.parametrize("with_headers", [True, False])
def test_a_value_that_cannot_be_decoded_is_found_and_its_version_missed(stage: Stage, *, with_headers: bool) -> None:
    stage.write(*OTHERS, ITS[0])
    stage.topics.write_raw(b"\xc3\x01junk", key=ORDER.encode())
    stage.write(*ITS[2:])
    found = failing(stage.prove(with_headers=with_headers))
    assert found["complete"] == [Difference("missing from versjoner, and not known to be missing", ORDER, 2)]
    (difference,) = found["headers"]
    assert difference.what == "the value is in neither wire format"


def test_several_processes_find_what_one_finds(stage: Stage) -> None:
    stage.write(*OTHERS, ITS[0], *ITS[2:])
    stage.write(OTHERS[0], gjeldende=False)
    stage.write_to(stage.gjeldende, ITS[0])
    lone = stage.prove()
    with EventTopicsReading(kafka_properties(stage.settings), stage.topics.prefix, PlainValues(), Unseen()) as reading:
        ends, ends_of_current = reading.versjoner.ends(), reading.gjeldende.ends()
        read_in_parts(reading, stage.settings, ends, ends_of_current, with_headers=True, processes=2, messages_min=1)
        assert (reading.versjoner.next, reading.gjeldende.next) == (ends, ends_of_current)
        assert reading.history.events + reading.current.events == lone.events
        assert reading.headers.examined == lone.events
        found = [reading.history.once, complete(reading.history, KnownMissing().has), reading.current.check()]
        # What comes later, whose end Kafka tells a moment after the commit, is read by one process, from there on.
        before = reading.versjoner.ends()
        stage.write(msgspec.structs.replace(ITS[1], late=True, current=False))
        until(lambda: reading.versjoner.ends() != before, 30)
        reading.read_to(reading.versjoner.ends(), reading.gjeldende.ends())
        assert complete(reading.history, KnownMissing().has).ok
    for check in found:
        assert sorted(check.differences, key=repr) == sorted(check_of(lone, check.name).differences, key=repr)
        assert check.differences


def test_an_error_of_one_of_several_processes_is_told(
    make_stage: Callable[..., Stage], registry: EmbeddedRegistry
) -> None:
    stage = make_stage(registry.url)
    stage.write(*STREAM)
    without = stage.settings.model_copy(update={"kafka_schema_registry": None})
    with EventTopicsReading(kafka_properties(without), stage.topics.prefix, PlainValues(), Unseen()) as reading:
        ends, ends_of_current = reading.versjoner.ends(), reading.gjeldende.ends()
        with pytest.raises(FatalError, match="set KAFKA_SCHEMA_REGISTRY"):
            read_in_parts(reading, without, ends, ends_of_current, with_headers=True, processes=2, messages_min=1)


def test_a_producer_at_work_does_no_harm(stage: Stage) -> None:
    """Its transactions show in one topic a moment before the other; that is no difference."""
    stage.write(*STREAM)
    stop = threading.Event()

    def go_on() -> None:
        for each in make_stream(9, 4000):
            if stop.is_set():
                return
            stage.write(each)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        seen = []
        deadline = time.monotonic() + AT_WORK_SECONDS_MAX
        while len(set(seen)) < 4:
            assert time.monotonic() < deadline, "it was at work"
            proof = stage.prove()
            assert failing(proof) == {}
            seen.append(proof.events)
    finally:
        stop.set()
        thread.join()
    assert seen == sorted(seen)
