"""`verify --api` on a real Kafka against the simulated source: what differs is found, what changes meanwhile is not."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import pytest

from consumers.settings.model import Settings
from consumers.verify.findings import Difference
from consumers.verify.proof import ProofOptions, prove
from consumers.verify.source import load_source_access
from producer.domain.trekkpaalegg import Origin, Publication, Trekkpaalegg
from producer.source.parse.page import read_trekkpaalegg
from sandbox.control.world import OutsideWorld
from sandbox.skatteetaten.faults import Fault, FaultKind, Operation
from sandbox.skatteetaten.wire import Shape
from tests.kit.event_stream import EventTopics
from tests.kit.waiting import Unseen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumers.verify.findings import Check, Proof
    from sandbox.servers.kafka import EmbeddedKafka
    from sandbox.skatteetaten.order_book import Version

pytestmark = pytest.mark.kafka

SEEDS = itertools.count(1)
ROUGH_SHAPE = Shape(basic_date_rate=0.3, decimal_point_rate=0.3, unknown_field_rate=0.3)


class Stage:
    """Employers of its own in the outside world, and a topic with all that the source has of them."""

    def __init__(self, kafka: EmbeddedKafka, prefix: str, outside: OutsideWorld) -> None:
        self.outside = outside
        self.skatteetaten = outside.skatteetaten
        self.settings = Settings(kafka_brokers=kafka.bootstrap_servers, topic_prefix=prefix)
        self.topics = EventTopics(kafka.bootstrap_servers, prefix, partitions=2)
        self.employers = outside.generate(4, 24, seed=next(SEEDS), shape=ROUGH_SHAPE)
        self.orders = sorted({each.trekkid for each in self.versions()})
        self._published: Counter[str] = Counter()

    def versions(self) -> list[Version]:
        """Every version of these employers' orders that the source has."""
        return [each for each in self.skatteetaten.book.every_version() if each.owner in self.employers]

    def publish(self) -> None:
        """All that is new at the source."""
        found = []
        for each in self.versions():
            if each.trekkversjon > self._published[each.trekkid]:
                trekkpaalegg = read_trekkpaalegg(each.body, each.owner)
                assert isinstance(trekkpaalegg, Trekkpaalegg)
                found.append(Publication(trekkpaalegg, Origin.POLL))
                self._published[each.trekkid] = each.trekkversjon
        self.topics.write(found)

    def newest(self, trekkid: str) -> int:
        return self.skatteetaten.book.last(trekkid).trekkversjon

    def prove(self, *, every_version: bool = False, **environment: str) -> Proof:
        given = {**self.outside.environment(self.employers), **environment}
        source = load_source_access(None, given)
        return prove(self.settings, ProofOptions(source=source, every_version=every_version), Unseen())


@pytest.fixture(scope="module")
def outside() -> Iterator[OutsideWorld]:
    with OutsideWorld() as world:
        yield world


@pytest.fixture
def stage(kafka: EmbeddedKafka, topic_prefix: str, outside: OutsideWorld) -> Iterator[Stage]:
    made = Stage(kafka, topic_prefix, outside)
    made.publish()
    with contextlib.closing(made.topics):
        yield made
    outside.skatteetaten.faults.clear()


def check_of(proof: Proof, name: str = "source_newest") -> Check:
    return next(check for check in proof.checks if check.name == name)


def test_what_was_published_as_it_is_at_the_source_passes(stage: Stage) -> None:
    proof = stage.prove(every_version=True)
    assert proof.ok, proof
    assert check_of(proof).examined == len(stage.orders)
    assert check_of(proof, "source_versions").examined == sum(stage.newest(each) - 1 for each in stage.orders) > 10


def test_short_pages_bring_the_same(stage: Stage) -> None:
    assert stage.prove(TREKKPAALEGG_MAKS_ANTALL="2").ok
    assert stage.skatteetaten.simultaneous_max <= 5


def test_an_order_that_is_not_in_the_topic_is_found(stage: Stage) -> None:
    made = stage.skatteetaten.create(stage.employers[0])
    assert check_of(stage.prove()).differences == [Difference("at the source, but not in the topic", made.trekkid, 1)]


def test_a_version_that_is_not_in_the_topic_is_found(stage: Stage) -> None:
    trekkid, before = stage.orders[3], stage.newest(stage.orders[3])
    stage.skatteetaten.change(trekkid)
    what = f"the source is at version {before + 1}, the topic at {before}"
    assert check_of(stage.prove()).differences == [Difference(what, trekkid, before + 1)]


def test_content_that_is_other_at_the_source_is_found_by_its_fields(stage: Stage) -> None:
    trekkid = stage.orders[5]
    periods = [{"startdato": "2031-01-01", "trekkbeloep": {"trekkbeloep": 17}}]
    stage.skatteetaten.rewrite(
        trekkid, stage.newest(trekkid), {"saksnummer": "X", "trekkstoerrelseForPeriode": periods}
    )
    (difference,) = check_of(stage.prove()).differences
    assert (difference.trekkid, difference.trekkversjon) == (trekkid, stage.newest(trekkid))
    assert difference.fields[0] == "saksnummer"
    assert difference.fields[1].startswith("trekkstoerrelse_for_periode")


