"""The simulated world over a restart: what was made after the start is restored, with its numbers."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING

import pytest

from sandbox.control.world import OutsideWorld, WorldOptions, read_client_key
from sandbox.skatteetaten.generate import Traffic
from sandbox.skatteetaten.journal import Journal
from sandbox.skatteetaten.state import Skatteetaten

if TYPE_CHECKING:
    from pathlib import Path

EMPLOYERS = ["310000025", "310000033"]
KEY = {"kty": "RSA", "n": "AQAB" * 100, "e": "AQAB", "kid": "k"}


def world(seed: int = 1) -> Skatteetaten:
    return Skatteetaten(seed=seed, clock=lambda: 1_800_000_000.0)


def everything(state: Skatteetaten) -> list[tuple[str, int, int, bytes]]:
    return sorted((v.trekkid, v.trekkversjon, v.sekvensnummer, v.body) for v in state.book.every_version())


def test_orders_survive_a_restart(tmp_path: Path) -> None:
    first = world()
    with Journal(tmp_path / "state", first.book):
        traffic = Traffic(first, EMPLOYERS, Random(1))
        for _ in range(50):
            traffic.step()
    again = world()
    with Journal(tmp_path / "state", again.book) as journal:
        assert journal.length == len(everything(first))
        assert everything(again) == everything(first)
        assert again.identities() == first.identities()
        assert again.book.newest_of_all() == first.book.newest_of_all()


def test_a_restarted_world_gives_no_number_twice(tmp_path: Path) -> None:
    """The generator's chances are those of the seed: they would make the same orders once more."""
    for start in range(3):
        state = world()
        with Journal(tmp_path / "state", state.book) as journal:
            highest = state.book.highest_sekvensnummer
            if journal.length:
                state.reseed(journal.length)
            for _ in range(5):
                assert state.create(EMPLOYERS[0]).sekvensnummer > highest
            assert len(state.identities()) == 5 * (start + 1)


def test_a_hidden_version_is_hidden_until_it_was_revealed(tmp_path: Path) -> None:
    state = world()
    with Journal(tmp_path / "state", state.book):
        order = state.create(EMPLOYERS[0], visible=False)
    state = world()
    with Journal(tmp_path / "state", state.book):
        assert state.identities() == set()
        state.reveal(order.trekkid, 1)
    state = world()
    with Journal(tmp_path / "state", state.book):
        assert state.identities() == {(order.trekkid, 1)}


def test_a_half_line_is_cut_off(tmp_path: Path) -> None:
    """The process was killed in the middle of writing it: nobody saw that version."""
    state = world()
    with Journal(tmp_path / "state", state.book):
        state.create(EMPLOYERS[0])
        state.create(EMPLOYERS[0])
    content = (tmp_path / "state").read_bytes()
    (tmp_path / "state").write_bytes(content[:-10])
    state = world()
    with Journal(tmp_path / "state", state.book) as journal:
        assert journal.length == 1
        state.reseed(1)
        state.create(EMPLOYERS[1])
    state = world()
    with Journal(tmp_path / "state", state.book) as journal:
        assert journal.length == 2


@pytest.mark.parametrize("content", [b"hello\n", b'["x",true]\n'])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(ValueError, match="line 1 does not fit this world"):
        Journal(tmp_path / "state", world().book)
    assert (tmp_path / "state").read_bytes() == content


def test_the_clients_key_stays_with_the_client(tmp_path: Path) -> None:
    """A place that knows a client tells its id and never a key; only the public half is kept of one that is given."""
    (tmp_path / "key").write_text(json.dumps(KEY), encoding="utf-8")
    key = read_client_key(tmp_path / "key")
    assert key == KEY
    outside = OutsideWorld(place=WorldOptions(called="outside", client_id="a-client", client_key=key))
    try:
        told = outside.environment(EMPLOYERS)
    finally:
        outside.close()
    assert told["MASKINPORTEN_CLIENT_ID"] == "a-client"
    assert "MASKINPORTEN_CLIENT_JWK" not in told
    assert told["TREKKPAALEGG_API_URL"].startswith("http://outside:")
    assert outside.maskinporten.issuer.startswith("http://outside:")


@pytest.mark.parametrize("content", [None, "", "[]", "{}", json.dumps({**KEY, "kid": ""}), json.dumps({**KEY, "n": 1})])
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "key").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="key"):
        read_client_key(tmp_path / "key")
