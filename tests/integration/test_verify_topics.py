"""`verify` on a real Kafka: faults planted in the event topics on purpose are found, exactly, and nothing else is."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec
import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from consumers.settings.model import Settings
from consumers.verify.findings import Difference
from consumers.verify.proof import ProofOptions, prove
from producer.admin.kafka import KafkaAdmin
from producer.detect.rebuild import RebuiltOrders
from producer.domain.state import Missing
from producer.domain.trekkpaalegg import Origin, Publication
from producer.publish.state import order_record
from producer.publish.topics import home_of, wanted_topics
from tests.kit.event_stream import ROUGH, EventTopics, make_stream
from tests.kit.waiting import Unseen, until
from trekkpaalegg.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from consumers.verify.findings import Check, Proof
    from producer.domain.state import OrderState
    from sandbox.servers.kafka import EmbeddedKafka
    from sandbox.servers.registry import EmbeddedRegistry

pytestmark = pytest.mark.kafka

AT_WORK_SECONDS_MAX = 400.0
ADMIN_SECONDS_MAX = 30.0
PARTITIONS = 2
STREAM = make_stream(3, 12)
ORDER = next(each.trekkpaalegg.trekkid for each in STREAM if each.trekkpaalegg.trekkversjon == 3)
ITS = [each for each in STREAM if each.trekkpaalegg.trekkid == ORDER]
OTHERS = [each for each in STREAM if each.trekkpaalegg.trekkid != ORDER]


class Stage:
    """The topics of one prefix, and the proof of them.

    In positions is what is published of `stream`, whatever of it is written; without a stream, what is written.
    """

    def __init__(
        self,
        kafka: EmbeddedKafka,
        prefix: str,
        registry_url: str | None = None,
        *,
        stream: list[Publication] | None = STREAM,
    ) -> None:
        self.topics = EventTopics(
            kafka.bootstrap_servers,
            prefix,
            partitions=PARTITIONS,
            registry_url=registry_url,
            with_state=stream is None,
        )
        self.settings = Settings(
            kafka_brokers=kafka.bootstrap_servers, topic_prefix=prefix, kafka_schema_registry=registry_url
        )
        self.versjoner, self.gjeldende = f"{prefix}-versjoner", f"{prefix}-gjeldende"
        self.positions = f"{prefix}-positions"
        self._properties = {"bootstrap.servers": kafka.bootstrap_servers}
        self._admin = KafkaAdmin(self._properties)
        self._client = AdminClient(self._properties)
        for trekkid, state in states_of(stream or []).items():
            self.write_state(trekkid, state)

    def write(self, *publications: Publication, gjeldende: bool = True, commits: bool = True) -> None:
        self.topics.write(publications, gjeldende=gjeldende, commits=commits)

    def write_to(self, topic: str, publication: Publication, **headers: bytes | None) -> None:
        """One event to one topic, with headers changed or, given None, left out."""
        encoded = self.topics.encoders[topic].encode(publication)
        changed = {name: each for name, each in {**encoded.headers, **headers}.items() if each is not None}
        self.topics.write_raw(encoded.value, key=encoded.key, headers=changed, topic=topic)

    def write_state(self, trekkid: str, state: OrderState | None, home: int | None = None) -> None:
        """What the home of an order has published of it, in its partition if no other is given."""
        key = trekkid.encode()
        home = home_of(key, PARTITIONS) if home is None else home
        record = order_record(self.positions, home, key, state)
        self.topics.write_raw(record.value, key=record.key, topic=self.positions, partition=home)

    def create(self, topic: str) -> None:
        """Make a topic again."""
        wanted = wanted_topics(self.topics.prefix, partitions=PARTITIONS, replication=1)
        self._admin.create([each for each in wanted if each.name == topic])

    def delete(self, topic: str) -> None:
        """Delete a topic; returns when it is gone."""
        self._client.delete_topics([topic])[topic].result(ADMIN_SECONDS_MAX)
        until(lambda: not self._admin.describe([topic]), ADMIN_SECONDS_MAX, f"{topic} is gone")

    def add_partitions(self, topic: str) -> None:
        """Add one partition; returns when the cluster shows it."""
        new = NewPartitions(topic, PARTITIONS + 1)
        self._client.create_partitions([new])[topic].result(ADMIN_SECONDS_MAX)
        until(
            lambda: self._admin.describe([topic])[topic].partitions == PARTITIONS + 1,
            ADMIN_SECONDS_MAX,
            "the partition is there",
        )

    def prove(self, *, with_headers: bool = True) -> Proof:
        return prove(self.settings, ProofOptions(with_headers=with_headers), Unseen())


@pytest.fixture
def make_stage(kafka: EmbeddedKafka, topic_prefix: str) -> Iterator[Callable[..., Stage]]:
    """Makes a stage, with a registry or without; it is closed at the end."""
    with ExitStack() as opened:

        def make(registry_url: str | None = None, *, stream: list[Publication] | None = STREAM) -> Stage:
            stage = Stage(kafka, topic_prefix, registry_url, stream=stream)
            opened.callback(stage.topics.close)
            return stage

        yield make


def failing(proof: Proof) -> dict[str, list[Difference]]:
    return {check.name: check.differences for check in proof.checks if not check.ok}


def check_of(proof: Proof, name: str) -> Check:
    return next(check for check in proof.checks if check.name == name)


@pytest.fixture
def stage(make_stage: Callable[..., Stage]) -> Stage:
    return make_stage()


def failing_both_ways(stage: Stage) -> dict[str, list[Difference]]:
    """What fails when every header is compared, and when none is: the same."""
    found = failing(stage.prove(with_headers=True))
    assert failing(stage.prove(with_headers=False)) == found
    return found


def with_amount(publication: Publication, kroner: int) -> Publication:
    periods = tuple(
        msgspec.structs.replace(each, trekkbeloep=Decimal(kroner), trekkprosent=None)
        for each in publication.trekkpaalegg.trekkstoerrelse_for_periode
    )
    changed = msgspec.structs.replace(publication.trekkpaalegg, trekkstoerrelse_for_periode=periods)
    return msgspec.structs.replace(publication, trekkpaalegg=changed)


def states_of(publications: list[Publication]) -> dict[str, OrderState]:
    """What a producer that published these would remember."""
    published = RebuiltOrders()
    for each in publications:
        published.add_event(each.trekkpaalegg, each.correction)
    orders = published.orders()
    return {key.decode(): orders.order(key) for key in orders}


def test_a_clean_stream_passes_every_check(stage: Stage) -> None:
    stage.write(*STREAM)
    assert failing_both_ways(stage) == {}
    assert "headers" not in [check.name for check in stage.prove(with_headers=False).checks]
    proof = stage.prove()
    assert "headers" in [check.name for check in proof.checks]
    assert check_of(proof, "once").examined == len(STREAM)
    assert check_of(proof, "gjeldende").examined == 12
    assert check_of(proof, "positions").examined == 12


def test_late_versions_corrections_and_known_holes_pass(make_stage: Callable[..., Stage]) -> None:
    rough = make_stream(5, 150, roughness=ROUGH)
    stage = make_stage(stream=rough)
    missing = [each for state in states_of(rough).values() for each in state.missing]
    holes = sum(each.last - each.first + 1 for each in missing)
    assert holes > 3
    assert sum(each.late for each in rough) > 3
    stage.write(*rough)
    assert failing_both_ways(stage) == {}
    proof = stage.prove()
    assert check_of(proof, "corrections").examined == sum(each.correction is not None for each in rough) > 3
    assert check_of(proof, "complete").notes == [f"{holes} missing at the source, known"]


def test_a_doubled_event_is_found(stage: Stage) -> None:
    stage.write(*STREAM)
    stage.write(ITS[1], gjeldende=False)
    (difference,) = failing_both_ways(stage)["once"]
    assert (difference.trekkid, difference.trekkversjon) == (ORDER, 2)
    assert (difference.place or "").startswith(f"{stage.versjoner}/")


def test_a_dropped_event_is_found(stage: Stage) -> None:
    stage.write(*OTHERS, ITS[0], *ITS[2:])
    assert failing_both_ways(stage) == {
        "complete": [Difference("missing from versjoner, and not known to be missing", ORDER, 2)]
    }


def test_a_dropped_last_event_is_found(stage: Stage) -> None:
    """Nothing in versjoner comes after it: gjeldende and positions give it away."""
    stage.write(*OTHERS, *ITS[:-1])
    stage.write_to(stage.gjeldende, ITS[-1])
    newest, there = len(ITS), len(ITS) - 1
    assert failing(stage.prove()) == {
        "gjeldende": [Difference(f"gjeldende ends at version {newest}, versjoner at {there}", ORDER, newest)],
        "positions": [Difference(f"published according to positions, but versjoner ends at {there}", ORDER, newest)],
    }


def test_an_order_dropped_from_both_topics_is_found_by_the_positions(stage: Stage) -> None:
    stage.write(*OTHERS)
    found = failing(stage.prove())
    assert found == {
        "positions": [Difference("published according to positions, but not in versjoner", ORDER, len(ITS))]
    }


def test_a_swapped_pair_is_found(stage: Stage) -> None:
    order_reader = msgspec.structs.replace(ITS[1], current=False)
    stage.write(*OTHERS, ITS[0], ITS[2], order_reader, *ITS[3:])
    (difference,) = failing_both_ways(stage)["order"]
    assert (difference.trekkid, difference.trekkversjon) == (ORDER, 2)
    assert difference.what == "follows version 3 and is not marked late"


def test_a_changed_amount_in_gjeldende_is_found(stage: Stage) -> None:
    stage.write(*OTHERS, *ITS[:-1])
    stage.write(ITS[-1], gjeldende=False)
    stage.write_to(stage.gjeldende, with_amount(ITS[-1], 17))
    assert failing(stage.prove()) == {
        "gjeldende": [Difference("gjeldende and versjoner have different bytes", ORDER, len(ITS), fields=("value",))]
    }


def test_an_older_version_after_a_newer_in_gjeldende_is_found(stage: Stage) -> None:
    stage.write(*STREAM)
    stage.write_to(stage.gjeldende, ITS[0])
    step, end = failing_both_ways(stage)["gjeldende"]
    assert step.what == f"follows version {len(ITS)} in gjeldende"
    assert (end.what, end.trekkid) == (f"gjeldende ends at version 1, versjoner at {len(ITS)}", ORDER)


def test_keys_too_many_and_too_few_in_gjeldende_are_found(stage: Stage) -> None:
    stage.write(*OTHERS)
    lacking = msgspec.structs.replace(ITS[0], current=False)
    stage.write(lacking)
    surplus = msgspec.structs.replace(ITS[0].trekkpaalegg, trekkid="77")
    stage.write_to(stage.gjeldende, msgspec.structs.replace(ITS[0], trekkpaalegg=surplus))
    stage.write_state(ORDER, states_of(ITS[:1])[ORDER])
    assert failing_both_ways(stage) == {
        "gjeldende": [
            Difference("missing from gjeldende", ORDER, 1),
            Difference("in gjeldende and not in versjoner", "77", 1),
        ]
    }


def test_a_version_marked_late_that_nothing_newer_follows_is_found(stage: Stage) -> None:
    stage.write(*OTHERS, *ITS[:-1], msgspec.structs.replace(ITS[-1], late=True, current=False))
    assert failing(stage.prove()) == {
        "complete": [Difference("marked late, and no newer version follows", ORDER, len(ITS))]
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
        (1, 1, "this correction appears here again"),
        (1, 3, "is where correction 2 should be"),
        (2, 1, "precedes the version that it corrects"),
    ]


def test_headers_that_disagree_with_the_value_are_found(stage: Stage) -> None:
    stage.write(*OTHERS)
    stage.write_to(stage.versjoner, ITS[0], ce_sekvensnummer=b"1", ce_trekkpliktig=None)
    stage.write_to(stage.gjeldende, ITS[0], ce_id=b"other/1")
    first, order_reader = failing(stage.prove())["headers"]
    assert (first.fields, first.trekkid) == (("ce_sekvensnummer", "ce_trekkpliktig"), ORDER)
    assert order_reader.fields == ("ce_id",)


def test_a_national_id_in_a_key_is_found_and_shown_nowhere(stage: Stage) -> None:
    skyldner = ITS[0].trekkpaalegg.skyldner.reveal()
    stage.write(*OTHERS, *ITS)
    personal = msgspec.structs.replace(ITS[1].trekkpaalegg, trekkid=skyldner)
    stage.write_to(stage.versjoner, msgspec.structs.replace(ITS[1], trekkpaalegg=personal))
    proof = stage.prove()
    assert [(each.trekkid, each.what) for each in failing(proof)["headers"]] == [("***", "holds a national id")]
    assert {each.trekkid for each in failing(proof)["complete"]} == {"***"}
    assert skyldner not in repr(proof)


def test_a_value_that_cannot_be_decoded_is_found_and_its_version_missed(stage: Stage) -> None:
    stage.write(*OTHERS, ITS[0])
    stage.topics.write_raw(b"\xc3\x01junk", key=ORDER.encode())
    stage.write(*ITS[2:])
    found = failing_both_ways(stage)
    assert found["complete"] == [Difference("missing from versjoner, and not known to be missing", ORDER, 2)]
    (difference,) = found["headers"]
    assert difference.what == "the value is in neither wire format"


# What the homes know, and whose topics these are.


def test_an_event_that_its_home_does_not_know_is_found(stage: Stage) -> None:
    """As after a restore of positions that are older than the events."""
    stage.write(*STREAM)
    stage.write_state(ORDER, states_of(ITS[:1])[ORDER])
    (other,) = {each.trekkpaalegg.trekkid for each in OTHERS[:1]}
    stage.write_state(other, None)
    newest = states_of(STREAM)[other].trekkversjon
    told = failing_both_ways(stage)
    assert told.keys() == {"positions"}
    assert sorted(told["positions"], key=lambda each: each.what) == [
        Difference("in versjoner, but its home knows none after version 1", ORDER, len(ITS)),
        Difference("in versjoner, but not known to its home", other, newest),
    ]


def test_what_is_missing_by_its_home_and_stands_in_the_topic_is_found(stage: Stage) -> None:
    """It would be published a second time."""
    stage.write(*STREAM)
    state = states_of(STREAM)[ORDER]
    stage.write_state(ORDER, msgspec.structs.replace(state, missing=(Missing(1, 2, "HTTP 404"),)))
    what = "in versjoner, but missing according to positions"
    assert failing_both_ways(stage) == {"positions": [Difference(what, ORDER, 1), Difference(what, ORDER, 2)]}


def test_corrections_of_which_the_home_knows_others_are_found(stage: Stage) -> None:
    stage.write(*STREAM)
    correction = msgspec.structs.replace(with_amount(ITS[0], 7), correction=1, current=False)
    stage.write(correction)
    assert failing(stage.prove()) == {"positions": [Difference("in versjoner, but not known to its home", ORDER, 1, 1)]}
    state = states_of([*STREAM, correction])[ORDER]
    stage.write_state(ORDER, state)
    assert failing(stage.prove()) == {}
    stage.write_state(ORDER, msgspec.structs.replace(state, corrections=((1, 2),)))
    assert failing(stage.prove()) == {
        "positions": [Difference("published according to positions, but not in versjoner", ORDER, 1, 2)]
    }


def test_what_is_not_where_murmur2_places_it_is_found(stage: Stage) -> None:
    stage.write(*OTHERS)
    home = home_of(ORDER.encode(), PARTITIONS)
    other, what = 1 - home, f"its key belongs to partition {home}"
    for each in ITS:
        encoded = stage.topics.encoders[stage.versjoner].encode(each)
        for topic in (stage.versjoner, stage.gjeldende):
            stage.topics.write_raw(
                encoded.value, key=encoded.key, headers=encoded.headers, topic=topic, partition=other
            )
    stage.write_state(ORDER, states_of(ITS)[ORDER], other)
    assert failing_both_ways(stage) == {
        "places": [
            Difference(what, ORDER, place=f"{topic}/{other}")
            for topic in (stage.versjoner, stage.gjeldende, stage.positions)
        ]
    }


def test_partitions_that_were_added_are_found(stage: Stage) -> None:
    stage.write(*STREAM)
    stage.add_partitions(stage.versjoner)
    assert failing(stage.prove()) == {
        "identity": [Difference("the topic has 3 partitions, and there are 2 lanes", place=stage.versjoner)]
    }


def test_a_history_that_was_made_again_is_found(stage: Stage) -> None:
    stage.write(*STREAM)
    stage.delete(stage.versjoner)
    stage.create(stage.versjoner)
    told = failing(stage.prove())
    assert told["identity"] == [Difference("the topic was made again since it was recorded", place=stage.versjoner)]
    orders = {each.trekkpaalegg.trekkid for each in STREAM}
    assert {each.trekkid for each in told["gjeldende"]} == {each.trekkid for each in told["positions"]} == orders


def test_positions_that_are_lost_or_empty_are_found(stage: Stage) -> None:
    stage.write(*STREAM)
    stage.delete(stage.positions)
    lost = Difference("there is no positions topic: what the homes know is lost", place=stage.positions)
    assert failing(stage.prove()) == {"positions": [lost]}
    stage.create(stage.positions)
    told = failing(stage.prove())
    assert told.keys() == {"positions", "identity"}
    assert {each.trekkid for each in told["positions"]} == {each.trekkpaalegg.trekkid for each in STREAM}
    assert [each.place for each in told["identity"]] == [f"{stage.positions}/0", f"{stage.positions}/1"]


# How the topics are read: with a registry, after an abort, beside a producer at work.


def test_events_written_through_a_registry_pass(make_stage: Callable[..., Stage], registry: EmbeddedRegistry) -> None:
    stage = make_stage(registry.url)
    stage.write(*STREAM)
    assert failing(stage.prove()) == {}


def test_an_aborted_transaction_is_not_seen(stage: Stage) -> None:
    stage.write(*STREAM)
    stage.write(*ITS, commits=False)
    assert failing(stage.prove()) == {}


def test_values_of_a_registry_are_not_read_without_it(
    make_stage: Callable[..., Stage], registry: EmbeddedRegistry
) -> None:
    stage = make_stage(registry.url)
    stage.write(*STREAM)
    without = stage.settings.model_copy(update={"kafka_schema_registry": None})
    with pytest.raises(FatalError, match="set KAFKA_SCHEMA_REGISTRY"):
        prove(without, ProofOptions(), Unseen())


def test_a_producer_at_work_does_no_harm(make_stage: Callable[..., Stage]) -> None:
    """Its transactions show in one topic a moment before the other; that is no difference."""
    stage = make_stage(stream=None)
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
