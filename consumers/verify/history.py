"""The checks of the two event topics: the versions of each order, their sequence, and the newest. Pure.

Only the newest version of each order is kept, and irregularities, so that memory does not grow with the versions.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import msgspec

from consumers.verify.findings import COMPLETE, CORRECTIONS, GJELDENDE, ONCE, ORDER, Check, Difference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


Run = tuple[int, int]
"""A range of versions, both ends included."""

VERSIONS_NAMED_MAX = 100
"""How many versions of one range are named one by one."""


class TopicMessage(msgspec.Struct, frozen=True, gc=False):
    """The parts of a message that the checks need. `digest` is a hash of its bytes."""

    key: bytes
    trekkversjon: int
    digest: int
    partition: int
    offset: int
    late: bool = False
    correction: int | None = None


class Irregular(msgspec.Struct):
    """Everything about one order besides versions that rise by one."""

    holes: list[Run] = []
    """Ranges of missing versions below the newest, rising."""
    ahead: set[int] = set()
    """Late versions above the newest: correct only if a newer one follows."""
    corrections: dict[int, list[int]] = {}
    """By trekkversjon, the numbers of its corrections in their sequence in the topic."""


class History:
    """All orders of `…-versjoner`. Its arrays have one element for each order, at `places[key]`."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.places: dict[bytes, int] = {}
        self.newest = array("q")
        """The newest version that is not marked late; 0 if there is none."""
        self.digest = array("q")
        """The digest of the newest version with its last correction."""
        self.partition = array("i")
        self.irregular: dict[int, Irregular] = {}
        self.once = Check(ONCE, "events")
        self.order = Check(ORDER, "events")
        self.corrections = Check(CORRECTIONS, "corrections")
        self.events = 0

    def add(self, message: TopicMessage) -> bool:
        """Add a message, in the order of its partition. False if the same version or correction is known already."""
        self.events += 1
        place = self.places.get(message.key)
        if place is None:
            place = self._begin(message)
        elif self.partition[place] != message.partition:
            self.order.add(self._difference(message, f"the order began in partition {self.partition[place]}"))
        if message.correction is not None:
            return self._add_correction(place, message, message.correction)
        if message.trekkversjon == self.newest[place] + 1 and not message.late and place not in self.irregular:
            self.newest[place] = message.trekkversjon
            self.digest[place] = message.digest
            return True
        return self._add_irregular(place, message)

    def is_next(self, message: TopicMessage) -> bool:
        """Whether the version is the next one of an order without irregularities."""
        place = self.places.get(message.key)
        if place is None:
            return message.trekkversjon == 1
        return message.trekkversjon == self.newest[place] + 1 and place not in self.irregular

    def has(self, place: int, trekkversjon: int) -> bool:
        """Whether the version is in the topic."""
        found = self.irregular.get(place)
        if trekkversjon > self.newest[place]:
            return found is not None and trekkversjon in found.ahead
        return trekkversjon >= 1 and not (found and any(first <= trekkversjon <= last for first, last in found.holes))

    def holes(self) -> Iterator[tuple[bytes, list[Run]]]:
        """Of each order that lacks versions below its newest: its key, and the ranges."""
        if not self.irregular:
            return
        with_holes = {place for place, found in self.irregular.items() if found.holes}
        for key, place in self.places.items():
            if place in with_holes:
                yield key, self.irregular[place].holes

    def present(self, place: int, first: int, last: int) -> list[Run]:
        """The ranges of those of the versions first to last that are in the topic and not above the newest."""
        found = self.irregular.get(place)
        return without([(max(first, 1), min(last, self.newest[place]))], found.holes if found else [])

    def last_corrections(self, place: int) -> dict[int, int]:
        """By trekkversjon, the highest number of its corrections; only versions that have any."""
        found = self.irregular.get(place)
        return {trekkversjon: max(numbers) for trekkversjon, numbers in found.corrections.items()} if found else {}

    def left_over(self) -> list[Difference]:
        """Differences that appear only at the end: late versions that no newer one follows."""
        found = []
        keys = {place: key for key, place in self.places.items() if place in self.irregular}
        for place, key in keys.items():
            irregular, trekkid = self.irregular[place], shown(key)
            found += [
                Difference("marked late, and no newer version follows", trekkid, trekkversjon)
                for trekkversjon in sorted(irregular.ahead)
            ]
        return found

    def _begin(self, message: TopicMessage) -> int:
        place = self.places[message.key] = len(self.newest)
        self.newest.append(0)
        self.digest.append(0)
        self.partition.append(message.partition)
        return place

    def _add_irregular(self, place: int, message: TopicMessage) -> bool:
        irregular = self.irregular.setdefault(place, Irregular())
        version, newest = message.trekkversjon, self.newest[place]
        if version < 1:
            self.order.add(self._difference(message, "versions are numbered from 1"))
            return False
        if self.has(place, version):
            self.once.add(self._difference(message, "appears here again"))
            return False
        if message.late and version > newest:
            irregular.ahead.add(version)
        elif version > newest:
            irregular.holes += without([(newest + 1, version - 1)], [(late, late) for late in sorted(irregular.ahead)])
            irregular.ahead = {late for late in irregular.ahead if late > version}
            self.newest[place], self.digest[place] = version, message.digest
        else:
            irregular.holes = without(irregular.holes, [(version, version)])
            if not message.late:
                self.order.add(self._difference(message, f"follows version {newest} and is not marked late"))
        return True

    def _add_correction(self, place: int, message: TopicMessage, number: int) -> bool:
        self.corrections.examined += 1
        irregular = self.irregular.setdefault(place, Irregular())
        numbers = irregular.corrections.setdefault(message.trekkversjon, [])
        if number in numbers:
            self.corrections.add(self._difference(message, "this correction appears here again"))
            return False
        if not self.has(place, message.trekkversjon):
            self.corrections.add(self._difference(message, "precedes the version that it corrects"))
        elif number != len(numbers) + 1:
            self.corrections.add(self._difference(message, f"is where correction {len(numbers) + 1} should be"))
        numbers.append(number)
        if message.trekkversjon == self.newest[place] and number == max(numbers):
            self.digest[place] = message.digest
        return True

    def _difference(self, message: TopicMessage, what: str) -> Difference:
        return difference_of(self.topic, message, what)


