"""`verify` on a real Kafka: faults planted in the event topics on purpose are found, exactly, and nothing else is."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from consumers.settings.model import Settings
from consumers.verify.findings import Difference
from consumers.verify.proof import ProofOptions, prove
from producer.domain.state import OrderState
from producer.domain.trekkpaalegg import Origin, Publication
from producer.encode.state import encode_order_state
from tests.kit.event_stream import ROUGH, EventTopics, make_stream
from tests.kit.waiting import Unseen
from trekkpaalegg.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from consumers.verify.findings import Check, Proof
    from sandbox.servers.kafka import EmbeddedKafka
    from sandbox.servers.registry import EmbeddedRegistry

pytestmark = pytest.mark.kafka

AT_WORK_SECONDS_MAX = 400.0
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
    """Makes a stage, with a registry or without; it is closed at the end."""
    with ExitStack() as opened:

        def make(registry_url: str | None = None) -> Stage:
            stage = Stage(kafka, topic_prefix, registry_url)
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


def test_a_clean_stream_passes_every_check(stage: Stage) -> None:
    stage.write(*STREAM)
    stage.write_positions(states_of(STREAM))
    assert failing_both_ways(stage) == {}
    assert "headers" not in [check.name for check in stage.prove(with_headers=False).checks]
    proof = stage.prove()
    assert "headers" in [check.name for check in proof.checks]
    assert check_of(proof, "once").examined == len(STREAM)
    assert check_of(proof, "gjeldende").examined == 12
    assert check_of(proof, "positions").examined == 12


def test_late_versions_corrections_and_known_holes_pass(stage: Stage) -> None:
    rough = make_stream(5, 150, roughness=ROUGH)
    states = states_of(rough)
    holes = sum(len(state.missing) for state in states.values())
    assert holes > 3
    assert sum(each.late for each in rough) > 3
    stage.write(*rough)
    stage.write_positions(states)
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
    stage.write_positions(states_of(STREAM))
    newest, there = len(ITS), len(ITS) - 1
    assert failing(stage.prove()) == {
        "gjeldende": [Difference(f"gjeldende ends at version {newest}, versjoner at {there}", ORDER, newest)],
        "positions": [Difference(f"published according to positions, but versjoner ends at {there}", ORDER, newest)],
    }


def test_an_order_dropped_from_both_topics_is_found_by_the_positions(stage: Stage) -> None:
    stage.write(*OTHERS)
    stage.write_positions(states_of(STREAM))
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
