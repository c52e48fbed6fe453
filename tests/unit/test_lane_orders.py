"""Orders that move between employers, through real lanes: in the end each version is published once, and in order.

Random histories drive the lanes of three workers on topics in memory. Versions are made and orders move; who may read
them changes, and who is ours; workers are killed, freeze and lose lanes; transactions, observations and signals fail,
are late or are lost; operators request. In the end the world stands still, nothing fails, and every employer is read in
full a few times.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from producer.domain.requests import BACKFILL, FORGET, RECONCILE, RESUME, SET, SUSPEND
from tests.kit.fakes.observations import WriteFault
from tests.kit.fakes.publisher import Fault
from tests.kit.history_world import EMPLOYERS, LANES, ORDERS, Rule, Setting
from tests.kit.stages.lane_history import DAY_SECONDS, WORKERS, wrong_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kit.stages.lane_history import Action

REQUESTS = (BACKFILL, RECONCILE, SUSPEND, RESUME, SET, FORGET)


def random_history(random: Random) -> tuple[Setting, list[float], list[Action]]:
    """Some setting, by how many seconds the clock of each worker is ahead, and some actions."""
    choice, number = random.choice, random.randrange
    setting = Setting(
        "".join(each for each in EMPLOYERS if random.random() < 0.65) or "A",
        choice(list(Rule)),
        random.random() < 0.4,
        {each: number(LANES) for each in EMPLOYERS},
    )
    ahead = [choice((0.0, 0.0, -20.0, 20.0)) for _ in range(WORKERS)]
    makers = _makers(random)
    kinds = random.choices(list(makers), [weight for weight, _ in makers.values()], k=choice((12, 25, 45, 70)))
    return setting, ahead, [("create", choice(EMPLOYERS)), *[(kind, *makers[kind][1]()) for kind in kinds]]


def _makers(random: Random) -> dict[str, tuple[float, Callable[[], tuple[Any, ...]]]]:
    """How often an action of each kind comes, and what makes its arguments."""
    choice, number = random.choice, random.randrange

    def steps() -> tuple[int, int, int]:
        return number(4), choice((1, 1, 2, 3, 5, 8, 14, 30)), random.getrandbits(60) * (random.random() < 0.7)

    return {
        "step": (55, steps),
        "step_frozen": (3, steps),
        "change": (11, lambda: (choice(ORDERS), choice(("", "", "", *EMPLOYERS)))),
        "create": (2.5, lambda: (choice(EMPLOYERS),)),
        "add": (3.5, lambda: (choice(EMPLOYERS),)),
        "remove": (3, lambda: (choice(EMPLOYERS),)),
        "refresh": (5, lambda: (number(WORKERS),)),
        "kill": (3, lambda: (number(WORKERS), number(WORKERS))),
        "move": (3, lambda: (number(LANES), number(WORKERS), random.random() < 0.6)),
        "give": (1.5, lambda: (choice(list(Rule)),)),
        "show": (1.5, lambda: (random.random() < 0.5,)),
        "withhold": (1.5, lambda: (choice(ORDERS), number(1, 4))),
        "garble": (2.5, lambda: (choice(ORDERS), number(1, 4), random.random() < 0.4)),
        "release": (4, lambda: (number(8), number(1, 3))),
        "restore": (1, tuple),
        "wait": (3, lambda: (choice((10.0, 60.0, 700.0, DAY_SECONDS + 1)),)),
        "fail_transaction": (2, lambda: (choice(list(Fault)),)),
        "fail_write": (3, lambda: (choice(list(WriteFault)), number(1, 3))),
        "fail_signal": (0.5, tuple),
        "catch_up": (1.5, tuple),
        "lose": (0.7, lambda: (number(LANES),)),
        "request": (2.5, lambda: (choice(REQUESTS), choice(EMPLOYERS), number(1, 3))),
    }


def shortened(setting: Setting, ahead: list[float], actions: list[Action]) -> list[Action]:
    """A few of the actions of a history in which something is wrong, with which something is wrong still."""
    size = len(actions)
    while size:
        at = 0
        while at < len(actions):
            fewer = actions[:at] + actions[at + size :]
            if wrong_in(setting, ahead, fewer):
                actions = fewer
            else:
                at += size
        size //= 2
    return actions


def check(seed: str, first: int, count: int) -> None:
    """Play so many histories; if something is wrong after one, tell a short form of it."""
    for number in range(first, first + count):
        setting, ahead, actions = random_history(Random(f"{seed}/{number}"))
        if wrong_in(setting, ahead, actions):
            few = shortened(setting, ahead, actions)
            happens, wrong = "\n".join(map(str, few)), "\n".join(wrong_in(setting, ahead, few))
            pytest.fail(f"history {number} of seed {seed!r}:\n{setting}, ahead {ahead}\n{happens}\n{wrong}")


@pytest.mark.parametrize("first", range(0, 300, 100))
def test_each_version_is_published_once_and_in_order_by_real_lanes(first):
    check("lanes", first, 100)


@pytest.mark.long
def test_each_version_is_published_once_and_in_order_by_real_lanes_in_very_many_histories():
    check("long", 0, 100_000)
