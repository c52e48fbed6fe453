"""What databases cannot store is undecodable: it is kept with its bytes, and the stream goes on."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from tests.kit.event_stream import incoming_of, make_stream
from trekkpaalegg.errors import UndecodableError
from trekkpaalegg.incoming import storable

EVENT = incoming_of(make_stream(1, 1))[0].event


def with_period(**changes: Decimal):
    periode = msgspec.structs.replace(EVENT.trekkstoerrelse_for_periode[0], **changes)
    return msgspec.structs.replace(EVENT, trekkstoerrelse_for_periode=(periode,))


def test_an_ordinary_event_is_kept() -> None:
    assert storable(EVENT) is EVENT
    largest = with_period(trekkbeloep=Decimal("999999999999.99"), trekkprosent=Decimal("999.99"))
    assert storable(largest) is largest


@pytest.mark.parametrize("name", ["trekkid", "saksnummer", "trekkpliktig"])
def test_a_nul_in_a_text_cannot_be_kept(name: str) -> None:
    with pytest.raises(UndecodableError, match="NUL"):
        storable(msgspec.structs.replace(EVENT, **{name: "a\x00b"}))


def test_a_nul_in_the_payment_cannot_be_kept() -> None:
    payment = msgspec.structs.replace(EVENT.betalingsinformasjon, kidnummer="12\x00")
    with pytest.raises(UndecodableError, match="NUL"):
        storable(msgspec.structs.replace(EVENT, betalingsinformasjon=payment))


@pytest.mark.parametrize(
    "changes", [{"trekkbeloep": Decimal(1000000000000)}, {"trekkprosent": Decimal(-1000)}], ids=["beloep", "prosent"]
)
def test_a_number_of_too_many_digits_cannot_be_kept(changes: dict[str, Decimal]) -> None:
    with pytest.raises(UndecodableError, match="digits"):
        storable(with_period(**changes))
