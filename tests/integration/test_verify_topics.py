"""`verify` on a real Kafka: faults planted in the event topics on purpose are found, exactly, and nothing else is."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec
import pytest

from consumers.verify.findings import Difference
from producer.domain.state import OrderState
from producer.domain.trekkpaalegg import Origin, Publication
from tests.integration.proved_topics import ITS, ORDER, OTHERS, STREAM, Stage, check_of, failing, stage_maker
from tests.kit.event_stream import ROUGH, make_stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.servers.kafka import EmbeddedKafka

pytestmark = pytest.mark.kafka


@pytest.fixture
def stage(kafka: EmbeddedKafka, topic_prefix: str) -> Iterator[Stage]:
    with stage_maker(kafka, topic_prefix) as make:
        yield make()


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
