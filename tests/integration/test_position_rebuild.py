"""`position rebuild` on a real Kafka: whatever has become of `…-positions`, nothing is lost or published twice."""

from __future__ import annotations

import signal
from io import BytesIO
from itertools import islice
from typing import TYPE_CHECKING, Any

import fastavro
import msgspec
import pytest
from confluent_kafka import OFFSET_END, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

import schemas
from producer.admin.kafka import KafkaAdmin
from producer.bootstrap import find_history, open_rebuild
from producer.encode.avro import single_object_prefix
from producer.publish.state import read_lane_state
from producer.publish.topics import home_of
from producer.settings.model import load_settings
from sandbox.control.world import OutsideWorld
from sandbox.demo.proof import read_committed
from tests.kit.processes import ConsumerProcess
from tests.kit.stages.producer_stage import LANES, ProducerStage
from tests.kit.waiting import until
from trekkpaalegg.errors import StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from confluent_kafka import Message

    from producer.domain.state import LaneState, OrderState
    from sandbox.servers.kafka import EmbeddedKafka
    from sandbox.servers.registry import EmbeddedRegistry
    from sandbox.skatteetaten.order_book import Version

pytestmark = pytest.mark.kafka

SECONDS_MAX = 180.0
NOW = 1_790_000_000_000_000
STRANGER = "399999999"


