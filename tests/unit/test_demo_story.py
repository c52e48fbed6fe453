"""The demo's own parts: numbers and lines for people, and claims that are not passed over when they do not hold."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from sandbox.demo.narrator import WIDTH, ClaimError, Narrator
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


def test_output_keeps_brackets_that_look_like_markup() -> None:
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


def test_wrapped_lines_stand_below_each_other() -> None:
    assert wrapped("one two three", 10, first="  - ") == ["  - one", "    two", "    three"]


def test_latencies_stand_below_each_other() -> None:
    polled, told = Latencies.of([0.9, 0.1, 0.6]), Latencies.of([0.03])
    lines = latencies_table([("polled", polled), ("told of", told)]).splitlines()
    assert [line.split() for line in lines] == [
        ["fastest", "median", "slowest"],
        ["polled", "0.10", "s", "0.60", "s", "0.90", "s"],
        ["told", "of", "30", "ms", "30", "ms", "30", "ms"],
    ]
    assert len({len(line) for line in lines}) == 1


def test_summary_counts_the_time_that_the_producer_lived() -> None:
    figures = Figures(backfill_versions=3000, backfill_seconds=5.0, down_seconds=2.0, restart_seconds=[1.5, 0.5])
    figures.told_seconds, figures.polled_seconds = 0.04, 0.6
    rows = dict(summary_rows(figures))
    assert rows["back-fill"] == "3 000 versions in 5.0 s, 1 000/s while it lived"
    assert rows["kills"] == "2, publishing again 1.5 s and 0.5 s after the restart"
    assert rows["swap"] == "40 ms to Kafka when told of, 0.60 s when polled each second"
    assert summary_rows(Figures()), "also when nothing was measured"
