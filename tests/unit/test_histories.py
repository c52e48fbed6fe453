"""Any history of the source, the employers, the workers and Kafka: in the end each version is published once, in order.

The decisions of readers and homes are driven through random histories, and through what organisations do, with kills,
freezes and late markers in between.
"""

from __future__ import annotations

import itertools
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.histories import WORKERS, Fault, wrong_in
from tests.kit.history_world import EMPLOYERS, LANES, ORDERS, Rule, Setting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kit.histories import Action


def random_history(random: Random) -> tuple[Setting, list[Action]]:
    """Some setting, and some actions."""
    choice, number = random.choice, random.randrange
    setting = Setting(
        "".join(each for each in EMPLOYERS if random.random() < 0.65) or "A",
        choice(list(Rule)),
        random.random() < 0.4,
        {each: number(LANES) for each in EMPLOYERS},
    )
    makers = _makers(random)
    weights = (550, 110, 25, 35, 30, 50, 30, 30, 30, 40, 15, 15, 15, 10, 15)
    kinds = random.choices(list(makers), weights, k=choice((12, 25, 45, 70)))
    return setting, [("create", choice(EMPLOYERS)), *[(kind, *makers[kind]()) for kind in kinds]]


def _makers(random: Random) -> dict[str, Callable[[], tuple[Any, ...]]]:
    """The arguments of an action of each kind."""
    choice, number = random.choice, random.randrange
    return {
        "step": lambda: (number(4), choice((1, 1, 2, 3, 5, 8, 14)), random.getrandbits(40) * (random.random() < 0.7)),
        "change": lambda: (choice(ORDERS), choice(("", "", "", *EMPLOYERS))),
        "create": lambda: (choice(EMPLOYERS),),
        "add": lambda: (choice(EMPLOYERS),),
        "remove": lambda: (choice(EMPLOYERS),),
        "refresh": lambda: (number(WORKERS),),
        "kill": lambda: (number(WORKERS), number(WORKERS)),
        "move": lambda: (number(LANES), number(WORKERS), random.random() < 0.6),
        "step_frozen": lambda: (number(4), number(2), choice((1, 2, 4, 8)), random.getrandbits(20)),
        "mark": lambda: (number(LANES),),
        "give": lambda: (choice(list(Rule)),),
        "show": lambda: (random.random() < 0.5,),
        "withhold": lambda: (choice(ORDERS), number(1, 4)),
        "restore": tuple,
        "wait": lambda: (choice((1, 13, 25)),),
    }


ALL_REFRESH = tuple(("refresh", worker) for worker in range(WORKERS))

MOVES: dict[str, tuple[str, bool, tuple[Action, ...]]] = {
    "A to B": ("AB", False, (("create", "A"), ("change", "1", ""), ("change", "1", "B"), ("change", "1", ""))),
    "A to B to A": ("AB", False, (("create", "A"), ("change", "1", "B"), ("change", "1", "A"))),
    "A to B to C": ("ABC", False, (("create", "A"), ("change", "1", "B"), ("change", "1", "C"))),
    "A off the list, then to B": (
        "AB",
        False,
        (("create", "A"), ("change", "1", ""), ("remove", "A"), *ALL_REFRESH, ("change", "1", "B")),
    ),
    "A to B, then off the list": (
        "AB",
        False,
        (("create", "A"), ("change", "1", ""), ("change", "1", "B"), ("remove", "A"), *ALL_REFRESH),
    ),
    "sub-unit onto the list": (
        "A",
        True,
        (("create", "X"), ("change", "1", ""), ("add", "X"), *ALL_REFRESH, ("change", "1", "")),
    ),
    "sub-unit off the list": (
        "AX",
        True,
        (("create", "X"), ("change", "1", ""), ("remove", "X"), *ALL_REFRESH, ("change", "1", "")),
    ),
    "in two lists at once": ("AX", True, (("create", "X"), ("change", "1", ""))),
    "new employer, whose order was another's": (
        "A",
        False,
        (("create", "A"), ("change", "1", ""), ("change", "1", "B"), ("add", "B"), *ALL_REFRESH, ("change", "1", "")),
    ),
    "A off and on again": (
        "AB",
        False,
        (
            *(("create", "A"), ("remove", "A"), *ALL_REFRESH, ("change", "1", ""), ("change", "1", "B")),
            *(("add", "A"), *ALL_REFRESH),
        ),
    ),
    "sub-unit's order to another parent": (
        "AB",
        True,
        (("create", "X"), ("change", "1", ""), ("change", "1", "B"), ("show", False)),
    ),
}
"""What organisations do: who is ours, whether A's list shows X's orders, and what happens."""