def complete(history: History, missing_of: Callable[[bytes], list[Run]]) -> Check:
    """The check that no version is missing. `missing_of` gives what is known to be missing at the source, by key."""
    check = Check(COMPLETE, "orders", len(history.places))
    at_source = 0
    for key, holes in history.holes():
        unknown = without(holes, sorted(missing_of(key)))
        at_source += _versions(holes) - _versions(unknown)
        check.differences += named("missing from versjoner, and not known to be missing", key, unknown)
    for each in history.left_over():
        check.add(each)
    if at_source:
        check.notes.append(f"{at_source} missing at the source, known")
    return check


def named(what: str, key: bytes, runs: Iterable[Run]) -> Iterator[Difference]:
    """A difference for each version of these ranges; of a long range the rest is one difference."""
    for first, last in runs:
        for trekkversjon in range(first, min(last, first + VERSIONS_NAMED_MAX - 1) + 1):
            yield Difference(what, shown(key), trekkversjon)
        if last >= first + VERSIONS_NAMED_MAX:
            rest = first + VERSIONS_NAMED_MAX
            yield Difference(f"{what}; the same up to version {last}", shown(key), rest)


def difference_of(topic: str, message: TopicMessage, what: str) -> Difference:
    """A difference that concerns one message."""
    return Difference(
        what,
        shown(message.key),
        message.trekkversjon,
        message.correction,
        place=f"{topic}/{message.partition}/{message.offset}",
    )


def shown(key: bytes) -> str:
    """A key as text, even if it is not UTF-8."""
    return key.decode(errors="backslashreplace")


def without(runs: Iterable[Run], removed: list[Run]) -> list[Run]:
    """The ranges without the versions in `removed`; both rising."""
    kept: list[Run] = []
    for first, last in runs:
        start = first
        for low, high in removed:
            if high < start or low > last:
                continue
            if start < low:
                kept.append((start, low - 1))
            start = high + 1
        if start <= last:
            kept.append((start, last))
    return kept


def _versions(runs: Iterable[Run]) -> int:
    return sum(last - first + 1 for first, last in runs)


class Surplus(msgspec.Struct, frozen=True):
    """An order of `…-gjeldende` that is not in `…-versjoner`."""

    trekkversjon: int
    correction: int
    digest: int
    partition: int


