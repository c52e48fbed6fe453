"""Messages of `…-gjeldende` in, one by one; whether they end at the newest of `…-versjoner` out. Pure."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import msgspec

from consumers.verify.findings import GJELDENDE, Check, Difference
from consumers.verify.history import difference_of, shown

if TYPE_CHECKING:
    from consumers.verify.history import History, Message


class Surplus(msgspec.Struct, frozen=True):
    """An order of `…-gjeldende` that `…-versjoner` has not."""

    trekkversjon: int
    correction: int
    digest: int


class Current:
    """The last message of each key. Compaction may have taken former ones, never the last."""

    def __init__(self, topic: str, history: History) -> None:
        self.topic = topic
        self._history = history
        self._version = array("q")
        self._digest = array("q")
        self._correction: dict[int, int] = {}
        self._surplus: dict[bytes, Surplus] = {}
        self.events = 0
        self._stepped: list[Difference] = []

    def take(self, message: Message) -> None:
        """One message, in the order of its partition."""
        self.events += 1
        place = self._history.places.get(message.key)
        correction = message.correction or 0
        if place is None:
            before = self._surplus.get(message.key, Surplus(0, 0, 0))
            self._surplus[message.key] = Surplus(message.trekkversjon, correction, message.digest)
            self._step(message, before.trekkversjon, before.correction)
            return
        if place >= len(self._version):
            self.grow()
        newest = self._version[place]
        if message.trekkversjon <= newest or message.correction is not None or message.late:
            self._step(message, newest, self._correction.get(place, 0))
            self._correction[place] = correction
        elif self._correction:
            self._correction.pop(place, None)
        self._version[place] = message.trekkversjon
        self._digest[place] = message.digest

    def is_forward(self, message: Message) -> bool:
        """Whether the version is newer than what stood there."""
        place = self._history.places.get(message.key)
        return place is not None and (place >= len(self._version) or message.trekkversjon > self._version[place])

    def add(self, other: Current, base: int) -> None:
        """All of another one, which has read other partitions; `base` is what the history raised its places by."""
        other.grow()
        missing = [0] * (base - len(self._version))
        self._version.extend([*missing, *other._version])
        self._digest.extend([*missing, *other._digest])
        self._correction.update({base + place: each for place, each in other._correction.items()})
        self._surplus.update(other._surplus)
        self._stepped += other._stepped
        self.events += other.events

    def check(self) -> Check:
        """Compare with the history as it stands now."""
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
        """Make room for the orders that the history has by now; some may have stood here before they stood there."""
        missing = [0] * (len(self._history.newest) - len(self._version))
        self._version.extend(missing)
        self._digest.extend(missing)
        for key in [key for key in self._surplus if key in self._history.places]:
            place, surplus = self._history.places[key], self._surplus.pop(key)
            self._version[place], self._digest[place] = surplus.trekkversjon, surplus.digest
            if surplus.correction:
                self._correction[place] = surplus.correction

    def _step(self, message: Message, version: int, correction: int) -> None:
        if message.late:
            self._stepped.append(difference_of(self.topic, message, "marked late, and yet in gjeldende"))
        if (message.trekkversjon, message.correction or 0) <= (version, correction):
            what = f"comes after version {version}{f', correction {correction}' if correction else ''} in gjeldende"
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
        "gjeldende holds other bytes than versjoner", trekkid, version, correction or None, fields=("value",)
    )