def random_move(random: Random, name: str) -> tuple[Setting, list[Action]]:
    """One of `MOVES`, and between its actions lanes that work, workers that are killed or freeze, and late markers."""
    ours, parent_shows, moves = MOVES[name]
    setting = Setting(
        ours, random.choice(list(Rule)), parent_shows, {each: random.randrange(LANES) for each in EMPLOYERS}
    )
    makers = _makers(random)
    actions: list[Action] = []
    for move in moves:
        actions.append(move)
        kinds = random.choices(
            ("step", "kill", "move", "step_frozen", "mark"), (9, 1, 1, 1, 1), k=random.choice((0, 0, 1, 3, 8))
        )
        actions += [(kind, *makers[kind]()) for kind in kinds]
    return setting, actions


def histories(seed: str) -> Iterator[tuple[Setting, list[Action]]]:
    """Random histories and random moves by turns, without end, always the same for a seed."""
    for number in itertools.count():
        yield random_history(Random(f"{seed}/{number}"))
        name = list(MOVES)[number % len(MOVES)]
        yield random_move(Random(f"{seed}/{number}/{name}"), name)


# What holds after each of them


def check(seed: str, count: int) -> None:
    """Play so many histories; if something is wrong after one, tell a short form of it."""
    for number, (setting, actions) in enumerate(itertools.islice(histories(seed), count)):
        if wrong_in(setting, actions):
            few = shortened(setting, actions)
            happens, wrong = "\n".join(map(str, few)), "\n".join(wrong_in(setting, few))
            pytest.fail(f"history {number} of seed {seed!r}:\n{setting}\n{happens}\n{wrong}")


def shortened(setting: Setting, actions: list[Action]) -> list[Action]:
    """A few of the actions of a history in which something is wrong, with which something is wrong still."""
    size = len(actions)
    while size:
        at = 0
        while at < len(actions):
            fewer = actions[:at] + actions[at + size :]
            if wrong_in(setting, fewer):
                actions = fewer
            else:
                at += size
        size //= 2
    return actions


def test_each_version_is_published_once_and_in_order_whatever_happens():
    check("ordinary", 1000)


@pytest.mark.long
def test_each_version_is_published_once_and_in_order_in_very_many_histories():
    check("long", 100_000)


@pytest.mark.parametrize(
    ("fault", "kinds"),
    [
        (Fault.OFFSET_FIRST, {"lost"}),
        (Fault.STATE_BEFORE_FENCE, {"double", "order", "lost", "current", "stuck", "false-missing"}),
        (Fault.REMEMBER_FIRST, {"lost"}),
        (Fault.ONE_READER, {"stuck"}),
        (Fault.NO_FIRST_KNOW, {"lost", "stuck"}),
    ],
)
def test_faults_are_found(fault, kinds):
    """Each within a thousand histories of this seed, and seldom ones within a few thousand of any."""
    for setting, actions in itertools.islice(histories("d"), 1000):
        wrong = wrong_in(setting, actions, fault)
        if wrong:
            assert {each.partition(":")[0] for each in wrong} <= kinds
            assert wrong_in(setting, actions) == []
            return
    pytest.fail(f"a lane that {fault.value} was not found")