class Place:
    """A stage, what is done to its topics, and the command run on it."""

    def __init__(self, kafka: EmbeddedKafka, outside: OutsideWorld, prefix: str, folder: Path) -> None:
        self.outside = outside
        self.stage = ProducerStage(kafka, outside, prefix, folder)
        self.stage.employers = outside.generate(5, 25)
        self.stage.apply_topics()
        self.topics = self.stage.topics
        self.properties = {"bootstrap.servers": kafka.bootstrap_servers}
        self.raw = AdminClient(self.properties)
        self.admin = KafkaAdmin(self.properties)
        self._folder = folder

    def command(self, *arguments: str, **settings: str) -> tuple[int, str]:
        """Exit code, and everything that the producer's command has said."""
        process = self.stage.begin(*arguments, **settings)
        code = process.wait(SECONDS_MAX)
        return code, process.log_file.read_text(encoding="utf-8")

    def rebuild(self, **settings: str) -> str:
        code, told = self.command("position", "rebuild", "--yes", **settings)
        assert code == 0, told
        return told

    def verify(self) -> None:
        """The consumers' proof of all topics, and of the source."""
        process = ConsumerProcess(
            ("verify", "--topics-only"), self.stage.environment(None), self._folder / "verify.log"
        )
        assert process.wait(SECONDS_MAX) == 0, process.last_lines()

    def state(self, lane: int) -> LaneState:
        return read_lane_state(self.properties, self.topics.positions, lane)

    def order(self, trekkid: str) -> OrderState:
        key = trekkid.encode()
        return self.state(home_of(key, LANES)).orders.order(key)

    def ends(self) -> tuple[int, int]:
        """How many events there are, and quarantine records."""
        brokers = self.properties["bootstrap.servers"]
        return tuple(len(read_committed(brokers, each)) for each in (self.topics.versjoner, self.topics.quarantine))

    def positions(self) -> list[Message]:
        """Every record of `…-positions`."""
        return read_committed(self.properties["bootstrap.servers"], self.topics.positions)

    def write(self, topic: str, records: list[tuple[int, bytes, bytes | None, Any]]) -> None:
        """Write (partition, key, value, headers), outside of transactions."""
        producer = Producer(self.properties)
        for partition, key, value, headers in records:
            producer.produce(topic, value, key, partition, headers=headers)
        assert producer.flush(SECONDS_MAX) == 0

    def delete(self, *topics: str) -> None:
        for deleted in self.raw.delete_topics(list(topics)).values():
            deleted.result(SECONDS_MAX)
        until(lambda: not self.admin.describe(topics))

    def apply(self) -> str:
        """What `topics apply` says, which refuses the topics."""
        code, told = self.command("topics", "apply", "--partitions", str(LANES))
        assert code == 1
        return told

    def empty(self, topic: str, *lanes: int, before: int = OFFSET_END) -> None:
        """Take away all records, or those before this offset, of these partitions, of all if none is named."""
        places = [TopicPartition(topic, lane, before) for lane in lanes or range(LANES)]
        policy = self.admin.describe([topic])[topic].config["cleanup.policy"]

        def are_deleted() -> bool:
            try:
                for deleted in self.raw.delete_records(places).values():
                    deleted.result(SECONDS_MAX)
            except KafkaException as error:
                if error.args[0].code() == KafkaError.POLICY_VIOLATION:
                    return False
                raise
            return True

        self._set_policy(topic, "delete")
        until(are_deleted)
        self._set_policy(topic, policy)
        until(lambda: self.admin.describe([topic])[topic].config["cleanup.policy"] == policy)

    def _set_policy(self, topic: str, policy: str) -> None:
        entry = ConfigEntry("cleanup.policy", policy, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        self.raw.incremental_alter_configs([resource])[resource].result(SECONDS_MAX)


@pytest.fixture
def place(kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path) -> Iterator[Place]:
    with OutsideWorld() as outside:
        place = Place(kafka, outside, topic_prefix, tmp_path)
        yield place
        place.stage.close()


def live(place: Place) -> Version:
    """What gives every kind of event and state; the version that is recorded as missing is returned."""
    skatteetaten, employers = place.outside.skatteetaten, place.stage.employers
    place.stage.once()
    order = skatteetaten.create(employers[0])
    ended = skatteetaten.create(employers[1])
    for text in ('{"trekkid": "only"}', '{"sekvensnummer": "none"}'):
        skatteetaten.plant(employers[2], text)
    place.stage.once()
    missing = skatteetaten.change(order.trekkid)
    skatteetaten.forget(order.trekkid, missing.trekkversjon)
    skatteetaten.change(order.trekkid)
    skatteetaten.change(ended.trekkid, {"trekkstatus": "aktiv"})
    place.stage.once()
    skatteetaten.rewrite(ended.trekkid, 2, {"trekkstatus": "avsluttet"})
    skatteetaten.move(skatteetaten.create(employers[0]).trekkid, employers[3])
    place.stage.once(TREKKPAALEGG_RECONCILE_INTERVAL_SECONDS="0.1")
    for topic in (place.topics.observations, place.topics.observations_urgent):  # as homes do it from time to time
        place.empty(topic)
    return missing


def live_on(place: Place) -> None:
    """Life goes on, and all that is then published is what the source has."""
    skatteetaten = place.outside.skatteetaten
    for version in islice(skatteetaten.book.newest_of_all(), 0, None, 4):
        if version.trekkid:
            skatteetaten.change(version.trekkid)
    skatteetaten.create(place.stage.employers[4])
    place.stage.once()
    place.stage.prove()


def write_back(place: Place, records: list[Message]) -> None:
    """Only these records of `…-positions` are left, as in a backup."""
    place.empty(place.topics.positions)
    copies = [(each.partition() or 0, each.key() or b"", each.value(), None) for each in records]
    place.write(place.topics.positions, copies)


@pytest.mark.parametrize("way", ["deleted", "emptied", "one lane", "older", "whole"])
def test_after_a_rebuild_a_full_round_publishes_nothing(place: Place, way: str) -> None:
    place.stage.once()
    older = place.positions()
    missing = live(place)
    before = [place.state(lane) for lane in range(LANES)]
    match way:
        case "deleted":
            place.delete(place.topics.positions)
            assert "`trekkpaalegg-producer position rebuild`" in place.apply()
        case "emptied":
            place.empty(place.topics.positions)
        case "one lane":
            place.empty(place.topics.positions, 1)
        case "older":
            write_back(place, older)
    if way in {"deleted", "emptied", "one lane"}:
        code, told = place.command("once")
        assert (code, "`trekkpaalegg-producer position rebuild`" in told) == (1, True)
    published = place.ends()
    told = place.rebuild()
    assert way != "whole" or "the state of 0 was another, and that of 0 more is deleted" in told
    for lane, former in enumerate(before):
        state = place.state(lane)
        assert state.show_since is not None
        assert state.identity == former.identity or way == "deleted"
        assert sorted(state.orders) == sorted(former.orders)
        for key in state.orders:
            order, expected = state.orders.order(key), former.orders.order(key)
            assert (order.trekkversjon, order.content_hash) == (expected.trekkversjon, expected.content_hash)
            assert (order.rejected, order.corrections) == (expected.rejected, expected.corrections)
            assert [(each.first, each.last) for each in order.missing] == [
                (each.first, each.last) for each in expected.missing
            ]
    place.stage.once()
    assert place.ends() == published
    assert place.order(missing.trekkid).is_missing(missing.trekkversjon)
    live_on(place)
    place.verify()


def test_an_order_that_no_list_shows_any_more_is_followed(place: Place) -> None:
    """Its state is lost when it has left the lists of ours, with a version that only its number gives."""
    skatteetaten, employer = place.outside.skatteetaten, place.stage.employers[0]
    order = skatteetaten.create(employer)
    place.stage.once()
    place.empty(place.topics.positions)
    unseen = skatteetaten.change(order.trekkid)
    skatteetaten.move(order.trekkid, STRANGER)
    place.rebuild()
    place.stage.once()
    published = [each.identity for each in place.stage.prove(place.stage.employers)]
    assert (unseen.trekkid, unseen.trekkversjon) in published


def test_what_the_history_lacks_is_published_and_what_it_has_is_not(place: Place) -> None:
    """The state says more than a history that was restored."""
    skatteetaten = place.outside.skatteetaten
    orders = [skatteetaten.create(each) for each in place.stage.employers]
    place.stage.once()
    kept = place.stage.versjoner()
    records = read_committed(place.properties["bootstrap.servers"], place.topics.versjoner)
    for order in orders:
        skatteetaten.change(order.trekkid)
    place.stage.once()
    restored = (place.topics.versjoner, place.topics.gjeldende)
    place.delete(*restored)
    place.apply()
    for topic in restored:
        copies = [(each.partition() or 0, each.key() or b"", each.value(), each.headers()) for each in records]
        place.write(topic, copies)
    code, told = place.command("position", "rebuild", "--yes")
    assert (code, "`trekkpaalegg-producer topics adopt`" in told) == (1, True)
    assert place.command("topics", "adopt", "--yes")[0] == 0
    place.rebuild()
    place.stage.once()
    assert len(place.stage.prove()) == len(kept) + len(orders)


def test_a_history_that_has_lost_its_beginning_is_completed_by_the_newest_versions(
    place: Place, registry: EmbeddedRegistry
) -> None:
    """With schemas in a registry."""
    place.stage.settings["KAFKA_SCHEMA_REGISTRY"] = registry.url
    skatteetaten, employer = place.outside.skatteetaten, place.stage.employers[0]
    order = skatteetaten.create(employer)
    place.stage.once()
    place.empty(place.topics.versjoner)
    skatteetaten.change(order.trekkid)
    place.stage.once()
    place.empty(place.topics.positions)
    published = place.ends()
    place.rebuild()
    place.stage.once()
    assert place.ends() == published
    assert place.order(order.trekkid).missing == ()


def test_a_rebuild_that_was_cut_off_keeps_the_service_from_starting_and_is_completed(place: Place) -> None:
    live(place)
    place.empty(place.topics.positions)
    published = place.ends()
    code, told = place.command("position", "rebuild")
    assert (code, "not confirmed; nothing was changed" in told) == (1, True)
    settings = load_settings(None, place.stage.environment(None))
    found = find_history(settings)
    was_cut_off = []

    def cut_off(read: int, total: int) -> None:
        if read > total * 0.7:
            was_cut_off.append(read)
            raise StoppedError

    with open_rebuild(settings, found, NOW, cut_off) as rebuild, pytest.raises(StoppedError):
        rebuild.run()
    assert {place.state(lane).identity for lane in range(LANES)} == {None, found.present}
    code, told = place.command("once")
    assert (code, "`trekkpaalegg-producer position rebuild`" in told) == (1, True)
    place.rebuild()
    place.stage.once()
    assert place.ends() == published
    live_on(place)


def test_nothing_is_made_again_while_a_worker_is_live_and_one_that_was_frozen_publishes_nothing(place: Place) -> None:
    worker = place.stage.run()
    place.stage.wait_until_owned(worker)
    place.stage.wait_until_published(SECONDS_MAX)
    code, told = place.command("position", "rebuild", "--yes")
    assert (code, f"1 workers of {place.stage.prefix} are running; stop them first" in told) == (1, True)
    worker.send_signal(signal.SIGSTOP)
    place.stage.wait_until(
        lambda: place.admin.group_members(place.stage.prefix) == 0, SECONDS_MAX, "the frozen worker has left the group"
    )
    place.empty(place.topics.positions)
    place.rebuild()
    live_on(place)
    worker.send_signal(signal.SIGCONT)
    place.stage.wait_until_owned(worker, deadline_seconds=SECONDS_MAX)
    place.outside.skatteetaten.create(place.stage.employers[0])
    place.stage.wait_until_published(SECONDS_MAX)
    place.stage.prove()


def test_orders_in_partitions_that_are_not_theirs_are_refused(place: Place) -> None:
    place.stage.once()
    [event, *_] = read_committed(place.properties["bootstrap.servers"], place.topics.versjoner)
    elsewhere = ((event.partition() or 0) + 1) % LANES
    place.write(place.topics.versjoner, [(elsewhere, event.key() or b"", event.value(), event.headers())])
    code, told = place.command("position", "rebuild", "--yes")
    assert code == 1
    assert f"{place.topics.versjoner}/{elsewhere} holds orders that do not belong to it with {LANES} partitions" in told


def test_what_is_no_event_is_passed_over_and_an_event_that_cannot_be_read_is_not(place: Place) -> None:
    place.stage.once()
    place.write(place.topics.versjoner, [(0, b"foreign", b"text", None)])
    assert "passed over" in place.rebuild()
    place.write(place.topics.versjoner, [(1, b"order", b"text", {"ce_id": b"order/1"})])
    code, told = place.command("position", "rebuild", "--yes")
    assert (code, f"{place.topics.versjoner}/1, offset " in told) == (1, True)


# The former layout


def test_the_state_of_the_former_layout_is_made_again_and_what_was_missing_stays_missing(place: Place) -> None:
    missing = live(place)
    former = [record for lane in range(LANES) for record in former_records(place, lane)]
    write_back(place, [])
    place.write(place.topics.positions, former)
    place.empty(place.topics.quarantine)
    place.delete(place.topics.observations, place.topics.observations_urgent)
    assert "the state of a former layout" in place.apply()
    code, told = place.command("once")
    assert (code, "`trekkpaalegg-producer position rebuild`" in told) == (1, True)
    published = place.ends()
    place.rebuild()
    place.stage.once()
    assert place.ends() == published
    assert place.order(missing.trekkid).is_missing(missing.trekkversjon)
    live_on(place)
    place.verify()


def former_records(place: Place, lane: int) -> Iterator[tuple[int, bytes, bytes | None, None]]:
    """What the former layout recorded in a lane: of each order in a list, what of it is published and what is open."""
    if lane == 0:
        yield lane, b"lanes", former("lane_count", 1, {"lanes": LANES}), None
    for trekkpliktig, state in place.state(lane):
        position = {"position": state.position.position, "reconciled_at": state.position.reconciled_at}
        yield lane, trekkpliktig.encode(), former("trekkpliktig_state", 2, position), None
        for key in state.keys():  # noqa: SIM118 - a state is no mapping
            order = place.state(home_of(key, LANES)).orders.order(key)
            datum = msgspec.structs.asdict(order) | {
                "missing": [{"first": each.first, "last": each.last} for each in order.missing],
                "corrections": [{"trekkversjon": each, "corrections": count} for each, count in order.corrections],
            }
            yield lane, trekkpliktig.encode() + b"/" + key, former("order_state", 1, datum), None


def former(name: str, version: int, datum: dict[str, Any]) -> bytes:
    schema = schemas.versions(name)[version - 1]
    buffer = BytesIO()
    buffer.write(single_object_prefix(schema.fingerprint))
    fastavro.schemaless_writer(buffer, schema.parsed, datum)
    return buffer.getvalue()
