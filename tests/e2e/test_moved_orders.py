"""An order moves from one of our employers to another, with versions made between the last reading and the move."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.kafka


def test_versions_in_no_list_after_a_move_are_published_once_and_late(stage: Any) -> None:
    skatteetaten = stage.outside.skatteetaten
    left, joined = stage.employers[:2]
    order = skatteetaten.create(left)
    stage.once("one")
    unseen = [skatteetaten.change(order.trekkid), skatteetaten.change(order.trekkid)]
    skatteetaten.move(order.trekkid, joined)
    newest = skatteetaten.change(order.trekkid)
    stage.once("one", TREKKPAALEGG_RECONCILE_INTERVAL_SECONDS="0.1")
    published = [each for each in stage.prove() if each.event.trekkid == order.trekkid]
    assert {each.event.trekkversjon for each in published if each.late} == {each.trekkversjon for each in unseen}
    current = [each.event.trekkversjon for each in stage.gjeldende() if each.event.trekkid == order.trekkid]
    assert current[-1] == newest.trekkversjon
