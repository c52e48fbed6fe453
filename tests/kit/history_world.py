"""The world of random histories: the source with its employers and orders, and Kafka with its transactions."""

from __future__ import annotations

import enum
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec.structs import replace

from producer.domain.state import HandedOver, LaneState, ObservationOffsets, OrderState
from producer.domain.trekkpaalegg import Failed, Fetched, Gone, Trekkpaalegg
from tests.kit.versions import TEMPLATE

if TYPE_CHECKING:
    from producer.domain.observation import Observation

EMPLOYERS = "ABCX"
"""X is a sub-unit of A: the list of A may show the orders of X."""

ORDERS = ("1", "2")
LANES = 2
VERSIONS_MAX = 6


class Rule(enum.Enum):
    """Whose token is given a version by number."""

    NAMED = "whom the version names"
    CURRENT = "whom the newest version names"
    EVER = "whom any version names"
    ALWAYS = "any"


class Setting(NamedTuple):
    """Where a history begins. `lane_of` gives the lane that reads each employer."""

    ours: str
    rule: Rule
    parent_shows: bool
    lane_of: dict[str, int]


# The source


@cache
def _version(trekkid: str, trekkversjon: int, trekkpliktig: str) -> Trekkpaalegg:
    return replace(
        TEMPLATE, trekkid=trekkid, trekkversjon=trekkversjon, trekkpliktig=trekkpliktig, sekvensnummer=trekkversjon
    )


class World:
    """Skatteetaten. `named` holds, by trekkid, whom each version names; `withheld` are versions that nobody is given.

    `draw` gives the chances that an action brought along.
    """

    def __init__(self, setting: Setting) -> None:
        self.ours = set(setting.ours)
        self.rule = setting.rule
        self.parent_shows = setting.parent_shows
        self.named: dict[str, list[str]] = {}
        self.withheld: set[tuple[str, int]] = set()
        self.chances = 0

    def draw(self, sides: int) -> int:
        """A number below `sides`; 0 is the harmless one, and all that comes when the chances are used up."""
        self.chances, drawn = divmod(self.chances, sides)
        return drawn

    def listed(self, employer: str) -> list[Trekkpaalegg]:
        """The list of one employer: the newest version of each of its orders."""
        return [
            _version(trekkid, len(named), named[-1])
            for trekkid, named in self.named.items()
            if named[-1] in self._read_as(employer)
        ]

    def gives(self, employer: str, trekkid: str, number: int) -> bool:
        """Whether the token of this employer is given this version when nothing fails."""
        named, read_as = self.named.get(trekkid, []), self._read_as(employer)
        if not 1 <= number <= len(named) or (trekkid, number) in self.withheld:
            return False
        return (
            self.rule is Rule.ALWAYS
            or (self.rule is Rule.NAMED and named[number - 1] in read_as)
            or (self.rule is Rule.CURRENT and named[-1] in read_as)
            or (self.rule is Rule.EVER and not read_as.isdisjoint(named))
        )

    def fetch(self, employer: str, trekkid: str, number: int) -> Fetched:
        """The answer by number."""
        if self.draw(9) == 1:
            return Failed("HTTP 503")
        if not self.gives(employer, trekkid, number):
            return Gone()
        return _version(trekkid, number, self.named[trekkid][number - 1])

    def _read_as(self, employer: str) -> frozenset[str]:
        return frozenset("AX" if employer == "A" and self.parent_shows else employer)


# Kafka


class FencedError(Exception):
    """Another incarnation has the lane."""


class Event(NamedTuple):
    """One event. `reader` is the employer whose list or token gave the version."""

    trekkid: str
    number: int
    late: bool
    current: bool
    reader: str


class Changes(msgspec.Struct, frozen=True):
    """What a transaction changes in the state of its lane."""

    orders: dict[bytes, OrderState] = {}
    handed_over: dict[tuple[str, bytes], HandedOver] = {}
    observations: ObservationOffsets | None = None

    def apply(self, state: LaneState) -> None:
        for key, order in self.orders.items():
            state.orders.remember(key, order)
        for (employer, key), handed_over in self.handed_over.items():
            state.ensure(employer).remember(key, handed_over)
        if self.observations is not None:
            state.observations = self.observations


class Transaction:
    """`status` is open, aborted or committed. Readers of the committed see it once its marker is written."""

    def __init__(self, events: list[Event], changes: Changes) -> None:
        self.events = events
        self.changes = changes
        self.status = "open"
        self.is_marked = False


class Kafka:
    """The transactions of each lane, and the observations for it in two rows, which are plain records."""

    def __init__(self) -> None:
        self.transactions: list[list[Transaction]] = [[] for _ in range(LANES)]
        self.rows: list[list[list[Observation]]] = [[[], []] for _ in range(LANES)]
        self.owners: list[object] = [None] * LANES
        self.marks_at_once = False

    def begin(self, owner: object, lane: int, events: list[Event], changes: Changes) -> Transaction:
        if self.owners[lane] is not owner:
            raise FencedError
        transaction = Transaction(events, changes)
        self.transactions[lane].append(transaction)
        return transaction

    def commit(self, transaction: Transaction) -> None:
        if transaction.status != "open":
            raise FencedError
        transaction.status, transaction.is_marked = "committed", self.marks_at_once

    def fence(self, owner: object, lane: int) -> None:
        """Abort what is open, and wait for the markers of what is committed."""
        for transaction in self.transactions[lane]:
            transaction.is_marked = True
            if transaction.status == "open":
                transaction.status = "aborted"
        self.owners[lane] = owner

    def mark(self, lane: int) -> None:
        """Write the marker of the first transaction that lacks it."""
        for transaction in self.transactions[lane]:
            if transaction.status == "committed" and not transaction.is_marked:
                transaction.is_marked = True
                return

    def state(self, lane: int) -> LaneState:
        """What a reader of the committed sees of the state of a lane."""
        state = LaneState()
        for transaction in self.transactions[lane]:
            if transaction.status == "open" or (transaction.status == "committed" and not transaction.is_marked):
                break
            if transaction.status == "committed":
                transaction.changes.apply(state)
        return state

    def events(self, trekkid: str) -> list[Event]:
        """All committed events of an order."""
        return [
            event
            for transaction in self.transactions[home_of(trekkid)]
            if transaction.status == "committed"
            for event in transaction.events
            if event.trekkid == trekkid
        ]


def home_of(trekkid: str) -> int:
    """The lane whose partition this order belongs to."""
    return int(trekkid) % LANES
