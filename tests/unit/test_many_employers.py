"""A hundred thousand trekkpliktige: each is hashed once, and memory for them is bounded."""

from __future__ import annotations

import pytest

from producer.publish.topics import lane_of
from producer.settings.model import load_settings
from producer.settings.trekkpliktige import ServedTrekkpliktige, TrekkpliktigeList
from producer.source.auth.tokens import HeldToken, TokenCache
from trekkpaalegg.errors import SettingsError

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
