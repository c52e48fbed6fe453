"""Each topic is lost in turn: what a start and `verify` say, the remedy of the page, and that nothing comes twice.

See "A topic is lost" in `docs/upgrade-move-restore.md`.
"""

from __future__ import annotations

import uuid
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from sandbox.control.world import OutsideWorld
from tests.kit.stages.moving_stage import UNREADABLE, MovingStage
from tests.kit.stages.producer_stage import ProducerStage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.servers.kafka import EmbeddedKafka

pytestmark = pytest.mark.kafka

ADOPT = ("topics", "adopt", "--yes")
REBUILD = ("position", "rebuild", "--yes")
REPAIR = ("reconcile", "--history")

LOSSES: dict[str, tuple[str, set[str], tuple[tuple[str, ...], ...]]] = {
    "versjoner": (UNREADABLE, {"positions", "gjeldende", "identity"}, (ADOPT, REPAIR)),
    "gjeldende": (UNREADABLE, {"gjeldende", "identity"}, (ADOPT, REPAIR)),
    "positions": ("positions", {"positions", "identity"}, (REBUILD,)),
    "signals": ("identity", {"identity"}, (ADOPT,)),
    "observations": ("identity", {"identity"}, (ADOPT,)),
    "observations_urgent": ("identity", {"identity"}, (ADOPT,)),
    "quarantine": ("identity", {"identity"}, (ADOPT,)),
}
"""By role, the check of `verify` that fails when it is gone, those when it is empty, and the remedy after that.

The quarantine is the last: without it a state that is made again does not know what was in it.
"""


@pytest.fixture(scope="module")
def whole(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MovingStage]:
    """Topics that hold everything; each test loses one of them and makes them whole again."""
    prefix, folder = f"test-{uuid.uuid4().hex[:12]}", tmp_path_factory.mktemp("lost")
    with OutsideWorld() as outside, closing(ProducerStage(kafka, outside, prefix, folder)) as stage:
        stage.employers = outside.generate(3, 12)
        stage.apply_topics(2)
        outside.skatteetaten.plant(stage.employers[0], '{"trekkid": "only"}')
        stage.once()
        yield MovingStage(stage)


@pytest.mark.parametrize("role", LOSSES)
def test_a_topic_that_is_lost_is_made_again_and_nothing_comes_twice(whole: MovingStage, role: str) -> None:
    when_gone, when_empty, remedies = LOSSES[role]
    published = sorted(each.identity for each in whole.stage.versjoner())
    whole.delete([role])
    whole.refused(f"{getattr(whole.topics, role)}: no such topic", "run `trekkpaalegg-producer topics apply`")
    assert whole.faults().keys() == {when_gone}
    whole.apply(code=1)
    assert whole.faults().keys() == when_empty
    whole.refused(f"run `trekkpaalegg-producer {' '.join(remedies[0][:2])}`")
    for remedy in remedies:
        whole.command(*remedy)
    assert whole.faults() == {}
    whole.once_publishes_nothing()
    assert sorted(each.identity for each in whole.stage.versjoner()) == published
    whole.lives_on()