def test_an_old_version_that_is_other_at_the_source_is_found_when_every_version_is_looked_at(stage: Stage) -> None:
    trekkid = next(each for each in stage.orders if stage.newest(each) > 2)
    stage.skatteetaten.rewrite(trekkid, 1, {"saksnummer": "X"})
    assert stage.prove().ok
    difference = Difference("differs from the source", trekkid, 1, fields=("saksnummer",))
    assert check_of(stage.prove(every_version=True), "source_versions").differences == [difference]


def test_an_order_that_the_source_does_not_have_is_found_unless_it_has_ended(stage: Stage) -> None:
    running = stage.skatteetaten.create(stage.employers[0])
    ended = stage.skatteetaten.create(stage.employers[1], {"trekkstatus": "avsluttet"})
    stage.publish()
    for each in (running, ended):
        stage.skatteetaten.book.remove(each.trekkid)
    check = check_of(stage.prove())
    assert check.differences == [Difference("in the topic, but not at the source", running.trekkid, 1)]
    assert check.notes == ["1 ended orders are no longer at the source: not compared"]


def test_an_employer_that_cannot_be_read_is_a_difference_and_no_empty_list(stage: Stage) -> None:
    employer = stage.employers[2]
    stage.skatteetaten.faults.add(Fault(FaultKind.STATUS, trekkpliktig=employer, times=None, status=403))
    assert [each.what for each in check_of(stage.prove()).differences] == [
        f"the orders of trekkpliktig {employer} could not be read: it answers 403"
    ]


def test_passing_faults_of_the_source_do_no_harm(stage: Stage) -> None:
    for fault in (
        Fault(FaultKind.STATUS, status=503),
        Fault(FaultKind.STATUS, status=429, seconds=1),
        Fault(FaultKind.TRUNCATED),
        Fault(FaultKind.RESET),
        Fault(FaultKind.EXPIRED_TOKEN),
        Fault(FaultKind.BODY, body="<html>vedlikehold</html>", content_type="text/html"),
    ):
        stage.skatteetaten.faults.add(fault)
    assert stage.prove().ok
    assert not stage.skatteetaten.faults.faults, "all of them struck"


def test_an_order_that_changed_meanwhile_is_looked_at_again(stage: Stage) -> None:
    """A new version and a new order are made, and published, after their list was read and before the topic was."""
    first, last = stage.employers[0], stage.employers[-1]
    trekkid = next(each.trekkid for each in stage.skatteetaten.book.newest_of_all() if each.owner == first)
    stage.skatteetaten.faults.add(Fault(FaultKind.DELAY, Operation.LIST, last, seconds=3))

    def change_when_listed() -> None:
        deadline = time.monotonic() + 30
        while sum(call.party == first for call in list(stage.skatteetaten.calls)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        stage.skatteetaten.create(first)
        stage.skatteetaten.change(trekkid)
        stage.publish()

    thread = threading.Thread(target=change_when_listed)
    thread.start()
    proof = stage.prove()
    thread.join()
    assert proof.ok, proof
    assert check_of(proof).examined == len(stage.orders), "the list was read before"
    assert proof.events == 2 * sum(stage.skatteetaten.book.is_visible(each) for each in stage.versions())


def test_orders_of_employers_that_were_not_asked_for_are_not_compared(stage: Stage) -> None:
    others = len({each.trekkid for each in stage.versions() if each.owner != stage.employers[0]})
    check = check_of(stage.prove(TREKKPAALEGG_TREKKPLIKTIGE=stage.employers[0]))
    assert check.ok
    assert check.notes == [f"{others} orders of other trekkpliktige are not compared"]


def test_a_corrected_version_is_compared_in_its_correction(stage: Stage) -> None:
    trekkid = stage.orders[1]
    version = stage.newest(trekkid)
    stage.skatteetaten.rewrite(trekkid, version, {"saksnummer": "X"})
    assert not stage.prove().ok
    corrected = read_trekkpaalegg(stage.skatteetaten.book.last(trekkid).body, stage.employers[0])
    assert isinstance(corrected, Trekkpaalegg)
    stage.topics.write([Publication(corrected, Origin.RELEASE, correction=1)])
    assert stage.prove(every_version=True).ok


def test_no_difference_shows_a_national_id(stage: Stage) -> None:
    trekkid = stage.orders[1]
    stage.skatteetaten.rewrite(trekkid, stage.newest(trekkid), {"skyldner": "12928312345"})
    proof = stage.prove()
    assert check_of(proof).differences[0].fields == ("skyldner",)
    assert "12928312345" not in repr(proof)
    assert b"12928312345" not in msgspec.json.encode(proof)
