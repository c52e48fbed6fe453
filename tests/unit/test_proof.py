"""The proof itself: it is silent when all is well, and names every planted fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from sandbox.demo.proof import Published, faults_of, version_from_json
from sandbox.skatteetaten.generate import generate_versions, trekkpliktige
from sandbox.skatteetaten.wire import EVERY_SHAPE

if TYPE_CHECKING:
    from trekkpaalegg.event import TrekkpaaleggVersjon

FIRST, SECOND, THIRD = ("a", 1), ("a", 2), ("a", 3)


class Topics:
    """One order in three versions and some others, published as they should be; to be spoilt."""

    def __init__(self) -> None:
        self.source: dict[tuple[str, int], TrekkpaaleggVersjon] = {}
        for version in generate_versions(1, trekkpliktige(1, 2), 20, shape=EVERY_SHAPE):
            event = version_from_json(version.body)
            self.source[event.trekkid, event.trekkversjon] = event
        for identity in (FIRST, SECOND, THIRD):
            self.source[identity] = msgspec.structs.replace(event, trekkid=identity[0], trekkversjon=identity[1])
        self.versjoner = [
            Published(0, offset, trekkid, event, f"{trekkid}/{trekkversjon}")
            for offset, ((trekkid, trekkversjon), event) in enumerate(self.source.items())
        ]
        self.gjeldende = list(self.versjoner)

    def place(self, identity: tuple[str, int], topic: str = "versjoner") -> int:
        return [each.identity for each in getattr(self, topic)].index(identity)

    def faults(self) -> list[str]:
        return faults_of(self.versjoner, self.gjeldende, self.source)


@pytest.fixture
def topics() -> Topics:
    return Topics()


def test_nothing_is_said_when_all_is_well(topics: Topics) -> None:
    assert topics.faults() == []


def test_a_doubled_event_is_found(topics: Topics) -> None:
    topics.versjoner.append(topics.versjoner[topics.place(THIRD)])
    assert topics.faults() == ["a/3 stands 2 times in versjoner", "a/3 comes after version 3 in versjoner"]


def test_a_dropped_event_is_found(topics: Topics) -> None:
    del topics.versjoner[topics.place(SECOND)]
    assert topics.faults() == ["a/2 is missing from versjoner"]


def test_swapped_events_are_found(topics: Topics) -> None:
    here, there = topics.place(SECOND), topics.place(THIRD)
    topics.versjoner[here], topics.versjoner[there] = topics.versjoner[there], topics.versjoner[here]
    assert topics.faults() == ["a/2 comes after version 3 in versjoner"]


def test_an_older_version_after_a_newer_in_gjeldende_is_found(topics: Topics) -> None:
    topics.gjeldende.append(topics.gjeldende[topics.place(SECOND)])
    assert topics.faults() == [
        "a/2 comes after version 3 in gjeldende",
        "a ends at 2 in gjeldende, at 3 in versjoner",
    ]


def test_an_order_that_is_missing_from_gjeldende_is_found(topics: Topics) -> None:
    topics.gjeldende = [each for each in topics.gjeldende if each.key != "a"]
    assert topics.faults() == ["a ends at None in gjeldende, at 3 in versjoner"]


def test_an_event_that_the_source_does_not_have_is_found(topics: Topics) -> None:
    del topics.source[THIRD]
    assert topics.faults() == ["a/3 is in versjoner and not in the source"]


def test_changed_content_is_found_and_named_by_field_alone(topics: Topics) -> None:
    place = topics.place(SECOND)
    wrong = msgspec.structs.replace(topics.versjoner[place].event, saksnummer="another", trekkstatus="ukjent")
    topics.versjoner[place] = msgspec.structs.replace(topics.versjoner[place], event=wrong)
    assert topics.faults() == ["a/2 in versjoner is otherwise than in the source: saksnummer, trekkstatus"]


def test_a_wrong_key_or_id_is_found(topics: Topics) -> None:
    place = topics.place(SECOND)
    topics.versjoner[place] = msgspec.structs.replace(topics.versjoner[place], key="b", ce_id="b/2")
    assert topics.faults() == ["a/2 stands under the key b and the ce_id b/2 in versjoner"]


def test_an_order_in_two_partitions_is_found(topics: Topics) -> None:
    place = topics.place(SECOND)
    topics.versjoner[place] = msgspec.structs.replace(topics.versjoner[place], partition=1)
    assert topics.faults() == ["a is in more than one partition of versjoner"]


def test_a_late_version_may_come_out_of_turn_but_not_to_gjeldende(topics: Topics) -> None:
    place = topics.place(FIRST)
    late = msgspec.structs.replace(topics.versjoner.pop(place), late=True)
    topics.versjoner.append(late)
    assert topics.faults() == []
    topics.gjeldende.append(late)
    assert "a/1 is late and yet in gjeldende" in topics.faults()


def test_the_last_correction_must_hold_what_the_source_holds_now(topics: Topics) -> None:
    event = topics.source[THIRD]
    topics.source[THIRD] = msgspec.structs.replace(event, trekkstatus="avsluttet")
    correction = Published(0, 99, "a", topics.source[THIRD], "a/3/1", correction=1)
    topics.versjoner.append(correction)
    topics.gjeldende.append(correction)
    assert topics.faults() == []
    topics.versjoner[-1] = msgspec.structs.replace(correction, correction=2, ce_id="a/3/2")
    assert topics.faults() == ["corrections of a/3 are numbered [2]"]
