"""The demo's own parts: its texts, its claims, and the proof that names every planted fault."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from rich.console import Console

from sandbox.demo.narrator import WIDTH, ClaimError, Narrator
from sandbox.demo.proof import Published, faults_of, version_from_json
from sandbox.demo.words import (
    Figures,
    Latencies,
    counted,
    cut,
    grouped,
    latencies_table,
    latency_text,
    megabytes_text,
    named,
    seconds_text,
    shown_lines,
    summary_rows,
    unframed,
    wrapped,
)
from sandbox.skatteetaten.generate import generate_versions, trekkpliktige
from sandbox.skatteetaten.wire import EVERY_SHAPE

if TYPE_CHECKING:
    from trekkpaalegg.event import TrekkpaaleggVersjon


# The demo's own parts: numbers and lines for people, and claims that fail when they do not hold
FRAMED = """\
┏━━━━━━━┳━━━━━━┓
┃ topic ┃ kept ┃
┡━━━━━━━╇━━━━━━┩
│ one   │ ever │
├───────┼──────┤
│ three │      │
└───────┴──────┘
lanes: 6
"""


def told(tell: Any, *, terminal: bool = False) -> str:
    """What a narrator prints."""
    stream = io.StringIO()
    tell(Narrator(Console(file=stream, width=WIDTH, highlight=False, soft_wrap=True, force_terminal=terminal)))
    return stream.getvalue()


def test_a_claim_that_does_not_hold_is_an_error_that_says_what_was_found() -> None:
    with pytest.raises(ClaimError, match=r"not so: all came \(lost 10001/2\)"):
        told(lambda narrator: narrator.claim("all came", holds=False, otherwise="lost 10001/2"))
    assert told(lambda narrator: narrator.claim("all came", holds=True, otherwise="lost")) == "  ✓ all came\n"


def test_long_texts_are_wrapped_to_the_width_without_blanks_at_their_ends() -> None:
    words = "word " * 40

    def tell(narrator: Narrator) -> None:
        narrator.title("Title", words)
        narrator.step("Step")
        narrator.say(words)
        narrator.claim(words, holds=True)
        narrator.event(words)
        narrator.rows([("name", words), ("a longer name", "value")])
        narrator.command(words)
        narrator.output("x" * 200)
        narrator.end("End")

    lines = told(tell).splitlines()
    assert max(map(len, lines)) == WIDTH
    assert [line for line in lines if line != line.rstrip()] == []


def test_a_command_that_is_too_long_can_still_be_copied() -> None:
    printed = told(lambda narrator: narrator.command("program " + "--option " * 20))
    assert printed.replace(" \\\n    ", " ").strip() == "$ program " + ("--option " * 20).strip()


def test_output_keeps_brackets_that_resemble_markup() -> None:
    assert told(lambda narrator: narrator.output("[bold]x[/bold]")) == "[bold]x[/bold]\n"


def test_a_spinner_and_a_bar_are_for_terminals_only() -> None:
    def wait(narrator: Narrator) -> None:
        with narrator.waiting("soon"), narrator.progress("versions", 10) as tell:
            tell(5)

    assert told(wait) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (grouped(999), "999"),
        (grouped(1234567), "1 234 567"),
        (counted(1, "kill"), "1 kill"),
        (counted(2, "kill"), "2 kills"),
        (counted(1000, "entry", "entries"), "1 000 entries"),
        (seconds_text(0.44), "0.4 s"),
        (seconds_text(31.5), "32 s"),
        (latency_text(0.0414), "41 ms"),
        (latency_text(0.638), "0.64 s"),
        (latency_text(62.5), "62.50 s"),
        (megabytes_text(99_500_000), "100 MB"),
        (cut("abcdef", 6), "abcdef"),
        (cut("abcdefg", 6), "abcde…"),
        (named([("b", 1), ("a", 2)]), "a/2, b/1"),
        (named([("a", number) for number in range(5)]), "a/0, a/1, a/2 and 2 more"),
        (named([]), ""),
    ],
)
def test_text_for_people(text: str, expected: str) -> None:
    assert text == expected


def test_a_table_loses_its_frame_and_nothing_else() -> None:
    assert unframed(FRAMED) == "topic   kept\none     ever\nthree\nlanes: 6"


def test_output_is_cut_in_both_directions_and_says_so() -> None:
    assert shown_lines("one\n\ntwo long\nthree\nfour\n", 5, 2) == ["one", "two …", "… and 2 lines more"]
    assert shown_lines("one\n", 5, 2) == ["one"]


def test_wrapped_lines_are_aligned() -> None:
    assert wrapped("one two three", 10, first="  - ") == ["  - one", "    two", "    three"]


def test_latencies_stand_below_each_other() -> None:
    polled, notified = Latencies.of([0.9, 0.1, 0.6]), Latencies.of([0.03])
    lines = latencies_table([("polled", polled), ("notified", notified)]).splitlines()
    assert [line.split() for line in lines] == [
        ["fastest", "median", "slowest"],
        ["polled", "0.10", "s", "0.60", "s", "0.90", "s"],
        ["notified", "30", "ms", "30", "ms", "30", "ms"],
    ]
    assert len({len(line) for line in lines}) == 1


def test_summary_counts_the_time_that_the_producer_lived() -> None:
    figures = Figures(backfill_versions=3000, backfill_seconds=5.0, down_seconds=2.0, restart_seconds=[1.5, 0.5])
    figures.notified_seconds, figures.polled_seconds = 0.04, 0.6
    rows = dict(summary_rows(figures))
    assert rows["back-fill"] == "3 000 versions in 5.0 s, 1 000/s while it lived"
    assert rows["kills"] == "2, publishing again 1.5 s and 0.5 s after the restart"
    assert rows["swap"] == "40 ms to Kafka when notified, 0.60 s when polled each second"
    assert summary_rows(Figures()), "also when nothing was measured"


# The proof itself: it is silent when all is well, and names every planted fault
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
    assert topics.faults() == ["a/3 appears 2 times in versjoner", "a/3 comes after version 3 in versjoner"]


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
    assert topics.faults() == ["a/2 in versjoner differs from the source: saksnummer, trekkstatus"]


def test_a_wrong_key_or_id_is_found(topics: Topics) -> None:
    place = topics.place(SECOND)
    topics.versjoner[place] = msgspec.structs.replace(topics.versjoner[place], key="b", ce_id="b/2")
    assert topics.faults() == ["a/2 has the key b and the ce_id b/2 in versjoner"]


def test_an_order_in_two_partitions_is_found(topics: Topics) -> None:
    place = topics.place(SECOND)
    topics.versjoner[place] = msgspec.structs.replace(topics.versjoner[place], partition=1)
    assert topics.faults() == ["a is in more than one partition of versjoner"]


def test_a_late_version_may_come_out_of_order_but_not_in_gjeldende(topics: Topics) -> None:
    place = topics.place(FIRST)
    late = msgspec.structs.replace(topics.versjoner.pop(place), late=True)
    topics.versjoner.append(late)
    assert topics.faults() == []
    topics.gjeldende.append(late)
    assert "a/1 is late and yet in gjeldende" in topics.faults()


def test_the_last_correction_must_equal_the_source(topics: Topics) -> None:
    event = topics.source[THIRD]
    topics.source[THIRD] = msgspec.structs.replace(event, trekkstatus="avsluttet")
    correction = Published(0, 99, "a", topics.source[THIRD], "a/3/1", correction=1)
    topics.versjoner.append(correction)
    topics.gjeldende.append(correction)
    assert topics.faults() == []
    topics.versjoner[-1] = msgspec.structs.replace(correction, correction=2, ce_id="a/3/2")
    assert topics.faults() == ["corrections of a/3 are numbered [2]"]
