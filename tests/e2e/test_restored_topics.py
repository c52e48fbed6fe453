"""All topics are restored from backups that were not made at the same moment.

See "Restore from a backup" in `docs/upgrade-move-restore.md`.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.stages.moving_stage import MovingStage

pytestmark = pytest.mark.kafka

EVENTS = ("versjoner", "gjeldende", "quarantine")


class Backups:
    """A stage, backups of its topics before and after orders have changed, and what the source has lost since."""

    def __init__(self, stage: Any) -> None:
        self.site = MovingStage(stage)
        self._source, (one, other, third) = stage.outside.skatteetaten, stage.employers
        for trekkid in [each.trekkid for each in self._source.book.newest_of_all()][::2]:
            self._source.change(trekkid)
        stage.once()
        self.older = self.site.backup(*EVENTS, "positions")
        for trekkid in [each.trekkid for each in self._source.book.newest_of_all()][::2]:
            self._source.change(trekkid)
            self._source.change(trekkid)
        self._gone, moved = self._source.create(one), self._source.create(other)
        stage.once()
        self.newer = self.site.backup(*EVENTS, "positions")
        self._source.move(moved.trekkid, third)
        self.published = {each.identity for each in stage.versjoner()}

    def restore(self, events: dict[str, Any], positions: dict[str, Any]) -> None:
        """Make all topics again, as these backups have them."""
        self.site.delete()
        self.site.apply()
        self.site.restore({role: events[role] for role in EVENTS} | positions)

    def lose_an_order(self) -> tuple[str, int]:
        """The source has an order no more that was published between the backups."""
        self._source.remove(self._gone.trekkid)
        return self._gone.trekkid, self._gone.trekkversjon


@pytest.fixture
def backups(kafka: Any, make_stage: Any) -> Backups:
    return Backups(make_stage(kafka, employers=3, orders=12, lanes=2))


def test_events_that_are_newer_than_positions_are_not_published_again(backups: Backups) -> None:
    site = backups.site
    backups.restore(backups.newer, {"positions": backups.older["positions"]})
    assert site.faults().keys() == {"positions", "identity"}
    site.refused("run `trekkpaalegg-producer topics adopt`")
    site.command("topics", "adopt", "--yes")
    assert site.faults() == {}
    site.command("reconcile", "--history")
    site.once_publishes_nothing()
    assert {each.identity for each in site.stage.versjoner() if each.origin == "repair"} == set()
    site.lives_on()


def test_events_that_are_older_than_positions_are_published_again_or_listed(backups: Backups) -> None:
    site, gone = backups.site, backups.lose_an_order()
    backups.restore(backups.older, {"positions": backups.newer["positions"]})
    restored = {each.identity for each in site.stage.versjoner()}
    assert site.faults().keys() == {"positions", "identity"}
    site.refused("run `trekkpaalegg-producer topics adopt`")
    assert "`reconcile --history`" in site.command("topics", "adopt", "--yes")
    assert site.faults() == {}
    told = site.command("reconcile", "--history", code=1)
    assert gone[0] in told
    assert "lost everywhere: HTTP 404" in told
    site.once_publishes_nothing()
    repaired = {each.identity for each in site.stage.versjoner() if each.origin == "repair"}
    assert repaired == backups.published - restored - {gone}
    site.lives_on()


def test_events_alone_are_enough(backups: Backups) -> None:
    """`topics apply` has recorded whose the topics are while they were empty."""
    site = backups.site
    backups.restore(backups.newer, {})
    assert site.faults().keys() == {"positions"}
    site.refused("run `trekkpaalegg-producer position rebuild`")
    site.command("position", "rebuild", "--yes")
    assert site.faults() == {}
    site.once()
    site.once_publishes_nothing()
    site.lives_on()
