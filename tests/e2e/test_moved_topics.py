"""Topics are mirrored to another cluster, copied to others with more partitions, and adopted by a renamed application.

See `docs/upgrade-move-restore.md`.
"""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import IsolationLevel

from sandbox.servers.kafka import EmbeddedKafka
from tests.kit.processes import LedgerFollower
from tests.kit.stages.moving_stage import SECONDS_MAX, MovingStage
from tests.kit.stages.producer_stage import ProducerStage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def other_kafka() -> Iterator[EmbeddedKafka]:
    """Another cluster."""
    with EmbeddedKafka(cluster_id="YW5vdGhlci1jbHVzdGVyIQ") as server:
        yield server


@pytest.fixture
def site(kafka: Any, make_stage: Any) -> MovingStage:
    """Everything is published but for one version, which is missing; one has a correction, and one is in quarantine."""
    stage = make_stage(kafka, employers=5, orders=15, lanes=2)
    source, employer = stage.outside.skatteetaten, stage.employers[0]
    ended, order = source.create(employer, {"trekkstatus": "aktiv"}), source.create(employer)
    source.plant(employer, '{"trekkid": "only"}')
    stage.once()
    source.rewrite(ended.trekkid, 1, {"trekkstatus": "avsluttet"})
    source.forget(order.trekkid, source.change(order.trekkid).trekkversjon)
    source.change(order.trekkid)
    stage.once(TREKKPAALEGG_RECONCILE_INTERVAL_SECONDS="0.1")
    return MovingStage(stage)


@pytest.fixture
def make_other(site: MovingStage, other_kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Callable[..., MovingStage]]:
    """Builds a stage for the same employers on the other cluster; its topics are not there yet."""
    stages: list[ProducerStage] = []

    def make(prefix: str, lanes: int) -> MovingStage:
        stage = ProducerStage(other_kafka, site.stage.outside, prefix, tmp_path)
        stage.employers, stage.lanes = site.stage.employers, lanes
        stages.append(stage)
        return MovingStage(stage)

    yield make
    for stage in stages:
        stage.close()


def test_a_cluster_that_was_mirrored_read_committed_is_adopted(
    site: MovingStage, make_other: Callable[..., MovingStage], tmp_path: Path
) -> None:
    """A mirror of what was not committed too has events twice, and is made again."""
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    with closing(LedgerFollower(site.stage.environment(None), ledger, tmp_path)) as follower:
        assert follower.begin("run", "--until-end").wait(SECONDS_MAX) == 0
    last = {role: messages[-3:] for role, messages in site.backup("versjoner", "gjeldende", "positions").items()}
    site.restore(last, commit=False)
    other = make_other(site.stage.prefix, site.stage.lanes)
    other.apply()
    other.restore(site.backup(isolation=IsolationLevel.READ_UNCOMMITTED))
    assert other.faults()["once"] == {"appears here again"}
    other.delete()
    other.apply()
    other.restore(site.backup())
    assert other.faults() == {"identity": {"the topics are recorded as those of another cluster"}}
    other.refused("cluster id: recorded", "run `trekkpaalegg-producer topics adopt`")
    other.command("topics", "adopt", "--yes")
    other.once_publishes_nothing()
    other.lives_on()
    with closing(LedgerFollower(other.stage.environment(None), ledger, tmp_path)) as follower:
        assert follower.begin("replay").wait(SECONDS_MAX) == 0
        assert follower.begin("verify").wait(SECONDS_MAX) == 0


def test_topics_are_copied_to_others_with_more_partitions(
    site: MovingStage, make_other: Callable[..., MovingStage], tmp_path: Path
) -> None:
    """To another cluster and prefix at the same time. Employers merge before and after it, and one is suspended."""
    one, two, three, four, suspended = site.stage.employers
    site.command("suspend", "--trekkpliktig", suspended)
    site.merge(one, two)
    site.add_partition("versjoner")
    assert site.faults().keys() == {"identity"}
    site.refused("partitions must not be added")
    former = tmp_path / "former.env"
    former.write_text(f"KAFKA_BROKERS={site.properties['bootstrap.servers']}\n")
    copy = ("topics", "copy", site.stage.prefix, "--from-env-file", str(former), "--partitions", "3", "--yes")
    other = make_other(f"{site.stage.prefix}-wider", 3)
    other.command(*copy)
    assert other.faults() == {}
    assert other.ends() == site.ends()
    told = other.command("position", "show", "--json")
    rows = json.loads(told[told.index("[") :])
    assert {each["trekkpliktig"] for each in rows if each["suspended_at"]} == {suspended}
    assert sum(each["versions_missing"] for each in rows) == 1
    assert "exists already" in other.command(*copy, code=1)
    other.command("resume", "--trekkpliktig", suspended)
    other.once()
    other.once_publishes_nothing()
    other.merge(three, four)
    other.lives_on()


def test_a_renamed_application_adopts_its_topics(site: MovingStage) -> None:
    former, name = site.stage.prefix, f"{site.stage.prefix}-renamed"
    site.stage.settings["TREKKPAALEGG_APPLICATION_ID"] = name
    site.refused(f"application id: recorded {former}, now {name}", "run `trekkpaalegg-producer topics adopt`")
    assert site.faults(TREKKPAALEGG_APPLICATION_ID=name) == {
        "identity": {"the topics are recorded as those of another application"}
    }
    site.command("topics", "adopt", "--yes")
    assert site.faults(TREKKPAALEGG_APPLICATION_ID=name) == {}
    site.once_publishes_nothing()
    site.lives_on()
    site.stage.settings["TREKKPAALEGG_APPLICATION_ID"] = former
    site.refused(f"application id: recorded {name}, now {former}")
