"""The list of employers: its form, its faults, changes under a running service, and a hundred thousand of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from producer.publish.topics import lane_of
from producer.settings.model import load_settings
from producer.settings.trekkpliktige import ServedTrekkpliktige, TrekkpliktigeList
from producer.source.auth.tokens import HeldToken, TokenCache
from trekkpaalegg.errors import SettingsError
from trekkpaalegg.trekkpliktige import Trekkpliktig, parse_trekkpliktige_file

if TYPE_CHECKING:
    from pathlib import Path


# The list of employers: its form, its faults, and what happens when the file changes under a running service


def listed(path: Path, authentication: str = "systembruker") -> tuple[TrekkpliktigeList, list[str]]:
    environ = {"TREKKPAALEGG_TREKKPLIKTIGE_FILE": str(path), "TREKKPAALEGG_AUTHENTICATION": authentication}
    settings = load_settings(None, environ, needs=frozenset())
    warnings: list[str] = []
    return TrekkpliktigeList(settings, warnings.append), warnings


def rewrite(path: Path, text: str) -> None:
    """Write, and make the time of change differ also on a coarse clock."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    os.utime(path, ns=(before + 1_000_000, before + 1_000_000))


def test_numbers_references_comments_blank_lines_and_a_byte_order_mark_are_read() -> None:
    text = "\ufeff# ours\r\n312345609\r\n\r\n312345617, depot 7 # a comment\r\n  312345625,\r\n"
    assert parse_trekkpliktige_file(text, "list").trekkpliktige == (
        Trekkpliktig("312345609"),
        Trekkpliktig("312345617", "depot 7"),
        Trekkpliktig("312345625"),
    )


def test_every_faulty_line_is_reported_and_none_of_them_is_quoted() -> None:
    national_id = "01410112345"
    with pytest.raises(SettingsError) as caught:
        parse_trekkpliktige_file(f"312345609\n{national_id}\n312345609\n,x\n31234567\u0660\n", "list")
    assert [fault.split(":")[1] for fault in caught.value.faults] == [" line 2", " line 3", " line 4", " line 5"]
    assert national_id not in str(caught.value)


def test_a_long_list_of_faults_is_cut() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_trekkpliktige_file("x\n" * 1000, "list")
    assert len(caught.value.faults) == 51
    assert caught.value.faults[-1] == "list: and 950 more faults"


@pytest.mark.parametrize("text", ["", "\n\n", "# nobody\n", "\ufeff"])
def test_an_empty_list_is_a_fault(text: str) -> None:
    with pytest.raises(SettingsError, match="no organisation number in it"):
        parse_trekkpliktige_file(text, "list")


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("312345609\n")
    trekkpliktige, warnings = listed(path)
    first = trekkpliktige.current()
    assert trekkpliktige.current() is first
    rewrite(path, "312345609\n312345617\n")
    assert [each.organisasjonsnummer for each in trekkpliktige.current()] == ["312345609", "312345617"]
    assert warnings == []


@pytest.mark.parametrize("text", ["", "nonsense\n", "312345609\n312345609\n"])
def test_a_faulty_new_file_leaves_the_former_list_and_warns_once(text: str, tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("312345609\n")
    trekkpliktige, warnings = listed(path)
    before = trekkpliktige.current()
    rewrite(path, text)
    assert [trekkpliktige.current() for _ in range(3)] == [before] * 3
    assert len(warnings) == 1
    assert "the former list of 1 stays in use" in warnings[0]
    rewrite(path, "312345617\n")
    assert trekkpliktige.current() == (Trekkpliktig("312345617"),)


def test_a_file_that_has_gone_leaves_the_former_list_and_is_read_when_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("312345609\n")
    trekkpliktige, warnings = listed(path)
    path.unlink()
    assert trekkpliktige.current() == (Trekkpliktig("312345609"),)
    assert len(warnings) == 1
    path.write_text("312345617\n")
    assert trekkpliktige.current() == (Trekkpliktig("312345617"),)


def test_own_authentication_refuses_a_second_employer_also_later(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("312345609\n")
    trekkpliktige, warnings = listed(path, "egen")
    rewrite(path, "312345609\n312345617\n")
    assert len(trekkpliktige.current()) == 1
    assert "2 trekkpliktige are given" in warnings[0]


# A hundred thousand trekkpliktige: each is hashed once, and memory for them is bounded
NUMBERS = [f"31{number:07d}" for number in range(60)]
LANES = 6


def test_lanes_share_out_all_employers_and_follow_the_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "trekkpliktige"
    file.write_text("\n".join(NUMBERS))
    settings = load_settings(None, {"TREKKPAALEGG_TREKKPLIKTIGE_FILE": str(file)}, needs=frozenset())
    served = ServedTrekkpliktige(TrekkpliktigeList(settings, lambda _: None))
    assert sorted(name for lane in range(LANES) for name in served.in_lane(lane, LANES)) == NUMBERS
    assert all(lane_of(name, LANES) == 4 for name in served.in_lane(4, LANES))
    gone = served.in_lane(4, LANES)[0]
    file.write_text("\n".join([*(each for each in NUMBERS if each != gone), "399999999"]))
    assert served.refresh()
    assert gone not in served.in_lane(4, LANES)
    assert "399999999" in served.in_lane(lane_of("399999999", LANES), LANES)
    assert sorted(served) == sorted(served.in_lane(0, 1))


def test_tokens_are_fetched_when_needed_reused_while_they_live_and_bounded():
    fetched, now = [], [0.0]

    class Tokens(TokenCache):
        def fetch(self, name):
            fetched.append(name)
            return HeldToken(name, now[0] + 100.0)

    tokens = Tokens(lambda: now[0], tokens_max=3)
    for name in ("a", "b", "c", "a", "c"):
        assert tokens.token_for(name) == name
    assert fetched == ["a", "b", "c"]
    tokens.token_for("d")
    assert len(tokens) == 3
    tokens.token_for("d")
    tokens.token_for("a")
    assert fetched == ["a", "b", "c", "d", "a"]


@pytest.mark.parametrize(("workers", "share"), [(None, 5), ("1", 5), ("2", 2), ("5", 1)])
def test_calls_are_shared_out_so_that_all_workers_keep_to_the_limit(tmp_path, monkeypatch, workers, share):
    monkeypatch.chdir(tmp_path)
    given = {} if workers is None else {"TREKKPAALEGG_WORKERS": workers}
    settings = load_settings(None, given, needs=frozenset())
    assert settings.calls_share == share
    assert share * int(workers or 1) <= settings.max_concurrent_calls


def test_more_workers_than_calls_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="no more workers than calls"):
        load_settings(None, {"TREKKPAALEGG_WORKERS": "6"}, needs=frozenset())