class Current:
    """The last message of each key in `…-gjeldende`. Compaction removes earlier messages, never the last."""

    def __init__(self, topic: str, history: History) -> None:
        self.topic = topic
        self._history = history
        self._version = array("q")
        self._digest = array("q")
        self._partition = array("i")
        self._correction: dict[int, int] = {}
        self._surplus: dict[bytes, Surplus] = {}
        self.events = 0
        self._stepped: list[Difference] = []

    def add(self, message: TopicMessage) -> None:
        """Add a message, in the order of its partition."""
        self.events += 1
        place = self._history.places.get(message.key)
        correction = message.correction or 0
        if place is None:
            before = self._surplus.get(message.key, Surplus(0, 0, 0, 0))
            surplus = Surplus(message.trekkversjon, correction, message.digest, message.partition)
            self._surplus[message.key] = surplus
            self._step(message, before.trekkversjon, before.correction, before.digest)
            return
        if place >= len(self._version):
            self.grow()
        newest = self._version[place]
        if message.trekkversjon <= newest or message.correction is not None or message.late:
            self._step(message, newest, self._correction.get(place, 0), self._digest[place])
            self._correction[place] = correction
        elif self._correction:
            self._correction.pop(place, None)
        self._version[place] = message.trekkversjon
        self._digest[place] = message.digest
        self._partition[place] = message.partition

    def partitions(self) -> Iterator[tuple[bytes, int]]:
        """The partition of each key's last message."""
        self.grow()
        for key, place in self._history.places.items():
            if self._version[place]:
                yield key, self._partition[place]
        for key, surplus in self._surplus.items():
            yield key, surplus.partition

    def is_forward(self, message: TopicMessage) -> bool:
        """Whether the version is newer than the last one of its key."""
        place = self._history.places.get(message.key)
        return place is not None and (place >= len(self._version) or message.trekkversjon > self._version[place])

    def check(self) -> Check:
        """Compare with the history as far as it has been read."""
        history = self._history
        self.grow()
        check = Check(GJELDENDE, "orders", len(history.places), [*self._stepped])
        for key, place in history.places.items():
            version = self._version[place]
            newest = history.newest[place]
            if version == newest and (version == 0 or self._digest[place] == history.digest[place]):
                continue
            check.add(_difference(key, version, newest, self._correction.get(place, 0)))
        for key, surplus in self._surplus.items():
            check.add(Difference("in gjeldende and not in versjoner", shown(key), surplus.trekkversjon))
        return check

    def grow(self) -> None:
        """Allocate the orders that the history has by now, some of which may have been found here first."""
        missing = [0] * (len(self._history.newest) - len(self._version))
        self._version.extend(missing)
        self._digest.extend(missing)
        self._partition.extend(missing)
        for key in [key for key in self._surplus if key in self._history.places]:
            place, surplus = self._history.places[key], self._surplus.pop(key)
            self._version[place], self._digest[place] = surplus.trekkversjon, surplus.digest
            self._partition[place] = surplus.partition
            if surplus.correction:
                self._correction[place] = surplus.correction

    def _step(self, message: TopicMessage, version: int, correction: int, digest: int) -> None:
        """Check a message that may not be newer than the one before it; the same again is no step back."""
        if message.late:
            self._stepped.append(difference_of(self.topic, message, "marked late, but in gjeldende"))
        after, before = (message.trekkversjon, message.correction or 0), (version, correction)
        if after < before or (after == before and message.digest != digest):
            what = f"follows version {version}{f', correction {correction}' if correction else ''} in gjeldende"
            self._stepped.append(difference_of(self.topic, message, what))


def _difference(key: bytes, version: int, newest: int, correction: int) -> Difference:
    trekkid = shown(key)
    if version == 0:
        return Difference("missing from gjeldende", trekkid, newest)
    if version < newest:
        return Difference(f"gjeldende ends at version {version}, versjoner at {newest}", trekkid, newest)
    if version > newest:
        what = f"gjeldende ends at version {version}, versjoner {f'at {newest}' if newest else 'has none'}"
        return Difference(what, trekkid, version)
    return Difference(
        "gjeldende and versjoner have different bytes", trekkid, version, correction or None, fields=("value",)
    )
